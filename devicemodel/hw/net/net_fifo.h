/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames in a buffer that never grows, each behind its length as 32 bits, big-endian: as they are on
 * the stream sockets of QEMU and passt. In front of the frames that come from and go to the back
 * end's user is a struct virtio_net_hdr_v1, which is not kept: there are no offloads here.
 */
#ifndef TENON_NET_FIFO_H
#define TENON_NET_FIFO_H

#include "net_internal.h"

/* The largest frame of QEMU's sockets (NET_BUFSIZE). */
#define NET_FIFO_FRAME_MAX (65536 + 4096)
#define NET_FIFO_SIZE KIB(256)

/* @bytes: of which [@start, @end) are in use */
struct net_fifo {
	uint8_t *bytes;
	size_t start, end;
};

/* 0 or -ENOMEM. */
int net_fifo_init(struct net_fifo *fifo) __must_check;
void net_fifo_deinit(struct net_fifo *fifo);

static inline void net_fifo_clear(struct net_fifo *fifo)
{
	fifo->start = fifo->end = 0;
}

static inline size_t net_fifo_used(const struct net_fifo *fifo)
{
	return fifo->end - fifo->start;
}

static inline size_t net_fifo_room(const struct net_fifo *fifo)
{
	return NET_FIFO_SIZE - net_fifo_used(fifo);
}

/* All of the room in one piece, to be written to; then net_fifo_added() says how much was. */
uint8_t *net_fifo_append(struct net_fifo *fifo);
void net_fifo_added(struct net_fifo *fifo, size_t len);

/* The first bytes in use, and that @len of them are not needed any more. */
const uint8_t *net_fifo_bytes(const struct net_fifo *fifo);
void net_fifo_taken(struct net_fifo *fifo, size_t len);

/* The length of the first frame; -EAGAIN: it is not whole; -EMSGSIZE: no frame is so long. */
ssize_t net_fifo_next(const struct net_fifo *fifo);

/* Keep the frame in @iov. 0, -EAGAIN (no room), -EINVAL (no frame), -EMSGSIZE. */
int net_fifo_put(struct net_fifo *fifo, const struct iovec *iov, int count) __must_check;

/* What net_receive() promises: the first frame, behind an empty header. */
ssize_t net_fifo_get(struct net_fifo *fifo, const struct iovec *iov, int count) __must_check;

/*
 * Frames for the back end's user.
 * @receiving: it wants to hear of them
 * @again: a timer, set while there are frames that the user wants and left for later
 */
struct net_inbox {
	struct net_backend *net;
	struct net_fifo fifo;
	bool receiving;
	struct event_source *again;
};

/* @again gets @arg; it is to call net_inbox_deliver(). 0 or -errno; nothing is left behind. */
int net_inbox_open(struct net_inbox *inbox, struct net_backend *net, event_callback again,
		   void *arg) __must_check;
void net_inbox_close(struct net_inbox *inbox);

/* Have the user take frames. */
void net_inbox_deliver(struct net_inbox *inbox);

void net_inbox_set_receive(struct net_inbox *inbox, bool on);

#endif
