/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * acrn_dm: what a person may write behind acrn-dm, an argument a line, and a MADT of the host for
 * --cpu_affinity. What is accepted must be a VM that tenon can be asked for, what is refused must be
 * refused in one line.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "acrn_dm.h"
#include "lib/fuzz_machine.h"
#include "options.h"
#include "virtio_transport.h"

#define TEXT_MAX 4096
#define ARGUMENTS_MAX 64

struct lines {
	unsigned int errors, warnings;
};

static void count_line(void *arg, enum log_level level, const char *line)
{
	struct lines *lines = arg;

	if (getenv("FUZZ_LOG"))
		fprintf(stderr, "log: %s\n", line);
	lines->errors += level == LOG_LEVEL_ERROR;
	lines->warnings += level == LOG_LEVEL_WARNING;
}

/* The options go to the table of the device that they are for; what it thinks of them is its affair. */
static void check_options(struct logger *log, const char *device)
{
	const char *name = strchr(device, ',') + 1;
	size_t len = strcspn(name, ",");
	const struct virtio_ops *ops;

	for (unsigned int i = 0; (ops = virtio_device_get(i)); i++) {
		struct option_set sets[2];
		void *object;

		if (strlen(ops->name) != len || memcmp(ops->name, name, len) != 0)
			continue;
		object = calloc(1, ops->priv_size);
		sets[0] = (struct option_set) { ops->options, object };
		sets[1] = (struct option_set) { virtio_common_options, object };
		if (!options_parse(log, ops->name, name[len] ? name + len + 1 : NULL, sets, 2))
			options_free(sets, 2);
		free(object);
		return;
	}
	fuzz_fail("tenon has no such device: %s", device);
}

static void check_device(struct logger *log, const char *device)
{
	unsigned int slot, func;
	int end = 0;

	if (sscanf(device, "%u:%u,%n", &slot, &func, &end) != 2 || !end || slot > 31 || func > 7)
		fuzz_fail("not a device: %s", device);
	check_options(log, device);
}

static void check_vm(struct acrn_dm *dm)
{
	const struct vm_config *vm = &dm->launch->vm;

	if (!vm->name || !vm->name[0] || strlen(vm->name) > ACRN_DM_NAME_MAX)
		fuzz_fail("the VM's name is %s", vm->name ? vm->name : "not given");
	if (vm->memory_size < MIB(128) || vm->memory_size % MIB(2))
		fuzz_fail("memory of 0x%llx", (unsigned long long)vm->memory_size);
	if (!vm->cpu_count || vm->cpu_count > VM_CPUS_MAX ||
	    (vm->cpu_affinity &&
	     (unsigned int)__builtin_popcountll(vm->cpu_affinity) != vm->cpu_count))
		fuzz_fail("%u CPUs on 0x%llx", vm->cpu_count, (unsigned long long)vm->cpu_affinity);
	for (unsigned int i = 0; i < dm->launch->device_count; i++)
		check_device(&dm->launch->log, dm->launch->devices[i]);
}

static void parse(char *text, const char *madt)
{
	struct acrn_dm *dm = acrn_dm_new();
	char *argv[ARGUMENTS_MAX + 1] = { (char *)"acrn-dm" };
	struct lines lines = { 0 };
	int argc = 1, result;

	while (argc < ARGUMENTS_MAX && (argv[argc] = strsep(&text, "\n")))
		argc++;
	argv[argc] = NULL;
	dm->launch->log.sink = count_line;
	dm->launch->log.sink_arg = &lines;
	dm->madt = madt;
	dm->cpuinfo = "/nowhere/cpuinfo";
	result = acrn_dm_parse(dm, argc, argv);
	if (lines.errors != (result < 0) || lines.warnings > 1)
		fuzz_fail("%d after %u errors and %u warnings", result, lines.errors,
			  lines.warnings);
	if (!result)
		check_vm(dm);
	acrn_dm_free(dm);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = { data, size };
	uint8_t table[256] = { 0 };
	unsigned int len = fuzz_u8(&input);
	char text[TEXT_MAX], madt[64];
	static int fd = -1; /* libFuzzer hands nothing through */

	if (fd < 0) {
		fd = memfd_create("madt", MFD_CLOEXEC);
		if (fd < 0 || !freopen("/dev/null", "w", stdout)) /* --help */
			abort();
	}
	fuzz_bytes(&input, table + 44, MIN(len, sizeof(table) - 44));
	if (pwrite(fd, table, sizeof(table), 0) < 0)
		abort();
	snprintf(madt, sizeof(madt), "/proc/self/fd/%d", fd);
	fuzz_bytes(&input, text, sizeof(text));
	text[sizeof(text) - 1] = '\0';
	parse(text, madt);
	return 0;
}
