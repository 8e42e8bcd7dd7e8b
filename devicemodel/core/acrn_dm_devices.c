/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * -s and -l of acrn-dm: its devices and their options to those of tenon. Options that acrn-dm does
 * not know go through as they are, so that tenon's can be used too; tenon complains of the others.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "acrn_dm.h"
#include "md5.h"

#define NUMBERS_MAX 3

/*
 * One -s being translated.
 * @spec: as given
 * @device, @out: tenon's device and ",options" for it
 * @path_given, @cache: of virtio-blk
 * @mac_given, @seed: of virtio-net
 * @console_given: of virtio-console
 */
struct slot {
	struct acrn_dm *dm;
	const char *spec;
	const char *device;
	FILE *out;
	unsigned int slot, func;
	bool path_given, mac_given, console_given;
	const char *cache, *seed;
};

/* What becomes of an element of a device's options that has its name, with or without "=value". */
enum action { PASS, RENAME, DROP, IGNORE, REFUSE };

struct rule {
	const char *name;
	enum action action;
	const char *text; /* RENAME: the new name; REFUSE: what to do instead */
};

/*
 * @device: tenon's name; NULL: there is nothing to be made
 * @rules: ends with a NULL name
 * @other: what no rule names; NULL: PASS
 * @end: after all elements
 * @remedy: for a device that tenon does not have
 */
struct device {
	const char *name;
	enum acrn_dm_state state;
	const char *device;
	const struct rule *rules;
	int (*other)(struct slot *slot, char *element);
	int (*end)(struct slot *slot);
	const char *remedy;
};

static struct logger *slot_log(const struct slot *slot)
{
	return &slot->dm->launch->log;
}

/* ---- virtio-blk: "[iothread...,][mq=N,]PATH[,option]..." ---- */

static const struct rule blk_rules[] = {
	{ "mq", RENAME, "queues" },
	{ "nocache", RENAME, "direct" },
	{ "ro", PASS, NULL },
	{ "aio=threads", DROP, NULL },
	{ "aio", IGNORE, NULL },
	{ "iothread", IGNORE, NULL },
	{ "no_bst_block", IGNORE, NULL },
	{ "discard", DROP, NULL }, /* tenon offers it wherever the image can */
	{ "sectorsize", REFUSE, "the guest sees the sector size of the image's device" },
	{ "range", REFUSE, "use a partition or a loop device of that range" },
	{},
};

static int blk_other(struct slot *slot, char *element)
{
	if (!strcmp(element, "writeback") || !strcmp(element, "writethru")) {
		slot->cache = !strcmp(element, "writeback") ? "writeback" : "writethrough";
		return 0;
	}
	if (!strncmp(element, "cache=", 6)) {
		slot->cache = element + 6;
		return 0;
	}
	if (slot->path_given) {
		fprintf(slot->out, ",%s", element);
		return 0;
	}
	if (!strcmp(element, "nodisk"))
		return acrn_dm_not_built(slot->dm, "-s", slot->spec, "a disk that comes later",
					 ACRN_DM_NOT_YET, "name the image");
	slot->path_given = true;
	fprintf(slot->out, ",path=%s", element);
	return 0;
}

static int blk_end(struct slot *slot)
{
	if (!slot->path_given) {
		log_error(slot_log(slot), "-s %s: no disk image (write -s SLOT,virtio-blk,PATH)",
			  slot->spec);
		return -EINVAL;
	}
	/* acrn-dm's default is the safe and slow one. */
	fprintf(slot->out, ",cache=%s", slot->cache ? slot->cache : "writethrough");
	return 0;
}

/* ---- virtio-net: "tap=NAME[,vhost][,mac=MAC|,mac_seed=SEED]", in any order ---- */

#define SEED "mac_seed="

static int net_other(struct slot *slot, char *element)
{
	if (strncmp(element, SEED, strlen(SEED))) {
		slot->mac_given |= !strncmp(element, "mac=", 4);
		fprintf(slot->out, ",%s", element);
		return 0;
	}
	slot->seed = element + strlen(SEED);
	if (*slot->seed)
		return 0;
	log_error(slot_log(slot),
		  "-s %s: the seed is empty, VMs would get the same address (write mac_seed=TEXT)",
		  slot->spec);
	return -EINVAL;
}

/* As acrn-dm does it, so that a VM keeps its addresses: MD5 of the place and the seed. */
static int net_end(struct slot *slot)
{
	uint8_t digest[MD5_SIZE];
	char text[80]; /* acrn-dm cuts it off there, too */

	if (!slot->seed || slot->mac_given)
		return 0;
	snprintf(text, sizeof(text), "%u-%u-%s", slot->slot, slot->func, slot->seed);
	md5(text, strlen(text), digest);
	fprintf(slot->out, ",mac=00:16:3e:%02x:%02x:%02x", digest[0], digest[1], digest[2]);
	return 0;
}

/* ---- virtio-console: "[@]BACKEND:NAME[=PATH][:server|:client],..." ---- */

enum console_path { PATH_UNUSED, PATH_REQUIRED, PATH_SOCKET };

static const struct {
	const char *name;
	enum console_path path;
} console_backends[] = {
	{ "stdio", PATH_UNUSED },  { "pty", PATH_UNUSED },    { "tty", PATH_REQUIRED },
	{ "file", PATH_REQUIRED }, { "socket", PATH_SOCKET },
};

static int console_error(const struct slot *slot, const char *element, const char *what)
{
	log_error(slot_log(slot),
		  "-s %s: %s %s (write [@]stdio|pty|tty|file|socket:NAME[=PATH][:server|:client])",
		  slot->spec, element, what);
	return -EINVAL;
}

/* The backend as tenon names it; a socket without ":client" is a server, as in acrn-dm. */
static int console_backend(struct slot *slot, const char *element, enum console_path kind,
			   const char *backend, const char *path)
{
	size_t len = path ? strcspn(path, kind == PATH_SOCKET ? ":" : "") : 0;
	const char *role = len && path[len] ? path + len + 1 : "server";

	if (kind == PATH_UNUSED) {
		fputs(backend, slot->out);
		return 0;
	}
	if (!len)
		return console_error(slot, element, "has no path");
	if (strcmp(role, "server") && strcmp(role, "client"))
		return console_error(slot, element, "is neither server nor client");
	fprintf(slot->out, "%s:%.*s", backend, (int)len, path);
	if (kind == PATH_SOCKET && !strcmp(role, "server"))
		fputs(":server", slot->out);
	return 0;
}

static int console_other(struct slot *slot, char *element)
{
	bool console = element[0] == '@';
	char *backend = element + console;
	char *name = strchr(backend, ':');
	char *path = name ? strchr(name, '=') : NULL;
	size_t len = strcspn(backend, ":");

	if (element[strcspn(element, ":=")] == '=') { /* an option of tenon's */
		fprintf(slot->out, ",%s", element);
		return 0;
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(console_backends); i++) {
		if (strlen(console_backends[i].name) != len ||
		    strncasecmp(backend, console_backends[i].name, len))
			continue;
		if (!name || !name[1] || path == name + 1)
			return console_error(slot, element, "names no port");
		if (console && slot->console_given)
			return console_error(slot, element,
					     "is a second console port, tenon has one");
		slot->console_given |= console;
		if (console)
			fputs(",backend=", slot->out);
		else
			fprintf(slot->out, ",port=%.*s:",
				(int)(path ? path - name - 1 : (int)strlen(name) - 1), name + 1);
		return console_backend(slot, element, console_backends[i].path,
				       console_backends[i].name, path ? path + 1 : NULL);
	}
	return console_error(slot, element, "is no back end");
}

/* ---- virtio-rnd: "[kernel=on]", which is VBS-K ---- */

static int random_other(struct slot *slot, char *element)
{
	if (!strcmp(element, "kernel=on")) {
		slot->device = "virtio-rng-kernel";
		fputs(",device=/dev/vbs_rng", slot->out);
	} else {
		fprintf(slot->out, ",%s", element);
	}
	return 0;
}

/* ---- the table ---- */

#define LACKS(what, state_, remedy_)                                                               \
	{                                                                                          \
		.name = what, .state = state_, .remedy = remedy_                                   \
	}
#define NOT_YET(what, remedy) LACKS(what, ACRN_DM_NOT_YET, remedy)
#define NOT_PLANNED(what) LACKS(what, ACRN_DM_NOT_PLANNED, "leave it out")

/* clang-format off */
static const struct device devices[] = {
	{ .name = "hostbridge", .state = ACRN_DM_WORKS },
	{ .name = "amd_hostbridge", .state = ACRN_DM_WORKS },
	{ .name = "lpc", .state = ACRN_DM_WORKS },
	{ "virtio-blk", ACRN_DM_WORKS, "virtio-blk", blk_rules, .other = blk_other, .end = blk_end },
	{ "virtio-net", ACRN_DM_WORKS, "virtio-net", .other = net_other, .end = net_end },
	{ "virtio-console", ACRN_DM_WORKS, "virtio-console", .other = console_other },
	{ "virtio-rnd", ACRN_DM_WORKS, "virtio-rng", .other = random_other },
	{ "vhost-vsock", ACRN_DM_WORKS, .device = "virtio-vsock" },
	{ .name = "npk", .state = ACRN_DM_IGNORED },
	{ .name = "virtio-coreu", .state = ACRN_DM_IGNORED },
	{ .name = "virtio-hdcp", .state = ACRN_DM_IGNORED },
	{ .name = "pci-gvt", .state = ACRN_DM_IGNORED },
	NOT_YET("igd-lpc", "it is for the passthrough of a graphics device"),
	NOT_YET("uart", "use -l com1,... or virtio-console"),
	NOT_YET("ivshmem", "leave it out"),
	NOT_YET("ahci", "use virtio-blk"),
	NOT_YET("ahci-hd", "use virtio-blk"),
	NOT_YET("ahci-cd", "use virtio-blk with ,ro"),
	NOT_YET("xhci", "leave it out"),
	NOT_YET("wdt-i6300esb", "leave it out"),
	NOT_YET("passthru", "leave it out"),
	NOT_YET("virtio-input", "leave it out"),
	NOT_YET("virtio-gpu", "leave it out"),
	NOT_YET("virtio-gpio", "leave it out"),
	NOT_YET("virtio-i2c", "leave it out"),
	NOT_YET("virtio-rpmb", "leave it out"),
	NOT_PLANNED("virtio-heci"),
	NOT_PLANNED("virtio-audio"),
	NOT_PLANNED("virtio-ipu"),
	NOT_PLANNED("virtio-hyper_dmabuf"),
	NOT_PLANNED("dummy"),
};
/* clang-format on */

void acrn_dm_devices_help(void *out_file)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(devices); i++)
		fprintf(out_file, "  %-20s %s\n", devices[i].name,
			acrn_dm_state_name(devices[i].state));
}

static const struct device *device_find(const char *name)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(devices); i++)
		if (!strcmp(devices[i].name, name))
			return &devices[i];
	return NULL;
}

/* ---- translation ---- */

static const struct rule *rule_find(const struct rule *rule, const char *element)
{
	for (; rule && rule->name; rule++) {
		size_t len = strlen(rule->name);

		if (!strncmp(element, rule->name, len) && (!element[len] || element[len] == '='))
			return rule;
	}
	return NULL;
}

static int rule_apply(struct slot *slot, const struct rule *rule, const char *element)
{
	char what[64];

	switch (rule->action) {
	case PASS:
		fprintf(slot->out, ",%s", element);
		return 0;
	case RENAME:
		fprintf(slot->out, ",%s%s", rule->text, element + strlen(rule->name));
		return 0;
	case IGNORE:
		snprintf(what, sizeof(what), "%s of -s %s", rule->name, slot->spec);
		acrn_dm_ignore(slot->dm, what);
		return 0;
	case REFUSE:
		return acrn_dm_not_built(slot->dm, "-s", slot->spec, rule->name, ACRN_DM_NOT_YET,
					 rule->text);
	case DROP:
		return 0;
	}
	return -EINVAL;
}

static int translate_elements(struct slot *slot, const struct device *device, char *elements)
{
	char *element;
	int error = 0;

	while (!error && (element = strsep(&elements, ","))) {
		const struct rule *rule = rule_find(device->rules, element);

		if (!*element)
			continue;
		if (rule)
			error = rule_apply(slot, rule, element);
		else if (device->other)
			error = device->other(slot, element);
		else
			fprintf(slot->out, ",%s", element);
	}
	return !error && device->end ? device->end(slot) : error;
}

/* "[bus:]slot[:func]": how many numbers there are, 0 if it is no place. */
static unsigned int place_parse(const char *text, unsigned int numbers[NUMBERS_MAX])
{
	unsigned int count = 0;
	int end = 0;

	while (count < NUMBERS_MAX && *text >= '0' && *text <= '9' &&
	       sscanf(text, "%3u%n", &numbers[count], &end) == 1) {
		count++;
		text += end;
		if (!*text)
			return count;
		if (*text++ != ':')
			return 0;
	}
	return 0;
}

static int slot_parse_place(struct slot *slot, const char *text)
{
	unsigned int numbers[NUMBERS_MAX];
	unsigned int count = place_parse(text, numbers);

	if (!count) {
		log_error(slot_log(slot),
			  "-s %s: \"%s\" is no slot (write -s [BUS:]SLOT[:FUNC],"
			  "DEVICE[,CONFIG])",
			  slot->spec, text);
		return -EINVAL;
	}
	slot->slot = numbers[count == 3];
	slot->func = count > 1 ? numbers[count - 1] : 0;
	if (slot->slot > 31 || slot->func > 7 || (count == 3 && numbers[0])) {
		log_error(slot_log(slot),
			  "-s %s: there is no place %s (bus 0, slot 0 to 31, function 0 to 7)",
			  slot->spec, text);
		return -EINVAL;
	}
	return 0;
}

/* "slot:func,device,options" for tenon. */
static int slot_finish(struct slot *slot, const char *options)
{
	char *text;
	int error;

	if (asprintf(&text, "%u:%u,%s%s%s", slot->slot, slot->func, slot->device, options,
		     slot->dm->virtio_msi ? ",msix=off" : "") < 0) {
		log_error(slot_log(slot), "-s %s: out of memory", slot->spec);
		return -ENOMEM;
	}
	error = acrn_dm_keep(slot->dm, text);
	return error ? error : launch_add_device(slot->dm->launch, text);
}

/* @elements may be NULL. */
static int slot_translate(struct slot *slot, const struct device *device, char *elements)
{
	char *options = NULL;
	size_t size;
	int error;

	if (!device->device) /* what every VM of tenon's has */
		return 0;
	slot->device = device->device;
	slot->out = open_memstream(&options, &size);
	if (!slot->out) {
		log_error(slot_log(slot), "-s %s: out of memory", slot->spec);
		return -ENOMEM;
	}
	error = translate_elements(slot, device, elements);
	if ((fclose(slot->out) || !options) && !error) {
		log_error(slot_log(slot), "-s %s: out of memory", slot->spec);
		error = -ENOMEM;
	}
	if (!error)
		error = slot_finish(slot, options);
	free(options);
	return error;
}

static int slot_add(struct slot *slot, char *rest)
{
	const char *place = strsep(&rest, ",");
	const char *name = strsep(&rest, ",");
	const struct device *device;
	char what[64];

	if (slot_parse_place(slot, place))
		return -EINVAL;
	device = name ? device_find(name) : NULL;
	if (!device) {
		log_error(slot_log(slot), "-s %s: acrn-dm has no device %s (acrn-dm --help)",
			  slot->spec, name ? name : "without a name");
		return -ENODEV;
	}
	if (device->state == ACRN_DM_NOT_YET || device->state == ACRN_DM_NOT_PLANNED)
		return acrn_dm_not_built(slot->dm, "-s", slot->spec, name, device->state,
					 device->remedy);
	if (device->state == ACRN_DM_IGNORED) {
		snprintf(what, sizeof(what), "-s %s", name);
		acrn_dm_ignore(slot->dm, what);
		return 0;
	}
	/* "b": boot from it. A kernel is given with -k, so there is nothing to choose. */
	if (rest && rest[0] == 'b' && (!rest[1] || rest[1] == ','))
		strsep(&rest, ",");
	return slot_translate(slot, device, rest);
}

int acrn_dm_add_slot(struct acrn_dm *dm, const char *spec)
{
	struct slot slot = { .dm = dm, .spec = spec };
	char *copy = strdup(spec);
	int error;

	if (!copy) {
		log_error(&dm->launch->log, "-s %s: out of memory", spec);
		return -ENOMEM;
	}
	error = slot_add(&slot, copy);
	free(copy);
	return error;
}

/* ---- -l "comN,BACKEND": stdio, a terminal's path, or a back end of tenon's ---- */

int acrn_dm_add_lpc(struct acrn_dm *dm, const char *spec)
{
	size_t len = strcspn(spec, ",");
	const char *backend = spec[len] ? spec + len + 1 : "";
	char *text;
	int error;

	if (len == 4 && !strncmp(spec, "com5", len))
		return acrn_dm_not_built(dm, "-l", spec, "com5", ACRN_DM_NOT_YET,
					 "the VM is shut down by its power button");
	if (!strncmp(backend, "tcp:", 4))
		return acrn_dm_not_built(dm, "-l", spec, "tcp", ACRN_DM_NOT_YET,
					 "use socket:PATH:server");
	if (asprintf(&text, "%.*s,%s%s", (int)len, spec, backend[0] == '/' ? "tty:" : "", backend) <
	    0) {
		log_error(&dm->launch->log, "-l %s: out of memory", spec);
		return -ENOMEM;
	}
	error = acrn_dm_keep(dm, text);
	return error ? error : launch_add_uart(dm->launch, text);
}
