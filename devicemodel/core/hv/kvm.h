/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kvm.h: what the files of the KVM port share. Nobody else includes it.
 *
 * The functions called kvm_arch_* are in arch/<arch>/: the CPU's registers and the interrupt
 * controllers.
 */
#ifndef TENON_KVM_H
#define TENON_KVM_H

#include <linux/kvm.h>
#include <pthread.h>

#include "dm.h"
#include "hv.h"
#include "util.h"

/* Messages that an eventfd can deliver at the same time in one VM. */
#define KVM_MSI_ROUTES 1024

/* enum kvm_pit - who has the PIT, and with it all timers outside the CPUs; the option's choices. */
enum kvm_pit { KVM_PIT_KERNEL, KVM_PIT_USER };

struct kvm_vm;
struct kvm_pristine; /* arch/<arch>/ */
struct kvm_chips;

/**
 * struct kvm_vcpu - one CPU of the guest and its thread.
 * @run: shared with the kernel; immediate_exit is written by whoever pauses the VM
 * @has_thread: @thread is to be joined
 * @active: the thread is inside kvm_vcpu_run(); vm->lock
 * @dead: crashed: stays parked until the reset; vm->lock
 * @pristine: its state as after power-on
 */
struct kvm_vcpu {
	struct vmctx *ctx;
	struct kvm_vm *vm;
	unsigned int id;
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	bool has_thread;
	bool active;
	bool dead;
	struct kvm_pristine *pristine;
};

/** struct kvm_msi_route - a message; the GSI that stands for it is kvm_arch_gsi_base() + index. */
struct kvm_msi_route {
	bool used;
	struct hv_msi msi;
};

/**
 * struct kvm_vm - the VM; ctx->hv_data.
 * @memory_slots: used so far
 * @lock, @changed: over @running, @quit, @active_count and the vCPUs' flags
 * @running: vCPUs shall run
 * @quit: vCPU threads shall end
 * @active_count: vCPUs with active set
 * @route_lock: over @msi_routes and @routing
 * @routing: room for all routes; filled anew for each KVM_SET_GSI_ROUTING
 * @chips: the interrupt controllers and timers as after power-on
 * @pit: the option: enum kvm_pit
 */
struct kvm_vm {
	int kvm_fd;
	int vm_fd;
	size_t run_size;
	unsigned int memory_slots;
	bool any_length;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool running;
	bool quit;
	unsigned int active_count;
	unsigned int vcpu_count;
	struct kvm_vcpu vcpus[VM_CPUS_MAX];

	pthread_mutex_t route_lock;
	struct kvm_msi_route msi_routes[KVM_MSI_ROUTES];
	struct kvm_irq_routing *routing;

	struct kvm_chips *chips;
	unsigned int pit;
};

/** struct kvm_capability - something that the host's KVM must have. */
struct kvm_capability {
	unsigned int id;
	const char *name;
};

/* ---- kvm.c */

/** kvm_ioctl() - ioctl() that is not ended by signals; returns its value or -errno. */
int kvm_ioctl(int fd, unsigned long request, const void *arg);

/** kvm_set_up() - kvm_ioctl() while a VM is made or reset: one line in the log if it fails. */
int kvm_set_up(struct vmctx *ctx, int fd, unsigned long request, const void *arg,
	       const char *name) __must_check;

/* ---- kvm_vcpu.c */

/** kvm_vcpu_start_threads() - one parked thread for every vCPU. 0 or -errno after one line. */
int kvm_vcpu_start_threads(struct vmctx *ctx) __must_check;

/** kvm_vcpu_join_threads() - end those that there are. */
void kvm_vcpu_join_threads(struct kvm_vm *vm);

int kvm_vcpu_start(struct vmctx *ctx);
void kvm_vcpu_pause(struct vmctx *ctx);

/* ---- kvm_irq.c */

int kvm_irq_init(struct vmctx *ctx) __must_check;
void kvm_irq_deinit(struct kvm_vm *vm);
int kvm_irq_line(struct vmctx *ctx, unsigned int gsi, bool level);
int kvm_irq_msi(struct vmctx *ctx, const struct hv_msi *msi);
int kvm_irq_ioeventfd(struct vmctx *ctx, const struct hv_ioeventfd *io, bool add);
int kvm_irq_irqfd_add(struct vmctx *ctx, int fd, const struct hv_msi *msi);
int kvm_irq_irqfd_update(struct vmctx *ctx, int handle, const struct hv_msi *msi);
void kvm_irq_irqfd_remove(struct vmctx *ctx, int handle, int fd);

/* ---- arch/<arch>/ */

/** kvm_arch_capabilities - what the architecture needs of KVM; ends with a NULL name. */
extern const struct kvm_capability kvm_arch_capabilities[];

/** kvm_arch_vm_create() - interrupt controllers and timers, before there are vCPUs. */
int kvm_arch_vm_create(struct vmctx *ctx) __must_check;
void kvm_arch_vm_destroy(struct kvm_vm *vm);

/** kvm_arch_vcpu_create() - make a fresh vCPU what firmware leaves, and remember that. */
int kvm_arch_vcpu_create(struct kvm_vcpu *vcpu) __must_check;
void kvm_arch_vcpu_destroy(struct kvm_vcpu *vcpu);

/**
 * kvm_arch_reset() - all vCPUs and interrupt controllers as at power-on; paused. Switches off
 * first what lets KVM write into guest memory.
 */
int kvm_arch_reset(struct vmctx *ctx) __must_check;

/** kvm_arch_vcpu_boot() - @vcpu starts in @state. */
int kvm_arch_vcpu_boot(struct kvm_vcpu *vcpu, const struct hv_cpu_state *state) __must_check;

/** kvm_arch_vcpu_pc() - where it is, for messages; its own thread. */
uint64_t kvm_arch_vcpu_pc(struct kvm_vcpu *vcpu);

/** kvm_arch_gsi_base() - number of interrupt lines; GSIs from there on are free for messages. */
unsigned int kvm_arch_gsi_base(void);

/** kvm_arch_line_routes() - the routes of the lines; @entries may be NULL to count them. */
unsigned int kvm_arch_line_routes(struct kvm_irq_routing_entry *entries);

/** kvm_arch_msi_valid() - would an interrupt controller take @msi? */
bool kvm_arch_msi_valid(const struct hv_msi *msi);

/** kvm_cpuid_set() - what the CPUID instruction says on @vcpu (arch/x86_64/kvm_cpuid.c). */
int kvm_cpuid_set(struct kvm_vcpu *vcpu) __must_check;

#endif
