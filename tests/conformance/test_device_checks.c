/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The checks of `tenon check-device`, on every kind of device that is registered, in this process.
 */
#include <stdio.h>
#include <stdlib.h>

#include "check_context.h"
#include "device_kinds.h"

#define TESTS_MAX 1024

struct check_case {
	const struct device_kind *kind;
	const struct device_check *check;
};

static void test_check(void **state)
{
	const struct check_case *test = *state;
	struct kind_bench bench = { .kind = test->kind };
	char options[160] = "", spec[256], why[CHECK_WHY_SIZE];
	enum check_result result;

	if (test->kind->make && !test->kind->make(&bench, options, sizeof(options)))
		skip();
	snprintf(spec, sizeof(spec), "%s%s%s", test->kind->name, options[0] ? "," : "", options);
	result = device_check_run(test->check, spec, why);
	if (test->kind->unmake)
		test->kind->unmake(&bench);
	if (result == CHECK_FAIL)
		fail_msg("%s: %s", spec, why);
	if (result == CHECK_NOT_APPLICABLE)
		print_message("not applicable to %s: %s\n", spec, why);
}

static struct CMUnitTest make_test(const struct device_kind *kind, const struct device_check *check)
{
	struct check_case *test = calloc(1, sizeof(*test));
	char *name;

	if (!test || asprintf(&name, "%s: %s %s", kind->name, check->clause, check->title) < 0)
		abort();
	*test = (struct check_case) { .kind = kind, .check = check };
	return (struct CMUnitTest) { .name = name, .test_func = test_check, .initial_state = test };
}

int main(void)
{
	static struct CMUnitTest tests[TESTS_MAX];
	const struct device_kind *kind;
	const struct device_check *check;
	size_t count = 0;
	int failed;

	for (unsigned int i = 0; (kind = device_kind_at(i)); i++)
		for (unsigned int j = 0; (check = device_check_at(j)) && count < TESTS_MAX; j++)
			tests[count++] = make_test(kind, check);
	failed = _cmocka_run_group_tests("device_checks", tests, count, NULL, NULL);
	for (size_t i = 0; i < count; i++) {
		free(tests[i].initial_state);
		free((void *)(uintptr_t)tests[i].name);
	}
	return failed;
}
