/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * virtio_kernel.h: VBS-K: a character device of the host runs a virtio device's rings.
 *
 * The interface is ACRN's (HLD, "VBS-K"): two structs say everything, and the kernel takes kicks and
 * sends interrupts by itself, through the hypervisor. It knows legacy drivers and split rings only,
 * cannot be asked what it can do, and begins every ring at index 0: a ring that was used cannot be
 * gone on with after it was stopped.
 */
#ifndef TENON_VIRTIO_KERNEL_H
#define TENON_VIRTIO_KERNEL_H

#include <linux/ioctl.h>

#include "virtio.h"

#define VBS_MAX_VQ_CNT 10
#define VBS_NAME_LEN 32

/**
 * struct vbs_vq_info - a queue.
 * @qsize: its entries
 * @pfn: guest page number of its ring, in the legacy layout
 * @msix_idx: its vector, VIRTIO_NO_VECTOR: none
 * @msix_addr, @msix_data: the message of that vector, zero if it has none (now)
 */
struct vbs_vq_info {
	uint16_t qsize;
	uint32_t pfn;
	uint16_t msix_idx;
	uint64_t msix_addr;
	uint32_t msix_data;
};

/** struct vbs_vqs_info - all queues. */
struct vbs_vqs_info {
	uint32_t nvq;
	struct vbs_vq_info vqs[VBS_MAX_VQ_CNT];
};

/**
 * struct vbs_dev_info - the device.
 * @name: for the kernel's messages
 * @vmid: the hypervisor's number of the VM
 * @pio_range_start, @pio_range_len: ports of the legacy registers, where the driver kicks
 */
struct vbs_dev_info {
	char name[VBS_NAME_LEN];
	int vmid;
	int nvq;
	uint32_t negotiated_features;
	uint64_t pio_range_start;
	uint64_t pio_range_len;
};

#define VBS_IOCTL 0xaf
#define VBS_SET_DEV _IOW(VBS_IOCTL, 0x00, struct vbs_dev_info)
#define VBS_SET_VQ _IOW(VBS_IOCTL, 0x01, struct vbs_vqs_info)
#define VBS_RESET_DEV _IO(VBS_IOCTL, 0x02)

/** vbs_kernel_start() - the kernel runs the rings from now on. 0 or -errno: then it does not. */
int vbs_kernel_start(int fd, const struct vbs_dev_info *dev,
		     const struct vbs_vqs_info *vqs) __must_check;

/** vbs_kernel_stop() - it has stopped and forgotten the rings when this returns. 0 or -errno. */
int vbs_kernel_stop(int fd) __must_check;

/** vbs_kernel_reset() - as new; what it was told is forgotten. 0 or -errno. */
int vbs_kernel_reset(int fd) __must_check;

/**
 * vbs_kernel_describe() - what vbs_kernel_start() needs, of @vc, whose driver runs.
 * Return: 0; -EOPNOTSUPP: the driver is no legacy one, or its transport has no ports; -E2BIG: too
 * many queues. The message is the caller's.
 */
int vbs_kernel_describe(struct virtio_common *vc, struct vbs_dev_info *dev,
			struct vbs_vqs_info *vqs) __must_check;

#endif
