/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-net with several queue pairs (virtio 1.4, 5.1.2 and 5.1.9.5.6) through the driver, on a
 * real tap in a network namespace of its own. Needs root and /dev/net/tun.
 */

#include "net_flows.h"

#define PAIRS 3
#define CONTROL (2 * PAIRS)
#define CONTROL_ALONE 2 /* without MQ */
#define MQ (BIT64(VIRTIO_NET_F_MQ) | BIT64(60)) /* or RSS, which has several pairs as well */
#define FLOWS 12
#define COMMANDS 50

static void bench_start(struct bench *bench, const struct driver_params *params, unsigned int pairs,
			uint64_t without)
{
	char spec[100];

	bench_machine(bench, params->ioeventfd);
	snprintf(spec, sizeof(spec), "%d,virtio-net,tap=%s,mac=02:11:22:33:44:55,queues=%u", SLOT,
		 TAP, pairs);
	machine_add(bench->machine, spec);
	machine_log_clear(bench->machine);
	bench->peer = lab_packet_socket(TAP, 0);
	assert_true(bench->peer >= 0);
	bench->driver = driver_run(bench->machine, SLOT, params, without);
	assert_int_equal(bench->driver->queue_count, 2 * pairs + 1);
}

static uint8_t set_pairs(struct bench *bench, uint16_t pairs)
{
	return set_pairs_of(bench, CONTROL, &pairs, sizeof(pairs));
}

/* ---- Tests ---- */

/* What was sent on a queue before it came into use goes out then: the driver kicks only once. */
static void test_sent_before_used(void **state)
{
	struct bench *bench = *state;

	for (unsigned int i = 0; i < 2; i++) {
		struct driver_params params = usual;
		struct wire_read wire;
		struct segment segment;

		params.event_idx = i;
		bench_start(bench, &params, PAIRS, 0);
		segment = (struct segment) { guest_alloc(bench->machine, HEADER + FRAME, 1),
					     HEADER + FRAME };
		frame_make(guest_ptr(bench->machine, segment.gpa + HEADER, FRAME), 5, false);
		assert_int_equal(
			driver_add_buf(driver_queue(bench->driver, TX(2)), &segment, 1, 0, bench),
			0);
		driver_kick(driver_queue(bench->driver, TX(2)));
		machine_poll(bench->machine);
		assert_null(driver_get_buf(driver_queue(bench->driver, TX(2)), NULL));
		assert_int_equal(set_pairs(bench, PAIRS), VIRTIO_NET_OK);
		wire = (struct wire_read) { .fd = bench->peer };
		assert_true(machine_wait(bench->machine, wire_read_done, &wire, DRIVER_TIMEOUT_MS));
		assert_ptr_equal(driver_wait_buf(driver_queue(bench->driver, TX(2)), NULL,
						 DRIVER_TIMEOUT_MS),
				 bench);
		bench_close(bench);
	}
}

static void test_offered(void **state)
{
	struct bench *bench = *state;

	bench_start(bench, &usual, 1, 0);
	assert_false(bench->driver->offered & MQ);
	bench_close(bench);
	bench_start(bench, &usual, PAIRS, 0);
	assert_true(driver_has(bench->driver, VIRTIO_NET_F_MQ));
	assert_int_equal(driver_config(bench->driver,
				       offsetof(struct virtio_net_config, max_virtqueue_pairs), 2),
			 PAIRS);
}

/* Replies come by the queue that the flow is sent on (5.1.9.5.6), in each way to drive it. */
static void test_steering(void **state)
{
	struct bench *bench = *state;

	for (unsigned int i = 0; i < DRIVER_COMBINATIONS; i++) {
		struct driver_params params = driver_params_at(i);

		bench_start(bench, &params, PAIRS, 0);
		assert_int_equal(set_pairs(bench, PAIRS), VIRTIO_NET_OK);
		for (unsigned int pair = 0; pair < PAIRS; pair++)
			rx_fill(bench, RX(pair));
		for (uint8_t flow = 0; flow < FLOWS; flow++) {
			unsigned int pair = flow % PAIRS;

			transmit(bench, pair, flow);
			wire_send(bench, flow);
			assert_int_equal(rx_take(bench, RX(pair), DRIVER_TIMEOUT_MS), flow);
			assert_true(driver_queue_interrupt(driver_queue(bench->driver, RX(pair))));
		}
		assert_int_equal(bench->machine->captured.count, 0);
		bench_close(bench);
	}
}

/* All frames of many flows by receiveq1, and none by another one. */
static void expect_first_only(struct bench *bench)
{
	for (uint8_t flow = 0; flow < FLOWS; flow++) {
		wire_send(bench, flow);
		assert_int_equal(rx_take(bench, RX(0), DRIVER_TIMEOUT_MS), flow);
	}
	for (unsigned int pair = 1; pair < PAIRS; pair++)
		assert_int_equal(rx_take(bench, RX(pair), 1), -1);
}

/* Before the command, after it says 1, and after a reset. */
static void test_first_only(void **state)
{
	struct bench *bench = *state;

	bench_start(bench, &usual, PAIRS, 0);
	for (unsigned int pair = 0; pair < PAIRS; pair++)
		rx_fill(bench, RX(pair));
	expect_first_only(bench);
	assert_int_equal(set_pairs(bench, 2), VIRTIO_NET_OK);
	assert_int_equal(set_pairs(bench, 1), VIRTIO_NET_OK);
	rx_fill(bench, RX(0));
	expect_first_only(bench);
	assert_int_equal(set_pairs(bench, PAIRS), VIRTIO_NET_OK);
	driver_restart(bench->driver);
	for (unsigned int pair = 0; pair < PAIRS; pair++)
		rx_fill(bench, RX(pair));
	expect_first_only(bench);
	assert_int_equal(bench->machine->captured.count, 0);
}

/* A pair that is not used for a while has lost no buffer, and used none. */
static void test_fewer_and_more(void **state)
{
	struct bench *bench = *state;

	bench_start(bench, &usual, PAIRS, 0);
	for (unsigned int pair = 0; pair < PAIRS; pair++)
		rx_fill(bench, RX(pair));
	for (uint8_t flow = 0; flow < BUFFERS; flow++) {
		assert_int_equal(set_pairs(bench, PAIRS), VIRTIO_NET_OK);
		transmit(bench, PAIRS - 1, flow);
		wire_send(bench, flow);
		assert_int_equal(rx_take(bench, RX(PAIRS - 1), DRIVER_TIMEOUT_MS), flow);
		assert_int_equal(set_pairs(bench, 2), VIRTIO_NET_OK);
		for (unsigned int i = 0; i < 3; i++)
			wire_send(bench, flow);
		assert_int_equal(rx_take(bench, RX(PAIRS - 1), 1), -1);
	}
	/* That was all that it had. */
	assert_int_equal(set_pairs(bench, PAIRS), VIRTIO_NET_OK);
	transmit(bench, PAIRS - 1, 99);
	wire_send(bench, 99);
	assert_int_equal(rx_take(bench, RX(PAIRS - 1), 1), -1);
	rx_fill(bench, RX(PAIRS - 1));
	assert_int_equal(rx_take(bench, RX(PAIRS - 1), DRIVER_TIMEOUT_MS), 99);
}

/* Many at once, with one kick: all are answered, though not in one turn. */
static void test_many_commands(void **state)
{
	struct bench *bench = *state;
	struct driver_queue *queue;
	uint64_t gpa;

	bench_start(bench, &usual, PAIRS, 0);
	queue = driver_queue(bench->driver, CONTROL);
	gpa = guest_alloc(bench->machine, 5 * COMMANDS, 1);
	for (unsigned int i = 0; i < COMMANDS; i++) {
		uint8_t *out = guest_ptr(bench->machine, gpa + 5 * i, 5);
		struct segment segments[] = { { gpa + 5 * i, 4 }, { gpa + 5 * i + 4, 1 } };
		const uint8_t bytes[] = { VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET,
					  (uint8_t)(1 + i % PAIRS), 0, DRIVER_POISON };

		memcpy(out, bytes, sizeof(bytes));
		assert_int_equal(driver_add_buf(queue, segments, 1, 1, out), 0);
	}
	driver_kick(queue);
	for (unsigned int i = 0; i < COMMANDS; i++) {
		uint8_t *out = driver_wait_buf(queue, NULL, DRIVER_TIMEOUT_MS);

		assert_non_null(out);
		assert_int_equal(out[4], VIRTIO_NET_OK);
	}
}

static void test_refused(void **state)
{
	static const uint8_t bytes[] = { 1, 0, 0 };
	struct bench *bench = *state;

	bench_start(bench, &usual, PAIRS, 0);
	rx_fill(bench, RX(0));
	assert_int_equal(set_pairs(bench, 0), VIRTIO_NET_ERR);
	assert_int_equal(set_pairs(bench, PAIRS + 1), VIRTIO_NET_ERR);
	assert_int_equal(set_pairs(bench, 0x100), VIRTIO_NET_ERR);
	assert_int_equal(set_pairs(bench, 0xffff), VIRTIO_NET_ERR);
	for (uint32_t len = 0; len <= sizeof(bytes); len++)
		assert_int_equal(set_pairs_of(bench, CONTROL, bytes, len),
				 len == 2 ? VIRTIO_NET_OK : VIRTIO_NET_ERR);
	wire_send(bench, 5);
	assert_int_equal(rx_take(bench, RX(0), DRIVER_TIMEOUT_MS), 5);
}

/* 5.1.2: then the control queue is the third one, and those behind it are nothing. */
static void test_not_negotiated(void **state)
{
	struct bench *bench = *state;
	uint16_t pairs = 2;

	for (unsigned int i = 0; i < 2; i++) {
		struct driver_params params = usual;
		uint8_t promisc[] = { VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 1 }, ack;

		params.legacy = i;
		bench_start(bench, &params, PAIRS, MQ);
		rx_fill(bench, RX(0));
		assert_int_equal(driver_request(driver_queue(bench->driver, CONTROL_ALONE),
						&driver_layouts[0], promisc, sizeof(promisc), &ack,
						1),
				 1);
		assert_int_equal(ack, VIRTIO_NET_OK);
		assert_int_equal(set_pairs_of(bench, CONTROL_ALONE, &pairs, 2), VIRTIO_NET_ERR);
		for (unsigned int queue = CONTROL_ALONE + 1; queue <= CONTROL; queue++) {
			rx_fill(bench, queue);
			assert_int_equal(rx_take(bench, queue, 1), -1);
		}
		expect_first_only(bench);
		transmit(bench, 0, 1);
		bench_close(bench);
	}
}

static void queue_reset(struct bench *bench, unsigned int queue)
{
	driver_common_out(bench->driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
	driver_common_out(bench->driver, VIRTIO_PCI_COMMON_Q_RESET, 2, 1);
}

/* A queue that is reset and set up again goes on; the others do all the while. */
static void test_queue_reset(void **state)
{
	struct bench *bench = *state;

	bench_start(bench, &usual, PAIRS, 0);
	assert_int_equal(set_pairs(bench, PAIRS), VIRTIO_NET_OK);
	for (unsigned int pair = 0; pair < PAIRS; pair++)
		rx_fill(bench, RX(pair));
	queue_reset(bench, RX(1));
	for (unsigned int pair = 0; pair < PAIRS; pair += 2) {
		transmit(bench, pair, (uint8_t)pair);
		wire_send(bench, (uint8_t)pair);
		assert_int_equal(rx_take(bench, RX(pair), DRIVER_TIMEOUT_MS), pair);
	}
	driver_queue_setup(bench->driver, RX(1), 0);
	rx_fill(bench, RX(1));
	transmit(bench, 1, 77);
	wire_send(bench, 77);
	assert_int_equal(rx_take(bench, RX(1), DRIVER_TIMEOUT_MS), 77);
	queue_reset(bench, TX(1));
	wire_send(bench, 77);
	assert_int_equal(rx_take(bench, RX(1), DRIVER_TIMEOUT_MS), 77);
}

/*
 * A driver whose rings say how many pairs are used, as behind a vhost-user front end: the next one
 * says so by a command, which counts however early it comes.
 */
static void test_by_rings_until_reset(void **state)
{
	struct bench *bench = *state;
	struct driver_params legacy = { .legacy = true };

	bench_start(bench, &usual, PAIRS, 0);
	driver_set_status(bench->driver, 0);
	driver_close(bench->driver);
	bench->driver = driver_open(bench->machine, SLOT, &usual);
	assert_true(driver_negotiate(bench->driver, bench->driver->offered));
	for (uint16_t queue = 0; queue <= TX(1); queue++)
		driver_queue_setup(bench->driver, queue, 0);
	driver_set_status(bench->driver, VIRTIO_CONFIG_S_DRIVER_OK);
	rx_fill(bench, RX(1));
	transmit(bench, 1, 33);
	wire_send(bench, 33);
	assert_int_equal(rx_take(bench, RX(1), DRIVER_TIMEOUT_MS), 33);
	driver_set_status(bench->driver, 0);
	driver_close(bench->driver);

	bench->driver = driver_open(bench->machine, SLOT, &legacy);
	assert_true(driver_negotiate(bench->driver, bench->driver->offered));
	for (uint16_t queue = 0; queue <= CONTROL; queue++)
		driver_queue_setup(bench->driver, queue, 0);
	assert_int_equal(set_pairs(bench, 2), VIRTIO_NET_OK);
	driver_set_status(bench->driver, VIRTIO_CONFIG_S_DRIVER_OK);
	rx_fill(bench, RX(1));
	transmit(bench, 1, 44);
	wire_send(bench, 44);
	assert_int_equal(rx_take(bench, RX(1), DRIVER_TIMEOUT_MS), 44);
}

/* One line each, and nothing left behind. */
static void test_specs(void **state)
{
	static const struct {
		int flags; /* of an interface that is there before; 0: none */
		const char *spec, *says;
	} cases[] = {
		{ 0, "virtio-net,tap=" TAP ",queues=0", "queues=0" },
		{ 0, "virtio-net,tap=" TAP ",queues=17", "1..16" },
		{ 0, "virtio-net,fd=0x7ffffffe,queues=2", "is one queue" },
		{ IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, "virtio-net,tap=" TAP ",queues=2",
		  "mode tap multi_queue" },
		{ IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE, "virtio-net,tap=" TAP,
		  "without multi_queue" },
		{ IFF_TUN | IFF_NO_PI, "virtio-net,tap=" TAP ",queues=2", "is a tun" },
	};
	struct bench *bench = *state;

	bench_machine(bench, usual.ioeventfd);
	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		if (cases[i].flags)
			assert_int_equal(lab_add(TAP, cases[i].flags, -1), 0);
		machine_log_clear(bench->machine);
		if (pci_add_device(bench->machine->ctx, cases[i].spec))
			fail_msg("accepted: %s", cases[i].spec);
		assert_int_equal(bench->machine->captured.count, 1);
		assert_logged(bench->machine, cases[i].says);
		assert_int_equal(lab_exists(TAP), cases[i].flags != 0);
		if (cases[i].flags)
			assert_int_equal(lab_delete(TAP), 0);
	}
}

/* The kernel would let us in. */
static void test_in_use(void **state)
{
	const int flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE;
	struct bench *bench = *state;
	int other;

	bench_machine(bench, usual.ioeventfd);
	assert_int_equal(lab_add(TAP, flags, -1), 0);
	assert_int_equal(lab_set_up(TAP, true), 0);
	other = lab_open_tun(TAP, flags);
	assert_true(other >= 0);
	machine_log_clear(bench->machine);
	assert_null(pci_add_device(bench->machine->ctx, "virtio-net,tap=" TAP ",queues=2"));
	assert_int_equal(bench->machine->captured.count, 1);
	assert_logged(bench->machine, "in use by another process");
	close(other);
	assert_non_null(pci_add_device(bench->machine->ctx, "virtio-net,tap=" TAP ",queues=2"));
}

/* An interface that stays, with all of its queues; and taken away while they are used. */
static void test_interface(void **state)
{
	struct bench *bench = *state;

	if (!lab_ready)
		skip();
	assert_int_equal(lab_add(TAP, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE, -1), 0);
	assert_int_equal(lab_set_up(TAP, true), 0);
	for (unsigned int i = 0; i < 3; i++) {
		bench_start(bench, &usual, PAIRS, 0);
		assert_int_equal(set_pairs(bench, PAIRS), VIRTIO_NET_OK);
		rx_fill(bench, RX(1));
		transmit(bench, 1, 1);
		wire_send(bench, 1);
		assert_int_equal(rx_take(bench, RX(1), DRIVER_TIMEOUT_MS), 1);
		if (i < 2)
			bench_close(bench);
		assert_true(lab_exists(TAP));
	}
	assert_int_equal(lab_delete(TAP), 0);
	assert_true(driver_wait_config(bench->driver, DRIVER_TIMEOUT_MS));
	assert_logged(bench->machine, "was removed");
	assert_int_equal(set_pairs(bench, 1), VIRTIO_NET_OK);
	assert_int_equal(set_pairs(bench, PAIRS), VIRTIO_NET_OK);
	driver_restart(bench->driver);
}

#define BENCH_TEST(function) cmocka_unit_test_setup_teardown(function, bench_setup, bench_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BENCH_TEST(test_offered),
		BENCH_TEST(test_steering),
		BENCH_TEST(test_first_only),
		BENCH_TEST(test_fewer_and_more),
		BENCH_TEST(test_refused),
		BENCH_TEST(test_many_commands),
		BENCH_TEST(test_not_negotiated),
		BENCH_TEST(test_queue_reset),
		BENCH_TEST(test_specs),
		BENCH_TEST(test_in_use),
		BENCH_TEST(test_interface),
		BENCH_TEST(test_sent_before_used),
		BENCH_TEST(test_by_rings_until_reset),
	};

	return cmocka_run_group_tests(tests, group_setup, NULL);
}
