/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Devices whose requests only the kernel's vhost carries out: when it starts and when it stops.
 */
#include "vhost_device.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int vhost_device_take(struct virtio_common *vc, int fd)
{
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
		int error = errno;

		log_error(vc->log, "%s: vhostfd=%d: %m (hand over an open descriptor)", vc->name,
			  fd);
		return -error;
	}
	return fd;
}

/* vhost_open(), with the other remedy that these devices have. */
static int vhost_device_open_path(struct virtio_common *vc, const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	int error = errno;

	if (fd >= 0)
		return fd;
	log_error(vc->log, "%s: cannot open %s: %s (%s, or hand over an open one with vhostfd=)",
		  vc->name, path, strerror(error),
		  error == EACCES || error == EPERM ? "give this user access"
						    : "load its kernel module");
	return -error;
}

int vhost_device_open(struct vhost_device *device, struct virtio_common *vc, const char *path,
		      uint64_t fd)
{
	device->fd = fd ? vhost_device_take(vc, (int)fd) : vhost_device_open_path(vc, path);
	return MIN(device->fd, 0);
}

int vhost_device_init(struct vhost_device *device, struct virtio_common *vc, unsigned int queues,
		      uint64_t features)
{
	struct vhost_dev *vhost = &device->vhost;
	int error;

	vhost->vqs = calloc(queues, sizeof(*vhost->vqs));
	if (!vhost->vqs)
		return -ENOMEM;
	vhost->nvqs = queues;
	error = vhost_dev_init(vhost, vc, device->fd, 0, features, 0, 0);
	if (error) {
		free(vhost->vqs);
		memset(vhost, 0, sizeof(*vhost));
		return error;
	}
	vhost_dev_limit(vhost);
	vc->kernel_only = true;
	return 0;
}

int vhost_device_own(struct vhost_device *device)
{
	static const struct vhost_memory none;
	int error = vhost_kernel_ioctl(&device->vhost, VHOST_SET_OWNER, NULL, "VHOST_SET_OWNER");

	if (error)
		return error;
	device->vhost.owned = true;
	return vhost_kernel_ioctl(&device->vhost, VHOST_SET_MEM_TABLE, &none,
				  "VHOST_SET_MEM_TABLE");
}

int vhost_device_ioctl(const struct vhost_device *device, unsigned long request, const void *arg)
{
	int value = ioctl(device->fd, request, arg);

	return value < 0 ? -errno : value;
}

void vhost_device_deinit(struct vhost_device *device)
{
	if (device->vhost.vqs) {
		vhost_device_stop(device);
		vhost_dev_deinit(&device->vhost);
		free(device->vhost.vqs);
		device->vhost.vqs = NULL;
	}
	if (device->fd >= 0)
		close(device->fd);
	device->fd = -1;
}

static struct vqueue_info *queue_of(const struct vhost_dev *vhost, unsigned int index)
{
	return &vhost->base->vqs[vhost->vq_idx + index];
}

/*
 * Is there a queue for the kernel that it does not have, at first, or enabled after the others; and
 * none that it needs besides?
 */
static bool queues_wait(const struct vhost_device *device)
{
	bool wait = false;

	for (unsigned int i = 0; i < device->vhost.nvqs; i++) {
		const struct vqueue_info *vq = queue_of(&device->vhost, i);

		if (!vq->enabled && device->all_queues)
			return false;
		wait |= vq->enabled && !vq->offloaded;
	}
	return wait;
}

static const char *vhost_device_start(struct vhost_device *device)
{
	struct vhost_dev *vhost = &device->vhost;
	const char *obstacle = vhost_dev_can_start(vhost);

	if (obstacle)
		return obstacle;
	if (vhost_dev_start(vhost))
		return "vhost does not start";
	if (!device->backend(vhost->base, true))
		return NULL;
	vhost_dev_stop(vhost);
	return "the kernel does not take its rings";
}

void vhost_device_run(struct vhost_device *device)
{
	struct virtio_common *vc = device->vhost.base;
	const char *trouble;

	if (device->busy || !vc->running || !queues_wait(device))
		return;
	vhost_device_stop(device);
	if (!vc->running)
		return;
	device->busy = true;
	trouble = vhost_device_start(device);
	device->busy = false;
	if (trouble)
		virtio_device_error(vc, NULL, "cannot be run by the kernel: %s", trouble);
}

void vhost_device_stop(struct vhost_device *device)
{
	struct vhost_dev *vhost = &device->vhost;

	/* A ring that is found broken when it comes back has the device stopped again. */
	if (!vhost->started || device->busy)
		return;
	device->busy = true;
	device->backend(vhost->base, false);
	vhost_dev_stop(vhost);
	device->busy = false;
}

/* Each queue that is given back is looked at soon: then those that are left start again, if they may. */
void vhost_device_queue_reset(struct vhost_device *device, struct vqueue_info *vq)
{
	if (vq->offloaded)
		vhost_device_stop(device);
}

int vhost_device_offload(struct vhost_device *device, bool on, const char *why)
{
	struct virtio_common *vc = device->vhost.base;

	if (on)
		return 0;
	log_error(vc->log, "%s: vhost off: it runs in the kernel only: %s (leave it on)", vc->name,
		  why);
	return -EOPNOTSUPP;
}
