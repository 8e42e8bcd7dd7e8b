/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * net_flows.h: frames of several flows between a virtio-net device with several pairs and the wire,
 * for tests of which queue they come by.
 */
#ifndef TENON_TESTS_NET_FLOWS_H
#define TENON_TESTS_NET_FLOWS_H

#include "net_bench.h"

#define RX(pair) (2 * (pair))
#define TX(pair) (2 * (pair) + 1)
#define BUFFERS 16
#define BUFFER 1600
#define HEADER 12
#define FRAME 60

/* ---- Frames of flows: UDP from our port @flow to theirs, or back ---- */

static inline void frame_make(uint8_t *frame, uint8_t flow, bool back)
{
	static const uint8_t ours[] = { 10, 0, 0, 2, 0x40, 0 }, theirs[] = { 10, 0, 0, 1, 0, 7 };
	const uint8_t *from = back ? theirs : ours, *to = back ? ours : theirs;

	memset(frame, 0, FRAME);
	memcpy(frame, back ? mac_ours : mac_other, ETH_ALEN);
	memcpy(frame + ETH_ALEN, back ? mac_other : mac_ours, ETH_ALEN);
	memcpy(frame + 12, "\x08\0\x45\0\0\x2e\0\0\0\0\x40\x11", 12);
	memcpy(frame + 26, from, 4);
	memcpy(frame + 30, to, 4);
	memcpy(frame + 34, from + 4, 2);
	memcpy(frame + 36, to + 4, 2);
	frame[back ? 37 : 35] = flow;
	frame[39] = 26; /* UDP's length */
}

static inline void wire_send(struct bench *bench, uint8_t flow)
{
	uint8_t frame[FRAME];

	frame_make(frame, flow, true);
	assert_int_equal(send(bench->peer, frame, sizeof(frame), 0), sizeof(frame));
}

struct wire_read {
	int fd;
	uint8_t frame[FRAME + 64];
	ssize_t len;
};

static inline bool wire_read_done(void *arg)
{
	struct wire_read *wire = arg;

	wire->len = recv(wire->fd, wire->frame, sizeof(wire->frame), MSG_DONTWAIT);
	return wire->len >= 0;
}

static inline void transmit(struct bench *bench, unsigned int pair, uint8_t flow)
{
	struct wire_read wire = { .fd = bench->peer };
	uint8_t packet[HEADER + FRAME] = { 0 };

	frame_make(packet + HEADER, flow, false);
	assert_int_equal(driver_request(driver_queue(bench->driver, TX(pair)), &driver_layouts[0],
					packet, sizeof(packet), NULL, 0),
			 0);
	assert_true(machine_wait(bench->machine, wire_read_done, &wire, DRIVER_TIMEOUT_MS));
	assert_int_equal(wire.len, FRAME);
	assert_memory_equal(wire.frame, packet + HEADER, FRAME);
}

static inline void rx_fill(struct bench *bench, unsigned int queue)
{
	for (unsigned int i = 0; i < BUFFERS; i++) {
		struct segment buffer = { guest_alloc(bench->machine, BUFFER, 1), BUFFER };
		void *token = guest_ptr(bench->machine, buffer.gpa, BUFFER);

		assert_int_equal(
			driver_add_buf(driver_queue(bench->driver, queue), &buffer, 0, 1, token),
			0);
	}
	driver_kick(driver_queue(bench->driver, queue));
	machine_poll(bench->machine);
}

/* The flow of the next frame on receive queue @queue, -1 if none comes. */
static inline int rx_take(struct bench *bench, unsigned int queue, int timeout_ms)
{
	uint32_t len;
	const uint8_t *bytes =
		driver_wait_buf(driver_queue(bench->driver, queue), &len, timeout_ms);
	uint8_t frame[FRAME];

	if (!bytes)
		return -1;
	assert_int_equal(len, HEADER + FRAME);
	frame_make(frame, bytes[HEADER + 37], true);
	assert_memory_equal(bytes + HEADER, frame, FRAME);
	return bytes[HEADER + 37];
}

static inline uint8_t set_pairs_of(struct bench *bench, unsigned int ctrl, const void *data,
				   uint32_t len)
{
	uint8_t out[16] = { VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET }, ack;

	memcpy(out + 2, data, len);
	assert_int_equal(driver_request(driver_queue(bench->driver, ctrl), &driver_layouts[0], out,
					2 + len, &ack, 1),
			 1);
	return ack;
}

#endif
