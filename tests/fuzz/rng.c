/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rng: buffers for random bytes (virtio 1.4, 5.4.6). What is over the limit of a period stays
 * unanswered.
 */
#include "lib/fuzz_request.h"

static uint32_t rng_request(struct fuzz_input *input, uint8_t *out, uint32_t *in)
{
	uint8_t shape = fuzz_u8(input);
	uint32_t len = shape & 1 ? fuzz_u8(input) : 0;

	memset(out, 0, len);
	*in = shape & 2 ? fuzz_u16(input) : fuzz_u8(input);
	return len;
}

static const struct fuzz_requests rng_requests = { .label = "rng",
						   .queue = 0,
						   .request = rng_request };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return fuzz_requests_run(&rng_requests, data, size);
}
