/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An open image: its engine, its limits, and the watch over its size.
 */
#include "block_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "event_loop.h"

/* ---- Size ---- */

/* block->lock held. */
static void size_check(struct block_backend *block)
{
	uint64_t size;

	if (block_image_size(&block->image, &size) < 0 || size == block->size)
		return;
	log_info(block->image.log, "%s: size changed from %" PRIu64 " to %" PRIu64 " bytes",
		 block->image.name, block->size, size);
	__atomic_store_n(&block->size, size, __ATOMIC_RELAXED);
	if (block->ops && block->ops->resized)
		block->ops->resized(block->arg);
}

void block_look_at_size(struct block_queue *queue)
{
	struct block_backend *block = queue->block;
	uint64_t size;

	if (queue->lock == block->lock)
		size_check(block);
	else if (block_image_size(&block->image, &size) == 0 &&
		 size != __atomic_load_n(&block->size, __ATOMIC_RELAXED))
		event_set_timer(block->resize_timer, EVENT_SOON, 0);
}

static void resize_event(void *arg, uint32_t events)
{
	size_check(arg);
}

void block_get_info(const struct block_backend *block, struct block_info *info)
{
	*info = (struct block_info) {
		.size = __atomic_load_n(&block->size, __ATOMIC_RELAXED),
		.logical_block_size = block->image.logical_block_size,
		.physical_block_size = block->image.physical_block_size,
		.read_only = block->image.read_only,
		.can_discard = block->image.can_discard,
	};
}

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
static int watch_open(struct block_backend *block)
{
	const uint32_t mask = IN_CLOSE_WRITE | (block->image.read_only ? IN_MODIFY : 0);
	char path[64];

	if (block->image.is_device || block->image.fd < 0)
		return 0;
	block->watch_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (block->watch_fd < 0)
		return -errno;
	/* By descriptor: whatever has the name now, this is the file that is open. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", block->image.fd);
	if (inotify_add_watch(block->watch_fd, path, mask) < 0)
		return -errno;
	block->watch_source = event_add_fd(block->loop, block->watch_fd, EPOLLIN, block->lock,
					   watch_event, block);
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

static void block_free(struct block_backend *block)
{
	watch_close(block);
	event_remove(block->resize_timer);
	block_limits_deinit(&block->limits);
	block_image_close(&block->image);
	free(block);
}

static int limits_check(const struct block_backend *block, const struct block_limit *limit,
			const char *name)
{
	if (!limit->burst || limit->rate)
		return 0;
	log_error(block->image.log,
		  "%s,%s_burst=%" PRIu64 ": a burst of no limit (give \"%s=\" too)",
		  block->image.name, name, limit->burst, name);
	return -EINVAL;
}

/* Engines in order of preference; what refuses has said why, if it was asked for by name. */
static int engine_open(struct block_backend *block, const struct block_config *config)
{
	if (block->image.fd < 0) {
		block->engine_ops = &block_null_ops;
		return block->engine_ops->open(block, config);
	}
	if (config->engine != BLOCK_ENGINE_THREADS) {
		int error;

		block->engine_ops = &block_uring_ops;
		error = block->engine_ops->open(block, config);
		if (!error || config->engine == BLOCK_ENGINE_URING)
			return error;
	}
	block->engine_ops = &block_threads_ops;
	return block->engine_ops->open(block, config);
}

static int block_init(struct block_backend *block, const struct block_config *config)
{
	int error = block_image_size(&block->image, &block->size);

	if (error) {
		log_error(block->image.log, "%s: cannot tell its size: %s", block->image.name,
			  strerror(-error));
		return error;
	}
	error = limits_check(block, &config->iops, "iops");
	if (!error)
		error = limits_check(block, &config->bps, "bps");
	if (error)
		return error;
	block->resize_timer = event_add_timer(block->loop, block->lock, resize_event, block);
	if (!block->resize_timer) {
		error = -errno;
		log_error(block->image.log,
			  "%s: cannot make a timer: %s (raise the limit of open files)",
			  block->image.name, strerror(-error));
		return error;
	}
	error = engine_open(block, config);
	if (error)
		return error;
	error = watch_open(block);
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
	block->ops = ops;
	block->arg = arg;
	block->loop = loop;
	block->lock = lock;
	block->watch_fd = -1;
	block->no_polling = config->no_polling;
	block->pinned = config->pin ? config->memory : NULL;
	block_limits_init(&block->limits, config, event_now(loop));
	error = block_init(block, config);
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
