/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kvm_cpu.c: the registers of an x86 CPU in a KVM guest: at power-on, at reset, at boot.
 *
 * What KVM gives a fresh vCPU, with the little that firmware would set up, is remembered once and
 * put back at every reset: that covers state this file has no name for.
 */
#include "../../core/hv/kvm.h"

#include <asm/kvm_para.h>
#include <errno.h>
#include <stdlib.h>

#include "arch.h"
#include "kvm_chips.h"

/* Intel SDM, volume 4 */
#define MSR_TSC 0x10
#define MSR_MISC_ENABLE 0x1a0
#define MSR_MTRR_PHYS_BASE0 0x200 /* base and mask of eight ranges */
#define MSR_MTRR_DEF_TYPE 0x2ff
#define MISC_ENABLE_FAST_STRINGS BIT64(0)
#define MTRR_DEF_TYPE_ENABLE BIT64(11)
#define MTRR_TYPE_WRITE_BACK 6
#define MTRR_VARIABLE_MSRS 16

#define MSRS_MAX 1024

/* Local APIC, Intel SDM, volume 3, 11.5.1 */
#define APIC_LVT_LINT0 0x350
#define APIC_LVT_LINT1 0x360
#define APIC_LVT_MODE_NMI (4u << 8)
#define APIC_LVT_MODE_EXTINT (7u << 8)

#define CR0_PE BIT64(0)
#define CR0_ET BIT64(4)
#define CR0_NE BIT64(5)
#define CR0_PG BIT64(31)
#define CR4_PAE BIT64(5)
#define EFER_LME BIT64(8)
#define EFER_LMA BIT64(10)
#define RFLAGS_ALWAYS_ONE 0x2

#define SEGMENT_CODE 0xb /* execute, read, accessed */
#define SEGMENT_DATA 0x3 /* read, write, accessed */

/* The MTRRs are not in the list that kernels before 6.6 give. */
static const uint32_t fixed_mtrrs[] = { 0x250, 0x258, 0x259, 0x268, 0x269, 0x26a,
					0x26b, 0x26c, 0x26d, 0x26e, 0x26f, MSR_MTRR_DEF_TYPE };

/** struct kvm_pristine - one vCPU as after power-on. */
struct kvm_pristine {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	uint8_t xsave[sizeof(struct kvm_xsave)]; /* may not be a member: it has no fixed size */
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debugregs;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp_state;
	struct kvm_lapic_state lapic;
	struct kvm_msrs *msrs;
	struct kvm_msrs *changed_msrs; /* room for as many, used by the reset */
};

/*
 * struct state_part - a part of the state that one ioctl reads and one writes, in the order in
 * which they are written: events first, they leave SMM and drop a latched INIT; then the special
 * registers, which decide how the rest is understood; the MP state last.
 */
#define STATE_PART(part, request, ...)                                                             \
	{                                                                                          \
		.offset = offsetof(struct kvm_pristine, part), .get = KVM_GET_##request,           \
		.set = KVM_SET_##request, .get_name = "KVM_GET_" #request,                         \
		.set_name = "KVM_SET_" #request, __VA_ARGS__                                       \
	}

static const struct state_part {
	size_t offset;
	unsigned long get, set;
	const char *get_name, *set_name;
	unsigned long only_with; /* a capability that not every host has */
} state_parts[] = {
	STATE_PART(events, VCPU_EVENTS),
	STATE_PART(sregs, SREGS),
	STATE_PART(regs, REGS),
	STATE_PART(xcrs, XCRS, .only_with = KVM_CAP_XCRS), /* a CPU with XSAVE */
	STATE_PART(xsave, XSAVE),
	STATE_PART(debugregs, DEBUGREGS),
	STATE_PART(lapic, LAPIC),
	STATE_PART(mp_state, MP_STATE),
};

static bool has_part(const struct kvm_vcpu *vcpu, const struct state_part *part)
{
	return !part->only_with ||
	       kvm_ioctl(vcpu->vm->kvm_fd, KVM_CHECK_EXTENSION, (void *)part->only_with) > 0;
}

static int transfer_state(struct kvm_vcpu *vcpu, bool set)
{
	uint8_t *pristine = (uint8_t *)vcpu->pristine;
	int ret;

	for (size_t i = 0; i < ARRAY_SIZE(state_parts); i++) {
		const struct state_part *part = &state_parts[i];

		if (!has_part(vcpu, part))
			continue;
		ret = kvm_set_up(vcpu->ctx, vcpu->fd, set ? part->set : part->get,
				 pristine + part->offset, set ? part->set_name : part->get_name);
		if (ret < 0)
			return ret;
	}
	return 0;
}

/* ---- Model-specific registers */

static void add_msr(struct kvm_msrs *msrs, uint32_t index)
{
	for (uint32_t i = 0; i < msrs->nmsrs; i++) {
		if (msrs->entries[i].index == index)
			return;
	}
	if (msrs->nmsrs < MSRS_MAX)
		msrs->entries[msrs->nmsrs++].index = index;
}

/* Which MSRs there are: KVM's list, which has its own (kvmclock, steal time ...), and the MTRRs. */
static int list_msrs(struct kvm_vcpu *vcpu, struct kvm_msrs *msrs)
{
	struct kvm_msr_list *list;
	int ret;

	list = calloc(1, sizeof(*list) + MSRS_MAX * sizeof(list->indices[0]));
	if (!list) {
		log_error(vcpu->ctx->log, "kvm: out of memory");
		return -ENOMEM;
	}
	list->nmsrs = MSRS_MAX;
	ret = kvm_set_up(vcpu->ctx, vcpu->vm->kvm_fd, KVM_GET_MSR_INDEX_LIST, list,
			 "KVM_GET_MSR_INDEX_LIST");
	for (uint32_t i = 0; !ret && i < list->nmsrs; i++)
		add_msr(msrs, list->indices[i]);
	free(list);

	for (size_t i = 0; i < ARRAY_SIZE(fixed_mtrrs); i++)
		add_msr(msrs, fixed_mtrrs[i]);
	for (uint32_t i = 0; i < MTRR_VARIABLE_MSRS; i++)
		add_msr(msrs, MSR_MTRR_PHYS_BASE0 + i);
	return ret;
}

/* Read or write them all; what this host refuses after all is taken out of @msrs. */
static void transfer_msrs(struct kvm_vcpu *vcpu, struct kvm_msrs *msrs, unsigned long request)
{
	uint32_t left;
	int done;

	while (msrs->nmsrs) {
		/* Stops at the first that fails and says how many went well (KVM API 4.18). */
		done = kvm_ioctl(vcpu->fd, request, msrs);
		if (done < 0)
			done = 0;
		if ((uint32_t)done >= msrs->nmsrs)
			return;
		left = msrs->nmsrs - done - 1;
		memmove(&msrs->entries[done], &msrs->entries[done + 1],
			left * sizeof(msrs->entries[0]));
		msrs->nmsrs--;
	}
}

static void write_msr(struct kvm_vcpu *vcpu, const struct kvm_msr_entry *entry)
{
	union {
		struct kvm_msrs msrs;
		uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
	} one = { .room = { 0 } };

	one.msrs.nmsrs = 1;
	one.msrs.entries[0] = *entry;
	transfer_msrs(vcpu, &one.msrs, KVM_SET_MSRS);
}

/* What firmware leaves in MSRs. */
static void adjust_msrs(struct kvm_vcpu *vcpu, struct kvm_msrs *msrs)
{
	for (uint32_t i = 0; i < msrs->nmsrs; i++) {
		struct kvm_msr_entry *msr = &msrs->entries[i];

		switch (msr->index) {
		case MSR_MISC_ENABLE:
			msr->data |= MISC_ENABLE_FAST_STRINGS;
			write_msr(vcpu, msr);
			break;
		case MSR_MTRR_DEF_TYPE:
			msr->data = MTRR_DEF_TYPE_ENABLE | MTRR_TYPE_WRITE_BACK;
			write_msr(vcpu, msr);
			break;
		case MSR_TSC:
			/* At a reset; to KVM, 0 means: in step with the other vCPUs. */
			msr->data = 0;
			break;
		}
	}
}

static int create_msrs(struct kvm_vcpu *vcpu)
{
	struct kvm_msrs *msrs = calloc(1, sizeof(*msrs) + MSRS_MAX * sizeof(msrs->entries[0]));
	struct kvm_msrs *changed =
		calloc(1, sizeof(*changed) + MSRS_MAX * sizeof(changed->entries[0]));
	int ret;

	vcpu->pristine->msrs = msrs;
	vcpu->pristine->changed_msrs = changed;
	if (!msrs || !changed) {
		log_error(vcpu->ctx->log, "kvm: out of memory");
		return -ENOMEM;
	}
	ret = list_msrs(vcpu, msrs);
	if (ret)
		return ret;
	transfer_msrs(vcpu, msrs, KVM_GET_MSRS);
	adjust_msrs(vcpu, msrs);
	return 0;
}

/*
 * Only those that changed are written: some that KVM lists it does not really have, and it
 * complains in the host's kernel log about a write even of the value they have.
 */
static void reset_msrs(struct kvm_vcpu *vcpu)
{
	const struct kvm_msrs *pristine = vcpu->pristine->msrs;
	struct kvm_msrs *changed = vcpu->pristine->changed_msrs;
	uint32_t count = 0;
	bool all;

	memcpy(changed, pristine,
	       sizeof(*pristine) + pristine->nmsrs * sizeof(pristine->entries[0]));
	all = kvm_ioctl(vcpu->fd, KVM_GET_MSRS, changed) != (int)pristine->nmsrs;
	for (uint32_t i = 0; i < pristine->nmsrs; i++) {
		if (all || changed->entries[i].data != pristine->entries[i].data)
			changed->entries[count++] = pristine->entries[i];
	}
	changed->nmsrs = count;
	transfer_msrs(vcpu, changed, KVM_SET_MSRS);
}

/* ---- Creation and reset */

/* Virtual wire mode, as firmware leaves it: the PIC at LINT0, NMI at LINT1 as the MADT says. */
static int wire_lapic(struct kvm_vcpu *vcpu)
{
	struct kvm_lapic_state lapic = { 0 };
	int ret;

	ret = kvm_set_up(vcpu->ctx, vcpu->fd, KVM_GET_LAPIC, &lapic, "KVM_GET_LAPIC");
	if (ret < 0)
		return ret;
	bytes_put(&lapic.regs[APIC_LVT_LINT0], 4, APIC_LVT_MODE_EXTINT);
	bytes_put(&lapic.regs[APIC_LVT_LINT1], 4, APIC_LVT_MODE_NMI);
	return kvm_set_up(vcpu->ctx, vcpu->fd, KVM_SET_LAPIC, &lapic, "KVM_SET_LAPIC");
}

int kvm_arch_vcpu_create(struct kvm_vcpu *vcpu)
{
	int ret;

	vcpu->pristine = calloc(1, sizeof(*vcpu->pristine));
	if (!vcpu->pristine) {
		log_error(vcpu->ctx->log, "kvm: out of memory");
		return -ENOMEM;
	}
	/* CPUID first: it decides which registers and bits there are. */
	ret = kvm_cpuid_set(vcpu);
	if (ret)
		return ret;
	ret = create_msrs(vcpu);
	if (ret)
		return ret;
	ret = wire_lapic(vcpu);
	if (ret)
		return ret;
	return transfer_state(vcpu, false);
}

void kvm_arch_vcpu_destroy(struct kvm_vcpu *vcpu)
{
	if (!vcpu->pristine)
		return;
	free(vcpu->pristine->changed_msrs);
	free(vcpu->pristine->msrs);
	free(vcpu->pristine);
	vcpu->pristine = NULL;
}

int kvm_arch_reset(struct vmctx *ctx)
{
	struct kvm_vm *vm = ctx->hv_data;
	int ret;

	/* kvmclock, steal time, PV EOI: KVM stops writing into guest memory here. */
	for (unsigned int i = 0; i < vm->vcpu_count; i++)
		reset_msrs(&vm->vcpus[i]);
	ret = kvm_chips_reset(ctx);
	for (unsigned int i = 0; !ret && i < vm->vcpu_count; i++)
		ret = transfer_state(&vm->vcpus[i], true);
	return ret;
}

/* ---- Boot */

static struct kvm_segment flat_segment(uint16_t selector, uint8_t type, bool code64)
{
	return (struct kvm_segment) {
		.limit = 0xffffffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.db = !code64,
		.s = 1,
		.l = code64,
		.g = 1,
	};
}

static void boot_sregs(struct kvm_sregs *sregs, const struct hv_cpu_state *state)
{
	struct kvm_segment data = flat_segment(X86_GDT_DATA, SEGMENT_DATA, false);

	if (state->mode == X86_MODE_LONG) {
		sregs->cs = flat_segment(X86_GDT_CODE64, SEGMENT_CODE, true);
		sregs->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_PG;
		sregs->cr3 = state->cr3;
		sregs->cr4 = CR4_PAE;
		sregs->efer = EFER_LME | EFER_LMA;
	} else {
		sregs->cs = flat_segment(X86_GDT_CODE32, SEGMENT_CODE, false);
		sregs->cr0 = CR0_PE | CR0_ET;
		sregs->cr3 = 0;
		sregs->cr4 = 0;
		sregs->efer = 0;
	}
	sregs->ds = data;
	sregs->es = data;
	sregs->fs = data;
	sregs->gs = data;
	sregs->ss = data;
	sregs->gdt.base = state->gdt_base;
	sregs->gdt.limit = state->gdt_limit;
	/* No interrupts until the guest has a table of its own. */
	sregs->idt.base = 0;
	sregs->idt.limit = 0;
}

/* Real mode, all but the code segment as after power-on. */
static void wake_state(struct kvm_sregs *sregs, struct kvm_regs *regs, uint64_t address)
{
	sregs->cs.selector = (uint16_t)(address >> 4);
	sregs->cs.base = (uint64_t)sregs->cs.selector << 4;
	*regs = (struct kvm_regs) { .rip = address & 0xf, .rflags = RFLAGS_ALWAYS_ONE };
}

int kvm_arch_vcpu_boot(struct kvm_vcpu *vcpu, const struct hv_cpu_state *state)
{
	struct kvm_sregs sregs = vcpu->pristine->sregs;
	struct kvm_regs regs = {
		.rip = state->rip,
		.rsp = state->rsp,
		.rsi = state->rsi,
		.rbx = state->rbx,
		.rflags = RFLAGS_ALWAYS_ONE,
	};
	int ret;

	if (state->mode == X86_MODE_REAL)
		wake_state(&sregs, &regs, state->rip);
	else
		boot_sregs(&sregs, state);
	ret = kvm_set_up(vcpu->ctx, vcpu->fd, KVM_SET_SREGS, &sregs, "KVM_SET_SREGS");
	if (ret < 0)
		return ret;
	return kvm_set_up(vcpu->ctx, vcpu->fd, KVM_SET_REGS, &regs, "KVM_SET_REGS");
}

uint64_t kvm_arch_vcpu_pc(struct kvm_vcpu *vcpu)
{
	struct kvm_regs regs = { 0 };

	if (kvm_ioctl(vcpu->fd, KVM_GET_REGS, &regs) < 0)
		return 0;
	return regs.rip;
}
