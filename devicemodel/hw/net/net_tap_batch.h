/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames that are written to a tap's queue together, by one system call: io_uring. One by one they
 * cost half as much again (tests/bench/bench_tap.c).
 */
#ifndef TENON_NET_TAP_BATCH_H
#define TENON_NET_TAP_BATCH_H

#include <sys/uio.h>

#include "util.h"

struct tap_batch;

/* For @fd, which does not block; NULL: tenon, or the kernel, has no io_uring. */
struct tap_batch *tap_batch_create(int fd);

/* What is kept is lost. NULL is harmless. */
void tap_batch_destroy(struct tap_batch *batch);

/* Keep a frame, and what @iov points to must stay; false: there is no room. */
bool tap_batch_add(struct tap_batch *batch, const struct iovec *iov, int count) __must_check;

/* Write all that is kept; how many of these frames the tap did not take. */
unsigned int tap_batch_write(struct tap_batch *batch) __must_check;

#endif
