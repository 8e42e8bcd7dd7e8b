/* SPDX-License-Identifier: BSD-3-Clause */
/* memory_map.c: where RAM and the PCI windows of an x86_64 VM lie in physical memory. */

#include "arch.h"

#define MEM64_WINDOW GIB(32) /* fits a 36-bit CPU as long as RAM ends below 32 GiB */

void arch_memory_layout(struct vmctx *ctx)
{
	struct guest_memory *memory = &ctx->memory;
	uint64_t size = ctx->config.memory_size;

	memory->count = 1;
	memory->regions[0].gpa = 0;
	memory->regions[0].size = MIN(size, X86_LOWMEM_MAX);
	if (size <= X86_LOWMEM_MAX)
		return;

	memory->count = 2;
	memory->regions[1].gpa = X86_HIGHMEM_BASE;
	memory->regions[1].size = size - X86_LOWMEM_MAX;
}

void arch_pci_windows(const struct vmctx *ctx, struct arch_pci_windows *windows)
{
	uint64_t size = ctx->config.memory_size;
	uint64_t ram_end = size;

	if (size > X86_LOWMEM_MAX)
		ram_end = X86_HIGHMEM_BASE + size - X86_LOWMEM_MAX;

	windows->io_base = X86_PCI_IO_BASE;
	windows->io_size = X86_PCI_IO_END - X86_PCI_IO_BASE;
	windows->mem32_base = X86_MMIO32_BASE;
	windows->mem32_size = X86_MMIO32_END - X86_MMIO32_BASE;
	windows->mem64_base = MAX(align_up(ram_end, MEM64_WINDOW), MEM64_WINDOW);
	windows->mem64_size = MEM64_WINDOW;
	windows->ecam_base = X86_ECAM_BASE;
	windows->ecam_size = X86_ECAM_SIZE;
}
