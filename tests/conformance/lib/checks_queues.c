/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Checks: queues, and the buffers in them (virtio 1.4, 2.6, 2.7).
 */
#include "check_context.h"

#define LOOK_MS 20 /* what was not answered by then is not looked at */
#define QUEUE_RESET 0x3a /* queue_reset in the common structure (virtio 1.4, 4.1.4.3) */

static enum check_result queue_sizes(struct check_context *check)
{
	struct virtio_driver *driver = check_open(check);
	const struct driver_interface *interface = driver->interface;

	CHECK(check, driver->queue_count, "it has no queue");
	for (uint16_t i = 0; i < driver->queue_count; i++) {
		uint16_t size = interface->queue_size(driver, i);

		CHECK(check, is_power_of_2(size) && size <= 32768, "queue %u has %u entries", i,
		      size);
	}
	CHECK(check,
	      !interface->queue_size(driver, (uint16_t)driver->queue_count) ||
		      driver->queue_count == DRIVER_QUEUES_MAX,
	      "there is a queue behind the last");
	CHECK(check, !interface->queue_size(driver, 0xffff), "there is a queue 65535");
	return CHECK_OK;
}
DEVICE_CHECK(queue_sizes, "4.1.4.3.1-14", "queues have a power of two entries, others none",
	     CHECK_INTERFACES);

static enum check_result queue_enable(struct check_context *check)
{
	struct virtio_driver *driver;

	if (check->params.legacy)
		return check_skip(check, "legacy queues have no queue_enable");
	driver = check_negotiate(check);
	for (uint16_t i = 0; i < check_queues(driver); i++) {
		driver->interface->queue_size(driver, i); /* selects it */
		CHECK(check, !driver_common_in(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2),
		      "queue %u is enabled from the start", i);
		driver_queue_setup(driver, i, 0);
		CHECK(check, driver_common_in(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2) == 1,
		      "queue %u is not enabled after 1 was written", i);
	}
	CHECK(check, !check_needs_reset(driver), "enabling queues made it need a reset");
	return CHECK_OK;
}
DEVICE_CHECK(queue_enable, "4.1.4.3.1-7", "queue_enable is 0 first, and 1 when it was written",
	     CHECK_INTERFACES);

static enum check_result queue_reset(struct check_context *check)
{
	struct check_probe probe;
	struct virtio_driver *driver;

	if (check->params.legacy)
		return check_skip(check, "no modern interface");
	if (!check_find_probe(check, &probe))
		return check_skip(check, "it answers none of our requests");
	driver = check_start(check);
	if (!driver_has(driver, VIRTIO_F_RING_RESET))
		return check_skip(check, "RING_RESET is not offered");
	for (int i = 0; i < 3; i++) {
		driver->interface->queue_size(driver, (uint16_t)probe.queue); /* selects it */
		driver_common_out(driver, QUEUE_RESET, 2, 1);
		machine_poll(check->machine);
		CHECK(check, !driver_common_in(driver, QUEUE_RESET, 2), "the reset has no end");
		CHECK(check, !driver_common_in(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2),
		      "the queue is still enabled");
		driver_queue_setup(driver, (uint16_t)probe.queue, 0);
		CHECK(check, check_probe_works(check, &probe), "the queue does not work after it");
	}
	return CHECK_OK;
}
DEVICE_CHECK(queue_reset, "2.6.1.1.1-2", "a queue that was reset alone works again",
	     CHECK_INTERFACES);

/* Buffers and kicks come before DRIVER_OK: they wait, and then they are seen. */
static enum check_result early_kick(struct check_context *check)
{
	struct check_probe probe;
	struct check_buffer buffer;
	struct virtio_driver *driver;
	struct driver_queue *queue;

	if (check->params.legacy)
		return check_skip(check, "legacy drivers may use queues before DRIVER_OK");
	if (!check_find_probe(check, &probe))
		return check_skip(check, "it answers none of our requests");
	driver = check_negotiate(check);
	for (uint16_t i = 0; i < driver->queue_count; i++)
		driver_queue_setup(driver, i, 0);
	queue = driver_queue(driver, probe.queue);
	CHECK(check, check_buffer(check, probe.shape, &buffer), "no such shape");
	check_add(queue, &buffer);
	driver->interface->notify(driver, queue);
	machine_poll(check->machine);
	CHECK(check, !driver_get_buf(queue, NULL), "a buffer was used before DRIVER_OK");
	CHECK(check, !check_buffer_touched(check->machine, &buffer),
	      "a buffer was written to before DRIVER_OK");
	driver_set_status(driver, VIRTIO_CONFIG_S_DRIVER_OK);
	CHECK(check, driver_wait_buf(queue, NULL, DRIVER_TIMEOUT_MS) == &buffer,
	      "the buffer was not used after DRIVER_OK: its kick was lost");
	return CHECK_OK;
}
DEVICE_CHECK(early_kick, "2.1.2-1", "no buffer is used before DRIVER_OK, and no kick is lost",
	     CHECK_ALL);

/* Put a buffer of @shape into @queue and look at what becomes of it. */
static const char *try_shape(struct check_context *check, unsigned int queue, unsigned int shape)
{
	struct virtio_driver *driver = check_start(check);
	struct check_buffer buffer;
	uint32_t len;

	if (!check_buffer(check, shape, &buffer))
		return "no such shape";
	check_add(driver_queue(driver, queue), &buffer);
	check_kick(driver_queue(driver, queue));
	if (!driver_wait_buf(driver_queue(driver, queue), &len, LOOK_MS))
		len = 0;
	return check_buffer_fault(check->machine, &buffer, len);
}

static enum check_result buffers(struct check_context *check)
{
	struct virtio_driver *driver = check_open(check);
	unsigned int queues = check_queues(driver);
	struct check_buffer buffer;

	check_poison_heap();
	for (unsigned int shape = 0; check_buffer(check, shape, &buffer); shape++)
		for (unsigned int queue = 0; queue < queues; queue++) {
			const char *fault = try_shape(check, queue, shape);

			CHECK(check, !fault, "queue %u, a buffer of %u + %u bytes: %s", queue,
			      buffer.out, buffer.in, fault);
		}
	return CHECK_OK;
}
DEVICE_CHECK(buffers, "2.7.8.2-2",
	     "used.len is what was written, nothing else is, and no memory of the host shows",
	     CHECK_INTERFACES);

/* The same request, cut into one-byte descriptors: the layout is the driver's business. */
static enum check_result layouts(struct check_context *check)
{
	struct check_probe probe;
	struct check_buffer buffer;
	struct segment segments[16];
	struct driver_queue *queue;
	const uint32_t byte = 1;
	unsigned int out, in, max;

	if (!check_find_probe(check, &probe))
		return check_skip(check, "it answers none of our requests");
	queue = driver_queue(check_start(check), probe.queue);
	CHECK(check, check_buffer(check, probe.shape, &buffer), "no such shape");
	max = MIN(8, queue->ring.size / 2);
	out = segments_cut(segments, max, buffer.segments[0].gpa, buffer.out, &byte, 1);
	in = segments_cut(segments + out, max, buffer.segments[buffer.out_count].gpa, buffer.in,
			  &byte, 1);
	CHECK(check, !driver_add_buf(queue, segments, out, in, &buffer), "no room in the queue");
	check_kick(queue);
	CHECK(check, driver_wait_buf(queue, NULL, DRIVER_TIMEOUT_MS) == &buffer,
	      "a request is not answered when it is cut into %u + %u descriptors", out, in);
	CHECK(check, !check_needs_reset(check->driver),
	      "it needs a reset after %u + %u descriptors", out, in);
	return CHECK_OK;
}
DEVICE_CHECK(layouts, "2.7.4.1-1", "requests may be cut into descriptors anywhere",
	     CHECK_INTERFACES);

static enum check_result quiesced(struct check_context *check)
{
	struct check_probe probe;
	struct check_buffer buffer;
	struct driver_queue *queue;

	if (!check_find_probe(check, &probe))
		return check_skip(check, "it answers none of our requests");
	queue = driver_queue(check_start(check), probe.queue);
	CHECK(check, check_buffer(check, probe.shape, &buffer), "no such shape");
	pci_quiesce_devices(check->machine->ctx);
	check_add(queue, &buffer);
	check_kick(queue);
	CHECK(check, !check_buffer_touched(check->machine, &buffer) && !driver_get_buf(queue, NULL),
	      "it used a buffer while it was quiesced");
	pci_resume_devices(check->machine->ctx);
	CHECK(check, driver_wait_buf(queue, NULL, DRIVER_TIMEOUT_MS) == &buffer,
	      "what came while it was quiesced is not answered after it resumed");
	return CHECK_OK;
}
DEVICE_CHECK(quiesced, "quiesce", "a quiesced device touches no memory and forgets nothing",
	     CHECK_ALL);
