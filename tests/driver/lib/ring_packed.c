/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver's side of packed virtqueues (virtio 1.4, 2.8). The buffer id is the number of a slot,
 * taken from a stack, so that ids are used out of order.
 */
#include "driver_ring.h"

#include <errno.h>

#define DESC_AVAIL (1U << VRING_PACKED_DESC_F_AVAIL)
#define DESC_USED (1U << VRING_PACKED_DESC_F_USED)
#define EVENT_WRAP (1U << VRING_PACKED_EVENT_F_WRAP_CTR)

/* virtio 1.4, 2.8.10.1 */
static void packed_sizes(uint16_t size, uint64_t *desc, uint64_t *driver, uint64_t *device)
{
	*desc = UINT64_C(16) * size;
	*driver = sizeof(struct vring_packed_desc_event);
	*device = sizeof(struct vring_packed_desc_event);
}

static void event_write(struct ring *ring, uint16_t off_wrap, uint16_t flags)
{
	__atomic_store_n((uint32_t *)ring->driver_event, off_wrap | (uint32_t)flags << 16,
			 __ATOMIC_SEQ_CST);
}

static void event_arm(struct ring *ring)
{
	if (ring->event_idx)
		event_write(ring, (uint16_t)(ring->used_seen | (ring->used_wrap ? EVENT_WRAP : 0)),
			    VRING_PACKED_EVENT_FLAG_DESC);
	else
		event_write(ring, 0, VRING_PACKED_EVENT_FLAG_ENABLE);
}

static void packed_init(struct ring *ring)
{
	uint64_t desc, driver, device;

	packed_sizes(ring->size, &desc, &driver, &device);
	ring->packed = guest_ptr(ring->machine, ring->desc_gpa, desc);
	ring->driver_event = guest_ptr(ring->machine, ring->driver_gpa, driver);
	ring->device_event = guest_ptr(ring->machine, ring->device_gpa, device);
	memset(ring->packed, 0, desc);
	memset(ring->driver_event, 0, driver);
	memset(ring->device_event, 0, device);
	ring->avail_wrap = ring->used_wrap = true;
	ring->avail_idx = ring->used_seen = 0;
	ring->added = 0;
	ring->free_count = ring->size;
	ring->callbacks_off = false;
	/* Free slots form a list through @count. */
	ring->free_head = 0;
	for (uint16_t i = 0; i < ring->size; i++) {
		ring->slots[i].token = NULL;
		ring->slots[i].count = (uint16_t)(i + 1);
	}
	event_arm(ring);
}

static void avail_next(struct ring *ring)
{
	ring->added++;
	if (++ring->avail_idx < ring->size)
		return;
	ring->avail_idx = 0;
	ring->avail_wrap = !ring->avail_wrap;
}

/* Write a list; its head's flags come last, for they make it available (virtio 1.4, 2.8.6). */
static void list_write(struct ring *ring, const struct vring_packed_desc *list, unsigned int count)
{
	struct vring_packed_desc *head = &ring->packed[ring->avail_idx];
	uint16_t head_flags = 0;

	for (unsigned int i = 0; i < count; i++) {
		struct vring_packed_desc *desc = &ring->packed[ring->avail_idx];
		uint16_t flags =
			(uint16_t)(list[i].flags | (ring->avail_wrap ? DESC_AVAIL : DESC_USED));

		desc->addr = list[i].addr;
		desc->len = list[i].len;
		desc->id = list[i].id;
		if (i)
			desc->flags = flags;
		else
			head_flags = flags;
		avail_next(ring);
	}
	__atomic_store_n(&head->flags, head_flags, __ATOMIC_RELEASE);
}

static void fill(struct vring_packed_desc *list, const struct segment *segments, unsigned int out,
		 unsigned int count, uint16_t id, bool chained)
{
	for (unsigned int i = 0; i < count; i++)
		list[i] = (struct vring_packed_desc) {
			.addr = segments[i].gpa,
			.len = segments[i].len,
			.id = id,
			.flags = (uint16_t)((i >= out ? VRING_DESC_F_WRITE : 0) |
					    (chained && i + 1 < count ? VRING_DESC_F_NEXT : 0)),
		};
}

static int packed_add(struct ring *ring, const struct segment *segments, unsigned int out,
		      unsigned int in, bool indirect, void *token)
{
	struct vring_packed_desc list[RING_SEGMENTS_MAX];
	unsigned int count = out + in, descriptors = indirect ? 1 : count;
	uint16_t id = ring->free_head;
	struct ring_slot *slot = &ring->slots[id];

	if (descriptors > ring->free_count || count > RING_SEGMENTS_MAX)
		return -ENOSPC;
	ring->free_head = slot->count;
	slot->token = token;
	slot->count = (uint16_t)descriptors;
	ring->free_count = (uint16_t)(ring->free_count - descriptors);
	fill(list, segments, out, count, id, !indirect);
	if (indirect) {
		const uint64_t room = RING_SEGMENTS_MAX * sizeof(list[0]);

		if (!slot->table)
			slot->table = guest_alloc(ring->machine, room, 16);
		memcpy(guest_ptr(ring->machine, slot->table, room), list, count * sizeof(list[0]));
		list[0] = (struct vring_packed_desc) { .addr = slot->table,
						       .len = count * (uint32_t)sizeof(list[0]),
						       .id = id,
						       .flags = VRING_DESC_F_INDIRECT };
	}
	list_write(ring, list, descriptors);
	return 0;
}

/* virtio 1.4, 2.8.10 */
static bool packed_kick_needed(struct ring *ring)
{
	uint32_t event, added = ring->added;
	uint16_t new = ring->avail_idx, old = (uint16_t)(new - added), offset;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	event = __atomic_load_n((const uint32_t *)ring->device_event, __ATOMIC_RELAXED);
	ring->added = 0;
	if (!added)
		return false;
	if (event >> 16 != VRING_PACKED_EVENT_FLAG_DESC)
		return event >> 16 != VRING_PACKED_EVENT_FLAG_DISABLE;
	assert_true(ring->event_idx); /* virtio 1.4, 2.8.14: only with that feature */
	offset = event & (EVENT_WRAP - 1);
	assert_true(offset < ring->size);
	if (!!(event & EVENT_WRAP) != ring->avail_wrap)
		offset = (uint16_t)(offset - ring->size);
	return (uint16_t)(new - offset - 1) < (uint16_t)(new - old);
}

static bool used_ready(const struct ring *ring)
{
	uint16_t flags = __atomic_load_n(&ring->packed[ring->used_seen].flags, __ATOMIC_ACQUIRE);

	return !!(flags & DESC_AVAIL) == ring->used_wrap &&
	       !!(flags & DESC_USED) == ring->used_wrap;
}

static void *packed_get(struct ring *ring, uint32_t *len)
{
	const struct vring_packed_desc *desc = &ring->packed[ring->used_seen];
	struct ring_slot *slot;
	uint16_t descriptors;
	void *token;

	if (!used_ready(ring))
		return NULL;
	assert_true(desc->id < ring->size);
	slot = &ring->slots[desc->id];
	token = slot->token;
	assert_non_null(token); /* used what was not available */
	/* virtio 1.4, 2.8.8: the length counts only if something was written */
	assert_int_equal(desc->flags & (VRING_DESC_F_NEXT | VRING_DESC_F_INDIRECT), 0);
	if (len)
		*len = desc->flags & VRING_DESC_F_WRITE ? desc->len : 0;
	descriptors = slot->count;
	slot->token = NULL;
	slot->count = ring->free_head;
	ring->free_head = desc->id;
	ring->free_count = (uint16_t)(ring->free_count + descriptors);
	ring->used_seen = (uint16_t)(ring->used_seen + descriptors);
	if (ring->used_seen >= ring->size) {
		ring->used_seen = (uint16_t)(ring->used_seen - ring->size);
		ring->used_wrap = !ring->used_wrap;
	}
	if (ring->event_idx && !ring->callbacks_off)
		event_arm(ring);
	return token;
}

static void packed_disable_callback(struct ring *ring)
{
	ring->callbacks_off = true;
	event_write(ring, 0, VRING_PACKED_EVENT_FLAG_DISABLE);
}

static bool packed_enable_callback(struct ring *ring)
{
	ring->callbacks_off = false;
	event_arm(ring);
	return used_ready(ring);
}

const struct ring_ops ring_packed = {
	.sizes = packed_sizes,
	.init = packed_init,
	.add = packed_add,
	.kick_needed = packed_kick_needed,
	.get = packed_get,
	.pending = used_ready,
	.disable_callback = packed_disable_callback,
	.enable_callback = packed_enable_callback,
};
