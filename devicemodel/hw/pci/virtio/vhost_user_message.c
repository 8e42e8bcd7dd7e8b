/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Messages of vhost-user on their way in and out: in pieces, as they come, and never waiting.
 *
 * A message is read up to its last byte and no further, so that the descriptors that come with the
 * next one are never taken for its own.
 */
#include "vhost_user_device.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEADER_SIZE sizeof(struct vhost_user_header)

union fd_control {
	struct cmsghdr header;
	char space[CMSG_SPACE(sizeof(int) * VHOST_USER_FDS_MAX)];
};

/* The kernel installs no more descriptors than there is room for, and says so. */
static void take_fds(struct vhost_user_message *message, struct msghdr *msg)
{
	struct cmsghdr *control;

	message->too_many_fds |= msg->msg_flags & MSG_CTRUNC;
	for (control = CMSG_FIRSTHDR(msg); control; control = CMSG_NXTHDR(msg, control)) {
		size_t count;

		if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS)
			continue;
		count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(control) + i * sizeof(fd), sizeof(fd));
			if (message->fd_count < VHOST_USER_FDS_MAX) {
				message->fds[message->fd_count++] = fd;
				continue;
			}
			message->too_many_fds = true;
			close(fd);
		}
	}
}

/* Where the next byte goes, and how many are known to be missing. */
static struct iovec missing(struct vhost_user_message *message)
{
	size_t got = message->size_got;

	if (got < HEADER_SIZE)
		return (struct iovec) { (char *)&message->header + got, HEADER_SIZE - got };
	got -= HEADER_SIZE;
	return (struct iovec) { message->payload.bytes + got, message->header.size - got };
}

/* 1: something came; 0: not now; -errno: it is over. */
static int receive_some(struct vhost_user_device *device)
{
	struct vhost_user_message *message = &device->session.in;
	union fd_control control;
	struct iovec iov = missing(message);
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	ssize_t count = recvmsg(device->session.fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (count < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (count < 0)
		return -errno;
	take_fds(message, &msg);
	if (!count)
		return -ECONNRESET;
	message->size_got += (size_t)count;
	return 1;
}

static int check_header(struct vhost_user_device *device)
{
	const struct vhost_user_header *header = &device->session.in.header;

	if ((header->flags & VHOST_USER_FLAG_VERSION) != VHOST_USER_VERSION)
		return vhost_user_refuse(device, "version %u, not %u",
					 header->flags & VHOST_USER_FLAG_VERSION,
					 VHOST_USER_VERSION);
	if (header->flags & VHOST_USER_FLAG_REPLY)
		return vhost_user_refuse(device, "it is a reply, and nothing was asked");
	if (header->size > sizeof(union vhost_user_payload))
		return vhost_user_refuse(device, "payload of %u bytes, no message has so many",
					 header->size);
	return 0;
}

int vhost_user_message_receive(struct vhost_user_device *device)
{
	struct vhost_user_message *message = &device->session.in;

	while (missing(message).iov_len) {
		int result = receive_some(device);

		if (result <= 0)
			return result;
		if (message->size_got == HEADER_SIZE) {
			result = check_header(device);
			if (result)
				return result;
		}
	}
	return 1;
}

void vhost_user_message_done(struct vhost_user_message *message)
{
	while (message->fd_count)
		close(message->fds[--message->fd_count]);
	message->size_got = 0;
	message->too_many_fds = false;
	message->header = (struct vhost_user_header) { 0 };
}

int vhost_user_take_fd(struct vhost_user_message *message)
{
	return message->fds[--message->fd_count];
}

/* ---- Replies ---- */

void vhost_user_answer(struct vhost_user_device *device, const void *payload, size_t size)
{
	struct vhost_user_reply *reply = &device->session.out;

	reply->header = (struct vhost_user_header) {
		.request = device->session.in.header.request,
		.flags = VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY,
		.size = (uint32_t)size,
	};
	memcpy(reply->payload.bytes, payload, size);
	reply->size_sent = 0;
	reply->pending = true;
}

void vhost_user_answer_u64(struct vhost_user_device *device, uint64_t value)
{
	vhost_user_answer(device, &value, sizeof(value));
}

void vhost_user_reply_drop(struct vhost_user_reply *reply)
{
	if (reply->fd >= 0)
		close(reply->fd);
	reply->fd = -1;
	reply->pending = false;
}

static void attach_fd(struct msghdr *msg, union fd_control *control, int fd)
{
	memset(control, 0, sizeof(*control));
	msg->msg_control = control;
	msg->msg_controllen = CMSG_SPACE(sizeof(fd));
	control->header.cmsg_level = SOL_SOCKET;
	control->header.cmsg_type = SCM_RIGHTS;
	control->header.cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(&control->header), &fd, sizeof(fd));
}

static ssize_t send_some(struct vhost_user_device *device)
{
	struct vhost_user_reply *reply = &device->session.out;
	size_t header_sent = MIN(reply->size_sent, HEADER_SIZE);
	size_t payload_sent = reply->size_sent - header_sent;
	struct iovec iov[2] = {
		{ (char *)&reply->header + header_sent, HEADER_SIZE - header_sent },
		{ reply->payload.bytes + payload_sent, reply->header.size - payload_sent },
	};
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = ARRAY_SIZE(iov) };
	union fd_control control;

	if (reply->fd >= 0 && !reply->size_sent)
		attach_fd(&msg, &control, reply->fd);
	return sendmsg(device->session.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

int vhost_user_reply_send(struct vhost_user_device *device)
{
	struct vhost_user_reply *reply = &device->session.out;

	while (reply->pending) {
		ssize_t count = send_some(device);

		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			return errno == EAGAIN ? 0 : -errno;
		reply->size_sent += (size_t)count;
		if (reply->size_sent == HEADER_SIZE + reply->header.size)
			vhost_user_reply_drop(reply);
	}
	return 0;
}
