/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A driver for fuzzers: how a device is started, and its registers.
 */
#include "fuzz_driver.h"

#include "virtio_transport.h"

#define MSI_TARGET 0xfee00000
#define MSIX_VECTORS 4

static uint64_t bar_address(const struct fuzz_driver *driver, unsigned int bar)
{
	return driver->device->dev->bar[bar].range.base;
}

uint64_t fuzz_register_in(struct fuzz_driver *driver, uint64_t offset, unsigned int size)
{
	if (driver->setup.legacy)
		return guest_read(driver->ctx, IO_PIO,
				  bar_address(driver, VIRTIO_LEGACY_BAR) + offset, size);
	return guest_read(driver->ctx, IO_MMIO, bar_address(driver, VIRTIO_MODERN_BAR) + offset,
			  size);
}

void fuzz_register_out(struct fuzz_driver *driver, uint64_t offset, unsigned int size,
		       uint64_t value)
{
	if (driver->setup.legacy)
		guest_write(driver->ctx, IO_PIO, bar_address(driver, VIRTIO_LEGACY_BAR) + offset,
			    size, value);
	else
		guest_write(driver->ctx, IO_MMIO, bar_address(driver, VIRTIO_MODERN_BAR) + offset,
			    size, value);
}

void fuzz_set_status(struct fuzz_driver *driver, uint8_t status)
{
	fuzz_register_out(driver,
			  driver->setup.legacy ? VIRTIO_PCI_STATUS : VIRTIO_PCI_COMMON_STATUS, 1,
			  status);
}

void fuzz_kick(struct fuzz_driver *driver, const struct fuzz_queue *queue)
{
	if (driver->setup.legacy)
		fuzz_register_out(driver, VIRTIO_PCI_QUEUE_NOTIFY, 2, queue->index);
	else
		fuzz_register_out(driver,
				  VIRTIO_NOTIFY_OFFSET + queue->index * VIRTIO_NOTIFY_MULTIPLIER, 2,
				  queue->index);
}

/* ---- Start ---- */

/* Ring features that the third byte switches off, a bit each. */
static const uint8_t ring_features[8] = {
	VIRTIO_RING_F_EVENT_IDX,  VIRTIO_RING_F_INDIRECT_DESC, VIRTIO_F_IN_ORDER,
	VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_NOTIFICATION_DATA,  VIRTIO_F_RING_RESET,
	VIRTIO_F_SUSPEND,	  VIRTIO_F_NOTIFY_ON_EMPTY,
};

void fuzz_setup_read(struct fuzz_setup *setup, struct fuzz_input *input, const bool *packed)
{
	uint8_t flags = fuzz_u8(input), features = fuzz_u8(input);

	*setup = (struct fuzz_setup) {
		.packed = packed ? *packed : flags & 1,
		.msix = flags & 2,
		.start = !(flags & 4),
		.legacy = flags & 8,
		.ioeventfd = flags & 16,
		.msi = flags & 32,
		.size_seed = fuzz_u8(input),
	};
	for (unsigned int i = 0; i < ARRAY_SIZE(ring_features); i++)
		if (features & BIT32(i))
			setup->without |= BIT64(ring_features[i]);
	setup->without |= (uint64_t)fuzz_uint(input, 3) & 0xffffff;
	if (setup->packed)
		setup->legacy = false;
	else
		setup->without |= BIT64(VIRTIO_F_RING_PACKED);
}

static uint64_t negotiate_legacy(struct fuzz_driver *driver)
{
	uint64_t features = fuzz_register_in(driver, VIRTIO_PCI_HOST_FEATURES, 4);

	features &= ~driver->setup.without;
	fuzz_register_out(driver, VIRTIO_PCI_GUEST_FEATURES, 4, features);
	return features;
}

static uint64_t negotiate_modern(struct fuzz_driver *driver)
{
	uint64_t features = 0;

	for (uint32_t word = 0; word < 2; word++) {
		uint64_t part;

		fuzz_register_out(driver, VIRTIO_PCI_COMMON_DFSELECT, 4, word);
		part = fuzz_register_in(driver, VIRTIO_PCI_COMMON_DF, 4) << (32 * word);
		part &= ~(driver->setup.without & ~BIT64(VIRTIO_F_VERSION_1));
		fuzz_register_out(driver, VIRTIO_PCI_COMMON_GFSELECT, 4, word);
		fuzz_register_out(driver, VIRTIO_PCI_COMMON_GF, 4, part >> (32 * word));
		features |= part;
	}
	return features;
}

static uint16_t ring_size(const struct fuzz_driver *driver, uint16_t max, uint8_t seed)
{
	if (driver->setup.packed)
		return (uint16_t)(1 + seed % max);
	return (uint16_t)MIN(1 << seed % 9, max);
}

static void queue_enable_legacy(struct fuzz_driver *driver, struct fuzz_queue *queue)
{
	queue->size = (uint16_t)fuzz_register_in(driver, VIRTIO_PCI_QUEUE_NUM, 2);
	queue->size = MIN(queue->size, FUZZ_RING_MAX);
	queue->driver_area = queue->desc + queue->size * sizeof(struct vring_desc);
	queue->device_area = align_up(queue->driver_area + 6 + 2 * queue->size, 4096);
	if (driver->setup.msix)
		fuzz_register_out(driver, VIRTIO_MSI_QUEUE_VECTOR, 2, queue->index % MSIX_VECTORS);
	fuzz_register_out(driver, VIRTIO_PCI_QUEUE_PFN, 4, queue->desc >> 12);
}

static void queue_enable_modern(struct fuzz_driver *driver, struct fuzz_queue *queue)
{
	fuzz_register_out(driver, VIRTIO_PCI_COMMON_Q_SIZE, 2, queue->size);
	fuzz_register_out(driver, VIRTIO_PCI_COMMON_Q_MSIX, 2, queue->index % MSIX_VECTORS);
	fuzz_register_out(driver, VIRTIO_PCI_COMMON_Q_DESCLO, 8, queue->desc);
	fuzz_register_out(driver, VIRTIO_PCI_COMMON_Q_AVAILLO, 8, queue->driver_area);
	fuzz_register_out(driver, VIRTIO_PCI_COMMON_Q_USEDLO, 8, queue->device_area);
	fuzz_register_out(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
}

void fuzz_queue_setup(struct fuzz_driver *driver, unsigned int index, uint8_t size_seed)
{
	struct fuzz_queue *queue = &driver->queues[index];
	uint16_t max = MIN(fuzz_common(driver->device)->vqs[index].size_max, FUZZ_RING_MAX);

	*queue = (struct fuzz_queue) {
		.index = (uint16_t)index,
		.size = ring_size(driver, max, size_seed),
		.desc = FUZZ_RINGS + index * FUZZ_RING_SPACE,
		.wrap = true,
		.used_wrap = true,
	};
	queue->driver_area = queue->desc + FUZZ_RING_MAX * sizeof(struct vring_desc);
	queue->device_area = queue->driver_area + 4096;
	if (queue->desc + FUZZ_RING_SPACE <= FUZZ_RAM_BORDER)
		memset(fuzz_ram(driver, queue->desc, FUZZ_RING_SPACE), 0, FUZZ_RING_SPACE);
	fuzz_register_out(driver,
			  driver->setup.legacy ? VIRTIO_PCI_QUEUE_SEL : VIRTIO_PCI_COMMON_Q_SELECT,
			  2, index);
	if (driver->setup.legacy)
		queue_enable_legacy(driver, queue);
	else
		queue_enable_modern(driver, queue);
	queue->free = queue->size;
}

static void msix_enable(struct fuzz_driver *driver)
{
	struct pci_vdev *dev = driver->device->dev;
	uint64_t table = bar_address(driver, VIRTIO_MSIX_BAR);

	for (unsigned int i = 0; i < MIN(dev->msix.count, MSIX_VECTORS); i++) {
		writel(driver->ctx, table + 16 * i, MSI_TARGET);
		writel(driver->ctx, table + 16 * i + 8, i);
		writel(driver->ctx, table + 16 * i + 12, 0);
	}
	pci_cfg_write(dev, dev->msix.cap + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
}

static void msi_enable(struct fuzz_driver *driver)
{
	struct pci_vdev *dev = driver->device->dev;

	pci_cfg_write(dev, dev->msi.cap + PCI_MSI_ADDRESS_LO, 4, MSI_TARGET);
	pci_cfg_write(dev, dev->msi.cap + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE);
}

void fuzz_driver_restart(struct fuzz_driver *driver)
{
	unsigned int count = MIN(fuzz_common(driver->device)->nvq, FUZZ_QUEUES);

	fuzz_set_status(driver, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	driver->features =
		driver->setup.legacy ? negotiate_legacy(driver) : negotiate_modern(driver);
	if (!driver->setup.legacy)
		fuzz_set_status(driver, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
						VIRTIO_CONFIG_S_FEATURES_OK);
	for (unsigned int i = 0; i < count; i++)
		fuzz_queue_setup(driver, i, driver->setup.size_seed);
	if (driver->setup.start)
		fuzz_set_status(driver, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
						VIRTIO_CONFIG_S_FEATURES_OK |
						VIRTIO_CONFIG_S_DRIVER_OK);
}

void fuzz_driver_start(struct fuzz_driver *driver, struct fuzz_machine *machine,
		       struct fuzz_device *device, const struct fuzz_setup *setup)
{
	memset(driver, 0, sizeof(*driver));
	driver->machine = machine;
	driver->device = device;
	driver->ctx = machine->ctx;
	driver->setup = *setup;
	driver->next_buffer = FUZZ_BUFFERS;
	inproc_of(machine->ctx)->use_ioeventfds = setup->ioeventfd;
	pci_cfg_write(device->dev, PCI_COMMAND, 2,
		      PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	if (!fuzz_common(device)->opt_legacy)
		driver->setup.legacy = false;
	if (setup->msix)
		msix_enable(driver);
	if (setup->msi)
		msi_enable(driver);
	fuzz_driver_restart(driver);
}
