/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * acrn.h: what the files of the ACRN port share: acrn.c its life and memory, acrn_ioreq.c the I/O
 * request page and the thread that serves it, acrn_irq.c interrupts and eventfds, acrn_devices.c
 * calls for devices that the hypervisor has, arch/x86_64/acrn_cpu.c the boot CPU's registers.
 *
 * The ABI is <linux/acrn.h>; "the driver" in comments is Linux's drivers/virt/acrn.
 */
#ifndef TENON_ACRN_H
#define TENON_ACRN_H

#include <linux/acrn.h>
#include <linux/ioctl.h>
#include <pthread.h>

#include "dm.h"
#include "hv.h"
#include "util.h"

#define ACRN_DEVICE "/dev/acrn_hsm"
#define ACRN_LINES 24 /* inputs of the IOAPIC */
#define ACRN_KICKS 1024
#define ACRN_ROUTES 1024

/* ACRN hypervisor, acrn_common.h: flags of struct acrn_vm_creation that a device model may set. */
#define ACRN_VM_FLAG_LAPIC_PASSTHROUGH BIT64(1)
#define ACRN_VM_FLAG_IO_COMPLETION_POLLING BIT64(2)
#define ACRN_VM_FLAG_RT BIT64(4)

/** struct acrn_options - what may follow --hv acrn. */
struct acrn_options {
	char *device;
	char *uuid;
	uint64_t cpu_affinity;
	bool polling;
	bool lapic_pt;
	bool rtvm;
};

/** struct acrn_route - an irqfd. @bound: the driver has it, which it has not if nobody takes @msi. */
struct acrn_route {
	bool used, bound;
	int fd;
	struct hv_msi msi;
};

/** enum acrn_state - it is reset only while paused, and starts only when created or reset. */
enum acrn_state { ACRN_CREATED, ACRN_RUNNING, ACRN_PAUSED };

/**
 * struct acrn_vm - the VM; ctx->hv_data.
 * @fd: the HSM; one open file is one VM
 * @created, @has_client, @has_thread: what there is to be undone
 * @vcpu_count: that the hypervisor made; so many slots of @page are in use
 * @state: what the hypervisor knows of the VM; main thread
 * @page: I/O requests, shared with the driver and the hypervisor
 * @idle_rounds: how often in a row the driver had nothing for the thread; the thread only
 * @lock, @changed: over the next four
 * @running: requests are served
 * @handling: the thread is among the slots, perhaps in a device
 * @quit: the thread shall end; @failed: the HSM does not serve it any more
 * @line_lock, @lines: levels of the interrupt lines
 * @event_lock: over @kicks and @routes, and the order of the driver's calls about them
 * @kicks, @kick_count: the ioeventfds that the driver has, in its order; their length is never 0
 */
struct acrn_vm {
	struct vmctx *ctx;
	struct acrn_options options;
	int fd;
	bool created, has_client, has_thread;
	uint16_t vmid;
	unsigned int vcpu_count;
	enum acrn_state state;
	struct acrn_io_request_buffer *page;
	pthread_t thread;
	unsigned int idle_rounds;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool running, handling, quit, failed;

	pthread_mutex_t line_lock;
	uint32_t lines;

	pthread_mutex_t event_lock;
	unsigned int kick_count;
	struct hv_ioeventfd kicks[ACRN_KICKS];
	struct acrn_route routes[ACRN_ROUTES];
};

/* ---- acrn.c */

/** acrn_ioctl() - ioctl() on the HSM that is not ended by signals; its value or -errno. */
int acrn_ioctl(const struct acrn_vm *vm, unsigned long request, const void *arg);

/* ---- acrn_ioreq.c */

/** acrn_ioreq_start() - the thread that serves requests; the HSM knows of it. 0 or -errno, logged. */
int acrn_ioreq_start(struct acrn_vm *vm) __must_check;

/** acrn_ioreq_run() - from now on requests are served, also those that came in the meantime. */
void acrn_ioreq_run(struct acrn_vm *vm);

/** acrn_ioreq_pause() - no request is being served when this returns; not from a device. */
void acrn_ioreq_pause(struct acrn_vm *vm);

/** acrn_ioreq_stop() - end what acrn_ioreq_start() began, if it did. */
void acrn_ioreq_stop(struct acrn_vm *vm);

/** acrn_ioreq_serve() - look at every slot once; returns how many requests were served. */
unsigned int acrn_ioreq_serve(struct acrn_vm *vm);

/* ---- acrn_irq.c */

/** acrn_irq_reset() - all lines low. */
void acrn_irq_reset(struct acrn_vm *vm);

int acrn_irq_line(struct vmctx *ctx, unsigned int gsi, bool level);
int acrn_irq_msi(struct vmctx *ctx, const struct hv_msi *msi);
int acrn_irq_ioeventfd(struct vmctx *ctx, const struct hv_ioeventfd *io, bool add);
int acrn_irq_irqfd_add(struct vmctx *ctx, int fd, const struct hv_msi *msi);
int acrn_irq_irqfd_update(struct vmctx *ctx, int handle, const struct hv_msi *msi);
void acrn_irq_irqfd_remove(struct vmctx *ctx, int handle, int fd);

/* ---- acrn_devices.c: for devices that the hypervisor has; any thread, 0 or -errno, not logged */

/** struct acrn_pci_assignment - a host function that the guest shall have; addresses are 16-bit BDFs. */
struct acrn_pci_assignment {
	uint16_t virt_bdf, phys_bdf;
	uint8_t intr_line, intr_pin;
	bool quirk; /* ACRN_PTDEV_QUIRK_ASSIGN: its config space stays with the device model */
	uint32_t bars[ACRN_PCI_NUM_BARS];
};

int acrn_pcidev_assign(struct vmctx *ctx, const struct acrn_pci_assignment *pci) __must_check;
int acrn_pcidev_deassign(struct vmctx *ctx, const struct acrn_pci_assignment *pci) __must_check;

/** acrn_ptdev_intx() - wire pin @phys_pin of the host to @virt_pin of the guest, or no longer. */
struct acrn_intx_route {
	uint16_t virt_bdf, phys_bdf;
	uint32_t virt_pin, phys_pin;
	bool pic; /* @virt_pin is one of the PICs, not of the IOAPIC */
};
int acrn_ptdev_intx(struct vmctx *ctx, const struct acrn_intx_route *route, bool set) __must_check;

/** struct acrn_mmio_range - @size bytes of the host at @service_pa, for the guest at @user_pa. */
struct acrn_mmio_range {
	uint64_t user_pa, service_pa, size;
	uint32_t memory_type; /* ACRN_MEM_TYPE_*; acrn_mmio_map() knows UC only */
};

/** acrn_mmiodev_assign() - a device that is not on PCI; @name: 8 characters at most. -EINVAL, -ENAMETOOLONG */
int acrn_mmiodev_assign(struct vmctx *ctx, const char *name, const struct acrn_mmio_range *ranges,
			unsigned int count) __must_check;
int acrn_mmiodev_deassign(struct vmctx *ctx, const char *name, const struct acrn_mmio_range *ranges,
			  unsigned int count) __must_check;

/** acrn_mmio_map() / acrn_mmio_unmap() - show the guest host registers, uncached; hide them again. */
int acrn_mmio_map(struct vmctx *ctx, const struct acrn_mmio_range *range) __must_check;
int acrn_mmio_unmap(struct vmctx *ctx, const struct acrn_mmio_range *range) __must_check;

/** struct acrn_hv_device - a device that the hypervisor emulates (ivshmem, virtual UART). */
struct acrn_hv_device {
	uint16_t vendor, device; /* of a PCI function, else 0 */
	uint32_t legacy_id; /* of another device, else 0 */
	uint64_t slot; /* its BDF */
	uint32_t io_addr[ACRN_PCI_NUM_BARS], io_size[ACRN_PCI_NUM_BARS];
	const char *args; /* 127 characters at most; NULL: none */
};
int acrn_vdev_create(struct vmctx *ctx, const struct acrn_hv_device *device) __must_check;
int acrn_vdev_destroy(struct vmctx *ctx, const struct acrn_hv_device *device) __must_check;

/**
 * acrn_intr_monitor() - have the hypervisor count the VM's interrupts in @page, which must be
 * 4 KiB-aligned and stay until the VM is destroyed: the kernel pins it.
 */
int acrn_intr_monitor(struct vmctx *ctx, void *page) __must_check;

/**
 * acrn_pm_count() / acrn_pm_px() / acrn_pm_cx() - P-states (@type ACRN_PMCMD_GET_PX_CNT) or C-states
 * (ACRN_PMCMD_GET_CX_CNT) of @vcpu, and the @index-th of them. -EPERM: the board has no such data,
 * and the guest then has no such states, which is no error of the VM.
 */
int acrn_pm_count(struct vmctx *ctx, enum acrn_pm_cmd_type type, unsigned int vcpu,
		  uint64_t *count) __must_check;
int acrn_pm_px(struct vmctx *ctx, unsigned int vcpu, unsigned int index,
	       struct acrn_pstate_data *data) __must_check;
int acrn_pm_cx(struct vmctx *ctx, unsigned int vcpu, unsigned int index,
	       struct acrn_cstate_data *data) __must_check;

/* ---- arch/<arch>/ */

/** acrn_arch_boot_regs() - what CPU 0 starts with. */
void acrn_arch_boot_regs(const struct hv_cpu_state *state, struct acrn_vcpu_regs *regs);

/** acrn_arch_msi_valid() - would an interrupt controller take @msi? */
bool acrn_arch_msi_valid(const struct hv_msi *msi);

/** acrn_arch_line() - the hypervisor's number of line @gsi, or -EINVAL. */
int acrn_arch_line(unsigned int gsi);

#endif
