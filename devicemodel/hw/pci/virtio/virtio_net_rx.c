/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-net's reception (virtio 1.4, 5.1.9.3 and 5.1.9.4): frames go from the tap straight into
 * the guest's memory, but for the header and the first bytes, which are looked at on our side, and
 * for what the buffers at hand cannot hold, which waits on our side until there are more.
 */
#include <errno.h>

#include "virtio_net.h"

#define RX_BUDGET 64 /* frames a turn */
#define RX_PATIENCE_NS UINT64_C(100000000) /* how long a frame waits for enough buffers */

static_assert(sizeof(struct net_head) == sizeof(struct virtio_net_hdr_v1) + NET_PEEK, "no holes");

static bool rx_mergeable(const struct net_pair *pair)
{
	return virtio_has_feature(&pair->net->vc, VIRTIO_NET_F_MRG_RXBUF);
}

/* ---- The buffers at hand ---- */

/* Room for one more chain, however scattered its memory? */
static bool rx_has_room(const struct net_pair *pair)
{
	const struct net_rx *rx = &pair->rx;

	if (!rx_mergeable(pair))
		return !rx->chain_count; /* one chain a frame */
	return rx->chain_count < NET_QUEUE_SIZE && rx->iov_count + NET_CHAIN_IOV <= NET_RX_IOV;
}

/* No frame is larger: what a chain has beyond that is of no use. Returns the iovecs that are. */
static int rx_trim(struct iovec *iov, int count, uint32_t *len)
{
	uint32_t left = sizeof(struct virtio_net_hdr_v1) + NET_FRAME_MAX;
	int used;

	*len = 0;
	for (used = 0; used < count && left; used++) {
		iov[used].iov_len = MIN(iov[used].iov_len, left);
		left -= (uint32_t)iov[used].iov_len;
		*len += (uint32_t)iov[used].iov_len;
	}
	return used;
}

/* Take the next chain from the queue. False: there is none, or none that can be used. */
static bool rx_take(struct net_pair *pair)
{
	struct net_rx *rx = &pair->rx;
	struct net_rx_chain *taken = &rx->chains[rx->chain_count];
	struct vq_chain chain;

	if (vq_pop(rx->vq, &chain, rx->iov + rx->iov_count, NET_CHAIN_IOV) <= 0)
		return false;
	if (chain.out_count || chain.in_len < pair->net->header_size) {
		virtio_device_error(&pair->net->vc, rx->vq,
				    chain.out_count
					    ? "a receive buffer has a device-readable part"
					    : "a receive buffer is smaller than the header");
		return false;
	}
	taken->idx = chain.idx;
	taken->descs = chain.descs;
	taken->iov_count = (uint16_t)rx_trim(rx->iov + rx->iov_count, chain.in_count, &taken->len);
	rx->iov_count += taken->iov_count;
	rx->capacity += taken->len;
	rx->chain_count++;
	return true;
}

static void rx_gather(struct net_pair *pair, uint32_t bytes)
{
	struct net_rx *rx = &pair->rx;

	while (rx->capacity < bytes && rx_has_room(pair) && vq_has_descs(rx->vq))
		if (!rx_take(pair))
			return;
}

/* The first @count chains are used. */
static void rx_forget(struct net_rx *rx, unsigned int count)
{
	unsigned int iovs = 0;

	for (unsigned int i = 0; i < count; i++) {
		iovs += rx->chains[i].iov_count;
		rx->capacity -= rx->chains[i].len;
	}
	rx->chain_count -= count;
	rx->iov_count -= iovs;
	memmove(rx->chains, rx->chains + count, rx->chain_count * sizeof(rx->chains[0]));
	memmove(rx->iov, rx->iov + iovs, rx->iov_count * sizeof(rx->iov[0]));
}

/* ---- One frame ---- */

/* How much the next frame may need; a larger one is not lost, only slower. */
static uint32_t rx_expected(const struct net_pair *pair)
{
	const uint64_t sums = BIT64(VIRTIO_NET_F_GUEST_CSUM);
	uint32_t mtu = MAX(net_mtu(pair->net->backend), ETH_DATA_LEN);

	if (pair->net->guest_offloads & ~sums)
		return pair->net->header_size + NET_FRAME_MAX;
	return pair->net->header_size + ETH_HLEN + NET_VLAN_LEN + MIN(mtu, 65535);
}

/* Where a frame goes: its head to us, the rest behind it into the buffers, what is over to us. */
static int rx_place(struct net_pair *pair)
{
	struct net_rx *rx = &pair->rx;
	uint32_t place = pair->net->header_size + NET_PEEK;
	int count = 1, sliced = 0;

	rx->read_iov[0] = (struct iovec) { &rx->head, sizeof(rx->head) };
	if (rx->capacity > place)
		sliced = iov_slice(rx->iov, (int)rx->iov_count, place, rx->capacity - place,
				   rx->read_iov + 1, NET_RX_IOV);
	if (sliced < 0)
		return sliced;
	count += sliced;
	rx->read_iov[count++] = (struct iovec) { rx->spill, sizeof(rx->spill) };
	rx->spilled_from = MAX(rx->capacity, place);
	return count;
}

/* virtio 1.4, 5.1.4.1: none beyond the MTU that was negotiated, but for those to be segmented. */
static bool rx_exceeds_mtu(const struct net_pair *pair, uint32_t frame_len)
{
	const struct net_head *head = &pair->rx.head;
	bool tagged = (head->frame[12] << 8 | head->frame[13]) == ETH_P_8021Q;
	uint32_t max = pair->net->config->mtu + ETH_HLEN + (tagged ? NET_VLAN_LEN : 0);

	return virtio_has_feature(&pair->net->vc, VIRTIO_NET_F_MTU) && frame_len > max &&
	       !(head->header.gso_type & ~VIRTIO_NET_HDR_GSO_ECN);
}

/* May the frame that was read go to the driver? Its length becomes the one in work. */
static bool rx_accept(struct net_pair *pair, size_t received)
{
	struct net_rx *rx = &pair->rx;
	size_t frame_len = received - sizeof(rx->head.header);

	if (received < sizeof(rx->head.header) + ETH_HLEN || frame_len > NET_FRAME_MAX ||
	    rx_exceeds_mtu(pair, (uint32_t)frame_len) ||
	    !net_rx_header(pair->net->guest_offloads, &rx->head.header)) {
		pair->rx.dropped++;
		return false;
	}
	if (!net_filter_accepts(&pair->net->filter, pair->net->config->mac, rx->head.frame,
				frame_len)) {
		pair->rx.filtered++;
		return false;
	}
	rx->length = pair->net->header_size + (uint32_t)frame_len;
	return true;
}

/*
 * If the frame that was read is another queue's, it goes there. One for a queue that is not there
 * is lost (virtio 1.4, 5.1.9.5.7.3), as is one for which there is no room. What is this queue's
 * own waits likewise while it has no buffers: frames of others may be behind it.
 */
static void rx_steer(struct net_pair *pair, int count, size_t received)
{
	struct virtio_net *net = pair->net;
	size_t len = MIN(received - sizeof(struct virtio_net_hdr_v1), NET_PEEK);
	unsigned int index = net_rss_queue(&net->rss, pair->rx.head.frame, len);
	struct net_rx *to = &net->pairs[index].rx;

	if (index == pair->index && pair->rx.chain_count)
		return;
	pair->rx.length = 0;
	if (!to->vq->enabled ||
	    !net_mail_put(&to->mail, pair->rx.read_iov, count, (uint32_t)received))
		pair->rx.dropped++;
}

/* Read a frame, if there is one that is for the driver and for this queue, to be the one in work. */
static int rx_read(struct net_pair *pair)
{
	struct net_rx *rx = &pair->rx;
	int count = rx_place(pair);
	ssize_t received;

	if (count < 0)
		return count;
	received = rx->chain_count ? net_mail_get(&rx->mail, rx->read_iov, count) : -EAGAIN;
	if (received >= 0) {
		(void)rx_accept(pair,
				(size_t)received); /* the driver may have said otherwise since */
		return 0;
	}
	received = net_receive(pair->net->backend, pair->index, rx->read_iov, count);
	if (received < 0)
		return (int)received;
	if (rx_accept(pair, (size_t)received) && pair->net->rss.active)
		rx_steer(pair, count, (size_t)received);
	return 0;
}

/* Head and spilled part into the buffers; the header is written once, when it is all known. */
static void rx_complete(struct net_pair *pair, unsigned int chains)
{
	struct net_rx *rx = &pair->rx;
	uint32_t frame_len = rx->length - pair->net->header_size;
	int count = (int)rx->iov_count;

	rx->head.header.num_buffers = (uint16_t)chains;
	iov_from_buf(rx->iov, count, 0, &rx->head.header, pair->net->header_size);
	iov_from_buf(rx->iov, count, pair->net->header_size, rx->head.frame,
		     MIN(frame_len, NET_PEEK));
	if (rx->length > rx->spilled_from)
		iov_from_buf(rx->iov, count, rx->spilled_from, rx->spill,
			     rx->length - rx->spilled_from);
}

/* All buffers but the last are used to their full length (virtio 1.4, 5.1.9.4.1). */
static void rx_deliver(struct net_pair *pair)
{
	struct net_rx *rx = &pair->rx;
	uint32_t left = rx->length, descs = 0;
	unsigned int chains = 0;

	for (uint32_t room = 0; room < rx->length; chains++)
		room += rx->chains[chains].len;
	rx_complete(pair, chains);
	for (unsigned int i = 0; i < chains; i++) {
		uint32_t len = MIN(left, rx->chains[i].len);

		vq_relchain(rx->vq, rx->chains[i].idx, len);
		left -= len;
		descs += rx->chains[i].descs;
	}
	net_notify_add(&rx->notify, descs);
	rx_forget(rx, chains);
	rx->length = 0;
	pair->rx.frames++;
}

static void rx_drop(struct net_pair *pair)
{
	pair->rx.length = 0;
	pair->rx.dropped++;
}

/* Deliver the frame in work. False: it waits for more buffers. */
static bool rx_finish(struct net_pair *pair)
{
	struct net_rx *rx = &pair->rx;

	rx_gather(pair, rx->length);
	if (rx->capacity >= rx->length)
		rx_deliver(pair);
	else if (!rx_has_room(pair) || rx->chain_count >= rx->vq->size)
		rx_drop(pair); /* all that the driver can give is not enough */
	return !rx->length;
}

/* ---- Flow ---- */

/* Without buffers too while frames are steered: those of other queues come by this one. */
static bool rx_wants(const struct net_pair *pair)
{
	const struct net_rx *rx = &pair->rx;

	return !rx->stopped || (pair->net->rss.active && pair->net->vc.running &&
				!rx->vq->offloaded && !rx->length);
}

static void rx_set_stopped(struct net_pair *pair, bool stopped)
{
	struct net_rx *rx = &pair->rx;
	bool changed = stopped != rx->stopped || rx->length;

	rx->stopped = stopped;
	net_set_receive(pair->net->backend, pair->index, rx_wants(pair));
	if (changed)
		event_set_timer(rx->patience, stopped && rx->length ? RX_PATIENCE_NS : 0, 0);
}

/* One turn for one frame. False: nothing to do, now or until there are buffers (then @stopped). */
static bool rx_step(struct net_pair *pair, bool *stopped)
{
	struct net_rx *rx = &pair->rx;

	if (!rx->length) {
		int error;

		rx_gather(pair, rx_expected(pair));
		*stopped = !rx->chain_count;
		if (!pair->net->vc.running || (*stopped && !pair->net->rss.active))
			return false;
		error = rx_read(pair);
		if (error || !rx->length)
			return !error;
	}
	*stopped = !rx_finish(pair);
	return !*stopped;
}

void net_rx_run(struct net_pair *pair)
{
	struct net_rx *rx = &pair->rx;
	bool usable = rx->vq->enabled || pair->net->rss.active;
	unsigned int budget = RX_BUDGET;
	bool stopped = true;

	if (!net_pair_used(pair))
		return; /* a frame or its mail was under way when the pair went out of use */
	if (!usable || rx->vq->offloaded || !pair->net->vc.running) {
		rx_set_stopped(pair, true);
		return;
	}
	while (budget && rx_step(pair, &stopped))
		budget--;
	rx_set_stopped(pair, stopped);
	net_notify_end(&rx->notify, stopped, true);
	if (!stopped && net_mail_waits(&rx->mail))
		event_set_timer(rx->mail.timer, EVENT_SOON, 0);
}

void net_rx_mail(void *arg, uint32_t expirations)
{
	net_rx_run(arg);
}

void net_rx_kick(struct net_pair *pair)
{
	if (pair->rx.stopped)
		net_rx_run(pair);
	else
		(void)vq_has_descs(pair->rx.vq); /* no need to be told of each buffer */
}

/* The driver may have no more to give, and smaller frames may wait behind this one. */
void net_rx_impatient(void *arg, uint32_t expirations)
{
	struct net_pair *pair = arg;

	if (!pair->rx.length)
		return;
	rx_drop(pair);
	net_rx_run(pair);
}

void net_rx_stop(struct net_pair *pair, bool give_back)
{
	struct net_rx *rx = &pair->rx;

	for (; give_back && rx->chain_count; rx->chain_count--)
		vq_retchain(rx->vq);
	pair->rx.dropped += !!rx->length;
	rx->chain_count = rx->iov_count = 0;
	rx->capacity = rx->length = 0;
	rx_set_stopped(pair, true);
	net_set_receive(pair->net->backend, pair->index, false);
	if (!give_back)
		net_mail_clear(&rx->mail);
}
