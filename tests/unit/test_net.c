/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-net's rules and its control commands, without a tap: receive filter, headers, offloads,
 * MAC address.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../devicemodel/hw/pci/virtio/virtio_net.h"

static const uint8_t own[ETH_ALEN] = { 0x52, 0x54, 0, 1, 2, 3 };
static const uint8_t other[ETH_ALEN] = { 0x52, 0x54, 0, 9, 9, 9 };
static const uint8_t group[ETH_ALEN] = { 0x01, 0, 0x5e, 1, 2, 3 };
static const uint8_t group2[ETH_ALEN] = { 0x33, 0x33, 0, 1, 2, 3 };
static const uint8_t everybody[ETH_ALEN] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

/* ---- Filter ---- */

static bool accepts(const struct net_filter *filter, const uint8_t *to, int tag)
{
	uint8_t frame[64] = { 0 };

	memcpy(frame, to, ETH_ALEN);
	memcpy(frame + ETH_ALEN, other, ETH_ALEN);
	frame[12] = tag < 0 ? 0x08 : 0x81;
	if (tag >= 0) {
		frame[14] = (uint8_t)(tag >> 8);
		frame[15] = (uint8_t)tag;
	}
	return net_filter_accepts(filter, own, frame, sizeof(frame));
}

enum { OWN = 1, OTHER = 2, GROUP = 4, GROUP2 = 8, ALL = 16, EVERYTHING = 31 };

static int accepted(const struct net_filter *filter)
{
	return (accepts(filter, own, -1) ? OWN : 0) | (accepts(filter, other, -1) ? OTHER : 0) |
	       (accepts(filter, group, -1) ? GROUP : 0) |
	       (accepts(filter, group2, -1) ? GROUP2 : 0) |
	       (accepts(filter, everybody, -1) ? ALL : 0);
}

static void filter_modes(void **state)
{
	/* clang-format off */
	static const struct {
		struct net_filter filter;
		int expected;
	} table[] = {
		{ { .by_mac = false }, EVERYTHING },
		{ { .by_mac = true }, OWN | ALL },
		{ { .by_mac = true, .promisc = true }, EVERYTHING },
		{ { .by_mac = true, .allmulti = true }, OWN | GROUP | GROUP2 | ALL },
		{ { .by_mac = true, .alluni = true }, OWN | OTHER | ALL },
		{ { .by_mac = true, .nomulti = true, .allmulti = true }, OWN | ALL },
		{ { .by_mac = true, .nouni = true, .alluni = true }, ALL },
		{ { .by_mac = true, .nobcast = true, .allmulti = true }, OWN | GROUP | GROUP2 },
		{ { .by_mac = true, .nobcast = true, .nouni = true, .nomulti = true }, 0 },
		{ { .by_mac = true, .promisc = true, .nobcast = true, .nouni = true, .nomulti = true },
		  EVERYTHING },
		{ { .by_mac = true, .multicast = { .count = 1, .entries = { { 1, 0, 0x5e, 1, 2, 3 } } } },
		  OWN | GROUP | ALL },
		{ { .by_mac = true, .unicast = { .count = 1, .entries = { { 0x52, 0x54, 0, 9, 9, 9 } } } },
		  OWN | OTHER | ALL },
		{ { .by_mac = true, .multicast = { .overflow = true } }, OWN | GROUP | GROUP2 | ALL },
		{ { .by_mac = true, .unicast = { .overflow = true } }, OWN | OTHER | ALL },
		{ { .by_mac = true, .nouni = true, .nomulti = true, .unicast = { .overflow = true },
		    .multicast = { .overflow = true } }, ALL },
	};
	/* clang-format on */

	for (unsigned int i = 0; i < ARRAY_SIZE(table); i++)
		if (accepted(&table[i].filter) != table[i].expected)
			fail_msg("row %u: accepts %x, not %x", i, accepted(&table[i].filter),
				 table[i].expected);
}

static void filter_vlans(void **state)
{
	struct net_filter filter = { .by_vlan = true };
	const uint8_t short_frame[ETH_HLEN] = { [12] = 0x81 };

	filter.vlans[100 / 64] |= BIT64(100 % 64);
	filter.vlans[4095 / 64] |= BIT64(4095 % 64);
	assert_true(accepts(&filter, own, -1));
	assert_true(accepts(&filter, own, 100));
	assert_true(accepts(&filter, own, 100 | 7 << 13)); /* priority is not part of it */
	assert_true(accepts(&filter, own, 4095));
	assert_false(accepts(&filter, own, 101));
	assert_true(accepts(&filter, own, 0)); /* a priority, no VLAN */
	filter.promisc = true;
	assert_true(accepts(&filter, own, 101));
	filter.promisc = false;
	assert_true(net_filter_accepts(&filter, own, short_frame, sizeof(short_frame)));
	filter.by_vlan = false;
	assert_true(accepts(&filter, own, 101));
}

/* ---- MAC address ---- */

static void mac_from_names(void **state)
{
	uint8_t macs[4][ETH_ALEN];

	net_mac_from_names(macs[0], "vm1", "virtio-net@00:04.0");
	net_mac_from_names(macs[1], "vm1", "virtio-net@00:05.0");
	net_mac_from_names(macs[2], "vm2", "virtio-net@00:04.0");
	net_mac_from_names(macs[3], "vm1v", "irtio-net@00:04.0");
	for (unsigned int i = 0; i < ARRAY_SIZE(macs); i++) {
		assert_int_equal(macs[i][0] & 3, 2);
		for (unsigned int j = 0; j < i; j++)
			assert_memory_not_equal(macs[i], macs[j], ETH_ALEN);
	}
}

/* An address is a promise to DHCP servers: the same names must give it in every version. */
static void mac_is_stable(void **state)
{
	static const uint8_t expected[ETH_ALEN] = { 0xf6, 0x14, 0xbf, 0x8e, 0x1f, 0xef };
	uint8_t mac[ETH_ALEN];

	net_mac_from_names(mac, "vm1", "virtio-net@00:04.0");
	assert_memory_equal(mac, expected, ETH_ALEN);
}

/* ---- Offloads ---- */

static void tun_flags(void **state)
{
	const uint64_t csum = BIT64(VIRTIO_NET_F_GUEST_CSUM), tso4 = BIT64(VIRTIO_NET_F_GUEST_TSO4),
		       ecn = BIT64(VIRTIO_NET_F_GUEST_ECN), uso4 = BIT64(VIRTIO_NET_F_GUEST_USO4),
		       uso6 = BIT64(VIRTIO_NET_F_GUEST_USO6);

	assert_int_equal(net_tun_flags(0), 0);
	assert_int_equal(net_tun_flags(tso4), 0); /* needs GUEST_CSUM */
	assert_int_equal(net_tun_flags(csum), TUN_F_CSUM);
	assert_int_equal(net_tun_flags(csum | tso4), TUN_F_CSUM | TUN_F_TSO4);
	assert_int_equal(net_tun_flags(csum | ecn), TUN_F_CSUM);
	assert_int_equal(net_tun_flags(csum | tso4 | ecn), TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO_ECN);
	assert_int_equal(net_tun_flags(csum | uso4), TUN_F_CSUM);
	assert_int_equal(net_tun_flags(csum | uso4 | uso6), TUN_F_CSUM | TUN_F_USO4 | TUN_F_USO6);
}

/* What is offered contains what it depends on, whatever the host can do (the tap's own groups). */
static void offload_features(void **state)
{
	const uint64_t all = net_offload_features(TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 |
						  TUN_F_TSO_ECN | TUN_F_USO4 | TUN_F_USO6);

	assert_int_equal(net_offload_features(0), 0);
	assert_true(net_offload_features(TUN_F_CSUM) ==
		    (BIT64(VIRTIO_NET_F_CSUM) | BIT64(VIRTIO_NET_F_GUEST_CSUM)));
	assert_true(all & BIT64(VIRTIO_NET_F_HOST_USO));
	assert_false(all & (BIT64(VIRTIO_NET_F_HOST_UFO) | BIT64(VIRTIO_NET_F_GUEST_UFO)));
	assert_true(net_guest_offloads(UINT64_MAX) == (BIT64(1) | BIT64(7) | BIT64(8) | BIT64(9) |
						       BIT64(10) | BIT64(54) | BIT64(55)));
}

/* ---- Headers ---- */

#define NEEDS_CSUM VIRTIO_NET_HDR_F_NEEDS_CSUM
#define DATA_VALID VIRTIO_NET_HDR_F_DATA_VALID

static void tx_header_plain(void **state)
{
	const struct virtio_features csum = { { BIT64(VIRTIO_NET_F_CSUM) } };
	const struct virtio_features none = { { 0 } };
	struct virtio_net_hdr_v1 header = {
		.flags = 0xfe,
		.hdr_len = 9999,
		.gso_size = 77,
		.csum_start = 5,
		.num_buffers = 3,
	};
	static const struct virtio_net_hdr_v1 empty;

	/* unknown flags, DATA_VALID, and all fields that mean nothing without theirs */
	assert_true(net_tx_header(&csum, 100, &header));
	assert_memory_equal(&header, &empty, sizeof(empty));

	header = (struct virtio_net_hdr_v1) { .flags = 0xff, .csum_start = 34, .csum_offset = 16 };
	assert_true(net_tx_header(&csum, 52, &header));
	assert_int_equal(header.flags, NEEDS_CSUM);
	assert_int_equal(header.csum_start, 34);
	assert_false(net_tx_header(&csum, 51, &header)); /* the sum would be behind the end */
	header.csum_start = header.csum_offset = 0xffff;
	assert_false(net_tx_header(&csum, 65535, &header));
	assert_true(net_tx_header(&none, 51, &header)); /* not negotiated: not looked at */
	assert_memory_equal(&header, &empty, sizeof(empty));
}

static struct virtio_net_hdr_v1 gso_header(uint8_t type)
{
	return (struct virtio_net_hdr_v1) { .flags = NEEDS_CSUM,
					    .gso_type = type,
					    .hdr_len = 54,
					    .gso_size = 1448,
					    .csum_start = 34,
					    .csum_offset = 16 };
}

static const struct {
	uint8_t type;
	uint64_t host, guest;
} gso_types[] = {
	{ VIRTIO_NET_HDR_GSO_TCPV4, BIT64(VIRTIO_NET_F_HOST_TSO4), BIT64(VIRTIO_NET_F_GUEST_TSO4) },
	{ VIRTIO_NET_HDR_GSO_TCPV6, BIT64(VIRTIO_NET_F_HOST_TSO6), BIT64(VIRTIO_NET_F_GUEST_TSO6) },
	{ VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN,
	  BIT64(VIRTIO_NET_F_HOST_TSO4) | BIT64(VIRTIO_NET_F_HOST_ECN),
	  BIT64(VIRTIO_NET_F_GUEST_TSO4) | BIT64(VIRTIO_NET_F_GUEST_ECN) },
	{ VIRTIO_NET_HDR_GSO_UDP, BIT64(VIRTIO_NET_F_HOST_UFO), BIT64(VIRTIO_NET_F_GUEST_UFO) },
	{ VIRTIO_NET_HDR_GSO_UDP_L4, BIT64(VIRTIO_NET_F_HOST_USO), BIT64(VIRTIO_NET_F_GUEST_USO4) },
};

static bool tx_gso(uint64_t features, uint8_t type)
{
	const struct virtio_features negotiated = { { features | BIT64(VIRTIO_NET_F_CSUM) } };
	struct virtio_net_hdr_v1 header = gso_header(type);

	return net_tx_header(&negotiated, 9000, &header);
}

static bool rx_gso(uint64_t offloads, uint8_t type)
{
	struct virtio_net_hdr_v1 header = gso_header(type);

	return net_rx_header(offloads | BIT64(VIRTIO_NET_F_GUEST_CSUM), &header);
}

/* Each kind of segmentation with its own feature, with all but it, and with the other side's. */
static void gso_needs_its_feature(void **state)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(gso_types); i++) {
		assert_true(tx_gso(gso_types[i].host, gso_types[i].type));
		assert_false(tx_gso(~gso_types[i].host, gso_types[i].type));
		assert_false(tx_gso(gso_types[i].guest, gso_types[i].type));
		assert_true(rx_gso(gso_types[i].guest, gso_types[i].type));
		assert_false(rx_gso(0, gso_types[i].type));
	}
	assert_false(tx_gso(UINT64_MAX, VIRTIO_NET_HDR_GSO_ECN)); /* of what? */
	assert_false(tx_gso(UINT64_MAX, VIRTIO_NET_HDR_GSO_UDP | VIRTIO_NET_HDR_GSO_ECN));
	assert_false(tx_gso(UINT64_MAX, 2));
	assert_false(tx_gso(UINT64_MAX, 0x7f));
}

static void tx_header_gso(void **state)
{
	const struct virtio_features all = { { UINT64_MAX } };
	struct virtio_net_hdr_v1 header = gso_header(VIRTIO_NET_HDR_GSO_TCPV4);

	header.hdr_len = 0xffff; /* a hint that need not be right */
	assert_true(net_tx_header(&all, 3000, &header));
	assert_int_equal(header.hdr_len, 3000);
	assert_int_equal(header.gso_size, 1448);
	header.gso_size = 0;
	assert_false(net_tx_header(&all, 3000, &header));
	header.gso_size = 1;
	header.flags = 0;
	assert_false(net_tx_header(&all, 3000, &header));
}

static void rx_header(void **state)
{
	const uint64_t csum = BIT64(VIRTIO_NET_F_GUEST_CSUM);
	struct virtio_net_hdr_v1 header = { .flags = DATA_VALID, .csum_start = 1 };

	assert_true(net_rx_header(0, &header)); /* the host sets DATA_VALID unasked */
	assert_int_equal(header.flags, 0);
	assert_int_equal(header.csum_start, 0);
	header.flags = NEEDS_CSUM;
	assert_false(net_rx_header(0, &header));
	header.flags = 0xff;
	assert_true(net_rx_header(csum, &header));
	assert_int_equal(header.flags, NEEDS_CSUM | DATA_VALID);
	header = gso_header(VIRTIO_NET_HDR_GSO_TCPV4);
	assert_false(net_rx_header(BIT64(VIRTIO_NET_F_GUEST_TSO4), &header));
}

/* ---- Control commands ---- */

struct ctrl_device {
	struct virtio_net net;
	struct virtio_net_config config;
};

static int ctrl_setup(void **state)
{
	struct ctrl_device *device = calloc(1, sizeof(*device));

	if (!device)
		return -1;
	device->net.config = &device->config;
	device->net.vc.negotiated_caps.bits[0] = UINT64_MAX;
	memcpy(device->net.mac, own, ETH_ALEN);
	device->config.status = VIRTIO_NET_S_LINK_UP;
	net_ctrl_reset(&device->net);
	*state = device;
	return 0;
}

static int ctrl_teardown(void **state)
{
	free(*state);
	return 0;
}

/* Each byte of the command is a buffer of its own: no framing may be relied on (2.7.4.1). */
static uint8_t ctrl(struct ctrl_device *device, uint8_t class, uint8_t cmd, const void *data,
		    size_t len)
{
	struct iovec iov[1024];
	uint8_t head[2] = { class, cmd };
	int count = 0;

	assert_true(len + 2 <= ARRAY_SIZE(iov));
	iov[count++] = (struct iovec) { &head[0], 1 };
	iov[count++] = (struct iovec) { &head[1], 1 };
	for (size_t i = 0; i < len; i++)
		iov[count++] = (struct iovec) { (uint8_t *)data + i, 1 };
	return net_ctrl_command(&device->net, iov, count, len + 2).ack;
}

static void ctrl_modes(void **state)
{
	struct ctrl_device *device = *state;
	struct net_filter *filter = &device->net.filter;
	bool *modes[] = { &filter->promisc, &filter->allmulti, &filter->alluni,
			  &filter->nomulti, &filter->nouni,    &filter->nobcast };
	static const uint8_t on[2] = { 1 }, off = 0;

	for (uint8_t i = 0; i < ARRAY_SIZE(modes); i++) {
		assert_int_equal(ctrl(device, VIRTIO_NET_CTRL_RX, i, on, 1), VIRTIO_NET_OK);
		assert_true(*modes[i]);
		assert_int_equal(ctrl(device, VIRTIO_NET_CTRL_RX, i, on, 0), VIRTIO_NET_ERR);
		assert_int_equal(ctrl(device, VIRTIO_NET_CTRL_RX, i, on, 2), VIRTIO_NET_ERR);
		assert_true(*modes[i]);
	}
	assert_int_equal(ctrl(device, VIRTIO_NET_CTRL_RX, 6, on, 1), VIRTIO_NET_ERR);
	assert_int_equal(ctrl(device, VIRTIO_NET_CTRL_RX, 0, &off, 1), VIRTIO_NET_OK);
	assert_false(filter->promisc);
	net_ctrl_reset(&device->net);
	for (uint8_t i = 0; i < ARRAY_SIZE(modes); i++)
		assert_false(*modes[i]);
}

static void ctrl_refused(void **state)
{
	struct ctrl_device *device = *state;
	struct iovec iov = { (void *)"\0", 1 };
	const uint8_t pairs[2] = { 1 }, data[8] = { 0 };

	assert_int_equal(net_ctrl_command(&device->net, &iov, 1, 1).ack, VIRTIO_NET_ERR);
	assert_int_equal(net_ctrl_command(&device->net, &iov, 0, 0).ack, VIRTIO_NET_ERR);
	assert_int_equal(ctrl(device, 4, 0, pairs, 2), VIRTIO_NET_ERR); /* MQ is not offered */
	for (unsigned int class = 7; class < 256; class ++)
		assert_int_equal(ctrl(device, (uint8_t) class, 0, data, 1), VIRTIO_NET_ERR);
	assert_int_equal(ctrl(device, VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, "\1\0\0\0\0\0\0\0", 8),
			 VIRTIO_NET_ERR); /* bit 0 is no guest offload */
}

/* Without its feature no command does anything. */
static void ctrl_needs_feature(void **state)
{
	struct ctrl_device *device = *state;
	static const struct {
		uint8_t class, cmd, len;
	} commands[] = { { 0, 0, 1 }, { 0, 1, 1 }, { 0, 2, 1 }, { 0, 3, 1 },
			 { 0, 4, 1 }, { 0, 5, 1 }, { 1, 0, 8 }, { 1, 1, 6 },
			 { 2, 0, 2 }, { 2, 1, 2 }, { 3, 0, 0 }, { 5, 0, 8 } };
	static const uint8_t data[8];

	device->net.vc.negotiated_caps.bits[0] = BIT64(VIRTIO_NET_F_CTRL_VQ);
	for (unsigned int i = 0; i < ARRAY_SIZE(commands); i++)
		assert_int_equal(
			ctrl(device, commands[i].class, commands[i].cmd, data, commands[i].len),
			VIRTIO_NET_ERR);
}

static size_t put_table(uint8_t *to, uint32_t claimed, uint32_t entries, const uint8_t *mac)
{
	memcpy(to, &claimed, 4);
	for (uint32_t i = 0; i < entries; i++)
		memcpy(to + 4 + ETH_ALEN * i, mac, ETH_ALEN);
	return 4 + (size_t)ETH_ALEN * entries;
}

static uint8_t set_tables(struct ctrl_device *device, uint32_t unicast, uint32_t multicast,
			  uint32_t cut)
{
	uint8_t data[1022];
	size_t len = put_table(data, unicast, unicast, other);

	len += put_table(data + len, multicast, multicast, group);
	return ctrl(device, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, data, len - cut);
}

static void ctrl_mac_table(void **state)
{
	struct ctrl_device *device = *state;
	struct net_filter *filter = &device->net.filter;

	filter->by_mac = true;
	assert_int_equal(accepted(filter), OWN | ALL);
	assert_int_equal(set_tables(device, 1, 1, 0), VIRTIO_NET_OK);
	assert_int_equal(accepted(filter), OWN | OTHER | GROUP | ALL);
	/* cut short: refused, and what was set stays */
	for (uint32_t cut = 1; cut <= 20; cut++)
		assert_int_equal(set_tables(device, 1, 1, cut), VIRTIO_NET_ERR);
	assert_int_equal(accepted(filter), OWN | OTHER | GROUP | ALL);
	assert_int_equal(set_tables(device, 0, 65, 0), VIRTIO_NET_OK); /* more than we keep */
	assert_int_equal(accepted(filter), OWN | GROUP | GROUP2 | ALL);
	assert_int_equal(set_tables(device, 0, 0, 0), VIRTIO_NET_OK);
	assert_int_equal(accepted(filter), OWN | ALL);
	assert_int_equal(set_tables(device, 64, 64, 0), VIRTIO_NET_OK);
	assert_int_equal(accepted(filter), OWN | OTHER | GROUP | ALL);
	net_ctrl_reset(&device->net);
	assert_int_equal(filter->unicast.count, 0);
}

/* Numbers of entries that overflow when they are multiplied (CVE-2014-0150). */
static void ctrl_mac_table_lies(void **state)
{
	static const uint32_t lies[] = { 2, 64, 65, 0x2aaaaaab, 0x7fffffff, 0xffffffff };
	struct ctrl_device *device = *state;
	uint8_t data[64];

	for (unsigned int i = 0; i < ARRAY_SIZE(lies); i++) {
		size_t len = put_table(data, lies[i], 1, other);

		len += put_table(data + len, 0, 0, other);
		assert_int_equal(ctrl(device, VIRTIO_NET_CTRL_MAC, 0, data, len), VIRTIO_NET_ERR);
		len = put_table(data, 0, 0, other);
		len += put_table(data + len, lies[i], 1, group);
		assert_int_equal(ctrl(device, VIRTIO_NET_CTRL_MAC, 0, data, len), VIRTIO_NET_ERR);
	}
	assert_int_equal(device->net.filter.unicast.count, 0);
}

static void ctrl_mac_addr(void **state)
{
	struct ctrl_device *device = *state;
	const uint8_t class = VIRTIO_NET_CTRL_MAC, set = VIRTIO_NET_CTRL_MAC_ADDR_SET;

	assert_int_equal(ctrl(device, class, set, other, 6), VIRTIO_NET_OK);
	assert_memory_equal(device->config.mac, other, ETH_ALEN);
	assert_int_equal(ctrl(device, class, set, group, 6), VIRTIO_NET_ERR);
	assert_int_equal(ctrl(device, class, set, own, 5), VIRTIO_NET_ERR);
	assert_memory_equal(device->config.mac, other, ETH_ALEN);
	net_ctrl_reset(&device->net);
	assert_memory_equal(device->config.mac, own, ETH_ALEN);
}

static void ctrl_vlans(void **state)
{
	struct ctrl_device *device = *state;
	struct net_filter *filter = &device->net.filter;
	uint16_t vlan = 4095;

	filter->by_vlan = true;
	assert_int_equal(ctrl(device, VIRTIO_NET_CTRL_VLAN, 0, &vlan, 2), VIRTIO_NET_OK);
	assert_true(accepts(filter, own, 4095));
	assert_false(accepts(filter, own, 4094));
	assert_int_equal(ctrl(device, VIRTIO_NET_CTRL_VLAN, 1, &vlan, 2), VIRTIO_NET_OK);
	assert_false(accepts(filter, own, 4095));
	vlan = 4096;
	assert_int_equal(ctrl(device, VIRTIO_NET_CTRL_VLAN, 0, &vlan, 2), VIRTIO_NET_ERR);
	vlan = 0xffff;
	assert_int_equal(ctrl(device, VIRTIO_NET_CTRL_VLAN, 1, &vlan, 2), VIRTIO_NET_ERR);
}

static void ctrl_announce(void **state)
{
	struct ctrl_device *device = *state;

	device->config.status |= VIRTIO_NET_S_ANNOUNCE;
	assert_int_equal(ctrl(device, VIRTIO_NET_CTRL_ANNOUNCE, 1, NULL, 0), VIRTIO_NET_ERR);
	assert_int_equal(device->config.status, VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
	assert_int_equal(ctrl(device, VIRTIO_NET_CTRL_ANNOUNCE, 0, NULL, 0), VIRTIO_NET_OK);
	assert_int_equal(device->config.status, VIRTIO_NET_S_LINK_UP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(filter_modes),
		cmocka_unit_test(filter_vlans),
		cmocka_unit_test(mac_from_names),
		cmocka_unit_test(mac_is_stable),
		cmocka_unit_test(tun_flags),
		cmocka_unit_test(offload_features),
		cmocka_unit_test(tx_header_plain),
		cmocka_unit_test(gso_needs_its_feature),
		cmocka_unit_test(tx_header_gso),
		cmocka_unit_test(rx_header),
		cmocka_unit_test_setup_teardown(ctrl_modes, ctrl_setup, ctrl_teardown),
		cmocka_unit_test_setup_teardown(ctrl_refused, ctrl_setup, ctrl_teardown),
		cmocka_unit_test_setup_teardown(ctrl_needs_feature, ctrl_setup, ctrl_teardown),
		cmocka_unit_test_setup_teardown(ctrl_mac_table, ctrl_setup, ctrl_teardown),
		cmocka_unit_test_setup_teardown(ctrl_mac_table_lies, ctrl_setup, ctrl_teardown),
		cmocka_unit_test_setup_teardown(ctrl_mac_addr, ctrl_setup, ctrl_teardown),
		cmocka_unit_test_setup_teardown(ctrl_vlans, ctrl_setup, ctrl_teardown),
		cmocka_unit_test_setup_teardown(ctrl_announce, ctrl_setup, ctrl_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
