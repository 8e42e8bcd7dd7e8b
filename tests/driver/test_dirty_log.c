/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Pages that a device writes are marked: after random chains guest memory is compared with a copy
 * from before, page by page. What changed must be marked, and nothing else but the ring.
 */
#include <errno.h>

#include "dirty_log.h"
#include "ring_lab.h"
#include "vq_inflight.h"

#define SEED 11
#define AREA MIB(2) /* that buffers lie in */
#define SEGMENTS 40
#define HELD_MAX 8
#define ROUNDS 60

struct bench {
	struct lab lab;
	struct dirty_log log;
	uint64_t area; /* gpa */
	uint8_t *before; /* all of guest memory */
	uint32_t random;
};

static uint32_t random_below(struct bench *bench, uint32_t limit)
{
	bench->random = bench->random * 1103515245 + 12345;
	return (bench->random >> 8) % limit;
}

static uint8_t *memory(struct bench *bench)
{
	return guest_ptr(bench->lab.machine, 0, MACHINE_MEMORY);
}

/* What the driver has of it, which is all that anybody may write to. */
static uint64_t memory_used(const struct bench *bench)
{
	return bench->lab.machine->heap_next;
}

static bool marked(const struct bench *bench, uint64_t page)
{
	return bench->log.bits[page / 8] & BIT32(page % 8);
}

static unsigned int marked_count(const struct bench *bench)
{
	unsigned int count = 0;

	for (uint64_t page = 0; page < bench->log.size * 8; page++)
		count += marked(bench, page);
	return count;
}

static void marks_clear(struct bench *bench)
{
	memset(bench->log.bits, 0, bench->log.size);
}

/* Where used elements are written: to be logged as that. */
static uint64_t ring_gpa(const struct bench *bench)
{
	return bench->lab.params.packed ? bench->lab.ring->desc_gpa : bench->lab.ring->device_gpa;
}

static bool in_ring(const struct bench *bench, uint64_t page)
{
	uint64_t desc, driver, device, gpa = page * DIRTY_LOG_PAGE;

	bench->lab.ring->ops->sizes(bench->lab.ring->size, &desc, &driver, &device);
	if (bench->lab.params.packed && gpa + DIRTY_LOG_PAGE > bench->lab.ring->desc_gpa &&
	    gpa < bench->lab.ring->desc_gpa + desc)
		return true;
	return gpa + DIRTY_LOG_PAGE > bench->lab.ring->device_gpa &&
	       gpa < bench->lab.ring->device_gpa + device;
}

static struct bench *bench_create(struct lab_params params)
{
	struct bench *bench = calloc(1, sizeof(*bench));

	assert_non_null(bench);
	bench->lab = lab_create(params);
	bench->random = SEED;
	bench->log.size = MACHINE_MEMORY / DIRTY_LOG_PAGE / 8;
	bench->log.bits = calloc(1, bench->log.size);
	bench->before = malloc(MACHINE_MEMORY);
	bench->area = guest_alloc(bench->lab.machine, AREA, DIRTY_LOG_PAGE);
	assert_non_null(bench->log.bits);
	assert_non_null(bench->before);
	return bench;
}

static void bench_log(struct bench *bench)
{
	assert_int_equal(vq_set_dirty_log(bench->lab.vq, &bench->log, ring_gpa(bench)), 0);
	marks_clear(bench);
}

static void bench_destroy(struct bench *bench)
{
	lab_destroy(&bench->lab);
	free(bench->log.bits);
	free(bench->before);
	free(bench);
}

/* ---- The two sides ---- */

/* Segments anywhere in the area, some right behind the one before. */
static int driver_add(struct bench *bench, unsigned int out, unsigned int in)
{
	struct segment segments[RING_SEGMENTS_MAX];
	uint64_t gpa = bench->area;

	for (unsigned int i = 0; i < out + in; i++) {
		uint32_t len = 1 + random_below(bench, random_below(bench, 4) ? 600 : 20000);

		if (random_below(bench, 3) || gpa + len > bench->area + AREA)
			gpa = bench->area + random_below(bench, (uint32_t)(AREA - len));
		segments[i] = (struct segment) { gpa, len };
		gpa += len;
	}
	return bench->lab.ring->ops->add(bench->lab.ring, segments, out, in,
					 bench->lab.params.indirect, bench);
}

/* struct held - a chain that the device has. */
struct held {
	struct vq_chain chain;
	struct iovec iov[256];
};

static bool device_take(struct bench *bench, struct held *held)
{
	struct vqueue_info *vq = bench->lab.vq;

	return vq_has_descs(vq) && vq_pop(vq, &held->chain, held->iov, ARRAY_SIZE(held->iov)) == 1;
}

/*
 * Write all of the writable part, each byte another than it was, and give the chain back; how many
 * are told may be fewer (virtio 1.4, 2.7.8.2).
 */
static void device_use(struct bench *bench, const struct held *held)
{
	const struct vq_chain *chain = &held->chain;
	const struct iovec *iov = chain->iov + chain->out_count;
	uint32_t len = random_below(bench, (uint32_t)chain->in_len + 1);

	for (int i = 0; i < chain->in_count; i++) {
		uint8_t *byte = iov[i].iov_base;

		for (size_t j = 0; j < iov[i].iov_len; j++)
			byte[j] = (uint8_t)(bench->before[byte + j - memory(bench)] + 1);
	}
	vq_relchain(bench->lab.vq, chain->idx,
		    random_below(bench, 4) ? len : (uint32_t)chain->in_len);
}

/* ---- Comparing ---- */

static void remember(struct bench *bench)
{
	memcpy(bench->before, memory(bench), memory_used(bench));
}

static void compare(struct bench *bench, bool exactly)
{
	for (uint64_t page = 0; page < MACHINE_MEMORY / DIRTY_LOG_PAGE; page++) {
		uint64_t offset = page * DIRTY_LOG_PAGE;
		uint64_t behind = MIN(offset, memory_used(bench));
		uint64_t len = MIN(DIRTY_LOG_PAGE, memory_used(bench) - behind);
		bool changed = memcmp(memory(bench) + offset, bench->before + offset, len);

		if (changed && !marked(bench, page))
			fail_msg("page 0x%llx changed and is not marked",
				 (unsigned long long)offset);
		if (exactly && !changed && marked(bench, page) && !in_ring(bench, page))
			fail_msg("page 0x%llx is marked and did not change",
				 (unsigned long long)offset);
	}
}

static void held_remove(struct held *held, unsigned int pick, unsigned int *count)
{
	memmove(&held[pick], &held[pick + 1], (--*count - pick) * sizeof(*held));
	for (; pick < *count; pick++)
		held[pick].chain.iov = held[pick].iov;
}

/* Some chains are taken, some of them put back, and some used; then the driver has its turn. */
static void random_round(struct bench *bench, struct held *held, unsigned int *count)
{
	unsigned int i, taken = 0;

	while (!driver_add(bench, 1 + random_below(bench, 2),
			   random_below(bench, bench->lab.params.indirect ? SEGMENTS : 4)))
		continue;
	marks_clear(bench);
	remember(bench);
	for (i = random_below(bench, 6); i && *count < HELD_MAX; i--, taken++)
		if (!device_take(bench, &held[(*count)++])) {
			(*count)--;
			break;
		}
	for (; taken && !random_below(bench, 3); taken--, (*count)--)
		vq_retchain(bench->lab.vq);
	for (i = random_below(bench, 6); i && *count; i--) {
		/* Out of turn it is marked, and shown, when those before it are. */
		unsigned int pick = bench->lab.params.in_order ? 0 : random_below(bench, *count);

		device_use(bench, &held[pick]);
		held_remove(held, pick, count);
	}
	vq_endchains(bench->lab.vq, 0);
	compare(bench, true);
	while (bench->lab.ring->ops->get(bench->lab.ring, NULL))
		continue;
}

static void test_random_chains(void **state)
{
	for (unsigned int i = 0; i < LAB_COMBINATIONS; i++) {
		struct bench *bench = bench_create(lab_params_at(i));
		struct held *held = calloc(HELD_MAX, sizeof(*held));
		unsigned int count = 0;

		assert_non_null(held);
		bench_log(bench);
		for (unsigned int round = 0; round < ROUNDS; round++)
			random_round(bench, held, &count);
		assert_int_equal(bench->lab.machine->captured.count, 0);
		free(held);
		bench_destroy(bench);
	}
}

/* More segments than are remembered: whatever is between them is marked, but nothing left out. */
static void test_many_segments(void **state)
{
	enum { CHAINS = 1024, EACH = 200 };
	struct lab_params params = { .indirect = true, .queue_size = CHAINS };
	struct bench *bench = bench_create(params);
	struct held *held = calloc(CHAINS, sizeof(*held));

	assert_non_null(held);
	bench_log(bench);
	for (unsigned int i = 0; i < CHAINS; i++)
		assert_int_equal(driver_add(bench, 1, EACH), 0);
	for (unsigned int i = 0; i < CHAINS; i++)
		assert_true(device_take(bench, &held[i]));
	for (unsigned int i = 0; i < CHAINS; i += 100) {
		marks_clear(bench);
		remember(bench);
		device_use(bench, &held[i]);
		vq_endchains(bench->lab.vq, 0);
		/* The first ones are remembered, the last ones not. */
		compare(bench, i < CHAINS / 4);
	}
	free(held);
	bench_destroy(bench);
}

/* A ring of several pages: entries are marked where they are, and so is what shows them. */
static void test_ring_pages(void **state)
{
	for (unsigned int packed = 0; packed < 2; packed++) {
		struct bench *bench =
			bench_create((struct lab_params) { .packed = packed, .queue_size = 1024 });
		struct vqueue_info *vq = bench->lab.vq;
		static struct held held;

		bench_log(bench);
		for (unsigned int batch = 0; batch < 150; batch++) {
			for (unsigned int i = 0; i < 10; i++)
				assert_int_equal(driver_add(bench, 1, 0), 0);
			marks_clear(bench);
			remember(bench);
			for (unsigned int i = 0; i < 10; i++) {
				assert_true(device_take(bench, &held));
				vq_relchain(vq, held.chain.idx, 0);
			}
			compare(bench, true);
			marks_clear(bench);
			remember(bench);
			vq_endchains(vq, 0);
			compare(bench, true);
			assert_int_equal(marked_count(bench), 1);
			while (bench->lab.ring->ops->get(bench->lab.ring, NULL))
				continue;
		}
		bench_destroy(bench);
	}
}

/* A chain for which there is no room now is one that is taken later, and as it is then. */
static void test_too_long_first(void **state)
{
	for (unsigned int packed = 0; packed < 2; packed++) {
		struct bench *bench = bench_create(lab_params_at(packed | 2));
		struct vqueue_info *vq = bench->lab.vq;
		struct vq_chain chains[2];
		static struct held held;

		bench_log(bench);
		assert_int_equal(driver_add(bench, 1, 1), 0);
		assert_int_equal(driver_add(bench, 0, 9), 0);
		assert_int_equal(vq_getchains(vq, chains, 2, held.iov, 12), 2);
		vq_retchain(vq);
		vq_retchain(vq);
		assert_int_equal(vq_getchains(vq, chains, 2, held.iov, 8), 1);
		vq_relchain(vq, chains[0].idx, 0);
		remember(bench);
		assert_true(device_take(bench, &held));
		for (int i = 0; i < held.chain.in_count; i++)
			memset(held.iov[i].iov_base, 0x77, held.iov[i].iov_len);
		vq_relchain(vq, held.chain.idx, (uint32_t)held.chain.in_len);
		vq_endchains(vq, 0);
		compare(bench, false);
		bench_destroy(bench);
	}
}

/* ---- Marking ---- */

static void test_mark(void **state)
{
	uint8_t *bits = calloc(1, 4);
	struct dirty_log log = { bits, 4 }; /* 32 pages */
	static const struct {
		uint64_t gpa, len;
		uint32_t expected;
	} cases[] = {
		{ 0, 0, 0 },
		{ 5 * 4096, 0, 0 },
		{ 0, 1, 1 },
		{ 4095, 1, 1 },
		{ 4095, 2, 3 },
		{ 4096, 4096, 2 },
		{ 7 * 4096, 4097, 0x180 },
		{ 3 * 4096, 26 * 4096, 0x1ffffff8 },
		{ 31 * 4096, 4096, 0x80000000 },
		{ 31 * 4096, 8192, 0x80000000 },
		{ 0, UINT64_MAX, 0xffffffff },
		{ 32 * 4096, 4096, 0 },
		{ UINT64_MAX, 1, 0 },
		{ UINT64_MAX - 4096, UINT64_MAX, 0 },
		{ 30 * 4096, UINT64_MAX, 0xc0000000 },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		memset(bits, 0, 4);
		dirty_log_mark(&log, cases[i].gpa, cases[i].len);
		assert_int_equal(bytes_get(bits, 4), cases[i].expected);
		memset(bits, 0xff, 4);
		dirty_log_mark(&log, cases[i].gpa, cases[i].len);
		assert_int_equal(bytes_get(bits, 4), 0xffffffff);
	}
	free(bits);
}

/* A log that ends in the middle of what the driver uses: nothing is written behind it. */
static void test_short_log(void **state)
{
	for (unsigned int packed = 0; packed < 2; packed++) {
		struct bench *bench = bench_create(lab_params_at(packed | 2));
		struct dirty_log log = { malloc(1), 1 };
		static struct held held;

		*log.bits = 0;
		assert_int_equal(vq_set_dirty_log(bench->lab.vq, &log, UINT64_MAX - 3), 0);
		for (unsigned int i = 0; i < 20; i++) {
			assert_int_equal(driver_add(bench, 1, SEGMENTS), 0);
			assert_true(device_take(bench, &held));
			device_use(bench, &held);
			vq_endchains(bench->lab.vq, 0);
			assert_non_null(bench->lab.ring->ops->get(bench->lab.ring, NULL));
		}
		assert_int_equal(*log.bits, 0);
		assert_int_equal(vq_set_dirty_log(bench->lab.vq, NULL, 0), 0);
		free(log.bits);
		bench_destroy(bench);
	}
}

/* ---- Switching it on and off ---- */

static void test_switch(void **state)
{
	for (unsigned int packed = 0; packed < 2; packed++) {
		struct bench *bench = bench_create(lab_params_at(packed));
		struct vqueue_info *vq = bench->lab.vq;
		static struct held held;

		/* The ring as a whole: what one before us wrote last it may not have marked. */
		assert_int_equal(vq_set_dirty_log(vq, &bench->log, ring_gpa(bench)), 0);
		for (uint64_t page = 0; page < MACHINE_MEMORY / DIRTY_LOG_PAGE; page++)
			assert_int_equal(marked(bench, page), in_ring(bench, page));

		assert_int_equal(driver_add(bench, 3, 0), 0);
		assert_true(device_take(bench, &held));
		assert_int_equal(vq_set_dirty_log(vq, &bench->log, ring_gpa(bench)), -EBUSY);
		vq_retchain(vq);
		assert_int_equal(vq_set_dirty_log(vq, &bench->log, UINT64_MAX), 0);
		marks_clear(bench);
		remember(bench);
		assert_true(device_take(bench, &held));
		vq_relchain(vq, held.chain.idx, 0);
		vq_endchains(vq, 0);
		assert_int_equal(marked_count(bench), 0); /* not even the ring */

		assert_int_equal(vq_set_dirty_log(vq, &bench->log, ring_gpa(bench)), 0);
		assert_int_equal(vq_set_dirty_log(vq, NULL, 0), 0);
		assert_null(vq->dirty);
		bench_log(bench);
		driver_restart(bench->lab.driver);
		assert_null(vq->dirty);
		bench_destroy(bench);
	}
}

/* Chains of a device that died: what its successor writes for it is marked. */
static void test_with_inflight(void **state)
{
	for (unsigned int i = 0; i < LAB_COMBINATIONS; i++) {
		struct bench *bench = bench_create(lab_params_at(i));
		struct vqueue_info *vq = bench->lab.vq;
		uint64_t size = vq_inflight_size(vq->size, vq->packed);
		void *region = aligned_alloc(64, size);
		static struct held held[2];

		memset(region, 0, size);
		assert_int_equal(vq_inflight_attach(vq, region, size), 0);
		for (unsigned int j = 0; j < 2; j++) {
			assert_int_equal(driver_add(bench, 1, 2), 0);
			assert_true(device_take(bench, &held[j]));
		}
		vq_inflight_detach(vq);
		lab_new_device(&bench->lab);
		assert_int_equal(vq_inflight_attach(vq, region, size), 0);
		bench_log(bench);
		remember(bench);
		for (unsigned int j = 0; j < 2; j++)
			assert_true(device_take(bench, &held[j]));
		vq_retchain(vq);
		assert_true(device_take(bench, &held[1]));
		device_use(bench, &held[0]);
		device_use(bench, &held[1]);
		vq_endchains(vq, 0);
		compare(bench, true);
		vq_inflight_detach(vq);
		free(region);
		bench_destroy(bench);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mark),	       cmocka_unit_test(test_random_chains),
		cmocka_unit_test(test_many_segments),  cmocka_unit_test(test_ring_pages),
		cmocka_unit_test(test_too_long_first), cmocka_unit_test(test_short_log),
		cmocka_unit_test(test_switch),	       cmocka_unit_test(test_with_inflight),
	};

	return cmocka_run_group_tests_name("dirty log", tests, NULL, NULL);
}
