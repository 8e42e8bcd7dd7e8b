/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * event_clock.h: timers of a virtual clock; between event_clock.c and event_loop.c.
 */
#ifndef TENON_EVENT_CLOCK_H
#define TENON_EVENT_CLOCK_H

#include "event_loop.h"

/*
 * struct event_clock_timer - one timer. All under the clock's lock, but @pins, which is atomic.
 * @clock: set once by the owner, with @fire
 * @armed, @expiry, @period: in the clock's list, in nanoseconds of its time; period 0: once
 * @pins: threads that are about to call @fire or in it: the timer's memory must stay
 * @fire: called without the clock's lock; calls event_clock_take() once it has its own locks
 */
struct event_clock_timer {
	struct event_clock *clock;
	bool armed;
	uint64_t expiry, period;
	unsigned int pins;
	void (*fire)(struct event_clock_timer *timer);
	struct event_clock_timer *next;
};

/* event_clock_arm() - expire in @delay ns, then every @period ns; a delay of 0 disarms. Any thread. */
void event_clock_arm(struct event_clock_timer *timer, uint64_t delay, uint64_t period);

/* event_clock_take() - has it expired? Then this expiration is used up. Any thread. */
bool event_clock_take(struct event_clock_timer *timer);

#endif
