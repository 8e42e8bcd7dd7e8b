/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * guest_memory.h: the guest's RAM as tenon sees it: a few memfd-backed regions mapped for the
 * life of the VM.
 */
#ifndef TENON_GUEST_MEMORY_H
#define TENON_GUEST_MEMORY_H

#include <sys/uio.h>

#include "log.h"
#include "util.h"

/** struct guest_memory_region - [@gpa, @gpa + @size) of the guest is @size bytes at @host. */
struct guest_memory_region {
	uint64_t gpa;
	uint64_t size;
	uint8_t *host;
	uint64_t fd_offset;
};

/** struct guest_memory - all regions, sorted by gpa; fixed once the VM runs. */
struct guest_memory {
	int fd;
	uint64_t total;
	unsigned int count;
	struct guest_memory_region regions[GUEST_MEMORY_REGIONS];
};

/**
 * guest_memory_create() - make the memfd and map it as the regions whose gpa and size the caller
 * filled in (@count of them).
 * @huge: use huge pages (MFD_HUGETLB)
 * Return: 0 or -errno after one line in @log.
 */
int guest_memory_create(struct logger *log, struct guest_memory *memory, bool huge) __must_check;

/** guest_memory_destroy() - unmap and close; harmless on one that was never created (fd -1). */
void guest_memory_destroy(struct guest_memory *memory);

/**
 * guest_memory_clear() - all zero again, as on a fresh start (guest reset).
 * @pinned: somebody holds its pages (hv_ops.memory_pinned), so they must stay; else they go back to
 *          the host
 */
void guest_memory_clear(struct guest_memory *memory, bool pinned);

/**
 * guest_memory_host() - host address of [@gpa, @gpa + @len) if the whole range lies in one region,
 * else NULL. @len 0 asks for a valid address only. Any thread, no lock.
 */
void *guest_memory_host(const struct guest_memory *memory, uint64_t gpa, uint64_t len);

/**
 * guest_memory_iov() - describe [@gpa, @gpa + @len) as up to @max iovecs, split at region borders.
 * Return: the number used, -EFAULT if any byte is not RAM, -EMSGSIZE if @max is too few.
 */
int guest_memory_iov(const struct guest_memory *memory, uint64_t gpa, uint64_t len,
		     struct iovec *iov, int max) __must_check;

/** guest_memory_write() - copy into the guest. 0 or -EFAULT, then nothing was written. */
int guest_memory_write(struct guest_memory *memory, uint64_t gpa, const void *from,
		       uint64_t len) __must_check;

#endif
