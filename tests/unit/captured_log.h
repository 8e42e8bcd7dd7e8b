/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * captured_log.h: a logger whose lines a test can read.
 */
#ifndef TENON_TESTS_CAPTURED_LOG_H
#define TENON_TESTS_CAPTURED_LOG_H

#include <stdio.h>

#include "logger.h"

#define CAPTURED_LINES 64

/** struct captured_log - @log writes into @lines; @count goes on counting when they are full. */
struct captured_log {
	struct logger log;
	pthread_mutex_t lock;
	unsigned int count;
	enum log_level levels[CAPTURED_LINES];
	char lines[CAPTURED_LINES][1100];
};

static inline void captured_log_line(void *arg, enum log_level level, const char *line)
{
	struct captured_log *captured = arg;

	pthread_mutex_lock(&captured->lock);
	if (captured->count < CAPTURED_LINES) {
		captured->levels[captured->count] = level;
		snprintf(captured->lines[captured->count], sizeof(captured->lines[0]), "%s", line);
	}
	captured->count++;
	pthread_mutex_unlock(&captured->lock);
}

static inline void captured_log_init(struct captured_log *captured)
{
	memset(captured, 0, sizeof(*captured));
	pthread_mutex_init(&captured->lock, NULL);
	logger_init(&captured->log, "test");
	captured->log.sink = captured_log_line;
	captured->log.sink_arg = captured;
}

/** captured_log_deinit() - what logger_deinit() logs can still be read after it. */
static inline void captured_log_deinit(struct captured_log *captured)
{
	logger_deinit(&captured->log);
	pthread_mutex_destroy(&captured->lock);
}

#endif
