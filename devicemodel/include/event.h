/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * event.h: callbacks for file descriptors and timers, run by an event loop.
 *
 * A source may name a lock: the loop holds it around the callback. What is removed is gone when
 * event_remove() returns: no callback of that source runs afterwards or is still running, unless
 * it is the caller itself that runs in it.
 */
#ifndef TENON_EVENT_H
#define TENON_EVENT_H

#include <pthread.h>
#include <sys/epoll.h>

#include "util.h"

TENON_API_BEGIN

struct event_loop;
struct event_source;

/** event_callback - @events are EPOLLIN, EPOLLOUT ...; for timers the number of expirations. */
typedef void (*event_callback)(void *arg, uint32_t events);

/**
 * event_add_fd() - call @callback whenever @fd is ready; any thread.
 * @fd: stays the caller's; must stay open until event_remove()
 * @events: EPOLLIN | EPOLLOUT | EPOLLET ...; 0 registers it disabled
 * @lock: held around the callback, or NULL
 * Return: the source, owned by the loop until event_remove(); NULL with errno.
 */
struct event_source *event_add_fd(struct event_loop *loop, int fd, uint32_t events,
				  pthread_mutex_t *lock, event_callback callback,
				  void *arg) __must_check;

/** event_set_events() - change what is waited for (0: nothing). 0 or -errno. */
int event_set_events(struct event_source *source, uint32_t events);

/** event_add_timer() - a disarmed timer on the loop's clock. NULL with errno. */
struct event_source *event_add_timer(struct event_loop *loop, pthread_mutex_t *lock,
				     event_callback callback, void *arg) __must_check;

#define EVENT_SOON 1

/**
 * event_set_timer() - first expiry in @delay_ns, then every @period_ns (0: once); delay 0 disarms.
 * EVENT_SOON is the loop's next turn, once, also while a virtual clock stands still.
 */
void event_set_timer(struct event_source *timer, uint64_t delay_ns, uint64_t period_ns);

/** event_now() - nanoseconds on the clock that timers of @loop go by; any thread. */
uint64_t event_now(const struct event_loop *loop);

/**
 * struct event_poller_ops - work that a loop looks for by itself, for a while, before it sleeps: cheaper
 * than being told of it. All are called with the source's lock held, in the loop's thread.
 * @poll: look once and do what there is; true if there was anything
 * @sleep: the loop stops looking: see to it that somebody tells. True if there is work after all,
 *         which was not done: the loop does not sleep then
 * @wake: the loop looks again: nobody needs to tell. NULL: nothing to do
 */
struct event_poller_ops {
	bool (*poll)(void *arg);
	bool (*sleep)(void *arg);
	void (*wake)(void *arg);
};

/**
 * event_add_poller() - have @loop look for work; how long is the loop's business
 * (event_loop_set_poll()). @always: never sleep while this one is there and enabled.
 * event_set_events(source, 0) disables it, EPOLLIN enables it. NULL with errno.
 */
struct event_source *event_add_poller(struct event_loop *loop, pthread_mutex_t *lock, bool always,
				      const struct event_poller_ops *ops, void *arg) __must_check;

/**
 * event_remove() - end @source (NULL is harmless). With a lock, the caller holds it, or no other
 * thread can be in the callback; without a lock it waits for a callback running in another thread.
 * The lock itself may go away only when the loop's thread is stopped.
 */
void event_remove(struct event_source *source);

TENON_API_END

#endif
