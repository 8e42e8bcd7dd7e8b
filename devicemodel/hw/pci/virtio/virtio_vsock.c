/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-vsock: sockets between host and guest (virtio 1.4, 5.10). The kernel's vhost-vsock runs the
 * rx and tx queues and is the host's end of every connection; the event queue is ours.
 */
#include <errno.h>
#include <linux/virtio_vsock.h>

#include "vhost_device.h"

#define VSOCK_DEVICE "/dev/vhost-vsock"
#define VSOCK_IOVS (4 + GUEST_MEMORY_REGIONS)
#define VSOCK_QUEUE_SIZE 128

/* Bits that older headers lack (virtio 1.4, 5.10.3). */
#define VSOCK_F_STREAM 0

/* The context ids that a guest may have: the others are reserved (virtio 1.4, 5.10.4). */
#define VSOCK_CID_MIN 3
#define VSOCK_CID_MAX 0xfffffffe

enum { VSOCK_QUEUE_RX, VSOCK_QUEUE_TX, VSOCK_QUEUE_EVENT, VSOCK_QUEUES };

/**
 * struct virtio_vsock
 * @reset_event: the driver is to be told that its connections are gone
 */
struct virtio_vsock {
	struct virtio_common vc;
	uint64_t opt_cid, opt_vhostfd;
	struct vhost_device kernel;
	bool reset_event;
};

static int vsock_set_cid(struct virtio_vsock *vsock)
{
	struct virtio_common *vc = &vsock->vc;
	int error = vhost_device_ioctl(&vsock->kernel, VHOST_VSOCK_SET_GUEST_CID, &vsock->opt_cid);

	if (!error)
		return 0;
	if (error == -EADDRINUSE)
		log_error(vc->log, "%s: cid=%llu: another VM has it (give each VM its own)",
			  vc->name, (unsigned long long)vsock->opt_cid);
	else
		log_error(vc->log, "%s: cid=%llu: the kernel does not take it: %s", vc->name,
			  (unsigned long long)vsock->opt_cid, strerror(-error));
	return error;
}

static int vsock_backend(struct virtio_common *vc, bool on)
{
	struct virtio_vsock *vsock = container_of(vc, struct virtio_vsock, vc);
	int running = on;

	return vhost_kernel_ioctl(&vsock->kernel.vhost, VHOST_VSOCK_SET_RUNNING, &running,
				  "VHOST_VSOCK_SET_RUNNING");
}

/* ---- The event queue (5.10.6.7) ---- */

static void vsock_send_event(struct virtio_vsock *vsock, struct vqueue_info *vq)
{
	static const struct virtio_vsock_event event = { VIRTIO_VSOCK_EVENT_TRANSPORT_RESET };
	struct iovec iov[VSOCK_IOVS];
	struct vq_chain chain;

	/* Kept until there is a buffer for it. */
	if (!vsock->reset_event || !vq_has_descs(vq) || vq_pop(vq, &chain, iov, VSOCK_IOVS) != 1)
		return;
	if (chain.in_len < sizeof(event)) {
		virtio_device_error(&vsock->vc, vq,
				    "a buffer of %llu bytes is too small for an event",
				    (unsigned long long)chain.in_len);
		return;
	}
	iov_from_buf(chain.iov + chain.out_count, chain.in_count, 0, &event, sizeof(event));
	vsock->reset_event = false;
	vq_relchain(vq, chain.idx, sizeof(event));
	vq_endchains(vq, 0);
}

/* ---- Life cycle ---- */

static void vsock_qnotify(void *dev, struct vqueue_info *vq)
{
	struct virtio_vsock *vsock = dev;

	if (vq->index == VSOCK_QUEUE_EVENT)
		vsock_send_event(vsock, vq);
	else
		vhost_device_run(&vsock->kernel);
}

static void vsock_set_status(void *dev, uint8_t status)
{
	vhost_device_run(&((struct virtio_vsock *)dev)->kernel);
}

static void vsock_quiesce(void *dev)
{
	vhost_device_stop(&((struct virtio_vsock *)dev)->kernel);
}

static void vsock_show_cid(struct virtio_vsock *vsock)
{
	struct virtio_vsock_config *config = (struct virtio_vsock_config *)vsock->vc.config;

	config->guest_cid = vsock->opt_cid;
}

static void vsock_resume(void *dev)
{
	struct virtio_vsock *vsock = dev;

	if (vsock->reset_event) /* the state that was loaded may have had another */
		vsock_show_cid(vsock);
	vhost_device_run(&vsock->kernel);
}

static void vsock_reset(void *dev)
{
	struct virtio_vsock *vsock = dev;

	vhost_device_stop(&vsock->kernel);
	vsock->reset_event = false;
}

static void vsock_queue_reset(void *dev, struct vqueue_info *vq)
{
	vhost_device_queue_reset(&((struct virtio_vsock *)dev)->kernel, vq);
}

static int vsock_offload(void *dev, bool on)
{
	struct virtio_vsock *vsock = dev;

	return vhost_device_offload(&vsock->kernel, on, "the host's sockets are there");
}

static void vsock_deinit(void *dev)
{
	vhost_device_deinit(&((struct virtio_vsock *)dev)->kernel);
}

static int vsock_init(void *dev)
{
	struct virtio_vsock *vsock = dev;
	int error = vhost_device_open(&vsock->kernel, &vsock->vc, VSOCK_DEVICE, vsock->opt_vhostfd);

	vsock->kernel.backend = vsock_backend;
	vsock->kernel.all_queues = true;
	if (!error)
		error = vhost_device_init(&vsock->kernel, &vsock->vc, VSOCK_QUEUE_EVENT,
					  BIT64(VIRTIO_VSOCK_F_SEQPACKET));
	if (!error)
		error = vsock_set_cid(vsock);
	if (error)
		vsock_deinit(vsock);
	vsock_show_cid(vsock);
	return error;
}

/* ---- Saved states ---- */

/*
 * Connections end in the kernel of the host where they were made: wherever a state is loaded the
 * driver is told that they are gone, and it reads its context id again, which may be another here.
 */
static void vsock_loaded(void *dev)
{
	struct virtio_vsock *vsock = dev;

	vsock->reset_event = true;
}

/* clang-format off */
static const struct state_field vsock_config_state[] = {
	{ STATE_FIELD(struct virtio_vsock_config, guest_cid), .min = VSOCK_CID_MIN,
	  .max = VSOCK_CID_MAX },
	{},
};

static const struct state_field vsock_fields[] = { {} };

static const struct state_desc vsock_state = {
	.name = "virtio-vsock", .version = 1, .fields = vsock_fields, .loaded = vsock_loaded,
};

static const struct option_desc vsock_options[] = {
	{ "cid", OPTION_UINT, OPTION_REQUIRED, offsetof(struct virtio_vsock, opt_cid),
	  .min = VSOCK_CID_MIN, .max = VSOCK_CID_MAX,
	  .help = "the guest's context id; the host's is 2" },
	VHOST_DEVICE_FD_OPTION(struct virtio_vsock, opt_vhostfd),
	{},
};

/* No NO_IMPLIED_STREAM: vhost has stream sockets whether the driver wants them or not. */
VIRTIO_DEVICE(virtio_vsock, {
	.name = "virtio-vsock", .summary = "sockets between host and guest, run by the kernel (vhost)",
	.device_id = VIRTIO_ID_VSOCK, .nvq = VSOCK_QUEUES, .queue_size = VSOCK_QUEUE_SIZE,
	.priv_size = sizeof(struct virtio_vsock), .cfgsize = sizeof(struct virtio_vsock_config),
	.features = { { BIT64(VSOCK_F_STREAM) | BIT64(VIRTIO_VSOCK_F_SEQPACKET) } },
	.options = vsock_options, .init = vsock_init, .deinit = vsock_deinit, .reset = vsock_reset,
	.quiesce = vsock_quiesce, .resume = vsock_resume, .qnotify = vsock_qnotify,
	.queue_reset = vsock_queue_reset, .set_status = vsock_set_status,
	.offload = vsock_offload, .state = &vsock_state, .config_state = vsock_config_state,
});
/* clang-format on */
