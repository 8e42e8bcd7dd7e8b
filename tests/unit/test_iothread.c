/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Unit tests of iothread.h: what --iothread takes, and threads that start and stop.
 */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cmocka.h>

#include "captured_log.h"
#include "iothread.h"

struct test {
	struct captured_log log;
	struct iothreads *set;
};

static int setup(void **state)
{
	struct test *test = calloc(1, sizeof(*test));

	captured_log_init(&test->log);
	test->set = iothreads_create(&test->log.log);
	assert_non_null(test->set);
	*state = test;
	return 0;
}

static int teardown(void **state)
{
	struct test *test = *state;

	iothreads_destroy(test->set);
	captured_log_deinit(&test->log);
	free(test);
	return 0;
}

/* The CPU that this process may use with the lowest number. */
static int first_cpu(void)
{
	cpu_set_t cpus;
	int cpu = 0;

	assert_int_equal(sched_getaffinity(0, sizeof(cpus), &cpus), 0);
	while (!CPU_ISSET(cpu, &cpus))
		cpu++;
	return cpu;
}

/* ---- Names and CPUs ---- */

static void test_names(void **state)
{
	static const char *const good[] = { "a", "io-1", "IO_2", "x.y", "123456789012345" };
	static const char *const bad[] = {
		"", ",", "a b", "a+b", "a@b", "1234567890123456", "a/b"
	};
	struct test *test = *state;

	for (unsigned int i = 0; i < ARRAY_SIZE(good); i++) {
		assert_null(iothread_loop(test->set, good[i], false));
		assert_int_equal(errno, ENOENT);
		assert_int_equal(iothreads_add(test->set, good[i]), 0);
		assert_non_null(iothread_loop(test->set, good[i], false));
	}
	assert_int_equal(test->log.count, 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(iothreads_add(test->set, bad[i]), -EINVAL);
		assert_int_equal(test->log.count, i + 1);
		assert_non_null(strstr(test->log.lines[i], "not a name"));
	}
}

static void test_twice(void **state)
{
	struct test *test = *state;

	assert_int_equal(iothreads_add(test->set, "io"), 0);
	assert_int_equal(iothreads_add(test->set, "io"), -EEXIST);
	assert_int_equal(test->log.count, 1);
	assert_string_equal(test->log.lines[0],
			    "--iothread io: there is a thread of this name already");
}

static void test_cpus(void **state)
{
	static const char *const bad[] = {
		"cpus=",    "cpus=x",  "cpus=0,1",    "cpus=0+", "cpus=+0", "cpus=-1",	 "cpus=0-",
		"cpus=1-0", "cpus=0 ", "cpus=999999", "cpu=0",	 "x",	    "cpus=0--1", "",
	};
	struct test *test = *state;
	char spec[64];

	snprintf(spec, sizeof(spec), "a,cpus=%d", first_cpu());
	assert_int_equal(iothreads_add(test->set, spec), 0);
	snprintf(spec, sizeof(spec), "b,cpus=%d-%d+%d", first_cpu(), first_cpu(), first_cpu());
	assert_int_equal(iothreads_add(test->set, spec), 0);
	assert_int_equal(test->log.count, 0);
	for (unsigned int i = 0; i + 1 < ARRAY_SIZE(bad); i++) {
		snprintf(spec, sizeof(spec), "c,%s", bad[i]);
		assert_int_equal(iothreads_add(test->set, spec), -EINVAL);
		assert_int_equal(test->log.count, i + 1);
		assert_non_null(strstr(test->log.lines[i], spec));
	}
	assert_null(iothread_loop(test->set, "c", false));
}

static void test_cpu_that_is_not_ours(void **state)
{
	struct test *test = *state;

	assert_int_equal(iothreads_add(test->set, "a,cpus=1023"), -EINVAL);
	assert_int_equal(test->log.count, 1);
	assert_non_null(strstr(test->log.lines[0], "--iothread a,cpus=1023: cpus=1023: tenon may "
						   "not run on all of them"));
}

static void test_names_for_messages(void **state)
{
	struct test *test = *state;
	char text[64];

	assert_string_equal(iothreads_names(NULL, text, sizeof(text)), "--iothread NAME makes one");
	assert_string_equal(iothreads_names(test->set, text, sizeof(text)),
			    "--iothread NAME makes one");
	assert_non_null(iothread_loop(test->set, "blk@00:03.0", true));
	assert_string_equal(iothreads_names(test->set, text, sizeof(text)),
			    "--iothread NAME makes one");
	assert_int_equal(iothreads_add(test->set, "a"), 0);
	assert_int_equal(iothreads_add(test->set, "b"), 0);
	assert_string_equal(iothreads_names(test->set, text, sizeof(text)), "there are: a, b");
	assert_string_equal(iothreads_names(test->set, text, 8), "there a");
}

static void test_made_when_asked_for(void **state)
{
	struct test *test = *state;
	struct event_loop *loop = iothread_loop(test->set, "a device's", true);

	assert_non_null(loop);
	assert_ptr_equal(iothread_loop(test->set, "a device's", true), loop);
	assert_ptr_equal(iothread_loop(test->set, "a device's", false), loop);
	assert_ptr_not_equal(iothread_loop(test->set, "another's", true), loop);
}

static void test_full(void **state)
{
	struct test *test = *state;
	char name[16];

	for (unsigned int i = 0; i < IOTHREADS_MAX; i++) {
		snprintf(name, sizeof(name), "t%u", i);
		assert_non_null(iothread_loop(test->set, name, true));
	}
	assert_null(iothread_loop(test->set, "one more", true));
	assert_int_equal(errno, ENOSPC);
	assert_int_equal(iothreads_add(test->set, "more"), -ENOSPC);
	assert_string_equal(test->log.lines[0], "--iothread more: 256 threads at most");
}

/* ---- Running ---- */

/* An event that says in which thread it ran. */
struct probe {
	int fd;
	struct event_source *source;
	unsigned int calls;
	char name[16];
	cpu_set_t cpus;
};

static void on_probe(void *arg, uint32_t events)
{
	struct probe *probe = arg;
	uint64_t count;

	assert_int_equal(read(probe->fd, &count, sizeof(count)), sizeof(count));
	prctl(PR_GET_NAME, probe->name, 0, 0, 0);
	sched_getaffinity(0, sizeof(probe->cpus), &probe->cpus);
	__atomic_add_fetch(&probe->calls, 1, __ATOMIC_RELEASE);
}

static void probe_add(struct probe *probe, struct event_loop *loop)
{
	memset(probe, 0, sizeof(*probe));
	assert_non_null(loop);
	probe->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(probe->fd >= 0);
	probe->source = event_add_fd(loop, probe->fd, EPOLLIN, NULL, on_probe, probe);
	assert_non_null(probe->source);
}

static bool probe_runs(struct probe *probe)
{
	unsigned int before = __atomic_load_n(&probe->calls, __ATOMIC_ACQUIRE);
	uint64_t one = 1;

	assert_int_equal(write(probe->fd, &one, sizeof(one)), sizeof(one));
	for (int i = 0; i < 5000; i++) {
		if (__atomic_load_n(&probe->calls, __ATOMIC_ACQUIRE) != before)
			return true;
		usleep(1000);
	}
	return false;
}

static void probe_remove(struct probe *probe)
{
	event_remove(probe->source);
	close(probe->fd);
}

static void test_start_and_stop(void **state)
{
	struct test *test = *state;
	struct probe given, own, late;
	unsigned int calls;
	uint64_t one = 1;

	assert_int_equal(iothreads_add(test->set, "given"), 0);
	probe_add(&given, iothread_loop(test->set, "given", false));
	probe_add(&own, iothread_loop(test->set, "own", true));
	assert_int_equal(iothreads_start(test->set), 0);
	assert_int_equal(iothreads_start(test->set), 0); /* again: nothing to do */
	assert_true(probe_runs(&given));
	assert_true(probe_runs(&own));
	assert_string_equal(given.name, "given");
	assert_string_equal(own.name, "own");

	/* One that is added now runs at once. */
	probe_add(&late, iothread_loop(test->set, "late", true));
	assert_true(probe_runs(&late));
	assert_string_equal(late.name, "late");

	iothreads_stop(test->set);
	calls = given.calls;
	assert_int_equal(write(given.fd, &one, sizeof(one)), sizeof(one));
	usleep(20000);
	assert_int_equal(given.calls, calls);

	assert_int_equal(iothreads_start(test->set), 0);
	assert_true(probe_runs(&given));
	assert_true(probe_runs(&late));
	iothreads_stop(test->set);
	iothreads_stop(test->set);
	probe_remove(&given);
	probe_remove(&own);
	probe_remove(&late);
}

static void test_runs_on_its_cpus(void **state)
{
	struct test *test = *state;
	struct probe probe;
	cpu_set_t wanted;
	char spec[32];

	CPU_ZERO(&wanted);
	CPU_SET(first_cpu(), &wanted);
	snprintf(spec, sizeof(spec), "pinned,cpus=%d", first_cpu());
	assert_int_equal(iothreads_add(test->set, spec), 0);
	probe_add(&probe, iothread_loop(test->set, "pinned", false));
	assert_int_equal(iothreads_start(test->set), 0);
	assert_true(probe_runs(&probe));
	assert_true(CPU_EQUAL(&probe.cpus, &wanted));
	iothreads_stop(test->set);
	probe_remove(&probe);
}

/* ---- Looking for work ---- */

static bool count_poll(void *arg)
{
	__atomic_add_fetch((unsigned int *)arg, 1, __ATOMIC_RELAXED);
	return false;
}

static bool nothing_to_do(void *arg)
{
	return false;
}

/* How often a thread that is woken once looks for work, in a process that may use @cpu alone (-1: any). */
static unsigned int looks_when_woken(struct test *test, const char *name, int cpu)
{
	static const struct event_poller_ops ops = { .poll = count_poll, .sleep = nothing_to_do };
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct event_source *poller;
	unsigned int looks = 0;
	cpu_set_t before, alone;
	struct probe probe;

	assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
	CPU_ZERO(&alone);
	CPU_SET(MAX(cpu, 0), &alone);
	if (cpu >= 0)
		assert_int_equal(sched_setaffinity(0, sizeof(alone), &alone), 0);
	assert_int_equal(iothreads_add(test->set, name), 0);
	poller =
		event_add_poller(iothread_loop(test->set, name, false), &lock, false, &ops, &looks);
	assert_non_null(poller);
	probe_add(&probe, iothread_loop(test->set, name, false));
	assert_int_equal(iothreads_start(test->set), 0);
	assert_true(probe_runs(&probe));
	usleep(1000);
	iothreads_stop(test->set);
	probe_remove(&probe);
	event_remove(poller);
	assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
	return looks;
}

/* On one CPU, who would make the work cannot run meanwhile. */
static void test_looks_on_several_cpus_only(void **state)
{
	cpu_set_t cpus;

	assert_int_equal(sched_getaffinity(0, sizeof(cpus), &cpus), 0);
	assert_int_equal(looks_when_woken(*state, "alone", first_cpu()), 0);
	if (CPU_COUNT(&cpus) > 1)
		assert_true(looks_when_woken(*state, "among", -1) > 0);
}

static void test_destroy_stops(void **state)
{
	struct captured_log log;
	struct iothreads *set;

	captured_log_init(&log);
	set = iothreads_create(&log.log);
	assert_int_equal(iothreads_add(set, "a"), 0);
	assert_int_equal(iothreads_start(set), 0);
	iothreads_destroy(set);
	iothreads_destroy(NULL);
	captured_log_deinit(&log);
}

#define SET_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		SET_TEST(test_names),
		SET_TEST(test_twice),
		SET_TEST(test_cpus),
		SET_TEST(test_cpu_that_is_not_ours),
		SET_TEST(test_names_for_messages),
		SET_TEST(test_made_when_asked_for),
		SET_TEST(test_full),
		SET_TEST(test_start_and_stop),
		SET_TEST(test_runs_on_its_cpus),
		SET_TEST(test_looks_on_several_cpus_only),
		cmocka_unit_test(test_destroy_stops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
