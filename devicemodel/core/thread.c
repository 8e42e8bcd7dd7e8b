/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Threads, and which signals they take.
 */
#include "thread.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>

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

/* Blocked before any thread exists, so that none is interrupted. */
int stop_signals_open(struct logger *log)
{
	sigset_t wanted, blocked;
	int fd;

	sigemptyset(&wanted);
	sigaddset(&wanted, SIGTERM);
	sigaddset(&wanted, SIGINT);
	sigaddset(&wanted, SIGHUP);
	blocked = wanted;
	sigaddset(&blocked, SIGPIPE);
	sigaddset(&blocked, SIGWINCH);
	sigaddset(&blocked, SIGXFSZ); /* a write then ends with EFBIG */
	pthread_sigmask(SIG_BLOCK, &blocked, NULL);
	fd = signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd >= 0)
		return fd;
	fd = -errno;
	log_error(log, "cannot wait for signals: %s (raise the limit of open files)",
		  strerror(-fd));
	return fd;
}

unsigned int cpus_available(void)
{
	cpu_set_t cpus;

	if (sched_getaffinity(0, sizeof(cpus), &cpus))
		return 1;
	return (unsigned int)MAX(CPU_COUNT(&cpus), 1);
}
