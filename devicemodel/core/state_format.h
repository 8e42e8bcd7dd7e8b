/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the writer and the reader of saved states share: the bytes of a state, and the walk over a
 * table. See doc/state.md.
 */
#ifndef TENON_STATE_FORMAT_H
#define TENON_STATE_FORMAT_H

#include "state.h"

#define STATE_FORMAT_VERSION 1
#define STATE_PATH_SIZE 96

static const uint8_t STATE_MAGIC[8] = { 't', 'e', 'n', 'o', 'n', '-', 's', 't' };

/* All numbers are little-endian, as this host's are. @crc32: of the whole state with 0 here. */
struct state_header {
	uint8_t magic[8];
	uint32_t format;
	uint32_t section_count;
	uint64_t length;
	uint32_t crc32;
	uint32_t reserved;
};

/* @name is NUL-terminated and printable; @length bytes follow. */
struct state_section_header {
	char name[STATE_NAME_SIZE];
	uint32_t instance;
	uint32_t version;
	uint32_t length;
	uint32_t reserved;
};

static_assert(sizeof(struct state_header) == 32, "as documented");
static_assert(sizeof(struct state_section_header) == 64, "as documented");

/**
 * struct state_walk - going through a table, value by value.
 * @values: @count elements of @field, at @target and @other (which may be NULL)
 * @too_many: count_of() says @count, more than the table allows or the object has
 * @point: make the pointer at @member lead to room for @count elements; NULL: it does
 * @count_from_other: what is loaded, and so says how many there are, is at @other, not at @target
 * @absent: the field came later than the section; @version: of the section
 * @path: of the struct that the field is in ("ports[3].")
 */
struct state_walk {
	int (*values)(struct state_walk *walk, const struct state_field *field, uint8_t *target,
		      const uint8_t *other, uint32_t count);
	int (*too_many)(struct state_walk *walk, const struct state_field *field, uint32_t count);
	int (*point)(struct state_walk *walk, const struct state_field *field, uint8_t *member,
		     uint32_t count);
	void *arg;
	bool count_from_other;
	bool absent;
	uint32_t version;
	char path[STATE_PATH_SIZE];
};

int state_walk_fields(struct state_walk *walk, const struct state_field *fields, uint8_t *target,
		      const uint8_t *other);

/* "00:03.0/virtio-blk" */
void state_section_name(char name[STATE_NAME_SIZE], const char *place, const char *section);

/* The checksum of @len bytes at @state, whatever it says itself. */
uint32_t state_checksum(const uint8_t *state, size_t len);

#endif
