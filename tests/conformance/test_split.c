/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Split virtqueues and what holds for buffers in any format (virtio 1.4, 2.7), for every kind of
 * device. Rings are looked at, and written, as they lie in memory.
 */
#include "raw_ring.h"
#include "conformance.h"

#define FRAMING_PIECES 6

static void complete_one(struct kind_case *test)
{
	struct kind_buffer buffer;

	assert_true(clause_add(test, &buffer, test));
	driver_kick(test->queue);
	machine_poll(test->machine);
	assert_ptr_equal(driver_wait_buf(test->queue, NULL, DRIVER_TIMEOUT_MS), test);
}

/* ---- Framing (2.7.4) ---- */

static void test_any_framing(void **state)
{
	struct kind_case *test = kind_case_run(state);
	uint8_t out[KIND_REQUEST_MAX], in[KIND_REQUEST_MAX];

	for (unsigned int i = 0; i < 2 * driver_layout_count; i++) {
		uint32_t len = test->kind->fill(test->driver, out);

		assert_int_equal(driver_request(test->queue,
						&driver_layouts[i % driver_layout_count], out, len,
						in, test->kind->in),
				 test->kind->used);
	}
	assert_false(clause_broken(test->driver));
}

/* The simple request in pieces, as descriptors that say nothing of each other yet. */
static unsigned int cut_request(struct kind_case *test, struct kind_buffer *buffer,
				struct raw_desc *descs)
{
	struct segment segments[2 * FRAMING_PIECES];
	unsigned int out, in;
	uint32_t cut;

	*buffer = kind_buffer(test->kind, test->driver);
	cut = MAX(buffer->out / 2, 1);
	out = segments_cut(segments, FRAMING_PIECES, buffer->gpa, buffer->out, &cut, 1);
	cut = MAX(buffer->in / 2, 1);
	in = segments_cut(segments + out, FRAMING_PIECES, buffer->gpa + buffer->out, buffer->in,
			  &cut, 1);
	for (unsigned int i = 0; i < out + in; i++)
		descs[i] =
			(struct raw_desc) { segments[i].gpa, segments[i].len,
					    i >= out ? VRING_DESC_F_WRITE : 0, (uint16_t)(i + 1) };
	return out + in;
}

/* @direct descriptors in the ring, then one that refers to a table with all others. */
static void chain_add(struct ring *ring, const struct raw_desc *descs, unsigned int count,
		      unsigned int direct, uint16_t flags)
{
	struct raw_desc chain[2 * FRAMING_PIECES + 1], table[2 * FRAMING_PIECES];

	for (unsigned int i = 0; i < direct; i++) {
		chain[i] = descs[i];
		chain[i].flags |= VRING_DESC_F_NEXT;
	}
	for (unsigned int i = direct; i < count; i++) {
		table[i - direct] = descs[i];
		table[i - direct].next = (uint16_t)(i - direct + 1);
		if (i + 1 < count)
			table[i - direct].flags |= VRING_DESC_F_NEXT;
	}
	chain[direct] =
		(struct raw_desc) { raw_table(ring, table, count - direct), 16 * (count - direct),
				    VRING_DESC_F_INDIRECT | flags, 0 };
	raw_add(ring, chain, direct + 1);
}

static bool used_came(void *arg)
{
	struct ring *ring = arg;

	return ring->ops->pending(ring);
}

/* The next used entry is the chain at descriptor 0. */
static void expect_used_zero(struct kind_case *test)
{
	struct ring *ring = &test->queue->ring;
	const struct vring_used_elem *elem = &ring->used->ring[ring->used_seen % ring->size];

	assert_true(machine_wait(test->machine, used_came, ring, DRIVER_TIMEOUT_MS));
	assert_int_equal(elem->id, 0);
	assert_int_equal(elem->len, test->kind->used);
	ring->used_seen++;
	if (ring->event_idx)
		*ring_used_event(ring) = ring->used_seen;
}

/* None to all of the descriptors in the ring, the others in a table; WRITE there means nothing. */
static void test_chain_ends_in_table(void **state)
{
	struct kind_case *test = kind_case_run(state);
	struct raw_desc descs[2 * FRAMING_PIECES];
	struct kind_buffer buffer;
	unsigned int count = cut_request(test, &buffer, descs);

	for (unsigned int i = 0; i < 2 * count; i++) {
		cut_request(test, &buffer, descs);
		chain_add(&test->queue->ring, descs, count, i / 2, i % 2 ? VRING_DESC_F_WRITE : 0);
		driver_kick(test->queue);
		expect_used_zero(test);
		assert_true(!buffer.in || !kind_buffer_untouched(&buffer, test->machine));
	}
	assert_int_equal(test->machine->captured.count, 0);
}

/* ---- Who writes what (2.7.5) ---- */

/* Descriptors, the driver's ring, the readable part: as the driver wrote them. */
static void test_device_writes_its_part_only(void **state)
{
	struct kind_case *test = kind_case_run(state);
	struct ring *ring = &test->queue->ring;
	const size_t desc_len = 16U * ring->size, avail_len = 6 + 2U * ring->size;
	uint8_t desc[16 * 1024], avail[6 + 2 * 1024];

	driver_disable_cb(test->queue);
	for (unsigned int i = 0; i < ring->size + 3U; i++) {
		uint8_t out[KIND_REQUEST_MAX];
		struct kind_buffer buffer;
		uint32_t len = test->kind->fill(test->driver, out);

		assert_true(clause_add(test, &buffer, test));
		memcpy(desc, ring->desc, desc_len);
		memcpy(avail, ring->avail, avail_len);
		driver_kick(test->queue);
		machine_wait(test->machine, used_came, ring, DRIVER_TIMEOUT_MS);
		assert_memory_equal(ring->desc, desc, desc_len);
		assert_memory_equal(ring->avail, avail, avail_len);
		assert_memory_equal(guest_ptr(test->machine, buffer.gpa, len), out, len);
		assert_ptr_equal(driver_get_buf(test->queue, NULL), test);
	}
}

/*
 * All bytes that the used length counts are written: one that stays what it was, whatever that was,
 * was not. (A random one stays by chance, but not five times.)
 */
static void test_used_len_is_written(void **state)
{
	static const uint8_t fills[] = { 0x00, 0xff, 0x5a, 0xa5, 0x11 };
	struct kind_case *test = kind_case_run(state);
	bool written[KIND_REQUEST_MAX] = { false };
	uint32_t len = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(fills); i++) {
		struct kind_buffer buffer;
		uint8_t *in;

		assert_true(clause_add(test, &buffer, test));
		in = guest_ptr(test->machine, buffer.gpa + buffer.out, buffer.in + 1);
		memset(in, fills[i], buffer.in + 1);
		driver_kick(test->queue);
		assert_ptr_equal(driver_wait_buf(test->queue, &len, DRIVER_TIMEOUT_MS), test);
		assert_true(len <= buffer.in);
		for (uint32_t at = 0; at < len; at++)
			written[at] |= in[at] != fills[i];
		assert_int_equal(in[buffer.in], fills[i]); /* nor anything behind it */
	}
	for (uint32_t at = 0; at < len; at++)
		if (!written[at])
			fail_msg("byte %u of %u was not written", at, len);
}

/* ---- The used ring (2.7.8) ---- */

/*
 * With the device in a thread of its own: where the used index has gone past, entries are whole. All
 * entries are spoilt before, so that one that is late shows.
 */
static void test_entry_before_index(void **state)
{
	struct machine_config config = { .ioeventfd = true, .io_thread = true };
	struct kind_case *test = kind_case_open(state, &config, NULL);
	struct virtio_driver *driver = test->driver;
	struct ring *ring = &test->queue->ring;

	assert_true(driver_negotiate(driver, driver->offered));
	driver_start(driver);
	for (unsigned int i = 0; i < 500; i++) {
		struct kind_buffer buffer;
		const volatile struct vring_used_elem *elem =
			&ring->used->ring[ring->used_seen % ring->size];
		uint64_t deadline = vm_clock_ns(test->machine->ctx) + 5000000000;

		memset((void *)(uintptr_t)elem, 0xee, sizeof(*elem));
		assert_true(clause_add(test, &buffer, test));
		driver_kick(test->queue);
		while (!driver_pending(test->queue))
			assert_true(vm_clock_ns(test->machine->ctx) < deadline);
		assert_true(elem->id < ring->size);
		assert_int_equal(elem->len, test->kind->used);
		assert_ptr_equal(driver_get_buf(test->queue, NULL), test);
	}
}

/* ---- Notifications to the driver (2.7.7) ---- */

/* Without EVENT_IDX: flags decide, used_event is only memory. */
static void test_flags_decide(void **state)
{
	struct kind_case *test = kind_case_run(state);
	struct ring *ring = &test->queue->ring;

	for (unsigned int i = 0; i < 40; i++) {
		uint16_t flags = i % 3 == 0;

		*ring_used_event(ring) = (uint16_t)(ring->used_seen + i - 20);
		ring->avail->flags = flags;
		complete_one(test);
		assert_int_equal(driver_queue_interrupt(test->queue), !flags);
	}
}

/* With EVENT_IDX: used_event decides, the flag is only memory. */
static void test_event_decides(void **state)
{
	struct kind_case *test = kind_case_run(state);
	struct ring *ring = &test->queue->ring;

	ring->callbacks_off = true; /* the event is ours */
	for (unsigned int i = 0; i < 40; i++) {
		bool wanted = i % 3 == 0;

		*ring_used_event(ring) = (uint16_t)(ring->used_seen + (wanted ? 0 : 1 + i));
		ring->avail->flags = i & 1;
		complete_one(test);
		assert_int_equal(driver_queue_interrupt(test->queue), wanted);
	}
}

/* ---- Notifications to the device (2.7.10) ---- */

/* used.flags is 0 or 1, and 0 with EVENT_IDX, whatever it does. */
static void test_used_flags(void **state)
{
	struct kind_case *test = kind_case_run(state);
	struct ring *ring = &test->queue->ring;
	uint16_t max = ring->event_idx ? 0 : 1;
	bool seen_off = false;

	for (unsigned int i = 0; i < 6; i++) {
		struct kind_buffer buffer;

		assert_true(ring->used->flags <= max);
		while (clause_add(test, &buffer, test))
			assert_true(ring->used->flags <= max);
		test->driver->interface->notify(test->driver, test->queue);
		assert_true(ring->used->flags <= max);
		seen_off |= ring->used->flags;
		while (driver_wait_buf(test->queue, NULL, 0))
			assert_true(ring->used->flags <= max);
		machine_poll(test->machine);
		while (driver_get_buf(test->queue, NULL))
			;
		assert_int_equal(ring->used->flags, 0); /* idle: it wants to be told */
	}
	assert_true(!seen_off || !ring->event_idx);
}

/* ---- Where rings may be (2.7) ---- */

static bool broken_with(struct kind_case *test, uint64_t desc, uint64_t avail, uint64_t used)
{
	struct virtio_driver *driver = test->driver;
	struct ring *ring = &test->queue->ring;
	bool broken;

	driver_set_status(driver, 0);
	assert_true(driver_negotiate(driver, driver->offered));
	ring->size = driver->interface->queue_size(driver, test->kind->queue);
	ring->desc_gpa = desc;
	ring->driver_gpa = avail;
	ring->device_gpa = used;
	driver_queue_setup(driver, test->kind->queue, 0);
	broken = clause_broken(driver);
	if (!broken) {
		for (uint16_t i = 0; i < driver->queue_count; i++)
			if (i != test->kind->queue)
				driver_queue_setup(driver, i, 0);
		driver_set_status(driver, VIRTIO_CONFIG_S_DRIVER_OK);
		kind_request(test->kind, driver);
	}
	driver_set_status(driver, 0);
	ring->desc_gpa = 0;
	return broken;
}

/* The least alignment is enough, and less is refused. */
static void test_ring_placement(void **state)
{
	struct kind_case *test = kind_case_open(state, NULL, NULL);
	uint64_t base = guest_alloc(test->machine, KIB(256), 4096);
	uint64_t desc = base + 16, avail = base + KIB(64) + 2, used = base + KIB(128) + 4;

	test->params.msix = test->driver->params.msix = false;
	assert_false(broken_with(test, desc, avail, used));
	assert_true(broken_with(test, desc + 8, avail, used));
	assert_true(broken_with(test, desc, avail + 1, used));
	assert_true(broken_with(test, desc, avail, used + 2));
	assert_false(broken_with(test, desc, avail, used));
}

static bool for_split_indirect(const struct driver_params *params)
{
	return !params->packed && params->indirect;
}

static bool for_split_flags(const struct driver_params *params)
{
	return !params->packed && !params->event_idx;
}

static bool for_split_events(const struct driver_params *params)
{
	return !params->packed && params->event_idx;
}

static bool for_modern_split(const struct driver_params *params)
{
	return !params->packed && !params->legacy;
}

int main(void)
{
	static const struct clause_test tests[] = {
		{ "any framing", test_any_framing, KIND_AXIS_ALL, NULL },
		{ "chain ends in a table", test_chain_ends_in_table, KIND_AXIS_ALL,
		  for_split_indirect },
		{ "device writes its part only", test_device_writes_its_part_only, KIND_AXIS_ALL,
		  for_split },
		{ "used length is written", test_used_len_is_written, KIND_AXIS_ALL, NULL },
		{ "used entry before used index", test_entry_before_index, KIND_AXIS_SPLIT, NULL },
		{ "flags decide without EVENT_IDX", test_flags_decide, KIND_AXIS_ALL,
		  for_split_flags },
		{ "used_event decides with EVENT_IDX", test_event_decides, KIND_AXIS_ALL,
		  for_split_events },
		{ "used flags", test_used_flags, KIND_AXIS_ALL, for_split },
		{ "ring placement", test_ring_placement, KIND_AXIS_ALL, for_modern_split },
	};

	return clause_tests_run(tests, ARRAY_SIZE(tests), "split virtqueues", NULL);
}
