/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fake_vhost_net.h: the kernel's vhost-net, played by open(), close() and ioctl() of the test program:
 * it notes what it is told and keeps what Linux would refuse, and moves no frame. What calls it has
 * the device's lock.
 */
#ifndef TENON_TESTS_FAKE_VHOST_NET_H
#define TENON_TESTS_FAKE_VHOST_NET_H

#include <fcntl.h>
#include <linux/vhost.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

#include "fake_ioctl.h"
#include "net_bench.h"

#define VHOSTS 4 /* descriptors at a time, one a pair */
#define VRINGS 2

/* Linux 6.12; bit 27 is VHOST_NET_F_VIRTIO_NET_HDR there. */
#define KERNEL_FEATURES                                                                            \
	(BIT64(VIRTIO_F_NOTIFY_ON_EMPTY) | BIT64(VIRTIO_RING_F_INDIRECT_DESC) |                    \
	 BIT64(VIRTIO_RING_F_EVENT_IDX) | BIT64(VHOST_F_LOG_ALL) |                                 \
	 BIT64(VHOST_NET_F_VIRTIO_NET_HDR) | BIT64(VIRTIO_F_VERSION_1) |                           \
	 BIT64(VIRTIO_NET_F_MRG_RXBUF) | BIT64(VIRTIO_F_ACCESS_PLATFORM))

/*
 * struct vhost - one open /dev/vhost-net. @fd: it, -1: closed
 * @kick, @backend: what each ring was given, -1: none
 */
struct vhost {
	int fd;
	bool owned;
	uint64_t features;
	uint32_t busyloop[VRINGS];
	int kick[VRINGS], backend[VRINGS];
	uint16_t base[VRINGS];
};

/*
 * struct kernel
 * @offers: VHOST_GET_FEATURES; @open_error: of /dev/vhost-net, 0: none
 * @fail_at: the ioctl with this number fails, counted by @calls; 0: none
 * @header_wrong: how often a tap was given whose header is another one than vhost-net's
 * @rude: how often something was asked that Linux refuses
 */
static struct kernel {
	struct vhost vhosts[VHOSTS];
	uint64_t offers;
	int open_error;
	unsigned int calls, fail_at;
	unsigned int header_wrong, rude;
	unsigned long tun_offload;
} kernel;

static const struct vhost vhost_closed = { .fd = -1, .kick = { -1, -1 }, .backend = { -1, -1 } };

static inline void kernel_reset(void)
{
	kernel = (struct kernel) { .offers = KERNEL_FEATURES };
	for (unsigned int i = 0; i < VHOSTS; i++)
		kernel.vhosts[i] = vhost_closed;
}

static inline struct vhost *kernel_find(int fd)
{
	for (unsigned int i = 0; i < VHOSTS; i++)
		if (kernel.vhosts[i].fd == fd)
			return &kernel.vhosts[i];
	return NULL;
}

int open(const char *path, int flags, ...)
{
	struct vhost *vhost = kernel_find(-1);
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
	va_end(args);
	if (strcmp(path, "/dev/vhost-net") != 0)
		return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
	if (kernel.open_error || !vhost) {
		errno = kernel.open_error ? kernel.open_error : EMFILE;
		return -1;
	}
	*vhost = vhost_closed;
	vhost->fd = eventfd(0, 0);
	return vhost->fd;
}

int close(int fd)
{
	struct vhost *vhost = fd >= 0 ? kernel_find(fd) : NULL;

	if (vhost) {
		kernel.rude += vhost->backend[0] >= 0 || vhost->backend[1] >= 0;
		*vhost = vhost_closed;
	}
	return (int)syscall(SYS_close, fd);
}

/* vhost-net, drivers/vhost/net.c: vhost_net_set_features() */
static inline int vhost_header(const struct vhost *vhost)
{
	return vhost->features & (BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_NET_F_MRG_RXBUF)) ? 12
											     : 10;
}

static inline int vhost_set_backend(struct vhost *vhost, const struct vhost_vring_file *file)
{
	int header = 0;

	if (file->fd >= 0 &&
	    (ioctl(file->fd, TUNGETVNETHDRSZ, &header) < 0 || header != vhost_header(vhost) ||
	     vhost->features & BIT64(VHOST_NET_F_VIRTIO_NET_HDR)))
		kernel.header_wrong++;
	if (file->fd >= 0 && vhost->kick[file->index] < 0)
		kernel.rude++;
	vhost->backend[file->index] = file->fd;
	return 0;
}

static inline int vhost_vring(struct vhost *vhost, unsigned long request, void *arg)
{
	const struct vhost_vring_file *file = arg;
	struct vhost_vring_state *state = arg;

	switch (request) {
	case VHOST_SET_VRING_NUM:
	case VHOST_SET_VRING_BASE:
		if (vhost->backend[state->index] >= 0)
			return -EBUSY;
		if (request == VHOST_SET_VRING_BASE)
			vhost->base[state->index] = (uint16_t)state->num;
		return 0;
	case VHOST_GET_VRING_BASE:
		kernel.rude += vhost->backend[state->index] >= 0;
		state->num = vhost->base[state->index];
		return 0;
	case VHOST_SET_VRING_BUSYLOOP_TIMEOUT:
		vhost->busyloop[state->index] = state->num;
		return 0;
	case VHOST_SET_VRING_KICK:
		kernel.rude += file->fd < 0 && vhost->backend[file->index] >= 0;
		vhost->kick[file->index] = file->fd;
		return 0;
	case VHOST_NET_SET_BACKEND:
		return vhost_set_backend(vhost, file);
	default:
		return 0;
	}
}

static inline int vhost_ioctl(struct vhost *vhost, unsigned long request, void *arg)
{
	if (++kernel.calls == kernel.fail_at)
		return -EIO;
	if (request == VHOST_GET_FEATURES) {
		*(uint64_t *)arg = kernel.offers;
		return 0;
	}
	if (request == VHOST_SET_OWNER) {
		kernel.rude += vhost->owned;
		vhost->owned = true;
		return 0;
	}
	if (!vhost->owned)
		return -EPERM;
	if (request == VHOST_RESET_OWNER) {
		*vhost = (struct vhost) { .fd = vhost->fd,
					  .kick = { -1, -1 },
					  .backend = { -1, -1 } };
		return 0;
	}
	if (request != VHOST_SET_FEATURES)
		return vhost_vring(vhost, request, arg);
	vhost->features = *(const uint64_t *)arg;
	return vhost->features & ~kernel.offers ? -EOPNOTSUPP : 0;
}

static inline int fake_ioctl(int fd, unsigned long request, void *arg)
{
	struct vhost *vhost = _IOC_TYPE(request) == VHOST_VIRTIO ? kernel_find(fd) : NULL;

	if (request == TUNSETOFFLOAD)
		kernel.tun_offload = (unsigned long)arg;
	return vhost ? vhost_ioctl(vhost, request, arg) : FAKE_NOT_OURS;
}

FAKE_IOCTL(fake_ioctl);

/* Pairs whose two rings have a tap behind them, as bits; a pair with one only is an error. */
static inline unsigned int kernel_runs(void)
{
	unsigned int pairs = 0;

	for (unsigned int i = 0; i < VHOSTS; i++) {
		const struct vhost *vhost = &kernel.vhosts[i];

		assert_int_equal(vhost->backend[0], vhost->backend[1]);
		assert_int_equal(vhost->kick[0] >= 0, vhost->backend[0] >= 0);
		pairs |= (unsigned int)(vhost->backend[0] >= 0) << i;
	}
	return pairs;
}

#endif
