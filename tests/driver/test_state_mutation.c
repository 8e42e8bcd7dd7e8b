/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Saved states from an enemy: each byte of the state of a device at work is flipped, each value of
 * its tables set to what is likely to hurt. Either the state is refused with one line that names
 * the section, and the device is what it was, or it is loaded to the byte, and the device lives
 * through an evil driver and can be saved, loaded and reset afterwards. For every kind.
 */
#include <stdio.h>

#include "state_lab.h"

struct victim {
	struct kind_bench *bench;
	struct machine *machine;
	struct pci_vdev *dev;
	struct lab_state *good;
	unsigned int refused, accepted;
	uint32_t seed;
};

/* A device at work: queues that have gone around, one vector masked with an interrupt pending. */
static void victim_open(struct victim *victim, struct kind_case *test)
{
	struct virtio_driver *driver;

	victim->bench = lab_bench(test->kind, test->params.packed);
	if (!victim->bench)
		skip();
	victim->machine = victim->bench->machine;
	victim->dev = victim->bench->dev;
	driver = driver_run(victim->machine, KIND_SLOT, &test->params, 0);
	lab_fill(test->kind, driver);
	for (unsigned int i = 0; i < 5; i++)
		kind_request(test->kind, driver);
	if (test->params.msix) {
		struct kind_buffer buffer = kind_buffer(test->kind, driver);

		pci_msix_mask(&driver->pci, test->kind->queue + 1U, true);
		assert_int_equal(driver_add_buf(driver_queue(driver, test->kind->queue),
						buffer.segments, buffer.out_count, buffer.in_count,
						&buffer),
				 0);
		driver_kick(driver_queue(driver, test->kind->queue));
		machine_poll(victim->machine);
	}
	driver_close(driver);
	pci_quiesce_devices(victim->machine->ctx);
	victim->good = lab_take_as(victim->machine, victim->dev, true);
	victim->seed = 1;
}

static void victim_close(struct victim *victim)
{
	print_message("%u values: %u states refused, %u accepted\n", victim->good->count,
		      victim->refused, victim->accepted);
	lab_state_free(victim->good);
	kind_bench_destroy(victim->bench);
}

static void refused(struct victim *victim, const char *what)
{
	struct captured_log *captured = &victim->machine->captured;

	victim->refused++;
	if (captured->count != 1 || strncmp(captured->lines[0], "state: ", 7) != 0) {
		machine_log_print(victim->machine);
		fail_msg("%s: %u lines", what, captured->count);
	}
	if (!lab_same(victim->machine, victim->dev, victim->good->bytes, victim->good->len))
		fail_msg("%s: refused, but the device has changed", what);
}

/* Where its driver has brought it, it can be saved and loaded, and at last it works again. */
static void accepted(struct victim *victim, const uint8_t *bytes, const char *what)
{
	struct machine *machine = victim->machine;
	struct lab_state *now;

	victim->accepted++;
	if (!lab_same(machine, victim->dev, bytes, victim->good->len))
		fail_msg("%s: loaded, but not to the byte", what);
	pci_resume_devices(machine->ctx);
	lab_abuse(machine, victim->dev, victim->seed++);
	pci_quiesce_devices(machine->ctx);
	now = lab_take(machine, victim->dev);
	machine_log_clear(machine);
	if (lab_load(machine, victim->dev, now->bytes, now->len)) {
		machine_log_print(machine);
		fail_msg("%s: the device cannot load what it has saved", what);
	}
	lab_state_free(now);
}

static void victim_reset(struct victim *victim)
{
	static const struct driver_params params = { .event_idx = true, .msix = true };
	struct machine *machine = victim->machine;
	struct virtio_driver *driver;

	pci_resume_devices(machine->ctx);
	pci_reset_devices(machine->ctx);
	memset(guest_ptr(machine, MACHINE_HEAP, MIB(1)), 0, MIB(1));
	machine->heap_next = MACHINE_HEAP;
	driver = driver_run(machine, KIND_SLOT, &params, BIT64(VIRTIO_F_RING_PACKED));
	kind_request(victim->bench->kind, driver);
	driver_close(driver);
	pci_quiesce_devices(machine->ctx);
}

static void back_to_good(struct victim *victim)
{
	if (lab_load(victim->machine, victim->dev, victim->good->bytes, victim->good->len)) {
		machine_log_print(victim->machine);
		fail_msg("the good state is refused");
	}
}

/* @bytes: the good state with something changed. */
static void try(struct victim *victim, uint8_t *bytes, const char *what)
{
	machine_log_clear(victim->machine);
	state_seal(bytes, victim->good->len);
	if (lab_load(victim->machine, victim->dev, bytes, victim->good->len)) {
		refused(victim, what);
		return;
	}
	accepted(victim, bytes, what);
	if (victim->accepted % 16 == 0)
		victim_reset(victim);
	back_to_good(victim);
}

/* ---- Each byte ---- */

static void test_bytes(void **state)
{
	struct victim victim = { 0 };
	uint8_t *bytes;

	victim_open(&victim, *state);
	bytes = malloc(victim.good->len);
	assert_non_null(bytes);
	for (size_t at = 0; at < victim.good->len; at++) {
		static const uint8_t flips[] = { 0x01, 0x80, 0xff };
		char what[40];

		snprintf(what, sizeof(what), "byte 0x%zx", at);
		for (unsigned int i = 0; i < sizeof(flips); i++) {
			memcpy(bytes, victim.good->bytes, victim.good->len);
			bytes[at] ^= flips[i];
			try(&victim, bytes, what);
		}
	}
	free(bytes);
	victim_close(&victim);
}

/* ---- Each value ---- */

static void try_value(struct victim *victim, uint8_t *bytes, const struct lab_value *value,
		      uint64_t to)
{
	char what[300];

	if (value->size < 8)
		to &= BIT64(8 * value->size) - 1;
	memcpy(bytes, victim->good->bytes, victim->good->len);
	if (bytes_get(bytes + value->offset, value->size) == to)
		return;
	bytes_put(bytes + value->offset, value->size, to);
	snprintf(what, sizeof(what), "%s: %s = 0x%llx", value->section, value->field,
		 (unsigned long long)to);
	try(victim, bytes, what);
}

static void test_values(void **state)
{
	struct victim victim = { 0 };
	uint8_t *bytes;

	victim_open(&victim, *state);
	bytes = malloc(victim.good->len);
	assert_non_null(bytes);
	for (unsigned int i = 0; i < victim.good->count; i++) {
		const struct lab_value *value = &victim.good->values[i];
		uint64_t was = bytes_get(victim.good->bytes + value->offset, value->size);
		uint64_t sign = BIT64(8 * value->size - 1);
		const uint64_t to[] = {
			0,
			1,
			2,
			3,
			was + 1,
			was - 1,
			was ^ sign,
			sign,
			sign - 1,
			UINT64_MAX,
			UINT64_MAX - 1,
			value->desc->max,
			value->desc->max + 1,
			LAB_MEMORY - 16,
			LAB_MEMORY,
			UINT64_C(0xfee00000),
		};

		/* Of byte arrays the other test tries each. */
		for (unsigned int j = 0; j < ARRAY_SIZE(to) && value->desc->count < 100; j++)
			try_value(&victim, bytes, value, to[j]);
	}
	free(bytes);
	victim_close(&victim);
}

/* ---- The frame ---- */

/* Cut short anywhere, with the length put right or not. */
static void test_lengths(void **state)
{
	struct victim victim = { 0 };

	victim_open(&victim, *state);
	for (size_t len = 0; len < victim.good->len; len += len % 64 ? 1 : 37) {
		uint8_t *bytes = malloc(len + 1);

		memcpy(bytes, victim.good->bytes, len);
		machine_log_clear(victim.machine);
		assert_int_not_equal(lab_load(victim.machine, victim.dev, bytes, len), 0);
		refused(&victim, "cut");
		state_seal(bytes, len);
		machine_log_clear(victim.machine);
		assert_int_not_equal(lab_load(victim.machine, victim.dev, bytes, len), 0);
		refused(&victim, "cut and sealed");
		free(bytes);
	}
	victim_close(&victim);
}

/* What the fuzz target does with good states and with noise. */
static void test_fuzz_entry(void **state)
{
	struct lab_state *good;
	uint32_t seed = 7;
	uint8_t first;

	for (unsigned int i = 0; state_fuzz_seed(i, &first, &good); i++) {
		uint8_t *input;

		if (!good)
			continue;
		input = malloc(good->len + 1);
		assert_non_null(input);
		input[0] = first;
		memcpy(input + 1, good->bytes, good->len);
		assert_true(state_fuzz_one(input, good->len + 1));
		for (unsigned int j = 0; j < 200; j++) {
			state_fuzz_one(input, good->len + 1);
			memcpy(input + 1, good->bytes, good->len);
			input[1 + lab_random(&seed) % good->len] ^= 1U << lab_random(&seed) % 8;
		}
		assert_false(state_fuzz_one(input, 0));
		assert_false(state_fuzz_one(input, 1));
		free(input);
		lab_state_free(good);
	}
	state_fuzz_end();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest fuzz_tests[] = { cmocka_unit_test(test_fuzz_entry) };
	struct kind_tests tests = { 0 };
	int failed;

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	failed = cmocka_run_group_tests(fuzz_tests, NULL, NULL);
	kind_tests_add(&tests, "each byte", test_bytes, KIND_AXIS_INTERFACE);
	kind_tests_add(&tests, "each value", test_values, KIND_AXIS_INTERFACE);
	kind_tests_add(&tests, "each length", test_lengths, KIND_AXIS_NONE);
	return failed + kind_tests_run(&tests, "state mutation");
}
