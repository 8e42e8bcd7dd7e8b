/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The back ends that need no tap: Unix sockets with peers that behave and that do not, and the
 * options of all. Needs no root.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "net_lab.h"

#define FRAME_MAX 65553
#define FRAMES 64

/*
 * @got, @lengths, @first: frames received, their lengths with header, the first byte after it
 * @greedy: take all there is when called, else one frame
 */
struct lab {
	struct net_lab base;
	char folder[32], path[64], local[64];
	unsigned int got, link_changes;
	bool up, greedy;
	ssize_t lengths[FRAMES];
	uint8_t first[FRAMES], last[FRAMES];
	uint8_t buffer[HEADER + FRAME_MAX + 100];
};

static void take_one(struct lab *lab)
{
	struct iovec iov[] = { { lab->buffer, 30 },
			       { lab->buffer + 30, sizeof(lab->buffer) - 30 } };
	ssize_t len = net_receive(lab->base.net, 0, iov, 2);
	unsigned int at = lab->got % FRAMES;

	if (len < 0) {
		assert_int_equal(len, -EAGAIN);
		return;
	}
	for (unsigned int i = 0; i < HEADER; i++)
		assert_int_equal(lab->buffer[i], 0);
	lab->lengths[at] = len;
	lab->first[at] = lab->buffer[HEADER];
	lab->last[at] = lab->buffer[len - 1];
	lab->got++;
}

static void on_readable(void *arg, unsigned int queue)
{
	struct lab *lab = arg;
	unsigned int before;

	assert_int_equal(queue, 0);
	do {
		before = lab->got;
		take_one(lab);
	} while (lab->greedy && lab->got > before);
}

static void on_link(void *arg, bool up)
{
	struct lab *lab = arg;

	assert_true(lab->up != up);
	lab->up = up;
	lab->link_changes++;
}

static const struct net_backend_ops lab_ops = { .readable = on_readable, .link_changed = on_link };

static int setup(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));

	if (!lab)
		return -1;
	net_lab_init(&lab->base);
	strcpy(lab->folder, "/tmp/tenon-net-XXXXXX");
	*state = lab;
	if (!mkdtemp(lab->folder))
		return -1;
	snprintf(lab->path, sizeof(lab->path), "%s/peer", lab->folder);
	snprintf(lab->local, sizeof(lab->local), "%s/local", lab->folder);
	return 0;
}

static int teardown(void **state)
{
	struct lab *lab = *state;

	net_lab_deinit(&lab->base);
	unlink(lab->path);
	unlink(lab->local);
	rmdir(lab->folder);
	free(lab);
	return 0;
}

static struct net_backend *open_backend(struct lab *lab, const struct net_config *config)
{
	return net_lab_open(&lab->base, config, &lab_ops, lab);
}

static void open_good(struct lab *lab, const struct net_config *config)
{
	lab->base.net = open_backend(lab, config);
	if (!lab->base.net)
		fail_msg("%s", lab->base.captured.lines[0]);
	lab->up = net_link_up(lab->base.net);
	net_set_receive(lab->base.net, 0, true);
}

static void open_stream(struct lab *lab, bool server)
{
	const struct net_config config = {
		.kind = NET_STREAM, .fd = -1, .queues = 1, .path = lab->path, .server = server
	};

	open_good(lab, &config);
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

/* ---- The peer ---- */

static int peer_socket(const char *path, int type, bool listening)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	assert_true(fd >= 0);
	if (!listening)
		assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	else
		assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	if (listening && type == SOCK_STREAM)
		assert_int_equal(listen(fd, 1), 0);
	return fd;
}

static int peer_connect(struct lab *lab)
{
	unsigned int changes = lab->link_changes;
	int fd = peer_socket(lab->path, SOCK_STREAM, false);

	poll_until(lab, &lab->link_changes, changes + 1);
	assert_true(lab->up && net_link_up(lab->base.net));
	return fd;
}

static size_t put_frame(uint8_t *to, uint32_t len, uint8_t fill)
{
	uint32_t length = htonl(len);

	memcpy(to, &length, sizeof(length));
	memset(to + sizeof(length), fill, len);
	return sizeof(length) + len;
}

static void peer_send(int fd, const void *bytes, size_t len)
{
	assert_int_equal(send(fd, bytes, len, MSG_NOSIGNAL), len);
}

static void expect_frame(const struct lab *lab, unsigned int index, size_t len, uint8_t fill)
{
	assert_int_equal(lab->lengths[index], HEADER + len);
	assert_int_equal(lab->first[index], fill);
	assert_int_equal(lab->last[index], fill);
}

static int send_frame(struct lab *lab, uint8_t fill, size_t len)
{
	struct virtio_net_hdr_v1 header = { .num_buffers = 7 };
	static uint8_t frame[FRAME_MAX];
	struct iovec iov[] = { { &header, sizeof(header) }, { frame, 7 }, { frame + 7, len - 7 } };

	memset(frame, fill, len);
	return net_send(lab->base.net, 0, iov, 3);
}

/* ---- Streams ---- */

/* Whatever pieces they come in, frames are the same. */
static void stream_pieces(void **state)
{
	static const size_t pieces[] = { 1, 2, 3, 5, 7, 60, 64, 1000 };
	static uint8_t bytes[3 * (4 + 2000)];
	struct lab *lab = *state;
	size_t len = put_frame(bytes, 60, 1);
	int fd;

	len += put_frame(bytes + len, 1514, 2);
	len += put_frame(bytes + len, 14, 3);
	open_stream(lab, true);
	assert_false(net_link_up(lab->base.net));
	fd = peer_connect(lab);
	for (unsigned int i = 0; i < ARRAY_SIZE(pieces); i++) {
		lab->got = 0;
		for (size_t at = 0; at < len; at += pieces[i]) {
			peer_send(fd, bytes + at, MIN(pieces[i], len - at));
			event_loop_poll(lab->base.loop, 0);
		}
		poll_until(lab, &lab->got, 3);
		expect_frame(lab, 0, 60, 1);
		expect_frame(lab, 1, 1514, 2);
		expect_frame(lab, 2, 14, 3);
	}
	close(fd);
}

/* All of a burst comes, in order, though nobody takes more than one frame at a time. */
static void stream_burst(void **state)
{
	static uint8_t bytes[FRAMES * (4 + 1000)];
	struct lab *lab = *state;
	size_t len = 0;
	int fd;

	open_stream(lab, true);
	fd = peer_connect(lab);
	for (unsigned int i = 0; i < FRAMES; i++)
		len += put_frame(bytes + len, 100 + i, (uint8_t)i);
	peer_send(fd, bytes, len);
	poll_until(lab, &lab->got, FRAMES);
	for (unsigned int i = 0; i < FRAMES; i++)
		expect_frame(lab, i, 100 + i, (uint8_t)i);
	close(fd);
}

static void stream_sends(void **state)
{
	struct lab *lab = *state;
	uint8_t bytes[4 + 60 + 4 + 1514];
	int fd;

	open_stream(lab, true);
	assert_int_equal(send_frame(lab, 9, 60), -ENOTCONN);
	assert_int_equal(net_flush(lab->base.net, 0), 0);
	fd = peer_connect(lab);
	assert_int_equal(send_frame(lab, 9, 60), 0);
	assert_int_equal(send_frame(lab, 8, 1514), 0);
	assert_int_equal(net_flush(lab->base.net, 0), 0);
	assert_int_equal(recv(fd, bytes, sizeof(bytes), MSG_WAITALL), sizeof(bytes));
	assert_memory_equal(bytes, "\0\0\0\x3c\x9\x9", 6);
	assert_memory_equal(bytes + 64, "\0\0\5\xea\x8\x8", 6);
	close(fd);
}

/* Frames that are too short are the user's to refuse; nothing is out of step afterwards. */
static void stream_empty_frame(void **state)
{
	struct lab *lab = *state;
	uint8_t bytes[4 + 4 + 4 + 60];
	size_t len = put_frame(bytes, 0, 0);
	int fd;

	len += put_frame(bytes + len, 0, 0);
	len += put_frame(bytes + len, 60, 5);
	open_stream(lab, true);
	fd = peer_connect(lab);
	peer_send(fd, bytes, len);
	poll_until(lab, &lab->got, 3);
	assert_int_equal(lab->lengths[0], HEADER);
	assert_int_equal(lab->lengths[1], HEADER);
	expect_frame(lab, 2, 60, 5);
	close(fd);
}

static void stream_largest_frame(void **state)
{
	static uint8_t bytes[4 + FRAME_MAX];
	struct lab *lab = *state;
	size_t len = put_frame(bytes, FRAME_MAX, 0x77);
	int fd;

	open_stream(lab, true);
	fd = peer_connect(lab);
	for (size_t at = 0; at < len; at += 4096) {
		peer_send(fd, bytes + at, MIN(4096, len - at));
		event_loop_poll(lab->base.loop, 0);
	}
	poll_until(lab, &lab->got, 1);
	expect_frame(lab, 0, FRAME_MAX, 0x77);
	assert_int_equal(send_frame(lab, 0x66, FRAME_MAX), 0);
	assert_int_equal(net_flush(lab->base.net, 0), 0);
	for (size_t at = 0; at < len;) {
		ssize_t some = recv(fd, bytes + at, len - at, MSG_DONTWAIT);

		if (some > 0)
			at += (size_t)some;
		else
			event_loop_poll(lab->base.loop, 10);
	}
	assert_memory_equal(bytes, "\0\1\0\x11\x66", 5);
	assert_int_equal(bytes[len - 1], 0x66);
	close(fd);
}

/* Lengths that cannot be: the peer is hung up on, and the next one finds everything as new. */
static void stream_lies(void **state)
{
	static const uint32_t lies[] = { 69633, 0x10000000, 0x7fffffff, 0x80000000, 0xffffffff };
	struct lab *lab = *state;
	uint8_t bytes[100];
	char byte;

	open_stream(lab, true);
	for (unsigned int i = 0; i < ARRAY_SIZE(lies); i++) {
		uint32_t lie = htonl(lies[i]);
		size_t len = put_frame(bytes, 20, 1);
		int fd = peer_connect(lab);

		lab->got = 0;
		memcpy(bytes + len, &lie, 4);
		peer_send(fd, bytes, len + 4);
		poll_until(lab, &lab->link_changes, 2 * i + 2);
		assert_false(lab->up || net_link_up(lab->base.net));
		assert_int_equal(lab->got, 1);
		assert_true(recv(fd, &byte, 1, 0) <= 0);
		close(fd);
	}
	close(peer_connect(lab));
	assert_non_null(strstr(lab->base.captured.lines[1], "the peer sends no frames"));
}

/* What is half there when the peer goes is gone with it; who receives nothing hears of it too. */
static void stream_peer_goes(void **state)
{
	struct lab *lab = *state;
	uint8_t bytes[4 + 60];
	int fd;

	put_frame(bytes, 60, 4);
	open_stream(lab, true);
	for (unsigned int i = 1; i < sizeof(bytes); i += 9) {
		net_set_receive(lab->base.net, 0, i % 2);
		fd = peer_connect(lab);
		peer_send(fd, bytes, i);
		event_loop_poll(lab->base.loop, 0);
		close(fd);
		poll_for(lab, 20);
		assert_false(lab->up);
		assert_int_equal(lab->got, 0);
	}
	net_set_receive(lab->base.net, 0, true);
	fd = peer_connect(lab);
	peer_send(fd, bytes, sizeof(bytes));
	poll_until(lab, &lab->got, 1);
	expect_frame(lab, 0, 60, 4);
	close(fd);
}

/* A second peer waits until the first is gone. */
static void stream_second_peer(void **state)
{
	struct lab *lab = *state;
	uint8_t bytes[4 + 60];
	int first, second;

	put_frame(bytes, 60, 4);
	open_stream(lab, true);
	first = peer_connect(lab);
	second = peer_socket(lab->path, SOCK_STREAM, false);
	peer_send(second, bytes, sizeof(bytes));
	poll_for(lab, 20);
	assert_int_equal(lab->got, 0);
	close(first);
	poll_until(lab, &lab->link_changes, 3);
	assert_true(lab->up);
	poll_until(lab, &lab->got, 1);
	close(second);
}

/* It never blocks, keeps no more than it has room for, and sends whole frames when it goes on. */
static void stream_peer_stops_reading(void **state)
{
	unsigned int sent = 0, dropped = 0, read = 0;
	struct lab *lab = *state;
	uint8_t bytes[4 + 1000];
	int last = -1, fd;

	open_stream(lab, true);
	fd = peer_connect(lab);
	for (unsigned int i = 0; i < 20000; i++) {
		int error = send_frame(lab, (uint8_t)sent, 1000);

		assert_true(!error || error == -EAGAIN);
		if (error)
			dropped++;
		else
			sent++;
		if (i % 32 == 0)
			assert_int_equal(net_flush(lab->base.net, 0), 0);
	}
	assert_true(dropped > 10000);
	while (read < sent) {
		size_t at = 0;

		while (at < sizeof(bytes)) {
			ssize_t len = recv(fd, bytes + at, sizeof(bytes) - at, MSG_DONTWAIT);

			if (len > 0)
				at += (size_t)len;
			else
				event_loop_poll(lab->base.loop, 100);
		}
		assert_memory_equal(bytes, "\0\0\3\xe8", 4);
		assert_int_equal(bytes[4], (uint8_t)(last + 1));
		assert_int_equal(bytes[1003], bytes[4]);
		last = bytes[4];
		read++;
	}
	assert_int_equal(send_frame(lab, 1, 60), 0);
	assert_int_equal(net_flush(lab->base.net, 0), 0);
	close(fd);
}

/* Likewise the other way: what nobody takes is left in the socket, and comes when it is wanted. */
static void stream_not_receiving(void **state)
{
	struct lab *lab = *state;
	unsigned int sent = 0;
	uint8_t bytes[4 + 1000];
	int fd;

	open_stream(lab, true);
	fd = peer_connect(lab);
	net_set_receive(lab->base.net, 0, false);
	put_frame(bytes, 1000, 3);
	for (unsigned int i = 0; i < 20; i++) {
		while (send(fd, bytes, sizeof(bytes), MSG_DONTWAIT) == sizeof(bytes))
			sent++;
		poll_for(lab, 5);
	}
	assert_true(sent > 100 && sent < 4000);
	assert_int_equal(lab->got, 0);
	lab->greedy = true;
	net_set_receive(lab->base.net, 0, true);
	for (int i = 0; i < 200 && lab->got < sent; i++)
		event_loop_poll(lab->base.loop, 10);
	assert_true(lab->got >= sent);
	assert_int_equal(lab->link_changes, 1);
	close(fd);
}

/* A client may be there before its server, and outlive it. */
static void stream_client(void **state)
{
	struct lab *lab = *state;
	uint8_t bytes[4 + 60];
	int listener, fd;

	open_stream(lab, false);
	assert_false(net_link_up(lab->base.net));
	assert_non_null(strstr(lab->base.captured.lines[0], "nobody listens there yet"));
	put_frame(bytes, 60, 4);
	for (unsigned int i = 0; i < 3; i++) {
		poll_for(lab, 20);
		listener = peer_socket(lab->path, SOCK_STREAM, true);
		poll_until(lab, &lab->link_changes, 2 * i + 1);
		assert_true(lab->up);
		fd = accept(listener, NULL, NULL);
		peer_send(fd, bytes, sizeof(bytes));
		poll_until(lab, &lab->got, i + 1);
		peer_send(fd, bytes, 17);
		poll_for(lab, 5);
		close(listener);
		unlink(lab->path);
		close(fd);
		poll_until(lab, &lab->link_changes, 2 * i + 2);
		assert_false(lab->up);
		assert_int_equal(send_frame(lab, 1, 60), -ENOTCONN);
	}
}

static void stream_connects_at_once(void **state)
{
	struct lab *lab = *state;
	int listener = peer_socket(lab->path, SOCK_STREAM, true);

	open_stream(lab, false);
	assert_true(net_link_up(lab->base.net));
	assert_int_equal(lab->base.captured.count, 0);
	close(listener);
}

/* The socket's file is there while it serves, replaces one that nobody listens on, and goes. */
static void stream_file(void **state)
{
	struct lab *lab = *state;

	close(peer_socket(lab->path, SOCK_STREAM, true));
	open_stream(lab, true);
	close(peer_connect(lab));
	net_close(lab->base.net);
	lab->base.net = NULL;
	assert_int_equal(access(lab->path, F_OK), -1);
}

/* ---- Datagrams ---- */

static void open_dgram(struct lab *lab)
{
	const struct net_config config = {
		.kind = NET_DGRAM, .fd = -1, .queues = 1, .path = lab->path, .local = lab->local
	};

	open_good(lab, &config);
}

static void dgram_exchange(void **state)
{
	struct lab *lab = *state;
	uint8_t frame[2000] = { 0 };
	int peer, to;

	open_dgram(lab);
	assert_true(net_link_up(lab->base.net));
	assert_int_equal(send_frame(lab, 1, 60), -ENOENT); /* nobody there */
	peer = peer_socket(lab->path, SOCK_DGRAM, true);
	to = peer_socket(lab->local, SOCK_DGRAM, false);
	assert_int_equal(send_frame(lab, 1, 1514), 0);
	assert_int_equal(recv(peer, frame, sizeof(frame), 0), 1514);
	assert_int_equal(frame[0], 1);
	assert_int_equal(frame[1513], 1);
	memset(frame, 6, sizeof(frame));
	peer_send(to, frame, 60);
	peer_send(to, frame, 1);
	assert_int_equal(send(to, frame, 0, 0), 0);
	peer_send(to, frame, 2000);
	poll_until(lab, &lab->got, 4);
	expect_frame(lab, 0, 60, 6);
	expect_frame(lab, 1, 1, 6);
	assert_int_equal(lab->lengths[2], HEADER);
	expect_frame(lab, 3, 2000, 6);

	/* the peer comes back as another socket */
	close(peer);
	assert_int_equal(send_frame(lab, 2, 60), -ECONNREFUSED);
	unlink(lab->path);
	peer = peer_socket(lab->path, SOCK_DGRAM, true);
	assert_int_equal(send_frame(lab, 3, 60), 0);
	assert_int_equal(recv(peer, frame, sizeof(frame), 0), 60);
	close(peer);
	close(to);
}

static void dgram_peer_stops_reading(void **state)
{
	struct lab *lab = *state;
	unsigned int dropped = 0;
	uint8_t frame[2000];
	int peer;

	open_dgram(lab);
	peer = peer_socket(lab->path, SOCK_DGRAM, true);
	for (unsigned int i = 0; i < 5000; i++) {
		int error = send_frame(lab, 1, 1000);

		assert_true(!error || error == -EAGAIN);
		dropped += !!error;
	}
	assert_true(dropped > 1000);
	assert_int_equal(recv(peer, frame, sizeof(frame), 0), 1000);
	assert_int_equal(send_frame(lab, 1, 1000), 0);
	close(peer);
}

static void dgram_file(void **state)
{
	struct lab *lab = *state;
	struct stat before, after;

	close(peer_socket(lab->local, SOCK_DGRAM, true)); /* stale */
	assert_int_equal(stat(lab->local, &before), 0);
	open_dgram(lab);
	assert_int_equal(stat(lab->local, &after), 0);
	assert_true(S_ISSOCK(after.st_mode));
	net_close(lab->base.net);
	lab->base.net = NULL;
	assert_int_equal(access(lab->local, F_OK), -1);
}

/* ---- Mistakes ---- */

static void expect_refused(struct lab *lab, const struct net_config *config, int error,
			   const char *message)
{
	lab->base.captured.count = 0;
	assert_null(open_backend(lab, config));
	assert_int_equal(errno, error);
	assert_int_equal(lab->base.captured.count, 1);
	if (!strstr(lab->base.captured.lines[0], message))
		fail_msg("no \"%s\" in: %s", message, lab->base.captured.lines[0]);
}

static void wrong_options(void **state)
{
	static const struct {
		struct net_config config;
		const char *message;
	} table[] = {
		{ { .kind = NET_USER, .tap = "t" }, "tap= is none of backend=user" },
		{ { .kind = NET_TAP, .tap = "t", .path = "p" }, "path= is none of backend=tap" },
		{ { .kind = NET_PASST, .path = "p", .server = true },
		  "server= is none of backend=passt (drop it, or use backend=stream)" },
		{ { .kind = NET_STREAM, .path = "p", .local = "l" },
		  "local= is none of backend=stream" },
		{ { .kind = NET_STREAM, .path = "p", .restricted = true },
		  "restrict= is none of backend=stream" },
		{ { .kind = NET_PASST }, "backend=passt needs path=" },
		{ { .kind = NET_STREAM }, "backend=stream needs path=" },
		{ { .kind = NET_DGRAM }, "backend=dgram needs path=" },
		{ { .kind = NET_DGRAM, .path = "p" }, "backend=dgram needs local=" },
		{ { .kind = NET_DGRAM, .path = "p", .hostfwd = "x" }, "hostfwd= is none of" },
	};
	struct lab *lab = *state;

	for (unsigned int i = 0; i < ARRAY_SIZE(table); i++) {
		struct net_config config = table[i].config;

		config.fd = -1;
		config.queues = 1;
		expect_refused(lab, &config, EINVAL, table[i].message);
	}
	expect_refused(lab, &(struct net_config) { .kind = NET_USER, .fd = 5, .queues = 1 }, EINVAL,
		       "fd=5 is none of backend=user");
	expect_refused(lab, &(struct net_config) { .kind = NET_USER, .fd = -1, .queues = 4 },
		       EINVAL, "backend=user has one queue");
}

static void bad_sockets(void **state)
{
	struct net_config config = { .kind = NET_STREAM, .fd = -1, .queues = 1 };
	struct lab *lab = *state;
	char long_path[200];
	int fd;

	memset(long_path, 'x', sizeof(long_path) - 1);
	long_path[sizeof(long_path) - 1] = '\0';
	config.path = long_path;
	expect_refused(lab, &config, ENAMETOOLONG, "path=xxx");
	config.server = true;
	expect_refused(lab, &config, ENAMETOOLONG, "too long");
	config = (struct net_config) {
		.kind = NET_DGRAM, .fd = -1, .queues = 1, .path = long_path, .local = lab->local
	};
	expect_refused(lab, &config, ENAMETOOLONG, "path=xxx");
	config.path = lab->path;
	config.local = long_path;
	expect_refused(lab, &config, ENAMETOOLONG, "local=xxx");

	fd = open(lab->local, O_CREAT | O_WRONLY, 0600);
	close(fd);
	config.local = lab->local;
	expect_refused(lab, &config, EEXIST, "the file exists and is not a socket");
	unlink(lab->local);
	fd = peer_socket(lab->local, SOCK_DGRAM, true); /* in use */
	expect_refused(lab, &config, EADDRINUSE, "another process listens on it");
	close(fd);
	config.local = "/nonexistent/x";
	expect_refused(lab, &config, ENOENT, "local=/nonexistent/x: cannot make the socket");

	config =
		(struct net_config) { .kind = NET_PASST, .fd = -1, .queues = 1, .path = lab->path };
	expect_refused(lab, &config, ENOENT, "start it first: passt --socket");
	assert_int_equal(access(lab->path, F_OK), -1);
}

static void bad_user_options(void **state)
{
	static const struct {
		struct net_config config;
		const char *message;
	} table[] = {
		{ { .network = "10.0.2.0" }, "net=10.0.2.0: not a network" },
		{ { .network = "10.0.2.x/24" }, "not a network" },
		{ { .network = "10.0.2.0/33" }, "not a network" },
		{ { .network = "10.0.2.0/" }, "not a network" },
		{ { .network = "10.0.2.0/ 24" }, "not a network" },
		{ { .network = "1234567890123456789/24" }, "not a network" },
		{ { .network = "10.0.2.0/28" }, "too large or too small" },
		{ { .network = "10.0.2.0/7" }, "too large or too small" },
		{ { .network = "10.0.2.1/24" }, "bits behind the network's" },
		{ { .dns = "x" }, "dns=x: not an IPv4 address" },
		{ { .dns = "10.0.2.2" }, "the gateway's" },
		{ { .dns = "9.9.9.9", .restricted = true }, "cannot be reached with restrict=on" },
		{ { .hostname = "" }, "use 1 to 32 characters" },
		{ { .hostname = "a23456789012345678901234567890123" }, "use 1 to 32 characters" },
		{ { .hostfwd = "" }, "not a forwarding" },
		{ { .hostfwd = "tcp:127.0.0.1:2222" }, "not a forwarding" },
		{ { .hostfwd = "sctp::1-:1" }, "not a forwarding" },
		{ { .hostfwd = "tcp::0-:22" }, "not a forwarding" },
		{ { .hostfwd = "tcp::65536-:22" }, "not a forwarding" },
		{ { .hostfwd = "tcp::22-:" }, "not a forwarding" },
		{ { .hostfwd = "tcp:1.2.3:22-:22" }, "not a forwarding" },
		{ { .hostfwd = "tcp::2222-:22+" }, "not a forwarding" },
		{ { .hostfwd = "tcp::2222-:22+x" }, "hostfwd=x: not a forwarding" },
		{ { .hostfwd =
			    "tcp:1111111111222222222233333333334444444444555555555566666666667777:"
			    "1-:1" },
		  "not a forwarding" },
	};
	struct lab *lab = *state;

#ifndef HAVE_SLIRP
	expect_refused(lab, &(struct net_config) { .kind = NET_USER, .fd = -1, .queues = 1 },
		       EOPNOTSUPP, "built without libslirp");
	return;
#endif
	for (unsigned int i = 0; i < ARRAY_SIZE(table); i++) {
		struct net_config config = table[i].config;

		config.kind = NET_USER;
		config.fd = -1;
		config.queues = 1;
		expect_refused(lab, &config, EINVAL, table[i].message);
	}
}

/* A port that somebody has: said with the forwarding, and nothing is left behind. */
static void port_taken(void **state)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr = { htonl(INADDR_LOOPBACK) } };
	struct net_config config = { .kind = NET_USER, .fd = -1, .queues = 1 };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(address);
	struct lab *lab = *state;
	char forward[64];

#ifndef HAVE_SLIRP
	close(fd);
	skip();
#endif
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	snprintf(forward, sizeof(forward), "tcp:127.0.0.1:%u-:22", ntohs(address.sin_port));
	config.hostfwd = forward;
	expect_refused(lab, &config, EADDRINUSE, "cannot listen on the host's port");
	assert_non_null(strstr(lab->base.captured.lines[0], forward));
	close(fd);
	lab->base.net = open_backend(lab, &config);
	assert_non_null(lab->base.net);
}

/* ---- No offloads ---- */

static void no_offloads(void **state)
{
	struct lab *lab = *state;

	open_dgram(lab);
	assert_int_equal(net_offloads(lab->base.net), 0);
	assert_int_equal(net_set_offload(lab->base.net, 0), 0);
	assert_int_equal(net_set_offload(lab->base.net, TUN_F_CSUM), -EOPNOTSUPP);
	assert_int_equal(net_set_queues(lab->base.net, 1), 0);
	assert_int_equal(net_set_queues(lab->base.net, 2), -EINVAL);
	assert_int_equal(net_queue_fd(lab->base.net, 0), -1);
	assert_int_equal(net_set_header_size(lab->base.net, HEADER), 0);
	assert_int_equal(net_set_header_size(lab->base.net, 10), -EOPNOTSUPP);
	assert_int_equal(net_mtu(lab->base.net), 0);
	assert_int_equal(net_set_queue_loop(lab->base.net, 0, lab->base.loop, &lab->base.lock), 0);
	assert_int_equal(net_set_queue_loop(lab->base.net, 0, lab->base.loop, NULL), -EOPNOTSUPP);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(stream_pieces),
		TEST(stream_burst),
		TEST(stream_sends),
		TEST(stream_empty_frame),
		TEST(stream_largest_frame),
		TEST(stream_lies),
		TEST(stream_peer_goes),
		TEST(stream_second_peer),
		TEST(stream_peer_stops_reading),
		TEST(stream_not_receiving),
		TEST(stream_client),
		TEST(stream_connects_at_once),
		TEST(stream_file),
		TEST(dgram_exchange),
		TEST(dgram_peer_stops_reading),
		TEST(dgram_file),
		TEST(wrong_options),
		TEST(bad_sockets),
		TEST(bad_user_options),
		TEST(port_taken),
		TEST(no_offloads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
