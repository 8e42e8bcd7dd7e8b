/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The tap back end of net_backend.h: /dev/net/tun by interface name, or a tap that is already open.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "net_internal.h"
#include "net_link.h"
#include "net_tap.h"
#include "net_tap_batch.h"

/*
 * One queue.
 * @source: of its descriptor, NULL while the queue is detached and once the interface is gone
 * @receiving: the user wants to hear of frames
 * @loop, @lock: where its events run
 * @batch: what is to be sent together, NULL: frames are sent one by one; @lost: of what was in it
 */
struct tap_queue {
	struct net_tap *net;
	unsigned int index;
	struct event_source *source;
	bool receiving;
	struct event_loop *loop;
	pthread_mutex_t *lock;
	struct tap_batch *batch;
	unsigned int lost;
};

/*
 * @tap: its descriptors. Queue 0 is always attached: what is asked of the whole interface goes
 * there
 * @queues_used: those before it are attached
 * @gone: the interface was removed; @lost: timer: a queue's descriptor says so
 * @offloads: what the tap can do; @offload: what it is told to do now
 * @header_size: of what it puts in front of frames
 */
struct net_tap {
	struct net_backend base;
	struct tap tap;
	struct tap_queue queues[NET_BACKEND_QUEUES_MAX];
	unsigned int queues_used;
	struct event_source *link_source, *lost;
	struct net_link link;
	bool gone;
	unsigned int offloads, offload;
	unsigned int header_size;
};

static struct net_tap *tap_of(const struct net_backend *base)
{
	return container_of(base, struct net_tap, base);
}

/* A descriptor may come from another network namespace, where its name means something else. */
static bool tap_is_here(const struct net_tap *net)
{
	struct ifreq tap, here;

	interface_request_init(&here, net->tap.name);
	interface_request_init(&tap, net->tap.name);
	return !interface_ioctl(SIOCGIFHWADDR, &here) &&
	       !ioctl(net->tap.fds[0], SIOCGIFHWADDR, &tap) &&
	       !memcmp(tap.ifr_hwaddr.sa_data, here.ifr_hwaddr.sa_data, 6);
}

static bool tap_takes(const struct net_tap *net, unsigned int tun_flags)
{
	return !ioctl(net->tap.fds[0], TUNSETOFFLOAD, (unsigned long)tun_flags);
}

static unsigned int tap_probe_offloads(const struct net_tap *net)
{
	static const unsigned int groups[] = { TUN_F_TSO4 | TUN_F_TSO6, TUN_F_TSO_ECN, TUN_F_UFO,
					       TUN_F_USO4 | TUN_F_USO6 };
	unsigned int offloads = TUN_F_CSUM;

	if (!tap_takes(net, TUN_F_CSUM))
		return 0;
	for (unsigned int i = 0; i < ARRAY_SIZE(groups); i++)
		if (tap_takes(net, offloads | groups[i]))
			offloads |= groups[i];
	return offloads;
}

static int tap_use_header_size(struct net_tap *net, unsigned int size)
{
	int header_size = (int)size;

	if (size == net->header_size || net->gone)
		return 0;
	if (ioctl(net->tap.fds[0], TUNSETVNETHDRSZ, &header_size) < 0)
		return -errno;
	net->header_size = size;
	return 0;
}

static int tap_configure(struct net_tap *net)
{
	int error = tap_use_header_size(net, sizeof(struct virtio_net_hdr_v1));

	if (error)
		return error;
	net->offloads = tap_probe_offloads(net);
	if (!tap_takes(net, 0))
		return -errno;
	if (tap_is_here(net))
		return net_link_open(&net->link, net->tap.name);
	net->link.up = true; /* cannot be followed from here */
	return 0;
}

/* ---- Events ---- */

static bool tap_attached(const struct net_tap *net)
{
	struct ifreq request = { 0 };

	return !ioctl(net->tap.fds[0], TUNGETIFF, &request);
}

static void tap_lost(struct net_tap *net)
{
	bool was_up = net->link.up;

	if (net->gone)
		return;
	net->gone = true;
	net->link.up = false;
	log_error(net->tap.log,
		  "%s: interface %s was removed: the link stays down (create it again and restart "
		  "the VM)",
		  net->tap.what, net->tap.name);
	if (was_up)
		net->base.ops->link_changed(net->base.arg, false);
}

static void on_lost(void *arg, uint32_t expirations)
{
	tap_lost(arg);
}

/* The kernel reports an error on the descriptor for ever: no more events of it. */
static void queue_lost(struct tap_queue *queue)
{
	event_remove(queue->source);
	queue->source = NULL;
	event_set_timer(queue->net->lost, EVENT_SOON, 0); /* the rest is under another lock */
}

static void on_tap(void *arg, uint32_t events)
{
	struct tap_queue *queue = arg;
	struct net_tap *net = queue->net;

	if ((events & (EPOLLERR | EPOLLHUP)) && !tap_attached(net))
		queue_lost(queue);
	else if ((events & EPOLLIN) && queue->receiving)
		net->base.ops->readable(net->base.arg, queue->index);
}

static void on_link_gone(struct net_tap *net)
{
	event_remove(net->link_source);
	net->link_source = NULL;
	if (!tap_attached(net)) {
		tap_lost(net);
		return;
	}
	net->link.up = true; /* serves as before, but cannot be followed any more */
	log_warning(net->tap.log,
		    "%s: interface %s went to another network namespace: its link state is not "
		    "known any more",
		    net->tap.what, net->tap.name);
}

static void on_link(void *arg, uint32_t events)
{
	struct net_tap *net = arg;
	bool was_up = net->link.up;

	net_link_update(&net->link);
	if (net->link.gone) {
		net->link.up = was_up;
		on_link_gone(net);
	}
	if (!net->gone && net->link.up != was_up)
		net->base.ops->link_changed(net->base.arg, net->link.up);
}

static int queue_add_events(struct tap_queue *queue)
{
	queue->source = event_add_fd(queue->loop, queue->net->tap.fds[queue->index],
				     queue->receiving ? EPOLLIN : 0, queue->lock, on_tap, queue);
	return queue->source ? 0 : -errno;
}

static int tap_add_events(struct net_tap *net)
{
	for (unsigned int i = 0; i < net->tap.count; i++) {
		int error = queue_add_events(&net->queues[i]);

		if (error)
			return error;
	}
	net->lost = event_add_timer(net->base.loop, net->base.lock, on_lost, net);
	if (!net->lost)
		return -errno;
	if (net->link.fd < 0)
		return 0;
	net->link_source =
		event_add_fd(net->base.loop, net->link.fd, EPOLLIN, net->base.lock, on_link, net);
	return net->link_source ? 0 : -errno;
}

/* ---- Queues ---- */

/* A detached queue has an error pending for ever: it is not watched. */
static int queue_set_attached(struct tap_queue *queue, bool on)
{
	struct ifreq request = { .ifr_flags = on ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE };

	if (!on) {
		event_remove(queue->source);
		queue->source = NULL;
	}
	if (ioctl(queue->net->tap.fds[queue->index], TUNSETQUEUE, &request) < 0)
		return -errno;
	return on ? queue_add_events(queue) : 0;
}

/*
 * From the last to the first, for the interface gives the number of a detached queue to its last
 * one.
 */
static int tap_use_queues(struct net_tap *net, unsigned int count)
{
	while (net->queues_used > count) {
		int error = queue_set_attached(&net->queues[net->queues_used - 1], false);

		if (error)
			return error;
		net->queues_used--;
	}
	while (net->queues_used < count) {
		int error = queue_set_attached(&net->queues[net->queues_used], true);

		net->queues_used++; /* what failed is to be detached in any case */
		if (error)
			return error;
	}
	return 0;
}

static int tap_set_queues(struct net_backend *base, unsigned int count)
{
	struct net_tap *net = tap_of(base);
	int error;

	if (!count || count > net->tap.count)
		return -EINVAL;
	if (net->gone)
		return 0; /* nothing comes by any of them */
	error = tap_use_queues(net, count);
	if (error && tap_use_queues(net, 1))
		log_guest(net->tap.log, "%s: interface %s: queues cannot be detached: %m",
			  net->tap.what, net->tap.name);
	return error;
}

static int tap_set_queue_loop(struct net_backend *base, unsigned int index, struct event_loop *loop,
			      pthread_mutex_t *lock)
{
	struct tap_queue *queue = &tap_of(base)->queues[index];
	bool watched = queue->source;

	if (queue->loop == loop && queue->lock == lock)
		return 0;
	event_remove(queue->source);
	queue->source = NULL;
	queue->loop = loop;
	queue->lock = lock;
	return watched ? queue_add_events(queue) : 0;
}

static int tap_queue_fd(const struct net_backend *base, unsigned int queue)
{
	return tap_of(base)->tap.fds[queue];
}

/* ---- Life cycle ---- */

static int tap_start(struct net_tap *net, const struct net_config *config)
{
	int error = tap_open(&net->tap, config);

	if (error)
		return error;
	error = tap_configure(net);
	if (!error)
		error = tap_add_events(net);
	if (!error)
		error = tap_set_queues(&net->base, 1);
	if (error == -EEXIST) {
		log_error(net->tap.log,
			  "%s: fd=%d: another device has this tap (open one for each)",
			  net->tap.what, net->tap.fds[0]);
	} else if (error) {
		errno = -error;
		log_error(net->tap.log, "%s: cannot use interface %s: %m", net->tap.what,
			  net->tap.name);
	}
	return error;
}

static void tap_release(struct net_tap *net, bool close_fds)
{
	event_remove(net->link_source);
	event_remove(net->lost);
	for (unsigned int i = 0; i < net->tap.count; i++) {
		event_remove(net->queues[i].source);
		tap_batch_destroy(net->queues[i].batch);
	}
	net_link_close(&net->link);
	for (unsigned int i = 0; close_fds && i < net->tap.count; i++)
		if (net->tap.fds[i] >= 0)
			close(net->tap.fds[i]);
}

static int tap_backend_open(struct net_backend *base, const struct net_config *config)
{
	struct net_tap *net = tap_of(base);
	int error;

	net->tap.log = base->log;
	net->tap.what = base->what;
	net->link.fd = -1;
	net->queues_used = config->queues;
	for (unsigned int i = 0; i < config->queues; i++)
		net->queues[i] = (struct tap_queue) {
			.net = net, .index = i, .loop = base->loop, .lock = base->lock
		};
	error = tap_start(net, config);
	if (error) {
		tap_release(net, config->tap);
		return error;
	}
	for (unsigned int i = 0; i < config->queues; i++)
		net->queues[i].batch = tap_batch_create(net->tap.fds[i]);
	return 0;
}

static void tap_backend_close(struct net_backend *base)
{
	struct net_tap *net = tap_of(base);

	tap_takes(net, 0); /* a persistent interface keeps it for the next one to attach */
	tap_release(net, true);
}

/* ---- The rest of net_backend.h ---- */

static int tap_set_header_size(struct net_backend *base, unsigned int size)
{
	return tap_use_header_size(tap_of(base), size);
}

static unsigned int tap_offloads(const struct net_backend *base)
{
	return tap_of(base)->offloads;
}

static int tap_set_offload(struct net_backend *base, unsigned int tun_flags)
{
	struct net_tap *net = tap_of(base);

	if (tun_flags == net->offload)
		return 0;
	if (!tap_takes(net, tun_flags))
		return -errno;
	net->offload = tun_flags;
	return 0;
}

static int tap_send(struct net_backend *base, unsigned int index, const struct iovec *iov,
		    int count)
{
	struct net_tap *net = tap_of(base);
	struct tap_queue *queue = &net->queues[index];

	if (queue->batch) {
		if (tap_batch_add(queue->batch, iov, count))
			return 0;
		queue->lost += tap_batch_write(queue->batch); /* in order */
		if (tap_batch_add(queue->batch, iov, count))
			return 0;
	}
	return writev(net->tap.fds[index], iov, count) < 0 ? -errno : 0;
}

static unsigned int tap_flush(struct net_backend *base, unsigned int index)
{
	struct tap_queue *queue = &tap_of(base)->queues[index];
	unsigned int lost = queue->lost;

	queue->lost = 0;
	return queue->batch ? lost + tap_batch_write(queue->batch) : lost;
}

static ssize_t tap_receive(struct net_backend *base, unsigned int queue, const struct iovec *iov,
			   int count)
{
	ssize_t len = readv(tap_of(base)->tap.fds[queue], iov, count);

	return len < 0 ? -errno : len;
}

static void tap_set_receive(struct net_backend *base, unsigned int index, bool on)
{
	struct tap_queue *queue = &tap_of(base)->queues[index];

	if (on == queue->receiving)
		return;
	queue->receiving = on;
	if (queue->source)
		event_set_events(queue->source, on ? EPOLLIN : 0);
}

static bool tap_link_up(const struct net_backend *base)
{
	return tap_of(base)->link.up;
}

/* Asked by queues' threads too. */
static unsigned int tap_mtu(const struct net_backend *base)
{
	return __atomic_load_n(&tap_of(base)->link.mtu, __ATOMIC_RELAXED);
}

const struct net_kind net_kind_tap = {
	.name = "tap",
	.priv_size = sizeof(struct net_tap),
	.open = tap_backend_open,
	.close = tap_backend_close,
	.set_queues = tap_set_queues,
	.set_queue_loop = tap_set_queue_loop,
	.queue_fd = tap_queue_fd,
	.set_header_size = tap_set_header_size,
	.offloads = tap_offloads,
	.set_offload = tap_set_offload,
	.send = tap_send,
	.flush = tap_flush,
	.receive = tap_receive,
	.set_receive = tap_set_receive,
	.link_up = tap_link_up,
	.mtu = tap_mtu,
};
