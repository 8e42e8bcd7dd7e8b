/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-net's control queue (virtio 1.4, 5.1.9.5): receive filter, MAC address, VLANs,
 * announcement, queue pairs, steering, offloads, notifications. Each command is carried out before it is answered.
 */
#include "virtio_net.h"

#define ANY_LENGTH UINT64_MAX

/* The data of a command: what follows class and command in the chain; and where its result goes. */
struct ctrl_data {
	const struct iovec *iov;
	int count;
	uint64_t offset, len;
	struct net_ctrl_answer *answer;
};

static bool data_take(struct ctrl_data *data, void *to, size_t size)
{
	if (data->len < size || iov_to_buf(data->iov, data->count, data->offset, to, size) != size)
		return false;
	data->offset += size;
	data->len -= size;
	return true;
}

static bool data_skip(struct ctrl_data *data, uint64_t size)
{
	if (data->len < size)
		return false;
	data->offset += size;
	data->len -= size;
	return true;
}

/* ---- Commands ---- */

static bool ctrl_rx_mode(struct virtio_net *net, uint8_t command, struct ctrl_data *data)
{
	struct net_filter *filter = &net->filter;
	bool *const modes[] = {
		[VIRTIO_NET_CTRL_RX_PROMISC] = &filter->promisc,
		[VIRTIO_NET_CTRL_RX_ALLMULTI] = &filter->allmulti,
		[VIRTIO_NET_CTRL_RX_ALLUNI] = &filter->alluni,
		[VIRTIO_NET_CTRL_RX_NOMULTI] = &filter->nomulti,
		[VIRTIO_NET_CTRL_RX_NOUNI] = &filter->nouni,
		[VIRTIO_NET_CTRL_RX_NOBCAST] = &filter->nobcast,
	};
	uint8_t on;

	if (!data_take(data, &on, sizeof(on)))
		return false;
	*modes[command] = on;
	return true;
}

/* Half of MAC_TABLE_SET: a number and so many addresses. */
static bool take_mac_table(struct ctrl_data *data, struct net_mac_table *table)
{
	uint32_t entries;

	if (!data_take(data, &entries, sizeof(entries)))
		return false;
	table->overflow = entries > NET_MAC_TABLE_MAX;
	table->count = MIN(entries, NET_MAC_TABLE_MAX);
	if (!data_take(data, table->entries, (size_t)table->count * ETH_ALEN))
		return false;
	return data_skip(data, (uint64_t)(entries - table->count) * ETH_ALEN);
}

/* Takes effect whole or not at all. */
static bool ctrl_mac_table(struct virtio_net *net, uint8_t command, struct ctrl_data *data)
{
	struct net_mac_table unicast, multicast;

	if (!take_mac_table(data, &unicast) || !take_mac_table(data, &multicast))
		return false;
	net->filter.unicast = unicast;
	net->filter.multicast = multicast;
	return true;
}

static bool ctrl_mac_addr(struct virtio_net *net, uint8_t command, struct ctrl_data *data)
{
	uint8_t mac[ETH_ALEN];

	if (!data_take(data, mac, sizeof(mac)) || mac[0] & 1)
		return false;
	memcpy(net->config->mac, mac, sizeof(mac));
	return true;
}

static bool ctrl_vlan(struct virtio_net *net, uint8_t command, struct ctrl_data *data)
{
	uint16_t vlan;

	if (!data_take(data, &vlan, sizeof(vlan)) || vlan >= NET_VLANS)
		return false;
	if (command == VIRTIO_NET_CTRL_VLAN_ADD)
		net->filter.vlans[vlan / 64] |= BIT64(vlan % 64);
	else
		net->filter.vlans[vlan / 64] &= ~BIT64(vlan % 64);
	return true;
}

/* virtio 1.4, 5.1.9.5.4.2 */
static bool ctrl_announce_ack(struct virtio_net *net, uint8_t command, struct ctrl_data *data)
{
	net->config->status &= (uint16_t)~VIRTIO_NET_S_ANNOUNCE;
	return true;
}

/* Only what was negotiated can be switched (virtio 1.4, 5.1.9.5.9). */
static bool ctrl_guest_offloads(struct virtio_net *net, uint8_t command, struct ctrl_data *data)
{
	uint64_t offloads;

	if (!data_take(data, &offloads, sizeof(offloads)) ||
	    offloads & ~net_guest_offloads(net->vc.negotiated_caps.bits[0]))
		return false;
	return net_set_guest_offloads(net, offloads);
}

/* virtio 1.4, 5.1.9.5.6 */
static bool ctrl_pairs(struct virtio_net *net, uint8_t command, struct ctrl_data *data)
{
	uint16_t pairs;

	if (!data_take(data, &pairs, sizeof(pairs)) || pairs < VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN ||
	    pairs > net->pair_count)
		return false;
	/* The host's kernel takes its time, and a driver may have many such commands at once. */
	vq_end_turn(&net->vc.vqs[NET_PAIR_QUEUES * net->pair_count]);
	net_rss_stop(net);
	return net_set_pairs(net, pairs);
}

/*
 * struct virtio_net_rss_config has two members of the driver's length. What is behind them is ignored:
 * Linux 6.12 sends the padding of its own struct.
 */
static bool take_rss(struct ctrl_data *data, struct net_rss_choice *choice)
{
	if (!data_take(data, &choice->hash_types, sizeof(choice->hash_types)) ||
	    !data_take(data, &choice->table_mask, sizeof(choice->table_mask)) ||
	    !data_take(data, &choice->unclassified, sizeof(choice->unclassified)) ||
	    choice->table_mask >= NET_RSS_TABLE_MAX)
		return false;
	if (!data_take(data, choice->table, (choice->table_mask + 1u) * sizeof(choice->table[0])) ||
	    !data_take(data, &choice->max_tx, sizeof(choice->max_tx)) ||
	    !data_take(data, &choice->key_length, sizeof(choice->key_length)) ||
	    choice->key_length > NET_RSS_KEY_MAX)
		return false;
	return data_take(data, choice->key, choice->key_length);
}

/* virtio 1.4, 5.1.9.5.7 */
static bool ctrl_rss(struct virtio_net *net, uint8_t command, struct ctrl_data *data)
{
	struct net_rss_choice choice = { 0 };
	const char *wrong = "shorter than its parts, or a table or key too long";

	if (take_rss(data, &choice))
		wrong = net_rss_check(&choice, net->pair_count);
	if (wrong) {
		log_guest(net->vc.log, "%s: RSS refused: %s (5.1.9.5.7.2)", net->vc.name, wrong);
		return false;
	}
	vq_end_turn(&net->vc.vqs[NET_PAIR_QUEUES * net->pair_count]);
	return net_rss_start(net, &choice);
}

/* virtio 1.4, 5.1.9.5.10 */
static bool ctrl_coalesce(struct virtio_net *net, uint8_t command, struct ctrl_data *data)
{
	struct net_coalesce coalesce;

	if (!data_take(data, &coalesce, sizeof(coalesce)))
		return false;
	return net_notify_set_all(
		net, command == VIRTIO_NET_CTRL_NOTF_COAL_TX_SET ? NET_QUEUE_TX : NET_QUEUE_RX,
		&coalesce);
}

/* The queue's index, and 16 reserved bits that are not looked at. */
static bool take_queue(struct ctrl_data *data, uint16_t *index)
{
	return data_take(data, index, sizeof(*index)) && data_skip(data, sizeof(*index));
}

static bool ctrl_coalesce_queue(struct virtio_net *net, uint8_t command, struct ctrl_data *data)
{
	struct net_coalesce coalesce;
	uint16_t index;

	return take_queue(data, &index) && data_take(data, &coalesce, sizeof(coalesce)) &&
	       net_notify_set_queue(net, index, &coalesce);
}

/* The parameters come back as the command's result. */
static bool ctrl_coalescing(struct virtio_net *net, uint8_t command, struct ctrl_data *data)
{
	struct net_coalesce coalesce;
	uint16_t index;

	if (!take_queue(data, &index) || !net_notify_get_queue(net, index, &coalesce))
		return false;
	memcpy(data->answer->result, &coalesce, sizeof(coalesce));
	data->answer->len = sizeof(coalesce);
	return true;
}

/* @feature: the driver must have it; @length: of the data */
static const struct ctrl_command {
	uint8_t class, command;
	uint8_t feature;
	uint64_t length;
	bool (*run)(struct virtio_net *net, uint8_t command, struct ctrl_data *data);
} ctrl_commands[] = {
	{ VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, VIRTIO_NET_F_CTRL_RX, 1, ctrl_rx_mode },
	{ VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, VIRTIO_NET_F_CTRL_RX, 1, ctrl_rx_mode },
	{ VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLUNI, VIRTIO_NET_F_CTRL_RX_EXTRA, 1,
	  ctrl_rx_mode },
	{ VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOMULTI, VIRTIO_NET_F_CTRL_RX_EXTRA, 1,
	  ctrl_rx_mode },
	{ VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOUNI, VIRTIO_NET_F_CTRL_RX_EXTRA, 1,
	  ctrl_rx_mode },
	{ VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOBCAST, VIRTIO_NET_F_CTRL_RX_EXTRA, 1,
	  ctrl_rx_mode },
	{ VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, VIRTIO_NET_F_CTRL_RX, ANY_LENGTH,
	  ctrl_mac_table },
	{ VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, VIRTIO_NET_F_CTRL_MAC_ADDR, ETH_ALEN,
	  ctrl_mac_addr },
	{ VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, VIRTIO_NET_F_CTRL_VLAN, 2, ctrl_vlan },
	{ VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_DEL, VIRTIO_NET_F_CTRL_VLAN, 2, ctrl_vlan },
	{ VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, VIRTIO_NET_F_GUEST_ANNOUNCE, 0,
	  ctrl_announce_ack },
	{ VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, VIRTIO_NET_F_MQ, 2, ctrl_pairs },
	{ VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_RSS_CONFIG, VIRTIO_NET_F_RSS, ANY_LENGTH,
	  ctrl_rss },
	{ VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET,
	  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, 8, ctrl_guest_offloads },
	{ VIRTIO_NET_CTRL_NOTF_COAL, VIRTIO_NET_CTRL_NOTF_COAL_TX_SET, VIRTIO_NET_F_NOTF_COAL, 8,
	  ctrl_coalesce },
	{ VIRTIO_NET_CTRL_NOTF_COAL, VIRTIO_NET_CTRL_NOTF_COAL_RX_SET, VIRTIO_NET_F_NOTF_COAL, 8,
	  ctrl_coalesce },
	{ VIRTIO_NET_CTRL_NOTF_COAL, VIRTIO_NET_CTRL_NOTF_COAL_VQ_SET, VIRTIO_NET_F_VQ_NOTF_COAL,
	  12, ctrl_coalesce_queue },
	{ VIRTIO_NET_CTRL_NOTF_COAL, VIRTIO_NET_CTRL_NOTF_COAL_VQ_GET, VIRTIO_NET_F_VQ_NOTF_COAL, 4,
	  ctrl_coalescing },
};

static const struct ctrl_command *ctrl_find(const struct virtio_net *net,
					    const struct virtio_net_ctrl_hdr *header)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(ctrl_commands); i++) {
		const struct ctrl_command *command = &ctrl_commands[i];

		if (command->class == header->class && command->command == header->cmd)
			return virtio_has_feature(&net->vc, command->feature) ? command : NULL;
	}
	return NULL;
}

struct net_ctrl_answer net_ctrl_command(struct virtio_net *net, const struct iovec *iov, int count,
					uint64_t out_len)
{
	struct net_ctrl_answer answer = { .ack = VIRTIO_NET_ERR };
	struct ctrl_data data = { .iov = iov, .count = count, .len = out_len, .answer = &answer };
	const struct ctrl_command *command;
	struct virtio_net_ctrl_hdr header;

	if (!data_take(&data, &header, sizeof(header)))
		return answer;
	command = ctrl_find(net, &header);
	if (!command || (command->length != ANY_LENGTH && command->length != data.len))
		return answer;
	if (command->run(net, header.cmd, &data))
		answer.ack = VIRTIO_NET_OK;
	return answer;
}

void net_ctrl_reset(struct virtio_net *net)
{
	memset(&net->filter, 0, sizeof(net->filter));
	net->config->status &= (uint16_t)~VIRTIO_NET_S_ANNOUNCE;
	memcpy(net->config->mac, net->mac, ETH_ALEN);
}

/* ---- Queue ---- */

/* The result is behind the ack (5.1.9.5). Bytes written; what does not fit is not. */
static uint32_t ctrl_answer(const struct iovec *iov, int count,
			    const struct net_ctrl_answer *answer)
{
	size_t written = iov_from_buf(iov, count, 0, &answer->ack, sizeof(answer->ack));

	written += iov_from_buf(iov, count, sizeof(answer->ack), answer->result, answer->len);
	return (uint32_t)written;
}

void net_ctrl_run(struct virtio_net *net, struct vqueue_info *vq)
{
	struct iovec iov[NET_CHAIN_IOV];
	struct vq_chain chain;

	while (vq_has_descs(vq) && vq_pop(vq, &chain, iov, NET_CHAIN_IOV) > 0) {
		struct net_ctrl_answer answer;

		if (!chain.in_len) {
			virtio_device_error(&net->vc, vq, "a command has no room for its answer");
			break;
		}
		answer = net_ctrl_command(net, chain.iov, chain.out_count, chain.out_len);
		vq_relchain(vq, chain.idx,
			    ctrl_answer(chain.iov + chain.out_count, chain.in_count, &answer));
	}
	vq_endchains(vq, 1);
}
