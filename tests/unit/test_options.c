/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Unit tests of options.h: numbers, each type of option, positional values, errors and their
 * messages, help.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "captured_log.h"
#include "options.h"

struct object {
	bool flag, on_by_default;
	uint64_t number, bounded, size;
	char *path, *text;
	uint8_t mac[6];
	unsigned int mode, speed;
	struct option_list list;
};

static const struct option_desc table[] = {
	{ .name = "path",
	  .type = OPTION_STRING,
	  .flags = OPTION_POSITIONAL,
	  .offset = offsetof(struct object, path),
	  .help = "what to open" },
	{ .name = "flag",
	  .type = OPTION_BOOL,
	  .offset = offsetof(struct object, flag),
	  .help = "a switch" },
	{ .name = "on",
	  .type = OPTION_BOOL,
	  .offset = offsetof(struct object, on_by_default),
	  .def = "on",
	  .help = "a switch that is on" },
	{ .name = "number",
	  .type = OPTION_UINT,
	  .offset = offsetof(struct object, number),
	  .help = "any number" },
	{ .name = "bounded",
	  .type = OPTION_UINT,
	  .offset = offsetof(struct object, bounded),
	  .def = "7",
	  .min = 1,
	  .max = 64,
	  .help = "a small number" },
	{ .name = "size",
	  .type = OPTION_SIZE,
	  .offset = offsetof(struct object, size),
	  .def = "4K",
	  .min = 512,
	  .max = MIB(16),
	  .help = "bytes" },
	{ .name = "text",
	  .type = OPTION_STRING,
	  .offset = offsetof(struct object, text),
	  .def = "some text",
	  .help = "any text" },
	{ .name = "mac",
	  .type = OPTION_MAC,
	  .offset = offsetof(struct object, mac),
	  .help = "an address" },
	{ .name = "mode",
	  .type = OPTION_ENUM,
	  .offset = offsetof(struct object, mode),
	  .def = "middle",
	  .choices = "low|middle|high",
	  .help = "how much" },
	{ .name = "speed",
	  .type = OPTION_ENUM,
	  .flags = OPTION_FLAG,
	  .offset = offsetof(struct object, speed),
	  .choices = "off|on|auto",
	  .help = "bare or with a value" },
	{ .name = "item",
	  .type = OPTION_LIST,
	  .offset = offsetof(struct object, list),
	  .help = "one of several" },
	{},
};

struct second_object {
	uint64_t needed;
};

static const struct option_desc second_table[] = {
	{ .name = "needed",
	  .type = OPTION_UINT,
	  .flags = OPTION_REQUIRED,
	  .offset = offsetof(struct second_object, needed),
	  .help = "without it nothing works" },
	{},
};

static const struct option_desc empty_table[] = { {} };

struct fixture {
	struct captured_log captured;
	struct object object;
	struct option_set set;
};

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	if (!fixture)
		return -1;
	captured_log_init(&fixture->captured);
	fixture->set = (struct option_set) { .table = table, .object = &fixture->object };
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	options_free(&fixture->set, 1);
	captured_log_deinit(&fixture->captured);
	free(fixture);
	return 0;
}

/* Each test may parse several times: from a fresh object each. */
static int parse(struct fixture *fixture, const char *spec)
{
	options_free(&fixture->set, 1);
	memset(&fixture->object, 0, sizeof(fixture->object));
	fixture->captured.count = 0;
	return options_parse(&fixture->captured.log, "virtio-test", spec, &fixture->set, 1);
}

/* One line, which names the thing and holds all of the words; and nothing is left allocated. */
static void assert_refused(struct fixture *fixture, const char *spec, const char *const *words)
{
	assert_int_equal(parse(fixture, spec), -EINVAL);
	assert_int_equal(fixture->captured.count, 1);
	assert_int_equal(fixture->captured.levels[0], LOG_LEVEL_ERROR);
	assert_non_null(strstr(fixture->captured.lines[0], "virtio-test"));
	for (; *words; words++) {
		if (!strstr(fixture->captured.lines[0], *words))
			fail_msg("\"%s\" lacks \"%s\"", fixture->captured.lines[0], *words);
	}
	assert_null(fixture->object.path);
	assert_null(fixture->object.text);
	assert_int_equal(fixture->object.list.count, 0);
}

#define REFUSED(fixture, spec, ...)                                                                \
	assert_refused(fixture, spec, (const char *const[]) { __VA_ARGS__, NULL })

/* ---- Numbers ---- */

static void test_parse_uint(void **state)
{
	static const struct {
		const char *text;
		int error;
		uint64_t value;
	} cases[] = {
		{ "0", 0, 0 },
		{ "1", 0, 1 },
		{ "010", 0, 10 }, /* decimal, not octal */
		{ "18446744073709551615", 0, UINT64_MAX },
		{ "18446744073709551616", -ERANGE, 0 },
		{ "99999999999999999999999", -ERANGE, 0 },
		{ "0x0", 0, 0 },
		{ "0xff", 0, 255 },
		{ "0xFF", 0, 255 },
		{ "0Xff", 0, 255 },
		{ "0xffffffffffffffff", 0, UINT64_MAX },
		{ "0x10000000000000000", -ERANGE, 0 },
		{ "", -EINVAL, 0 },
		{ "0x", -EINVAL, 0 },
		{ "0x0x5", -EINVAL, 0 },
		{ "0xg", -EINVAL, 0 },
		{ "x", -EINVAL, 0 },
		{ "ff", -EINVAL, 0 },
		{ "12a", -EINVAL, 0 },
		{ "1 ", -EINVAL, 0 },
		{ " 1", -EINVAL, 0 },
		{ "+1", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 },
		{ "0x-1", -EINVAL, 0 },
		{ "0x 1", -EINVAL, 0 },
		{ "1.5", -EINVAL, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t value = 0;
		int error = option_parse_uint(cases[i].text, &value);

		if (error != cases[i].error || (!error && value != cases[i].value))
			fail_msg("\"%s\": %d, %llu", cases[i].text, error,
				 (unsigned long long)value);
	}
}

static void test_parse_size(void **state)
{
	static const struct {
		const char *text;
		uint64_t unit;
		int error;
		uint64_t bytes;
	} cases[] = {
		{ "0", 1, 0, 0 },
		{ "512", 1, 0, 512 },
		{ "512", MIB(1), 0, MIB(512) },
		{ "512M", 1, 0, MIB(512) },
		{ "512M", MIB(1), 0, MIB(512) }, /* the suffix wins over the unit */
		{ "1K", 1, 0, 1024 },
		{ "1k", 1, 0, 1024 },
		{ "3g", 1, 0, GIB(3) },
		{ "2T", 1, 0, UINT64_C(2) << 40 },
		{ "0x10", 1, 0, 16 },
		{ "0x10K", 1, 0, KIB(16) },
		{ "16777215T", 1, 0, UINT64_C(16777215) << 40 },
		{ "16777216T", 1, -ERANGE, 0 },
		{ "18446744073709551615", 1, 0, UINT64_MAX },
		{ "18446744073709551615", 2, -ERANGE, 0 },
		{ "18446744073709551615K", 1, -ERANGE, 0 },
		{ "18446744073709551616", 1, -ERANGE, 0 },
		{ "", 1, -EINVAL, 0 },
		{ "K", 1, -EINVAL, 0 },
		{ "1KB", 1, -EINVAL, 0 },
		{ "1KK", 1, -EINVAL, 0 },
		{ "1 K", 1, -EINVAL, 0 },
		{ "1.5G", 1, -EINVAL, 0 },
		{ "-1", 1, -EINVAL, 0 },
		{ "1E", 1, -EINVAL, 0 },
		{ "many", 1, -EINVAL, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t bytes = 0;
		int error = option_parse_size(cases[i].text, cases[i].unit, &bytes);

		if (error != cases[i].error || (!error && bytes != cases[i].bytes))
			fail_msg("\"%s\": %d, %llu", cases[i].text, error,
				 (unsigned long long)bytes);
	}
}

/* ---- Values ---- */

static void assert_defaults(const struct object *object)
{
	static const uint8_t no_mac[6];

	assert_false(object->flag);
	assert_true(object->on_by_default);
	assert_int_equal(object->number, 0);
	assert_int_equal(object->bounded, 7);
	assert_int_equal(object->size, 4096);
	assert_null(object->path);
	assert_string_equal(object->text, "some text");
	assert_memory_equal(object->mac, no_mac, 6);
	assert_int_equal(object->mode, 1);
	assert_int_equal(object->list.count, 0);
}

static void test_defaults(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(parse(fixture, NULL), 0);
	assert_defaults(&fixture->object);
	assert_int_equal(parse(fixture, ""), 0);
	assert_defaults(&fixture->object);
	assert_int_equal(fixture->captured.count, 0);
}

static void test_all_at_once(void **state)
{
	static const uint8_t mac[6] = { 0x02, 0xab, 0xCD, 0x00, 0xff, 0x10 };
	struct fixture *fixture = *state;
	const struct object *object = &fixture->object;

	assert_int_equal(parse(fixture, "/dev/null,flag,on=off,number=0x123,bounded=64,size=16M,"
					"text=hello world,mac=02:ab:CD:00:ff:10,mode=high,"
					"item=a,item=b=c,item=d"),
			 0);
	assert_string_equal(object->path, "/dev/null");
	assert_true(object->flag);
	assert_false(object->on_by_default);
	assert_int_equal(object->number, 0x123);
	assert_int_equal(object->bounded, 64);
	assert_int_equal(object->size, MIB(16));
	assert_string_equal(object->text, "hello world");
	assert_memory_equal(object->mac, mac, 6);
	assert_int_equal(object->mode, 2);
	assert_int_equal(object->list.count, 3);
	assert_string_equal(object->list.items[0], "a");
	assert_string_equal(object->list.items[1], "b=c");
	assert_string_equal(object->list.items[2], "d");
	assert_int_equal(fixture->captured.count, 0);
}

static void test_the_text_is_not_kept(void **state)
{
	struct fixture *fixture = *state;
	char spec[] = "name,item=one";

	assert_int_equal(parse(fixture, spec), 0);
	assert_string_equal(spec, "name,item=one");
	memset(spec, 'x', sizeof(spec) - 1);
	assert_string_equal(fixture->object.path, "name");
	assert_string_equal(fixture->object.list.items[0], "one");
}

static void test_bool_words(void **state)
{
	static const char *const yes[] = { "flag", "flag=on", "flag=yes", "flag=true", "flag=1" };
	static const char *const no[] = { "on=off", "on=no", "on=false", "on=0" };
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
		assert_int_equal(parse(fixture, yes[i]), 0);
		assert_true(fixture->object.flag);
	}
	for (size_t i = 0; i < ARRAY_SIZE(no); i++) {
		assert_int_equal(parse(fixture, no[i]), 0);
		assert_false(fixture->object.on_by_default);
	}
	REFUSED(fixture, "flag=maybe", "flag", "maybe", "on|off");
	REFUSED(fixture, "flag=", "flag");
	REFUSED(fixture, "flag=2", "flag", "2");
}

static void test_number_bounds(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(parse(fixture, "bounded=1"), 0);
	assert_int_equal(parse(fixture, "bounded=64"), 0);
	REFUSED(fixture, "bounded=0", "bounded", "0", "1", "64");
	REFUSED(fixture, "bounded=65", "bounded", "65", "64");
	REFUSED(fixture, "bounded=many", "bounded", "many");
	REFUSED(fixture, "bounded=", "bounded");
	assert_int_equal(parse(fixture, "number=18446744073709551615"), 0);
	assert_int_equal(fixture->object.number, UINT64_MAX);
	REFUSED(fixture, "number=18446744073709551616", "number", "18446744073709551616");
}

static void test_size_bounds(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(parse(fixture, "size=512"), 0);
	assert_int_equal(fixture->object.size, 512);
	REFUSED(fixture, "size=511", "size", "511");
	REFUSED(fixture, "size=16385K", "size", "16385K");
	REFUSED(fixture, "size=1X", "size", "1X");
}

static void test_mac(void **state)
{
	static const char *const bad[] = {
		"mac=",
		"mac=00:11:22:33:44",
		"mac=00:11:22:33:44:55:66",
		"mac=00:11:22:33:44:5g",
		"mac=00-11-22-33-44-55",
		"mac=001122334455",
		"mac=0:11:22:33:44:555",
		"mac= 0: 1: 2: 3: 4: 5",
		"mac=+0:+1:+2:+3:+4:+5",
		"mac=0x:11:22:33:44:55",
	};
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		REFUSED(fixture, bad[i], "mac");
}

static void test_enum(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(parse(fixture, "mode=low"), 0);
	assert_int_equal(fixture->object.mode, 0);
	REFUSED(fixture, "mode=mid", "mode", "mid", "low|middle|high");
	REFUSED(fixture, "mode=low|middle", "mode");
	REFUSED(fixture, "mode=", "mode");
	REFUSED(fixture, "mode=1", "mode");
}

static void test_enum_flag(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(parse(fixture, "speed"), 0);
	assert_int_equal(fixture->object.speed, 1);
	assert_int_equal(parse(fixture, "name,speed=auto"), 0);
	assert_int_equal(fixture->object.speed, 2);
	assert_int_equal(parse(fixture, "speed=off"), 0);
	assert_int_equal(fixture->object.speed, 0);
	REFUSED(fixture, "speed=", "speed");
	REFUSED(fixture, "speed=yes", "speed", "off|on|auto");
	REFUSED(fixture, "speed,speed=on", "twice");
	REFUSED(fixture, "mode", "mode", "needs a value"); /* an enum that is none */
}

static void test_list_limit(void **state)
{
	struct fixture *fixture = *state;
	char spec[OPTION_LIST_MAX * 8 + 16] = "";

	for (int i = 0; i < OPTION_LIST_MAX; i++)
		strcat(spec, i ? ",item=x" : "item=x");
	assert_int_equal(parse(fixture, spec), 0);
	assert_int_equal(fixture->object.list.count, OPTION_LIST_MAX);
	strcat(spec, ",item=x");
	REFUSED(fixture, spec, "item", "32");
}

/* ---- Elements ---- */

static void test_commas(void **state)
{
	static const struct {
		const char *spec, *path;
		bool flag;
	} cases[] = {
		{ "a,,b", "a,b", false },    { "a,,b,flag", "a,b", true },
		{ "a,,,flag", "a,", true },  { "path=a,,b,,c", "a,b,c", false },
		{ "path=a,,", "a,", false }, { "a,", "a", false },
	};
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(parse(fixture, cases[i].spec), 0);
		assert_string_equal(fixture->object.path, cases[i].path);
		assert_int_equal(fixture->object.flag, cases[i].flag);
	}
}

static void test_positional_anywhere(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(parse(fixture, "flag,disk.img"), 0);
	assert_string_equal(fixture->object.path, "disk.img");
	assert_int_equal(parse(fixture, "number=1,disk.img,flag"), 0);
	assert_string_equal(fixture->object.path, "disk.img");
	assert_int_equal(parse(fixture, "path=flag"), 0);
	assert_string_equal(fixture->object.path, "flag");
	assert_false(fixture->object.flag);
}

static void test_unknown(void **state)
{
	struct fixture *fixture = *state;

	REFUSED(fixture, "frobnicate=1", "frobnicate", "path", "flag", "on", "number", "bounded",
		"size", "text", "mac", "mode", "item");
	REFUSED(fixture, "disk.img,second", "second", "path");
	REFUSED(fixture, "Flag=on", "Flag");
	REFUSED(fixture, "=1", "valid");
}

static void test_twice(void **state)
{
	struct fixture *fixture = *state;

	REFUSED(fixture, "number=1,number=2", "number", "twice");
	REFUSED(fixture, "flag,flag", "flag", "twice");
	REFUSED(fixture, "a,path=b", "path", "twice");
}

static void test_value_missing(void **state)
{
	struct fixture *fixture = *state;

	REFUSED(fixture, "/file,number", "number");
	REFUSED(fixture, "/file,item", "item");
}

static void test_empty_values(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(parse(fixture, "text=,item="), 0);
	assert_string_equal(fixture->object.text, "");
	assert_int_equal(fixture->object.list.count, 1);
	assert_string_equal(fixture->object.list.items[0], "");
}

static void test_strings_are_freed_on_error(void **state)
{
	struct fixture *fixture = *state;

	/* LeakSanitizer looks at this one, too. */
	REFUSED(fixture, "/a/path,text=b,item=c,item=d,number=bad", "number", "bad");
}

/* ---- Several tables ---- */

static void test_two_tables(void **state)
{
	struct fixture *fixture = *state;
	struct second_object second = { 0 };
	const struct option_set sets[] = { { table, &fixture->object }, { second_table, &second } };

	assert_int_equal(options_parse(&fixture->captured.log, "virtio-test",
				       "needed=5,disk.img,number=6", sets, 2),
			 0);
	assert_int_equal(second.needed, 5);
	assert_int_equal(fixture->object.number, 6);
	assert_string_equal(fixture->object.path, "disk.img");
}

static void test_required(void **state)
{
	struct fixture *fixture = *state;
	struct second_object second = { 0 };
	const struct option_set sets[] = { { table, &fixture->object }, { second_table, &second } };

	assert_int_equal(
		options_parse(&fixture->captured.log, "virtio-test", "disk.img,item=x", sets, 2),
		-EINVAL);
	assert_int_equal(fixture->captured.count, 1);
	assert_non_null(strstr(fixture->captured.lines[0], "virtio-test"));
	assert_non_null(strstr(fixture->captured.lines[0], "needed"));
	assert_null(fixture->object.path);
	assert_null(fixture->object.text);
	assert_int_equal(fixture->object.list.count, 0);
}

static void test_unknown_names_all_tables(void **state)
{
	struct fixture *fixture = *state;
	struct second_object second = { 0 };
	const struct option_set sets[] = { { second_table, &second }, { table, &fixture->object } };

	assert_int_equal(
		options_parse(&fixture->captured.log, "virtio-test", "needed=1,nothing=x", sets, 2),
		-EINVAL);
	assert_non_null(strstr(fixture->captured.lines[0], "nothing"));
	assert_non_null(strstr(fixture->captured.lines[0], "needed"));
	assert_non_null(strstr(fixture->captured.lines[0], "bounded"));
}

static void test_no_options(void **state)
{
	struct fixture *fixture = *state;
	const struct option_set sets[] = { { empty_table, NULL } };
	struct logger *log = &fixture->captured.log;

	assert_int_equal(options_parse(log, "virtio-test", NULL, sets, 1), 0);
	assert_int_equal(options_parse(log, "virtio-test", NULL, NULL, 0), 0);
	assert_int_equal(fixture->captured.count, 0);
	assert_int_equal(options_parse(log, "virtio-test", "any", sets, 1), -EINVAL);
	assert_int_equal(fixture->captured.count, 1);
	assert_non_null(strstr(fixture->captured.lines[0], "any"));
}

static void test_free_repeatedly(void **state)
{
	struct fixture *fixture = *state;

	options_free(&fixture->set, 1); /* zeroed */
	assert_int_equal(parse(fixture, "a,item=b"), 0);
	options_free(&fixture->set, 1);
	assert_null(fixture->object.path);
	assert_null(fixture->object.text);
	assert_int_equal(fixture->object.list.count, 0);
	options_free(&fixture->set, 1);
}

/* ---- Help ---- */

static char *help_of(const struct option_desc *options)
{
	size_t len;
	char *text;
	FILE *file = open_memstream(&text, &len);

	assert_non_null(file);
	options_help(file, options);
	fclose(file);
	return text;
}

/* The line of @help that is about option @name. */
static const char *help_line(const char *help, const char *name, char *line, size_t size)
{
	for (const char *at = help; *at; at += strcspn(at, "\n") + 1) {
		const char *word = at + strspn(at, " ");

		if (!strncmp(word, name, strlen(name)) && strchr("= ", word[strlen(name)])) {
			snprintf(line, size, "%.*s", (int)strcspn(at, "\n"), at);
			return line;
		}
	}
	fail_msg("no help for %s in:\n%s", name, help);
	return NULL;
}

static void test_help(void **state)
{
	static const struct {
		const char *name, *words[3];
	} expected[] = {
		{ "path", { "what to open", "text" } },
		{ "flag", { "a switch", "on|off" } },
		{ "on", { "a switch that is on", "default on" } },
		{ "number", { "any number", "number" } },
		{ "bounded", { "a small number", "64", "default 7" } },
		{ "size", { "bytes", "default 4K" } },
		{ "text", { "any text", "default some text" } },
		{ "mac", { "an address" } },
		{ "mode", { "how much", "low|middle|high", "default middle" } },
		{ "speed", { "bare or with a value", "off|on|auto", "without a value it is on" } },
		{ "item", { "one of several" } },
	};
	char *help = help_of(table);
	unsigned int lines = 0;
	char line[512];

	for (const char *at = help; *at; at++)
		lines += *at == '\n';
	assert_int_equal(lines, ARRAY_SIZE(expected));
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
		help_line(help, expected[i].name, line, sizeof(line));
		for (size_t word = 0; word < 3 && expected[i].words[word]; word++)
			assert_non_null(strstr(line, expected[i].words[word]));
	}
	free(help);
}

static void test_help_is_sorted(void **state)
{
	static const char *const order[] = { "bounded", "flag", "item", "mac",	 "mode",
					     "number",	"on",	"size", "speed", "text" };
	char *help = help_of(table);
	const char *last = help;
	char line[512];

	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		const char *at = strstr(help, help_line(help, order[i], line, sizeof(line)));

		assert_true(at >= last);
		last = at;
	}
	free(help);
}

static void test_help_of_nothing(void **state)
{
	char *help = help_of(empty_table);

	assert_string_equal(help, "");
	free(help);
}

#define OPTION_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_uint),
		cmocka_unit_test(test_parse_size),
		OPTION_TEST(test_defaults),
		OPTION_TEST(test_all_at_once),
		OPTION_TEST(test_the_text_is_not_kept),
		OPTION_TEST(test_bool_words),
		OPTION_TEST(test_number_bounds),
		OPTION_TEST(test_size_bounds),
		OPTION_TEST(test_mac),
		OPTION_TEST(test_enum),
		OPTION_TEST(test_enum_flag),
		OPTION_TEST(test_list_limit),
		OPTION_TEST(test_commas),
		OPTION_TEST(test_positional_anywhere),
		OPTION_TEST(test_unknown),
		OPTION_TEST(test_twice),
		OPTION_TEST(test_value_missing),
		OPTION_TEST(test_empty_values),
		OPTION_TEST(test_strings_are_freed_on_error),
		OPTION_TEST(test_two_tables),
		OPTION_TEST(test_required),
		OPTION_TEST(test_unknown_names_all_tables),
		OPTION_TEST(test_no_options),
		OPTION_TEST(test_free_repeatedly),
		cmocka_unit_test(test_help),
		cmocka_unit_test(test_help_is_sorted),
		cmocka_unit_test(test_help_of_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
