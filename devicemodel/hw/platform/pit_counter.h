/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pit_counter.h: one of an 8254's three counters (Intel 8254 data sheet, 231164), as a function of
 * time. Times are numbers of CLK pulses since whenever; no clock of its own, nothing counts by
 * itself.
 */
#ifndef TENON_PIT_COUNTER_H
#define TENON_PIT_COUNTER_H

#include "util.h"

#define PIT_NEVER INT64_MAX

/* Control word: also what a status byte has in its low six bits */
#define PIT_CONTROL_BCD 0x01
#define PIT_CONTROL_ACCESS 0x30

/** enum pit_counting - STOPPED: waits for a count or a trigger; HELD: by its gate */
enum pit_counting { PIT_STOPPED, PIT_COUNTING, PIT_HELD };

/**
 * struct pit_counter - all of it may have been written by a guest.
 * @control: the low six bits of the last control word
 * @gate: level of the input GATE
 * @counting, @start, @elapsed: when it began with @count, or how far it is while HELD
 * @count: the initial count, 1 to 65536, that is being counted down
 * @count_register: the count written last; @unloaded: it is not in use yet (status: null count)
 * @pending, @boundary, @boundary_falls: it will be at @boundary, where the output falls or rises
 * @held: what reads show while STOPPED
 * @write_high, @low: the next byte written is the second, @low was the first
 * @read_high: the next byte read is the second
 * @count_latched, @status_latched, @latched_count, @latched_status: what will be read first
 */
struct pit_counter {
	uint8_t control;
	bool gate;
	uint8_t counting;
	int64_t start, elapsed;
	uint32_t count;
	uint16_t count_register;
	bool unloaded;
	bool pending, boundary_falls;
	int64_t boundary;
	uint16_t held;
	bool write_high, read_high;
	uint8_t low;
	bool count_latched, status_latched;
	uint16_t latched_count;
	uint8_t latched_status;
};

/** pit_counter_reset() - no count was written yet; the output is low. */
void pit_counter_reset(struct pit_counter *counter, bool gate);

/** pit_counter_control() - a control word, without the bits that select the counter. */
void pit_counter_control(struct pit_counter *counter, uint8_t value, int64_t now);

/** pit_counter_write() / pit_counter_read() - an access to the counter's port. */
void pit_counter_write(struct pit_counter *counter, uint8_t value, int64_t now);
uint8_t pit_counter_read(struct pit_counter *counter, int64_t now);

/** pit_counter_latch_count() / pit_counter_latch_status() - unless latched and not yet read. */
void pit_counter_latch_count(struct pit_counter *counter, int64_t now);
void pit_counter_latch_status(struct pit_counter *counter, int64_t now);

void pit_counter_set_gate(struct pit_counter *counter, bool level, int64_t now);

/** pit_counter_output() - level of OUT. */
bool pit_counter_output(struct pit_counter *counter, int64_t now);

/** pit_counter_rise() - when OUT rises next after @after (<= @now), or PIT_NEVER. */
int64_t pit_counter_rise(struct pit_counter *counter, int64_t after, int64_t now);

/** pit_counter_period() - of OUT in modes 2 and 3, else 0. */
uint32_t pit_counter_period(const struct pit_counter *counter);

#endif
