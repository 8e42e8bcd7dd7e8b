/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A clock that stands still until somebody lets time pass, and its timers in order of expiry.
 *
 * A timer that is due is called first and taken off the list by its owner, under the owner's lock
 * (event_clock_take()): so one that was disarmed in between does not expire any more.
 */
#include "event_clock.h"

#include <errno.h>
#include <stdlib.h>

#define CLOCK_END ((uint64_t)INT64_MAX) /* no time is later: 292 years */
#define EXPIRATIONS_MAX 100000 /* in one step, so that it ends whatever the timers' owners do */

struct event_clock {
	pthread_mutex_t lock;
	uint64_t now;
	struct event_clock_timer *timers; /* the next to expire first; equals in order of arming */
};

struct event_clock *event_clock_create(void)
{
	struct event_clock *clock = calloc(1, sizeof(*clock));

	if (clock)
		pthread_mutex_init(&clock->lock, NULL);
	return clock;
}

void event_clock_destroy(struct event_clock *clock)
{
	if (!clock)
		return;
	pthread_mutex_destroy(&clock->lock);
	free(clock);
}

uint64_t event_clock_now(const struct event_clock *clock)
{
	return __atomic_load_n(&clock->now, __ATOMIC_ACQUIRE);
}

/* Time never goes back. clock->lock. */
static void clock_set(struct event_clock *clock, uint64_t now)
{
	if (now > clock->now)
		__atomic_store_n(&clock->now, now, __ATOMIC_RELEASE);
}

static uint64_t time_add(uint64_t time, uint64_t ns)
{
	return ns > CLOCK_END - time ? CLOCK_END : time + ns;
}

/* clock->lock */
static void timer_insert(struct event_clock *clock, struct event_clock_timer *timer)
{
	struct event_clock_timer **at = &clock->timers;

	while (*at && (*at)->expiry <= timer->expiry)
		at = &(*at)->next;
	timer->next = *at;
	*at = timer;
	timer->armed = true;
}

/* clock->lock */
static void timer_remove(struct event_clock *clock, struct event_clock_timer *timer)
{
	struct event_clock_timer **at = &clock->timers;

	if (!timer->armed)
		return;
	while (*at != timer)
		at = &(*at)->next;
	*at = timer->next;
	timer->armed = false;
}

void event_clock_arm(struct event_clock_timer *timer, uint64_t delay, uint64_t period)
{
	struct event_clock *clock = timer->clock;

	pthread_mutex_lock(&clock->lock);
	timer_remove(clock, timer);
	timer->expiry = time_add(clock->now, delay);
	timer->period = period;
	if (delay)
		timer_insert(clock, timer);
	pthread_mutex_unlock(&clock->lock);
}

bool event_clock_take(struct event_clock_timer *timer)
{
	struct event_clock *clock = timer->clock;
	bool due;

	pthread_mutex_lock(&clock->lock);
	due = timer->armed && timer->expiry <= clock->now;
	if (due) {
		timer_remove(clock, timer);
		timer->expiry = time_add(timer->expiry, timer->period);
		if (timer->period)
			timer_insert(clock, timer);
	}
	pthread_mutex_unlock(&clock->lock);
	return due;
}

bool event_clock_next(struct event_clock *clock, uint64_t *expiry)
{
	bool any;

	pthread_mutex_lock(&clock->lock);
	any = clock->timers;
	if (any)
		*expiry = clock->timers->expiry;
	pthread_mutex_unlock(&clock->lock);
	return any;
}

/* Go to the next expiry up to @until and return the timer, pinned; NULL: there is none. */
static struct event_clock_timer *clock_forward(struct event_clock *clock, uint64_t until)
{
	struct event_clock_timer *timer;

	pthread_mutex_lock(&clock->lock);
	timer = clock->timers;
	if (timer && timer->expiry > until)
		timer = NULL;
	if (timer)
		__atomic_add_fetch(&timer->pins, 1, __ATOMIC_RELAXED);
	clock_set(clock, timer ? timer->expiry : until);
	pthread_mutex_unlock(&clock->lock);
	return timer;
}

uint64_t event_clock_advance(struct event_clock *clock, uint64_t ns)
{
	uint64_t until = time_add(event_clock_now(clock), ns);

	for (unsigned int i = 0; i < EXPIRATIONS_MAX; i++) {
		struct event_clock_timer *timer = clock_forward(clock, until);

		if (!timer)
			break;
		timer->fire(timer);
		__atomic_sub_fetch(&timer->pins, 1, __ATOMIC_RELEASE);
	}
	return event_clock_now(clock);
}
