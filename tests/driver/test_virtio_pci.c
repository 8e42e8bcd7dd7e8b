/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio over PCI, for every kind of device: interrupts and vectors, where the configuration is, the
 * window in config space, reset of the device and of one queue.
 */
#include "device_kinds.h"

#define NO_VECTOR 0xffff
#define COMMON_REGISTERS 0x3c /* bytes up to queue_reset */
#define COMMON_QUEUE_RESET 0x3a

/* ---- Vectors (virtio 1.4, 4.1.5.1.2) ---- */

static void test_vectors(void **state)
{
	struct kind_case *test = kind_case_open(state, NULL, NULL);
	struct virtio_driver *driver = test->driver;
	const struct driver_interface *interface = driver->interface;
	uint16_t count = (uint16_t)driver->pci.msix_count;

	pci_msix_setup(&driver->pci);
	assert_true(count > driver->queue_count); /* one each and one for the configuration */
	for (uint16_t vector = 0; vector < count + 3U; vector++) {
		uint16_t want = vector < count ? vector : NO_VECTOR;

		assert_int_equal(interface->config_vector(driver, vector), want);
		for (uint16_t i = 0; i < driver->queue_count; i++)
			assert_int_equal(interface->queue_vector(driver, i, vector), want);
	}
	assert_int_equal(interface->config_vector(driver, NO_VECTOR), NO_VECTOR);
	assert_int_equal(interface->config_vector(driver, 0x100), NO_VECTOR);
	/* Each queue has its own. */
	for (uint16_t i = 0; i < driver->queue_count; i++)
		interface->queue_vector(driver, i, (uint16_t)(i % count));
	driver_set_status(driver, 0);
	assert_int_equal(interface->queue_vector(driver, 0, NO_VECTOR), NO_VECTOR);
}

/* Written one byte after the other, in either order. */
static void test_vectors_bytewise(void **state)
{
	struct kind_case *test = kind_case_open(state, NULL, NULL);
	struct virtio_driver *driver = test->driver;
	bool legacy = driver->params.legacy;
	unsigned int bar = legacy ? 0 : driver->common.bar;
	uint64_t base = legacy ? 0 : driver->common.offset;
	uint64_t registers[] = {
		base + (legacy ? VIRTIO_MSI_CONFIG_VECTOR : VIRTIO_PCI_COMMON_MSIX),
		base + (legacy ? VIRTIO_MSI_QUEUE_VECTOR : VIRTIO_PCI_COMMON_Q_MSIX),
	};

	pci_msix_setup(&driver->pci);
	driver->interface->queue_size(driver, test->kind->queue); /* selects it */
	for (unsigned int i = 0; i < ARRAY_SIZE(registers); i++)
		for (unsigned int first = 0; first < 2; first++) {
			pci_bar_out(&driver->pci, bar, registers[i], 2, NO_VECTOR);
			pci_bar_out(&driver->pci, bar, registers[i] + first, 1, first ? 0 : 1);
			assert_int_equal(pci_bar_in(&driver->pci, bar, registers[i], 2), NO_VECTOR);
			pci_bar_out(&driver->pci, bar, registers[i] + !first, 1, first ? 1 : 0);
			assert_int_equal(pci_bar_in(&driver->pci, bar, registers[i], 2), 1);
		}
}

/* A queue without a vector works, in silence; all may share one. */
static void test_vectors_none_and_shared(void **state)
{
	struct kind_case *test = kind_case_run(state);
	struct virtio_driver *driver = test->driver;
	uint64_t messages = inproc_of(test->machine->ctx)->msi_count;
	uint16_t queue = test->kind->queue;
	struct kind_buffer buffer = kind_buffer(test->kind, driver);

	assert_int_equal(driver->interface->queue_vector(driver, queue, NO_VECTOR), NO_VECTOR);
	assert_int_equal(driver_add_buf(test->queue, buffer.segments, buffer.out_count,
					buffer.in_count, test),
			 0);
	driver_kick(test->queue);
	assert_ptr_equal(driver_wait_buf(test->queue, NULL, DRIVER_TIMEOUT_MS), test);
	assert_int_equal(inproc_of(test->machine->ctx)->msi_count, messages);
	assert_int_equal(driver->interface->queue_vector(driver, queue, DRIVER_CONFIG_VECTOR), 0);
	buffer = kind_buffer(test->kind, driver);
	assert_int_equal(driver_add_buf(test->queue, buffer.segments, buffer.out_count,
					buffer.in_count, test),
			 0);
	driver_kick(test->queue);
	assert_ptr_equal(driver_wait_buf(test->queue, NULL, DRIVER_TIMEOUT_MS), test);
	assert_true(driver_config_interrupt(driver));
}

/* A vector masked in the table: the interrupt is pending there and comes on unmasking. */
static void test_vector_masked(void **state)
{
	struct kind_case *test = kind_case_run(state);
	struct virtio_driver *driver = test->driver;
	unsigned int vector = test->kind->queue + 1U;
	struct kind_buffer buffer = kind_buffer(test->kind, driver);

	pci_msix_mask(&driver->pci, vector, true);
	assert_int_equal(driver_add_buf(test->queue, buffer.segments, buffer.out_count,
					buffer.in_count, test),
			 0);
	driver_kick(test->queue);
	assert_ptr_equal(driver_wait_buf(test->queue, NULL, DRIVER_TIMEOUT_MS), test);
	assert_false(driver_queue_interrupt(test->queue));
	assert_true(pci_msix_pending(&driver->pci, vector));
	pci_msix_mask(&driver->pci, vector, false);
	assert_true(driver_queue_interrupt(test->queue));
	assert_false(pci_msix_pending(&driver->pci, vector));
}

/* ---- ISR and line (4.1.4.5) ---- */

static void test_isr(void **state)
{
	struct kind_case *test = *state;
	unsigned int gsi = pci_slot_gsi(KIND_SLOT, 1);
	struct vmctx *ctx;
	struct kind_buffer buffer;

	test->params.msix = false;
	test = kind_case_run(state);
	ctx = test->machine->ctx;
	assert_false(inproc_line(ctx, gsi));
	assert_int_equal(test->driver->interface->isr(test->driver), 0);
	for (unsigned int i = 0; i < 3; i++) {
		buffer = kind_buffer(test->kind, test->driver);
		assert_int_equal(driver_add_buf(test->queue, buffer.segments, buffer.out_count,
						buffer.in_count, test),
				 0);
		driver_kick(test->queue);
		assert_ptr_equal(driver_wait_buf(test->queue, NULL, DRIVER_TIMEOUT_MS), test);
		assert_true(inproc_line(ctx, gsi));
		assert_int_equal(test->driver->interface->isr(test->driver), 1);
		assert_false(inproc_line(ctx, gsi)); /* reading acknowledges */
		assert_int_equal(test->driver->interface->isr(test->driver), 0);
	}
	/* A reset takes it back, too. */
	buffer = kind_buffer(test->kind, test->driver);
	assert_int_equal(driver_add_buf(test->queue, buffer.segments, buffer.out_count,
					buffer.in_count, test),
			 0);
	driver_kick(test->queue);
	assert_ptr_equal(driver_wait_buf(test->queue, NULL, DRIVER_TIMEOUT_MS), test);
	assert_true(inproc_line(ctx, gsi));
	driver_set_status(test->driver, 0);
	assert_false(inproc_line(ctx, gsi));
	assert_int_equal(test->driver->interface->isr(test->driver), 0);
}

/* With MSI-X the line stays down and the ISR's queue bit clear. */
static void test_isr_with_msix(void **state)
{
	struct kind_case *test = kind_case_run(state);

	for (unsigned int i = 0; i < 3; i++)
		kind_request(test->kind, test->driver);
	assert_int_equal(inproc_of(test->machine->ctx)->rises[pci_slot_gsi(KIND_SLOT, 1)], 0);
	assert_int_equal(test->driver->interface->isr(test->driver), 0);
}

/* ---- Where the legacy configuration is (4.1.4.10) ---- */

static void test_legacy_config_offset(void **state)
{
	struct kind_case *test = *state;
	struct pci_function *pci;
	uint8_t without[64], with[64];
	unsigned int len;

	if (!test->params.legacy)
		return;
	test = kind_case_open(state, NULL, NULL);
	pci = &test->driver->pci;
	len = (unsigned int)MIN(pci->bar[0].size - VIRTIO_PCI_CONFIG_OFF(1), sizeof(with));
	for (unsigned int i = 0; i < len; i++)
		without[i] = (uint8_t)pci_bar_in(pci, 0, VIRTIO_PCI_CONFIG_OFF(0) + i, 1);
	pci_out(pci, pci->msix_cap + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(pci_bar_in(pci, 0, VIRTIO_MSI_CONFIG_VECTOR, 2), NO_VECTOR);
	for (unsigned int i = 0; i < len; i++)
		with[i] = (uint8_t)pci_bar_in(pci, 0, VIRTIO_PCI_CONFIG_OFF(1) + i, 1);
	assert_memory_equal(with, without, len);
	pci_out(pci, pci->msix_cap + PCI_MSIX_FLAGS, 2, 0);
	assert_int_equal(pci_bar_in(pci, 0, VIRTIO_PCI_CONFIG_OFF(0), 1), without[0]);
}

/* ---- The window in config space (4.1.4.9) ---- */

static uint32_t window_in(struct pci_function *pci, unsigned int cap, uint32_t bar, uint32_t offset,
			  uint32_t length)
{
	pci_out(pci, cap + VIRTIO_PCI_CAP_BAR, 1, bar);
	pci_out(pci, cap + VIRTIO_PCI_CAP_OFFSET, 4, offset);
	pci_out(pci, cap + VIRTIO_PCI_CAP_LENGTH, 4, length);
	return pci_in(pci, cap + sizeof(struct virtio_pci_cap), length <= 4 ? (length ?: 1) : 4);
}

static void window_out(struct pci_function *pci, unsigned int cap, uint32_t bar, uint32_t offset,
		       uint32_t length, uint32_t value)
{
	pci_out(pci, cap + VIRTIO_PCI_CAP_BAR, 1, bar);
	pci_out(pci, cap + VIRTIO_PCI_CAP_OFFSET, 4, offset);
	pci_out(pci, cap + VIRTIO_PCI_CAP_LENGTH, 4, length);
	pci_out(pci, cap + sizeof(struct virtio_pci_cap), length <= 4 ? (length ?: 1) : 4, value);
}

static unsigned int window_find(struct pci_function *pci)
{
	unsigned int at = 0;

	while ((at = pci_capability(pci, PCI_CAP_ID_VNDR, at)))
		if (pci_in(pci, at + VIRTIO_PCI_CAP_CFG_TYPE, 1) == VIRTIO_PCI_CAP_PCI_CFG)
			return at;
	fail_msg("no PCI_CFG capability");
	return 0;
}

static void test_window(void **state)
{
	struct kind_case *test = kind_case_run(state);
	struct virtio_driver *driver = test->driver;
	struct pci_function *pci = &driver->pci;
	unsigned int cap = window_find(pci);
	uint32_t bar = driver->common.bar, base = driver->common.offset;

	/* The window works while the BARs do not decode: that is what it is for. */
	for (unsigned int decode = 0; decode < 2; decode++) {
		if (decode)
			pci_function_enable(pci);
		else
			pci_command(pci, 0, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
		assert_int_equal(window_in(pci, cap, bar, base + VIRTIO_PCI_COMMON_NUMQ, 2),
				 driver->queue_count);
		window_out(pci, cap, bar, base + VIRTIO_PCI_COMMON_Q_SELECT, 2, test->kind->queue);
		assert_int_equal(window_in(pci, cap, bar, base + VIRTIO_PCI_COMMON_Q_SELECT, 2),
				 test->kind->queue);
		assert_int_equal(window_in(pci, cap, bar, base + VIRTIO_PCI_COMMON_Q_DESCLO, 4),
				 (uint32_t)test->queue->ring.desc_gpa);
		assert_int_equal(window_in(pci, cap, bar, base + VIRTIO_PCI_COMMON_STATUS, 1),
				 0x0f);
	}
}

/* Kicks and the ISR through the window: what a boot firmware does. */
static void test_window_request(void **state)
{
	struct kind_case *test = *state;
	struct pci_function *pci;
	struct kind_buffer buffer;
	struct virtio_driver *driver;
	unsigned int cap;

	test->params.msix = false;
	test = kind_case_run(state);
	driver = test->driver;
	pci = &driver->pci;
	cap = window_find(pci);
	buffer = kind_buffer(test->kind, driver);
	assert_int_equal(driver_add_buf(test->queue, buffer.segments, buffer.out_count,
					buffer.in_count, test),
			 0);
	window_out(pci, cap, driver->notify.bar,
		   driver->notify.offset + (uint32_t)test->queue->notify_offset, 2,
		   test->kind->queue);
	assert_ptr_equal(driver_wait_buf(test->queue, NULL, DRIVER_TIMEOUT_MS), test);
	assert_true(inproc_line(test->machine->ctx, pci_function_gsi(pci)));
	assert_int_equal(window_in(pci, cap, driver->isr.bar, driver->isr.offset, 1), 1);
	assert_false(inproc_line(test->machine->ctx, pci_function_gsi(pci)));
}

/* What a window must not point at (4.1.4.9.2): nothing is accessed. */
static void test_window_wrong(void **state)
{
	struct kind_case *test = kind_case_run(state);
	struct virtio_driver *driver = test->driver;
	struct pci_function *pci = &driver->pci;
	uint32_t bar = driver->common.bar,
		 status = driver->common.offset + VIRTIO_PCI_COMMON_STATUS;
	uint32_t size = (uint32_t)pci->bar[bar].size;
	const struct {
		uint32_t bar, offset, length;
	} wrong[] = {
		{ bar, status, 0 },
		{ bar, status, 3 },
		{ bar, status, 8 },
		{ bar, status, 0x10000 },
		{ bar, status - 1, 2 },
		{ bar, status - 2, 4 },
		{ bar, size, 1 },
		{ bar, size - 2, 4 },
		{ bar, 0xfffffffc, 4 },
		{ bar, 0xffffffff, 1 },
		{ 2, 0, 4 },
		{ 3, 0, 4 },
		{ bar + 1, 0, 4 },
		{ 6, 0, 4 },
		{ 7, 0, 4 },
		{ 0xff, 0, 4 },
	};
	unsigned int cap = window_find(pci);

	for (unsigned int i = 0; i < ARRAY_SIZE(wrong); i++) {
		window_out(pci, cap, wrong[i].bar, wrong[i].offset, wrong[i].length, 0);
		window_in(pci, cap, wrong[i].bar, wrong[i].offset, wrong[i].length);
		assert_int_equal(driver_status(driver), 0x0f);
	}
	kind_request(test->kind, driver);
}

/* ---- Reset (2.4, 4.1.4.3.1) ---- */

static void registers_snapshot(struct virtio_driver *driver, uint8_t *bytes)
{
	for (uint32_t queue = 0; queue <= driver->queue_count; queue++) {
		driver_common_out(driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
		for (unsigned int i = 0; i < COMMON_REGISTERS; i++)
			*bytes++ = (uint8_t)driver_common_in(driver, i, 1);
	}
	for (uint32_t i = 0; i < driver->device.length; i++)
		*bytes++ = (uint8_t)driver_config(driver, i, 1);
}

/* How far a driver gets before it resets the device. */
enum reset_stage {
	RESET_AT_ONCE,
	RESET_ACKNOWLEDGED,
	RESET_FEATURES,
	RESET_FEATURES_OK,
	RESET_QUEUES,
	RESET_DRIVER_OK,
	RESET_USED,
	RESET_STAGES,
};

static void driver_go(struct kind_case *test, enum reset_stage stage)
{
	struct virtio_driver *driver = test->driver;

	if (stage >= RESET_ACKNOWLEDGED)
		driver_set_status(driver, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	if (stage == RESET_FEATURES)
		driver->interface->set_features(driver, driver->offered);
	if (stage >= RESET_FEATURES_OK)
		assert_true(driver_negotiate(driver, driver->offered));
	if (stage >= RESET_QUEUES)
		for (uint16_t i = 0; i < driver->queue_count; i++) {
			driver->interface->queue_vector(driver, i, (uint16_t)(i + 1));
			driver_queue_setup(driver, i, 0);
		}
	if (stage >= RESET_DRIVER_OK) {
		driver->interface->config_vector(driver, 0);
		driver_set_status(driver, VIRTIO_CONFIG_S_DRIVER_OK);
	}
	if (stage >= RESET_USED)
		kind_request(test->kind, driver);
}

static void test_reset_stages(void **state)
{
	struct kind_case *test = kind_case_open(state, NULL, NULL);
	struct virtio_driver *driver = test->driver;
	static const size_t room = (DRIVER_QUEUES_MAX + 1) * COMMON_REGISTERS + 0x1000;
	uint8_t *fresh = test_calloc(2, room), *now = fresh + room;

	pci_msix_setup(&driver->pci);
	driver_set_status(driver, 0);
	registers_snapshot(driver, fresh);
	for (int stage = RESET_AT_ONCE; stage < 2 * RESET_STAGES; stage++) {
		driver_go(test, stage % RESET_STAGES);
		driver_set_status(driver, 0);
		if (stage & 1)
			driver_set_status(driver, 0); /* twice is as good */
		registers_snapshot(driver, now);
		assert_memory_equal(now, fresh, room);
		driver_common_out(driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	}
	driver_restart(driver);
	kind_request(test->kind, driver);
	assert_int_equal(test->machine->captured.count, 0);
	test_free(fresh);
}

/* ---- Reset of one queue (2.6.1) ---- */

static void queue_reset(struct virtio_driver *driver, uint16_t queue)
{
	driver_common_out(driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
	driver_common_out(driver, COMMON_QUEUE_RESET, 2, 1);
	assert_int_equal(driver_common_in(driver, COMMON_QUEUE_RESET, 2), 0);
}

static void test_queue_reset(void **state)
{
	struct kind_case *test = kind_case_run(state);
	struct virtio_driver *driver = test->driver;
	uint16_t queue = test->kind->queue, max = test->queue->ring.size, size;

	for (size = max; size >= 4; size /= 2) {
		for (unsigned int i = 0; i < 10; i++)
			kind_request(test->kind, driver);
		queue_reset(driver, queue);
		assert_int_equal(driver_common_in(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
		assert_int_equal(driver_common_in(driver, VIRTIO_PCI_COMMON_Q_SIZE, 2), max);
		/* The others go on. */
		for (uint16_t i = 0; i < driver->queue_count; i++) {
			driver_common_out(driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, i);
			assert_int_equal(driver_common_in(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2),
					 i != queue);
		}
		driver->interface->notify(driver,
					  test->queue); /* to a queue that is not there now */
		machine_poll(test->machine);
		driver_queue_setup(driver, queue, size);
		kind_request(test->kind, driver);
	}
	assert_false(driver_status(driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_int_equal(test->machine->captured.count, 0);
}

/* What was in the queue is forgotten. */
static void test_queue_reset_in_flight(void **state)
{
	struct kind_case *test = kind_case_run(state);
	struct virtio_driver *driver = test->driver;

	for (unsigned int round = 0; round < 3; round++) {
		struct kind_buffer buffer = kind_buffer(test->kind, driver);
		bool used;

		assert_int_equal(driver_add_buf(test->queue, buffer.segments, buffer.out_count,
						buffer.in_count, test),
				 0);
		driver_kick(test->queue);
		queue_reset(driver, test->kind->queue);
		used = driver_pending(test->queue);
		machine_poll(test->machine);
		assert_int_equal(driver_pending(test->queue), used);
		if (!used)
			assert_true(kind_buffer_untouched(&buffer, test->machine));
		driver_queue_setup(driver, test->kind->queue, 0);
		kind_request(test->kind, driver);
	}
}

/* Only 1 resets, only a queue that is there, and only if the feature was negotiated. */
static void test_queue_reset_refused(void **state)
{
	struct kind_case *test = kind_case_open(state, NULL, NULL);
	struct virtio_driver *driver = test->driver;

	assert_true(driver_negotiate(driver, driver->offered & ~BIT64(VIRTIO_F_RING_RESET)));
	driver_start(driver);
	queue_reset(driver, test->kind->queue);
	assert_int_equal(driver_common_in(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	kind_request(test->kind, driver);

	driver_set_status(driver, 0);
	driver_set_status(driver, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	assert_true(driver_negotiate(driver, driver->offered));
	driver_start(driver);
	driver_common_out(driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, test->kind->queue);
	driver_common_out(driver, COMMON_QUEUE_RESET, 2, 0);
	driver_common_out(driver, COMMON_QUEUE_RESET, 2, 2);
	assert_int_equal(driver_common_in(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	queue_reset(driver, (uint16_t)driver->queue_count);
	queue_reset(driver, 0xffff);
	kind_request(test->kind, driver);
}

/* A queue may be added to a running device that does not have it yet. */
static void test_queue_late(void **state)
{
	struct kind_case *test = kind_case_open(state, NULL, NULL);
	struct virtio_driver *driver = test->driver;

	assert_true(driver_negotiate(driver, driver->offered));
	pci_msix_setup(&driver->pci);
	driver->interface->queue_vector(driver, test->kind->queue,
					(uint16_t)(test->kind->queue + 1));
	for (uint16_t i = 0; i < driver->queue_count; i++)
		if (i != test->kind->queue)
			driver_queue_setup(driver, i, 0);
	driver_set_status(driver, VIRTIO_CONFIG_S_DRIVER_OK);
	machine_poll(test->machine);
	driver_queue_setup(driver, test->kind->queue, 0);
	kind_request(test->kind, driver);
}

/* The legacy way to let go of a queue: page number 0 (4.1.5.1.4.1 of legacy). */
static void test_legacy_queue_release(void **state)
{
	struct kind_case *test = *state;
	struct virtio_driver *driver;

	if (!test->params.legacy)
		return;
	test = kind_case_run(state);
	driver = test->driver;
	for (unsigned int round = 0; round < 3; round++) {
		kind_request(test->kind, driver);
		driver->interface->queue_size(driver, test->kind->queue);
		assert_int_equal(pci_bar_in(&driver->pci, 0, VIRTIO_PCI_QUEUE_PFN, 4),
				 test->queue->ring.desc_gpa >> 12);
		pci_bar_out(&driver->pci, 0, VIRTIO_PCI_QUEUE_PFN, 4, 0);
		assert_int_equal(pci_bar_in(&driver->pci, 0, VIRTIO_PCI_QUEUE_PFN, 4), 0);
		driver->interface->notify(driver, test->queue);
		machine_poll(test->machine);
		driver_queue_setup(driver, test->kind->queue, 0);
	}
	kind_request(test->kind, driver);
}

/* ---- Configuration generation (2.5.1) ---- */

/* The same as long as nothing changes, whatever the driver does. */
static void test_generation_stable(void **state)
{
	struct kind_case *test = kind_case_run(state);
	struct virtio_driver *driver = test->driver;
	uint64_t old = driver_common_in(driver, VIRTIO_PCI_COMMON_CFGGENERATION, 1);

	for (unsigned int i = 0; i < 5; i++) {
		kind_request(test->kind, driver);
		driver_config(driver, 0, 4);
		assert_int_equal(driver_common_in(driver, VIRTIO_PCI_COMMON_CFGGENERATION, 1), old);
	}
	assert_false(driver_config_interrupt(driver));
}

#define PCI_TEST(function, axes) kind_tests_add(&tests, #function, function, axes)

int main(void)
{
	struct kind_tests tests = { .count = 0 };

	PCI_TEST(test_vectors, KIND_AXIS_INTERFACE);
	PCI_TEST(test_vectors_bytewise, KIND_AXIS_INTERFACE);
	PCI_TEST(test_vectors_none_and_shared, KIND_AXIS_INTERFACE);
	PCI_TEST(test_vector_masked, KIND_AXIS_INTERFACE);
	PCI_TEST(test_isr, KIND_AXIS_INTERFACE);
	PCI_TEST(test_isr_with_msix, KIND_AXIS_INTERFACE);
	PCI_TEST(test_legacy_config_offset, KIND_AXIS_INTERFACE);
	PCI_TEST(test_window, KIND_AXIS_NONE);
	PCI_TEST(test_window_request, KIND_AXIS_NONE);
	PCI_TEST(test_window_wrong, KIND_AXIS_NONE);
	PCI_TEST(test_reset_stages, KIND_AXIS_NONE);
	PCI_TEST(test_queue_reset, KIND_AXIS_NONE);
	PCI_TEST(test_queue_reset_in_flight, KIND_AXIS_NONE);
	PCI_TEST(test_queue_reset_refused, KIND_AXIS_NONE);
	PCI_TEST(test_queue_late, KIND_AXIS_NONE);
	PCI_TEST(test_legacy_queue_release, KIND_AXIS_INTERFACE);
	PCI_TEST(test_generation_stable, KIND_AXIS_NONE);
	return kind_tests_run(&tests, "virtio over PCI");
}
