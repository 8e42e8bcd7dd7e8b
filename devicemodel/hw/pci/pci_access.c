/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How the guest reaches config space: ports 0xCF8 and 0xCFC (PCI 3.0, 3.2.2.3.2) and ECAM
 * (PCI Express 6.0, 7.2.2).
 */
#include "pci_bus.h"

#define CONFIG_ADDRESS_PORT 0xcf8
#define CONFIG_DATA_PORT 0xcfc
#define CONFIG_ADDRESS_ENABLE BIT32(31)

static struct pci_vdev *function_at(const struct pci_bus *pci, unsigned int bus, unsigned int devfn)
{
	return bus ? NULL : pci->functions[devfn >> 3][devfn & 7];
}

static uint64_t config_read(struct pci_bus *pci, unsigned int bus, unsigned int devfn,
			    unsigned int offset, unsigned int size)
{
	struct pci_vdev *dev = function_at(pci, bus, devfn);

	if (!dev)
		return UINT64_MAX;
	if (size == 8)
		return pci_cfg_read(dev, offset, 4) | (uint64_t)pci_cfg_read(dev, offset + 4, 4)
							      << 32;
	return pci_cfg_read(dev, offset, size);
}

static void config_write(struct pci_bus *pci, unsigned int bus, unsigned int devfn,
			 unsigned int offset, unsigned int size, uint64_t value)
{
	struct pci_vdev *dev = function_at(pci, bus, devfn);

	if (!dev)
		return;
	pci_cfg_write(dev, offset, MIN(size, 4U), (uint32_t)value);
	if (size == 8)
		pci_cfg_write(dev, offset + 4, 4, (uint32_t)(value >> 32));
}

/* CONFIG_ADDRESS answers 32-bit accesses only; narrower ones are somebody else's ports (PCI 3.0). */
static uint64_t address_read(void *arg, uint64_t offset, unsigned int size)
{
	struct pci_bus *pci = arg;

	if (offset || size != 4)
		return UINT64_MAX;
	return __atomic_load_n(&pci->address, __ATOMIC_RELAXED);
}

static void address_write(void *arg, uint64_t offset, unsigned int size, uint64_t value)
{
	struct pci_bus *pci = arg;

	if (!offset && size == 4)
		__atomic_store_n(&pci->address, (uint32_t)value & PCI_CONFIG_ADDRESS_MASK,
				 __ATOMIC_RELAXED);
}

static uint64_t data_read(void *arg, uint64_t offset, unsigned int size)
{
	struct pci_bus *pci = arg;
	uint32_t address = __atomic_load_n(&pci->address, __ATOMIC_RELAXED);

	if (!(address & CONFIG_ADDRESS_ENABLE))
		return UINT64_MAX;
	return config_read(pci, (address >> 16) & 0xff, (address >> 8) & 0xff,
			   (address & 0xfc) + (unsigned int)offset, size);
}

static void data_write(void *arg, uint64_t offset, unsigned int size, uint64_t value)
{
	struct pci_bus *pci = arg;
	uint32_t address = __atomic_load_n(&pci->address, __ATOMIC_RELAXED);

	if (address & CONFIG_ADDRESS_ENABLE)
		config_write(pci, (address >> 16) & 0xff, (address >> 8) & 0xff,
			     (address & 0xfc) + (unsigned int)offset, size, value);
}

/* An access that would run out of a function's 4 KiB is nobody's. */
static bool ecam_inside(uint64_t offset, unsigned int size)
{
	return (offset & (PCI_CFG_SIZE - 1)) + size <= PCI_CFG_SIZE;
}

static uint64_t ecam_read(void *arg, uint64_t offset, unsigned int size)
{
	if (!ecam_inside(offset, size))
		return UINT64_MAX;
	return config_read(arg, (unsigned int)(offset >> 20) & 0xff, (offset >> 12) & 0xff,
			   offset & (PCI_CFG_SIZE - 1), size);
}

static void ecam_write(void *arg, uint64_t offset, unsigned int size, uint64_t value)
{
	if (ecam_inside(offset, size))
		config_write(arg, (unsigned int)(offset >> 20) & 0xff, (offset >> 12) & 0xff,
			     offset & (PCI_CFG_SIZE - 1), size, value);
}

static const struct io_range_ops address_ops = { address_read, address_write };
static const struct io_range_ops data_ops = { data_read, data_write };
static const struct io_range_ops ecam_ops = { ecam_read, ecam_write };

int pci_access_create(struct pci_bus *pci)
{
	int error;

	pci->address_port = (struct io_range) { .name = "pci-address",
						.base = CONFIG_ADDRESS_PORT,
						.size = 4,
						.ops = &address_ops,
						.arg = pci };
	pci->data_port = (struct io_range) { .name = "pci-data",
					     .base = CONFIG_DATA_PORT,
					     .size = 4,
					     .ops = &data_ops,
					     .arg = pci };
	pci->ecam = (struct io_range) { .name = "pci-ecam",
					.base = pci->windows.ecam_base,
					.size = pci->windows.ecam_size,
					.ops = &ecam_ops,
					.arg = pci };
	error = io_space_add(&pci->ctx->pio, &pci->address_port);
	if (!error)
		error = io_space_add(&pci->ctx->pio, &pci->data_port);
	if (!error)
		error = io_space_add(&pci->ctx->mmio, &pci->ecam);
	return error;
}

void pci_access_destroy(struct pci_bus *pci)
{
	io_space_remove(&pci->ctx->mmio, &pci->ecam);
	io_space_remove(&pci->ctx->pio, &pci->data_port);
	io_space_remove(&pci->ctx->pio, &pci->address_port);
}
