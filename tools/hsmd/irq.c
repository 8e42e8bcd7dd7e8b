/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * irq.c: interrupt lines and messages. The PICs, the IOAPIC and the local APICs are KVM's.
 */
#include "hsmd.h"

#include <errno.h>
#include <stdlib.h>

#define PIC_PINS 16
#define TIMER_GSI 2

/* Operations of SET_IRQLINE, upper half of its argument. */
enum line_operation { LINE_HIGH, LINE_LOW, LINE_RAISING_PULSE, LINE_FALLING_PULSE };

/* Where messages to local APICs go (Intel SDM, volume 3, 11.11.1). */
#define MSI_ADDRESS_MASK 0xfff00000u
#define MSI_ADDRESS 0xfee00000u

static void add_pin(struct kvm_irq_routing *table, uint32_t gsi, uint32_t chip, uint32_t pin)
{
	table->entries[table->nr++] = (struct kvm_irq_routing_entry) {
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_IRQCHIP,
		.u.irqchip = { .irqchip = chip, .pin = pin },
	};
}

static void add_message(struct kvm_irq_routing *table, uint32_t gsi,
			const struct acrn_msi_entry *msi)
{
	table->entries[table->nr++] = (struct kvm_irq_routing_entry) {
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_MSI,
		.u.msi = {
			.address_lo = (uint32_t)msi->msi_addr,
			.address_hi = (uint32_t)(msi->msi_addr >> 32),
			.data = (uint32_t)msi->msi_data,
		},
	};
}

/* The timer is the PIC's pin 0 and the IOAPIC's pin 2, as ACRN wires it; the PIC's 2 is no line. */
static void add_pins(struct kvm_irq_routing *table)
{
	for (uint32_t gsi = 0; gsi < PIC_PINS; gsi++) {
		uint32_t pin = gsi == TIMER_GSI ? 0 : gsi;

		add_pin(table, gsi, pin < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE,
			pin & 7);
	}
	for (uint32_t gsi = 0; gsi < IOAPIC_PINS; gsi++)
		add_pin(table, gsi, KVM_IRQCHIP_IOAPIC, gsi);
}

/* vm->events.lock */
int irq_route(struct vm *vm)
{
	size_t count = PIC_PINS + IOAPIC_PINS;
	struct kvm_irq_routing *table;
	struct irqfd *irqfd;
	int ret;

	for (irqfd = TAILQ_FIRST(&vm->events.irqfds); irqfd; irqfd = TAILQ_NEXT(irqfd, link))
		count++;
	table = calloc(1, sizeof(*table) + count * sizeof(table->entries[0]));
	if (!table)
		return -ENOMEM;
	add_pins(table);
	for (irqfd = TAILQ_FIRST(&vm->events.irqfds); irqfd; irqfd = TAILQ_NEXT(irqfd, link))
		add_message(table, irqfd->gsi, &irqfd->msi);
	ret = kvm_must(vm, vm->fd, KVM_SET_GSI_ROUTING, table, "KVM_SET_GSI_ROUTING");
	free(table);
	return ret;
}

static int set_level(struct vm *vm, uint32_t gsi, uint32_t level)
{
	struct kvm_irq_level line = { .irq = gsi, .level = level };

	return kvm_call(vm->fd, KVM_IRQ_LINE, &line);
}

int irq_set_line(struct vm *vm, uint32_t gsi, uint32_t operation)
{
	int ret = 0;

	if (gsi >= IOAPIC_PINS)
		return -EPERM;
	switch (operation) {
	case LINE_HIGH:
	case LINE_RAISING_PULSE:
		ret = set_level(vm, gsi, 1);
		break;
	case LINE_LOW:
	case LINE_FALLING_PULSE:
		ret = set_level(vm, gsi, 0);
		break;
	}
	if (!ret && operation == LINE_RAISING_PULSE)
		ret = set_level(vm, gsi, 0);
	if (!ret && operation == LINE_FALLING_PULSE)
		ret = set_level(vm, gsi, 1);
	return ret;
}

int irq_message(struct vm *vm, const struct acrn_msi_entry *msi)
{
	struct kvm_msi message = {
		.address_lo = (uint32_t)msi->msi_addr,
		.address_hi = (uint32_t)(msi->msi_addr >> 32),
		.data = (uint32_t)msi->msi_data,
	};
	int ret;

	if ((message.address_lo & MSI_ADDRESS_MASK) != MSI_ADDRESS)
		return -EPERM;
	ret = kvm_call(vm->fd, KVM_SIGNAL_MSI, &message);
	log_line(LOG_DEBUG, "VM %u: message 0x%x to 0x%x: %d", vm->id, message.data,
		 message.address_lo, ret);
	/* How many CPUs took it; that none did is the guest's business. */
	return ret < 0 ? -EPERM : 0;
}
