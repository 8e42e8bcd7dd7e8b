/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_request.h: targets for request parsers: rings are well-formed, the requests in them are not,
 * and neither is the way in which they are cut into descriptors.
 */
#ifndef TENON_TESTS_FUZZ_REQUEST_H
#define TENON_TESTS_FUZZ_REQUEST_H

#include "fuzz_driver.h"

#define FUZZ_REQUEST_MAX 2048

/*
 * struct fuzz_requests - a parser.
 * @label: of the device; @queue: where its requests go
 * @request: write the readable part of a request, say how long it is and how much is writable
 * @answers: each request is used in the end, unless the device needs a reset or the features
 *           @needs are not all accepted
 */
struct fuzz_requests {
	const char *label;
	unsigned int queue;
	uint32_t (*request)(struct fuzz_input *input, uint8_t *out, uint32_t *in);
	bool answers;
	uint64_t needs;
};

/* One input: the setup, then requests and what happens between them. */
int fuzz_requests_run(const struct fuzz_requests *requests, const uint8_t *data, size_t size);

#endif
