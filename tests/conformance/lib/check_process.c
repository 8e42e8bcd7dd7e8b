/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Checks in processes of their own: a device that crashes, hangs or ends the process fails one check.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "device_check.h"

#define VERDICT "check-device: " /* the child's last line, with the reason */
#define RESULT_STATUS 64 /* its exit status is this + enum check_result */
#define OUTPUT_MAX 65536

/* struct child - a check that runs, and what it said: the first OUTPUT_MAX bytes and the last. */
struct child {
	pid_t pid;
	int fd;
	char output[OUTPUT_MAX];
	size_t length;
	char last_line[CHECK_WHY_SIZE];
	size_t last_length;
};

static void verdict(const char *why)
{
	printf("\n" VERDICT "%s\n", why);
	fflush(stdout);
}

void check_process_fail(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));

void check_process_fail(const char *fmt, ...)
{
	char why[CHECK_WHY_SIZE];
	va_list args;

	va_start(args, fmt);
	vsnprintf(why, sizeof(why), fmt, args);
	va_end(args);
	verdict(why);
	_exit(RESULT_STATUS + CHECK_FAIL);
}

static void child_main(const struct device_check *check, const char *spec, int fd)
{
	const struct rlimit no_core = { 0, 0 };
	char why[CHECK_WHY_SIZE] = "";
	enum check_result result;

	setrlimit(RLIMIT_CORE, &no_core);
	dup2(fd, STDOUT_FILENO);
	dup2(fd, STDERR_FILENO);
	result = check ? device_check_run(check, spec, why) : device_check_start(spec, why);
	verdict(why);
	_exit(RESULT_STATUS + (int)result);
}

static int child_start(struct child *child, const struct device_check *check, const char *spec)
{
	int fds[2];

	if (pipe(fds))
		return -errno;
	fflush(NULL);
	child->pid = fork();
	if (!child->pid) {
		close(fds[0]);
		child_main(check, spec, fds[1]);
	}
	close(fds[1]);
	child->fd = fds[0];
	return child->pid < 0 ? -errno : 0;
}

static int milliseconds_left(const struct timespec *end)
{
	struct timespec now;
	long left;

	clock_gettime(CLOCK_MONOTONIC, &now);
	left = (end->tv_sec - now.tv_sec) * 1000 + (end->tv_nsec - now.tv_nsec) / 1000000;
	return left > 0 ? (int)left : 0;
}

/* Keep the start of the output; its last line too, however long the output is. */
static void child_said(struct child *child, const char *data, size_t length)
{
	size_t room = sizeof(child->output) - 1 - child->length;
	size_t kept = length < room ? length : room;

	memcpy(child->output + child->length, data, kept);
	child->length += kept;
	for (size_t i = 0; i < length; i++) {
		if (data[i] == '\n' && child->last_length)
			child->last_line[child->last_length] = '\0';
		if (data[i] == '\n')
			child->last_length = 0;
		else if (child->last_length < sizeof(child->last_line) - 1)
			child->last_line[child->last_length++] = data[i];
	}
}

/* Read until it closes its output; false if the time was over first. */
static bool child_listen(struct child *child, unsigned int seconds)
{
	struct pollfd poll_fd = { .fd = child->fd, .events = POLLIN };
	struct timespec end;
	char data[4096];
	ssize_t length;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += seconds;
	for (;;) {
		if (poll(&poll_fd, 1, milliseconds_left(&end)) <= 0) {
			if (!milliseconds_left(&end))
				return false;
			continue;
		}
		length = read(child->fd, data, sizeof(data));
		if (!length || (length < 0 && errno != EINTR))
			return true;
		if (length > 0)
			child_said(child, data, (size_t)length);
	}
}

/* What a sanitizer or the C library said before the end, or nothing. */
static void find_report(struct child *child, char *text, size_t size)
{
	static const char *const marks[] = { "ERROR: ", "runtime error: ", "malloc(): ", "free(): ",
					     "*** " };

	child->output[child->length] = '\0';
	text[0] = '\0';
	for (unsigned int i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
		const char *found = strstr(child->output, marks[i]);

		if (!found)
			continue;
		snprintf(text, size, ": %.*s", (int)strcspn(found, "\n"), found);
		return;
	}
}

static enum check_result child_result(struct child *child, int status, char *why)
{
	char report[200];
	int code = WIFEXITED(status) ? WEXITSTATUS(status) - RESULT_STATUS : -1;

	if (code >= CHECK_OK && code <= CHECK_NOT_APPLICABLE &&
	    !strncmp(child->last_line, VERDICT, strlen(VERDICT))) {
		snprintf(why, CHECK_WHY_SIZE, "%s", child->last_line + strlen(VERDICT));
		return (enum check_result)code;
	}
	find_report(child, report, sizeof(report));
	if (WIFSIGNALED(status))
		snprintf(why, CHECK_WHY_SIZE, "the device crashed: %s%s",
			 strsignal(WTERMSIG(status)), report);
	else
		snprintf(why, CHECK_WHY_SIZE, "the device ended the process with status %d%s",
			 WEXITSTATUS(status), report);
	return CHECK_FAIL;
}

enum check_result device_check_run_apart(const struct device_check *check, const char *spec,
					 unsigned int seconds, char *why)
{
	struct child *child = calloc(1, sizeof(*child));
	enum check_result result = CHECK_FAIL;
	bool ended;
	int status;

	if (!child || child_start(child, check, spec)) {
		snprintf(why, CHECK_WHY_SIZE, "cannot start a process: %s", strerror(errno));
		free(child);
		return result;
	}
	ended = child_listen(child, seconds);
	if (!ended)
		kill(child->pid, SIGKILL);
	waitpid(child->pid, &status, 0);
	close(child->fd);
	if (ended)
		result = child_result(child, status, why);
	else
		snprintf(why, CHECK_WHY_SIZE, "no end after %u seconds", seconds);
	free(child);
	return result;
}
