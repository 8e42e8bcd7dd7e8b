/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who tells whom of a ring over vhost-user: the front end's kicks and our calls, and what the kernel
 * gets of them where it runs the queue.
 *
 * A kick descriptor is never read: it is watched for edges, which come with each signal. So it costs
 * no call, and who has no O_NONBLOCK there cannot stop us.
 */
#include "vhost_user_device.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "eventfd.h"

#define POLL_PERIOD_NS 50000 /* of a ring without kicks, where the loop does not poll by itself */

/* @arg: the queue. Its own lock is held. */
static void on_kick(void *arg, uint32_t events)
{
	struct vqueue_info *vq = arg;

	if (!vq->offloaded)
		virtio_queue_notify(vq);
}

static struct vhost_user_ring *ring_of(const struct vqueue_info *vq)
{
	struct vhost_user_device *device = vq->vc->transport_arg;

	return &device->rings[vq->index];
}

static void signal_send(const struct vqueue_info *vq, const struct vhost_user_signal *signal)
{
	vhost_user_signal_send(vq->vc->transport_arg, signal);
}

static void kick_signal(const struct vhost_user_ring *ring)
{
	struct vhost_user_signal kick = vhost_user_signal_make(ring->kick_fd);

	signal_send(ring->vq, &kick);
}

static void on_later(void *arg, uint32_t events)
{
	struct vqueue_info *vq = arg;
	struct vhost_user_ring *ring = ring_of(vq);

	eventfd_take(ring->later_fd);
	if (vq->offloaded)
		kick_signal(ring);
	else
		virtio_queue_notify(vq);
}

void vhost_user_kick_later(struct virtio_common *vc, struct vqueue_info *vq)
{
	if (vq->offloaded)
		kick_signal(ring_of(vq));
	else
		eventfd_signal(ring_of(vq)->later_fd);
}

void vhost_user_notify_queue(struct virtio_common *vc, struct vqueue_info *vq)
{
	signal_send(vq, &ring_of(vq)->call);
}

void vhost_user_kick_close(struct vhost_user_ring *ring)
{
	event_remove(ring->kick_source);
	event_remove(ring->poll_source);
	ring->kick_source = ring->poll_source = NULL;
	if (ring->kick_fd >= 0)
		close(ring->kick_fd);
	ring->kick_fd = ring->vq->kick_fd = -1;
	ring->polled = false;
}

int vhost_user_kick_open(struct vhost_user_device *device, struct vhost_user_ring *ring, int fd)
{
	struct vqueue_info *vq = ring->vq;

	vhost_user_kick_close(ring);
	ring->kick_fd = vq->kick_fd = fd;
	ring->kick_source = event_add_fd(vq->loop, fd, EPOLLIN | EPOLLET, vq->lock, on_kick, vq);
	if (ring->kick_source)
		return 0;
	vhost_user_refuse(device, "its descriptor cannot be waited for: %s", strerror(errno));
	vhost_user_kick_close(ring);
	return -EINVAL;
}

/* The front end wants no kicks, so that we must look. */
int vhost_user_kick_poll(struct vhost_user_device *device, struct vhost_user_ring *ring)
{
	struct vqueue_info *vq = ring->vq;

	vhost_user_kick_close(ring);
	ring->polled = true;
	ring->poll_source = event_add_real_timer(vq->loop, vq->lock, on_kick, vq);
	if (!ring->poll_source)
		return vhost_user_refuse(device, "no timer for it: %s", strerror(errno));
	event_set_timer(ring->poll_source, POLL_PERIOD_NS, POLL_PERIOD_NS);
	return 0;
}

/* ---- The kernel runs it ---- */

static void on_relay(void *arg, uint32_t events)
{
	struct vqueue_info *vq = arg;

	eventfd_take(ring_of(vq)->relay_fd);
	signal_send(vq, &ring_of(vq)->call);
}

static void relay_close(struct vhost_user_ring *ring)
{
	event_remove(ring->relay_source);
	ring->relay_source = NULL;
	if (ring->relay_fd >= 0)
		close(ring->relay_fd);
	ring->relay_fd = -1;
}

static int relay_open(struct vhost_user_ring *ring)
{
	struct vqueue_info *vq = ring->vq;

	ring->relay_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (ring->relay_fd < 0)
		return -errno;
	ring->relay_source =
		event_add_fd(vq->loop, ring->relay_fd, EPOLLIN, vq->lock, on_relay, vq);
	if (ring->relay_source)
		return 0;
	relay_close(ring);
	return -ENOMEM;
}

/*
 * Whoever runs the queue gets the front end's own descriptors; of those that are no eventfds the
 * call is passed on.
 */
int vhost_user_offload(struct virtio_common *vc, struct vqueue_info *vq, bool on)
{
	struct vhost_user_ring *ring = ring_of(vq);
	int error = 0;

	if (on && ring->kick_fd < 0)
		return -EOPNOTSUPP;
	if (on && ring->call.is_socket)
		error = relay_open(ring);
	if (error)
		return error;
	vq->call_fd = on ? (ring->call.is_socket ? ring->relay_fd : ring->call.fd) : -1;
	if (!on && ring->relay_fd >= 0) {
		on_relay(vq, 0);
		relay_close(ring);
	}
	if (ring->kick_source)
		event_set_events(ring->kick_source, on ? 0 : EPOLLIN | EPOLLET);
	if (on)
		kick_signal(ring);
	eventfd_signal(ring->later_fd);
	return 0;
}

/* ---- Their life ---- */

int vhost_user_kick_create(struct vhost_user_ring *ring)
{
	struct vqueue_info *vq = ring->vq;

	ring->later_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (ring->later_fd < 0)
		return -errno;
	ring->later_source =
		event_add_fd(vq->loop, ring->later_fd, EPOLLIN, vq->lock, on_later, vq);
	return ring->later_source ? 0 : -errno;
}

void vhost_user_kick_destroy(struct vhost_user_ring *ring)
{
	event_remove(ring->later_source);
	relay_close(ring);
	if (ring->later_fd >= 0)
		close(ring->later_fd);
}
