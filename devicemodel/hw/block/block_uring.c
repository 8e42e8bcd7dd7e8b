/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The block engine on io_uring: a ring for each queue, and one system call for all that a block_kick()
 * starts. What the page cache has is over when that call returns, and needs no wake-up at all;
 * of the rest the loop is told by the ring's descriptor. A pool of threads does what a ring cannot:
 * discards, zeroes, what is not aligned for O_DIRECT or changes blocks that have parts, and what is
 * left of a short transfer.
 */
#include "block_internal.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "guest_memory.h"

#ifdef HAVE_LIBURING
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <unistd.h>

#ifndef IORING_SETUP_SUBMIT_ALL
#define IORING_SETUP_SUBMIT_ALL (1U << 7) /* Linux 5.18 */
#endif

#define SUBMISSIONS_MAX 4096U
#define DEPTH_USUAL 256U

/* Copied while the loop waits; what is longer is copied by others. */
#define INLINE_MAX KIB(128)

/* What the kernel takes as one buffer. */
#define BUFFER_MAX GIB(1)
#define BUFFERS_MAX 1024

/*
 * struct uring_image - what the queues of an image share.
 * @required: asked for by name: a queue does not go without a ring
 * @spare: made to see whether there can be any; the first queue takes it
 */
struct uring_image {
	struct block_pool *pool;
	bool required;
	struct uring_queue *spare;
};

/*
 * struct uring_queue - the ring of a queue.
 * @has_ring: false: all of it is the pool's
 * @fixed: a file of its own is registered, as number 0
 * @flushing: there is a flush in it
 * @buffers, @buffer_count: guest memory that is registered, in this order
 * @pinned: that memory, whose pages the ring holds
 * @helpers: for the pool: gathered here, handed over at once
 */
struct uring_queue {
	struct io_uring ring;
	bool has_ring;
	bool fixed;
	bool flushing;
	bool buffers_tried;
	struct guest_memory *pinned;
	struct iovec *buffers;
	unsigned int buffer_count;
	struct block_list helpers;
};

/* ---- What is over ---- */

/* Not an error of the request: the kernel would rather not, or its submitter's thread has ended. */
static bool is_for_helpers(int error)
{
	return error == -EAGAIN || error == -EINTR || error == -ECANCELED;
}

static void uring_transferred(struct uring_queue *uring, struct block_request *request, int result)
{
	struct block_image *image = &request->queue->block->image;

	if (is_for_helpers(result)) {
		block_list_add(&uring->helpers, request);
	} else if (result < 0) {
		block_finish(request, result);
	} else if ((uint64_t)result == request->length) {
		block_finish(request, 0);
	} else if (!result || result % (int)image->offset_alignment) {
		block_finish(request, -EIO); /* cut short under us, as in block_io.c */
	} else {
		*block_progress(request) = (uint64_t)result;
		block_list_add(&uring->helpers, request);
	}
}

static void uring_flushed(struct uring_queue *uring, struct block_request *request, int result)
{
	uring->flushing = false;
	if (is_for_helpers(result))
		block_list_add(&uring->helpers, request);
	else
		block_finish(request, block_flushed(&request->queue->block->image, MIN(result, 0)));
}

static void uring_over(struct uring_queue *uring, struct block_request *request, int result)
{
	if (request->op == BLOCK_FLUSH)
		uring_flushed(uring, request, result);
	else
		uring_transferred(uring, request, result);
}

static void uring_help(struct block_queue *queue)
{
	struct uring_queue *uring = queue->engine;
	const struct uring_image *shared = queue->block->engine;
	struct block_request *head = block_list_take(&uring->helpers);

	if (head)
		block_pool_start(shared->pool, head);
}

static bool uring_reap(struct block_queue *queue)
{
	struct uring_queue *uring = queue->engine;
	struct io_uring_cqe *cqe;
	unsigned int head, count = 0;

	if (!uring->has_ring)
		return false;
	io_uring_for_each_cqe(&uring->ring, head, cqe)
	{
		uring_over(uring, io_uring_cqe_get_data(cqe), cqe->res);
		count++;
	}
	if (!count)
		return false;
	io_uring_cq_advance(&uring->ring, count);
	uring_help(queue);
	return true;
}

/* ---- Registered buffers ---- */

static unsigned int buffers_of(const struct guest_memory *memory, struct iovec *buffers)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < memory->count; i++) {
		const struct guest_memory_region *region = &memory->regions[i];

		for (uint64_t at = 0; at < region->size; at += BUFFER_MAX) {
			if (count == BUFFERS_MAX)
				return 0;
			buffers[count].iov_base = region->host + at;
			buffers[count++].iov_len = MIN(region->size - at, BUFFER_MAX);
		}
	}
	return count;
}

/*
 * Have the ring hold the pages of guest memory, which saves looking them up for each request. Not
 * before the first request, since then all of it is in RAM. Memory that is not ours may change under
 * its owner, who knows nothing of this.
 */
static void register_buffers(struct block_queue *queue)
{
	const struct block_image *image = &queue->block->image;
	struct guest_memory *memory = queue->block->pinned;
	struct uring_queue *uring = queue->engine;
	struct iovec *buffers;
	unsigned int count;
	int error;

	uring->buffers_tried = true;
	if (memory->fd < 0 && !memory->private) {
		log_info(image->log, "%s,pin: not done: guest memory is another process's",
			 image->name);
		return;
	}
	buffers = calloc(BUFFERS_MAX, sizeof(*buffers));
	count = buffers ? buffers_of(memory, buffers) : 0;
	error = count ? io_uring_register_buffers(&uring->ring, buffers, count) : -ENOMEM;
	if (error) {
		log_warning(image->log,
			    "%s,pin: cannot: %s (raise the limit of locked memory, or leave out "
			    "\"pin\")",
			    image->name, strerror(-error));
		free(buffers);
		return;
	}
	__atomic_add_fetch(&memory->pins, 1, __ATOMIC_RELAXED);
	uring->pinned = memory;
	uring->buffers = buffers;
	uring->buffer_count = count;
}

/* Which of them all of @iov lies in; -1: none. */
static int buffer_find(const struct uring_queue *uring, const struct iovec *iov)
{
	for (unsigned int i = 0; i < uring->buffer_count; i++)
		if (range_contains((uintptr_t)uring->buffers[i].iov_base, uring->buffers[i].iov_len,
				   (uintptr_t)iov->iov_base, iov->iov_len))
			return (int)i;
	return -1;
}

/* ---- What is to be done ---- */

/* The kernel takes no more: what it left in the ring is the pool's. */
static void uring_take_back(struct uring_queue *uring)
{
	struct io_uring_sq *sq = &uring->ring.sq;
	unsigned int head = *sq->khead, tail = *sq->ktail;

	for (; head != tail; head++) {
		struct io_uring_sqe *sqe = &sq->sqes[sq->array[head & *sq->kring_mask]];
		struct block_request *request = (struct block_request *)(uintptr_t)sqe->user_data;

		uring_over(uring, request, -EAGAIN);
	}
	*sq->ktail = *sq->khead;
	sq->sqe_head = sq->sqe_tail = *sq->khead;
}

static void uring_enter(struct uring_queue *uring)
{
	while (io_uring_sq_ready(&uring->ring)) {
		int count = io_uring_submit(&uring->ring);

		if (count > 0 || count == -EINTR)
			continue;
		uring_take_back(uring);
		return;
	}
}

static struct io_uring_sqe *uring_get_sqe(struct uring_queue *uring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);

	if (sqe)
		return sqe;
	uring_enter(uring);
	return io_uring_get_sqe(&uring->ring);
}

static void prepare_transfer(const struct uring_queue *uring, struct io_uring_sqe *sqe, int fd,
			     const struct block_request *request)
{
	const bool is_write = request->op == BLOCK_WRITE;
	const struct iovec *iov = request->iov;
	int buffer = request->iov_count == 1 ? buffer_find(uring, iov) : -1;

	if (request->iov_count != 1)
		io_uring_prep_rw(is_write ? IORING_OP_WRITEV : IORING_OP_READV, sqe, fd, iov,
				 (unsigned int)request->iov_count, request->offset);
	else if (buffer < 0)
		io_uring_prep_rw(is_write ? IORING_OP_WRITE : IORING_OP_READ, sqe, fd,
				 iov->iov_base, (unsigned int)iov->iov_len, request->offset);
	else
		io_uring_prep_rw(is_write ? IORING_OP_WRITE_FIXED : IORING_OP_READ_FIXED, sqe, fd,
				 iov->iov_base, (unsigned int)iov->iov_len, request->offset);
	if (buffer >= 0)
		sqe->buf_index = (uint16_t)buffer;
	if (is_write && request->sync)
		sqe->rw_flags = RWF_DSYNC;
}

static void uring_prepare(const struct uring_queue *uring, struct io_uring_sqe *sqe,
			  struct block_request *request, int fd)
{
	if (request->op == BLOCK_FLUSH)
		io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
	else
		prepare_transfer(uring, sqe, fd, request);
	if (uring->fixed)
		sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data(sqe, request);
}

/*
 * Is it something that the ring can do, whole? One flush at a time, see block_flushed(). Nothing with a
 * range: it would be kept until somebody who has the queue's lock reaps the request, and who drains
 * another queue may have that one.
 */
static bool is_for_ring(const struct uring_queue *uring, const struct block_image *image,
			const struct block_request *request)
{
	if (request->op == BLOCK_FLUSH)
		return uring->fixed && !uring->flushing;
	return (request->op == BLOCK_READ || request->op == BLOCK_WRITE) &&
	       request->iov_count <= IOV_MAX && request->length <= INT_MAX &&
	       block_is_aligned(image, request) && !block_needs_range(image, request);
}

static bool is_for_now(const struct block_image *image, const struct block_request *request)
{
	return image->in_memory && request->length <= INLINE_MAX && request->op != BLOCK_DISCARD &&
	       request->op != BLOCK_WRITE_ZEROES && !block_needs_range(image, request);
}

static bool uring_put(struct block_queue *queue, struct block_request *request)
{
	struct uring_queue *uring = queue->engine;
	struct io_uring_sqe *sqe = uring_get_sqe(uring);

	if (!sqe)
		return false;
	uring_prepare(uring, sqe, request, uring->fixed ? 0 : queue->block->image.fd);
	uring->flushing |= request->op == BLOCK_FLUSH;
	return true;
}

static void uring_start_one(struct block_queue *queue, struct block_request *request)
{
	struct block_image *image = &queue->block->image;
	struct uring_queue *uring = queue->engine;
	int error = 0;

	if (request->op == BLOCK_FLUSH)
		error = __atomic_load_n(&image->flush_error, __ATOMIC_RELAXED);
	if (error || (!request->length && request->op != BLOCK_FLUSH) ||
	    (is_for_now(image, request) && block_io_now(image, request, &error)))
		block_finish(request, error);
	else if (!uring->has_ring || *block_progress(request) ||
		 !is_for_ring(uring, image, request) || !uring_put(queue, request))
		block_list_add(&uring->helpers, request);
}

static void uring_start(struct block_queue *queue, struct block_request *head)
{
	struct uring_queue *uring = queue->engine;

	if (queue->block->pinned && uring->has_ring && !uring->buffers_tried)
		register_buffers(queue);
	while (head) {
		struct block_request *next = head->next;

		uring_start_one(queue, head);
		head = next;
	}
	if (uring->has_ring)
		uring_enter(uring);
	uring_help(queue);
	uring_reap(queue);
}

/* ---- Life ---- */

static int uring_fd(const struct block_queue *queue)
{
	const struct uring_queue *uring = queue->engine;

	return uring->has_ring ? uring->ring.ring_fd : -1;
}

/* Any thread that has the queue's lock may use it, so it is not told of a single one. */
static int ring_init_flags(struct io_uring *ring, unsigned int depth, unsigned int flags)
{
	const unsigned int submissions = MIN(MAX(depth, 1U), SUBMISSIONS_MAX);
	struct io_uring_params params = {
		.flags = IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE | flags,
		.cq_entries = MAX(2 * submissions, depth),
	};

	return io_uring_queue_init_params(submissions, ring, &params);
}

/* The kernel keeps back what finds no room among the completions: all that is in flight has some. */
static int ring_init(struct io_uring *ring, unsigned int depth)
{
	int error = ring_init_flags(ring, depth, IORING_SETUP_SUBMIT_ALL);

	return error == -EINVAL ? ring_init_flags(ring, depth, 0) : error;
}

static const char *refusal_remedy(int error)
{
	switch (error) {
	case -ENOSYS:
	case -EPERM:
		return "the kernel does not allow it: see /proc/sys/kernel/io_uring_disabled and "
		       "the "
		       "filters of a container, or leave out \"engine=\"";
	case -ENOMEM:
		return "raise the limit of locked memory, or leave out \"engine=\"";
	default:
		return "leave out \"engine=\"";
	}
}

/*
 * Opened once more: the kernel lets go of a ring's files some time after the ring is gone, also when a
 * process ends, and the image's lock must not last longer than we do. False: it has to do without.
 */
static bool register_file(struct io_uring *ring, const struct block_image *image)
{
	const int flags = (image->read_only ? O_RDONLY : O_RDWR) | (image->direct ? O_DIRECT : 0);
	char path[64];
	bool registered;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", image->fd);
	fd = open(path, flags | O_CLOEXEC);
	if (fd < 0)
		return false;
	registered = io_uring_register_files(ring, &fd, 1) == 0;
	close(fd);
	return registered;
}

/* NULL with errno: there is no ring to be had. */
static struct uring_queue *uring_create(unsigned int depth)
{
	struct uring_queue *uring = calloc(1, sizeof(*uring));
	int error = uring ? ring_init(&uring->ring, depth) : -ENOMEM;

	if (!error) {
		uring->has_ring = true;
		block_list_init(&uring->helpers);
		return uring;
	}
	free(uring);
	errno = -error;
	return NULL;
}

static void uring_destroy(struct uring_queue *uring)
{
	if (!uring)
		return;
	if (uring->has_ring)
		io_uring_queue_exit(&uring->ring);
	if (uring->pinned)
		__atomic_sub_fetch(&uring->pinned->pins, 1, __ATOMIC_RELAXED);
	free(uring->buffers);
	free(uring);
}

static struct uring_queue *spare_take(struct uring_image *shared, unsigned int depth)
{
	struct uring_queue *uring = depth <= DEPTH_USUAL ? shared->spare : NULL;

	if (uring)
		shared->spare = NULL;
	return uring;
}

/* Rings are limited, by locked memory: who did not ask for them does without. */
static int uring_queue_open(struct block_queue *queue)
{
	const struct block_image *image = &queue->block->image;
	struct uring_image *shared = queue->block->engine;
	struct uring_queue *uring = spare_take(shared, queue->depth);
	int error;

	if (!uring)
		uring = uring_create(queue->depth);
	error = uring ? 0 : -errno;
	if (error && !shared->required) {
		log_debug(image->log,
			  "%s: no more io_uring: %s; the pool of threads does this queue",
			  image->name, strerror(-error));
		uring = calloc(1, sizeof(*uring));
		if (uring)
			block_list_init(&uring->helpers);
	}
	if (!uring) {
		log_error(image->log, "%s,engine=io_uring: cannot make a queue: %s (%s)",
			  image->name, strerror(-error), refusal_remedy(error));
		return error;
	}
	if (uring->has_ring)
		uring->fixed = register_file(&uring->ring, image);
	queue->engine = uring;
	return 0;
}

static void uring_queue_close(struct block_queue *queue)
{
	uring_destroy(queue->engine);
}

static void uring_close(struct block_backend *block)
{
	struct uring_image *shared = block->engine;

	block_pool_close(shared->pool);
	uring_destroy(shared->spare);
	free(shared);
}

static void log_refusal(const struct block_image *image, bool required, int error)
{
	if (required)
		log_error(image->log, "%s,engine=io_uring: %s (%s)", image->name, strerror(-error),
			  refusal_remedy(error));
	else
		log_debug(image->log, "%s: no io_uring: %s; a pool of threads does the I/O",
			  image->name, strerror(-error));
}

static int uring_open(struct block_backend *block, const struct block_config *config)
{
	struct uring_image *shared = calloc(1, sizeof(*shared));
	int error = shared ? 0 : -ENOMEM;

	if (shared) {
		shared->required = config->engine == BLOCK_ENGINE_URING;
		shared->spare = uring_create(DEPTH_USUAL);
		error = shared->spare ? 0 : -errno;
	}
	if (error) {
		log_refusal(&block->image, config->engine == BLOCK_ENGINE_URING, error);
		free(shared);
		return error;
	}
	block->engine = shared;
	shared->pool = block_pool_open(block, config->threads);
	if (shared->pool)
		return 0;
	error = -errno;
	uring_close(block);
	return error;
}

const struct block_engine_ops block_uring_ops = {
	.name = "io_uring",
	.open = uring_open,
	.close = uring_close,
	.queue_open = uring_queue_open,
	.queue_close = uring_queue_close,
	.start = uring_start,
	.reap = uring_reap,
	.fd = uring_fd,
};

#else

static int uring_open(struct block_backend *block, const struct block_config *config)
{
	if (config->engine == BLOCK_ENGINE_URING)
		log_error(block->image.log,
			  "%s,engine=io_uring: this tenon was built without it (build it with "
			  "liburing, or leave out \"engine=\")",
			  block->image.name);
	else
		log_debug(block->image.log,
			  "%s: built without io_uring; a pool of threads does the I/O",
			  block->image.name);
	return -ENOSYS;
}

const struct block_engine_ops block_uring_ops = {
	.name = "io_uring",
	.open = uring_open,
};

#endif
