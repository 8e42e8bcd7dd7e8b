/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The tap back end of net_backend.h: /dev/net/tun by interface name, or a tap that is already open.
 */
#include "net_backend.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net_link.h"

#define TUN_DEVICE "/dev/net/tun"
#define TAP_FLAGS (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)

/*
 * @fd: the tap; @name: its interface
 * @source: of @fd, NULL once the interface is gone; @link_source: of @link
 * @receiving: the user wants to hear of frames
 * @offloads: what the tap can do; @offload: what it is told to do now
 */
struct net_backend {
	struct logger *log;
	const char *what;
	const struct net_backend_ops *ops;
	void *arg;
	int fd;
	char name[IFNAMSIZ];
	struct event_source *source, *link_source;
	struct net_link link;
	bool receiving;
	unsigned int offloads, offload;
};

/* One ioctl of netdevice(7) on the interface named in @request. 0 or -errno. */
static int interface_ioctl(unsigned long command, struct ifreq *request)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int error;

	if (fd < 0)
		return -errno;
	error = ioctl(fd, command, request) < 0 ? -errno : 0;
	close(fd);
	return error;
}

static void request_init(struct ifreq *request, const char *name)
{
	memset(request, 0, sizeof(*request));
	snprintf(request->ifr_name, IFNAMSIZ, "%s", name);
}

static bool interface_exists(const char *name)
{
	struct ifreq request;

	request_init(&request, name);
	return !interface_ioctl(SIOCGIFINDEX, &request);
}

static int interface_set_up(const char *name)
{
	struct ifreq request;
	int error;

	request_init(&request, name);
	error = interface_ioctl(SIOCGIFFLAGS, &request);
	if (error)
		return error;
	request.ifr_flags |= IFF_UP;
	return interface_ioctl(SIOCSIFFLAGS, &request);
}

/* ---- Messages: why a tap cannot be had, and what to do ---- */

static int complain_device(struct net_backend *net, const char *name, int error)
{
	const char *remedy = "";

	if (error == ENOENT || error == ENODEV || error == ENXIO)
		remedy = " (load the driver: modprobe tun)";
	else if (error == EACCES || error == EPERM)
		remedy = " (run as root, or hand over an open tap with fd=)";
	errno = error;
	log_error(net->log, "%s: tap=%s: cannot open " TUN_DEVICE ": %m%s", net->what, name,
		  remedy);
	return -error;
}

/* TUNSETIFF says EINVAL for whatever kind of interface it is that is not ours. */
static int complain_kind(struct net_backend *net, const char *name)
{
	struct ethtool_drvinfo info = { .cmd = ETHTOOL_GDRVINFO };
	struct ifreq request;

	request_init(&request, name);
	request.ifr_data = (void *)&info;
	if (interface_ioctl(SIOCETHTOOL, &request) || strcmp(info.driver, "tun") != 0)
		log_error(net->log,
			  "%s: tap=%s: this interface is not a tap (name another one, or one that "
			  "does not exist yet)",
			  net->what, name);
	else if (strcmp(info.bus_info, "tap") != 0)
		log_error(net->log,
			  "%s: tap=%s: this interface is a tun, which carries no Ethernet (create "
			  "it with: ip tuntap add dev %s mode tap)",
			  net->what, name, name);
	else
		log_error(net->log,
			  "%s: tap=%s: this tap has several queues (create it without multi_queue)",
			  net->what, name);
	return -EINVAL;
}

static int complain_attach(struct net_backend *net, const char *name, bool exists, int error)
{
	errno = error;
	if (error == EINVAL && exists)
		return complain_kind(net, name);
	if (error == EPERM && exists)
		log_error(net->log,
			  "%s: tap=%s: not ours to use: %m (run as root, or create it with: ip "
			  "tuntap add dev %s mode tap user %u)",
			  net->what, name, name, geteuid());
	else if (error == EPERM)
		log_error(net->log,
			  "%s: tap=%s: cannot create the interface: %m (run as root, or create it "
			  "with: ip tuntap add dev %s mode tap user %u)",
			  net->what, name, name, geteuid());
	else if (error == EBUSY)
		log_error(net->log,
			  "%s: tap=%s: in use by another process (a tap serves one device: name "
			  "another one)",
			  net->what, name);
	else
		log_error(net->log, "%s: tap=%s: cannot attach to the interface: %m", net->what,
			  name);
	return -error;
}

/* ---- Getting hold of a tap ---- */

/* What the kernel would take for a pattern ("tap%d") or refuse without saying why. */
static int check_name(struct net_backend *net, const char *name)
{
	size_t len = strlen(name);

	if (len >= IFNAMSIZ)
		log_error(net->log,
			  "%s: tap=%s: the name is too long (an interface name has at most %d "
			  "characters)",
			  net->what, name, IFNAMSIZ - 1);
	else if (!len || strpbrk(name, "/:% \t\n") || !strcmp(name, ".") || !strcmp(name, ".."))
		log_error(net->log,
			  "%s: tap=%s: not an interface name (use letters, digits, - and _)",
			  net->what, name);
	else
		return 0;
	return -EINVAL;
}

static int tap_open_name(struct net_backend *net, const char *name)
{
	struct ifreq request;
	bool exists;
	int error = check_name(net, name);

	if (error)
		return error;
	net->fd = open(TUN_DEVICE, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (net->fd < 0)
		return complain_device(net, name, errno);
	exists = interface_exists(name);
	request_init(&request, name);
	request.ifr_flags = TAP_FLAGS;
	if (ioctl(net->fd, TUNSETIFF, &request) < 0)
		return complain_attach(net, name, exists, errno);
	snprintf(net->name, sizeof(net->name), "%.*s", IFNAMSIZ - 1, request.ifr_name);
	if (exists)
		return 0; /* up or down: as its administrator left it */
	error = interface_set_up(net->name);
	if (error) {
		errno = -error;
		log_error(net->log, "%s: tap=%s: cannot set the new interface up: %m", net->what,
			  name);
	}
	return error;
}

/* Whether IFF_NO_PI is set cannot be asked: TUNGETIFF has IFF_NOFILTER in that bit. */
static int tap_open_fd(struct net_backend *net, int fd)
{
	struct ifreq request = { 0 };
	const char *trouble = NULL;
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || ioctl(fd, TUNGETIFF, &request) < 0) {
		int error = errno;

		log_error(net->log,
			  "%s: fd=%d: not an open tap: %m (open " TUN_DEVICE
			  " and attach it with TUNSETIFF first)",
			  net->what, fd);
		return -error;
	}
	if (!(request.ifr_flags & IFF_TAP))
		trouble = "is a tun, which carries no Ethernet (attach it with IFF_TAP)";
	else if (!(request.ifr_flags & IFF_VNET_HDR))
		trouble =
			"has no virtio header in front of its frames (attach it with IFF_VNET_HDR)";
	if (trouble) {
		log_error(net->log, "%s: fd=%d: interface %.*s %s", net->what, fd, IFNAMSIZ - 1,
			  request.ifr_name, trouble);
		return -EINVAL;
	}
	if (fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	net->fd = fd;
	snprintf(net->name, sizeof(net->name), "%.*s", IFNAMSIZ - 1, request.ifr_name);
	return 0;
}

/* A descriptor may come from another network namespace, where its name means something else. */
static bool tap_is_here(const struct net_backend *net)
{
	struct ifreq tap, here;

	request_init(&here, net->name);
	request_init(&tap, net->name);
	return !interface_ioctl(SIOCGIFHWADDR, &here) && !ioctl(net->fd, SIOCGIFHWADDR, &tap) &&
	       !memcmp(tap.ifr_hwaddr.sa_data, here.ifr_hwaddr.sa_data, 6);
}

static bool tap_takes(const struct net_backend *net, unsigned int tun_flags)
{
	return !ioctl(net->fd, TUNSETOFFLOAD, (unsigned long)tun_flags);
}

static unsigned int tap_probe_offloads(const struct net_backend *net)
{
	static const unsigned int groups[] = { TUN_F_TSO4 | TUN_F_TSO6, TUN_F_TSO_ECN, TUN_F_UFO,
					       TUN_F_USO4 | TUN_F_USO6 };
	unsigned int offloads = TUN_F_CSUM;

	if (!tap_takes(net, TUN_F_CSUM))
		return 0;
	for (unsigned int i = 0; i < ARRAY_SIZE(groups); i++)
		if (tap_takes(net, offloads | groups[i]))
			offloads |= groups[i];
	return offloads;
}

static int tap_configure(struct net_backend *net)
{
	int header_size = sizeof(struct virtio_net_hdr_v1);

	if (ioctl(net->fd, TUNSETVNETHDRSZ, &header_size) < 0)
		return -errno;
	net->offloads = tap_probe_offloads(net);
	if (!tap_takes(net, 0))
		return -errno;
	if (tap_is_here(net))
		return net_link_open(&net->link, net->name);
	net->link.up = true; /* cannot be followed from here */
	return 0;
}

/* ---- Events ---- */

static bool tap_attached(const struct net_backend *net)
{
	struct ifreq request = { 0 };

	return !ioctl(net->fd, TUNGETIFF, &request);
}

/* The kernel reports an error on the descriptor for ever: no more events of it. */
static void tap_lost(struct net_backend *net)
{
	bool was_up = net->link.up;

	if (!net->source)
		return;
	event_remove(net->source);
	net->source = NULL;
	net->link.up = false;
	log_error(net->log,
		  "%s: interface %s was removed: the link stays down (create it again and restart "
		  "the VM)",
		  net->what, net->name);
	if (was_up)
		net->ops->link_changed(net->arg, false);
}

static void on_tap(void *arg, uint32_t events)
{
	struct net_backend *net = arg;

	if ((events & (EPOLLERR | EPOLLHUP)) && !tap_attached(net))
		tap_lost(net);
	else if ((events & EPOLLIN) && net->receiving)
		net->ops->readable(net->arg);
}

static void on_link_gone(struct net_backend *net)
{
	event_remove(net->link_source);
	net->link_source = NULL;
	if (!tap_attached(net)) {
		tap_lost(net);
		return;
	}
	net->link.up = true; /* serves as before, but cannot be followed any more */
	log_warning(net->log,
		    "%s: interface %s went to another network namespace: its link state is not "
		    "known any more",
		    net->what, net->name);
}

static void on_link(void *arg, uint32_t events)
{
	struct net_backend *net = arg;
	bool was_up = net->link.up;

	net_link_update(&net->link);
	if (net->link.gone) {
		net->link.up = was_up;
		on_link_gone(net);
	}
	if (net->source && net->link.up != was_up)
		net->ops->link_changed(net->arg, net->link.up);
}

static int tap_add_events(struct net_backend *net, struct event_loop *loop, pthread_mutex_t *lock)
{
	net->source = event_add_fd(loop, net->fd, 0, lock, on_tap, net);
	if (!net->source)
		return -errno;
	if (net->link.fd < 0)
		return 0;
	net->link_source = event_add_fd(loop, net->link.fd, EPOLLIN, lock, on_link, net);
	return net->link_source ? 0 : -errno;
}

/* ---- net_backend.h ---- */

static int tap_open(struct net_backend *net, const struct net_config *config,
		    struct event_loop *loop, pthread_mutex_t *lock)
{
	int error = config->tap ? tap_open_name(net, config->tap) : tap_open_fd(net, config->fd);

	if (error)
		return error;
	error = tap_configure(net);
	if (!error)
		error = tap_add_events(net, loop, lock);
	if (error == -EEXIST) {
		log_error(net->log, "%s: fd=%d: another device has this tap (open one for each)",
			  net->what, net->fd);
	} else if (error) {
		errno = -error;
		log_error(net->log, "%s: cannot use interface %s: %m", net->what, net->name);
	}
	return error;
}

static void tap_release(struct net_backend *net, bool close_fd)
{
	event_remove(net->link_source);
	event_remove(net->source);
	net_link_close(&net->link);
	if (net->fd >= 0 && close_fd)
		close(net->fd);
	free(net);
}

struct net_backend *net_open(struct logger *log, const char *what, const struct net_config *config,
			     struct event_loop *loop, pthread_mutex_t *lock,
			     const struct net_backend_ops *ops, void *arg)
{
	struct net_backend *net = calloc(1, sizeof(*net));
	int error;

	if (!net) {
		log_error(log, "%s: out of memory", what);
		errno = ENOMEM;
		return NULL;
	}
	net->log = log;
	net->what = what;
	net->ops = ops;
	net->arg = arg;
	net->fd = -1;
	net->link.fd = -1;
	error = tap_open(net, config, loop, lock);
	if (!error)
		return net;
	tap_release(net, config->tap);
	errno = -error;
	return NULL;
}

void net_close(struct net_backend *net)
{
	if (!net)
		return;
	tap_takes(net, 0); /* a persistent interface keeps it for the next one to attach */
	tap_release(net, true);
}

unsigned int net_offloads(const struct net_backend *net)
{
	return net->offloads;
}

int net_set_offload(struct net_backend *net, unsigned int tun_flags)
{
	if (tun_flags == net->offload)
		return 0;
	if (!tap_takes(net, tun_flags))
		return -errno;
	net->offload = tun_flags;
	return 0;
}

int net_send(struct net_backend *net, const struct iovec *iov, int count)
{
	return writev(net->fd, iov, count) < 0 ? -errno : 0;
}

ssize_t net_receive(struct net_backend *net, const struct iovec *iov, int count)
{
	ssize_t len = readv(net->fd, iov, count);

	return len < 0 ? -errno : len;
}

void net_set_receive(struct net_backend *net, bool on)
{
	if (on == net->receiving)
		return;
	net->receiving = on;
	if (net->source)
		event_set_events(net->source, on ? EPOLLIN : 0);
}

bool net_link_up(const struct net_backend *net)
{
	return net->link.up;
}

unsigned int net_mtu(const struct net_backend *net)
{
	return net->link.mtu;
}
