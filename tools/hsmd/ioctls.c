/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ioctls.c: the calls of <linux/acrn.h>, as Linux's drivers/virt/acrn/hsm.c takes them: what is
 * copied in before anything is checked, which order is allowed, which errno comes back.
 */
#include "hsmd.h"

#include <errno.h>
#include <string.h>

/* One call: who calls, with which argument, and a copy of what that points to. */
struct call {
	pid_t thread;
	uint64_t argument;
	union {
		struct acrn_vm_creation creation;
		struct acrn_vcpu_regs regs;
		struct acrn_vm_memmap memmap;
		struct acrn_ioreq_notify notify;
		struct acrn_msi_entry msi;
		struct acrn_ioeventfd ioeventfd;
		struct acrn_irqfd irqfd;
		uint64_t pm_command;
		struct acrn_pcidev pcidev;
		struct acrn_mmiodev mmiodev;
		struct acrn_ptdev_irq ptdev_irq;
		struct acrn_vdev vdev;
	} data;
};

static int create_vm(struct vm *vm, struct call *call)
{
	struct acrn_vm_creation *creation = &call->data.creation;
	int ret = vm_create(vm, call->thread, creation);

	if (ret)
		return ret;
	ret = client_write(call->thread, call->argument, creation, sizeof(*creation));
	if (ret)
		vm_tear_down(vm);
	return ret;
}

static int start_vm(struct vm *vm, struct call *call)
{
	return vm_start(vm);
}

static int pause_vm(struct vm *vm, struct call *call)
{
	return vm_pause(vm);
}

static int reset_vm(struct vm *vm, struct call *call)
{
	return vm_reset(vm);
}

static int destroy_vm(struct vm *vm, struct call *call)
{
	return vm_destroy(vm);
}

static int set_vcpu_regs(struct vm *vm, struct call *call)
{
	return vm_set_regs(vm, &call->data.regs);
}

static int set_memseg(struct vm *vm, struct call *call)
{
	return memory_set(vm, call->thread, &call->data.memmap);
}

static int unset_memseg(struct vm *vm, struct call *call)
{
	return memory_unset(vm, &call->data.memmap);
}

static int inject_msi(struct vm *vm, struct call *call)
{
	return irq_message(vm, &call->data.msi);
}

/* The argument itself is the value. */
static int set_irqline(struct vm *vm, struct call *call)
{
	return irq_set_line(vm, (uint32_t)call->argument, (uint32_t)(call->argument >> 32));
}

static int create_client(struct vm *vm, struct call *call)
{
	return ioreq_client_create(&vm->ioreq);
}

static int destroy_client(struct vm *vm, struct call *call)
{
	ioreq_client_destroy(&vm->ioreq);
	return 0;
}

static int notify_finish(struct vm *vm, struct call *call)
{
	if (call->data.notify.reserved)
		return -EINVAL;
	/* The driver's parameter has 16 bits. */
	return ioreq_finish(&vm->ioreq, (uint16_t)call->data.notify.vcpu);
}

static int clear_ioreq(struct vm *vm, struct call *call)
{
	ioreq_clear(&vm->ioreq);
	return 0;
}

static int set_ioeventfd(struct vm *vm, struct call *call)
{
	return ioeventfd_config(vm, call->thread, &call->data.ioeventfd);
}

static int set_irqfd(struct vm *vm, struct call *call)
{
	return irqfd_config(vm, call->thread, &call->data.irqfd);
}

/* No data about C and P states; of other commands the driver says nothing. */
static int pm_get_cpu_state(struct vm *vm, struct call *call)
{
	return (call->data.pm_command & PMCMD_TYPE_MASK) <= ACRN_PMCMD_GET_CX_DATA ? -EPERM : 0;
}

/* The page that VM_INTR_MONITOR names, from the hypervisor's acrn_common.h; counters follow. */
#define INTERRUPT_MONITOR_COUNTERS 48
enum { INTERRUPT_MONITOR_GET, INTERRUPT_MONITOR_DELAY };
struct interrupt_monitor {
	uint32_t command;
	uint32_t count;
};

/* It counts interrupts of devices passed through, of which there are none. */
static int monitor_interrupts(struct vm *vm, struct call *call)
{
	uint64_t page = call->argument & ~(uint64_t)(GUEST_PAGE_SIZE - 1);
	struct interrupt_monitor monitor;

	if (client_read(call->thread, page, &monitor, sizeof(monitor)))
		return -EFAULT;
	if (monitor.count > INTERRUPT_MONITOR_COUNTERS || monitor.command > INTERRUPT_MONITOR_DELAY)
		return -EINVAL;
	if (monitor.command == INTERRUPT_MONITOR_GET)
		monitor.count = 0;
	return client_write(call->thread, page, &monitor, sizeof(monitor));
}

/* Nothing can be passed through: the answers of a hypervisor that finds no such device. */
static int no_pci_device(struct vm *vm, struct call *call)
{
	log_line(LOG_ERROR,
		 "VM %u: PCI device %04x cannot be assigned: hsmd passes no devices through",
		 vm->id, call->data.pcidev.phys_bdf);
	return vm->state == VM_RUNNING ? -EINVAL : -ENODEV;
}

static int no_interrupt(struct vm *vm, struct call *call)
{
	return -EPERM;
}

static int no_device(struct vm *vm, struct call *call)
{
	return -EINVAL;
}

/* What a call does to the VM, and so how it is locked. */
enum effect { USES_VM, CHANGES_VM };

static const struct ioctl_entry {
	unsigned int command;
	size_t size; /* of what is copied in */
	enum effect effect;
	int (*handle)(struct vm *vm, struct call *call);
} entries[] = {
	{ ACRN_IOCTL_NOTIFY_REQUEST_FINISH, sizeof(struct acrn_ioreq_notify), USES_VM,
	  notify_finish },
	{ ACRN_IOCTL_INJECT_MSI, sizeof(struct acrn_msi_entry), USES_VM, inject_msi },
	{ ACRN_IOCTL_SET_IRQLINE, 0, USES_VM, set_irqline },
	{ ACRN_IOCTL_CREATE_VM, sizeof(struct acrn_vm_creation), CHANGES_VM, create_vm },
	{ ACRN_IOCTL_DESTROY_VM, 0, CHANGES_VM, destroy_vm },
	{ ACRN_IOCTL_START_VM, 0, CHANGES_VM, start_vm },
	{ ACRN_IOCTL_PAUSE_VM, 0, CHANGES_VM, pause_vm },
	{ ACRN_IOCTL_RESET_VM, 0, CHANGES_VM, reset_vm },
	{ ACRN_IOCTL_SET_VCPU_REGS, sizeof(struct acrn_vcpu_regs), CHANGES_VM, set_vcpu_regs },
	{ ACRN_IOCTL_SET_MEMSEG, sizeof(struct acrn_vm_memmap), CHANGES_VM, set_memseg },
	{ ACRN_IOCTL_UNSET_MEMSEG, sizeof(struct acrn_vm_memmap), CHANGES_VM, unset_memseg },
	{ ACRN_IOCTL_CREATE_IOREQ_CLIENT, 0, USES_VM, create_client },
	{ ACRN_IOCTL_DESTROY_IOREQ_CLIENT, 0, USES_VM, destroy_client },
	{ ACRN_IOCTL_CLEAR_VM_IOREQ, 0, USES_VM, clear_ioreq },
	{ ACRN_IOCTL_IOEVENTFD, sizeof(struct acrn_ioeventfd), USES_VM, set_ioeventfd },
	{ ACRN_IOCTL_IRQFD, sizeof(struct acrn_irqfd), USES_VM, set_irqfd },
	{ ACRN_IOCTL_VM_INTR_MONITOR, 0, USES_VM, monitor_interrupts },
	{ ACRN_IOCTL_PM_GET_CPU_STATE, sizeof(uint64_t), USES_VM, pm_get_cpu_state },
	{ ACRN_IOCTL_ASSIGN_PCIDEV, sizeof(struct acrn_pcidev), USES_VM, no_pci_device },
	{ ACRN_IOCTL_DEASSIGN_PCIDEV, sizeof(struct acrn_pcidev), USES_VM, no_pci_device },
	{ ACRN_IOCTL_ASSIGN_MMIODEV, sizeof(struct acrn_mmiodev), USES_VM, no_device },
	{ ACRN_IOCTL_DEASSIGN_MMIODEV, sizeof(struct acrn_mmiodev), USES_VM, no_device },
	{ ACRN_IOCTL_SET_PTDEV_INTR, sizeof(struct acrn_ptdev_irq), USES_VM, no_interrupt },
	{ ACRN_IOCTL_RESET_PTDEV_INTR, sizeof(struct acrn_ptdev_irq), USES_VM, no_interrupt },
	{ ACRN_IOCTL_CREATE_VDEV, sizeof(struct acrn_vdev), USES_VM, no_device },
	{ ACRN_IOCTL_DESTROY_VDEV, sizeof(struct acrn_vdev), USES_VM, no_device },
};

static const struct ioctl_entry *find_entry(unsigned int command)
{
	for (size_t i = 0; i < ARRAY_SIZE(entries); i++) {
		if (entries[i].command == command)
			return &entries[i];
	}
	return NULL;
}

static void lock_vm(struct vm *vm, enum effect effect)
{
	if (effect == CHANGES_VM)
		pthread_rwlock_wrlock(&vm->lock);
	else
		pthread_rwlock_rdlock(&vm->lock);
}

/* vm->lock is held. */
static int handle(struct vm *vm, const struct ioctl_entry *entry, unsigned int command,
		  struct call *call)
{
	if (vm->state == VM_NONE && command != ACRN_IOCTL_CREATE_VM)
		return -EINVAL;
	if (!entry) {
		log_line(LOG_DEBUG, "VM %u: unknown ioctl 0x%x", vm->id, command);
		return -ENOTTY;
	}
	if (entry->size && client_read(call->thread, call->argument, &call->data, entry->size))
		return -EFAULT;
	return entry->handle(vm, call);
}

static void attach(struct vm *vm, fuse_req_t req)
{
	vm_get(vm);
	pthread_rwlock_rdlock(&vm->lock);
	if (vm->state == VM_NONE)
		fuse_reply_err(req, EINVAL);
	else
		ioreq_attach(&vm->ioreq, req);
	pthread_rwlock_unlock(&vm->lock);
	vm_put(vm);
}

void ioctl_handle(struct vm *vm, fuse_req_t req, unsigned int command, uint64_t argument)
{
	const struct ioctl_entry *entry = find_entry(command);
	struct call call = { .thread = fuse_req_ctx(req)->pid, .argument = argument };
	int ret;

	if (command == ACRN_IOCTL_ATTACH_IOREQ_CLIENT) {
		attach(vm, req);
		return;
	}
	lock_vm(vm, entry ? entry->effect : USES_VM);
	ret = handle(vm, entry, command, &call);
	pthread_rwlock_unlock(&vm->lock);
	if (ret < 0)
		fuse_reply_err(req, -ret);
	else
		fuse_reply_ioctl(req, 0, NULL, 0);
}
