/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hv_inproc.h: a hypervisor port without processors: the test's own thread plays the guest, through
 * guest_read() and guest_write(), and what reaches the interrupt controllers is recorded.
 */
#ifndef TENON_TESTS_HV_INPROC_H
#define TENON_TESTS_HV_INPROC_H

#include "dm.h"

#define INPROC_GSIS 64
#define INPROC_MSIS 1024 /* the last ones are kept */
#define INPROC_EVENTFDS 1024
#define INPROC_IRQFDS 64

/* struct inproc_irqfd - what irqfd_add() was given; @fd is -1 in a free one. */
struct inproc_irqfd {
	int fd;
	struct hv_msi msi;
};

/*
 * struct inproc - the state of the port.
 * @lock: protects all of it
 * @use_ioeventfds: register them, as KVM does; off: -ENOTSUP, so that kicks trap
 * @msis, @msi_count: message n is at msis[n % INPROC_MSIS]
 * @msi_by_data: how many messages came with this data (low 16 bits)
 * @line, @rises: level of each GSI, and how often it went up
 * @fail_msi: delivery fails, as with a bad address
 * @no_irqfds: irqfd_add() has none left; @fail_irqfd_update: messages cannot be changed
 * @signals: writes that an ioeventfd took; @traps: accesses that went to tenon
 */
struct inproc {
	pthread_mutex_t lock;
	bool use_ioeventfds;
	bool fail_msi;
	bool no_irqfds, fail_irqfd_update;
	struct hv_msi msis[INPROC_MSIS];
	uint64_t msi_count;
	uint32_t msi_by_data[0x10000];
	bool line[INPROC_GSIS];
	unsigned int rises[INPROC_GSIS];
	struct hv_ioeventfd eventfds[INPROC_EVENTFDS];
	unsigned int eventfd_count;
	struct inproc_irqfd irqfds[INPROC_IRQFDS];
	uint64_t signals, traps;
};

extern const struct hv_ops hv_inproc;

/* The port's state of @ctx, whose port must be hv_inproc. */
static inline struct inproc *inproc_of(struct vmctx *ctx)
{
	return ctx->hv_data;
}

/* The VM that was made last: for what knows no other. */
struct vmctx *inproc_latest(void);

/* Messages recorded with @data, and those that irqfds were signalled for until now; any thread. */
unsigned int inproc_msi_count(struct vmctx *ctx, uint16_t data);

/* irqfds that are bound now; any thread. */
unsigned int inproc_irqfd_count(struct vmctx *ctx);

/* Level of GSI @gsi now; any thread. */
bool inproc_line(struct vmctx *ctx, unsigned int gsi);

/* One access of the guest's. A write that an ioeventfd waits for signals it and traps not. */
uint64_t guest_read(struct vmctx *ctx, enum io_type type, uint64_t addr, unsigned int size);
void guest_write(struct vmctx *ctx, enum io_type type, uint64_t addr, unsigned int size,
		 uint64_t value);

/* The instructions, as a driver writes them. */
static inline uint8_t inb(struct vmctx *ctx, uint16_t port)
{
	return (uint8_t)guest_read(ctx, IO_PIO, port, 1);
}

static inline uint16_t inw(struct vmctx *ctx, uint16_t port)
{
	return (uint16_t)guest_read(ctx, IO_PIO, port, 2);
}

static inline uint32_t inl(struct vmctx *ctx, uint16_t port)
{
	return (uint32_t)guest_read(ctx, IO_PIO, port, 4);
}

static inline void outb(struct vmctx *ctx, uint16_t port, uint8_t value)
{
	guest_write(ctx, IO_PIO, port, 1, value);
}

static inline void outw(struct vmctx *ctx, uint16_t port, uint16_t value)
{
	guest_write(ctx, IO_PIO, port, 2, value);
}

static inline void outl(struct vmctx *ctx, uint16_t port, uint32_t value)
{
	guest_write(ctx, IO_PIO, port, 4, value);
}

static inline uint32_t readl(struct vmctx *ctx, uint64_t addr)
{
	return (uint32_t)guest_read(ctx, IO_MMIO, addr, 4);
}

static inline void writel(struct vmctx *ctx, uint64_t addr, uint32_t value)
{
	guest_write(ctx, IO_MMIO, addr, 4, value);
}

#endif
