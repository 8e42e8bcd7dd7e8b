/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * guest.c: the bare-metal guest of contests 3, 4 and 6, the same file for tenon and for QEMU. Its
 * command line says what it does:
 *   trips n=N ecam=ADDRESS mmio=ADDRESS   N round trips of each kind, with the virtio-blk device that is
 *                                         found on bus 0 of ECAM, whose BARs go to the other address
 *   idle                                  nothing more than saying that it runs
 * A result is a line on COM1: what, how many, TSC cycles.
 */
#include <stdbool.h>
#include <stdint.h>

#define COM1 0x3f8
#define COM1_SCRATCH 0x3ff
#define EXIT_PORT 0xf4
#define LOCAL_APIC 0xfee00000
#define VECTOR 0x40
#define QUEUE_SIZE 8

#define PCI_COMMAND 0x04
#define PCI_BAR0 0x10
#define PCI_CAPABILITY_LIST 0x34
#define PCI_CAP_ID_VNDR 0x09
#define PCI_CAP_ID_MSIX 0x11
#define VIRTIO_PCI_CAP_COMMON_CFG 1
#define VIRTIO_PCI_CAP_NOTIFY_CFG 2

/* Offsets in struct virtio_pci_common_cfg (virtio 1.4, 4.1.4.3). */
enum {
	COMMON_DRIVER_FEATURE_SELECT = 8,
	COMMON_DRIVER_FEATURE = 12,
	COMMON_DEVICE_STATUS = 20,
	COMMON_QUEUE_SELECT = 22,
	COMMON_QUEUE_SIZE = 24,
	COMMON_QUEUE_MSIX_VECTOR = 26,
	COMMON_QUEUE_ENABLE = 28,
	COMMON_QUEUE_NOTIFY_OFF = 30,
	COMMON_QUEUE_DESC = 32,
	COMMON_QUEUE_DRIVER = 40,
	COMMON_QUEUE_DEVICE = 48,
};

struct start_info { /* struct hvm_start_info */
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist_paddr, cmdline_paddr;
};

struct descriptor {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

struct available {
	uint16_t flags, idx, ring[QUEUE_SIZE];
};

struct used {
	uint16_t flags, idx;
	struct {
		uint32_t id, len;
	} ring[QUEUE_SIZE];
};

struct blk_request {
	uint32_t type, reserved;
	uint64_t sector;
	char id[20];
	uint8_t status;
};

struct gate {
	uint16_t offset_low, selector, flags, offset_middle;
	uint32_t offset_high, reserved;
};

struct device {
	uintptr_t config;
	uintptr_t bars[6];
	uintptr_t common, notify;
	uint32_t notify_multiplier;
};

void guest_main(const struct start_info *info);
void interrupt(void);

volatile uint32_t interrupts;
static struct gate gates[VECTOR + 1] __attribute__((aligned(16)));
static struct descriptor descriptors[QUEUE_SIZE] __attribute__((aligned(16)));
static volatile struct available available __attribute__((aligned(16)));
static volatile struct used used __attribute__((aligned(16)));
static struct blk_request request;

/* ---- Ports, registers, words */

static void out8(uint16_t port, uint8_t value)
{
	asm volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static uint64_t cycles(void)
{
	uint32_t low, high;

	asm volatile("lfence; rdtsc" : "=a"(low), "=d"(high));
	return low | (uint64_t)high << 32;
}

static uint8_t read8(uintptr_t address)
{
	return *(volatile uint8_t *)address;
}

static uint16_t read16(uintptr_t address)
{
	return *(volatile uint16_t *)address;
}

static uint32_t read32(uintptr_t address)
{
	return *(volatile uint32_t *)address;
}

static void write8(uintptr_t address, uint8_t value)
{
	*(volatile uint8_t *)address = value;
}

static void write16(uintptr_t address, uint16_t value)
{
	*(volatile uint16_t *)address = value;
}

static void write32(uintptr_t address, uint32_t value)
{
	*(volatile uint32_t *)address = value;
}

static void write64(uintptr_t address, uint64_t value)
{
	write32(address, (uint32_t)value);
	write32(address + 4, (uint32_t)(value >> 32));
}

static void say(const char *text)
{
	while (*text)
		out8(COM1, (uint8_t)*text++);
}

static void say_number(uint64_t value)
{
	char text[21], *at = text + sizeof(text) - 1;

	*at = '\0';
	do
		*--at = (char)('0' + value % 10);
	while (value /= 10);
	say(at);
}

static void report(const char *what, uint64_t count, uint64_t taken)
{
	say(what);
	say(" ");
	say_number(count);
	say(" ");
	say_number(taken);
	say("\n");
}

static void end(void)
{
	out8(EXIT_PORT, 0);
	for (;;)
		asm volatile("cli; hlt");
}

static void complain(const char *text)
{
	say("error: ");
	say(text);
	say("\n");
	end();
}

/* The number behind "NAME=" on the command line; 0 without it. */
static uint64_t option(const char *line, const char *name)
{
	uint64_t value = 0, base = 10;
	const char *at = line;

	for (; *line; line++) {
		unsigned int i = 0;

		while (name[i] && line[i] == name[i])
			i++;
		if (!name[i] && line[i] == '=') {
			at = line + i + 1;
			break;
		}
	}
	if (at[0] == '0' && at[1] == 'x') {
		base = 16;
		at += 2;
	}
	for (; (*at >= '0' && *at <= '9') || (*at >= 'a' && *at <= 'f'); at++)
		value = value * base + (uint64_t)(*at <= '9' ? *at - '0' : *at - 'a' + 10);
	return value;
}

/* ---- The device */

static bool find_device(struct device *device, uintptr_t ecam)
{
	for (unsigned int slot = 0; slot < 32; slot++) {
		uint32_t id = read32(ecam + (slot << 15));

		device->config = ecam + (slot << 15);
		if (id == 0x10011af4 || id == 0x10421af4)
			return true;
	}
	return false;
}

/* Memory BARs are put one behind the other from @next on; I/O BARs are left alone. */
static void place_bars(struct device *device, uint64_t next)
{
	for (unsigned int bar = 0; bar < 6; bar++) {
		uintptr_t address = device->config + PCI_BAR0 + 4 * bar;
		uint32_t kind = read32(address), size;

		write32(address, ~0U);
		size = ~(read32(address) & ~15U) + 1;
		if ((kind & 1) || !size) {
			write32(address, kind);
			continue;
		}
		next = (next + size - 1) & ~(uint64_t)(size - 1);
		write32(address, (uint32_t)next);
		device->bars[bar] = next;
		next += size;
		if (kind & 4)
			write32(device->config + PCI_BAR0 + 4 * ++bar, 0);
	}
	write16(device->config + PCI_COMMAND, 6); /* memory, bus master */
}

static void set_up_vector(struct device *device, uintptr_t capability)
{
	uint32_t table = read32(capability + 4);
	uintptr_t entry = device->bars[table & 7] + (table & ~7U);

	write64(entry, LOCAL_APIC);
	write32(entry + 8, VECTOR);
	write32(entry + 12, 0);
	write16(capability + 2, 0x8000); /* MSI-X on */
}

static void read_capabilities(struct device *device)
{
	unsigned int at = read8(device->config + PCI_CAPABILITY_LIST);

	for (; at; at = read8(device->config + at + 1)) {
		uintptr_t capability = device->config + at;
		uintptr_t place = device->bars[read8(capability + 4) % 6] + read32(capability + 8);

		if (read8(capability) == PCI_CAP_ID_MSIX)
			set_up_vector(device, capability);
		if (read8(capability) != PCI_CAP_ID_VNDR)
			continue;
		if (read8(capability + 3) == VIRTIO_PCI_CAP_COMMON_CFG)
			device->common = place;
		if (read8(capability + 3) == VIRTIO_PCI_CAP_NOTIFY_CFG) {
			device->notify = place;
			device->notify_multiplier = read32(capability + 16);
		}
	}
}

/* VIRTIO_F_VERSION_1 alone; queue 0 with vector 0. */
static void start_device(struct device *device)
{
	uintptr_t common = device->common;

	write8(common + COMMON_DEVICE_STATUS, 0);
	write8(common + COMMON_DEVICE_STATUS, 3);
	write32(common + COMMON_DRIVER_FEATURE_SELECT, 0);
	write32(common + COMMON_DRIVER_FEATURE, 0);
	write32(common + COMMON_DRIVER_FEATURE_SELECT, 1);
	write32(common + COMMON_DRIVER_FEATURE, 1);
	write8(common + COMMON_DEVICE_STATUS, 11);

	write16(common + COMMON_QUEUE_SELECT, 0);
	write16(common + COMMON_QUEUE_SIZE, QUEUE_SIZE);
	write16(common + COMMON_QUEUE_MSIX_VECTOR, 0);
	write64(common + COMMON_QUEUE_DESC, (uintptr_t)descriptors);
	write64(common + COMMON_QUEUE_DRIVER, (uintptr_t)&available);
	write64(common + COMMON_QUEUE_DEVICE, (uintptr_t)&used);
	device->notify += read16(common + COMMON_QUEUE_NOTIFY_OFF) * device->notify_multiplier;
	write16(common + COMMON_QUEUE_ENABLE, 1);
	write8(common + COMMON_DEVICE_STATUS, 15);
	if (read8(common + COMMON_DEVICE_STATUS) != 15)
		complain("the device does not start");
}

static void start_interrupts(void)
{
	uintptr_t handler = (uintptr_t)interrupt;
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) pointer = { sizeof(gates) - 1, (uintptr_t)gates };

	gates[VECTOR] =
		(struct gate) { (uint16_t)handler,	   8, 0x8e00, (uint16_t)(handler >> 16),
				(uint32_t)(handler >> 32), 0 };
	asm volatile("lidt %0" : : "m"(pointer));
	out8(0x21, 0xff);
	out8(0xa1, 0xff);
	write32(LOCAL_APIC + 0xf0, 0x1ff);
	asm volatile("sti");
}

/* ---- What is measured */

static void trip_pio(uint64_t count)
{
	uint64_t start = cycles(), left = count;

	asm volatile("1: inb %%dx, %%al\n dec %0\n jnz 1b"
		     : "+r"(left)
		     : "d"(COM1_SCRATCH)
		     : "rax", "cc");
	report("pio", count, cycles() - start);
}

static void trip_mmio(uint64_t count, uintptr_t address)
{
	uint64_t start = cycles(), left = count;

	asm volatile("1: movb (%1), %%al\n dec %0\n jnz 1b"
		     : "+r"(left)
		     : "r"(address)
		     : "rax", "cc", "memory");
	report("mmio", count, cycles() - start);
}

/* Nothing is available: what is measured is the way to the device. */
static void trip_kick(uint64_t count, uintptr_t address)
{
	uint64_t start = cycles(), left = count;

	asm volatile("1: movw %%ax, (%1)\n dec %0\n jnz 1b"
		     : "+r"(left)
		     : "r"(address), "a"(0)
		     : "cc", "memory");
	report("kick", count, cycles() - start);
}

/* A request that needs no disk (VIRTIO_BLK_T_GET_ID), and the interrupt that says that it is done. */
static void trip_msi(uint64_t count, const struct device *device)
{
	uint64_t start;

	request.type = 8;
	descriptors[0] = (struct descriptor) { (uintptr_t)&request, 16, 1, 1 };
	descriptors[1] = (struct descriptor) { (uintptr_t)request.id, 20, 3, 2 };
	descriptors[2] = (struct descriptor) { (uintptr_t)&request.status, 1, 2, 0 };
	interrupts = 0;
	start = cycles();
	for (uint32_t i = 0; i < count; i++) {
		asm volatile("" : : : "memory");
		available.idx = (uint16_t)(i + 1);
		write16(device->notify, 0);
		while (interrupts == i)
			;
	}
	report("msi", count, cycles() - start);
	if (interrupts != count || used.idx != (uint16_t)count)
		complain("interrupts and requests differ");
}

static void trips(const char *line)
{
	uint64_t count = option(line, "n");
	struct device device = { 0 };

	if (!find_device(&device, option(line, "ecam")))
		complain("there is no virtio-blk device");
	place_bars(&device, option(line, "mmio"));
	read_capabilities(&device);
	start_interrupts();
	start_device(&device);
	trip_pio(count);
	trip_mmio(count, device.common + COMMON_DEVICE_STATUS);
	trip_kick(count, device.notify);
	trip_msi(count, &device);
	end();
}

void guest_main(const struct start_info *info)
{
	const char *line = (const char *)(uintptr_t)info->cmdline_paddr;

	say("\n");
	if (line[0] == 't')
		trips(line);
}
