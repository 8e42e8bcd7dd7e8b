/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * arch.h: what differs between architectures: memory map, boot CPU state, firmware tables, kernel loading.
 */
#ifndef TENON_ARCH_H
#define TENON_ARCH_H

#include "dm.h"

/* x86_64 physical memory map */
#define X86_LOWMEM_MAX UINT64_C(0xb0000000) /* RAM below 4 GiB ends here at the latest */
#define X86_ECAM_BASE UINT64_C(0xb0000000) /* 256 buses x 1 MiB */
#define X86_ECAM_SIZE UINT64_C(0x10000000)
#define X86_MMIO32_BASE UINT64_C(0xc0000000) /* 32-bit BARs */
#define X86_MMIO32_END UINT64_C(0xfe000000)
#define X86_IOAPIC_BASE UINT64_C(0xfec00000)
#define X86_LAPIC_BASE UINT64_C(0xfee00000)
#define X86_HIGHMEM_BASE GIB(4)
#define X86_PCI_IO_BASE 0x1000 /* IO BARs */
#define X86_PCI_IO_END 0x10000

/** struct arch_pci_windows - where BARs may go; also what _CRS says. [base, base + size) */
struct arch_pci_windows {
	uint64_t io_base, io_size;
	uint64_t mem32_base, mem32_size;
	uint64_t mem64_base, mem64_size;
	uint64_t ecam_base, ecam_size;
};

/** arch_pci_windows() - the windows of this VM (the 64-bit one lies above RAM). */
void arch_pci_windows(const struct vmctx *ctx, struct arch_pci_windows *windows);

/** arch_memory_layout() - fill in gpa and size of the RAM regions for ctx->config.memory_size. */
void arch_memory_layout(struct vmctx *ctx);

/**
 * enum x86_mode - how a CPU starts: 64-bit with paging; 32-bit protected without (PVH); real mode at
 * @rip >> 4 : @rip & 15, as after S3 (ACPI 6.5, 5.2.10), where nothing else of hv_cpu_state counts.
 */
enum x86_mode { X86_MODE_LONG, X86_MODE_PROTECTED, X86_MODE_REAL };

/**
 * struct hv_cpu_state - how the boot CPU starts (x86_64). Flat segments from the GDT at @gdt_base.
 */
struct hv_cpu_state {
	enum x86_mode mode;
	uint64_t rip, rsp, rsi, rbx;
	uint64_t cr3;
	uint64_t gdt_base;
	uint16_t gdt_limit;
};

#define X86_GDT_CODE64 0x10 /* selectors in that GDT, also as the Linux boot protocol wants them */
#define X86_GDT_DATA 0x18
#define X86_GDT_CODE32 0x20

/**
 * arch_load() - put kernel, ramdisk, command line, page tables, memory map and ACPI tables into
 * guest memory, as at power-on. Called again at every guest reset, after guest_memory_clear().
 * Return: 0 with @state filled in, or -errno after one log line naming file, cause and remedy.
 */
int arch_load(struct vmctx *ctx, struct hv_cpu_state *state) __must_check;

/**
 * arch_wake() - the state in which the boot CPU goes on after suspend to RAM, from guest memory.
 * Return: 0; -ENOENT: the guest named no place; -EFAULT: it cannot be there
 */
int arch_wake(struct vmctx *ctx, struct hv_cpu_state *state) __must_check;

/**
 * acpi_build() - write the ACPI tables (RSDP at @rsdp_gpa's return) into [@gpa, @gpa + @size).
 * Return: bytes used or -errno.
 */
long acpi_build(struct vmctx *ctx, uint64_t gpa, uint64_t size, uint64_t *rsdp_gpa) __must_check;

#endif
