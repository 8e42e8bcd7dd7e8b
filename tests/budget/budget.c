/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * budget: what a device may cost on its hot path, per 1,000 requests with 32 in flight: system
 * calls, locks taken, allocations. `tenon serve` runs with counter.so in it, a driver over vhost-user
 * gives it requests as Linux does: woken by interrupts, kicking when asked for.
 * usage: TENON=PROGRAM budget COUNTER.so
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "counter.h"
#include "system_calls.h"
#include "vhost_user_client.h"

#define DEPTH 32
#define QUEUE_SIZE 256
#define BLOCK_SIZE 4096
#define FRAME_SIZE 1514
#define ROUND_REQUESTS 10000
#define WARM_UP_REQUESTS 4000
#define ROUNDS 7
#define ANSWER_MS 10000
#define NET_TX_QUEUE 1

enum load { BLOCK_READS, BLOCK_WRITES, NET_FRAMES };

/* struct cost - per 1,000 requests. */
struct cost {
	double system_calls, locks, allocations;
};

/* Where the disk is: nowhere, in a file in memory, in a file of the host's disk and its page cache. */
enum place { NOWHERE, IN_MEMORY, ON_DISK };

/*
 * struct row - @options: of the device; @budget: what it may cost: above the most that was measured on
 * two busy cores, by half where that says something, by more where counts swing with who is faster
 */
struct row {
	const char *name;
	enum load load;
	enum place place;
	bool packed;
	const char *options;
	struct cost budget;
};

/* Who polls takes the queue's lock for each look: how often says nothing of what a request costs. */
#define ANY 1e12

/* clang-format off */
static const struct row rows[] = {
	{ "blk read, null", BLOCK_READS, NOWHERE, false, ",poll=off", { 95, 50, 0 } },
	{ "blk read, null, packed", BLOCK_READS, NOWHERE, true, ",packed=on,poll=off", { 95, 50, 0 } },
	{ "blk write, null", BLOCK_WRITES, NOWHERE, false, ",poll=off", { 95, 50, 0 } },
	{ "blk read, null, polling", BLOCK_READS, NOWHERE, false, "", { 95, ANY, 0 } },
	/* A file in memory is read and written where the request is: one system call each. */
	{ "blk read, memory", BLOCK_READS, IN_MEMORY, false, ",poll=off", { 1100, 50, 0 } },
	{ "blk write, memory", BLOCK_WRITES, IN_MEMORY, false, ",poll=off", { 1100, 50, 0 } },
	{ "blk read, io_uring", BLOCK_READS, ON_DISK, false, ",engine=io_uring,poll=off", { 140, 50, 0 } },
	/* Completions come one by one or together, as the kernel's workers have them. */
	{ "blk write, io_uring", BLOCK_WRITES, ON_DISK, false, ",engine=io_uring,poll=off", { 2000, 2500, 0 } },
	{ "blk read, threads", BLOCK_READS, IN_MEMORY, false, ",engine=threads,poll=off", { 2400, 2500, 0 } },
	{ "blk write, threads", BLOCK_WRITES, IN_MEMORY, false, ",engine=threads,poll=off", { 2400, 2500, 0 } },
	/* A datagram is a system call: sendmmsg() takes several, but the receiver has room for ten. */
	{ "net transmit, dgram", NET_FRAMES, NOWHERE, false, ",poll=off", { 1600, 50, 0 } },
};
/* clang-format on */

/* struct request - its descriptors are the same each time. */
struct request {
	struct virtio_blk_outhdr *header;
	volatile uint8_t *status;
	struct segment segments[3];
};

struct bench {
	const struct row *row;
	struct back_end back_end;
	struct counters *counters;
	struct system_calls calls;
	int calls_error;
	struct front_end *front;
	struct driver_queue *queue;
	struct request requests[DEPTH], *idle[DEPTH];
	unsigned int idle_count;
	uint64_t blocks, random;
	char disk[64];
	int sink;
	pthread_t sink_thread;
};

/* ---- Requests ---- */

static uint64_t random_next(struct bench *bench)
{
	bench->random ^= bench->random << 13;
	bench->random ^= bench->random >> 7;
	bench->random ^= bench->random << 17;
	return bench->random;
}

static void block_request_prepare(struct bench *bench, struct request *request)
{
	struct machine *machine = bench->front->machine;
	struct segment *segments = request->segments;

	segments[0] = (struct segment) { guest_alloc(machine, 16, 64), 16 };
	segments[1] = (struct segment) { guest_alloc(machine, BLOCK_SIZE, 4096), BLOCK_SIZE };
	segments[2] = (struct segment) { guest_alloc(machine, 1, 64), 1 };
	request->header = guest_ptr(machine, segments[0].gpa, 16);
	request->status = guest_ptr(machine, segments[2].gpa, 1);
	request->header->type =
		bench->row->load == BLOCK_WRITES ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
}

static void frame_prepare(struct bench *bench, struct request *request)
{
	const uint32_t size = sizeof(struct virtio_net_hdr_v1) + FRAME_SIZE;
	uint64_t gpa = guest_alloc(bench->front->machine, size, 64);
	uint8_t *frame = guest_ptr(bench->front->machine, gpa, size);

	memset(frame, 0, size);
	memset(frame + sizeof(struct virtio_net_hdr_v1), 0xff, 6);
	request->segments[0] = (struct segment) { gpa, size };
}

static int request_add(struct bench *bench, struct request *request)
{
	bool write = bench->row->load == BLOCK_WRITES;

	if (bench->row->load == NET_FRAMES)
		return driver_add_buf(bench->queue, request->segments, 1, 0, request);
	request->header->sector = random_next(bench) % bench->blocks * (BLOCK_SIZE / 512);
	*request->status = 0xff;
	return driver_add_buf(bench->queue, request->segments, write ? 2 : 1, write ? 1 : 2,
			      request);
}

static unsigned int collect(struct bench *bench)
{
	struct request *request;
	unsigned int count = 0;

	while ((request = driver_get_buf(bench->queue, NULL))) {
		if (request->status && *request->status != VIRTIO_BLK_S_OK)
			fail_msg("%s: a request ended with status %u", bench->row->name,
				 *request->status);
		bench->idle[bench->idle_count++] = request;
		count++;
	}
	return count;
}

static void wait_interrupt(struct bench *bench)
{
	int fd = bench->front->rings[bench->queue->index].call_fd;
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	uint64_t signals;

	if (driver_enable_cb(bench->queue))
		return;
	if (poll(&poll_fd, 1, ANSWER_MS) != 1) {
		back_end_log_print(&bench->back_end);
		fail_msg("%s: no answer in %d ms", bench->row->name, ANSWER_MS);
	}
	if (read(fd, &signals, sizeof(signals)) < 0 && errno != EAGAIN)
		fail_msg("call eventfd: %s", strerror(errno));
	driver_disable_cb(bench->queue);
}

/* Keep DEPTH in flight until @count more were answered and all are back. */
static void run_requests(struct bench *bench, unsigned int count)
{
	unsigned int left = count;

	while (left || bench->idle_count < DEPTH) {
		bool added = false;

		for (; left && bench->idle_count; left--, added = true)
			assert_int_equal(request_add(bench, bench->idle[--bench->idle_count]), 0);
		if (added)
			driver_kick(bench->queue);
		if (!collect(bench))
			wait_interrupt(bench);
	}
}

/* ---- Counting ---- */

static double per_thousand(uint64_t after, uint64_t before)
{
	return (double)(after - before) * 1000 / ROUND_REQUESTS;
}

static struct cost measure_round(struct bench *bench)
{
	uint64_t calls = system_calls_read(&bench->calls);
	struct counters before = *bench->counters, after;

	run_requests(bench, ROUND_REQUESTS);
	after = *bench->counters;
	return (struct cost) {
		.system_calls = per_thousand(system_calls_read(&bench->calls), calls),
		.locks = per_thousand(after.locks, before.locks),
		.allocations = per_thousand(after.allocations, before.allocations),
	};
}

static double smaller(double a, double b)
{
	return a < b ? a : b;
}

/* The least of each over all rounds: other work on this machine only adds, but for allocations, of
 * which each counts. */
static struct cost measure(struct bench *bench)
{
	struct cost least = { 1e9, 1e9, 0 };

	run_requests(bench, WARM_UP_REQUESTS);
	bench->calls_error = system_calls_open(&bench->calls, bench->back_end.pid);
	for (int i = 0; i < ROUNDS; i++) {
		struct cost cost = measure_round(bench);

		least.system_calls = smaller(least.system_calls, cost.system_calls);
		least.locks = smaller(least.locks, cost.locks);
		least.allocations += cost.allocations / ROUNDS;
	}
	system_calls_close(&bench->calls);
	return least;
}

/* ---- A bench ---- */

static struct counters *counters_create(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	void *page;

	if (fd < 0 || ftruncate(fd, sizeof(struct counters)))
		fail_msg("%s: %s", path, strerror(errno));
	page = mmap(NULL, sizeof(struct counters), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	assert_ptr_not_equal(page, MAP_FAILED);
	return page;
}

static void disk_create(struct bench *bench)
{
	static const uint8_t block[KIB(64)] = { 1 };
	int fd;

	snprintf(bench->disk, sizeof(bench->disk), "%s/tenon-budget-XXXXXX",
		 bench->row->place == IN_MEMORY ? "/dev/shm" : "build");
	fd = mkstemp(bench->disk);
	assert_true(fd >= 0);
	for (unsigned int i = 0; i < MIB(64) / sizeof(block); i++)
		assert_int_equal(write(fd, block, sizeof(block)), sizeof(block));
	close(fd);
}

static void *sink_run(void *arg)
{
	static uint8_t frame[KIB(64)];
	const struct bench *bench = arg;

	while (recv(bench->sink, frame, sizeof(frame), 0) > 1)
		;
	return NULL;
}

static void sink_start(struct bench *bench)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/sink", bench->back_end.directory);
	bench->sink = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (bind(bench->sink, (struct sockaddr *)&address, sizeof(address)))
		fail_msg("%s: %s", address.sun_path, strerror(errno));
	assert_int_equal(pthread_create(&bench->sink_thread, NULL, sink_run, bench), 0);
}

static void sink_stop(struct bench *bench)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/sink", bench->back_end.directory);
	/* One byte says that it is over. */
	assert_int_equal(
		sendto(bench->sink, "", 1, 0, (struct sockaddr *)&address, sizeof(address)), 1);
	pthread_join(bench->sink_thread, NULL);
	close(bench->sink);
}

static void back_end_begin(struct bench *bench, const char *counter)
{
	const char *directory = bench->back_end.directory;
	const struct row *row = bench->row;
	char path[128], spec[512];

	snprintf(path, sizeof(path), "%s/counters", directory);
	bench->counters = counters_create(path);
	if (row->load == NET_FRAMES)
		snprintf(spec, sizeof(spec), "virtio-net,backend=dgram,local=%s/net,path=%s/sink%s",
			 directory, directory, row->options);
	else
		snprintf(spec, sizeof(spec), "virtio-blk,path=%s%s",
			 row->place == NOWHERE ? "null:1G" : bench->disk, row->options);
	setenv(COUNTER_VARIABLE, path, 1);
	setenv("LD_PRELOAD", counter, 1);
	back_end_serve(&bench->back_end, spec);
	unsetenv("LD_PRELOAD");
	if (!bench->counters->started)
		fail_msg("%s is not in tenon: is that linked statically?", counter);
}

static void front_begin_driver(struct bench *bench)
{
	const struct driver_params params = { .event_idx = true, .packed = bench->row->packed };
	bool net = bench->row->load == NET_FRAMES;
	struct virtio_driver *driver;

	bench->front = front_create(machine_create(NULL));
	front_attach(bench->front, front_connect(bench->back_end.socket));
	bench->front->queue_size = QUEUE_SIZE;
	assert_int_equal(front_begin(bench->front), 0);
	driver = front_driver_open(bench->front, &params);
	assert_true(driver_negotiate(driver, net ? 0 : driver->offered & ~BIT64(VIRTIO_BLK_F_RO)));
	driver_start(driver);
	bench->queue = driver_queue(driver, net ? NET_TX_QUEUE : 0);
	bench->blocks = net ? 0 : driver_config(driver, 0, 8) * 512 / BLOCK_SIZE;
	bench->random = 0x9e3779b97f4a7c15;
	for (unsigned int i = 0; i < DEPTH; i++) {
		if (net)
			frame_prepare(bench, &bench->requests[i]);
		else
			block_request_prepare(bench, &bench->requests[i]);
		bench->idle[bench->idle_count++] = &bench->requests[i];
	}
	driver_disable_cb(bench->queue);
}

/* ---- Rows ---- */

static bool judge(const struct row *row, const struct cost *cost, int calls_error)
{
	const struct cost *budget = &row->budget;
	bool ok = cost->locks <= budget->locks && cost->allocations <= budget->allocations &&
		  (calls_error || cost->system_calls <= budget->system_calls);

	printf("%-26s", row->name);
	if (calls_error)
		printf("%8s", "?");
	else
		printf("%8.1f", cost->system_calls);
	printf(" (%6.0f)%8.1f ", budget->system_calls, cost->locks);
	if (budget->locks < ANY)
		printf("(%6.0f)", budget->locks);
	else
		printf("(%6s)", "any");
	printf("%8.2f (%1.0f)  %s\n", cost->allocations, budget->allocations,
	       ok ? "ok" : "OVER BUDGET");
	fflush(stdout);
	return ok;
}

static bool run_row(const struct row *row, const char *counter, int *calls_error)
{
	struct bench bench = { .row = row };
	struct cost cost;

	back_end_create(&bench.back_end);
	if (row->place != NOWHERE)
		disk_create(&bench);
	if (row->load == NET_FRAMES)
		sink_start(&bench);
	back_end_begin(&bench, counter);
	front_begin_driver(&bench);
	cost = measure(&bench);
	*calls_error = bench.calls_error;
	front_hang_up(bench.front);
	assert_int_equal(back_end_stop(&bench.back_end), 0);
	if (row->load == NET_FRAMES)
		sink_stop(&bench);
	if (bench.disk[0])
		unlink(bench.disk);
	back_end_destroy(&bench.back_end);
	return judge(row, &cost, bench.calls_error);
}

int main(int argc, char **argv)
{
	unsigned int failed = 0;
	int calls_error = 0;

	if (argc != 2) {
		fprintf(stderr, "usage: TENON=PROGRAM budget COUNTER.so\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	printf("Per 1,000 requests, %d in flight; in brackets what it may be.\n", DEPTH);
	printf("%-26s%17s%17s%12s\n", "", "system calls", "locks taken", "allocations");
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++)
		failed += !run_row(&rows[i], argv[1], &calls_error);
	if (calls_error)
		printf("System calls were not counted: %s (it takes root and the tracepoint "
		       "raw_syscalls:sys_enter).\n",
		       strerror(-calls_error));
	printf("%u passed, %u failed, %u skipped\n", (unsigned int)ARRAY_SIZE(rows) - failed,
	       failed, calls_error ? 1 : 0);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
