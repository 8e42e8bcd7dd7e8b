/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Every message of vhost-user, and some that are none, sent wrongly in every way, in every state of a
 * session: the process lives, keeps nothing, serves its other device and the next front end.
 */
#include "hostile.h"

/* ---- What a right message looks like ---- */

enum shape {
	SHAPE_NONE,
	SHAPE_U64,
	SHAPE_STATE,
	SHAPE_ADDR,
	SHAPE_MEMORY,
	SHAPE_REGION,
	SHAPE_CONFIG,
	SHAPE_LOG,
	SHAPE_INFLIGHT
};

static const struct {
	enum shape shape;
	unsigned int fds;
} requests[] = {
	[VHOST_USER_SET_FEATURES] = { SHAPE_U64, 0 },
	[VHOST_USER_SET_MEM_TABLE] = { SHAPE_MEMORY, 1 },
	[VHOST_USER_SET_LOG_BASE] = { SHAPE_LOG, 1 },
	[VHOST_USER_SET_LOG_FD] = { SHAPE_NONE, 1 },
	[VHOST_USER_SET_VRING_NUM] = { SHAPE_STATE, 0 },
	[VHOST_USER_SET_VRING_ADDR] = { SHAPE_ADDR, 0 },
	[VHOST_USER_SET_VRING_BASE] = { SHAPE_STATE, 0 },
	[VHOST_USER_GET_VRING_BASE] = { SHAPE_STATE, 0 },
	[VHOST_USER_SET_VRING_KICK] = { SHAPE_U64, 1 },
	[VHOST_USER_SET_VRING_CALL] = { SHAPE_U64, 1 },
	[VHOST_USER_SET_VRING_ERR] = { SHAPE_U64, 1 },
	[VHOST_USER_SET_PROTOCOL_FEATURES] = { SHAPE_U64, 0 },
	[VHOST_USER_SET_VRING_ENABLE] = { SHAPE_STATE, 0 },
	[VHOST_USER_SEND_RARP] = { SHAPE_U64, 0 },
	[VHOST_USER_NET_SET_MTU] = { SHAPE_U64, 0 },
	[VHOST_USER_SET_BACKEND_REQ_FD] = { SHAPE_NONE, 1 },
	[VHOST_USER_SET_VRING_ENDIAN] = { SHAPE_STATE, 0 },
	[VHOST_USER_GET_CONFIG] = { SHAPE_CONFIG, 0 },
	[VHOST_USER_SET_CONFIG] = { SHAPE_CONFIG, 0 },
	[VHOST_USER_POSTCOPY_ADVISE] = { SHAPE_NONE, 0 },
	[VHOST_USER_GET_INFLIGHT_FD] = { SHAPE_INFLIGHT, 0 },
	[VHOST_USER_SET_INFLIGHT_FD] = { SHAPE_INFLIGHT, 1 },
	[VHOST_USER_GPU_SET_SOCKET] = { SHAPE_NONE, 1 },
	[VHOST_USER_VRING_KICK] = { SHAPE_STATE, 0 },
	[VHOST_USER_ADD_MEM_REG] = { SHAPE_REGION, 1 },
	[VHOST_USER_REM_MEM_REG] = { SHAPE_REGION, 0 },
	[VHOST_USER_SET_STATUS] = { SHAPE_U64, 0 },
	[VHOST_USER_REQUESTS - 1] = { SHAPE_NONE, 0 },
};

/* Numbers that are no request follow those that are. */
static const uint32_t strange_requests[] = { VHOST_USER_REQUESTS, 42,	     43, 255,
					     0x7fffffff,	  UINT32_MAX };

struct message {
	struct vhost_user_header header;
	union vhost_user_payload payload;
	uint8_t more[64];
} __attribute__((packed));

static uint32_t make_payload(const struct hostile *hostile, enum shape shape,
			     union vhost_user_payload *payload)
{
	const struct guest_memory *memory = &hostile->served->machine->ctx->memory;
	const struct vhost_user_region region = { .gpa = memory->regions[0].gpa,
						  .size = memory->regions[0].size,
						  .user_addr = (uintptr_t)memory->regions[0].host };

	switch (shape) {
	case SHAPE_NONE:
		return 0;
	case SHAPE_U64:
		payload->u64 = 0;
		return 8;
	case SHAPE_STATE:
		payload->state = (struct vhost_user_vring_state) { 0, 1 };
		return sizeof(payload->state);
	case SHAPE_ADDR:
		payload->addr = (struct vhost_user_vring_addr) { .desc = region.user_addr,
								 .avail = region.user_addr + 4096,
								 .used = region.user_addr + 8192 };
		return sizeof(payload->addr);
	case SHAPE_MEMORY:
		payload->memory = (struct vhost_user_memory) { .count = 1, .regions = { region } };
		return offsetof(struct vhost_user_memory, regions[1]);
	case SHAPE_REGION:
		payload->region = (struct vhost_user_single_region) { .region = region };
		return sizeof(payload->region);
	case SHAPE_CONFIG:
		payload->config = (struct vhost_user_config) { .offset = 32, .size = 1 };
		return offsetof(struct vhost_user_config, data[1]);
	case SHAPE_LOG:
		payload->log = (struct vhost_user_log) { .mmap_size = 4096 };
		return sizeof(payload->log);
	case SHAPE_INFLIGHT:
		payload->inflight = (struct vhost_user_inflight) { .mmap_size = MIB(1),
								   .queue_count = 1,
								   .queue_size = 128 };
		return sizeof(payload->inflight);
	}
	return 0;
}

/* ---- Ways to send it wrongly ---- */

enum kind_of_fd {
	FD_MEMORY,
	FD_PIPE,
	FD_CLOSED_PIPE,
	FD_DIRECTORY,
	FD_READ_ONLY,
	FD_SOCKET,
	FD_CLOSED_SOCKET,
	FD_EVENT,
	FD_NULL,
	FD_EMPTY,
	FD_TEXT
};

/*
 * struct way - @size: what the header says: @size_added to the right one, or @size_said
 * @fds: how many, if @fds_said; of @kind
 * @fill: the payload is full of this byte, or, with @index_said, begins with @index
 */
struct way {
	const char *name;
	bool size_said, fds_said, fill_said, index_said, twice;
	uint32_t size, flags_clear, flags_set;
	int size_added;
	unsigned int fds;
	enum kind_of_fd kind;
	uint8_t fill;
	uint32_t index;
};

static const struct way ways[] = {
	{ .name = "as it should be" },
	{ .name = "twice", .twice = true },
	{ .name = "with NEED_REPLY", .flags_set = VHOST_USER_FLAG_NEED_REPLY },
	{ .name = "size 0", .size_said = true, .size = 0 },
	{ .name = "one byte short", .size_added = -1 },
	{ .name = "one byte long", .size_added = 1 },
	{ .name = "8 bytes long", .size_added = 8 },
	{ .name = "size 512", .size_said = true, .size = 512 },
	{ .name = "size 513", .size_said = true, .size = 513 },
	{ .name = "size 2 GiB", .size_said = true, .size = 0x80000000 },
	{ .name = "size 4 GiB - 1", .size_said = true, .size = UINT32_MAX },
	{ .name = "version 0", .flags_clear = 3 },
	{ .name = "version 2", .flags_clear = 3, .flags_set = 2 },
	{ .name = "version 3", .flags_set = 3 },
	{ .name = "a reply", .flags_set = VHOST_USER_FLAG_REPLY },
	{ .name = "all flags", .flags_set = ~3U },
	{ .name = "no descriptor", .fds_said = true, .fds = 0 },
	{ .name = "one descriptor", .fds_said = true, .fds = 1, .kind = FD_EVENT },
	{ .name = "2 descriptors", .fds_said = true, .fds = 2 },
	{ .name = "8 descriptors", .fds_said = true, .fds = 8 },
	{ .name = "9 descriptors", .fds_said = true, .fds = 9 },
	{ .name = "200 descriptors", .fds_said = true, .fds = 200, .kind = FD_EVENT },
	{ .name = "a pipe", .kind = FD_PIPE },
	{ .name = "a pipe without reader", .kind = FD_CLOSED_PIPE },
	{ .name = "a directory", .kind = FD_DIRECTORY },
	{ .name = "memory to read only", .kind = FD_READ_ONLY },
	{ .name = "a socket", .kind = FD_SOCKET },
	{ .name = "half a socket", .kind = FD_CLOSED_SOCKET },
	{ .name = "an eventfd", .kind = FD_EVENT },
	{ .name = "/dev/null", .kind = FD_NULL },
	{ .name = "an empty file", .kind = FD_EMPTY },
	{ .name = "a short file", .kind = FD_TEXT },
	{ .name = "zeroes", .fill_said = true, .fill = 0 },
	{ .name = "ones", .fill_said = true, .fill = 0xff },
	{ .name = "0x7f", .fill_said = true, .fill = 0x7f },
	{ .name = "the last index", .index_said = true, .index = SERVED_QUEUES - 1 },
	{ .name = "an index too large", .index_said = true, .index = SERVED_QUEUES },
	{ .name = "index 255", .index_said = true, .index = 255 },
	{ .name = "index 2^32 - 1", .index_said = true, .index = UINT32_MAX },
	{ .name = "no descriptor, it says", .index_said = true, .index = 0x100, .fds_said = true },
};

static int open_kind(const struct hostile *hostile, enum kind_of_fd kind)
{
	int ends[2], fd;

	switch (kind) {
	case FD_MEMORY:
		return dup(hostile->served->machine->ctx->memory.fd);
	case FD_PIPE:
	case FD_CLOSED_PIPE:
		assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
		if (kind == FD_PIPE)
			assert_int_equal(write(ends[1], "x", 1), 1);
		close(ends[0]);
		return ends[1];
	case FD_DIRECTORY:
		return open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	case FD_READ_ONLY:
		return open(hostile->served->disk, O_RDONLY | O_CLOEXEC);
	case FD_SOCKET:
	case FD_CLOSED_SOCKET:
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
		if (kind == FD_SOCKET)
			assert_int_equal(write(ends[1], "x", 1), 1);
		close(ends[1]);
		return ends[0];
	case FD_EVENT:
		return eventfd(1, EFD_CLOEXEC);
	case FD_NULL:
		return open("/dev/null", O_RDWR | O_CLOEXEC);
	case FD_EMPTY:
	case FD_TEXT:
		fd = memfd_create("short", MFD_CLOEXEC);
		assert_int_equal(ftruncate(fd, kind == FD_TEXT ? 100 : 0), 0);
		return fd;
	}
	return -1;
}

/* The rest of a message that says to be longer than any is not sent: it must not be waited for. */
static size_t bytes_sent(const struct message *message)
{
	uint32_t size = message->header.size;

	return sizeof(message->header) + (size > sizeof(message->payload) ? 0 : size);
}

static void send_way(struct hostile *hostile, uint32_t request, const struct way *way)
{
	const enum shape shape =
		request < ARRAY_SIZE(requests) ? requests[request].shape : SHAPE_U64;
	unsigned int count = request < ARRAY_SIZE(requests) ? requests[request].fds : 0;
	struct message message = { .header = { request, VHOST_USER_VERSION, 0 } };
	union vhost_user_payload payload = { 0 };
	int fds[FRONT_FDS_MAX];
	uint32_t size = make_payload(hostile, shape, &payload);

	if (way->fill_said)
		memset(&payload, way->fill, sizeof(payload));
	if (way->index_said)
		memcpy(&payload, &way->index, sizeof(way->index));
	memcpy((char *)&message + sizeof(message.header), &payload, sizeof(payload));
	message.header.flags = (VHOST_USER_VERSION & ~way->flags_clear) | way->flags_set;
	message.header.size = way->size_said ? way->size : size + (uint32_t)way->size_added;
	if (!size && way->size_added < 0)
		message.header.size = 0;
	if (way->fds_said)
		count = way->fds;
	for (unsigned int i = 0; i < count; i++)
		fds[i] = open_kind(hostile, way->kind);
	for (int i = 0; i <= way->twice; i++) /* it may have hung up on us after the first */
		if (front_send_raw(hostile->served->front->socket, &message, bytes_sent(&message),
				   fds, count))
			break;
	for (unsigned int i = 0; i < count; i++)
		close(fds[i]);
}

/* The back end answers, or it hangs up; it does not leave us waiting. */
static void assert_answers_or_leaves(struct hostile *hostile, const char *name)
{
	struct front_end *front = hostile->served->front;
	const struct vhost_user_header question = { VHOST_USER_GET_FEATURES, VHOST_USER_VERSION,
						    0 };
	struct front_message reply;
	int error;

	if (front_send_raw(front->socket, &question, sizeof(question), NULL, 0))
		return;
	do {
		error = front_receive(front->socket, &reply, FRONT_TIMEOUT_MS);
		if (!error)
			front_close_fds(&reply);
	} while (!error && reply.header.request != VHOST_USER_GET_FEATURES);
	if (error != -ECONNRESET && error)
		fail_msg("%s: no answer, and no hanging up: %s", name, strerror(-error));
}

/* ---- States of a session ---- */

static void state_connected(struct hostile *hostile)
{
	struct served *served = hostile->served;

	front_destroy(served->front);
	served->front = front_create(served->machine);
	served_connect(served);
}

static void state_negotiated(struct hostile *hostile)
{
	state_connected(hostile);
	assert_int_equal(front_begin(hostile->served->front), 0);
}

static void state_running(struct hostile *hostile, const struct driver_params *params)
{
	struct served *served = hostile->served;
	static struct served_request load[8];

	state_connected(hostile);
	driver_close(served->driver);
	served_run(served, params);
	for (unsigned int i = 0; i < ARRAY_SIZE(load); i++)
		served_submit(served->driver, i % SERVED_QUEUES, VIRTIO_BLK_T_IN, i, &load[i]);
	for (unsigned int i = 0; i < SERVED_QUEUES; i++)
		driver_kick(driver_queue(served->driver, i));
}

static void state_running_split(struct hostile *hostile)
{
	state_running(hostile, &served_split);
}

static void state_running_packed(struct hostile *hostile)
{
	state_running(hostile, &served_packed);
}

/* Every request in every way. */
static void attack_all(void **state, void (*begin)(struct hostile *hostile))
{
	struct hostile *hostile = hostile_create(state);
	unsigned int attacks = 0;
	char name[80];

	for (uint32_t i = 0; i < VHOST_USER_REQUESTS + ARRAY_SIZE(strange_requests); i++) {
		uint32_t request =
			i < VHOST_USER_REQUESTS ? i : strange_requests[i - VHOST_USER_REQUESTS];

		for (unsigned int j = 0; j < ARRAY_SIZE(ways); j++, attacks++) {
			snprintf(name, sizeof(name), "request %u, %s", request, ways[j].name);
			begin(hostile);
			send_way(hostile, request, &ways[j]);
			assert_answers_or_leaves(hostile, name);
			front_hang_up(hostile->served->front);
			hostile_forget(hostile);
			if (attacks % 16 == 0)
				hostile_check(hostile, name);
		}
		driver_close(hostile->served->driver);
		hostile->served->driver = NULL;
		snprintf(name, sizeof(name), "request %u", request);
		hostile_check(hostile, name);
		hostile_serve_one(hostile, i);
	}
	print_message("%u attacks\n", attacks);
}

static void all_after_connecting(void **state)
{
	attack_all(state, state_connected);
}

static void all_after_negotiation(void **state)
{
	attack_all(state, state_negotiated);
}

static void all_while_split_rings_run(void **state)
{
	attack_all(state, state_running_split);
}

static void all_while_packed_rings_run(void **state)
{
	attack_all(state, state_running_packed);
}

/* ---- Ways that are no single message ---- */

/* The front end leaves after each byte of each message. */
static void left_after_every_byte(void **state)
{
	struct hostile *hostile = hostile_create(state);
	struct message message = { 0 };

	for (uint32_t request = 1; request < VHOST_USER_REQUESTS; request++) {
		union vhost_user_payload payload = { 0 };
		uint32_t size = make_payload(hostile, requests[request].shape, &payload);
		int fd = open_kind(hostile, FD_MEMORY);

		message.header = (struct vhost_user_header) { request, VHOST_USER_VERSION, size };
		memcpy((char *)&message + sizeof(message.header), &payload, size);
		for (size_t bytes = 1; bytes < sizeof(message.header) + size; bytes++) {
			state_connected(hostile);
			assert_int_equal(front_send_raw(hostile->served->front->socket, &message,
							bytes, &fd, requests[request].fds),
					 0);
			front_hang_up(hostile->served->front);
		}
		close(fd);
		hostile_check(hostile, "left in the middle of a message");
	}
	hostile_serve_one(hostile, 1);
}

/* It leaves before each message of a good session, with rings as they were left by the one before. */
static void left_in_every_state(void **state)
{
	struct hostile *hostile = hostile_create(state);
	struct served *served = hostile->served;
	unsigned int whole;

	for (unsigned int format = 0; format < 2; format++) {
		state_running(hostile, format ? &served_packed : &served_split);
		assert_int_equal(front_ring_stop(served->front, 0), 0);
		served_connect(served);
		assert_int_equal(front_driver_resume(served->driver), 0);
		whole = served->front->requests;
		assert_true(whole > 20);
		for (unsigned int i = 1; i <= whole; i++) {
			served_connect(served);
			served->front->hang_up_at = i;
			assert_int_equal(front_driver_resume(served->driver), -ECONNRESET);
			hostile_check(hostile, "left in the middle of a session");
		}
		driver_close(served->driver);
		served->driver = NULL;
		hostile_serve_one(hostile, format);
	}
}

/* Questions without end, and nobody reads the answers. */
static void answers_are_not_read(void **state)
{
	struct hostile *hostile = hostile_create(state);
	const struct vhost_user_header question = { VHOST_USER_GET_FEATURES, VHOST_USER_VERSION,
						    0 };
	struct front_end *front;
	unsigned int stuck = 0;

	state_negotiated(hostile);
	front = hostile->served->front;
	fcntl(front->socket, F_SETFL, O_NONBLOCK);
	for (unsigned int i = 0; i < 1000000 && stuck < 200; i++) {
		if (!front_send_raw(front->socket, &question, sizeof(question), NULL, 0))
			continue;
		stuck++;
		usleep(1000);
	}
	assert_int_equal(stuck, 200); /* it listens no more than it is listened to */
	hostile_other_works(hostile);
	hostile_check(hostile, "answers are not read");
	hostile_serve_one(hostile, 1);
}

/* Up to @max connections that say little, as many as find room. */
static unsigned int crowd(struct hostile *hostile, int *sockets, unsigned int max)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	unsigned int count = 0;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s",
		 hostile->served->back_end.socket);
	for (unsigned int i = 0; i < max; i++) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

		if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
			close(fd);
			continue;
		}
		front_send_raw(fd, "\1\0\0", i % 4, NULL, 0);
		sockets[count++] = fd;
	}
	return count;
}

static void hundred_connections(void **state)
{
	struct hostile *hostile = hostile_create(state);
	int sockets[100];
	unsigned int count = crowd(hostile, sockets, ARRAY_SIZE(sockets));

	assert_true(count > 1);
	for (unsigned int i = 0; i < count; i += 2)
		close(sockets[i]);
	for (unsigned int i = 1; i < count; i += 2)
		close(sockets[i]);
	hostile_serve_one(hostile, 1);
	hostile_check(hostile, "100 connections");
}

/* The queue of connections is full of those that say nothing: who is served goes on. */
static void crowd_behind_a_session(void **state)
{
	struct hostile *hostile = hostile_create(state);
	struct served *served = hostile->served;
	int sockets[200];
	unsigned int count;

	state_running_split(hostile);
	count = crowd(hostile, sockets, ARRAY_SIZE(sockets));
	for (unsigned int i = 0; i < 8; i++)
		assert_non_null(driver_wait_buf(driver_queue(served->driver, i % SERVED_QUEUES),
						NULL, DRIVER_TIMEOUT_MS));
	served_write(served->driver, 0, 0, 1);
	while (count)
		close(sockets[--count]);
	front_hang_up(served->front);
	driver_close(served->driver);
	served->driver = NULL;
	hostile_serve_one(hostile, 1);
	hostile_check(hostile, "a crowd of connections");
}

/* Call descriptors that cannot be written to at once: the device does not wait for them. */
static void calls_that_block(void **state)
{
	struct hostile *hostile = hostile_create(state);
	struct served *served = hostile->served;
	uint64_t full = UINT64_MAX - 1;
	int ends[2], fds[3];

	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	while (write(ends[1], &full, sizeof(full)) > 0)
		;
	fcntl(ends[1], F_SETFL, 0);
	fds[0] = eventfd(0, EFD_CLOEXEC);
	fds[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fds[2] = ends[1];
	for (unsigned int i = 0; i < 3; i++) {
		int expected = i == 2 ? -EREMOTEIO : 0; /* no eventfd, no socket */

		state_negotiated(hostile);
		served_run(served, &served_split);
		if (i < 2)
			assert_int_equal(write(fds[i], &full, sizeof(full)), sizeof(full));
		assert_int_equal(front_set_fd(served->front, VHOST_USER_SET_VRING_CALL, 0, fds[i]),
				 expected);
		assert_int_equal(front_set_fd(served->front, VHOST_USER_SET_VRING_ERR, 0, fds[i]),
				 expected);
		assert_int_equal(fcntl(fds[i], F_SETFL, 0), 0); /* now it blocks, if it did not */
		for (uint32_t j = 0; j < 200; j++)
			served_write(served->driver, 0, j, j);
		driver_close(served->driver);
		served->driver = NULL;
		hostile_check(hostile, "a call that blocks");
	}
	close(ends[0]);
	for (unsigned int i = 0; i < 3; i++)
		close(fds[i]);
	hostile_serve_one(hostile, 1);
}

#define HOSTILE_TEST(function) cmocka_unit_test_teardown(function, hostile_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		HOSTILE_TEST(all_after_connecting),	 HOSTILE_TEST(all_after_negotiation),
		HOSTILE_TEST(all_while_split_rings_run), HOSTILE_TEST(all_while_packed_rings_run),
		HOSTILE_TEST(left_after_every_byte),	 HOSTILE_TEST(left_in_every_state),
		HOSTILE_TEST(answers_are_not_read),	 HOSTILE_TEST(hundred_connections),
		HOSTILE_TEST(crowd_behind_a_session),	 HOSTILE_TEST(calls_that_block),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
