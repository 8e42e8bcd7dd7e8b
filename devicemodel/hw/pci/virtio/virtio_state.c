/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Saved states of virtio devices, whatever their kind and transport: the tables of the core's part
 * and of a queue, what must fit together in them, and the order of loading.
 *
 * Loading works on a copy of the whole private struct, with queues and configuration space of its
 * own, so that all checks, the device's too, see what the device would be.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "virtio_transport.h"

/* ---- The core's part ---- */

static uint32_t config_size(const void *object)
{
	const struct virtio_common *vc = object;

	return vc->ops->cfgsize;
}

#define COMMON(member) STATE_FIELD(struct virtio_common, member)

static const struct state_field common_fields[] = {
	{ COMMON(device_caps.bits[0]), .match = true,
	  .hint = "give the device the options it was saved with" },
	{ COMMON(device_caps.bits[1]), .match = true },
	{ COMMON(nvq), .match = true },
	{ COMMON(driver_caps.bits[0]) },
	{ COMMON(driver_caps.bits[1]) },
	{ COMMON(negotiated_caps.bits[0]) },
	{ COMMON(negotiated_caps.bits[1]) },
	{ COMMON(features_final) },
	{ COMMON(legacy_driver) },
	{ COMMON(status) },
	{ COMMON(suspended) },
	{ COMMON(bus_lost) },
	{ COMMON(config_event_held) },
	{ COMMON(isr), .max = 3 },
	{ COMMON(config_generation) },
	{ STATE_POINTER(struct virtio_common, config, 4096), .count_of = config_size },
	{ STATE_POINTER(struct virtio_common, config_shown, 4096), .count_of = config_size },
	{},
};

static bool features_subset(const struct virtio_features *part, const struct virtio_features *all)
{
	return !(part->bits[0] & ~all->bits[0]) && !(part->bits[1] & ~all->bits[1]);
}

/* Only what negotiation can lead to (virtio 1.4, 2.2). */
static const char *features_check(const struct virtio_common *vc)
{
	const uint8_t accepted = VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK;
	const struct virtio_features none = { { 0, 0 } };

	if (!features_subset(&vc->negotiated_caps, &vc->device_caps))
		return "negotiated_caps: not all of them are offered";
	if (!features_subset(&vc->negotiated_caps, &vc->driver_caps))
		return "negotiated_caps: not all of them are in driver_caps";
	if (!vc->features_final && !features_subset(&vc->negotiated_caps, &none))
		return "negotiated_caps: there are some before features_final";
	if (!vc->features_final && vc->status & accepted)
		return "status: FEATURES_OK or DRIVER_OK without features_final";
	if (vc->legacy_driver && !vc->opt_legacy)
		return "legacy_driver: this device has no legacy interface";
	if (vc->features_final && !vc->legacy_driver &&
	    !virtio_features_test(&vc->negotiated_caps, VIRTIO_F_VERSION_1))
		return "negotiated_caps: a modern driver without VERSION_1";
	return NULL;
}

/* virtio 1.4, 3.4.2 */
static const char *suspend_check(const struct virtio_common *vc)
{
	if (vc->config_event_held && !vc->suspended)
		return "config_event_held: without suspended";
	if (vc->suspended != !!(vc->status & VIRTIO_CONFIG_S_SUSPEND))
		return "suspended: status says otherwise";
	if (!vc->suspended)
		return NULL;
	if (!virtio_features_test(&vc->negotiated_caps, VIRTIO_F_SUSPEND))
		return "suspended: VIRTIO_F_SUSPEND was not negotiated";
	return vc->status & VIRTIO_CONFIG_S_DRIVER_OK ? "suspended: with DRIVER_OK" : NULL;
}

static const char *common_check(const void *object, const void *staged)
{
	const char *wrong = features_check(staged);

	return wrong ? wrong : suspend_check(staged);
}

static const struct state_desc common_state = {
	.name = "virtio",
	.version = 1,
	.fields = common_fields,
	.check = common_check,
};

/* ---- A queue ---- */

#define QUEUE(member) STATE_FIELD(struct vqueue_info, member)

static const struct state_field queue_fields[] = {
	{ QUEUE(size_max), .match = true, .hint = "give the device the queue_size= it had" },
	{ QUEUE(enabled) },
	{ QUEUE(broken) },
	{ QUEUE(packed) },
	{ QUEUE(size) },
	{ QUEUE(size_written) },
	{ QUEUE(msix_vector) },
	{ QUEUE(desc_addr) },
	{ QUEUE(driver_addr) },
	{ QUEUE(device_addr) },
	{ QUEUE(last_avail) },
	{ QUEUE(avail_wrap) },
	{ QUEUE(used_idx) },
	{ QUEUE(used_wrap) },
	{},
};

/* The device has no chain of a queue that still works, so both sides of it are at one place. */
static const char *queue_check(const void *object, const void *staged)
{
	const struct vqueue_info *vq = staged;

	if (vq->broken && !(vq->vc->status & VIRTIO_CONFIG_S_NEEDS_RESET))
		return "broken: the device does not say that it needs a reset";
	if (!vq->enabled)
		return NULL;
	if (vq->size != vq->size_written)
		return "size: not the one that the driver wrote";
	if (vq->packed && !virtio_has_feature(vq->vc, VIRTIO_F_RING_PACKED))
		return "packed: VIRTIO_F_RING_PACKED was not negotiated";
	if (vq->broken)
		return NULL;
	if (vq->last_avail != vq->used_idx || (vq->packed && vq->avail_wrap != vq->used_wrap))
		return "used_idx: not as many chains as were taken";
	return NULL;
}

static const struct state_desc queue_state = {
	.name = "queue",
	.version = 1,
	.fields = queue_fields,
	.check = queue_check,
};

/* ---- Saving ---- */

/* All that it took it has given back and shown; nobody waits for chains of a broken queue. */
static bool queue_is_idle(const struct vqueue_info *vq)
{
	if (!vq->enabled || vq->broken)
		return true;
	return vq->popped == vq->released && vq->published == vq->used_idx && !vq->batch_descs;
}

static int state_check_idle(const struct virtio_common *vc, struct state_writer *writer)
{
	if (!vc->quiesced) {
		log_error(state_writer_log(writer),
			  "%s: cannot be saved: it is not quiesced (pause the VM first)", vc->name);
		return -EBUSY;
	}
	for (unsigned int i = 0; i < vc->nvq; i++) {
		if (vc->vqs[i].offloaded) {
			log_error(state_writer_log(writer),
				  "%s: cannot be saved: the kernel runs queue %u although it is "
				  "quiesced (a fault of the device, please report it)",
				  vc->name, i);
			return -EBUSY;
		}
		if (queue_is_idle(&vc->vqs[i]))
			continue;
		log_error(state_writer_log(writer),
			  "%s: cannot be saved: queue %u: %u chains are in flight although it is "
			  "quiesced (a fault of the device, please report it)",
			  vc->name, i, vc->vqs[i].popped - vc->vqs[i].released);
		return -EBUSY;
	}
	return 0;
}

int virtio_state_save(struct virtio_common *vc, struct state_writer *writer, const char *place)
{
	int error;

	virtio_lock_queues(vc);
	error = state_check_idle(vc, writer);
	/* The device first: what it does before it is saved may be in the configuration space. */
	if (!error && vc->ops->state)
		error = state_save(writer, place, 0, vc->ops->state, vc);
	if (!error)
		error = state_save(writer, place, 0, &common_state, vc);
	for (unsigned int i = 0; i < vc->nvq && !error; i++)
		error = state_save(writer, place, i, &queue_state, &vc->vqs[i]);
	virtio_unlock_queues(vc);
	return error;
}

/* ---- Loading ---- */

static const struct state_field *config_field_at(const struct virtio_common *vc, uint32_t offset,
						 bool match)
{
	const struct state_field *field = vc->ops->config_state;

	for (; field && field->name; field++)
		if (field->match == match && offset >= field->offset &&
		    offset - field->offset < field->size * field->count)
			return field;
	return NULL;
}

/* The fields that are loaded, within their bounds. */
static int config_check_bounds(const struct virtio_common *vc, const struct virtio_common *staged,
			       struct state_reader *reader, const char *place)
{
	const struct state_field *field = vc->ops->config_state;

	for (; field && field->name; field++)
		for (uint32_t i = 0; i < field->count && !field->match; i++) {
			uint64_t value = bytes_get(staged->config + field->offset + i * field->size,
						   field->size);

			if (!state_value_valid(field, value))
				return state_refuse(reader, place, 0, common_state.name,
						    "config: %s: 0x%llx cannot be", field->name,
						    (unsigned long long)value);
		}
	return 0;
}

/* What makes the device what it is must be the same: all that its table does not load. */
static int config_check_same(const struct virtio_common *vc, const struct virtio_common *staged,
			     struct state_reader *reader, const char *place)
{
	for (uint32_t i = 0; i < vc->ops->cfgsize; i++) {
		const struct state_field *named = config_field_at(vc, i, true);

		if (vc->config[i] == staged->config[i] || config_field_at(vc, i, false))
			continue;
		if (!named)
			return state_refuse(reader, place, 0, common_state.name,
					    "config[%u]: 0x%02x in the state, 0x%02x here", i,
					    staged->config[i], vc->config[i]);
		return state_refuse(
			reader, place, 0, common_state.name,
			"config: %s: %llu in the state, %llu here%s%s%s", named->name,
			(unsigned long long)bytes_get(staged->config + named->offset, named->size),
			(unsigned long long)bytes_get(vc->config + named->offset, named->size),
			named->hint ? " (" : "", named->hint ? named->hint : "",
			named->hint ? ")" : "");
	}
	return 0;
}

/* A queue whose memory is its own, so that its ring can be tried. */
static int queue_stage(struct state_reader *reader, struct vqueue_info *vq)
{
	vq->slots = state_alloc(reader, vq->size_max * sizeof(*vq->slots));
	vq->order = state_alloc(reader, vq->size_max * sizeof(*vq->order));
	vq->free_slots = state_alloc(reader, vq->size_max * sizeof(*vq->free_slots));
	return vq->slots && vq->order && vq->free_slots ? 0 : -ENOMEM;
}

static int queue_load(struct virtio_common *vc, struct virtio_common *staged, unsigned int index,
		      struct state_reader *reader, const char *place)
{
	struct vqueue_info *vq = &staged->vqs[index];
	int error = queue_stage(reader, vq);

	if (!error)
		error = state_load(reader, place, index, &queue_state, &vc->vqs[index], vq);
	if (error)
		return error;
	error = virtio_queue_restore(staged, vq);
	if (!error)
		return 0;
	return state_refuse(reader, place, index, queue_state.name,
			    "desc_addr: no ring of %u entries can be at 0x%llx, 0x%llx, 0x%llx: %s",
			    vq->size, (unsigned long long)vq->desc_addr,
			    (unsigned long long)vq->driver_addr,
			    (unsigned long long)vq->device_addr,
			    error == -EFAULT ? "not in RAM" : "bad size, index or alignment");
}

static int queues_load(struct virtio_common *vc, struct virtio_common *staged,
		       struct state_reader *reader, const char *place)
{
	size_t size = vc->nvq * sizeof(*vc->vqs);
	int error = 0;

	staged->vqs = state_alloc(reader, size);
	if (!staged->vqs)
		return -ENOMEM;
	memcpy(staged->vqs, vc->vqs, size);
	for (unsigned int i = 0; i < vc->nvq && !error; i++) {
		staged->vqs[i].vc = staged;
		error = queue_load(vc, staged, i, reader, place);
	}
	return error;
}

int virtio_state_load(struct virtio_common *vc, struct state_reader *reader, const char *place,
		      struct virtio_common **result)
{
	struct virtio_common *staged = state_alloc(reader, vc->ops->priv_size);
	int error;

	if (!staged)
		return -ENOMEM;
	if (!vc->quiesced)
		return state_refuse(reader, place, 0, common_state.name,
				    "%s is not quiesced (pause the VM first)", vc->name);
	memcpy(staged, vc, vc->ops->priv_size);
	error = state_load(reader, place, 0, &common_state, vc, staged);
	if (!error)
		error = queues_load(vc, staged, reader, place);
	if (!error)
		error = config_check_bounds(vc, staged, reader, place);
	if (!error)
		error = config_check_same(vc, staged, reader, place);
	if (!error && vc->ops->state)
		error = state_load(reader, place, 0, vc->ops->state, vc, staged);
	*result = staged;
	return error;
}

/* It could be enabled a moment ago; if it cannot now, the driver finds the device broken. */
static void queue_apply(struct virtio_common *vc, struct vqueue_info *vq,
			const struct vqueue_info *staged)
{
	state_apply(&queue_state, vq, staged);
	if (!virtio_queue_restore(vc, vq))
		return;
	vq->enabled = false;
	virtio_device_error(vc, vq, "cannot be enabled as it was saved");
}

void virtio_state_apply(struct virtio_common *vc, const struct virtio_common *staged)
{
	const struct state_desc *own = vc->ops->state;

	virtio_lock_queues(vc);
	vc->negotiated_caps = staged->negotiated_caps;
	vc->driver_caps = staged->driver_caps;
	vc->features_final = staged->features_final;
	vc->legacy_driver = staged->legacy_driver;
	if (vc->features_final)
		virtio_queues_ask(vc);
	if (vc->features_final && vc->ops->apply_features)
		vc->ops->apply_features(vc);
	state_apply(&common_state, vc, staged);
	for (unsigned int i = 0; i < vc->nvq; i++)
		queue_apply(vc, &vc->vqs[i], &staged->vqs[i]);
	if (own)
		state_apply(own, vc, staged);
	if (own && own->loaded)
		own->loaded(vc);
	vc->transport->status_changed(vc);
	virtio_unlock_queues(vc);
}
