/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An 8254's counter. "Data sheet" is Intel's 231164. What it holds at a time is worked out from
 * when it was loaded; only a new count that has to wait for the end of a period leaves something to
 * do later, and that is done at the next look.
 */
#include "pit_counter.h"

#define CONTROL_MASK 0x3f
#define MODE_SHIFT 1
#define ACCESS_LOW 0x10
#define ACCESS_HIGH 0x20
#define ACCESS_BOTH 0x30

#define STATUS_OUTPUT 0x80
#define STATUS_NULL_COUNT 0x40

enum { TERMINAL_COUNT, ONE_SHOT, RATE, SQUARE_WAVE, SOFTWARE_STROBE, HARDWARE_STROBE };

static unsigned int mode_of(const struct pit_counter *counter)
{
	unsigned int mode = counter->control >> MODE_SHIFT & 7;

	return mode > HARDWARE_STROBE ? mode & 3 : mode; /* X10 and X11 */
}

static bool is_periodic(const struct pit_counter *counter)
{
	return mode_of(counter) == RATE || mode_of(counter) == SQUARE_WAVE;
}

/* The gate starts it, and has no say afterwards. */
static bool is_triggered(const struct pit_counter *counter)
{
	return mode_of(counter) == ONE_SHOT || mode_of(counter) == HARDWARE_STROBE;
}

/* ---- Counts ---- */

/* How many there are: 0 stands for all of them. */
static uint32_t counts_of(const struct pit_counter *counter)
{
	return counter->control & PIT_CONTROL_BCD ? 10000 : 65536;
}

static uint32_t count_decode(const struct pit_counter *counter)
{
	uint32_t all = counts_of(counter), raw = counter->count_register, count = raw;

	if (counter->control & PIT_CONTROL_BCD)
		count = (raw >> 12) * 1000 + (raw >> 8 & 15) * 100 + (raw >> 4 & 15) * 10 +
			(raw & 15);
	count %= all;
	return count ? count : all;
}

static uint16_t count_encode(const struct pit_counter *counter, uint32_t count)
{
	count %= counts_of(counter);
	if (!(counter->control & PIT_CONTROL_BCD))
		return (uint16_t)count;
	return (uint16_t)(count / 1000 << 12 | count / 100 % 10 << 8 | count / 10 % 10 << 4 |
			  count % 10);
}

static int64_t elapsed_of(const struct pit_counter *counter, int64_t now)
{
	if (counter->counting == PIT_HELD)
		return counter->elapsed;
	return now > counter->start ? now - counter->start : 0;
}

/* Of a square wave's period the first half is the high one, and the longer one. */
static uint32_t high_half(uint32_t count)
{
	return count - count / 2;
}

static uint16_t count_now(const struct pit_counter *counter, int64_t now)
{
	uint32_t all = counts_of(counter), phase;
	int64_t elapsed;

	if (counter->counting == PIT_STOPPED)
		return counter->held;
	elapsed = elapsed_of(counter, now);
	if (!is_periodic(counter)) /* counts on behind zero, from the highest */
		return count_encode(counter, all + counter->count - (uint32_t)(elapsed % all));
	phase = (uint32_t)(elapsed % counter->count);
	if (mode_of(counter) == RATE)
		return count_encode(counter, counter->count - phase);
	if (phase >= high_half(counter->count))
		phase -= high_half(counter->count);
	return count_encode(counter, (counter->count & ~1U) - 2 * phase);
}

/* The count register's goes into use, with the next CLK pulse. */
static void counter_load(struct pit_counter *counter, int64_t now)
{
	counter->count = count_decode(counter);
	counter->unloaded = counter->pending = false;
	counter->start = now + 1;
	counter->elapsed = 0;
	counter->counting = counter->gate || is_triggered(counter) ? PIT_COUNTING : PIT_HELD;
}

/* A new count that waited for the end of a period, or of half of one, is in use from there on. */
static void counter_update(struct pit_counter *counter, int64_t now)
{
	if (!counter->pending || now < counter->boundary)
		return;
	counter->count = count_decode(counter);
	counter->unloaded = counter->pending = false;
	counter->start = counter->boundary;
	if (counter->boundary_falls)
		counter->start -= high_half(counter->count);
}

/* Data sheet, modes 2 and 3: "... does not affect the current counting sequence". */
static void counter_load_later(struct pit_counter *counter, int64_t now)
{
	int64_t elapsed = elapsed_of(counter, now);
	uint32_t phase = (uint32_t)(elapsed % counter->count);
	int64_t began = counter->start + elapsed - phase;

	counter->pending = true;
	counter->boundary_falls =
		mode_of(counter) == SQUARE_WAVE && phase < high_half(counter->count);
	counter->boundary =
		began + (counter->boundary_falls ? high_half(counter->count) : counter->count);
}

/* ---- Ports ---- */

void pit_counter_reset(struct pit_counter *counter, bool gate)
{
	*counter = (struct pit_counter) {
		.control = ACCESS_BOTH,
		.gate = gate,
		.unloaded = true,
	};
}

void pit_counter_control(struct pit_counter *counter, uint8_t value, int64_t now)
{
	counter_update(counter, now);
	counter->held = count_now(counter, now);
	counter->control = value & CONTROL_MASK;
	counter->counting = PIT_STOPPED;
	counter->unloaded = true;
	counter->pending = false;
	counter->write_high = counter->read_high = false;
	counter->count_latched = counter->status_latched = false;
}

static void count_written(struct pit_counter *counter, uint16_t value, int64_t now)
{
	counter->count_register = value;
	counter->unloaded = true;
	if (is_triggered(counter))
		return;
	/* Data sheet: a count of 1 is illegal in modes 2 and 3; it does not hold up the next one. */
	if (is_periodic(counter) && counter->counting == PIT_COUNTING && counter->count > 1)
		counter_load_later(counter, now);
	else
		counter_load(counter, now);
}

void pit_counter_write(struct pit_counter *counter, uint8_t value, int64_t now)
{
	unsigned int access = counter->control & PIT_CONTROL_ACCESS;

	counter_update(counter, now);
	if (access == ACCESS_LOW) {
		count_written(counter, value, now);
	} else if (access == ACCESS_HIGH) {
		count_written(counter, (uint16_t)(value << 8), now);
	} else if (counter->write_high) {
		counter->write_high = false;
		count_written(counter, (uint16_t)(value << 8 | counter->low), now);
	} else {
		counter->write_high = true;
		counter->low = value;
		if (mode_of(counter) ==
		    TERMINAL_COUNT) { /* data sheet: stops, OUT is low at once */
			counter->held = count_now(counter, now);
			counter->counting = PIT_STOPPED;
		}
	}
}

void pit_counter_latch_count(struct pit_counter *counter, int64_t now)
{
	if (counter->count_latched)
		return;
	counter_update(counter, now);
	counter->count_latched = true;
	counter->latched_count = count_now(counter, now);
}

void pit_counter_latch_status(struct pit_counter *counter, int64_t now)
{
	if (counter->status_latched)
		return;
	counter->status_latched = true;
	counter->latched_status = counter->control;
	if (pit_counter_output(counter, now))
		counter->latched_status |= STATUS_OUTPUT;
	if (counter->unloaded)
		counter->latched_status |= STATUS_NULL_COUNT;
}

uint8_t pit_counter_read(struct pit_counter *counter, int64_t now)
{
	unsigned int access = counter->control & PIT_CONTROL_ACCESS;
	bool high = access == ACCESS_HIGH || (access == ACCESS_BOTH && counter->read_high);
	uint16_t count;

	if (counter->status_latched) {
		counter->status_latched = false;
		return counter->latched_status;
	}
	counter_update(counter, now);
	count = counter->count_latched ? counter->latched_count : count_now(counter, now);
	if (access == ACCESS_BOTH)
		counter->read_high = !counter->read_high;
	if (high || access != ACCESS_BOTH)
		counter->count_latched = false;
	return (uint8_t)(high ? count >> 8 : count);
}

/* ---- Pins ---- */

static void gate_rose(struct pit_counter *counter, int64_t now)
{
	if (is_triggered(counter)) {
		counter_load(counter, now);
	} else if (counter->counting != PIT_HELD) {
		return;
	} else if (is_periodic(counter)) {
		counter_load(counter, now);
	} else {
		counter->counting = PIT_COUNTING;
		counter->start = now - counter->elapsed;
	}
}

static void gate_fell(struct pit_counter *counter, int64_t now)
{
	if (is_triggered(counter) || counter->counting != PIT_COUNTING)
		return;
	counter->elapsed = elapsed_of(counter, now);
	counter->counting = PIT_HELD;
	counter->pending = false; /* a count that waited is loaded when the gate rises */
}

void pit_counter_set_gate(struct pit_counter *counter, bool level, int64_t now)
{
	if (counter->gate == level)
		return;
	counter_update(counter, now);
	counter->gate = level;
	if (level)
		gate_rose(counter, now);
	else
		gate_fell(counter, now);
}

bool pit_counter_output(struct pit_counter *counter, int64_t now)
{
	unsigned int mode = mode_of(counter);
	int64_t elapsed;
	uint32_t phase;

	counter_update(counter, now);
	if (counter->counting == PIT_STOPPED)
		return mode != TERMINAL_COUNT;
	elapsed = elapsed_of(counter, now);
	if (mode == TERMINAL_COUNT || mode == ONE_SHOT)
		return elapsed >= counter->count;
	if (!is_periodic(counter))
		return elapsed != counter->count;
	if (counter->counting == PIT_HELD || counter->count == 1)
		return true;
	phase = (uint32_t)(elapsed % counter->count);
	return mode == RATE ? phase != counter->count - 1 : phase < high_half(counter->count);
}

static int64_t later_than(int64_t time, int64_t after)
{
	return time > after ? time : PIT_NEVER;
}

int64_t pit_counter_rise(struct pit_counter *counter, int64_t after, int64_t now)
{
	uint32_t next;
	int64_t end;

	counter_update(counter, now);
	if (counter->counting != PIT_COUNTING)
		return PIT_NEVER;
	end = counter->start + counter->count;
	if (counter->pending && after < counter->boundary) {
		next = count_decode(counter);
		if (!counter->boundary_falls)
			return counter->boundary;
		return next > 1 ? counter->boundary + next / 2 : PIT_NEVER;
	}
	if (mode_of(counter) == TERMINAL_COUNT || mode_of(counter) == ONE_SHOT)
		return later_than(end, after);
	if (!is_periodic(counter))
		return later_than(end + 1, after);
	if (counter->count == 1)
		return PIT_NEVER;
	return after < end ? end : end + ((after - end) / counter->count + 1) * counter->count;
}

uint32_t pit_counter_period(const struct pit_counter *counter)
{
	return is_periodic(counter) && counter->counting == PIT_COUNTING ? counter->count : 0;
}
