/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Class 11: a second processor of the guest changes descriptors, tables, the available ring and the
 * headers of requests while the device reads them, for every kind of device, split and packed, direct
 * and indirect. What was checked must be what is used.
 */
#include <sched.h>

#include "hostile.h"
#include "raw_ring.h"

#define ROUNDS 120 /* with requests in flight, for each kind and format */
#define CHECK_EVERY 30
#define KICKS 16 /* a round */
#define BATCH 4 /* requests a round */
#define AREA_SIZE 16384 /* of a request; so far a length that was changed may reach */

enum target_kind { TARGET_DESCS, TARGET_AVAIL, TARGET_DATA };

/* struct target - guest memory that is changed; @len in bytes. */
struct target {
	enum target_kind kind;
	uint8_t *host;
	uint32_t len;
};

/*
 * struct flipper - the second processor.
 * @pause: held by who wants it to leave the memory as it should be
 * @flips: so many changes so far, each of them taken back; but the last of a turn holds until the
 *         next one, so that the device sees some even where both have one processor: @held bytes
 *         at @held_at were @held_old
 * @area: guest memory that may be written to
 */
struct flipper {
	pthread_t thread;
	pthread_mutex_t pause;
	bool stop;
	uint64_t flips, seed;
	uint8_t *held_at, held_old[16];
	size_t held;
	uint64_t area, ram_end;
	uint16_t ring_size;
	struct target targets[2 + 2 * BATCH];
	unsigned int target_count;
};

static uint64_t random_next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

#define PICK(seed, values) ((values)[random_next(seed) % ARRAY_SIZE(values)])

/* Change one field for a moment. Only what leads out of RAM, or to where nothing can be spoilt. */
#define FLIP(type, flipper, place, value)                                                          \
	do {                                                                                       \
		type *place_ = (type *)(place), old_ = __atomic_load_n(place_, __ATOMIC_RELAXED);  \
                                                                                                   \
		__atomic_store_n(place_, (type)(value), __ATOMIC_RELAXED);                         \
		flip_hold(flipper, place_, &old_, sizeof(old_));                                   \
	} while (0)

static void flip_hold(struct flipper *flipper, void *place, const void *old, size_t size)
{
	flipper->held_at = place;
	flipper->held = size;
	memcpy(flipper->held_old, old, size);
	for (uint64_t i = random_next(&flipper->seed) % 512; i; i--)
		__asm__ volatile("" ::: "memory");
}

static void flip_back(struct flipper *flipper)
{
	if (flipper->held)
		memcpy(flipper->held_at, flipper->held_old, flipper->held);
	flipper->held = 0;
}

static void flip_desc(struct flipper *flipper, uint8_t *desc)
{
	const uint64_t addrs[] = { flipper->area,
				   flipper->area + 4095,
				   flipper->ram_end,
				   flipper->ram_end - 1,
				   UINT64_MAX,
				   UINT64_MAX - 63,
				   X86_LAPIC_BASE,
				   BIT64(63),
				   0 };
	static const uint32_t lens[] = {
		0, 1, 15, 16, 17, 32, 512, 4096, 0x7fffffff, 0x80000000, UINT32_MAX, 0xfffffff0
	};
	const uint16_t words[] = { 0,
				   1,
				   2,
				   3,
				   4,
				   5,
				   6,
				   7,
				   0x80,
				   0x8080,
				   0x8000,
				   0xffff,
				   flipper->ring_size,
				   (uint16_t)(flipper->ring_size - 1) };

	switch (random_next(&flipper->seed) % 4) {
	case 0:
		FLIP(uint64_t, flipper, desc, PICK(&flipper->seed, addrs));
		break;
	case 1:
		FLIP(uint32_t, flipper, desc + 8, PICK(&flipper->seed, lens));
		break;
	case 2:
		FLIP(uint16_t, flipper, desc + 12, PICK(&flipper->seed, words));
		break;
	default:
		FLIP(uint16_t, flipper, desc + 14, PICK(&flipper->seed, words));
	}
}

static void flip_one(struct flipper *flipper)
{
	const struct target *target =
		&flipper->targets[random_next(&flipper->seed) % flipper->target_count];
	uint32_t at = (uint32_t)(random_next(&flipper->seed) % target->len);

	switch (target->kind) {
	case TARGET_DESCS:
		flip_desc(flipper, target->host + at / 16 * 16);
		break;
	case TARGET_AVAIL:
		FLIP(uint16_t, flipper, target->host + at / 2 * 2, random_next(&flipper->seed));
		break;
	case TARGET_DATA:
		FLIP(uint8_t, flipper, target->host + at, random_next(&flipper->seed));
	}
}

static void *flipper_run(void *arg)
{
	struct flipper *flipper = arg;

	while (!__atomic_load_n(&flipper->stop, __ATOMIC_RELAXED)) {
		pthread_mutex_lock(&flipper->pause);
		for (unsigned int i = 0; i < 32; i++) {
			flip_back(flipper);
			flip_one(flipper);
		}
		pthread_mutex_unlock(&flipper->pause);
		__atomic_fetch_add(&flipper->flips, 32, __ATOMIC_RELAXED);
		sched_yield(); /* the mutex is not fair */
	}
	return NULL;
}

static void target_add(struct flipper *flipper, enum target_kind kind, void *host, uint32_t len)
{
	if (len)
		flipper->targets[flipper->target_count++] = (struct target) { kind, host, len };
}

/* ---- The requests ---- */

/* struct request - the simple request, its memory and its descriptors. */
struct request {
	uint64_t gpa, table;
	struct raw_desc descs[2];
	unsigned int count;
};

static void request_make(struct hostile *hostile, struct flipper *flipper, struct request *request)
{
	const struct device_kind *kind = hostile->victim->kind;
	uint8_t out[KIND_REQUEST_MAX];
	uint32_t len = kind->fill(hostile->driver, out);

	request->gpa = guest_alloc(hostile->machine, AREA_SIZE, 4096);
	memcpy(guest_ptr(hostile->machine, request->gpa, len), out, len);
	if (len)
		request->descs[request->count++] = (struct raw_desc) { request->gpa, len, 0, 0 };
	if (kind->in)
		request->descs[request->count++] =
			(struct raw_desc) { request->gpa + 4096, kind->in, VRING_DESC_F_WRITE, 0 };
	if (request->count == 2) {
		request->descs[0].flags = VRING_DESC_F_NEXT;
		request->descs[0].next = 1;
	}
	if (hostile->victim->params.indirect) {
		request->table = raw_table(&hostile->queue->ring, request->descs, request->count);
		target_add(flipper, TARGET_DESCS,
			   guest_ptr(hostile->machine, request->table, request->count * 16),
			   request->count * 16);
	}
	target_add(flipper, TARGET_DATA, guest_ptr(hostile->machine, request->gpa, len), len);
}

/* In a split table each request has descriptors of its own, so that what is in flight stays there. */
static void request_add(struct ring *ring, const struct request *request, uint16_t first)
{
	struct raw_desc descs[2] = { request->descs[0], request->descs[1] };
	unsigned int count = request->count;

	if (request->table) {
		descs[0] =
			(struct raw_desc) { request->table, count * 16, VRING_DESC_F_INDIRECT, 0 };
		count = 1;
	}
	if (raw_is_packed(ring)) {
		raw_packed_add(ring, descs, count);
		return;
	}
	if (count == 2)
		descs[0].next = (uint16_t)(first + 1);
	for (unsigned int i = 0; i < count; i++)
		raw_split_desc(ring, first + i, &descs[i]);
	raw_split_avail(ring, first);
}

static void flipper_start(struct flipper *flipper, struct hostile *hostile,
			  struct request *requests)
{
	struct ring *ring = &hostile->queue->ring;
	const struct guest_memory_region *low = &hostile->machine->ctx->memory.regions[0];

	flipper->seed = UINT64_C(0x2545f4914f6cdd1d);
	flipper->area = guest_alloc(hostile->machine, AREA_SIZE, 4096);
	flipper->ram_end = low->gpa + low->size;
	flipper->ring_size = ring->size;
	for (unsigned int i = 0; i < BATCH; i++)
		request_make(hostile, flipper, &requests[i]);
	if (raw_is_packed(ring)) {
		target_add(flipper, TARGET_DESCS, ring->packed, 16U * ring->size);
		target_add(flipper, TARGET_AVAIL, ring->driver_event, 4);
	} else {
		target_add(flipper, TARGET_DESCS, ring->desc, 16U * 2 * BATCH);
		target_add(flipper, TARGET_AVAIL, ring->avail, 6 + 2U * ring->size);
	}
	pthread_mutex_init(&flipper->pause, NULL);
	assert_int_equal(pthread_create(&flipper->thread, NULL, flipper_run, flipper), 0);
}

static void flipper_stop(struct flipper *flipper)
{
	__atomic_store_n(&flipper->stop, true, __ATOMIC_RELAXED);
	pthread_join(flipper->thread, NULL);
	pthread_mutex_destroy(&flipper->pause);
}

/* Wait until it had a turn: the host may have one processor for both of us. */
static void flipper_wait(const struct flipper *flipper, uint64_t flips)
{
	while (__atomic_load_n(&flipper->flips, __ATOMIC_RELAXED) == flips)
		sched_yield();
}

static void attack_round(struct hostile *hostile, const struct request *requests)
{
	struct ring *ring = &hostile->queue->ring;

	for (unsigned int kick = 0; kick < KICKS && !hostile_needs_reset(hostile); kick++) {
		for (uint16_t i = 0; i < BATCH; i++)
			request_add(ring, &requests[i], (uint16_t)(2 * i));
		hostile_kick(hostile);
		if (kick % 4 == 3)
			machine_poll(hostile->machine);
	}
}

static void attack(void **state, const struct machine_config *config)
{
	struct hostile *hostile = hostile_open(state, config, NULL);
	struct request requests[BATCH] = { 0 };
	struct flipper flipper = { 0 };
	unsigned int breaks = 0;

	hostile_start(hostile);
	flipper_start(&flipper, hostile, requests);
	hostile_begin(hostile);
	for (unsigned int round = 1; round <= ROUNDS; round++) {
		uint64_t flips = __atomic_load_n(&flipper.flips, __ATOMIC_RELAXED);

		attack_round(hostile, requests);
		flipper_wait(&flipper, flips);
		if (hostile_needs_reset(hostile)) {
			breaks++;
			driver_restart(hostile->driver);
		}
		if (round % CHECK_EVERY)
			continue;
		pthread_mutex_lock(&flipper.pause);
		flip_back(&flipper);
		hostile_expect_survived(hostile, "memory that changes");
		pthread_mutex_unlock(&flipper.pause);
	}
	flipper_stop(&flipper);
	print_message("%llu changes, NEEDS_RESET %u times\n", (unsigned long long)flipper.flips,
		      breaks);
	hostile_close(hostile);
}

static void test_flips(void **state)
{
	attack(state, NULL);
}

/* The device in a thread of its own, three processors in all. */
static void test_flips_threaded(void **state)
{
	const struct machine_config config = { .ioeventfd = true, .io_thread = true };

	attack(state, &config);
}

int main(void)
{
	static struct kind_tests tests;

	kind_tests_add(&tests, "memory that changes", test_flips, KIND_AXIS_RINGS);
	kind_tests_add_served(&tests, "memory that changes", test_flips);
	kind_tests_add(&tests, "memory that changes, threaded", test_flips_threaded,
		       KIND_AXIS_INTERFACE);
	return kind_tests_run(&tests, "changes between check and use");
}
