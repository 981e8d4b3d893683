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
 * kept. --verify compares the SHA-256 of each file, read back from DEST, with
 * the file SHA256SUMS of the payload, kept files included. --probe only says
 * whether D has a payload.
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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef __MES_SYS_TYPES_H
#define MES_LIBC 1
#define O_LARGEFILE 0100000
#define EBUSY 16
#else
#include <sys/mount.h>
#undef O_LARGEFILE
#define O_LARGEFILE 0 /* _FILE_OFFSET_BITS does it */
#endif

typedef unsigned char u8;
typedef unsigned int u32;
__extension__ typedef unsigned long long u64;
typedef char u32_has_4_bytes[sizeof(u32) == 4 ? 1 : -1];
typedef char u64_has_8_bytes[sizeof(u64) == 8 ? 1 : -1];

enum {
	EXIT_DONE, EXIT_NONE, EXIT_USAGE, EXIT_FORMAT, EXIT_READ, EXIT_WRITE,
	EXIT_DIFFERENT, EXIT_LIST, EXIT_DIGEST, EXIT_PROC
};

#define MAGIC "LBPAYLD1"
#define MAGIC_BYTES 8
#define HEAD_BYTES 16
#define NAME_BYTES 1024
#define SUMS_NAME "SHA256SUMS"
#define PART_NAME ".payload-import\\part"
#define DIGEST_BYTES 32
#define DEST_BYTES 2048
#define PATH_BYTES (DEST_BYTES + NAME_BYTES + 2)
#define COPY_BYTES 65536
#define LIST_BYTES 262144
#define LIST_LINES 4096
#define SUMS_BYTES 524288
#define PROC_BYTES 65536
#define DEVICE_NAME_BYTES 40
#define MAX_DEVICES 256
#define STAGE1_BLOCKS 2147483647UL /* 0xFFFFFFFF sectors */
#define NO_LIMIT (~(u64)0)
#define GIB ((u64)1073741824UL)

struct payload {
	const char *path;
	int fd;
	u64 position;    /* where the next read begins */
	u64 next;        /* where the next file begins */
	u64 end;         /* size of the device, NO_LIMIT where it is unknown */
	unsigned width;  /* bytes of an integer: 8 or 4 */
	u64 count;
};

struct entry {
	char name[NAME_BYTES + 1];
	u64 size;
};

struct device {
	char path[DEVICE_NAME_BYTES + 6]; /* "/dev/" and the name */
	unsigned long major;
	unsigned long minor;
	u64 blocks;
	int partition;
};

struct sha256 {
	u32 state[8];
	u64 length;
	u8 block[64];
};

struct options {
	const char *device;
	const char *list;
	const char *probe;
	const char *dest;
	int verify;
};

static struct options options;
static int fiwix = 1; /* the kernel is Fiwix, or nothing says that it is Linux */
static int writing_part; /* PART_NAME is there and not whole */
static char part_path[PATH_BYTES];
static u8 copy_buffer[COPY_BYTES];
static char list_text[LIST_BYTES + 1]; /* the names, each with a NUL */
static u8 list_seen[LIST_LINES];
static unsigned list_lines;
static unsigned list_missing; /* names that the payload was not yet seen to have */
static char sums_text[SUMS_BYTES + 1];
static unsigned long sums_bytes;
static struct device devices[MAX_DEVICES];
static unsigned device_count;

/*
 * Kernel
 *
 * The same calls for both libraries. Those that read and write give the number
 * of bytes or, below zero, the number of the error.
 */
#ifdef MES_LIBC

/* A Linux system call on i386; Fiwix has the same numbers. */
static long call(long number, long a, long b, long c, long d, long e)
{
	long result;

	__asm__ volatile ("int $0x80" : "=a" (result)
		: "a" (number), "b" (a), "c" (b), "d" (c), "S" (d), "D" (e)
		: "memory");
	return result;
}

static long kernel_read(int fd, void *p, unsigned long n)
{
	return call(3, fd, (long)p, n, 0, 0);
}

static long kernel_write(int fd, const void *p, unsigned long n)
{
	return call(4, fd, (long)p, n, 0, 0);
}

/* From the start (whence 0) or the end (2): the new position, or NO_LIMIT. */
static u64 kernel_seek(int fd, u64 offset, int whence)
{
	u64 position = 0;

	if (call(140, fd, (long)(offset >> 32), (long)offset, (long)&position, whence) < 0)
		return NO_LIMIT;
	return position;
}

/* Size of a block device in sectors of 512 bytes, 0 where it is none. */
static u64 kernel_sectors(int fd)
{
	unsigned long sectors = 0;

	return call(54, fd, 0x1260, (long)&sectors, 0, 0) < 0 ? 0 : sectors;
}

static int kernel_mount_proc(void)
{
	return call(21, (long)"proc", (long)"/proc", (long)"proc", 0, 0) == 0;
}

static int kernel_unmount_proc(void)
{
	return call(22, (long)"/proc", 0, 0, 0, 0) == 0;
}

#else

static long kernel_read(int fd, void *p, unsigned long n)
{
	ssize_t got = read(fd, p, n);

	return got < 0 ? -(long)errno : (long)got;
}

static long kernel_write(int fd, const void *p, unsigned long n)
{
	ssize_t put = write(fd, p, n);

	return put < 0 ? -(long)errno : (long)put;
}

static u64 kernel_seek(int fd, u64 offset, int whence)
{
	off_t wanted = (off_t)offset;
	off_t position;

	if (wanted < 0 || (u64)wanted != offset)
		return NO_LIMIT;
	position = lseek(fd, wanted, whence);
	return position < 0 ? NO_LIMIT : (u64)position;
}

static u64 kernel_sectors(int fd)
{
	(void)fd;
	return 0; /* kernel_seek finds the end of a device as well */
}

static int kernel_mount_proc(void)
{
	return mount("proc", "/proc", "proc", 0, NULL) == 0;
}

static int kernel_unmount_proc(void)
{
	return umount("/proc") == 0;
}

#endif

/*
 * Messages
 *
 * A message that cannot be written is lost: there is nowhere to say so.
 */
static void put(FILE *out, const char *text)
{
	fputs(text, out);
}

static void put_number(FILE *out, u64 n)
{
	char digits[21];
	char *p = digits + 20;

	*p = '\0';
	do {
		*--p = (char)('0' + (int)(n % 10));
		n /= 10;
	} while (n != 0);
	put(out, p);
}

/* A name from outside, with "?" for what could steer a terminal. */
static void put_name(FILE *out, const char *name)
{
	static char clean[PATH_BYTES];
	unsigned i;

	for (i = 0; name[i] != '\0' && i + 1 < sizeof clean; i++)
		clean[i] = (u8)name[i] < 32 || name[i] == 127 ? '?' : name[i];
	clean[i] = '\0';
	put(out, clean);
}

static void put_error(FILE *out, int error)
{
	put(out, ": error ");
	put_number(out, (u64)error);
	if (error == EACCES)
		put(out, ", permission denied");
	if (error == EIO)
		put(out, ", input/output error");
	if (error == ENOENT)
		put(out, ", no such file");
	if (error == ENOSPC)
		put(out, ", no space left");
	if (error == ENAMETOOLONG)
		put(out, ", name too long");
}

static void leave(int code)
{
	if (writing_part)
		unlink(part_path);
	exit(code);
}

/* An error outside of a payload: "SUBJECT: WHAT: error N". */
static void fail(int code, const char *subject, const char *what, int error)
{
	fflush(stdout);
	put(stderr, "payload-import: ");
	put_name(stderr, subject);
	put(stderr, ": ");
	put(stderr, what);
	if (error != 0)
		put_error(stderr, error);
	put(stderr, "\n");
	leave(code);
}

/* An error at the current position of a payload. */
static void fail_at(int code, struct payload *p, const char *name, const char *what, int error)
{
	fflush(stdout);
	put(stderr, "payload-import: ");
	put_name(stderr, p->path);
	put(stderr, ": ");
	put_name(stderr, name);
	put(stderr, ": at byte ");
	put_number(stderr, p->position);
	put(stderr, ": ");
	put(stderr, what);
	if (error != 0)
		put_error(stderr, error);
	put(stderr, "\n");
	leave(code);
}

/*
 * SHA-256, FIPS 180-4
 */
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

#define ROTATE(x, n) (((x) >> (n)) | ((x) << (32 - (n))))

static void sha256_start(struct sha256 *s)
{
	static const u32 first[8] = {
		0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
		0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19
	};

	memcpy(s->state, first, sizeof first);
	s->length = 0;
}

/* The 64 words of a block: its 16, big-endian, and 48 that follow from them. */
static void sha256_schedule(u32 *w, const u8 *p)
{
	int i;

	for (i = 0; i < 16; i++, p += 4)
		w[i] = (u32)p[0] << 24 | (u32)p[1] << 16 | (u32)p[2] << 8 | p[3];
	for (; i < 64; i++) {
		u32 a = w[i - 15], b = w[i - 2];

		w[i] = w[i - 16] + w[i - 7]
			+ (ROTATE(a, 7) ^ ROTATE(a, 18) ^ a >> 3)
			+ (ROTATE(b, 17) ^ ROTATE(b, 19) ^ b >> 10);
	}
}

static void sha256_block(struct sha256 *s, const u8 *block)
{
	u32 w[64];
	u32 a = s->state[0], b = s->state[1], c = s->state[2], d = s->state[3];
	u32 e = s->state[4], f = s->state[5], g = s->state[6], h = s->state[7];
	int i;

	sha256_schedule(w, block);
	for (i = 0; i < 64; i++) {
		u32 t = h + (ROTATE(e, 6) ^ ROTATE(e, 11) ^ ROTATE(e, 25))
			+ ((e & f) ^ (~e & g)) + sha256_k[i] + w[i];
		u32 v = (ROTATE(a, 2) ^ ROTATE(a, 13) ^ ROTATE(a, 22))
			+ ((a & b) ^ (a & c) ^ (b & c));

		h = g;
		g = f;
		f = e;
		e = d + t;
		d = c;
		c = b;
		b = a;
		a = t + v;
	}
	s->state[0] += a;
	s->state[1] += b;
	s->state[2] += c;
	s->state[3] += d;
	s->state[4] += e;
	s->state[5] += f;
	s->state[6] += g;
	s->state[7] += h;
}

static void sha256_add(struct sha256 *s, const void *data, unsigned long n)
{
	const u8 *p = data;
	unsigned long used = (unsigned long)(s->length % 64);

	s->length += n;
	while (used + n >= 64) {
		if (used == 0) {
			sha256_block(s, p);
		} else {
			memcpy(s->block + used, p, 64 - used);
			sha256_block(s, s->block);
		}
		p += 64 - used;
		n -= 64 - used;
		used = 0;
	}
	memcpy(s->block + used, p, n);
}

static void sha256_end(struct sha256 *s, u8 *digest)
{
	static const u8 padding[64] = { 0x80 };
	unsigned long used = (unsigned long)(s->length % 64);
	u64 bits = s->length * 8;
	u8 tail[8];
	int i;

	for (i = 7; i >= 0; i--, bits /= 256)
		tail[i] = (u8)(bits % 256);
	sha256_add(s, padding, used < 56 ? 56 - used : 120 - used);
	sha256_add(s, tail, 8);
	for (i = 0; i < DIGEST_BYTES; i++)
		digest[i] = (u8)(s->state[i / 4] >> (24 - i % 4 * 8));
}

/*
 * Reading a payload
 */

/* A little-endian integer of 4 or 8 bytes. */
static u64 get_integer(const u8 *p, unsigned width)
{
	u64 n = 0;

	while (width > 0)
		n = n * 256 + p[--width];
	return n;
}

/* Refuses what the kernel would read from elsewhere. */
static void check_reach(struct payload *p, u64 n, const char *name)
{
	if (fiwix && (n > 4 * GIB || p->position > 4 * GIB - n))
		fail_at(EXIT_FORMAT, p, name, "reaches beyond 4 GiB, where this kernel cannot read", 0);
}

/* Fills all n bytes: where they are not there, the payload is cut off. */
static void read_exact(struct payload *p, void *bytes, unsigned long n, const char *name)
{
	u8 *to = bytes;

	check_reach(p, n, name);
	while (n > 0) {
		long got = kernel_read(p->fd, to, n);

		if (got < 0)
			fail_at(EXIT_READ, p, name, "cannot read", (int)-got);
		if (got == 0)
			fail_at(EXIT_FORMAT, p, name, "the payload is cut off here", 0);
		to += got;
		n -= (unsigned long)got;
		p->position += (u64)got;
	}
}

/* Goes to a position: seeks, or reads on where the kernel cannot seek. */
static void go_to(struct payload *p, u64 target)
{
	if (target == p->position)
		return;
	if (target > p->position)
		check_reach(p, target - p->position, "file table");
	if (kernel_seek(p->fd, target, 0) == target) {
		p->position = target;
		return;
	}
	if (target < p->position)
		fail_at(EXIT_READ, p, "file table", "cannot go back", 0);
	while (p->position < target) {
		u64 left = target - p->position;

		read_exact(p, copy_buffer, left < COPY_BYTES ? (unsigned long)left : COPY_BYTES, "file table");
	}
}

/* Opens a device or image for reading; flags are for open. 0 or the error. */
static int open_payload(struct payload *p, const char *path, int flags)
{
	u64 sectors;

	p->path = path;
	p->position = 0;
	p->fd = open(path, O_RDONLY | O_LARGEFILE | flags);
	if (p->fd < 0)
		return errno;
	p->end = kernel_seek(p->fd, 0, 2);
	sectors = kernel_sectors(p->fd);
	if (sectors != 0)
		p->end = sectors * 512;
	if (p->end == 0)
		p->end = NO_LIMIT;
	if (kernel_seek(p->fd, 0, 0) != 0) {
		close(p->fd);
		return EIO;
	}
	return 0;
}

/* Looks for the magic: 1 it is there, 0 it is not, below zero an error. */
static int read_magic(struct payload *p)
{
	u8 magic[MAGIC_BYTES];
	unsigned used = 0;

	while (used < MAGIC_BYTES) {
		long got = kernel_read(p->fd, magic + used, MAGIC_BYTES - used);

		if (got < 0)
			return (int)got;
		if (got == 0)
			return 0;
		used += (unsigned)got;
	}
	p->position = MAGIC_BYTES;
	return memcmp(magic, MAGIC, MAGIC_BYTES) == 0;
}

/* Reads the rest of the header, behind the magic. */
static void read_header(struct payload *p)
{
	u8 head[HEAD_BYTES - MAGIC_BYTES];

	read_exact(p, head, sizeof head, "header");
	p->width = get_integer(head + 4, 4) == 0 ? 8 : 4;
	p->count = get_integer(head, p->width);
	if (p->width == 4 && p->count == 0)
		fail_at(EXIT_FORMAT, p, "header", "a count of no files, but a file follows", 0);
}

/* Makes next_entry begin with the first file: it stands behind the count. */
static void rewind_payload(struct payload *p, struct entry *e)
{
	p->next = MAGIC_BYTES + p->width;
	e->name[0] = '\0';
}

/*
 * Length of the UTF-8 character that p begins with, 0 where there is none.
 * Each length has a range of code points: nothing overlong, no surrogates.
 */
static unsigned utf8_length(const u8 *p)
{
	static const unsigned long least[5] = { 0, 0, 0x80, 0x800, 0x10000 };
	unsigned long code = p[0];
	unsigned i, n = 1;

	if (code >= 0xf8 || (code >= 0x80 && code < 0xc0))
		return 0;
	if (code >= 0xc0) {
		n = code < 0xe0 ? 2 : code < 0xf0 ? 3 : 4;
		code %= n == 2 ? 32 : n == 3 ? 16 : 8;
	}
	for (i = 1; i < n; i++) {
		if (p[i] < 0x80 || p[i] > 0xbf) /* the NUL at the end as well */
			return 0;
		code = code * 64 + p[i] % 64;
	}
	if (code < least[n] || code > 0x10ffffUL || (code >= 0xd800 && code <= 0xdfff))
		return 0;
	return n;
}

/* What is wrong with a name of that many bytes, or NULL. */
static const char *name_fault(const char *name, unsigned long bytes)
{
	const u8 *p = (const u8 *)name;
	const u8 *end = p + bytes;

	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return "the name is a directory";
	while (p < end) {
		unsigned n = utf8_length(p);

		if (*p == '/' || *p == '\\' || *p == '\0')
			return "the name has a slash, a backslash or a NUL";
		if (n == 0)
			return "the name is not valid UTF-8";
		p += n;
	}
	return NULL;
}

/* Bytewise order; strcmp of the library of mes compares signed characters. */
static int comes_before(const char *a, const char *b)
{
	while (*a != '\0' && *a == *b) {
		a++;
		b++;
	}
	return (u8)*a < (u8)*b;
}

/*
 * Reads the record of the next file and stays where its data begins.
 * e holds the record before it.
 */
static void next_entry(struct payload *p, struct entry *e)
{
	static char name[NAME_BYTES + 1];
	u8 head[16];
	u64 bytes;
	const char *fault;

	go_to(p, p->next);
	read_exact(p, head, 2UL * p->width, "file table");
	bytes = get_integer(head, p->width);
	e->size = get_integer(head + p->width, p->width);
	if (bytes < 1 || bytes > NAME_BYTES)
		fail_at(EXIT_FORMAT, p, "file table", "a name does not have 1 to 1024 bytes", 0);
	read_exact(p, name, (unsigned long)bytes, "file table");
	name[bytes] = '\0';
	fault = name_fault(name, (unsigned long)bytes);
	if (fault != NULL)
		fail_at(EXIT_FORMAT, p, name, fault, 0);
	if (!comes_before(e->name, name))
		fail_at(EXIT_FORMAT, p, name, "the name is repeated or not in order", 0);
	strcpy(e->name, name);
	if (p->position > p->end || e->size > p->end - p->position)
		fail_at(EXIT_FORMAT, p, name, "the payload is cut off: the file is larger than what follows", 0);
	p->next = p->position + e->size;
}

/*
 * The list of names
 */

/* Reads a file into a buffer and ends it with a NUL; 0 or what is wrong. */
static const char *read_text(int fd, char *text, unsigned long room, unsigned long *used)
{
	long got;

	*used = 0;
	do {
		if (*used == room)
			return "is too long";
		got = kernel_read(fd, text + *used, room - *used);
		if (got < 0)
			return "cannot be read";
		*used += (unsigned long)got;
	} while (got > 0);
	text[*used] = '\0';
	return NULL;
}

static void read_list(const char *path)
{
	unsigned long used, i;
	const char *fault;
	int fd = open(path, O_RDONLY);

	if (fd < 0)
		fail(EXIT_LIST, path, "cannot open the list", errno);
	fault = read_text(fd, list_text, LIST_BYTES, &used);
	close(fd);
	if (fault != NULL)
		fail(EXIT_LIST, path, fault, 0);
	if (strlen(list_text) != used)
		fail(EXIT_LIST, path, "has a NUL in it", 0);
	for (i = 0; i < used; i++) {
		if (list_text[i] == '\n' || i + 1 == used)
			list_lines++;
		if (list_text[i] == '\n')
			list_text[i] = '\0';
	}
	if (list_lines > LIST_LINES)
		fail(EXIT_LIST, path, "has more than 4096 lines", 0);
}

/* Forgets what was seen of the names on the list. */
static void start_list(void)
{
	const char *line = list_text;
	unsigned i;

	list_missing = 0;
	for (i = 0; i < list_lines; i++, line += strlen(line) + 1) {
		list_seen[i] = *line == '\0'; /* an empty line is no name */
		list_missing += !list_seen[i];
	}
}

/* Whether a file is to be restored; notes that the payload has it. */
static int wanted(const char *name)
{
	const char *line = list_text;
	unsigned i;
	int found = options.list == NULL;

	for (i = 0; i < list_lines; i++, line += strlen(line) + 1) {
		if (strcmp(line, name) != 0)
			continue;
		list_missing -= !list_seen[i];
		list_seen[i] = 1;
		found = 1;
	}
	return found;
}

/* Says the names that the payload does not have, and ends there if there are any. */
static void check_list(const struct payload *p)
{
	const char *line = list_text;
	unsigned i;

	if (list_missing == 0)
		return;
	fflush(stdout);
	for (i = 0; i < list_lines; i++, line += strlen(line) + 1) {
		if (list_seen[i])
			continue;
		put(stderr, "payload-import: ");
		put_name(stderr, p->path);
		put(stderr, ": has no file ");
		put_name(stderr, line);
		put(stderr, "\n");
	}
	leave(EXIT_LIST);
}

/*
 * SHA256SUMS: lines of 64 hexadecimal digits, a space, a space or "*", a name.
 */
static void read_sums(struct payload *p, u64 size)
{
	unsigned long i;

	if (size > SUMS_BYTES)
		fail_at(EXIT_DIGEST, p, SUMS_NAME, "is too long", 0);
	sums_bytes = (unsigned long)size;
	read_exact(p, sums_text, sums_bytes, SUMS_NAME);
	for (i = 0; i < sums_bytes; i++) {
		if (sums_text[i] == '\0')
			fail_at(EXIT_DIGEST, p, SUMS_NAME, "has a NUL in it", 0);
	}
	sums_text[sums_bytes] = '\0';
}

static int hex_digit(int c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/* The digest in front of a line, and the name behind it; NULL where it has none. */
static const char *parse_sum(const char *line, u8 *digest)
{
	int i;

	for (i = 0; i < DIGEST_BYTES; i++, line += 2) {
		int high = hex_digit(line[0]);
		int low = high < 0 ? -1 : hex_digit(line[1]);

		if (low < 0)
			return NULL;
		digest[i] = (u8)(high * 16 + low);
	}
	if (line[0] != ' ' || (line[1] != ' ' && line[1] != '*'))
		return NULL;
	return line + 2;
}

/* Finds the digest of a file; that of SHA256SUMS itself follows from its text. */
static int find_sum(const char *name, u8 *digest)
{
	const char *line = sums_text;
	size_t length = strlen(name);
	struct sha256 hash;

	if (strcmp(name, SUMS_NAME) == 0) {
		sha256_start(&hash);
		sha256_add(&hash, sums_text, sums_bytes);
		sha256_end(&hash, digest);
		return 1;
	}
	while (*line != '\0') {
		const char *end = strchr(line, '\n');
		const char *found = parse_sum(line, digest);

		if (end == NULL)
			end = line + strlen(line);
		if (found != NULL && (size_t)(end - found) == length && memcmp(found, name, length) == 0)
			return 1;
		line = *end == '\0' ? end : end + 1;
	}
	return 0;
}

/* Whether a file has the digest that the payload names for it. */
static int digest_matches(struct payload *p, const char *name, const char *path)
{
	struct sha256 hash;
	u8 expected[DIGEST_BYTES], digest[DIGEST_BYTES];
	long got;
	int fd;

	if (!find_sum(name, expected))
		fail_at(EXIT_DIGEST, p, name, "has no line in " SUMS_NAME, 0);
	fd = open(path, O_RDONLY | O_LARGEFILE);
	if (fd < 0)
		fail(EXIT_WRITE, path, "cannot read it back", errno);
	sha256_start(&hash);
	while ((got = kernel_read(fd, copy_buffer, COPY_BYTES)) > 0)
		sha256_add(&hash, copy_buffer, (unsigned long)got);
	close(fd);
	if (got < 0)
		fail(EXIT_WRITE, path, "cannot read it back", (int)-got);
	sha256_end(&hash, digest);
	return memcmp(digest, expected, DIGEST_BYTES) == 0;
}

/*
 * Checking a payload before anything is written
 */

/* What makes two payloads the same: their count, names and sizes. */
static void add_to_identity(struct sha256 *identity, const struct entry *e)
{
	u8 size[8];
	u64 left = e->size;
	int i;

	for (i = 0; i < 8; i++, left /= 256)
		size[i] = (u8)(left % 256);
	sha256_add(identity, e->name, strlen(e->name) + 1);
	sha256_add(identity, size, sizeof size);
}

/* Walks the table up to the last file that is wanted; returns their number. */
static u64 check_payload(struct payload *p, u8 *identity)
{
	static struct entry e;
	struct sha256 hash;
	u64 i, files = 0;
	int need_sums = options.verify;

	start_list();
	rewind_payload(p, &e);
	e.size = p->count;
	sha256_start(&hash);
	add_to_identity(&hash, &e);
	for (i = 0; i < p->count; i++) {
		if (options.list != NULL && list_missing == 0 && !need_sums)
			break;
		next_entry(p, &e);
		add_to_identity(&hash, &e);
		if (wanted(e.name)) {
			check_reach(p, e.size, e.name);
			files++;
		}
		if (need_sums && strcmp(e.name, SUMS_NAME) == 0) {
			read_sums(p, e.size);
			need_sums = 0;
		}
	}
	check_list(p);
	if (need_sums && p->count != 0)
		fail_at(EXIT_DIGEST, p, SUMS_NAME, "is not in the payload", 0);
	sha256_end(&hash, identity);
	return files;
}

/*
 * Restoring
 */

static void make_path(char *path, const char *name)
{
	size_t length = strlen(options.dest);

	memcpy(path, options.dest, length);
	path[length] = '/';
	strcpy(path + length + 1, name);
}

/* Whether DEST has the file, of the right size, and not a directory or so. */
static int have_file(const char *path, u64 size)
{
	u8 byte;
	int same, fd = open(path, O_RDONLY | O_LARGEFILE);

	if (fd < 0)
		return 0;
	same = kernel_seek(fd, 0, 2) == size && kernel_read(fd, &byte, 1) == 0;
	close(fd);
	return same;
}

static void write_all(struct payload *p, int fd, const u8 *bytes, unsigned long n, const char *name)
{
	while (n > 0) {
		long put_bytes = kernel_write(fd, bytes, n);

		if (put_bytes <= 0)
			fail_at(EXIT_WRITE, p, name, "cannot write the file", put_bytes < 0 ? (int)-put_bytes : ENOSPC);
		bytes += put_bytes;
		n -= (unsigned long)put_bytes;
	}
}

/* Writes the data at the current position to PART_NAME. */
static void write_part(struct payload *p, const struct entry *e)
{
	u64 left = e->size;
	int fd;

	unlink(part_path); /* what a run left that was killed */
	fd = open(part_path, O_WRONLY | O_CREAT | O_TRUNC | O_LARGEFILE, 0644);
	if (fd < 0)
		fail(EXIT_WRITE, part_path, "cannot make the file", errno);
	writing_part = 1;
	while (left > 0) {
		unsigned long n = left < COPY_BYTES ? (unsigned long)left : COPY_BYTES;

		read_exact(p, copy_buffer, n, e->name);
		write_all(p, fd, copy_buffer, n, e->name);
		left -= n;
	}
	if (fsync(fd) != 0)
		fail_at(EXIT_WRITE, p, e->name, "cannot sync the file", errno);
	if (close(fd) != 0)
		fail_at(EXIT_WRITE, p, e->name, "cannot close the file", errno);
}

/* Restores the file at the current position; 0 where it was there already. */
static int restore_file(struct payload *p, const struct entry *e)
{
	static char path[PATH_BYTES];

	make_path(path, e->name);
	if (have_file(path, e->size) && (!options.verify || digest_matches(p, e->name, path)))
		return 0;
	write_part(p, e);
	if (options.verify && !digest_matches(p, e->name, part_path))
		fail_at(EXIT_DIGEST, p, e->name, "the file does not have its SHA-256", 0);
	if (rename(part_path, path) != 0)
		fail_at(EXIT_WRITE, p, e->name, "cannot rename the file", errno);
	writing_part = 0;
	return 1;
}

static void say_file(u64 number, u64 of, const struct entry *e, int restored)
{
	put(stdout, "payload-import: ");
	put_number(stdout, number);
	put(stdout, "/");
	put_number(stdout, of);
	put(stdout, " ");
	put_name(stdout, e->name);
	put(stdout, ", ");
	put_number(stdout, e->size);
	put(stdout, restored ? " bytes, restored\n" : " bytes, kept\n");
	fflush(stdout);
}

/* Restores what is wanted of a payload that was checked. */
static void restore(struct payload *p, u64 files)
{
	static struct entry e;
	u64 done = 0, kept = 0, bytes = 0;

	rewind_payload(p, &e);
	while (done < files) {
		int restored;

		next_entry(p, &e);
		if (!wanted(e.name))
			continue;
		restored = restore_file(p, &e);
		done++;
		kept += restored ? 0 : 1;
		bytes += restored ? e.size : 0;
		say_file(done, files, &e, restored);
	}
	put(stdout, "payload-import: done: ");
	put_number(stdout, done - kept);
	put(stdout, " files restored, ");
	put_number(stdout, kept);
	put(stdout, " kept, ");
	put_number(stdout, bytes);
	put(stdout, " bytes written\n");
}

/*
 * Finding the payload
 */

/* The next word of /proc/partitions, NUL-terminated; NULL at the end of the line. */
static char *next_word(char **text)
{
	char *word = *text;
	char *end;

	while (*word == ' ' || *word == '\t')
		word++;
	for (end = word; *end != '\0' && *end != ' ' && *end != '\t' && *end != '\n'; end++)
		continue;
	*text = end;
	if (end == word)
		return NULL;
	if (*end == ' ' || *end == '\t')
		*(*text)++ = '\0';
	return word;
}

/* A decimal number; 0 where it is none. */
static int parse_number(const char *word, u64 *n)
{
	*n = 0;
	if (word == NULL || *word == '\0')
		return 0;
	for (; *word >= '0' && *word <= '9'; word++)
		*n = *n * 10 + (u64)(*word - '0');
	return *word == '\0';
}

/* ram0, loop7, fd0, sr0: whatever such a device begins with is no payload. */
static int is_skipped(const char *name)
{
	static const char *const prefixes[4] = { "ram", "loop", "fd", "sr" };
	int i;

	for (i = 0; i < 4; i++) {
		size_t n = strlen(prefixes[i]);

		if (strncmp(name, prefixes[i], n) == 0 && name[n] >= '0' && name[n] <= '9')
			return 1;
	}
	return 0;
}

/* hda to hdd and their partitions have fixed numbers; Fiwix prints others. */
static void fix_numbers(const char *name, struct device *d)
{
	u64 partition = 0;

	if (strncmp(name, "hd", 2) != 0 || name[2] < 'a' || name[2] > 'd')
		return;
	if (name[3] != '\0' && (!parse_number(name + 3, &partition) || partition > 63))
		return;
	d->major = name[2] < 'c' ? 3 : 22;
	d->minor = (name[2] == 'b' || name[2] == 'd' ? 64UL : 0UL) + (unsigned long)partition;
}

/* Whether name is that of disk, a "p" where disk ends with a digit, and a number. */
static int is_partition_of(const char *name, const char *disk)
{
	size_t n = strlen(disk);
	u64 number;

	if (strncmp(name, disk, n) != 0)
		return 0;
	if (disk[n - 1] >= '0' && disk[n - 1] <= '9' && name[n++] != 'p')
		return 0;
	return parse_number(name + n, &number);
}

/* Adds a row; a disk stands ahead of its partitions. */
static void add_device(u64 major, u64 minor, u64 blocks, const char *name)
{
	struct device *d = &devices[device_count];
	unsigned i;

	if (is_skipped(name))
		return;
	if (device_count == MAX_DEVICES || strlen(name) > DEVICE_NAME_BYTES)
		fail(EXIT_PROC, name, "more devices or a longer name than can be", 0);
	strcpy(d->path, "/dev/");
	strcat(d->path, name);
	for (i = 5; d->path[i] != '\0'; i++) {
		if (d->path[i] == '!') /* how the kernel writes a slash here */
			d->path[i] = '/';
	}
	d->major = (unsigned long)major;
	d->minor = (unsigned long)minor;
	d->blocks = blocks;
	d->partition = 0;
	fix_numbers(name, d);
	for (i = 0; i < device_count; i++) {
		if (!is_partition_of(d->path, devices[i].path))
			continue;
		d->partition = 1;
		if (blocks > devices[i].blocks || blocks == STAGE1_BLOCKS)
			return;
	}
	device_count++;
}

/* Rows of "major minor blocks name", behind a header and an empty line. */
static void parse_partitions(char *text)
{
	while (*text != '\0') {
		u64 major = 0, minor = 0, blocks = 0;
		int row = parse_number(next_word(&text), &major)
			&& parse_number(next_word(&text), &minor)
			&& parse_number(next_word(&text), &blocks);
		char *name = row ? next_word(&text) : NULL;

		while (*text != '\0' && *text != '\n')
			text++;
		if (*text == '\n')
			*text++ = '\0';
		if (name != NULL)
			add_device(major, minor, blocks, name);
	}
}

/* Reads a file below /proc; NULL or what is wrong. */
static const char *read_proc(const char *path, char *text)
{
	unsigned long used;
	const char *fault;
	int fd = open(path, O_RDONLY);

	if (fd < 0)
		return "cannot be opened";
	fault = read_text(fd, text, PROC_BYTES, &used);
	close(fd);
	return fault;
}

/*
 * Learns which kernel this is and, where there is no --device, which devices
 * it has. Mounts proc for that where it is not mounted.
 */
static void ask_kernel(void)
{
	static char version[PROC_BYTES + 1], partitions[PROC_BYTES + 1];
	const char *fault = read_proc("/proc/version", version);
	int made = 0, mounted = 0;

	if (fault != NULL) {
		made = mkdir("/proc", 0555) == 0;
		mounted = kernel_mount_proc();
		fault = read_proc("/proc/version", version);
	}
	fiwix = fault != NULL || strncmp(version, "Linux ", 6) != 0;
	fault = options.device != NULL ? NULL : read_proc("/proc/partitions", partitions);
	if (mounted && !kernel_unmount_proc())
		put(stderr, "payload-import: /proc: cannot be unmounted again\n");
	if (made)
		rmdir("/proc");
	if (fault != NULL)
		fail(EXIT_PROC, "/proc/partitions", fault, 0);
	parse_partitions(partitions);
}

static void pass_over(const char *path, const char *why, int error)
{
	put(stdout, "payload-import: ");
	put(stdout, path);
	put(stdout, ": passed over: ");
	put(stdout, why);
	if (error != 0)
		put_error(stdout, error);
	put(stdout, "\n");
	fflush(stdout);
}

/* Makes a node that is missing; one that is there must be the device. */
static int have_node(const struct device *d)
{
	struct stat st;
	unsigned long number = d->minor % 256 + d->major * 256 + d->minor / 256 * 1048576UL;

	if (stat(d->path, &st) == 0) {
		if ((st.st_mode & S_IFMT) == S_IFBLK && (unsigned long)st.st_rdev == number)
			return 1;
		pass_over(d->path, "it is not the device that the kernel means", 0);
		return 0;
	}
	if (mknod(d->path, S_IFBLK | 0600, (dev_t)number) != 0) {
		pass_over(d->path, "cannot make the node", errno);
		return 0;
	}
	return 1;
}

/* Whether a device begins with a payload; leaves it open then. */
static int probe_device(struct payload *p, const struct device *d)
{
	int error, found;

	if (!have_node(d))
		return 0;
	error = open_payload(p, d->path, O_EXCL); /* fails under Linux where it is in use */
	if (error != 0) {
		pass_over(d->path, error == EBUSY ? "it is in use" : "cannot open it", error);
		return 0;
	}
	found = read_magic(p);
	if (found > 0)
		return 1;
	if (found < 0)
		pass_over(d->path, "cannot read it", -found);
	close(p->fd);
	return 0;
}

static void say_payload(const struct payload *p)
{
	put(stdout, "payload-import: ");
	put_name(stdout, p->path);
	put(stdout, ": payload, layout ");
	put_number(stdout, p->width * 8);
	put(stdout, ", ");
	put_number(stdout, p->count);
	put(stdout, " files\n");
	fflush(stdout);
}

static void fail_different(const char *one, const char *other)
{
	fflush(stdout);
	put(stderr, "payload-import: ");
	put(stderr, one);
	put(stderr, " and ");
	put(stderr, other);
	put(stderr, " hold different payloads: detach one, or name one with --device\n");
	leave(EXIT_DIFFERENT);
}

/* Takes a payload, or compares it with the one that was found before it. */
static int take_payload(struct payload *found, struct payload *p, u64 *files, int number)
{
	static u8 first[DIGEST_BYTES];
	u8 identity[DIGEST_BYTES];

	read_header(p);
	say_payload(p);
	*files = check_payload(p, identity);
	if (number == 0) {
		memcpy(first, identity, DIGEST_BYTES);
		*found = *p;
	} else {
		if (memcmp(first, identity, DIGEST_BYTES) != 0)
			fail_different(found->path, p->path);
		close(p->fd);
	}
	return number + 1;
}

/* Looks at whole disks, then at partitions. */
static u64 find_payload(struct payload *found)
{
	struct payload p;
	u64 files = 0;
	unsigned i;
	int number = 0, partitions;

	for (partitions = 0; partitions < 2; partitions++) {
		for (i = 0; i < device_count; i++) {
			if (devices[i].partition == partitions && probe_device(&p, &devices[i]))
				number = take_payload(found, &p, &files, number);
		}
	}
	if (number == 0)
		fail(EXIT_NONE, "/proc/partitions", "no device in it has a payload", 0);
	return files;
}

/* Opens the device that --device or --probe names; 0 where it has no payload. */
static int open_named(struct payload *p, const char *path)
{
	int error = open_payload(p, path, 0);
	int found;

	if (error != 0)
		fail(EXIT_READ, path, "cannot open it", error);
	found = read_magic(p);
	if (found < 0)
		fail(EXIT_READ, path, "cannot read it", -found);
	return found;
}

/*
 * The command line
 */
static void usage(void)
{
	put(stderr, "usage: payload-import [--verify] [--list FILE] [--device D] DEST\n"
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
	struct payload p;
	u64 files = 0;

	parse_arguments(argc, argv);
	if (options.probe != NULL) {
		if (!open_named(&p, options.probe))
			fail(EXIT_NONE, options.probe, "has no payload", 0);
		read_header(&p);
		say_payload(&p);
		leave(EXIT_DONE);
	}
	if (options.list != NULL)
		read_list(options.list);
	make_path(part_path, PART_NAME);
	ask_kernel();
	if (options.device == NULL) {
		files = find_payload(&p);
	} else {
		if (!open_named(&p, options.device))
			fail(EXIT_NONE, options.device, "has no payload", 0);
		take_payload(&p, &p, &files, 0);
	}
	restore(&p, files);
	leave(EXIT_DONE);
	return 0;
}
