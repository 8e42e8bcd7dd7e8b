/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * event_loop.h: epoll loops; what devices do with them is in event.h.
 */
#ifndef TENON_EVENT_LOOP_H
#define TENON_EVENT_LOOP_H

#include "event.h"
#include "logger.h"

/** event_loop_create() - a loop that nobody runs yet, or NULL with errno. @name: for its thread. */
struct event_loop *event_loop_create(const char *name);

/** event_loop_destroy() - free it; no thread may run it; sources left are freed, their fds not closed. */
void event_loop_destroy(struct event_loop *loop);

/** event_loop_run() - dispatch in this thread until event_loop_stop(). */
void event_loop_run(struct event_loop *loop);

/** event_loop_poll() - dispatch what is ready, wait up to @timeout_ms (-1: for ever) for the first. */
void event_loop_poll(struct event_loop *loop, int timeout_ms);

/** event_loop_stop() - make event_loop_run() return; any thread, also before it runs. */
void event_loop_stop(struct event_loop *loop);

/** event_loop_start_thread() - run the loop in a thread of its own. 0 or -errno. */
int event_loop_start_thread(struct event_loop *loop) __must_check;

/** event_loop_set_cpus() - a thread started from now on runs on these CPUs (cpu_set_t); NULL: any. */
void event_loop_set_cpus(struct event_loop *loop, const void *cpus);

/** event_loop_stop_thread() - stop and join that thread; harmless without one. */
void event_loop_stop_thread(struct event_loop *loop);

/** event_add_real_timer() - the same on CLOCK_MONOTONIC, whatever clock the loop has. */
struct event_source *event_add_real_timer(struct event_loop *loop, pthread_mutex_t *lock,
					  event_callback callback, void *arg) __must_check;

/**
 * event_loop_set_poll() - look for pollers' work up to @max_ns before sleeping, 0: not at all. How long
 * within that follows what looking was good for lately: an idle loop sleeps at once. Any thread.
 */
void event_loop_set_poll(struct event_loop *loop, uint64_t max_ns);

/**
 * Virtual time: a clock that stands still until somebody lets time pass. Loops share it, so that
 * their timers expire in one order.
 */
struct event_clock;

/** event_clock_create() - a clock that stands at 0, or NULL with errno. */
struct event_clock *event_clock_create(void);

/** event_clock_destroy() - free it, after the loops that have it; NULL is harmless. */
void event_clock_destroy(struct event_clock *clock);

/** event_loop_set_clock() - timers added from now on are @clock's (NULL: real time); no thread runs it. */
void event_loop_set_clock(struct event_loop *loop, struct event_clock *clock);

/** event_loop_is_virtual() - has it such a clock? */
bool event_loop_is_virtual(const struct event_loop *loop);

/** event_clock_now() - nanoseconds; any thread. */
uint64_t event_clock_now(const struct event_clock *clock);

/** event_clock_next() - when the next timer expires; false: none is armed. Any thread. */
bool event_clock_next(struct event_clock *clock, uint64_t *expiry);

/**
 * event_clock_advance() - let @ns pass: timers expire in order, each at its time, and their
 * callbacks run in this thread, under their locks. One thread at a time, holding none of those locks,
 * and not from such a callback. Stops early after 100,000 expirations. Returns the time reached.
 */
uint64_t event_clock_advance(struct event_clock *clock, uint64_t ns);

#endif
