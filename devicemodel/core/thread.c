/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Threads, and which signals they take.
 */
#include "thread.h"

#include <signal.h>

static void thread_signal_mask(sigset_t *mask, int open_signal)
{
	static const int open[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS };

	sigfillset(mask);
	for (size_t i = 0; i < ARRAY_SIZE(open); i++)
		sigdelset(mask, open[i]);
	if (open_signal)
		sigdelset(mask, open_signal);
}

int thread_start(pthread_t *thread, int open_signal, void *(*run)(void *arg), void *arg)
{
	pthread_attr_t attr;
	sigset_t mask;
	int error = pthread_attr_init(&attr);

	if (error)
		return -error;
	thread_signal_mask(&mask, open_signal);
	error = pthread_attr_setsigmask_np(&attr, &mask);
	if (!error)
		error = pthread_create(thread, &attr, run, arg);
	pthread_attr_destroy(&attr);
	return -error;
}
