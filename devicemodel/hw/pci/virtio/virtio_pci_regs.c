/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Register files: any width at any alignment on a table of registers, and the registers that the
 * legacy and the modern interface have in common.
 */
#include "virtio_pci.h"

static const struct virtio_reg *reg_at(const struct virtio_reg *regs, unsigned int count,
				       uint64_t offset)
{
	for (unsigned int i = 0; i < count; i++)
		if (offset >= regs[i].offset && offset < (uint64_t)regs[i].offset + regs[i].size)
			return &regs[i];
	return NULL;
}

uint64_t virtio_regs_read(struct virtio_pci *vp, const struct virtio_reg *regs, unsigned int count,
			  uint64_t offset, unsigned int size)
{
	uint64_t value = 0;
	unsigned int done = 0;

	while (done < size) {
		const struct virtio_reg *reg = reg_at(regs, count, offset + done);
		unsigned int skip, part;
		uint64_t bytes;

		if (!reg) {
			done++;
			continue;
		}
		skip = (unsigned int)(offset + done - reg->offset);
		part = MIN(reg->size - skip, size - done);
		bytes = reg->read(vp) >> (8 * skip);
		if (part < 8)
			bytes &= BIT64(8 * part) - 1;
		value |= bytes << (8 * done);
		done += part;
	}
	return value;
}

void virtio_regs_write(struct virtio_pci *vp, const struct virtio_reg *regs, unsigned int count,
		       uint64_t offset, unsigned int size, uint64_t value)
{
	unsigned int done = 0;

	while (done < size) {
		const struct virtio_reg *reg = reg_at(regs, count, offset + done);
		unsigned int skip, part;
		uint64_t whole = 0;

		if (!reg) {
			done++;
			continue;
		}
		skip = (unsigned int)(offset + done - reg->offset);
		part = MIN(reg->size - skip, size - done);
		if (part < reg->size)
			whole = reg->raw ? reg->raw(vp) : reg->read(vp);
		for (unsigned int i = 0; i < part; i++) {
			whole &= ~((uint64_t)0xff << (8 * (skip + i)));
			whole |= ((value >> (8 * (done + i))) & 0xff) << (8 * (skip + i));
		}
		if (reg->write)
			reg->write(vp, whole);
		done += part;
	}
}

struct vqueue_info *virtio_selected_queue(struct virtio_pci *vp)
{
	return vp->queue_select < vp->vc->nvq ? &vp->vc->vqs[vp->queue_select] : NULL;
}

uint8_t virtio_isr_read(struct virtio_pci *vp)
{
	return pci_isr_read(vp->dev, &vp->vc->isr);
}

uint64_t virtio_reg_status(struct virtio_pci *vp)
{
	return vp->vc->status;
}

void virtio_reg_set_status(struct virtio_pci *vp, uint64_t value)
{
	virtio_status_write(vp, (uint8_t)value);
}

uint64_t virtio_reg_queue_select(struct virtio_pci *vp)
{
	return vp->queue_select;
}

void virtio_reg_set_queue_select(struct virtio_pci *vp, uint64_t value)
{
	vp->queue_select = (uint16_t)value;
}

/* A vector beyond the table reads as unmapped (virtio 1.4, 4.1.5.1.2.1). */
static uint16_t vector_shown(const struct virtio_pci *vp, uint64_t written)
{
	return written < vp->dev->msix.count ? (uint16_t)written : VIRTIO_NO_VECTOR;
}

uint64_t virtio_reg_config_vector_raw(struct virtio_pci *vp)
{
	return vp->config_vector;
}

uint64_t virtio_reg_config_vector(struct virtio_pci *vp)
{
	return vector_shown(vp, vp->config_vector);
}

void virtio_reg_set_config_vector(struct virtio_pci *vp, uint64_t value)
{
	vp->config_vector = (uint16_t)value;
}

uint64_t virtio_reg_queue_vector_raw(struct virtio_pci *vp)
{
	struct vqueue_info *vq = virtio_selected_queue(vp);

	return vq ? vq->msix_vector : VIRTIO_NO_VECTOR;
}

uint64_t virtio_reg_queue_vector(struct virtio_pci *vp)
{
	return vector_shown(vp, virtio_reg_queue_vector_raw(vp));
}

void virtio_reg_set_queue_vector(struct virtio_pci *vp, uint64_t value)
{
	struct vqueue_info *vq = virtio_selected_queue(vp);

	if (!vq)
		return;
	virtio_lock_queues(vp->vc);
	vq->msix_vector = (uint16_t)value;
	virtio_vector_changed(vq);
	virtio_unlock_queues(vp->vc);
}
