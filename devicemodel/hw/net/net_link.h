/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * State of one network interface of the host, followed through rtnetlink.
 */
#ifndef TENON_NET_LINK_H
#define TENON_NET_LINK_H

#include "util.h"

/*
 * @fd: netlink socket, readable when there may be news; -1 if the interface cannot be followed
 * @index: its ifindex
 * @up: set up by the administrator and with a carrier
 * @gone: it was removed, or moved to another network namespace
 * @mtu: 0 if unknown
 */
struct net_link {
	int fd;
	int index;
	bool up, gone;
	unsigned int mtu;
};

/* Follow the interface @name of our network namespace. 0 or -errno, then @link->fd is -1. */
int net_link_open(struct net_link *link, const char *name) __must_check;

/* Take in all that netlink has to say. */
void net_link_update(struct net_link *link);

void net_link_close(struct net_link *link);

#endif
