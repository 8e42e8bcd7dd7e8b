/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * PCI from the processor's side.
 */
#include "pci_driver.h"

#define CF8_ENABLE UINT32_C(0x80000000)

static uint32_t cf8_address(unsigned int bus, unsigned int slot, unsigned int func,
			    unsigned int offset)
{
	return CF8_ENABLE | bus << 16 | slot << 11 | func << 8 | (offset & 0xfc);
}

static uint64_t ecam_address(unsigned int bus, unsigned int slot, unsigned int func,
			     unsigned int offset)
{
	return X86_ECAM_BASE + ((uint64_t)bus << 20 | slot << 15 | func << 12) + offset;
}

uint32_t pci_config_in(struct machine *machine, enum pci_mechanism mechanism, unsigned int bus,
		       unsigned int slot, unsigned int func, unsigned int offset, unsigned int size)
{
	if (mechanism == PCI_ECAM)
		return (uint32_t)guest_read(machine->ctx, IO_MMIO,
					    ecam_address(bus, slot, func, offset), size);
	outl(machine->ctx, 0xcf8, cf8_address(bus, slot, func, offset));
	return (uint32_t)guest_read(machine->ctx, IO_PIO, 0xcfc + (offset & 3), size);
}

void pci_config_out(struct machine *machine, enum pci_mechanism mechanism, unsigned int bus,
		    unsigned int slot, unsigned int func, unsigned int offset, unsigned int size,
		    uint32_t value)
{
	if (mechanism == PCI_ECAM) {
		guest_write(machine->ctx, IO_MMIO, ecam_address(bus, slot, func, offset), size,
			    value);
		return;
	}
	outl(machine->ctx, 0xcf8, cf8_address(bus, slot, func, offset));
	guest_write(machine->ctx, IO_PIO, 0xcfc + (offset & 3), size, value);
}

uint32_t pci_in(struct pci_function *function, unsigned int offset, unsigned int size)
{
	return pci_config_in(function->machine, function->mechanism, 0, function->slot,
			     function->func, offset, size);
}

void pci_out(struct pci_function *function, unsigned int offset, unsigned int size, uint32_t value)
{
	pci_config_out(function->machine, function->mechanism, 0, function->slot, function->func,
		       offset, size, value);
}

void pci_command(struct pci_function *function, uint16_t set, uint16_t clear)
{
	uint32_t command = pci_in(function, PCI_COMMAND, 2);

	pci_out(function, PCI_COMMAND, 2, (command | set) & ~(uint32_t)clear);
}

void pci_function_enable(struct pci_function *function)
{
	pci_command(function, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0);
}

static unsigned int bar_register(unsigned int bar)
{
	return PCI_BASE_ADDRESS_0 + 4 * bar;
}

/* Write ones, see which stick, put the address back (PCI 3.0, 6.2.5.1). */
static uint32_t bar_probe(struct pci_function *function, unsigned int bar)
{
	uint32_t old = pci_in(function, bar_register(bar), 4), ones;

	pci_out(function, bar_register(bar), 4, UINT32_MAX);
	ones = pci_in(function, bar_register(bar), 4);
	pci_out(function, bar_register(bar), 4, old);
	return ones;
}

static uint64_t bar_addr(struct pci_function *function, unsigned int bar, enum pcibar_type type)
{
	uint64_t addr = pci_in(function, bar_register(bar), 4);

	if (type == PCIBAR_IO)
		return addr & ~UINT64_C(3);
	addr &= ~UINT64_C(15);
	if (type == PCIBAR_MEM64)
		addr |= (uint64_t)pci_in(function, bar_register(bar + 1), 4) << 32;
	return addr;
}

uint64_t pci_bar_addr(struct pci_function *function, unsigned int bar)
{
	return bar_addr(function, bar, function->bar[bar].type);
}

/* Returns how many registers the BAR takes. */
static unsigned int bar_size(struct pci_function *function, unsigned int bar)
{
	struct pci_function_bar *found = &function->bar[bar];
	uint64_t ones = bar_probe(function, bar);

	if (!ones)
		return 1;
	if (ones & PCI_BASE_ADDRESS_SPACE_IO) {
		found->type = PCIBAR_IO;
		found->size = (uint32_t)(~(ones & ~UINT64_C(3)) + 1);
	} else if ((ones & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64) {
		found->type = PCIBAR_MEM64;
		ones |= (uint64_t)bar_probe(function, bar + 1) << 32;
		found->size = ~(ones & ~UINT64_C(15)) + 1;
	} else {
		found->type = PCIBAR_MEM32;
		found->size = (uint32_t)(~(ones & ~UINT64_C(15)) + 1);
	}
	found->addr = bar_addr(function, bar, found->type);
	return found->type == PCIBAR_MEM64 ? 2 : 1;
}

unsigned int pci_capability(struct pci_function *function, uint8_t id, unsigned int after)
{
	unsigned int at = after ? after + PCI_CAP_LIST_NEXT : PCI_CAPABILITY_LIST;

	if (!(pci_in(function, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST))
		return 0;
	at = pci_in(function, at, 1);
	for (unsigned int count = 0; at; count++) {
		assert_true(count < 64 && at >= 0x40 && !(at & 3)); /* no loop, where it may be */
		if (pci_in(function, at, 1) == id)
			return at;
		at = pci_in(function, at + PCI_CAP_LIST_NEXT, 1);
	}
	return 0;
}

static void msix_find(struct pci_function *function)
{
	unsigned int cap = pci_capability(function, PCI_CAP_ID_MSIX, 0);
	uint32_t table, pba;

	function->msix_cap = cap;
	if (!cap)
		return;
	function->msix_count = (pci_in(function, cap + PCI_MSIX_FLAGS, 2) & 0x7ff) + 1;
	table = pci_in(function, cap + PCI_MSIX_TABLE, 4);
	pba = pci_in(function, cap + PCI_MSIX_PBA, 4);
	function->msix_table_bar = table & 7;
	function->msix_table_offset = table & ~7U;
	function->msix_pba_bar = pba & 7;
	function->msix_pba_offset = pba & ~7U;
}

bool pci_function_open(struct pci_function *function, struct machine *machine,
		       enum pci_mechanism mechanism, unsigned int slot, unsigned int func)
{
	memset(function, 0, sizeof(*function));
	function->machine = machine;
	function->mechanism = mechanism;
	function->slot = (uint8_t)slot;
	function->func = (uint8_t)func;
	function->vendor = (uint16_t)pci_in(function, PCI_VENDOR_ID, 2);
	function->device = (uint16_t)pci_in(function, PCI_DEVICE_ID, 2);
	if (function->vendor == 0xffff)
		return false;
	for (unsigned int bar = 0; bar < PCI_BARS;)
		bar += bar_size(function, bar);
	function->msi_cap = pci_capability(function, PCI_CAP_ID_MSI, 0);
	msix_find(function);
	return true;
}

void pci_move_bar(struct pci_function *function, unsigned int bar, uint64_t addr)
{
	pci_out(function, bar_register(bar), 4, (uint32_t)addr);
	if (function->bar[bar].type == PCIBAR_MEM64)
		pci_out(function, bar_register(bar + 1), 4, (uint32_t)(addr >> 32));
	function->bar[bar].addr = addr;
}

static enum io_type bar_space(const struct pci_function *function, unsigned int bar)
{
	return function->bar[bar].type == PCIBAR_IO ? IO_PIO : IO_MMIO;
}

uint64_t pci_bar_in(struct pci_function *function, unsigned int bar, uint64_t offset,
		    unsigned int size)
{
	return guest_read(function->machine->ctx, bar_space(function, bar),
			  function->bar[bar].addr + offset, size);
}

void pci_bar_out(struct pci_function *function, unsigned int bar, uint64_t offset,
		 unsigned int size, uint64_t value)
{
	guest_write(function->machine->ctx, bar_space(function, bar),
		    function->bar[bar].addr + offset, size, value);
}

uint16_t pci_msix_data(const struct pci_function *function, unsigned int vector)
{
	return (uint16_t)(0x8000 | (function->slot & 31) << 10 | (function->func & 7) << 7 |
			  (vector & 0x7f));
}

static uint64_t msix_entry(const struct pci_function *function, unsigned int vector)
{
	return function->msix_table_offset + vector * PCI_MSIX_ENTRY_SIZE;
}

void pci_msix_mask(struct pci_function *function, unsigned int vector, bool mask)
{
	pci_bar_out(function, function->msix_table_bar,
		    msix_entry(function, vector) + PCI_MSIX_ENTRY_VECTOR_CTRL, 4, mask);
}

void pci_msix_setup(struct pci_function *function)
{
	unsigned int bar = function->msix_table_bar;

	for (unsigned int i = 0; i < function->msix_count; i++) {
		uint64_t entry = msix_entry(function, i);

		pci_bar_out(function, bar, entry + PCI_MSIX_ENTRY_LOWER_ADDR, 4, MSI_ADDRESS);
		pci_bar_out(function, bar, entry + PCI_MSIX_ENTRY_UPPER_ADDR, 4, 0);
		pci_bar_out(function, bar, entry + PCI_MSIX_ENTRY_DATA, 4,
			    pci_msix_data(function, i));
		pci_msix_mask(function, i, false);
	}
	pci_out(function, function->msix_cap + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
}

bool pci_msix_pending(struct pci_function *function, unsigned int vector)
{
	uint64_t word = function->msix_pba_offset + vector / 64 * 8;

	return pci_bar_in(function, function->msix_pba_bar, word, 8) & BIT64(vector % 64);
}

unsigned int pci_function_gsi(const struct pci_function *function)
{
	return pci_slot_gsi(function->slot, 1);
}
