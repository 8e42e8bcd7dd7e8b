/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * acrn-dm: tenon with the command line of ACRN's device model. One table says what becomes of each
 * option; getopt's tables and the help are made of it.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "acrn_dm.h"
#include "command_line.h"
#include "commands.h"
#include "options.h"

#define MEMORY_DEFAULT MIB(256)
#define MEMORY_MIN MIB(128)
#define MEMORY_MAX GIB(1024)

/* Bits of vm_flag in struct acrn_vm_creation, as the hypervisor knows them. */
#define ACRN_FLAG_LAPIC_PASSTHROUGH BIT64(1)
#define ACRN_FLAG_IO_COMPLETION_POLLING BIT64(2)
#define ACRN_FLAG_RT BIT64(4)
#define ACRN_FLAG_PMU_PASSTHROUGH BIT64(11)

/*
 * @letter: 0: it has none
 * @argument: what follows it, NULL: nothing does
 * @apply: for ACRN_DM_WORKS and ACRN_DM_TENONS; for others, where it depends on the argument; 1 ends acrn-dm well
 * @text: what it does; what to do instead
 */
struct option_row {
	const char *name;
	char letter;
	const char *argument;
	enum acrn_dm_state state;
	int (*apply)(struct acrn_dm *dm, const char *argument);
	const char *text;
};

static const char *const state_names[] = {
	[ACRN_DM_WORKS] = "works",     [ACRN_DM_IGNORED] = "ignored",
	[ACRN_DM_NOT_YET] = "not yet", [ACRN_DM_NOT_PLANNED] = "not planned",
	[ACRN_DM_TENONS] = "tenon's",
};

const char *acrn_dm_state_name(enum acrn_dm_state state)
{
	return state_names[state];
}

void acrn_dm_ignore(struct acrn_dm *dm, const char *what)
{
	size_t used = strlen(dm->ignored);

	snprintf(dm->ignored + used, sizeof(dm->ignored) - used, "%s%s", used ? "; " : "", what);
}

int acrn_dm_not_built(struct acrn_dm *dm, const char *option, const char *arg, const char *what,
		      enum acrn_dm_state state, const char *remedy)
{
	log_error(&dm->launch->log, "%s%s%s: tenon %s %s (%s)", option, arg ? " " : "",
		  arg ? arg : "",
		  state == ACRN_DM_NOT_YET ? "does not have this yet:" : "does not have this:",
		  what, remedy);
	return -ENOTSUP;
}

int acrn_dm_keep(struct acrn_dm *dm, char *text)
{
	if (dm->text_count == ACRN_DM_TEXTS_MAX) {
		log_error(&dm->launch->log, "%s: too many devices, %d at most", text,
			  ACRN_DM_TEXTS_MAX);
		free(text);
		return -E2BIG;
	}
	dm->texts[dm->text_count++] = text;
	return 0;
}

/* ---- options ---- */

/* A number is MiB, as acrn-dm's help says and its code does not know; b is for bytes. */
static int set_memory(struct acrn_dm *dm, const char *text)
{
	size_t len = strlen(text);
	bool bytes = len && (text[len - 1] == 'b' || text[len - 1] == 'B');
	char number[32];
	uint64_t size;

	snprintf(number, sizeof(number), "%.*s", (int)MIN(len - bytes, sizeof(number)), text);
	if (option_parse_size(number, bytes ? 1 : MIB(1), &size) ||
	    (bytes && number[strspn(number, "0123456789")]) || size < MEMORY_MIN ||
	    size > MEMORY_MAX) {
		log_error(&dm->launch->log,
			  "-m %s: not a memory size from 128M to 1024G (for example 512, 512M, 1G)",
			  text);
		return -EINVAL;
	}
	dm->launch->vm.memory_size = align_up(size, MIB(2));
	return 0;
}

static int set_kernel(struct acrn_dm *dm, const char *path)
{
	if (dm->launch->vm.kernel) {
		log_error(&dm->launch->log, "%s: there is a kernel already, %s (-k or -E, once)",
			  path, dm->launch->vm.kernel);
		return -EINVAL;
	}
	dm->launch->vm.kernel = path;
	return 0;
}

static int set_ramdisk(struct acrn_dm *dm, const char *path)
{
	dm->launch->vm.ramdisk = path;
	return 0;
}

static int set_bootargs(struct acrn_dm *dm, const char *text)
{
	dm->launch->vm.bootargs = text;
	return 0;
}

static int add_slot(struct acrn_dm *dm, const char *spec)
{
	if (dm->slot_count == LAUNCH_DEVICES_MAX) {
		log_error(&dm->launch->log, "-s %s: %d at most", spec, LAUNCH_DEVICES_MAX);
		return -E2BIG;
	}
	dm->slots[dm->slot_count++] = spec;
	return 0;
}

static int set_rtvm(struct acrn_dm *dm, const char *argument)
{
	dm->rtvm = true;
	return 0;
}

static int set_lapic_pt(struct acrn_dm *dm, const char *argument)
{
	dm->lapic_pt = true;
	return 0;
}

static int set_virtio_msi(struct acrn_dm *dm, const char *argument)
{
	dm->virtio_msi = true;
	return 0;
}

static int set_debugexit(struct acrn_dm *dm, const char *argument)
{
	dm->launch->vm.debug_exit = true;
	return 0;
}

/* The guest is told to shut down by its power button, whatever the channel. */
static int set_pm_channel(struct acrn_dm *dm, const char *channel)
{
	static const char *const others[] = { "ioc", "uart", "uart,allow_trigger_s5" };

	if (!strcmp(channel, "power_button"))
		return 0;
	for (unsigned int i = 0; i < ARRAY_SIZE(others); i++) {
		if (strcmp(channel, others[i]))
			continue;
		acrn_dm_ignore(dm, "--pm_notify_channel");
		return 0;
	}
	log_error(&dm->launch->log,
		  "--pm_notify_channel %s: no such channel (power_button, ioc, "
		  "uart[,allow_trigger_s5])",
		  channel);
	return -EINVAL;
}

/* "CHANNEL,level=N": the console is standard error; the others are not there. */
static int set_log_channel(struct acrn_dm *dm, const char *channel)
{
	static const enum log_level levels[] = { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO,
						 LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
	static const char *const names[] = { "console", "disk", "kmsg" };
	size_t len = strcspn(channel, ",");
	const char *level = channel + len;
	char what[64];

	if (!strncmp(channel, "debug_domains=", 14))
		return 0;
	for (unsigned int i = 0; i < ARRAY_SIZE(names); i++) {
		if (strlen(names[i]) != len || strncmp(names[i], channel, len) ||
		    strncmp(level, ",level=", 7) || level[7] < '1' || level[7] > '5' || level[8])
			continue;
		if (i) {
			snprintf(what, sizeof(what), "--logger_setting %s", names[i]);
			acrn_dm_ignore(dm, what);
		} else {
			dm->launch->log.level = levels[level[7] - '1'];
		}
		return 0;
	}
	log_error(&dm->launch->log,
		  "--logger_setting %s: not console, disk or kmsg with ,level=1 to ,level=5",
		  channel);
	return -EINVAL;
}

static int set_logger(struct acrn_dm *dm, const char *text)
{
	char *copy = strdup(text), *rest = copy;
	const char *channel;
	int error = copy ? 0 : -ENOMEM;

	while (!error && (channel = strsep(&rest, ";")))
		error = *channel ? set_log_channel(dm, channel) : 0;
	free(copy);
	return error;
}

static int set_hv(struct acrn_dm *dm, const char *spec)
{
	dm->hv_given = true;
	launch_set_hv(dm->launch, spec);
	return 0;
}

static int set_control(struct acrn_dm *dm, const char *path)
{
	dm->launch->vm.control = path;
	return 0;
}

static int set_uuid(struct acrn_dm *dm, const char *text)
{
	dm->launch->vm.uuid = text;
	return 0;
}

static int set_huge_pages(struct acrn_dm *dm, const char *argument)
{
	dm->launch->vm.huge_pages = true;
	return 0;
}

static int print_version(struct acrn_dm *dm, const char *argument)
{
	puts("acrn-dm: tenon " TENON_VERSION);
	return 1;
}

static int print_help(struct acrn_dm *dm, const char *argument);

/* clang-format off */
static const struct option_row rows[] = {
	{ "help", 'h', NULL, ACRN_DM_WORKS, print_help, "this text" },
	{ "version", 'v', NULL, ACRN_DM_WORKS, print_version, "tenon's version" },
	{ "memsize", 'm', "SIZE", ACRN_DM_WORKS, set_memory,
	  "guest memory: 512, 512M, 1G (default 256M; plain numbers are MiB)" },
	{ "kernel", 'k', "FILE", ACRN_DM_WORKS, set_kernel, "bzImage, or vmlinux with a PVH entry" },
	{ "ramdisk", 'r', "FILE", ACRN_DM_WORKS, set_ramdisk, "initial RAM disk" },
	{ "bootargs", 'B', "TEXT", ACRN_DM_WORKS, set_bootargs, "boot arguments of the kernel" },
	{ "elf_file", 'E', "FILE", ACRN_DM_WORKS, set_kernel, "ELF64 file with a PVH entry" },
	{ "pci_slot", 's', "[BUS:]SLOT[:FUNC],DEVICE[,b][,CONFIG]", ACRN_DM_WORKS, add_slot,
	  "add a PCI device" },
	{ "lpc", 'l', "comN,BACKEND", ACRN_DM_WORKS, acrn_dm_add_lpc,
	  "UART com1..com4: stdio, a terminal's path, or a back end of tenon's" },
	{ "cpu_affinity", 0, "ID[,ID]...", ACRN_DM_WORKS, acrn_dm_set_cpus,
	  "local APIC ids of the host's CPUs to run on; as many CPUs has the VM" },
	{ "rtvm", 0, NULL, ACRN_DM_WORKS, set_rtvm, "real-time VM (only on ACRN)" },
	{ "lapic_pt", 0, NULL, ACRN_DM_WORKS, set_lapic_pt, "local APIC passthrough, with --rtvm" },
	{ "virtio_msi", 0, NULL, ACRN_DM_WORKS, set_virtio_msi, "virtio devices without MSI-X" },
	{ "debugexit", 0, NULL, ACRN_DM_WORKS, set_debugexit,
	  "port 0xF4 ends the VM with status 64 + (value & 63)" },
	{ "logger_setting", 0, "console,level=N[;...]", ACRN_DM_WORKS, set_logger,
	  "what is printed: 1 errors to 5 everything" },
	{ "pm_notify_channel", 0, "CHANNEL", ACRN_DM_WORKS, set_pm_channel,
	  "power_button is what is always used" },

	{ "acpi", 'A', NULL, ACRN_DM_IGNORED, NULL, NULL },
	{ "mptgen", 'Y', NULL, ACRN_DM_IGNORED, NULL, NULL },
	{ "gvtargs", 'G', "TEXT", ACRN_DM_IGNORED, NULL, NULL },
	{ "ioc_node", 'i', "TEXT", ACRN_DM_IGNORED, NULL, NULL },
	{ "vsbl", 0, "FILE", ACRN_DM_IGNORED, NULL, NULL },
	{ "part_info", 0, "FILE", ACRN_DM_IGNORED, NULL, NULL },
	{ "mac_seed", 0, "TEXT", ACRN_DM_IGNORED, NULL, NULL },
	{ "pm_by_vuart", 0, "TEXT", ACRN_DM_IGNORED, NULL, NULL },
	{ "iasl", 0, "FILE", ACRN_DM_IGNORED, NULL, NULL },

	{ "ovmf", 0, "[w,]FILE", ACRN_DM_NOT_YET, NULL, "boot a kernel with -k" },
	{ "virtio_poll", 0, "NS", ACRN_DM_NOT_YET, NULL, "leave it out" },
	{ "vtpm2", 0, "sock_path=PATH", ACRN_DM_NOT_YET, NULL, "leave it out" },
	{ "intr_monitor", 0, "NUMBERS", ACRN_DM_NOT_YET, NULL, "leave it out" },
	{ "cmd_monitor", 0, "PATH", ACRN_DM_NOT_YET, NULL, "tenon's socket is --control PATH" },
	{ "acpidev_pt", 0, "HID[,UID]", ACRN_DM_NOT_YET, NULL, "leave it out" },
	{ "mmiodev_pt", 0, "BASE,LEN", ACRN_DM_NOT_YET, NULL, "leave it out" },
	{ "windows", 0, NULL, ACRN_DM_NOT_YET, NULL, "leave it out: the guest needs drivers for vendor 1af4" },
	{ "ssram", 0, "TEXT", ACRN_DM_NOT_PLANNED, NULL, "leave it out" },
	{ "enable_trusty", 0, NULL, ACRN_DM_NOT_PLANNED, NULL, "leave it out" },

	{ "uuid", 'U', "UUID", ACRN_DM_TENONS, set_uuid, "of the VM (only on ACRN)" },
	{ "hv", 0, "PORT", ACRN_DM_TENONS, set_hv,
	  "hypervisor port as in tenon run: auto, acrn, kvm, test (default auto)" },
	{ "control", 0, "PATH", ACRN_DM_TENONS, set_control, "control socket as in tenon run" },
	{ "huge-pages", 0, NULL, ACRN_DM_TENONS, set_huge_pages, "guest memory from huge pages" },
};
/* clang-format on */

static void print_row(const struct option_row *row)
{
	char letter[8] = "   ";
	char left[80];

	if (row->letter)
		snprintf(letter, sizeof(letter), "-%c,", row->letter);
	snprintf(left, sizeof(left), "%s --%s%s%s", letter, row->name, row->argument ? " " : "",
		 row->argument ? row->argument : "");
	printf("  %-36s %s%s%s\n", left, state_names[row->state], row->text ? ": " : "",
	       row->text ? row->text : "");
}

static int print_help(struct acrn_dm *dm, const char *argument)
{
	puts("usage: acrn-dm [options] NAME\n"
	     "\n"
	     "tenon with the options of ACRN's device model. What each comes to: works; ignored\n"
	     "(named in one warning); not yet, not planned (an error); tenon's own.\n");
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++)
		print_row(&rows[i]);
	puts("\nDevices for -s:\n");
	acrn_dm_devices_help(stdout);
	puts("\nExit statuses are those of tenon run. SIGTERM, SIGINT and SIGHUP press the "
	     "guest's\n"
	     "power button. More in acrn-dm.md.");
	return 1;
}

/* ---- the command line ---- */

struct getopt_tables {
	struct option longs[ARRAY_SIZE(rows) + 1];
	char letters[2 * ARRAY_SIZE(rows) + 2];
};

static void getopt_tables_make(struct getopt_tables *tables)
{
	size_t used = 0;

	memset(tables, 0, sizeof(*tables));
	tables->letters[used++] = ':';
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		tables->longs[i] = (struct option) {
			.name = rows[i].name,
			.has_arg = rows[i].argument ? required_argument : no_argument,
			.val = LONG_ONLY + (int)i,
		};
		if (!rows[i].letter)
			continue;
		tables->letters[used++] = rows[i].letter;
		if (rows[i].argument)
			tables->letters[used++] = ':';
	}
}

static const struct option_row *row_find(int option)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++)
		if (option == LONG_ONLY + (int)i || (rows[i].letter && option == rows[i].letter))
			return &rows[i];
	return NULL;
}

static int row_apply(struct acrn_dm *dm, const struct option_row *row, const char *argument)
{
	char spelling[32];

	if (row->apply)
		return row->apply(dm, argument);
	snprintf(spelling, sizeof(spelling), "--%s", row->name);
	if (row->state != ACRN_DM_IGNORED)
		return acrn_dm_not_built(dm, spelling, argument, row->name, row->state, row->text);
	acrn_dm_ignore(dm, spelling);
	return 0;
}

static int parse_options(struct acrn_dm *dm, int argc, char **argv)
{
	struct getopt_tables tables;
	int option;

	getopt_tables_make(&tables);
	optind = 0;
	opterr = 0;
	while ((option = getopt_long(argc, argv, tables.letters, tables.longs, NULL)) != -1) {
		const struct option_row *row = row_find(option);
		int result =
			row && option != '?' && option != ':'
				? row_apply(dm, row, optarg)
				: command_bad_option(&dm->launch->log, "acrn-dm", option, argv);

		if (result)
			return result;
	}
	return 0;
}

static int parse_name(struct acrn_dm *dm, int argc, char **argv)
{
	struct logger *log = &dm->launch->log;

	if (optind == argc - 1 && argv[optind][0] && strlen(argv[optind]) <= ACRN_DM_NAME_MAX) {
		dm->launch->vm.name = argv[optind];
		return 0;
	}
	if (optind == argc)
		log_error(log, "no VM name given: acrn-dm [options] NAME");
	else if (optind < argc - 1)
		log_error(log, "%s: one VM name only, after the options", argv[optind + 1]);
	else
		log_error(log, "%s: a VM's name has 1 to %d characters", argv[optind],
			  ACRN_DM_NAME_MAX);
	return -EINVAL;
}

/* acrn-dm takes the functions of a slot in any order, tenon function 0 first. */
static void functions_last(struct launch *launch)
{
	const char *others[LAUNCH_DEVICES_MAX];
	unsigned int first = 0, other = 0;

	for (unsigned int i = 0; i < launch->device_count; i++) {
		const char *device = launch->devices[i];

		if (!strncmp(strchr(device, ':'), ":0,", 3))
			launch->devices[first++] = device;
		else
			others[other++] = device;
	}
	for (unsigned int i = 0; i < other; i++)
		launch->devices[first++] = others[i];
}

static int add_slots(struct acrn_dm *dm)
{
	for (unsigned int i = 0; i < dm->slot_count; i++) {
		int error = acrn_dm_add_slot(dm, dm->slots[i]);

		if (error)
			return error;
	}
	functions_last(dm->launch);
	return 0;
}

static void set_flags(struct acrn_dm *dm)
{
	if (dm->rtvm)
		dm->launch->vm.acrn_vm_flags = ACRN_FLAG_LAPIC_PASSTHROUGH |
					       ACRN_FLAG_IO_COMPLETION_POLLING | ACRN_FLAG_RT |
					       ACRN_FLAG_PMU_PASSTHROUGH;
	else if (dm->lapic_pt)
		acrn_dm_ignore(dm, "--lapic_pt without --rtvm");
}

int acrn_dm_parse(struct acrn_dm *dm, int argc, char **argv)
{
	int result = parse_options(dm, argc, argv);

	if (!result)
		result = parse_name(dm, argc, argv);
	if (!result)
		result = add_slots(dm);
	if (result)
		return result;
	set_flags(dm);
	if (dm->ignored[0])
		log_warning(&dm->launch->log, "ignored, they mean nothing here: %s", dm->ignored);
	return 0;
}

struct acrn_dm *acrn_dm_new(void)
{
	struct acrn_dm *dm = calloc(1, sizeof(*dm));

	if (!dm)
		return NULL;
	dm->launch = launch_new("acrn-dm");
	if (!dm->launch) {
		free(dm);
		return NULL;
	}
	dm->launch->vm.memory_size = MEMORY_DEFAULT;
	dm->madt = "/sys/firmware/acpi/tables/APIC";
	dm->cpuinfo = "/proc/cpuinfo";
	return dm;
}

void acrn_dm_free(struct acrn_dm *dm)
{
	if (!dm)
		return;
	while (dm->text_count)
		free(dm->texts[--dm->text_count]);
	launch_free(dm->launch);
	free(dm);
}

/* Who starts acrn-dm expects ACRN: it is told when the VM runs on something else. */
static int choose_port(struct acrn_dm *dm)
{
	const struct hv_ops *hv;

	if (dm->hv_given)
		return 0;
	hv = hv_find(&dm->launch->log, "auto");
	if (!hv)
		return -ENODEV;
	launch_set_hv(dm->launch, hv->name);
	if (strcmp(hv->name, "acrn"))
		log_info(&dm->launch->log, "no HSM of ACRN here: the VM runs on %s%s", hv->name,
			 dm->rtvm ? ", --rtvm means nothing there" : "");
	return 0;
}

int cmd_acrn_dm(int argc, char **argv)
{
	struct acrn_dm *dm = acrn_dm_new();
	int result;

	if (!dm)
		return VM_END_INTERNAL;
	result = acrn_dm_parse(dm, argc, argv);
	if (!result)
		result = choose_port(dm);
	if (result < 0)
		result = VM_END_BAD_ARGUMENTS;
	else
		result = result ? 0 : launch_run(dm->launch);
	acrn_dm_free(dm);
	return result;
}
