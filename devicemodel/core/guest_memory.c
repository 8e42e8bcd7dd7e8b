/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guest RAM: one memfd, mapped shared, seen by the guest as a few regions.
 */
#include "guest_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
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

int guest_memory_create(struct logger *log, struct guest_memory *memory, bool huge)
{
	uint64_t offset = 0;

	memory->total = 0;
	for (unsigned int i = 0; i < memory->count; i++)
		memory->total += memory->regions[i].size;
	memory->fd = memory_open(log, memory->total, huge);
	if (memory->fd < 0) {
		int error = memory->fd;

		memory->fd = -1;
		return error;
	}
	for (unsigned int i = 0; i < memory->count; i++) {
		struct guest_memory_region *region = &memory->regions[i];
		void *host =
			mmap(NULL, region->size, PROT_READ | PROT_WRITE,
			     MAP_SHARED | (huge ? 0 : MAP_NORESERVE), memory->fd, (off_t)offset);

		if (host == MAP_FAILED) {
			int error = -errno;

			log_error(log,
				  "guest memory: cannot map %llu MiB%s: %s (give less with -m%s)",
				  (unsigned long long)(region->size >> 20),
				  huge ? " of huge pages" : "", strerror(-error),
				  huge ? ", or reserve pages in /proc/sys/vm/nr_hugepages" : "");
			guest_memory_destroy(memory);
			return error;
		}
		madvise(host, region->size, MADV_DONTDUMP);
		region->host = host;
		region->fd_offset = offset;
		offset += region->size;
	}
	return 0;
}

void guest_memory_destroy(struct guest_memory *memory)
{
	if (memory->fd < 0)
		return;
	for (unsigned int i = 0; i < memory->count; i++) {
		if (memory->regions[i].host)
			munmap(memory->regions[i].host, memory->regions[i].size);
		memory->regions[i].host = NULL;
	}
	close(memory->fd);
	memory->fd = -1;
}

void guest_memory_clear(struct guest_memory *memory, bool pinned)
{
	for (unsigned int i = 0; i < memory->count; i++) {
		struct guest_memory_region *region = &memory->regions[i];

		/* A hole reads as zero and gives the pages back; memset() where there is no hole punching. */
		if (pinned || fallocate(memory->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					(off_t)region->fd_offset, (off_t)region->size) < 0)
			memset(region->host, 0, region->size);
	}
}

static const struct guest_memory_region *region_find(const struct guest_memory *memory,
						     uint64_t gpa)
{
	for (unsigned int i = 0; i < memory->count; i++) {
		const struct guest_memory_region *region = &memory->regions[i];

		if (gpa - region->gpa < region->size)
			return region;
	}
	return NULL;
}

void *guest_memory_host(const struct guest_memory *memory, uint64_t gpa, uint64_t len)
{
	const struct guest_memory_region *region = region_find(memory, gpa);

	if (!region || len > region->size - (gpa - region->gpa))
		return NULL;
	return region->host + (gpa - region->gpa);
}

int guest_memory_iov(const struct guest_memory *memory, uint64_t gpa, uint64_t len,
		     struct iovec *iov, int max)
{
	int count = 0;

	while (len) {
		const struct guest_memory_region *region = region_find(memory, gpa);
		uint64_t part;

		if (!region)
			return -EFAULT;
		if (count == max)
			return -EMSGSIZE;
		part = MIN(len, region->size - (gpa - region->gpa));
		iov[count].iov_base = region->host + (gpa - region->gpa);
		iov[count].iov_len = part;
		count++;
		gpa += part;
		len -= part;
	}
	return count;
}

int guest_memory_write(struct guest_memory *memory, uint64_t gpa, const void *from, uint64_t len)
{
	struct iovec iov[GUEST_MEMORY_REGIONS];
	int count = guest_memory_iov(memory, gpa, len, iov, GUEST_MEMORY_REGIONS);

	if (count < 0)
		return -EFAULT;
	for (int i = 0; i < count; i++) {
		memcpy(iov[i].iov_base, from, iov[i].iov_len);
		from = (const char *)from + iov[i].iov_len;
	}
	return 0;
}
