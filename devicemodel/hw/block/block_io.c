/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How one request is carried out on an image, in the calling thread: straight from and to the
 * caller's memory where alignment allows, by way of a buffer where not.
 */
#include "block_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

static uint64_t align_down(uint64_t value, uint64_t align)
{
	return value & ~(align - 1);
}

/* Copy @len bytes at byte @offset of the iovecs to @buffer, or the other way for @to_iov. */
static void iov_copy(const struct iovec *iov, int count, uint64_t offset, uint8_t *buffer,
		     uint64_t len, bool to_iov)
{
	for (int i = 0; i < count && len; i++) {
		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		uint64_t n = MIN(iov[i].iov_len - offset, len);
		uint8_t *at = (uint8_t *)iov[i].iov_base + offset;

		memcpy(to_iov ? at : buffer, to_iov ? buffer : at, n);
		buffer += n;
		len -= n;
		offset = 0;
	}
}

/* As much as one system call does: bytes, or -1 with errno. */
static ssize_t transfer(const struct block_image *image, enum block_op op, const struct iovec *iov,
			int count, uint64_t offset, bool sync)
{
	if (op == BLOCK_READ)
		return preadv(image->fd, iov, count, (off_t)offset);
	return pwritev2(image->fd, iov, count, (off_t)offset, sync ? RWF_DSYNC : 0);
}

/*
 * All @len bytes or an error. Nothing more to read means that the file was cut short under us;
 * so does, for O_DIRECT, an odd count, after which it would only say EINVAL.
 */
static int transfer_all(const struct block_image *image, enum block_op op, uint8_t *buffer,
			uint64_t len, uint64_t offset, bool sync)
{
	while (len) {
		struct iovec iov = { buffer, len };
		ssize_t n = TEMP_FAILURE_RETRY(transfer(image, op, &iov, 1, offset, sync));

		if (n < 0)
			return -errno;
		if (n == 0 || ((uint64_t)n < len && n % image->offset_alignment))
			return -EIO;
		buffer += n;
		len -= (uint64_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

static int read_all(const struct block_image *image, uint8_t *buffer, uint64_t len, uint64_t offset)
{
	return transfer_all(image, BLOCK_READ, buffer, len, offset, false);
}

/* Bytes [@from, @request->length) of a READ by way of @buffer. */
static int read_buffered(const struct block_image *image, uint8_t *buffer,
			 const struct block_request *request, uint64_t from)
{
	const uint64_t end = request->offset + request->length, align = image->offset_alignment;

	while (from < request->length) {
		uint64_t position = request->offset + from;
		uint64_t start = align_down(position, align);
		uint64_t len = MIN(align_up(end, align) - start, BLOCK_BUFFER_SIZE);
		uint64_t n = MIN(end, start + len) - position;
		int error = read_all(image, buffer, len, start);

		if (error)
			return error;
		iov_copy(request->iov, request->iov_count, from, buffer + (position - start), n,
			 true);
		from += n;
	}
	return 0;
}

/* Read what a write of [@first, @last) leaves alone in the first and last block of @buffer. */
static int read_edges(const struct block_image *image, uint8_t *buffer, uint64_t start,
		      uint64_t len, uint64_t first, uint64_t last)
{
	const uint64_t align = image->offset_alignment, tail = start + len - align;
	int error = 0;

	if (first > start)
		error = read_all(image, buffer, align, start);
	if (!error && last < start + len && (tail > start || first == start))
		error = read_all(image, buffer + (tail - start), align, tail);
	return error;
}

/* Bytes [@from, @request->length) of a WRITE or WRITE_ZEROES by way of @buffer. */
static int write_buffered(const struct block_image *image, uint8_t *buffer,
			  const struct block_request *request, uint64_t from)
{
	const uint64_t end = request->offset + request->length, align = image->offset_alignment;

	while (from < request->length) {
		uint64_t position = request->offset + from;
		uint64_t start = align_down(position, align);
		uint64_t len = MIN(align_up(end, align) - start, BLOCK_BUFFER_SIZE);
		uint64_t n = MIN(end, start + len) - position;
		int error = read_edges(image, buffer, start, len, position, position + n);

		if (error)
			return error;
		if (request->op == BLOCK_WRITE_ZEROES)
			memset(buffer + (position - start), 0, n);
		else
			iov_copy(request->iov, request->iov_count, from,
				 buffer + (position - start), n, false);
		error = transfer_all(image, BLOCK_WRITE, buffer, len, start, request->sync);
		if (error)
			return error;
		from += n;
	}
	return 0;
}

bool block_is_aligned(const struct block_image *image, const struct block_request *request)
{
	uint64_t bits = request->offset | request->length;
	uint64_t addresses = 0;

	if (!image->direct)
		return true;
	for (int i = 0; i < request->iov_count; i++) {
		bits |= request->iov[i].iov_len;
		addresses |= (uintptr_t)request->iov[i].iov_base;
	}
	return !(bits & (image->offset_alignment - 1)) &&
	       !(addresses & (image->memory_alignment - 1));
}

static ssize_t transfer_request(const struct block_image *image,
				const struct block_request *request)
{
	return transfer(image, request->op, request->iov, MIN(request->iov_count, IOV_MAX),
			request->offset, request->sync);
}

/* A short transfer is rare (a signal, the end of space): what is left goes through the buffer. */
static int io_transfer(const struct block_image *image, void *buffer, struct block_request *request)
{
	ssize_t n = (ssize_t)*block_progress(request);

	if (!n && block_is_aligned(image, request)) {
		n = TEMP_FAILURE_RETRY(transfer_request(image, request));
		if (n < 0)
			return -errno;
	}
	return request->op == BLOCK_READ ? read_buffered(image, buffer, request, (uint64_t)n)
					 : write_buffered(image, buffer, request, (uint64_t)n);
}

/*
 * After a failed write-back the kernel forgets the pages and the next fdatasync() succeeds; but
 * what the guest wrote is lost, so no later flush may claim otherwise, nor one that was under way.
 * O_DIRECT has no such pages.
 */
int block_flushed(struct block_image *image, int error)
{
	if (!error)
		return __atomic_load_n(&image->flush_error, __ATOMIC_SEQ_CST);
	if (!image->direct)
		__atomic_store_n(&image->flush_error, error, __ATOMIC_SEQ_CST);
	return error;
}

static int io_fdatasync(const struct block_image *image)
{
	return TEMP_FAILURE_RETRY(fdatasync(image->fd)) < 0 ? -errno : 0;
}

/*
 * One at a time, since the kernel tells of a failure once for each open file. Who waited for one that
 * had not begun when it came is done with that.
 */
static int io_flush(struct block_image *image)
{
	const uint64_t begun = __atomic_load_n(&image->flushes_begun, __ATOMIC_SEQ_CST);
	int error;

	if (image->direct)
		return io_fdatasync(image);
	pthread_mutex_lock(&image->flush_lock);
	error = block_flushed(image, 0);
	if (!error && image->flushes_begun == begun) {
		__atomic_store_n(&image->flushes_begun, begun + 1, __ATOMIC_SEQ_CST);
		error = block_flushed(image, io_fdatasync(image));
	}
	pthread_mutex_unlock(&image->flush_lock);
	return error;
}

static int io_fallocate(const struct block_image *image, int mode,
			const struct block_request *request)
{
	if (TEMP_FAILURE_RETRY(fallocate(image->fd, mode | FALLOC_FL_KEEP_SIZE,
					 (off_t)request->offset, (off_t)request->length)) == 0)
		return 0;
	/* EINVAL: not whole blocks of a device; ENODEV: an old kernel's word for not supported. */
	return errno == ENOSYS || errno == EINVAL || errno == ENODEV ? -EOPNOTSUPP : -errno;
}

static int io_discard(const struct block_image *image, const struct block_request *request)
{
	const uint64_t align = image->logical_block_size;
	uint64_t end = align_down(request->offset + request->length, align);
	uint64_t range[2] = { align_up(request->offset, align) };

	if (!image->is_device)
		return io_fallocate(image, FALLOC_FL_PUNCH_HOLE, request);
	if (end <= range[0])
		return 0;
	range[1] = end - range[0];
	return ioctl(image->fd, BLKDISCARD, range) < 0 ? -errno : 0;
}

/* For a block device as well: the kernel makes BLKZEROOUT and its unmapping twin of these. */
static int zeroes_by_fallocate(struct block_image *image, const struct block_request *request)
{
	int error = -EOPNOTSUPP;

	if (request->unmap && image->can_discard)
		error = io_fallocate(image, FALLOC_FL_PUNCH_HOLE, request);
	if (error != -EOPNOTSUPP || __atomic_load_n(&image->no_zero_range, __ATOMIC_RELAXED))
		return error;
	error = io_fallocate(image, FALLOC_FL_ZERO_RANGE, request);
	if (error == -EOPNOTSUPP && !image->is_device)
		__atomic_store_n(&image->no_zero_range, true, __ATOMIC_RELAXED);
	return error;
}

static int io_write_zeroes(struct block_image *image, void *buffer,
			   const struct block_request *request)
{
	int error = zeroes_by_fallocate(image, request);

	if (error == -EOPNOTSUPP)
		return write_buffered(image, buffer, request, 0);
	if (!error && request->sync)
		error = io_flush(image);
	return error;
}

static int io_carry_out(struct block_image *image, void *buffer, struct block_request *request)
{
	switch (request->op) {
	case BLOCK_READ:
	case BLOCK_WRITE:
		return io_transfer(image, buffer, request);
	case BLOCK_FLUSH:
		return io_flush(image);
	case BLOCK_DISCARD:
		return io_discard(image, request);
	case BLOCK_WRITE_ZEROES:
		return io_write_zeroes(image, buffer, request);
	}
	return -EOPNOTSUPP;
}

static bool range_is_free(const struct block_image *image, const struct block_range *range)
{
	for (const struct block_range *other = image->ranges; other; other = other->next)
		if (range->start < other->end && other->start < range->end)
			return false;
	return true;
}

static void range_take(struct block_image *image, struct block_range *range,
		       const struct block_request *request)
{
	range->start = align_down(request->offset, image->offset_alignment);
	range->end = align_up(request->offset + request->length, image->offset_alignment);
	pthread_mutex_lock(&image->ranges_lock);
	while (!range_is_free(image, range))
		pthread_cond_wait(&image->ranges_changed, &image->ranges_lock);
	range->next = image->ranges;
	image->ranges = range;
	pthread_mutex_unlock(&image->ranges_lock);
}

static void range_give(struct block_image *image, struct block_range *range)
{
	struct block_range **link = &image->ranges;

	pthread_mutex_lock(&image->ranges_lock);
	while (*link != range)
		link = &(*link)->next;
	*link = range->next;
	pthread_cond_broadcast(&image->ranges_changed);
	pthread_mutex_unlock(&image->ranges_lock);
}

/*
 * A write of part of a block is a read and a write of all of it: nobody else may change the block
 * in between. Without O_DIRECT the page cache sees to that, and blocks of a sector have no parts.
 */
bool block_needs_range(const struct block_image *image, const struct block_request *request)
{
	return image->direct && image->offset_alignment > BLOCK_SECTOR_SIZE &&
	       request->op != BLOCK_READ && request->op != BLOCK_FLUSH;
}

int block_io(struct block_image *image, void *buffer, struct block_request *request)
{
	struct block_range range;
	int error;

	if (!request->length && request->op != BLOCK_FLUSH)
		return 0;
	if (!block_needs_range(image, request))
		return io_carry_out(image, buffer, request);

	range_take(image, &range, request);
	error = io_carry_out(image, buffer, request);
	range_give(image, &range);
	return error;
}

bool block_io_now(struct block_image *image, struct block_request *request, int *error)
{
	ssize_t n;

	if (request->op == BLOCK_FLUSH) {
		*error = io_flush(image);
		return true;
	}
	if (request->iov_count > IOV_MAX || !block_is_aligned(image, request))
		return false;
	n = transfer_request(image, request);
	if (n > 0 && (uint64_t)n < request->length)
		*block_progress(request) = (uint64_t)n;
	if (n == (ssize_t)request->length)
		*error = 0;
	else if (n <= 0)
		*error = n ? -errno : -EIO;
	else
		return false;
	return *error != -EINTR;
}
