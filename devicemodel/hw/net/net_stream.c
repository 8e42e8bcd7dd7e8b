/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The back ends whose frames go over a Unix stream socket, each behind its length as 32 bits,
 * big-endian: passt, and "stream" for another virtual machine's (QEMU's -netdev stream is one).
 *
 * The peer may stop reading, say nonsense, go away in the middle of a frame and come again. What it
 * does not take in time is lost; while it is away the link is down.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "event_loop.h"
#include "net_fifo.h"
#include "unix_socket.h"

#define RETRY_NS UINT64_C(200000000)

/*
 * @listener: of server=on, else its fd is -1; @listen_source: its, waits while there is no peer
 * @fd: the peer, -1: none; @source: its; @events: that it waits for
 * @retry: timer: connect again
 * @inbox: from the peer; @outbox: to it, but for what the socket took already
 */
struct net_stream {
	struct net_backend base;
	const char *path;
	struct unix_socket listener;
	struct event_source *listen_source, *source, *retry;
	int fd;
	uint32_t events;
	struct net_inbox inbox;
	struct net_fifo outbox;
};

static struct net_stream *stream_of(const struct net_backend *base)
{
	return container_of(base, struct net_stream, base);
}

/* ---- The peer ---- */

static void on_stream(void *arg, uint32_t events);

static int stream_attach(struct net_stream *stream, int fd)
{
	const struct net_backend *net = &stream->base;

	stream->events = EPOLLIN | EPOLLRDHUP;
	stream->source = event_add_fd(net->loop, fd, stream->events, net->lock, on_stream, stream);
	if (!stream->source)
		return -errno;
	stream->fd = fd;
	return 0;
}

static void stream_detach(struct net_stream *stream)
{
	event_remove(stream->source);
	stream->source = NULL;
	if (stream->fd >= 0)
		close(stream->fd);
	stream->fd = -1;
	net_fifo_clear(&stream->inbox.fifo);
	net_fifo_clear(&stream->outbox);
}

static void stream_link_up(struct net_stream *stream, int fd)
{
	const struct net_backend *net = &stream->base;
	int error = stream_attach(stream, fd);

	if (error) {
		close(fd);
		log_guest(net->log, "%s: path=%s: the peer cannot be served: %s", net->what,
			  stream->path, strerror(-error));
		return;
	}
	log_guest(net->log, "%s: path=%s: the peer is there: link up", net->what, stream->path);
	net->ops->link_changed(net->arg, true);
}

static void stream_link_down(struct net_stream *stream, const char *why)
{
	const struct net_backend *net = &stream->base;

	stream_detach(stream);
	if (stream->listen_source)
		event_set_events(stream->listen_source, EPOLLIN);
	else
		event_set_timer(stream->retry, RETRY_NS, RETRY_NS);
	log_guest(net->log, "%s: path=%s: %s: link down until %s", net->what, stream->path, why,
		  stream->listen_source ? "the next one comes" : "it can be reached again");
	net->ops->link_changed(net->arg, false);
}

static void on_retry(void *arg, uint32_t expirations)
{
	struct net_stream *stream = arg;
	int fd = unix_socket_connect(stream->path);

	if (fd < 0)
		return;
	event_set_timer(stream->retry, 0, 0);
	stream_link_up(stream, fd);
	if (stream->fd < 0)
		event_set_timer(stream->retry, RETRY_NS, RETRY_NS);
}

/* One peer at a time; others wait in the listener's queue. */
static void on_listener(void *arg, uint32_t events)
{
	struct net_stream *stream = arg;
	int fd = accept4(stream->listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return;
	stream_link_up(stream, fd);
	if (stream->fd >= 0)
		event_set_events(stream->listen_source, 0);
}

/* ---- Frames ---- */

/* No use in reading what there is no room for, nor in waiting while nothing is to be sent. */
static void stream_watch(struct net_stream *stream)
{
	uint32_t events = EPOLLRDHUP;

	if (net_fifo_room(&stream->inbox.fifo))
		events |= EPOLLIN;
	if (net_fifo_used(&stream->outbox))
		events |= EPOLLOUT;
	if (events == stream->events || !stream->source)
		return;
	stream->events = events;
	event_set_events(stream->source, events);
}

/* What the peer sent. False: it is gone. */
static bool stream_read(struct net_stream *stream)
{
	struct net_fifo *fifo = &stream->inbox.fifo;
	uint8_t *to = net_fifo_append(fifo);
	ssize_t len;

	if (!net_fifo_room(fifo))
		return true;
	len = recv(stream->fd, to, net_fifo_room(fifo), MSG_DONTWAIT);
	if (len > 0)
		net_fifo_added(fifo, (size_t)len);
	return len > 0 || (len < 0 && (errno == EAGAIN || errno == EINTR));
}

/* What the peer takes. One that is gone is heard of by its source. */
static void stream_write(struct net_stream *stream)
{
	struct net_fifo *fifo = &stream->outbox;

	while (net_fifo_used(fifo)) {
		ssize_t len = send(stream->fd, net_fifo_bytes(fifo), net_fifo_used(fifo),
				   MSG_DONTWAIT | MSG_NOSIGNAL);

		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0 && errno != EAGAIN)
			shutdown(stream->fd, SHUT_RDWR);
		if (len < 0)
			return;
		net_fifo_taken(fifo, (size_t)len);
	}
}

static void stream_deliver(struct net_stream *stream)
{
	net_inbox_deliver(&stream->inbox);
	if (net_fifo_next(&stream->inbox.fifo) == -EMSGSIZE)
		stream_link_down(stream, "the peer sends no frames (is it something else?)");
	else
		stream_watch(stream);
}

static void on_stream(void *arg, uint32_t events)
{
	struct net_stream *stream = arg;
	bool gone = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);

	if (events & EPOLLIN)
		gone = !stream_read(stream);
	if (gone) {
		stream_link_down(stream, "the peer is gone");
		return;
	}
	if (events & EPOLLOUT)
		stream_write(stream);
	stream_deliver(stream);
}

static void on_again(void *arg, uint32_t expirations)
{
	stream_deliver(arg);
}

static int stream_send(struct net_backend *base, unsigned int queue, const struct iovec *iov,
		       int count)
{
	struct net_stream *stream = stream_of(base);
	int error;

	if (stream->fd < 0)
		return -ENOTCONN;
	error = net_fifo_put(&stream->outbox, iov, count);
	if (error != -EAGAIN)
		return error;
	stream_write(stream);
	return net_fifo_put(&stream->outbox, iov, count);
}

static unsigned int stream_flush(struct net_backend *base, unsigned int queue)
{
	struct net_stream *stream = stream_of(base);

	if (stream->fd < 0)
		return 0;
	stream_write(stream);
	stream_watch(stream);
	return 0;
}

static ssize_t stream_receive(struct net_backend *base, unsigned int queue, const struct iovec *iov,
			      int count)
{
	return net_fifo_get(&stream_of(base)->inbox.fifo, iov, count);
}

static void stream_set_receive(struct net_backend *base, unsigned int queue, bool on)
{
	net_inbox_set_receive(&stream_of(base)->inbox, on);
}

static bool stream_is_up(const struct net_backend *base)
{
	return stream_of(base)->fd >= 0;
}

/* ---- Life cycle ---- */

static void stream_close(struct net_backend *net)
{
	struct net_stream *stream = stream_of(net);

	stream_detach(stream);
	event_remove(stream->listen_source);
	event_remove(stream->retry);
	unix_socket_close(&stream->listener);
	net_inbox_close(&stream->inbox);
	net_fifo_deinit(&stream->outbox);
}

static int stream_listen(struct net_stream *stream)
{
	const struct net_backend *net = &stream->base;
	char what[256];
	int error;

	snprintf(what, sizeof(what), "%s: path=%s", net->what, stream->path);
	error = unix_socket_listen(net->log, what, stream->path, &stream->listener);
	if (error)
		return error;
	stream->listen_source = event_add_fd(net->loop, stream->listener.fd, EPOLLIN, net->lock,
					     on_listener, stream);
	if (stream->listen_source)
		return 0;
	error = -errno;
	log_error(net->log, "%s: cannot wait for connections: %m", what);
	return error;
}

/* Will somebody listen there later? A virtual machine may start before the one it talks to. */
static bool may_come(const struct net_backend *net, int error)
{
	return net->kind == &net_kind_stream &&
	       (error == -ENOENT || error == -ECONNREFUSED || error == -EAGAIN);
}

static int stream_connect(struct net_stream *stream)
{
	const struct net_backend *net = &stream->base;
	int fd = unix_socket_connect(stream->path);
	int error = fd;

	if (fd >= 0) {
		error = stream_attach(stream, fd);
		if (error)
			close(fd);
	} else if (may_come(net, error)) {
		log_info(net->log,
			 "%s: path=%s: nobody listens there yet: link down until somebody does",
			 net->what, stream->path);
		event_set_timer(stream->retry, RETRY_NS, RETRY_NS);
		error = 0;
	}
	if (!error)
		return 0;
	errno = -error;
	if (net->kind == &net_kind_passt)
		log_error(
			net->log,
			"%s: path=%s: cannot connect to passt: %m (start it first: passt --socket "
			"%s)",
			net->what, stream->path, stream->path);
	else
		log_error(net->log,
			  "%s: path=%s: cannot connect: %m (name the socket that the peer listens "
			  "on, or use server=on)",
			  net->what, stream->path);
	return error;
}

static int stream_open(struct net_backend *net, const struct net_config *config)
{
	struct net_stream *stream = stream_of(net);
	int error;

	stream->fd = stream->listener.fd = -1;
	stream->path = config->path;
	error = net_inbox_open(&stream->inbox, net, on_again, stream);
	if (!error)
		error = net_fifo_init(&stream->outbox);
	stream->retry = event_add_real_timer(net->loop, net->lock, on_retry, stream);
	if (error || !stream->retry) {
		log_error(net->log, "%s: backend=%s: out of memory", net->what, net->kind->name);
		error = -ENOMEM;
	} else {
		error = config->server ? stream_listen(stream) : stream_connect(stream);
	}
	if (error)
		stream_close(net);
	return error;
}

#define STREAM_KIND(kind_name)                                                                     \
	{                                                                                          \
		.name = (kind_name), .priv_size = sizeof(struct net_stream), .open = stream_open,  \
		.close = stream_close, .send = stream_send, .receive = stream_receive,             \
		.set_receive = stream_set_receive, .flush = stream_flush, .link_up = stream_is_up, \
	}

const struct net_kind net_kind_passt = STREAM_KIND("passt");
const struct net_kind net_kind_stream = STREAM_KIND("stream");
