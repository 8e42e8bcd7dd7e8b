/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * eventfd.h: eventfds by which tenon's threads tell each other of events; they do not block. Any thread.
 */
#ifndef TENON_EVENTFD_H
#define TENON_EVENTFD_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

/** eventfd_signal() - add one to the count of @fd; a count that is full is signalled already. */
static inline void eventfd_signal(int fd)
{
	const uint64_t one = 1;

	while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/** eventfd_take() - set the count of @fd to 0. Return: was it anything else? If not, errno says why. */
static inline bool eventfd_take(int fd)
{
	uint64_t count;

	return read(fd, &count, sizeof(count)) == sizeof(count);
}

#endif
