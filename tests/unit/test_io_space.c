/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Unit tests of io_space.h: who answers where, overlaps, borders, and removal while threads read.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "io_space.h"

/* A range that answers with the low bytes of its @pattern and remembers the last access. */
struct part {
	struct io_range range;
	struct io_space *space;
	uint64_t pattern;
	unsigned int reads, writes;
	uint64_t offset, value;
	unsigned int size;
	struct part *other;
	unsigned int inside;
};

static uint64_t part_read(void *arg, uint64_t offset, unsigned int size)
{
	struct part *part = arg;

	part->reads++;
	part->offset = offset;
	part->size = size;
	return part->pattern;
}

static void part_write(void *arg, uint64_t offset, unsigned int size, uint64_t value)
{
	struct part *part = arg;

	part->writes++;
	part->offset = offset;
	part->size = size;
	part->value = value;
}

static const struct io_range_ops part_ops = { .read = part_read, .write = part_write };

static void part_init(struct part *part, struct io_space *space, uint64_t base, uint64_t size,
		      uint64_t pattern)
{
	memset(part, 0, sizeof(*part));
	part->space = space;
	part->pattern = pattern;
	part->range.name = "part";
	part->range.base = base;
	part->range.size = size;
	part->range.ops = &part_ops;
	part->range.arg = part;
}

static void part_add(struct part *part, struct io_space *space, uint64_t base, uint64_t size,
		     uint64_t pattern)
{
	part_init(part, space, base, size, pattern);
	assert_int_equal(io_space_add(space, &part->range), 0);
}

static uint64_t read_at(struct io_space *space, uint64_t addr, unsigned int size)
{
	uint64_t value = 0;

	io_space_read(space, addr, size, &value);
	return value;
}

static int setup(void **state)
{
	struct io_space *space = malloc(sizeof(*space));

	if (!space)
		return -1;
	io_space_init(space);
	*state = space;
	return 0;
}

static int teardown(void **state)
{
	io_space_deinit(*state);
	free(*state);
	return 0;
}

/* ---- One range ---- */

static void test_nobody(void **state)
{
	static const uint64_t addrs[] = { 0, 0x3f8, 0xfed00000, UINT64_MAX - 7 };
	uint64_t value;

	for (size_t i = 0; i < ARRAY_SIZE(addrs); i++) {
		assert_false(io_space_read(*state, addrs[i], 1, &value));
		assert_int_equal(value, 0xff);
		assert_false(io_space_read(*state, addrs[i], 2, &value));
		assert_int_equal(value, 0xffff);
		assert_false(io_space_read(*state, addrs[i], 4, &value));
		assert_int_equal(value, 0xffffffff);
		assert_false(io_space_read(*state, addrs[i], 8, &value));
		assert_int_equal(value, UINT64_MAX);
		assert_false(io_space_write(*state, addrs[i], 4, 0x12345678));
	}
}

static void test_read(void **state)
{
	struct part part;
	uint64_t value;

	part_add(&part, *state, 0x1000, 0x100, 0x1122334455667788);
	assert_true(io_space_read(*state, 0x1000, 8, &value));
	assert_int_equal(value, 0x1122334455667788);
	assert_int_equal(part.offset, 0);
	assert_int_equal(part.size, 8);
	assert_true(io_space_read(*state, 0x1004, 4, &value));
	assert_int_equal(value, 0x55667788); /* what is beyond the size does not come through */
	assert_int_equal(part.offset, 4);
	assert_true(io_space_read(*state, 0x1006, 2, &value));
	assert_int_equal(value, 0x7788);
	assert_true(io_space_read(*state, 0x10ff, 1, &value));
	assert_int_equal(value, 0x88);
	assert_int_equal(part.offset, 0xff);
	assert_int_equal(part.reads, 4);
	assert_int_equal(part.writes, 0);
}

static void test_write(void **state)
{
	static const struct {
		unsigned int size;
		uint64_t value;
	} cases[] = { { 1, 0x88 }, { 2, 0x7788 }, { 4, 0x55667788 }, { 8, 0x1122334455667788 } };
	struct part part;

	part_add(&part, *state, 0x1000, 0x100, 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_true(io_space_write(*state, 0x1010 + i, cases[i].size, 0x1122334455667788));
		assert_int_equal(part.writes, i + 1);
		assert_int_equal(part.offset, 0x10 + i);
		assert_int_equal(part.size, cases[i].size);
		assert_int_equal(part.value, cases[i].value);
	}
}

static void test_borders(void **state)
{
	struct part part;

	part_add(&part, *state, 0x1000, 0x10, 0);
	assert_int_equal(read_at(*state, 0xfff, 1), 0xff);
	assert_int_equal(read_at(*state, 0x1000, 1), 0);
	assert_int_equal(read_at(*state, 0x100f, 1), 0);
	assert_int_equal(read_at(*state, 0x1010, 1), 0xff);
}

static void test_ends_of_the_space(void **state)
{
	struct part first, last;

	part_add(&first, *state, 0, 8, 0x11);
	part_add(&last, *state, UINT64_MAX - 7, 8, 0x22);
	assert_int_equal(read_at(*state, 0, 1), 0x11);
	assert_int_equal(read_at(*state, UINT64_MAX, 1), 0x22);
	assert_int_equal(last.offset, 7);
	assert_int_equal(read_at(*state, UINT64_MAX - 7, 8), 0x22);
	assert_int_equal(read_at(*state, UINT64_MAX - 8, 1), 0xff);
}

static void test_whole_space(void **state)
{
	struct part all, one;

	part_add(&all, *state, 0, UINT64_MAX, 0x11);
	part_add(&one, *state, 0x80, 1, 0x22);
	assert_int_equal(read_at(*state, 0, 1), 0x11);
	assert_int_equal(read_at(*state, 0x7f, 1), 0x11);
	assert_int_equal(read_at(*state, 0x80, 1), 0x22);
	assert_int_equal(read_at(*state, 0x81, 1), 0x11);
	assert_int_equal(read_at(*state, UINT64_MAX - 1, 1), 0x11);
	assert_int_equal(read_at(*state, UINT64_MAX, 1), 0xff);
}

static void test_bad_ranges(void **state)
{
	struct part part;

	part_init(&part, *state, 0x1000, 0, 0);
	assert_int_equal(io_space_add(*state, &part.range), -EINVAL);
	part_init(&part, *state, UINT64_MAX, 2, 0);
	assert_int_equal(io_space_add(*state, &part.range), -EINVAL);
	part_init(&part, *state, 2, UINT64_MAX, 0);
	assert_int_equal(io_space_add(*state, &part.range), -EINVAL);
	assert_int_equal(read_at(*state, 0x1000, 1), 0xff);
	io_space_remove(*state, &part.range);
}

static void test_handlers_may_be_missing(void **state)
{
	static const struct io_range_ops no_ops = { 0 };
	struct part part;
	uint64_t value;

	part_init(&part, *state, 0x1000, 16, 0);
	part.range.ops = &no_ops;
	assert_int_equal(io_space_add(*state, &part.range), 0);
	assert_true(io_space_read(*state, 0x1000, 4, &value));
	assert_int_equal(value, 0xffffffff);
	assert_true(io_space_write(*state, 0x1000, 4, 1));
	io_space_remove(*state, &part.range);
}

/* ---- Removal ---- */

static void test_remove(void **state)
{
	struct part part;

	part_add(&part, *state, 0x1000, 0x100, 0x11);
	io_space_remove(*state, &part.range);
	assert_int_equal(read_at(*state, 0x1000, 1), 0xff);
	io_space_remove(*state, &part.range); /* harmless */
	part.range.base = 0x2000;
	assert_int_equal(io_space_add(*state, &part.range), 0);
	assert_int_equal(read_at(*state, 0x1000, 1), 0xff);
	assert_int_equal(read_at(*state, 0x2000, 1), 0x11);
	io_space_remove(*state, &part.range);
}

static void test_remove_what_was_never_added(void **state)
{
	struct part part;

	part_init(&part, *state, 0x1000, 0x100, 0);
	io_space_remove(*state, &part.range);
}

static void test_remove_uncovers(void **state)
{
	struct part large, small;

	part_add(&large, *state, 0x1000, 0x100, 0x11);
	part_add(&small, *state, 0x1010, 0x10, 0x22);
	assert_int_equal(read_at(*state, 0x1010, 1), 0x22);
	io_space_remove(*state, &small.range);
	assert_int_equal(read_at(*state, 0x1010, 1), 0x11);
	assert_int_equal(large.offset, 0x10);
}

/* ---- Overlaps ---- */

static void test_smaller_wins(void **state)
{
	/* whatever the order they come in */
	for (unsigned int order = 0; order < 2; order++) {
		struct io_space space;
		struct part large, small;

		io_space_init(&space);
		if (order)
			part_add(&large, &space, 0x1000, 0x100, 0x11);
		part_add(&small, &space, 0x1080, 0x10, 0x22);
		if (!order)
			part_add(&large, &space, 0x1000, 0x100, 0x11);
		assert_int_equal(read_at(&space, 0x107f, 1), 0x11);
		assert_int_equal(read_at(&space, 0x1080, 1), 0x22);
		assert_int_equal(read_at(&space, 0x108f, 1), 0x22);
		assert_int_equal(read_at(&space, 0x1090, 1), 0x11);
		assert_int_equal(large.offset, 0x90);
		io_space_deinit(&space);
	}
}

static void test_first_of_equals_wins(void **state)
{
	struct part first, second, third;

	part_add(&first, *state, 0x1000, 0x10, 0x11);
	part_add(&second, *state, 0x1008, 0x10, 0x22);
	part_add(&third, *state, 0x1000, 0x10, 0x33);
	assert_int_equal(read_at(*state, 0x1000, 1), 0x11);
	assert_int_equal(read_at(*state, 0x100f, 1), 0x11);
	assert_int_equal(read_at(*state, 0x1010, 1), 0x22);
	io_space_remove(*state, &first.range);
	assert_int_equal(read_at(*state, 0x1000, 1), 0x33);
	assert_int_equal(read_at(*state, 0x1008, 1), 0x22);
	/* what comes back is the last again */
	assert_int_equal(io_space_add(*state, &first.range), 0);
	assert_int_equal(read_at(*state, 0x1000, 1), 0x33);
	assert_int_equal(read_at(*state, 0x1008, 1), 0x22);
}

/* Random ranges in a small space, compared with the rule applied by hand. */
static void check_all(struct io_space *space, const struct part *parts, unsigned int count,
		      const bool *added, const unsigned int *when, uint64_t base)
{
	for (uint64_t at = 0; at < 80; at++) {
		const struct part *owner = NULL;
		unsigned int owner_when = 0;
		uint64_t expected;

		for (unsigned int i = 0; i < count; i++) {
			const struct io_range *range = &parts[i].range;

			if (!added[i] || base + at - range->base >= range->size)
				continue;
			if (owner && (range->size > owner->range.size ||
				      (range->size == owner->range.size && when[i] > owner_when)))
				continue;
			owner = &parts[i];
			owner_when = when[i];
		}
		expected = owner ? owner->pattern : 0xff;
		if (read_at(space, base + at, 1) != expected)
			fail_msg("at 0x%llx", (unsigned long long)(base + at));
	}
}

static void test_random_overlaps(void **state)
{
	static const uint64_t bases[] = { 0, 0x1000, UINT64_MAX - 79 };
	unsigned int seed = 12345;

	for (unsigned int round = 0; round < 300; round++) {
		uint64_t base = bases[round % ARRAY_SIZE(bases)];
		struct part parts[24];
		bool added[24] = { false };
		unsigned int when[24] = { 0 };
		struct io_space space;

		io_space_init(&space);
		for (unsigned int i = 0; i < 24; i++) {
			uint64_t start = (uint64_t)(rand_r(&seed) % 60);
			uint64_t size = 1 + (uint64_t)(rand_r(&seed) % 20);

			if (rand_r(&seed) % 4 == 0)
				start = 0;
			part_add(&parts[i], &space, base + start, size, i);
			added[i] = true;
			when[i] = i;
			if (rand_r(&seed) % 3)
				continue;
			io_space_remove(&space, &parts[i / 2].range);
			added[i / 2] = false;
		}
		check_all(&space, parts, 24, added, when, base);
		io_space_deinit(&space);
	}
}

static void test_many_ranges(void **state)
{
	struct part *parts = calloc(500, sizeof(*parts));

	assert_non_null(parts);
	for (unsigned int i = 0; i < 500; i++)
		part_add(&parts[i], *state, 0x1000 * (uint64_t)(i * 7 % 500), 0x1000, i % 251);
	for (unsigned int i = 0; i < 500; i++)
		assert_int_equal(read_at(*state, 0x1000 * (uint64_t)(i * 7 % 500) + 0xfff, 1),
				 i % 251);
	for (unsigned int i = 0; i < 500; i += 2)
		io_space_remove(*state, &parts[i].range);
	for (unsigned int i = 0; i < 500; i++)
		assert_int_equal(read_at(*state, 0x1000 * (uint64_t)(i * 7 % 500), 1),
				 i % 2 ? i % 251 : 0xff);
	free(parts);
}

/* ---- Accesses across borders ---- */

static void test_read_across(void **state)
{
	struct part low, high;
	uint64_t value;

	part_add(&low, *state, 0x1000, 4, 0x11);
	part_add(&high, *state, 0x1004, 4, 0x22);
	assert_true(io_space_read(*state, 0x1002, 4, &value));
	assert_int_equal(value, 0x22221111);
	assert_int_equal(low.size, 1);
	assert_true(io_space_read(*state, 0x1006, 4, &value)); /* out of the end */
	assert_int_equal(value, 0xffff2222);
	assert_false(io_space_read(*state, 0xffe, 4, &value)); /* into the start */
	assert_int_equal(value, 0x1111ffff);
	assert_true(io_space_read(*state, 0x1000, 8, &value));
	assert_int_equal(value, 0x2222222211111111);
}

static void test_write_across(void **state)
{
	struct part low, high;

	part_add(&low, *state, 0x1000, 4, 0);
	part_add(&high, *state, 0x1004, 4, 0);
	assert_true(io_space_write(*state, 0x1003, 2, 0xabcd));
	assert_int_equal(low.writes, 1);
	assert_int_equal(low.offset, 3);
	assert_int_equal(low.size, 1);
	assert_int_equal(low.value, 0xcd);
	assert_int_equal(high.writes, 1);
	assert_int_equal(high.offset, 0);
	assert_int_equal(high.value, 0xab);
	assert_false(io_space_write(*state, 0xfff, 2, 0x1234));
	assert_int_equal(low.writes, 2);
	assert_int_equal(low.offset, 0);
	assert_int_equal(low.value, 0x12);
}

/* A small range inside the bytes of an access to a large one does not cut it; in nobody's, it does. */
static void test_across_a_hole_in_the_middle(void **state)
{
	struct part large, small, lone;
	uint64_t value;

	part_add(&large, *state, 0x1000, 16, 0x11111111);
	part_add(&small, *state, 0x1002, 1, 0x22);
	assert_true(io_space_read(*state, 0x1000, 4, &value));
	assert_int_equal(value, 0x11111111);
	assert_int_equal(small.reads, 0);
	assert_true(io_space_read(*state, 0x1002, 1, &value));
	assert_int_equal(value, 0x22);
	part_add(&lone, *state, 0x2003, 1, 0x33);
	assert_false(io_space_read(*state, 0x2000, 8, &value));
	assert_int_equal(value, 0xffffffff33ffffff);
}

/* ---- Handlers that change the space ---- */

static uint64_t moving_read(void *arg, uint64_t offset, unsigned int size)
{
	struct part *part = arg;
	struct io_range *range = &part->other->range;

	io_space_remove(part->space, range);
	range->base += 0x1000;
	assert_int_equal(io_space_add(part->space, range), 0);
	return 0x77;
}

static void test_handler_moves_another_range(void **state)
{
	static const struct io_range_ops moving_ops = { .read = moving_read };
	struct part mover, moved;

	part_add(&moved, *state, 0x1000, 0x10, 0x11);
	part_init(&mover, *state, 0xcf8, 8, 0);
	mover.range.ops = &moving_ops;
	mover.other = &moved;
	assert_int_equal(io_space_add(*state, &mover.range), 0);
	assert_int_equal(read_at(*state, 0xcf8, 1), 0x77);
	assert_int_equal(read_at(*state, 0x1000, 1), 0xff);
	assert_int_equal(read_at(*state, 0x2000, 1), 0x11);
}

static uint64_t nested_read(void *arg, uint64_t offset, unsigned int size)
{
	struct part *part = arg;

	return read_at(part->space, part->other->range.base, size);
}

static void test_handler_accesses_the_space(void **state)
{
	static const struct io_range_ops nested_ops = { .read = nested_read };
	struct part outer, inner;

	part_add(&inner, *state, 0x1000, 0x10, 0x11);
	part_init(&outer, *state, 0x2000, 0x10, 0);
	outer.range.ops = &nested_ops;
	outer.other = &inner;
	assert_int_equal(io_space_add(*state, &outer.range), 0);
	assert_int_equal(read_at(*state, 0x2000, 1), 0x11);
}

/* ---- Threads ---- */

static uint64_t counted_read(void *arg, uint64_t offset, unsigned int size)
{
	struct part *part = arg;

	__atomic_add_fetch(&part->inside, 1, __ATOMIC_SEQ_CST);
	for (unsigned int i = 0; i < 50; i++)
		__atomic_load_n(&part->inside, __ATOMIC_SEQ_CST);
	__atomic_sub_fetch(&part->inside, 1, __ATOMIC_SEQ_CST);
	return 0x11;
}

static const struct io_range_ops counted_ops = { .read = counted_read };

struct reader {
	struct io_space *space;
	bool stop;
	unsigned int wrong;
};

static void *read_all_the_time(void *arg)
{
	struct reader *reader = arg;

	while (!__atomic_load_n(&reader->stop, __ATOMIC_ACQUIRE)) {
		uint64_t value = read_at(reader->space, 0x1000, 1);

		if (value != 0x11 && value != 0xff)
			__atomic_add_fetch(&reader->wrong, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* When io_space_remove() returns nobody is in the handler: what it works on can be freed. */
static void test_remove_while_threads_read(void **state)
{
	struct reader reader = { .space = *state };
	pthread_t threads[3];

	for (unsigned int i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_all_the_time, &reader), 0);
	for (unsigned int i = 0; i < 300; i++) {
		struct part *part = malloc(sizeof(*part));
		struct timespec moment = { .tv_nsec = 20000 };

		assert_non_null(part);
		part_init(part, *state, 0x1000, 0x10, 0);
		part->range.ops = &counted_ops;
		assert_int_equal(io_space_add(*state, &part->range), 0);
		nanosleep(&moment, NULL);
		io_space_remove(*state, &part->range);
		assert_int_equal(part->inside, 0);
		free(part);
	}
	__atomic_store_n(&reader.stop, true, __ATOMIC_RELEASE);
	for (unsigned int i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(reader.wrong, 0);
}

struct gate {
	struct io_range range;
	struct io_space *space;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned int inside, most;
};

/* Waits in the handler until a second thread is in it as well. */
static uint64_t gate_read(void *arg, uint64_t offset, unsigned int size)
{
	struct gate *gate = arg;
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 5;
	pthread_mutex_lock(&gate->lock);
	gate->inside++;
	gate->most = MAX(gate->most, gate->inside);
	pthread_cond_broadcast(&gate->changed);
	while (gate->most < 2) {
		if (pthread_cond_timedwait(&gate->changed, &gate->lock, &until))
			break;
	}
	gate->inside--;
	pthread_mutex_unlock(&gate->lock);
	return 0;
}

static void *read_gate(void *arg)
{
	struct gate *gate = arg;

	read_at(gate->space, 0x1000, 1);
	return NULL;
}

static void test_several_threads_in_one_handler(void **state)
{
	static const struct io_range_ops gate_ops = { .read = gate_read };
	struct gate gate = {
		.range = { .name = "gate", .base = 0x1000, .size = 1, .ops = &gate_ops },
		.space = *state,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.changed = PTHREAD_COND_INITIALIZER,
	};
	pthread_t thread;

	gate.range.arg = &gate;
	assert_int_equal(io_space_add(*state, &gate.range), 0);
	assert_int_equal(pthread_create(&thread, NULL, read_gate, &gate), 0);
	read_gate(&gate);
	pthread_join(thread, NULL);
	assert_int_equal(gate.most, 2);
	io_space_remove(*state, &gate.range);
}

#define SPACE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		SPACE_TEST(test_nobody),
		SPACE_TEST(test_read),
		SPACE_TEST(test_write),
		SPACE_TEST(test_borders),
		SPACE_TEST(test_ends_of_the_space),
		SPACE_TEST(test_whole_space),
		SPACE_TEST(test_bad_ranges),
		SPACE_TEST(test_handlers_may_be_missing),
		SPACE_TEST(test_remove),
		SPACE_TEST(test_remove_what_was_never_added),
		SPACE_TEST(test_remove_uncovers),
		cmocka_unit_test(test_smaller_wins),
		SPACE_TEST(test_first_of_equals_wins),
		cmocka_unit_test(test_random_overlaps),
		SPACE_TEST(test_many_ranges),
		SPACE_TEST(test_read_across),
		SPACE_TEST(test_write_across),
		SPACE_TEST(test_across_a_hole_in_the_middle),
		SPACE_TEST(test_handler_moves_another_range),
		SPACE_TEST(test_handler_accesses_the_space),
		SPACE_TEST(test_remove_while_threads_read),
		SPACE_TEST(test_several_threads_in_one_handler),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
