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

	victim->bench = lab_bench(test->kind);
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
	driver = driver_run(machine, KIND_SLOT, &params, 0);
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

/* Both sides of a ring agree, on a place that it has not. */
static void test_indices(void **state)
{
	static const uint16_t places[] = { 7, 8, 9, 0x7fff, 0x8000, 0xffff };
	struct victim victim = { 0 };
	uint8_t *bytes;

	victim_open(&victim, *state);
	bytes = malloc(victim.good->len);
	assert_non_null(bytes);
	for (unsigned int i = 0; i < ARRAY_SIZE(places); i++) {
		memcpy(bytes, victim.good->bytes, victim.good->len);
		for (unsigned int j = 0; j < victim.good->count; j++) {
			const struct lab_value *value = &victim.good->values[j];

			if (!strcmp(value->field, "last_avail") ||
			    !strcmp(value->field, "used_idx"))
				bytes_put(bytes + value->offset, value->size, places[i]);
		}
		try(&victim, bytes, "indices");
	}
	/* A split ring's run free, a packed ring of 8 has places up to 7. */
	assert_int_equal(victim.accepted, ((struct kind_case *)*state)->params.packed ? 1 : 6);
	free(bytes);
	victim_close(&victim);
}

static bool config_is_loaded(const struct virtio_ops *ops, unsigned int offset)
{
	const struct state_field *field = ops->config_state;

	for (; field && field->name; field++)
		if (!field->match && offset >= field->offset &&
		    offset < field->offset + field->size * field->count)
			return true;
	return false;
}

/* Of the configuration space only what the device's table names can be another. */
static void test_config(void **state)
{
	struct victim victim = { 0 };
	const struct virtio_ops *ops;
	unsigned int offset, tried = 0;
	uint8_t *bytes;

	victim_open(&victim, *state);
	ops = ((struct virtio_pci *)victim.dev->arg)->vc->ops;
	bytes = malloc(victim.good->len);
	assert_non_null(bytes);
	for (unsigned int i = 0; i < victim.good->count; i++) {
		const struct lab_value *value = &victim.good->values[i];

		if (sscanf(value->field, "config[%u]", &offset) != 1 ||
		    config_is_loaded(ops, offset))
			continue;
		try_value(&victim, bytes, value, victim.good->bytes[value->offset] ^ 1U);
		tried++;
	}
	assert_int_equal(victim.accepted, 0);
	assert_int_equal(victim.refused, tried);
	free(bytes);
	victim_close(&victim);
}

/* A device with other options, or another device, is not the one that was saved. */
static void test_other_device(void **state)
{
	static const struct {
		const char *options, *line;
	} others[] = {
		{ "queue_size=16", "/queue[0]: size_max: 0x8 in the state, 0x10 here (give the "
				   "device the queue_size= it had)" },
		{ LAB_OPTIONS ",event_idx=off", "/virtio[0]: device_caps.bits[0]: 0x" },
		{ LAB_OPTIONS ",modern=off", "/pci[0]: cfgdata[0x" },
	};
	struct machine_config config = { .memory_size = LAB_MEMORY };
	struct kind_case *test = *state;
	struct kind_bench *bench = kind_bench_create(test->kind, &config, LAB_OPTIONS), *other;
	struct lab_state *saved;

	if (!bench)
		skip();
	pci_quiesce_devices(bench->machine->ctx);
	saved = lab_take(bench->machine, bench->dev);
	for (unsigned int i = 0; i < ARRAY_SIZE(others); i++) {
		if (!test->kind->transitional_id && strstr(others[i].options, "modern=off"))
			continue;
		other = kind_bench_create(test->kind, &config, others[i].options);
		assert_non_null(other);
		pci_quiesce_devices(other->machine->ctx);
		assert_int_equal(lab_load(other->machine, other->dev, saved->bytes, saved->len),
				 -EINVAL);
		assert_int_equal(other->machine->captured.count, 1);
		assert_logged(other->machine, others[i].line);
		kind_bench_destroy(other);
	}
	lab_state_free(saved);
	kind_bench_destroy(bench);
}

/* ---- The frame ---- */

/* The state of all functions is not one of this function, and the other way round. */
static void test_left_over(void **state)
{
	struct victim victim = { 0 };
	struct lab_state *all, *now;

	victim_open(&victim, *state);
	all = lab_take(victim.machine, NULL);
	pci_resume_devices(victim.machine->ctx);
	pci_reset_devices(victim.machine->ctx);
	pci_quiesce_devices(victim.machine->ctx);
	now = lab_take(victim.machine, victim.dev);
	machine_log_clear(victim.machine);
	assert_int_equal(lab_load(victim.machine, victim.dev, all->bytes, all->len), -EINVAL);
	assert_logged(victim.machine, "is of nothing that this VM has");
	assert_true(lab_same(victim.machine, victim.dev, now->bytes, now->len));
	assert_int_equal(lab_load(victim.machine, NULL, victim.good->bytes, victim.good->len),
			 -EINVAL);
	assert_logged(victim.machine, "state: section pci-bus[0]: is missing");
	assert_true(lab_same(victim.machine, victim.dev, now->bytes, now->len));
	assert_int_equal(lab_load(victim.machine, NULL, all->bytes, all->len), 0);
	lab_state_free(all);
	lab_state_free(now);
	victim_close(&victim);
}

/* While it runs it is neither saved nor loaded. */
static void test_not_quiesced(void **state)
{
	struct victim victim = { 0 };
	struct state_writer *writer;

	victim_open(&victim, *state);
	pci_resume_devices(victim.machine->ctx);
	machine_log_clear(victim.machine);
	writer = state_writer_create(victim.machine->ctx->log);
	assert_int_equal(pci_save_device(victim.dev, writer), -EBUSY);
	assert_logged(victim.machine, "cannot be saved: it is not quiesced (pause the VM first)");
	assert_int_equal(lab_load(victim.machine, victim.dev, victim.good->bytes, victim.good->len),
			 -EINVAL);
	assert_logged(victim.machine, "is not quiesced (pause the VM first)");
	state_writer_destroy(writer);
	victim_close(&victim);
}

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
	kind_tests_add(&tests, "indices", test_indices, KIND_AXIS_INTERFACE);
	kind_tests_add(&tests, "configuration space", test_config, KIND_AXIS_NONE);
	kind_tests_add(&tests, "other device", test_other_device, KIND_AXIS_NONE);
	kind_tests_add(&tests, "left over", test_left_over, KIND_AXIS_INTERFACE);
	kind_tests_add(&tests, "not quiesced", test_not_quiesced, KIND_AXIS_NONE);
	kind_tests_add(&tests, "each length", test_lengths, KIND_AXIS_NONE);
	return failed + kind_tests_run(&tests, "state mutation");
}
