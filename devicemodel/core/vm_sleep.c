/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Suspend to RAM (S3; ACPI 6.5, 7.4.2.4 and 16.3): the VM's CPUs stop, its devices stay what they are
 * and leave its memory alone, until something wakes it. Then CPUs and interrupt controllers are as
 * after power-on, and the boot CPU goes where the guest said in the FACS.
 */
#include <errno.h>

#include "arch.h"
#include "pci_core.h"
#include "platform.h"
#include "vm.h"

bool vm_suspended(const struct vmctx *ctx)
{
	return __atomic_load_n(&ctx->suspended, __ATOMIC_RELAXED);
}

static void set_suspended(struct vmctx *ctx, bool suspended)
{
	__atomic_store_n(&ctx->suspended, suspended, __ATOMIC_RELAXED);
}

void vm_suspend(struct vmctx *ctx)
{
	struct hv_cpu_state state = { 0 };
	int error = arch_wake(ctx, &state);

	/* As if the sleep state were not there. Not every hypervisor could start again what is paused. */
	if (error == -ENOENT) {
		vm_request_done(ctx, VM_REQUEST_SUSPEND);
		log_guest(ctx->log,
			  "%s: the guest suspends to RAM without a waking vector: ignored",
			  ctx->config.name);
		return;
	}
	ctx->hv->pause(ctx);
	vm_request_done(ctx, VM_REQUEST_SUSPEND);
	if (error) {
		vm_request(ctx, VM_REQUEST_CRASH, VM_CRASH_WAKING_VECTOR);
		return;
	}
	pci_quiesce_devices(ctx);
	set_suspended(ctx, true);
	log_guest(ctx->log, "%s: suspended to RAM", ctx->config.name);
	/* What happened while the guest was on its way. */
	if (ctx->stop_signals)
		vm_press(ctx);
	else if (pm_wake_pending(ctx->platform->pm))
		vm_request(ctx, VM_REQUEST_WAKE, 0);
}

void vm_sleep_end(struct vmctx *ctx)
{
	if (!ctx->suspended)
		return;
	set_suspended(ctx, false);
	pci_resume_devices(ctx);
}

static int wake_cpus(struct vmctx *ctx, const struct hv_cpu_state *state)
{
	int error = vm_reset_cpus(ctx);

	if (!error)
		error = ctx->hv->set_boot_cpu(ctx, state);
	if (error)
		return error;
	pm_wake(ctx->platform->pm);
	vm_sleep_end(ctx);
	return ctx->hv->start(ctx);
}

void vm_wake(struct vmctx *ctx)
{
	struct hv_cpu_state state = { 0 };
	int error;

	if (!ctx->suspended)
		return;
	/* Once more: the vector is read where it is used. */
	if (arch_wake(ctx, &state)) {
		vm_request(ctx, VM_REQUEST_CRASH, VM_CRASH_WAKING_VECTOR);
		return;
	}
	error = wake_cpus(ctx, &state);
	if (!error) {
		log_guest(ctx->log, "%s: awake", ctx->config.name);
		return;
	}
	log_error(ctx->log, "%s: cannot wake: %s", ctx->config.name, strerror(-error));
	vm_request(ctx, VM_REQUEST_INTERNAL, 0);
}
