/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Interrupts that others send: an eventfd, signalled by the kernel's vhost say, that stands for an
 * MSI-X vector. Bound, the port turns each signal into the vector's message without tenon. Parked,
 * because there is no message to send now, the I/O loop waits on the eventfd and the device does
 * what it would do by itself: set the pending bit, raise the line.
 *
 * Nothing is lost between the two: a signal that nobody waits for stays in the eventfd's count,
 * which epoll reports, and which KVM and the HSM look at when they are given the eventfd. Too much
 * can come (the HSM does not take the count of what it delivered), but never too little, and
 * drivers bear an interrupt that has nothing to say.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "pci_bus.h"

/**
 * struct pci_irqfd - one.
 * @source: waits on @fd while it is parked
 * @handle: the port's, negative while it is parked
 * @msi: what @handle sends
 */
struct pci_irqfd {
	struct pci_vdev *dev;
	int fd;
	unsigned int vector;
	void (*signalled)(void *arg);
	void *arg;
	struct event_source *source;
	int handle;
	struct hv_msi msi;
	struct pci_irqfd *next;
};

static void irqfd_deliver(struct pci_irqfd *irqfd)
{
	uint64_t count;

	if (read(irqfd->fd, &count, sizeof(count)) == sizeof(count))
		irqfd->signalled(irqfd->arg);
}

static void on_signal(void *arg, uint32_t events)
{
	irqfd_deliver(arg);
}

static void irqfd_park(struct pci_irqfd *irqfd)
{
	struct vmctx *ctx = irqfd->dev->vmctx;

	ctx->hv->irqfd_remove(ctx, irqfd->handle, irqfd->fd);
	irqfd->handle = -1;
	event_set_events(irqfd->source, EPOLLIN);
}

/* What was signalled until now goes out here; what is signalled from now on the port finds. */
static void irqfd_bind(struct pci_irqfd *irqfd, const struct hv_msi *msi)
{
	struct vmctx *ctx = irqfd->dev->vmctx;

	event_set_events(irqfd->source, 0);
	irqfd_deliver(irqfd);
	irqfd->msi = *msi;
	irqfd->handle = ctx->hv->irqfd_add(ctx, irqfd->fd, msi);
	if (irqfd->handle < 0)
		event_set_events(irqfd->source, EPOLLIN);
}

static void irqfd_change(struct pci_irqfd *irqfd, const struct hv_msi *msi)
{
	struct vmctx *ctx = irqfd->dev->vmctx;

	if (irqfd->msi.addr == msi->addr && irqfd->msi.data == msi->data)
		return;
	irqfd->msi = *msi;
	if (ctx->hv->irqfd_update(ctx, irqfd->handle, msi))
		irqfd_park(irqfd);
}

static void irqfd_update(struct pci_irqfd *irqfd)
{
	bool bound = irqfd->handle >= 0;
	struct hv_msi msi;

	if (!pci_msix_message(irqfd->dev, irqfd->vector, &msi)) {
		if (bound)
			irqfd_park(irqfd);
		return;
	}
	if (bound)
		irqfd_change(irqfd, &msi);
	else
		irqfd_bind(irqfd, &msi);
}

struct pci_irqfd *pci_irqfd_create(struct pci_vdev *dev, int fd, void (*signalled)(void *arg),
				   void *arg)
{
	struct pci_irqfd *irqfd = calloc(1, sizeof(*irqfd));

	if (!irqfd)
		return NULL;
	*irqfd = (struct pci_irqfd) {
		.dev = dev,
		.fd = fd,
		.vector = UINT_MAX,
		.signalled = signalled,
		.arg = arg,
		.handle = -1,
	};
	irqfd->source =
		event_add_fd(dev->vmctx->io_loop, fd, EPOLLIN, &dev->lock, on_signal, irqfd);
	if (!irqfd->source) {
		int error = errno;

		free(irqfd);
		errno = error;
		return NULL;
	}
	irqfd->next = dev->irqfds;
	dev->irqfds = irqfd;
	return irqfd;
}

void pci_irqfd_set_vector(struct pci_irqfd *irqfd, unsigned int vector)
{
	irqfd->vector = vector;
	irqfd_update(irqfd);
}

void pci_irqfd_destroy(struct pci_irqfd *irqfd)
{
	struct pci_irqfd **link;

	if (!irqfd)
		return;
	if (irqfd->handle >= 0)
		irqfd_park(irqfd);
	event_remove(irqfd->source);
	irqfd_deliver(irqfd);
	link = &irqfd->dev->irqfds;
	while (*link != irqfd)
		link = &(*link)->next;
	*link = irqfd->next;
	free(irqfd);
}

void pci_irqfds_update(struct pci_vdev *dev)
{
	for (struct pci_irqfd *irqfd = dev->irqfds; irqfd; irqfd = irqfd->next)
		irqfd_update(irqfd);
}

void pci_irqfds_collect(struct pci_vdev *dev)
{
	for (struct pci_irqfd *irqfd = dev->irqfds; irqfd; irqfd = irqfd->next)
		if (irqfd->handle < 0)
			irqfd_deliver(irqfd);
}
