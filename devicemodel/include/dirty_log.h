/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * dirty_log.h: pages of the guest that a device has written, as bits in memory shared with whoever
 * migrates the guest (vhost-user LOG_SHMFD): bit n is the page at n * 4096.
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
 * @ring_gpa: what to log the used ring (packed: the descriptor ring) as; UINT64_MAX: do not
 * Return: 0 or -ENOMEM. vc->lock and the queue's lock held.
 */
int vq_set_dirty_log(struct vqueue_info *vq, const struct dirty_log *log,
		     uint64_t ring_gpa) __must_check;

/* Called by vq.c where vq->dirty is set; the queue's lock held. */

/** vq_dirty_taken() - remember what of guest memory @idx may write: @chain was just taken. */
void vq_dirty_add(struct vqueue_info *vq, uint64_t gpa, uint32_t len);
void vq_dirty_taken(struct vqueue_info *vq, uint16_t idx);

/** vq_dirty_used() - @len bytes of the writable part of @idx were written; the ring's entry too. */
void vq_dirty_used(struct vqueue_info *vq, uint16_t idx, uint32_t len);

/** vq_dirty_ring() - @len bytes at @offset of the used ring (device area) were written. */
void vq_dirty_ring(struct vqueue_info *vq, uint64_t offset, uint64_t len);

#endif
