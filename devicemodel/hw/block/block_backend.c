/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The block back end: requests on their way to an engine and back to the loop, and the watch over
 * the image's size. Everything here but block_complete() runs with the user's lock held.
 */
#include "block_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

/* ---- Completion ---- */

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

static void log_failure(struct block_backend *block, const struct block_request *request, int error)
{
	static const char *const names[] = {
		[BLOCK_READ] = "read",
		[BLOCK_WRITE] = "write",
		[BLOCK_FLUSH] = "flush",
		[BLOCK_DISCARD] = "discard",
		[BLOCK_WRITE_ZEROES] = "write of zeroes",
	};

	log_guest(block->image.log, "%s: %s of %" PRIu64 " bytes at %" PRIu64 " failed: %s%s",
		  block->image.name, names[request->op], request->length, request->offset,
		  strerror(-error), failure_hint(block, request, error));
}

static void completed_push(struct block_backend *block, struct block_request *request, int error)
{
	struct block_request *head = __atomic_load_n(&block->completed, __ATOMIC_RELAXED);
	const uint64_t one = 1;

	request->error = error;
	do {
		request->next = head;
	} while (!__atomic_compare_exchange_n(&block->completed, &head, request, true,
					      __ATOMIC_RELEASE, __ATOMIC_RELAXED));
	/* @request may be gone now. Whoever finds the list empty tells the loop. */
	if (!head && write(block->completed_fd, &one, sizeof(one)) < 0)
		return; /* EAGAIN: the loop has been told 2^64 times */
}

void block_complete(struct block_backend *block, struct block_request *request, int error)
{
	if (error)
		log_failure(block, request, error);
	completed_push(block, request, error);
}

/* All that are completed, oldest first. */
static struct block_request *completed_take(struct block_backend *block)
{
	struct block_request *newest =
		__atomic_exchange_n(&block->completed, NULL, __ATOMIC_ACQUIRE);
	struct block_request *oldest = NULL;

	while (newest) {
		struct block_request *next = newest->next;

		newest->next = oldest;
		oldest = newest;
		newest = next;
	}
	return oldest;
}

static void size_check(struct block_backend *block)
{
	uint64_t size;

	if (block_image_size(&block->image, &size) < 0 || size == block->size)
		return;
	log_info(block->image.log, "%s: size changed from %" PRIu64 " to %" PRIu64 " bytes",
		 block->image.name, block->size, size);
	block->size = size;
	if (block->ops->resized)
		block->ops->resized(block->arg);
}

/*
 * A flush is a good time to look at the size: it covers devices, and files that were resized in a
 * way that inotify cannot tell from our own writes (see watch_open()).
 */
static void completions_run(struct block_backend *block)
{
	struct block_request *request = completed_take(block);
	bool look_at_size = false;

	if (!request)
		return;
	while (request) {
		struct block_request *next = request->next;

		look_at_size |= request->op == BLOCK_FLUSH || request->error == -EIO;
		block->in_flight--;
		request->done(request, request->error);
		request = next;
	}
	if (look_at_size)
		size_check(block);
	if (block->ops->batch_end)
		block->ops->batch_end(block->arg);
	block_kick(block);
}

static void completed_event(void *arg, uint32_t events)
{
	struct block_backend *block = arg;
	uint64_t count;

	/* First the counter, then the list: what is pushed after the second sets the first again. */
	if (read(block->completed_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		return;
	completions_run(block);
}

/* ---- Submission ---- */

static int request_check(const struct block_backend *block, const struct block_request *request)
{
	bool changes = request->op != BLOCK_READ && request->op != BLOCK_FLUSH;

	if (changes && block->image.read_only)
		return -EROFS;
	if (request->op == BLOCK_FLUSH)
		return 0;
	return range_contains(0, block->size, request->offset, request->length) ? 0 : -EIO;
}

void block_submit(struct block_backend *block, struct block_request *request)
{
	int error = request_check(block, request);

	block->in_flight++;
	if (error) {
		completed_push(block, request, error);
		return;
	}
	request->next = NULL;
	*block->submitted_tail = request;
	block->submitted_tail = &request->next;
}

void block_kick(struct block_backend *block)
{
	struct block_request *head = block->submitted;

	if (!head)
		return;
	block->submitted = NULL;
	block->submitted_tail = &block->submitted;
	block->engine_ops->start(block, head);
}

void block_drain(struct block_backend *block)
{
	struct pollfd completed = { .fd = block->completed_fd, .events = POLLIN };

	block_kick(block);
	completions_run(block);
	while (block->in_flight) {
		poll(&completed, 1, -1);
		completed_event(block, 0);
	}
}

void block_get_info(const struct block_backend *block, struct block_info *info)
{
	*info = (struct block_info) {
		.size = block->size,
		.logical_block_size = block->image.logical_block_size,
		.physical_block_size = block->image.physical_block_size,
		.read_only = block->image.read_only,
		.can_discard = block->image.can_discard,
	};
}

/* ---- Resize ---- */

static void watch_event(void *arg, uint32_t events)
{
	struct block_backend *block = arg;
	char buffer[4096] __attribute__((aligned(8)));

	/* What the events say does not matter; what is left is read the next time round. */
	if (read(block->watch_fd, buffer, sizeof(buffer)) > 0)
		size_check(block);
}

/*
 * Whoever resizes a file nearly always opens it for writing and closes it again. A change of size
 * itself only gives IN_MODIFY, and so does each of our own writes, for which it is asked only
 * where there are none.
 */
static int watch_open(struct block_backend *block, struct event_loop *loop, pthread_mutex_t *lock)
{
	const uint32_t mask = IN_CLOSE_WRITE | (block->image.read_only ? IN_MODIFY : 0);
	char path[64];

	if (block->image.is_device)
		return 0;
	block->watch_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (block->watch_fd < 0)
		return -errno;
	/* By descriptor: whatever has the name now, this is the file that is open. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", block->image.fd);
	if (inotify_add_watch(block->watch_fd, path, mask) < 0)
		return -errno;
	block->watch_source =
		event_add_fd(loop, block->watch_fd, EPOLLIN, lock, watch_event, block);
	return block->watch_source ? 0 : -errno;
}

static void watch_close(struct block_backend *block)
{
	event_remove(block->watch_source);
	if (block->watch_fd >= 0)
		close(block->watch_fd);
	block->watch_source = NULL;
	block->watch_fd = -1;
}

/* ---- Life ---- */

static int completions_open(struct block_backend *block, struct event_loop *loop,
			    pthread_mutex_t *lock)
{
	block->completed_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (block->completed_fd >= 0)
		block->completed_source = event_add_fd(loop, block->completed_fd, EPOLLIN, lock,
						       completed_event, block);
	if (block->completed_source)
		return 0;
	int error = -errno;

	log_error(block->image.log, "%s: cannot make an event: %s (raise the limit of open files)",
		  block->image.name, strerror(-error));
	return error;
}

static void block_free(struct block_backend *block)
{
	watch_close(block);
	event_remove(block->completed_source);
	if (block->completed_fd >= 0)
		close(block->completed_fd);
	block_image_close(&block->image);
	free(block);
}

static int block_init(struct block_backend *block, const struct block_config *config,
		      struct event_loop *loop, pthread_mutex_t *lock)
{
	int error = block_image_size(&block->image, &block->size);

	if (error) {
		log_error(block->image.log, "%s: cannot tell its size: %s", block->image.name,
			  strerror(-error));
		return error;
	}
	error = completions_open(block, loop, lock);
	if (!error)
		error = block->engine_ops->open(block, config);
	if (error)
		return error;
	error = watch_open(block, loop, lock);
	if (error) {
		log_warning(block->image.log,
			    "%s: cannot watch it: %s (a new size is noticed at flushes only)",
			    block->image.name, strerror(-error));
		watch_close(block);
	}
	return 0;
}

struct block_backend *block_open(struct logger *log, const char *what,
				 const struct block_config *config, struct event_loop *loop,
				 pthread_mutex_t *lock, const struct block_ops *ops, void *arg)
{
	struct block_backend *block = calloc(1, sizeof(*block));
	int error;

	if (!block) {
		log_error(log, "%s,%s: cannot open: out of memory", what, config->path);
		errno = ENOMEM;
		return NULL;
	}
	error = block_image_open(&block->image, log, what, config);
	if (error) {
		free(block);
		errno = -error;
		return NULL;
	}
	block->engine_ops = &block_threads_ops;
	block->ops = ops;
	block->arg = arg;
	block->submitted_tail = &block->submitted;
	block->completed_fd = -1;
	block->watch_fd = -1;
	error = block_init(block, config, loop, lock);
	if (error) {
		block_free(block);
		errno = -error;
		return NULL;
	}
	return block;
}

void block_close(struct block_backend *block)
{
	if (!block)
		return;
	block->engine_ops->close(block);
	block_free(block);
}
