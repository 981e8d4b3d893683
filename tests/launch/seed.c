/* SPDX-License-Identifier: MIT */
/*
 * The first program of a bootstrap, in tests of its start: it tells where it finds itself, and does
 * there what a bootstrap does. Each line of its output is a word, and what is to be told. Its exit
 * code is the number in /exit-code, or 99 where something does not work, which is then told on
 * standard error. Where there is a file /linger, it stays until it is killed.
 */
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
 * word in the file becomes the first word of their command line, by which they are found.
 */
static void linger(FILE *file, char *name)
{
	char word[64];
	pid_t pid;

	must(fscanf(file, "%63s", word) == 1 && strlen(word) <= strlen(name), "/linger");
	memset(name, 0, strlen(name));
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

	file = fopen("/linger", "r");
	if (file != NULL)
		linger(file, argv[0]);
	file = fopen("/exit-code", "r");
	must(file != NULL && fscanf(file, "%d", &code) == 1, "/exit-code");
	/* As a bootstrap does when its last step is built */
	if (code == 0)
		puts("alpha-1.0: build successful");
	/* What is printed right before the end podman may lose on a terminal. */
	if (isatty(1)) {
		fflush(stdout);
		usleep(500000);
	}
	return code;
}
