/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The instructions of a hostile driver.
 */
#include "fuzz_ring.h"

#include "virtio_transport.h"

#define STEPS_MAX 96

/* ---- Values ---- */

/* Lengths that are worth a try, and any. */
static uint32_t any_length(struct fuzz_input *input)
{
	static const uint32_t lengths[] = { 0,	  1,	   2,	    4,		8,
					    12,	  16,	   17,	    24,		32,
					    64,	  256,	   512,	    513,	1024,
					    4096, 0x10000, 0x40000, 0x7fffffff, UINT32_MAX };
	uint8_t choice = fuzz_u8(input);

	if (choice < 128)
		return lengths[choice % ARRAY_SIZE(lengths)];
	return choice < 192 ? fuzz_u16(input) : choice < 200 ? fuzz_u32(input) : choice - 200U;
}

/* Somewhere in the buffers, at the rings, at the border of regions, at the end of RAM, or any. */
static uint64_t any_address(struct fuzz_input *input)
{
	uint8_t choice = fuzz_u8(input);
	uint64_t offset = fuzz_u8(input);

	switch (choice % 16) {
	case 0:
		return FUZZ_RINGS + 64 * offset;
	case 1:
		return FUZZ_RAM_BORDER - offset;
	case 2:
		return FUZZ_RAM_SIZE - offset;
	case 3:
		return fuzz_u64(input);
	case 4:
		return UINT64_MAX - offset;
	case 5:
		return (FUZZ_BUFFERS + 16 * offset) | BIT64(40 + offset % 2);
	default:
		return FUZZ_BUFFERS + (choice & 0xf) * UINT64_C(0x1000) + 16 * offset;
	}
}

/* Flags of a descriptor; those of packed rings come in the right combination mostly. */
static uint16_t any_flags(const struct fuzz_driver *driver, const struct fuzz_queue *queue,
			  struct fuzz_input *input)
{
	uint8_t byte = fuzz_u8(input);
	uint16_t flags = byte & (VRING_DESC_F_NEXT | VRING_DESC_F_WRITE | VRING_DESC_F_INDIRECT);

	if (byte & 0x80)
		return (uint16_t)(flags | fuzz_u16(input));
	if (driver->setup.packed && !(byte & 0x40))
		flags |= (uint16_t)(queue->wrap ? BIT32(VRING_PACKED_DESC_F_AVAIL)
						: BIT32(VRING_PACKED_DESC_F_USED));
	return flags;
}

/* ---- Instructions ---- */

static void do_chain(struct fuzz_driver *driver, struct fuzz_queue *queue, struct fuzz_input *input)
{
	struct fuzz_segment segments[FUZZ_SEGMENTS_MAX];
	uint8_t flags = fuzz_u8(input), counts = fuzz_u8(input), fill[64];
	unsigned int out = counts % 8, count = out + (counts >> 4) % 8;

	for (unsigned int i = 0; i < count; i++) {
		segments[i] =
			(struct fuzz_segment) { any_address(input), any_length(input), i >= out };
		if (i < out && flags & 2) {
			size_t len = fuzz_u8(input) % sizeof(fill);

			fuzz_bytes(input, fill, len);
			fuzz_ram_write(driver, segments[i].addr, fill, len);
		}
	}
	if (count)
		fuzz_queue_add(driver, queue, segments, count, flags & 1);
	/* Room is made whether the device used anything or not: a hostile driver does not wait. */
	memset(queue->busy, 0, sizeof(queue->busy));
	queue->free = queue->size;
	for (unsigned int i = 0; i < FUZZ_RING_MAX; i++)
		queue->buffers[i].outstanding = false;
	if (flags & 4)
		fuzz_kick(driver, queue);
}

static void do_kick(struct fuzz_driver *driver, struct fuzz_queue *queue, struct fuzz_input *input)
{
	fuzz_kick(driver, queue);
}

static void do_poll(struct fuzz_driver *driver, struct fuzz_queue *queue, struct fuzz_input *input)
{
	fuzz_machine_poll(driver->machine);
}

/* A descriptor as the input has it. */
static void do_descriptor(struct fuzz_driver *driver, struct fuzz_queue *queue,
			  struct fuzz_input *input)
{
	unsigned int at = fuzz_u8(input) % queue->size;
	uint64_t gpa = queue->desc + at * sizeof(struct vring_desc);
	struct vring_desc desc = { .addr = any_address(input), .len = any_length(input) };
	struct vring_packed_desc packed = { .addr = desc.addr, .len = desc.len };

	desc.flags = packed.flags = any_flags(driver, queue, input);
	desc.next = packed.id = fuzz_u8(input);
	if (driver->setup.packed)
		fuzz_ram_write(driver, gpa, &packed, sizeof(packed));
	else
		fuzz_ram_write(driver, gpa, &desc, sizeof(desc));
}

/* Make one available: the next entry of the ring, or the flags of one descriptor. */
static void do_available(struct fuzz_driver *driver, struct fuzz_queue *queue,
			 struct fuzz_input *input)
{
	uint16_t head = fuzz_u8(input), flags, size = queue->size;

	if (driver->setup.packed) {
		flags = any_flags(driver, queue, input);
		fuzz_ram_write(driver, queue->desc + head % size * 16U + 14, &flags, 2);
		return;
	}
	fuzz_ram_write(driver, queue->driver_area + 4 + 2U * (queue->position % size), &head, 2);
	queue->position++;
	fuzz_ram_write(driver, queue->driver_area + 2, &queue->position, 2);
}

/* Jump: the available index, or the place where the next packed descriptor goes. */
static void do_jump(struct fuzz_driver *driver, struct fuzz_queue *queue, struct fuzz_input *input)
{
	uint16_t to = fuzz_u16(input);

	if (driver->setup.packed) {
		queue->position = to % queue->size;
		queue->wrap ^= to >> 15;
		return;
	}
	queue->position = to & 0x8000 ? to : (uint16_t)(queue->position + to % 300);
	fuzz_ram_write(driver, queue->driver_area + 2, &queue->position, 2);
}

/* Bytes anywhere in the rings, the device's parts included. */
static void do_ring_bytes(struct fuzz_driver *driver, struct fuzz_queue *queue,
			  struct fuzz_input *input)
{
	uint64_t offset = fuzz_u16(input) % FUZZ_RING_SPACE;
	uint8_t bytes[32];
	size_t len = fuzz_u8(input) % sizeof(bytes);

	fuzz_bytes(input, bytes, len);
	fuzz_ram_write(driver, queue->desc + offset, bytes, len);
}

static void do_buffer_bytes(struct fuzz_driver *driver, struct fuzz_queue *queue,
			    struct fuzz_input *input)
{
	uint64_t gpa = any_address(input);
	uint8_t bytes[64];
	size_t len = fuzz_u8(input) % sizeof(bytes);

	fuzz_bytes(input, bytes, len);
	fuzz_ram_write(driver, gpa, bytes, len);
}

/* A table of descriptors as the input has them. */
static void do_table(struct fuzz_driver *driver, struct fuzz_queue *queue, struct fuzz_input *input)
{
	unsigned int count = fuzz_u8(input) % FUZZ_SEGMENTS_MAX;
	uint64_t gpa = any_address(input);

	for (unsigned int i = 0; i < count; i++, gpa += sizeof(struct vring_desc)) {
		struct vring_desc desc = { .addr = any_address(input), .len = any_length(input) };

		desc.flags = any_flags(driver, queue, input);
		desc.next = fuzz_u8(input);
		fuzz_ram_write(driver, gpa, &desc, sizeof(desc));
	}
}

/* What the driver says of notifications: flags and used_event, or its event suppression structure. */
static void do_suppression(struct fuzz_driver *driver, struct fuzz_queue *queue,
			   struct fuzz_input *input)
{
	uint16_t values[2] = { fuzz_u16(input), fuzz_u16(input) };

	if (driver->setup.packed) {
		fuzz_ram_write(driver, queue->driver_area, values, sizeof(values));
		return;
	}
	fuzz_ram_write(driver, queue->driver_area, &values[0], 2);
	fuzz_ram_write(driver, queue->driver_area + 4 + 2U * queue->size, &values[1], 2);
}

static void do_register(struct fuzz_driver *driver, struct fuzz_queue *queue,
			struct fuzz_input *input)
{
	uint64_t offset = fuzz_u8(input) % 0x44;
	unsigned int size = 1U << fuzz_u8(input) % 4;

	fuzz_register_out(driver, offset, size, fuzz_uint(input, size));
	fuzz_register_in(driver, offset, size);
}

static void do_status(struct fuzz_driver *driver, struct fuzz_queue *queue,
		      struct fuzz_input *input)
{
	fuzz_set_status(driver, fuzz_u8(input));
}

static void do_restart(struct fuzz_driver *driver, struct fuzz_queue *queue,
		       struct fuzz_input *input)
{
	fuzz_set_status(driver, 0);
	driver->setup.without ^= BIT64(fuzz_u8(input) % 64);
	if (!driver->setup.packed)
		driver->setup.without |= BIT64(VIRTIO_F_RING_PACKED);
	else
		driver->setup.without &= ~BIT64(VIRTIO_F_RING_PACKED);
	fuzz_driver_restart(driver);
}

static void do_queue_reset(struct fuzz_driver *driver, struct fuzz_queue *queue,
			   struct fuzz_input *input)
{
	uint8_t size_seed = fuzz_u8(input);

	if (driver->setup.legacy) {
		fuzz_register_out(driver, VIRTIO_PCI_QUEUE_SEL, 2, queue->index);
		fuzz_register_out(driver, VIRTIO_PCI_QUEUE_PFN, 4, 0);
	} else {
		fuzz_register_out(driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, queue->index);
		fuzz_register_out(driver, 0x3a, 2, 1); /* queue_reset */
	}
	if (size_seed < 0xf0)
		fuzz_queue_setup(driver, queue->index, size_seed);
}

static void do_config(struct fuzz_driver *driver, struct fuzz_queue *queue,
		      struct fuzz_input *input)
{
	uint64_t offset = fuzz_u8(input) & 0x7f;
	unsigned int size = 1U << fuzz_u8(input) % 4;

	offset += driver->setup.legacy ? VIRTIO_PCI_CONFIG_OFF(driver->setup.msix)
				       : VIRTIO_DEVICE_OFFSET;
	fuzz_register_out(driver, offset, size, fuzz_uint(input, size));
	fuzz_register_in(driver, offset, size);
}

static void do_isr(struct fuzz_driver *driver, struct fuzz_queue *queue, struct fuzz_input *input)
{
	fuzz_register_in(driver, driver->setup.legacy ? VIRTIO_PCI_ISR : VIRTIO_ISR_OFFSET, 1);
}

static void do_quiesce(struct fuzz_driver *driver, struct fuzz_queue *queue,
		       struct fuzz_input *input)
{
	pci_quiesce_devices(driver->ctx);
	if (fuzz_u8(input) & 1)
		fuzz_kick(driver, queue);
	fuzz_machine_poll(driver->machine);
	pci_resume_devices(driver->ctx);
}

static void do_host(struct fuzz_driver *driver, struct fuzz_queue *queue, struct fuzz_input *input)
{
	fuzz_host_input(driver->device, input);
}

static void do_any_kick(struct fuzz_driver *driver, struct fuzz_queue *queue,
			struct fuzz_input *input)
{
	uint64_t offset = driver->setup.legacy ? VIRTIO_PCI_QUEUE_NOTIFY
					       : VIRTIO_NOTIFY_OFFSET + fuzz_u16(input);

	fuzz_register_out(driver, offset, 4, fuzz_u32(input));
}

/* The interface that is not the driver's. */
static void do_other_interface(struct fuzz_driver *driver, struct fuzz_queue *queue,
			       struct fuzz_input *input)
{
	bool legacy = driver->setup.legacy;

	if (!fuzz_common(driver->device)->opt_legacy)
		return;
	driver->setup.legacy = !legacy;
	do_register(driver, queue, input);
	driver->setup.legacy = legacy;
}

/* The numbers of these are part of saved inputs: add at the end only, in place of a repeated one. */
static void (*const instructions[])(struct fuzz_driver *driver, struct fuzz_queue *queue,
				    struct fuzz_input *input) = {
	do_chain,      do_kick,		do_poll,      do_descriptor,  do_available,	  do_jump,
	do_ring_bytes, do_buffer_bytes, do_table,     do_suppression, do_register,	  do_status,
	do_restart,    do_queue_reset,	do_config,    do_isr,	      do_quiesce,	  do_host,
	do_any_kick,   do_chain,	do_available, do_chain,	      do_other_interface, do_chain,
};

int fuzz_ring_run(bool packed, const uint8_t *data, size_t size)
{
	static struct fuzz_machine *machine; /* libFuzzer hands nothing through */
	static struct fuzz_driver driver;
	struct fuzz_input input = { data, size };
	struct fuzz_device *device;
	struct fuzz_setup setup;
	unsigned int queues;

	if (!machine)
		machine = fuzz_machine_create(NULL);
	device = &machine->devices[fuzz_u8(&input) % machine->count];
	if (!device->dev)
		return -1;
	fuzz_setup_read(&setup, &input, &packed);
	fuzz_driver_start(&driver, machine, device, &setup);
	queues = MIN(fuzz_common(device)->nvq, FUZZ_QUEUES);
	for (unsigned int i = 0; i < STEPS_MAX && fuzz_more(&input); i++) {
		uint8_t op = fuzz_u8(&input);

		instructions[(op & 0x1f) % ARRAY_SIZE(instructions)](
			&driver, &driver.queues[(op >> 5) % queues], &input);
	}
	fuzz_machine_poll(machine);
	fuzz_machine_reset(machine, device);
	return 0;
}
