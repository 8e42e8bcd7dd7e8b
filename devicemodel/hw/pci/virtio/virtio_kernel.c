/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * VBS-K: a character device of the host's kernel runs a virtio device's rings.
 */
#include "virtio_kernel.h"

#include <errno.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "virtio_transport.h"

#define LEGACY_PAGE_SHIFT 12

static int vbs_ioctl(int fd, unsigned long request, const void *arg)
{
	return ioctl(fd, request, arg) < 0 ? -errno : 0;
}

int vbs_kernel_start(int fd, const struct vbs_dev_info *dev, const struct vbs_vqs_info *vqs)
{
	int error = vbs_ioctl(fd, VBS_SET_DEV, dev);

	if (error)
		return error;
	error = vbs_ioctl(fd, VBS_SET_VQ, vqs);
	if (error) /* it knows the device by now; the first error counts */
		(void)vbs_ioctl(fd, VBS_RESET_DEV, NULL);
	return error;
}

/* There is no call that only stops it. */
int vbs_kernel_stop(int fd)
{
	return vbs_kernel_reset(fd);
}

int vbs_kernel_reset(int fd)
{
	return vbs_ioctl(fd, VBS_RESET_DEV, NULL);
}

static void describe_queue(const struct vqueue_info *vq, struct vbs_vq_info *info)
{
	if (!vq->enabled)
		return;
	info->qsize = vq->size;
	info->pfn = (uint32_t)(vq->desc_addr >> LEGACY_PAGE_SHIFT);
}

int vbs_kernel_describe(struct virtio_common *vc, struct vbs_dev_info *dev,
			struct vbs_vqs_info *vqs)
{
	struct virtio_route route = { 0 };

	if (vc->nvq > VBS_MAX_VQ_CNT)
		return -E2BIG;
	if (!vc->legacy_driver || !vc->transport->route || vc->transport->route(vc, NULL, &route))
		return -EOPNOTSUPP;
	*dev = (struct vbs_dev_info) {
		.vmid = route.vm_id,
		.nvq = vc->nvq,
		.negotiated_features = (uint32_t)vc->negotiated_caps.bits[0],
		.pio_range_start = route.port,
		.pio_range_len = route.port_count,
	};
	snprintf(dev->name, sizeof(dev->name), "%s", vc->name);
	memset(vqs, 0, sizeof(*vqs));
	vqs->nvq = vc->nvq;
	for (unsigned int i = 0; i < vc->nvq; i++) {
		struct vbs_vq_info *info = &vqs->vqs[i];

		if (vc->transport->route(vc, &vc->vqs[i], &route))
			return -EOPNOTSUPP;
		describe_queue(&vc->vqs[i], info);
		info->msix_idx = route.vector;
		info->msix_addr = route.message_addr;
		info->msix_data = route.message_data;
	}
	return 0;
}
