/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Unit tests of log.h: levels, sinks, the form on stderr, the rate limit of guest messages.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "captured_log.h"

#define THREADS 4
#define LINES_PER_THREAD 200
#define GUEST_BURST 10
#define GUEST_WINDOW_NS UINT64_C(5000000000)

static int setup(void **state)
{
	struct captured_log *captured = malloc(sizeof(*captured));

	if (!captured)
		return -1;
	captured_log_init(captured);
	*state = captured;
	return 0;
}

static int teardown(void **state)
{
	captured_log_deinit(*state);
	free(*state);
	return 0;
}

static void test_init(void **state)
{
	struct logger log;

	logger_init(&log, "prefix");
	assert_int_equal(log.level, LOG_LEVEL_INFO);
	assert_string_equal(log.prefix, "prefix");
	assert_null(log.sink);
	logger_deinit(&log);
}

static void test_parse_level(void **state)
{
	static const struct {
		const char *text;
		int level;
	} table[] = {
		{ "error", LOG_LEVEL_ERROR },
		{ "warning", LOG_LEVEL_WARNING },
		{ "info", LOG_LEVEL_INFO },
		{ "debug", LOG_LEVEL_DEBUG },
		{ "0", 0 },
		{ "1", 1 },
		{ "2", 2 },
		{ "3", 3 },
		{ "4", -EINVAL },
		{ "-1", -EINVAL },
		{ "00", -EINVAL },
		{ "", -EINVAL },
		{ "infos", -EINVAL },
		{ "inf", -EINVAL },
		{ " info", -EINVAL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		assert_int_equal(logger_parse_level(table[i].text), table[i].level);
}

static void log_one_of_each(struct logger *log)
{
	log_error(log, "an %s", "error");
	log_warning(log, "a %s", "warning");
	log_info(log, "an %s", "info");
	log_debug(log, "a %s", "debug");
}

static void test_levels_above_the_limit_are_dropped(void **state)
{
	static const char *const expected[] = { "an error", "a warning", "an info", "a debug" };
	struct captured_log *captured = *state;

	for (int level = LOG_LEVEL_ERROR; level <= LOG_LEVEL_DEBUG; level++) {
		captured->count = 0;
		captured->log.level = level;
		log_one_of_each(&captured->log);
		assert_int_equal(captured->count, level + 1);
		for (int i = 0; i <= level; i++) {
			assert_int_equal(captured->levels[i], i);
			assert_string_equal(captured->lines[i], expected[i]);
		}
	}
}

static void test_long_line_is_cut(void **state)
{
	struct captured_log *captured = *state;
	char *text = malloc(100000);

	assert_non_null(text);
	memset(text, 'x', 99999);
	text[99999] = '\0';
	log_info(&captured->log, "start %s", text);
	assert_int_equal(captured->count, 1);
	assert_memory_equal(captured->lines[0], "start xxx", 9);
	assert_true(strlen(captured->lines[0]) < 100000);
	free(text);
}

/* Runs @speak with stderr in a file; returns what was written there. */
static char *stderr_of(void (*speak)(void))
{
	FILE *file = tmpfile();
	int saved = dup(STDERR_FILENO);
	char *text = calloc(1, 8192);
	ssize_t len;

	assert_non_null(file);
	assert_non_null(text);
	assert_true(saved >= 0);
	assert_int_equal(dup2(fileno(file), STDERR_FILENO), STDERR_FILENO);
	speak();
	assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
	close(saved);
	len = pread(fileno(file), text, 8191, 0);
	assert_true(len >= 0);
	fclose(file);
	return text;
}

static void speak_each_level(void)
{
	struct logger log;

	logger_init(&log, "tenon");
	log.level = LOG_LEVEL_DEBUG;
	log_one_of_each(&log);
	logger_deinit(&log);
}

static void test_lines_on_stderr_have_the_prefix(void **state)
{
	char *text = stderr_of(speak_each_level);
	char *rest = text;
	static const char *const ends[] = { "an error", "a warning", "an info", "a debug" };

	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		char *line = strsep(&rest, "\n");
		size_t len = strlen(ends[i]);

		assert_non_null(rest); /* each line is ended */
		assert_memory_equal(line, "tenon: ", 7);
		assert_true(strlen(line) > len);
		assert_string_equal(line + strlen(line) - len, ends[i]);
	}
	assert_string_equal(rest, "");
	free(text);
}

static void speak_long(void)
{
	struct logger log;
	char text[5000];

	memset(text, 'y', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	logger_init(&log, "tenon");
	log_error(&log, "%s", text);
	log_info(&log, "next");
	logger_deinit(&log);
}

static void test_long_line_on_stderr_is_one_line(void **state)
{
	char *text = stderr_of(speak_long);
	char *end = strchr(text, '\n');

	assert_non_null(end);
	assert_string_equal(end + 1, "tenon: next\n");
	free(text);
}

/* ---- Guest messages ---- */

static void guest_speaks(struct logger *log, unsigned int value)
{
	log_guest(log, "queue %u is bad", value);
}

static void other_place_speaks(struct logger *log)
{
	log_guest(log, "another place");
}

/* Moves the start of all windows @ns into the past, as if that time had gone by. */
static void time_passes(struct logger *log, uint64_t ns)
{
	for (unsigned int i = 0; i < LOG_SITES; i++)
		log->sites[i].window_start_ns -= ns;
}

static void test_guest_burst_is_limited(void **state)
{
	struct captured_log *captured = *state;

	for (unsigned int i = 0; i < 1000; i++)
		guest_speaks(&captured->log, i);
	assert_int_equal(captured->count, GUEST_BURST);
	assert_string_equal(captured->lines[0], "queue 0 is bad");
	assert_string_equal(captured->lines[9], "queue 9 is bad");
}

static void test_guest_limit_is_per_site(void **state)
{
	struct captured_log *captured = *state;

	for (unsigned int i = 0; i < 1000; i++)
		guest_speaks(&captured->log, i);
	other_place_speaks(&captured->log);
	assert_int_equal(captured->count, GUEST_BURST + 1);
	assert_string_equal(captured->lines[GUEST_BURST], "another place");
}

static void owner_speaks(struct logger *log, const void *owner, unsigned int value)
{
	log_guest_of(log, owner, "device %p, queue %u is bad", owner, value);
}

/* One place in the source that speaks for several devices. */
static void test_guest_limit_is_per_owner(void **state)
{
	struct captured_log *captured = *state;
	char owners[3];

	for (unsigned int i = 0; i < 1000; i++)
		owner_speaks(&captured->log, &owners[0], i);
	assert_int_equal(captured->count, GUEST_BURST);
	owner_speaks(&captured->log, &owners[1], 0);
	owner_speaks(&captured->log, &owners[2], 0);
	owner_speaks(&captured->log, NULL, 0);
	assert_int_equal(captured->count, GUEST_BURST + 3);
	owner_speaks(&captured->log, &owners[0], 0);
	assert_int_equal(captured->count, GUEST_BURST + 3);
}

/* More owners than the table has room for stay limited, too. */
static void test_more_guest_owners_than_the_table_has(void **state)
{
	static char owners[3 * LOG_SITES];
	struct captured_log *captured = *state;

	for (unsigned int round = 0; round < 100; round++)
		for (size_t i = 0; i < ARRAY_SIZE(owners); i++)
			owner_speaks(&captured->log, &owners[i], round);
	assert_true(captured->count >= LOG_SITES);
	assert_true(captured->count <= ARRAY_SIZE(owners) * GUEST_BURST);
}

static void test_guest_limit_does_not_hold_others_back(void **state)
{
	struct captured_log *captured = *state;

	for (unsigned int i = 0; i < 20; i++)
		log_info(&captured->log, "host %u", i);
	assert_int_equal(captured->count, 20);
}

static void test_guest_summary_in_the_next_window(void **state)
{
	struct captured_log *captured = *state;

	for (unsigned int i = 0; i < 52; i++)
		guest_speaks(&captured->log, i);
	time_passes(&captured->log, GUEST_WINDOW_NS + 1000000000);
	guest_speaks(&captured->log, 52);
	assert_int_equal(captured->count, GUEST_BURST + 2);
	assert_non_null(strstr(captured->lines[GUEST_BURST], "42"));
	assert_string_equal(captured->lines[GUEST_BURST + 1], "queue 52 is bad");
}

static void test_guest_window_opens_again(void **state)
{
	struct captured_log *captured = *state;

	for (unsigned int i = 0; i < GUEST_BURST; i++)
		guest_speaks(&captured->log, i);
	time_passes(&captured->log, GUEST_WINDOW_NS + 1000000000);
	for (unsigned int i = 0; i < 100; i++)
		guest_speaks(&captured->log, i);
	/* Nothing was suppressed in the first window, so there is no summary of it. */
	assert_int_equal(captured->count, 2 * GUEST_BURST);
}

static void test_guest_summary_at_the_end(void **state)
{
	struct captured_log captured;

	captured_log_init(&captured);
	for (unsigned int i = 0; i < 17; i++)
		guest_speaks(&captured.log, i);
	captured_log_deinit(&captured);
	assert_int_equal(captured.count, GUEST_BURST + 1);
	assert_non_null(strstr(captured.lines[GUEST_BURST], "7"));
}

static void test_no_summary_without_suppression(void **state)
{
	struct captured_log captured;

	captured_log_init(&captured);
	guest_speaks(&captured.log, 1);
	captured_log_deinit(&captured);
	assert_int_equal(captured.count, 1);
}

/* More sites than the table has room for must stay limited, and none may be lost for good. */
static void test_more_guest_sites_than_the_table_has(void **state)
{
	static struct log_site sites[3 * LOG_SITES];
	struct captured_log *captured = *state;

	for (size_t i = 0; i < ARRAY_SIZE(sites); i++)
		sites[i] = (struct log_site) { .file = "many.c", .line = (int)i };
	for (unsigned int round = 0; round < 100; round++) {
		for (size_t i = 0; i < ARRAY_SIZE(sites); i++)
			log_guest_message(&captured->log, &sites[i], "site %zu", i);
	}
	assert_true(captured->count >= LOG_SITES);
	assert_true(captured->count <= ARRAY_SIZE(sites) * GUEST_BURST);
}

static void test_guest_messages_obey_the_level(void **state)
{
	struct captured_log *captured = *state;

	captured->log.level = LOG_LEVEL_ERROR;
	guest_speaks(&captured->log, 1);
	assert_int_equal(captured->count, 0);
}

static void test_errno_is_left_alone(void **state)
{
	struct captured_log *captured = *state;

	errno = ENOTTY;
	log_error(&captured->log, "cannot: %m");
	assert_int_equal(errno, ENOTTY);
	assert_string_equal(captured->lines[0], "cannot: Inappropriate ioctl for device");
	guest_speaks(&captured->log, 1);
	assert_int_equal(errno, ENOTTY);
}

/* ---- Two loggers, many threads ---- */

static void test_loggers_are_independent(void **state)
{
	struct captured_log *captured = *state;
	struct captured_log other;

	captured_log_init(&other);
	for (unsigned int i = 0; i < 100; i++)
		guest_speaks(&captured->log, i);
	guest_speaks(&other.log, 7);
	assert_int_equal(other.count, 1);
	assert_string_equal(other.lines[0], "queue 7 is bad");
	captured_log_deinit(&other);
}

static void *speak_much(void *arg)
{
	struct logger *log = arg;

	for (unsigned int i = 0; i < LINES_PER_THREAD; i++) {
		log_info(log, "a line of a thread");
		guest_speaks(log, i);
	}
	return NULL;
}

static void test_many_threads(void **state)
{
	struct captured_log *captured = *state;
	pthread_t threads[THREADS];

	for (unsigned int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, speak_much, &captured->log), 0);
	for (unsigned int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(captured->count, THREADS * LINES_PER_THREAD + GUEST_BURST);
}

static void *speak_on_stderr(void *arg)
{
	for (unsigned int i = 0; i < 50; i++)
		log_info(arg, "0123456789");
	return NULL;
}

static void speak_from_threads(void)
{
	pthread_t threads[THREADS];
	struct logger log;

	logger_init(&log, "tenon");
	for (unsigned int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, speak_on_stderr, &log), 0);
	for (unsigned int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	logger_deinit(&log);
}

static void test_lines_of_threads_do_not_mix(void **state)
{
	char *text = stderr_of(speak_from_threads);
	char *rest = text;

	for (unsigned int i = 0; i < THREADS * 50; i++)
		assert_string_equal(strsep(&rest, "\n"), "tenon: 0123456789");
	assert_string_equal(rest, "");
	free(text);
}

#define LOG_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_init),
		cmocka_unit_test(test_parse_level),
		LOG_TEST(test_levels_above_the_limit_are_dropped),
		LOG_TEST(test_long_line_is_cut),
		cmocka_unit_test(test_lines_on_stderr_have_the_prefix),
		cmocka_unit_test(test_long_line_on_stderr_is_one_line),
		LOG_TEST(test_guest_burst_is_limited),
		LOG_TEST(test_guest_limit_is_per_site),
		LOG_TEST(test_guest_limit_is_per_owner),
		LOG_TEST(test_more_guest_owners_than_the_table_has),
		LOG_TEST(test_guest_limit_does_not_hold_others_back),
		LOG_TEST(test_guest_summary_in_the_next_window),
		LOG_TEST(test_guest_window_opens_again),
		cmocka_unit_test(test_guest_summary_at_the_end),
		cmocka_unit_test(test_no_summary_without_suppression),
		LOG_TEST(test_more_guest_sites_than_the_table_has),
		LOG_TEST(test_guest_messages_obey_the_level),
		LOG_TEST(test_errno_is_left_alone),
		LOG_TEST(test_loggers_are_independent),
		LOG_TEST(test_many_threads),
		cmocka_unit_test(test_lines_of_threads_do_not_mix),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
