/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A front end's session: which messages there are and what each may carry, the answers, features and
 * status; how it begins and what is left when it ends (QEMU, interop/vhost-user).
 */
#include "vhost_user_device.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#define ALWAYS (-1)

int vhost_user_refuse(struct vhost_user_device *device, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(device->session.rule, sizeof(device->session.rule), fmt, args);
	va_end(args);
	return -EINVAL;
}

/* ---- Features ---- */

/* Without the offer QEMU begins no migration; when it is refused in the middle of one, it ends the VM. */
static bool can_log(const struct vhost_user_device *device)
{
	return !device->vc->kernel_only;
}

/*
 * What makes no sense here: a ring is reset and the device suspended by messages of vhost-user, and a
 * kick carries no data. What only a legacy driver may have cannot be offered, since the front end
 * asks before there is a driver.
 */
static uint64_t features_offered(const struct vhost_user_device *device)
{
	uint64_t offered = virtio_offered_features(device->vc, false).bits[0];

	offered &= ~(BIT64(VIRTIO_F_RING_RESET) | BIT64(VIRTIO_F_SUSPEND) |
		     BIT64(VIRTIO_F_NOTIFICATION_DATA) | BIT64(VIRTIO_F_ACCESS_PLATFORM) |
		     BIT64(VIRTIO_F_ORDER_PLATFORM));
	offered |= BIT64(VHOST_USER_F_PROTOCOL_FEATURES);
	return offered | (can_log(device) ? BIT64(VHOST_USER_F_LOG_ALL) : 0);
}

static int get_features(struct vhost_user_device *device, struct vhost_user_message *message)
{
	vhost_user_answer_u64(device, features_offered(device));
	return 0;
}

bool vhost_user_ring_runs(const struct vhost_user_device *device)
{
	for (unsigned int i = 0; i < device->ring_count; i++)
		if (device->rings[i].vq->enabled)
			return true;
	return false;
}

/*
 * The log may come and go while rings run; where there is none yet, they wait for it. The kernel, which
 * does not log into ours, has none of them meanwhile: they are not given back when the device resumes.
 */
static int toggle_log(struct vhost_user_device *device, uint64_t features)
{
	bool log = features & BIT64(VHOST_USER_F_LOG_ALL);
	int error;

	if (log && !vhost_user_has(device, VHOST_USER_PROTOCOL_F_LOG_SHMFD))
		return vhost_user_refuse(device, "LOG_ALL without LOG_SHMFD: there can be no log");
	virtio_quiesce(device->vc);
	device->session.features ^= BIT64(VHOST_USER_F_LOG_ALL);
	device->vc->writes_logged = log;
	error = vhost_user_rings_log(device);
	virtio_resume(device->vc);
	if (!error && !device->session.log.bits)
		error = vhost_user_rings_update(device);
	return error;
}

/*
 * The driver's features are made final by the start of a ring or the driver's FEATURES_OK, since some
 * front ends accept some bits first and the others later.
 */
static int set_features(struct vhost_user_device *device, struct vhost_user_message *message)
{
	struct vhost_user_session *session = &device->session;
	uint64_t features = message->payload.u64;
	uint64_t unknown = features & ~features_offered(device);
	uint64_t changed = features ^ session->features;

	if (unknown)
		return vhost_user_refuse(device, "0x%llx was not offered",
					 (unsigned long long)unknown);
	if (changed & ~VHOST_USER_FEATURES && device->vc->features_final) {
		if (vhost_user_ring_runs(device))
			return vhost_user_refuse(
				device, "0x%llx changes while rings run",
				(unsigned long long)(changed & ~VHOST_USER_FEATURES));
		virtio_reset_dev(device->vc);
	}
	session->features ^= changed & ~BIT64(VHOST_USER_F_LOG_ALL);
	return changed & BIT64(VHOST_USER_F_LOG_ALL) ? toggle_log(device, features) : 0;
}

static int drivers_features(struct vhost_user_device *device)
{
	uint64_t features = device->session.features & ~VHOST_USER_FEATURES;
	bool legacy = !(features & BIT64(VIRTIO_F_VERSION_1));
	struct virtio_common *vc = device->vc;

	if (vc->features_final)
		return 0;
	if (legacy && !vc->opt_legacy)
		return vhost_user_refuse(device, "the driver is a legacy one, and legacy=off");
	virtio_set_driver_features(vc, 0, (uint32_t)features);
	virtio_set_driver_features(vc, 1, (uint32_t)(features >> 32));
	if (legacy)
		virtio_legacy_access(vc);
	return 0;
}

int vhost_user_features_settle(struct vhost_user_device *device)
{
	struct virtio_common *vc = device->vc;
	int error;

	if (vc->features_final)
		return 0;
	error = drivers_features(device);
	if (error)
		return error;
	virtio_set_status(vc, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
				      VIRTIO_CONFIG_S_FEATURES_OK);
	if (!vc->features_final)
		return vhost_user_refuse(device, "the device does not take the features");
	return 0;
}

#define PROTOCOL_FEATURES                                                                          \
	(BIT64(VHOST_USER_PROTOCOL_F_MQ) | BIT64(VHOST_USER_PROTOCOL_F_REPLY_ACK) |                \
	 BIT64(VHOST_USER_PROTOCOL_F_BACKEND_REQ) | BIT64(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD) |  \
	 BIT64(VHOST_USER_PROTOCOL_F_RESET_DEVICE) |                                               \
	 BIT64(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS) | BIT64(VHOST_USER_PROTOCOL_F_STATUS))

static uint64_t protocol_offered(const struct vhost_user_device *device)
{
	uint64_t config = device->vc->ops->cfgsize ? BIT64(VHOST_USER_PROTOCOL_F_CONFIG) : 0;
	uint64_t log = can_log(device) ? BIT64(VHOST_USER_PROTOCOL_F_LOG_SHMFD) : 0;

	return PROTOCOL_FEATURES | config | log;
}

static int get_protocol_features(struct vhost_user_device *device,
				 struct vhost_user_message *message)
{
	vhost_user_answer_u64(device, protocol_offered(device));
	return 0;
}

static int set_protocol_features(struct vhost_user_device *device,
				 struct vhost_user_message *message)
{
	uint64_t unknown = message->payload.u64 & ~protocol_offered(device);

	if (unknown)
		return vhost_user_refuse(device, "0x%llx was not offered",
					 (unsigned long long)unknown);
	if (vhost_user_ring_runs(device))
		return vhost_user_refuse(device, "rings run already");
	device->session.protocol = message->payload.u64;
	return 0;
}

/* ---- The device as a whole ---- */

static int get_queue_num(struct vhost_user_device *device, struct vhost_user_message *message)
{
	vhost_user_answer_u64(device, device->ring_count);
	return 0;
}

/* A connection has one owner, and leaving gives it up: nothing to do (RESET_OWNER: "no longer used"). */
static int owner(struct vhost_user_device *device, struct vhost_user_message *message)
{
	return 0;
}

/* A log that nobody signals needs no descriptor; it is closed with the message. */
static int set_log_fd(struct vhost_user_device *device, struct vhost_user_message *message)
{
	return 0;
}

void vhost_user_reset(struct vhost_user_device *device)
{
	struct virtio_common *vc = device->vc;

	virtio_quiesce(vc);
	virtio_reset_dev(vc);
	vhost_user_rings_forget(device, false);
	virtio_resume(vc);
}

static int reset_device(struct vhost_user_device *device, struct vhost_user_message *message)
{
	vhost_user_reset(device);
	return 0;
}

static int get_status(struct vhost_user_device *device, struct vhost_user_message *message)
{
	vhost_user_answer_u64(device, device->vc->status);
	return 0;
}

static int set_status(struct vhost_user_device *device, struct vhost_user_message *message)
{
	uint64_t status = message->payload.u64;
	int error = 0;

	if (status > UINT8_MAX)
		return vhost_user_refuse(device, "0x%llx is no status", (unsigned long long)status);
	if (!status) {
		vhost_user_reset(device);
		return 0;
	}
	if (status & VIRTIO_CONFIG_S_FEATURES_OK)
		error = drivers_features(device);
	if (!error)
		virtio_set_status(device->vc, (uint8_t)status);
	return error;
}

/* ---- Messages ---- */

/**
 * struct request - what a message may be.
 * @size_min, @size_max: bytes of payload; @size_max 0: as @size_min
 * @fds_min, @fds_max: descriptors
 * @needs: the protocol feature that it is part of
 * @answers: it has an answer of its own
 */
struct request {
	const char *name;
	vhost_user_handler *handle;
	uint16_t size_min, size_max;
	uint8_t fds_min, fds_max;
	int8_t needs;
	bool answers;
};

#define U64 sizeof(uint64_t)
#define STATE sizeof(struct vhost_user_vring_state)
#define MEMORY_MIN offsetof(struct vhost_user_memory, regions)
#define CONFIG_MIN offsetof(struct vhost_user_config, data)
/* Some count the padding behind the last member, others do not. */
#define INFLIGHT_MIN sizeof(struct vhost_user_inflight)
#define INFLIGHT_MAX (INFLIGHT_MIN + 4)

/* clang-format off */
static const struct request requests[VHOST_USER_REQUESTS] = {
	[VHOST_USER_GET_FEATURES] = { "GET_FEATURES", get_features, 0, 0, 0, 0, ALWAYS, true },
	[VHOST_USER_SET_FEATURES] = { "SET_FEATURES", set_features, U64, 0, 0, 0, ALWAYS, false },
	[VHOST_USER_SET_OWNER] = { "SET_OWNER", owner, 0, 0, 0, 0, ALWAYS, false },
	[VHOST_USER_RESET_OWNER] = { "RESET_OWNER", owner, 0, 0, 0, 0, ALWAYS, false },
	[VHOST_USER_SET_MEM_TABLE] = { "SET_MEM_TABLE", vhost_user_set_mem_table, MEMORY_MIN,
		sizeof(struct vhost_user_memory), 0, VHOST_USER_REGIONS_MAX, ALWAYS, false },
	[VHOST_USER_SET_LOG_BASE] = { "SET_LOG_BASE", vhost_user_set_log_base,
		sizeof(struct vhost_user_log), 0, 1, 1, VHOST_USER_PROTOCOL_F_LOG_SHMFD, true },
	[VHOST_USER_SET_LOG_FD] = { "SET_LOG_FD", set_log_fd, 0, U64, 0, 1, ALWAYS, false },
	[VHOST_USER_SET_VRING_NUM] = { "SET_VRING_NUM", vhost_user_set_vring_num, STATE, 0, 0, 0, ALWAYS, false },
	[VHOST_USER_SET_VRING_ADDR] = { "SET_VRING_ADDR", vhost_user_set_vring_addr,
		sizeof(struct vhost_user_vring_addr), 0, 0, 0, ALWAYS, false },
	[VHOST_USER_SET_VRING_BASE] = { "SET_VRING_BASE", vhost_user_set_vring_base, STATE, 0, 0, 0, ALWAYS, false },
	[VHOST_USER_GET_VRING_BASE] = { "GET_VRING_BASE", vhost_user_get_vring_base, STATE, 0, 0, 0,
		ALWAYS, true },
	[VHOST_USER_SET_VRING_KICK] = { "SET_VRING_KICK", vhost_user_set_vring_kick, U64, 0, 0, 1, ALWAYS, false },
	[VHOST_USER_SET_VRING_CALL] = { "SET_VRING_CALL", vhost_user_set_vring_call, U64, 0, 0, 1, ALWAYS, false },
	[VHOST_USER_SET_VRING_ERR] = { "SET_VRING_ERR", vhost_user_set_vring_err, U64, 0, 0, 1, ALWAYS, false },
	[VHOST_USER_GET_PROTOCOL_FEATURES] = { "GET_PROTOCOL_FEATURES", get_protocol_features, 0, 0, 0, 0,
		ALWAYS, true },
	[VHOST_USER_SET_PROTOCOL_FEATURES] = { "SET_PROTOCOL_FEATURES", set_protocol_features, U64, 0, 0, 0,
		ALWAYS, false },
	[VHOST_USER_GET_QUEUE_NUM] = { "GET_QUEUE_NUM", get_queue_num, 0, 0, 0, 0,
		VHOST_USER_PROTOCOL_F_MQ, true },
	[VHOST_USER_SET_VRING_ENABLE] = { "SET_VRING_ENABLE", vhost_user_set_vring_enable, STATE, 0, 0, 0,
		ALWAYS, false },
	[VHOST_USER_SET_BACKEND_REQ_FD] = { "SET_BACKEND_REQ_FD", vhost_user_set_backend_req_fd, 0, U64, 1, 1,
		VHOST_USER_PROTOCOL_F_BACKEND_REQ, false },
	[VHOST_USER_GET_CONFIG] = { "GET_CONFIG", vhost_user_get_config, CONFIG_MIN,
		sizeof(struct vhost_user_config), 0, 0,
		VHOST_USER_PROTOCOL_F_CONFIG, true },
	[VHOST_USER_SET_CONFIG] = { "SET_CONFIG", vhost_user_set_config, CONFIG_MIN,
		sizeof(struct vhost_user_config), 0, 0, VHOST_USER_PROTOCOL_F_CONFIG, false },
	[VHOST_USER_GET_INFLIGHT_FD] = { "GET_INFLIGHT_FD", vhost_user_get_inflight_fd, INFLIGHT_MIN,
		INFLIGHT_MAX, 0, 0, VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD, true },
	[VHOST_USER_SET_INFLIGHT_FD] = { "SET_INFLIGHT_FD", vhost_user_set_inflight_fd, INFLIGHT_MIN,
		INFLIGHT_MAX, 1, 1, VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD, false },
	[VHOST_USER_RESET_DEVICE] = { "RESET_DEVICE", reset_device, 0, 0, 0, 0,
		VHOST_USER_PROTOCOL_F_RESET_DEVICE, false },
	[VHOST_USER_GET_MAX_MEM_SLOTS] = { "GET_MAX_MEM_SLOTS", vhost_user_get_max_mem_slots, 0, 0, 0, 0,
		VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS, true },
	[VHOST_USER_ADD_MEM_REG] = { "ADD_MEM_REG", vhost_user_add_mem_reg,
		sizeof(struct vhost_user_single_region), 0, 1, 1, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS, false },
	[VHOST_USER_REM_MEM_REG] = { "REM_MEM_REG", vhost_user_rem_mem_reg,
		sizeof(struct vhost_user_single_region), 0, 0, 1, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS, false },
	[VHOST_USER_SET_STATUS] = { "SET_STATUS", set_status, U64, 0, 0, 0, VHOST_USER_PROTOCOL_F_STATUS, false },
	[VHOST_USER_GET_STATUS] = { "GET_STATUS", get_status, 0, 0, 0, 0, VHOST_USER_PROTOCOL_F_STATUS, true },
};
/* clang-format on */

static const struct request *request_find(uint32_t number)
{
	static const struct request unknown = { .name = "unknown request" };

	return number < VHOST_USER_REQUESTS && requests[number].handle ? &requests[number]
								       : &unknown;
}

static int message_check(struct vhost_user_device *device, const struct request *request,
			 const struct vhost_user_message *message)
{
	uint32_t size = message->header.size;
	uint32_t size_max = request->size_max ? request->size_max : request->size_min;

	if (!request->handle)
		return vhost_user_refuse(device, "number %u is not among what was offered",
					 message->header.request);
	if (request->needs != ALWAYS && !vhost_user_has(device, (unsigned int)request->needs))
		return vhost_user_refuse(device, "protocol feature %d was not accepted",
					 request->needs);
	if (size < request->size_min || size > size_max)
		return vhost_user_refuse(device, "payload of %u bytes", size);
	if (message->too_many_fds || message->fd_count < request->fds_min ||
	    message->fd_count > request->fds_max)
		return vhost_user_refuse(device, "%u%s file descriptors", message->fd_count,
					 message->too_many_fds ? " and more" : "");
	return 0;
}

/* Asked when it was handled: SET_PROTOCOL_FEATURES may ask for the reply that it introduces. */
static bool reply_wanted(const struct vhost_user_device *device, const struct request *request)
{
	return device->session.in.header.flags & VHOST_USER_FLAG_NEED_REPLY && !request->answers &&
	       vhost_user_has(device, VHOST_USER_PROTOCOL_F_REPLY_ACK);
}

static void log_refused(const struct vhost_user_device *device, const struct request *request,
			int error)
{
	const char *rule = device->session.rule;

	log_guest_of(device->log, device, "%s: front end: %s refused: %s", device->vc->name,
		     request->name, rule[0] ? rule : strerror(-error));
}

/* 0: go on; -errno: hang up. */
static int message_handle(struct vhost_user_device *device)
{
	struct vhost_user_message *message = &device->session.in;
	const struct request *request = request_find(message->header.request);
	int error = message_check(device, request, message);

	if (!error)
		error = request->handle(device, message);
	if (error)
		log_refused(device, request, error);
	if (reply_wanted(device, request)) {
		vhost_user_answer_u64(device, error != 0);
		error = 0;
	}
	vhost_user_message_done(message);
	return error ? error : vhost_user_reply_send(device);
}

/* ---- Its life ---- */

static void session_hang_up(struct vhost_user_device *device)
{
	struct vhost_user_device_config *config = &device->config;

	vhost_user_session_end(device);
	if (device->listen_source)
		event_set_events(device->listen_source, EPOLLIN);
	else if (config->ended)
		config->ended(config->arg);
}

/* One message at a time, so that others on this loop have their turn. */
static int session_serve(struct vhost_user_device *device)
{
	struct vhost_user_session *session = &device->session;
	bool waited = session->out.pending;
	int result = vhost_user_reply_send(device);

	/* Who does not read our answers is not listened to. */
	if (!result && !session->out.pending) {
		session->rule[0] = '\0';
		result = vhost_user_message_receive(device);
		if (result < 0 && session->rule[0])
			log_refused(device, request_find(session->in.header.request), result);
		if (result > 0)
			result = message_handle(device);
	}
	if (result < 0 || waited == session->out.pending)
		return result;
	return event_set_events(session->source, session->out.pending ? EPOLLOUT : EPOLLIN);
}

static void on_session(void *arg, uint32_t events)
{
	struct vhost_user_device *device = arg;
	int error;

	virtio_lock_queues(device->vc);
	error = session_serve(device);
	if (error) {
		log_debug(device->log, "%s: front end: it left: %s", device->vc->name,
			  strerror(-error));
		session_hang_up(device);
	}
	virtio_unlock_queues(device->vc);
}

int vhost_user_session_begin(struct vhost_user_device *device, int fd)
{
	struct vhost_user_session *session = &device->session;
	int error;

	session->fd = fd;
	session->source = virtio_add_event(device->vc, fd, EPOLLIN, on_session, device);
	if (session->source) {
		log_debug(device->log, "%s: front end: it came", device->vc->name);
		return 0;
	}
	error = -errno;
	vhost_user_session_end(device);
	return error;
}

/*
 * What reached the back end resource is waited for and recorded as used while the rings are still
 * there, so that whoever comes next does not do it again.
 */
void vhost_user_session_end(struct vhost_user_device *device)
{
	struct vhost_user_session *session = &device->session;

	if (session->fd < 0)
		return;
	virtio_quiesce(device->vc);
	virtio_reset_dev(device->vc);
	vhost_user_rings_forget(device, true);
	virtio_resume(device->vc);
	vhost_user_channel_close(device);
	vhost_user_shared_forget(device);
	vhost_user_memory_forget(device);
	vhost_user_message_done(&session->in);
	vhost_user_reply_drop(&session->out);
	event_remove(session->source);
	close(session->fd);
	session->source = NULL;
	session->fd = -1;
	session->features = session->protocol = 0;
	device->vc->writes_logged = false;
}
