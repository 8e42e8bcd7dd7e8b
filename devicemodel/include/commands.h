/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * commands.h: the subcommands of tenon that have files of their own. Each returns the exit status.
 */
#ifndef TENON_COMMANDS_H
#define TENON_COMMANDS_H

int cmd_run(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_acrn_dm(int argc, char **argv); /* the whole command line, when called acrn-dm */
int cmd_control(int argc, char **argv);
int cmd_serve(int argc, char **argv);
int cmd_serve_as(const char *device, int argc, char **argv); /* when called vhost-user-NAME */

#endif
