/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Pollers: an event loop that looks for work by itself for a while before it waits to be told.
 *
 * Being told costs twice: who has work makes a system call (a guest: an exit), and the loop's thread
 * has to be woken. Looking costs CPU time, which on a small machine is taken from the one who
 * makes the work. So a loop keeps account. It begins to look when it was woken, and goes to sleep
 * when it found nothing for max_ns. Finding something before that earns credit, sleep costs more of
 * it, and a loop without credit looks no more for a while, longer each time; then it tries
 * once. So what looking in vain costs is bounded by max_ns each REST_MAX_NS, and a loop that nobody
 * wakes costs nothing at all.
 */
#include <errno.h>
#include <stdlib.h>

#include "clock.h"
#include "event_internal.h"

#define CREDIT_MAX 8
#define CREDIT_FOUND 1
#define CREDIT_IN_VAIN 2
#define REST_MIN_NS UINT64_C(1000000)
#define REST_MAX_NS UINT64_C(64000000)
#define LOOK_NS 5000 /* so often the other sources are looked at, whatever the pollers find */

/* ---- One poller; its lock is held ---- */

static bool poller_enabled(const struct event_source *source)
{
	return !__atomic_load_n(&source->removed, __ATOMIC_ACQUIRE) &&
	       __atomic_load_n(&source->events, __ATOMIC_RELAXED);
}

static bool poller_poll(struct event_source *source)
{
	const struct event_poller_ops *ops = source->poller.ops;

	source->poller.due = false;
	return ops->poll(source->arg);
}

static void poller_wake(struct event_source *source)
{
	if (source->poller.awake)
		return;
	source->poller.awake = true;
	if (source->poller.ops->wake)
		source->poller.ops->wake(source->arg);
}

static bool poller_sleep(struct event_source *source)
{
	if (!source->poller.awake)
		return false;
	source->poller.awake = false;
	source->poller.due = source->poller.ops->sleep(source->arg);
	return source->poller.due;
}

static bool poller_look(struct event_source *source)
{
	poller_wake(source);
	return poller_poll(source);
}

/* Asleep, and not to be woken: only what nobody will be told of. */
static bool poller_look_asleep(struct event_source *source)
{
	return (source->poller.always || source->poller.due) && poller_poll(source);
}

static bool pollers_each(struct event_loop *loop, bool (*call)(struct event_source *source))
{
	bool any = false;

	for (struct event_source *source = loop->polling.first; source;
	     source = source->poller.next) {
		pthread_mutex_lock(source->lock);
		if (poller_enabled(source))
			any |= call(source);
		pthread_mutex_unlock(source->lock);
	}
	return any;
}

/* ---- Which are there ---- */

void event_polling_changed(struct event_loop *loop)
{
	__atomic_add_fetch(&loop->polling.changes, 1, __ATOMIC_RELEASE);
}

/* The thread's own list, so that going along it takes no lock of the loop's. */
static void pollers_refresh(struct event_loop *loop)
{
	struct event_polling *polling = &loop->polling;
	unsigned int changes = __atomic_load_n(&polling->changes, __ATOMIC_ACQUIRE);

	if (changes == polling->seen)
		return;
	polling->seen = changes;
	polling->first = NULL;
	polling->always = false;
	pthread_mutex_lock(&loop->lock);
	for (struct event_source *source = loop->sources; source; source = source->next) {
		if (!source->poller.ops || !__atomic_load_n(&source->events, __ATOMIC_RELAXED))
			continue;
		source->poller.next = polling->first;
		polling->first = source;
		polling->always |= source->poller.always;
	}
	pthread_mutex_unlock(&loop->lock);
}

void event_poller_enable(struct event_source *source, uint32_t events)
{
	if (source->events == events)
		return;
	__atomic_store_n(&source->events, events, __ATOMIC_RELAXED);
	source->poller.awake = source->poller.due = false;
	event_polling_changed(source->loop);
	if (events && source->poller.always)
		event_loop_wake(source->loop);
}

struct event_source *event_add_poller(struct event_loop *loop, pthread_mutex_t *lock, bool always,
				      const struct event_poller_ops *ops, void *arg)
{
	struct event_source *source = lock ? calloc(1, sizeof(*source)) : NULL;

	if (!source) {
		errno = lock ? ENOMEM : EINVAL;
		return NULL;
	}
	*source = (struct event_source) {
		.loop = loop,
		.fd = -1,
		.lock = lock,
		.arg = arg,
		.events = EPOLLIN,
		.poller = { .ops = ops, .always = always },
	};
	pthread_mutex_lock(&loop->lock);
	event_source_link(source);
	pthread_mutex_unlock(&loop->lock);
	event_polling_changed(loop);
	if (always)
		event_loop_wake(loop);
	return source;
}

/* ---- Is it worth it? ---- */

void event_loop_set_poll(struct event_loop *loop, uint64_t max_ns)
{
	__atomic_store_n(&loop->polling.max_ns, max_ns, __ATOMIC_RELAXED);
}

static void credit_found(struct event_polling *polling)
{
	polling->credit = MIN(polling->credit + CREDIT_FOUND, CREDIT_MAX);
	polling->rest_ns = REST_MIN_NS;
}

static void credit_in_vain(struct event_polling *polling, uint64_t now)
{
	if (polling->credit > CREDIT_IN_VAIN) {
		polling->credit -= CREDIT_IN_VAIN;
		return;
	}
	polling->credit = 0;
	polling->rest_ns = MAX(polling->rest_ns, REST_MIN_NS);
	polling->rest_until = now + polling->rest_ns;
	polling->rest_ns = MIN(polling->rest_ns * 2, REST_MAX_NS);
}

static bool worth_it(const struct event_polling *polling, uint64_t now)
{
	return polling->credit || now >= polling->rest_until;
}

/* ---- A turn ---- */

/* With a clock that somebody lets pass, what is found must not depend on who is faster. */
static bool may_spin(const struct event_loop *loop, uint64_t max_ns)
{
	return loop->polling.first && !loop->clock && (max_ns || loop->polling.always);
}

bool event_polling_once(struct event_loop *loop)
{
	pollers_refresh(loop);
	return pollers_each(loop, poller_look_asleep);
}

void event_polling_end(struct event_loop *loop)
{
	pollers_refresh(loop);
	loop->polling.awake = false;
	pollers_each(loop, poller_sleep);
}

static int go_to_sleep(struct event_loop *loop)
{
	loop->polling.awake = false;
	return pollers_each(loop, poller_sleep) ? EVENT_NO_WAIT : -1;
}

static int stay_asleep(struct event_loop *loop)
{
	return pollers_each(loop, poller_look_asleep) ? 0 : -1;
}

static void begin(struct event_polling *polling, uint64_t now)
{
	polling->awake = true;
	polling->idle_since = polling->looked = now;
}

/* Something is found, or might be in a moment. */
static int go_on(struct event_polling *polling, uint64_t now)
{
	if (now - polling->looked < LOOK_NS)
		return EVENT_NO_WAIT;
	polling->looked = now;
	return 0;
}

int event_polling_turn(struct event_loop *loop)
{
	struct event_polling *polling = &loop->polling;
	uint64_t max_ns = __atomic_load_n(&polling->max_ns, __ATOMIC_RELAXED);
	uint64_t now;
	bool found;

	pollers_refresh(loop);
	if (!may_spin(loop, max_ns))
		return polling->awake ? go_to_sleep(loop) : stay_asleep(loop);
	if (!polling->awake) {
		now = clock_ns();
		if (!polling->always && !worth_it(polling, now))
			return stay_asleep(loop);
		begin(polling, now);
	}
	found = pollers_each(loop, poller_look);
	now = clock_ns();
	if (found) {
		polling->idle_since = now;
		credit_found(polling);
	} else if (!polling->always && now - polling->idle_since >= max_ns) {
		credit_in_vain(polling, now);
		return go_to_sleep(loop);
	}
	return go_on(polling, now);
}
