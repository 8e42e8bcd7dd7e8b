/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The modern interface: structures in a memory BAR, found through capabilities, and the window to
 * them in config space (virtio 1.4, 4.1.4).
 */
#include "virtio_pci.h"

#include <errno.h>

/* Fields that <linux/virtio_pci.h> of older hosts does not name. */
#define COMMON_NOTIF_CONFIG_DATA 0x38
#define COMMON_QUEUE_RESET 0x3a
#define COMMON_CFG_LEN 0x40

static uint64_t device_feature_select_read(struct virtio_pci *vp)
{
	return vp->device_feature_select;
}

static void device_feature_select_write(struct virtio_pci *vp, uint64_t value)
{
	vp->device_feature_select = (uint32_t)value;
}

static uint32_t feature_word(const struct virtio_features *features, uint32_t word)
{
	return word < 4 ? (uint32_t)(features->bits[word / 2] >> (32 * (word & 1))) : 0;
}

static uint64_t device_feature_read(struct virtio_pci *vp)
{
	struct virtio_features offered = virtio_offered_features(vp->vc, false);

	return feature_word(&offered, vp->device_feature_select);
}

static uint64_t driver_feature_select_read(struct virtio_pci *vp)
{
	return vp->driver_feature_select;
}

static void driver_feature_select_write(struct virtio_pci *vp, uint64_t value)
{
	vp->driver_feature_select = (uint32_t)value;
}

static uint64_t driver_feature_read(struct virtio_pci *vp)
{
	return feature_word(&vp->vc->driver_caps, vp->driver_feature_select);
}

static void driver_feature_write(struct virtio_pci *vp, uint64_t value)
{
	virtio_set_driver_features(vp->vc, vp->driver_feature_select, (uint32_t)value);
}

static uint64_t num_queues_read(struct virtio_pci *vp)
{
	return vp->vc->nvq;
}

static uint64_t generation_read(struct virtio_pci *vp)
{
	return vp->vc->config_generation;
}

static uint64_t queue_size_raw(struct virtio_pci *vp)
{
	struct vqueue_info *vq = virtio_selected_queue(vp);

	return vq ? vq->size_written : 0;
}

/* Without packed rings, never anything but 0 or a power of two (virtio 1.4, 4.1.4.3.1). */
static uint64_t queue_size_read(struct virtio_pci *vp)
{
	struct vqueue_info *vq = virtio_selected_queue(vp);

	if (!vq)
		return 0;
	if (virtio_has_feature(vp->vc, VIRTIO_F_RING_PACKED))
		return vq->size_written;
	return is_power_of_2(vq->size_written) ? vq->size_written : vq->size;
}

static void queue_size_write(struct virtio_pci *vp, uint64_t value)
{
	struct vqueue_info *vq = virtio_selected_queue(vp);

	if (vq && !vq->enabled)
		vq->size_written = (uint16_t)value;
}

static uint64_t queue_enable_read(struct virtio_pci *vp)
{
	struct vqueue_info *vq = virtio_selected_queue(vp);

	return vq ? vq->enabled : 0;
}

static void queue_enable_write(struct virtio_pci *vp, uint64_t value)
{
	struct vqueue_info *vq = virtio_selected_queue(vp);

	if (vq && value == 1)
		virtio_queue_enable(vp->vc, vq);
}

static uint64_t queue_index_read(struct virtio_pci *vp)
{
	return vp->queue_select < vp->vc->nvq ? vp->queue_select : 0;
}

static uint64_t queue_reset_read(struct virtio_pci *vp)
{
	return 0; /* a reset is complete when the write returns */
}

static void queue_reset_write(struct virtio_pci *vp, uint64_t value)
{
	struct vqueue_info *vq = virtio_selected_queue(vp);

	if (vq && value == 1 && virtio_has_feature(vp->vc, VIRTIO_F_RING_RESET))
		virtio_queue_reset(vp->vc, vq);
}

/* The addresses of a queue's three areas. */
#define QUEUE_ADDRESS(name)                                                                        \
	static uint64_t queue_##name##_read(struct virtio_pci *vp)                                 \
	{                                                                                          \
		struct vqueue_info *vq = virtio_selected_queue(vp);                                \
                                                                                                   \
		return vq ? vq->name##_addr : 0;                                                   \
	}                                                                                          \
	static void queue_##name##_write(struct virtio_pci *vp, uint64_t value)                    \
	{                                                                                          \
		struct vqueue_info *vq = virtio_selected_queue(vp);                                \
                                                                                                   \
		if (vq && !vq->enabled)                                                            \
			vq->name##_addr = value;                                                   \
	}

QUEUE_ADDRESS(desc)
QUEUE_ADDRESS(driver)
QUEUE_ADDRESS(device)

static const struct virtio_reg common_regs[] = {
	{ VIRTIO_PCI_COMMON_DFSELECT, 4, device_feature_select_read, NULL,
	  device_feature_select_write },
	{ VIRTIO_PCI_COMMON_DF, 4, device_feature_read, NULL, NULL },
	{ VIRTIO_PCI_COMMON_GFSELECT, 4, driver_feature_select_read, NULL,
	  driver_feature_select_write },
	{ VIRTIO_PCI_COMMON_GF, 4, driver_feature_read, NULL, driver_feature_write },
	{ VIRTIO_PCI_COMMON_MSIX, 2, virtio_reg_config_vector, virtio_reg_config_vector_raw,
	  virtio_reg_set_config_vector },
	{ VIRTIO_PCI_COMMON_NUMQ, 2, num_queues_read, NULL, NULL },
	{ VIRTIO_PCI_COMMON_STATUS, 1, virtio_reg_status, NULL, virtio_reg_set_status },
	{ VIRTIO_PCI_COMMON_CFGGENERATION, 1, generation_read, NULL, NULL },
	{ VIRTIO_PCI_COMMON_Q_SELECT, 2, virtio_reg_queue_select, NULL,
	  virtio_reg_set_queue_select },
	{ VIRTIO_PCI_COMMON_Q_SIZE, 2, queue_size_read, queue_size_raw, queue_size_write },
	{ VIRTIO_PCI_COMMON_Q_MSIX, 2, virtio_reg_queue_vector, virtio_reg_queue_vector_raw,
	  virtio_reg_set_queue_vector },
	{ VIRTIO_PCI_COMMON_Q_ENABLE, 2, queue_enable_read, NULL, queue_enable_write },
	{ VIRTIO_PCI_COMMON_Q_NOFF, 2, queue_index_read, NULL, NULL },
	{ VIRTIO_PCI_COMMON_Q_DESCLO, 8, queue_desc_read, NULL, queue_desc_write },
	{ VIRTIO_PCI_COMMON_Q_AVAILLO, 8, queue_driver_read, NULL, queue_driver_write },
	{ VIRTIO_PCI_COMMON_Q_USEDLO, 8, queue_device_read, NULL, queue_device_write },
	{ COMMON_NOTIF_CONFIG_DATA, 2, queue_index_read, NULL, NULL },
	{ COMMON_QUEUE_RESET, 2, queue_reset_read, NULL, queue_reset_write },
};

uint64_t virtio_modern_read(struct virtio_pci *vp, uint64_t offset, unsigned int size)
{
	uint64_t inside = offset % VIRTIO_REGION_SIZE;
	uint64_t value;

	switch (offset - inside) {
	case VIRTIO_COMMON_OFFSET:
		return virtio_regs_read(vp, common_regs, ARRAY_SIZE(common_regs), inside, size);
	case VIRTIO_ISR_OFFSET:
		return inside ? 0 : virtio_isr_read(vp);
	case VIRTIO_DEVICE_OFFSET:
		value = virtio_config_read(vp->vc, inside, MIN(size, 4U));
		if (size == 8)
			value |= (uint64_t)virtio_config_read(vp->vc, inside + 4, 4) << 32;
		return value;
	}
	return 0;
}

void virtio_modern_write(struct virtio_pci *vp, uint64_t offset, unsigned int size, uint64_t value)
{
	uint64_t inside = offset % VIRTIO_REGION_SIZE;

	switch (offset - inside) {
	case VIRTIO_COMMON_OFFSET:
		virtio_regs_write(vp, common_regs, ARRAY_SIZE(common_regs), inside, size, value);
		break;
	case VIRTIO_DEVICE_OFFSET:
		virtio_config_write(vp->vc, inside, MIN(size, 4U), (uint32_t)value);
		if (size == 8)
			virtio_config_write(vp->vc, inside + 4, 4, (uint32_t)(value >> 32));
		break;
	case VIRTIO_NOTIFY_OFFSET:
		virtio_queue_kick(vp->vc, (uint32_t)(inside / VIRTIO_NOTIFY_MULTIPLIER));
		break;
	}
}

static int add_cap(struct virtio_pci *vp, uint8_t type, uint32_t offset, uint32_t length,
		   uint32_t extra, uint8_t cap_len)
{
	struct virtio_pci_notify_cap cap = {
		.cap = {
			.cap_vndr = PCI_CAP_ID_VNDR,
			.cap_len = cap_len,
			.cfg_type = type,
			.bar = type == VIRTIO_PCI_CAP_PCI_CFG ? 0 : VIRTIO_MODERN_BAR,
			.offset = offset,
			.length = length,
		},
		.notify_off_multiplier = extra,
	};

	return pci_emul_add_capability(vp->dev, &cap, cap_len);
}

int virtio_set_modern_bar(struct virtio_pci *vp, int baridx)
{
	uint32_t cfgsize = (uint32_t)align_up(vp->vc->ops->cfgsize, 4);
	int error = pci_emul_alloc_bar(vp->dev, baridx, PCIBAR_MEM64, VIRTIO_MODERN_BAR_SIZE);
	int cfg;

	if (error)
		return error;
	if (cfgsize > VIRTIO_REGION_SIZE)
		return -EINVAL;
	if (add_cap(vp, VIRTIO_PCI_CAP_COMMON_CFG, VIRTIO_COMMON_OFFSET, COMMON_CFG_LEN, 0,
		    sizeof(struct virtio_pci_cap)) < 0 ||
	    add_cap(vp, VIRTIO_PCI_CAP_ISR_CFG, VIRTIO_ISR_OFFSET, 4, 0,
		    sizeof(struct virtio_pci_cap)) < 0 ||
	    (cfgsize && add_cap(vp, VIRTIO_PCI_CAP_DEVICE_CFG, VIRTIO_DEVICE_OFFSET, cfgsize, 0,
				sizeof(struct virtio_pci_cap)) < 0) ||
	    add_cap(vp, VIRTIO_PCI_CAP_NOTIFY_CFG, VIRTIO_NOTIFY_OFFSET,
		    vp->vc->nvq * VIRTIO_NOTIFY_MULTIPLIER, VIRTIO_NOTIFY_MULTIPLIER,
		    sizeof(struct virtio_pci_notify_cap)) < 0)
		return -ENOSPC;
	cfg = add_cap(vp, VIRTIO_PCI_CAP_PCI_CFG, 0, 0, 0, sizeof(struct virtio_pci_cfg_cap));
	if (cfg < 0)
		return cfg;
	vp->cfg_cap = (unsigned int)cfg;
	pci_set_cfgmask(vp->dev, vp->cfg_cap + VIRTIO_PCI_CAP_BAR, 1, 0xff);
	pci_set_cfgmask(vp->dev, vp->cfg_cap + VIRTIO_PCI_CAP_OFFSET, 4, UINT32_MAX);
	pci_set_cfgmask(vp->dev, vp->cfg_cap + VIRTIO_PCI_CAP_LENGTH, 4, UINT32_MAX);
	pci_set_cfgmask(vp->dev, vp->cfg_cap + sizeof(struct virtio_pci_cap), 4, UINT32_MAX);
	return 0;
}

/* ---- PCI_CFG: BAR accesses through config space (virtio 1.4, 4.1.4.9) ---- */

static bool cfg_window_touched(const struct virtio_pci *vp, unsigned int offset, unsigned int size)
{
	unsigned int data = vp->cfg_cap + (unsigned int)sizeof(struct virtio_pci_cap);

	return vp->cfg_cap && offset < data + 4 && offset + size > data;
}

static void cfg_window_access(struct virtio_pci *vp, bool write)
{
	struct pci_vdev *dev = vp->dev;
	struct virtio_pci_cfg_cap cap;
	uint64_t value;

	memcpy(&cap, &dev->cfgdata[vp->cfg_cap], sizeof(cap));
	/* The driver sets these right (4.1.4.9.2); an access that is wrong does nothing. */
	if ((cap.cap.length != 1 && cap.cap.length != 2 && cap.cap.length != 4) ||
	    cap.cap.offset % cap.cap.length)
		return;
	value = bytes_get(cap.pci_cfg_data, cap.cap.length);
	if (!pci_bar_access(dev, cap.cap.bar, write, cap.cap.offset, cap.cap.length, &value))
		return;
	if (!write)
		bytes_put(&dev->cfgdata[vp->cfg_cap +
					offsetof(struct virtio_pci_cfg_cap, pci_cfg_data)],
			  cap.cap.length, value);
}

void virtio_pci_cfg_read(struct pci_vdev *dev, unsigned int offset, unsigned int size)
{
	if (cfg_window_touched(dev->arg, offset, size))
		cfg_window_access(dev->arg, false);
}

void virtio_pci_cfg_written(struct pci_vdev *dev, unsigned int offset, unsigned int size)
{
	if (cfg_window_touched(dev->arg, offset, size))
		cfg_window_access(dev->arg, true);
	virtio_pci_command_changed(dev->arg);
}
