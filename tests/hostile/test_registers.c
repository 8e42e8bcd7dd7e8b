/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Registers written at the wrong time, with wrong values, in wrong widths, for every kind of device:
 * classes 1, 2, 3 and 10.
 */
#include "hostile.h"
#include "virtio_transport.h"

#define COMMON_NOTIF_DATA 0x38 /* virtio 1.4, 4.1.4.3 */
#define COMMON_QUEUE_RESET 0x3a
#define COMMON_LEN 0x40

static void common_out(struct hostile *hostile, uint32_t reg, unsigned int size, uint64_t value)
{
	driver_common_out(hostile->driver, reg, size, value);
}

static uint64_t common_in(struct hostile *hostile, uint32_t reg, unsigned int size)
{
	return driver_common_in(hostile->driver, reg, size);
}

static void select_queue(struct hostile *hostile, uint16_t index)
{
	common_out(hostile, VIRTIO_PCI_COMMON_Q_SELECT, 2, index);
}

/* ---- Class 1: a queue's registers while it is in use ---- */

static const struct {
	const char *name;
	uint32_t reg;
	unsigned int size;
	uint64_t value;
} enabled_writes[] = {
	{ "size 0", VIRTIO_PCI_COMMON_Q_SIZE, 2, 0 },
	{ "size 3", VIRTIO_PCI_COMMON_Q_SIZE, 2, 3 },
	{ "size 0x8000", VIRTIO_PCI_COMMON_Q_SIZE, 2, 0x8000 },
	{ "size 0xffff", VIRTIO_PCI_COMMON_Q_SIZE, 2, 0xffff },
	{ "half a size", VIRTIO_PCI_COMMON_Q_SIZE + 1, 1, 0x80 },
	{ "descriptors nowhere", VIRTIO_PCI_COMMON_Q_DESCLO, 8, UINT64_MAX },
	{ "descriptors at 0", VIRTIO_PCI_COMMON_Q_DESCLO, 8, 0 },
	{ "half of the descriptors' address", VIRTIO_PCI_COMMON_Q_DESCHI, 4, 0x80000000 },
	{ "driver area nowhere", VIRTIO_PCI_COMMON_Q_AVAILLO, 8, UINT64_MAX },
	{ "a byte of the driver area's address", VIRTIO_PCI_COMMON_Q_AVAILLO + 3, 1, 0xff },
	{ "device area nowhere", VIRTIO_PCI_COMMON_Q_USEDLO, 8, UINT64_MAX },
	{ "device area in the descriptors", VIRTIO_PCI_COMMON_Q_USEDLO, 4, MACHINE_HEAP },
	{ "enabled again", VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1 },
	{ "disabled", VIRTIO_PCI_COMMON_Q_ENABLE, 2, 0 },
	{ "enabled with 2", VIRTIO_PCI_COMMON_Q_ENABLE, 2, 2 },
	{ "enabled with 0xffff", VIRTIO_PCI_COMMON_Q_ENABLE, 2, 0xffff },
	{ "reset with 2", COMMON_QUEUE_RESET, 2, 2 },
	{ "reset with 0xff00", COMMON_QUEUE_RESET, 2, 0xff00 },
	{ "number of queues", VIRTIO_PCI_COMMON_NUMQ, 2, 0xffff },
	{ "notification offset", VIRTIO_PCI_COMMON_Q_NOFF, 2, 0xffff },
	{ "notification data", COMMON_NOTIF_DATA, 2, 0xffff },
	{ "generation", VIRTIO_PCI_COMMON_CFGGENERATION, 1, 0xff },
	{ "offered features", VIRTIO_PCI_COMMON_DF, 4, UINT32_MAX },
	{ "size and vector at once", VIRTIO_PCI_COMMON_Q_SIZE, 4, 0xffff0001 },
};

static void test_enabled_queue(void **state)
{
	struct hostile *hostile = hostile_run(state);
	uint16_t index = hostile->queue->index;

	for (unsigned int i = 0; i < ARRAY_SIZE(enabled_writes); i++) {
		select_queue(hostile, index);
		common_out(hostile, enabled_writes[i].reg, enabled_writes[i].size,
			   enabled_writes[i].value);
		common_out(hostile, VIRTIO_PCI_COMMON_Q_MSIX, 2, index + 1U);
		hostile_expect_ignored(hostile, enabled_writes[i].name);
	}
	hostile_close(hostile);
}

/* The same before it is enabled: what was written is refused whole when it is. */
static const struct {
	const char *name;
	uint16_t size;
	bool packed, split; /* allowed there */
} sizes[] = {
	{ "0 entries", 0, false, false },
	{ "3 entries", 3, true, false },
	{ "more entries than it may have", 0x8000, false, false },
	{ "65535 entries", 0xffff, false, false },
	{ "1 entry", 1, true, true },
};

static void test_queue_sizes(void **state)
{
	struct hostile *hostile = hostile_run(state);
	struct ring *ring = &hostile->queue->ring;

	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		bool fine = hostile->driver->params.packed ? sizes[i].packed : sizes[i].split;

		select_queue(hostile, hostile->queue->index);
		common_out(hostile, COMMON_QUEUE_RESET, 2, 1);
		common_out(hostile, VIRTIO_PCI_COMMON_Q_SIZE, 2, sizes[i].size);
		common_out(hostile, VIRTIO_PCI_COMMON_Q_DESCLO, 8, ring->desc_gpa);
		common_out(hostile, VIRTIO_PCI_COMMON_Q_AVAILLO, 8, ring->driver_gpa);
		common_out(hostile, VIRTIO_PCI_COMMON_Q_USEDLO, 8, ring->device_gpa);
		common_out(hostile, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
		if (fine)
			hostile_expect_contained(hostile, sizes[i].name);
		else
			hostile_expect_broken(hostile, sizes[i].name, "cannot be enabled");
	}
	hostile_close(hostile);
}

/* Legacy: the page number again is ignored, 0 tears the queue down (and does not map page 0). */
static void test_legacy_page_number(void **state)
{
	struct hostile *hostile = hostile_run(state);
	struct virtio_driver *driver = hostile->driver;
	uint32_t page = (uint32_t)(hostile->queue->ring.desc_gpa >> 12);
	uint8_t *low = guest_ptr(hostile->machine, 0, 65536);

	pci_bar_out(&driver->pci, 0, VIRTIO_PCI_QUEUE_SEL, 2, hostile->queue->index);
	pci_bar_out(&driver->pci, 0, VIRTIO_PCI_QUEUE_PFN, 4, page + 1);
	hostile_expect_ignored(hostile, "page number while in use");
	assert_int_equal(pci_bar_in(&driver->pci, 0, VIRTIO_PCI_QUEUE_PFN, 4), page);
	pci_bar_out(&driver->pci, 0, VIRTIO_PCI_QUEUE_PFN, 4, 0);
	memset(low, DRIVER_POISON, 65536); /* as a ring it would be full of buffers */
	hostile->driver->interface->notify(driver, hostile->queue);
	machine_poll(hostile->machine);
	for (unsigned int i = 0; i < 65536; i++)
		assert_int_equal(low[i], DRIVER_POISON);
	assert_false(hostile_needs_reset(hostile));
	hostile_expect_contained(hostile, "page number 0");
	hostile_close(hostile);
}

/* ---- Class 2: queues that are not there, kicks of any width ---- */

static void test_queue_select(void **state)
{
	static const uint16_t far[] = { 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff };
	struct hostile *hostile = hostile_run(state);
	struct virtio_driver *driver = hostile->driver;

	for (unsigned int i = 0; i < ARRAY_SIZE(far) + 1; i++) {
		uint16_t index = (uint16_t)(i ? far[i - 1] : driver->queue_count);

		if (driver->params.legacy) {
			pci_bar_out(&driver->pci, 0, VIRTIO_PCI_QUEUE_SEL, 2, index);
			pci_bar_out(&driver->pci, 0, VIRTIO_PCI_QUEUE_PFN, 4, 0x100);
			pci_bar_out(&driver->pci, 0, VIRTIO_PCI_QUEUE_PFN, 4, 0);
			pci_bar_out(&driver->pci, 0, VIRTIO_MSI_QUEUE_VECTOR, 2, 1);
			assert_int_equal(pci_bar_in(&driver->pci, 0, VIRTIO_PCI_QUEUE_NUM, 2), 0);
			assert_int_equal(pci_bar_in(&driver->pci, 0, VIRTIO_MSI_QUEUE_VECTOR, 2),
					 0xffff);
		} else {
			select_queue(hostile, index);
			for (uint32_t reg = VIRTIO_PCI_COMMON_Q_SIZE; reg < COMMON_LEN; reg += 2)
				common_out(hostile, reg, 2, 1);
			assert_int_equal(common_in(hostile, VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
			assert_int_equal(common_in(hostile, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
			assert_int_equal(common_in(hostile, VIRTIO_PCI_COMMON_Q_DESCLO, 8), 0);
		}
		hostile_expect_ignored(hostile, "a queue that is not there");
	}
	hostile_close(hostile);
}

/* All of the notification structure, and the legacy register, with all that fits into them. */
static void test_notifications(void **state)
{
	static const uint64_t values[] = { 0,	   1,	   0x7f,    0x80,	0x7fff,
					   0x8000, 0xffff, 0x10000, UINT32_MAX, UINT64_MAX };
	struct hostile *hostile = hostile_run(state);
	struct virtio_driver *driver = hostile->driver;
	struct driver_region legacy = { 0, VIRTIO_PCI_QUEUE_NOTIFY, 2 };
	const struct driver_region *region = driver->params.legacy ? &legacy : &driver->notify;

	for (uint32_t offset = 0; offset < region->length; offset++)
		for (unsigned int size = 1; size <= 8; size++)
			for (unsigned int i = 0; i < ARRAY_SIZE(values); i += 1 + offset / 256)
				/* a legacy status register lies behind: leave that one alone */
				if (!driver->params.legacy || offset + size <= region->length)
					pci_bar_out(&driver->pci, region->bar,
						    region->offset + offset, size, values[i]);
	hostile_expect_ignored(hostile, "kicks of all kinds");
	hostile_close(hostile);
}

/* ---- Class 3: configuration space, and every other byte of every BAR ---- */

/* Where the structure is, of a device that has none of it too: behind it lies nothing of anybody. */
static void find_config(struct virtio_driver *driver)
{
	if (!driver->params.legacy && !driver->device.length)
		driver->device = (struct driver_region) { driver->common.bar, 0x2000, 4096 };
}

static uint32_t config_room(const struct virtio_driver *driver)
{
	if (driver->params.legacy)
		return (uint32_t)driver->pci.bar[0].size - VIRTIO_PCI_CONFIG_OFF(1);
	return 4096;
}

static uint32_t config_size(const struct device_kind *kind)
{
	const struct virtio_ops *ops = virtio_device_find(kind->name);

	return ops ? ops->cfgsize : 0;
}

/* Read all of it in all widths at all offsets; also where it ends, and across structures. */
static void test_read_everything(void **state)
{
	struct hostile *hostile = hostile_run(state);
	struct pci_function *pci = &hostile->driver->pci;
	uint8_t before[256], after[256];
	uint32_t config = hostile->driver->device.length;

	for (uint32_t i = 0; i < MIN(config, sizeof(before)); i++)
		before[i] = (uint8_t)driver_config(hostile->driver, i, 1);
	for (unsigned int bar = 0; bar < PCI_BARS; bar++)
		for (uint64_t offset = 0; offset < pci->bar[bar].size; offset++)
			for (unsigned int size = 1; size <= 8; size += 1 + (offset > 0x400))
				pci_bar_in(pci, bar, offset, size);
	/* The interrupt status was read, and with it taken back; nothing else may have happened. */
	for (uint32_t i = 0; i < MIN(config, sizeof(before)); i++)
		after[i] = (uint8_t)driver_config(hostile->driver, i, 1);
	assert_memory_equal(before, after, MIN(config, sizeof(before)));
	hostile_expect_ignored(hostile, "reads of everything");
	hostile_close(hostile);
}

/* Behind the end of the configuration space there is nothing, and least of all memory of the host. */
static void test_config_end(void **state)
{
	struct hostile *hostile = hostile_run(state);
	struct virtio_driver *driver = hostile->driver;
	uint32_t end = config_size(hostile->victim->kind), room = config_room(driver);

	find_config(driver);
	for (uint32_t offset = end; offset < room; offset++)
		for (unsigned int size = 1; size <= 4 && offset + size <= room; size++) {
			assert_int_equal(driver_config(driver, offset, size), 0);
			driver_set_config(driver, offset, size, UINT32_MAX);
		}
	for (uint32_t back = 1; back <= MIN(end, 7U) && !driver->params.legacy; back++)
		assert_int_equal(driver_config(driver, end - back, 8) >> (8 * back), 0);
	hostile_expect_ignored(hostile, "the end of the configuration space");
	hostile_close(hostile);
}

/* Any value anywhere in configuration space is taken or left. */
static void test_config_writes(void **state)
{
	static const uint32_t values[] = { UINT32_MAX, 0, 0x80000000, 0x01010101 };
	struct hostile *hostile = hostile_run(state);
	struct virtio_driver *driver = hostile->driver;
	uint32_t room = MIN(config_room(driver), 256U);

	find_config(driver);
	for (unsigned int i = 0; i < ARRAY_SIZE(values); i++)
		for (uint32_t offset = 0; offset < room; offset++)
			for (unsigned int size = 1; size <= 8 && offset + size <= room; size++)
				driver_set_config(driver, offset, size, values[i]);
	hostile_expect_contained(hostile, "writes to configuration space");
	hostile_close(hostile);
}

/* A generator that is the same on each run. */
static uint64_t random_next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static uint64_t random_value(uint64_t *seed)
{
	uint64_t value = random_next(seed);

	switch (random_next(seed) % 4) {
	case 0:
		return value & 0xff;
	case 1:
		return value & 1;
	case 2:
		return value & 0xffff;
	default:
		return value;
	}
}

/* Everything that can be written, at random, and now and then some work in between. */
static void test_random_writes(void **state)
{
	struct hostile *hostile = hostile_run(state);
	struct pci_function *pci = &hostile->driver->pci;
	uint64_t seed = UINT64_C(0x9e3779b97f4a7c15);

	for (unsigned int round = 0; round < 20; round++) {
		for (unsigned int i = 0; i < 1000; i++) {
			unsigned int bar = random_next(&seed) % PCI_BARS;
			unsigned int size = 1 + random_next(&seed) % 8;
			uint64_t room = pci->bar[bar].size;

			if (room < size)
				continue;
			pci_bar_out(pci, bar, random_next(&seed) % MIN(room - size + 1, 0x3100),
				    size, random_value(&seed));
		}
		pci_msix_setup(pci);
		hostile_expect_survived(hostile, "writes at random");
	}
	hostile_close(hostile);
}

/* ---- Class 10: features ---- */

static void offer_nothing_new(struct hostile *hostile)
{
	for (uint32_t word = 2; word < 6; word++) { /* the last two are not there */
		common_out(hostile, VIRTIO_PCI_COMMON_DFSELECT, 4, word);
		assert_int_equal(common_in(hostile, VIRTIO_PCI_COMMON_DF, 4), 0);
		common_out(hostile, VIRTIO_PCI_COMMON_GFSELECT, 4, word);
		common_out(hostile, VIRTIO_PCI_COMMON_GF, 4, 0);
	}
}

static void accept_word(struct hostile *hostile, uint32_t word, uint32_t value)
{
	common_out(hostile, VIRTIO_PCI_COMMON_GFSELECT, 4, word);
	common_out(hostile, VIRTIO_PCI_COMMON_GF, 4, value);
}

static bool features_refused(struct hostile *hostile)
{
	driver_set_status(hostile->driver, VIRTIO_CONFIG_S_FEATURES_OK);
	return !(driver_status(hostile->driver) & VIRTIO_CONFIG_S_FEATURES_OK);
}

static void begin_again(struct hostile *hostile)
{
	driver_set_status(hostile->driver, 0);
	driver_set_status(hostile->driver, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	driver_set_status(hostile->driver, VIRTIO_CONFIG_S_DRIVER);
	hostile_log_clear(hostile->machine);
}

/* Each bit that is not offered is refused, in one line. */
static void test_features_not_offered(void **state)
{
	struct hostile *hostile = hostile_run(state);
	uint64_t offered = hostile->driver->offered;

	for (unsigned int bit = 0; bit < 128; bit++) {
		if (bit < 64 && offered & BIT64(bit))
			continue;
		begin_again(hostile);
		accept_word(hostile, 0, 0);
		accept_word(hostile, 1, BIT32(VIRTIO_F_VERSION_1 - 32));
		accept_word(hostile, bit / 32,
			    BIT32(bit % 32) | (bit / 32 == 1 ? BIT32(VIRTIO_F_VERSION_1 - 32) : 0));
		assert_true(features_refused(hostile));
		hostile_one_line(hostile, "a feature that is not offered", "FEATURES_OK refused");
		/* without it there is no DRIVER_OK, and no queue runs */
		hostile_log_clear(hostile->machine);
		driver_set_status(hostile->driver, VIRTIO_CONFIG_S_DRIVER_OK);
		assert_false(driver_status(hostile->driver) & VIRTIO_CONFIG_S_DRIVER_OK);
		hostile_one_line(hostile, "DRIVER_OK without FEATURES_OK", "DRIVER_OK without");
	}
	offer_nothing_new(hostile);
	hostile_expect_contained(hostile, "features that are not offered");
	hostile_close(hostile);
}

/* Written again after FEATURES_OK, or in the middle of the work: as before. */
static void test_features_late(void **state)
{
	struct hostile *hostile = hostile_run(state);
	struct virtio_driver *driver = hostile->driver;
	uint64_t accepted = driver->accepted;

	for (unsigned int i = 0; i < 3; i++) {
		driver->interface->set_features(driver, i == 1 ? UINT64_MAX : i);
		if (!driver->params.legacy) {
			common_out(hostile, VIRTIO_PCI_COMMON_GFSELECT, 4, 0);
			assert_int_equal(common_in(hostile, VIRTIO_PCI_COMMON_GF, 4),
					 (uint32_t)accepted);
			common_out(hostile, VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
			assert_int_equal(common_in(hostile, VIRTIO_PCI_COMMON_GF, 4),
					 accepted >> 32);
		}
		driver_set_status(driver, VIRTIO_CONFIG_S_FEATURES_OK);
		hostile_expect_ignored(hostile, "features once more");
	}
	hostile_close(hostile);
}

/* Halves in any order and twice: each keeps what was written to it last (acrn.md 7.3, row 24). */
static void test_features_twice(void **state)
{
	struct hostile *hostile = hostile_open(state, NULL, NULL);
	struct virtio_driver *driver = hostile->driver;
	uint32_t low = (uint32_t)driver->offered & ~BIT32(VIRTIO_RING_F_EVENT_IDX);

	driver->accepted = low | BIT64(VIRTIO_F_VERSION_1);
	accept_word(hostile, 1, 0);
	accept_word(hostile, 0, UINT32_MAX);
	accept_word(hostile, 1, BIT32(VIRTIO_F_VERSION_1 - 32));
	accept_word(hostile, 0, low);
	common_out(hostile, VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
	assert_int_equal(common_in(hostile, VIRTIO_PCI_COMMON_GF, 4),
			 BIT32(VIRTIO_F_VERSION_1 - 32));
	assert_false(features_refused(hostile));
	driver_start(driver);
	hostile_expect_ignored(hostile, "features in halves");
	hostile_close(hostile);
}

/* Legacy: what is not offered is left out; repeated writes change nothing (7.4, row 15). */
static void test_legacy_features(void **state)
{
	struct hostile *hostile = hostile_open(state, NULL, NULL);
	struct virtio_driver *driver = hostile->driver;

	for (unsigned int i = 0; i < 20; i++) {
		driver->interface->set_features(driver, UINT32_MAX);
		driver->interface->set_features(driver, 0);
	}
	assert_true(driver_negotiate(driver, driver->offered));
	driver_start(driver);
	for (unsigned int i = 0; i < 20; i++)
		driver->interface->set_features(driver, i & 1 ? UINT32_MAX : 0);
	hostile_expect_ignored(hostile, "legacy features again and again");
	hostile_close(hostile);
}

/* Both interfaces of one device at once, mixed in any way. */
static void test_both_interfaces(void **state)
{
	struct hostile *hostile = hostile_open(state, NULL, NULL);
	struct virtio_driver *driver = hostile->driver;
	struct pci_function *pci = &driver->pci;
	uint64_t seed = 88172645463325252;

	for (unsigned int round = 0; round < 64 && pci->bar[0].type == PCIBAR_IO; round++) {
		for (unsigned int i = 0; i < 64; i++) {
			uint32_t reg = random_next(&seed) % COMMON_LEN;

			common_out(hostile, reg, 1 + random_next(&seed) % 4, random_value(&seed));
			reg = random_next(&seed) % VIRTIO_PCI_CONFIG_OFF(1);
			pci_bar_out(pci, 0, reg, 1 + random_next(&seed) % 4,
				    random_value(&seed) & 0x1ffff);
		}
		/* a legacy driver's status is its own; what the modern one wants next is a reset */
		if (round % 8 == 7)
			hostile_expect_survived(hostile, "both interfaces at once");
	}
	hostile_close(hostile);
}

/* Each byte that the status register can be given, one after the other, without a reset between. */
static void test_status(void **state)
{
	struct hostile *hostile = hostile_run(state);
	struct virtio_driver *driver = hostile->driver;

	for (unsigned int status = 1; status < 256; status++) {
		driver->interface->set_status(driver, (uint8_t)status);
		if (!driver->params.legacy)
			assert_false(driver_status(driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
	}
	hostile_expect_contained(hostile, "all values of the status");
	for (unsigned int status = 1; status < 256; status++) {
		driver_set_status(driver, 0);
		assert_int_equal(driver_status(driver), 0);
		driver->interface->set_status(driver, (uint8_t)status);
		driver->interface->notify(driver, hostile->queue);
	}
	hostile_expect_contained(hostile, "all values of the status after a reset");
	hostile_close(hostile);
}

/* DRIVER_OK a thousand times over costs nothing (7.4, row 16). */
static void test_driver_ok_again(void **state)
{
	struct hostile *hostile = hostile_run(state);

	for (unsigned int i = 0; i < 1000; i++)
		driver_set_status(hostile->driver, VIRTIO_CONFIG_S_DRIVER_OK);
	hostile_expect_ignored(hostile, "DRIVER_OK again and again");
	hostile_close(hostile);
}

int main(void)
{
	static struct kind_tests tests;

	kind_tests_add(&tests, "enabled queue", test_enabled_queue, KIND_AXIS_FORMATS);
	kind_tests_add(&tests, "queue sizes", test_queue_sizes, KIND_AXIS_FORMATS);
	kind_tests_add(&tests, "legacy page number", test_legacy_page_number, KIND_AXIS_LEGACY);
	kind_tests_add(&tests, "queue select", test_queue_select, KIND_AXIS_INTERFACE);
	kind_tests_add(&tests, "notifications", test_notifications, KIND_AXIS_INTERFACE);
	kind_tests_add(&tests, "read everything", test_read_everything, KIND_AXIS_INTERFACE);
	kind_tests_add(&tests, "config end", test_config_end, KIND_AXIS_INTERFACE);
	kind_tests_add(&tests, "config writes", test_config_writes, KIND_AXIS_INTERFACE);
	kind_tests_add(&tests, "random writes", test_random_writes, KIND_AXIS_INTERFACE);
	kind_tests_add(&tests, "features not offered", test_features_not_offered, KIND_AXIS_NONE);
	kind_tests_add(&tests, "features late", test_features_late, KIND_AXIS_INTERFACE);
	kind_tests_add(&tests, "features twice", test_features_twice, KIND_AXIS_NONE);
	kind_tests_add(&tests, "legacy features", test_legacy_features, KIND_AXIS_LEGACY);
	kind_tests_add(&tests, "both interfaces", test_both_interfaces, KIND_AXIS_NONE);
	kind_tests_add(&tests, "status", test_status, KIND_AXIS_INTERFACE);
	kind_tests_add(&tests, "DRIVER_OK again", test_driver_ok_again, KIND_AXIS_INTERFACE);
	return kind_tests_run(&tests, "hostile registers");
}
