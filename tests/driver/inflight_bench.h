/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inflight_bench.h: a ring and an inflight region on it, in memory that outlives a device, and a
 * successor that looks whether every request is there exactly once.
 */
#ifndef TENON_TESTS_INFLIGHT_BENCH_H
#define TENON_TESTS_INFLIGHT_BENCH_H

#include <errno.h>
#include <sys/mman.h>
#include <sys/types.h>

#include "raw_ring.h"
#include "ring_lab.h"
#include "vq_inflight.h"

#define SEED 5
#define TOKENS 64
#define SEGMENT 64
#define REGION_SIZE 8192
#define HELD_MAX 64

/* struct request - a buffer of the driver. @number: they are made available in this order */
struct request {
	uint32_t number;
	bool outstanding;
	unsigned int segments;
	uint64_t gpa;
};

/*
 * struct shared - between the test and a device in another process.
 * @verb, @pick: what that is to do; @result: what came of it
 * @taken: requests that it has for certain
 */
struct shared {
	unsigned int verb;
	uint32_t pick;
	int result;
	bool taken[TOKENS];
	uint8_t region[REGION_SIZE] __attribute__((aligned(64)));
};

/* struct copy - all that the two sides of a ring share, and what the driver knows. */
struct copy {
	void *memory;
	uint8_t region[REGION_SIZE];
	struct ring ring;
	struct ring_slot slots[64];
	struct request requests[TOKENS];
	uint32_t next_number;
};

struct bench {
	struct lab lab;
	struct shared *shared;
	struct request requests[TOKENS];
	uint32_t next_number;
	uint32_t random;
	uint64_t heap_size;
	struct copy copy;
	uint8_t seen[REGION_SIZE + 4096]; /* the region and the ring as last looked at */
	pid_t child;
	unsigned long steps, states;
};

static inline uint32_t random_below(struct bench *bench, uint32_t limit)
{
	bench->random = bench->random * 1103515245 + 12345;
	return (bench->random >> 8) % limit;
}

/* ---- The driver ---- */

/* Make the next request available: its number to be read, then @in segments to be written. */
static inline bool request_add_of(struct bench *bench, unsigned int in)
{
	struct request *request = &bench->requests[bench->next_number % TOKENS];
	struct ring *ring = bench->lab.ring;
	struct segment segments[3];

	if (request->outstanding)
		return false;
	for (unsigned int i = 0; i <= in; i++)
		segments[i] = (struct segment) { request->gpa + i * SEGMENT,
						 i ? SEGMENT : sizeof(request->number) };
	if (ring->ops->add(ring, segments, 1, in, bench->lab.params.indirect, request))
		return false;
	request->number = bench->next_number++;
	request->outstanding = true;
	request->segments = in;
	memcpy(guest_ptr(bench->lab.machine, request->gpa, sizeof(request->number)),
	       &request->number, sizeof(request->number));
	return true;
}

static inline bool request_add(struct bench *bench)
{
	return request_add_of(bench, random_below(bench, 3));
}

/* The next request that the device used, NULL: none. */
static inline struct request *request_get(struct bench *bench)
{
	struct request *request;
	uint32_t len;

	request = bench->lab.ring->ops->get(bench->lab.ring, &len);
	if (!request)
		return NULL;
	assert_true(request->outstanding);
	assert_int_equal(len, request->segments * SEGMENT);
	request->outstanding = false;
	return request;
}

static inline unsigned int requests_outstanding(const struct bench *bench)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < TOKENS; i++)
		count += bench->requests[i].outstanding;
	return count;
}

/* ---- The device ---- */

/* struct held - a chain that the device has. */
struct held {
	uint16_t idx;
	uint32_t number;
	uint32_t len;
};

static inline bool device_take(struct vqueue_info *vq, struct held *held)
{
	struct vq_chain chain;
	struct iovec iov[LAB_IOV];

	if (!vq_has_descs(vq) || vq_pop(vq, &chain, iov, LAB_IOV) != 1)
		return false;
	held->idx = chain.idx;
	held->len = (uint32_t)chain.in_len;
	iov_to_buf(iov, chain.out_count, 0, &held->number, sizeof(held->number));
	return true;
}

/* ---- Copies ---- */

static inline uint8_t *heap(struct bench *bench)
{
	return guest_ptr(bench->lab.machine, MACHINE_HEAP, bench->heap_size);
}

static inline void copy_take(struct bench *bench)
{
	struct copy *copy = &bench->copy;

	memcpy(copy->memory, heap(bench), bench->heap_size);
	memcpy(copy->region, bench->shared->region, sizeof(copy->region));
	copy->ring = *bench->lab.ring;
	memcpy(copy->slots, bench->lab.ring->slots, bench->lab.ring->size * sizeof(copy->slots[0]));
	memcpy(copy->requests, bench->requests, sizeof(copy->requests));
	copy->next_number = bench->next_number;
}

static inline void copy_put_back(struct bench *bench)
{
	struct copy *copy = &bench->copy;

	memcpy(heap(bench), copy->memory, bench->heap_size);
	memcpy(bench->shared->region, copy->region, sizeof(copy->region));
	*bench->lab.ring = copy->ring;
	memcpy(bench->lab.ring->slots, copy->slots, bench->lab.ring->size * sizeof(copy->slots[0]));
	memcpy(bench->requests, copy->requests, sizeof(copy->requests));
	bench->next_number = copy->next_number;
}

/* Ring and region, if they are not what they were; false: they are. */
static inline bool memory_changed(struct bench *bench)
{
	const struct ring *ring = bench->lab.ring;
	uint64_t desc, driver, device;
	uint8_t now[sizeof(bench->seen)] = { 0 };
	uint8_t *to = now;

	ring->ops->sizes(ring->size, &desc, &driver, &device);
	memcpy(to, bench->shared->region, REGION_SIZE);
	to += REGION_SIZE;
	memcpy(to, guest_ptr(bench->lab.machine, ring->desc_gpa, desc), desc);
	to += desc;
	memcpy(to, guest_ptr(bench->lab.machine, ring->device_gpa, device), device);
	if (!memcmp(now, bench->seen, sizeof(now)))
		return false;
	memcpy(bench->seen, now, sizeof(now));
	return true;
}

/* ---- The successor ---- */

/* Use them one by one, in any order: the driver sees each at once, and nothing else. */
static inline void successor_use(struct bench *bench, struct held *held, unsigned int count)
{
	while (count) {
		unsigned int i = bench->lab.params.in_order ? 0 : random_below(bench, count);
		struct request *request;

		vq_relchain(bench->lab.vq, held[i].idx, held[i].len);
		vq_endchains(bench->lab.vq, 0);
		request = request_get(bench);
		assert_non_null(request);
		assert_int_equal(request->number, held[i].number);
		assert_null(request_get(bench));
		memmove(&held[i], &held[i + 1], (--count - i) * sizeof(*held));
	}
}

/* Everything that is outstanding, in the order in which it was made available; then it is used. */
static inline void successor_work(struct bench *bench, unsigned int left)
{
	struct held held[HELD_MAX];
	unsigned int count = 0, outstanding = requests_outstanding(bench);

	while (device_take(bench->lab.vq, &held[count])) {
		struct request *request = &bench->requests[held[count].number % TOKENS];

		assert_true(request->outstanding);
		assert_int_equal(request->number, held[count].number);
		assert_true(!count || held[count].number > held[count - 1].number);
		if (bench->shared->taken[request - bench->requests])
			assert_true(count < left);
		count++;
	}
	assert_int_equal(count, outstanding);
	assert_int_equal(vq_inflight_left(bench->lab.vq), 0);
	successor_use(bench, held, count);
	assert_int_equal(requests_outstanding(bench), 0);
}

/* Memory is as the device left it when it died. Another one goes on, and the ring is sound. */
static inline void successor_check(struct bench *bench)
{
	struct vqueue_info *vq = bench->lab.vq;

	copy_take(bench);
	while (request_get(bench))
		continue;
	lab_new_device(&bench->lab);
	assert_int_equal(vq_inflight_attach(vq, bench->shared->region, REGION_SIZE), 0);
	successor_work(bench, vq_inflight_left(vq));
	for (unsigned int round = 0; round < 2; round++) {
		while (request_add(bench))
			continue;
		successor_work(bench, 0);
	}
	assert_int_equal(bench->lab.machine->captured.count, 0);
	vq_inflight_detach(vq);
	copy_put_back(bench);
	bench->states++;
}

/* ---- The bench ---- */

static inline struct bench *bench_create(struct lab_params params)
{
	struct bench *bench = calloc(1, sizeof(*bench));
	struct machine *machine;

	assert_non_null(bench);
	bench->lab = lab_create(params);
	bench->random = SEED;
	machine = bench->lab.machine;
	bench->shared = mmap(NULL, sizeof(*bench->shared), PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(bench->shared, MAP_FAILED);
	for (unsigned int i = 0; i < TOKENS; i++)
		bench->requests[i].gpa = guest_alloc(machine, 4 * SEGMENT, 64);
	/* The driver's tables are allocated when they are first used: not in the middle of a check. */
	for (unsigned int round = 0; round < 4; round++) {
		while (request_add(bench))
			continue;
		successor_work(bench, 0);
	}
	bench->heap_size = machine->heap_next - MACHINE_HEAP;
	bench->copy.memory = malloc(bench->heap_size);
	assert_non_null(bench->copy.memory);
	lab_new_device(&bench->lab);
	return bench;
}

static inline void bench_destroy(struct bench *bench)
{
	vq_inflight_detach(bench->lab.vq);
	lab_destroy(&bench->lab);
	munmap(bench->shared, sizeof(*bench->shared));
	free(bench->copy.memory);
	free(bench);
}

/* A new packed region knows nothing: where the ring is the front end says (SET_VRING_BASE). */
static inline void bench_begin(struct bench *bench)
{
	const struct ring *ring = bench->lab.ring;
	struct vqueue_info *vq = bench->lab.vq;

	vq->used_idx = ring->used_seen;
	vq->used_wrap = ring->used_wrap;
	assert_int_equal(vq_inflight_attach(vq, bench->shared->region, REGION_SIZE), 0);
	vq_inflight_detach(vq);
}

#endif
