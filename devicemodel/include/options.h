/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * options.h: reading options into the objects that option tables (option_table.h) describe.
 *
 * A specification is "VALUE,name=value,flag": the first element without '=' that is not the name
 * of an option goes to the one marked OPTION_POSITIONAL, and so does one that holds a '/' and whose
 * part before '=' is no option. A comma in a value is written ",,".
 */
#ifndef TENON_OPTIONS_H
#define TENON_OPTIONS_H

#include "log.h"
#include "option_table.h"

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
