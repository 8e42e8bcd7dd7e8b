/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-blk with several queues, each with a thread on both sides: data of one is never another's,
 * while the image grows, and the device is reset in the middle of it. Meant for ThreadSanitizer too.
 */
#include <linux/virtio_blk.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "hv_inproc.h"
#include "iothread.h"
#include "virtio_driver.h"

#define SLOT 4
#define QUEUES 4
#define DEPTH 8
#define ROUNDS 40
#define DATA 4096
#define ROOM (16 + DATA + 1)
#define PART MIB(1) /* of the image, for each queue */

struct bench;

/* struct client - the driver's thread of one queue. @failure: assertions are for the test's own thread. */
struct client {
	struct bench *bench;
	unsigned int index, round;
	pthread_t thread;
	uint64_t gpa;
	const char *failure;
};

struct bench {
	char path[64];
	struct machine *machine;
	struct virtio_driver *driver;
	struct client clients[QUEUES];
	bool null;
};

static uint8_t data_byte(const struct client *client, unsigned int slot, unsigned int at)
{
	return (uint8_t)(client->index * 64 + client->round * 5 + slot + at / 32);
}

static uint8_t *slot_at(struct client *client, unsigned int slot)
{
	return guest_ptr(client->bench->machine, client->gpa + slot * ROOM, ROOM);
}

static void post(struct client *client, unsigned int slot, uint32_t type)
{
	struct driver_queue *queue = driver_queue(client->bench->driver, client->index);
	const uint64_t gpa = client->gpa + slot * ROOM;
	const struct virtio_blk_outhdr header = {
		.type = type, .sector = (client->index * PART + slot * DATA) / 512
	};
	const struct segment write[] = { { gpa, 16 + DATA }, { gpa + 16 + DATA, 1 } };
	const struct segment read[] = { { gpa, 16 }, { gpa + 16, DATA + 1 } };
	uint8_t *memory = slot_at(client, slot);

	memcpy(memory, &header, 16);
	for (unsigned int i = 0; i < DATA; i++)
		memory[16 + i] = type == VIRTIO_BLK_T_OUT ? data_byte(client, slot, i) : 0xee;
	memory[16 + DATA] = 0xff;
	if (driver_add_buf(queue, type == VIRTIO_BLK_T_OUT ? write : read, 1, 1, memory))
		client->failure = "no room in the ring";
}

/* @count answers come, all of them good. */
static void collect(struct client *client, unsigned int count)
{
	struct driver_queue *queue = driver_queue(client->bench->driver, client->index);
	const time_t until = time(NULL) + 60;

	while (count && !client->failure) {
		uint32_t len;
		uint8_t *memory = driver_get_buf(queue, &len);

		if (memory && memory[16 + DATA] != VIRTIO_BLK_S_OK)
			client->failure = "a request failed";
		else if (memory)
			count--;
		else if (time(NULL) > until)
			client->failure = "an answer does not come";
		else
			sched_yield();
	}
}

static void check_slot(struct client *client, unsigned int slot)
{
	const uint8_t *memory = slot_at(client, slot);

	for (unsigned int i = 0; i < DATA; i++)
		if (memory[16 + i] != (client->bench->null ? 0 : data_byte(client, slot, i)))
			client->failure = "data is another's";
}

static void *client_run(void *arg)
{
	struct client *client = arg;
	struct driver_queue *queue = driver_queue(client->bench->driver, client->index);

	for (client->round = 0; client->round < ROUNDS && !client->failure; client->round++) {
		for (unsigned int slot = 0; slot < DEPTH; slot++)
			post(client, slot, VIRTIO_BLK_T_OUT);
		driver_kick(queue);
		collect(client, DEPTH);
		for (unsigned int slot = 0; slot < DEPTH; slot++)
			post(client, slot, VIRTIO_BLK_T_IN);
		driver_kick(queue);
		collect(client, DEPTH);
		for (unsigned int slot = 0; slot < DEPTH; slot++)
			check_slot(client, slot);
	}
	/* In flight when the device is reset. */
	for (unsigned int slot = 0; slot < DEPTH; slot++)
		post(client, slot, VIRTIO_BLK_T_IN);
	driver_kick(queue);
	return NULL;
}

static void bench_open(struct bench *bench, const char *disk, const struct driver_params *params)
{
	const struct machine_config config = { .ioeventfd = params->ioeventfd, .io_thread = true };
	char spec[192];

	bench->machine = machine_create(&config);
	bench->machine->ctx->iothreads = iothreads_create(bench->machine->ctx->log);
	assert_non_null(bench->machine->ctx->iothreads);
	assert_int_equal(iothreads_add(bench->machine->ctx->iothreads, "one"), 0);
	assert_int_equal(iothreads_add(bench->machine->ctx->iothreads, "two"), 0);
	snprintf(spec, sizeof(spec), "%d,virtio-blk,%s,queues=%d,iothread=one+two", SLOT, disk,
		 QUEUES);
	machine_add(bench->machine, spec);
	assert_int_equal(iothreads_start(bench->machine->ctx->iothreads), 0);
	bench->driver = driver_run(bench->machine, SLOT, params, 0);
	for (unsigned int i = 0; i < QUEUES; i++)
		bench->clients[i] = (struct client) {
			.bench = bench,
			.index = i,
			.gpa = guest_alloc(bench->machine, DEPTH * ROOM, 16),
		};
}

static void run(struct bench *bench)
{
	for (unsigned int i = 0; i < QUEUES; i++)
		assert_int_equal(pthread_create(&bench->clients[i].thread, NULL, client_run,
						&bench->clients[i]),
				 0);
	for (unsigned int i = 1; i <= 20 && !bench->null; i++) {
		assert_int_equal(truncate(bench->path, (off_t)(QUEUES * PART + i * MIB(1))), 0);
		usleep(1000);
	}
	for (unsigned int i = 0; i < QUEUES; i++) {
		pthread_join(bench->clients[i].thread, NULL);
		if (bench->clients[i].failure)
			fail_msg("queue %u: %s", i, bench->clients[i].failure);
	}
	pci_reset_devices(bench->machine->ctx);
	pci_function_enable(&bench->driver->pci);
	driver_restart(bench->driver);
}

static void bench_close(struct bench *bench)
{
	driver_close(bench->driver);
	machine_destroy(bench->machine);
}

/* Kicks by eventfd and by trap, split and packed; the second time after a reset. */
static void everything(const char *options, bool null)
{
	static const struct driver_params params[] = {
		{ .event_idx = true, .msix = true, .ioeventfd = true },
		{ .msix = true },
		{ .packed = true, .event_idx = true, .msix = true, .ioeventfd = true },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(params); i++) {
		struct bench *bench = calloc(1, sizeof(*bench));
		char disk[128];
		int fd;

		assert_non_null(bench);
		bench->null = null;
		snprintf(bench->path, sizeof(bench->path), "/tmp/tenon-blk-XXXXXX");
		fd = mkstemp(bench->path);
		assert_int_equal(ftruncate(fd, QUEUES * PART), 0);
		close(fd);
		snprintf(disk, sizeof(disk), "%s%s", null ? "null:16M" : bench->path, options);
		bench_open(bench, disk, &params[i]);
		run(bench);
		run(bench);
		bench_close(bench);
		unlink(bench->path);
		free(bench);
	}
}

static void test_usual(void **state)
{
	everything("", false);
}

static void test_threads(void **state)
{
	everything(",engine=threads,threads=2", false);
}

static void test_limited(void **state)
{
	everything(",iops=50000,bps=500M", false);
}

static void test_polling(void **state)
{
	everything(",poll=on", false);
}

static void test_null(void **state)
{
	everything("", true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_usual),	cmocka_unit_test(test_threads),
		cmocka_unit_test(test_limited), cmocka_unit_test(test_polling),
		cmocka_unit_test(test_null),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
