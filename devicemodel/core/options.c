/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Option tables: parsing "VALUE,name=value,flag" into an object, and the help text.
 */
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define OPTIONS_MAX 64 /* options in all the tables of one specification */

/* One parse: the tables, what is configured, and which options were given. */
struct parse {
	struct logger *log;
	const char *what;
	const struct option_set *sets;
	unsigned int count;
	bool seen[OPTIONS_MAX];
};

static const char *const type_names[] = {
	[OPTION_BOOL] = "on|off",	    [OPTION_UINT] = "number",	  [OPTION_SIZE] = "size",
	[OPTION_STRING] = "text",	    [OPTION_MAC] = "MAC address", [OPTION_ENUM] = "",
	[OPTION_LIST] = "text, repeatable",
};

int option_parse_uint(const char *text, uint64_t *value)
{
	bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
	const char *digits = hex ? text + 2 : text;
	char *end;

	if (!isxdigit((unsigned char)digits[0]))
		return -EINVAL;
	errno = 0;
	*value = strtoull(digits, &end, hex ? 16 : 10);
	if (*end || end == digits || (hex && strpbrk(digits, "xX")))
		return -EINVAL;
	return -errno;
}

int option_parse_size(const char *text, uint64_t unit, uint64_t *bytes)
{
	static const char suffixes[] = "KMGT";
	char digits[32];
	size_t len = strlen(text);
	const char *suffix;
	uint64_t value;
	int error;

	if (!len || len >= sizeof(digits))
		return -EINVAL;
	memcpy(digits, text, len + 1);
	suffix = strchr(suffixes, toupper((unsigned char)digits[len - 1]));
	if (suffix) {
		unit = BIT64(10 * (suffix - suffixes + 1));
		digits[len - 1] = '\0';
	}
	error = option_parse_uint(digits, &value);
	if (error)
		return error;
	if (unit && value > UINT64_MAX / unit)
		return -ERANGE;
	*bytes = value * unit;
	return 0;
}

static int parse_bool(const char *text, bool *value)
{
	static const char *const words[] = { "off", "on", "no", "yes", "false", "true", "0", "1" };

	for (unsigned int i = 0; i < ARRAY_SIZE(words); i++) {
		if (!strcasecmp(text, words[i])) {
			*value = i & 1;
			return 0;
		}
	}
	return -EINVAL;
}

static int parse_mac(const char *text, uint8_t *mac)
{
	if (strlen(text) != 17)
		return -EINVAL;
	for (int i = 0; i < 17; i++)
		if (i % 3 == 2 ? text[i] != ':' : !isxdigit((unsigned char)text[i]))
			return -EINVAL;
	for (int i = 0; i < 6; i++)
		mac[i] = (uint8_t)strtoul(text + 3 * i, NULL, 16);
	return 0;
}

static int parse_enum(const char *text, const char *choices, unsigned int *value)
{
	size_t len = strlen(text);

	for (unsigned int index = 0; *choices; index++) {
		size_t span = strcspn(choices, "|");

		if (span == len && !strncasecmp(choices, text, len)) {
			*value = index;
			return 0;
		}
		choices += span + (choices[span] == '|');
	}
	return -EINVAL;
}

static int list_append(struct option_list *list, const char *text)
{
	if (list->count == OPTION_LIST_MAX)
		return -E2BIG;
	list->items[list->count] = strdup(text);
	if (!list->items[list->count])
		return -ENOMEM;
	list->count++;
	return 0;
}

static int check_bounds(const struct option_desc *option, uint64_t value)
{
	if ((option->min || option->max) && (value < option->min || value > option->max))
		return -ERANGE;
	return 0;
}

/* Store @text as the value of @option. */
static int option_store(const struct option_desc *option, void *object, const char *text)
{
	void *field = (char *)object + option->offset;
	int error;

	switch (option->type) {
	case OPTION_BOOL:
		return parse_bool(text, field);
	case OPTION_UINT:
		error = option_parse_uint(text, field);
		return error ? error : check_bounds(option, *(uint64_t *)field);
	case OPTION_SIZE:
		error = option_parse_size(text, 1, field);
		return error ? error : check_bounds(option, *(uint64_t *)field);
	case OPTION_STRING:
		free(*(char **)field);
		*(char **)field = strdup(text);
		return *(char **)field ? 0 : -ENOMEM;
	case OPTION_MAC:
		return parse_mac(text, field);
	case OPTION_ENUM:
		return parse_enum(text, option->choices, field);
	case OPTION_LIST:
		return list_append(field, text);
	}
	return -EINVAL;
}

static void describe_values(const struct option_desc *option, char *text, size_t size)
{
	if (option->type == OPTION_ENUM)
		snprintf(text, size, "%s", option->choices);
	else if (option->max && (option->type == OPTION_UINT || option->type == OPTION_SIZE))
		snprintf(text, size, "%s %llu..%llu", type_names[option->type],
			 (unsigned long long)option->min, (unsigned long long)option->max);
	else
		snprintf(text, size, "%s", type_names[option->type]);
}

static int option_set_value(struct parse *parse, const struct option_desc *option, void *object,
			    const char *text)
{
	int error = option_store(option, object, text);
	char values[128];

	if (!error)
		return 0;
	describe_values(option, values, sizeof(values));
	if (error == -ENOMEM)
		log_error(parse->log, "%s: option %s: out of memory", parse->what, option->name);
	else if (error == -E2BIG)
		log_error(parse->log, "%s: option %s can be given %d times at most", parse->what,
			  option->name, OPTION_LIST_MAX);
	else
		log_error(parse->log, "%s: option %s=%s is not valid, it takes: %s", parse->what,
			  option->name, text, values);
	return error == -ENOMEM ? error : -EINVAL;
}

/* Find an option by name (or the positional one for a NULL name), its object and its number. */
static const struct option_desc *option_find(const struct parse *parse, const char *name,
					     void **object, unsigned int *number)
{
	*number = 0;
	for (unsigned int i = 0; i < parse->count; i++) {
		const struct option_desc *option = parse->sets[i].table;

		for (; option && option->name; option++, (*number)++) {
			*object = parse->sets[i].object;
			if (name ? !strcmp(option->name, name) : option->flags & OPTION_POSITIONAL)
				return option;
		}
	}
	return NULL;
}

static void list_names(const struct parse *parse, char *text, size_t size)
{
	size_t used = 0;

	text[0] = '\0';
	for (unsigned int i = 0; i < parse->count; i++) {
		const struct option_desc *option = parse->sets[i].table;

		for (; option && option->name && used < size; option++)
			used += (size_t)snprintf(text + used, size - used, "%s%s", used ? ", " : "",
						 option->name);
	}
}

static int parse_unknown(const struct parse *parse, const char *element)
{
	char names[512];

	list_names(parse, names, sizeof(names));
	if (names[0])
		log_error(parse->log, "%s: unknown option %s, valid are: %s", parse->what, element,
			  names);
	else
		log_error(parse->log, "%s: unknown option %s, it takes none", parse->what, element);
	return -EINVAL;
}

/* One "name=value", "flag" or positional value. */
static int parse_element(struct parse *parse, char *element)
{
	char *equals = strchr(element, '=');
	const struct option_desc *option;
	unsigned int number;
	void *object;
	const char *value = "on";

	if (equals) {
		*equals = '\0';
		value = equals + 1;
	}
	option = option_find(parse, element, &object, &number);
	if (option && !equals && option->type != OPTION_BOOL && !(option->flags & OPTION_FLAG)) {
		log_error(parse->log, "%s: option %s needs a value: %s=...", parse->what, element,
			  element);
		return -EINVAL;
	}
	if (!option) {
		bool path = strchr(element, '/');

		if (equals && path)
			*equals = '='; /* a positional value with '=' in it */
		option = option_find(parse, NULL, &object, &number);
		if (!option || parse->seen[number] || (equals && !path))
			return parse_unknown(parse, element);
		value = element;
	}
	if (parse->seen[number] && option->type != OPTION_LIST) {
		log_error(parse->log, "%s: option %s is given twice", parse->what, option->name);
		return -EINVAL;
	}
	parse->seen[number] = true;
	return option_set_value(parse, option, object, value);
}

/* Cut the next element off *@rest; ",," stands for a comma in it. NULL at the end. */
static char *next_element(char **rest)
{
	char *from = *rest, *to = *rest, *element = *rest;

	if (!element)
		return NULL;
	while (*from && !(from[0] == ',' && from[1] != ',')) {
		if (*from == ',')
			from++;
		*to++ = *from++;
	}
	*rest = *from ? from + 1 : NULL;
	*to = '\0';
	return element;
}

static int set_defaults(struct parse *parse)
{
	unsigned int number = 0;

	for (unsigned int i = 0; i < parse->count; i++) {
		const struct option_desc *option = parse->sets[i].table;

		for (; option && option->name; option++) {
			int error = 0;

			if (++number > OPTIONS_MAX)
				return -EINVAL;
			if (option->def)
				error = option_set_value(parse, option, parse->sets[i].object,
							 option->def);
			if (error)
				return error;
		}
	}
	return 0;
}

static int check_required(struct parse *parse)
{
	unsigned int number = 0;

	for (unsigned int i = 0; i < parse->count; i++) {
		const struct option_desc *option = parse->sets[i].table;

		for (; option && option->name; option++, number++) {
			if (!(option->flags & OPTION_REQUIRED) || parse->seen[number])
				continue;
			log_error(parse->log, "%s: option %s is missing (%s)", parse->what,
				  option->name, option->help);
			return -EINVAL;
		}
	}
	return 0;
}

static int parse_elements(struct parse *parse, char *text)
{
	char *element;

	while ((element = next_element(&text))) {
		int error;

		if (!*element)
			continue;
		error = parse_element(parse, element);
		if (error)
			return error;
	}
	return check_required(parse);
}

int options_parse(struct logger *log, const char *what, const char *spec,
		  const struct option_set *sets, unsigned int count)
{
	struct parse parse = { .log = log, .what = what, .sets = sets, .count = count };
	char *text = strdup(spec ? spec : "");
	int error;

	if (!text) {
		log_error(log, "%s: out of memory", what);
		return -ENOMEM;
	}
	error = set_defaults(&parse);
	if (!error)
		error = parse_elements(&parse, text);
	if (error)
		options_free(sets, count);
	free(text);
	return error;
}

static void option_free(const struct option_desc *option, void *object)
{
	void *field = (char *)object + option->offset;
	struct option_list *list = field;

	if (option->type == OPTION_STRING) {
		free(*(char **)field);
		*(char **)field = NULL;
	}
	if (option->type != OPTION_LIST)
		return;
	while (list->count)
		free(list->items[--list->count]);
}

void options_free(const struct option_set *sets, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		const struct option_desc *option = sets[i].table;

		for (; option && option->name; option++)
			option_free(option, sets[i].object);
	}
}

static int compare_options(const void *a, const void *b)
{
	const struct option_desc *const *x = a, *const *y = b;
	int positional = !!((*y)->flags & OPTION_POSITIONAL) - !!((*x)->flags & OPTION_POSITIONAL);

	return positional ? positional : strcmp((*x)->name, (*y)->name);
}

void options_help(void *out_file, const struct option_desc *table)
{
	const struct option_desc *sorted[OPTIONS_MAX];
	unsigned int count = 0;

	for (; table && table->name && count < OPTIONS_MAX; table++)
		sorted[count++] = table;
	qsort(sorted, count, sizeof(sorted[0]), compare_options);
	for (unsigned int i = 0; i < count; i++) {
		const struct option_desc *option = sorted[i];
		char left[192], values[128];

		describe_values(option, values, sizeof(values));
		snprintf(left, sizeof(left), "%s=<%s>", option->name, values);
		fprintf(out_file, "  %-34s %s%s%s%s%s%s\n", left, option->help,
			option->def ? " (default " : "", option->def ? option->def : "",
			option->def ? ")" : "",
			option->flags & OPTION_POSITIONAL ? "; \"name=\" may be left out" : "",
			option->flags & OPTION_FLAG ? "; without a value it is on" : "");
	}
}
