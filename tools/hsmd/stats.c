/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stats.c: one line about what hsmd holds, so that a leak can be seen from outside.
 */
#include "hsmd.h"

#include <dirent.h>

static unsigned int count_entries(const char *path)
{
	DIR *folder = opendir(path);
	unsigned int count = 0;
	struct dirent *entry;

	if (!folder)
		return 0;
	while ((entry = readdir(folder))) {
		if (entry->d_name[0] != '.')
			count++;
	}
	closedir(folder);
	return count;
}

void stats_log(struct hsmd *hsmd)
{
	unsigned int files = 0, vms = 0;
	struct vm *vm;

	pthread_mutex_lock(&hsmd->lock);
	for (vm = LIST_FIRST(&hsmd->vms); vm; vm = LIST_NEXT(vm, link)) {
		files++;
		vms += vm->id != 0xffff;
	}
	pthread_mutex_unlock(&hsmd->lock);
	/* The directory itself is one of the file descriptors. */
	log_line(LOG_INFO,
		 "stats: files=%u vms=%u vcpu_threads=%u fds=%u threads=%u guest_memory_kib=%llu "
		 "requests=%llu",
		 files, vms, vcpu_thread_count(), count_entries("/proc/self/fd") - 1,
		 count_entries("/proc/self/task"), (unsigned long long)memory_mapped() >> 10,
		 (unsigned long long)ioreq_requests());
}
