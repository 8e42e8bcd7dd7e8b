/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Checks: a driver that breaks the rules. Whatever it does, the device says so (virtio 1.4, 2.1.2),
 * others go on, and a reset brings it back.
 */
#include "check_context.h"

/* Buffers that no device may use: their address or length leads out of RAM. */
static const struct segment bad_segments[] = {
	{ UINT64_C(0xfffffffffffff000), 4096 },
	{ UINT64_C(0x8000000000000000), 16 },
	{ MACHINE_MEMORY - 8, 16 },
	{ MACHINE_HEAP, UINT32_MAX },
	{ UINT64_MAX, 1 },
};

/* NEEDS_RESET, told by an interrupt, others unharmed, and back again by a reset. */
static enum check_result broken_and_back(struct check_context *check,
					 const struct check_probe *probe, const char *what)
{
	struct virtio_driver *driver = check->driver;

	CHECK(check, check_needs_reset(driver), "%s: NEEDS_RESET is not set", what);
	CHECK(check, driver_wait_config(driver, DRIVER_TIMEOUT_MS),
	      "%s: no configuration change interrupt came", what);
	CHECK(check, check_other_works(check), "%s: another device does not work any more", what);
	check_start(check);
	CHECK(check, !check_needs_reset(check->driver), "%s: the reset did not help", what);
	CHECK(check, !probe || check_probe_works(check, probe),
	      "%s: it does not work after a reset", what);
	return CHECK_OK;
}

static enum check_result bad_addresses(struct check_context *check)
{
	struct check_probe probe;
	bool found = check_find_probe(check, &probe);
	unsigned int index = found ? probe.queue : 0;

	if (!found)
		return check_skip(check, "it answers none of our requests");
	for (unsigned int i = 0; i < ARRAY_SIZE(bad_segments); i++)
		for (unsigned int in = 0; in < 2; in++) {
			struct driver_queue *queue = driver_queue(check_start(check), index);
			enum check_result result;
			char what[64];
			int token;

			snprintf(what, sizeof(what), "%u bytes at 0x%llx", bad_segments[i].len,
				 (unsigned long long)bad_segments[i].gpa);
			CHECK(check, !driver_add_buf(queue, &bad_segments[i], !in, in, &token),
			      "no room in the queue");
			check_kick(queue);
			CHECK(check, !driver_get_buf(queue, NULL), "%s: it was used", what);
			result = broken_and_back(check, &probe, what);
			if (result != CHECK_OK)
				return result;
		}
	return CHECK_OK;
}
DEVICE_CHECK(bad_addresses, "2.1.2-2", "a chain that leads out of RAM: NEEDS_RESET, told, and back",
	     CHECK_INTERFACES);

static enum check_result bad_notifications(struct check_context *check)
{
	static const uint16_t indexes[] = { 0x7f, 0x80, 0x7fff, 0x8000, 0xffff };
	struct check_probe probe;
	struct virtio_driver *driver;

	if (!check_find_probe(check, &probe))
		return check_skip(check, "it answers none of our requests");
	driver = check_start(check);
	for (unsigned int i = 0; i < ARRAY_SIZE(indexes); i++) {
		struct driver_queue queue = *driver_queue(driver, 0);

		queue.index = indexes[i];
		driver->interface->notify(driver, &queue);
		machine_poll(check->machine);
	}
	for (int i = 0; i < 100; i++) /* spurious, of queues that are there */
		for (unsigned int index = 0; index < check_queues(driver); index++)
			driver->interface->notify(driver, driver_queue(driver, index));
	machine_poll(check->machine);
	CHECK(check, !check_needs_reset(driver), "they made it need a reset");
	CHECK(check, check_probe_works(check, &probe), "it does not work after them");
	return CHECK_OK;
}
DEVICE_CHECK(bad_notifications, "class 2",
	     "kicks of queues that are not there, and kicks for nothing", CHECK_ALL);

/* Set @queue up by hand, with rings at @gpa. */
static void place_rings(struct virtio_driver *driver, uint16_t index, uint64_t gpa)
{
	driver->interface->queue_size(driver, index); /* selects it */
	for (uint32_t at = VIRTIO_PCI_COMMON_Q_DESCLO; at <= VIRTIO_PCI_COMMON_Q_USEDLO; at += 8) {
		driver_common_out(driver, at, 4, (uint32_t)gpa);
		driver_common_out(driver, at + 4, 4, (uint32_t)(gpa >> 32));
	}
	driver_common_out(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
}

static enum check_result bad_rings(struct check_context *check)
{
	static const uint64_t places[] = { UINT64_C(0xfffffffffffff000),
					   UINT64_C(0x7000000000000000), MACHINE_MEMORY - 16, 3,
					   UINT64_MAX };
	struct check_probe probe;
	bool found;

	if (check->params.legacy)
		return check_skip(check, "no modern interface");
	found = check_find_probe(check, &probe);
	for (unsigned int i = 0; i < ARRAY_SIZE(places); i++) {
		struct virtio_driver *driver = check_negotiate(check);

		place_rings(driver, 0, places[i]);
		driver_set_status(driver, VIRTIO_CONFIG_S_DRIVER_OK);
		driver->queues[0].driver = driver;
		driver->interface->notify(driver, &driver->queues[0]);
		machine_poll(check->machine);
		CHECK(check, check_other_works(check), "another device does not work any more");
		check_start(check);
		CHECK(check, !check_needs_reset(check->driver),
		      "rings at 0x%llx: a reset did not help", (unsigned long long)places[i]);
		CHECK(check, !found || check_probe_works(check, &probe),
		      "rings at 0x%llx: it does not work after a reset",
		      (unsigned long long)places[i]);
	}
	return CHECK_OK;
}
DEVICE_CHECK(bad_rings, "class 1", "rings that are not in RAM or not aligned", CHECK_INTERFACES);
