/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The device's side of a virtqueue, whatever its format.
 */
#include "virtio_transport.h"

bool vq_has_descs(struct vqueue_info *vq)
{
	return vq->enabled && !vq->broken && vq->vc->running && vq->ops->has_descs(vq);
}

int vq_pop(struct vqueue_info *vq, struct vq_chain *chain, struct iovec *iov, int n_iov)
{
	if (vq->broken)
		return -1;
	if (!vq->enabled || !vq->vc->running)
		return 0;
	return vq->ops->pop(vq, chain, iov, n_iov);
}

int vq_getchain(struct vqueue_info *vq, uint16_t *idx, struct iovec *iov, int n_iov,
		uint16_t *flags)
{
	struct vq_chain chain;
	int result = vq_pop(vq, &chain, iov, n_iov);

	if (result <= 0)
		return result;
	if (!chain.out_count && !chain.in_count) {
		virtio_device_error(vq->vc, vq, "chain without a byte in it");
		return -1;
	}
	*idx = chain.idx;
	for (int i = 0; flags && i < chain.out_count + chain.in_count; i++)
		flags[i] = i < chain.out_count ? 0 : VRING_DESC_F_WRITE;
	return chain.out_count + chain.in_count;
}

void vq_retchain(struct vqueue_info *vq)
{
	if (vq->enabled)
		vq->ops->unpop(vq);
}

void vq_relchain(struct vqueue_info *vq, uint16_t idx, uint32_t len)
{
	if (vq->enabled && !vq->broken)
		vq->ops->push(vq, idx, len);
}

void vq_endchains(struct vqueue_info *vq, int used_all)
{
	if (vq->enabled && !vq->broken && vq->ops->publish(vq, used_all))
		vq_interrupt(vq->vc, vq);
}

void vq_interrupt(struct virtio_common *vc, struct vqueue_info *vq)
{
	vc->transport->notify_queue(vc, vq);
}
