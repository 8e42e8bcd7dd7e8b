/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * net_backend.h for all kinds of back ends: which options are whose, and what is answered for a kind
 * that cannot.
 */
#include <errno.h>
#include <linux/virtio_net.h>
#include <stdlib.h>

#include "net_internal.h"

static const struct net_kind *const net_kinds[] = {
	[NET_TAP] = &net_kind_tap,     [NET_USER] = &net_kind_user,
	[NET_PASST] = &net_kind_passt, [NET_STREAM] = &net_kind_stream,
	[NET_DGRAM] = &net_kind_dgram, [NET_NULL] = &net_kind_null,
};

/* ---- Options ---- */

#define KINDS_SOCKET (BIT32(NET_PASST) | BIT32(NET_STREAM) | BIT32(NET_DGRAM))

/* Options that are not every kind's. @is_flag: a bool, else a string. */
static const struct net_option {
	const char *name;
	size_t offset;
	bool is_flag;
	unsigned int kinds;
} net_options[] = {
	{ "tap", offsetof(struct net_config, tap), false, BIT32(NET_TAP) },
	{ "path", offsetof(struct net_config, path), false, KINDS_SOCKET },
	{ "local", offsetof(struct net_config, local), false, BIT32(NET_DGRAM) },
	{ "server", offsetof(struct net_config, server), true, BIT32(NET_STREAM) },
	{ "hostfwd", offsetof(struct net_config, hostfwd), false, BIT32(NET_USER) },
	{ "net", offsetof(struct net_config, network), false, BIT32(NET_USER) },
	{ "hostname", offsetof(struct net_config, hostname), false, BIT32(NET_USER) },
	{ "dns", offsetof(struct net_config, dns), false, BIT32(NET_USER) },
	{ "restrict", offsetof(struct net_config, restricted), true, BIT32(NET_USER) },
};

static bool option_given(const struct net_config *config, const struct net_option *option)
{
	const uint8_t *at = (const uint8_t *)config + option->offset;
	const char *text;

	if (option->is_flag)
		return *(const bool *)at;
	memcpy(&text, at, sizeof(text));
	return text;
}

/* The first kind that has @option. */
static const char *option_kind(const struct net_option *option)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(net_kinds); i++)
		if (option->kinds & BIT32(i))
			return net_kinds[i]->name;
	return "none";
}

static int check_options(const struct net_backend *net, const struct net_config *config)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(net_options); i++) {
		const struct net_option *option = &net_options[i];

		if (option->kinds & BIT32(config->kind) || !option_given(config, option))
			continue;
		log_error(net->log, "%s: %s= is none of backend=%s (drop it, or use backend=%s)",
			  net->what, option->name, net->kind->name, option_kind(option));
		return -EINVAL;
	}
	if (config->kind != NET_NULL && config->rx_size) {
		log_error(net->log,
			  "%s: rx=%u is none of backend=%s (drop it, or use backend=null)",
			  net->what, config->rx_size, net->kind->name);
		return -EINVAL;
	}
	if (config->kind != NET_TAP && config->fd >= 0) {
		log_error(net->log, "%s: fd=%d is none of backend=%s (drop it, or use backend=tap)",
			  net->what, config->fd, net->kind->name);
		return -EINVAL;
	}
	if (config->kind != NET_TAP && config->queues > 1) {
		log_error(net->log,
			  "%s: queues=%u: backend=%s has one queue (use queues=1, or backend=tap)",
			  net->what, config->queues, net->kind->name);
		return -EINVAL;
	}
	if (KINDS_SOCKET & BIT32(config->kind) && !config->path) {
		log_error(net->log,
			  "%s: backend=%s needs path=, the socket to use (give path=FILE)",
			  net->what, net->kind->name);
		return -EINVAL;
	}
	return 0;
}

/* ---- Life cycle ---- */

struct net_backend *net_open(struct logger *log, const char *what, const struct net_config *config,
			     struct event_loop *loop, pthread_mutex_t *lock,
			     const struct net_backend_ops *ops, void *arg)
{
	const struct net_kind *kind = net_kinds[config->kind];
	struct net_backend *net = calloc(1, kind->priv_size);
	int error;

	if (!net) {
		log_error(log, "%s: out of memory", what);
		errno = ENOMEM;
		return NULL;
	}
	*net = (struct net_backend) { .kind = kind,
				      .log = log,
				      .what = what,
				      .loop = loop,
				      .lock = lock,
				      .ops = ops,
				      .arg = arg };
	error = check_options(net, config);
	if (!error)
		error = kind->open(net, config);
	if (!error)
		return net;
	free(net);
	errno = -error;
	return NULL;
}

void net_close(struct net_backend *net)
{
	if (!net)
		return;
	net->kind->close(net);
	free(net);
}

/* ---- The rest of net_backend.h ---- */

int net_set_queues(struct net_backend *net, unsigned int count)
{
	if (net->kind->set_queues)
		return net->kind->set_queues(net, count);
	return count == 1 ? 0 : -EINVAL;
}

int net_set_queue_loop(struct net_backend *net, unsigned int queue, struct event_loop *loop,
		       pthread_mutex_t *lock)
{
	if (net->kind->set_queue_loop)
		return net->kind->set_queue_loop(net, queue, loop, lock);
	return loop == net->loop && lock == net->lock ? 0 : -EOPNOTSUPP;
}

int net_queue_fd(const struct net_backend *net, unsigned int queue)
{
	return net->kind->queue_fd ? net->kind->queue_fd(net, queue) : -1;
}

int net_set_header_size(struct net_backend *net, unsigned int size)
{
	if (net->kind->set_header_size)
		return net->kind->set_header_size(net, size);
	return size == sizeof(struct virtio_net_hdr_v1) ? 0 : -EOPNOTSUPP;
}

unsigned int net_offloads(const struct net_backend *net)
{
	return net->kind->offloads ? net->kind->offloads(net) : 0;
}

int net_set_offload(struct net_backend *net, unsigned int tun_flags)
{
	if (net->kind->set_offload)
		return net->kind->set_offload(net, tun_flags);
	return tun_flags ? -EOPNOTSUPP : 0;
}

int net_send(struct net_backend *net, unsigned int queue, const struct iovec *iov, int count)
{
	return net->kind->send(net, queue, iov, count);
}

ssize_t net_receive(struct net_backend *net, unsigned int queue, const struct iovec *iov, int count)
{
	return net->kind->receive(net, queue, iov, count);
}

void net_set_receive(struct net_backend *net, unsigned int queue, bool on)
{
	net->kind->set_receive(net, queue, on);
}

unsigned int net_flush(struct net_backend *net, unsigned int queue)
{
	return net->kind->flush ? net->kind->flush(net, queue) : 0;
}

bool net_link_up(const struct net_backend *net)
{
	return net->kind->link_up(net);
}

unsigned int net_mtu(const struct net_backend *net)
{
	return net->kind->mtu ? net->kind->mtu(net) : 0;
}
