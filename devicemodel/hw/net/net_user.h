/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Between the files of the user back end: what its options say (net_user_config.c), and the network
 * itself (net_user.c).
 */
#ifndef TENON_NET_USER_H
#define TENON_NET_USER_H

#include <netinet/in.h>

#include "net_internal.h"

#define NET_USER_FORWARDS_MAX 64

/* Connections to the host's @host_addr and @host_port go to the guest. @text: as in hostfwd=. */
struct net_user_forward {
	bool udp;
	struct in_addr host_addr, guest_addr;
	uint16_t host_port, guest_port;
	char text[80];
};

/* @network, @mask: the guest's network; in it @gateway, which is the host, @dns, and @dhcp_start */
struct net_user_config {
	struct in_addr network, mask;
	struct in_addr gateway, dns, dhcp_start;
	unsigned int forward_count;
	struct net_user_forward forwards[NET_USER_FORWARDS_MAX];
};

/* What @config's options for NET_USER come to. 0 or -EINVAL after one line in @net's log. */
int net_user_config_parse(const struct net_backend *net, const struct net_config *config,
			  struct net_user_config *parsed) __must_check;

#endif
