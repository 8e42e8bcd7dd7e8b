/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control_commands.h: between control.c, which has the connections, and control_commands.c.
 */
#ifndef TENON_CONTROL_COMMANDS_H
#define TENON_CONTROL_COMMANDS_H

#include "dm.h"

/**
 * struct control_answer - what is said to a client.
 * @text, @used, @size: lines, each with its newline
 * @overflow: they did not fit
 * @error: why the command failed; empty: it did not
 */
struct control_answer {
	char *text;
	size_t used, size;
	bool overflow;
	char error[256];
};

/** control_answer_line() - append one line; what is not printable in it becomes '?'. */
void control_answer_line(struct control_answer *answer, const char *fmt, ...) __format_printf(2, 3);

/** control_execute() - carry out the command in @line, which is taken apart, and end its answer. */
void control_execute(struct vmctx *ctx, char *line, struct control_answer *answer);

#endif
