/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Getting hold of a tap: /dev/net/tun by interface name, or one that is already open; and why it
 * cannot be had, and what to do.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net_tap.h"

#define TUN_DEVICE "/dev/net/tun"
#define TAP_FLAGS (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)

/* One ioctl of netdevice(7) on the interface named in @request. 0 or -errno. */
int interface_ioctl(unsigned long command, struct ifreq *request)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int error;

	if (fd < 0)
		return -errno;
	error = ioctl(fd, command, request) < 0 ? -errno : 0;
	close(fd);
	return error;
}

void interface_request_init(struct ifreq *request, const char *name)
{
	memset(request, 0, sizeof(*request));
	snprintf(request->ifr_name, IFNAMSIZ, "%s", name);
}

static bool interface_exists(const char *name)
{
	struct ifreq request;

	interface_request_init(&request, name);
	return !interface_ioctl(SIOCGIFINDEX, &request);
}

/* Is it up, with somebody who sends and receives? */
static bool interface_has_carrier(const char *name)
{
	struct ethtool_value link = { .cmd = ETHTOOL_GLINK };
	struct ifreq request;

	interface_request_init(&request, name);
	request.ifr_data = (void *)&link;
	return !interface_ioctl(SIOCETHTOOL, &request) && link.data;
}

static int interface_set_up(const char *name)
{
	struct ifreq request;
	int error;

	interface_request_init(&request, name);
	error = interface_ioctl(SIOCGIFFLAGS, &request);
	if (error)
		return error;
	request.ifr_flags |= IFF_UP;
	return interface_ioctl(SIOCSIFFLAGS, &request);
}

/* ---- Messages: why a tap cannot be had, and what to do ---- */

static int complain_device(struct tap *tap, const char *name, int error)
{
	const char *remedy = "";

	if (error == ENOENT || error == ENODEV || error == ENXIO)
		remedy = " (load the driver: modprobe tun)";
	else if (error == EACCES || error == EPERM)
		remedy = " (run as root, or hand over an open tap with fd=)";
	errno = error;
	log_error(tap->log, "%s: tap=%s: cannot open " TUN_DEVICE ": %m%s", tap->what, name,
		  remedy);
	return -error;
}

/* TUNSETIFF says EINVAL for whatever kind of interface it is that is not ours. */
static int complain_kind(struct tap *tap, const char *name)
{
	struct ethtool_drvinfo info = { .cmd = ETHTOOL_GDRVINFO };
	struct ifreq request;

	interface_request_init(&request, name);
	request.ifr_data = (void *)&info;
	if (interface_ioctl(SIOCETHTOOL, &request) || strcmp(info.driver, "tun") != 0)
		log_error(tap->log,
			  "%s: tap=%s: this interface is not a tap (name another one, or one that "
			  "does not exist yet)",
			  tap->what, name);
	else if (strcmp(info.bus_info, "tap") != 0)
		log_error(tap->log,
			  "%s: tap=%s: this interface is a tun, which carries no Ethernet (create "
			  "it with: ip tuntap add dev %s mode tap)",
			  tap->what, name, name);
	else if (tap->count > 1)
		log_error(tap->log,
			  "%s: tap=%s: this tap has one queue, queues=%u needs one with several "
			  "(create it with: ip tuntap add dev %s mode tap multi_queue)",
			  tap->what, name, tap->count, name);
	else
		log_error(tap->log,
			  "%s: tap=%s: this tap has several queues (create it without multi_queue, "
			  "or use queues=2 or more)",
			  tap->what, name);
	return -EINVAL;
}

static int complain_attach(struct tap *tap, const char *name, bool exists, int error)
{
	errno = error;
	if (error == EINVAL && exists)
		return complain_kind(tap, name);
	if (error == EPERM && exists)
		log_error(tap->log,
			  "%s: tap=%s: not ours to use: %m (run as root, or create it with: ip "
			  "tuntap add dev %s mode tap user %u)",
			  tap->what, name, name, geteuid());
	else if (error == EPERM)
		log_error(tap->log,
			  "%s: tap=%s: cannot create the interface: %m (run as root, or create it "
			  "with: ip tuntap add dev %s mode tap user %u)",
			  tap->what, name, name, geteuid());
	else if (error == EBUSY)
		log_error(tap->log,
			  "%s: tap=%s: in use by another process (a tap serves one device: name "
			  "another one)",
			  tap->what, name);
	else
		log_error(tap->log, "%s: tap=%s: cannot attach to the interface: %m", tap->what,
			  name);
	return -error;
}

/* ---- Getting hold of a tap ---- */

/* What the kernel would take for a pattern ("tap%d") or refuse without saying why. */
static int check_name(struct tap *tap, const char *name)
{
	size_t len = strlen(name);

	if (len >= IFNAMSIZ)
		log_error(tap->log,
			  "%s: tap=%s: the name is too long (an interface name has at most %d "
			  "characters)",
			  tap->what, name, IFNAMSIZ - 1);
	else if (!len || strpbrk(name, "/:% \t\n") || !strcmp(name, ".") || !strcmp(name, ".."))
		log_error(tap->log,
			  "%s: tap=%s: not an interface name (use letters, digits, - and _)",
			  tap->what, name);
	else
		return 0;
	return -EINVAL;
}

/* Another queue of the interface in @request, which names it from then on. 0 or -errno. */
static int tap_attach(struct tap *tap, struct ifreq *request, unsigned int queue)
{
	tap->fds[queue] = open(TUN_DEVICE, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (tap->fds[queue] < 0)
		return -errno;
	request->ifr_flags = TAP_FLAGS | (tap->count > 1 ? IFF_MULTI_QUEUE : 0);
	return ioctl(tap->fds[queue], TUNSETIFF, request) < 0 ? -errno : 0;
}

static int tap_attach_others(struct tap *tap, struct ifreq *request)
{
	for (unsigned int queue = 1; queue < tap->count; queue++) {
		int error = tap_attach(tap, request, queue);

		if (!error)
			continue;
		errno = -error;
		log_error(tap->log,
			  "%s: tap=%s: cannot attach queue %u of queues=%u: %m (is somebody else "
			  "using the interface?)",
			  tap->what, tap->name, queue + 1, tap->count);
		return error;
	}
	return 0;
}

static int tap_open_name(struct tap *tap, const char *name)
{
	struct ifreq request;
	bool exists, in_use;
	int error = check_name(tap, name);

	if (error)
		return error;
	exists = interface_exists(name);
	/* The kernel would give a second process queues of the same interface. */
	in_use = tap->count > 1 && interface_has_carrier(name);
	interface_request_init(&request, name);
	error = tap_attach(tap, &request, 0);
	if (error && tap->fds[0] < 0)
		return complain_device(tap, name, -error);
	if (error || in_use)
		return complain_attach(tap, name, exists, error ? -error : EBUSY);
	snprintf(tap->name, sizeof(tap->name), "%.*s", IFNAMSIZ - 1, request.ifr_name);
	error = tap_attach_others(tap, &request);
	if (error || exists)
		return error; /* up or down: as its administrator left it */
	error = interface_set_up(tap->name);
	if (error) {
		errno = -error;
		log_error(tap->log, "%s: tap=%s: cannot set the new interface up: %m", tap->what,
			  name);
	}
	return error;
}

/* Whether IFF_NO_PI is set cannot be asked: TUNGETIFF has IFF_NOFILTER in that bit. */
static int tap_open_fd(struct tap *tap, int fd)
{
	struct ifreq request = { 0 };
	const char *trouble = NULL;
	int flags = fcntl(fd, F_GETFL);

	if (tap->count > 1) {
		log_error(tap->log,
			  "%s: fd=%d is one queue, and queues=%u wants more (give tap=NAME, or "
			  "queues=1)",
			  tap->what, fd, tap->count);
		return -EINVAL;
	}
	if (flags < 0 || ioctl(fd, TUNGETIFF, &request) < 0) {
		int error = errno;

		log_error(tap->log,
			  "%s: fd=%d: not an open tap: %m (open " TUN_DEVICE
			  " and attach it with TUNSETIFF first)",
			  tap->what, fd);
		return -error;
	}
	if (!(request.ifr_flags & IFF_TAP))
		trouble = "is a tun, which carries no Ethernet (attach it with IFF_TAP)";
	else if (!(request.ifr_flags & IFF_VNET_HDR))
		trouble =
			"has no virtio header in front of its frames (attach it with IFF_VNET_HDR)";
	if (trouble) {
		log_error(tap->log, "%s: fd=%d: interface %.*s %s", tap->what, fd, IFNAMSIZ - 1,
			  request.ifr_name, trouble);
		return -EINVAL;
	}
	if (fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	tap->fds[0] = fd;
	snprintf(tap->name, sizeof(tap->name), "%.*s", IFNAMSIZ - 1, request.ifr_name);
	return 0;
}

int tap_open(struct tap *tap, const struct net_config *config)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(tap->fds); i++)
		tap->fds[i] = -1;
	tap->count = config->queues;
	return config->tap ? tap_open_name(tap, config->tap) : tap_open_fd(tap, config->fd);
}
