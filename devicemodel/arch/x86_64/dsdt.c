/* SPDX-License-Identifier: BSD-3-Clause */
/* dsdt.c: the differentiated system description table: the devices that cannot be discovered. */

#include <stdio.h>

#include "acpi_tables.h"
#include "arch.h"
#include "pci_core.h"
#include "platform.h"

#define PCI_SLOTS 32
#define PCI_PINS 4
#define PCI_CONFIG_PORT 0xcf8
#define PCI_CONFIG_PORTS 8

#define PM_PORTS 16 /* of PM1a event, PM1a control and the timer, with the gap in between */

#define RTC_PORT 0x70
#define RTC_PORTS 2
#define RTC_IRQ 8

#define LINK_IRQS (BIT32(5) | BIT32(10) | BIT32(11)) /* that no ISA device has */

static void put_hid(struct aml *aml, const char *id, uint64_t uid)
{
	aml_name(aml, "_HID");
	aml_eisaid(aml, id);
	aml_name(aml, "_UID");
	aml_integer(aml, uid);
}

/* Windows of the host bridge. Ports below 0x1000 stay ISA's in practice: see arch_pci_windows(). */
static void put_pci_resources(struct aml *aml, const struct arch_pci_windows *windows)
{
	uint64_t above = PCI_CONFIG_PORT + PCI_CONFIG_PORTS;
	size_t resources;

	aml_name(aml, "_CRS");
	resources = aml_resources(aml);
	aml_window(aml, AML_SPACE_BUS, 2, 0, windows->ecam_size / MIB(1));
	aml_io(aml, PCI_CONFIG_PORT, PCI_CONFIG_PORTS);
	aml_window(aml, AML_SPACE_IO, 4, 0, PCI_CONFIG_PORT);
	aml_window(aml, AML_SPACE_IO, 4, above, windows->io_base + windows->io_size - above);
	aml_window(aml, AML_SPACE_MEMORY, 4, windows->mem32_base, windows->mem32_size);
	aml_window(aml, AML_SPACE_MEMORY, 8, windows->mem64_base, windows->mem64_size);
	aml_resources_end(aml, resources);
}

/* The name of link device or route register @line. */
static const char *line_name(char text[5], const char *prefix, unsigned int line)
{
	snprintf(text, 5, "%s%c", prefix, 'A' + (char)line);
	return text;
}

/* ---- Interrupt routing: APIC mode, and PIC mode through link devices (ACPI 6.5, 6.2.13) ---- */

/* The bridge's route registers, as fields PRQA to PRQH. */
static void put_isa_bridge(struct aml *aml)
{
	size_t device = aml_device(aml, "ISA");
	size_t field;
	char name[5];

	aml_name(aml, "_ADR");
	aml_integer(aml, PCI_ISA_BRIDGE_FUNCTION);
	aml_config_region(aml, "PIRQ", PCI_ISA_BRIDGE_ROUTES, 12);
	aml_end(aml, device);

	field = aml_byte_field(aml, "ISA", "PIRQ");
	for (unsigned int line = 0; line < PIRQ_LINES; line++) {
		if (line == 4)
			aml_field_bits(aml, NULL, 32);
		aml_field_bits(aml, line_name(name, "PRQ", line), 8);
	}
	aml_end(aml, field);
}

static void put_word_of_irqs(struct aml *aml, unsigned int buffer)
{
	aml_byte(aml, AML_CREATE_WORD_FIELD);
	aml_byte(aml, (uint8_t)buffer);
	aml_integer(aml, 1); /* where an IRQ descriptor has its mask */
	aml_segment(aml, "IRQW");
}

static void put_off_bit(struct aml *aml, unsigned int op, const char *route, const char *target)
{
	aml_byte(aml, (uint8_t)op);
	aml_segment(aml, route);
	aml_integer(aml, PIRQ_ROUTE_OFF);
	if (target)
		aml_segment(aml, target);
	else
		aml_byte(aml, AML_ZERO);
}

static void put_return(struct aml *aml, uint64_t value)
{
	aml_byte(aml, AML_RETURN);
	aml_integer(aml, value);
}

/* _STA: there and working, and enabled unless the line is not routed (ACPI 6.5, 6.3.7). */
static void put_link_status(struct aml *aml, const char *route)
{
	enum { DISABLED = 0x09, ENABLED = 0x0b };
	size_t method = aml_method(aml, "_STA", 0);
	size_t branch = aml_if(aml);

	put_off_bit(aml, AML_AND, route, NULL);
	put_return(aml, DISABLED);
	aml_end(aml, branch);
	put_return(aml, ENABLED);
	aml_end(aml, method);
}

/* _CRS: the ISA interrupt in the route register, or none. */
static void put_link_current(struct aml *aml, const char *route)
{
	size_t method = aml_method(aml, "_CRS", 0);
	size_t resources, branch;

	aml_byte(aml, AML_STORE);
	resources = aml_resources(aml);
	aml_pci_irqs(aml, 0);
	aml_resources_end(aml, resources);
	aml_byte(aml, AML_LOCAL0);
	put_word_of_irqs(aml, AML_LOCAL0);
	branch = aml_if(aml);
	aml_byte(aml, AML_LNOT);
	put_off_bit(aml, AML_AND, route, NULL);
	aml_byte(aml, AML_SHIFT_LEFT);
	aml_byte(aml, AML_ONE);
	aml_segment(aml, route);
	aml_segment(aml, "IRQW");
	aml_end(aml, branch);
	aml_byte(aml, AML_RETURN);
	aml_byte(aml, AML_LOCAL0);
	aml_end(aml, method);
}

/* _SRS: the lowest of the interrupts given. */
static void put_link_set(struct aml *aml, const char *route)
{
	size_t method = aml_method(aml, "_SRS", 1);
	size_t branch;

	put_word_of_irqs(aml, AML_ARG0);
	aml_byte(aml, AML_FIND_SET_RIGHT_BIT);
	aml_segment(aml, "IRQW");
	aml_byte(aml, AML_LOCAL0);
	branch = aml_if(aml);
	aml_byte(aml, AML_LOCAL0);
	aml_byte(aml, AML_SUBTRACT);
	aml_byte(aml, AML_LOCAL0);
	aml_byte(aml, AML_ONE);
	aml_segment(aml, route);
	aml_end(aml, branch);
	aml_end(aml, method);
}

static void put_link(struct aml *aml, unsigned int line)
{
	char link[5], route[5];
	size_t device = aml_device(aml, line_name(link, "LNK", line));
	size_t resources, method;

	line_name(route, "PRQ", line);
	put_hid(aml, "PNP0C0F", line);
	aml_name(aml, "_PRS");
	resources = aml_resources(aml);
	aml_pci_irqs(aml, LINK_IRQS);
	aml_resources_end(aml, resources);
	put_link_status(aml, route);
	put_link_current(aml, route);
	put_link_set(aml, route);
	method = aml_method(aml, "_DIS", 0);
	put_off_bit(aml, AML_OR, route, route);
	aml_end(aml, method);
	aml_end(aml, device);
}

/* Where each pin goes: to an input of the IOAPIC, or to what its link device says. */
static void put_routes(struct aml *aml, const char *name, bool links)
{
	size_t table, route;
	char link[5];

	aml_name(aml, name);
	table = aml_package(aml, PCI_SLOTS * PCI_PINS);
	for (unsigned int i = 0; i < PCI_SLOTS * PCI_PINS; i++) {
		unsigned int slot = i / PCI_PINS, pin = i % PCI_PINS;
		unsigned int gsi = pci_slot_gsi(slot, pin + 1);

		route = aml_package(aml, 4);
		aml_integer(aml, (uint64_t)slot << 16 | 0xffff); /* any function */
		aml_integer(aml, pin);
		if (links)
			aml_segment(aml, line_name(link, "LNK", gsi - PIRQ_GSI_BASE));
		else
			aml_integer(aml, 0);
		aml_integer(aml, links ? 0 : gsi);
		aml_end(aml, route);
	}
	aml_end(aml, table);
}

static void put_pci_routing(struct aml *aml)
{
	size_t method, branch;

	put_isa_bridge(aml);
	for (unsigned int line = 0; line < PIRQ_LINES; line++)
		put_link(aml, line);
	put_routes(aml, "PRTA", false);
	put_routes(aml, "PRTP", true);
	method = aml_method(aml, "_PRT", 0);
	branch = aml_if(aml);
	aml_segment(aml, "PICM");
	aml_byte(aml, AML_RETURN);
	aml_segment(aml, "PRTA");
	aml_end(aml, branch);
	aml_byte(aml, AML_RETURN);
	aml_segment(aml, "PRTP");
	aml_end(aml, method);
}

/* The guest says which interrupt controllers it uses: 0 PICs, 1 IOAPIC (ACPI 6.5, 5.8.1). */
static void put_pic_method(struct aml *aml)
{
	size_t method;

	aml_name(aml, "PICM");
	aml_integer(aml, 0);
	method = aml_method(aml, "_PIC", 1);
	aml_byte(aml, AML_STORE);
	aml_byte(aml, AML_ARG0);
	aml_segment(aml, "PICM");
	aml_end(aml, method);
}

/* One "CDW1 |= bits" of _OSC. */
static void put_osc_status(struct aml *aml, unsigned int bits)
{
	aml_byte(aml, AML_OR);
	aml_segment(aml, "CDW1");
	aml_integer(aml, bits);
	aml_segment(aml, "CDW1");
}

static void put_osc_dword(struct aml *aml, unsigned int offset, const char *name)
{
	aml_byte(aml, AML_CREATE_DWORD_FIELD);
	aml_byte(aml, AML_ARG3);
	aml_integer(aml, offset);
	aml_segment(aml, name);
}

static size_t put_if_not_equal(struct aml *aml)
{
	size_t mark = aml_if(aml);

	aml_byte(aml, AML_LNOT);
	aml_byte(aml, AML_LEQUAL);
	return mark;
}

static void put_return_arg3(struct aml *aml)
{
	aml_byte(aml, AML_RETURN);
	aml_byte(aml, AML_ARG3);
}

/*
 * _OSC (ACPI 6.5, 6.2.11; PCI Firmware Specification 3.3, 4.5.1): the guest may run native PCIe
 * hot plug, PME, AER and the PCIe capability itself, as there is no firmware that would. There is
 * no SHPC.
 */
static void put_pci_osc(struct aml *aml)
{
	/* 33DB4D5B-1FF7-401C-9657-7441C03DD766 */
	static const uint8_t pci_uuid[16] = { 0x5b, 0x4d, 0xdb, 0x33, 0xf7, 0x1f, 0x1c, 0x40,
					      0x96, 0x57, 0x74, 0x41, 0xc0, 0x3d, 0xd7, 0x66 };
	enum { UNKNOWN_UUID = 0x04, UNKNOWN_REVISION = 0x08, MASKED = 0x10, GRANTED = 0x1d };
	size_t method, branch;

	method = aml_method(aml, "_OSC", 4);
	put_osc_dword(aml, 0, "CDW1");
	branch = put_if_not_equal(aml);
	aml_byte(aml, AML_ARG0);
	aml_buffer(aml, pci_uuid, sizeof(pci_uuid));
	put_osc_status(aml, UNKNOWN_UUID);
	put_return_arg3(aml);
	aml_end(aml, branch);

	branch = put_if_not_equal(aml);
	aml_byte(aml, AML_ARG1);
	aml_byte(aml, AML_ONE);
	put_osc_status(aml, UNKNOWN_REVISION);
	aml_end(aml, branch);

	put_osc_dword(aml, 8, "CDW3");
	aml_byte(aml, AML_AND);
	aml_segment(aml, "CDW3");
	aml_integer(aml, GRANTED);
	aml_byte(aml, AML_LOCAL0);
	branch = put_if_not_equal(aml);
	aml_byte(aml, AML_LOCAL0);
	aml_segment(aml, "CDW3");
	put_osc_status(aml, MASKED);
	aml_byte(aml, AML_STORE);
	aml_byte(aml, AML_LOCAL0);
	aml_segment(aml, "CDW3");
	aml_end(aml, branch);
	put_return_arg3(aml);
	aml_end(aml, method);
}

static void put_pci_host(struct aml *aml, const struct arch_pci_windows *windows)
{
	size_t device = aml_device(aml, "PCI0");

	put_hid(aml, "PNP0A08", 0);
	aml_name(aml, "_CID");
	aml_eisaid(aml, "PNP0A03");
	aml_name(aml, "_SEG");
	aml_integer(aml, 0);
	aml_name(aml, "_BBN");
	aml_integer(aml, 0);
	put_pci_resources(aml, windows);
	put_pci_routing(aml);
	put_pci_osc(aml);
	aml_end(aml, device);
}

/*
 * What no device claims but is not free: without this, Linux does not believe the MCFG table
 * (PCI Firmware Specification 3.3, 4.1.2).
 */
static void put_motherboard(struct aml *aml, const struct arch_pci_windows *windows)
{
	size_t device = aml_device(aml, "MBRD");
	size_t resources;

	put_hid(aml, "PNP0C02", 0);
	aml_name(aml, "_CRS");
	resources = aml_resources(aml);
	aml_memory32(aml, (uint32_t)windows->ecam_base, (uint32_t)windows->ecam_size);
	aml_io(aml, PM1A_EVT_PORT, PM_PORTS);
	aml_resources_end(aml, resources);
	aml_end(aml, device);
}

static void put_isa_device(struct aml *aml, const char *name, const char *id, unsigned int uid,
			   uint16_t port, uint8_t ports, unsigned int irq, bool shared)
{
	size_t device = aml_device(aml, name);
	size_t resources;

	put_hid(aml, id, uid);
	aml_name(aml, "_CRS");
	resources = aml_resources(aml);
	aml_io(aml, port, ports);
	aml_irq(aml, irq, shared);
	aml_resources_end(aml, resources);
	aml_end(aml, device);
}

static void put_hpet(struct aml *aml)
{
	size_t device = aml_device(aml, "HPET");
	size_t resources;

	put_hid(aml, "PNP0103", 0);
	aml_name(aml, "_CRS");
	resources = aml_resources(aml);
	aml_memory32(aml, HPET_BASE, HPET_SIZE);
	aml_resources_end(aml, resources);
	aml_end(aml, device);
}

static void put_uarts(struct aml *aml, const struct platform *platform)
{
	const struct platform_uart_place *place = platform_uart_places;
	char name[] = "COM1";

	for (unsigned int i = 0; i < PLATFORM_UARTS; i++, place++) {
		if (!platform->uart[i])
			continue;
		name[3] = (char)('1' + i);
		/* com1 and com3, com2 and com4 share an interrupt */
		put_isa_device(aml, name, "PNP0501", i + 1, place->port, place->ports, place->gsi,
			       true);
	}
}

/* A processor device each; its _UID is the one in the MADT (ACPI 6.5, 8.4). */
static void put_processors(struct aml *aml, unsigned int count)
{
	char name[8];
	size_t device;

	for (unsigned int i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "CP%02X", i & 0xff);
		device = aml_device(aml, name);
		aml_name(aml, "_HID");
		aml_string(aml, "ACPI0007");
		aml_name(aml, "_UID");
		aml_integer(aml, i);
		aml_end(aml, device);
	}
}

/* A sleep state that there is: the values for SLP_TYP of PM1a and PM1b (ACPI 6.5, 7.4.2). */
static void put_sleep_state(struct aml *aml, const char *name, unsigned int sleep_type)
{
	size_t package;

	aml_name(aml, name);
	package = aml_package(aml, 4);
	aml_integer(aml, sleep_type);
	aml_integer(aml, 0);
	aml_integer(aml, 0);
	aml_integer(aml, 0);
	aml_end(aml, package);
}

void acpi_dsdt_build(struct vmctx *ctx, struct aml *aml)
{
	struct arch_pci_windows windows;
	size_t scope;

	arch_pci_windows(ctx, &windows);
	put_sleep_state(aml, "_S3", PM_SLEEP_TYPE_S3);
	put_sleep_state(aml, "_S5", PM_SLEEP_TYPE_S5);
	put_pic_method(aml);
	scope = aml_scope(aml, "_SB");
	put_pci_host(aml, &windows);
	put_motherboard(aml, &windows);
	put_isa_device(aml, "RTC", "PNP0B00", 0, RTC_PORT, RTC_PORTS, RTC_IRQ, false);
	if (ctx->needs_timers)
		put_hpet(aml);
	put_uarts(aml, ctx->platform);
	put_processors(aml, ctx->config.cpu_count);
	aml_end(aml, scope);
}
