/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One virtual machine: made, run, reset and ended.
 */
#include "dm.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "arch.h"
#include "clock.h"
#include "control.h"
#include "eventfd.h"
#include "iothread.h"
#include "pci_core.h"
#include "platform.h"
#include "vm.h"

#define POWER_OFF_PATIENCE_NS UINT64_C(30000000000)
#define PRESS_AGAIN_NS UINT64_C(3000000000)
#define LINES 64

uint64_t vm_clock_ns(const struct vmctx *ctx)
{
	if (ctx->clock)
		return event_clock_now(ctx->clock);
	return clock_ns();
}

void vm_wall_clock(const struct vmctx *ctx, struct timespec *now)
{
	uint64_t ns;

	if (!ctx->clock) {
		clock_gettime(CLOCK_REALTIME, now);
		return;
	}
	ns = event_clock_now(ctx->clock);
	now->tv_sec = ctx->clock_start + (time_t)(ns / 1000000000);
	now->tv_nsec = (long)(ns % 1000000000);
}

void vm_io(struct vmctx *ctx, struct io_request *request)
{
	struct io_space *space = request->type == IO_PIO ? &ctx->pio : &ctx->mmio;

	if (request->write)
		io_space_write(space, request->addr, request->size, request->value);
	else
		io_space_read(space, request->addr, request->size, &request->value);
}

/* How much is asked for: a VM that ends or begins anew need not go to sleep, or wake, before. */
static unsigned int request_weight(enum vm_request request)
{
	switch (request) {
	case VM_REQUEST_NONE:
		return 0;
	case VM_REQUEST_SUSPEND:
	case VM_REQUEST_WAKE:
		return 1;
	default:
		return 2;
	case VM_REQUEST_INTERNAL:
		return 3;
	}
}

void vm_request(struct vmctx *ctx, enum vm_request request, unsigned int value)
{
	pthread_mutex_lock(&ctx->request_lock);
	if (request_weight(request) > request_weight(ctx->request)) {
		ctx->request = request;
		ctx->request_value = value;
	}
	pthread_mutex_unlock(&ctx->request_lock);
	eventfd_signal(ctx->request_fd);
}

/* What is asked for; it stays so until it is done, so that nothing is asked twice. */
static enum vm_request request_get(struct vmctx *ctx, unsigned int *value)
{
	enum vm_request request;

	pthread_mutex_lock(&ctx->request_lock);
	if (!eventfd_take(ctx->request_fd) && errno != EAGAIN)
		log_debug(ctx->log, "request eventfd: %s", strerror(errno));
	request = ctx->request;
	*value = ctx->request_value;
	pthread_mutex_unlock(&ctx->request_lock);
	return request;
}

void vm_request_done(struct vmctx *ctx, enum vm_request request)
{
	pthread_mutex_lock(&ctx->request_lock);
	if (ctx->request == request)
		ctx->request = VM_REQUEST_NONE;
	pthread_mutex_unlock(&ctx->request_lock);
}

bool vm_request_pending(struct vmctx *ctx)
{
	bool pending;

	pthread_mutex_lock(&ctx->request_lock);
	pending = ctx->request != VM_REQUEST_NONE;
	pthread_mutex_unlock(&ctx->request_lock);
	return pending;
}

static void vm_end(struct vmctx *ctx, enum vm_end end, unsigned int value)
{
	ctx->end = end;
	ctx->end_value = value;
	event_loop_stop(ctx->main_loop);
}

/* Everything as at power-on, with the CPUs not started. */
static int vm_load(struct vmctx *ctx)
{
	struct hv_cpu_state state;
	int error;

	if (ctx->hv->no_cpus)
		return 0;
	memset(&state, 0, sizeof(state));
	error = arch_load(ctx, &state);
	if (error)
		return error;
	return ctx->hv->set_boot_cpu(ctx, &state);
}

void vm_reset_devices(struct vmctx *ctx)
{
	pci_reset_devices(ctx);
	platform_reset(ctx);
}

int vm_irq_line(struct vmctx *ctx, unsigned int gsi, bool level)
{
	int error;

	pthread_mutex_lock(&ctx->line_lock);
	if (gsi < LINES)
		ctx->lines = (ctx->lines & ~BIT64(gsi)) | (uint64_t)level << gsi;
	error = ctx->hv->irq_line(ctx, gsi, level);
	pthread_mutex_unlock(&ctx->line_lock);
	return error;
}

int vm_reset_cpus(struct vmctx *ctx)
{
	int error;

	pthread_mutex_lock(&ctx->line_lock);
	error = ctx->hv->reset(ctx);
	for (unsigned int gsi = 0; !error && gsi < LINES; gsi++)
		if (ctx->lines & BIT64(gsi))
			(void)ctx->hv->irq_line(ctx, gsi, true);
	pthread_mutex_unlock(&ctx->line_lock);
	return error;
}

static int vm_reset(struct vmctx *ctx)
{
	int error;

	ctx->hv->pause(ctx);
	vm_request_done(ctx, VM_REQUEST_RESET);
	vm_reset_devices(ctx);
	vm_sleep_end(ctx);
	/* The press of the power button is gone with the guest that was to take it. */
	if (ctx->stop_signals)
		event_set_timer(ctx->press_timer, PRESS_AGAIN_NS, PRESS_AGAIN_NS);
	error = vm_reset_cpus(ctx);
	if (error)
		return error;
	guest_memory_clear(&ctx->memory, ctx->hv->memory_pinned);
	error = vm_load(ctx);
	if (!error)
		error = ctx->hv->start(ctx);
	return error;
}

static void vm_handle_reset(struct vmctx *ctx)
{
	int error;

	if (ctx->config.no_reboot) {
		vm_end(ctx, VM_END_RESET, 0);
		return;
	}
	log_info(ctx->log, "%s: guest reset", ctx->config.name);
	error = vm_reset(ctx);
	if (!error)
		return;
	log_error(ctx->log, "%s: cannot reset: %s", ctx->config.name, strerror(-error));
	vm_end(ctx, VM_END_INTERNAL, 0);
}

static void on_request(void *arg, uint32_t events)
{
	struct vmctx *ctx = arg;
	unsigned int value;

	switch (request_get(ctx, &value)) {
	case VM_REQUEST_NONE:
		break;
	case VM_REQUEST_RESET:
		vm_handle_reset(ctx);
		break;
	case VM_REQUEST_POWEROFF:
		vm_end(ctx, VM_END_POWEROFF, 0);
		break;
	case VM_REQUEST_CRASH:
		log_error(ctx->log, "%s: the guest crashed (%s)", ctx->config.name,
			  value == VM_CRASH_WAKING_VECTOR
				  ? "its waking vector is not RAM below 1 MiB"
				  : "triple fault");
		vm_end(ctx, VM_END_CRASH, 0);
		break;
	case VM_REQUEST_INTERNAL:
		vm_end(ctx, VM_END_INTERNAL, 0);
		break;
	case VM_REQUEST_DEBUG_EXIT:
		vm_end(ctx, VM_END_DEBUG_EXIT, value);
		break;
	case VM_REQUEST_SUSPEND:
		vm_suspend(ctx);
		break;
	case VM_REQUEST_WAKE:
		vm_request_done(ctx, VM_REQUEST_WAKE);
		vm_wake(ctx);
		break;
	}
}

static void on_power_timeout(void *arg, uint32_t events)
{
	struct vmctx *ctx = arg;

	log_warning(ctx->log, "%s: no power-off %d s after the power button, ending the VM",
		    ctx->config.name, (int)(POWER_OFF_PATIENCE_NS / 1000000000));
	vm_end(ctx, VM_END_KILLED, 0);
}

/*
 * A guest takes the press that wakes it for no more than that (Linux clears the status bit before it
 * thaws anybody who could act on it), and when it listens again cannot be seen: so press again.
 */
void vm_press(struct vmctx *ctx)
{
	pm_power_button(ctx->platform->pm);
	if (!ctx->suspended)
		return;
	vm_request(ctx, VM_REQUEST_WAKE, 0);
	event_set_timer(ctx->press_timer, PRESS_AGAIN_NS, PRESS_AGAIN_NS);
}

static void on_press_timer(void *arg, uint32_t events)
{
	vm_press(arg);
}

void vm_kill(struct vmctx *ctx, const char *by)
{
	log_warning(ctx->log, "%s: ended by %s", ctx->config.name, by);
	vm_end(ctx, VM_END_KILLED, 0);
}

void vm_power_button(struct vmctx *ctx)
{
	if (ctx->stop_signals++) {
		vm_kill(ctx, "a second signal");
		return;
	}
	log_info(ctx->log, "%s: pressing the power button (again to end the VM at once)",
		 ctx->config.name);
	event_set_timer(ctx->power_timer, POWER_OFF_PATIENCE_NS, 0);
	vm_press(ctx);
}

/* Time stands still until the port lets it pass; the calendar starts at a whole second. */
static int vm_create_clock(struct vmctx *ctx)
{
	ctx->clock = event_clock_create();
	if (!ctx->clock)
		return -errno;
	ctx->clock_start = time(NULL);
	event_loop_set_clock(ctx->main_loop, ctx->clock);
	event_loop_set_clock(ctx->io_loop, ctx->clock);
	return 0;
}

static int vm_create_loops(struct vmctx *ctx)
{
	ctx->request_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (ctx->request_fd < 0)
		return -errno;
	ctx->main_loop = event_loop_create("tenon-main");
	ctx->io_loop = event_loop_create("tenon-io");
	if (!ctx->main_loop || !ctx->io_loop)
		return -errno;
	ctx->request_source =
		event_add_fd(ctx->main_loop, ctx->request_fd, EPOLLIN, NULL, on_request, ctx);
	ctx->power_timer = event_add_real_timer(ctx->main_loop, NULL, on_power_timeout, ctx);
	ctx->press_timer = event_add_real_timer(ctx->main_loop, NULL, on_press_timer, ctx);
	if (!ctx->request_source || !ctx->power_timer || !ctx->press_timer)
		return -errno;
	return ctx->hv->virtual_time ? vm_create_clock(ctx) : 0;
}

static int vm_create_memory(struct vmctx *ctx)
{
	int error;

	arch_memory_layout(ctx);
	ctx->memory.private = ctx->hv->private_memory;
	error = guest_memory_create(ctx->log, &ctx->memory, ctx->config.huge_pages);
	for (unsigned int i = 0; !error && i < ctx->memory.count; i++)
		error = ctx->hv->add_memory(ctx, &ctx->memory.regions[i]);
	return error;
}

static int vm_create_parts(struct vmctx *ctx)
{
	int error = vm_create_loops(ctx);

	if (error)
		log_error(ctx->log, "%s: cannot create the event loops: %s", ctx->config.name,
			  strerror(-error));
	if (!error)
		error = control_create(ctx);
	if (!error)
		error = ctx->hv->create(ctx);
	if (error) {
		ctx->hv = NULL; /* there is nothing of it to destroy */
		return error;
	}
	error = vm_create_memory(ctx);
	if (!error)
		error = platform_create(ctx);
	if (!error)
		error = pci_bus_create(ctx);
	return error;
}

struct vmctx *vm_create(struct logger *log, const struct hv_ops *hv, const struct vm_config *config)
{
	struct vmctx *ctx = calloc(1, sizeof(*ctx));
	int error;

	if (!ctx) {
		log_error(log, "%s: out of memory", config->name);
		return NULL;
	}
	ctx->config = *config;
	ctx->log = log;
	ctx->hv = hv;
	ctx->memory.fd = -1;
	ctx->request_fd = -1;
	pthread_mutex_init(&ctx->request_lock, NULL);
	pthread_mutex_init(&ctx->line_lock, NULL);
	io_space_init(&ctx->pio);
	io_space_init(&ctx->mmio);
	error = vm_create_parts(ctx);
	ctx->start_ns = vm_clock_ns(ctx);
	if (error) {
		vm_destroy(ctx);
		errno = -error;
		return NULL;
	}
	return ctx;
}

static int vm_start(struct vmctx *ctx)
{
	int error = vm_load(ctx);

	if (error)
		return error;
	error = event_loop_start_thread(ctx->io_loop);
	if (!error && ctx->iothreads)
		error = iothreads_start(ctx->iothreads);
	if (!error)
		error = ctx->hv->start(ctx);
	if (error)
		log_error(ctx->log, "%s: cannot start: %s", ctx->config.name, strerror(-error));
	return error;
}

int vm_run(struct vmctx *ctx)
{
	int error = vm_start(ctx);

	/* What is wrong with the files given is the caller's; the rest is ours. */
	if (error)
		return error == -ENOMEM ? VM_END_INTERNAL : VM_END_BAD_ARGUMENTS;
	event_loop_run(ctx->main_loop);
	ctx->hv->pause(ctx);
	if (ctx->end == VM_END_DEBUG_EXIT)
		return VM_END_DEBUG_EXIT + (int)(ctx->end_value & 63);
	return (int)ctx->end;
}

void vm_destroy(struct vmctx *ctx)
{
	if (!ctx)
		return;
	control_destroy(ctx);
	if (ctx->hv)
		ctx->hv->pause(ctx);
	if (ctx->io_loop)
		event_loop_stop_thread(ctx->io_loop);
	if (ctx->iothreads)
		iothreads_stop(ctx->iothreads);
	pci_bus_destroy(ctx);
	platform_destroy(ctx);
	if (ctx->hv)
		ctx->hv->destroy(ctx);
	guest_memory_destroy(&ctx->memory);
	iothreads_destroy(ctx->iothreads);
	event_loop_destroy(ctx->io_loop);
	event_loop_destroy(ctx->main_loop);
	event_clock_destroy(ctx->clock);
	if (ctx->request_fd >= 0)
		close(ctx->request_fd);
	io_space_deinit(&ctx->pio);
	io_space_deinit(&ctx->mmio);
	pthread_mutex_destroy(&ctx->request_lock);
	pthread_mutex_destroy(&ctx->line_lock);
	free(ctx);
}
