/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Link state and MTU of a network interface of the host: rtnetlink(7), group RTMGRP_LINK.
 */
#include "net_link.h"

#include <errno.h>
#include <linux/if.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <unistd.h>

unsigned int if_nametoindex(const char *name); /* <net/if.h> does not go with <linux/if.h> */

#define MESSAGES_MAX 16384

static int link_query(struct net_link *link)
{
	struct {
		struct nlmsghdr header;
		struct ifinfomsg info;
	} request = {
		.header = { .nlmsg_len = sizeof(request),
			    .nlmsg_type = RTM_GETLINK,
			    .nlmsg_flags = NLM_F_REQUEST },
		.info = { .ifi_family = AF_UNSPEC, .ifi_index = link->index },
	};

	return send(link->fd, &request, sizeof(request), 0) < 0 ? -errno : 0;
}

/* IFF_LOWER_UP is the carrier as it is now; IFF_RUNNING follows it up to a second later. */
static void link_parse(struct net_link *link, struct nlmsghdr *header)
{
	const unsigned int up = IFF_UP | IFF_LOWER_UP;
	struct ifinfomsg *info = NLMSG_DATA(header);
	struct rtattr *attr = IFLA_RTA(info);
	int len = (int)header->nlmsg_len - (int)NLMSG_LENGTH(sizeof(*info));

	if (len < 0 || info->ifi_index != link->index)
		return;
	if (info->ifi_family == AF_BRIDGE)
		return; /* a bridge's port, not the interface: it goes when the bridge lets it go */
	link->gone = header->nlmsg_type == RTM_DELLINK;
	link->up = !link->gone && (info->ifi_flags & up) == up;
	for (; RTA_OK(attr, len); attr = RTA_NEXT(attr, len))
		if (attr->rta_type == IFLA_MTU && RTA_PAYLOAD(attr) >= sizeof(uint32_t))
			__atomic_store_n(&link->mtu, (unsigned int)bytes_get(RTA_DATA(attr), 4),
					 __ATOMIC_RELAXED);
}

/* The answer to our own question: the interface was gone before we could hear of it. */
static void link_parse_error(struct net_link *link, struct nlmsghdr *header)
{
	const struct nlmsgerr *error = NLMSG_DATA(header);

	if (header->nlmsg_len < NLMSG_LENGTH(sizeof(*error)) || error->error != -ENODEV)
		return;
	link->gone = true;
	link->up = false;
}

static void link_parse_all(struct net_link *link, void *messages, ssize_t size)
{
	struct nlmsghdr *header = messages;
	unsigned int len = (unsigned int)size;

	for (; NLMSG_OK(header, len); header = NLMSG_NEXT(header, len)) {
		if (header->nlmsg_type == RTM_NEWLINK || header->nlmsg_type == RTM_DELLINK)
			link_parse(link, header);
		else if (header->nlmsg_type == NLMSG_ERROR)
			link_parse_error(link, header);
	}
}

void net_link_update(struct net_link *link)
{
	uint8_t messages[MESSAGES_MAX] __attribute__((aligned(NLMSG_ALIGNTO)));
	ssize_t len;

	for (;;) {
		len = recv(link->fd, messages, sizeof(messages), 0);
		if (len > 0)
			link_parse_all(link, messages, len);
		else if (len < 0 && errno == ENOBUFS) /* messages were lost: ask afresh */
			len = link_query(link) ? 0 : 1;
		else if (len < 0 && errno == EINTR)
			len = 1;
		if (len <= 0)
			return;
	}
}

int net_link_open(struct net_link *link, const char *name)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK };
	int error;

	*link = (struct net_link) { .fd = -1, .index = (int)if_nametoindex(name) };
	if (!link->index)
		return -errno;
	link->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (link->fd < 0)
		return -errno;
	error = bind(link->fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	if (!error)
		error = link_query(link);
	if (error) {
		net_link_close(link);
		return error;
	}
	net_link_update(link); /* the kernel answers while we ask */
	return 0;
}

void net_link_close(struct net_link *link)
{
	if (link->fd >= 0)
		close(link->fd);
	link->fd = -1;
}
