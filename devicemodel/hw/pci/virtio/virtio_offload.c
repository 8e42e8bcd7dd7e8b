/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Queues that somebody else runs, the kernel's vhost say: handed over and taken back between two
 * chains, so that the driver notices nothing.
 */
#include <errno.h>

#include "virtio_transport.h"

int virtio_queue_offload(struct virtio_common *vc, struct vqueue_info *vq)
{
	int error;

	if (!vc->transport->offload || !vq->ops->take_back)
		return -ENOTSUP;
	if (!vq->enabled || vq->broken || vq->offloaded)
		return -EINVAL;
	if (vq->popped != vq->released || vq->published != vq->used_idx)
		return -EBUSY;
	vq->offloaded = true;
	error = vc->transport->offload(vc, vq, true);
	if (error)
		vq->offloaded = false;
	virtio_queue_poll_update(vq);
	return error;
}

/* Is there a driver whom it concerns? In a reset there is none any more. */
static bool driver_there(const struct virtio_common *vc)
{
	return vc->status & VIRTIO_CONFIG_S_DRIVER_OK &&
	       !(vc->status & VIRTIO_CONFIG_S_NEEDS_RESET);
}

/*
 * First the ring, then the notifications: the look that they bring about finds it as ours. Who ran
 * it gave back all that it took, so both indices are at one place, unless a driver wrote the used
 * index or had the other side give up on a chain.
 */
void virtio_queue_take_back(struct virtio_common *vc, struct vqueue_info *vq, uint16_t last_avail)
{
	bool idle = true;

	if (!vq->offloaded)
		return;
	vq->offloaded = false;
	if (vq->enabled)
		idle = vq->ops->take_back(vq, last_avail);
	virtio_queue_poll_update(vq);
	if (vc->transport->offload(vc, vq, false))
		log_error(vc->log, "%s: queue %u cannot be taken back from the kernel", vc->name,
			  vq->index);
	if (!idle && driver_there(vc))
		virtio_device_error(vc, vq, "used index %u, but %u chains were taken (2.7.8)",
				    vq->used_idx, last_avail);
}

/* The device knows what it set behind the rings and must take away: it stops all at once. */
void virtio_stop_offload(struct virtio_common *vc)
{
	for (unsigned int i = 0; i < vc->nvq; i++) {
		if (!vc->vqs[i].offloaded)
			continue;
		if (vc->ops->quiesce)
			vc->ops->quiesce(vc);
		return;
	}
}
