/* SPDX-License-Identifier: MIT */
/*
 * payload-import: restores distfiles from a payload disk.
 *
 *   payload-import [--verify] [--list FILE] [--device D] DEST
 *   payload-import --probe D
 *
 * The payload is looked for at the beginning of every block device that the
 * kernel knows, whole disks first, then partitions; --device names it instead.
 * Its files are written into the directory DEST; with --list only those whose
 * names FILE holds, one a line. A file already in DEST with the right size is
 * kept. What else has its name, a FIFO or a device, is replaced unopened; a
 * directory is an error. --verify compares the SHA-256 of each file, read back
 * from DEST, with the file SHA256SUMS of the payload, kept files included.
 * --probe only says whether D has a payload.
 *
 * LBPAYLD1, the payload:
 *
 *   payload = "LBPAYLD1" count { file } 00*
 *   file    = nameLength size name data
 *
 *   count, nameLength, size   little-endian, of 8 bytes in layout 64, of 4 in
 *                             layout 32
 *   name                      nameLength bytes of UTF-8, no terminator
 *   data                      size bytes
 *
 * Bytes 12 to 15 tell the layouts apart: in layout 64 they are the high half of
 * the count and zero, in layout 32 the length of the first name and not zero.
 * A name has 1 to 1024 bytes, holds no "/", "\" or NUL and is not "." or "..";
 * the names are in strict bytewise order, so none comes twice. What follows the
 * last file is ignored.
 *
 * Guarantees
 *   - Devices are opened for reading only.
 *   - Before the first file is written, the table of the payload is checked up
 *     to the last file that is wanted: names, order, sizes against the device,
 *     and that every name of the list is there.
 *   - A file has its final name only when it is whole: it is written as
 *     DEST/.payload-import\part (no file of a payload can have that name),
 *     synced, verified, renamed. A failed run removes that file.
 *   - Several devices may hold the payload if it is the same: the same count,
 *     and the same names and sizes up to the last file that is wanted. If not,
 *     all of them are named and nothing is restored. The layouts may differ.
 *   - A node is made only in /dev, for a name of plain characters, and for what
 *     /proc/partitions names. The device of --device is opened as it was given.
 *   - A device that is in use (under Linux: mounted, or with a mounted
 *     partition) is passed over: the disk that is being installed to may still
 *     begin with an old payload. Under Fiwix, which only ever has its root in
 *     RAM, an old payload on another disk counts as one more payload.
 *   - proc is mounted for the search where it is not, and then unmounted again,
 *     for a later build may look whether it is there.
 *
 * Fiwix 1.5.0-lb1
 *   - /proc/partitions prints wrong minors for the second disk of a channel, so
 *     the numbers of hda to hdd follow from the name, under Linux as well.
 *   - What lies at 4 GiB and beyond reads as the beginning of the disk: it is
 *     never read there. A position of 2 GiB or more takes _llseek.
 *   - uname may say "Linux"; the first word of /proc/version does not.
 *   - A builder-hex0 boot disk has a partition of 0xFFFFFFFF sectors that is not
 *     there: passed over, as is every partition larger than its disk.
 *
 * Exit codes
 *   0  done; --probe: D has a payload
 *   1  no payload found; --probe: D has none
 *   2  wrong usage
 *   3  the payload is cut off, breaks the format, or lies where this kernel
 *      cannot read
 *   4  a device cannot be opened or read
 *   5  a file cannot be written
 *   6  several devices hold different payloads
 *   7  the list cannot be read, or names a file that the payload does not have
 *   8  a file does not have its SHA-256, or the payload has none for it
 *   9  /proc/partitions cannot be read
 *
 * Messages: a line for each file on standard output, errors on standard error.
 *
 *   payload-import: DEVICE: payload, layout L, N files
 *   payload-import: I/N NAME, SIZE bytes, restored     (or: kept)
 *   payload-import: done: N files restored, N kept, N bytes written
 *   payload-import: DEVICE: NAME: at byte OFFSET: WHAT IS WRONG
 *
 * What a text from outside has of control characters, and of characters that
 * cannot be seen, is shown as \xNN, byte by byte.
 *
 * Compilers: tcc 0.9.27 with the C library of mes 0.27.1 as live-bootstrap
 * builds them (-m32 -march=i386 -std=c89 -static); gcc -std=c89 -pedantic -Wall
 * -Wextra -Werror and tcc with glibc, 32 and 64 bits. The library of mes has no
 * mount or 64-bit lseek, cannot print, parse or compare 64-bit sizes, and
 * reads through a buffer of its own: hence the section "Kernel" below.
 */
#define _DEFAULT_SOURCE
#define _FILE_OFFSET_BITS 64

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h> /* rename */
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/stat.h>
#include <unistd.h>

typedef unsigned char u8;
typedef unsigned int u32;
__extension__ typedef unsigned long long u64;
typedef char u32_has_4_bytes[sizeof(u32) == 4 ? 1 : -1];
typedef char u64_has_8_bytes[sizeof(u64) == 8 ? 1 : -1];

enum {
	EXIT_DONE, EXIT_NONE, EXIT_USAGE, EXIT_FORMAT, EXIT_READ, EXIT_WRITE,
	EXIT_DIFFERENT, EXIT_LIST, EXIT_DIGEST, EXIT_PROC
};

#define NAME_BYTES 1024
#define DEST_BYTES 2048
#define PATH_BYTES (DEST_BYTES + NAME_BYTES + 2)

struct options {
	const char *device;
	const char *list;
	const char *probe;
	const char *dest;
	int verify;
};

static struct options options;
static int fiwix = 1; /* the kernel is Fiwix, or nothing says that it is Linux */
static int writing_part; /* part_path is there and not whole */
static char part_path[PATH_BYTES];

/*
 * Kernel
 *
 * Format notes:
 *
 * - What a system call gives is below zero where it failed, and is then the
 *   number of the error. Functions here that can fail do the same.
 *
 * - A read or a write may do less than it was asked for, so transfer goes on. A
 *   read of no bytes is the end; a write of none is taken for a full disk.
 *
 * - The numbers are those of Linux on i386, and Fiwix has the same. mes has
 *   functions for some of them only, and its read has a buffer that lseek and
 *   later readers of the same descriptor know nothing of. With another C library
 *   the same calls are made, so that what is tested there is what runs here.
 */
#ifdef __MES_SYS_TYPES_H
#include <arch/syscall.h> /* the others */
#define O_LARGEFILE 0100000
#define EBUSY 16
#define SYS_mount 21
#define SYS_umount2 52
#define SYS__llseek 140
#else
#include <sys/syscall.h>
#undef O_LARGEFILE
#define O_LARGEFILE 0 /* _FILE_OFFSET_BITS does it */
#endif

#define BLKGETSIZE 0x1260
#define NO_LIMIT (~(u64)0)

static long call(long number, long a, long b, long c, long d, long e)
{
	long result;

#ifdef __MES_SYS_TYPES_H
	__asm__ volatile ("int $0x80" : "=a" (result)
		: "a" (number), "b" (a), "c" (b), "d" (c), "S" (d), "D" (e)
		: "memory");
#else
	result = syscall(number, a, b, c, d, e);
	if (result < 0)
		result = -(long)errno;
#endif
	return result;
}

static int open_file(const char *path, int flags)
{
	int fd = open(path, flags | O_LARGEFILE, 0644);

	return fd < 0 ? -errno : fd;
}

/* Reads or writes n bytes, or as many as can be; returns their number. */
static long transfer(long number, int fd, void *bytes, unsigned long n)
{
	u8 *p = bytes;
	long did = 1;

	while (n > 0 && did > 0) {
		did = call(number, fd, (long)p, (long)n, 0, 0);
		if (did < 0)
			return did;
		p += did;
		n -= (unsigned long)did;
	}
	return p - (u8 *)bytes;
}

/*
 * Goes to an offset from the start (whence 0) or the end (2) of a file; returns
 * the new position, or NO_LIMIT.
 *
 * Format notes:
 *
 * - In 32 bits lseek ends at 2 GiB. _llseek takes the offset in two halves, and
 *   writes the new position to memory.
 */
static u64 seek(int fd, u64 offset, int whence)
{
#ifdef SYS__llseek
	u64 position = 0;
	long high = (long)(offset >> 32);

	if (call(SYS__llseek, fd, high, (long)offset, (long)&position, whence) < 0)
		return NO_LIMIT;
	return position;
#else
	long position = call(SYS_lseek, fd, (long)offset, whence, 0, 0);

	return position < 0 ? NO_LIMIT : (u64)position;
#endif
}

/*
 * Size of a device or an image.
 *
 * Format notes:
 *
 * - Under Fiwix the end of a block device is at 0 for seek. BLKGETSIZE is right:
 *   its size in sectors of 512 bytes. An image has only an end. Where neither is
 *   known there is no limit, and reading finds the end.
 */
static u64 size_of(int fd)
{
	unsigned long sectors = 0;
	u64 end = seek(fd, 0, 2);

	if (call(SYS_ioctl, fd, BLKGETSIZE, (long)&sectors, 0, 0) >= 0)
		end = (u64)sectors * 512;
	return end == 0 ? NO_LIMIT : end;
}

/*
 * Reads a list, of names or of devices, and ends it with a NUL; text has room for
 * limit bytes and one more. Returns NULL, or what is wrong.
 *
 * Format notes:
 *
 * - A file below /proc has no size, so it is read until it ends. A byte more than
 *   the limit tells that it is too long.
 */
static const char *read_text(const char *path, char *text, unsigned long limit, long *used)
{
	int fd = open_file(path, O_RDONLY);

	*used = fd;
	if (fd < 0)
		return "cannot open the list";
	*used = transfer(SYS_read, fd, text, limit + 1);
	close(fd);
	if (*used < 0)
		return "cannot be read";
	if ((unsigned long)*used > limit)
		return "is too long";
	text[*used] = '\0';
	return NULL;
}

/*
 * Messages
 *
 * Format notes:
 *
 * - A message is one line, and is written at once, so that what the kernel says
 *   on the same console does not come between. Only one of more than LINE_BYTES
 *   is written in pieces. A message that cannot be written is lost: there is
 *   nowhere to say so.
 *
 * - "%s" is the only thing that a format has, and every argument is a string:
 *   mes gives each argument four bytes, and cannot print 64 bits anyway.
 */
#define LINE_BYTES 4096

static const char hex[] = "0123456789abcdef";

static void put(int fd, u8 byte)
{
	static char line[LINE_BYTES];
	static unsigned used;

	line[used++] = (char)byte;
	if (byte == '\n' || used == LINE_BYTES) {
		transfer(SYS_write, fd, line, used);
		used = 0;
	}
}

/*
 * Length and code of the UTF-8 character that p begins with; 0 where there is none.
 *
 * Format notes:
 *
 * - The first byte tells the length, and has the highest bits of the code; C0, C1
 *   and F5 to FF begin nothing. Each of the others, 80 to BF, has six bits.
 *
 * - What a shorter form can say is not said in a longer one. There are no
 *   surrogates, and nothing beyond U+10FFFF.
 *
 * - A NUL ends every text, and is no 80 to BF: nothing is read past it.
 */
static unsigned utf8_decode(const u8 *p, u32 *code)
{
	unsigned i, n = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 :
		p[0] < 0xf5 ? 4 : 0;

	*code = n == 1 ? p[0] : p[0] & 0x7f >> n;
	for (i = 1; i < n; i++) {
		if (p[i] < 0x80 || p[i] > 0xbf)
			return 0;
		*code = *code * 64 + p[i] % 64;
	}
	if ((n == 3 && *code < 0x800) || (*code >= 0xd800 && *code <= 0xdfff)
		|| (n == 4 && *code < 0x10000) || *code > 0x10ffff)
		return 0;
	return n;
}

/*
 * Format notes:
 *
 * - Texts from outside (paths, names of files and of devices, lines of the list)
 *   are shown as they are, but for what could steer a terminal or make one name
 *   look like another: of that, and of what is no UTF-8, each byte is shown as
 *   "\x" and two digits. That is C0, DEL and C1, the marks of direction, line
 *   and paragraph separators, and what has no width. After the first byte of such
 *   a character the others are no UTF-8.
 */
static void put_text(int fd, const char *text)
{
	static const u32 hidden[7][2] = {
		{ 0, 0x1f }, { 0x7f, 0x9f }, { 0x61c, 0x61c }, { 0x200b, 0x200f },
		{ 0x2028, 0x202e }, { 0x2060, 0x2069 }, { 0xfeff, 0xfeff }
	};
	const u8 *p = (const u8 *)text;

	while (*p != '\0') {
		u32 code;
		unsigned i, n = utf8_decode(p, &code), shown = n != 0;

		for (i = 0; i < 7; i++)
			shown = shown && (code < hidden[i][0] || code > hidden[i][1]);
		if (shown) {
			while (n-- > 0)
				put(fd, *p++);
		} else {
			put(fd, '\\');
			put(fd, 'x');
			put(fd, (u8)hex[*p / 16]);
			put(fd, (u8)hex[*p++ % 16]);
		}
	}
}

#ifdef __GNUC__
__attribute__((format(printf, 2, 3)))
#endif
static void say(int fd, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	for (; *format != '\0'; format++) {
		if (*format == '%') {
			format++; /* the s */
			put_text(fd, va_arg(arguments, const char *));
		} else {
			put(fd, (u8)*format);
		}
	}
	va_end(arguments);
}

/* Decimal digits, valid until four more numbers are made: no message has more. */
static const char *number(u64 n)
{
	static char texts[4][21];
	static unsigned next;
	char *p = texts[next++ % 4] + 20;

	do {
		*--p = (char)('0' + (int)(n % 10));
		n /= 10;
	} while (n != 0);
	return p;
}

/* Ends a message; error is as the kernel gives it, 0 where there is none. */
static void say_end(int fd, long error)
{
	const char *meaning =
		error == -EACCES ? ", permission denied" :
		error == -EIO ? ", input/output error" :
		error == -ENOENT ? ", no such file" :
		error == -ENOSPC ? ", no space left" :
		error == -ENAMETOOLONG ? ", name too long" : "";

	if (error != 0)
		say(fd, ": error %s%s", number((u64)-error), meaning);
	say(fd, "\n");
}

static void leave(int code)
{
	if (writing_part)
		unlink(part_path);
	exit(code);
}

static void fail(int code, const char *subject, const char *what, long error)
{
	say(2, "payload-import: %s: %s", subject, what);
	say_end(2, error);
	leave(code);
}

/*
 * The payload
 *
 * Every function below that is given a payload ends the program where it finds it
 * unsound, and names the device, the part of the payload, and the position.
 */
#define MAGIC "LBPAYLD1"
#define MAGIC_BYTES 8
#define GIB ((u64)1073741824UL)
#define COPY_BYTES 65536
#define DIGEST_DIGITS 64

struct payload {
	const char *path;
	int fd;
	u64 position;     /* where the next read begins */
	u64 end;          /* size of the device, NO_LIMIT where it is unknown */
	unsigned width;   /* bytes of an integer: 8 or 4 */
	u64 count;        /* files in it */
	const char *part; /* what is being read, for messages */
	u64 next;         /* where the record of the next file begins */
	char name[NAME_BYTES + 1]; /* of the file whose record was read last */
	u64 size;         /* its size */
	u64 wanted;       /* files that are to be restored */
	char identity[DIGEST_DIGITS + 1]; /* the same for payloads that are the same */
};

static u8 copy_buffer[COPY_BYTES];

static void fail_at(int code, const struct payload *p, const char *what, long error)
{
	say(2, "payload-import: %s: %s: at byte %s: %s",
		p->path, p->part, number(p->position), what);
	say_end(2, error);
	leave(code);
}

/*
 * Format notes:
 *
 * - Fiwix reads the beginning of the disk in place of what lies at 4 GiB and
 *   beyond, and says nothing. So a read is refused whose end is past that.
 */
static void check_reach(const struct payload *p, u64 end)
{
	if (fiwix && end > 4 * GIB)
		fail_at(EXIT_FORMAT, p, "reaches beyond 4 GiB, where this kernel cannot read", 0);
}

/* Fills all n bytes: where they are not there, the payload is cut off. */
static void read_exact(struct payload *p, void *bytes, unsigned long n)
{
	long got;

	check_reach(p, p->position + n);
	got = transfer(SYS_read, p->fd, bytes, n);
	if (got < 0)
		fail_at(EXIT_READ, p, "cannot read", got);
	p->position += (u64)got;
	if ((unsigned long)got < n)
		fail_at(EXIT_FORMAT, p, "the payload is cut off here", 0);
}

/*
 * Format notes:
 *
 * - Integers are little-endian and unsigned, of 4 or 8 bytes. They lie at any
 *   address, so they are put together byte by byte.
 */
static u64 get_integer(const u8 *p, unsigned width)
{
	u64 n = 0;

	while (width > 0)
		n = n * 256 + p[--width];
	return n;
}

/*
 * Format notes:
 *
 * - The magic was read. Bytes 12 to 15 are zero in layout 64, for no payload has
 *   2^32 files; in layout 32 they are the length of the first name, which is not
 *   zero. A payload of layout 32 without a file is followed by zeros, and reads
 *   as one of layout 64, which says the same.
 *
 * - So a count of zero with a file after it is of neither layout.
 */
static void read_header(struct payload *p)
{
	u8 head[8];

	p->part = "header";
	p->position = MAGIC_BYTES;
	read_exact(p, head, sizeof head);
	p->width = get_integer(head + 4, 4) == 0 ? 8 : 4;
	p->count = get_integer(head, p->width);
	if (p->width == 4 && p->count == 0)
		fail_at(EXIT_FORMAT, p, "a count of no files, but a file follows", 0);
	say(1, "payload-import: %s: payload, layout %s, %s files\n",
		p->path, number(p->width * 8), number(p->count));
}

/*
 * Format notes:
 *
 * - A name becomes a file in DEST and nowhere else: no "/", and neither "." nor
 *   "..". No "\", so that none is that of the part file, and so that none is a
 *   path on any system that a payload is made on. No NUL: it would end it early.
 */
static const char *name_fault(const char *name, u64 bytes)
{
	const u8 *p = (const u8 *)name;
	const u8 *end = p + bytes;
	u32 code;

	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return "the name is a directory";
	while (p < end) {
		unsigned n = utf8_decode(p, &code);

		if (*p == '/' || *p == '\\' || *p == '\0')
			return "the name has a slash, a backslash or a NUL";
		if (n == 0)
			return "the name is not valid UTF-8";
		p += n;
	}
	return NULL;
}

/* Bytewise order; strcmp of mes compares signed characters. */
static int comes_before(const char *a, const char *b)
{
	while (*a != '\0' && *a == *b) {
		a++;
		b++;
	}
	return (u8)*a < (u8)*b;
}

/* Makes next_file begin with the first file; its record follows the count. */
static void rewind_payload(struct payload *p)
{
	p->next = MAGIC_BYTES + p->width;
	p->name[0] = '\0';
}

/*
 * Format notes:
 *
 * - The record of a file: the length of its name, its size, its name. The data
 *   follow, and are where the payload stands afterwards; after them comes the
 *   next record, so a table is walked by seeking from one to the next.
 *
 * - A name is above the one before it, bytewise. That makes names unique, and the
 *   first one is above the empty name.
 *
 * - A size is not more than what is left of the device. So no sum of a position
 *   and a size goes past 2^64, and a payload that was cut off is noticed before
 *   anything is written, as long as the size of the device is known.
 */
static void next_file(struct payload *p)
{
	static char before[NAME_BYTES + 1];
	u8 head[16];
	u64 bytes;
	const char *fault;

	p->part = "file table";
	check_reach(p, p->next);
	if (seek(p->fd, p->next, 0) != p->next)
		fail_at(EXIT_FORMAT, p, "the next file lies where this kernel cannot read", 0);
	p->position = p->next;
	read_exact(p, head, 2UL * p->width);
	bytes = get_integer(head, p->width);
	p->size = get_integer(head + p->width, p->width);
	if (bytes < 1 || bytes > NAME_BYTES)
		fail_at(EXIT_FORMAT, p, "a name does not have 1 to 1024 bytes", 0);
	strcpy(before, p->name);
	read_exact(p, p->name, (unsigned long)bytes);
	p->name[bytes] = '\0';
	p->part = p->name;
	fault = name_fault(p->name, bytes);
	if (fault == NULL && !comes_before(before, p->name))
		fault = "the name is repeated or not in order";
	if (fault == NULL && (p->position > p->end || p->size > p->end - p->position))
		fault = "the payload is cut off: the file is larger than what follows";
	if (fault != NULL)
		fail_at(EXIT_FORMAT, p, fault, 0);
	p->next = p->position + p->size;
}

/*
 * The list of names
 *
 * Format notes:
 *
 * - One name a line, in any order. Lines end with a newline, which the last one
 *   need not have; empty ones are no names. A name may come twice. There is no
 *   escaping, so a name with a newline in it cannot be listed.
 *
 * - What was seen is counted anew for each payload: all names have to be in each.
 */
#define LIST_BYTES 262144
#define LIST_LINES 4096

static const char *list[LIST_LINES];
static u8 list_seen[LIST_LINES];
static unsigned list_count;
static unsigned list_missing; /* names that the payload was not yet seen to have */

/* Makes a string of each line of a text; they lie one after the other, up to end. */
static void split_lines(char *text, const char *end)
{
	for (; text < end; text++) {
		if (*text == '\n')
			*text = '\0';
	}
}

static void read_list(const char *path)
{
	static char text[LIST_BYTES + 1];
	char *line;
	long used;
	const char *fault = read_text(path, text, LIST_BYTES, &used);

	if (fault != NULL)
		fail(EXIT_LIST, path, fault, used < 0 ? used : 0);
	if (strlen(text) != (unsigned long)used)
		fail(EXIT_LIST, path, "has a NUL in it", 0);
	split_lines(text, text + used);
	for (line = text; line < text + used; line += strlen(line) + 1) {
		if (*line == '\0')
			continue;
		if (list_count == LIST_LINES)
			fail(EXIT_LIST, path, "has more than 4096 lines", 0);
		list[list_count++] = line;
	}
}

/* Whether a file is to be restored; notes that the payload has it. */
static int is_wanted(const char *name)
{
	unsigned i;
	int found = options.list == NULL;

	for (i = 0; i < list_count; i++) {
		if (strcmp(list[i], name) != 0)
			continue;
		list_missing -= !list_seen[i];
		list_seen[i] = 1;
		found = 1;
	}
	return found;
}

/* Ends the program where the payload does not have all names, and says them. */
static void check_list(const struct payload *p)
{
	unsigned i;

	for (i = 0; i < list_count; i++) {
		if (!list_seen[i])
			say(2, "payload-import: %s: has no file %s\n", p->path, list[i]);
	}
	if (list_missing != 0)
		leave(EXIT_LIST);
}

/*
 * SHA-256, FIPS 180-4
 *
 * Format notes:
 *
 * - A message is cut into blocks of 64 bytes; each one changes a state of eight
 *   words. Words are big-endian, here and in the digest.
 *
 * - After the message come a byte of 80, zeros up to the last 8 bytes of a block,
 *   and the length of the message in bits.
 *
 * - A digest is 64 hexadecimal digits from here on, as in SHA256SUMS.
 */
struct sha256 {
	u32 state[8];
	u64 length; /* in bytes */
	u8 block[64];
};

/* A digest begins with a copy of this. */
static const struct sha256 sha256_start = {
	{
		0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
		0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19
	}, 0, { 0 }
};

static const u32 sha256_k[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2
};

#define ROTATE(x, n) ((x) >> (n) | (x) << (32 - (n)))
#define SIGMA(x, i, j, k) (ROTATE(x, i) ^ ROTATE(x, j) ^ ROTATE(x, k))

/*
 * Format notes:
 *
 * - The schedule w is the 16 words of the block, and 48 that follow from them.
 *
 * - In each of the 64 rounds the words a to h of the standard move on by one:
 *   b becomes a, and so on. Here they stay, and their numbers move: V(0) is a,
 *   V(7) is h. After 64 rounds they are back in place.
 */
#define V(k) v[((k) - i) & 7]

static void sha256_block(struct sha256 *s)
{
	u32 w[64], v[8];
	unsigned i;

	for (i = 0; i < 16; i++) {
		const u8 *p = s->block + 4 * i;

		w[i] = (u32)p[0] << 24 | (u32)p[1] << 16 | (u32)p[2] << 8 | p[3];
	}
	for (; i < 64; i++) {
		u32 a = w[i - 15], b = w[i - 2];

		w[i] = w[i - 16] + w[i - 7]
			+ (ROTATE(a, 7) ^ ROTATE(a, 18) ^ a >> 3)
			+ (ROTATE(b, 17) ^ ROTATE(b, 19) ^ b >> 10);
	}
	memcpy(v, s->state, sizeof v);
	for (i = 0; i < 64; i++) {
		u32 t = V(7) + SIGMA(V(4), 6, 11, 25)
			+ ((V(4) & V(5)) ^ (~V(4) & V(6))) + sha256_k[i] + w[i];

		V(3) += t;
		V(7) = t + SIGMA(V(0), 2, 13, 22)
			+ ((V(0) & V(1)) ^ (V(0) & V(2)) ^ (V(1) & V(2)));
	}
	for (i = 0; i < 8; i++)
		s->state[i] += v[i];
}

static void sha256_add(struct sha256 *s, const void *data, unsigned long n)
{
	const u8 *p = data;

	while (n-- > 0) {
		s->block[(unsigned)s->length++ & 63] = *p++;
		if (((unsigned)s->length & 63) == 0)
			sha256_block(s);
	}
}

static void sha256_end(struct sha256 *s, char *digest)
{
	static const u8 mark = 0x80, zero = 0;
	u64 bits = s->length * 8;
	int i;

	sha256_add(s, &mark, 1);
	while (s->length % 64 != 56)
		sha256_add(s, &zero, 1);
	for (i = 56; i >= 0; i -= 8) {
		u8 byte = (u8)(bits >> i);

		sha256_add(s, &byte, 1);
	}
	for (i = 0; i < DIGEST_DIGITS; i++)
		digest[i] = hex[s->state[i / 8] >> (28 - i % 8 * 4) & 15];
	digest[DIGEST_DIGITS] = '\0';
}

/*
 * SHA256SUMS, with --verify
 *
 * Format notes:
 *
 * - A line is what sha256sum writes: 64 hexadecimal digits in lower case, a space,
 *   a space or "*", a name. The first line with a name counts; where no digest
 *   stands before that name, there is none that the file could have.
 *
 * - SHA256SUMS is a file of the payload, and the digest of itself is not in it:
 *   what is compared is what was read. It is as good as the payload is, and
 *   tells what became of a file on the way from there to DEST.
 */
#define SUMS_NAME "SHA256SUMS"
#define SUMS_BYTES 524288

static char sums_text[SUMS_BYTES + 1];
static const char *sums_end = sums_text;
static char sums_digest[DIGEST_DIGITS + 1];

static void read_sums(struct payload *p)
{
	unsigned long bytes = (unsigned long)p->size;
	struct sha256 hash = sha256_start;

	if (p->size > SUMS_BYTES)
		fail_at(EXIT_DIGEST, p, "is too long", 0);
	read_exact(p, sums_text, bytes);
	sums_text[bytes] = '\0';
	if (strlen(sums_text) != bytes)
		fail_at(EXIT_DIGEST, p, "has a NUL in it", 0);
	sha256_add(&hash, sums_text, bytes);
	sha256_end(&hash, sums_digest);
	sums_end = sums_text + bytes;
	split_lines(sums_text, sums_end);
}

/* The digest that the payload names for its file. */
static const char *find_sum(const struct payload *p)
{
	const char *line = sums_text;

	if (strcmp(p->name, SUMS_NAME) == 0)
		return sums_digest;
	for (;; line += strlen(line) + 1) {
		const char *rest = line + DIGEST_DIGITS;

		if (line >= sums_end)
			fail_at(EXIT_DIGEST, p, "has no line in " SUMS_NAME, 0);
		if (strlen(line) > DIGEST_DIGITS + 2 && rest[0] == ' '
			&& (rest[1] == ' ' || rest[1] == '*') && strcmp(rest + 2, p->name) == 0)
			return line;
	}
}

/* Whether a file in DEST has the digest that the payload names for its file. */
static int digest_matches(const struct payload *p, const char *path)
{
	const char *expected = find_sum(p);
	char digest[DIGEST_DIGITS + 1];
	struct sha256 hash = sha256_start;
	int fd = open_file(path, O_RDONLY);
	long got;

	do {
		got = fd < 0 ? fd : transfer(SYS_read, fd, copy_buffer, COPY_BYTES);
		if (got < 0)
			fail(EXIT_WRITE, path, "cannot read it back", got);
		sha256_add(&hash, copy_buffer, (unsigned long)got);
	} while (got > 0);
	close(fd);
	sha256_end(&hash, digest);
	return memcmp(digest, expected, DIGEST_DIGITS) == 0;
}

/*
 * Checking a payload before anything is written
 *
 * Format notes:
 *
 * - Two payloads are the same where their count is, and the names and sizes of
 *   all files up to the last one that is wanted. A digest of these is compared:
 *   the count, then name, NUL and size of each file. Their data are not read for
 *   that: disks are slow. This digest is only compared with others of the same
 *   run, so an integer goes into it as it lies in memory.
 *
 * - The table is walked up to the last file that is wanted, so that an importer
 *   whose kernel cannot read beyond 4 GiB can use a payload that goes on there.
 */
static void check_payload(struct payload *p)
{
	struct sha256 identity = sha256_start;
	int need_sums = options.verify && p->count != 0;
	u64 i;

	memset(list_seen, 0, sizeof list_seen);
	list_missing = list_count;
	p->wanted = 0;
	rewind_payload(p);
	sha256_add(&identity, &p->count, sizeof p->count);
	for (i = 0; i < p->count && (options.list == NULL || list_missing != 0 || need_sums); i++) {
		next_file(p);
		sha256_add(&identity, p->name, strlen(p->name) + 1);
		sha256_add(&identity, &p->size, sizeof p->size);
		if (is_wanted(p->name)) {
			check_reach(p, p->next);
			p->wanted++;
		}
		if (need_sums && strcmp(p->name, SUMS_NAME) == 0) {
			read_sums(p);
			need_sums = 0;
		}
	}
	check_list(p);
	p->part = SUMS_NAME;
	if (need_sums)
		fail_at(EXIT_DIGEST, p, "is not in the payload", 0);
	sha256_end(&identity, p->identity);
}

/*
 * Restoring
 *
 * Format notes:
 *
 * - A file is written under a name that no file of a payload can have, synced,
 *   and renamed: whoever finds the final name finds all of the file, also after
 *   the power was cut. Neither rename nor unlink follows a link, and with O_EXCL
 *   nothing is opened that was there.
 */
#define PART_NAME ".payload-import\\part"

static void make_path(char *path, const char *name)
{
	strcpy(path, options.dest);
	strcat(path, "/");
	strcat(path, name);
}

/*
 * Whether DEST has the file, of the right size.
 *
 * Format notes:
 *
 * - To open a FIFO waits for a writer, and to open a device may do anything. So
 *   what is no regular file is not opened. It is not the file either: rename
 *   puts the file in its place, or fails where it is a directory.
 *
 * - The stat of mes has 32 bits for a size, and fails where there are more. Only
 *   a file has a size like that, so then it is opened, and its end is looked for.
 */
static int have_file(const char *path, u64 size)
{
	struct stat st;
	u8 byte;
	int same, fd;

	if (stat(path, &st) == 0 && (st.st_mode & S_IFMT) != S_IFREG)
		return 0;
	fd = open_file(path, O_RDONLY);
	if (fd < 0)
		return 0;
	same = seek(fd, 0, 2) == size && transfer(SYS_read, fd, &byte, 1) == 0;
	close(fd);
	return same;
}

/* Writes the data at the current position to the part file. */
static void write_part(struct payload *p)
{
	u64 left = p->size;
	int fd;

	unlink(part_path); /* what a run left that was killed */
	fd = open_file(part_path, O_WRONLY | O_CREAT | O_EXCL);
	if (fd < 0)
		fail(EXIT_WRITE, part_path, "cannot make the file", fd);
	writing_part = 1;
	while (left > 0) {
		long did, n = left < COPY_BYTES ? (long)left : COPY_BYTES;

		read_exact(p, copy_buffer, (unsigned long)n);
		did = transfer(SYS_write, fd, copy_buffer, (unsigned long)n);
		if (did < n)
			fail_at(EXIT_WRITE, p, "cannot write the file", did < 0 ? did : -ENOSPC);
		left -= (u64)n;
	}
	if (fsync(fd) != 0 || close(fd) != 0)
		fail_at(EXIT_WRITE, p, "cannot sync the file", -errno);
}

/* Restores the file at the current position; 0 where it was there already. */
static int restore_file(struct payload *p)
{
	static char path[PATH_BYTES];

	make_path(path, p->name);
	if (have_file(path, p->size) && (!options.verify || digest_matches(p, path)))
		return 0;
	write_part(p);
	if (options.verify && !digest_matches(p, part_path))
		fail_at(EXIT_DIGEST, p, "the file does not have its SHA-256", 0);
	if (rename(part_path, path) != 0)
		fail_at(EXIT_WRITE, p, "cannot rename the file", -errno);
	writing_part = 0;
	return 1;
}

/* Restores what is wanted of a payload that was checked. */
static void restore(struct payload *p)
{
	u64 i = 0, restored = 0, bytes = 0;

	rewind_payload(p);
	while (i < p->wanted) {
		const char *how = "kept";

		next_file(p);
		if (!is_wanted(p->name))
			continue;
		if (restore_file(p)) {
			how = "restored";
			restored++;
			bytes += p->size;
		}
		i++;
		say(1, "payload-import: %s/%s %s, %s bytes, %s\n",
			number(i), number(p->wanted), p->name, number(p->size), how);
	}
	say(1, "payload-import: done: %s files restored, %s kept, %s bytes written\n",
		number(restored), number(i - restored), number(bytes));
}

/*
 * Devices
 *
 * Format notes:
 *
 * - /proc/partitions: a header, an empty line, and rows of
 *
 *     major minor blocks name
 *
 *   of which the first three are decimal numbers, blocks of 1024 bytes. A "!" in
 *   a name stands for a "/" in /dev.
 *
 * - ram0, loop7, fd0, sr0 are left out: what such a device begins with is no
 *   payload, and a drive without a medium takes its time to say so.
 *
 * - A disk stands before its partitions. A partition has the name of its disk,
 *   a "p" where that ends with a digit, and a number: sda1, nvme0n1p1. stage1 of
 *   builder-hex0 writes a partition of 0xFFFFFFFF sectors, which is not there.
 */
#define PROC_BYTES 65536
#define DEVICE_NAME_BYTES 40
#define MAX_DEVICES 256
#define STAGE1_BLOCKS 2147483647UL /* 0xFFFFFFFF sectors */

struct device {
	char path[DEVICE_NAME_BYTES + 6]; /* "/dev/" and the name */
	u64 major;
	u64 minor;
	u64 blocks;
	int partition;
};

static struct device devices[MAX_DEVICES];
static unsigned device_count;

/*
 * Says why a device is of no use, and returns 0. One that was named ends the
 * program; one that was found is passed over.
 */
static int reject(const char *path, int named, const char *why, long error)
{
	if (named)
		fail(EXIT_READ, path, why, error);
	say(1, "payload-import: %s: passed over: %s", path, why);
	say_end(1, error);
	return 0;
}

static int is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Reads a decimal number and the blanks before it; 0 where there is none. */
static int get_number(const char **text, u64 *n)
{
	const char *p = *text;

	while (*p == ' ' || *p == '\t')
		p++;
	if (!is_digit(*p))
		return 0;
	for (*n = 0; is_digit(*p); p++)
		*n = *n * 10 + (u64)(*p - '0');
	*text = p;
	return 1;
}

/* Whether name is that of a device with a number after it. */
static int is_numbered(const char *name, const char *device)
{
	size_t n = strlen(device);

	if (strncmp(name, device, n) != 0)
		return 0;
	if (is_digit(device[n - 1]) && name[n++] != 'p')
		return 0;
	return is_digit(name[n]);
}

/*
 * Format notes:
 *
 * - hda and hdb are the disks of the first channel, hdc and hdd of the second;
 *   major 3 and 22, minor 0 and 64, to which the partition is added. Fiwix prints
 *   others for hdb and hdd.
 */
static void fix_numbers(struct device *d, const char *name)
{
	const char *text = name + 3;
	u64 partition = 0;

	if (strncmp(name, "hd", 2) != 0 || name[2] < 'a' || name[2] > 'd')
		return;
	get_number(&text, &partition);
	d->major = name[2] < 'c' ? 3 : 22;
	d->minor = (name[2] == 'b' || name[2] == 'd' ? 64 : 0) + partition;
}

/*
 * Format notes:
 *
 * - A node is made for a name, and nowhere but in /dev. So each part of it, between
 *   one "!" and the next, begins with a letter or a digit: none is "." or "..", or
 *   of no bytes. The rest are letters, digits, "-", "." and "_". No kernel is
 *   known to name a disk otherwise.
 */
static int is_plain(const char *name)
{
	char before = '!';

	for (; *name != '\0'; before = *name++) {
		if (is_digit(*name) || (*name >= 'A' && *name <= 'Z') || (*name >= 'a' && *name <= 'z'))
			continue;
		if (before == '!' || strchr("!-._", *name) == NULL)
			return 0;
	}
	return before != '!';
}

static int is_disk(const char *name)
{
	static const char *const skipped[4] = { "ram", "loop", "fd", "sr" };
	int i;

	for (i = 0; i < 4; i++) {
		if (is_numbered(name, skipped[i]))
			return 0;
	}
	return is_plain(name) || reject(name, 0, "the name is not plain", 0);
}

static void add_device(const char *name, u64 major, u64 minor, u64 blocks)
{
	struct device *d = &devices[device_count];
	unsigned i;

	if (!is_disk(name))
		return;
	if (device_count == MAX_DEVICES || strlen(name) > DEVICE_NAME_BYTES)
		fail(EXIT_PROC, name, "more devices or a longer name than can be", 0);
	strcpy(d->path, "/dev/");
	strcat(d->path, name);
	for (i = 5; d->path[i] != '\0'; i++) {
		if (d->path[i] == '!')
			d->path[i] = '/';
	}
	d->major = major;
	d->minor = minor;
	d->blocks = blocks;
	d->partition = 0;
	fix_numbers(d, name);
	for (i = 0; i < device_count; i++) {
		if (!is_numbered(d->path, devices[i].path))
			continue;
		d->partition = 1;
		if (blocks > devices[i].blocks || blocks == STAGE1_BLOCKS)
			return;
	}
	device_count++;
}

static void parse_partitions(char *text, const char *end)
{
	const char *line, *p;

	split_lines(text, end);
	for (line = text; line < end; line += strlen(line) + 1) {
		u64 major, minor, blocks;

		p = line;
		if (!get_number(&p, &major) || !get_number(&p, &minor) || !get_number(&p, &blocks))
			continue;
		while (*p == ' ' || *p == '\t')
			p++;
		add_device(p, major, minor, blocks);
	}
}

/*
 * Learns which kernel this is and, where there is no --device, which devices it
 * has.
 *
 * Format notes:
 *
 * - The first word of /proc/version is "Linux" or "Fiwix".
 *
 * - After the jump to Fiwix there is no /proc, and later steps look whether there
 *   is one. What was made and mounted here is gone again when this returns.
 */
static void ask_kernel(void)
{
	static char version[PROC_BYTES + 1], partitions[PROC_BYTES + 1];
	long used;
	const char *fault = read_text("/proc/version", version, PROC_BYTES, &used);
	const long proc = (long)"proc", at = (long)"/proc";
	int made = 0, mounted = 0;

	if (fault != NULL) {
		made = mkdir("/proc", 0555) == 0;
		mounted = call(SYS_mount, proc, at, proc, 0, 0) == 0;
		fault = read_text("/proc/version", version, PROC_BYTES, &used);
	}
	fiwix = fault != NULL || strncmp(version, "Linux ", 6) != 0;
	fault = NULL;
	used = 0;
	if (options.device == NULL)
		fault = read_text("/proc/partitions", partitions, PROC_BYTES, &used);
	if (mounted && call(SYS_umount2, at, 0, 0, 0, 0) != 0)
		say(2, "payload-import: /proc: cannot be unmounted again\n");
	if (made)
		rmdir("/proc");
	if (fault != NULL)
		fail(EXIT_PROC, "/proc/partitions", fault, used < 0 ? used : 0);
	parse_partitions(partitions, partitions + used);
}

/*
 * Format notes:
 *
 * - /dev under Fiwix holds a console and RAM disks: nodes of disks are made here,
 *   and stay. One that is there must be the device that the kernel means.
 *
 * - The number of a device as Linux and glibc have it: the low byte of minor, 12
 *   bits of major, the rest of minor.
 */
static int have_node(const struct device *d)
{
	struct stat st;
	dev_t number = (dev_t)(d->minor % 256 + d->major * 256 + d->minor / 256 * 1048576);

	if (stat(d->path, &st) != 0) {
		if (mknod(d->path, S_IFBLK | 0600, number) != 0)
			return reject(d->path, 0, "cannot make the node", -errno);
		return 1;
	}
	if ((st.st_mode & S_IFMT) != S_IFBLK || st.st_rdev != number)
		return reject(d->path, 0, "it is not the device that the kernel means", 0);
	return 1;
}

/*
 * Opens a device and reads the header; 0 where it has no payload.
 *
 * Format notes:
 *
 * - O_EXCL without O_CREAT fails under Linux where the device is in use: mounted,
 *   or with a mounted partition. Fiwix passes over the flag. A device that was
 *   named may be in use.
 */
static int open_payload(struct payload *p, const char *path, int named)
{
	u8 magic[MAGIC_BYTES];
	long got;
	int fd = open_file(path, named ? O_RDONLY : O_RDONLY | O_EXCL);

	if (fd < 0)
		return reject(path, named, fd == -EBUSY ? "it is in use" : "cannot open it", fd);
	p->path = path;
	p->fd = fd;
	p->end = size_of(fd);
	got = seek(fd, 0, 0) == 0 ? transfer(SYS_read, fd, magic, MAGIC_BYTES) : -ESPIPE;
	if (got == MAGIC_BYTES && memcmp(magic, MAGIC, MAGIC_BYTES) == 0) {
		read_header(p);
		return 1;
	}
	close(fd);
	return got < 0 ? reject(path, named, "cannot read it", got) : 0;
}

/* Looks at whole disks, then at partitions. The first payload is restored. */
static void find_payload(struct payload *first)
{
	static struct payload other;
	struct payload *p = first;
	unsigned i;
	int partition;

	for (partition = 0; partition < 2; partition++) {
		for (i = 0; i < device_count; i++) {
			const struct device *d = &devices[i];

			if (d->partition != partition || !have_node(d) || !open_payload(p, d->path, 0))
				continue;
			check_payload(p);
			if (p == &other) {
				if (strcmp(p->identity, first->identity) != 0) {
					say(2, "payload-import: %s and %s hold different payloads: "
						"detach one, or name one with --device\n", first->path, p->path);
					leave(EXIT_DIFFERENT);
				}
				close(p->fd);
			}
			p = &other;
		}
	}
	if (p == first)
		fail(EXIT_NONE, "/proc/partitions", "no device in it has a payload", 0);
}

/*
 * The command line
 */
static void usage(void)
{
	say(2, "usage: payload-import [--verify] [--list FILE] [--device D] DEST\n"
		"       payload-import --probe D\n");
	leave(EXIT_USAGE);
}

static void parse_arguments(int argc, char **argv)
{
	int i;

	for (i = 1; i < argc; i++) {
		const char **value = NULL;

		if (strcmp(argv[i], "--verify") == 0) {
			options.verify = 1;
			continue;
		}
		if (strcmp(argv[i], "--device") == 0)
			value = &options.device;
		else if (strcmp(argv[i], "--list") == 0)
			value = &options.list;
		else if (strcmp(argv[i], "--probe") == 0)
			value = &options.probe;
		if (value != NULL)
			i++;
		else if (argv[i][0] != '-')
			value = &options.dest;
		if (value == NULL || i == argc || *value != NULL || argv[i][0] == '\0')
			usage();
		*value = argv[i];
	}
	if (options.probe != NULL ? argc != 3 : options.dest == NULL)
		usage();
	if (options.dest != NULL && strlen(options.dest) > DEST_BYTES)
		fail(EXIT_USAGE, "DEST", "is too long", 0);
}

int main(int argc, char **argv)
{
	static struct payload payload;
	const char *named;

	parse_arguments(argc, argv);
	named = options.probe != NULL ? options.probe : options.device;
	if (options.list != NULL)
		read_list(options.list);
	if (options.probe == NULL) {
		make_path(part_path, PART_NAME);
		ask_kernel();
	}
	if (named == NULL)
		find_payload(&payload);
	else if (!open_payload(&payload, named, 1))
		fail(EXIT_NONE, named, "has no payload", 0);
	else if (options.probe == NULL)
		check_payload(&payload);
	if (options.probe == NULL)
		restore(&payload);
	return EXIT_DONE;
}
