/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-net's receive-side scaling (virtio 1.4, 5.1.9.5.7): the hash of a frame, the queue that it
 * says, and how a frame gets there that came by another queue of the host's.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/ipv6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <stdlib.h>

#include "virtio_net.h"

#define PORTS_LEN 4 /* source and destination, of TCP as of UDP */
#define EXTENSIONS_MAX 8 /* headers of IPv6 that are looked behind */

/* ---- Hash (5.1.9.4.3.1 to 5.1.9.4.3.4) ---- */

/* 32 bits of the key, from bit @bit on; behind its end it is zeros. */
static uint32_t key_window(const struct net_rss_choice *choice, unsigned int bit)
{
	uint64_t window = 0;

	for (unsigned int i = 0; i < 5; i++) {
		unsigned int byte = bit / 8 + i;

		window = window << 8 | (byte < choice->key_length ? choice->key[byte] : 0);
	}
	return (uint32_t)(window >> (8 - bit % 8));
}

/* Toeplitz: each bit of the input that is set adds the key as seen from there. By byte and value. */
void net_rss_prepare(struct net_rss *rss)
{
	for (unsigned int byte = 0; byte < NET_RSS_INPUT_MAX; byte++) {
		uint32_t *sums = rss->sums[byte];

		sums[0] = 0;
		for (unsigned int value = 1; value < 256; value++) {
			unsigned int highest = 31 - (unsigned int)__builtin_clz(value);

			sums[value] = sums[value & ~(1u << highest)] ^
				      key_window(&rss->choice, 8 * byte + 7 - highest);
		}
	}
}

uint32_t net_rss_toeplitz(const struct net_rss *rss, const uint8_t *input, unsigned int len)
{
	uint32_t hash = 0;

	for (unsigned int i = 0; i < len; i++)
		hash ^= rss->sums[i][input[i]];
	return hash;
}

/*
 * Where the addresses and ports of a frame are. @address_len: of one of the two; 0: no IP.
 * @ports: of TCP or UDP, 0: no such header, or not at hand, or of a fragment, whose others have none
 * @protocol: then
 */
struct flow {
	size_t addresses, address_len, ports;
	uint8_t protocol;
};

static void flow_set_ports(struct flow *flow, uint8_t protocol, size_t at, size_t len)
{
	if ((protocol != IPPROTO_TCP && protocol != IPPROTO_UDP) || at + PORTS_LEN > len)
		return;
	flow->protocol = protocol;
	flow->ports = at;
}

static void flow_ipv4(struct flow *flow, const uint8_t *frame, size_t at, size_t len)
{
	struct iphdr ip;

	if (at + sizeof(ip) > len)
		return;
	memcpy(&ip, frame + at, sizeof(ip));
	flow->addresses = at + offsetof(struct iphdr, saddr);
	flow->address_len = sizeof(ip.saddr);
	if (ip.ihl >= 5 && !(ntohs(ip.frag_off) & (IP_MF | IP_OFFMASK)))
		flow_set_ports(flow, ip.protocol, at + ip.ihl * 4u, len);
}

/* Extension headers are skipped (5.1.9.4.3.4). */
static void flow_ipv6(struct flow *flow, const uint8_t *frame, size_t at, size_t len)
{
	struct ipv6hdr ip;
	uint8_t next;

	if (at + sizeof(ip) > len)
		return;
	memcpy(&ip, frame + at, sizeof(ip));
	flow->addresses = at + offsetof(struct ipv6hdr, saddr);
	flow->address_len = sizeof(ip.saddr);
	next = ip.nexthdr;
	at += sizeof(ip);
	for (unsigned int i = 0; i < EXTENSIONS_MAX; i++) {
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS)
			break;
		if (at + 2 > len)
			return;
		next = frame[at];
		at += 8 * (frame[at + 1] + 1u);
	}
	flow_set_ports(flow, next, at, len);
}

static struct flow flow_find(const uint8_t *frame, size_t len)
{
	struct flow flow = { 0 };
	size_t type = ETH_HLEN - 2;
	unsigned int ethertype;

	if (len < ETH_HLEN)
		return flow;
	ethertype = (unsigned int)(frame[type] << 8 | frame[type + 1]);
	if (ethertype == ETH_P_8021Q && len >= ETH_HLEN + NET_VLAN_LEN) {
		type += NET_VLAN_LEN;
		ethertype = (unsigned int)(frame[type] << 8 | frame[type + 1]);
	}
	if (ethertype == ETH_P_IP)
		flow_ipv4(&flow, frame, type + 2, len);
	else if (ethertype == ETH_P_IPV6)
		flow_ipv6(&flow, frame, type + 2, len);
	return flow;
}

bool net_rss_hash(const struct net_rss *rss, const uint8_t *frame, size_t len, uint32_t *hash)
{
	struct flow flow = flow_find(frame, len);
	bool v4 = flow.address_len == sizeof(struct in_addr), with_ports;
	uint32_t tcp = v4 ? VIRTIO_NET_RSS_HASH_TYPE_TCPv4 : VIRTIO_NET_RSS_HASH_TYPE_TCPv6;
	uint32_t udp = v4 ? VIRTIO_NET_RSS_HASH_TYPE_UDPv4 : VIRTIO_NET_RSS_HASH_TYPE_UDPv6;
	uint32_t ip = v4 ? VIRTIO_NET_RSS_HASH_TYPE_IPv4 : VIRTIO_NET_RSS_HASH_TYPE_IPv6;
	uint8_t input[NET_RSS_INPUT_MAX];
	unsigned int input_len = 2 * (unsigned int)flow.address_len;

	if (!flow.address_len)
		return false;
	with_ports =
		flow.ports && rss->choice.hash_types & (flow.protocol == IPPROTO_TCP ? tcp : udp);
	if (!with_ports && !(rss->choice.hash_types & ip))
		return false;
	memcpy(input, frame + flow.addresses, input_len);
	if (with_ports) {
		memcpy(input + input_len, frame + flow.ports, PORTS_LEN);
		input_len += PORTS_LEN;
	}
	*hash = net_rss_toeplitz(rss, input, input_len);
	return true;
}

unsigned int net_rss_queue(const struct net_rss *rss, const uint8_t *frame, size_t len)
{
	uint32_t hash;

	if (!net_rss_hash(rss, frame, len, &hash))
		return rss->choice.unclassified;
	return rss->choice.table[hash & rss->choice.table_mask];
}

/* ---- The driver's choice ---- */

const char *net_rss_check(const struct net_rss_choice *choice, unsigned int pairs)
{
	if (choice->hash_types & ~NET_RSS_HASH_TYPES)
		return "hash_types: not all of them are supported";
	if (choice->table_mask >= NET_RSS_TABLE_MAX || !is_power_of_2(choice->table_mask + 1u))
		return "indirection_table_mask: not that of a table there can be";
	if (choice->unclassified >= pairs)
		return "unclassified_queue: no such queue";
	for (unsigned int i = 0; i <= choice->table_mask; i++)
		if (choice->table[i] >= pairs)
			return "indirection_table: no such queue";
	if (!choice->max_tx || choice->max_tx > pairs)
		return "max_tx_vq: no such queue";
	if (choice->key_length > NET_RSS_KEY_MAX || (choice->hash_types && !choice->key_length))
		return "hash_key_length: too long, or no key at all";
	return NULL;
}

uint16_t net_rss_pairs(const struct net_rss_choice *choice)
{
	unsigned int last = MAX(choice->unclassified, choice->max_tx - 1u);

	for (unsigned int i = 0; i <= choice->table_mask; i++)
		last = MAX(last, choice->table[i]);
	return (uint16_t)(last + 1);
}

void net_rss_stop(struct virtio_net *net)
{
	net->rss.active = false;
}

bool net_rss_start(struct virtio_net *net, const struct net_rss_choice *choice)
{
	net_vhost_stop(net); /* which knows nothing of it */
	net->rss.choice = *choice;
	net_rss_prepare(&net->rss);
	net->rss.active = true;
	if (!net_set_pairs(net, net_rss_pairs(choice))) {
		net_rss_stop(net);
		return false;
	}
	for (unsigned int i = 0; i < net->pairs_used; i++)
		net_rx_run(&net->pairs[i]); /* those without buffers receive for the others now */
	return true;
}
