/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Messages to people, and the rate limit for those that a guest can cause.
 */
#include "logger.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <strings.h>
#include <unistd.h>

#include "clock.h"

#define LOG_LINE_MAX 1024
#define GUEST_BURST 10
#define GUEST_WINDOW_NS UINT64_C(5000000000)

static const char *const level_names[] = { "error", "warning", "info", "debug" };

void logger_init(struct logger *log, const char *prefix)
{
	memset(log, 0, sizeof(*log));
	log->level = LOG_LEVEL_INFO;
	log->prefix = prefix;
	pthread_mutex_init(&log->lock, NULL);
}

int logger_parse_level(const char *text)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(level_names); i++) {
		if (!strcasecmp(text, level_names[i]))
			return (int)i;
		if (text[0] == (char)('0' + i) && !text[1])
			return (int)i;
	}
	return -EINVAL;
}

/* One write per line, so that lines of several threads and processes do not mix. */
static void log_emit(struct logger *log, enum log_level level, const char *text)
{
	char line[LOG_LINE_MAX + 64];
	int len;

	if (log->sink) {
		log->sink(log->sink_arg, level, text);
		return;
	}
	if (level == LOG_LEVEL_INFO)
		len = snprintf(line, sizeof(line), "%s: %s\n", log->prefix, text);
	else
		len = snprintf(line, sizeof(line), "%s: %s: %s\n", log->prefix, level_names[level],
			       text);
	if (len > (int)sizeof(line) - 1) {
		len = (int)sizeof(line) - 1;
		line[len - 1] = '\n';
	}
	while (write(STDERR_FILENO, line, (size_t)len) < 0 && errno == EINTR)
		;
}

static void __format_printf(3, 0)
	log_format(struct logger *log, enum log_level level, const char *fmt, va_list args)
{
	char text[LOG_LINE_MAX];
	int saved_errno = errno;

	vsnprintf(text, sizeof(text), fmt, args);
	log_emit(log, level, text);
	errno = saved_errno;
}

void log_message(struct logger *log, enum log_level level, const char *fmt, ...)
{
	va_list args;

	if (level > log->level)
		return;
	va_start(args, fmt);
	log_format(log, level, fmt, args);
	va_end(args);
}

/* The bucket of @site and @owner; when the table is full, they share one by address. */
static unsigned int log_site_slot(const struct logger *log, const struct log_site *site,
				  const void *owner)
{
	uintptr_t key = (uintptr_t)site / sizeof(*site) + (uintptr_t)owner / sizeof(max_align_t);
	unsigned int start = (unsigned int)(key % LOG_SITES);

	for (unsigned int i = 0; i < LOG_SITES; i++) {
		unsigned int slot = (start + i) % LOG_SITES;

		if (!log->sites[slot].site ||
		    (log->sites[slot].site == site && log->sites[slot].owner == owner))
			return slot;
	}
	return start;
}

static void log_summary(struct logger *log, unsigned int slot)
{
	char text[LOG_LINE_MAX];

	if (!log->sites[slot].suppressed)
		return;
	snprintf(text, sizeof(text), "%u more messages like the last one were suppressed (%s:%d)",
		 log->sites[slot].suppressed, log->sites[slot].site->file,
		 log->sites[slot].site->line);
	log->sites[slot].suppressed = 0;
	log_emit(log, LOG_LEVEL_WARNING, text);
}

/* Is it still allowed? What was left out in the window before is told now. */
static bool log_site_open(struct logger *log, const struct log_site *site, const void *owner)
{
	unsigned int slot = log_site_slot(log, site, owner);
	uint64_t now = clock_ns();

	if (!log->sites[slot].site || now - log->sites[slot].window_start_ns > GUEST_WINDOW_NS) {
		log_summary(log, slot);
		log->sites[slot].site = site;
		log->sites[slot].owner = owner;
		log->sites[slot].window_start_ns = now;
		log->sites[slot].count = 0;
	}
	if (log->sites[slot].count >= GUEST_BURST) {
		log->sites[slot].suppressed++;
		return false;
	}
	log->sites[slot].count++;
	return true;
}

static void __format_printf(4, 0) log_guest_format(struct logger *log, const struct log_site *site,
						   const void *owner, const char *fmt, va_list args)
{
	if (LOG_LEVEL_WARNING > log->level)
		return;
	pthread_mutex_lock(&log->lock);
	if (log_site_open(log, site, owner))
		log_format(log, LOG_LEVEL_WARNING, fmt, args);
	pthread_mutex_unlock(&log->lock);
}

void log_guest_message(struct logger *log, const struct log_site *site, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	log_guest_format(log, site, NULL, fmt, args);
	va_end(args);
}

void log_guest_owner_message(struct logger *log, const struct log_site *site, const void *owner,
			     const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	log_guest_format(log, site, owner, fmt, args);
	va_end(args);
}

void logger_deinit(struct logger *log)
{
	for (unsigned int slot = 0; slot < LOG_SITES; slot++)
		log_summary(log, slot);
	pthread_mutex_destroy(&log->lock);
}
