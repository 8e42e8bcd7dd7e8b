/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A virtio device behind a socket: vhost-user is its transport. Making it, its front ends one after the
 * other, and its end.
 */
#include "vhost_user_device.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "eventfd.h"

/* ---- The transport ---- */

/* Perhaps with a queue's lock only: the loop does the rest. */
static void notify_config(struct virtio_common *vc)
{
	struct vhost_user_device *device = vc->transport_arg;

	if (vc->status & VIRTIO_CONFIG_S_NEEDS_RESET)
		__atomic_store_n(&device->broke, true, __ATOMIC_RELAXED);
	__atomic_store_n(&device->config_changed, true, __ATOMIC_RELEASE);
	eventfd_signal(device->events_fd);
}

static void status_changed(struct virtio_common *vc)
{
}

static const struct virtio_transport_ops vhost_user_transport = {
	.notify_queue = vhost_user_notify_queue,
	.notify_config = notify_config,
	.kick_later = vhost_user_kick_later,
	.status_changed = status_changed,
	.offload = vhost_user_offload,
	/* Nothing in the protocol says how large a ring may be; 1024 is what other back ends take. */
	.queue_size = 1024,
};

static void on_events(void *arg, uint32_t events)
{
	struct vhost_user_device *device = arg;

	if (!eventfd_take(device->events_fd))
		return;
	if (__atomic_exchange_n(&device->broke, false, __ATOMIC_ACQUIRE))
		for (unsigned int i = 0; i < device->ring_count; i++)
			vhost_user_signal_send(device, &device->rings[i].err);
	vhost_user_channel_config(device);
}

/* ---- Front ends ---- */

/* While one is served, the next one waits in the socket's queue: its predecessor may just be leaving. */
static void on_listen(void *arg, uint32_t events)
{
	struct vhost_user_device *device = arg;
	int fd;

	if (device->session.fd >= 0) {
		log_guest_of(device->log, device,
			     "%s: another front end waits until this one leaves", device->vc->name);
		event_set_events(device->listen_source, 0);
		return;
	}
	fd = accept4(device->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			log_guest_of(device->log, device, "%s: cannot accept a front end: %s",
				     device->vc->name, strerror(errno));
		return;
	}
	if (vhost_user_session_begin(device, fd))
		log_guest_of(device->log, device, "%s: cannot serve a front end: %s",
			     device->vc->name, strerror(errno));
}

/* Is @fd a socket on which others connect? -errno: it is no socket. */
static int socket_listens(int fd)
{
	int value = 0;
	socklen_t size = sizeof(value);

	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &size) < 0)
		return -errno;
	return value;
}

static int descriptor_prepare(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ||
	    fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

static int socket_inherit(struct vhost_user_device *device)
{
	int fd = device->config.fd;
	int listens = socket_listens(fd);
	int error = listens < 0 ? listens : descriptor_prepare(fd);

	if (error) {
		log_error(device->log, "--fd %d: %s (hand over a Unix socket that listens)", fd,
			  strerror(-error));
		return error;
	}
	if (listens) {
		device->listen_fd = fd;
		return 0;
	}
	error = vhost_user_session_begin(device, fd);
	if (error)
		log_error(device->log, "--fd %d: cannot be served: %s", fd, strerror(-error));
	return error;
}

static int socket_open(struct vhost_user_device *device)
{
	const struct vhost_user_device_config *config = &device->config;
	char what[sizeof(device->listener.path) + 16];
	int error;

	if (!config->path)
		return socket_inherit(device);
	snprintf(what, sizeof(what), "--socket %s", config->path);
	error = unix_socket_listen(device->log, what, config->path, &device->listener);
	device->listen_fd = device->listener.fd;
	return error;
}

static int listen_begin(struct vhost_user_device *device)
{
	int error = socket_open(device);

	if (error || device->listen_fd < 0)
		return error;
	device->listen_source =
		virtio_add_event(device->vc, device->listen_fd, EPOLLIN, on_listen, device);
	if (device->listen_source)
		return 0;
	error = -errno;
	log_error(device->log, "%s: cannot wait for front ends: %s", device->vc->name,
		  strerror(-error));
	return error;
}

static void listen_end(struct vhost_user_device *device)
{
	event_remove(device->listen_source);
	device->listen_source = NULL;
	unix_socket_close(&device->listener);
	if (!device->config.path && device->listen_fd >= 0)
		close(device->listen_fd);
	device->listen_fd = -1;
}

/* ---- Its life ---- */

static struct vhost_user_device *device_alloc(struct logger *log,
					      const struct vhost_user_device_config *config)
{
	struct vhost_user_device *device = calloc(1, sizeof(*device));

	if (!device)
		return NULL;
	device->log = log;
	device->config = *config;
	device->memory.fd = device->next.fd = -1;
	device->listener.fd = device->listen_fd = device->events_fd = -1;
	device->session.fd = device->session.channel_fd = device->session.out.fd = -1;
	pthread_mutex_init(&device->lock, NULL);
	device->vc = calloc(1, config->kind->priv_size);
	if (device->vc)
		return device;
	vhost_user_device_destroy(device);
	return NULL;
}

/* Its events: what its own thread is to do for others. */
static int events_create(struct vhost_user_device *device)
{
	device->events_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (device->events_fd < 0)
		return -errno;
	device->events_source =
		virtio_add_event(device->vc, device->events_fd, EPOLLIN, on_events, device);
	return device->events_source ? 0 : -errno;
}

static int device_link(struct vhost_user_device *device)
{
	const struct vhost_user_device_config *config = &device->config;
	struct virtio_common *vc = device->vc;
	int error;

	vc->name = config->name;
	vc->vm_name = config->path ? config->path : config->name;
	vc->log = device->log;
	vc->memory = &device->memory;
	vc->loop = config->loop;
	vc->iothreads = config->iothreads;
	vc->lock = &device->lock;
	vc->transport = &vhost_user_transport;
	vc->transport_arg = device;
	error = virtio_linkup(vc, config->kind, config->options);
	if (error) {
		vc->ops = NULL;
		return error;
	}
	if (!vc->kicks_elsewhere)
		return 0;
	log_error(device->log,
		  "%s: cannot be served: the kernel's module that runs it knows VMs of ACRN only",
		  vc->name);
	return -EOPNOTSUPP;
}

static int device_serve(struct vhost_user_device *device)
{
	int error = events_create(device);

	vhost_user_signals_create(device);
	if (!error)
		error = vhost_user_rings_create(device);
	if (!error)
		return listen_begin(device);
	log_error(device->log, "%s: cannot be served: %s", device->vc->name, strerror(-error));
	return error;
}

struct vhost_user_device *vhost_user_device_create(struct logger *log,
						   const struct vhost_user_device_config *config)
{
	struct vhost_user_device *device = device_alloc(log, config);
	int error;

	if (!device) {
		log_error(log, "%s: out of memory", config->name);
		errno = ENOMEM;
		return NULL;
	}
	error = device_link(device);
	pthread_mutex_lock(&device->lock);
	if (!error)
		error = device_serve(device);
	pthread_mutex_unlock(&device->lock);
	if (!error)
		return device;
	vhost_user_device_stop(device);
	vhost_user_device_destroy(device);
	errno = -error;
	return NULL;
}

void vhost_user_device_stop(struct vhost_user_device *device)
{
	struct virtio_common *vc = device->vc;

	if (!vc->ops)
		return;
	pthread_mutex_lock(&device->lock);
	virtio_lock_queues(vc);
	listen_end(device);
	vhost_user_session_end(device);
	vhost_user_rings_destroy(device);
	event_remove(device->events_source);
	device->events_source = NULL;
	virtio_unlock_queues(vc);
	pthread_mutex_unlock(&device->lock);
}

/* Loops may look at the queues' locks until they have stopped, and so the device stays until then. */
void vhost_user_device_destroy(struct vhost_user_device *device)
{
	if (!device)
		return;
	if (device->vc && device->vc->ops) {
		pthread_mutex_lock(&device->lock);
		virtio_unlink(device->vc);
		pthread_mutex_unlock(&device->lock);
	}
	vhost_user_signals_destroy(device);
	if (device->events_fd >= 0)
		close(device->events_fd);
	free(device->vc);
	pthread_mutex_destroy(&device->lock);
	free(device);
}
