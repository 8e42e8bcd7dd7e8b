/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * net_tx: frames that the driver sends, with their headers (virtio 1.4, 5.1.9.2); and frames that
 * come from the host meanwhile.
 */
#include <linux/if_ether.h>
#include <linux/virtio_net.h>

#include "lib/fuzz_request.h"

/* Ethernet, IPv4 or IPv6 and TCP or UDP, as far as @len goes; offloads look at them. */
static void frame_fill(struct fuzz_input *input, uint8_t *frame, uint32_t len)
{
	static const uint8_t ipv4[] = { 0x02, 0, 0,    0, 0,	0, 0x02, 0, 0, 0, 0, 1,
					0x08, 0, 0x45, 0, 0x02, 0, 0,	 1, 0, 0, 64 };
	static const uint8_t ipv6[] = {
		0x02, 0, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 1, 0x86, 0xdd, 0x60
	};
	uint8_t kind = fuzz_u8(input);
	uint8_t patch = fuzz_u8(input);

	memset(frame, 0, len);
	if (kind & 1)
		memcpy(frame, ipv4, MIN(len, sizeof(ipv4)));
	else
		memcpy(frame, ipv6, MIN(len, sizeof(ipv6)));
	if (len > 23)
		frame[kind & 1 ? 23 : 20] = kind & 2 ? 6 : 17;
	for (unsigned int i = 0; i < patch % 8U; i++) {
		uint8_t at = fuzz_u8(input);

		if (at < len)
			frame[at] = fuzz_u8(input);
	}
}

static uint32_t tx_request(struct fuzz_input *input, uint8_t *out, uint32_t *in)
{
	struct virtio_net_hdr_v1 header = {
		.flags = fuzz_u8(input),
		.gso_type = fuzz_u8(input),
		.hdr_len = fuzz_u8(input),
		.gso_size = fuzz_u16(input),
		.csum_start = fuzz_u8(input),
		.csum_offset = fuzz_u8(input),
	};
	uint8_t shape = fuzz_u8(input);
	uint32_t header_len = shape & 1 ? 10 : 12;
	uint32_t len = shape & 2 ? fuzz_u8(input) : fuzz_u16(input) % (FUZZ_REQUEST_MAX - 12);

	if (shape & 4)
		header.num_buffers = fuzz_u16(input);
	*in = shape & 8 ? fuzz_u8(input) : 0;
	memcpy(out, &header, header_len);
	frame_fill(input, out + header_len, len);
	return shape & 16 ? fuzz_u8(input) % 32 : header_len + len;
}

static const struct fuzz_requests tx_requests = {
	.label = "net", .queue = 1, .request = tx_request, .answers = true
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return fuzz_requests_run(&tx_requests, data, size);
}
