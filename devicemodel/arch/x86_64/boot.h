/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * boot.h: what the kernel loaders of x86_64 share: the low megabyte, files, ramdisk, command line.
 */
#ifndef TENON_X86_BOOT_H
#define TENON_X86_BOOT_H

#include "arch.h"

/*
 * The first megabyte, as the boot CPU finds it:
 *
 *	0x01000  GDT
 *	0x02000  PVH: start info, module list and memory map, one page
 *	0x07000  stack, growing down from here, one page
 *	0x07000  Linux: boot_params, one page
 *	0x09000  page tables: PML4, PDPT, four page directories
 *	0x20000  command line, at most 64 KiB
 *	0x9fc00  end of low RAM
 *	0xe0000  ACPI tables, beginning with the RSDP; where an old kernel looks for them by itself
 */
#define BOOT_GDT 0x1000
#define BOOT_START_INFO 0x2000
#define BOOT_STACK_TOP 0x7000
#define BOOT_PARAMS 0x7000
#define BOOT_PAGE_TABLES 0x9000
#define BOOT_CMDLINE 0x20000
#define BOOT_CMDLINE_SIZE 0x10000
#define BOOT_LOW_RAM_END 0x9fc00
#define BOOT_HOLE 0xa0000
#define BOOT_ACPI 0xe0000
#define BOOT_ACPI_SIZE 0x20000
#define BOOT_KERNEL_MIN 0x100000 /* kernels lie here or above */

#define BOOT_PAGE_SIZE 0x1000
#define BOOT_MAP_ENTRIES 8
#define BOOT_HEADER_SIZE 1024 /* of a kernel: enough for every header that tells what it is */

/* Types of memory map entries, the same in E820 and in PVH */
#define BOOT_MEMORY_RAM 1
#define BOOT_MEMORY_RESERVED 2

/** struct boot_file - a file of the user's that goes into the guest. */
struct boot_file {
	struct logger *log;
	const char *path;
	int fd;
	uint64_t size;
};

struct boot_map_entry {
	uint64_t addr, size;
	uint32_t type;
};

/**
 * struct boot - one boot in the making.
 * @kernel: the open kernel file, its first bytes in @header (zeroes behind the file's end)
 * @ram_end: end of the RAM that begins at 0; all that is loaded lies below
 * @kernel_start, @kernel_end: memory of the kernel; set by its loader
 * @ramdisk_gpa, @ramdisk_size: 0, 0 without a ramdisk
 */
struct boot {
	struct vmctx *ctx;
	struct boot_file kernel;
	uint8_t header[BOOT_HEADER_SIZE];
	uint64_t ram_end;
	uint64_t rsdp;
	unsigned int map_count;
	struct boot_map_entry map[BOOT_MAP_ENTRIES];
	uint64_t kernel_start, kernel_end;
	uint64_t ramdisk_gpa, ramdisk_size;
};

/**
 * boot_file_open() - open @path, a regular file that is not empty, for reading.
 * @what: "kernel", for messages; @option: the one that named the file, for messages
 * Return: 0 or -errno after one log line; close with boot_file_close().
 */
int boot_file_open(struct boot_file *file, struct logger *log, const char *what, const char *option,
		   const char *path) __must_check;
void boot_file_close(struct boot_file *file);

/** boot_file_read() - exactly @size bytes at @offset; 0 or -errno after one log line. */
int boot_file_read(const struct boot_file *file, void *to, uint64_t size,
		   uint64_t offset) __must_check;

/** boot_load() - read that part of the kernel file to @gpa; 0 or -errno after one log line. */
int boot_load(struct boot *boot, uint64_t gpa, uint64_t size, uint64_t offset) __must_check;

/**
 * boot_load_ramdisk() - read the ramdisk, if there is one, to the highest place between
 * boot->kernel_end and @limit. Return: 0 or -errno after one log line.
 */
int boot_load_ramdisk(struct boot *boot, uint64_t limit) __must_check;

/**
 * boot_put_cmdline() - write the command line to BOOT_CMDLINE.
 * @max: what the kernel takes, without the final zero
 * Return: 0 or -errno after one log line.
 */
int boot_put_cmdline(struct boot *boot, uint64_t max) __must_check;

/** boot_no_memory() - log that the kernel needs RAM up to @end; -ENOMEM. */
int boot_no_memory(struct boot *boot, uint64_t end) __must_check;

/* linux.c: bzImages, by the 64-bit boot protocol (Documentation/arch/x86/boot.rst). */
bool linux_probe(const struct boot *boot);
int linux_load(struct boot *boot, struct hv_cpu_state *state) __must_check;

/* elf.c: ELF kernels with a PVH entry (Xen's docs/misc/pvh.pandoc). */
bool elf_probe(const struct boot *boot);
int elf_load(struct boot *boot, struct hv_cpu_state *state) __must_check;

#endif
