/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device that dies, and its successor. The device is a child process on shared memory that is
 * carried out one instruction at a time; after each that changed the ring or the inflight region,
 * the parent takes a copy of all, plays the successor and looks whether every request is there
 * exactly once, and puts everything back. Now and then the child is killed and another goes on.
 */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "inflight_bench.h"

#define LIFE 20 /* commands until a child is killed */
#define BUDGET_MS 700 /* for each way of driving a ring */
#define STATES_MIN 20 /* different states of memory looked at, at least */
#define LIVES_MAX 1000

enum verb { VERB_ATTACH, VERB_TAKE, VERB_PUT_BACK, VERB_USE, VERB_PUBLISH };

static const char *const verb_names[] = { "attach", "take", "put back", "use", "publish" };

/* ---- The device ---- */

/* What a child has, in the order in which it was taken; behind the first @fixed may be put back. */
struct child {
	struct held held[HELD_MAX];
	unsigned int count, fixed;
};

static int child_use(struct child *child, struct vqueue_info *vq, uint32_t pick)
{
	unsigned int i;

	if (!child->count)
		return 0;
	i = pick % child->count;
	vq_relchain(vq, child->held[i].idx, child->held[i].len);
	memmove(&child->held[i], &child->held[i + 1],
		(--child->count - i) * sizeof(child->held[0]));
	child->fixed = MAX(i, child->fixed - (child->fixed > i));
	return 1;
}

static int child_do(struct bench *bench, struct child *child)
{
	struct vqueue_info *vq = bench->lab.vq;
	struct shared *shared = bench->shared;

	switch (shared->verb) {
	case VERB_ATTACH:
		return vq_inflight_attach(vq, shared->region, sizeof(shared->region));
	case VERB_TAKE:
		if (child->count == HELD_MAX || !device_take(vq, &child->held[child->count]))
			return 0;
		shared->taken[child->held[child->count++].number % TOKENS] = true;
		return 1;
	case VERB_PUT_BACK:
		if (child->count == child->fixed)
			return 0;
		shared->taken[child->held[--child->count].number % TOKENS] = false;
		vq_retchain(vq);
		return 1;
	case VERB_USE:
		return child_use(child, vq, shared->pick);
	default:
		vq_endchains(vq, 0);
		return 1;
	}
}

static void child_run(struct bench *bench)
{
	struct child child = { .count = 0 };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
		_exit(1);
	for (;;) {
		kill(getpid(), SIGSTOP);
		bench->shared->result = child_do(bench, &child);
	}
}

/* ---- One instruction at a time ---- */

/* The child stops before its next command; false: it cannot be traced. */
static bool child_start(struct bench *bench)
{
	int status;

	bench->child = fork();
	assert_true(bench->child >= 0);
	if (!bench->child)
		child_run(bench);
	assert_int_equal(waitpid(bench->child, &status, 0), bench->child);
	return WIFSTOPPED(status);
}

static void child_kill(struct bench *bench)
{
	if (bench->child <= 0)
		return;
	kill(bench->child, SIGKILL);
	waitpid(bench->child, NULL, 0);
	bench->child = 0;
	memset(bench->shared->taken, 0, sizeof(bench->shared->taken));
}

/* The child does its command; @die_after: it is killed after so many instructions (0: it is not). */
static bool child_step(struct bench *bench, unsigned long die_after)
{
	for (unsigned long step = 1;; step++) {
		int status;

		if (ptrace(PTRACE_SINGLESTEP, bench->child, NULL, NULL))
			return false;
		assert_int_equal(waitpid(bench->child, &status, 0), bench->child);
		assert_true(WIFSTOPPED(status));
		bench->steps++;
		if (WSTOPSIG(status) == SIGSTOP)
			break;
		assert_int_equal(WSTOPSIG(status), SIGTRAP);
		if (memory_changed(bench))
			successor_check(bench);
		if (step == die_after) {
			child_kill(bench);
			return true;
		}
	}
	return true;
}

static bool child_command(struct bench *bench, enum verb verb, unsigned long die_after)
{
	char text[64];

	bench->shared->verb = verb;
	bench->shared->pick = random_below(bench, 1000);
	bench->shared->result = -ENODATA;
	if (!child_step(bench, die_after)) {
		print_message("[   SKIP   ] %s: no single steps here: %s\n",
			      lab_params_name(&bench->lab.params, text, sizeof(text)),
			      strerror(errno));
		return false;
	}
	if (bench->child && bench->shared->result < 0)
		fail_msg("%s: %d", verb_names[verb], bench->shared->result);
	return true;
}

static void driver_turn(struct bench *bench)
{
	for (unsigned int i = random_below(bench, 3); i; i--)
		request_get(bench);
	for (unsigned int i = random_below(bench, 5); i; i--)
		request_add(bench);
	memory_changed(bench);
}

/* All that the ring can hold is taken and used as one batch. */
static bool child_whole_ring(struct bench *bench)
{
	while (request_add(bench))
		continue;
	while (request_add_of(bench, 0))
		continue;
	memory_changed(bench);
	for (bench->shared->result = 1; bench->shared->result;)
		if (!child_command(bench, VERB_TAKE, 0))
			return false;
	for (bench->shared->result = 1; bench->shared->result;)
		if (!child_command(bench, VERB_USE, 0))
			return false;
	return child_command(bench, VERB_PUBLISH, 0);
}

static bool child_some_of_it(struct bench *bench)
{
	static const uint8_t verbs[] = { VERB_TAKE, VERB_TAKE, VERB_TAKE,    VERB_USE,
					 VERB_USE,  VERB_USE,  VERB_PUBLISH, VERB_PUT_BACK };

	for (unsigned int i = 0; i < LIFE; i++) {
		driver_turn(bench);
		if (!child_command(bench, verbs[random_below(bench, sizeof(verbs))], 0))
			return false;
	}
	return child_command(bench, verbs[random_below(bench, sizeof(verbs))],
			     1 + random_below(bench, 300));
}

/* A child's life, and its death. */
static bool child_live(struct bench *bench, unsigned int number)
{
	bool traced = child_start(bench) && child_command(bench, VERB_ATTACH, 0);

	if (traced)
		traced = number % 2 ? child_whole_ring(bench) : child_some_of_it(bench);
	child_kill(bench);
	return traced;
}

/* ---- The test ---- */

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void test_killed_anywhere(void **state)
{
	for (unsigned int i = 0; i < LAB_COMBINATIONS; i++) {
		struct bench *bench = bench_create(lab_params_at(i));
		uint64_t end = now_ms() + BUDGET_MS;
		unsigned int lives = 0;
		char text[64];

		bench_begin(bench);
		while (lives < LIVES_MAX && (now_ms() < end || bench->states < STATES_MIN))
			if (!child_live(bench, lives++)) {
				bench_destroy(bench);
				skip();
			}
		print_message("%s: %u lives, %lu instructions, %lu states\n",
			      lab_params_name(&bench->lab.params, text, sizeof(text)), lives,
			      bench->steps, bench->states);
		assert_true(bench->states >= STATES_MIN);
		bench_destroy(bench);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_killed_anywhere),
	};

	return cmocka_run_group_tests_name("inflight, killed", tests, NULL, NULL);
}
