/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tap_lab.h: a network namespace of its own for a test that needs real taps, and what the host's
 * administrator would do in it.
 */
#ifndef TENON_TESTS_TAP_LAB_H
#define TENON_TESTS_TAP_LAB_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/** lab_enter() - go to a new namespace, where new interfaces say nothing by themselves. */
static inline bool lab_enter(void)
{
	int fd;

	if (unshare(CLONE_NEWNET) < 0 || access("/dev/net/tun", R_OK | W_OK) < 0) {
		printf("skipped: needs root (or CAP_NET_ADMIN) and /dev/net/tun: %s\n",
		       strerror(errno));
		return false;
	}
	fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY);
	if (fd >= 0 && write(fd, "1", 1) != 1)
		printf("IPv6 cannot be switched off\n");
	if (fd >= 0)
		close(fd);
	return true;
}

/** lab_ioctl() - a netdevice(7) ioctl on interface @name; 0 or -errno. */
static inline int lab_ioctl(const char *name, unsigned long command, struct ifreq *request)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0), error;

	snprintf(request->ifr_name, IFNAMSIZ, "%s", name);
	error = ioctl(fd, command, request) < 0 ? -errno : 0;
	close(fd);
	return error;
}

static inline bool lab_exists(const char *name)
{
	struct ifreq request = { 0 };

	return !lab_ioctl(name, SIOCGIFINDEX, &request);
}

static inline int lab_index(const char *name)
{
	struct ifreq request = { 0 };

	return lab_ioctl(name, SIOCGIFINDEX, &request) ? 0 : request.ifr_ifindex;
}

static inline bool lab_is_up(const char *name)
{
	struct ifreq request = { 0 };

	return !lab_ioctl(name, SIOCGIFFLAGS, &request) && request.ifr_flags & IFF_UP;
}

static inline int lab_set_up(const char *name, bool up)
{
	struct ifreq request = { 0 };

	if (lab_ioctl(name, SIOCGIFFLAGS, &request))
		return -errno;
	request.ifr_flags = (short)(up ? request.ifr_flags | IFF_UP : request.ifr_flags & ~IFF_UP);
	return lab_ioctl(name, SIOCSIFFLAGS, &request);
}

static inline int lab_set_mtu(const char *name, int mtu)
{
	struct ifreq request = { .ifr_mtu = mtu };

	return lab_ioctl(name, SIOCSIFMTU, &request);
}

/** lab_open_tun() - /dev/net/tun attached to @name with @flags, or -1. */
static inline int lab_open_tun(const char *name, int flags)
{
	struct ifreq request = { .ifr_flags = (short)flags };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	snprintf(request.ifr_name, IFNAMSIZ, "%s", name);
	if (fd >= 0 && ioctl(fd, TUNSETIFF, &request) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/** lab_add() - ip tuntap add: an interface that stays, for user @owner (-1: nobody's). */
static inline int lab_add(const char *name, int flags, int owner)
{
	int fd = lab_open_tun(name, flags), error;

	if (fd < 0)
		return -1;
	error = ioctl(fd, TUNSETPERSIST, 1);
	if (!error && owner >= 0)
		error = ioctl(fd, TUNSETOWNER, owner);
	close(fd);
	return error;
}

/** lab_delete() - ip link delete, also of one in use. */
static inline int lab_delete(const char *name)
{
	struct {
		struct nlmsghdr header;
		struct ifinfomsg info;
	} request = { .header = { .nlmsg_len = sizeof(request),
				  .nlmsg_type = RTM_DELLINK,
				  .nlmsg_flags = NLM_F_REQUEST },
		      .info = { .ifi_index = lab_index(name) } };
	int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	ssize_t sent = send(fd, &request, sizeof(request), 0);

	close(fd);
	return sent < 0 ? -errno : 0;
}

/** lab_packet_socket() - raw frames to and from @name; @header: with a struct virtio_net_hdr. */
static inline int lab_packet_socket(const char *name, int header)
{
	struct sockaddr_ll address = { .sll_family = AF_PACKET,
				       .sll_protocol = htons(ETH_P_ALL),
				       .sll_ifindex = lab_index(name) };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), one = 1;

	if (fd < 0)
		return -1;
	if (setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one)) < 0 ||
	    (header && setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)) < 0) ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/** lab_receive() - what comes on @fd within @timeout_ms; its length or -1. */
static inline ssize_t lab_receive(int fd, void *buf, size_t size, int timeout_ms)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

	return poll(&poll_fd, 1, timeout_ms) > 0 ? recv(fd, buf, size, MSG_DONTWAIT) : -1;
}

#endif
