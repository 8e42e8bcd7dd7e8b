/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * block_lab.h: an image, a queue and a loop, for unit tests of block_backend.h; on each engine.
 */
#ifndef TENON_TESTS_BLOCK_LAB_H
#define TENON_TESTS_BLOCK_LAB_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../devicemodel/hw/block/block_internal.h"
#include "captured_log.h"
#include "event_loop.h"

#define IMAGE_SIZE MIB(4)
#define SECTOR 512
#define QUEUE_DEPTH 256
#define WAIT_MS 10000

struct fixture {
	struct captured_log captured;
	struct event_loop *loop;
	pthread_mutex_t lock;
	struct block_backend *block;
	struct block_queue *queue;
	enum block_engine engine;
	struct block_limit iops, bps;
	struct guest_memory *memory; /* to be pinned */
	char path[PATH_MAX];
	unsigned int done, batches, resizes;
	bool in_submit;
	bool resubmit;
	int last_error;
	struct block_request *more; /* @more_count of them were submitted when there was room */
	unsigned int more_count;
};

static inline void on_resized(void *arg)
{
	((struct fixture *)arg)->resizes++;
}

static inline void on_batch_end(void *arg)
{
	((struct fixture *)arg)->batches++;
}

static const struct block_ops ops = { .resized = on_resized };
static const struct block_queue_ops queue_ops = { .batch_end = on_batch_end };

static inline void on_done(struct block_request *request, int error)
{
	struct fixture *fixture = request->arg;

	assert_false(fixture->in_submit);
	fixture->done++;
	fixture->last_error = error;
	if (!fixture->resubmit || fixture->done % 2)
		return;
	fixture->in_submit = true;
	block_submit(fixture->queue, request);
	fixture->in_submit = false;
}

static inline void image_create(struct fixture *fixture, const char *directory, off_t size)
{
	int fd;

	snprintf(fixture->path, sizeof(fixture->path), "%s/tenon-block-XXXXXX", directory);
	fd = mkstemp(fixture->path);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
}

static inline const char *temporary_directory(void)
{
	return getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
}

static inline int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	fixture->engine = BLOCK_ENGINE_THREADS;
	captured_log_init(&fixture->captured);
	pthread_mutex_init(&fixture->lock, NULL);
	fixture->loop = event_loop_create("test");
	image_create(fixture, temporary_directory(), IMAGE_SIZE);
	*state = fixture;
	return 0;
}

static inline int setup_uring(void **state)
{
	struct fixture *fixture;

	setup(state);
	fixture = *state;
	fixture->engine = BLOCK_ENGINE_URING;
	return 0;
}

/* The same test on each engine. */
#define ON_EACH_ENGINE(test)                                                                       \
	{ #test ", threads", test, setup, teardown, NULL },                                        \
	{                                                                                          \
#test ", io_uring", test, setup_uring, teardown, NULL                              \
	}

static inline void close_queue(struct fixture *fixture)
{
	pthread_mutex_lock(&fixture->lock);
	if (fixture->queue)
		block_drain(fixture->queue);
	block_queue_close(fixture->queue);
	fixture->queue = NULL;
	pthread_mutex_unlock(&fixture->lock);
}

static inline void close_block(struct fixture *fixture)
{
	close_queue(fixture);
	pthread_mutex_lock(&fixture->lock);
	block_close(fixture->block);
	fixture->block = NULL;
	pthread_mutex_unlock(&fixture->lock);
}

static inline int teardown(void **state)
{
	struct fixture *fixture = *state;

	close_block(fixture);
	event_loop_destroy(fixture->loop);
	unlink(fixture->path);
	captured_log_deinit(&fixture->captured);
	pthread_mutex_destroy(&fixture->lock);
	free(fixture);
	return 0;
}

static struct block_backend *try_open(struct fixture *fixture, const char *path, bool read_only,
				      bool direct)
{
	const struct block_config config = { .path = path,
					     .read_only = read_only,
					     .direct = direct,
					     .threads = 4,
					     .engine = fixture->engine,
					     .iops = fixture->iops,
					     .bps = fixture->bps,
					     .memory = fixture->memory,
					     .pin = fixture->memory };

	return block_open(&fixture->captured.log, "virtio-blk", &config, fixture->loop,
			  &fixture->lock, &ops, fixture);
}

static inline bool logged(struct fixture *fixture, const char *text)
{
	for (unsigned int i = 0; i < MIN(fixture->captured.count, CAPTURED_LINES); i++)
		if (strstr(fixture->captured.lines[i], text))
			return true;
	return false;
}

static inline void open_queue(struct fixture *fixture)
{
	fixture->queue = block_queue_open(fixture->block, fixture->loop, &fixture->lock,
					  QUEUE_DEPTH, &queue_ops, fixture);
	assert_non_null(fixture->queue);
}

static inline void open_block_only(struct fixture *fixture, bool read_only, bool direct)
{
	fixture->block = try_open(fixture, fixture->path, read_only, direct);
	if (!fixture->block && direct && errno == EINVAL) {
		print_message("no direct I/O on the file system of %s\n", fixture->path);
		skip();
	}
	if (!fixture->block && logged(fixture, "engine=io_uring: ")) {
		print_message("%s\n", fixture->captured.lines[0]);
		skip();
	}
	assert_non_null(fixture->block);
}

static inline void open_block(struct fixture *fixture, bool read_only, bool direct)
{
	open_block_only(fixture, read_only, direct);
	open_queue(fixture);
}

/* For tests that cannot skip() later. */
static inline void need_engine(struct fixture *fixture)
{
	open_block(fixture, false, false);
	close_block(fixture);
}

static inline void submit(struct fixture *fixture, struct block_request *request)
{
	request->done = on_done;
	request->arg = fixture;
	fixture->in_submit = true;
	block_submit(fixture->queue, request);
	fixture->in_submit = false;
}

/* Run one request to its end on the loop. */
static inline int run(struct fixture *fixture, struct block_request *request)
{
	unsigned int before = fixture->done;

	for (int i = 0; i < request->iov_count; i++)
		request->length += request->iov[i].iov_len;
	pthread_mutex_lock(&fixture->lock);
	submit(fixture, request);
	block_kick(fixture->queue);
	pthread_mutex_unlock(&fixture->lock);
	while (fixture->done == before)
		event_loop_poll(fixture->loop, WAIT_MS);
	assert_int_equal(fixture->done, before + 1);
	return fixture->last_error;
}

static inline int run_data(struct fixture *fixture, enum block_op op, void *data, size_t len,
			   uint64_t offset)
{
	struct iovec iov = { data, len };
	struct block_request request = { .op = op, .iov = &iov, .iov_count = 1, .offset = offset };

	return run(fixture, &request);
}

static inline int run_range(struct fixture *fixture, enum block_op op, uint64_t offset,
			    uint64_t length, bool unmap)
{
	struct block_request request = {
		.op = op, .offset = offset, .length = length, .unmap = unmap
	};

	return run(fixture, &request);
}

static inline void fill(uint8_t *data, size_t len, unsigned int seed)
{
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)((i * 31 + seed * 7 + (i >> 9)) | 1);
}

/* What is in the file, seen from outside. */
static inline void assert_file(struct fixture *fixture, uint64_t offset, const void *data,
			       size_t len)
{
	uint8_t *seen = malloc(len);
	int fd = open(fixture->path, O_RDONLY);

	assert_int_equal(pread(fd, seen, len, (off_t)offset), len);
	assert_memory_equal(seen, data, len);
	close(fd);
	free(seen);
}

static inline void open_null(struct fixture *fixture, const char *size)
{
	unlink(fixture->path);
	snprintf(fixture->path, sizeof(fixture->path), "null:%s", size);
	fixture->engine = BLOCK_ENGINE_AUTO;
	open_block(fixture, false, false);
}

/* @count requests of @length bytes each, all started at once; @requests stay in use. */
static inline void start_many(struct fixture *fixture, struct block_request *requests,
			      unsigned int count, const struct block_request *like)
{
	pthread_mutex_lock(&fixture->lock);
	for (unsigned int i = 0; i < count; i++) {
		requests[i] = *like;
		submit(fixture, &requests[i]);
	}
	block_kick(fixture->queue);
	pthread_mutex_unlock(&fixture->lock);
}

#endif
