/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests of virtio-blk (virtio 1.4, 5.2.6): they go to the block back end as they come and come
 * back in any order; what each needs until then is set aside per queue when the device is made.
 * All of it runs with the queue's lock held.
 */
#include "virtio_blk.h"

#include <errno.h>

/* ---- Completion ---- */

static void blk_request_put(struct blk_request *request)
{
	struct blk_queue *queue = request->queue;

	request->next_free = queue->free;
	queue->free = request;
	queue->in_flight--;
}

/*
 * It waited for its turn under a limit, so nothing was done for it and no chain was taken after it: it
 * is in the ring as if it had not been taken.
 */
static void blk_put_back(struct blk_request *request)
{
	struct blk_queue *queue = request->queue;

	if (!queue->dropping)
		vq_retchain(queue->vq);
	blk_request_put(request);
}

/*
 * @data_len bytes of data were written from the start of the writable part on. The status byte
 * counts only if no gap lies before it (virtio 1.4, 2.7.8.2).
 */
static void blk_complete(struct blk_request *request, uint8_t status, uint64_t data_len)
{
	struct blk_queue *queue = request->queue;
	uint64_t len = data_len == request->in_len - 1 ? request->in_len : data_len;

	if (!queue->dropping) {
		*request->status = status;
		vq_relchain(queue->vq, request->idx, (uint32_t)MIN(len, UINT32_MAX));
		queue->used = true;
	}
	blk_request_put(request);
}

/* Notify once for all that was completed in one go. */
static void blk_batch_end(void *arg)
{
	struct blk_queue *queue = arg;

	if (!queue->used)
		return;
	queue->used = false;
	vq_endchains(queue->vq, !queue->in_flight);
}

/* ---- Requests ---- */

/* What starts a request returns the status to complete it with, or that this is taken care of. */
#define BLK_STARTED 0xff

static uint8_t blk_submit(struct virtio_blk *blk, struct blk_request *request, enum block_op op,
			  uint64_t sector, uint64_t length)
{
	if (sector > UINT64_MAX / SECTOR_SIZE || length % SECTOR_SIZE)
		return VIRTIO_BLK_S_IOERR;
	request->io.op = op;
	request->io.continues = request->segment;
	request->io.offset = sector * SECTOR_SIZE;
	request->io.length = length;
	/* In writethrough mode a write is stable once it is completed (virtio 1.4, 5.2.6.2). */
	request->io.sync = !blk->config->wce;
	block_submit(request->queue->io, &request->io);
	return BLK_STARTED;
}

static uint8_t blk_read(struct virtio_blk *blk, struct blk_request *request,
			const struct vq_chain *chain, uint64_t sector)
{
	int count = iov_slice(chain->iov + chain->out_count, chain->in_count, 0, chain->in_len - 1,
			      request->payload->iov, BLK_IOVS);

	if (count < 0)
		return VIRTIO_BLK_S_IOERR;
	request->io.iov_count = count;
	return blk_submit(blk, request, BLOCK_READ, sector, chain->in_len - 1);
}

/* To a read-only image the back end refuses it, and IOERR it is (virtio 1.4, 5.2.6.2). */
static uint8_t blk_write(struct virtio_blk *blk, struct blk_request *request,
			 const struct vq_chain *chain, uint64_t sector)
{
	const uint64_t header = sizeof(struct virtio_blk_outhdr), length = chain->out_len - header;
	int count = iov_slice(chain->iov, chain->out_count, header, length, request->payload->iov,
			      BLK_IOVS);

	if (count < 0)
		return VIRTIO_BLK_S_IOERR;
	request->io.iov_count = count;
	return blk_submit(blk, request, BLOCK_WRITE, sector, length);
}

static uint8_t blk_flush(struct virtio_blk *blk, struct blk_request *request,
			 const struct vq_chain *chain, uint64_t sector)
{
	return blk_submit(blk, request, BLOCK_FLUSH, 0, 0);
}

/* Flags are looked at first: an unknown one may change what the rest means. */
static uint8_t blk_check_segment(const struct virtio_blk *blk,
				 const struct virtio_blk_discard_write_zeroes *segment,
				 uint32_t flags, uint64_t sectors_max)
{
	if (segment->flags & ~flags)
		return VIRTIO_BLK_S_UNSUPP;
	if (segment->num_sectors > sectors_max ||
	    !range_contains(0, blk->config->capacity, segment->sector, segment->num_sectors))
		return VIRTIO_BLK_S_IOERR;
	return VIRTIO_BLK_S_OK;
}

/* Copy the segments and check all before anything is done for the first. */
static uint8_t blk_get_segments(const struct virtio_blk *blk, struct blk_request *request,
				const struct vq_chain *chain, unsigned int count_max,
				uint32_t flags, uint64_t sectors_max)
{
	const uint64_t header = sizeof(struct virtio_blk_outhdr), length = chain->out_len - header;
	const size_t size = sizeof(request->payload->segments[0]);
	uint8_t status = VIRTIO_BLK_S_OK;

	if (!length || length % size || length > count_max * size)
		return VIRTIO_BLK_S_IOERR;
	request->segment = 0;
	request->segment_count = (unsigned int)(length / size);
	iov_to_buf(chain->iov, chain->out_count, header, request->payload->segments, length);
	for (unsigned int i = 0; i < request->segment_count && status == VIRTIO_BLK_S_OK; i++)
		status = blk_check_segment(blk, &request->payload->segments[i], flags, sectors_max);
	return status;
}

static uint8_t blk_start_segment(struct virtio_blk *blk, struct blk_request *request,
				 enum block_op op)
{
	const struct virtio_blk_discard_write_zeroes *segment =
		&request->payload->segments[request->segment];

	request->io.unmap = segment->flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	return blk_submit(blk, request, op, segment->sector, segment->num_sectors * SECTOR_SIZE);
}

static uint8_t blk_discard(struct virtio_blk *blk, struct blk_request *request,
			   const struct vq_chain *chain, uint64_t sector)
{
	uint8_t status = VIRTIO_BLK_S_UNSUPP;

	/* No flag is known for discard, and unmap has no place there (virtio 1.4, 5.2.6.2). */
	if (virtio_has_feature(&blk->vc, VIRTIO_BLK_F_DISCARD))
		status = blk_get_segments(blk, request, chain, BLK_DISCARD_SEGMENTS, 0,
					  BLK_DISCARD_SECTORS);
	return status ? status : blk_start_segment(blk, request, BLOCK_DISCARD);
}

static uint8_t blk_write_zeroes(struct virtio_blk *blk, struct blk_request *request,
				const struct vq_chain *chain, uint64_t sector)
{
	uint8_t status = VIRTIO_BLK_S_UNSUPP;

	if (virtio_has_feature(&blk->vc, VIRTIO_BLK_F_WRITE_ZEROES))
		status = blk_get_segments(blk, request, chain, BLK_ZEROES_SEGMENTS,
					  VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP, BLK_ZEROES_SECTORS);
	return status ? status : blk_start_segment(blk, request, BLOCK_WRITE_ZEROES);
}

/* The next segment, or the end of the request. */
void blk_io_done(struct block_request *io, int error)
{
	struct blk_request *request = io->arg;
	struct virtio_blk *blk = request->queue->blk;
	uint8_t status = VIRTIO_BLK_S_OK;

	if (io->cancelled) {
		blk_put_back(request);
		return;
	}
	if (error)
		status = error == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR;
	else if (++request->segment < request->segment_count && !request->queue->dropping)
		status = blk_start_segment(blk, request, io->op);
	if (status != BLK_STARTED)
		blk_complete(request, status, io->op == BLOCK_READ && !error ? io->length : 0);
}

/* The serial number, not NUL-terminated if it takes all of the 20 bytes (virtio 1.4, 5.2.6). */
static uint8_t blk_get_id(struct virtio_blk *blk, struct blk_request *request,
			  const struct vq_chain *chain, uint64_t sector)
{
	const uint64_t room = chain->in_len - 1;
	char id[VIRTIO_BLK_ID_BYTES] = {};
	size_t len = (size_t)MIN(room, sizeof(id));

	if (blk->serial)
		memcpy(id, blk->serial, MIN(strlen(blk->serial), sizeof(id)));
	iov_from_buf(chain->iov + chain->out_count, chain->in_count, 0, id, len);
	blk_complete(request, VIRTIO_BLK_S_OK, len);
	return BLK_STARTED;
}

/* By type; NULL: no such thing. */
static uint8_t (*const blk_starters[])(struct virtio_blk *blk, struct blk_request *request,
				       const struct vq_chain *chain, uint64_t sector) = {
	[VIRTIO_BLK_T_IN] = blk_read,	      [VIRTIO_BLK_T_OUT] = blk_write,
	[VIRTIO_BLK_T_FLUSH] = blk_flush,     [VIRTIO_BLK_T_GET_ID] = blk_get_id,
	[VIRTIO_BLK_T_DISCARD] = blk_discard, [VIRTIO_BLK_T_WRITE_ZEROES] = blk_write_zeroes,
};

/* ---- The queue ---- */

static struct blk_request *blk_request_get(struct blk_queue *queue, const struct vq_chain *chain)
{
	struct blk_request *request = queue->free;
	int last = chain->out_count + chain->in_count - 1;

	while (!chain->iov[last].iov_len)
		last--;
	queue->free = request->next_free;
	queue->in_flight++;
	request->idx = chain->idx;
	request->status = (uint8_t *)chain->iov[last].iov_base + chain->iov[last].iov_len - 1;
	request->in_len = chain->in_len;
	request->segment_count = 0;
	request->segment = 0;
	return request;
}

static void blk_start(struct blk_queue *queue, const struct vq_chain *chain)
{
	struct blk_request *request = blk_request_get(queue, chain);
	uint8_t status = VIRTIO_BLK_S_UNSUPP;
	struct virtio_blk_outhdr header;

	iov_to_buf(chain->iov, chain->out_count, 0, &header, sizeof(header));
	if (header.type < ARRAY_SIZE(blk_starters) && blk_starters[header.type])
		status = blk_starters[header.type](queue->blk, request, chain, header.sector);
	if (status != BLK_STARTED)
		blk_complete(request, status, 0);
}

/* A chain that is no request at all leaves no place to say so. */
static bool blk_is_request(struct blk_queue *queue, const struct vq_chain *chain)
{
	if (chain->out_len >= sizeof(struct virtio_blk_outhdr) && chain->in_len)
		return true;
	virtio_device_error(
		&queue->blk->vc, queue->vq,
		"%llu readable and %llu writable bytes hold no header and status (5.2.6)",
		(unsigned long long)chain->out_len, (unsigned long long)chain->in_len);
	return false;
}

/*
 * Start what the next chains ask for; how many. @left: no chain is shown as used before qnotify
 * ends, so an honest driver has no more than the ring takes; one who adds them endlessly is stopped
 * here.
 */
static int blk_start_some(struct blk_queue *queue, unsigned int left)
{
	unsigned int room = MIN(left, queue->vq->size_max - queue->in_flight);
	unsigned int batch = MIN(block_room(queue->io), (unsigned int)BLK_BATCH);
	int count;

	if (!room) {
		if (vq_has_descs(queue->vq))
			virtio_device_error(
				&queue->blk->vc, queue->vq,
				"more requests at a time than the ring has entries (2.7.13)");
		return 0;
	}
	count = vq_getchains(queue->vq, queue->chains, (int)MIN(room, batch), queue->chain_iov,
			     BLK_IOVS);
	for (int i = 0; i < count; i++) {
		if (!blk_is_request(queue, &queue->chains[i]))
			return 0;
		blk_start(queue, &queue->chains[i]);
	}
	return MAX(count, 0);
}

static void blk_start_all(struct blk_queue *queue)
{
	unsigned int left = queue->vq->size;
	int count;

	do {
		count = blk_start_some(queue, left);
		left -= (unsigned int)count;
	} while (count);
}

void blk_qnotify(void *dev, struct vqueue_info *vq)
{
	struct virtio_blk *blk = dev;
	struct blk_queue *queue = blk->queues[vq->index];

	blk_start_all(queue);
	block_kick(queue->io);
	blk_batch_end(queue);
}

/* What a limit left in the ring goes on. */
static void blk_room(void *arg)
{
	blk_start_all(arg);
	blk_batch_end(arg);
}

const struct block_queue_ops blk_queue_ops = { .batch_end = blk_batch_end, .room = blk_room };
