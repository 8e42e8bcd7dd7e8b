/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-net (virtio 1.4, 5.1) through the driver, on a real tap in a network namespace of its own.
 * Needs root and /dev/net/tun.
 */

#include "net_bench.h"

#define QUEUE_RX 0
#define QUEUE_TX 1
#define QUEUE_CTRL 2
#define FRAME_MAX 2048

static const uint8_t mac_multi[] = { 0x01, 0x00, 0x5e, 0x01, 0x02, 0x03 };
static const uint8_t mac_all[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

static void bench_start(struct bench *bench, const struct driver_params *params,
			const char *options, uint64_t without)
{
	char spec[160];

	bench_machine(bench, params->ioeventfd);
	snprintf(spec, sizeof(spec), "%d,virtio-net,tap=%s,mac=02:11:22:33:44:55%s", SLOT, TAP,
		 options);
	machine_add(bench->machine, spec);
	machine_log_clear(bench->machine);
	bench->peer = lab_packet_socket(TAP, 0);
	assert_true(bench->peer >= 0);
	bench->driver = driver_run(bench->machine, SLOT, params, without);
	assert_int_equal(bench->driver->queue_count, 3);
	bench->header_len = !params->legacy || driver_has(bench->driver, VIRTIO_NET_F_MRG_RXBUF)
				    ? sizeof(struct virtio_net_hdr_v1)
				    : sizeof(struct virtio_net_hdr);
}

static struct driver_queue *queue_of(struct bench *bench, unsigned int index)
{
	return driver_queue(bench->driver, index);
}

static uint32_t frame_make(uint8_t *frame, const uint8_t *to, const uint8_t *from, uint32_t len)
{
	memcpy(frame, to, ETH_ALEN);
	memcpy(frame + ETH_ALEN, from, ETH_ALEN);
	frame[12] = 0x88; /* local experimental */
	frame[13] = 0xb5;
	for (uint32_t i = ETH_HLEN; i < len; i++)
		frame[i] = (uint8_t)(i * 5 + len);
	return len;
}

/* ---- The wire ---- */

struct wire_read {
	int fd;
	uint8_t data[FRAME_MAX + 64];
	ssize_t len;
};

static bool wire_read_done(void *arg)
{
	struct wire_read *wire = arg;

	wire->len = recv(wire->fd, wire->data, sizeof(wire->data), MSG_DONTWAIT);
	return wire->len >= 0;
}

static void expect_on_wire(struct bench *bench, const uint8_t *frame, uint32_t len)
{
	struct wire_read wire = { .fd = bench->peer };

	assert_true(machine_wait(bench->machine, wire_read_done, &wire, DRIVER_TIMEOUT_MS));
	assert_int_equal(wire.len, len);
	assert_memory_equal(wire.data, frame, len);
}

static void wire_send(struct bench *bench, const uint8_t *frame, uint32_t len)
{
	assert_int_equal(send(bench->peer, frame, len, 0), len);
}

/* ---- Receiving ---- */

static void rx_fill(struct bench *bench, unsigned int count, uint32_t size)
{
	bench->buffer_count = count;
	for (unsigned int i = 0; i < count; i++) {
		struct segment *buffer = &bench->buffers[i];

		*buffer = (struct segment) { guest_alloc(bench->machine, size, 1), size };
		memset(guest_ptr(bench->machine, buffer->gpa, size), DRIVER_POISON, size);
		assert_int_equal(driver_add_buf(queue_of(bench, QUEUE_RX), buffer, 0, 1, buffer),
				 0);
	}
	driver_kick(queue_of(bench, QUEUE_RX));
	machine_poll(bench->machine);
}

static void rx_give_back(struct bench *bench, struct segment *buffer)
{
	memset(guest_ptr(bench->machine, buffer->gpa, buffer->len), DRIVER_POISON, buffer->len);
	assert_int_equal(driver_add_buf(queue_of(bench, QUEUE_RX), buffer, 0, 1, buffer), 0);
	driver_kick(queue_of(bench, QUEUE_RX));
}

/* The next frame, its header apart, from as many buffers as it takes; -1 if none comes. */
static int rx_take(struct bench *bench, struct virtio_net_hdr_v1 *header, uint8_t *frame,
		   unsigned int *buffers, int timeout_ms)
{
	uint8_t whole[FRAME_MAX + 64];
	uint32_t len, total = 0, wanted = 1;

	for (uint32_t i = 0; i < wanted; i++) {
		struct segment *buffer = driver_wait_buf(queue_of(bench, QUEUE_RX), &len,
							 i ? DRIVER_TIMEOUT_MS : timeout_ms);
		const uint8_t *bytes;

		if (!buffer)
			return -1;
		assert_true(len > 0 && len <= buffer->len && total + len <= sizeof(whole));
		bytes = guest_ptr(bench->machine, buffer->gpa, buffer->len);
		memcpy(whole + total, bytes, len);
		for (uint32_t at = len; at < buffer->len; at++)
			assert_int_equal(bytes[at], DRIVER_POISON);
		if (!i && bench->header_len == sizeof(*header))
			wanted = bytes_get(bytes + offsetof(struct virtio_net_hdr_v1, num_buffers),
					   2);
		if (i + 1 < wanted)
			assert_int_equal(len, buffer->len); /* 5.1.9.4.1 */
		total += len;
		rx_give_back(bench, buffer);
	}
	memset(header, 0, sizeof(*header));
	memcpy(header, whole, bench->header_len);
	memcpy(frame, whole + bench->header_len, total - bench->header_len);
	if (buffers)
		*buffers = wanted;
	return (int)(total - bench->header_len);
}

static void expect_frame(struct bench *bench, const uint8_t *frame, uint32_t len)
{
	struct virtio_net_hdr_v1 header;
	uint8_t got[FRAME_MAX + 64];

	assert_int_equal(rx_take(bench, &header, got, NULL, DRIVER_TIMEOUT_MS), len);
	assert_memory_equal(got, frame, len);
	assert_int_equal(header.flags, 0);
	assert_int_equal(header.gso_type, VIRTIO_NET_HDR_GSO_NONE);
}

/* Does a frame to @to, tagged for @vlan (-1: not), reach the driver? */
static bool is_received(struct bench *bench, const uint8_t *to, int vlan)
{
	struct virtio_net_hdr_v1 header;
	uint8_t frame[100], got[FRAME_MAX + 64];
	int len;

	frame_make(frame, to, mac_other, sizeof(frame));
	if (vlan >= 0) {
		static const uint8_t tag[] = { 0x81, 0x00 };

		memcpy(frame + 12, tag, sizeof(tag));
		frame[14] = (uint8_t)(vlan >> 8);
		frame[15] = (uint8_t)vlan;
	}
	wire_send(bench, frame, sizeof(frame));
	len = rx_take(bench, &header, got, NULL, 30);
	if (len < 0)
		return false;
	assert_int_equal(len, sizeof(frame));
	assert_memory_equal(got, frame, sizeof(frame));
	return true;
}

/* ---- Transmission ---- */

static void transmit(struct bench *bench, const struct driver_layout *layout, const uint8_t *frame,
		     uint32_t len)
{
	uint8_t packet[FRAME_MAX + 64] = { 0 };

	memcpy(packet + bench->header_len, frame, len);
	assert_int_equal(driver_request(queue_of(bench, QUEUE_TX), layout, packet,
					bench->header_len + len, NULL, 0),
			 0);
	assert_true(driver_queue_interrupt(queue_of(bench, QUEUE_TX)));
}

/* Header and frame cut in every way, also where legacy drivers without ANY_LAYOUT would not. */
static void test_transmit(void **state)
{
	static const struct driver_layout header_apart[] = {
		{ .name = "10 and the rest", .out_cuts = { 10, UINT32_MAX } },
		{ .name = "12 and the rest", .out_cuts = { 12, UINT32_MAX } },
		{ .name = "MAC addresses apart", .out_cuts = { 12, 6, 6, 1400 } },
	};
	struct bench *bench = *state;

	for (unsigned int i = 0; i < DRIVER_COMBINATIONS; i++) {
		struct driver_params params = driver_params_at(i);
		uint8_t frame[1514];

		bench_start(bench, &params, "", i & 1 ? BIT64(VIRTIO_NET_F_MRG_RXBUF) : 0);
		assert_int_equal(bench->header_len, params.legacy ? 10 : 12);
		for (uint32_t len = 60; len <= sizeof(frame); len += 727) {
			frame_make(frame, mac_all, mac_ours, len);
			for (unsigned int j = 0; j < driver_layout_count; j++) {
				transmit(bench, &driver_layouts[j], frame, len);
				expect_on_wire(bench, frame, len);
			}
			for (unsigned int j = 0; j < ARRAY_SIZE(header_apart); j++) {
				transmit(bench, &header_apart[j], frame, len);
				expect_on_wire(bench, frame, len);
			}
		}
		assert_int_equal(bench->machine->captured.count, 0);
		bench_close(bench);
	}
}

/* No frames: dropped and used, and nothing else happens. */
static void test_transmit_malformed(void **state)
{
	struct bench *bench = *state;
	uint8_t frame[1514], packet[FRAME_MAX] = { 0 };
	static const unsigned int offloads[] = { VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM,
						 VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_GUEST_TSO4,
						 VIRTIO_NET_F_CTRL_GUEST_OFFLOADS };
	struct virtio_net_hdr_v1 header = { .gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .gso_size = 9 };

	bench_start(bench, &usual, ",offload=off", 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(offloads); i++)
		assert_false(bench->driver->offered & BIT64(offloads[i]));
	for (uint32_t len = 1; len < 12 + ETH_HLEN; len += 5)
		assert_int_equal(driver_request(queue_of(bench, QUEUE_TX), &driver_layouts[0],
						packet, len, NULL, 0),
				 0);
	assert_logged(bench->machine, "shorter than its headers");
	/* An offload that was not offered. */
	memcpy(packet, &header, sizeof(header));
	frame_make(packet + 12, mac_all, mac_ours, 100);
	driver_request(queue_of(bench, QUEUE_TX), &driver_layouts[0], packet, 112, NULL, 0);
	assert_logged(bench->machine, "offload that was not negotiated");
	assert_false(driver_status(bench->driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
	transmit(bench, &driver_layouts[0], frame, frame_make(frame, mac_all, mac_ours, 77));
	expect_on_wire(bench, frame, 77);
}

/* ---- Reception ---- */

static void test_receive(void **state)
{
	struct bench *bench = *state;

	for (unsigned int i = 0; i < DRIVER_COMBINATIONS; i++) {
		struct driver_params params = driver_params_at(i);
		uint8_t frame[1514];

		bench_start(bench, &params, "", i & 2 ? BIT64(VIRTIO_NET_F_MRG_RXBUF) : 0);
		/* What comes before there are buffers waits. */
		wire_send(bench, frame, frame_make(frame, mac_ours, mac_other, 333));
		machine_poll(bench->machine);
		rx_fill(bench, 16, 1600);
		expect_frame(bench, frame, 333);
		assert_true(driver_queue_interrupt(queue_of(bench, QUEUE_RX)));
		for (uint32_t len = 60; len <= sizeof(frame); len += 727) {
			wire_send(bench, frame, frame_make(frame, mac_ours, mac_other, len));
			expect_frame(bench, frame, len);
		}
		bench_close(bench);
	}
}

/* Many frames, faster than they are taken: in order, none twice. */
static void test_receive_burst(void **state)
{
	struct bench *bench = *state;
	uint8_t frame[1000];

	bench_start(bench, &usual, "", 0);
	rx_fill(bench, 40, 1600);
	for (unsigned int round = 0; round < 20; round++) {
		for (uint32_t i = 0; i < 50; i++)
			wire_send(bench, frame,
				  frame_make(frame, mac_ours, mac_other, 100 + 15 * i));
		for (uint32_t i = 0; i < 50; i++) {
			frame_make(frame, mac_ours, mac_other, 100 + 15 * i);
			expect_frame(bench, frame, 100 + 15 * i);
		}
	}
}

/* virtio 1.4, 5.1.9.4: a frame over as many buffers as it takes */
static void test_receive_merged(void **state)
{
	static const uint32_t sizes[] = { 13, 50, 100, 256, 1526, 2000 };
	struct bench *bench = *state;

	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint32_t size = sizes[i];

		bench_start(bench, &usual, "", 0);
		assert_true(driver_has(bench->driver, VIRTIO_NET_F_MRG_RXBUF));
		rx_fill(bench, BUFFERS_MAX, size);
		for (uint32_t len = 60; len <= 760; len += 100) {
			uint32_t want = (12 + len + size - 1) / size;
			struct virtio_net_hdr_v1 header;
			uint8_t frame[1514], got[FRAME_MAX + 64];
			unsigned int buffers;

			if (want > BUFFERS_MAX)
				continue;
			wire_send(bench, frame, frame_make(frame, mac_ours, mac_other, len));
			assert_int_equal(rx_take(bench, &header, got, &buffers, DRIVER_TIMEOUT_MS),
					 len);
			assert_memory_equal(got, frame, len);
			assert_int_equal(buffers, want);
		}
		bench_close(bench);
	}
}

/* Without MRG_RXBUF what does not fit one buffer is dropped, what follows is not. */
static void test_receive_too_large(void **state)
{
	struct bench *bench = *state;
	uint8_t frame[1514];

	bench_start(bench, &usual, "", BIT64(VIRTIO_NET_F_MRG_RXBUF));
	rx_fill(bench, 16, 200);
	for (unsigned int i = 0; i < 10; i++) {
		wire_send(bench, frame, frame_make(frame, mac_ours, mac_other, 1000));
		wire_send(bench, frame, frame_make(frame, mac_ours, mac_other, 188));
		expect_frame(bench, frame, 188);
	}
	assert_false(driver_status(bench->driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

/* A buffer that cannot even take the header, or is not writable, is no buffer. */
static void test_receive_malformed(void **state)
{
	struct bench *bench = *state;
	uint8_t frame[100];

	for (unsigned int i = 0; i < 2; i++) {
		struct segment segment;

		bench_start(bench, &usual, "", 0);
		segment = (struct segment) { guest_alloc(bench->machine, 2000, 1), i ? 11 : 2000 };
		assert_int_equal(driver_add_buf(queue_of(bench, QUEUE_RX), &segment, !i, i, bench),
				 0);
		driver_kick(queue_of(bench, QUEUE_RX));
		wire_send(bench, frame, frame_make(frame, mac_ours, mac_other, sizeof(frame)));
		assert_true(driver_wait_config(bench->driver, DRIVER_TIMEOUT_MS));
		assert_true(driver_status(bench->driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
		assert_logged(bench->machine, "a receive buffer");
		driver_restart(bench->driver);
		rx_fill(bench, 16, 1600);
		assert_true(is_received(bench, mac_ours, -1));
		bench_close(bench);
	}
}

/* After a reset nothing is written to the old buffers. */
static void test_receive_reset(void **state)
{
	struct bench *bench = *state;
	uint8_t frame[500];

	bench_start(bench, &usual, "", 0);
	for (unsigned int round = 0; round < 10; round++) {
		rx_fill(bench, 32, 1600);
		wire_send(bench, frame, frame_make(frame, mac_ours, mac_other, sizeof(frame)));
		expect_frame(bench, frame, sizeof(frame));
		driver_set_status(bench->driver, 0);
		for (unsigned int i = 0; i < 5; i++)
			wire_send(bench, frame,
				  frame_make(frame, mac_ours, mac_other, sizeof(frame)));
		machine_poll(bench->machine);
		for (unsigned int i = 0; i < bench->buffer_count; i++) {
			const uint8_t *bytes =
				guest_ptr(bench->machine, bench->buffers[i].gpa, 1600);

			for (unsigned int at = 0; at < 1600; at++)
				assert_int_equal(bytes[at], DRIVER_POISON);
		}
		driver_restart(bench->driver);
		/* What waited in the tap may come now, and does not harm. */
		rx_fill(bench, 32, 1600);
		while (driver_wait_buf(queue_of(bench, QUEUE_RX), NULL, 20))
			;
		driver_restart(bench->driver);
	}
}

/* ---- Control queue (5.1.9.5) ---- */

static uint8_t command(struct bench *bench, const struct driver_layout *layout, uint8_t class,
		       uint8_t command_code, const void *data, uint32_t len)
{
	uint8_t out[1024] = { class, command_code }, ack;

	if (len)
		memcpy(out + 2, data, len);
	assert_int_equal(driver_request(queue_of(bench, QUEUE_CTRL), layout, out, 2 + len, &ack, 1),
			 1);
	return ack;
}

static uint8_t switch_mode(struct bench *bench, uint8_t mode, uint8_t on)
{
	return command(bench, &driver_layouts[on], VIRTIO_NET_CTRL_RX, mode, &on, 1);
}

/* MAC_TABLE_SET with one unicast and one multicast address, or none of a kind. */
static uint8_t set_table(struct bench *bench, const uint8_t *unicast, const uint8_t *multicast)
{
	uint8_t data[20] = { 0 };
	uint32_t len = 4;

	if (unicast) {
		data[0] = 1;
		memcpy(data + 4, unicast, ETH_ALEN);
		len += ETH_ALEN;
	}
	if (multicast) {
		data[len] = 1;
		memcpy(data + len + 4, multicast, ETH_ALEN);
		len += ETH_ALEN;
	}
	len += 4;
	return command(bench, &driver_layouts[2], VIRTIO_NET_CTRL_MAC,
		       VIRTIO_NET_CTRL_MAC_TABLE_SET, data, len);
}

static void test_filter(void **state)
{
	struct bench *bench = *state;

	bench_start(bench, &usual, "", 0);
	rx_fill(bench, 16, 1600);
	assert_true(is_received(bench, mac_ours, -1));
	assert_true(is_received(bench, mac_all, -1));
	assert_false(is_received(bench, mac_other, -1));
	assert_false(is_received(bench, mac_multi, -1));

	assert_int_equal(switch_mode(bench, VIRTIO_NET_CTRL_RX_PROMISC, 1), VIRTIO_NET_OK);
	assert_true(is_received(bench, mac_other, -1));
	assert_int_equal(switch_mode(bench, VIRTIO_NET_CTRL_RX_PROMISC, 0), VIRTIO_NET_OK);
	assert_false(is_received(bench, mac_other, -1));
	assert_int_equal(switch_mode(bench, VIRTIO_NET_CTRL_RX_ALLMULTI, 1), VIRTIO_NET_OK);
	assert_true(is_received(bench, mac_multi, -1));
	assert_false(is_received(bench, mac_other, -1));
	assert_int_equal(switch_mode(bench, VIRTIO_NET_CTRL_RX_ALLMULTI, 0), VIRTIO_NET_OK);

	assert_int_equal(set_table(bench, mac_other, mac_multi), VIRTIO_NET_OK);
	assert_true(is_received(bench, mac_other, -1));
	assert_true(is_received(bench, mac_multi, -1));
	assert_true(is_received(bench, mac_ours, -1));
	assert_int_equal(switch_mode(bench, VIRTIO_NET_CTRL_RX_NOMULTI, 1), VIRTIO_NET_OK);
	assert_false(is_received(bench, mac_multi, -1));
	assert_int_equal(switch_mode(bench, VIRTIO_NET_CTRL_RX_NOMULTI, 0), VIRTIO_NET_OK);
	assert_int_equal(switch_mode(bench, VIRTIO_NET_CTRL_RX_NOBCAST, 1), VIRTIO_NET_OK);
	assert_false(is_received(bench, mac_all, -1));
	assert_int_equal(switch_mode(bench, VIRTIO_NET_CTRL_RX_NOBCAST, 0), VIRTIO_NET_OK);
	assert_true(is_received(bench, mac_all, -1));
	assert_int_equal(set_table(bench, NULL, NULL), VIRTIO_NET_OK);
	assert_false(is_received(bench, mac_other, -1));

	assert_int_equal(command(bench, &driver_layouts[1], VIRTIO_NET_CTRL_MAC,
				 VIRTIO_NET_CTRL_MAC_ADDR_SET, mac_other, ETH_ALEN),
			 VIRTIO_NET_OK);
	assert_true(is_received(bench, mac_other, -1));
	assert_false(is_received(bench, mac_ours, -1));
	for (unsigned int i = 0; i < ETH_ALEN; i++)
		assert_int_equal(driver_config(bench->driver, i, 1), mac_other[i]);
	assert_int_equal(command(bench, &driver_layouts[0], VIRTIO_NET_CTRL_MAC,
				 VIRTIO_NET_CTRL_MAC_ADDR_SET, mac_multi, ETH_ALEN),
			 VIRTIO_NET_ERR);

	/* Reset: as it was. */
	driver_restart(bench->driver);
	rx_fill(bench, 16, 1600);
	assert_true(is_received(bench, mac_ours, -1));
	assert_false(is_received(bench, mac_other, -1));
	assert_int_equal(driver_config(bench->driver, 5, 1), mac_ours[5]);
}

static void test_filter_vlan(void **state)
{
	static const uint16_t vlans[] = { 0, 5, 4095 };
	struct bench *bench = *state;

	bench_start(bench, &usual, "", 0);
	rx_fill(bench, 16, 1600);
	for (unsigned int i = 0; i < ARRAY_SIZE(vlans); i++) {
		uint16_t vlan = vlans[i];

		if (vlan)
			assert_false(is_received(bench, mac_ours, vlan));
		assert_int_equal(command(bench, &driver_layouts[i], VIRTIO_NET_CTRL_VLAN,
					 VIRTIO_NET_CTRL_VLAN_ADD, &vlan, 2),
				 VIRTIO_NET_OK);
		assert_true(is_received(bench, mac_ours, vlan));
		assert_true(is_received(bench, mac_ours, -1));
		assert_int_equal(command(bench, &driver_layouts[i], VIRTIO_NET_CTRL_VLAN,
					 VIRTIO_NET_CTRL_VLAN_DEL, &vlan, 2),
				 VIRTIO_NET_OK);
		if (vlan)
			assert_false(is_received(bench, mac_ours, vlan));
	}
}

/* Who cannot set the filter gets all. */
static void test_filter_not_negotiated(void **state)
{
	struct bench *bench = *state;
	uint8_t on = 1;

	bench_start(bench, &usual, "",
		    BIT64(VIRTIO_NET_F_CTRL_RX) | BIT64(VIRTIO_NET_F_CTRL_RX_EXTRA) |
			    BIT64(VIRTIO_NET_F_CTRL_VLAN));
	rx_fill(bench, 16, 1600);
	assert_true(is_received(bench, mac_other, -1));
	assert_true(is_received(bench, mac_multi, 7));
	assert_int_equal(command(bench, &driver_layouts[0], VIRTIO_NET_CTRL_RX,
				 VIRTIO_NET_CTRL_RX_NOBCAST, &on, 1),
			 VIRTIO_NET_ERR);
	assert_true(is_received(bench, mac_all, -1));
}

static void test_control_wrong(void **state)
{
	static const struct {
		uint8_t class, command;
		uint32_t len;
		uint8_t data[16];
	} wrong[] = {
		{ 99, 0, 0, { 0 } },
		{ VIRTIO_NET_CTRL_RX, 99, 1, { 1 } },
		{ VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0, { 0 } },
		{ VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 2, { 1, 1 } },
		{ VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, 5, { 2 } },
		{ VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, 7, { 2 } },
		{ VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, 3, { 0 } },
		{ VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, 7, { 0 } },
		{ VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, 8, { 1 } },
		{ VIRTIO_NET_CTRL_MAC,
		  VIRTIO_NET_CTRL_MAC_TABLE_SET,
		  8,
		  { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff } },
		{ VIRTIO_NET_CTRL_MAC,
		  VIRTIO_NET_CTRL_MAC_TABLE_SET,
		  8,
		  { 0xab, 0xaa, 0xaa, 0x2a, 0xff, 0xff, 0xff, 0xff } }, /* times 6 wraps to 2 */
		{ VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, 2, { 0x00, 0x10 } },
		{ VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, 1, { 1 } },
		{ VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, 2, { 0xff, 0xff } },
		{ VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 2, { 1 } },
		{ VIRTIO_NET_CTRL_GUEST_OFFLOADS,
		  VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET,
		  8,
		  { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff } },
	};
	struct bench *bench = *state;
	uint8_t ack, byte = 0;
	struct segment segment;

	bench_start(bench, &usual, "", 0);
	rx_fill(bench, 16, 1600);
	for (unsigned int i = 0; i < ARRAY_SIZE(wrong); i++)
		if (command(bench, &driver_layouts[i % driver_layout_count], wrong[i].class,
			    wrong[i].command, wrong[i].data, wrong[i].len) != VIRTIO_NET_ERR)
			fail_msg("command %u was accepted", i);
	assert_int_equal(
		driver_request(queue_of(bench, QUEUE_CTRL), &driver_layouts[0], &byte, 1, &ack, 1),
		1);
	assert_int_equal(ack, VIRTIO_NET_ERR);
	assert_true(is_received(bench, mac_ours, -1));
	assert_false(is_received(bench, mac_other, -1));
	assert_false(driver_status(bench->driver) & VIRTIO_CONFIG_S_NEEDS_RESET);

	/* No place for the answer. */
	segment = (struct segment) { guest_alloc(bench->machine, 3, 1), 3 };
	assert_int_equal(driver_add_buf(queue_of(bench, QUEUE_CTRL), &segment, 1, 0, bench), 0);
	driver_kick(queue_of(bench, QUEUE_CTRL));
	assert_true(driver_wait_config(bench->driver, DRIVER_TIMEOUT_MS));
	assert_true(driver_status(bench->driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_logged(bench->machine, "no room for its answer");
}

/* ---- Configuration ---- */

#define CONFIG(member) offsetof(struct virtio_net_config, member)

static void test_config(void **state)
{
	struct bench *bench = *state;

	bench_start(bench, &usual, ",mtu=1400", 0);
	for (unsigned int i = 0; i < ETH_ALEN; i++)
		assert_int_equal(driver_config(bench->driver, i, 1), mac_ours[i]);
	assert_true(driver_has(bench->driver, VIRTIO_NET_F_MAC));
	assert_true(driver_has(bench->driver, VIRTIO_NET_F_MTU));
	assert_int_equal(driver_config(bench->driver, CONFIG(mtu), 2), 1400);
	assert_int_equal(driver_config(bench->driver, CONFIG(status), 2), VIRTIO_NET_S_LINK_UP);
	/* A modern driver does not write here. */
	driver_set_config(bench->driver, 0, 4, UINT32_MAX);
	assert_int_equal(driver_config(bench->driver, 0, 1), mac_ours[0]);
}

static void test_config_legacy_mac(void **state)
{
	struct driver_params params = usual;
	struct bench *bench = *state;

	params.legacy = true;
	bench_start(bench, &params, "", 0);
	rx_fill(bench, 16, 1600);
	for (unsigned int i = 0; i < ETH_ALEN; i++)
		driver_set_config(bench->driver, i, 1, mac_other[i]);
	for (unsigned int i = 0; i < ETH_ALEN; i++)
		assert_int_equal(driver_config(bench->driver, i, 1), mac_other[i]);
	assert_true(is_received(bench, mac_other, -1));
	assert_false(is_received(bench, mac_ours, -1));
}

/* Cable out, cable in: status, interrupt, and a wish to be announced (5.1.9.5.4). */
static void test_link(void **state)
{
	struct bench *bench = *state;
	uint64_t generation;

	bench_start(bench, &usual, "", 0);
	rx_fill(bench, 16, 1600);
	generation = driver_common_in(bench->driver, VIRTIO_PCI_COMMON_CFGGENERATION, 1);
	assert_int_equal(lab_set_up(TAP, false), 0);
	assert_true(driver_wait_config(bench->driver, DRIVER_TIMEOUT_MS));
	assert_int_equal(driver_config(bench->driver, CONFIG(status), 2), 0);
	assert_int_not_equal(driver_common_in(bench->driver, VIRTIO_PCI_COMMON_CFGGENERATION, 1),
			     generation);
	assert_int_equal(lab_set_up(TAP, true), 0);
	assert_true(driver_wait_config(bench->driver, DRIVER_TIMEOUT_MS));
	assert_int_equal(driver_config(bench->driver, CONFIG(status), 2),
			 VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
	assert_int_equal(command(bench, &driver_layouts[0], VIRTIO_NET_CTRL_ANNOUNCE,
				 VIRTIO_NET_CTRL_ANNOUNCE_ACK, NULL, 0),
			 VIRTIO_NET_OK);
	assert_int_equal(driver_config(bench->driver, CONFIG(status), 2), VIRTIO_NET_S_LINK_UP);
	close(bench->peer); /* it has an error pending from when the link was down */
	bench->peer = lab_packet_socket(TAP, 0);
	assert_true(is_received(bench, mac_ours, -1));
}

/* ---- Making one ---- */

static void test_specs(void **state)
{
	static const struct {
		const char *spec, *says;
	} cases[] = {
		{ "virtio-net", "give either tap=NAME" },
		{ "virtio-net,tap=x,fd=5", "give either tap=NAME" },
		{ "virtio-net,tap=thisnameistoolongforaninterface", "thisnameistoolong" },
		{ "virtio-net,tap=lo", "lo" },
		{ "virtio-net,fd=777", "777" },
		{ "virtio-net,tap=tenon-x,mac=01:00:00:00:00:01", "multicast" },
		{ "virtio-net,tap=tenon-x,mac=nonsense", "mac=nonsense" },
		{ "virtio-net,tap=tenon-x,mtu=67", "mtu=67" },
		{ "virtio-net,tap=tenon-x,mtu=65536", "mtu=65536" },
		{ "virtio-net,tap=" TAP, TAP }, /* in use by the first one */
	};
	struct bench *bench = *state;

	bench_start(bench, &usual, "", 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		machine_log_clear(bench->machine);
		if (pci_add_device(bench->machine->ctx, cases[i].spec))
			fail_msg("accepted: %s", cases[i].spec);
		if (bench->machine->captured.count != 1) {
			machine_log_print(bench->machine);
			fail_msg("%s: %u lines", cases[i].spec, bench->machine->captured.count);
		}
		assert_logged(bench->machine, cases[i].says);
		assert_false(lab_exists("tenon-x"));
	}
	/* The interface that was made for the device goes with it. */
	assert_true(lab_exists(TAP));
	bench_close(bench);
	assert_false(lab_exists(TAP));
}

#define BENCH_TEST(function) cmocka_unit_test_setup_teardown(function, bench_setup, bench_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BENCH_TEST(test_transmit),
		BENCH_TEST(test_transmit_malformed),
		BENCH_TEST(test_receive),
		BENCH_TEST(test_receive_burst),
		BENCH_TEST(test_receive_merged),
		BENCH_TEST(test_receive_too_large),
		BENCH_TEST(test_receive_malformed),
		BENCH_TEST(test_receive_reset),
		BENCH_TEST(test_filter),
		BENCH_TEST(test_filter_vlan),
		BENCH_TEST(test_filter_not_negotiated),
		BENCH_TEST(test_control_wrong),
		BENCH_TEST(test_config),
		BENCH_TEST(test_config_legacy_mac),
		BENCH_TEST(test_link),
		BENCH_TEST(test_specs),
	};

	return cmocka_run_group_tests(tests, group_setup, NULL);
}
