/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * vhost_user_backend.h: a virtio device served over vhost-user: a front end (somebody else's VMM)
 * connects to its socket, shares the guest's memory and hands over the rings. What is said there is
 * in vhost_user.h.
 */
#ifndef TENON_VHOST_USER_BACKEND_H
#define TENON_VHOST_USER_BACKEND_H

#include "event_loop.h"
#include "logger.h"

struct iothreads;
struct vhost_user_device;
struct virtio_ops;

/**
 * struct vhost_user_device_config - one device to be served; strings are the caller's, and outlive it.
 * @kind: the kind of device; @options: its own, as behind the name in -s, or NULL
 * @name: for messages
 * @path: where to listen; NULL: @fd is used
 * @fd: a listening socket; or a connected one: then @ended is called when the front end leaves. It is
 *      closed in the end
 * @loop: where its events run, as far as its options do not say otherwise
 * @iothreads: where iothread= finds its thread; may be NULL
 * @ended, @arg: called by the device's thread
 */
struct vhost_user_device_config {
	const struct virtio_ops *kind;
	const char *options;
	const char *name;
	const char *path;
	int fd;
	struct event_loop *loop;
	struct iothreads *iothreads;
	void (*ended)(void *arg);
	void *arg;
};

/**
 * vhost_user_device_create() - make the device and listen: front ends are served as soon as the loop
 * runs, one at a time; another that connects waits until the one before it has left.
 * Return: NULL with errno after one log line.
 */
struct vhost_user_device *
vhost_user_device_create(struct logger *log,
			 const struct vhost_user_device_config *config) __must_check;

/**
 * vhost_user_device_stop() - leave the front end, with nothing in flight, and listen no more. The
 * loops may run or not.
 */
void vhost_user_device_stop(struct vhost_user_device *device);

/** vhost_user_device_destroy() - after its stop, and after that of the loops. NULL is harmless. */
void vhost_user_device_destroy(struct vhost_user_device *device);

#endif
