/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The command: by which name it was called, and which subcommand is wanted.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "dm.h"
#include "pci_core.h"
#include "plugins.h"

static int cmd_help(int argc, char **argv)
{
	fputs("usage: tenon run [options] NAME   launch a User VM (tenon run --help)\n"
	      "       tenon devices              list the devices for -s\n"
	      "       tenon devices NAME         the options of one device\n"
	      "       tenon devices --plugin FILE.so [NAME]   with those of a plugin\n"
	      "       tenon check-device DEVICE  try a device (tenon check-device --help)\n"
	      "       tenon serve -s DEVICE --socket PATH   serve a device over vhost-user (tenon "
	      "serve "
	      "--help)\n"
	      "       tenon control PATH COMMAND ask a running VM (tenon control --help)\n"
	      "       tenon version\n"
	      "       tenon help\n",
	      stdout);
	return 0;
}

static int cmd_version(int argc, char **argv)
{
	puts("tenon " TENON_VERSION);
	return 0;
}

/* The plugins of the command line; what is behind them is at @argv[result], or a negative errno. */
static int load_plugins(int argc, char **argv)
{
	struct logger log;
	int i, error = 0;

	logger_init(&log, "tenon");
	for (i = 1; !error && i + 1 < argc && !strcmp(argv[i], "--plugin"); i += 2)
		error = virtio_plugin_load(&log, argv[i + 1]);
	logger_deinit(&log);
	return error ? error : i;
}

static int cmd_devices(int argc, char **argv)
{
	int next = load_plugins(argc, argv);

	if (next < 0)
		return VM_END_BAD_ARGUMENTS;
	if (next == argc) {
		pci_devices_help(stdout);
		return 0;
	}
	if (pci_device_help(argv[next], stdout))
		return 0;
	fprintf(stderr, "tenon: error: no device is called %s (tenon devices lists them)\n",
		argv[next]);
	return VM_END_BAD_ARGUMENTS;
}

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} commands[] = {
	{ "run", cmd_run },	      { "devices", cmd_devices }, { "check-device", cmd_check },
	{ "control", cmd_control },   { "serve", cmd_serve },	  { "version", cmd_version },
	{ "--version", cmd_version }, { "help", cmd_help },	  { "--help", cmd_help },
	{ "-h", cmd_help },
};

/* By any path: /usr/bin/acrn-dm is a link to tenon. */
static const char *called_name(const char *path)
{
	const char *slash = path ? strrchr(path, '/') : NULL;

	return slash ? slash + 1 : path ? path : "";
}

/* So are /usr/libexec/tenon/vhost-user-blk and the like, as QEMU's conventions name back ends. */
#define VHOST_USER_NAME "vhost-user-"

/* What is opened later must not become standard input, output or error by chance. */
static void open_standard_files(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			return;
}

int main(int argc, char **argv)
{
	const char *name = called_name(argc ? argv[0] : NULL);

	open_standard_files();
	if (!strcmp(name, "acrn-dm"))
		return cmd_acrn_dm(argc, argv);
	if (!strncmp(name, VHOST_USER_NAME, strlen(VHOST_USER_NAME)))
		return cmd_serve_as(name + strlen(VHOST_USER_NAME), argc, argv);
	for (unsigned int i = 0; argc > 1 && i < ARRAY_SIZE(commands); i++)
		if (!strcmp(argv[1], commands[i].name))
			return commands[i].run(argc - 1, argv + 1);
	if (argc > 1)
		fprintf(stderr, "tenon: error: unknown command %s (tenon help lists them)\n",
			argv[1]);
	else
		fputs("tenon: error: no command given (tenon help lists them)\n", stderr);
	return VM_END_BAD_ARGUMENTS;
}
