/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Messages of vhost-user on the socket, from the front end's side.
 */
#include "vhost_user_client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int front_connect(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), error;

	if (fd < 0)
		return -errno;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (!connect(fd, (struct sockaddr *)&address, sizeof(address)))
		return fd;
	error = -errno;
	close(fd);
	return error;
}

int front_send_raw(int socket, const void *bytes, size_t size, const int *fds, unsigned int count)
{
	union {
		char space[CMSG_SPACE(FRONT_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { (void *)(uintptr_t)bytes, size };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *header;
	ssize_t sent;

	if (count) {
		memset(&control, 0, sizeof(control));
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(count * sizeof(int));
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(header), fds, count * sizeof(int));
	}
	sent = sendmsg(socket, &message, MSG_NOSIGNAL);
	if (sent < 0)
		return errno == EPIPE || errno == EBADF ? -ECONNRESET : -errno;
	return (size_t)sent == size ? 0 : -EIO;
}

int front_wait_readable(int socket, int timeout_ms)
{
	struct pollfd poll_fd = { .fd = socket, .events = POLLIN };
	int ready;

	do
		ready = poll(&poll_fd, 1, timeout_ms);
	while (ready < 0 && errno == EINTR);
	return ready > 0 ? 0 : ready ? -errno : -ETIMEDOUT;
}

static void take_fds(struct front_message *message, struct msghdr *header)
{
	for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part; part = CMSG_NXTHDR(header, part)) {
		size_t bytes = part->cmsg_len - CMSG_LEN(0);

		if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
			continue;
		memcpy(message->fds + message->fd_count, CMSG_DATA(part), bytes);
		message->fd_count += (unsigned int)(bytes / sizeof(int));
	}
}

static int receive_bytes(int socket, struct front_message *message, void *to, size_t size,
			 int timeout_ms)
{
	union {
		char space[CMSG_SPACE(FRONT_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control;
	size_t done = 0;

	while (done < size) {
		struct iovec iov = { (char *)to + done, size - done };
		struct msghdr header = { .msg_iov = &iov,
					 .msg_iovlen = 1,
					 .msg_control = &control,
					 .msg_controllen = sizeof(control) };
		int error = front_wait_readable(socket, timeout_ms);
		ssize_t got;

		if (error)
			return error;
		got = recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
		if (got <= 0)
			return got < 0 && errno != ECONNRESET ? -errno : -ECONNRESET;
		if (message->fd_count < FRONT_FDS_MAX)
			take_fds(message, &header);
		done += (size_t)got;
	}
	return 0;
}

int front_receive(int socket, struct front_message *message, int timeout_ms)
{
	int error;

	memset(message, 0, sizeof(*message));
	error = receive_bytes(socket, message, &message->header, sizeof(message->header),
			      timeout_ms);
	if (!error && message->header.size > sizeof(message->payload))
		error = -EMSGSIZE;
	if (!error)
		error = receive_bytes(socket, message, &message->payload, message->header.size,
				      timeout_ms);
	if (error)
		front_close_fds(message);
	return error;
}

void front_close_fds(struct front_message *message)
{
	while (message->fd_count)
		close(message->fds[--message->fd_count]);
}
