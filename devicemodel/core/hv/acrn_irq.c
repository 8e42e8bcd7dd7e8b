/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * acrn_irq.c: interrupts into the guest and notifications out of it: lines, messages, irqfds and
 * ioeventfds.
 *
 * The driver knows registrations by their eventfd alone: what is removed is the oldest one of an
 * eventfd, and an eventfd has one message. The tables here know which one is meant.
 */
#include "acrn.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#define LINE_HIGH UINT64_C(0) /* ACRN hypervisor, acrn_common.h: GSI_SET_HIGH, GSI_SET_LOW */
#define LINE_LOW UINT64_C(1)

/* ---- Lines and messages */

/* line_lock. Both halves go by value: operation and line. */
static int set_line(struct acrn_vm *vm, unsigned int line, bool level)
{
	uint64_t command = (level ? LINE_HIGH : LINE_LOW) << 32 | line;
	int ret = acrn_ioctl(vm, ACRN_IOCTL_SET_IRQLINE, (void *)(uintptr_t)command);

	if (ret < 0)
		return ret;
	vm->lines = level ? vm->lines | BIT32(line) : vm->lines & ~BIT32(line);
	return 0;
}

int acrn_irq_line(struct vmctx *ctx, unsigned int gsi, bool level)
{
	struct acrn_vm *vm = ctx->hv_data;
	int line = acrn_arch_line(gsi);
	bool before;
	int ret = 0;

	if (line < 0)
		return line;
	pthread_mutex_lock(&vm->line_lock);
	before = vm->lines & BIT32(line);
	if (before != level)
		ret = set_line(vm, (unsigned int)line, level);
	pthread_mutex_unlock(&vm->line_lock);
	return ret;
}

void acrn_irq_reset(struct acrn_vm *vm)
{
	pthread_mutex_lock(&vm->line_lock);
	for (unsigned int line = 0; line < ACRN_LINES; line++)
		if (vm->lines & BIT32(line))
			(void)set_line(vm, line, false);
	vm->lines = 0;
	pthread_mutex_unlock(&vm->line_lock);
}

int acrn_irq_msi(struct vmctx *ctx, const struct hv_msi *msi)
{
	struct acrn_msi_entry entry = { .msi_addr = msi->addr, .msi_data = msi->data };
	int ret;

	if (!acrn_arch_msi_valid(msi))
		return -EINVAL;
	ret = acrn_ioctl(ctx->hv_data, ACRN_IOCTL_INJECT_MSI, &entry);
	return ret < 0 ? ret : 0;
}

/* ---- ioeventfds */

#define KICK_LEN 2 /* of a virtio notification */

static int kick_ioctl(struct acrn_vm *vm, const struct hv_ioeventfd *io, uint32_t flags)
{
	struct acrn_ioeventfd kick = {
		.fd = (uint32_t)io->fd,
		.flags = flags,
		.addr = io->addr,
		.len = io->len,
		.data = io->data,
	};
	int ret;

	if (io->flags & HV_IOEVENTFD_PIO)
		kick.flags |= ACRN_IOEVENTFD_FLAG_PIO;
	if (io->flags & HV_IOEVENTFD_DATAMATCH)
		kick.flags |= ACRN_IOEVENTFD_FLAG_DATAMATCH;
	ret = acrn_ioctl(vm, ACRN_IOCTL_IOEVENTFD, &kick);
	return ret < 0 ? ret : 0;
}

/*
 * Would one write be for both? The driver asks that of the same eventfd only, and signals whichever
 * was there first; it takes any write up to the registered length, so that lengths do not matter.
 */
static bool kicks_conflict(const struct hv_ioeventfd *a, const struct hv_ioeventfd *b)
{
	if (a->addr != b->addr || (a->flags ^ b->flags) & HV_IOEVENTFD_PIO)
		return false;
	return !(a->flags & b->flags & HV_IOEVENTFD_DATAMATCH) || a->data == b->data;
}

/* event_lock */
static int kick_add(struct acrn_vm *vm, const struct hv_ioeventfd *io)
{
	int ret;

	for (unsigned int i = 0; i < vm->kick_count; i++)
		if (kicks_conflict(&vm->kicks[i], io))
			return -EEXIST;
	if (vm->kick_count == ACRN_KICKS)
		return -ENOSPC;
	ret = kick_ioctl(vm, io, 0);
	if (!ret)
		vm->kicks[vm->kick_count++] = *io;
	return ret;
}

static bool same_kick(const struct hv_ioeventfd *a, const struct hv_ioeventfd *b)
{
	return a->fd == b->fd && a->addr == b->addr && a->len == b->len && a->flags == b->flags &&
	       (!(a->flags & HV_IOEVENTFD_DATAMATCH) || a->data == b->data);
}

/* event_lock. Take the oldest kick of @fd away from the driver and out of the table. */
static int kick_take(struct acrn_vm *vm, int fd, struct hv_ioeventfd *taken)
{
	unsigned int i = 0;
	int ret;

	while (vm->kicks[i].fd != fd)
		i++;
	*taken = vm->kicks[i];
	ret = kick_ioctl(vm, taken, ACRN_IOEVENTFD_FLAG_DEASSIGN);
	vm->kick_count--;
	memmove(&vm->kicks[i], &vm->kicks[i + 1], (vm->kick_count - i) * sizeof(vm->kicks[0]));
	return ret;
}

/*
 * event_lock. Older kicks of the same eventfd have to go first, and come back behind the others.
 * In the meantime they trap, and so does for good what does not come back.
 */
static int kick_remove(struct acrn_vm *vm, const struct hv_ioeventfd *io)
{
	unsigned int place = 0, older = 0;
	struct hv_ioeventfd taken;
	int ret;

	while (place < vm->kick_count && !same_kick(&vm->kicks[place], io))
		older += vm->kicks[place++].fd == io->fd;
	if (place == vm->kick_count)
		return -ENOENT;
	for (;;) {
		ret = kick_take(vm, io->fd, &taken);
		if (!older--)
			return ret;
		ret = kick_add(vm, &taken);
		if (ret)
			log_debug(vm->ctx->log, "acrn: an ioeventfd is lost: %s", strerror(-ret));
	}
}

int acrn_irq_ioeventfd(struct vmctx *ctx, const struct hv_ioeventfd *io, bool add)
{
	struct acrn_vm *vm = ctx->hv_data;
	struct hv_ioeventfd kick = *io;
	int ret;

	if (!kick.len)
		kick.len = KICK_LEN;
	if (kick.flags & ~(uint32_t)(HV_IOEVENTFD_PIO | HV_IOEVENTFD_DATAMATCH))
		return -EINVAL;
	if (kick.len > 8 || !is_power_of_2(kick.len) || kick.addr + kick.len < kick.addr)
		return -EINVAL;
	pthread_mutex_lock(&vm->event_lock);
	ret = add ? kick_add(vm, &kick) : kick_remove(vm, &kick);
	pthread_mutex_unlock(&vm->event_lock);
	return ret;
}

/* ---- irqfds */

static int route_ioctl(struct acrn_vm *vm, const struct acrn_route *route, uint32_t flags)
{
	struct acrn_irqfd irqfd = {
		.fd = route->fd,
		.flags = flags,
		.msi = { .msi_addr = route->msi.addr, .msi_data = route->msi.data },
	};
	int ret = acrn_ioctl(vm, ACRN_IOCTL_IRQFD, &irqfd);

	return ret < 0 ? ret : 0;
}

/*
 * Tell the driver of @route, unless no interrupt controller takes its message: the hypervisor would
 * refuse it at each signal, and the kernel log it.
 */
static int route_bind(struct acrn_vm *vm, struct acrn_route *route)
{
	int ret = 0;

	if (acrn_arch_msi_valid(&route->msi))
		ret = route_ioctl(vm, route, 0);
	route->bound = !ret && acrn_arch_msi_valid(&route->msi);
	return ret;
}

static int route_unbind(struct acrn_vm *vm, struct acrn_route *route)
{
	int ret = 0;

	if (route->bound)
		ret = route_ioctl(vm, route, ACRN_IRQFD_FLAG_DEASSIGN);
	if (!ret)
		route->bound = false;
	return ret;
}

/* What was signalled for a message that nobody takes is gone, as a write to that address would be. */
static void drop_signals(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	uint64_t count;

	if (poll(&poll_fd, 1, 0) == 1 && read(fd, &count, sizeof(count)) < 0)
		return;
}

static struct acrn_route *route_find(struct acrn_vm *vm, int handle)
{
	if (handle < 0 || handle >= ACRN_ROUTES || !vm->routes[handle].used)
		return NULL;
	return &vm->routes[handle];
}

/* event_lock */
static int route_add(struct acrn_vm *vm, int fd, const struct hv_msi *msi)
{
	int handle = -1;
	int ret;

	for (int i = ACRN_ROUTES - 1; i >= 0; i--) {
		if (!vm->routes[i].used)
			handle = i;
		else if (vm->routes[i].fd == fd)
			return -EBUSY;
	}
	if (handle < 0)
		return -ENOSPC;
	vm->routes[handle] = (struct acrn_route) { .fd = fd, .msi = *msi };
	ret = route_bind(vm, &vm->routes[handle]);
	vm->routes[handle].used = !ret;
	return ret ? ret : handle;
}

int acrn_irq_irqfd_add(struct vmctx *ctx, int fd, const struct hv_msi *msi)
{
	struct acrn_vm *vm = ctx->hv_data;
	int ret;

	if (fd < 0)
		return -EBADF;
	pthread_mutex_lock(&vm->event_lock);
	ret = route_add(vm, fd, msi);
	pthread_mutex_unlock(&vm->event_lock);
	return ret;
}

/*
 * event_lock. The driver cannot change a message. What is signalled between the two calls stays in
 * the eventfd's counter, and the driver looks at that when it gets the eventfd again: no interrupt
 * is lost.
 */
static int route_update(struct acrn_vm *vm, struct acrn_route *route, const struct hv_msi *msi)
{
	struct hv_msi old = route->msi;
	bool was_bound = route->bound;
	int ret;

	if (old.addr == msi->addr && old.data == msi->data)
		return 0;
	ret = route_unbind(vm, route);
	if (ret)
		return ret;
	if (!was_bound)
		drop_signals(route->fd);
	route->msi = *msi;
	ret = route_bind(vm, route);
	if (!ret)
		return 0;
	route->msi = old;
	if (was_bound && route_bind(vm, route))
		log_guest(vm->ctx->log, "acrn: an interrupt eventfd is lost: %s", strerror(-ret));
	return ret;
}

int acrn_irq_irqfd_update(struct vmctx *ctx, int handle, const struct hv_msi *msi)
{
	struct acrn_vm *vm = ctx->hv_data;
	struct acrn_route *route;
	int ret = -EINVAL;

	pthread_mutex_lock(&vm->event_lock);
	route = route_find(vm, handle);
	if (route)
		ret = route_update(vm, route, msi);
	pthread_mutex_unlock(&vm->event_lock);
	return ret;
}

void acrn_irq_irqfd_remove(struct vmctx *ctx, int handle, int fd)
{
	struct acrn_vm *vm = ctx->hv_data;
	struct acrn_route *route;
	int ret = 0;

	pthread_mutex_lock(&vm->event_lock);
	route = route_find(vm, handle);
	if (route) {
		/* Returns when no interrupt of it is under way any more. */
		ret = route_unbind(vm, route);
		route->used = false;
	}
	pthread_mutex_unlock(&vm->event_lock);
	if (ret)
		log_guest(ctx->log, "acrn: cannot unbind an interrupt eventfd: %s", strerror(-ret));
}
