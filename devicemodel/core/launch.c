/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Launching the VM that a command line describes, and the signals that end it.
 */
#include "launch.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "iothread.h"
#include "pci_core.h"
#include "thread.h"

struct launch *launch_new(const char *prefix)
{
	struct launch *launch = calloc(1, sizeof(*launch));

	if (!launch)
		return NULL;
	logger_init(&launch->log, prefix);
	launch->vm.cpu_count = 1;
	launch->hv = "auto";
	launch->iothreads = iothreads_create(&launch->log);
	if (launch->iothreads)
		return launch;
	launch_free(launch);
	return NULL;
}

void launch_free(struct launch *launch)
{
	if (!launch)
		return;
	iothreads_destroy(launch->iothreads);
	logger_deinit(&launch->log);
	free(launch);
}

void launch_set_hv(struct launch *launch, const char *spec)
{
	launch->hv = spec;
	launch->vm.hv_options = hv_spec_options(spec);
}

static int add_spec(struct launch *launch, const char *option, const char **specs,
		    unsigned int *count, unsigned int max, const char *spec)
{
	if (*count == max) {
		log_error(&launch->log, "%s %s: %u at most", option, spec, max);
		return -E2BIG;
	}
	specs[(*count)++] = spec;
	return 0;
}

int launch_add_device(struct launch *launch, const char *spec)
{
	return add_spec(launch, "-s", launch->devices, &launch->device_count, LAUNCH_DEVICES_MAX,
			spec);
}

int launch_add_uart(struct launch *launch, const char *spec)
{
	return add_spec(launch, "-l", launch->uarts, &launch->uart_count, PLATFORM_UARTS, spec);
}

int launch_add_iothread(struct launch *launch, const char *spec)
{
	return iothreads_add(launch->iothreads, spec);
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

static int add_devices(struct launch *launch, struct vmctx *ctx)
{
	for (unsigned int i = 0; i < launch->uart_count; i++)
		if (platform_add_uart(ctx, launch->uarts[i]))
			return -EINVAL;
	for (unsigned int i = 0; i < launch->device_count; i++)
		if (!pci_add_device(ctx, launch->devices[i]))
			return -EINVAL;
	return 0;
}

static int run_vm(struct launch *launch, struct vmctx *ctx, int signal_fd)
{
	struct signal_source signals = { .ctx = ctx, .fd = signal_fd };
	struct event_source *source;
	int status;

	ctx->iothreads = launch->iothreads;
	launch->iothreads = NULL;
	if (add_devices(launch, ctx))
		return VM_END_BAD_ARGUMENTS;
	source = event_add_fd(ctx->main_loop, signal_fd, EPOLLIN, NULL, on_signal, &signals);
	if (!source) {
		log_error(&launch->log, "cannot watch signals: %s", strerror(errno));
		return VM_END_INTERNAL;
	}
	status = vm_run(ctx);
	event_remove(source);
	return status;
}

int launch_run(struct launch *launch)
{
	const struct hv_ops *hv = hv_find(&launch->log, launch->hv);
	struct vmctx *ctx;
	int signal_fd, status;

	if (!hv)
		return VM_END_BAD_ARGUMENTS;
	signal_fd = stop_signals_open(&launch->log);
	if (signal_fd < 0)
		return VM_END_INTERNAL;
	ctx = vm_create(&launch->log, hv, &launch->vm);
	status = ctx ? run_vm(launch, ctx, signal_fd) : VM_END_BAD_ARGUMENTS;
	vm_destroy(ctx);
	close(signal_fd);
	return status;
}
