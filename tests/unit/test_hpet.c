/* SPDX-License-Identifier: BSD-3-Clause */
/* The HPET as a guest sees it, on a virtual clock: counter, comparators, routes, legacy mode, floods. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "timers_vm.h"

#define CLOCK 100 /* ns */
#define BASE UINT64_C(0xfed00000)
#define CONFIG 0x10
#define STATUS 0x20
#define COUNTER 0xf0
#define TIMER(n) (0x100 + 0x20 * (n))
#define COMPARATOR(n) (TIMER(n) + 8)

#define ENABLE 1
#define LEGACY 2
#define LEVEL 0x2
#define INTERRUPT 0x4
#define PERIODIC 0x8
#define SET_VALUE 0x40
#define BITS32 0x100
#define ROUTE(gsi) ((gsi) << 9)

static uint64_t get(struct fake_vm *vm, unsigned int reg, unsigned int size)
{
	uint64_t value;

	assert_true(io_space_read(&vm->ctx.mmio, BASE + reg, size, &value));
	return value;
}

static void set(struct fake_vm *vm, unsigned int reg, unsigned int size, uint64_t value)
{
	assert_true(io_space_write(&vm->ctx.mmio, BASE + reg, size, value));
}

static void step(struct fake_vm *vm, uint64_t clocks)
{
	timers_vm_step(vm, clocks * CLOCK);
}

static void test_capabilities(void **state)
{
	struct fake_vm *vm = *state;

	/* 100 ns, Intel, legacy routing, 64 bits, three timers, revision 1 */
	assert_int_equal(get(vm, 0, 8), UINT64_C(0x05f5e1008086a201));
	assert_int_equal(get(vm, 4, 4), 100000000);
	set(vm, 0, 8, 0);
	assert_int_equal(get(vm, 0, 4), 0x8086a201);
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(get(vm, TIMER(i), 8), UINT64_C(0x00ff000000000030));
		assert_int_equal(get(vm, COMPARATOR(i), 8), UINT64_MAX);
		assert_int_equal(get(vm, TIMER(i) + 0x10, 8), 0);
	}
	assert_int_equal(get(vm, TIMER(3), 8), 0);
	assert_int_equal(get(vm, 0x3f8, 8), 0);
	assert_int_equal(get(vm, CONFIG, 8), 0);
}

static void test_counter(void **state)
{
	struct fake_vm *vm = *state;

	step(vm, 1000);
	assert_int_equal(get(vm, COUNTER, 8), 0);
	set(vm, CONFIG, 4, ENABLE);
	step(vm, 1000);
	assert_int_equal(get(vm, COUNTER, 8), 1000);
	set(vm, COUNTER, 8, 0x12345678); /* not while it counts */
	assert_int_equal(get(vm, COUNTER, 8), 1000);
	set(vm, CONFIG, 4, 0);
	step(vm, 1000);
	assert_int_equal(get(vm, COUNTER, 4), 1000);
	set(vm, COUNTER, 4, 0xfffffff0);
	set(vm, COUNTER + 4, 4, 7);
	assert_int_equal(get(vm, COUNTER, 8), UINT64_C(0x7fffffff0));
	set(vm, CONFIG, 4, ENABLE);
	step(vm, 0x20);
	assert_int_equal(get(vm, COUNTER, 4), 0x10);
	assert_int_equal(get(vm, COUNTER + 4, 4), 8);
	assert_int_equal(get(vm, COUNTER + 1, 2), 0);
	/* all of 64 bits */
	set(vm, CONFIG, 4, 0);
	set(vm, COUNTER, 8, UINT64_MAX - 4);
	set(vm, CONFIG, 4, ENABLE);
	step(vm, 10);
	assert_int_equal(get(vm, COUNTER, 8), 5);
}

/* Timer @n, edge to GSI @gsi. */
static void set_timer(struct fake_vm *vm, unsigned int n, unsigned int gsi, uint64_t config,
		      uint64_t comparator)
{
	set(vm, TIMER(n), 4, INTERRUPT | ROUTE(gsi) | config);
	set(vm, COMPARATOR(n), 8, comparator);
}

static void test_one_shot(void **state)
{
	struct fake_vm *vm = *state;

	for (unsigned int n = 0; n < 3; n++)
		set_timer(vm, n, 16 + n, 0, 10000 * (n + 1));
	assert_true(timers_vm_idle(vm));
	set(vm, CONFIG, 4, ENABLE);
	for (unsigned int n = 0; n < 3; n++) {
		step(vm, 9999);
		assert_int_equal(vm->raised[16 + n], 0);
		step(vm, 1);
		assert_int_equal(vm->raised[16 + n], 1);
		assert_false(vm->level[16 + n]);
		assert_int_equal(get(vm, STATUS, 8), 0);
	}
	assert_true(timers_vm_idle(vm));
	/* what is in the past comes when the counter wraps: not with 64 bits */
	set(vm, COMPARATOR(0), 8, 29999);
	assert_true(timers_vm_idle(vm));
	set(vm, TIMER(0), 4, INTERRUPT | ROUTE(16) | BITS32);
	step(vm, BIT64(32) - 2);
	assert_int_equal(vm->raised[16], 1);
	step(vm, 1);
	assert_int_equal(vm->raised[16], 2);
	step(vm, BIT64(32) - 1);
	assert_int_equal(vm->raised[16], 2);
	step(vm, 1);
	assert_int_equal(vm->raised[16], 3);
	/* disabled, the counter halted: nothing */
	set(vm, COMPARATOR(0), 4, get(vm, COUNTER, 4) + 5000);
	set(vm, TIMER(0), 4, ROUTE(16) | BITS32);
	step(vm, 10000);
	assert_int_equal(vm->raised[16], 3);
	set(vm, TIMER(0), 4, INTERRUPT | ROUTE(16) | BITS32);
	step(vm, 10000);
	assert_int_equal(vm->raised[16], 3); /* it was before it was enabled */
	set(vm, COMPARATOR(0), 4, get(vm, COUNTER, 4) + 5000);
	set(vm, CONFIG, 4, 0);
	assert_true(timers_vm_idle(vm));
	step(vm, 10000);
	set(vm, CONFIG, 4, ENABLE);
	step(vm, 4999);
	assert_int_equal(vm->raised[16], 3);
	step(vm, 1);
	assert_int_equal(vm->raised[16], 4);
}

/* As Linux sets it: comparator with SET_VALUE, then the period. */
static void test_periodic(void **state)
{
	struct fake_vm *vm = *state;
	uint64_t next;

	set(vm, CONFIG, 4, ENABLE | LEGACY);
	step(vm, 12345);
	set(vm, CONFIG, 4, LEGACY);
	set(vm, TIMER(0), 4, INTERRUPT | PERIODIC | SET_VALUE | BITS32);
	set(vm, COMPARATOR(0), 4, 12345 + 40000);
	set(vm, COMPARATOR(0), 4, 40000);
	set(vm, CONFIG, 4, ENABLE | LEGACY);
	assert_int_equal(get(vm, COMPARATOR(0), 8), 12345 + 40000);
	step(vm, 39999);
	assert_int_equal(vm->raised[0], 0);
	step(vm, 1);
	assert_int_equal(vm->raised[0], 1);
	assert_int_equal(get(vm, COMPARATOR(0), 8), 12345 + 80000);
	step(vm, UINT64_C(40000) * 250);
	assert_int_equal(vm->raised[0], 251);
	assert_int_equal(get(vm, COMPARATOR(0), 8), 12345 + 40000 * 252);
	/* over the end of 32 bits */
	step(vm, UINT64_C(40000) * 60000);
	step(vm, UINT64_C(40000) * 50000);
	assert_int_equal(vm->raised[0], 110251);
	assert_int_equal(get(vm, COMPARATOR(0), 8), (uint32_t)(12345 + UINT64_C(40000) * 110252));
	/* another period from the next match on; then no interrupts, but the comparator goes on */
	set(vm, COMPARATOR(0), 4, 10000);
	vm->raised[0] = 0;
	step(vm, 40000);
	assert_int_equal(vm->raised[0], 1);
	step(vm, 30000);
	assert_int_equal(vm->raised[0], 4);
	next = get(vm, COMPARATOR(0), 4);
	set(vm, TIMER(0), 4, PERIODIC | BITS32);
	step(vm, 10000 * 77 + 5000);
	assert_int_equal(get(vm, COMPARATOR(0), 4), (uint32_t)(next + 10000 * 77));
	set(vm, TIMER(0), 4, INTERRUPT | PERIODIC | BITS32);
	assert_int_equal(vm->raised[0], 4);
	step(vm, 5000);
	assert_int_equal(vm->raised[0], 5);
	/* 64 bits, all timers can */
	set(vm, TIMER(2), 4, INTERRUPT | PERIODIC | SET_VALUE | ROUTE(20));
	set(vm, COMPARATOR(2), 8, get(vm, COUNTER, 8) + 1000000);
	set(vm, COMPARATOR(2), 8, 3000);
	step(vm, 1000000 + 3000 * 9);
	assert_int_equal(vm->raised[20], 10);
}

static void test_level(void **state)
{
	struct fake_vm *vm = *state;

	set(vm, CONFIG, 4, ENABLE);
	set(vm, TIMER(1), 4, INTERRUPT | LEVEL | PERIODIC | SET_VALUE | ROUTE(17));
	set(vm, COMPARATOR(1), 8, 5000);
	set(vm, COMPARATOR(1), 8, 5000);
	step(vm, 5000);
	assert_true(vm->level[17]);
	assert_int_equal(get(vm, STATUS, 8), 2);
	vm->calls = 0;
	assert_true(timers_vm_idle(vm)); /* nothing more until it is acknowledged */
	step(vm, 50000);
	assert_int_equal(vm->calls, 0);
	set(vm, STATUS, 4, 5);
	assert_true(vm->level[17]);
	set(vm, STATUS, 4, 2);
	assert_false(vm->level[17]);
	assert_int_equal(get(vm, STATUS, 8), 0);
	step(vm, 4999);
	assert_false(vm->level[17]);
	step(vm, 1);
	assert_true(vm->level[17]);
	/* the line follows the route, the enable bit and the trigger mode */
	set(vm, TIMER(1), 4, INTERRUPT | LEVEL | PERIODIC | ROUTE(18));
	assert_false(vm->level[17]);
	assert_true(vm->level[18]);
	set(vm, TIMER(1), 4, LEVEL | PERIODIC | ROUTE(18));
	assert_false(vm->level[18]);
	assert_int_equal(get(vm, STATUS, 8), 2);
	set(vm, TIMER(1), 4, INTERRUPT | LEVEL | PERIODIC | ROUTE(18));
	assert_true(vm->level[18]);
	set(vm, CONFIG, 4, 0); /* halting does not take it back */
	assert_true(vm->level[18]);
	set(vm, TIMER(1), 4, INTERRUPT | PERIODIC | ROUTE(18));
	assert_false(vm->level[18]);
	assert_int_equal(get(vm, STATUS, 8), 0);
	/* without the enable bit there is a status all the same */
	set(vm, TIMER(1), 4, LEVEL | ROUTE(18));
	set(vm, COMPARATOR(1), 8, get(vm, COUNTER, 8) + 100);
	set(vm, CONFIG, 4, ENABLE);
	step(vm, 3000);
	assert_int_equal(get(vm, STATUS, 8), 2);
	assert_false(vm->level[18]);
}

/* A line that PCI has too is up while either of them wants it. */
static void test_shared_line(void **state)
{
	struct fake_vm *vm = *state;

	platform_irq(&vm->ctx, 19, PLATFORM_IRQ_PCI, true);
	set(vm, TIMER(0), 4, INTERRUPT | LEVEL | ROUTE(19));
	set(vm, COMPARATOR(0), 8, 2000);
	set(vm, CONFIG, 4, ENABLE);
	step(vm, 2000);
	platform_irq(&vm->ctx, 19, PLATFORM_IRQ_PCI, false);
	assert_true(vm->level[19]);
	set(vm, STATUS, 4, 1);
	assert_false(vm->level[19]);
	assert_int_equal(vm->raised[19], 1);
}

static void test_routes(void **state)
{
	struct fake_vm *vm = *state;

	for (unsigned int gsi = 0; gsi < 32; gsi++) {
		uint64_t before = get(vm, TIMER(0), 8) >> 9 & 31;

		set(vm, TIMER(0), 4, ROUTE(gsi));
		assert_int_equal(get(vm, TIMER(0), 8) >> 9 & 31,
				 gsi >= 16 && gsi < 24 ? gsi : before);
	}
	/* no route: no line, and no harm */
	set(vm, TIMER(1), 4, INTERRUPT | LEVEL);
	set(vm, COMPARATOR(1), 8, 1000);
	set(vm, CONFIG, 4, ENABLE);
	vm->calls = 0;
	step(vm, 5000);
	assert_int_equal(vm->calls, 0);
	assert_int_equal(get(vm, STATUS, 4), 2);
}

static void program_pit(struct fake_vm *vm)
{
	fake_vm_out(vm, 0x43, 1, 0x34);
	fake_vm_out(vm, 0x40, 1, 1193 & 0xff);
	fake_vm_out(vm, 0x40, 1, 1193 >> 8);
}

/* Legacy mode: timers 0 and 1 have the PIT's and the RTC's interrupts, those have none. */
static void test_legacy(void **state)
{
	struct fake_vm *vm = *state;

	program_pit(vm);
	step(vm, 100000);
	assert_in_range(vm->raised[0], 9, 11);
	fake_vm_out(vm, 0x70, 1, 0x0a);
	fake_vm_out(vm, 0x71, 1, 0x26);
	fake_vm_out(vm, 0x70, 1, 0x0b);
	fake_vm_out(vm, 0x71, 1, 0x42); /* periodic, 1024 Hz */
	step(vm, 20000);
	assert_true(vm->level[8]);
	/* only with both bits */
	set(vm, CONFIG, 4, LEGACY);
	assert_true(vm->level[8]);
	set_timer(vm, 0, 16, 0, 50000);
	set_timer(vm, 1, 17, LEVEL, 60000);
	set(vm, CONFIG, 4, LEGACY | ENABLE);
	assert_false(vm->level[0]);
	assert_false(vm->level[8]);
	vm->raised[0] = vm->raised[8] = 0;
	step(vm, 49999);
	assert_int_equal(vm->raised[0], 0);
	assert_int_equal(vm->raised[8], 0);
	step(vm, 1);
	assert_int_equal(vm->raised[0], 1);
	step(vm, 10000);
	assert_int_equal(vm->raised[0], 1);
	assert_true(vm->level[8]);
	set(vm, STATUS, 4, 2);
	assert_false(vm->level[8]);
	assert_int_equal(vm->raised[16] + vm->raised[17], 0);
	/* and back; the RTC has waited with its flag set */
	set(vm, CONFIG, 4, ENABLE);
	assert_true(vm->level[8]);
	vm->raised[0] = 0;
	step(vm, 100000);
	assert_in_range(vm->raised[0], 9, 11);
}

static void test_flood(void **state)
{
	struct fake_vm *vm = *state;
	static const uint64_t values[] = {
		0,	   1,	      2,	  999,	      BIT64(31),
		BIT64(32), BIT64(63), UINT32_MAX, UINT64_MAX, UINT64_MAX - 1
	};

	set(vm, CONFIG, 4, ENABLE);
	for (unsigned int config = 0; config < 16; config++) {
		for (unsigned int i = 0; i < ARRAY_SIZE(values); i++) {
			uint64_t flags = (config & 1 ? PERIODIC | SET_VALUE : 0) |
					 (config & 2 ? BITS32 : 0) | (config & 4 ? LEVEL : 0) |
					 (config & 8 ? INTERRUPT : 0);

			for (unsigned int n = 0; n < 3; n++) {
				set(vm, TIMER(n), 4, flags | ROUTE(20 + n));
				set(vm, COMPARATOR(n), 8, get(vm, COUNTER, 8) + i);
				set(vm, COMPARATOR(n), 8, values[i]);
			}
			vm->calls = 0;
			timers_vm_step(vm, 10 * MS);
			assert_in_range(vm->calls, 0, 3 * 2 * 101);
			if (flags == (INTERRUPT | PERIODIC | SET_VALUE) && i && i < 4)
				assert_in_range(vm->calls, 3 * 2 * 99, 3 * 2 * 101);
			set(vm, STATUS, 8, UINT64_MAX);
		}
	}
	/* the comparator at the counter, again and again */
	set(vm, TIMER(0), 4, INTERRUPT | ROUTE(16));
	vm->raised[16] = 0;
	for (unsigned int i = 0; i < 10000; i++) {
		set(vm, COMPARATOR(0), 8, get(vm, COUNTER, 8));
		timers_vm_step(vm, 1000);
	}
	assert_in_range(vm->raised[16], 90, 101);
	assert_int_equal(vm->log.count, 0);
}

/* Any access, at any time. */
static void test_random(void **state)
{
	static const uint16_t registers[] = { CONFIG,	STATUS,	       COUNTER,	      TIMER(0),
					      TIMER(1), COMPARATOR(0), COMPARATOR(1), TIMER(2) };
	struct fake_vm *vm = *state;
	uint64_t seed = 99;

	for (unsigned int i = 0; i < 200000; i++) {
		unsigned int reg, size;

		seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
		size = 1U << (seed >> 62);
		reg = registers[seed >> 59 & 7] + (seed >> 50 & 7);
		if (seed & BIT64(49))
			set(vm, reg, size, seed >> (seed >> 40 & 31));
		else
			(void)get(vm, reg, size);
		if (!(seed >> 36 & 15))
			timers_vm_step(vm, seed >> 20 & 0xfffff);
		if (!(seed >> 32 & 0xfff))
			set(vm, COMPARATOR(0), 8, get(vm, COUNTER, 8) + 100);
	}
	platform_reset(&vm->ctx);
	assert_true(timers_vm_idle(vm));
	for (unsigned int gsi = 0; gsi < FAKE_VM_LINES; gsi++)
		assert_false(vm->level[gsi]);
}

/* On real time, without a look for a while: made up for. */
static void test_late(void **state)
{
	struct fake_vm *vm = fake_vm_create(false);
	uint64_t start;

	io_space_init(&vm->ctx.mmio);
	vm->ctx.needs_timers = true;
	assert_int_equal(platform_create(&vm->ctx), 0);
	set(vm, TIMER(0), 4, INTERRUPT | PERIODIC | SET_VALUE | ROUTE(16));
	set(vm, COMPARATOR(0), 8, 100000);
	set(vm, CONFIG, 4, ENABLE);
	start = fake_vm_now_ms();
	while (fake_vm_now_ms() < start + 300)
		;
	fake_vm_run(vm, 500);
	assert_in_range(vm->raised[16], 70, (fake_vm_now_ms() - start) / 10 + 1);
	platform_destroy(&vm->ctx);
	io_space_deinit(&vm->ctx.mmio);
	fake_vm_destroy(vm);
}

static void test_reset(void **state)
{
	struct fake_vm *vm = *state;

	program_pit(vm);
	set_timer(vm, 0, 16, LEVEL, 1000);
	set_timer(vm, 1, 16, PERIODIC | LEVEL | SET_VALUE, 1000);
	set_timer(vm, 2, 16, BITS32, 100000);
	set(vm, CONFIG, 4, ENABLE | LEGACY);
	step(vm, 5000);
	assert_true(vm->level[0]);
	assert_true(vm->level[8]);
	platform_reset(&vm->ctx);
	assert_false(vm->level[0]);
	assert_false(vm->level[8]);
	assert_true(timers_vm_idle(vm));
	test_capabilities(state);
	assert_int_equal(get(vm, COUNTER, 8), 0);
	assert_int_equal(get(vm, STATUS, 8), 0);
	program_pit(vm); /* connected again */
	vm->raised[0] = 0;
	step(vm, 100000);
	assert_in_range(vm->raised[0], 9, 11);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		timers_test(test_capabilities), timers_test(test_counter),
		timers_test(test_one_shot),	timers_test(test_periodic),
		timers_test(test_level),	timers_test(test_shared_line),
		timers_test(test_routes),	timers_test(test_legacy),
		timers_test(test_flood),	timers_test(test_random),
		cmocka_unit_test(test_late),	timers_test(test_reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
