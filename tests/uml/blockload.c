/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * blockload: random reads and writes on a disk, many at a time, each verified. Every block says which
 * block it is and which write of it this was. Any error, and any block that is not what was last
 * written, ends it with status 1.
 * usage: blockload DEVICE SECONDS DEPTH
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096
#define BLOCKS_MAX 16384
#define RUN_MAX 16 /* blocks of one request */
#define DEPTH_MAX 64

struct slot {
	struct iocb iocb;
	bool used;
	uint32_t first, count;
	double started;
	uint64_t *data;
};

struct load {
	int fd;
	aio_context_t context;
	uint32_t blocks;
	uint32_t generation[BLOCKS_MAX]; /* 0: not written yet */
	bool busy[BLOCKS_MAX];
	struct slot slots[DEPTH_MAX];
	unsigned int depth, in_flight;
	uint64_t writes, reads, flushes, random;
	double slowest;
};

static void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

static void fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fprintf(stderr, "blockload: ");
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n");
	va_end(args);
	exit(1);
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

static uint32_t pick(struct load *load, uint32_t below)
{
	load->random += 0x9e3779b97f4a7c15;
	return (uint32_t)(mix(load->random) % below);
}

static void fill(uint64_t *words, uint32_t block, uint32_t generation)
{
	uint64_t seed = mix((uint64_t)block << 32 | generation);

	words[0] = (uint64_t)block << 32 | generation;
	for (unsigned int i = 1; i < BLOCK / 8; i++)
		words[i] = seed += 0x9e3779b97f4a7c15;
}

static void verify(const uint64_t *words, uint32_t block, uint32_t generation)
{
	uint64_t expected[BLOCK / 8];

	if (!generation)
		return;
	fill(expected, block, generation);
	if (memcmp(words, expected, BLOCK))
		fail("block %u: write %u was the last, found write %u of block %u", block,
		     generation, (uint32_t)words[0], (uint32_t)(words[0] >> 32));
}

/* A run of blocks that no request in flight touches; 0: none found in a few tries. */
static uint32_t find_run(struct load *load, uint32_t *first)
{
	for (int attempt = 0; attempt < 8; attempt++) {
		uint32_t count = 1 + pick(load, RUN_MAX), free_blocks = 0;

		*first = pick(load, load->blocks);
		while (free_blocks < count && *first + free_blocks < load->blocks &&
		       !load->busy[*first + free_blocks])
			free_blocks++;
		if (free_blocks)
			return free_blocks;
	}
	return 0;
}

static void submit(struct load *load, struct slot *slot)
{
	struct iocb *iocb = &slot->iocb;
	bool write = pick(load, 3) != 0, flush = pick(load, 50) == 0;

	slot->count = flush ? 0 : find_run(load, &slot->first);
	memset(iocb, 0, sizeof(*iocb));
	iocb->aio_fildes = (uint32_t)load->fd;
	iocb->aio_data = (uint64_t)(uintptr_t)slot;
	iocb->aio_lio_opcode = !slot->count ? IOCB_CMD_FDSYNC
			       : write	    ? IOCB_CMD_PWRITE
					    : IOCB_CMD_PREAD;
	if (slot->count) {
		iocb->aio_buf = (uint64_t)(uintptr_t)slot->data;
		iocb->aio_nbytes = (uint64_t)slot->count * BLOCK;
		iocb->aio_offset = (int64_t)slot->first * BLOCK;
	}
	for (uint32_t i = 0; i < slot->count; i++) {
		uint32_t block = slot->first + i;

		load->busy[block] = true;
		if (write)
			fill(slot->data + (size_t)i * BLOCK / 8, block, ++load->generation[block]);
	}
	slot->used = true;
	slot->started = now();
	load->in_flight++;
	if (syscall(SYS_io_submit, load->context, 1L, &iocb) != 1)
		fail("io_submit: %s", strerror(errno));
}

static void complete(struct load *load, const struct io_event *event)
{
	struct slot *slot = (struct slot *)(uintptr_t)event->data;
	double seconds = now() - slot->started;
	unsigned int opcode = slot->iocb.aio_lio_opcode;

	if (event->res != (int64_t)slot->count * BLOCK)
		fail("request %u of %u blocks at %u: %" PRId64, opcode, slot->count, slot->first,
		     (int64_t)event->res);
	for (uint32_t i = 0; i < slot->count; i++) {
		uint32_t block = slot->first + i;

		if (opcode == IOCB_CMD_PREAD)
			verify(slot->data + (size_t)i * BLOCK / 8, block, load->generation[block]);
		load->busy[block] = false;
	}
	if (seconds > load->slowest)
		load->slowest = seconds;
	*(opcode == IOCB_CMD_PREAD    ? &load->reads
	  : opcode == IOCB_CMD_PWRITE ? &load->writes
				      : &load->flushes) += 1;
	slot->used = false;
	load->in_flight--;
}

static void reap(struct load *load)
{
	struct io_event events[DEPTH_MAX];
	long count;

	do
		count = syscall(SYS_io_getevents, load->context, 1L, (long)DEPTH_MAX, events, NULL);
	while (count < 0 && errno == EINTR);
	if (count < 0)
		fail("io_getevents: %s", strerror(errno));
	for (long i = 0; i < count; i++)
		complete(load, &events[i]);
}

static void run(struct load *load, double seconds)
{
	double start = now(), next = start;

	while (now() - start < seconds) {
		for (unsigned int i = 0; i < load->depth; i++)
			if (!load->slots[i].used)
				submit(load, &load->slots[i]);
		reap(load);
		if (now() < next)
			continue;
		printf("progress: %" PRIu64 " writes\n", load->writes);
		next = now() + 0.2;
	}
	while (load->in_flight)
		reap(load);
}

static uint32_t verify_all(struct load *load)
{
	uint64_t *data = load->slots[0].data;
	uint32_t written = 0;

	for (uint32_t block = 0; block < load->blocks; block++) {
		if (!load->generation[block])
			continue;
		if (pread(load->fd, data, BLOCK, (off_t)block * BLOCK) != BLOCK)
			fail("block %u cannot be read: %s", block, strerror(errno));
		verify(data, block, load->generation[block]);
		written++;
	}
	return written;
}

int main(int argc, char **argv)
{
	static struct load load;
	uint64_t size;
	uint32_t written;

	if (argc != 4)
		fail("usage: blockload DEVICE SECONDS DEPTH");
	setvbuf(stdout, NULL, _IOLBF, 0);
	load.depth = (unsigned int)atoi(argv[3]);
	if (load.depth < 1 || load.depth > DEPTH_MAX)
		fail("depth 1 to %d", DEPTH_MAX);
	load.fd = open(argv[1], O_RDWR | O_DIRECT);
	if (load.fd < 0 || ioctl(load.fd, BLKGETSIZE64, &size))
		fail("%s: %s", argv[1], strerror(errno));
	load.blocks = size / BLOCK > BLOCKS_MAX ? BLOCKS_MAX : (uint32_t)(size / BLOCK);
	load.random = (uint64_t)getpid() ^ (uint64_t)(now() * 1e6);
	if (syscall(SYS_io_setup, DEPTH_MAX, &load.context))
		fail("io_setup: %s", strerror(errno));
	for (unsigned int i = 0; i < load.depth; i++)
		if (posix_memalign((void **)&load.slots[i].data, BLOCK, (size_t)RUN_MAX * BLOCK))
			fail("out of memory");
	run(&load, atof(argv[2]));
	written = verify_all(&load);
	printf("verified %" PRIu64 " writes, %" PRIu64 " reads, %" PRIu64
	       " flushes, %u blocks, slowest %.2f s\n",
	       load.writes, load.reads, load.flushes, written, load.slowest);
	return 0;
}
