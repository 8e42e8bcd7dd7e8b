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

size_t iov_to_buf(const struct iovec *iov, int count, uint64_t offset, void *buf, size_t len)
{
	size_t done = 0;

	for (int i = 0; i < count && done < len; i++) {
		size_t part;

		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		part = MIN(len - done, iov[i].iov_len - offset);
		memcpy((char *)buf + done, (char *)iov[i].iov_base + offset, part);
		done += part;
		offset = 0;
	}
	return done;
}

size_t iov_from_buf(const struct iovec *iov, int count, uint64_t offset, const void *buf,
		    size_t len)
{
	size_t done = 0;

	for (int i = 0; i < count && done < len; i++) {
		size_t part;

		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		part = MIN(len - done, iov[i].iov_len - offset);
		memcpy((char *)iov[i].iov_base + offset, (const char *)buf + done, part);
		done += part;
		offset = 0;
	}
	return done;
}
