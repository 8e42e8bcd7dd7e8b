/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The block engine that works everywhere: a pool of threads that make blocking system calls.
 * Workers know the image and the completion list, and never take the lock of the device.
 */
#include "block_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "thread.h"

/*
 * @lock: over what follows
 * @work: there is something in the queue for one of the @idle, or @stop
 * @queue, @queue_tail: requests not begun yet, oldest first
 */
struct block_threads {
	struct block_backend *block;
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct block_request *queue, **queue_tail;
	unsigned int idle;
	bool stop;

	unsigned int count;
	struct block_worker {
		struct block_threads *pool;
		pthread_t thread;
		void *buffer;
	} workers[BLOCK_THREADS_MAX];
};

/* The oldest request; NULL when it is time to stop. */
static struct block_request *pool_next(struct block_threads *pool)
{
	struct block_request *request;

	pthread_mutex_lock(&pool->lock);
	while (!pool->queue && !pool->stop) {
		pool->idle++;
		pthread_cond_wait(&pool->work, &pool->lock);
		pool->idle--;
	}
	request = pool->queue;
	if (request) {
		pool->queue = request->next;
		if (!pool->queue)
			pool->queue_tail = &pool->queue;
	}
	pthread_mutex_unlock(&pool->lock);
	return request;
}

static void *worker_run(void *arg)
{
	struct block_worker *worker = arg;
	struct block_backend *block = worker->pool->block;
	struct block_request *request;

	while ((request = pool_next(worker->pool)))
		block_complete(block, request, block_io(&block->image, worker->buffer, request));
	return NULL;
}

static void threads_start(struct block_backend *block, struct block_request *head)
{
	struct block_threads *pool = block->engine;
	unsigned int count = 0;

	pthread_mutex_lock(&pool->lock);
	*pool->queue_tail = head;
	for (struct block_request *request = head; request; request = request->next) {
		pool->queue_tail = &request->next;
		count++;
	}
	for (count = MIN(count, pool->idle); count; count--)
		pthread_cond_signal(&pool->work);
	pthread_mutex_unlock(&pool->lock);
}

static void threads_close(struct block_backend *block)
{
	struct block_threads *pool = block->engine;

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

static int worker_create(struct block_threads *pool)
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

static int threads_open(struct block_backend *block, const struct block_config *config)
{
	struct block_threads *pool = calloc(1, sizeof(*pool));
	int error = 0;

	if (!pool) {
		log_error(block->image.log, "%s: cannot start: out of memory", block->image.name);
		return -ENOMEM;
	}
	pool->block = block;
	pool->queue_tail = &pool->queue;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->work, NULL);
	block->engine = pool;

	while (!error && pool->count < config->threads)
		error = worker_create(pool);
	if (!error)
		return 0;

	log_error(block->image.log, "%s: cannot start worker %u of %u: %s (try fewer \"threads=\")",
		  block->image.name, pool->count + 1, config->threads, strerror(-error));
	threads_close(block);
	return error;
}

const struct block_engine_ops block_threads_ops = {
	.name = "threads",
	.open = threads_open,
	.close = threads_close,
	.start = threads_start,
};
