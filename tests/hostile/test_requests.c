/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests that are well-formed chains and nonsense to the device: classes 7, 8 and 12. The first
 * part is for every kind of device, the others each for one.
 */
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_console.h>
#include <linux/virtio_net.h>

#include "hostile.h"

#define DATA_MAX 0x20000

/* ---- Any kind: cut in any way, with too much and too little room ---- */

static void test_layouts(void **state)
{
	struct hostile *hostile = hostile_run(state);
	const struct device_kind *kind = hostile->victim->kind;
	uint8_t out[KIND_REQUEST_MAX], in[KIND_REQUEST_MAX];
	uint32_t len = kind->fill(hostile->driver, out);

	for (unsigned int i = 0; i < driver_layout_count; i++) {
		/* guards and the readable part are looked at there */
		assert_int_equal(
			driver_request(hostile->queue, &driver_layouts[i], out, len, in, kind->in),
			kind->used);
		hostile_expect_ignored(hostile, driver_layouts[i].name);
	}
	hostile_close(hostile);
}

/* What is behind used.len was not written, but for a status byte at the end; what is before it was. */
static void check_used_length(const struct device_kind *kind, const uint8_t *in, uint32_t room,
			      uint32_t len)
{
	unsigned int run = 0;

	assert_true(len <= room);
	for (uint32_t i = 0; i < len; i++) {
		run = in[i] == DRIVER_POISON ? run + 1 : 0;
		assert_true(run < 8);
	}
	for (uint32_t i = len; i + 1 < room; i++)
		assert_int_equal(in[i], DRIVER_POISON);
	assert_false(check_poison_seen(in, room));
}

struct answer {
	struct hostile *hostile;
	void *done;
	uint32_t len;
};

static bool answered(void *arg)
{
	struct answer *answer = arg;

	answer->done = driver_get_buf(answer->hostile->queue, &answer->len);
	return answer->done || hostile_needs_reset(answer->hostile);
}

/* The readable part as it should be or cut short, the writable one of any length (class 8). */
static void test_room(void **state)
{
	struct hostile *hostile = hostile_run(state);
	const struct device_kind *kind = hostile->victim->kind;
	uint8_t out[KIND_REQUEST_MAX];
	uint32_t whole = kind->fill(hostile->driver, out);

	for (uint32_t room = 0; room < kind->in + 40; room++)
		for (uint32_t cut = 0; cut <= whole; cut += 1 + (room % 4) * 5) {
			uint64_t gpa = guest_alloc(hostile->machine, whole + room + 8, 8);
			struct segment segments[2] = { { gpa, whole - cut },
						       { gpa + whole, room } };
			uint8_t *in = guest_ptr(hostile->machine, gpa + whole, room + 8);
			struct answer answer = { .hostile = hostile };

			memcpy(guest_ptr(hostile->machine, gpa, whole), out, whole);
			memset(in, DRIVER_POISON, room + 8);
			check_poison_stack();
			assert_int_equal(driver_add_buf(hostile->queue,
							whole > cut ? segments : segments + 1,
							whole > cut, room > 0 || whole == cut,
							segments),
					 0);
			driver_kick(hostile->queue);
			if (!machine_wait(hostile->machine, answered, &answer, DRIVER_TIMEOUT_MS))
				fail_msg("%u readable and %u writable bytes: no answer",
					 whole - cut, room);
			if (answer.done)
				check_used_length(kind, in, room, answer.len);
			for (unsigned int i = 0; i < 8; i++)
				assert_int_equal(in[room + i], DRIVER_POISON);
			if (!answer.done)
				hostile_expect_contained(hostile, "a request of odd lengths");
		}
	hostile_expect_survived(hostile, "requests of odd lengths");
	hostile_close(hostile);
}

/* ---- virtio-blk ---- */

#define BLK_SECTORS 2048 /* of the image that the bench makes */
#define ANY_STATUS 0xfe

struct blk_row {
	const char *name;
	uint32_t type;
	uint64_t sector;
	uint32_t out, in; /* bytes behind the header; bytes before the status */
	uint8_t status;
};

static const struct blk_row blk_rows[] = {
	{ "unknown type", 0x7777, 0, 0, 0, VIRTIO_BLK_S_UNSUPP },
	{ "type with high bits", 0x80000000, 0, 512, 0, VIRTIO_BLK_S_UNSUPP },
	{ "read at the end", VIRTIO_BLK_T_IN, BLK_SECTORS, 0, 512, VIRTIO_BLK_S_IOERR },
	{ "read over the end", VIRTIO_BLK_T_IN, BLK_SECTORS - 1, 0, 1024, VIRTIO_BLK_S_IOERR },
	{ "read at sector 2^64 - 1", VIRTIO_BLK_T_IN, UINT64_MAX, 0, 512, VIRTIO_BLK_S_IOERR },
	{ "read 2 at sector 2^64 - 1", VIRTIO_BLK_T_IN, UINT64_MAX, 0, 1024, VIRTIO_BLK_S_IOERR },
	{ "read where bytes wrap", VIRTIO_BLK_T_IN, BIT64(55), 0, 512, VIRTIO_BLK_S_IOERR },
	{ "read at a negative offset", VIRTIO_BLK_T_IN, BIT64(54), 0, 512, VIRTIO_BLK_S_IOERR },
	{ "read of no sector", VIRTIO_BLK_T_IN, 0, 0, 0, ANY_STATUS },
	{ "read of half a sector", VIRTIO_BLK_T_IN, 0, 0, 256, VIRTIO_BLK_S_IOERR },
	{ "write at the end", VIRTIO_BLK_T_OUT, BLK_SECTORS, 512, 0, VIRTIO_BLK_S_IOERR },
	{ "write at sector 2^64 - 1", VIRTIO_BLK_T_OUT, UINT64_MAX, 512, 0, VIRTIO_BLK_S_IOERR },
	{ "write where bytes wrap", VIRTIO_BLK_T_OUT, BIT64(55), 512, 0, VIRTIO_BLK_S_IOERR },
	{ "write of half a sector", VIRTIO_BLK_T_OUT, 0, 256, 0, VIRTIO_BLK_S_IOERR },
	{ "flush with a sector", VIRTIO_BLK_T_FLUSH, UINT64_MAX, 0, 0, ANY_STATUS },
	{ "flush with data", VIRTIO_BLK_T_FLUSH, 0, 512, 512, ANY_STATUS },
	{ "id without room", VIRTIO_BLK_T_GET_ID, 0, 0, 0, VIRTIO_BLK_S_OK },
	{ "id with too much room", VIRTIO_BLK_T_GET_ID, 0, 0, 4096, VIRTIO_BLK_S_OK },
	{ "discard of nothing", VIRTIO_BLK_T_DISCARD, 0, 0, 0, VIRTIO_BLK_S_IOERR },
	{ "discard of half a segment", VIRTIO_BLK_T_DISCARD, 0, 8, 0, VIRTIO_BLK_S_IOERR },
	{ "discard of a segment and a byte", VIRTIO_BLK_T_DISCARD, 0, 17, 0, VIRTIO_BLK_S_IOERR },
	{ "discard of too many segments", VIRTIO_BLK_T_DISCARD, 0, 16 * 17, 0, VIRTIO_BLK_S_IOERR },
	{ "discard of 64 KiB of segments", VIRTIO_BLK_T_DISCARD, 0, 65536, 0, VIRTIO_BLK_S_IOERR },
	{ "zeroes for half a segment", VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0, VIRTIO_BLK_S_IOERR },
	{ "zeroes for two segments", VIRTIO_BLK_T_WRITE_ZEROES, 0, 32, 0, VIRTIO_BLK_S_IOERR },
};

static const struct {
	const char *name;
	struct virtio_blk_discard_write_zeroes segment;
	uint8_t status;
} blk_segments[] = {
	{ "segment at the end", { BLK_SECTORS, 1, 0 }, VIRTIO_BLK_S_IOERR },
	{ "segment over the end", { BLK_SECTORS - 1, 2, 0 }, VIRTIO_BLK_S_IOERR },
	{ "segment at 2^64 - 1", { UINT64_MAX, 1, 0 }, VIRTIO_BLK_S_IOERR },
	{ "segment that wraps", { UINT64_MAX, 2, 0 }, VIRTIO_BLK_S_IOERR },
	{ "segment whose bytes wrap", { BIT64(55), 1, 0 }, VIRTIO_BLK_S_IOERR },
	{ "segment of 2^32 - 1 sectors", { 0, UINT32_MAX, 0 }, VIRTIO_BLK_S_IOERR },
	{ "segment with unknown flags", { 0, 1, 0x80000000 }, VIRTIO_BLK_S_UNSUPP },
	{ "segment with all flags", { 0, 1, UINT32_MAX }, VIRTIO_BLK_S_UNSUPP },
};

static uint8_t image_byte(uint32_t offset)
{
	return (uint8_t)(offset / 512 + 7 * offset + 1);
}

static void image_fill(const char *path)
{
	int fd = open(path, O_WRONLY);
	uint8_t sector[512];

	assert_true(fd >= 0);
	for (uint32_t i = 0; i < BLK_SECTORS; i++) {
		for (uint32_t j = 0; j < sizeof(sector); j++)
			sector[j] = image_byte(i * 512 + j);
		assert_int_equal(write(fd, sector, sizeof(sector)), sizeof(sector));
	}
	close(fd);
}

static void image_check(const char *path, const char *what)
{
	int fd = open(path, O_RDONLY);
	uint8_t sector[512];

	assert_int_equal(lseek(fd, 0, SEEK_END), BLK_SECTORS * 512);
	lseek(fd, 0, SEEK_SET);
	for (uint32_t i = 0; i < BLK_SECTORS; i++) {
		assert_int_equal(read(fd, sector, sizeof(sector)), sizeof(sector));
		for (uint32_t j = 0; j < sizeof(sector); j++)
			if (sector[j] != image_byte(i * 512 + j))
				fail_msg("%s: byte %u of the image changed", what, i * 512 + j);
	}
	close(fd);
}

static void blk_request(struct hostile *hostile, const char *name, const uint8_t *out,
			uint32_t out_len, uint32_t in_len, uint8_t status)
{
	static uint8_t in[DATA_MAX + 1];
	uint32_t len;

	len = driver_request(hostile->queue, &driver_layouts[0], out, out_len, in, in_len + 1);
	if (status != ANY_STATUS && in[in_len] != status)
		fail_msg("%s: status %u, not %u", name, in[in_len], status);
	if (status == VIRTIO_BLK_S_IOERR || status == VIRTIO_BLK_S_UNSUPP)
		for (uint32_t i = 0; i < in_len; i++)
			assert_int_equal(in[i], DRIVER_POISON);
	check_used_length(hostile->victim->kind, in, in_len + 1, len);
	hostile_expect_ignored(hostile, name);
}

static void test_blk_rows(void **state)
{
	struct hostile *hostile = hostile_run(state);
	const char *path = hostile->victim->kind_bench->path;
	static uint8_t out[DATA_MAX];

	image_fill(path);
	for (unsigned int i = 0; i < ARRAY_SIZE(blk_rows); i++) {
		const struct blk_row *row = &blk_rows[i];
		struct virtio_blk_outhdr header = { .type = row->type, .sector = row->sector };

		memset(out, 0, sizeof(out));
		memcpy(out, &header, sizeof(header));
		blk_request(hostile, row->name, out, (uint32_t)sizeof(header) + row->out, row->in,
			    row->status);
	}
	image_check(path, "rows");
	hostile_close(hostile);
}

static void test_blk_segments(void **state)
{
	static const uint32_t types[] = { VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES };
	struct hostile *hostile = hostile_run(state);
	const char *path = hostile->victim->kind_bench->path;

	image_fill(path);
	for (unsigned int i = 0; i < 2 * ARRAY_SIZE(blk_segments); i++) {
		struct virtio_blk_outhdr header = { .type = types[i & 1] };
		struct virtio_blk_discard_write_zeroes good = { 5, 1, 0 };
		uint8_t out[sizeof(header) + 2 * sizeof(good)];

		memcpy(out, &header, sizeof(header));
		memcpy(out + sizeof(header), &blk_segments[i / 2].segment, sizeof(good));
		blk_request(hostile, blk_segments[i / 2].name, out, sizeof(header) + sizeof(good),
			    0, blk_segments[i / 2].status);
		/* Nothing is done for the first segment if there is anything wrong with the second. */
		memcpy(out + sizeof(header) + sizeof(good), &blk_segments[i / 2].segment,
		       sizeof(good));
		memcpy(out + sizeof(header), &good, sizeof(good));
		blk_request(hostile, blk_segments[i / 2].name, out, sizeof(out), 0,
			    i & 1 ? VIRTIO_BLK_S_IOERR : blk_segments[i / 2].status);
	}
	image_check(path, "segments");
	hostile_close(hostile);
}

/* What is no request at all: there is no place to say so in. */
static void test_blk_no_request(void **state)
{
	static const struct {
		const char *name;
		uint32_t out, in;
	} rows[] = {
		{ "no header", 0, 513 },
		{ "half a header", 15, 513 },
		{ "no status byte", 16, 0 },
		{ "no status byte, but data", 528, 0 },
	};
	struct hostile *hostile = hostile_run(state);

	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		uint64_t gpa = guest_alloc(hostile->machine, 2048, 16);
		struct segment segments[2] = { { gpa, rows[i].out }, { gpa + 1024, rows[i].in } };

		assert_int_equal(driver_add_buf(hostile->queue,
						rows[i].out ? segments : segments + 1,
						rows[i].out > 0, rows[i].in > 0, segments),
				 0);
		driver_kick(hostile->queue);
		hostile_expect_broken(hostile, rows[i].name, "hold no header and status");
	}
	hostile_close(hostile);
}

/* ---- virtio-net ---- */

#define NET_RX 0
#define NET_TX 1
#define NET_CTRL 2

struct net_row {
	const char *name;
	struct virtio_net_hdr_v1 header;
	uint32_t len; /* header included */
};

#define HDR ((uint32_t)sizeof(struct virtio_net_hdr_v1))

static const struct net_row net_rows[] = {
	{ "no header", { 0 }, 1 },
	{ "half a header", { 0 }, HDR - 1 },
	{ "header alone", { 0 }, HDR },
	{ "half an Ethernet header", { 0 }, HDR + 13 },
	{ "frame of 64 KiB and more", { 0 }, HDR + 65536 + 64 },
	{ "checksum behind the frame",
	  { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 0xffff, .csum_offset = 0xffff },
	  HDR + 60 },
	{ "checksum half behind the frame",
	  { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 58, .csum_offset = 1 },
	  HDR + 60 },
	{ "unknown segmentation", { .gso_type = 0x42, .gso_size = 1 }, HDR + 60 },
	{ "segments of no bytes",
	  { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .gso_type = VIRTIO_NET_HDR_GSO_TCPV4 },
	  HDR + 60 },
	{ "segmentation without a checksum",
	  { .gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .gso_size = 1000 },
	  HDR + 60 },
	{ "ECN alone", { .gso_type = VIRTIO_NET_HDR_GSO_ECN, .gso_size = 1000 }, HDR + 60 },
};

/* The frame is dropped and its buffer used; it is no reason to stop. */
static void test_net_frames(void **state)
{
	struct hostile *hostile = hostile_run(state);
	static uint8_t out[DATA_MAX];

	for (unsigned int i = 0; i < ARRAY_SIZE(net_rows); i++) {
		memset(out, 0, sizeof(out));
		memcpy(out, &net_rows[i].header, HDR);
		assert_int_equal(driver_request(hostile->queue, &driver_layouts[i % 2 * 2], out,
						net_rows[i].len, NULL, 0),
				 0);
		assert_false(hostile_needs_reset(hostile));
		hostile_one_line(hostile, net_rows[i].name, "dropped a frame");
		hostile_log_clear(hostile->machine);
		hostile_expect_ignored(hostile, net_rows[i].name);
	}
	hostile_close(hostile);
}

static const struct {
	const char *name;
	uint8_t class, command;
	uint8_t data[16];
	uint32_t len;
} net_commands[] = {
	{ "no command", 0, 0, {}, 0 },
	{ "unknown class", 0x7f, 0, { 1 }, 1 },
	{ "unknown command", VIRTIO_NET_CTRL_RX, 0x7f, { 1 }, 1 },
	{ "filter mode without a value", VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, {}, 0 },
	{ "filter mode of 2 bytes", VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, {}, 2 },
	{ "address of 5 bytes", VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, { 2 }, 5 },
	{ "multicast address", VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, { 3 }, 6 },
	{ "table without a number", VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, {}, 3 },
	{ "table of 2^32 - 1 addresses",
	  VIRTIO_NET_CTRL_MAC,
	  VIRTIO_NET_CTRL_MAC_TABLE_SET,
	  { 0xff, 0xff, 0xff, 0xff, 2 },
	  16 },
	{ "table whose bytes wrap",
	  VIRTIO_NET_CTRL_MAC,
	  VIRTIO_NET_CTRL_MAC_TABLE_SET,
	  { 0xab, 0xaa, 0xaa, 0x2a, 2 }, /* times 6 is 2 modulo 2^32 */
	  12 },
	{ "second table missing", VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, { 1 }, 10 },
	{ "VLAN 4096", VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, { 0, 0x10 }, 2 },
	{ "VLAN 65535", VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_DEL, { 0xff, 0xff }, 2 },
	{ "queue pairs without MQ", VIRTIO_NET_CTRL_MQ, 0, { 0xff, 0xff }, 2 },
	{ "RSS without RSS", VIRTIO_NET_CTRL_MQ, 1, { 0xff, 0xff, 0xff, 0xff }, 16 },
	{ "offloads not negotiated",
	  VIRTIO_NET_CTRL_GUEST_OFFLOADS,
	  VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET,
	  { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff },
	  8 },
};

static uint8_t net_command(struct hostile *hostile, const void *out, uint32_t len)
{
	uint8_t ack;

	assert_int_equal(driver_request(driver_queue(hostile->driver, NET_CTRL), &driver_layouts[1],
					out, len, &ack, 1),
			 1);
	return ack;
}

static void test_net_commands(void **state)
{
	struct hostile *hostile = hostile_run(state);

	for (unsigned int i = 0; i < ARRAY_SIZE(net_commands); i++) {
		uint8_t out[18] = { net_commands[i].class, net_commands[i].command };

		memcpy(out + 2, net_commands[i].data, 16);
		if (net_command(hostile, out, net_commands[i].len + (i > 0 ? 2 : 0)) !=
		    VIRTIO_NET_ERR)
			fail_msg("%s: not refused", net_commands[i].name);
		hostile_expect_ignored(hostile, net_commands[i].name);
	}
	hostile_close(hostile);
}

/* More addresses than the table takes: it takes none of them, and not more memory (class 12). */
static void test_net_large_table(void **state)
{
	struct hostile *hostile = hostile_run(state);
	const uint32_t entries = 20000, none = 0;
	static uint8_t out[DATA_MAX];

	memset(out, 2, sizeof(out));
	out[0] = VIRTIO_NET_CTRL_MAC;
	out[1] = VIRTIO_NET_CTRL_MAC_TABLE_SET;
	memcpy(out + 2, &entries, 4);
	memcpy(out + 6 + 6 * entries, &none, 4);
	for (unsigned int i = 0; i < 20; i++)
		assert_int_equal(net_command(hostile, out, 10 + 6 * entries), VIRTIO_NET_OK);
	hostile_expect_ignored(hostile, "20,000 addresses");
	hostile_close(hostile);
}

static void test_net_queues(void **state)
{
	static const struct {
		const char *name;
		unsigned int queue;
		uint32_t out, in;
		const char *rules;
	} rows[] = {
		{ "receive buffer to read", NET_RX, 64, 64, "device-readable part" },
		{ "receive buffer without room", NET_RX, 0, 4, "smaller than the header" },
		{ "command without room for an answer", NET_CTRL, 3, 0, "no room for its answer" },
	};
	struct hostile *hostile = hostile_run(state);

	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		uint64_t gpa = guest_alloc(hostile->machine, 256, 16);
		struct segment segments[2] = { { gpa, rows[i].out }, { gpa + 128, rows[i].in } };

		hostile->queue = driver_queue(hostile->driver, rows[i].queue);
		assert_int_equal(driver_add_buf(hostile->queue,
						rows[i].out ? segments : segments + 1,
						rows[i].out > 0, rows[i].in > 0, segments),
				 0);
		hostile_kick(hostile);
		hostile_expect_broken(hostile, rows[i].name, rows[i].rules);
	}
	hostile_close(hostile);
}

/* ---- virtio-console ---- */

#define CONTROL_RX 2
#define CONTROL_TX 3

static const struct {
	const char *name;
	struct virtio_console_control message;
	uint32_t len;
	const char *line; /* NULL: none */
} console_rows[] = {
	{ "empty message", { 0, 0, 0 }, 1, "control message of 1 bytes" },
	{ "short message", { 0, VIRTIO_CONSOLE_PORT_READY, 1 }, 7, "control message of 7 bytes" },
	{ "port that is not there", { 2, VIRTIO_CONSOLE_PORT_READY, 1 }, 8, "there is no port" },
	{ "port far away", { 0x7fffffff, VIRTIO_CONSOLE_PORT_OPEN, 1 }, 8, "there is no port" },
	{ "negative port", { UINT32_MAX, VIRTIO_CONSOLE_PORT_OPEN, 1 }, 8, "there is no port" },
	{ "port that was added before", { 1, VIRTIO_CONSOLE_PORT_READY, 1 }, 8, NULL },
	{ "unknown event", { 0, 0xffff, 1 }, 8, "control message 65535" },
	{ "driver failed", { 0, VIRTIO_CONSOLE_DEVICE_READY, 0 }, 8, "could not start" },
	{ "driver ready", { UINT32_MAX, VIRTIO_CONSOLE_DEVICE_READY, 0xffff }, 8, NULL },
};

static void control_send(struct hostile *hostile, const void *message, uint32_t len)
{
	driver_request(driver_queue(hostile->driver, CONTROL_TX), &driver_layouts[1], message, len,
		       NULL, 0);
}

/* No buffer for messages to the driver: what it is to be told costs nothing. */
static void test_console_control(void **state)
{
	struct hostile *hostile = hostile_open(state, NULL, "port=one:null");
	struct virtio_console_control all = { 0 };

	hostile_start(hostile);
	for (unsigned int i = 0; i < ARRAY_SIZE(console_rows); i++) {
		control_send(hostile, &console_rows[i].message, console_rows[i].len);
		if (console_rows[i].line)
			hostile_one_line(hostile, console_rows[i].name, console_rows[i].line);
		hostile_log_clear(hostile->machine);
		hostile_expect_ignored(hostile, console_rows[i].name);
	}
	for (unsigned int i = 0; i < 3000; i++) {
		all = (struct virtio_console_control) { i % 5, (uint16_t)(i % 11),
							(uint16_t)(i % 3) };
		control_send(hostile, &all, sizeof(all));
	}
	assert_true(hostile->machine->captured.count <= 80);
	hostile_expect_survived(hostile, "control messages of all kinds");
	hostile_close(hostile);
}

/* Buffers that no message fits into: of no byte, of one less than it needs. */
static void test_console_control_room(void **state)
{
	struct hostile *hostile = hostile_open(state, NULL, "port=one:null");

	hostile_start(hostile);
	for (uint32_t room = 1; room < sizeof(struct virtio_console_control); room++) {
		struct virtio_console_control ready = { 0, VIRTIO_CONSOLE_DEVICE_READY, 1 };
		struct segment segment = { guest_alloc(hostile->machine, 64, 8), room };
		struct driver_queue *queue = driver_queue(hostile->driver, CONTROL_RX);
		uint8_t *data = guest_ptr(hostile->machine, segment.gpa, 64);

		memset(data, DRIVER_POISON, 64);
		assert_int_equal(driver_add_buf(queue, &segment, 0, 1, data), 0);
		driver_kick(queue);
		control_send(hostile, &ready, sizeof(ready));
		for (unsigned int i = 0; i < 64; i++)
			assert_int_equal(data[i], DRIVER_POISON);
		hostile->queue = queue;
		hostile_expect_broken(hostile, "a message does not fit", "does not fit the buffer");
	}
	hostile_close(hostile);
}

/* The emergency write in all widths, a million times: all of it goes or is dropped. */
static void test_console_emergency(void **state)
{
	struct hostile *hostile = hostile_run(state);
	uint32_t offset = offsetof(struct virtio_console_config, emerg_wr);

	for (unsigned int i = 0; i < 20000; i++)
		driver_set_config(hostile->driver, offset, 1U << i % 3, i * 0x01010101);
	hostile_expect_ignored(hostile, "emergency writes");
	hostile_close(hostile);
}

/* ---- virtio-rng ---- */

/* All of RAM at once: no more than the option allows in a period, and no memory of its own for it. */
static void test_rng_large(void **state)
{
	struct hostile *hostile = hostile_run(state);
	uint64_t gpa = guest_alloc(hostile->machine, MIB(32), 4096);
	struct segment segment = { gpa, MIB(32) };
	uint32_t len;

	for (unsigned int i = 0; i < 8; i++) {
		assert_int_equal(driver_add_buf(hostile->queue, &segment, 0, 1, &segment), 0);
		driver_kick(hostile->queue);
		assert_ptr_equal(driver_wait_buf(hostile->queue, &len, DRIVER_TIMEOUT_MS),
				 &segment);
		assert_in_range(len, 1, 65536);
		hostile_expect_ignored(hostile, "32 MiB of random bytes");
	}
	for (uint64_t i = 65536; i < MIB(32); i += 4096)
		assert_int_equal(*(uint64_t *)guest_ptr(hostile->machine, gpa + i, 8), 0);
	hostile_close(hostile);
}

int main(void)
{
	static struct kind_tests tests;

	kind_tests_add(&tests, "layouts", test_layouts, KIND_AXIS_RINGS);
	kind_tests_add_served(&tests, "layouts", test_layouts);
	kind_tests_add(&tests, "room", test_room, KIND_AXIS_INTERFACE);
	hostile_tests_add(&tests, "virtio-blk", "rows", test_blk_rows, KIND_AXIS_INTERFACE);
	hostile_tests_add(&tests, "virtio-blk", "segments", test_blk_segments, KIND_AXIS_NONE);
	hostile_tests_add(&tests, "virtio-blk", "no request", test_blk_no_request, KIND_AXIS_RINGS);
	hostile_tests_add(&tests, "virtio-net", "frames", test_net_frames, KIND_AXIS_FORMATS);
	hostile_tests_add(&tests, "virtio-net", "commands", test_net_commands, KIND_AXIS_FORMATS);
	hostile_tests_add(&tests, "virtio-net", "large table", test_net_large_table,
			  KIND_AXIS_NONE);
	hostile_tests_add(&tests, "virtio-net", "queues", test_net_queues, KIND_AXIS_INTERFACE);
	hostile_tests_add(&tests, "virtio-console", "control", test_console_control,
			  KIND_AXIS_FORMATS);
	hostile_tests_add(&tests, "virtio-console", "control room", test_console_control_room,
			  KIND_AXIS_FORMATS);
	hostile_tests_add(&tests, "virtio-console", "emergency", test_console_emergency,
			  KIND_AXIS_INTERFACE);
	hostile_tests_add(&tests, "virtio-rng", "large", test_rng_large, KIND_AXIS_RINGS);
	return kind_tests_run(&tests, "hostile requests");
}
