/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-net's transmission (virtio 1.4, 5.1.9.2): frames go from the guest's memory to the tap,
 * but for the header, which is looked at on our side.
 */
#include <errno.h>
#include <limits.h>

#include "virtio_net.h"

#define TX_BUDGET 256 /* frames at a time, where the core does not count */

static int tx_malformed(struct virtio_net *net, const char *how)
{
	log_guest(net->vc.log, "%s: dropped a frame of the driver's that %s", net->vc.name, how);
	return -EINVAL;
}

static int tx_frame(struct net_pair *pair, const struct vq_chain *chain)
{
	struct virtio_net *net = pair->net;
	struct net_tx *tx = &pair->tx;
	struct virtio_net_hdr_v1 *header = &tx->headers[tx->kept];
	uint64_t frame_len;
	int count;

	if (chain->out_len < net->header_size + ETH_HLEN)
		return tx_malformed(net, "is shorter than its headers");
	frame_len = chain->out_len - net->header_size;
	if (frame_len > NET_FRAME_MAX)
		return tx_malformed(net, "is longer than 64 KiB");
	*header = (struct virtio_net_hdr_v1) { 0 };
	iov_to_buf(chain->iov, chain->out_count, 0, header, net->header_size);
	if (!net_tx_header(&net->vc.negotiated_caps, (size_t)frame_len, header))
		return tx_malformed(net,
				    "asks for an offload that was not negotiated or cannot be");

	tx->iov[0] = (struct iovec) { header, sizeof(*header) };
	count = iov_slice(chain->iov, chain->out_count, net->header_size, frame_len, tx->iov + 1,
			  NET_CHAIN_IOV);
	return count < 0 ? count : net_send(net->backend, pair->index, tx->iov, count + 1);
}

/*
 * The back end has what was sent since the last time: until then it may still read it. Then the
 * driver can have its buffers back: it fills them again while we go on. @last: all that there were.
 */
static void tx_flush(struct net_pair *pair, bool last)
{
	struct net_tx *tx = &pair->tx;
	unsigned int lost = net_flush(pair->net->backend, pair->index);

	tx->kept = 0;
	tx->frames -= lost;
	tx->dropped += lost;
	net_notify_end(&tx->notify, last, false);
}

/*
 * What the host does not take at once is lost, as on any Ethernet whose queue is full: keeping it
 * would let a slow host hold the driver's memory, and the driver gains nothing from waiting.
 * Returns how many frames there were, @max at most.
 */
static unsigned int tx_run(struct net_pair *pair, unsigned int max)
{
	struct net_tx *tx = &pair->tx;
	struct vqueue_info *vq = tx->vq;
	unsigned int count = 0, batch = 0;
	struct vq_chain chain;

	for (; count < max && vq_has_descs(vq); count++) {
		if (vq_pop(vq, &chain, tx->chain_iov, NET_CHAIN_IOV) <= 0)
			break;
		if (tx_frame(pair, &chain)) {
			tx->dropped++;
		} else {
			tx->frames++;
			tx->kept++;
		}
		vq_relchain(vq, chain.idx, 0);
		net_notify_add(&tx->notify, chain.descs);
		if (++batch < NET_BATCH_MAX)
			continue;
		tx_flush(pair, false);
		batch = 0;
	}
	tx_flush(pair, true);
	return count;
}

/* Others have their turn by what vq_has_descs() says. */
void net_tx_run(struct net_pair *pair)
{
	tx_run(pair, UINT_MAX);
}

void net_tx_look(struct net_pair *pair)
{
	event_set_timer(pair->tx.again, EVENT_SOON, 0);
}

/* Nobody kicked, so it is nobody's turn. */
void net_tx_again(void *arg, uint32_t expirations)
{
	struct net_pair *pair = arg;

	if (pair->net->vhost.running || !net_pair_used(pair))
		return;
	if (tx_run(pair, TX_BUDGET) == TX_BUDGET)
		net_tx_look(pair);
}
