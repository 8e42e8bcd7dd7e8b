/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_ring.h: targets for rings: a program of what a hostile driver does to a device, its rings
 * and its registers.
 */
#ifndef TENON_TESTS_FUZZ_RING_H
#define TENON_TESTS_FUZZ_RING_H

#include "fuzz_driver.h"

/* One input: which device, its setup, then the program. */
int fuzz_ring_run(bool packed, const uint8_t *data, size_t size);

#endif
