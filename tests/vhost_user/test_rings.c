/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rings over vhost-user: started, stopped and gone on with, enabled and disabled, with and without
 * eventfds, many of them, in both formats, with every data byte looked at.
 */
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "served.h"

static const struct driver_params formats[] = {
	{ 0 },
	{ .event_idx = true },
	{ .indirect = true },
	{ .event_idx = true, .indirect = true },
	{ .packed = true },
	{ .packed = true, .event_idx = true },
	{ .packed = true, .indirect = true },
	{ .packed = true, .event_idx = true, .indirect = true },
};

/* The driver for the connection that there is, or a new one. */
static struct virtio_driver *run_again(struct served *served, const struct driver_params *params)
{
	driver_close(served->driver);
	served_connect(served);
	return served_run(served, params);
}

static void every_format(void **state)
{
	struct served *served = served_create(state);

	for (unsigned int i = 0; i < ARRAY_SIZE(formats); i++) {
		struct virtio_driver *driver = run_again(served, &formats[i]);

		assert_int_equal(driver->queue_count, SERVED_QUEUES);
		for (unsigned int j = 0; j < 300; j++) /* more than the ring has entries */
			served_write(driver, j % 2, j % 64, i * 1000 + j);
		for (unsigned int j = 300 - 64; j < 300; j++)
			served_verify(driver, 2 + j % 2, j % 64, i * 1000 + j);
	}
}

/* Request cut in every way over descriptors and the eventfd signalled for it. */
static void every_layout(void **state)
{
	struct served *served = served_create(state);
	struct virtio_driver *driver = served_run(served, &served_split);
	struct virtio_blk_outhdr header = { .type = VIRTIO_BLK_T_GET_ID };
	char id[VIRTIO_BLK_ID_BYTES + 1];

	for (unsigned int i = 0; i < driver_layout_count; i++) {
		driver_queue_interrupt(driver_queue(driver, 0));
		assert_int_equal(driver_request(driver_queue(driver, 0), &driver_layouts[i],
						&header, sizeof(header), id, sizeof(id)),
				 sizeof(id));
		assert_int_equal(id[VIRTIO_BLK_ID_BYTES], VIRTIO_BLK_S_OK);
		for (int wait = 0; !driver_queue_interrupt(driver_queue(driver, 0)); wait++) {
			assert_true(wait < 5000);
			usleep(1000);
		}
	}
}

/* GET_VRING_BASE: where a ring of @requests was stopped, as the document counts. */
static uint32_t expected_base(const struct driver_queue *queue, unsigned int requests)
{
	const struct ring *ring = &queue->ring;
	uint32_t position = ring->avail_idx | (uint32_t)ring->avail_wrap << 15;

	return ring->packed ? position | position << 16 : requests & 0xffff;
}

static void stop_and_go_on(void **state)
{
	struct served *served = served_create(state);
	struct front_end *front = served->front;

	for (unsigned int i = 0; i < ARRAY_SIZE(formats); i++) {
		struct virtio_driver *driver = run_again(served, &formats[i]);
		struct driver_queue *queue = driver_queue(driver, 1);

		for (unsigned int j = 0; j < 200; j++) {
			served_write(driver, 1, j % 64, i * 1000 + j);
			if (j % 7)
				continue;
			assert_int_equal(front_ring_stop(front, 1), 0);
			assert_int_equal(front->rings[1].base, expected_base(queue, j + 1));
			assert_int_equal(front_ring_start(front, queue), 0);
			assert_int_equal(front_ring_enable(front, 1, true), 0);
		}
		for (unsigned int j = 200 - 64; j < 200; j++)
			served_verify(driver, 1, j % 64, i * 1000 + j);
	}
}

/* What is in flight when the ring is stopped is done when GET_VRING_BASE is answered, or not taken. */
static void stop_with_requests_in_flight(void **state)
{
	struct served *served = served_create(state);
	struct front_end *front = served->front;
	struct served_request requests[16];

	for (unsigned int i = 0; i < ARRAY_SIZE(formats); i++) {
		struct virtio_driver *driver = run_again(served, &formats[i]);
		struct driver_queue *queue = driver_queue(driver, 0);

		for (unsigned int round = 0; round < 20; round++) {
			unsigned int done = 0;

			for (unsigned int j = 0; j < ARRAY_SIZE(requests); j++) {
				served_submit(driver, 0, VIRTIO_BLK_T_OUT, j, &requests[j]);
				served_pattern(requests[j].data, 512, round * 100 + j);
			}
			driver_kick(queue);
			assert_int_equal(front_ring_stop(front, 0), 0);
			while (driver_get_buf(queue, NULL))
				done++;
			assert_true(served_quiet(driver, 0, 1)); /* stopped is stopped */
			assert_int_equal(front_ring_start(front, queue), 0);
			assert_int_equal(front_ring_enable(front, 0, true), 0);
			front_kick(front, 0);
			for (; done < ARRAY_SIZE(requests); done++)
				assert_non_null(driver_wait_buf(queue, NULL, DRIVER_TIMEOUT_MS));
			for (unsigned int j = 0; j < ARRAY_SIZE(requests); j++)
				assert_int_equal(*requests[j].status, VIRTIO_BLK_S_OK);
			served_verify(driver, 1, round % 16, round * 100 + round % 16);
		}
	}
}

/* ---- A ring stopped with a chain half sent: a console whose peer reads slowly ---- */

#define SLOW_CHAINS 12U
#define SLOW_CHAIN KIB(64)
#define SLOW_BYTES (SLOW_CHAINS * SLOW_CHAIN)

/* struct slow - @peer: the other end of the port; @data: what the driver sends; @received bytes of it */
struct slow {
	struct served *served;
	int listener, peer;
	uint64_t gpa;
	uint8_t *data;
	size_t received;
};

static void slow_create(struct slow *slow, void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct served *served = served_create_stopped(state);

	slow->served = served;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/port", served->back_end.directory);
	snprintf(served->spec, sizeof(served->spec), "virtio-console,packed=on,port=x:socket:%s",
		 address.sun_path);
	slow->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(slow->listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(slow->listener, 1), 0);
	slow->gpa = guest_alloc(served->machine, SLOW_BYTES, 4096);
	slow->data = guest_ptr(served->machine, slow->gpa, SLOW_BYTES);
	served_pattern(slow->data, SLOW_BYTES, 7);
}

/* All chains are there for the device, and as many as go into the socket are sent. */
static struct driver_queue *slow_start(struct slow *slow, const struct driver_params *params)
{
	struct served *served = slow->served;
	struct driver_queue *queue;

	back_end_serve(&served->back_end, served->spec);
	served_connect(served);
	slow->peer = accept4(slow->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(slow->peer >= 0);
	slow->received = 0;
	driver_close(served->driver);
	queue = driver_queue(served_run(served, params), 1);
	for (unsigned int i = 0; i < SLOW_CHAINS; i++) {
		struct segment segment = { slow->gpa + i * SLOW_CHAIN, SLOW_CHAIN };

		assert_int_equal(driver_add_buf(queue, &segment, 1, 0, slow), 0);
	}
	driver_kick(queue);
	assert_non_null(driver_wait_buf(queue, NULL, DRIVER_TIMEOUT_MS));
	return queue;
}

static void slow_end(struct slow *slow)
{
	close(slow->peer);
	front_hang_up(slow->served->front);
	assert_int_equal(back_end_stop(&slow->served->back_end), 0);
}

/* The next bytes of what is sent, as far as they are there within @ms; false: none. */
static bool slow_read(struct slow *slow, int ms)
{
	struct pollfd readable = { .fd = slow->peer, .events = POLLIN };
	uint8_t data[8192];
	ssize_t len;

	if (poll(&readable, 1, ms) <= 0)
		return false;
	len = read(slow->peer, data, sizeof(data));
	assert_true(len > 0 && slow->received + (size_t)len <= SLOW_BYTES);
	assert_memory_equal(data, slow->data + slow->received, (size_t)len);
	slow->received += (size_t)len;
	return true;
}

/* What of a chain has gone out is not sent again when the ring goes on where it was. */
static void stop_with_a_chain_half_sent(void **state)
{
	struct slow slow;

	slow_create(&slow, state);
	for (unsigned int i = 0; i < ARRAY_SIZE(formats); i++) {
		struct driver_queue *queue = slow_start(&slow, &formats[i]);
		struct front_end *front = slow.served->front;

		while (slow.received < SLOW_BYTES) {
			assert_int_equal(front_ring_stop(front, 1), 0);
			assert_int_equal(front_ring_start(front, queue), 0);
			assert_int_equal(front_ring_enable(front, 1, true), 0);
			for (unsigned int j = 0; j < 8; j++)
				slow_read(&slow, j ? 0 : DRIVER_TIMEOUT_MS);
		}
		for (unsigned int j = 1; j < SLOW_CHAINS; j++)
			assert_non_null(driver_wait_buf(queue, NULL, DRIVER_TIMEOUT_MS));
		assert_false(slow_read(&slow, 1));
		slow_end(&slow);
	}
	close(slow.listener);
	back_end_serve(&slow.served->back_end, "virtio-rng"); /* for the end of the test */
}

/* It goes on elsewhere: all of the chain that is there is sent. */
static void go_on_elsewhere(void **state)
{
	struct slow slow;
	struct driver_queue *queue;
	struct front_end *front;

	slow_create(&slow, state);
	queue = slow_start(&slow, &formats[0]);
	front = slow.served->front;
	usleep(10000); /* the socket is full by now */
	assert_int_equal(front_ring_stop(front, 1), 0);
	while (slow_read(&slow, 20))
		;
	assert_true(slow.received % SLOW_CHAIN); /* no more comes of that one */
	slow.received += SLOW_CHAIN - slow.received % SLOW_CHAIN;
	front->rings[1].base++;
	assert_int_equal(front_ring_start(front, queue), 0);
	assert_int_equal(front_ring_enable(front, 1, true), 0);
	while (slow.received < SLOW_BYTES)
		assert_true(slow_read(&slow, DRIVER_TIMEOUT_MS));
	slow_end(&slow);
	close(slow.listener);
	back_end_serve(&slow.served->back_end, "virtio-rng"); /* for the end of the test */
}

/* What waits for a rate limit is not taken: to stop and go on is no way around it, and loses nothing. */
static void stop_under_limit(void **state)
{
	struct served *served = served_create_stopped(state);
	struct served_request requests[32];
	struct front_end *front = served->front;

	strcat(served->spec, ",iops=200,iops_burst=1");
	back_end_serve(&served->back_end, served->spec);
	served_connect(served);
	for (unsigned int i = 0; i < ARRAY_SIZE(formats); i++) {
		struct virtio_driver *driver = run_again(served, &formats[i]);
		struct driver_queue *queue = driver_queue(driver, 0);
		uint64_t start = served_now_ms();
		unsigned int done = 0;

		for (unsigned int j = 0; j < ARRAY_SIZE(requests); j++)
			served_submit(driver, 0, VIRTIO_BLK_T_IN, j, &requests[j]);
		for (unsigned int round = 0; round < 20; round++) {
			front_kick(front, 0);
			assert_int_equal(front_ring_stop(front, 0), 0);
			while (driver_get_buf(queue, NULL))
				done++;
			assert_int_equal(front_ring_start(front, queue), 0);
			assert_int_equal(front_ring_enable(front, 0, true), 0);
		}
		assert_in_range(done, 0, 2 + (served_now_ms() - start) / 5);
		front_kick(front, 0);
		for (; done < ARRAY_SIZE(requests); done++)
			assert_non_null(driver_wait_buf(queue, NULL, DRIVER_TIMEOUT_MS));
		for (unsigned int j = 0; j < ARRAY_SIZE(requests); j++)
			assert_int_equal(*requests[j].status, VIRTIO_BLK_S_OK);
	}
}

/* A disabled ring is not worked on, and nothing is lost: neither requests nor kicks. */
static void enable_and_disable(void **state)
{
	struct served *served = served_create(state);
	struct front_end *front = served->front;

	for (unsigned int i = 0; i < ARRAY_SIZE(formats); i++) {
		struct virtio_driver *driver = run_again(served, &formats[i]);
		struct served_request request;

		for (unsigned int round = 0; round < 5; round++) {
			assert_int_equal(front_ring_enable(front, 2, false), 0);
			served_submit(driver, 2, VIRTIO_BLK_T_OUT, 9, &request);
			served_pattern(request.data, 512, round);
			driver_kick(driver_queue(driver, 2));
			assert_true(served_quiet(driver, 2, 10));
			served_write(driver, 3, 10, round); /* the others go on */
			assert_int_equal(front_ring_enable(front, 2, true), 0);
			assert_ptr_equal(
				driver_wait_buf(driver_queue(driver, 2), NULL, DRIVER_TIMEOUT_MS),
				&request);
			served_verify(driver, 0, 9, round);
		}
	}
}

/* Without a kick descriptor the device polls; without a call descriptor the driver does. */
static void without_eventfds(void **state)
{
	struct served *served = served_create(state);
	struct front_end *front = served->front;
	uint64_t no_fd = VHOST_USER_VRING_NO_FD;

	for (unsigned int i = 0; i < ARRAY_SIZE(formats); i++) {
		struct virtio_driver *driver;
		struct served_request request;

		front->no_call = true;
		driver = run_again(served, &formats[i]);
		served_write(driver, 0, 3, i);
		assert_false(front_called(front, 0));
		assert_int_equal(front_ring_stop(front, 0), 0);
		assert_int_equal(front_ring_start(front, driver_queue(driver, 0)), 0);
		assert_int_equal(front_set_fd(front, VHOST_USER_SET_VRING_KICK, 0 | no_fd, -1), 0);
		assert_int_equal(front_ring_enable(front, 0, true), 0);
		for (unsigned int j = 0; j < 3; j++) {
			served_submit(driver, 0, VIRTIO_BLK_T_IN, 3, &request);
			assert_ptr_equal(
				driver_wait_buf(driver_queue(driver, 0), NULL, DRIVER_TIMEOUT_MS),
				&request);
		}
		served_verify(driver, 1, 3, i);
	}
}

/* Call descriptors are replaced while the ring runs. */
static void call_fd_is_replaced(void **state)
{
	struct served *served = served_create(state);
	struct front_end *front = served->front;
	struct virtio_driver *driver = served_run(served, &served_split);

	for (unsigned int i = 0; i < 20; i++) {
		struct served_request request;
		struct pollfd called = { .events = POLLIN };
		int spare = front->rings[0].call_fd;

		front->rings[0].call_fd = front->rings[1].call_fd;
		front->rings[1].call_fd = spare;
		called.fd = front->rings[0].call_fd;
		assert_int_equal(front_set_fd(front, VHOST_USER_SET_VRING_CALL, 0, called.fd), 0);
		assert_int_equal(front_set_fd(front, VHOST_USER_SET_VRING_CALL, 1, spare), 0);
		assert_true(front_called(front, 0)); /* as whenever one is set */
		served_submit(driver, 0, VIRTIO_BLK_T_IN, 0, &request);
		driver_kick(driver_queue(driver, 0));
		assert_int_equal(poll(&called, 1, DRIVER_TIMEOUT_MS), 1);
		assert_ptr_equal(driver_get_buf(driver_queue(driver, 0), NULL), &request);
	}
}

/* The one before may have been signalled in vain: QEMU's is masked until the rings run. */
static void call_fd_comes_late(void **state)
{
	struct served *served = served_create(state);
	struct front_end *front = served->front;
	struct virtio_driver *driver = served_run(served, &served_split);
	struct served_request request;
	struct pollfd called = { .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .events = POLLIN };

	served_submit(driver, 0, VIRTIO_BLK_T_IN, 0, &request);
	driver_kick(driver_queue(driver, 0));
	assert_ptr_equal(driver_wait_buf(driver_queue(driver, 0), NULL, DRIVER_TIMEOUT_MS),
			 &request);
	assert_int_equal(front_set_fd(front, VHOST_USER_SET_VRING_CALL, 0, called.fd), 0);
	assert_int_equal(poll(&called, 1, DRIVER_TIMEOUT_MS), 1);
	close(called.fd);
}

/* Rings of every size that is allowed, and none that is not. */
static void sizes(void **state)
{
	static const uint16_t good[] = { 4, 8, 64, 128, 256, 1024 },
			      bad[] = { 0, 1025, 32769, 65535 };
	struct served *served = served_create(state);
	struct front_end *front = served->front;

	for (unsigned int i = 0; i < ARRAY_SIZE(good); i++) {
		struct virtio_driver *driver;

		front->queue_size = good[i];
		driver = run_again(served, i & 1 ? &served_packed : &served_split);
		for (unsigned int j = 0; j < 10; j++)
			served_write(driver, 0, j, j);
		for (unsigned int j = 0; j < 10; j++)
			served_verify(driver, 1, j, j);
	}
	front_ring_stop(front, 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(front_set_state(front, VHOST_USER_SET_VRING_NUM, 0, bad[i]),
				 -EREMOTEIO);
}

/* A ring whose parts are not where there is memory is refused, or the device says that it is broken. */
static void ring_addresses(void **state)
{
	struct served *served = served_create(state);
	struct front_end *front = served->front;
	struct virtio_driver *driver = served_run(served, &served_split);
	uint64_t base = (uintptr_t)guest_ptr(served->machine, 0, 1);
	const uint64_t end = base + MACHINE_MEMORY;
	const uint64_t places[] = {
		0, base - 16, end - 16, end, end + 4096, UINT64_MAX - 15, 1, 8
	};

	for (unsigned int part = 0; part < 3; part++)
		for (unsigned int i = 0; i < ARRAY_SIZE(places); i++) {
			struct vhost_user_vring_addr addr = {
				.desc = base + driver->queues[0].ring.desc_gpa,
				.avail = base + driver->queues[0].ring.driver_gpa,
				.used = base + driver->queues[0].ring.device_gpa,
			};
			uint64_t *const parts[] = { &addr.desc, &addr.avail, &addr.used };
			int error;

			*parts[part] = places[i];
			assert_int_equal(front_ring_stop(front, 0), 0);
			error = front_send(front, VHOST_USER_SET_VRING_ADDR, &addr, sizeof(addr),
					   NULL, 0, true);
			if (!error)
				error = front_set_fd(front, VHOST_USER_SET_VRING_KICK, 0,
						     front->rings[0].kick_fd);
			if (!error)
				error = front_ring_enable(front, 0, true);
			if (!error)
				assert_true(driver_status(driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
			driver_restart(driver);
		}
	served_write(driver, 0, 0, 1);
	served_verify(driver, 1, 0, 1);
}

/* Requests on all queues at once, many in flight. */
static void many_queues_at_once(void **state)
{
	struct served *served = served_create(state);
	static struct served_request requests[SERVED_QUEUES][16];

	for (unsigned int i = 0; i < 2; i++) {
		struct virtio_driver *driver =
			run_again(served, i ? &served_packed : &served_split);

		for (unsigned int j = 0; j < SERVED_QUEUES * 16; j++) {
			struct served_request *request = &requests[j / 16][j % 16];

			served_submit(driver, j / 16, VIRTIO_BLK_T_OUT, j, request);
			served_pattern(request->data, 512, i * 100 + j);
		}
		for (unsigned int j = 0; j < SERVED_QUEUES; j++)
			driver_kick(driver_queue(driver, j));
		for (unsigned int j = 0; j < SERVED_QUEUES * 16; j++)
			assert_non_null(driver_wait_buf(driver_queue(driver, j / 16), NULL,
							DRIVER_TIMEOUT_MS));
		for (unsigned int j = 0; j < SERVED_QUEUES * 16; j++)
			served_verify(driver, j % SERVED_QUEUES, j, i * 100 + j);
	}
}

#define RING_TEST(function) cmocka_unit_test_teardown(function, served_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RING_TEST(every_format),
		RING_TEST(every_layout),
		RING_TEST(stop_and_go_on),
		RING_TEST(stop_with_requests_in_flight),
		RING_TEST(stop_with_a_chain_half_sent),
		RING_TEST(go_on_elsewhere),
		RING_TEST(stop_under_limit),
		RING_TEST(enable_and_disable),
		RING_TEST(without_eventfds),
		RING_TEST(call_fd_is_replaced),
		RING_TEST(call_fd_comes_late),
		RING_TEST(sizes),
		RING_TEST(ring_addresses),
		RING_TEST(many_queues_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
