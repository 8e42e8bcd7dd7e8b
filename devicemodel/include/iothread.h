/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * iothread.h: threads that run devices' event loops: those named with --iothread, and those that
 * devices get by themselves.
 */
#ifndef TENON_IOTHREAD_H
#define TENON_IOTHREAD_H

#include "event_loop.h"
#include "logger.h"

struct iothreads;

#define IOTHREADS_MAX 256

/** iothreads_create() - an empty set, NULL: no memory. @log: for messages, outlives it. */
struct iothreads *iothreads_create(struct logger *log);

/** iothreads_destroy() - stop all threads and free their loops; NULL is harmless. */
void iothreads_destroy(struct iothreads *set);

/**
 * iothreads_add() - "NAME[,cpus=LIST]" of --iothread: @spec is copied. LIST is like 0,2-3 in
 * cpuset(7)'s list format, separated by "+" instead of commas: 0+2-3.
 * Return: 0 or -errno after one log line.
 */
int iothreads_add(struct iothreads *set, const char *spec) __must_check;

/**
 * iothread_loop() - the loop of the thread called @name; with @create it is made if there is none.
 * NULL with errno (ENOENT: no such thread) and nothing logged.
 */
struct event_loop *iothread_loop(struct iothreads *set, const char *name, bool create) __must_check;

/** iothreads_names() - "those are: a, b" of --iothread, or what to do when there are none, in @text, for messages. @set may be NULL. */
const char *iothreads_names(struct iothreads *set, char *text, size_t size);

/** iothreads_start() - run the threads that do not run yet; those added later run at once. 0 or -errno after one line. */
int iothreads_start(struct iothreads *set) __must_check;

/** iothreads_stop() - stop them all; no callback of theirs runs afterwards, until started again. */
void iothreads_stop(struct iothreads *set);

#endif
