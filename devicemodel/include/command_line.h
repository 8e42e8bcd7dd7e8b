/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * command_line.h: what tenon's command lines have in common.
 */
#ifndef TENON_COMMAND_LINE_H
#define TENON_COMMAND_LINE_H

#include "logger.h"

#define LONG_ONLY 256 /* from here on getopt_long()'s values of options without a letter */

/** command_set_log_level() - the argument of --log. 0 or -EINVAL after one line in @log. */
int command_set_log_level(struct logger *log, const char *text) __must_check;

/** command_more_log() - one level more (-v), if there is one. */
void command_more_log(struct logger *log);

/**
 * command_bad_option() - one line in @log on the option that getopt_long() did not take.
 * @command: whose --help tells more ("tenon run")
 * @option: what getopt_long() returned, '?' or ':' (its short options begin with a colon)
 * Return: -EINVAL
 */
int command_bad_option(struct logger *log, const char *command, int option, char **argv);

#endif
