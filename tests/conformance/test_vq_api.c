/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The rings behind the device author's functions, with a device that does exactly what a test says:
 * batches, order, notifications, in both formats; and what is refused when a device is made.
 */
#include <linux/virtio_blk.h>
#include <linux/virtio_net.h>
#include <errno.h>
#include <stdlib.h>

#include "../../devicemodel/hw/pci/virtio/virtio_pci.h"
#include "virtio_driver.h"

#define SLOT 3
#define QUEUE_SIZE 16
#define HELD_MAX 64
#define IOVS 256
#define BUFFER 8 /* bytes each way */

/*
 * struct ring_device - takes chains when it is kicked and keeps them.
 * @batch: chains a vq_getchains(), 0: none are taken; @n_iov: room it says there is
 * @held: chains in the order taken, @count of them; @result: of the last vq_getchains()
 */
struct ring_device {
	struct virtio_common vc;
	int batch, n_iov;
	struct vq_chain held[HELD_MAX];
	struct iovec iov[IOVS];
	int count, iov_used, result;
};

static void device_take(struct ring_device *device, struct vqueue_info *vq)
{
	while (device->batch && vq_has_descs(vq)) {
		struct iovec *iov = device->iov + device->iov_used;
		int room = MIN(device->n_iov, IOVS - device->iov_used);

		device->result =
			vq_getchains(vq, device->held + device->count,
				     MIN(device->batch, HELD_MAX - device->count), iov, room);
		for (int i = 0; i < device->result; i++) {
			struct vq_chain *chain = &device->held[device->count++];

			assert_ptr_equal(chain->iov, device->iov + device->iov_used);
			device->iov_used += chain->out_count + chain->in_count;
		}
		if (device->result <= 0)
			return;
	}
}

static void device_qnotify(void *dev, struct vqueue_info *vq)
{
	device_take(dev, vq);
}

static void device_reset(void *dev)
{
	struct ring_device *device = dev;

	device->count = device->iov_used = device->result = 0;
	device->batch = 4;
	device->n_iov = IOVS;
}

/* clang-format off */
VIRTIO_DEVICE(ring_device, {
	.name = "test-ring", .summary = "for tests of rings", .device_id = VIRTIO_ID_9P,
	.nvq = 1, .queue_size = QUEUE_SIZE, .priv_size = sizeof(struct ring_device),
	.reset = device_reset, .qnotify = device_qnotify,
});
/* clang-format on */

/* ---- Benches ---- */

struct bench {
	struct machine *machine;
	struct ring_device *device;
	struct vqueue_info *vq;
	struct virtio_driver *driver;
	struct driver_queue *queue;
	int tokens[HELD_MAX];
	uint64_t gpa[HELD_MAX];
	int added;
};

static void bench_open(struct bench *bench, const struct driver_params *params)
{
	struct pci_vdev *dev;

	*bench = (struct bench) { .machine = machine_create(NULL) };
	dev = machine_add(bench->machine, "3,test-ring,packed=on,in_order=on");
	bench->device = (struct ring_device *)((struct virtio_pci *)dev->arg)->vc;
	bench->vq = &bench->device->vc.vqs[0];
	bench->driver = driver_run(bench->machine, SLOT, params, BIT64(VIRTIO_F_NOTIFY_ON_EMPTY));
	bench->queue = driver_queue(bench->driver, 0);
	device_reset(bench->device);
}

static void bench_close(struct bench *bench)
{
	driver_close(bench->driver);
	machine_destroy(bench->machine);
}

/* Run @test in every combination but those that differ only in how kicks come. */
static void each_combination(void (*test)(struct bench *bench), uint64_t extra)
{
	for (unsigned int i = 0; i < DRIVER_COMBINATIONS; i++) {
		struct driver_params params = driver_params_at(i);
		struct bench bench;
		char name[80];

		if (params.ioeventfd || (extra && params.legacy))
			continue;
		params.extra = extra;
		print_message("%s\n", driver_params_name(&params, name, sizeof(name)));
		bench_open(&bench, &params);
		test(&bench);
		bench_close(&bench);
	}
}

/* A buffer of BUFFER bytes each way, cut into @pieces a direction; its first byte is its number. */
static void add(struct bench *bench, unsigned int pieces)
{
	int number = bench->added++ % HELD_MAX;
	uint64_t gpa = guest_alloc(bench->machine, 2 * BUFFER, 16);
	uint8_t *bytes = guest_ptr(bench->machine, gpa, 2 * BUFFER);
	const uint32_t cut = BUFFER / pieces;
	struct segment segments[2 * BUFFER];
	unsigned int out = segments_cut(segments, BUFFER, gpa, BUFFER, &cut, 1);
	unsigned int in = segments_cut(segments + out, BUFFER, gpa + BUFFER, BUFFER, &cut, 1);

	for (int i = 0; i < BUFFER; i++)
		bytes[i] = (uint8_t)(number + i);
	memset(bytes + BUFFER, DRIVER_POISON, BUFFER);
	bench->gpa[number] = gpa;
	assert_int_equal(driver_add_buf(bench->queue, segments, out, in, &bench->tokens[number]),
			 0);
}

static void add_and_kick(struct bench *bench, int count)
{
	for (int i = 0; i < count; i++)
		add(bench, 1);
	driver_kick(bench->queue);
}

/* The number of the buffer that the device holds at @index. */
static int held_number(const struct bench *bench, int index)
{
	uint8_t number;

	iov_to_buf(bench->device->held[index].iov, bench->device->held[index].out_count, 0, &number,
		   1);
	return number;
}

static void release(struct bench *bench, int index, uint32_t len)
{
	pthread_mutex_lock(bench->device->vc.lock);
	vq_relchain(bench->vq, bench->device->held[index].idx, len);
	pthread_mutex_unlock(bench->device->vc.lock);
}

static void publish(struct bench *bench, int used_all)
{
	pthread_mutex_lock(bench->device->vc.lock);
	vq_endchains(bench->vq, used_all);
	pthread_mutex_unlock(bench->device->vc.lock);
}

static void forget_held(struct bench *bench)
{
	bench->device->count = bench->device->iov_used = 0;
}

/* The next used buffer's number, and its length. */
static int used_number(struct bench *bench, uint32_t *len)
{
	int *token = driver_get_buf(bench->queue, len);

	assert_non_null(token);
	return (int)(token - bench->tokens);
}

/* ---- Taking ---- */

/* In the order made available, whatever the batch; each once, with all of its bytes in order. */
static void taken_in_order(struct bench *bench)
{
	for (int batch = 1; batch <= 7; batch += 3) {
		const unsigned int pieces = batch == 4 && bench->driver->params.indirect ? 4 : 1;
		int first = bench->added;

		bench->device->batch = batch;
		forget_held(bench);
		for (int i = 0; i < QUEUE_SIZE / 2; i++)
			add(bench, pieces);
		driver_kick(bench->queue);
		assert_int_equal(bench->device->count, QUEUE_SIZE / 2);
		for (int i = 0; i < QUEUE_SIZE / 2; i++) {
			const struct vq_chain *chain = &bench->device->held[i];
			uint8_t bytes[BUFFER];

			assert_int_equal(held_number(bench, i), (first + i) % HELD_MAX);
			assert_int_equal(chain->out_len, BUFFER);
			assert_int_equal(chain->in_len, BUFFER);
			assert_int_equal(
				iov_to_buf(chain->iov, chain->out_count, 0, bytes, sizeof(bytes)),
				BUFFER);
			for (int j = 0; j < BUFFER; j++)
				assert_int_equal(bytes[j], (uint8_t)(bytes[0] + j));
		}
		for (int i = 0; i < QUEUE_SIZE / 2; i++)
			release(bench, i, BUFFER);
		publish(bench, 1);
		for (int i = 0; i < QUEUE_SIZE / 2; i++)
			assert_int_equal(used_number(bench, NULL), (first + i) % HELD_MAX);
	}
}

static void test_taken_in_order(void **state)
{
	each_combination(taken_in_order, 0);
}

/* What was put back is the next one again, as often as that happens. */
static void put_back(struct bench *bench)
{
	for (unsigned int round = 0; round < 5; round++) {
		int first = bench->added % HELD_MAX;

		forget_held(bench);
		bench->device->batch = 3;
		add_and_kick(bench, 4);
		assert_int_equal(bench->device->count, 4);
		pthread_mutex_lock(bench->device->vc.lock);
		for (int i = 0; i < 3; i++)
			vq_retchain(bench->vq);
		bench->device->count = 1;
		bench->device->iov_used = 2;
		device_take(bench->device, bench->vq);
		pthread_mutex_unlock(bench->device->vc.lock);
		assert_int_equal(bench->device->count, 4);
		for (int i = 0; i < 4; i++) {
			assert_int_equal(held_number(bench, i), (first + i) % HELD_MAX);
			release(bench, i, 0);
		}
		publish(bench, 1);
		for (int i = 0; i < 4; i++)
			assert_int_equal(used_number(bench, NULL), (first + i) % HELD_MAX);
	}
}

static void test_put_back(void **state)
{
	each_combination(put_back, 0);
}

/* A chain that does not fit into what is left stays for the next call; one that never fits ends it. */
static void room_for_iovecs(struct bench *bench)
{
	bench->device->n_iov = 5; /* a chain takes two here */
	add_and_kick(bench, 4);
	assert_int_equal(bench->device->count, 4);
	assert_int_equal(bench->device->result, 2);
	for (int i = 0; i < 4; i++)
		release(bench, i, 0);
	publish(bench, 1);
	bench->device->n_iov = 1;
	add_and_kick(bench, 1);
	assert_int_equal(bench->device->result, -1);
	assert_int_equal(bench->device->count, 4);
	assert_true(driver_status(bench->driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

static void test_room_for_iovecs(void **state)
{
	each_combination(room_for_iovecs, 0);
}

/* ---- Giving back ---- */

/* Any order: the driver sees them in the order in which they were completed. */
static void used_as_completed(struct bench *bench)
{
	static const int orders[][4] = { { 3, 2, 1, 0 }, { 1, 3, 0, 2 }, { 2, 0, 3, 1 } };

	for (unsigned int round = 0; round < 9; round++) {
		const int *order = orders[round % ARRAY_SIZE(orders)];
		int first = bench->added;
		uint32_t len;

		forget_held(bench);
		add_and_kick(bench, 4);
		for (int i = 0; i < 4; i++) {
			release(bench, order[i], (uint32_t)order[i]);
			if (round & 1)
				publish(bench, 0);
		}
		publish(bench, 1);
		for (int i = 0; i < 4; i++) {
			assert_int_equal(used_number(bench, &len), (first + order[i]) % HELD_MAX);
			assert_int_equal(len, order[i]);
		}
	}
}

static void test_used_as_completed(void **state)
{
	each_combination(used_as_completed, 0);
}

/* IN_ORDER: those that are done before an earlier one wait for it. */
static void in_order(struct bench *bench)
{
	for (unsigned int round = 0; round < 9; round++) {
		int first = bench->added;
		uint32_t len;

		forget_held(bench);
		add_and_kick(bench, 4);
		for (int i = 3; i > 0; i--) {
			release(bench, i, (uint32_t)i);
			publish(bench, 0);
			assert_false(driver_pending(bench->queue));
		}
		assert_false(driver_queue_interrupt(bench->queue));
		release(bench, 0, 7);
		publish(bench, 1);
		assert_true(driver_queue_interrupt(bench->queue));
		for (int i = 0; i < 4; i++) {
			assert_int_equal(used_number(bench, &len), (first + i) % HELD_MAX);
			assert_int_equal(len, i ? i : 7);
		}
	}
}

static void test_in_order(void **state)
{
	each_combination(in_order, BIT64(VIRTIO_F_IN_ORDER));
}

/* Many at once: nothing shows before the end, then all of it, with one notification. */
static void batch_shows_at_once(struct bench *bench)
{
	for (unsigned int round = 0; round < 6; round++) {
		struct vq_used used[4];

		forget_held(bench);
		add_and_kick(bench, 4);
		for (int i = 0; i < 4; i++)
			used[i] = (struct vq_used) { bench->device->held[i].idx, BUFFER };
		pthread_mutex_lock(bench->device->vc.lock);
		vq_relchains(bench->vq, used, 4);
		pthread_mutex_unlock(bench->device->vc.lock);
		assert_false(driver_pending(bench->queue));
		assert_false(driver_queue_interrupt(bench->queue));
		publish(bench, 1);
		assert_true(driver_queue_interrupt(bench->queue));
		for (int i = 0; i < 4; i++)
			used_number(bench, NULL);
		assert_null(driver_get_buf(bench->queue, NULL));
		assert_false(driver_queue_interrupt(bench->queue));
		publish(bench, 1); /* nothing new: nothing to tell */
		assert_false(driver_queue_interrupt(bench->queue));
	}
}

static void test_batch_shows_at_once(void **state)
{
	each_combination(batch_shows_at_once, 0);
}

/* Packed: the used descriptor says WRITE exactly if bytes were written, and neither NEXT nor INDIRECT. */
static void packed_used_flags(struct bench *bench)
{
	struct ring *ring = &bench->queue->ring;

	if (ring->ops != &ring_packed)
		return;
	for (unsigned int round = 0; round < 20; round++) {
		uint32_t len = round % 2 ? BUFFER : 0;
		struct vring_packed_desc *used;

		forget_held(bench);
		add_and_kick(bench, 1);
		used = &ring->packed[ring->used_seen];
		release(bench, 0, len);
		publish(bench, 1);
		assert_int_equal(used->flags & VRING_DESC_F_WRITE, len ? VRING_DESC_F_WRITE : 0);
		assert_int_equal(used->flags & (VRING_DESC_F_NEXT | VRING_DESC_F_INDIRECT), 0);
		if (len)
			assert_int_equal(used->len, len);
		used_number(bench, NULL);
	}
}

static void test_packed_used_flags(void **state)
{
	each_combination(packed_used_flags, 0);
}

/* ---- Notifications ---- */

/*
 * Split with EVENT_IDX, all around 2^16: exactly when the index passes used_event, whatever the
 * batch. The model says it in the words of 2.7.7.2: one of the entries written was at used_event.
 */
static void used_event_model(struct bench *bench)
{
	struct ring *ring = &bench->queue->ring;
	unsigned int seed = 1, used_idx = 0;

	if (!ring->event_idx || ring->ops == &ring_packed)
		return;
	bench->device->batch = 8;
	ring->callbacks_off = true; /* the event is ours */
	while (used_idx < 0x10000 + 4000) {
		int count = 1 + rand_r(&seed) % 8;
		uint16_t event = (uint16_t)(used_idx + (unsigned int)(rand_r(&seed) % 20) - 6);
		bool wanted = (uint16_t)(event - used_idx) < count;
		uint64_t heap = bench->machine->heap_next;

		*ring_used_event(ring) = event;
		forget_held(bench);
		add_and_kick(bench, count);
		for (int i = 0; i < count; i++)
			release(bench, i, 0);
		publish(bench, 1);
		if (driver_queue_interrupt(bench->queue) != wanted)
			fail_msg("used index %u, %d more, event at %u", used_idx, count, event);
		for (int i = 0; i < count; i++)
			used_number(bench, NULL);
		used_idx += (unsigned int)count;
		if (used_idx > 64)
			bench->machine->heap_next = heap;
	}
}

static void test_used_event_model(void **state)
{
	each_combination(used_event_model, 0);
}

/*
 * Packed with EVENT_IDX: exactly when a used descriptor is written at, or a list skips over, the
 * place that the driver names, in this lap or the next (2.8.10).
 */
static void packed_event_model(struct bench *bench)
{
	struct ring *ring = &bench->queue->ring;
	unsigned int seed = 1, position = 0; /* counted through all laps */

	if (!ring->event_idx || ring->ops != &ring_packed)
		return;
	bench->device->batch = 8;
	ring->callbacks_off = true;
	for (unsigned int round = 0; round < 3000; round++) {
		unsigned int per_chain = bench->driver->params.indirect ? 1 : 2;
		unsigned int count = 1 + (unsigned int)rand_r(&seed) % 6;
		unsigned int event = position + (unsigned int)rand_r(&seed) % QUEUE_SIZE;
		bool wanted = event - position < count * per_chain;
		uint64_t heap = bench->machine->heap_next;

		ring->driver_event->flags = VRING_PACKED_EVENT_FLAG_DESC;
		ring->driver_event->off_wrap =
			(uint16_t)(event % QUEUE_SIZE | (event / QUEUE_SIZE % 2 ? 0 : 0x8000));
		forget_held(bench);
		add_and_kick(bench, (int)count);
		for (unsigned int i = 0; i < count; i++)
			release(bench, (int)i, 0);
		publish(bench, 1);
		if (driver_queue_interrupt(bench->queue) != wanted)
			fail_msg("at %u, %u more, event at %u", position, count * per_chain, event);
		for (unsigned int i = 0; i < count; i++)
			used_number(bench, NULL);
		position += count * per_chain;
		if (round > QUEUE_SIZE)
			bench->machine->heap_next = heap;
	}
}

static void test_packed_event_model(void **state)
{
	each_combination(packed_event_model, 0);
}

/* Legacy NOTIFY_ON_EMPTY: when nothing is available any more, however suppressed; not before. */
static void test_notify_on_empty(void **state)
{
	for (unsigned int i = 0; i < DRIVER_COMBINATIONS; i++) {
		struct driver_params params = driver_params_at(i);
		struct bench bench;

		if (!params.legacy || params.ioeventfd)
			continue;
		bench_open(&bench, &params);
		driver_set_status(bench.driver, 0);
		assert_true(driver_negotiate(bench.driver, bench.driver->offered));
		driver_start(bench.driver);
		assert_true(driver_has(bench.driver, VIRTIO_F_NOTIFY_ON_EMPTY));
		driver_disable_cb(bench.queue);
		add_and_kick(&bench, 2);
		assert_int_equal(bench.device->count, 2);
		bench.device->batch = 0;
		add(&bench, 1); /* one more that is not taken */
		release(&bench, 0, 0);
		publish(&bench, 1);
		assert_false(driver_queue_interrupt(bench.queue));
		bench.device->batch = 1;
		bench.driver->interface->notify(bench.driver, bench.queue);
		assert_int_equal(bench.device->count, 3);
		release(&bench, 1, 0);
		publish(&bench, 0); /* the device has not used all */
		assert_false(driver_queue_interrupt(bench.queue));
		release(&bench, 2, 0);
		publish(&bench, 1);
		assert_true(driver_queue_interrupt(bench.queue));
		bench_close(&bench);
	}
}

/* ---- Making a device ---- */

static void no_qnotify(void *dev, struct vqueue_info *vq)
{
}

/* A device type that offers a feature without what it needs is refused before any driver sees it. */
static void test_dependencies_checked(void **state)
{
	static const struct {
		uint16_t type;
		uint8_t bit, needs;
	} table[] = {
		{ VIRTIO_ID_NET, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_CSUM },
		{ VIRTIO_ID_NET, VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_CSUM },
		{ VIRTIO_ID_NET, VIRTIO_NET_F_GUEST_UFO, VIRTIO_NET_F_GUEST_CSUM },
		{ VIRTIO_ID_NET, 54, VIRTIO_NET_F_GUEST_CSUM },
		{ VIRTIO_ID_NET, 55, VIRTIO_NET_F_GUEST_CSUM },
		{ VIRTIO_ID_NET, VIRTIO_NET_F_GUEST_ECN, VIRTIO_NET_F_GUEST_TSO4 },
		{ VIRTIO_ID_NET, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_CSUM },
		{ VIRTIO_ID_NET, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_CSUM },
		{ VIRTIO_ID_NET, VIRTIO_NET_F_HOST_UFO, VIRTIO_NET_F_CSUM },
		{ VIRTIO_ID_NET, 56, VIRTIO_NET_F_CSUM },
		{ VIRTIO_ID_NET, VIRTIO_NET_F_HOST_ECN, VIRTIO_NET_F_HOST_TSO6 },
		{ VIRTIO_ID_NET, VIRTIO_NET_F_CTRL_RX, VIRTIO_NET_F_CTRL_VQ },
		{ VIRTIO_ID_NET, VIRTIO_NET_F_CTRL_RX_EXTRA, VIRTIO_NET_F_CTRL_VQ },
		{ VIRTIO_ID_NET, VIRTIO_NET_F_CTRL_VLAN, VIRTIO_NET_F_CTRL_VQ },
		{ VIRTIO_ID_NET, VIRTIO_NET_F_GUEST_ANNOUNCE, VIRTIO_NET_F_CTRL_VQ },
		{ VIRTIO_ID_NET, VIRTIO_NET_F_MQ, VIRTIO_NET_F_CTRL_VQ },
		{ VIRTIO_ID_NET, VIRTIO_NET_F_CTRL_MAC_ADDR, VIRTIO_NET_F_CTRL_VQ },
		{ VIRTIO_ID_NET, 52, VIRTIO_NET_F_CTRL_VQ },
		{ VIRTIO_ID_NET, 53, VIRTIO_NET_F_CTRL_VQ },
		{ VIRTIO_ID_NET, 57, VIRTIO_NET_F_CTRL_VQ },
		{ VIRTIO_ID_NET, 60, VIRTIO_NET_F_CTRL_VQ },
		{ VIRTIO_ID_NET, 51, 60 },
		{ VIRTIO_ID_NET, 61, VIRTIO_NET_F_HOST_TSO4 },
		{ VIRTIO_ID_BLOCK, VIRTIO_BLK_F_CONFIG_WCE, VIRTIO_BLK_F_FLUSH },
	};
	struct captured_log captured;

	captured_log_init(&captured);
	for (unsigned int i = 0; i < 2 * ARRAY_SIZE(table); i++) {
		uint64_t bits = BIT64(table[i / 2].bit);
		struct virtio_ops ops = { .name = "test-offers",
					  .device_id = table[i / 2].type,
					  .nvq = 1,
					  .queue_size = 8,
					  .priv_size = sizeof(struct virtio_common),
					  .qnotify = no_qnotify };
		struct virtio_common vc = { .name = "test-offers", .log = &captured.log };
		int error;

		captured.count = 0;
		if (i % 2) /* with all that can be needed */
			bits |= BIT64(table[i / 2].needs) | BIT64(VIRTIO_NET_F_CSUM) |
				BIT64(VIRTIO_NET_F_GUEST_CSUM) | BIT64(VIRTIO_NET_F_CTRL_VQ);
		ops.features.bits[0] = bits;
		error = virtio_linkup(&vc, &ops, "");
		if (error != (i % 2 ? 0 : -EINVAL))
			fail_msg("feature %u %s %u: %d", table[i / 2].bit,
				 i % 2 ? "with" : "without", table[i / 2].needs, error);
		assert_int_equal(captured.count, !(i % 2));
		if (!error)
			virtio_unlink(&vc);
	}
	captured_log_deinit(&captured);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_taken_in_order),
		cmocka_unit_test(test_put_back),
		cmocka_unit_test(test_room_for_iovecs),
		cmocka_unit_test(test_used_as_completed),
		cmocka_unit_test(test_in_order),
		cmocka_unit_test(test_batch_shows_at_once),
		cmocka_unit_test(test_packed_used_flags),
		cmocka_unit_test(test_used_event_model),
		cmocka_unit_test(test_packed_event_model),
		cmocka_unit_test(test_notify_on_empty),
		cmocka_unit_test(test_dependencies_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
