/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Between the parts of virtio-blk: the device (virtio_blk.c) and its requests (virtio_blk_request.c).
 */
#ifndef TENON_VIRTIO_BLK_H
#define TENON_VIRTIO_BLK_H

#include <linux/virtio_blk.h>

#include "block_backend.h"
#include "virtio.h"

#define BLK_QUEUE_SIZE 256
#define BLK_QUEUES_MAX 16
#define BLK_SEG_MAX (BLK_QUEUE_SIZE - 2) /* a chain is header, data and status */
/* Room for a header in 16 pieces, and for what crosses from one RAM region to the next. */
#define BLK_IOVS (BLK_SEG_MAX + 1 + (int)sizeof(struct virtio_blk_outhdr) + GUEST_MEMORY_REGIONS)
#define BLK_BATCH 32 /* chains looked at together */
#define SECTOR_SIZE UINT64_C(512) /* the unit of all sector numbers, whatever blk_size is (5.2.4) */

#define BLK_DISCARD_SEGMENTS 16
#define BLK_DISCARD_SECTORS (GIB(2) / SECTOR_SIZE)
#define BLK_ZEROES_SEGMENTS 1
#define BLK_ZEROES_SECTORS (MIB(64) / SECTOR_SIZE) /* may have to be written */

/* union blk_payload - what a request has besides its header: data, or ranges to work on. */
union blk_payload {
	struct iovec iov[BLK_IOVS];
	struct virtio_blk_discard_write_zeroes segments[BLK_DISCARD_SEGMENTS];
};

/*
 * struct blk_request - a chain on its way through the back end.
 * @status: the last writable byte of the chain
 * @in_len: writable bytes of the chain, status included
 * @segment, @segment_count: of @payload's segments, done one after the other, the present one
 */
struct blk_request {
	struct block_request io;
	struct blk_queue *queue;
	struct blk_request *next_free;
	uint16_t idx;
	uint8_t *status;
	uint64_t in_len;
	unsigned int segment, segment_count;
	union blk_payload *payload;
};

/*
 * struct blk_queue - what belongs to one virtqueue; all of it under vq->lock.
 * @requests, @payloads: as many as the ring has entries
 * @used: chains were used since the last vq_endchains()
 * @dropping: what completes now is not to be shown to the driver
 * @chains, @chain_iov: those looked at
 */
struct blk_queue {
	struct virtio_blk *blk;
	struct vqueue_info *vq;
	struct block_queue *io;
	struct blk_request *requests, *free;
	union blk_payload *payloads;
	unsigned int in_flight;
	bool used;
	bool dropping;
	struct vq_chain chains[BLK_BATCH];
	struct iovec chain_iov[BLK_IOVS];
};

/* As in the choices of "cache". */
enum blk_cache { BLK_WRITEBACK, BLK_WRITETHROUGH };

/* What queues of several threads read of it changes only while the locks of all are held. */
struct virtio_blk {
	struct virtio_common vc;
	char *path, *serial;
	bool read_only, direct, pin;
	uint64_t queue_count, threads;
	unsigned int cache; /* enum blk_cache */
	unsigned int engine; /* enum block_engine */
	uint64_t iops, iops_burst, bps, bps_burst;

	struct block_backend *block;
	struct virtio_blk_config *config; /* vc.config */
	struct blk_queue *queues[BLK_QUEUES_MAX];
};

/* blk_io_done() - done() of every request of the back end. */
void blk_io_done(struct block_request *io, int error);

extern const struct block_queue_ops blk_queue_ops; /* of a blk_queue */

void blk_qnotify(void *dev, struct vqueue_info *vq);

#endif
