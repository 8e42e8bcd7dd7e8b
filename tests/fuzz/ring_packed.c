/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ring_packed: a hostile driver of each device, with a packed ring.
 */
#include "lib/fuzz_ring.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return fuzz_ring_run(true, data, size);
}
