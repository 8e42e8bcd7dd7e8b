/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * md5.h: MD5 (RFC 1321), for names that others derived with it. It protects nothing.
 */
#ifndef TENON_MD5_H
#define TENON_MD5_H

#include "util.h"

#define MD5_SIZE 16

/** md5() - the digest of the @len bytes at @data; any thread. */
void md5(const void *data, size_t len, uint8_t digest[MD5_SIZE]);

#endif
