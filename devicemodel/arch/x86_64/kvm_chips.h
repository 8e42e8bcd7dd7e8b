/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kvm_chips.h: between kvm_cpu.c and kvm_chips.c.
 */
#ifndef TENON_KVM_CHIPS_H
#define TENON_KVM_CHIPS_H

struct vmctx;

/** kvm_chips_reset() - PICs, IOAPIC and PIT as at power-on, all lines low; 0 or -errno. */
int kvm_chips_reset(struct vmctx *ctx) __attribute__((warn_unused_result));

#endif
