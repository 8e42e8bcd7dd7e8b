/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rings over vhost-user: set up by messages, started by a kick descriptor, stopped by GET_VRING_BASE.
 */
#include "vhost_user_device.h"

#include <errno.h>
#include <stdlib.h>

#include "vq_inflight.h"

/* ---- Base: where a ring was left ---- */

#define PACKED_INDEX 0x7fff
#define PACKED_WRAP 0x8000
#define PACKED_USED_SHIFT 16

static void packed_base_set(struct vqueue_info *vq, uint32_t base)
{
	uint32_t avail = base & UINT16_MAX, used = base >> PACKED_USED_SHIFT;

	/* Some set the lower half only (DPDK): then all that was taken is used. */
	if (!used)
		used = avail;
	vq->last_avail = avail & PACKED_INDEX;
	vq->avail_wrap = avail & PACKED_WRAP;
	vq->used_idx = used & PACKED_INDEX;
	vq->used_wrap = used & PACKED_WRAP;
}

static uint32_t packed_base(const struct vqueue_info *vq)
{
	uint32_t avail = vq->last_avail | (vq->avail_wrap ? PACKED_WRAP : 0);
	uint32_t used = vq->used_idx | (vq->used_wrap ? PACKED_WRAP : 0);

	return avail | used << PACKED_USED_SHIFT;
}

/* Of a split ring the message has the available index; the used index is in the ring. */
static int split_base_set(struct vqueue_info *vq, uint32_t base)
{
	const uint16_t *used = guest_memory_host(
		vq->vc->memory, vq->device_addr + offsetof(struct vring_used, idx), sizeof(*used));

	if (base > UINT16_MAX)
		return -EINVAL;
	if (!used || (uintptr_t)used % sizeof(*used))
		return -EFAULT;
	vq->last_avail = (uint16_t)base;
	vq->used_idx = __atomic_load_n(used, __ATOMIC_ACQUIRE);
	return 0;
}

static uint32_t ring_base(const struct vqueue_info *vq)
{
	return vq->packed ? packed_base(vq) : vq->last_avail;
}

/* ---- Where a ring is ---- */

static int ring_locate(struct vhost_user_device *device, struct vhost_user_ring *ring, bool packed)
{
	const struct guest_memory *memory = &device->memory;
	const struct vhost_user_vring_addr *addr = &ring->addr;
	struct vqueue_info *vq = ring->vq;
	uint64_t size = ring->size;

	vq->desc_addr =
		guest_memory_from_user(memory, addr->desc, sizeof(struct vring_desc) * size);
	if (packed) {
		vq->driver_addr = guest_memory_from_user(memory, addr->avail,
							 sizeof(struct vring_packed_desc_event));
		vq->device_addr = guest_memory_from_user(memory, addr->used,
							 sizeof(struct vring_packed_desc_event));
	} else {
		vq->driver_addr = guest_memory_from_user(memory, addr->avail, 6 + 2 * size);
		vq->device_addr = guest_memory_from_user(memory, addr->used, 6 + 8 * size);
	}
	if (vq->desc_addr == UINT64_MAX || vq->driver_addr == UINT64_MAX ||
	    vq->device_addr == UINT64_MAX)
		return -EFAULT;
	return 0;
}

/* The log address is the used ring's; a packed ring's used elements are in the descriptor ring. */
static int ring_log(struct vhost_user_device *device, struct vhost_user_ring *ring)
{
	bool ring_too = ring->addr.flags & BIT32(VHOST_USER_VRING_F_LOG);
	struct vqueue_info *vq = ring->vq;

	if (!(device->session.features & BIT64(VHOST_USER_F_LOG_ALL)) || !device->session.log.bits)
		return vq_set_dirty_log(vq, NULL, UINT64_MAX);
	return vq_set_dirty_log(vq, &device->session.log,
				!ring_too    ? UINT64_MAX
				: vq->packed ? vq->desc_addr
					     : ring->addr.log);
}

static int ring_attach_inflight(struct vhost_user_device *device, struct vhost_user_ring *ring)
{
	uint64_t size;
	void *memory = vhost_user_inflight(device, ring->vq->index, &size);
	int error = memory ? vq_inflight_attach(ring->vq, memory, size) : 0;

	if (!error)
		return 0;
	vhost_user_refuse(device, "ring %u: the inflight region %s", ring->vq->index,
			  error == -EINVAL    ? "was made for another size or format"
			  : error == -EBADMSG ? "contradicts itself or the ring"
					      : strerror(-error));
	return error;
}

/* The queue has its registers and its place: have it mapped and logged. */
static int queue_map(struct vhost_user_device *device, struct vhost_user_ring *ring)
{
	struct vqueue_info *vq = ring->vq;
	int error = virtio_queue_restore(device->vc, vq);

	if (!error)
		return ring_log(device, ring);
	return vhost_user_refuse(device, "ring %u of %u entries: %s", vq->index, vq->size,
				 error == -EFAULT ? "it is not in memory"
						  : "bad size, alignment or base");
}

/* ---- Start and stop; the device is quiesced ---- */

static void queue_start_failed(struct vhost_user_device *device, struct vhost_user_ring *ring)
{
	ring->vq->enabled = false;
	virtio_queue_reset(device->vc, ring->vq);
}

/* Anywhere but where it was stopped it is another ring: the device forgets what it had begun of it. */
static void queue_forget_other(struct vhost_user_device *device, struct vhost_user_ring *ring)
{
	if (ring->vq->stopped && ring->base != ring->stopped_at)
		virtio_queue_reset(device->vc, ring->vq);
}

static int queue_start(struct vhost_user_device *device, struct vhost_user_ring *ring)
{
	bool packed = virtio_has_feature(device->vc, VIRTIO_F_RING_PACKED);
	struct vqueue_info *vq = ring->vq;
	int error;

	queue_forget_other(device, ring);
	error = ring_locate(device, ring, packed);
	if (error)
		return vhost_user_refuse(device, "ring %u is not in memory", vq->index);
	vq->size = vq->size_written = ring->size;
	vq->packed = packed;
	if (packed)
		packed_base_set(vq, ring->base);
	else
		error = split_base_set(vq, ring->base);
	if (error)
		return vhost_user_refuse(device, "ring %u: bad base 0x%x or used ring", vq->index,
					 ring->base);
	vq->enabled = true;
	error = queue_map(device, ring);
	if (!error)
		error = ring_attach_inflight(device, ring);
	if (error)
		queue_start_failed(device, ring);
	else
		vq->stopped = false;
	return error;
}

static void queue_stop(struct vhost_user_device *device, struct vhost_user_ring *ring)
{
	ring->base = ring->stopped_at = ring_base(ring->vq);
	virtio_queue_stop(device->vc, ring->vq);
}

/*
 * A ring that may be used means a driver that runs, said or not: QEMU 7.2 accepts STATUS for its
 * vhost-user-rng and stops at FEATURES_OK.
 */
static void driver_runs(struct vhost_user_device *device)
{
	struct virtio_common *vc = device->vc;

	if (!(vc->status & VIRTIO_CONFIG_S_DRIVER_OK))
		virtio_set_status(vc, vc->status | VIRTIO_CONFIG_S_DRIVER_OK);
}

static bool ring_enabled(const struct vhost_user_device *device, const struct vhost_user_ring *ring)
{
	if (ring->enable_said)
		return ring->enabled;
	return !(device->session.features & BIT64(VHOST_USER_F_PROTOCOL_FEATURES));
}

/* A device that broke is as new when its first ring starts again: the driver's reset may not be told. */
static void forgive(struct vhost_user_device *device)
{
	struct virtio_common *vc = device->vc;

	if (vc->status & VIRTIO_CONFIG_S_NEEDS_RESET && !vhost_user_ring_runs(device))
		virtio_reset_dev(vc);
}

/* Bring the queue to what the front end said of its ring. */
static int ring_update(struct vhost_user_device *device, struct vhost_user_ring *ring)
{
	bool wanted = ring->started && ring_enabled(device, ring) && !vhost_user_awaits_log(device);
	int error = 0;

	if (wanted == ring->vq->enabled)
		return 0;
	if (!wanted) {
		virtio_quiesce(device->vc);
		queue_stop(device, ring);
		virtio_resume(device->vc);
		return 0;
	}
	if (!ring->has_addr)
		return vhost_user_refuse(device, "ring %u has no addresses yet", ring->vq->index);
	virtio_quiesce(device->vc);
	forgive(device);
	error = vhost_user_features_settle(device);
	if (!error)
		error = queue_start(device, ring);
	virtio_resume(device->vc);
	if (!error)
		driver_runs(device);
	return error;
}

int vhost_user_rings_update(struct vhost_user_device *device)
{
	int first = 0;

	for (unsigned int i = 0; i < device->ring_count; i++) {
		int error = ring_update(device, &device->rings[i]);

		first = first ? first : error;
	}
	return first;
}

/* What was accepted before it moved may be impossible where it is now: the driver's loss. */
static void ring_move(struct vhost_user_device *device, struct vhost_user_ring *ring)
{
	struct vqueue_info *vq = ring->vq;
	int error;

	if (!vq->enabled)
		return;
	error = ring_locate(device, ring, vq->packed);
	if (!error)
		error = queue_map(device, ring);
	if (!error)
		return;
	queue_stop(device, ring);
	virtio_device_error(device->vc, vq, "its ring is not in memory any more");
}

void vhost_user_rings_move(struct vhost_user_device *device)
{
	for (unsigned int i = 0; i < device->ring_count; i++)
		ring_move(device, &device->rings[i]);
}

/* Of a ring that broke the device may have chains for good, and it writes there no more. */
int vhost_user_rings_log(struct vhost_user_device *device)
{
	for (unsigned int i = 0; i < device->ring_count; i++) {
		struct vhost_user_ring *ring = &device->rings[i];
		bool used = ring->vq->enabled && !ring->vq->broken;
		int error = used ? ring_log(device, ring) : 0;

		if (error)
			return error;
	}
	return 0;
}

/* ---- Messages ---- */

static struct vhost_user_ring *ring_get(struct vhost_user_device *device, uint64_t index)
{
	if (index < device->ring_count)
		return &device->rings[index];
	vhost_user_refuse(device, "there is no ring %llu, but %u of them",
			  (unsigned long long)index, device->ring_count);
	return NULL;
}

int vhost_user_set_vring_num(struct vhost_user_device *device, struct vhost_user_message *message)
{
	const struct vhost_user_vring_state *state = &message->payload.state;
	struct vhost_user_ring *ring = ring_get(device, state->index);

	if (!ring)
		return -EINVAL;
	if (!state->num || state->num > ring->vq->size_max)
		return vhost_user_refuse(device, "ring %u of %u entries, %u at most", state->index,
					 state->num, ring->vq->size_max);
	if (ring->vq->enabled && state->num != ring->size)
		return vhost_user_refuse(device, "ring %u runs", state->index);
	ring->size = (uint16_t)state->num;
	return 0;
}

/* Also sent while a ring runs: its log is turned on and off by it. */
int vhost_user_set_vring_addr(struct vhost_user_device *device, struct vhost_user_message *message)
{
	const struct vhost_user_vring_addr *addr = &message->payload.addr;
	struct vhost_user_ring *ring = ring_get(device, addr->index);

	if (!ring)
		return -EINVAL;
	if (!device->memory.count)
		return vhost_user_refuse(device, "ring %u before memory", addr->index);
	ring->addr = *addr;
	ring->has_addr = true;
	if (!ring->vq->enabled)
		return 0;
	virtio_quiesce(device->vc);
	ring_move(device, ring);
	virtio_resume(device->vc);
	return 0;
}

int vhost_user_set_vring_base(struct vhost_user_device *device, struct vhost_user_message *message)
{
	const struct vhost_user_vring_state *state = &message->payload.state;
	struct vhost_user_ring *ring = ring_get(device, state->index);

	if (!ring)
		return -EINVAL;
	if (ring->vq->enabled)
		return vhost_user_refuse(device, "ring %u runs", state->index);
	ring->base = state->num;
	return 0;
}

int vhost_user_get_vring_base(struct vhost_user_device *device, struct vhost_user_message *message)
{
	struct vhost_user_vring_state state = message->payload.state;
	struct vhost_user_ring *ring = ring_get(device, state.index);
	int error;

	if (!ring)
		return -EINVAL;
	ring->started = false;
	error = ring_update(device, ring);
	vhost_user_kick_close(ring);
	state.num = ring->base;
	vhost_user_answer(device, &state, sizeof(state));
	return error;
}

/* The index, and whether a descriptor comes with it as the message says; NULL with the rule. */
static struct vhost_user_ring *ring_of_fd(struct vhost_user_device *device,
					  const struct vhost_user_message *message)
{
	uint64_t index = message->payload.u64 & VHOST_USER_VRING_INDEX;
	bool none = message->payload.u64 & VHOST_USER_VRING_NO_FD;

	if (message->payload.u64 & ~(uint64_t)(VHOST_USER_VRING_INDEX | VHOST_USER_VRING_NO_FD)) {
		vhost_user_refuse(device, "0x%llx has bits that mean nothing",
				  (unsigned long long)message->payload.u64);
		return NULL;
	}
	if (none != !message->fd_count) {
		vhost_user_refuse(device, "ring %llu: %s file descriptor",
				  (unsigned long long)index,
				  none ? "said to have no" : "without a");
		return NULL;
	}
	return ring_get(device, index);
}

int vhost_user_set_vring_kick(struct vhost_user_device *device, struct vhost_user_message *message)
{
	struct vhost_user_ring *ring = ring_of_fd(device, message);
	bool ran;
	int error;

	if (!ring)
		return -EINVAL;
	ran = ring->vq->enabled;
	if (ran)
		virtio_quiesce(device->vc);
	error = message->fd_count ? vhost_user_kick_open(device, ring, vhost_user_take_fd(message))
				  : vhost_user_kick_poll(device, ring);
	if (ran)
		virtio_resume(device->vc);
	if (error)
		return error;
	ring->started = true;
	return ring_update(device, ring);
}

/* Others than these may have us wait when they are written to. */
static int set_signal(struct vhost_user_device *device, struct vhost_user_message *message,
		      struct vhost_user_signal *signal)
{
	vhost_user_signal_close(signal);
	if (!message->fd_count)
		return 0;
	*signal = vhost_user_signal_make(vhost_user_take_fd(message));
	if (signal->is_eventfd || signal->is_socket)
		return 0;
	vhost_user_signal_close(signal);
	return vhost_user_refuse(device, "its descriptor is neither an eventfd nor a socket");
}

/*
 * Who runs the queue in our place has to be told of the new one: it starts anew. What was signalled
 * to the one before may have been in vain (QEMU's own while interrupts are masked, a dead process's),
 * and with EVENT_IDX would not be said again: so say it once too often.
 */
int vhost_user_set_vring_call(struct vhost_user_device *device, struct vhost_user_message *message)
{
	struct vhost_user_ring *ring = ring_of_fd(device, message);
	bool offloaded;
	int error;

	if (!ring)
		return -EINVAL;
	offloaded = ring->vq->offloaded;
	if (offloaded)
		virtio_quiesce(device->vc);
	error = set_signal(device, message, &ring->call);
	if (!error)
		vhost_user_signal_send(device, &ring->call);
	if (offloaded)
		virtio_resume(device->vc);
	return error;
}

int vhost_user_set_vring_err(struct vhost_user_device *device, struct vhost_user_message *message)
{
	struct vhost_user_ring *ring = ring_of_fd(device, message);

	return ring ? set_signal(device, message, &ring->err) : -EINVAL;
}

int vhost_user_set_vring_enable(struct vhost_user_device *device,
				struct vhost_user_message *message)
{
	const struct vhost_user_vring_state *state = &message->payload.state;
	struct vhost_user_ring *ring = ring_get(device, state->index);

	if (!ring)
		return -EINVAL;
	if (state->num > 1)
		return vhost_user_refuse(device, "ring %u: %u is neither 0 nor 1", state->index,
					 state->num);
	ring->enable_said = true;
	ring->enabled = state->num;
	return ring_update(device, ring);
}

/* ---- Their life ---- */

static void ring_forget(struct vhost_user_ring *ring, bool calls)
{
	vhost_user_kick_close(ring);
	ring->started = ring->has_addr = ring->enabled = ring->enable_said = false;
	ring->base = 0;
	ring->size = ring->vq->size_max;
	if (!calls)
		return;
	vhost_user_signal_close(&ring->call);
	vhost_user_signal_close(&ring->err);
}

void vhost_user_rings_forget(struct vhost_user_device *device, bool calls)
{
	for (unsigned int i = 0; i < device->ring_count; i++)
		ring_forget(&device->rings[i], calls);
}

static int ring_create(struct vhost_user_ring *ring, struct vqueue_info *vq)
{
	*ring = (struct vhost_user_ring) { .vq = vq,
					   .size = vq->size_max,
					   .kick_fd = -1,
					   .call.fd = -1,
					   .err.fd = -1,
					   .later_fd = -1,
					   .relay_fd = -1 };
	return vhost_user_kick_create(ring);
}

int vhost_user_rings_create(struct vhost_user_device *device)
{
	struct virtio_common *vc = device->vc;
	int error = 0;

	device->rings = calloc(vc->nvq, sizeof(*device->rings));
	if (!device->rings)
		return -ENOMEM;
	for (unsigned int i = 0; !error && i < vc->nvq; i++) {
		error = ring_create(&device->rings[i], &vc->vqs[i]);
		device->ring_count++;
	}
	return error;
}

void vhost_user_rings_destroy(struct vhost_user_device *device)
{
	for (unsigned int i = 0; i < device->ring_count; i++)
		vhost_user_kick_destroy(&device->rings[i]);
	free(device->rings);
	device->rings = NULL;
	device->ring_count = 0;
}
