/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames in a buffer that never grows, and how those for the user get to it.
 */
#include "net_fifo.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/virtio_net.h>
#include <stdlib.h>

#include "virtio.h"

#define LENGTH sizeof(uint32_t)
#define HEADER sizeof(struct virtio_net_hdr_v1)
#define TURNS 4 /* so often the user is asked to take frames before others have their turn */

static_assert(NET_FIFO_SIZE >= 2 * (LENGTH + NET_FIFO_FRAME_MAX), "a frame must fit");

/* ---- Bytes ---- */

int net_fifo_init(struct net_fifo *fifo)
{
	fifo->bytes = malloc(NET_FIFO_SIZE);
	net_fifo_clear(fifo);
	return fifo->bytes ? 0 : -ENOMEM;
}

void net_fifo_deinit(struct net_fifo *fifo)
{
	free(fifo->bytes);
	fifo->bytes = NULL;
}

uint8_t *net_fifo_append(struct net_fifo *fifo)
{
	size_t used = net_fifo_used(fifo);

	if (fifo->start) {
		memmove(fifo->bytes, fifo->bytes + fifo->start, used);
		fifo->start = 0;
		fifo->end = used;
	}
	return fifo->bytes + fifo->end;
}

void net_fifo_added(struct net_fifo *fifo, size_t len)
{
	fifo->end += len;
}

const uint8_t *net_fifo_bytes(const struct net_fifo *fifo)
{
	return fifo->bytes + fifo->start;
}

void net_fifo_taken(struct net_fifo *fifo, size_t len)
{
	fifo->start += len;
	if (fifo->start == fifo->end)
		net_fifo_clear(fifo);
}

/* ---- Frames ---- */

ssize_t net_fifo_next(const struct net_fifo *fifo)
{
	uint32_t len;

	if (net_fifo_used(fifo) < LENGTH)
		return -EAGAIN;
	memcpy(&len, net_fifo_bytes(fifo), LENGTH);
	len = ntohl(len);
	if (len > NET_FIFO_FRAME_MAX)
		return -EMSGSIZE;
	return net_fifo_used(fifo) - LENGTH >= len ? (ssize_t)len : -EAGAIN;
}

int net_fifo_put(struct net_fifo *fifo, const struct iovec *iov, int count)
{
	uint64_t len = iov_length(iov, count);
	uint32_t frame_len;
	uint8_t *to;

	if (len <= HEADER)
		return -EINVAL;
	len -= HEADER;
	if (len > NET_FIFO_FRAME_MAX)
		return -EMSGSIZE;
	if (net_fifo_room(fifo) < LENGTH + len)
		return -EAGAIN;
	to = NET_FIFO_SIZE - fifo->end < LENGTH + len ? net_fifo_append(fifo)
						      : fifo->bytes + fifo->end;
	frame_len = htonl((uint32_t)len);
	memcpy(to, &frame_len, LENGTH);
	iov_to_buf(iov, count, HEADER, to + LENGTH, len);
	net_fifo_added(fifo, LENGTH + len);
	return 0;
}

ssize_t net_fifo_get(struct net_fifo *fifo, const struct iovec *iov, int count)
{
	static const struct virtio_net_hdr_v1 header;
	ssize_t len = net_fifo_next(fifo);
	size_t written;

	if (len < 0)
		return -EAGAIN;
	written = iov_from_buf(iov, count, 0, &header, sizeof(header));
	written += iov_from_buf(iov, count, sizeof(header), net_fifo_bytes(fifo) + LENGTH,
				(size_t)len);
	net_fifo_taken(fifo, LENGTH + (size_t)len);
	return (ssize_t)written;
}

/* ---- Frames for the user ---- */

int net_inbox_open(struct net_inbox *inbox, struct net_backend *net, event_callback again,
		   void *arg)
{
	int error = net_fifo_init(&inbox->fifo);

	inbox->net = net;
	if (error)
		return error;
	inbox->again = event_add_timer(net->loop, net->lock, again, arg);
	if (inbox->again)
		return 0;
	error = -errno;
	net_fifo_deinit(&inbox->fifo);
	return error;
}

void net_inbox_close(struct net_inbox *inbox)
{
	event_remove(inbox->again);
	inbox->again = NULL;
	net_fifo_deinit(&inbox->fifo);
}

static bool inbox_has_frame(const struct net_inbox *inbox)
{
	return inbox->receiving && net_fifo_next(&inbox->fifo) >= 0;
}

void net_inbox_deliver(struct net_inbox *inbox)
{
	const struct net_backend *net = inbox->net;

	for (unsigned int turn = 0; turn < TURNS && inbox_has_frame(inbox); turn++)
		net->ops->readable(net->arg, 0);
	if (inbox_has_frame(inbox))
		event_set_timer(inbox->again, EVENT_SOON, 0);
}

void net_inbox_set_receive(struct net_inbox *inbox, bool on)
{
	if (on == inbox->receiving)
		return;
	inbox->receiving = on;
	if (inbox_has_frame(inbox))
		event_set_timer(inbox->again, EVENT_SOON, 0);
}
