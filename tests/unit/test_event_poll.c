/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Unit tests of the pollers of event_loop.h: work that a loop looks for by itself, which is never
 * lost, never called for after it was removed, and costs nothing while there is none.
 */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "event_loop.h"

#define US UINT64_C(1000)
#define MS UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)
#define POLL_NS (32 * US)

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

static void sleep_ns(uint64_t ns)
{
	struct timespec time = { .tv_sec = (time_t)(ns / SECOND), .tv_nsec = (long)(ns % SECOND) };

	nanosleep(&time, NULL);
}

/* What the whole process uses while this thread sleeps for @ns: what the loop's thread does. */
static uint64_t cpu_time_in(uint64_t ns)
{
	uint64_t before = clock_ns(CLOCK_PROCESS_CPUTIME_ID);

	sleep_ns(ns);
	return clock_ns(CLOCK_PROCESS_CPUTIME_ID) - before;
}

/*
 * As a queue: somebody posts, and signals @kick_fd only if he was asked to.
 * @posted, @asked: between the two threads; @done: the loop's, read by both
 * The rest counts calls.
 */
struct box {
	pthread_mutex_t lock;
	struct event_loop *loop;
	struct event_source *poller, *kick;
	int kick_fd;
	unsigned int posted, done;
	bool asked;
	bool never_empty;
	unsigned int polls, kicks, sleeps, wakes, found;
};

static unsigned int count_of(const unsigned int *count)
{
	return __atomic_load_n(count, __ATOMIC_ACQUIRE);
}

static void count_up(unsigned int *count)
{
	__atomic_add_fetch(count, 1, __ATOMIC_RELEASE);
}

static bool box_work(struct box *box)
{
	unsigned int posted = __atomic_load_n(&box->posted, __ATOMIC_SEQ_CST);

	if (posted == box->done)
		return box->never_empty;
	__atomic_store_n(&box->done, posted, __ATOMIC_RELEASE);
	return true;
}

static bool box_poll(void *arg)
{
	struct box *box = arg;
	bool found = box_work(box);

	count_up(&box->polls);
	if (found)
		count_up(&box->found);
	return found;
}

static bool box_sleep(void *arg)
{
	struct box *box = arg;

	count_up(&box->sleeps);
	__atomic_store_n(&box->asked, true, __ATOMIC_SEQ_CST);
	return __atomic_load_n(&box->posted, __ATOMIC_SEQ_CST) != box->done;
}

static void box_wake(void *arg)
{
	struct box *box = arg;

	count_up(&box->wakes);
	__atomic_store_n(&box->asked, false, __ATOMIC_SEQ_CST);
}

static const struct event_poller_ops box_ops = { box_poll, box_sleep, box_wake };

static void on_kick(void *arg, uint32_t events)
{
	struct box *box = arg;
	uint64_t count;

	assert_int_equal(read(box->kick_fd, &count, sizeof(count)), sizeof(count));
	count_up(&box->kicks);
	box_work(box);
}

static void box_create(struct box *box, struct event_loop *loop, bool always)
{
	memset(box, 0, sizeof(*box));
	pthread_mutex_init(&box->lock, NULL);
	box->loop = loop;
	box->asked = true;
	box->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(box->kick_fd >= 0);
	box->kick = event_add_fd(loop, box->kick_fd, EPOLLIN, &box->lock, on_kick, box);
	assert_non_null(box->kick);
	box->poller = event_add_poller(loop, &box->lock, always, &box_ops, box);
	assert_non_null(box->poller);
}

static void box_destroy(struct box *box)
{
	pthread_mutex_lock(&box->lock);
	event_remove(box->kick);
	event_remove(box->poller);
	pthread_mutex_unlock(&box->lock);
	close(box->kick_fd);
}

static void box_post(struct box *box)
{
	uint64_t one = 1;

	__atomic_add_fetch(&box->posted, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&box->asked, __ATOMIC_SEQ_CST))
		assert_int_equal(write(box->kick_fd, &one, sizeof(one)), sizeof(one));
}

/* What was posted is done, in any case within seconds: a kick that is lost would be one for ever. */
static bool box_wait(struct box *box)
{
	uint64_t until = clock_ns(CLOCK_MONOTONIC) + 10 * SECOND;

	while (count_of(&box->done) != count_of(&box->posted)) {
		if (clock_ns(CLOCK_MONOTONIC) > until)
			return false;
		sched_yield();
	}
	return true;
}

static void set_enabled(struct box *box, bool enabled)
{
	pthread_mutex_lock(&box->lock);
	assert_int_equal(event_set_events(box->poller, enabled ? EPOLLIN : 0), 0);
	if (!enabled)
		__atomic_store_n(&box->asked, true, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&box->lock);
}

static int setup(void **state)
{
	*state = event_loop_create("test-poll");
	return *state ? 0 : -1;
}

static int teardown(void **state)
{
	event_loop_destroy(*state);
	return 0;
}

/* ---- A loop that is turned by hand ---- */

static void test_by_hand_not_looked(void **state)
{
	struct box box;

	box_create(&box, *state, false);
	event_loop_set_poll(*state, POLL_NS);
	__atomic_add_fetch(&box.posted, 1, __ATOMIC_SEQ_CST); /* and no kick */
	for (int i = 0; i < 5; i++)
		event_loop_poll(*state, 0);
	assert_int_equal(box.polls, 0);
	assert_int_equal(box.done, 0);
	box_post(&box);
	event_loop_poll(*state, 0);
	assert_int_equal(box.kicks, 1);
	assert_int_equal(box.done, 2);
	box_destroy(&box);
}

static void test_by_hand_always(void **state)
{
	struct box box;
	uint64_t before;

	box_create(&box, *state, true);
	__atomic_add_fetch(&box.posted, 1, __ATOMIC_SEQ_CST);
	before = clock_ns(CLOCK_MONOTONIC);
	event_loop_poll(*state, 5000);
	assert_true(clock_ns(CLOCK_MONOTONIC) - before < 2 * SECOND);
	assert_int_equal(box.done, 1);
	event_loop_poll(*state, 0);
	event_loop_poll(*state, 0);
	event_loop_poll(*state, 0);
	assert_int_equal(box.polls, 4); /* one a turn */
	assert_int_equal(box.wakes, 0); /* it is told all the same */
	box_destroy(&box);
	event_loop_poll(*state, 0);
	assert_int_equal(box.polls, 4);
}

static void test_needs_a_lock(void **state)
{
	errno = 0;
	assert_null(event_add_poller(*state, NULL, false, &box_ops, NULL));
	assert_int_equal(errno, EINVAL);
}

/* ---- A thread ---- */

/* This thread and the loop's on different CPUs: on one, looking keeps the other from working. */
static bool run_apart(struct event_loop *loop, cpu_set_t *ours)
{
	cpu_set_t one;
	int cpu = 0;

	if (sched_getaffinity(0, sizeof(*ours), ours) || CPU_COUNT(ours) < 2)
		return false;
	for (; !CPU_ISSET(cpu, ours); cpu++)
		;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	if (sched_setaffinity(0, sizeof(one), &one))
		return false;
	CPU_XOR(&one, ours, &one);
	event_loop_set_cpus(loop, &one);
	return true;
}

/*
 * Whoever posts again at once is found, and does not have to say anything: on a machine that is busy
 * with other things at least now and then.
 */
static void test_found_without_kicks(void **state)
{
	bool quiet = false;
	struct box box;
	cpu_set_t ours;

	if (!run_apart(*state, &ours)) {
		print_message("skipped: it takes two CPUs\n");
		skip();
	}
	box_create(&box, *state, false);
	event_loop_set_poll(*state, MS);
	assert_int_equal(event_loop_start_thread(*state), 0);
	for (int round = 0; round < 100 && !quiet; round++) {
		unsigned int kicks = count_of(&box.kicks), found = count_of(&box.found);

		for (int i = 0; i < 1000; i++) {
			box_post(&box);
			assert_true(box_wait(&box));
		}
		kicks = count_of(&box.kicks) - kicks;
		found = count_of(&box.found) - found;
		quiet = found > 10 * kicks;
	}
	event_loop_stop_thread(*state);
	sched_setaffinity(0, sizeof(ours), &ours);
	assert_true(quiet);
	assert_true(box.wakes);
	box_destroy(&box);
}

static void test_without_limit_no_polling(void **state)
{
	struct box box;

	box_create(&box, *state, false);
	assert_int_equal(event_loop_start_thread(*state), 0);
	for (int i = 0; i < 100; i++) {
		box_post(&box);
		assert_true(box_wait(&box));
	}
	event_loop_stop_thread(*state);
	assert_int_equal(box.polls, 0);
	assert_true(box.kicks > 0);
	box_destroy(&box);
}

/* Nothing is lost, whatever the time between two posts is to the time that the loop looks. */
static void test_nothing_is_lost(void **state)
{
	unsigned int seed = 1;
	struct box box;

	box_create(&box, *state, false);
	event_loop_set_poll(*state, POLL_NS);
	assert_int_equal(event_loop_start_thread(*state), 0);
	for (int i = 0; i < 20000; i++) {
		uint64_t until = clock_ns(CLOCK_MONOTONIC) + (uint64_t)rand_r(&seed) % (50 * US);

		while (clock_ns(CLOCK_MONOTONIC) < until)
			;
		box_post(&box);
		if (i % 3 == 0)
			assert_true(box_wait(&box));
	}
	assert_true(box_wait(&box));
	event_loop_stop_thread(*state);
	box_destroy(&box);
}

static void test_idle_costs_nothing(void **state)
{
	struct box box;

	box_create(&box, *state, false);
	event_loop_set_poll(*state, POLL_NS);
	assert_int_equal(event_loop_start_thread(*state), 0);
	for (int i = 0; i < 1000; i++) {
		box_post(&box);
		assert_true(box_wait(&box));
	}
	sleep_ns(10 * MS);
	assert_true(cpu_time_in(SECOND) < 5 * MS);
	event_loop_stop_thread(*state);
	box_destroy(&box);
}

/* Posts that are too far apart to be found are not looked for but now and then. */
static void test_backs_off(void **state)
{
	unsigned int wakes;
	struct box box;

	box_create(&box, *state, false);
	event_loop_set_poll(*state, POLL_NS);
	assert_int_equal(event_loop_start_thread(*state), 0);
	for (int i = 0; i < 300; i++) {
		box_post(&box);
		sleep_ns(MS);
	}
	wakes = count_of(&box.wakes);
	for (int i = 0; i < 300; i++) {
		box_post(&box);
		sleep_ns(MS);
	}
	/* 300 ms or more, with one look each 64 ms; some find something by chance. */
	assert_in_range(count_of(&box.wakes) - wakes, 1, 100);
	assert_true(box_wait(&box));
	event_loop_stop_thread(*state);
	box_destroy(&box);
}

static void test_always(void **state)
{
	unsigned int kicks;
	struct box box;

	box_create(&box, *state, true);
	assert_int_equal(event_loop_start_thread(*state), 0);
	while (!count_of(&box.wakes))
		sched_yield();
	kicks = count_of(&box.kicks);
	for (int i = 0; i < 100; i++) {
		sleep_ns(100 * US);
		box_post(&box);
		assert_true(box_wait(&box));
	}
	assert_int_equal(count_of(&box.kicks), kicks);
	assert_int_equal(count_of(&box.sleeps), 0);

	/* Without it the loop sleeps. */
	set_enabled(&box, false);
	sleep_ns(20 * MS);
	assert_true(cpu_time_in(300 * MS) < 20 * MS);
	box_post(&box);
	assert_true(box_wait(&box));
	assert_int_equal(count_of(&box.kicks), kicks + 1);

	/* And with it again it does not. */
	set_enabled(&box, true);
	while (count_of(&box.wakes) < 2)
		sched_yield();
	box_post(&box);
	assert_true(box_wait(&box));
	assert_int_equal(count_of(&box.kicks), kicks + 1);
	event_loop_stop_thread(*state);
	assert_int_equal(box.sleeps, 1); /* when the thread ended */
	box_destroy(&box);
}

static void count_call(void *arg, uint32_t events)
{
	count_up(arg);
}

/* However much pollers find, timers and descriptors have their turn. */
static void test_others_are_not_starved(void **state)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	unsigned int expired = 0;
	struct event_source *timer = event_add_timer(*state, &lock, count_call, &expired);
	struct box box;

	assert_non_null(timer);
	box_create(&box, *state, true);
	box.never_empty = true;
	assert_int_equal(event_loop_start_thread(*state), 0);
	event_set_timer(timer, MS, MS);
	sleep_ns(200 * MS);
	assert_in_range(count_of(&expired), 20, 200);
	assert_true(count_of(&box.polls) > 1000);
	event_loop_stop_thread(*state);
	box_destroy(&box);
	event_remove(timer);
}

/* A stop comes through although the loop always finds something. */
static void test_stop(void **state)
{
	struct box box;

	box_create(&box, *state, true);
	box.never_empty = true;
	for (int i = 0; i < 20; i++) {
		assert_int_equal(event_loop_start_thread(*state), 0);
		sleep_ns((uint64_t)i * 100 * US);
		event_loop_stop_thread(*state);
	}
	box_destroy(&box);
}

/* What came while nobody looked any more, and nobody had been asked to tell. */
static bool late_sleep(void *arg)
{
	struct box *box = arg;

	__atomic_add_fetch(&box->posted, 1, __ATOMIC_SEQ_CST);
	return box_sleep(arg);
}

static void test_found_when_the_thread_ends(void **state)
{
	static const struct event_poller_ops ops = { box_poll, late_sleep, box_wake };
	struct box box;

	box_create(&box, *state, true);
	pthread_mutex_lock(&box.lock);
	event_remove(box.poller);
	box.poller = event_add_poller(*state, &box.lock, true, &ops, &box);
	pthread_mutex_unlock(&box.lock);
	assert_int_equal(event_loop_start_thread(*state), 0);
	while (!count_of(&box.wakes))
		sched_yield();
	event_loop_stop_thread(*state);
	assert_int_equal(box.posted, 1);
	assert_int_equal(box.done, 0);
	event_loop_poll(*state, 0);
	assert_int_equal(box.done, 1);
	box_destroy(&box);
}

/* Where time stands still the loop waits as ever. */
static void test_virtual_time(void **state)
{
	struct event_clock *clock = event_clock_create();
	struct box box;

	assert_non_null(clock);
	assert_false(event_loop_is_virtual(*state));
	event_loop_set_clock(*state, clock);
	assert_true(event_loop_is_virtual(*state));
	event_loop_set_poll(*state, POLL_NS);
	box_create(&box, *state, true);
	assert_int_equal(event_loop_start_thread(*state), 0);
	box_post(&box);
	assert_true(box_wait(&box));
	sleep_ns(10 * MS);
	assert_true(cpu_time_in(300 * MS) < 10 * MS);
	assert_int_equal(count_of(&box.wakes), 0);
	event_loop_stop_thread(*state);
	box_destroy(&box);
	event_loop_destroy(*state);
	event_clock_destroy(clock);
	*state = NULL;
}

/* ---- Pollers that come and go ---- */

/* Their locks stay until the thread has ended. */
static void test_removed_is_gone(void **state)
{
	enum { ROUNDS = 300 };
	struct box *boxes = calloc(ROUNDS, sizeof(*boxes));

	assert_non_null(boxes);
	event_loop_set_poll(*state, POLL_NS);
	assert_int_equal(event_loop_start_thread(*state), 0);
	for (int i = 0; i < ROUNDS; i++) {
		struct box *box = &boxes[i];
		unsigned int polls;

		box_create(box, *state, i & 1);
		while (i & 1 && !count_of(&box->polls))
			sched_yield();
		box_post(box);
		box_destroy(box);
		polls = count_of(&box->polls);
		if (i % 50 == 0)
			sleep_ns(MS);
		assert_int_equal(count_of(&box->polls), polls);
	}
	event_loop_stop_thread(*state);
	free(boxes);
}

struct switcher {
	struct box *box;
	unsigned int failures;
};

static void *switch_it(void *arg)
{
	struct switcher *switcher = arg;

	for (int i = 0; i < 500; i++) {
		set_enabled(switcher->box, i & 1);
		if (i % 10 == 0)
			sleep_ns(50 * US);
	}
	set_enabled(switcher->box, true);
	return NULL;
}

static void test_switched_while_work_comes(void **state)
{
	struct switcher switchers[3];
	struct box boxes[3];
	pthread_t threads[3];

	event_loop_set_poll(*state, POLL_NS);
	assert_int_equal(event_loop_start_thread(*state), 0);
	for (unsigned int i = 0; i < 3; i++) {
		box_create(&boxes[i], *state, i == 2);
		switchers[i] = (struct switcher) { .box = &boxes[i] };
		assert_int_equal(pthread_create(&threads[i], NULL, switch_it, &switchers[i]), 0);
	}
	for (int i = 0; i < 3000; i++)
		box_post(&boxes[i % 3]);
	for (unsigned int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	for (unsigned int i = 0; i < 3; i++) {
		box_post(&boxes[i]);
		assert_true(box_wait(&boxes[i]));
	}
	event_loop_stop_thread(*state);
	for (unsigned int i = 0; i < 3; i++)
		box_destroy(&boxes[i]);
}

#define LOOP_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LOOP_TEST(test_by_hand_not_looked),
		LOOP_TEST(test_by_hand_always),
		LOOP_TEST(test_needs_a_lock),
		LOOP_TEST(test_found_without_kicks),
		LOOP_TEST(test_without_limit_no_polling),
		LOOP_TEST(test_nothing_is_lost),
		LOOP_TEST(test_idle_costs_nothing),
		LOOP_TEST(test_backs_off),
		LOOP_TEST(test_always),
		LOOP_TEST(test_others_are_not_starved),
		LOOP_TEST(test_stop),
		LOOP_TEST(test_found_when_the_thread_ends),
		LOOP_TEST(test_virtual_time),
		LOOP_TEST(test_removed_is_gone),
		LOOP_TEST(test_switched_while_work_comes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
