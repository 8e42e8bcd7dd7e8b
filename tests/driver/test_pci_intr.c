/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * INTx, MSI and MSI-X as a guest sees them.
 */
#include "test_function.h"

/* Slots 2 and 10 are wired to the same GSI, slot 3 to another. */
struct bench {
	struct machine *machine;
	struct vmctx *ctx;
	struct pci_vdev *dev, *sharer, *other;
	struct pci_function pci, pci_sharer, pci_other;
};

static int bench_setup(void **state)
{
	struct bench *bench = calloc(1, sizeof(*bench));

	assert_non_null(bench);
	bench->machine = machine_create(NULL);
	bench->ctx = bench->machine->ctx;
	bench->dev = machine_add(bench->machine, "2,test-function");
	bench->other = machine_add(bench->machine, "3,test-function");
	bench->sharer = machine_add(bench->machine, "10,test-function");
	assert_true(pci_function_open(&bench->pci, bench->machine, PCI_CF8, 2, 0));
	assert_true(pci_function_open(&bench->pci_other, bench->machine, PCI_CF8, 3, 0));
	assert_true(pci_function_open(&bench->pci_sharer, bench->machine, PCI_ECAM, 10, 0));
	pci_function_enable(&bench->pci);
	pci_function_enable(&bench->pci_sharer);
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

static bool line_of(struct bench *bench, const struct pci_function *pci)
{
	return inproc_line(bench->ctx, pci_function_gsi(pci));
}

static bool status_of(struct pci_function *pci)
{
	return pci_in(pci, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT;
}

/* The last message, of which there must be @count so far. */
static struct hv_msi last_msi(struct bench *bench, uint64_t count)
{
	struct inproc *port = inproc_of(bench->ctx);

	assert_int_equal(port->msi_count, count);
	return port->msis[(count - 1) % INPROC_MSIS];
}

/* ---- INTx ---- */

static void test_intx_level(void **state)
{
	struct bench *bench = *state;
	unsigned int gsi = pci_function_gsi(&bench->pci);

	assert_int_equal(pci_in(&bench->pci, PCI_INTERRUPT_PIN, 1), 1);
	assert_int_equal(pci_in(&bench->pci, PCI_INTERRUPT_LINE, 1), gsi);
	assert_false(status_of(&bench->pci));
	test_intx(bench->dev, true);
	test_intx(bench->dev, true);
	assert_true(line_of(bench, &bench->pci));
	assert_true(status_of(&bench->pci));
	assert_false(line_of(bench, &bench->pci_other));
	test_intx(bench->dev, false);
	assert_false(line_of(bench, &bench->pci));
	assert_false(status_of(&bench->pci));
	test_intx(bench->dev, false);
	assert_int_equal(inproc_of(bench->ctx)->rises[gsi], 1);
}

static void test_intx_shared(void **state)
{
	struct bench *bench = *state;
	unsigned int gsi = pci_function_gsi(&bench->pci);

	assert_int_equal(gsi, pci_function_gsi(&bench->pci_sharer));
	assert_int_not_equal(gsi, pci_function_gsi(&bench->pci_other));
	test_intx(bench->dev, true);
	test_intx(bench->sharer, true);
	assert_int_equal(inproc_of(bench->ctx)->rises[gsi], 1);
	test_intx(bench->dev, false);
	assert_true(line_of(bench, &bench->pci)); /* the other one still wants it */
	assert_false(status_of(&bench->pci));
	assert_true(status_of(&bench->pci_sharer));
	test_intx(bench->dev, true);
	test_intx(bench->sharer, false);
	assert_true(line_of(bench, &bench->pci));
	test_intx(bench->dev, false);
	assert_false(line_of(bench, &bench->pci));
	assert_int_equal(inproc_of(bench->ctx)->rises[gsi], 1);
}

/* The status bit tells of the interrupt even while the line is not driven (PCI 3.0, 6.2.3). */
static void test_intx_disable(void **state)
{
	struct bench *bench = *state;

	test_intx(bench->dev, true);
	pci_command(&bench->pci, PCI_COMMAND_INTX_DISABLE, 0);
	assert_false(line_of(bench, &bench->pci));
	assert_true(status_of(&bench->pci));
	pci_command(&bench->pci, 0, PCI_COMMAND_INTX_DISABLE);
	assert_true(line_of(bench, &bench->pci));
	pci_command(&bench->pci, PCI_COMMAND_INTX_DISABLE, 0);
	test_intx(bench->dev, false);
	pci_command(&bench->pci, 0, PCI_COMMAND_INTX_DISABLE);
	assert_false(line_of(bench, &bench->pci));
}

/* While MSI or MSI-X is on, the line is not used. */
static void test_intx_or_messages(void **state)
{
	struct bench *bench = *state;
	unsigned int flags[] = { bench->pci.msi_cap + PCI_MSI_FLAGS,
				 bench->pci.msix_cap + PCI_MSIX_FLAGS };
	uint16_t enable[] = { PCI_MSI_FLAGS_ENABLE, PCI_MSIX_FLAGS_ENABLE };

	for (unsigned int i = 0; i < ARRAY_SIZE(flags); i++) {
		test_intx(bench->dev, true);
		assert_true(line_of(bench, &bench->pci));
		pci_out(&bench->pci, flags[i], 2, enable[i]);
		assert_false(line_of(bench, &bench->pci));
		pci_out(&bench->pci, flags[i], 2, 0);
		assert_true(line_of(bench, &bench->pci));
		test_intx(bench->dev, false);
	}
	assert_int_equal(inproc_of(bench->ctx)->msi_count, 0);
}

/* ---- MSI ---- */

static void msi_setup(struct pci_function *pci, unsigned int log2_count)
{
	unsigned int cap = pci->msi_cap;

	pci_out(pci, cap + PCI_MSI_ADDRESS_LO, 4, MSI_ADDRESS | 0x3003);
	pci_out(pci, cap + PCI_MSI_ADDRESS_HI, 4, 0x12);
	pci_out(pci, cap + PCI_MSI_DATA_64, 2, 0x4567);
	pci_out(pci, cap + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | log2_count << 4);
}

static void test_msi_capability(void **state)
{
	struct bench *bench = *state;
	struct pci_function *pci = &bench->pci;
	unsigned int cap = pci->msi_cap;

	assert_int_equal(pci_in(pci, cap + PCI_MSI_FLAGS, 2),
			 PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_MASKBIT | 3 << 1);
	assert_int_equal(test_msi(bench->dev, 0), -EINVAL); /* off */
	pci_out(pci, cap + PCI_MSI_FLAGS, 2, 0xffff);
	assert_int_equal(pci_in(pci, cap + PCI_MSI_FLAGS, 2),
			 PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_MASKBIT | 3 << 1 |
				 PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE);
	pci_out(pci, cap + PCI_MSI_MASK_64, 4, UINT32_MAX);
	assert_int_equal(pci_in(pci, cap + PCI_MSI_MASK_64, 4), 0xff);
	pci_out(pci, cap + PCI_MSI_PENDING_64, 4, UINT32_MAX);
	assert_int_equal(pci_in(pci, cap + PCI_MSI_PENDING_64, 4), 0);
	assert_int_equal(test_msi(bench->dev, TEST_MSI_COUNT), -EINVAL);
}

static void test_msi_data(void **state)
{
	/* messages allotted as a power of two; what 7 becomes then (PCI 3.0, 6.8.1.6) */
	static const struct {
		unsigned int log2_count, index;
		uint32_t data;
	} cases[] = {
		{ 0, 0, 0x4567 }, { 0, 7, 0x4567 }, { 1, 0, 0x4566 }, { 1, 7, 0x4567 },
		{ 2, 5, 0x4565 }, { 3, 0, 0x4560 }, { 3, 6, 0x4566 }, { 7, 6, 0x4566 },
	};
	struct bench *bench = *state;

	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		struct hv_msi msi;

		msi_setup(&bench->pci, cases[i].log2_count);
		assert_int_equal(test_msi(bench->dev, cases[i].index), 0);
		msi = last_msi(bench, i + 1);
		assert_int_equal(msi.addr, UINT64_C(0x1200000000) | MSI_ADDRESS | 0x3000);
		assert_int_equal(msi.data, cases[i].data);
	}
}

static void test_msi_mask(void **state)
{
	struct bench *bench = *state;
	struct pci_function *pci = &bench->pci;
	unsigned int mask = pci->msi_cap + PCI_MSI_MASK_64;
	unsigned int pending = pci->msi_cap + PCI_MSI_PENDING_64;

	msi_setup(pci, 3);
	pci_out(pci, mask, 4, 0x0c);
	assert_int_equal(test_msi(bench->dev, 2), 0);
	assert_int_equal(test_msi(bench->dev, 2), 0);
	assert_int_equal(test_msi(bench->dev, 3), 0);
	assert_int_equal(pci_in(pci, pending, 4), 0x0c);
	assert_int_equal(inproc_of(bench->ctx)->msi_count, 0);
	assert_int_equal(test_msi(bench->dev, 1), 0);
	assert_int_equal(last_msi(bench, 1).data, 0x4561);

	pci_out(pci, mask, 1, 0x08); /* one is unmasked and comes once */
	assert_int_equal(last_msi(bench, 2).data, 0x4562);
	assert_int_equal(pci_in(pci, pending, 4), 0x08);
	pci_out(pci, mask, 4, 0);
	assert_int_equal(last_msi(bench, 3).data, 0x4563);
	assert_int_equal(pci_in(pci, pending, 4), 0);
	pci_out(pci, mask, 4, 0);
	last_msi(bench, 3);
}

/* ---- MSI-X ---- */

static void test_msix_capability(void **state)
{
	struct bench *bench = *state;
	struct pci_function *pci = &bench->pci;

	assert_int_equal(pci->msix_count, TEST_MSIX_COUNT);
	assert_int_equal(pci->msix_table_bar, TEST_MSIX);
	assert_int_equal(pci->msix_pba_bar, TEST_MSIX);
	assert_int_equal(pci->msix_table_offset, 0);
	assert_true(pci->msix_pba_offset >= TEST_MSIX_COUNT * 16);
	assert_true(pci->msix_pba_offset + 16 <= pci->bar[TEST_MSIX].size);
	assert_int_equal(test_msix(bench->dev, 0), -EINVAL); /* off */
	pci_out(pci, pci->msix_cap + PCI_MSIX_FLAGS, 2, 0xffff);
	assert_int_equal(pci_in(pci, pci->msix_cap + PCI_MSIX_FLAGS, 2),
			 PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL | (TEST_MSIX_COUNT - 1));
	assert_int_equal(test_msix(bench->dev, TEST_MSIX_COUNT), -EINVAL);
}

/* The table keeps what is written in any width; reserved bits read as 0 (PCI 3.0, 6.8.2.9). */
static void test_msix_table(void **state)
{
	struct bench *bench = *state;
	struct pci_function *pci = &bench->pci;
	const uint64_t entry = 5 * 16;

	for (unsigned int i = 0; i < TEST_MSIX_COUNT; i++)
		assert_int_equal(pci_bar_in(pci, TEST_MSIX, i * 16 + 12, 4), 1); /* masked */
	pci_bar_out(pci, TEST_MSIX, entry, 8, UINT64_C(0x11223344fee05557));
	assert_int_equal(pci_bar_in(pci, TEST_MSIX, entry, 8), UINT64_C(0x11223344fee05554));
	pci_bar_out(pci, TEST_MSIX, entry + 8, 8, UINT64_C(0xfffffffe55667788));
	assert_int_equal(pci_bar_in(pci, TEST_MSIX, entry + 8, 8), 0x55667788);
	for (unsigned int i = 0; i < 4; i++)
		pci_bar_out(pci, TEST_MSIX, entry + 8 + i, 1, 0x10 + i);
	assert_int_equal(pci_bar_in(pci, TEST_MSIX, entry + 8, 4), 0x13121110);
	assert_int_equal(pci_bar_in(pci, TEST_MSIX, entry + 9, 2), 0x1211);
	pci_bar_out(pci, TEST_MSIX, entry + 10, 2, 0xabcd);
	assert_int_equal(pci_bar_in(pci, TEST_MSIX, entry + 8, 4), 0xabcd1110);
	/* Neighbours are untouched, so is what lies between the table and the pending bits. */
	assert_int_equal(pci_bar_in(pci, TEST_MSIX, entry - 16, 8), 0);
	assert_int_equal(pci_bar_in(pci, TEST_MSIX, entry + 16, 8), 0);
	pci_bar_out(pci, TEST_MSIX, TEST_MSIX_COUNT * 16, 8, UINT64_MAX);
	assert_int_equal(pci_bar_in(pci, TEST_MSIX, TEST_MSIX_COUNT * 16, 8), 0);
	pci_bar_out(pci, TEST_MSIX, TEST_MSIX_COUNT * 16 - 4, 8, UINT64_MAX);
	assert_int_equal(pci_bar_in(pci, TEST_MSIX, pci->bar[TEST_MSIX].size - 8, 8), 0);
}

static void test_msix_deliver(void **state)
{
	struct bench *bench = *state;

	pci_msix_setup(&bench->pci);
	for (unsigned int i = 0; i < TEST_MSIX_COUNT; i++) {
		assert_int_equal(test_msix(bench->dev, i), 0);
		assert_int_equal(last_msi(bench, i + 1).data, pci_msix_data(&bench->pci, i));
		assert_int_equal(last_msi(bench, i + 1).addr, MSI_ADDRESS);
		assert_false(pci_msix_pending(&bench->pci, i));
	}
	pci_out(&bench->pci, bench->pci.msix_cap + PCI_MSIX_FLAGS, 2, 0);
	assert_int_equal(test_msix(bench->dev, 0), -EINVAL);
	last_msi(bench, TEST_MSIX_COUNT);
}

static void test_msix_vector_mask(void **state)
{
	static const unsigned int vectors[] = { 0, 1, 63, 64, 69 };
	struct bench *bench = *state;
	struct pci_function *pci = &bench->pci;

	pci_msix_setup(pci);
	for (unsigned int i = 0; i < ARRAY_SIZE(vectors); i++) {
		unsigned int vector = vectors[i];

		pci_msix_mask(pci, vector, true);
		assert_int_equal(test_msix(bench->dev, vector), 0);
		assert_int_equal(test_msix(bench->dev, vector), 0);
		assert_int_equal(inproc_of(bench->ctx)->msi_count, i);
		for (unsigned int j = 0; j < TEST_MSIX_COUNT; j++)
			assert_int_equal(pci_msix_pending(pci, j), j == vector);
		/* the pending bits are read-only */
		pci_bar_out(pci, TEST_MSIX, pci->msix_pba_offset, 8, 0);
		pci_bar_out(pci, TEST_MSIX, pci->msix_pba_offset + 8, 4, 0);
		assert_true(pci_msix_pending(pci, vector));
		assert_int_equal(pci_bar_in(pci, TEST_MSIX, pci->msix_pba_offset + vector / 8, 1),
				 1 << vector % 8);

		/* Changed while masked: the new data is what comes. */
		pci_bar_out(pci, TEST_MSIX, vector * 16 + 8, 4, 0x7700 + vector);
		pci_msix_mask(pci, vector, false);
		assert_int_equal(last_msi(bench, i + 1).data, 0x7700 + vector);
		assert_false(pci_msix_pending(pci, vector));
		pci_msix_mask(pci, vector, true);
		pci_msix_mask(pci, vector, false);
		last_msi(bench, i + 1);
	}
}

static void test_msix_function_mask(void **state)
{
	struct bench *bench = *state;
	struct pci_function *pci = &bench->pci;
	unsigned int flags = pci->msix_cap + PCI_MSIX_FLAGS;

	pci_msix_setup(pci);
	pci_out(pci, flags, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	pci_msix_mask(pci, 7, true);
	assert_int_equal(test_msix(bench->dev, 7), 0);
	assert_int_equal(test_msix(bench->dev, 8), 0);
	assert_int_equal(test_msix(bench->dev, 66), 0);
	assert_int_equal(inproc_of(bench->ctx)->msi_count, 0);
	assert_true(pci_msix_pending(pci, 7) && pci_msix_pending(pci, 8));
	pci_msix_mask(pci, 8, true);
	pci_msix_mask(pci, 8, false); /* the function is still masked */
	assert_int_equal(inproc_of(bench->ctx)->msi_count, 0);
	assert_true(pci_msix_pending(pci, 8));

	pci_out(pci, flags + 1, 1, PCI_MSIX_FLAGS_ENABLE >> 8); /* only the high byte */
	last_msi(bench, 2);
	assert_int_equal(inproc_msi_count(bench->ctx, pci_msix_data(pci, 8)), 1);
	assert_int_equal(inproc_msi_count(bench->ctx, pci_msix_data(pci, 66)), 1);
	assert_true(pci_msix_pending(pci, 7));
	assert_false(pci_msix_pending(pci, 8));
	pci_msix_mask(pci, 7, false);
	assert_int_equal(last_msi(bench, 3).data, pci_msix_data(pci, 7));
}

/* Pending and switched off: comes when it is switched on again, or not at all after a reset. */
static void test_msix_off_and_on(void **state)
{
	struct bench *bench = *state;
	struct pci_function *pci = &bench->pci;

	pci_msix_setup(pci);
	pci_msix_mask(pci, 3, true);
	assert_int_equal(test_msix(bench->dev, 3), 0);
	pci_out(pci, pci->msix_cap + PCI_MSIX_FLAGS, 2, 0);
	pci_msix_mask(pci, 3, false);
	assert_int_equal(inproc_of(bench->ctx)->msi_count, 0);
	pci_out(pci, pci->msix_cap + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(last_msi(bench, 1).data, pci_msix_data(pci, 3));
	pci_msix_mask(pci, 3, true);
	assert_int_equal(test_msix(bench->dev, 3), 0);
	pci_reset_devices(bench->ctx);
	pci_function_enable(pci);
	pci_msix_setup(pci);
	last_msi(bench, 1);
}

#define BENCH_TEST(function) cmocka_unit_test_setup_teardown(function, bench_setup, bench_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BENCH_TEST(test_intx_level),	   BENCH_TEST(test_intx_shared),
		BENCH_TEST(test_intx_disable),	   BENCH_TEST(test_intx_or_messages),
		BENCH_TEST(test_msi_capability),   BENCH_TEST(test_msi_data),
		BENCH_TEST(test_msi_mask),	   BENCH_TEST(test_msix_capability),
		BENCH_TEST(test_msix_table),	   BENCH_TEST(test_msix_deliver),
		BENCH_TEST(test_msix_vector_mask), BENCH_TEST(test_msix_function_mask),
		BENCH_TEST(test_msix_off_and_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
