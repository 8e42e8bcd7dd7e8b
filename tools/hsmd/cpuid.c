/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cpuid.c: what CPUID says in a guest: what host and KVM support, with the VM's own topology (one
 * package of single-thread cores, APIC id = vCPU number), and ACRN's leaves instead of KVM's. With
 * --kvm-clock, KVM's clock is offered beside them.
 */
#include "hsmd.h"

#include <asm/kvm_para.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ENTRIES_MAX 256 /* KVM_MAX_CPUID_ENTRIES of the kernel */
#define BIT(n) (1u << (n))

#define LEAF_FEATURES 0x1
#define LEAF_CACHES_INTEL 0x4
#define LEAF_STRUCTURED 0x7
#define LEAF_TOPOLOGY 0xb
#define LEAF_XSAVE 0xd
#define LEAF_HYPERVISOR 0x40000000
#define LEAF_HYPERVISOR_LAST 0x400000ff
#define LEAF_ACRN_FEATURES 0x40000001
#define LEAF_KVM 0x40000100 /* where a second hypervisor's leaves may be */
#define LEAF_ACRN_TIMING 0x40000010
#define LEAF_EXTENDED 0x80000001
#define LEAF_SIZES_AMD 0x80000008
#define LEAF_CACHES_AMD 0x8000001d
#define LEAF_IDS_AMD 0x8000001e

#define VENDOR_ECX_AMD 0x444d4163 /* "cAMD" */

/*
 * Left out: MONITOR, SGX, processor trace, AMX, SVM, SEV; 0xb is written anew, 0x1f and 0x80000026
 * would say the host's topology.
 */
static const uint32_t dropped[] = { 0x5, 0x12, 0x14,	   0x1d,       0x1e,
				    0xb, 0x1f, 0x8000000a, 0x8000001f, 0x80000026 };

struct shape {
	unsigned int id, count, bits;
	bool amd, deadline_timer;
	uint32_t last_basic;
	uint32_t tsc_khz;
};

static bool is_dropped(uint32_t function)
{
	for (size_t i = 0; i < ARRAY_SIZE(dropped); i++) {
		if (dropped[i] == function)
			return true;
	}
	return function >= LEAF_HYPERVISOR && function <= LEAF_HYPERVISOR_LAST;
}

static void drop_leaves(struct kvm_cpuid2 *cpuid)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < cpuid->nent; i++) {
		if (!is_dropped(cpuid->entries[i].function))
			cpuid->entries[kept++] = cpuid->entries[i];
	}
	cpuid->nent = kept;
}

static void adjust_features(struct kvm_cpuid_entry2 *entry, const struct shape *shape)
{
	entry->ebx &= 0xffff;
	entry->ebx |= shape->id << 24 | 1u << (16 + shape->bits);
	entry->ecx &= ~(BIT(3) | BIT(5)); /* MONITOR, VMX */
	entry->ecx |= BIT(31); /* there is a hypervisor */
	if (shape->deadline_timer)
		entry->ecx |= BIT(24);
	entry->edx &= ~BIT(28); /* more than one CPU in the package */
	if (shape->count > 1)
		entry->edx |= BIT(28);
}

/* Last-level caches are the package's, others a core's. */
static unsigned int cache_sharers(const struct kvm_cpuid_entry2 *entry, const struct shape *shape)
{
	return (entry->eax >> 5 & 7) >= 3 ? 1u << shape->bits : 1;
}

static void adjust_caches(struct kvm_cpuid_entry2 *entry, const struct shape *shape, bool intel)
{
	if (!(entry->eax & 0x1f))
		return;
	entry->eax &= intel ? 0x3fff : ~(0xfffu << 14);
	entry->eax |= (cache_sharers(entry, shape) - 1) << 14;
	if (intel)
		entry->eax |= ((1u << shape->bits) - 1) << 26;
}

static void adjust_leaf(struct kvm_cpuid_entry2 *entry, const struct shape *shape)
{
	switch (entry->function) {
	case LEAF_FEATURES:
		adjust_features(entry, shape);
		break;
	case LEAF_CACHES_INTEL:
		adjust_caches(entry, shape, true);
		break;
	case LEAF_STRUCTURED:
		if (entry->index)
			break;
		entry->ebx &= ~(BIT(2) | BIT(25)); /* SGX, processor trace */
		entry->ecx &= ~BIT(30);
		entry->edx &= ~(BIT(22) | BIT(24) | BIT(25)); /* AMX */
		break;
	case LEAF_XSAVE:
		if (entry->index == 1)
			entry->eax &= ~BIT(4); /* XFD, which only AMX needs */
		break;
	case LEAF_EXTENDED:
		entry->ecx &= ~(BIT(1) | BIT(2)); /* CmpLegacy, SVM */
		if (shape->amd && shape->count > 1)
			entry->ecx |= BIT(1);
		break;
	case LEAF_SIZES_AMD:
		entry->ecx &= ~0xf0ffu;
		entry->ecx |= (shape->count - 1) | shape->bits << 12;
		break;
	case LEAF_CACHES_AMD:
		adjust_caches(entry, shape, false);
		break;
	case LEAF_IDS_AMD:
		entry->eax = shape->id;
		entry->ebx = shape->id;
		entry->ecx = 0;
		break;
	}
}

static void add_leaf(struct kvm_cpuid2 *cpuid, const struct kvm_cpuid_entry2 *entry)
{
	cpuid->entries[cpuid->nent++] = *entry;
}

/* Intel SDM, volume 2A: how many bits of the APIC id number threads (none) and cores. */
static void add_topology(struct kvm_cpuid2 *cpuid, const struct shape *shape)
{
	struct kvm_cpuid_entry2 level = {
		.function = LEAF_TOPOLOGY,
		.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
		.ebx = 1,
		.ecx = 1u << 8, /* threads */
		.edx = shape->id,
	};

	if (shape->last_basic < LEAF_TOPOLOGY)
		return;
	add_leaf(cpuid, &level);
	level.index = 1;
	level.eax = shape->bits;
	level.ebx = shape->count;
	level.ecx = 2u << 8 | 1; /* cores */
	add_leaf(cpuid, &level);
}

static void add_hypervisor(struct kvm_cpuid2 *cpuid, const struct shape *shape)
{
	struct kvm_cpuid_entry2 name = { .function = LEAF_HYPERVISOR, .eax = LEAF_ACRN_TIMING };
	struct kvm_cpuid_entry2 features = { .function = LEAF_ACRN_FEATURES };
	struct kvm_cpuid_entry2 timing = { .function = LEAF_ACRN_TIMING, .eax = shape->tsc_khz };

	memcpy(&name.ebx, "ACRN", 4);
	memcpy(&name.ecx, "ACRN", 4);
	memcpy(&name.edx, "ACRN", 4);
	add_leaf(cpuid, &name);
	add_leaf(cpuid, &features);
	add_leaf(cpuid, &timing);
}

/* Of KVM's features those that spare the guest accesses to slow timers. */
static void add_kvm_clock(struct kvm_cpuid2 *cpuid)
{
	struct kvm_cpuid_entry2 name = { .function = LEAF_KVM, .eax = LEAF_KVM + 1 };
	struct kvm_cpuid_entry2 features = {
		.function = LEAF_KVM + 1,
		.eax = 1u << KVM_FEATURE_CLOCKSOURCE | 1u << KVM_FEATURE_CLOCKSOURCE2 |
		       1u << KVM_FEATURE_CLOCKSOURCE_STABLE_BIT | 1u << KVM_FEATURE_NOP_IO_DELAY,
	};

	memcpy(&name.ebx, "KVMK", 4);
	memcpy(&name.ecx, "VMKV", 4);
	memcpy(&name.edx, "M\0\0", 4);
	add_leaf(cpuid, &name);
	add_leaf(cpuid, &features);
}

static void find_shape(struct vcpu *vcpu, const struct kvm_cpuid2 *cpuid, struct shape *shape)
{
	int khz = kvm_call(vcpu->fd, KVM_GET_TSC_KHZ, NULL);

	*shape = (struct shape) { .id = vcpu->id, .count = vcpu->vm->vcpu_count };
	while ((1u << shape->bits) < shape->count)
		shape->bits++;
	shape->tsc_khz = khz > 0 ? (uint32_t)khz : 0;
	/* KVM API 4.46: not among the supported bits of older kernels. */
	shape->deadline_timer = kvm_call(vcpu->vm->hsmd->kvm_fd, KVM_CHECK_EXTENSION,
					 (void *)KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		if (cpuid->entries[i].function)
			continue;
		shape->last_basic = cpuid->entries[i].eax;
		shape->amd = cpuid->entries[i].ecx == VENDOR_ECX_AMD;
	}
}

int cpuid_set(struct vcpu *vcpu)
{
	struct kvm_cpuid2 *cpuid;
	struct shape shape;
	int ret;

	cpuid = calloc(1, sizeof(*cpuid) + (ENTRIES_MAX + 7) * sizeof(cpuid->entries[0]));
	if (!cpuid)
		return -ENOMEM;
	cpuid->nent = ENTRIES_MAX;
	ret = kvm_must(vcpu->vm, vcpu->vm->hsmd->kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid,
		       "KVM_GET_SUPPORTED_CPUID");
	if (!ret) {
		find_shape(vcpu, cpuid, &shape);
		drop_leaves(cpuid);
		for (uint32_t i = 0; i < cpuid->nent; i++)
			adjust_leaf(&cpuid->entries[i], &shape);
		add_topology(cpuid, &shape);
		add_hypervisor(cpuid, &shape);
		if (vcpu->vm->hsmd->kvm_clock)
			add_kvm_clock(cpuid);
		ret = kvm_must(vcpu->vm, vcpu->fd, KVM_SET_CPUID2, cpuid, "KVM_SET_CPUID2");
	}
	free(cpuid);
	return ret;
}
