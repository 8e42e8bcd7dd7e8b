/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Base address registers: where they are put at first, and following them when the guest moves them.
 */
#include <errno.h>

#include "pci_bus.h"

#define IO_SPACE_SIZE 0x10000
#define MEM_SPACE_BITS 52
#define MEM64_BELOW_4G_MAX MIB(32) /* small 64-bit BARs are put where 32-bit drivers reach them */

/* The next multiple of @size in a window; 0 if it is full. */
static uint64_t window_take(uint64_t *next, uint64_t base, uint64_t window_size, uint64_t size)
{
	uint64_t addr = align_up(*next, size);

	if (addr < *next || !range_contains(base, window_size, addr, size))
		return 0;
	*next = addr + size;
	return addr;
}

static uint64_t bar_place(struct pci_bus *pci, enum pcibar_type type, uint64_t size)
{
	const struct arch_pci_windows *windows = &pci->windows;

	if (type == PCIBAR_IO)
		return window_take(&pci->io_next, windows->io_base, windows->io_size, size);
	if (type == PCIBAR_MEM64 && size > MEM64_BELOW_4G_MAX)
		return window_take(&pci->mem64_next, windows->mem64_base, windows->mem64_size,
				   size);
	return window_take(&pci->mem32_next, windows->mem32_base, windows->mem32_size, size);
}

static uint64_t bar_access_read(void *arg, uint64_t offset, unsigned int size)
{
	struct pci_bar *bar = arg;
	struct pci_vdev *dev = bar->dev;
	uint64_t value;

	pthread_mutex_lock(&dev->lock);
	value = dev->dev_ops->vdev_barread(dev, (int)(bar - dev->bar), offset, size);
	pthread_mutex_unlock(&dev->lock);
	return value;
}

static void bar_access_write(void *arg, uint64_t offset, unsigned int size, uint64_t value)
{
	struct pci_bar *bar = arg;
	struct pci_vdev *dev = bar->dev;

	pthread_mutex_lock(&dev->lock);
	dev->dev_ops->vdev_barwrite(dev, (int)(bar - dev->bar), offset, size, value);
	pthread_mutex_unlock(&dev->lock);
}

static const struct io_range_ops bar_range_ops = { bar_access_read, bar_access_write };

bool pci_bar_access(struct pci_vdev *dev, int baridx, bool write, uint64_t offset,
		    unsigned int size, uint64_t *value)
{
	if (baridx < 0 || baridx >= PCI_BARS ||
	    !range_contains(0, dev->bar[baridx].size, offset, size))
		return false;
	if (write)
		dev->dev_ops->vdev_barwrite(dev, baridx, offset, size, *value);
	else
		*value = dev->dev_ops->vdev_barread(dev, baridx, offset, size);
	return true;
}

static uint32_t bar_type_bits(enum pcibar_type type)
{
	switch (type) {
	case PCIBAR_IO:
		return PCI_BASE_ADDRESS_SPACE_IO;
	case PCIBAR_MEM64:
		return PCI_BASE_ADDRESS_MEM_TYPE_64;
	default:
		return PCI_BASE_ADDRESS_MEM_TYPE_32;
	}
}

static uint64_t bar_size(enum pcibar_type type, uint64_t size)
{
	uint64_t rounded = type == PCIBAR_IO ? 4 : 16;

	while (rounded < size)
		rounded <<= 1;
	return rounded;
}

int pci_emul_alloc_bar(struct pci_vdev *dev, int baridx, enum pcibar_type type, uint64_t size)
{
	struct pci_bar *bar = &dev->bar[baridx];
	unsigned int reg = PCI_BASE_ADDRESS_0 + 4 * (unsigned int)baridx;
	uint32_t type_mask = type == PCIBAR_IO ? ~(uint32_t)PCI_BASE_ADDRESS_IO_MASK
					       : ~(uint32_t)PCI_BASE_ADDRESS_MEM_MASK;
	uint64_t addr;

	if (baridx < 0 || baridx + (type == PCIBAR_MEM64) >= PCI_BARS || !size ||
	    size > GIB(1024) || bar->type != PCIBAR_NONE)
		return -EINVAL;
	size = bar_size(type, size);
	addr = bar_place(dev->pci, type, size);
	if (!addr)
		return -ENOSPC;
	*bar = (struct pci_bar) { .type = type, .size = size, .initial = addr, .dev = dev };
	bar->range = (struct io_range) {
		.name = dev->name, .size = size, .ops = &bar_range_ops, .arg = bar
	};
	pci_set_cfgdata32(dev, reg, (uint32_t)addr | bar_type_bits(type));
	pci_set_cfgmask(dev, reg, 4, ~(uint32_t)(size - 1) & ~type_mask);
	if (type == PCIBAR_MEM64) {
		bar[1].type = PCIBAR_MEMHI64;
		pci_set_cfgdata32(dev, reg + 4, (uint32_t)(addr >> 32));
		pci_set_cfgmask(dev, reg + 4, 4, (uint32_t)(~(size - 1) >> 32));
	}
	dev->cfgmask[PCI_COMMAND] |= type == PCIBAR_IO ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
	return 0;
}

/* Where the registers say that BAR @baridx is; false if it does not decode there. */
static bool bar_address(struct pci_vdev *dev, int baridx, uint64_t *addr)
{
	const struct pci_bar *bar = &dev->bar[baridx];
	unsigned int reg = PCI_BASE_ADDRESS_0 + 4 * (unsigned int)baridx;
	uint16_t command = pci_get_cfgdata16(dev, PCI_COMMAND);

	*addr = pci_get_cfgdata32(dev, reg) & ~(bar->size - 1);
	if (bar->type == PCIBAR_IO)
		return (command & PCI_COMMAND_IO) && *addr &&
		       range_contains(0, IO_SPACE_SIZE, *addr, bar->size);
	*addr &= UINT32_MAX;
	if (bar->type == PCIBAR_MEM64)
		*addr |= (uint64_t)pci_get_cfgdata32(dev, reg + 4) << 32;
	*addr &= ~(bar->size - 1);
	return (command & PCI_COMMAND_MEMORY) && *addr &&
	       range_contains(0, BIT64(MEM_SPACE_BITS), *addr, bar->size);
}

static void bar_report(struct pci_vdev *dev, int baridx, bool enabled, uint64_t addr)
{
	if (!dev->dev_ops->vdev_bar_moved)
		return;
	pthread_mutex_lock(&dev->lock);
	dev->dev_ops->vdev_bar_moved(dev, baridx, enabled, addr);
	pthread_mutex_unlock(&dev->lock);
}

static void bar_unmap(struct pci_vdev *dev, int baridx)
{
	struct pci_bar *bar = &dev->bar[baridx];
	struct vmctx *ctx = dev->vmctx;

	if (!bar->mapped)
		return;
	bar->mapped = false;
	bar_report(dev, baridx, false, 0);
	io_space_remove(bar->type == PCIBAR_IO ? &ctx->pio : &ctx->mmio, &bar->range);
}

static void bar_map(struct pci_vdev *dev, int baridx, uint64_t addr)
{
	struct pci_bar *bar = &dev->bar[baridx];
	struct vmctx *ctx = dev->vmctx;

	bar->range.base = addr;
	if (io_space_add(bar->type == PCIBAR_IO ? &ctx->pio : &ctx->mmio, &bar->range)) {
		log_guest(ctx->log, "%s: BAR %d cannot be mapped at 0x%llx", dev->name, baridx,
			  (unsigned long long)addr);
		return;
	}
	bar->mapped = true;
	bar_report(dev, baridx, true, addr);
}

void pci_bars_update(struct pci_vdev *dev)
{
	for (int i = 0; i < PCI_BARS; i++) {
		struct pci_bar *bar = &dev->bar[i];
		uint64_t addr;
		bool enabled;

		if (bar->type == PCIBAR_NONE || bar->type == PCIBAR_MEMHI64)
			continue;
		enabled = bar_address(dev, i, &addr);
		if (bar->mapped && enabled && bar->range.base == addr)
			continue;
		bar_unmap(dev, i);
		if (enabled)
			bar_map(dev, i, addr);
	}
}

void pci_bars_remove(struct pci_vdev *dev)
{
	for (int i = 0; i < PCI_BARS; i++)
		bar_unmap(dev, i);
}
