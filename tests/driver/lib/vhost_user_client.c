/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The front end of vhost-user: the session; what its messages are made of is in vhost_user_wire.c.
 */
#include "vhost_user_client.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- Life of a front end ---- */

struct front_end *front_create(struct machine *machine)
{
	struct front_end *front = calloc(1, sizeof(*front));

	assert_non_null(front);
	front->machine = machine;
	front->socket = front->channel = front->inflight_fd = -1;
	front->protocol_wanted = FRONT_PROTOCOL_ALL;
	front->timeout_ms = FRONT_TIMEOUT_MS;
	front->queue_size = 128;
	front->queue_count = 1;
	for (unsigned int i = 0; i < FRONT_QUEUES_MAX; i++)
		front->rings[i].kick_fd = front->rings[i].call_fd = front->rings[i].err_fd = -1;
	return front;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void inflight_forget(struct front_end *front)
{
	if (front->inflight_memory)
		munmap(front->inflight_memory, front->inflight.mmap_size);
	front->inflight_memory = NULL;
	close_fd(&front->inflight_fd);
}

void front_destroy(struct front_end *front)
{
	if (!front)
		return;
	front_hang_up(front);
	inflight_forget(front);
	for (unsigned int i = 0; i < FRONT_QUEUES_MAX; i++) {
		close_fd(&front->rings[i].kick_fd);
		close_fd(&front->rings[i].call_fd);
		close_fd(&front->rings[i].err_fd);
	}
	free(front->regions);
	free(front);
}

void front_attach(struct front_end *front, int socket)
{
	front_hang_up(front);
	front->requests = 0;
	front->socket = socket;
}

void front_hang_up(struct front_end *front)
{
	close_fd(&front->socket);
	close_fd(&front->channel);
	front->memory_shared = false;
	for (unsigned int i = 0; i < FRONT_QUEUES_MAX; i++)
		front->rings[i].set_up = front->rings[i].enabled = false;
}

/* ---- Requests ---- */

static void run_back_end(struct front_end *front)
{
	for (int i = 0;
	     i < front->timeout_ms && front_wait_readable(front->socket, 0) == -ETIMEDOUT; i++)
		event_loop_poll(front->loop, 1);
}

static int receive_reply(struct front_end *front, uint32_t request, struct front_message *reply)
{
	int error;

	if (front->loop)
		run_back_end(front);
	error = front_receive(front->socket, reply, front->timeout_ms);

	if (error)
		return error;
	if (reply->header.request == request &&
	    reply->header.flags == (VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY))
		return 0;
	front_close_fds(reply);
	return -EPROTO;
}

static int send_request(struct front_end *front, uint32_t request, uint32_t flags,
			const void *payload, uint32_t size, const int *fds, unsigned int count)
{
	struct {
		struct vhost_user_header header;
		union vhost_user_payload payload;
	} __attribute__((packed))
	message = { .header = { request, VHOST_USER_VERSION | flags, size } };

	if (size > sizeof(message.payload))
		return -EMSGSIZE;
	if (++front->requests == front->hang_up_at)
		front_hang_up(front);
	if (size)
		memcpy((char *)&message + sizeof(message.header), payload, size);
	return front_send_raw(front->socket, &message, sizeof(message.header) + size, fds, count);
}

int front_send(struct front_end *front, uint32_t request, const void *payload, uint32_t size,
	       const int *fds, unsigned int count, bool acknowledge)
{
	bool ask = acknowledge && front_has(front, VHOST_USER_PROTOCOL_F_REPLY_ACK);
	struct front_message reply;
	int error = send_request(front, request, ask ? VHOST_USER_FLAG_NEED_REPLY : 0, payload,
				 size, fds, count);

	if (error || !ask)
		return error;
	error = receive_reply(front, request, &reply);
	if (error)
		return error;
	front_close_fds(&reply);
	if (reply.header.size != sizeof(uint64_t))
		return -EPROTO;
	return reply.payload.u64 ? -EREMOTEIO : 0;
}

int front_call(struct front_end *front, uint32_t request, const void *payload, uint32_t size,
	       const int *fds, unsigned int count, struct front_message *reply)
{
	int error = send_request(front, request, 0, payload, size, fds, count);

	return error ? error : receive_reply(front, request, reply);
}

int front_set_none(struct front_end *front, uint32_t request)
{
	return front_send(front, request, NULL, 0, NULL, 0, true);
}

int front_set_u64(struct front_end *front, uint32_t request, uint64_t value)
{
	return front_send(front, request, &value, sizeof(value), NULL, 0, true);
}

int front_get_u64(struct front_end *front, uint32_t request, uint64_t *value)
{
	struct front_message reply;
	int error = front_call(front, request, NULL, 0, NULL, 0, &reply);

	if (error)
		return error;
	front_close_fds(&reply);
	*value = reply.payload.u64;
	return reply.header.size == sizeof(*value) ? 0 : -EPROTO;
}

int front_set_state(struct front_end *front, uint32_t request, uint32_t index, uint32_t num)
{
	const struct vhost_user_vring_state state = { index, num };

	return front_send(front, request, &state, sizeof(state), NULL, 0, true);
}

int front_set_fd(struct front_end *front, uint32_t request, uint64_t value, int fd)
{
	return front_send(front, request, &value, sizeof(value), &fd, fd >= 0, true);
}

/* ---- The beginning of a session ---- */

static int open_channel(struct front_end *front)
{
	int ends[2], error;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	error = front_send(front, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, &ends[1], 1, true);
	close(ends[1]);
	front->channel = ends[0];
	return error;
}

static int begin_protocol(struct front_end *front)
{
	uint64_t count;
	int error =
		front_get_u64(front, VHOST_USER_GET_PROTOCOL_FEATURES, &front->protocol_offered);

	if (error)
		return error;
	/* Before that, no acknowledgement can be asked for. */
	count = front->protocol_offered & front->protocol_wanted;
	error = front_set_u64(front, VHOST_USER_SET_PROTOCOL_FEATURES, count);
	front->protocol = count;
	if (!error && front_has(front, VHOST_USER_PROTOCOL_F_MQ)) {
		error = front_get_u64(front, VHOST_USER_GET_QUEUE_NUM, &count);
		front->queue_count = (unsigned int)MIN(count, FRONT_QUEUES_MAX);
	}
	if (!error && front_has(front, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS))
		error = front_get_u64(front, VHOST_USER_GET_MAX_MEM_SLOTS, &front->slots_max);
	if (!error && front_has(front, VHOST_USER_PROTOCOL_F_BACKEND_REQ))
		error = open_channel(front);
	return error;
}

int front_begin(struct front_end *front)
{
	int error;

	front->protocol = 0;
	front->status = 0;
	error = front_get_u64(front, VHOST_USER_GET_FEATURES, &front->offered);
	front->has_protocol =
		front->offered & BIT64(VHOST_USER_F_PROTOCOL_FEATURES) && front->protocol_wanted;
	if (!error && front->has_protocol)
		error = begin_protocol(front);
	return error ? error : front_set_none(front, VHOST_USER_SET_OWNER);
}

int front_set_features(struct front_end *front, uint64_t features)
{
	if (front->has_protocol)
		features |= BIT64(VHOST_USER_F_PROTOCOL_FEATURES);
	if (front->log_dirty)
		features |= BIT64(VHOST_USER_F_LOG_ALL);
	front->accepted = features;
	return front_set_u64(front, VHOST_USER_SET_FEATURES, features);
}

/* ---- Memory ---- */

void front_make_regions(struct front_end *front)
{
	const struct guest_memory *memory = &front->machine->ctx->memory;
	unsigned int count = 0;

	for (unsigned int i = 0; i < memory->count; i++)
		count += front->split_memory
				 ? (unsigned int)(memory->regions[i].size / front->split_memory) + 1
				 : 1;
	free(front->regions);
	front->regions = calloc(count, sizeof(*front->regions));
	assert_non_null(front->regions);
	front->region_count = 0;
	for (unsigned int i = 0; i < memory->count; i++) {
		const struct guest_memory_region *from = &memory->regions[i];
		uint64_t piece = front->split_memory ? front->split_memory : from->size;

		for (uint64_t at = 0; at < from->size; at += piece)
			front->regions[front->region_count++] = (struct vhost_user_region) {
				.gpa = from->gpa + at,
				.size = MIN(piece, from->size - at),
				.user_addr = (uintptr_t)from->host + at,
				.mmap_offset = from->fd_offset + at,
			};
	}
}

int front_region(struct front_end *front, uint32_t request, const struct vhost_user_region *region)
{
	const struct vhost_user_single_region single = { .region = *region };

	return front_send(front, request, &single, sizeof(single), &front->machine->ctx->memory.fd,
			  request == VHOST_USER_ADD_MEM_REG, true);
}

static int set_mem_table(struct front_end *front)
{
	struct vhost_user_memory table = { .count = front->region_count };
	int fds[VHOST_USER_REGIONS_MAX];

	if (front->region_count > VHOST_USER_REGIONS_MAX)
		return -EINVAL;
	for (unsigned int i = 0; i < front->region_count; i++) {
		table.regions[i] = front->regions[i];
		fds[i] = front->machine->ctx->memory.fd;
	}
	return front_send(front, VHOST_USER_SET_MEM_TABLE, &table,
			  (uint32_t)offsetof(struct vhost_user_memory, regions[table.count]), fds,
			  table.count, true);
}

int front_share_memory(struct front_end *front)
{
	int error = 0;

	if (!front->regions)
		front_make_regions(front);
	front->memory_shared = true;
	if (!front_has(front, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS))
		return set_mem_table(front);
	for (unsigned int i = 0; i < front->region_count && !error; i++)
		error = front_region(front, VHOST_USER_ADD_MEM_REG, &front->regions[i]);
	return error;
}

/* ---- Configuration space ---- */

int front_get_config(struct front_end *front, uint32_t offset, void *data, uint32_t size)
{
	struct vhost_user_config config = { .offset = offset, .size = size };
	uint32_t header = (uint32_t)offsetof(struct vhost_user_config, data);
	struct front_message reply;
	int error;

	assert_true(size <= VHOST_USER_CONFIG_MAX);
	error = front_call(front, VHOST_USER_GET_CONFIG, &config, header + size, NULL, 0, &reply);
	if (error)
		return error;
	front_close_fds(&reply);
	if (!reply.header.size)
		return -EREMOTEIO; /* how a back end says no */
	if (reply.header.size != header + size || reply.payload.config.size != size ||
	    reply.payload.config.offset != offset)
		return -EPROTO;
	memcpy(data, reply.payload.config.data, size);
	return 0;
}

int front_set_config(struct front_end *front, uint32_t offset, const void *data, uint32_t size,
		     uint32_t flags)
{
	struct vhost_user_config config = { .offset = offset, .size = size, .flags = flags };

	assert_true(size <= VHOST_USER_CONFIG_MAX);
	memcpy(config.data, data, size);
	return front_send(front, VHOST_USER_SET_CONFIG, &config,
			  (uint32_t)offsetof(struct vhost_user_config, data) + size, NULL, 0, true);
}

/* ---- Rings ---- */

static int make_eventfd(int *fd)
{
	if (*fd < 0)
		*fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return *fd < 0 ? -errno : 0;
}

/* What the driver's addresses are to this process. */
static uint64_t user_address(struct front_end *front, uint64_t gpa)
{
	for (unsigned int i = 0; i < front->region_count; i++)
		if (gpa - front->regions[i].gpa < front->regions[i].size)
			return front->regions[i].user_addr + (gpa - front->regions[i].gpa);
	return (uintptr_t)guest_ptr(front->machine, gpa, 1);
}

int front_ring_addresses(struct front_end *front, const struct driver_queue *queue)
{
	const struct vhost_user_vring_addr addr = {
		.index = queue->index,
		.flags = front->log_dirty ? BIT32(VHOST_USER_VRING_F_LOG) : 0,
		.desc = user_address(front, queue->ring.desc_gpa),
		.avail = user_address(front, queue->ring.driver_gpa),
		.used = user_address(front, queue->ring.device_gpa),
		.log = front->log_dirty ? queue->ring.device_gpa : 0,
	};

	return front_send(front, VHOST_USER_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0, true);
}

int front_ring_start(struct front_end *front, const struct driver_queue *queue)
{
	struct front_ring *ring = &front->rings[queue->index];
	uint32_t index = queue->index;
	int error = make_eventfd(&ring->kick_fd);

	if (!error)
		error = make_eventfd(&ring->call_fd);
	if (!error)
		error = make_eventfd(&ring->err_fd);
	if (!error)
		error = front_set_state(front, VHOST_USER_SET_VRING_NUM, index, queue->ring.size);
	if (!error)
		error = front_set_state(front, VHOST_USER_SET_VRING_BASE, index, ring->base);
	if (!error)
		error = front_ring_addresses(front, queue);
	if (!error)
		error = front_set_fd(front, VHOST_USER_SET_VRING_ERR, index, ring->err_fd);
	if (!error)
		error = front->no_call ? front_set_fd(front, VHOST_USER_SET_VRING_CALL,
						      index | VHOST_USER_VRING_NO_FD, -1)
				       : front_set_fd(front, VHOST_USER_SET_VRING_CALL, index,
						      ring->call_fd);
	if (!error)
		error = front_set_fd(front, VHOST_USER_SET_VRING_KICK, index, ring->kick_fd);
	ring->set_up = !error;
	ring->enabled = !front->has_protocol;
	return error;
}

int front_ring_stop(struct front_end *front, unsigned int index)
{
	const struct vhost_user_vring_state state = { .index = index };
	struct front_message reply;
	int error = front_call(front, VHOST_USER_GET_VRING_BASE, &state, sizeof(state), NULL, 0,
			       &reply);

	if (error)
		return error;
	front_close_fds(&reply);
	if (reply.header.size != sizeof(state) || reply.payload.state.index != index)
		return -EPROTO;
	front->rings[index].base = reply.payload.state.num;
	front->rings[index].set_up = false;
	return 0;
}

int front_ring_enable(struct front_end *front, unsigned int index, bool on)
{
	int error = front_set_state(front, VHOST_USER_SET_VRING_ENABLE, index, on);

	if (!error)
		front->rings[index].enabled = on;
	return error;
}

void front_kick(struct front_end *front, unsigned int index)
{
	uint64_t one = 1;

	if (write(front->rings[index].kick_fd, &one, sizeof(one)) != sizeof(one))
		print_error("queue %u: cannot kick: %s\n", index, strerror(errno));
}

bool front_called(struct front_end *front, unsigned int index)
{
	uint64_t count;

	return read(front->rings[index].call_fd, &count, sizeof(count)) == sizeof(count);
}

/* ---- Inflight memory, the dirty log ---- */

int front_inflight_get(struct front_end *front, uint16_t queues, uint16_t size)
{
	const struct vhost_user_inflight ask = { .queue_count = queues, .queue_size = size };
	struct front_message reply;
	int error =
		front_call(front, VHOST_USER_GET_INFLIGHT_FD, &ask, sizeof(ask), NULL, 0, &reply);
	void *memory;

	if (error)
		return error;
	if (reply.header.size != sizeof(ask) || reply.fd_count != 1) {
		front_close_fds(&reply);
		return -EPROTO;
	}
	inflight_forget(front);
	front->inflight = reply.payload.inflight;
	/* The counts are the request's; a back end may leave them out of its answer. */
	front->inflight.queue_count = queues;
	front->inflight.queue_size = size;
	memory = mmap(NULL, front->inflight.mmap_size, PROT_READ | PROT_WRITE, MAP_SHARED,
		      reply.fds[0], (off_t)front->inflight.mmap_offset);
	if (memory == MAP_FAILED) {
		front_close_fds(&reply);
		return -EPROTO;
	}
	front->inflight_memory = memory;
	front->inflight_fd = reply.fds[0];
	return 0;
}

int front_inflight_set(struct front_end *front)
{
	return front_send(front, VHOST_USER_SET_INFLIGHT_FD, &front->inflight,
			  sizeof(front->inflight), &front->inflight_fd, 1, true);
}

/* It has an answer of its own with LOG_SHMFD. */
int front_set_log(struct front_end *front, int fd, uint64_t size, uint64_t offset)
{
	const struct vhost_user_log log = { size, offset };
	struct front_message reply;
	int error = front_call(front, VHOST_USER_SET_LOG_BASE, &log, sizeof(log), &fd, 1, &reply);

	if (!error)
		front_close_fds(&reply);
	return error;
}

/* ---- The back end's channel ---- */

static int channel_answer(struct front_end *front, const struct front_message *message)
{
	struct {
		struct vhost_user_header header;
		uint64_t status;
	} __attribute__((packed)) answer = {
		.header = { message->header.request, VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY,
			    sizeof(uint64_t) },
	};

	if (!(message->header.flags & VHOST_USER_FLAG_NEED_REPLY))
		return 0;
	return front_send_raw(front->channel, &answer, sizeof(answer), NULL, 0);
}

int front_channel_poll(struct front_end *front)
{
	struct front_message message;
	int count = 0;

	while (front->channel >= 0 && !front_wait_readable(front->channel, 0)) {
		if (front_receive(front->channel, &message, front->timeout_ms))
			break;
		front_close_fds(&message);
		if (message.header.request == VHOST_USER_BACKEND_CONFIG_CHANGE_MSG)
			front->config_changes++;
		count++;
		if (channel_answer(front, &message))
			break;
	}
	return count;
}
