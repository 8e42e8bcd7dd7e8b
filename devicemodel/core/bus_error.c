/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * SIGBUS of somebody else's making.
 */
#include "bus_error.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>

#define SMALL_PAGE UINT64_C(4096)
#define HUGE_PAGE MIB(2)

/* In place of the page that is gone; mmap() is a system call and nothing else. */
static bool replace_page(uintptr_t addr, uint64_t size)
{
	void *page = (void *)(addr & ~(uintptr_t)(size - 1));

	return mmap(page, size, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == page;
}

/* Bad memory of the machine, and what cannot be replaced, ends the process as it would have. */
static void on_bus_error(int number, siginfo_t *info, void *context)
{
	int saved_errno = errno;
	bool replaced = false;

	if (info->si_code == BUS_ADRERR)
		replaced = replace_page((uintptr_t)info->si_addr, SMALL_PAGE) ||
			   replace_page((uintptr_t)info->si_addr, HUGE_PAGE);
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
