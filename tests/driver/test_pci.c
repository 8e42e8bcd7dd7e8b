/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The PCI core as a guest sees it: config space by both mechanisms, BARs, capabilities. Interrupts
 * are in test_pci_intr.c.
 */
#include "test_function.h"

#include <errno.h>
#include <stdio.h>

/* A machine with a test function at slot 2, opened by both mechanisms. */
struct bench {
	struct machine *machine;
	struct vmctx *ctx;
	struct pci_vdev *dev;
	struct test_function *function;
	struct pci_function cf8, ecam;
};

static int bench_setup(void **state)
{
	struct bench *bench = calloc(1, sizeof(*bench));

	assert_non_null(bench);
	bench->machine = machine_create(NULL);
	bench->ctx = bench->machine->ctx;
	bench->dev = machine_add(bench->machine, "2,test-function");
	bench->function = test_function_of(bench->dev);
	assert_true(pci_function_open(&bench->cf8, bench->machine, PCI_CF8, 2, 0));
	assert_true(pci_function_open(&bench->ecam, bench->machine, PCI_ECAM, 2, 0));
	*state = bench;
	return 0;
}

static int bench_teardown(void **state)
{
	struct bench *bench = *state;

	machine_destroy(bench->machine);
	free(bench);
	return 0;
}

/* ---- Config space ---- */

static uint64_t config_bytes(struct pci_vdev *dev, unsigned int offset, unsigned int size)
{
	uint64_t value = 0;

	for (unsigned int i = 0; i < size; i++)
		value |= (uint64_t)pci_get_cfgdata8(dev, offset + i) << (8 * i);
	return value;
}

static void test_config_read_cf8(void **state)
{
	static const unsigned int sizes[] = { 1, 2, 4 };
	struct bench *bench = *state;

	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++)
		for (unsigned int offset = 0; offset < 256; offset++) {
			unsigned int size = sizes[i], inside = MIN(size, 4 - offset % 4);
			uint64_t want = config_bytes(bench->dev, offset, inside);

			/* what runs out of the data port is nobody's */
			for (unsigned int j = inside; j < size; j++)
				want |= UINT64_C(0xff) << (8 * j);
			assert_int_equal(pci_in(&bench->cf8, offset, size), want);
		}
}

static void test_config_read_ecam(void **state)
{
	static const unsigned int sizes[] = { 1, 2, 4, 8 };
	struct bench *bench = *state;
	uint64_t base = X86_ECAM_BASE + (2 << 15);

	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++)
		for (unsigned int offset = 0; offset + sizes[i] <= PCI_CFG_SIZE; offset++)
			assert_int_equal(guest_read(bench->ctx, IO_MMIO, base + offset, sizes[i]),
					 config_bytes(bench->dev, offset, sizes[i]));
	/* over the function's end: nobody's, though the next function is there */
	machine_add(bench->machine, "2:1,test-function");
	assert_int_equal(guest_read(bench->ctx, IO_MMIO, base + 0xffe, 4), UINT32_MAX);
	assert_int_equal(guest_read(bench->ctx, IO_MMIO, base + 0xfff, 2), UINT16_MAX);
	assert_int_equal(guest_read(bench->ctx, IO_MMIO, base + 0xffc, 8), UINT64_MAX);
	guest_write(bench->ctx, IO_MMIO, base + 0xffd, 8, 0);
	assert_int_equal(readl(bench->ctx, base + 0x1000), TEST_DEVICE << 16 | TEST_VENDOR);
}

/* The registers at 0x0c, writable, writable, header type, BIST: each byte by its own mask. */
static void test_config_write(void **state)
{
	struct bench *bench = *state;
	struct pci_function *both[] = { &bench->cf8, &bench->ecam };

	for (unsigned int i = 0; i < ARRAY_SIZE(both); i++) {
		struct pci_function *pci = both[i];

		pci_out(pci, PCI_CACHE_LINE_SIZE, 4, 0xffff5566);
		assert_int_equal(pci_in(pci, PCI_CACHE_LINE_SIZE, 4), 0x5566);
		pci_out(pci, PCI_LATENCY_TIMER, 1, 0x77);
		assert_int_equal(pci_in(pci, PCI_CACHE_LINE_SIZE, 2), 0x7766);
		pci_out(pci, PCI_LATENCY_TIMER, 2, 0xff88);
		assert_int_equal(pci_in(pci, PCI_CACHE_LINE_SIZE, 4), 0x8866);
		pci_out(pci, PCI_CACHE_LINE_SIZE - 1, 2, 0x99ff); /* not aligned, class before it */
		assert_int_equal(pci_in(pci, PCI_CACHE_LINE_SIZE, 2),
				 pci == &bench->cf8 ? 0x8866 : 0x8899);
		pci_out(pci, PCI_VENDOR_ID, 4, 0);
		assert_int_equal(pci_in(pci, PCI_VENDOR_ID, 4), TEST_DEVICE << 16 | TEST_VENDOR);
		pci_out(pci, PCI_INTERRUPT_LINE, 4, 0x01020304);
		assert_int_equal(pci_in(pci, PCI_INTERRUPT_LINE, 4), 0x0104);
	}
	for (unsigned int offset = 0x100; offset < PCI_CFG_SIZE; offset += 4) {
		pci_out(&bench->ecam, offset, 4, UINT32_MAX);
		assert_int_equal(pci_in(&bench->ecam, offset, 4), 0);
	}
}

/* The status register's error bits: written ones clear them, the rest of it is read-only. */
static void test_config_status(void **state)
{
	struct bench *bench = *state;

	pci_set_cfgdata16(bench->dev, PCI_STATUS,
			  PCI_STATUS_REC_MASTER_ABORT | PCI_STATUS_DETECTED_PARITY |
				  PCI_STATUS_CAP_LIST);
	pci_out(&bench->cf8, PCI_STATUS, 2, PCI_STATUS_DETECTED_PARITY | PCI_STATUS_CAP_LIST);
	assert_int_equal(pci_in(&bench->cf8, PCI_STATUS, 2),
			 PCI_STATUS_REC_MASTER_ABORT | PCI_STATUS_CAP_LIST);
	pci_out(&bench->ecam, PCI_STATUS + 1, 1, 0xff);
	assert_int_equal(pci_in(&bench->ecam, PCI_STATUS, 2), PCI_STATUS_CAP_LIST);
}

static void test_config_address_port(void **state)
{
	struct bench *bench = *state;
	struct vmctx *ctx = bench->ctx;
	uint32_t address = 0x80000000 | 2 << 11;

	outl(ctx, 0xcf8, address | 0x7f000003);
	assert_int_equal(inl(ctx, 0xcf8), address); /* reserved bits */
	assert_int_equal(inl(ctx, 0xcfc), TEST_DEVICE << 16 | TEST_VENDOR);
	assert_int_equal(inw(ctx, 0xcfe), TEST_DEVICE);
	assert_int_equal(inb(ctx, 0xcfd), TEST_VENDOR >> 8);

	/* Narrow accesses are not to this register (PCI 3.0, 3.2.2.3.2). */
	outb(ctx, 0xcf8, 0x08);
	outw(ctx, 0xcfa, 0);
	outb(ctx, 0xcfb, 0);
	assert_int_equal(inl(ctx, 0xcf8), address);
	assert_int_equal(inb(ctx, 0xcf8), 0xff);
	assert_int_equal(inw(ctx, 0xcfa), 0xffff);

	/* Not enabled: nobody answers, nothing is written. */
	outl(ctx, 0xcf8, address & INT32_MAX);
	assert_int_equal(inl(ctx, 0xcfc), UINT32_MAX);
	outl(ctx, 0xcf8, (address & INT32_MAX) | PCI_CACHE_LINE_SIZE);
	outb(ctx, 0xcfc, 0x11);
	assert_int_equal(pci_in(&bench->cf8, PCI_CACHE_LINE_SIZE, 1), 0);
}

/* Port 0xCF9 resets; a 32-bit write to 0xCF8 is not for it, whatever function it names. */
static void test_config_address_is_no_reset(void **state)
{
	struct bench *bench = *state;

	for (unsigned int func = 0; func < 8; func++)
		assert_int_equal(pci_config_in(bench->machine, PCI_CF8, 0, 9, func, 0, 4),
				 UINT32_MAX);
	outw(bench->ctx, 0xcf8, 0x0606);
	assert_int_equal(bench->ctx->request, VM_REQUEST_NONE);
	outb(bench->ctx, 0xcf9, 0x06);
	assert_int_equal(bench->ctx->request, VM_REQUEST_RESET);
}

static void test_config_nobody(void **state)
{
	static const unsigned int places[][3] = { { 0, 3, 0 },	 { 0, 2, 1 }, { 0, 31, 7 },
						  { 1, 2, 0 },	 { 1, 0, 0 }, { 128, 2, 0 },
						  { 255, 31, 7 } };
	struct bench *bench = *state;

	for (unsigned int i = 0; i < ARRAY_SIZE(places); i++)
		for (int mechanism = PCI_CF8; mechanism <= PCI_ECAM; mechanism++) {
			const unsigned int *at = places[i];

			for (unsigned int size = 1; size <= 4; size *= 2)
				assert_int_equal(pci_config_in(bench->machine, mechanism, at[0],
							       at[1], at[2], 0, size),
						 UINT32_MAX >> (32 - 8 * size));
			pci_config_out(bench->machine, mechanism, at[0], at[1], at[2],
				       PCI_CACHE_LINE_SIZE, 4, 0x1111);
		}
	assert_int_equal(pci_in(&bench->cf8, PCI_CACHE_LINE_SIZE, 4), 0);
	assert_int_equal(bench->machine->captured.count, 0);
}

/* ---- BARs ---- */

static const struct {
	enum test_bar bar;
	enum pcibar_type type;
	uint64_t size;
} test_bars[] = {
	{ TEST_IO, PCIBAR_IO, 32 },
	{ TEST_MSIX, PCIBAR_MEM32, 4096 },
	{ TEST_BIG, PCIBAR_MEM64, TEST_BIG_BAR_SIZE },
	{ TEST_MEM, PCIBAR_MEM32, 4096 },
	{ TEST_IO_SMALL, PCIBAR_IO, 8 },
};

static void check_bars_answer(struct bench *bench, struct pci_function *pci)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(test_bars); i++) {
		enum test_bar bar = test_bars[i].bar;

		if (bar == TEST_MSIX)
			continue;
		for (unsigned int size = 1; size <= 4; size *= 2)
			assert_int_equal(pci_bar_in(pci, bar, 4, size), test_pattern(bar, 4, size));
		pci_bar_out(pci, bar, 4, 4, 0xcafe0000 + bar);
		assert_int_equal(bench->function->bar, bar);
		assert_int_equal(bench->function->offset, 4);
		assert_int_equal(bench->function->value, 0xcafe0000 + bar);
		assert_int_equal(bench->function->decoded_at[bar], pci->bar[bar].addr);
	}
}

static void check_sizing(struct bench *bench, struct pci_function *first)
{
	for (int mechanism = PCI_CF8; mechanism <= PCI_ECAM; mechanism++) {
		struct pci_function pci;

		assert_true(pci_function_open(&pci, bench->machine, mechanism, 2, 0));
		for (unsigned int i = 0; i < ARRAY_SIZE(test_bars); i++) {
			const struct pci_function_bar *bar = &pci.bar[test_bars[i].bar];

			assert_int_equal(bar->type, test_bars[i].type);
			assert_int_equal(bar->size, test_bars[i].size);
			assert_int_equal(bar->addr & (bar->size - 1), 0);
			assert_int_equal(bar->addr, first->bar[test_bars[i].bar].addr);
		}
		assert_int_equal(pci_in(&pci, PCI_ROM_ADDRESS, 4), 0);
	}
}

static void test_bar_sizing(void **state)
{
	struct bench *bench = *state;

	check_sizing(bench, &bench->cf8);
	pci_function_enable(&bench->cf8);
	check_bars_answer(bench, &bench->cf8);
	check_sizing(bench, &bench->cf8); /* all ones while it decodes */
	check_bars_answer(bench, &bench->ecam);
}

static void test_bar_places(void **state)
{
	struct arch_pci_windows windows;
	struct bench *bench = *state;
	const struct pci_function_bar *bar = bench->cf8.bar;

	arch_pci_windows(bench->ctx, &windows);
	assert_true(range_contains(windows.io_base, windows.io_size, bar[TEST_IO].addr, 32));
	assert_true(
		range_contains(windows.mem32_base, windows.mem32_size, bar[TEST_MEM].addr, 4096));
	assert_true(range_contains(windows.mem64_base, windows.mem64_size, bar[TEST_BIG].addr,
				   TEST_BIG_BAR_SIZE));
	assert_true(bar[TEST_BIG].addr >= GIB(4));
}

static void test_bar_decode(void **state)
{
	struct bench *bench = *state;
	struct pci_function *pci = &bench->cf8;

	assert_int_equal(pci_in(pci, PCI_COMMAND, 2), 0);
	assert_int_equal(pci_bar_in(pci, TEST_IO, 4, 4), UINT32_MAX);
	assert_int_equal(pci_bar_in(pci, TEST_MEM, 4, 4), UINT32_MAX);
	pci_bar_out(pci, TEST_MEM, 4, 4, 1);
	assert_int_equal(bench->function->writes, 0);
	pci_command(pci, PCI_COMMAND_IO, 0);
	assert_int_equal(pci_bar_in(pci, TEST_IO, 4, 4), test_pattern(TEST_IO, 4, 4));
	assert_int_equal(pci_bar_in(pci, TEST_MEM, 4, 4), UINT32_MAX);
	pci_command(pci, PCI_COMMAND_MEMORY, PCI_COMMAND_IO);
	assert_int_equal(pci_bar_in(pci, TEST_IO, 4, 4), UINT32_MAX);
	assert_int_equal(pci_bar_in(pci, TEST_MEM, 4, 4), test_pattern(TEST_MEM, 4, 4));
	assert_int_equal(pci_bar_in(pci, TEST_BIG, 4, 4), test_pattern(TEST_BIG, 4, 4));
	pci_command(pci, 0, PCI_COMMAND_MEMORY);
	assert_int_equal(pci_bar_in(pci, TEST_BIG, 4, 4), UINT32_MAX);
	/* Reserved command bits stay clear. */
	pci_out(pci, PCI_COMMAND, 2, 0xffff);
	assert_int_equal(pci_in(pci, PCI_COMMAND, 2),
			 PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER |
				 PCI_COMMAND_PARITY | PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE);
}

static void test_bar_move(void **state)
{
	static const struct {
		enum test_bar bar;
		uint64_t addr;
	} moves[] = {
		{ TEST_IO, 0xffe0 },	  { TEST_IO, 0x20 },
		{ TEST_IO, 0x1000 },	  { TEST_IO_SMALL, 0xfff8 },
		{ TEST_MEM, 0xc0009000 }, { TEST_MEM, 0xfffff000 },
		{ TEST_MEM, 0x1000 },	  { TEST_BIG, GIB(4) },
		{ TEST_BIG, GIB(1024) },  { TEST_BIG, BIT64(52) - TEST_BIG_BAR_SIZE },
		{ TEST_BIG, 0xd0000000 },
	};
	struct bench *bench = *state;
	struct pci_function *pci = &bench->cf8;

	pci_function_enable(pci);
	for (unsigned int i = 0; i < ARRAY_SIZE(moves); i++) {
		enum test_bar bar = moves[i].bar;
		uint64_t old = pci->bar[bar].addr;

		pci_move_bar(pci, bar, moves[i].addr);
		assert_int_equal(pci_bar_addr(pci, bar), moves[i].addr);
		check_bars_answer(bench, pci);
		assert_int_equal(guest_read(bench->ctx,
					    pci->bar[bar].type == PCIBAR_IO ? IO_PIO : IO_MMIO,
					    old + 4, 4),
				 UINT32_MAX);
	}
	assert_int_equal(bench->machine->captured.count, 0);
}

/* Where nothing can be decoded, nothing is; and the way back is open. */
static void test_bar_nowhere(void **state)
{
	static const struct {
		enum test_bar bar;
		uint64_t addr;
	} moves[] = {
		{ TEST_IO, 0 },
		{ TEST_IO, 0x10000 },
		{ TEST_IO, 0xffffffe0 },
		{ TEST_MEM, 0 },
		{ TEST_BIG, 0 },
		{ TEST_BIG, BIT64(52) },
		{ TEST_BIG, UINT64_MAX & ~(TEST_BIG_BAR_SIZE - 1) },
	};
	struct bench *bench = *state;
	struct pci_function *pci = &bench->ecam;

	pci_function_enable(pci);
	for (unsigned int i = 0; i < ARRAY_SIZE(moves); i++) {
		enum test_bar bar = moves[i].bar;
		uint64_t old = pci->bar[bar].addr;

		pci_move_bar(pci, bar, moves[i].addr);
		assert_int_equal(bench->function->decoded_at[bar], 0);
		pci_move_bar(pci, bar, old);
		check_bars_answer(bench, pci);
	}
}

static void test_bar_edges(void **state)
{
	struct bench *bench = *state;
	struct pci_function *pci = &bench->cf8;
	uint64_t end;

	pci_function_enable(pci);
	/* Over the end: what is inside answers, the rest is nobody's. */
	pci_move_bar(pci, TEST_IO, 0xe000);
	assert_int_equal(inl(bench->ctx, 0xe01e), 0xffff0000 | test_pattern(TEST_IO, 30, 2));
	outl(bench->ctx, 0xe01e, 0x11223344);
	assert_int_equal(bench->function->offset, 31);
	assert_int_equal(bench->function->value, 0x33);
	assert_int_equal(inl(bench->ctx, 0xdffe), test_pattern(TEST_IO, 0, 2) << 16 | 0xffff);
	/* 64-bit accesses reach the device whole. */
	end = TEST_BIG_BAR_SIZE - 8;
	assert_int_equal(pci_bar_in(pci, TEST_BIG, end, 8), test_pattern(TEST_BIG, end, 8));
	pci_bar_out(pci, TEST_BIG, end, 8, UINT64_C(0x1122334455667788));
	assert_int_equal(bench->function->size, 8);
	assert_int_equal(bench->function->value, UINT64_C(0x1122334455667788));
}

/* A BAR inside the ECAM window: the smaller one answers there, the rest of ECAM goes on. */
static void test_bar_over_ecam(void **state)
{
	struct bench *bench = *state;
	struct pci_function *pci = &bench->cf8;
	uint64_t config = X86_ECAM_BASE + (2 << 15); /* its own config space */
	uint64_t old = pci->bar[TEST_MEM].addr;

	pci_function_enable(pci);
	pci_move_bar(pci, TEST_MEM, config);
	assert_int_equal(readl(bench->ctx, config), test_pattern(TEST_MEM, 0, 4));
	assert_int_equal(readl(bench->ctx, X86_ECAM_BASE) & 0xffff, 0x1b36);
	writel(bench->ctx, config + PCI_COMMAND, 0);
	assert_int_equal(bench->function->offset, PCI_COMMAND);
	assert_int_equal(pci_in(pci, PCI_COMMAND, 2) & PCI_COMMAND_MEMORY, PCI_COMMAND_MEMORY);
	pci_move_bar(pci, TEST_MEM, old);
	assert_int_equal(readl(bench->ctx, config), TEST_DEVICE << 16 | TEST_VENDOR);

	/* Moved on top of ECAM by ECAM: the write itself is the last one to get through. */
	writel(bench->ctx, config + PCI_BASE_ADDRESS_0 + 4 * TEST_MEM, (uint32_t)config);
	assert_int_equal(readl(bench->ctx, config), test_pattern(TEST_MEM, 0, 4));
	pci_move_bar(pci, TEST_MEM, old);

	/* A larger one over all of the bus: 64 MiB are still smaller than 256. */
	pci_move_bar(pci, TEST_BIG, X86_ECAM_BASE);
	assert_int_equal(readl(bench->ctx, config), test_pattern(TEST_BIG, 2 << 15, 4));
	assert_int_equal(readl(bench->ctx, X86_ECAM_BASE + TEST_BIG_BAR_SIZE), UINT32_MAX);
	pci_move_bar(pci, TEST_BIG, GIB(64));
	assert_int_equal(readl(bench->ctx, config), TEST_DEVICE << 16 | TEST_VENDOR);
}

static void test_bar_over_bar(void **state)
{
	struct bench *bench = *state;
	struct pci_function *pci = &bench->cf8, other;
	uint64_t big = GIB(64);

	machine_add(bench->machine, "3,test-function");
	assert_true(pci_function_open(&other, bench->machine, PCI_CF8, 3, 0));
	pci_function_enable(pci);
	pci_function_enable(&other);

	/* The smaller one wins, on its part only. */
	pci_move_bar(pci, TEST_BIG, 0xc8000000);
	pci_move_bar(pci, TEST_MEM, 0xc8001000);
	assert_int_equal(readl(bench->ctx, 0xc8000ff8), test_pattern(TEST_BIG, 0xff8, 4));
	assert_int_equal(readl(bench->ctx, 0xc8001000), test_pattern(TEST_MEM, 0, 4));
	assert_int_equal(readl(bench->ctx, 0xc8002000), test_pattern(TEST_BIG, 0x2000, 4));
	pci_move_bar(pci, TEST_MEM, 0xc7000000);
	assert_int_equal(readl(bench->ctx, 0xc8001000), test_pattern(TEST_BIG, 0x1000, 4));

	/* Between equals, who was there first; the other one appears when that one goes. */
	pci_move_bar(pci, TEST_BIG, big);
	pci_move_bar(&other, TEST_BIG, big);
	pci_bar_out(pci, TEST_BIG, 0, 4, 1);
	assert_int_equal(bench->function->writes, 1);
	pci_move_bar(pci, TEST_BIG, big + GIB(1));
	guest_write(bench->ctx, IO_MMIO, big, 4, 1);
	assert_int_equal(bench->function->writes, 1);
	assert_int_equal(readl(bench->ctx, big), test_pattern(TEST_BIG, 0, 4));

	/* Ports too, and over those of the config mechanism the config mechanism stays reachable. */
	pci_move_bar(pci, TEST_IO, 0x2000);
	pci_move_bar(pci, TEST_IO_SMALL, 0x2008);
	assert_int_equal(inl(bench->ctx, 0x2004), test_pattern(TEST_IO, 4, 4));
	assert_int_equal(inl(bench->ctx, 0x2008), test_pattern(TEST_IO_SMALL, 0, 4));
	pci_move_bar(pci, TEST_IO_SMALL, 0xcf8);
	pci_move_bar(pci, TEST_IO, 0xce0);
	assert_int_equal(pci_in(pci, PCI_VENDOR_ID, 2), TEST_VENDOR);
	pci_move_bar(pci, TEST_IO_SMALL, 0x2008);
	assert_int_equal(inl(bench->ctx, 0x2008), test_pattern(TEST_IO_SMALL, 0, 4));
	assert_int_equal(bench->machine->captured.count, 0);
}

/* ---- Many ---- */

struct span {
	uint64_t base, size;
	bool io;
};

static bool spans_overlap(const struct span *a, const struct span *b)
{
	return a->io == b->io && a->base < b->base + b->size && b->base < a->base + a->size;
}

static void test_full_bus(void **state)
{
	struct bench *bench = *state;
	struct span spans[32 * PCI_BARS];
	unsigned int count = 0, found = 0;
	char spec[32];

	for (unsigned int i = 0; i < 30; i++)
		machine_add(bench->machine, "virtio-rng");
	assert_null(pci_add_device(bench->ctx, "virtio-rng"));
	assert_int_equal(errno, ENOSPC);
	assert_logged(bench->machine, "-s virtio-rng: all 31 slots are taken");
	for (unsigned int func = 1; func < 8; func++) {
		snprintf(spec, sizeof(spec), "31:%u,virtio-rng", func);
		machine_add(bench->machine, spec);
	}
	assert_int_equal(pci_config_in(bench->machine, PCI_CF8, 0, 31, 0, PCI_HEADER_TYPE, 1),
			 0x80);
	assert_int_equal(pci_config_in(bench->machine, PCI_CF8, 0, 30, 0, PCI_HEADER_TYPE, 1), 0);
	for (unsigned int slot = 0; slot < 32; slot++) {
		struct pci_function pci;

		found += pci_function_open(&pci, bench->machine, slot & 1 ? PCI_ECAM : PCI_CF8,
					   slot, 0);
		for (unsigned int bar = 0; bar < PCI_BARS; bar++)
			if (pci.bar[bar].type != PCIBAR_NONE)
				spans[count++] =
					(struct span) { pci.bar[bar].addr, pci.bar[bar].size,
							pci.bar[bar].type == PCIBAR_IO };
	}
	assert_int_equal(found, 32);
	assert_true(count > 60);
	for (unsigned int i = 0; i < count; i++)
		for (unsigned int j = 0; j < i; j++)
			assert_false(spans_overlap(&spans[i], &spans[j]));
}

/* ---- -s ---- */

static void test_specs(void **state)
{
	static const struct {
		const char *spec;
		int error;
		const char *says;
	} specs[] = {
		{ "nosuch", ENODEV, "-s nosuch: no device is called nosuch (tenon devices lists" },
		{ "3,nosuch,opt", ENODEV, "no device is called nosuch" },
		{ "", ENODEV, "no device is called " },
		{ "3,", ENODEV, "no device is called " },
		{ "3", ENODEV, "no device is called 3" },
		{ "a,virtio-rng", ENODEV, "no device is called a" },
		{ "1:2:3:4,virtio-rng", ENODEV, "no device is called 1:2:3:4" },
		{ ":3,virtio-rng", ENODEV, "no device is called :3" },
		{ "3:,virtio-rng", ENODEV, "no device is called 3:" },
		{ "999999999999,virtio-rng", ENODEV, "999999999999" },
		{ "32,virtio-rng", EINVAL, "no such place (bus 0, slot 0 to 31, function 0 to 7;" },
		{ "3:8,virtio-rng", EINVAL, "no such place" },
		{ "1:3:0,virtio-rng", EINVAL, "no such place" },
		{ "0,virtio-rng", EEXIST, "slot 0 function 0 is taken by hostbridge@00:00.0" },
		{ "2,virtio-rng", EEXIST, "is taken by test-function@00:02.0 (choose another" },
		{ "0:2:0,virtio-rng", EEXIST, "is taken by test-function@00:02.0" },
		{ "5:1,virtio-rng", EINVAL, "give slot 5 function 0 first" },
		{ "virtio-rng,foo", EINVAL, "unknown option foo, valid are: " },
		{ "virtio-rng,max-bytes=0", EINVAL, "option max-bytes=0 is not valid" },
		{ "virtio-rng,max-bytes", EINVAL, "option max-bytes needs a value" },
		{ "virtio-rng,legacy=off,legacy=off", EINVAL, "option legacy is given twice" },
		{ "virtio-rng,legacy=perhaps", EINVAL, "option legacy=perhaps is not valid" },
		{ "virtio-rng,legacy=off,modern=off", EINVAL, "leaves no interface" },
		{ "virtio-blk", EINVAL, "option path is missing" },
		{ "hostbridge,foo", EINVAL, "unknown option foo" },
	};
	struct bench *bench = *state;

	for (unsigned int i = 0; i < ARRAY_SIZE(specs); i++) {
		machine_log_clear(bench->machine);
		errno = 0;
		if (pci_add_device(bench->ctx, specs[i].spec))
			fail_msg("accepted: %s", specs[i].spec);
		if (errno != specs[i].error)
			fail_msg("%s: errno %d", specs[i].spec, errno);
		assert_logged(bench->machine, specs[i].says);
		if (bench->machine->captured.count != 1) {
			machine_log_print(bench->machine);
			fail_msg("%s: %u lines", specs[i].spec, bench->machine->captured.count);
		}
	}
	machine_add(bench->machine, "0:4:0,virtio-rng");
	machine_add(bench->machine, "4:1,virtio-rng");
	machine_add(bench->machine, "virtio-rng"); /* slot 1 is free */
	assert_non_null(pci_find_device(bench->ctx, 0, 1, 0));
	assert_non_null(pci_find_device(bench->ctx, 0, 4, 1));
	assert_null(pci_find_device(bench->ctx, 1, 4, 1));
	assert_null(pci_find_device(bench->ctx, 0, 32, 0));
	assert_null(pci_find_device(bench->ctx, 0, 4, 8));
}

/* A device that cannot be made leaves no trace. */
static void test_failed_device(void **state)
{
	struct bench *bench = *state;
	struct pci_function pci;

	assert_null(pci_add_device(bench->ctx, "2:1,test-function,fail"));
	assert_int_equal(errno, EIO);
	assert_null(pci_add_device(bench->ctx, "2:1,virtio-rng,foo"));
	assert_int_equal(pci_in(&bench->cf8, PCI_HEADER_TYPE, 1), 0);
	assert_false(pci_function_open(&pci, bench->machine, PCI_CF8, 2, 1));
	machine_add(bench->machine, "2:1,test-function");
	assert_int_equal(pci_in(&bench->cf8, PCI_HEADER_TYPE, 1), 0x80);
}

/* ---- Reset ---- */

static void config_snapshot(struct bench *bench, uint32_t *words)
{
	for (unsigned int i = 0; i < PCI_CFG_SIZE / 4; i++)
		words[i] = pci_in(&bench->ecam, i * 4, 4);
}

static void test_reset(void **state)
{
	struct bench *bench = *state;
	struct pci_function *pci = &bench->cf8;
	uint32_t before[PCI_CFG_SIZE / 4], after[PCI_CFG_SIZE / 4];

	machine_add(bench->machine, "2:1,virtio-rng"); /* the multifunction bit survives */
	config_snapshot(bench, before);
	for (unsigned int round = 0; round < 3; round++) {
		pci_function_enable(pci);
		pci_msix_setup(pci);
		pci_move_bar(pci, TEST_MEM, 0xc8000000);
		pci_move_bar(pci, TEST_IO, 0x4000);
		pci_out(pci, PCI_INTERRUPT_LINE, 1, 0x55);
		pci_out(pci, pci->msix_cap + PCI_MSIX_FLAGS, 2, 0);
		test_intx(bench->dev, true);
		assert_true(inproc_line(bench->ctx, pci_function_gsi(pci)));

		pci_reset_devices(bench->ctx);
		assert_int_equal(bench->function->resets, round + 1);
		assert_false(inproc_line(bench->ctx, pci_function_gsi(pci)));
		assert_int_equal(inl(bench->ctx, 0xcf8), 0);
		assert_int_equal(guest_read(bench->ctx, IO_MMIO, 0xc8000000, 4), UINT32_MAX);
		assert_int_equal(bench->function->decoded_at[TEST_MEM], 0);
		config_snapshot(bench, after);
		assert_memory_equal(before, after, sizeof(before));

		assert_true(pci_function_open(pci, bench->machine, PCI_CF8, 2, 0));
		pci_function_enable(pci);
		check_bars_answer(bench, pci);
		for (unsigned int i = 0; i < TEST_MSIX_COUNT; i++) {
			assert_int_equal(pci_bar_in(pci, TEST_MSIX, i * 16, 8), 0);
			assert_int_equal(pci_bar_in(pci, TEST_MSIX, i * 16 + 8, 4), 0);
			assert_int_equal(pci_bar_in(pci, TEST_MSIX, i * 16 + 12, 4), 1);
			assert_false(pci_msix_pending(pci, i));
		}
	}
}

#define BENCH_TEST(function) cmocka_unit_test_setup_teardown(function, bench_setup, bench_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BENCH_TEST(test_config_read_cf8),
		BENCH_TEST(test_config_read_ecam),
		BENCH_TEST(test_config_write),
		BENCH_TEST(test_config_status),
		BENCH_TEST(test_config_address_port),
		BENCH_TEST(test_config_address_is_no_reset),
		BENCH_TEST(test_config_nobody),
		BENCH_TEST(test_bar_sizing),
		BENCH_TEST(test_bar_places),
		BENCH_TEST(test_bar_decode),
		BENCH_TEST(test_bar_move),
		BENCH_TEST(test_bar_nowhere),
		BENCH_TEST(test_bar_edges),
		BENCH_TEST(test_bar_over_ecam),
		BENCH_TEST(test_bar_over_bar),
		BENCH_TEST(test_full_bus),
		BENCH_TEST(test_specs),
		BENCH_TEST(test_failed_device),
		BENCH_TEST(test_reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
