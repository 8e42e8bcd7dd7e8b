/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-net's receive-side scaling (virtio 1.4, 5.1.9.5.7) through the driver, on a real tap in a
 * network namespace of its own: each frame comes by the queue that the driver's table says,
 * whichever queue of the tap it came by. Needs root and /dev/net/tun.
 */
#include "../../devicemodel/hw/pci/virtio/virtio_net.h"
#include "net_flows.h"
#include "state_lab.h"

#define PAIRS 4
#define CONTROL (2 * PAIRS)
#define FLOWS 12
#define UDP VIRTIO_NET_RSS_HASH_TYPE_UDPv4

static const uint8_t key[NET_RSS_KEY_MAX] = { 0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2,
					      0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
					      0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4,
					      0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
					      0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa };

/* What the device should do, of the same rules that unit tests check. */
static struct net_rss expected;

static void bench_start(struct bench *bench, const struct driver_params *params,
			const char *options, uint64_t without)
{
	char spec[120];

	bench_machine(bench, params->ioeventfd);
	snprintf(spec, sizeof(spec), "%d,virtio-net,tap=%s,mac=02:11:22:33:44:55%s", SLOT, TAP,
		 options);
	bench->dev = machine_add(bench->machine, spec);
	machine_log_clear(bench->machine);
	bench->peer = lab_packet_socket(TAP, 0);
	assert_true(bench->peer >= 0);
	bench->driver = driver_run(bench->machine, SLOT, params, without);
}

static struct net_rss_choice choice_make(uint16_t first, uint16_t step)
{
	struct net_rss_choice choice = {
		.hash_types = UDP, .table_mask = 7, .max_tx = PAIRS, .key_length = sizeof(key)
	};

	memcpy(choice.key, key, sizeof(key));
	for (unsigned int i = 0; i <= choice.table_mask; i++)
		choice.table[i] = (uint16_t)((first + i * step) % PAIRS);
	return choice;
}

/* struct virtio_net_rss_config on the wire. */
static uint32_t choice_put(uint8_t *to, const struct net_rss_choice *choice)
{
	uint32_t len = 2, table = (choice->table_mask % 1024 + 1u) * 2;

	to[0] = VIRTIO_NET_CTRL_MQ;
	to[1] = VIRTIO_NET_CTRL_MQ_RSS_CONFIG;
	memcpy(to + len, &choice->hash_types, 4);
	memcpy(to + len + 4, &choice->table_mask, 2);
	memcpy(to + len + 6, &choice->unclassified, 2);
	memcpy(to + len + 8, choice->table, MIN(table, sizeof(choice->table)));
	len += 8 + table;
	memcpy(to + len, &choice->max_tx, 2);
	to[len + 2] = choice->key_length;
	memcpy(to + len + 3, choice->key, sizeof(choice->key));
	return len + 3 + choice->key_length;
}

static uint8_t command(struct bench *bench, const uint8_t *bytes, uint32_t len)
{
	uint8_t ack;

	assert_int_equal(driver_request(driver_queue(bench->driver, CONTROL), &driver_layouts[0],
					bytes, len, &ack, 1),
			 1);
	return ack;
}

static uint8_t configure(struct bench *bench, const struct net_rss_choice *choice)
{
	uint8_t bytes[4096] = { 0 };

	expected.choice = *choice;
	net_rss_prepare(&expected);
	return command(bench, bytes, choice_put(bytes, choice));
}

static unsigned int queue_of(uint8_t flow)
{
	uint8_t frame[FRAME];

	frame_make(frame, flow, true);
	return net_rss_queue(&expected, frame, sizeof(frame));
}

static void expect_steered(struct bench *bench)
{
	for (uint8_t flow = 1; flow <= FLOWS; flow++) {
		wire_send(bench, flow);
		assert_int_equal(rx_take(bench, RX(queue_of(flow)), DRIVER_TIMEOUT_MS), flow);
		for (unsigned int pair = 0; pair < PAIRS; pair++)
			assert_false(driver_pending(driver_queue(bench->driver, RX(pair))));
	}
}

static void fill_all(struct bench *bench)
{
	for (unsigned int pair = 0; pair < PAIRS; pair++)
		rx_fill(bench, RX(pair));
}

/* ---- Tests ---- */

static void test_offered(void **state)
{
	const uint64_t bit = BIT64(VIRTIO_NET_F_RSS);
	struct bench *bench = *state;

	bench_start(bench, &usual, "", 0);
	assert_false(bench->driver->offered & bit); /* one pair: nothing to steer */
	bench_close(bench);
	bench_start(bench, &usual, ",queues=4", 0);
	assert_true(bench->driver->offered & bit);
	assert_int_equal(driver_config(bench->driver, 17, 1), 40);
	assert_int_equal(driver_config(bench->driver, 18, 2), 128);
	assert_int_equal(driver_config(bench->driver, 20, 4), NET_RSS_HASH_TYPES);
}

/* The table is kept, whatever the flow table of the kernel made of what was sent. */
static void test_steered(void **state)
{
	struct bench *bench = *state;

	for (unsigned int i = 0; i < DRIVER_COMBINATIONS; i += 5) {
		struct driver_params params = driver_params_at(i);
		struct net_rss_choice choice = choice_make((uint16_t)i, 1);
		bool used[PAIRS] = { false };

		if (params.legacy)
			continue;
		bench_start(bench, &params, ",queues=4", 0);
		fill_all(bench);
		assert_int_equal(configure(bench, &choice), VIRTIO_NET_OK);
		expect_steered(bench);
		fill_all(bench);
		for (uint8_t flow = 1; flow <= FLOWS; flow++) {
			transmit(bench, flow % PAIRS, flow);
			used[queue_of(flow)] = true;
		}
		expect_steered(bench);
		assert_true(used[0] + used[1] + used[2] + used[3] >= 2);
		bench_close(bench);
	}
}

/* Queues without buffers, and that are not in the table, are in nobody's way. */
static void test_without_buffers(void **state)
{
	struct net_rss_choice choice = choice_make(1, 0); /* all to queue 1 */
	struct bench *bench = *state;

	bench_start(bench, &usual, ",queues=4", 0);
	assert_int_equal(configure(bench, &choice), VIRTIO_NET_OK);
	for (uint8_t flow = 1; flow <= FLOWS; flow++)
		transmit(bench, flow % PAIRS, flow); /* answers come by all queues of the tap */
	for (uint8_t flow = 1; flow <= FLOWS; flow++)
		wire_send(bench, flow);
	machine_poll(bench->machine);
	rx_fill(bench, RX(1));
	for (unsigned int i = 0, seen = 0; i < FLOWS; i++) {
		int flow = rx_take(bench, RX(1), DRIVER_TIMEOUT_MS);

		assert_true(flow >= 1 && !(seen & BIT32(flow)));
		seen |= BIT32(flow);
	}
}

static void test_unclassified(void **state)
{
	struct net_rss_choice choice = choice_make(0, 0);
	struct bench *bench = *state;

	choice.hash_types = VIRTIO_NET_RSS_HASH_TYPE_TCPv4; /* these are UDP */
	choice.unclassified = 3;
	bench_start(bench, &usual, ",queues=4", 0);
	fill_all(bench);
	assert_int_equal(configure(bench, &choice), VIRTIO_NET_OK);
	assert_int_equal(queue_of(1), 3);
	expect_steered(bench);
	choice.hash_types = 0;
	choice.key_length = 0;
	choice.unclassified = 2;
	assert_int_equal(configure(bench, &choice), VIRTIO_NET_OK);
	expect_steered(bench);
}

/* Whatever is wrong with a command, what was in force stays. */
static void test_refused(void **state)
{
	const struct net_rss_choice good = choice_make(0, 1);
	struct bench *bench = *state;
	struct net_rss_choice bad[8];
	uint8_t bytes[4096] = { 0 };
	uint32_t len;

	bench_start(bench, &usual, ",queues=4", 0);
	fill_all(bench);
	assert_int_equal(configure(bench, &good), VIRTIO_NET_OK);
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++)
		bad[i] = choice_make(3, 1);
	bad[0].table[7] = PAIRS;
	bad[1].table[0] = 0x8000;
	bad[2].unclassified = PAIRS;
	bad[3].max_tx = 0;
	bad[4].max_tx = PAIRS + 1;
	bad[5].key_length = 41;
	bad[6].hash_types |= BIT32(6);
	bad[7].table_mask = 6;
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(command(bench, bytes, choice_put(bytes, &bad[i])), VIRTIO_NET_ERR);
	bad[0] = choice_make(3, 1);
	bad[0].table_mask = 255;
	assert_int_equal(command(bench, bytes, choice_put(bytes, &bad[0])), VIRTIO_NET_ERR);
	bad[0].table_mask = 0xffff;
	assert_int_equal(command(bench, bytes, choice_put(bytes, &bad[0])), VIRTIO_NET_ERR);

	/* shorter than what it says it has */
	bad[0] = choice_make(3, 1);
	len = choice_put(bytes, &bad[0]);
	for (uint32_t cut = 2; cut < len; cut++)
		assert_int_equal(command(bench, bytes, cut), VIRTIO_NET_ERR);
	expect_steered(bench);

	/* Linux 6.12 sends a byte of padding behind the key. */
	bad[0] = good;
	assert_int_equal(command(bench, bytes, choice_put(bytes, &bad[0]) + 1), VIRTIO_NET_OK);
	expect_steered(bench);
}

/* 5.1.9.5.7.3-4: frames for a queue that was reset are lost, others go on; then it is back. */
static void test_queue_reset(void **state)
{
	struct net_rss_choice choice = choice_make(0, 1);
	struct bench *bench = *state;
	unsigned int lost;

	bench_start(bench, &usual, ",queues=4", 0);
	fill_all(bench);
	assert_int_equal(configure(bench, &choice), VIRTIO_NET_OK);
	lost = queue_of(1);
	driver_common_out(bench->driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, RX(lost));
	driver_common_out(bench->driver, 58 /* queue_reset */, 2, 1);
	machine_poll(bench->machine);
	for (uint8_t flow = 1; flow <= FLOWS; flow++) {
		wire_send(bench, flow);
		if (queue_of(flow) != lost)
			assert_int_equal(rx_take(bench, RX(queue_of(flow)), DRIVER_TIMEOUT_MS),
					 flow);
		machine_poll(bench->machine);
	}
	driver_queue_setup(bench->driver, RX(lost), 0);
	rx_fill(bench, RX(lost));
	assert_int_equal(rx_take(bench, RX(lost), 20), -1);
	wire_send(bench, 1);
	assert_int_equal(rx_take(bench, RX(lost), DRIVER_TIMEOUT_MS), 1);
}

/* What was on its way to a pair when it went out of use takes no buffers of it. */
static void test_mail_of_unused_pair(void **state)
{
	struct net_rss_choice choice = choice_make(1, 0); /* all to queue 1 */
	struct bench *bench = *state;
	struct virtio_net *net;
	uint16_t pairs = 1;

	bench_start(bench, &usual, ",queues=4", 0);
	net = *(struct virtio_net **)((char *)bench->dev->arg + sizeof(void *));
	fill_all(bench);
	assert_int_equal(configure(bench, &choice), VIRTIO_NET_OK);
	transmit(bench, 0, 1); /* the answer comes by the tap's first queue */
	wire_send(bench, 1);
	event_loop_poll(bench->machine->ctx->io_loop, 0);
	assert_true(net_mail_waits(&net->pairs[1].rx.mail));
	assert_int_equal(set_pairs_of(bench, CONTROL, &pairs, 2), VIRTIO_NET_OK);
	machine_poll(bench->machine);
	assert_int_equal(net->pairs_used, 1);
	assert_int_equal(net->pairs[1].rx.chain_count, 0);
}

/* A queue of a pair that is not in use comes anew as any other (5.1.9.5.10.6). */
static void test_reset_of_unused_pair(void **state)
{
	struct bench *bench = *state;
	struct virtio_net *net;

	bench_start(bench, &usual, ",queues=4,vq_coalesce=on", 0);
	net = *(struct virtio_net **)((char *)bench->dev->arg + sizeof(void *));
	assert_int_equal(net->pairs_used, 1);
	for (unsigned int queue = RX(3); queue <= TX(3); queue++) {
		const uint8_t set[14] = { VIRTIO_NET_CTRL_NOTF_COAL,
					  VIRTIO_NET_CTRL_NOTF_COAL_VQ_SET,
					  (uint8_t)queue, [6] = 7, [10] = 9 };

		assert_int_equal(command(bench, set, sizeof(set)), VIRTIO_NET_OK);
		driver_common_out(bench->driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
		driver_common_out(bench->driver, 58 /* queue_reset */, 2, 1);
		driver_queue_setup(bench->driver, (uint16_t)queue, 0);
	}
	assert_int_equal(net->pairs[3].rx.notify.coalesce.max_packets, 0);
	assert_int_equal(net->pairs[3].rx.notify.coalesce.max_usecs, 0);
	assert_int_equal(net->pairs[3].tx.notify.coalesce.max_packets, 0);
	assert_int_equal(net->pairs[3].tx.notify.coalesce.max_usecs, 0);
}

/* VQ_PAIRS_SET leaves it to the kernel again, and so does a reset, which leaves one queue. */
static void test_ends(void **state)
{
	struct net_rss_choice choice = choice_make(2, 0);
	struct bench *bench = *state;
	uint16_t pairs = 1;

	bench_start(bench, &usual, ",queues=4", 0);
	for (unsigned int i = 0; i < 2; i++) {
		fill_all(bench);
		assert_int_equal(configure(bench, &choice), VIRTIO_NET_OK);
		expect_steered(bench);
		if (i)
			driver_restart(bench->driver);
		else
			assert_int_equal(set_pairs_of(bench, CONTROL, &pairs, 2), VIRTIO_NET_OK);
		rx_fill(bench, RX(0));
		wire_send(bench, 1);
		assert_int_equal(rx_take(bench, RX(0), DRIVER_TIMEOUT_MS), 1);
		driver_restart(bench->driver);
	}
}

/* What was chosen goes with a saved state, and what follows from it is worked out again. */
static void test_saved(void **state)
{
	static const uint8_t coalesce[] = { VIRTIO_NET_CTRL_NOTF_COAL,
					    VIRTIO_NET_CTRL_NOTF_COAL_VQ_SET,
					    RX(1),
					    0,
					    0,
					    0,
					    7,
					    0,
					    0,
					    0,
					    9,
					    0,
					    0,
					    0 };
	struct net_rss_choice choice = choice_make(1, 3);
	struct bench *bench = *state;
	struct lab_state *saved;
	struct virtio_net *net;
	uint8_t *memory;

	bench_start(bench, &usual, ",queues=4,vq_coalesce=on", 0);
	assert_int_equal(configure(bench, &choice), VIRTIO_NET_OK);
	assert_int_equal(command(bench, coalesce, sizeof(coalesce)), VIRTIO_NET_OK);
	pci_quiesce_devices(bench->machine->ctx);
	saved = lab_take(bench->machine, bench->dev);
	memory = test_malloc(MACHINE_MEMORY);
	memcpy(memory, guest_ptr(bench->machine, 0, MACHINE_MEMORY), MACHINE_MEMORY);
	bench_close(bench);

	bench_machine(bench, false);
	bench->dev = machine_add(bench->machine,
				 "4,virtio-net,tap=" TAP ",mac=02:11:22:33:44:55,queues=4,"
				 "vq_coalesce=on");
	memcpy(guest_ptr(bench->machine, 0, MACHINE_MEMORY), memory, MACHINE_MEMORY);
	pci_quiesce_devices(bench->machine->ctx);
	assert_int_equal(lab_load(bench->machine, bench->dev, saved->bytes, saved->len), 0);
	assert_true(lab_same(bench->machine, bench->dev, saved->bytes, saved->len));
	net = *(struct virtio_net **)((char *)bench->dev->arg + sizeof(void *));
	assert_true(net->rss.active);
	assert_memory_equal(&net->rss.choice, &choice, sizeof(choice));
	assert_memory_equal(net->rss.sums, expected.sums, sizeof(expected.sums));
	assert_int_equal(net->pairs_used, PAIRS);
	assert_int_equal(net->pairs[1].rx.notify.coalesce.max_packets, 7);
	assert_int_equal(net->pairs[1].rx.notify.coalesce.max_usecs, 9);
	assert_int_equal(net->pairs[0].rx.notify.coalesce.max_usecs, 0);
	lab_state_free(saved);
	test_free(memory);
}

#define BENCH_TEST(f) cmocka_unit_test_setup_teardown(f, bench_setup, bench_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BENCH_TEST(test_offered),
		BENCH_TEST(test_steered),
		BENCH_TEST(test_without_buffers),
		BENCH_TEST(test_unclassified),
		BENCH_TEST(test_refused),
		BENCH_TEST(test_queue_reset),
		BENCH_TEST(test_mail_of_unused_pair),
		BENCH_TEST(test_reset_of_unused_pair),
		BENCH_TEST(test_ends),
		BENCH_TEST(test_saved),
	};

	return cmocka_run_group_tests(tests, group_setup, NULL);
}
