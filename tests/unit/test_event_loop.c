/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Unit tests of event_loop.h: readiness, timers, locks, threads, and that what is removed is gone.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "event_loop.h"
#include "open_descriptors.h"

#define MS UINT64_C(1000000)

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void sleep_ms(unsigned int ms)
{
	struct timespec time = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	nanosleep(&time, NULL);
}

/* A source on an eventfd or a timer, and what its callback saw; @action runs in the callback. */
struct watch {
	struct event_loop *loop;
	struct event_source *source;
	int fd;
	unsigned int calls;
	uint32_t events;
	bool drain;
	void (*action)(struct watch *watch);
	struct watch *other;
	pthread_mutex_t *lock;
	bool lock_was_held;
	pthread_t thread;
};

static unsigned int calls_of(struct watch *watch)
{
	return __atomic_load_n(&watch->calls, __ATOMIC_ACQUIRE);
}

static void on_event(void *arg, uint32_t events)
{
	struct watch *watch = arg;
	uint64_t count;

	watch->events = events;
	watch->thread = pthread_self();
	if (watch->lock)
		watch->lock_was_held = pthread_mutex_trylock(watch->lock) == EBUSY;
	if (watch->drain && watch->fd >= 0)
		assert_int_equal(read(watch->fd, &count, sizeof(count)), sizeof(count));
	if (watch->action)
		watch->action(watch);
	__atomic_add_fetch(&watch->calls, 1, __ATOMIC_ACQ_REL);
}

static void watch_init(struct watch *watch, struct event_loop *loop)
{
	memset(watch, 0, sizeof(*watch));
	watch->loop = loop;
	watch->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	watch->drain = true;
	assert_true(watch->fd >= 0);
}

static void watch_add(struct watch *watch, uint32_t events)
{
	watch->source = event_add_fd(watch->loop, watch->fd, events, watch->lock, on_event, watch);
	assert_non_null(watch->source);
}

static void watch_timer(struct watch *watch, struct event_loop *loop)
{
	memset(watch, 0, sizeof(*watch));
	watch->loop = loop;
	watch->fd = -1;
	watch->source = event_add_timer(loop, NULL, on_event, watch);
	assert_non_null(watch->source);
}

static void signal_fd(int fd)
{
	uint64_t one = 1;

	assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
}

/* Waits up to five seconds for the callback to have been called @calls times. */
static bool wait_calls(struct watch *watch, unsigned int calls)
{
	for (unsigned int i = 0; i < 5000 && calls_of(watch) < calls; i++)
		sleep_ms(1);
	return calls_of(watch) >= calls;
}

static int setup(void **state)
{
	*state = event_loop_create("test-loop");
	return *state ? 0 : -1;
}

static int teardown(void **state)
{
	event_loop_destroy(*state);
	return 0;
}

/* ---- Readiness ---- */

static void test_calls_when_readable(void **state)
{
	struct watch watch;

	watch_init(&watch, *state);
	watch_add(&watch, EPOLLIN);
	event_loop_poll(*state, 0);
	assert_int_equal(watch.calls, 0);
	signal_fd(watch.fd);
	event_loop_poll(*state, 0);
	assert_int_equal(watch.calls, 1);
	assert_int_equal(watch.events, EPOLLIN);
	event_loop_poll(*state, 0);
	assert_int_equal(watch.calls, 1);
	event_remove(watch.source);
	close(watch.fd);
}

static void test_calls_as_long_as_it_is_ready(void **state)
{
	struct watch watch;

	watch_init(&watch, *state);
	watch.drain = false;
	watch_add(&watch, EPOLLIN);
	signal_fd(watch.fd);
	for (unsigned int i = 1; i <= 5; i++) {
		event_loop_poll(*state, 0);
		assert_int_equal(watch.calls, i);
	}
	event_remove(watch.source);
	close(watch.fd);
}

static void test_edge_triggered(void **state)
{
	struct watch watch;

	watch_init(&watch, *state);
	watch.drain = false;
	watch_add(&watch, EPOLLIN | EPOLLET);
	signal_fd(watch.fd);
	event_loop_poll(*state, 0);
	event_loop_poll(*state, 0);
	assert_int_equal(watch.calls, 1);
	signal_fd(watch.fd);
	event_loop_poll(*state, 0);
	assert_int_equal(watch.calls, 2);
	event_remove(watch.source);
	close(watch.fd);
}

static void test_writable(void **state)
{
	struct watch watch;

	watch_init(&watch, *state);
	watch.drain = false;
	watch_add(&watch, EPOLLIN | EPOLLOUT);
	event_loop_poll(*state, 0);
	assert_int_equal(watch.events, EPOLLOUT);
	signal_fd(watch.fd);
	event_loop_poll(*state, 0);
	assert_int_equal(watch.events, EPOLLIN | EPOLLOUT);
	event_remove(watch.source);
	close(watch.fd);
}

static void test_set_events(void **state)
{
	struct watch watch;

	watch_init(&watch, *state);
	watch_add(&watch, 0);
	signal_fd(watch.fd);
	event_loop_poll(*state, 0);
	assert_int_equal(watch.calls, 0);
	assert_int_equal(event_set_events(watch.source, EPOLLIN), 0);
	event_loop_poll(*state, 0);
	assert_int_equal(watch.calls, 1);
	assert_int_equal(event_set_events(watch.source, 0), 0);
	signal_fd(watch.fd);
	event_loop_poll(*state, 0);
	assert_int_equal(watch.calls, 1);
	event_remove(watch.source);
	close(watch.fd);
}

/* "0: nothing" includes a hang-up, which epoll reports without being asked. */
static void test_no_events_means_no_hang_up_either(void **state)
{
	struct watch watch;
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	memset(&watch, 0, sizeof(watch));
	watch.loop = *state;
	watch.fd = ends[0];
	watch_add(&watch, 0);
	close(ends[1]);
	event_loop_poll(*state, 0);
	assert_int_equal(watch.calls, 0);
	assert_int_equal(event_set_events(watch.source, EPOLLIN), 0);
	event_loop_poll(*state, 0);
	assert_int_equal(watch.calls, 1);
	assert_true(watch.events & EPOLLHUP);
	assert_int_equal(event_set_events(watch.source, 0), 0);
	event_loop_poll(*state, 0);
	assert_int_equal(watch.calls, 1);
	event_remove(watch.source);
	close(ends[0]);
}

static void test_many_sources(void **state)
{
	struct watch watches[100];

	for (size_t i = 0; i < ARRAY_SIZE(watches); i++) {
		watch_init(&watches[i], *state);
		watch_add(&watches[i], EPOLLIN);
		signal_fd(watches[i].fd);
	}
	for (unsigned int i = 0; i < 20; i++)
		event_loop_poll(*state, 0);
	for (size_t i = 0; i < ARRAY_SIZE(watches); i++) {
		assert_int_equal(watches[i].calls, 1);
		event_remove(watches[i].source);
		close(watches[i].fd);
	}
}

static void test_add_errors(void **state)
{
	errno = 0;
	assert_null(event_add_fd(*state, -1, EPOLLIN, NULL, on_event, NULL));
	assert_int_equal(errno, EBADF);
}

static void test_poll_waits(void **state)
{
	uint64_t start = now_ns();

	event_loop_poll(*state, 30);
	assert_true(now_ns() - start >= 29 * MS);
}

/* ---- Timers ---- */

static void test_timer_starts_disarmed(void **state)
{
	struct watch timer;

	watch_timer(&timer, *state);
	event_loop_poll(*state, 20);
	assert_int_equal(timer.calls, 0);
	event_remove(timer.source);
}

static void test_timer_once(void **state)
{
	uint64_t start = now_ns();
	struct watch timer;

	watch_timer(&timer, *state);
	event_set_timer(timer.source, 20 * MS, 0);
	event_loop_poll(*state, 5000);
	assert_true(now_ns() - start >= 20 * MS);
	assert_int_equal(timer.calls, 1);
	assert_int_equal(timer.events, 1);
	event_loop_poll(*state, 40);
	assert_int_equal(timer.calls, 1);
	event_remove(timer.source);
}

static void test_timer_periodic(void **state)
{
	uint64_t start = now_ns();
	struct watch timer;

	watch_timer(&timer, *state);
	event_set_timer(timer.source, 1, 10 * MS);
	for (unsigned int i = 0; i < 100 && timer.calls < 4; i++)
		event_loop_poll(*state, 1000);
	assert_int_equal(timer.calls, 4);
	assert_true(now_ns() - start >= 30 * MS);
	event_set_timer(timer.source, 0, 10 * MS);
	timer.calls = 0;
	event_loop_poll(*state, 30);
	assert_int_equal(timer.calls, 0);
	event_remove(timer.source);
}

/* The callback hears of all expirations that it missed. */
static void test_timer_counts_expirations(void **state)
{
	struct watch timer;

	watch_timer(&timer, *state);
	event_set_timer(timer.source, MS, MS);
	sleep_ms(20);
	event_loop_poll(*state, 0);
	assert_int_equal(timer.calls, 1);
	assert_true(timer.events >= 19);
	event_remove(timer.source);
}

static void test_timer_disarmed_after_it_fired(void **state)
{
	struct watch timer;

	watch_timer(&timer, *state);
	event_set_timer(timer.source, 1, 0);
	sleep_ms(5);
	event_set_timer(timer.source, 0, 0);
	event_loop_poll(*state, 0);
	assert_int_equal(timer.calls, 0);
	event_remove(timer.source);
}

static void test_timer_set_again(void **state)
{
	uint64_t start = now_ns();
	struct watch timer;

	watch_timer(&timer, *state);
	event_set_timer(timer.source, 1, 0);
	event_set_timer(timer.source, 30 * MS, 0);
	event_loop_poll(*state, 5000);
	assert_int_equal(timer.calls, 1);
	assert_true(now_ns() - start >= 30 * MS);
	event_remove(timer.source);
}

static void test_timer_far_away(void **state)
{
	struct watch timer;

	watch_timer(&timer, *state);
	event_set_timer(timer.source, UINT64_MAX, UINT64_MAX);
	event_loop_poll(*state, 10);
	assert_int_equal(timer.calls, 0);
	event_remove(timer.source);
}

/* ---- Removal ---- */

static void remove_itself(struct watch *watch)
{
	event_remove(watch->source);
	watch->source = NULL;
}

static void remove_other(struct watch *watch)
{
	if (!watch->other->source)
		return;
	event_remove(watch->other->source);
	watch->other->source = NULL;
	remove_itself(watch);
}

static void test_remove(void **state)
{
	struct watch watch;

	watch_init(&watch, *state);
	watch_add(&watch, EPOLLIN);
	signal_fd(watch.fd);
	event_remove(watch.source);
	event_loop_poll(*state, 0);
	assert_int_equal(watch.calls, 0);
	close(watch.fd);
	event_remove(NULL);
}

static void test_remove_itself(void **state)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

	for (unsigned int i = 0; i < 2; i++) {
		struct watch watch;

		watch_init(&watch, *state);
		watch.drain = false;
		watch.action = remove_itself;
		watch.lock = i ? &lock : NULL;
		watch_add(&watch, EPOLLIN);
		signal_fd(watch.fd);
		event_loop_poll(*state, 0);
		event_loop_poll(*state, 0);
		assert_int_equal(watch.calls, 1);
		close(watch.fd);
	}
}

static void test_timer_removes_itself(void **state)
{
	struct watch timer;

	watch_timer(&timer, *state);
	timer.action = remove_itself;
	event_set_timer(timer.source, 1, 1);
	event_loop_poll(*state, 5000);
	event_loop_poll(*state, 10);
	assert_int_equal(timer.calls, 1);
}

/* Both are ready in one batch; the first to run removes both, and the second must not run. */
static void test_remove_other_of_the_same_batch(void **state)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

	for (unsigned int i = 0; i < 2; i++) {
		struct watch a, b;

		watch_init(&a, *state);
		watch_init(&b, *state);
		a.lock = b.lock = i ? &lock : NULL;
		a.action = b.action = remove_other;
		a.other = &b;
		b.other = &a;
		watch_add(&a, EPOLLIN);
		watch_add(&b, EPOLLIN);
		signal_fd(a.fd);
		signal_fd(b.fd);
		event_loop_poll(*state, 0);
		event_loop_poll(*state, 0);
		assert_int_equal(a.calls + b.calls, 1);
		close(a.fd);
		close(b.fd);
	}
}

static void add_other(struct watch *watch)
{
	if (!watch->other->source)
		watch_add(watch->other, EPOLLIN);
}

static void test_add_in_a_callback(void **state)
{
	struct watch a, b;

	watch_init(&a, *state);
	watch_init(&b, *state);
	a.action = add_other;
	a.other = &b;
	watch_add(&a, EPOLLIN);
	signal_fd(a.fd);
	signal_fd(b.fd);
	event_loop_poll(*state, 0);
	event_loop_poll(*state, 0);
	assert_int_equal(b.calls, 1);
	event_remove(a.source);
	event_remove(b.source);
	close(a.fd);
	close(b.fd);
}

/* A descriptor number that is used again belongs to the new source alone. */
static void test_descriptor_used_again(void **state)
{
	struct watch first, second;

	watch_init(&first, *state);
	watch_add(&first, EPOLLIN);
	signal_fd(first.fd);
	event_remove(first.source);
	close(first.fd);
	watch_init(&second, *state);
	assert_int_equal(second.fd, first.fd);
	watch_add(&second, EPOLLIN);
	signal_fd(second.fd);
	event_loop_poll(*state, 0);
	assert_int_equal(first.calls, 0);
	assert_int_equal(second.calls, 1);
	event_remove(second.source);
	close(second.fd);
}

static void test_destroy_leaves_descriptors_open(void **state)
{
	struct event_loop *loop = event_loop_create("short");
	struct watch watch, timer;

	assert_non_null(loop);
	watch_init(&watch, loop);
	watch_add(&watch, EPOLLIN);
	watch_timer(&timer, loop);
	event_loop_destroy(loop);
	assert_int_equal(fcntl(watch.fd, F_GETFD) >= 0, 1);
	close(watch.fd);
}

static void test_no_descriptor_is_lost(void **state)
{
	unsigned int before = open_descriptors();

	for (unsigned int i = 0; i < 3; i++) {
		struct event_loop *loop = event_loop_create("short");
		struct watch timers[100];

		for (size_t n = 0; n < ARRAY_SIZE(timers); n++)
			watch_timer(&timers[n], loop);
		for (size_t n = 0; n < ARRAY_SIZE(timers); n += 2)
			event_remove(timers[n].source);
		event_loop_poll(loop, 0);
		event_loop_destroy(loop);
	}
	assert_int_equal(open_descriptors(), before);
}

/* ---- Locks ---- */

static void test_lock_is_held(void **state)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct watch watch;

	watch_init(&watch, *state);
	watch.lock = &lock;
	watch_add(&watch, EPOLLIN);
	signal_fd(watch.fd);
	event_loop_poll(*state, 0);
	assert_int_equal(watch.calls, 1);
	assert_true(watch.lock_was_held);
	assert_int_equal(pthread_mutex_trylock(&lock), 0);
	event_remove(watch.source);
	pthread_mutex_unlock(&lock);
	close(watch.fd);
}

/* ---- Running ---- */

static void stop_loop(struct watch *watch)
{
	event_loop_stop(watch->loop);
}

static void test_run_until_stopped(void **state)
{
	struct watch watch;

	watch_init(&watch, *state);
	watch.action = stop_loop;
	watch_add(&watch, EPOLLIN);
	for (unsigned int i = 1; i <= 3; i++) {
		signal_fd(watch.fd);
		event_loop_run(*state);
		assert_int_equal(watch.calls, i);
	}
	event_remove(watch.source);
	close(watch.fd);
}

static void test_stop_before_run(void **state)
{
	event_loop_stop(*state);
	event_loop_run(*state); /* or the test hangs */
}

/* ---- Threads ---- */

static void test_thread(void **state)
{
	char name[16] = "";
	struct watch watch;

	watch_init(&watch, *state);
	watch_add(&watch, EPOLLIN);
	assert_int_equal(event_loop_start_thread(*state), 0);
	signal_fd(watch.fd);
	assert_true(wait_calls(&watch, 1));
	assert_false(pthread_equal(watch.thread, pthread_self()));
	assert_int_equal(pthread_getname_np(watch.thread, name, sizeof(name)), 0);
	assert_string_equal(name, "test-loop");
	event_loop_stop_thread(*state);
	signal_fd(watch.fd);
	sleep_ms(10);
	assert_int_equal(calls_of(&watch), 1);
	event_remove(watch.source);
	close(watch.fd);
}

static void test_stop_thread_without_one(void **state)
{
	event_loop_stop_thread(*state);
	event_loop_stop_thread(*state);
}

static void test_thread_can_start_again(void **state)
{
	struct watch watch;

	watch_init(&watch, *state);
	watch_add(&watch, EPOLLIN);
	for (unsigned int i = 1; i <= 3; i++) {
		assert_int_equal(event_loop_start_thread(*state), 0);
		signal_fd(watch.fd);
		assert_true(wait_calls(&watch, i));
		event_loop_stop_thread(*state);
	}
	event_remove(watch.source);
	close(watch.fd);
}

/* A thread that event_loop_stop() ended by itself is joined, and the next one runs. */
static void test_thread_can_start_again_after_stop(void **state)
{
	struct watch watch;

	watch_init(&watch, *state);
	watch_add(&watch, EPOLLIN);
	assert_int_equal(event_loop_start_thread(*state), 0);
	event_loop_stop(*state);
	sleep_ms(50);
	event_loop_stop_thread(*state);
	assert_int_equal(event_loop_start_thread(*state), 0);
	sleep_ms(20);
	signal_fd(watch.fd);
	assert_true(wait_calls(&watch, 1));
	event_loop_stop_thread(*state);
	event_remove(watch.source);
	close(watch.fd);
}

static void test_add_to_a_running_loop(void **state)
{
	struct watch watch, timer;

	assert_int_equal(event_loop_start_thread(*state), 0);
	sleep_ms(10);
	watch_init(&watch, *state);
	watch_add(&watch, EPOLLIN);
	signal_fd(watch.fd);
	watch_timer(&timer, *state);
	event_set_timer(timer.source, MS, 0);
	assert_true(wait_calls(&watch, 1));
	assert_true(wait_calls(&timer, 1));
	event_remove(watch.source);
	event_remove(timer.source);
	event_loop_stop_thread(*state);
	close(watch.fd);
}

static void be_slow(struct watch *watch)
{
	sleep_ms(30);
}

/* Without a lock event_remove() waits for the callback that runs in the other thread. */
static void test_remove_waits_for_the_callback(void **state)
{
	assert_int_equal(event_loop_start_thread(*state), 0);
	for (unsigned int i = 0; i < 5; i++) {
		struct watch *watch = malloc(sizeof(*watch));
		unsigned int calls;

		assert_non_null(watch);
		watch_init(watch, *state);
		watch->drain = false;
		watch->action = be_slow;
		watch_add(watch, EPOLLIN);
		signal_fd(watch->fd);
		sleep_ms(10 + 5 * i);
		event_remove(watch->source);
		calls = calls_of(watch);
		sleep_ms(40);
		assert_int_equal(calls_of(watch), calls);
		close(watch->fd);
		free(watch); /* AddressSanitizer sees a callback that still runs */
	}
	event_loop_stop_thread(*state);
}

/* With a lock the holder of it removes: nothing runs after that, and nothing waits for ever. */
static void test_remove_with_the_lock_held(void **state)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

	assert_int_equal(event_loop_start_thread(*state), 0);
	for (unsigned int i = 0; i < 200; i++) {
		struct watch *watch = malloc(sizeof(*watch));

		assert_non_null(watch);
		watch_init(watch, *state);
		watch->drain = false;
		watch->lock = &lock;
		watch_add(watch, EPOLLIN);
		signal_fd(watch->fd);
		if (i % 3 == 0)
			sched_yield();
		pthread_mutex_lock(&lock);
		event_remove(watch->source);
		close(watch->fd);
		free(watch);
		pthread_mutex_unlock(&lock);
	}
	event_loop_stop_thread(*state);
}

struct adder {
	struct event_loop *loop;
	unsigned int failures;
};

static void *add_and_remove(void *arg)
{
	struct adder *adder = arg;

	for (unsigned int i = 0; i < 200; i++) {
		struct watch watch;

		watch_init(&watch, adder->loop);
		watch.drain = false;
		watch_add(&watch, EPOLLIN);
		signal_fd(watch.fd);
		if (i % 8 == 0 && !wait_calls(&watch, 1))
			adder->failures++;
		event_set_events(watch.source, 0);
		event_remove(watch.source);
		close(watch.fd);
	}
	return NULL;
}

static void test_many_threads_add_and_remove(void **state)
{
	struct adder adders[4];
	pthread_t threads[4];

	assert_int_equal(event_loop_start_thread(*state), 0);
	for (unsigned int i = 0; i < 4; i++) {
		adders[i] = (struct adder) { .loop = *state };
		assert_int_equal(pthread_create(&threads[i], NULL, add_and_remove, &adders[i]), 0);
	}
	for (unsigned int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(adders[i].failures, 0);
	}
	event_loop_stop_thread(*state);
}

/* A timer that another thread sets and disarms all the time: no callback after the last disarming. */
static void test_timer_set_from_another_thread(void **state)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct watch timer;
	unsigned int calls;

	memset(&timer, 0, sizeof(timer));
	timer.fd = -1;
	timer.source = event_add_timer(*state, &lock, on_event, &timer);
	assert_non_null(timer.source);
	assert_int_equal(event_loop_start_thread(*state), 0);
	for (unsigned int i = 0; i < 200; i++) {
		pthread_mutex_lock(&lock);
		event_set_timer(timer.source, 1, 1000);
		pthread_mutex_unlock(&lock);
		sched_yield();
		pthread_mutex_lock(&lock);
		event_set_timer(timer.source, 0, 0);
		pthread_mutex_unlock(&lock);
	}
	calls = calls_of(&timer);
	sleep_ms(20);
	assert_int_equal(calls_of(&timer), calls);
	pthread_mutex_lock(&lock);
	event_remove(timer.source);
	pthread_mutex_unlock(&lock);
	event_loop_stop_thread(*state);
}

#define LOOP_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LOOP_TEST(test_calls_when_readable),
		LOOP_TEST(test_calls_as_long_as_it_is_ready),
		LOOP_TEST(test_edge_triggered),
		LOOP_TEST(test_writable),
		LOOP_TEST(test_set_events),
		LOOP_TEST(test_no_events_means_no_hang_up_either),
		LOOP_TEST(test_many_sources),
		LOOP_TEST(test_add_errors),
		LOOP_TEST(test_poll_waits),
		LOOP_TEST(test_timer_starts_disarmed),
		LOOP_TEST(test_timer_once),
		LOOP_TEST(test_timer_periodic),
		LOOP_TEST(test_timer_counts_expirations),
		LOOP_TEST(test_timer_disarmed_after_it_fired),
		LOOP_TEST(test_timer_set_again),
		LOOP_TEST(test_timer_far_away),
		LOOP_TEST(test_remove),
		LOOP_TEST(test_remove_itself),
		LOOP_TEST(test_timer_removes_itself),
		LOOP_TEST(test_remove_other_of_the_same_batch),
		LOOP_TEST(test_add_in_a_callback),
		LOOP_TEST(test_descriptor_used_again),
		cmocka_unit_test(test_destroy_leaves_descriptors_open),
		cmocka_unit_test(test_no_descriptor_is_lost),
		LOOP_TEST(test_lock_is_held),
		LOOP_TEST(test_run_until_stopped),
		LOOP_TEST(test_stop_before_run),
		LOOP_TEST(test_thread),
		LOOP_TEST(test_stop_thread_without_one),
		LOOP_TEST(test_thread_can_start_again),
		LOOP_TEST(test_thread_can_start_again_after_stop),
		LOOP_TEST(test_add_to_a_running_loop),
		LOOP_TEST(test_remove_waits_for_the_callback),
		LOOP_TEST(test_remove_with_the_lock_held),
		LOOP_TEST(test_many_threads_add_and_remove),
		LOOP_TEST(test_timer_set_from_another_thread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
