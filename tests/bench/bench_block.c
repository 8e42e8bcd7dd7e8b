/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the block API alone costs, without a guest: requests a second and system calls per 1,000
 * requests, for each engine on a null disk, on a file in memory and on one of a disk's file system,
 * as ratios to the pool of threads. One thread hands in a batch of requests and waits for all.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "block_backend.h"
#include "event_loop.h"
#include "guest_memory.h"
#include "logger.h"

#define IMAGE_SIZE MIB(256)
#define REQUEST_SIZE KIB(4)
#define DEPTH_MAX 32
#define ROUNDS 5
#define ROUND_NS UINT64_C(150000000)
#define COUNTED 4000

struct bench {
	struct logger log;
	struct event_loop *loop;
	pthread_mutex_t lock;
	struct guest_memory memory;
	struct block_backend *block;
	struct block_queue *queue;
	unsigned int left;
	bool failed;
	uint64_t random;
	uint8_t *data;
	struct iovec iov[DEPTH_MAX];
	struct block_request requests[DEPTH_MAX];
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void on_done(struct block_request *request, int error)
{
	struct bench *bench = request->arg;

	bench->left--;
	bench->failed |= error != 0;
}

static void on_batch_end(void *arg)
{
}

static const struct block_queue_ops queue_ops = { .batch_end = on_batch_end };

/* struct way - how it is done. */
static const struct way {
	const char *name;
	enum block_engine engine;
	bool pin;
} ways[] = {
	{ "threads", BLOCK_ENGINE_THREADS, false },
	{ "io_uring", BLOCK_ENGINE_URING, false },
	{ "io_uring,pin", BLOCK_ENGINE_URING, true },
};

static int bench_open(struct bench *bench, const char *path, const struct way *way)
{
	const struct block_config config = { .path = path,
					     .threads = 4,
					     .engine = way->engine,
					     .memory = &bench->memory,
					     .pin = way->pin };

	*bench = (struct bench) { .random = 1 };
	bench->memory.count = 1;
	bench->memory.regions[0].size = DEPTH_MAX * REQUEST_SIZE;
	logger_init(&bench->log, "bench");
	pthread_mutex_init(&bench->lock, NULL);
	bench->loop = event_loop_create("bench");
	if (guest_memory_create(&bench->log, &bench->memory, false) < 0)
		return -1;
	bench->data = bench->memory.regions[0].host;
	memset(bench->data, 1, DEPTH_MAX * REQUEST_SIZE);
	bench->block =
		block_open(&bench->log, "bench", &config, bench->loop, &bench->lock, NULL, NULL);
	if (bench->block)
		bench->queue = block_queue_open(bench->block, bench->loop, &bench->lock, DEPTH_MAX,
						&queue_ops, bench);
	return bench->queue ? 0 : -1;
}

static void bench_close(struct bench *bench)
{
	block_queue_close(bench->queue);
	block_close(bench->block);
	event_loop_destroy(bench->loop);
	guest_memory_destroy(&bench->memory);
}

/* @depth requests at once, to their end; false if one failed. */
static bool batch(struct bench *bench, enum block_op op, unsigned int depth)
{
	pthread_mutex_lock(&bench->lock);
	bench->left = depth;
	for (unsigned int i = 0; i < depth; i++) {
		bench->random = bench->random * UINT64_C(6364136223846793005) +
				UINT64_C(1442695040888963407);
		bench->iov[i] = (struct iovec) { bench->data + i * REQUEST_SIZE, REQUEST_SIZE };
		bench->requests[i] = (struct block_request) {
			.op = op,
			.iov = &bench->iov[i],
			.iov_count = 1,
			.length = REQUEST_SIZE,
			.offset =
				(bench->random >> 33) % (IMAGE_SIZE / REQUEST_SIZE) * REQUEST_SIZE,
			.done = on_done,
			.arg = bench,
		};
		block_submit(bench->queue, &bench->requests[i]);
	}
	block_kick(bench->queue);
	pthread_mutex_unlock(&bench->lock);
	while (bench->left)
		event_loop_poll(bench->loop, -1);
	return !bench->failed;
}

static int compare_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* Requests a second; 0: it cannot be done. */
static double measure(const char *path, const struct way *way, enum block_op op, unsigned int depth)
{
	uint64_t start, end, count = 0;
	struct bench bench;

	if (bench_open(&bench, path, way) < 0)
		return 0;
	for (unsigned int i = 0; i < 10; i++)
		batch(&bench, op, depth);
	start = end = now_ns();
	while (end - start < ROUND_NS && batch(&bench, op, depth)) {
		count += depth;
		end = now_ns();
	}
	bench_close(&bench);
	return end > start ? (double)count * 1e9 / (double)(end - start) : 0;
}

/* In a child, which is traced with all its threads: between two getppid(). */
static void counted_child(const char *path, const struct way *way, enum block_op op,
			  unsigned int depth)
{
	struct bench bench;

	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	raise(SIGSTOP);
	if (bench_open(&bench, path, way) < 0)
		_exit(1);
	for (unsigned int i = 0; i < 100; i++)
		batch(&bench, op, depth);
	syscall(SYS_getppid);
	for (unsigned int i = 0; i < COUNTED / depth; i++)
		batch(&bench, op, depth);
	syscall(SYS_getppid);
	_exit(0);
}

/* The system call that @thread enters now, or -1. */
static int64_t entered(pid_t thread)
{
	struct __ptrace_syscall_info info = { .op = PTRACE_SYSCALL_INFO_NONE };

	if (ptrace(PTRACE_GET_SYSCALL_INFO, thread, (void *)sizeof(info), &info) <= 0 ||
	    info.op != PTRACE_SYSCALL_INFO_ENTRY)
		return -1;
	return (int64_t)info.entry.nr;
}

static uint64_t count_entered(pid_t child)
{
	const long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL;
	unsigned int marks = 0;
	uint64_t count = 0;
	pid_t thread;
	int status;

	waitpid(child, &status, 0);
	ptrace(PTRACE_SETOPTIONS, child, NULL, options);
	ptrace(PTRACE_SYSCALL, child, NULL, NULL);
	while ((thread = waitpid(-1, &status, __WALL)) > 0) {
		int64_t number = WIFSTOPPED(status) ? entered(thread) : -1;

		if (number == SYS_getppid)
			marks++;
		else if (number >= 0 && marks == 1)
			count++;
		if (marks < 2)
			ptrace(PTRACE_SYSCALL, thread, NULL, NULL);
		else
			kill(child, SIGKILL);
	}
	return count;
}

/* System calls of all threads for 1,000 requests; below 0: not known. */
static double syscalls(const char *path, const struct way *way, enum block_op op,
		       unsigned int depth)
{
	pid_t child = fork();

	if (child < 0)
		return -1;
	if (child == 0)
		counted_child(path, way, op, depth);
	return (double)count_entered(child) * 1000 / (COUNTED / depth * depth);
}

static int make_image(char *path, size_t size, const char *directory)
{
	uint8_t *data = calloc(1, MIB(1));
	int fd;

	snprintf(path, size, "%s/tenon-bench-XXXXXX", directory);
	fd = mkstemp(path);
	for (uint64_t at = 0; data && fd >= 0 && at < IMAGE_SIZE; at += MIB(1))
		if (pwrite(fd, data, MIB(1), (off_t)at) < 0)
			break;
	free(data);
	close(fd);
	return fd;
}

/* In turn, so that what else the machine does hits all alike; medians. */
static void contest(const char *name, const char *path, enum block_op op, unsigned int depth,
		    unsigned int way_count)
{
	double rates[ARRAY_SIZE(ways)][ROUNDS], base;

	for (unsigned int round = 0; round < ROUNDS; round++)
		for (unsigned int i = 0; i < way_count; i++)
			rates[i][round] = measure(path, &ways[i], op, depth);
	for (unsigned int i = 0; i < way_count; i++)
		qsort(rates[i], ROUNDS, sizeof(rates[i][0]), compare_double);
	base = rates[0][ROUNDS / 2];
	for (unsigned int i = 0; i < way_count; i++)
		printf("%-6s %-5s depth %-2u %-12s %10.0f /s %6.2f x %8.1f system calls per "
		       "1,000\n",
		       name, op == BLOCK_READ ? "read" : "write", depth,
		       way_count > 1 ? ways[i].name : "-", rates[i][ROUNDS / 2],
		       base > 0 ? rates[i][ROUNDS / 2] / base : 0,
		       syscalls(path, &ways[i], op, depth));
	fflush(stdout); /* before the next fork() */
}

int main(int argc, char **argv)
{
	static const unsigned int depths[] = { 1, DEPTH_MAX };
	char null[32], memory[64], disk[64];
	struct {
		const char *name, *path;
		unsigned int ways; /* a null disk needs nobody */
	} images[] = { { "null", null, 1 },
		       { "tmpfs", memory, ARRAY_SIZE(ways) },
		       { "file", disk, ARRAY_SIZE(ways) } };

	snprintf(null, sizeof(null), "null:%" PRIu64, IMAGE_SIZE);
	if (make_image(memory, sizeof(memory), "/dev/shm") < 0 ||
	    make_image(disk, sizeof(disk), argc > 1 ? argv[1] : "/var/tmp") < 0) {
		fprintf(stderr, "bench_block: cannot make an image: %s\n", strerror(errno));
		return 1;
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(images); i++)
		for (unsigned int j = 0; j < ARRAY_SIZE(depths); j++) {
			contest(images[i].name, images[i].path, BLOCK_READ, depths[j],
				images[i].ways);
			contest(images[i].name, images[i].path, BLOCK_WRITE, depths[j],
				images[i].ways);
		}
	unlink(memory);
	unlink(disk);
	return 0;
}
