/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * logger.h: where messages go: to stderr or to a sink of the owner's. How to send one is in log.h.
 */
#ifndef TENON_LOGGER_H
#define TENON_LOGGER_H

#include <pthread.h>
#include <stdarg.h>

#include "log.h"

#define LOG_SITES 512 /* places in the source, and devices that break */

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
		const void *owner;
		uint64_t window_start_ns;
		unsigned int count;
		unsigned int suppressed;
	} sites[LOG_SITES];
};

/** logger_init() - start a logger on stderr at LOG_LEVEL_INFO. */
void logger_init(struct logger *log, const char *prefix);

/** logger_deinit() - print the summaries of suppressed messages and release the logger. */
void logger_deinit(struct logger *log);

/**
 * log_guest_owner_message() - as log_guest_message(), but the limit is that of @site and @owner
 * together: for a place that speaks for several, none of whom may silence the others. @owner is
 * only compared. Use the macro.
 */
void log_guest_owner_message(struct logger *log, const struct log_site *site, const void *owner,
			     const char *fmt, ...) __format_printf(4, 5);

#define log_guest_of(log, owner, ...)                                                              \
	do {                                                                                       \
		static const struct log_site log_site_ = { __FILE__, __LINE__ };                   \
		log_guest_owner_message(log, &log_site_, owner, __VA_ARGS__);                      \
	} while (0)

/** logger_parse_level() - @text ("error", "warning", "info", "debug" or 0..3) to a level or -EINVAL. */
int logger_parse_level(const char *text) __must_check;

#endif
