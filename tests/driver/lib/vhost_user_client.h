/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_user_client.h: the front end of vhost-user: messages of any kind, well-formed ones and
 * others, memory, rings, and a back end process to talk to. Written from QEMU's
 * interop/vhost-user document; shares the numbers of vhost_user.h with the device's side, and no code.
 *
 * front_driver_open() makes a struct virtio_driver out of it, so that what is written for drivers over
 * PCI runs over vhost-user too. Functions that return int return 0 or -errno: -ETIMEDOUT: no answer,
 * -ECONNRESET: the back end hung up, -EREMOTEIO: it said no (REPLY_ACK), -EPROTO: not an answer.
 */
#ifndef TENON_TESTS_VHOST_USER_CLIENT_H
#define TENON_TESTS_VHOST_USER_CLIENT_H

#include <sys/types.h>

#include "vhost_user.h"
#include "virtio_driver.h"

#define FRONT_QUEUES_MAX DRIVER_QUEUES_MAX
#define FRONT_FDS_MAX 253 /* SCM_MAX_FD */
#define FRONT_TIMEOUT_MS 5000

/* ---- Messages ---- */

/* struct front_message - one, as sent or received. */
struct front_message {
	struct vhost_user_header header;
	union vhost_user_payload payload;
	int fds[FRONT_FDS_MAX];
	unsigned int fd_count;
};

/* front_connect() - a blocking socket to @path, or -errno. */
int front_connect(const char *path);

/*
 * front_send_raw() - any bytes with any fds, in one sendmsg(). front_receive(): one message; its fds are
 * the caller's; payload beyond the union is -EMSGSIZE.
 */
int front_send_raw(int socket, const void *bytes, size_t size, const int *fds, unsigned int count);
int front_receive(int socket, struct front_message *message, int timeout_ms);
void front_close_fds(struct front_message *message);

/* 0: something can be read, or the other end is closed; -ETIMEDOUT. */
int front_wait_readable(int socket, int timeout_ms);

/* ---- A session ---- */

/*
 * struct front_ring - a ring's eventfds, and how it stands. They live as long as the front end.
 * @base: what SET_VRING_BASE says next
 */
struct front_ring {
	int kick_fd, call_fd, err_fd;
	uint32_t base;
	bool set_up, enabled;
};

/*
 * struct front_end
 * @socket: -1: not connected
 * @protocol_wanted: protocol features to accept (before front_begin()); all that are offered are
 *                   usually wanted: FRONT_PROTOCOL_ALL
 * @protocol_offered, @protocol: offered, accepted
 * @offered, @accepted: features, the protocol's own included
 * @loop: of a back end in this thread, to be run while we wait for it; NULL: it runs by itself
 * @no_call: no call eventfd is given (VHOST_USER_VRING_NO_FD): the driver looks at its rings. Back ends
 *           that take that badly can be told not to signal by driver_disable_cb() alone
 * @requests: sent on this connection; @hang_up_at: hang up in place of sending that one (0: never)
 * @queue_size: entries of rings; @queue_count: asked by GET_QUEUE_NUM, else left as it is
 * @regions, @region_fds: memory as announced; @region_count
 * @split_memory: announce the machine's memory in pieces of so many bytes; 0: as it is
 * @inflight: of GET_INFLIGHT_FD, @inflight_fd -1: none
 * @channel: our end of the back end's own channel, -1: none; @config_changes: that it told of
 * @log_dirty: LOG_ALL is among the features, and used rings are logged
 */
struct front_end {
	int socket;
	uint64_t protocol_wanted, protocol_offered, protocol;
	uint64_t offered, accepted;
	bool has_protocol;
	bool memory_shared; /* on this connection */
	bool no_call;
	bool log_dirty;
	int timeout_ms;
	unsigned int requests, hang_up_at;
	uint16_t queue_size;
	unsigned int queue_count;
	uint64_t slots_max;
	uint8_t status;
	struct front_ring rings[FRONT_QUEUES_MAX];

	struct machine *machine;
	struct event_loop *loop;
	uint64_t split_memory;
	struct vhost_user_region *regions;
	unsigned int region_count;

	struct vhost_user_inflight inflight;
	int inflight_fd;
	void *inflight_memory;

	int channel;
	uint32_t config_changes;
};

#define FRONT_PROTOCOL_ALL                                                                         \
	(BIT64(VHOST_USER_PROTOCOL_F_MQ) | BIT64(VHOST_USER_PROTOCOL_F_LOG_SHMFD) |                \
	 BIT64(VHOST_USER_PROTOCOL_F_REPLY_ACK) | BIT64(VHOST_USER_PROTOCOL_F_BACKEND_REQ) |       \
	 BIT64(VHOST_USER_PROTOCOL_F_CONFIG) | BIT64(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD) |       \
	 BIT64(VHOST_USER_PROTOCOL_F_RESET_DEVICE) |                                               \
	 BIT64(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS) | BIT64(VHOST_USER_PROTOCOL_F_STATUS))

/*
 * front_create() - not connected; @machine: whose memory it shares. front_destroy(): harmless on NULL;
 * the machine stays.
 */
struct front_end *front_create(struct machine *machine);
void front_destroy(struct front_end *front);

/* Take over @socket; hang up. */
void front_attach(struct front_end *front, int socket);
void front_hang_up(struct front_end *front);

static inline bool front_has(const struct front_end *front, unsigned int protocol_feature)
{
	return front->protocol & BIT64(protocol_feature);
}

/*
 * front_send() - a request with @size bytes of payload. With REPLY_ACK, requests without an answer of
 * their own ask for one, and it is waited for (@acknowledge). front_call(): one that has an answer,
 * which must be the same request's.
 */
int front_send(struct front_end *front, uint32_t request, const void *payload, uint32_t size,
	       const int *fds, unsigned int count, bool acknowledge);
int front_call(struct front_end *front, uint32_t request, const void *payload, uint32_t size,
	       const int *fds, unsigned int count, struct front_message *reply);

/* Requests by the shape of their payload. front_get_u64() has an answer. */
int front_set_none(struct front_end *front, uint32_t request);
int front_set_u64(struct front_end *front, uint32_t request, uint64_t value);
int front_get_u64(struct front_end *front, uint32_t request, uint64_t *value);
int front_set_state(struct front_end *front, uint32_t request, uint32_t index, uint32_t num);
int front_set_fd(struct front_end *front, uint32_t request, uint64_t value, int fd); /* -1: none */

/* GET_FEATURES to SET_OWNER, in the order in which QEMU does it; the channel if wanted. */
int front_begin(struct front_end *front);

/* Memory: the whole table (ADD_MEM_REG each, with memory slots), or one region of it. */
int front_share_memory(struct front_end *front);
int front_region(struct front_end *front, uint32_t request, const struct vhost_user_region *region);

/* The table that front_share_memory() sends, made from the machine's memory. */
void front_make_regions(struct front_end *front);

int front_set_features(struct front_end *front, uint64_t features);

/* Configuration space. @size up to 256. */
int front_get_config(struct front_end *front, uint32_t offset, void *data, uint32_t size);
int front_set_config(struct front_end *front, uint32_t offset, const void *data, uint32_t size,
		     uint32_t flags);

/*
 * Rings. front_ring_start(): NUM, BASE, ADDR, CALL, KICK; front_ring_stop(): GET_VRING_BASE, whose answer
 * is kept in @base and says where to go on.
 */
int front_ring_start(struct front_end *front, const struct driver_queue *queue);
int front_ring_addresses(struct front_end *front,
			 const struct driver_queue *queue); /* ADDR alone */
int front_ring_stop(struct front_end *front, unsigned int index);
int front_ring_enable(struct front_end *front, unsigned int index, bool on);
void front_kick(struct front_end *front, unsigned int index);

/* Was the ring's call eventfd signalled since the last question? */
bool front_called(struct front_end *front, unsigned int index);

/* Inflight memory: ask for it and map it; hand it (again) to the back end. */
int front_inflight_get(struct front_end *front, uint16_t queues, uint16_t size);
int front_inflight_set(struct front_end *front);

/* The dirty log: @size bytes of @fd. */
int front_set_log(struct front_end *front, int fd, uint64_t size, uint64_t offset);

/* Read what the back end sent on its channel, answer what asks for it. The number of messages. */
int front_channel_poll(struct front_end *front);

/* ---- As a driver ---- */

/*
 * front_driver_open() - after front_begin(): the driver of the device, reset, with ACKNOWLEDGE and
 * DRIVER set. Memory is shared when rings are started. driver_negotiate(), driver_start() and all the
 * rest are as over PCI; driver_close() leaves the front end as it is.
 */
struct virtio_driver *front_driver_open(struct front_end *front,
					const struct driver_params *params);

static inline struct front_end *front_of(const struct virtio_driver *driver)
{
	return driver->transport;
}

/*
 * front_driver_resume() - on a new connection (front_attach()), go on with the rings as they are: what
 * QEMU does when a back end comes back. Split rings start from the used index, packed ones from what
 * the last SET_VRING_BASE said, unless the inflight memory, which is handed over first, says other.
 */
int front_driver_resume(struct virtio_driver *driver);

/* ---- A back end process ---- */

/*
 * struct back_end - `tenon serve` as a child, with a directory of its own for sockets and files.
 * @pid: 0: none
 */
struct back_end {
	pid_t pid;
	char directory[64];
	char socket[96]; /* DIRECTORY/socket */
	char log[96]; /* what it printed */
};

/* Where tenon is: $TENON, or next to this test program's build directory. */
const char *back_end_program(void);

/*
 * back_end_create() - the directory. back_end_start(): run tenon with @arguments (NULL at the end) until
 * its first socket can be connected to; -ECONNREFUSED: it ended. back_end_kill(): SIGKILL and wait.
 * back_end_stop(): SIGTERM and wait; returns its wait status. _destroy(): kill, remove all files.
 */
void back_end_create(struct back_end *back_end);
int back_end_start(struct back_end *back_end, const char *const *arguments);
void back_end_kill(struct back_end *back_end);
int back_end_stop(struct back_end *back_end);
void back_end_destroy(struct back_end *back_end);

/* The usual: one device, `serve -s SPEC --socket SOCKET`. Fails the test if it does not start. */
void back_end_serve(struct back_end *back_end, const char *spec);

/* Is it alive? Open files, resident KiB, threads, of its /proc. */
bool back_end_alive(struct back_end *back_end);
unsigned int back_end_fds(const struct back_end *back_end);
unsigned long back_end_memory_kib(const struct back_end *back_end);

/* Lines of its log that contain @text; print it all. */
unsigned int back_end_logged(const struct back_end *back_end, const char *text);
void back_end_log_print(const struct back_end *back_end);

#endif
