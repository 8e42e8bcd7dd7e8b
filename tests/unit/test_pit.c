/* SPDX-License-Identifier: BSD-3-Clause */
/* The PIT as a guest sees it, on a virtual clock: the six modes, reading, gates, interrupts, floods. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "timers_vm.h"

#define HZ UINT64_C(1193182)
#define CONTROL 0x43
#define NMI_STATUS 0x61
#define OUTPUT 0x20
#define STATUS_OUTPUT 0x80
#define STATUS_NULL 0x40
#define BOTH 0x30

/* The first nanosecond at which @clocks CLK pulses have passed. */
static uint64_t at(uint64_t clocks)
{
	return (clocks * SECOND + HZ - 1) / HZ;
}

/* Go on until @clocks pulses have passed since the clock's start. */
static void until(struct fake_vm *vm, uint64_t clocks)
{
	timers_vm_until(vm, at(clocks));
}

/* Channel @channel in @mode, low and high byte, begins to count @count at pulse 1 of time 0. */
static void program(struct fake_vm *vm, unsigned int channel, unsigned int mode, uint16_t count)
{
	fake_vm_out(vm, CONTROL, 1, channel << 6 | BOTH | mode << 1);
	fake_vm_out(vm, (uint16_t)(0x40 + channel), 1, count & 0xff);
	fake_vm_out(vm, (uint16_t)(0x40 + channel), 1, count >> 8);
}

static uint16_t count_of(struct fake_vm *vm, unsigned int channel)
{
	uint16_t low;

	fake_vm_out(vm, CONTROL, 1, channel << 6);
	low = (uint16_t)fake_vm_in(vm, (uint16_t)(0x40 + channel), 1);
	return (uint16_t)(low | fake_vm_in(vm, (uint16_t)(0x40 + channel), 1) << 8);
}

static uint8_t status_of(struct fake_vm *vm, unsigned int channel)
{
	fake_vm_out(vm, CONTROL, 1, 0xe0 | 2 << channel);
	return (uint8_t)fake_vm_in(vm, (uint16_t)(0x40 + channel), 1);
}

static bool output_of(struct fake_vm *vm, unsigned int channel)
{
	return status_of(vm, channel) & STATUS_OUTPUT;
}

static bool speaker(struct fake_vm *vm)
{
	return fake_vm_in(vm, NMI_STATUS, 1) & OUTPUT;
}

/* Follow channel @channel's output from pulse 1 of its count on: each string digit is one pulse. */
static void assert_output(struct fake_vm *vm, unsigned int channel, uint64_t start,
			  const char *levels)
{
	for (unsigned int i = 0; levels[i]; i++) {
		until(vm, start + 1 + i);
		if (output_of(vm, channel) != (levels[i] == '1'))
			print_error("pulse %u of %s\n", i, levels);
		assert_int_equal(output_of(vm, channel), levels[i] == '1');
	}
}

/* The wave forms of the data sheet, counts of 4 and 5. */
static void test_modes(void **state)
{
	static const struct {
		unsigned int mode;
		uint16_t count;
		const char *levels;
	} rows[] = {
		{ 0, 4, "000011111111" }, { 2, 4, "111011101110" }, { 2, 3, "110110110110" },
		{ 2, 2, "101010101010" }, { 3, 4, "110011001100" }, { 3, 5, "111001110011" },
		{ 3, 2, "101010101010" }, { 3, 3, "110110110110" }, { 4, 4, "111101111111" },
		{ 6, 4, "111011101110" }, { 7, 4, "110011001100" }, { 2, 1, "111111111111" },
		{ 3, 1, "111111111111" }, { 0, 1, "011111111111" }, { 4, 1, "101111111111" },
	};
	struct fake_vm *vm = *state;

	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		until(vm, (i + 1) * 100);
		program(vm, 1, rows[i].mode, rows[i].count);
		assert_output(vm, 1, (i + 1) * 100, rows[i].levels);
	}
}

/* A control word alone: mode 0 goes low, the others high, and nothing counts. */
static void test_control_word_stops(void **state)
{
	struct fake_vm *vm = *state;

	for (unsigned int mode = 0; mode < 8; mode++) {
		uint16_t count;

		program(vm, 1, 2, 1000);
		timers_vm_step(vm, MS / 4);
		count = count_of(vm, 1);
		assert_in_range(count, 690, 720);
		fake_vm_out(vm, CONTROL, 1, 1 << 6 | BOTH | mode << 1);
		assert_int_equal(status_of(vm, 1),
				 (mode ? STATUS_OUTPUT : 0) | STATUS_NULL | BOTH | mode << 1);
		timers_vm_step(vm, 100 * MS);
		assert_int_equal(count_of(vm, 1), count);
	}
}

static void test_counts(void **state)
{
	struct fake_vm *vm = *state;

	/* mode 0 counts on behind zero; 0 is 65536 */
	program(vm, 1, 0, 0);
	until(vm, 1 + 3);
	assert_int_equal(count_of(vm, 1), 0xfffd);
	until(vm, 1 + 65535);
	assert_int_equal(count_of(vm, 1), 1);
	assert_false(output_of(vm, 1));
	until(vm, 1 + 65536);
	assert_int_equal(count_of(vm, 1), 0);
	assert_true(output_of(vm, 1));
	until(vm, 1 + 65536 * 1000 + 1);
	assert_int_equal(count_of(vm, 1), 0xffff);
	/* mode 2 never shows 0 */
	until(vm, 100000000);
	program(vm, 1, 2, 10);
	for (unsigned int i = 0; i < 30; i++) {
		until(vm, 100000001 + i);
		assert_int_equal(count_of(vm, 1), 10 - i % 10);
	}
	/* mode 3 counts by two in both halves, an odd count as if it were one less */
	until(vm, 100001000);
	program(vm, 1, 3, 10);
	for (unsigned int i = 0; i < 30; i++) {
		until(vm, 100001001 + i);
		assert_int_equal(count_of(vm, 1), 10 - i % 5 * 2);
	}
	until(vm, 100002000);
	program(vm, 1, 3, 9);
	for (unsigned int i = 0; i < 27; i++) {
		unsigned int phase = i % 9;

		until(vm, 100002001 + i);
		assert_int_equal(count_of(vm, 1), 8 - (phase < 5 ? phase : phase - 5) * 2);
	}
}

static void test_bcd(void **state)
{
	struct fake_vm *vm = *state;

	fake_vm_out(vm, CONTROL, 1, 1 << 6 | BOTH | 0 << 1 | 1);
	fake_vm_out(vm, 0x41, 1, 0x05);
	fake_vm_out(vm, 0x41, 1, 0x10); /* 1005 */
	until(vm, 1 + 6);
	assert_int_equal(count_of(vm, 1), 0x0999);
	assert_int_equal(status_of(vm, 1) & 0x3f, BOTH | 1);
	until(vm, 1 + 1004);
	assert_int_equal(count_of(vm, 1), 0x0001);
	assert_false(output_of(vm, 1));
	until(vm, 1 + 1006);
	assert_int_equal(count_of(vm, 1), 0x9999);
	assert_true(output_of(vm, 1));
	/* 0 is 10000 */
	until(vm, 2000);
	fake_vm_out(vm, CONTROL, 1, 1 << 6 | BOTH | 2 << 1 | 1);
	fake_vm_out(vm, 0x41, 2, 0);
	fake_vm_out(vm, 0x41, 1, 0);
	until(vm, 2001 + 9999);
	assert_int_equal(count_of(vm, 1), 0x0001);
	assert_false(output_of(vm, 1));
	until(vm, 2001 + 10000);
	assert_int_equal(count_of(vm, 1), 0x0000);
	assert_true(output_of(vm, 1));
	/* digits that are none do no harm */
	for (unsigned int mode = 0; mode < 6; mode++) {
		fake_vm_out(vm, CONTROL, 1, 1 << 6 | BOTH | mode << 1 | 1);
		fake_vm_out(vm, 0x41, 1, 0xff);
		fake_vm_out(vm, 0x41, 1, 0xff);
		for (unsigned int i = 0; i < 10; i++) {
			uint16_t count = count_of(vm, 1);

			for (unsigned int digit = 0; digit < 4 && mode != 1 && mode != 5; digit++)
				assert_in_range(count >> 4 * digit & 15, 0, 9);
			timers_vm_step(vm, MS);
		}
	}
}

static void test_access_modes(void **state)
{
	struct fake_vm *vm = *state;

	/* low byte only: the other one is 0 */
	fake_vm_out(vm, CONTROL, 1, 1 << 6 | 0x10 | 2 << 1);
	fake_vm_out(vm, 0x41, 1, 0x80);
	until(vm, 1 + 2);
	assert_int_equal(fake_vm_in(vm, 0x41, 1), 0x7e);
	assert_int_equal(fake_vm_in(vm, 0x41, 1), 0x7e);
	/* high byte only */
	until(vm, 1000);
	fake_vm_out(vm, CONTROL, 1, 1 << 6 | 0x20 | 2 << 1);
	fake_vm_out(vm, 0x41, 1, 0x02);
	until(vm, 1001 + 1);
	assert_int_equal(fake_vm_in(vm, 0x41, 1), 0x01);
	assert_int_equal(count_of(vm, 1), 0x0101); /* both reads are the high byte */
	/* both, unlatched: bytes of a count that goes on */
	until(vm, 2000);
	program(vm, 1, 2, 0x300);
	until(vm, 2001 + 1);
	assert_int_equal(fake_vm_in(vm, 0x41, 1), 0xff);
	until(vm, 2001 + 0x101);
	assert_int_equal(fake_vm_in(vm, 0x41, 1), 0x01);
	assert_int_equal(fake_vm_in(vm, 0x41, 1), 0xff);
	/* mode 0: the first of two bytes stops it and the output is low; mode 4 counts on */
	program(vm, 1, 0, 5);
	timers_vm_step(vm, MS);
	assert_true(output_of(vm, 1));
	fake_vm_out(vm, 0x41, 1, 5);
	assert_false(output_of(vm, 1));
	timers_vm_step(vm, MS);
	assert_false(output_of(vm, 1));
	fake_vm_out(vm, 0x41, 1, 0);
	timers_vm_step(vm, MS);
	assert_true(output_of(vm, 1));
	until(vm, 10000);
	program(vm, 1, 4, 50);
	until(vm, 10001 + 20);
	fake_vm_out(vm, 0x41, 1, 99);
	assert_output(vm, 1, 10000 + 49, "101");
	/* a control word forgets the first byte */
	program(vm, 1, 2, 0x100);
	timers_vm_step(vm, MS);
	assert_in_range(count_of(vm, 1), 1, 0x100);
	/* an access of two bytes is two */
	until(vm, 20000);
	fake_vm_out(vm, 0x42, 2, (2 << 6 | 0x10 | 4) << 8 | 7);
	fake_vm_out(vm, 0x42, 1, 7);
	assert_int_equal(status_of(vm, 2) & 0x3f, 0x10 | 4);
	assert_int_equal(fake_vm_in(vm, CONTROL, 1), 0xff);
}

static void test_latches(void **state)
{
	struct fake_vm *vm = *state;
	uint16_t port = 0x41;

	program(vm, 1, 2, 10000);
	until(vm, 1 + 100);
	fake_vm_out(vm, CONTROL, 1, 1 << 6);
	until(vm, 1 + 400);
	fake_vm_out(vm, CONTROL, 1, 1 << 6); /* not read yet: ignored */
	assert_int_equal(fake_vm_in(vm, port, 1), 9900 & 0xff);
	until(vm, 1 + 500);
	assert_int_equal(fake_vm_in(vm, port, 1), 9900 >> 8);
	assert_int_equal(fake_vm_in(vm, port, 1), 9500 & 0xff); /* live again */
	assert_int_equal(fake_vm_in(vm, port, 1), 9500 >> 8);
	/* read-back: status first, then the count */
	fake_vm_out(vm, CONTROL, 1, 0xc0 | 2 << 1);
	until(vm, 1 + 600);
	assert_int_equal(fake_vm_in(vm, port, 1), STATUS_OUTPUT | BOTH | 2 << 1);
	assert_int_equal(fake_vm_in(vm, port, 1), 9500 & 0xff);
	assert_int_equal(fake_vm_in(vm, port, 1), 9500 >> 8);
	/* of several counters at once; those not named are not latched */
	program(vm, 0, 2, 1000);
	program(vm, 2, 3, 3000);
	fake_vm_out(vm, CONTROL, 1, 0xe0 | 0x0a);
	assert_int_equal(fake_vm_in(vm, 0x40, 1) & 0x3f, BOTH | 2 << 1);
	assert_int_equal(fake_vm_in(vm, 0x42, 1) & 0x3f, BOTH | 3 << 1);
	assert_int_equal(fake_vm_in(vm, port, 1), 9400 & 0xff);
	assert_int_equal(fake_vm_in(vm, port, 1), 9400 >> 8);
	/* a control word drops what is latched */
	fake_vm_out(vm, CONTROL, 1, 0xc0 | 2 << 1);
	program(vm, 1, 2, 77);
	timers_vm_step(vm, 1000);
	assert_in_range(fake_vm_in(vm, port, 1), 75, 77);
	assert_int_equal(fake_vm_in(vm, port, 1), 0);
}

/* Modes 2 and 3: a new count waits for the end of the period, or of half of it. */
static void test_new_count(void **state)
{
	struct fake_vm *vm = *state;

	program(vm, 1, 2, 10);
	until(vm, 1 + 13);
	fake_vm_out(vm, 0x41, 1, 4);
	fake_vm_out(vm, 0x41, 1, 0);
	assert_true(status_of(vm, 1) & STATUS_NULL);
	assert_int_equal(count_of(vm, 1), 7);
	assert_output(vm, 1, 13, "11111101110111");
	assert_false(status_of(vm, 1) & STATUS_NULL);
	/* from 6 to 4 in the high half, then to 8 in the low one */
	until(vm, 1000);
	program(vm, 1, 3, 6);
	until(vm, 1001 + 1);
	fake_vm_out(vm, 0x41, 1, 4);
	fake_vm_out(vm, 0x41, 1, 0);
	assert_output(vm, 1, 1001, "110011");
	until(vm, 1001 + 7);
	fake_vm_out(vm, 0x41, 1, 8);
	fake_vm_out(vm, 0x41, 1, 0);
	assert_output(vm, 1, 1007, "00111100001111");
	/* mode 0 and 4 take it at once */
	until(vm, 2000);
	program(vm, 1, 4, 1000);
	until(vm, 2100);
	fake_vm_out(vm, 0x41, 1, 3);
	fake_vm_out(vm, 0x41, 1, 0);
	assert_output(vm, 1, 2100, "111011");
	/* the last of several counts */
	until(vm, 3000);
	program(vm, 1, 2, 10);
	until(vm, 3001 + 5);
	for (uint8_t count = 60; count >= 3; count--) {
		fake_vm_out(vm, 0x41, 1, count);
		fake_vm_out(vm, 0x41, 1, 0);
	}
	assert_output(vm, 1, 3005, "11110110110");
}

/* Channel 2's gate is in port 0x61, its output too. */
static void test_gate(void **state)
{
	struct fake_vm *vm = *state;

	assert_int_equal(fake_vm_in(vm, NMI_STATUS, 1) & 0x0f, 0);
	/* as Linux calibrates: gate up, speaker off, mode 0 */
	fake_vm_out(vm, NMI_STATUS, 1, 0x01);
	program(vm, 2, 0, 59659); /* 50 ms */
	assert_false(speaker(vm));
	until(vm, 59659);
	assert_false(speaker(vm));
	until(vm, 59660);
	assert_true(speaker(vm));
	assert_int_equal(fake_vm_in(vm, NMI_STATUS, 1) & 0x0f, 0x01);

	/* mode 0 stands still while it is low, and goes on */
	until(vm, 100000);
	program(vm, 2, 0, 100);
	until(vm, 100001 + 40);
	fake_vm_out(vm, NMI_STATUS, 1, 0);
	until(vm, 110000);
	assert_int_equal(count_of(vm, 2), 60);
	fake_vm_out(vm, NMI_STATUS, 1, 1);
	until(vm, 110000 + 59);
	assert_false(speaker(vm));
	until(vm, 110000 + 60);
	assert_true(speaker(vm));

	/* modes 2 and 3: output high while it is low, from the start afterwards */
	for (unsigned int mode = 2; mode <= 3; mode++) {
		uint64_t start = 100000 + mode * 50000;

		until(vm, start);
		program(vm, 2, mode, 100);
		until(vm, start + 1 + 99);
		assert_false(speaker(vm));
		fake_vm_out(vm, NMI_STATUS, 1, 0);
		assert_true(speaker(vm));
		until(vm, start + 1000);
		assert_true(speaker(vm));
		assert_int_equal(count_of(vm, 2), mode == 2 ? 1 : 2);
		fake_vm_out(vm, NMI_STATUS, 1, 1);
		until(vm, start + 1001);
		assert_int_equal(count_of(vm, 2), 100);
		until(vm, start + 1001 + 99);
		assert_false(speaker(vm));
	}
}

static void trigger(struct fake_vm *vm)
{
	fake_vm_out(vm, NMI_STATUS, 1, 0);
	fake_vm_out(vm, NMI_STATUS, 1, 1);
}

/* Modes 1 and 5 wait for the gate to rise, and begin anew each time it does. */
static void test_triggered_modes(void **state)
{
	struct fake_vm *vm = *state;

	program(vm, 2, 1, 3);
	until(vm, 100);
	assert_true(speaker(vm));
	assert_true(status_of(vm, 2) & STATUS_NULL);
	trigger(vm);
	assert_output(vm, 2, 100, "0001111");
	assert_false(status_of(vm, 2) & STATUS_NULL);
	until(vm, 200);
	trigger(vm);
	until(vm, 202);
	fake_vm_out(vm, NMI_STATUS, 1, 0); /* no matter */
	fake_vm_out(vm, NMI_STATUS, 1, 1);
	assert_output(vm, 2, 202, "0001111");

	until(vm, 300);
	program(vm, 2, 5, 3);
	assert_output(vm, 2, 300, "1111111");
	until(vm, 400);
	trigger(vm);
	assert_output(vm, 2, 400, "1110111");
	until(vm, 500);
	trigger(vm);
	fake_vm_out(vm, NMI_STATUS, 1, 0);
	assert_output(vm, 2, 500, "1110111");
}

/* The refresh bit toggles every 15 us, whatever else there is. */
static void test_refresh(void **state)
{
	struct fake_vm *vm = *state;
	unsigned int toggles = 0;
	uint64_t last = fake_vm_in(vm, NMI_STATUS, 1) & 0x10;

	for (unsigned int us = 0; us < 10000; us++) {
		uint64_t now;

		timers_vm_step(vm, 1000);
		now = fake_vm_in(vm, NMI_STATUS, 1) & 0x10;
		toggles += now != last;
		last = now;
	}
	assert_in_range(toggles, 661, 664);
}

/* ---- Interrupts */

/* 1000 ticks of 1 ms, then a million clocks' worth: not one too many or too few. */
static void test_periodic_interrupt(void **state)
{
	struct fake_vm *vm = *state;

	assert_true(timers_vm_idle(vm));
	assert_int_equal(vm->calls, 0);
	for (unsigned int mode = 2; mode <= 3; mode++) {
		uint64_t start = mode * 2 * HZ;

		until(vm, start);
		program(vm, 0, mode, 1193);
		vm->raised[0] = 0;
		until(vm, start + 1193);
		assert_int_equal(vm->raised[0], 0);
		until(vm, start + 1 + 1193);
		assert_int_equal(vm->raised[0], 1);
		assert_true(vm->level[0]);
		until(vm, start + 1 + 1193 * 1000);
		assert_int_equal(vm->raised[0], 1000);
		timers_vm_step(vm, MS / 10);
		assert_int_equal(vm->raised[0], 1000);
	}
	/* the counter is where the interrupts say it is */
	assert_in_range(count_of(vm, 0), 1190 - 2 * 120 - 2, 1192);
	/* the longest period */
	until(vm, 20 * HZ);
	program(vm, 0, 2, 0);
	vm->raised[0] = 0;
	until(vm, 20 * HZ + 1 + 65536 * UINT64_C(1000));
	assert_int_equal(vm->raised[0], 1000);
}

/* As Linux uses it for single events: mode 4, a new count each time; stopped by mode 0. */
static void test_one_shot_interrupt(void **state)
{
	struct fake_vm *vm = *state;

	fake_vm_out(vm, CONTROL, 1, BOTH | 4 << 1);
	assert_true(timers_vm_idle(vm));
	vm->raised[0] = 0;
	for (unsigned int i = 0; i < 5; i++) {
		uint64_t start = 10000 + i * 10000;

		until(vm, start);
		fake_vm_out(vm, 0x40, 1, 0x88);
		fake_vm_out(vm, 0x40, 1, 0x13);
		until(vm, start + 1 + 0x1388);
		assert_int_equal(vm->raised[0], i);
		until(vm, start + 1 + 0x1388 + 1);
		assert_int_equal(vm->raised[0], i + 1);
		assert_true(timers_vm_idle(vm));
	}
	/* a new count before the old one is through */
	fake_vm_out(vm, 0x40, 1, 0x88);
	fake_vm_out(vm, 0x40, 1, 0x13);
	timers_vm_step(vm, MS);
	fake_vm_out(vm, 0x40, 1, 0x88);
	fake_vm_out(vm, 0x40, 1, 0x13);
	timers_vm_step(vm, 4 * MS);
	assert_int_equal(vm->raised[0], 5);
	timers_vm_step(vm, MS);
	assert_int_equal(vm->raised[0], 6);
	/* mode 0: low until terminal count, then high for good */
	program(vm, 0, 0, 1193);
	assert_false(vm->level[0]);
	timers_vm_step(vm, 2 * MS);
	assert_true(vm->level[0]);
	assert_int_equal(vm->raised[0], 7);
	timers_vm_step(vm, 100 * MS);
	assert_int_equal(vm->raised[0], 7);
	/* a control word alone disarms */
	program(vm, 0, 2, 1193);
	fake_vm_out(vm, CONTROL, 1, BOTH);
	assert_true(timers_vm_idle(vm));
	assert_false(vm->level[0]);
}

/* A count written in the middle of a period: the interrupts follow the output. */
static void test_interrupt_follows_new_count(void **state)
{
	struct fake_vm *vm = *state;

	program(vm, 0, 2, 10000);
	until(vm, 1 + 5000);
	fake_vm_out(vm, 0x40, 1, 3000 & 0xff);
	fake_vm_out(vm, 0x40, 1, 3000 >> 8);
	vm->raised[0] = 0;
	until(vm, 10000);
	assert_int_equal(vm->raised[0], 0);
	until(vm, 10001);
	assert_int_equal(vm->raised[0], 1);
	until(vm, 10001 + 2999);
	assert_int_equal(vm->raised[0], 1);
	until(vm, 10001 + 3000);
	assert_int_equal(vm->raised[0], 2);
	/* mode 3: falls at 5000, is low for 1500, then has the new period */
	until(vm, 100000);
	program(vm, 0, 3, 10000);
	until(vm, 100001 + 1000);
	fake_vm_out(vm, 0x40, 1, 3000 & 0xff);
	fake_vm_out(vm, 0x40, 1, 3000 >> 8);
	vm->raised[0] = 0;
	until(vm, 100001 + 6499);
	assert_int_equal(vm->raised[0], 0);
	until(vm, 100001 + 6500);
	assert_int_equal(vm->raised[0], 1);
	until(vm, 100001 + 6500 + 30000);
	assert_int_equal(vm->raised[0], 11);
}

/* Ticks at most every 100 us, whatever the guest asks for. */
static void test_flood(void **state)
{
	struct fake_vm *vm = *state;

	for (unsigned int mode = 0; mode < 8; mode++) {
		for (uint16_t count = 0; count < 120; count++) {
			program(vm, 0, mode, count);
			vm->calls = 0;
			timers_vm_step(vm, 10 * MS);
			assert_in_range(vm->calls, 0, 2 * 101);
			if ((mode & 2) && count > 1)
				assert_in_range(vm->calls, 2 * 97, 2 * 101);
		}
	}
	/* one shot after the other */
	fake_vm_out(vm, CONTROL, 1, 0x10 | 4 << 1);
	vm->raised[0] = 0;
	for (unsigned int i = 0; i < 10000; i++) {
		fake_vm_out(vm, 0x40, 1, 1);
		timers_vm_step(vm, 5000);
	}
	assert_in_range(vm->raised[0], 0, 501);
	assert_int_equal(vm->log.count, 0);
}

/* On real time, without a look for a while: made up for at twice the rate, a second's worth at most. */
static void test_late_ticks(void **state)
{
	struct fake_vm *vm = fake_vm_create(false);
	uint64_t start, end;

	io_space_init(&vm->ctx.mmio);
	vm->ctx.needs_timers = true;
	assert_int_equal(platform_create(&vm->ctx), 0);
	program(vm, 0, 2, 11932); /* 10 ms */
	start = fake_vm_now_ms();
	while (fake_vm_now_ms() < start + 300)
		;
	fake_vm_run(vm, 500);
	end = fake_vm_now_ms();
	assert_in_range(vm->raised[0], 70, (end - start) / 10 + 1);
	/* nothing is owed after the guest programs it again */
	start = fake_vm_now_ms();
	while (fake_vm_now_ms() < start + 300)
		;
	program(vm, 0, 2, 11932);
	vm->raised[0] = 0;
	start = fake_vm_now_ms();
	fake_vm_run(vm, 100);
	assert_in_range(vm->raised[0], 0, (fake_vm_now_ms() - start) / 10 + 1);
	platform_destroy(&vm->ctx);
	io_space_deinit(&vm->ctx.mmio);
	fake_vm_destroy(vm);
}

/* Any sequence of writes and reads, at any times. */
static void test_random(void **state)
{
	struct fake_vm *vm = *state;
	uint32_t seed = 12345;
	uint64_t ticks_max;

	for (unsigned int i = 0; i < 200000; i++) {
		uint16_t port;

		seed = seed * 1664525 + 1013904223;
		port = seed >> 30 == 3 ? NMI_STATUS : (uint16_t)(0x40 + (seed >> 28 & 3));
		if (seed & BIT32(27))
			fake_vm_out(vm, port, 1 << (seed >> 25 & 1), seed >> 8);
		else
			(void)fake_vm_in(vm, port, 1 << (seed >> 25 & 3));
		if (!(seed >> 16 & 15))
			timers_vm_step(vm, (seed >> 8 & 0xffff) * 10);
	}
	ticks_max = event_clock_now(vm->ctx.clock) / 100000 + 1;
	assert_in_range(vm->raised[0], 1, ticks_max + 200000); /* writes move the output too */
	platform_reset(&vm->ctx);
	assert_true(timers_vm_idle(vm));
}

static void test_reset(void **state)
{
	struct fake_vm *vm = *state;

	program(vm, 0, 2, 1193);
	program(vm, 2, 3, 100);
	fake_vm_out(vm, NMI_STATUS, 1, 0xff);
	assert_int_equal(fake_vm_in(vm, NMI_STATUS, 1) & 0xcf, 0x0f);
	timers_vm_step(vm, 10 * MS);
	assert_true(vm->level[0]);
	fake_vm_out(vm, 0x42, 1, 1);
	fake_vm_out(vm, CONTROL, 1, 0xc0 | 0x0e);
	platform_reset(&vm->ctx);
	assert_false(vm->level[0]);
	assert_true(timers_vm_idle(vm));
	assert_int_equal(fake_vm_in(vm, NMI_STATUS, 1) & 0xef, 0);
	for (unsigned int channel = 0; channel < 3; channel++) {
		assert_int_equal(fake_vm_in(vm, (uint16_t)(0x40 + channel), 1), 0);
		assert_int_equal(fake_vm_in(vm, (uint16_t)(0x40 + channel), 1), 0);
		assert_int_equal(status_of(vm, channel), STATUS_NULL | BOTH);
	}
}

/* Only where the hypervisor has none. */
static void test_not_needed(void **state)
{
	struct fake_vm *vm = fake_vm_create(false);

	assert_int_equal(platform_create(&vm->ctx), 0);
	assert_null(vm->ctx.platform->pit);
	assert_int_equal(fake_vm_in(vm, 0x40, 1), 0xff);
	assert_int_equal(fake_vm_in(vm, NMI_STATUS, 1), 0xff);
	platform_reset(&vm->ctx);
	fake_vm_destroy(vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		timers_test(test_modes),
		timers_test(test_control_word_stops),
		timers_test(test_counts),
		timers_test(test_bcd),
		timers_test(test_access_modes),
		timers_test(test_latches),
		timers_test(test_new_count),
		timers_test(test_gate),
		timers_test(test_triggered_modes),
		timers_test(test_refresh),
		timers_test(test_periodic_interrupt),
		timers_test(test_one_shot_interrupt),
		timers_test(test_interrupt_follows_new_count),
		timers_test(test_flood),
		cmocka_unit_test(test_late_ticks),
		timers_test(test_random),
		timers_test(test_reset),
		cmocka_unit_test(test_not_needed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
