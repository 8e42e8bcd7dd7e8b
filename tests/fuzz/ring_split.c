/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ring_split: a hostile driver of each device, with a split ring.
 */
#include "lib/fuzz_ring.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return fuzz_ring_run(false, data, size);
}
