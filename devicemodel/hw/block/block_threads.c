/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A pool of threads that make blocking system calls: the block engine that works everywhere, and
 * the help of others. Workers know the image and the completion list, and never take the lock of
 * a device.
 */
#include "block_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "thread.h"

/*
 * @max: workers at most
 * @lock: over what follows
 * @work: there is something in the queue for one of the @idle, or @stop
 * @queue: requests not begun yet, @queued of them
 * @short_of_threads: one more could not be started
 */
struct block_pool {
	struct block_backend *block;
	unsigned int max;
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct block_list queue;
	unsigned int queued, idle;
	bool stop, short_of_threads;

	unsigned int count;
	struct block_worker {
		struct block_pool *pool;
		pthread_t thread;
		void *buffer;
	} workers[BLOCK_THREADS_MAX];
};

/* The oldest request; NULL when it is time to stop. */
static struct block_request *pool_next(struct block_pool *pool)
{
	struct block_request *request;

	pthread_mutex_lock(&pool->lock);
	while (!pool->queue.head && !pool->stop) {
		pool->idle++;
		pthread_cond_wait(&pool->work, &pool->lock);
		pool->idle--;
	}
	request = block_list_pop(&pool->queue);
	if (request)
		pool->queued--;
	pthread_mutex_unlock(&pool->lock);
	return request;
}

static void *worker_run(void *arg)
{
	struct block_worker *worker = arg;
	struct block_image *image = &worker->pool->block->image;
	struct block_request *request;

	while ((request = pool_next(worker->pool)))
		block_complete(request, block_io(image, worker->buffer, request));
	return NULL;
}

/* pool->lock held, or nobody else knows the pool. */
static int worker_create(struct block_pool *pool)
{
	struct block_worker *worker = &pool->workers[pool->count];
	int error;

	worker->pool = pool;
	worker->buffer = aligned_alloc(BLOCK_ALIGNMENT_MAX, BLOCK_BUFFER_SIZE);
	if (!worker->buffer)
		return -ENOMEM;
	/* Without SIGXFSZ it sees EFBIG instead. */
	error = thread_start(&worker->thread, 0, worker_run, worker);
	if (error) {
		free(worker->buffer);
		return error;
	}
	pthread_setname_np(worker->thread, "tenon-block");
	pool->count++;
	return 0;
}

/* One more at a time, while there is more to do than those there are will take. */
static void pool_grow(struct block_pool *pool)
{
	int error;

	if (pool->queued <= pool->idle || pool->count == pool->max || pool->short_of_threads)
		return;
	error = worker_create(pool);
	if (!error)
		return;
	pool->short_of_threads = true;
	log_warning(pool->block->image.log,
		    "%s: cannot start worker %u of %u: %s (goes on with fewer)",
		    pool->block->image.name, pool->count + 1, pool->max, strerror(-error));
}

void block_pool_start(struct block_pool *pool, struct block_request *head)
{
	unsigned int count;

	pthread_mutex_lock(&pool->lock);
	count = block_list_append(&pool->queue, head);
	pool->queued += count;
	pool_grow(pool);
	for (count = MIN(count, pool->idle); count; count--)
		pthread_cond_signal(&pool->work);
	pthread_mutex_unlock(&pool->lock);
}

void block_pool_close(struct block_pool *pool)
{
	if (!pool)
		return;
	pthread_mutex_lock(&pool->lock);
	pool->stop = true;
	pthread_cond_broadcast(&pool->work);
	pthread_mutex_unlock(&pool->lock);
	for (unsigned int i = 0; i < pool->count; i++) {
		pthread_join(pool->workers[i].thread, NULL);
		free(pool->workers[i].buffer);
	}
	pthread_cond_destroy(&pool->work);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

struct block_pool *block_pool_open(struct block_backend *block, unsigned int threads)
{
	struct block_pool *pool = calloc(1, sizeof(*pool));
	int error;

	if (!pool) {
		log_error(block->image.log, "%s: cannot start: out of memory", block->image.name);
		errno = ENOMEM;
		return NULL;
	}
	pool->block = block;
	pool->max = MIN(MAX(threads, 1U), (unsigned int)BLOCK_THREADS_MAX);
	block_list_init(&pool->queue);
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->work, NULL);
	error = worker_create(pool);
	if (!error)
		return pool;

	log_error(block->image.log, "%s: cannot start a worker: %s (raise the limit of processes)",
		  block->image.name, strerror(-error));
	block_pool_close(pool);
	errno = -error;
	return NULL;
}

/* ---- As an engine ---- */

static int threads_open(struct block_backend *block, const struct block_config *config)
{
	block->engine = block_pool_open(block, config->threads);
	return block->engine ? 0 : -errno;
}

static void threads_close(struct block_backend *block)
{
	block_pool_close(block->engine);
}

static void threads_start(struct block_queue *queue, struct block_request *head)
{
	block_pool_start(queue->block->engine, head);
}

const struct block_engine_ops block_threads_ops = {
	.name = "threads",
	.open = threads_open,
	.close = threads_close,
	.start = threads_start,
};
