/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * main.c: runs the hsmd tests, each in a process of its own: what one leaves behind is hsmd's to
 * clean up. Prints "ok NAME" or "FAIL NAME", and "N passed, M failed".
 *
 * hsmd_client [--device PATH] [--hsmd PID --log FILE] [TEST...]
 * With hsmd's process id and log the tests for leaks run too.
 * hsmd_client --time ROUNDS: how long the round trip of a port access takes.
 */
#include "client.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TEST_SECONDS 120

const char *device_path = "/dev/acrn_hsm";
pid_t hsmd_pid;
const char *hsmd_log;

static const struct test *const groups[] = { io_tests, call_tests, event_tests, stuck_tests,
					     life_tests };

void test_fail(const char *file, int line, const char *what, long long got, long long want)
{
	printf("# %s:%d: %s: got %lld (0x%llx), want %lld (0x%llx)\n", file, line, what, got,
	       (unsigned long long)got, want, (unsigned long long)want);
	fflush(stdout);
	_exit(1);
}

/* No SIGALRM: tests use it. */
static bool finished_in_time(pid_t child, int *status)
{
	for (unsigned int i = 0; i < TEST_SECONDS * 50; i++) {
		if (waitpid(child, status, WNOHANG) == child)
			return true;
		wait_ms(20);
	}
	kill(child, SIGKILL);
	waitpid(child, status, 0);
	return false;
}

static bool run(const struct test *test)
{
	int status = 1;
	bool in_time;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (!child) {
		test->run();
		fflush(stdout);
		_exit(0);
	}
	in_time = child > 0 && finished_in_time(child, &status);
	if (in_time && !status) {
		printf("ok %s\n", test->name);
		return true;
	}
	if (!in_time)
		printf("# no end after %d s\n", TEST_SECONDS);
	else if (WIFSIGNALED(status))
		printf("# signal %d\n", WTERMSIG(status));
	printf("FAIL %s\n", test->name);
	return false;
}

static int measure(unsigned int rounds)
{
	struct timespec start, end;
	struct machine machine;
	struct access access;
	double seconds;

	machine_boot(&machine, PROGRAM(loop), REAL_MODE);
	machine_next(&machine, NULL, &access);
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (unsigned int i = 0; i < rounds; i++)
		machine_next(&machine, NULL, &access);
	clock_gettime(CLOCK_MONOTONIC, &end);
	seconds = (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9;
	printf("%u round trips, %.1f us each\n", rounds, seconds / rounds * 1e6);
	machine_close(&machine);
	return EXIT_SUCCESS;
}

static bool wanted(const char *name, char **names)
{
	bool found = !*names;

	for (; *names; names++)
		found = found || !strcmp(*names, name);
	return found;
}

int main(int argc, char **argv)
{
	unsigned int passed = 0, failed = 0;
	char **names = argv + 1;

	for (; names[0] && names[1] && !strncmp(names[0], "--", 2); names += 2) {
		if (!strcmp(names[0], "--device"))
			device_path = names[1];
		else if (!strcmp(names[0], "--hsmd"))
			hsmd_pid = atoi(names[1]);
		else if (!strcmp(names[0], "--log"))
			hsmd_log = names[1];
		else if (!strcmp(names[0], "--time"))
			return measure((unsigned int)atoi(names[1]));
	}
	for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
		for (const struct test *test = groups[i]; test->name; test++) {
			if (!wanted(test->name, names))
				continue;
			if (run(test))
				passed++;
			else
				failed++;
		}
	}
	printf("%u passed, %u failed\n", passed, failed);
	return failed || !passed ? EXIT_FAILURE : EXIT_SUCCESS;
}
