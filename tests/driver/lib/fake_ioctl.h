/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fake_ioctl.h: an ioctl() in place of libc's, for the whole test program.
 */
#ifndef TENON_TESTS_FAKE_IOCTL_H
#define TENON_TESTS_FAKE_IOCTL_H

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FAKE_NOT_OURS INT_MIN

/* @call(fd, request, arg): what ioctl() returns, or -errno, or FAKE_NOT_OURS: that is for the kernel. */
#define FAKE_IOCTL(call)                                                                           \
	int ioctl(int fd, unsigned long request, ...)                                              \
	{                                                                                          \
		va_list args;                                                                      \
		void *arg;                                                                         \
		int result;                                                                        \
                                                                                                   \
		va_start(args, request);                                                           \
		arg = va_arg(args, void *);                                                        \
		va_end(args);                                                                      \
		result = call(fd, request, arg);                                                   \
		if (result == FAKE_NOT_OURS)                                                       \
			return (int)syscall(SYS_ioctl, fd, request, arg);                          \
		if (result >= 0)                                                                   \
			return result;                                                             \
		errno = -result;                                                                   \
		return -1;                                                                         \
	}                                                                                          \
	static_assert(true, "a semicolon follows")

#endif
