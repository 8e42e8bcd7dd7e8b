/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * raw_ring.h: descriptors as a hostile driver writes them: any field, any order, in either format.
 */
#ifndef TENON_TESTS_RAW_RING_H
#define TENON_TESTS_RAW_RING_H

#include "driver_ring.h"

#define RAW_DESCS_MAX 40000

/* struct raw_desc - as in a split table; a packed ring has no use for @next. */
struct raw_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

static inline bool raw_is_packed(const struct ring *ring)
{
	return ring->ops == &ring_packed;
}

/* ---- Split ---- */

static inline void raw_split_desc(struct ring *ring, unsigned int index,
				  const struct raw_desc *desc)
{
	ring->desc[index] = (struct vring_desc) { desc->addr, desc->len, desc->flags, desc->next };
}

/* The chain that begins with @head is available. */
static inline void raw_split_avail(struct ring *ring, uint16_t head)
{
	ring->avail->ring[ring->avail_idx % ring->size] = head;
	__atomic_store_n(&ring->avail->idx, ++ring->avail_idx, __ATOMIC_RELEASE);
}

/* ---- Packed ---- */

static inline uint16_t raw_packed_flags(const struct ring *ring)
{
	return (uint16_t)(ring->avail_wrap ? BIT32(VRING_PACKED_DESC_F_AVAIL)
					   : BIT32(VRING_PACKED_DESC_F_USED));
}

/* The next descriptors of the ring, available; the first one's flags last. */
static inline void raw_packed_add(struct ring *ring, const struct raw_desc *descs,
				  unsigned int count)
{
	struct vring_packed_desc *head = &ring->packed[ring->avail_idx];
	uint16_t head_flags = 0;

	for (unsigned int i = 0; i < count; i++) {
		struct vring_packed_desc *desc = &ring->packed[ring->avail_idx];
		uint16_t flags = descs[i].flags | raw_packed_flags(ring);

		desc->addr = descs[i].addr;
		desc->len = descs[i].len;
		desc->id = 0;
		if (i)
			desc->flags = flags;
		else
			head_flags = flags;
		if (++ring->avail_idx == ring->size) {
			ring->avail_idx = 0;
			ring->avail_wrap = !ring->avail_wrap;
		}
	}
	__atomic_store_n(&head->flags, head_flags, __ATOMIC_RELEASE);
}

/* ---- Either ---- */

/* Available as they are: in a split table from entry 0 on, which is the head. */
static inline void raw_add(struct ring *ring, const struct raw_desc *descs, unsigned int count)
{
	assert_true(count <= ring->size);
	if (raw_is_packed(ring)) {
		raw_packed_add(ring, descs, count);
		return;
	}
	for (unsigned int i = 0; i < count; i++)
		raw_split_desc(ring, i, &descs[i]);
	raw_split_avail(ring, 0);
}

/* In guest memory, as an indirect table. The formats differ in the last 4 bytes. */
static inline uint64_t raw_table(struct ring *ring, const struct raw_desc *descs,
				 unsigned int count)
{
	uint64_t gpa = guest_alloc(ring->machine, count * sizeof(struct vring_desc), 16);
	struct vring_desc *split = guest_ptr(ring->machine, gpa, count * sizeof(*split));
	struct vring_packed_desc *packed = (void *)split;

	for (unsigned int i = 0; i < count; i++)
		if (raw_is_packed(ring))
			packed[i] = (struct vring_packed_desc) { descs[i].addr, descs[i].len, 0,
								 descs[i].flags };
		else
			split[i] = (struct vring_desc) { descs[i].addr, descs[i].len,
							 descs[i].flags, descs[i].next };
	return gpa;
}

/* One descriptor that says where such a table is, with @flags besides. */
static inline void raw_add_indirect(struct ring *ring, uint64_t gpa, uint32_t len, uint16_t flags)
{
	const struct raw_desc desc = { gpa, len, VRING_DESC_F_INDIRECT | flags, 0 };

	raw_add(ring, &desc, 1);
}

#endif
