/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The ring operations of a queue about which somebody wants to know more: which chains the device
 * has (vq_inflight.h), or what of guest memory it writes (dirty_log.h). They stand in front of the
 * ring's own, so that other queues pay nothing for them.
 */
#include "dirty_log.h"
#include "virtio_transport.h"
#include "vq_inflight.h"

const struct vq_ops *vq_ring_ops(const struct vqueue_info *vq)
{
	return vq->packed ? &vq_packed_ops : &vq_split_ops;
}

static int tracked_enable(struct vqueue_info *vq)
{
	int error = vq_ring_ops(vq)->enable(vq);

	if (!error && vq->inflight)
		vq_inflight_hold(vq);
	return error;
}

/* The driver was asked for kicks, or perhaps was: that is written down behind the ring. */
static void mark_kicks(const struct vqueue_info *vq)
{
	uint64_t offset = vq->event_idx ? offsetof(struct vring_used, ring[vq->size])
					: offsetof(struct vring_used, flags);

	if (vq->packed)
		vq_dirty_event(vq);
	else
		vq_dirty_ring(vq, offset, sizeof(uint16_t));
}

static bool tracked_has_descs(struct vqueue_info *vq)
{
	bool has;

	if (vq_inflight_left(vq))
		return true;
	has = vq_ring_ops(vq)->has_descs(vq);
	if (vq->dirty)
		mark_kicks(vq);
	return has;
}

static bool tracked_has_new(const struct vqueue_info *vq)
{
	return vq_inflight_left(vq) || vq_ring_ops(vq)->has_new(vq);
}

static void tracked_set_polled(struct vqueue_info *vq)
{
	vq_ring_ops(vq)->set_polled(vq);
	if (vq->dirty)
		mark_kicks(vq);
}

static const char *inflight_pop(struct vqueue_info *vq, struct vq_chain *chain, int n_iov)
{
	const char *wrong;

	if (vq_inflight_left(vq))
		return vq_inflight_pop(vq, chain, n_iov);
	wrong = vq_ring_ops(vq)->pop_recorded(vq, chain, n_iov);
	if (!wrong)
		wrong = vq_inflight_taken(vq, chain->idx);
	if (wrong)
		vq_inflight_not_taken(vq);
	return wrong;
}

static const char *tracked_pop(struct vqueue_info *vq, struct vq_chain *chain, int n_iov)
{
	const char *wrong;

	wrong = vq->inflight ? inflight_pop(vq, chain, n_iov)
			     : vq_ring_ops(vq)->pop(vq, chain, n_iov);
	if (vq->dirty)
		vq_dirty_taken(vq, wrong ? VQ_DIRTY_NONE : chain->idx);
	return wrong;
}

static void tracked_unpop(struct vqueue_info *vq, uint16_t idx)
{
	if (!vq->inflight || !vq_inflight_put_back(vq, idx))
		vq_ring_ops(vq)->unpop(vq, idx);
}

static void mark_entry(const struct vqueue_info *vq, uint16_t position)
{
	if (vq->packed)
		vq_dirty_ring(vq, position * sizeof(struct vring_packed_desc),
			      sizeof(struct vring_packed_desc));
	else
		vq_dirty_ring(vq, offsetof(struct vring_used, ring[position & (vq->size - 1)]),
			      sizeof(struct vring_used_elem));
}

static void tracked_push(struct vqueue_info *vq, uint16_t idx, uint32_t len)
{
	uint16_t position = vq->used_idx;

	if (vq->dirty)
		vq_dirty_used(vq, idx);
	if (vq->inflight)
		vq_inflight_used(vq, idx);
	vq_ring_ops(vq)->push(vq, idx, len);
	if (vq->dirty)
		mark_entry(vq, position);
}

/* What shows the batch: the index, or the flags of its first entry. */
static void mark_publish(const struct vqueue_info *vq, uint16_t first)
{
	if (vq->packed)
		mark_entry(vq, first);
	else
		vq_dirty_ring(vq, offsetof(struct vring_used, idx), sizeof(uint16_t));
}

static bool tracked_publish(struct vqueue_info *vq, bool used_all)
{
	bool something = vq->packed ? vq->batch_descs : vq->published != vq->used_idx;
	uint16_t first = vq->published;
	bool notify;

	if (vq->inflight)
		vq_inflight_publish(vq);
	notify = vq_ring_ops(vq)->publish(vq, used_all);
	if (vq->dirty && something)
		mark_publish(vq, first);
	if (vq->inflight)
		vq_inflight_published(vq);
	return notify;
}

/* Without take_back: nobody else can run such a queue. */
static const struct vq_ops vq_tracked_ops = {
	.name = "tracked",
	.enable = tracked_enable,
	.has_descs = tracked_has_descs,
	.has_new = tracked_has_new,
	.set_polled = tracked_set_polled,
	.pop = tracked_pop,
	.unpop = tracked_unpop,
	.push = tracked_push,
	.publish = tracked_publish,
};

void vq_choose_ops(struct vqueue_info *vq)
{
	vq->ops = vq->inflight || vq->dirty ? &vq_tracked_ops : vq_ring_ops(vq);
}
