/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * console_ctrl: control messages to a console with several ports (virtio 1.4, 5.3.6.2), and input
 * for the first of them meanwhile.
 */
#include <linux/virtio_console.h>

#include "lib/fuzz_request.h"

static uint32_t ctrl_request(struct fuzz_input *input, uint8_t *out, uint32_t *in)
{
	uint8_t id = fuzz_u8(input), event = fuzz_u8(input), shape = fuzz_u8(input);
	struct virtio_console_control message = {
		.id = id < 0xf0 ? id % 5U : fuzz_u32(input),
		.event = event < 0xf0 ? event % 9 : fuzz_u16(input),
		.value = shape & 1 ? fuzz_u16(input) : shape >> 7,
	};
	uint32_t len = sizeof(message);

	memcpy(out, &message, sizeof(message));
	memset(out + len, 'n', 256);
	*in = shape & 2 ? fuzz_u8(input) : 0;
	if (shape & 4)
		len = fuzz_u8(input);
	return len;
}

static const struct fuzz_requests ctrl_requests = {
	.label = "console-ports",
	.queue = 3,
	.request = ctrl_request,
	.answers = true,
	.needs = BIT64(VIRTIO_CONSOLE_F_MULTIPORT),
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return fuzz_requests_run(&ctrl_requests, data, size);
}
