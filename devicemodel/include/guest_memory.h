/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * guest_memory.h: the guest's RAM as tenon sees it: a few memfd-backed regions mapped for the
 * life of the VM, or the regions that somebody else's VMM shares with us.
 */
#ifndef TENON_GUEST_MEMORY_H
#define TENON_GUEST_MEMORY_H

#include <sys/uio.h>

#include "log.h"
#include "util.h"

#define GUEST_MEMORY_SLOTS 512

/** struct guest_memory_map - a piece of a file of another process: @host points into @length bytes at @base. */
struct guest_memory_map {
	uint8_t *host;
	void *base;
	uint64_t length;
};

/**
 * struct guest_memory_region - [@gpa, @gpa + @size) of the guest is @size bytes at @host.
 * @fd_offset: in the memfd, of memory that we made
 * @user_addr: what another process that shares it calls @host (vhost-user), else 0
 * @map: what guest_memory_add() mapped
 */
struct guest_memory_region {
	uint64_t gpa;
	uint64_t size;
	uint8_t *host;
	uint64_t fd_offset;
	uint64_t user_addr;
	struct guest_memory_map map;
};

/**
 * struct guest_memory - all regions, sorted by gpa, none overlapping. Our own VM's are fixed once it
 * runs; those of somebody else's VMM change only while all devices that use them are quiesced.
 * @fd: of memory that we made, else -1
 * @private: set before guest_memory_create(): no other process will map it. Then it is anonymous and
 *           has no @fd: hosts give that transparent huge pages, and memfds mostly none
 * @generation: changes with the regions
 * @pins: how many hold its pages, which must stay then; atomic
 */
struct guest_memory {
	int fd;
	bool private;
	uint64_t total;
	unsigned int count;
	unsigned int generation;
	unsigned int pins;
	struct guest_memory_region regions[GUEST_MEMORY_SLOTS];
};

/**
 * guest_memory_create() - make the memfd and map it as the regions whose gpa and size the caller
 * filled in (@count of them). With @memory->private there is no memfd.
 * @huge: use huge pages (MFD_HUGETLB); it is a memfd then, private or not
 * Return: 0 or -errno after one line in @log.
 */
int guest_memory_create(struct logger *log, struct guest_memory *memory, bool huge) __must_check;

/** guest_memory_destroy() - unmap and close; harmless on one that was never created (fd -1). */
void guest_memory_destroy(struct guest_memory *memory);

/**
 * guest_memory_add() - map memory that another process made: @region's gpa, size and user_addr are
 * set; @fd (stays the caller's) has it at @offset. Refused: empty, wrapping, overlapping another (by gpa
 * or by user address), more than the file has (-EINVAL), no slot left (-ENOSPC).
 * The file may be truncated under us by its owner; who cannot bear SIGBUS seals it or asks for seals.
 * Return: 0 or -errno; logs nothing.
 */
int guest_memory_add(struct guest_memory *memory, const struct guest_memory_region *region, int fd,
		     uint64_t offset) __must_check;

/** guest_memory_remove() - unmap the region with the gpa, size and user_addr of @region. 0 or -ENOENT. */
int guest_memory_remove(struct guest_memory *memory,
			const struct guest_memory_region *region) __must_check;

/** guest_memory_remove_all() - unmap all that guest_memory_add() mapped. */
void guest_memory_remove_all(struct guest_memory *memory);

/** guest_memory_replace() - @memory, all of which was added, has the regions of @next, which has none then. */
void guest_memory_replace(struct guest_memory *memory, struct guest_memory *next);

/** guest_memory_from_user() - the gpa of [@user_addr, @user_addr + @len) if one region has it all, else UINT64_MAX. */
uint64_t guest_memory_from_user(const struct guest_memory *memory, uint64_t user_addr,
				uint64_t len);

/**
 * guest_memory_map() - map @size bytes at @offset of the regular file @fd, which stays the caller's, to be
 * read and written. 0; -EINVAL: the file does not have them, or is none; -errno.
 */
int guest_memory_map(int fd, uint64_t offset, uint64_t size,
		     struct guest_memory_map *map) __must_check;

/** guest_memory_unmap() - harmless on one that is not mapped. */
void guest_memory_unmap(struct guest_memory_map *map);

/**
 * guest_memory_clear() - all zero again, as on a fresh start (guest reset).
 * @pinned: somebody holds its pages (hv_ops.memory_pinned), so they must stay, as with @pins; else they
 *          go back to the host
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
