/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * options.h: option tables. A device declares its options once; parsing, help, the man page and
 * the error for an unknown option all come from the table.
 *
 * A specification is "VALUE,name=value,flag": the first element without '=' that is not the name
 * of an option goes to the one marked OPTION_POSITIONAL, and so does one that holds a '/' and whose
 * part before '=' is no option. A comma in a value is written ",,".
 */
#ifndef TENON_OPTIONS_H
#define TENON_OPTIONS_H

#include "log.h"
#include "util.h"

enum option_type {
	OPTION_BOOL,   /* bool: "on", "off", "yes", "no", "true", "false", "1", "0"; bare name is on */
	OPTION_UINT,   /* uint64_t: decimal or 0x-hex, within [min, max] */
	OPTION_SIZE,   /* uint64_t bytes: number with K, M, G or T, within [min, max] */
	OPTION_STRING, /* char *: allocated, owned by the object, freed by options_free() */
	OPTION_MAC,    /* uint8_t[6]: aa:bb:cc:dd:ee:ff */
	OPTION_ENUM,   /* unsigned int: index into the "a|b|c" of @choices */
	OPTION_LIST,   /* struct option_list: may be repeated, each value appended */
};

#define OPTION_LIST_MAX 32

/** struct option_list - the values of an OPTION_LIST option, in order, each allocated. */
struct option_list {
	unsigned int count;
	char *items[OPTION_LIST_MAX];
};

#define OPTION_POSITIONAL 0x1 /* takes the value that comes without a name */
#define OPTION_REQUIRED 0x2   /* it is an error to leave it out */

/**
 * struct option_desc - one option. A table ends with an entry whose @name is NULL.
 * @name: as written on the command line
 * @type: how the value is read and stored
 * @flags: OPTION_POSITIONAL, OPTION_REQUIRED
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

/** struct option_set - one table and the object its values go to. */
struct option_set {
	const struct option_desc *table;
	void *object;
};

/**
 * options_parse() - set the defaults of @sets[0..@count) and read @spec into them. The objects
 * are zeroed before; what has no default stays so.
 * @log: gets one line that names @what, the option, the cause and the remedy on failure
 * @what: the thing configured, for messages ("virtio-blk")
 * @spec: the text, NULL or "" for all defaults; not kept
 *
 * Return: 0, or -EINVAL / -ENOMEM; then the strings already stored are freed again.
 */
int options_parse(struct logger *log, const char *what, const char *spec,
		  const struct option_set *sets, unsigned int count) __must_check;

/** options_free() - free the strings and lists of @sets. Harmless on zeroed objects, repeatable. */
void options_free(const struct option_set *sets, unsigned int count);

/** options_help() - print @table to @out: name, type, default, meaning, one a line, sorted. */
void options_help(void *out_file, const struct option_desc *table);

/** option_parse_size() - "512M" to bytes; a bare number is multiplied by @unit. -EINVAL, -ERANGE. */
int option_parse_size(const char *text, uint64_t unit, uint64_t *bytes) __must_check;

/** option_parse_uint() - decimal or 0x-hex, whole string. -EINVAL, -ERANGE. */
int option_parse_uint(const char *text, uint64_t *value) __must_check;

#endif
