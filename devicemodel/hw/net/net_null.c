/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The back end that is not there: what is sent is forgotten, and frames of rx= bytes come as fast as
 * they are taken. It measures everything but a network.
 */
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/virtio_net.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "net_internal.h"
#include "virtio.h"

#define HEADER sizeof(struct virtio_net_hdr_v1)

/*
 * @fd, @source: always readable, for frames always wait; -1 and NULL if none ever does
 * @frame: header and head of every frame that is received; the rest stays as the reader has it
 */
struct net_null {
	struct net_backend base;
	int fd;
	struct event_source *source;
	uint32_t rx_size;
	struct {
		struct virtio_net_hdr_v1 header;
		struct ethhdr ethernet;
	} __attribute__((packed)) frame;
};

static struct net_null *null_of(const struct net_backend *base)
{
	return container_of(base, struct net_null, base);
}

static void on_frames(void *arg, uint32_t events)
{
	struct net_null *null = arg;

	null->base.ops->readable(null->base.arg, 0);
}

static int null_send(struct net_backend *base, unsigned int queue, const struct iovec *iov,
		     int count)
{
	return iov_length(iov, count) > HEADER ? 0 : -EINVAL;
}

static ssize_t null_receive(struct net_backend *base, unsigned int queue, const struct iovec *iov,
			    int count)
{
	const struct net_null *null = null_of(base);
	uint64_t len = HEADER + null->rx_size;

	if (!null->rx_size)
		return -EAGAIN;
	len = MIN(len, iov_length(iov, count));
	iov_from_buf(iov, count, 0, &null->frame, MIN(len, sizeof(null->frame)));
	return (ssize_t)len;
}

static void null_set_receive(struct net_backend *base, unsigned int queue, bool on)
{
	struct net_null *null = null_of(base);

	if (null->source && event_set_events(null->source, on ? EPOLLIN : 0))
		log_error(base->log, "%s: backend=null: cannot wait for frames: %m", base->what);
}

static bool null_link_up(const struct net_backend *base)
{
	return true;
}

static void null_close(struct net_backend *base)
{
	struct net_null *null = null_of(base);

	event_remove(null->source);
	if (null->fd >= 0)
		close(null->fd);
}

static int null_open(struct net_backend *base, const struct net_config *config)
{
	struct net_null *null = null_of(base);
	int error;

	null->fd = -1;
	if (config->rx_size)
		null->rx_size = MAX(config->rx_size, ETH_ZLEN);
	memset(null->frame.ethernet.h_dest, 0xff, ETH_ALEN);
	null->frame.ethernet.h_source[0] = 2; /* locally administered */
	null->frame.ethernet.h_proto = htole16(0xb588); /* 0x88b5 on the wire: for experiments */
	if (!null->rx_size)
		return 0;

	null->fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	if (null->fd >= 0)
		null->source = event_add_fd(base->loop, null->fd, 0, base->lock, on_frames, null);
	if (null->source)
		return 0;
	error = -errno;
	log_error(base->log, "%s: backend=null: cannot make an event: %m", base->what);
	null_close(base);
	return error;
}

const struct net_kind net_kind_null = {
	.name = "null",
	.priv_size = sizeof(struct net_null),
	.open = null_open,
	.close = null_close,
	.send = null_send,
	.receive = null_receive,
	.set_receive = null_set_receive,
	.link_up = null_link_up,
};
