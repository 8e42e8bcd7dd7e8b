/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Saved states: the walk over a table, writing, and putting what was loaded in place.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "state_format.h"

/* ---- The walk ---- */

/* Elements that are structs: each is walked, with its name in front of its fields' names. */
static int walk_structs(struct state_walk *walk, const struct state_field *field, uint8_t *target,
			const uint8_t *other, uint32_t count)
{
	size_t prefix = strlen(walk->path);
	int error = 0;

	for (uint32_t i = 0; i < count && !error; i++) {
		size_t at = (size_t)i * field->size;

		snprintf(walk->path + prefix, sizeof(walk->path) - prefix, "%s[%u].", field->name,
			 i);
		error = state_walk_fields(walk, field->fields, target + at,
					  other ? other + at : NULL);
	}
	walk->path[prefix] = '\0';
	return error;
}

static uint8_t *pointer_at(const uint8_t *member)
{
	uint8_t *pointer;

	memcpy(&pointer, member, sizeof(pointer));
	return pointer;
}

static int walk_field(struct state_walk *walk, const struct state_field *field, uint8_t *target,
		      const uint8_t *other)
{
	const void *counted = walk->count_from_other ? other : target;
	uint32_t count = field->count_of ? field->count_of(counted) : field->count;
	uint8_t *elements = target + field->offset;
	int error;

	if (count > field->count)
		return walk->too_many(walk, field, count);
	if (field->indirect && other && field->count_of && field->count_of(other) != count)
		return walk->too_many(walk, field, count);
	if (!count)
		return 0;
	other = other ? other + field->offset : NULL;
	if (field->indirect) {
		error = walk->point ? walk->point(walk, field, elements, count) : 0;
		if (error)
			return error;
		elements = pointer_at(elements);
		other = other ? pointer_at(other) : NULL;
	}
	if (field->fields)
		return walk_structs(walk, field, elements, other, count);
	return walk->values(walk, field, elements, other, count);
}

int state_walk_fields(struct state_walk *walk, const struct state_field *fields, uint8_t *target,
		      const uint8_t *other)
{
	int error = 0;

	for (const struct state_field *field = fields; field->name && !error; field++) {
		bool absent = walk->absent;

		walk->absent = absent || field->since > walk->version;
		error = walk_field(walk, field, target, other);
		walk->absent = absent;
	}
	return error;
}

void state_section_name(char name[STATE_NAME_SIZE], const char *place, const char *section)
{
	snprintf(name, STATE_NAME_SIZE, "%s%s%s", place ? place : "", place ? "/" : "", section);
}

/* ---- Checksum: CRC-32 (ISO 3309), four bits at a time ---- */

static uint32_t crc32_update(uint32_t crc, const uint8_t *data, size_t len)
{
	static const uint32_t table[16] = {
		0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
		0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
		0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
	};

	for (size_t i = 0; i < len; i++) {
		crc ^= data[i];
		crc = crc >> 4 ^ table[crc & 15];
		crc = crc >> 4 ^ table[crc & 15];
	}
	return crc;
}

uint32_t state_checksum(const uint8_t *state, size_t len)
{
	struct state_header header;
	uint32_t crc;

	memcpy(&header, state, sizeof(header));
	header.crc32 = 0;
	crc = crc32_update(UINT32_MAX, (const uint8_t *)&header, sizeof(header));
	return ~crc32_update(crc, state + sizeof(header), len - sizeof(header));
}

void state_seal(uint8_t *state, size_t len)
{
	struct state_header header;

	if (len < sizeof(header))
		return;
	memcpy(&header, state, sizeof(header));
	header.length = len;
	memcpy(state, &header, sizeof(header));
	header.crc32 = state_checksum(state, len);
	memcpy(state, &header, sizeof(header));
}

/* ---- Writing ---- */

/*
 * struct state_writer - @size bytes are allocated at @data, @len are used.
 * @section, @instance: being written
 */
struct state_writer {
	struct logger *log;
	uint8_t *data;
	size_t len, size;
	uint32_t section_count;
	void (*visit)(void *arg, const struct state_value *value);
	void *visit_arg;
	char section[STATE_NAME_SIZE];
	uint32_t instance;
};

static int writer_failed(struct state_writer *writer, int error, const char *cause)
{
	log_error(writer->log, "state: section %s[%u]: cannot be saved: %s", writer->section,
		  writer->instance, cause);
	return error;
}

static int writer_append(struct state_writer *writer, const void *bytes, size_t len)
{
	if (len > writer->size - writer->len) {
		size_t size = MAX(writer->size * 2, writer->len + len);
		uint8_t *data = realloc(writer->data, size);

		if (!data)
			return writer_failed(writer, -ENOMEM, "out of memory");
		writer->data = data;
		writer->size = size;
	}
	memcpy(writer->data + writer->len, bytes, len);
	writer->len += len;
	return 0;
}

struct state_writer *state_writer_create(struct logger *log)
{
	struct state_writer *writer = calloc(1, sizeof(*writer));
	struct state_header header = { .format = STATE_FORMAT_VERSION };

	if (!writer) {
		log_error(log, "state: cannot be saved: out of memory");
		return NULL;
	}
	writer->log = log;
	memcpy(header.magic, STATE_MAGIC, sizeof(header.magic));
	if (!writer_append(writer, &header, sizeof(header)))
		return writer;
	state_writer_destroy(writer);
	return NULL;
}

void state_writer_destroy(struct state_writer *writer)
{
	if (!writer)
		return;
	free(writer->data);
	free(writer);
}

void state_writer_trace(struct state_writer *writer,
			void (*visit)(void *arg, const struct state_value *value), void *arg)
{
	writer->visit = visit;
	writer->visit_arg = arg;
}

struct logger *state_writer_log(const struct state_writer *writer)
{
	return writer->log;
}

static void writer_visit(struct state_walk *walk, const struct state_field *field, uint32_t index,
			 size_t offset)
{
	struct state_writer *writer = walk->arg;
	struct state_value value = { .section = writer->section,
				     .instance = writer->instance,
				     .desc = field,
				     .offset = offset,
				     .size = field->size };
	char name[2 * STATE_PATH_SIZE];

	snprintf(name, sizeof(name), field->count > 1 ? "%s%s[%u]" : "%s%s", walk->path,
		 field->name, index);
	value.field = name;
	writer->visit(writer->visit_arg, &value);
}

static int write_values(struct state_walk *walk, const struct state_field *field, uint8_t *object,
			const uint8_t *other, uint32_t count)
{
	struct state_writer *writer = walk->arg;
	size_t start = writer->len;
	int error = writer_append(writer, object, (size_t)count * field->size);

	for (uint32_t i = 0; i < count && !error && writer->visit; i++)
		writer_visit(walk, field, i, start + (size_t)i * field->size);
	return error;
}

static int write_too_many(struct state_walk *walk, const struct state_field *field, uint32_t count)
{
	char cause[2 * STATE_PATH_SIZE];

	snprintf(cause, sizeof(cause), "%s%s: %u elements, there can be %u", walk->path,
		 field->name, count, field->count);
	return writer_failed(walk->arg, -EINVAL, cause);
}

int state_save(struct state_writer *writer, const char *place, uint32_t instance,
	       const struct state_desc *desc, void *object)
{
	struct state_walk walk = { .values = write_values,
				   .too_many = write_too_many,
				   .arg = writer,
				   .version = desc->version };
	struct state_section_header header = { .instance = instance, .version = desc->version };
	size_t start = writer->len;
	int error;

	state_section_name(header.name, place, desc->name);
	memcpy(writer->section, header.name, sizeof(writer->section));
	writer->instance = instance;
	if (desc->saving)
		desc->saving(object);
	error = writer_append(writer, &header, sizeof(header));
	if (!error)
		error = state_walk_fields(&walk, desc->fields, object, NULL);
	if (error) {
		writer->len = start;
		return error;
	}
	header.length = (uint32_t)(writer->len - start - sizeof(header));
	memcpy(writer->data + start, &header, sizeof(header));
	writer->section_count++;
	return 0;
}

const uint8_t *state_finish(struct state_writer *writer, size_t *len)
{
	struct state_header header;

	memcpy(&header, writer->data, sizeof(header));
	header.section_count = writer->section_count;
	memcpy(writer->data, &header, sizeof(header));
	state_seal(writer->data, writer->len);
	*len = writer->len;
	return writer->data;
}

/* ---- Putting in place ---- */

static int apply_values(struct state_walk *walk, const struct state_field *field, uint8_t *object,
			const uint8_t *staged, uint32_t count)
{
	if (!field->match)
		memcpy(object, staged, (size_t)count * field->size);
	return 0;
}

/* Loading has refused it. */
static int apply_too_many(struct state_walk *walk, const struct state_field *field, uint32_t count)
{
	return 0;
}

void state_apply(const struct state_desc *desc, void *object, const void *staged)
{
	struct state_walk walk = { .values = apply_values,
				   .too_many = apply_too_many,
				   .count_from_other = true };

	(void)state_walk_fields(&walk, desc->fields, object, staged);
}
