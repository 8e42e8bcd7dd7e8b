/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What tenon's command lines have in common.
 */
#include "command_line.h"

#include <errno.h>
#include <getopt.h>

int command_set_log_level(struct logger *log, const char *text)
{
	int level = logger_parse_level(text);

	if (level < 0) {
		log_error(log, "--log %s: not a level (error, warning, info, debug)", text);
		return level;
	}
	log->level = (enum log_level)level;
	return 0;
}

void command_more_log(struct logger *log)
{
	if (log->level < LOG_LEVEL_DEBUG)
		log->level++;
}

int command_bad_option(struct logger *log, const char *command, int option, char **argv)
{
	if (option == ':')
		log_error(log, "%s needs a value (%s --help)", argv[optind - 1], command);
	else if (optopt && optopt < LONG_ONLY)
		log_error(log, "-%c: unknown option (%s --help)", optopt, command);
	else
		log_error(log, "%s: unknown option (%s --help)", argv[optind - 1], command);
	return -EINVAL;
}
