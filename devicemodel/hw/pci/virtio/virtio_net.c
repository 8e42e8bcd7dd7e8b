/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-net: the network device (virtio 1.4, 5.1) on a tap: life cycle, features, configuration
 * space, and transmission.
 */
#include <errno.h>
#include <limits.h>

#include "virtio_net.h"

#define TX_BUDGET 256 /* frames a turn, so that a busy queue leaves other devices theirs */
#define MTU_MIN 68 /* virtio 1.4, 5.1.4.1 */
#define MTU_MAX 65535

/* What this device has of the configuration space: all up to speed and duplex. */
#define CONFIG_SIZE offsetof(struct virtio_net_config, speed)

/* ---- Transmission (virtio 1.4, 5.1.9.2) ---- */

static int tx_malformed(struct virtio_net *net, const char *how)
{
	log_guest(net->vc.log, "%s: dropped a frame of the driver's that %s", net->vc.name, how);
	return -EINVAL;
}

static int tx_frame(struct virtio_net *net, const struct vq_chain *chain)
{
	struct virtio_net_hdr_v1 header = { 0 };
	struct net_tx *tx = &net->tx;
	uint64_t frame_len;
	int count;

	if (chain->out_len < net->header_size + ETH_HLEN)
		return tx_malformed(net, "is shorter than its headers");
	frame_len = chain->out_len - net->header_size;
	if (frame_len > NET_FRAME_MAX)
		return tx_malformed(net, "is longer than 64 KiB");
	iov_to_buf(chain->iov, chain->out_count, 0, &header, net->header_size);
	if (!net_tx_header(&net->vc.negotiated_caps, (size_t)frame_len, &header))
		return tx_malformed(net,
				    "asks for an offload that was not negotiated or cannot be");

	tx->iov[0] = (struct iovec) { &header, sizeof(header) };
	count = iov_slice(chain->iov, chain->out_count, net->header_size, frame_len, tx->iov + 1,
			  NET_CHAIN_IOV);
	return count < 0 ? count : net_send(net->backend, tx->iov, count + 1);
}

/*
 * What the host does not take at once is lost, as on any Ethernet whose queue is full: keeping it
 * would let a slow host hold the driver's memory, and the driver gains nothing from waiting.
 */
static void net_tx_run(struct virtio_net *net)
{
	struct vqueue_info *vq = net->tx.vq;
	unsigned int budget = TX_BUDGET;
	struct vq_chain chain;

	while (budget && vq_has_descs(vq) &&
	       vq_pop(vq, &chain, net->tx.chain_iov, NET_CHAIN_IOV) > 0) {
		if (tx_frame(net, &chain))
			net->counters.tx_dropped++;
		else
			net->counters.tx_frames++;
		vq_relchain(vq, chain.idx, 0);
		budget--;
	}
	vq_endchains(vq, budget > 0);
	if (!budget)
		event_set_timer(net->again, 1, 0);
}

/* ---- Queues ---- */

static void net_qnotify(void *dev, struct vqueue_info *vq)
{
	struct virtio_net *net = dev;

	if (!vq->enabled || !net->vc.running)
		return;
	if (vq->index == NET_QUEUE_RX)
		net_rx_kick(net);
	else if (vq->index == NET_QUEUE_TX)
		net_tx_run(net);
	else
		net_ctrl_run(net, vq);
}

static void net_again(void *dev, uint32_t expirations)
{
	struct virtio_net *net = dev;

	net_qnotify(net, &net->vc.vqs[NET_QUEUE_TX]);
	net_qnotify(net, &net->vc.vqs[NET_QUEUE_CTRL]);
}

static void net_queue_reset(void *dev, struct vqueue_info *vq)
{
	if (vq->index == NET_QUEUE_RX)
		net_rx_stop(dev, false);
}

/* ---- Link ---- */

static void net_set_link(struct virtio_net *net, bool up)
{
	net->config->status = up ? VIRTIO_NET_S_LINK_UP : 0;
}

/* Peers may have forgotten us: have the driver tell them (virtio 1.4, 5.1.9.5.4). */
static void net_announce(struct virtio_net *net)
{
	if (net->config->status & VIRTIO_NET_S_LINK_UP &&
	    virtio_has_feature(&net->vc, VIRTIO_NET_F_GUEST_ANNOUNCE))
		net->config->status |= VIRTIO_NET_S_ANNOUNCE;
}

static void net_link_changed(void *arg, bool up)
{
	struct virtio_net *net = arg;

	net_set_link(net, up);
	net_announce(net);
	virtio_config_changed(&net->vc);
}

static void net_readable(void *arg)
{
	net_rx_run(arg);
}

static const struct net_backend_ops net_backend_ops = {
	.readable = net_readable,
	.link_changed = net_link_changed,
};

/* ---- Negotiation ---- */

bool net_set_guest_offloads(struct virtio_net *net, uint64_t guest_offloads)
{
	int error = net_set_offload(net->backend, net_tun_flags(guest_offloads));

	if (error)
		log_guest(net->vc.log, "%s: the tap cannot change its offloads: %s", net->vc.name,
			  strerror(-error));
	else
		net->guest_offloads = guest_offloads;
	return !error;
}

static void net_apply_features(void *dev)
{
	struct virtio_net *net = dev;
	struct virtio_common *vc = &net->vc;
	bool has_num_buffers = virtio_has_feature(vc, VIRTIO_F_VERSION_1) ||
			       virtio_has_feature(vc, VIRTIO_NET_F_MRG_RXBUF);

	/* virtio 1.4, 5.1.9.1: legacy drivers have no num_buffers without MRG_RXBUF */
	net->header_size =
		has_num_buffers ? sizeof(struct virtio_net_hdr_v1) : sizeof(struct virtio_net_hdr);
	net->filter.by_mac = virtio_has_feature(vc, VIRTIO_NET_F_CTRL_RX);
	net->filter.by_vlan = virtio_has_feature(vc, VIRTIO_NET_F_CTRL_VLAN);
	net_set_guest_offloads(net, net_guest_offloads(vc->negotiated_caps.bits[0]));
}

/* Legacy drivers set their address here, byte by byte (virtio 1.4, 5.1.4.3). */
static void net_cfgwrite(void *dev, uint32_t offset, uint32_t size, uint32_t value)
{
	struct virtio_net *net = dev;

	if (!net->vc.legacy_driver)
		return;
	for (uint32_t i = 0; i < size && offset + i < ETH_ALEN; i++)
		net->config->mac[offset + i] = (uint8_t)(value >> 8 * i);
}

/* ---- Life cycle ---- */

static void net_reset(void *dev)
{
	struct virtio_net *net = dev;

	net_rx_stop(net, false);
	event_set_timer(net->again, 0, 0);
	net_ctrl_reset(net);
	net->header_size = sizeof(struct virtio_net_hdr_v1);
	net->guest_offloads = 0;
	net_set_guest_offloads(net, 0);
}

static void net_quiesce(void *dev)
{
	struct virtio_net *net = dev;

	net_rx_stop(net, true);
	event_set_timer(net->again, 0, 0);
}

/* The link may be another one than before: a saved state is loaded with the tap of this host. */
static void net_resume(void *dev)
{
	struct virtio_net *net = dev;
	bool up = net_link_up(net->backend);
	bool changed = up != (net->config->status & VIRTIO_NET_S_LINK_UP);

	if (changed)
		net_set_link(net, up);
	net_announce(net);
	if (changed || net->config->status & VIRTIO_NET_S_ANNOUNCE)
		virtio_config_changed(&net->vc);
}

static void net_deinit(void *dev)
{
	struct virtio_net *net = dev;
	const struct net_counters *counters = &net->counters;

	log_debug(
		net->vc.log,
		"%s: received %llu frames, dropped %llu, filtered %llu; sent %llu, dropped %llu",
		net->vc.name, (unsigned long long)counters->rx_frames,
		(unsigned long long)counters->rx_dropped, (unsigned long long)counters->rx_filtered,
		(unsigned long long)counters->tx_frames, (unsigned long long)counters->tx_dropped);
	net_close(net->backend);
	event_remove(net->again);
	event_remove(net->rx.patience);
	net->backend = NULL;
	net->again = net->rx.patience = NULL;
}

static int net_check_options(struct virtio_net *net)
{
	const struct virtio_common *vc = &net->vc;

	if (!net->opt_tap == !net->opt_fd)
		log_error(vc->log,
			  "%s: give either tap=NAME, the host's interface, or fd=N, an open tap",
			  vc->name);
	else if (net->opt_mac[0] & 1)
		log_error(vc->log,
			  "%s: mac=%02x:...: a multicast address cannot be a device's (make the "
			  "first byte even)",
			  vc->name, net->opt_mac[0]);
	else
		return 0;
	return -EINVAL;
}

static void net_init_mac(struct virtio_net *net)
{
	static const uint8_t none[ETH_ALEN];

	if (memcmp(net->opt_mac, none, ETH_ALEN) != 0)
		memcpy(net->mac, net->opt_mac, ETH_ALEN);
	else
		net_mac_from_names(net->mac, net->vc.vm_name, net->vc.name);
}

static void net_init_mtu(struct virtio_net *net)
{
	unsigned int host = net_mtu(net->backend);
	uint64_t mtu = net->opt_mtu ? net->opt_mtu : host;

	if (host && mtu > host)
		log_warning(net->vc.log,
			    "%s: mtu=%llu is more than the %u of the host's interface: the host "
			    "may drop what is larger",
			    net->vc.name, (unsigned long long)mtu, host);
	if (mtu < MTU_MIN || mtu > MTU_MAX)
		return;
	net->config->mtu = (uint16_t)mtu;
	virtio_offer(&net->vc, VIRTIO_NET_F_MTU);
}

static void net_init_offloads(struct virtio_net *net)
{
	uint64_t features = net_offload_features(net_offloads(net->backend));

	if (!net->opt_offload || !features)
		return;
	net->vc.device_caps.bits[0] |= features;
	virtio_offer(&net->vc, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
}

static int net_open_backend(struct virtio_net *net)
{
	struct virtio_common *vc = &net->vc;
	struct net_config config = { .tap = net->opt_tap,
				     .fd = net->opt_fd ? (int)net->opt_fd : -1 };

	net->again = event_add_timer(vc->loop, vc->lock, net_again, net);
	net->rx.patience = event_add_timer(vc->loop, vc->lock, net_rx_impatient, net);
	if (!net->again || !net->rx.patience) {
		log_error(vc->log, "%s: cannot make a timer: %m", vc->name);
		return -ENOMEM;
	}
	net->backend =
		net_open(vc->log, vc->name, &config, vc->loop, vc->lock, &net_backend_ops, net);
	return net->backend ? 0 : -errno;
}

static int net_init(void *dev)
{
	struct virtio_net *net = dev;
	int error = net_check_options(net);

	if (error)
		return error;
	net->config = (struct virtio_net_config *)net->vc.config;
	net->rx.vq = &net->vc.vqs[NET_QUEUE_RX];
	net->tx.vq = &net->vc.vqs[NET_QUEUE_TX];
	error = net_open_backend(net);
	if (error) {
		net_deinit(net);
		return error;
	}
	net_init_mac(net);
	net_init_mtu(net);
	net_init_offloads(net);
	net->config->max_virtqueue_pairs = 1;
	net_set_link(net, net_link_up(net->backend));
	net_reset(net);
	return 0;
}

/* clang-format off */
static const struct option_desc net_options[] = {
	{ "tap", OPTION_STRING, OPTION_POSITIONAL, offsetof(struct virtio_net, opt_tap),
	  .help = "the host's tap interface, created for the time being if it does not exist" },
	{ "fd", OPTION_UINT, .offset = offsetof(struct virtio_net, opt_fd), .min = 3, .max = INT_MAX,
	  .help = "file descriptor of an open tap, instead of tap=" },
	{ "mac", OPTION_MAC, .offset = offsetof(struct virtio_net, opt_mac),
	  .help = "the device's address, by default made of the VM's name and the device's place" },
	{ "mtu", OPTION_UINT, .offset = offsetof(struct virtio_net, opt_mtu), .min = MTU_MIN,
	  .max = MTU_MAX, .help = "MTU the driver is told, by default the interface's" },
	{ "offload", OPTION_BOOL, .offset = offsetof(struct virtio_net, opt_offload), .def = "on",
	  .help = "leave checksums and segmentation to the host where possible" },
	{},
};

VIRTIO_DEVICE(virtio_net, {
	.name = "virtio-net", .summary = "Ethernet over a tap interface of the host",
	.device_id = VIRTIO_ID_NET, .nvq = NET_QUEUES, .queue_size = NET_QUEUE_SIZE,
	.priv_size = sizeof(struct virtio_net), .cfgsize = CONFIG_SIZE,
	.features = { { BIT64(VIRTIO_NET_F_MAC) | BIT64(VIRTIO_NET_F_STATUS) |
			BIT64(VIRTIO_NET_F_MRG_RXBUF) | BIT64(VIRTIO_NET_F_CTRL_VQ) |
			BIT64(VIRTIO_NET_F_CTRL_RX) | BIT64(VIRTIO_NET_F_CTRL_RX_EXTRA) |
			BIT64(VIRTIO_NET_F_CTRL_VLAN) | BIT64(VIRTIO_NET_F_CTRL_MAC_ADDR) |
			BIT64(VIRTIO_NET_F_GUEST_ANNOUNCE) } },
	.options = net_options, .init = net_init, .deinit = net_deinit, .reset = net_reset,
	.quiesce = net_quiesce, .resume = net_resume, .qnotify = net_qnotify,
	.queue_reset = net_queue_reset, .cfgwrite = net_cfgwrite,
	.apply_features = net_apply_features, .state = &net_state, .config_state = net_config_state,
});
/* clang-format on */
