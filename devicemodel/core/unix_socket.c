/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Unix sockets with a path.
 */
#include "unix_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define LISTEN_QUEUE 1

#define LOCK_TRIES 100
#define LOCK_PAUSE_US 10000

int unix_socket_address(const char *path, struct sockaddr_un *address)
{
	*address = (struct sockaddr_un) { .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof(address->sun_path))
		return -ENAMETOOLONG;
	memcpy(address->sun_path, path, strlen(path) + 1);
	return 0;
}

static int socket_create(int type)
{
	int fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	return fd < 0 ? -errno : fd;
}

static int socket_connect(int type, const struct sockaddr_un *address)
{
	int fd = socket_create(type), error;

	if (fd < 0 || !connect(fd, (const struct sockaddr *)address, sizeof(*address)))
		return fd;
	error = -errno;
	close(fd);
	return error;
}

int unix_socket_connect(const char *path)
{
	struct sockaddr_un address;
	int error = unix_socket_address(path, &address);

	return error ? error : socket_connect(SOCK_STREAM, &address);
}

/*
 * Between bind() and listen() a socket looks like one that nobody has open any more, and between finding
 * and removing such a file somebody may have replaced it. So of all who make sockets in a directory one
 * does so at a time. The others wait, but not for ever: anybody may lock a directory that he can read.
 * Returns a descriptor to close, or -1 if it cannot be locked: then it must do without.
 */
static int directory_lock(const struct sockaddr_un *address)
{
	char directory[sizeof(address->sun_path)];
	int fd;

	memcpy(directory, address->sun_path, sizeof(directory));
	fd = open(dirname(directory), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; fd >= 0 && i < LOCK_TRIES; i++) {
		if (!flock(fd, LOCK_EX | LOCK_NB) || errno != EWOULDBLOCK)
			break;
		usleep(LOCK_PAUSE_US);
	}
	return fd;
}

/* Remove a file that nobody has open any more. A full listen queue (EAGAIN) is somebody. */
static int socket_remove_stale(int type, const struct sockaddr_un *address)
{
	struct stat stat;
	int fd;

	if (lstat(address->sun_path, &stat) < 0)
		return 0; /* gone, or binding again will say what is wrong */
	if (!S_ISSOCK(stat.st_mode))
		return -EEXIST;
	fd = socket_connect(type, address);
	if (fd >= 0)
		close(fd);
	if (fd != -ECONNREFUSED)
		return -EADDRINUSE;
	return unlink(address->sun_path) < 0 ? -errno : 0;
}

static int socket_bind_locked(struct unix_socket *socket, int type,
			      const struct sockaddr_un *address)
{
	const struct sockaddr *generic = (const struct sockaddr *)address;
	struct stat stat;
	int error = bind(socket->fd, generic, sizeof(*address)) < 0 ? -errno : 0;

	if (error == -EADDRINUSE) {
		error = socket_remove_stale(type, address);
		if (!error && bind(socket->fd, generic, sizeof(*address)) < 0)
			error = -errno;
	}
	if (!error && lstat(address->sun_path, &stat) < 0)
		error = -errno;
	if (error)
		return error;
	socket->bound = true;
	socket->device = stat.st_dev;
	socket->inode = stat.st_ino;
	return type == SOCK_STREAM && listen(socket->fd, LISTEN_QUEUE) < 0 ? -errno : 0;
}

static int socket_bind(struct unix_socket *socket, int type, const struct sockaddr_un *address)
{
	int lock = directory_lock(address);
	int error = socket_bind_locked(socket, type, address);

	if (lock >= 0)
		close(lock);
	return error;
}

static void log_bind_failure(struct logger *log, const char *what, int error)
{
	if (error == -EEXIST)
		log_error(
			log,
			"%s: the file exists and is not a socket (remove it, or use another path)",
			what);
	else if (error == -EADDRINUSE)
		log_error(log,
			  "%s: another process listens on it (use another path, or end that "
			  "process)",
			  what);
	else
		log_error(log, "%s: cannot make the socket: %s%s", what, strerror(-error),
			  error == -ENOENT ? " (its directory does not exist)" : "");
}

/* A stream socket listens. @mode is of the socket file, less the umask. */
static int socket_open(struct logger *log, const char *what, const char *path, int type,
		       mode_t mode, struct unix_socket *socket)
{
	struct sockaddr_un address;
	int error = unix_socket_address(path, &address);

	*socket = (struct unix_socket) { .fd = -1 };
	if (error) {
		log_error(log, "%s: the path is too long, use at most %zu bytes", what,
			  sizeof(address.sun_path) - 1);
		return error;
	}
	memcpy(socket->path, address.sun_path, sizeof(socket->path));
	socket->fd = socket_create(type);
	if (socket->fd < 0) {
		error = socket->fd;
		log_error(log, "%s: cannot create a socket: %s", what, strerror(-error));
		return error;
	}
	/* The file that bind() makes gets the socket's own mode: at no time may more people connect. */
	if (fchmod(socket->fd, mode) < 0) {
		error = -errno;
		log_error(log, "%s: cannot set the socket's mode: %s", what, strerror(-error));
	} else {
		error = socket_bind(socket, type, &address);
		if (error)
			log_bind_failure(log, what, error);
	}
	if (error)
		unix_socket_close(socket);
	return error;
}

int unix_socket_listen(struct logger *log, const char *what, const char *path,
		       struct unix_socket *socket)
{
	return socket_open(log, what, path, SOCK_STREAM, 0777, socket);
}

int unix_socket_listen_private(struct logger *log, const char *what, const char *path,
			       struct unix_socket *socket)
{
	return socket_open(log, what, path, SOCK_STREAM, 0600, socket);
}

int unix_socket_open_dgram(struct logger *log, const char *what, const char *path,
			   struct unix_socket *socket)
{
	return socket_open(log, what, path, SOCK_DGRAM, 0777, socket);
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
