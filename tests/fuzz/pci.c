/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pci: any accesses of a guest to a machine with all devices: config space by ports and by ECAM,
 * BARs wherever they are, MSI-X tables, ports, memory.
 */
#include "lib/fuzz_machine.h"
#include "platform.h"

#define STEPS_MAX 128
#define QUEUE_MEMORY FUZZ_RINGS

struct access {
	bool write;
	unsigned int size;
	uint64_t value;
};

static uint64_t any_value(struct fuzz_input *input, unsigned int size)
{
	static const uint64_t values[] = { 0,
					   1,
					   2,
					   3,
					   4,
					   7,
					   8,
					   15,
					   0x10,
					   0x80,
					   0xff,
					   0xffff,
					   UINT32_MAX,
					   UINT64_MAX,
					   QUEUE_MEMORY,
					   QUEUE_MEMORY >> 12,
					   QUEUE_MEMORY + 0x2000,
					   FUZZ_RAM_BORDER - 16,
					   FUZZ_RAM_SIZE - 64,
					   0xfee00000,
					   0xb0000000,
					   0xc0000000,
					   0xcf8,
					   0x400 };
	uint8_t choice = fuzz_u8(input);

	return choice < 96    ? values[choice % ARRAY_SIZE(values)]
	       : choice < 160 ? BIT64(choice - 96)
			      : fuzz_uint(input, size);
}

static struct access any_access(struct fuzz_input *input)
{
	uint8_t kind = fuzz_u8(input);
	struct access access = { .write = kind & 4, .size = 1U << (kind & 3) };

	if (access.write)
		access.value = any_value(input, access.size);
	return access;
}

static void carry_out(struct fuzz_machine *machine, enum io_type type, uint64_t addr,
		      const struct access *access)
{
	if (access->write)
		guest_write(machine->ctx, type, addr, access->size,
			    access->size < 8 ? access->value & (BIT64(8 * access->size) - 1)
					     : access->value);
	else
		guest_read(machine->ctx, type, addr, access->size);
}

static struct pci_vdev *any_device(struct fuzz_machine *machine, struct fuzz_input *input,
				   unsigned int *slot)
{
	struct pci_vdev *dev;

	*slot = fuzz_u8(input) & 0x1f;
	dev = pci_find_device(machine->ctx, 0, (uint8_t)*slot, 0);
	return dev;
}

/* An offset in the header, in a capability, or anywhere. */
static unsigned int any_register(struct fuzz_input *input, const struct pci_vdev *dev)
{
	uint8_t choice = fuzz_u8(input), offset = fuzz_u8(input);

	if (!dev || choice < 64)
		return offset;
	if (choice < 128)
		return dev->msix.cap + offset % 12;
	if (choice < 160)
		return dev->msi.cap + offset % 24;
	if (choice < 224)
		return (dev->capend - 20 + offset % 20) & 0xfff; /* PCI_CFG is the last */
	return (choice & 0xfU) << 8 | offset;
}

static void config_by_ports(struct fuzz_machine *machine, struct fuzz_input *input)
{
	struct access access = any_access(input);
	unsigned int slot;
	struct pci_vdev *dev = any_device(machine, input, &slot);
	unsigned int offset = any_register(input, dev);

	outl(machine->ctx, 0xcf8, BIT32(31) | slot << 11 | (offset & 0xfc));
	carry_out(machine, IO_PIO, 0xcfc + (offset & 3), &access);
}

static void config_by_ecam(struct fuzz_machine *machine, struct fuzz_input *input)
{
	struct access access = any_access(input);
	unsigned int slot;
	struct pci_vdev *dev = any_device(machine, input, &slot);
	unsigned int offset = any_register(input, dev);

	carry_out(machine, IO_MMIO, X86_ECAM_BASE + (slot << 15) + offset, &access);
}

/* BAR registers take whole addresses; this moves one to a place that others may have. */
static void move_bar(struct fuzz_machine *machine, struct fuzz_input *input)
{
	struct access access = any_access(input);
	unsigned int slot, bar = fuzz_u8(input) % PCI_BARS;

	any_device(machine, input, &slot);
	carry_out(machine, IO_MMIO, X86_ECAM_BASE + (slot << 15) + PCI_BASE_ADDRESS_0 + 4 * bar,
		  &access);
}

static void decode_all(struct fuzz_machine *machine, struct fuzz_input *input)
{
	for (unsigned int i = 0; i < machine->count; i++)
		if (machine->devices[i].dev)
			pci_cfg_write(machine->devices[i].dev, PCI_COMMAND, 2,
				      PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

static void bar(struct fuzz_machine *machine, struct fuzz_input *input)
{
	struct access access = any_access(input);
	unsigned int slot, index;
	struct pci_vdev *dev = any_device(machine, input, &slot);
	uint64_t offset;

	index = fuzz_u8(input) % PCI_BARS;
	offset = fuzz_u16(input);
	if (!dev || !dev->bar[index].mapped)
		return;
	if (index == VIRTIO_LEGACY_BAR)
		offset &= 0x7f;
	else if (index == VIRTIO_MODERN_BAR)
		offset = (offset & 0x3000) | (offset & (offset & 0x0800 ? 0xfff : 0x3f));
	carry_out(machine, dev->bar[index].type == PCIBAR_IO ? IO_PIO : IO_MMIO,
		  dev->bar[index].range.base + offset, &access);
}

static void port(struct fuzz_machine *machine, struct fuzz_input *input)
{
	static const uint16_t ports[] = { 0xcf8, 0xcfc, 0xcf9, 0x3f8, 0x70,
					  0x71,	 0x64,	0x400, 0x600, 0xb000 };
	struct access access = any_access(input);
	uint8_t choice = fuzz_u8(input);

	carry_out(machine, IO_PIO,
		  choice < 0xc0 ? (uint64_t)ports[choice % ARRAY_SIZE(ports)] + choice / 32
				: fuzz_u16(input),
		  &access);
}

static void memory(struct fuzz_machine *machine, struct fuzz_input *input)
{
	static const uint64_t bases[] = { 0, X86_ECAM_BASE, X86_MMIO32_BASE, GIB(4),
					  UINT64_MAX - 0x7f };
	struct access access = any_access(input);
	uint8_t choice = fuzz_u8(input);
	uint64_t base = choice < 0xc0 ? bases[choice % ARRAY_SIZE(bases)] : fuzz_u64(input);

	carry_out(machine, IO_MMIO, base + (choice & 1 ? fuzz_u32(input) : fuzz_u16(input)),
		  &access);
}

static void poll_loops(struct fuzz_machine *machine, struct fuzz_input *input)
{
	fuzz_machine_poll(machine);
}

static void quiesce(struct fuzz_machine *machine, struct fuzz_input *input)
{
	pci_quiesce_devices(machine->ctx);
	if (fuzz_u8(input) & 1)
		bar(machine, input);
	pci_resume_devices(machine->ctx);
}

static void ram_bytes(struct fuzz_machine *machine, struct fuzz_input *input)
{
	uint64_t gpa = QUEUE_MEMORY + fuzz_u16(input) % 0x3000;
	uint8_t bytes[32];
	size_t len = fuzz_u8(input) % sizeof(bytes);

	fuzz_bytes(input, bytes, len);
	memcpy(paddr_guest2host(machine->ctx, gpa, len), bytes, len);
}

static void host(struct fuzz_machine *machine, struct fuzz_input *input)
{
	fuzz_host_input(&machine->devices[fuzz_u8(input) % machine->count], input);
}

/* The numbers of these are part of saved inputs: add at the end only, in place of a repeated one. */
static void (*const steps[])(struct fuzz_machine *machine, struct fuzz_input *input) = {
	config_by_ports, config_by_ecam, move_bar,  decode_all, bar, port, memory,
	poll_loops,	 quiesce,	 ram_bytes, host,	bar, bar,  bar,
	decode_all,	 config_by_ecam,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fuzz_machine *machine; /* libFuzzer hands nothing through */
	struct fuzz_input input = { data, size };

	if (!machine) {
		machine = fuzz_machine_create(NULL);
		assert_int_equal(platform_add_uart(machine->ctx, "com1,null"), 0);
	}
	inproc_of(machine->ctx)->use_ioeventfds = size & 1;
	for (unsigned int i = 0; i < STEPS_MAX && fuzz_more(&input); i++)
		steps[fuzz_u8(&input) % ARRAY_SIZE(steps)](machine, &input);
	fuzz_machine_reset(machine, &machine->devices[size % machine->count]);
	return 0;
}
