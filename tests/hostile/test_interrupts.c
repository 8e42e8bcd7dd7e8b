/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MSI-X tables, vectors and config space in the hands of a hostile driver, for every kind of device:
 * class 13, and what a guest can write to a PCI function. What the PCI core does by itself is in
 * tests/driver/test_pci*.c.
 */
#include "hostile.h"

#define NO_VECTOR 0xffff

static void set_vector(struct hostile *hostile, uint16_t vector, uint16_t expected)
{
	assert_int_equal(hostile->driver->interface->queue_vector(hostile->driver,
								  hostile->queue->index, vector),
			 expected);
}

/* The simple request, to its end, whether an interrupt comes or not. */
static void request_quietly(struct hostile *hostile)
{
	const struct device_kind *kind = hostile->victim->kind;
	uint8_t out[KIND_REQUEST_MAX], in[KIND_REQUEST_MAX];
	uint32_t len = kind->fill(hostile->driver, out);

	assert_int_equal(driver_request(hostile->queue, &driver_layouts[0], out, len, in, kind->in),
			 kind->used);
	machine_poll(hostile->machine);
}

/* ---- Class 13 ---- */

/* Masked when it comes, delivered when it is unmasked, once (7.4, row 23). */
static void test_masked(void **state)
{
	struct hostile *hostile = hostile_run(state);
	struct pci_function *pci = &hostile->driver->pci;
	unsigned int vector = hostile->queue->index + 1U;

	for (unsigned int i = 0; i < 4; i++) {
		pci_msix_mask(pci, vector, true);
		for (unsigned int j = 0; j <= i; j++)
			request_quietly(hostile);
		assert_false(driver_queue_interrupt(hostile->queue));
		assert_true(pci_msix_pending(pci, vector));
		pci_msix_mask(pci, vector, false);
		assert_true(driver_queue_interrupt(hostile->queue));
		assert_false(pci_msix_pending(pci, vector));
		pci_msix_mask(pci, vector, true);
		pci_msix_mask(pci, vector, false);
		assert_false(driver_queue_interrupt(hostile->queue));
	}
	hostile_expect_ignored(hostile, "masked vectors");
	hostile_close(hostile);
}

static void test_function_mask(void **state)
{
	struct hostile *hostile = hostile_run(state);
	struct pci_function *pci = &hostile->driver->pci;

	pci_out(pci, pci->msix_cap + PCI_MSIX_FLAGS, 2,
		PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	request_quietly(hostile);
	assert_false(driver_queue_interrupt(hostile->queue));
	pci_out(pci, pci->msix_cap + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	assert_true(driver_queue_interrupt(hostile->queue));
	hostile_expect_ignored(hostile, "function mask");
	hostile_close(hostile);
}

/* No vector, and vectors that are not there: requests go on, only nobody hears of them. */
static void test_vectors(void **state)
{
	struct hostile *hostile = hostile_run(state);
	uint16_t count = (uint16_t)hostile->driver->pci.msix_count;
	uint16_t good = (uint16_t)(hostile->queue->index + 1);
	const uint16_t far[] = { NO_VECTOR, count, (uint16_t)(count + 1), 0x7ff, 0x800, 0x7fff,
				 0x8000,    0xfffe };

	for (unsigned int i = 0; i < ARRAY_SIZE(far); i++) {
		uint64_t messages = inproc_of(hostile->machine->ctx)->msi_count;

		set_vector(hostile, far[i], NO_VECTOR);
		assert_int_equal(hostile->driver->interface->config_vector(hostile->driver, far[i]),
				 NO_VECTOR);
		request_quietly(hostile);
		assert_int_equal(inproc_of(hostile->machine->ctx)->msi_count, messages);
		set_vector(hostile, good, good);
		hostile->driver->interface->config_vector(hostile->driver, DRIVER_CONFIG_VECTOR);
		hostile_expect_ignored(hostile, "vectors that are not there");
	}
	/* changed between a request and the next: the next interrupt is the new vector's */
	set_vector(hostile, DRIVER_CONFIG_VECTOR, DRIVER_CONFIG_VECTOR);
	request_quietly(hostile);
	assert_false(driver_queue_interrupt(hostile->queue));
	assert_true(driver_config_interrupt(hostile->driver));
	set_vector(hostile, good, good);
	hostile_expect_ignored(hostile, "vector changed");
	hostile_close(hostile);
}

/* A device that breaks without a vector to say so is still one that waits for its reset. */
static void test_broken_without_vector(void **state)
{
	struct hostile *hostile = hostile_run(state);
	struct segment segment = { UINT64_MAX - 7, 16 };

	hostile->driver->interface->config_vector(hostile->driver, NO_VECTOR);
	assert_int_equal(driver_add_buf(hostile->queue, &segment, 0, 1, &segment), 0);
	driver_kick(hostile->queue);
	machine_poll(hostile->machine);
	assert_true(hostile_needs_reset(hostile));
	assert_false(driver_config_interrupt(hostile->driver));
	hostile_one_line(hostile, "broken without a vector", "outside of RAM");
	hostile_expect_survived(hostile, "broken without a vector");
	hostile_close(hostile);
}

/* Any width at any offset of the BAR with table and pending bits, and over the end of either. */
static void test_table_accesses(void **state)
{
	struct hostile *hostile = hostile_run(state);
	struct pci_function *pci = &hostile->driver->pci;
	unsigned int bar = pci->msix_table_bar;

	for (uint64_t offset = 0; offset < pci->bar[bar].size; offset++)
		for (unsigned int size = 1; size <= 8; size++) {
			pci_bar_in(pci, bar, offset, size);
			pci_bar_out(pci, bar, offset, size, UINT64_MAX << offset % 3);
		}
	assert_false(pci_msix_pending(pci, hostile->queue->index + 1U)); /* it is read-only */
	for (unsigned int vector = 0; vector < pci->msix_count; vector++) {
		uint64_t entry = pci->msix_table_offset + vector * PCI_MSIX_ENTRY_SIZE;

		/* reserved bits are none (PCI 3.0, 6.8.2.9) */
		assert_int_equal(pci_bar_in(pci, bar, entry + PCI_MSIX_ENTRY_VECTOR_CTRL, 4) & ~1U,
				 0);
		assert_int_equal(pci_bar_in(pci, bar, entry, 4) & 3, 0);
	}
	pci_msix_setup(pci);
	driver_queue_interrupt(hostile->queue);
	driver_config_interrupt(hostile->driver);
	hostile_expect_ignored(hostile, "accesses to the vector table");
	hostile_close(hostile);
}

/* Messages to addresses that the port refuses: the requests are carried out all the same. */
static void test_messages_nowhere(void **state)
{
	struct hostile *hostile = hostile_run(state);
	struct inproc *port = inproc_of(hostile->machine->ctx);

	__atomic_store_n(&port->fail_msi, true, __ATOMIC_RELAXED);
	for (unsigned int i = 0; i < 100; i++)
		request_quietly(hostile);
	__atomic_store_n(&port->fail_msi, false, __ATOMIC_RELAXED);
	if (hostile->victim->kind->offloaded) { /* the port sends them by itself */
		hostile_expect_lines(hostile, "messages by irqfd", 0);
	} else {
		assert_in_range(hostile->machine->captured.count, 1, 10);
		assert_logged(hostile->machine, "leads nowhere");
	}
	hostile_log_clear(hostile->machine);
	hostile_expect_ignored(hostile, "messages that lead nowhere");
	hostile_close(hostile);
}

/* MSI-X on and off, MSI on and off, line on and off, in the middle of the work. */
static void test_modes(void **state)
{
	struct hostile *hostile = hostile_run(state);
	struct pci_function *pci = &hostile->driver->pci;

	for (unsigned int i = 0; i < 64; i++) {
		bool msix = i & 1, msi = i & 2, line = i & 4;

		pci_out(pci, pci->msix_cap + PCI_MSIX_FLAGS, 2,
			(msix ? PCI_MSIX_FLAGS_ENABLE : 0) | (i & 8 ? PCI_MSIX_FLAGS_MASKALL : 0));
		/* more messages than it has, and all masked */
		pci_out(pci, pci->msi_cap + PCI_MSI_FLAGS, 2,
			(msi ? PCI_MSI_FLAGS_ENABLE : 0) | PCI_MSI_FLAGS_QSIZE);
		pci_out(pci, pci->msi_cap + PCI_MSI_MASK_64, 4, i & 16 ? UINT32_MAX : 0);
		pci_command(pci, line ? 0 : PCI_COMMAND_INTX_DISABLE,
			    line ? PCI_COMMAND_INTX_DISABLE : 0);
		request_quietly(hostile);
	}
	hostile->driver->interface->isr(hostile->driver);
	pci_out(pci, pci->msi_cap + PCI_MSI_FLAGS, 2, 0);
	pci_msix_setup(pci);
	pci_command(pci, 0, PCI_COMMAND_INTX_DISABLE);
	driver_queue_interrupt(hostile->queue);
	assert_false(inproc_line(hostile->machine->ctx, pci_function_gsi(pci)));
	hostile_expect_ignored(hostile, "all kinds of interrupts");
	hostile_close(hostile);
}

/* ---- Config space ---- */

/* What nobody can write: who the device is, and what its capabilities say. */
struct identity {
	uint32_t ids, revision, subsystem;
	uint8_t capabilities, pin;
	uint16_t msix_flags;
	uint32_t msix_table, msix_pba;
};

static struct identity identity_of(struct pci_function *pci)
{
	return (struct identity) {
		.ids = pci_in(pci, PCI_VENDOR_ID, 4),
		.revision = pci_in(pci, PCI_CLASS_REVISION, 4),
		.subsystem = pci_in(pci, PCI_SUBSYSTEM_VENDOR_ID, 4),
		.capabilities = (uint8_t)pci_in(pci, PCI_CAPABILITY_LIST, 1),
		.pin = (uint8_t)pci_in(pci, PCI_INTERRUPT_PIN, 1),
		.msix_flags = pci_in(pci, pci->msix_cap + PCI_MSIX_FLAGS, 2) & 0x7ff,
		.msix_table = pci_in(pci, pci->msix_cap + PCI_MSIX_TABLE, 4),
		.msix_pba = pci_in(pci, pci->msix_cap + PCI_MSIX_PBA, 4),
	};
}

static void config_back(struct hostile *hostile)
{
	pci_reset_devices(hostile->machine->ctx);
	for (unsigned int i = 0; i < hostile->bystander_count; i++) {
		pci_function_enable(&hostile->bystanders[i].driver->pci);
		driver_restart(hostile->bystanders[i].driver);
	}
	pci_function_enable(&hostile->driver->pci);
}

/* All of config space with all ones, all zeros and patterns, in each width, odd offsets too. */
static void test_config_space(void **state)
{
	static const uint32_t values[] = { UINT32_MAX, 0, 0xaaaaaaaa, 0x55555555, 0x80000001 };
	struct hostile *hostile = hostile_run(state);
	struct pci_function *pci = &hostile->driver->pci;
	struct identity before = identity_of(pci), after;

	for (unsigned int i = 0; i < 2 * ARRAY_SIZE(values); i++) {
		pci->mechanism = i & 1 ? PCI_CF8 : PCI_ECAM;
		for (unsigned int offset = 0; offset < (i & 1 ? 256U : PCI_CFG_SIZE); offset++)
			for (unsigned int size = 1; size <= 4; size++) {
				pci_in(pci, offset, size);
				pci_out(pci, offset, size, values[i / 2]);
			}
		after = identity_of(pci);
		assert_memory_equal(&before, &after, sizeof(before));
	}
	config_back(hostile);
	hostile_expect_survived(hostile, "all of config space");
	hostile_close(hostile);
}

/* The window to the BARs (virtio 1.4, 4.1.4.9), with everything that it can be given. */
static void test_config_window(void **state)
{
	static const uint8_t bars[] = { 0, 1, 2, 3, 4, 5, 6, 7, 0x80, 0xff };
	static const uint32_t offsets[] = { 0,		1,	    2,		3,	   0xffc,
					    0x1000,	0x2000,	    0x3000,	0x3fff,	   0x4000,
					    0x7fffffff, 0x80000000, 0xfffffffc, UINT32_MAX };
	static const uint32_t lengths[] = { 0, 1, 2, 3, 4, 5, 8, 0x80000000, UINT32_MAX };
	struct hostile *hostile = hostile_run(state);
	struct pci_function *pci = &hostile->driver->pci;
	unsigned int cap = 0;

	do
		cap = pci_capability(pci, PCI_CAP_ID_VNDR, cap);
	while (cap && pci_in(pci, cap + VIRTIO_PCI_CAP_CFG_TYPE, 1) != VIRTIO_PCI_CAP_PCI_CFG);
	assert_true(cap);
	for (unsigned int i = 0; i < ARRAY_SIZE(bars) * ARRAY_SIZE(offsets) * ARRAY_SIZE(lengths);
	     i++) {
		pci_out(pci, cap + VIRTIO_PCI_CAP_BAR, 1, bars[i % ARRAY_SIZE(bars)]);
		pci_out(pci, cap + VIRTIO_PCI_CAP_OFFSET, 4,
			offsets[i / ARRAY_SIZE(bars) % ARRAY_SIZE(offsets)]);
		pci_out(pci, cap + VIRTIO_PCI_CAP_LENGTH, 4,
			lengths[i / ARRAY_SIZE(bars) / ARRAY_SIZE(offsets)]);
		for (unsigned int size = 1; size <= 4; size *= 2) {
			pci_in(pci, cap + 16, size);
			pci_out(pci, cap + 16, size, 1);
		}
	}
	config_back(hostile);
	hostile_expect_survived(hostile, "the window in config space");
	hostile_close(hostile);
}

int main(void)
{
	static struct kind_tests tests;

	kind_tests_add(&tests, "masked", test_masked, KIND_AXIS_INTERFACE);
	kind_tests_add(&tests, "function mask", test_function_mask, KIND_AXIS_INTERFACE);
	kind_tests_add(&tests, "vectors", test_vectors, KIND_AXIS_INTERFACE);
	kind_tests_add(&tests, "broken without a vector", test_broken_without_vector,
		       KIND_AXIS_INTERFACE);
	kind_tests_add(&tests, "table accesses", test_table_accesses, KIND_AXIS_INTERFACE);
	kind_tests_add(&tests, "messages nowhere", test_messages_nowhere, KIND_AXIS_INTERFACE);
	kind_tests_add(&tests, "modes", test_modes, KIND_AXIS_FORMATS);
	kind_tests_add(&tests, "config space", test_config_space, KIND_AXIS_NONE);
	kind_tests_add(&tests, "config window", test_config_window, KIND_AXIS_NONE);
	return kind_tests_run(&tests, "hostile interrupts");
}
