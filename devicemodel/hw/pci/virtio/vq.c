/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The device's side of a virtqueue, whatever its format: the author's API, the mapping of what
 * descriptors point at, and VIRTIO_F_IN_ORDER.
 */
#include <errno.h>

#include "dirty_log.h"
#include "virtio_transport.h"

const char VQ_TOO_LONG[] = "chain has more descriptors than the device takes";

/* ---- where descriptors point ---- */

uint64_t vq_translate(struct vqueue_info *vq, uint64_t addr, uint64_t len, bool write)
{
	struct virtio_common *vc = vq->vc;

	if (!vc->translate || !virtio_has_feature(vc, VIRTIO_F_ACCESS_PLATFORM))
		return addr;
	return vc->translate(vc, addr, len, write);
}

void *vq_map(struct vqueue_info *vq, uint64_t addr, uint64_t len, bool write)
{
	return guest_memory_host(vq->vc->memory, vq_translate(vq, addr, len, write), len);
}

const char *vq_chain_add(struct vqueue_info *vq, struct vq_chain *chain, int n_iov, uint64_t addr,
			 uint32_t len, bool write)
{
	int used = chain->out_count + chain->in_count;
	uint64_t gpa;
	int count;

	if (!write && chain->in_count)
		return "device-readable descriptor behind a device-writable one (2.7.4.2)";
	gpa = vq_translate(vq, addr, len, write);
	count = guest_memory_iov(vq->vc->memory, gpa, len, chain->iov + used, n_iov - used);
	if (count == -EFAULT)
		return "descriptor points outside of RAM (2.7.5)";
	if (count < 0)
		return VQ_TOO_LONG;
	if (write) {
		chain->in_count += count;
		chain->in_len += len;
		if (vq->dirty)
			vq_dirty_add(vq, gpa, len);
	} else {
		chain->out_count += count;
		chain->out_len += len;
	}
	if (chain->in_len + chain->out_len > UINT32_MAX)
		return "chain of more than 4 GiB (2.7.5.2)";
	return NULL;
}

/* ---- taking chains ---- */

static bool vq_usable(const struct vqueue_info *vq)
{
	return vq->enabled && !vq->broken && !vq->offloaded && vq->vc->running &&
	       !(vq->in_turn && !vq->turn);
}

bool vq_has_descs(struct vqueue_info *vq)
{
	return vq_usable(vq) && vq->ops->has_descs(vq);
}

static void vq_popped(struct vqueue_info *vq, uint16_t idx)
{
	vq->order[vq->popped++ % vq->size] = idx;
	if (vq->in_turn)
		vq->turn--;
}

int vq_getchains(struct vqueue_info *vq, struct vq_chain *chains, int max, struct iovec *iov,
		 int n_iov)
{
	int count = 0;

	if (vq->broken)
		return -1;
	while (count < max && vq_usable(vq) && vq->ops->has_descs(vq)) {
		struct vq_chain *chain = &chains[count];
		const char *wrong;

		*chain = (struct vq_chain) { .iov = iov };
		wrong = vq->ops->pop(vq, chain, n_iov);
		if (wrong == VQ_TOO_LONG && count)
			break;
		if (wrong) {
			virtio_device_error(vq->vc, vq, "%s", wrong);
			return -1;
		}
		vq_popped(vq, chain->idx);
		iov += chain->out_count + chain->in_count;
		n_iov -= chain->out_count + chain->in_count;
		count++;
	}
	return vq->broken ? -1 : count;
}

int vq_pop(struct vqueue_info *vq, struct vq_chain *chain, struct iovec *iov, int n_iov)
{
	return vq_getchains(vq, chain, 1, iov, n_iov);
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
	if (vq->enabled && !vq->offloaded && vq->popped != vq->released)
		vq->ops->unpop(vq, vq->order[--vq->popped % vq->size]);
}

/* ---- giving them back ---- */

/* Both counts stay small: 2^32 need not be a multiple of the size, and @order goes by them. */
static void vq_count_released(struct vqueue_info *vq)
{
	if (++vq->released < vq->size)
		return;
	vq->released -= vq->size;
	vq->popped -= vq->size;
}

/* Chains given back before an earlier one wait for it (virtio 1.4, 2.9). */
static void vq_release_in_order(struct vqueue_info *vq, uint16_t idx, uint32_t len)
{
	vq->slots[idx].len = len;
	vq->slots[idx].done = true;
	while (vq->released != vq->popped) {
		uint16_t next = vq->order[vq->released % vq->size];

		if (!vq->slots[next].done)
			break;
		vq->slots[next].done = false;
		vq_count_released(vq);
		vq->ops->push(vq, next, vq->slots[next].len);
	}
}

void vq_relchain(struct vqueue_info *vq, uint16_t idx, uint32_t len)
{
	if (!vq->enabled || vq->broken || vq->offloaded || idx >= vq->size)
		return;
	if (vq->in_order) {
		vq_release_in_order(vq, idx, len);
		return;
	}
	vq_count_released(vq);
	vq->ops->push(vq, idx, len);
}

void vq_relchains(struct vqueue_info *vq, const struct vq_used *used, int count)
{
	for (int i = 0; i < count; i++)
		vq_relchain(vq, used[i].idx, used[i].len);
}

void vq_endchains(struct vqueue_info *vq, int used_all)
{
	if (vq->enabled && !vq->broken && !vq->offloaded && vq->ops->publish(vq, used_all))
		vq_interrupt(vq->vc, vq);
}

void vq_interrupt(struct virtio_common *vc, struct vqueue_info *vq)
{
	vc->transport->notify_queue(vc, vq);
}
