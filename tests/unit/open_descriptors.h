/* SPDX-License-Identifier: BSD-3-Clause */
/* open_descriptors.h: is one lost? */
#ifndef TENON_TESTS_OPEN_DESCRIPTORS_H
#define TENON_TESTS_OPEN_DESCRIPTORS_H

#include <fcntl.h>

/** open_descriptors() - how many this process has; those from 1024 on are not looked for. */
static inline unsigned int open_descriptors(void)
{
	unsigned int count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

#endif
