/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * launch: how long a program takes from fork() until TEXT is on its standard output, where the serial
 * port of its guest is.
 * usage: launch TEXT COMMAND [ARGUMENT]...
 *
 * Prints "PID NANOSECONDS" and keeps the program until standard input ends, so that somebody can look
 * at it. In C, since an interpreter's own start would be seen in the figures.
 * usage: launch --tsc: prints the frequency of this machine's TSC in Hz, which guests measure with.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_MS 40000
#define TSC_NS 200000000

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

#ifdef __x86_64__
static uint64_t tsc(void)
{
	return __builtin_ia32_rdtsc();
}
#else
static uint64_t tsc(void)
{
	return now_ns();
}
#endif

static int print_tsc(void)
{
	uint64_t start_ns = now_ns(), start = tsc(), taken_ns;

	do
		taken_ns = now_ns() - start_ns;
	while (taken_ns < TSC_NS);
	printf("%.0f\n", (double)(tsc() - start) * 1e9 / (double)taken_ns);
	return 0;
}

static void run_child(char **argv, int output)
{
	int null = open("/dev/null", O_RDWR);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setpgid(0, 0);
	dup2(null, STDIN_FILENO);
	dup2(output, STDOUT_FILENO);
	execvp(argv[0], argv);
	perror(argv[0]);
	_exit(127);
}

/* Read until @text has come; a byte that does not fit may be its first. */
static int wait_text(int fd, const char *text)
{
	struct pollfd poller = { .fd = fd, .events = POLLIN };
	size_t matched = 0;
	char byte;

	while (poll(&poller, 1, PATIENCE_MS) > 0 && read(fd, &byte, 1) == 1) {
		if (byte != text[matched])
			matched = 0;
		if (byte == text[matched] && !text[++matched])
			return 0;
	}
	return -1;
}

int main(int argc, char **argv)
{
	uint64_t start;
	int pipe_fds[2];
	char rest[256];
	pid_t pid;

	if (argc == 2 && !strcmp(argv[1], "--tsc"))
		return print_tsc();
	if (argc < 3 || !argv[1][0] || pipe2(pipe_fds, O_CLOEXEC)) {
		fprintf(stderr, "usage: launch TEXT COMMAND [ARGUMENT]... | --tsc\n");
		return 2;
	}
	start = now_ns();
	pid = fork();
	if (pid < 0) {
		perror("launch: fork");
		return 1;
	}
	if (!pid)
		run_child(argv + 2, pipe_fds[1]);
	setpgid(pid, pid); /* whoever is first */
	close(pipe_fds[1]);
	if (wait_text(pipe_fds[0], argv[1])) {
		fprintf(stderr, "launch: %s: its guest did not say %s\n", argv[2], argv[1]);
		kill(-pid, SIGKILL);
		return 1;
	}
	printf("%d %llu\n", (int)pid, (unsigned long long)(now_ns() - start));
	fflush(stdout);
	while (read(STDIN_FILENO, rest, sizeof(rest)) > 0)
		;
	kill(-pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return 0;
}
