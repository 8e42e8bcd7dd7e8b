/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vm.c: the life of a VM. States and what is allowed in them are the hypervisor's: a VM is created,
 * runs, is paused, and from there it can be reset (which makes it a created one) or destroyed.
 * Refused hypercalls return -1, which the driver passes on: EPERM.
 */
#include "hsmd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VM_ID_INVALID 0xffff /* ACRN_INVALID_VMID of the driver */

/* Flags of CREATE_VM, from the hypervisor's acrn_common.h. */
#define GUEST_FLAG_LAPIC_PASSTHROUGH (1u << 1)
#define GUEST_FLAG_IO_COMPLETION_POLLING (1u << 2)
#define GUEST_FLAG_RT (1u << 4)

struct vm *vm_open(struct hsmd *hsmd)
{
	struct vm *vm = calloc(1, sizeof(*vm));

	if (!vm)
		return NULL;
	vm->hsmd = hsmd;
	vm->references = 1;
	vm->fd = -1;
	vm->id = VM_ID_INVALID;
	pthread_rwlock_init(&vm->lock, NULL);
	ioreq_init(&vm->ioreq, hsmd);
	events_init(&vm->events);
	pthread_mutex_lock(&hsmd->lock);
	LIST_INSERT_HEAD(&hsmd->vms, vm, link);
	pthread_mutex_unlock(&hsmd->lock);
	return vm;
}

void vm_tear_down(struct vm *vm)
{
	if (vm->state == VM_NONE)
		return;
	vcpus_stop(vm);
	ioreq_client_destroy(&vm->ioreq);
	machine_destroy(vm);
	events_deinit(&vm->events);
	memory_deinit(&vm->memory);
	log_line(LOG_DEBUG, "VM %u destroyed", vm->id);
	vm->state = VM_NONE;
	pthread_mutex_lock(&vm->hsmd->lock);
	vm->id = VM_ID_INVALID;
	pthread_mutex_unlock(&vm->hsmd->lock);
}

void vm_get(struct vm *vm)
{
	__atomic_add_fetch(&vm->references, 1, __ATOMIC_RELAXED);
}

void vm_put(struct vm *vm)
{
	if (__atomic_sub_fetch(&vm->references, 1, __ATOMIC_ACQ_REL))
		return;
	ioreq_deinit(&vm->ioreq);
	pthread_mutex_destroy(&vm->events.lock);
	pthread_rwlock_destroy(&vm->lock);
	free(vm);
}

void vm_release(struct vm *vm)
{
	pthread_rwlock_wrlock(&vm->lock);
	vm_tear_down(vm);
	pthread_rwlock_unlock(&vm->lock);
	pthread_mutex_lock(&vm->hsmd->lock);
	LIST_REMOVE(vm, link);
	pthread_mutex_unlock(&vm->hsmd->lock);
	vm_put(vm);
}

static bool id_used(struct hsmd *hsmd, uint16_t id)
{
	struct vm *vm;

	for (vm = LIST_FIRST(&hsmd->vms); vm; vm = LIST_NEXT(vm, link)) {
		if (vm->id == id)
			return true;
	}
	return false;
}

/* The lowest that is free; the Service VM is 0. */
static void take_id(struct vm *vm)
{
	uint16_t id = 1;

	pthread_mutex_lock(&vm->hsmd->lock);
	while (id_used(vm->hsmd, id))
		id++;
	vm->id = id;
	pthread_mutex_unlock(&vm->hsmd->lock);
}

/* Every bit is a CPU of the VM; none: all that the host has, as a scenario would say. */
static int choose_cpus(struct vm *vm, const struct acrn_vm_creation *creation)
{
	unsigned int host = (unsigned int)CPU_COUNT(&vm->hsmd->cpus);

	vm->affinity = creation->cpu_affinity;
	vm->vcpu_count = (unsigned int)__builtin_popcountll(vm->affinity);
	if (!vm->affinity)
		vm->vcpu_count = host < ACRN_IO_REQUEST_MAX ? host : ACRN_IO_REQUEST_MAX;
	if (vm->vcpu_count <= ACRN_IO_REQUEST_MAX)
		return 0;
	log_line(LOG_ERROR, "CREATE_VM: cpu_affinity 0x%llx: more than %u CPUs",
		 (unsigned long long)vm->affinity, ACRN_IO_REQUEST_MAX);
	return -EINVAL;
}

static int check_flags(uint64_t flags)
{
	if (!(flags & GUEST_FLAG_LAPIC_PASSTHROUGH) || flags & GUEST_FLAG_RT)
		return 0;
	log_line(LOG_ERROR,
		 "CREATE_VM: vm_flag 0x%llx: LAPIC passthrough is for real-time VMs only",
		 (unsigned long long)flags);
	return -EINVAL;
}

/* Whatever goes wrong, the driver says EINVAL. */
int vm_create(struct vm *vm, pid_t thread, struct acrn_vm_creation *creation)
{
	bool polling = creation->vm_flag & GUEST_FLAG_IO_COMPLETION_POLLING;

	if (creation->reserved0 || creation->reserved1)
		return -EINVAL;
	if (vm->state != VM_NONE) {
		log_line(LOG_ERROR,
			 "CREATE_VM: VM %u is on this file already (one open file, one VM)",
			 vm->id);
		return -EINVAL;
	}
	if (check_flags(creation->vm_flag) || choose_cpus(vm, creation))
		return -EINVAL;
	if (ioreq_setup(&vm->ioreq, thread, creation->ioreq_buf, vm->vcpu_count, polling)) {
		log_line(LOG_ERROR, "CREATE_VM: ioreq_buf 0x%llx cannot be written in client %d",
			 (unsigned long long)creation->ioreq_buf, thread);
		return -EINVAL;
	}
	take_id(vm);
	if (machine_create(vm)) {
		pthread_mutex_lock(&vm->hsmd->lock);
		vm->id = VM_ID_INVALID;
		pthread_mutex_unlock(&vm->hsmd->lock);
		return -EINVAL;
	}
	vm->state = VM_CREATED;
	creation->vmid = vm->id;
	creation->vcpu_num = (uint16_t)vm->vcpu_count;
	log_line(LOG_DEBUG, "VM %u created: %u vCPUs, client %d", vm->id, vm->vcpu_count, thread);
	return 0;
}

int vm_start(struct vm *vm)
{
	int ret = 0;

	if (vm->state != VM_CREATED) {
		log_line(LOG_ERROR, "START_VM: VM %u is %s (ACRN starts what was created or reset)",
			 vm->id, vm->state == VM_PAUSED ? "paused" : "running");
		return -EPERM;
	}
	for (unsigned int i = 0; !ret && i < vm->vcpu_count; i++)
		ret = vcpu_start_thread(&vm->vcpus[i]);
	if (ret)
		vcpus_stop(vm);
	vm->state = ret ? VM_PAUSED : VM_RUNNING;
	return ret;
}

int vm_pause(struct vm *vm)
{
	vcpus_stop(vm);
	vm->state = VM_PAUSED;
	return 0;
}

/* KVM's clock starts at 0 in a new machine, and a guest that wakes up would see it go back. */
static int machine_renew(struct vm *vm)
{
	struct kvm_clock_data old = { 0 }, new = { 0 };
	bool known = kvm_call(vm->fd, KVM_GET_CLOCK, &old) >= 0;
	int ret;

	machine_destroy(vm);
	ret = machine_create(vm);
	new.clock = old.clock;
	if (!ret && known)
		ret = kvm_must(vm, vm->fd, KVM_SET_CLOCK, &new, "KVM_SET_CLOCK");
	return ret;
}

int vm_reset(struct vm *vm)
{
	if (vm->state != VM_PAUSED) {
		log_line(LOG_ERROR, "RESET_VM: VM %u is not paused (PAUSE_VM first)", vm->id);
		return -EPERM;
	}
	if (machine_renew(vm))
		return -EPERM;
	ioreq_restart(&vm->ioreq);
	vm->state = VM_CREATED;
	return 0;
}

int vm_destroy(struct vm *vm)
{
	if (vm->state != VM_PAUSED) {
		log_line(LOG_ERROR, "DESTROY_VM: VM %u is not paused (PAUSE_VM first)", vm->id);
		return -EPERM;
	}
	vm_tear_down(vm);
	return 0;
}

static bool reserved_is_zero(const struct acrn_vcpu_regs *args)
{
	const struct acrn_regs *regs = &args->vcpu_regs;
	uint64_t bits = 0;

	for (size_t i = 0; i < ARRAY_SIZE(args->reserved); i++)
		bits |= args->reserved[i];
	for (size_t i = 0; i < ARRAY_SIZE(regs->reserved_32); i++)
		bits |= regs->reserved_32[i];
	for (size_t i = 0; i < ARRAY_SIZE(regs->reserved_64); i++)
		bits |= regs->reserved_64[i];
	for (size_t i = 0; i < ARRAY_SIZE(regs->gdt.reserved); i++)
		bits |= regs->gdt.reserved[i] | regs->idt.reserved[i];
	return !bits;
}

int vm_set_regs(struct vm *vm, const struct acrn_vcpu_regs *regs)
{
	if (!reserved_is_zero(regs))
		return -EINVAL;
	if (vm->state == VM_RUNNING || regs->vcpu_id >= vm->vcpu_count || vm->fd < 0)
		return -EPERM;
	return cpu_state_set(&vm->vcpus[regs->vcpu_id], &regs->vcpu_regs) ? -EPERM : 0;
}
