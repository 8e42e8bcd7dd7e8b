/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-blk: a disk (virtio 1.4, 5.2): its options, its configuration and its life.
 */
#include "virtio_blk.h"

#include <errno.h>
#include <stdlib.h>

#define BLK_CONFIG_SIZE (offsetof(struct virtio_blk_config, unused1) + 3)

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

	virtio_lock_queues(&blk->vc);
	blk_set_capacity(blk);
	virtio_unlock_queues(&blk->vc);
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

/* Wait for the requests of @queue, which go unseen by the driver. */
static void blk_drop(struct blk_queue *queue)
{
	queue->dropping = true;
	block_drain(queue->io);
	queue->dropping = false;
}

static void blk_reset(void *dev)
{
	struct virtio_blk *blk = dev;

	for (unsigned int i = 0; i < blk->queue_count; i++)
		blk_drop(blk->queues[i]);
	blk->config->wce = blk->cache == BLK_WRITEBACK;
}

static void blk_queue_reset(void *dev, struct vqueue_info *vq)
{
	struct virtio_blk *blk = dev;

	blk_drop(blk->queues[vq->index]);
}

/* What waits for its turn under a limit goes back into the ring, so nobody gains by a pause. */
static void blk_quiesce(void *dev)
{
	struct virtio_blk *blk = dev;

	for (unsigned int i = 0; i < blk->queue_count; i++)
		block_drain(blk->queues[i]->io);
}

static bool blk_queue_alone(void *dev, uint16_t index)
{
	return true;
}

static void blk_queue_deinit(struct blk_queue *queue)
{
	if (!queue)
		return;
	if (queue->io)
		blk_drop(queue);
	block_queue_close(queue->io);
	free(queue->requests);
	free(queue->payloads);
	free(queue);
}

static void blk_deinit(void *dev)
{
	struct virtio_blk *blk = dev;

	for (unsigned int i = 0; i < BLK_QUEUES_MAX; i++) {
		blk_queue_deinit(blk->queues[i]);
		blk->queues[i] = NULL;
	}
	block_close(blk->block);
	blk->block = NULL;
}

static void blk_requests_init(struct blk_queue *queue)
{
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
}

static int blk_queue_init(struct virtio_blk *blk, unsigned int index)
{
	struct vqueue_info *vq = &blk->vc.vqs[index];
	struct blk_queue *queue = calloc(1, sizeof(*queue));

	blk->queues[index] = queue;
	if (!queue)
		return -ENOMEM;
	queue->blk = blk;
	queue->vq = vq;
	queue->requests = calloc(vq->size_max, sizeof(*queue->requests));
	queue->payloads = calloc(vq->size_max, sizeof(*queue->payloads));
	if (!queue->requests || !queue->payloads)
		return -ENOMEM;
	blk_requests_init(queue);
	queue->io = block_queue_open(blk->block, vq->loop, vq->lock, vq->size_max, &blk_queue_ops,
				     queue);
	return queue->io ? 0 : -errno;
}

static int blk_init_queues(struct virtio_blk *blk)
{
	int error = virtio_set_queues(&blk->vc, (unsigned int)blk->queue_count);

	for (unsigned int i = 0; !error && i < blk->queue_count; i++)
		error = blk_queue_init(blk, i);
	return error;
}

static int blk_open_image(struct virtio_blk *blk)
{
	static const struct block_ops ops = { .resized = blk_resized };
	const struct block_config config = {
		.path = blk->path,
		.read_only = blk->read_only,
		.direct = blk->direct,
		.threads = (unsigned int)blk->threads,
		.engine = (enum block_engine)blk->engine,
		.iops = { blk->iops, blk->iops_burst },
		.bps = { blk->bps, blk->bps_burst },
		.memory = blk->vc.memory,
		.pin = blk->pin,
		.no_polling = !virtio_polls(&blk->vc),
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

#define BLK_RATE_MAX BIT64(40)

/* clang-format off */
#define BLK(member) .offset = offsetof(struct virtio_blk, member)

static const struct option_desc blk_options[] = {
	{ "path", OPTION_STRING, OPTION_POSITIONAL | OPTION_REQUIRED, BLK(path),
	  .help = "raw image file or block device; null:SIZE is a disk of zeroes" },
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
	  .help = "host threads that do the I/O, at most, or what io_uring cannot do of it" },
	{ "engine", OPTION_ENUM, BLK(engine), .def = "auto", .choices = "auto|io_uring|threads",
	  .help = "who does the I/O; auto is io_uring where the host has it" },
	{ "pin", OPTION_BOOL, BLK(pin),
	  .help = "let io_uring hold all guest memory: less work a request, but none of it is ever free" },
	{ "iops", OPTION_UINT, BLK(iops), .max = BLK_RATE_MAX,
	  .help = "requests a second, of all queues together; 0 for no limit" },
	{ "iops_burst", OPTION_UINT, BLK(iops_burst), .max = BLK_RATE_MAX,
	  .help = "requests that an idle disk may do at once; 0 for a tenth of a second's" },
	{ "bps", OPTION_SIZE, BLK(bps), .max = BLK_RATE_MAX,
	  .help = "bytes a second, of all queues together; 0 for no limit" },
	{ "bps_burst", OPTION_SIZE, BLK(bps_burst), .max = BLK_RATE_MAX,
	  .help = "bytes that an idle disk may do at once; 0 for a tenth of a second's" },
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
	.queue_alone = blk_queue_alone, .cfgwrite = blk_cfgwrite, .apply_features = blk_apply_features,
	.config_state = blk_config_state,
});
/* clang-format on */
