/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kvm_cpuid.c: what the CPUID instruction says in a KVM guest: what host and KVM support, without
 * what tenon does not carry, and with the guest's own topology: one package of single-thread cores.
 *
 * Leaves are those of the Intel SDM, volume 2A, CPUID, and of the AMD64 manual, volume 3, appendix
 * E. KVM's own leaves from 0x40000000 on are passed as they are: kvmclock and the rest work inside
 * the kernel, and a reset switches them off through their MSRs.
 */
#include "../../core/hv/kvm.h"

#include <errno.h>
#include <stdlib.h>

/* KVM_MAX_CPUID_ENTRIES of the kernel. */
#define ENTRIES_MAX 256

#define LEAF_FEATURES 0x1
#define LEAF_CACHES_INTEL 0x4
#define LEAF_TOPOLOGY 0xb
#define LEAF_TOPOLOGY_V2 0x1f
#define LEAF_EXTENDED_FEATURES 0x80000001
#define LEAF_SIZES_AMD 0x80000008
#define LEAF_CACHES_AMD 0x8000001d
#define LEAF_APIC_ID_AMD 0x8000001e

#define VENDOR_ECX_AMD 0x444d4163 /* "cAMD" of "AuthenticAMD" */
#define FEATURES_ECX_TSC_DEADLINE BIT32(24)
#define FEATURES_ECX_HYPERVISOR BIT32(31)
#define FEATURES_EDX_HTT BIT32(28)
#define EXTENDED_ECX_CMP_LEGACY BIT32(1)
#define TOPOLOGY_LEVEL_THREAD (1u << 8)
#define TOPOLOGY_LEVEL_CORE (2u << 8)

/* Features that need state or help from user space that tenon does not give. */
static const struct {
	uint32_t function, index;
	uint32_t eax, ebx, ecx, edx;
} hidden[] = {
	/* VMX; MONITOR: exits are not disabled */
	{ .function = 0x1, .ecx = BIT32(5) | BIT32(3) },
	/* SGX: no EPC; processor trace: no MSR state; SGX launch control; AMX: no permission asked */
	{ .function = 0x7,
	  .ebx = BIT32(2) | BIT32(25),
	  .ecx = BIT32(30),
	  .edx = BIT32(22) | BIT32(24) | BIT32(25) },
	/* XFD, which only AMX needs */
	{ .function = 0xd, .index = 1, .eax = BIT32(4) },
	/* SVM; topology extensions stay, see set_amd_caches() */
	{ .function = 0x80000001, .ecx = BIT32(2) },
};

/*
 * Leaves left out: MONITOR, SGX, processor trace, AMX (two), SVM, SEV; and topologies that
 * describe the host: 0xb is written anew, 0x1f and 0x80000026 say nothing beyond it.
 */
static const uint32_t dropped[] = {
	0x5,	    0x12,	0x14,	   0x1d, 0x1e, LEAF_TOPOLOGY, LEAF_TOPOLOGY_V2,
	0x8000000a, 0x8000001f, 0x80000026
};

/* One of the guest's CPUs: @bits of an APIC id tell all @count of them apart. */
struct cpu_shape {
	unsigned int id, count, bits;
	bool amd;
	bool tsc_deadline;
};

static unsigned int id_bits(unsigned int count)
{
	unsigned int bits = 0;

	while ((1u << bits) < count)
		bits++;
	return bits;
}

static bool is_dropped(uint32_t function)
{
	for (size_t i = 0; i < ARRAY_SIZE(dropped); i++) {
		if (dropped[i] == function)
			return true;
	}
	return false;
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

static void hide_features(struct kvm_cpuid_entry2 *entry)
{
	for (size_t i = 0; i < ARRAY_SIZE(hidden); i++) {
		if (hidden[i].function != entry->function || hidden[i].index != entry->index)
			continue;
		entry->eax &= ~hidden[i].eax;
		entry->ebx &= ~hidden[i].ebx;
		entry->ecx &= ~hidden[i].ecx;
		entry->edx &= ~hidden[i].edx;
	}
}

static void set_features(struct kvm_cpuid_entry2 *entry, const struct cpu_shape *cpu)
{
	entry->ebx &= 0x0000ffff; /* leaves the CLFLUSH size */
	entry->ebx |= cpu->id << 24 | 1u << (16 + cpu->bits);
	entry->ecx |= FEATURES_ECX_HYPERVISOR;
	if (cpu->tsc_deadline)
		entry->ecx |= FEATURES_ECX_TSC_DEADLINE;
	entry->edx &= ~FEATURES_EDX_HTT;
	if (cpu->count > 1)
		entry->edx |= FEATURES_EDX_HTT;
}

static void set_extended_features(struct kvm_cpuid_entry2 *entry, const struct cpu_shape *cpu)
{
	entry->ecx &= ~EXTENDED_ECX_CMP_LEGACY;
	if (cpu->amd && cpu->count > 1)
		entry->ecx |= EXTENDED_ECX_CMP_LEGACY;
}

/* Last-level caches belong to the package, the others to a core. */
static unsigned int cache_sharers(const struct kvm_cpuid_entry2 *entry, const struct cpu_shape *cpu)
{
	unsigned int level = entry->eax >> 5 & 7;

	return level >= 3 ? 1u << cpu->bits : 1;
}

static void set_intel_caches(struct kvm_cpuid_entry2 *entry, const struct cpu_shape *cpu)
{
	if (!(entry->eax & 0x1f))
		return;
	entry->eax &= 0x00003fff;
	entry->eax |= (cache_sharers(entry, cpu) - 1) << 14;
	entry->eax |= ((1u << cpu->bits) - 1) << 26;
}

static void set_amd_caches(struct kvm_cpuid_entry2 *entry, const struct cpu_shape *cpu)
{
	if (!(entry->eax & 0x1f))
		return;
	entry->eax &= ~(0xfffu << 14);
	entry->eax |= (cache_sharers(entry, cpu) - 1) << 14;
}

static void adjust_leaf(struct kvm_cpuid_entry2 *entry, const struct cpu_shape *cpu)
{
	hide_features(entry);
	switch (entry->function) {
	case LEAF_FEATURES:
		set_features(entry, cpu);
		break;
	case LEAF_CACHES_INTEL:
		set_intel_caches(entry, cpu);
		break;
	case LEAF_EXTENDED_FEATURES:
		set_extended_features(entry, cpu);
		break;
	case LEAF_SIZES_AMD:
		entry->ecx &= ~UINT32_C(0xf0ff);
		entry->ecx |= (cpu->count - 1) | cpu->bits << 12;
		break;
	case LEAF_CACHES_AMD:
		set_amd_caches(entry, cpu);
		break;
	case LEAF_APIC_ID_AMD:
		entry->eax = cpu->id;
		entry->ebx = cpu->id; /* core id, one thread */
		entry->ecx = 0; /* node 0 of 1 */
		break;
	}
}

/* Leaf 0xb: how many bits of the APIC id number threads (none) and cores. */
static void add_topology(struct kvm_cpuid2 *cpuid, const struct cpu_shape *cpu)
{
	struct kvm_cpuid_entry2 thread = {
		.function = LEAF_TOPOLOGY,
		.index = 0,
		.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
		.eax = 0,
		.ebx = 1,
		.ecx = TOPOLOGY_LEVEL_THREAD,
		.edx = cpu->id,
	};
	struct kvm_cpuid_entry2 core = thread;

	core.index = 1;
	core.eax = cpu->bits;
	core.ebx = cpu->count;
	core.ecx = TOPOLOGY_LEVEL_CORE | 1;
	cpuid->entries[cpuid->nent++] = thread;
	cpuid->entries[cpuid->nent++] = core;
}

static void adjust(struct kvm_cpuid2 *cpuid, struct cpu_shape *cpu)
{
	uint32_t last_basic = 0;

	for (uint32_t i = 0; i < cpuid->nent; i++) {
		if (cpuid->entries[i].function == 0) {
			last_basic = cpuid->entries[i].eax;
			cpu->amd = cpuid->entries[i].ecx == VENDOR_ECX_AMD;
		}
	}
	drop_leaves(cpuid);
	for (uint32_t i = 0; i < cpuid->nent; i++)
		adjust_leaf(&cpuid->entries[i], cpu);
	if (last_basic >= LEAF_TOPOLOGY)
		add_topology(cpuid, cpu);
}

int kvm_cpuid_set(struct kvm_vcpu *vcpu)
{
	struct vmctx *ctx = vcpu->ctx;
	struct cpu_shape cpu = {
		.id = vcpu->id,
		.count = ctx->config.cpu_count,
		.bits = id_bits(ctx->config.cpu_count),
	};
	struct kvm_cpuid2 *cpuid;
	int ret;

	cpuid = calloc(1, sizeof(*cpuid) + (ENTRIES_MAX + 2) * sizeof(cpuid->entries[0]));
	if (!cpuid) {
		log_error(ctx->log, "kvm: out of memory");
		return -ENOMEM;
	}
	cpuid->nent = ENTRIES_MAX;
	ret = kvm_set_up(ctx, vcpu->vm->kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid,
			 "KVM_GET_SUPPORTED_CPUID");
	if (ret >= 0) {
		/* KVM API 4.46: this one is not among the supported bits of older kernels. */
		cpu.tsc_deadline = kvm_ioctl(vcpu->vm->kvm_fd, KVM_CHECK_EXTENSION,
					     (void *)KVM_CAP_TSC_DEADLINE_TIMER) > 0;
		adjust(cpuid, &cpu);
		ret = kvm_set_up(ctx, vcpu->fd, KVM_SET_CPUID2, cpuid, "KVM_SET_CPUID2");
	}
	free(cpuid);
	return ret < 0 ? ret : 0;
}
