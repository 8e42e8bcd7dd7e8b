/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vm.h: between vm.c and vm_sleep.c. Main loop.
 */
#ifndef TENON_VM_H
#define TENON_VM_H

#include "dm.h"

/** vm_request_done() - what was asked for is done, so that something else can be asked. */
void vm_request_done(struct vmctx *ctx, enum vm_request request);

/**
 * vm_reset_cpus() - CPUs and interrupt controllers as after power-on, the lines as the devices drive
 * them. vCPUs paused. 0 or -errno.
 */
int vm_reset_cpus(struct vmctx *ctx) __must_check;

/** vm_suspend() - carry out VM_REQUEST_SUSPEND: nothing runs any more, or the guest goes on as it was. */
void vm_suspend(struct vmctx *ctx);

/** vm_wake() - carry out VM_REQUEST_WAKE. */
void vm_wake(struct vmctx *ctx);

/** vm_press() - press the power button, and wake a suspended VM by it: again until it powers off. */
void vm_press(struct vmctx *ctx);

/** vm_sleep_end() - it is not suspended any more, devices may run: part of a reset. */
void vm_sleep_end(struct vmctx *ctx);

#endif
