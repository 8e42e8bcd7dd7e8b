/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * blk: requests to a disk (virtio 1.4, 5.2.6). Each must be answered.
 */
#include <linux/virtio_blk.h>

#include "lib/fuzz_request.h"

#define SECTORS 128 /* of the disk */

static uint32_t blk_type(struct fuzz_input *input)
{
	uint8_t type = fuzz_u8(input);

	return type < 0xf0 ? type % 16 : fuzz_u32(input);
}

/* Inside, at the end, far behind it. */
static uint64_t blk_sector(struct fuzz_input *input)
{
	uint8_t sector = fuzz_u8(input);

	return sector < 0xc0   ? sector % (SECTORS + 1)
	       : sector < 0xe0 ? UINT64_MAX / 512 - sector
			       : fuzz_u64(input);
}

static uint32_t blk_length(struct fuzz_input *input)
{
	uint8_t length = fuzz_u8(input);

	return length < 0xc0 ? length % 32 * 512U : fuzz_u16(input);
}

static uint32_t blk_segments(struct fuzz_input *input, uint8_t *out)
{
	unsigned int count = fuzz_u8(input) % 20;

	for (unsigned int i = 0; i < count; i++, out += 16) {
		bytes_put(out, 8, blk_sector(input));
		bytes_put(out + 8, 4, blk_length(input) / 512);
		bytes_put(out + 12, 4, fuzz_u8(input));
	}
	return 16 * count;
}

static uint32_t blk_request(struct fuzz_input *input, uint8_t *out, uint32_t *in)
{
	uint32_t len = sizeof(struct virtio_blk_outhdr), data;
	struct virtio_blk_outhdr header = { .type = blk_type(input), .sector = blk_sector(input) };
	uint8_t shape = fuzz_u8(input);

	memcpy(out, &header, sizeof(header));
	*in = shape & 1 ? fuzz_u8(input) : 1;
	if (shape & 2)
		return fuzz_u8(input) % 17; /* no whole header */
	if (header.type == VIRTIO_BLK_T_IN || header.type == VIRTIO_BLK_T_GET_ID)
		*in += blk_length(input);
	if (header.type == VIRTIO_BLK_T_DISCARD || header.type == VIRTIO_BLK_T_WRITE_ZEROES)
		return len + blk_segments(input, out + len);
	if (header.type != VIRTIO_BLK_T_OUT)
		return len;
	data = MIN(blk_length(input), FUZZ_REQUEST_MAX - len);
	memset(out + len, 0x5a, data);
	return len + data;
}

static const struct fuzz_requests blk_requests = {
	.label = "blk", .queue = 0, .request = blk_request, .answers = true
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return fuzz_requests_run(&blk_requests, data, size);
}
