/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Unix stream sockets with a path.
 */
#include "unix_socket.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define LISTEN_QUEUE 1

/* -ENAMETOOLONG if @path does not fit. */
static int address_fill(struct sockaddr_un *address, const char *path)
{
	*address = (struct sockaddr_un) { .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof(address->sun_path))
		return -ENAMETOOLONG;
	memcpy(address->sun_path, path, strlen(path) + 1);
	return 0;
}

static int socket_create(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	return fd < 0 ? -errno : fd;
}

int unix_socket_connect(const char *path)
{
	struct sockaddr_un address;
	int error = address_fill(&address, path);
	int fd;

	if (error)
		return error;
	fd = socket_create();
	if (fd < 0)
		return fd;
	if (!connect(fd, (const struct sockaddr *)&address, sizeof(address)))
		return fd;
	error = -errno;
	close(fd);
	return error;
}

/* Does the socket file at @path have a listener? A full listen queue (EAGAIN) is one too. */
static bool socket_is_stale(const char *path)
{
	int fd = unix_socket_connect(path);

	if (fd >= 0)
		close(fd);
	return fd == -ECONNREFUSED;
}

/* 0: it was stale and is gone; else why not, logged. */
static int socket_remove_stale(struct logger *log, const char *what, const char *path)
{
	struct stat stat;
	int error;

	if (lstat(path, &stat) < 0)
		return 0; /* gone, or binding again will say what is wrong */
	if (!S_ISSOCK(stat.st_mode)) {
		log_error(
			log,
			"%s: the file exists and is not a socket (remove it, or use another path)",
			what);
		return -EEXIST;
	}
	if (!socket_is_stale(path)) {
		log_error(log,
			  "%s: another process listens on it (use another path, or end that "
			  "process)",
			  what);
		return -EADDRINUSE;
	}
	if (!unlink(path))
		return 0;
	error = -errno;
	log_error(log, "%s: cannot remove the stale socket: %s", what, strerror(-error));
	return error;
}

static int socket_bind(int fd, const struct sockaddr_un *address)
{
	return bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;
}

static int socket_bind_path(struct logger *log, const char *what, const struct sockaddr_un *address,
			    struct unix_socket *socket)
{
	struct stat stat;
	int error = socket_bind(socket->fd, address);

	if (error == -EADDRINUSE) {
		error = socket_remove_stale(log, what, socket->path);
		if (error)
			return error;
		error = socket_bind(socket->fd, address);
	}
	if (!error && lstat(socket->path, &stat) < 0)
		error = -errno;
	if (error) {
		log_error(log, "%s: cannot make the socket: %s%s", what, strerror(-error),
			  error == -ENOENT ? " (its directory does not exist)" : "");
		return error;
	}
	socket->bound = true;
	socket->device = stat.st_dev;
	socket->inode = stat.st_ino;
	return 0;
}

/* @mode is of the socket file, less the umask. */
static int socket_listen(struct logger *log, const char *what, const char *path, mode_t mode,
			 struct unix_socket *socket)
{
	struct sockaddr_un address;
	int error = address_fill(&address, path);

	*socket = (struct unix_socket) { .fd = -1 };
	if (error) {
		log_error(log, "%s: the path is too long, use at most %zu bytes", what,
			  sizeof(address.sun_path) - 1);
		return error;
	}
	memcpy(socket->path, address.sun_path, sizeof(socket->path));
	socket->fd = socket_create();
	if (socket->fd < 0) {
		error = socket->fd;
		log_error(log, "%s: cannot create a socket: %s", what, strerror(-error));
		return error;
	}
	/* The file that bind() makes gets the socket's own mode: at no time may more people connect. */
	if (fchmod(socket->fd, mode) < 0)
		error = -errno;
	if (error)
		log_error(log, "%s: cannot set the socket's mode: %s", what, strerror(-error));
	else
		error = socket_bind_path(log, what, &address, socket);
	if (!error && listen(socket->fd, LISTEN_QUEUE) < 0) {
		error = -errno;
		log_error(log, "%s: cannot listen: %s", what, strerror(-error));
	}
	if (error)
		unix_socket_close(socket);
	return error;
}

int unix_socket_listen(struct logger *log, const char *what, const char *path,
		       struct unix_socket *socket)
{
	return socket_listen(log, what, path, 0777, socket);
}

int unix_socket_listen_private(struct logger *log, const char *what, const char *path,
			       struct unix_socket *socket)
{
	return socket_listen(log, what, path, 0600, socket);
}

void unix_socket_close(struct unix_socket *socket)
{
	struct stat stat;

	if (socket->fd < 0)
		return;
	if (socket->bound && !lstat(socket->path, &stat) && stat.st_dev == socket->device &&
	    stat.st_ino == socket->inode)
		unlink(socket->path);
	close(socket->fd);
	socket->fd = -1;
}
