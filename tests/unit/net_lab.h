/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * net_lab.h: where the unit tests of network back ends have their back end.
 */
#ifndef TENON_TESTS_NET_LAB_H
#define TENON_TESTS_NET_LAB_H

#include "captured_log.h"
#include "event_loop.h"
#include "net_backend.h"

#define HEADER sizeof(struct virtio_net_hdr_v1)

/* struct net_lab - @net: the back end, once there is one; polled by the test itself on @loop. */
struct net_lab {
	struct captured_log captured;
	struct event_loop *loop;
	pthread_mutex_t lock;
	struct net_backend *net;
};

static inline void net_lab_init(struct net_lab *lab)
{
	captured_log_init(&lab->captured);
	pthread_mutex_init(&lab->lock, NULL);
	lab->loop = event_loop_create("test");
	assert_non_null(lab->loop);
}

static inline void net_lab_deinit(struct net_lab *lab)
{
	net_close(lab->net);
	event_loop_destroy(lab->loop);
	pthread_mutex_destroy(&lab->lock);
	captured_log_deinit(&lab->captured);
}

/** net_lab_open() - a back end of @lab that tells @arg by @ops; NULL with errno, as net_open(). */
static inline struct net_backend *net_lab_open(struct net_lab *lab, const struct net_config *config,
					       const struct net_backend_ops *ops, void *arg)
{
	return net_open(&lab->captured.log, "virtio-net", config, lab->loop, &lab->lock, ops, arg);
}

#endif
