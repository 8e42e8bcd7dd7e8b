/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * bus_error.h: living on when a file that another process shares with us gets shorter.
 */
#ifndef TENON_BUS_ERROR_H
#define TENON_BUS_ERROR_H

#include "util.h"

/**
 * bus_error_survive() - from now on, an access to a page of a mapped file that the file does not have
 * any more finds a page of zeroes of our own there, in place of SIGBUS. What kills the process is its
 * signal handler, so this is the process's; the program calls it once, before there are threads.
 * Return: 0 or -errno.
 */
int bus_error_survive(void) __must_check;

#endif
