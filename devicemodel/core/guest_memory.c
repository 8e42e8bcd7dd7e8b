/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guest RAM: one memfd of ours, mapped shared, or anonymous memory, seen by the guest as a few
 * regions; or many regions that another process made and shares with us.
 */
#include "guest_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

static int memory_open(struct logger *log, uint64_t size, bool huge)
{
	unsigned int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING | (huge ? MFD_HUGETLB : 0);
	int fd = memfd_create("tenon-guest-ram", flags);

	if (fd < 0) {
		log_error(log, "guest memory: cannot create a memfd%s: %s",
			  huge ? " of huge pages (is hugetlbfs in the kernel?)" : "",
			  strerror(errno));
		return -errno;
	}
	if (ftruncate(fd, (off_t)size) < 0) {
		int error = -errno;

		log_error(log, "guest memory: cannot size it to %llu MiB: %s",
			  (unsigned long long)(size >> 20), strerror(-error));
		close(fd);
		return error;
	}
	/* Whoever is handed the fd must not be able to make our mapping fault. */
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		log_debug(log, "guest memory: cannot seal the memfd: %s", strerror(errno));
	return fd;
}

/* Nothing is allocated yet: pages come as they are used, huge ones where the host has them. */
static void *region_map(const struct guest_memory *memory, const struct guest_memory_region *region,
			bool huge)
{
	int flags = MAP_SHARED | (huge ? 0 : MAP_NORESERVE);
	void *host;

	if (memory->private)
		flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	host = mmap(NULL, region->size, PROT_READ | PROT_WRITE, flags, memory->fd,
		    (off_t)region->fd_offset);
	if (host == MAP_FAILED)
		return NULL;
	if (memory->private)
		madvise(host, region->size, MADV_HUGEPAGE);
	madvise(host, region->size, MADV_DONTDUMP);
	return host;
}

static int memory_map(struct logger *log, struct guest_memory *memory, bool huge)
{
	uint64_t offset = 0;

	for (unsigned int i = 0; i < memory->count; i++) {
		struct guest_memory_region *region = &memory->regions[i];

		region->fd_offset = memory->private ? 0 : offset;
		region->host = region_map(memory, region, huge);
		if (!region->host) {
			int error = -errno;

			log_error(log,
				  "guest memory: cannot map %llu MiB%s: %s (give less with -m%s)",
				  (unsigned long long)(region->size >> 20),
				  huge ? " of huge pages" : "", strerror(-error),
				  huge ? ", or reserve pages in /proc/sys/vm/nr_hugepages" : "");
			return error;
		}
		offset += region->size;
	}
	return 0;
}

int guest_memory_create(struct logger *log, struct guest_memory *memory, bool huge)
{
	int error;

	memory->total = 0;
	for (unsigned int i = 0; i < memory->count; i++)
		memory->total += memory->regions[i].size;
	memory->private &= !huge;
	memory->fd = memory->private ? -1 : memory_open(log, memory->total, huge);
	if (memory->fd < 0 && !memory->private) {
		error = memory->fd;
		memory->fd = -1;
		return error;
	}
	error = memory_map(log, memory, huge);
	if (error)
		guest_memory_destroy(memory);
	return error;
}

void guest_memory_destroy(struct guest_memory *memory)
{
	if (memory->fd < 0 && !memory->private)
		return;
	for (unsigned int i = 0; i < memory->count; i++) {
		if (memory->regions[i].host)
			munmap(memory->regions[i].host, memory->regions[i].size);
		memory->regions[i].host = NULL;
	}
	if (memory->fd >= 0)
		close(memory->fd);
	memory->fd = -1;
}

/* A hole reads as zero and gives the pages back. */
static bool region_punch(const struct guest_memory *memory,
			 const struct guest_memory_region *region)
{
	if (memory->private)
		return !madvise(region->host, region->size, MADV_DONTNEED);
	return !fallocate(memory->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  (off_t)region->fd_offset, (off_t)region->size);
}

void guest_memory_clear(struct guest_memory *memory, bool pinned)
{
	pinned |= __atomic_load_n(&memory->pins, __ATOMIC_RELAXED) != 0;
	for (unsigned int i = 0; i < memory->count; i++) {
		struct guest_memory_region *region = &memory->regions[i];

		if (pinned || !region_punch(memory, region))
			memset(region->host, 0, region->size);
	}
}

/* ---- Memory of another process ---- */

#define PAGE KIB(4)

/* Pages of the file are mapped as a whole; those of hugetlbfs are large. */
static uint64_t file_page_size(int fd, const struct stat *stat)
{
	struct statfs fs;

	if (!fstatfs(fd, &fs) && fs.f_type == HUGETLBFS_MAGIC)
		return (uint64_t)stat->st_blksize;
	return PAGE;
}

int guest_memory_map(int fd, uint64_t offset, uint64_t size, struct guest_memory_map *map)
{
	uint64_t page, start;
	struct stat stat;

	*map = (struct guest_memory_map) { 0 };
	if (fstat(fd, &stat) < 0)
		return -errno;
	if (!S_ISREG(stat.st_mode) || !size ||
	    !range_contains(0, (uint64_t)stat.st_size, offset, size))
		return -EINVAL;
	page = file_page_size(fd, &stat);
	start = offset & ~(page - 1);
	map->length = align_up(offset + size - start, page);
	map->base = mmap(NULL, map->length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
			 (off_t)start);
	if (map->base == MAP_FAILED) {
		map->base = NULL;
		return -errno;
	}
	madvise(map->base, map->length, MADV_DONTDUMP);
	map->host = (uint8_t *)map->base + (offset - start);
	return 0;
}

void guest_memory_unmap(struct guest_memory_map *map)
{
	if (map->base)
		munmap(map->base, map->length);
	*map = (struct guest_memory_map) { 0 };
}

static bool ranges_overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
	return a - b < b_size || b - a < a_size;
}

/* Empty, beyond the end of an address space, or in the way of another? */
static bool region_fits(const struct guest_memory *memory, const struct guest_memory_region *region)
{
	uint64_t size = region->size;

	if (!size || region->gpa > UINT64_MAX - (size - 1) ||
	    region->user_addr > UINT64_MAX - (size - 1))
		return false;
	for (unsigned int i = 0; i < memory->count; i++) {
		const struct guest_memory_region *other = &memory->regions[i];

		if (ranges_overlap(region->gpa, size, other->gpa, other->size) ||
		    ranges_overlap(region->user_addr, size, other->user_addr, other->size))
			return false;
	}
	return true;
}

/* Keep them sorted by gpa. */
static void region_insert(struct guest_memory *memory, const struct guest_memory_region *region)
{
	unsigned int at = memory->count;

	while (at && memory->regions[at - 1].gpa > region->gpa)
		at--;
	memmove(&memory->regions[at + 1], &memory->regions[at],
		(memory->count - at) * sizeof(*region));
	memory->regions[at] = *region;
	memory->count++;
	memory->total += region->size;
	memory->generation++;
}

int guest_memory_add(struct guest_memory *memory, const struct guest_memory_region *region, int fd,
		     uint64_t offset)
{
	struct guest_memory_region added = { .gpa = region->gpa,
					     .size = region->size,
					     .user_addr = region->user_addr };
	int error;

	if (!region_fits(memory, region))
		return -EINVAL;
	if (memory->count == GUEST_MEMORY_SLOTS)
		return -ENOSPC;
	error = guest_memory_map(fd, offset, region->size, &added.map);
	if (error)
		return error;
	added.host = added.map.host;
	region_insert(memory, &added);
	return 0;
}

static void region_drop(struct guest_memory *memory, unsigned int index)
{
	struct guest_memory_region *region = &memory->regions[index];

	memory->total -= region->size;
	guest_memory_unmap(&region->map);
	memory->count--;
	memory->generation++;
	memmove(region, region + 1, (memory->count - index) * sizeof(*region));
}

int guest_memory_remove(struct guest_memory *memory, const struct guest_memory_region *region)
{
	for (unsigned int i = 0; i < memory->count; i++) {
		const struct guest_memory_region *have = &memory->regions[i];

		if (!have->map.base || have->gpa != region->gpa || have->size != region->size ||
		    have->user_addr != region->user_addr)
			continue;
		region_drop(memory, i);
		return 0;
	}
	return -ENOENT;
}

void guest_memory_remove_all(struct guest_memory *memory)
{
	for (unsigned int i = memory->count; i--;)
		if (memory->regions[i].map.base)
			region_drop(memory, i);
}

void guest_memory_replace(struct guest_memory *memory, struct guest_memory *next)
{
	guest_memory_remove_all(memory);
	memcpy(memory->regions, next->regions, next->count * sizeof(next->regions[0]));
	memory->count = next->count;
	memory->total = next->total;
	memory->generation++;
	next->count = 0;
	next->total = 0;
}

uint64_t guest_memory_from_user(const struct guest_memory *memory, uint64_t user_addr, uint64_t len)
{
	for (unsigned int i = 0; i < memory->count; i++) {
		const struct guest_memory_region *region = &memory->regions[i];

		if (region->map.base &&
		    range_contains(region->user_addr, region->size, user_addr, len) &&
		    user_addr - region->user_addr < region->size)
			return region->gpa + (user_addr - region->user_addr);
	}
	return UINT64_MAX;
}

/* ---- Looking things up ---- */

/* The last region that begins at or below @gpa, if it has it. */
static const struct guest_memory_region *region_find(const struct guest_memory *memory,
						     uint64_t gpa)
{
	const struct guest_memory_region *first = memory->regions;
	unsigned int count = memory->count;

	while (count > 1) {
		unsigned int half = count / 2;

		if (first[half].gpa <= gpa)
			first += half;
		count -= half;
	}
	return count && gpa - first->gpa < first->size ? first : NULL;
}

void *guest_memory_host(const struct guest_memory *memory, uint64_t gpa, uint64_t len)
{
	const struct guest_memory_region *region = region_find(memory, gpa);

	if (!region || len > region->size - (gpa - region->gpa))
		return NULL;
	return region->host + (gpa - region->gpa);
}

/* What of [@gpa, @gpa + @len) lies in one piece from @gpa on. False: @gpa is no RAM. */
static bool piece_find(const struct guest_memory *memory, uint64_t gpa, uint64_t len,
		       struct iovec *piece)
{
	const struct guest_memory_region *region = region_find(memory, gpa);

	if (!region)
		return false;
	piece->iov_base = region->host + (gpa - region->gpa);
	piece->iov_len = MIN(len, region->size - (gpa - region->gpa));
	return true;
}

int guest_memory_iov(const struct guest_memory *memory, uint64_t gpa, uint64_t len,
		     struct iovec *iov, int max)
{
	struct iovec piece;
	int count = 0;

	for (; len; gpa += piece.iov_len, len -= piece.iov_len) {
		if (!piece_find(memory, gpa, len, &piece))
			return -EFAULT;
		if (count == max)
			return -EMSGSIZE;
		iov[count++] = piece;
	}
	return count;
}

static bool range_is_ram(const struct guest_memory *memory, uint64_t gpa, uint64_t len)
{
	struct iovec piece;

	for (; len; gpa += piece.iov_len, len -= piece.iov_len)
		if (!piece_find(memory, gpa, len, &piece))
			return false;
	return true;
}

int guest_memory_write(struct guest_memory *memory, uint64_t gpa, const void *from, uint64_t len)
{
	struct iovec piece;

	if (!range_is_ram(memory, gpa, len))
		return -EFAULT;
	for (; len && piece_find(memory, gpa, len, &piece);
	     gpa += piece.iov_len, len -= piece.iov_len) {
		memcpy(piece.iov_base, from, piece.iov_len);
		from = (const char *)from + piece.iov_len;
	}
	return 0;
}
