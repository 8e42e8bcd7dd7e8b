/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The tap back end on real interfaces, in a network namespace of its own (root; else skipped).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <linux/capability.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <linux/virtio_net.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "../../devicemodel/hw/net/net_link.h"
#include "net_lab.h"
#include "tap_lab.h"

#define TAP "tap-test"
#define BRIDGE "bridge-test"
#define FRAME 60
#define TAP_FLAGS (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)

struct lab {
	struct net_lab base;
	unsigned int readable, link_changes;
	bool up;
	bool leave; /* readable() takes nothing and switches reception off */
	uint8_t received[2048];
	ssize_t length;
};

static void on_readable(void *arg, unsigned int queue)
{
	struct lab *lab = arg;
	struct iovec iov = { lab->received, sizeof(lab->received) };

	lab->readable++;
	if (lab->leave)
		net_set_receive(lab->base.net, 0, false);
	else
		lab->length = net_receive(lab->base.net, 0, &iov, 1);
}

static void on_link(void *arg, bool up)
{
	struct lab *lab = arg;

	lab->link_changes++;
	lab->up = up;
}

static const struct net_backend_ops lab_ops = { .readable = on_readable, .link_changed = on_link };

static int setup(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));

	if (!lab)
		return -1;
	net_lab_init(&lab->base);
	*state = lab;
	return 0;
}

static int teardown(void **state)
{
	struct lab *lab = *state;

	net_lab_deinit(&lab->base);
	if (lab_exists(TAP))
		lab_delete(TAP);
	free(lab);
	return 0;
}

static struct net_backend *open_backend(struct lab *lab, const char *tap, int fd)
{
	const struct net_config config = { .tap = tap, .fd = fd, .queues = 1 };

	return net_lab_open(&lab->base, &config, &lab_ops, lab);
}

static void open_tap(struct lab *lab)
{
	lab->base.net = open_backend(lab, TAP, -1);
	if (!lab->base.net)
		fail_msg("%s", lab->base.captured.lines[0]);
}

/* Dispatch until @*value is @wanted, at most for two seconds. */
static void poll_until(struct lab *lab, const unsigned int *value, unsigned int wanted)
{
	for (int i = 0; i < 200 && *value != wanted; i++)
		event_loop_poll(lab->base.loop, 10);
	assert_int_equal(*value, wanted);
}

static void poll_for(struct lab *lab, int ms)
{
	for (; ms > 0; ms -= 5)
		event_loop_poll(lab->base.loop, 5);
}

static void fill_frame(uint8_t *frame, uint8_t seed)
{
	memset(frame, seed, FRAME);
	memset(frame, 0xff, ETH_ALEN);
	memcpy(frame + ETH_ALEN, "\x02\0\0\0\0\1\x88\xb5", 8);
}

/* Sent, and not lost after all. */
static bool sends(struct lab *lab, const struct iovec *iov, int count)
{
	int error = net_send(lab->base.net, 0, iov, count);

	return !net_flush(lab->base.net, 0) && !error;
}

/* ---- Life of an interface ---- */

static void creates_and_removes(void **state)
{
	struct lab *lab = *state;

	assert_false(lab_exists(TAP));
	open_tap(lab);
	assert_true(lab_is_up(TAP));
	assert_true(net_link_up(lab->base.net));
	assert_int_equal(net_mtu(lab->base.net), 1500);
	net_close(lab->base.net);
	lab->base.net = NULL;
	assert_false(lab_exists(TAP));
	assert_int_equal(lab->base.captured.count, 0);
	net_close(NULL);
}

static void follows_existing(void **state)
{
	struct lab *lab = *state;

	assert_int_equal(lab_add(TAP, IFF_TAP | IFF_NO_PI, -1), 0);
	open_tap(lab);
	assert_false(lab_is_up(TAP)); /* as it was */
	assert_false(net_link_up(lab->base.net));

	assert_int_equal(lab_set_up(TAP, true), 0);
	poll_until(lab, &lab->link_changes, 1);
	assert_true(lab->up && net_link_up(lab->base.net));
	assert_int_equal(lab_set_mtu(TAP, 9000), 0);
	for (int i = 0; i < 100 && net_mtu(lab->base.net) != 9000; i++)
		event_loop_poll(lab->base.loop, 10);
	assert_int_equal(net_mtu(lab->base.net), 9000);
	assert_int_equal(lab->link_changes, 1);
	assert_int_equal(lab_set_up(TAP, false), 0);
	poll_until(lab, &lab->link_changes, 2);
	assert_false(lab->up || net_link_up(lab->base.net));

	net_close(lab->base.net);
	lab->base.net = NULL;
	assert_true(lab_exists(TAP));
}

/* Other interfaces' news are not ours. */
static void ignores_others(void **state)
{
	struct lab *lab = *state;

	open_tap(lab);
	assert_int_equal(lab_add("tap-other", IFF_TAP, -1), 0);
	poll_for(lab, 20);
	assert_int_equal(lab_set_up("tap-other", true), 0);
	poll_for(lab, 20);
	assert_int_equal(lab_set_mtu("tap-other", 3000), 0);
	poll_for(lab, 20);
	assert_int_equal(lab_delete("tap-other"), 0);
	poll_for(lab, 20);
	assert_int_equal(lab->link_changes, 0);
	assert_true(net_link_up(lab->base.net));
	assert_int_equal(net_mtu(lab->base.net), 1500);
}

/* A bridge lost the interface as a port: RTM_DELLINK, and it is there as before. */
static void leaves_bridge(void **state)
{
	struct {
		struct nlmsghdr header;
		struct ifinfomsg info;
	} message = {
		.header = { .nlmsg_len = sizeof(message), .nlmsg_type = RTM_DELLINK },
		.info = { .ifi_family = AF_BRIDGE, .ifi_index = 7 },
	};
	struct net_link link = { .index = 7, .up = true };
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds), 0);
	link.fd = fds[0];
	assert_int_equal(send(fds[1], &message, sizeof(message), 0), sizeof(message));
	net_link_update(&link);
	assert_true(link.up && !link.gone);
	message.info.ifi_family = AF_UNSPEC;
	assert_int_equal(send(fds[1], &message, sizeof(message), 0), sizeof(message));
	net_link_update(&link);
	assert_true(!link.up && link.gone);
	close(fds[0]);
	close(fds[1]);
}

struct bridging {
	pthread_t thread;
	int errors;
	bool done;
};

static void *bridge_and_release(void *arg)
{
	struct bridging *bridging = arg;

	for (int i = 0; i < 50; i++) {
		struct ifreq request = { .ifr_ifindex = lab_index(TAP) };

		bridging->errors += !!lab_ioctl(BRIDGE, SIOCBRADDIF, &request);
		bridging->errors += !!lab_ioctl(BRIDGE, SIOCBRDELIF, &request);
	}
	__atomic_store_n(&bridging->done, true, __ATOMIC_RELEASE);
	return NULL;
}

/* And it is followed all the while, and afterwards. */
static void follows_through_bridges(void **state)
{
	struct bridging bridging = { 0 };
	struct ifreq request = { 0 };
	struct lab *lab = *state;

	assert_int_equal(lab_add(TAP, IFF_TAP | IFF_NO_PI, -1), 0);
	assert_int_equal(lab_set_up(TAP, true), 0);
	open_tap(lab);
	if (lab_ioctl(BRIDGE, SIOCBRADDBR, &request)) {
		print_message("skipped: the kernel has no bridges\n");
		skip();
	}
	assert_int_equal(pthread_create(&bridging.thread, NULL, bridge_and_release, &bridging), 0);
	while (!__atomic_load_n(&bridging.done, __ATOMIC_ACQUIRE))
		event_loop_poll(lab->base.loop, 1);
	pthread_join(bridging.thread, NULL);
	assert_int_equal(bridging.errors, 0);
	poll_for(lab, 10);
	assert_int_equal(lab->base.captured.count, 0);
	assert_int_equal(lab->link_changes, 0);
	assert_int_equal(lab_set_up(TAP, false), 0);
	poll_until(lab, &lab->link_changes, 1);
	assert_false(lab->up);
	assert_int_equal(lab_ioctl(BRIDGE, SIOCBRDELBR, &request), 0);
}

static void survives_removal(void **state)
{
	struct virtio_net_hdr_v1 header = { 0 };
	uint8_t frame[FRAME];
	struct iovec iov[] = { { &header, sizeof(header) }, { frame, FRAME } };
	struct lab *lab = *state;
	struct timespec before, after;

	assert_int_equal(lab_add(TAP, IFF_TAP | IFF_NO_PI, -1), 0);
	assert_int_equal(lab_set_up(TAP, true), 0);
	open_tap(lab);
	net_set_receive(lab->base.net, 0, true);
	assert_true(net_link_up(lab->base.net));
	assert_int_equal(lab_delete(TAP), 0);
	poll_until(lab, &lab->link_changes, 1);
	assert_false(lab->up || net_link_up(lab->base.net));
	assert_int_equal(lab->base.captured.count, 1);
	assert_non_null(strstr(lab->base.captured.lines[0], "interface " TAP " was removed"));

	/* the descriptor is in error for ever: the loop must not spin on it */
	for (int i = 0; i < 5; i++)
		event_loop_poll(lab->base.loop, 10);
	clock_gettime(CLOCK_MONOTONIC, &before);
	event_loop_poll(lab->base.loop, 100);
	clock_gettime(CLOCK_MONOTONIC, &after);
	assert_true((after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec >
		    90000000);
	fill_frame(frame, 1);
	assert_false(sends(lab, iov, 2));
	assert_int_equal(net_receive(lab->base.net, 0, iov, 2), -EBADFD);
	net_set_receive(lab->base.net, 0, false);
	net_set_receive(lab->base.net, 0, true);
	assert_int_equal(lab->base.captured.count, 1);
	assert_int_equal(lab->link_changes, 1);
}

/* ---- Frames ---- */

static void sends_and_receives(void **state)
{
	struct virtio_net_hdr_v1 header = { 0 };
	uint8_t frame[FRAME], seen[128];
	struct iovec iov[] = { { &header, sizeof(header) }, { frame, 20 }, { frame + 20, 40 } };
	struct lab *lab = *state;
	int packets;

	open_tap(lab);
	packets = lab_packet_socket(TAP, 0);
	assert_true(packets >= 0);
	fill_frame(frame, 0x11);
	assert_true(sends(lab, iov, 3));
	assert_int_equal(lab_receive(packets, seen, sizeof(seen), 1000), FRAME);
	assert_memory_equal(seen, frame, FRAME);

	assert_int_equal(net_receive(lab->base.net, 0, iov, 3), -EAGAIN);
	fill_frame(frame, 0x22);
	assert_int_equal(send(packets, frame, FRAME, 0), FRAME);
	event_loop_poll(lab->base.loop, 20);
	assert_int_equal(lab->readable, 0); /* reception is off at first */
	net_set_receive(lab->base.net, 0, true);
	poll_until(lab, &lab->readable, 1);
	assert_int_equal(lab->length, HEADER + FRAME);
	assert_memory_equal(lab->received, &(struct virtio_net_hdr_v1) { 0 }, HEADER - 2);
	assert_memory_equal(lab->received + HEADER, frame, FRAME);
	close(packets);
}

/* readable() is called as long as a frame waits, until it is switched off. */
static void readable_until_taken(void **state)
{
	struct lab *lab = *state;
	uint8_t frame[FRAME];
	int packets;

	open_tap(lab);
	packets = lab_packet_socket(TAP, 0);
	fill_frame(frame, 0x33);
	for (int i = 0; i < 3; i++)
		assert_int_equal(send(packets, frame, FRAME, 0), FRAME);
	lab->leave = true;
	net_set_receive(lab->base.net, 0, true);
	poll_until(lab, &lab->readable, 1);
	event_loop_poll(lab->base.loop, 20);
	assert_int_equal(lab->readable, 1);
	lab->leave = false;
	net_set_receive(lab->base.net, 0, true);
	poll_until(lab, &lab->readable, 4); /* one frame each */
	event_loop_poll(lab->base.loop, 20);
	assert_int_equal(lab->readable, 4);
	close(packets);
}

static void refuses_bad_header(void **state)
{
	struct virtio_net_hdr_v1 header = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
					    .csum_start = 60,
					    .csum_offset = 60 };
	uint8_t frame[FRAME];
	struct iovec iov[] = { { &header, sizeof(header) }, { frame, FRAME } };
	struct lab *lab = *state;

	open_tap(lab);
	fill_frame(frame, 0x44);
	assert_false(sends(lab, iov, 2));
	assert_int_equal(lab_set_up(TAP, false), 0);
	header = (struct virtio_net_hdr_v1) { 0 };
	assert_false(sends(lab, iov, 2));
}

/*
 * Batches of all sizes: every frame comes, in order, but for those with headers that cannot be; and
 * these are counted.
 */
static void batches(void **state)
{
	static struct virtio_net_hdr_v1 headers[NET_BATCH_MAX];
	static uint8_t frames[NET_BATCH_MAX][FRAME];
	struct lab *lab = *state;
	uint8_t seen[128];
	int packets;

	open_tap(lab);
	packets = lab_packet_socket(TAP, 0);
	for (unsigned int size = 1; size <= NET_BATCH_MAX; size++) {
		unsigned int refused = 0, lost;

		for (unsigned int i = 0; i < size; i++) {
			/* cut into many pieces now and then, which no batch has room for */
			struct iovec iov[FRAME + 1] = { { &headers[i], HEADER } };
			unsigned int pieces = i % 10 == 9 ? FRAME : 1;
			bool bad = i % 7 == 3;

			fill_frame(frames[i], (uint8_t)i);
			headers[i] = (struct virtio_net_hdr_v1) {
				.flags = bad ? VIRTIO_NET_HDR_F_NEEDS_CSUM : 0,
				.csum_start = bad ? FRAME : 0,
				.csum_offset = bad ? FRAME : 0
			};
			for (unsigned int piece = 0; piece < pieces; piece++)
				iov[1 + piece] =
					(struct iovec) { frames[i] + piece * (FRAME / pieces),
							 FRAME / pieces };
			refused += net_send(lab->base.net, 0, iov, (int)(1 + pieces)) < 0;
		}
		lost = net_flush(lab->base.net, 0);
		assert_int_equal(lost + refused, (size + 3) / 7);
		for (unsigned int i = 0; i < size; i++) {
			if (i % 7 == 3)
				continue;
			assert_int_equal(lab_receive(packets, seen, sizeof(seen), 1000), FRAME);
			assert_memory_equal(seen, frames[i], FRAME);
		}
		assert_int_equal(net_flush(lab->base.net, 0), 0);
	}
	assert_int_equal(lab_receive(packets, seen, sizeof(seen), 10), -1);
	close(packets);
}

static bool segments(const char *name)
{
	struct ethtool_value value = { .cmd = ETHTOOL_GTSO };
	struct ifreq request = { .ifr_data = (void *)&value };

	assert_int_equal(lab_ioctl(name, SIOCETHTOOL, &request), 0);
	return value.data;
}

static void offloads(void **state)
{
	struct lab *lab = *state;
	unsigned int all;

	assert_int_equal(lab_add(TAP, IFF_TAP | IFF_NO_PI, -1), 0);
	open_tap(lab);
	all = net_offloads(lab->base.net);
	assert_int_equal(all & (TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6),
			 TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6);
	assert_int_equal(net_set_offload(lab->base.net, all), 0);
	assert_int_equal(net_set_offload(lab->base.net, TUN_F_TSO4),
			 -EINVAL); /* without checksums */
	assert_true(segments(TAP));
	assert_int_equal(net_set_offload(lab->base.net, TUN_F_CSUM), 0);
	assert_false(segments(TAP));
	assert_int_equal(net_set_offload(lab->base.net, all), 0);
	net_close(lab->base.net); /* the next to attach may not know of it */
	lab->base.net = NULL;
	assert_false(segments(TAP));
}

/* ---- Errors: one line each, and nothing is left behind ---- */

static void expect_refused(struct lab *lab, const char *tap, int fd, int error, const char *cause)
{
	unsigned int lines = lab->base.captured.count;

	errno = 0;
	assert_null(open_backend(lab, tap, fd));
	if (errno != error)
		fail_msg("errno %d for: %s", errno, lab->base.captured.lines[lines]);
	assert_int_equal(lab->base.captured.count, lines + 1);
	assert_int_equal(lab->base.captured.levels[lines], LOG_LEVEL_ERROR);
	if (!strstr(lab->base.captured.lines[lines], cause))
		fail_msg("no \"%s\" in: %s", cause, lab->base.captured.lines[lines]);
	print_message("  %s\n", lab->base.captured.lines[lines]);
}

static void bad_names(void **state)
{
	static const char *const names[] = { "", "tap%d", "a/b", "a b", "a:b", ".", ".." };
	struct lab *lab = *state;

	expect_refused(lab, "a123456789012345", -1, EINVAL, "at most 15 characters");
	for (unsigned int i = 0; i < ARRAY_SIZE(names); i++)
		expect_refused(lab, names[i], -1, EINVAL, "not an interface name");
}

static void wrong_kinds(void **state)
{
	struct lab *lab = *state;

	expect_refused(lab, "lo", -1, EINVAL, "not a tap");
	assert_int_equal(lab_add(TAP, IFF_TUN | IFF_NO_PI, -1), 0);
	expect_refused(lab, TAP, -1, EINVAL, "mode tap");
	assert_int_equal(lab_delete(TAP), 0);
	assert_int_equal(lab_add(TAP, IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE, -1), 0);
	expect_refused(lab, TAP, -1, EINVAL, "without multi_queue");
	assert_true(lab_exists(TAP));
}

static void busy(void **state)
{
	struct lab *lab = *state;
	int fd = lab_open_tun(TAP, TAP_FLAGS);

	assert_true(fd >= 0);
	expect_refused(lab, TAP, -1, EBUSY, "in use by another process");
	close(fd);
	open_tap(lab);
}

static void drop_net_admin(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data))
		_exit(99);
	data[CAP_NET_ADMIN / 32].effective &= ~(1U << (CAP_NET_ADMIN % 32));
	if (syscall(SYS_capset, &header, data))
		_exit(99);
}

static void drop_to_nobody(void)
{
	if (setuid(65534))
		_exit(99);
}

/* In a child, which loses its privileges: 0 if it is refused with that error and line. */
static void expect_refused_child(struct lab *lab, void (*drop)(void), int error, const char *cause)
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (!child) {
		drop();
		if (open_backend(lab, TAP, -1))
			_exit(1);
		if (errno != error || lab->base.captured.count != 1)
			_exit(2);
		fprintf(stderr, "  %s\n", lab->base.captured.lines[0]);
		_exit(strstr(lab->base.captured.lines[0], cause) ? 0 : 3);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void not_permitted(void **state)
{
	struct lab *lab = *state;
	struct stat tun;

	expect_refused_child(lab, drop_net_admin, EPERM, "cannot create the interface");
	assert_false(lab_exists(TAP));
	assert_int_equal(lab_add(TAP, IFF_TAP | IFF_NO_PI, 4711), 0);
	expect_refused_child(lab, drop_net_admin, EPERM,
			     "ip tuntap add dev " TAP " mode tap user 0");
	assert_int_equal(lab_delete(TAP), 0);
	assert_int_equal(stat("/dev/net/tun", &tun), 0);
	if (geteuid() == 0) /* distributions differ in who may open it */
		expect_refused_child(lab, drop_to_nobody, (tun.st_mode & 06) == 06 ? EPERM : EACCES,
				     "run as root");
}

/* ---- fd= ---- */

static void takes_descriptor(void **state)
{
	struct lab *lab = *state;
	int fd = lab_open_tun(TAP, TAP_FLAGS), packets;
	uint8_t frame[FRAME];

	assert_true(fd >= 0);
	lab->base.net = open_backend(lab, NULL, fd);
	assert_non_null(lab->base.net);
	assert_false(net_link_up(lab->base.net)); /* whoever made it sets it up */
	assert_int_equal(lab_set_up(TAP, true), 0);
	poll_until(lab, &lab->link_changes, 1);
	packets = lab_packet_socket(TAP, 0);
	fill_frame(frame, 0x55);
	net_set_receive(lab->base.net, 0, true);
	assert_int_equal(send(packets, frame, FRAME, 0), FRAME);
	poll_until(lab, &lab->readable, 1);
	assert_int_equal(lab->length, HEADER + FRAME);
	close(packets);
	net_close(lab->base.net);
	lab->base.net = NULL;
	assert_int_equal(fcntl(fd, F_GETFD), -1); /* closed with it */
}

/* A name from elsewhere may also be one of ours: then it is not looked at. */
static void descriptor_from_elsewhere(void **state)
{
	struct lab *lab = *state;
	int here = open("/proc/self/ns/net", O_RDONLY), fd;

	assert_int_equal(unshare(CLONE_NEWNET), 0);
	fd = lab_open_tun(TAP, TAP_FLAGS);
	assert_int_equal(setns(here, CLONE_NEWNET), 0);
	close(here);
	assert_true(fd >= 0);
	assert_int_equal(lab_add(TAP, IFF_TAP | IFF_NO_PI, -1), 0); /* another one, down */
	lab->base.net = open_backend(lab, NULL, fd);
	assert_non_null(lab->base.net);
	assert_true(net_link_up(lab->base.net));
	assert_int_equal(net_mtu(lab->base.net), 0);
}

static void bad_descriptors(void **state)
{
	static const struct {
		int flags;
		const char *cause;
	} kinds[] = { { IFF_TUN | IFF_NO_PI | IFF_VNET_HDR, "IFF_TAP" },
		      { IFF_TAP | IFF_NO_PI, "IFF_VNET_HDR" } };
	struct lab *lab = *state;
	int fd = open("/dev/null", O_RDWR);

	expect_refused(lab, NULL, fd, ENOTTY, "not an open tap");
	close(fd);
	expect_refused(lab, NULL, fd, EBADF, "not an open tap");
	for (unsigned int i = 0; i < ARRAY_SIZE(kinds); i++) {
		fd = lab_open_tun(TAP, kinds[i].flags);
		assert_true(fd >= 0);
		expect_refused(lab, NULL, fd, EINVAL, kinds[i].cause);
		assert_int_equal(close(fd), 0); /* still ours */
	}
	fd = lab_open_tun(TAP, TAP_FLAGS);
	lab->base.net = open_backend(lab, NULL, fd);
	assert_non_null(lab->base.net);
	expect_refused(lab, NULL, fd, EEXIST, "another device has this tap");
	assert_true(fcntl(fd, F_GETFD) >= 0);
}

/* Another header is for as long as it is asked for, even on an interface that stays. */
static void header_size(void **state)
{
	struct lab *lab = *state;

	assert_int_equal(lab_add(TAP, TAP_FLAGS, -1), 0);
	for (unsigned int i = 0; i < 2; i++) {
		int size = 0;

		open_tap(lab);
		assert_int_equal(ioctl(net_queue_fd(lab->base.net, 0), TUNGETVNETHDRSZ, &size), 0);
		assert_int_equal(size, HEADER);
		assert_int_equal(net_set_header_size(lab->base.net, 10), 0);
		assert_int_equal(ioctl(net_queue_fd(lab->base.net, 0), TUNGETVNETHDRSZ, &size), 0);
		assert_int_equal(size, 10);
		assert_int_equal(net_set_header_size(lab->base.net, 9), -EINVAL);
		net_close(lab->base.net);
		lab->base.net = NULL;
	}
}

/* The one queue that there is. */
static void set_queues(void **state)
{
	struct lab *lab = *state;

	open_tap(lab);
	assert_int_equal(net_set_queues(lab->base.net, 0), -EINVAL);
	assert_int_equal(net_set_queues(lab->base.net, 2), -EINVAL);
	assert_int_equal(net_set_queues(lab->base.net, 1), 0);
}

static void no_taps(void **state)
{
	skip(); /* lab_enter() said why */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		TEST(creates_and_removes),
		TEST(follows_existing),
		TEST(ignores_others),
		TEST(leaves_bridge),
		TEST(follows_through_bridges),
		TEST(survives_removal),
		TEST(sends_and_receives),
		TEST(readable_until_taken),
		TEST(refuses_bad_header),
		TEST(batches),
		TEST(offloads),
		TEST(bad_names),
		TEST(wrong_kinds),
		TEST(busy),
		TEST(not_permitted),
		TEST(takes_descriptor),
		TEST(descriptor_from_elsewhere),
		TEST(bad_descriptors),
		TEST(header_size),
		TEST(set_queues),
	};

	const struct CMUnitTest none[] = { cmocka_unit_test(no_taps),
					   cmocka_unit_test(leaves_bridge) };

	if (!lab_enter())
		return cmocka_run_group_tests(none, NULL, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
