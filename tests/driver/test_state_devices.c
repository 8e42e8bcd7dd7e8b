/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Saved states of devices that have one of their own: a disk with data and a cache mode, a console
 * with ports, half sent output and input that nobody took, an interface with filters. Each is cut
 * between any two steps of its driver and goes on in another VM on the same host resources.
 */
#include <limits.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_console.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "../unit/tap_lab.h"
#include "state_lab.h"

#define MEMORY MIB(8)
#define NEVER UINT_MAX
#define RECEIVED_MAX MIB(2)

struct scene;

/*
 * struct play - @spec: the device; @connect: what the host does once it is there, @leave: and
 * before it goes; @steps: the driver's, in order; @end: all went well?
 */
struct play {
	const char *name;
	void (*spec)(struct scene *scene, char *text, size_t size);
	void (*connect)(struct scene *scene);
	void (*leave)(struct scene *scene);
	void (*const *steps)(struct scene *scene);
	unsigned int step_count;
	void (*end)(struct scene *scene);
};

/*
 * struct scene - @gpa, @out, @in: the request that is under way; @long_gpa: one that takes longer
 * @peers: sockets at the host's ends; @received: what came out of them so far
 * @messages: what the console told its driver
 */
struct scene {
	const struct play *play;
	struct driver_params params;
	char path[64];
	struct machine *machine;
	struct virtio_driver *driver;
	unsigned int round;
	uint64_t gpa, long_gpa;
	uint32_t out, in;
	int peers[2];
	uint8_t *received[2];
	size_t received_len[2];
	char messages[1000];
};

static void scene_make(struct scene *scene)
{
	struct machine_config config = { .memory_size = MEMORY };
	char spec[300];

	scene->machine = machine_create(&config);
	scene->play->spec(scene, spec, sizeof(spec));
	if (scene->params.extra)
		snprintf(spec + strlen(spec), sizeof(spec) - strlen(spec),
			 ",access_platform=on,in_order=on");
	machine_add(scene->machine, spec);
	if (scene->play->connect)
		scene->play->connect(scene);
}

static void scene_unmake(struct scene *scene)
{
	if (scene->play->leave)
		scene->play->leave(scene);
	machine_destroy(scene->machine);
}

static void scene_move(struct scene *scene)
{
	struct guest_memory_region *region = &scene->machine->ctx->memory.regions[0];
	uint64_t heap = scene->machine->heap_next;
	uint8_t *memory = malloc(MEMORY);
	struct lab_state *state;

	assert_non_null(memory);
	assert_int_equal(region->size, MEMORY);
	pci_quiesce_devices(scene->machine->ctx);
	state = lab_take(scene->machine, NULL);
	memcpy(memory, region->host, MEMORY);
	scene_unmake(scene);

	scene_make(scene);
	pci_quiesce_devices(scene->machine->ctx);
	memcpy(scene->machine->ctx->memory.regions[0].host, memory, MEMORY);
	scene->machine->heap_next = heap;
	if (lab_load(scene->machine, NULL, state->bytes, state->len)) {
		machine_log_print(scene->machine);
		fail_msg("the state is refused");
	}
	assert_true(lab_same(scene->machine, NULL, state->bytes, state->len));
	lab_driver_move(scene->driver, scene->machine);
	pci_resume_devices(scene->machine->ctx);
	lab_state_free(state);
	free(memory);
}

/* ---- Requests ---- */

static void request_add(struct scene *scene, uint16_t queue, const void *out, uint32_t out_len,
			uint32_t in_len)
{
	struct segment segments[2];
	unsigned int out_count;

	scene->gpa = guest_alloc(scene->machine, out_len + in_len, 16);
	scene->out = out_len;
	scene->in = in_len;
	if (out_len)
		memcpy(guest_ptr(scene->machine, scene->gpa, out_len), out, out_len);
	out_count = segments_cut(segments, 1, scene->gpa, out_len, NULL, 0);
	assert_int_equal(driver_add_buf(driver_queue(scene->driver, queue), segments, out_count,
					segments_cut(segments + out_count, 1, scene->gpa + out_len,
						     in_len, NULL, 0),
					(void *)(uintptr_t)scene->gpa),
			 0);
}

/* The writable part of the request on @queue, once it is used. */
static uint8_t *request_reap(struct scene *scene, uint16_t queue, uint32_t *len)
{
	void *token = driver_wait_buf(driver_queue(scene->driver, queue), len, DRIVER_TIMEOUT_MS);

	if (token != (void *)(uintptr_t)scene->gpa) {
		machine_log_print(scene->machine);
		fail_msg("no answer on queue %u", queue);
	}
	return guest_ptr(scene->machine, scene->gpa + scene->out, scene->in);
}

static void request(struct scene *scene, uint16_t queue, const void *out, uint32_t len)
{
	request_add(scene, queue, out, len, 0);
	driver_kick(driver_queue(scene->driver, queue));
	request_reap(scene, queue, NULL);
}

/* ---- The disk ---- */

#define BLK_SECTORS 8

static void blk_spec(struct scene *scene, char *text, size_t size)
{
	snprintf(text, size, "%d,virtio-blk,%s,queue_size=8,threads=1", KIND_SLOT, scene->path);
}

static void blk_pattern(const struct scene *scene, uint8_t *data)
{
	for (unsigned int i = 0; i < 512; i++)
		data[i] = (uint8_t)(i * 7 + scene->round);
}

static void blk_write(struct scene *scene)
{
	struct {
		struct virtio_blk_outhdr header;
		uint8_t data[512];
	} out = { .header = { .type = VIRTIO_BLK_T_OUT, .sector = scene->round % BLK_SECTORS } };

	blk_pattern(scene, out.data);
	request_add(scene, 0, &out, sizeof(out), 1);
}

static void blk_read(struct scene *scene)
{
	struct virtio_blk_outhdr out = { .type = VIRTIO_BLK_T_IN,
					 .sector = scene->round % BLK_SECTORS };

	request_add(scene, 0, &out, sizeof(out), 513);
}

static void blk_kick(struct scene *scene)
{
	driver_kick(driver_queue(scene->driver, 0));
}

static void blk_reap(struct scene *scene)
{
	uint8_t pattern[512];
	uint8_t *in = request_reap(scene, 0, NULL);

	assert_int_equal(in[scene->in - 1], VIRTIO_BLK_S_OK);
	blk_pattern(scene, pattern);
	if (scene->in > 1)
		assert_memory_equal(in, pattern, sizeof(pattern));
}

static void blk_set_wce(struct scene *scene)
{
	driver_set_config(scene->driver, offsetof(struct virtio_blk_config, wce), 1,
			  scene->round & 1);
}

static void blk_next(struct scene *scene)
{
	assert_int_equal(driver_config(scene->driver, offsetof(struct virtio_blk_config, wce), 1),
			 scene->round & 1);
	scene->round++;
}

static void blk_end(struct scene *scene)
{
	uint8_t data[512], pattern[512];
	FILE *file = fopen(scene->path, "rb");

	assert_non_null(file);
	for (unsigned int i = 0; i < scene->round; i++) {
		struct scene then = { .round = i };

		blk_pattern(&then, pattern);
		assert_int_equal(fread(data, 1, sizeof(data), file), sizeof(data));
		assert_memory_equal(data, pattern, sizeof(data));
	}
	fclose(file);
}

#define BLK_ROUND blk_write, blk_kick, blk_reap, blk_read, blk_kick, blk_reap, blk_set_wce, blk_next

static void (*const blk_steps[])(struct scene *scene) = { BLK_ROUND, BLK_ROUND, BLK_ROUND };

static const struct play blk_play = { .name = "blk",
				      .spec = blk_spec,
				      .steps = blk_steps,
				      .step_count = ARRAY_SIZE(blk_steps),
				      .end = blk_end };

/* ---- The console ---- */

enum { CONSOLE_RX0, CONSOLE_TX0, CONTROL_RX, CONTROL_TX, CONSOLE_RX1, CONSOLE_TX1 };

#define MESSAGE_ROOM 80
#define MESSAGES 8
#define FLOOD_CHUNK KIB(16)
#define LONG_CHUNK KIB(500) /* more than a socket takes */

static void console_spec(struct scene *scene, char *text, size_t size)
{
	snprintf(text, size,
		 "%d,virtio-console,socket:%s.0:server,port=org.test:socket:%s.1:server,"
		 "queue_size=16",
		 KIND_SLOT, scene->path, scene->path);
}

static void console_connect(struct scene *scene)
{
	for (unsigned int i = 0; i < 2; i++) {
		struct sockaddr_un address = { .sun_family = AF_UNIX };

		snprintf(address.sun_path, sizeof(address.sun_path), "%s.%u", scene->path, i);
		scene->peers[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
		assert_int_equal(
			connect(scene->peers[i], (struct sockaddr *)&address, sizeof(address)), 0);
	}
	machine_poll(scene->machine);
}

static void peer_drain(struct scene *scene, unsigned int index)
{
	for (;;) {
		ssize_t len = read(scene->peers[index],
				   scene->received[index] + scene->received_len[index],
				   RECEIVED_MAX - scene->received_len[index]);

		if (len <= 0)
			return;
		scene->received_len[index] += (size_t)len;
		machine_poll(scene->machine);
	}
}

/* Quiesced, the device sends no more than it has: what is in the socket is the old peer's. */
static void console_leave(struct scene *scene)
{
	for (unsigned int i = 0; i < 2; i++) {
		ssize_t len;

		while ((len = read(scene->peers[i], scene->received[i] + scene->received_len[i],
				   RECEIVED_MAX - scene->received_len[i])) > 0)
			scene->received_len[i] += (size_t)len;
		close(scene->peers[i]);
	}
}

static void message_room(struct scene *scene)
{
	uint64_t gpa = guest_alloc(scene->machine, MESSAGE_ROOM, 16);
	struct segment segment = { gpa, MESSAGE_ROOM };
	struct driver_queue *queue = driver_queue(scene->driver, CONTROL_RX);

	assert_int_equal(driver_add_buf(queue, &segment, 0, 1, (void *)(uintptr_t)gpa), 0);
	driver_kick(queue);
}

static void console_rooms(struct scene *scene)
{
	for (unsigned int i = 0; i < MESSAGES; i++)
		message_room(scene);
}

static void console_messages(struct scene *scene)
{
	uint32_t len;
	void *token;

	machine_poll(scene->machine);
	while ((token = driver_get_buf(driver_queue(scene->driver, CONTROL_RX), &len))) {
		struct virtio_console_control *message =
			guest_ptr(scene->machine, (uintptr_t)token, MESSAGE_ROOM);
		size_t at = strlen(scene->messages);

		snprintf(scene->messages + at, sizeof(scene->messages) - at, "%u:%u:%u ",
			 message->id, message->event, message->value);
		message_room(scene);
	}
}

static void control(struct scene *scene, uint32_t id, uint16_t event)
{
	struct virtio_console_control message = { .id = id, .event = event, .value = 1 };

	request(scene, CONTROL_TX, &message, sizeof(message));
}

static void console_ready(struct scene *scene)
{
	control(scene, 0, VIRTIO_CONSOLE_DEVICE_READY);
}

static void console_port0_ready(struct scene *scene)
{
	control(scene, 0, VIRTIO_CONSOLE_PORT_READY);
}

static void console_port1_ready(struct scene *scene)
{
	control(scene, 1, VIRTIO_CONSOLE_PORT_READY);
}

static void console_port1_open(struct scene *scene)
{
	control(scene, 1, VIRTIO_CONSOLE_PORT_OPEN);
}

static void console_input(struct scene *scene)
{
	assert_int_equal(write(scene->peers[1], "some input", 10), 10);
	machine_poll(scene->machine);
}

static void console_receive(struct scene *scene)
{
	request_add(scene, CONSOLE_RX1, NULL, 0, 32);
	driver_kick(driver_queue(scene->driver, CONSOLE_RX1));
}

static void console_received(struct scene *scene)
{
	uint32_t len;
	uint8_t *in = request_reap(scene, CONSOLE_RX1, &len);

	assert_int_equal(len, 10);
	assert_memory_equal(in, "some input", 10);
}

static void chunk_fill(uint8_t *chunk, size_t len, unsigned int seed)
{
	for (size_t i = 0; i < len; i++)
		chunk[i] = (uint8_t)(i * 13 + seed + (i >> 8));
}

/* Nobody reads: what the socket does not take is in the device. */
static void console_flood(struct scene *scene)
{
	uint8_t chunk[FLOOD_CHUNK];

	chunk_fill(chunk, sizeof(chunk), scene->round++);
	request(scene, CONSOLE_TX0, chunk, sizeof(chunk));
}

static void console_long_add(struct scene *scene)
{
	uint8_t *chunk = malloc(LONG_CHUNK);

	chunk_fill(chunk, LONG_CHUNK, 99);
	request_add(scene, CONSOLE_TX1, chunk, LONG_CHUNK, 0);
	scene->long_gpa = scene->gpa;
	free(chunk);
}

static void console_long_kick(struct scene *scene)
{
	driver_kick(driver_queue(scene->driver, CONSOLE_TX1));
	machine_poll(scene->machine);
}

static void console_long_reap(struct scene *scene)
{
	for (unsigned int i = 0; i < 1000 && scene->received_len[1] < LONG_CHUNK; i++) {
		machine_poll(scene->machine);
		peer_drain(scene, 1);
	}
	scene->gpa = scene->long_gpa;
	request_reap(scene, CONSOLE_TX1, NULL);
}

static void console_end(struct scene *scene)
{
	uint8_t *expected = malloc(LONG_CHUNK);

	for (unsigned int i = 0; i < 1000 && scene->received_len[0] < scene->round * FLOOD_CHUNK;
	     i++) {
		machine_poll(scene->machine);
		peer_drain(scene, 0);
	}
	assert_int_equal(scene->received_len[0], scene->round * FLOOD_CHUNK);
	for (unsigned int i = 0; i < scene->round; i++) {
		chunk_fill(expected, FLOOD_CHUNK, i);
		assert_memory_equal(scene->received[0] + i * FLOOD_CHUNK, expected, FLOOD_CHUNK);
	}
	assert_int_equal(scene->received_len[1], LONG_CHUNK);
	chunk_fill(expected, LONG_CHUNK, 99);
	assert_memory_equal(scene->received[1], expected, LONG_CHUNK);
	free(expected);
	/* added; ready: it is a console, or has a name; its host's end is open */
	assert_string_equal(scene->messages, "0:1:1 1:1:1 0:4:1 0:6:1 1:7:1 1:6:1 ");
}

#define FLOOD_4 console_flood, console_flood, console_flood, console_flood

static void (*const console_steps[])(struct scene *scene) = {
	console_rooms,
	console_ready,
	console_messages,
	console_port0_ready,
	console_messages,
	console_messages,
	console_port1_ready,
	console_messages,
	console_port1_open,
	console_messages,
	console_input,
	console_receive,
	console_received,
	console_long_add,
	console_long_kick,
	FLOOD_4,
	FLOOD_4,
	FLOOD_4,
	FLOOD_4,
	console_long_reap,
};

static const struct play console_play = { .name = "console",
					  .spec = console_spec,
					  .connect = console_connect,
					  .leave = console_leave,
					  .steps = console_steps,
					  .step_count = ARRAY_SIZE(console_steps),
					  .end = console_end };

/* ---- The interface ---- */

enum { NET_RX, NET_TX, NET_CTRL };

#define NET_TAP "tenon-state"
#define NET_ROOM 1600
#define NET_FRAME 100

static const uint8_t net_table_mac[6] = { 2, 0, 0, 0, 0, 7 };
static const uint8_t net_other_mac[6] = { 2, 0, 0, 0, 0, 8 };

static void net_spec(struct scene *scene, char *text, size_t size)
{
	snprintf(text, size, "%d,virtio-net,tap=" NET_TAP ",queue_size=16", KIND_SLOT);
}

static void net_connect(struct scene *scene)
{
	scene->peers[0] = lab_packet_socket(NET_TAP, 0);
	assert_true(scene->peers[0] >= 0);
}

static void net_leave(struct scene *scene)
{
	close(scene->peers[0]);
}

static void command_on(struct scene *scene, uint16_t queue, uint8_t class, uint8_t cmd,
		       const void *data, uint32_t len)
{
	uint8_t bytes[100] = { class, cmd };

	memcpy(bytes + 2, data, len);
	request_add(scene, queue, bytes, len + 2, 1);
	driver_kick(driver_queue(scene->driver, queue));
	assert_int_equal(*request_reap(scene, queue, NULL), VIRTIO_NET_OK);
}

static void command(struct scene *scene, uint8_t class, uint8_t cmd, const void *data, uint32_t len)
{
	command_on(scene, NET_CTRL, class, cmd, data, len);
}

static void net_set_table(struct scene *scene)
{
	uint8_t data[4 + 6 + 4 + 6] = { 1 };

	memcpy(data + 4, net_table_mac, 6);
	data[10] = 1;
	memset(data + 14, 0x33, 6);
	command(scene, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, data, sizeof(data));
}

static void net_set_vlan(struct scene *scene)
{
	uint16_t vlan = 1234;

	command(scene, VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, &vlan, sizeof(vlan));
}

static void net_set_offloads(struct scene *scene)
{
	uint64_t offloads = BIT64(VIRTIO_NET_F_GUEST_CSUM);

	if (driver_has(scene->driver, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS))
		command(scene, VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET,
			&offloads, sizeof(offloads));
}

static void net_nobcast(struct scene *scene)
{
	uint8_t on = 1;

	command(scene, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOBCAST, &on, 1);
}

static void net_rx_add(struct scene *scene)
{
	request_add(scene, NET_RX, NULL, 0, NET_ROOM);
	driver_kick(driver_queue(scene->driver, NET_RX));
}

static void net_poll(struct scene *scene)
{
	machine_poll(scene->machine);
}

static void frame_send(struct scene *scene, const uint8_t *to, uint8_t fill)
{
	uint8_t frame[NET_FRAME];

	memset(frame, fill, sizeof(frame));
	memcpy(frame, to, 6);
	memcpy(frame + 6, "\2\0\0\0\0\1\x88\xb5", 8);
	assert_int_equal(send(scene->peers[0], frame, sizeof(frame), 0), sizeof(frame));
}

/* Of these the device lets in the last only, if it knows its filters. */
static void net_receive(struct scene *scene)
{
	static const uint8_t broadcast[6] = { 255, 255, 255, 255, 255, 255 };
	uint32_t len, header = sizeof(struct virtio_net_hdr_v1);
	uint8_t *in;

	frame_send(scene, net_other_mac, 1);
	frame_send(scene, broadcast, 2);
	frame_send(scene, net_table_mac, 3);
	in = request_reap(scene, NET_RX, &len);
	assert_int_equal(len, header + NET_FRAME);
	assert_memory_equal(in + header, net_table_mac, 6);
	assert_int_equal(in[header + NET_FRAME - 1], 3);
}

static void net_transmit(struct scene *scene)
{
	uint8_t out[sizeof(struct virtio_net_hdr_v1) + NET_FRAME] = { 0 }, frame[NET_FRAME];

	memcpy(out + sizeof(struct virtio_net_hdr_v1), net_other_mac, 6);
	memset(out + sizeof(struct virtio_net_hdr_v1) + 12, 0x99, NET_FRAME - 12);
	request(scene, NET_TX, out, sizeof(out));
	assert_int_equal(lab_receive(scene->peers[0], frame, sizeof(frame), 1000), NET_FRAME);
	assert_int_equal(frame[NET_FRAME - 1], 0x99);
}

#define NET_ROUND net_rx_add, net_poll, net_receive, net_transmit

static void (*const net_steps[])(struct scene *scene) = {
	net_set_table, net_set_vlan, net_set_offloads, net_nobcast, NET_ROUND, NET_ROUND,
};

static const struct play net_play = { .name = "net",
				      .spec = net_spec,
				      .connect = net_connect,
				      .leave = net_leave,
				      .steps = net_steps,
				      .step_count = ARRAY_SIZE(net_steps) };

/* ---- The interface with two pairs ---- */

enum { NET_RX2 = 2, NET_TX2, NET_CTRL2 };

static void net_pairs_spec(struct scene *scene, char *text, size_t size)
{
	snprintf(text, size, "%d,virtio-net,tap=" NET_TAP ",queue_size=16,queues=2", KIND_SLOT);
}

static void net_set_pairs(struct scene *scene)
{
	uint16_t pairs = 2;

	command_on(scene, NET_CTRL2, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &pairs,
		   sizeof(pairs));
}

static void net_rx2_add(struct scene *scene)
{
	request_add(scene, NET_RX2, NULL, 0, NET_ROOM);
	driver_kick(driver_queue(scene->driver, NET_RX2));
}

/* What goes out by the second pair is answered, and the answer comes by it. */
static void net_answered(struct scene *scene)
{
	static const uint8_t udp[] = { 0xff, 0xff,
				       0xff, 0xff,
				       0xff, 0xff,
				       2,    0,
				       0,    0,
				       0,    1,
				       8,    0,
				       0x45, 0,
				       0,    NET_FRAME - 14,
				       0,    0,
				       0,    0,
				       64,   17,
				       0,    0,
				       10,   0,
				       0,    1,
				       10,   0,
				       0,    2,
				       0,    7,
				       0,    7,
				       0,    NET_FRAME - 34 };
	uint8_t out[sizeof(struct virtio_net_hdr_v1) + NET_FRAME] = { 0 };
	uint8_t frame[NET_FRAME], *in;
	uint64_t room = scene->gpa; /* for the answer */
	uint32_t len;

	memcpy(out + sizeof(struct virtio_net_hdr_v1), udp, sizeof(udp));
	request(scene, NET_TX2, out, sizeof(out));
	scene->gpa = room;
	scene->out = 0;
	scene->in = NET_ROOM;
	assert_int_equal(lab_receive(scene->peers[0], frame, sizeof(frame), 1000), NET_FRAME);
	memcpy(frame + 26, udp + 30, 4);
	memcpy(frame + 30, udp + 26, 4);
	assert_int_equal(send(scene->peers[0], frame, sizeof(frame), 0), sizeof(frame));
	in = request_reap(scene, NET_RX2, &len);
	assert_int_equal(len, sizeof(out));
	assert_memory_equal(in + sizeof(struct virtio_net_hdr_v1), frame, NET_FRAME);
}

static void (*const net_pairs_steps[])(struct scene *scene) = {
	net_set_pairs, net_rx2_add, net_poll, net_answered, net_rx2_add, net_answered,
};

static const struct play net_pairs_play = { .name = "net with two pairs",
					    .spec = net_pairs_spec,
					    .connect = net_connect,
					    .leave = net_leave,
					    .steps = net_pairs_steps,
					    .step_count = ARRAY_SIZE(net_pairs_steps) };

/* ---- All of them ---- */

static void make_file(struct scene *scene)
{
	int fd;

	snprintf(scene->path, sizeof(scene->path), "/tmp/tenon-state-XXXXXX");
	fd = mkstemp(scene->path);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, MIB(1)), 0);
	close(fd);
}

#define EXTRA (BIT64(VIRTIO_F_ACCESS_PLATFORM) | BIT64(VIRTIO_F_IN_ORDER))

/* The guest's memory at the end of the play, cut before step @cut. */
static uint8_t *perform(const struct play *play, const struct driver_params *params,
			unsigned int cut)
{
	struct scene scene = { .play = play, .params = *params, .peers = { -1, -1 } };
	uint8_t *end = malloc(MEMORY);

	make_file(&scene);
	for (unsigned int i = 0; i < 2; i++)
		scene.received[i] = malloc(RECEIVED_MAX);
	scene_make(&scene);
	scene.driver = driver_run(scene.machine, KIND_SLOT, params, 0);
	assert_int_equal(driver_has(scene.driver, VIRTIO_F_IN_ORDER), params->extra != 0);
	assert_int_equal(driver_has(scene.driver, VIRTIO_F_ACCESS_PLATFORM), params->extra != 0);
	for (unsigned int i = 0; i < play->step_count; i++) {
		if (i == cut || cut == play->step_count)
			scene_move(&scene);
		play->steps[i](&scene);
	}
	if (play->end)
		play->end(&scene);
	memcpy(end, scene.machine->ctx->memory.regions[0].host, MEMORY);
	driver_close(scene.driver);
	scene_unmake(&scene);
	unlink(scene.path);
	free(scene.received[0]);
	free(scene.received[1]);
	return end;
}

static void play_cut_everywhere(const struct play *play)
{
	for (unsigned int i = 0; i < 5; i++) {
		const struct driver_params params = { .legacy = i == 1,
						      .packed = i == 2 || i == 4,
						      .indirect = i != 1,
						      .event_idx = i != 1,
						      .msix = i != 1,
						      .extra = i > 2 ? EXTRA : 0 };
		uint8_t *whole = perform(play, &params, NEVER);

		/* Behind the last step: between all of them. */
		for (unsigned int cut = 0; cut <= play->step_count; cut++) {
			uint8_t *end = perform(play, &params, cut);

			for (size_t at = 0; at < MEMORY; at++)
				if (end[at] != whole[at])
					fail_msg("%s, way %u, cut at %u: byte 0x%zx differs",
						 play->name, i, cut, at);
			free(end);
		}
		free(whole);
	}
}

static void test_blk(void **state)
{
	play_cut_everywhere(&blk_play);
}

static void test_console(void **state)
{
	play_cut_everywhere(&console_play);
}

static void test_net(void **state)
{
	if (!lab_enter())
		skip();
	play_cut_everywhere(&net_play);
	play_cut_everywhere(&net_pairs_play);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blk),
		cmocka_unit_test(test_console),
		cmocka_unit_test(test_net),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
