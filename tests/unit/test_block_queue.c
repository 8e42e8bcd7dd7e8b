/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Unit tests of block_backend.h: requests on their way in and out. Several queues at the same time,
 * draining, registered buffers, the null disk, and kernels that refuse io_uring.
 */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "block_lab.h"
#include "guest_memory.h"

/* What a child says: 0 for yes. It must not skip or fail an assertion of cmocka's. */
static void in_child(struct fixture *fixture, int (*says)(struct fixture *fixture))
{
	int status = 0;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0)
		_exit(says(fixture));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- The null disk ---- */

static void test_null(void **state)
{
	struct fixture *fixture = *state;
	uint8_t data[2 * SECTOR], zero[2 * SECTOR] = {};
	struct block_info info;

	open_null(fixture, "1M");
	block_get_info(fixture->block, &info);
	assert_int_equal(info.size, MIB(1));
	assert_int_equal(info.logical_block_size, SECTOR);
	assert_true(info.can_discard);
	memset(data, 0xa5, sizeof(data));
	assert_int_equal(run_data(fixture, BLOCK_WRITE, data, sizeof(data), SECTOR), 0);
	assert_int_equal(run_data(fixture, BLOCK_READ, data, sizeof(data), SECTOR), 0);
	assert_memory_equal(data, zero, sizeof(data));
	assert_int_equal(run_range(fixture, BLOCK_FLUSH, 0, 0, false), 0);
	assert_int_equal(run_range(fixture, BLOCK_DISCARD, 0, MIB(1), false), 0);
	assert_int_equal(run_range(fixture, BLOCK_WRITE_ZEROES, 0, MIB(1), true), 0);
	assert_int_equal(run_data(fixture, BLOCK_READ, data, SECTOR, MIB(1)), -EIO);
	assert_int_equal(fixture->captured.count, 0);
}

static void test_null_sizes(void **state)
{
	static const char *const wrong[] = { "null:",	  "null:0",	   "null:100",	"null:x",
					     "null:-512", "null:8388608T", "null:1M,ro" };
	struct fixture *fixture = *state;
	struct block_backend *read_only;
	struct block_info info;

	for (unsigned int i = 0; i < ARRAY_SIZE(wrong); i++) {
		assert_null(try_open(fixture, wrong[i], false, false));
		assert_int_equal(errno, EINVAL);
		assert_non_null(strstr(fixture->captured.lines[i], wrong[i]));
		assert_non_null(strstr(fixture->captured.lines[i], "give a multiple of 512"));
	}
	read_only = try_open(fixture, "null:512", true, true);
	assert_non_null(read_only);
	block_get_info(read_only, &info);
	assert_int_equal(info.size, 512);
	assert_true(info.read_only);
	assert_false(info.can_discard);
	block_close(read_only);
}

/* ---- Batches ---- */

/* What needs no waiting is over when block_kick() returns, and told of once. */
static void test_batch_inline(void **state)
{
	enum { COUNT = 100 };
	struct fixture *fixture = *state;
	struct block_request requests[COUNT];

	open_null(fixture, "1M");
	start_many(fixture, requests, COUNT, &(struct block_request) { .op = BLOCK_FLUSH });
	assert_int_equal(fixture->done, COUNT);
	assert_int_equal(fixture->batches, 1);
	start_many(fixture, requests, COUNT,
		   &(struct block_request) { .op = BLOCK_READ, .offset = MIB(2), .length = 1 });
	assert_int_equal(fixture->done, 2 * COUNT);
	assert_int_equal(fixture->batches, 2);
	assert_int_equal(fixture->last_error, -EIO);
}

/* Nor does a file that is all in memory, or in the page cache of a file system that can tell. */
static void test_batch_in_memory(void **state)
{
	enum { COUNT = 32 };
	struct fixture *fixture = *state;
	struct block_request requests[COUNT];
	uint8_t data[SECTOR] = {};
	const struct iovec iov = { data, sizeof(data) };

	if (access("/dev/shm", W_OK) < 0) {
		print_message("no /dev/shm\n");
		skip();
	}
	unlink(fixture->path);
	image_create(fixture, "/dev/shm", IMAGE_SIZE);
	open_block(fixture, false, false);
	if (!fixture->block->image.in_memory) {
		print_message("/dev/shm is no tmpfs\n");
		skip();
	}
	start_many(fixture, requests, COUNT,
		   &(struct block_request) {
			   .op = BLOCK_WRITE, .iov = &iov, .iov_count = 1, .length = SECTOR });
	assert_int_equal(fixture->done, COUNT);
	assert_int_equal(fixture->batches, 1);
}

/* As many at once as the largest virtqueue holds: there is room for what becomes of each. */
static void test_batch_largest(void **state)
{
	enum { COUNT = 32768 };
	struct fixture *fixture = *state;
	struct block_request *requests;
	uint8_t data[SECTOR];
	const struct iovec iov = { data, sizeof(data) };

	open_block_only(fixture, false, false);
	requests = calloc(COUNT, sizeof(*requests));
	fixture->queue = block_queue_open(fixture->block, fixture->loop, &fixture->lock, COUNT,
					  &queue_ops, fixture);
	assert_non_null(fixture->queue);
	alarm(30);
	start_many(fixture, requests, COUNT,
		   &(struct block_request) {
			   .op = BLOCK_READ, .iov = &iov, .iov_count = 1, .length = SECTOR });
	close_queue(fixture);
	alarm(0);
	assert_int_equal(fixture->done, COUNT);
	assert_int_equal(fixture->last_error, 0);
	free(requests);
}

static void on_done_again(struct block_request *request, int error)
{
	struct fixture *fixture = request->arg;

	fixture->done++;
	block_submit(fixture->queue, request);
}

/* Who goes on submitting for ever does not keep the loop from others, and is not forgotten. */
static void test_endless(void **state)
{
	struct fixture *fixture = *state;
	struct block_request request = { .op = BLOCK_FLUSH, .done = on_done_again, .arg = fixture };
	unsigned int before;

	open_null(fixture, "1M");
	pthread_mutex_lock(&fixture->lock);
	block_submit(fixture->queue, &request);
	block_kick(fixture->queue);
	pthread_mutex_unlock(&fixture->lock);
	for (unsigned int i = 0; i < 3; i++) {
		before = fixture->done;
		assert_true(before > 0);
		event_loop_poll(fixture->loop, WAIT_MS);
		assert_true(fixture->done > before);
	}
	request.done = on_done;
	close_queue(fixture);
}

/* ---- Drain ---- */

/* While the loop's thread takes completions as well, and done() submits again. */
static void test_drain_under_load(void **state)
{
	enum { COUNT = 200, ROUNDS = 50 };
	struct fixture *fixture = *state;
	uint8_t *data = calloc(COUNT, SECTOR);
	struct block_request requests[COUNT];
	struct iovec iov[COUNT];

	open_block(fixture, false, false);
	assert_int_equal(event_loop_start_thread(fixture->loop), 0);
	fixture->resubmit = true;
	for (unsigned int round = 0; round < ROUNDS; round++) {
		pthread_mutex_lock(&fixture->lock);
		fixture->done = 0;
		for (unsigned int i = 0; i < COUNT; i++) {
			iov[i] = (struct iovec) { data + i * SECTOR, SECTOR };
			requests[i] =
				(struct block_request) { .op = i % 3 ? BLOCK_WRITE : BLOCK_READ,
							 .iov = &iov[i],
							 .iov_count = 1,
							 .offset = i * SECTOR,
							 .length = SECTOR };
			submit(fixture, &requests[i]);
		}
		block_kick(fixture->queue);
		pthread_mutex_unlock(&fixture->lock);
		if (round % 2)
			sched_yield();
		pthread_mutex_lock(&fixture->lock);
		block_drain(fixture->queue);
		/* Every second completion submitted one more. */
		assert_int_equal(fixture->done, COUNT + fixture->done / 2);
		assert_int_equal(fixture->queue->in_flight, 0);
		/* Ours again: nobody reads or writes it any more. */
		memset(requests, 0xff, sizeof(requests));
		memset(data, (int)round, COUNT * SECTOR);
		pthread_mutex_unlock(&fixture->lock);
	}
	close_block(fixture);
	event_loop_stop_thread(fixture->loop);
	free(data);
}

/* Requests outlive the thread that handed them in: the kernel may then give them up, we do not. */
static void *submit_and_end(void *arg)
{
	struct fixture *fixture = arg;

	pthread_mutex_lock(&fixture->lock);
	block_kick(fixture->queue);
	pthread_mutex_unlock(&fixture->lock);
	return NULL;
}

static void test_drain_for_another(void **state)
{
	enum { COUNT = 64, ROUNDS = 30, LEN = 4 * SECTOR };
	struct fixture *fixture = *state;
	uint8_t *data = malloc(COUNT * LEN);
	struct block_request requests[COUNT];
	struct iovec iov[COUNT];
	pthread_t thread;

	open_block(fixture, false, false);
	for (unsigned int round = 0; round < ROUNDS; round++) {
		fill(data, COUNT * LEN, round);
		for (unsigned int i = 0; i < COUNT; i++) {
			iov[i] = (struct iovec) { data + i * LEN, LEN };
			requests[i] = (struct block_request) { .op = BLOCK_WRITE,
							       .sync = i == round,
							       .iov = &iov[i],
							       .iov_count = 1,
							       .offset = i * LEN,
							       .length = LEN };
			submit(fixture, &requests[i]);
		}
		assert_int_equal(pthread_create(&thread, NULL, submit_and_end, fixture), 0);
		pthread_join(thread, NULL);
		pthread_mutex_lock(&fixture->lock);
		block_drain(fixture->queue);
		pthread_mutex_unlock(&fixture->lock);
		assert_int_equal(fixture->done, (round + 1) * COUNT);
		assert_int_equal(fixture->last_error, 0);
		assert_file(fixture, 0, data, COUNT * LEN);
	}
	free(data);
}

/*
 * Writes of two queues to the same place, with `direct` on blocks that may be shared: whoever is drained
 * first does not wait for what only the other one's lock gets on with.
 */
static void test_drain_overlapping(void **state)
{
	enum { LEN = MIB(4) };
	struct fixture *fixture = *state, other;
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static uint8_t data[LEN] __attribute__((aligned(4096)));
	const struct iovec large = { data, LEN }, small = { data, 4096 };
	struct block_request requests[2];

	open_block(fixture, false, true);
	fixture->block->image.offset_alignment = 4096;
	fill(data, LEN, 1);
	other = *fixture;
	other.queue = block_queue_open(fixture->block, fixture->loop, &lock, QUEUE_DEPTH,
				       &queue_ops, &other);
	assert_non_null(other.queue);
	alarm(10);
	pthread_mutex_lock(&lock);
	requests[0] = (struct block_request) {
		.op = BLOCK_WRITE, .iov = &large, .iov_count = 1, .length = LEN
	};
	submit(&other, &requests[0]);
	block_kick(other.queue);
	start_many(fixture, &requests[1], 1,
		   &(struct block_request) { .op = BLOCK_WRITE,
					     .iov = &small,
					     .iov_count = 1,
					     .offset = LEN - 4096,
					     .length = 4096 });
	close_queue(fixture);
	block_drain(other.queue);
	block_queue_close(other.queue);
	pthread_mutex_unlock(&lock);
	alarm(0);
	assert_int_equal(fixture->done, 1);
	assert_int_equal(fixture->last_error, 0);
	assert_int_equal(other.done, 1);
	assert_int_equal(other.last_error, 0);
}

/* ---- Several queues ---- */

enum { LANES = 4, LANE_SIZE = IMAGE_SIZE / LANES, LANE_DEPTH = 16, LANE_ROUNDS = 60 };

/* struct lane - a queue with a loop and a lock of its own, and the part of the image it works on. */
struct lane {
	struct fixture *fixture;
	unsigned int number, round, left;
	bool reading, wrong, over;
	struct event_loop *loop;
	pthread_mutex_t lock;
	struct block_queue *queue;
	uint8_t data[LANE_DEPTH][4096];
	struct iovec iov[LANE_DEPTH];
	struct block_request requests[LANE_DEPTH];
};

static void lane_start(struct lane *lane);

static void lane_done(struct block_request *request, int error)
{
	struct lane *lane = request->arg;

	lane->wrong |= error != 0;
	lane->left--;
}

static void lane_check(struct lane *lane)
{
	for (unsigned int i = 0; i < LANE_DEPTH; i++) {
		uint8_t want[4096];

		fill(want, sizeof(want), lane->number * 1000 + lane->round + i);
		lane->wrong |= memcmp(want, lane->data[i], sizeof(want)) != 0;
	}
}

/* A round: write with a flush behind it, then read all of it again. */
static void lane_batch_end(void *arg)
{
	struct lane *lane = arg;

	if (lane->left)
		return;
	if (lane->reading) {
		lane_check(lane);
		lane->round++;
	}
	lane->reading = !lane->reading;
	if (lane->round < LANE_ROUNDS)
		lane_start(lane);
	else
		__atomic_store_n(&lane->over, true, __ATOMIC_RELEASE);
}

static void lane_start(struct lane *lane)
{
	lane->left = LANE_DEPTH;
	for (unsigned int i = 0; i < LANE_DEPTH; i++) {
		uint64_t place = (i * 7 + lane->round * 3) % (LANE_SIZE / 4096);

		if (lane->reading)
			memset(lane->data[i], 0, sizeof(lane->data[i]));
		else
			fill(lane->data[i], sizeof(lane->data[i]),
			     lane->number * 1000 + lane->round + i);
		lane->iov[i] = (struct iovec) { lane->data[i], sizeof(lane->data[i]) };
		lane->requests[i] = (struct block_request) {
			.op = lane->reading ? BLOCK_READ : BLOCK_WRITE,
			.iov = &lane->iov[i],
			.iov_count = 1,
			.offset = lane->number * (uint64_t)LANE_SIZE + place * 4096,
			.length = 4096,
			.done = lane_done,
			.arg = lane,
		};
		block_submit(lane->queue, &lane->requests[i]);
	}
	block_kick(lane->queue);
}

static const struct block_queue_ops lane_ops = { .batch_end = lane_batch_end };

static void lane_open(struct lane *lane, struct fixture *fixture, unsigned int number)
{
	lane->fixture = fixture;
	lane->number = number;
	pthread_mutex_init(&lane->lock, NULL);
	lane->loop = event_loop_create("lane");
	lane->queue = block_queue_open(fixture->block, lane->loop, &lane->lock, LANE_DEPTH,
				       &lane_ops, lane);
	assert_non_null(lane->queue);
	event_loop_set_poll(lane->loop, number % 2 ? 50000 : 0);
	assert_int_equal(event_loop_start_thread(lane->loop), 0);
	pthread_mutex_lock(&lane->lock);
	lane_start(lane);
	pthread_mutex_unlock(&lane->lock);
}

static void lane_close(struct lane *lane)
{
	pthread_mutex_lock(&lane->lock);
	block_drain(lane->queue);
	block_queue_close(lane->queue);
	pthread_mutex_unlock(&lane->lock);
	event_loop_stop_thread(lane->loop);
	event_loop_destroy(lane->loop);
	pthread_mutex_destroy(&lane->lock);
}

static void run_lanes(struct fixture *fixture, bool direct)
{
	struct lane *lanes = aligned_alloc(4096, align_up(LANES * sizeof(*lanes), 4096));

	memset(lanes, 0, LANES * sizeof(*lanes));
	open_block(fixture, false, direct);
	for (unsigned int i = 0; i < LANES; i++)
		lane_open(&lanes[i], fixture, i);
	for (unsigned int i = 0; i < LANES; i++)
		while (!__atomic_load_n(&lanes[i].over, __ATOMIC_ACQUIRE))
			usleep(100);
	for (unsigned int i = 0; i < LANES; i++) {
		lane_close(&lanes[i]);
		assert_false(lanes[i].wrong);
		assert_int_equal(lanes[i].round, LANE_ROUNDS);
	}
	free(lanes);
}

static void test_queues(void **state)
{
	run_lanes(*state, false);
}

static void test_queues_direct(void **state)
{
	run_lanes(*state, true);
}

static void test_queues_limited(void **state)
{
	struct fixture *fixture = *state;

	fixture->iops = (struct block_limit) { 20000, 10 };
	run_lanes(fixture, false);
}

/* A queue of another thread sees that the image became shorter: its user hears of it on its own loop. */
static void test_resize_seen_by_queue(void **state)
{
	struct fixture *fixture = *state, other;
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct block_info info;

	open_block(fixture, false, false);
	other = *fixture;
	pthread_mutex_init(&other.lock, NULL);
	other.queue = block_queue_open(fixture->block, fixture->loop, &lock, QUEUE_DEPTH,
				       &queue_ops, &other);
	assert_non_null(other.queue);
	assert_int_equal(truncate(fixture->path, SECTOR), 0);
	assert_int_equal(run_range(&other, BLOCK_FLUSH, 0, 0, false), 0);
	for (unsigned int i = 0; i < 10 && !fixture->resizes; i++)
		event_loop_poll(fixture->loop, 100);
	assert_int_equal(fixture->resizes, 1);
	block_get_info(fixture->block, &info);
	assert_int_equal(info.size, SECTOR);
	pthread_mutex_lock(&lock);
	block_queue_close(other.queue);
	pthread_mutex_unlock(&lock);
	pthread_mutex_destroy(&other.lock);
}

/* ---- Registered buffers ---- */

/* Pages that the ring holds stay guest memory's when that is cleared, and then go again. */
static void test_pinned(void **state)
{
	struct guest_memory *memory = calloc(1, sizeof(*memory));
	struct fixture *fixture = *state;
	uint8_t *data, outside[SECTOR], zero[8 * SECTOR] = {};

	memory->count = 2;
	memory->regions[0] = (struct guest_memory_region) { .size = MIB(1) };
	memory->regions[1] = (struct guest_memory_region) { .gpa = GIB(4), .size = MIB(1) };
	assert_int_equal(guest_memory_create(&fixture->captured.log, memory, false), 0);
	fixture->memory = memory;
	open_block(fixture, false, false);
	for (unsigned int round = 0; round < 4; round++) {
		data = guest_memory_host(memory, round % 2 ? GIB(4) + 5000 : 8192, 8 * SECTOR);
		fill(data, 8 * SECTOR, round);
		assert_int_equal(run_data(fixture, BLOCK_WRITE, data, 8 * SECTOR, SECTOR), 0);
		assert_int_equal(memory->pins, 1);
		assert_file(fixture, SECTOR, data, 8 * SECTOR);
		guest_memory_clear(memory, false);
		assert_memory_equal(data, zero, 8 * SECTOR);
		assert_int_equal(run_data(fixture, BLOCK_READ, data, 8 * SECTOR, SECTOR), 0);
		assert_file(fixture, SECTOR, data, 8 * SECTOR);
		/* And memory that is none of the guest's. */
		assert_int_equal(run_data(fixture, BLOCK_READ, outside, SECTOR, SECTOR), 0);
		assert_memory_equal(outside, data, SECTOR);
	}
	close_block(fixture);
	assert_int_equal(memory->pins, 0);
	guest_memory_destroy(memory);
	free(memory);
}

static int child_cannot_pin(struct fixture *fixture)
{
	const struct rlimit few = { KIB(512), KIB(512) };
	struct guest_memory *memory = calloc(1, sizeof(*memory));
	uint8_t data[SECTOR] = { 1 };

	memory->count = 1;
	memory->regions[0].size = MIB(1);
	if (guest_memory_create(&fixture->captured.log, memory, false) < 0 ||
	    setrlimit(RLIMIT_MEMLOCK, &few) < 0 || setresuid(65534, 65534, 65534) < 0)
		return 77;
	fixture->memory = memory;
	fixture->block = try_open(fixture, fixture->path, false, false);
	if (!fixture->block)
		return 77;
	open_queue(fixture);
	if (run_data(fixture, BLOCK_WRITE, data, sizeof(data), 0) || memory->pins)
		return 1;
	return !logged(fixture, "pin: cannot: Cannot allocate memory (raise the limit of locked");
}

/* Who may not lock memory is told so once, and goes on without. */
static void test_cannot_pin(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(chmod(fixture->path, 0666), 0);
	in_child(fixture, child_cannot_pin);
}

/* ---- A kernel without io_uring ---- */

/* Locked memory for two rings or so. */
static int child_few_rings(struct fixture *fixture)
{
	enum { QUEUES = 8 };
	const struct rlimit few = { KIB(96), KIB(96) };
	struct block_queue *first = NULL;
	uint8_t data[SECTOR];

	if (setrlimit(RLIMIT_MEMLOCK, &few) < 0 || setresuid(65533, 65533, 65533) < 0)
		return 77;
	fixture->captured.log.level = LOG_LEVEL_DEBUG;
	fixture->engine = BLOCK_ENGINE_AUTO;
	fixture->block = try_open(fixture, fixture->path, false, false);
	if (!fixture->block || fixture->captured.count)
		return 77;
	for (unsigned int i = 0; i < QUEUES; i++) {
		open_queue(fixture);
		first = i ? first : fixture->queue;
		fill(data, sizeof(data), i);
		if (run_data(fixture, BLOCK_WRITE, data, sizeof(data), i * SECTOR) ||
		    run_range(fixture, BLOCK_FLUSH, 0, 0, false))
			return 1;
	}
	fixture->queue = first;
	if (run_data(fixture, BLOCK_READ, data, sizeof(data), 0))
		return 2;
	return !logged(fixture, "no more io_uring: Cannot allocate memory; the pool of threads");
}

/* Who has many queues has rings for some. */
static void test_few_rings(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(chmod(fixture->path, 0666), 0);
	in_child(fixture, child_few_rings);
}

/* From now on system call @number ends with @error in this process. */
static int refuse(int number, int error)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = { ARRAY_SIZE(filter), filter };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0 ? -errno : 0;
}

static int child_refused(struct fixture *fixture)
{
	uint8_t data[SECTOR] = { 1 };

	if (refuse(SYS_io_uring_setup, EPERM) < 0)
		return 77;
	fixture->engine = BLOCK_ENGINE_URING;
	if (try_open(fixture, fixture->path, false, false) || !logged(fixture, "engine=io_uring: "))
		return 1;
	fixture->captured.log.level = LOG_LEVEL_DEBUG;
	fixture->engine = BLOCK_ENGINE_AUTO;
	fixture->block = try_open(fixture, fixture->path, false, false);
	if (!fixture->block)
		return 3;
	open_queue(fixture);
	if (!logged(fixture, "a pool of threads does the I/O"))
		return 2;
	return -run_data(fixture, BLOCK_WRITE, data, sizeof(data), 0);
}

/* "auto" goes on with the pool and says so to who looks closely; asked for by name it is an error. */
static void test_refused(void **state)
{
	in_child(*state, child_refused);
}

static int child_enter_refused(struct fixture *fixture)
{
	enum { COUNT = 8 };
	struct block_request requests[COUNT];
	uint8_t out[SECTOR], in[SECTOR] = {};
	const struct iovec iov = { out, sizeof(out) };

	fill(out, sizeof(out), 9);
	fixture->block = try_open(fixture, fixture->path, false, false);
	if (!fixture->block)
		return 77;
	open_queue(fixture);
	if (refuse(SYS_io_uring_enter, ENOMEM) < 0)
		return 77;
	start_many(fixture, requests, COUNT,
		   &(struct block_request) {
			   .op = BLOCK_WRITE, .iov = &iov, .iov_count = 1, .length = SECTOR });
	while (fixture->done < COUNT)
		event_loop_poll(fixture->loop, WAIT_MS);
	if (fixture->last_error || run_range(fixture, BLOCK_FLUSH, 0, 0, false) ||
	    run_data(fixture, BLOCK_READ, in, sizeof(in), 0))
		return 3;
	return memcmp(out, in, sizeof(in)) != 0;
}

/* A ring that the kernel takes nothing from any more: what it left is not lost. */
static void test_enter_refused(void **state)
{
	in_child(*state, child_enter_refused);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_null, setup, teardown),
		cmocka_unit_test_setup_teardown(test_null_sizes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_batch_inline, setup, teardown),
		cmocka_unit_test_setup_teardown(test_batch_in_memory, setup_uring, teardown),
		cmocka_unit_test_setup_teardown(test_batch_largest, setup_uring, teardown),
		cmocka_unit_test_setup_teardown(test_endless, setup, teardown),
		ON_EACH_ENGINE(test_drain_under_load),
		ON_EACH_ENGINE(test_drain_for_another),
		ON_EACH_ENGINE(test_drain_overlapping),
		ON_EACH_ENGINE(test_queues),
		ON_EACH_ENGINE(test_queues_direct),
		ON_EACH_ENGINE(test_queues_limited),
		ON_EACH_ENGINE(test_resize_seen_by_queue),
		cmocka_unit_test_setup_teardown(test_pinned, setup_uring, teardown),
		cmocka_unit_test_setup_teardown(test_cannot_pin, setup_uring, teardown),
		cmocka_unit_test_setup_teardown(test_few_rings, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_enter_refused, setup_uring, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
