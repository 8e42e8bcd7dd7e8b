/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver's side of split virtqueues (virtio 1.4, 2.7).
 */
#include "driver_ring.h"

#include <errno.h>
#include <stdlib.h>

uint16_t *ring_used_event(const struct ring *ring)
{
	return &ring->avail->ring[ring->size];
}

uint16_t *ring_avail_event(const struct ring *ring)
{
	return (uint16_t *)&ring->used->ring[ring->size];
}

/* virtio 1.4, 2.7: the table in its text */
static void split_sizes(uint16_t size, uint64_t *desc, uint64_t *driver, uint64_t *device)
{
	*desc = UINT64_C(16) * size;
	*driver = 6 + UINT64_C(2) * size;
	*device = 6 + UINT64_C(8) * size;
}

static void split_init(struct ring *ring)
{
	uint64_t desc, driver, device;

	split_sizes(ring->size, &desc, &driver, &device);
	ring->desc = guest_ptr(ring->machine, ring->desc_gpa, desc);
	ring->avail = guest_ptr(ring->machine, ring->driver_gpa, driver);
	ring->used = guest_ptr(ring->machine, ring->device_gpa, device);
	memset(ring->desc, 0, desc);
	memset(ring->avail, 0, driver);
	memset(ring->used, 0, device);
	for (uint16_t i = 0; i < ring->size; i++)
		ring->desc[i].next = (uint16_t)(i + 1);
	ring->free_head = 0;
	ring->free_count = ring->size;
	ring->avail_idx = ring->kicked_idx = ring->used_seen = 0;
	ring->callbacks_off = false;
	for (uint16_t i = 0; i < ring->size; i++)
		ring->slots[i].token = NULL;
}

static struct vring_desc segment_desc(const struct segment *segment, bool writable, bool more,
				      uint16_t next)
{
	return (struct vring_desc) {
		.addr = segment->gpa,
		.len = segment->len,
		.flags = (uint16_t)((writable ? VRING_DESC_F_WRITE : 0) |
				    (more ? VRING_DESC_F_NEXT : 0)),
		.next = more ? next : 0,
	};
}

static void fill_direct(struct ring *ring, const struct segment *segments, unsigned int out,
			unsigned int count)
{
	uint16_t index = ring->free_head;

	for (unsigned int i = 0; i < count; i++) {
		uint16_t next = ring->desc[index].next;

		ring->desc[index] = segment_desc(&segments[i], i >= out, i + 1 < count, next);
		if (i + 1 == count)
			ring->free_head = next;
		index = next;
	}
}

/* virtio 1.4, 2.7.5.3 */
static void fill_indirect(struct ring *ring, const struct segment *segments, unsigned int out,
			  unsigned int count)
{
	struct ring_slot *slot = &ring->slots[ring->free_head];
	struct vring_desc *head = &ring->desc[ring->free_head], *table;
	const uint64_t room = RING_SEGMENTS_MAX * sizeof(*table);

	if (!slot->table)
		slot->table = guest_alloc(ring->machine, room, 16);
	table = guest_ptr(ring->machine, slot->table, room);
	for (unsigned int i = 0; i < count; i++)
		table[i] = segment_desc(&segments[i], i >= out, i + 1 < count, (uint16_t)(i + 1));
	ring->free_head = head->next;
	*head = (struct vring_desc) { .addr = slot->table,
				      .len = count * (uint32_t)sizeof(*table),
				      .flags = VRING_DESC_F_INDIRECT };
}

static int split_add(struct ring *ring, const struct segment *segments, unsigned int out,
		     unsigned int in, bool indirect, void *token)
{
	unsigned int count = out + in, descriptors = indirect ? 1 : count;
	uint16_t head = ring->free_head;

	if (descriptors > ring->free_count || count > RING_SEGMENTS_MAX)
		return -ENOSPC;
	if (indirect)
		fill_indirect(ring, segments, out, count);
	else
		fill_direct(ring, segments, out, count);
	ring->free_count = (uint16_t)(ring->free_count - descriptors);
	ring->slots[head].token = token;
	ring->slots[head].count = (uint16_t)descriptors;
	ring->avail->ring[ring->avail_idx % ring->size] = head;
	ring->avail_idx++;
	__atomic_store_n(&ring->avail->idx, ring->avail_idx, __ATOMIC_RELEASE);
	return 0;
}

/* virtio 1.4, 2.7.13.4 and 2.7.10 */
static bool split_kick_needed(struct ring *ring)
{
	uint16_t old = ring->kicked_idx, new = ring->avail_idx;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	ring->kicked_idx = new;
	if (ring->event_idx) {
		uint16_t event = __atomic_load_n(ring_avail_event(ring), __ATOMIC_RELAXED);

		return (uint16_t)(new - event - 1) < (uint16_t)(new - old);
	}
	return new != old &&
	       !(__atomic_load_n(&ring->used->flags, __ATOMIC_RELAXED) & VRING_USED_F_NO_NOTIFY);
}

/* Give the descriptors of the buffer at @head back. */
static void slot_free(struct ring *ring, uint16_t head)
{
	uint16_t last = head;

	for (unsigned int i = 1; i < ring->slots[head].count; i++)
		last = ring->desc[last].next;
	ring->desc[last].next = ring->free_head;
	ring->free_head = head;
	ring->free_count = (uint16_t)(ring->free_count + ring->slots[head].count);
	ring->slots[head].token = NULL;
}

static bool split_pending(const struct ring *ring)
{
	return __atomic_load_n(&ring->used->idx, __ATOMIC_ACQUIRE) != ring->used_seen;
}

static void *split_get(struct ring *ring, uint32_t *len)
{
	const struct vring_used_elem *elem = &ring->used->ring[ring->used_seen % ring->size];
	void *token;

	if (!split_pending(ring))
		return NULL;
	assert_true(elem->id < ring->size);
	token = ring->slots[elem->id].token;
	assert_non_null(token); /* used what was not available */
	if (len)
		*len = elem->len;
	slot_free(ring, (uint16_t)elem->id);
	ring->used_seen++;
	if (ring->event_idx && !ring->callbacks_off)
		__atomic_store_n(ring_used_event(ring), ring->used_seen, __ATOMIC_SEQ_CST);
	return token;
}

/* With EVENT_IDX there is no off, only an event far away (virtio 1.4, 2.7.7.1). */
static void split_disable_callback(struct ring *ring)
{
	ring->callbacks_off = true;
	if (ring->event_idx)
		__atomic_store_n(ring_used_event(ring), (uint16_t)(ring->used_seen + 0x8000),
				 __ATOMIC_RELAXED);
	else
		__atomic_store_n(&ring->avail->flags, VRING_AVAIL_F_NO_INTERRUPT, __ATOMIC_RELAXED);
}

static bool split_enable_callback(struct ring *ring)
{
	ring->callbacks_off = false;
	if (ring->event_idx)
		__atomic_store_n(ring_used_event(ring), ring->used_seen, __ATOMIC_RELAXED);
	else
		__atomic_store_n(&ring->avail->flags, 0, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return split_pending(ring);
}

const struct ring_ops ring_split = {
	.sizes = split_sizes,
	.init = split_init,
	.add = split_add,
	.kick_needed = split_kick_needed,
	.get = split_get,
	.pending = split_pending,
	.disable_callback = split_disable_callback,
	.enable_callback = split_enable_callback,
};
