/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * device_check.h: checks that hold for every virtio device, whatever it does. `tenon check-device`
 * runs them, each in a process of its own, and so do the test programs. What a check is written
 * with is in check_context.h.
 */
#ifndef TENON_TESTS_DEVICE_CHECK_H
#define TENON_TESTS_DEVICE_CHECK_H

#include <stddef.h>

#define CHECK_WHY_SIZE 400
#define CHECK_SECONDS 20 /* for one check, all its combinations included */

enum check_result { CHECK_OK, CHECK_FAIL, CHECK_NOT_APPLICABLE };

/*
 * enum check_axes - in which ways the device is driven; each once.
 * CHECK_ONCE: modern interface if it has one, everything on
 * CHECK_INTERFACES: the interfaces that it has
 * CHECK_ALL: all combinations of driver_params_at() that it has
 */
enum check_axes { CHECK_ONCE, CHECK_INTERFACES, CHECK_ALL };

struct check_context;

/*
 * struct device_check
 * @clause: of virtio 1.4 ("2.1.2-1"), or the class of hostile guest ("class 4")
 * @title: what must hold
 * @run: looks at the device in the context's machine; see check_context.h
 */
struct device_check {
	const char *clause;
	const char *title;
	enum check_axes axes;
	enum check_result (*run)(struct check_context *check);
};

/* Register @run at link time. */
#define DEVICE_CHECK(function, clause_, title_, axes_)                                             \
	static const struct device_check function##_entry = { clause_, title_, axes_, function };  \
	static const struct device_check *const function##_check                                   \
		__attribute__((used, section("device_checks"))) = &function##_entry

/* The @index-th check in the order of clauses, NULL behind the last. */
const struct device_check *device_check_at(unsigned int index);

/*
 * Can a machine have the device @spec ("NAME[,OPTIONS]")? CHECK_OK or CHECK_FAIL; @why, of
 * CHECK_WHY_SIZE bytes, gets the reason, which is empty otherwise.
 */
enum check_result device_check_start(const char *spec, char *why);

/*
 * Run @check on @spec in every way that it asks for, until one fails. @why names it, and the
 * reason, or tells why the check does not apply. In this process: the driver library's assertions
 * are those of the test program.
 */
enum check_result device_check_run(const struct device_check *check, const char *spec, char *why);

/*
 * The same in a process of its own, so that a device that crashes or does not come back fails its
 * check and nothing else. @check NULL: device_check_start().
 */
enum check_result device_check_run_apart(const struct device_check *check, const char *spec,
					 unsigned int seconds, char *why);

#endif
