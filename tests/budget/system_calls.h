/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * system_calls.h: how many system calls a process makes, counted by the kernel (a tracepoint and perf
 * counters), which does not slow it down as ptrace() does.
 */
#ifndef TENON_TESTS_SYSTEM_CALLS_H
#define TENON_TESTS_SYSTEM_CALLS_H

#include <stdint.h>
#include <sys/types.h>

#define COUNTED_THREADS_MAX 64

/* struct system_calls - a counter for each thread there was, and for those it starts. */
struct system_calls {
	int fds[COUNTED_THREADS_MAX];
	unsigned int count;
};

/* 0 or -errno: -EACCES, -ENOENT: the kernel does not tell, or not us. */
int system_calls_open(struct system_calls *calls, pid_t pid);
uint64_t system_calls_read(const struct system_calls *calls);
void system_calls_close(struct system_calls *calls);

#endif
