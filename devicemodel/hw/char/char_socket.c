/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Unix stream sockets: as a client, or as a server that serves one peer after the other. Who
 * connects while another is served waits in the listen queue.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "char_kind.h"
#include "unix_socket.h"

#define SERVER_SUFFIX ":server"
#define CLIENT_SUFFIX ":client"

/* By edge, so that a connection that cannot be accepted (EMFILE) does not keep the loop busy. */
#define LISTEN_EVENTS (EPOLLIN | EPOLLET)

/**
 * struct socket_backend
 * @peer: the connection, -1: none
 * @peer_left: it is only kept for what it sent last
 * @listener, @listen_source: of a server
 */
struct socket_backend {
	struct char_backend chr;
	char path[sizeof(((struct unix_socket *)NULL)->path)];
	int peer;
	bool peer_left;
	struct unix_socket listener;
	struct event_source *listen_source;
};

static struct socket_backend *socket_of(const struct char_backend *chr)
{
	return container_of(chr, struct socket_backend, chr);
}

/* ---- Peers ---- */

static void socket_listen_more(struct socket_backend *sock, bool more)
{
	if (!sock->listen_source)
		return;
	if (event_set_events(sock->listen_source, more ? LISTEN_EVENTS : 0))
		log_guest(sock->chr.log, "%s: cannot watch the listening socket", sock->chr.what);
}

static void socket_drop_peer(struct socket_backend *sock)
{
	if (sock->peer < 0)
		return;
	char_detach(&sock->chr);
	close(sock->peer);
	sock->peer = -1;
	sock->peer_left = false;
	char_set_connected(&sock->chr, false);
}

static void socket_input_ended(struct char_backend *chr, int error)
{
	struct socket_backend *sock = socket_of(chr);

	socket_drop_peer(sock);
	if (sock->listener.fd < 0)
		log_info(chr->log, "%s: socket:%s: the server has closed the connection", chr->what,
			 sock->path);
	socket_listen_more(sock, true);
}

/* A guest that takes no input must not keep others from connecting. */
static void socket_hung_up(struct char_backend *chr)
{
	struct socket_backend *sock = socket_of(chr);

	sock->peer_left = true;
	socket_listen_more(sock, true);
}

static void on_socket_connection(void *arg, uint32_t events)
{
	struct socket_backend *sock = arg;
	int peer;

	if (sock->peer >= 0 && !sock->peer_left)
		return;
	peer = accept4(sock->listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (peer < 0)
		return; /* it has gone again, or we are short of descriptors */
	socket_drop_peer(sock);
	sock->peer = peer;
	socket_listen_more(sock, false);
	char_attach(&sock->chr, peer, peer);
	char_set_connected(&sock->chr, true);
}

/* ---- Opening ---- */

static int socket_listen(struct socket_backend *sock, const char *what)
{
	struct char_backend *chr = &sock->chr;
	int error = unix_socket_listen(chr->log, what, sock->path, &sock->listener);

	if (error)
		return error;
	sock->listen_source = event_add_fd(chr->loop, sock->listener.fd, LISTEN_EVENTS, chr->lock,
					   on_socket_connection, sock);
	if (sock->listen_source)
		return 0;
	error = -errno;
	log_error(chr->log, "%s: cannot listen: %s", what, strerror(-error));
	return error;
}

static void socket_close(struct char_backend *chr)
{
	struct socket_backend *sock = socket_of(chr);

	event_remove(sock->listen_source);
	if (sock->peer >= 0)
		close(sock->peer);
	unix_socket_close(&sock->listener);
}

static int socket_init(struct socket_backend *sock, const char *path, size_t len)
{
	sock->peer = -1;
	sock->listener.fd = -1;
	if (len >= sizeof(sock->path)) {
		log_error(sock->chr.log,
			  "%s: socket path \"%s\" is too long, use at most %zu bytes",
			  sock->chr.what, path, sizeof(sock->path) - 1);
		return -ENAMETOOLONG;
	}
	memcpy(sock->path, path, len);
	return 0;
}

static int socket_open_server(struct char_backend *chr, const char *path, size_t len)
{
	struct socket_backend *sock = socket_of(chr);
	char what[sizeof(sock->path) + 128];
	int error = socket_init(sock, path, len);

	if (error)
		return error;
	snprintf(what, sizeof(what), "%s: socket:%s:server", chr->what, sock->path);
	error = socket_listen(sock, what);
	if (error)
		socket_close(chr);
	return error;
}

static int socket_open_client(struct char_backend *chr, const char *path, size_t len)
{
	struct socket_backend *sock = socket_of(chr);
	int error = socket_init(sock, path, len);
	int fd;

	if (error)
		return error;
	fd = unix_socket_connect(sock->path);
	if (fd < 0) {
		log_error(chr->log,
			  "%s: socket:%s: cannot connect: %s (start the server first, or "
			  "add \":server\" to be it)",
			  chr->what, sock->path, strerror(-fd));
		return fd;
	}
	sock->peer = fd;
	chr->connected = true;
	char_attach(chr, fd, fd);
	return 0;
}

static bool has_suffix(const char *text, const char *suffix)
{
	size_t len = strlen(text), suffix_len = strlen(suffix);

	return len > suffix_len && !strcmp(text + len - suffix_len, suffix);
}

static int socket_open(struct char_backend *chr, const char *path)
{
	size_t len = strlen(path);

	if (has_suffix(path, SERVER_SUFFIX))
		return socket_open_server(chr, path, len - strlen(SERVER_SUFFIX));
	if (has_suffix(path, CLIENT_SUFFIX))
		len -= strlen(CLIENT_SUFFIX);
	return socket_open_client(chr, path, len);
}

static int server_open(struct char_backend *chr, const char *path)
{
	return socket_open_server(chr, path, strlen(path));
}

const struct char_kind char_socket = {
	.name = "socket",
	.argument = CHAR_ARGUMENT_REQUIRED,
	.form = "socket:PATH or socket:PATH:server",
	.size = sizeof(struct socket_backend),
	.peer_leaves = true,
	.open = socket_open,
	.close = socket_close,
	.input_ended = socket_input_ended,
	.hung_up = socket_hung_up,
};

const struct char_kind char_server = {
	.name = "server",
	.argument = CHAR_ARGUMENT_REQUIRED,
	.form = "server:PATH",
	.size = sizeof(struct socket_backend),
	.peer_leaves = true,
	.open = server_open,
	.close = socket_close,
	.input_ended = socket_input_ended,
	.hung_up = socket_hung_up,
};
