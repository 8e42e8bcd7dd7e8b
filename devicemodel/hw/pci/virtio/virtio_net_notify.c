/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-net's notification coalescing (virtio 1.4, 5.1.9.5.10): the driver may have the device wait
 * for several frames, or for some time, before it hears of used buffers. While it waits, the used
 * buffers are not shown either: the ring's own rules (EVENT_IDX, flags) decide when they are.
 */
#include <errno.h>

#include "virtio_net.h"

#define NS_PER_US UINT64_C(1000)

/* Enough frames, or half of the ring: a driver must not run out of descriptors for waiting. */
static bool notify_enough(const struct net_notify *notify)
{
	return notify->packets >= notify->coalesce.max_packets ||
	       notify->descs >= MAX(notify->vq->size / 2u, 1);
}

/* "When max_usecs or max_packets is 0, the conditions are met after every packet." */
static bool notify_waits(const struct net_coalesce *coalesce)
{
	return coalesce->max_packets && coalesce->max_usecs;
}

/* None wait any more. */
static void notify_clear(struct net_notify *notify)
{
	notify->packets = notify->descs = 0;
	if (notify->pending)
		event_set_timer(notify->timer, 0, 0);
	notify->pending = false;
}

void net_notify_flush(struct net_notify *notify)
{
	if (!notify->packets)
		return;
	notify_clear(notify);
	vq_endchains(notify->vq, 0);
}

static void on_notify(void *arg, uint32_t expirations)
{
	net_notify_flush(arg);
}

void net_notify_end(struct net_notify *notify, bool used_all, bool hungers)
{
	if (!notify_waits(&notify->coalesce)) {
		notify_clear(notify);
		vq_endchains(notify->vq, used_all);
		return;
	}
	if (!notify->packets)
		return;
	if (notify_enough(notify) || (used_all && hungers)) {
		net_notify_flush(notify);
	} else if (!notify->pending) {
		event_set_timer(notify->timer, notify->coalesce.max_usecs * NS_PER_US, 0);
		notify->pending = true;
	}
}

int net_notify_init(struct net_notify *notify, struct vqueue_info *vq)
{
	notify->vq = vq;
	notify->timer = event_add_timer(vq->loop, vq->lock, on_notify, notify);
	return notify->timer ? 0 : -errno;
}

void net_notify_deinit(struct net_notify *notify)
{
	event_remove(notify->timer);
	notify->timer = NULL;
}

void net_notify_drop(struct net_notify *notify, const struct net_coalesce *coalesce)
{
	notify_clear(notify);
	notify->coalesce = *coalesce;
}

/* ---- All queues ---- */

/* The notifications of queue @index; NULL: it is no receive or transmit queue. */
static struct net_notify *notify_of(const struct virtio_net *net, unsigned int index)
{
	struct net_pair *pair = &net->pairs[index / NET_PAIR_QUEUES];

	if (index >= NET_PAIR_QUEUES * net_pairs_known(net))
		return NULL;
	return index % NET_PAIR_QUEUES == NET_QUEUE_RX ? &pair->rx.notify : &pair->tx.notify;
}

static void notify_set(struct net_notify *notify, const struct net_coalesce *coalesce)
{
	net_notify_flush(notify);
	notify->coalesce = *coalesce;
}

void net_notify_reset(struct virtio_net *net)
{
	memset(net->coalesce, 0, sizeof(net->coalesce));
	for (unsigned int i = 0; i < net->pair_count; i++) {
		net_notify_drop(&net->pairs[i].rx.notify, &net->coalesce[NET_QUEUE_RX]);
		net_notify_drop(&net->pairs[i].tx.notify, &net->coalesce[NET_QUEUE_TX]);
	}
}

void net_notify_flush_all(struct virtio_net *net)
{
	for (unsigned int i = 0; i < net->pair_count; i++) {
		net_notify_flush(&net->pairs[i].rx.notify);
		net_notify_flush(&net->pairs[i].tx.notify);
	}
}

bool net_notify_coalesces(const struct virtio_net *net)
{
	for (unsigned int i = 0; i < NET_PAIR_QUEUES * net_pairs_known(net); i++)
		if (notify_waits(&notify_of(net, i)->coalesce))
			return true;
	return notify_waits(&net->coalesce[NET_QUEUE_RX]) ||
	       notify_waits(&net->coalesce[NET_QUEUE_TX]);
}

/* ---- Commands (virtio 1.4, 5.1.9.5.10.6) ---- */

/* Nobody waits that long, and while the kernel runs the queues it notifies as it likes. */
static bool notify_can(const struct virtio_net *net, const struct net_coalesce *coalesce)
{
	return coalesce->max_usecs <= NET_COALESCE_USECS_MAX &&
	       !(net->vhost.running && notify_waits(coalesce));
}

bool net_notify_set_all(struct virtio_net *net, unsigned int kind,
			const struct net_coalesce *coalesce)
{
	if (!notify_can(net, coalesce))
		return false;
	net->coalesce[kind] = *coalesce;
	for (unsigned int i = kind; i < NET_PAIR_QUEUES * net_pairs_known(net);
	     i += NET_PAIR_QUEUES)
		notify_set(notify_of(net, i), coalesce);
	return true;
}

bool net_notify_set_queue(struct virtio_net *net, uint16_t index,
			  const struct net_coalesce *coalesce)
{
	struct net_notify *notify = notify_of(net, index);

	if (!notify || !notify->vq->enabled || !notify_can(net, coalesce))
		return false;
	notify_set(notify, coalesce);
	return true;
}

bool net_notify_get_queue(const struct virtio_net *net, uint16_t index,
			  struct net_coalesce *coalesce)
{
	const struct net_notify *notify = notify_of(net, index);

	if (!notify || !notify->vq->enabled)
		return false;
	*coalesce = notify->coalesce;
	return true;
}
