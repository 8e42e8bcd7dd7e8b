/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the rings owe every driver, for every kind of device: requests in all combinations of
 * interface, ring features and interrupts; notifications both ways; life cycle with requests in
 * flight.
 */
#include "device_kinds.h"

/* ---- Requests ---- */

/* One after another, three times around the ring. */
static void test_requests(void **state)
{
	struct kind_case *bench = kind_case_run(state);

	for (unsigned int i = 0; i < 3U * bench->queue->ring.size; i++)
		kind_request(bench->kind, bench->driver);
	assert_int_equal(bench->machine->captured.count, 0);
}

/* The indices of a split ring have 16 bits, whatever its size: all around them. */
static void test_indices_wrap(void **state)
{
	struct kind_case *bench = kind_case_run(state);

	for (unsigned int i = 0; i < 0x10000 + 300; i++)
		kind_request(bench->kind, bench->driver);
	assert_int_equal(bench->machine->captured.count, 0);
}

/* As many at once as the ring takes, with one kick, several times. */
static void test_full_ring(void **state)
{
	struct kind_case *bench = kind_case_run(state);
	unsigned int tokens[1024], seen[1024] = { 0 };

	for (unsigned int round = 1; round <= 5; round++) {
		unsigned int count = 0, len;

		for (;; count++) {
			struct kind_buffer buffer = kind_buffer(bench->kind, bench->driver);

			if (driver_add_buf(bench->queue, buffer.segments, buffer.out_count,
					   buffer.in_count, &tokens[count]))
				break;
		}
		assert_true(count >= bench->queue->ring.size / 2U);
		driver_kick(bench->queue);
		for (unsigned int i = 0; i < count; i++) {
			unsigned int *token =
				driver_wait_buf(bench->queue, &len, DRIVER_TIMEOUT_MS);

			assert_non_null(token);
			assert_int_equal(len, bench->kind->used);
			assert_int_equal(++seen[token - tokens], round);
		}
		assert_null(driver_get_buf(bench->queue, NULL));
		assert_true(driver_queue_interrupt(bench->queue));
	}
}

/* The same with the device in its own thread. */
static void test_requests_threaded(void **state)
{
	struct machine_config config = { .ioeventfd = true, .io_thread = true };
	struct kind_case *bench = kind_case_open(state, &config, NULL);
	struct virtio_driver *driver = bench->driver;

	assert_true(driver_negotiate(driver, driver->offered));
	driver_start(driver);
	for (unsigned int i = 0; i < 300; i++) {
		struct driver_queue *queue = bench->queue;
		struct kind_buffer buffer = kind_buffer(bench->kind, driver);

		assert_int_equal(driver_add_buf(queue, buffer.segments, buffer.out_count,
						buffer.in_count, &buffer),
				 0);
		driver_kick(queue);
		if (i % 7 == 0)
			assert_ptr_equal(driver_wait_buf(queue, NULL, DRIVER_TIMEOUT_MS), &buffer);
		else
			while (!driver_get_buf(queue, NULL))
				;
		if (i % 50 == 49)
			driver_restart(driver);
	}
}

/* ---- Notifications to the driver ---- */

static void add_one(struct kind_case *bench)
{
	struct kind_buffer buffer = kind_buffer(bench->kind, bench->driver);

	assert_int_equal(driver_add_buf(bench->queue, buffer.segments, buffer.out_count,
					buffer.in_count, bench),
			 0);
	driver_kick(bench->queue);
}

static void complete_one(struct kind_case *bench)
{
	add_one(bench);
	machine_poll(bench->machine);
	assert_true(driver_pending(bench->queue));
}

static void test_callbacks_off(void **state)
{
	struct kind_case *bench = kind_case_run(state);

	driver_disable_cb(bench->queue);
	complete_one(bench);
	complete_one(bench);
	assert_false(driver_queue_interrupt(bench->queue));
	assert_true(driver_enable_cb(bench->queue)); /* two are pending, no interrupt will tell */
	assert_non_null(driver_get_buf(bench->queue, NULL));
	assert_non_null(driver_get_buf(bench->queue, NULL));
	assert_null(driver_get_buf(bench->queue, NULL));
	assert_false(driver_enable_cb(bench->queue));
	assert_false(driver_queue_interrupt(bench->queue));
	complete_one(bench);
	assert_true(driver_queue_interrupt(bench->queue));
}

/* Split rings. virtio 1.4, 2.7.7.2: exactly when used.idx goes past used_event. */
static void test_used_event(void **state)
{
	struct kind_case *bench = kind_case_run(state);
	struct ring *ring = &bench->queue->ring;

	if (!ring->event_idx || bench->driver->params.packed)
		return;
	for (unsigned int i = 0; i < 12; i++) {
		bool wanted = i % 3 == 2;

		bench->queue->ring.callbacks_off = true; /* get_buf must not move the event */
		if (i % 3 == 0)
			*ring_used_event(ring) = (uint16_t)(ring->used_seen + 2);
		complete_one(bench);
		assert_non_null(driver_get_buf(bench->queue, NULL));
		assert_int_equal(driver_queue_interrupt(bench->queue), wanted);
	}
	/* An event that has passed is not one again before the index comes round. */
	*ring_used_event(ring) = (uint16_t)(ring->used_seen - 1);
	complete_one(bench);
	assert_false(driver_queue_interrupt(bench->queue));
}

/* The legacy notification on empty: flags do not suppress it (virtio 1.4, 2.7.7.1 of legacy). */
static void test_notify_on_empty(void **state)
{
	struct kind_case *bench = kind_case_open(state, NULL, NULL);

	assert_true(driver_negotiate(bench->driver, bench->driver->offered));
	driver_start(bench->driver);
	if (!driver_has(bench->driver, VIRTIO_F_NOTIFY_ON_EMPTY)) {
		assert_false(bench->driver->params.legacy);
		return;
	}
	driver_disable_cb(bench->queue);
	complete_one(bench);
	assert_true(driver_queue_interrupt(bench->queue));
}

/* ---- Notifications to the device ---- */

/* When it has nothing to do it wants the next kick, always. */
static void test_kicks_wanted(void **state)
{
	struct kind_case *bench = kind_case_run(state);

	for (unsigned int i = 0; i < 20; i++) {
		unsigned int kicks = bench->queue->kicks;

		kind_request(bench->kind, bench->driver);
		assert_int_equal(bench->queue->kicks, kicks + 1);
	}
}

/* Buffers that come while a kick is on its way are found without another one. */
static void test_kicks_saved(void **state)
{
	struct kind_case *bench = kind_case_run(state);

	for (unsigned int i = 0; i < 3; i++) {
		unsigned int kicks = bench->queue->kicks, late = bench->queue->ring.size / 2U - 1;

		add_one(bench);
		for (unsigned int j = 0; j < late; j++)
			add_one(bench);
		if (bench->driver->params.ioeventfd && bench->queue->ring.event_idx)
			assert_int_equal(bench->queue->kicks, kicks + 1);
		for (unsigned int j = 0; j <= late; j++)
			assert_non_null(driver_wait_buf(bench->queue, NULL, DRIVER_TIMEOUT_MS));
	}
}

/* A kick without a buffer, or for what is not there, does nothing. */
static void test_kicks_for_nothing(void **state)
{
	struct kind_case *bench = kind_case_run(state);
	struct virtio_driver *driver = bench->driver;

	for (unsigned int i = 0; i < 3; i++)
		driver->interface->notify(driver, bench->queue);
	if (driver->params.legacy) {
		for (unsigned int size = 1; size <= 4; size *= 2)
			pci_bar_out(&driver->pci, 0, VIRTIO_PCI_QUEUE_NOTIFY, size, UINT32_MAX);
	} else {
		for (uint32_t offset = 0; offset < driver->notify.length; offset++)
			for (unsigned int size = 1; size <= 8; size *= 2)
				pci_bar_out(&driver->pci, driver->notify.bar,
					    driver->notify.offset + offset, size, UINT64_MAX);
	}
	machine_poll(bench->machine);
	assert_null(driver_get_buf(bench->queue, NULL));
	assert_false(driver_queue_interrupt(bench->queue));
	kind_request(bench->kind, driver);
	assert_int_equal(bench->machine->captured.count, 0);
}

/* Buffers and kicks before DRIVER_OK: a modern device does not look at them before, and no device
 * forgets them (virtio 1.4, 3.1.1). */
static void test_kick_before_driver_ok(void **state)
{
	struct kind_case *bench = kind_case_open(state, NULL, NULL);
	struct virtio_driver *driver = bench->driver;
	struct kind_buffer buffer;

	assert_true(driver_negotiate(driver, driver->offered));
	for (uint16_t i = 0; i < driver->queue_count; i++)
		driver_queue_setup(driver, i, 0);
	buffer = kind_buffer(bench->kind, driver);
	assert_int_equal(driver_add_buf(bench->queue, buffer.segments, buffer.out_count,
					buffer.in_count, bench),
			 0);
	driver->interface->notify(driver, bench->queue);
	machine_poll(bench->machine);
	if (!driver->params.legacy)
		assert_true(kind_buffer_untouched(&buffer, bench->machine) &&
			    !driver_pending(bench->queue));
	driver_set_status(driver, VIRTIO_CONFIG_S_DRIVER_OK);
	assert_ptr_equal(driver_wait_buf(bench->queue, NULL, DRIVER_TIMEOUT_MS), bench);
}

/* ---- Life cycle ---- */

/* What was made available and not used when the device is reset stays as it is. */
static void test_reset_in_flight(void **state)
{
	struct kind_case *bench = kind_case_run(state);

	for (unsigned int round = 0; round < 4; round++) {
		struct kind_buffer buffer = kind_buffer(bench->kind, bench->driver);
		bool used;

		assert_int_equal(driver_add_buf(bench->queue, buffer.segments, buffer.out_count,
						buffer.in_count, bench),
				 0);
		driver_kick(bench->queue); /* an ioeventfd is not seen before the reset */
		driver_set_status(bench->driver, 0);
		assert_int_equal(driver_status(bench->driver), 0);
		used = driver_pending(bench->queue);
		if (!used)
			assert_true(kind_buffer_untouched(&buffer, bench->machine));
		machine_poll(bench->machine);
		assert_int_equal(driver_pending(bench->queue), used);
		if (!used)
			assert_true(kind_buffer_untouched(&buffer, bench->machine));
		driver_restart(bench->driver);
		kind_request(bench->kind, bench->driver);
	}
}

/* The VM's reset is the device's. */
static void test_vm_reset(void **state)
{
	struct kind_case *bench = kind_case_run(state);

	kind_request(bench->kind, bench->driver);
	add_one(bench);
	pci_reset_devices(bench->machine->ctx);
	machine_poll(bench->machine);
	assert_int_equal(pci_in(&bench->driver->pci, PCI_COMMAND, 2), 0);
	pci_function_enable(&bench->driver->pci);
	assert_int_equal(driver_status(bench->driver), 0);
	driver_restart(bench->driver);
	kind_request(bench->kind, bench->driver);
}

/* Nothing happens to guest memory between quiesce and resume, and nothing is lost. */
static void test_quiesce(void **state)
{
	struct kind_case *bench = kind_case_run(state);

	for (unsigned int round = 0; round < 3; round++) {
		struct kind_buffer buffer;

		kind_request(bench->kind, bench->driver);
		pci_quiesce_devices(bench->machine->ctx);
		buffer = kind_buffer(bench->kind, bench->driver);
		assert_int_equal(driver_add_buf(bench->queue, buffer.segments, buffer.out_count,
						buffer.in_count, bench),
				 0);
		driver_kick(bench->queue);
		machine_poll(bench->machine);
		assert_false(driver_pending(bench->queue));
		assert_true(kind_buffer_untouched(&buffer, bench->machine));
		pci_resume_devices(bench->machine->ctx);
		assert_ptr_equal(driver_wait_buf(bench->queue, NULL, DRIVER_TIMEOUT_MS), bench);
		assert_true(driver_queue_interrupt(bench->queue));
	}
}

/* BARs that move while the driver runs: kicks follow them. */
static void test_bars_move(void **state)
{
	struct kind_case *bench = kind_case_run(state);
	struct pci_function *pci = &bench->driver->pci;
	unsigned int bar = bench->driver->params.legacy ? 0 : bench->driver->notify.bar;
	uint64_t old = pci->bar[bar].addr, size = pci->bar[bar].size;
	uint64_t places[] = { bench->driver->params.legacy ? 0x8000 : 0xd0000000, old,
			      bench->driver->params.legacy ? 0x10000 - size : GIB(512) };

	for (unsigned int i = 0; i < ARRAY_SIZE(places); i++) {
		pci_move_bar(pci, bar, places[i]);
		kind_request(bench->kind, bench->driver);
		pci_command(pci, 0, PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
		pci_function_enable(pci);
		kind_request(bench->kind, bench->driver);
	}
}

int main(void)
{
	struct kind_tests tests = { .count = 0 };

	kind_tests_add(&tests, "requests", test_requests, KIND_AXIS_ALL);
	kind_tests_add_served(&tests, "requests", test_requests);
	kind_tests_add(&tests, "indices wrap", test_indices_wrap, KIND_AXIS_NONE);
	kind_tests_add(&tests, "full ring", test_full_ring, KIND_AXIS_ALL);
	kind_tests_add_served(&tests, "full ring", test_full_ring);
	kind_tests_add(&tests, "requests, threaded", test_requests_threaded, KIND_AXIS_INTERFACE);
	kind_tests_add(&tests, "callbacks off", test_callbacks_off, KIND_AXIS_ALL);
	kind_tests_add_served(&tests, "callbacks off", test_callbacks_off);
	kind_tests_add(&tests, "used_event", test_used_event, KIND_AXIS_ALL);
	kind_tests_add_served(&tests, "used_event", test_used_event);
	kind_tests_add(&tests, "notify on empty", test_notify_on_empty, KIND_AXIS_INTERFACE);
	kind_tests_add(&tests, "kicks wanted", test_kicks_wanted, KIND_AXIS_ALL);
	kind_tests_add_served(&tests, "kicks wanted", test_kicks_wanted);
	kind_tests_add(&tests, "kicks saved", test_kicks_saved, KIND_AXIS_ALL);
	kind_tests_add_served(&tests, "kicks saved", test_kicks_saved);
	kind_tests_add(&tests, "kicks for nothing", test_kicks_for_nothing, KIND_AXIS_ALL);
	kind_tests_add(&tests, "kick before DRIVER_OK", test_kick_before_driver_ok, KIND_AXIS_ALL);
	kind_tests_add(&tests, "reset in flight", test_reset_in_flight, KIND_AXIS_ALL);
	kind_tests_add_served(&tests, "reset in flight", test_reset_in_flight);
	kind_tests_add(&tests, "VM reset", test_vm_reset, KIND_AXIS_INTERFACE);
	kind_tests_add(&tests, "quiesce", test_quiesce, KIND_AXIS_ALL);
	kind_tests_add(&tests, "BARs move", test_bars_move, KIND_AXIS_ALL);
	return kind_tests_run(&tests, "virtio rings");
}
