/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Unit tests of guest_memory.h: regions, their borders, and ranges that lie across or outside; memory
 * that somebody else shares.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "captured_log.h"
#include "guest_memory.h"

/* Two regions that touch, a hole, and one above 4 GiB, like a PC's. */
#define LOW UINT64_C(0)
#define LOW_SIZE MIB(1)
#define NEXT (LOW + LOW_SIZE)
#define NEXT_SIZE KIB(64)
#define NEXT_END (NEXT + NEXT_SIZE)
#define HIGH GIB(4)
#define HIGH_SIZE MIB(2)
#define HIGH_END (HIGH + HIGH_SIZE)

struct fixture {
	struct captured_log captured;
	struct guest_memory memory;
};

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct guest_memory *memory;

	if (!fixture)
		return -1;
	captured_log_init(&fixture->captured);
	memory = &fixture->memory;
	memory->fd = -1;
	memory->count = 3;
	memory->regions[0] = (struct guest_memory_region) { .gpa = LOW, .size = LOW_SIZE };
	memory->regions[1] = (struct guest_memory_region) { .gpa = NEXT, .size = NEXT_SIZE };
	memory->regions[2] = (struct guest_memory_region) { .gpa = HIGH, .size = HIGH_SIZE };
	*state = fixture;
	return guest_memory_create(&fixture->captured.log, memory, false);
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	guest_memory_destroy(&fixture->memory);
	captured_log_deinit(&fixture->captured);
	free(fixture);
	return 0;
}

static void test_create(void **state)
{
	struct fixture *fixture = *state;
	struct guest_memory *memory = &fixture->memory;
	struct stat stat;

	assert_true(memory->fd >= 0);
	assert_int_equal(memory->total, LOW_SIZE + NEXT_SIZE + HIGH_SIZE);
	assert_int_equal(fstat(memory->fd, &stat), 0);
	assert_int_equal(stat.st_size, memory->total);
	for (unsigned int i = 0; i < memory->count; i++)
		assert_non_null(memory->regions[i].host);
	assert_int_equal(fixture->captured.count, 0);
}

/* Without a memfd: zeroes at first and after clear, whatever holds its pages. */
static void test_private(void **state)
{
	struct fixture *fixture = *state;
	struct guest_memory memory = { .fd = -1, .private = true, .count = 2 };

	memory.regions[0] = (struct guest_memory_region) { .gpa = 0, .size = 4 << 20 };
	memory.regions[1] = (struct guest_memory_region) { .gpa = 8 << 20, .size = 1 << 20 };
	assert_int_equal(guest_memory_create(&fixture->captured.log, &memory, false), 0);
	assert_int_equal(memory.fd, -1);
	assert_int_equal(memory.total, 5 << 20);
	for (unsigned int pins = 0; pins < 2; pins++) {
		uint8_t *host = guest_memory_host(&memory, (8 << 20) + 4096, 1);

		assert_non_null(host);
		assert_int_equal(*host, 0);
		*host = 0xa5;
		memory.regions[0].host[0] = 0xa5;
		memory.pins = pins;
		guest_memory_clear(&memory, false);
		assert_int_equal(*host, 0);
		assert_int_equal(memory.regions[0].host[0], 0);
	}
	guest_memory_destroy(&memory);
	assert_null(memory.regions[0].host);
	assert_int_equal(fixture->captured.count, 0);
}

/* What tenon writes is what somebody who maps the memfd (vhost, a device process) sees. */
static void test_regions_are_the_memfd(void **state)
{
	struct fixture *fixture = *state;
	struct guest_memory *memory = &fixture->memory;

	for (unsigned int i = 0; i < memory->count; i++) {
		struct guest_memory_region *region = &memory->regions[i];
		uint8_t *shared = mmap(NULL, region->size, PROT_READ, MAP_SHARED, memory->fd,
				       (off_t)region->fd_offset);

		assert_ptr_not_equal(shared, MAP_FAILED);
		region->host[0] = (uint8_t)(0x10 + i);
		region->host[region->size - 1] = (uint8_t)(0x20 + i);
		assert_int_equal(shared[0], 0x10 + i);
		assert_int_equal(shared[region->size - 1], 0x20 + i);
		munmap(shared, region->size);
	}
}

static void test_starts_as_zero(void **state)
{
	struct fixture *fixture = *state;

	for (unsigned int i = 0; i < fixture->memory.count; i++) {
		const struct guest_memory_region *region = &fixture->memory.regions[i];

		for (uint64_t at = 0; at < region->size; at += 4096)
			assert_int_equal(region->host[at], 0);
	}
}

static void test_clear(void **state)
{
	struct fixture *fixture = *state;

	for (unsigned int i = 0; i < fixture->memory.count; i++)
		memset(fixture->memory.regions[i].host, 0xa5, fixture->memory.regions[i].size);
	guest_memory_clear(&fixture->memory, false);
	for (unsigned int i = 0; i < fixture->memory.count; i++) {
		const struct guest_memory_region *region = &fixture->memory.regions[i];
		uint64_t set = 0;

		for (uint64_t at = 0; at < region->size; at++)
			set += region->host[at] != 0;
		assert_int_equal(set, 0);
	}
	/* and it is still memory */
	fixture->memory.regions[2].host[5] = 1;
	assert_int_equal(*(uint8_t *)guest_memory_host(&fixture->memory, HIGH + 5, 1), 1);
}

/* ---- guest_memory_host() ---- */

static void test_host(void **state)
{
	static const struct {
		uint64_t gpa, len;
		int region; /* -1: NULL */
	} table[] = {
		{ LOW, 1, 0 },
		{ LOW, LOW_SIZE, 0 },
		{ LOW + 123, LOW_SIZE - 123, 0 },
		{ LOW + LOW_SIZE - 1, 1, 0 },
		{ LOW, LOW_SIZE + 1, -1 }, /* into the next region: not one range */
		{ LOW + LOW_SIZE - 1, 2, -1 },
		{ NEXT, NEXT_SIZE, 1 },
		{ NEXT, NEXT_SIZE + 1, -1 }, /* into the hole */
		{ NEXT_END - 1, 1, 1 },
		{ NEXT_END, 1, -1 },
		{ NEXT_END, 0, -1 },
		{ HIGH - 1, 1, -1 },
		{ HIGH - 1, 2, -1 },
		{ HIGH, HIGH_SIZE, 2 },
		{ HIGH, HIGH_SIZE + 1, -1 },
		{ HIGH_END - 1, 1, 2 },
		{ HIGH_END - 1, 2, -1 },
		{ HIGH_END, 1, -1 },
		{ UINT64_MAX, 1, -1 },
		{ UINT64_MAX, 2, -1 },
		{ UINT64_MAX - 7, 8, -1 },
		/* lengths that wrap */
		{ HIGH, UINT64_MAX, -1 },
		{ HIGH + 1, UINT64_MAX, -1 },
		{ LOW + 1, UINT64_MAX, -1 },
		{ LOW, UINT64_MAX, -1 },
		{ HIGH + 16, UINT64_MAX - 15, -1 },
		{ HIGH + 16, UINT64_MAX - (HIGH + 15), -1 },
		/* length 0 asks for a valid address only */
		{ LOW, 0, 0 },
		{ LOW + LOW_SIZE - 1, 0, 0 },
		{ HIGH, 0, 2 },
		{ HIGH_END, 0, -1 },
		{ UINT64_MAX, 0, -1 },
	};
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		uint8_t *host = guest_memory_host(&fixture->memory, table[i].gpa, table[i].len);
		const struct guest_memory_region *region;

		if (table[i].region < 0) {
			assert_null(host);
			continue;
		}
		region = &fixture->memory.regions[table[i].region];
		assert_ptr_equal(host, region->host + (table[i].gpa - region->gpa));
	}
}

/* ---- guest_memory_iov() ---- */

static void test_iov_in_one_region(void **state)
{
	struct fixture *fixture = *state;
	struct iovec iov[2];

	assert_int_equal(guest_memory_iov(&fixture->memory, HIGH + 8, 100, iov, 2), 1);
	assert_ptr_equal(iov[0].iov_base, fixture->memory.regions[2].host + 8);
	assert_int_equal(iov[0].iov_len, 100);
	assert_int_equal(guest_memory_iov(&fixture->memory, HIGH, HIGH_SIZE, iov, 1), 1);
	assert_int_equal(iov[0].iov_len, HIGH_SIZE);
}

static void test_iov_is_split_at_the_border(void **state)
{
	struct fixture *fixture = *state;
	struct iovec iov[3];

	assert_int_equal(guest_memory_iov(&fixture->memory, NEXT - 3, 10, iov, 3), 2);
	assert_ptr_equal(iov[0].iov_base, fixture->memory.regions[0].host + LOW_SIZE - 3);
	assert_int_equal(iov[0].iov_len, 3);
	assert_ptr_equal(iov[1].iov_base, fixture->memory.regions[1].host);
	assert_int_equal(iov[1].iov_len, 7);

	assert_int_equal(guest_memory_iov(&fixture->memory, LOW, LOW_SIZE + NEXT_SIZE, iov, 2), 2);
	assert_int_equal(iov[0].iov_len, LOW_SIZE);
	assert_int_equal(iov[1].iov_len, NEXT_SIZE);
}

static void test_iov_too_few(void **state)
{
	struct fixture *fixture = *state;
	struct iovec iov[2];

	assert_int_equal(guest_memory_iov(&fixture->memory, NEXT - 3, 10, iov, 1), -EMSGSIZE);
	assert_int_equal(guest_memory_iov(&fixture->memory, LOW, 1, iov, 0), -EMSGSIZE);
}

static void test_iov_outside(void **state)
{
	static const struct {
		uint64_t gpa, len;
	} table[] = {
		{ NEXT_END, 1 },
		{ NEXT_END - 1, 2 },
		{ NEXT - 1, NEXT_SIZE + 2 },
		{ HIGH - 1, 1 },
		{ HIGH - 1, 2 },
		{ HIGH_END - 1, 2 },
		{ HIGH_END, 1 },
		{ LOW, UINT64_MAX },
		{ HIGH, UINT64_MAX },
		{ HIGH + 1, UINT64_MAX - HIGH }, /* ends at 2^64 exactly */
		{ HIGH + 1, UINT64_MAX }, /* comes back to its start */
		{ UINT64_MAX, 1 },
		{ UINT64_MAX, 2 }, /* the second byte would be at 0, which is RAM */
	};
	struct fixture *fixture = *state;
	struct iovec iov[8];

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		assert_int_equal(
			guest_memory_iov(&fixture->memory, table[i].gpa, table[i].len, iov, 8),
			-EFAULT);
}

static void test_iov_of_nothing(void **state)
{
	struct fixture *fixture = *state;
	struct iovec iov[1];

	assert_int_equal(guest_memory_iov(&fixture->memory, HIGH, 0, iov, 1), 0);
}

/* ---- guest_memory_write() ---- */

static void test_write(void **state)
{
	struct fixture *fixture = *state;
	const struct guest_memory_region *regions = fixture->memory.regions;
	static const char text[] = "0123456789";

	assert_int_equal(guest_memory_write(&fixture->memory, HIGH_END - 10, text, 10), 0);
	assert_memory_equal(regions[2].host + HIGH_SIZE - 10, text, 10);

	assert_int_equal(guest_memory_write(&fixture->memory, NEXT - 4, text, 10), 0);
	assert_memory_equal(regions[0].host + LOW_SIZE - 4, text, 4);
	assert_memory_equal(regions[1].host, text + 4, 6);
}

static void test_write_outside_writes_nothing(void **state)
{
	struct fixture *fixture = *state;
	const struct guest_memory_region *regions = fixture->memory.regions;
	static const uint8_t zeroes[16];

	assert_int_equal(guest_memory_write(&fixture->memory, NEXT_END - 4, "0123456789", 10),
			 -EFAULT);
	assert_memory_equal(regions[1].host + NEXT_SIZE - 4, zeroes, 4);
	assert_int_equal(guest_memory_write(&fixture->memory, HIGH_END, "0", 1), -EFAULT);
	assert_int_equal(guest_memory_write(&fixture->memory, UINT64_MAX, "01", 2), -EFAULT);
	assert_int_equal(regions[0].host[0], 0);
}

/* ---- Memory of another process ---- */

/* Where it has it; nothing is mapped there. */
#define USER UINT64_C(0x7f0000000000)

static int shared_file(uint64_t size)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

static struct guest_memory_region shared_region(uint64_t gpa, uint64_t size, uint64_t user_addr)
{
	return (struct guest_memory_region) { .gpa = gpa, .size = size, .user_addr = user_addr };
}

static void check_byte(const struct guest_memory *memory, uint64_t gpa, int fd, uint64_t offset)
{
	uint8_t *host = guest_memory_host(memory, gpa, 1);
	uint8_t byte = 0;

	assert_non_null(host);
	*host += 1;
	assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
	assert_int_equal(byte, *host);
}

/* Added in any order, looked up in all of them, and what is written is in the file, at its offset. */
static void test_add_and_remove(void **state)
{
	static const unsigned int order[] = { 3, 0, 4, 1, 2 };
	struct guest_memory memory = { .fd = -1 };
	int fd = shared_file(5 * KIB(64) + KIB(3));
	struct guest_memory_region regions[ARRAY_SIZE(order)];
	unsigned int generation = memory.generation;

	for (unsigned int i = 0; i < ARRAY_SIZE(order); i++)
		regions[i] = shared_region(MIB(1) + i * MIB(2), KIB(64),
					   USER + (9 - i) * UINT64_C(0x100000));
	for (unsigned int i = 0; i < ARRAY_SIZE(order); i++) {
		unsigned int at = order[i];

		/* not on a page */
		assert_int_equal(guest_memory_add(&memory, &regions[at], fd, at * KIB(64) + KIB(3)),
				 0);
		assert_int_not_equal(memory.generation, generation);
		generation = memory.generation;
	}
	assert_int_equal(memory.count, ARRAY_SIZE(order));
	assert_int_equal(memory.total, ARRAY_SIZE(order) * KIB(64));
	for (unsigned int i = 0; i < ARRAY_SIZE(order); i++) {
		const struct guest_memory_region *region = &regions[i];
		uint64_t last = region->size - 1;

		check_byte(&memory, region->gpa, fd, i * KIB(64) + KIB(3));
		check_byte(&memory, region->gpa + last, fd, i * KIB(64) + KIB(3) + last);
		assert_null(guest_memory_host(&memory, region->gpa - 1, 1));
		assert_null(guest_memory_host(&memory, region->gpa + region->size, 1));
		assert_null(guest_memory_host(&memory, region->gpa + last, 2));
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(order); i++) {
		assert_int_equal(guest_memory_remove(&memory, &regions[order[i]]), 0);
		assert_int_not_equal(memory.generation, generation);
		generation = memory.generation;
		assert_int_equal(guest_memory_remove(&memory, &regions[order[i]]), -ENOENT);
		assert_null(guest_memory_host(&memory, regions[order[i]].gpa, 1));
		for (unsigned int j = i + 1; j < ARRAY_SIZE(order); j++)
			assert_non_null(guest_memory_host(&memory, regions[order[j]].gpa, 1));
	}
	assert_int_equal(memory.count, 0);
	assert_int_equal(memory.total, 0);
	close(fd);
}

static void test_add_refuses(void **state)
{
	static const struct {
		uint64_t gpa, size, user_addr, offset;
	} table[] = {
		{ GIB(1), 0, USER + GIB(1), 0 }, /* empty */
		{ GIB(1), KIB(64) + 1, USER + GIB(1), 0 }, /* more than the file has */
		{ GIB(1), KIB(4), USER + GIB(1), KIB(64) },
		{ GIB(1), KIB(4), USER + GIB(1), UINT64_MAX - 10 },
		{ GIB(1), UINT64_MAX, USER + GIB(1), 1 },
		{ GIB(1), KIB(4), USER + GIB(1), KIB(60) + 1 },
		{ UINT64_MAX - KIB(4) + 2, KIB(4), USER + GIB(1), 0 }, /* wraps */
		{ GIB(1), KIB(4), UINT64_MAX - KIB(4) + 2, 0 },
		{ MIB(1), KIB(4), USER + GIB(1), 0 }, /* overlaps */
		{ MIB(1) + KIB(12), KIB(8), USER + GIB(1), 0 },
		{ MIB(1) - KIB(4), KIB(4) + 1, USER + GIB(1), 0 },
		{ MIB(1) - KIB(4), KIB(32), USER + GIB(1), 0 },
		{ GIB(1), KIB(4), USER + KIB(12), 0 },
		{ GIB(1), KIB(32), USER - KIB(4), 0 },
	};
	struct guest_memory memory = { .fd = -1 };
	struct guest_memory_region first = shared_region(MIB(1), KIB(16), USER);
	int fd = shared_file(KIB(64)), pipes[2];

	assert_int_equal(guest_memory_add(&memory, &first, fd, 0), 0);
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct guest_memory_region region =
			shared_region(table[i].gpa, table[i].size, table[i].user_addr);

		assert_int_equal(guest_memory_add(&memory, &region, fd, table[i].offset), -EINVAL);
		assert_int_equal(memory.count, 1);
	}
	/* what is no file, and what is closed */
	first = shared_region(GIB(1), KIB(4), USER + GIB(1));
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(guest_memory_add(&memory, &first, pipes[0], 0), -EINVAL);
	close(pipes[0]);
	close(pipes[1]);
	assert_int_equal(guest_memory_add(&memory, &first, pipes[0], 0), -EBADF);
	/* its neighbours on both sides are fine */
	first = shared_region(MIB(1) - KIB(4), KIB(4), USER - KIB(4));
	assert_int_equal(guest_memory_add(&memory, &first, fd, 0), 0);
	first = shared_region(MIB(1) + KIB(16), KIB(48), USER + KIB(16));
	assert_int_equal(guest_memory_add(&memory, &first, fd, KIB(16)), 0);
	/* and the last byte of all */
	first = shared_region(UINT64_MAX - KIB(4) + 1, KIB(4), UINT64_MAX - KIB(4) + 1);
	assert_int_equal(guest_memory_add(&memory, &first, fd, 0), 0);
	assert_non_null(guest_memory_host(&memory, UINT64_MAX, 1));
	guest_memory_remove_all(&memory);
	assert_int_equal(memory.count, 0);
	close(fd);
}

/* A file that may be read only: nothing of it is mapped, since devices write. */
static void test_add_read_only(void **state)
{
	struct guest_memory memory = { .fd = -1 };
	struct guest_memory_region region = shared_region(0, KIB(4), USER);
	int fd = shared_file(KIB(4)), read_only;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	read_only = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(read_only >= 0);
	assert_int_equal(guest_memory_add(&memory, &region, read_only, 0), -EACCES);
	assert_int_equal(memory.count, 0);
	close(read_only);
	close(fd);
}

static void test_remove_names_all_of_it(void **state)
{
	struct guest_memory memory = { .fd = -1 };
	struct guest_memory_region region = shared_region(MIB(1), KIB(16), USER);
	struct guest_memory_region others[] = {
		shared_region(MIB(1) + KIB(4), KIB(16), USER),
		shared_region(MIB(1), KIB(12), USER),
		shared_region(MIB(1), KIB(16), USER + 1),
	};
	int fd = shared_file(KIB(16));

	assert_int_equal(guest_memory_add(&memory, &region, fd, 0), 0);
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		assert_int_equal(guest_memory_remove(&memory, &others[i]), -ENOENT);
	assert_int_equal(guest_memory_remove(&memory, &region), 0);
	close(fd);
}

static void test_from_user(void **state)
{
	static const struct {
		uint64_t user_addr, len, gpa;
	} table[] = {
		{ USER, 1, MIB(1) },
		{ USER, KIB(16), MIB(1) },
		{ USER + 5, KIB(16) - 5, MIB(1) + 5 },
		{ USER, KIB(16) + 1, UINT64_MAX }, /* into the next one: not one range */
		{ USER + KIB(16), KIB(8), MIB(8) },
		{ USER + KIB(24) - 1, 1, MIB(8) + KIB(8) - 1 },
		{ USER + KIB(24) - 1, 2, UINT64_MAX },
		{ USER + KIB(24), 0, UINT64_MAX },
		{ USER + KIB(24), 1, UINT64_MAX },
		{ USER - 1, 1, UINT64_MAX },
		{ USER - 1, 2, UINT64_MAX },
		{ USER + 1, UINT64_MAX, UINT64_MAX },
		{ MIB(1), 1, UINT64_MAX }, /* a guest's address is not a front end's */
		{ 0, 0, UINT64_MAX },
		{ UINT64_MAX, 1, UINT64_MAX },
	};
	struct guest_memory memory = { .fd = -1 };
	struct guest_memory_region low = shared_region(MIB(1), KIB(16), USER);
	struct guest_memory_region high = shared_region(MIB(8), KIB(8), USER + KIB(16));
	int fd = shared_file(KIB(16));

	assert_int_equal(guest_memory_from_user(&memory, USER, 1), UINT64_MAX);
	assert_int_equal(guest_memory_add(&memory, &high, fd, 0), 0);
	assert_int_equal(guest_memory_add(&memory, &low, fd, 0), 0);
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		assert_true(guest_memory_from_user(&memory, table[i].user_addr, table[i].len) ==
			    table[i].gpa);
	guest_memory_remove_all(&memory);
	close(fd);
}

static void test_replace(void **state)
{
	struct guest_memory memory = { .fd = -1, .pins = 3 }, next = { .fd = -1 };
	struct guest_memory_region old = shared_region(MIB(1), KIB(4), USER);
	struct guest_memory_region new = shared_region(MIB(1), KIB(8), USER);
	int fd = shared_file(KIB(8));
	unsigned int generation;

	assert_int_equal(guest_memory_add(&memory, &old, fd, 0), 0);
	assert_int_equal(guest_memory_add(&next, &new, fd, 0), 0);
	generation = memory.generation;
	guest_memory_replace(&memory, &next);
	assert_int_not_equal(memory.generation, generation);
	assert_int_equal(memory.count, 1);
	assert_int_equal(memory.total, KIB(8));
	assert_int_equal(memory.pins, 3); /* whose business that is knows what it holds */
	check_byte(&memory, MIB(1) + KIB(8) - 1, fd, KIB(8) - 1);
	assert_int_equal(next.count, 0);
	assert_int_equal(next.total, 0);
	guest_memory_remove_all(&next);
	check_byte(&memory, MIB(1), fd, 0);
	guest_memory_replace(&memory, &next);
	assert_int_equal(memory.count, 0);
	assert_null(guest_memory_host(&memory, MIB(1), 1));
	close(fd);
}

/* All slots, each with its neighbours beside it; and a write across many more than a buffer may span. */
static void test_all_slots(void **state)
{
	struct guest_memory *memory = calloc(1, sizeof(*memory));
	struct guest_memory_region region;
	char text[20 * 16];
	int fd = shared_file(KIB(4));

	assert_non_null(memory);
	memory->fd = -1;
	for (unsigned int i = 0; i < GUEST_MEMORY_SLOTS; i++) {
		unsigned int at = (i * 37) % GUEST_MEMORY_SLOTS;

		region = shared_region(MIB(1) + at * 16, 16, USER + at * 16);
		assert_int_equal(guest_memory_add(memory, &region, fd, at % 256 * 16), 0);
	}
	region = shared_region(GIB(1), 16, USER + GIB(1));
	assert_int_equal(guest_memory_add(memory, &region, fd, 0), -ENOSPC);
	for (unsigned int i = 0; i < GUEST_MEMORY_SLOTS; i++)
		check_byte(memory, MIB(1) + i * 16 + 3, fd, i % 256 * 16 + 3);
	memset(text, 'x', sizeof(text));
	assert_int_equal(guest_memory_write(memory, MIB(1) + 8, text, sizeof(text)), 0);
	assert_int_equal(*(char *)guest_memory_host(memory, MIB(1) + 8 + sizeof(text) - 1, 1), 'x');
	assert_int_not_equal(*(char *)guest_memory_host(memory, MIB(1) + 8 + sizeof(text), 1), 'x');
	assert_int_equal(guest_memory_write(memory,
					    MIB(1) + GUEST_MEMORY_SLOTS * 16 - sizeof(text) + 1,
					    text, sizeof(text)),
			 -EFAULT);
	guest_memory_remove_all(memory);
	assert_int_equal(memory->count, 0);
	free(memory);
	close(fd);
}

/* ---- Life ---- */

static void test_destroy_of_nothing(void **state)
{
	struct guest_memory memory = { .fd = -1 };

	guest_memory_destroy(&memory);
	assert_int_equal(memory.fd, -1);
}

static void test_destroy_twice(void **state)
{
	struct captured_log captured;
	struct guest_memory memory = { .fd = -1, .count = 1 };

	memory.regions[0].size = MIB(1);
	captured_log_init(&captured);
	assert_int_equal(guest_memory_create(&captured.log, &memory, false), 0);
	guest_memory_destroy(&memory);
	assert_int_equal(memory.fd, -1);
	guest_memory_destroy(&memory);
	captured_log_deinit(&captured);
}

static void test_as_many_regions_as_there_can_be(void **state)
{
	struct captured_log captured;
	struct guest_memory memory = { .fd = -1, .count = GUEST_MEMORY_REGIONS };
	struct iovec iov[GUEST_MEMORY_REGIONS];

	for (unsigned int i = 0; i < GUEST_MEMORY_REGIONS; i++)
		memory.regions[i] =
			(struct guest_memory_region) { .gpa = MIB(1) + i * KIB(4), .size = KIB(4) };
	captured_log_init(&captured);
	assert_int_equal(guest_memory_create(&captured.log, &memory, false), 0);
	assert_int_equal(guest_memory_iov(&memory, MIB(1), GUEST_MEMORY_REGIONS * KIB(4), iov,
					  GUEST_MEMORY_REGIONS),
			 GUEST_MEMORY_REGIONS);
	assert_null(guest_memory_host(&memory, MIB(1) - 1, 1));
	assert_non_null(guest_memory_host(&memory, MIB(1) + GUEST_MEMORY_REGIONS * KIB(4) - 1, 1));
	guest_memory_destroy(&memory);
	captured_log_deinit(&captured);
}

/* More than an address space holds: one line, and what was mapped is not left behind. */
static void test_too_large(void **state)
{
	struct captured_log captured;
	struct guest_memory memory = { .fd = -1, .count = 2 };

	memory.regions[0].size = MIB(1);
	memory.regions[1] =
		(struct guest_memory_region) { .gpa = GIB(4), .size = UINT64_C(1) << 50 };
	captured_log_init(&captured);
	assert_true(guest_memory_create(&captured.log, &memory, false) < 0);
	assert_int_equal(captured.count, 1);
	assert_int_equal(captured.levels[0], LOG_LEVEL_ERROR);
	assert_non_null(strstr(captured.lines[0], "guest memory"));
	assert_int_equal(memory.fd, -1);
	guest_memory_destroy(&memory);
	captured_log_deinit(&captured);
}

static void test_huge_pages(void **state)
{
	struct captured_log captured;
	struct guest_memory memory = { .fd = -1, .count = 1 };
	int error;

	memory.regions[0].size = MIB(2);
	captured_log_init(&captured);
	error = guest_memory_create(&captured.log, &memory, true);
	if (!error) {
		memory.regions[0].host[MIB(2) - 1] = 1;
		assert_int_equal(captured.count, 0);
	} else { /* none are reserved here: then that must be said */
		assert_int_equal(captured.count, 1);
		assert_non_null(strstr(captured.lines[0], "huge"));
		assert_int_equal(memory.fd, -1);
	}
	guest_memory_destroy(&memory);
	captured_log_deinit(&captured);
}

static void *look_everywhere(void *arg)
{
	const struct guest_memory *memory = arg;
	uintptr_t found = 0;

	for (uint64_t gpa = 0; gpa < NEXT_END; gpa += 4096)
		found += guest_memory_host(memory, gpa, 4096) != NULL;
	return (void *)found;
}

static void test_host_from_many_threads(void **state)
{
	struct fixture *fixture = *state;
	pthread_t threads[4];
	void *found;

	for (unsigned int i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(
			pthread_create(&threads[i], NULL, look_everywhere, &fixture->memory), 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(threads); i++) {
		pthread_join(threads[i], &found);
		assert_int_equal((uintptr_t)found, NEXT_END / 4096);
	}
}

#define MEMORY_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		MEMORY_TEST(test_create),
		MEMORY_TEST(test_private),
		MEMORY_TEST(test_regions_are_the_memfd),
		MEMORY_TEST(test_starts_as_zero),
		MEMORY_TEST(test_clear),
		MEMORY_TEST(test_host),
		MEMORY_TEST(test_iov_in_one_region),
		MEMORY_TEST(test_iov_is_split_at_the_border),
		MEMORY_TEST(test_iov_too_few),
		MEMORY_TEST(test_iov_outside),
		MEMORY_TEST(test_iov_of_nothing),
		MEMORY_TEST(test_write),
		MEMORY_TEST(test_write_outside_writes_nothing),
		cmocka_unit_test(test_add_and_remove),
		cmocka_unit_test(test_add_refuses),
		cmocka_unit_test(test_add_read_only),
		cmocka_unit_test(test_remove_names_all_of_it),
		cmocka_unit_test(test_from_user),
		cmocka_unit_test(test_replace),
		cmocka_unit_test(test_all_slots),
		cmocka_unit_test(test_destroy_of_nothing),
		cmocka_unit_test(test_destroy_twice),
		cmocka_unit_test(test_as_many_regions_as_there_can_be),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_huge_pages),
		MEMORY_TEST(test_host_from_many_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
