/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Between the parts of the block back end: the image (block_image.c), how one request is carried
 * out on it (block_io.c), the engines that do so concurrently (block_threads.c), and the queueing
 * and completion that engines share (block_backend.c).
 */
#ifndef TENON_BLOCK_INTERNAL_H
#define TENON_BLOCK_INTERNAL_H

#include <pthread.h>

#include "block_backend.h"

/* struct block_range - bytes [@start, @end) of an image that somebody is changing. */
struct block_range {
	uint64_t start, end;
	struct block_range *next;
};

/*
 * struct block_image - an open file or block device.
 * @name: what and path, for messages
 * @offset_alignment, @memory_alignment: what O_DIRECT asks of offset and length, and of addresses;
 *                                       powers of two, 1 without O_DIRECT
 * @no_zero_range: the file system cannot FALLOC_FL_ZERO_RANGE; atomic
 * @flush_error: once a flush has failed, all later ones do, with this; atomic
 * @ranges: being written now; with O_DIRECT only
 */
struct block_image {
	struct logger *log;
	char *name;
	int fd;
	bool is_device;
	bool read_only;
	bool direct;
	bool can_discard;
	uint32_t logical_block_size, physical_block_size;
	uint32_t offset_alignment, memory_alignment;

	bool no_zero_range;
	int flush_error;

	pthread_mutex_t ranges_lock;
	pthread_cond_t ranges_changed;
	struct block_range *ranges;
};

/* block_image_open() - 0, or -errno after one log line; then there is nothing to close. */
int block_image_open(struct block_image *image, struct logger *log, const char *what,
		     const struct block_config *config) __must_check;
void block_image_close(struct block_image *image);

/* block_image_size() - its size now, in whole direct I/O blocks; -errno. Any thread. */
int block_image_size(const struct block_image *image, uint64_t *size) __must_check;

/* What a thread needs to carry out requests: scratch memory, aligned for O_DIRECT. */
#define BLOCK_BUFFER_SIZE KIB(256)
#define BLOCK_ALIGNMENT_MAX KIB(64)

/*
 * block_io() - carry out @request in this thread. 0 or -errno.
 * @buffer: BLOCK_BUFFER_SIZE bytes aligned to BLOCK_ALIGNMENT_MAX, not used by anybody else
 */
int block_io(struct block_image *image, void *buffer,
	     const struct block_request *request) __must_check;

/*
 * struct block_engine_ops - something that carries out requests concurrently.
 * @open: start it; sets block->engine. 0 or -errno after one log line
 * @close: end it; no request is in flight
 * @start: take over the requests linked from @head, in that order (none waits for another), and
 *         hand each to block_complete() once. Lock of the back end's user held
 */
struct block_engine_ops {
	const char *name;
	int (*open)(struct block_backend *block, const struct block_config *config);
	void (*close)(struct block_backend *block);
	void (*start)(struct block_backend *block, struct block_request *head);
};

extern const struct block_engine_ops block_threads_ops;

/*
 * struct block_backend - an image, its engine, and requests on their way in and out.
 * @size: as the user knows it; requests are checked against it
 * @submitted, @submitted_tail: wait for block_kick()
 * @in_flight: submitted and not done
 * @completed: newest first; pushed by any thread, taken whole by the loop; atomic
 * @completed_fd: eventfd, signalled when @completed becomes non-empty
 * @watch_fd: inotify, says that somebody may have changed the file's size; -1 without
 */
struct block_backend {
	struct block_image image;
	const struct block_engine_ops *engine_ops;
	void *engine;
	const struct block_ops *ops;
	void *arg;
	uint64_t size;

	struct block_request *submitted, **submitted_tail;
	unsigned int in_flight;
	struct block_request *completed;
	int completed_fd;
	struct event_source *completed_source;
	int watch_fd;
	struct event_source *watch_source;
};

/* block_complete() - @request is over; any thread. Its done() runs later, on the loop. */
void block_complete(struct block_backend *block, struct block_request *request, int error);

#endif
