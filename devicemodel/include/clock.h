/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * clock.h: the host's time.
 */
#ifndef TENON_CLOCK_H
#define TENON_CLOCK_H

#include <stdint.h>
#include <time.h>

/** clock_ns() - nanoseconds of CLOCK_MONOTONIC. Any thread. */
static inline uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

#endif
