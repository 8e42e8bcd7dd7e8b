/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Between the files of the tap back end: getting hold of a tap (net_tap_open.c), using it
 * (net_tap.c).
 */
#ifndef TENON_NET_TAP_H
#define TENON_NET_TAP_H

#include <linux/if.h>

#include "net_backend.h"

/*
 * An open tap. @name: its interface; @fds: a descriptor a queue, all attached; -1 where none is
 * @log, @what: for messages
 */
struct tap {
	struct logger *log;
	const char *what;
	char name[IFNAMSIZ];
	unsigned int count;
	int fds[NET_BACKEND_QUEUES_MAX];
};

/*
 * Attach to what @config names; @tap has its @log and @what. 0 or -errno after one log line; then
 * too @tap->fds holds what was opened.
 */
int tap_open(struct tap *tap, const struct net_config *config) __must_check;

/* One ioctl of netdevice(7) on the interface named in @request. 0 or -errno. */
int interface_ioctl(unsigned long command, struct ifreq *request) __must_check;

void interface_request_init(struct ifreq *request, const char *name);

#endif
