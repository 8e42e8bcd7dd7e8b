/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * option_table.h: option tables. A device declares its options once; parsing, help, the man page and
 * the error for an unknown option all come from the table.
 */
#ifndef TENON_OPTION_TABLE_H
#define TENON_OPTION_TABLE_H

#include "util.h"

enum option_type {
	OPTION_BOOL, /* bool: "on", "off", "yes", "no", "true", "false", "1", "0"; bare name is on */
	OPTION_UINT, /* uint64_t: decimal or 0x-hex, within [min, max] */
	OPTION_SIZE, /* uint64_t bytes: number with K, M, G or T, within [min, max] */
	OPTION_STRING, /* char *: allocated, owned by the object, freed by options_free() */
	OPTION_MAC, /* uint8_t[6]: aa:bb:cc:dd:ee:ff */
	OPTION_ENUM, /* unsigned int: index into the "a|b|c" of @choices */
	OPTION_LIST, /* struct option_list: may be repeated, each value appended */
};

#define OPTION_LIST_MAX 32

/** struct option_list - the values of an OPTION_LIST option, in order, each allocated. */
struct option_list {
	unsigned int count;
	char *items[OPTION_LIST_MAX];
};

#define OPTION_POSITIONAL 0x1 /* takes the value that comes without a name */
#define OPTION_REQUIRED 0x2 /* it is an error to leave it out */
#define OPTION_FLAG 0x4 /* OPTION_ENUM with "on" among its choices: the bare name is that */

/**
 * struct option_desc - one option. A table ends with an entry whose @name is NULL.
 * @name: as written on the command line
 * @type: how the value is read and stored
 * @flags: OPTION_POSITIONAL, OPTION_REQUIRED, OPTION_FLAG
 * @offset: where in the object the value is stored, offsetof()
 * @def: default as it would be written, or NULL for zero, off, none
 * @min, @max: bounds of numbers; both 0 for none
 * @choices: for OPTION_ENUM
 * @help: one line, lower case, no full stop
 */
struct option_desc {
	const char *name;
	enum option_type type;
	unsigned int flags;
	size_t offset;
	const char *def;
	uint64_t min, max;
	const char *choices;
	const char *help;
};

#endif
