/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The legacy interface: registers in an IO BAR (virtio 1.4, 4.1.4.10).
 */
#include "virtio_pci.h"

#define LEGACY_PAGE_SHIFT 12
#define LEGACY_ALIGN 4096

static uint64_t host_features_read(struct virtio_pci *vp)
{
	return virtio_offered_features(vp->vc, true).bits[0];
}

static uint64_t guest_features_read(struct virtio_pci *vp)
{
	return (uint32_t)vp->vc->driver_caps.bits[0];
}

static void guest_features_write(struct virtio_pci *vp, uint64_t value)
{
	virtio_set_driver_features(vp->vc, 0, (uint32_t)value);
}

static uint64_t queue_pfn_read(struct virtio_pci *vp)
{
	struct vqueue_info *vq = virtio_selected_queue(vp);

	return vq ? vq->desc_addr >> LEGACY_PAGE_SHIFT : 0;
}

/* One page number places all three parts (virtio 1.4, 2.7.2). */
static void queue_pfn_write(struct virtio_pci *vp, uint64_t value)
{
	struct vqueue_info *vq = virtio_selected_queue(vp);
	uint64_t size;

	if (!vq)
		return;
	if (!value) {
		virtio_queue_reset(vp->vc, vq);
		return;
	}
	if (vq->enabled)
		return;
	size = vq->size_max;
	vq->desc_addr = value << LEGACY_PAGE_SHIFT;
	vq->driver_addr = vq->desc_addr + size * sizeof(struct vring_desc);
	vq->device_addr = align_up(vq->driver_addr + 6 + 2 * size, LEGACY_ALIGN);
	virtio_queue_enable(vp->vc, vq);
}

static uint64_t queue_size_read(struct virtio_pci *vp)
{
	struct vqueue_info *vq = virtio_selected_queue(vp);

	return vq ? vq->size_max : 0;
}

static uint64_t queue_notify_read(struct virtio_pci *vp)
{
	return 0;
}

static void queue_notify_write(struct virtio_pci *vp, uint64_t value)
{
	virtio_queue_kick(vp->vc, (uint32_t)value);
}

static uint64_t isr_read(struct virtio_pci *vp)
{
	return virtio_isr_read(vp);
}

static const struct virtio_reg legacy_regs[] = {
	{ VIRTIO_PCI_HOST_FEATURES, 4, host_features_read, NULL, NULL },
	{ VIRTIO_PCI_GUEST_FEATURES, 4, guest_features_read, NULL, guest_features_write },
	{ VIRTIO_PCI_QUEUE_PFN, 4, queue_pfn_read, NULL, queue_pfn_write },
	{ VIRTIO_PCI_QUEUE_NUM, 2, queue_size_read, NULL, NULL },
	{ VIRTIO_PCI_QUEUE_SEL, 2, virtio_reg_queue_select, NULL, virtio_reg_set_queue_select },
	{ VIRTIO_PCI_QUEUE_NOTIFY, 2, queue_notify_read, NULL, queue_notify_write },
	{ VIRTIO_PCI_STATUS, 1, virtio_reg_status, NULL, virtio_reg_set_status },
	{ VIRTIO_PCI_ISR, 1, isr_read, NULL, NULL },
	/* only while MSI-X is enabled */
	{ VIRTIO_MSI_CONFIG_VECTOR, 2, virtio_reg_config_vector, virtio_reg_config_vector_raw,
	  virtio_reg_set_config_vector },
	{ VIRTIO_MSI_QUEUE_VECTOR, 2, virtio_reg_queue_vector, virtio_reg_queue_vector_raw,
	  virtio_reg_set_queue_vector },
};

#define LEGACY_VECTOR_REGS 2

/* Device configuration follows the registers directly, and they are fewer without MSI-X. */
static uint64_t config_offset(const struct virtio_pci *vp)
{
	return VIRTIO_PCI_CONFIG_OFF(pci_msix_enabled(vp->dev));
}

static unsigned int regs_count(const struct virtio_pci *vp)
{
	return ARRAY_SIZE(legacy_regs) - (pci_msix_enabled(vp->dev) ? 0 : LEGACY_VECTOR_REGS);
}

int virtio_set_io_bar(struct virtio_pci *vp, int baridx)
{
	return pci_emul_alloc_bar(vp->dev, baridx, PCIBAR_IO,
				  VIRTIO_PCI_CONFIG_OFF(1) + vp->vc->ops->cfgsize);
}

uint64_t virtio_legacy_read(struct virtio_pci *vp, uint64_t offset, unsigned int size)
{
	uint64_t config = config_offset(vp);

	if (offset >= config)
		return virtio_config_read(vp->vc, offset - config, size);
	return virtio_regs_read(vp, legacy_regs, regs_count(vp), offset, size);
}

void virtio_legacy_write(struct virtio_pci *vp, uint64_t offset, unsigned int size, uint64_t value)
{
	uint64_t config = config_offset(vp);

	virtio_legacy_access(vp->vc);
	if (offset >= config)
		virtio_config_write(vp->vc, offset - config, size, (uint32_t)value);
	else
		virtio_regs_write(vp, legacy_regs, regs_count(vp), offset, size, value);
}
