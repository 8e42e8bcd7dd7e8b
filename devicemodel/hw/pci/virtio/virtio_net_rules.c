/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-net's rules that need no device: which frames the driver wants, what a header may say in
 * either direction, which offloads go together.
 */
#include "virtio_net.h"

/*
 * One offload from three sides: what the tap calls it, the feature to take it from the driver, the
 * feature to hand it to the driver, and the segmentation it allows in a header.
 */
static const struct net_offload {
	unsigned int tun_flag;
	uint8_t host, guest;
	uint8_t gso_type;
} net_offload_table[] = {
	{ TUN_F_CSUM, VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_HDR_GSO_NONE },
	{ TUN_F_TSO4, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_HDR_GSO_TCPV4 },
	{ TUN_F_TSO6, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_HDR_GSO_TCPV6 },
	{ TUN_F_TSO_ECN, VIRTIO_NET_F_HOST_ECN, VIRTIO_NET_F_GUEST_ECN, VIRTIO_NET_HDR_GSO_ECN },
	{ TUN_F_UFO, VIRTIO_NET_F_HOST_UFO, VIRTIO_NET_F_GUEST_UFO, VIRTIO_NET_HDR_GSO_UDP },
	{ TUN_F_USO4, VIRTIO_NET_F_HOST_USO, VIRTIO_NET_F_GUEST_USO4, VIRTIO_NET_HDR_GSO_UDP_L4 },
	{ TUN_F_USO6, VIRTIO_NET_F_HOST_USO, VIRTIO_NET_F_GUEST_USO6, VIRTIO_NET_HDR_GSO_UDP_L4 },
};

uint64_t net_offload_features(unsigned int tun_flags)
{
	uint64_t features = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(net_offload_table); i++) {
		const struct net_offload *offload = &net_offload_table[i];

		if (tun_flags & offload->tun_flag)
			features |= BIT64(offload->host) | BIT64(offload->guest);
	}
	return features;
}

uint64_t net_guest_offloads(uint64_t features)
{
	uint64_t mask = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(net_offload_table); i++)
		mask |= BIT64(net_offload_table[i].guest);
	return features & mask;
}

/* tun refuses segmentation without checksums, ECN without TCP, and one of the USO flags alone. */
unsigned int net_tun_flags(uint64_t guest_offloads)
{
	const unsigned int uso = TUN_F_USO4 | TUN_F_USO6;
	unsigned int flags = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(net_offload_table); i++)
		if (guest_offloads & BIT64(net_offload_table[i].guest))
			flags |= net_offload_table[i].tun_flag;
	if (!(flags & TUN_F_CSUM))
		return 0;
	if (!(flags & (TUN_F_TSO4 | TUN_F_TSO6)))
		flags &= ~TUN_F_TSO_ECN;
	if ((flags & uso) != uso)
		flags &= ~uso;
	return flags;
}

/* ---- Headers ---- */

/* Does @features (host or guest bits) allow the segmentation @type, without its ECN flag? */
static bool gso_allowed(uint64_t features, uint8_t type)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(net_offload_table); i++) {
		const struct net_offload *offload = &net_offload_table[i];

		if (offload->gso_type == type &&
		    (features & (BIT64(offload->host) | BIT64(offload->guest))))
			return true;
	}
	return false;
}

/* Segmentation is of an allowed kind, of segments of at least a byte, and with a checksum to do. */
static bool gso_valid(uint64_t features, const struct virtio_net_hdr_v1 *header)
{
	uint8_t type = header->gso_type & ~VIRTIO_NET_HDR_GSO_ECN;

	if (header->gso_type & VIRTIO_NET_HDR_GSO_ECN &&
	    (!gso_allowed(features, VIRTIO_NET_HDR_GSO_ECN) ||
	     (type != VIRTIO_NET_HDR_GSO_TCPV4 && type != VIRTIO_NET_HDR_GSO_TCPV6)))
		return false;
	return type != VIRTIO_NET_HDR_GSO_NONE && gso_allowed(features, type) && header->gso_size &&
	       (header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM);
}

/*
 * virtio 1.4, 5.1.9.2.2: unknown flags are ignored, and DATA_VALID is none of the driver's; without
 * NEEDS_CSUM its fields are not looked at; hdr_len is a hint that need not be right, but the host
 * refuses one that is beyond the frame.
 */
bool net_tx_header(const struct virtio_features *negotiated, size_t frame_len,
		   struct virtio_net_hdr_v1 *header)
{
	uint64_t host = negotiated->bits[0] & ~net_guest_offloads(UINT64_MAX);

	header->num_buffers = 0;
	header->flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM;
	if (!virtio_features_test(negotiated, VIRTIO_NET_F_CSUM))
		header->flags = 0;
	if (!header->flags)
		header->csum_start = header->csum_offset = 0;
	else if ((size_t)header->csum_start + header->csum_offset + 2 > frame_len)
		return false;

	if (header->gso_type != VIRTIO_NET_HDR_GSO_NONE) {
		header->hdr_len = (uint16_t)MIN(header->hdr_len, frame_len);
		return gso_valid(host, header);
	}
	header->hdr_len = 0;
	header->gso_size = 0;
	return true;
}

/*
 * virtio 1.4, 5.1.9.4.1: nothing the driver did not ask for. The host obeys net_set_offload(), but
 * frames may have waited since before it, and it marks checksums as good whatever it was told.
 */
bool net_rx_header(uint64_t guest_offloads, struct virtio_net_hdr_v1 *header)
{
	const uint8_t known = VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID;

	if (header->gso_type != VIRTIO_NET_HDR_GSO_NONE && !gso_valid(guest_offloads, header))
		return false;
	if (guest_offloads & BIT64(VIRTIO_NET_F_GUEST_CSUM)) {
		header->flags &= known;
		return true;
	}
	if (header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
		return false;
	header->flags = 0;
	header->csum_start = header->csum_offset = 0;
	return true;
}

/* ---- Receive filter ---- */

static bool mac_table_has(const struct net_mac_table *table, const uint8_t *mac)
{
	for (unsigned int i = 0; i < table->count; i++)
		if (!memcmp(table->entries[i], mac, ETH_ALEN))
			return true;
	return table->overflow;
}

/* VLAN 0 is no VLAN: such a tag carries a priority only (IEEE 802.1Q, 6.9). */
static bool vlan_accepts(const struct net_filter *filter, const uint8_t *frame, size_t len)
{
	unsigned int vlan;

	if (len < ETH_HLEN + NET_VLAN_LEN || (frame[12] << 8 | frame[13]) != ETH_P_8021Q)
		return true;
	vlan = (frame[14] << 8 | frame[15]) & (NET_VLANS - 1);
	return !vlan || filter->vlans[vlan / 64] & BIT64(vlan % 64);
}

/* The modes that suppress go before those that allow (virtio 1.4, 5.1.9.5.1.1). */
static bool mac_accepts(const struct net_filter *filter, const uint8_t *mac, const uint8_t *to)
{
	static const uint8_t broadcast[ETH_ALEN] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

	if (!memcmp(to, broadcast, ETH_ALEN))
		return !filter->nobcast;
	if (to[0] & 1)
		return !filter->nomulti &&
		       (filter->allmulti || mac_table_has(&filter->multicast, to));
	return !filter->nouni && (filter->alluni || !memcmp(to, mac, ETH_ALEN) ||
				  mac_table_has(&filter->unicast, to));
}

bool net_filter_accepts(const struct net_filter *filter, const uint8_t *mac, const uint8_t *frame,
			size_t len)
{
	if (filter->promisc)
		return true;
	if (filter->by_vlan && !vlan_accepts(filter, frame, len))
		return false;
	return !filter->by_mac || mac_accepts(filter, mac, frame);
}

/* ---- Address ---- */

/* FNV-1a, with the end of each string part of it. */
static uint64_t hash_string(uint64_t hash, const char *text)
{
	do {
		hash ^= (uint8_t)*text;
		hash *= UINT64_C(0x100000001b3);
	} while (*text++);
	return hash;
}

void net_mac_from_names(uint8_t *mac, const char *vm_name, const char *device_name)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	hash = hash_string(hash_string(hash, vm_name), device_name);
	hash ^= hash >> 29; /* the low bytes alone know little of the first characters */
	hash *= UINT64_C(0xbf58476d1ce4e5b9);
	hash ^= hash >> 32;
	memcpy(mac, &hash, ETH_ALEN);
	mac[0] = (mac[0] & 0xfc) | 2; /* unicast, locally administered */
}
