/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tenon check-device: the checks that every virtio device must pass, on one device.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "device_check.h"
#include "dm.h"
#include "logger.h"
#include "options.h"
#include "plugins.h"
#include "virtio_transport.h"

#define SPEC_SIZE 512

static const char check_help[] =
	"usage: tenon check-device [options] DEVICE|FILE.so[,OPTIONS]\n"
	"\n"
	"Run every check that holds for all virtio devices on DEVICE, or on each device of the\n"
	"plugin FILE.so, and print a line for each: ok, FAIL with the reason, or - where it does\n"
	"not apply. Each check runs in a process of its own.\n"
	"\n"
	"      --only CLAUSE       only the checks of this clause\n"
	"      --plugin FILE.so    devices from a shared object; may be repeated\n"
	"      --seconds N         time for one check, 1..3600 (default 20)\n"
	"\n"
	"Status: 0 all is well, 1 a check failed, 2 the device cannot be made.\n";

/* struct check_command - the command line; @only NULL: all checks. */
struct check_command {
	struct logger log;
	uint64_t seconds;
	const char *only;
};

struct check_counts {
	unsigned int ok, failed, omitted;
};

/* The line of @check, and what it counts for. */
static void print_result(const struct device_check *check, enum check_result result,
			 const char *why, struct check_counts *counts)
{
	static const char *const words[] = { "ok", "FAIL", "-" };

	printf("%-4s  %-12s  %s%s%s\n", words[result], check->clause, check->title,
	       why[0] ? ": " : "", why);
	fflush(stdout);
	counts->ok += result == CHECK_OK;
	counts->failed += result == CHECK_FAIL;
	counts->omitted += result == CHECK_NOT_APPLICABLE;
}

static int check_device(const struct check_command *command, const char *spec)
{
	unsigned int seconds = (unsigned int)command->seconds;
	struct check_counts counts = { 0 };
	const struct device_check *check;
	char why[CHECK_WHY_SIZE];

	if (device_check_run_apart(NULL, spec, seconds, why) != CHECK_OK) {
		fprintf(stderr, "tenon: error: %s\n", why);
		return VM_END_BAD_ARGUMENTS;
	}
	printf("%s\n", spec);
	for (unsigned int i = 0; (check = device_check_at(i)); i++) {
		enum check_result result;

		if (command->only && strcmp(command->only, check->clause))
			continue;
		result = device_check_run_apart(check, spec, seconds, why);
		print_result(check, result, why, &counts);
	}
	printf("%u ok, %u failed, %u not applicable\n", counts.ok, counts.failed, counts.omitted);
	return counts.failed ? 1 : 0;
}

/* All devices from the @first-th on, each with @options, which begin with a comma if there are any. */
static int check_devices_from(const struct check_command *command, unsigned int first,
			      const char *options)
{
	const struct virtio_ops *ops;
	char spec[SPEC_SIZE];
	int status = 0;

	for (unsigned int i = first; (ops = virtio_device_get(i)); i++) {
		int now;

		snprintf(spec, sizeof(spec), "%s%s", ops->name, options);
		now = check_device(command, spec);
		status = MAX(status, now);
	}
	return status;
}

static unsigned int device_count(void)
{
	unsigned int count = 0;

	while (virtio_device_get(count))
		count++;
	return count;
}

/* A device's name has neither a dot nor a slash in it. */
static int check_subject(struct check_command *command, const char *subject)
{
	size_t length = strcspn(subject, ",");
	unsigned int first = device_count();
	char name[SPEC_SIZE - 64]; /* there is room for a device's name in its place */

	if (strlen(subject) >= sizeof(name)) {
		log_error(&command->log, "check-device: %.40s...: too long", subject);
		return VM_END_BAD_ARGUMENTS;
	}
	snprintf(name, sizeof(name), "%.*s", (int)length, subject);
	if (strpbrk(name, "./"))
		return virtio_plugin_load(&command->log, name)
			       ? VM_END_BAD_ARGUMENTS
			       : check_devices_from(command, first, subject + length);
	if (virtio_device_find(subject))
		return check_device(command, subject);
	log_error(&command->log, "no virtio device is called %s (tenon devices lists them)", name);
	return VM_END_BAD_ARGUMENTS;
}

static bool clause_exists(const char *clause)
{
	const struct device_check *check;

	for (unsigned int i = 0; (check = device_check_at(i)); i++)
		if (!strcmp(check->clause, clause))
			return true;
	return false;
}

static int parse_option(struct check_command *command, const char *option, const char *value)
{
	struct logger *log = &command->log;

	if (!strcmp(option, "--plugin"))
		return virtio_plugin_load(log, value);
	if (!strcmp(option, "--only")) {
		command->only = value;
		if (!clause_exists(value))
			log_error(log, "--only %s: no check is of this clause", value);
		return clause_exists(value) ? 0 : -EINVAL;
	}
	if (!strcmp(option, "--seconds")) {
		if (!option_parse_uint(value, &command->seconds) && command->seconds >= 1 &&
		    command->seconds <= 3600)
			return 0;
		log_error(log, "--seconds %s: not a number from 1 to 3600", value);
		return -EINVAL;
	}
	log_error(log, "%s: unknown option (tenon check-device --help)", option);
	return -EINVAL;
}

static int run_command(struct check_command *command, int argc, char **argv)
{
	int next = 1;

	for (; next + 1 < argc && argv[next][0] == '-'; next += 2)
		if (parse_option(command, argv[next], argv[next + 1]))
			return VM_END_BAD_ARGUMENTS;
	if (next == argc - 1 && argv[next][0] != '-')
		return check_subject(command, argv[next]);
	log_error(&command->log, "no device given, or more than one: tenon check-device [options] "
				 "DEVICE|FILE.so[,OPTIONS]");
	return VM_END_BAD_ARGUMENTS;
}

int cmd_check(int argc, char **argv)
{
	struct check_command command = { .seconds = CHECK_SECONDS };
	int status;

	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		fputs(check_help, stdout);
		return 0;
	}
	logger_init(&command.log, "tenon");
	status = run_command(&command, argc, argv);
	logger_deinit(&command.log);
	return status;
}
