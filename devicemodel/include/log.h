/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * log.h: messages to people, on stderr or to a sink of the caller's.
 *
 * A logger belongs to one VM; there is no process-wide one. Messages that a guest can cause go
 * through log_guest(), which is rate-limited per call site.
 */
#ifndef TENON_LOG_H
#define TENON_LOG_H

#include <pthread.h>
#include <stdarg.h>

#include "util.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/** struct log_site - one place in the source that logs what a guest causes. */
struct log_site {
	const char *file;
	int line;
};

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

/** log_message() - one line; any thread. Use the macros below. */
void log_message(struct logger *log, enum log_level level, const char *fmt, ...)
	__format_printf(3, 4);

/**
 * log_guest_message() - one line that a guest caused: at most 10 in 5 seconds per @site, the rest
 * counted and summed up in one line later. Any thread.
 */
void log_guest_message(struct logger *log, const struct log_site *site, const char *fmt, ...)
	__format_printf(3, 4);

#define log_error(log, ...) log_message(log, LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(log, ...) log_message(log, LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(log, ...) log_message(log, LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(log, ...) log_message(log, LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_guest(log, ...)                                                       \
	do {                                                                      \
		static const struct log_site log_site_ = { __FILE__, __LINE__ }; \
		log_guest_message(log, &log_site_, __VA_ARGS__);                  \
	} while (0)

#endif
