/* SPDX-License-Identifier: MIT */
/*
 * The first program of a bootstrap, in tests of its start: it tells where it finds itself, and does
 * there what a bootstrap does. Each line of its output is a word, and what is to be told. Its exit
 * code is the number in /exit-code, or 99 where something does not work, which is then told on
 * standard error. Where there is a file /linger, it stays until it is killed, and where there is a
 * file /silent, it does not tell that its last step is built. Where there is a directory /passes, it
 * plays a pass of several, see play_pass().
 */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void must(int works, const char *what)
{
	if (works)
		return;
	fprintf(stderr, "seed: %s: %s\n", what, strerror(errno));
	exit(99);
}

static void write_file(const char *path)
{
	FILE *file = fopen(path, "w");

	must(file != NULL, path);
	must(fputs("from inside\n", file) >= 0 && fclose(file) == 0, path);
}

static void tell_directory(const char *word, const char *path)
{
	struct stat found;

	must(stat(path, &found) == 0, path);
	printf("%s %lu:%lu\n", word, (unsigned long)found.st_dev, (unsigned long)found.st_ino);
}

static void stay(void)
{
	for (;;)
		pause();
}

/*
 * Stays, with a child and a daemon that heed no signal, as a step of a bootstrap may leave them. The
 * word in the file becomes the first word of their command line, by which they are found. The
 * environment follows that: Linux reads on there where the word is longer than the name was.
 */
static void linger(FILE *file, char *name)
{
	char word[64];
	char **variable;
	char *last = name;
	pid_t pid;

	must(fscanf(file, "%63s", word) == 1, "/linger");
	for (variable = environ; *variable != NULL; variable++)
		last = *variable + strlen(*variable);
	must(last > name && strlen(word) < (size_t)(last - name), "/linger");
	memset(name, 0, last - name);
	strcpy(name, word);
	fflush(stdout);
	pid = fork();
	must(pid >= 0, "fork");
	if (pid == 0) {
		signal(SIGTERM, SIG_IGN);
		stay();
	}
	pid = fork();
	must(pid >= 0, "fork");
	if (pid == 0) {
		must(setsid() > 0, "setsid");
		signal(SIGHUP, SIG_IGN);
		signal(SIGINT, SIG_IGN);
		signal(SIGTERM, SIG_IGN);
		pid = fork();
		must(pid >= 0, "fork");
		if (pid > 0)
			_exit(0);
		fclose(stdin);
		fclose(stdout);
		fclose(stderr);
		stay();
	}
	must(waitpid(pid, NULL, 0) == pid, "waitpid");
	printf("lingers now\n");
	fflush(stdout);
	stay();
}

static void copy_file(const char *from, const char *to)
{
	char buffer[65536];
	size_t length;
	FILE *in = fopen(from, "r");
	FILE *out = fopen(to, "w");

	must(in != NULL, from);
	must(out != NULL, to);
	while ((length = fread(buffer, 1, sizeof(buffer), in)) > 0)
		must(fwrite(buffer, 1, length, out) == length, to);
	must(!ferror(in) && fclose(in) == 0 && fclose(out) == 0, to);
	must(chmod(to, 0755) == 0, to);
}

/*
 * Tells which distfiles there are, with their sizes, and the passes before this one. Then it leaves
 * what a bootstrap may leave: no distfile but a cut one, one that is a link, one that it has made;
 * other variables, and an /init, which is itself.
 */
static void play_pass(const char *name)
{
	char line[512];
	char path[512];
	struct dirent *entry;
	struct stat found;
	FILE *file;
	DIR *dir;
	int count = 0;

	dir = opendir("/external/distfiles");
	must(dir != NULL, "/external/distfiles");
	while ((entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/external/distfiles/%s", entry->d_name);
		must(lstat(path, &found) == 0, path);
		printf("distfile %s %s %ld\n", entry->d_name,
			S_ISREG(found.st_mode) ? "file" : "other", (long)found.st_size);
		must(unlink(path) == 0, path);
		if (count == 0)
			must(symlink("/passes/link", path) == 0, path);
		else if (count == 1)
			write_file(path);
		count++;
	}
	closedir(dir);
	write_file("/external/distfiles/made-there");
	file = fopen("/steps/bootstrap.cfg", "a+");
	must(file != NULL, "/steps/bootstrap.cfg");
	while (fgets(line, sizeof(line), file) != NULL)
		if (strncmp(line, "INTERNAL_CI=", 12) == 0 || strncmp(line, "LEFT=", 5) == 0)
			printf("config %s", line);
	fprintf(file, "LEFT=%s\n", name);
	must(fclose(file) == 0, "/steps/bootstrap.cfg");
	printf("link %s\n", access("/passes/link", F_OK) == 0 ? "written" : "untouched");
	if (strcmp(name, "/init") != 0)
		copy_file("/proc/self/exe", "/init");
}

int main(int argc, char **argv)
{
	char text[4096];
	char **variable;
	ssize_t length;
	FILE *file;
	int i, code;

	for (i = 0; i < argc; i++)
		printf("argument %s\n", argv[i]);
	for (variable = environ; *variable != NULL; variable++)
		printf("environment %s\n", *variable);
	printf("user %d %d\n", (int)getuid(), (int)geteuid());
	printf("group %d %d\n", (int)getgid(), (int)getegid());
	must(getcwd(text, sizeof(text)) != NULL, "getcwd");
	printf("working-directory %s\n", text);
	tell_directory("root", "/");
	tell_directory("above-root", "/..");
	write_file("/written-inside");

	if (access("/dev/null", F_OK) == 0) {
		/* A sandbox: its devices and file systems are there. */
		write_file("/dev/null");
		write_file("/dev/shm/file");
		write_file("/tmp/file");
		length = readlink("/proc/self/ns/net", text, sizeof(text));
		must(length > 0, "/proc/self/ns/net");
		printf("network %.*s\n", (int)length, text);
	} else {
		/* As a bootstrap does it in chroot, which leaves that mounted. */
		must(mkdir("/proc", 0755) == 0, "mkdir /proc");
		must(mount("proc", "/proc", "proc", 0, NULL) == 0, "mount /proc");
		must(access("/proc/self/exe", F_OK) == 0, "/proc/self/exe");
	}

	if (access("/passes", F_OK) == 0)
		play_pass(argv[0]);

	file = fopen("/linger", "r");
	if (file != NULL)
		linger(file, argv[0]);
	file = fopen("/exit-code", "r");
	must(file != NULL && fscanf(file, "%d", &code) == 1, "/exit-code");
	/* As a bootstrap does when its last step is built */
	if (code == 0 && access("/silent", F_OK) != 0)
		puts("alpha-1.0: build successful");
	/* What is printed right before the end podman may lose on a terminal. */
	if (isatty(1)) {
		fflush(stdout);
		usleep(500000);
	}
	return code;
}
