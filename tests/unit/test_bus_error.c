/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Unit test of bus_error.h: a shared file gets shorter, whatever its pages; what was there reads as
 * zeroes, can be written, and what lies around it is as it was. Huge pages are used where the host has
 * free ones.
 */
#include <errno.h>
#include <linux/memfd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "bus_error.h"

/* A file of @count pages, which loses all but the first. */
static void file_shrinks(uint64_t page, unsigned int flags, unsigned int count)
{
	int fd = memfd_create("shrinks", MFD_CLOEXEC | flags);
	uint8_t *map = MAP_FAILED;

	if (fd >= 0 && !ftruncate(fd, (off_t)(count * page)))
		map = mmap(NULL, count * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		printf("skipped: %u pages of %llu KiB: %s\n", count,
		       (unsigned long long)(page / 1024), strerror(errno));
		close(fd);
		skip();
	}
	assert_int_equal(bus_error_survive(), 0); /* in place of cmocka's handler */
	for (unsigned int i = 0; i < count; i++)
		map[i * page] = (uint8_t)(1 + i);
	assert_int_equal(ftruncate(fd, (off_t)((count - 1) * page)), 0);
	for (uint64_t at = (count - 1) * page + page / 2; at < count * page; at += page / 4) {
		assert_int_equal(map[at], 0);
		map[at] = 0x55;
		assert_int_equal(map[at], 0x55);
	}
	for (unsigned int i = 0; i + 1 < count; i++)
		assert_int_equal(map[i * page], 1 + i);
	munmap(map, count * page);
	close(fd);
}

static void small_pages(void **state)
{
	file_shrinks(KIB(4), 0, 2);
}

static void huge_pages(void **state)
{
	file_shrinks(MIB(2), MFD_HUGETLB | MFD_HUGE_2MB, 2);
}

static void gigantic_page(void **state)
{
	file_shrinks(GIB(1), MFD_HUGETLB | MFD_HUGE_1GB, 1);
}

#define MAPS_MAX 200000 /* where the host allows more, the test is skipped */
#define NEIGHBOURS 8 /* pages behind the one that is gone */

/* So many mappings that there can be no more. */
static bool map_all(void)
{
	const size_t pages = MAPS_MAX;
	uint8_t *map = mmap(NULL, pages * KIB(4), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED)
		return false;
	for (size_t i = 0; i < pages; i += 2)
		if (mprotect(map + i * KIB(4), KIB(4), PROT_NONE))
			return errno == ENOMEM;
	return false;
}

/* 1: skipped, 2: lived on and has its neighbours, 3: without; by a signal: as it would have ended. */
static int touch_without_maps(void)
{
	uint8_t *map =
		mmap(NULL, MIB(4), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *page = (uint8_t *)align_up((uintptr_t)map, MIB(2)) + KIB(64);
	int fd = memfd_create("gone", MFD_CLOEXEC);

	if (map == MAP_FAILED || fd < 0 || ftruncate(fd, KIB(12)) ||
	    mmap(page, KIB(12), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) != page)
		return 1;
	for (unsigned int i = 3; i < 3 + NEIGHBOURS; i++)
		page[i * KIB(4)] = 1;
	if (ftruncate(fd, 0) || bus_error_survive() || !map_all())
		return 1;
	page[KIB(4)] = 1;
	for (unsigned int i = 3; i < 3 + NEIGHBOURS; i++)
		if (!page[i * KIB(4)])
			return 3;
	return 2;
}

/* Where nothing can be put in the place of a page, nothing is put in that of others. */
static void neighbours_stay(void **state)
{
	const struct rlimit no_core = { 0 };
	pid_t child = fork();
	int status;

	if (!child) {
		setrlimit(RLIMIT_CORE, &no_core);
		_exit(touch_without_maps());
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 1)
		skip();
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGBUS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(small_pages),
		cmocka_unit_test(huge_pages),
		cmocka_unit_test(gigantic_page),
		cmocka_unit_test(neighbours_stay),
	};

	return cmocka_run_group_tests_name("bus_error", tests, NULL, NULL);
}
