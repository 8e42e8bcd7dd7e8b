/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * epoll loops. The promise that a removed source never runs again rests on two things: its lock is
 * held while the loop looks whether it is removed and calls it; and a source without a lock is
 * waited for.
 */
#include "event_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "clock.h"
#include "eventfd.h"

#define EVENT_BATCH 32
#define REMOVED_MAX 64 /* removed sources that an idle loop is woken for, to free them */

struct event_loop *event_loop_create(const char *name)
{
	struct event_loop *loop = calloc(1, sizeof(*loop));
	struct epoll_event wake = { .events = EPOLLIN, .data.ptr = NULL };
	int error;

	if (!loop)
		return NULL;
	loop->name = name;
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->epoll_fd < 0 || loop->wake_fd < 0 ||
	    epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &wake) < 0) {
		error = errno;
		if (loop->epoll_fd >= 0)
			close(loop->epoll_fd);
		if (loop->wake_fd >= 0)
			close(loop->wake_fd);
		free(loop);
		errno = error;
		return NULL;
	}
	pthread_mutex_init(&loop->lock, NULL);
	pthread_cond_init(&loop->idle, NULL);
	return loop;
}

static void source_free(struct event_source *source)
{
	if (source->is_timer)
		close(source->fd);
	free(source);
}

static void sources_free(struct event_source *source)
{
	while (source) {
		struct event_source *next = source->next;

		source_free(source);
		source = next;
	}
}

void event_loop_destroy(struct event_loop *loop)
{
	if (!loop)
		return;
	event_loop_stop_thread(loop);
	sources_free(loop->sources);
	sources_free(loop->removed);
	close(loop->epoll_fd);
	close(loop->wake_fd);
	pthread_cond_destroy(&loop->idle);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
}

static uint64_t counter_read(int fd)
{
	uint64_t count = 0;

	if (read(fd, &count, sizeof(count)) != sizeof(count))
		return 0;
	return count;
}

#define CLOCK_EXPIRED 0 /* as @events: the timer is called for its virtual clock */

/* How often @source expired; 0: set again in the meantime. */
static uint32_t timer_take(struct event_source *source, uint32_t events)
{
	if (events == CLOCK_EXPIRED)
		return event_clock_take(&source->virtual);
	return (uint32_t)MIN(counter_read(source->fd), UINT32_MAX);
}

static void source_call(struct event_source *source, uint32_t events)
{
	if (!__atomic_load_n(&source->events, __ATOMIC_RELAXED))
		return;
	if (source->is_timer) {
		events = timer_take(source, events);
		if (!events)
			return;
	}
	source->callback(source->arg, events);
}

/* Who removes a source with a lock holds that lock, so that it alone tells what is still wanted. */
static void source_dispatch_locked(struct event_source *source, uint32_t events)
{
	pthread_mutex_t *lock = source->lock;

	pthread_mutex_lock(lock);
	if (!__atomic_load_n(&source->removed, __ATOMIC_ACQUIRE))
		source_call(source, events);
	pthread_mutex_unlock(lock);
}

static void source_dispatch(struct event_source *source, uint32_t events)
{
	struct event_loop *loop = source->loop;

	pthread_mutex_lock(&loop->lock);
	/* The loop's thread, and the one that lets time pass. */
	while (source->running && !pthread_equal(source->runner, pthread_self()))
		pthread_cond_wait(&loop->idle, &loop->lock);
	if (source->removed) {
		pthread_mutex_unlock(&loop->lock);
		return;
	}
	source->running = true;
	source->runner = pthread_self();
	pthread_mutex_unlock(&loop->lock);

	source_call(source, events);

	pthread_mutex_lock(&loop->lock);
	source->running = false;
	pthread_cond_broadcast(&loop->idle);
	pthread_mutex_unlock(&loop->lock);
}

static void source_dispatch_any(struct event_source *source, uint32_t events)
{
	if (source->lock)
		source_dispatch_locked(source, events);
	else
		source_dispatch(source, events);
}

static void source_fire(struct event_clock_timer *timer)
{
	source_dispatch_any(container_of(timer, struct event_source, virtual), CLOCK_EXPIRED);
}

/* Keep what the thread that lets time pass still points at. loop->lock held. */
static void removed_keep_pinned(struct event_loop *loop, struct event_source **removed)
{
	while (*removed) {
		struct event_source *source = *removed;

		if (!__atomic_load_n(&source->virtual.pins, __ATOMIC_ACQUIRE)) {
			removed = &source->next;
			continue;
		}
		*removed = source->next;
		source->next = loop->removed;
		loop->removed = source;
		__atomic_add_fetch(&loop->removed_count, 1, __ATOMIC_RELAXED);
	}
}

/* Only here is it certain that no batch of events still points at them. */
static void removed_free(struct event_loop *loop)
{
	struct event_source *removed;

	if (!__atomic_load_n(&loop->removed_count, __ATOMIC_RELAXED))
		return;
	pthread_mutex_lock(&loop->lock);
	removed = loop->removed;
	loop->removed = NULL;
	__atomic_store_n(&loop->removed_count, 0, __ATOMIC_RELAXED);
	removed_keep_pinned(loop, &removed);
	pthread_mutex_unlock(&loop->lock);
	sources_free(removed);
}

static void loop_wait(struct event_loop *loop, int timeout_ms)
{
	struct epoll_event events[EVENT_BATCH];
	int count = epoll_wait(loop->epoll_fd, events, EVENT_BATCH, timeout_ms);
	for (int i = 0; i < count; i++) {
		struct event_source *source = events[i].data.ptr;

		if (!source)
			eventfd_take(loop->wake_fd);
		else
			source_dispatch_any(source, events[i].events);
	}
}

void event_loop_poll(struct event_loop *loop, int timeout_ms)
{
	removed_free(loop);
	loop_wait(loop, event_polling_once(loop) ? 0 : timeout_ms);
}

void event_loop_run(struct event_loop *loop)
{
	while (!__atomic_load_n(&loop->stop, __ATOMIC_ACQUIRE)) {
		int timeout;

		removed_free(loop);
		timeout = event_polling_turn(loop);
		if (timeout != EVENT_NO_WAIT)
			loop_wait(loop, timeout);
	}
	event_polling_end(loop);
	__atomic_store_n(&loop->stop, false, __ATOMIC_RELEASE);
}

void event_loop_wake(struct event_loop *loop)
{
	eventfd_signal(loop->wake_fd);
}

void event_loop_stop(struct event_loop *loop)
{
	__atomic_store_n(&loop->stop, true, __ATOMIC_RELEASE);
	event_loop_wake(loop);
}

static void *loop_thread(void *arg)
{
	struct event_loop *loop = arg;

	prctl(PR_SET_NAME, loop->name, 0, 0, 0);
	event_loop_run(loop);
	return NULL;
}

int event_loop_start_thread(struct event_loop *loop)
{
	pthread_attr_t attr;
	int error = pthread_attr_init(&attr);

	if (error)
		return -error;
	if (loop->has_cpus)
		error = pthread_attr_setaffinity_np(&attr, sizeof(loop->cpus), &loop->cpus);
	if (!error)
		error = pthread_create(&loop->thread, &attr, loop_thread, loop);
	pthread_attr_destroy(&attr);
	loop->threaded = !error;
	return -error;
}

void event_loop_set_cpus(struct event_loop *loop, const void *cpus)
{
	loop->has_cpus = cpus;
	if (cpus)
		memcpy(&loop->cpus, cpus, sizeof(loop->cpus));
}

void event_loop_stop_thread(struct event_loop *loop)
{
	if (!loop->threaded)
		return;
	event_loop_stop(loop);
	pthread_join(loop->thread, NULL);
	/* Had the thread stopped before, it did not see this stop. */
	__atomic_store_n(&loop->stop, false, __ATOMIC_RELEASE);
	loop->threaded = false;
}

/*
 * Waiting for nothing: epoll reports errors and hang-ups all the same, but with EPOLLONESHOT only
 * once, and source_call() drops that. loop->lock held.
 */
static int source_watch(struct event_source *source, int op, uint32_t events)
{
	struct epoll_event event = { .events = events ? events : EPOLLONESHOT, .data.ptr = source };

	__atomic_store_n(&source->events, events, __ATOMIC_RELAXED);
	return epoll_ctl(source->loop->epoll_fd, op, source->fd, &event) < 0 ? -errno : 0;
}

void event_source_link(struct event_source *source)
{
	struct event_loop *loop = source->loop;

	source->next = loop->sources;
	source->link = &loop->sources;
	if (source->next)
		source->next->link = &source->next;
	loop->sources = source;
}

struct event_source *event_add_fd(struct event_loop *loop, int fd, uint32_t events,
				  pthread_mutex_t *lock, event_callback callback, void *arg)
{
	struct event_source *source = calloc(1, sizeof(*source));
	int error;

	if (!source)
		return NULL;
	source->loop = loop;
	source->fd = fd;
	source->lock = lock;
	source->callback = callback;
	source->arg = arg;

	pthread_mutex_lock(&loop->lock);
	error = source_watch(source, EPOLL_CTL_ADD, events);
	if (error) {
		pthread_mutex_unlock(&loop->lock);
		free(source);
		errno = -error;
		return NULL;
	}
	event_source_link(source);
	pthread_mutex_unlock(&loop->lock);
	return source;
}

int event_set_events(struct event_source *source, uint32_t events)
{
	int error;

	if (source->poller.ops) {
		event_poller_enable(source, events);
		return 0;
	}
	pthread_mutex_lock(&source->loop->lock);
	error = source_watch(source, EPOLL_CTL_MOD, events);
	pthread_mutex_unlock(&source->loop->lock);
	return error;
}

struct event_source *event_add_real_timer(struct event_loop *loop, pthread_mutex_t *lock,
					  event_callback callback, void *arg)
{
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	struct event_source *source;

	if (fd < 0)
		return NULL;
	source = event_add_fd(loop, fd, EPOLLIN, lock, callback, arg);
	if (!source) {
		int error = errno;

		close(fd);
		errno = error;
		return NULL;
	}
	pthread_mutex_lock(&loop->lock);
	source->is_timer = true;
	pthread_mutex_unlock(&loop->lock);
	return source;
}

struct event_source *event_add_timer(struct event_loop *loop, pthread_mutex_t *lock,
				     event_callback callback, void *arg)
{
	struct event_source *source = event_add_real_timer(loop, lock, callback, arg);

	if (source) {
		source->virtual.clock = loop->clock;
		source->virtual.fire = source_fire;
	}
	return source;
}

void event_loop_set_clock(struct event_loop *loop, struct event_clock *clock)
{
	loop->clock = clock;
}

uint64_t event_now(const struct event_loop *loop)
{
	if (loop->clock)
		return event_clock_now(loop->clock);
	return clock_ns();
}

bool event_loop_is_virtual(const struct event_loop *loop)
{
	return loop->clock;
}

static struct timespec timespec_from_ns(uint64_t ns)
{
	return (struct timespec) { .tv_sec = (time_t)(ns / 1000000000),
				   .tv_nsec = (long)(ns % 1000000000) };
}

static void set_real_timer(struct event_source *timer, uint64_t delay_ns, uint64_t period_ns)
{
	struct itimerspec spec = { .it_value = timespec_from_ns(delay_ns),
				   .it_interval = timespec_from_ns(delay_ns ? period_ns : 0) };

	timerfd_settime(timer->fd, 0, &spec, NULL);
}

/* Its timerfd is there for EVENT_SOON only. */
static void set_virtual_timer(struct event_source *timer, uint64_t delay_ns, uint64_t period_ns)
{
	bool soon = delay_ns == EVENT_SOON;

	if (__atomic_exchange_n(&timer->soon, soon, __ATOMIC_RELAXED) || soon)
		set_real_timer(timer, soon ? EVENT_SOON : 0, 0);
	event_clock_arm(&timer->virtual, soon ? 0 : delay_ns, period_ns);
}

void event_set_timer(struct event_source *timer, uint64_t delay_ns, uint64_t period_ns)
{
	if (timer->virtual.clock)
		set_virtual_timer(timer, delay_ns, period_ns);
	else
		set_real_timer(timer, delay_ns, period_ns);
}

void event_remove(struct event_source *source)
{
	struct event_loop *loop;
	bool crowded;

	if (!source)
		return;
	loop = source->loop;
	pthread_mutex_lock(&loop->lock);
	__atomic_store_n(&source->removed, true, __ATOMIC_RELEASE);
	if (source->poller.ops)
		event_polling_changed(loop);
	else
		source_watch(source, EPOLL_CTL_DEL, 0);
	if (source->virtual.clock)
		event_clock_arm(&source->virtual, 0, 0);
	*source->link = source->next;
	if (source->next)
		source->next->link = source->link;
	while (source->running && !pthread_equal(source->runner, pthread_self()))
		pthread_cond_wait(&loop->idle, &loop->lock);
	source->next = loop->removed;
	loop->removed = source;
	crowded = __atomic_add_fetch(&loop->removed_count, 1, __ATOMIC_RELAXED) >= REMOVED_MAX;
	pthread_mutex_unlock(&loop->lock);
	if (crowded)
		event_loop_wake(loop);
}
