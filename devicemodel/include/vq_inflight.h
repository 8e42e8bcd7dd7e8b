/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * vq_inflight.h: which chains of a queue the device has, written to memory that outlives it, so that
 * its successor can carry them out again, each exactly once (vhost-user, "Inflight I/O tracking").
 *
 * The memory is shared with the front end: it is as hostile as a driver. What is read of it is
 * read once and checked.
 */
#ifndef TENON_VQ_INFLIGHT_H
#define TENON_VQ_INFLIGHT_H

#include "virtio.h"

struct vq_inflight;

/** vq_inflight_size() - bytes of the region of one queue of @size entries, 64-byte aligned. */
uint64_t vq_inflight_size(uint16_t size, bool packed);

/**
 * vq_inflight_attach() - track @vq in the region at @memory from now on, and first take from it the
 * chains that a device before us had: vq_has_descs() and vq_getchains() give those again, oldest
 * first, before any new one.
 * @vq: enabled (its ring is mapped), not running yet; the device has no chain
 * @memory: vq_inflight_size() bytes, zero when new; the caller's, until vq_inflight_detach()
 * Return: 0, -EINVAL: the region was made for another queue (size, format); -EBADMSG: it contradicts
 * itself or the ring; -ENOMEM. vc->lock and the queue's lock held.
 */
int vq_inflight_attach(struct vqueue_info *vq, void *memory, uint64_t size) __must_check;

/** vq_inflight_detach() - forget the region, which stays as it is. Harmless without one. */
void vq_inflight_detach(struct vqueue_info *vq);

/* Called by vq.c where vq->inflight is set; the queue's lock held. */

/** vq_inflight_taken() - the device has taken the chain of slot @idx. */
void vq_inflight_taken(struct vqueue_info *vq, uint16_t idx);

/** vq_inflight_put_back() - vq_retchain() of @idx. */
void vq_inflight_put_back(struct vqueue_info *vq, uint16_t idx);

/** vq_inflight_used() - @idx was written to the used ring, which does not show it yet. */
void vq_inflight_used(struct vqueue_info *vq, uint16_t idx);

/** vq_inflight_publish() - the used ring is about to show what was used; and _published(): it does. */
void vq_inflight_publish(struct vqueue_info *vq);
void vq_inflight_published(struct vqueue_info *vq);

#endif
