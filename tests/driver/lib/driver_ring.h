/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * driver_ring.h: the driver's side of a virtqueue, behind functions that every ring format has.
 * Written from the specification alone; shares nothing with the device's side.
 */
#ifndef TENON_TESTS_DRIVER_RING_H
#define TENON_TESTS_DRIVER_RING_H

#include <linux/virtio_ring.h>

#include "machine.h"

#define RING_SEGMENTS_MAX 1024 /* descriptors of one buffer, in an indirect table */

/* struct segment - a piece of a buffer: becomes one descriptor. */
struct segment {
	uint64_t gpa;
	uint32_t len;
};

struct ring;

/* struct ring_slot - what the driver remembers of the buffer whose first descriptor it is. */
struct ring_slot {
	void *token;
	uint16_t count;
	uint64_t table; /* indirect, allocated once and kept */
};

/*
 * struct ring_ops - a format. Sizes are of the three areas for @size entries.
 * @add: make a buffer available, without a kick; -ENOSPC if the descriptors do not suffice
 * @kick_needed: does the device want to hear of what was added since the last call?
 * @get: take the next used buffer: its token and length; NULL if there is none
 * @pending: is there one to get?
 * @disable_callback, @enable_callback: used buffer notifications; enabling tells if buffers were
 *                                      used in the meantime, for which none will come
 */
struct ring_ops {
	void (*sizes)(uint16_t size, uint64_t *desc, uint64_t *driver, uint64_t *device);
	void (*init)(struct ring *ring);
	int (*add)(struct ring *ring, const struct segment *segments, unsigned int out,
		   unsigned int in, bool indirect, void *token);
	bool (*kick_needed)(struct ring *ring);
	void *(*get)(struct ring *ring, uint32_t *len);
	bool (*pending)(const struct ring *ring);
	void (*disable_callback)(struct ring *ring);
	bool (*enable_callback)(struct ring *ring);
};

/*
 * struct ring - one. Who sets it up fills the first part.
 * @desc, @avail, @used: the split ring's parts, open to tests that break rules
 * @table: of descriptors for indirect buffers at most; @free_head: first free descriptor
 * @avail_idx: as published; @kicked_idx: as of the last kick_needed(); @used_seen: next to look at
 */
struct ring {
	const struct ring_ops *ops;
	struct machine *machine;
	uint16_t size;
	bool event_idx;
	uint64_t desc_gpa, driver_gpa, device_gpa;

	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t free_head, free_count;
	uint16_t avail_idx, kicked_idx, used_seen;
	bool callbacks_off;
	struct ring_slot *slots;

	/* the packed ring's: areas, wrap counters, descriptors made available since the last kick */
	struct vring_packed_desc *packed;
	struct vring_packed_desc_event *driver_event, *device_event;
	bool avail_wrap, used_wrap;
	uint32_t added;
};

extern const struct ring_ops ring_split;
extern const struct ring_ops ring_packed;

/* Fields behind the split ring's arrays (virtio 1.4, 2.7.7 and 2.7.10). */
uint16_t *ring_used_event(const struct ring *ring);
uint16_t *ring_avail_event(const struct ring *ring);

#endif
