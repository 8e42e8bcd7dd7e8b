/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * dm.h: one virtual machine: everything of it hangs off struct vmctx.
 */
#ifndef TENON_DM_H
#define TENON_DM_H

#include <time.h>

#include "event_loop.h"
#include "guest_memory.h"
#include "hv.h"
#include "io_space.h"
#include "logger.h"
#include "util.h"

struct control;
struct iothreads;
struct pci_bus;
struct platform;

#define VM_CPUS_MAX 16

/** enum vm_end - why a VM stopped; the values are the exit statuses of "tenon run". */
enum vm_end {
	VM_END_POWEROFF = 0,
	VM_END_INTERNAL = 1,
	VM_END_BAD_ARGUMENTS = 2,
	VM_END_RESET = 3, /* guest reset with --no-reboot */
	VM_END_CRASH = 4, /* triple fault */
	VM_END_KILLED = 5, /* second signal, or no power-off within 30 s of the first */
	VM_END_DEBUG_EXIT = 64, /* + (value written to the debug-exit port & 63) */
};

/** enum vm_request - what a guest or a signal asks of the VM; handled by the main loop. */
enum vm_request {
	VM_REQUEST_NONE,
	VM_REQUEST_RESET,
	VM_REQUEST_POWEROFF,
	VM_REQUEST_CRASH,
	VM_REQUEST_INTERNAL,
	VM_REQUEST_DEBUG_EXIT,
	VM_REQUEST_SUSPEND, /* to RAM */
	VM_REQUEST_WAKE, /* from there; nothing if it is not suspended */
};

/** enum vm_crash - the value of VM_REQUEST_CRASH: why the guest cannot go on. */
enum vm_crash {
	VM_CRASH_TRIPLE_FAULT,
	VM_CRASH_WAKING_VECTOR, /* it was to wake where no real-mode code can be */
};

/** struct vm_config - what the command line says of the VM as a whole; strings are the caller's. */
struct vm_config {
	const char *name;
	uint64_t memory_size;
	unsigned int cpu_count;
	const char *kernel, *ramdisk, *bootargs;
	const char *hv_options; /* what --hv says behind the port's name, or NULL */
	const char *control; /* path of the control socket, or NULL */
	const char *uuid; /* of the VM, as text; NULL: none (the ACRN port) */
	uint64_t cpu_affinity; /* bitmap of the host's CPUs, 0: any (the ACRN port) */
	uint64_t acrn_vm_flags; /* of struct acrn_vm_creation, besides what the port sets itself */
	bool huge_pages;
	bool no_reboot;
	bool debug_exit;
};

/**
 * struct vmctx - one VM.
 * @hv, @hv_data: its hypervisor port and the port's own data
 * @pio, @mmio: who answers ports and physical addresses that are not RAM
 * @needs_timers: the platform has PIT and HPET; the hypervisor has none
 * @clock: virtual time, if the port has that, and @clock_start: its calendar time at 0 (UTC)
 * @main_loop: event loop of the thread that called vm_run(): life cycle, signals, platform, characters
 * @io_loop: event loop of the thread that serves devices: kicks, taps, completions
 * @iothreads: threads of single devices, or NULL: @io_loop serves all. Set before devices are added;
 *             the VM starts, stops and destroys them
 */
struct vmctx {
	struct vm_config config;
	struct logger *log;
	const struct hv_ops *hv;
	void *hv_data;
	int vm_id; /* the hypervisor's number of the VM, if it has one (ACRN) */
	bool needs_timers;
	struct event_clock *clock;
	time_t clock_start;
	struct guest_memory memory;
	struct io_space pio, mmio;
	struct event_loop *main_loop, *io_loop;
	struct iothreads *iothreads;
	struct pci_bus *pci;
	struct platform *platform;
	struct control *control;

	/* vm.c */
	pthread_mutex_t request_lock;
	enum vm_request request;
	unsigned int request_value;
	int request_fd;
	struct event_source *request_source;
	struct event_source *power_timer;
	unsigned int stop_signals;
	uint64_t start_ns; /* when it was created, by vm_clock_ns() */
	struct event_source *press_timer; /* presses the power button of a VM that it has woken */
	pthread_mutex_t line_lock;
	uint64_t lines; /* levels of the GSIs, as vm_irq_line() was told */
	bool suspended; /* to RAM; written by the main loop */
	enum vm_end end;
	unsigned int end_value;
	bool running;
};

/**
 * struct io_request - one trapped guest access (ioreq), the same from a KVM exit, an HSM slot or a
 * line of the test port.
 */
enum io_type { IO_PIO, IO_MMIO };

struct io_request {
	enum io_type type;
	bool write;
	unsigned int size; /* 1, 2, 4, 8 */
	uint64_t addr;
	uint64_t value; /* in for writes, out for reads */
};

/** vm_io() - carry out one guest access; any thread. What nobody owns reads as ones. */
void vm_io(struct vmctx *ctx, struct io_request *request);

/**
 * vm_create() - a VM with memory, buses and platform, without devices and not started.
 * @config: copied, its strings are not
 * Return: the VM or NULL after one line in @log.
 */
struct vmctx *vm_create(struct logger *log, const struct hv_ops *hv,
			const struct vm_config *config);

/** vm_run() - load the kernel, start, and dispatch until the VM ends; returns the exit status. */
int vm_run(struct vmctx *ctx);

/** vm_destroy() - stop and free everything of @ctx; NULL is harmless. */
void vm_destroy(struct vmctx *ctx);

/**
 * vm_request() - ask for @request; any thread, also a vCPU's, never blocks. The first of several wins, but
 * whatever ends or resets the VM wins over SUSPEND and WAKE, and INTERNAL over all.
 * @value: of DEBUG_EXIT; of CRASH: enum vm_crash
 */
void vm_request(struct vmctx *ctx, enum vm_request request, unsigned int value);

/** vm_request_pending() - is there a request that was not carried out yet? Any thread. */
bool vm_request_pending(struct vmctx *ctx);

/** vm_power_button() - press the guest's power button; the second press ends the VM. Main loop. */
void vm_power_button(struct vmctx *ctx);

/** vm_kill() - end the VM at once, VM_END_KILLED; @by is for the message. Main loop. */
void vm_kill(struct vmctx *ctx, const char *by);

/** vm_irq_line() - hv->irq_line(), for devices: a line keeps its level when only the CPUs are reset. Any thread. */
int vm_irq_line(struct vmctx *ctx, unsigned int gsi, bool level);

/** vm_suspended() - is it suspended to RAM? Any thread. */
bool vm_suspended(const struct vmctx *ctx);

/** vm_reset_devices() - reset of every device and of the platform; vCPUs paused. */
void vm_reset_devices(struct vmctx *ctx);

/** vm_clock_ns() - the VM's monotonic time in nanoseconds; any thread. */
uint64_t vm_clock_ns(const struct vmctx *ctx);

/** vm_wall_clock() - the time that the VM's real-time clock has at power-on, UTC; any thread. */
void vm_wall_clock(const struct vmctx *ctx, struct timespec *now);

/**
 * paddr_guest2host() - host pointer to guest physical [@gpa, @gpa + @len), NULL unless the whole
 * range lies in one RAM region. Valid for the life of the VM. Any thread.
 */
static inline void *paddr_guest2host(struct vmctx *ctx, uint64_t gpa, size_t len)
{
	return guest_memory_host(&ctx->memory, gpa, len);
}

#endif
