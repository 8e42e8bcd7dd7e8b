/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * state_table.h: what of a struct is saved and loaded. A device describes its state once, in a
 * table; writing, reading, every check of a state that may come from an enemy, and the tests that
 * mutate each field all come from the table.
 */
#ifndef TENON_STATE_TABLE_H
#define TENON_STATE_TABLE_H

#include "util.h"

/**
 * struct state_field - one member of a struct, or an array of them. A table ends with an entry
 * whose @name is NULL; the order of the table is the order of the bytes. Use the STATE_ macros for
 * the first members.
 * @name: as in messages
 * @offset, @size, @count: where it is, bytes of an element, elements (with @count_of: at most).
 *                         Elements of 1, 2, 4 or 8 bytes are integers, little-endian
 * @is_bool: a bool: 0 or 1
 * @indirect: the member is a pointer to the elements, which the object has already;
 *            @count_of depends on nothing that is loaded then
 * @fields: each element is a struct of these, else NULL
 * @count_of: how many elements are in use, given the struct that the field is in; may look at
 *            fields before this one. NULL: always @count
 * @match: not loaded: the object's own value must be the same, or the state is of another one
 * @text: characters, for messages
 * @since: version of the section that brought it, 0 and 1: always there. From an older state it
 *         gets the value @def
 * @min, @max: bounds of what is loaded; both 0: none
 * @hint: with @match, what the user can do about it
 */
struct state_field {
	const char *name;
	uint32_t offset, size, count;
	bool is_bool;
	bool indirect;
	const struct state_field *fields;
	uint32_t (*count_of)(const void *object);
	bool match;
	bool text;
	uint32_t since;
	uint64_t def;
	uint64_t min, max;
	const char *hint;
};

/**
 * struct state_desc - the state of a kind of object. Called under the object's lock.
 * @name: of the section; behind the object's place, if it has one ("00:03.0/virtio-blk")
 * @version: 1, and one more whenever a field is added
 * @fields: the table
 * @saving: before it is saved: may bring the struct into the form that the table describes, and
 *          changes nothing that anybody could notice. NULL: nothing to do
 * @check: @staged is a copy of the struct at @object, with the loaded values in it, each within its
 *         bounds. Pointers that the table does not follow still lead to @object's things. NULL, or
 *         what is wrong: a few words that name the field. May be NULL
 * @loaded: the values are in place: put in force what depends on them. May be NULL
 */
struct state_desc {
	const char *name;
	uint32_t version;
	const struct state_field *fields;
	void (*saving)(void *object);
	const char *(*check)(const void *object, const void *staged);
	void (*loaded)(void *object);
};

#define STATE_MEMBER(type, member) (((type *)0)->member)
/* Of an integer: it does not compile if the member is larger. */
#define STATE_SIZE(type, member)                                                                   \
	(sizeof(STATE_MEMBER(type, member)) +                                                      \
	 0 * sizeof(char[sizeof(STATE_MEMBER(type, member)) <= 8 ? 1 : -1]))
#define STATE_IS_BOOL(type, member)                                                                \
	__builtin_types_compatible_p(__typeof__(STATE_MEMBER(type, member)), bool)

/** STATE_FIELD() - an integer or bool @member of @type. */
#define STATE_FIELD(type, member)                                                                  \
	.name = #member, .offset = offsetof(type, member), .size = STATE_SIZE(type, member),       \
	.count = 1, .is_bool = STATE_IS_BOOL(type, member)

/** STATE_ARRAY() - an array of integers or structs. */
#define STATE_ARRAY(type, member)                                                                  \
	.name = #member, .offset = offsetof(type, member),                                         \
	.size = sizeof(STATE_MEMBER(type, member)[0]),                                             \
	.count = ARRAY_SIZE(STATE_MEMBER(type, member)), .is_bool = STATE_IS_BOOL(type, member[0])

/** STATE_BYTES() - anything as bytes. */
#define STATE_BYTES(type, member)                                                                  \
	.name = #member, .offset = offsetof(type, member), .size = 1,                              \
	.count = sizeof(STATE_MEMBER(type, member))

/** STATE_POINTER() - @member points to up to @count_max integers or structs. */
#define STATE_POINTER(type, member, count_max)                                                     \
	.name = #member, .offset = offsetof(type, member),                                         \
	.size = sizeof(STATE_MEMBER(type, member)[0]), .count = (count_max), .indirect = true

#endif
