/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * log.c: hsmd's messages: one line each on standard error.
 */
#include "hsmd.h"

#include <stdarg.h>
#include <stdio.h>

static bool log_debug_lines;

void log_set_debug(bool debug)
{
	log_debug_lines = debug;
}

void log_line(enum log_level level, const char *format, ...)
{
	static const char *const names[] = { "error: ", "warning: ", "", "debug: " };
	char text[512];
	va_list args;

	if (level == LOG_DEBUG && !log_debug_lines)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	/* One write, so that lines of several threads do not mix. */
	fprintf(stderr, "hsmd: %s%s\n", names[level], text);
}
