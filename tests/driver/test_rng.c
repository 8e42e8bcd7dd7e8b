/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-rng (virtio 1.4, 5.4) through the driver.
 */
#include "virtio_driver.h"

#define SLOT 4

struct bench {
	struct machine *machine;
	struct virtio_driver *driver;
	struct driver_queue *queue;
};

static void bench_start(struct bench *bench, const struct driver_params *params, const char *spec)
{
	struct machine_config config = { .ioeventfd = params->ioeventfd };

	bench->machine = machine_create(&config);
	machine_add(bench->machine, spec);
	bench->driver = driver_run(bench->machine, SLOT, params, 0);
	bench->queue = driver_queue(bench->driver, 0);
}

static void bench_stop(struct bench *bench)
{
	driver_close(bench->driver);
	machine_destroy(bench->machine);
	memset(bench, 0, sizeof(*bench));
}

static int bench_setup(void **state)
{
	*state = test_calloc(1, sizeof(struct bench));
	return 0;
}

static int bench_teardown(void **state)
{
	struct bench *bench = *state;

	bench_stop(bench);
	test_free(bench);
	return 0;
}

static const struct driver_params usual = { .indirect = true, .event_idx = true, .msix = true };

static bool all_poison(const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (data[i] != DRIVER_POISON)
			return false;
	return true;
}

/* Every combination, every cut: all bytes are written, and not twice the same ones. */
static void test_layouts(void **state)
{
	struct bench *bench = *state;

	for (unsigned int i = 0; i < DRIVER_COMBINATIONS; i++) {
		struct driver_params params = driver_params_at(i);
		uint8_t data[256], last[256] = { 0 };

		bench_start(bench, &params, "4,virtio-rng");
		assert_int_equal(bench->driver->queue_count, 1);
		for (unsigned int j = 0; j < driver_layout_count; j++) {
			assert_int_equal(driver_request(bench->queue, &driver_layouts[j], NULL, 0,
							data, sizeof(data)),
					 sizeof(data));
			assert_memory_not_equal(data, last, sizeof(data));
			for (size_t at = 0; at < sizeof(data); at += 16)
				assert_false(all_poison(data + at, 16));
			memcpy(last, data, sizeof(data));
			assert_true(driver_queue_interrupt(bench->queue));
		}
		bench_stop(bench);
	}
}

/* Any length, down to one byte: used.len is what was written, and no more was (5.4.6). */
static void test_lengths(void **state)
{
	struct bench *bench = *state;
	uint8_t data[5000];

	bench_start(bench, &usual, "4,virtio-rng");
	for (uint32_t len = 1; len <= sizeof(data); len = len * 3 / 2 + 1) {
		assert_int_equal(
			driver_request(bench->queue, &driver_layouts[0], NULL, 0, data, len), len);
		if (len >= 16)
			assert_false(all_poison(data, 16) || all_poison(data + len - 16, 16));
	}
}

static uint64_t now_ms(struct bench *bench)
{
	return vm_clock_ns(bench->machine->ctx) / 1000000;
}

/* max-bytes and period: a part is given at once, the rest of the requests wait their turn. */
static void test_rate(void **state)
{
	struct bench *bench = *state;
	uint8_t data[100];
	uint64_t start;

	bench_start(bench, &usual, "4,virtio-rng,max-bytes=64,period=30");
	assert_int_equal(driver_request(bench->queue, &driver_layouts[0], NULL, 0, data, 100), 64);
	assert_false(all_poison(data, 64));
	assert_true(all_poison(data + 64, 36));
	start = now_ms(bench);
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(
			driver_request(bench->queue, &driver_layouts[0], NULL, 0, data, 100), 64);
	assert_true(now_ms(bench) - start >= 90);
}

/* A reset in the middle of a wait: nothing comes to the old buffer, the new driver is served. */
static void test_reset_while_waiting(void **state)
{
	struct bench *bench = *state;
	struct segment segment = { .len = 64 };
	uint8_t data[64];

	bench_start(bench, &usual, "4,virtio-rng,max-bytes=64,period=20");
	segment.gpa = guest_alloc(bench->machine, 64, 1);
	memset(guest_ptr(bench->machine, segment.gpa, 64), DRIVER_POISON, 64);
	assert_int_equal(driver_request(bench->queue, &driver_layouts[0], NULL, 0, data, 64), 64);
	assert_int_equal(driver_add_buf(bench->queue, &segment, 0, 1, bench), 0);
	driver_kick(bench->queue);
	machine_poll(bench->machine);
	assert_false(driver_pending(bench->queue));
	driver_set_status(bench->driver, 0);
	assert_null(driver_wait_buf(bench->queue, NULL, 40));
	assert_true(all_poison(guest_ptr(bench->machine, segment.gpa, 64), 64));
	driver_restart(bench->driver);
	assert_int_equal(driver_request(bench->queue, &driver_layouts[0], NULL, 0, data, 64), 64);
}

/* Requests that ask for nothing, or with something to read only, are no requests (5.4.6.1). */
static void test_malformed(void **state)
{
	struct bench *bench = *state;
	struct segment segment = { .len = 64 };
	uint8_t data[64];

	bench_start(bench, &usual, "4,virtio-rng");
	segment.gpa = guest_alloc(bench->machine, 64, 1);
	for (unsigned int i = 0; i < 2; i++) {
		segment.len = i ? 64 : 0;
		machine_log_clear(bench->machine);
		assert_int_equal(driver_add_buf(bench->queue, &segment, i, !i, bench), 0);
		driver_kick(bench->queue);
		machine_poll(bench->machine);
		assert_true(driver_status(bench->driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
		assert_true(driver_config_interrupt(bench->driver));
		assert_int_equal(bench->machine->captured.count, 1);
		assert_logged(bench->machine, "virtio-rng@00:04.0: queue 0: ");
		driver_restart(bench->driver);
		assert_int_equal(
			driver_request(bench->queue, &driver_layouts[0], NULL, 0, data, 64), 64);
	}
}

/* A part to read in front of the one to write does no harm, and is not written to. */
static void test_readable_part(void **state)
{
	static const uint8_t out[24] = "do not touch these";
	struct bench *bench = *state;
	uint8_t data[64];

	bench_start(bench, &usual, "4,virtio-rng");
	for (unsigned int i = 0; i < driver_layout_count; i++)
		if (i != 1) /* more descriptors than the device takes */
			assert_int_equal(driver_request(bench->queue, &driver_layouts[i], out,
							sizeof(out), data, sizeof(data)),
					 sizeof(data));
}

/* No configuration space (5.4.4). */
static void test_no_config(void **state)
{
	struct bench *bench = *state;

	bench_start(bench, &usual, "4,virtio-rng");
	assert_int_equal(bench->driver->device.length, 0);
}

#define BENCH_TEST(function) cmocka_unit_test_setup_teardown(function, bench_setup, bench_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BENCH_TEST(test_layouts),   BENCH_TEST(test_lengths),
		BENCH_TEST(test_rate),	    BENCH_TEST(test_reset_while_waiting),
		BENCH_TEST(test_malformed), BENCH_TEST(test_readable_part),
		BENCH_TEST(test_no_config),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
