/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * machine.c: the KVM VM behind an ACRN VM. Resetting means a new one: then no state can be left
 * over, whatever KVM keeps.
 */
#include "hsmd.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Four pages that Intel CPUs without unrestricted guest mode need, just below the local APIC. */
#define IDENTITY_MAP_ADDRESS UINT64_C(0xfeffc000)
#define TSS_ADDRESS UINT64_C(0xfeffd000)

int kvm_call(int fd, unsigned long request, const void *argument)
{
	int ret;

	do {
		ret = ioctl(fd, request, argument);
	} while (ret < 0 && errno == EINTR);
	return ret < 0 ? -errno : ret;
}

int kvm_must(struct vm *vm, int fd, unsigned long request, const void *argument, const char *name)
{
	int ret = kvm_call(fd, request, argument);

	if (ret < 0)
		log_line(LOG_ERROR, "VM %u: %s: %s", vm->id, name, strerror(-ret));
	return ret < 0 ? ret : 0;
}

static int create_chips(struct vm *vm)
{
	const uint64_t identity_map = IDENTITY_MAP_ADDRESS;
	int ret = kvm_must(vm, vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map,
			   "KVM_SET_IDENTITY_MAP_ADDR");

	if (!ret)
		ret = kvm_must(vm, vm->fd, KVM_SET_TSS_ADDR, (void *)TSS_ADDRESS,
			       "KVM_SET_TSS_ADDR");
	/* No PIT: as on ACRN, timers are the device model's. */
	if (!ret)
		ret = kvm_must(vm, vm->fd, KVM_CREATE_IRQCHIP, NULL, "KVM_CREATE_IRQCHIP");
	return ret;
}

int machine_create(struct vm *vm)
{
	int ret;

	ret = kvm_call(vm->hsmd->kvm_fd, KVM_CREATE_VM, NULL);
	if (ret < 0) {
		log_line(LOG_ERROR, "VM %u: KVM_CREATE_VM: %s", vm->id, strerror(-ret));
		return ret;
	}
	vm->fd = ret;
	ret = create_chips(vm);
	for (unsigned int i = 0; !ret && i < vm->vcpu_count; i++)
		ret = vcpu_create(vm, i);
	if (!ret)
		ret = memory_install(vm);
	if (!ret)
		ret = events_install(vm);
	if (ret)
		machine_destroy(vm);
	return ret;
}

void machine_destroy(struct vm *vm)
{
	for (unsigned int i = 0; i < ACRN_IO_REQUEST_MAX; i++)
		vcpu_destroy(&vm->vcpus[i]);
	if (vm->fd >= 0)
		close(vm->fd);
	vm->fd = -1;
}
