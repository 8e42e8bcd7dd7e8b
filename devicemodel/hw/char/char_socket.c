/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Unix stream sockets: as a client, or as a server that serves one peer after the other. Who
 * connects while another is served waits in the listen queue.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "char_kind.h"

#define SERVER_SUFFIX ":server"
#define CLIENT_SUFFIX ":client"

/* By edge, so that a connection that cannot be accepted (EMFILE) does not keep the loop busy. */
#define LISTEN_EVENTS (EPOLLIN | EPOLLET)

/**
 * struct socket_backend
 * @peer: the connection, -1: none
 * @peer_left: it is only kept for what it sent last
 * @listener, @listen_source: of a server
 * @device, @inode: of the socket file made, so that no other is removed on close
 */
struct socket_backend {
	struct char_backend chr;
	struct sockaddr_un address;
	int peer;
	bool peer_left;
	int listener;
	struct event_source *listen_source;
	bool bound;
	dev_t device;
	ino_t inode;
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
	if (sock->listener < 0)
		log_info(chr->log, "%s: socket:%s: the server has closed the connection", chr->what,
			 sock->address.sun_path);
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
	peer = accept4(sock->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (peer < 0)
		return; /* it has gone again, or we are short of descriptors */
	socket_drop_peer(sock);
	sock->peer = peer;
	socket_listen_more(sock, false);
	char_attach(&sock->chr, peer, peer);
	char_set_connected(&sock->chr, true);
}

/* ---- Opening ---- */

static int socket_create(struct socket_backend *sock)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	return fd < 0 ? -errno : fd;
}

static int socket_connect(struct socket_backend *sock, int fd)
{
	const struct sockaddr *address = (const struct sockaddr *)&sock->address;

	return connect(fd, address, sizeof(sock->address)) < 0 ? -errno : 0;
}

static int socket_bind(struct socket_backend *sock, int fd)
{
	const struct sockaddr *address = (const struct sockaddr *)&sock->address;

	return bind(fd, address, sizeof(sock->address)) < 0 ? -errno : 0;
}

/* Does the socket file at the address have a listener? A full listen queue (EAGAIN) is one too. */
static bool socket_is_stale(struct socket_backend *sock)
{
	int fd = socket_create(sock);
	int error;

	if (fd < 0)
		return false;
	error = socket_connect(sock, fd);
	close(fd);
	return error == -ECONNREFUSED;
}

/* 0: it was stale and is gone; else why not, logged. */
static int socket_remove_stale(struct socket_backend *sock)
{
	const char *path = sock->address.sun_path, *what = sock->chr.what;
	struct logger *log = sock->chr.log;
	struct stat stat;
	int error;

	if (lstat(path, &stat) < 0)
		return 0; /* gone, or binding again will say what is wrong */
	if (!S_ISSOCK(stat.st_mode)) {
		log_error(log,
			  "%s: socket:%s:server: the file exists and is not a socket (remove it, "
			  "or use another path)",
			  what, path);
		return -EEXIST;
	}
	if (!socket_is_stale(sock)) {
		log_error(log,
			  "%s: socket:%s:server: another process listens on it (use another "
			  "path, or end that process)",
			  what, path);
		return -EADDRINUSE;
	}
	if (!unlink(path))
		return 0;
	error = -errno;
	log_error(log, "%s: socket:%s:server: cannot remove the stale socket: %s", what, path,
		  strerror(-error));
	return error;
}

static int socket_bind_path(struct socket_backend *sock)
{
	const char *path = sock->address.sun_path;
	struct stat stat;
	int error = socket_bind(sock, sock->listener);

	if (error == -EADDRINUSE) {
		error = socket_remove_stale(sock);
		if (error)
			return error;
		error = socket_bind(sock, sock->listener);
	}
	if (!error && lstat(path, &stat) < 0)
		error = -errno;
	if (error) {
		log_error(sock->chr.log, "%s: socket:%s:server: cannot make the socket: %s%s",
			  sock->chr.what, path, strerror(-error),
			  error == -ENOENT ? " (its directory does not exist)" : "");
		return error;
	}
	sock->bound = true;
	sock->device = stat.st_dev;
	sock->inode = stat.st_ino;
	return 0;
}

static int socket_listen(struct socket_backend *sock)
{
	struct char_backend *chr = &sock->chr;
	int error = socket_bind_path(sock);

	if (error)
		return error;
	if (!listen(sock->listener, 1))
		sock->listen_source = event_add_fd(chr->loop, sock->listener, LISTEN_EVENTS,
						   chr->lock, on_socket_connection, sock);
	if (sock->listen_source)
		return 0;
	error = -errno;
	log_error(chr->log, "%s: socket:%s:server: cannot listen: %s", chr->what,
		  sock->address.sun_path, strerror(-error));
	return error;
}

static void socket_close(struct char_backend *chr)
{
	struct socket_backend *sock = socket_of(chr);
	const char *path = sock->address.sun_path;
	struct stat stat;

	event_remove(sock->listen_source);
	if (sock->peer >= 0)
		close(sock->peer);
	if (sock->bound && !lstat(path, &stat) && stat.st_dev == sock->device &&
	    stat.st_ino == sock->inode)
		unlink(path);
	if (sock->listener >= 0)
		close(sock->listener);
}

static int socket_init(struct socket_backend *sock, const char *path, size_t len)
{
	sock->peer = -1;
	sock->listener = -1;
	sock->address.sun_family = AF_UNIX;
	if (len >= sizeof(sock->address.sun_path)) {
		log_error(sock->chr.log,
			  "%s: socket path \"%s\" is too long, use at most %zu bytes",
			  sock->chr.what, path, sizeof(sock->address.sun_path) - 1);
		return -ENAMETOOLONG;
	}
	memcpy(sock->address.sun_path, path, len);
	return 0;
}

static int socket_open_server(struct char_backend *chr, const char *path, size_t len)
{
	struct socket_backend *sock = socket_of(chr);
	int error = socket_init(sock, path, len);

	if (error)
		return error;
	sock->listener = socket_create(sock);
	if (sock->listener < 0) {
		log_error(chr->log, "%s: cannot create a socket: %s", chr->what,
			  strerror(-sock->listener));
		return sock->listener;
	}
	error = socket_listen(sock);
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
	fd = socket_create(sock);
	error = fd < 0 ? fd : socket_connect(sock, fd);
	if (error) {
		log_error(chr->log,
			  "%s: socket:%s: cannot connect: %s (start the server first, or "
			  "add \":server\" to be it)",
			  chr->what, sock->address.sun_path, strerror(-error));
		if (fd >= 0)
			close(fd);
		return error;
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
