/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packed virtqueues (virtio 1.4, 2.8), for every kind of device. Rings are looked at, and written,
 * as they lie in memory. What needs a device that does as told is in test_vq_api.c.
 */
#include "raw_ring.h"
#include "conformance.h"

#define AVAIL BIT32(VRING_PACKED_DESC_F_AVAIL)
#define USED BIT32(VRING_PACKED_DESC_F_USED)
#define PIECES 3

static bool used_came(void *arg)
{
	struct ring *ring = arg;

	return ring->ops->pending(ring);
}

static void wait_used(struct kind_case *test)
{
	assert_true(machine_wait(test->machine, used_came, &test->queue->ring, DRIVER_TIMEOUT_MS));
}

/* Any number of entries, a power of two or not; lists go over the end of the ring (2.8.1, 2.8.6). */
static void test_sizes(void **state)
{
	static const uint16_t sizes[] = { 2, 3, 5, 7, 8 };
	struct kind_case *test = kind_case_run(state);

	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		driver_common_out(test->driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, test->kind->queue);
		driver_common_out(test->driver, COMMON_QUEUE_RESET, 2, 1);
		driver_queue_setup(test->driver, test->kind->queue, sizes[i]);
		for (unsigned int j = 0; j < 5U * sizes[i]; j++)
			kind_request(test->kind, test->driver);
	}
	assert_false(clause_broken(test->driver));
}

/* The least alignment is enough, less is refused. */
static void test_placement(void **state)
{
	struct kind_case *test = kind_case_run(state);
	struct virtio_driver *driver = test->driver;
	struct ring *ring = &test->queue->ring;
	uint64_t base = guest_alloc(test->machine, KIB(128), 4096);
	const uint64_t places[][3] = { { 16, KIB(64) + 4, KIB(96) + 4 },
				       { 8, KIB(64), KIB(96) },
				       { 0, KIB(64) + 2, KIB(96) },
				       { 0, KIB(64), KIB(96) + 2 } };

	for (unsigned int i = 0; i < ARRAY_SIZE(places); i++) {
		driver_set_status(driver, 0);
		assert_true(driver_negotiate(driver, driver->offered));
		ring->desc_gpa = base + places[i][0];
		ring->driver_gpa = base + places[i][1];
		ring->device_gpa = base + places[i][2];
		driver_queue_setup(driver, test->kind->queue, 0);
		assert_int_equal(clause_broken(driver), i > 0);
		if (!i) {
			clause_vectors(driver);
			driver_set_status(driver, VIRTIO_CONFIG_S_DRIVER_OK);
			kind_request(test->kind, driver);
		}
	}
}

/* Only what changed its AVAIL bit against its USED bit, and against the lap, is available. */
static void test_not_available(void **state)
{
	struct kind_case *test = kind_case_run(state);
	struct ring *ring = &test->queue->ring;

	for (unsigned int i = 0; i < 3U * ring->size; i++) {
		const uint16_t wrong[] = { 0, AVAIL | USED, ring->avail_wrap ? USED : AVAIL };
		struct vring_packed_desc *next = &ring->packed[ring->avail_idx], saved = *next;
		struct kind_buffer buffer = kind_buffer(test->kind, test->driver);

		next->addr = buffer.segments[0].gpa;
		next->len = buffer.segments[0].len;
		for (unsigned int j = 0; j < ARRAY_SIZE(wrong); j++) {
			next->flags = (uint16_t)(wrong[j] | (buffer.out ? 0 : VRING_DESC_F_WRITE));
			test->driver->interface->notify(test->driver, test->queue);
			machine_poll(test->machine);
			assert_true(next->addr == buffer.segments[0].gpa);
			assert_int_equal(next->flags & (AVAIL | USED), wrong[j]);
			assert_true(kind_buffer_untouched(&buffer, test->machine));
		}
		*next = saved;
		kind_request(test->kind, test->driver);
	}
	assert_false(clause_broken(test->driver));
}

/* The request as descriptors, chained or not. */
static unsigned int cut_request(struct kind_case *test, struct raw_desc *descs, bool chained)
{
	struct kind_buffer buffer = kind_buffer(test->kind, test->driver);
	struct segment segments[2 * PIECES];
	uint32_t cut = MAX(buffer.out / 2, 1);
	unsigned int out, in;

	out = segments_cut(segments, PIECES, buffer.gpa, buffer.out, &cut, 1);
	cut = MAX(buffer.in / 2, 1);
	in = segments_cut(segments + out, PIECES, buffer.gpa + buffer.out, buffer.in, &cut, 1);
	for (unsigned int i = 0; i < out + in; i++) {
		descs[i] = (struct raw_desc) { segments[i].gpa, segments[i].len,
					       i >= out ? VRING_DESC_F_WRITE : 0, 0 };
		if (chained && i + 1 < out + in)
			descs[i].flags |= VRING_DESC_F_NEXT;
	}
	return out + in;
}

/* Entry @at is the used one of a list of @count: @id, all flags right; take it. */
static void expect_used(struct kind_case *test, uint16_t id, unsigned int count)
{
	struct ring *ring = &test->queue->ring;
	struct vring_packed_desc *used = &ring->packed[ring->used_seen];

	wait_used(test);
	assert_int_equal(used->id, id);
	assert_int_equal(!!(used->flags & VRING_DESC_F_WRITE), test->kind->used != 0);
	assert_int_equal(used->flags & (VRING_DESC_F_NEXT | VRING_DESC_F_INDIRECT), 0);
	if (test->kind->used)
		assert_int_equal(used->len, test->kind->used);
	ring->used_seen = (uint16_t)(ring->used_seen + count);
	if (ring->used_seen >= ring->size) {
		ring->used_seen = (uint16_t)(ring->used_seen - ring->size);
		ring->used_wrap = !ring->used_wrap;
	}
}

/* The id of a buffer is that of the last descriptor of its list; those before may say anything. */
static void test_id_of_last(void **state)
{
	struct kind_case *test = kind_case_run(state);
	struct ring *ring = &test->queue->ring;

	for (unsigned int i = 0; i < 3U * ring->size; i++) {
		struct raw_desc descs[2 * PIECES];
		unsigned int count = cut_request(test, descs, true);
		uint16_t first = ring->avail_idx, last;

		last = (uint16_t)((first + count - 1) % ring->size);
		for (unsigned int j = 0; j + 1 < count; j++)
			ring->packed[(first + j) % ring->size].id = 0xdead;
		raw_add(ring, descs, count);
		for (unsigned int j = 0; j + 1 < count; j++)
			ring->packed[(first + j) % ring->size].id = 0xdead;
		ring->packed[last].id = (uint16_t)(i + 1);
		test->driver->interface->notify(test->driver, test->queue);
		expect_used(test, (uint16_t)(i + 1), count);
	}
	assert_int_equal(test->machine->captured.count, 0);
}

/* A table: only WRITE counts in it; WRITE on the descriptor that refers to it does not (2.8.7). */
static void test_indirect(void **state)
{
	struct kind_case *test = kind_case_run(state);
	struct ring *ring = &test->queue->ring;

	for (unsigned int i = 0; i < 2U * ring->size + 3; i++) {
		struct raw_desc descs[2 * PIECES];
		unsigned int count = cut_request(test, descs, false);

		for (unsigned int j = 0; j < count; j++) {
			descs[j].flags |= i & 1 ? AVAIL | USED : 0;
			descs[j].flags |= i & 2 ? VRING_DESC_F_NEXT : 0;
		}
		raw_add_indirect(ring, raw_table(ring, descs, count), 16 * count,
				 i & 4 ? VRING_DESC_F_WRITE : 0);
		test->driver->interface->notify(test->driver, test->queue);
		expect_used(test, 0, 1);
	}
	assert_int_equal(test->machine->captured.count, 0);
}

/* What was used stays as it is until the driver makes it available again; the rest is the driver's. */
static void test_device_writes_its_part_only(void **state)
{
	struct kind_case *test = kind_case_run(state);
	struct ring *ring = &test->queue->ring;
	struct vring_packed_desc before[1024];
	struct vring_packed_desc_event event;

	driver_disable_cb(test->queue);
	event = *ring->driver_event;
	for (unsigned int i = 0; i < 3U * ring->size; i++) {
		struct kind_buffer buffer;
		unsigned int first = ring->avail_idx;

		assert_true(clause_add(test, &buffer, test));
		memcpy(before, ring->packed, ring->size * sizeof(before[0]));
		driver_kick(test->queue);
		wait_used(test);
		machine_poll(test->machine);
		before[first].id = ring->packed[first].id; /* all that it may write: one entry */
		before[first].len = ring->packed[first].len;
		before[first].flags = ring->packed[first].flags;
		assert_memory_equal(ring->packed, before, ring->size * sizeof(before[0]));
		assert_memory_equal(ring->driver_event, &event, sizeof(event));
		assert_ptr_equal(driver_get_buf(test->queue, NULL), test);
	}
}

/* Enabled: each time; disabled: never; the place counts only with EVENT_IDX, and as told. */
static void test_event_flags(void **state)
{
	struct kind_case *test = kind_case_run(state);
	struct ring *ring = &test->queue->ring;

	ring->callbacks_off = true; /* the structure is ours */
	for (unsigned int i = 0; i < 4U * ring->size; i++) {
		bool disabled = i % 3 == 0;
		struct kind_buffer buffer;

		ring->driver_event->off_wrap = (uint16_t)(i * 0x1111);
		ring->driver_event->flags =
			disabled ? VRING_PACKED_EVENT_FLAG_DISABLE : VRING_PACKED_EVENT_FLAG_ENABLE;
		assert_true(clause_add(test, &buffer, test));
		driver_kick(test->queue);
		wait_used(test);
		machine_poll(test->machine);
		assert_int_equal(driver_queue_interrupt(test->queue), !disabled);
		assert_ptr_equal(driver_get_buf(test->queue, NULL), test);
	}
}

/* The device's own structure: a place only with EVENT_IDX, and when idle it wants the next kick. */
static void test_device_event(void **state)
{
	struct kind_case *test = kind_case_run(state);
	struct ring *ring = &test->queue->ring;

	for (unsigned int i = 0; i < 3U * ring->size; i++) {
		uint16_t place;

		kind_request(test->kind, test->driver);
		machine_poll(test->machine);
		if (!ring->event_idx) {
			assert_int_equal(ring->device_event->flags, VRING_PACKED_EVENT_FLAG_ENABLE);
			continue;
		}
		place = (uint16_t)(ring->avail_idx | (ring->avail_wrap ? 0x8000 : 0));
		assert_int_equal(ring->device_event->flags, VRING_PACKED_EVENT_FLAG_DESC);
		assert_int_equal(ring->device_event->off_wrap, place);
	}
}

static bool for_packed_indirect(const struct driver_params *params)
{
	return params->packed && params->indirect;
}

int main(void)
{
	static const struct clause_test tests[] = {
		{ "packed sizes", test_sizes, KIND_AXIS_ALL, for_packed },
		{ "packed placement", test_placement, KIND_AXIS_FORMATS, for_packed },
		{ "not available", test_not_available, KIND_AXIS_ALL, for_packed },
		{ "id of the last descriptor", test_id_of_last, KIND_AXIS_ALL, for_packed },
		{ "packed indirect", test_indirect, KIND_AXIS_ALL, for_packed_indirect },
		{ "packed device writes its part only", test_device_writes_its_part_only,
		  KIND_AXIS_ALL, for_packed },
		{ "packed event flags", test_event_flags, KIND_AXIS_ALL, for_packed },
		{ "packed device event", test_device_event, KIND_AXIS_ALL, for_packed },
	};

	return clause_tests_run(tests, ARRAY_SIZE(tests), "packed virtqueues", NULL);
}
