/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * acrn_cpu.c: the registers with which an x86 CPU starts under ACRN, and how its interrupts are wired.
 *
 * The hypervisor takes attributes and limit of the code segment only; the other segments are flat
 * in protected and long mode, and selector * 16 in real mode.
 */
#include "../../core/hv/acrn.h"

#include <errno.h>

#include "arch.h"

#define CR0_PE BIT64(0)
#define CR0_ET BIT64(4)
#define CR0_NE BIT64(5) /* VMX does not run without it (Intel SDM, volume 3, A.7) */
#define CR0_PG BIT64(31)
#define CR4_PAE BIT64(5)
#define EFER_LME BIT64(8)
#define EFER_LMA BIT64(10)
#define RFLAGS_ALWAYS_ONE 0x2

/* Access rights as VMX has them (Intel SDM, volume 3, 25.4.1): present code, execute, read, accessed */
#define CODE 0x9b
#define CODE64 (CODE | 1 << 13 | 1 << 15) /* L, G */
#define CODE32 (CODE | 1 << 14 | 1 << 15) /* D, G */

#define REAL_MODE_LIMIT 0xffff
#define REAL_MODE_IDT_LIMIT 0x3ff

/* Intel SDM, volume 3, 11.11.1: messages to local APICs go here. */
#define MSI_ADDRESS_FIRST UINT64_C(0xfee00000)
#define MSI_ADDRESS_SIZE MIB(1)

#define TIMER_GSI 0
#define TIMER_IOAPIC_PIN 2
#define CASCADE_GSI 2

static void flat_segments(struct acrn_regs *regs, const struct hv_cpu_state *state)
{
	regs->cs_limit = UINT32_MAX;
	regs->ss_sel = X86_GDT_DATA;
	regs->ds_sel = X86_GDT_DATA;
	regs->es_sel = X86_GDT_DATA;
	regs->fs_sel = X86_GDT_DATA;
	regs->gs_sel = X86_GDT_DATA;
	regs->gdt.base = state->gdt_base;
	regs->gdt.limit = state->gdt_limit;
	regs->rip = state->rip;
	regs->gprs.rsp = state->rsp;
	regs->gprs.rsi = state->rsi;
	regs->gprs.rbx = state->rbx;
}

static void long_mode(struct acrn_regs *regs, const struct hv_cpu_state *state)
{
	flat_segments(regs, state);
	regs->cs_sel = X86_GDT_CODE64;
	regs->cs_ar = CODE64;
	regs->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_PG;
	regs->cr3 = state->cr3;
	regs->cr4 = CR4_PAE;
	regs->ia32_efer = EFER_LME | EFER_LMA;
}

static void protected_mode(struct acrn_regs *regs, const struct hv_cpu_state *state)
{
	flat_segments(regs, state);
	regs->cs_sel = X86_GDT_CODE32;
	regs->cs_ar = CODE32;
	regs->cr0 = CR0_PE | CR0_ET | CR0_NE;
}

/* ACPI 6.5, 5.2.10: CS is the waking vector >> 4, IP its low four bits. */
static void real_mode(struct acrn_regs *regs, const struct hv_cpu_state *state)
{
	regs->cs_sel = (uint16_t)(state->rip >> 4);
	regs->cs_base = (uint64_t)regs->cs_sel << 4;
	regs->cs_limit = REAL_MODE_LIMIT;
	regs->cs_ar = CODE;
	regs->rip = state->rip & 0xf;
	regs->gdt.limit = REAL_MODE_LIMIT;
	regs->idt.limit = REAL_MODE_IDT_LIMIT;
	regs->cr0 = CR0_ET | CR0_NE;
}

void acrn_arch_boot_regs(const struct hv_cpu_state *state, struct acrn_vcpu_regs *regs)
{
	memset(regs, 0, sizeof(*regs));
	regs->vcpu_regs.rflags = RFLAGS_ALWAYS_ONE;
	switch (state->mode) {
	case X86_MODE_LONG:
		long_mode(&regs->vcpu_regs, state);
		break;
	case X86_MODE_PROTECTED:
		protected_mode(&regs->vcpu_regs, state);
		break;
	case X86_MODE_REAL:
		real_mode(&regs->vcpu_regs, state);
		break;
	}
}

bool acrn_arch_msi_valid(const struct hv_msi *msi)
{
	return range_contains(MSI_ADDRESS_FIRST, MSI_ADDRESS_SIZE, msi->addr, 1);
}

/*
 * The hypervisor gives a line below 16 to the PIC and the IOAPIC at once, to the input of that
 * number, except that 2 is input 0 of the PIC: the place of the timer, whose ISA number is 0. The
 * real 2 is the second PIC's place on the first, and no line.
 */
int acrn_arch_line(unsigned int gsi)
{
	if (gsi >= ACRN_LINES || gsi == CASCADE_GSI)
		return -EINVAL;
	return gsi == TIMER_GSI ? TIMER_IOAPIC_PIN : (int)gsi;
}
