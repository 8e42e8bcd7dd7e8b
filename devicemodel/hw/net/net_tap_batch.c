/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames that are written to a tap's queue together.
 */
#include "net_tap_batch.h"

#ifndef HAVE_LIBURING

struct tap_batch *tap_batch_create(int fd)
{
	return NULL;
}

void tap_batch_destroy(struct tap_batch *batch)
{
}

bool tap_batch_add(struct tap_batch *batch, const struct iovec *iov, int count)
{
	return false;
}

unsigned int tap_batch_write(struct tap_batch *batch)
{
	return 0;
}

#else

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>

#define FRAMES 32
#define IOVECS 512
#define FEW 4 /* so few frames are cheaper written one by one */

/*
 * @broken: the ring is not to be used any more: what it did not take is still in it
 * @first, @count: where a frame is in @iov
 */
struct tap_batch {
	struct io_uring ring;
	int fd;
	bool broken;
	unsigned int frame_count, iov_count;
	struct {
		unsigned int first, count;
	} frames[FRAMES];
	struct iovec iov[IOVECS];
};

struct tap_batch *tap_batch_create(int fd)
{
	struct tap_batch *batch = calloc(1, sizeof(*batch));

	if (!batch)
		return NULL;
	batch->fd = fd;
	if (!io_uring_queue_init(FRAMES, &batch->ring, 0))
		return batch;
	free(batch);
	return NULL;
}

void tap_batch_destroy(struct tap_batch *batch)
{
	if (!batch)
		return;
	io_uring_queue_exit(&batch->ring);
	free(batch);
}

bool tap_batch_add(struct tap_batch *batch, const struct iovec *iov, int count)
{
	unsigned int needed = (unsigned int)count;

	if (batch->frame_count == FRAMES || IOVECS - batch->iov_count < needed)
		return false;
	memcpy(&batch->iov[batch->iov_count], iov, needed * sizeof(*iov));
	batch->frames[batch->frame_count].first = batch->iov_count;
	batch->frames[batch->frame_count].count = needed;
	batch->iov_count += needed;
	batch->frame_count++;
	return true;
}

/* Those from @from on. */
static unsigned int write_one_by_one(const struct tap_batch *batch, unsigned int from)
{
	unsigned int lost = 0;

	for (unsigned int i = from; i < batch->frame_count; i++)
		lost += writev(batch->fd, &batch->iov[batch->frames[i].first],
			       (int)batch->frames[i].count) < 0;
	return lost;
}

/*
 * The descriptor is not registered: the ring, whose end the kernel takes its time for, would keep the
 * interface when everybody else is done with it.
 */
static void prepare_all(struct tap_batch *batch)
{
	for (unsigned int i = 0; i < batch->frame_count; i++)
		io_uring_prep_writev(io_uring_get_sqe(&batch->ring), batch->fd,
				     &batch->iov[batch->frames[i].first], batch->frames[i].count,
				     0);
}

/* So many of the frames were taken. */
static unsigned int submit_all(struct tap_batch *batch)
{
	unsigned int submitted = 0;

	prepare_all(batch);
	while (submitted < batch->frame_count) {
		int count = io_uring_submit(&batch->ring);

		if (count > 0)
			submitted += (unsigned int)count;
		else if (count != -EINTR)
			break;
	}
	return submitted;
}

/* All that was submitted is over when this returns: the descriptor does not block. */
static unsigned int write_together(struct tap_batch *batch)
{
	unsigned int submitted = submit_all(batch), lost = 0;

	for (unsigned int i = 0; i < submitted; i++) {
		struct io_uring_cqe *cqe;
		int error;

		do
			error = io_uring_wait_cqe(&batch->ring, &cqe);
		while (error == -EINTR);
		batch->broken |= error;
		if (error)
			return lost + submitted - i;
		lost += cqe->res < 0;
		io_uring_cqe_seen(&batch->ring, cqe);
	}
	if (submitted == batch->frame_count)
		return lost;
	batch->broken = true;
	return lost + write_one_by_one(batch, submitted);
}

unsigned int tap_batch_write(struct tap_batch *batch)
{
	bool few = batch->frame_count < FEW || batch->broken;
	unsigned int lost = few ? write_one_by_one(batch, 0) : write_together(batch);

	batch->frame_count = batch->iov_count = 0;
	return lost;
}

#endif
