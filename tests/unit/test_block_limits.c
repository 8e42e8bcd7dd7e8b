/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Unit tests of block_backend.h: rate limits. On a disk that takes no time and a clock that stands still
 * until it is told to go on, what passes is counted exactly.
 */
#include "block_lab.h"

#define SECOND UINT64_C(1000000000)

static struct event_clock *limited(struct fixture *fixture)
{
	struct event_clock *clock = event_clock_create();

	assert_non_null(clock);
	event_loop_set_clock(fixture->loop, clock);
	open_null(fixture, "1G");
	return clock;
}

static void limited_end(struct fixture *fixture, struct event_clock *clock)
{
	close_block(fixture);
	event_loop_destroy(fixture->loop);
	fixture->loop = NULL;
	event_clock_destroy(clock);
}

/* The burst at once, exactly; then the rate, within a hundredth. */
static void test_limits(void **state)
{
	enum { COUNT = 60000, SECONDS = 10 };
	static const struct {
		struct block_limit iops, bps;
		uint32_t length;
		unsigned int burst, rate;
	} rows[] = {
		{ .iops = { 1000, 0 }, .length = 512, .burst = 100, .rate = 1000 },
		{ .iops = { 1000, 1 }, .length = 512, .burst = 1, .rate = 1000 },
		{ .iops = { 777, 5000 }, .length = 0, .burst = 5000, .rate = 777 },
		{ .iops = { 3, 0 }, .length = 512, .burst = 1, .rate = 3 },
		{ .bps = { MIB(1), MIB(1) }, .length = 4096, .burst = 256, .rate = 256 },
		{ .bps = { 1000000, 4096 }, .length = 4096, .burst = 1, .rate = 244 },
		{ .iops = { 100, 10 },
		  .bps = { MIB(1), 0 },
		  .length = 4096,
		  .burst = 10,
		  .rate = 100 },
		{ .iops = { 5000, 1000 },
		  .bps = { 409600, 81920 },
		  .length = 4096,
		  .burst = 20,
		  .rate = 100 },
	};
	struct block_request *requests = calloc(COUNT, sizeof(*requests));
	struct fixture *fixture = *state;
	uint8_t *data = calloc(1, 4096);

	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct iovec iov = { data, rows[i].length };
		const struct block_request like = {
			.op = BLOCK_READ, .iov = &iov, .iov_count = 1, .length = rows[i].length
		};
		struct event_clock *clock;
		unsigned int passed;

		fixture->iops = rows[i].iops;
		fixture->bps = rows[i].bps;
		fixture->done = 0;
		clock = limited(fixture);
		start_many(fixture, requests, COUNT, &like);
		assert_int_equal(fixture->done, rows[i].burst);
		event_clock_advance(clock, SECONDS * SECOND);
		passed = fixture->done - rows[i].burst;
		assert_in_range(passed * 100, rows[i].rate * SECONDS * 99,
				rows[i].rate * SECONDS * 101);
		/* Draining waits for nothing. */
		close_block(fixture);
		assert_int_equal(fixture->done, COUNT);
		limited_end(fixture, clock);
		fixture->loop = event_loop_create("test");
	}
	free(requests);
	free(data);
}

/* A request larger than the burst passes when nothing else is owed, and is paid for afterwards. */
static void test_limits_debt(void **state)
{
	struct fixture *fixture = *state;
	struct block_request large = { .op = BLOCK_WRITE_ZEROES, .length = 10000 }, small[2] = {};
	struct event_clock *clock;

	fixture->bps = (struct block_limit) { 1000, 100 };
	clock = limited(fixture);
	start_many(fixture, &large, 1,
		   &(struct block_request) { .op = BLOCK_WRITE_ZEROES, .length = 10000 });
	assert_int_equal(fixture->done, 1);
	/* 9,900 bytes are owed, and 50 more are needed. */
	start_many(fixture, small, 1,
		   &(struct block_request) { .op = BLOCK_WRITE_ZEROES, .length = 50 });
	event_clock_advance(clock, 9950 * (SECOND / 1000) - 1);
	assert_int_equal(fixture->done, 1);
	event_clock_advance(clock, 1);
	assert_int_equal(fixture->done, 2);
	/* A flush has no bytes, and these are counted only; but it does not overtake. */
	start_many(fixture, small, 1, &(struct block_request) { .op = BLOCK_FLUSH });
	assert_int_equal(fixture->done, 3);
	start_many(fixture, &large, 1,
		   &(struct block_request) { .op = BLOCK_WRITE_ZEROES, .length = 1000 });
	start_many(fixture, small, 1, &(struct block_request) { .op = BLOCK_FLUSH });
	assert_int_equal(fixture->done, 3);
	event_clock_advance(clock, SECOND / 10);
	assert_int_equal(fixture->done, 4);
	event_clock_advance(clock, SECOND);
	assert_int_equal(fixture->done, 5);
	limited_end(fixture, clock);
}

/* An idle disk saves up no more than its burst; what was drained was not done, and is not paid for. */
static void test_limits_idle(void **state)
{
	enum { COUNT = 1000 };
	const struct block_request flush = { .op = BLOCK_FLUSH };
	struct block_request requests[COUNT];
	struct fixture *fixture = *state;
	struct event_clock *clock;

	fixture->iops = (struct block_limit) { 100, 20 };
	clock = limited(fixture);
	event_clock_advance(clock, 1000 * SECOND);
	for (unsigned int round = 0; round < 50; round++) {
		fixture->done = 0;
		start_many(fixture, requests, 60, &flush);
		assert_int_equal(fixture->done, round ? 0 : 20);
		pthread_mutex_lock(&fixture->lock);
		block_drain(fixture->queue);
		pthread_mutex_unlock(&fixture->lock);
		assert_int_equal(fixture->done, 60);
		for (unsigned int i = 0; i < 60; i++) {
			bool done = !round && i < 20;

			assert_int_equal(requests[i].error, done ? 0 : -ECANCELED);
			assert_int_equal(requests[i].cancelled, !done);
		}
	}
	start_many(fixture, requests, COUNT, &flush);
	assert_int_equal(fixture->done, 60);
	event_clock_advance(clock, SECOND);
	assert_in_range(fixture->done, 60 + 99, 60 + 101);
	limited_end(fixture, clock);
}

static void on_room(void *arg)
{
	struct fixture *fixture = arg;

	while (block_room(fixture->queue))
		submit(fixture, &fixture->more[fixture->more_count++]);
}

/* Who hands in no more than there is room for has the same rate, exactly, and one that waits. */
static void test_limits_room(void **state)
{
	enum { COUNT = 1000 };
	static const struct block_queue_ops room_ops = { on_batch_end, on_room };
	struct fixture *fixture = *state;
	struct event_clock *clock;

	fixture->iops = (struct block_limit) { 777, 20 };
	fixture->more = calloc(COUNT, sizeof(*fixture->more));
	for (unsigned int i = 0; i < COUNT; i++)
		fixture->more[i].op = BLOCK_FLUSH;
	clock = limited(fixture);
	close_queue(fixture);
	fixture->queue = block_queue_open(fixture->block, fixture->loop, &fixture->lock,
					  QUEUE_DEPTH, &room_ops, fixture);
	assert_non_null(fixture->queue);
	pthread_mutex_lock(&fixture->lock);
	on_room(fixture);
	block_kick(fixture->queue);
	pthread_mutex_unlock(&fixture->lock);
	assert_int_equal(fixture->done, 20);
	/* Late, and seldom: it is made up for. */
	for (unsigned int i = 0; i < 20; i++)
		event_clock_advance(clock, SECOND / 20);
	assert_in_range(fixture->done, 20 + 776, 20 + 778);
	assert_int_equal(fixture->more_count, fixture->done + 1);
	limited_end(fixture, clock);
	free(fixture->more);
}

/* All queues together have the rate of one, and each its share. */
static void test_limits_shared(void **state)
{
	enum { COUNT = 4000, SECONDS = 10 };
	const struct block_request flush = { .op = BLOCK_FLUSH };
	struct block_request *requests = calloc(2 * COUNT, sizeof(*requests));
	struct fixture *fixture = *state, other;
	struct event_clock *clock;

	fixture->iops = (struct block_limit) { 500, 10 };
	clock = limited(fixture);
	other = *fixture;
	other.queue = block_queue_open(fixture->block, fixture->loop, &fixture->lock, QUEUE_DEPTH,
				       &queue_ops, &other);
	assert_non_null(other.queue);
	start_many(fixture, requests, COUNT, &flush);
	pthread_mutex_lock(&fixture->lock);
	for (unsigned int i = COUNT; i < 2 * COUNT; i++) {
		requests[i] = flush;
		submit(&other, &requests[i]);
	}
	block_kick(other.queue);
	pthread_mutex_unlock(&fixture->lock);
	event_clock_advance(clock, SECONDS * SECOND);
	assert_in_range(fixture->done + other.done, 10 + 500 * SECONDS * 99 / 100,
			10 + 500 * SECONDS * 101 / 100);
	assert_in_range(other.done, 500 * SECONDS / 2 - 25, 500 * SECONDS / 2 + 25);
	pthread_mutex_lock(&fixture->lock);
	block_drain(other.queue);
	block_queue_close(other.queue);
	pthread_mutex_unlock(&fixture->lock);
	assert_int_equal(other.done, COUNT);
	limited_end(fixture, clock);
	free(requests);
}

static void test_limits_wrong(void **state)
{
	struct fixture *fixture = *state;

	fixture->iops.burst = 5;
	assert_null(try_open(fixture, fixture->path, false, false));
	assert_int_equal(errno, EINVAL);
	assert_true(logged(fixture, "iops_burst=5: a burst of no limit (give \"iops=\" too)"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limits_debt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limits_idle, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limits_room, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limits_shared, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limits_wrong, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
