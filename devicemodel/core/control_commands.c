/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What can be asked of a running VM through its control socket: the commands. All of them run on the
 * main loop and return at once.
 */
#include "control_commands.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "pci_core.h"

#define WORDS_MAX 4
#define BLANKS " \t\r"

/**
 * struct control_command
 * @name, @arguments, @help: as help shows them
 * @words: how many arguments there must be
 * @run: 0, or a negative errno with answer->error filled in
 */
struct control_command {
	const char *name;
	const char *arguments;
	const char *help;
	unsigned int words;
	int (*run)(struct vmctx *ctx, char **words, struct control_answer *answer);
};

static void append_line(struct control_answer *answer, char *line)
{
	size_t len = strlen(line);

	if (len + 1 > answer->size - answer->used) {
		answer->overflow = true;
		return;
	}
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	line[len] = '\n';
	memcpy(answer->text + answer->used, line, len + 1);
	answer->used += len + 1;
}

void control_answer_line(struct control_answer *answer, const char *fmt, ...)
{
	char line[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	append_line(answer, line);
}

static int fail(struct control_answer *answer, int error, const char *fmt, ...)
	__format_printf(3, 4);

static int fail(struct control_answer *answer, int error, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(answer->error, sizeof(answer->error), fmt, args);
	va_end(args);
	return error;
}

/* ---- The VM ---- */

static int run_status(struct vmctx *ctx, char **words, struct control_answer *answer)
{
	uint64_t ms = (vm_clock_ns(ctx) - ctx->start_ns) / 1000000;

	control_answer_line(answer, "name %s", ctx->config.name);
	control_answer_line(answer, "state %s", vm_suspended(ctx) ? "suspended" : "running");
	control_answer_line(answer, "uptime %llu.%03u", (unsigned long long)(ms / 1000),
			    (unsigned int)(ms % 1000));
	control_answer_line(answer, "hv %s", ctx->hv->name);
	control_answer_line(answer, "cpus %u", ctx->config.cpu_count);
	control_answer_line(answer, "memory %llu",
			    (unsigned long long)(ctx->config.memory_size / MIB(1)));
	return 0;
}

static int run_power_button(struct vmctx *ctx, char **words, struct control_answer *answer)
{
	vm_power_button(ctx);
	return 0;
}

static int run_reset(struct vmctx *ctx, char **words, struct control_answer *answer)
{
	vm_request(ctx, VM_REQUEST_RESET, 0);
	return 0;
}

static int run_wake(struct vmctx *ctx, char **words, struct control_answer *answer)
{
	if (!vm_suspended(ctx))
		return fail(answer, -EALREADY, "the VM is not suspended");
	vm_request(ctx, VM_REQUEST_WAKE, 0);
	return 0;
}

static int run_kill(struct vmctx *ctx, char **words, struct control_answer *answer)
{
	vm_kill(ctx, "the control socket");
	return 0;
}

/* ---- Devices ---- */

/* The kind of @dev: its name without the place. */
static int kind_length(const struct pci_vdev *dev)
{
	return (int)strcspn(dev->name, "@");
}

static const char *describe_offload(struct pci_vdev *dev)
{
	int offloaded;

	if (!dev->dev_ops->vdev_offloaded)
		return "";
	pthread_mutex_lock(&dev->lock);
	offloaded = dev->dev_ops->vdev_offloaded(dev);
	pthread_mutex_unlock(&dev->lock);
	if (offloaded < 0)
		return "";
	return offloaded ? " vhost=on" : " vhost=off";
}

static int run_devices(struct vmctx *ctx, char **words, struct control_answer *answer)
{
	for (struct pci_vdev *dev = NULL; (dev = pci_next_device(ctx, dev));)
		control_answer_line(answer, "%02x:%02x.%x %.*s%s", dev->bus, dev->slot, dev->func,
				    kind_length(dev), dev->name, describe_offload(dev));
	return 0;
}

/* "3", "00:03.0", "virtio-net" or "virtio-net@00:03.0". */
static bool device_is(const struct pci_vdev *dev, const char *text)
{
	char place[16], slot[8];

	snprintf(place, sizeof(place), "%02x:%02x.%x", dev->bus, dev->slot, dev->func);
	snprintf(slot, sizeof(slot), "%u", dev->slot);
	return !strcmp(text, place) || !strcmp(text, dev->name) ||
	       (!dev->bus && !dev->func && !strcmp(text, slot)) ||
	       (strlen(text) == (size_t)kind_length(dev) &&
		!strncmp(text, dev->name, strlen(text)));
}

static struct pci_vdev *find_device(struct vmctx *ctx, const char *text,
				    struct control_answer *answer)
{
	struct pci_vdev *found = NULL;

	for (struct pci_vdev *dev = NULL; (dev = pci_next_device(ctx, dev));) {
		if (!device_is(dev, text))
			continue;
		if (found) {
			fail(answer, -EINVAL, "%s: there are several, give its place (devices)",
			     text);
			return NULL;
		}
		found = dev;
	}
	if (!found)
		fail(answer, -ENODEV, "%s: no such device (devices lists them)", text);
	return found;
}

/* "on" or "off". */
static int parse_switch(const char *text, bool *on)
{
	*on = !strcmp(text, "on");
	return *on || !strcmp(text, "off") ? 0 : -EINVAL;
}

static int device_offload(struct pci_vdev *dev, bool on)
{
	int error;

	if (!dev->dev_ops->vdev_offload)
		return -EOPNOTSUPP;
	pthread_mutex_lock(&dev->lock);
	error = dev->dev_ops->vdev_offload(dev, on);
	pthread_mutex_unlock(&dev->lock);
	return error;
}

static int run_vhost(struct vmctx *ctx, char **words, struct control_answer *answer)
{
	struct pci_vdev *dev;
	bool on;
	int error;

	if (parse_switch(words[0], &on))
		return fail(answer, -EINVAL, "%s: neither on nor off", words[0]);
	dev = find_device(ctx, words[1], answer);
	if (!dev)
		return -ENODEV;
	if (vm_suspended(ctx))
		return fail(answer, -EBUSY, "the VM is suspended, wake it first");
	error = device_offload(dev, on);
	if (error == -EOPNOTSUPP)
		return fail(answer, error, "%s: cannot be offloaded", dev->name);
	if (error)
		return fail(answer, error, "%s: vhost %s: %s (see tenon's messages)", dev->name,
			    words[0], strerror(-error));
	return 0;
}

/* ---- The table ---- */

static int run_help(struct vmctx *ctx, char **words, struct control_answer *answer);

static const struct control_command commands[] = {
	{ "help", "", "this list", 0, run_help },
	{ "status", "", "name, state (running or suspended), uptime in seconds, hypervisor port", 0,
	  run_status },
	{ "devices", "", "place and kind of each device, and whether the kernel runs its queues", 0,
	  run_devices },
	{ "vhost", "on|off DEVICE",
	  "hand the data plane of a device to the kernel, or take it back", 2, run_vhost },
	{ "power-button", "", "press the power button, as SIGTERM does; twice ends the VM", 0,
	  run_power_button },
	{ "reset", "", "reset the VM", 0, run_reset },
	{ "wake", "", "wake the VM from suspend to RAM", 0, run_wake },
	{ "kill", "", "end the VM at once, as a second SIGTERM does", 0, run_kill },
};

static int run_help(struct vmctx *ctx, char **words, struct control_answer *answer)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		control_answer_line(answer, "%s%s%s: %s", commands[i].name,
				    *commands[i].arguments ? " " : "", commands[i].arguments,
				    commands[i].help);
	return 0;
}

static const struct control_command *find_command(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(name, commands[i].name))
			return &commands[i];
	return NULL;
}

/* The words of @line, or -E2BIG. */
static int split(char *line, char **words)
{
	unsigned int count = 0;
	char *rest = NULL;

	for (char *word = strtok_r(line, BLANKS, &rest); word;
	     word = strtok_r(NULL, BLANKS, &rest)) {
		if (count == WORDS_MAX)
			return -E2BIG;
		words[count++] = word;
	}
	return (int)count;
}

static int execute(struct vmctx *ctx, char *line, struct control_answer *answer)
{
	const struct control_command *command;
	char *words[WORDS_MAX];
	int count = split(line, words);

	if (!count)
		return fail(answer, -EINVAL, "no command (help lists them)");
	if (count < 0)
		return fail(answer, count, "too many words (help lists the commands)");
	command = find_command(words[0]);
	if (!command)
		return fail(answer, -EINVAL, "%.64s: unknown command (help lists them)", words[0]);
	if ((unsigned int)count - 1 != command->words)
		return fail(answer, -EINVAL, "usage: %s%s%s", command->name,
			    *command->arguments ? " " : "", command->arguments);
	return command->run(ctx, words + 1, answer);
}

void control_execute(struct vmctx *ctx, char *line, struct control_answer *answer)
{
	answer->error[0] = '\0';
	if (execute(ctx, line, answer))
		control_answer_line(answer, "error: %s", answer->error);
	else
		control_answer_line(answer, "ok");
}
