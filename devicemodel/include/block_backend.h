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

struct block_backend;

enum block_op { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD, BLOCK_WRITE_ZEROES };

/**
 * struct block_request - one request; memory is the caller's, who fills all above the line and
 * leaves it alone until @done.
 * @iov, @iov_count: data of READ and WRITE, not changed; need no alignment, whatever the image needs
 * @offset, @length: bytes; for READ and WRITE @length is the sum of @iov
 * @unmap: WRITE_ZEROES may deallocate
 * @sync: WRITE and WRITE_ZEROES: what was written is on stable storage when @done is called
 * @done: called once, on the loop given to block_open() or from block_drain(), lock held; @error 0
 *        or a negative errno (a short transfer is -EIO). Never called from inside block_submit().
 *        May submit, must not drain
 */
struct block_request {
	enum block_op op;
	bool unmap;
	bool sync;
	const struct iovec *iov;
	int iov_count;
	uint64_t offset;
	uint64_t length;
	void (*done)(struct block_request *request, int error);
	void *arg;
	/* ---- the back end's */
	int error;
	struct block_request *next;
};

#define BLOCK_THREADS_MAX 64

/**
 * struct block_config - how to open an image.
 * @path: raw file or block device
 * @read_only: open for reading; take the image lock shared
 * @direct: O_DIRECT, bypass the host's page cache
 * @threads: workers, 1..BLOCK_THREADS_MAX
 */
struct block_config {
	const char *path;
	bool read_only;
	bool direct;
	unsigned int threads;
};

/**
 * struct block_ops - what the user of an image wants to know; each may be NULL. Called like
 * block_request.done.
 * @resized: the image's size changed; block_get_info() tells the new one
 * @batch_end: the last done() of a batch has been called: time to tell others of all at once
 */
struct block_ops {
	void (*resized)(void *arg);
	void (*batch_end)(void *arg);
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

/** block_close() - after block_drain(), lock held or the loop not running; NULL is harmless. */
void block_close(struct block_backend *block);

/** block_get_info() - lock held. */
void block_get_info(const struct block_backend *block, struct block_info *info);

/**
 * block_submit() - queue @request for block_kick(). It is checked here: out of range is -EIO,
 * changing a read-only image -EROFS, both through done. Lock held.
 */
void block_submit(struct block_backend *block, struct block_request *request);

/** block_kick() - start all that was submitted. What done() submits needs no kick. Lock held. */
void block_kick(struct block_backend *block);

/**
 * block_drain() - wait until no request is in flight; their done callbacks have run when it
 * returns (in this thread). Lock held; not from inside done, resized or batch_end.
 */
void block_drain(struct block_backend *block);

TENON_API_END

#endif
