/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * acpi_tables.h: the layouts of the ACPI tables that acpi.c writes (ACPI 6.5, chapter 5; MCFG: PCI
 * Firmware Specification 3.3, 4.1.2). Field names are those of the specification.
 */
#ifndef TENON_ACPI_TABLES_H
#define TENON_ACPI_TABLES_H

#include "aml.h"

struct vmctx;

struct acpi_rsdp { /* 5.2.5.3 */
	char signature[8];
	uint8_t checksum; /* of the first 20 bytes */
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt_address;
	uint32_t length;
	uint64_t xsdt_address;
	uint8_t extended_checksum;
	uint8_t reserved[3];
} __attribute__((packed));

struct acpi_header { /* 5.2.6 */
	char signature[4];
	uint32_t length;
	uint8_t revision;
	uint8_t checksum;
	char oem_id[6];
	char oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
} __attribute__((packed));

#define ACPI_SPACE_IO 1

struct acpi_address { /* generic address structure, 5.2.3.2 */
	uint8_t address_space_id;
	uint8_t register_bit_width;
	uint8_t register_bit_offset;
	uint8_t access_size; /* 1: byte, 2: word, 3: dword */
	uint64_t address;
} __attribute__((packed));

/* Fixed feature flags, table 5.10 */
#define FADT_WBINVD BIT32(0)
#define FADT_PROC_C1 BIT32(2)
#define FADT_SLP_BUTTON BIT32(5) /* there is no fixed sleep button */
#define FADT_RESET_REG_SUP BIT32(10)

/* IA-PC boot architecture flags, table 5.11 */
#define FADT_LEGACY_DEVICES 0x0001
#define FADT_VGA_NOT_PRESENT 0x0004
#define FADT_NO_ASPM 0x0010

struct acpi_fadt { /* 5.2.9, behind the header */
	uint32_t firmware_ctrl;
	uint32_t dsdt;
	uint8_t reserved0;
	uint8_t preferred_pm_profile;
	uint16_t sci_int;
	uint32_t smi_cmd;
	uint8_t acpi_enable, acpi_disable, s4bios_req, pstate_cnt;
	uint32_t pm1a_evt_blk, pm1b_evt_blk;
	uint32_t pm1a_cnt_blk, pm1b_cnt_blk;
	uint32_t pm2_cnt_blk;
	uint32_t pm_tmr_blk;
	uint32_t gpe0_blk, gpe1_blk;
	uint8_t pm1_evt_len, pm1_cnt_len, pm2_cnt_len, pm_tmr_len;
	uint8_t gpe0_blk_len, gpe1_blk_len, gpe1_base;
	uint8_t cst_cnt;
	uint16_t p_lvl2_lat, p_lvl3_lat;
	uint16_t flush_size, flush_stride;
	uint8_t duty_offset, duty_width;
	uint8_t day_alrm, mon_alrm, century;
	uint16_t iapc_boot_arch;
	uint8_t reserved1;
	uint32_t flags;
	struct acpi_address reset_reg;
	uint8_t reset_value;
	uint16_t arm_boot_arch;
	uint8_t minor_version;
	uint64_t x_firmware_ctrl;
	uint64_t x_dsdt;
	struct acpi_address x_pm1a_evt_blk, x_pm1b_evt_blk;
	struct acpi_address x_pm1a_cnt_blk, x_pm1b_cnt_blk;
	struct acpi_address x_pm2_cnt_blk;
	struct acpi_address x_pm_tmr_blk;
	struct acpi_address x_gpe0_blk, x_gpe1_blk;
	struct acpi_address sleep_control_reg, sleep_status_reg;
	char hypervisor_vendor_id[8];
} __attribute__((packed));

#define ACPI_FACS_OFFSET 64 /* from the RSDP; it is aligned to 64 bytes */

struct acpi_facs { /* 5.2.10 */
	char signature[4];
	uint32_t length;
	uint32_t hardware_signature;
	uint32_t firmware_waking_vector;
	uint32_t global_lock;
	uint32_t flags;
	uint64_t x_firmware_waking_vector;
	uint8_t version;
	uint8_t reserved0[3];
	uint32_t ospm_flags;
	uint8_t reserved1[24];
} __attribute__((packed));

#define MADT_PCAT_COMPAT 1 /* there are two 8259s as well */

struct acpi_madt { /* 5.2.12, behind the header */
	uint32_t local_interrupt_controller_address;
	uint32_t flags;
} __attribute__((packed));

#define MADT_LAPIC 0
#define MADT_IOAPIC 1
#define MADT_SOURCE_OVERRIDE 2
#define MADT_LAPIC_NMI 4
#define MADT_LAPIC_ENABLED 1
#define MADT_ACTIVE_HIGH 0x1
#define MADT_LEVEL_TRIGGERED 0xc
#define MADT_ALL_PROCESSORS 0xff

struct acpi_madt_lapic { /* 5.2.12.2 */
	uint8_t type, length;
	uint8_t acpi_processor_uid;
	uint8_t apic_id;
	uint32_t flags;
} __attribute__((packed));

struct acpi_madt_ioapic { /* 5.2.12.3 */
	uint8_t type, length;
	uint8_t io_apic_id;
	uint8_t reserved;
	uint32_t io_apic_address;
	uint32_t global_system_interrupt_base;
} __attribute__((packed));

struct acpi_madt_source_override { /* 5.2.12.5 */
	uint8_t type, length;
	uint8_t bus;
	uint8_t source;
	uint32_t global_system_interrupt;
	uint16_t flags;
} __attribute__((packed));

struct acpi_madt_lapic_nmi { /* 5.2.12.7 */
	uint8_t type, length;
	uint8_t acpi_processor_uid;
	uint16_t flags;
	uint8_t lint;
} __attribute__((packed));

struct acpi_mcfg { /* behind the header: eight reserved bytes and one segment */
	uint64_t reserved0;
	uint64_t base_address;
	uint16_t segment_group;
	uint8_t start_bus, end_bus;
	uint32_t reserved1;
} __attribute__((packed));

struct acpi_hpet { /* IA-PC HPET 1.0a, 3.2.4, behind the header */
	uint32_t event_timer_block_id;
	struct acpi_address base_address;
	uint8_t number;
	uint16_t minimum_tick; /* periodic, in clocks */
	uint8_t page_protection;
} __attribute__((packed));

static_assert(sizeof(struct acpi_header) + sizeof(struct acpi_hpet) == 56, "HPET 1.0a, 3.2.4");
static_assert(sizeof(struct acpi_rsdp) == 36, "ACPI 6.5, 5.2.5.3");
static_assert(sizeof(struct acpi_header) == 36, "ACPI 6.5, 5.2.6");
static_assert(sizeof(struct acpi_header) + sizeof(struct acpi_fadt) == 276, "ACPI 6.5, 5.2.9");
static_assert(sizeof(struct acpi_facs) == 64, "ACPI 6.5, 5.2.10");

/** acpi_dsdt_build() - append the AML of the DSDT (behind its header): dsdt.c. */
void acpi_dsdt_build(struct vmctx *ctx, struct aml *aml);

#endif
