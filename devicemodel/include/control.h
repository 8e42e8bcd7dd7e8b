/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * control.h: the control socket of a VM: a Unix stream socket on which lines are commands.
 *
 * An answer is any number of lines, the last of which is "ok" or "error: TEXT".
 */
#ifndef TENON_CONTROL_H
#define TENON_CONTROL_H

#include "dm.h"

/** control_create() - listen at ctx->config.control, on ctx->main_loop: ctx->control. 0 or -errno after one log line. */
int control_create(struct vmctx *ctx) __must_check;

/** control_destroy() - close and remove it; harmless without one. */
void control_destroy(struct vmctx *ctx);

#endif
