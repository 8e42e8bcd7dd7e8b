/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Config space of a function: 4 KiB of bytes, each with a mask of what the guest can write.
 */
#include <errno.h>

#include "pci_bus.h"

#define CAPABILITIES_START 0x40
#define CAPABILITIES_END 0x100

static bool cfg_valid(const struct pci_vdev *dev, unsigned int offset, unsigned int size)
{
	if (offset <= PCI_CFG_SIZE - size && !(offset & (size - 1)))
		return true;
	log_guest(dev->vmctx->log, "%s: bad config access of %u bytes at 0x%x", dev->name, size,
		  offset);
	return false;
}

static void cfg_set(struct pci_vdev *dev, unsigned int offset, unsigned int size, uint32_t value)
{
	if (cfg_valid(dev, offset, size))
		bytes_put(&dev->cfgdata[offset], size, value);
}

static uint32_t cfg_get(const struct pci_vdev *dev, unsigned int offset, unsigned int size)
{
	if (!cfg_valid(dev, offset, size))
		return UINT32_MAX;
	return (uint32_t)bytes_get(&dev->cfgdata[offset], size);
}

void pci_set_cfgdata8(struct pci_vdev *dev, unsigned int offset, uint8_t value)
{
	cfg_set(dev, offset, 1, value);
}

void pci_set_cfgdata16(struct pci_vdev *dev, unsigned int offset, uint16_t value)
{
	cfg_set(dev, offset, 2, value);
}

void pci_set_cfgdata32(struct pci_vdev *dev, unsigned int offset, uint32_t value)
{
	cfg_set(dev, offset, 4, value);
}

uint8_t pci_get_cfgdata8(const struct pci_vdev *dev, unsigned int offset)
{
	return (uint8_t)cfg_get(dev, offset, 1);
}

uint16_t pci_get_cfgdata16(const struct pci_vdev *dev, unsigned int offset)
{
	return (uint16_t)cfg_get(dev, offset, 2);
}

uint32_t pci_get_cfgdata32(const struct pci_vdev *dev, unsigned int offset)
{
	return cfg_get(dev, offset, 4);
}

void pci_set_cfgmask(struct pci_vdev *dev, unsigned int offset, unsigned int size, uint32_t mask)
{
	if (cfg_valid(dev, offset, size))
		bytes_put(&dev->cfgmask[offset], size, mask);
}

int pci_emul_add_capability(struct pci_vdev *dev, const void *data, unsigned int len)
{
	unsigned int offset = dev->capend ? dev->capend : CAPABILITIES_START;

	if (len < 2 || offset + align_up(len, 4) > CAPABILITIES_END)
		return -ENOSPC;
	memcpy(&dev->cfgdata[offset], data, len);
	dev->cfgdata[offset + PCI_CAP_LIST_NEXT] = 0;
	if (dev->prevcap)
		dev->cfgdata[dev->prevcap + PCI_CAP_LIST_NEXT] = (uint8_t)offset;
	else
		dev->cfgdata[PCI_CAPABILITY_LIST] = (uint8_t)offset;
	dev->cfgdata[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
	dev->prevcap = offset;
	dev->capend = offset + (unsigned int)align_up(len, 4);
	return (int)offset;
}

uint32_t pci_cfg_read(struct pci_vdev *dev, unsigned int offset, unsigned int size)
{
	uint32_t value;

	if (offset > PCI_CFG_SIZE - size)
		return UINT32_MAX;
	pthread_mutex_lock(&dev->pci->config_lock);
	pthread_mutex_lock(&dev->lock);
	if (dev->dev_ops->vdev_cfgread)
		dev->dev_ops->vdev_cfgread(dev, offset, size);
	pthread_mutex_lock(&dev->intr_lock);
	value = (uint32_t)bytes_get(&dev->cfgdata[offset], size);
	pthread_mutex_unlock(&dev->intr_lock);
	pthread_mutex_unlock(&dev->lock);
	pthread_mutex_unlock(&dev->pci->config_lock);
	return value;
}

static void cfg_merge(struct pci_vdev *dev, unsigned int offset, unsigned int size, uint32_t value)
{
	for (unsigned int i = 0; i < size; i++) {
		uint8_t byte = (uint8_t)(value >> (8 * i));
		uint8_t mask = dev->cfgmask[offset + i];
		uint8_t *data = &dev->cfgdata[offset + i];

		*data = (uint8_t)((*data & ~mask) | (byte & mask));
		*data &= (uint8_t) ~(byte & dev->cfgw1c[offset + i]);
	}
}

void pci_cfg_write(struct pci_vdev *dev, unsigned int offset, unsigned int size, uint32_t value)
{
	if (offset > PCI_CFG_SIZE - size)
		return;
	pthread_mutex_lock(&dev->pci->config_lock);
	pthread_mutex_lock(&dev->lock);
	pci_intr_config_write(dev, offset, size, value, cfg_merge);
	if (dev->dev_ops->vdev_cfgwritten)
		dev->dev_ops->vdev_cfgwritten(dev, offset, size);
	pthread_mutex_unlock(&dev->lock);

	/* Moving a BAR waits for accesses in flight, which take dev->lock. */
	if (pci_cfg_touches(offset, size, PCI_COMMAND, 2) ||
	    pci_cfg_touches(offset, size, PCI_BASE_ADDRESS_0, 4 * PCI_BARS))
		pci_bars_update(dev);
	pthread_mutex_unlock(&dev->pci->config_lock);
}
