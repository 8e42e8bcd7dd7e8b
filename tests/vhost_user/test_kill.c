/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A back end that is killed, or hung up on, at any moment under verified writes: no request is lost,
 * each completes once, and what was acknowledged is on the disk. The rings and the inflight memory
 * outlive it, as they do in QEMU.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "vhost_user_client.h"

#define QUEUES 2U
#define SLOTS 32U /* requests in flight, over all queues */
#define BLOCK 4096U
#define ROUNDS 100
#define MOMENT_US 8000 /* after the start of the back end, or the last time: random up to that */
#define STALL_MS 10000
#define SETTLE_MS 10000

/*
 * struct slot - a place on the disk that has one request in flight: write, read back, write the next.
 * @sequence: of the write in flight or acknowledged last; @acknowledged: of the latter
 */
struct slot {
	struct virtio_blk_outhdr *header;
	uint8_t *data, *status;
	struct segment segments[3];
	uint32_t sequence, acknowledged;
	bool busy, reading;
};

/*
 * struct endurance - one test.
 * @by_front: the front end hangs up, the back end lives
 * @stopping: no new requests
 */
struct endurance {
	struct back_end back_end;
	char disk[128];
	const char *arguments[8];
	bool packed, by_front, stopping;
	struct machine *machine;
	struct front_end *front;
	struct virtio_driver *driver;
	struct slot slots[SLOTS];
	uint64_t random;
	unsigned int rounds, handshakes_cut, resubmitted, completed;
};

static uint64_t random_below(struct endurance *test, uint64_t limit)
{
	test->random ^= test->random << 13;
	test->random ^= test->random >> 7;
	test->random ^= test->random << 17;
	return test->random % limit;
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- Requests ---- */

/* Contents that no other write has: slot and sequence, in each word. */
static void contents(uint8_t *data, unsigned int slot, uint32_t sequence)
{
	for (unsigned int i = 0; i < BLOCK / 8; i++) {
		uint64_t word = (uint64_t)slot << 56 | (uint64_t)i << 40 | sequence;

		memcpy(data + 8 * i, &word, sizeof(word));
	}
}

static void assert_contents(const uint8_t *data, unsigned int slot, uint32_t sequence,
			    const char *where)
{
	uint8_t expected[BLOCK];
	uint64_t word;

	contents(expected, slot, sequence);
	memcpy(&word, data, sizeof(word));
	if (memcmp(data, expected, BLOCK))
		fail_msg("%s: block %u has write %u of block %u, not write %u", where, slot,
			 (uint32_t)word, (unsigned int)(word >> 56), sequence);
}

static void slot_prepare(struct endurance *test, unsigned int index)
{
	struct slot *slot = &test->slots[index];
	uint64_t header = guest_alloc(test->machine, sizeof(*slot->header), 16);
	uint64_t data = guest_alloc(test->machine, BLOCK, 16);
	uint64_t status = guest_alloc(test->machine, 1, 1);

	slot->header = guest_ptr(test->machine, header, sizeof(*slot->header));
	slot->data = guest_ptr(test->machine, data, BLOCK);
	slot->status = guest_ptr(test->machine, status, 1);
	slot->segments[0] = (struct segment) { header, sizeof(*slot->header) };
	slot->segments[1] = (struct segment) { data, BLOCK };
	slot->segments[2] = (struct segment) { status, 1 };
}

static void slot_submit(struct endurance *test, unsigned int index)
{
	struct slot *slot = &test->slots[index];
	struct driver_queue *queue = driver_queue(test->driver, index % QUEUES);

	*slot->header = (struct virtio_blk_outhdr) { .type = slot->reading ? VIRTIO_BLK_T_IN
									   : VIRTIO_BLK_T_OUT,
						     .sector = index * (BLOCK / 512) };
	*slot->status = 0xff;
	if (slot->reading)
		memset(slot->data, DRIVER_POISON, BLOCK);
	else
		contents(slot->data, index, ++slot->sequence);
	slot->busy = true;
	assert_int_equal(driver_add_buf(queue, slot->segments, slot->reading ? 1 : 2,
					slot->reading ? 2 : 1, slot),
			 0);
}

static void slot_complete(struct endurance *test, struct slot *slot, uint32_t len)
{
	unsigned int index = (unsigned int)(slot - test->slots);

	assert_true(slot->busy); /* else it completed twice */
	assert_int_equal(*slot->status, VIRTIO_BLK_S_OK);
	assert_int_equal(len, slot->reading ? BLOCK + 1 : 1);
	if (slot->reading)
		assert_contents(slot->data, index, slot->acknowledged, "read back");
	else
		slot->acknowledged = slot->sequence;
	slot->busy = false;
	slot->reading = !slot->reading;
	test->completed++;
}

/* All that was used; its successors are made available. Returns how many. */
static unsigned int collect(struct endurance *test)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < QUEUES; i++) {
		struct driver_queue *queue = driver_queue(test->driver, i);
		struct slot *slot;
		uint32_t len;

		while ((slot = driver_get_buf(queue, &len))) {
			slot_complete(test, slot, len);
			if (!test->stopping)
				slot_submit(test, (unsigned int)(slot - test->slots));
			count++;
		}
		driver_kick(queue);
	}
	return count;
}

static unsigned int busy_slots(const struct endurance *test)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < SLOTS; i++)
		count += test->slots[i].busy;
	return count;
}

/* Requests that the back end had taken and not used, by the record that it left (QueueRegion). */
static unsigned int recorded(const struct endurance *test)
{
	const struct front_end *front = test->front;
	uint64_t region = front->inflight.mmap_size / QUEUES;
	uint64_t stride = test->packed ? 32 : 16, header = stride;
	unsigned int count = 0;

	for (unsigned int i = 0; i < QUEUES; i++)
		for (unsigned int j = 0; j < front->queue_size; j++)
			count += *((uint8_t *)front->inflight_memory + i * region + header +
				   j * stride);
	return count;
}

/* ---- Who kills ---- */

struct killer {
	pid_t pid; /* or 0: hang up */
	int socket;
	uint64_t delay_us;
	pthread_t thread;
};

static void *killer_run(void *arg)
{
	struct killer *killer = arg;

	usleep((useconds_t)killer->delay_us);
	if (killer->pid)
		kill(killer->pid, SIGKILL);
	else
		shutdown(killer->socket, SHUT_RDWR);
	return NULL;
}

static void killer_start(struct killer *killer, struct endurance *test)
{
	*killer = (struct killer) { .pid = test->by_front ? 0 : test->back_end.pid,
				    .socket = test->front->socket,
				    .delay_us = random_below(test, MOMENT_US) };
	assert_int_equal(pthread_create(&killer->thread, NULL, killer_run, killer), 0);
}

/* ---- Sessions ---- */

static void start_back_end(struct endurance *test)
{
	int error = back_end_start(&test->back_end, test->arguments);

	if (error) {
		back_end_log_print(&test->back_end);
		fail_msg("tenon serve does not start again: %s", strerror(-error));
	}
}

static void connect_front(struct endurance *test)
{
	int socket = front_connect(test->back_end.socket);

	assert_true(socket >= 0);
	front_attach(test->front, socket);
}

static bool hung_up(const struct endurance *test)
{
	char byte;

	return recv(test->front->socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0 ||
	       (errno != EAGAIN && errno != EINTR);
}

static void sleep_for_calls(struct endurance *test, int timeout_ms)
{
	struct pollfd fds[QUEUES + 1] = { { .fd = test->front->socket, .events = POLLIN } };

	for (unsigned int i = 0; i < QUEUES; i++)
		fds[i + 1] =
			(struct pollfd) { .fd = test->front->rings[i].call_fd, .events = POLLIN };
	poll(fds, QUEUES + 1, timeout_ms);
	for (unsigned int i = 0; i < QUEUES; i++)
		front_called(test->front, i);
}

static void fail_stalled(struct endurance *test)
{
	for (unsigned int i = 0; i < SLOTS; i++)
		if (test->slots[i].busy)
			print_message("slot %u: %s %u was never answered\n", i,
				      test->slots[i].reading ? "read after write" : "write",
				      test->slots[i].sequence);
	back_end_log_print(&test->back_end);
	fail_msg("requests were lost (%u rounds, %u requests done)", test->rounds, test->completed);
}

/* I/O until the other side is gone, or until nothing is in flight if we are stopping. */
static void work(struct endurance *test)
{
	uint64_t progress_ms = now_ms();

	while (!hung_up(test)) {
		if (collect(test))
			progress_ms = now_ms();
		if (test->stopping && !busy_slots(test))
			return;
		if (now_ms() - progress_ms > STALL_MS)
			fail_stalled(test);
		sleep_for_calls(test, 100);
	}
}

/* One life of the back end, or of the connection, from its start to its violent end. */
static void round_run(struct endurance *test)
{
	struct killer killer;
	int error;

	if (!test->by_front)
		start_back_end(test);
	connect_front(test);
	killer_start(&killer, test);
	error = front_driver_resume(test->driver);
	if (error && error != -ECONNRESET) {
		back_end_log_print(&test->back_end);
		fail_msg("the front end cannot go on: %s", strerror(-error));
	}
	test->handshakes_cut += error != 0;
	if (!error)
		work(test);
	pthread_join(killer.thread, NULL);
	if (!test->by_front)
		back_end_kill(&test->back_end);
	front_hang_up(test->front);
	collect(test); /* what it told of before it died is done */
	test->resubmitted += recorded(test);
	test->rounds++;
}

static void first_session(struct endurance *test)
{
	const struct driver_params params = { .indirect = true,
					      .event_idx = true,
					      .packed = test->packed };
	struct front_end *front = test->front;

	start_back_end(test);
	connect_front(test);
	assert_int_equal(front_begin(front), 0);
	front->queue_count = QUEUES;
	test->driver = front_driver_open(front, &params);
	assert_int_equal(test->driver->queue_count, QUEUES);
	assert_true(driver_negotiate(test->driver, test->driver->offered));
	assert_int_equal(front_inflight_get(front, QUEUES, front->queue_size), 0);
	assert_int_equal(front_inflight_set(front), 0);
	driver_start(test->driver);
	for (unsigned int i = 0; i < SLOTS; i++) {
		slot_prepare(test, i);
		slot_submit(test, i);
	}
}

/* Everything comes to its end in a last life without violence; then look at the disk itself. */
static void settle(struct endurance *test)
{
	uint8_t block[BLOCK];
	int disk;

	if (!test->by_front)
		start_back_end(test);
	connect_front(test);
	assert_int_equal(front_driver_resume(test->driver), 0);
	test->stopping = true;
	work(test);
	assert_int_equal(busy_slots(test), 0);
	front_hang_up(test->front);
	assert_true(back_end_alive(&test->back_end));
	disk = open(test->disk, O_RDONLY | O_CLOEXEC);
	assert_true(disk >= 0);
	for (unsigned int i = 0; i < SLOTS; i++) {
		assert_int_equal(pread(disk, block, BLOCK, i * BLOCK), BLOCK);
		assert_contents(block, i, test->slots[i].acknowledged, "on the disk");
	}
	close(disk);
}

static struct endurance *endurance_create(void **state)
{
	struct endurance *test = calloc(1, sizeof(*test));
	static char spec[256];
	int disk;

	assert_non_null(test);
	*state = test;
	test->random = UINT64_C(0x9e3779b97f4a7c15);
	back_end_create(&test->back_end);
	snprintf(test->disk, sizeof(test->disk), "%s/disk", test->back_end.directory);
	disk = open(test->disk, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(disk >= 0);
	assert_int_equal(ftruncate(disk, MIB(1)), 0);
	close(disk);
	snprintf(spec, sizeof(spec), "virtio-blk,%s,queues=%u,packed=on", test->disk, QUEUES);
	memcpy(test->arguments,
	       (const char *[]) { "serve", "-s", spec, "--socket", test->back_end.socket, NULL },
	       6 * sizeof(char *));
	test->machine = machine_create(NULL);
	test->front = front_create(test->machine);
	return test;
}

static int endurance_end(void **state)
{
	struct endurance *test = *state;

	if (!test)
		return 0;
	driver_close(test->driver);
	front_destroy(test->front);
	machine_destroy(test->machine);
	back_end_destroy(&test->back_end);
	free(test);
	*state = NULL;
	return 0;
}

static void endure(void **state, bool packed, bool by_front)
{
	struct endurance *test = endurance_create(state);
	uint64_t start = now_ms();

	test->packed = packed;
	test->by_front = by_front;
	first_session(test);
	if (by_front)
		front_hang_up(test->front);
	else
		back_end_kill(&test->back_end);
	while (test->rounds < ROUNDS)
		round_run(test);
	settle(test);
	/* The test is worth something only if requests were in flight at the end of most lives. */
	assert_true(test->resubmitted > ROUNDS);
	assert_true(test->completed > ROUNDS);
	print_message("%u times %s, %u of them while shaking hands: %u requests resubmitted, %u "
		      "completed, none lost, %llu ms\n",
		      test->rounds, by_front ? "hung up on" : "killed", test->handshakes_cut,
		      test->resubmitted, test->completed, (unsigned long long)(now_ms() - start));
}

static void killed_split(void **state)
{
	endure(state, false, false);
}

static void killed_packed(void **state)
{
	endure(state, true, false);
}

static void hung_up_split(void **state)
{
	endure(state, false, true);
}

static void hung_up_packed(void **state)
{
	endure(state, true, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(killed_split, endurance_end),
		cmocka_unit_test_teardown(killed_packed, endurance_end),
		cmocka_unit_test_teardown(hung_up_split, endurance_end),
		cmocka_unit_test_teardown(hung_up_packed, endurance_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
