/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The back end that is not there: what is sent is forgotten, and frames of rx= bytes come as fast as
 * they are taken. It measures everything but a network.
 */
#include <endian.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/virtio_net.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "net_internal.h"
#include "virtio.h"

#define HEADER sizeof(struct virtio_net_hdr_v1)
#define FRAME_MAX 65535

/*
 * @fd, @source: always readable, for frames always wait; -1 and NULL if none ever does
 * @receiving: the user wants them; @armed: the loop waits for the event. Off only once it came in vain, for
 *             short stops are many, and each change is a system call
 * @frame: what is received each time, with its header: a broadcast, zeroes behind its addresses
 */
struct net_null {
	struct net_backend base;
	int fd;
	struct event_source *source;
	bool receiving, armed;
	uint32_t rx_size;
	uint8_t frame[HEADER + FRAME_MAX];
};

static struct net_null *null_of(const struct net_backend *base)
{
	return container_of(base, struct net_null, base);
}

static void set_armed(struct net_null *null, bool armed)
{
	if (event_set_events(null->source, armed ? EPOLLIN : 0))
		log_error(null->base.log, "%s: backend=null: cannot wait for frames: %m",
			  null->base.what);
	null->armed = armed;
}

static void on_frames(void *arg, uint32_t events)
{
	struct net_null *null = arg;

	if (null->receiving)
		null->base.ops->readable(null->base.arg, 0);
	else
		set_armed(null, false);
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
	return (ssize_t)iov_from_buf(iov, count, 0, null->frame, len);
}

static void null_set_receive(struct net_backend *base, unsigned int queue, bool on)
{
	struct net_null *null = null_of(base);

	null->receiving = on;
	if (null->source && on && !null->armed)
		set_armed(null, true);
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
	struct ethhdr *ethernet = (struct ethhdr *)(null->frame + HEADER);
	int error;

	null->fd = -1;
	if (config->rx_size)
		null->rx_size = MIN(MAX(config->rx_size, ETH_ZLEN), FRAME_MAX);
	memset(ethernet->h_dest, 0xff, ETH_ALEN);
	ethernet->h_source[0] = 2; /* locally administered */
	ethernet->h_proto = htobe16(0x88b5); /* for experiments */
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
