/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hostile.h: a guest that breaks the rules, and what it must not achieve. One device is the victim of
 * its driver; beside it sits one of every other kind, which must go on as if nothing had happened.
 */
#ifndef TENON_TESTS_HOSTILE_H
#define TENON_TESTS_HOSTILE_H

#include <malloc.h>
#include <time.h>
#include <unistd.h>

#include "check_context.h"
#include "device_kinds.h"

#ifndef __has_feature
#define __has_feature(feature) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
size_t __sanitizer_get_current_allocated_bytes(void); /* not every gcc has the header */
#define HOSTILE_ASAN 1
#else
#define HOSTILE_ASAN 0
#endif

#define HOSTILE_BYSTANDERS 16
#define HOSTILE_FIRST_SLOT 6 /* of the bystanders of other kinds */
#define HOSTILE_HEAP_SLACK KIB(256) /* what lists of events, logs and the like may grow by */
#define HOSTILE_CPU_MS 4000 /* for one attack, under sanitizers; honest ones take a few */
#define HOSTILE_SECONDS 240 /* the net below: a hang ends the program */

/* struct bystander - a device that the guest treats well. */
struct bystander {
	struct kind_bench bench; /* for its make() and unmake() */
	struct virtio_driver *driver;
};

/*
 * struct hostile
 * @victim: machine, device and driver under attack
 * @heap, @cpu_ms: when the attack began
 */
struct hostile {
	struct kind_case *victim;
	struct machine *machine;
	struct virtio_driver *driver;
	struct driver_queue *queue;
	struct bystander bystanders[HOSTILE_BYSTANDERS];
	unsigned int bystander_count;
	uint64_t heap, cpu_ms;
};

/* ---- What an attack may cost ---- */

/* Bytes allocated now. */
static inline uint64_t hostile_heap(void)
{
#if HOSTILE_ASAN
	return __sanitizer_get_current_allocated_bytes();
#else
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
#endif
}

/* Processor time of all threads: does not depend on what else the host does. */
static inline uint64_t hostile_cpu_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- The log: what was said so far is of no interest, and counts for no limit ---- */

static inline void hostile_log_clear(struct machine *machine)
{
	struct logger *log = &machine->captured.log;

	machine_log_clear(machine);
	pthread_mutex_lock(&log->lock);
	memset(log->sites, 0, sizeof(log->sites));
	pthread_mutex_unlock(&log->lock);
}

static inline void hostile_expect_lines(struct hostile *hostile, const char *what,
					unsigned int count)
{
	unsigned int lines = hostile->machine->captured.count;

	if (lines == count)
		return;
	machine_log_print(hostile->machine);
	fail_msg("%s: %u lines in the log, not %u", what, lines, count);
}

/* ---- The machine ---- */

static inline void bystander_add(struct hostile *hostile, const struct device_kind *kind)
{
	struct bystander *bystander = &hostile->bystanders[hostile->bystander_count];
	const struct driver_params params = { .indirect = true, .event_idx = true, .msix = true };
	unsigned int slot = HOSTILE_FIRST_SLOT + hostile->bystander_count;
	char options[160] = "", spec[256];

	bystander->bench.kind = kind;
	if (kind->make && !kind->make(&bystander->bench, options, sizeof(options)))
		return;
	snprintf(spec, sizeof(spec), "%u,%s%s%s", slot, kind->name, options[0] ? "," : "", options);
	machine_add(hostile->machine, spec);
	bystander->driver = driver_run(hostile->machine, slot, &params, 0);
	hostile->bystander_count++;
	assert_true(hostile->bystander_count < HOSTILE_BYSTANDERS);
}

static inline void bystanders_add(struct hostile *hostile)
{
	const struct driver_params params = { .indirect = true, .event_idx = true, .msix = true };
	const struct device_kind *kind;

	for (unsigned int i = 0; (kind = device_kind_at(i)); i++) {
		if (!strcmp(kind->name, "virtio-rng")) { /* that one is there already */
			struct bystander *rng = &hostile->bystanders[hostile->bystander_count++];

			rng->bench.kind = kind;
			rng->driver = driver_run(hostile->machine, KIND_OTHER_SLOT, &params, 0);
		} else if (kind != hostile->victim->kind) {
			bystander_add(hostile, kind);
		}
	}
}

/* The attack begins: what it costs counts from here. */
static inline void hostile_begin(struct hostile *hostile)
{
	hostile_log_clear(hostile->machine);
	hostile->heap = hostile_heap();
	hostile->cpu_ms = hostile_cpu_ms();
	check_poison_stack();
}

/* The victim is found by its driver, which has done nothing yet. Skips the test if there is none. */
static inline struct hostile *hostile_open(void **state, const struct machine_config *config,
					   const char *options)
{
	struct hostile *hostile = calloc(1, sizeof(*hostile));

	alarm(HOSTILE_SECONDS);
	check_poison_heap();
	assert_non_null(hostile);
	hostile->victim = kind_case_open(state, config, options);
	hostile->machine = hostile->victim->machine;
	hostile->driver = hostile->victim->driver;
	hostile->queue = hostile->victim->queue;
	bystanders_add(hostile);
	hostile_begin(hostile);
	return hostile;
}

static inline void hostile_start(struct hostile *hostile)
{
	assert_true(driver_negotiate(hostile->driver, hostile->driver->offered));
	driver_start(hostile->driver);
	hostile_begin(hostile);
}

/* The usual: and it runs with all features. */
static inline struct hostile *hostile_run(void **state)
{
	struct hostile *hostile = hostile_open(state, NULL, NULL);

	hostile_start(hostile);
	return hostile;
}

/* Notify the device of the queue under attack, whether it wants to know or not. */
static inline void hostile_kick(struct hostile *hostile)
{
	hostile->driver->interface->notify(hostile->driver, hostile->queue);
}

/* All that the guest can see of what it did not write itself is in these: nothing of the host's. */
static inline void hostile_look_for_host_bytes(struct hostile *hostile)
{
	struct machine *machine = hostile->machine;
	uint64_t len = machine->heap_next - MACHINE_HEAP;

	pci_quiesce_devices(machine->ctx); /* from here on nobody writes there */
	kind_bench_unserve(hostile->victim->kind_bench);
	if (check_poison_seen(guest_ptr(machine, MACHINE_HEAP, len), len))
		fail_msg("memory of the host that was never written to shows in the guest's");
}

/* The machine ends, whatever it is at. */
static inline void hostile_end(struct hostile *hostile)
{
	for (unsigned int i = 0; i < hostile->bystander_count; i++)
		driver_close(hostile->bystanders[i].driver);
	kind_bench_unserve(hostile->victim->kind_bench);
	machine_destroy(hostile->machine);
	hostile->victim->kind_bench->machine = NULL;
	for (unsigned int i = 0; i < hostile->bystander_count; i++) {
		struct kind_bench *bench = &hostile->bystanders[i].bench;

		if (bench->kind->unmake && bench->path[0])
			bench->kind->unmake(bench);
	}
	free(hostile);
	alarm(0);
}

static inline void hostile_close(struct hostile *hostile)
{
	hostile_look_for_host_bytes(hostile);
	hostile_end(hostile);
}

/* ---- Tables of tests ---- */

/* kind_tests_add() for the kind @name alone. */
static inline void hostile_tests_add(struct kind_tests *tests, const char *kind, const char *name,
				     CMUnitTestFunction test, enum kind_axes axes)
{
	unsigned int kept = tests->count;

	kind_tests_add(tests, name, test, axes);
	for (unsigned int i = kept; i < tests->count; i++) {
		struct CMUnitTest *added = &tests->tests[i];
		const struct kind_case *state = added->initial_state;

		if (!strcmp(state->kind->name, kind)) {
			tests->tests[kept++] = *added;
			continue;
		}
		free(added->initial_state);
		free((void *)(uintptr_t)added->name);
	}
	tests->count = kept;
}

/* ---- What must hold, whatever the guest did ---- */

static inline void hostile_others_work(struct hostile *hostile)
{
	for (unsigned int i = 0; i < hostile->bystander_count; i++)
		kind_request(hostile->bystanders[i].bench.kind, hostile->bystanders[i].driver);
}

static inline void hostile_cost(struct hostile *hostile, const char *what)
{
	uint64_t heap = hostile_heap(), cpu_ms = hostile_cpu_ms() - hostile->cpu_ms;

	if (heap > hostile->heap + HOSTILE_HEAP_SLACK)
		fail_msg("%s: %llu bytes of the host's memory are taken", what,
			 (unsigned long long)(heap - hostile->heap));
	if (cpu_ms > HOSTILE_CPU_MS)
		fail_msg("%s: took %llu ms of processor time", what, (unsigned long long)cpu_ms);
}

/* The victim is as good as new after a reset. */
static inline void hostile_comes_back(struct hostile *hostile, const char *what)
{
	driver_restart(hostile->driver);
	if (driver_status(hostile->driver) & VIRTIO_CONFIG_S_NEEDS_RESET) {
		machine_log_print(hostile->machine);
		fail_msg("%s: a reset does not help", what);
	}
	hostile_log_clear(hostile->machine);
	kind_request(hostile->victim->kind, hostile->driver);
	hostile_expect_lines(hostile, what, 0);
}

/* Is one of the texts in @rules, with "|" between them, in @line? */
static inline bool hostile_line_says(const char *line, const char *rules)
{
	char copy[256], *rest = copy, *rule;

	snprintf(copy, sizeof(copy), "%s", rules);
	while ((rule = strsep(&rest, "|")))
		if (strstr(line, rule))
			return true;
	return false;
}

/* What of @rules the kernel finds in its rings it does not tell apart. */
static inline bool hostile_kernel_says(const struct hostile *hostile, const char *line)
{
	return hostile->victim->kind->offloaded &&
	       strstr(line, "the kernel's vhost met a bad ring");
}

/* One line, that names the victim and one of @rules. */
static inline void hostile_one_line(struct hostile *hostile, const char *what, const char *rules)
{
	const struct captured_log *captured = &hostile->machine->captured;

	hostile_expect_lines(hostile, what, 1);
	if (strstr(captured->lines[0], hostile->victim->kind_bench->name) &&
	    (hostile_line_says(captured->lines[0], rules) ||
	     hostile_kernel_says(hostile, captured->lines[0])))
		return;
	fail_msg("%s: the line is \"%s\", which does not name %s and \"%s\"", what,
		 captured->lines[0], hostile->victim->kind_bench->name, rules);
}

static inline bool hostile_needs_reset(struct hostile *hostile)
{
	return driver_status(hostile->driver) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

/* A device that needs a reset does nothing but wait for it, and says no more. */
static inline void hostile_stands_still(struct hostile *hostile, const char *what)
{
	struct driver_queue *queue = hostile->queue;
	uint16_t used = queue->ring.used ? queue->ring.used->idx : 0;

	for (unsigned int i = 0; i < 8; i++)
		hostile->driver->interface->notify(hostile->driver, queue);
	machine_poll(hostile->machine);
	if (queue->ring.used)
		assert_int_equal(queue->ring.used->idx, used);
	assert_true(hostile_needs_reset(hostile));
	hostile_expect_lines(hostile, what, 1);
}

/*
 * The victim saw that the rules were broken: NEEDS_RESET, told by the configuration interrupt, one
 * line that says which rule. Nobody else feels it, it costs next to nothing, and a reset helps.
 */
static inline void hostile_expect_broken(struct hostile *hostile, const char *what,
					 const char *rules)
{
	machine_poll(hostile->machine);
	if (!hostile_needs_reset(hostile)) {
		machine_log_print(hostile->machine);
		fail_msg("%s: NEEDS_RESET is not set", what);
	}
	if (!driver_wait_config(hostile->driver, DRIVER_TIMEOUT_MS))
		fail_msg("%s: no configuration interrupt", what);
	hostile_one_line(hostile, what, rules);
	hostile_stands_still(hostile, what);
	hostile_others_work(hostile);
	hostile_cost(hostile, what);
	hostile_comes_back(hostile, what);
	hostile_begin(hostile);
}

/* Nobody but the victim feels it, and a reset makes that as new: where its interrupts were changed too. */
static inline void hostile_expect_survived(struct hostile *hostile, const char *what)
{
	machine_poll(hostile->machine);
	hostile_others_work(hostile);
	hostile_cost(hostile, what);
	hostile_comes_back(hostile, what);
	hostile_begin(hostile);
}

/* The victim may take it or leave it; if it does not, it says so. */
static inline void hostile_expect_contained(struct hostile *hostile, const char *what)
{
	machine_poll(hostile->machine);
	if (hostile_needs_reset(hostile) && !driver_wait_config(hostile->driver, DRIVER_TIMEOUT_MS))
		fail_msg("%s: no configuration interrupt", what);
	hostile_expect_survived(hostile, what);
}

/* The victim does not even notice: no line, no NEEDS_RESET, requests go on without a reset. */
static inline void hostile_expect_ignored(struct hostile *hostile, const char *what)
{
	machine_poll(hostile->machine);
	if (hostile_needs_reset(hostile)) {
		machine_log_print(hostile->machine);
		fail_msg("%s: NEEDS_RESET is set", what);
	}
	hostile_expect_lines(hostile, what, 0);
	kind_request(hostile->victim->kind, hostile->driver);
	hostile_others_work(hostile);
	hostile_cost(hostile, what);
	hostile_begin(hostile);
}

#endif
