/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kvm_chips.c: what KVM has of a PC outside the CPUs: PICs, IOAPIC and PIT, how interrupt lines
 * are wired to them, and which messages reach the local APICs.
 */
#include "../../core/hv/kvm.h"

#include <errno.h>
#include <stdlib.h>

#include "arch.h"
#include "kvm_chips.h"

/* Four pages that Intel CPUs without unrestricted guest mode need; above the BARs and the APICs. */
#define IDENTITY_MAP_ADDRESS UINT64_C(0xfffbc000)
#define TSS_ADDRESS UINT64_C(0xfffbd000)
static_assert(IDENTITY_MAP_ADDRESS >= X86_MMIO32_END, "not where BARs may go");

#define PIC_PINS 16
#define TIMER_GSI 0
#define TIMER_IOAPIC_PIN 2 /* as on every PC; the MADT says so */
#define CASCADE_GSI 2 /* the second PIC's place on the first; no line */

/* Intel SDM, volume 3, 11.11.1: messages to local APICs go here. */
#define MSI_ADDRESS_FIRST UINT64_C(0xfee00000)
#define MSI_ADDRESS_SIZE MIB(1)

#define CHIP_COUNT 3 /* KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC */

/** struct kvm_chips - as after power-on. */
struct kvm_chips {
	struct kvm_irqchip irqchips[CHIP_COUNT];
	struct kvm_pit_state2 pit;
};

const struct kvm_capability kvm_arch_capabilities[] = {
	{ KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR" },
	{ KVM_CAP_SET_IDENTITY_MAP_ADDR, "KVM_CAP_SET_IDENTITY_MAP_ADDR" },
	{ KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID" },
	{ KVM_CAP_PIT2, "KVM_CAP_PIT2" },
	{ KVM_CAP_PIT_STATE2, "KVM_CAP_PIT_STATE2" },
	{ KVM_CAP_XSAVE, "KVM_CAP_XSAVE" },
	{ KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS" },
	{ KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS" },
	{ 0, NULL },
};

static int get_chips(struct vmctx *ctx, struct kvm_vm *vm)
{
	int ret;

	for (uint32_t i = 0; i < CHIP_COUNT; i++) {
		vm->chips->irqchips[i].chip_id = i;
		ret = kvm_set_up(ctx, vm->vm_fd, KVM_GET_IRQCHIP, &vm->chips->irqchips[i],
				 "KVM_GET_IRQCHIP");
		if (ret < 0)
			return ret;
	}
	if (vm->pit == KVM_PIT_USER)
		return 0;
	return kvm_set_up(ctx, vm->vm_fd, KVM_GET_PIT2, &vm->chips->pit, "KVM_GET_PIT2");
}

static int create_pit(struct vmctx *ctx, struct kvm_vm *vm)
{
	/* Port 0x61 is answered by KVM too: calibration by the PIT's channel 2 needs it. */
	const struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };

	if (vm->pit == KVM_PIT_USER)
		return 0;
	return kvm_set_up(ctx, vm->vm_fd, KVM_CREATE_PIT2, &pit, "KVM_CREATE_PIT2");
}

int kvm_arch_vm_create(struct vmctx *ctx)
{
	struct kvm_vm *vm = ctx->hv_data;
	const uint64_t identity_map = IDENTITY_MAP_ADDRESS;
	int ret;

	vm->chips = calloc(1, sizeof(*vm->chips));
	if (!vm->chips) {
		log_error(ctx->log, "kvm: out of memory");
		return -ENOMEM;
	}
	ret = kvm_set_up(ctx, vm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map,
			 "KVM_SET_IDENTITY_MAP_ADDR");
	if (ret < 0)
		return ret;
	ret = kvm_set_up(ctx, vm->vm_fd, KVM_SET_TSS_ADDR, (void *)TSS_ADDRESS, "KVM_SET_TSS_ADDR");
	if (ret < 0)
		return ret;
	ret = kvm_set_up(ctx, vm->vm_fd, KVM_CREATE_IRQCHIP, NULL, "KVM_CREATE_IRQCHIP");
	if (ret < 0)
		return ret;
	ret = create_pit(ctx, vm);
	if (ret < 0)
		return ret;
	return get_chips(ctx, vm);
}

void kvm_arch_vm_destroy(struct kvm_vm *vm)
{
	free(vm->chips);
	vm->chips = NULL;
}

int kvm_chips_reset(struct vmctx *ctx)
{
	struct kvm_vm *vm = ctx->hv_data;
	int ret;

	/* KVM keeps the lines' levels beside the chips' state. */
	for (unsigned int gsi = 0; gsi < KVM_IOAPIC_NUM_PINS; gsi++) {
		ret = kvm_irq_line(ctx, gsi, false);
		if (ret)
			return ret;
	}
	for (unsigned int i = 0; i < CHIP_COUNT; i++) {
		ret = kvm_set_up(ctx, vm->vm_fd, KVM_SET_IRQCHIP, &vm->chips->irqchips[i],
				 "KVM_SET_IRQCHIP");
		if (ret < 0)
			return ret;
	}
	if (vm->pit == KVM_PIT_USER)
		return 0;
	return kvm_set_up(ctx, vm->vm_fd, KVM_SET_PIT2, &vm->chips->pit, "KVM_SET_PIT2");
}

unsigned int kvm_arch_gsi_base(void)
{
	return KVM_IOAPIC_NUM_PINS;
}

static void fill_line(struct kvm_irq_routing_entry *entry, unsigned int gsi, unsigned int chip,
		      unsigned int pin)
{
	*entry = (struct kvm_irq_routing_entry) {
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_IRQCHIP,
		.u.irqchip = { .irqchip = chip, .pin = pin },
	};
}

static unsigned int pic_routes(struct kvm_irq_routing_entry *entries)
{
	unsigned int count = 0;

	for (unsigned int gsi = 0; gsi < PIC_PINS; gsi++) {
		if (gsi == CASCADE_GSI)
			continue;
		if (entries)
			fill_line(&entries[count], gsi,
				  gsi < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE,
				  gsi & 7);
		count++;
	}
	return count;
}

static unsigned int ioapic_routes(struct kvm_irq_routing_entry *entries)
{
	unsigned int count = 0;

	for (unsigned int gsi = 0; gsi < KVM_IOAPIC_NUM_PINS; gsi++) {
		if (gsi == CASCADE_GSI)
			continue;
		if (entries)
			fill_line(&entries[count], gsi, KVM_IRQCHIP_IOAPIC,
				  gsi == TIMER_GSI ? TIMER_IOAPIC_PIN : gsi);
		count++;
	}
	return count;
}

unsigned int kvm_arch_line_routes(struct kvm_irq_routing_entry *entries)
{
	unsigned int count = pic_routes(entries);

	return count + ioapic_routes(entries ? &entries[count] : NULL);
}

bool kvm_arch_msi_valid(const struct hv_msi *msi)
{
	return range_contains(MSI_ADDRESS_FIRST, MSI_ADDRESS_SIZE, msi->addr, 1);
}
