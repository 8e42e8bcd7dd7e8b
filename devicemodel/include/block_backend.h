/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * block_backend.h: disks on the host: raw files and block devices, behind an engine that does the I/O.
 */
#ifndef TENON_BLOCK_BACKEND_H
#define TENON_BLOCK_BACKEND_H

#include <sys/uio.h>

#include "event_loop.h"
#include "log.h"
#include "util.h"

struct block_backend;

enum block_op { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD, BLOCK_WRITE_ZEROES };

/**
 * struct block_request - one request; memory is the caller's, who fills all above the line and
 * leaves it alone until @done.
 * @iov, @iov_count: data of READ and WRITE; need no alignment, whatever the image needs
 * @offset, @length: bytes; for READ and WRITE @length is the sum of @iov
 * @unmap: WRITE_ZEROES may deallocate
 * @done: called once, on the loop given to block_open() with its lock held; @error 0 or a negative
 *        errno (a short transfer is -EIO). Never called from inside block_submit()
 */
struct block_request {
	enum block_op op;
	bool unmap;
	struct iovec *iov;
	int iov_count;
	uint64_t offset;
	uint64_t length;
	void (*done)(struct block_request *request, int error);
	void *arg;
	/* ---- the back end's */
	int error;
	struct block_request *next;
};

/**
 * struct block_config - how to open an image.
 * @path: raw file or block device
 * @read_only: open for reading; take the image lock shared
 * @direct: O_DIRECT, bypass the host's page cache
 * @threads: workers, 1..64
 */
struct block_config {
	const char *path;
	bool read_only;
	bool direct;
	unsigned int threads;
};

/** struct block_info - what an image is like. Sizes in bytes. */
struct block_info {
	uint64_t size;
	uint32_t logical_block_size;  /* 512..4096, power of two */
	uint32_t physical_block_size;
	bool read_only;
	bool can_discard;
	bool can_write_zeroes;
};

/**
 * block_open() - open and lock an image.
 * @what: for messages ("virtio-blk")
 * @resized: called (loop, lock held) when the image's size changed while open; may be NULL
 * Return: the back end or NULL with errno after one log line naming file, cause and remedy.
 */
struct block_backend *block_open(struct logger *log, const char *what,
				 const struct block_config *config, struct event_loop *loop,
				 pthread_mutex_t *lock, void (*resized)(void *arg), void *arg)
	__must_check;

/** block_close() - after block_drain(); NULL is harmless. */
void block_close(struct block_backend *block);

void block_get_info(const struct block_backend *block, struct block_info *info);

/** block_submit() - start @request; it is range-checked here (-EIO through done). Lock held. */
void block_submit(struct block_backend *block, struct block_request *request);

/**
 * block_drain() - wait until no request is in flight; their done callbacks have run when it
 * returns (in this thread). Lock held.
 */
void block_drain(struct block_backend *block);

#endif
