/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tenon run: the command line of a User VM.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>

#include "command_line.h"
#include "commands.h"
#include "launch.h"
#include "options.h"
#include "pci_core.h"
#include "plugins.h"

#define MEMORY_DEFAULT MIB(512)
#define MEMORY_MIN MIB(16)
#define MEMORY_MAX GIB(1024)

enum {
	OPT_HV = LONG_ONLY,
	OPT_NO_REBOOT,
	OPT_LOG,
	OPT_HUGE_PAGES,
	OPT_DEBUG_EXIT,
	OPT_PLUGIN,
	OPT_CONTROL,
	OPT_IOTHREAD
};

static const struct option long_options[] = {
	{ "memory", required_argument, NULL, 'm' },
	{ "cpus", required_argument, NULL, 'c' },
	{ "kernel", required_argument, NULL, 'k' },
	{ "ramdisk", required_argument, NULL, 'r' },
	{ "bootargs", required_argument, NULL, 'B' },
	{ "device", required_argument, NULL, 's' },
	{ "lpc", required_argument, NULL, 'l' },
	{ "hv", required_argument, NULL, OPT_HV },
	{ "no-reboot", no_argument, NULL, OPT_NO_REBOOT },
	{ "huge-pages", no_argument, NULL, OPT_HUGE_PAGES },
	{ "debug-exit", no_argument, NULL, OPT_DEBUG_EXIT },
	{ "log", required_argument, NULL, OPT_LOG },
	{ "plugin", required_argument, NULL, OPT_PLUGIN },
	{ "control", required_argument, NULL, OPT_CONTROL },
	{ "iothread", required_argument, NULL, OPT_IOTHREAD },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

static const char run_help[] =
	"usage: tenon run [options] NAME\n"
	"\n"
	"Launch the User VM NAME. Its status: 0 the guest powered off, 1 internal failure, 2 bad\n"
	"arguments, 3 the guest reset (--no-reboot), 4 the guest crashed, 5 ended by a second "
	"signal\n"
	"or 30 s after the first, 64..127 the guest wrote to the debug-exit port.\n"
	"\n"
	"  -B, --bootargs STRING    boot arguments of the kernel\n"
	"  -c, --cpus N             CPUs, 1..16 (default 1)\n"
	"      --control PATH       listen for commands at this Unix socket (tenon control PATH "
	"help)\n"
	"      --debug-exit         port 0xF4 ends the VM with status 64 + (value & 63)\n"
	"  -h, --help               this text\n"
	"      --huge-pages         guest memory from huge pages\n"
	"      --hv auto|acrn|kvm|test,socket=PATH\n"
	"                           hypervisor port (default auto); --hv help lists them and their "
	"options\n"
	"      --iothread NAME[,cpus=LIST]\n"
	"                           a thread that devices with iothread=NAME share; LIST as 0+2-3\n"
	"  -k, --kernel FILE        Linux bzImage, or ELF vmlinux with a PVH entry\n"
	"  -l, --lpc comN,BACKEND   UART com1..com4; BACKEND: stdio, pty[:LINK], tty:PATH,\n"
	"                           file:PATH, socket:PATH[:server], null\n"
	"      --log LEVEL          error, warning, info, debug (default info)\n"
	"  -m, --memory SIZE        guest memory: 512, 512M, 1G (default 512M; plain numbers are "
	"MiB)\n"
	"      --no-reboot          a guest reset ends tenon with status 3\n"
	"      --plugin FILE.so     devices from a shared object; may be repeated\n"
	"  -r, --ramdisk FILE       initial RAM disk\n"
	"  -s, --device [[bus:]slot[:func],]DEVICE[,OPTIONS]\n"
	"                           add a PCI device; -s help lists them, -s DEVICE,help its "
	"options\n"
	"  -v                       one log level more; may be repeated\n"
	"\n"
	"SIGTERM and SIGINT press the guest's power button.\n";

static int parse_number(struct launch *launch, const char *option, const char *text, uint64_t min,
			uint64_t max, uint64_t *value)
{
	if (!option_parse_uint(text, value) && *value >= min && *value <= max)
		return 0;
	log_error(&launch->log, "%s %s: not a number from %llu to %llu", option, text,
		  (unsigned long long)min, (unsigned long long)max);
	return -EINVAL;
}

static int parse_memory(struct launch *launch, const char *text)
{
	uint64_t size;

	if (option_parse_size(text, MIB(1), &size) || size < MEMORY_MIN || size > MEMORY_MAX) {
		log_error(&launch->log,
			  "-m %s: not a memory size from 16M to 1024G (for example 512, 512M, 1G)",
			  text);
		return -EINVAL;
	}
	launch->vm.memory_size = align_up(size, MIB(2));
	return 0;
}

static int parse_option(struct launch *launch, int option, const char *arg)
{
	uint64_t number = 0;
	int error;

	switch (option) {
	case 'm':
		return parse_memory(launch, arg);
	case 'c':
		error = parse_number(launch, "-c", arg, 1, VM_CPUS_MAX, &number);
		launch->vm.cpu_count = (unsigned int)number;
		return error;
	case 'k':
		launch->vm.kernel = arg;
		return 0;
	case 'r':
		launch->vm.ramdisk = arg;
		return 0;
	case 'B':
		launch->vm.bootargs = arg;
		return 0;
	case 's':
		return launch_add_device(launch, arg);
	case 'l':
		return launch_add_uart(launch, arg);
	case 'v':
		command_more_log(&launch->log);
		return 0;
	case OPT_LOG:
		return command_set_log_level(&launch->log, arg);
	case OPT_HV:
		launch_set_hv(launch, arg);
		return 0;
	case OPT_NO_REBOOT:
		launch->vm.no_reboot = true;
		return 0;
	case OPT_HUGE_PAGES:
		launch->vm.huge_pages = true;
		return 0;
	case OPT_DEBUG_EXIT:
		launch->vm.debug_exit = true;
		return 0;
	case OPT_CONTROL:
		launch->vm.control = arg;
		return 0;
	case OPT_IOTHREAD:
		return launch_add_iothread(launch, arg);
	case OPT_PLUGIN:
		return virtio_plugin_load(&launch->log, arg);
	}
	return -EINVAL;
}

/* -s help and -s DEVICE,help print and end; true if one of them was given. */
static bool device_help(const struct launch *launch)
{
	for (unsigned int i = 0; i < launch->device_count; i++) {
		const char *spec = launch->devices[i];
		const char *comma = strrchr(spec, ',');
		char name[64];

		if (!strcmp(spec, "help")) {
			pci_devices_help(stdout);
			return true;
		}
		if (!comma || strcmp(comma, ",help") || comma - spec >= (int)sizeof(name))
			continue;
		memcpy(name, spec, (size_t)(comma - spec));
		name[comma - spec] = '\0';
		comma = strrchr(name, ',');
		if (pci_device_help(comma ? comma + 1 : name, stdout))
			return true;
	}
	return false;
}

/* 0: go on; 1: help was printed; -errno after one line. */
static int parse_command_line(struct launch *launch, int argc, char **argv)
{
	int option;

	optind = 0;
	opterr = 0;
	while ((option = getopt_long(argc, argv, ":m:c:k:r:B:s:l:vh", long_options, NULL)) != -1) {
		int error;

		if (option == 'h') {
			fputs(run_help, stdout);
			return 1;
		}
		error = option == '?' || option == ':'
				? command_bad_option(&launch->log, "tenon run", option, argv)
				: parse_option(launch, option, optarg);
		if (error)
			return error;
	}
	if (device_help(launch))
		return 1;
	if (!strcmp(launch->hv, "help")) {
		hv_help(stdout);
		return 1;
	}
	if (optind == argc - 1) {
		launch->vm.name = argv[optind];
		return 0;
	}
	if (optind == argc)
		log_error(&launch->log, "no VM name given: tenon run [options] NAME");
	else
		log_error(&launch->log, "%s: one VM name only, after the options",
			  argv[optind + 1]);
	return -EINVAL;
}

int cmd_run(int argc, char **argv)
{
	struct launch *launch = launch_new("tenon");
	int result;

	if (!launch)
		return VM_END_INTERNAL;
	launch->vm.memory_size = MEMORY_DEFAULT;
	result = parse_command_line(launch, argc, argv);
	if (result < 0)
		result = VM_END_BAD_ARGUMENTS;
	else
		result = result ? 0 : launch_run(launch);
	launch_free(launch);
	return result;
}
