/* SPDX-License-Identifier: MIT */
/*
 * payload-import for a fuzzer: the whole program, once or twice for each case. What it asks of the
 * kernel is answered from the case, and the program ends by a jump. Whatever is wrong aborts.
 *
 *   case = flags{4} place{2} listBytes{2} partitionsBytes{2} list partitions payload
 *
 * Integers are little-endian. The flags are named below.
 *
 * Built by AFL++ it takes its cases from there, else from the files of its command line. The
 * current directory is for its files.
 */
#define _DEFAULT_SOURCE
#define _FILE_OFFSET_BITS 64

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#define VERIFY 1
#define LIST 2
#define SEARCH 4 /* no --device, but /proc/partitions */
#define FIWIX 8
#define REPAIR 16 /* SHA256SUMS gets the right digests */
#define PROBE 32
#define AGAIN 64 /* a second run, which finds what the first one has restored */
#define SPOILED 128 /* it finds files with another byte, or pipes in their place with PIPES */
#define SIZE_UNKNOWN 0x100
#define SIZE_LARGER 0x200
#define NO_PROC 0x400 /* it has to be mounted */
#define READ_FAILS 0x800 /* from the place on */
#define OTHERS 0x1000 /* disks whose names end in "b" hold another payload, changed at the place */
#define WRONG_NODES 0x2000
#define NO_NODES 0x4000
#define PIPES 0x8000
#define DIRECTORIES 0x10000 /* it finds directories in their place */
#define IN_USE 0x20000 /* disks whose names end in "a" are */
#define WRITE_FAILS 0x40000 /* what is written of a file ends at the place */
#define SYNC_FAILS 0x80000
#define EDIT 0x100000 /* the place chooses an integer of the payload, and what it becomes */

#define HEAD_BYTES 10
#define DEST "dest"
#define FIRST_FD 3
#define LAST_FD 40

static jmp_buf at_exit;
static unsigned flags, place;
static unsigned proc_misses;
static unsigned char last_shown = '\n';

static void case_exit(int code)
{
	longjmp(at_exit, code + 1);
}

static void demand(int is_so, const char *what)
{
	if (!is_so) {
		fprintf(stderr, "the importer breaks its word: %s\n", what);
		abort();
	}
}

/* A path that is written, renamed or removed is one name in DEST. */
static void demand_inside(const char *path)
{
	demand(strncmp(path, DEST "/", sizeof DEST) == 0 && strchr(path + sizeof DEST, '/') == NULL,
		"nothing is written outside of the directory");
}

static int case_open(const char *path, int how, ...)
{
	const char *real = path;

	if (strcmp(path, "/proc/version") == 0) {
		if ((flags & NO_PROC) != 0 && proc_misses++ == 0) {
			errno = ENOENT;
			return -1;
		}
		real = (flags & FIWIX) != 0 ? "fiwix" : "linux";
	} else if (strcmp(path, "/proc/partitions") == 0) {
		real = "partitions";
	} else if (strncmp(path, "/dev/", 5) == 0) {
		if ((flags & IN_USE) != 0 && path[strlen(path) - 1] == 'a') {
			errno = EBUSY;
			return -1;
		}
		real = (flags & OTHERS) != 0 && path[strlen(path) - 1] == 'b' ? "other" : "image";
	} else if ((how & O_CREAT) != 0) {
		demand_inside(path);
	}
	demand(real == path || (how & O_ACCMODE) == O_RDONLY, "devices are only read");
	return open(real, how, 0644);
}

static void show(const unsigned char *text, size_t n)
{
	for (; n > 0; n--) {
		demand((*text >= 0x20 && *text != 0x7f) || *text == '\n', "no control character is shown");
		last_shown = *text++;
	}
}

/* The C library's functions, as a sanitizer knows them. */
static long case_syscall(long number, long a, long b, long c, long d, long e)
{
	(void)d;
	(void)e;
	switch (number) {
	case SYS_read:
		if ((flags & READ_FAILS) != 0 && lseek((int)a, 0, SEEK_CUR) >= (off_t)place) {
			errno = EIO;
			return -1;
		}
		return read((int)a, (void *)b, (size_t)c);
	case SYS_write:
		if (a > 2) {
			off_t room = (off_t)place - lseek((int)a, 0, SEEK_CUR);

			if ((flags & WRITE_FAILS) == 0 || room > c)
				room = c;
			return write((int)a, (void *)b, (size_t)room);
		}
		show((unsigned char *)b, (size_t)c);
		return c;
	case SYS_lseek:
		return lseek((int)a, b, (int)c);
#ifdef SYS__llseek
	case SYS__llseek: {
		off_t at = lseek((int)a, (off_t)((unsigned long long)(unsigned)b << 32 | (unsigned)c), (int)e);

		if (at >= 0)
			*(long long *)d = at;
		return at < 0 ? -1 : 0;
	}
#endif
	case SYS_ioctl:
		if ((flags & (SIZE_UNKNOWN | SIZE_LARGER)) == 0) {
			errno = ENOTTY;
			return -1;
		}
		*(unsigned long *)c = (flags & SIZE_UNKNOWN) != 0 ? 0 : 0x7fffffffUL;
		return 0;
	}
	return 0; /* mount and umount2 */
}

static int case_stat(const char *path, struct stat *st);
static int case_mknod(const char *path, mode_t mode, dev_t number)
{
	(void)mode;
	(void)number;
	demand(strncmp(path, "/dev/", 5) == 0 && strstr(path, "/.") == NULL && strstr(path, "//") == NULL,
		"a node is made only in /dev");
	return 0;
}

static int case_rename(const char *from, const char *to)
{
	demand_inside(from);
	demand_inside(to);
	return rename(from, to);
}

static int case_unlink(const char *path)
{
	demand_inside(path);
	return unlink(path);
}

static int case_sync(void)
{
	errno = EIO;
	return (flags & SYNC_FAILS) != 0 ? -1 : 0;
}

static int case_directory(const char *path)
{
	demand(strcmp(path, "/proc") == 0, "of directories only /proc is made or removed");
	return 0;
}

#define main importer_main
#define exit(code) case_exit(code)
#define open case_open
#define syscall case_syscall
#define stat(path, st) case_stat(path, st)
#define mknod(path, mode, number) case_mknod(path, mode, number)
#define rename(from, to) case_rename(from, to)
#define unlink(path) case_unlink(path)
#define mkdir(path, mode) case_directory(path)
#define rmdir(path) case_directory(path)
#define fsync(fd) case_sync()
#undef _DEFAULT_SOURCE
#undef _FILE_OFFSET_BITS
#include "../../steps/payload-import-1.0/src/payload-import.c"
#undef main
#undef exit
#undef open
#undef syscall
#undef stat
#undef rename
#undef unlink
#undef mkdir
#undef rmdir
#undef mknod
#undef fsync

static int case_stat(const char *path, struct stat *st)
{
	unsigned i;

	if (strncmp(path, "/dev/", 5) != 0)
		return stat(path, st);
	if ((flags & NO_NODES) != 0) {
		errno = ENOENT;
		return -1;
	}
	memset(st, 0, sizeof *st);
	st->st_mode = S_IFBLK;
	for (i = 0; i < device_count; i++) {
		const struct device *d = &devices[i];

		if (strcmp(d->path, path) == 0)
			st->st_rdev = (dev_t)(d->minor % 256 + d->major * 256 + d->minor / 256 * 1048576);
	}
	if ((flags & WRONG_NODES) != 0)
		st->st_rdev++;
	return 0;
}

static void write_file(const char *path, const void *bytes, size_t n)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	if (fd < 0 || write(fd, bytes, n) != (ssize_t)n || close(fd) != 0) {
		perror(path);
		_exit(2); /* no finding */
	}
}

/* A record of the payload, as far as it is one. */
struct record {
	u8 *head, *name, *data;
	size_t name_bytes, bytes;
};

#define MAX_RECORDS 64
static struct record records[MAX_RECORDS];
static unsigned record_count, width;

static void find_records(u8 *p, size_t n)
{
	size_t at;

	record_count = 0;
	if (n < 16 || memcmp(p, MAGIC, MAGIC_BYTES) != 0)
		return;
	width = get_integer(p + 12, 4) == 0 ? 8 : 4;
	for (at = MAGIC_BYTES + width; record_count < MAX_RECORDS && n - at >= 2 * width;) {
		u64 name = get_integer(p + at, width), size = get_integer(p + at + width, width);
		struct record *r = &records[record_count];

		r->head = p + at;
		at += 2 * width;
		if (name > n - at || size > n - at - name)
			return;
		r->name = p + at;
		r->name_bytes = (size_t)name;
		r->data = r->name + r->name_bytes;
		r->bytes = (size_t)size;
		record_count++;
		at += r->name_bytes + r->bytes;
	}
}

/* Gives a line of SHA256SUMS the digest of the file that it names. */
static void repair_line(u8 *line, size_t bytes)
{
	unsigned i;

	for (i = 0; i < record_count && bytes > DIGEST_DIGITS + 2; i++) {
		const struct record *r = &records[i];
		struct sha256 hash = sha256_start;
		char digest[DIGEST_DIGITS + 1];

		if (r->name_bytes != bytes - DIGEST_DIGITS - 2
			|| memcmp(r->name, line + DIGEST_DIGITS + 2, r->name_bytes) != 0)
			continue;
		sha256_add(&hash, r->data, r->bytes);
		sha256_end(&hash, digest);
		memcpy(line, digest, DIGEST_DIGITS);
	}
}

static void repair(void)
{
	unsigned i;

	for (i = 0; i < record_count; i++) {
		const struct record *r = &records[i];
		u8 *line = r->data, *end = r->data + r->bytes;

		if (r->name_bytes != sizeof SUMS_NAME - 1 || memcmp(r->name, SUMS_NAME, r->name_bytes) != 0)
			continue;
		while (line < end) {
			u8 *newline = memchr(line, '\n', (size_t)(end - line));
			u8 *stop = newline != NULL ? newline : end;

			repair_line(line, (size_t)(stop - line));
			line = stop + 1;
		}
	}
}

/* Gives an integer of the payload a value at an edge. */
static void edit(u8 *p, size_t n)
{
	static const u64 values[12] = {
		0, 1, NAME_BYTES, NAME_BYTES + 1, SUMS_BYTES + 1, 0x7fffffff, 0x80000000, 0xffffffff,
		0x100000000, 0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff
	};
	unsigned which = place % 4, i = place / 4 % 12;
	u64 value = values[i];
	u8 *field = p + MAGIC_BYTES;
	size_t byte;

	if (record_count == 0)
		return;
	if (which != 0)
		field = records[place / 48 % record_count].head + (which == 1 ? 0 : width);
	if (which == 3) /* what is left of the image, and some more or less */
		value = n - (size_t)(field - p) - width + i - 6;
	for (byte = 0; byte < width; byte++)
		field[byte] = (u8)(value >> 8 * byte);
}

enum what { REMOVED, CHANGED, PIPE, DIRECTORY };

/* Does something to everything in DEST; nothing is below it. */
static void change_files(enum what what)
{
	char path[PATH_BYTES];
	DIR *dir = opendir(DEST);
	struct dirent *found;

	while (dir != NULL && (found = readdir(dir)) != NULL) {
		int fd;

		if (strcmp(found->d_name, ".") == 0 || strcmp(found->d_name, "..") == 0)
			continue;
		sprintf(path, DEST "/%s", found->d_name);
		if (what == CHANGED) {
			fd = open(path, O_WRONLY | O_NONBLOCK);
			if (fd >= 0 && write(fd, "\xa5", 1) >= 0)
				close(fd);
			continue;
		}
		if (unlink(path) != 0)
			rmdir(path);
		if (what == PIPE)
			mkfifo(path, 0600);
		if (what == DIRECTORY)
			mkdir(path, 0700);
	}
	if (dir != NULL)
		closedir(dir);
}

/* Runs the program; gives its exit code. */
static int run_program(void)
{
	char *argv[9];
	int argc = 0, code, fd;

	argv[argc++] = "payload-import";
	if ((flags & PROBE) != 0) {
		argv[argc++] = "--probe";
		argv[argc++] = "image";
	} else {
		if ((flags & VERIFY) != 0)
			argv[argc++] = "--verify";
		if ((flags & LIST) != 0) {
			argv[argc++] = "--list";
			argv[argc++] = "list";
		}
		if ((flags & SEARCH) == 0) {
			argv[argc++] = "--device";
			argv[argc++] = "image";
		}
		argv[argc++] = DEST;
	}
	argv[argc] = NULL;

	/* As a program begins */
	memset(&options, 0, sizeof options);
	memset(sums_text, 0, sizeof sums_text);
	sums_end = sums_text;
	fiwix = 1;
	writing_part = 0;
	list_count = device_count = list_missing = 0;
	proc_misses = 0;
	code = setjmp(at_exit);
	code = code == 0 ? importer_main(argc, argv) : code - 1;
	for (fd = FIRST_FD; fd < LAST_FD; fd++)
		close(fd);
	demand(code >= 0 && code <= EXIT_PROC, "its exit code is one of those it names");
	demand(access(DEST "/" PART_NAME, F_OK) != 0, "no part file is left");
	demand(last_shown == '\n', "a message is a line");
	return code;
}

static unsigned u16_at(const u8 *p)
{
	return p[0] + p[1] * 256U;
}

static void run_case(const u8 *bytes, size_t n)
{
	static u8 image[1 << 20];
	size_t list_bytes, partition_bytes;

	if (n < HEAD_BYTES || n > sizeof image)
		return;
	flags = u16_at(bytes) + u16_at(bytes + 2) * 65536;
	place = u16_at(bytes + 4);
	list_bytes = u16_at(bytes + 6);
	partition_bytes = u16_at(bytes + 8);
	bytes += HEAD_BYTES;
	n -= HEAD_BYTES;
	list_bytes = list_bytes < n ? list_bytes : n;
	write_file("list", bytes, list_bytes);
	bytes += list_bytes;
	n -= list_bytes;
	partition_bytes = partition_bytes < n ? partition_bytes : n;
	write_file("partitions", bytes, partition_bytes);
	n -= partition_bytes;
	memcpy(image, bytes + partition_bytes, n);
	find_records(image, n);
	if ((flags & REPAIR) != 0)
		repair();
	if ((flags & EDIT) != 0)
		edit(image, n);
	write_file("image", image, n);
	if (place < n)
		image[place]++;
	write_file("other", image, n);
	run_program();
	if ((flags & AGAIN) != 0 && (flags & PROBE) == 0) {
		if ((flags & SPOILED) != 0)
			change_files((flags & PIPES) != 0 ? PIPE :
				(flags & DIRECTORIES) != 0 ? DIRECTORY : CHANGED);
		run_program();
	}
	change_files(REMOVED);
}

#ifdef __AFL_FUZZ_TESTCASE_LEN
__AFL_FUZZ_INIT();
#endif

int main(int argc, char **argv)
{
	int i;

	mkdir(DEST, 0755);
	write_file("linux", "Linux version", 13);
	write_file("fiwix", "Fiwix version", 13);
#ifdef __AFL_FUZZ_TESTCASE_LEN
	__AFL_INIT();
	if (argc == 1) {
		const u8 *input = __AFL_FUZZ_TESTCASE_BUF;

		while (__AFL_LOOP(10000))
			run_case(input, (size_t)__AFL_FUZZ_TESTCASE_LEN);
	}
#endif
	for (i = 1; i < argc; i++) {
		static u8 bytes[1 << 20];
		int fd = open(argv[i], O_RDONLY);
		ssize_t n = fd < 0 ? -1 : read(fd, bytes, sizeof bytes);

		if (n < 0) {
			perror(argv[i]);
			return 2;
		}
		close(fd);
		run_case(bytes, (size_t)n);
	}
	return 0;
}
