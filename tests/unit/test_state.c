/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Saved states: the bytes, what is loaded from them, and every refusal with its line. The states of
 * devices are tests/driver/test_state.c's and test_state_mutation.c's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../devicemodel/core/state_format.h"
#include "captured_log.h"

/* ---- An object ---- */

struct part {
	uint16_t a;
	bool on;
};

struct thing {
	char name[8];
	uint32_t number;
	uint8_t bytes[3];
	bool flag;
	uint32_t part_count;
	struct part parts[4];
	uint64_t *words;
	uint32_t word_count;
	uint32_t later;
	int not_saved;
	unsigned int saved, loaded;
};

static uint32_t parts_used(const void *object)
{
	return ((const struct thing *)object)->part_count;
}

static uint32_t words_used(const void *object)
{
	return ((const struct thing *)object)->word_count;
}

static const struct state_field part_fields[] = {
	{ STATE_FIELD(struct part, a), .max = 100 },
	{ STATE_FIELD(struct part, on) },
	{},
};

#define THING_FIELDS                                                                               \
	{ STATE_BYTES(struct thing, name), .match = true, .text = true,                            \
	  .hint = "use the other one" },                                                           \
		{ STATE_FIELD(struct thing, number), .min = 10, .max = 20 },                       \
		{ STATE_BYTES(struct thing, bytes) }, { STATE_FIELD(struct thing, flag) },         \
		{ STATE_FIELD(struct thing, part_count), .max = 4 },                               \
		{ STATE_ARRAY(struct thing, parts), .count_of = parts_used,                        \
		  .fields = part_fields },                                                         \
	{                                                                                          \
		STATE_POINTER(struct thing, words, 8), .count_of = words_used                      \
	}

static const struct state_field fields_1[] = { THING_FIELDS, {} };
static const struct state_field fields_2[] = {
	THING_FIELDS,
	{ STATE_FIELD(struct thing, later), .since = 2, .def = 7 },
	{},
};

static const char *thing_check(const void *object, const void *staged)
{
	const struct thing *thing = staged;

	return thing->number == 13 ? "number: brings bad luck" : NULL;
}

static void thing_saving(void *object)
{
	((struct thing *)object)->saved++;
}

static const struct state_desc desc_1 = {
	.name = "thing",
	.version = 1,
	.fields = fields_1,
	.saving = thing_saving,
	.check = thing_check,
};

static const struct state_desc desc_2 = { .name = "thing", .version = 2, .fields = fields_2 };

/* Where things are in the state of one thing at place "p" that thing_fill() made. */
enum {
	AT_SECTION = sizeof(struct state_header),
	AT_NAME = AT_SECTION + sizeof(struct state_section_header),
	AT_NUMBER = AT_NAME + 8,
	AT_BYTES = AT_NUMBER + 4,
	AT_FLAG = AT_BYTES + 3,
	AT_PART_COUNT = AT_FLAG + 1,
	AT_PARTS = AT_PART_COUNT + 4,
	AT_WORDS = AT_PARTS + 2 * 3,
	AT_END = AT_WORDS + 2 * 8,
};

static uint64_t thing_words[2];

static struct thing thing_make(void)
{
	struct thing thing = { .name = "apple", .words = thing_words, .word_count = 2 };

	memset(thing_words, 0, sizeof(thing_words));
	return thing;
}

static void thing_fill(struct thing *thing)
{
	thing->number = 17;
	memcpy(thing->bytes, "\1\2\3", 3);
	thing->flag = true;
	thing->part_count = 2;
	thing->parts[0] = (struct part) { .a = 5, .on = true };
	thing->parts[1] = (struct part) { .a = 100 };
	thing->words[0] = UINT64_C(0x1122334455667788);
	thing->words[1] = UINT64_MAX;
	thing->later = 99;
	thing->not_saved = 1;
}

/* ---- A bench ---- */

struct bench {
	struct captured_log captured;
	struct state_writer *writer;
	struct state_reader *reader;
	uint8_t *bytes; /* of the state of a filled thing, to be changed */
	size_t len;
};

static void bench_save(struct bench *bench, const struct state_desc *desc)
{
	struct thing thing = thing_make();
	const uint8_t *bytes;

	thing_fill(&thing);
	assert_int_equal(state_save(bench->writer, "p", 3, desc, &thing), 0);
	bytes = state_finish(bench->writer, &bench->len);
	free(bench->bytes);
	bench->bytes = malloc(bench->len);
	assert_non_null(bench->bytes);
	memcpy(bench->bytes, bytes, bench->len);
}

static int setup(void **state)
{
	struct bench *bench = calloc(1, sizeof(*bench));

	assert_non_null(bench);
	captured_log_init(&bench->captured);
	bench->writer = state_writer_create(&bench->captured.log);
	assert_non_null(bench->writer);
	*state = bench;
	return 0;
}

static int teardown(void **state)
{
	struct bench *bench = *state;

	state_reader_close(bench->reader);
	state_writer_destroy(bench->writer);
	captured_log_deinit(&bench->captured);
	free(bench->bytes);
	free(bench);
	return 0;
}

static void open_state(struct bench *bench)
{
	state_reader_close(bench->reader);
	bench->reader = state_reader_open(&bench->captured.log, bench->bytes, bench->len);
}

static struct thing *stage(struct bench *bench, const struct thing *thing)
{
	struct thing *staged = state_alloc(bench->reader, sizeof(*staged));

	assert_non_null(staged);
	*staged = *thing;
	return staged;
}

/* ---- Bytes ---- */

static void test_bytes(void **state)
{
	struct bench *bench = *state;
	uint8_t expected[138] = {
		't', 'e', 'n', 'o', 'n', '-', 's', 't', 1, 0, 0, 0, 1, 0, 0, 0, 138,
	};
	static const uint8_t section[] = {
		3,    0,    0,	  0,	1,    0,   0,	0,   42,  0,   0,   0,	 0,    0,    0,
		0,    'a',  'p',  'p',	'l',  'e', 0,	0,   0,	  17,  0,   0,	 0,    1,    2,
		3,    1,    2,	  0,	0,    0,   5,	0,   1,	  100, 0,   0,	 0x88, 0x77, 0x66,
		0x55, 0x44, 0x33, 0x22, 0x11, 255, 255, 255, 255, 255, 255, 255, 255,
	};

	memcpy(expected + AT_SECTION, "p/thing", 7);
	memcpy(expected + AT_SECTION + STATE_NAME_SIZE, section, sizeof(section));
	bench_save(bench, &desc_1);
	assert_int_equal(bench->len, sizeof(expected));
	assert_int_equal(bench->len, AT_END);
	bytes_put(expected + offsetof(struct state_header, crc32), 4,
		  state_checksum(bench->bytes, bench->len));
	assert_memory_equal(bench->bytes, expected, sizeof(expected));
}

/* Against CRC-32 as ISO 3309 has it, bit by bit; the place for the checksum counts as 0. */
static void test_checksum(void **state)
{
	uint8_t bytes[sizeof(struct state_header) + 9] = { 0 };
	uint32_t crc = UINT32_MAX;

	memcpy(bytes + sizeof(struct state_header), "123456789", 9);
	memset(bytes + offsetof(struct state_header, crc32), 0xee, 4);
	for (unsigned int i = 0; i < sizeof(bytes); i++) {
		bool own = i >= offsetof(struct state_header, crc32) &&
			   i < offsetof(struct state_header, crc32) + 4;

		crc ^= own ? 0 : bytes[i];
		for (unsigned int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
	}
	assert_int_equal(state_checksum(bytes, sizeof(bytes)), (uint32_t)~crc);
}

static void count_values(void *arg, const struct state_value *value)
{
	char *all = arg;

	sprintf(all + strlen(all), "%s@%zu+%u ", value->field, value->offset, value->size);
	assert_string_equal(value->section, "p/thing");
	assert_int_equal(value->instance, 3);
}

static void test_trace(void **state)
{
	struct bench *bench = *state;
	char all[600] = "", expected[600];

	state_writer_trace(bench->writer, count_values, all);
	bench_save(bench, &desc_1);
	snprintf(expected, sizeof(expected), "number@%d+4 ", AT_NUMBER);
	assert_non_null(strstr(all, expected));
	snprintf(expected, sizeof(expected), "bytes[2]@%d+1 ", AT_BYTES + 2);
	assert_non_null(strstr(all, expected));
	snprintf(expected, sizeof(expected), "parts[1].a@%d+2 parts[1].on@%d+1 ", AT_PARTS + 3,
		 AT_PARTS + 5);
	assert_non_null(strstr(all, expected));
	snprintf(expected, sizeof(expected), "words[1]@%d+8 ", AT_WORDS + 8);
	assert_non_null(strstr(all, expected));
}

/* ---- Loading ---- */

static void apply_thing(void *object, void *staged)
{
	state_apply(&desc_1, object, staged);
	((struct thing *)object)->loaded++;
}

static void test_load(void **state)
{
	struct bench *bench = *state;
	struct thing thing = thing_make(), *staged;
	uint64_t *words = thing.words;

	bench_save(bench, &desc_1);
	memset(words, 0, sizeof(thing_words));
	open_state(bench);
	assert_non_null(bench->reader);
	staged = stage(bench, &thing);
	assert_int_equal(state_load(bench->reader, "p", 3, &desc_1, &thing, staged), 0);
	assert_int_equal(thing.number, 0);
	assert_int_equal(words[0], 0);
	assert_int_equal(state_defer(bench->reader, apply_thing, &thing, staged), 0);
	assert_int_equal(thing.loaded, 0);
	assert_int_equal(state_commit(bench->reader), 0);
	assert_int_equal(thing.loaded, 1);
	assert_int_equal(thing.number, 17);
	assert_memory_equal(thing.bytes, "\1\2\3", 3);
	assert_true(thing.flag);
	assert_int_equal(thing.part_count, 2);
	assert_int_equal(thing.parts[0].a, 5);
	assert_true(thing.parts[0].on);
	assert_int_equal(thing.parts[1].a, 100);
	assert_ptr_equal(thing.words, words);
	assert_int_equal(words[0], UINT64_C(0x1122334455667788));
	assert_int_equal(words[1], UINT64_MAX);
	assert_int_equal(thing.not_saved, 0);
	assert_int_equal(thing.later, 0);
	assert_int_equal(bench->captured.count, 0);
}

/* A field that came with version 2: from an old state it gets its default. */
static void test_versions(void **state)
{
	struct bench *bench = *state;
	struct thing thing = thing_make(), *staged;

	bench_save(bench, &desc_1);
	open_state(bench);
	staged = stage(bench, &thing);
	staged->later = 1;
	assert_int_equal(state_load(bench->reader, "p", 3, &desc_2, &thing, staged), 0);
	assert_int_equal(staged->later, 7);
	assert_int_equal(staged->number, 17);

	state_writer_destroy(bench->writer);
	bench->writer = state_writer_create(&bench->captured.log);
	bench_save(bench, &desc_2);
	open_state(bench);
	assert_int_equal(
		state_load(bench->reader, "p", 3, &desc_2, &thing, staged = stage(bench, &thing)),
		0);
	assert_int_equal(staged->later, 99);
	assert_int_equal(bench->captured.count, 0);
	assert_int_equal(state_load(bench->reader, "p", 3, &desc_1, &thing, stage(bench, &thing)),
			 -EINVAL);
	assert_string_equal(bench->captured.lines[0],
			    "state: section p/thing[3]: version 2 is unknown, this tenon reads 1 "
			    "to 1");
}

static void test_count_too_large_to_save(void **state)
{
	struct bench *bench = *state;
	struct thing thing = thing_make();
	size_t before, after;

	state_finish(bench->writer, &before);
	thing.part_count = 5;
	assert_int_equal(state_save(bench->writer, NULL, 0, &desc_1, &thing), -EINVAL);
	assert_string_equal(
		bench->captured.lines[0],
		"state: section thing[0]: cannot be saved: parts: 5 elements, there can "
		"be 4");
	state_finish(bench->writer, &after);
	assert_int_equal(after, before);
}

/* ---- Refusals of the frame ---- */

/* @at, @size, @value: what is written over the state; @cut: bytes taken from its end, < 0: added */
struct refusal {
	size_t at;
	unsigned int size;
	uint64_t value;
	int cut;
	bool seal;
	const char *line;
};

#define HEADER(member)                                                                             \
	offsetof(struct state_header, member), sizeof(((struct state_header *)0)->member)
#define SECTION(member)                                                                            \
	AT_SECTION + offsetof(struct state_section_header, member),                                \
		sizeof(((struct state_section_header *)0)->member)

static const struct refusal frame_refusals[] = {
	{ 0, 1, 'T', 0, true, "header: magic: not a saved state of tenon" },
	{ HEADER(format), 2, 0, true,
	  "header: format: version 2 is unknown, this tenon reads version 1" },
	{ HEADER(format), 0, 0, true,
	  "header: format: version 0 is unknown, this tenon reads version 1" },
	{ HEADER(length), 137, 0, false, "header: length: says 137 bytes, there are 138" },
	{ HEADER(length), UINT64_MAX, 0, false,
	  "header: length: says 18446744073709551615 bytes, there are 138" },
	{ 0, 0, 0, 1, false, "header: length: says 138 bytes, there are 137" },
	{ 0, 0, 0, -1, false, "header: length: says 138 bytes, there are 139" },
	{ 0, 0, 0, 107, false, "header: 31 bytes are no state" },
	{ 0, 0, 0, 138, false, "header: 0 bytes are no state" },
	{ AT_END - 1, 1, 0, 0, false, "header: crc32: the state is damaged" },
	{ AT_NUMBER, 1, 18, 0, false, "header: crc32: the state is damaged" },
	{ HEADER(crc32), 0, 0, false, "header: crc32: the state is damaged" },
	{ HEADER(reserved), 1, 0, true, "header: reserved: not 0" },
	{ HEADER(section_count), UINT32_MAX, 0, true,
	  "header: section_count: 4294967295 cannot be" },
	{ HEADER(section_count), 3, 0, true, "header: section_count: 3 cannot be" },
	{ HEADER(section_count), 2, 0, true, "header: section_count: there is no section 1" },
	{ HEADER(section_count), 0, 0, true,
	  "header: section_count: 106 bytes behind the last section" },
	{ 0, 0, 0, -5, true, "header: section_count: 5 bytes behind the last section" },
	{ 0, 0, 0, 1, true, "section p/thing[3]: length: more than what is left of the state" },
	{ SECTION(length), UINT32_MAX, 0, true,
	  "section p/thing[3]: length: more than what is left of the state" },
	{ SECTION(reserved), 1, 0, true, "section p/thing[3]: reserved: not 0" },
	{ AT_SECTION, 1, 0, 0, true, "header: section 0 has no valid name" },
	{ AT_SECTION, 1, '\n', 0, true, "header: section 0 has no valid name" },
	{ AT_SECTION, 1, 0x1b, 0, true, "header: section 0 has no valid name" },
	{ AT_SECTION, 1, 0xff, 0, true, "header: section 0 has no valid name" },
	{ AT_SECTION + 20, 1, 'x', 0, true, "header: section 0 has no valid name" },
};

static void bench_edit(struct bench *bench, const struct refusal *refusal)
{
	size_t len = bench->len - (size_t)refusal->cut;

	bench->bytes = realloc(bench->bytes, len ? len : 1);
	assert_non_null(bench->bytes);
	if (len > bench->len)
		memset(bench->bytes + bench->len, 0, len - bench->len);
	bench->len = len;
	if (refusal->size)
		bytes_put(bench->bytes + refusal->at, refusal->size, refusal->value);
	if (refusal->seal && refusal->at != offsetof(struct state_header, length))
		state_seal(bench->bytes, bench->len);
}

static void expect_line(struct bench *bench, const char *line)
{
	char expected[300];

	snprintf(expected, sizeof(expected), "state: %s", line);
	assert_int_equal(bench->captured.count, 1);
	assert_string_equal(bench->captured.lines[0], expected);
	assert_int_equal(bench->captured.levels[0], LOG_LEVEL_ERROR);
	bench->captured.count = 0;
}

static void test_frame_refusals(void **state)
{
	struct bench *bench = *state;

	bench_save(bench, &desc_1);
	for (unsigned int i = 0; i < ARRAY_SIZE(frame_refusals); i++) {
		const uint8_t *whole = state_finish(bench->writer, &bench->len);

		bench->bytes = realloc(bench->bytes, bench->len);
		memcpy(bench->bytes, whole, bench->len);
		bench_edit(bench, &frame_refusals[i]);
		open_state(bench);
		assert_null(bench->reader);
		assert_int_equal(errno, strstr(frame_refusals[i].line, "is unknown")
						? EPROTONOSUPPORT
						: EBADMSG);
		expect_line(bench, frame_refusals[i].line);
	}
}

static void test_duplicates(void **state)
{
	struct bench *bench = *state;
	struct thing thing = thing_make();

	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(state_save(bench->writer, NULL, i, &desc_1, &thing), 0);
	bench_save(bench, &desc_1);
	open_state(bench);
	assert_non_null(bench->reader);
	bench_save(bench, &desc_1);
	open_state(bench);
	assert_null(bench->reader);
	expect_line(bench, "section p/thing[3]: is there twice");
}

/* ---- Refusals of a section ---- */

static const struct refusal section_refusals[] = {
	{ AT_NAME, 1, 'A', 0, true,
	  "section p/thing[3]: name: the state is of \"Apple\", this is \"apple\" (use the other "
	  "one)" },
	{ AT_NAME, 1, 0x1b, 0, true,
	  "section p/thing[3]: name: the state is of \"?pple\", this is \"apple\" (use the other "
	  "one)" },
	{ AT_NUMBER, 4, 9, 0, true, "section p/thing[3]: number: 0x9 is not from 0xa to 0x14" },
	{ AT_NUMBER, 4, 21, 0, true, "section p/thing[3]: number: 0x15 is not from 0xa to 0x14" },
	{ AT_NUMBER, 4, UINT32_MAX, 0, true,
	  "section p/thing[3]: number: 0xffffffff is not from 0xa to 0x14" },
	{ AT_NUMBER, 4, 13, 0, true, "section p/thing[3]: number: brings bad luck" },
	{ AT_FLAG, 1, 2, 0, true, "section p/thing[3]: flag: 0x2 is not from 0x0 to 0x1" },
	{ AT_FLAG, 1, 0xff, 0, true, "section p/thing[3]: flag: 0xff is not from 0x0 to 0x1" },
	{ AT_PART_COUNT, 4, 5, 0, true,
	  "section p/thing[3]: part_count: 0x5 is not from 0x0 to 0x4" },
	{ AT_PART_COUNT, 4, 4, 0, true,
	  "section p/thing[3]: parts[2].a: 0x7788 is not from 0x0 to 0x64" },
	{ AT_PART_COUNT, 4, 1, 0, true, "section p/thing[3]: length: 3 bytes too many" },
	{ AT_PARTS, 2, 101, 0, true,
	  "section p/thing[3]: parts[0].a: 0x65 is not from 0x0 to 0x64" },
	{ AT_PARTS + 5, 1, 7, 0, true,
	  "section p/thing[3]: parts[1].on: 0x7 is not from 0x0 to 0x1" },
	{ SECTION(version), 0, 0, true,
	  "section p/thing[3]: version 0 is unknown, this tenon reads 1 to 1" },
	{ SECTION(version), 2, 0, true,
	  "section p/thing[3]: version 2 is unknown, this tenon reads 1 to 1" },
	{ SECTION(version), UINT32_MAX, 0, true,
	  "section p/thing[3]: version 4294967295 is unknown, this tenon reads 1 to 1" },
	{ SECTION(instance), 4, 0, true, "section p/thing[3]: is missing" },
	{ AT_SECTION, 1, 'q', 0, true, "section p/thing[3]: is missing" },
};

static void refuse_section(struct bench *bench, const char *line)
{
	struct thing thing = thing_make(), before, *staged;

	thing.number = 11;
	before = thing;
	open_state(bench);
	assert_non_null(bench->reader);
	staged = stage(bench, &thing);
	assert_int_equal(state_load(bench->reader, "p", 3, &desc_1, &thing, staged), -EINVAL);
	expect_line(bench, line);
	assert_memory_equal(&thing, &before, sizeof(thing));
	assert_int_equal(thing_words[0] | thing_words[1], 0);
}

static void test_section_refusals(void **state)
{
	struct bench *bench = *state;

	bench_save(bench, &desc_1);
	for (unsigned int i = 0; i < ARRAY_SIZE(section_refusals); i++) {
		const uint8_t *whole = state_finish(bench->writer, &bench->len);

		memcpy(bench->bytes, whole, bench->len);
		bench_edit(bench, &section_refusals[i]);
		refuse_section(bench, section_refusals[i].line);
	}
}

/* The section ends in each of its fields, or goes on behind the last. */
static void test_section_lengths(void **state)
{
	struct bench *bench = *state;
	static const struct {
		size_t len;
		const char *line;
	} lengths[] = {
		{ AT_NAME, "section p/thing[3]: name: the section ends before it" },
		{ AT_NUMBER - 1, "section p/thing[3]: name: the section ends before it" },
		{ AT_NUMBER, "section p/thing[3]: number: the section ends before it" },
		{ AT_BYTES + 1, "section p/thing[3]: bytes[0]: the section ends before it" },
		{ AT_PARTS + 4, "section p/thing[3]: parts[1].a: the section ends before it" },
		{ AT_END - 1, "section p/thing[3]: words[0]: the section ends before it" },
		{ AT_END + 1, "section p/thing[3]: length: 1 bytes too many" },
		{ AT_END + 50, "section p/thing[3]: length: 50 bytes too many" },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(lengths); i++) {
		const uint8_t *whole;

		if (!i)
			bench_save(bench, &desc_1);
		whole = state_finish(bench->writer, &bench->len);
		bench->bytes = realloc(bench->bytes, AT_END + 50);
		memset(bench->bytes, 0, AT_END + 50);
		memcpy(bench->bytes, whole, bench->len);
		bytes_put(bench->bytes + AT_SECTION + 56, 4, lengths[i].len - AT_NAME);
		bench->len = lengths[i].len;
		state_seal(bench->bytes, bench->len);
		refuse_section(bench, lengths[i].line);
	}
}

/* The object has other room behind its pointer than what was saved. */
static void test_counts_differ(void **state)
{
	struct bench *bench = *state;
	struct thing thing = thing_make();

	bench_save(bench, &desc_1);
	open_state(bench);
	thing.word_count = 1;
	assert_int_equal(state_load(bench->reader, "p", 3, &desc_1, &thing, stage(bench, &thing)),
			 -EINVAL);
	expect_line(bench, "section p/thing[3]: length: 8 bytes too many");
	thing.word_count = 3;
	open_state(bench);
	assert_int_equal(state_load(bench->reader, "p", 3, &desc_1, &thing, stage(bench, &thing)),
			 -EINVAL);
	expect_line(bench, "section p/thing[3]: words[0]: the section ends before it");
	thing.word_count = 9;
	open_state(bench);
	assert_int_equal(state_load(bench->reader, "p", 3, &desc_1, &thing, stage(bench, &thing)),
			 -EINVAL);
	expect_line(bench, "section p/thing[3]: words[0]: 9 elements, there can be 8");
}

static void test_left_over(void **state)
{
	struct bench *bench = *state;
	struct thing thing = thing_make(), other = thing_make(), *staged;

	other.number = 11;
	assert_int_equal(state_save(bench->writer, NULL, 0, &desc_1, &other), 0);
	bench_save(bench, &desc_1);
	open_state(bench);
	staged = stage(bench, &thing);
	assert_int_equal(state_load(bench->reader, "p", 3, &desc_1, &thing, staged), 0);
	assert_int_equal(state_defer(bench->reader, apply_thing, &thing, staged), 0);
	assert_int_equal(state_commit(bench->reader), -EINVAL);
	expect_line(bench, "section thing[0]: is of nothing that this VM has");
	assert_int_equal(thing.loaded, 0);
	assert_int_equal(thing.number, 0);
}

/* Every byte of a state, flipped: refused, with one line, or loaded with that value. */
static void test_each_byte(void **state)
{
	struct bench *bench = *state;
	size_t len;

	bench_save(bench, &desc_1);
	len = bench->len;
	for (size_t at = 0; at < len; at++)
		for (unsigned int bit = 0; bit < 8; bit++) {
			struct thing thing = thing_make(), *staged;

			bench->bytes[at] ^= (uint8_t)(1U << bit);
			state_seal(bench->bytes, bench->len);
			open_state(bench);
			if (bench->reader) {
				staged = stage(bench, &thing);
				if (!state_load(bench->reader, "p", 3, &desc_1, &thing, staged)) {
					assert_in_range(staged->number, 10, 20);
					assert_in_range(staged->parts[0].a, 0, 100);
				} else {
					assert_int_equal(bench->captured.count, 1);
				}
			} else {
				assert_int_equal(bench->captured.count, 1);
			}
			bench->captured.count = 0;
			bench->bytes[at] ^= (uint8_t)(1U << bit);
		}
}

#define STATE_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		STATE_TEST(test_bytes),
		STATE_TEST(test_checksum),
		STATE_TEST(test_trace),
		STATE_TEST(test_load),
		STATE_TEST(test_versions),
		STATE_TEST(test_count_too_large_to_save),
		STATE_TEST(test_frame_refusals),
		STATE_TEST(test_duplicates),
		STATE_TEST(test_section_refusals),
		STATE_TEST(test_section_lengths),
		STATE_TEST(test_counts_differ),
		STATE_TEST(test_left_over),
		STATE_TEST(test_each_byte),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
