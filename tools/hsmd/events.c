/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * events.c: eventfds that a guest's writes signal, and eventfds that interrupt the guest.
 *
 * Which write belongs to which ioeventfd is the driver's rule: the first that was registered at
 * exactly that address, with at least that length and no other data; accesses inside a registered
 * range that match none do nothing, and reads give 0. KVM's rule is narrower, so KVM gets those for
 * which it comes to the same (the fast path), and the rest is looked up here.
 */
#include "hsmd.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define IRQFDS_MAX 1024 /* KVM has 4096 routes */
#define IOEVENTFDS_MAX 1024

void events_init(struct events *events)
{
	pthread_mutex_init(&events->lock, NULL);
	TAILQ_INIT(&events->ioeventfds);
	TAILQ_INIT(&events->irqfds);
}

static void put_signal(struct signal_fd *signal)
{
	if (--signal->references)
		return;
	close(signal->fd);
	free(signal);
}

void events_deinit(struct events *events)
{
	struct ioeventfd *ioeventfd;
	struct irqfd *irqfd;

	while ((ioeventfd = TAILQ_FIRST(&events->ioeventfds))) {
		TAILQ_REMOVE(&events->ioeventfds, ioeventfd, link);
		put_signal(ioeventfd->signal);
		free(ioeventfd);
	}
	while ((irqfd = TAILQ_FIRST(&events->irqfds))) {
		TAILQ_REMOVE(&events->irqfds, irqfd, link);
		close(irqfd->fd);
		free(irqfd);
	}
}

/* ---- ioeventfds */

static int kvm_ioeventfd(struct vm *vm, const struct ioeventfd *ioeventfd, bool remove)
{
	struct kvm_ioeventfd args = {
		.addr = ioeventfd->address,
		.len = ioeventfd->length,
		.fd = ioeventfd->signal->fd,
		.datamatch = ioeventfd->data,
	};

	if (ioeventfd->type == ACRN_IOREQ_TYPE_PORTIO)
		args.flags |= KVM_IOEVENTFD_FLAG_PIO;
	if (!ioeventfd->wildcard)
		args.flags |= KVM_IOEVENTFD_FLAG_DATAMATCH;
	if (remove)
		args.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
	return kvm_call(vm->fd, KVM_IOEVENTFD, &args);
}

/* True if no write that KVM would give to @new is an older one's. */
static bool fits_kvm(struct events *events, const struct ioeventfd *new)
{
	struct ioeventfd *old;

	for (old = TAILQ_FIRST(&events->ioeventfds); old; old = TAILQ_NEXT(old, link)) {
		if (old->type == new->type && old->address == new->address &&
		    (old->length != new->length || old->wildcard || new->wildcard ||
		     old->data == new->data))
			return false;
	}
	/* The configuration ports come first. */
	return new->type != ACRN_IOREQ_TYPE_PORTIO || new->address + new->length <= 0xcf8 ||
	       new->address > 0xcff;
}

static bool conflicts(struct events *events, const struct ioeventfd *new)
{
	struct ioeventfd *old;

	for (old = TAILQ_FIRST(&events->ioeventfds); old; old = TAILQ_NEXT(old, link)) {
		if (old->signal->id == new->signal->id && old->address == new->address &&
		    old->type == new->type &&
		    (old->wildcard || new->wildcard || old->data == new->data))
			return true;
	}
	return false;
}

/* For @fd, which it closes if an ioeventfd has a duplicate of that eventfd already. */
static struct signal_fd *get_signal(struct events *events, int fd, uint64_t id)
{
	struct signal_fd *signal;
	struct ioeventfd *entry;

	for (entry = TAILQ_FIRST(&events->ioeventfds); entry; entry = TAILQ_NEXT(entry, link)) {
		if (entry->signal->id != id)
			continue;
		close(fd);
		entry->signal->references++;
		return entry->signal;
	}
	signal = malloc(sizeof(*signal));
	if (signal)
		*signal = (struct signal_fd) { .fd = fd, .id = id, .references = 1 };
	else
		close(fd);
	return signal;
}

static int check_ioeventfd(struct vm *vm, const struct ioeventfd *new)
{
	struct events *events = &vm->events;
	unsigned int count = 0;
	struct ioeventfd *old;

	if (conflicts(events, new))
		return -EEXIST;
	for (old = TAILQ_FIRST(&events->ioeventfds); old; old = TAILQ_NEXT(old, link))
		count++;
	if (count < IOEVENTFDS_MAX)
		return 0;
	log_line(LOG_ERROR, "VM %u: more than %u ioeventfds", vm->id, IOEVENTFDS_MAX);
	return -ENOSPC;
}

/* events->lock is held. @signal is the list's from now on, or put. */
static int ioeventfd_add(struct vm *vm, const struct ioeventfd *wanted, struct signal_fd *signal)
{
	struct events *events = &vm->events;
	struct ioeventfd *new = malloc(sizeof(*new));
	int ret = -ENOMEM;

	if (!signal || !new)
		goto fail;
	*new = *wanted;
	new->signal = signal;
	ret = check_ioeventfd(vm, new);
	if (ret)
		goto fail;
	new->in_kvm = fits_kvm(events, new) && !kvm_ioeventfd(vm, new, false);
	TAILQ_INSERT_TAIL(&events->ioeventfds, new, link);
	log_line(LOG_DEBUG, "VM %u: ioeventfd %llu at 0x%llx, %u bytes, data 0x%llx%s: %s", vm->id,
		 (unsigned long long)signal->id, (unsigned long long)new->address, new->length,
		 (unsigned long long)new->data, new->wildcard ? " (any)" : "",
		 new->in_kvm ? "KVM signals it" : "hsmd signals it");
	return 0;
fail:
	if (signal)
		put_signal(signal);
	free(new);
	return ret;
}

static int ioeventfd_assign(struct vm *vm, pid_t thread, const struct acrn_ioeventfd *args)
{
	struct ioeventfd wanted = {
		.address = args->addr,
		.length = args->len,
		.type = args->flags & ACRN_IOEVENTFD_FLAG_PIO ? ACRN_IOREQ_TYPE_PORTIO
							      : ACRN_IOREQ_TYPE_MMIO,
		.wildcard = !(args->flags & ACRN_IOEVENTFD_FLAG_DATAMATCH),
	};
	uint64_t id;
	int fd, ret;

	if (args->addr + args->len < args->addr)
		return -EINVAL;
	if (args->len != 1 && args->len != 2 && args->len != 4 && args->len != 8)
		return -EINVAL;
	wanted.data = wanted.wildcard ? 0 : args->data;
	fd = client_eventfd(thread, (int)args->fd, &id);
	if (fd < 0)
		return fd;
	pthread_mutex_lock(&vm->events.lock);
	ret = ioeventfd_add(vm, &wanted, get_signal(&vm->events, fd, id));
	pthread_mutex_unlock(&vm->events.lock);
	if (ret)
		log_line(LOG_DEBUG, "VM %u: ioeventfd %llu at 0x%llx: %s", vm->id,
			 (unsigned long long)id, (unsigned long long)wanted.address,
			 strerror(-ret));
	return ret;
}

static void ioeventfd_remove(struct vm *vm, struct ioeventfd *old)
{
	TAILQ_REMOVE(&vm->events.ioeventfds, old, link);
	if (old->in_kvm)
		kvm_ioeventfd(vm, old, true);
	put_signal(old->signal);
	free(old);
}

/* The first with that eventfd; none is no error. */
static int ioeventfd_deassign(struct vm *vm, pid_t thread, const struct acrn_ioeventfd *args)
{
	struct events *events = &vm->events;
	struct ioeventfd *old;
	uint64_t id;
	int fd = client_eventfd(thread, (int)args->fd, &id);

	if (fd < 0)
		return fd;
	pthread_mutex_lock(&events->lock);
	for (old = TAILQ_FIRST(&events->ioeventfds); old; old = TAILQ_NEXT(old, link)) {
		if (old->signal->id == id)
			break;
	}
	if (old)
		ioeventfd_remove(vm, old);
	pthread_mutex_unlock(&events->lock);
	close(fd);
	return 0;
}

int ioeventfd_config(struct vm *vm, pid_t thread, const struct acrn_ioeventfd *args)
{
	if (args->reserved)
		return -EINVAL;
	if (args->flags & ACRN_IOEVENTFD_FLAG_DEASSIGN)
		return ioeventfd_deassign(vm, thread, args);
	return ioeventfd_assign(vm, thread, args);
}

struct access {
	uint32_t type;
	bool write;
	uint64_t address, size, value;
};

static void describe(const struct acrn_io_request *request, struct access *access)
{
	const struct acrn_mmio_request *mmio = &request->reqs.mmio_request;
	const struct acrn_pio_request *pio = &request->reqs.pio_request;

	/* Direction, address and size are at the same places. */
	*access = (struct access) {
		.type = request->type,
		.write = mmio->direction == ACRN_IOREQ_DIR_WRITE,
		.address = mmio->address,
		.size = mmio->size,
		.value = request->type == ACRN_IOREQ_TYPE_PORTIO ? pio->value : mmio->value,
	};
}

static bool in_range(const struct ioeventfd *entry, const struct access *access)
{
	return entry->type == access->type && access->address >= entry->address &&
	       access->address + access->size <= entry->address + entry->length;
}

static bool matches(const struct ioeventfd *entry, const struct access *access)
{
	return entry->type == access->type && entry->address == access->address &&
	       entry->length >= access->size && (entry->wildcard || entry->data == access->value);
}

/* Whose @access is: kept for the caller, NULL if nobody's. @ours: nobody else's either. */
static struct signal_fd *find_signal(struct events *events, const struct access *access, bool *ours)
{
	struct signal_fd *signal = NULL;
	struct ioeventfd *entry;

	*ours = false;
	pthread_mutex_lock(&events->lock);
	for (entry = TAILQ_FIRST(&events->ioeventfds); entry; entry = TAILQ_NEXT(entry, link)) {
		*ours = *ours || in_range(entry, access);
		if (!signal && access->write && matches(entry, access))
			signal = entry->signal;
	}
	if (signal)
		signal->references++;
	pthread_mutex_unlock(&events->lock);
	return signal;
}

/*
 * A full eventfd is signalled already, and a write to it would wait for its reader. The client may
 * fill it after the look: so no lock is held, and vcpus_stop() ends the wait.
 */
static void raise_signal(struct events *events, struct signal_fd *signal)
{
	struct pollfd room = { .fd = signal->fd, .events = POLLOUT };

	if (poll(&room, 1, 0) == 1 && room.revents & POLLOUT)
		eventfd_write(signal->fd, 1);
	pthread_mutex_lock(&events->lock);
	put_signal(signal);
	pthread_mutex_unlock(&events->lock);
}

bool ioeventfd_handle(struct events *events, struct acrn_io_request *request)
{
	struct signal_fd *signal;
	struct access access;
	bool ours;

	describe(request, &access);
	if (access.type == ACRN_IOREQ_TYPE_PORTIO && access.address >= 0xcf8 &&
	    access.address <= 0xcff)
		return false;
	signal = find_signal(events, &access, &ours);
	if (signal)
		raise_signal(events, signal);
	if (ours && !access.write)
		request->reqs.mmio_request.value = 0;
	return ours;
}

/* ---- irqfds */

static int kvm_irqfd(struct vm *vm, const struct irqfd *irqfd, bool remove)
{
	struct kvm_irqfd args = {
		.fd = (uint32_t)irqfd->fd,
		.gsi = irqfd->gsi,
		.flags = remove ? KVM_IRQFD_FLAG_DEASSIGN : 0,
	};

	return kvm_call(vm->fd, KVM_IRQFD, &args);
}

/* The lowest GSI above the pins that no irqfd has. */
static int free_gsi(struct events *events)
{
	bool used[IRQFDS_MAX] = { false };
	struct irqfd *irqfd;

	for (irqfd = TAILQ_FIRST(&events->irqfds); irqfd; irqfd = TAILQ_NEXT(irqfd, link))
		used[irqfd->gsi - IOAPIC_PINS] = true;
	for (int i = 0; i < IRQFDS_MAX; i++) {
		if (!used[i])
			return IOAPIC_PINS + i;
	}
	return -ENOMEM;
}

static void irqfd_remove(struct vm *vm, struct irqfd *irqfd)
{
	TAILQ_REMOVE(&vm->events.irqfds, irqfd, link);
	kvm_irqfd(vm, irqfd, true);
	close(irqfd->fd);
	free(irqfd);
}

static struct irqfd *find_irqfd(struct events *events, uint64_t id)
{
	struct irqfd *irqfd;

	for (irqfd = TAILQ_FIRST(&events->irqfds); irqfd; irqfd = TAILQ_NEXT(irqfd, link)) {
		if (irqfd->id == id)
			return irqfd;
	}
	return NULL;
}

/* Takes @new over. */
static int irqfd_add(struct vm *vm, struct irqfd *new)
{
	struct events *events = &vm->events;
	int gsi = free_gsi(events);
	int ret = gsi < 0 ? gsi : 0;

	if (find_irqfd(events, new->id))
		ret = -EBUSY;
	if (ret) {
		close(new->fd);
		free(new);
		return ret;
	}
	new->gsi = (uint32_t)gsi;
	TAILQ_INSERT_TAIL(&events->irqfds, new, link);
	ret = irq_route(vm);
	if (!ret)
		ret = kvm_irqfd(vm, new, false);
	if (ret)
		irqfd_remove(vm, new);
	return ret;
}

static int irqfd_assign(struct vm *vm, pid_t thread, const struct acrn_irqfd *args)
{
	struct irqfd *new = calloc(1, sizeof(*new));
	int ret;

	if (!new)
		return -ENOMEM;
	new->msi = args->msi;
	new->fd = client_eventfd(thread, args->fd, &new->id);
	if (new->fd < 0) {
		ret = new->fd;
		free(new);
		return ret;
	}
	pthread_mutex_lock(&vm->events.lock);
	ret = irqfd_add(vm, new);
	pthread_mutex_unlock(&vm->events.lock);
	log_line(LOG_DEBUG, "VM %u: irqfd with message 0x%llx to 0x%llx: %s", vm->id,
		 (unsigned long long)args->msi.msi_data, (unsigned long long)args->msi.msi_addr,
		 ret ? strerror(-ret) : "added");
	return ret;
}

static int irqfd_deassign(struct vm *vm, pid_t thread, const struct acrn_irqfd *args)
{
	struct irqfd *old;
	uint64_t id;
	int ret = 0;
	int fd = client_eventfd(thread, args->fd, &id);

	if (fd < 0)
		return fd;
	pthread_mutex_lock(&vm->events.lock);
	old = find_irqfd(&vm->events, id);
	if (old) {
		irqfd_remove(vm, old);
		ret = irq_route(vm);
	}
	pthread_mutex_unlock(&vm->events.lock);
	close(fd);
	return ret;
}

int irqfd_config(struct vm *vm, pid_t thread, const struct acrn_irqfd *args)
{
	if (args->flags & ACRN_IRQFD_FLAG_DEASSIGN)
		return irqfd_deassign(vm, thread, args);
	return irqfd_assign(vm, thread, args);
}

/* ---- A new KVM VM */

int events_install(struct vm *vm)
{
	struct ioeventfd *ioeventfd;
	struct irqfd *irqfd;
	int ret;

	pthread_mutex_lock(&vm->events.lock);
	ret = irq_route(vm);
	for (irqfd = TAILQ_FIRST(&vm->events.irqfds); irqfd; irqfd = TAILQ_NEXT(irqfd, link)) {
		if (!ret)
			ret = kvm_irqfd(vm, irqfd, false);
	}
	for (ioeventfd = TAILQ_FIRST(&vm->events.ioeventfds); ioeventfd;
	     ioeventfd = TAILQ_NEXT(ioeventfd, link)) {
		if (ioeventfd->in_kvm)
			ioeventfd->in_kvm = !kvm_ioeventfd(vm, ioeventfd, false);
	}
	pthread_mutex_unlock(&vm->events.lock);
	return ret;
}
