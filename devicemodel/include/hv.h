/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * hv.h: the hypervisor port: what a VM needs from KVM, the ACRN HSM or a test.
 *
 * A port knows no device. It turns guest accesses into vm_io() and calls vm_request() when the
 * guest stops; everything else flows down through struct hv_ops.
 */
#ifndef TENON_HV_H
#define TENON_HV_H

#include "guest_memory.h"
#include "option_table.h"
#include "util.h"

struct vmctx;

#define HV_IOEVENTFD_PIO 0x1 /* @addr is a port, else a guest physical address */
#define HV_IOEVENTFD_DATAMATCH 0x2 /* only writes of @data */

/** struct hv_ioeventfd - signal @fd when the guest writes to @addr instead of trapping to tenon. */
struct hv_ioeventfd {
	uint64_t addr;
	uint32_t len; /* 1, 2, 4, 8; 0: any length, where the port can, else 2 */
	uint32_t flags;
	uint64_t data;
	int fd;
};

/** struct hv_msi - a message-signalled interrupt: a write of @data to @addr. */
struct hv_msi {
	uint64_t addr;
	uint32_t data;
};

struct hv_cpu_state; /* arch/<arch>: how the boot CPU starts */

/**
 * struct hv_ops - one port. All return 0 or -errno unless said otherwise; what a person should know
 * is logged by the port with ctx's logger.
 * @name: as in --hv
 * @summary: one line, for --hv help
 * @options: what may follow the name, parsed by @create; NULL: nothing may
 * @device: the file that it needs, as far as no option says otherwise; NULL: none
 * @no_cpus: it runs no guest code: no kernel is loaded, @set_boot_cpu is not called, --hv auto does
 *           not find it, and what firmware would tell a driver is at fw_cfg
 * @virtual_time: ctx->clock exists, and the port lets its time pass
 * @private_memory: guest memory may be what only this process maps
 * @memory_pinned: the hypervisor holds guest RAM's pages: they must not be replaced (no holes)
 * @available: true if this machine has it, options aside; with @log, says why not and what to do
 * @create: open the hypervisor and make a VM with ctx->cpu_count CPUs, not running; ctx->hv_data.
 *          Sets ctx->needs_timers if the hypervisor leaves PIT and HPET to the platform
 * @destroy: undo @create; vCPUs are stopped
 * @add_memory: show @region to the guest as RAM
 * @set_boot_cpu: the state in which CPU 0 starts; the others wait for INIT/SIPI
 * @start: let the vCPU threads run (also after @pause)
 * @pause: no vCPU runs guest code or is in a device when this returns; not from a vCPU thread
 * @reset: CPUs and interrupt controllers as after @create, all lines low; only while paused, else
 *         -EBUSY. Comes before guest memory is cleared and written anew: until it returns, the
 *         hypervisor may still write what the old kernel asked for (clock, steal time)
 * @irq_line: level of GSI @gsi; any thread. -EINVAL: there is no such line. Devices call vm_irq_line()
 * @msi: deliver @msi now; any thread. -EINVAL: no interrupt controller is at @msi's address
 * @ioeventfd: add or remove; -EEXIST and -ENOSPC mean: handle the kick by trapping. Any thread
 * @irqfd_add: deliver @msi whenever the eventfd @fd is signalled; returns a handle >= 0; -ENOSPC:
 *             use @msi. A message that @msi would refuse is taken, and nothing delivered. Any thread
 * @irqfd_update: change the message of a handle
 * @irqfd_remove: no more interrupts from @fd through @handle when this returns
 */
struct hv_ops {
	const char *name;
	const char *summary;
	const struct option_desc *options;
	const char *device;
	bool no_cpus;
	bool virtual_time;
	bool private_memory;
	bool memory_pinned;
	bool (*available)(struct logger *log);
	int (*create)(struct vmctx *ctx);
	void (*destroy)(struct vmctx *ctx);
	int (*add_memory)(struct vmctx *ctx, const struct guest_memory_region *region);
	int (*set_boot_cpu)(struct vmctx *ctx, const struct hv_cpu_state *state);
	int (*start)(struct vmctx *ctx);
	void (*pause)(struct vmctx *ctx);
	int (*reset)(struct vmctx *ctx);
	int (*irq_line)(struct vmctx *ctx, unsigned int gsi, bool level);
	int (*msi)(struct vmctx *ctx, const struct hv_msi *msi);
	int (*ioeventfd)(struct vmctx *ctx, const struct hv_ioeventfd *io, bool add);
	int (*irqfd_add)(struct vmctx *ctx, int fd, const struct hv_msi *msi);
	int (*irqfd_update)(struct vmctx *ctx, int handle, const struct hv_msi *msi);
	void (*irqfd_remove)(struct vmctx *ctx, int handle, int fd);
};

extern const struct hv_ops hv_acrn;
extern const struct hv_ops hv_kvm;
extern const struct hv_ops hv_test;

/**
 * hv_find() - the port of "NAME" or "NAME,OPTIONS"; "auto": the first that this machine has.
 * Return: NULL after one log line.
 */
const struct hv_ops *hv_find(struct logger *log, const char *spec);

/** hv_spec_options() - the options in what hv_find() takes, or NULL if there are none. */
const char *hv_spec_options(const char *spec);

/** hv_help() - the ports and their options on @out_file (FILE *). */
void hv_help(void *out_file);

#endif
