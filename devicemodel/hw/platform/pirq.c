/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The PCI interrupt router: eight INTx lines, each wired to an input of the IOAPIC above the ISA
 * interrupts, and to the ISA interrupt that its route register names (Intel 82371SB data sheet,
 * 290550, 2.2.6; the ICH's have eight, at 0x60 and 0x68). Guests that use the PICs set those by
 * the ACPI link devices; for the others all of them are off, as after reset. The registers are in
 * config space of the PCI-ISA bridge.
 *
 * Ports 0x4d0 and 0x4d1 say which ISA interrupts are level-triggered. Whoever has the PICs acts on
 * that, and sees the ports first; here it is only kept, for a machine that has none.
 */
#include "platform.h"

#include <errno.h>
#include <stdlib.h>

#define ISA_IRQS 16
#define ROUTABLE 0xdef8 /* not 0, 1, 2, 8 and 13, which are the mainboard's */
#define ELCR_PORT 0x4d0
#define ELCR_PORTS 2

struct pirq {
	struct vmctx *ctx;
	pthread_mutex_t lock;
	uint8_t levels; /* of the lines, bit by bit */
	uint8_t route[PIRQ_LINES];
	uint8_t elcr[ELCR_PORTS];
	struct io_range elcr_range;
};

/* ---- Lines ---- */

/* An ISA interrupt has the level of all lines routed to it. */
static void isa_update(struct pirq *pirq, unsigned int irq)
{
	bool level = false;

	if (irq >= ISA_IRQS || !(ROUTABLE & BIT32(irq)))
		return;
	for (unsigned int i = 0; i < PIRQ_LINES; i++)
		level |= pirq->route[i] == irq && pirq->levels & BIT32(i);
	platform_irq(pirq->ctx, irq, PLATFORM_IRQ_PCI, level);
}

void pirq_set_line(struct pirq *pirq, unsigned int line, bool level)
{
	pthread_mutex_lock(&pirq->lock);
	if (level)
		pirq->levels |= (uint8_t)BIT32(line);
	else
		pirq->levels &= (uint8_t)~BIT32(line);
	platform_irq(pirq->ctx, PIRQ_GSI_BASE + line, PLATFORM_IRQ_PCI, level);
	isa_update(pirq, pirq->route[line]);
	pthread_mutex_unlock(&pirq->lock);
}

void pirq_set_route(struct pirq *pirq, unsigned int line, uint8_t route)
{
	uint8_t before;

	pthread_mutex_lock(&pirq->lock);
	before = pirq->route[line];
	pirq->route[line] = route;
	isa_update(pirq, before);
	isa_update(pirq, route);
	pthread_mutex_unlock(&pirq->lock);
}

/* ---- Edge or level ---- */

static uint64_t elcr_read(void *arg, uint64_t offset, unsigned int size)
{
	struct pirq *pirq = arg;
	uint64_t value;

	pthread_mutex_lock(&pirq->lock);
	value = bytes_get(pirq->elcr, ELCR_PORTS) >> 8 * offset;
	pthread_mutex_unlock(&pirq->lock);
	return value & (BIT64(8 * size) - 1);
}

static void elcr_write(void *arg, uint64_t offset, unsigned int size, uint64_t value)
{
	struct pirq *pirq = arg;

	pthread_mutex_lock(&pirq->lock);
	bytes_put(&pirq->elcr[offset], size, value & ROUTABLE >> 8 * offset);
	pthread_mutex_unlock(&pirq->lock);
}

static const struct io_range_ops elcr_io_ops = { .read = elcr_read, .write = elcr_write };

/* ---- Life ---- */

struct pirq *pirq_create(struct vmctx *ctx)
{
	struct pirq *pirq = calloc(1, sizeof(*pirq));
	int error;

	if (!pirq) {
		log_error(ctx->log, "%s: out of memory", ctx->config.name);
		return NULL;
	}
	pirq->ctx = ctx;
	pthread_mutex_init(&pirq->lock, NULL);
	memset(pirq->route, PIRQ_ROUTE_OFF, sizeof(pirq->route));
	pirq->elcr_range = (struct io_range) {
		.name = "ELCR",
		.base = ELCR_PORT,
		.size = ELCR_PORTS,
		.ops = &elcr_io_ops,
		.arg = pirq,
	};
	error = io_space_add(&ctx->pio, &pirq->elcr_range);
	if (!error)
		return pirq;
	log_error(ctx->log, "%s: cannot create the interrupt router: %s", ctx->config.name,
		  strerror(-error));
	pirq_destroy(pirq);
	errno = -error;
	return NULL;
}

void pirq_destroy(struct pirq *pirq)
{
	if (!pirq)
		return;
	io_space_remove(&pirq->ctx->pio, &pirq->elcr_range);
	pthread_mutex_destroy(&pirq->lock);
	free(pirq);
}

/* The lines are the devices', which are reset as well. */
void pirq_reset(struct pirq *pirq)
{
	for (unsigned int line = 0; line < PIRQ_LINES; line++)
		pirq_set_route(pirq, line, PIRQ_ROUTE_OFF);
	pthread_mutex_lock(&pirq->lock);
	memset(pirq->elcr, 0, sizeof(pirq->elcr));
	pthread_mutex_unlock(&pirq->lock);
}
