/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Saved states: reading. Every byte may be an enemy's: the frame is checked whole before any
 * section is, each value before it is stored, and nothing but the reader's own memory is written.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "state_format.h"

/* struct state_section - @taken: somebody has read it. */
struct state_section {
	char name[STATE_NAME_SIZE];
	uint32_t instance, version, length;
	const uint8_t *data;
	bool taken;
};

/* Memory given out; the bytes follow. */
struct state_block {
	struct state_block *next;
	_Alignas(16) uint8_t bytes[];
};

struct state_deferred {
	void (*apply)(void *object, void *staged);
	void *object, *staged;
	struct state_deferred *next;
};

/*
 * @sections: sorted by name and instance
 * @section, @at: being decoded, and how far
 */
struct state_reader {
	struct logger *log;
	uint32_t section_count;
	struct state_section *sections;
	struct state_block *blocks;
	struct state_deferred *deferred, **deferred_end;
	struct state_section *section;
	uint32_t at;
};

/* ---- The frame ---- */

static int frame_refuse(struct logger *log, int error, const char *fmt, ...) __format_printf(3, 4);

static int frame_refuse(struct logger *log, int error, const char *fmt, ...)
{
	char text[200];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	log_error(log, "state: header: %s", text);
	return error;
}

static int header_check(struct logger *log, const uint8_t *state, size_t len)
{
	struct state_header header;

	if (len < sizeof(header))
		return frame_refuse(log, -EBADMSG, "%zu bytes are no state", len);
	memcpy(&header, state, sizeof(header));
	if (memcmp(header.magic, STATE_MAGIC, sizeof(header.magic)) != 0)
		return frame_refuse(log, -EBADMSG, "magic: not a saved state of tenon");
	if (header.format != STATE_FORMAT_VERSION)
		return frame_refuse(log, -EPROTONOSUPPORT,
				    "format: version %u is unknown, this tenon reads version %u",
				    header.format, STATE_FORMAT_VERSION);
	if (header.length != len)
		return frame_refuse(log, -EBADMSG, "length: says %llu bytes, there are %zu",
				    (unsigned long long)header.length, len);
	if (header.crc32 != state_checksum(state, len))
		return frame_refuse(log, -EBADMSG, "crc32: the state is damaged");
	if (header.reserved)
		return frame_refuse(log, -EBADMSG, "reserved: not 0");
	if (header.section_count > STATE_SECTIONS_MAX ||
	    header.section_count > len / sizeof(struct state_section_header))
		return frame_refuse(log, -EBADMSG, "section_count: %u cannot be",
				    header.section_count);
	return 0;
}

/* Up to its NUL printable, behind it nothing: so that two names that look alike are alike. */
static bool name_is_valid(const char *name)
{
	size_t len = strnlen(name, STATE_NAME_SIZE);

	if (!len || len == STATE_NAME_SIZE)
		return false;
	for (size_t i = 0; i < STATE_NAME_SIZE; i++)
		if (i < len ? name[i] <= ' ' || name[i] > '~' : name[i])
			return false;
	return true;
}

/* The section at *@at of the @len bytes; *@at becomes where the next one is. */
static int section_parse(struct logger *log, const uint8_t *state, size_t len, size_t *at,
			 uint32_t number, struct state_section *section)
{
	struct state_section_header header;

	if (len - *at < sizeof(header))
		return frame_refuse(log, -EBADMSG, "section_count: there is no section %u", number);
	memcpy(&header, state + *at, sizeof(header));
	*at += sizeof(header);
	if (!name_is_valid(header.name))
		return frame_refuse(log, -EBADMSG, "section %u has no valid name", number);
	if (header.length > len - *at || header.reserved) {
		log_error(log, "state: section %s[%u]: %s", header.name, header.instance,
			  header.reserved ? "reserved: not 0"
					  : "length: more than what is left of the state");
		return -EBADMSG;
	}
	memcpy(section->name, header.name, sizeof(section->name));
	section->instance = header.instance;
	section->version = header.version;
	section->length = header.length;
	section->data = state + *at;
	*at += header.length;
	return 0;
}

static int section_compare(const void *a, const void *b)
{
	const struct state_section *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	if (order)
		return order;
	return (x->instance > y->instance) - (x->instance < y->instance);
}

static int sections_parse(struct state_reader *reader, const uint8_t *state, size_t len)
{
	size_t at = sizeof(struct state_header);
	int error = 0;

	for (uint32_t i = 0; i < reader->section_count && !error; i++)
		error = section_parse(reader->log, state, len, &at, i, &reader->sections[i]);
	if (error)
		return error;
	if (at != len)
		return frame_refuse(reader->log, -EBADMSG,
				    "section_count: %zu bytes behind the last section", len - at);
	qsort(reader->sections, reader->section_count, sizeof(*reader->sections), section_compare);
	for (uint32_t i = 1; i < reader->section_count; i++) {
		const struct state_section *section = &reader->sections[i];

		if (section_compare(section - 1, section))
			continue;
		log_error(reader->log, "state: section %s[%u]: is there twice", section->name,
			  section->instance);
		return -EBADMSG;
	}
	return 0;
}

static int reader_init(struct state_reader *reader, const uint8_t *state, size_t len)
{
	struct state_header header;

	memcpy(&header, state, sizeof(header));
	reader->section_count = header.section_count;
	reader->sections = calloc(MAX(header.section_count, 1U), sizeof(*reader->sections));
	if (!reader->sections)
		return frame_refuse(reader->log, -ENOMEM, "out of memory");
	return sections_parse(reader, state, len);
}

struct state_reader *state_reader_open(struct logger *log, const uint8_t *state, size_t len)
{
	struct state_reader *reader;
	int error = header_check(log, state, len);

	if (error) {
		errno = -error;
		return NULL;
	}
	reader = calloc(1, sizeof(*reader));
	if (!reader) {
		errno = -frame_refuse(log, -ENOMEM, "out of memory");
		return NULL;
	}
	reader->log = log;
	reader->deferred_end = &reader->deferred;
	error = reader_init(reader, state, len);
	if (!error)
		return reader;
	state_reader_close(reader);
	errno = -error;
	return NULL;
}

void state_reader_close(struct state_reader *reader)
{
	struct state_block *block, *next;

	if (!reader)
		return;
	for (block = reader->blocks; block; block = next) {
		next = block->next;
		free(block);
	}
	free(reader->sections);
	free(reader);
}

void *state_alloc(struct state_reader *reader, size_t size)
{
	struct state_block *block = calloc(1, sizeof(*block) + size);

	if (!block) {
		log_error(reader->log, "state: cannot be loaded: out of memory");
		return NULL;
	}
	block->next = reader->blocks;
	reader->blocks = block;
	return block->bytes;
}

/* ---- One section ---- */

static int field_refuse(struct state_walk *walk, const struct state_field *field, uint32_t index,
			const char *fmt, ...) __format_printf(4, 5);

static int field_refuse(struct state_walk *walk, const struct state_field *field, uint32_t index,
			const char *fmt, ...)
{
	const struct state_reader *reader = walk->arg;
	char element[16] = "", text[300];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (field->count > 1 && !field->text)
		snprintf(element, sizeof(element), "[%u]", index);
	log_error(reader->log, "state: section %s[%u]: %s%s%s: %s", reader->section->name,
		  reader->section->instance, walk->path, field->name, element, text);
	return -EINVAL;
}

/* What the state says, fit for a terminal. */
static void text_copy(char *to, size_t size, const uint8_t *from, uint32_t count)
{
	size_t len = strnlen((const char *)from, MIN(count, size - 1));

	for (size_t i = 0; i < len; i++)
		to[i] = from[i] < ' ' || from[i] > '~' ? '?' : (char)from[i];
	to[len] = '\0';
}

static int match_refuse(struct state_walk *walk, const struct state_field *field,
			const uint8_t *bytes, const uint8_t *own, uint32_t index)
{
	const char *hint = field->hint;
	char theirs[64], ours[64];

	if (field->text) {
		text_copy(theirs, sizeof(theirs), bytes, field->count);
		text_copy(ours, sizeof(ours), own, field->count);
		return field_refuse(walk, field, 0, "the state is of \"%s\", this is \"%s\"%s%s%s",
				    theirs, ours, hint ? " (" : "", hint ? hint : "",
				    hint ? ")" : "");
	}
	return field_refuse(
		walk, field, index, "0x%llx in the state, 0x%llx here%s%s%s",
		(unsigned long long)bytes_get(bytes + (size_t)index * field->size, field->size),
		(unsigned long long)bytes_get(own + (size_t)index * field->size, field->size),
		hint ? " (" : "", hint ? hint : "", hint ? ")" : "");
}

static int read_match(struct state_walk *walk, const struct state_field *field,
		      const uint8_t *bytes, const uint8_t *own, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (memcmp(bytes + (size_t)i * field->size, own + (size_t)i * field->size,
			   field->size) != 0)
			return match_refuse(walk, field, bytes, own, i);
	return 0;
}

/* A field that the state is too old to have. */
static void read_absent(const struct state_field *field, uint8_t *staged, uint32_t count)
{
	for (uint32_t i = 0; i < count && !field->match; i++)
		bytes_put(staged + (size_t)i * field->size, field->size, field->def);
}

static int read_values(struct state_walk *walk, const struct state_field *field, uint8_t *staged,
		       const uint8_t *own, uint32_t count)
{
	struct state_reader *reader = walk->arg;
	const uint8_t *bytes = reader->section->data + reader->at;
	size_t len = (size_t)count * field->size;

	if (walk->absent) {
		read_absent(field, staged, count);
		return 0;
	}
	if (len > reader->section->length - reader->at)
		return field_refuse(walk, field, 0, "the section ends before it");
	reader->at += (uint32_t)len;
	if (field->match)
		return read_match(walk, field, bytes, own, count);
	for (uint32_t i = 0; i < count && state_field_bounded(field); i++) {
		uint64_t value = bytes_get(bytes + (size_t)i * field->size, field->size);

		if (!state_value_valid(field, value))
			return field_refuse(walk, field, i, "0x%llx is not from 0x%llx to 0x%llx",
					    (unsigned long long)value,
					    (unsigned long long)field->min,
					    (unsigned long long)(field->is_bool ? 1 : field->max));
	}
	memcpy(staged, bytes, len);
	return 0;
}

static int read_too_many(struct state_walk *walk, const struct state_field *field, uint32_t count)
{
	return field_refuse(walk, field, 0, "%u elements, there can be %u", count, field->count);
}

static int read_point(struct state_walk *walk, const struct state_field *field, uint8_t *member,
		      uint32_t count)
{
	void *room = state_alloc(walk->arg, (size_t)count * field->size);

	memcpy(member, &room, sizeof(room));
	return room ? 0 : -ENOMEM;
}

static struct state_section *section_find(struct state_reader *reader, const char *name,
					  uint32_t instance)
{
	struct state_section key = { .instance = instance };

	memcpy(key.name, name, sizeof(key.name));
	return bsearch(&key, reader->sections, reader->section_count, sizeof(key), section_compare);
}

static int section_decode(struct state_reader *reader, const struct state_desc *desc,
			  const void *object, void *staged)
{
	const struct state_section *section = reader->section;
	struct state_walk walk = { .values = read_values,
				   .too_many = read_too_many,
				   .point = read_point,
				   .arg = reader,
				   .version = section->version };
	const char *wrong;
	int error;

	if (!section->version || section->version > desc->version) {
		log_error(reader->log,
			  "state: section %s[%u]: version %u is unknown, this tenon reads 1 to %u",
			  section->name, section->instance, section->version, desc->version);
		return -EINVAL;
	}
	error = state_walk_fields(&walk, desc->fields, staged, object);
	if (error)
		return error;
	if (reader->at != section->length) {
		log_error(reader->log, "state: section %s[%u]: length: %u bytes too many",
			  section->name, section->instance, section->length - reader->at);
		return -EINVAL;
	}
	wrong = desc->check ? desc->check(object, staged) : NULL;
	if (wrong)
		log_error(reader->log, "state: section %s[%u]: %s", section->name,
			  section->instance, wrong);
	return wrong ? -EINVAL : 0;
}

int state_load(struct state_reader *reader, const char *place, uint32_t instance,
	       const struct state_desc *desc, const void *object, void *staged)
{
	char name[STATE_NAME_SIZE] = "";

	state_section_name(name, place, desc->name);
	reader->section = section_find(reader, name, instance);
	reader->at = 0;
	if (!reader->section) {
		log_error(reader->log, "state: section %s[%u]: is missing", name, instance);
		return -EINVAL;
	}
	reader->section->taken = true;
	return section_decode(reader, desc, object, staged);
}

int state_refuse(struct state_reader *reader, const char *place, uint32_t instance,
		 const char *section, const char *fmt, ...)
{
	char name[STATE_NAME_SIZE], text[300];
	va_list args;

	state_section_name(name, place, section);
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	log_error(reader->log, "state: section %s[%u]: %s", name, instance, text);
	return -EINVAL;
}

/* ---- All of it ---- */

int state_defer(struct state_reader *reader, void (*apply)(void *object, void *staged),
		void *object, void *staged)
{
	struct state_deferred *deferred = state_alloc(reader, sizeof(*deferred));

	if (!deferred)
		return -ENOMEM;
	*deferred = (struct state_deferred) { .apply = apply, .object = object, .staged = staged };
	*reader->deferred_end = deferred;
	reader->deferred_end = &deferred->next;
	return 0;
}

int state_commit(struct state_reader *reader)
{
	for (uint32_t i = 0; i < reader->section_count; i++) {
		const struct state_section *section = &reader->sections[i];

		if (section->taken)
			continue;
		log_error(reader->log, "state: section %s[%u]: is of nothing that this VM has",
			  section->name, section->instance);
		return -EINVAL;
	}
	for (struct state_deferred *deferred = reader->deferred; deferred;
	     deferred = deferred->next)
		deferred->apply(deferred->object, deferred->staged);
	return 0;
}
