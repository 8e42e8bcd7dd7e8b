/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-rng-kernel: the entropy device (virtio 1.4, 5.4) whose ring a VBS-K module of the host's
 * kernel runs. Legacy drivers only: VBS-K knows no other.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "virtio_kernel.h"

/**
 * struct virtio_rng_kernel
 * @fd: the character device
 * @started: the kernel runs the ring
 */
struct virtio_rng_kernel {
	struct virtio_common vc;
	char *opt_device;
	int fd;
	bool started;
};

/* Has the ring been used? The kernel would begin it anew (virtio_kernel.h). */
static bool rng_kernel_used(const struct vqueue_info *vq)
{
	const struct vring_used *used = vq->device_area;

	return __atomic_load_n(&used->idx, __ATOMIC_RELAXED);
}

static const char *rng_kernel_try(struct virtio_rng_kernel *rng)
{
	struct vbs_dev_info dev;
	struct vbs_vqs_info vqs;
	int error;

	if (rng_kernel_used(&rng->vc.vqs[0]))
		return "its ring was in use, and VBS-K begins at index 0";
	if (vbs_kernel_describe(&rng->vc, &dev, &vqs))
		return "its registers are not at ports";
	error = vbs_kernel_start(rng->fd, &dev, &vqs);
	return error ? strerror(-error) : NULL;
}

static void rng_kernel_run(struct virtio_rng_kernel *rng)
{
	struct virtio_common *vc = &rng->vc;
	const char *trouble;

	if (rng->started || !vc->running || !vc->vqs[0].enabled)
		return;
	trouble = rng_kernel_try(rng);
	if (trouble)
		virtio_device_error(vc, &vc->vqs[0], "%s cannot run it: %s", rng->opt_device,
				    trouble);
	else
		rng->started = true;
}

static void rng_kernel_stop(void *dev)
{
	struct virtio_rng_kernel *rng = dev;
	int error = rng->started ? vbs_kernel_stop(rng->fd) : 0;

	rng->started = false;
	if (error)
		log_error(rng->vc.log,
			  "%s: %s: VBS_RESET_DEV: %s (the guest's memory may still be written)",
			  rng->vc.name, rng->opt_device, strerror(-error));
}

static void rng_kernel_qnotify(void *dev, struct vqueue_info *vq)
{
	rng_kernel_run(dev);
}

static void rng_kernel_set_status(void *dev, uint8_t status)
{
	rng_kernel_run(dev);
}

static void rng_kernel_queue_reset(void *dev, struct vqueue_info *vq)
{
	rng_kernel_stop(dev);
}

static int rng_kernel_open(struct virtio_rng_kernel *rng)
{
	int error;

	rng->fd = open(rng->opt_device, O_RDWR | O_CLOEXEC);
	error = rng->fd < 0 ? -errno : vbs_kernel_reset(rng->fd);
	if (!error)
		return 0;
	log_error(rng->vc.log, "%s: %s: %s (is the VBS-K module for it loaded?)", rng->vc.name,
		  rng->opt_device, strerror(-error));
	if (rng->fd >= 0)
		close(rng->fd);
	return error;
}

static int rng_kernel_init(void *dev)
{
	struct virtio_rng_kernel *rng = dev;
	struct virtio_common *vc = &rng->vc;

	if (!vc->opt_legacy) {
		log_error(vc->log, "%s: VBS-K knows legacy drivers only (drop legacy=off)",
			  vc->name);
		return -EINVAL;
	}
	/* What the module can do cannot be asked: plain rings it can. */
	vc->opt_modern = false;
	vc->kicks_elsewhere = true;
	memset(&vc->device_caps, 0, sizeof(vc->device_caps));
	return rng_kernel_open(rng);
}

static void rng_kernel_deinit(void *dev)
{
	struct virtio_rng_kernel *rng = dev;

	rng_kernel_stop(rng);
	close(rng->fd);
}

/* clang-format off */
static const struct option_desc rng_kernel_options[] = {
	{ "device", OPTION_STRING, OPTION_POSITIONAL | OPTION_REQUIRED,
	  offsetof(struct virtio_rng_kernel, opt_device),
	  .help = "the VBS-K module's character device, as /dev/vbs_rng" },
	{},
};

VIRTIO_DEVICE(virtio_rng_kernel, {
	.name = "virtio-rng-kernel", .summary = "entropy from a VBS-K module of ACRN's kernel",
	.device_id = VIRTIO_ID_RNG, .nvq = 1, .queue_size = 64,
	.priv_size = sizeof(struct virtio_rng_kernel), .options = rng_kernel_options,
	.init = rng_kernel_init, .deinit = rng_kernel_deinit, .reset = rng_kernel_stop,
	.quiesce = rng_kernel_stop, .qnotify = rng_kernel_qnotify,
	.queue_reset = rng_kernel_queue_reset, .set_status = rng_kernel_set_status,
});
/* clang-format on */
