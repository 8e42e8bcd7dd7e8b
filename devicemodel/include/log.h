/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * log.h: messages to people.
 *
 * A logger belongs to one VM; there is no process-wide one. Messages that a guest can cause go
 * through log_guest(), which is rate-limited per call site.
 */
#ifndef TENON_LOG_H
#define TENON_LOG_H

#include "util.h"

TENON_API_BEGIN

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/** struct log_site - one place in the source that logs what a guest causes. */
struct log_site {
	const char *file;
	int line;
};

struct logger;

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
#define log_guest(log, ...)                                                                        \
	do {                                                                                       \
		static const struct log_site log_site_ = { __FILE__, __LINE__ };                   \
		log_guest_message(log, &log_site_, __VA_ARGS__);                                   \
	} while (0)

TENON_API_END

#endif
