/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Making a virtio device: the options they all have, what every device offers, its queues.
 */
#include <errno.h>
#include <stdlib.h>

#include "dirty_log.h"
#include "virtio_transport.h"
#include "vq_inflight.h"

#define COMMON(member) offsetof(struct virtio_common, member)

const struct option_desc virtio_common_options[] = {
	{ .name = "legacy",
	  .type = OPTION_BOOL,
	  .offset = COMMON(opt_legacy),
	  .def = "on",
	  .help = "offer the legacy interface where the device type has one" },
	{ .name = "modern",
	  .type = OPTION_BOOL,
	  .offset = COMMON(opt_modern),
	  .def = "on",
	  .help = "offer the interface of virtio 1.0 and later" },
	{ .name = "event_idx",
	  .type = OPTION_BOOL,
	  .offset = COMMON(opt_event_idx),
	  .def = "on",
	  .help = "offer VIRTIO_F_EVENT_IDX" },
	{ .name = "indirect",
	  .type = OPTION_BOOL,
	  .offset = COMMON(opt_indirect),
	  .def = "on",
	  .help = "offer VIRTIO_F_INDIRECT_DESC" },
	{ .name = "packed",
	  .type = OPTION_BOOL,
	  .offset = COMMON(opt_packed),
	  .def = "off",
	  .help = "offer VIRTIO_F_RING_PACKED" },
	{ .name = "in_order",
	  .type = OPTION_BOOL,
	  .offset = COMMON(opt_in_order),
	  .def = "off",
	  .help = "offer VIRTIO_F_IN_ORDER" },
	{ .name = "access_platform",
	  .type = OPTION_BOOL,
	  .offset = COMMON(opt_access_platform),
	  .def = "off",
	  .help = "offer VIRTIO_F_ACCESS_PLATFORM and VIRTIO_F_ORDER_PLATFORM" },
	{ .name = "msix",
	  .type = OPTION_BOOL,
	  .offset = COMMON(opt_msix),
	  .def = "on",
	  .help = "interrupts by MSI-X; off leaves one MSI and the line" },
	{ .name = "iothread",
	  .type = OPTION_STRING,
	  .offset = COMMON(opt_iothread),
	  .help = "threads of --iothread that work on its queues, in turn: NAME+NAME; else its "
		  "own" },
	{ .name = "poll",
	  .type = OPTION_ENUM,
	  .offset = COMMON(opt_poll),
	  .choices = "off|adaptive|on",
	  .def = "adaptive",
	  .help = "look for requests without being notified: while it pays, or always" },
	{ .name = "queue_size",
	  .type = OPTION_UINT,
	  .offset = COMMON(opt_queue_size),
	  .min = 0,
	  .max = VIRTIO_QUEUE_SIZE_MAX,
	  .help = "entries of each queue, a power of two; 0 for the device's own" },
	{ .name = NULL },
};

void virtio_offer(struct virtio_common *vc, unsigned int bit)
{
	vc->device_caps.bits[bit / 64] |= BIT64(bit % 64);
}

static void virtio_offer_common(struct virtio_common *vc)
{
	virtio_offer(vc, VIRTIO_F_ANY_LAYOUT);
	virtio_offer(vc, VIRTIO_F_NOTIFY_ON_EMPTY);
	if (vc->opt_event_idx)
		virtio_offer(vc, VIRTIO_RING_F_EVENT_IDX);
	if (vc->opt_indirect)
		virtio_offer(vc, VIRTIO_RING_F_INDIRECT_DESC);
	if (!vc->opt_modern)
		return;
	virtio_offer(vc, VIRTIO_F_VERSION_1);
	virtio_offer(vc, VIRTIO_F_RING_RESET);
	virtio_offer(vc, VIRTIO_F_NOTIFICATION_DATA);
	virtio_offer(vc, VIRTIO_F_SUSPEND);
	if (vc->opt_packed)
		virtio_offer(vc, VIRTIO_F_RING_PACKED);
	if (vc->opt_in_order)
		virtio_offer(vc, VIRTIO_F_IN_ORDER);
	if (vc->opt_access_platform) {
		virtio_offer(vc, VIRTIO_F_ACCESS_PLATFORM);
		virtio_offer(vc, VIRTIO_F_ORDER_PLATFORM);
	}
}

static void virtio_free_queues(struct virtio_common *vc)
{
	for (unsigned int i = 0; vc->vqs && i < vc->nvq; i++) {
		vq_inflight_detach(&vc->vqs[i]);
		vq_dirty_forget(&vc->vqs[i]);
		free(vc->vqs[i].slots);
		free(vc->vqs[i].order);
		free(vc->vqs[i].free_slots);
		pthread_mutex_destroy(&vc->vqs[i].own_lock);
	}
	free(vc->vqs);
	vc->vqs = NULL;
	vc->nvq = 0;
	vc->queues_alone = false;
}

static uint16_t queue_size(const struct virtio_common *vc)
{
	uint16_t least = vc->transport ? vc->transport->queue_size : 0;

	if (vc->opt_queue_size)
		return (uint16_t)vc->opt_queue_size;
	return MAX(vc->ops->queue_size, least);
}

static int vq_create(struct virtio_common *vc, struct vqueue_info *vq, uint16_t index)
{
	uint16_t size = queue_size(vc);

	vq->vc = vc;
	vq->index = index;
	vq->size = vq->size_max = vq->size_written = size;
	vq->msix_vector = VIRTIO_NO_VECTOR;
	vq->kick_fd = vq->call_fd = -1;
	vq->ops = &vq_split_ops;
	pthread_mutex_init(&vq->own_lock, NULL);
	virtio_queue_place(vq);
	vq->slots = calloc(size, sizeof(*vq->slots));
	vq->order = calloc(size, sizeof(*vq->order));
	vq->free_slots = calloc(size, sizeof(*vq->free_slots));
	return vq->slots && vq->order && vq->free_slots ? 0 : -ENOMEM;
}

int virtio_set_queues(struct virtio_common *vc, unsigned int count)
{
	int error = 0;

	if (!count || count > VIRTIO_QUEUES_MAX)
		return -EINVAL;
	virtio_free_queues(vc);
	vc->vqs = calloc(count, sizeof(*vc->vqs));
	if (!vc->vqs)
		return -ENOMEM;
	vc->nvq = (uint16_t)count;
	for (unsigned int i = 0; i < count; i++) {
		int failed = vq_create(vc, &vc->vqs[i], (uint16_t)i);

		error = error ? error : failed;
	}
	return error;
}

static unsigned int option_sets(struct virtio_common *vc, const struct virtio_ops *ops,
				struct option_set sets[2])
{
	sets[0] = (struct option_set) { .table = ops->options, .object = vc };
	sets[1] = (struct option_set) { .table = virtio_common_options, .object = vc };
	return 2;
}

static void virtio_free(struct virtio_common *vc)
{
	struct option_set sets[2];

	options_free(sets, option_sets(vc, vc->ops, sets));
	virtio_free_queues(vc);
	free(vc->config);
	free(vc->config_shown);
	vc->config = vc->config_shown = NULL;
}

static int virtio_init(struct virtio_common *vc)
{
	const struct virtio_ops *ops = vc->ops;
	int error = virtio_threads_choose(vc);

	if (!error)
		error = virtio_set_queues(vc, ops->nvq);
	if (error)
		return error;
	vc->config = calloc(1, ops->cfgsize ? ops->cfgsize : 1);
	vc->config_shown = calloc(1, ops->cfgsize ? ops->cfgsize : 1);
	if (!vc->config || !vc->config_shown)
		return -ENOMEM;
	vc->device_caps = ops->features;
	virtio_offer_common(vc);
	error = ops->init ? ops->init(vc) : 0;
	if (error)
		return error;
	error = virtio_check_offered(vc);
	if (!error)
		error = virtio_threads_start(vc);
	if (!error)
		return 0;
	virtio_threads_stop(vc);
	if (ops->deinit)
		ops->deinit(vc);
	return error;
}

static int virtio_check_options(const struct virtio_common *vc)
{
	if (!vc->opt_legacy && !vc->opt_modern) {
		log_error(vc->log,
			  "%s: legacy=off,modern=off leaves no interface (drop one of them)",
			  vc->name);
		return -EINVAL;
	}
	if (vc->opt_queue_size && !is_power_of_2(vc->opt_queue_size)) {
		log_error(vc->log, "%s: queue_size=%llu is no power of two (virtio 1.4, 2.7)",
			  vc->name, (unsigned long long)vc->opt_queue_size);
		return -EINVAL;
	}
	return 0;
}

int virtio_linkup(struct virtio_common *vc, const struct virtio_ops *ops, const char *opts)
{
	struct option_set sets[2];
	int error;

	vc->ops = ops;
	error = options_parse(vc->log, vc->name, opts, sets, option_sets(vc, ops, sets));
	if (error)
		return error;
	error = virtio_check_options(vc);
	if (!error)
		error = virtio_init(vc);
	if (error)
		virtio_free(vc);
	return error;
}

void virtio_unlink(struct virtio_common *vc)
{
	virtio_lock_queues(vc);
	virtio_threads_stop(vc);
	if (vc->ops->deinit)
		vc->ops->deinit(vc);
	virtio_unlock_queues(vc);
	virtio_free(vc);
}
