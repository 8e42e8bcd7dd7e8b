/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of the event loop share: sources, loops, and the pollers of a loop.
 */
#ifndef TENON_EVENT_INTERNAL_H
#define TENON_EVENT_INTERNAL_H

#include <sched.h>

#include "event_clock.h"

/**
 * struct event_poller - the part of a source that looks for work by itself; @ops NULL: it is another
 * kind. Its lock protects the rest but for @next.
 * @awake: the loop looks, nobody tells
 * @due: there was work when it went to sleep, which nobody told of
 * @next: in the list of the thread that runs the loop
 */
struct event_poller {
	const struct event_poller_ops *ops;
	bool always;
	bool awake;
	bool due;
	struct event_source *next;
};

struct event_source {
	struct event_loop *loop;
	int fd;
	bool is_timer;
	pthread_mutex_t *lock;
	event_callback callback;
	void *arg;

	uint32_t events; /* what the owner waits for; 0: nothing */
	bool removed; /* set under @lock if there is one, and under loop->lock */
	bool running; /* in a callback; only for sources without a lock, under loop->lock */
	pthread_t runner;
	struct event_clock_timer virtual; /* of a timer on a virtual clock, else its clock is NULL */
	bool soon; /* such a timer waits for the loop's next turn */
	struct event_poller poller;
	struct event_source *next, **link;
};

/**
 * struct event_polling - the pollers of a loop. Any thread: @max_ns, @changes; the others are the
 * running thread's.
 * @changes: counts pollers that came, went, were enabled or disabled; @seen: when @first was made
 * @first, @always: the pollers that are enabled, and is one of them never to sleep?
 * @awake: the loop looks; @idle_since: when it last found something, or began
 * @looked: when it last looked at the other sources
 * @credit, @rest_ns, @rest_until: is it worth it? (event_poll.c)
 */
struct event_polling {
	uint64_t max_ns;
	unsigned int changes, seen;
	struct event_source *first;
	bool always;
	bool awake;
	uint64_t idle_since, looked;
	unsigned int credit;
	uint64_t rest_ns, rest_until;
};

struct event_loop {
	int epoll_fd;
	int wake_fd;
	const char *name;
	bool stop;
	bool threaded;
	pthread_t thread;
	bool has_cpus;
	cpu_set_t cpus; /* where the thread runs, if @has_cpus */
	struct event_clock *clock; /* of new timers; NULL: real time */
	pthread_mutex_t lock;
	pthread_cond_t idle;
	struct event_source *sources;
	struct event_source *removed; /* freed by the loop before it waits again */
	unsigned int removed_count;
	struct event_polling polling;
};

/* event_loop.c */

/** event_loop_wake() - have the loop turn once more. */
void event_loop_wake(struct event_loop *loop);

/** event_source_link() - one more of loop->sources; loop->lock held. */
void event_source_link(struct event_source *source);

/* event_poll.c; the thread that runs the loop, but for event_polling_changed() */

#define EVENT_NO_WAIT (-2)

/** event_polling_turn() - look once; how long epoll may wait then: 0, -1 (for ever), EVENT_NO_WAIT: not even look. */
int event_polling_turn(struct event_loop *loop);

/** event_polling_once() - look without ever going on to, for who turns the loop by hand; true: there was something. */
bool event_polling_once(struct event_loop *loop);

/** event_polling_end() - the thread ends: somebody has to tell again. */
void event_polling_end(struct event_loop *loop);

/** event_poller_enable() - event_set_events() of a poller. */
void event_poller_enable(struct event_source *source, uint32_t events);

/** event_polling_changed() - a poller of @loop came, went, was enabled or disabled. */
void event_polling_changed(struct event_loop *loop);

#endif
