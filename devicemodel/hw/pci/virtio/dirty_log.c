/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a device writes into guest memory by way of its queues, as bits for whoever migrates the
 * guest. Devices write to buffers through iovecs only, so the rings know all there is to know.
 */
#include "dirty_log.h"

#include <errno.h>
#include <stdlib.h>

#include "virtio_transport.h"

#define SEGMENTS_AT_FIRST 8 /* of each chain */
#define SEGMENTS_MORE_MAX BIT32(17) /* of a queue, besides: 2 MiB */

struct dirty_segment {
	uint64_t gpa, len;
};

/*
 * struct dirty_chain - where the writable part of a chain is.
 * @rest_low, @rest_high: guest memory that the segments lie in for which there was no room
 */
struct dirty_chain {
	struct dirty_segment *segments;
	uint32_t count, room;
	uint64_t rest_low, rest_high;
};

/*
 * struct vq_dirty
 * @taking: the chain that is being read
 * @chains: by idx, @count of them
 * @more: segments that chains have room for beyond what they had at first
 */
struct vq_dirty {
	const struct dirty_log *log;
	uint64_t ring_gpa, event_gpa;
	uint32_t more;
	struct dirty_chain taking;
	uint32_t count;
	struct dirty_chain chains[];
};

/* ---- The log ---- */

/*
 * Always a locked instruction, even if the bit is set: it may be taken away while what was written
 * just now is still in our store buffer.
 */
void dirty_log_mark(const struct dirty_log *log, uint64_t gpa, uint64_t len)
{
	uint64_t first = gpa / DIRTY_LOG_PAGE, last, pages = MIN(log->size, UINT64_MAX / 8) * 8;

	if (!len || first >= pages)
		return;
	last = len - 1 > UINT64_MAX - gpa ? UINT64_MAX : gpa + len - 1;
	last = MIN(last / DIRTY_LOG_PAGE, pages - 1);
	for (uint64_t byte = first / 8; byte <= last / 8; byte++) {
		uint8_t mask = 0xff;

		if (byte == first / 8)
			mask &= (uint8_t)(0xff << first % 8);
		if (byte == last / 8)
			mask &= (uint8_t)(0xff >> (7 - last % 8));
		__atomic_fetch_or(&log->bits[byte], mask, __ATOMIC_SEQ_CST);
	}
}

/* ---- Chains ---- */

/* Room for one more segment? The driver decides how many there are: not without bound. */
static bool chain_grow(struct vq_dirty *dirty, struct dirty_chain *chain)
{
	uint32_t more = chain->room;
	struct dirty_segment *segments;

	if (more > SEGMENTS_MORE_MAX - dirty->more)
		return false;
	segments = realloc(chain->segments, (chain->room + more) * sizeof(*segments));
	if (!segments)
		return false;
	chain->segments = segments;
	chain->room += more;
	dirty->more += more;
	return true;
}

/* More will be marked than was written, but nothing left out. */
static void chain_add_rest(struct dirty_chain *chain, uint64_t gpa, uint32_t len)
{
	chain->rest_low = MIN(chain->rest_low, gpa);
	chain->rest_high = MAX(chain->rest_high, gpa + len);
}

void vq_dirty_add(struct vqueue_info *vq, uint64_t gpa, uint32_t len)
{
	struct dirty_chain *chain = &vq->dirty->taking;
	struct dirty_segment *last = &chain->segments[chain->count - !!chain->count];

	if (!len)
		return;
	if (chain->rest_high) {
		chain_add_rest(chain, gpa, len);
	} else if (chain->count && last->gpa + last->len == gpa) {
		last->len += len;
	} else if (chain->count < chain->room || chain_grow(vq->dirty, chain)) {
		chain->segments[chain->count++] = (struct dirty_segment) { gpa, len };
	} else {
		chain->rest_low = UINT64_MAX;
		chain_add_rest(chain, gpa, len);
	}
}

static void chain_clear(struct dirty_chain *chain)
{
	chain->count = 0;
	chain->rest_low = chain->rest_high = 0;
}

void vq_dirty_taken(struct vqueue_info *vq, int idx)
{
	struct vq_dirty *dirty = vq->dirty;

	if (idx >= 0 && (uint32_t)idx < dirty->count) {
		struct dirty_chain taken = dirty->taking;

		dirty->taking = dirty->chains[idx];
		dirty->chains[idx] = taken;
	}
	chain_clear(&dirty->taking);
}

void vq_dirty_used(struct vqueue_info *vq, uint16_t idx)
{
	const struct vq_dirty *dirty = vq->dirty;
	const struct dirty_chain *chain = &dirty->chains[idx];

	for (uint32_t i = 0; i < chain->count; i++)
		dirty_log_mark(dirty->log, chain->segments[i].gpa, chain->segments[i].len);
	dirty_log_mark(dirty->log, chain->rest_low, chain->rest_high - chain->rest_low);
}

/* ---- The ring ---- */

void vq_dirty_ring(const struct vqueue_info *vq, uint64_t offset, uint64_t len)
{
	const struct vq_dirty *dirty = vq->dirty;

	if (offset <= UINT64_MAX - dirty->ring_gpa && dirty->ring_gpa != UINT64_MAX)
		dirty_log_mark(dirty->log, dirty->ring_gpa + offset, len);
}

void vq_dirty_event(const struct vqueue_info *vq)
{
	const struct vq_dirty *dirty = vq->dirty;

	if (dirty->event_gpa != UINT64_MAX)
		dirty_log_mark(dirty->log, dirty->event_gpa,
			       sizeof(struct vring_packed_desc_event));
}

void vq_dirty_whole_ring(const struct vqueue_info *vq)
{
	if (!vq->enabled)
		return;
	if (!vq->packed) {
		vq_dirty_ring(vq, 0, 6 + sizeof(struct vring_used_elem) * vq->size);
		return;
	}
	vq_dirty_ring(vq, 0, sizeof(struct vring_packed_desc) * vq->size);
	vq_dirty_event(vq);
}

/* ---- On and off ---- */

static void dirty_free(struct vq_dirty *dirty)
{
	if (!dirty)
		return;
	for (uint32_t i = 0; i < dirty->count; i++)
		free(dirty->chains[i].segments);
	free(dirty->taking.segments);
	free(dirty);
}

static struct vq_dirty *dirty_alloc(uint32_t count)
{
	struct vq_dirty *dirty = calloc(1, sizeof(*dirty) + count * sizeof(dirty->chains[0]));
	bool complete = true;

	if (!dirty)
		return NULL;
	dirty->count = count;
	for (uint32_t i = 0; i <= count; i++) {
		struct dirty_chain *chain = i < count ? &dirty->chains[i] : &dirty->taking;

		chain->room = SEGMENTS_AT_FIRST;
		chain->segments = calloc(chain->room, sizeof(*chain->segments));
		complete &= !!chain->segments;
	}
	if (complete)
		return dirty;
	dirty_free(dirty);
	return NULL;
}

void vq_dirty_forget(struct vqueue_info *vq)
{
	struct vq_dirty *dirty = vq->dirty;

	vq->dirty = NULL;
	vq_choose_ops(vq);
	dirty_free(dirty);
}

int vq_set_dirty_log(struct vqueue_info *vq, const struct dirty_log *log, uint64_t ring_gpa)
{
	struct vq_dirty *dirty;

	if (!log) {
		vq_dirty_forget(vq);
		return 0;
	}
	if (vq->popped != vq->released)
		return -EBUSY;
	dirty = dirty_alloc(vq->size_max);
	if (!dirty)
		return -ENOMEM;
	dirty->log = log;
	dirty->ring_gpa = ring_gpa;
	dirty->event_gpa = UINT64_MAX;
	if (vq->enabled && vq->packed && ring_gpa != UINT64_MAX)
		dirty->event_gpa = vq_translate(vq, vq->device_addr,
						sizeof(struct vring_packed_desc_event), true);
	vq_dirty_forget(vq);
	vq->dirty = dirty;
	vq_choose_ops(vq);
	vq_dirty_whole_ring(vq);
	return 0;
}
