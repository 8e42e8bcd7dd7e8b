/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-net (virtio 1.4, 5.1): the clauses that tests/unit/test_net*.c and tests/driver/test_net.c
 * leave. On a real tap in a network namespace of its own: needs root and /dev/net/tun.
 */
#include <linux/if_ether.h>
#include <linux/virtio_net.h>

#include "../unit/tap_lab.h"
#include "conformance.h"

#define TAP "tenon-test" /* the interface of this kind in device_kinds.c */
#define CONFIG(member) offsetof(struct virtio_net_config, member)
#define RX 0
#define BUFFER 70000
#define TCP_FRAME 4000
#define TCP_HEADERS (ETH_HLEN + 40)

/* ---- Configuration (5.1.4.1) ---- */

/* Given by the interface, and not changed by what becomes of that. */
static void test_mtu(void **state)
{
	struct kind_case *test = kind_case_run(state);

	assert_true(driver_has(test->driver, VIRTIO_NET_F_MTU));
	assert_int_equal(driver_config(test->driver, CONFIG(mtu), 2), 1500);
	assert_int_equal(lab_set_mtu(TAP, 1400), 0);
	assert_int_equal(lab_set_up(TAP, false), 0);
	assert_true(driver_wait_config(test->driver, DRIVER_TIMEOUT_MS));
	assert_int_equal(lab_set_up(TAP, true), 0);
	assert_true(driver_wait_config(test->driver, DRIVER_TIMEOUT_MS));
	assert_int_equal(driver_config(test->driver, CONFIG(mtu), 2), 1500);
	driver_restart(test->driver);
	assert_int_equal(driver_config(test->driver, CONFIG(mtu), 2), 1500);
}

/* Not offered is what we do not have, and many queues, which nobody asked for: 22. */
static void test_offers(void **state)
{
	static const uint8_t none[] = { 22, 50, 51, 57, 59, 60, 61, 62, 63 };
	struct kind_case *test = kind_case_open(state, NULL, NULL);

	for (unsigned int i = 0; i < ARRAY_SIZE(none); i++)
		assert_false(test->driver->offered & BIT64(none[i]));
	if (test->params.legacy)
		return;
	for (uint32_t word = 2; word < 4; word++) {
		driver_common_out(test->driver, VIRTIO_PCI_COMMON_DFSELECT, 4, word);
		assert_int_equal(driver_common_in(test->driver, VIRTIO_PCI_COMMON_DF, 4), 0);
	}
}

/* A legacy driver sets its address before it reads a feature (3.1.2). */
static void test_legacy_config_before_features(void **state)
{
	static const uint8_t mac[] = { 0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee };
	struct kind_case *test = kind_case_open(state, NULL, NULL);

	driver_set_status(test->driver, 0);
	clause_vectors(test->driver);
	for (unsigned int i = 0; i < ETH_ALEN; i++)
		driver_set_config(test->driver, i, 1, mac[i]);
	for (unsigned int i = 0; i < ETH_ALEN; i++)
		assert_int_equal(driver_config(test->driver, i, 1), mac[i]);
	driver_set_status(test->driver, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	assert_true(driver_negotiate(test->driver, test->driver->offered));
	driver_start(test->driver);
	for (unsigned int i = 0; i < ETH_ALEN; i++)
		assert_int_equal(driver_config(test->driver, i, 1), mac[i]);
}

/* ---- Headers of received frames (5.1.9.4.1) ---- */

struct packet {
	struct virtio_net_hdr header;
	uint8_t frame[TCP_FRAME];
};

/* The sum over the pseudo header and @len bytes of TCP, of which the first @summed are added. */
static uint16_t tcp_sum(const uint8_t *ip, size_t len, size_t summed)
{
	uint32_t sum = 6 + (uint32_t)len;

	for (unsigned int i = 12; i < 20; i += 2)
		sum += (uint32_t)(ip[i] << 8 | ip[i + 1]);
	for (size_t i = 0; i < summed; i += 2)
		sum += (uint32_t)(ip[20 + i] << 8 | (i + 1 < summed ? ip[21 + i] : 0));
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* A TCP segment whose checksum is to be done, and which is to be cut up as told. */
static void packet_make(struct packet *packet, uint8_t gso_type, uint16_t gso_size)
{
	uint16_t sum;
	uint8_t *ip = packet->frame + ETH_HLEN;

	memset(packet, 0, sizeof(*packet));
	packet->header = (struct virtio_net_hdr) { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
						   .gso_type = gso_type,
						   .gso_size = gso_size,
						   .hdr_len = TCP_HEADERS,
						   .csum_start = ETH_HLEN + 20,
						   .csum_offset = 16 };
	memset(packet->frame, 0xff, ETH_ALEN);
	memcpy(packet->frame + ETH_ALEN, "\x02\0\0\0\0\1\x08\0", 8);
	memcpy(ip, "\x45\0\0\0\0\0\x40\0\x40\6\0\0\x0a\0\0\1\x0a\0\0\2", 20);
	ip[2] = (uint8_t)((TCP_FRAME - ETH_HLEN) >> 8);
	ip[3] = (uint8_t)(TCP_FRAME - ETH_HLEN);
	ip[32] = 5 << 4;
	ip[33] = 0x10;
	sum = tcp_sum(ip, TCP_FRAME - ETH_HLEN - 20, 0); /* the rest is for who does it */
	ip[36] = (uint8_t)(sum >> 8);
	ip[37] = (uint8_t)sum;
}

/* The frame as the driver gets it. */
static const uint8_t *receive(struct kind_case *test, const struct packet *packet,
			      struct virtio_net_hdr_v1 *header)
{
	struct segment segment = { guest_alloc(test->machine, BUFFER, 16), BUFFER };
	struct driver_queue *queue = driver_queue(test->driver, RX);
	int fd = lab_packet_socket(TAP, 1);

	assert_true(fd >= 0);
	assert_int_equal(driver_add_buf(queue, &segment, 0, 1, test), 0);
	driver_kick(queue);
	machine_poll(test->machine);
	assert_int_equal(send(fd, packet, sizeof(*packet), 0), sizeof(*packet));
	assert_ptr_equal(driver_wait_buf(queue, NULL, DRIVER_TIMEOUT_MS), test);
	memcpy(header, guest_ptr(test->machine, segment.gpa, BUFFER), sizeof(*header));
	close(fd);
	return guest_ptr(test->machine, segment.gpa + sizeof(*header), TCP_FRAME);
}

/* A frame to be cut up says into what, how long its headers are, and where the sum goes. */
static void test_gso_header(void **state)
{
	struct kind_case *test = kind_case_run(state);
	struct virtio_net_hdr_v1 header;
	struct packet packet;
	const uint8_t *frame;

	if (!driver_has(test->driver, VIRTIO_NET_F_GUEST_TSO4)) {
		print_message("skipped: the tap has no segmentation\n");
		skip();
	}
	packet_make(&packet, VIRTIO_NET_HDR_GSO_TCPV4, 1000);
	frame = receive(test, &packet, &header);
	assert_int_equal(header.gso_type & ~VIRTIO_NET_HDR_GSO_ECN, VIRTIO_NET_HDR_GSO_TCPV4);
	assert_int_equal(header.gso_size, 1000);
	assert_true(header.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM);
	assert_int_equal(
		header.flags & ~(VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID), 0);
	assert_true(header.hdr_len >= TCP_HEADERS);
	assert_int_equal(header.csum_start, packet.header.csum_start);
	assert_int_equal(header.csum_offset, packet.header.csum_offset);
	assert_int_equal(header.num_buffers, 1);
	assert_memory_equal(frame, packet.frame, TCP_FRAME); /* the sum is of the pseudo header */
}

/* Who takes no offload gets frames whose checksums are done, and a header of zeros. */
static void test_sums_are_done(void **state)
{
	struct kind_case *test = kind_case_open(state, NULL, NULL);
	struct driver_queue *queue = driver_queue(test->driver, RX);
	struct segment segment = { guest_alloc(test->machine, BUFFER, 16), BUFFER };
	struct virtio_net_hdr_v1 header;
	struct packet packet;
	const uint8_t *frame;
	uint32_t len;
	int fd;

	assert_true(driver_negotiate(test->driver, BIT64(VIRTIO_NET_F_MRG_RXBUF)));
	driver_start(test->driver);
	packet_make(&packet, VIRTIO_NET_HDR_GSO_TCPV4, 1000);
	assert_int_equal(driver_add_buf(queue, &segment, 0, 1, test), 0);
	driver_kick(queue);
	machine_poll(test->machine);
	fd = lab_packet_socket(TAP, 1);
	assert_int_equal(send(fd, &packet, sizeof(packet), 0), sizeof(packet));
	close(fd);
	assert_ptr_equal(driver_wait_buf(queue, &len, DRIVER_TIMEOUT_MS), test);
	memcpy(&header, guest_ptr(test->machine, segment.gpa, BUFFER), sizeof(header));
	assert_int_equal(header.flags, 0);
	assert_int_equal(header.gso_type, VIRTIO_NET_HDR_GSO_NONE);
	assert_int_equal(header.num_buffers, 1);
	frame = guest_ptr(test->machine, segment.gpa + sizeof(header), BUFFER - sizeof(header));
	assert_int_equal(len, sizeof(header) + TCP_HEADERS + 1000);
	assert_int_equal(tcp_sum(frame + ETH_HLEN, 20 + 1000, 20 + 1000), 0xffff);
}

/* Frames that come while the device is suspended wait for it. */
static void test_suspended(void **state)
{
	struct kind_case *test = clause_run(state, NULL, BIT64(VIRTIO_F_SUSPEND));
	struct driver_queue *queue = driver_queue(test->driver, RX);
	struct segment segment = { guest_alloc(test->machine, BUFFER, 16), BUFFER };
	uint8_t frame[60] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 0x88, 0xb5 };
	const uint8_t *bytes = guest_ptr(test->machine, segment.gpa, BUFFER);
	int fd = lab_packet_socket(TAP, 0);

	assert_true(fd >= 0);
	assert_int_equal(driver_add_buf(queue, &segment, 0, 1, test), 0);
	driver_kick(queue);
	machine_poll(test->machine);
	clause_interrupted(test->driver);
	driver_set_status(test->driver, VIRTIO_CONFIG_S_SUSPEND);
	assert_int_equal(send(fd, frame, sizeof(frame), 0), sizeof(frame));
	assert_null(driver_wait_buf(queue, NULL, 20));
	for (unsigned int i = 0; i < 200; i++)
		assert_int_equal(bytes[i], 0);
	assert_false(clause_interrupted(test->driver));
	driver_set_status(test->driver, VIRTIO_CONFIG_S_DRIVER_OK);
	assert_ptr_equal(driver_wait_buf(queue, NULL, DRIVER_TIMEOUT_MS), test);
	assert_memory_equal(bytes + 12, frame, sizeof(frame));
	close(fd);
}

int main(void)
{
	static const struct clause_test tests[] = {
		{ "net mtu", test_mtu, KIND_AXIS_INTERFACE, NULL },
		{ "net offers", test_offers, KIND_AXIS_INTERFACE, NULL },
		{ "net legacy config before features", test_legacy_config_before_features,
		  KIND_AXIS_LEGACY, NULL },
		{ "net segmentation header", test_gso_header, KIND_AXIS_FORMATS, NULL },
		{ "net sums are done", test_sums_are_done, KIND_AXIS_FORMATS, NULL },
		{ "net suspended", test_suspended, KIND_AXIS_FORMATS, NULL },
	};

	return clause_tests_run(tests, ARRAY_SIZE(tests), "virtio-net", "virtio-net");
}
