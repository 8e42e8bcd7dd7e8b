/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * System calls of a process, counted with the tracepoint raw_syscalls:sys_enter.
 */
#include "system_calls.h"

#include <dirent.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *const tracepoint_files[] = {
	"/sys/kernel/tracing/events/raw_syscalls/sys_enter/id",
	"/sys/kernel/debug/tracing/events/raw_syscalls/sys_enter/id",
};

static int tracepoint_id(uint64_t *id)
{
	int error = -ENOENT;

	for (unsigned int i = 0; i < sizeof(tracepoint_files) / sizeof(tracepoint_files[0]); i++) {
		FILE *file = fopen(tracepoint_files[i], "re");
		char line[32];
		char *read;

		if (!file) {
			error = -errno;
			continue;
		}
		read = fgets(line, sizeof(line), file);
		fclose(file);
		if (!read)
			return -EIO;
		*id = strtoull(line, NULL, 10);
		return 0;
	}
	return error;
}

int system_calls_open(struct system_calls *calls, pid_t pid)
{
	struct perf_event_attr event = { .size = sizeof(event), .type = PERF_TYPE_TRACEPOINT };
	char path[64];
	struct dirent *entry;
	uint64_t id = 0;
	DIR *threads;
	int error = tracepoint_id(&id);

	calls->count = 0;
	if (error)
		return error;
	event.config = id;
	event.inherit = 1;
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	threads = opendir(path);
	if (!threads)
		return -errno;
	while (!error && (entry = readdir(threads)) && calls->count < COUNTED_THREADS_MAX) {
		pid_t thread = atoi(entry->d_name);
		int fd;

		if (!thread)
			continue;
		fd = (int)syscall(SYS_perf_event_open, &event, thread, -1, -1,
				  PERF_FLAG_FD_CLOEXEC);
		if (fd < 0)
			error = -errno;
		else
			calls->fds[calls->count++] = fd;
	}
	closedir(threads);
	if (error)
		system_calls_close(calls);
	return error;
}

uint64_t system_calls_read(const struct system_calls *calls)
{
	uint64_t sum = 0, value;

	for (unsigned int i = 0; i < calls->count; i++)
		if (read(calls->fds[i], &value, sizeof(value)) == sizeof(value))
			sum += value;
	return sum;
}

void system_calls_close(struct system_calls *calls)
{
	while (calls->count)
		close(calls->fds[--calls->count]);
}
