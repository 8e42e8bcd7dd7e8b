/* SPDX-License-Identifier: BSD-3-Clause */
/* test_boot.c: loading kernels: what arch_load() leaves in guest memory, and damaged files. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <asm/bootparam.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch.h"
#include "platform.h"

#define IMAGE_SIZE 0x2000 /* of every kernel made here */

/* The bzImage: a boot sector, one setup sector, the kernel proper */
#define PAYLOAD 0x400
#define PAYLOAD_SIZE (IMAGE_SIZE - PAYLOAD)
#define PREFERRED MIB(16)
#define INIT_SIZE MIB(20)
#define COMMAND_LINE_MAX 2047

/* The ELF kernel: headers, a note and two segments */
#define ELF_PHDRS 0x40
#define ELF_NOTES 0x200
#define ELF_NOTES_SIZE 0x2c
#define ELF_SEGMENT 0x400
#define ELF_ADDR MIB(16)
#define ELF_ENTRY (ELF_ADDR + 0x123)
#define ELF_BSS MIB(3)
#define PHDR(index, field) (ELF_PHDRS + (index) * sizeof(Elf64_Phdr) + offsetof(Elf64_Phdr, field))
#define SETUP(field) (0x1f1 + offsetof(struct setup_header, field))

/* struct fixture - a VM that is nothing but memory; the last message and how many there were. */
struct fixture {
	struct logger log;
	struct platform platform;
	struct vmctx ctx;
	struct hv_cpu_state cpu;
	unsigned int lines;
	char line[512];
	int kernel_fd, ramdisk_fd;
	char kernel_path[32], ramdisk_path[32];
};

static void keep_line(void *arg, enum log_level level, const char *line)
{
	struct fixture *f = arg;

	f->lines++;
	snprintf(f->line, sizeof(f->line), "%s", line);
}

static struct fixture *vm_new(uint64_t memory_size)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	logger_init(&f->log, "test");
	f->log.sink = keep_line;
	f->log.sink_arg = f;
	f->kernel_fd = -1;
	f->ramdisk_fd = -1;
	f->ctx.log = &f->log;
	f->ctx.platform = &f->platform;
	f->ctx.config.cpu_count = 1;
	f->ctx.config.memory_size = memory_size;
	f->ctx.memory.fd = -1;
	arch_memory_layout(&f->ctx);
	assert_int_equal(guest_memory_create(&f->log, &f->ctx.memory, false), 0);
	return f;
}

static void vm_free(struct fixture *f)
{
	if (f->kernel_fd >= 0)
		close(f->kernel_fd);
	if (f->ramdisk_fd >= 0)
		close(f->ramdisk_fd);
	guest_memory_destroy(&f->ctx.memory);
	logger_deinit(&f->log);
	free(f);
}

static int file_new(char *path, size_t path_size)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	snprintf(path, path_size, "/proc/self/fd/%d", fd);
	return fd;
}

/* The first @size bytes of @image are the kernel. */
static void set_kernel(struct fixture *f, const void *image, size_t size)
{
	if (f->kernel_fd < 0)
		f->kernel_fd = file_new(f->kernel_path, sizeof(f->kernel_path));
	f->ctx.config.kernel = f->kernel_path;
	assert_int_equal(ftruncate(f->kernel_fd, 0), 0);
	assert_int_equal(pwrite(f->kernel_fd, image, size, 0), size);
}

/* A ramdisk of @size bytes, zero but for the first and the last. */
static void set_ramdisk(struct fixture *f, uint64_t size)
{
	if (f->ramdisk_fd < 0)
		f->ramdisk_fd = file_new(f->ramdisk_path, sizeof(f->ramdisk_path));
	f->ctx.config.ramdisk = f->ramdisk_path;
	assert_int_equal(ftruncate(f->ramdisk_fd, (off_t)size), 0);
	assert_int_equal(pwrite(f->ramdisk_fd, "F", 1, 0), 1);
	assert_int_equal(pwrite(f->ramdisk_fd, "L", 1, (off_t)size - 1), 1);
}

static void put(uint8_t *image, size_t offset, unsigned int size, uint64_t value)
{
	bytes_put(image + offset, size, value);
}

static void make_bzimage(uint8_t *image)
{
	struct setup_header header = {
		.setup_sects = 1,
		.syssize = PAYLOAD_SIZE / 16,
		.boot_flag = 0xaa55,
		.jump = 0x6aeb,
		.header = 0x53726448,
		.version = 0x20f,
		.loadflags = LOADED_HIGH,
		.initrd_addr_max = 0x7fffffff,
		.kernel_alignment = 0x200000,
		.relocatable_kernel = 1,
		.xloadflags = XLF_KERNEL_64,
		.cmdline_size = COMMAND_LINE_MAX,
		.pref_address = PREFERRED,
		.init_size = INIT_SIZE,
	};

	memset(image, 0xee, PAYLOAD); /* nothing of the boot sector may get into boot_params */
	memcpy(image + 0x1f1, &header, sizeof(header));
	for (size_t i = PAYLOAD; i < IMAGE_SIZE; i++)
		image[i] = (uint8_t)(i * 7);
}

static void make_elf(uint8_t *image)
{
	Elf64_Ehdr header = {
		.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, 1 },
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_version = 1,
		.e_phoff = ELF_PHDRS,
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = 3,
	};
	Elf64_Phdr segments[3] = {
		{ .p_type = PT_LOAD,
		  .p_offset = ELF_SEGMENT,
		  .p_paddr = ELF_ADDR,
		  .p_filesz = 0x1000,
		  .p_memsz = 0x1000 },
		{ .p_type = PT_LOAD,
		  .p_offset = ELF_SEGMENT + 0x1000,
		  .p_paddr = ELF_ADDR + MIB(2),
		  .p_filesz = 0x800,
		  .p_memsz = ELF_BSS },
		{ .p_type = PT_NOTE,
		  .p_offset = ELF_NOTES,
		  .p_filesz = ELF_NOTES_SIZE,
		  .p_memsz = ELF_NOTES_SIZE,
		  .p_align = 4 },
	};

	memset(image, 0, IMAGE_SIZE);
	memcpy(image, &header, sizeof(header));
	memcpy(image + ELF_PHDRS, segments, sizeof(segments));
	/* another note first: name of 5 bytes padded to 8, no descriptor */
	put(image, ELF_NOTES, 4, 5);
	put(image, ELF_NOTES + 8, 4, 18);
	memcpy(image + ELF_NOTES + 12, "Else", 5);
	put(image, ELF_NOTES + 20, 4, 4);
	put(image, ELF_NOTES + 24, 4, 8);
	put(image, ELF_NOTES + 28, 4, 18);
	memcpy(image + ELF_NOTES + 32, "Xen", 4);
	put(image, ELF_NOTES + 36, 8, ELF_ENTRY);
	for (size_t i = ELF_SEGMENT; i < IMAGE_SIZE; i++)
		image[i] = (uint8_t)(i * 5);
}

static const void *at(struct fixture *f, uint64_t gpa, size_t len)
{
	const void *host = paddr_guest2host(&f->ctx, gpa, len);

	assert_non_null(host);
	return host;
}

static int load(struct fixture *f)
{
	guest_memory_clear(&f->ctx.memory, false);
	f->lines = 0;
	f->line[0] = 0;
	return arch_load(&f->ctx, &f->cpu);
}

static void assert_load(struct fixture *f)
{
	int error = load(f);

	if (error)
		print_error("%s\n", f->line);
	assert_int_equal(error, 0);
	assert_int_equal(f->lines, 0);
}

/* It fails with one line that has @message in it. */
static void assert_no_load(struct fixture *f, int error, const char *message)
{
	int got = load(f);

	if (got != error || !strstr(f->line, message))
		print_error("%d: \"%s\" instead of \"%s\"\n", got, f->line, message);
	assert_int_equal(got, error);
	assert_int_equal(f->lines, 1);
	assert_non_null(strstr(f->line, message));
}

/* ---- memory map */

static void test_layout(void **state)
{
	static const struct {
		uint64_t size, low, high, mem64;
	} rows[] = {
		{ MIB(512), MIB(512), 0, GIB(32) },
		{ X86_LOWMEM_MAX, X86_LOWMEM_MAX, 0, GIB(32) },
		{ X86_LOWMEM_MAX + MIB(1), X86_LOWMEM_MAX, MIB(1), GIB(32) },
		{ GIB(6), X86_LOWMEM_MAX, GIB(6) - X86_LOWMEM_MAX, GIB(32) },
		{ GIB(28) + X86_LOWMEM_MAX, X86_LOWMEM_MAX, GIB(28), GIB(32) },
		{ GIB(29) + X86_LOWMEM_MAX, X86_LOWMEM_MAX, GIB(29), GIB(64) },
		{ GIB(100), X86_LOWMEM_MAX, GIB(100) - X86_LOWMEM_MAX, GIB(128) },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		struct vmctx ctx = { .config.memory_size = rows[i].size };
		struct arch_pci_windows windows;

		arch_memory_layout(&ctx);
		assert_int_equal(ctx.memory.count, rows[i].high ? 2 : 1);
		assert_int_equal(ctx.memory.regions[0].gpa, 0);
		assert_int_equal(ctx.memory.regions[0].size, rows[i].low);
		if (rows[i].high) {
			assert_int_equal(ctx.memory.regions[1].gpa, GIB(4));
			assert_int_equal(ctx.memory.regions[1].size, rows[i].high);
		}
		arch_pci_windows(&ctx, &windows);
		assert_int_equal(windows.mem64_base, rows[i].mem64);
		assert_int_equal(windows.mem64_size, GIB(32));
		assert_int_equal(windows.mem32_base + windows.mem32_size, X86_MMIO32_END);
		assert_int_equal(windows.io_base + windows.io_size, X86_PCI_IO_END);
		assert_int_equal(windows.ecam_base, X86_ECAM_BASE);
	}
}

/* struct area - one entry of a memory map as a kernel gets it. */
struct area {
	uint64_t addr, size;
	uint32_t type;
};

/* The map must be sorted, must not overlap, and must hold this. */
static void check_map(struct fixture *f, const struct area *map, unsigned int count)
{
	uint64_t memory_size = f->ctx.config.memory_size;
	const struct area expected[] = {
		{ 0, 0x9fc00, 1 },
		{ 0xa0000, 0x60000, 2 },
		{ 0x100000, MIN(memory_size, X86_LOWMEM_MAX) - 0x100000, 1 },
		{ X86_ECAM_BASE, X86_ECAM_SIZE, 2 },
		{ GIB(4), memory_size - X86_LOWMEM_MAX, 1 },
	};
	unsigned int entries = memory_size > X86_LOWMEM_MAX ? 5 : 4;

	assert_int_equal(count, entries);
	for (unsigned int i = 0; i < count; i++) {
		assert_int_equal(map[i].addr, expected[i].addr);
		assert_int_equal(map[i].size, expected[i].size);
		assert_int_equal(map[i].type, expected[i].type);
		if (i)
			assert_true(map[i].addr >= map[i - 1].addr + map[i - 1].size);
	}
}

static void check_gdt(struct fixture *f)
{
	const uint64_t *gdt = at(f, f->cpu.gdt_base, f->cpu.gdt_limit + 1u);

	assert_int_equal(f->cpu.gdt_limit, X86_GDT_CODE32 + 7);
	assert_int_equal(gdt[0], 0);
	assert_int_equal(gdt[X86_GDT_CODE64 / 8], 0x00af9b000000ffff);
	assert_int_equal(gdt[X86_GDT_DATA / 8], 0x00cf93000000ffff);
	assert_int_equal(gdt[X86_GDT_CODE32 / 8], 0x00cf9b000000ffff);
}

/* What @addr is translated to by the page tables, which must map it with a writable 2 MiB page. */
static uint64_t translate(struct fixture *f, uint64_t addr)
{
	uint64_t entry = f->cpu.cr3 | 3;

	for (int shift = 39; shift >= 21; shift -= 9) {
		const uint64_t *table = at(f, entry & ~(uint64_t)0xfff, 0x1000);

		entry = table[addr >> shift & 511];
		assert_int_equal(entry & 3, 3);
		assert_int_equal(!!(entry & 0x80), shift == 21);
	}
	return (entry & ~(uint64_t)0x1fffff) | (addr & 0x1fffff);
}

static void check_ramdisk(struct fixture *f, uint64_t gpa, uint64_t size, uint64_t expected)
{
	assert_int_equal(gpa % 0x1000, 0);
	assert_int_equal(size, expected);
	assert_memory_equal(at(f, gpa, size), "F", 1);
	assert_memory_equal(at(f, gpa + size - 1, 1), "L", 1);
}

/* ---- bzImage */

static const struct boot_params *boot_params(struct fixture *f)
{
	return at(f, f->cpu.rsi, sizeof(struct boot_params));
}

static void check_e820(struct fixture *f)
{
	const struct boot_params *params = boot_params(f);
	struct area map[16];

	assert_in_range(params->e820_entries, 1, 16);
	for (unsigned int i = 0; i < params->e820_entries; i++)
		map[i] = (struct area) { params->e820_table[i].addr, params->e820_table[i].size,
					 params->e820_table[i].type };
	check_map(f, map, params->e820_entries);
}

static void test_bzimage(void **state)
{
	static const uint64_t sizes[] = { MIB(512), GIB(3), GIB(6) };
	static const uint64_t ramdisk_end[] = { MIB(512), GIB(2), GIB(2) };
	uint8_t image[IMAGE_SIZE];

	make_bzimage(image);
	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct fixture *f = vm_new(sizes[i]);
		const struct boot_params *params;

		set_kernel(f, image, sizeof(image));
		set_ramdisk(f, MIB(5) + 123);
		f->ctx.config.bootargs = "console=ttyS0 quiet";
		assert_load(f);

		assert_int_equal(f->cpu.mode, X86_MODE_LONG);
		assert_int_equal(f->cpu.rip, PREFERRED + 0x200);
		assert_memory_equal(at(f, PREFERRED, PAYLOAD_SIZE), image + PAYLOAD, PAYLOAD_SIZE);
		check_gdt(f);
		for (uint64_t addr = 0; addr < GIB(4); addr += MIB(2) + 0x777)
			assert_int_equal(translate(f, addr), addr);

		params = boot_params(f);
		assert_int_equal(params->sentinel, 0);
		assert_int_equal(params->hdr.boot_flag, 0xaa55);
		assert_int_equal(params->hdr.version, 0x20f);
		assert_int_equal(params->hdr.type_of_loader, 0xff);
		assert_int_equal(params->hdr.init_size, INIT_SIZE);
		assert_int_equal(params->screen_info.orig_video_isVGA, 0);
		assert_memory_equal(at(f, params->acpi_rsdp_addr, 8), "RSD PTR ", 8);
		assert_string_equal(at(f, params->hdr.cmd_line_ptr, 64), "console=ttyS0 quiet");
		check_e820(f);
		check_ramdisk(f, params->hdr.ramdisk_image, params->hdr.ramdisk_size, MIB(5) + 123);
		assert_int_equal(align_up(params->hdr.ramdisk_image + MIB(5) + 123, 0x1000),
				 ramdisk_end[i]);
		vm_free(f);
	}
}

/* The same once more, as after a guest's reset, and without ramdisk and command line. */
static void test_bzimage_bare(void **state)
{
	struct fixture *f = vm_new(MIB(64));
	uint8_t image[IMAGE_SIZE];

	make_bzimage(image);
	set_kernel(f, image, sizeof(image));
	for (unsigned int i = 0; i < 2; i++) {
		assert_load(f);
		assert_int_equal(boot_params(f)->hdr.ramdisk_size, 0);
		assert_int_equal(boot_params(f)->hdr.ramdisk_image, 0);
		assert_string_equal(at(f, boot_params(f)->hdr.cmd_line_ptr, 1), "");
	}
	vm_free(f);
}

static void test_bzimage_place(void **state)
{
	static const struct {
		uint64_t preferred;
		uint32_t alignment;
		bool relocatable;
		uint64_t place;
	} rows[] = {
		{ MIB(16), 0x200000, true, MIB(16) }, { MIB(1), 0x200000, true, MIB(2) },
		{ 0, 0x1000, true, MIB(1) },	      { 0, 0, false, MIB(1) },
		{ MIB(3), 0x1000000, true, MIB(16) }, { MIB(3), 0x1000000, false, MIB(3) },
	};
	struct fixture *f = vm_new(MIB(64));
	uint8_t image[IMAGE_SIZE];

	make_bzimage(image);
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		put(image, SETUP(pref_address), 8, rows[i].preferred);
		put(image, SETUP(kernel_alignment), 4, rows[i].alignment);
		put(image, SETUP(relocatable_kernel), 1, rows[i].relocatable);
		set_kernel(f, image, sizeof(image));
		assert_load(f);
		assert_int_equal(f->cpu.rip, rows[i].place + 0x200);
		assert_memory_equal(at(f, rows[i].place, PAYLOAD_SIZE), image + PAYLOAD,
				    PAYLOAD_SIZE);
	}
	vm_free(f);
}

static void test_ramdisk_limit(void **state)
{
	struct fixture *f = vm_new(GIB(3));
	uint8_t image[IMAGE_SIZE];

	make_bzimage(image);
	put(image, SETUP(initrd_addr_max), 4, 0x37ffffff);
	set_kernel(f, image, sizeof(image));
	set_ramdisk(f, MIB(3));
	assert_load(f);
	assert_int_equal(boot_params(f)->hdr.ramdisk_image, 0x38000000 - MIB(3));

	/* exactly between the kernel and the limit, and then one byte more */
	set_ramdisk(f, 0x38000000 - PREFERRED - INIT_SIZE);
	assert_load(f);
	assert_int_equal(boot_params(f)->hdr.ramdisk_image, PREFERRED + INIT_SIZE);
	set_ramdisk(f, 0x38000000 - PREFERRED - INIT_SIZE + 1);
	assert_no_load(f, -ENOMEM, "at most 860 MiB fit beside this kernel");
	set_ramdisk(f, GIB(900));
	assert_no_load(f, -ENOMEM, "at most 860 MiB fit beside this kernel");

	put(image, SETUP(initrd_addr_max), 4, 0);
	set_kernel(f, image, sizeof(image));
	assert_no_load(f, -ENOMEM, "at most 0 MiB fit beside this kernel");
	vm_free(f);
}

/* A complaint says how much memory is needed; that much must do, and less must not. */
static void test_memory_needed(void **state)
{
	static const struct {
		uint64_t memory_size, ramdisk;
		const char *message;
	} rows[] = {
		{ MIB(35), 0, "the kernel does not fit (give at least -m 36M)" },
		{ MIB(36), 0, NULL },
		{ MIB(136), MIB(100) + 1, "the ramdisk does not fit (give at least -m 137M)" },
		{ MIB(137), MIB(100) + 1, NULL },
		{ MIB(1), 0, "too few for any kernel" },
	};
	uint8_t image[IMAGE_SIZE];

	make_bzimage(image);
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		struct fixture *f = vm_new(rows[i].memory_size);

		set_kernel(f, image, sizeof(image));
		if (rows[i].ramdisk)
			set_ramdisk(f, rows[i].ramdisk);
		if (rows[i].message)
			assert_no_load(f, -ENOMEM, rows[i].message);
		else
			assert_load(f);
		vm_free(f);
	}
}

/* ---- ELF */

static void check_start_info(struct fixture *f, uint64_t ramdisk_size)
{
	const uint8_t *info = at(f, f->cpu.rbx, 56);
	const uint8_t *module, *entries;
	struct area map[16];
	unsigned int count = (unsigned int)bytes_get(info + 48, 4);

	assert_int_equal(bytes_get(info, 4), 0x336ec578);
	assert_int_equal(bytes_get(info + 4, 4), 1);
	assert_int_equal(bytes_get(info + 8, 4), 0);
	assert_int_equal(bytes_get(info + 12, 4), ramdisk_size ? 1 : 0);
	assert_string_equal(at(f, bytes_get(info + 24, 8), 64), "root=/dev/vda");
	assert_memory_equal(at(f, bytes_get(info + 32, 8), 8), "RSD PTR ", 8);

	assert_in_range(count, 1, 16);
	entries = at(f, bytes_get(info + 40, 8), count * 24);
	for (unsigned int i = 0; i < count; i++)
		map[i] = (struct area) { bytes_get(entries + i * 24, 8),
					 bytes_get(entries + i * 24 + 8, 8),
					 (uint32_t)bytes_get(entries + i * 24 + 16, 4) };
	check_map(f, map, count);

	if (!ramdisk_size)
		return;
	module = at(f, bytes_get(info + 16, 8), 32);
	assert_true(bytes_get(module, 8) >= ELF_ADDR + MIB(2) + ELF_BSS);
	check_ramdisk(f, bytes_get(module, 8), bytes_get(module + 8, 8), ramdisk_size);
	assert_int_equal(bytes_get(module + 16, 8), 0);
}

static void test_elf(void **state)
{
	static const uint64_t sizes[] = { MIB(512), GIB(3), GIB(6) };
	uint8_t image[IMAGE_SIZE];

	make_elf(image);
	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct fixture *f = vm_new(sizes[i]);

		set_kernel(f, image, sizeof(image));
		f->ctx.config.bootargs = "root=/dev/vda";
		assert_load(f);
		assert_int_equal(f->cpu.mode, X86_MODE_PROTECTED);
		assert_int_equal(f->cpu.rip, ELF_ENTRY);
		check_gdt(f);
		check_start_info(f, 0);
		assert_memory_equal(at(f, ELF_ADDR, 0x1000), image + ELF_SEGMENT, 0x1000);
		assert_memory_equal(at(f, ELF_ADDR + MIB(2), 0x800), image + ELF_SEGMENT + 0x1000,
				    0x800);
		set_ramdisk(f, MIB(7) + 1);
		assert_load(f);
		check_start_info(f, MIB(7) + 1);
		vm_free(f);
	}
}

/* The forms that the note may have: 4 or 8 bytes, aligned to 4 or 8. */
static void test_elf_notes(void **state)
{
	struct fixture *f = vm_new(MIB(64));
	uint8_t image[IMAGE_SIZE];

	make_elf(image);
	put(image, ELF_NOTES + 24, 4, 4);
	put(image, ELF_NOTES + 40, 4, 0xffffffff);
	set_kernel(f, image, sizeof(image));
	assert_load(f);
	assert_int_equal(f->cpu.rip, ELF_ENTRY);

	make_elf(image);
	put(image, PHDR(2, p_align), 8, 8);
	put(image, PHDR(2, p_filesz), 8, 0x30);
	memmove(image + ELF_NOTES + 24, image + ELF_NOTES + 20, 24);
	put(image, ELF_NOTES + 20, 4, 0);
	set_kernel(f, image, sizeof(image));
	assert_load(f);
	assert_int_equal(f->cpu.rip, ELF_ENTRY);
	vm_free(f);
}

static void test_elf_memory_needed(void **state)
{
	uint8_t image[IMAGE_SIZE];
	struct fixture *f = vm_new(MIB(20));

	make_elf(image);
	set_kernel(f, image, sizeof(image));
	assert_no_load(f, -ENOMEM, "give at least -m 21M");
	vm_free(f);
	f = vm_new(MIB(21));
	set_kernel(f, image, sizeof(image));
	assert_load(f);
	set_ramdisk(f, 1);
	assert_no_load(f, -ENOMEM, "give at least -m 22M");
	vm_free(f);
}

/* ---- files that are no kernels, or damaged ones */

static void test_bad_files(void **state)
{
	static const char text[] = "#!/bin/sh\necho I am not a kernel\n";
	struct fixture *f = vm_new(MIB(64));
	char fifo[] = "/tmp/tenon-boot-XXXXXX";
	uint8_t image[IMAGE_SIZE];

	assert_no_load(f, -EINVAL, "no kernel: give one with -k FILE");
	f->ctx.config.kernel = "/nonexistent/vmlinuz";
	assert_no_load(f, -ENOENT, "/nonexistent/vmlinuz: cannot open the kernel: No such file");
	f->ctx.config.kernel = "/tmp";
	assert_no_load(f, -EINVAL, "/tmp: the kernel is not a regular file");

	assert_non_null(mkdtemp(fifo));
	assert_int_equal(rmdir(fifo), 0);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	f->ctx.config.kernel = fifo;
	assert_no_load(f, -EINVAL, "the kernel is not a regular file");
	assert_int_equal(unlink(fifo), 0);

	set_kernel(f, text, 0);
	assert_no_load(f, -EINVAL, "the kernel is empty");
	set_kernel(f, text, sizeof(text));
	assert_no_load(f, -ENOEXEC, "not a bzImage or an ELF kernel with a PVH entry");

	make_bzimage(image);
	set_kernel(f, image, sizeof(image));
	f->ctx.config.ramdisk = "/nonexistent/initrd";
	assert_no_load(f, -ENOENT, "/nonexistent/initrd: cannot open the ramdisk");
	f->ctx.config.ramdisk = "/tmp";
	assert_no_load(f, -EINVAL, "/tmp: the ramdisk is not a regular file");
	vm_free(f);
}

static void test_command_line(void **state)
{
	struct fixture *f = vm_new(MIB(64));
	char bootargs[0x10002];
	uint8_t image[IMAGE_SIZE];

	memset(bootargs, 'x', sizeof(bootargs));
	bootargs[COMMAND_LINE_MAX] = 0;
	f->ctx.config.bootargs = bootargs;
	make_bzimage(image);
	set_kernel(f, image, sizeof(image));
	assert_load(f);
	assert_string_equal(at(f, boot_params(f)->hdr.cmd_line_ptr, COMMAND_LINE_MAX + 1),
			    bootargs);
	make_elf(image);
	set_kernel(f, image, sizeof(image));
	assert_load(f);

	bootargs[COMMAND_LINE_MAX] = 'x';
	bootargs[COMMAND_LINE_MAX + 1] = 0;
	assert_no_load(f, -E2BIG, "at most 2047 bytes, it has 2048 (shorten -B)");
	make_bzimage(image);
	set_kernel(f, image, sizeof(image));
	assert_no_load(f, -E2BIG, "at most 2047 bytes, it has 2048 (shorten -B)");

	/* whatever the kernel says, no more than there is room for */
	put(image, SETUP(cmdline_size), 4, UINT32_MAX);
	set_kernel(f, image, sizeof(image));
	memset(bootargs, 'x', sizeof(bootargs));
	bootargs[0xffff] = 0;
	assert_load(f);
	bootargs[0xffff] = 'x';
	bootargs[0x10000] = 0;
	assert_no_load(f, -E2BIG, "(shorten -B)");
	vm_free(f);
}

/* struct damage - one field of a good image with another value, and what must come of it. */
struct damage {
	size_t offset;
	unsigned int size;
	uint64_t value;
	int error;
	const char *message;
};

static void run_damage(const struct damage *rows, unsigned int count, void (*make)(uint8_t *))
{
	struct fixture *f = vm_new(MIB(256));
	uint8_t image[IMAGE_SIZE];

	for (unsigned int i = 0; i < count; i++) {
		make(image);
		put(image, rows[i].offset, rows[i].size, rows[i].value);
		set_kernel(f, image, sizeof(image));
		assert_no_load(f, rows[i].error, rows[i].message);
	}
	vm_free(f);
}

static void test_damaged_bzimage(void **state)
{
	static const struct damage rows[] = {
		{ SETUP(boot_flag), 2, 0, -ENOEXEC, "not a bzImage" },
		{ SETUP(header), 4, 0, -ENOEXEC, "not a bzImage" },
		{ SETUP(version), 2, 0x20b, -ENOEXEC, "speaks boot protocol 2.11" },
		{ SETUP(version), 2, 0, -ENOEXEC, "speaks boot protocol 0.00" },
		{ SETUP(xloadflags), 2, 0, -ENOEXEC, "has no 64-bit entry point" },
		{ SETUP(loadflags), 1, 0, -ENOEXEC, "has no 64-bit entry point" },
		{ SETUP(jump) + 1, 1, 0, -ENOEXEC, "speaks boot protocol" },
		{ SETUP(jump) + 1, 1, 8, -ENOEXEC, "has no 64-bit entry point" },
		{ SETUP(kernel_alignment), 4, 0, -ENOEXEC, "not a power of two" },
		{ SETUP(kernel_alignment), 4, 3, -ENOEXEC, "not a power of two" },
		{ SETUP(kernel_alignment), 4, 0x80000000, -ENOMEM, "give at least -m 2068M" },
		{ SETUP(syssize), 4, 0, -ENOEXEC, "there is no code in it" },
		{ SETUP(syssize), 4, 0x20, -ENOEXEC, "there is no code in it" },
		{ SETUP(syssize), 4, PAYLOAD_SIZE / 16 + 1, -ENOEXEC, "the file is shorter" },
		{ SETUP(syssize), 4, UINT32_MAX, -ENOEXEC, "the file is shorter" },
		{ SETUP(setup_sects), 1, 0, -ENOEXEC, "the file is shorter" },
		{ SETUP(setup_sects), 1, 255, -ENOEXEC, "the file is shorter" },
		{ SETUP(pref_address), 8, GIB(4), -ENOEXEC, "above 4 GiB" },
		{ SETUP(pref_address), 8, UINT64_MAX, -ENOEXEC, "above 4 GiB" },
		{ SETUP(pref_address), 8, GIB(4) - 1, -ENOEXEC, "above 4 GiB" },
		{ SETUP(pref_address), 8, MIB(255), -ENOMEM, "give at least -m 276M" },
		{ SETUP(init_size), 4, UINT32_MAX, -ENOMEM, "is the file intact?" },
		{ SETUP(init_size), 4, MIB(241), -ENOMEM, "give at least -m 257M" },
	};

	run_damage(rows, ARRAY_SIZE(rows), make_bzimage);
}

static void test_damaged_elf(void **state)
{
	static const struct damage rows[] = {
		{ EI_CLASS, 1, ELFCLASS32, -ENOEXEC, "not an x86_64 kernel" },
		{ EI_DATA, 1, ELFDATA2MSB, -ENOEXEC, "not an x86_64 kernel" },
		{ offsetof(Elf64_Ehdr, e_machine), 2, EM_AARCH64, -ENOEXEC, "not an x86_64" },
		{ offsetof(Elf64_Ehdr, e_type), 2, ET_REL, -ENOEXEC, "not an x86_64 kernel" },
		{ offsetof(Elf64_Ehdr, e_phentsize), 2, 32, -ENOEXEC, "of an unknown size" },
		{ offsetof(Elf64_Ehdr, e_phnum), 2, 0, -ENOEXEC, "no program headers" },
		{ offsetof(Elf64_Ehdr, e_phnum), 2, 0xffff, -ENOEXEC, "or too many" },
		{ offsetof(Elf64_Ehdr, e_phoff), 8, IMAGE_SIZE, -ENOEXEC, "headers behind" },
		{ offsetof(Elf64_Ehdr, e_phoff), 8, UINT64_MAX, -ENOEXEC, "headers behind" },
		{ PHDR(2, p_type), 4, PT_NULL, -ENOEXEC, "without a PVH entry" },
		{ PHDR(2, p_filesz), 8, 0, -ENOEXEC, "without a PVH entry" },
		{ PHDR(2, p_filesz), 8, ELF_NOTES_SIZE - 1, -ENOEXEC, "a note is cut off" },
		{ PHDR(2, p_filesz), 8, UINT64_MAX, -ENOEXEC, "notes behind its end" },
		{ PHDR(2, p_offset), 8, UINT64_MAX, -ENOEXEC, "notes behind its end" },
		{ ELF_NOTES, 4, UINT32_MAX, -ENOEXEC, "without a PVH entry" },
		{ ELF_NOTES + 4, 4, UINT32_MAX, -ENOEXEC, "without a PVH entry" },
		{ ELF_NOTES + 24, 4, 5, -ENOEXEC, "without a PVH entry" },
		{ ELF_NOTES + 28, 4, 17, -ENOEXEC, "without a PVH entry" },
		{ ELF_NOTES + 32, 1, 'x', -ENOEXEC, "without a PVH entry" },
		{ ELF_NOTES + 36, 8, 0, -ENOEXEC, "entry is not in a segment" },
		{ ELF_NOTES + 36, 8, UINT64_MAX, -ENOEXEC, "entry is not in a segment" },
		{ PHDR(0, p_type), 4, PT_NULL, -ENOEXEC, "entry is not in a segment" },
		{ PHDR(0, p_memsz), 8, 0, -ENOEXEC, "entry is not in a segment" },
		{ PHDR(0, p_filesz), 8, 0, -ENOEXEC, "entry is not in a segment" },
		{ PHDR(0, p_filesz), 8, 0x1001, -ENOEXEC, "larger in the file" },
		{ PHDR(0, p_offset), 8, IMAGE_SIZE - 0xfff, -ENOEXEC, "a segment behind" },
		{ PHDR(0, p_offset), 8, UINT64_MAX, -ENOEXEC, "a segment behind" },
		{ PHDR(0, p_paddr), 8, 0, -ENOEXEC, "the first megabyte" },
		{ PHDR(0, p_paddr), 8, MIB(1) - 1, -ENOEXEC, "the first megabyte" },
		{ PHDR(0, p_paddr), 8, GIB(4), -ENOEXEC, "above 4 GiB" },
		{ PHDR(0, p_paddr), 8, UINT64_MAX, -ENOEXEC, "above 4 GiB" },
		{ PHDR(0, p_paddr), 8, GIB(3), -ENOMEM, "is the file intact?" },
		{ PHDR(1, p_memsz), 8, UINT64_MAX, -ENOEXEC, "above 4 GiB" },
		{ PHDR(1, p_memsz), 8, MIB(300), -ENOMEM, "give at least -m 318M" },
	};

	run_damage(rows, ARRAY_SIZE(rows), make_elf);
}

/* A file that ends at any byte is an error, but never a wrong load. */
static void test_truncated(void **state)
{
	void (*const makers[])(uint8_t *) = { make_bzimage, make_elf };
	const size_t needed[] = { IMAGE_SIZE, ELF_SEGMENT + 0x1800 };
	struct fixture *f = vm_new(MIB(64));
	uint8_t image[IMAGE_SIZE];

	for (unsigned int i = 0; i < ARRAY_SIZE(makers); i++) {
		makers[i](image);
		for (size_t size = 1; size < IMAGE_SIZE; size += size < 0x800 ? 1 : 61) {
			set_kernel(f, image, size);
			assert_int_equal(load(f) == 0, size >= needed[i]);
			assert_int_equal(f->lines, size >= needed[i] ? 0 : 1);
		}
	}
	vm_free(f);
}

static uint32_t next_random(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

/* Any bytes in the headers: it loads, or there is one line; the sanitizers watch. */
static void test_random_headers(void **state)
{
	static const uint64_t values[] = { 0,	       1,	  0x7f,	      0xff,
					   0x1000,     INT32_MAX, UINT32_MAX, INT64_MAX,
					   UINT64_MAX, GIB(4),	  MIB(1) };
	static const struct {
		void (*make)(uint8_t *);
		size_t from, len;
	} rows[] = { { make_bzimage, 0x1f1, 0x80 }, { make_elf, 4, ELF_NOTES + 0x30 } };
	struct fixture *f = vm_new(MIB(64));
	unsigned int loaded[ARRAY_SIZE(rows)] = { 0 };
	uint8_t image[IMAGE_SIZE];
	uint32_t seed = 20240229;

	set_ramdisk(f, 0x1234);
	for (unsigned int i = 0; i < 4000; i++) {
		unsigned int row = i % ARRAY_SIZE(rows);
		int error;

		rows[row].make(image);
		for (unsigned int n = next_random(&seed) % 4; n < 4; n++)
			put(image, rows[row].from + next_random(&seed) % rows[row].len,
			    1u << next_random(&seed) % 4,
			    values[next_random(&seed) % ARRAY_SIZE(values)]);
		set_kernel(f, image, sizeof(image));
		error = load(f);
		assert_in_range(-error, 0, 4095);
		assert_int_equal(f->lines, error ? 1 : 0);
		loaded[row] += !error;
	}
	for (unsigned int row = 0; row < ARRAY_SIZE(rows); row++)
		assert_in_range(loaded[row], 1, 1999);
	vm_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layout),
		cmocka_unit_test(test_bzimage),
		cmocka_unit_test(test_bzimage_bare),
		cmocka_unit_test(test_bzimage_place),
		cmocka_unit_test(test_ramdisk_limit),
		cmocka_unit_test(test_memory_needed),
		cmocka_unit_test(test_elf),
		cmocka_unit_test(test_elf_notes),
		cmocka_unit_test(test_elf_memory_needed),
		cmocka_unit_test(test_bad_files),
		cmocka_unit_test(test_command_line),
		cmocka_unit_test(test_damaged_bzimage),
		cmocka_unit_test(test_damaged_elf),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_random_headers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
