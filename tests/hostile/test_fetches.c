/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Class 11 without luck: the pages with the descriptors are taken away, each access to them faults,
 * is carried out alone, and then something else lies there. So it is seen how often the device reads
 * a descriptor, and what becomes of one that is not the same the second time.
 */
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "hostile.h"
#include "raw_ring.h"

#ifdef __x86_64__

#define PAGE 4096
#define FETCHES_MAX 256
#define TRAP_FLAG 0x100
#define FAULT_WRITES 2 /* bit of the page fault's error code */
#define DESC_SIZE 16
#define FLAGS_OFFSET 14 /* of a packed descriptor */

/*
 * struct watch - what is watched. One at a time: signal handlers have no argument.
 * @guest, @alias: guest RAM as the device has it, and a second mapping of it that never faults
 * @start, @len: the bytes whose reads are counted, in steps of @unit, which are changed together
 * @change_at: after so many fetches, what is at the last one's place is changed; 0: never
 * @fetches: offsets into [@start, @start + @len), in order
 * @stepping: @stepping_page is open for one instruction
 * @change_now: and then what is at @change_place is changed
 */
static struct watch {
	uint8_t *guest, *alias;
	uint64_t size;
	uint64_t start, len;
	unsigned int unit;
	bool packed;
	unsigned int change_at;
	uint32_t fetches[FETCHES_MAX];
	unsigned int fetch_count;
	bool stepping, change_now;
	uint64_t stepping_page, change_place;
	struct sigaction old_fault, old_step;
} watch;

static void page_protect(uint64_t page, int protection)
{
	mprotect(watch.guest + page, PAGE, protection);
}

/* Flip what a mistake could be made with: all of address, length, flags and next; or an index. */
static void change(uint64_t place)
{
	uint8_t *bytes = watch.alias + place;

	if (watch.unit != DESC_SIZE) {
		for (unsigned int i = 0; i < watch.unit; i++)
			bytes[i] = 0xff;
		return;
	}
	memset(bytes, 0xff, 8);
	bytes[8] ^= 0xf1;
	if (watch.packed) {
		bytes[FLAGS_OFFSET] ^= 7; /* the bits that make it available stay */
	} else {
		bytes[12] ^= 7;
		bytes[14] = bytes[15] = 0x7f;
	}
}

/* Does the instruction load 16 bytes (MOVUPS, MOVAPS, MOVDQU, MOVDQA, or those of AVX)? */
static bool loads_16(const uint8_t *code)
{
	while (*code == 0x66 || *code == 0xf3 || (*code & 0xf0) == 0x40)
		code++;
	return *code == 0xc4 || *code == 0xc5 ||
	       (code[0] == 0x0f && (code[1] == 0x10 || code[1] == 0x28 || code[1] == 0x6f));
}

static void note_fetch(uint64_t gpa)
{
	uint64_t offset = gpa - watch.start;

	if (gpa < watch.start || offset >= watch.len)
		return;
	/* A packed ring is polled by the flags: that is no fetch of what is in it. */
	if (watch.packed && watch.unit == DESC_SIZE && offset % DESC_SIZE == FLAGS_OFFSET)
		return;
	if (watch.fetch_count < FETCHES_MAX)
		watch.fetches[watch.fetch_count] = (uint32_t)offset;
	watch.fetch_count++;
	if (watch.fetch_count == watch.change_at)
		watch.change_now = true;
	watch.change_place = watch.start + offset / watch.unit * watch.unit;
}

static void on_fault(int signal_number, siginfo_t *info, void *arg)
{
	greg_t *registers = ((ucontext_t *)arg)->uc_mcontext.gregs;
	uint64_t gpa = (uint64_t)((uint8_t *)info->si_addr - watch.guest);

	if (gpa >= watch.size || watch.stepping) {
		sigaction(SIGSEGV, &watch.old_fault, NULL); /* somebody else's: it comes again */
		return;
	}
	if (!(registers[REG_ERR] & FAULT_WRITES)) {
		note_fetch(gpa);
		if (watch.unit == DESC_SIZE && gpa % DESC_SIZE == 0 &&
		    loads_16((const uint8_t *)registers[REG_RIP]))
			note_fetch(gpa + DESC_SIZE / 2); /* both halves */
	}
	watch.stepping = true;
	watch.stepping_page = gpa / PAGE * PAGE;
	page_protect(watch.stepping_page, PROT_READ | PROT_WRITE);
	registers[REG_EFL] |= TRAP_FLAG;
}

static void on_step(int signal_number, siginfo_t *info, void *arg)
{
	greg_t *registers = ((ucontext_t *)arg)->uc_mcontext.gregs;

	registers[REG_EFL] &= ~(greg_t)TRAP_FLAG;
	watch.stepping = false;
	if (watch.change_now)
		change(watch.change_place);
	watch.change_now = false;
	page_protect(watch.stepping_page, PROT_NONE);
}

static void watch_open(struct hostile *hostile)
{
	const struct guest_memory *memory = &hostile->machine->ctx->memory;
	struct sigaction fault = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	struct sigaction step = { .sa_sigaction = on_step, .sa_flags = SA_SIGINFO };

	memset(&watch, 0, sizeof(watch));
	watch.guest = (uint8_t *)memory->regions[0].host;
	watch.size = memory->regions[0].size;
	watch.alias = mmap(NULL, watch.size, PROT_READ | PROT_WRITE, MAP_SHARED, memory->fd,
			   (off_t)memory->regions[0].fd_offset);
	assert_true(watch.alias != MAP_FAILED);
	sigaction(SIGSEGV, &fault, &watch.old_fault);
	sigaction(SIGTRAP, &step, &watch.old_step);
}

static void watch_close(void)
{
	munmap(watch.alias, watch.size);
	sigaction(SIGSEGV, &watch.old_fault, NULL);
	sigaction(SIGTRAP, &watch.old_step, NULL);
}

static void watch_bytes(uint64_t start, uint64_t len, unsigned int unit, unsigned int change_at)
{
	watch.start = start;
	watch.len = len;
	watch.unit = unit;
	watch.change_at = change_at;
	watch.fetch_count = 0;
	watch.change_now = false;
}

/* Let the device work, with the watched pages taken away. */
static void watched_kick(struct hostile *hostile)
{
	uint64_t first = watch.start / PAGE * PAGE, end = watch.start + watch.len;

	for (uint64_t page = first; page < end; page += PAGE)
		page_protect(page, PROT_NONE);
	hostile_kick(hostile);
	machine_poll(hostile->machine);
	for (uint64_t page = first; page < end; page += PAGE)
		page_protect(page, PROT_READ | PROT_WRITE);
}

/* ---- What is watched ---- */

struct area {
	uint64_t start, len;
	unsigned int unit;
};

/* The descriptors of the request that is added next: in the ring, or in its table. */
static struct area descriptors_of(struct hostile *hostile, uint16_t slot)
{
	const struct ring *ring = &hostile->queue->ring;
	uint64_t table = ring->slots[slot].table;

	if (hostile->victim->params.indirect)
		return (struct area) { table, RING_SEGMENTS_MAX * DESC_SIZE, DESC_SIZE };
	return (struct area) { ring->desc_gpa, (uint64_t)ring->size * DESC_SIZE, DESC_SIZE };
}

/* The head itself where the descriptors are in a table; it is in the ring. */
static struct area head_of(struct hostile *hostile, uint16_t slot)
{
	const struct ring *ring = &hostile->queue->ring;

	return (struct area) { ring->desc_gpa, (uint64_t)ring->size * DESC_SIZE, DESC_SIZE };
}

/* The available ring's entry, behind flags and index; a packed ring has none. */
static struct area entry_of(struct hostile *hostile, uint16_t slot)
{
	const struct ring *ring = &hostile->queue->ring;

	if (raw_is_packed(ring))
		return (struct area) { 0, 0, 0 };
	return (struct area) { ring->driver_gpa + 4, 2ULL * ring->size, 2 };
}

/* ---- The tests ---- */

/* Add the simple request, as the driver does, and say where @area of it is. */
static struct area add_request(struct hostile *hostile, struct kind_buffer *buffer,
			       struct area (*area)(struct hostile *hostile, uint16_t slot))
{
	uint16_t slot = hostile->queue->ring.free_head;

	/* Its data are on pages of their own: the kernel, which gets at them too, takes no faults. */
	guest_alloc(hostile->machine, PAGE, PAGE);
	*buffer = kind_buffer(hostile->victim->kind, hostile->driver);
	guest_alloc(hostile->machine, PAGE, PAGE);
	assert_int_equal(driver_add_buf(hostile->queue, buffer->segments, buffer->out_count,
					buffer->in_count, buffer),
			 0);
	return area(hostile, slot);
}

/* Once each: in one piece, or in two halves, never again. */
static void check_fetched_once(void)
{
	for (unsigned int i = 0; i < watch.fetch_count; i++) {
		uint32_t at = watch.fetches[i];

		if (watch.unit == DESC_SIZE && at % DESC_SIZE != 0 &&
		    (at % DESC_SIZE != 8 || i == 0 || watch.fetches[i - 1] != at - 8))
			fail_msg("descriptor %u is read again or in pieces, at %u", at / DESC_SIZE,
				 at % DESC_SIZE);
		for (unsigned int j = 0; j < i; j++)
			if (watch.fetches[j] == at)
				fail_msg("what is at %u is read twice", at);
	}
}

/* The request comes to its end as if nothing had happened. */
static void check_answer(struct hostile *hostile, struct kind_buffer *buffer)
{
	uint32_t len;

	if (hostile_needs_reset(hostile)) {
		machine_log_print(hostile->machine);
		fail_msg("fetch %u and a change: NEEDS_RESET is set", watch.change_at);
	}
	assert_ptr_equal(driver_wait_buf(hostile->queue, &len, DRIVER_TIMEOUT_MS), buffer);
	assert_int_equal(len, hostile->victim->kind->used);
	driver_queue_interrupt(hostile->queue);
}

static void run_fetches(void **state, struct area (*area)(struct hostile *hostile, uint16_t slot))
{
	struct hostile *hostile = hostile_run(state);
	struct kind_buffer buffer;
	unsigned int fetches;
	struct area at;

	watch_open(hostile);
	watch.packed = raw_is_packed(&hostile->queue->ring);
	/* Undisturbed: how often is each read? */
	at = add_request(hostile, &buffer, area);
	watch_bytes(at.start, at.len, at.unit, 0);
	watched_kick(hostile);
	fetches = watch.fetch_count;
	assert_in_range(fetches, 1, FETCHES_MAX - 1);
	check_fetched_once();
	check_answer(hostile, &buffer);
	/* Changed behind each fetch in turn: torn ones may fail, the last one's must not matter. */
	for (unsigned int i = 1; i <= fetches; i++) {
		at = add_request(hostile, &buffer, area);
		watch_bytes(at.start, at.len, at.unit, i);
		watched_kick(hostile);
		assert_true(watch.fetch_count >= i);
		if (i == fetches)
			check_answer(hostile, &buffer);
		hostile_expect_contained(hostile, "what changed after it was read");
	}
	watch_close();
	hostile_close(hostile);
}

static void test_descriptors(void **state)
{
	run_fetches(state, descriptors_of);
}

static void test_heads(void **state)
{
	run_fetches(state, head_of);
}

static void test_entries(void **state)
{
	run_fetches(state, entry_of);
}

/* The readable part of the request, changed behind each of the first accesses to it. */
static void test_data(void **state)
{
	struct hostile *hostile = hostile_run(state);

	watch_open(hostile);
	for (unsigned int i = 1; i <= 24; i++) {
		struct kind_buffer buffer = kind_buffer(hostile->victim->kind, hostile->driver);

		assert_int_equal(driver_add_buf(hostile->queue, buffer.segments, buffer.out_count,
						buffer.in_count, &buffer),
				 0);
		watch_bytes(buffer.gpa, buffer.out, 1, i);
		watched_kick(hostile);
		hostile_expect_contained(hostile, "a header that changes");
	}
	watch_close();
	hostile_close(hostile);
}

int main(void)
{
	static struct kind_tests tests;

	kind_tests_add(&tests, "descriptors", test_descriptors, KIND_AXIS_RINGS);
	kind_tests_add(&tests, "heads", test_heads, KIND_AXIS_RINGS);
	kind_tests_add(&tests, "available entries", test_entries, KIND_AXIS_SPLIT);
	kind_tests_add(&tests, "data", test_data, KIND_AXIS_INTERFACE);
	return kind_tests_run(&tests, "fetches");
}

#else

int main(void)
{
	printf("skipped: needs the single step of x86_64\n");
	return 0;
}

#endif
