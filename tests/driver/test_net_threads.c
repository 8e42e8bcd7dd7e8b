/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-net with several pairs, each worked on by a thread of its own: frames both ways on all of
 * them, while the driver changes how many pairs there are, steers, coalesces, filters and resets,
 * and the host pauses. Run under ThreadSanitizer too. On a real tap; needs root and /dev/net/tun.
 */
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#include "../../devicemodel/hw/pci/virtio/virtio_net.h"
#include "fake_vhost_net.h"
#include "iothread.h"
#include "net_flows.h"

#define PAIRS 4
#define CONTROL (2 * PAIRS)
#define WINDOW 8
#define ROUNDS 150
#define SWITCHES 10

/*
 * One pair's driver. @generation: of the rings it has buffers in; another than the bench's: they
 * are gone
 */
struct client {
	struct threads_bench *bench;
	pthread_t thread;
	unsigned int index, generation;
	uint64_t rx_gpa, tx_gpa;
	unsigned int sent, received;
};

/* @rings: held for writing while the rings are changed, for reading while they are used */
struct threads_bench {
	struct bench bench;
	pthread_rwlock_t rings;
	unsigned int generation;
	bool stop;
	struct client clients[PAIRS];
	unsigned int switches; /* to the kernel, that it took */
	pthread_t wire;
	unsigned int seed;
};

/* No indirect descriptors: their memory would be handed out to several threads. */
static const struct driver_params threaded = { .event_idx = true, .msix = true, .ioeventfd = true };

static struct driver_queue *queue_at(struct client *client, unsigned int index)
{
	return driver_queue(client->bench->bench.driver, index);
}

static void client_give(struct client *client)
{
	struct virtio_driver *driver = client->bench->bench.driver;
	uint8_t packet[HEADER + FRAME] = { 0 };

	for (unsigned int i = 0; i < WINDOW; i++) {
		struct segment rx = { client->rx_gpa + i * BUFFER, BUFFER };
		struct segment tx = { client->tx_gpa + i * BUFFER, sizeof(packet) };

		frame_make(packet + HEADER, (uint8_t)(client->index * WINDOW + i + 1), false);
		memcpy(guest_ptr(driver->machine, tx.gpa, sizeof(packet)), packet, sizeof(packet));
		if (driver_add_buf(queue_at(client, RX(client->index)), &rx, 0, 1,
				   (void *)(uintptr_t)rx.gpa) ||
		    driver_add_buf(queue_at(client, TX(client->index)), &tx, 1, 0,
				   (void *)(uintptr_t)tx.gpa))
			abort();
	}
	driver_kick(queue_at(client, RX(client->index)));
	driver_kick(queue_at(client, TX(client->index)));
}

/* What was used is given again. */
static unsigned int client_recycle(struct client *client, unsigned int queue, bool out)
{
	unsigned int count = 0;
	void *token;

	while ((token = driver_get_buf(queue_at(client, queue), NULL))) {
		struct segment segment = { (uintptr_t)token, out ? HEADER + FRAME : BUFFER };

		if (driver_add_buf(queue_at(client, queue), &segment, out, !out, token))
			abort();
		count++;
	}
	if (count)
		driver_kick(queue_at(client, queue));
	return count;
}

static void *client_run(void *arg)
{
	struct client *client = arg;
	struct threads_bench *bench = client->bench;

	while (!__atomic_load_n(&bench->stop, __ATOMIC_RELAXED)) {
		pthread_rwlock_rdlock(&bench->rings);
		if (client->generation != bench->generation) {
			client->generation = bench->generation;
			client_give(client);
		}
		__atomic_add_fetch(&client->received,
				   client_recycle(client, RX(client->index), false),
				   __ATOMIC_RELAXED);
		__atomic_add_fetch(&client->sent, client_recycle(client, TX(client->index), true),
				   __ATOMIC_RELAXED);
		pthread_rwlock_unlock(&bench->rings);
		sched_yield();
	}
	return NULL;
}

/* The wire's other end answers each flow now and then. */
static void *wire_run(void *arg)
{
	struct threads_bench *bench = arg;
	uint8_t frame[FRAME], sink[2048];

	for (uint8_t flow = 0; !__atomic_load_n(&bench->stop, __ATOMIC_RELAXED); flow++) {
		frame_make(frame, (uint8_t)(flow % (PAIRS * WINDOW) + 1), true);
		if (send(bench->bench.peer, frame, sizeof(frame), MSG_DONTWAIT) < 0)
			sched_yield();
		while (recv(bench->bench.peer, sink, sizeof(sink), MSG_DONTWAIT) > 0)
			;
	}
	return NULL;
}

/* ---- What happens meanwhile ---- */

static uint8_t command(struct threads_bench *bench, const void *bytes, uint32_t len)
{
	uint8_t ack;

	assert_int_equal(driver_request(driver_queue(bench->bench.driver, CONTROL),
					&driver_layouts[0], bytes, len, &ack, 1),
			 1);
	return ack;
}

static void do_pairs(struct threads_bench *bench)
{
	uint16_t pairs = (uint16_t)(1 + rand_r(&bench->seed) % PAIRS);

	assert_int_equal(set_pairs_of(&bench->bench, CONTROL, &pairs, 2), VIRTIO_NET_OK);
}

static void do_rss(struct threads_bench *bench)
{
	uint8_t bytes[2 + 8 + 2 * 8 + 3 + 4] = { VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_RSS_CONFIG,
						 VIRTIO_NET_RSS_HASH_TYPE_UDPv4 };

	bytes[6] = 7; /* the mask */
	for (unsigned int i = 0; i < 8; i++)
		bytes[10 + 2 * i] = (uint8_t)(rand_r(&bench->seed) % PAIRS);
	bytes[26] = PAIRS;
	bytes[28] = 4;
	memcpy(bytes + 29, "\x6d\x5a\x56\xda", 4);
	assert_int_equal(command(bench, bytes, sizeof(bytes)), VIRTIO_NET_OK);
}

static void do_coalesce(struct threads_bench *bench)
{
	uint8_t bytes[2 + 8] = { VIRTIO_NET_CTRL_NOTF_COAL };

	bytes[1] = (uint8_t)(rand_r(&bench->seed) % 2);
	bytes[2] = (uint8_t)(rand_r(&bench->seed) % 6);
	bytes[6] = (uint8_t)(rand_r(&bench->seed) % 200);
	assert_int_equal(command(bench, bytes, sizeof(bytes)), VIRTIO_NET_OK);
}

static void do_filter(struct threads_bench *bench)
{
	const uint8_t bytes[] = { VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC,
				  (uint8_t)(rand_r(&bench->seed) % 2) };

	assert_int_equal(command(bench, bytes, sizeof(bytes)), VIRTIO_NET_OK);
}

static void do_link(struct threads_bench *bench)
{
	assert_int_equal(lab_set_up(TAP, false), 0);
	usleep(200);
	assert_int_equal(lab_set_up(TAP, true), 0);
}

static void do_quiesce(struct threads_bench *bench)
{
	pci_quiesce_devices(bench->bench.machine->ctx);
	usleep(100);
	pci_resume_devices(bench->bench.machine->ctx);
}

static void do_reset(struct threads_bench *bench)
{
	pthread_rwlock_wrlock(&bench->rings);
	driver_restart(bench->bench.driver);
	bench->generation++;
	pthread_rwlock_unlock(&bench->rings);
}

static int vhost_switch(struct threads_bench *bench, bool on)
{
	struct pci_vdev *dev = bench->bench.dev;
	int error;

	pthread_mutex_lock(&dev->lock);
	error = dev->dev_ops->vdev_offload(dev, on);
	pthread_mutex_unlock(&dev->lock);
	return error;
}

/* The kernel takes the queues, unless frames are steered or notifications wait, and gives them back. */
static void do_vhost(struct threads_bench *bench)
{
	for (unsigned int i = 0; i < SWITCHES; i++) {
		int error = vhost_switch(bench, true);

		assert_true(!error || error == -EOPNOTSUPP);
		bench->switches += !error;
		usleep(100);
		assert_int_equal(vhost_switch(bench, false), 0);
		usleep(500);
	}
}

static void do_nothing(struct threads_bench *bench)
{
	usleep(1000);
}

static void (*const happenings[])(struct threads_bench *bench) = {
	do_pairs,   do_rss,   do_coalesce, do_filter,  do_link,
	do_quiesce, do_reset, do_vhost,	   do_nothing,
};

/* ---- The machine ---- */

static void threads_start(struct threads_bench *bench, const char *options)
{
	const struct machine_config config = { .ioeventfd = true, .io_thread = true };
	struct vmctx *ctx;
	char spec[160];

	if (!lab_ready)
		skip();
	kernel_reset();
	bench->seed = 1;
	bench->generation = 1;
	pthread_rwlock_init(&bench->rings, NULL);
	bench->bench.machine = machine_create(&config);
	ctx = bench->bench.machine->ctx;
	ctx->iothreads = iothreads_create(ctx->log);
	assert_int_equal(iothreads_add(ctx->iothreads, "one"), 0);
	assert_int_equal(iothreads_add(ctx->iothreads, "two"), 0);
	snprintf(spec, sizeof(spec), "%d,virtio-net,tap=%s,mac=02:11:22:33:44:55,queues=%u%s", SLOT,
		 TAP, PAIRS, options);
	bench->bench.dev = machine_add(bench->bench.machine, spec);
	assert_int_equal(iothreads_start(ctx->iothreads), 0);
	bench->bench.peer = lab_packet_socket(TAP, 0);
	bench->bench.driver = driver_run(bench->bench.machine, SLOT, &threaded, 0);
	for (unsigned int i = 0; i < PAIRS; i++)
		bench->clients[i] = (struct client) {
			.bench = bench,
			.index = i,
			.rx_gpa = guest_alloc(bench->bench.machine, WINDOW * BUFFER, 16),
			.tx_gpa = guest_alloc(bench->bench.machine, WINDOW * BUFFER, 16),
		};
	for (unsigned int i = 0; i < PAIRS; i++)
		assert_int_equal(pthread_create(&bench->clients[i].thread, NULL, client_run,
						&bench->clients[i]),
				 0);
	assert_int_equal(pthread_create(&bench->wire, NULL, wire_run, bench), 0);
}

static void threads_stop(struct threads_bench *bench)
{
	__atomic_store_n(&bench->stop, true, __ATOMIC_RELAXED);
	for (unsigned int i = 0; i < PAIRS; i++)
		pthread_join(bench->clients[i].thread, NULL);
	pthread_join(bench->wire, NULL);
	bench_close(&bench->bench);
	pthread_rwlock_destroy(&bench->rings);
}

static unsigned int count_of(const unsigned int *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

/* All queues work in the end, whatever happened. */
static void expect_alive(struct threads_bench *bench)
{
	uint16_t pairs = PAIRS;

	assert_int_equal(set_pairs_of(&bench->bench, CONTROL, &pairs, 2), VIRTIO_NET_OK);
	do_reset(bench);
	assert_int_equal(set_pairs_of(&bench->bench, CONTROL, &pairs, 2), VIRTIO_NET_OK);
	for (unsigned int i = 0; i < PAIRS; i++) {
		const struct client *client = &bench->clients[i];
		unsigned int sent = count_of(&client->sent), received = count_of(&client->received);

		for (int wait = 0; wait < 10000 && (count_of(&client->sent) == sent ||
						    count_of(&client->received) == received);
		     wait++)
			usleep(1000);
		if (count_of(&client->sent) == sent || count_of(&client->received) == received)
			fail_msg("pair %u: sent %u more, received %u", i,
				 count_of(&client->sent) - sent,
				 count_of(&client->received) - received);
	}
}

static void everything_at_once(const char *options)
{
	struct threads_bench *bench = test_calloc(1, sizeof(*bench));

	threads_start(bench, options);
	for (unsigned int i = 0; i < ROUNDS; i++)
		happenings[rand_r(&bench->seed) % ARRAY_SIZE(happenings)](bench);
	expect_alive(bench);
	assert_true(bench->switches);
	threads_stop(bench);
	assert_int_equal(kernel.rude + kernel.header_wrong, 0);
	test_free(bench);
}

static void test_own_threads(void **state)
{
	everything_at_once("");
}

static void test_two_threads(void **state)
{
	everything_at_once(",iothread=one+two,poll=off");
}

/* Each pair has a lock of its own, and the control queue the device's. */
static void test_locks(void **state)
{
	struct threads_bench *bench = test_calloc(1, sizeof(*bench));
	struct virtio_common *vc;

	threads_start(bench, "");
	vc = *(struct virtio_common **)((char *)bench->bench.dev->arg + sizeof(void *));
	for (unsigned int i = 0; i < CONTROL; i++)
		assert_ptr_equal(vc->vqs[i].lock, &vc->vqs[i].own_lock);
	assert_ptr_equal(vc->vqs[CONTROL].lock, vc->lock);
	assert_ptr_equal(vc->vqs[0].loop, vc->vqs[1].loop);
	threads_stop(bench);
	test_free(bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_locks),
		cmocka_unit_test(test_own_threads),
		cmocka_unit_test(test_two_threads),
	};

	return cmocka_run_group_tests(tests, group_setup, NULL);
}
