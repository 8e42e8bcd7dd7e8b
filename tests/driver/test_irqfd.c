/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Interrupts that others send (pci_irqfd.c): whatever the driver does to vectors, MSI-X and the
 * line, a signal on a queue's call_fd becomes the notification that the device would have sent.
 */

#include "../unit/open_descriptors.h"
#include "relay_device.h"

#define OTHER_DATA 0x7001
#define QUEUE 0
#define VECTOR (QUEUE + 1)

static struct relay_bench bench_run(const struct driver_params *params)
{
	struct relay_bench bench = relay_bench_create(NULL, "vhost=on");

	bench.driver = driver_run(bench.machine, RELAY_SLOT, params, 0);
	assert_true(relay_offloaded(&bench));
	return bench;
}

static void signal_call(struct relay_bench *bench)
{
	fake_signal(bench->relay->vc.vqs[QUEUE].call_fd);
}

/* Messages with @data since the last question; the loop has run. */
static unsigned int messages(struct relay_bench *bench, uint16_t data)
{
	struct inproc *port = inproc_of(bench->machine->ctx);
	unsigned int count;

	machine_poll(bench->machine);
	count = inproc_msi_count(bench->machine->ctx, data);
	port->msi_by_data[data] = 0;
	return count;
}

static uint16_t data_of(const struct relay_bench *bench)
{
	return pci_msix_data(&bench->driver->pci, VECTOR);
}

static bool bound(struct relay_bench *bench)
{
	return inproc_irqfd_count(bench->machine->ctx) == RELAY_QUEUES;
}

static void set_msix(struct relay_bench *bench, uint16_t flags)
{
	struct pci_function *pci = &bench->driver->pci;

	pci_out(pci, pci->msix_cap + PCI_MSIX_FLAGS, 2, flags);
}

static void set_data(struct relay_bench *bench, uint32_t data)
{
	struct pci_function *pci = &bench->driver->pci;

	pci_bar_out(pci, pci->msix_table_bar,
		    pci->msix_table_offset + VECTOR * PCI_MSIX_ENTRY_SIZE + PCI_MSIX_ENTRY_DATA, 4,
		    data);
}

static void test_bound(void **state)
{
	struct relay_bench bench = bench_run(&relay_modern);

	assert_true(bound(&bench));
	messages(&bench, data_of(&bench));
	for (unsigned int i = 0; i < 3; i++) {
		unsigned int before = inproc_msi_count(bench.machine->ctx, data_of(&bench));

		signal_call(&bench);
		/* the port does it: our loop need not run */
		assert_int_equal(inproc_msi_count(bench.machine->ctx, data_of(&bench)), before + 1);
	}
	relay_bench_destroy(&bench);
}

static void test_masked(void **state)
{
	struct relay_bench bench = bench_run(&relay_modern);
	struct pci_function *pci = &bench.driver->pci;

	messages(&bench, data_of(&bench));
	for (unsigned int i = 0; i < 3; i++) {
		pci_msix_mask(pci, VECTOR, true);
		assert_int_equal(inproc_irqfd_count(bench.machine->ctx), RELAY_QUEUES - 1);
		assert_false(pci_msix_pending(pci, VECTOR));
		signal_call(&bench);
		signal_call(&bench);
		assert_true(pci_msix_pending(pci, VECTOR)); /* at once, without the loop */
		assert_int_equal(messages(&bench, data_of(&bench)), 0);
		pci_msix_mask(pci, VECTOR, false);
		assert_false(pci_msix_pending(pci, VECTOR));
		assert_int_equal(messages(&bench, data_of(&bench)), 1);
		assert_true(bound(&bench));
		signal_call(&bench);
		assert_int_equal(messages(&bench, data_of(&bench)), 1);
	}
	relay_bench_destroy(&bench);
}

/* Signalled before it was masked, and while nobody looked: not lost either way. */
static void test_signal_at_change(void **state)
{
	struct relay_bench bench = bench_run(&relay_modern);
	struct pci_function *pci = &bench.driver->pci;

	messages(&bench, data_of(&bench));
	signal_call(&bench);
	pci_msix_mask(pci, VECTOR, true);
	pci_msix_mask(pci, VECTOR, false);
	assert_true(messages(&bench, data_of(&bench)) >= 1);

	pci_msix_mask(pci, VECTOR, true);
	signal_call(&bench);
	pci_msix_mask(pci, VECTOR, false); /* the loop had no time in between */
	assert_true(messages(&bench, data_of(&bench)) >= 1);
	relay_bench_destroy(&bench);
}

static void test_function_masked(void **state)
{
	struct relay_bench bench = bench_run(&relay_modern);

	messages(&bench, data_of(&bench));
	set_msix(&bench, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	assert_int_equal(inproc_irqfd_count(bench.machine->ctx), 0);
	signal_call(&bench);
	assert_int_equal(messages(&bench, data_of(&bench)), 0);
	assert_true(pci_msix_pending(&bench.driver->pci, VECTOR));
	set_msix(&bench, PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(messages(&bench, data_of(&bench)), 1);
	assert_true(bound(&bench));
	relay_bench_destroy(&bench);
}

/* Another message, with the mask around it or, as bad drivers do, without. */
static void test_message_changes(void **state)
{
	struct relay_bench bench = bench_run(&relay_modern);
	struct pci_function *pci = &bench.driver->pci;

	messages(&bench, data_of(&bench));
	messages(&bench, OTHER_DATA);
	signal_call(&bench);
	set_data(&bench, OTHER_DATA);
	assert_int_equal(messages(&bench, data_of(&bench)), 1); /* it was signalled before */
	signal_call(&bench);
	assert_int_equal(messages(&bench, OTHER_DATA), 1);
	pci_msix_mask(pci, VECTOR, true);
	signal_call(&bench);
	set_data(&bench, data_of(&bench));
	pci_msix_mask(pci, VECTOR, false);
	assert_true(messages(&bench, data_of(&bench)) >= 1);
	assert_int_equal(messages(&bench, OTHER_DATA), 0);
	assert_true(bound(&bench));
	relay_bench_destroy(&bench);
}

static void test_vector_changes(void **state)
{
	struct relay_bench bench = bench_run(&relay_modern);
	uint16_t config = pci_msix_data(&bench.driver->pci, DRIVER_CONFIG_VECTOR);

	messages(&bench, data_of(&bench));
	messages(&bench, config);
	bench.driver->interface->queue_vector(bench.driver, QUEUE, VIRTIO_NO_VECTOR);
	signal_call(&bench);
	assert_int_equal(messages(&bench, data_of(&bench)), 0);
	assert_int_equal(inproc_irqfd_count(bench.machine->ctx), RELAY_QUEUES - 1);
	bench.driver->interface->queue_vector(bench.driver, QUEUE, DRIVER_CONFIG_VECTOR);
	signal_call(&bench);
	assert_int_equal(messages(&bench, config), 1);
	bench.driver->interface->queue_vector(bench.driver, QUEUE, 1000); /* beyond the table */
	signal_call(&bench);
	assert_int_equal(messages(&bench, config), 0);
	bench.driver->interface->queue_vector(bench.driver, QUEUE, VECTOR);
	signal_call(&bench);
	assert_int_equal(messages(&bench, data_of(&bench)), 1);
	relay_bench_destroy(&bench);
}

/* Without MSI-X it is the line, with the ISR (virtio 1.4, 4.1.5.3); and back. */
static void test_msix_off(void **state)
{
	struct relay_bench bench = bench_run(&relay_modern);
	struct vmctx *ctx = bench.machine->ctx;
	unsigned int gsi = pci_function_gsi(&bench.driver->pci);

	for (unsigned int i = 0; i < 3; i++) {
		messages(&bench, data_of(&bench));
		bench.driver->interface->isr(bench.driver);
		set_msix(&bench, 0);
		assert_int_equal(inproc_irqfd_count(ctx), 0);
		assert_false(inproc_line(ctx, gsi));
		signal_call(&bench);
		assert_int_equal(messages(&bench, data_of(&bench)), 0);
		assert_true(inproc_line(ctx, gsi));
		assert_int_equal(bench.driver->interface->isr(bench.driver), 1);
		assert_false(inproc_line(ctx, gsi));
		set_msix(&bench, PCI_MSIX_FLAGS_ENABLE);
		assert_true(bound(&bench));
		signal_call(&bench);
		assert_int_equal(messages(&bench, data_of(&bench)), 1);
	}
	relay_bench_destroy(&bench);
}

static void test_line_from_the_start(void **state)
{
	struct driver_params params = relay_modern;
	struct relay_bench bench;

	params.msix = false;
	bench = bench_run(&params);
	assert_int_equal(inproc_irqfd_count(bench.machine->ctx), 0);
	driver_queue_interrupt(driver_queue(bench.driver, QUEUE));
	signal_call(&bench);
	machine_poll(bench.machine);
	assert_true(driver_queue_interrupt(driver_queue(bench.driver, QUEUE)));
	relay_bench_destroy(&bench);
}

/* A port that has none, or no more, or cannot change one: the loop does it. */
static void test_port_without(void **state)
{
	struct relay_bench bench = bench_run(&relay_modern);
	struct inproc *port = inproc_of(bench.machine->ctx);
	struct pci_function *pci = &bench.driver->pci;

	messages(&bench, data_of(&bench));
	messages(&bench, OTHER_DATA);
	port->fail_irqfd_update = true;
	set_data(&bench, OTHER_DATA);
	assert_int_equal(inproc_irqfd_count(bench.machine->ctx), RELAY_QUEUES - 1);
	signal_call(&bench);
	assert_int_equal(messages(&bench, OTHER_DATA), 1);
	port->no_irqfds = true;
	pci_msix_mask(pci, VECTOR, true);
	signal_call(&bench);
	pci_msix_mask(pci, VECTOR, false);
	assert_int_equal(messages(&bench, OTHER_DATA), 1);
	signal_call(&bench);
	assert_int_equal(messages(&bench, OTHER_DATA), 1);
	port->no_irqfds = false;
	pci_msix_mask(pci, VECTOR, true);
	pci_msix_mask(pci, VECTOR, false);
	assert_true(bound(&bench));
	relay_bench_destroy(&bench);
}

/* What was signalled when the rings are taken back is told. */
static void test_taken_back(void **state)
{
	for (unsigned int i = 0; i < 2; i++) {
		struct driver_params params = relay_modern;
		struct relay_bench bench;

		params.msix = i;
		bench = bench_run(&params);
		driver_queue_interrupt(driver_queue(bench.driver, QUEUE));
		signal_call(&bench);
		assert_int_equal(relay_switch(&bench, false), 0);
		assert_true(driver_queue_interrupt(driver_queue(bench.driver, QUEUE)));
		assert_int_equal(inproc_irqfd_count(bench.machine->ctx), 0);
		assert_null(bench.dev->irqfds);
		relay_bench_destroy(&bench);
	}
}

/* Nothing is told after a reset, nor left to be told (virtio 1.4, 2.4.1). */
static void test_reset(void **state)
{
	struct relay_bench bench = bench_run(&relay_modern);

	machine_poll(bench.machine);
	pci_msix_mask(&bench.driver->pci, VECTOR, true);
	signal_call(&bench);
	driver_set_status(bench.driver, 0);
	assert_false(pci_msix_pending(&bench.driver->pci, VECTOR));
	assert_null(bench.dev->irqfds);
	relay_bench_destroy(&bench);
}

/* A driver that masks all day. */
static void test_storm(void **state)
{
	struct relay_bench bench = bench_run(&relay_modern);
	struct pci_function *pci = &bench.driver->pci;
	unsigned int files = open_descriptors();
	uint64_t line_count;

	messages(&bench, data_of(&bench));
	line_count = bench.machine->captured.count;
	for (unsigned int i = 0; i < 20000; i++) {
		pci_msix_mask(pci, VECTOR, i & 1);
		if (!(i % 100))
			signal_call(&bench);
	}
	pci_msix_mask(pci, VECTOR, false);
	assert_true(messages(&bench, data_of(&bench)) >= 1);
	assert_int_equal(open_descriptors(), files);
	assert_int_equal(bench.machine->captured.count, line_count);
	relay_request(&bench, QUEUE, 1);
	relay_bench_destroy(&bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bound),
		cmocka_unit_test(test_masked),
		cmocka_unit_test(test_signal_at_change),
		cmocka_unit_test(test_function_masked),
		cmocka_unit_test(test_message_changes),
		cmocka_unit_test(test_vector_changes),
		cmocka_unit_test(test_msix_off),
		cmocka_unit_test(test_line_from_the_start),
		cmocka_unit_test(test_port_without),
		cmocka_unit_test(test_taken_back),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_storm),
	};

	return cmocka_run_group_tests_name("irqfds", tests, NULL, NULL);
}
