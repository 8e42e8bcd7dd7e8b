/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * SIGBUS of somebody else's making.
 */
#include "bus_error.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>

/*
 * In place of the page that is gone. Nobody tells its size, but that a part of it cannot differ from the
 * rest (EINVAL); and around what is no part of a huge page there is memory of others. Both calls are
 * system calls and nothing else.
 */
static bool replace_page(uintptr_t addr)
{
	static const uint64_t sizes[] = { KIB(4), MIB(2), GIB(1) };

	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		void *page = (void *)(addr & ~(uintptr_t)(sizes[i] - 1));

		if (!madvise(page, sizes[i], MADV_RANDOM))
			return mmap(page, sizes[i], PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
				    0) == page;
		if (errno != EINVAL)
			break;
	}
	return false;
}

/* Bad memory of the machine, and what cannot be replaced, ends the process as it would have. */
static void on_bus_error(int number, siginfo_t *info, void *context)
{
	int saved_errno = errno;
	bool replaced = false;

	if (info->si_code == BUS_ADRERR)
		replaced = replace_page((uintptr_t)info->si_addr);
	if (!replaced)
		signal(SIGBUS, SIG_DFL);
	errno = saved_errno;
}

int bus_error_survive(void)
{
	struct sigaction action = { .sa_sigaction = on_bus_error,
				    .sa_flags = SA_SIGINFO | SA_RESTART };

	sigemptyset(&action.sa_mask);
	return sigaction(SIGBUS, &action, NULL) < 0 ? -errno : 0;
}
