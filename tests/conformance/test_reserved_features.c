/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reserved features that change how driver and device speak (virtio 1.4, 6): IN_ORDER,
 * ACCESS_PLATFORM, NOTIFICATION_DATA, for every kind of device.
 */
#include "raw_ring.h"
#include "conformance.h"

#define BUS (UINT64_C(1) << 40) /* bus addresses are guest addresses and this */

/* ---- IN_ORDER (6.2) ---- */

static void test_in_order(void **state)
{
	struct kind_case *test = clause_run(state, "in_order=on", BIT64(VIRTIO_F_IN_ORDER));
	unsigned int tokens[1024];

	for (unsigned int round = 0; round < 4; round++) {
		unsigned int count = 0;
		struct kind_buffer buffer;
		uint32_t len;

		while (clause_add(test, &buffer, &tokens[count]))
			count++;
		driver_kick(test->queue);
		for (unsigned int i = 0; i < count; i++) {
			assert_ptr_equal(driver_wait_buf(test->queue, &len, DRIVER_TIMEOUT_MS),
					 &tokens[i]);
			assert_int_equal(len, test->kind->used);
		}
	}
}

/* ---- ACCESS_PLATFORM (6.2) ---- */

static uint64_t from_bus(struct virtio_common *vc, uint64_t addr, uint64_t len, bool write)
{
	return range_contains(BUS, BUS, addr, len) ? addr - BUS : UINT64_MAX;
}

static uint64_t refuse(struct virtio_common *vc, uint64_t addr, uint64_t len, bool write)
{
	return UINT64_MAX;
}

/* What is to be written only: rings of the device's part, and buffers. */
static uint64_t refuse_writes(struct virtio_common *vc, uint64_t addr, uint64_t len, bool write)
{
	return write ? UINT64_MAX : from_bus(vc, addr, len, write);
}

/* The driver's addresses are the bus's while the device is told of them. */
static void bus_queue_setup(struct virtio_driver *driver, struct driver_queue *queue)
{
	struct ring *ring = &queue->ring;

	ring->desc_gpa += BUS;
	ring->driver_gpa += BUS;
	ring->device_gpa += BUS;
	driver_modern.queue_setup(driver, queue);
	ring->desc_gpa -= BUS;
	ring->driver_gpa -= BUS;
	ring->device_gpa -= BUS;
}

static struct kind_case *bus_run(void **state, struct driver_interface *interface)
{
	struct kind_case *test = *state;

	test->params.extra = BIT64(VIRTIO_F_ACCESS_PLATFORM) | BIT64(VIRTIO_F_ORDER_PLATFORM);
	kind_case_open(state, NULL, "access_platform=on");
	*interface = driver_modern;
	interface->queue_setup = bus_queue_setup;
	test->driver->interface = interface;
	clause_device(test)->translate = from_bus;
	assert_true(driver_negotiate(test->driver, test->driver->offered));
	assert_int_equal(test->driver->accepted & test->params.extra,
			 (long long)test->params.extra);
	driver_start(test->driver);
	return test;
}

/* The simple request, every address of it one of the bus. */
static struct kind_buffer bus_add(struct kind_case *test)
{
	struct kind_buffer buffer = kind_buffer(test->kind, test->driver);
	struct ring *ring = &test->queue->ring;
	uint16_t at = ring->avail_idx, head;

	for (unsigned int i = 0; i < buffer.out_count + buffer.in_count; i++)
		buffer.segments[i].gpa += BUS;
	assert_int_equal(driver_add_buf(test->queue, buffer.segments, buffer.out_count,
					buffer.in_count, test),
			 0);
	if (!test->params.indirect)
		return buffer;
	if (raw_is_packed(ring)) {
		ring->packed[at].addr += BUS;
	} else {
		head = ring->avail->ring[at % ring->size];
		ring->desc[head].addr += BUS;
	}
	return buffer;
}

/* The kernel's vhost is told guest addresses only: where they are others, it is not given the rings. */
static bool kept_from_kernel(struct kind_case *test)
{
	if (!test->kind->offloaded)
		return false;
	assert_true(clause_broken(test->driver));
	assert_logged(test->machine, "the driver's addresses have to be translated");
	return true;
}

static void test_translated(void **state)
{
	struct driver_interface interface;
	struct kind_case *test = bus_run(state, &interface);

	if (kept_from_kernel(test))
		return;
	for (unsigned int i = 0; i < 3U * test->queue->ring.size; i++) {
		struct kind_buffer buffer = bus_add(test);
		uint32_t len;

		driver_kick(test->queue);
		assert_ptr_equal(driver_wait_buf(test->queue, &len, DRIVER_TIMEOUT_MS), test);
		assert_int_equal(len, test->kind->used);
		assert_true(!buffer.in || !kind_buffer_untouched(&buffer, test->machine));
	}
	assert_false(clause_broken(test->driver));
}

/* What the platform does not grant is not touched; guest addresses are none of the bus. */
static void test_not_granted(void **state)
{
	uint64_t (*const hooks[])(struct virtio_common *, uint64_t, uint64_t,
				  bool) = { refuse, refuse_writes, from_bus };
	struct driver_interface interface;
	struct kind_case *test = bus_run(state, &interface);

	if (kept_from_kernel(test))
		return;
	for (unsigned int i = 0; i < ARRAY_SIZE(hooks); i++) {
		struct kind_buffer buffer;

		if (hooks[i] == refuse_writes && !test->kind->in)
			continue;
		if (hooks[i] == from_bus)
			assert_true(clause_add(test, &buffer, test)); /* no bus addresses */
		else
			buffer = bus_add(test);
		clause_device(test)->translate = hooks[i];
		driver_kick(test->queue);
		machine_poll(test->machine);
		assert_true(clause_broken(test->driver));
		assert_true(kind_buffer_untouched(&buffer, test->machine));
		assert_false(driver_pending(test->queue));
		clause_device(test)->translate = from_bus;
		driver_restart(test->driver);
		bus_add(test);
		driver_kick(test->queue);
		assert_ptr_equal(driver_wait_buf(test->queue, NULL, DRIVER_TIMEOUT_MS), test);
	}
	/* A ring that is not granted cannot be enabled. */
	clause_device(test)->translate = refuse;
	driver_set_status(test->driver, 0);
	assert_true(driver_negotiate(test->driver, test->driver->offered));
	driver_queue_setup(test->driver, test->kind->queue, 0);
	assert_true(clause_broken(test->driver));
}

/* Without the feature addresses are guest physical, whatever the platform could do. */
static void test_not_translated(void **state)
{
	struct kind_case *test = kind_case_open(state, NULL, "access_platform=on");

	clause_device(test)->translate = refuse;
	assert_true(driver_negotiate(test->driver, test->driver->offered));
	driver_start(test->driver);
	kind_request(test->kind, test->driver);
}

/* ---- NOTIFICATION_DATA (2.9, 4.1.5.2) ---- */

/* 32 bits: the queue, and where the driver will put the next buffer. */
static void notify_with_data(struct virtio_driver *driver, struct driver_queue *queue)
{
	const struct ring *ring = &queue->ring;
	uint32_t next = ring->avail_idx;

	if (raw_is_packed(ring))
		next |= ring->avail_wrap ? 0x8000 : 0;
	pci_bar_out(&driver->pci, driver->notify.bar, driver->notify.offset + queue->notify_offset,
		    4, next << 16 | queue->index);
}

static void test_notification_data(void **state)
{
	struct kind_case *test = clause_run(state, NULL, BIT64(VIRTIO_F_NOTIFICATION_DATA));
	struct driver_interface interface = driver_modern;

	interface.notify = notify_with_data;
	test->driver->interface = &interface;
	assert_true(test->queue->notify_offset + 4 <= test->driver->notify.length);
	for (unsigned int i = 0; i < 3U * test->queue->ring.size; i++) {
		kind_request(test->kind, test->driver);
		if (i % 3 == 0) /* the same again: there may be repeats */
			notify_with_data(test->driver, test->queue);
	}
	assert_int_equal(test->machine->captured.count, 0);
}

/* ---- What is not there ---- */

#define EXTENDED_CAPABILITIES 0x100

/* SR_IOV is not offered, and there is no SR-IOV capability. */
static void test_no_sr_iov(void **state)
{
	struct kind_case *test = kind_case_open(state, NULL, NULL);
	unsigned int at = EXTENDED_CAPABILITIES;

	assert_false(test->driver->offered & BIT64(VIRTIO_F_SR_IOV));
	for (unsigned int count = 0; at; count++) {
		uint32_t header = pci_config_in(test->machine, PCI_ECAM, 0, KIND_SLOT, 0, at, 4);

		assert_true(count < 64);
		assert_int_not_equal(header & 0xffff, PCI_EXT_CAP_ID_SRIOV);
		at = header >> 20;
	}
}

int main(void)
{
	static const struct clause_test tests[] = {
		{ "in order", test_in_order, KIND_AXIS_ALL, for_modern },
		{ "bus addresses", test_translated, KIND_AXIS_ALL, for_modern },
		{ "bus addresses not granted", test_not_granted, KIND_AXIS_ALL, for_modern },
		{ "no bus addresses without ACCESS_PLATFORM", test_not_translated,
		  KIND_AXIS_INTERFACE, NULL },
		{ "notification data", test_notification_data, KIND_AXIS_ALL, for_modern },
		{ "no SR-IOV", test_no_sr_iov, KIND_AXIS_INTERFACE, NULL },
	};

	return clause_tests_run(tests, ARRAY_SIZE(tests), "reserved features", NULL);
}
