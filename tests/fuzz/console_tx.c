/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * console_tx: output to a console (virtio 1.4, 5.3.6), and input from the host meanwhile.
 */
#include "lib/fuzz_request.h"

static uint32_t tx_request(struct fuzz_input *input, uint8_t *out, uint32_t *in)
{
	uint8_t shape = fuzz_u8(input);
	uint32_t len = shape & 1 ? fuzz_u8(input) : fuzz_u16(input) % FUZZ_REQUEST_MAX;

	memset(out, 'x', len);
	*in = shape & 2 ? fuzz_u8(input) : 0;
	return len;
}

static const struct fuzz_requests tx_requests = {
	.label = "console", .queue = 1, .request = tx_request, .answers = true
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return fuzz_requests_run(&tx_requests, data, size);
}
