/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vsock-echo: sockets between guest and host, for the lab, on either side.
 *
 *	vsock-echo serve PORT		echo one connection to its end
 *	vsock-echo send CID PORT MIB	send so much pseudo-random data, check that it comes back
 *
 * Each prints "BYTES CHECKSUM SECONDS" of what it received.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/socket.h>

#include <linux/vm_sockets.h>

#define CHUNK 65536
#define PATIENCE_MS 60000

/* What was received: FNV-1a over 64-bit words, which is as fast as the rest. */
struct received {
	uint64_t bytes, checksum, word;
	struct timespec start;
};

static void die(const char *what)
{
	fprintf(stderr, "vsock-echo: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void received_begin(struct received *received)
{
	memset(received, 0, sizeof(*received));
	received->checksum = UINT64_C(0xcbf29ce484222325);
	clock_gettime(CLOCK_MONOTONIC, &received->start);
}

static void received_add(struct received *received, const uint8_t *data, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		received->word = received->word << 8 | data[i];
		if (++received->bytes % 8)
			continue;
		received->checksum ^= received->word;
		received->checksum *= UINT64_C(0x100000001b3);
	}
}

static void received_print(const struct received *received)
{
	struct timespec end;

	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("%llu %016llx %.2f\n", (unsigned long long)received->bytes,
	       (unsigned long long)received->checksum,
	       (double)(end.tv_sec - received->start.tv_sec) +
		       (double)(end.tv_nsec - received->start.tv_nsec) / 1e9);
}

/* The stream: byte n of it, in chunks (xorshift64*). */
struct stream {
	uint64_t state;
};

static void stream_fill(struct stream *stream, uint8_t *data, size_t size)
{
	for (size_t i = 0; i < size; i += 8) {
		uint64_t value;

		stream->state ^= stream->state >> 12;
		stream->state ^= stream->state << 25;
		stream->state ^= stream->state >> 27;
		value = stream->state * UINT64_C(0x2545f4914f6cdd1d);
		memcpy(data + i, &value, 8);
	}
}

static void wait_for(int fd, short events)
{
	struct pollfd poll_fd = { .fd = fd, .events = events };

	if (poll(&poll_fd, 1, PATIENCE_MS) > 0)
		return;
	fprintf(stderr, "vsock-echo: nothing moves for %d s\n", PATIENCE_MS / 1000);
	exit(1);
}

/* ---- serve ---- */

static void write_all(int fd, const uint8_t *data, size_t size)
{
	while (size) {
		ssize_t done = write(fd, data, size);

		if (done < 0)
			die("write");
		data += done;
		size -= (size_t)done;
	}
}

static int serve(unsigned int port)
{
	struct sockaddr_vm address = { .svm_family = AF_VSOCK,
				       .svm_cid = VMADDR_CID_ANY,
				       .svm_port = port };
	int listener = socket(AF_VSOCK, SOCK_STREAM, 0);
	static uint8_t data[CHUNK];
	struct received received;
	ssize_t size;
	int fd;

	if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) ||
	    listen(listener, 1))
		die("listen");
	wait_for(listener, POLLIN);
	fd = accept(listener, NULL, NULL);
	if (fd < 0)
		die("accept");
	received_begin(&received);
	while ((size = read(fd, data, sizeof(data))) > 0) {
		received_add(&received, data, (size_t)size);
		write_all(fd, data, (size_t)size);
	}
	if (size < 0)
		die("read");
	received_print(&received);
	return 0;
}

/* ---- send ---- */

/* The other side may not listen yet. */
static int connect_patiently(unsigned int cid, unsigned int port)
{
	struct sockaddr_vm address = { .svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port };

	for (int tries = 0; tries < 200; tries++) {
		int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

		if (fd < 0)
			die("socket");
		if (!connect(fd, (struct sockaddr *)&address, sizeof(address)))
			return fd;
		close(fd);
		usleep(200000);
	}
	die("connect");
	return -1;
}

/* One direction of the transfer: @done bytes of the stream are through, @made of it have been in @data. */
struct direction {
	struct stream stream;
	uint8_t data[CHUNK];
	uint64_t done, made;
};

static const uint8_t *direction_next(struct direction *direction)
{
	if (direction->done == direction->made) {
		stream_fill(&direction->stream, direction->data, CHUNK);
		direction->made += CHUNK;
	}
	return direction->data + direction->done % CHUNK;
}

static void send_some(int fd, struct direction *out)
{
	const uint8_t *data = direction_next(out);
	ssize_t size = write(fd, data, out->made - out->done);

	if (size < 0 && errno != EAGAIN)
		die("write");
	out->done += size > 0 ? (uint64_t)size : 0;
}

static void receive_some(int fd, struct direction *in, struct received *received)
{
	static uint8_t data[CHUNK];
	ssize_t size = read(fd, data, sizeof(data));

	if (size < 0 && errno == EAGAIN)
		return;
	if (size <= 0)
		die(size ? "read" : "the other side hung up");
	received_add(received, data, (size_t)size);
	for (ssize_t i = 0; i < size; i++, in->done++) {
		if (data[i] == *direction_next(in))
			continue;
		fprintf(stderr, "vsock-echo: byte %llu came back wrong\n",
			(unsigned long long)in->done);
		exit(1);
	}
}

static int send_and_check(unsigned int cid, unsigned int port, uint64_t size)
{
	static struct direction out = { .stream = { 1 } }, in = { .stream = { 1 } };
	int fd = connect_patiently(cid, port);
	struct received received;

	if (fcntl(fd, F_SETFL, O_NONBLOCK))
		die("fcntl");
	received_begin(&received);
	while (in.done < size) {
		wait_for(fd, POLLIN | (out.done < size ? POLLOUT : 0));
		if (out.done < size)
			send_some(fd, &out);
		receive_some(fd, &in, &received);
	}
	received_print(&received);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "serve"))
		return serve((unsigned int)atoi(argv[2]));
	if (argc == 5 && !strcmp(argv[1], "send"))
		return send_and_check((unsigned int)atoi(argv[2]), (unsigned int)atoi(argv[3]),
				      strtoull(argv[4], NULL, 10) << 20);
	fprintf(stderr, "usage: vsock-echo serve PORT | send CID PORT MIB\n");
	return 2;
}
