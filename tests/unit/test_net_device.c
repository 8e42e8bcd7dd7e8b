/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-net's data paths between rings in memory and a real tap, in a network namespace of its
 * own (root; else skipped): what tests/driver/test_net.c leaves: large frames and segmentation, too few
 * buffers, counters, and what the core asks of a device.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../devicemodel/hw/pci/virtio/virtio_net.h"
#include "captured_log.h"
#include "tap_lab.h"
#include "virtio_transport.h"

#define TAP "tap-dev"
#define QUEUE_CTRL NET_PAIR_QUEUES /* one pair */
#define QUEUES (NET_PAIR_QUEUES + 1)
#define MEMORY MIB(32)
#define QUEUE_AREA 0x10000
#define BUFFERS 0x100000
#define MERGEABLE BIT64(VIRTIO_NET_F_MRG_RXBUF)
#define GUEST_TSO (BIT64(VIRTIO_NET_F_GUEST_CSUM) | BIT64(VIRTIO_NET_F_GUEST_TSO4))
#define HOST_TSO (BIT64(VIRTIO_NET_F_CSUM) | BIT64(VIRTIO_NET_F_HOST_TSO4))
#define CTRL_RX (BIT64(VIRTIO_NET_F_CTRL_VQ) | BIT64(VIRTIO_NET_F_CTRL_RX))
#define ACCEPTED (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER)

static const uint8_t own[ETH_ALEN] = { 0x52, 0x54, 0, 1, 2, 3 };

/* The driver's side of a queue; descriptors are used in a circle and never run out in a test. */
struct ring {
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t next_desc, seen;
	unsigned int interrupts;
};

struct guest {
	struct captured_log captured;
	struct event_loop *loop;
	pthread_mutex_t lock;
	struct guest_memory memory;
	struct virtio_net *net;
	struct ring rings[QUEUES];
	uint64_t next_buffer;
	uint16_t queue_size; /* of the next driver */
	unsigned int config_interrupts;
	int packets; /* raw frames to and from the tap */
};

/* ---- The transport, and the life of the device ---- */

static void notify_queue(struct virtio_common *vc, struct vqueue_info *vq)
{
	struct guest *guest = vc->transport_arg;

	guest->rings[vq->index].interrupts++;
}

static void notify_config(struct virtio_common *vc)
{
	struct guest *guest = vc->transport_arg;

	guest->config_interrupts++;
}

static void status_changed(struct virtio_common *vc)
{
}

static const struct virtio_transport_ops transport = {
	.notify_queue = notify_queue,
	.notify_config = notify_config,
	.status_changed = status_changed,
};

static int link_device(struct guest *guest, const char *options)
{
	const struct virtio_ops *ops = virtio_device_find("virtio-net");
	struct virtio_common *vc = calloc(1, ops->priv_size);

	assert_non_null(vc);
	guest->net = (struct virtio_net *)vc;
	vc->name = "virtio-net@00:04.0";
	vc->vm_name = "test";
	vc->log = &guest->captured.log;
	vc->memory = &guest->memory;
	vc->loop = guest->loop;
	vc->lock = &guest->lock;
	vc->transport = &transport;
	vc->transport_arg = guest;
	return virtio_linkup(vc, ops, options);
}

static void unlink_device(struct guest *guest)
{
	virtio_unlink(&guest->net->vc);
	free(guest->net);
	guest->net = NULL;
}

static int setup(void **state)
{
	struct guest *guest = calloc(1, sizeof(*guest));

	if (!guest)
		return -1;
	captured_log_init(&guest->captured);
	pthread_mutex_init(&guest->lock, NULL);
	guest->loop = event_loop_create("test");
	guest->queue_size = NET_QUEUE_SIZE;
	guest->memory.count = 1;
	guest->memory.regions[0].size = MEMORY;
	if (!guest->loop || guest_memory_create(&guest->captured.log, &guest->memory, false))
		return -1;
	if (link_device(guest, "tap=" TAP ",mac=52:54:00:01:02:03")) {
		print_error("%s\n", guest->captured.lines[0]);
		return -1;
	}
	guest->packets = lab_packet_socket(TAP, 1);
	*state = guest;
	return guest->packets < 0;
}

static int teardown(void **state)
{
	struct guest *guest = *state;

	close(guest->packets);
	if (guest->net)
		unlink_device(guest);
	guest_memory_destroy(&guest->memory);
	event_loop_destroy(guest->loop);
	captured_log_deinit(&guest->captured);
	pthread_mutex_destroy(&guest->lock);
	free(guest);
	return 0;
}

/* ---- The driver ---- */

static void *guest_memory_at(struct guest *guest, uint64_t gpa)
{
	return guest->memory.regions[0].host + gpa;
}

static void ring_enable(struct guest *guest, unsigned int index)
{
	struct vqueue_info *vq = &guest->net->vc.vqs[index];
	struct ring *ring = &guest->rings[index];

	vq->size_written = guest->queue_size;
	vq->desc_addr = QUEUE_AREA * (index + 1);
	vq->driver_addr = vq->desc_addr + 0x4000;
	vq->device_addr = vq->desc_addr + 0x8000;
	*ring = (struct ring) { .desc = guest_memory_at(guest, vq->desc_addr),
				.avail = guest_memory_at(guest, vq->driver_addr),
				.used = guest_memory_at(guest, vq->device_addr) };
	memset(ring->desc, 0, 0x10000);
	virtio_queue_enable(&guest->net->vc, vq);
	assert_true(vq->enabled);
}

static void negotiate(struct guest *guest, uint64_t features)
{
	struct virtio_common *vc = &guest->net->vc;

	virtio_reset_dev(vc);
	guest->next_buffer = BUFFERS;
	virtio_set_status(vc, ACCEPTED);
	features |= BIT64(VIRTIO_F_VERSION_1);
	virtio_set_driver_features(vc, 0, (uint32_t)features);
	virtio_set_driver_features(vc, 1, (uint32_t)(features >> 32));
	virtio_set_status(vc, ACCEPTED | VIRTIO_CONFIG_S_FEATURES_OK);
	assert_true(vc->status & VIRTIO_CONFIG_S_FEATURES_OK);
	for (unsigned int i = 0; i < QUEUES; i++)
		ring_enable(guest, i);
}

static void start(struct guest *guest, uint64_t features)
{
	negotiate(guest, features);
	virtio_set_status(&guest->net->vc,
			  ACCEPTED | VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
}

/* Make a chain available: @count pieces of @lens, device-writable from @first_in on. */
static uint64_t add_chain(struct guest *guest, unsigned int index, const uint32_t *lens,
			  unsigned int count, unsigned int first_in)
{
	struct ring *ring = &guest->rings[index];
	uint64_t start_gpa = guest->next_buffer;
	uint16_t head = ring->next_desc;

	for (unsigned int i = 0; i < count; i++) {
		struct vring_desc *desc = &ring->desc[ring->next_desc];

		ring->next_desc = (ring->next_desc + 1) % guest->queue_size;
		*desc = (struct vring_desc) { guest->next_buffer, lens[i],
					      i >= first_in ? VRING_DESC_F_WRITE : 0,
					      ring->next_desc };
		if (i + 1 < count)
			desc->flags |= VRING_DESC_F_NEXT;
		guest->next_buffer += lens[i];
	}
	assert_true(guest->next_buffer < MEMORY);
	ring->avail->ring[ring->avail->idx % guest->queue_size] = head;
	ring->avail->idx++;
	return start_gpa;
}

/* @count receive buffers of @len bytes. */
static uint8_t *add_buffers(struct guest *guest, unsigned int count, uint32_t len)
{
	uint8_t *first = guest_memory_at(guest, guest->next_buffer);

	memset(first, 0xee, (size_t)count * len);
	for (unsigned int i = 0; i < count; i++)
		add_chain(guest, NET_QUEUE_RX, &len, 1, 0);
	virtio_queue_kick(&guest->net->vc, NET_QUEUE_RX);
	return first;
}

/* A receive buffer of each of @lens. */
static void add_each(struct guest *guest, const uint32_t *lens, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		add_chain(guest, NET_QUEUE_RX, &lens[i], 1, 0);
	virtio_queue_kick(&guest->net->vc, NET_QUEUE_RX);
}

/* Dispatch until @wanted buffers of @ring are used, at most two seconds. */
static void wait_used(struct guest *guest, unsigned int index, uint16_t wanted)
{
	struct ring *ring = &guest->rings[index];

	for (int i = 0; i < 200 && ring->used->idx != wanted; i++)
		event_loop_poll(guest->loop, 10);
	assert_int_equal(ring->used->idx, wanted);
}

static void idle(struct guest *guest, int ms)
{
	for (; ms > 0; ms -= 5)
		event_loop_poll(guest->loop, 5);
}

static uint32_t next_used_len(struct ring *ring)
{
	assert_int_not_equal(ring->seen, ring->used->idx);
	return ring->used->ring[ring->seen++ % NET_QUEUE_SIZE].len;
}

/* ---- The host ---- */

struct packet {
	struct virtio_net_hdr header;
	uint8_t frame[NET_FRAME_MAX];
};

static struct packet *packet_new(const uint8_t *to, size_t len, uint8_t seed)
{
	struct packet *packet = calloc(1, sizeof(*packet));

	assert_non_null(packet);
	for (size_t i = 0; i < len; i++)
		packet->frame[i] = (uint8_t)(seed + i * 7 + (i >> 8));
	memcpy(packet->frame, to, ETH_ALEN);
	memcpy(packet->frame + ETH_ALEN, "\x02\0\0\0\0\1\x88\xb5", 8);
	return packet;
}

/* A TCP segment of @len bytes in all that is to be cut into segments of 1448. */
static struct packet *packet_new_tcp(size_t len)
{
	struct packet *packet = packet_new(own, len, 1);
	uint8_t *ip = packet->frame + ETH_HLEN;

	packet->header = (struct virtio_net_hdr) { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
						   .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
						   .hdr_len = 54,
						   .gso_size = 1448,
						   .csum_start = 34,
						   .csum_offset = 16 };
	memcpy(packet->frame + 12, "\x08\0", 2);
	memset(ip, 0, 40);
	memcpy(ip, "\x45\0\0\0\0\0\x40\0\x40\6\0\0\x0a\0\0\1\x0a\0\0\2", 20);
	ip[2] = (uint8_t)((len - ETH_HLEN) >> 8);
	ip[3] = (uint8_t)(len - ETH_HLEN);
	ip[32] = 5 << 4;
	ip[33] = 0x10;
	return packet;
}

static void inject(struct guest *guest, const struct packet *packet, size_t len)
{
	assert_int_equal(send(guest->packets, packet, sizeof(packet->header) + len, 0),
			 sizeof(packet->header) + len);
}

static void inject_frame(struct guest *guest, const uint8_t *to, size_t len, uint8_t seed)
{
	struct packet *packet = packet_new(to, len, seed);

	inject(guest, packet, len);
	free(packet);
}

/* ---- Reception ---- */

/* What the used buffers hold, one after the other; all but the last must be full. */
static size_t collect(struct guest *guest, const uint8_t *buffers, uint32_t size, uint8_t *to)
{
	struct ring *ring = &guest->rings[NET_QUEUE_RX];
	struct virtio_net_hdr_v1 header;
	size_t total = 0;

	memcpy(&header, buffers, sizeof(header));
	for (unsigned int i = 0; i < header.num_buffers; i++) {
		uint32_t len = next_used_len(ring);

		assert_true(len == size || (i + 1 == header.num_buffers && len < size));
		memcpy(to + total, buffers + (size_t)i * size, len);
		total += len;
	}
	return total;
}

static void receives_merged(struct guest *guest, uint32_t buffer_size, uint16_t expected)
{
	struct packet *packet = packet_new_tcp(60000);
	uint8_t *all = malloc(70000);
	struct virtio_net_hdr_v1 *header = (struct virtio_net_hdr_v1 *)all;
	uint8_t *buffers;

	start(guest, MERGEABLE | GUEST_TSO);
	buffers = add_buffers(guest, expected + 10, buffer_size);
	inject(guest, packet, 60000);
	wait_used(guest, NET_QUEUE_RX, expected);
	assert_int_equal(collect(guest, buffers, buffer_size, all), 60012);
	assert_int_equal(header->num_buffers, expected);
	assert_int_equal(header->gso_type, VIRTIO_NET_HDR_GSO_TCPV4);
	assert_int_equal(header->flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	assert_int_equal(header->gso_size, 1448);
	assert_memory_equal(all + 12, packet->frame, 60000);
	/* what comes after goes to the buffer after */
	inject_frame(guest, own, 80, 3);
	wait_used(guest, NET_QUEUE_RX, (uint16_t)(expected + 1));
	assert_int_equal(next_used_len(&guest->rings[NET_QUEUE_RX]), 92);
	assert_int_equal(buffers[(size_t)expected * buffer_size + 12], own[0]);
	free(packet);
	free(all);
}

static void receives_merged_1536(void **state)
{
	receives_merged(*state, 1536, 40);
}

/* The head that we look at ends in the middle of the third buffer, and the buffers are many. */
static void receives_merged_tiny(void **state)
{
	receives_merged(*state, 250, 241);
}

/* A frame larger than the buffers there are waits for more, and loses no byte by it. */
static void waits_for_buffers(void **state)
{
	struct guest *guest = *state;
	struct packet *packet = packet_new_tcp(60000);
	uint8_t *all = malloc(70000), *buffers;

	start(guest, MERGEABLE | GUEST_TSO);
	buffers = add_buffers(guest, 4, 2000);
	inject(guest, packet, 60000);
	idle(guest, 30);
	assert_int_equal(guest->rings[NET_QUEUE_RX].used->idx, 0);
	add_buffers(guest, 10, 2000);
	assert_int_equal(guest->rings[NET_QUEUE_RX].used->idx, 0);
	add_buffers(guest, 20, 2000);
	wait_used(guest, NET_QUEUE_RX, 31);
	assert_int_equal(collect(guest, buffers, 2000, all), 60012);
	assert_memory_equal(all + 12, packet->frame, 60000);
	free(packet);
	free(all);
}

/* Not even for the first bytes, which we look at, was there room. */
static void waits_for_first_buffers(void **state)
{
	struct guest *guest = *state;
	struct packet *packet = packet_new(own, 100, 7);
	const uint32_t lens[] = { 20, 13, 60, 60 };
	uint8_t *buffer;

	start(guest, MERGEABLE);
	buffer = guest_memory_at(guest, guest->next_buffer);
	add_each(guest, lens, 1);
	inject(guest, packet, 100);
	idle(guest, 10);
	add_each(guest, lens + 1, 3);
	wait_used(guest, NET_QUEUE_RX, 4);
	assert_memory_equal(buffer + 12, packet->frame, 100);
	free(packet);
}

/* ... but not for ever: the driver may have no more. */
static void loses_patience(void **state)
{
	struct guest *guest = *state;
	struct packet *packet = packet_new_tcp(60000);
	uint8_t *buffers;

	start(guest, MERGEABLE | GUEST_TSO);
	buffers = add_buffers(guest, 4, 2000);
	inject(guest, packet, 60000);
	inject_frame(guest, own, 80, 3);
	wait_used(guest, NET_QUEUE_RX, 1);
	assert_int_equal(next_used_len(&guest->rings[NET_QUEUE_RX]), 92);
	assert_int_equal(buffers[12], own[0]);
	assert_int_equal(buffers[0], 0);
	assert_int_equal(guest->net->pairs[0].rx.dropped, 1);
	free(packet);
}

/* All the queue can hold is too small: nothing to wait for. */
static void drops_what_never_fits(void **state)
{
	struct guest *guest = *state;
	struct packet *packet = packet_new_tcp(60000);

	start(guest, MERGEABLE | GUEST_TSO);
	add_buffers(guest, NET_QUEUE_SIZE, 16);
	inject(guest, packet, 60000);
	idle(guest, 20);
	assert_int_equal(guest->net->pairs[0].rx.dropped, 1);
	inject_frame(guest, own, 80, 3);
	wait_used(guest, NET_QUEUE_RX, 6);

	guest->queue_size = 8;
	start(guest, MERGEABLE | GUEST_TSO);
	add_buffers(guest, 8, 1536);
	inject(guest, packet, 60000);
	idle(guest, 20);
	assert_int_equal(guest->net->pairs[0].rx.dropped, 2);
	free(packet);
}

static void receives_unmerged(void **state)
{
	struct guest *guest = *state;
	struct ring *ring = &guest->rings[NET_QUEUE_RX];
	const uint32_t lens[] = { 12, 1000, 514 };
	struct packet *packet = packet_new(own, 1514, 2);
	uint8_t *buffer;

	start(guest, 0);
	assert_int_equal(guest->net->header_size, 12);
	buffer = guest_memory_at(guest, add_chain(guest, NET_QUEUE_RX, lens, 3, 0));
	virtio_queue_kick(&guest->net->vc, NET_QUEUE_RX);
	assert_int_equal(lab_set_mtu(TAP, 1600), 0);
	inject_frame(guest, own, 1515, 1); /* a byte too long: dropped, not cut */
	inject(guest, packet, 1514);
	wait_used(guest, NET_QUEUE_RX, 1);
	assert_int_equal(next_used_len(ring), 1526);
	assert_int_equal(((struct virtio_net_hdr_v1 *)buffer)->num_buffers, 1);
	assert_memory_equal(buffer + 12, packet->frame, 1514);
	assert_int_equal(guest->net->pairs[0].rx.dropped, 1);
	free(packet);
}

static void stops_without_buffers(void **state)
{
	struct guest *guest = *state;

	start(guest, MERGEABLE);
	for (uint8_t i = 0; i < 8; i++)
		inject_frame(guest, own, 60, i);
	idle(guest, 20);
	assert_int_equal(guest->net->pairs[0].rx.frames, 0);
	assert_true(guest->net->pairs[0].rx.stopped);
	add_buffers(guest, 3, 1536);
	wait_used(guest, NET_QUEUE_RX, 3);
	idle(guest, 20);
	assert_true(guest->net->pairs[0].rx.stopped);
	add_buffers(guest, 8, 1536);
	wait_used(guest, NET_QUEUE_RX, 8);
	assert_int_equal(guest->net->pairs[0].rx.dropped, 0);
}

/* Frames that waited in the tap when the offloads of the last driver were on. */
static void drops_stale_segmentation(void **state)
{
	struct guest *guest = *state;
	struct packet *packet = packet_new_tcp(9000);

	start(guest, MERGEABLE | GUEST_TSO);
	inject(guest, packet, 9000);
	start(guest, MERGEABLE);
	add_buffers(guest, 100, 1536);
	inject_frame(guest, own, 60, 2);
	wait_used(guest, NET_QUEUE_RX, 1);
	assert_int_equal(guest->net->pairs[0].rx.dropped, 1);

	/* and with the offloads off the host cuts it up itself */
	inject(guest, packet, 9000);
	wait_used(guest, NET_QUEUE_RX, 8);
	free(packet);
}

static void keeps_to_mtu(void **state)
{
	struct guest *guest = *state;

	unlink_device(guest);
	close(guest->packets);
	assert_int_equal(link_device(guest, "tap=" TAP ",mtu=1000"), 0);
	guest->packets = lab_packet_socket(TAP, 1);
	assert_int_equal(guest->net->config->mtu, 1000);
	start(guest, MERGEABLE | BIT64(VIRTIO_NET_F_MTU));
	add_buffers(guest, 4, 1536);
	inject_frame(guest, own, 1015, 1);
	inject_frame(guest, own, 1014, 2);
	wait_used(guest, NET_QUEUE_RX, 1);
	assert_int_equal(next_used_len(&guest->rings[NET_QUEUE_RX]), 1026);
	assert_int_equal(guest->net->pairs[0].rx.dropped, 1);
	assert_memory_not_equal(guest->net->config->mac, own, ETH_ALEN); /* made of the names */
}

/* ---- Reset, quiesce ---- */

static void quiesce_gives_buffers_back(void **state)
{
	struct guest *guest = *state;
	struct virtio_common *vc = &guest->net->vc;
	const uint64_t announce = BIT64(VIRTIO_NET_F_GUEST_ANNOUNCE) | BIT64(VIRTIO_NET_F_STATUS);
	uint8_t *buffers;

	start(guest, MERGEABLE | GUEST_TSO | CTRL_RX | announce);
	buffers = add_buffers(guest, 50, 1536);
	inject_frame(guest, own, 60, 1);
	wait_used(guest, NET_QUEUE_RX, 1);
	assert_true(vc->vqs[NET_QUEUE_RX].last_avail > 1); /* taken in advance */
	virtio_quiesce(vc);
	assert_int_equal(vc->vqs[NET_QUEUE_RX].last_avail, 1);
	memset(buffers, 0xee, 50 * 1536);
	inject_frame(guest, own, 60, 2);
	idle(guest, 20);
	for (unsigned int i = 0; i < 50 * 1536; i++)
		assert_int_equal(buffers[i], 0xee);
	guest->config_interrupts = 0;
	virtio_resume(vc);
	wait_used(guest, NET_QUEUE_RX, 2);
	assert_memory_equal(buffers + 1536 + 12, own, ETH_ALEN);
	assert_int_equal(guest->config_interrupts, 1);
	assert_int_equal(guest->net->config->status, VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
}

static void reset_forgets(void **state)
{
	struct guest *guest = *state;
	struct virtio_net *net = guest->net;
	uint8_t *buffers;

	start(guest, MERGEABLE | GUEST_TSO | CTRL_RX);
	net->filter.promisc = true;
	net->config->mac[5] = 0x77;
	buffers = add_buffers(guest, 50, 1536);
	inject_frame(guest, own, 60, 1);
	wait_used(guest, NET_QUEUE_RX, 1);
	virtio_reset_dev(&net->vc);
	memset(buffers, 0xee, 50 * 1536);
	inject_frame(guest, own, 60, 2);
	idle(guest, 20);
	for (unsigned int i = 0; i < 50 * 1536; i++)
		assert_int_equal(buffers[i], 0xee);
	assert_false(net->filter.promisc);
	assert_int_equal(net->guest_offloads, 0);
	assert_memory_equal(net->config->mac, own, ETH_ALEN);

	start(guest, MERGEABLE);
	buffers = add_buffers(guest, 2, 1536);
	wait_used(guest, NET_QUEUE_RX, 1);
	assert_int_equal(guest->rings[NET_QUEUE_RX].used->ring[0].id, 0);
	assert_int_equal(buffers[12], own[0]);
	virtio_queue_reset(&net->vc, &net->vc.vqs[NET_QUEUE_RX]);
	ring_enable(guest, NET_QUEUE_RX);
	inject_frame(guest, own, 70, 3);
	idle(guest, 20);
	buffers = add_buffers(guest, 2, 1536);
	wait_used(guest, NET_QUEUE_RX, 1);
	assert_int_equal(guest->rings[NET_QUEUE_RX].used->ring[0].id, 0);
	assert_int_equal(buffers[12], own[0]);
	assert_int_equal(next_used_len(&guest->rings[NET_QUEUE_RX]), 82);
}

/* ---- Transmission ---- */

static void transmit(struct guest *guest, const void *header, uint32_t header_len,
		     const struct packet *packet, uint32_t len)
{
	const uint32_t lens[] = { 1, header_len - 1, 20, len - 20 };
	uint8_t *buffer = guest_memory_at(guest, add_chain(guest, NET_QUEUE_TX, lens, 4, 4));

	memcpy(buffer, header, header_len);
	memcpy(buffer + header_len, packet->frame, len);
	virtio_queue_kick(&guest->net->vc, NET_QUEUE_TX);
}

static void transmits_segmentation(void **state)
{
	struct guest *guest = *state;
	struct packet *packet = packet_new_tcp(60000), *seen = calloc(1, sizeof(*seen));
	struct virtio_net_hdr_v1 header = { 0 };

	memcpy(&header, &packet->header, sizeof(packet->header));
	header.hdr_len = 0xffff; /* need not be right */
	start(guest, MERGEABLE | HOST_TSO);
	transmit(guest, &header, 12, packet, 60000);
	assert_int_equal(lab_receive(guest->packets, seen, sizeof(*seen), 1000), 60010);
	assert_int_equal(seen->header.gso_type, VIRTIO_NET_HDR_GSO_TCPV4);
	assert_int_equal(seen->header.gso_size, 1448);
	assert_memory_equal(seen->frame, packet->frame, 60000);

	start(guest, MERGEABLE); /* not negotiated */
	transmit(guest, &header, 12, packet, 60000);
	assert_int_equal(guest->net->pairs[0].tx.dropped, 1);
	assert_int_equal(guest->rings[NET_QUEUE_TX].used->idx, 1);
	assert_int_equal(lab_receive(guest->packets, seen, sizeof(*seen), 20), -1);
	free(packet);
	free(seen);
}

/* ---- Control queue ---- */

static uint8_t control(struct guest *guest, const void *command, uint32_t len)
{
	struct ring *ring = &guest->rings[QUEUE_CTRL];
	const uint32_t lens[] = { len, 1 };
	uint64_t gpa = add_chain(guest, QUEUE_CTRL, lens, 2, 1);
	uint16_t used = ring->used->idx;
	uint8_t *buffer = guest_memory_at(guest, gpa);

	memcpy(buffer, command, len);
	buffer[len] = 0xee;
	virtio_queue_kick(&guest->net->vc, QUEUE_CTRL);
	assert_int_equal(ring->used->idx, (uint16_t)(used + 1)); /* drivers spin for it */
	assert_int_equal(next_used_len(ring), 1);
	return buffer[len];
}

static void controls(void **state)
{
	struct guest *guest = *state;
	struct packet *packet = packet_new_tcp(9000);

	start(guest, MERGEABLE | GUEST_TSO | CTRL_RX | BIT64(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS));
	assert_int_equal(control(guest, "\0\0\1", 3), VIRTIO_NET_OK);
	assert_true(guest->net->filter.promisc);
	assert_int_equal(control(guest, "\0\0", 2), VIRTIO_NET_ERR);
	assert_int_equal(control(guest, "\0", 1), VIRTIO_NET_ERR);

	add_buffers(guest, 100, 1536);
	inject(guest, packet, 9000);
	wait_used(guest, NET_QUEUE_RX, 6);
	/* segmentation off: the host does it; what was not negotiated cannot be switched on */
	assert_int_equal(control(guest, "\5\0\2\0\0\0\0\0\0\0", 10), VIRTIO_NET_OK);
	inject(guest, packet, 9000);
	wait_used(guest, NET_QUEUE_RX, 6 + 7);
	assert_int_equal(control(guest, "\5\0\2\1\0\0\0\0\0\0", 10), VIRTIO_NET_ERR);
	assert_int_equal(control(guest, "\5\0\x82\0\0\0\0\0\0\0", 10), VIRTIO_NET_OK);
	inject(guest, packet, 9000);
	wait_used(guest, NET_QUEUE_RX, 13 + 6);
	free(packet);
}

/* ---- Hostile drivers ---- */

/* A driver that lies of 4 GiB of buffers gets no more than a frame. */
static void hostile_giant_buffer(void **state)
{
	struct guest *guest = *state;
	struct ring *ring = &guest->rings[NET_QUEUE_RX];

	start(guest, GUEST_TSO);
	for (unsigned int i = 0; i < 100; i++)
		ring->desc[i] = (struct vring_desc) { BUFFERS, MEMORY - BUFFERS,
						      VRING_DESC_F_WRITE | VRING_DESC_F_NEXT,
						      (uint16_t)(i + 1) };
	ring->desc[99].flags = VRING_DESC_F_WRITE;
	ring->avail->idx = 1;
	virtio_queue_kick(&guest->net->vc, NET_QUEUE_RX);
	inject_frame(guest, own, 60, 1);
	wait_used(guest, NET_QUEUE_RX, 1);
	assert_int_equal(next_used_len(ring), 72);
}

static void no_taps(void **state)
{
	skip(); /* lab_enter() said why */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		TEST(receives_merged_1536),
		TEST(receives_merged_tiny),
		TEST(waits_for_buffers),
		TEST(waits_for_first_buffers),
		TEST(loses_patience),
		TEST(drops_what_never_fits),
		TEST(receives_unmerged),
		TEST(stops_without_buffers),
		TEST(drops_stale_segmentation),
		TEST(keeps_to_mtu),
		TEST(quiesce_gives_buffers_back),
		TEST(reset_forgets),
		TEST(transmits_segmentation),
		TEST(controls),
		TEST(hostile_giant_buffer),
	};
	const struct CMUnitTest none[] = { cmocka_unit_test(no_taps) };

	if (!lab_enter())
		return cmocka_run_group_tests(none, NULL, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
