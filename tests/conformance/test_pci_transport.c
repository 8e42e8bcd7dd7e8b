/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio over PCI (virtio 1.4, 4.1), for every kind of device: what tests/driver/test_virtio_pci.c
 * and test_virtio_common.c leave.
 */
#include "conformance.h"

#define ISR_QUEUE 1
#define ISR_CONFIG VIRTIO_PCI_ISR_CONFIG

/* ---- Capabilities (4.1.4) ---- */

/* Each structure once, its length with all that belongs to it; what we do not have is not there. */
static void test_capability_lengths(void **state)
{
	static const uint8_t lengths[] = {
		[VIRTIO_PCI_CAP_COMMON_CFG] = sizeof(struct virtio_pci_cap),
		[VIRTIO_PCI_CAP_NOTIFY_CFG] = sizeof(struct virtio_pci_notify_cap),
		[VIRTIO_PCI_CAP_ISR_CFG] = sizeof(struct virtio_pci_cap),
		[VIRTIO_PCI_CAP_DEVICE_CFG] = sizeof(struct virtio_pci_cap),
		[VIRTIO_PCI_CAP_PCI_CFG] = sizeof(struct virtio_pci_cfg_cap),
	};
	struct kind_case *test = kind_case_open(state, NULL, NULL);
	struct pci_function *pci = &test->driver->pci;
	unsigned int seen[ARRAY_SIZE(lengths)] = { 0 }, at = 0;

	while ((at = pci_capability(pci, PCI_CAP_ID_VNDR, at))) {
		uint32_t type = pci_in(pci, at + VIRTIO_PCI_CAP_CFG_TYPE, 1);

		assert_true(type < ARRAY_SIZE(lengths) && lengths[type]);
		assert_int_equal(pci_in(pci, at + VIRTIO_PCI_CAP_LEN, 1), lengths[type]);
		seen[type]++;
	}
	for (unsigned int type = 1; type < ARRAY_SIZE(lengths); type++) {
		bool none = type == VIRTIO_PCI_CAP_DEVICE_CFG && !clause_config_len(test);

		assert_int_equal(seen[type], none ? 0 : 1);
	}
}

/* Alignment and room for NOTIFICATION_DATA, which is offered: 4 bytes a queue. */
static void test_notification_structure(void **state)
{
	struct kind_case *test = kind_case_open(state, NULL, NULL);
	struct virtio_driver *driver = test->driver;
	uint32_t multiplier = driver->notify_multiplier;

	assert_true(driver->offered & BIT64(VIRTIO_F_NOTIFICATION_DATA));
	assert_int_equal(driver->notify.offset % 4, 0);
	assert_true(!multiplier || (is_power_of_2(multiplier) && multiplier % 4 == 0));
	for (uint16_t i = 0; i < driver->queue_count; i++) {
		uint64_t offset;

		driver_common_out(driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, i);
		offset = driver_common_in(driver, VIRTIO_PCI_COMMON_Q_NOFF, 2);
		assert_true(offset * multiplier + 4 <= driver->notify.length);
	}
}

/* One vector a queue and one for configuration changes: of more no driver has any use. */
static void test_vector_count(void **state)
{
	struct kind_case *test = kind_case_open(state, NULL, NULL);
	struct pci_function *pci = &test->driver->pci;

	assert_true(pci->msix_count >= 2 && pci->msix_count <= 0x800);
	assert_int_equal(pci->msix_count, test->driver->queue_count + 1);
}

/* ---- Changes of the configuration (4.1.4.3.1, 4.1.4.5.1, 4.1.5.4) ---- */

static void change_config(struct kind_case *test)
{
	struct virtio_common *vc = clause_device(test);

	pthread_mutex_lock(vc->lock);
	virtio_config_changed(vc);
	pthread_mutex_unlock(vc->lock);
}

static void test_generation(void **state)
{
	struct kind_case *test = kind_case_run(state);
	uint64_t old = driver_common_in(test->driver, VIRTIO_PCI_COMMON_CFGGENERATION, 1);

	for (unsigned int i = 0; i < 300; i++) {
		uint64_t now;

		change_config(test);
		now = driver_common_in(test->driver, VIRTIO_PCI_COMMON_CFGGENERATION, 1);
		assert_int_not_equal(now, old);
		old = now;
	}
}

/* The ISR says so, with the line and with MSI-X; the line follows the ISR, and PCI's status the line. */
static void test_isr_config(void **state)
{
	struct kind_case *test = kind_case_run(state);
	struct virtio_driver *driver = test->driver;
	unsigned int gsi = pci_function_gsi(&driver->pci);

	for (unsigned int i = 0; i < 3; i++) {
		change_config(test);
		if (driver->params.msix) {
			assert_true(driver_config_interrupt(driver));
			assert_false(inproc_line(test->machine->ctx, gsi));
		} else {
			assert_true(inproc_line(test->machine->ctx, gsi));
			assert_true(pci_in(&driver->pci, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
		}
		assert_int_equal(driver->interface->isr(driver), ISR_CONFIG);
		assert_int_equal(driver->interface->isr(driver), 0);
		assert_false(inproc_line(test->machine->ctx, gsi));
		assert_false(pci_in(&driver->pci, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	}
}

/* Both bits at once are one interrupt, read and cleared together. */
static void test_isr_both(void **state)
{
	struct kind_case *test = kind_case_run(state);
	struct virtio_driver *driver = test->driver;
	struct kind_buffer buffer;

	change_config(test);
	assert_true(clause_add(test, &buffer, test));
	driver_kick(test->queue);
	assert_ptr_equal(driver_wait_buf(test->queue, NULL, DRIVER_TIMEOUT_MS), test);
	assert_int_equal(driver->interface->isr(driver), ISR_QUEUE | ISR_CONFIG);
	assert_int_equal(driver->interface->isr(driver), 0);
	assert_false(pci_in(&driver->pci, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
}

/* Without a vector nobody is interrupted by a change, not even by the line. */
static void test_config_without_vector(void **state)
{
	struct kind_case *test = kind_case_run(state);
	struct virtio_driver *driver = test->driver;
	uint64_t messages;

	assert_int_equal(driver->interface->config_vector(driver, VIRTIO_NO_VECTOR),
			 VIRTIO_NO_VECTOR);
	messages = inproc_of(test->machine->ctx)->msi_count;
	change_config(test);
	assert_int_equal(inproc_of(test->machine->ctx)->msi_count, messages);
	assert_false(inproc_line(test->machine->ctx, pci_function_gsi(&driver->pci)));
	kind_request(test->kind, driver); /* queues have theirs */
}

/* Before DRIVER_OK nobody is told. */
static void test_config_before_driver_ok(void **state)
{
	struct kind_case *test = kind_case_open(state, NULL, NULL);

	assert_true(driver_negotiate(test->driver, test->driver->offered));
	clause_vectors(test->driver);
	change_config(test);
	assert_false(clause_interrupted(test->driver));
}

/* ---- Legacy drivers (3.1.2, 4.1.4.10) ---- */

/* They have no FEATURES_OK and may use queues before DRIVER_OK. */
static void test_legacy_before_driver_ok(void **state)
{
	struct kind_case *test = kind_case_open(state, NULL, NULL);
	struct kind_buffer buffer;

	assert_true(driver_negotiate(test->driver,
				     test->driver->offered & ~BIT64(VIRTIO_F_NOTIFY_ON_EMPTY)));
	clause_vectors(test->driver);
	clause_queues(test->driver);
	assert_true(clause_add(test, &buffer, test));
	driver_kick(test->queue);
	assert_ptr_equal(driver_wait_buf(test->queue, NULL, DRIVER_TIMEOUT_MS), test);
	assert_true(driver_queue_interrupt(test->queue));
	driver_set_status(test->driver, VIRTIO_CONFIG_S_DRIVER_OK);
	kind_request(test->kind, test->driver);
}

/* One driver after the other: which interface it uses is what counts, after each reset anew. */
static void test_interfaces_take_turns(void **state)
{
	struct kind_case *test = *state;
	struct driver_params legacy, modern;

	legacy = modern = test->params;
	modern.legacy = false;
	kind_case_run(state);
	for (unsigned int round = 0; round < 4; round++) {
		kind_request(test->kind, test->driver);
		driver_set_status(test->driver, 0);
		driver_close(test->driver);
		test->driver = driver_run(test->machine, KIND_SLOT, round % 2 ? &legacy : &modern,
					  BIT64(VIRTIO_F_NOTIFY_ON_EMPTY));
		assert_int_equal(clause_device(test)->legacy_driver, round % 2);
	}
	assert_false(virtio_has_feature(clause_device(test), VIRTIO_F_VERSION_1));
}

/*
 * A driver that takes the bus away is left alone until it gives it back, or resets the device: all
 * that Linux does about its devices before kexec, if their drivers do nothing.
 */
static void test_bus_master(void **state)
{
	struct kind_case *test = kind_case_run(state);
	struct pci_function *pci = &test->driver->pci;
	struct kind_buffer buffer;

	for (unsigned int round = 0; round < 3; round++) {
		kind_request(test->kind, test->driver);
		clause_interrupted(test->driver);
		pci_command(pci, 0, PCI_COMMAND_MASTER);
		assert_true(clause_add(test, &buffer, test));
		driver_kick(test->queue);
		machine_poll(test->machine);
		pci_quiesce_devices(test->machine->ctx);
		pci_resume_devices(test->machine->ctx);
		machine_poll(test->machine);
		assert_false(driver_pending(test->queue));
		assert_true(kind_buffer_untouched(&buffer, test->machine));
		assert_false(clause_interrupted(test->driver));
		pci_quiesce_devices(test->machine->ctx);
		pci_command(pci, PCI_COMMAND_MASTER, 0);
		machine_poll(test->machine);
		assert_false(driver_pending(test->queue)); /* the VM's stop holds */
		pci_resume_devices(test->machine->ctx);
		assert_ptr_equal(driver_wait_buf(test->queue, NULL, DRIVER_TIMEOUT_MS), test);
	}
	/* Who never sets the bit, as old drivers do, is served as well. */
	pci_command(pci, 0, PCI_COMMAND_MASTER);
	driver_restart(test->driver);
	kind_request(test->kind, test->driver);
}

static bool for_line(const struct driver_params *params)
{
	return !params->msix;
}

int main(void)
{
	static const struct clause_test tests[] = {
		{ "capability lengths", test_capability_lengths, KIND_AXIS_NONE, NULL },
		{ "notification structure", test_notification_structure, KIND_AXIS_NONE, NULL },
		{ "vector count", test_vector_count, KIND_AXIS_INTERFACE, NULL },
		{ "config generation", test_generation, KIND_AXIS_NONE, NULL },
		{ "ISR configuration bit", test_isr_config, KIND_AXIS_ALL, NULL },
		{ "ISR both bits", test_isr_both, KIND_AXIS_ALL, for_line },
		{ "config change without vector", test_config_without_vector, KIND_AXIS_INTERFACE,
		  NULL },
		{ "config change before DRIVER_OK", test_config_before_driver_ok, KIND_AXIS_ALL,
		  NULL },
		{ "legacy queues before DRIVER_OK", test_legacy_before_driver_ok, KIND_AXIS_LEGACY,
		  NULL },
		{ "bus master", test_bus_master, KIND_AXIS_ALL, NULL },
		{ "interfaces take turns", test_interfaces_take_turns, KIND_AXIS_LEGACY, NULL },
	};

	return clause_tests_run(tests, ARRAY_SIZE(tests), "PCI transport", NULL);
}
