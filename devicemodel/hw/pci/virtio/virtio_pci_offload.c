/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Queues that the kernel runs, over PCI: its kicks come by the queue's kick_fd as before, and its
 * interrupts by call_fd, which stands for the queue's vector (pci_irqfd.c).
 */
#include "virtio_pci.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Nothing is told after a reset (virtio 1.4, 2.4.1). */
static void on_call(void *arg)
{
	struct vqueue_info *vq = arg;
	struct virtio_common *vc = vq->vc;

	if (vc->status & VIRTIO_CONFIG_S_DRIVER_OK || vc->legacy_driver)
		vc->transport->notify_queue(vc, vq);
}

static int call_create(struct virtio_pci *vp, struct vqueue_info *vq)
{
	vq->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vq->call_fd < 0)
		return -errno;
	vq->call = pci_irqfd_create(vp->dev, vq->call_fd, on_call, vq);
	if (!vq->call) {
		int error = -errno;

		close(vq->call_fd);
		vq->call_fd = -1;
		return error;
	}
	pci_irqfd_set_vector(vq->call, vq->msix_vector);
	return 0;
}

static void call_destroy(struct vqueue_info *vq)
{
	pci_irqfd_destroy(vq->call);
	vq->call = NULL;
	if (vq->call_fd >= 0)
		close(vq->call_fd);
	vq->call_fd = -1;
}

int virtio_pci_offload(struct virtio_common *vc, struct vqueue_info *vq, bool on)
{
	int error = 0;

	if (on)
		error = call_create(vc->transport_arg, vq);
	else
		call_destroy(vq);
	if (!error)
		virtio_kick_handed_over(vq);
	return error;
}

void virtio_vector_changed(struct vqueue_info *vq)
{
	if (vq->call)
		pci_irqfd_set_vector(vq->call, vq->msix_vector);
}
