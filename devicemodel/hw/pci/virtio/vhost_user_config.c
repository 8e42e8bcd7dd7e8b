/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The device's configuration space over vhost-user, and the back end's own channel, by which the front
 * end hears that it changed.
 */
#include "vhost_user_device.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONFIG_HEADER offsetof(struct vhost_user_config, data)
#define CHANNEL_ROOM 512 /* replies read at once */

/* ---- Configuration space ---- */

/* Any size is answered, with zeroes behind the end; what is no question has an empty answer. */
int vhost_user_get_config(struct vhost_user_device *device, struct vhost_user_message *message)
{
	const struct vhost_user_config *asked = &message->payload.config;
	struct vhost_user_config answer = { .offset = asked->offset,
					    .size = asked->size,
					    .flags = asked->flags };

	if (asked->size > VHOST_USER_CONFIG_MAX || asked->offset > VHOST_USER_CONFIG_MAX) {
		log_guest(device->log, "%s: front end: GET_CONFIG of %u bytes at %u refused",
			  device->vc->name, asked->size, asked->offset);
		vhost_user_answer(device, &answer, 0);
		return 0;
	}
	for (uint32_t at = 0; at < asked->size; at += sizeof(uint32_t)) {
		uint32_t part = MIN(sizeof(uint32_t), asked->size - at);
		uint32_t value = virtio_config_read(device->vc, asked->offset + at, part);

		memcpy(answer.data + at, &value, part);
	}
	vhost_user_answer(device, &answer, CONFIG_HEADER + asked->size);
	return 0;
}

/* The largest piece at @offset that is aligned, as a driver would write a field. */
static uint32_t field_size(uint32_t offset, uint32_t left)
{
	if (!(offset % 4) && left >= 4)
		return 4;
	return !(offset % 2) && left >= 2 ? 2 : 1;
}

int vhost_user_set_config(struct vhost_user_device *device, struct vhost_user_message *message)
{
	const struct vhost_user_config *config = &message->payload.config;
	uint32_t at = 0;

	if (config->size != message->header.size - CONFIG_HEADER)
		return vhost_user_refuse(device, "%u bytes of %u", config->size,
					 (unsigned int)(message->header.size - CONFIG_HEADER));
	if (!range_contains(0, device->vc->ops->cfgsize, config->offset, config->size))
		return vhost_user_refuse(device, "%u bytes at %u are beyond its end, %u",
					 config->size, config->offset, device->vc->ops->cfgsize);
	while (at < config->size) {
		uint32_t part = field_size(config->offset + at, config->size - at);

		virtio_config_write(device->vc, config->offset + at, part,
				    (uint32_t)bytes_get(config->data + at, part));
		at += part;
	}
	return 0;
}

/* ---- The channel ---- */

void vhost_user_channel_close(struct vhost_user_device *device)
{
	struct vhost_user_session *session = &device->session;

	event_remove(session->channel_source);
	session->channel_source = NULL;
	if (session->channel_fd >= 0)
		close(session->channel_fd);
	session->channel_fd = -1;
	session->channel_left = 0;
}

/* -EAGAIN: the rest has to wait. */
static int channel_send(struct vhost_user_session *session)
{
	const char *end = (const char *)(&session->channel_out + 1);

	while (session->channel_left) {
		ssize_t count = send(session->channel_fd, end - session->channel_left,
				     session->channel_left, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			return -errno;
		session->channel_left -= (size_t)count;
	}
	return 0;
}

/* Begin a message if one is due, and have the loop tell when there is room for the rest. */
static int channel_work(struct vhost_user_device *device)
{
	struct vhost_user_session *session = &device->session;
	int error = channel_send(session);

	if (!error && device->config_changed) {
		device->config_changed = false;
		session->channel_out = (struct vhost_user_header) {
			.request = VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
			.flags = VHOST_USER_VERSION,
		};
		if (vhost_user_has(device, VHOST_USER_PROTOCOL_F_REPLY_ACK))
			session->channel_out.flags |= VHOST_USER_FLAG_NEED_REPLY;
		session->channel_left = sizeof(session->channel_out);
		error = channel_send(session);
	}
	if (error && error != -EAGAIN)
		return error;
	return event_set_events(session->channel_source, EPOLLIN | (error ? EPOLLOUT : 0));
}

/* Replies say that it was heard; there is nothing to be done about it if it was not. */
static int channel_read(const struct vhost_user_session *session)
{
	char replies[CHANNEL_ROOM];
	ssize_t count = recv(session->channel_fd, replies, sizeof(replies), MSG_DONTWAIT);

	if (count < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	return count ? 0 : -ECONNRESET;
}

static void on_channel(void *arg, uint32_t events)
{
	struct vhost_user_device *device = arg;
	int error = events & EPOLLIN ? channel_read(&device->session) : 0;

	if (!error)
		error = channel_work(device);
	if (error || events & (EPOLLHUP | EPOLLERR))
		vhost_user_channel_close(device);
}

void vhost_user_channel_config(struct vhost_user_device *device)
{
	if (device->session.channel_fd < 0) {
		device->config_changed = false;
		return;
	}
	if (channel_work(device))
		vhost_user_channel_close(device);
}

int vhost_user_set_backend_req_fd(struct vhost_user_device *device,
				  struct vhost_user_message *message)
{
	struct vhost_user_session *session = &device->session;

	vhost_user_channel_close(device);
	session->channel_fd = vhost_user_take_fd(message);
	session->channel_source =
		virtio_add_event(device->vc, session->channel_fd, EPOLLIN, on_channel, device);
	if (session->channel_source)
		return 0;
	vhost_user_channel_close(device);
	return vhost_user_refuse(device, "its descriptor cannot be waited for: %s",
				 strerror(errno));
}
