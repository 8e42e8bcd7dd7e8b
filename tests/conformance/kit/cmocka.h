/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cmocka.h: what tests/driver/lib uses of cmocka, for the tenon binary, which has no cmocka. There
 * each check runs in a process of its own (check_process.c): a failed assertion tells why on
 * standard output and ends it.
 */
#ifndef TENON_TESTS_KIT_CMOCKA_H
#define TENON_TESTS_KIT_CMOCKA_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* End this process: the check failed. In check_process.c. */
void check_process_fail(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));

#define kit_assert(condition, text)                                                                \
	((condition) ? (void)0 : check_process_fail("%s (%s:%d)", text, __FILE__, __LINE__))

#define assert_true(condition) kit_assert(condition, #condition)
#define assert_false(condition) kit_assert(!(condition), "not " #condition)
#define assert_null(pointer) kit_assert(!(pointer), #pointer " is NULL")
#define assert_non_null(pointer) kit_assert(pointer, #pointer " is not NULL")
#define assert_int_equal(a, b) kit_assert((uintmax_t)(a) == (uintmax_t)(b), #a " is equal to " #b)
#define assert_int_not_equal(a, b)                                                                 \
	kit_assert((uintmax_t)(a) != (uintmax_t)(b), #a " is not equal to " #b)
#define assert_in_range(value, low, high)                                                          \
	kit_assert((value) >= (low) && (value) <= (high), #value " is in its range")
#define assert_memory_equal(a, b, size) kit_assert(!memcmp(a, b, size), #a " is as it was")
#define fail_msg(...) check_process_fail(__VA_ARGS__)
#define print_message(...) printf(__VA_ARGS__)
#define print_error(...) printf(__VA_ARGS__)

#endif
