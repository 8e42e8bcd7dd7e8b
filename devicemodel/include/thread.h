/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * thread.h: tenon's own threads, and the signals that end it.
 */
#ifndef TENON_THREAD_H
#define TENON_THREAD_H

#include <pthread.h>

#include "log.h"
#include "util.h"

/**
 * thread_start() - a thread that runs @run(@arg) and takes no signals but those that it causes itself
 * (a handler that puts the terminal right must run) and @open_signal, if that is not 0: signals for
 * tenon as a whole are the main thread's. Any thread. Return: 0 or -errno.
 */
int thread_start(pthread_t *thread, int open_signal, void *(*run)(void *arg),
		 void *arg) __must_check;

/**
 * stop_signals_open() - a descriptor that tells of SIGTERM, SIGINT and SIGHUP (struct signalfd_siginfo, does
 * not block). They are blocked from now on, for good, as are SIGPIPE, SIGWINCH and SIGXFSZ; no
 * other thread may exist yet. Return: the caller's to close, or -errno after one line in @log.
 */
int stop_signals_open(struct logger *log) __must_check;

/** cpus_available() - on how many CPUs of the host this process may run, at least 1. Any thread. */
unsigned int cpus_available(void);

#endif
