/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The messages of vhost-user, each answered as QEMU's interop/vhost-user document says: negotiation,
 * acknowledgements, configuration, status and reset.
 */
#include <sys/mman.h>
#include <sys/socket.h>

#include "served.h"

/* ---- Negotiation ---- */

static void offers_what_it_should(void **state)
{
	const uint64_t features = BIT64(VHOST_USER_F_PROTOCOL_FEATURES) |
				  BIT64(VHOST_USER_F_LOG_ALL) | BIT64(VIRTIO_F_VERSION_1) |
				  BIT64(VIRTIO_RING_F_INDIRECT_DESC) |
				  BIT64(VIRTIO_RING_F_EVENT_IDX) | BIT64(VIRTIO_F_RING_PACKED) |
				  BIT64(VIRTIO_BLK_F_MQ);
	struct front_end *front = served_create(state)->front;

	assert_int_equal(front_begin(front), 0);
	assert_int_equal(front->offered & features, features);
	assert_int_equal(front->protocol_offered & FRONT_PROTOCOL_ALL, FRONT_PROTOCOL_ALL);
	assert_int_equal(front->queue_count, SERVED_QUEUES);
	assert_int_equal(front->slots_max, VHOST_USER_MEM_SLOTS);
}

/* Features may be set again, each time as a whole, until rings run. */
static void features_are_set_again(void **state)
{
	struct served *served = served_create(state);
	struct front_end *front = served->front;

	assert_int_equal(front_begin(front), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(
			front_set_features(front, BIT64(VIRTIO_F_VERSION_1) |
							  (i & 1 ? BIT64(VIRTIO_BLK_F_FLUSH) : 0)),
			0);
	assert_int_equal(front_set_features(front, front->offered | BIT64(63)), -EREMOTEIO);
	served->driver = front_driver_open(front, &served_split);
	assert_true(driver_negotiate(served->driver, served->driver->offered));
	driver_start(served->driver);
	served_write(served->driver, 0, 0, 1);
	served_verify(served->driver, 0, 0, 1);
}

/* Without PROTOCOL_FEATURES there is no SET_VRING_ENABLE: rings run when they are kicked. */
static void old_front_end(void **state)
{
	struct served *served = served_create(state);
	struct front_end *front = served->front;

	front->protocol_wanted = 0;
	assert_int_equal(front_begin(front), 0);
	assert_false(front->has_protocol);
	served->driver = front_driver_open(front, &served_split);
	assert_true(driver_negotiate(served->driver, served->driver->offered));
	driver_start(served->driver);
	served_write(served->driver, 0, 7, 1);
	served_verify(served->driver, 0, 7, 1);
	assert_int_equal(front_ring_stop(front, 0), 0);
	assert_int_equal(front->rings[0].base, 2);
}

/* Each set of protocol features that leaves one out works. */
static void without_each_protocol_feature(void **state)
{
	struct served *served = served_create(state);
	struct front_end *front = served->front;

	for (unsigned int bit = 0; bit <= VHOST_USER_PROTOCOL_F_STATUS; bit++) {
		/* The driver of a disk needs its configuration only to know its size. */
		if (!(FRONT_PROTOCOL_ALL & BIT64(bit)))
			continue;
		front->protocol_wanted = FRONT_PROTOCOL_ALL & ~BIT64(bit);
		front->queue_count = 1;
		served_connect(served);
		served_run(served, &served_split);
		served_write(served->driver, 0, bit, bit);
		served_verify(served->driver, 0, bit, bit);
		front_hang_up(front);
		driver_close(served->driver);
		served->driver = NULL;
	}
}

/* ---- Acknowledgements ---- */

static int send_flags(struct front_end *front, uint32_t request, uint32_t flags, uint64_t value)
{
	struct {
		struct vhost_user_header header;
		uint64_t value;
	} __attribute__((packed)) message = { { request, VHOST_USER_VERSION | flags, 8 }, value };

	return front_send_raw(front->socket, &message, sizeof(message), NULL, 0);
}

/* An answer to GET_STATUS is the next that comes: nothing was said before. */
static void assert_silence(struct front_end *front)
{
	uint64_t status;

	assert_int_equal(front_get_u64(front, VHOST_USER_GET_STATUS, &status), 0);
}

static void acknowledges_what_asks_for_it(void **state)
{
	struct front_end *front = served_create(state)->front;
	struct front_message reply;

	assert_int_equal(front_begin(front), 0);
	assert_int_equal(send_flags(front, VHOST_USER_SET_STATUS, VHOST_USER_FLAG_NEED_REPLY, 1),
			 0);
	assert_int_equal(front_receive(front->socket, &reply, FRONT_TIMEOUT_MS), 0);
	assert_int_equal(reply.header.request, VHOST_USER_SET_STATUS);
	assert_int_equal(reply.header.flags, VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY);
	assert_int_equal(reply.header.size, 8);
	assert_int_equal(reply.payload.u64, 0);
	assert_int_equal(send_flags(front, VHOST_USER_SET_STATUS, 0, 1), 0);
	assert_silence(front);
	/* What is refused is acknowledged with another number, and the session goes on. */
	assert_int_equal(front_set_state(front, VHOST_USER_SET_VRING_NUM, 99, 128), -EREMOTEIO);
	assert_silence(front);
}

/* Answers of their own are not acknowledged besides. */
static void answers_once(void **state)
{
	struct front_end *front = served_create(state)->front;
	const struct vhost_user_header header = { VHOST_USER_GET_FEATURES,
						  VHOST_USER_VERSION | VHOST_USER_FLAG_NEED_REPLY,
						  0 };
	struct front_message reply;

	assert_int_equal(front_begin(front), 0);
	assert_int_equal(front_send_raw(front->socket, &header, sizeof(header), NULL, 0), 0);
	assert_int_equal(front_receive(front->socket, &reply, FRONT_TIMEOUT_MS), 0);
	assert_int_equal(reply.header.request, VHOST_USER_GET_FEATURES);
	assert_int_equal(reply.payload.u64, front->offered);
	assert_silence(front);
}

/* NEED_REPLY means nothing to who did not accept REPLY_ACK. */
static void no_acknowledgement_unless_accepted(void **state)
{
	struct front_end *front = served_create(state)->front;

	front->protocol_wanted &= ~BIT64(VHOST_USER_PROTOCOL_F_REPLY_ACK);
	assert_int_equal(front_begin(front), 0);
	assert_int_equal(send_flags(front, VHOST_USER_SET_STATUS, VHOST_USER_FLAG_NEED_REPLY, 1),
			 0);
	assert_silence(front);
}

/* Who accepts REPLY_ACK may ask for an answer to that very message, as User-Mode Linux does. */
static void acknowledges_its_own_acceptance(void **state)
{
	struct front_end *front = served_create(state)->front;
	struct front_message reply;
	uint64_t offered;

	assert_int_equal(front_get_u64(front, VHOST_USER_GET_PROTOCOL_FEATURES, &offered), 0);
	assert_int_equal(send_flags(front, VHOST_USER_SET_PROTOCOL_FEATURES,
				    VHOST_USER_FLAG_NEED_REPLY,
				    BIT64(VHOST_USER_PROTOCOL_F_REPLY_ACK)),
			 0);
	assert_int_equal(front_receive(front->socket, &reply, FRONT_TIMEOUT_MS), 0);
	assert_int_equal(reply.header.request, VHOST_USER_SET_PROTOCOL_FEATURES);
	assert_int_equal(reply.payload.u64, 0);
}

/* Messages come in pieces of a byte, and several at once. */
static void messages_in_pieces(void **state)
{
	struct front_end *front = served_create(state)->front;
	struct {
		struct vhost_user_header header;
		struct vhost_user_vring_state base;
		struct vhost_user_header question;
		struct vhost_user_vring_state ring;
	} __attribute__((packed)) stream = {
		{ VHOST_USER_SET_VRING_BASE, VHOST_USER_VERSION, 8 },
		{ 0 },
		{ VHOST_USER_GET_VRING_BASE, VHOST_USER_VERSION, 8 },
		{ 0 },
	};
	struct front_message reply;

	assert_int_equal(front_begin(front), 0);
	for (size_t step = 1; step <= sizeof(stream); step += step < 4 ? 1 : 12) {
		stream.base.num = (uint32_t)step * 7;
		for (size_t at = 0; at < sizeof(stream); at += step)
			assert_int_equal(front_send_raw(front->socket, (char *)&stream + at,
							MIN(step, sizeof(stream) - at), NULL, 0),
					 0);
		assert_int_equal(front_receive(front->socket, &reply, FRONT_TIMEOUT_MS), 0);
		assert_int_equal(reply.payload.state.num, stream.base.num);
	}
}

/* ---- Configuration space ---- */

static void config_of_any_size(void **state)
{
	struct front_end *front = served_create(state)->front;
	uint8_t whole[VHOST_USER_CONFIG_MAX], part[VHOST_USER_CONFIG_MAX];
	struct virtio_blk_config config;

	assert_int_equal(front_begin(front), 0);
	assert_int_equal(front_get_config(front, 0, whole, sizeof(whole)), 0);
	memcpy(&config, whole, sizeof(config));
	assert_int_equal(config.capacity, SERVED_DISK / 512);
	assert_int_equal(config.num_queues, SERVED_QUEUES);
	for (unsigned int i = 128; i < sizeof(whole); i++) /* no disk has so much */
		assert_int_equal(whole[i], 0);
	for (uint32_t size = 1; size <= sizeof(part); size++) {
		memset(part, 0xee, sizeof(part));
		assert_int_equal(front_get_config(front, 0, part, size), 0);
		assert_memory_equal(part, whole, size);
	}
	for (uint32_t offset = 0; offset < sizeof(whole); offset++) {
		assert_int_equal(front_get_config(front, offset, part, 1), 0);
		assert_int_equal(part[0], whole[offset]);
		assert_int_equal(front_get_config(front, offset, part, sizeof(whole) - offset), 0);
		assert_memory_equal(part, whole + offset, sizeof(whole) - offset);
	}
}

/* What cannot be answered has an empty answer, by which a front end knows. */
static void config_beyond(void **state)
{
	static const struct {
		uint32_t offset, size;
	} bad[] = {
		{ 0, 257 }, { 257, 1 }, { 0xffffffff, 2 }, { 0, 0xffffffff }, { 4, 0x80000000 }
	};
	struct front_end *front = served_create(state)->front;
	struct vhost_user_config config = { 0 };
	struct front_message reply;
	uint8_t data[4];

	assert_int_equal(front_begin(front), 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		config.offset = bad[i].offset;
		config.size = bad[i].size;
		assert_int_equal(front_call(front, VHOST_USER_GET_CONFIG, &config, sizeof(config),
					    NULL, 0, &reply),
				 0);
		assert_int_equal(reply.header.size, 0);
		assert_int_equal(front_get_config(front, 0, data, sizeof(data)), 0);
	}
}

/* The write cache is a field that drivers write (virtio 1.4, 5.2.4). */
static void config_is_written(void **state)
{
	const uint32_t at = offsetof(struct virtio_blk_config, wce);
	struct served *served = served_create(state);
	struct front_end *front = served->front;
	uint8_t value, six[6] = { 0 };

	served_run(served, &served_split);
	assert_true(driver_has(served->driver, VIRTIO_BLK_F_CONFIG_WCE));
	for (uint8_t wce = 0; wce < 2; wce++) {
		assert_int_equal(front_set_config(front, at, &wce, 1, 0), 0);
		assert_int_equal(front_get_config(front, at, &value, 1), 0);
		assert_int_equal(value, wce);
	}
	assert_int_equal(front_set_config(front, 250, six, sizeof(six), 0), -EREMOTEIO);
	assert_int_equal(front_set_config(front, UINT32_MAX, &value, 1, 0), -EREMOTEIO);
	served_write(served->driver, 0, 0, 1);
}

static void resize(struct served *served, off_t size)
{
	int disk = open(served->disk, O_RDWR | O_CLOEXEC);

	assert_true(disk >= 0);
	assert_int_equal(ftruncate(disk, size), 0);
	close(disk);
}

/* A disk that grows tells so by the channel, and the configuration has the new size. */
static void config_changes(void **state)
{
	struct served *served = served_create(state);
	struct virtio_driver *driver = served_run(served, &served_split);

	assert_false(driver_config_interrupt(driver));
	for (unsigned int i = 2; i < 6; i++) {
		resize(served, (off_t)(i * SERVED_DISK));
		assert_true(driver_wait_config(driver, DRIVER_TIMEOUT_MS));
		assert_int_equal(driver_config(driver, 0, 8), i * SERVED_DISK / 512);
		served_write(driver, 0, i * SERVED_DISK / 512 - 1, i);
		served_verify(driver, 0, i * SERVED_DISK / 512 - 1, i);
	}
}

/* A front end that never reads its channel, or closes its end of it, harms nobody. */
static void channel_is_ignored(void **state)
{
	struct served *served = served_create(state);
	struct virtio_driver *driver = served_run(served, &served_split);

	for (unsigned int i = 2; i < 20; i++) {
		resize(served, (off_t)(i * SERVED_DISK));
		for (int wait = 0; driver_config(driver, 0, 8) != i * SERVED_DISK / 512; wait++) {
			assert_true(wait < 5000);
			usleep(1000);
		}
		served_write(driver, 0, i, i);
		if (i != 10)
			continue;
		close(served->front->channel);
		served->front->channel = -1;
	}
}

/* ---- Status and reset ---- */

static void status_is_kept(void **state)
{
	struct served *served = served_create(state);
	struct front_end *front = served->front;
	uint64_t status;

	assert_int_equal(front_begin(front), 0);
	assert_int_equal(front_get_u64(front, VHOST_USER_GET_STATUS, &status), 0);
	assert_int_equal(status, 0);
	served->driver = front_driver_open(front, &served_split);
	assert_int_equal(driver_status(served->driver),
			 VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	assert_true(driver_negotiate(served->driver, served->driver->offered));
	driver_start(served->driver);
	assert_int_equal(driver_status(served->driver),
			 VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
				 VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
	assert_int_equal(front_set_u64(front, VHOST_USER_SET_STATUS, 0x100), -EREMOTEIO);
	driver_set_status(served->driver, 0);
	assert_int_equal(driver_status(served->driver), 0);
}

/* A driver that breaks the protocol: NEEDS_RESET, the ring's error eventfd, and reset heals. */
static void broken_driver(void **state)
{
	struct served *served = served_create(state);
	struct virtio_driver *driver = served_run(served, &served_split);
	struct segment bad[2] = { { UINT64_C(1) << 60, 16 }, { UINT64_C(1) << 60, 1 } };
	uint64_t count;
	int token;

	assert_int_equal(driver_add_buf(driver_queue(driver, 1), bad, 1, 1, &token), 0);
	driver_kick(driver_queue(driver, 1));
	for (int i = 0; !(driver_status(driver) & VIRTIO_CONFIG_S_NEEDS_RESET); i++) {
		assert_true(i < 5000);
		usleep(1000);
	}
	assert_int_equal(read(served->front->rings[1].err_fd, &count, 8), 8);
	assert_true(driver_wait_config(driver, DRIVER_TIMEOUT_MS)); /* virtio 1.4, 2.1.2 */
	driver_restart(driver);
	for (unsigned int i = 0; i < SERVED_QUEUES; i++) {
		served_write(driver, i, i, i);
		served_verify(driver, i, i, i);
	}
	assert_int_equal(back_end_logged(&served->back_end, "queue 1: descriptor points outside"),
			 1);
}

/* The device keeps the chain that broke it: the guest is migrated with it all the same. */
static void broken_driver_migrates(void **state)
{
	struct served *served = served_create(state);
	struct virtio_driver *driver = served_run(served, &served_split);
	struct segment status = { guest_alloc(served->machine, 1, 1), 1 };
	int log = memfd_create("log", MFD_CLOEXEC);

	assert_int_equal(driver_add_buf(driver_queue(driver, 1), &status, 0, 1, &log), 0);
	driver_kick(driver_queue(driver, 1));
	for (int i = 0; !(driver_status(driver) & VIRTIO_CONFIG_S_NEEDS_RESET); i++) {
		assert_true(i < 5000);
		usleep(1000);
	}
	assert_int_equal(ftruncate(log, 4096), 0);
	assert_int_equal(front_set_log(served->front, log, 4096, 0), 0);
	for (unsigned int i = 0; i < 2; i++) {
		served->front->log_dirty = !i;
		assert_int_equal(front_set_features(served->front, driver->accepted), 0);
	}
	driver_restart(driver);
	served_write(driver, 1, 1, 1);
	close(log);
}

/* RESET_DEVICE: as new, at any time, with requests in flight too; memory and eventfds stay. */
static void reset_at_any_time(void **state)
{
	struct served *served = served_create(state);
	struct virtio_driver *driver = served_run(served, &served_split);

	for (unsigned int i = 0; i < 20; i++) {
		struct served_request requests[16];

		for (unsigned int j = 0; j < ARRAY_SIZE(requests); j++)
			served_submit(driver, j % SERVED_QUEUES, VIRTIO_BLK_T_IN, j, &requests[j]);
		for (unsigned int j = 0; j < SERVED_QUEUES; j++)
			driver_kick(driver_queue(driver, j));
		driver_restart(driver);
		served_write(driver, i % SERVED_QUEUES, i, i);
		served_verify(driver, (i + 1) % SERVED_QUEUES, i, i);
	}
}

/* QEMU 7.2 accepts STATUS for vhost-user-rng and never says DRIVER_OK: rings that are enabled run. */
static void runs_without_driver_ok(void **state)
{
	struct served *served = served_create(state);
	struct front_end *front = served->front;
	struct virtio_driver *driver;

	assert_int_equal(front_begin(front), 0);
	served->driver = driver = front_driver_open(front, &served_split);
	assert_true(driver_negotiate(driver, driver->offered));
	front->protocol &=
		~BIT64(VHOST_USER_PROTOCOL_F_STATUS); /* it was accepted; now say no more */
	driver_start(driver);
	served_write(driver, 0, 3, 3);
	served_verify(driver, 0, 3, 3);
}

/* With legacy=off, who does not accept VERSION_1 is told no, by its status as well as by its rings. */
static void no_legacy_driver(void **state)
{
	struct served *served = served_create_stopped(state);
	struct front_end *front = served->front;
	uint64_t status;

	strcat(served->spec, ",legacy=off");
	back_end_serve(&served->back_end, served->spec);
	served_connect(served);
	assert_int_equal(front_begin(front), 0);
	assert_int_equal(front_set_features(front, 0), 0);
	assert_int_equal(front_set_u64(front, VHOST_USER_SET_STATUS,
				       VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
					       VIRTIO_CONFIG_S_FEATURES_OK),
			 -EREMOTEIO);
	assert_int_equal(front_get_u64(front, VHOST_USER_GET_STATUS, &status), 0);
	assert_int_equal(status & VIRTIO_CONFIG_S_FEATURES_OK, 0);
	assert_int_equal(back_end_logged(&served->back_end, "SET_STATUS refused: the driver is a "
							    "legacy one, and legacy=off"),
			 1);
	served_run(served, &served_split);
	served_write(served->driver, 0, 0, 1);
}

/* Without RESET_DEVICE and STATUS, stopping all rings and new features are as good as a reset. */
static void stop_and_start_again(void **state)
{
	struct served *served = served_create(state);
	struct front_end *front = served->front;
	struct virtio_driver *driver;

	front->protocol_wanted &=
		~(BIT64(VHOST_USER_PROTOCOL_F_STATUS) | BIT64(VHOST_USER_PROTOCOL_F_RESET_DEVICE));
	driver = served_run(served, &served_split);
	for (unsigned int i = 0; i < 10; i++) {
		served_write(driver, 0, i, i);
		driver_restart(driver);
		served_verify(driver, 1, i, i);
	}
	driver_set_status(driver, 0);
	driver_close(driver);
	served->driver = driver = front_driver_open(front, &served_packed);
	assert_true(driver_negotiate(driver, driver->offered));
	driver_start(driver);
	served_verify(driver, 0, 5, 5);
}

/* ---- Front ends that come and go ---- */

static void next_front_end_waits(void **state)
{
	struct served *served = served_create(state);
	struct virtio_driver *driver = served_run(served, &served_split);
	struct front_end *next = front_create(served->machine);
	int socket = front_connect(served->back_end.socket);
	struct front_message reply;

	assert_true(socket >= 0);
	front_attach(next, socket);
	next->timeout_ms = 200;
	assert_int_equal(front_begin(next), -ETIMEDOUT);
	served_write(driver, 0, 0, 1); /* the first is served */
	front_hang_up(served->front);
	next->timeout_ms = FRONT_TIMEOUT_MS;
	/* Now its GET_FEATURES is answered. */
	assert_int_equal(front_receive(next->socket, &reply, FRONT_TIMEOUT_MS), 0);
	assert_int_equal(reply.header.request, VHOST_USER_GET_FEATURES);
	assert_int_equal(front_begin(next), 0);
	front_destroy(next);
}

static void nothing_is_left_of_the_last_one(void **state)
{
	struct served *served = served_create(state);
	unsigned int fds, count = 0;
	uint64_t status;

	for (unsigned int i = 0; i < 10; i++) {
		served_connect(served);
		assert_int_equal(front_begin(served->front), 0);
		assert_int_equal(
			front_set_features(served->front,
					   BIT64(VIRTIO_F_VERSION_1) |
						   (i & 1 ? BIT64(VIRTIO_F_RING_PACKED) : 0)),
			0);
		assert_int_equal(front_inflight_get(served->front, 4, 128), 0);
		served_run(served, i & 1 ? &served_packed : &served_split);
		served_write(served->driver, 0, i, i);
		front_hang_up(served->front);
		driver_close(served->driver);
		served->driver = NULL;
		served_connect(served);
		assert_int_equal(front_begin(served->front), 0);
		assert_int_equal(front_get_u64(served->front, VHOST_USER_GET_STATUS, &status), 0);
		assert_int_equal(status, 0);
		fds = back_end_fds(&served->back_end);
		if (!i)
			count = fds;
		assert_int_equal(fds, count);
	}
}

#define PROTOCOL_TEST(function) cmocka_unit_test_teardown(function, served_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PROTOCOL_TEST(offers_what_it_should),
		PROTOCOL_TEST(features_are_set_again),
		PROTOCOL_TEST(old_front_end),
		PROTOCOL_TEST(without_each_protocol_feature),
		PROTOCOL_TEST(acknowledges_what_asks_for_it),
		PROTOCOL_TEST(answers_once),
		PROTOCOL_TEST(no_acknowledgement_unless_accepted),
		PROTOCOL_TEST(acknowledges_its_own_acceptance),
		PROTOCOL_TEST(messages_in_pieces),
		PROTOCOL_TEST(config_of_any_size),
		PROTOCOL_TEST(config_beyond),
		PROTOCOL_TEST(config_is_written),
		PROTOCOL_TEST(config_changes),
		PROTOCOL_TEST(channel_is_ignored),
		PROTOCOL_TEST(status_is_kept),
		PROTOCOL_TEST(broken_driver),
		PROTOCOL_TEST(broken_driver_migrates),
		PROTOCOL_TEST(reset_at_any_time),
		PROTOCOL_TEST(runs_without_driver_ok),
		PROTOCOL_TEST(no_legacy_driver),
		PROTOCOL_TEST(stop_and_start_again),
		PROTOCOL_TEST(next_front_end_waits),
		PROTOCOL_TEST(nothing_is_left_of_the_last_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
