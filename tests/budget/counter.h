/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * counter.h: what a process that was started with counter.so counts, in a file that others can map.
 */
#ifndef TENON_TESTS_COUNTER_H
#define TENON_TESTS_COUNTER_H

#include <stdint.h>

#define COUNTER_VARIABLE                                                                           \
	"TENON_COUNTER" /* environment: path of the file, of sizeof(struct counters) */

/*
 * struct counters
 * @started: counter.so is there; @allocations: malloc(), free() and their kin, of any thread
 * @locks: mutexes and rwlocks taken, also those taken again behind a condition variable
 */
struct counters {
	uint64_t started;
	uint64_t allocations;
	uint64_t locks;
};

#endif
