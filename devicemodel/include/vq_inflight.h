/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * vq_inflight.h: which chains of a queue the device has, written to memory that outlives it, so that
 * its successor can carry them out again, each exactly once (vhost-user, "Inflight I/O tracking").
 * The layout is that document's: regions of other back ends can be gone on with, and they with ours.
 *
 * The memory is shared with the front end: it is as hostile as a driver. What is read of it is
 * read once and checked. Queues that the kernel runs (vqueue_info.offloaded) are not tracked.
 */
#ifndef TENON_VQ_INFLIGHT_H
#define TENON_VQ_INFLIGHT_H

#include "virtio.h"

struct vring_packed_desc;

/** vq_inflight_size() - bytes of the region of one queue of @size entries, 64-byte aligned. */
uint64_t vq_inflight_size(uint16_t size, bool packed);

/**
 * vq_inflight_attach() - track @vq in the region at @memory from now on, and first take from it the
 * chains that a device before us had: vq_has_descs() and vq_getchains() give those again, oldest
 * first, before any new one.
 * @vq: enabled (its ring is mapped), not running yet; the device has no chain
 * @memory, @size: the region: zero when new, but for desc_num, which may be set to more entries than
 *                 the queue uses; the caller's, until vq_inflight_detach()
 *
 * Where the ring goes on is what the ring and the region say, whatever the front end thinks
 * (SET_VRING_BASE): at the used index plus the chains in the region. The used index is the split
 * ring's own, the packed ring's is in the region. In a new region nobody has any chain: a split
 * ring goes on from its used index, a packed one from vq->used_idx and vq->used_wrap.
 *
 * The device before us may have died before it notified the driver. So attach notifies once;
 * who sets up the notifications (SET_VRING_CALL) only later does it then.
 *
 * Return: 0, -EINVAL: the region was made for another queue (size, format); -EBADMSG: it contradicts
 * itself or the ring; -ENOMEM. vc->lock and the queue's lock held.
 */
int vq_inflight_attach(struct vqueue_info *vq, void *memory, uint64_t size) __must_check;

/**
 * vq_inflight_detach() - forget the region, which stays as it is; the device has no chain. Harmless
 * without one. virtio_queue_restore() with a region keeps what is left over.
 */
void vq_inflight_detach(struct vqueue_info *vq);

/**
 * vq_inflight_left() - chains of a device before us that this one has not taken yet. While there are
 * any, the available index alone does not say what is still to be done (GET_VRING_BASE): only
 * the region does.
 */
unsigned int vq_inflight_left(const struct vqueue_info *vq);

/* Called by the rings where vq->inflight is set; the queue's lock held. */

/** vq_inflight_hold() - the ring is as new, and has place for the chains left over. */
void vq_inflight_hold(struct vqueue_info *vq);

/** vq_inflight_pop() - the next of the chains left over; as vq_ops.pop. */
const char *vq_inflight_pop(struct vqueue_info *vq, struct vq_chain *chain, int n_iov) __must_check;

/** vq_inflight_desc() - packed: @desc was read, part of the chain that is being taken. */
void vq_inflight_desc(struct vqueue_info *vq, const struct vring_packed_desc *desc);

/** vq_inflight_taken() - the device takes the new chain @idx; NULL, or the rule that the driver broke. */
const char *vq_inflight_taken(struct vqueue_info *vq, uint16_t idx) __must_check;

/** vq_inflight_not_taken() - what was read of a chain was for nothing. */
void vq_inflight_not_taken(struct vqueue_info *vq);

/** vq_inflight_put_back() - vq_retchain() of @idx. True: a chain left over, about which the ring knows nothing. */
bool vq_inflight_put_back(struct vqueue_info *vq, uint16_t idx) __must_check;

/** vq_inflight_used() - @idx is written to the used ring, which does not show it yet. */
void vq_inflight_used(struct vqueue_info *vq, uint16_t idx);

/** vq_inflight_publish() - the used ring is about to show what was used; and _published(): it does. */
void vq_inflight_publish(struct vqueue_info *vq);
void vq_inflight_published(struct vqueue_info *vq);

#endif
