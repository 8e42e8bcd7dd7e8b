/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The command: which subcommand is wanted.
 */
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "dm.h"
#include "pci_core.h"

static int cmd_help(int argc, char **argv)
{
	fputs("usage: tenon run [options] NAME   launch a User VM (tenon run --help)\n"
	      "       tenon devices              list the devices for -s\n"
	      "       tenon devices NAME         the options of one device\n"
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

static int cmd_devices(int argc, char **argv)
{
	if (argc < 2) {
		pci_devices_help(stdout);
		return 0;
	}
	if (pci_device_help(argv[1], stdout))
		return 0;
	fprintf(stderr, "tenon: error: no device is called %s (tenon devices lists them)\n",
		argv[1]);
	return VM_END_BAD_ARGUMENTS;
}

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} commands[] = {
	{ "run", cmd_run },	      { "devices", cmd_devices }, { "version", cmd_version },
	{ "--version", cmd_version }, { "help", cmd_help },	  { "--help", cmd_help },
	{ "-h", cmd_help },
};

int main(int argc, char **argv)
{
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
