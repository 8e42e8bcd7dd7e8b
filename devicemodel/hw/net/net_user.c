/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The user back end: the guest is behind NAT, with DHCP and DNS, and no privileges are needed.
 * libslirp is the network; it is loaded when it is asked for, so that nobody else pays for it and
 * its glib.
 *
 * libslirp wants to be asked, before each sleep, what to poll for, and to be told afterwards; how
 * is in net_user_poll.c.
 */
#include <errno.h>
#include <linux/virtio_net.h>
#include <stdlib.h>

#include "net_fifo.h"
#include "net_user.h"

#ifndef HAVE_SLIRP

static int user_open(struct net_backend *net, const struct net_config *config)
{
	log_error(net->log,
		  "%s: backend=user: tenon was built without libslirp (install libslirp-dev and "
		  "build "
		  "it again, or use backend=passt)",
		  net->what);
	return -EOPNOTSUPP;
}

const struct net_kind net_kind_user = {
	.name = "user",
	.priv_size = sizeof(struct net_backend),
	.open = user_open,
};

#else

#include <dlfcn.h>
#include <linux/if_ether.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <slirp/libslirp.h>
#include <sys/resource.h>

#include "clock.h"
#include "event_loop.h"
#include "net_user_poll.h"
#include "virtio.h"

#define LIBRARY "libslirp.so.0"
#define SLIRP_CONFIG_VERSION 1 /* all that is needed, and known to every libslirp since 4.1 */
#define SOCKETS_MAX 1024
#define NS_PER_MS UINT64_C(1000000)

/* The functions of libslirp that are used. */
struct slirp_api {
	void *library;
	__typeof__(slirp_new) *new;
	__typeof__(slirp_cleanup) *cleanup;
	__typeof__(slirp_pollfds_fill) *pollfds_fill;
	__typeof__(slirp_pollfds_poll) *pollfds_poll;
	__typeof__(slirp_input) *input;
	__typeof__(slirp_add_hostfwd) *add_hostfwd;
};

/*
 * @poll, @source: libslirp's descriptors; @sockets_max: so many may the guest make it open
 * @timer: when libslirp wants its turn whatever happens; @timers: that it made
 * @asked: the guest sent something since libslirp said what to watch
 * @frame: one of the guest's
 * @lost, @refused: frames for which there was no room, and that would have opened a socket too many
 */
struct net_user {
	struct net_backend base;
	struct slirp_api api;
	Slirp *slirp;
	struct net_inbox inbox;
	struct user_poll poll;
	struct event_source *source, *timer;
	size_t sockets_max;
	bool asked;
	uint64_t lost, refused;
	uint8_t frame[NET_FIFO_FRAME_MAX];
};

static struct net_user *user_of(const struct net_backend *base)
{
	return container_of(base, struct net_user, base);
}

/* ---- Turns ---- */

/* Before the loop sleeps: what is libslirp waiting for, and how long? */
static void user_ask(struct net_user *user)
{
	uint32_t timeout_ms = UINT32_MAX;
	uint64_t timeout_ns;

	user->asked = false;
	user_poll_begin(&user->poll);
	user->api.pollfds_fill(user->slirp, &timeout_ms, user_poll_add, &user->poll);
	user_poll_end(&user->poll);
	timeout_ns = timeout_ms == UINT32_MAX ? 0 : MAX(timeout_ms, 1) * NS_PER_MS;
	event_set_timer(user->timer, timeout_ns, 0);
}

/* After it slept: what became of it. */
static void user_turn(struct net_user *user)
{
	int error = user_poll_look(&user->poll);

	user->api.pollfds_poll(user->slirp, error, user_poll_revents, &user->poll);
	user_poll_forget(&user->poll);
	user_ask(user);
	net_inbox_deliver(&user->inbox);
}

static void on_epoll(void *arg, uint32_t events)
{
	user_turn(arg);
}

static void on_timer(void *arg, uint32_t expirations)
{
	user_turn(arg);
}

/* ---- What libslirp calls ---- */

static ssize_t on_send_packet(const void *frame, size_t len, void *arg)
{
	static struct virtio_net_hdr_v1 header; /* never written */
	const struct iovec iov[] = { { &header, sizeof(header) }, { (void *)frame, len } };
	struct net_user *user = arg;

	if (net_fifo_put(&user->inbox.fifo, iov, ARRAY_SIZE(iov)))
		user->lost++;
	return (ssize_t)len;
}

static void on_guest_error(const char *message, void *arg)
{
	const struct net_user *user = arg;

	log_guest(user->base.log, "%s: backend=user: %.*s", user->base.what,
		  (int)strcspn(message, "\n"), message);
}

static int64_t on_clock(void *arg)
{
	return (int64_t)clock_ns();
}

/* A timer of libslirp's. */
struct user_timer {
	struct net_user *user;
	struct event_source *source;
	SlirpTimerCb callback;
	void *arg;
};

static void on_slirp_timer(void *arg, uint32_t expirations)
{
	struct user_timer *timer = arg;
	struct net_user *user = timer->user;

	timer->callback(timer->arg);
	user_ask(user);
	net_inbox_deliver(&user->inbox);
}

static void *on_timer_new(SlirpTimerCb callback, void *callback_arg, void *arg)
{
	struct user_timer *timer = calloc(1, sizeof(*timer));
	struct net_user *user = arg;

	if (!timer)
		return NULL;
	*timer = (struct user_timer) { user, NULL, callback, callback_arg };
	timer->source =
		event_add_real_timer(user->base.loop, user->base.lock, on_slirp_timer, timer);
	return timer;
}

static void on_timer_free(void *arg, void *user)
{
	struct user_timer *timer = arg;

	if (timer)
		event_remove(timer->source);
	free(timer);
}

static void on_timer_mod(void *arg, int64_t expire_ms, void *user)
{
	struct user_timer *timer = arg;
	int64_t delay = expire_ms * (int64_t)NS_PER_MS - on_clock(user);

	if (timer && timer->source)
		event_set_timer(timer->source, (uint64_t)MAX(delay, INT64_C(1)), 0);
}

/* It was closed, or will be, and its number may come again before we are told what to watch. */
static void on_unregister(int fd, void *arg)
{
	struct net_user *user = arg;

	user_poll_remove(&user->poll, fd);
}

/*
 * All sockets, but older libslirps tell of TCP's only, and -1 of one that they accepted: those count
 * from when they are named. All are unregistered.
 */
static void on_register(int fd, void *arg)
{
	struct net_user *user = arg;

	(void)user_poll_opened(&user->poll, fd);
}

static void on_notify(void *arg)
{
	struct net_user *user = arg;

	event_set_timer(user->timer, EVENT_SOON, 0);
}

static const SlirpCb slirp_callbacks = {
	.send_packet = on_send_packet,
	.guest_error = on_guest_error,
	.clock_get_ns = on_clock,
	.timer_new = on_timer_new,
	.timer_free = on_timer_free,
	.timer_mod = on_timer_mod,
	.register_poll_fd = on_register,
	.unregister_poll_fd = on_unregister,
	.notify = on_notify,
};

/* ---- Frames ---- */

/* Of a connection that is there already, for sure? Only such frames open no socket. */
static bool opens_nothing(const uint8_t *frame, size_t len)
{
	const struct tcphdr *tcp;
	struct iphdr ip;

	if (len < ETH_HLEN + sizeof(ip) || (frame[12] << 8 | frame[13]) != ETH_P_IP)
		return len >= ETH_HLEN && (frame[12] << 8 | frame[13]) == ETH_P_ARP;
	memcpy(&ip, frame + ETH_HLEN, sizeof(ip));
	if (ip.protocol != IPPROTO_TCP || (ntohs(ip.frag_off) & (IP_MF | IP_OFFMASK)) ||
	    len < ETH_HLEN + ip.ihl * 4u + sizeof(*tcp))
		return false;
	tcp = (const void *)(frame + ETH_HLEN + ip.ihl * 4u);
	return !(((const uint8_t *)tcp)[13] & TH_SYN);
}

static int user_send(struct net_backend *base, unsigned int queue, const struct iovec *iov,
		     int count)
{
	struct net_user *user = user_of(base);
	uint64_t len = iov_length(iov, count);

	if (len < sizeof(struct virtio_net_hdr_v1) + ETH_HLEN)
		return -EINVAL;
	len -= sizeof(struct virtio_net_hdr_v1);
	if (len > sizeof(user->frame))
		return -EMSGSIZE;
	iov_to_buf(iov, count, sizeof(struct virtio_net_hdr_v1), user->frame, len);
	if (user->poll.open >= user->sockets_max && !opens_nothing(user->frame, len)) {
		user->refused++;
		log_guest(
			base->log,
			"%s: backend=user: the guest has %zu sockets open: no new ones until some "
			"are closed",
			base->what, user->poll.open);
		return -EMFILE;
	}
	user->api.input(user->slirp, user->frame, (int)len);
	user->asked = true;
	return 0;
}

static unsigned int user_flush(struct net_backend *base, unsigned int queue)
{
	struct net_user *user = user_of(base);

	if (!user->asked)
		return 0;
	user_ask(user);
	if (user->inbox.receiving && net_fifo_used(&user->inbox.fifo))
		event_set_timer(user->inbox.again, EVENT_SOON, 0);
	return 0;
}

static ssize_t user_receive(struct net_backend *base, unsigned int queue, const struct iovec *iov,
			    int count)
{
	return net_fifo_get(&user_of(base)->inbox.fifo, iov, count);
}

static void user_set_receive(struct net_backend *base, unsigned int queue, bool on)
{
	net_inbox_set_receive(&user_of(base)->inbox, on);
}

static void on_again(void *arg, uint32_t expirations)
{
	struct net_user *user = arg;

	net_inbox_deliver(&user->inbox);
}

static bool user_link_up(const struct net_backend *base)
{
	return true;
}

/* ---- Life cycle ---- */

static int api_load(struct net_user *user)
{
	struct slirp_api *api = &user->api;
	const struct {
		void **function;
		const char *name;
	} functions[] = {
		{ (void **)&api->new, "slirp_new" },
		{ (void **)&api->cleanup, "slirp_cleanup" },
		{ (void **)&api->pollfds_fill, "slirp_pollfds_fill" },
		{ (void **)&api->pollfds_poll, "slirp_pollfds_poll" },
		{ (void **)&api->input, "slirp_input" },
		{ (void **)&api->add_hostfwd, "slirp_add_hostfwd" },
	};

	api->library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	for (unsigned int i = 0; api->library && i < ARRAY_SIZE(functions); i++) {
		*functions[i].function = dlsym(api->library, functions[i].name);
		if (!*functions[i].function) {
			dlclose(api->library);
			api->library = NULL;
		}
	}
	if (api->library)
		return 0;
	log_error(user->base.log,
		  "%s: backend=user: cannot load " LIBRARY ": %s (install libslirp0, or use "
		  "backend=passt)",
		  user->base.what, dlerror());
	return -ENOPKG;
}

static int user_forward(struct net_user *user, const struct net_user_forward *forward)
{
	int error;

	if (!user->api.add_hostfwd(user->slirp, forward->udp, forward->host_addr,
				   forward->host_port, forward->guest_addr, forward->guest_port))
		return 0;
	error = errno ? errno : EADDRINUSE;
	errno = error;
	log_error(user->base.log, "%s: hostfwd=%s: cannot listen on the host's port: %m (%s)",
		  user->base.what, forward->text,
		  error == EACCES ? "use one from 1024 on, or run as root" : "use another one");
	return -error;
}

static int user_start(struct net_user *user, const struct net_config *config,
		      const struct net_user_config *parsed)
{
	const SlirpConfig slirp = {
		.version = SLIRP_CONFIG_VERSION,
		.restricted = config->restricted,
		.in_enabled = true,
		.vnetwork = parsed->network,
		.vnetmask = parsed->mask,
		.vhost = parsed->gateway,
		.vdhcp_start = parsed->dhcp_start,
		.vnameserver = parsed->dns,
		.vhostname = config->hostname,
		/* As QEMU's; not all of libslirp's IPv6 knows of restrict. */
		.in6_enabled = !config->restricted,
		.vprefix_addr6 = { { { 0xfe, 0xc0 } } },
		.vprefix_len = 64,
		.vhost6 = { { { 0xfe, 0xc0, [15] = 2 } } },
		.vnameserver6 = { { { 0xfe, 0xc0, [15] = 3 } } },
	};
	int error = 0;

	errno = 0;
	user->slirp = user->api.new(&slirp, &slirp_callbacks, user);
	if (!user->slirp) {
		log_error(user->base.log, "%s: backend=user: libslirp refuses this network",
			  user->base.what);
		return -EINVAL;
	}
	for (unsigned int i = 0; !error && i < parsed->forward_count; i++)
		error = user_forward(user, &parsed->forwards[i]);
	if (!error)
		user_ask(user);
	return error;
}

static int user_add_events(struct net_user *user)
{
	const struct net_backend *net = &user->base;
	int error = net_inbox_open(&user->inbox, &user->base, on_again, user);

	if (error)
		return error;
	error = user_poll_open(&user->poll);
	if (error)
		return error;
	user->timer = event_add_real_timer(net->loop, net->lock, on_timer, user);
	if (!user->timer)
		return -errno;
	user->source =
		event_add_fd(net->loop, user->poll.epoll_fd, EPOLLIN, net->lock, on_epoll, user);
	return user->source ? 0 : -errno;
}

static void user_close(struct net_backend *net)
{
	struct net_user *user = user_of(net);

	if (user->slirp)
		user->api.cleanup(user->slirp);
	event_remove(user->source);
	event_remove(user->timer);
	user_poll_close(&user->poll);
	net_inbox_close(&user->inbox);
	if (user->lost || user->refused)
		log_debug(net->log,
			  "%s: backend=user: %llu frames for the guest were lost for want of room, "
			  "%llu of its were refused for want of sockets",
			  net->what, (unsigned long long)user->lost,
			  (unsigned long long)user->refused);
	if (user->api.library)
		dlclose(user->api.library);
}

static size_t user_sockets_max(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return SOCKETS_MAX;
	return MIN(limit.rlim_cur / 2, SOCKETS_MAX);
}

static int user_open(struct net_backend *net, const struct net_config *config)
{
	struct net_user_config parsed = { 0 };
	struct net_user *user = user_of(net);
	int error = net_user_config_parse(net, config, &parsed);

	user->poll.epoll_fd = -1;
	user->sockets_max = user_sockets_max();
	if (!error)
		error = api_load(user);
	if (error)
		return error;
	error = user_add_events(user);
	if (error) {
		errno = -error;
		log_error(net->log, "%s: backend=user: cannot set up its events: %m", net->what);
	} else {
		error = user_start(user, config, &parsed);
	}
	if (error)
		user_close(net);
	return error;
}

const struct net_kind net_kind_user = {
	.name = "user",
	.priv_size = sizeof(struct net_user),
	.open = user_open,
	.close = user_close,
	.send = user_send,
	.receive = user_receive,
	.set_receive = user_set_receive,
	.flush = user_flush,
	.link_up = user_link_up,
};

#endif
