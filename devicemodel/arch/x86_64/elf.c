/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * elf.c: loads an ELF kernel that has a PVH entry, as vmlinux of a Linux with CONFIG_PVH; the
 * interface is Xen's docs/misc/pvh.pandoc and public/arch-x86/hvm/start_info.h.
 */

#include <elf.h>
#include <errno.h>
#include <inttypes.h>

#include "boot.h"

#define PROGRAM_HEADERS_MAX 64
#define NOTES_MAX 256
#define NOTE_NAME "Xen"
#define NOTE_PHYS32_ENTRY 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
#define START_INFO_MAGIC 0x336ec578
#define START_INFO_VERSION 1

/* PVH does not say how long a command line may be: this is what Linux takes (COMMAND_LINE_SIZE). */
#define CMDLINE_MAX 2047

struct start_info { /* struct hvm_start_info */
	uint32_t magic;
	uint32_t version;
	uint32_t flags;
	uint32_t nr_modules;
	uint64_t modlist_paddr;
	uint64_t cmdline_paddr;
	uint64_t rsdp_paddr;
	uint64_t memmap_paddr;
	uint32_t memmap_entries;
	uint32_t reserved;
};

struct start_module { /* struct hvm_modlist_entry */
	uint64_t paddr;
	uint64_t size;
	uint64_t cmdline_paddr;
	uint64_t reserved;
};

struct start_memmap { /* struct hvm_memmap_table_entry */
	uint64_t addr;
	uint64_t size;
	uint32_t type;
	uint32_t reserved;
};

/* struct start_page - what is at BOOT_START_INFO. */
struct start_page {
	struct start_info info;
	struct start_module module;
	struct start_memmap memmap[BOOT_MAP_ENTRIES];
};

static_assert(sizeof(struct start_info) == 56, "hvm_start_info version 1");
static_assert(sizeof(struct start_module) == 32, "hvm_modlist_entry");
static_assert(sizeof(struct start_memmap) == 24, "hvm_memmap_table_entry");
static_assert(sizeof(struct start_page) <= BOOT_PAGE_SIZE, "one page is set aside");

/* struct elf - the program headers; where the notes say that the kernel starts. */
struct elf {
	unsigned int count;
	Elf64_Phdr headers[PROGRAM_HEADERS_MAX];
	bool has_entry;
	uint64_t entry;
};

bool elf_probe(const struct boot *boot)
{
	return !memcmp(boot->header, ELFMAG, SELFMAG);
}

static int damaged(const struct boot *boot, const char *what)
{
	log_error(boot->ctx->log, "%s: damaged ELF file: %s", boot->kernel.path, what);
	return -ENOEXEC;
}

static int get_program_headers(struct boot *boot, struct elf *elf)
{
	Elf64_Ehdr header;
	uint64_t size;

	memcpy(&header, boot->header, sizeof(header));
	if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
	    header.e_machine != EM_X86_64 ||
	    (header.e_type != ET_EXEC && header.e_type != ET_DYN)) {
		log_error(boot->ctx->log,
			  "%s: an ELF file, but not an x86_64 kernel (give a Linux x86_64 kernel "
			  "with -k)",
			  boot->kernel.path);
		return -ENOEXEC;
	}
	if (header.e_phentsize != sizeof(Elf64_Phdr))
		return damaged(boot, "program headers of an unknown size");
	if (!header.e_phnum || header.e_phnum > PROGRAM_HEADERS_MAX)
		return damaged(boot, "no program headers, or too many");
	size = header.e_phnum * sizeof(Elf64_Phdr);
	if (!range_contains(0, boot->kernel.size, header.e_phoff, size))
		return damaged(boot, "program headers behind its end");
	elf->count = header.e_phnum;
	return boot_file_read(&boot->kernel, elf->headers, size, header.e_phoff);
}

static bool is_entry_note(const Elf64_Nhdr *note, const char *name)
{
	return note->n_type == NOTE_PHYS32_ENTRY && note->n_namesz == sizeof(NOTE_NAME) &&
	       !memcmp(name, NOTE_NAME, sizeof(NOTE_NAME)) &&
	       (note->n_descsz == 4 || note->n_descsz == 8);
}

/* Look for the entry in the notes of @header, which lie inside the file. */
static int read_notes(struct boot *boot, struct elf *elf, const Elf64_Phdr *header)
{
	uint64_t align = header->p_align == 8 ? 8 : 4;
	uint64_t at = 0, descriptor;
	struct {
		Elf64_Nhdr note;
		char name[sizeof(NOTE_NAME)];
	} start;
	int error;

	for (unsigned int i = 0; i < NOTES_MAX; i++) {
		if (!range_contains(0, header->p_filesz, at, sizeof(start)))
			return 0;
		error = boot_file_read(&boot->kernel, &start, sizeof(start), header->p_offset + at);
		if (error)
			return error;
		/* None of the sums wraps: @at is a place in the file, the sizes have 32 bits. */
		descriptor = at + align_up(sizeof(start.note) + start.note.n_namesz, align);
		at = descriptor + align_up(start.note.n_descsz, align);
		if (!is_entry_note(&start.note, start.name))
			continue;
		if (!range_contains(0, header->p_filesz, descriptor, start.note.n_descsz))
			return damaged(boot, "a note is cut off");
		elf->has_entry = true;
		return boot_file_read(&boot->kernel, &elf->entry, start.note.n_descsz,
				      header->p_offset + descriptor);
	}
	return 0;
}

static int find_entry(struct boot *boot, struct elf *elf)
{
	int error;

	for (unsigned int i = 0; i < elf->count && !elf->has_entry; i++) {
		const Elf64_Phdr *header = &elf->headers[i];

		if (header->p_type != PT_NOTE)
			continue;
		if (!range_contains(0, boot->kernel.size, header->p_offset, header->p_filesz))
			return damaged(boot, "notes behind its end");
		error = read_notes(boot, elf, header);
		if (error)
			return error;
	}
	if (elf->has_entry)
		return 0;
	log_error(boot->ctx->log,
		  "%s: an ELF kernel without a PVH entry (give a bzImage, or a kernel with "
		  "CONFIG_PVH, with -k)",
		  boot->kernel.path);
	return -ENOEXEC;
}

static int check_segment(struct boot *boot, const Elf64_Phdr *header)
{
	if (header->p_filesz > header->p_memsz)
		return damaged(boot, "a segment is larger in the file than in memory");
	if (!range_contains(0, boot->kernel.size, header->p_offset, header->p_filesz))
		return damaged(boot, "a segment behind its end");
	if (header->p_paddr < BOOT_KERNEL_MIN)
		return damaged(boot, "a segment for the first megabyte");
	if (!range_contains(0, GIB(4), header->p_paddr, header->p_memsz))
		return damaged(boot, "a segment for memory above 4 GiB");
	if (header->p_paddr + header->p_memsz > boot->ram_end)
		return boot_no_memory(boot, header->p_paddr + header->p_memsz);
	return 0;
}

/* What is not in the file is zero already: memory is cleared before every boot. */
static int load_segments(struct boot *boot, const struct elf *elf)
{
	bool entry_loaded = false;
	int error;

	boot->kernel_start = boot->ram_end;
	for (unsigned int i = 0; i < elf->count; i++) {
		const Elf64_Phdr *header = &elf->headers[i];

		if (header->p_type != PT_LOAD || !header->p_memsz)
			continue;
		error = check_segment(boot, header);
		if (error)
			return error;
		error = boot_load(boot, header->p_paddr, header->p_filesz, header->p_offset);
		if (error)
			return error;
		boot->kernel_start = MIN(boot->kernel_start, header->p_paddr);
		boot->kernel_end = MAX(boot->kernel_end, header->p_paddr + header->p_memsz);
		entry_loaded |= range_contains(header->p_paddr, header->p_filesz, elf->entry, 1);
	}
	return entry_loaded ? 0 : damaged(boot, "the PVH entry is not in a segment");
}

static int put_start_page(struct boot *boot)
{
	struct start_page page = {
		.info = {
			.magic = START_INFO_MAGIC,
			.version = START_INFO_VERSION,
			.cmdline_paddr = BOOT_CMDLINE,
			.rsdp_paddr = boot->rsdp,
			.memmap_paddr = BOOT_START_INFO + offsetof(struct start_page, memmap),
			.memmap_entries = boot->map_count,
		},
	};

	if (boot->ramdisk_size) {
		page.info.nr_modules = 1;
		page.info.modlist_paddr = BOOT_START_INFO + offsetof(struct start_page, module);
		page.module.paddr = boot->ramdisk_gpa;
		page.module.size = boot->ramdisk_size;
	}
	for (unsigned int i = 0; i < boot->map_count; i++)
		page.memmap[i] = (struct start_memmap) {
			.addr = boot->map[i].addr,
			.size = boot->map[i].size,
			.type = boot->map[i].type,
		};
	return guest_memory_write(&boot->ctx->memory, BOOT_START_INFO, &page, sizeof(page));
}

int elf_load(struct boot *boot, struct hv_cpu_state *state)
{
	struct elf elf = { 0 };
	int error;

	error = get_program_headers(boot, &elf);
	if (error)
		return error;
	error = find_entry(boot, &elf);
	if (error)
		return error;
	error = load_segments(boot, &elf);
	if (error)
		return error;
	error = boot_load_ramdisk(boot, GIB(4));
	if (error)
		return error;
	error = boot_put_cmdline(boot, CMDLINE_MAX);
	if (error)
		return error;
	error = put_start_page(boot);
	if (error)
		return error;

	state->mode = X86_MODE_PROTECTED;
	state->rip = elf.entry;
	state->rbx = BOOT_START_INFO;
	return 0;
}
