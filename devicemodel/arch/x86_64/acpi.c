/* SPDX-License-Identifier: BSD-3-Clause */
/* acpi.c: the ACPI tables of a VM (ACPI 6.5, chapter 5); the AML in them is in dsdt.c. */

#include <errno.h>

#include "acpi_tables.h"
#include "arch.h"
#include "platform.h"

#define OEM_ID "TENON "
#define OEM_TABLE_ID "TENONVM "
#define CREATOR_ID "TENN"
#define TABLE_ALIGN 16
#define FACS_ALIGN 64
static_assert(ACPI_FACS_OFFSET ==
		      (sizeof(struct acpi_rsdp) + FACS_ALIGN - 1) / FACS_ALIGN * FACS_ALIGN,
	      "the FACS is right behind the RSDP");

static_assert(PM_TIMER_BITS == 24, "the FADT says so");

#define ISA_TIMER_IRQ 0
#define ISA_TIMER_GSI 2

/* struct builder - the tables being written; those that others refer to by address. */
struct builder {
	struct vmctx *ctx;
	struct aml aml;
	uint64_t gpa; /* of aml.data */
	uint64_t facs, dsdt, fadt, madt, mcfg, hpet, xsdt; /* 0: there is none */
};

static uint8_t checksum(const uint8_t *bytes, size_t count)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += bytes[i];
	return (uint8_t)-sum;
}

/* Append a table's header; returns where it starts. */
static size_t table_begin(struct builder *builder, const char *signature, uint8_t revision)
{
	struct acpi_header header = {
		.revision = revision,
		.oem_revision = 1,
		.creator_revision = 1,
	};
	size_t start;

	memcpy(header.signature, signature, sizeof(header.signature));
	memcpy(header.oem_id, OEM_ID, sizeof(header.oem_id));
	memcpy(header.oem_table_id, OEM_TABLE_ID, sizeof(header.oem_table_id));
	memcpy(header.creator_id, CREATOR_ID, sizeof(header.creator_id));

	aml_pad(&builder->aml, TABLE_ALIGN);
	start = builder->aml.used;
	aml_bytes(&builder->aml, &header, sizeof(header));
	return start;
}

/* The table ends here: length and checksum; returns its address. */
static uint64_t table_end(struct builder *builder, size_t start)
{
	struct aml *aml = &builder->aml;
	struct acpi_header *header = (struct acpi_header *)(aml->data + start);

	if (aml->overflow)
		return 0;
	header->length = (uint32_t)(aml->used - start);
	header->checksum = checksum(aml->data + start, header->length);
	return builder->gpa + start;
}

static void build_facs(struct builder *builder)
{
	struct acpi_facs facs = { .signature = "FACS", .length = sizeof(facs), .version = 2 };

	aml_pad(&builder->aml, FACS_ALIGN);
	builder->facs = builder->gpa + builder->aml.used;
	aml_bytes(&builder->aml, &facs, sizeof(facs));
}

static void build_dsdt(struct builder *builder)
{
	size_t start = table_begin(builder, "DSDT", 2); /* 2: integers have 64 bits */

	acpi_dsdt_build(builder->ctx, &builder->aml);
	builder->dsdt = table_end(builder, start);
}

static struct acpi_address io_register(uint16_t port, unsigned int size, unsigned int access)
{
	return (struct acpi_address) {
		.address_space_id = ACPI_SPACE_IO,
		.register_bit_width = (uint8_t)(size * 8),
		.access_size = (uint8_t)access,
		.address = port,
	};
}

/*
 * No SMI command: the machine is always in ACPI mode (4.8.2.5). PWR_BUTTON clear: the power button
 * is a fixed feature. FIX_RTC clear: so is the RTC's alarm, as a wake-up. TMR_VAL_EXT clear: the timer has 24 bits. Latencies above 100 and 1000 us: no
 * C2, no C3 (table 5.9).
 */
static void build_fadt(struct builder *builder)
{
	struct acpi_fadt fadt = {
		.firmware_ctrl = (uint32_t)builder->facs,
		.dsdt = (uint32_t)builder->dsdt,
		.sci_int = PM_SCI_GSI,
		.pm1a_evt_blk = PM1A_EVT_PORT,
		.pm1a_cnt_blk = PM1A_CNT_PORT,
		.pm_tmr_blk = PM_TIMER_PORT,
		.pm1_evt_len = 4,
		.pm1_cnt_len = 2,
		.pm_tmr_len = 4,
		.p_lvl2_lat = 0xfff,
		.p_lvl3_lat = 0xfff,
		.century = RTC_CENTURY_REGISTER,
		.iapc_boot_arch = FADT_LEGACY_DEVICES | FADT_VGA_NOT_PRESENT | FADT_NO_ASPM,
		.flags = FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_RESET_REG_SUP,
		.reset_reg = io_register(PM_RESET_PORT, 1, 1),
		.reset_value = PM_RESET_VALUE,
		.x_dsdt = builder->dsdt,
		.x_pm1a_evt_blk = io_register(PM1A_EVT_PORT, 4, 2),
		.x_pm1a_cnt_blk = io_register(PM1A_CNT_PORT, 2, 2),
		.x_pm_tmr_blk = io_register(PM_TIMER_PORT, 4, 3),
	};
	size_t start = table_begin(builder, "FACP", 6);

	aml_bytes(&builder->aml, &fadt, sizeof(fadt));
	builder->fadt = table_end(builder, start);
}

static void put_lapics(struct aml *aml, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		struct acpi_madt_lapic lapic = {
			.type = MADT_LAPIC,
			.length = sizeof(lapic),
			.acpi_processor_uid = (uint8_t)i,
			.apic_id = (uint8_t)i,
			.flags = MADT_LAPIC_ENABLED,
		};

		aml_bytes(aml, &lapic, sizeof(lapic));
	}
}

/* The ISA interrupts that are not edge-triggered and active high on the GSI of the same number. */
static void put_source_overrides(struct aml *aml)
{
	static const struct acpi_madt_source_override overrides[] = {
		{
			.type = MADT_SOURCE_OVERRIDE,
			.length = sizeof(overrides[0]),
			.source = ISA_TIMER_IRQ,
			.global_system_interrupt = ISA_TIMER_GSI,
		},
		{
			.type = MADT_SOURCE_OVERRIDE,
			.length = sizeof(overrides[0]),
			.source = PM_SCI_GSI,
			.global_system_interrupt = PM_SCI_GSI,
			.flags = MADT_ACTIVE_HIGH | MADT_LEVEL_TRIGGERED,
		},
	};

	aml_bytes(aml, overrides, sizeof(overrides));
}

static void build_madt(struct builder *builder)
{
	unsigned int cpu_count = builder->ctx->config.cpu_count;
	struct acpi_madt madt = {
		.local_interrupt_controller_address = (uint32_t)X86_LAPIC_BASE,
		.flags = MADT_PCAT_COMPAT,
	};
	struct acpi_madt_ioapic ioapic = {
		.type = MADT_IOAPIC,
		.length = sizeof(ioapic),
		.io_apic_address = (uint32_t)X86_IOAPIC_BASE,
	};
	struct acpi_madt_lapic_nmi nmi = {
		.type = MADT_LAPIC_NMI,
		.length = sizeof(nmi),
		.acpi_processor_uid = MADT_ALL_PROCESSORS,
		.lint = 1,
	};
	struct aml *aml = &builder->aml;
	size_t start = table_begin(builder, "APIC", 4);

	aml_bytes(aml, &madt, sizeof(madt));
	put_lapics(aml, cpu_count);
	aml_bytes(aml, &ioapic, sizeof(ioapic));
	put_source_overrides(aml);
	aml_bytes(aml, &nmi, sizeof(nmi));
	builder->madt = table_end(builder, start);
}

static void build_mcfg(struct builder *builder)
{
	struct arch_pci_windows windows;
	struct acpi_mcfg mcfg = { 0 };
	size_t start = table_begin(builder, "MCFG", 1);

	arch_pci_windows(builder->ctx, &windows);
	mcfg.base_address = windows.ecam_base;
	mcfg.end_bus = (uint8_t)(windows.ecam_size / MIB(1) - 1);
	aml_bytes(&builder->aml, &mcfg, sizeof(mcfg));
	builder->mcfg = table_end(builder, start);
}

static void build_hpet(struct builder *builder)
{
	struct acpi_hpet hpet = {
		.event_timer_block_id = HPET_ID,
		.base_address = { .register_bit_width = 64, .address = HPET_BASE },
		.minimum_tick = HPET_MINIMUM_TICK,
	};
	size_t start;

	if (!builder->ctx->needs_timers)
		return;
	start = table_begin(builder, "HPET", 1);
	aml_bytes(&builder->aml, &hpet, sizeof(hpet));
	builder->hpet = table_end(builder, start);
}

static void build_xsdt(struct builder *builder)
{
	uint64_t tables[] = { builder->fadt, builder->madt, builder->mcfg, builder->hpet };
	size_t count = ARRAY_SIZE(tables) - !builder->hpet;
	size_t start = table_begin(builder, "XSDT", 1);

	aml_bytes(&builder->aml, tables, count * sizeof(tables[0]));
	builder->xsdt = table_end(builder, start);
}

/* Into the room that acpi_build() left at the start. */
static void build_rsdp(struct builder *builder)
{
	struct acpi_rsdp rsdp = {
		.revision = 2,
		.length = sizeof(rsdp),
		.xsdt_address = builder->xsdt,
	};

	memcpy(rsdp.signature, "RSD PTR ", sizeof(rsdp.signature));
	memcpy(rsdp.oem_id, OEM_ID, sizeof(rsdp.oem_id));
	rsdp.checksum = checksum((const uint8_t *)&rsdp, offsetof(struct acpi_rsdp, length));
	rsdp.extended_checksum = checksum((const uint8_t *)&rsdp, sizeof(rsdp));
	memcpy(builder->aml.data, &rsdp, sizeof(rsdp));
}

long acpi_build(struct vmctx *ctx, uint64_t gpa, uint64_t size, uint64_t *rsdp_gpa)
{
	static const struct acpi_rsdp no_rsdp_yet;
	struct builder builder = { .ctx = ctx, .gpa = gpa };

	/* The tables refer to each other by 32-bit addresses, and to FACS_ALIGN by offset. */
	if (gpa % FACS_ALIGN || !range_contains(0, GIB(4), gpa, size))
		return -EINVAL;
	builder.aml.size = size;
	builder.aml.data = paddr_guest2host(ctx, gpa, size);
	if (!builder.aml.data)
		return -EFAULT;

	aml_bytes(&builder.aml, &no_rsdp_yet, sizeof(no_rsdp_yet));
	build_facs(&builder);
	build_dsdt(&builder);
	build_fadt(&builder);
	build_madt(&builder);
	build_mcfg(&builder);
	build_hpet(&builder);
	build_xsdt(&builder);
	if (builder.aml.overflow) {
		log_error(ctx->log, "the ACPI tables do not fit into %llu bytes",
			  (unsigned long long)size);
		return -ENOSPC;
	}
	build_rsdp(&builder);
	*rsdp_gpa = gpa;
	return (long)builder.aml.used;
}
