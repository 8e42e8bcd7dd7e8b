/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Device suspend (virtio 1.4, 3.4.2), for every kind of device.
 */
#include <unistd.h>

#include "conformance.h"

#define SUSPEND VIRTIO_CONFIG_S_SUSPEND

static struct kind_case *run(void **state)
{
	return clause_run(state, NULL, BIT64(VIRTIO_F_SUSPEND));
}

/* Interfaces write what is given: the bits that are set already stay the driver's business. */
static void write_status(struct virtio_driver *driver, uint8_t status)
{
	driver->interface->set_status(driver, status);
}

static void suspend(struct kind_case *test)
{
	write_status(test->driver, driver_status(test->driver) | SUSPEND);
	assert_int_equal(driver_status(test->driver) & (SUSPEND | VIRTIO_CONFIG_S_DRIVER_OK),
			 SUSPEND);
	assert_false(clause_broken(test->driver));
}

/* DRIVER_OK makes it run again, whether SUSPEND is written too or not. */
static void resume(struct kind_case *test, bool with_suspend)
{
	uint8_t status = driver_status(test->driver) | VIRTIO_CONFIG_S_DRIVER_OK;

	write_status(test->driver, with_suspend ? status : status & (uint8_t)~SUSPEND);
	assert_int_equal(driver_status(test->driver) & (SUSPEND | VIRTIO_CONFIG_S_DRIVER_OK),
			 VIRTIO_CONFIG_S_DRIVER_OK);
	assert_false(clause_broken(test->driver));
}

/* Before the device is initialised SUSPEND is ignored, at every step. */
static void test_ignored_before_driver_ok(void **state)
{
	struct kind_case *test = *state;
	struct virtio_driver *driver;

	test->params.extra = BIT64(VIRTIO_F_SUSPEND);
	kind_case_open(state, NULL, NULL);
	driver = test->driver;
	write_status(driver, driver_status(driver) | SUSPEND);
	assert_int_equal(driver_status(driver) & SUSPEND, 0);
	assert_true(driver_negotiate(driver, driver->offered));
	write_status(driver, driver_status(driver) | SUSPEND);
	assert_int_equal(driver_status(driver) & SUSPEND, 0);
	clause_queues(driver);
	write_status(driver, driver_status(driver) | SUSPEND);
	assert_int_equal(driver_status(driver) & SUSPEND, 0);
	clause_comes_back(test);
}

static void test_ignored_without_feature(void **state)
{
	struct kind_case *test = kind_case_run(state);

	write_status(test->driver, driver_status(test->driver) | SUSPEND);
	assert_int_equal(driver_status(test->driver) & (SUSPEND | VIRTIO_CONFIG_S_DRIVER_OK),
			 VIRTIO_CONFIG_S_DRIVER_OK);
	kind_request(test->kind, test->driver);
}

/* While it is suspended nothing is used and nobody interrupted; then all of it happens. */
static void test_suspend_resume(void **state)
{
	struct kind_case *test = run(state);

	for (unsigned int round = 0; round < 4; round++) {
		struct kind_buffer buffer;

		kind_request(test->kind, test->driver);
		clause_interrupted(test->driver);
		suspend(test);
		assert_true(clause_add(test, &buffer, test));
		driver_kick(test->queue);
		test->driver->interface->notify(test->driver, test->queue);
		machine_poll(test->machine);
		assert_false(driver_pending(test->queue));
		assert_true(kind_buffer_untouched(&buffer, test->machine));
		assert_false(clause_interrupted(test->driver));
		resume(test, round & 1);
		assert_ptr_equal(driver_wait_buf(test->queue, NULL, DRIVER_TIMEOUT_MS), test);
		assert_true(driver_queue_interrupt(test->queue));
	}
}

/* What it has begun when SUSPEND is written is done, shown and told when SUSPEND reads as 1. */
static void test_work_is_finished(void **state)
{
	struct kind_case *test = run(state);
	unsigned int added = 0, used = 0;
	struct kind_buffer buffer;

	while (clause_add(test, &buffer, test))
		added++;
	driver_kick(test->queue);
	if (!test->params.ioeventfd)
		machine_poll(test->machine);
	suspend(test);
	if (driver_pending(test->queue))
		assert_true(driver_queue_interrupt(test->queue));
	driver_disable_cb(test->queue);
	while (driver_get_buf(test->queue, NULL))
		used++;
	usleep(500);
	machine_poll(test->machine);
	assert_false(driver_pending(test->queue));
	assert_false(clause_interrupted(test->driver));
	resume(test, false);
	for (; used < added; used++)
		assert_ptr_equal(driver_wait_buf(test->queue, NULL, DRIVER_TIMEOUT_MS), test);
}

/* Writes to the configuration space are ignored; the status is not part of that. */
static void test_config_writes_ignored(void **state)
{
	struct kind_case *test = run(state);
	uint8_t before[CONFIG_BYTES_MAX], after[CONFIG_BYTES_MAX];

	clause_config(test, before);
	clause_interrupted(test->driver);
	suspend(test);
	for (uint32_t i = 0; i < clause_config_len(test); i++) {
		driver_set_config(test->driver, i, 1, 0xff);
		driver_set_config(test->driver, i, 1, 0); /* what is a switch is off then */
	}
	clause_config(test, after);
	assert_memory_equal(before, after, sizeof(before));
	resume(test, false);
	clause_config(test, after);
	if (!driver_config_interrupt(test->driver)) /* else the device has news of its own */
		assert_memory_equal(before, after, sizeof(before));
	kind_request(test->kind, test->driver);
}

static uint8_t generation(struct virtio_driver *driver)
{
	return (uint8_t)driver_common_in(driver, VIRTIO_PCI_COMMON_CFGGENERATION, 1);
}

/* The host changes something: the driver sees it, and is told, when the device runs again. */
static void test_config_change_is_held(void **state)
{
	struct kind_case *test = run(state);
	struct virtio_common *vc = clause_device(test);
	uint8_t before[CONFIG_BYTES_MAX], after[CONFIG_BYTES_MAX], old;

	clause_config(test, before);
	old = generation(test->driver);
	clause_interrupted(test->driver);
	suspend(test);
	for (unsigned int i = 0; i < 2; i++) {
		pthread_mutex_lock(vc->lock);
		if (vc->ops->cfgsize)
			vc->config[0]++;
		virtio_config_changed(vc);
		pthread_mutex_unlock(vc->lock);
	}
	machine_poll(test->machine);
	assert_false(clause_interrupted(test->driver));
	clause_config(test, after);
	assert_memory_equal(before, after, sizeof(before));
	assert_int_equal(generation(test->driver), old);
	resume(test, true);
	assert_true(driver_config_interrupt(test->driver));
	assert_int_not_equal(generation(test->driver), old);
	clause_config(test, after);
	if (vc->ops->cfgsize)
		assert_int_equal(after[0], (uint8_t)(before[0] + 2));
	assert_false(driver_config_interrupt(test->driver)); /* told once */
}

/* A reset ends it. What changed meanwhile is there, with another generation. */
static void test_reset_while_suspended(void **state)
{
	struct kind_case *test = run(state);
	struct virtio_common *vc = clause_device(test);
	uint8_t old;

	suspend(test);
	old = generation(test->driver);
	pthread_mutex_lock(vc->lock);
	virtio_config_changed(vc);
	pthread_mutex_unlock(vc->lock);
	driver_set_status(test->driver, 0);
	assert_int_equal(driver_status(test->driver), 0);
	assert_int_not_equal(generation(test->driver), old);
	clause_comes_back(test);
	suspend(test);
	resume(test, false);
	kind_request(test->kind, test->driver);
}

/* The VM stops and goes on while the device is suspended: that changes nothing. */
static void test_quiesced_while_suspended(void **state)
{
	struct kind_case *test = run(state);
	struct kind_buffer buffer;

	suspend(test);
	assert_true(clause_add(test, &buffer, test));
	driver_kick(test->queue);
	pci_quiesce_devices(test->machine->ctx);
	pci_resume_devices(test->machine->ctx);
	machine_poll(test->machine);
	assert_false(driver_pending(test->queue));
	assert_false(clause_interrupted(test->driver));
	assert_true(driver_status(test->driver) & SUSPEND);
	pci_quiesce_devices(test->machine->ctx);
	resume(test, false);
	machine_poll(test->machine);
	assert_false(driver_pending(test->queue)); /* the VM's stop holds */
	pci_resume_devices(test->machine->ctx);
	assert_ptr_equal(driver_wait_buf(test->queue, NULL, DRIVER_TIMEOUT_MS), test);
}

/* A device that is broken cannot be suspended, and goes on saying that it needs a reset. */
static void test_broken_is_not_suspended(void **state)
{
	struct kind_case *test = run(state);
	const struct segment nowhere = { UINT64_C(1) << 45, 64 };
	unsigned int writable = test->kind->in != 0;

	assert_int_equal(driver_add_buf(test->queue, &nowhere, !writable, writable, test), 0);
	driver_kick(test->queue);
	machine_poll(test->machine);
	assert_true(clause_broken(test->driver));
	write_status(test->driver, driver_status(test->driver) | SUSPEND);
	assert_true(clause_broken(test->driver));
	clause_comes_back(test);
}

/* A device that breaks while it is suspended stays suspended, and broken, until it is reset. */
static void test_broken_while_suspended(void **state)
{
	struct kind_case *test = run(state);
	struct virtio_driver *driver = test->driver;

	suspend(test);
	driver_common_out(driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, test->queue->index);
	driver_common_out(driver, COMMON_QUEUE_RESET, 2, 1);
	driver_common_out(driver, VIRTIO_PCI_COMMON_Q_DESCLO, 8, UINT64_C(1) << 45);
	driver_common_out(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	assert_true(clause_broken(driver));
	write_status(driver, driver_status(driver) | VIRTIO_CONFIG_S_DRIVER_OK);
	assert_int_equal(driver_status(driver) & (SUSPEND | VIRTIO_CONFIG_S_DRIVER_OK), SUSPEND);
	assert_true(clause_broken(driver));
	clause_comes_back(test);
}

int main(void)
{
	static const struct clause_test tests[] = {
		{ "suspend before DRIVER_OK", test_ignored_before_driver_ok, KIND_AXIS_ALL,
		  for_modern },
		{ "suspend not negotiated", test_ignored_without_feature, KIND_AXIS_INTERFACE,
		  NULL },
		{ "suspend and resume", test_suspend_resume, KIND_AXIS_ALL, for_modern },
		{ "work is finished before suspend", test_work_is_finished, KIND_AXIS_ALL,
		  for_modern },
		{ "config writes while suspended", test_config_writes_ignored, KIND_AXIS_INTERFACE,
		  for_modern },
		{ "config change while suspended", test_config_change_is_held, KIND_AXIS_ALL,
		  for_modern },
		{ "reset while suspended", test_reset_while_suspended, KIND_AXIS_ALL, for_modern },
		{ "VM stopped while suspended", test_quiesced_while_suspended, KIND_AXIS_ALL,
		  for_modern },
		{ "suspend of a broken device", test_broken_is_not_suspended, KIND_AXIS_ALL,
		  for_modern },
		{ "broken while suspended", test_broken_while_suspended, KIND_AXIS_INTERFACE,
		  for_modern },
	};

	return clause_tests_run(tests, ARRAY_SIZE(tests), "suspend", NULL);
}
