/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * dirty_log.h: pages of the guest that a device has written, as bits in memory shared with whoever
 * migrates the guest (vhost-user LOG_SHMFD): bit n is the page at n * 4096.
 *
 * A page is marked after it was written, and what a chain carries before the driver sees it used: so
 * what a device that is killed has not marked, its successor writes again. Queues that the kernel
 * runs (vqueue_info.offloaded) are not logged here.
 */
#ifndef TENON_DIRTY_LOG_H
#define TENON_DIRTY_LOG_H

#include "virtio.h"

#define DIRTY_LOG_PAGE 4096

/** struct dirty_log - @bits: @size bytes; the caller's. Several queues share one. */
struct dirty_log {
	uint8_t *bits;
	uint64_t size;
};

/** dirty_log_mark() - [@gpa, @gpa + @len) was written; what lies beyond the log is left out. Any thread. */
void dirty_log_mark(const struct dirty_log *log, uint64_t gpa, uint64_t len);

/**
 * vq_set_dirty_log() - mark in @log what the device writes by way of @vq: the buffers of chains when
 * they are given back, and the ring. The device has no chain of @vq. NULL: no more.
 * @ring_gpa: what to log the used ring (packed: the descriptor ring, as a rule vq->desc_addr) as;
 *            UINT64_MAX: do not. A packed ring's event area is logged where it is
 *
 * The ring is marked as a whole at once: who had it before may have died between write and mark.
 * Return: 0, -ENOMEM, or -EBUSY: the device has a chain. vc->lock and the queue's lock held.
 */
int vq_set_dirty_log(struct vqueue_info *vq, const struct dirty_log *log,
		     uint64_t ring_gpa) __must_check;

/** vq_dirty_forget() - log no more, whatever the device has. */
void vq_dirty_forget(struct vqueue_info *vq);

/* Called by the rings where vq->dirty is set; the queue's lock held. */

#define VQ_DIRTY_NONE (-1)

/** vq_dirty_add() - the chain being taken may write here; _taken(): it is @idx; VQ_DIRTY_NONE: it is not taken. */
void vq_dirty_add(struct vqueue_info *vq, uint64_t gpa, uint32_t len);
void vq_dirty_taken(struct vqueue_info *vq, int idx);

/**
 * vq_dirty_used() - the writable part of @idx was written: all of it, since the length that a device
 * uses it with ends at the first gap (virtio 1.4, 2.7.8.2), and a status may be behind that.
 */
void vq_dirty_used(struct vqueue_info *vq, uint16_t idx);

/** vq_dirty_ring() - @len bytes at @offset of the used ring (packed: the descriptor ring) were written. */
void vq_dirty_ring(const struct vqueue_info *vq, uint64_t offset, uint64_t len);

/** vq_dirty_whole_ring() - all of it, and the event suppression structure. */
void vq_dirty_whole_ring(const struct vqueue_info *vq);

/** vq_dirty_event() - packed: the device's event suppression structure was written. */
void vq_dirty_event(const struct vqueue_info *vq);

#endif
