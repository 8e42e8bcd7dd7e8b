/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Unit tests of virtual time (event_loop.h): timers expire in order, each at its time, in the thread
 * that lets time pass; what is removed or disarmed does not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "event_loop.h"

#define TIMERS 4
#define CALLS 64

struct fixture;

/* One timer; @action runs in its callback. */
struct timer {
	struct fixture *fixture;
	struct event_source *source;
	unsigned int calls;
	uint32_t expirations;
	void (*action)(struct timer *timer);
};

/* @loops share @clock; @order: which timer was called, and @at: when. */
struct fixture {
	struct event_clock *clock;
	struct event_loop *loops[2];
	pthread_mutex_t lock;
	struct timer timers[TIMERS];
	unsigned int count;
	unsigned int order[CALLS];
	uint64_t at[CALLS];
	pthread_t thread;
};

static void on_timer(void *arg, uint32_t expirations)
{
	struct timer *timer = arg;
	struct fixture *f = timer->fixture;

	if (f->count < CALLS) {
		f->order[f->count] = (unsigned int)(timer - f->timers);
		f->at[f->count] = event_clock_now(f->clock);
	}
	f->count++;
	f->thread = pthread_self();
	timer->expirations = expirations;
	__atomic_add_fetch(&timer->calls, 1, __ATOMIC_ACQ_REL);
	if (timer->action)
		timer->action(timer);
}

/* Timers 0 and 1 are of the first loop, the others of the second; the odd ones have a lock. */
static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	pthread_mutex_init(&f->lock, NULL);
	f->clock = event_clock_create();
	assert_non_null(f->clock);
	for (unsigned int i = 0; i < 2; i++) {
		f->loops[i] = event_loop_create("test");
		assert_non_null(f->loops[i]);
		event_loop_set_clock(f->loops[i], f->clock);
	}
	for (unsigned int i = 0; i < TIMERS; i++) {
		f->timers[i].fixture = f;
		f->timers[i].source = event_add_timer(f->loops[i / 2], i & 1 ? &f->lock : NULL,
						      on_timer, &f->timers[i]);
		assert_non_null(f->timers[i].source);
	}
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	for (unsigned int i = 0; i < TIMERS; i++)
		event_remove(f->timers[i].source);
	event_loop_destroy(f->loops[0]);
	event_loop_destroy(f->loops[1]);
	event_clock_destroy(f->clock);
	pthread_mutex_destroy(&f->lock);
	free(f);
	return 0;
}

static void set(struct fixture *f, unsigned int index, uint64_t delay, uint64_t period)
{
	event_set_timer(f->timers[index].source, delay, period);
}

static void assert_calls(struct fixture *f, unsigned int count, const unsigned int *order,
			 const uint64_t *at)
{
	assert_int_equal(f->count, count);
	for (unsigned int i = 0; i < count; i++) {
		assert_int_equal(f->order[i], order[i]);
		assert_int_equal(f->at[i], at[i]);
	}
}

static void test_stands_still(void **state)
{
	struct fixture *f = *state;
	uint64_t expiry;

	assert_int_equal(event_clock_now(f->clock), 0);
	assert_false(event_clock_next(f->clock, &expiry));
	set(f, 0, 2, 0);
	usleep(2000);
	event_loop_poll(f->loops[0], 0);
	assert_int_equal(f->count, 0);
	assert_int_equal(event_clock_now(f->clock), 0);
	assert_true(event_clock_next(f->clock, &expiry));
	assert_int_equal(expiry, 2);
}

static void test_order(void **state)
{
	struct fixture *f = *state;

	set(f, 0, 300, 0);
	set(f, 1, 100, 0);
	set(f, 2, 200, 0);
	set(f, 3, 100, 0);
	assert_int_equal(event_clock_advance(f->clock, 99), 99);
	assert_int_equal(f->count, 0);
	assert_int_equal(event_clock_advance(f->clock, 1), 100);
	assert_int_equal(event_clock_advance(f->clock, 1000), 1100);
	assert_calls(f, 4, (unsigned int[]) { 1, 3, 2, 0 }, (uint64_t[]) { 100, 100, 200, 300 });
	assert_true(pthread_equal(f->thread, pthread_self()));
	assert_int_equal(f->timers[0].expirations, 1);
}

static void test_periodic(void **state)
{
	struct fixture *f = *state;

	set(f, 1, 10, 20);
	set(f, 2, 25, 0);
	event_clock_advance(f->clock, 55);
	assert_calls(f, 4, (unsigned int[]) { 1, 2, 1, 1 }, (uint64_t[]) { 10, 25, 30, 50 });
	set(f, 1, 0, 0);
	event_clock_advance(f->clock, 1000);
	assert_int_equal(f->count, 4);
}

static void test_set_again(void **state)
{
	struct fixture *f = *state;

	set(f, 0, 10, 0);
	set(f, 0, 40, 0);
	event_clock_advance(f->clock, 30);
	assert_int_equal(f->count, 0);
	event_clock_advance(f->clock, 30);
	assert_calls(f, 1, (unsigned int[]) { 0 }, (uint64_t[]) { 40 });
}

static void disarm_others(struct timer *timer)
{
	for (unsigned int i = 0; i < TIMERS; i++)
		set(timer->fixture, i, 0, 0);
}

static void remove_others(struct timer *timer)
{
	for (unsigned int i = 0; i < TIMERS; i++) {
		event_remove(timer->fixture->timers[i].source);
		timer->fixture->timers[i].source = NULL;
	}
}

/* What a callback disarms, itself included, does not expire at the same time any more. */
static void test_disarmed_by_another(void **state)
{
	struct fixture *f = *state;

	for (unsigned int i = 0; i < TIMERS; i++)
		set(f, i, 10, 10);
	f->timers[0].action = disarm_others;
	assert_int_equal(event_clock_advance(f->clock, 100), 100);
	assert_int_equal(f->count, 1);
}

static void test_removed_by_another(void **state)
{
	struct fixture *f = *state;
	uint64_t expiry;

	for (unsigned int i = 0; i < TIMERS; i++)
		set(f, i, 10, 10);
	f->timers[0].action = remove_others;
	event_clock_advance(f->clock, 100);
	assert_int_equal(f->count, 1);
	assert_false(event_clock_next(f->clock, &expiry));
	event_loop_poll(f->loops[0], 0);
	event_loop_poll(f->loops[1], 0);
}

static void again_at_once(struct timer *timer)
{
	event_set_timer(timer->source, 2, 0);
}

/* Callbacks that ask for more and more do not keep the clock for ever. */
static void test_no_end(void **state)
{
	struct fixture *f = *state;
	uint64_t now;

	f->timers[1].action = again_at_once;
	set(f, 1, 2, 0);
	now = event_clock_advance(f->clock, UINT64_MAX);
	assert_int_equal(now, 200000);
	assert_int_equal(f->count, 100000);
	f->timers[1].action = NULL;
	assert_int_equal(event_clock_advance(f->clock, 1000), 201000);
	assert_int_equal(f->count, 100001);
}

static void test_end_of_time(void **state)
{
	struct fixture *f = *state;

	set(f, 0, UINT64_MAX, 0);
	assert_int_equal(event_clock_advance(f->clock, INT64_MAX - 1), INT64_MAX - 1);
	assert_int_equal(f->count, 0);
	assert_int_equal(event_clock_advance(f->clock, UINT64_MAX), INT64_MAX);
	assert_int_equal(event_clock_advance(f->clock, 1), INT64_MAX);
	assert_int_equal(f->count, 1);
}

/* The loop's next turn comes whatever the clock does; changing one's mind works both ways. */
static void test_soon(void **state)
{
	struct fixture *f = *state;
	uint64_t expiry;

	set(f, 1, EVENT_SOON, 0);
	assert_false(event_clock_next(f->clock, &expiry));
	event_loop_poll(f->loops[0], 1000);
	assert_int_equal(f->count, 1);
	assert_int_equal(event_clock_now(f->clock), 0);

	set(f, 1, EVENT_SOON, 0);
	set(f, 1, 100, 0);
	usleep(2000);
	event_loop_poll(f->loops[0], 0);
	assert_int_equal(f->count, 1);
	set(f, 1, EVENT_SOON, 0);
	event_clock_advance(f->clock, 200);
	assert_int_equal(f->count, 1);
	event_loop_poll(f->loops[0], 1000);
	assert_int_equal(f->count, 2);
}

static void test_real_timer(void **state)
{
	struct fixture *f = *state;
	struct timer real = { .fixture = f };

	real.source = event_add_real_timer(f->loops[0], NULL, on_timer, &real);
	assert_non_null(real.source);
	event_set_timer(real.source, 1000000, 0);
	event_clock_advance(f->clock, 10000000);
	assert_int_equal(real.calls, 0);
	event_loop_poll(f->loops[0], 1000);
	assert_int_equal(real.calls, 1);
	event_remove(real.source);
}

/* ---- Threads ---- */

static void *advance_thread(void *arg)
{
	struct fixture *f = arg;

	for (unsigned int i = 0; i < 20000; i++)
		event_clock_advance(f->clock, 10);
	return NULL;
}

/* Timers with and without a lock come and go while time passes and their loops run. */
static void test_removed_by_other_threads(void **state)
{
	struct fixture *f = *state;
	struct timer timer = { .fixture = f };
	pthread_t thread;

	assert_int_equal(event_loop_start_thread(f->loops[0]), 0);
	assert_int_equal(pthread_create(&thread, NULL, advance_thread, f), 0);
	for (unsigned int i = 0; i < 2000; i++) {
		pthread_mutex_t *lock = i & 1 ? &f->lock : NULL;
		unsigned int calls;

		timer.source = event_add_timer(f->loops[0], lock, on_timer, &timer);
		assert_non_null(timer.source);
		event_set_timer(timer.source, 5, 5);
		if (i % 16 == 0)
			sched_yield();
		if (lock)
			pthread_mutex_lock(lock);
		event_remove(timer.source);
		calls = __atomic_load_n(&timer.calls, __ATOMIC_ACQUIRE);
		if (lock)
			pthread_mutex_unlock(lock);
		sched_yield();
		assert_int_equal(__atomic_load_n(&timer.calls, __ATOMIC_ACQUIRE), calls);
	}
	pthread_join(thread, NULL);
	event_loop_stop_thread(f->loops[0]);
}

#define CLOCK_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CLOCK_TEST(test_stands_still),
		CLOCK_TEST(test_order),
		CLOCK_TEST(test_periodic),
		CLOCK_TEST(test_set_again),
		CLOCK_TEST(test_disarmed_by_another),
		CLOCK_TEST(test_removed_by_another),
		CLOCK_TEST(test_no_end),
		CLOCK_TEST(test_end_of_time),
		CLOCK_TEST(test_soon),
		CLOCK_TEST(test_real_timer),
		CLOCK_TEST(test_removed_by_other_threads),
	};

	return cmocka_run_group_tests_name("virtual time", tests, NULL, NULL);
}
