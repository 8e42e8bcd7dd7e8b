/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-net's notification coalescing (virtio 1.4, 5.1.9.5.10) through the driver. The network is
 * backend=stream with a peer of ours, so that no root is needed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "../../devicemodel/hw/pci/virtio/virtio_net.h"
#include "net_stack.h"

#define SLOT 4
#define RX 0
#define TX 1
#define CONTROL 2
#define FRAME 60
#define FRAME_LARGE 4000
#define PIECES 4 /* descriptors of a buffer that has several */
#define LONG_USECS 1000000 /* longer than any test waits */
#define SHORT_USECS 20000

static const struct driver_params usual = { .indirect = true, .event_idx = true, .msix = true };

struct bench {
	struct machine *machine;
	struct virtio_driver *driver;
	char folder[32];
	int peer;
	unsigned int outstanding; /* frames being sent */
	uint64_t packet;
};

static int bench_setup(void **state)
{
	struct bench *bench = test_calloc(1, sizeof(*bench));

	strcpy(bench->folder, "/tmp/tenon-coal-XXXXXX");
	assert_non_null(mkdtemp(bench->folder));
	bench->peer = -1;
	*state = bench;
	return 0;
}

static void bench_close(struct bench *bench)
{
	if (bench->peer >= 0)
		close(bench->peer);
	bench->peer = -1;
	driver_close(bench->driver);
	bench->driver = NULL;
	machine_destroy(bench->machine);
	bench->machine = NULL;
}

static int bench_teardown(void **state)
{
	struct bench *bench = *state;

	bench_close(bench);
	rmdir(bench->folder);
	test_free(bench);
	return 0;
}

/* @count buffers of 128 bytes, in @pieces descriptors. */
static void rx_fill_pieces(struct bench *bench, unsigned int count, unsigned int pieces)
{
	struct driver_queue *queue = driver_queue(bench->driver, RX);
	const uint32_t cut = 128 / pieces;

	for (unsigned int i = 0; i < count; i++) {
		struct segment segments[PIECES];

		segments_cut(segments, pieces, guest_alloc(bench->machine, 128, 16), 128, &cut, 1);
		assert_int_equal(driver_add_buf(queue, segments, 0, pieces, bench), 0);
	}
	driver_kick(queue);
	machine_poll(bench->machine);
}

static void rx_fill(struct bench *bench)
{
	rx_fill_pieces(bench, 100, 1);
}

static void bench_start(struct bench *bench, const struct driver_params *params, uint64_t without)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char spec[200];

	bench->machine = machine_create(NULL);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/net", bench->folder);
	snprintf(spec, sizeof(spec),
		 "%d,virtio-net,backend=stream,server=on,vq_coalesce=on,packed=on,path=%s", SLOT,
		 address.sun_path);
	machine_add(bench->machine, spec);
	bench->peer = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(bench->peer, (struct sockaddr *)&address, sizeof(address)), 0);
	bench->driver = driver_run(bench->machine, SLOT, params, without);
	bench->packet = guest_alloc(bench->machine, 12 + FRAME, 16);
	machine_poll(bench->machine);
	rx_fill(bench);
}

/* ---- Commands ---- */

static uint8_t command(struct bench *bench, uint8_t cmd, const void *data, uint32_t len, void *in,
		       uint32_t in_len)
{
	uint8_t out[64] = { VIRTIO_NET_CTRL_NOTF_COAL, cmd }, answer[32];
	uint32_t used;

	memcpy(out + 2, data, len);
	used = driver_request(driver_queue(bench->driver, CONTROL), &driver_layouts[0], out,
			      2 + len, answer, 1 + in_len);
	if (answer[0] == VIRTIO_NET_OK && in_len) {
		assert_int_equal(used, 1 + in_len);
		memcpy(in, answer + 1, in_len);
	} else {
		assert_int_equal(used, 1);
	}
	return answer[0];
}

static uint8_t set_all(struct bench *bench, uint8_t cmd, uint32_t packets, uint32_t usecs)
{
	const uint32_t data[] = { packets, usecs };

	return command(bench, cmd, data, sizeof(data), NULL, 0);
}

static uint8_t set_queue(struct bench *bench, uint16_t index, uint32_t packets, uint32_t usecs)
{
	/* the reserved half is not looked at */
	const uint32_t data[] = { index | 0xabcd0000, packets, usecs };

	return command(bench, VIRTIO_NET_CTRL_NOTF_COAL_VQ_SET, data, sizeof(data), NULL, 0);
}

static uint8_t get_queue(struct bench *bench, uint16_t index, uint32_t values[2])
{
	const uint32_t data = index | 0x12340000;

	return command(bench, VIRTIO_NET_CTRL_NOTF_COAL_VQ_GET, &data, sizeof(data), values, 8);
}

static void expect_values(struct bench *bench, uint16_t index, uint32_t packets, uint32_t usecs)
{
	uint32_t values[2];

	assert_int_equal(get_queue(bench, index, values), VIRTIO_NET_OK);
	assert_int_equal(values[0], packets);
	assert_int_equal(values[1], usecs);
}

/* ---- Frames ---- */

static void receive_frame(struct bench *bench, uint32_t len)
{
	uint8_t bytes[4 + FRAME_LARGE] = { 0, 0, (uint8_t)(len >> 8), (uint8_t)len };

	memset(bytes + 4, 0xff, ETH_ALEN);
	assert_int_equal(send(bench->peer, bytes, 4 + len, 0), 4 + len);
}

static void receive_frames(struct bench *bench, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		receive_frame(bench, FRAME);
	machine_poll(bench->machine);
}

/* Each in @pieces descriptors. */
static void send_frames_pieces(struct bench *bench, unsigned int count, unsigned int pieces)
{
	struct driver_queue *queue = driver_queue(bench->driver, TX);
	const uint32_t cut = (12 + FRAME) / pieces;
	struct segment segments[PIECES];

	segments_cut(segments, pieces, bench->packet, 12 + FRAME, &cut, 1);
	for (unsigned int i = 0; i < count; i++)
		assert_int_equal(driver_add_buf(queue, segments, pieces, 0, bench), 0);
	driver_kick(queue);
	machine_poll(bench->machine);
}

static void send_frames(struct bench *bench, unsigned int count)
{
	send_frames_pieces(bench, count, 1);
}

/* The driver saw @count used buffers, and was notified if there are any. */
static void expect_used(struct bench *bench, unsigned int index, unsigned int count)
{
	struct driver_queue *queue = driver_queue(bench->driver, index);
	unsigned int used = 0;

	assert_int_equal(driver_queue_interrupt(queue), count > 0);
	while (driver_get_buf(queue, NULL))
		used++;
	assert_int_equal(used, count);
	(void)driver_enable_cb(queue);
}

static void pass(struct bench *bench, unsigned int index, unsigned int count)
{
	if (index == RX)
		receive_frames(bench, count);
	else
		send_frames(bench, count);
}

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* ---- Tests ---- */

/* So many frames without a notification, and not one more; in each way to drive it. */
static void test_packets(void **state)
{
	struct bench *bench = *state;

	for (unsigned int i = 0; i < DRIVER_COMBINATIONS; i++) {
		struct driver_params params = driver_params_at(i);

		if (params.legacy || !params.msix)
			continue;
		bench_start(bench, &params, 0);
		for (unsigned int queue = RX; queue <= TX; queue++) {
			assert_int_equal(set_queue(bench, (uint16_t)queue, 10, LONG_USECS),
					 VIRTIO_NET_OK);
			for (unsigned int round = 0; round < 3; round++) {
				pass(bench, queue, 4);
				expect_used(bench, queue, 0);
				pass(bench, queue, 5);
				expect_used(bench, queue, 0);
				pass(bench, queue, 1);
				expect_used(bench, queue, 10);
			}
		}
		bench_close(bench);
	}
}

/* A single frame is told of when its time is over, not before. */
static void test_usecs(void **state)
{
	struct bench *bench = *state;

	bench_start(bench, &usual, 0);
	for (unsigned int queue = RX; queue <= TX; queue++) {
		uint64_t start;

		assert_int_equal(set_queue(bench, (uint16_t)queue, 50, SHORT_USECS), VIRTIO_NET_OK);
		start = now_us();
		pass(bench, queue, 1);
		if (now_us() - start < SHORT_USECS)
			expect_used(bench, queue, 0);
		assert_ptr_equal(driver_wait_buf(driver_queue(bench->driver, queue), NULL,
						 DRIVER_TIMEOUT_MS),
				 bench);
		assert_true(now_us() - start >= SHORT_USECS);
		assert_true(driver_queue_interrupt(driver_queue(bench->driver, queue)));
	}
}

/* One of them 0: each frame is told of at once. */
static void test_zero(void **state)
{
	struct bench *bench = *state;

	bench_start(bench, &usual, 0);
	for (unsigned int queue = RX; queue <= TX; queue++) {
		assert_int_equal(set_queue(bench, (uint16_t)queue, 0, LONG_USECS), VIRTIO_NET_OK);
		pass(bench, queue, 1);
		expect_used(bench, queue, 1);
		assert_int_equal(set_queue(bench, (uint16_t)queue, 50, 0), VIRTIO_NET_OK);
		pass(bench, queue, 1);
		expect_used(bench, queue, 1);
	}
}

/* What waits is told of when the parameters change; and all queues have their kind's. */
static void test_set_all(void **state)
{
	struct bench *bench = *state;

	bench_start(bench, &usual, 0);
	expect_values(bench, RX, 0, 0);
	assert_int_equal(set_all(bench, VIRTIO_NET_CTRL_NOTF_COAL_RX_SET, 20, LONG_USECS),
			 VIRTIO_NET_OK);
	assert_int_equal(set_all(bench, VIRTIO_NET_CTRL_NOTF_COAL_TX_SET, 30, 500), VIRTIO_NET_OK);
	expect_values(bench, RX, 20, LONG_USECS);
	expect_values(bench, TX, 30, 500);
	receive_frames(bench, 5);
	expect_used(bench, RX, 0);
	assert_int_equal(set_all(bench, VIRTIO_NET_CTRL_NOTF_COAL_RX_SET, 0, 0), VIRTIO_NET_OK);
	expect_used(bench, RX, 5);
}

static void test_refused(void **state)
{
	const uint32_t data[4] = { 0 };
	struct bench *bench = *state;
	uint32_t values[2];

	bench_start(bench, &usual, 0);
	assert_int_equal(set_queue(bench, RX, 7, 70), VIRTIO_NET_OK);
	assert_int_equal(set_queue(bench, RX, 1, 1000001), VIRTIO_NET_ERR);
	assert_int_equal(set_queue(bench, RX, 1, 0xffffffff), VIRTIO_NET_ERR);
	assert_int_equal(set_all(bench, VIRTIO_NET_CTRL_NOTF_COAL_RX_SET, 1, 0xffffffff),
			 VIRTIO_NET_ERR);
	assert_int_equal(set_queue(bench, CONTROL, 1, 1), VIRTIO_NET_ERR);
	assert_int_equal(set_queue(bench, 3, 1, 1), VIRTIO_NET_ERR);
	assert_int_equal(set_queue(bench, 0xffff, 1, 1), VIRTIO_NET_ERR);
	assert_int_equal(get_queue(bench, CONTROL, values), VIRTIO_NET_ERR);
	assert_int_equal(get_queue(bench, 0xffff, values), VIRTIO_NET_ERR);
	for (uint8_t cmd = 0; cmd < 6; cmd++)
		for (uint32_t len = 0; len <= sizeof(data); len++) {
			static const uint32_t right[] = { 8, 8, 12, 4, 99, 99 };

			if (len != right[cmd])
				assert_int_equal(command(bench, cmd, data, len, NULL, 0),
						 VIRTIO_NET_ERR);
		}
	expect_values(bench, RX, 7, 70);

	/* a queue that is not enabled */
	driver_common_out(bench->driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, TX);
	driver_common_out(bench->driver, 58 /* queue_reset */, 2, 1);
	assert_int_equal(set_queue(bench, TX, 1, 1), VIRTIO_NET_ERR);
	assert_int_equal(get_queue(bench, TX, values), VIRTIO_NET_ERR);
	bench_close(bench);

	/* without the features */
	bench_start(bench, &usual, BIT64(52) | BIT64(53));
	for (uint8_t cmd = 0; cmd < 4; cmd++) {
		static const uint32_t right[] = { 8, 8, 12, 4 };

		assert_int_equal(command(bench, cmd, data, right[cmd], NULL, 0), VIRTIO_NET_ERR);
	}
}

/* A queue that is enabled again has what was said for all of its kind, and a reset forgets that. */
static void test_resets(void **state)
{
	static const uint8_t commands[] = { VIRTIO_NET_CTRL_NOTF_COAL_RX_SET,
					    VIRTIO_NET_CTRL_NOTF_COAL_TX_SET };
	struct bench *bench = *state;

	bench_start(bench, &usual, 0);
	for (uint16_t queue = RX; queue <= TX; queue++) {
		for (unsigned int round = 0; round < 2; round++) {
			uint32_t all = round ? 33 : 0;

			if (round)
				assert_int_equal(set_all(bench, commands[queue], all, all),
						 VIRTIO_NET_OK);
			assert_int_equal(set_queue(bench, queue, 5, LONG_USECS), VIRTIO_NET_OK);
			pass(bench, queue, 1); /* what waits is gone with the queue */
			driver_common_out(bench->driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
			driver_common_out(bench->driver, 58 /* queue_reset */, 2, 1);
			driver_queue_setup(bench->driver, queue, 0);
			expect_values(bench, queue, all, all);
			if (queue == RX)
				rx_fill(bench);
		}
	}
	driver_restart(bench->driver);
	rx_fill(bench);
	expect_values(bench, RX, 0, 0);
	expect_values(bench, TX, 0, 0);
	receive_frames(bench, 1);
	expect_used(bench, RX, 1);
}

/* A transmit queue that comes anew is no matter of the receive queue's. */
static void test_transmit_queue_reset(void **state)
{
	struct bench *bench = *state;

	bench_start(bench, &usual, 0);
	driver_common_out(bench->driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, TX);
	driver_common_out(bench->driver, 58 /* queue_reset */, 2, 1);
	receive_frames(bench, 1);
	expect_used(bench, RX, 1);
	driver_queue_setup(bench->driver, TX, 0);
	receive_frames(bench, 1);
	expect_used(bench, RX, 1);
	send_frames(bench, 1);
	expect_used(bench, TX, 1);
}

/* Who asked not to be notified is not, however long it takes. */
static void test_suppressed(void **state)
{
	struct bench *bench = *state;
	struct driver_params params = usual;

	params.event_idx = false;
	bench_start(bench, &params, 0);
	for (uint16_t queue = RX; queue <= TX; queue++) {
		assert_int_equal(set_queue(bench, queue, 3, LONG_USECS), VIRTIO_NET_OK);
		driver_disable_cb(driver_queue(bench->driver, queue));
		pass(bench, queue, 3);
		assert_false(driver_queue_interrupt(driver_queue(bench->driver, queue)));
		assert_true(driver_pending(driver_queue(bench->driver, queue)));
	}
}

/* A driver that is out of buffers is told at once, and one whose ring is small in time. */
static void test_no_deadlock(void **state)
{
	struct bench *bench = *state;

	bench_start(bench, &usual, 0);
	assert_int_equal(set_queue(bench, RX, 1000, LONG_USECS), VIRTIO_NET_OK);
	receive_frames(bench, 100);
	expect_used(bench, RX, 100);
	assert_int_equal(set_queue(bench, TX, 0xffffffff, LONG_USECS), VIRTIO_NET_OK);
	send_frames(bench, 127);
	expect_used(bench, TX, 0);
	send_frames(bench, 1);
	expect_used(bench, TX, 128);
}

/* A frame that needs more buffers than are left brings those that were used before it. */
static void test_no_deadlock_for_large_frames(void **state)
{
	struct bench *bench = *state;

	bench_start(bench, &usual, 0);
	assert_int_equal(set_queue(bench, RX, 1000, LONG_USECS), VIRTIO_NET_OK);
	for (unsigned int i = 0; i < 3; i++)
		receive_frame(bench, FRAME_LARGE);
	machine_poll(bench->machine);
	expect_used(bench, RX, 0);
	receive_frame(bench, FRAME_LARGE);
	machine_poll(bench->machine);
	expect_used(bench, RX, 96);
	rx_fill(bench);
	assert_int_equal(set_queue(bench, RX, 0, 0), VIRTIO_NET_OK);
	expect_used(bench, RX, 32);
}

/* What half of the ring is goes by descriptors, of which an indirect table is one. */
static void test_no_deadlock_for_long_chains(void **state)
{
	struct bench *bench = *state;

	for (unsigned int i = 0; i < 4; i++) {
		struct driver_params params = usual;
		unsigned int half;

		params.packed = i & 1;
		params.indirect = i & 2;
		half = params.indirect ? 128 : 128 / PIECES;
		bench_start(bench, &params, 0);
		receive_frames(bench, 100);
		expect_used(bench, RX, 100);
		rx_fill_pieces(bench, half + 1, PIECES);
		for (uint16_t queue = RX; queue <= TX; queue++)
			assert_int_equal(set_queue(bench, queue, 1000, LONG_USECS), VIRTIO_NET_OK);
		receive_frames(bench, half - 1);
		expect_used(bench, RX, 0);
		receive_frames(bench, 1);
		expect_used(bench, RX, half);
		send_frames_pieces(bench, half - 1, PIECES);
		expect_used(bench, TX, 0);
		send_frames_pieces(bench, 1, PIECES);
		expect_used(bench, TX, half);
		bench_close(bench);
	}
}

/* While the device stands still nothing is held back: what is saved is what the driver sees. */
static void test_quiesce(void **state)
{
	struct bench *bench = *state;

	bench_start(bench, &usual, 0);
	assert_int_equal(set_queue(bench, TX, 100, LONG_USECS), VIRTIO_NET_OK);
	send_frames(bench, 3);
	expect_used(bench, TX, 0);
	pci_quiesce_devices(bench->machine->ctx);
	expect_used(bench, TX, 3);
	pci_resume_devices(bench->machine->ctx);
	expect_values(bench, TX, 100, LONG_USECS);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, bench_setup, bench_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_packets),
		TEST(test_usecs),
		TEST(test_zero),
		TEST(test_set_all),
		TEST(test_refused),
		TEST(test_resets),
		TEST(test_suppressed),
		TEST(test_no_deadlock),
		TEST(test_quiesce),
		TEST(test_no_deadlock_for_large_frames),
		TEST(test_no_deadlock_for_long_chains),
		TEST(test_transmit_queue_reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
