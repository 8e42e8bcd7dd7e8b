/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vq_inflight_region.h: the memory in which a queue's chains are recorded, byte for byte as the
 * vhost-user document has it ("Inflight I/O tracking"), and what we know of it ourselves.
 *
 * The writer may be killed between any two instructions, so what counts is the order of its stores:
 * all are releases, which neither compiler nor processor moves in front of earlier ones. What we
 * wrote is never read back, since the front end can write there too.
 */
#ifndef TENON_VQ_INFLIGHT_REGION_H
#define TENON_VQ_INFLIGHT_REGION_H

#include "vq_inflight.h"
#include "virtio_transport.h"

#define INFLIGHT_VERSION 1

struct inflight_split_desc {
	uint8_t inflight;
	uint8_t padding[5];
	uint16_t next; /* in the list of the last batch */
	uint64_t counter;
};

struct inflight_split {
	uint64_t features;
	uint16_t version;
	uint16_t desc_num;
	uint16_t last_batch_head;
	uint16_t used_idx;
	struct inflight_split_desc desc[];
};

struct inflight_packed_desc {
	uint8_t inflight;
	uint8_t padding;
	uint16_t
		next; /* in the free list, and in a chain, whose entries followed each other there */
	uint16_t last;
	uint16_t num;
	uint64_t counter;
	struct {
		uint16_t id;
		uint16_t flags;
		uint32_t len;
		uint64_t addr;
	} copy; /* of the descriptor in the ring, which a used one may have overwritten */
};

/* Fields that change together are one word, so that no one ever sees half of a change. */
union inflight_heads {
	struct {
		uint16_t version;
		uint16_t desc_num;
		uint16_t free_head;
		uint16_t old_free_head;
	};
	uint64_t word;
};

union inflight_used {
	struct {
		uint16_t idx;
		uint16_t old_idx;
		uint8_t wrap;
		uint8_t old_wrap;
		uint8_t padding[2];
	};
	uint64_t word;
};

struct inflight_packed {
	uint64_t features;
	union inflight_heads heads;
	union inflight_used used;
	uint8_t padding[8];
	struct inflight_packed_desc desc[];
};

static_assert(sizeof(struct inflight_split) == 16, "as documented");
static_assert(sizeof(struct inflight_split_desc) == 16, "as documented");
static_assert(sizeof(struct inflight_packed) == 32, "as documented");
static_assert(sizeof(struct inflight_packed_desc) == 32, "as documented");
static_assert(offsetof(struct inflight_split, version) == offsetof(struct inflight_packed, heads),
	      "the version is where it is in both formats");

#define REGION_LOAD(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define REGION_STORE(field, value) __atomic_store_n(&(field), value, __ATOMIC_RELEASE)

/* What the device did with a chain, by idx. */
enum inflight_state {
	INFLIGHT_NOT_HELD,
	INFLIGHT_TAKEN,
	INFLIGHT_TAKEN_AGAIN, /* of those that a device before us had */
	INFLIGHT_USED, /* split: not shown to the driver yet */
};

/*
 * struct inflight_again - a chain to be given out again.
 * @entry: its first entry in the region; @idx: of it in the queue; @counter: its age
 * @first, @count: packed: where its descriptors are in vq_inflight.copies
 */
struct inflight_again {
	uint64_t counter;
	uint32_t first;
	uint16_t count;
	uint16_t entry;
	uint16_t idx;
};

/*
 * struct vq_inflight
 * @split or @packed: the region, which has @entries entries
 * @counter: of the next chain taken
 * @state: by idx
 * @batch: entries of the chains used and not shown yet
 * @again: oldest first; those from @again_next on are still to be given out
 * @last_batch_head: split: as in the region
 * @next: packed: the links of the region; @free_head: its free list; @last: by first entry of a chain
 * @entry: packed: the first entry of the chain, by idx
 * @shown_idx, @shown_wrap: packed: the used index that the driver sees
 * @cursor, @cursor_last, @cursor_count: packed: the chain that is being read goes up to here
 */
struct vq_inflight {
	struct inflight_split *split;
	struct inflight_packed *packed;
	uint16_t entries;
	uint64_t counter;
	uint8_t *state;
	uint16_t *batch;
	uint32_t batch_count;

	struct inflight_again *again;
	uint32_t again_count, again_next;
	struct vring_packed_desc *copies;

	uint16_t last_batch_head;

	uint16_t *next, *last, *entry;
	uint16_t free_head;
	uint16_t shown_idx;
	bool shown_wrap;
	uint16_t cursor, cursor_last, cursor_count;
	bool cursor_over; /* more descriptors than there are free entries */
};

#endif
