/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A hypervisor port for tests: no processors, interrupts are recorded.
 */
#include "hv_inproc.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static struct vmctx *latest;

struct vmctx *inproc_latest(void)
{
	return latest;
}

static bool inproc_available(struct logger *log)
{
	return true;
}

static int inproc_create(struct vmctx *ctx)
{
	struct inproc *port = calloc(1, sizeof(*port));

	if (!port)
		return -ENOMEM;
	pthread_mutex_init(&port->lock, NULL);
	for (unsigned int i = 0; i < INPROC_IRQFDS; i++)
		port->irqfds[i].fd = -1;
	ctx->hv_data = port;
	latest = ctx;
	return 0;
}

static void inproc_destroy(struct vmctx *ctx)
{
	struct inproc *port = inproc_of(ctx);

	pthread_mutex_destroy(&port->lock);
	free(port);
	ctx->hv_data = NULL;
}

static int inproc_add_memory(struct vmctx *ctx, const struct guest_memory_region *region)
{
	return 0;
}

static int inproc_set_boot_cpu(struct vmctx *ctx, const struct hv_cpu_state *state)
{
	return 0;
}

static int inproc_start(struct vmctx *ctx)
{
	return 0;
}

static void inproc_pause(struct vmctx *ctx)
{
}

static int inproc_irq_line(struct vmctx *ctx, unsigned int gsi, bool level)
{
	struct inproc *port = inproc_of(ctx);

	if (gsi >= INPROC_GSIS)
		return -EINVAL;
	pthread_mutex_lock(&port->lock);
	port->rises[gsi] += level && !port->line[gsi];
	port->line[gsi] = level;
	pthread_mutex_unlock(&port->lock);
	return 0;
}

static void record_msi(struct inproc *port, const struct hv_msi *msi)
{
	port->msis[port->msi_count++ % INPROC_MSIS] = *msi;
	port->msi_by_data[msi->data & 0xffff]++;
}

static int inproc_msi(struct vmctx *ctx, const struct hv_msi *msi)
{
	struct inproc *port = inproc_of(ctx);
	int error = 0;

	pthread_mutex_lock(&port->lock);
	if (port->fail_msi)
		error = -EINVAL;
	else
		record_msi(port, msi);
	pthread_mutex_unlock(&port->lock);
	return error;
}

/* The same place twice, or one that is not there, as KVM sees it. */
static bool same_place(const struct hv_ioeventfd *a, const struct hv_ioeventfd *b)
{
	return a->addr == b->addr && a->len == b->len && a->flags == b->flags && a->data == b->data;
}

static int eventfd_change(struct inproc *port, const struct hv_ioeventfd *io, bool add)
{
	for (unsigned int i = 0; i < port->eventfd_count; i++) {
		if (!same_place(&port->eventfds[i], io) || (!add && port->eventfds[i].fd != io->fd))
			continue;
		if (add)
			return -EEXIST;
		port->eventfds[i] = port->eventfds[--port->eventfd_count];
		return 0;
	}
	if (!add)
		return -ENOENT;
	if (port->eventfd_count == INPROC_EVENTFDS)
		return -ENOSPC;
	port->eventfds[port->eventfd_count++] = *io;
	return 0;
}

static int inproc_ioeventfd(struct vmctx *ctx, const struct hv_ioeventfd *io, bool add)
{
	struct inproc *port = inproc_of(ctx);
	int error = -ENOTSUP;

	pthread_mutex_lock(&port->lock);
	if (port->use_ioeventfds || !add)
		error = eventfd_change(port, io, add);
	pthread_mutex_unlock(&port->lock);
	return error;
}

/* KVM does it at the signal; here it is when somebody asks, and before anything changes. */
static void irqfd_inject(struct inproc *port, const struct inproc_irqfd *irqfd)
{
	uint64_t count;

	if (irqfd->fd >= 0 && read(irqfd->fd, &count, sizeof(count)) == sizeof(count))
		record_msi(port, &irqfd->msi);
}

static int inproc_irqfd_add(struct vmctx *ctx, int fd, const struct hv_msi *msi)
{
	struct inproc *port = inproc_of(ctx);
	int handle = -ENOSPC;

	pthread_mutex_lock(&port->lock);
	for (int i = 0; i < INPROC_IRQFDS && handle < 0 && !port->no_irqfds; i++) {
		if (port->irqfds[i].fd >= 0)
			continue;
		port->irqfds[i] = (struct inproc_irqfd) { .fd = fd, .msi = *msi };
		handle = i;
	}
	pthread_mutex_unlock(&port->lock);
	return handle;
}

static int inproc_irqfd_update(struct vmctx *ctx, int handle, const struct hv_msi *msi)
{
	struct inproc *port = inproc_of(ctx);
	int error = 0;

	pthread_mutex_lock(&port->lock);
	irqfd_inject(port, &port->irqfds[handle]);
	if (port->fail_irqfd_update)
		error = -EIO;
	else
		port->irqfds[handle].msi = *msi;
	pthread_mutex_unlock(&port->lock);
	return error;
}

static void inproc_irqfd_remove(struct vmctx *ctx, int handle, int fd)
{
	struct inproc *port = inproc_of(ctx);

	pthread_mutex_lock(&port->lock);
	irqfd_inject(port, &port->irqfds[handle]);
	port->irqfds[handle].fd = -1;
	pthread_mutex_unlock(&port->lock);
}

const struct hv_ops hv_inproc = {
	.name = "inproc",
	.available = inproc_available,
	.create = inproc_create,
	.destroy = inproc_destroy,
	.add_memory = inproc_add_memory,
	.set_boot_cpu = inproc_set_boot_cpu,
	.start = inproc_start,
	.pause = inproc_pause,
	.reset = inproc_start,
	.irq_line = inproc_irq_line,
	.msi = inproc_msi,
	.ioeventfd = inproc_ioeventfd,
	.irqfd_add = inproc_irqfd_add,
	.irqfd_update = inproc_irqfd_update,
	.irqfd_remove = inproc_irqfd_remove,
};

unsigned int inproc_msi_count(struct vmctx *ctx, uint16_t data)
{
	struct inproc *port = inproc_of(ctx);
	unsigned int count;

	pthread_mutex_lock(&port->lock);
	for (unsigned int i = 0; i < INPROC_IRQFDS; i++)
		irqfd_inject(port, &port->irqfds[i]);
	count = port->msi_by_data[data];
	pthread_mutex_unlock(&port->lock);
	return count;
}

unsigned int inproc_irqfd_count(struct vmctx *ctx)
{
	struct inproc *port = inproc_of(ctx);
	unsigned int count = 0;

	pthread_mutex_lock(&port->lock);
	for (unsigned int i = 0; i < INPROC_IRQFDS; i++)
		count += port->irqfds[i].fd >= 0;
	pthread_mutex_unlock(&port->lock);
	return count;
}

bool inproc_line(struct vmctx *ctx, unsigned int gsi)
{
	struct inproc *port = inproc_of(ctx);
	bool level;

	pthread_mutex_lock(&port->lock);
	level = port->line[gsi];
	pthread_mutex_unlock(&port->lock);
	return level;
}

static bool eventfd_waits(const struct hv_ioeventfd *io, enum io_type type, uint64_t addr,
			  unsigned int size, uint64_t value)
{
	bool pio = io->flags & HV_IOEVENTFD_PIO;

	return pio == (type == IO_PIO) && io->addr == addr && (!io->len || io->len == size) &&
	       (!(io->flags & HV_IOEVENTFD_DATAMATCH) || io->data == value);
}

static bool eventfd_signal(struct inproc *port, enum io_type type, uint64_t addr, unsigned int size,
			   uint64_t value)
{
	uint64_t one = 1;

	for (unsigned int i = 0; i < port->eventfd_count; i++)
		if (eventfd_waits(&port->eventfds[i], type, addr, size, value))
			return write(port->eventfds[i].fd, &one, sizeof(one)) == sizeof(one);
	return false;
}

void guest_write(struct vmctx *ctx, enum io_type type, uint64_t addr, unsigned int size,
		 uint64_t value)
{
	struct io_request request = {
		.type = type, .write = true, .size = size, .addr = addr, .value = value
	};
	struct inproc *port = inproc_of(ctx);
	bool taken;

	pthread_mutex_lock(&port->lock);
	taken = eventfd_signal(port, type, addr, size, value);
	port->signals += taken;
	port->traps += !taken;
	pthread_mutex_unlock(&port->lock);
	if (!taken)
		vm_io(ctx, &request);
}

uint64_t guest_read(struct vmctx *ctx, enum io_type type, uint64_t addr, unsigned int size)
{
	struct io_request request = { .type = type, .size = size, .addr = addr };

	vm_io(ctx, &request);
	return request.value;
}
