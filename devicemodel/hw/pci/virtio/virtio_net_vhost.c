/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-net's queues in the kernel (vhost-net): one vhost descriptor a pair, with the pair's tap
 * behind both of its queues. The control queue stays here. What the driver asks for on it works as
 * before, but for the receive filter: the kernel hands over all frames that the tap has, which the
 * specification allows (virtio 1.4, 5.1.9.5.1 to 5.1.9.5.3: all of it is "SHOULD").
 *
 * All pairs in use are run by the kernel, or none is: the header in front of frames is the
 * interface's, and the kernel's is the driver's (10 or 12 bytes) while ours has always 12.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "virtio_net.h"

#define VHOST_FILE "/dev/vhost-net"

/*
 * The device's own; those of rings are vhost.c's. Offloads, MTU and commands are the tap's or
 * ours.
 */
#define VHOST_FEATURES BIT64(VIRTIO_NET_F_MRG_RXBUF)

/* ---- Descriptors ---- */

static void vhost_close(struct virtio_net *net)
{
	for (unsigned int i = 0; i < net->pair_count; i++) {
		struct net_pair *pair = &net->pairs[i];

		if (pair->vhost_fd < 0)
			continue;
		if (pair->vhost.base)
			vhost_dev_deinit(&pair->vhost);
		close(pair->vhost_fd);
		pair->vhost_fd = -1;
		memset(&pair->vhost, 0, sizeof(pair->vhost));
	}
}

static int vhost_open_pair(struct net_pair *pair, bool optional)
{
	struct virtio_net *net = pair->net;
	int fd = vhost_open(&net->vc, VHOST_FILE, optional);

	if (fd < 0)
		return fd;
	pair->vhost_fd = fd;
	pair->vhost.vqs = pair->vhost_vqs;
	pair->vhost.nvqs = NET_PAIR_QUEUES;
	return vhost_dev_init(&pair->vhost, &net->vc, fd, pair->index * NET_PAIR_QUEUES,
			      VHOST_FEATURES, 0, (uint32_t)net->opt_busyloop);
}

static int vhost_open_all(struct virtio_net *net, bool optional)
{
	int error = 0;

	for (unsigned int i = 0; !error && i < net->pair_count; i++)
		error = vhost_open_pair(&net->pairs[i], optional);
	if (error)
		vhost_close(net);
	return error;
}

/* ---- Can it? ---- */

/*
 * No frame beyond the MTU that the driver was told (virtio 1.4, 5.1.4.1): the kernel does not
 * look.
 */
static bool mtu_too_small(const struct virtio_net *net)
{
	return net_mtu(net->backend) > net->config->mtu;
}

/* What of the driver's choices is in the way, or NULL. */
static const char *vhost_obstacle(const struct virtio_net *net)
{
	if (virtio_has_feature(&net->vc, VIRTIO_NET_F_MTU) && mtu_too_small(net))
		return "the driver was told of an MTU below the interface's";
	if (net_notify_coalesces(net))
		return "the driver has its notifications coalesced";
	if (net->rss.active)
		return "the driver has frames steered (RSS)";
	return vhost_dev_can_start(&net->pairs[0].vhost);
}

/* What of the options is in the way, with the remedy, or NULL. */
static const char *option_obstacle(const struct virtio_net *net)
{
	uint64_t kernel = net->pairs[0].vhost.kernel_features;

	if (net->vc.opt_packed && !(kernel & BIT64(VIRTIO_F_RING_PACKED)))
		return "the kernel's vhost-net has no packed rings (drop packed=on, or vhost)";
	if (net->vc.opt_in_order && !(kernel & BIT64(VIRTIO_F_IN_ORDER)))
		return "the kernel's vhost-net does not keep the order (drop in_order=on, or "
		       "vhost)";
	if (net->opt_mtu && mtu_too_small(net))
		return "the kernel's vhost-net does not drop frames beyond mtu= (give the host's "
		       "interface that MTU, or drop vhost)";
	return NULL;
}

static void on_try(void *arg, uint32_t expirations)
{
	struct virtio_net *net = arg;

	virtio_lock_queues(&net->vc);
	net_vhost_start(net);
	virtio_unlock_queues(&net->vc);
}

/* The kernel moves frames between the rings and a tap's descriptor, nothing else. */
static int vhost_check_backend(const struct virtio_net *net)
{
	if (net_queue_fd(net->backend, 0) >= 0)
		return 0;
	log_error(net->vc.log,
		  "%s: vhost: the kernel's vhost-net needs a tap (drop vhost, or use backend=tap)",
		  net->vc.name);
	return -EOPNOTSUPP;
}

int net_vhost_init(struct virtio_net *net)
{
	bool optional = net->opt_vhost == NET_VHOST_AUTO;
	const char *obstacle;
	int error;

	net->vhost.try = event_add_timer(net->vc.loop, net->vc.lock, on_try, net);
	if (!net->vhost.try) {
		log_error(net->vc.log, "%s: cannot make a timer: %m", net->vc.name);
		return -ENOMEM;
	}
	if (net->opt_vhost == NET_VHOST_OFF)
		return 0;
	if (optional && net_queue_fd(net->backend, 0) < 0)
		return 0;
	error = vhost_check_backend(net);
	if (error)
		return error;
	error = vhost_open_all(net, optional);
	if (error)
		return optional ? 0 : error;
	obstacle = option_obstacle(net);
	if (!obstacle) {
		vhost_dev_limit(&net->pairs[0].vhost);
		net->vhost.wanted = true;
		return 0;
	}
	vhost_close(net);
	if (optional)
		log_info(net->vc.log, "%s: without vhost: %s", net->vc.name, obstacle);
	else
		log_error(net->vc.log, "%s: vhost: %s", net->vc.name, obstacle);
	return optional ? 0 : -EOPNOTSUPP;
}

void net_vhost_deinit(struct virtio_net *net)
{
	net_vhost_stop(net);
	vhost_close(net);
	event_remove(net->vhost.try);
	net->vhost.try = NULL;
}

/* ---- Start and stop ---- */

static int vhost_set_backend(struct net_pair *pair, int fd)
{
	for (unsigned int i = 0; i < NET_PAIR_QUEUES; i++) {
		struct vhost_vring_file file = { .index = i, .fd = fd };
		int error = vhost_kernel_ioctl(&pair->vhost, VHOST_NET_SET_BACKEND, &file,
					       "VHOST_NET_SET_BACKEND");

		if (error < 0)
			return error;
	}
	return 0;
}

static int vhost_start_pair(struct net_pair *pair)
{
	int error = vhost_dev_start(&pair->vhost);

	return error ? error
		     : vhost_set_backend(pair, net_queue_fd(pair->net->backend, pair->index));
}

static bool vhost_ready(const struct virtio_net *net)
{
	const struct net_vhost *vhost = &net->vhost;

	if (!vhost->wanted || vhost->running || vhost->busy || vhost->blocked ||
	    net->vc.writes_logged || !virtio_driver_ok(&net->vc))
		return false;
	for (unsigned int i = 0; i < net->pairs_used; i++)
		if (!net->pairs[i].rx.vq->enabled || !net->pairs[i].tx.vq->enabled)
			return false;
	return true;
}

/*
 * No descriptor of a pair may give back its queues before all have stopped: ours is another
 * header.
 */
static void vhost_halt(struct virtio_net *net)
{
	net->vhost.busy = true;
	for (unsigned int i = 0; i < net->pair_count; i++)
		if (net->pairs[i].vhost.started)
			(void)vhost_set_backend(&net->pairs[i], -1);
	if (net_set_header_size(net->backend, sizeof(struct virtio_net_hdr_v1)))
		log_guest(net->vc.log, "%s: the tap cannot have our headers again: %m",
			  net->vc.name);
	for (unsigned int i = 0; i < net->pair_count; i++)
		vhost_dev_stop(&net->pairs[i].vhost);
	net->vhost.busy = false;
}

int net_vhost_start(struct virtio_net *net)
{
	const char *obstacle;
	int error;

	if (!vhost_ready(net))
		return 0;
	obstacle = vhost_obstacle(net);
	if (obstacle) {
		net->vhost.blocked = true;
		log_guest(net->vc.log,
			  "%s: the kernel's vhost cannot serve this driver, user space does: %s",
			  net->vc.name, obstacle);
		return -EOPNOTSUPP;
	}
	for (unsigned int i = 0; i < net->pair_count; i++)
		net_rx_stop(&net->pairs[i], true);
	net_notify_flush_all(net);
	error = net_set_header_size(net->backend, net->header_size);
	for (unsigned int i = 0; !error && i < net->pairs_used; i++)
		error = vhost_start_pair(&net->pairs[i]);
	net->vhost.running = !error;
	net->vhost.blocked = error;
	net->vhost.starts += !error;
	if (!error)
		return 0;
	vhost_halt(net);
	for (unsigned int i = 0; i < net->pairs_used; i++)
		net_rx_run(&net->pairs[i]);
	return error;
}

void net_vhost_try(struct virtio_net *net)
{
	if (vhost_ready(net))
		event_set_timer(net->vhost.try, EVENT_SOON, 0);
}

void net_vhost_stop(struct virtio_net *net)
{
	if (!net->vhost.running)
		return;
	net->vhost.running = false;
	vhost_halt(net);
}

static int vhost_switch_on(struct virtio_net *net)
{
	const char *obstacle;
	int error = vhost_check_backend(net);

	if (!error && net->pairs[0].vhost_fd < 0)
		error = vhost_open_all(net, false);
	if (error || net->vhost.running)
		return error;
	obstacle = virtio_driver_ok(&net->vc) ? vhost_obstacle(net) : NULL;
	if (obstacle) {
		log_error(net->vc.log,
			  "%s: vhost on: %s (start the VM with vhost: the driver is offered less)",
			  net->vc.name, obstacle);
		return -EOPNOTSUPP;
	}
	net->vhost.blocked = false;
	net->vhost.wanted = true;
	return net_vhost_start(net);
}

int net_vhost_switch(void *dev, bool on)
{
	struct virtio_net *net = dev;
	bool wanted = net->vhost.wanted;
	int error = on ? vhost_switch_on(net) : 0;

	net->vhost.wanted = error ? wanted : on;
	if (!on)
		net_vhost_stop(net);
	return error;
}
