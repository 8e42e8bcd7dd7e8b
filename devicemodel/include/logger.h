/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * logger.h: where messages go: to stderr or to a sink of the owner's. How to send one is in log.h.
 */
#ifndef TENON_LOGGER_H
#define TENON_LOGGER_H

#include <pthread.h>
#include <stdarg.h>

#include "log.h"

#define LOG_SITES 64

/**
 * struct logger - where the messages of one VM go.
 * @level: messages above it are dropped
 * @prefix: printed before each message ("tenon"), owned by the caller
 * @sink: called with each finished line (no newline) instead of stderr, if not NULL; tests use it
 * @sink_arg: handed to @sink
 */
struct logger {
	enum log_level level;
	const char *prefix;
	void (*sink)(void *arg, enum log_level level, const char *line);
	void *sink_arg;
	pthread_mutex_t lock;
	struct {
		const struct log_site *site;
		uint64_t window_start_ns;
		unsigned int count;
		unsigned int suppressed;
	} sites[LOG_SITES];
};

/** logger_init() - start a logger on stderr at LOG_LEVEL_INFO. */
void logger_init(struct logger *log, const char *prefix);

/** logger_deinit() - print the summaries of suppressed messages and release the logger. */
void logger_deinit(struct logger *log);

/** logger_parse_level() - @text ("error", "warning", "info", "debug" or 0..3) to a level or -EINVAL. */
int logger_parse_level(const char *text) __must_check;

#endif
