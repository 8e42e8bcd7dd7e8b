/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * net_ctrl: commands on the control queue of a network device (virtio 1.4, 5.1.9.5); and frames that
 * come from the host meanwhile, to be filtered.
 */
#include <linux/if_ether.h>
#include <linux/virtio_net.h>

#include "lib/fuzz_request.h"

#define BODY_MAX 1024

/* Two tables of addresses, each with its count, which may be a lie. */
static uint32_t mac_tables(struct fuzz_input *input, uint8_t *out)
{
	uint8_t *at = out;

	for (unsigned int i = 0; i < 2; i++) {
		uint8_t count = fuzz_u8(input), lie = fuzz_u8(input);
		unsigned int entries = count % 80;

		bytes_put(at, 4, lie < 200 ? entries : lie < 228 ? lie : fuzz_u32(input));
		at += 4;
		for (unsigned int j = 0; j < entries; j++, at += ETH_ALEN)
			bytes_put(at, 4, j * 0x01010101U + count);
	}
	return (uint32_t)(at - out);
}

static uint32_t ctrl_request(struct fuzz_input *input, uint8_t *out, uint32_t *in)
{
	uint8_t class = fuzz_u8(input), command = fuzz_u8(input), shape = fuzz_u8(input);
	uint32_t len = 0;

	*in = shape & 1 ? fuzz_u8(input) : 1;
	out[0] = shape & 2 ? class : class % 7;
	out[1] = shape & 2 ? command : command % 6;
	memset(out + 2, 0, FUZZ_REQUEST_MAX - 2);
	if (shape & 4)
		return fuzz_u8(input) % 3;
	if (out[0] == VIRTIO_NET_CTRL_MAC && out[1] == VIRTIO_NET_CTRL_MAC_TABLE_SET) {
		len = mac_tables(input, out + 2);
		return 2 + (shape & 8 ? fuzz_u16(input) % (len + 8) : len);
	}
	len = shape & 8 ? fuzz_u16(input) % BODY_MAX : fuzz_u8(input) % 9;
	fuzz_bytes(input, out + 2, MIN(len, 16));
	return 2 + len;
}

static const struct fuzz_requests ctrl_requests = {
	.label = "net", .queue = 2, .request = ctrl_request, .answers = true
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return fuzz_requests_run(&ctrl_requests, data, size);
}
