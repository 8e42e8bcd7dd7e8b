/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * net_backend.h: Ethernet to the host or to another process: a tap, NAT in user space, passt, Unix sockets.
 *
 * Every frame, either way, has a struct virtio_net_hdr_v1 (12 bytes, little-endian) in front; what
 * the guest's driver sees in its place is the device's business. A back end has one or more queues,
 * each with frames of its own: those of a flow come by the queue that the flow is sent on.
 */
#ifndef TENON_NET_BACKEND_H
#define TENON_NET_BACKEND_H

#include <linux/if_tun.h>
#include <pthread.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "event.h"
#include "log.h"
#include "util.h"

TENON_API_BEGIN

#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20 /* UDP segmentation over IPv4, Linux 6.2 */
#define TUN_F_USO6 0x40
#endif

#define NET_BACKEND_QUEUES_MAX 16
#define NET_BATCH_MAX 64 /* frames between two calls of net_flush() */

struct net_backend;

/**
 * struct net_backend_ops - what the user of a back end is told; the lock given to net_open() is
 * held.
 * @readable: frames wait in @queue. Called again and again until they are taken with net_receive()
 * or net_set_receive(false) was called: it may take as few as it likes each time
 * @link_changed: the host side went up or down
 */
struct net_backend_ops {
	void (*readable)(void *arg, unsigned int queue);
	void (*link_changed)(void *arg, bool up);
};

/* In the order of the choices of "backend". */
enum net_backend_kind { NET_TAP, NET_USER, NET_PASST, NET_STREAM, NET_DGRAM, NET_NULL };

/**
 * struct net_config - which back end, and how.
 * @kind: all but NET_TAP have one queue
 * @tap: interface name, or NULL; @fd: an open tap, attached with IFF_TAP | IFF_NO_PI |
 *       IFF_VNET_HDR, or -1
 * @path: NET_PASST, NET_STREAM, NET_DGRAM: the socket to connect to (for NET_DGRAM, where frames are
 *        sent to)
 * @local: NET_DGRAM: where frames are received
 * @server: NET_STREAM: listen at @path instead
 * @hostfwd: NET_USER: "tcp|udp:[ADDRESS]:PORT-[ADDRESS]:PORT", several joined by "+"; or NULL
 * @network: NET_USER: IPv4 network as ADDRESS/BITS, NULL: 10.0.2.0/24
 * @hostname, @dns: NET_USER: what DHCP says, or NULL
 * @restricted: NET_USER: the guest reaches nothing outside, but for @hostfwd's answers
 * @rx_size: NET_NULL: bytes of the frames that come without end, 0: none comes
 * @queues: 1..NET_BACKEND_QUEUES_MAX; 1 with @fd
 */
struct net_config {
	enum net_backend_kind kind;
	const char *tap;
	int fd;
	const char *path, *local;
	bool server;
	const char *hostfwd, *network, *hostname, *dns;
	bool restricted;
	unsigned int rx_size;
	unsigned int queues;
};

/**
 * net_open() - attach to the interface @config->tap, created (and set up) if it is missing and we
 * may, or to the tap that is open as @config->fd.
 * @what: for messages ("virtio-net"); kept
 * @loop, @lock: where events run and what is held around @ops
 *
 * Neither reception nor an offload is on, and queue 0 alone is in use. The descriptor @config->fd
 * is the back end's from then on, net_close() closes it; on failure it stays the caller's, and
 * nothing is left behind.
 *
 * Return: the back end, or NULL with errno after one log line naming interface, cause and remedy.
 */
struct net_backend *net_open(struct logger *log, const char *what, const struct net_config *config,
			     struct event_loop *loop, pthread_mutex_t *lock,
			     const struct net_backend_ops *ops, void *arg) __must_check;

/**
 * net_close() - detach; an interface that net_open() created disappears. NULL is harmless. Lock
 * held, or no events can run.
 */
void net_close(struct net_backend *net);

/**
 * net_set_queues() - use queues 0 to @count - 1: no frame comes by the others, and what waits in
 * those is lost. Lock held. 0 or -errno: then queue 0 alone may be in use.
 */
int net_set_queues(struct net_backend *net, unsigned int count) __must_check;

/**
 * net_set_queue_loop() - call readable() for @queue in @loop with @lock held, and have that lock
 * instead of net_open()'s for net_send(), net_flush(), net_receive() and net_set_receive() of it.
 * All locks held. 0 or -errno (-EOPNOTSUPP: this kind has one lock for all).
 */
int net_set_queue_loop(struct net_backend *net, unsigned int queue, struct event_loop *loop,
		       pthread_mutex_t *lock) __must_check;

/**
 * net_queue_fd() - the descriptor of @queue, for the kernel (vhost) to send and receive on in our
 * place, -1 if this kind has none. It is the back end's. Lock held.
 */
int net_queue_fd(const struct net_backend *net, unsigned int queue);

/**
 * net_set_header_size() - bytes of the header in front of frames, of all queues: sizeof(struct
 * virtio_net_hdr_v1), but when the kernel sends and receives and the driver has another one.
 * Lock held. 0 or -errno.
 */
int net_set_header_size(struct net_backend *net, unsigned int size) __must_check;

/** net_offloads() - all TUN_F_ flags that net_set_offload() would take; 0: no offload at all. */
unsigned int net_offloads(const struct net_backend *net);

/**
 * net_set_offload() - what we may be handed from now on: TUN_F_CSUM, TUN_F_TSO4 ... of
 * <linux/if_tun.h>. Frames that already wait may still be of the old kind. Lock held. 0 or -errno.
 */
int net_set_offload(struct net_backend *net, unsigned int tun_flags);

/**
 * net_send() - send one frame with its header on @queue, never blocks. What @iov points to (not @iov
 * itself) must stay as it is until net_flush(): the frame may be kept to be sent with others. Lock held.
 * Return: 0 (sent or kept), -EAGAIN (no room now), -EINVAL (the header does not fit the frame), -EIO (the
 * interface is down), -EBADFD (it is gone) or another negative errno; then nothing was sent.
 */
int net_send(struct net_backend *net, unsigned int queue, const struct iovec *iov,
	     int count) __must_check;

/**
 * net_receive() - receive one frame of @queue with its header, never blocks. What does not fit
 * into @iov is lost. Lock held. Return: bytes written to @iov, -EAGAIN when no frame waits,
 * -errno.
 */
ssize_t net_receive(struct net_backend *net, unsigned int queue, const struct iovec *iov,
		    int count) __must_check;

/** net_set_receive() - call readable() for @queue or not. Lock held. */
void net_set_receive(struct net_backend *net, unsigned int queue, bool on);

/**
 * net_flush() - send what net_send() has kept to send with others; called at the end of each batch of
 * net_send(), and at least every NET_BATCH_MAX frames. Lock held. Return: how many of the frames that
 * net_send() took were lost after all.
 */
unsigned int net_flush(struct net_backend *net, unsigned int queue);

/** net_link_up() - the state of the link on the host. Lock held. */
bool net_link_up(const struct net_backend *net);

/** net_mtu() - MTU of the host's interface now, 0 if unknown. Lock held. */
unsigned int net_mtu(const struct net_backend *net);

TENON_API_END

#endif
