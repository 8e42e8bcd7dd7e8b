/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rings that are broken, or where no ring can be, for every kind of device: classes 4, 6 and 18.
 */
#include "hostile.h"
#include "raw_ring.h"

#define COMMON_QUEUE_RESET 0x3a /* virtio 1.4, 4.1.4.3 */

/* ---- The available ring (class 4) ---- */

static void avail_jumps(struct ring *ring)
{
	ring->avail->idx = (uint16_t)(ring->avail_idx + ring->size + 1);
}

static void avail_jumps_far(struct ring *ring)
{
	ring->avail->idx = (uint16_t)(ring->avail_idx + 0x8000);
}

static void avail_goes_back(struct ring *ring)
{
	ring->avail->idx = (uint16_t)(ring->avail_idx - 1);
}

static void head_is_size(struct ring *ring)
{
	raw_split_avail(ring, ring->size);
}

static void head_is_far(struct ring *ring)
{
	raw_split_avail(ring, 0xffff);
}

static const struct {
	const char *name;
	void (*attack)(struct ring *ring);
	const char *rules;
} bad_avail[] = {
	{ "available index one too far", avail_jumps, "available index" },
	{ "available index far away", avail_jumps_far, "available index" },
	{ "available index goes back", avail_goes_back, "available index" },
	{ "head behind the table", head_is_size, "no descriptor of the table" },
	{ "head far away", head_is_far, "no descriptor of the table" },
};

static void test_avail_ring(void **state)
{
	struct hostile *hostile = hostile_run(state);
	struct ring *ring = &hostile->queue->ring;

	for (unsigned int i = 0; i < ARRAY_SIZE(bad_avail); i++) {
		kind_request(hostile->victim->kind, hostile->driver); /* not at index 0 */
		hostile_begin(hostile);
		bad_avail[i].attack(ring);
		hostile_kick(hostile);
		hostile_expect_broken(hostile, bad_avail[i].name, bad_avail[i].rules);
	}
	hostile_close(hostile);
}

/* ---- Where the ring's areas are (class 18, and 6) ---- */

/* RAM in two banks, with a hole between them that is larger than either of our rings. */
#define BANK_END X86_LOWMEM_MAX
#define BANKS_SIZE (X86_LOWMEM_MAX + MIB(16))

enum area { AREA_DESC, AREA_DRIVER, AREA_DEVICE, AREAS };

/* @addr: of the area; or, if @from_end, so that so many bytes of it are behind @addr */
struct bad_area {
	const char *name;
	uint64_t addr;
	unsigned int behind;
	bool works;
};

static const struct bad_area bad_areas[] = {
	{ "behind RAM", BANK_END, 0, false },
	{ "last byte behind the bank", BANK_END, 1, false },
	{ "half of it behind the bank", BANK_END, 4, false },
	{ "up to the end of the bank", BANK_END, UINT32_MAX, true },
	{ "last byte behind RAM", X86_HIGHMEM_BASE + MIB(16), 1, false },
	{ "up to the end of RAM", X86_HIGHMEM_BASE + MIB(16), UINT32_MAX, true },
	{ "in config space", X86_ECAM_BASE, 0, false },
	{ "in BARs", X86_MMIO32_BASE, 0, false },
	{ "at the end of the address space", UINT64_MAX & ~UINT64_C(15), 0, false },
	{ "in no RAM that can be", BIT64(63), 0, false },
	{ "not aligned", MIB(8) + 1, 0, false },
	{ "over a page's border", MIB(8) + 4096 - 16, 0, true },
};

/* Where @area of @size bytes goes, aligned as it must be. */
static uint64_t area_addr(const struct bad_area *bad, enum area area, uint64_t size)
{
	const uint64_t align = area == AREA_DESC ? 16 : 4;

	if (!bad->behind)
		return bad->addr;
	if (bad->behind == UINT32_MAX)
		return (bad->addr - size) & ~(align - 1);
	return align_up(bad->addr - size + bad->behind, align);
}

static void area_set(struct virtio_driver *driver, enum area area, uint64_t addr)
{
	uint32_t reg = VIRTIO_PCI_COMMON_Q_DESCLO + 8 * (uint32_t)area;

	driver_common_out(driver, reg, 4, (uint32_t)addr);
	driver_common_out(driver, reg + 4, 4, (uint32_t)(addr >> 32));
}

static void queue_stop(struct hostile *hostile)
{
	driver_common_out(hostile->driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, hostile->queue->index);
	driver_common_out(hostile->driver, COMMON_QUEUE_RESET, 2, 1);
}

static void run_bad_area(struct hostile *hostile, const struct bad_area *bad, enum area area)
{
	struct ring *ring = &hostile->queue->ring;
	uint64_t sizes[AREAS],
		places[AREAS] = { ring->desc_gpa, ring->driver_gpa, ring->device_gpa };
	struct virtio_driver *driver = hostile->driver;
	char what[96];

	snprintf(what, sizeof(what), "area %d %s", area, bad->name);
	ring->ops->sizes(ring->size, &sizes[AREA_DESC], &sizes[AREA_DRIVER], &sizes[AREA_DEVICE]);
	places[area] = area_addr(bad, area, sizes[area]);
	queue_stop(hostile);
	for (enum area i = 0; i < AREAS; i++)
		area_set(driver, i, places[i]);
	driver_common_out(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	if (bad->works) {
		hostile_kick(hostile);
		hostile_expect_contained(hostile, what);
	} else {
		hostile_expect_broken(hostile, what, "cannot be enabled");
	}
}

static void test_areas(void **state)
{
	struct machine_config config = { .memory_size = BANKS_SIZE };
	struct hostile *hostile = hostile_open(state, &config, NULL);

	hostile_start(hostile);
	for (unsigned int i = 0; i < ARRAY_SIZE(bad_areas); i++)
		for (enum area area = 0; area < AREAS; area++)
			run_bad_area(hostile, &bad_areas[i], area);
	hostile_close(hostile);
}

/* Buffers that lie in one bank, in the other, and over the hole between them. */
static void test_banks(void **state)
{
	static const struct {
		const char *name;
		uint64_t addr;
		bool works;
	} places[] = {
		{ "last bytes of the low bank", BANK_END - 64, true },
		{ "over the end of the low bank", BANK_END - 63, false },
		{ "first bytes of the high bank", X86_HIGHMEM_BASE, true },
		{ "into the high bank", X86_HIGHMEM_BASE - 1, false },
		{ "last bytes of the high bank", X86_HIGHMEM_BASE + MIB(16) - 64, true },
		{ "over the end of the high bank", X86_HIGHMEM_BASE + MIB(16) - 63, false },
	};
	struct machine_config config = { .memory_size = BANKS_SIZE };
	struct hostile *hostile = hostile_open(state, &config, NULL);

	hostile_start(hostile);
	for (unsigned int i = 0; i < ARRAY_SIZE(places); i++) {
		const struct raw_desc chain = { places[i].addr, 64, VRING_DESC_F_WRITE, 0 };

		raw_add(&hostile->queue->ring, &chain, 1);
		hostile_kick(hostile);
		if (places[i].works)
			hostile_expect_contained(hostile, places[i].name);
		else
			hostile_expect_broken(hostile, places[i].name, "outside of RAM");
	}
	hostile_close(hostile);
}

/* A legacy driver says where the ring is by one page number. */
static void test_legacy_pages(void **state)
{
	static const struct {
		const char *name;
		uint32_t page;
	} pages[] = {
		{ "ring behind RAM", MACHINE_MEMORY >> 12 },
		{ "ring over the end of RAM", (MACHINE_MEMORY >> 12) - 1 },
		{ "ring at the last page number", UINT32_MAX },
		{ "ring in config space", X86_ECAM_BASE >> 12 },
	};
	struct hostile *hostile = hostile_run(state);
	struct virtio_driver *driver = hostile->driver;

	for (unsigned int i = 0; i < ARRAY_SIZE(pages); i++) {
		pci_bar_out(&driver->pci, 0, VIRTIO_PCI_QUEUE_SEL, 2, hostile->queue->index);
		pci_bar_out(&driver->pci, 0, VIRTIO_PCI_QUEUE_PFN, 4, 0);
		pci_bar_out(&driver->pci, 0, VIRTIO_PCI_QUEUE_PFN, 4, pages[i].page);
		hostile_expect_broken(hostile, pages[i].name, "cannot be enabled");
	}
	hostile_close(hostile);
}

int main(void)
{
	static struct kind_tests tests;

	kind_tests_add(&tests, "bad available rings", test_avail_ring, KIND_AXIS_SPLIT);
	kind_tests_add(&tests, "bad areas", test_areas, KIND_AXIS_FORMATS);
	kind_tests_add(&tests, "buffers in two banks", test_banks, KIND_AXIS_INTERFACE);
	kind_tests_add(&tests, "legacy page numbers", test_legacy_pages, KIND_AXIS_LEGACY);
	return kind_tests_run(&tests, "hostile rings");
}
