/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * blk_client: a benchmark front end for any vhost-user-blk back end: random reads or writes from one
 * queue a job, split rings with EVENT_IDX, kicks only when they are asked for, and nothing allocated,
 * copied or formatted while it measures. Prints one line of name=value pairs.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/virtio_blk.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "vhost_user_client.h"

#define JOBS_MAX 64
#define DEPTH_MAX 256
#define REQUEST_DESCS 3U /* header, data, status */
#define DRAIN_MS 5000

/* Latencies: for each power of two of nanoseconds, 32 steps. */
#define STEPS_SHIFT 5
#define STEPS (1U << STEPS_SHIFT)
#define BUCKETS (48 * STEPS)

struct options {
	const char *socket;
	unsigned int jobs, depth, block_size, queue_size;
	double seconds, warmup;
	bool write, polling, no_event_idx;
};

/* struct request - at a fixed place of the ring: descriptors 3n to 3n + 2. */
struct request {
	struct virtio_blk_outhdr *header;
	volatile uint8_t *status;
	uint64_t started_ns;
};

/* struct job - a thread with a queue of its own. @phase is the main thread's. */
struct job {
	const struct options *options;
	struct front_end *front;
	struct driver_queue *queue;
	pthread_t thread;
	unsigned int *phase;
	uint64_t blocks, random;
	uint16_t free_count, free[DEPTH_MAX];
	struct request requests[DEPTH_MAX];
	uint64_t done, errors, kicks, sleeps, latency_sum_ns;
	uint64_t buckets[BUCKETS];
} __attribute__((aligned(64)));

enum phase { PHASE_WARMUP, PHASE_MEASURE, PHASE_STOP };

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static inline void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* ---- Latencies ---- */

static unsigned int bucket_of(uint64_t ns)
{
	unsigned int shift = 63U - (unsigned int)__builtin_clzll(ns | STEPS) - STEPS_SHIFT;

	return MIN(shift * STEPS + (unsigned int)(ns >> shift), BUCKETS - 1);
}

static uint64_t bucket_ns(unsigned int bucket)
{
	unsigned int shift = bucket / STEPS;

	if (shift)
		shift--;
	return (uint64_t)(bucket - shift * STEPS) << shift;
}

/* ---- A job ---- */

static void request_prepare(struct job *job, unsigned int index)
{
	struct machine *machine = job->front->machine;
	const struct options *options = job->options;
	struct request *request = &job->requests[index];
	struct vring_desc *desc = &job->queue->ring.desc[index * REQUEST_DESCS];
	uint64_t header = guest_alloc(machine, sizeof(*request->header), 64);
	uint64_t status = guest_alloc(machine, 1, 64);
	uint64_t data = guest_alloc(machine, options->block_size, 4096);

	request->header = guest_ptr(machine, header, sizeof(*request->header));
	request->status = guest_ptr(machine, status, 1);
	memset(guest_ptr(machine, data, options->block_size), 0x5a, options->block_size);
	request->header->type = options->write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
	for (unsigned int i = 0; i < REQUEST_DESCS - 1; i++)
		desc[i].next = (uint16_t)(index * REQUEST_DESCS + i + 1);
	desc[0].addr = header;
	desc[0].len = sizeof(*request->header);
	desc[0].flags = VRING_DESC_F_NEXT;
	desc[1].addr = data;
	desc[1].len = options->block_size;
	desc[1].flags = VRING_DESC_F_NEXT | (options->write ? 0 : VRING_DESC_F_WRITE);
	desc[2].addr = status;
	desc[2].len = 1;
	desc[2].flags = VRING_DESC_F_WRITE;
	job->free[job->free_count++] = (uint16_t)index;
}

static uint64_t random_next(struct job *job)
{
	job->random ^= job->random << 13;
	job->random ^= job->random >> 7;
	job->random ^= job->random << 17;
	return job->random;
}

/* All that is free goes out with one index update; kicked if the device asked for it. */
static void submit(struct job *job, bool measure, uint64_t now)
{
	struct ring *ring = &job->queue->ring;
	uint16_t mask = (uint16_t)(ring->size - 1);

	while (job->free_count) {
		uint16_t index = job->free[--job->free_count];
		struct request *request = &job->requests[index];

		request->header->sector =
			random_next(job) % job->blocks * (job->options->block_size / 512);
		*request->status = 0xff;
		request->started_ns = now;
		ring->avail->ring[ring->avail_idx++ & mask] = (uint16_t)(index * REQUEST_DESCS);
	}
	__atomic_store_n(&ring->avail->idx, ring->avail_idx, __ATOMIC_RELEASE);
	if (!ring_split.kick_needed(ring))
		return;
	front_kick(job->front, job->queue->index);
	job->kicks += measure;
}

static void account(struct job *job, const struct request *request, uint64_t now)
{
	uint64_t latency = now - request->started_ns;

	job->done++;
	job->errors += *request->status != VIRTIO_BLK_S_OK;
	job->latency_sum_ns += latency;
	job->buckets[bucket_of(latency)]++;
}

/* Take all that is used; whether anything was. */
static bool collect(struct job *job, bool measure, uint64_t *now)
{
	struct ring *ring = &job->queue->ring;
	uint16_t used = __atomic_load_n(&ring->used->idx, __ATOMIC_ACQUIRE);

	if (used == ring->used_seen)
		return false;
	*now = now_ns();
	for (; ring->used_seen != used; ring->used_seen++) {
		uint32_t id = ring->used->ring[ring->used_seen & (ring->size - 1)].id;

		if (id % REQUEST_DESCS || id / REQUEST_DESCS >= job->options->depth)
			abort(); /* not what we made available */
		if (measure)
			account(job, &job->requests[id / REQUEST_DESCS], *now);
		job->free[job->free_count++] = (uint16_t)(id / REQUEST_DESCS);
	}
	return true;
}

/* Until the device signals; the main thread signals too when all is over. */
static void wait_called(struct job *job, bool measure)
{
	uint64_t count;

	if (ring_split.enable_callback(&job->queue->ring))
		return;
	job->sleeps += measure;
	if (read(job->front->rings[job->queue->index].call_fd, &count, sizeof(count)) < 0)
		abort();
	if (!job->queue->ring.event_idx) /* else the event lies behind already */
		ring_split.disable_callback(&job->queue->ring);
}

static unsigned int phase_now(const struct job *job)
{
	return __atomic_load_n(job->phase, __ATOMIC_RELAXED);
}

static void job_loop(struct job *job)
{
	uint64_t now = now_ns();
	unsigned int phase;

	submit(job, false, now);
	while ((phase = phase_now(job)) != PHASE_STOP) {
		bool measure = phase == PHASE_MEASURE;

		if (collect(job, measure, &now))
			submit(job, measure, now);
		else if (job->options->polling)
			relax();
		else
			wait_called(job, measure);
	}
}

static void drain(struct job *job)
{
	uint64_t deadline = now_ns() + DRAIN_MS * UINT64_C(1000000), now = 0;

	while (job->free_count < job->options->depth && now_ns() < deadline)
		collect(job, false, &now);
	if (job->free_count < job->options->depth)
		fprintf(stderr, "blk_client: %u requests were never answered\n",
			job->options->depth - job->free_count);
	job->errors += job->options->depth - job->free_count;
}

static void *job_run(void *arg)
{
	struct job *job = arg;

	ring_split.disable_callback(&job->queue->ring);
	job_loop(job);
	drain(job);
	return NULL;
}

/* ---- All jobs ---- */

static void sleep_for(double seconds)
{
	struct timespec time = { .tv_sec = (time_t)seconds };

	time.tv_nsec = (long)((seconds - (double)time.tv_sec) * 1e9);
	nanosleep(&time, NULL);
}

static double cpu_seconds(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static double percentile_us(const uint64_t *buckets, uint64_t total, double part)
{
	uint64_t seen = 0, wanted = (uint64_t)((double)total * part);

	for (unsigned int i = 0; i < BUCKETS; i++) {
		seen += buckets[i];
		if (seen > wanted)
			return (double)bucket_ns(i) / 1000;
	}
	return 0;
}

static int report(struct job *jobs, const struct options *options, double seconds, double cpu)
{
	struct job *sum = &jobs[0];

	for (unsigned int i = 1; i < options->jobs; i++) {
		sum->done += jobs[i].done;
		sum->errors += jobs[i].errors;
		sum->kicks += jobs[i].kicks;
		sum->sleeps += jobs[i].sleeps;
		sum->latency_sum_ns += jobs[i].latency_sum_ns;
		for (unsigned int j = 0; j < BUCKETS; j++)
			sum->buckets[j] += jobs[i].buckets[j];
	}
	printf("iops=%.0f requests=%llu seconds=%.3f lat_avg_us=%.2f lat_p50_us=%.2f "
	       "lat_p99_us=%.2f client_cpu_us=%.3f kicks=%llu sleeps=%llu errors=%llu\n",
	       (double)sum->done / seconds, (unsigned long long)sum->done, seconds,
	       sum->done ? (double)sum->latency_sum_ns / (double)sum->done / 1000 : 0,
	       percentile_us(sum->buckets, sum->done, 0.5),
	       percentile_us(sum->buckets, sum->done, 0.99),
	       sum->done ? cpu * 1e6 / (double)sum->done : 0, (unsigned long long)sum->kicks,
	       (unsigned long long)sum->sleeps, (unsigned long long)sum->errors);
	return sum->errors || !sum->done ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* The eventfds that jobs sleep on block. */
static void job_prepare(struct job *job, struct virtio_driver *driver, unsigned int index)
{
	const struct options *options = job->options;
	int fd = front_of(driver)->rings[index].call_fd;

	job->front = front_of(driver);
	job->queue = driver_queue(driver, index);
	job->random = UINT64_C(0x9e3779b97f4a7c15) * (index + 1);
	job->blocks = driver_config(driver, 0, 8) * 512 / options->block_size;
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	for (unsigned int i = 0; i < options->depth; i++)
		request_prepare(job, i);
}

static int run(struct virtio_driver *driver, const struct options *options)
{
	static struct job jobs[JOBS_MAX];
	unsigned int phase = PHASE_WARMUP;
	uint64_t start, one = 1;
	double cpu, seconds;

	for (unsigned int i = 0; i < options->jobs; i++) {
		jobs[i].options = options;
		jobs[i].phase = &phase;
		job_prepare(&jobs[i], driver, i);
		if (!jobs[i].blocks) {
			fprintf(stderr, "blk_client: the disk is smaller than a block\n");
			return EXIT_FAILURE;
		}
	}
	for (unsigned int i = 0; i < options->jobs; i++)
		if (pthread_create(&jobs[i].thread, NULL, job_run, &jobs[i]))
			return EXIT_FAILURE;
	sleep_for(options->warmup);
	cpu = cpu_seconds();
	start = now_ns();
	__atomic_store_n(&phase, PHASE_MEASURE, __ATOMIC_RELAXED);
	sleep_for(options->seconds);
	__atomic_store_n(&phase, PHASE_STOP, __ATOMIC_RELAXED);
	seconds = (double)(now_ns() - start) / 1e9;
	cpu = cpu_seconds() - cpu;
	for (unsigned int i = 0; i < options->jobs; i++) {
		if (write(jobs[i].front->rings[i].call_fd, &one, sizeof(one)) < 0)
			perror("blk_client: eventfd");
		pthread_join(jobs[i].thread, NULL);
	}
	return report(jobs, options, seconds, cpu);
}

static int bench(const struct options *options)
{
	const struct machine_config config = {
		.memory_size = MIB(64) + (uint64_t)options->jobs * options->depth *
						 (options->block_size + KIB(8)) / MIB(2) * MIB(2),
	};
	const struct driver_params params = { .event_idx = !options->no_event_idx };
	struct front_end *front = front_create(machine_create(&config));
	int socket = front_connect(options->socket), error;
	struct virtio_driver *driver;

	if (socket < 0) {
		fprintf(stderr, "blk_client: %s: %s\n", options->socket, strerror(-socket));
		return EXIT_FAILURE;
	}
	front_attach(front, socket);
	front->queue_size = (uint16_t)options->queue_size;
	error = front_begin(front);
	if (error || front->queue_count < options->jobs) {
		fprintf(stderr, "blk_client: %s\n",
			error ? strerror(-error) : "the disk has not enough queues");
		return EXIT_FAILURE;
	}
	front->queue_count = options->jobs;
	driver = front_driver_open(front, &params);
	if (!driver_negotiate(driver, driver->offered & ~BIT64(VIRTIO_BLK_F_RO)))
		return EXIT_FAILURE;
	driver_start(driver);
	return run(driver, options);
}

static void usage(void)
{
	fprintf(stderr, "usage: blk_client --socket PATH [--jobs N] [--depth N] [--rw read|write] "
			"[--bs BYTES]\n"
			"                  [--seconds S] [--warmup S] [--poll] [--queue-size N] "
			"[--no-event-idx]\n");
	exit(2);
}

static const struct option long_options[] = {
	{ "socket", required_argument, NULL, 's' },
	{ "jobs", required_argument, NULL, 'j' },
	{ "depth", required_argument, NULL, 'd' },
	{ "rw", required_argument, NULL, 'r' },
	{ "bs", required_argument, NULL, 'b' },
	{ "seconds", required_argument, NULL, 't' },
	{ "warmup", required_argument, NULL, 'w' },
	{ "poll", no_argument, NULL, 'p' },
	{ "queue-size", required_argument, NULL, 'q' },
	{ "no-event-idx", no_argument, NULL, 'e' },
	{ 0 },
};

static void option_set(struct options *options, int option)
{
	switch (option) {
	case 's':
		options->socket = optarg;
		break;
	case 'j':
		options->jobs = (unsigned int)strtoul(optarg, NULL, 0);
		break;
	case 'd':
		options->depth = (unsigned int)strtoul(optarg, NULL, 0);
		break;
	case 'r':
		options->write = !strcmp(optarg, "write");
		break;
	case 'b':
		options->block_size = (unsigned int)strtoul(optarg, NULL, 0);
		break;
	case 't':
		options->seconds = strtod(optarg, NULL);
		break;
	case 'w':
		options->warmup = strtod(optarg, NULL);
		break;
	case 'p':
		options->polling = true;
		break;
	case 'q':
		options->queue_size = (unsigned int)strtoul(optarg, NULL, 0);
		break;
	case 'e':
		options->no_event_idx = true;
		break;
	default:
		usage();
	}
}

int main(int argc, char **argv)
{
	struct options options = { .jobs = 1,
				   .depth = 32,
				   .block_size = 4096,
				   .queue_size = 128,
				   .seconds = 3,
				   .warmup = 0.3 };
	int option;

	while ((option = getopt_long(argc, argv, "", long_options, NULL)) >= 0)
		option_set(&options, option);
	if (!options.socket || optind < argc || !options.jobs || options.jobs > JOBS_MAX ||
	    !options.depth || options.depth > DEPTH_MAX || !options.block_size ||
	    options.block_size % 512 || options.depth * REQUEST_DESCS > options.queue_size)
		usage();
	signal(SIGPIPE, SIG_IGN);
	return bench(&options);
}
