/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * block_backend.h: disks on the host: raw files and block devices, behind an engine that does the I/O.
 */
#ifndef TENON_BLOCK_BACKEND_H
#define TENON_BLOCK_BACKEND_H

#include <sys/uio.h>

#include "event.h"
#include "log.h"
#include "util.h"

TENON_API_BEGIN

struct guest_memory;
struct block_backend; /* an open image */
struct block_queue; /* where one thread hands in requests for it and gets them back */

enum block_op { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD, BLOCK_WRITE_ZEROES };

/**
 * struct block_request - one request; memory is the caller's, who fills all above the line and
 * leaves it alone until @done.
 * @iov, @iov_count: data of READ and WRITE, not changed; need no alignment, whatever the image needs
 * @offset, @length: bytes; for READ and WRITE @length is the sum of @iov
 * @unmap: WRITE_ZEROES may deallocate
 * @sync: WRITE and WRITE_ZEROES: what was written is on stable storage when @done is called
 * @continues: a further part of what had its turn before; rate limits do not count it
 * @done: called once, on the queue's loop, or from block_kick() or block_drain(), the queue's lock
 *        held; @error 0 or a negative errno (a short transfer is -EIO). Never called from inside
 *        block_submit(). May submit, must not drain
 * @cancelled: for @done: it waited for a rate limit when block_drain() was called, and was not begun
 */
struct block_request {
	enum block_op op;
	bool unmap;
	bool sync;
	bool continues;
	const struct iovec *iov;
	int iov_count;
	uint64_t offset;
	uint64_t length;
	void (*done)(struct block_request *request, int error);
	void *arg;
	/* ---- the back end's */
	bool cancelled;
	int error;
	struct block_request *next;
	struct block_queue *queue;
	uint64_t engine; /* the engine's */
};

#define BLOCK_THREADS_MAX 64

/* enum block_engine - who carries requests out; in the order of the choices of "engine". */
enum block_engine { BLOCK_ENGINE_AUTO, BLOCK_ENGINE_URING, BLOCK_ENGINE_THREADS };

/**
 * struct block_limit - so many a second, on average; 0: no limit.
 * @burst: how many of them an idle disk may do at once, on top; 0: a tenth of a second's
 */
struct block_limit {
	uint64_t rate;
	uint64_t burst;
};

/**
 * struct block_config - how to open an image.
 * @path: raw file or block device; "null:SIZE" is a disk of zeroes that forgets what is written
 * @engine: AUTO takes io_uring where the kernel and the build have it; URING is an error without
 * @iops, @bps: of all queues together; requests, and bytes of READ, WRITE and WRITE_ZEROES
 * @memory: guest memory; NULL: unknown
 * @pin: have io_uring keep the pages of @memory, if it is ours, from the first request on
 * @no_polling: loops do not look for completions, they are told of them
 * @read_only: open for reading; take the image lock shared
 * @direct: O_DIRECT, bypass the host's page cache
 * @threads: workers, 1..BLOCK_THREADS_MAX
 */
struct block_config {
	const char *path;
	bool read_only;
	bool direct;
	unsigned int threads;
	enum block_engine engine;
	struct block_limit iops, bps;
	struct guest_memory *memory;
	bool pin;
	bool no_polling;
};

/**
 * struct block_ops - what the user of an image wants to know; may be NULL. On the loop of block_open(),
 * its lock held.
 * @resized: the image's size changed; block_get_info() tells the new one
 */
struct block_ops {
	void (*resized)(void *arg);
};

/** struct block_info - what an image is like. Sizes in bytes. */
struct block_info {
	uint64_t size;
	uint32_t logical_block_size; /* 512..4096, power of two */
	uint32_t physical_block_size; /* power of two, not below the logical one */
	bool read_only;
	bool can_discard; /* and WRITE_ZEROES with unmap may deallocate */
};

/**
 * block_open() - open and lock an image.
 * @what: for messages ("virtio-blk")
 * Return: the back end or NULL with errno after one log line naming file, cause and remedy.
 */
struct block_backend *block_open(struct logger *log, const char *what,
				 const struct block_config *config, struct event_loop *loop,
				 pthread_mutex_t *lock, const struct block_ops *ops,
				 void *arg) __must_check;

/** block_close() - after all its queues are closed; lock held or the loop not running; NULL is harmless. */
void block_close(struct block_backend *block);

/** block_get_info() - lock held, or from init. */
void block_get_info(const struct block_backend *block, struct block_info *info);

/**
 * struct block_queue_ops - what the user of a queue wants to know. On the queue's loop, or from
 * block_kick() or block_drain(), the queue's lock held.
 * @batch_end: the last done() of a batch has been called: time to tell others of all at once
 * @room: nothing waits for a rate limit any more, as it did when block_room() was asked. May submit,
 *        must not drain; what it submits needs no kick. NULL: block_room() is not asked
 */
struct block_queue_ops {
	void (*batch_end)(void *arg);
	void (*room)(void *arg);
};

/**
 * block_queue_open() - a way to hand in requests from one thread; several work at the same time.
 * @loop, @lock: where completions are told, and what is held around them and by who calls the
 *               functions below
 * @depth: requests in flight at most
 * Return: the queue or NULL with errno after one log line.
 */
struct block_queue *block_queue_open(struct block_backend *block, struct event_loop *loop,
				     pthread_mutex_t *lock, unsigned int depth,
				     const struct block_queue_ops *ops, void *arg) __must_check;

/** block_queue_close() - after block_drain(); lock held or the loop not running; NULL is harmless. */
void block_queue_close(struct block_queue *queue);

/**
 * block_submit() - have @request wait for block_kick(). It is checked here: out of range is -EIO,
 * changing a read-only image -EROFS, both through done. A FLUSH covers what was done() before it was
 * submitted, by whichever queue. Lock held.
 */
void block_submit(struct block_queue *queue, struct block_request *request);

/**
 * block_room() - how many requests may be submitted before it is asked again, so that no more than one
 * waits for a rate limit; 0: one does, and room() is called when it does not any more. Lock held.
 */
unsigned int block_room(struct block_queue *queue);

/** block_kick() - start all that was submitted; done() may be called in it. What done() submits needs no kick. Lock held. */
void block_kick(struct block_queue *queue);

/**
 * block_drain() - wait until no request of @queue is in flight; their done callbacks have run when it
 * returns (in this thread). What waits for a rate limit is not waited for, nor done: it is @cancelled,
 * with -ECANCELED. Lock held; not from inside done, resized, batch_end or room.
 */
void block_drain(struct block_queue *queue);

TENON_API_END

#endif
