/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rings that break the rules, for every kind of device: the device stops, says NEEDS_RESET and why,
 * nobody else notices, and a reset brings it back. Split rings; virtio 1.4, 2.1.2 and 2.7.
 */
#include "device_kinds.h"

#include <stdio.h>

#define OUTSIDE (MACHINE_MEMORY + 4096)
#define HUGE_MEMORY GIB(2)

/* What a case writes to: the ring of the queue, one buffer and one indirect table in RAM. */
struct victim {
	struct ring *ring;
	uint64_t buffer, table_gpa;
	struct vring_desc *table;
};

static void desc_set(struct vring_desc *desc, uint64_t addr, uint32_t len, uint16_t flags,
		     uint16_t next)
{
	*desc = (struct vring_desc) { .addr = addr, .len = len, .flags = flags, .next = next };
}

#define W VRING_DESC_F_WRITE
#define N VRING_DESC_F_NEXT
#define I VRING_DESC_F_INDIRECT

static void head_at_size(struct victim *victim)
{
	victim->ring->avail->ring[0] = victim->ring->size;
}

static void head_far(struct victim *victim)
{
	victim->ring->avail->ring[0] = 0xffff;
}

static void index_jumps(struct victim *victim)
{
	victim->ring->avail->idx = (uint16_t)(victim->ring->size + 1);
}

static void index_back(struct victim *victim)
{
	victim->ring->avail->idx = 0xffff;
}

static void loop_of_one(struct victim *victim)
{
	desc_set(&victim->ring->desc[0], victim->buffer, 1, W | N, 0);
}

static void loop_of_two(struct victim *victim)
{
	desc_set(&victim->ring->desc[0], victim->buffer, 1, W | N, 1);
	desc_set(&victim->ring->desc[1], victim->buffer, 1, W | N, 0);
}

/* Empty descriptors take no memory, so nothing but the count of them ends this. */
static void loop_of_nothing(struct victim *victim)
{
	desc_set(&victim->ring->desc[0], victim->buffer, 0, W | N, 1);
	desc_set(&victim->ring->desc[1], victim->buffer, 0, W | N, 0);
}

static void next_at_size(struct victim *victim)
{
	desc_set(&victim->ring->desc[0], victim->buffer, 1, W | N, victim->ring->size);
}

static void next_far(struct victim *victim)
{
	desc_set(&victim->ring->desc[0], victim->buffer, 1, W | N, 0xffff);
}

static void readable_after_writable(struct victim *victim)
{
	desc_set(&victim->ring->desc[0], victim->buffer, 16, W | N, 1);
	desc_set(&victim->ring->desc[1], victim->buffer, 16, 0, 0);
}

static void buffer_outside(struct victim *victim)
{
	desc_set(&victim->ring->desc[0], OUTSIDE, 16, W, 0);
}

static void buffer_readable_outside(struct victim *victim)
{
	desc_set(&victim->ring->desc[0], OUTSIDE, 16, 0, 0);
}

static void buffer_in_hole(struct victim *victim)
{
	desc_set(&victim->ring->desc[0], X86_MMIO32_BASE, 16, W, 0);
}

static void buffer_crosses_end(struct victim *victim)
{
	desc_set(&victim->ring->desc[0], MACHINE_MEMORY - 8, 16, W, 0);
}

static void buffer_wraps(struct victim *victim)
{
	desc_set(&victim->ring->desc[0], UINT64_MAX - 7, 16, W, 0);
}

static void buffer_of_4g(struct victim *victim)
{
	desc_set(&victim->ring->desc[0], victim->buffer, UINT32_MAX, W, 0);
}

static void table_set(struct victim *victim, uint64_t addr, uint32_t len, uint16_t flags)
{
	desc_set(&victim->ring->desc[0], addr, len, flags, 1);
	desc_set(&victim->ring->desc[1], victim->buffer, 16, W, 0);
}

static void indirect_good(struct victim *victim)
{
	table_set(victim, victim->table_gpa, 16, I);
}

static void indirect_nested(struct victim *victim)
{
	desc_set(&victim->table[0], victim->table_gpa, 16, I, 0);
	table_set(victim, victim->table_gpa, 16, I);
}

static void indirect_with_next(struct victim *victim)
{
	table_set(victim, victim->table_gpa, 16, I | N);
}

static void indirect_empty(struct victim *victim)
{
	table_set(victim, victim->table_gpa, 0, I);
}

static void indirect_odd(struct victim *victim)
{
	table_set(victim, victim->table_gpa, 24, I);
}

static void indirect_short(struct victim *victim)
{
	table_set(victim, victim->table_gpa, 8, I);
}

static void indirect_outside(struct victim *victim)
{
	table_set(victim, OUTSIDE, 16, I);
}

static void indirect_crosses_end(struct victim *victim)
{
	table_set(victim, MACHINE_MEMORY - 16, 32, I);
}

static void indirect_wraps(struct victim *victim)
{
	table_set(victim, UINT64_MAX - 15, 32, I);
}

static void indirect_next_outside(struct victim *victim)
{
	desc_set(&victim->table[0], victim->buffer, 1, W | N, 1);
	table_set(victim, victim->table_gpa, 16, I);
}

static void indirect_loop(struct victim *victim)
{
	desc_set(&victim->table[0], victim->buffer, 0, W | N, 0);
	table_set(victim, victim->table_gpa, 32, I);
}

static void indirect_buffer_outside(struct victim *victim)
{
	desc_set(&victim->table[0], OUTSIDE, 16, W, 0);
	table_set(victim, victim->table_gpa, 16, I);
}

static void indirect_after_buffer(struct victim *victim)
{
	desc_set(&victim->ring->desc[0], victim->buffer, 16, W | N, 1);
	desc_set(&victim->table[0], victim->buffer, 16, 0, 0);
	desc_set(&victim->ring->desc[1], victim->table_gpa, 16, I, 0);
}

/* @without_indirect: the driver did not negotiate INDIRECT_DESC; @says: in the line logged */
static const struct malformed {
	const char *name;
	void (*make)(struct victim *victim);
	bool without_indirect;
	const char *says;
} cases[] = {
	{ "head is the queue's size", head_at_size, false, "no descriptor of the table" },
	{ "head is 0xffff", head_far, false, "no descriptor of the table" },
	{ "available index jumps", index_jumps, false, "available index" },
	{ "available index goes back", index_back, false, "available index" },
	{ "loop of one", loop_of_one, false, "descriptor" },
	{ "loop of two", loop_of_two, false, "descriptor" },
	{ "loop of empty descriptors", loop_of_nothing, false, "loops" },
	{ "next is the queue's size", next_at_size, false, "next descriptor" },
	{ "next is 0xffff", next_far, false, "next descriptor" },
	{ "readable after writable", readable_after_writable, false, "device-readable" },
	{ "buffer outside of RAM", buffer_outside, false, "outside of RAM" },
	{ "readable buffer outside", buffer_readable_outside, false, "outside of RAM" },
	{ "buffer in the PCI hole", buffer_in_hole, false, "outside of RAM" },
	{ "buffer crosses the end", buffer_crosses_end, false, "outside of RAM" },
	{ "buffer wraps", buffer_wraps, false, "outside of RAM" },
	{ "buffer of 4 GiB", buffer_of_4g, false, "outside of RAM" },
	{ "indirect, not negotiated", indirect_good, true, "VIRTIO_F_INDIRECT_DESC" },
	{ "indirect in indirect", indirect_nested, false, "in an indirect table" },
	{ "INDIRECT and NEXT", indirect_with_next, false, "INDIRECT and NEXT" },
	{ "indirect, length 0", indirect_empty, false, "multiple of 16" },
	{ "indirect, length 24", indirect_odd, false, "multiple of 16" },
	{ "indirect, length 8", indirect_short, false, "multiple of 16" },
	{ "indirect table outside", indirect_outside, false, "not in RAM" },
	{ "indirect table crosses the end", indirect_crosses_end, false, "not in RAM" },
	{ "indirect table wraps", indirect_wraps, false, "not in RAM" },
	{ "next outside of the table", indirect_next_outside, false, "next descriptor" },
	{ "loop in the table", indirect_loop, false, "loops" },
	{ "buffer of the table outside", indirect_buffer_outside, false, "outside of RAM" },
	{ "readable table after writable", indirect_after_buffer, false, "device-readable" },
};

/* A chain that would be good but for what @malformed does to it. */
static void victim_make(struct kind_case *test, const struct malformed *malformed)
{
	struct victim victim = { .ring = &test->queue->ring };

	victim.buffer = guest_alloc(test->machine, 4096, 16);
	victim.table_gpa = guest_alloc(test->machine, 4096, 16);
	victim.table = guest_ptr(test->machine, victim.table_gpa, 4096);
	desc_set(&victim.table[0], victim.buffer, 16, W, 0);
	desc_set(&victim.ring->desc[0], victim.buffer, 16, W, 0);
	victim.ring->avail->ring[0] = 0;
	victim.ring->avail->idx = 1;
	malformed->make(&victim);
}

/* What the log says of a broken rule; the kernel does not tell which. */
static const char *rule_line(const struct kind_case *test, const char *says)
{
	return test->kind->offloaded ? "the kernel's vhost met a bad ring" : says;
}

static void check_stopped(struct kind_case *test, const struct malformed *malformed)
{
	struct virtio_driver *driver = test->driver;
	char who[64];

	snprintf(who, sizeof(who), "%s@00:%02x.0: queue %u: ", test->kind->name, KIND_SLOT,
		 test->kind->queue);
	if (!(driver_status(driver) & VIRTIO_CONFIG_S_NEEDS_RESET))
		fail_msg("%s: no NEEDS_RESET", malformed->name);
	if (!driver_config_interrupt(driver))
		fail_msg("%s: no configuration interrupt", malformed->name);
	if (test->machine->captured.count != 1) {
		machine_log_print(test->machine);
		fail_msg("%s: %u lines", malformed->name, test->machine->captured.count);
	}
	assert_logged(test->machine, who);
	assert_logged(test->machine, rule_line(test, malformed->says));
	if (driver_pending(test->queue))
		fail_msg("%s: used something", malformed->name);
}

/* Stopped means stopped: nothing of this device is served, kick as often as you like. */
static void check_stays_stopped(struct kind_case *test)
{
	struct ring *ring = &test->queue->ring;

	desc_set(&ring->desc[0], MACHINE_HEAP, 16, W, 0);
	ring->avail->ring[0] = ring->avail->ring[1] = 0;
	ring->avail->idx = 2;
	for (unsigned int i = 0; i < 3; i++)
		test->driver->interface->notify(test->driver, test->queue);
	machine_poll(test->machine);
	assert_false(driver_pending(test->queue));
	assert_int_equal(test->machine->captured.count, 1);
}

/* Time for the log's rate limit of the one site to let lines through: each case has its machine. */
static void run_case(void **state, const struct malformed *malformed)
{
	struct kind_case *test = *state;
	struct driver_params good = { .event_idx = true, .msix = true };
	const struct device_kind *rng = device_kind_at(0);
	struct virtio_driver *other;

	for (unsigned int i = 0; strcmp(rng->name, "virtio-rng"); i++)
		rng = device_kind_at(i);
	test->params.indirect = !malformed->without_indirect;
	test = kind_case_run(state);
	other = driver_run(test->machine, KIND_OTHER_SLOT, &good, 0);
	machine_log_clear(test->machine);
	victim_make(test, malformed);
	test->driver->interface->notify(test->driver, test->queue);
	machine_poll(test->machine);
	check_stopped(test, malformed);
	check_stays_stopped(test);
	kind_request(rng, other);
	driver_restart(test->driver);
	kind_request(test->kind, test->driver);
	driver_close(other);
	kind_case_close(state);
}

static void test_malformed(void **state)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++)
		run_case(state, &cases[i]);
}

/* More bytes in a chain than the 32 bits of used.len can count (2.7.5.2). */
static void test_chain_of_more_than_4g(void **state)
{
	struct machine_config config = { .memory_size = HUGE_MEMORY };
	struct kind_case *test = kind_case_open(state, &config, NULL);
	struct ring *ring = &test->queue->ring;

	assert_true(driver_negotiate(test->driver, test->driver->offered));
	driver_start(test->driver);
	machine_log_clear(test->machine);
	for (uint16_t i = 0; i < 3; i++)
		desc_set(&ring->desc[i], 0, (uint32_t)HUGE_MEMORY, (uint16_t)(W | (i < 2 ? N : 0)),
			 (uint16_t)(i + 1));
	ring->avail->ring[0] = 0;
	ring->avail->idx = 1;
	test->driver->interface->notify(test->driver, test->queue);
	machine_poll(test->machine);
	assert_true(driver_status(test->driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_true(driver_config_interrupt(test->driver));
	assert_logged(test->machine, rule_line(test, "4 GiB"));
	driver_restart(test->driver);
	kind_request(test->kind, test->driver);
}

/* A driver that does it again and again does not fill the log. */
static void test_log_is_limited(void **state)
{
	struct kind_case *test = kind_case_run(state);

	machine_log_clear(test->machine);
	for (unsigned int i = 0; i < 100; i++) {
		victim_make(test, &cases[0]);
		test->driver->interface->notify(test->driver, test->queue);
		machine_poll(test->machine);
		assert_true(driver_status(test->driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
		driver_restart(test->driver);
	}
	assert_true(test->machine->captured.count <= 20);
	kind_request(test->kind, test->driver);
}

/* Good requests before the bad one are answered or not, but the ring is whole; none after it. */
static void test_bad_among_good(void **state)
{
	struct kind_case *test = kind_case_run(state);
	struct kind_buffer buffers[2];
	struct ring *ring = &test->queue->ring;
	unsigned int used = 0;

	for (unsigned int i = 0; i < 2; i++) {
		buffers[i] = kind_buffer(test->kind, test->driver);
		assert_int_equal(driver_add_buf(test->queue, buffers[i].segments,
						buffers[i].out_count, buffers[i].in_count,
						&buffers[i]),
				 0);
	}
	ring->avail->ring[2] = 0xffff;
	ring->avail->idx = 3;
	test->driver->interface->notify(test->driver, test->queue);
	machine_poll(test->machine);
	assert_true(driver_status(test->driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
	while (driver_get_buf(test->queue, NULL))
		used++;
	assert_true(used <= 2);
	driver_restart(test->driver);
	kind_request(test->kind, test->driver);
}

int main(void)
{
	struct kind_tests tests = { .count = 0 };

	kind_tests_add(&tests, "malformed rings", test_malformed, KIND_AXIS_SPLIT);
	kind_tests_add(&tests, "chain of more than 4 GiB", test_chain_of_more_than_4g,
		       KIND_AXIS_NONE);
	kind_tests_add(&tests, "log is limited", test_log_is_limited, KIND_AXIS_NONE);
	kind_tests_add(&tests, "bad among good", test_bad_among_good, KIND_AXIS_SPLIT);
	return kind_tests_run(&tests, "malformed rings");
}
