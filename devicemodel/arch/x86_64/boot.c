/* SPDX-License-Identifier: BSD-3-Clause */
/* boot.c: guest memory and boot CPU as a kernel wants to find them at power-on. */

#include <errno.h>
#include <inttypes.h>

#include "boot.h"

#define PAGE_TABLE_ENTRIES 512
#define PAGE_DIRECTORIES 4 /* 1 GiB each */
#define PAGE_PRESENT 0x1
#define PAGE_WRITABLE 0x2
#define PAGE_LARGE 0x80 /* 2 MiB in a page directory */

static void map_add(struct boot *boot, uint64_t addr, uint64_t end, uint32_t type)
{
	if (end > addr)
		boot->map[boot->map_count++] = (struct boot_map_entry) { addr, end - addr, type };
}

static void build_memory_map(struct boot *boot)
{
	const struct guest_memory *memory = &boot->ctx->memory;
	struct arch_pci_windows windows;

	arch_pci_windows(boot->ctx, &windows);
	map_add(boot, 0, BOOT_LOW_RAM_END, BOOT_MEMORY_RAM);
	map_add(boot, BOOT_HOLE, BOOT_KERNEL_MIN, BOOT_MEMORY_RESERVED);
	map_add(boot, BOOT_KERNEL_MIN, boot->ram_end, BOOT_MEMORY_RAM);
	map_add(boot, windows.ecam_base, windows.ecam_base + windows.ecam_size,
		BOOT_MEMORY_RESERVED);
	if (memory->count > 1)
		map_add(boot, memory->regions[1].gpa,
			memory->regions[1].gpa + memory->regions[1].size, BOOT_MEMORY_RAM);
}

/* Flat segments at the selectors of arch.h; present, accessed, ring 0. */
static int put_gdt(struct vmctx *ctx)
{
	static const uint64_t gdt[] = {
		[X86_GDT_CODE64 / 8] = UINT64_C(0x00af9b000000ffff),
		[X86_GDT_DATA / 8] = UINT64_C(0x00cf93000000ffff),
		[X86_GDT_CODE32 / 8] = UINT64_C(0x00cf9b000000ffff),
	};

	static_assert(sizeof(gdt) == X86_GDT_CODE32 + 8, "the last entry is the code segment");
	return guest_memory_write(&ctx->memory, BOOT_GDT, gdt, sizeof(gdt));
}

/* The first 4 GiB mapped to themselves with pages of 2 MiB. */
static int put_page_tables(struct vmctx *ctx)
{
	const uint64_t table_flags = PAGE_PRESENT | PAGE_WRITABLE;
	const unsigned int tables = 2 + PAGE_DIRECTORIES;
	uint64_t *pml4 = paddr_guest2host(ctx, BOOT_PAGE_TABLES, (size_t)tables * BOOT_PAGE_SIZE);
	uint64_t *pdpt, *directory;

	if (!pml4)
		return -EFAULT;
	pdpt = pml4 + PAGE_TABLE_ENTRIES;
	directory = pdpt + PAGE_TABLE_ENTRIES;

	pml4[0] = (BOOT_PAGE_TABLES + BOOT_PAGE_SIZE) | table_flags;
	for (uint64_t i = 0; i < PAGE_DIRECTORIES; i++)
		pdpt[i] = (BOOT_PAGE_TABLES + (2 + i) * BOOT_PAGE_SIZE) | table_flags;
	for (uint64_t i = 0; i < PAGE_DIRECTORIES * PAGE_TABLE_ENTRIES; i++)
		directory[i] = i * MIB(2) | table_flags | PAGE_LARGE;
	return 0;
}

int boot_put_cmdline(struct boot *boot, uint64_t max)
{
	const char *bootargs = boot->ctx->config.bootargs;
	uint64_t len;

	if (!bootargs)
		bootargs = "";
	len = strlen(bootargs);
	max = MIN(max, BOOT_CMDLINE_SIZE - 1U);
	if (len > max) {
		log_error(boot->ctx->log,
			  "%s: the kernel takes a command line of at most %" PRIu64
			  " bytes, it has %" PRIu64 " (shorten -B)",
			  boot->kernel.path, max, len);
		return -E2BIG;
	}
	return guest_memory_write(&boot->ctx->memory, BOOT_CMDLINE, bootargs, len + 1);
}

static int load_kernel(struct boot *boot, struct hv_cpu_state *state)
{
	uint64_t size = MIN(boot->kernel.size, sizeof(boot->header));
	int error;

	error = boot_file_read(&boot->kernel, boot->header, size, 0);
	if (error)
		return error;
	if (linux_probe(boot))
		return linux_load(boot, state);
	if (elf_probe(boot))
		return elf_load(boot, state);

	log_error(boot->ctx->log,
		  "%s: not a bzImage or an ELF kernel with a PVH entry (give a Linux x86_64 kernel "
		  "with -k)",
		  boot->kernel.path);
	return -ENOEXEC;
}

static int put_tables(struct boot *boot)
{
	struct vmctx *ctx = boot->ctx;
	long acpi_size;
	int error;

	if (boot->ram_end <= BOOT_KERNEL_MIN) {
		log_error(ctx->log, "-m: %" PRIu64 " bytes of memory are too few for any kernel",
			  boot->ram_end);
		return -ENOMEM;
	}
	error = put_gdt(ctx);
	if (error)
		return error;
	error = put_page_tables(ctx);
	if (error)
		return error;
	acpi_size = acpi_build(ctx, BOOT_ACPI, BOOT_ACPI_SIZE, &boot->rsdp);
	if (acpi_size < 0)
		return (int)acpi_size;

	log_debug(ctx->log, "ACPI tables: %ld bytes at 0x%x", acpi_size, BOOT_ACPI);
	build_memory_map(boot);
	return 0;
}

static void log_result(const struct boot *boot, const struct hv_cpu_state *state)
{
	struct logger *log = boot->ctx->log;

	for (unsigned int i = 0; i < boot->map_count; i++)
		log_debug(log, "memory map: 0x%09" PRIx64 " + 0x%09" PRIx64 " %s",
			  boot->map[i].addr, boot->map[i].size,
			  boot->map[i].type == BOOT_MEMORY_RAM ? "RAM" : "reserved");
	log_debug(log, "%s: kernel in 0x%" PRIx64 "-0x%" PRIx64 ", %s entry at 0x%" PRIx64,
		  boot->kernel.path, boot->kernel_start, boot->kernel_end,
		  state->mode == X86_MODE_LONG ? "64-bit" : "PVH", state->rip);
	if (boot->ramdisk_size)
		log_debug(log, "%s: ramdisk of %" PRIu64 " bytes at 0x%" PRIx64,
			  boot->ctx->config.ramdisk, boot->ramdisk_size, boot->ramdisk_gpa);
}

int arch_load(struct vmctx *ctx, struct hv_cpu_state *state)
{
	struct boot boot = { .ctx = ctx, .ram_end = ctx->memory.regions[0].size };
	uint64_t start_ns = vm_clock_ns(ctx);
	int error;

	if (!ctx->config.kernel) {
		log_error(ctx->log, "no kernel: give one with -k FILE");
		return -EINVAL;
	}
	memset(state, 0, sizeof(*state));
	state->rsp = BOOT_STACK_TOP;
	state->cr3 = BOOT_PAGE_TABLES;
	state->gdt_base = BOOT_GDT;
	state->gdt_limit = X86_GDT_CODE32 + 8 - 1;

	error = put_tables(&boot);
	if (error)
		return error;
	error = boot_file_open(&boot.kernel, ctx->log, "kernel", "-k", ctx->config.kernel);
	if (error)
		return error;
	error = load_kernel(&boot, state);
	boot_file_close(&boot.kernel);
	if (error)
		return error;
	log_result(&boot, state);
	log_debug(ctx->log, "loaded in %" PRIu64 " us", (vm_clock_ns(ctx) - start_ns) / 1000);
	return 0;
}
