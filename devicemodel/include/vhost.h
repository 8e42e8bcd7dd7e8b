/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * vhost.h: the kernel's vhost runs a virtio device's rings; tenon keeps the control plane.
 *
 * A device that can be offloaded has a struct vhost_dev a vhost file descriptor (virtio-net: one a
 * queue pair), made in its init, started when the driver runs, stopped in its reset, queue_reset,
 * quiesce and offload callbacks. All functions are called with the device's lock held, or from init
 * and deinit. Names and order follow the ACRN HLD ("vhost APIs"); errors are tenon's.
 *
 * What the device sets behind the rings is set in the callback in which it calls vhost_dev_start(),
 * and taken away in the one in which it calls vhost_dev_stop(), before it: the kernel is told to
 * look at its rings by the event loop, which runs after that callback.
 */
#ifndef TENON_VHOST_H
#define TENON_VHOST_H

#include <linux/vhost.h>

#include "virtio.h"

struct vhost_dev;

/**
 * struct vhost_vq - one queue as vhost has it.
 * @kick_fd, @call_fd: what vhost was given while it runs, the transport's; else -1
 * @err_fd, @err_source: signalled by the kernel when it gives up on the ring
 * @idx: its index in the vhost device (the virtio queue is dev->vq_idx + idx)
 * @base: how far the kernel said it had come when it was stopped; -1: it did not say
 */
struct vhost_vq {
	int kick_fd, call_fd;
	int err_fd;
	struct event_source *err_source;
	uint16_t idx;
	int base;
	struct vhost_dev *dev;
};

/**
 * struct vhost_dev - one open vhost descriptor and the queues that it runs.
 * @base: the virtio device
 * @vqs, @nvqs: the caller's array, filled in by vhost_dev_init()
 * @fd: the caller's, open until after vhost_dev_deinit()
 * @vq_idx: the first of @base's queues that it runs
 * @vhost_features: feature bits that need the kernel's consent; the others are tenon's business
 * @vhost_ext_features: bits of the kernel's own that the device wants set if there
 *                      (VHOST_NET_F_VIRTIO_NET_HDR ...)
 * @kernel_features: what the kernel has (VHOST_GET_FEATURES)
 * @busyloop_timeout: microseconds that the kernel polls before it sleeps, 0: none
 * @owned: this process is its owner, from the first start on
 * @no_busyloop: the kernel has no busy loop, which was said
 * @started: it runs the rings
 */
struct vhost_dev {
	struct virtio_common *base;
	struct vhost_vq *vqs;
	unsigned int nvqs;
	int fd;
	unsigned int vq_idx;
	uint64_t vhost_features;
	uint64_t vhost_ext_features;
	uint64_t kernel_features;
	uint32_t busyloop_timeout;
	bool owned;
	bool no_busyloop;
	bool started;
};

/**
 * vhost_open() - open "/dev/vhost-net" and its like.
 * @optional: user space takes over without it (vhost=auto): the line says so, and is no error
 * Return: the descriptor or -errno after one line that names the file, the cause and the remedy.
 */
int vhost_open(struct virtio_common *vc, const char *path, bool optional) __must_check;

/**
 * vhost_dev_init() - make @vdev the offload of @base's queues from @vq_idx on; vdev->vqs and
 * vdev->nvqs are set by the caller. Learns what the kernel can; takes nothing from @base's offered
 * features: that is vhost_dev_limit()'s.
 * @features: bits that need the kernel's consent
 * @ext_features: as above
 * @busyloop: microseconds
 * Return: 0 or -errno after one log line.
 */
int vhost_dev_init(struct vhost_dev *vdev, struct virtio_common *base, int fd, unsigned int vq_idx,
		   uint64_t features, uint64_t ext_features, uint32_t busyloop) __must_check;

/**
 * vhost_dev_limit() - offer the driver only what the kernel can do too, and say so where an option
 * asked for more; init only, behind vhost_dev_init().
 */
void vhost_dev_limit(struct vhost_dev *vdev);

/**
 * vhost_dev_can_start() - is a driver there that has accepted nothing that the kernel cannot do, and
 * are the queues split rings? The first thing that is in the way, for a message, or NULL: nothing is.
 */
const char *vhost_dev_can_start(const struct vhost_dev *vdev);

/**
 * vhost_dev_start() - the kernel runs the enabled queues from where the device left them: owner,
 * features, memory table, then per queue size, base, addresses, call, kick (HLD, vhost). The device
 * has no chain of them. What goes behind (VHOST_NET_SET_BACKEND ...) is the device's, and a queue
 * that is enabled later is for the next start.
 * Return: 0, also if it is started already, or -errno after one log line: then nothing runs, and the
 * device's qnotify is called soon for each queue that it can work on by itself.
 */
int vhost_dev_start(struct vhost_dev *vdev) __must_check;

/**
 * vhost_dev_stop() - the kernel has stopped and touches no guest memory when this returns; rings
 * and indices are @base's again, nothing is lost. Harmless if it was not started. What the device
 * set behind it must be taken away before. 0 or -errno after one log line (stopped all the same).
 * Where the driver runs, the device's qnotify is called soon.
 */
int vhost_dev_stop(struct vhost_dev *vdev);

/** vhost_dev_deinit() - forget it; stops it if it runs. @fd is the caller's to close. */
void vhost_dev_deinit(struct vhost_dev *vdev);

/** vhost_kernel_ioctl() - ioctl on vdev->fd: its value, or -errno after one log line naming @name. */
int vhost_kernel_ioctl(struct vhost_dev *vdev, unsigned long request, const void *arg,
		       const char *name);

#endif
