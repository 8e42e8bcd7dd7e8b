/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The region in which the chains of a device are recorded: its layout, what its successor does with
 * it, and what it makes of one that a hostile front end wrote. test_inflight_killed.c has devices
 * die.
 */
#include "inflight_bench.h"

/* ---- Regions ---- */

static void test_sizes(void **state)
{
	assert_int_equal(vq_inflight_size(1, false), 64);
	assert_int_equal(vq_inflight_size(3, false), 64);
	assert_int_equal(vq_inflight_size(4, false), 128);
	assert_int_equal(vq_inflight_size(128, false), 128 * 16 + 64);
	assert_int_equal(vq_inflight_size(1, true), 64);
	assert_int_equal(vq_inflight_size(128, true), 128 * 32 + 64);
	assert_int_equal(vq_inflight_size(32768, true), 32768 * 32 + 64);
}

static void region_put16(struct bench *bench, unsigned int offset, uint16_t value)
{
	memcpy(bench->shared->region + offset, &value, sizeof(value));
}

static uint16_t region_get16(struct bench *bench, unsigned int offset)
{
	uint16_t value;

	memcpy(&value, bench->shared->region + offset, sizeof(value));
	return value;
}

static uint64_t region_get64(struct bench *bench, unsigned int offset)
{
	uint64_t value;

	memcpy(&value, bench->shared->region + offset, sizeof(value));
	return value;
}

/* What other back ends leave there, byte by byte, is understood; and the other way round. */
static void test_split_layout(void **state)
{
	struct bench *bench = bench_create(lab_params_at(0));
	uint8_t *region = bench->shared->region;
	struct vqueue_info *vq = bench->lab.vq;
	struct held held[3];

	bench_begin(bench);
	assert_int_equal(region_get16(bench, 8), 1); /* version */
	assert_int_equal(region_get16(bench, 10), 8); /* desc_num */
	assert_int_equal(region_get16(bench, 14), bench->lab.ring->used_seen); /* used_idx */
	for (unsigned int i = 0; i < 3; i++)
		assert_true(request_add_of(bench, 1));
	assert_int_equal(vq_inflight_attach(vq, region, REGION_SIZE), 0);
	for (unsigned int i = 0; i < 3; i++) {
		assert_true(device_take(vq, &held[i]));
		assert_int_equal(region[16 + 16 * held[i].idx], 1); /* inflight */
		assert_int_equal(region_get64(bench, 16 + 16 * held[i].idx + 8), i); /* counter */
	}
	vq_relchain(vq, held[1].idx, held[1].len);
	vq_relchain(vq, held[0].idx, held[0].len);
	assert_int_equal(region[16 + 16 * held[1].idx], 1);
	vq_endchains(vq, 0);
	assert_int_equal(region[16 + 16 * held[1].idx], 0);
	assert_int_equal(region[16 + 16 * held[0].idx], 0);
	assert_int_equal(region[16 + 16 * held[2].idx], 1);
	assert_int_equal(region_get16(bench, 12), held[0].idx); /* last_batch_head */
	assert_int_equal(region_get16(bench, 16 + 16 * held[0].idx + 6), held[1].idx); /* next */
	assert_int_equal(region_get16(bench, 14), vq->used_idx);

	/* One that died between showing its last batch to the driver and writing that down. */
	region[16 + 16 * held[0].idx] = region[16 + 16 * held[1].idx] = 1;
	region_put16(bench, 14, (uint16_t)(vq->used_idx - 2));
	vq_inflight_detach(vq);
	lab_new_device(&bench->lab);
	assert_int_equal(vq_inflight_attach(vq, region, REGION_SIZE), 0);
	assert_int_equal(vq_inflight_left(vq), 1);
	assert_int_equal(region_get16(bench, 14), vq->used_idx);
	assert_int_equal(region[16 + 16 * held[1].idx], 0);
	bench_destroy(bench);
}

static void test_packed_layout(void **state)
{
	struct bench *bench = bench_create(lab_params_at(1));
	uint8_t *region = bench->shared->region;
	struct vqueue_info *vq = bench->lab.vq;
	struct held held[2];
	const uint8_t wrap = bench->lab.ring->used_wrap;
	const uint16_t position = bench->lab.ring->used_seen;

	bench_begin(bench);
	assert_int_equal(region_get16(bench, 8), 1); /* version */
	assert_int_equal(region_get16(bench, 10), 8); /* desc_num */
	assert_int_equal(region_get16(bench, 16), position); /* used_idx */
	assert_int_equal(region_get16(bench, 18), position); /* old_used_idx */
	assert_int_equal(region[20], wrap);
	assert_int_equal(region[21], wrap);
	for (unsigned int i = 0; i < 8; i++)
		assert_int_equal(region_get16(bench, 32 + 32 * i + 2), i + 1); /* next */

	assert_true(request_add_of(bench, 2));
	assert_true(request_add_of(bench, 0));
	assert_int_equal(vq_inflight_attach(vq, region, REGION_SIZE), 0);
	assert_true(device_take(vq, &held[0]));
	assert_true(device_take(vq, &held[1]));
	assert_int_equal(region_get16(bench, 12), 4); /* free_head */
	assert_int_equal(region_get16(bench, 14), 4); /* old_free_head */
	assert_int_equal(region[32], 1); /* inflight */
	assert_int_equal(region_get16(bench, 32 + 4), 2); /* last */
	assert_int_equal(region_get16(bench, 32 + 6), 3); /* num */
	assert_int_equal(region_get64(bench, 32 + 8), 0); /* counter */
	assert_int_equal(region_get64(bench, 32 + 32 * 3 + 8), 1);
	for (unsigned int i = 0; i < 3; i++) {
		const struct vring_packed_desc *desc = &bench->lab.ring->packed[(position + i) % 8];

		assert_int_equal(region_get16(bench, 32 + 32 * i + 16), desc->id);
		assert_int_equal(region_get16(bench, 32 + 32 * i + 18), desc->flags);
		assert_memory_equal(region + 32 + 32 * i + 20, &desc->len, 4);
		assert_int_equal(region_get64(bench, 32 + 32 * i + 24), desc->addr);
	}
	vq_relchain(vq, held[1].idx, held[1].len);
	vq_relchain(vq, held[0].idx, held[0].len);
	assert_int_equal(region[32], 1);
	vq_endchains(vq, 0);
	assert_int_equal(region[32], 0);
	assert_int_equal(region[32 + 32 * 3], 0);
	assert_int_equal(region_get16(bench, 12), 0);
	assert_int_equal(region_get16(bench, 14), 0);
	assert_int_equal(region_get16(bench, 32 + 32 * 2 + 2),
			 3); /* behind the first, the second */
	assert_int_equal(region_get16(bench, 32 + 32 * 3 + 2), 4);
	assert_int_equal(region_get16(bench, 18), (position + 4) % 8);

	/* One that died when it had noted the old index and not yet its wrap counter. */
	vq_inflight_detach(vq);
	region[20] = region[21] = !wrap;
	region[21] = wrap;
	region_put16(bench, 16, position);
	region_put16(bench, 18, position);
	bench->lab.ring->packed[position].flags =
		wrap ? BIT32(VRING_PACKED_DESC_F_AVAIL) : BIT32(VRING_PACKED_DESC_F_USED);
	region[32] = 1; /* free, and so not inflight */
	lab_new_device(&bench->lab);
	assert_int_equal(vq_inflight_attach(vq, region, REGION_SIZE), 0);
	assert_int_equal(region[21], !wrap);
	assert_int_equal(vq->used_wrap, !wrap);
	assert_int_equal(region[32], 0);
	bench_destroy(bench);
}

/* A region for another queue, or of another make. */
static void test_refused(void **state)
{
	for (unsigned int packed = 0; packed < 2; packed++) {
		struct bench *bench = bench_create(lab_params_at(packed));
		struct vqueue_info *vq = bench->lab.vq;
		uint8_t *region = bench->shared->region;
		uint64_t size = vq_inflight_size(8, packed);

		assert_int_equal(vq_inflight_attach(vq, region, size - 1), -EINVAL);
		assert_int_equal(vq_inflight_attach(vq, region + 4, size), -EINVAL);
		region_put16(bench, 10, 4); /* fewer entries than the queue has */
		assert_int_equal(vq_inflight_attach(vq, region, size), -EINVAL);
		region_put16(bench, 10, 100); /* more than the region has room for */
		assert_int_equal(vq_inflight_attach(vq, region, size), -EINVAL);
		region_put16(bench, 10, 0);
		region_put16(bench, 8, 2);
		assert_int_equal(vq_inflight_attach(vq, region, size), -EINVAL);
		region_put16(bench, 8, 0);
		region[0] = 1; /* features */
		assert_int_equal(vq_inflight_attach(vq, region, size), -EINVAL);
		region[0] = 0;
		assert_null(vq->inflight);
		bench_begin(bench);
		bench_destroy(bench);
	}
}

/* A region that cannot have come about, whoever wrote it. */
static void test_contradictions(void **state)
{
	struct bench *bench = bench_create(lab_params_at(0));
	struct vqueue_info *vq = bench->lab.vq;
	uint8_t *region = bench->shared->region;
	uint16_t used_idx;

	bench_begin(bench);
	used_idx = region_get16(bench, 14);
	region_put16(bench, 14, (uint16_t)(used_idx - 2)); /* a last batch of one, twice */
	region_put16(bench, 12, 3);
	region_put16(bench, 16 + 16 * 3 + 6, 3);
	assert_int_equal(vq_inflight_attach(vq, region, REGION_SIZE), -EBADMSG);
	region_put16(bench, 16 + 16 * 3 + 6, 8); /* its second is none */
	assert_int_equal(vq_inflight_attach(vq, region, REGION_SIZE), -EBADMSG);
	region_put16(bench, 14, (uint16_t)(used_idx - 9)); /* more than there are */
	assert_int_equal(vq_inflight_attach(vq, region, REGION_SIZE), -EBADMSG);
	region_put16(bench, 14, used_idx);
	region[16 + 16 * 2] = 1; /* a chain that was never made available */
	assert_int_equal(vq_inflight_attach(vq, region, REGION_SIZE), -EBADMSG);
	region[16 + 16 * 2] = 0;
	assert_int_equal(vq_inflight_attach(vq, region, REGION_SIZE), 0);
	bench_destroy(bench);
}

/* Who made the region did not know how many entries the driver would want (vhost-user queue_size). */
static void test_larger_region(void **state)
{
	for (unsigned int packed = 0; packed < 2; packed++) {
		struct bench *bench = bench_create(lab_params_at(packed));

		region_put16(bench, 10, 64);
		bench_begin(bench);
		assert_int_equal(region_get16(bench, 10), 64);
		for (unsigned int round = 0; round < 20; round++) {
			struct held held;

			request_add(bench);
			lab_new_device(&bench->lab);
			assert_int_equal(vq_inflight_attach(bench->lab.vq, bench->shared->region,
							    REGION_SIZE),
					 0);
			assert_true(device_take(bench->lab.vq, &held));
			vq_inflight_detach(bench->lab.vq); /* dies with it */
			successor_check(bench);
			lab_new_device(&bench->lab);
			assert_int_equal(vq_inflight_attach(bench->lab.vq, bench->shared->region,
							    REGION_SIZE),
					 0);
			successor_work(bench, vq_inflight_left(bench->lab.vq));
			vq_inflight_detach(bench->lab.vq);
		}
		bench_destroy(bench);
	}
}

/* ---- The author's API on chains that are left over ---- */

/* @count requests of a device that had them all and died; another one is attached. */
static struct bench *bench_left(struct lab_params params, unsigned int count)
{
	struct bench *bench = bench_create(params);
	struct vqueue_info *vq = bench->lab.vq;
	struct held held;

	bench_begin(bench);
	assert_int_equal(vq_inflight_attach(vq, bench->shared->region, REGION_SIZE), 0);
	for (unsigned int i = 0; i < count; i++) {
		assert_true(request_add_of(bench, 1));
		assert_true(device_take(vq, &held));
	}
	vq_inflight_detach(vq);
	lab_new_device(&bench->lab);
	assert_int_equal(vq_inflight_attach(vq, bench->shared->region, REGION_SIZE), 0);
	assert_int_equal(vq_inflight_left(vq), count);
	return bench;
}

/* Several at once, too little room, put back, a turn's end; then a new one behind them. */
static void test_left_over(void **state)
{
	for (unsigned int i = 0; i < LAB_COMBINATIONS; i++) {
		struct bench *bench = bench_left(lab_params_at(i), 3);
		struct vqueue_info *vq = bench->lab.vq;
		struct vq_chain chains[8];
		struct iovec iov[LAB_IOV];
		uint32_t first = bench->next_number - 3;

		/* The ring moves, and the device has nothing yet. */
		assert_int_equal(virtio_queue_restore(bench->lab.vc, vq), 0);
		assert_int_equal(vq_inflight_left(vq), 3);
		/* 2.7.5.2: five iovecs are two chains of two */
		assert_int_equal(vq_getchains(vq, chains, 8, iov, 5), 2);
		assert_int_equal(vq_inflight_left(vq), 1);
		vq_retchain(vq);
		vq_retchain(vq);
		assert_int_equal(vq_inflight_left(vq), 3);

		vq->in_turn = true;
		vq->turn = 2;
		assert_int_equal(vq_getchains(vq, chains, 8, iov, LAB_IOV), 2);
		assert_false(vq_has_descs(vq));
		vq->in_turn = false;
		vq_retchain(vq);
		assert_true(vq_has_descs(vq));

		request_add_of(bench, 1);
		assert_int_equal(vq_getchains(vq, chains + 1, 7, iov, LAB_IOV), 3);
		for (unsigned int j = 1; j < 4; j++) {
			uint32_t number;

			iov_to_buf(chains[j].iov, chains[j].out_count, 0, &number, sizeof(number));
			assert_int_equal(number, first + j);
			assert_int_equal(chains[j].in_len, SEGMENT);
		}
		vq_retchain(vq);
		assert_int_equal(vq_inflight_left(vq), 0);
		assert_int_equal(vq_getchains(vq, chains + 3, 5, iov, LAB_IOV), 1);
		for (unsigned int j = 0; j < 4; j++)
			vq_relchain(vq, chains[j].idx, SEGMENT);
		vq_endchains(vq, 0);
		for (unsigned int j = 0; j < 4; j++)
			assert_int_equal(request_get(bench)->number, first + j);
		assert_null(request_get(bench));
		assert_false(vq_has_descs(vq));
		assert_int_equal(bench->lab.machine->captured.count, 0);
		bench_destroy(bench);
	}
}

/* The driver may have missed the notification of the one that died. */
static void test_notifies(void **state)
{
	struct bench *bench = bench_left(lab_params_at(0), 1);
	struct driver_queue *queue = driver_queue(bench->lab.driver, 0);

	driver_queue_interrupt(queue);
	assert_int_equal(vq_inflight_attach(bench->lab.vq, bench->shared->region, REGION_SIZE), 0);
	assert_true(driver_queue_interrupt(queue));
	bench_destroy(bench);
}

/* A device that was reset has nothing of before: neither region nor chains. */
static void test_reset_forgets(void **state)
{
	struct bench *bench = bench_left(lab_params_at(0), 2);

	driver_restart(bench->lab.driver);
	assert_null(bench->lab.vq->inflight);
	assert_false(vq_has_descs(bench->lab.vq));
	bench_destroy(bench);
}

/* ---- Hostile drivers and front ends ---- */

/* The head of a chain that the device has is available once more. */
static void test_same_head_twice(void **state)
{
	struct bench *bench = bench_left(lab_params_at(0), 0);
	struct ring *ring = bench->lab.ring;
	struct held held;

	assert_true(request_add_of(bench, 1));
	ring->avail->ring[ring->avail_idx % ring->size] =
		ring->avail->ring[(ring->avail_idx - 1) % ring->size];
	__atomic_store_n(&ring->avail->idx, ++ring->avail_idx, __ATOMIC_RELEASE);
	assert_true(device_take(bench->lab.vq, &held));
	assert_false(device_take(bench->lab.vq, &held));
	assert_logged(bench->lab.machine, "has already (2.7.13)");
	bench_destroy(bench);
}

/* More than the ring holds, as long as the driver has seen none of it used. */
static void test_too_many_packed(void **state)
{
	struct bench *bench = bench_left(lab_params_at(1), 0);
	struct vqueue_info *vq = bench->lab.vq;
	struct ring *ring = bench->lab.ring;
	struct held held;
	unsigned int taken = 0;

	for (unsigned int round = 0; round < 2; round++) {
		for (unsigned int i = 0; i < ring->size; i++) {
			struct raw_desc desc = { bench->requests[0].gpa, 4, 0, 0 };

			raw_packed_add(ring, &desc, 1);
		}
		for (; device_take(vq, &held); taken++)
			vq_relchain(vq, held.idx, 0);
	}
	assert_int_equal(taken, ring->size);
	assert_logged(bench->lab.machine, "more descriptors made available");
	bench_destroy(bench);
}

/* The device is as if its driver had never done anything wrong. */
static void forgive(struct bench *bench)
{
	bench->lab.vc->status &= (uint8_t)~VIRTIO_CONFIG_S_NEEDS_RESET;
	bench->lab.vc->running = true;
	bench->lab.vq->broken = false;
	machine_log_clear(bench->lab.machine);
}

/* Whatever the region says: an error, or no more chains than the ring has. */
static void hostile_check(struct bench *bench)
{
	struct vqueue_info *vq = bench->lab.vq;
	struct held held[HELD_MAX];
	unsigned int count = 0;
	int error;

	lab_new_device(&bench->lab);
	error = vq_inflight_attach(vq, bench->shared->region, REGION_SIZE);
	if (error) {
		assert_true(error == -EINVAL || error == -EBADMSG);
		assert_null(vq->inflight);
		return;
	}
	while (count < HELD_MAX && device_take(vq, &held[count]))
		count++;
	assert_true(count <= vq->size);
	for (unsigned int i = 0; i < count; i++)
		vq_relchain(vq, held[i].idx, held[i].len);
	vq_endchains(vq, 0);
	vq_inflight_detach(vq);
	forgive(bench);
}

static void test_every_byte(void **state)
{
	static const uint8_t masks[] = { 0x01, 0x02, 0x08, 0x80, 0xff };

	for (unsigned int i = 0; i < 4; i++) {
		struct bench *bench = bench_left(lab_params_at(i), 2);
		uint64_t size = vq_inflight_size(bench->lab.vq->size, bench->lab.params.packed);

		vq_inflight_detach(bench->lab.vq);
		copy_take(bench);
		for (uint64_t at = 0; at < size; at++)
			for (unsigned int j = 0; j < sizeof(masks); j++) {
				bench->shared->region[at] ^= masks[j];
				hostile_check(bench);
				copy_put_back(bench);
			}
		for (unsigned int round = 0; round < 20000; round++) {
			for (unsigned int j = random_below(bench, 12); j < 12; j++)
				bench->shared->region[8 + random_below(bench, (uint32_t)size - 8)] =
					(uint8_t)random_below(bench, j & 1 ? 256 : 10);
			hostile_check(bench);
			copy_put_back(bench);
		}
		/* Nothing of that was remembered. */
		successor_check(bench);
		bench_destroy(bench);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),		cmocka_unit_test(test_split_layout),
		cmocka_unit_test(test_packed_layout),	cmocka_unit_test(test_refused),
		cmocka_unit_test(test_contradictions),	cmocka_unit_test(test_larger_region),
		cmocka_unit_test(test_left_over),	cmocka_unit_test(test_notifies),
		cmocka_unit_test(test_reset_forgets),	cmocka_unit_test(test_same_head_twice),
		cmocka_unit_test(test_too_many_packed), cmocka_unit_test(test_every_byte),
	};

	return cmocka_run_group_tests_name("inflight", tests, NULL, NULL);
}
