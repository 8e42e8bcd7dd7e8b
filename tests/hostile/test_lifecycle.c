/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The wrong order of things, for every kind of device: kicks before there is a ring and after it is
 * gone, resets with requests in flight, several processors at once. Class 9.
 */

#include "../unit/open_descriptors.h"
#include "hostile.h"

#define COMMON_QUEUE_RESET 0x3a /* virtio 1.4, 4.1.4.3 */
#define STATUS_SUSPEND 16 /* virtio 1.4, 2.1 */
#define FEATURE_SUSPEND 43 /* virtio 1.4, 6 */
#define STORM 200

static void kick_all(struct virtio_driver *driver)
{
	for (unsigned int i = 0; i < driver->queue_count; i++) {
		driver->queues[i].index = (uint16_t)i;
		driver->interface->notify(driver, &driver->queues[i]);
	}
}

/* The simple request, as often as the queue takes it; nobody waits for the answers. */
static void fill_queue(struct hostile *hostile, struct kind_buffer *buffer)
{
	for (unsigned int i = 0; i < 16; i++)
		if (driver_add_buf(hostile->queue, buffer->segments, buffer->out_count,
				   buffer->in_count, buffer))
			break;
	driver_kick(hostile->queue);
}

/* ---- Rings that are not there ---- */

/* DRIVER_OK without a single queue; and then none of the kicks finds one. */
static void test_no_queues(void **state)
{
	struct hostile *hostile = hostile_open(state, NULL, NULL);
	struct virtio_driver *driver = hostile->driver;

	kick_all(driver); /* before anything */
	assert_true(driver_negotiate(driver, driver->offered));
	kick_all(driver);
	driver_set_status(driver, VIRTIO_CONFIG_S_DRIVER_OK);
	for (unsigned int i = 0; i < 3; i++) {
		kick_all(driver);
		machine_poll(hostile->machine);
	}
	assert_false(hostile_needs_reset(hostile));
	driver_set_status(driver, 0); /* stops what never ran */
	kick_all(driver);
	machine_poll(hostile->machine);
	hostile_expect_lines(hostile, "no queues", 0);
	hostile_expect_contained(hostile, "no queues");
	hostile_close(hostile);
}

/* All queues but the one in use are missing; who cannot run with one waits for the others. */
static void test_one_queue(void **state)
{
	struct hostile *hostile = hostile_open(state, NULL, NULL);
	struct virtio_driver *driver = hostile->driver;
	uint16_t index = hostile->victim->kind->queue;

	assert_true(driver_negotiate(driver, driver->offered));
	pci_msix_setup(&driver->pci);
	driver->interface->config_vector(driver, DRIVER_CONFIG_VECTOR);
	driver->interface->queue_vector(driver, index, (uint16_t)(index + 1));
	driver_queue_setup(driver, index, 0);
	driver_set_status(driver, VIRTIO_CONFIG_S_DRIVER_OK);
	kick_all(driver);
	machine_poll(hostile->machine);
	for (uint16_t i = 0; hostile->victim->kind->all_queues && i < driver->queue_count; i++)
		if (i != index)
			driver_queue_setup(driver, i, 0);
	hostile_begin(hostile);
	hostile_expect_ignored(hostile, "one queue");
	hostile_close(hostile);
}

/* A reset with kicks on their way and timers armed: nothing happens afterwards. */
static void test_after_reset(void **state)
{
	const struct machine_config config = { .ioeventfd = true };
	struct hostile *hostile = hostile_open(state, &config, NULL);
	struct machine *machine = hostile->machine;

	hostile_start(hostile);
	for (unsigned int i = 0; i < 20; i++) {
		struct kind_buffer buffer = kind_buffer(hostile->victim->kind, hostile->driver);
		struct ring *ring = &hostile->queue->ring;
		uint64_t desc, avail, used;

		ring->ops->sizes(ring->size, &desc, &avail, &used);
		fill_queue(hostile, &buffer);
		if (i % 2)
			machine_poll(machine);
		driver_set_status(hostile->driver, 0);
		/* the memory is somebody else's from here on */
		memset(guest_ptr(machine, ring->desc_gpa, desc), DRIVER_POISON, desc);
		memset(guest_ptr(machine, ring->driver_gpa, avail), DRIVER_POISON, avail);
		memset(guest_ptr(machine, ring->device_gpa, used), DRIVER_POISON, used);
		memset(guest_ptr(machine, buffer.gpa + buffer.out, buffer.in), DRIVER_POISON,
		       buffer.in);
		kick_all(hostile->driver);
		usleep(3000); /* longer than a period of virtio-rng */
		machine_poll(machine);
		for (uint64_t j = 0; j < used; j++)
			assert_int_equal(*(uint8_t *)guest_ptr(machine, ring->device_gpa + j, 1),
					 DRIVER_POISON);
		for (uint64_t j = 0; j < desc; j++)
			assert_int_equal(*(uint8_t *)guest_ptr(machine, ring->desc_gpa + j, 1),
					 DRIVER_POISON);
		assert_true(kind_buffer_untouched(&buffer, machine));
		driver_restart(hostile->driver);
	}
	hostile_expect_lines(hostile, "reset with kicks on their way", 0);
	hostile_expect_contained(hostile, "reset with kicks on their way");
	hostile_close(hostile);
}

/* One queue alone is reset with requests in flight (virtio 1.4, 2.6.1). */
static void test_queue_reset(void **state)
{
	struct hostile *hostile = hostile_run(state);
	struct virtio_driver *driver = hostile->driver;
	uint16_t index = hostile->queue->index;

	for (unsigned int i = 0; i < STORM; i++) {
		struct kind_buffer buffer = kind_buffer(hostile->victim->kind, driver);

		fill_queue(hostile, &buffer);
		driver_common_out(driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, index);
		driver_common_out(driver, COMMON_QUEUE_RESET, 2, 1);
		assert_int_equal(driver_common_in(driver, COMMON_QUEUE_RESET, 2), 0);
		assert_int_equal(driver_common_in(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
		memset(guest_ptr(hostile->machine, buffer.gpa + buffer.out, buffer.in),
		       DRIVER_POISON, buffer.in);
		kick_all(driver);
		machine_poll(hostile->machine);
		assert_true(kind_buffer_untouched(&buffer, hostile->machine));
		driver_queue_setup(driver, index, 0);
	}
	kind_request(hostile->victim->kind, driver);
	driver_queue_interrupt(hostile->queue);
	hostile_expect_ignored(hostile, "queue reset in flight");
	hostile_close(hostile);
}

/* ---- Storms ---- */

static void device_reset(struct hostile *hostile)
{
	driver_restart(hostile->driver);
}

/* The VM's reset, with the BARs off and moved away before. */
static void vm_reset(struct hostile *hostile)
{
	struct pci_function *pci = &hostile->driver->pci;

	for (unsigned int bar = 0; bar < PCI_BARS; bar++)
		if (pci->bar[bar].size) {
			uint64_t home = pci->bar[bar].addr;

			pci_move_bar(pci, bar, 0);
			pci->bar[bar].addr = home; /* where it is after the reset */
		}
	pci_command(pci, 0, PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
	pci_reset_devices(hostile->machine->ctx);
	pci_function_enable(pci);
	for (unsigned int i = 0; i < hostile->bystander_count; i++) {
		pci_function_enable(&hostile->bystanders[i].driver->pci);
		driver_restart(hostile->bystanders[i].driver);
	}
	driver_restart(hostile->driver);
}

static void suspend(struct hostile *hostile)
{
	driver_set_status(hostile->driver, STATUS_SUSPEND);
	assert_true(driver_status(hostile->driver) & STATUS_SUSPEND);
	kick_all(hostile->driver);
	driver_set_status(hostile->driver, VIRTIO_CONFIG_S_DRIVER_OK);
	assert_false(driver_status(hostile->driver) & STATUS_SUSPEND);
}

static void quiesce(struct hostile *hostile)
{
	pci_quiesce_devices(hostile->machine->ctx);
	kick_all(hostile->driver);
	pci_resume_devices(hostile->machine->ctx);
}

/* @features: to be accepted besides the usual ones */
static void storm(void **state, uint64_t features, void (*act)(struct hostile *hostile),
		  unsigned int rounds, const char *what)
{
	struct hostile *hostile = hostile_open(state, NULL, NULL);
	struct kind_buffer buffer;
	unsigned int descriptors;

	hostile->driver->params.extra = features;
	hostile_start(hostile);
	assert_int_equal(hostile->driver->accepted & features, features);
	buffer = kind_buffer(hostile->victim->kind, hostile->driver);
	act(hostile);
	hostile_begin(hostile);
	descriptors = open_descriptors();
	for (unsigned int i = 0; i < rounds; i++) {
		fill_queue(hostile, &buffer);
		if (i % 3 == 0)
			machine_poll(hostile->machine);
		act(hostile);
		while (driver_get_buf(hostile->queue, NULL))
			;
	}
	assert_int_equal(open_descriptors(), descriptors);
	hostile_expect_lines(hostile, what, 0);
	hostile_expect_survived(hostile, what);
	hostile_close(hostile);
}

static void test_reset_storm(void **state)
{
	storm(state, 0, device_reset, STORM, "resets");
}

static void test_vm_reset_storm(void **state)
{
	storm(state, 0, vm_reset, STORM / 4, "resets of the VM");
}

static void test_suspend_storm(void **state)
{
	storm(state, BIT64(FEATURE_SUSPEND), suspend, STORM, "suspend and resume");
}

static void test_quiesce_storm(void **state)
{
	storm(state, 0, quiesce, STORM, "quiesce and resume");
}

/* The VM ends with kicks, requests and timers on their way. */
static void test_end_in_flight(void **state)
{
	const struct machine_config config = { .ioeventfd = true, .io_thread = true };

	for (unsigned int i = 0; i < 4; i++) {
		struct hostile *hostile = hostile_open(state, &config, NULL);
		struct kind_buffer buffer;

		hostile_start(hostile);
		buffer = kind_buffer(hostile->victim->kind, hostile->driver);
		fill_queue(hostile, &buffer);
		if (i % 2)
			usleep(200);
		hostile_end(hostile);
		kind_case_close(state);
	}
	/* and it is for this test's end to close a machine */
	hostile_close(hostile_open(state, NULL, NULL));
}

/* ---- Several processors ---- */

#define PROCESSORS 3
#define PROCESSOR_STEPS 1500

struct processor {
	pthread_t thread;
	struct virtio_driver *driver;
	uint64_t seed;
};

static uint64_t random_next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* Decoding off and on again, by ECAM, while others use what is behind the BAR (7.3, rows 28 and 29). */
static void decode_toggle(struct processor *processor)
{
	struct pci_function ecam = processor->driver->pci;

	ecam.mechanism = PCI_ECAM;
	pci_command(&ecam, 0, PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
	pci_function_enable(&ecam);
}

static void bar_move(struct processor *processor)
{
	struct pci_function ecam = processor->driver->pci;
	unsigned int bar = processor->driver->params.legacy ? 0 : processor->driver->common.bar;
	uint64_t home = ecam.bar[bar].addr;

	ecam.mechanism = PCI_ECAM;
	pci_move_bar(&ecam, bar, ecam.bar[bar].type == PCIBAR_IO ? 0xf000 : 0xd0000000);
	pci_move_bar(&ecam, bar, home);
}

static void registers(struct processor *processor)
{
	struct pci_function *pci = &processor->driver->pci;
	unsigned int bar = random_next(&processor->seed) % PCI_BARS;
	unsigned int size = 1U << random_next(&processor->seed) % 4;
	uint64_t offset = random_next(&processor->seed) % 64;

	if (!range_contains(0, pci->bar[bar].size, offset, size))
		return;
	if (random_next(&processor->seed) % 2)
		pci_bar_in(pci, bar, offset, size);
	else
		pci_bar_out(pci, bar, offset, size, random_next(&processor->seed) & 0xf);
}

static void *processor_run(void *arg)
{
	struct processor *processor = arg;

	for (unsigned int i = 0; i < PROCESSOR_STEPS; i++)
		switch (random_next(&processor->seed) % 16) {
		case 0:
			processor->driver->interface->set_status(processor->driver, 0);
			break;
		case 1:
			decode_toggle(processor);
			break;
		case 2:
			bar_move(processor);
			break;
		case 3:
		case 4:
		case 5:
			processor->driver->interface->notify(processor->driver,
							     &processor->driver->queues[0]);
			break;
		case 6:
			processor->driver->interface->set_status(processor->driver, 0xf);
			break;
		default:
			registers(processor);
		}
	return NULL;
}

/* All do everything at once; what comes out is anything, but everybody else goes on, and so does it. */
static void test_processors(void **state)
{
	const struct machine_config config = { .ioeventfd = true, .io_thread = true };
	struct hostile *hostile = hostile_open(state, &config, NULL);
	struct processor processors[PROCESSORS];

	hostile_start(hostile);
	for (unsigned int i = 0; i < PROCESSORS; i++) {
		processors[i] = (struct processor) { .driver = hostile->driver,
						     .seed = 88172645463325252U + i };
		assert_int_equal(
			pthread_create(&processors[i].thread, NULL, processor_run, &processors[i]),
			0);
	}
	for (unsigned int i = 0; i < 20; i++)
		hostile_others_work(hostile);
	for (unsigned int i = 0; i < PROCESSORS; i++)
		pthread_join(processors[i].thread, NULL);
	for (unsigned int bar = 0; bar < PCI_BARS; bar++)
		if (hostile->driver->pci.bar[bar].size)
			pci_move_bar(&hostile->driver->pci, bar,
				     hostile->driver->pci.bar[bar].addr);
	pci_function_enable(&hostile->driver->pci);
	hostile_expect_survived(hostile, "several processors");
	hostile_close(hostile);
}

int main(void)
{
	static struct kind_tests tests;

	kind_tests_add(&tests, "no queues", test_no_queues, KIND_AXIS_INTERFACE);
	kind_tests_add(&tests, "one queue", test_one_queue, KIND_AXIS_INTERFACE);
	kind_tests_add(&tests, "after a reset", test_after_reset, KIND_AXIS_INTERFACE);
	kind_tests_add(&tests, "queue reset", test_queue_reset, KIND_AXIS_FORMATS);
	kind_tests_add(&tests, "reset storm", test_reset_storm, KIND_AXIS_RINGS);
	kind_tests_add(&tests, "VM reset storm", test_vm_reset_storm, KIND_AXIS_INTERFACE);
	kind_tests_add(&tests, "suspend storm", test_suspend_storm, KIND_AXIS_FORMATS);
	kind_tests_add(&tests, "quiesce storm", test_quiesce_storm, KIND_AXIS_INTERFACE);
	kind_tests_add(&tests, "end in flight", test_end_in_flight, KIND_AXIS_INTERFACE);
	kind_tests_add(&tests, "processors", test_processors, KIND_AXIS_INTERFACE);
	return kind_tests_run(&tests, "hostile life cycle");
}
