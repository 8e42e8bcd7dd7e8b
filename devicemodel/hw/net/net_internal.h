/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Between net_backend.c, which is what devices call, and the kinds of back ends: tap, user (NAT by
 * libslirp), passt, stream and dgram sockets.
 */
#ifndef TENON_NET_INTERNAL_H
#define TENON_NET_INTERNAL_H

#include "net_backend.h"

/*
 * struct net_kind - a kind of back end; what each function promises is at its namesake in
 * net_backend.h. @open gets a zeroed @priv_size object whose first member is the struct net_backend,
 * with all of it filled in. A NULL function: the kind cannot (net_backend.c says so to the caller).
 */
struct net_kind {
	const char *name; /* as in backend=NAME */
	size_t priv_size;
	int (*open)(struct net_backend *net, const struct net_config *config);
	void (*close)(struct net_backend *net);
	int (*set_queues)(struct net_backend *net, unsigned int count);
	int (*set_queue_loop)(struct net_backend *net, unsigned int queue, struct event_loop *loop,
			      pthread_mutex_t *lock);
	int (*queue_fd)(const struct net_backend *net, unsigned int queue);
	int (*set_header_size)(struct net_backend *net, unsigned int size);
	unsigned int (*offloads)(const struct net_backend *net);
	int (*set_offload)(struct net_backend *net, unsigned int tun_flags);
	int (*send)(struct net_backend *net, unsigned int queue, const struct iovec *iov,
		    int count);
	ssize_t (*receive)(struct net_backend *net, unsigned int queue, const struct iovec *iov,
			   int count);
	void (*set_receive)(struct net_backend *net, unsigned int queue, bool on);
	unsigned int (*flush)(struct net_backend *net, unsigned int queue);
	bool (*link_up)(const struct net_backend *net);
	unsigned int (*mtu)(const struct net_backend *net);
};

struct net_backend {
	const struct net_kind *kind;
	struct logger *log;
	const char *what;
	struct event_loop *loop;
	pthread_mutex_t *lock;
	const struct net_backend_ops *ops;
	void *arg;
};

extern const struct net_kind net_kind_tap, net_kind_user, net_kind_passt, net_kind_stream,
	net_kind_dgram, net_kind_null;

#endif
