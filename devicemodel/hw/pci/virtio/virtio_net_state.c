/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-net's saved state: what the driver set by commands. What follows from the negotiated
 * features is not in it; frames and counters belong to the host.
 */
#include "virtio_net.h"

static uint32_t unicast_bytes(const void *object)
{
	const struct virtio_net *net = object;

	return net->filter.unicast.count * ETH_ALEN;
}

static uint32_t multicast_bytes(const void *object)
{
	const struct virtio_net *net = object;

	return net->filter.multicast.count * ETH_ALEN;
}

static uint32_t pair_count(const void *object)
{
	const struct virtio_net *net = object;

	return net->pair_count;
}

#define COALESCE(type, member)                                                                     \
	{ STATE_FIELD(type, member.max_packets) },                                                 \
	{                                                                                          \
		STATE_FIELD(type, member.max_usecs), .max = NET_COALESCE_USECS_MAX                 \
	}

static const struct state_field pair_fields[] = {
	COALESCE(struct net_pair, rx.notify.coalesce),
	COALESCE(struct net_pair, tx.notify.coalesce),
	{},
};

#define NET(member) STATE_FIELD(struct virtio_net, member)
#define NET_CONFIG(member) STATE_FIELD(struct virtio_net_config, member)

static const struct state_field net_fields[] = {
	{ STATE_BYTES(struct virtio_net, mac), .match = true,
	  .hint = "give the device the mac= it had" },
	{ NET(guest_offloads) },
	{ NET(filter.promisc) },
	{ NET(filter.allmulti) },
	{ NET(filter.alluni) },
	{ NET(filter.nomulti) },
	{ NET(filter.nouni) },
	{ NET(filter.nobcast) },
	{ NET(filter.unicast.count), .max = NET_MAC_TABLE_MAX },
	{ NET(filter.unicast.overflow) },
	{ STATE_BYTES(struct virtio_net, filter.unicast.entries), .count_of = unicast_bytes },
	{ NET(filter.multicast.count), .max = NET_MAC_TABLE_MAX },
	{ NET(filter.multicast.overflow) },
	{ STATE_BYTES(struct virtio_net, filter.multicast.entries), .count_of = multicast_bytes },
	{ STATE_ARRAY(struct virtio_net, filter.vlans) },
	{ NET(pairs_used), .since = 2, .def = 1, .min = 1, .max = NET_BACKEND_QUEUES_MAX },
	{ NET(coalesce[NET_QUEUE_RX].max_packets), .since = 3 },
	{ NET(coalesce[NET_QUEUE_RX].max_usecs), .since = 3, .max = NET_COALESCE_USECS_MAX },
	{ NET(coalesce[NET_QUEUE_TX].max_packets), .since = 3 },
	{ NET(coalesce[NET_QUEUE_TX].max_usecs), .since = 3, .max = NET_COALESCE_USECS_MAX },
	{ STATE_POINTER(struct virtio_net, pairs, NET_BACKEND_QUEUES_MAX), .since = 3,
	  .fields = pair_fields, .count_of = pair_count },
	{ NET(rss.active), .since = 3 },
	{ NET(rss.choice.hash_types), .since = 3 },
	{ NET(rss.choice.table_mask), .since = 3, .max = NET_RSS_TABLE_MAX - 1 },
	{ NET(rss.choice.unclassified), .since = 3, .max = NET_BACKEND_QUEUES_MAX - 1 },
	{ NET(rss.choice.max_tx), .since = 3, .max = NET_BACKEND_QUEUES_MAX },
	{ STATE_ARRAY(struct virtio_net, rss.choice.table), .since = 3 },
	{ NET(rss.choice.key_length), .since = 3, .max = NET_RSS_KEY_MAX },
	{ STATE_BYTES(struct virtio_net, rss.choice.key), .since = 3 },
	{},
};

const struct state_field net_config_state[] = {
	{ STATE_BYTES(struct virtio_net_config, mac) },
	{ NET_CONFIG(status), .max = VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE },
	{ NET_CONFIG(max_virtqueue_pairs), .match = true,
	  .hint = "give the device the queues= it had" },
	{ NET_CONFIG(mtu), .match = true, .hint = "give the device the mtu= it had" },
	{},
};

static const char *net_check(const void *object, const void *staged)
{
	const struct virtio_net *net = staged;

	if (net->guest_offloads & ~net_guest_offloads(net->vc.negotiated_caps.bits[0]))
		return "guest_offloads: not all of them were negotiated";
	if (net->pairs_used > net->pair_count)
		return "pairs_used: more than the device has";
	if (net->pairs_used > net_pairs_known(net))
		return "pairs_used: several without VIRTIO_NET_F_MQ";
	if (!net->rss.active)
		return NULL;
	if (!virtio_has_feature(&net->vc, VIRTIO_NET_F_RSS))
		return "rss.active: without VIRTIO_NET_F_RSS";
	if (!net_rss_check(&net->rss.choice, net->pair_count) &&
	    net->pairs_used < net_rss_pairs(&net->rss.choice))
		return "pairs_used: fewer than rss.choice needs";
	return net_rss_check(&net->rss.choice, net->pair_count);
}

static void net_loaded(void *dev)
{
	struct virtio_net *net = dev;
	uint16_t pairs_used = net->pairs_used;

	net_set_guest_offloads(net, net->guest_offloads);
	net_rss_prepare(&net->rss);
	net->pairs_used = 1; /* as the reset left it */
	net_set_pairs(net, pairs_used);
}

const struct state_desc net_state = {
	.name = "virtio-net",
	.version = 3,
	.fields = net_fields,
	.check = net_check,
	.loaded = net_loaded,
};
