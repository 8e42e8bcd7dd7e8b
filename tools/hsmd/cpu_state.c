/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cpu_state.c: registers: what firmware would have set up, and what SET_VCPU_REGS says.
 */
#include "hsmd.h"

#include <errno.h>
#include <string.h>

/* Intel SDM, volume 4 */
#define MSR_MISC_ENABLE 0x1a0
#define MSR_MTRR_DEF_TYPE 0x2ff
#define MISC_ENABLE_FAST_STRINGS 1u
#define MTRR_ENABLED_WRITE_BACK (1u << 11 | 6u)

/* Local APIC, Intel SDM, volume 3, 11.5.1 */
#define APIC_LVT_LINT0 0x350
#define APIC_LVT_LINT1 0x360
#define APIC_LVT_MODE_NMI (4u << 8)
#define APIC_LVT_MODE_EXTINT (7u << 8)

#define CR0_PE 1u
#define CR0_PG (1u << 31)
#define EFER_LMA (1u << 10)
#define RFLAGS_ALWAYS_ONE 0x2u
#define RFLAGS_STATUS 0x8d5u /* results of arithmetic */

/* Access rights as <linux/acrn.h> has them: those of a VMCS (Intel SDM, volume 3, 25.4.1). */
#define RIGHTS_DATA_PROTECTED 0xc093u
#define RIGHTS_DATA_REAL 0x0093u
#define RIGHTS_LDT 0x0082u
#define RIGHTS_TSS 0x008bu

union one_msr {
	struct kvm_msrs msrs;
	uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
};

/* A CPU may lack it. */
static void change_msr(struct vcpu *vcpu, uint32_t index, uint64_t clear, uint64_t set)
{
	union one_msr msr = { .room = { 0 } };

	msr.msrs.nmsrs = 1;
	msr.msrs.entries[0].index = index;
	if (kvm_call(vcpu->fd, KVM_GET_MSRS, &msr) != 1)
		return;
	msr.msrs.entries[0].data = (msr.msrs.entries[0].data & ~clear) | set;
	kvm_call(vcpu->fd, KVM_SET_MSRS, &msr);
}

int cpu_state_firmware(struct vcpu *vcpu)
{
	const uint32_t pic = APIC_LVT_MODE_EXTINT, nmi = APIC_LVT_MODE_NMI;
	struct kvm_lapic_state lapic = { 0 };
	int ret;

	change_msr(vcpu, MSR_MISC_ENABLE, 0, MISC_ENABLE_FAST_STRINGS);
	change_msr(vcpu, MSR_MTRR_DEF_TYPE, ~UINT64_C(0), MTRR_ENABLED_WRITE_BACK);
	if (vcpu->id)
		return 0;
	/* Virtual wire mode: the PIC at the boot CPU's LINT0. */
	ret = kvm_must(vcpu->vm, vcpu->fd, KVM_GET_LAPIC, &lapic, "KVM_GET_LAPIC");
	if (ret)
		return ret;
	memcpy(&lapic.regs[APIC_LVT_LINT0], &pic, sizeof(pic));
	memcpy(&lapic.regs[APIC_LVT_LINT1], &nmi, sizeof(nmi));
	return kvm_must(vcpu->vm, vcpu->fd, KVM_SET_LAPIC, &lapic, "KVM_SET_LAPIC");
}

static struct kvm_segment make_segment(uint16_t selector, uint64_t base, uint32_t limit,
				       uint32_t rights)
{
	return (struct kvm_segment) {
		.base = base,
		.limit = limit,
		.selector = selector,
		.type = rights & 0xf,
		.s = rights >> 4 & 1,
		.dpl = rights >> 5 & 3,
		.present = rights >> 7 & 1,
		.avl = rights >> 12 & 1,
		.l = rights >> 13 & 1,
		.db = rights >> 14 & 1,
		.g = rights >> 15 & 1,
		.unusable = rights >> 16 & 1,
	};
}

/* As the hypervisor does it: only the code segment comes as given, the others have defaults. */
static void fill_sregs(struct kvm_sregs *sregs, const struct acrn_regs *regs)
{
	bool protected = regs->cr0 & CR0_PE;
	uint32_t limit = protected ? 0xffffffff : 0xffff;
	uint32_t rights = protected ? RIGHTS_DATA_PROTECTED : RIGHTS_DATA_REAL;

	sregs->cs = make_segment(regs->cs_sel, regs->cs_base, regs->cs_limit, regs->cs_ar);
	sregs->ss = make_segment(regs->ss_sel, 0, limit, rights);
	sregs->ds = make_segment(regs->ds_sel, 0, limit, rights);
	sregs->es = make_segment(regs->es_sel, 0, limit, rights);
	sregs->fs = make_segment(regs->fs_sel, 0, limit, rights);
	sregs->gs = make_segment(regs->gs_sel, 0, limit, rights);
	sregs->ldt = make_segment(regs->ldt_sel, 0, 0xffff, RIGHTS_LDT);
	sregs->tr = make_segment(regs->tr_sel, 0, 0xffff, RIGHTS_TSS);
	sregs->gdt.base = regs->gdt.base;
	sregs->gdt.limit = regs->gdt.limit;
	sregs->idt.base = regs->idt.base;
	sregs->idt.limit = regs->idt.limit;
	sregs->cr0 = regs->cr0;
	sregs->cr3 = regs->cr3;
	sregs->cr4 = regs->cr4;
	sregs->efer = regs->ia32_efer;
}

static void fill_regs(struct kvm_regs *regs, const struct acrn_regs *from)
{
	const struct acrn_gp_regs *gp = &from->gprs;

	*regs = (struct kvm_regs) {
		.rax = gp->rax,
		.rbx = gp->rbx,
		.rcx = gp->rcx,
		.rdx = gp->rdx,
		.rsi = gp->rsi,
		.rdi = gp->rdi,
		.rsp = gp->rsp,
		.rbp = gp->rbp,
		.r8 = gp->r8,
		.r9 = gp->r9,
		.r10 = gp->r10,
		.r11 = gp->r11,
		.r12 = gp->r12,
		.r13 = gp->r13,
		.r14 = gp->r14,
		.r15 = gp->r15,
		.rip = from->rip,
		.rflags = (from->rflags & ~(uint64_t)RFLAGS_STATUS) | RFLAGS_ALWAYS_ONE,
	};
}

int cpu_state_set(struct vcpu *vcpu, const struct acrn_regs *from)
{
	struct kvm_sregs sregs = { 0 };
	struct kvm_regs regs;
	int ret = kvm_must(vcpu->vm, vcpu->fd, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS");

	if (ret)
		return ret;
	fill_sregs(&sregs, from);
	fill_regs(&regs, from);
	ret = kvm_call(vcpu->fd, KVM_SET_SREGS, &sregs);
	if (!ret)
		ret = kvm_call(vcpu->fd, KVM_SET_REGS, &regs);
	if (ret)
		log_line(LOG_ERROR,
			 "VM %u: vCPU %u: no CPU can be in that state: cr0 0x%llx, cr4 0x%llx, "
			 "efer 0x%llx",
			 vcpu->vm->id, vcpu->id, (unsigned long long)from->cr0,
			 (unsigned long long)from->cr4, (unsigned long long)from->ia32_efer);
	return ret;
}
