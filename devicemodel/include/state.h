/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * state.h: saved states: what a device is between two moments, as bytes that another process,
 * another host or a later version can go on from.
 *
 * A state is a header and sections, one for each object; what is in a section says a table (see
 * state_table.h). A state may come from an enemy: loading decodes and checks all of it in memory of its own, refuses it with one line that
 * names section, field and cause, and only then, with state_commit(), changes any object.
 * The bytes are described in doc/state.md.
 */
#ifndef TENON_STATE_H
#define TENON_STATE_H

#include "log.h"
#include "state_table.h"

#define STATE_NAME_SIZE 48 /* of a section, with its NUL */
#define STATE_SECTIONS_MAX 65536

/** state_field_bounded() - are there values that cannot be loaded into @field? */
static inline bool state_field_bounded(const struct state_field *field)
{
	return field->is_bool || field->min || field->max;
}

/** state_value_valid() - may @value be loaded into @field? */
static inline bool state_value_valid(const struct state_field *field, uint64_t value)
{
	if (field->is_bool)
		return value <= 1;
	return !state_field_bounded(field) || (value >= field->min && value <= field->max);
}

/* ---- Saving ---- */

struct state_writer;

/** struct state_value - a value that was written: @size bytes at @offset of the state. */
struct state_value {
	const char *section;
	uint32_t instance;
	const char *field; /* "ports[3].pending" */
	const struct state_field *desc;
	size_t offset;
	uint32_t size;
};

/** state_writer_create() - begin a state; NULL if memory is out. @log: gets one line if saving fails. */
struct state_writer *state_writer_create(struct logger *log) __must_check;

/** state_writer_destroy() - and free the bytes. NULL is harmless. */
void state_writer_destroy(struct state_writer *writer);

/** state_writer_trace() - call @visit for each value that is written from now on: for tests. */
void state_writer_trace(struct state_writer *writer,
			void (*visit)(void *arg, const struct state_value *value), void *arg);

/** state_writer_log() - where the writer's messages go. */
struct logger *state_writer_log(const struct state_writer *writer);

/**
 * state_save() - append the section of @object.
 * @place: which of the objects with such a @desc it is ("00:03.0"), NULL: there is only one
 * @instance: number of the part, where an object has several of a kind
 * Return: 0, -ENOMEM, -EINVAL (a count that the table does not allow), after one log line.
 */
int state_save(struct state_writer *writer, const char *place, uint32_t instance,
	       const struct state_desc *desc, void *object) __must_check;

/** state_finish() - the state is complete: its bytes, which live as long as @writer, and how many. */
const uint8_t *state_finish(struct state_writer *writer, size_t *len);

/** state_seal() - make length and checksum of the @len bytes at @state right again. */
void state_seal(uint8_t *state, size_t len);

/* ---- Loading ---- */

struct state_reader;

/**
 * state_reader_open() - look at the @len bytes at @state, which stay the caller's and as they are
 * until state_reader_close().
 * Return: a reader, or NULL with errno (EBADMSG: damaged or no state, EPROTONOSUPPORT: of a later
 * version, ENOMEM) after one log line.
 */
struct state_reader *state_reader_open(struct logger *log, const uint8_t *state,
				       size_t len) __must_check;

/** state_reader_close() - free it with all that was staged. NULL is harmless. */
void state_reader_close(struct state_reader *reader);

/** state_alloc() - zeroed memory that lives until state_reader_close(), or NULL after one log line. */
void *state_alloc(struct state_reader *reader, size_t size) __must_check;

/**
 * state_load() - decode the section of @object into @staged and check it.
 * @staged: a copy of the struct at @object, from state_alloc()
 * Return: 0, -ENOMEM, or -EINVAL: refused, after one log line. Nothing of @object was changed.
 */
int state_load(struct state_reader *reader, const char *place, uint32_t instance,
	       const struct state_desc *desc, const void *object, void *staged) __must_check;

/** state_apply() - copy what was loaded from @staged to @object; does not call loaded(). */
void state_apply(const struct state_desc *desc, void *object, const void *staged);

/** state_refuse() - log why the section is refused ("field: cause"). Returns -EINVAL. */
int state_refuse(struct state_reader *reader, const char *place, uint32_t instance,
		 const char *section, const char *fmt, ...) __format_printf(5, 6);

/** state_defer() - have state_commit() call @apply(@object, @staged). 0 or -ENOMEM. */
int state_defer(struct state_reader *reader, void (*apply)(void *object, void *staged),
		void *object, void *staged) __must_check;

/**
 * state_commit() - all that belongs together was loaded: if no section is left over, which nobody
 * knows, apply everything, in the order in which it was deferred. 0, or -EINVAL after one log line.
 */
int state_commit(struct state_reader *reader) __must_check;

#endif
