/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lanes_device.h: a device whose queues have locks of their own, but for the last: a chain's number
 * comes back one larger. It says when it was called in a way that it must not be.
 */
#ifndef TENON_TESTS_LANES_DEVICE_H
#define TENON_TESTS_LANES_DEVICE_H

#include <unistd.h>

#include "virtio_driver.h"
#include "virtio_transport.h"

#define LANES_SLOT 4
#define LANES 4
#define LANES_SHARED LANES /* the last queue: as other devices' queues are */
#define LANES_QUEUE_SIZE 64
#define LANES_IOV 4
#define LANES_KEPT 8
#define LANES_BREAK UINT64_C(0xdead) /* a number that breaks the device */
#define LANES_TOGETHER 1 /* a queue that, with this feature, is as the last one is */
#define LANES_F_TOGETHER 3
#define LANES_KEEP BIT64(63) /* a bit that has the request end in an event of its own */

/*
 * struct lane - a queue and what the device has of it, under the queue's lock.
 * @busy: in qnotify or an event: plain, so that ThreadSanitizer sees two at a time
 * @kept: chains that wait for @timer
 */
struct lane {
	struct virtio_lanes *lanes;
	struct vqueue_info *vq;
	bool busy;
	uint64_t chains;
	struct event_source *timer;
	struct lane_kept {
		uint16_t idx;
		uint64_t value;
		struct iovec in;
	} kept[LANES_KEPT];
	unsigned int kept_count;
};

/*
 * @wrong: calls that must not have been, any thread; @stopped: quiesced; @shared_calls: with all
 * locks held
 */
struct virtio_lanes {
	struct virtio_common vc;
	struct lane lane[LANES + 1];
	unsigned int wrong;
	bool stopped;
	uint64_t shared_calls;
};

static inline void lanes_wrong(struct virtio_lanes *lanes)
{
	__atomic_add_fetch(&lanes->wrong, 1, __ATOMIC_RELAXED);
}

/* Everybody else is out of the device. */
static inline void lanes_all_held(struct virtio_lanes *lanes)
{
	for (unsigned int i = 0; i <= LANES; i++)
		if (lanes->lane[i].busy)
			lanes_wrong(lanes);
	lanes->shared_calls++;
}

static inline void lane_finish(struct lane *lane, const struct lane_kept *kept)
{
	uint64_t value = kept->value + 1;

	iov_from_buf(&kept->in, 1, 0, &value, sizeof(value));
	vq_relchain(lane->vq, kept->idx, sizeof(value));
	lane->chains++;
}

/* False: the device is broken. */
static inline bool lane_request(struct lane *lane, const struct vq_chain *chain)
{
	struct lane_kept kept = { .idx = chain->idx };

	if (chain->out_count != 1 || chain->in_count != 1 || chain->out_len != 8 ||
	    chain->in_len != 8) {
		virtio_device_error(&lane->lanes->vc, lane->vq, "not a request");
		return false;
	}
	iov_to_buf(chain->iov, 1, 0, &kept.value, sizeof(kept.value));
	kept.in = chain->iov[1];
	if (kept.value == LANES_BREAK) {
		virtio_device_error(&lane->lanes->vc, lane->vq, "told to break");
		return false;
	}
	if (!(kept.value & LANES_KEEP)) {
		lane_finish(lane, &kept);
		return true;
	}
	lane->kept[lane->kept_count++] = kept;
	event_set_timer(lane->timer, 50000, 0);
	return true;
}

static inline void lane_work(struct lane *lane)
{
	struct iovec iov[LANES_IOV];
	struct vq_chain chain;

	while (lane->kept_count < LANES_KEPT && vq_has_descs(lane->vq) &&
	       vq_pop(lane->vq, &chain, iov, LANES_IOV) > 0)
		if (!lane_request(lane, &chain))
			break;
	vq_endchains(lane->vq, 1);
}

static inline void lane_enter(struct lane *lane)
{
	if (lane->busy || lane->lanes->stopped)
		lanes_wrong(lane->lanes);
	lane->busy = true;
}

/* On the queue's loop, with its lock. */
static inline void on_lane_timer(void *arg, uint32_t events)
{
	struct lane *lane = arg;

	if (!lane->kept_count)
		return;
	lane_enter(lane);
	for (unsigned int i = 0; i < lane->kept_count; i++)
		lane_finish(lane, &lane->kept[i]);
	lane->kept_count = 0;
	vq_endchains(lane->vq, 0);
	if (virtio_driver_ok(&lane->lanes->vc))
		lane_work(lane);
	lane->busy = false;
}

static inline void lanes_qnotify(void *dev, struct vqueue_info *vq)
{
	struct virtio_lanes *lanes = dev;
	struct lane *lane = &lanes->lane[vq->index];

	if (vq->index == LANES_SHARED ||
	    (vq->index == LANES_TOGETHER && virtio_has_feature(&lanes->vc, LANES_F_TOGETHER)))
		lanes_all_held(lanes);
	lane_enter(lane);
	lane_work(lane);
	lane->busy = false;
}

static inline void lanes_drop(struct lane *lane)
{
	lane->kept_count = 0;
	event_set_timer(lane->timer, 0, 0);
}

static inline void lanes_reset(void *dev)
{
	struct virtio_lanes *lanes = dev;

	lanes_all_held(lanes);
	for (unsigned int i = 0; i <= LANES; i++)
		lanes_drop(&lanes->lane[i]);
	lanes->stopped = lanes->vc.quiesced;
}

static inline void lanes_queue_reset(void *dev, struct vqueue_info *vq)
{
	struct virtio_lanes *lanes = dev;

	lanes_all_held(lanes);
	lanes_drop(&lanes->lane[vq->index]);
}

/* What it has it gives back at once. */
static inline void lanes_quiesce(void *dev)
{
	struct virtio_lanes *lanes = dev;

	lanes_all_held(lanes);
	for (unsigned int i = 0; i <= LANES; i++) {
		struct lane *lane = &lanes->lane[i];

		for (unsigned int j = 0; j < lane->kept_count; j++)
			lane_finish(lane, &lane->kept[j]);
		lanes_drop(lane);
		vq_endchains(lane->vq, 0);
	}
	lanes->stopped = true;
}

static inline void lanes_resume(void *dev)
{
	struct virtio_lanes *lanes = dev;

	lanes_all_held(lanes);
	lanes->stopped = false;
}

static inline void lanes_cfgread(void *dev, uint32_t offset, uint32_t size)
{
	lanes_all_held(dev);
}

static inline void lanes_cfgwrite(void *dev, uint32_t offset, uint32_t size, uint32_t value)
{
	struct virtio_lanes *lanes = dev;

	lanes_all_held(lanes);
	memcpy(lanes->vc.config + offset, &value, size);
	virtio_config_changed(&lanes->vc);
}

static inline void lanes_set_status(void *dev, uint8_t status)
{
	lanes_all_held(dev);
}

static inline void lanes_apply_features(void *dev)
{
	lanes_all_held(dev);
}

/* The switch takes its time, and whatever it does is done with nobody else in the device. */
static inline int lanes_offload(void *dev, bool on)
{
	lanes_all_held(dev);
	usleep(200);
	lanes_all_held(dev);
	return 0;
}

/* It has a lock of its own all the same. */
static inline bool lanes_queue_alone(void *dev, uint16_t index)
{
	const struct virtio_lanes *lanes = dev;

	if (index == LANES_TOGETHER && virtio_has_feature(&lanes->vc, LANES_F_TOGETHER))
		return false;
	return index != LANES_SHARED;
}

static inline int lanes_init(void *dev)
{
	struct virtio_lanes *lanes = dev;

	for (unsigned int i = 0; i <= LANES; i++) {
		struct vqueue_info *vq = &lanes->vc.vqs[i];
		struct lane *lane = &lanes->lane[i];

		*lane = (struct lane) { .lanes = lanes, .vq = vq };
		lane->timer = event_add_timer(vq->loop, vq->lock, on_lane_timer, lane);
		if (!lane->timer)
			return -1;
	}
	return 0;
}

static inline void lanes_deinit(void *dev)
{
	struct virtio_lanes *lanes = dev;

	lanes_all_held(lanes);
	for (unsigned int i = 0; i <= LANES; i++)
		event_remove(lanes->lane[i].timer);
}

/* clang-format off */
VIRTIO_DEVICE(virtio_lanes, {
	.name = "virtio-lanes", .summary = "a test's device with a thread for each queue",
	.device_id = VIRTIO_ID_RNG, .nvq = LANES + 1, .queue_size = LANES_QUEUE_SIZE,
	.priv_size = sizeof(struct virtio_lanes), .cfgsize = 8,
	.features = { { BIT64(LANES_F_TOGETHER) } },
	.init = lanes_init, .deinit = lanes_deinit, .reset = lanes_reset, .quiesce = lanes_quiesce,
	.resume = lanes_resume, .qnotify = lanes_qnotify, .queue_reset = lanes_queue_reset,
	.cfgread = lanes_cfgread, .cfgwrite = lanes_cfgwrite, .set_status = lanes_set_status,
	.apply_features = lanes_apply_features, .queue_alone = lanes_queue_alone,
	.offload = lanes_offload,
});
/* clang-format on */

#endif
