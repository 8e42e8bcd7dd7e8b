/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-net: the network device (virtio 1.4, 5.1): life cycle, queues, features,
 * configuration space.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "virtio_net.h"

#define BUSYLOOP_MAX 1000000
#define MTU_MIN 68 /* virtio 1.4, 5.1.4.1 */
#define MTU_MAX 65535

/* ---- Queues (virtio 1.4, 5.1.2) ---- */

unsigned int net_pairs_known(const struct virtio_net *net)
{
	const struct virtio_common *vc = &net->vc;

	return virtio_has_feature(vc, VIRTIO_NET_F_MQ) || virtio_has_feature(vc, VIRTIO_NET_F_RSS)
		       ? net->pair_count
		       : 1;
}

static bool net_is_ctrl(const struct virtio_net *net, const struct vqueue_info *vq)
{
	return vq->index == NET_PAIR_QUEUES * net_pairs_known(net);
}

/* The pair that @vq belongs to, or NULL. */
static struct net_pair *net_pair_of(struct virtio_net *net, const struct vqueue_info *vq)
{
	unsigned int pair = vq->index / NET_PAIR_QUEUES;

	return pair < net_pairs_known(net) ? &net->pairs[pair] : NULL;
}

static void net_pair_kick(struct net_pair *pair, struct vqueue_info *vq)
{
	/* A queue that was reset may be back, and with it all that the kernel needs. */
	net_vhost_try(pair->net);
	if (vq->index % NET_PAIR_QUEUES == NET_QUEUE_RX)
		net_rx_kick(pair);
	else
		net_tx_run(pair);
}

static void net_qnotify(void *dev, struct vqueue_info *vq)
{
	struct virtio_net *net = dev;
	struct net_pair *pair = net_pair_of(net, vq);

	if (!vq->enabled || !net->vc.running)
		return;
	if (pair && net_pair_used(pair))
		net_pair_kick(pair, vq);
	else if (net_is_ctrl(net, vq))
		net_ctrl_run(net, vq);
}

/* virtio 1.4, 5.1.9.5.10.6: what was said for all queues of the kind holds again. */
static void net_queue_came_anew(struct net_pair *pair, unsigned int kind)
{
	net_notify_drop(kind == NET_QUEUE_RX ? &pair->rx.notify : &pair->tx.notify,
			&pair->net->coalesce[kind]);
}

/* Of a pair that is not in use as well: it has parameters, and nothing of the queue may be left. */
static void net_queue_reset(void *dev, struct vqueue_info *vq)
{
	struct virtio_net *net = dev;
	struct net_pair *pair = net_pair_of(net, vq);
	unsigned int kind = vq->index % NET_PAIR_QUEUES;

	if (!pair)
		return;
	if (net_pair_used(pair))
		net_vhost_stop(net);
	if (kind == NET_QUEUE_RX) {
		net_rx_stop(pair, false);
		if (net_pair_used(pair)) /* for the other queues */
			net_set_receive(net->backend, pair->index, net->rss.active);
	}
	net_queue_came_anew(pair, kind);
}

static void net_stop_receiving(struct virtio_net *net, bool give_back)
{
	for (unsigned int i = 0; i < net->pair_count; i++)
		net_rx_stop(&net->pairs[i], give_back);
}

bool net_set_pairs(struct virtio_net *net, uint16_t count)
{
	unsigned int before = net->pairs_used;
	int error;

	if (count == net->pairs_used)
		return true;
	net_vhost_stop(net);
	error = net_set_queues(net->backend, count);
	net->pairs_used = error ? 1 : count;
	for (unsigned int i = net->pairs_used; i < before; i++) {
		net_rx_stop(&net->pairs[i], true);
		net_mail_clear(&net->pairs[i].rx.mail);
	}
	if (error)
		log_guest(net->vc.log, "%s: the tap cannot use %u queues: %s", net->vc.name, count,
			  strerror(-error));
	net_vhost_start(net);
	for (unsigned int i = 0; i < net->pairs_used && !net->vhost.running; i++)
		net_rx_run(&net->pairs[i]);
	for (unsigned int i = before; i < net->pairs_used; i++)
		net_tx_look(&net->pairs[i]);
	return !error;
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

static void net_readable(void *arg, unsigned int queue)
{
	struct virtio_net *net = arg;

	net_rx_run(&net->pairs[queue]);
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

/*
 * A front end of vhost-user may keep the control queue to itself (QEMU does): then the rings that
 * it enables say which pairs are in use.
 */
static void net_follow_rings(struct virtio_net *net)
{
	const struct vqueue_info *ctrl = &net->vc.vqs[NET_PAIR_QUEUES * net_pairs_known(net)];
	bool by_rings = !ctrl->enabled;
	uint16_t count = 0;

	if (!net->vc.running || (!by_rings && !net->pairs_by_rings))
		return;
	while (by_rings && count < net_pairs_known(net) && net->pairs[count].rx.vq->enabled &&
	       net->pairs[count].tx.vq->enabled)
		count++;
	net->pairs_by_rings = by_rings && count > 1;
	net_set_pairs(net, MAX(count, 1));
}

/* Legacy drivers too (3.1.2). Before it user space serves those that cannot wait for it. */
static void net_set_status(void *dev, uint8_t status)
{
	net_follow_rings(dev);
	net_vhost_start(dev);
}

static void net_reset(void *dev)
{
	struct virtio_net *net = dev;

	net_vhost_stop(net);
	net_rss_stop(net);
	net_stop_receiving(net, false);
	net_notify_reset(net);
	net->vhost.blocked = false;
	net->pairs_by_rings = false;
	net_set_pairs(net, 1); /* virtio 1.4, 5.1.9.5.6.2 */
	net_ctrl_reset(net);
	net->header_size = sizeof(struct virtio_net_hdr_v1);
	net->guest_offloads = 0;
	net_set_guest_offloads(net, 0);
}

static void net_quiesce(void *dev)
{
	struct virtio_net *net = dev;

	net_vhost_stop(net);
	net_stop_receiving(net, true);
	net_notify_flush_all(net);
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
	net_follow_rings(net);
	net_vhost_start(net);
}

static void net_log_counters(const struct virtio_net *net)
{
	uint64_t received = 0, lost = 0, filtered = 0, sent = 0, unsent = 0;
	char vhost[64] = "";

	for (unsigned int i = 0; i < net->pair_count; i++) {
		const struct net_pair *pair = &net->pairs[i];

		received += pair->rx.frames;
		lost += pair->rx.dropped;
		filtered += pair->rx.filtered;
		sent += pair->tx.frames;
		unsent += pair->tx.dropped;
	}
	if (net->vhost.starts)
		snprintf(vhost, sizeof(vhost), "; and in the kernel, which took over %llu times",
			 (unsigned long long)net->vhost.starts);
	log_debug(
		net->vc.log,
		"%s: received %llu frames, dropped %llu, filtered %llu; sent %llu, dropped %llu%s",
		net->vc.name, (unsigned long long)received, (unsigned long long)lost,
		(unsigned long long)filtered, (unsigned long long)sent, (unsigned long long)unsent,
		vhost);
}

static void net_pair_deinit(struct net_pair *pair)
{
	event_remove(pair->rx.patience);
	event_remove(pair->tx.again);
	net_mail_deinit(&pair->rx.mail);
	net_notify_deinit(&pair->rx.notify);
	net_notify_deinit(&pair->tx.notify);
}

static void net_deinit(void *dev)
{
	struct virtio_net *net = dev;

	net_log_counters(net);
	net_vhost_deinit(net);
	net_close(net->backend);
	for (unsigned int i = 0; i < net->pair_count; i++)
		net_pair_deinit(&net->pairs[i]);
	free(net->pairs);
	net->backend = NULL;
	net->pairs = NULL;
	net->pair_count = 0;
}

static int net_check_options(struct virtio_net *net)
{
	const struct virtio_common *vc = &net->vc;

	if (net->opt_backend == NET_TAP && !net->opt_tap == !net->opt_fd)
		log_error(
			vc->log,
			"%s: give either tap=NAME, the host's interface, or fd=N, an open tap, or "
			"backend=user, which needs neither",
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

static int net_init_pair(struct virtio_net *net, unsigned int index)
{
	struct vqueue_info *vqs = &net->vc.vqs[NET_PAIR_QUEUES * index];
	struct net_pair *pair = &net->pairs[index];
	struct net_rx *rx = &pair->rx;
	int error;

	pair->net = net;
	pair->index = index;
	rx->vq = &vqs[NET_QUEUE_RX];
	pair->tx.vq = &vqs[NET_QUEUE_TX];
	rx->patience = event_add_timer(rx->vq->loop, rx->vq->lock, net_rx_impatient, pair);
	pair->tx.again = event_add_timer(pair->tx.vq->loop, pair->tx.vq->lock, net_tx_again, pair);
	error = rx->patience && pair->tx.again ? 0 : -errno;
	if (!error)
		error = net_mail_init(&rx->mail, rx->vq, net_rx_mail, pair);
	if (!error)
		error = net_notify_init(&rx->notify, rx->vq);
	if (!error)
		error = net_notify_init(&pair->tx.notify, pair->tx.vq);
	if (error)
		log_error(net->vc.log, "%s: cannot set up its queues: %s", net->vc.name,
			  strerror(-error));
	return error;
}

/* The kernel's vhost takes frames as the tap's queues have them. */
static void net_offer_rss(struct virtio_net *net)
{
	net->config->rss_max_key_size = NET_RSS_KEY_MAX;
	net->config->rss_max_indirection_table_length = NET_RSS_TABLE_MAX;
	net->config->supported_hash_types = NET_RSS_HASH_TYPES;
	virtio_offer(&net->vc, VIRTIO_NET_F_RSS);
}

static int net_init_pairs(struct virtio_net *net)
{
	struct virtio_common *vc = &net->vc;
	unsigned int count = (unsigned int)net->opt_queues;
	int error = virtio_set_queues(vc, NET_PAIR_QUEUES * count + 1);

	net->pairs = calloc(count, sizeof(*net->pairs));
	if (error || !net->pairs) {
		log_error(vc->log, "%s: queues=%u: out of memory", vc->name, count);
		return -ENOMEM;
	}
	net->pair_count = count;
	net->pairs_used = 1;
	for (unsigned int i = 0; i < count; i++)
		net->pairs[i].vhost_fd = -1;
	for (unsigned int i = 0; !error && i < count; i++)
		error = net_init_pair(net, i);
	net->config->max_virtqueue_pairs = (uint16_t)count;
	if (count == 1)
		return error;
	virtio_offer(vc, VIRTIO_NET_F_MQ);
	if (net->opt_vhost == NET_VHOST_OFF)
		net_offer_rss(net);
	return error;
}

/*
 * Of a tap, whose queues know nothing of each other, and but for commands, whose queue is another
 * for a driver that knows of one pair only.
 */
static bool net_queue_alone(void *dev, uint16_t index)
{
	const struct virtio_net *net = dev;
	uint64_t pairs = net->vc.features_final ? net_pairs_known(net) : net->opt_queues;

	return net->opt_backend == NET_TAP && net->opt_queues > 1 &&
	       index < NET_PAIR_QUEUES * pairs;
}

/* Frames of each queue of the tap are received where the pair is worked on. */
static int net_place_queues(struct virtio_net *net)
{
	int error = 0;

	for (unsigned int i = 0; !error && i < net->pair_count; i++) {
		const struct vqueue_info *vq = net->pairs[i].rx.vq;

		error = net_set_queue_loop(net->backend, i, vq->loop, vq->lock);
	}
	if (error)
		log_error(net->vc.log, "%s: cannot receive in the queues' threads: %s",
			  net->vc.name, strerror(-error));
	return error;
}

static int net_open_backend(struct virtio_net *net)
{
	struct virtio_common *vc = &net->vc;
	const struct net_config config = {
		.kind = (enum net_backend_kind)net->opt_backend,
		.tap = net->opt_tap,
		.fd = net->opt_fd ? (int)net->opt_fd : -1,
		.path = net->opt_path,
		.local = net->opt_local,
		.server = net->opt_server,
		.hostfwd = net->opt_hostfwd,
		.network = net->opt_net,
		.hostname = net->opt_hostname,
		.dns = net->opt_dns,
		.restricted = net->opt_restrict,
		.rx_size = (unsigned int)net->opt_rx,
		.queues = net->pair_count,
	};

	net->backend =
		net_open(vc->log, vc->name, &config, vc->loop, vc->lock, &net_backend_ops, net);
	if (!net->backend)
		return -errno;
	net_init_mac(net);
	net_init_mtu(net);
	net_init_offloads(net);
	net_set_link(net, net_link_up(net->backend));
	return net_place_queues(net);
}

static int net_init(void *dev)
{
	struct virtio_net *net = dev;
	int error = net_check_options(net);

	if (error)
		return error;
	net->config = (struct virtio_net_config *)net->vc.config;
	if (net->opt_mrg_rxbuf)
		virtio_offer(&net->vc, VIRTIO_NET_F_MRG_RXBUF);
	if (net->opt_vhost == NET_VHOST_OFF) { /* the kernel notifies as it likes */
		virtio_offer(&net->vc, VIRTIO_NET_F_NOTF_COAL);
		if (net->opt_vq_coalesce)
			virtio_offer(&net->vc, VIRTIO_NET_F_VQ_NOTF_COAL);
	}
	error = net_init_pairs(net);
	if (!error)
		error = net_open_backend(net);
	if (!error)
		error = net_vhost_init(net);
	if (error)
		net_deinit(net);
	else
		net_reset(net);
	return error;
}

/* clang-format off */
static const struct option_desc net_options[] = {
	{ "tap", OPTION_STRING, OPTION_POSITIONAL, offsetof(struct virtio_net, opt_tap),
	  .help = "the host's tap interface, created for the time being if it does not exist" },
	{ "fd", OPTION_UINT, .offset = offsetof(struct virtio_net, opt_fd), .min = 3, .max = INT_MAX,
	  .help = "file descriptor of an open tap, instead of tap=" },
	{ "backend", OPTION_ENUM, .offset = offsetof(struct virtio_net, opt_backend), .def = "tap",
	  .choices = "tap|user|passt|stream|dgram|null",
	  .help = "what is at the other end: a tap, NAT without privileges, passt, a Unix socket, or "
		  "nothing: null drops what is sent" },
	{ "path", OPTION_STRING, .offset = offsetof(struct virtio_net, opt_path),
	  .help = "with backend=passt, stream or dgram: the socket of the other end" },
	{ "server", OPTION_BOOL, .offset = offsetof(struct virtio_net, opt_server), .def = "off",
	  .help = "with backend=stream: listen at path= instead" },
	{ "local", OPTION_STRING, .offset = offsetof(struct virtio_net, opt_local),
	  .help = "with backend=dgram: the socket to receive on" },
	{ "net", OPTION_STRING, .offset = offsetof(struct virtio_net, opt_net),
	  .help = "with backend=user: the guest's network, 10.0.2.0/24 by default" },
	{ "hostfwd", OPTION_STRING, .offset = offsetof(struct virtio_net, opt_hostfwd),
	  .help = "with backend=user: ports of the host that lead to the guest, as in "
		  "tcp:127.0.0.1:2222-:22; several joined by +" },
	{ "hostname", OPTION_STRING, .offset = offsetof(struct virtio_net, opt_hostname),
	  .help = "with backend=user: the name that DHCP gives the guest" },
	{ "dns", OPTION_STRING, .offset = offsetof(struct virtio_net, opt_dns),
	  .help = "with backend=user: the name server that DHCP tells of; inside net= it stands for "
		  "the host's" },
	{ "restrict", OPTION_BOOL, .offset = offsetof(struct virtio_net, opt_restrict), .def = "off",
	  .help = "with backend=user: the guest reaches nothing outside, but what hostfwd= lets in" },
	{ "rx", OPTION_UINT, .offset = offsetof(struct virtio_net, opt_rx), .max = 65535,
	  .help = "with backend=null: bytes of the frames that come without end; none come by default" },
	{ "mac", OPTION_MAC, .offset = offsetof(struct virtio_net, opt_mac),
	  .help = "the device's address, by default made of the VM's name and the device's place" },
	{ "mtu", OPTION_UINT, .offset = offsetof(struct virtio_net, opt_mtu), .min = MTU_MIN,
	  .max = MTU_MAX, .help = "MTU the driver is told, by default the interface's" },
	{ "offload", OPTION_BOOL, .offset = offsetof(struct virtio_net, opt_offload), .def = "on",
	  .help = "leave checksums and segmentation to the host where possible" },
	{ "mrg_rxbuf", OPTION_BOOL, .offset = offsetof(struct virtio_net, opt_mrg_rxbuf), .def = "on",
	  .help = "offer VIRTIO_NET_F_MRG_RXBUF: a frame may be spread over several buffers" },
	{ "vq_coalesce", OPTION_BOOL, .offset = offsetof(struct virtio_net, opt_vq_coalesce),
	  .help = "offer VIRTIO_NET_F_VQ_NOTF_COAL: notifications held back by each queue's own limits; "
		  "Linux 6.12 complains of its own driver when it was suspended with it" },
	{ "queues", OPTION_UINT, .offset = offsetof(struct virtio_net, opt_queues), .def = "1",
	  .min = 1, .max = NET_BACKEND_QUEUES_MAX,
	  .help = "pairs of a receive and a transmit queue" },
	{ "vhost", OPTION_ENUM, OPTION_FLAG, offsetof(struct virtio_net, opt_vhost), .def = "off",
	  .choices = "off|on|auto",
	  .help = "leave the queues to the kernel (/dev/vhost-net); auto: if it can" },
	{ "busyloop", OPTION_UINT, .offset = offsetof(struct virtio_net, opt_busyloop),
	  .max = BUSYLOOP_MAX,
	  .help = "microseconds that the kernel polls the queues before it sleeps, with vhost" },
	{},
};

VIRTIO_DEVICE(virtio_net, {
	.name = "virtio-net", .summary = "Ethernet over a tap of the host, NAT in user space, passt or Unix sockets",
	.device_id = VIRTIO_ID_NET, .nvq = NET_PAIR_QUEUES + 1, .queue_size = NET_QUEUE_SIZE,
	.priv_size = sizeof(struct virtio_net), .cfgsize = sizeof(struct virtio_net_config),
	.features = { { BIT64(VIRTIO_NET_F_MAC) | BIT64(VIRTIO_NET_F_STATUS) |
			BIT64(VIRTIO_NET_F_CTRL_VQ) |
			BIT64(VIRTIO_NET_F_CTRL_RX) | BIT64(VIRTIO_NET_F_CTRL_RX_EXTRA) |
			BIT64(VIRTIO_NET_F_CTRL_VLAN) | BIT64(VIRTIO_NET_F_CTRL_MAC_ADDR) |
			BIT64(VIRTIO_NET_F_GUEST_ANNOUNCE) } },
	.options = net_options, .init = net_init, .deinit = net_deinit, .reset = net_reset,
	.quiesce = net_quiesce, .resume = net_resume, .qnotify = net_qnotify,
	.queue_reset = net_queue_reset, .cfgwrite = net_cfgwrite, .set_status = net_set_status,
	.offload = net_vhost_switch, .queue_alone = net_queue_alone, .queue_group = NET_PAIR_QUEUES,
	.apply_features = net_apply_features, .state = &net_state, .config_state = net_config_state,
});
/* clang-format on */
