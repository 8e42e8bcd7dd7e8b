/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of the PCI core share about the bus; not for devices.
 */
#ifndef TENON_PCI_BUS_H
#define TENON_PCI_BUS_H

#include "arch.h"
#include "pci_core.h"

#define PCI_SLOTS 32
#define PCI_FUNCTIONS 8
#define PCI_INTX_GSI_BASE 16
#define PCI_INTX_GSIS 8

/**
 * struct pci_bus - bus 0 of a VM.
 * @config_lock: config accesses and BAR moves, one at a time
 * @windows, @io_next ...: where BARs go; the next free address of each window
 * @intx_lock, @intx_users: how many functions drive each INTx line
 * @address: the CONFIG_ADDRESS register (0xCF8)
 */
struct pci_bus {
	struct vmctx *ctx;
	pthread_mutex_t config_lock;
	struct arch_pci_windows windows;
	uint64_t io_next, mem32_next, mem64_next;
	pthread_mutex_t intx_lock;
	unsigned int intx_users[PCI_INTX_GSIS];
	uint32_t address;
	struct io_range address_port, data_port, ecam;
	struct pci_vdev *functions[PCI_SLOTS][PCI_FUNCTIONS];
};

/* The bits of CONFIG_ADDRESS that are there: the two low ones are reserved, the lane is the data port's. */
#define PCI_CONFIG_ADDRESS_MASK 0x80fffffcU

/* Does an access of @size bytes at @offset touch the @len bytes at @base? */
static inline bool pci_cfg_touches(unsigned int offset, unsigned int size, unsigned int base,
				   unsigned int len)
{
	return offset < base + len && base < offset + size;
}

/* pci_access.c: the mechanisms by which the guest reaches config space */
int pci_access_create(struct pci_bus *pci) __must_check;
void pci_access_destroy(struct pci_bus *pci);

/* pci_intr.c: the message that vector @index sends now; false: none, off or masked. dev->lock held. */
bool pci_msix_message(const struct pci_vdev *dev, unsigned int index, struct hv_msi *msi);

/* pci_irqfd.c: what waits in parked eventfds becomes pending now, not soon: the PBA is read. */
void pci_irqfds_collect(struct pci_vdev *dev);

#endif
