/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The disk that is not there: zeroes are read, and what is written is forgotten. All is done at once
 * in block_kick(), so that it measures everything but a disk.
 */
#include "block_internal.h"

static int null_open(struct block_backend *block, const struct block_config *config)
{
	return 0;
}

static void null_close(struct block_backend *block)
{
}

static void null_start(struct block_queue *queue, struct block_request *head)
{
	while (head) {
		struct block_request *next = head->next;

		/* Not left as it was: the reader is told that it was written. */
		for (int i = 0; head->op == BLOCK_READ && i < head->iov_count; i++)
			memset(head->iov[i].iov_base, 0, head->iov[i].iov_len);
		block_finish(head, 0);
		head = next;
	}
}

const struct block_engine_ops block_null_ops = {
	.name = "null",
	.open = null_open,
	.close = null_close,
	.start = null_start,
};
