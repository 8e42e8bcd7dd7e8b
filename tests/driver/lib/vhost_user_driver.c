/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A virtio driver over vhost-user: what the registers of a transport are to a driver, as messages.
 * The status register is the back end's where it has STATUS, else only ours.
 */
#include "vhost_user_client.h"

#include <errno.h>

#define PACKED_BASE UINT32_C(0x80008000) /* both wrap counters are 1 */

static void must(int error, const char *what)
{
	if (error)
		fail_msg("vhost-user: %s: %s", what, strerror(-error));
}

static uint8_t driver_get_status(struct virtio_driver *driver)
{
	struct front_end *front = front_of(driver);
	uint64_t status;

	if (!front_has(front, VHOST_USER_PROTOCOL_F_STATUS))
		return front->status;
	must(front_get_u64(front, VHOST_USER_GET_STATUS, &status), "GET_STATUS");
	return (uint8_t)status;
}

static void stop_rings(struct front_end *front)
{
	for (unsigned int i = 0; i < FRONT_QUEUES_MAX; i++)
		if (front->rings[i].set_up)
			must(front_ring_stop(front, i), "GET_VRING_BASE");
}

/* Rings are stopped as QEMU does it; then what the back end has of the ways to reset it. */
static void reset(struct front_end *front)
{
	stop_rings(front);
	if (front_has(front, VHOST_USER_PROTOCOL_F_RESET_DEVICE))
		must(front_set_none(front, VHOST_USER_RESET_DEVICE), "RESET_DEVICE");
	if (front_has(front, VHOST_USER_PROTOCOL_F_STATUS))
		must(front_set_u64(front, VHOST_USER_SET_STATUS, 0), "SET_STATUS");
	front->status = 0;
}

static int enable_rings(struct front_end *front)
{
	int error = 0;

	if (!front->has_protocol)
		return 0;
	for (unsigned int i = 0; i < front->queue_count && !error; i++)
		if (front->rings[i].set_up)
			error = front_ring_enable(front, i, true);
	return error;
}

static void driver_put_status(struct virtio_driver *driver, uint8_t status)
{
	struct front_end *front = front_of(driver);

	if (!status) {
		reset(front);
		return;
	}
	if ((status & ~front->status) & VIRTIO_CONFIG_S_DRIVER_OK)
		must(enable_rings(front), "SET_VRING_ENABLE");
	front->status = status;
	if (front_has(front, VHOST_USER_PROTOCOL_F_STATUS))
		must(front_set_u64(front, VHOST_USER_SET_STATUS, status), "SET_STATUS");
}

static uint64_t driver_get_features(struct virtio_driver *driver)
{
	const uint64_t own = BIT64(VHOST_USER_F_PROTOCOL_FEATURES) | BIT64(VHOST_USER_F_LOG_ALL);
	uint64_t features;

	must(front_get_u64(front_of(driver), VHOST_USER_GET_FEATURES, &features), "GET_FEATURES");
	return features & ~own;
}

static void driver_put_features(struct virtio_driver *driver, uint64_t features)
{
	must(front_set_features(front_of(driver), features), "SET_FEATURES");
}

static uint16_t driver_queue_size(struct virtio_driver *driver, uint16_t index)
{
	struct front_end *front = front_of(driver);

	return index < front->queue_count ? front->queue_size : 0;
}

static void driver_setup_ring(struct virtio_driver *driver, struct driver_queue *queue)
{
	struct front_end *front = front_of(driver);

	if (!front->memory_shared)
		must(front_share_memory(front), "sharing memory");
	front->rings[queue->index].base =
		driver_has(driver, VIRTIO_F_RING_PACKED) ? PACKED_BASE : 0;
	must(front_ring_start(front, queue), "starting a ring");
}

static uint16_t driver_put_vector(struct virtio_driver *driver, uint16_t index, uint16_t vector)
{
	return vector;
}

static uint16_t driver_put_config_vector(struct virtio_driver *driver, uint16_t vector)
{
	return vector;
}

static void driver_notify(struct virtio_driver *driver, struct driver_queue *queue)
{
	front_kick(front_of(driver), queue->index);
}

static uint8_t driver_no_isr(struct virtio_driver *driver)
{
	return 0;
}

static uint64_t driver_config_in(struct virtio_driver *driver, uint32_t offset, unsigned int size)
{
	uint64_t value = 0;

	must(front_get_config(front_of(driver), offset, &value, size), "GET_CONFIG");
	return value;
}

static void driver_config_out(struct virtio_driver *driver, uint32_t offset, unsigned int size,
			      uint32_t value)
{
	must(front_set_config(front_of(driver), offset, &value, size, 0), "SET_CONFIG");
}

static bool driver_interrupted(struct virtio_driver *driver, struct driver_queue *queue)
{
	struct front_end *front = front_of(driver);
	bool changed;

	if (queue)
		return front_called(front, queue->index);
	front_channel_poll(front);
	changed = front->config_changes != driver->config_interrupts_seen;
	driver->config_interrupts_seen = front->config_changes;
	return changed;
}

static const struct driver_interface driver_vhost_user = {
	.get_status = driver_get_status,
	.set_status = driver_put_status,
	.get_features = driver_get_features,
	.set_features = driver_put_features,
	.queue_size = driver_queue_size,
	.queue_setup = driver_setup_ring,
	.queue_vector = driver_put_vector,
	.config_vector = driver_put_config_vector,
	.notify = driver_notify,
	.isr = driver_no_isr,
	.config_in = driver_config_in,
	.config_out = driver_config_out,
	.interrupted = driver_interrupted,
};

struct virtio_driver *front_driver_open(struct front_end *front, const struct driver_params *params)
{
	return driver_open_on(front->machine, params, &driver_vhost_user, front);
}

/* Where a ring goes on: a split one's used index is what was used; of packed ones nobody can tell. */
static void find_base(struct front_end *front, const struct driver_queue *queue)
{
	if (!queue->ring.packed)
		front->rings[queue->index].base =
			__atomic_load_n(&queue->ring.used->idx, __ATOMIC_ACQUIRE);
}

int front_driver_resume(struct virtio_driver *driver)
{
	struct front_end *front = front_of(driver);
	uint8_t status = front->status;
	int error = front_begin(front);

	if (!error)
		error = front_set_features(front, driver->accepted);
	if (!error && front->inflight_fd >= 0)
		error = front_inflight_set(front);
	if (!error)
		error = front_share_memory(front);
	for (unsigned int i = 0; i < driver->queue_count && !error; i++) {
		if (!driver->queues[i].ring.size)
			continue;
		find_base(front, &driver->queues[i]);
		error = front_ring_start(front, &driver->queues[i]);
	}
	if (!error)
		error = enable_rings(front);
	front->status = status;
	if (!error && front_has(front, VHOST_USER_PROTOCOL_F_STATUS))
		error = front_set_u64(front, VHOST_USER_SET_STATUS, status);
	/* What was kicked while nobody was there is not lost (QEMU: the host notifier is set). */
	for (unsigned int i = 0; i < driver->queue_count && !error; i++)
		if (front->rings[i].set_up)
			front_kick(front, i);
	return error;
}
