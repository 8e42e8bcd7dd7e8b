/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pci_driver.h: PCI from the processor's side: config space, BARs, capabilities, MSI-X.
 */
#ifndef TENON_TESTS_PCI_DRIVER_H
#define TENON_TESTS_PCI_DRIVER_H

#include "machine.h"

#define MSI_ADDRESS UINT32_C(0xfee00000)

/* How config space is reached: ports 0xCF8 and 0xCFC (256 bytes), or ECAM (4096). */
enum pci_mechanism { PCI_CF8, PCI_ECAM };

struct pci_function_bar {
	enum pcibar_type type;
	uint64_t addr, size;
};

/*
 * struct pci_function - a function as its driver found it.
 * @bar: as sized; type PCIBAR_NONE where there is none
 * @msix_cap, @msi_cap: where, 0 if not there; @msix_*: what the capability says
 */
struct pci_function {
	struct machine *machine;
	enum pci_mechanism mechanism;
	uint8_t slot, func;
	uint16_t vendor, device;
	struct pci_function_bar bar[PCI_BARS];
	unsigned int msix_cap, msi_cap;
	unsigned int msix_count, msix_table_bar, msix_pba_bar;
	uint32_t msix_table_offset, msix_pba_offset;
};

/* Config space at @bus:@slot.@func, whether anything is there or not. */
uint32_t pci_config_in(struct machine *machine, enum pci_mechanism mechanism, unsigned int bus,
		       unsigned int slot, unsigned int func, unsigned int offset,
		       unsigned int size);
void pci_config_out(struct machine *machine, enum pci_mechanism mechanism, unsigned int bus,
		    unsigned int slot, unsigned int func, unsigned int offset, unsigned int size,
		    uint32_t value);

/* Find the function and size its BARs; false if nothing is there. Decoding stays as it is. */
bool pci_function_open(struct pci_function *function, struct machine *machine,
		       enum pci_mechanism mechanism, unsigned int slot, unsigned int func);

uint32_t pci_in(struct pci_function *function, unsigned int offset, unsigned int size);
void pci_out(struct pci_function *function, unsigned int offset, unsigned int size, uint32_t value);

/* Set and clear bits of the command register. */
void pci_command(struct pci_function *function, uint16_t set, uint16_t clear);

/* Decode everything, and be bus master. */
void pci_function_enable(struct pci_function *function);

/* The first capability @id behind @after (0: from the start), or 0. */
unsigned int pci_capability(struct pci_function *function, uint8_t id, unsigned int after);

/* Write the BAR's registers; @addr is where it is from now on. */
void pci_move_bar(struct pci_function *function, unsigned int bar, uint64_t addr);

/* What the BAR registers say now, without the type bits. */
uint64_t pci_bar_addr(struct pci_function *function, unsigned int bar);

uint64_t pci_bar_in(struct pci_function *function, unsigned int bar, uint64_t offset,
		    unsigned int size);
void pci_bar_out(struct pci_function *function, unsigned int bar, uint64_t offset,
		 unsigned int size, uint64_t value);

/* The data that vector @vector of this function is set up with; counted by inproc_msi_count(). */
uint16_t pci_msix_data(const struct pci_function *function, unsigned int vector);

/* Set up all vectors, each with its data, unmasked, and enable MSI-X. */
void pci_msix_setup(struct pci_function *function);

void pci_msix_mask(struct pci_function *function, unsigned int vector, bool mask);
bool pci_msix_pending(struct pci_function *function, unsigned int vector);

/* The GSI that its INTA is wired to. */
unsigned int pci_function_gsi(const struct pci_function *function);

#endif
