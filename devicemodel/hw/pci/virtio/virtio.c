/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What every virtio device has, whatever its kind and its transport: features, status, queues,
 * configuration space (virtio 1.4, chapters 2 and 3).
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "dirty_log.h"
#include "logger.h"
#include "virtio_transport.h"
#include "vq_inflight.h"

#define CHAINS_PER_TURN 1024

/* ---- queues ---- */

static void vq_apply_features(struct virtio_common *vc, struct vqueue_info *vq)
{
	vq->event_idx = virtio_has_feature(vc, VIRTIO_RING_F_EVENT_IDX);
	vq->indirect = virtio_has_feature(vc, VIRTIO_RING_F_INDIRECT_DESC);
	vq->in_order = virtio_has_feature(vc, VIRTIO_F_IN_ORDER);
	vq->notify_on_empty = vc->legacy_driver && virtio_has_feature(vc, VIRTIO_F_NOTIFY_ON_EMPTY);
}

/* The device has no chain of @vq. */
static void vq_clear_chains(struct vqueue_info *vq)
{
	vq->popped = vq->released = 0;
	vq->batch_descs = 0;
	vq->descs_in_use = 0;
	memset(vq->slots, 0, vq->size_max * sizeof(*vq->slots));
}

static void vq_clear(struct vqueue_info *vq)
{
	vq->enabled = vq->stopped = false;
	vq->broken = vq->error_pending = vq->notify_pending = false;
	vq->told = false;
	virtio_queue_poll_update(vq);
	vq->size = vq->size_written = vq->size_max;
	vq->desc_addr = vq->driver_addr = vq->device_addr = 0;
	vq->desc = vq->driver_area = vq->device_area = NULL;
	vq->msix_vector = VIRTIO_NO_VECTOR;
	vq->last_avail = vq->avail_shadow = 0;
	vq->used_idx = vq->published = 0;
	vq->packed = vq->avail_wrap = vq->used_wrap = false;
	vq_inflight_detach(vq);
	vq_dirty_forget(vq);
	vq_clear_chains(vq);
}

/*
 * vq->lock held. Queues that share the device's lock are worked on with all others' held as well; so
 * are those of the others that are not alone now, and if their lock is all that is held, later.
 */
static void vq_notify_device(struct virtio_common *vc, struct vqueue_info *vq)
{
	bool shared = vq->lock == vc->lock;

	if (!virtio_queue_usable(vq))
		return;
	if (vq->together && !shared && !vc->queues_locked) {
		vq->notify_pending = true;
		event_set_timer(vc->pending_timer, EVENT_SOON, 0);
		return;
	}
	if (shared)
		virtio_lock_queues(vc);
	/* A driver that adds buffers as fast as they are used must not keep others waiting. */
	vq->turn = CHAINS_PER_TURN;
	vq->in_turn = true;
	vc->ops->qnotify(vc, vq);
	vq->in_turn = false;
	if (!vq->turn)
		vc->transport->kick_later(vc, vq);
	if (shared)
		virtio_unlock_queues(vc);
}

void virtio_queue_notify(struct vqueue_info *vq)
{
	vq_notify_device(vq->vc, vq);
}

static void queue_enable(struct virtio_common *vc, struct vqueue_info *vq)
{
	int error;

	if (vq->enabled)
		return;
	/* Only then is the ring's format known; a legacy driver has but one (virtio 1.4, 3.1.1). */
	if (!vc->features_final && !vc->legacy_driver) {
		log_guest(vc->log, "%s: queue %u enabled before FEATURES_OK, ignored", vc->name,
			  vq->index);
		return;
	}
	vq->size = vq->size_written;
	vq->packed = virtio_has_feature(vc, VIRTIO_F_RING_PACKED);
	vq_choose_ops(vq);
	vq_apply_features(vc, vq);
	vq_clear_chains(vq);
	error = vq->ops->enable(vq);
	if (error) {
		virtio_device_error(vc, vq,
				    "cannot be enabled: size %u, descriptors 0x%llx, driver area "
				    "0x%llx, device area 0x%llx: %s",
				    vq->size, (unsigned long long)vq->desc_addr,
				    (unsigned long long)vq->driver_addr,
				    (unsigned long long)vq->device_addr,
				    error == -EFAULT ? "not in RAM" : "bad size or alignment");
		return;
	}
	vq->enabled = true;
	virtio_queue_poll_update(vq);
	vc->transport->status_changed(vc);
	/* Buffers may be there already, without a kick (virtio 1.4, 2.6.1.2). */
	if (vc->features_final)
		vq_notify_device(vc, vq);
}

void virtio_queue_enable(struct virtio_common *vc, struct vqueue_info *vq)
{
	virtio_lock_queues(vc);
	queue_enable(vc, vq);
	virtio_unlock_queues(vc);
}

int virtio_queue_restore(struct virtio_common *vc, struct vqueue_info *vq)
{
	uint16_t last_avail = vq->last_avail, used_idx = vq->used_idx;
	bool avail_wrap = vq->avail_wrap, used_wrap = vq->used_wrap;
	int error;

	vq_choose_ops(vq);
	vq_apply_features(vc, vq);
	vq_clear_chains(vq);
	if (!vq->enabled)
		return 0;
	error = vq->ops->enable(vq);
	if (error)
		return error;
	if (vq->packed && (last_avail >= vq->size || used_idx >= vq->size))
		return -EINVAL;
	vq->last_avail = vq->avail_shadow = last_avail;
	vq->used_idx = vq->published = used_idx;
	vq->avail_wrap = avail_wrap;
	vq->used_wrap = used_wrap;
	vq->told = false;
	vq->armed_at = (uint16_t)(last_avail | (vq->packed ? avail_wrap << 15 : 0));
	return 0;
}

/* All locks held. */
static void queue_clear(struct virtio_common *vc, struct vqueue_info *vq)
{
	uint16_t vector = vq->msix_vector;

	vq_clear(vq);
	vq->msix_vector = vector;
	vc->transport->status_changed(vc);
}

void virtio_queue_stop(struct virtio_common *vc, struct vqueue_info *vq)
{
	virtio_lock_queues(vc);
	queue_clear(vc, vq);
	vq->stopped = true;
	virtio_unlock_queues(vc);
}

void virtio_queue_reset(struct virtio_common *vc, struct vqueue_info *vq)
{
	virtio_lock_queues(vc);
	if ((vq->enabled || vq->stopped) && vc->ops->queue_reset)
		vc->ops->queue_reset(vc, vq);
	queue_clear(vc, vq);
	virtio_unlock_queues(vc);
}

/* ---- status and features ---- */

static bool virtio_held(const struct virtio_common *vc)
{
	return vc->quiesced || vc->suspended || vc->bus_lost;
}

/* All locks held. */
static void virtio_update_running(struct virtio_common *vc)
{
	bool started =
		vc->status & VIRTIO_CONFIG_S_DRIVER_OK || (vc->legacy_driver && vc->features_final);

	vc->running = started && !virtio_held(vc) && !(vc->status & VIRTIO_CONFIG_S_NEEDS_RESET);
	for (unsigned int i = 0; i < vc->nvq; i++)
		virtio_queue_poll_update(&vc->vqs[i]);
}

static void virtio_device_break(struct virtio_common *vc)
{
	for (unsigned int i = 0; i < vc->nvq; i++) {
		vc->vqs[i].broken = true;
		vc->vqs[i].error_pending = false;
	}
	if (vc->status & VIRTIO_CONFIG_S_NEEDS_RESET)
		return;
	vc->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	virtio_update_running(vc);
	virtio_stop_offload(vc);
	/* virtio 1.4, 2.1.2 */
	if (vc->status & VIRTIO_CONFIG_S_DRIVER_OK)
		vc->transport->notify_config(vc);
}

void virtio_pending_finish(struct virtio_common *vc)
{
	bool broken = false;

	for (unsigned int i = 0; i < vc->nvq; i++)
		broken |= vc->vqs[i].error_pending;
	if (broken)
		virtio_device_break(vc);
	for (unsigned int i = 0; i < vc->nvq; i++) {
		struct vqueue_info *vq = &vc->vqs[i];

		if (!vq->notify_pending)
			continue;
		vq->notify_pending = false;
		vq_notify_device(vc, vq);
	}
}

void virtio_device_error(struct virtio_common *vc, struct vqueue_info *vq, const char *fmt, ...)
{
	char text[256];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (vq)
		log_guest_of(vc->log, vc, "%s: queue %u: %s; the device needs a reset", vc->name,
			     vq->index, text);
	else
		log_guest_of(vc->log, vc, "%s: %s; the device needs a reset", vc->name, text);
	/* Who holds this queue's lock, and not all, does what can be done with that. */
	if (vq && vq->lock != vc->lock && !vc->queues_locked) {
		vq->broken = vq->error_pending = true;
		virtio_queue_poll_update(vq);
		event_set_timer(vc->pending_timer, EVENT_SOON, 0);
		return;
	}
	virtio_lock_queues(vc);
	virtio_device_break(vc);
	virtio_unlock_queues(vc);
}

/* What changed while it was suspended shows from now on (3.4.2-3); true if anything did. */
static bool virtio_config_release(struct virtio_common *vc)
{
	bool held = vc->config_event_held;

	vc->config_generation += held;
	vc->suspended = vc->config_event_held = false;
	return held;
}

void virtio_reset_dev(struct virtio_common *vc)
{
	virtio_lock_queues(vc);
	vc->status = 0;
	vc->legacy_driver = false;
	vc->features_final = false;
	vc->bus_lost = false;
	virtio_config_release(vc);
	virtio_update_running(vc);
	vc->transport->status_changed(vc);
	if (vc->ops->reset)
		vc->ops->reset(vc);
	for (unsigned int i = 0; i < vc->nvq; i++) {
		vq_clear(&vc->vqs[i]);
		vc->vqs[i].together = false;
	}
	memset(&vc->driver_caps, 0, sizeof(vc->driver_caps));
	memset(&vc->negotiated_caps, 0, sizeof(vc->negotiated_caps));
	vc->isr = 0;
	vc->transport->status_changed(vc);
	virtio_unlock_queues(vc);
}

void virtio_set_driver_features(struct virtio_common *vc, unsigned int word, uint32_t value)
{
	struct virtio_features *caps = &vc->driver_caps;
	unsigned int shift = 32 * (word & 1);

	if (word >= 4 || vc->features_final)
		return;
	caps->bits[word / 2] &= ~((uint64_t)UINT32_MAX << shift);
	caps->bits[word / 2] |= (uint64_t)value << shift;
}

struct virtio_features virtio_offered_features(const struct virtio_common *vc, bool legacy)
{
	struct virtio_features offered = vc->device_caps;

	if (legacy) {
		/* virtio 1.4, 4.1.4.10: bits 32 to 63 are as if not acknowledged. */
		offered.bits[0] &= UINT32_MAX;
		offered.bits[1] = 0;
	} else {
		offered.bits[0] &= ~(BIT64(VIRTIO_F_ANY_LAYOUT) | BIT64(VIRTIO_F_NOTIFY_ON_EMPTY));
	}
	return offered;
}

/* Is what the driver accepted a subset that we can work with (virtio 1.4, 2.2.2)? */
static bool features_acceptable(const struct virtio_common *vc)
{
	struct virtio_features offered = virtio_offered_features(vc, false);

	for (unsigned int i = 0; i < ARRAY_SIZE(offered.bits); i++)
		if (vc->driver_caps.bits[i] & ~offered.bits[i])
			return false;
	return virtio_features_test(&vc->driver_caps, VIRTIO_F_VERSION_1);
}

static void features_finalize(struct virtio_common *vc)
{
	struct virtio_features offered;

	if (vc->features_final)
		return;
	offered = virtio_offered_features(vc, vc->legacy_driver);
	for (unsigned int i = 0; i < ARRAY_SIZE(offered.bits); i++)
		vc->negotiated_caps.bits[i] = vc->driver_caps.bits[i] & offered.bits[i];
	vc->features_final = true;
	virtio_update_running(vc);
	for (unsigned int i = 0; i < vc->nvq; i++)
		vq_apply_features(vc, &vc->vqs[i]);
	virtio_queues_ask(vc);
	if (vc->ops->apply_features)
		vc->ops->apply_features(vc);
}

/* Buffers may have been made available with kicks that were not taken. */
static void virtio_scan_queues(struct virtio_common *vc)
{
	for (unsigned int i = 0; i < vc->nvq; i++)
		vq_notify_device(vc, &vc->vqs[i]);
}

/* Nothing is in flight, and nothing is done, until the last @reason for that is gone. */
static void virtio_hold(struct virtio_common *vc, bool *reason)
{
	if (vc->ops->quiesce && !virtio_held(vc))
		vc->ops->quiesce(vc);
	*reason = true;
	virtio_update_running(vc);
}

static void virtio_let_go(struct virtio_common *vc, bool *reason)
{
	*reason = false;
	virtio_update_running(vc);
	if (vc->ops->resume && !virtio_held(vc))
		vc->ops->resume(vc);
	virtio_scan_queues(vc);
}

/* virtio 1.4, 3.4.2: nothing in flight, then SUSPEND shows and DRIVER_OK does not. */
static void virtio_suspend(struct virtio_common *vc)
{
	virtio_hold(vc, &vc->suspended);
	memcpy(vc->config_shown, vc->config, vc->ops->cfgsize);
	vc->status |= VIRTIO_CONFIG_S_SUSPEND;
	vc->status &= (uint8_t)~VIRTIO_CONFIG_S_DRIVER_OK;
	vc->transport->status_changed(vc);
}

static void virtio_unsuspend(struct virtio_common *vc)
{
	bool held = virtio_config_release(vc);

	vc->status &= (uint8_t)~VIRTIO_CONFIG_S_SUSPEND;
	vc->status |= VIRTIO_CONFIG_S_DRIVER_OK;
	virtio_update_running(vc);
	vc->transport->status_changed(vc);
	if (held) /* 3.4.2-5 */
		vc->transport->notify_config(vc);
	virtio_let_go(vc, &vc->suspended);
}

/* True if the write was about SUSPEND and is done with. */
static bool status_suspend(struct virtio_common *vc, uint8_t status)
{
	bool broken = vc->status & VIRTIO_CONFIG_S_NEEDS_RESET;

	if (vc->suspended) {
		if (status & VIRTIO_CONFIG_S_DRIVER_OK && !broken)
			virtio_unsuspend(vc);
		return true;
	}
	/* Ignored before the device is initialised (3.4.2-1). */
	if (!virtio_has_feature(vc, VIRTIO_F_SUSPEND) || broken ||
	    !(status & VIRTIO_CONFIG_S_SUSPEND) || !(vc->status & VIRTIO_CONFIG_S_DRIVER_OK))
		return false;
	virtio_pending_finish(vc); /* it may turn out to be broken */
	if (!(vc->status & VIRTIO_CONFIG_S_NEEDS_RESET))
		virtio_suspend(vc);
	return true;
}

/* The bits of @status that may be set now. */
static uint8_t status_filter(struct virtio_common *vc, uint8_t status)
{
	status &= (uint8_t) ~(VIRTIO_CONFIG_S_NEEDS_RESET | VIRTIO_CONFIG_S_SUSPEND);
	if (vc->legacy_driver)
		return status;
	if (status & VIRTIO_CONFIG_S_FEATURES_OK && !vc->features_final &&
	    !features_acceptable(vc)) {
		log_guest(vc->log,
			  "%s: FEATURES_OK refused: driver wants 0x%llx_%016llx of 0x%llx_%016llx",
			  vc->name, (unsigned long long)vc->driver_caps.bits[1],
			  (unsigned long long)vc->driver_caps.bits[0],
			  (unsigned long long)vc->device_caps.bits[1],
			  (unsigned long long)vc->device_caps.bits[0]);
		status &= (uint8_t)~VIRTIO_CONFIG_S_FEATURES_OK;
	}
	if (status & VIRTIO_CONFIG_S_DRIVER_OK &&
	    !((vc->status | status) & VIRTIO_CONFIG_S_FEATURES_OK)) {
		log_guest(vc->log, "%s: DRIVER_OK without FEATURES_OK ignored (3.1.1)", vc->name);
		status &= (uint8_t)~VIRTIO_CONFIG_S_DRIVER_OK;
	}
	return status;
}

static void set_status(struct virtio_common *vc, uint8_t status)
{
	uint8_t old = vc->status;
	bool starts;

	if (status_suspend(vc, status))
		return;
	/* Bits are only ever added but by a reset (virtio 1.4, 2.1.1). */
	vc->status |= status_filter(vc, status);
	starts = vc->status & ~old & VIRTIO_CONFIG_S_DRIVER_OK;
	if (starts || vc->status & ~old & VIRTIO_CONFIG_S_FEATURES_OK)
		features_finalize(vc);
	virtio_update_running(vc);
	vc->transport->status_changed(vc);
	if (vc->ops->set_status)
		vc->ops->set_status(vc, vc->status);
	if (starts)
		virtio_scan_queues(vc);
}

void virtio_set_status(struct virtio_common *vc, uint8_t status)
{
	virtio_lock_queues(vc);
	set_status(vc, status);
	virtio_unlock_queues(vc);
}

/* A legacy driver may use its queues before DRIVER_OK (virtio 1.4, 3.1.2). */
static void legacy_kick(struct virtio_common *vc, const struct vqueue_info *vq)
{
	if (!vc->legacy_driver || !vq->enabled || vc->features_final)
		return;
	virtio_lock_queues(vc);
	features_finalize(vc);
	virtio_unlock_queues(vc);
}

/* A driver that kicks by a trap sees at once what became of it. */
static void queue_kick_alone(struct vqueue_info *vq)
{
	struct virtio_common *vc = vq->vc;
	bool pending;

	pthread_mutex_lock(vq->lock);
	virtio_queue_notify(vq);
	pending = vq->error_pending || vq->notify_pending;
	pthread_mutex_unlock(vq->lock);
	if (!pending)
		return;
	virtio_lock_queues(vc);
	virtio_pending_finish(vc);
	virtio_unlock_queues(vc);
}

void virtio_queue_kick(struct virtio_common *vc, uint32_t index)
{
	struct vqueue_info *vq;

	if (index >= vc->nvq)
		return;
	vq = &vc->vqs[index];
	if (vq->offloaded) {
		vc->transport->kick_later(vc, vq);
		return;
	}
	legacy_kick(vc, vq);
	if (vq->lock == vc->lock)
		virtio_queue_notify(vq);
	else
		queue_kick_alone(vq);
}

void virtio_legacy_access(struct virtio_common *vc)
{
	vc->legacy_driver = true;
}

/* ---- configuration space ---- */

uint32_t virtio_config_read(struct virtio_common *vc, uint64_t offset, unsigned int size)
{
	const uint8_t *config = vc->suspended ? vc->config_shown : vc->config;
	uint32_t value = 0;

	if (offset >= vc->ops->cfgsize || size > sizeof(value))
		return 0;
	if (vc->ops->cfgread && !vc->suspended) {
		virtio_lock_queues(vc);
		vc->ops->cfgread(vc, (uint32_t)offset, size);
		virtio_unlock_queues(vc);
	}
	memcpy(&value, config + offset, MIN(size, vc->ops->cfgsize - offset));
	return value;
}

void virtio_config_write(struct virtio_common *vc, uint64_t offset, unsigned int size,
			 uint32_t value)
{
	if (vc->suspended) /* 3.4.2-2 */
		return;
	if (size > sizeof(value) || !range_contains(0, vc->ops->cfgsize, offset, size) ||
	    !vc->ops->cfgwrite)
		return;
	virtio_lock_queues(vc);
	vc->ops->cfgwrite(vc, (uint32_t)offset, size, value);
	virtio_unlock_queues(vc);
}

void virtio_config_changed(struct virtio_common *vc)
{
	if (vc->suspended) {
		vc->config_event_held = true;
		return;
	}
	vc->config_generation++;
	if (vc->status & VIRTIO_CONFIG_S_DRIVER_OK)
		vc->transport->notify_config(vc);
}

/* ---- quiesce ---- */

void virtio_quiesce(struct virtio_common *vc)
{
	if (vc->quiesced)
		return;
	virtio_lock_queues(vc);
	virtio_pending_finish(vc); /* what is saved now must be whole */
	virtio_hold(vc, &vc->quiesced);
	virtio_unlock_queues(vc);
}

void virtio_resume(struct virtio_common *vc)
{
	if (!vc->quiesced)
		return;
	virtio_lock_queues(vc);
	virtio_let_go(vc, &vc->quiesced);
	virtio_unlock_queues(vc);
}

void virtio_set_bus(struct virtio_common *vc, bool granted)
{
	/* Who has not begun has nothing to be stopped, and need not know of this. */
	if (granted != vc->bus_lost || (!granted && !vc->status))
		return;
	virtio_lock_queues(vc);
	virtio_pending_finish(vc);
	if (granted)
		virtio_let_go(vc, &vc->bus_lost);
	else
		virtio_hold(vc, &vc->bus_lost);
	virtio_unlock_queues(vc);
}
