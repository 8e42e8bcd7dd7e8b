/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-net's receive-side scaling without a device: the hash (with Microsoft's test vectors), what
 * of a frame is hashed, the bounds of the driver's choice, and the mail between queues.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stdlib.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>

#include "../../devicemodel/hw/pci/virtio/virtio_net.h"
#include "event_loop.h"

#define ALL NET_RSS_HASH_TYPES

static const uint8_t key[NET_RSS_KEY_MAX] = { 0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2,
					      0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
					      0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4,
					      0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
					      0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa };

/* "Verifying the RSS Hash Calculation" in Microsoft's driver documentation. */
static const struct vector {
	int family;
	const char *from, *to;
	uint16_t from_port, to_port;
	uint32_t alone, with_ports;
} vectors[] = {
	{ AF_INET, "66.9.149.187", "161.142.100.80", 2794, 1766, 0x323e8fc2, 0x51ccc178 },
	{ AF_INET, "199.92.111.2", "65.69.140.83", 14230, 4739, 0xd718262a, 0xc626b0ea },
	{ AF_INET, "24.19.198.95", "12.22.207.184", 12898, 38024, 0xd2d0a5de, 0x5c2b394a },
	{ AF_INET, "38.27.205.30", "209.142.163.6", 48228, 2217, 0x82989176, 0xafc7327f },
	{ AF_INET, "153.39.163.191", "202.188.127.2", 44251, 1303, 0x5d1809c5, 0x10e828a2 },
	{ AF_INET6, "3ffe:2501:200:1fff::7", "3ffe:2501:200:3::1", 2794, 1766, 0x2cc18cd5,
	  0x40207d3d },
	{ AF_INET6, "3ffe:501:8::260:97ff:fe40:efab", "ff02::1", 14230, 4739, 0x0f0c461c,
	  0xdde51bbf },
	{ AF_INET6, "3ffe:1900:4545:3:200:f8ff:fe21:67cf", "fe80::200:f8ff:fe21:67cf", 44251, 38024,
	  0x4b61e985, 0x02d1feef },
};

/* The largest one there is, so nobody puts it on a stack. */
static struct net_rss rss;

static void use(uint32_t types)
{
	memset(&rss, 0, sizeof(rss));
	rss.active = true;
	rss.choice.hash_types = types;
	rss.choice.key_length = sizeof(key);
	memcpy(rss.choice.key, key, sizeof(key));
	net_rss_prepare(&rss);
}

static void put16(uint8_t *to, unsigned int value)
{
	to[0] = (uint8_t)(value >> 8);
	to[1] = (uint8_t)value;
}

/* @skip: bytes of IPv4 options, or of extension headers of IPv6. The frame's length. */
static size_t frame_make(uint8_t *frame, const struct vector *vector, uint8_t protocol,
			 unsigned int skip, bool tagged)
{
	bool v4 = vector->family == AF_INET;
	size_t at = ETH_HLEN + (tagged ? 4 : 0);

	memset(frame, 0, 256);
	if (tagged)
		memcpy(frame + 12, "\x81\0\0\5", 4);
	put16(frame + at - 2, v4 ? ETH_P_IP : ETH_P_IPV6);
	if (v4) {
		frame[at] = (uint8_t)(0x40 | (5 + skip / 4));
		frame[at + 9] = protocol;
		inet_pton(AF_INET, vector->from, frame + at + 12);
		inet_pton(AF_INET, vector->to, frame + at + 16);
		at += 20 + skip;
	} else {
		frame[at] = 0x60;
		frame[at + 6] = skip ? 0 : protocol;
		inet_pton(AF_INET6, vector->from, frame + at + 8);
		inet_pton(AF_INET6, vector->to, frame + at + 24);
		at += 40;
		frame[at] = protocol;
		frame[at + 1] = (uint8_t)(skip / 8 - 1);
		if (!skip)
			frame[at + 1] = frame[at] = 0;
		at += skip;
	}
	put16(frame + at, vector->from_port);
	put16(frame + at + 2, vector->to_port);
	return at + 4;
}

static uint32_t hash_of(const uint8_t *frame, size_t len)
{
	uint32_t hash = 0;

	assert_true(net_rss_hash(&rss, frame, len, &hash));
	return hash;
}

static void microsoft_vectors(void **state)
{
	static const uint8_t protocols[] = { 6, 17 };
	uint8_t frame[256];

	for (unsigned int i = 0; i < ARRAY_SIZE(vectors); i++) {
		for (unsigned int j = 0; j < 2 * ARRAY_SIZE(protocols); j++) {
			unsigned int skip = vectors[i].family == AF_INET ? 20 : 24;
			uint8_t protocol = protocols[j / 2];
			size_t len = frame_make(frame, &vectors[i], protocol, 0, j % 2);

			use(ALL);
			assert_int_equal(hash_of(frame, len), vectors[i].with_ports);
			assert_int_equal(hash_of(frame, len - 1), vectors[i].alone); /* cut */
			use(VIRTIO_NET_RSS_HASH_TYPE_IPv4 | VIRTIO_NET_RSS_HASH_TYPE_IPv6);
			assert_int_equal(hash_of(frame, len), vectors[i].alone);
			/* options and extension headers are behind us */
			use(ALL);
			len = frame_make(frame, &vectors[i], protocol, skip, j % 2);
			assert_int_equal(hash_of(frame, len), vectors[i].with_ports);
			/* neither TCP nor UDP */
			len = frame_make(frame, &vectors[i], 132, 0, j % 2);
			assert_int_equal(hash_of(frame, len), vectors[i].alone);
		}
	}
}

/* Each type alone hashes what it is for, and nothing else has a hash. */
static void types(void **state)
{
	static const struct {
		uint32_t type;
		int family;
		uint8_t protocol;
	} table[] = {
		{ VIRTIO_NET_RSS_HASH_TYPE_TCPv4, AF_INET, 6 },
		{ VIRTIO_NET_RSS_HASH_TYPE_UDPv4, AF_INET, 17 },
		{ VIRTIO_NET_RSS_HASH_TYPE_TCPv6, AF_INET6, 6 },
		{ VIRTIO_NET_RSS_HASH_TYPE_UDPv6, AF_INET6, 17 },
	};
	uint8_t frame[256];
	uint32_t hash;

	for (unsigned int i = 0; i < ARRAY_SIZE(table); i++) {
		use(table[i].type);
		for (unsigned int j = 0; j < ARRAY_SIZE(table); j++) {
			const struct vector *vector = &vectors[table[j].family == AF_INET ? 0 : 5];
			size_t len = frame_make(frame, vector, table[j].protocol, 0, false);

			assert_int_equal(net_rss_hash(&rss, frame, len, &hash), i == j);
			if (i == j)
				assert_int_equal(hash, vector->with_ports);
		}
	}
}

/* A fragment has its addresses alone, also the first: the others must come by the same queue. */
static void fragments(void **state)
{
	static const unsigned int fields[] = { 0x2000, 0x2001, 0x0001, 0x1fff };
	uint8_t frame[256];
	size_t len = frame_make(frame, &vectors[0], 6, 0, false);

	use(ALL);
	for (unsigned int i = 0; i < ARRAY_SIZE(fields); i++) {
		put16(frame + ETH_HLEN + 6, fields[i]);
		assert_int_equal(hash_of(frame, len), vectors[0].alone);
	}
	put16(frame + ETH_HLEN + 6, 0x4000); /* may not be fragmented */
	assert_int_equal(hash_of(frame, len), vectors[0].with_ports);
	len = frame_make(frame, &vectors[5], 44, 0, false); /* fragment header of IPv6 */
	assert_int_equal(hash_of(frame, len), vectors[5].alone);
}

/* Whatever is in it and however short it is, nothing behind the end is read. */
static void short_frames(void **state)
{
	uint32_t hash;

	use(ALL);
	for (unsigned int i = 0; i < ARRAY_SIZE(vectors); i++) {
		uint8_t frame[256];
		size_t len = frame_make(frame, &vectors[i], 6, 24, i % 2);

		for (size_t cut = 0; cut <= len; cut++) {
			uint8_t *copy = malloc(cut ? cut : 1); /* the sanitizer watches */

			memcpy(copy, frame, cut);
			(void)net_rss_hash(&rss, copy, cut, &hash);
			free(copy);
		}
	}
	for (unsigned int seed = 0; seed < 20000; seed++) {
		uint8_t *copy = malloc(NET_PEEK);

		for (unsigned int i = 0; i < NET_PEEK; i++)
			copy[i] = (uint8_t)(rand() >> 7);
		put16(copy + 12, seed % 2 ? ETH_P_IP : ETH_P_IPV6);
		if (seed % 2)
			copy[14] = (uint8_t)(0x40 | copy[14] % 16);
		else
			copy[20] = seed % 3 ? 0 : 60;
		(void)net_rss_hash(&rss, copy, NET_PEEK, &hash);
		free(copy);
	}
}

static void queues(void **state)
{
	uint8_t frame[256];
	size_t len = frame_make(frame, &vectors[0], 6, 0, false);

	use(ALL);
	rss.choice.table_mask = 127;
	for (unsigned int i = 0; i < 128; i++)
		rss.choice.table[i] = (uint16_t)(i % 7);
	rss.choice.unclassified = 9;
	assert_int_equal(net_rss_queue(&rss, frame, len), (0x51ccc178 & 127) % 7);
	put16(frame + 12, 0x88b5);
	assert_int_equal(net_rss_queue(&rss, frame, len), 9);
	rss.choice.table_mask = 0;
	put16(frame + 12, ETH_P_IP);
	assert_int_equal(net_rss_queue(&rss, frame, len), 0);
	use(0); /* no hash at all: everything is unclassified */
	rss.choice.unclassified = 3;
	assert_int_equal(net_rss_queue(&rss, frame, len), 3);
}

/* A key that ends early goes on with zeros; none at all hashes to 0. */
static void short_keys(void **state)
{
	uint8_t frame[256];
	size_t len = frame_make(frame, &vectors[0], 6, 0, false);

	use(ALL);
	rss.choice.key_length = 16; /* 12 bytes of input, and 32 bits further */
	net_rss_prepare(&rss);
	assert_int_equal(hash_of(frame, len), 0x51ccc178);
	rss.choice.key_length = 0;
	net_rss_prepare(&rss);
	assert_int_equal(hash_of(frame, len), 0);
}

/* CVE-2024-6505 was a table that the mask leads out of. */
static void bounds(void **state)
{
	struct net_rss_choice good = {
		.hash_types = ALL, .table_mask = 127, .max_tx = 4, .key_length = 40
	};
	struct net_rss_choice bad;

	for (unsigned int i = 0; i < 128; i++)
		good.table[i] = (uint16_t)(i % 4);
	good.unclassified = 3;
	assert_null(net_rss_check(&good, 4));
	assert_int_equal(net_rss_pairs(&good), 4);
	for (unsigned int mask = 0; mask <= 0xffff; mask++) {
		bad = good;
		bad.table_mask = (uint16_t)mask;
		assert_int_equal(!net_rss_check(&bad, 4), mask < 128 && is_power_of_2(mask + 1));
	}
	for (unsigned int i = 0; i < 128; i++) {
		bad = good;
		bad.table[i] = i % 2 ? 4 : 0xffff;
		assert_non_null(net_rss_check(&bad, 4));
	}
	bad = good;
	bad.unclassified = 4;
	assert_non_null(net_rss_check(&bad, 4));
	bad.unclassified = 0xffff;
	assert_non_null(net_rss_check(&bad, 4));
	for (unsigned int max = 0; max <= 0xffff; max++) {
		bad = good;
		bad.max_tx = (uint16_t)max;
		assert_int_equal(!net_rss_check(&bad, 4), max >= 1 && max <= 4);
	}
	for (unsigned int length = 0; length < 256; length++) {
		bad = good;
		bad.key_length = (uint8_t)length;
		assert_int_equal(!net_rss_check(&bad, 4), length >= 1 && length <= 40);
	}
	bad = good;
	bad.hash_types |= VIRTIO_NET_RSS_HASH_TYPE_IP_EX;
	assert_non_null(net_rss_check(&bad, 4));
	bad.hash_types = 0;
	bad.key_length = 0;
	assert_null(net_rss_check(&bad, 4));
	bad.table_mask = 0;
	bad.table[0] = bad.unclassified = 0;
	bad.max_tx = 2;
	assert_int_equal(net_rss_pairs(&bad), 2);
}

/* ---- Mail ---- */

static unsigned int arrivals;

static void on_arrival(void *arg, uint32_t expirations)
{
	++*(unsigned int *)arg;
}

/* Frames of all lengths come out as they went in, until there is no room. */
static void mail(void **state)
{
	static uint8_t in[9000], out[9000 + 16];
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct event_loop *loop = event_loop_create("test");
	struct vqueue_info vq = { .loop = loop, .lock = &lock };
	struct net_mail box = { 0 };
	struct iovec from[] = { { in, 100 }, { in + 100, sizeof(in) - 100 } };
	struct iovec to[] = { { out, 7 }, { out + 7, sizeof(out) - 7 } };
	unsigned int sent = 0, taken = 0;

	assert_int_equal(net_mail_init(&box, &vq, on_arrival, &arrivals), 0);
	assert_int_equal(net_mail_get(&box, to, 2), -EAGAIN);
	for (unsigned int round = 0; round < 200; round++) {
		while (sent - taken < 1 + round) {
			uint32_t len = 24 + sent * 137 % 8000;

			memset(in, (int)sent, len);
			if (!net_mail_put(&box, from, 2, len))
				break;
			sent++;
		}
		assert_true(sent > taken);
		for (unsigned int i = 0; i < 1 + round / 2 && taken < sent; i++, taken++) {
			uint32_t len = 24 + taken * 137 % 8000;

			assert_int_equal(net_mail_get(&box, to, 2), len);
			assert_int_equal(out[0], (uint8_t)taken);
			assert_int_equal(out[len - 1], (uint8_t)taken);
		}
	}
	arrivals = 0;
	net_mail_clear(&box);
	assert_false(net_mail_waits(&box));
	assert_int_equal(net_mail_get(&box, to, 2), -EAGAIN);
	while (net_mail_put(&box, from, 2, 9000))
		sent++;
	for (int i = 0; i < 100 && !arrivals; i++)
		event_loop_poll(loop, 10);
	assert_int_equal(arrivals, 1);
	net_mail_deinit(&box);
	event_loop_destroy(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(microsoft_vectors),
		cmocka_unit_test(types),
		cmocka_unit_test(fragments),
		cmocka_unit_test(short_frames),
		cmocka_unit_test(queues),
		cmocka_unit_test(short_keys),
		cmocka_unit_test(bounds),
		cmocka_unit_test(mail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
