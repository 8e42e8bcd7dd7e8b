/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_model.h: vhost devices without a kernel that has them: descriptors whose vhost ioctls are
 * answered in this process, by a ring that an event loop of the test's runs. In every test program
 * they are what /dev/vhost-vsock and /dev/vhost-scsi open, each on a host of its own, whatever this
 * machine has.
 *
 * The model keeps to what Linux's vhost does: the order that it needs, the errors that it gives. Its
 * rings are those of vq_split.c, so what it shows is how a device hands its rings over and takes
 * them back, and not how a ring is run.
 */
#ifndef TENON_TESTS_VHOST_MODEL_H
#define TENON_TESTS_VHOST_MODEL_H

#include <linux/vhost.h>
#include <sys/types.h>

#include "hv_inproc.h"
#include "logger.h"

#define VHOST_MODEL_QUEUES 16
#define VHOST_MODEL_CALLS 1024

enum vhost_model_kind { VHOST_MODEL_VSOCK, VHOST_MODEL_SCSI };

struct model_queue;
struct virtio_common;

/*
 * struct vhost_model - one open vhost device.
 * @features: what VHOST_GET_FEATURES says
 * @fd: for its user, who closes it; @device, @inode: what file it is; @peer: hears of its end
 * @fail_request, @fail_error: that ioctl fails, with this errno; 0: none
 * @calls, @call_count: the requests so far
 * @acked, @owned, @memory, @queues, @cid ...: what it was told
 * @rings: what runs the queues; @kicked: the one that is at work
 */
struct vhost_model {
	enum vhost_model_kind kind;
	unsigned int host;
	int fd, peer;
	dev_t device;
	ino_t inode;
	bool released;
	uint64_t features;
	unsigned long fail_request;
	int fail_error;
	unsigned long calls[VHOST_MODEL_CALLS];
	unsigned int call_count;

	uint64_t acked;
	bool owned, has_memory;
	struct guest_memory memory;
	struct model_queue *queues;

	uint64_t cid;
	bool running;
	struct vhost_scsi_target endpoint;
	bool has_endpoint;
	uint32_t events_missed;

	struct vmctx *ctx;
	struct virtio_common *rings;
	unsigned int kicked;
	struct logger log;
	pthread_mutex_t lock;
	struct vhost_model *next;
};

/* The target that the model host has; others are ENODEV. */
#define VHOST_MODEL_WWPN "naa.600140554cf3a18e"

/*
 * A new one on host @host, of which a cid is one device's only. Its rings run on the I/O loop of the
 * VM that was made last before it, which is on the inproc port.
 */
struct vhost_model *vhost_model_create(enum vhost_model_kind kind, unsigned int host);

/* Nobody here uses it any more: it goes once its descriptor is closed. */
void vhost_model_release(struct vhost_model *model);

/* How often @request came. */
unsigned int vhost_model_calls(struct vhost_model *model, unsigned long request);

#endif
