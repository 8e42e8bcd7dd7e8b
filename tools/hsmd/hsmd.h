/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * hsmd.h: the parts of hsmd, an ACRN HSM on KVM, and what they promise each other.
 *
 * An open file of the device is a struct vm. main.c speaks CUSE; ioctls.c is the Linux driver's
 * half (arguments, order of calls, errno); the rest is the hypervisor's half, on KVM.
 *
 * Locks, outermost first: vm->lock (calls that change the VM write, the others read),
 * vm->events.lock, vm->ioreq.lock, hsmd->lock. vCPU threads do not take the first, so vm->lock may
 * be held while they are joined. A client can make hsmd wait for its memory: that may be under the
 * locks of its own VM, never under hsmd->lock. libfuse calls for an interrupted request with that
 * request's own lock held; hsmd->lock is taken there, so nothing of libfuse that takes a request's
 * lock is called with it held, nor with vm->ioreq.lock.
 */
#ifndef HSMD_H
#define HSMD_H

#include <linux/acrn.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#define FUSE_USE_VERSION 314
#include <fuse3/cuse_lowlevel.h>

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF(position, first) __attribute__((format(printf, position, first)))

#define GUEST_PAGE_SIZE 4096u
#define MEMORY_PIECES_MAX 256 /* ACRN_MEM_MAPPING_MAX of the driver */
#define IOAPIC_PINS KVM_IOAPIC_NUM_PINS

/* ---- log.c: one line each, on standard error. */
enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };
void log_set_debug(bool debug);
void log_line(enum log_level level, const char *format, ...) PRINTF(2, 3);

/** struct hsmd - the process. */
struct hsmd {
	int kvm_fd;
	size_t run_size; /* of a vCPU's struct kvm_run */
	cpu_set_t cpus; /* that hsmd may run on */
	bool kvm_clock; /* guests see KVM's clock beside ACRN's leaves */
	char device_name[64];

	pthread_mutex_t lock; /* of @vms and @waiters */
	LIST_HEAD(, vm) vms;
	LIST_HEAD(waiter_list, ioreq_waiter) waiters;
};

/* ---- client.c: a process that uses the device. Every function takes the thread that is in the call. */
struct iovec;

/** client_read() - from the caller's memory. Return: 0, -EFAULT. */
int client_read(pid_t thread, uint64_t address, void *data, size_t size) MUST_CHECK;
int client_write(pid_t thread, uint64_t address, const void *data, size_t size) MUST_CHECK;

/** client_memory_open() - a file with the caller's memory that outlives its pid. Return: fd, -errno. */
int client_memory_open(pid_t thread) MUST_CHECK;

/** client_eventfd() - a duplicate of the caller's eventfd @fd, with the number that the kernel gave
 *  the eventfd itself in @id. Return: fd; -EBADF; -EINVAL: no eventfd. */
int client_eventfd(pid_t thread, int fd, uint64_t *id) MUST_CHECK;

/** struct client_vma - a mapping of a client. */
struct client_vma {
	uint64_t start, end, offset;
	dev_t device; /* of the file */
	ino_t inode;
	bool shared, writable;
	char name[128];
};

/** client_vma_find() - the mapping that holds @address. Return: 0, -EFAULT. */
int client_vma_find(pid_t thread, uint64_t address, struct client_vma *vma) MUST_CHECK;

/** client_vma_open() - the file behind @vma. Return: fd; -EFAULT: it was replaced; -errno. */
int client_vma_open(pid_t thread, const struct client_vma *vma) MUST_CHECK;

/* ---- ioreq.c: the I/O request page and who waits for it. */
struct ioreq_waiter {
	LIST_ENTRY(ioreq_waiter) link;
	struct ioreq *ioreq;
	fuse_req_t req;
};

struct ioreq_slot {
	pthread_cond_t completed;
	bool outstanding; /* the vCPU made a request and has not taken the result */
	bool pending; /* the client was told and has not finished it */
	bool done;
	bool owed_notify; /* completed by polling: the notification for it is still to come */
};

struct ioreq {
	struct hsmd *hsmd;
	pthread_mutex_t lock;
	int memory; /* of the client's address space */
	uint64_t page; /* in it */
	unsigned int count; /* of slots in use */
	bool polling; /* completion is seen by looking at the slot */
	bool has_client;
	bool stopped; /* no vCPU may wait */
	bool dead; /* the client's memory is gone */
	uint32_t pci_address; /* latched at port 0xcf8 */
	struct ioreq_slot slots[ACRN_IO_REQUEST_MAX];
};

void ioreq_init(struct ioreq *ioreq, struct hsmd *hsmd);
void ioreq_deinit(struct ioreq *ioreq);

/** ioreq_setup() - for @count vCPUs, with the page at @page of the caller. All slots become free. */
int ioreq_setup(struct ioreq *ioreq, pid_t thread, uint64_t page, unsigned int count,
		bool polling) MUST_CHECK;

/** ioreq_submit() - have the client carry out @request of @vcpu; its value comes back in it.
 *  Return: 0; -EINTR: the vCPU shall stop. From the vCPU's thread. */
int ioreq_submit(struct ioreq *ioreq, unsigned int vcpu,
		 struct acrn_io_request *request) MUST_CHECK;

/** ioreq_stop() - let no vCPU wait from now on. ioreq_restart() - forget all requests, slots free. */
void ioreq_stop(struct ioreq *ioreq);
void ioreq_restart(struct ioreq *ioreq);

int ioreq_client_create(struct ioreq *ioreq) MUST_CHECK;
void ioreq_client_destroy(struct ioreq *ioreq);
/** ioreq_requests() - how many requests clients were given since the start. */
uint64_t ioreq_requests(void);
/** ioreq_attach() - answers @req now or later. */
void ioreq_attach(struct ioreq *ioreq, fuse_req_t req);
int ioreq_finish(struct ioreq *ioreq, unsigned int vcpu) MUST_CHECK;
void ioreq_clear(struct ioreq *ioreq);

/* ---- memory.c: guest RAM. */
struct memory_backing {
	void *base;
	size_t size;
	unsigned int references;
};

/** struct memory_piece - a range of guest RAM; its number is that of the KVM slot. Free: size 0. */
struct memory_piece {
	uint64_t guest, size;
	uint8_t *host;
	bool read_only;
	struct memory_backing *backing;
};

struct memory {
	struct memory_piece pieces[MEMORY_PIECES_MAX];
};

struct vm;
int memory_set(struct vm *vm, pid_t thread, const struct acrn_vm_memmap *map) MUST_CHECK;
int memory_unset(struct vm *vm, const struct acrn_vm_memmap *map) MUST_CHECK;
/** memory_install() - show it all to a new KVM VM. */
int memory_install(struct vm *vm) MUST_CHECK;
void memory_deinit(struct memory *memory);
/** memory_mapped() - bytes of guest RAM mapped by all VMs. */
uint64_t memory_mapped(void);

/* ---- events.c: ioeventfds and irqfds. */
/** struct signal_fd - an eventfd that guests' writes signal. Its references are events.lock's. */
struct signal_fd {
	int fd;
	uint64_t id; /* of the eventfd */
	unsigned int references; /* ioeventfds, and vCPU threads that signal it */
};

struct ioeventfd {
	TAILQ_ENTRY(ioeventfd) link;
	struct signal_fd *signal;
	uint64_t address, data;
	uint32_t length;
	uint32_t type; /* ACRN_IOREQ_TYPE_PORTIO or _MMIO */
	bool wildcard;
	bool in_kvm;
};

struct irqfd {
	TAILQ_ENTRY(irqfd) link;
	int fd;
	uint64_t id;
	uint32_t gsi;
	struct acrn_msi_entry msi;
};

struct events {
	pthread_mutex_t lock;
	TAILQ_HEAD(, ioeventfd) ioeventfds;
	TAILQ_HEAD(, irqfd) irqfds;
};

void events_init(struct events *events);
void events_deinit(struct events *events);
int ioeventfd_config(struct vm *vm, pid_t thread, const struct acrn_ioeventfd *args) MUST_CHECK;
int irqfd_config(struct vm *vm, pid_t thread, const struct acrn_irqfd *args) MUST_CHECK;
/** ioeventfd_handle() - true if @request was an ioeventfd's and is done. From vCPU threads. */
bool ioeventfd_handle(struct events *events, struct acrn_io_request *request);
/** events_install() - give them all to a new KVM VM. */
int events_install(struct vm *vm) MUST_CHECK;

/* ---- irq.c */
/** irq_route() - wire the interrupt chips' pins, and the messages of all irqfds. */
int irq_route(struct vm *vm) MUST_CHECK;
int irq_set_line(struct vm *vm, uint32_t gsi, uint32_t operation) MUST_CHECK;
int irq_message(struct vm *vm, const struct acrn_msi_entry *msi) MUST_CHECK;

/* ---- vcpu.c, cpu_state.c, cpuid.c */
struct vcpu {
	struct vm *vm;
	unsigned int id; /* also its local APIC's */
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	bool has_thread;
	bool stop; /* atomic */
};

int vcpu_create(struct vm *vm, unsigned int id) MUST_CHECK;
void vcpu_destroy(struct vcpu *vcpu);
int vcpu_start_thread(struct vcpu *vcpu) MUST_CHECK;
/** vcpus_stop() - all threads are gone when it returns. */
void vcpus_stop(struct vm *vm);
int vcpu_install_signal(void) MUST_CHECK;
unsigned int vcpu_thread_count(void);
/** cpu_state_firmware() - what firmware leaves in MSRs and the local APIC. */
int cpu_state_firmware(struct vcpu *vcpu) MUST_CHECK;
int cpu_state_set(struct vcpu *vcpu, const struct acrn_regs *regs) MUST_CHECK;
int cpuid_set(struct vcpu *vcpu) MUST_CHECK;

/* ---- machine.c: the KVM VM. A reset VM is a new one. */
int machine_create(struct vm *vm) MUST_CHECK;
void machine_destroy(struct vm *vm);
/** kvm_call() - ioctl that goes on after signals. Return: >= 0, -errno. */
int kvm_call(int fd, unsigned long request, const void *argument);
/** kvm_must() - the same; a failure is logged as of @vm. */
int kvm_must(struct vm *vm, int fd, unsigned long request, const void *argument,
	     const char *name) MUST_CHECK;

/* ---- vm.c */
/* States of ACRN's hypervisor; VM_NONE: there is none, or no longer. */
enum vm_state { VM_NONE, VM_CREATED, VM_RUNNING, VM_PAUSED };

struct vm {
	struct hsmd *hsmd;
	LIST_ENTRY(vm) link;
	unsigned int references; /* atomic: the file, and threads in calls */
	pthread_rwlock_t lock;
	enum vm_state state;
	uint16_t id;
	uint64_t affinity;

	int fd; /* of the KVM VM */
	unsigned int vcpu_count;
	struct vcpu vcpus[ACRN_IO_REQUEST_MAX];
	struct ioreq ioreq;
	struct memory memory;
	struct events events;
};

struct vm *vm_open(struct hsmd *hsmd);
/** vm_get() - keep @vm beyond the answer to a call, after which its file may be closed. */
void vm_get(struct vm *vm);
void vm_put(struct vm *vm);
/** vm_release() - the file is closed, by whatever way: nothing stays. */
void vm_release(struct vm *vm);
int vm_create(struct vm *vm, pid_t thread, struct acrn_vm_creation *creation) MUST_CHECK;
int vm_start(struct vm *vm) MUST_CHECK;
int vm_pause(struct vm *vm) MUST_CHECK;
int vm_reset(struct vm *vm) MUST_CHECK;
int vm_destroy(struct vm *vm) MUST_CHECK;
int vm_set_regs(struct vm *vm, const struct acrn_vcpu_regs *regs) MUST_CHECK;
/** vm_tear_down() - end the VM whatever it is doing. */
void vm_tear_down(struct vm *vm);

/* ---- ioctls.c */
/** ioctl_handle() - answers @req. */
void ioctl_handle(struct vm *vm, fuse_req_t req, unsigned int command, uint64_t argument);

/* ---- stats.c */
void stats_log(struct hsmd *hsmd);

#endif
