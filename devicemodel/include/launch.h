/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * launch.h: a VM as a command line describes it, and its launch. What reads a command line
 * (tenon run, acrn-dm) fills a struct launch; nothing is opened before launch_run().
 */
#ifndef TENON_LAUNCH_H
#define TENON_LAUNCH_H

#include "dm.h"
#include "platform.h"

#define LAUNCH_DEVICES_MAX 256

/**
 * struct launch - one VM to be launched; strings are the caller's.
 * @hv: as in --hv
 * @devices: as in -s of tenon run
 * @uarts: as in -l of tenon run
 * @iothreads: those of --iothread; the VM's, once there is one
 */
struct launch {
	struct vm_config vm;
	struct logger log;
	const char *hv;
	const char *devices[LAUNCH_DEVICES_MAX];
	unsigned int device_count;
	const char *uarts[PLATFORM_UARTS];
	unsigned int uart_count;
	struct iothreads *iothreads;
};

/** launch_new() - one CPU, port auto, nothing else; messages begin with @prefix. NULL: no memory. */
struct launch *launch_new(const char *prefix);

/** launch_free() - its logger too; NULL is harmless. */
void launch_free(struct launch *launch);

/** launch_set_hv() - the argument of --hv. */
void launch_set_hv(struct launch *launch, const char *spec);

/** launch_add_device() - the argument of -s of tenon run. 0 or -errno after one log line. */
int launch_add_device(struct launch *launch, const char *spec) __must_check;

/** launch_add_uart() - the argument of -l of tenon run. 0 or -errno after one log line. */
int launch_add_uart(struct launch *launch, const char *spec) __must_check;

/** launch_add_iothread() - the argument of --iothread of tenon run. 0 or -errno after one log line. */
int launch_add_iothread(struct launch *launch, const char *spec) __must_check;

/**
 * launch_run() - make the VM with its devices, run it to its end, undo everything. Blocks the
 * signals that end a VM, for good; no other thread may exist. Returns the exit status (enum vm_end).
 */
int launch_run(struct launch *launch);

#endif
