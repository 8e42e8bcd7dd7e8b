/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ring_lab.h: one queue of a device that does nothing by itself, so that a test plays both sides of
 * it: the driver with the driver library, the device with the author's ring API.
 */
#ifndef TENON_TESTS_RING_LAB_H
#define TENON_TESTS_RING_LAB_H

#include <stdio.h>
#include <stdlib.h>

#include "../../devicemodel/hw/pci/virtio/virtio_pci.h"
#include "virtio_driver.h"

#define LAB_SLOT 2
#define LAB_IOV 64

struct lab_device {
	struct virtio_common vc;
};

static void lab_qnotify(void *dev, struct vqueue_info *vq)
{
}

VIRTIO_DEVICE(virtio_ring_lab, {
				       .name = "virtio-ring-lab",
				       .summary = "queue that a test works on",
				       .device_id = 62,
				       .nvq = 1,
				       .queue_size = 8,
				       .priv_size = sizeof(struct lab_device),
				       .qnotify = lab_qnotify,
			       });

/* struct lab_params - the ways in which a ring is driven. @queue_size: 0 for 8 */
struct lab_params {
	bool packed, in_order, event_idx;
	bool indirect; /* buffers go into indirect tables, else none does */
	unsigned int queue_size;
};

#define LAB_COMBINATIONS 16

static inline struct lab_params lab_params_at(unsigned int index)
{
	return (struct lab_params) { .packed = index & 1,
				     .indirect = index & 2,
				     .in_order = index & 4,
				     .event_idx = index & 8 };
}

static inline const char *lab_params_name(const struct lab_params *params, char *text, size_t size)
{
	snprintf(text, size, "%s%s%s%s", params->packed ? "packed" : "split",
		 params->indirect ? ",indirect" : "", params->in_order ? ",in_order" : "",
		 params->event_idx ? ",event_idx" : "");
	return text;
}

struct lab {
	struct lab_params params;
	struct machine *machine;
	struct virtio_driver *driver;
	struct ring *ring;
	struct virtio_common *vc;
	struct vqueue_info *vq;
};

static inline struct lab lab_create(struct lab_params params)
{
	struct lab lab = { .params = params, .machine = machine_create(NULL) };
	struct driver_params ways = { .packed = params.packed,
				      .event_idx = params.event_idx,
				      .indirect = true,
				      .extra = params.in_order ? BIT64(VIRTIO_F_IN_ORDER) : 0 };
	char spec[96];

	snprintf(spec, sizeof(spec), "%d,virtio-ring-lab,packed=%s,in_order=%s,queue_size=%u",
		 LAB_SLOT, params.packed ? "on" : "off", params.in_order ? "on" : "off",
		 params.queue_size);
	lab.vc = ((struct virtio_pci *)machine_add(lab.machine, spec)->arg)->vc;
	lab.vq = &lab.vc->vqs[0];
	lab.driver = driver_run(lab.machine, LAB_SLOT, &ways, 0);
	lab.ring = &driver_queue(lab.driver, 0)->ring;
	assert_true(lab.vq->enabled);
	assert_int_equal(lab.vq->packed, params.packed);
	assert_int_equal(lab.vq->in_order, params.in_order);
	assert_int_equal(lab.vq->event_idx, params.event_idx);
	return lab;
}

static inline void lab_destroy(struct lab *lab)
{
	driver_close(lab->driver);
	machine_destroy(lab->machine);
}

/* The device is one that has just started: the ring is set up, at a place that somebody made up. */
static inline void lab_new_device(struct lab *lab)
{
	lab->vq->inflight = NULL;
	lab->vq->last_avail = lab->vq->used_idx = 0;
	lab->vq->avail_wrap = lab->vq->used_wrap = true;
	assert_int_equal(virtio_queue_restore(lab->vc, lab->vq), 0);
}

#endif
