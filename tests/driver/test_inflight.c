/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device that dies, and its successor. The device is a child process on shared memory that is
 * carried out one instruction at a time; after each that changed the ring or the inflight region,
 * the parent takes a copy of all, plays the successor and looks whether every request is there
 * exactly once, and puts everything back. Now and then the child is killed and another goes on.
 */
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "raw_ring.h"
#include "ring_lab.h"
#include "vq_inflight.h"

#define SEED 5
#define TOKENS 64
#define SEGMENT 64
#define REGION_SIZE 8192
#define HELD_MAX 64
#define LIFE 20 /* commands until a child is killed */
#define BUDGET_MS 700 /* for each way of driving a ring */
#define STATES_MIN 20 /* different states of memory looked at, at least */
#define LIVES_MAX 1000

enum verb { VERB_ATTACH, VERB_TAKE, VERB_PUT_BACK, VERB_USE, VERB_PUBLISH, VERB_COUNT };

static const char *const verb_names[] = { "attach", "take", "put back", "use", "publish" };

/* struct request - a buffer of the driver. @number: they are made available in this order */
struct request {
	uint32_t number;
	bool outstanding;
	unsigned int segments;
	uint64_t gpa;
};

/*
 * struct shared - between parent and child.
 * @verb, @pick: what the child is to do
 * @taken: numbers of the requests that it has for certain, since the device has seen them
 */
struct shared {
	enum verb verb;
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

static uint32_t random_below(struct bench *bench, uint32_t limit)
{
	bench->random = bench->random * 1103515245 + 12345;
	return (bench->random >> 8) % limit;
}

/* ---- The driver ---- */

/* Make the next request available: its number to be read, then @in segments to be written. */
static bool request_add_of(struct bench *bench, unsigned int in)
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

static bool request_add(struct bench *bench)
{
	return request_add_of(bench, random_below(bench, 3));
}

/* The next request that the device used, NULL: none. */
static struct request *request_get(struct bench *bench)
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

static unsigned int requests_outstanding(const struct bench *bench)
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

static bool device_take(struct vqueue_info *vq, struct held *held)
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

/* What a child has, in the order in which it was taken; behind the first @fixed may be put back. */
struct child {
	struct held held[HELD_MAX];
	unsigned int count, fixed;
};

static int child_use(struct child *child, struct vqueue_info *vq, uint32_t pick)
{
	unsigned int i;

	if (!child->count)
		return 0;
	i = pick % child->count;
	vq_relchain(vq, child->held[i].idx, child->held[i].len);
	memmove(&child->held[i], &child->held[i + 1],
		(--child->count - i) * sizeof(child->held[0]));
	child->fixed = MAX(i, child->fixed - (child->fixed > i));
	return 1;
}

static int child_do(struct bench *bench, struct child *child)
{
	struct vqueue_info *vq = bench->lab.vq;
	struct shared *shared = bench->shared;

	switch (shared->verb) {
	case VERB_ATTACH:
		return vq_inflight_attach(vq, shared->region, sizeof(shared->region));
	case VERB_TAKE:
		if (child->count == HELD_MAX || !device_take(vq, &child->held[child->count]))
			return 0;
		shared->taken[child->held[child->count++].number % TOKENS] = true;
		return 1;
	case VERB_PUT_BACK:
		if (child->count == child->fixed)
			return 0;
		shared->taken[child->held[--child->count].number % TOKENS] = false;
		vq_retchain(vq);
		return 1;
	case VERB_USE:
		return child_use(child, vq, shared->pick);
	default:
		vq_endchains(vq, 0);
		return 1;
	}
}

static void child_run(struct bench *bench)
{
	struct child child = { .count = 0 };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
		_exit(1);
	for (;;) {
		kill(getpid(), SIGSTOP);
		bench->shared->result = child_do(bench, &child);
	}
}

/* ---- Copies ---- */

static uint8_t *heap(struct bench *bench)
{
	return guest_ptr(bench->lab.machine, MACHINE_HEAP, bench->heap_size);
}

static void copy_take(struct bench *bench)
{
	struct copy *copy = &bench->copy;

	memcpy(copy->memory, heap(bench), bench->heap_size);
	memcpy(copy->region, bench->shared->region, sizeof(copy->region));
	copy->ring = *bench->lab.ring;
	memcpy(copy->slots, bench->lab.ring->slots, bench->lab.ring->size * sizeof(copy->slots[0]));
	memcpy(copy->requests, bench->requests, sizeof(copy->requests));
	copy->next_number = bench->next_number;
}

static void copy_put_back(struct bench *bench)
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
static bool memory_changed(struct bench *bench)
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
static void successor_use(struct bench *bench, struct held *held, unsigned int count)
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
static void successor_work(struct bench *bench, unsigned int left)
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
static void successor_check(struct bench *bench)
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

/* ---- One instruction at a time ---- */

/* The child stops before its next command; false: it cannot be traced. */
static bool child_start(struct bench *bench)
{
	int status;

	bench->child = fork();
	assert_true(bench->child >= 0);
	if (!bench->child)
		child_run(bench);
	assert_int_equal(waitpid(bench->child, &status, 0), bench->child);
	return WIFSTOPPED(status);
}

static void child_kill(struct bench *bench)
{
	if (bench->child <= 0)
		return;
	kill(bench->child, SIGKILL);
	waitpid(bench->child, NULL, 0);
	bench->child = 0;
	memset(bench->shared->taken, 0, sizeof(bench->shared->taken));
}

/* The child does its command; @die_after: it is killed after so many instructions (0: it is not). */
static bool child_step(struct bench *bench, unsigned long die_after)
{
	for (unsigned long step = 1;; step++) {
		int status;

		if (ptrace(PTRACE_SINGLESTEP, bench->child, NULL, NULL))
			return false;
		assert_int_equal(waitpid(bench->child, &status, 0), bench->child);
		assert_true(WIFSTOPPED(status));
		bench->steps++;
		if (WSTOPSIG(status) == SIGSTOP)
			break;
		assert_int_equal(WSTOPSIG(status), SIGTRAP);
		if (memory_changed(bench))
			successor_check(bench);
		if (step == die_after) {
			child_kill(bench);
			return true;
		}
	}
	return true;
}

static bool child_command(struct bench *bench, enum verb verb, unsigned long die_after)
{
	char text[64];

	bench->shared->verb = verb;
	bench->shared->pick = random_below(bench, 1000);
	bench->shared->result = -ENODATA;
	if (!child_step(bench, die_after)) {
		print_message("[   SKIP   ] %s: no single steps here: %s\n",
			      lab_params_name(&bench->lab.params, text, sizeof(text)),
			      strerror(errno));
		return false;
	}
	if (bench->child && bench->shared->result < 0)
		fail_msg("%s: %d", verb_names[verb], bench->shared->result);
	return true;
}

static void driver_turn(struct bench *bench)
{
	for (unsigned int i = random_below(bench, 3); i; i--)
		request_get(bench);
	for (unsigned int i = random_below(bench, 5); i; i--)
		request_add(bench);
	memory_changed(bench);
}

/* All that the ring can hold is taken and used as one batch. */
static bool child_whole_ring(struct bench *bench)
{
	while (request_add(bench))
		continue;
	while (request_add_of(bench, 0))
		continue;
	memory_changed(bench);
	for (bench->shared->result = 1; bench->shared->result;)
		if (!child_command(bench, VERB_TAKE, 0))
			return false;
	for (bench->shared->result = 1; bench->shared->result;)
		if (!child_command(bench, VERB_USE, 0))
			return false;
	return child_command(bench, VERB_PUBLISH, 0);
}

static bool child_some_of_it(struct bench *bench)
{
	static const uint8_t verbs[] = { VERB_TAKE, VERB_TAKE, VERB_TAKE,    VERB_USE,
					 VERB_USE,  VERB_USE,  VERB_PUBLISH, VERB_PUT_BACK };

	for (unsigned int i = 0; i < LIFE; i++) {
		driver_turn(bench);
		if (!child_command(bench, verbs[random_below(bench, sizeof(verbs))], 0))
			return false;
	}
	return child_command(bench, verbs[random_below(bench, sizeof(verbs))],
			     1 + random_below(bench, 300));
}

/* A child's life, and its death. */
static bool child_live(struct bench *bench, unsigned int number)
{
	bool traced = child_start(bench) && child_command(bench, VERB_ATTACH, 0);

	if (traced)
		traced = number % 2 ? child_whole_ring(bench) : child_some_of_it(bench);
	child_kill(bench);
	return traced;
}

/* ---- The bench ---- */

static struct bench *bench_create(struct lab_params params)
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

static void bench_destroy(struct bench *bench)
{
	child_kill(bench);
	vq_inflight_detach(bench->lab.vq);
	lab_destroy(&bench->lab);
	munmap(bench->shared, sizeof(*bench->shared));
	free(bench->copy.memory);
	free(bench);
}

/* A new packed region knows nothing: where the ring is the front end says (SET_VRING_BASE). */
static void bench_begin(struct bench *bench)
{
	const struct ring *ring = bench->lab.ring;
	struct vqueue_info *vq = bench->lab.vq;

	vq->used_idx = ring->used_seen;
	vq->used_wrap = ring->used_wrap;
	assert_int_equal(vq_inflight_attach(vq, bench->shared->region, REGION_SIZE), 0);
	vq_inflight_detach(vq);
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void test_killed_anywhere(void **state)
{
	for (unsigned int i = 0; i < LAB_COMBINATIONS; i++) {
		struct bench *bench = bench_create(lab_params_at(i));
		uint64_t end = now_ms() + BUDGET_MS;
		unsigned int lives = 0;
		char text[64];

		bench_begin(bench);
		while (lives < LIVES_MAX && (now_ms() < end || bench->states < STATES_MIN))
			if (!child_live(bench, lives++)) {
				bench_destroy(bench);
				skip();
			}
		print_message("%s: %u lives, %lu instructions, %lu states\n",
			      lab_params_name(&bench->lab.params, text, sizeof(text)), lives,
			      bench->steps, bench->states);
		assert_true(bench->states >= STATES_MIN);
		bench_destroy(bench);
	}
}

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
		cmocka_unit_test(test_killed_anywhere),
	};

	return cmocka_run_group_tests_name("inflight", tests, NULL, NULL);
}
