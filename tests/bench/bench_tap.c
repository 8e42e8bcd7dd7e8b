/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a frame costs to and from a tap: readv() and writev() one by one, against batches by
 * io_uring. In a network namespace of its own; needs root, /dev/net/tun and liburing. The runs of the
 * two alternate.
 *
 *	build/opt/tests/bench/bench_tap [FRAMES]
 */
#include <errno.h>
#include <liburing.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <time.h>

#include "../unit/tap_lab.h"

#define TAP "tenon-bench"
#define HEADER sizeof(struct virtio_net_hdr_v1)
#define BATCH 32
#define WAITING 480 /* frames in the tap's queue, which holds 1000 */
#define RUNS 9
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct bench {
	int tap, packets;
	struct io_uring ring;
	unsigned int frames;
	size_t size;
	struct virtio_net_hdr_v1 headers[BATCH];
	unsigned char data[BATCH][65536];
	struct iovec iov[BATCH][2];
};

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* ---- One by one ---- */

static void write_one(struct bench *bench, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		if (writev(bench->tap, bench->iov[i], 2) < 0)
			die("writev");
}

static void read_one(struct bench *bench, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		if (readv(bench->tap, bench->iov[i], 2) < 0)
			die("readv");
}

/* ---- A batch ---- */

static void ring_batch(struct bench *bench, unsigned int count, bool out)
{
	struct io_uring_cqe *cqe;
	unsigned int head, seen = 0;

	for (unsigned int i = 0; i < count; i++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&bench->ring);

		if (out)
			io_uring_prep_writev(sqe, bench->tap, bench->iov[i], 2, 0);
		else
			io_uring_prep_readv(sqe, bench->tap, bench->iov[i], 2, 0);
	}
	if (io_uring_submit_and_wait(&bench->ring, count) < 0)
		die("io_uring_submit_and_wait");
	io_uring_for_each_cqe(&bench->ring, head, cqe)
	{
		if (cqe->res < 0) {
			errno = -cqe->res;
			die("io_uring");
		}
		seen++;
	}
	io_uring_cq_advance(&bench->ring, seen);
}

static void write_ring(struct bench *bench, unsigned int count)
{
	ring_batch(bench, count, true);
}

static void read_ring(struct bench *bench, unsigned int count)
{
	ring_batch(bench, count, false);
}

/* ---- Runs ---- */

static const struct way {
	const char *name;
	bool receive;
	void (*batch)(struct bench *bench, unsigned int count);
} ways[] = {
	{ "writev", false, write_one },
	{ "io_uring", false, write_ring },
	{ "readv", true, read_one },
	{ "io_uring", true, read_ring },
};

/* Nanoseconds a frame, where a turn has @batch of them. */
static double run_write(struct bench *bench, const struct way *way, unsigned int batch)
{
	double start = now();

	for (unsigned int i = 0; i < bench->frames; i += batch)
		way->batch(bench, batch);
	return (now() - start) / bench->frames;
}

static double run_read(struct bench *bench, const struct way *way, unsigned int batch)
{
	double spent = 0;

	for (unsigned int done = 0; done < bench->frames; done += WAITING) {
		double start;

		for (unsigned int i = 0; i < WAITING; i++)
			if (send(bench->packets, bench->data[0], bench->size, 0) < 0)
				die("send");
		start = now();
		for (unsigned int i = 0; i < WAITING; i += batch)
			way->batch(bench, batch);
		spent += now() - start;
	}
	return spent / bench->frames;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void contest(struct bench *bench, size_t size, unsigned int batch)
{
	double results[COUNT(ways)][RUNS];

	bench->size = size;
	for (unsigned int i = 0; i < BATCH; i++) {
		memset(bench->data[i], 0, size);
		memcpy(bench->data[i], "\xff\xff\xff\xff\xff\xff\2\0\0\0\0\1\x88\xb5", 14);
		bench->iov[i][0] = (struct iovec) { &bench->headers[i], HEADER };
		bench->iov[i][1] = (struct iovec) { bench->data[i], size };
	}
	for (unsigned int run = 0; run < RUNS; run++)
		for (unsigned int i = 0; i < COUNT(ways); i++)
			results[i][run] = ways[i].receive ? run_read(bench, &ways[i], batch)
							  : run_write(bench, &ways[i], batch);
	for (unsigned int i = 0; i < COUNT(ways); i++) {
		qsort(results[i], RUNS, sizeof(double), compare);
		printf("%5zu bytes, batches of %2u  %-8s  %7.0f ns CPU a frame (%.0f to %.0f)\n",
		       size, batch, ways[i].name, results[i][RUNS / 2], results[i][0],
		       results[i][RUNS - 1]);
	}
}

static void setup(struct bench *bench)
{
	int size = HEADER;

	if (!lab_enter())
		exit(77);
	bench->tap = lab_open_tun(TAP, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	if (bench->tap < 0 || ioctl(bench->tap, TUNSETVNETHDRSZ, &size) < 0)
		die(TAP);
	fcntl(bench->tap, F_SETFL, O_NONBLOCK);
	lab_set_mtu(TAP, 65521);
	lab_set_up(TAP, true);
	bench->packets = lab_packet_socket(TAP, 0);
	if (bench->packets < 0)
		die("packet socket");
	if (io_uring_queue_init(2 * BATCH, &bench->ring, 0) < 0)
		die("io_uring");
}

int main(int argc, char **argv)
{
	static const size_t sizes[] = { 60, 1514, 65000 };
	static const unsigned int batches[] = { 1, 4, 32 };
	static struct bench bench;

	bench.frames = argc > 1 ? (unsigned int)atoi(argv[1]) : 96 * WAITING;
	setup(&bench);
	for (unsigned int i = 0; i < COUNT(sizes); i++)
		for (unsigned int j = 0; j < COUNT(batches); j++)
			contest(&bench, sizes[i], batches[j]);
	return 0;
}
