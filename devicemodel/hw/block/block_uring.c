/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The block engine on io_uring: a ring for each queue, and one system call for all that a block_kick()
 * starts. What the page cache has is over when that call returns, and needs no wake-up at all;
 * of the rest the loop is told by the ring's descriptor. A pool of threads does what a ring cannot:
 * discards, zeroes, what is not aligned for O_DIRECT, and what is left of a short transfer.
 */
#include "block_internal.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#ifdef HAVE_LIBURING
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <unistd.h>

#ifndef IORING_SETUP_SUBMIT_ALL
#define IORING_SETUP_SUBMIT_ALL (1U << 7) /* Linux 5.18 */
#endif

#define DEPTH_MAX 4096U

/* Copied while the loop waits; what is longer is copied by others. */
#define INLINE_MAX KIB(128)

/*
 * struct uring_queue - the ring of a queue.
 * @fixed: the file is registered, as number 0
 * @helpers: for the pool: gathered here, handed over at once
 */
struct uring_queue {
	struct io_uring ring;
	bool fixed;
	struct block_list helpers;
};

static_assert(sizeof(struct block_range) <= 3 * sizeof(uint64_t), "lies before block_progress()");

static struct block_range *request_range(struct block_request *request)
{
	return (struct block_range *)request->engine;
}

/* ---- What is over ---- */

/* Not an error of the request: the kernel would rather not, or its submitter's thread has ended. */
static bool is_for_helpers(int error)
{
	return error == -EAGAIN || error == -EINTR || error == -ECANCELED;
}

static void uring_transferred(struct uring_queue *uring, struct block_request *request, int result)
{
	struct block_image *image = &request->queue->block->image;

	if (block_needs_range(image, request))
		block_range_give(image, request_range(request));
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
	struct block_image *image = &request->queue->block->image;

	if (is_for_helpers(result))
		block_list_add(&uring->helpers, request);
	else
		block_finish(request, result < 0 ? block_flush_failed(image, result) : 0);
}

static void uring_help(struct block_queue *queue)
{
	struct uring_queue *uring = queue->engine;
	struct block_request *head = block_list_take(&uring->helpers);

	if (head)
		block_pool_start(queue->block->engine, head);
}

static bool uring_reap(struct block_queue *queue)
{
	struct uring_queue *uring = queue->engine;
	struct io_uring_cqe *cqe;
	unsigned int head, count = 0;

	io_uring_for_each_cqe(&uring->ring, head, cqe)
	{
		struct block_request *request = io_uring_cqe_get_data(cqe);

		if (request->op == BLOCK_FLUSH)
			uring_flushed(uring, request, cqe->res);
		else
			uring_transferred(uring, request, cqe->res);
		count++;
	}
	if (!count)
		return false;
	io_uring_cq_advance(&uring->ring, count);
	uring_help(queue);
	return true;
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

		uring_transferred(uring, request, -EAGAIN);
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

static void uring_prepare(const struct uring_queue *uring, struct io_uring_sqe *sqe,
			  struct block_request *request, int fd)
{
	const struct iovec *iov = request->iov;

	if (request->op == BLOCK_FLUSH)
		io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
	else if (request->op == BLOCK_READ && request->iov_count == 1)
		io_uring_prep_read(sqe, fd, iov->iov_base, (unsigned int)iov->iov_len,
				   request->offset);
	else if (request->op == BLOCK_READ)
		io_uring_prep_readv(sqe, fd, iov, (unsigned int)request->iov_count,
				    request->offset);
	else if (request->iov_count == 1)
		io_uring_prep_write(sqe, fd, iov->iov_base, (unsigned int)iov->iov_len,
				    request->offset);
	else
		io_uring_prep_writev(sqe, fd, iov, (unsigned int)request->iov_count,
				     request->offset);
	if (request->op == BLOCK_WRITE && request->sync)
		sqe->rw_flags = RWF_DSYNC;
	if (uring->fixed)
		sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data(sqe, request);
}

/* Is it something that the ring can do, whole? */
static bool is_for_ring(const struct block_image *image, const struct block_request *request)
{
	if (request->op == BLOCK_FLUSH)
		return true;
	return (request->op == BLOCK_READ || request->op == BLOCK_WRITE) &&
	       request->iov_count <= IOV_MAX && request->length <= INT_MAX &&
	       block_is_aligned(image, request);
}

static bool is_for_now(const struct block_image *image, const struct block_request *request)
{
	return image->in_memory && request->length <= INLINE_MAX && request->op != BLOCK_DISCARD &&
	       request->op != BLOCK_WRITE_ZEROES;
}

static bool uring_put(struct block_queue *queue, struct block_request *request)
{
	struct block_image *image = &queue->block->image;
	struct uring_queue *uring = queue->engine;
	const bool needs_range = block_needs_range(image, request);
	struct io_uring_sqe *sqe;

	if (needs_range && !block_range_try(image, request_range(request), request))
		return false;
	sqe = uring_get_sqe(uring);
	if (sqe)
		uring_prepare(uring, sqe, request, uring->fixed ? 0 : image->fd);
	else if (needs_range)
		block_range_give(image, request_range(request));
	return sqe;
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
	else if (*block_progress(request) || !is_for_ring(image, request) ||
		 !uring_put(queue, request))
		block_list_add(&uring->helpers, request);
}

static void uring_start(struct block_queue *queue, struct block_request *head)
{
	struct uring_queue *uring = queue->engine;

	while (head) {
		struct block_request *next = head->next;

		uring_start_one(queue, head);
		head = next;
	}
	uring_enter(uring);
	uring_help(queue);
	uring_reap(queue);
}

/* ---- Life ---- */

static int uring_fd(const struct block_queue *queue)
{
	const struct uring_queue *uring = queue->engine;

	return uring->ring.ring_fd;
}

/* Any thread that has the queue's lock may use it, so it is not told of a single one. */
static int ring_init(struct io_uring *ring, unsigned int depth)
{
	int error = io_uring_queue_init(depth, ring, IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL);

	return error == -EINVAL ? io_uring_queue_init(depth, ring, IORING_SETUP_CLAMP) : error;
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

static int uring_queue_open(struct block_queue *queue)
{
	const struct block_image *image = &queue->block->image;
	struct uring_queue *uring = calloc(1, sizeof(*uring));
	int error =
		uring ? ring_init(&uring->ring, MIN(MAX(queue->depth, 1U), DEPTH_MAX)) : -ENOMEM;

	if (error) {
		log_error(image->log,
			  "%s: cannot make a queue of io_uring: %s (try "
			  "\"engine=threads\")",
			  image->name, strerror(-error));
		free(uring);
		return error;
	}
	uring->fixed = register_file(&uring->ring, image);
	block_list_init(&uring->helpers);
	queue->engine = uring;
	return 0;
}

static void uring_queue_close(struct block_queue *queue)
{
	struct uring_queue *uring = queue->engine;

	io_uring_queue_exit(&uring->ring);
	free(uring);
}

static int uring_open(struct block_backend *block, const struct block_config *config)
{
	struct io_uring ring;
	int error = ring_init(&ring, 1);

	if (error && config->engine == BLOCK_ENGINE_URING)
		log_error(block->image.log, "%s,engine=io_uring: %s (%s)", block->image.name,
			  strerror(-error), refusal_remedy(error));
	else if (error)
		log_debug(block->image.log, "%s: no io_uring: %s; a pool of threads does the I/O",
			  block->image.name, strerror(-error));
	if (error)
		return error;
	io_uring_queue_exit(&ring);
	block->engine = block_pool_open(block, config->threads);
	return block->engine ? 0 : -errno;
}

static void uring_close(struct block_backend *block)
{
	block_pool_close(block->engine);
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
