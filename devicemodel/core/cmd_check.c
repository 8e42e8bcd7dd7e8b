/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tenon check-device: the checks that every virtio device must pass, on one device.
 */
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
	"usage: tenon check-device [--plugin FILE.so]... [--seconds N] DEVICE|FILE.so[,OPTIONS]\n"
	"\n"
	"Run every check that holds for all virtio devices on DEVICE, or on each device of the\n"
	"plugin FILE.so, and print a line for each: ok, FAIL with the reason, or - where it does\n"
	"not apply. Each check runs in a process of its own, for N seconds at most (default 20).\n"
	"Status: 0 all is well, 1 a check failed, 2 the device cannot be made.\n";

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

static int check_device(const char *spec, unsigned int seconds)
{
	struct check_counts counts = { 0 };
	const struct device_check *check;
	char why[CHECK_WHY_SIZE];

	if (device_check_run_apart(NULL, spec, seconds, why) != CHECK_OK) {
		fprintf(stderr, "tenon: error: %s\n", why);
		return VM_END_BAD_ARGUMENTS;
	}
	printf("%s\n", spec);
	for (unsigned int i = 0; (check = device_check_at(i)); i++)
		print_result(check, device_check_run_apart(check, spec, seconds, why), why,
			     &counts);
	printf("%u ok, %u failed, %u not applicable\n", counts.ok, counts.failed, counts.omitted);
	return counts.failed ? 1 : 0;
}

/* All devices from the @first-th on, each with @options, which begin with a comma if there are any. */
static int check_devices_from(unsigned int first, const char *options, unsigned int seconds)
{
	const struct virtio_ops *ops;
	char spec[SPEC_SIZE];
	int status = 0;

	for (unsigned int i = first; (ops = virtio_device_get(i)); i++) {
		int now;

		snprintf(spec, sizeof(spec), "%s%s", ops->name, options);
		now = check_device(spec, seconds);
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

static bool virtio_kind_exists(const char *name)
{
	const struct virtio_ops *ops;

	for (unsigned int i = 0; (ops = virtio_device_get(i)); i++)
		if (!strcmp(ops->name, name))
			return true;
	return false;
}

/* A device's name has neither a dot nor a slash in it. */
static int check_subject(struct logger *log, const char *subject, unsigned int seconds)
{
	size_t length = strcspn(subject, ",");
	unsigned int first = device_count();
	char file[SPEC_SIZE];

	if (strlen(subject) >= sizeof(file) - 64) {
		log_error(log, "%.40s...: too long", subject);
		return VM_END_BAD_ARGUMENTS;
	}
	snprintf(file, sizeof(file), "%.*s", (int)length, subject);
	if (!strpbrk(file, "./")) {
		if (virtio_kind_exists(file))
			return check_device(subject, seconds);
		log_error(log, "no virtio device is called %s (tenon devices lists them)", file);
		return VM_END_BAD_ARGUMENTS;
	}
	if (virtio_plugin_load(log, file))
		return VM_END_BAD_ARGUMENTS;
	return check_devices_from(first, subject + length, seconds);
}

static int run_check(struct logger *log, int argc, char **argv)
{
	uint64_t seconds = CHECK_SECONDS;
	int i;

	for (i = 1; i + 1 < argc && argv[i][0] == '-'; i += 2) {
		if (!strcmp(argv[i], "--plugin")) {
			if (virtio_plugin_load(log, argv[i + 1]))
				return VM_END_BAD_ARGUMENTS;
		} else if (strcmp(argv[i], "--seconds")) {
			break;
		} else if (option_parse_uint(argv[i + 1], &seconds) || !seconds || seconds > 3600) {
			log_error(log, "--seconds %s: not a number from 1 to 3600", argv[i + 1]);
			return VM_END_BAD_ARGUMENTS;
		}
	}
	if (i == argc - 1 && argv[i][0] != '-')
		return check_subject(log, argv[i], (unsigned int)seconds);
	if (i == argc)
		log_error(log, "check-device: no device given (tenon check-device --help)");
	else
		log_error(log, "check-device: %s: unknown option (tenon check-device --help)",
			  argv[i]);
	return VM_END_BAD_ARGUMENTS;
}

int cmd_check(int argc, char **argv)
{
	struct logger log;
	int status;

	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		fputs(check_help, stdout);
		return 0;
	}
	logger_init(&log, "tenon");
	status = run_check(&log, argc, argv);
	logger_deinit(&log);
	return status;
}
