/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Between the files of virtio-net: the device (virtio_net.c), its data path in user space,
 * reception (virtio_net_rx.c) and transmission (virtio_net_tx.c), or in the kernel
 * (virtio_net_vhost.c), the control queue (virtio_net_ctrl.c), notifications (virtio_net_notify.c),
 * steering of received frames (virtio_net_rss.c, virtio_net_mail.c),
 * and the rules for headers and for
 * the receive filter, which need no device (virtio_net_rules.c).
 */
#ifndef TENON_VIRTIO_NET_H
#define TENON_VIRTIO_NET_H

#include <linux/if_ether.h>
#include <linux/virtio_net.h>

#include "net_backend.h"
#include "vhost.h"
#include "virtio.h"

#ifndef VIRTIO_NET_F_GUEST_USO4
#define VIRTIO_NET_F_GUEST_USO4 54 /* virtio 1.3 */
#define VIRTIO_NET_F_GUEST_USO6 55
#define VIRTIO_NET_F_HOST_USO 56
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

#ifndef VIRTIO_NET_F_NOTF_COAL
#define VIRTIO_NET_F_NOTF_COAL 53 /* virtio 1.2 */
#define VIRTIO_NET_CTRL_NOTF_COAL 6
#define VIRTIO_NET_CTRL_NOTF_COAL_TX_SET 0
#define VIRTIO_NET_CTRL_NOTF_COAL_RX_SET 1
#endif
#ifndef VIRTIO_NET_F_VQ_NOTF_COAL
#define VIRTIO_NET_F_VQ_NOTF_COAL 52 /* virtio 1.3 */
#define VIRTIO_NET_CTRL_NOTF_COAL_VQ_SET 2
#define VIRTIO_NET_CTRL_NOTF_COAL_VQ_GET 3
#endif

/*
 * virtio 1.4, 5.1.2: a pair has two queues; the control queue is behind all pairs if MQ was
 * negotiated, else behind the first one.
 */
enum { NET_QUEUE_RX, NET_QUEUE_TX, NET_PAIR_QUEUES };

#define NET_QUEUE_SIZE 256
#define NET_VLAN_LEN 4
#define NET_FRAME_MAX (65535 + ETH_HLEN + NET_VLAN_LEN) /* the largest IP packet, tagged */
#define NET_PEEK 112 /* all that the filter and the hash look at: IPv6 with extension headers */
#define NET_CHAIN_IOV (NET_QUEUE_SIZE + GUEST_MEMORY_REGIONS)
#define NET_RX_IOV 1000 /* readv() takes 1024 */
#define NET_MAC_TABLE_MAX 64
#define NET_VLANS 4096

/* ---- Rules ---- */

#define NET_RSS_KEY_MAX 40 /* virtio 1.4, 5.1.4.1: at least 40 and 128 */
#define NET_RSS_TABLE_MAX 128
#define NET_RSS_INPUT_MAX 36 /* addresses of IPv6, and ports */
#define NET_RSS_HASH_TYPES                                                                         \
	(VIRTIO_NET_RSS_HASH_TYPE_IPv4 | VIRTIO_NET_RSS_HASH_TYPE_TCPv4 |                          \
	 VIRTIO_NET_RSS_HASH_TYPE_UDPv4 | VIRTIO_NET_RSS_HASH_TYPE_IPv6 |                          \
	 VIRTIO_NET_RSS_HASH_TYPE_TCPv6 | VIRTIO_NET_RSS_HASH_TYPE_UDPv6)

/* What the driver said with MQ_RSS_CONFIG. Queues are pairs' numbers. */
struct net_rss_choice {
	uint32_t hash_types;
	uint16_t table_mask, unclassified, max_tx;
	uint16_t table[NET_RSS_TABLE_MAX];
	uint8_t key_length;
	uint8_t key[NET_RSS_KEY_MAX];
};

/* @sums: what each byte of the input adds to the hash, by its place and value */
struct net_rss {
	bool active;
	struct net_rss_choice choice;
	uint32_t sums[NET_RSS_INPUT_MAX][256];
};

/* What is wrong with it, where there are @pairs, or NULL. */
const char *net_rss_check(const struct net_rss_choice *choice, unsigned int pairs);

/* So many pairs does it use. */
uint16_t net_rss_pairs(const struct net_rss_choice *choice);

/* @rss->sums, of @rss->choice. */
void net_rss_prepare(struct net_rss *rss);

uint32_t net_rss_toeplitz(const struct net_rss *rss, const uint8_t *input, unsigned int len);

/* The hash of the frame that starts with the @len bytes at @frame; false: it has none. */
bool net_rss_hash(const struct net_rss *rss, const uint8_t *frame, size_t len, uint32_t *hash);

/* The pair that it goes to. */
unsigned int net_rss_queue(const struct net_rss *rss, const uint8_t *frame, size_t len);

/* A part of the MAC filter table; @overflow: there were too many, so all of the kind are let in. */
struct net_mac_table {
	unsigned int count;
	bool overflow;
	uint8_t entries[NET_MAC_TABLE_MAX][ETH_ALEN];
};

/*
 * The receive filter (virtio 1.4, 5.1.9.5.1..3).
 * @by_mac, @by_vlan: the driver can control it (CTRL_RX, CTRL_VLAN): else that part lets all in
 */
struct net_filter {
	bool by_mac, by_vlan;
	bool promisc, allmulti, alluni, nomulti, nouni, nobcast;
	struct net_mac_table unicast, multicast;
	uint64_t vlans[NET_VLANS / 64];
};

/* Does the filter let in the frame that starts with the @len bytes at @frame? */
bool net_filter_accepts(const struct net_filter *filter, const uint8_t *mac, const uint8_t *frame,
			size_t len);

/* The driver's header for a frame of @frame_len bytes, made fit for the host; false: drop it. */
bool net_tx_header(const struct virtio_features *negotiated, size_t frame_len,
		   struct virtio_net_hdr_v1 *header);

/* The host's header made fit for the driver, who takes @guest_offloads; false: drop the frame. */
bool net_rx_header(uint64_t guest_offloads, struct virtio_net_hdr_v1 *header);

/* All feature bits for offloads that a host which does @tun_flags can offer. */
uint64_t net_offload_features(unsigned int tun_flags);

/* The VIRTIO_NET_F_GUEST_ bits among @features that CTRL_GUEST_OFFLOADS may switch. */
uint64_t net_guest_offloads(uint64_t features);

/* The TUN_F_ flags for the guest offload bits @guest_offloads, in a combination tun accepts. */
unsigned int net_tun_flags(uint64_t guest_offloads);

/* A locally administered unicast address that depends on the two names alone. */
void net_mac_from_names(uint8_t *mac, const char *vm_name, const char *device_name);

/* ---- Device ---- */

/* Host memory for what is looked at of a received frame, before the guest can see or touch it. */
struct net_head {
	struct virtio_net_hdr_v1 header;
	uint8_t frame[NET_PEEK];
};

/*
 * Frames for a receive queue that came by another queue of the host's. @lock is held for no more
 * than that. @head, @tail: bytes in and out, @timer: of the queue's loop, set when there are any
 */
struct net_mail {
	pthread_mutex_t lock;
	uint8_t *bytes;
	uint32_t head, tail;
	struct event_source *timer;
};

/* @arrived is called with @arg, @vq's lock held. 0 or -ENOMEM; net_mail_deinit() in any case. */
int net_mail_init(struct net_mail *mail, struct vqueue_info *vq, event_callback arrived,
		  void *arg) __must_check;
void net_mail_deinit(struct net_mail *mail);

/* Keep the first @len bytes of @iov, a frame; any thread. False: there is no room. */
bool net_mail_put(struct net_mail *mail, const struct iovec *iov, int count,
		  uint32_t len) __must_check;

/* As net_receive(). */
ssize_t net_mail_get(struct net_mail *mail, const struct iovec *iov, int count) __must_check;

void net_mail_clear(struct net_mail *mail);

static inline bool net_mail_waits(const struct net_mail *mail)
{
	return __atomic_load_n(&mail->head, __ATOMIC_RELAXED) !=
	       __atomic_load_n(&mail->tail, __ATOMIC_RELAXED);
}

struct net_rx_chain {
	uint16_t idx, descs;
	uint16_t iov_count;
	uint32_t len;
};

/*
 * Notification coalescing of a queue (virtio 1.4, 5.1.9.5.10): used buffers are shown to the driver,
 * and it is notified, once there are @max_packets or the first of them is @max_usecs old.
 */
#define NET_COALESCE_USECS_MAX 1000000 /* more than a second is no notification any more */

struct net_coalesce {
	uint32_t max_packets, max_usecs;
};

/*
 * @coalesce: at once, if one of them is 0
 * @packets, @descs: frames in used buffers that the driver was not shown, and their descriptors
 * @pending: there are some since an earlier turn; @timer runs
 */
struct net_notify {
	struct vqueue_info *vq;
	struct net_coalesce coalesce;
	uint32_t packets, descs;
	bool pending;
	struct event_source *timer;
};

/*
 * Reception. Chains are taken from the queue ahead of the frames that will fill them and kept
 * until used, in the order in which they were available.
 * @chains, @chain_count: those; @iov, @iov_count: their memory; @capacity: bytes of it
 * @length: header and frame, as the driver gets them, of the frame in work; 0: none
 * @spilled_from: the bytes of it from here on did not fit and are in @spill
 * @patience: armed while a frame waits for the driver to provide enough buffers
 * @stopped: the tap is not read because there are no buffers
 */
struct net_rx {
	struct vqueue_info *vq;
	struct net_notify notify;
	struct event_source *patience;
	struct net_mail mail;
	uint64_t frames, filtered, dropped;
	bool stopped;
	unsigned int chain_count, iov_count;
	uint32_t capacity;
	uint32_t length, spilled_from;
	struct net_head head;
	struct net_rx_chain chains[NET_QUEUE_SIZE];
	struct iovec iov[NET_RX_IOV];
	struct iovec read_iov[NET_RX_IOV + 2];
	uint8_t spill[NET_FRAME_MAX];
};

/*
 * @again: timer: look for frames
 * @headers, @kept: of the frames that the back end may keep until it is flushed
 */
struct net_tx {
	struct vqueue_info *vq;
	struct event_source *again;
	struct net_notify notify;
	uint64_t frames, dropped;
	unsigned int kept;
	struct virtio_net_hdr_v1 headers[NET_BATCH_MAX];
	struct iovec chain_iov[NET_CHAIN_IOV];
	struct iovec iov[NET_CHAIN_IOV + 1];
};

struct virtio_net;

/*
 * A receive and a transmit queue, and the back end's queue that they are for.
 * @vhost, @vhost_vqs, @vhost_fd: the kernel's part (virtio_net_vhost.c); @vhost_fd is -1 without
 * one
 */
struct net_pair {
	struct virtio_net *net;
	unsigned int index;
	struct net_rx rx;
	struct net_tx tx;
	struct vhost_dev vhost;
	struct vhost_vq vhost_vqs[NET_PAIR_QUEUES];
	int vhost_fd;
};

/* enum net_vhost_option - vhost=, as its choices. */
enum net_vhost_option { NET_VHOST_OFF, NET_VHOST_ON, NET_VHOST_AUTO };

/*
 * @wanted: the kernel is to run the queues while it can; @running: it does
 * @busy: it is being stopped: what that brings about must not start it
 * @blocked: it cannot, until the driver begins anew
 * @starts: how often it took over
 * @try: timer: a queue's thread found that it may
 */
struct net_vhost {
	bool wanted, running, busy, blocked;
	uint64_t starts;
	struct event_source *try;
};

/*
 * @config: vc.config
 * @pairs, @pair_count: all that there are; the first @pairs_used are those the driver uses
 * @header_size: of the header the driver uses, 10 or 12
 * @guest_offloads: the VIRTIO_NET_F_GUEST_ offloads in force
 * @coalesce: what queues have that come anew, receive and transmit queues
 *
 * Pairs may have threads of their own: these change what is in their net_rx or net_tx and read the
 * rest, which changes with all queues' locks held.
 */
struct virtio_net {
	struct virtio_common vc;
	unsigned int opt_backend; /* enum net_backend_kind */
	char *opt_tap, *opt_path, *opt_local, *opt_hostfwd, *opt_net, *opt_hostname, *opt_dns;
	bool opt_server, opt_restrict;
	uint64_t opt_rx;
	uint64_t opt_fd, opt_mtu, opt_queues, opt_busyloop;
	uint8_t opt_mac[ETH_ALEN];
	bool opt_offload, opt_mrg_rxbuf, opt_vq_coalesce;
	unsigned int opt_vhost;

	struct net_backend *backend;
	struct virtio_net_config *config;
	struct net_pair *pairs;
	unsigned int pair_count;
	uint16_t pairs_used;
	bool pairs_by_rings; /* no command says how many are used, but the rings that are enabled */
	uint8_t mac[ETH_ALEN];
	uint32_t header_size;
	uint64_t guest_offloads;
	struct net_filter filter;
	struct net_rss rss;
	struct net_coalesce coalesce[NET_PAIR_QUEUES];
	struct net_vhost vhost;
};

/* The buffers of a pair that is not are the driver's. */
static inline bool net_pair_used(const struct net_pair *pair)
{
	return pair->index < pair->net->pairs_used;
}

/* max_virtqueue_pairs, for who negotiated what it is for; else 1. */
unsigned int net_pairs_known(const struct virtio_net *net);

/*
 * Use the first @count pairs; the buffers of the others stay the driver's. False: the host
 * refuses.
 */
bool net_set_pairs(struct virtio_net *net, uint16_t count);

/* The driver made frames to be sent available. */
void net_tx_run(struct net_pair *pair);

/*
 * Look for frames to be sent, soon: the driver's kick may have come while the pair was not in use,
 * and with EVENT_IDX it does not kick again.
 */
void net_tx_look(struct net_pair *pair);

/* Timer of a struct net_pair: that. */
void net_tx_again(void *arg, uint32_t expirations);

/* Let through what waits in the tap, as far as there are buffers. */
void net_rx_run(struct net_pair *pair);

/* Timer of a struct net_pair: frames came for it by other queues. */
void net_rx_mail(void *arg, uint32_t expirations);

/* The driver made receive buffers available. */
void net_rx_kick(struct net_pair *pair);

/* Timer of a struct net_pair: a frame has waited long enough for the driver to provide buffers. */
void net_rx_impatient(void *arg, uint32_t expirations);

/* Stop receiving; @give_back: the queue lives on, its unused buffers return to it. */
void net_rx_stop(struct net_pair *pair, bool give_back);

/* Steer by @choice, which net_rss_check() found good. False: the host refuses, and nothing is steered. */
bool net_rss_start(struct virtio_net *net, const struct net_rss_choice *choice);
void net_rss_stop(struct virtio_net *net);

/* ---- Notifications (virtio_net_notify.c) ---- */

int net_notify_init(struct net_notify *notify, struct vqueue_info *vq) __must_check;
void net_notify_deinit(struct net_notify *notify);

/* A frame was dealt with, whose buffers have @descs descriptors. */
static inline void net_notify_add(struct net_notify *notify, uint32_t descs)
{
	notify->packets++;
	notify->descs += descs;
}

/*
 * At the end of a turn: vq_endchains(), now or later.
 * @used_all: see there; then the driver is told now if it @hungers, for there are too few buffers.
 */
void net_notify_end(struct net_notify *notify, bool used_all, bool hungers);

/* The driver sees all that was used, at once: the queue is to be handed over, or to stand still. */
void net_notify_flush(struct net_notify *notify);

/* The queue is gone, and @coalesce is what it has when it comes back. */
void net_notify_drop(struct net_notify *notify, const struct net_coalesce *coalesce);

/* No notification of the device waits; without parameters, as after a reset. */
void net_notify_reset(struct virtio_net *net);
void net_notify_flush_all(struct virtio_net *net);

/* Does the driver have any notification coalesced? */
bool net_notify_coalesces(const struct virtio_net *net);

/* A command of VIRTIO_NET_CTRL_NOTF_COAL for all receive or transmit queues, or for one. */
bool net_notify_set_all(struct virtio_net *net, unsigned int kind,
			const struct net_coalesce *coalesce);
bool net_notify_set_queue(struct virtio_net *net, uint16_t index,
			  const struct net_coalesce *coalesce);
bool net_notify_get_queue(const struct virtio_net *net, uint16_t index,
			  struct net_coalesce *coalesce);

/* virtio_net_vhost.c: what vhost=, busyloop= and the offload callback are about. */

/* After the back end was opened and features were offered: offer only what the kernel can do. */
int net_vhost_init(struct virtio_net *net) __must_check;
void net_vhost_deinit(struct virtio_net *net);

/*
 * Let the kernel run the queues, if it is wanted, and the driver and all queues of the pairs in use
 * are ready. User space goes on if it cannot. 0 or -errno after one log line.
 */
int net_vhost_start(struct virtio_net *net);

/* The same, soon, for who has no more than a queue's lock. */
void net_vhost_try(struct virtio_net *net);

/* The kernel has stopped, and the rings are where it left them, when this returns. */
void net_vhost_stop(struct virtio_net *net);

/* virtio_ops.offload */
int net_vhost_switch(void *dev, bool on);

/* Answer all commands that wait, at once: drivers spin for the answer. */
void net_ctrl_run(struct virtio_net *net, struct vqueue_info *vq);

#define NET_CTRL_RESULT_MAX sizeof(struct net_coalesce)

/* What a command answers with: VIRTIO_NET_OK or VIRTIO_NET_ERR, and @len bytes of @result. */
struct net_ctrl_answer {
	uint8_t ack;
	uint8_t result[NET_CTRL_RESULT_MAX];
	uint32_t len;
};

/* One command, @out_len bytes in @iov. */
struct net_ctrl_answer net_ctrl_command(struct virtio_net *net, const struct iovec *iov, int count,
					uint64_t out_len);

/* No command was given yet: the filter lets in broadcasts and what is for the device. */
void net_ctrl_reset(struct virtio_net *net);

/* virtio_net_state.c */
extern const struct state_desc net_state;
extern const struct state_field net_config_state[];

/* Put the offloads @guest_offloads in force. False: the host refuses, they stay as they were. */
bool net_set_guest_offloads(struct virtio_net *net, uint64_t guest_offloads);

#endif
