/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-blk: a disk (virtio 1.4, 5.2). Requests go to the block back end as they come and come
 * back in any order; what each needs until then is set aside per queue when the device is made.
 */
#include <errno.h>
#include <linux/virtio_blk.h>
#include <stdlib.h>

#include "block_backend.h"
#include "virtio.h"

#define BLK_QUEUE_SIZE 256
#define BLK_QUEUES_MAX 16
#define BLK_SEG_MAX (BLK_QUEUE_SIZE - 2) /* a chain is header, data and status */
/* Room for a header in 16 pieces, and for what crosses from one RAM region to the next. */
#define BLK_IOVS (BLK_SEG_MAX + 1 + (int)sizeof(struct virtio_blk_outhdr) + GUEST_MEMORY_REGIONS)
#define SECTOR_SIZE UINT64_C(512) /* the unit of all sector numbers, whatever blk_size is (5.2.4) */

#define BLK_DISCARD_SEGMENTS 16
#define BLK_DISCARD_SECTORS (GIB(2) / SECTOR_SIZE)
#define BLK_ZEROES_SEGMENTS 1
#define BLK_ZEROES_SECTORS (MIB(64) / SECTOR_SIZE) /* may have to be written */

#define BLK_CONFIG_SIZE (offsetof(struct virtio_blk_config, unused1) + 3)

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
 * struct blk_queue - what belongs to one virtqueue.
 * @requests, @payloads: as many as the ring has entries
 * @used: chains were used since the last vq_endchains()
 * @dropping: what completes now is not to be shown to the driver
 */
struct blk_queue {
	struct vqueue_info *vq;
	struct blk_request *requests, *free;
	union blk_payload *payloads;
	unsigned int in_flight;
	bool used;
	bool dropping;
};

/* As in the choices of "cache". */
enum blk_cache { BLK_WRITEBACK, BLK_WRITETHROUGH };

struct virtio_blk {
	struct virtio_common vc;
	char *path, *serial;
	bool read_only, direct;
	uint64_t queue_count, threads;
	unsigned int cache; /* enum blk_cache */

	struct block_backend *block;
	struct virtio_blk_config *config; /* vc.config */
	struct blk_queue queues[BLK_QUEUES_MAX];
	struct iovec chain_iov[BLK_IOVS]; /* of the chain looked at */
};

/* ---- Completion ---- */

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
	request->next_free = queue->free;
	queue->free = request;
	queue->in_flight--;
}

/* Notify once for all that was completed in one go. */
static void blk_batch_end(void *arg)
{
	struct virtio_blk *blk = arg;

	for (unsigned int i = 0; i < blk->queue_count; i++) {
		struct blk_queue *queue = &blk->queues[i];

		if (!queue->used)
			continue;
		queue->used = false;
		vq_endchains(queue->vq, !queue->in_flight);
	}
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
	request->io.offset = sector * SECTOR_SIZE;
	request->io.length = length;
	/* In writethrough mode a write is stable once it is completed (virtio 1.4, 5.2.6.2). */
	request->io.sync = !blk->config->wce;
	block_submit(blk->block, &request->io);
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
static void blk_io_done(struct block_request *io, int error)
{
	struct blk_request *request = io->arg;
	struct virtio_blk *blk = container_of(request->queue->vq->vc, struct virtio_blk, vc);
	uint8_t status = VIRTIO_BLK_S_OK;

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

static const struct blk_request_type {
	uint32_t type;
	uint8_t (*start)(struct virtio_blk *blk, struct blk_request *request,
			 const struct vq_chain *chain, uint64_t sector);
} blk_request_types[] = {
	/* clang-format off */
	{ VIRTIO_BLK_T_IN, blk_read },
	{ VIRTIO_BLK_T_OUT, blk_write },
	{ VIRTIO_BLK_T_FLUSH, blk_flush },
	{ VIRTIO_BLK_T_GET_ID, blk_get_id },
	{ VIRTIO_BLK_T_DISCARD, blk_discard },
	{ VIRTIO_BLK_T_WRITE_ZEROES, blk_write_zeroes },
	/* clang-format on */
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

static void blk_start(struct virtio_blk *blk, struct blk_queue *queue, const struct vq_chain *chain)
{
	struct blk_request *request = blk_request_get(queue, chain);
	uint8_t status = VIRTIO_BLK_S_UNSUPP;
	struct virtio_blk_outhdr header;

	iov_to_buf(chain->iov, chain->out_count, 0, &header, sizeof(header));
	for (size_t i = 0; i < ARRAY_SIZE(blk_request_types); i++)
		if (blk_request_types[i].type == header.type)
			status = blk_request_types[i].start(blk, request, chain, header.sector);
	if (status != BLK_STARTED)
		blk_complete(request, status, 0);
}

/*
 * The next chain, or false. @left: no chain is shown as used before qnotify ends, so an honest
 * driver has no more than the ring takes; one who adds them endlessly is stopped here. A chain
 * that is no request at all leaves no place to say so.
 */
static bool blk_next_chain(struct virtio_blk *blk, struct blk_queue *queue, unsigned int left,
			   struct vq_chain *chain)
{
	if (!vq_has_descs(queue->vq))
		return false;
	if (!left || !queue->free) {
		virtio_device_error(&blk->vc, queue->vq,
				    "more requests at a time than the ring has entries (2.7.13)");
		return false;
	}
	if (vq_pop(queue->vq, chain, blk->chain_iov, BLK_IOVS) <= 0)
		return false;
	if (chain->out_len >= sizeof(struct virtio_blk_outhdr) && chain->in_len)
		return true;
	virtio_device_error(
		&blk->vc, queue->vq,
		"%llu readable and %llu writable bytes hold no header and status (5.2.6)",
		(unsigned long long)chain->out_len, (unsigned long long)chain->in_len);
	return false;
}

static void blk_qnotify(void *dev, struct vqueue_info *vq)
{
	struct virtio_blk *blk = dev;
	struct blk_queue *queue = &blk->queues[vq->index];
	unsigned int left = vq->size;
	struct vq_chain chain;

	while (blk_next_chain(blk, queue, left, &chain)) {
		blk_start(blk, queue, &chain);
		left--;
	}
	block_kick(blk->block);
	blk_batch_end(blk);
}

/* ---- Configuration ---- */

static void blk_apply_features(void *dev)
{
	struct virtio_blk *blk = dev;
	bool flush = virtio_has_feature(&blk->vc, VIRTIO_BLK_F_FLUSH);

	/* Who cannot flush, and has no say in it, gets writethrough (virtio 1.4, 5.2.6.2). */
	if (!virtio_has_feature(&blk->vc, VIRTIO_BLK_F_CONFIG_WCE))
		blk->config->wce = flush;
	else if (!flush && !blk->vc.legacy_driver) /* 5.2.5.2; not for legacy, 5.2.5.3 */
		blk->config->wce = 0;
}

/* The cache mode is all that a driver can write (virtio 1.4, 5.2.5.1). */
static void blk_cfgwrite(void *dev, uint32_t offset, uint32_t size, uint32_t value)
{
	const uint32_t wce = offsetof(struct virtio_blk_config, wce);
	struct virtio_blk *blk = dev;

	if (!virtio_has_feature(&blk->vc, VIRTIO_BLK_F_CONFIG_WCE) ||
	    !range_contains(offset, size, wce, 1))
		return;
	blk->config->wce = (uint8_t)(value >> (8 * (wce - offset))) != 0;
}

static void blk_set_capacity(struct virtio_blk *blk)
{
	struct block_info info;

	block_get_info(blk->block, &info);
	blk->config->capacity =
		info.size / info.logical_block_size * (info.logical_block_size / SECTOR_SIZE);
}

static void blk_resized(void *arg)
{
	struct virtio_blk *blk = arg;

	blk_set_capacity(blk);
	virtio_config_changed(&blk->vc); /* virtio 1.4, 5.2.6.2 */
}

static void blk_fill_config(struct virtio_blk *blk)
{
	struct virtio_blk_config *config = blk->config;
	struct block_info info;

	block_get_info(blk->block, &info);
	blk_set_capacity(blk);
	/* A chain is no longer than the ring (virtio 1.4, 2.7.5.3.1). */
	config->seg_max = (uint32_t)MAX(MIN(blk->vc.vqs[0].size_max - 2, BLK_SEG_MAX), 1);
	config->blk_size = info.logical_block_size;
	config->min_io_size = (uint16_t)(info.physical_block_size / info.logical_block_size);
	config->physical_block_exp = (uint8_t)__builtin_ctz(config->min_io_size);
	config->wce = blk->cache == BLK_WRITEBACK;
	config->num_queues = (uint16_t)blk->queue_count;
	if (info.read_only)
		return;
	config->max_write_zeroes_sectors = BLK_ZEROES_SECTORS;
	config->max_write_zeroes_seg = BLK_ZEROES_SEGMENTS;
	if (!info.can_discard)
		return;
	config->write_zeroes_may_unmap = 1;
	config->max_discard_sectors = BLK_DISCARD_SECTORS;
	config->max_discard_seg = BLK_DISCARD_SEGMENTS;
	config->discard_sector_alignment = info.physical_block_size / (uint32_t)SECTOR_SIZE;
}

static void blk_offer_features(struct virtio_blk *blk)
{
	struct block_info info;

	block_get_info(blk->block, &info);
	if (blk->queue_count > 1)
		virtio_offer(&blk->vc, VIRTIO_BLK_F_MQ);
	/* Without both, the cache is writethrough (virtio 1.4, 5.2.6.2). */
	if (blk->cache == BLK_WRITEBACK) {
		virtio_offer(&blk->vc, VIRTIO_BLK_F_FLUSH);
		virtio_offer(&blk->vc, VIRTIO_BLK_F_CONFIG_WCE);
	}
	if (info.read_only)
		virtio_offer(&blk->vc, VIRTIO_BLK_F_RO);
	else
		virtio_offer(&blk->vc, VIRTIO_BLK_F_WRITE_ZEROES);
	if (info.can_discard)
		virtio_offer(&blk->vc, VIRTIO_BLK_F_DISCARD);
}

/* ---- Life cycle ---- */

/* Wait for all requests; those of queues that are @dropping go unseen by the driver. */
static void blk_drop(struct virtio_blk *blk, const struct vqueue_info *only)
{
	for (unsigned int i = 0; i < blk->queue_count; i++)
		blk->queues[i].dropping = !only || only->index == i;
	block_drain(blk->block);
	for (unsigned int i = 0; i < blk->queue_count; i++)
		blk->queues[i].dropping = false;
}

static void blk_reset(void *dev)
{
	struct virtio_blk *blk = dev;

	blk_drop(blk, NULL);
	blk->config->wce = blk->cache == BLK_WRITEBACK;
}

static void blk_queue_reset(void *dev, struct vqueue_info *vq)
{
	blk_drop(dev, vq);
}

static void blk_quiesce(void *dev)
{
	struct virtio_blk *blk = dev;

	block_drain(blk->block);
}

static void blk_deinit(void *dev)
{
	struct virtio_blk *blk = dev;

	if (blk->block)
		blk_drop(blk, NULL);
	block_close(blk->block);
	blk->block = NULL;
	for (unsigned int i = 0; i < BLK_QUEUES_MAX; i++) {
		free(blk->queues[i].requests);
		free(blk->queues[i].payloads);
		blk->queues[i] = (struct blk_queue) { 0 };
	}
}

static int blk_queue_init(struct virtio_blk *blk, unsigned int index)
{
	struct blk_queue *queue = &blk->queues[index];

	queue->vq = &blk->vc.vqs[index];
	queue->requests = calloc(queue->vq->size_max, sizeof(*queue->requests));
	queue->payloads = calloc(queue->vq->size_max, sizeof(*queue->payloads));
	if (!queue->requests || !queue->payloads)
		return -ENOMEM;
	for (unsigned int i = 0; i < queue->vq->size_max; i++) {
		struct blk_request *request = &queue->requests[i];

		request->queue = queue;
		request->payload = &queue->payloads[i];
		request->io.iov = request->payload->iov;
		request->io.done = blk_io_done;
		request->io.arg = request;
		request->next_free = queue->free;
		queue->free = request;
	}
	return 0;
}

static int blk_init_queues(struct virtio_blk *blk)
{
	int error = virtio_set_queues(&blk->vc, (unsigned int)blk->queue_count);

	for (unsigned int i = 0; !error && i < blk->queue_count; i++)
		error = blk_queue_init(blk, i);
	if (error)
		log_error(blk->vc.log, "%s,queues=%llu: cannot make the queues: %s (try fewer)",
			  blk->vc.name, (unsigned long long)blk->queue_count, strerror(-error));
	return error;
}

static int blk_open_image(struct virtio_blk *blk)
{
	static const struct block_ops ops = { .resized = blk_resized, .batch_end = blk_batch_end };
	const struct block_config config = {
		.path = blk->path,
		.read_only = blk->read_only,
		.direct = blk->direct,
		.threads = (unsigned int)blk->threads,
	};

	blk->block = block_open(blk->vc.log, blk->vc.name, &config, blk->vc.loop, blk->vc.lock,
				&ops, blk);
	return blk->block ? 0 : -errno;
}

static int blk_init(void *dev)
{
	struct virtio_blk *blk = dev;
	int error;

	blk->config = (struct virtio_blk_config *)blk->vc.config;
	if (blk->serial && strlen(blk->serial) > VIRTIO_BLK_ID_BYTES) {
		log_error(blk->vc.log, "%s,serial=%s: longer than %d bytes (shorten it)",
			  blk->vc.name, blk->serial, VIRTIO_BLK_ID_BYTES);
		return -EINVAL;
	}
	error = blk_open_image(blk);
	if (!error)
		error = blk_init_queues(blk);
	if (error) {
		blk_deinit(blk);
		return error;
	}
	blk_fill_config(blk);
	blk_offer_features(blk);
	return 0;
}

/* clang-format off */
#define BLK(member) .offset = offsetof(struct virtio_blk, member)

static const struct option_desc blk_options[] = {
	{ "path", OPTION_STRING, OPTION_POSITIONAL | OPTION_REQUIRED, BLK(path),
	  .help = "raw image file or block device" },
	{ "ro", OPTION_BOOL, BLK(read_only),
	  .help = "attach it read-only; several VMs may then share it" },
	{ "direct", OPTION_BOOL, BLK(direct), .help = "bypass the host's page cache (O_DIRECT)" },
	{ "cache", OPTION_ENUM, BLK(cache), .def = "writeback", .choices = "writeback|writethrough",
	  .help = "writethrough: a write is done when it is on the disk, and the guest cannot change that" },
	{ "serial", OPTION_STRING, BLK(serial),
	  .help = "serial number that the guest sees, up to 20 bytes" },
	{ "queues", OPTION_UINT, BLK(queue_count), .def = "1", .min = 1, .max = BLK_QUEUES_MAX,
	  .help = "request queues" },
	{ "threads", OPTION_UINT, BLK(threads), .def = "4", .min = 1, .max = BLOCK_THREADS_MAX,
	  .help = "host threads that do the I/O" },
	{},
};

/* Nothing is in flight when it is saved; all that a driver can change is the cache mode. */
static const struct state_field blk_config_state[] = {
	{ STATE_FIELD(struct virtio_blk_config, wce), .max = 1 },
	{ STATE_FIELD(struct virtio_blk_config, capacity), .match = true,
	  .hint = "attach the image that it was saved with" },
	{ STATE_FIELD(struct virtio_blk_config, blk_size), .match = true },
	{},
};

VIRTIO_DEVICE(virtio_blk, {
	.name = "virtio-blk", .summary = "disk from a raw image file or a block device of the host",
	.device_id = VIRTIO_ID_BLOCK, .nvq = 1, .queue_size = BLK_QUEUE_SIZE,
	.priv_size = sizeof(struct virtio_blk), .cfgsize = BLK_CONFIG_SIZE,
	.features.bits[0] = BIT64(VIRTIO_BLK_F_SEG_MAX) | BIT64(VIRTIO_BLK_F_BLK_SIZE) |
			    BIT64(VIRTIO_BLK_F_TOPOLOGY),
	.options = blk_options,
	.init = blk_init, .deinit = blk_deinit, .reset = blk_reset,
	.quiesce = blk_quiesce, .qnotify = blk_qnotify, .queue_reset = blk_queue_reset,
	.cfgwrite = blk_cfgwrite, .apply_features = blk_apply_features,
	.config_state = blk_config_state,
});
/* clang-format on */
