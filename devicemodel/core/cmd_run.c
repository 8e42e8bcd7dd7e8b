/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tenon run: the command line of a User VM.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "commands.h"
#include "dm.h"
#include "options.h"
#include "pci_core.h"
#include "platform.h"
#include "plugins.h"

#define MEMORY_DEFAULT MIB(512)
#define MEMORY_MIN MIB(16)
#define MEMORY_MAX GIB(1024)
#define SPECS_MAX 256

/* What the command line says, before anything is opened. */
struct run_config {
	struct vm_config vm;
	struct logger log;
	const char *hv;
	const char *devices[SPECS_MAX];
	unsigned int device_count;
	const char *uarts[PLATFORM_UARTS];
	unsigned int uart_count;
};

enum { OPT_HV = 256, OPT_NO_REBOOT, OPT_LOG, OPT_HUGE_PAGES, OPT_DEBUG_EXIT, OPT_PLUGIN };

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
	"      --debug-exit         port 0xF4 ends the VM with status 64 + (value & 63)\n"
	"  -h, --help               this text\n"
	"      --huge-pages         guest memory from huge pages\n"
	"      --hv auto|kvm|test,socket=PATH\n"
	"                           hypervisor port (default auto); --hv help lists them and their "
	"options\n"
	"  -k, --kernel FILE        Linux bzImage, or ELF vmlinux with a PVH entry\n"
	"  -l, --lpc comN,BACKEND   UART com1..com4; BACKEND: stdio, pty[:LINK], file:PATH,\n"
	"                           socket:PATH[:server], null\n"
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

static int parse_number(struct run_config *run, const char *option, const char *text, uint64_t min,
			uint64_t max, uint64_t *value)
{
	if (!option_parse_uint(text, value) && *value >= min && *value <= max)
		return 0;
	log_error(&run->log, "%s %s: not a number from %llu to %llu", option, text,
		  (unsigned long long)min, (unsigned long long)max);
	return -EINVAL;
}

static int parse_memory(struct run_config *run, const char *text)
{
	uint64_t size;

	if (option_parse_size(text, MIB(1), &size) || size < MEMORY_MIN || size > MEMORY_MAX) {
		log_error(&run->log,
			  "-m %s: not a memory size from 16M to 1024G (for example 512, 512M, 1G)",
			  text);
		return -EINVAL;
	}
	run->vm.memory_size = align_up(size, MIB(2));
	return 0;
}

static int parse_level(struct run_config *run, const char *text)
{
	int level = logger_parse_level(text);

	if (level < 0) {
		log_error(&run->log, "--log %s: not a level (error, warning, info, debug)", text);
		return level;
	}
	run->log.level = (enum log_level)level;
	return 0;
}

static int add_spec(struct run_config *run, const char *option, const char **specs,
		    unsigned int *count, unsigned int max, const char *spec)
{
	if (*count == max) {
		log_error(&run->log, "%s %s: %u at most", option, spec, max);
		return -E2BIG;
	}
	specs[(*count)++] = spec;
	return 0;
}

static int parse_option(struct run_config *run, int option, const char *arg)
{
	uint64_t number = 0;
	int error;

	switch (option) {
	case 'm':
		return parse_memory(run, arg);
	case 'c':
		error = parse_number(run, "-c", arg, 1, VM_CPUS_MAX, &number);
		run->vm.cpu_count = (unsigned int)number;
		return error;
	case 'k':
		run->vm.kernel = arg;
		return 0;
	case 'r':
		run->vm.ramdisk = arg;
		return 0;
	case 'B':
		run->vm.bootargs = arg;
		return 0;
	case 's':
		return add_spec(run, "-s", run->devices, &run->device_count, SPECS_MAX, arg);
	case 'l':
		return add_spec(run, "-l", run->uarts, &run->uart_count, PLATFORM_UARTS, arg);
	case 'v':
		if (run->log.level < LOG_LEVEL_DEBUG)
			run->log.level++;
		return 0;
	case OPT_LOG:
		return parse_level(run, arg);
	case OPT_HV:
		run->hv = arg;
		run->vm.hv_options = hv_spec_options(arg);
		return 0;
	case OPT_NO_REBOOT:
		run->vm.no_reboot = true;
		return 0;
	case OPT_HUGE_PAGES:
		run->vm.huge_pages = true;
		return 0;
	case OPT_DEBUG_EXIT:
		run->vm.debug_exit = true;
		return 0;
	case OPT_PLUGIN:
		return virtio_plugin_load(&run->log, arg);
	}
	return -EINVAL;
}

static int bad_option(struct run_config *run, int option, char **argv)
{
	if (option == ':')
		log_error(&run->log, "%s needs a value (tenon run --help)", argv[optind - 1]);
	else if (optopt && optopt < 256)
		log_error(&run->log, "-%c: unknown option (tenon run --help)", optopt);
	else
		log_error(&run->log, "%s: unknown option (tenon run --help)", argv[optind - 1]);
	return -EINVAL;
}

/* -s help and -s DEVICE,help print and end; true if one of them was given. */
static bool device_help(const struct run_config *run)
{
	for (unsigned int i = 0; i < run->device_count; i++) {
		const char *spec = run->devices[i];
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
static int parse_command_line(struct run_config *run, int argc, char **argv)
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
		error = option == '?' || option == ':' ? bad_option(run, option, argv)
						       : parse_option(run, option, optarg);
		if (error)
			return error;
	}
	if (device_help(run))
		return 1;
	if (!strcmp(run->hv, "help")) {
		hv_help(stdout);
		return 1;
	}
	if (optind == argc - 1) {
		run->vm.name = argv[optind];
		return 0;
	}
	if (optind == argc)
		log_error(&run->log, "no VM name given: tenon run [options] NAME");
	else
		log_error(&run->log, "%s: one VM name only, after the options", argv[optind + 1]);
	return -EINVAL;
}

/* Signals come through a descriptor; blocked before any thread exists, so that none is interrupted. */
static int signals_open(struct logger *log)
{
	sigset_t wanted, blocked;
	int fd;

	sigemptyset(&wanted);
	sigaddset(&wanted, SIGTERM);
	sigaddset(&wanted, SIGINT);
	sigaddset(&wanted, SIGHUP);
	blocked = wanted;
	sigaddset(&blocked, SIGPIPE);
	sigaddset(&blocked, SIGWINCH);
	pthread_sigmask(SIG_BLOCK, &blocked, NULL);
	fd = signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		log_error(log, "signalfd: %s", strerror(errno));
	return fd;
}

struct signal_source {
	struct vmctx *ctx;
	int fd;
};

static void on_signal(void *arg, uint32_t events)
{
	struct signal_source *signals = arg;
	struct signalfd_siginfo info;

	while (read(signals->fd, &info, sizeof(info)) == sizeof(info))
		vm_power_button(signals->ctx);
}

static int add_devices(struct run_config *run, struct vmctx *ctx)
{
	for (unsigned int i = 0; i < run->uart_count; i++)
		if (platform_add_uart(ctx, run->uarts[i]))
			return -EINVAL;
	for (unsigned int i = 0; i < run->device_count; i++)
		if (!pci_add_device(ctx, run->devices[i]))
			return -EINVAL;
	return 0;
}

static int run_vm(struct run_config *run, struct vmctx *ctx, int signal_fd)
{
	struct signal_source signals = { .ctx = ctx, .fd = signal_fd };
	struct event_source *source;
	int status;

	if (add_devices(run, ctx))
		return VM_END_BAD_ARGUMENTS;
	source = event_add_fd(ctx->main_loop, signal_fd, EPOLLIN, NULL, on_signal, &signals);
	if (!source) {
		log_error(&run->log, "cannot watch signals: %s", strerror(errno));
		return VM_END_INTERNAL;
	}
	status = vm_run(ctx);
	event_remove(source);
	return status;
}

static int launch(struct run_config *run)
{
	const struct hv_ops *hv = hv_find(&run->log, run->hv);
	struct vmctx *ctx;
	int signal_fd, status;

	if (!hv)
		return VM_END_BAD_ARGUMENTS;
	signal_fd = signals_open(&run->log);
	if (signal_fd < 0)
		return VM_END_INTERNAL;
	ctx = vm_create(&run->log, hv, &run->vm);
	status = ctx ? run_vm(run, ctx, signal_fd) : VM_END_BAD_ARGUMENTS;
	vm_destroy(ctx);
	close(signal_fd);
	return status;
}

int cmd_run(int argc, char **argv)
{
	struct run_config *run = calloc(1, sizeof(*run));
	int result;

	if (!run)
		return VM_END_INTERNAL;
	logger_init(&run->log, "tenon");
	run->vm.memory_size = MEMORY_DEFAULT;
	run->vm.cpu_count = 1;
	run->hv = "auto";
	result = parse_command_line(run, argc, argv);
	if (result < 0)
		result = VM_END_BAD_ARGUMENTS;
	else
		result = result ? 0 : launch(run);
	logger_deinit(&run->log);
	free(run);
	return result;
}
