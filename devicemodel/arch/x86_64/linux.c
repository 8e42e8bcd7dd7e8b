/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * linux.c: loads a bzImage by the 64-bit boot protocol: Documentation/arch/x86/boot.rst of Linux,
 * called "boot.rst" below.
 */

#include <asm/bootparam.h>
#include <errno.h>
#include <inttypes.h>

#include "boot.h"

#define SETUP_HEADER 0x1f1 /* where struct setup_header is in the file and in boot_params */
#define SETUP_JUMP_OFFSET 0x201 /* the header ends this byte's value behind 0x202 */
#define SETUP_SIGNATURE 0x53726448 /* "HdrS" */
#define BOOT_FLAG 0xaa55
#define PROTOCOL_MIN 0x20c /* 2.12, Linux 3.8: the first with xloadflags */
#define SECTOR 512
#define SETUP_SECTORS_DEFAULT 4
#define PARAGRAPH 16 /* unit of syssize */
#define ENTRY_64 0x200
#define LOADER_UNDEFINED 0xff
#define VIDEO_MODE_NORMAL 0xffff

static_assert(offsetof(struct boot_params, hdr) == SETUP_HEADER,
	      "boot.rst, The Real-Mode Kernel Header");
static_assert(sizeof(struct boot_params) == BOOT_PAGE_SIZE, "boot_params is one page");
static_assert(SETUP_HEADER + sizeof(struct setup_header) <= BOOT_HEADER_SIZE, "all of it is read");

bool linux_probe(const struct boot *boot)
{
	const uint8_t *header = boot->header + SETUP_HEADER;

	return bytes_get(header + offsetof(struct setup_header, boot_flag), 2) == BOOT_FLAG &&
	       bytes_get(header + offsetof(struct setup_header, header), 4) == SETUP_SIGNATURE;
}

/* Only as much as this kernel's header has; the rest stays zero. */
static void get_setup_header(const struct boot *boot, struct setup_header *header)
{
	size_t end = 0x202 + boot->header[SETUP_JUMP_OFFSET];

	memset(header, 0, sizeof(*header));
	memcpy(header, boot->header + SETUP_HEADER, MIN(end - SETUP_HEADER, sizeof(*header)));
}

static int damaged(const struct boot *boot, const char *what)
{
	log_error(boot->ctx->log, "%s: damaged bzImage: %s", boot->kernel.path, what);
	return -ENOEXEC;
}

static int check_header(const struct boot *boot, const struct setup_header *header)
{
	struct logger *log = boot->ctx->log;

	if (header->version < PROTOCOL_MIN) {
		log_error(log,
			  "%s: speaks boot protocol %u.%02u, 2.12 is needed (give Linux 3.8 or "
			  "newer with -k)",
			  boot->kernel.path, header->version >> 8, header->version & 0xff);
		return -ENOEXEC;
	}
	if (!(header->xloadflags & XLF_KERNEL_64) || !(header->loadflags & LOADED_HIGH)) {
		log_error(log, "%s: has no 64-bit entry point (give an x86_64 kernel with -k)",
			  boot->kernel.path);
		return -ENOEXEC;
	}
	if (header->relocatable_kernel && !is_power_of_2(header->kernel_alignment))
		return damaged(boot, "the alignment is not a power of two");
	return 0;
}

/*
 * Where the kernel will run: boot.rst, field init_size. Loading it lower than it wants to be saves
 * nothing, it would move itself up.
 */
static int place_kernel(struct boot *boot, const struct setup_header *header, uint64_t size)
{
	uint64_t start = MAX(header->pref_address, (uint64_t)BOOT_KERNEL_MIN);
	uint64_t need = MAX(header->init_size, size);

	if (start < GIB(4) && header->relocatable_kernel)
		start = align_up(start, header->kernel_alignment);
	if (start >= GIB(4))
		return damaged(boot, "it wants to be loaded above 4 GiB");
	boot->kernel_start = start;
	boot->kernel_end = start + need; /* both are below 8 GiB */
	if (boot->kernel_end > boot->ram_end)
		return boot_no_memory(boot, boot->kernel_end);
	return 0;
}

/* The protected-mode part, which follows the setup sectors. */
static int load_payload(struct boot *boot, const struct setup_header *header)
{
	unsigned int sectors = header->setup_sects ? header->setup_sects : SETUP_SECTORS_DEFAULT;
	uint64_t offset = (uint64_t)(sectors + 1) * SECTOR;
	uint64_t size = (uint64_t)header->syssize * PARAGRAPH;
	int error;

	if (size <= ENTRY_64)
		return damaged(boot, "there is no code in it");
	if (!range_contains(0, boot->kernel.size, offset, size))
		return damaged(boot, "the file is shorter than its header says");
	error = place_kernel(boot, header, size);
	if (error)
		return error;
	return boot_load(boot, boot->kernel_start, size, offset);
}

static void put_e820(const struct boot *boot, struct boot_params *params)
{
	static_assert(BOOT_MAP_ENTRIES <= E820_MAX_ENTRIES_ZEROPAGE, "the map fits boot_params");
	for (unsigned int i = 0; i < boot->map_count; i++)
		params->e820_table[i] = (struct boot_e820_entry) {
			.addr = boot->map[i].addr,
			.size = boot->map[i].size,
			.type = boot->map[i].type,
		};
	params->e820_entries = (uint8_t)boot->map_count;
}

/* boot.rst, 64-bit Boot Protocol: all zero but the setup header and what the loader fills in. */
static int put_boot_params(struct boot *boot, const struct setup_header *header)
{
	struct boot_params params = { .hdr = *header, .acpi_rsdp_addr = boot->rsdp };

	params.hdr.type_of_loader = LOADER_UNDEFINED;
	params.hdr.vid_mode = VIDEO_MODE_NORMAL;
	params.hdr.code32_start = (uint32_t)boot->kernel_start;
	params.hdr.cmd_line_ptr = BOOT_CMDLINE;
	params.hdr.ramdisk_image = (uint32_t)boot->ramdisk_gpa;
	params.hdr.ramdisk_size = (uint32_t)boot->ramdisk_size;
	params.hdr.setup_data = 0;
	put_e820(boot, &params);
	return guest_memory_write(&boot->ctx->memory, BOOT_PARAMS, &params, sizeof(params));
}

int linux_load(struct boot *boot, struct hv_cpu_state *state)
{
	struct setup_header header;
	int error;

	get_setup_header(boot, &header);
	error = check_header(boot, &header);
	if (error)
		return error;
	error = load_payload(boot, &header);
	if (error)
		return error;
	error = boot_load_ramdisk(boot, (uint64_t)header.initrd_addr_max + 1);
	if (error)
		return error;
	error = boot_put_cmdline(boot, header.cmdline_size);
	if (error)
		return error;
	error = put_boot_params(boot, &header);
	if (error)
		return error;

	state->mode = X86_MODE_LONG;
	state->rip = boot->kernel_start + ENTRY_64;
	state->rsi = BOOT_PARAMS;
	return 0;
}
