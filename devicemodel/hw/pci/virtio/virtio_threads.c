/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which thread works on which queue of a device, under which lock, and whether it looks for chains
 * by itself (doc/design.md, "Threads and locks").
 */
#include <errno.h>
#include <stdio.h>

#include "iothread.h"
#include "thread.h"
#include "virtio_transport.h"

#define NAME_PREFIX "virtio-"

/* ---- Loops ---- */

/* "blk@00:03.0", and for the other threads of the device "blk@00:03.0.1". */
static const char *thread_name(const struct virtio_common *vc, unsigned int index, char *text,
			       size_t size)
{
	const char *name = vc->name;

	if (!strncmp(name, NAME_PREFIX, strlen(NAME_PREFIX)))
		name += strlen(NAME_PREFIX);
	if (index)
		snprintf(text, size, "%s.%u", name, index);
	else
		snprintf(text, size, "%s", name);
	return text;
}

/* The @index-th of the names in @list, which begins again behind the last. */
static const char *list_item(const char *list, unsigned int index, char *text, size_t size)
{
	const char *item = list;

	while (index--) {
		item = strchr(item, '+');
		item = item ? item + 1 : list;
	}
	snprintf(text, size, "%.*s", (int)strcspn(item, "+"), item);
	return text;
}

/* The loop of the device's @index-th thread; NULL: there can be no more. */
static struct event_loop *thread_loop(const struct virtio_common *vc, unsigned int index)
{
	char text[80];

	if (vc->opt_iothread)
		return iothread_loop(vc->iothreads,
				     list_item(vc->opt_iothread, index, text, sizeof(text)), false);
	/* More threads than CPUs are of no use. */
	return iothread_loop(vc->iothreads,
			     thread_name(vc, index % cpus_available(), text, sizeof(text)), true);
}

/*
 * Where time stands still until somebody lets it pass, all that devices do is in one thread: what a
 * test sees must not depend on which of two was faster.
 */
static bool threads_wanted(const struct virtio_common *vc)
{
	return vc->iothreads && !event_loop_is_virtual(vc->loop);
}

static int check_names(const struct virtio_common *vc)
{
	unsigned int count = 1;
	char text[80], all[256];

	for (const char *at = vc->opt_iothread; (at = strchr(at, '+')); at++)
		count++;
	for (unsigned int i = 0; i < count; i++) {
		list_item(vc->opt_iothread, i, text, sizeof(text));
		if (vc->iothreads && iothread_loop(vc->iothreads, text, false))
			continue;
		log_error(vc->log, "%s: iothread=%s: no thread is called \"%s\" (%s)", vc->name,
			  vc->opt_iothread, text, iothreads_names(vc->iothreads, all, sizeof(all)));
		return -ENOENT;
	}
	return 0;
}

int virtio_threads_choose(struct virtio_common *vc)
{
	struct event_loop *loop;
	int error = vc->opt_iothread ? check_names(vc) : 0;

	if (error || !threads_wanted(vc))
		return error;
	loop = thread_loop(vc, 0);
	if (loop)
		vc->loop = loop;
	return 0;
}

void virtio_queue_place(struct vqueue_info *vq)
{
	struct virtio_common *vc = vq->vc;
	unsigned int group = vc->ops->queue_group ? vc->ops->queue_group : 1;
	struct event_loop *loop;

	vq->loop = vc->loop;
	vq->lock = vc->lock;
	if (!vc->ops->queue_alone || !vc->ops->queue_alone(vc, vq->index))
		return;
	vq->lock = &vq->own_lock;
	vc->queues_alone = true;
	loop = threads_wanted(vc) ? thread_loop(vc, vq->index / group) : NULL;
	if (loop)
		vq->loop = loop;
}

void virtio_queues_ask(struct virtio_common *vc)
{
	for (uint16_t i = 0; vc->queues_alone && i < vc->nvq; i++)
		vc->vqs[i].together = !vc->ops->queue_alone(vc, i);
}

/* ---- Locks ---- */

void virtio_lock_queues(struct virtio_common *vc)
{
	if (!vc->queues_locked)
		for (unsigned int i = 0; vc->queues_alone && i < vc->nvq; i++)
			if (vc->vqs[i].lock != vc->lock)
				pthread_mutex_lock(vc->vqs[i].lock);
	vc->queues_locked++;
}

void virtio_unlock_queues(struct virtio_common *vc)
{
	if (--vc->queues_locked)
		return;
	for (unsigned int i = vc->queues_alone ? vc->nvq : 0; i-- > 0;)
		if (vc->vqs[i].lock != vc->lock)
			pthread_mutex_unlock(vc->vqs[i].lock);
}

/* ---- Looking for chains ---- */

/* The device is told once of what is new; if it does not look, it has its reasons. */
static bool queue_poll(void *arg)
{
	struct vqueue_info *vq = arg;

	if (!vq->kicks_armed || vq->told || !virtio_queue_usable(vq) || !vq->ops->has_new(vq))
		return false;
	vq->told = true;
	virtio_queue_notify(vq);
	return true;
}

static bool queue_sleep(void *arg)
{
	struct vqueue_info *vq = arg;

	if (!vq->polled)
		return false;
	vq->polled = false;
	vq->ops->set_polled(vq);
	/* The driver may have looked before it was asked. */
	return vq->kicks_armed && !vq->told && vq->ops->has_new(vq);
}

static void queue_wake(void *arg)
{
	struct vqueue_info *vq = arg;

	if (!virtio_queue_usable(vq))
		return;
	vq->polled = true;
	vq->ops->set_polled(vq);
}

static const struct event_poller_ops queue_poller_ops = {
	.poll = queue_poll,
	.sleep = queue_sleep,
	.wake = queue_wake,
};

void virtio_queue_poll_update(struct vqueue_info *vq)
{
	bool usable = virtio_queue_usable(vq);

	if (!vq->poller)
		return;
	if (!usable && vq->polled) {
		vq->polled = false;
		if (vq->enabled && !vq->broken && !vq->offloaded)
			vq->ops->set_polled(vq);
	}
	event_set_events(vq->poller, usable ? EPOLLIN : 0);
}

static int poller_create(struct vqueue_info *vq)
{
	bool always = vq->vc->opt_poll == VIRTIO_POLL_ON;

	pthread_mutex_lock(vq->lock);
	vq->poller = event_add_poller(vq->loop, vq->lock, always, &queue_poller_ops, vq);
	if (vq->poller)
		virtio_queue_poll_update(vq);
	pthread_mutex_unlock(vq->lock);
	return vq->poller ? 0 : -ENOMEM;
}

/* ---- What a queue's thread leaves to the device's ---- */

static void on_pending_timer(void *arg, uint32_t events)
{
	struct virtio_common *vc = arg;

	virtio_lock_queues(vc);
	virtio_pending_finish(vc);
	virtio_unlock_queues(vc);
}

int virtio_threads_start(struct virtio_common *vc)
{
	int error = 0;

	if (vc->queues_alone) {
		vc->pending_timer = event_add_timer(vc->loop, vc->lock, on_pending_timer, vc);
		if (!vc->pending_timer) {
			error = -errno;
			log_error(vc->log, "%s: cannot make a timer: %s (raise ulimit -n)",
				  vc->name, strerror(-error));
			return error;
		}
	}
	if (vc->opt_poll == VIRTIO_POLL_OFF || vc->kicks_elsewhere || !vc->loop)
		return 0;
	for (unsigned int i = 0; !error && i < vc->nvq; i++)
		error = poller_create(&vc->vqs[i]);
	return error;
}

void virtio_threads_stop(struct virtio_common *vc)
{
	for (unsigned int i = 0; i < vc->nvq; i++) {
		event_remove(vc->vqs[i].poller);
		vc->vqs[i].poller = NULL;
	}
	event_remove(vc->pending_timer);
	vc->pending_timer = NULL;
}
