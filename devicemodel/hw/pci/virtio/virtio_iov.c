/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Byte positions in a list of buffers. The specification forbids to rely on how a driver cuts a
 * request into descriptors (virtio 1.4, 2.7.4.1), so devices think in offsets.
 */
#include <errno.h>

#include "virtio.h"

uint64_t iov_length(const struct iovec *iov, int count)
{
	uint64_t len = 0;

	for (int i = 0; i < count; i++)
		len += iov[i].iov_len;
	return len;
}

int iov_slice(const struct iovec *iov, int count, uint64_t offset, uint64_t len, struct iovec *out,
	      int max)
{
	int used = 0;

	for (int i = 0; i < count && len; i++) {
		uint64_t part;

		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		if (used == max)
			return -EMSGSIZE;
		part = MIN(len, iov[i].iov_len - offset);
		out[used].iov_base = (char *)iov[i].iov_base + offset;
		out[used].iov_len = part;
		used++;
		len -= part;
		offset = 0;
	}
	return used;
}

/* Copy between byte @offset of the iovecs and @buf, one way or the other. */
static size_t iov_copy(const struct iovec *iov, int count, uint64_t offset, char *buf, size_t len,
		       bool to_buf)
{
	size_t done = 0;

	for (int i = 0; i < count && done < len; i++) {
		char *base = iov[i].iov_base;
		size_t part;

		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		part = MIN(len - done, iov[i].iov_len - offset);
		if (to_buf)
			memcpy(buf + done, base + offset, part);
		else
			memcpy(base + offset, buf + done, part);
		done += part;
		offset = 0;
	}
	return done;
}

size_t iov_to_buf(const struct iovec *iov, int count, uint64_t offset, void *buf, size_t len)
{
	return iov_copy(iov, count, offset, buf, len, true);
}

size_t iov_from_buf(const struct iovec *iov, int count, uint64_t offset, const void *buf,
		    size_t len)
{
	return iov_copy(iov, count, offset, (char *)(uintptr_t)buf, len, false);
}
