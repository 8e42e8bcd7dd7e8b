/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * --cpu_affinity of acrn-dm: local APIC ids of the host to CPU numbers of the hypervisor, which
 * counts CPUs in the order of the host's MADT. /proc/cpuinfo does not list CPUs that are offline, as
 * those for a real-time VM are, so it is asked only where the MADT cannot be read.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "acrn_dm.h"
#include "options.h"

#define NO_LAPIC UINT32_MAX
#define MADT_MAX KIB(16)
#define MADT_ENTRIES_AT 44 /* ACPI 6.5, 5.2.12 */
#define MADT_LOCAL_APIC 0
#define MADT_LOCAL_X2APIC 9
#define MADT_LOCAL_APIC_LEN 8
#define MADT_LOCAL_X2APIC_LEN 16
#define MADT_ENABLED 1

/* Local APIC ids by CPU number. */
struct lapics {
	unsigned int count;
	uint32_t ids[ACRN_DM_CPUS];
};

static uint32_t get32(const uint8_t *bytes)
{
	uint32_t value;

	memcpy(&value, bytes, sizeof(value));
	return value;
}

/* A CPU that is not enabled is none for the hypervisor either. */
static void lapics_add_entry(struct lapics *lapics, const uint8_t *entry, size_t len)
{
	uint32_t id, flags;

	if (entry[0] == MADT_LOCAL_APIC && len >= MADT_LOCAL_APIC_LEN) {
		id = entry[3];
		flags = get32(entry + 4);
	} else if (entry[0] == MADT_LOCAL_X2APIC && len >= MADT_LOCAL_X2APIC_LEN) {
		id = get32(entry + 4);
		flags = get32(entry + 8);
	} else {
		return;
	}
	if (flags & MADT_ENABLED && lapics->count < ACRN_DM_CPUS)
		lapics->ids[lapics->count++] = id;
}

static bool lapics_from_madt(struct lapics *lapics, const char *path)
{
	uint8_t table[MADT_MAX];
	FILE *file = fopen(path, "re");
	size_t size, at = MADT_ENTRIES_AT;

	if (!file)
		return false;
	size = fread(table, 1, sizeof(table), file);
	fclose(file);
	while (at + 2 <= size && table[at + 1] >= 2 && at + table[at + 1] <= size) {
		lapics_add_entry(lapics, table + at, table[at + 1]);
		at += table[at + 1];
	}
	return lapics->count;
}

static bool lapics_from_cpuinfo(struct lapics *lapics, const char *path)
{
	FILE *file = fopen(path, "re");
	unsigned int cpu = ACRN_DM_CPUS;
	char line[4096];

	if (!file)
		return false;
	while (fgets(line, sizeof(line), file)) {
		unsigned int number;

		if (sscanf(line, "processor : %u", &number) == 1)
			cpu = number;
		if (cpu >= ACRN_DM_CPUS || sscanf(line, "apicid : %u", &number) != 1)
			continue;
		lapics->ids[cpu] = number;
		lapics->count = MAX(lapics->count, cpu + 1);
	}
	fclose(file);
	return lapics->count;
}

static bool lapics_read(struct acrn_dm *dm, struct lapics *lapics)
{
	lapics->count = 0;
	for (unsigned int cpu = 0; cpu < ACRN_DM_CPUS; cpu++)
		lapics->ids[cpu] = NO_LAPIC;
	if (lapics_from_madt(lapics, dm->madt) || lapics_from_cpuinfo(lapics, dm->cpuinfo))
		return true;
	log_error(&dm->launch->log,
		  "--cpu_affinity: neither %s nor %s tells the host's local APICs (leave it out; "
		  "the VM has one CPU then)",
		  dm->madt, dm->cpuinfo);
	return false;
}

static int add_cpu(struct acrn_dm *dm, const struct lapics *lapics, const char *text)
{
	struct vm_config *vm = &dm->launch->vm;
	uint64_t id;
	unsigned int cpu = 0;

	if (option_parse_uint(text, &id) || id >= NO_LAPIC) {
		log_error(&dm->launch->log,
			  "--cpu_affinity: \"%s\" is no local APIC id (a list of numbers: 1,3)",
			  text);
		return -EINVAL;
	}
	while (cpu < lapics->count && lapics->ids[cpu] != id)
		cpu++;
	if (cpu == lapics->count) {
		log_error(&dm->launch->log,
			  "--cpu_affinity: no CPU of this host has the local APIC id %s (they are "
			  "\"apicid\" in /proc/cpuinfo)",
			  text);
		return -EINVAL;
	}
	if (vm->cpu_affinity & BIT64(cpu)) {
		log_error(&dm->launch->log, "--cpu_affinity: local APIC id %s is given twice",
			  text);
		return -EINVAL;
	}
	if (vm->cpu_count == VM_CPUS_MAX) {
		log_error(&dm->launch->log, "--cpu_affinity: a VM has %d CPUs at most",
			  VM_CPUS_MAX);
		return -E2BIG;
	}
	vm->cpu_affinity |= BIT64(cpu);
	vm->cpu_count++;
	return 0;
}

int acrn_dm_set_cpus(struct acrn_dm *dm, const char *lapic_ids)
{
	struct lapics lapics;
	const char *at = lapic_ids;

	if (!lapics_read(dm, &lapics))
		return -ENODEV;
	dm->launch->vm.cpu_affinity = 0;
	dm->launch->vm.cpu_count = 0;
	for (;;) {
		size_t len = strcspn(at, ",");
		char id[16];
		int error;

		snprintf(id, sizeof(id), "%.*s", (int)MIN(len, sizeof(id)), at);
		error = add_cpu(dm, &lapics, id);
		if (error)
			return error;
		if (!at[len])
			return 0;
		at += len + 1;
	}
}
