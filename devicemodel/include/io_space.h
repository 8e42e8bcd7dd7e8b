/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * io_space.h: who answers an address: the port space and the memory space of one VM.
 *
 * Ranges may overlap: the smaller one wins, between equals the one registered first. Handlers run
 * without any lock of the space, so a handler may add and remove other ranges.
 */
#ifndef TENON_IO_SPACE_H
#define TENON_IO_SPACE_H

#include <pthread.h>

#include "util.h"

/**
 * struct io_range_ops - what a range does. Called by any vCPU thread, several at once.
 * @read: the value of @size (1, 2, 4, 8) bytes at @offset into the range
 * @write: the same the other way; @value has no bits beyond @size
 */
struct io_range_ops {
	uint64_t (*read)(void *arg, uint64_t offset, unsigned int size);
	void (*write)(void *arg, uint64_t offset, unsigned int size, uint64_t value);
};

/** struct io_range - one registration; memory is the owner's, who fills the first five. */
struct io_range {
	const char *name;
	uint64_t base;
	uint64_t size;
	const struct io_range_ops *ops;
	void *arg;

	/* the space's own */
	bool registered;
	unsigned int users;
	uint64_t order;
};

struct io_segment {
	uint64_t base;
	uint64_t last;
	struct io_range *range;
};

/** struct io_space - the port or the memory space. */
struct io_space {
	pthread_mutex_t lock;
	pthread_cond_t idle;
	uint64_t next_order;
	unsigned int range_count, range_max;
	struct io_range **ranges;
	unsigned int segment_count, segment_max;
	struct io_segment *segments;
};

void io_space_init(struct io_space *space);
void io_space_deinit(struct io_space *space);

/** io_space_add() - from now on @range answers. 0, -EINVAL (size 0 or wrapping), -ENOMEM. Any thread. */
int io_space_add(struct io_space *space, struct io_range *range) __must_check;

/**
 * io_space_remove() - @range answers no more, and no thread is in its handler when this returns.
 * Must not be called from that handler, nor with a lock that the handler takes. Harmless if not added.
 */
void io_space_remove(struct io_space *space, struct io_range *range);

/**
 * io_space_read() / io_space_write() - one guest access of 1, 2, 4 or 8 bytes. Who owns its first
 * byte gets all of it, if it lies inside the range; so a 32-bit access to port 0xCF8 is PCI's, though
 * 0xCF9 is the reset port. What nobody owns reads as all ones and swallows writes; an access that
 * runs out of its range is split into bytes. Any thread.
 * Return (both): true if somebody owned the first byte.
 */
bool io_space_read(struct io_space *space, uint64_t addr, unsigned int size, uint64_t *value);
bool io_space_write(struct io_space *space, uint64_t addr, unsigned int size, uint64_t value);

#endif
