/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The back end that sends each frame as a datagram to one Unix socket, and receives on another:
 * two virtual machines, each with the other's local= as its path=. Who is not there, or does not
 * read, gets nothing; the link is always up, for nobody tells.
 */
#include <errno.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <sys/socket.h>

#include "net_internal.h"
#include "unix_socket.h"
#include "virtio.h"

#define HEADER sizeof(struct virtio_net_hdr_v1)
#define IOV 1024 /* IOV_MAX */

struct net_dgram {
	struct net_backend base;
	struct unix_socket local;
	struct sockaddr_un peer;
	struct event_source *source;
	bool receiving;
	struct iovec iov[IOV];
};

static struct net_dgram *dgram_of(const struct net_backend *base)
{
	return container_of(base, struct net_dgram, base);
}

/* ---- Frames ---- */

static void on_dgram(void *arg, uint32_t events)
{
	struct net_dgram *dgram = arg;

	if (dgram->receiving)
		dgram->base.ops->readable(dgram->base.arg, 0);
}

static int dgram_send(struct net_backend *base, unsigned int queue, const struct iovec *iov,
		      int count)
{
	struct net_dgram *dgram = dgram_of(base);
	struct msghdr message = { .msg_name = &dgram->peer,
				  .msg_namelen = sizeof(dgram->peer),
				  .msg_iov = dgram->iov };
	uint64_t len = iov_length(iov, count);

	if (len <= HEADER)
		return -EINVAL;
	count = iov_slice(iov, count, HEADER, len - HEADER, dgram->iov, IOV);
	if (count < 0)
		return count;
	message.msg_iovlen = (size_t)count;
	return sendmsg(dgram->local.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static ssize_t dgram_receive(struct net_backend *base, unsigned int queue, const struct iovec *iov,
			     int count)
{
	static const struct virtio_net_hdr_v1 header;
	struct net_dgram *dgram = dgram_of(base);
	struct msghdr message = { .msg_iov = dgram->iov };
	uint64_t room = iov_length(iov, count);
	ssize_t len;
	int sliced;

	if (room <= HEADER)
		return -EINVAL;
	sliced = iov_slice(iov, count, HEADER, room - HEADER, dgram->iov, IOV);
	if (sliced < 0)
		return sliced;
	message.msg_iovlen = (size_t)sliced;
	len = recvmsg(dgram->local.fd, &message, MSG_DONTWAIT);
	if (len < 0)
		return -errno;
	return (ssize_t)iov_from_buf(iov, count, 0, &header, HEADER) + len;
}

static void dgram_set_receive(struct net_backend *base, unsigned int queue, bool on)
{
	struct net_dgram *dgram = dgram_of(base);

	if (on == dgram->receiving)
		return;
	dgram->receiving = on;
	event_set_events(dgram->source, on ? EPOLLIN : 0);
}

static bool dgram_link_up(const struct net_backend *base)
{
	return true;
}

/* ---- Life cycle ---- */

static void dgram_close(struct net_backend *net)
{
	struct net_dgram *dgram = dgram_of(net);

	event_remove(dgram->source);
	unix_socket_close(&dgram->local);
}

static int dgram_start(struct net_dgram *dgram, const struct net_config *config)
{
	const struct net_backend *net = &dgram->base;
	int error = unix_socket_address(config->path, &dgram->peer);
	char what[256];

	if (error) {
		log_error(net->log, "%s: path=%s: the path is too long, use at most %zu bytes",
			  net->what, config->path, sizeof(dgram->peer.sun_path) - 1);
		return error;
	}
	snprintf(what, sizeof(what), "%s: local=%s", net->what, config->local);
	error = unix_socket_open_dgram(net->log, what, config->local, &dgram->local);
	if (error)
		return error;
	dgram->source = event_add_fd(net->loop, dgram->local.fd, 0, net->lock, on_dgram, dgram);
	if (dgram->source)
		return 0;
	error = -errno;
	log_error(net->log, "%s: backend=dgram: cannot wait for frames: %m", net->what);
	return error;
}

static int dgram_open(struct net_backend *net, const struct net_config *config)
{
	struct net_dgram *dgram = dgram_of(net);
	int error;

	dgram->local.fd = -1;
	if (!config->local) {
		log_error(net->log,
			  "%s: backend=dgram needs local=, the socket to receive on (give "
			  "local=FILE, which the peer has as its path=)",
			  net->what);
		return -EINVAL;
	}
	error = dgram_start(dgram, config);
	if (error)
		dgram_close(net);
	return error;
}

const struct net_kind net_kind_dgram = {
	.name = "dgram",
	.priv_size = sizeof(struct net_dgram),
	.open = dgram_open,
	.close = dgram_close,
	.send = dgram_send,
	.receive = dgram_receive,
	.set_receive = dgram_set_receive,
	.link_up = dgram_link_up,
};
