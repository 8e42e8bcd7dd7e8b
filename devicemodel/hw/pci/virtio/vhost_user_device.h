/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The back end of vhost-user: what its files share.
 *
 * A device has one session at a time: what a front end said between its connection and its leaving.
 * Sockets, kicks and calls are served by the device's loops; everything here is called with the
 * device's lock held and, but for kicks and calls, those of all its queues.
 */
#ifndef TENON_VHOST_USER_DEVICE_H
#define TENON_VHOST_USER_DEVICE_H

#include <linux/aio_abi.h>

#include "dirty_log.h"
#include "guest_memory.h"
#include "unix_socket.h"
#include "vhost_user.h"
#include "vhost_user_backend.h"
#include "virtio_transport.h"

#define VHOST_USER_RULE_SIZE 128

/* The bits of the features that are not virtio's. */
#define VHOST_USER_FEATURES (BIT64(VHOST_USER_F_LOG_ALL) | BIT64(VHOST_USER_F_PROTOCOL_FEATURES))

/**
 * struct vhost_user_signal - somebody else's descriptor that we signal, never waiting for him.
 * @fd: -1: none
 * @is_eventfd: or at least no file, pipe or device
 * @is_socket: User-Mode Linux gives sockets where others give eventfds
 */
struct vhost_user_signal {
	int fd;
	bool is_eventfd;
	bool is_socket;
};

/**
 * struct vhost_user_ring - a ring as the front end describes it. The queue (vq) is enabled while it is
 * started and enabled, and need not wait for a log.
 * @addr: as SET_VRING_ADDR gave it, if @has_addr
 * @base: as SET_VRING_BASE and GET_VRING_BASE have it; up to date while the queue is not enabled
 * @stopped_at: base when the queue was stopped
 * @started: from SET_VRING_KICK to GET_VRING_BASE
 * @polled: it was started without a kick descriptor
 * @enabled: as SET_VRING_ENABLE said, if @enable_said
 * @later_fd: our own eventfd for kick_later(), for the life of the device
 * @relay_fd: our own for calls of whoever runs the queue, where the front end's is no eventfd
 */
struct vhost_user_ring {
	struct vqueue_info *vq;
	struct vhost_user_vring_addr addr;
	uint32_t base, stopped_at;
	uint16_t size;
	bool has_addr, started, polled;
	bool enabled, enable_said;
	int kick_fd;
	struct event_source *kick_source;
	struct event_source *poll_source;
	struct vhost_user_signal call, err;
	int later_fd;
	struct event_source *later_source;
	int relay_fd;
	struct event_source *relay_source;
};

/**
 * struct vhost_user_message - one message while it comes in. @size_got counts header and payload.
 */
struct vhost_user_message {
	struct vhost_user_header header;
	union vhost_user_payload payload;
	size_t size_got;
	int fds[VHOST_USER_FDS_MAX];
	unsigned int fd_count;
	bool too_many_fds;
};

/**
 * struct vhost_user_reply - one answer on its way out. @fd goes with its first byte; -1: none, and closed
 * when it is sent
 */
struct vhost_user_reply {
	struct vhost_user_header header;
	union vhost_user_payload payload;
	size_t size_sent;
	bool pending;
	int fd;
};

/**
 * struct vhost_user_session - @fd: -1: no front end is there
 * @features: as the front end accepted them, the protocol's bits included
 * @protocol: protocol features accepted
 * @channel_fd: the back end's own channel, -1: none; @channel_out: bytes of a message that wait for room
 * @inflight_count, @inflight_region: queues that @inflight has room for, bytes for each
 * @rule: what the message that is refused breaks
 */
struct vhost_user_session {
	int fd;
	struct event_source *source;
	struct vhost_user_message in;
	struct vhost_user_reply out;
	uint64_t features;
	uint64_t protocol;

	int channel_fd;
	struct event_source *channel_source;
	struct vhost_user_header channel_out;
	size_t channel_left;

	struct guest_memory_map log_map;
	struct dirty_log log;

	struct guest_memory_map inflight;
	uint16_t inflight_count;
	uint64_t inflight_region;

	char rule[VHOST_USER_RULE_SIZE];
};

/**
 * struct vhost_user_device - a virtio device and the socket that it is served on.
 * @next: the memory table that is to replace @memory
 * @listener: a socket of ours; @listen_fd: that or an inherited one, -1: only one connected front end
 * @events_fd: an eventfd: what @config_changed and @broke say is to be done by the device's loop
 * @signals: vhost_user_signal.c's, 0: none
 */
struct vhost_user_device {
	struct virtio_common *vc;
	struct vhost_user_device_config config;
	struct logger *log;
	pthread_mutex_t lock;
	struct guest_memory memory, next;
	struct unix_socket listener;
	int listen_fd;
	struct event_source *listen_source;
	int events_fd;
	struct event_source *events_source;
	bool config_changed, broke;
	aio_context_t signals;
	struct vhost_user_ring *rings;
	unsigned int ring_count;
	struct vhost_user_session session;
};

static inline bool vhost_user_has(const struct vhost_user_device *device, unsigned int protocol_bit)
{
	return device->session.protocol & BIT64(protocol_bit);
}

/** vhost_user_awaits_log() - what rings write is to be logged, and there is nowhere yet: QEMU says where when all are set up. */
static inline bool vhost_user_awaits_log(const struct vhost_user_device *device)
{
	return device->session.features & BIT64(VHOST_USER_F_LOG_ALL) && !device->session.log.bits;
}

/** vhost_user_refuse() - say which rule the message breaks; -EINVAL, for the handler to return. */
int vhost_user_refuse(struct vhost_user_device *device, const char *fmt, ...) __format_printf(2, 3);

/** vhost_user_answer() - the payload of the reply, @size bytes. */
void vhost_user_answer(struct vhost_user_device *device, const void *payload, size_t size);

/** vhost_user_answer_u64() - likewise. */
void vhost_user_answer_u64(struct vhost_user_device *device, uint64_t value);

/** vhost_user_take_fd() - the message's only descriptor, now the caller's. */
int vhost_user_take_fd(struct vhost_user_message *message);

/* vhost_user_message.c: 1: there is one; 0: not all of it yet; -errno: hang up, the rule is set. */
int vhost_user_message_receive(struct vhost_user_device *device) __must_check;

/** vhost_user_message_done() - forget it, with its descriptors. */
void vhost_user_message_done(struct vhost_user_message *message);

/** vhost_user_reply_send() - as much of it as there is room for. 0 or -errno: hang up. */
int vhost_user_reply_send(struct vhost_user_device *device) __must_check;

/** vhost_user_reply_drop() - forget it. */
void vhost_user_reply_drop(struct vhost_user_reply *reply);

/* vhost_user_signal.c */
void vhost_user_signals_create(struct vhost_user_device *device);
void vhost_user_signals_destroy(struct vhost_user_device *device);

/** vhost_user_signal_make() - of what is neither eventfd nor socket nothing comes. */
struct vhost_user_signal vhost_user_signal_make(int fd);
void vhost_user_signal_send(const struct vhost_user_device *device,
			    const struct vhost_user_signal *signal);
void vhost_user_signal_close(struct vhost_user_signal *signal);

/* vhost_user_session.c */

/** vhost_user_session_begin() - serve the front end at @fd, which is the session's from now on, also on failure. */
int vhost_user_session_begin(struct vhost_user_device *device, int fd) __must_check;

/** vhost_user_session_end() - nothing in flight, device reset, all that it gave us is gone. Harmless without one. */
void vhost_user_session_end(struct vhost_user_device *device);

/** vhost_user_reset() - the device and its rings as new; what is in flight is waited for first. */
void vhost_user_reset(struct vhost_user_device *device);

/** vhost_user_features_settle() - make the features that the front end accepted final. 0 or -errno with the rule. */
int vhost_user_features_settle(struct vhost_user_device *device) __must_check;

/** vhost_user_ring_runs() - is any queue enabled? */
bool vhost_user_ring_runs(const struct vhost_user_device *device);

/* vhost_user_ring.c */
int vhost_user_rings_create(struct vhost_user_device *device) __must_check;
void vhost_user_rings_destroy(struct vhost_user_device *device);

/** vhost_user_rings_forget() - the session ends or the device is reset; @calls: drop call and err descriptors too. */
void vhost_user_rings_forget(struct vhost_user_device *device, bool calls);

/** vhost_user_rings_move() - memory or addresses changed: map enabled queues anew; the device is quiesced. */
void vhost_user_rings_move(struct vhost_user_device *device);

/** vhost_user_rings_log() - dirty logging was turned on or off, or has a new log; quiesced. 0 or -errno. */
int vhost_user_rings_log(struct vhost_user_device *device) __must_check;

/** vhost_user_rings_update() - they await a log now, or no more: they wait, or start. 0 or -errno with the rule. */
int vhost_user_rings_update(struct vhost_user_device *device) __must_check;

/* vhost_user_kick.c */

/** vhost_user_kick_create() - what @ring has for the life of the device. 0 or -errno. */
int vhost_user_kick_create(struct vhost_user_ring *ring) __must_check;
void vhost_user_kick_destroy(struct vhost_user_ring *ring);

/** vhost_user_kick_open() - @fd, the ring's from now on, tells of new buffers. 0 or -errno with the rule. */
int vhost_user_kick_open(struct vhost_user_device *device, struct vhost_user_ring *ring,
			 int fd) __must_check;

/** vhost_user_kick_poll() - nobody tells: look. 0 or -errno with the rule. */
int vhost_user_kick_poll(struct vhost_user_device *device,
			 struct vhost_user_ring *ring) __must_check;

/** vhost_user_kick_close() - neither; harmless without. */
void vhost_user_kick_close(struct vhost_user_ring *ring);

/* Transport functions. */
void vhost_user_notify_queue(struct virtio_common *vc, struct vqueue_info *vq);
void vhost_user_kick_later(struct virtio_common *vc, struct vqueue_info *vq);
int vhost_user_offload(struct virtio_common *vc, struct vqueue_info *vq, bool on);

/* vhost_user_config.c */

/** vhost_user_channel_close() - the back end's own channel; harmless without one. */
void vhost_user_channel_close(struct vhost_user_device *device);

/** vhost_user_channel_config() - tell the front end that the configuration changed. */
void vhost_user_channel_config(struct vhost_user_device *device);

/* vhost_user_shared.c: what the front end shares besides guest memory: inflight regions and the dirty log. */

/** vhost_user_inflight() - where the region of queue @index is, @size bytes; NULL: nowhere. */
void *vhost_user_inflight(struct vhost_user_device *device, unsigned int index, uint64_t *size);

/** vhost_user_shared_forget() - the session ends. */
void vhost_user_shared_forget(struct vhost_user_device *device);

/** vhost_user_seal() - as far as @fd lets us: it cannot shrink any more, so what we map of it stays. */
void vhost_user_seal(int fd);

/* vhost_user_memory.c */
void vhost_user_memory_forget(struct vhost_user_device *device);

/*
 * Handlers of messages, whose size and number of descriptors were checked. 0, or -errno with the rule.
 * Those whose message has an answer of its own have given it to vhost_user_answer().
 */
typedef int vhost_user_handler(struct vhost_user_device *device,
			       struct vhost_user_message *message);

vhost_user_handler vhost_user_set_mem_table, vhost_user_get_max_mem_slots, vhost_user_add_mem_reg,
	vhost_user_rem_mem_reg;
vhost_user_handler vhost_user_set_vring_num, vhost_user_set_vring_addr, vhost_user_set_vring_base,
	vhost_user_get_vring_base, vhost_user_set_vring_kick, vhost_user_set_vring_call,
	vhost_user_set_vring_err, vhost_user_set_vring_enable;
vhost_user_handler vhost_user_get_config, vhost_user_set_config, vhost_user_set_backend_req_fd;
vhost_user_handler vhost_user_get_inflight_fd, vhost_user_set_inflight_fd, vhost_user_set_log_base;

#endif
