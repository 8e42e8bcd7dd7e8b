/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tenon serve: virtio devices for somebody else's VMM, over vhost-user.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "bus_error.h"
#include "command_line.h"
#include "commands.h"
#include "dm.h"
#include "iothread.h"
#include "plugins.h"
#include "thread.h"
#include "vhost_user_backend.h"
#include "virtio_transport.h"

#define DEVICES_MAX 64
#define NAME_SIZE 48
#define PREFIX "virtio-"

enum {
	OPT_SOCKET = LONG_ONLY,
	OPT_FD,
	OPT_IOTHREAD,
	OPT_PLUGIN,
	OPT_LOG,
	OPT_TYPE,
	OPT_BLK_FILE,
	OPT_READ_ONLY,
	OPT_CAPABILITIES,
};

static const struct option long_options[] = {
	{ "device", required_argument, NULL, 's' },
	{ "socket", required_argument, NULL, OPT_SOCKET },
	{ "socket-path", required_argument, NULL, OPT_SOCKET },
	{ "fd", required_argument, NULL, OPT_FD },
	{ "iothread", required_argument, NULL, OPT_IOTHREAD },
	{ "plugin", required_argument, NULL, OPT_PLUGIN },
	{ "log", required_argument, NULL, OPT_LOG },
	{ "type", required_argument, NULL, OPT_TYPE },
	{ "blk-file", required_argument, NULL, OPT_BLK_FILE },
	{ "read-only", no_argument, NULL, OPT_READ_ONLY },
	{ "print-capabilities", no_argument, NULL, OPT_CAPABILITIES },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

static const char serve_help[] =
	"usage: tenon serve [options] -s DEVICE[,OPTIONS] --socket PATH|--fd N [-s ...]\n"
	"\n"
	"Serve virtio devices over vhost-user to other VMMs (QEMU, Cloud Hypervisor, crosvm ...), "
	"until\n"
	"SIGTERM or SIGINT. A front end may leave and come back. Status: 0 ended, 1 internal "
	"failure,\n"
	"2 bad arguments.\n"
	"\n"
	"      --fd N               serve the device before it on an inherited socket: one that "
	"listens,\n"
	"                           or one that is connected, and then end when the front end "
	"does\n"
	"  -h, --help               this text\n"
	"      --iothread NAME[,cpus=LIST]\n"
	"                           a thread for devices with iothread=NAME; may be repeated\n"
	"      --log LEVEL          error, warning, info, debug (default info)\n"
	"      --plugin FILE.so     devices from a shared object; may be repeated\n"
	"      --print-capabilities print what the device can, as QEMU's vhost-user.json has it\n"
	"  -s, --device DEVICE[,OPTIONS]\n"
	"                           a device; -s help lists them, -s DEVICE,help its options\n"
	"      --socket PATH        serve the device before it at this Unix socket (--socket-path "
	"too)\n"
	"  -v                       one log level more; may be repeated\n"
	"\n"
	"For programs that know \"vhost-user-TYPE\" back ends, instead of -s:\n"
	"      --type DEVICE        the device (default by the name of the program: "
	"vhost-user-blk)\n"
	"      --blk-file PATH      disk image or block device of virtio-blk\n"
	"      --read-only          it cannot be written\n";

/**
 * struct served - a device of the command line.
 * @spec: as in -s; NULL: only its socket was given
 * @path, @fd: where; NULL and -1: not given yet
 */
struct served {
	const char *spec;
	const char *path;
	int fd;
	char name[NAME_SIZE];
	struct vhost_user_device *device;
};

/**
 * struct serve - the command line, and what runs.
 * @type, @blk_file, @read_only: of the conventions for back end programs
 * @spec: made of those
 * @connected: devices that are still served on a connected socket, or on one that listens
 */
struct serve {
	struct logger log;
	struct served devices[DEVICES_MAX];
	unsigned int count;
	const char *type;
	const char *blk_file;
	bool read_only;
	bool capabilities;
	char *spec;
	struct iothreads *iothreads;
	struct event_loop *loop;
	unsigned int connected;
	int signal_fd;
};

/* ---- Kinds of devices ---- */

static const struct virtio_ops *kind_get(struct serve *serve, const char *spec)
{
	const struct virtio_ops *ops = virtio_device_find(spec);

	if (!ops)
		log_error(&serve->log,
			  "no virtio device is called %.*s (tenon serve -s help lists them)",
			  (int)strcspn(spec, ","), spec);
	return ops;
}

/* -s help and -s DEVICE,help; true if it was one of them. */
static bool device_help(const char *spec)
{
	const char *comma = strchr(spec, ',');
	const struct virtio_ops *ops;

	if (!strcmp(spec, "help")) {
		for (unsigned int i = 0; (ops = virtio_device_get(i)); i++)
			printf("%-14s %s\n", ops->name, ops->summary);
		return true;
	}
	ops = comma && !strcmp(comma, ",help") ? virtio_device_find(spec) : NULL;
	if (!ops)
		return false;
	printf("%s: %s\n", ops->name, ops->summary);
	if (ops->options)
		options_help(stdout, ops->options);
	options_help(stdout, virtio_common_options);
	return true;
}

/* ---- What QEMU's interop/vhost-user.json says of back end programs ---- */

/* Its names for kinds of devices, and the features that it knows of them. */
static const struct {
	uint16_t device_id;
	const char *type, *features;
} json_types[] = {
	{ VIRTIO_ID_NET, "net", "" },
	{ VIRTIO_ID_BLOCK, "block", "\"read-only\", \"blk-file\"" },
	{ VIRTIO_ID_CONSOLE, "console", "" },
	{ VIRTIO_ID_RNG, "rng", "" },
	{ VIRTIO_ID_BALLOON, "balloon", "" },
	{ VIRTIO_ID_SCSI, "scsi", "" },
	{ VIRTIO_ID_9P, "9p", "" },
	{ VIRTIO_ID_GPU, "gpu", "" },
	{ VIRTIO_ID_INPUT, "input", "" },
	{ VIRTIO_ID_VSOCK, "vsock", "" },
	{ VIRTIO_ID_CRYPTO, "crypto", "" },
	{ VIRTIO_ID_FS, "fs", "" },
};

static void print_capabilities(const struct virtio_ops *ops)
{
	const char *type = ops->name + strlen(PREFIX), *features = "";

	for (unsigned int i = 0; i < ARRAY_SIZE(json_types); i++) {
		if (json_types[i].device_id != ops->device_id)
			continue;
		type = json_types[i].type;
		features = json_types[i].features;
	}
	printf("{\n  \"type\": \"%s\",\n  \"features\": [%s%s%s]\n}\n", type,
	       features[0] ? " " : "", features, features[0] ? " " : "");
}

/* "DEVICE,path=FILE,ro"; a comma in the file's name is written twice. NULL: no memory. */
static char *spec_make(const struct serve *serve)
{
	const char *file = serve->blk_file ? serve->blk_file : "";
	char *spec = malloc(strlen(serve->type) + 2 * strlen(file) + sizeof(",path=,ro"));
	char *end = spec;

	if (!spec)
		return NULL;
	end += sprintf(end, "%s%s", serve->type, serve->blk_file ? ",path=" : "");
	for (; *file; file++) {
		*end++ = *file;
		if (*file == ',')
			*end++ = ',';
	}
	strcpy(end, serve->read_only ? ",ro" : "");
	return spec;
}

/* ---- The command line ---- */

static struct served *served_add(struct serve *serve)
{
	struct served *served = &serve->devices[serve->count];

	if (serve->count == DEVICES_MAX) {
		log_error(&serve->log, "%u devices at most", DEVICES_MAX);
		return NULL;
	}
	serve->count++;
	*served = (struct served) { .fd = -1 };
	return served;
}

static bool has_socket(const struct served *served)
{
	return served->path || served->fd >= 0;
}

/* A socket may come before the only device, as programs that start others have it. */
static int add_device(struct serve *serve, const char *spec)
{
	struct served *served = serve->count ? &serve->devices[serve->count - 1] : NULL;

	if (served && served->spec && !has_socket(served)) {
		log_error(&serve->log, "-s %s: where? give --socket PATH or --fd N behind it",
			  served->spec);
		return -EINVAL;
	}
	if (!served || served->spec)
		served = served_add(serve);
	if (!served)
		return -E2BIG;
	served->spec = spec;
	return 0;
}

static int add_socket(struct serve *serve, const char *path, int fd)
{
	struct served *served = serve->count ? &serve->devices[serve->count - 1] : NULL;

	if (!served)
		served = served_add(serve);
	if (has_socket(served)) {
		log_error(&serve->log,
			  "%s %s: one socket a device (give -s DEVICE before each of them)",
			  path ? "--socket" : "--fd", path ? path : "");
		return -EINVAL;
	}
	served->path = path;
	served->fd = fd;
	return 0;
}

static int add_fd(struct serve *serve, const char *text)
{
	uint64_t fd;

	if (!option_parse_uint(text, &fd) && fd >= 3 && fd <= INT_MAX)
		return add_socket(serve, NULL, (int)fd);
	log_error(&serve->log, "--fd %s: not the number of an inherited descriptor, from 3 on",
		  text);
	return -EINVAL;
}

/* "blk" and "virtio-blk" are the same. */
static int set_type(struct serve *serve, const char *type)
{
	const struct virtio_ops *ops = virtio_device_find(type);
	char name[NAME_SIZE];

	snprintf(name, sizeof(name), "%s%s", PREFIX, type);
	if (!ops)
		ops = virtio_device_find(name);
	if (!ops) {
		log_error(&serve->log,
			  "--type %s: no virtio device is called so (tenon serve -s help)", type);
		return -EINVAL;
	}
	serve->type = ops->name;
	return 0;
}

static int parse_option(struct serve *serve, int option, const char *arg)
{
	switch (option) {
	case 's':
		return add_device(serve, arg);
	case OPT_SOCKET:
		return add_socket(serve, arg, -1);
	case OPT_FD:
		return add_fd(serve, arg);
	case OPT_IOTHREAD:
		return iothreads_add(serve->iothreads, arg);
	case OPT_PLUGIN:
		return virtio_plugin_load(&serve->log, arg);
	case OPT_LOG:
		return command_set_log_level(&serve->log, arg);
	case OPT_TYPE:
		return set_type(serve, arg);
	case OPT_BLK_FILE:
		serve->blk_file = arg;
		return 0;
	case OPT_READ_ONLY:
		serve->read_only = true;
		return 0;
	case OPT_CAPABILITIES:
		serve->capabilities = true;
		return 0;
	case 'v':
		command_more_log(&serve->log);
		return 0;
	}
	return -EINVAL;
}

/* The device that --type, or the program's name, stands for, where no -s gives one. */
static int implied_device(struct serve *serve)
{
	bool wanted = serve->type && (!serve->count || !serve->devices[0].spec);

	if ((serve->blk_file || serve->read_only) && !wanted) {
		log_error(&serve->log, "--blk-file and --read-only belong to --type, not to -s");
		return -EINVAL;
	}
	if (!wanted)
		return 0;
	serve->spec = spec_make(serve);
	return serve->spec ? add_device(serve, serve->spec) : -ENOMEM;
}

static int check_devices(struct serve *serve)
{
	for (unsigned int i = 0; i < serve->count; i++) {
		const struct served *served = &serve->devices[i];

		if (served->spec && has_socket(served))
			continue;
		log_error(&serve->log,
			  "%s: each device needs -s DEVICE and --socket PATH or --fd N",
			  served->spec ? served->spec : "serve");
		return -EINVAL;
	}
	if (serve->count)
		return 0;
	log_error(&serve->log, "no device given: tenon serve -s DEVICE --socket PATH");
	return -EINVAL;
}

/* 0: go on; 1: that was all; -errno after one line. */
static int end_command_line(struct serve *serve)
{
	const struct virtio_ops *ops;
	int error = implied_device(serve);

	if (error)
		return error;
	for (unsigned int i = 0; i < serve->count; i++)
		if (serve->devices[i].spec && device_help(serve->devices[i].spec))
			return 1;
	if (!serve->capabilities)
		return check_devices(serve);
	if (!serve->count || !serve->devices[0].spec) {
		log_error(&serve->log, "--print-capabilities: of what? give -s DEVICE or --type");
		return -EINVAL;
	}
	ops = kind_get(serve, serve->devices[0].spec);
	if (!ops)
		return -EINVAL;
	print_capabilities(ops);
	return 1;
}

static int parse_command_line(struct serve *serve, int argc, char **argv)
{
	int option;

	optind = 0;
	opterr = 0;
	while ((option = getopt_long(argc, argv, ":s:vh", long_options, NULL)) != -1) {
		int error;

		if (option == 'h') {
			fputs(serve_help, stdout);
			return 1;
		}
		error = option == '?' || option == ':'
				? command_bad_option(&serve->log, "tenon serve", option, argv)
				: parse_option(serve, option, optarg);
		if (error)
			return error;
	}
	if (optind == argc)
		return end_command_line(serve);
	log_error(&serve->log, "%s: not an option (tenon serve --help)", argv[optind]);
	return -EINVAL;
}

/* ---- Running ---- */

static void on_signal(void *arg, uint32_t events)
{
	struct serve *serve = arg;
	struct signalfd_siginfo info;

	while (read(serve->signal_fd, &info, sizeof(info)) == sizeof(info))
		event_loop_stop(serve->loop);
}

static int signals_open(struct serve *serve)
{
	serve->signal_fd = stop_signals_open(&serve->log);
	if (serve->signal_fd < 0)
		return serve->signal_fd;
	if (event_add_fd(serve->loop, serve->signal_fd, EPOLLIN, NULL, on_signal, serve))
		return 0;
	log_error(&serve->log, "cannot wait for signals: %s", strerror(errno));
	return -errno;
}

/* A connected socket has served its time; a device's thread. */
static void on_ended(void *arg)
{
	struct serve *serve = arg;

	if (!__atomic_sub_fetch(&serve->connected, 1, __ATOMIC_RELAXED))
		event_loop_stop(serve->loop);
}

static int device_start(struct serve *serve, struct served *served, unsigned int index)
{
	const struct virtio_ops *kind = kind_get(serve, served->spec);
	const char *comma = strchr(served->spec, ',');
	struct vhost_user_device_config config = {
		.kind = kind,
		.options = comma ? comma + 1 : NULL,
		.name = served->name,
		.path = served->path,
		.fd = served->fd,
		.loop = serve->loop,
		.iothreads = serve->iothreads,
		.ended = on_ended,
		.arg = serve,
	};

	if (!kind)
		return -EINVAL;
	if (serve->count == 1)
		snprintf(served->name, sizeof(served->name), "%s", kind->name);
	else
		snprintf(served->name, sizeof(served->name), "%s:%u", kind->name, index + 1);
	served->device = vhost_user_device_create(&serve->log, &config);
	return served->device ? 0 : -errno;
}

static int devices_start(struct serve *serve)
{
	int error = 0;

	serve->connected = serve->count;
	for (unsigned int i = 0; !error && i < serve->count; i++)
		error = device_start(serve, &serve->devices[i], i);
	return error ? error : iothreads_start(serve->iothreads);
}

/* Everything is stopped before anything is freed: the threads may be shared. */
static void devices_end(struct serve *serve)
{
	for (unsigned int i = 0; i < serve->count; i++)
		if (serve->devices[i].device)
			vhost_user_device_stop(serve->devices[i].device);
	iothreads_stop(serve->iothreads);
	for (unsigned int i = 0; i < serve->count; i++)
		vhost_user_device_destroy(serve->devices[i].device);
}

static int run(struct serve *serve)
{
	int status = VM_END_INTERNAL;

	/* Front ends own the files that we map. */
	if (bus_error_survive() || signals_open(serve))
		return status;
	status = devices_start(serve) ? VM_END_BAD_ARGUMENTS : VM_END_POWEROFF;
	if (!status)
		event_loop_run(serve->loop);
	devices_end(serve);
	return status;
}

static int serve_prepare(struct serve *serve)
{
	serve->signal_fd = -1;
	serve->iothreads = iothreads_create(&serve->log);
	serve->loop = event_loop_create("tenon");
	if (serve->iothreads && serve->loop)
		return 0;
	log_error(&serve->log, "serve: cannot make its threads: %s", strerror(errno));
	return -ENOMEM;
}

static void serve_end(struct serve *serve)
{
	iothreads_destroy(serve->iothreads);
	event_loop_destroy(serve->loop);
	if (serve->signal_fd >= 0)
		close(serve->signal_fd);
	free(serve->spec);
	logger_deinit(&serve->log);
	free(serve);
}

int cmd_serve_as(const char *device, int argc, char **argv)
{
	struct serve *serve = calloc(1, sizeof(*serve));
	int result;

	if (!serve)
		return VM_END_INTERNAL;
	logger_init(&serve->log, "tenon");
	result = serve_prepare(serve);
	if (!result && device)
		result = set_type(serve, device);
	if (!result)
		result = parse_command_line(serve, argc, argv);
	if (result < 0)
		result = VM_END_BAD_ARGUMENTS;
	else
		result = result ? 0 : run(serve);
	serve_end(serve);
	return result;
}

int cmd_serve(int argc, char **argv)
{
	return cmd_serve_as(NULL, argc, argv);
}
