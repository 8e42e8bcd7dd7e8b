/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device whose requests only the kernel's vhost can carry out (vsock, SCSI): it starts when the
 * driver does, and nothing takes over where it stops. What of it such devices share.
 *
 * All functions are called with the device's lock held, or from init and deinit.
 */
#ifndef TENON_VHOST_DEVICE_H
#define TENON_VHOST_DEVICE_H

#include <limits.h>

#include "vhost.h"

/**
 * struct vhost_device
 * @vhost: zero until vhost_device_init()
 * @backend: start (@on) or stop what is behind the rings. 0 or -errno after one log line; a stop
 *           that fails has stopped all the same
 * @all_queues: the kernel starts no ring without the others
 * @fd: -1: not open
 * @busy: it is being started or stopped
 */
struct vhost_device {
	struct vhost_dev vhost;
	int (*backend)(struct virtio_common *vc, bool on);
	bool all_queues;
	int fd;
	bool busy;
};

/** VHOST_DEVICE_FD_OPTION() - an option table's entry for @fd_member, which vhost_device_open() is given. */
#define VHOST_DEVICE_FD_OPTION(device_type, fd_member)                                             \
	{                                                                                          \
		"vhostfd", OPTION_UINT,                                                            \
			.offset = offsetof(device_type, fd_member), .min = 3, .max = INT_MAX,      \
			.help = "file descriptor of the open vhost device, instead of opening it"  \
	}

/**
 * vhost_device_open() - open @path, or take @fd (0: none) over; what vhost_device_deinit() closes.
 * Return: 0 or -errno after one log line.
 */
int vhost_device_open(struct vhost_device *device, struct virtio_common *vc, const char *path,
		      uint64_t fd) __must_check;

/**
 * vhost_device_init() - the kernel is to run @vc's first @queues queues.
 * @features: device bits that need its consent; what it lacks is not offered
 * Return: 0 or -errno after one log line.
 */
int vhost_device_init(struct vhost_device *device, struct virtio_common *vc, unsigned int queues,
		      uint64_t features) __must_check;

/**
 * vhost_device_own() - the kernel knows whose it is, and of no memory yet: some calls need that
 * before the device starts. 0 or -errno after one log line.
 */
int vhost_device_own(struct vhost_device *device) __must_check;

/** vhost_device_ioctl() - ioctl on @device: its value, or -errno. The message is the caller's. */
int vhost_device_ioctl(const struct vhost_device *device, unsigned long request,
		       const void *arg) __must_check;

/** vhost_device_deinit() - harmless at any stage, but @fd must be -1 or open. */
void vhost_device_deinit(struct vhost_device *device);

/**
 * vhost_device_run() - let the kernel run what the driver has set up by now: for set_status, resume
 * and qnotify. If it cannot, the device needs a reset.
 */
void vhost_device_run(struct vhost_device *device);

/** vhost_device_stop() - for reset and quiesce. The rings are the device's again. */
void vhost_device_stop(struct vhost_device *device);

/** vhost_device_queue_reset() - @vq leaves alone; the others go on in a moment, if they can without. */
void vhost_device_queue_reset(struct vhost_device *device, struct vqueue_info *vq);

/**
 * vhost_device_offload() - for virtio_ops.offload: it always is.
 * @why: what user space lacks
 */
int vhost_device_offload(struct vhost_device *device, bool on, const char *why) __must_check;

#endif
