/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What every virtio device over PCI has in common, for every kind: identity, features, status,
 * registers, queue setup, reset. What the rings do is in test_virtio_rings.c.
 */
#include "device_kinds.h"

#define COMMON_REGISTERS_LEN 0x40
#define NO_VECTOR 0xffff

/* ---- Identity (virtio 1.4, 4.1.2) ---- */

/* A device of the test's kind with @options, at KIND_SLOT. */
static struct kind_case *open_pci(void **state, const char *options, struct pci_function *pci)
{
	struct kind_case *test = *state;

	test->kind_bench = kind_bench_create(test->kind, NULL, options);
	if (!test->kind_bench)
		skip();
	test->machine = test->kind_bench->machine;
	assert_true(pci_function_open(pci, test->machine, PCI_CF8, KIND_SLOT, 0));
	return test;
}

static void check_ids(struct pci_function *pci, uint16_t device, uint16_t subsystem, bool modern)
{
	assert_int_equal(pci->vendor, 0x1af4);
	assert_int_equal(pci->device, device);
	assert_int_equal(pci_in(pci, PCI_SUBSYSTEM_ID, 2), subsystem);
	if (modern)
		assert_true(pci_in(pci, PCI_REVISION_ID, 1) >= 1);
	else
		assert_int_equal(pci_in(pci, PCI_REVISION_ID, 1), 0);
}

static void test_identity(void **state)
{
	struct pci_function pci;
	const struct kind_case *test = open_pci(state, NULL, &pci);
	const struct device_kind *kind = test->kind;

	assert_int_equal(pci_in(&pci, PCI_CLASS_DEVICE, 2), kind->pci_class);
	assert_int_equal(pci_in(&pci, PCI_INTERRUPT_PIN, 1), 1);
	assert_int_not_equal(pci.msix_cap, 0);
	if (kind->transitional_id)
		check_ids(&pci, kind->transitional_id, kind->virtio_id, false);
	else
		check_ids(&pci, 0x1040 + kind->virtio_id, 0x1040 + kind->virtio_id, true);
	assert_int_equal(pci.bar[0].type, kind->transitional_id ? PCIBAR_IO : PCIBAR_NONE);
	assert_int_not_equal(pci_capability(&pci, PCI_CAP_ID_VNDR, 0), 0);
}

static void test_identity_modern(void **state)
{
	struct pci_function pci;
	const struct kind_case *test = open_pci(state, "legacy=off", &pci);

	check_ids(&pci, 0x1040 + test->kind->virtio_id, 0x1040 + test->kind->virtio_id, true);
	for (unsigned int bar = 0; bar < PCI_BARS; bar++)
		assert_int_not_equal(pci.bar[bar].type, PCIBAR_IO);
}

static void test_identity_legacy(void **state)
{
	struct pci_function pci;
	const struct kind_case *test = *state;

	if (!test->kind->transitional_id)
		return;
	open_pci(state, "modern=off", &pci);
	check_ids(&pci, test->kind->transitional_id, test->kind->virtio_id, false);
	assert_int_equal(pci.bar[0].type, PCIBAR_IO);
	assert_int_equal(pci_capability(&pci, PCI_CAP_ID_VNDR, 0), 0);
	for (unsigned int bar = 1; bar < PCI_BARS; bar++)
		assert_true(pci.bar[bar].type == PCIBAR_NONE || bar == pci.msix_table_bar);
}

/* All structures there, inside of their BARs, aligned (4.1.4.3 ...), not overlapping. */
static void test_capabilities(void **state)
{
	struct kind_case *test = kind_case_open(state, NULL, NULL);
	struct virtio_driver *driver = test->driver;
	struct pci_function *pci = &driver->pci;
	bool window = false;
	unsigned int at = 0;

	assert_true(driver->common.length >= 56);
	assert_int_equal(driver->common.offset % 4, 0);
	assert_int_equal(driver->notify.offset % 2, 0);
	assert_true(is_power_of_2(driver->notify_multiplier) && driver->notify_multiplier >= 2);
	assert_true(driver->isr.length >= 1);
	assert_int_equal(driver->device.offset % 4, 0);
	while ((at = pci_capability(pci, PCI_CAP_ID_VNDR, at))) {
		uint32_t length = pci_in(pci, at + VIRTIO_PCI_CAP_LEN, 1);
		uint32_t type = pci_in(pci, at + VIRTIO_PCI_CAP_CFG_TYPE, 1);

		assert_true(length >= sizeof(struct virtio_pci_cap));
		window |= type == VIRTIO_PCI_CAP_PCI_CFG;
		/* read-only, but for the window */
		pci_out(pci, at + VIRTIO_PCI_CAP_CFG_TYPE, 1, 0x77);
		assert_int_equal(pci_in(pci, at + VIRTIO_PCI_CAP_CFG_TYPE, 1), type);
	}
	assert_true(window);
}

/* ---- Features (2.2, 3.1.1) ---- */

static void test_features_offered(void **state)
{
	struct kind_case *test = kind_case_open(state, NULL, NULL);
	struct virtio_driver *driver = test->driver;
	uint64_t both = BIT64(VIRTIO_RING_F_INDIRECT_DESC) | BIT64(VIRTIO_RING_F_EVENT_IDX);

	assert_true((driver->offered & both) == both);
	if (driver->params.legacy) {
		assert_int_equal(driver->offered >> 32, 0);
		assert_true(driver->offered & BIT64(VIRTIO_F_ANY_LAYOUT));
		return;
	}
	assert_true(driver->offered & BIT64(VIRTIO_F_VERSION_1));
	assert_true(driver->offered & BIT64(VIRTIO_F_RING_RESET));
	assert_false(driver->offered & BIT64(VIRTIO_F_ANY_LAYOUT)); /* legacy bits: 6.3 */
	assert_false(driver->offered & BIT64(VIRTIO_F_NOTIFY_ON_EMPTY));
	for (uint32_t word = 4; word < 64; word++) {
		driver_common_out(driver, VIRTIO_PCI_COMMON_DFSELECT, 4, word);
		assert_int_equal(driver_common_in(driver, VIRTIO_PCI_COMMON_DF, 4), 0);
	}
	driver_common_out(driver, VIRTIO_PCI_COMMON_DFSELECT, 4, UINT32_MAX);
	assert_int_equal(driver_common_in(driver, VIRTIO_PCI_COMMON_DF, 4), 0);
}

static void test_features_off(void **state)
{
	struct kind_case *test = kind_case_open(state, NULL, "event_idx=off,indirect=off");

	assert_false(test->driver->offered &
		     (BIT64(VIRTIO_RING_F_INDIRECT_DESC) | BIT64(VIRTIO_RING_F_EVENT_IDX)));
	assert_true(driver_negotiate(test->driver, test->driver->offered));
	driver_start(test->driver);
	kind_request(test->kind, test->driver);
}

static bool features_ok(struct virtio_driver *driver, uint64_t features)
{
	driver->interface->set_features(driver, features);
	driver_set_status(driver, VIRTIO_CONFIG_S_FEATURES_OK);
	return driver_status(driver) & VIRTIO_CONFIG_S_FEATURES_OK;
}

/* Each bit that is not offered is refused, alone; after that it may be tried again. */
static void test_features_refused(void **state)
{
	struct kind_case *test = kind_case_open(state, NULL, NULL);
	struct virtio_driver *driver = test->driver;
	uint64_t good = BIT64(VIRTIO_F_VERSION_1);

	for (unsigned int bit = 0; bit < 64; bit++)
		if (!(driver->offered & BIT64(bit)))
			assert_false(features_ok(driver, good | BIT64(bit)));
	assert_false(features_ok(driver, 0)); /* VERSION_1 is a must (6.1) */
	assert_false(features_ok(driver, driver->offered & ~good));
	/* bits 64 to 127: not offered either */
	driver->interface->set_features(driver, good);
	driver_common_out(driver, VIRTIO_PCI_COMMON_GFSELECT, 4, 3);
	driver_common_out(driver, VIRTIO_PCI_COMMON_GF, 4, 0x80000000);
	driver_set_status(driver, VIRTIO_CONFIG_S_FEATURES_OK);
	assert_false(driver_status(driver) & VIRTIO_CONFIG_S_FEATURES_OK);
	driver_common_out(driver, VIRTIO_PCI_COMMON_GF, 4, 0);
	assert_true(driver_negotiate(driver, driver->offered));
	driver_start(driver);
	kind_request(test->kind, driver);
	assert_logged(test->machine, "FEATURES_OK refused");
}

/* The last write before FEATURES_OK counts, one after it does not. */
static void test_features_rewritten(void **state)
{
	struct kind_case *test = kind_case_open(state, NULL, NULL);
	struct virtio_driver *driver = test->driver;
	uint64_t read_back = 0;

	driver->interface->set_features(driver, UINT64_MAX);
	driver->interface->set_features(driver, 0);
	assert_true(driver_negotiate(driver, driver->offered));
	driver->interface->set_features(driver, 0);
	for (uint32_t word = 0; word < 2; word++) {
		driver_common_out(driver, VIRTIO_PCI_COMMON_GFSELECT, 4, word);
		read_back |= driver_common_in(driver, VIRTIO_PCI_COMMON_GF, 4) << (32 * word);
	}
	assert_int_equal(read_back, driver->accepted);
	driver_start(driver);
	kind_request(test->kind, driver);
}

/* ---- Status (2.1) ---- */

static void test_status(void **state)
{
	struct kind_case *test = kind_case_open(state, NULL, NULL);
	struct virtio_driver *driver = test->driver;
	uint8_t seen = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;

	assert_int_equal(driver_status(driver), seen);
	driver->interface->set_status(driver, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	assert_int_equal(driver_status(driver), seen); /* only reset takes bits away */
	driver->interface->set_status(driver, VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_int_equal(driver_status(driver), seen); /* the device's to say */
	driver_set_status(driver, VIRTIO_CONFIG_S_FAILED);
	assert_int_equal(driver_status(driver), seen | VIRTIO_CONFIG_S_FAILED);
	driver_set_status(driver, 0);
	assert_int_equal(driver_status(driver), 0);
}

static void test_driver_ok_needs_features_ok(void **state)
{
	struct kind_case *test = kind_case_open(state, NULL, NULL);
	struct virtio_driver *driver = test->driver;
	struct kind_buffer buffer;

	driver->interface->set_features(driver, BIT64(VIRTIO_F_VERSION_1));
	for (uint16_t i = 0; i < driver->queue_count; i++)
		driver_queue_setup(driver, i, 0);
	assert_logged(test->machine, "queue 0 enabled before FEATURES_OK, ignored");
	driver_set_status(driver, VIRTIO_CONFIG_S_DRIVER_OK);
	assert_false(driver_status(driver) & VIRTIO_CONFIG_S_DRIVER_OK);
	assert_logged(test->machine, "DRIVER_OK without FEATURES_OK");
	buffer = kind_buffer(test->kind, driver);
	assert_int_equal(driver_add_buf(test->queue, buffer.segments, buffer.out_count,
					buffer.in_count, test),
			 0);
	driver_kick(test->queue);
	machine_poll(test->machine);
	assert_false(driver_pending(test->queue));

	driver_set_status(driver, VIRTIO_CONFIG_S_FEATURES_OK);
	for (uint16_t i = 0; i < driver->queue_count; i++)
		driver_queue_setup(driver, i, 0);
	assert_int_equal(driver_add_buf(test->queue, buffer.segments, buffer.out_count,
					buffer.in_count, test),
			 0);
	driver_set_status(driver, VIRTIO_CONFIG_S_DRIVER_OK);
	assert_true(driver_status(driver) & VIRTIO_CONFIG_S_DRIVER_OK);
	assert_ptr_equal(driver_wait_buf(test->queue, NULL, DRIVER_TIMEOUT_MS), test);
}

/* ---- Registers in every width (4.1.3.1) ---- */

/* Reads of all sizes at all offsets of [@base, @base + @len) of BAR @bar say the same. */
static void check_widths(struct virtio_driver *driver, unsigned int bar, uint32_t base,
			 uint32_t len, unsigned int size_max)
{
	for (unsigned int size = 2; size <= size_max; size *= 2)
		for (uint32_t at = 0; at + size <= len; at++) {
			uint64_t whole = pci_bar_in(&driver->pci, bar, base + at, size);

			for (unsigned int i = 0; i < size; i++)
				assert_int_equal((whole >> (8 * i)) & 0xff,
						 pci_bar_in(&driver->pci, bar, base + at + i, 1));
		}
}

static void test_register_widths(void **state)
{
	struct kind_case *test = kind_case_run(state);
	struct virtio_driver *driver = test->driver;
	struct pci_function *pci = &driver->pci;
	uint32_t config = VIRTIO_PCI_CONFIG_OFF(driver->params.msix);

	kind_request(test->kind, driver);
	if (driver->params.legacy) {
		check_widths(driver, 0, 0, config, 4);
		check_widths(driver, 0, config, (uint32_t)pci->bar[0].size - config, 4);
		/* Beyond the device's configuration there is nothing. */
		for (uint64_t at = config + 256; at < pci->bar[0].size; at++)
			assert_int_equal(pci_bar_in(pci, 0, at, 1), 0);
		return;
	}
	check_widths(driver, driver->common.bar, driver->common.offset, COMMON_REGISTERS_LEN, 8);
	check_widths(driver, driver->device.bar, driver->device.offset, driver->device.length, 8);
	kind_request(test->kind, driver);
}

/* A register may be written in pieces; the other bytes keep their values. */
static void test_register_bytes(void **state)
{
	static const uint32_t addresses[] = { VIRTIO_PCI_COMMON_Q_DESCLO,
					      VIRTIO_PCI_COMMON_Q_AVAILLO,
					      VIRTIO_PCI_COMMON_Q_USEDLO };
	struct kind_case *test = kind_case_open(state, NULL, NULL);
	struct virtio_driver *driver = test->driver;

	driver_common_out(driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, test->kind->queue);
	for (unsigned int i = 0; i < ARRAY_SIZE(addresses); i++) {
		uint64_t value = 0;

		for (unsigned int byte = 0; byte < 8; byte++) {
			driver_common_out(driver, addresses[i] + byte, 1, 0x10 + byte);
			value |= (uint64_t)(0x10 + byte) << (8 * byte);
			assert_int_equal(driver_common_in(driver, addresses[i], 8), value);
		}
		driver_common_out(driver, addresses[i] + 3, 2, 0xbeef);
		assert_int_equal(driver_common_in(driver, addresses[i], 8),
				 (value & ~UINT64_C(0xffff000000)) | UINT64_C(0xbeef) << 24);
		driver_common_out(driver, addresses[i], 8, UINT64_C(0x1122334455667700));
		assert_int_equal(driver_common_in(driver, addresses[i] + 4, 4), 0x11223344);
	}
	driver_common_out(driver, VIRTIO_PCI_COMMON_DFSELECT, 4, 0xffffff00);
	for (unsigned int byte = 1; byte < 4; byte++)
		driver_common_out(driver, VIRTIO_PCI_COMMON_DFSELECT + byte, 1, 0);
	assert_int_equal(driver_common_in(driver, VIRTIO_PCI_COMMON_DF, 4),
			 (uint32_t)driver->offered);
	/* Two registers in one access: queue_select with queue_size behind it. */
	driver_common_out(driver, VIRTIO_PCI_COMMON_Q_SELECT, 4, 4 << 16 | test->kind->queue);
	assert_int_equal(driver_common_in(driver, VIRTIO_PCI_COMMON_Q_SIZE, 2), 4);
}

/* Nothing happens where nothing is, or where only reading is allowed. */
static void test_registers_read_only(void **state)
{
	static const struct {
		uint32_t offset;
		unsigned int size;
	} read_only[] = {
		{ VIRTIO_PCI_COMMON_DF, 4 },
		{ VIRTIO_PCI_COMMON_NUMQ, 2 },
		{ VIRTIO_PCI_COMMON_CFGGENERATION, 1 },
		{ VIRTIO_PCI_COMMON_Q_NOFF, 2 },
	};
	struct kind_case *test = kind_case_run(state);
	struct virtio_driver *driver = test->driver;

	for (unsigned int i = 0; i < ARRAY_SIZE(read_only); i++) {
		uint64_t old = driver_common_in(driver, read_only[i].offset, read_only[i].size);

		driver_common_out(driver, read_only[i].offset, read_only[i].size, ~old);
		assert_int_equal(driver_common_in(driver, read_only[i].offset, read_only[i].size),
				 old);
	}
	for (uint32_t at = COMMON_REGISTERS_LEN; at < 0x1000; at += 8)
		pci_bar_out(&driver->pci, driver->common.bar, driver->common.offset + at, 8,
			    UINT64_MAX);
	pci_bar_out(&driver->pci, driver->isr.bar, driver->isr.offset, 1, 0xff);
	assert_int_equal(driver->interface->isr(driver), 0);
	kind_request(test->kind, driver);
}

/* Device configuration beyond its end, and writes to all of it: whatever they do, nothing breaks. */
static void test_config_edges(void **state)
{
	struct kind_case *test = kind_case_run(state);
	struct virtio_driver *driver = test->driver;
	uint32_t len = driver->params.legacy ? 64 : driver->device.length;

	for (unsigned int size = 1; size <= 4; size *= 2)
		for (uint32_t at = 0; at < len + 8; at++) {
			if (driver->params.legacy &&
			    VIRTIO_PCI_CONFIG_OFF(1) + at + size > driver->pci.bar[0].size)
				continue;
			driver_config(driver, at, size);
			driver_set_config(driver, at, size, UINT32_MAX);
		}
	if (len)
		driver_set_config(driver, len - 1, 4, 0);
	driver_restart(driver);
	kind_request(test->kind, driver);
}

/* ---- Queues ---- */

static void test_queue_size(void **state)
{
	struct kind_case *test = kind_case_open(state, NULL, NULL);
	struct virtio_driver *driver = test->driver;
	uint16_t max = driver->interface->queue_size(driver, test->kind->queue), size;

	assert_true(is_power_of_2(max));
	for (size = 2; size <= max; size = (uint16_t)(size * 2)) {
		driver_set_status(driver, 0);
		driver_set_status(driver, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
		assert_int_equal(driver->interface->queue_size(driver, test->kind->queue), max);
		assert_true(driver_negotiate(driver, driver->offered));
		driver_start(driver);
		driver_set_status(driver, 0);
		driver_set_status(driver, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
		assert_true(driver_negotiate(driver, driver->offered));
		driver->interface->queue_vector(driver, test->kind->queue,
						(uint16_t)(test->kind->queue + 1));
		for (uint16_t i = 0; i < driver->queue_count; i++)
			driver_queue_setup(driver, i, i == test->kind->queue ? size : 0);
		assert_int_equal(driver->interface->queue_size(driver, test->kind->queue), size);
		driver_set_status(driver, VIRTIO_CONFIG_S_DRIVER_OK);
		for (unsigned int i = 0; i < 3U * size && i < 64; i++)
			kind_request(test->kind, driver);
	}
}

/* Sizes that no ring can have: the queue is refused, the device says so and comes back. */
static void test_queue_size_invalid(void **state)
{
	static const uint16_t sizes[] = { 0, 3, 24, 0x8001, 0xffff };
	struct kind_case *test = kind_case_open(state, NULL, NULL);
	struct virtio_driver *driver = test->driver;
	uint16_t queue = test->kind->queue;
	uint16_t max = driver->interface->queue_size(driver, queue);

	for (unsigned int i = 0; i <= ARRAY_SIZE(sizes); i++) {
		uint16_t size = i < ARRAY_SIZE(sizes) ? sizes[i] : (uint16_t)(2 * max), shown;

		assert_true(driver_negotiate(driver, driver->offered));
		driver_queue_setup(driver, queue, 0);
		driver_set_status(driver, 0);
		driver_set_status(driver, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
		assert_true(driver_negotiate(driver, driver->offered));
		driver_common_out(driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
		driver_common_out(driver, VIRTIO_PCI_COMMON_Q_SIZE, 2, size);
		shown = (uint16_t)driver_common_in(driver, VIRTIO_PCI_COMMON_Q_SIZE, 2);
		assert_true(!shown || is_power_of_2(shown));
		machine_log_clear(test->machine);
		driver_common_out(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
		assert_int_equal(driver_common_in(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
		assert_true(driver_status(driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
		assert_logged(test->machine, "cannot be enabled");
		driver_restart(driver);
		kind_request(test->kind, driver);
		driver_set_status(driver, 0);
		driver_set_status(driver, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	}
}

/* Areas that are not where they can be: the same. */
static void test_queue_areas_invalid(void **state)
{
	static const struct {
		uint32_t reg;
		uint64_t value;
	} cases[] = {
		{ VIRTIO_PCI_COMMON_Q_DESCLO, MIB(2) + 8 },
		{ VIRTIO_PCI_COMMON_Q_DESCLO, MACHINE_MEMORY },
		{ VIRTIO_PCI_COMMON_Q_DESCLO, MACHINE_MEMORY - 16 },
		{ VIRTIO_PCI_COMMON_Q_DESCLO, X86_MMIO32_BASE },
		{ VIRTIO_PCI_COMMON_Q_DESCLO, UINT64_MAX - 15 },
		{ VIRTIO_PCI_COMMON_Q_AVAILLO, MIB(2) + 1 },
		{ VIRTIO_PCI_COMMON_Q_AVAILLO, MACHINE_MEMORY - 4 },
		{ VIRTIO_PCI_COMMON_Q_AVAILLO, UINT64_MAX - 1 },
		{ VIRTIO_PCI_COMMON_Q_USEDLO, MIB(2) + 2 },
		{ VIRTIO_PCI_COMMON_Q_USEDLO, MACHINE_MEMORY - 4 },
		{ VIRTIO_PCI_COMMON_Q_USEDLO, GIB(4) },
		{ VIRTIO_PCI_COMMON_Q_USEDLO, UINT64_MAX - 3 },
	};
	struct kind_case *test = kind_case_run(state);
	struct virtio_driver *driver = test->driver;

	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		driver_set_status(driver, 0);
		driver_set_status(driver, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
		assert_true(driver_negotiate(driver, driver->offered));
		driver_common_out(driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, test->kind->queue);
		driver_common_out(driver, VIRTIO_PCI_COMMON_Q_DESCLO, 8, MIB(2));
		driver_common_out(driver, VIRTIO_PCI_COMMON_Q_AVAILLO, 8, MIB(3));
		driver_common_out(driver, VIRTIO_PCI_COMMON_Q_USEDLO, 8, MIB(4));
		driver_common_out(driver, cases[i].reg, 8, cases[i].value);
		machine_log_clear(test->machine);
		driver_common_out(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
		assert_true(driver_status(driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
		assert_int_equal(driver_common_in(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
		assert_int_equal(test->machine->captured.count, i < 10 ? 1 : 0);
		driver_config_interrupt(driver);
		assert_false(driver_config_interrupt(driver)); /* not before DRIVER_OK (2.1.2) */
		driver_restart(driver);
		kind_request(test->kind, driver);
	}
}

/* A queue that is enabled stays as it is; disabling is not for this register (4.1.4.3.2). */
static void test_queue_enable_twice(void **state)
{
	struct kind_case *test = kind_case_run(state);
	struct virtio_driver *driver = test->driver;
	uint64_t desc;

	driver_common_out(driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, test->kind->queue);
	desc = driver_common_in(driver, VIRTIO_PCI_COMMON_Q_DESCLO, 8);
	assert_int_equal(desc, test->queue->ring.desc_gpa);
	kind_request(test->kind, driver);
	driver_common_out(driver, VIRTIO_PCI_COMMON_Q_DESCLO, 8, MIB(2));
	driver_common_out(driver, VIRTIO_PCI_COMMON_Q_SIZE, 2, 2);
	driver_common_out(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	driver_common_out(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 0);
	driver_common_out(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 2);
	assert_int_equal(driver_common_in(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	assert_int_equal(driver_common_in(driver, VIRTIO_PCI_COMMON_Q_DESCLO, 8), desc);
	assert_int_equal(driver_common_in(driver, VIRTIO_PCI_COMMON_Q_SIZE, 2),
			 test->queue->ring.size);
	for (unsigned int i = 0; i < test->queue->ring.size + 3U; i++)
		kind_request(test->kind, driver);
}

/* Queues that are not there: size 0, and nothing that is done to them does anything (4.1.4.3). */
static void test_queue_absent(void **state)
{
	struct kind_case *test = kind_case_run(state);
	struct virtio_driver *driver = test->driver;
	uint16_t absent[] = { (uint16_t)driver->queue_count, 1000, 0x8000, 0xffff };

	for (unsigned int i = 0; i < ARRAY_SIZE(absent); i++) {
		assert_int_equal(driver->interface->queue_size(driver, absent[i]), 0);
		if (driver->params.legacy) {
			pci_bar_out(&driver->pci, 0, VIRTIO_PCI_QUEUE_PFN, 4, 512);
			assert_int_equal(pci_bar_in(&driver->pci, 0, VIRTIO_PCI_QUEUE_PFN, 4), 0);
		} else {
			driver_common_out(driver, VIRTIO_PCI_COMMON_Q_SIZE, 2, 4);
			driver_common_out(driver, VIRTIO_PCI_COMMON_Q_DESCLO, 8, MIB(2));
			driver_common_out(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
			assert_int_equal(driver_common_in(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2),
					 0);
			assert_int_equal(driver_common_in(driver, VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
		}
		assert_int_equal(driver->interface->queue_vector(driver, absent[i], 0), NO_VECTOR);
	}
	assert_false(driver_status(driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
	kind_request(test->kind, driver);
}

#define COMMON_TEST(function, axes) kind_tests_add(&tests, #function, function, axes)

int main(void)
{
	struct kind_tests tests = { .count = 0 };

	COMMON_TEST(test_identity, KIND_AXIS_NONE);
	COMMON_TEST(test_identity_modern, KIND_AXIS_NONE);
	COMMON_TEST(test_identity_legacy, KIND_AXIS_NONE);
	COMMON_TEST(test_capabilities, KIND_AXIS_NONE);
	COMMON_TEST(test_features_offered, KIND_AXIS_INTERFACE);
	COMMON_TEST(test_features_off, KIND_AXIS_INTERFACE);
	COMMON_TEST(test_features_refused, KIND_AXIS_NONE);
	COMMON_TEST(test_features_rewritten, KIND_AXIS_NONE);
	COMMON_TEST(test_status, KIND_AXIS_INTERFACE);
	COMMON_TEST(test_driver_ok_needs_features_ok, KIND_AXIS_NONE);
	COMMON_TEST(test_register_widths, KIND_AXIS_INTERFACE);
	COMMON_TEST(test_register_bytes, KIND_AXIS_NONE);
	COMMON_TEST(test_registers_read_only, KIND_AXIS_NONE);
	COMMON_TEST(test_config_edges, KIND_AXIS_INTERFACE);
	COMMON_TEST(test_queue_size, KIND_AXIS_NONE);
	COMMON_TEST(test_queue_size_invalid, KIND_AXIS_NONE);
	COMMON_TEST(test_queue_areas_invalid, KIND_AXIS_NONE);
	COMMON_TEST(test_queue_enable_twice, KIND_AXIS_NONE);
	COMMON_TEST(test_queue_absent, KIND_AXIS_INTERFACE);
	return kind_tests_run(&tests, "virtio common");
}
