/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The block engine on io_uring.
 */
#include "block_internal.h"

#include <errno.h>

static int uring_open(struct block_backend *block, const struct block_config *config)
{
	if (config->engine == BLOCK_ENGINE_URING)
		log_error(block->image.log,
			  "%s,engine=io_uring: this tenon was built without it (build it with "
			  "liburing, or leave out \"engine=\")",
			  block->image.name);
	return -ENOSYS;
}

const struct block_engine_ops block_uring_ops = {
	.name = "io_uring",
	.open = uring_open,
};
