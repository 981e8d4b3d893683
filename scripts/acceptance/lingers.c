/* SPDX-License-Identifier: MIT */
/*
 * The first program of a bootstrap that leaves a daemon: it works for a while, and ends with 0.
 */
#include <stdio.h>
#include <unistd.h>

int main(void)
{
	if (fork() == 0) {
		setsid();
		sleep(600);
		return 0;
	}
	puts("at work");
	fflush(stdout);
	usleep(300 * 1000);
	return 0;
}
