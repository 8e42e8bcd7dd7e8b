/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests on their way to an engine and back. A queue belongs to one thread at a time, who holds
 * its lock; all but block_complete() runs with it.
 */
#include "block_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "event_loop.h"
#include "eventfd.h"

/* What done() submits is started at once, but not for ever: the loop has others to serve. */
#define ROUNDS_MAX 32

/* A queue that the loop came late to makes up for it, within reason. */
#define CATCH_UP_NS UINT64_C(100000000)

/* ---- What is over ---- */

static const char *failure_hint(const struct block_backend *block,
				const struct block_request *request, int error)
{
	uint64_t size;

	if (error == -ENOSPC || error == -EDQUOT)
		return " (make room on the host)";
	if (error == -EFBIG)
		return " (raise the file size limit: ulimit -f)";
	if (request->op == BLOCK_FLUSH)
		return " (data written before may be lost; flushes go on failing: restart the VM)";
	if (block_image_size(&block->image, &size) == 0 &&
	    !range_contains(0, size, request->offset, request->length))
		return " (the image became shorter while in use)";
	return "";
}

static void log_failure(const struct block_request *request, int error)
{
	static const char *const names[] = {
		[BLOCK_READ] = "read",
		[BLOCK_WRITE] = "write",
		[BLOCK_FLUSH] = "flush",
		[BLOCK_DISCARD] = "discard",
		[BLOCK_WRITE_ZEROES] = "write of zeroes",
	};
	const struct block_backend *block = request->queue->block;

	log_guest(block->image.log, "%s: %s of %" PRIu64 " bytes at %" PRIu64 " failed: %s%s",
		  block->image.name, names[request->op], request->length, request->offset,
		  strerror(-error), failure_hint(block, request, error));
}

void block_finish(struct block_request *request, int error)
{
	if (error)
		log_failure(request, error);
	request->error = error;
	block_list_add(&request->queue->finished, request);
}

/* Once pushed, @request may be gone, and the queue closed as soon as nobody is @signalling. */
void block_complete(struct block_request *request, int error)
{
	struct block_queue *queue = request->queue;
	struct block_request *head = __atomic_load_n(&queue->completed, __ATOMIC_RELAXED);

	if (error)
		log_failure(request, error);
	request->error = error;
	__atomic_add_fetch(&queue->signalling, 1, __ATOMIC_RELAXED);
	do {
		request->next = head;
	} while (!__atomic_compare_exchange_n(&queue->completed, &head, request, true,
					      __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
	/* Whoever finds the list empty tells the loop. */
	if (!head && !__atomic_load_n(&queue->looking, __ATOMIC_SEQ_CST))
		eventfd_signal(queue->completed_fd);
	__atomic_sub_fetch(&queue->signalling, 1, __ATOMIC_RELEASE);
}

/* Put what others completed to what is finished, oldest first. */
static void completed_collect(struct block_queue *queue)
{
	struct block_request *newest, *oldest = NULL;

	if (!__atomic_load_n(&queue->completed, __ATOMIC_SEQ_CST))
		return;
	newest = __atomic_exchange_n(&queue->completed, NULL, __ATOMIC_ACQUIRE);
	while (newest) {
		struct block_request *next = newest->next;

		newest->next = oldest;
		oldest = newest;
		newest = next;
	}
	block_list_append(&queue->finished, oldest);
}

static void queue_reap(struct block_queue *queue)
{
	completed_collect(queue);
	if (queue->block->engine_ops->reap)
		queue->block->engine_ops->reap(queue);
}

/* ---- What is to be done ---- */

/* The first of those that wait has its tokens already, and starts at queue->due. */
static bool limits_admit(struct block_queue *queue, const struct block_request *request,
			 uint64_t now)
{
	if (!queue->due_set) {
		uint64_t from = queue->due ? MAX(queue->due, now - MIN(now, CATCH_UP_NS)) : now;

		queue->due = block_limits_take(&queue->block->limits, request, from);
	}
	queue->due_set = queue->due > now;
	return !queue->due_set;
}

static void limits_wait(struct block_queue *queue, uint64_t now)
{
	event_set_timer(queue->timer, MAX(queue->due - now, EVENT_SOON + UINT64_C(1)), 0);
}

/* Nothing was done for @request, and nothing will be. */
static void limits_cancel(struct block_queue *queue, struct block_request *request)
{
	request->cancelled = true;
	request->error = -ECANCELED;
	block_list_add(&queue->finished, request);
}

static void limits_submit(struct block_queue *queue, struct block_request *request)
{
	uint64_t now = event_now(queue->block->loop);
	bool is_first = !queue->waiting.head;

	if (queue->draining) {
		limits_cancel(queue, request);
		return;
	}
	if (is_first && limits_admit(queue, request, now)) {
		block_list_add(&queue->submitted, request);
		return;
	}
	block_list_add(&queue->waiting, request);
	if (is_first)
		limits_wait(queue, now);
}

/* Those that may start go on; the others wait. */
static void limits_pass(struct block_queue *queue)
{
	uint64_t now = event_now(queue->block->loop);

	while (queue->waiting.head && limits_admit(queue, queue->waiting.head, now))
		block_list_add(&queue->submitted, block_list_pop(&queue->waiting));
	if (queue->waiting.head)
		limits_wait(queue, now);
}

static void limits_cancel_all(struct block_queue *queue)
{
	struct block_request *request;

	if (queue->due_set)
		block_limits_give_back(&queue->block->limits, queue->waiting.head);
	queue->due_set = false;
	queue->refused = false;
	while ((request = block_list_pop(&queue->waiting)))
		limits_cancel(queue, request);
}

static void queue_start(struct block_queue *queue)
{
	struct block_request *head;

	if (queue->waiting.head)
		limits_pass(queue);
	head = block_list_take(&queue->submitted);
	if (head)
		queue->block->engine_ops->start(queue, head);
}

/* Who was told that there is no room has it as soon as there is: the rate goes on from there. */
static void queue_ask(struct block_queue *queue)
{
	if (!queue->refused || queue->waiting.head)
		return;
	queue->refused = false;
	queue->ops->room(queue->arg);
}

/*
 * A flush is a good time to look at the size: it covers devices, and files that were resized in a
 * way that inotify cannot tell from our own writes (see watch_open()).
 */
static bool queue_tell(struct block_queue *queue)
{
	struct block_request *request = block_list_take(&queue->finished), *next;
	bool look_at_size = false, told = request;

	for (; request; request = next) {
		next = request->next;
		look_at_size |= request->op == BLOCK_FLUSH || request->error == -EIO;
		queue->in_flight--;
		request->done(request, request->error);
	}
	if (look_at_size)
		block_look_at_size(queue);
	return told;
}

/* Start what waits and tell of what is over until there is neither. */
static void queue_run(struct block_queue *queue)
{
	bool told = false;

	if (queue->running)
		return;
	queue->running = true;
	for (unsigned int round = 0; round < ROUNDS_MAX; round++) {
		queue_start(queue);
		queue_ask(queue);
		if (queue_tell(queue))
			told = true;
		else if (!queue->submitted.head)
			break;
	}
	queue->running = false;
	if (!queue->waiting.head)
		queue->due = 0; /* nobody waits: being late is over */
	if (queue->submitted.head || queue->finished.head)
		eventfd_signal(queue->completed_fd);
	if (told)
		queue->ops->batch_end(queue->arg);
}

static void queue_turn(struct block_queue *queue)
{
	queue_reap(queue);
	queue_run(queue);
}

static int request_check(const struct block_backend *block, const struct block_request *request)
{
	bool changes = request->op != BLOCK_READ && request->op != BLOCK_FLUSH;

	if (changes && block->image.read_only)
		return -EROFS;
	if (request->op == BLOCK_FLUSH)
		return 0;
	return range_contains(0, __atomic_load_n(&block->size, __ATOMIC_RELAXED), request->offset,
			      request->length)
		       ? 0
		       : -EIO;
}

void block_submit(struct block_queue *queue, struct block_request *request)
{
	int error = request_check(queue->block, request);

	queue->in_flight++;
	request->queue = queue;
	request->error = error;
	request->cancelled = false;
	*block_progress(request) = 0;
	if (!error && queue->block->limits.set && !request->continues)
		limits_submit(queue, request);
	else
		block_list_add(error ? &queue->finished : &queue->submitted, request);
}

unsigned int block_room(struct block_queue *queue)
{
	if (!queue->block->limits.set)
		return UINT_MAX;
	queue->refused = queue->waiting.head;
	return !queue->refused;
}

void block_kick(struct block_queue *queue)
{
	if (queue->submitted.head || queue->finished.head)
		queue_run(queue);
}

void block_drain(struct block_queue *queue)
{
	struct pollfd fds[] = {
		{ .fd = queue->completed_fd, .events = POLLIN },
		{ .fd = -1, .events = POLLIN },
	};

	if (queue->block->engine_ops->fd)
		fds[1].fd = queue->block->engine_ops->fd(queue);
	__atomic_store_n(&queue->looking, false, __ATOMIC_SEQ_CST);
	queue->draining = true;
	limits_cancel_all(queue);
	queue_turn(queue);
	while (queue->in_flight) {
		poll(fds, ARRAY_SIZE(fds), -1);
		if (fds[0].revents)
			eventfd_take(queue->completed_fd);
		queue_turn(queue);
	}
	queue->draining = false;
}

/* ---- Events ---- */

static void completed_event(void *arg, uint32_t events)
{
	struct block_queue *queue = arg;

	/* First the counter, then the list: what is pushed after the second sets the first again. */
	eventfd_take(queue->completed_fd);
	queue_turn(queue);
}

static void engine_event(void *arg, uint32_t events)
{
	queue_turn(arg);
}

static void timer_event(void *arg, uint32_t events)
{
	queue_run(arg);
}

static bool poller_poll(void *arg)
{
	struct block_queue *queue = arg;

	queue_reap(queue);
	if (!queue->finished.head)
		return false;
	queue_run(queue);
	return true;
}

static bool poller_sleep(void *arg)
{
	struct block_queue *queue = arg;

	__atomic_store_n(&queue->looking, false, __ATOMIC_SEQ_CST);
	queue_reap(queue);
	return queue->finished.head;
}

static void poller_wake(void *arg)
{
	struct block_queue *queue = arg;

	__atomic_store_n(&queue->looking, true, __ATOMIC_SEQ_CST);
}

static const struct event_poller_ops poller_ops = {
	.poll = poller_poll,
	.sleep = poller_sleep,
	.wake = poller_wake,
};

/* ---- Life ---- */

static int queue_open_events(struct block_queue *queue)
{
	const struct block_engine_ops *ops = queue->block->engine_ops;

	queue->completed_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (queue->completed_fd < 0)
		return -errno;
	queue->completed_source = event_add_fd(queue->loop, queue->completed_fd, EPOLLIN,
					       queue->lock, completed_event, queue);
	if (!queue->completed_source)
		return -errno;
	if (queue->block->limits.set) {
		queue->timer = event_add_timer(queue->loop, queue->lock, timer_event, queue);
		if (!queue->timer)
			return -errno;
	}
	if (ops->fd && ops->fd(queue) >= 0) {
		queue->engine_source = event_add_fd(queue->loop, ops->fd(queue), EPOLLIN,
						    queue->lock, engine_event, queue);
		if (!queue->engine_source)
			return -errno;
	}
	if (queue->block->no_polling)
		return 0;
	queue->poller = event_add_poller(queue->loop, queue->lock, false, &poller_ops, queue);
	return queue->poller ? 0 : -errno;
}

struct block_queue *block_queue_open(struct block_backend *block, struct event_loop *loop,
				     pthread_mutex_t *lock, unsigned int depth,
				     const struct block_queue_ops *ops, void *arg)
{
	const struct block_engine_ops *engine_ops = block->engine_ops;
	struct block_queue *queue = aligned_alloc(64, align_up(sizeof(*queue), 64));
	int error;

	if (!queue) {
		log_error(block->image.log, "%s: cannot make a queue: out of memory",
			  block->image.name);
		errno = ENOMEM;
		return NULL;
	}
	*queue = (struct block_queue) {
		.block = block,
		.loop = loop,
		.lock = lock,
		.depth = depth,
		.ops = ops,
		.arg = arg,
		.completed_fd = -1,
	};
	block_list_init(&queue->submitted);
	block_list_init(&queue->waiting);
	block_list_init(&queue->finished);
	error = engine_ops->queue_open ? engine_ops->queue_open(queue) : 0;
	if (error) {
		free(queue);
		errno = -error;
		return NULL;
	}
	error = queue_open_events(queue);
	if (!error)
		return queue;
	log_error(block->image.log, "%s: cannot make an event: %s (raise the limit of open files)",
		  block->image.name, strerror(-error));
	block_queue_close(queue);
	errno = -error;
	return NULL;
}

void block_queue_close(struct block_queue *queue)
{
	if (!queue)
		return;
	while (__atomic_load_n(&queue->signalling, __ATOMIC_ACQUIRE))
		sched_yield();
	event_remove(queue->poller);
	event_remove(queue->engine_source);
	event_remove(queue->timer);
	event_remove(queue->completed_source);
	if (queue->completed_fd >= 0)
		close(queue->completed_fd);
	if (queue->block->engine_ops->queue_close)
		queue->block->engine_ops->queue_close(queue);
	free(queue);
}
