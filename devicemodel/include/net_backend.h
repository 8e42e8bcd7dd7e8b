/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * net_backend.h: Ethernet to the host: tap today. Frames carry a struct virtio_net_hdr_v1 in front.
 */
#ifndef TENON_NET_BACKEND_H
#define TENON_NET_BACKEND_H

#include <sys/uio.h>

#include "event_loop.h"
#include "log.h"
#include "util.h"

struct net_backend;

/**
 * struct net_backend_ops - lock held.
 * @readable: frames wait: call net_receive() until it says -EAGAIN, or net_set_receive(false)
 * @link_changed: the host side went up or down
 */
struct net_backend_ops {
	void (*readable)(void *arg);
	void (*link_changed)(void *arg, bool up);
};

/** struct net_config - @tap: interface name or NULL; @fd: an open tap, or -1. One of them. */
struct net_config {
	const char *tap;
	int fd;
};

/**
 * net_open() - attach to the interface, created if it is missing and we may.
 * Return: the back end, or NULL with errno after one log line naming interface, cause and remedy.
 */
struct net_backend *net_open(struct logger *log, const char *what, const struct net_config *config,
			     struct event_loop *loop, pthread_mutex_t *lock,
			     const struct net_backend_ops *ops, void *arg) __must_check;

/** net_close() - detach; an interface that net_open() created disappears. NULL is harmless. */
void net_close(struct net_backend *net);

/** net_can_offload() - does it take and give partial checksums and large segments? */
bool net_can_offload(const struct net_backend *net);

/** net_set_header_size() - size of the header in front of each frame, 10 or 12 bytes. */
int net_set_header_size(struct net_backend *net, unsigned int size);

/** net_set_offload() - what we may be handed: TUN_F_CSUM, TUN_F_TSO4 ... of <linux/if_tun.h>. 0 or -errno. */
int net_set_offload(struct net_backend *net, unsigned int tun_flags);

/** net_send() - one frame with its header. 0, -EAGAIN (full: drop it), or another negative errno. */
int net_send(struct net_backend *net, const struct iovec *iov, int count);

/** net_receive() - one frame with its header; returns its length, -EAGAIN when there is none, -errno. */
ssize_t net_receive(struct net_backend *net, const struct iovec *iov, int count);

/** net_set_receive() - call readable() or not. */
void net_set_receive(struct net_backend *net, bool on);

/** net_link_up() - the state of the link on the host. */
bool net_link_up(const struct net_backend *net);

/** net_mtu() - MTU of the host's interface, 0 if unknown. */
unsigned int net_mtu(const struct net_backend *net);

#endif
