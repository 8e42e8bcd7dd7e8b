/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * unix_socket.h: Unix sockets with a path: making one, stale files and cleaning up included, and
 * connecting to one. All sockets are close-on-exec and do not block.
 */
#ifndef TENON_UNIX_SOCKET_H
#define TENON_UNIX_SOCKET_H

#include <sys/types.h>
#include <sys/un.h>

#include "log.h"
#include "util.h"

/**
 * struct unix_socket - a socket that has a file.
 * @fd: -1: none
 * @bound, @device, @inode: the file made at @path, so that no other is removed on close
 */
struct unix_socket {
	int fd;
	char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	bool bound;
	dev_t device;
	ino_t inode;
};

/**
 * unix_socket_listen() - make a socket at @path and listen. A socket that nobody listens on any
 * more is replaced; any other file that is in the way is an error.
 * @what: the thing and its option, for messages
 * Return: 0 with @socket filled in, or -errno after one line in @log.
 */
int unix_socket_listen(struct logger *log, const char *what, const char *path,
		       struct unix_socket *socket) __must_check;

/** unix_socket_listen_private() - the same, and only this user may ever connect (mode 0600). */
int unix_socket_listen_private(struct logger *log, const char *what, const char *path,
			       struct unix_socket *socket) __must_check;

/** unix_socket_open_dgram() - the same with a socket that receives datagrams, from anybody. */
int unix_socket_open_dgram(struct logger *log, const char *what, const char *path,
			   struct unix_socket *socket) __must_check;

/** unix_socket_address() - fill in the address of @path. 0, or -ENAMETOOLONG; logs nothing. */
int unix_socket_address(const char *path, struct sockaddr_un *address) __must_check;

/** unix_socket_connect() - a connection to whoever listens at @path, or -errno; logs nothing. */
int unix_socket_connect(const char *path) __must_check;

/** unix_socket_close() - close it and remove the file, if that is still its own. Harmless when @fd is -1. */
void unix_socket_close(struct unix_socket *socket);

#endif
