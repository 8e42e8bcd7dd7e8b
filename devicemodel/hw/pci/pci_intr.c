/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * INTx lines, MSI and MSI-X. Threads that do not hold dev->lock send interrupts too: dev->intr_lock
 * is held around all of it, and nobody is called back with it.
 */
#include <errno.h>
#include <stdlib.h>

#include "pci_bus.h"
#include "platform.h"

static_assert(PCI_INTX_GSI_BASE == PIRQ_GSI_BASE && PCI_INTX_GSIS == PIRQ_LINES,
	      "the lines are the router's");

#define MSIX_ALIGN 0x800

/* ---- INTx: level-triggered lines, shared by all functions wired to the same GSI ---- */

unsigned int pci_slot_gsi(unsigned int slot, unsigned int pin)
{
	return PCI_INTX_GSI_BASE + (slot + pin - 1) % PCI_INTX_GSIS;
}

int pci_lintr_request(struct pci_vdev *dev)
{
	dev->lintr.pin = 1;
	dev->lintr.gsi = pci_slot_gsi(dev->slot, 1);
	pci_set_cfgdata8(dev, PCI_INTERRUPT_PIN, 1);
	pci_set_cfgdata8(dev, PCI_INTERRUPT_LINE, (uint8_t)dev->lintr.gsi);
	pci_set_cfgmask(dev, PCI_INTERRUPT_LINE, 1, 0xff);
	dev->cfgmask[PCI_COMMAND + 1] |= PCI_COMMAND_INTX_DISABLE >> 8;
	return 0;
}

/* From here on, "held" is dev->intr_lock. */

static void lintr_drive(struct pci_vdev *dev, bool drive)
{
	struct pci_bus *pci = dev->pci;
	unsigned int line = dev->lintr.gsi - PCI_INTX_GSI_BASE;
	unsigned int *users = &pci->intx_users[line];

	if (dev->lintr.driving == drive)
		return;
	dev->lintr.driving = drive;
	pthread_mutex_lock(&pci->intx_lock);
	*users += drive ? 1 : -1U;
	if (*users == (drive ? 1 : 0))
		pirq_set_line(dev->vmctx->platform->pirq, line, drive);
	pthread_mutex_unlock(&pci->intx_lock);
}

/* held */
static void lintr_update(struct pci_vdev *dev)
{
	uint16_t command = pci_get_cfgdata16(dev, PCI_COMMAND);

	if (!dev->lintr.pin)
		return;
	lintr_drive(dev, dev->lintr.asserted && !(command & PCI_COMMAND_INTX_DISABLE) &&
				 !pci_msi_enabled(dev) && !pci_msix_enabled(dev));
}

void pci_lintr_update(struct pci_vdev *dev)
{
	pthread_mutex_lock(&dev->intr_lock);
	lintr_update(dev);
	pthread_mutex_unlock(&dev->intr_lock);
}

/* held */
static void lintr_set(struct pci_vdev *dev, bool asserted)
{
	if (!dev->lintr.pin || dev->lintr.asserted == asserted)
		return;
	dev->lintr.asserted = asserted;
	if (asserted)
		dev->cfgdata[PCI_STATUS] |= PCI_STATUS_INTERRUPT;
	else
		dev->cfgdata[PCI_STATUS] &= (uint8_t)~PCI_STATUS_INTERRUPT;
	lintr_update(dev);
}

void pci_lintr_assert(struct pci_vdev *dev)
{
	pthread_mutex_lock(&dev->intr_lock);
	lintr_set(dev, true);
	pthread_mutex_unlock(&dev->intr_lock);
}

void pci_lintr_deassert(struct pci_vdev *dev)
{
	pthread_mutex_lock(&dev->intr_lock);
	lintr_set(dev, false);
	pthread_mutex_unlock(&dev->intr_lock);
}

static int msi_send(struct pci_vdev *dev, uint64_t addr, uint32_t data)
{
	struct hv_msi msi = { .addr = addr, .data = data };

	return dev->vmctx->hv->msi(dev->vmctx, &msi);
}

/* ---- MSI: 64-bit address, per-vector masks (PCI 3.0, 6.8.1) ---- */

#define MSI_CAP_LEN 24

int pci_emul_add_msicap(struct pci_vdev *dev, unsigned int count)
{
	uint8_t capability[MSI_CAP_LEN] = { PCI_CAP_ID_MSI };
	unsigned int log2 = 0;
	uint16_t flags;
	int offset;

	if (!is_power_of_2(count) || count > 32)
		return -EINVAL;
	while (1U << log2 < count)
		log2++;
	flags = (uint16_t)(PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_MASKBIT | log2 << 1);
	bytes_put(&capability[PCI_MSI_FLAGS], 2, flags);
	offset = pci_emul_add_capability(dev, capability, sizeof(capability));
	if (offset < 0)
		return offset;
	dev->msi.cap = (unsigned int)offset;
	dev->msi.count = count;
	pci_set_cfgmask(dev, dev->msi.cap + PCI_MSI_FLAGS, 2,
			PCI_MSI_FLAGS_ENABLE | (count > 1 ? PCI_MSI_FLAGS_QSIZE : 0));
	pci_set_cfgmask(dev, dev->msi.cap + PCI_MSI_ADDRESS_LO, 4, 0xfffffffc);
	pci_set_cfgmask(dev, dev->msi.cap + PCI_MSI_ADDRESS_HI, 4, 0xffffffff);
	pci_set_cfgmask(dev, dev->msi.cap + PCI_MSI_DATA_64, 2, 0xffff);
	pci_set_cfgmask(dev, dev->msi.cap + PCI_MSI_MASK_64, 4, (uint32_t)(BIT64(count) - 1));
	return 0;
}

bool pci_msi_enabled(const struct pci_vdev *dev)
{
	return dev->msi.cap &&
	       pci_get_cfgdata16(dev, dev->msi.cap + PCI_MSI_FLAGS) & PCI_MSI_FLAGS_ENABLE;
}

/* How many messages the guest allotted; it may have written more than there are. */
static unsigned int msi_allotted(const struct pci_vdev *dev)
{
	uint16_t flags = pci_get_cfgdata16(dev, dev->msi.cap + PCI_MSI_FLAGS);

	return MIN(1U << ((flags & PCI_MSI_FLAGS_QSIZE) >> 4), dev->msi.count);
}

/* held */
static int msi_generate(struct pci_vdev *dev, unsigned int index)
{
	unsigned int cap = dev->msi.cap;
	unsigned int allotted;
	uint32_t pending;
	uint64_t addr;
	uint16_t data;

	if (!pci_msi_enabled(dev) || index >= dev->msi.count)
		return -EINVAL;
	allotted = msi_allotted(dev);
	index &= allotted - 1;
	pending = pci_get_cfgdata32(dev, cap + PCI_MSI_PENDING_64);
	if (pci_get_cfgdata32(dev, cap + PCI_MSI_MASK_64) & BIT32(index)) {
		pci_set_cfgdata32(dev, cap + PCI_MSI_PENDING_64, pending | BIT32(index));
		return 0;
	}
	pci_set_cfgdata32(dev, cap + PCI_MSI_PENDING_64, pending & ~BIT32(index));
	addr = pci_get_cfgdata32(dev, cap + PCI_MSI_ADDRESS_LO) |
	       (uint64_t)pci_get_cfgdata32(dev, cap + PCI_MSI_ADDRESS_HI) << 32;
	data = pci_get_cfgdata16(dev, cap + PCI_MSI_DATA_64);
	return msi_send(dev, addr, (data & ~(allotted - 1)) | index);
}

int pci_generate_msi(struct pci_vdev *dev, unsigned int index)
{
	int error;

	pthread_mutex_lock(&dev->intr_lock);
	error = msi_generate(dev, index);
	pthread_mutex_unlock(&dev->intr_lock);
	return error;
}

static void msi_flush(struct pci_vdev *dev)
{
	uint32_t pending = pci_get_cfgdata32(dev, dev->msi.cap + PCI_MSI_PENDING_64);

	for (unsigned int i = 0; i < dev->msi.count; i++)
		if (pending & BIT32(i) && msi_generate(dev, i))
			return;
}

/* ---- MSI-X (PCI 3.0, 6.8.2) ---- */

int pci_emul_add_msixcap(struct pci_vdev *dev, unsigned int count, int baridx)
{
	uint8_t capability[PCI_CAP_MSIX_SIZEOF] = { PCI_CAP_ID_MSIX };
	uint64_t pba = align_up(count * sizeof(struct pci_msix_entry), MSIX_ALIGN);
	int error, offset;

	if (!count || count > PCI_MSIX_FLAGS_QSIZE + 1)
		return -EINVAL;
	error = pci_emul_alloc_bar(dev, baridx, PCIBAR_MEM32, pba + align_up(count, 64) / 8);
	if (error)
		return error;
	bytes_put(&capability[PCI_MSIX_FLAGS], 2, count - 1);
	bytes_put(&capability[PCI_MSIX_TABLE], 4, (uint32_t)baridx);
	bytes_put(&capability[PCI_MSIX_PBA], 4, (uint32_t)pba | (uint32_t)baridx);
	offset = pci_emul_add_capability(dev, capability, sizeof(capability));
	if (offset < 0)
		return offset;
	dev->msix.table = calloc(count, sizeof(*dev->msix.table));
	dev->msix.pending = calloc(align_up(count, 64) / 64, sizeof(uint64_t));
	if (!dev->msix.table || !dev->msix.pending)
		return -ENOMEM;
	dev->msix.cap = (unsigned int)offset;
	dev->msix.count = count;
	dev->msix.table_bar = baridx;
	dev->msix.pba_offset = pba;
	pci_set_cfgmask(dev, dev->msix.cap + PCI_MSIX_FLAGS, 2,
			PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	pci_intr_reset(dev);
	return 0;
}

void pci_msix_free(struct pci_vdev *dev)
{
	free(dev->msix.table);
	free(dev->msix.pending);
	dev->msix.table = NULL;
	dev->msix.pending = NULL;
}

static uint16_t msix_flags(const struct pci_vdev *dev)
{
	return dev->msix.cap ? pci_get_cfgdata16(dev, dev->msix.cap + PCI_MSIX_FLAGS) : 0;
}

bool pci_msix_enabled(const struct pci_vdev *dev)
{
	return msix_flags(dev) & PCI_MSIX_FLAGS_ENABLE;
}

bool pci_msix_message(const struct pci_vdev *dev, unsigned int index, struct hv_msi *msi)
{
	const struct pci_msix_entry *entry;

	if (!pci_msix_enabled(dev) || index >= dev->msix.count)
		return false;
	entry = &dev->msix.table[index];
	if (msix_flags(dev) & PCI_MSIX_FLAGS_MASKALL ||
	    entry->control & PCI_MSIX_ENTRY_CTRL_MASKBIT)
		return false;
	*msi = (struct hv_msi) { .addr = entry->addr, .data = entry->data };
	return true;
}

/* held */
static int msix_generate(struct pci_vdev *dev, unsigned int index)
{
	uint64_t bit = BIT64(index % 64);
	struct hv_msi msi;

	if (!pci_msix_enabled(dev) || index >= dev->msix.count)
		return -EINVAL;
	if (!pci_msix_message(dev, index, &msi)) {
		dev->msix.pending[index / 64] |= bit;
		return 0;
	}
	dev->msix.pending[index / 64] &= ~bit;
	return msi_send(dev, msi.addr, msi.data);
}

int pci_generate_msix(struct pci_vdev *dev, unsigned int index)
{
	int error;

	pthread_mutex_lock(&dev->intr_lock);
	error = msix_generate(dev, index);
	pthread_mutex_unlock(&dev->intr_lock);
	return error;
}

static void msix_flush(struct pci_vdev *dev, unsigned int index)
{
	if (dev->msix.pending[index / 64] & BIT64(index % 64))
		msix_generate(dev, index);
}

static void msix_flush_all(struct pci_vdev *dev)
{
	if (!pci_msix_enabled(dev) || msix_flags(dev) & PCI_MSIX_FLAGS_MASKALL)
		return;
	for (unsigned int i = 0; i < dev->msix.count; i++)
		msix_flush(dev, i);
}

/* The part of [@offset, @offset + @size) that lies in [@base, @base + @len), as host bytes. */
static uint64_t bytes_at(const void *from, uint64_t base, uint64_t len, uint64_t offset,
			 unsigned int size)
{
	if (!range_contains(base, len, offset, size))
		return 0;
	return bytes_get((const uint8_t *)from + (offset - base), size);
}

uint64_t pci_emul_msix_tread(struct pci_vdev *dev, uint64_t offset, unsigned int size)
{
	uint64_t table_len = dev->msix.count * sizeof(struct pci_msix_entry);
	uint64_t value;

	if (offset < table_len)
		return bytes_at(dev->msix.table, 0, table_len, offset, size);
	pci_irqfds_collect(dev);
	pthread_mutex_lock(&dev->intr_lock);
	value = bytes_at(dev->msix.pending, dev->msix.pba_offset, align_up(dev->msix.count, 64) / 8,
			 offset, size);
	pthread_mutex_unlock(&dev->intr_lock);
	return value;
}

void pci_emul_msix_twrite(struct pci_vdev *dev, uint64_t offset, unsigned int size, uint64_t value)
{
	uint64_t table_len = dev->msix.count * sizeof(struct pci_msix_entry);
	unsigned int first = (unsigned int)(offset / sizeof(struct pci_msix_entry));
	unsigned int last;

	if (!range_contains(0, table_len, offset, size))
		return; /* the PBA is read-only */
	pthread_mutex_lock(&dev->intr_lock);
	bytes_put((uint8_t *)dev->msix.table + offset, size, value);
	last = (unsigned int)((offset + size - 1) / sizeof(struct pci_msix_entry));
	for (unsigned int i = first; i <= last; i++) {
		dev->msix.table[i].addr &= ~UINT64_C(3);
		dev->msix.table[i].control &= PCI_MSIX_ENTRY_CTRL_MASKBIT;
		if (pci_msix_enabled(dev))
			msix_flush(dev, i);
	}
	pthread_mutex_unlock(&dev->intr_lock);
	pci_irqfds_update(dev);
}

/* ---- all of them ---- */

void pci_intr_config_write(struct pci_vdev *dev, unsigned int offset, unsigned int size,
			   uint32_t value,
			   void (*merge)(struct pci_vdev *dev, unsigned int offset,
					 unsigned int size, uint32_t value))
{
	bool msi = dev->msi.cap && pci_cfg_touches(offset, size, dev->msi.cap, MSI_CAP_LEN);
	bool msix =
		dev->msix.cap && pci_cfg_touches(offset, size, dev->msix.cap, PCI_CAP_MSIX_SIZEOF);

	pthread_mutex_lock(&dev->intr_lock);
	merge(dev, offset, size, value);
	if (msi || msix || pci_cfg_touches(offset, size, PCI_COMMAND, 2))
		lintr_update(dev);
	if (msi && pci_msi_enabled(dev))
		msi_flush(dev);
	if (msix)
		msix_flush_all(dev);
	pthread_mutex_unlock(&dev->intr_lock);
	if (msix)
		pci_irqfds_update(dev);
}

/* held */
static int message_or_line(struct pci_vdev *dev)
{
	if (pci_msi_enabled(dev))
		return msi_generate(dev, 0);
	lintr_set(dev, true);
	return 0;
}

int pci_interrupt(struct pci_vdev *dev, unsigned int vector, uint8_t *isr, uint8_t bits)
{
	int error = 0;

	pthread_mutex_lock(&dev->intr_lock);
	if (!pci_msix_enabled(dev)) {
		*isr |= bits;
		error = message_or_line(dev);
	} else if (vector < dev->msix.count) {
		error = msix_generate(dev, vector);
	}
	pthread_mutex_unlock(&dev->intr_lock);
	return error;
}

void pci_isr_set(struct pci_vdev *dev, uint8_t *isr, uint8_t bits)
{
	pthread_mutex_lock(&dev->intr_lock);
	*isr |= bits;
	pthread_mutex_unlock(&dev->intr_lock);
}

uint8_t pci_isr_read(struct pci_vdev *dev, uint8_t *isr)
{
	uint8_t value;

	pthread_mutex_lock(&dev->intr_lock);
	value = *isr;
	*isr = 0;
	lintr_set(dev, false);
	pthread_mutex_unlock(&dev->intr_lock);
	return value;
}

void pci_intr_reset(struct pci_vdev *dev)
{
	pthread_mutex_lock(&dev->intr_lock);
	lintr_set(dev, false);
	for (unsigned int i = 0; i < dev->msix.count; i++)
		dev->msix.table[i] =
			(struct pci_msix_entry) { .control = PCI_MSIX_ENTRY_CTRL_MASKBIT };
	if (dev->msix.pending)
		memset(dev->msix.pending, 0, align_up(dev->msix.count, 64) / 8);
	pthread_mutex_unlock(&dev->intr_lock);
	pci_irqfds_update(dev);
}
