/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_input.h: a fuzzer's bytes, taken from the front; what is missing at the end reads as zero.
 */
#ifndef TENON_TESTS_FUZZ_INPUT_H
#define TENON_TESTS_FUZZ_INPUT_H

#include "util.h"

/* What every target defines: one run. 0, or -1: the input is of no use as a seed for others. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

#define FUZZ_SKIP                                                                                  \
	80 /* exit status of a target that cannot run here; 77 is libFuzzer's for a finding */

struct fuzz_input {
	const uint8_t *at;
	size_t left;
};

static inline bool fuzz_more(const struct fuzz_input *input)
{
	return input->left > 0;
}

static inline void fuzz_bytes(struct fuzz_input *input, void *to, size_t len)
{
	size_t part = MIN(len, input->left);

	memset(to, 0, len);
	memcpy(to, input->at, part);
	input->at += part;
	input->left -= part;
}

static inline uint64_t fuzz_uint(struct fuzz_input *input, unsigned int size)
{
	uint64_t value = 0;

	fuzz_bytes(input, &value, size);
	return value;
}

static inline uint8_t fuzz_u8(struct fuzz_input *input)
{
	return (uint8_t)fuzz_uint(input, 1);
}

static inline uint16_t fuzz_u16(struct fuzz_input *input)
{
	return (uint16_t)fuzz_uint(input, 2);
}

static inline uint32_t fuzz_u32(struct fuzz_input *input)
{
	return (uint32_t)fuzz_uint(input, 4);
}

static inline uint64_t fuzz_u64(struct fuzz_input *input)
{
	return fuzz_uint(input, 8);
}

#endif
