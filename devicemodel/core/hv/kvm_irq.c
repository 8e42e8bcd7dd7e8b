/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kvm_irq.c: interrupts into the guest and notifications out of it, without a vCPU's help: lines,
 * messages, irqfds and ioeventfds.
 *
 * KVM's irqfds signal a GSI, and a table says what a GSI is: below kvm_arch_gsi_base() a line of
 * the interrupt controllers, above it a message. A handle is the message's place in msi_routes.
 */
#include "kvm.h"

#include <errno.h>
#include <stdlib.h>

int kvm_irq_line(struct vmctx *ctx, unsigned int gsi, bool level)
{
	struct kvm_vm *vm = ctx->hv_data;
	struct kvm_irq_level line = { .irq = gsi, .level = level };
	int ret;

	if (gsi >= kvm_arch_gsi_base())
		return -EINVAL;
	ret = kvm_ioctl(vm->vm_fd, KVM_IRQ_LINE, &line);
	return ret < 0 ? ret : 0;
}

int kvm_irq_msi(struct vmctx *ctx, const struct hv_msi *msi)
{
	struct kvm_vm *vm = ctx->hv_data;
	struct kvm_msi message = {
		.address_lo = (uint32_t)msi->addr,
		.address_hi = msi->addr >> 32,
		.data = msi->data,
	};
	int ret;

	if (!kvm_arch_msi_valid(msi))
		return -EINVAL;
	/* 0: the guest has the interrupt blocked, which is its business (KVM API 4.70). */
	ret = kvm_ioctl(vm->vm_fd, KVM_SIGNAL_MSI, &message);
	return ret < 0 ? ret : 0;
}

int kvm_irq_ioeventfd(struct vmctx *ctx, const struct hv_ioeventfd *io, bool add)
{
	struct kvm_vm *vm = ctx->hv_data;
	struct kvm_ioeventfd kick = {
		.datamatch = io->data,
		.addr = io->addr,
		.len = io->len,
		.fd = io->fd,
	};
	int ret;

	if (io->flags & ~(uint32_t)(HV_IOEVENTFD_PIO | HV_IOEVENTFD_DATAMATCH))
		return -EINVAL;
	if (!io->len && !vm->any_length)
		kick.len = 2;
	if (io->flags & HV_IOEVENTFD_PIO)
		kick.flags |= KVM_IOEVENTFD_FLAG_PIO;
	if (io->flags & HV_IOEVENTFD_DATAMATCH)
		kick.flags |= KVM_IOEVENTFD_FLAG_DATAMATCH;
	if (!add)
		kick.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
	ret = kvm_ioctl(vm->vm_fd, KVM_IOEVENTFD, &kick);
	return ret < 0 ? ret : 0;
}

static void fill_msi_route(struct kvm_irq_routing_entry *entry, unsigned int gsi,
			   const struct hv_msi *msi)
{
	*entry = (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_MSI,
		.u.msi = {
			.address_lo = (uint32_t)msi->addr,
			.address_hi = msi->addr >> 32,
			.data = msi->data,
		},
	};
}

/*
 * Tell KVM all routes; route_lock. A message that no interrupt controller would take has no route:
 * what is signalled for it is dropped, as a write to such an address would be.
 */
static int set_routing(struct kvm_vm *vm)
{
	struct kvm_irq_routing *routing = vm->routing;
	unsigned int base = kvm_arch_gsi_base();
	int ret;

	routing->nr = kvm_arch_line_routes(routing->entries);
	for (unsigned int i = 0; i < KVM_MSI_ROUTES; i++) {
		const struct kvm_msi_route *route = &vm->msi_routes[i];

		if (route->used && kvm_arch_msi_valid(&route->msi))
			fill_msi_route(&routing->entries[routing->nr++], base + i, &route->msi);
	}
	ret = kvm_ioctl(vm->vm_fd, KVM_SET_GSI_ROUTING, routing);
	return ret < 0 ? ret : 0;
}

/* The lines' routes are set at once: KVM's own default wires the timer otherwise. */
int kvm_irq_init(struct vmctx *ctx)
{
	struct kvm_vm *vm = ctx->hv_data;
	unsigned int room = kvm_arch_line_routes(NULL) + KVM_MSI_ROUTES;
	int ret;

	vm->routing = calloc(1, sizeof(*vm->routing) + room * sizeof(vm->routing->entries[0]));
	if (!vm->routing) {
		log_error(ctx->log, "kvm: out of memory");
		return -ENOMEM;
	}
	ret = set_routing(vm);
	if (ret)
		log_error(ctx->log, "kvm: KVM_SET_GSI_ROUTING: %s (see the host's kernel log)",
			  strerror(-ret));
	return ret;
}

void kvm_irq_deinit(struct kvm_vm *vm)
{
	free(vm->routing);
	vm->routing = NULL;
}

static int bind_irqfd(struct kvm_vm *vm, int handle, int fd, uint32_t flags)
{
	struct kvm_irqfd irqfd = {
		.fd = fd,
		.gsi = kvm_arch_gsi_base() + handle,
		.flags = flags,
	};
	int ret = kvm_ioctl(vm->vm_fd, KVM_IRQFD, &irqfd);

	return ret < 0 ? ret : 0;
}

/* A free place in the table, or -ENOSPC; route_lock. */
static int find_free_route(const struct kvm_vm *vm)
{
	for (int i = 0; i < KVM_MSI_ROUTES; i++) {
		if (!vm->msi_routes[i].used)
			return i;
	}
	return -ENOSPC;
}

/* route_lock */
static int add_route(struct kvm_vm *vm, int fd, const struct hv_msi *msi)
{
	int handle = find_free_route(vm);
	int ret;

	if (handle < 0)
		return handle;
	vm->msi_routes[handle] = (struct kvm_msi_route) { .used = true, .msi = *msi };
	ret = set_routing(vm);
	if (!ret)
		ret = bind_irqfd(vm, handle, fd, 0);
	if (!ret)
		return handle;
	/* The route may stay with KVM until the next change: nothing signals its GSI. */
	vm->msi_routes[handle].used = false;
	return ret;
}

int kvm_irq_irqfd_add(struct vmctx *ctx, int fd, const struct hv_msi *msi)
{
	struct kvm_vm *vm = ctx->hv_data;
	int ret;

	pthread_mutex_lock(&vm->route_lock);
	ret = add_route(vm, fd, msi);
	pthread_mutex_unlock(&vm->route_lock);
	return ret;
}

static bool route_is_used(const struct kvm_vm *vm, int handle)
{
	return handle >= 0 && handle < KVM_MSI_ROUTES && vm->msi_routes[handle].used;
}

/* route_lock */
static int update_route(struct kvm_vm *vm, int handle, const struct hv_msi *msi)
{
	struct kvm_msi_route *route;
	struct hv_msi old;
	int ret;

	if (!route_is_used(vm, handle))
		return -EINVAL;
	route = &vm->msi_routes[handle];
	if (route->msi.addr == msi->addr && route->msi.data == msi->data)
		return 0;
	old = route->msi;
	route->msi = *msi;
	ret = set_routing(vm);
	if (ret)
		route->msi = old;
	return ret;
}

int kvm_irq_irqfd_update(struct vmctx *ctx, int handle, const struct hv_msi *msi)
{
	struct kvm_vm *vm = ctx->hv_data;
	int ret;

	pthread_mutex_lock(&vm->route_lock);
	ret = update_route(vm, handle, msi);
	pthread_mutex_unlock(&vm->route_lock);
	return ret;
}

void kvm_irq_irqfd_remove(struct vmctx *ctx, int handle, int fd)
{
	struct kvm_vm *vm = ctx->hv_data;
	int ret;

	pthread_mutex_lock(&vm->route_lock);
	if (route_is_used(vm, handle)) {
		/* Returns when no interrupt of it is under way any more. */
		ret = bind_irqfd(vm, handle, fd, KVM_IRQFD_FLAG_DEASSIGN);
		if (ret)
			log_guest(ctx->log, "kvm: cannot unbind an interrupt eventfd: %s",
				  strerror(-ret));
		vm->msi_routes[handle].used = false;
	}
	pthread_mutex_unlock(&vm->route_lock);
}
