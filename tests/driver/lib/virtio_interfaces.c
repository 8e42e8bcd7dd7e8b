/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The registers of virtio over PCI as a driver uses them: the legacy IO BAR and the modern
 * structures (virtio 1.4, 4.1.4).
 */
#include "virtio_driver.h"

/* ---- Legacy (4.1.4.10) ---- */

#define LEGACY_BAR 0

static uint32_t legacy_in(struct virtio_driver *driver, uint32_t offset, unsigned int size)
{
	return (uint32_t)pci_bar_in(&driver->pci, LEGACY_BAR, offset, size);
}

static void legacy_out(struct virtio_driver *driver, uint32_t offset, unsigned int size,
		       uint32_t value)
{
	pci_bar_out(&driver->pci, LEGACY_BAR, offset, size, value);
}

static uint8_t legacy_get_status(struct virtio_driver *driver)
{
	return (uint8_t)legacy_in(driver, VIRTIO_PCI_STATUS, 1);
}

static void legacy_set_status(struct virtio_driver *driver, uint8_t status)
{
	legacy_out(driver, VIRTIO_PCI_STATUS, 1, status);
}

static uint64_t legacy_get_features(struct virtio_driver *driver)
{
	return legacy_in(driver, VIRTIO_PCI_HOST_FEATURES, 4);
}

static void legacy_set_features(struct virtio_driver *driver, uint64_t features)
{
	legacy_out(driver, VIRTIO_PCI_GUEST_FEATURES, 4, (uint32_t)features);
}

static void legacy_select(struct virtio_driver *driver, uint16_t index)
{
	legacy_out(driver, VIRTIO_PCI_QUEUE_SEL, 2, index);
}

static uint16_t legacy_queue_size(struct virtio_driver *driver, uint16_t index)
{
	legacy_select(driver, index);
	return (uint16_t)legacy_in(driver, VIRTIO_PCI_QUEUE_NUM, 2);
}

static void legacy_queue_setup(struct virtio_driver *driver, struct driver_queue *queue)
{
	legacy_select(driver, queue->index);
	legacy_out(driver, VIRTIO_PCI_QUEUE_PFN, 4, (uint32_t)(queue->ring.desc_gpa >> 12));
}

static uint16_t legacy_queue_vector(struct virtio_driver *driver, uint16_t index, uint16_t vector)
{
	legacy_select(driver, index);
	legacy_out(driver, VIRTIO_MSI_QUEUE_VECTOR, 2, vector);
	return (uint16_t)legacy_in(driver, VIRTIO_MSI_QUEUE_VECTOR, 2);
}

static uint16_t legacy_config_vector(struct virtio_driver *driver, uint16_t vector)
{
	legacy_out(driver, VIRTIO_MSI_CONFIG_VECTOR, 2, vector);
	return (uint16_t)legacy_in(driver, VIRTIO_MSI_CONFIG_VECTOR, 2);
}

static void legacy_notify(struct virtio_driver *driver, struct driver_queue *queue)
{
	legacy_out(driver, VIRTIO_PCI_QUEUE_NOTIFY, 2, queue->index);
}

static uint8_t legacy_isr(struct virtio_driver *driver)
{
	return (uint8_t)legacy_in(driver, VIRTIO_PCI_ISR, 1);
}

static uint64_t legacy_config_in(struct virtio_driver *driver, uint32_t offset, unsigned int size)
{
	uint32_t config = VIRTIO_PCI_CONFIG_OFF(driver->params.msix);

	if (size < 8)
		return legacy_in(driver, config + offset, size);
	return legacy_in(driver, config + offset, 4) |
	       (uint64_t)legacy_in(driver, config + offset + 4, 4) << 32;
}

static void legacy_config_out(struct virtio_driver *driver, uint32_t offset, unsigned int size,
			      uint32_t value)
{
	legacy_out(driver, VIRTIO_PCI_CONFIG_OFF(driver->params.msix) + offset, size, value);
}

const struct driver_interface driver_legacy = {
	.get_status = legacy_get_status,
	.set_status = legacy_set_status,
	.get_features = legacy_get_features,
	.set_features = legacy_set_features,
	.queue_size = legacy_queue_size,
	.queue_setup = legacy_queue_setup,
	.queue_vector = legacy_queue_vector,
	.config_vector = legacy_config_vector,
	.notify = legacy_notify,
	.isr = legacy_isr,
	.config_in = legacy_config_in,
	.config_out = legacy_config_out,
};

/* ---- Modern (4.1.4.3) ---- */

uint64_t driver_common_in(struct virtio_driver *driver, uint32_t offset, unsigned int size)
{
	return pci_bar_in(&driver->pci, driver->common.bar, driver->common.offset + offset, size);
}

void driver_common_out(struct virtio_driver *driver, uint32_t offset, unsigned int size,
		       uint64_t value)
{
	pci_bar_out(&driver->pci, driver->common.bar, driver->common.offset + offset, size, value);
}

static uint8_t modern_get_status(struct virtio_driver *driver)
{
	return (uint8_t)driver_common_in(driver, VIRTIO_PCI_COMMON_STATUS, 1);
}

static void modern_set_status(struct virtio_driver *driver, uint8_t status)
{
	driver_common_out(driver, VIRTIO_PCI_COMMON_STATUS, 1, status);
}

static uint64_t modern_get_features(struct virtio_driver *driver)
{
	uint64_t features = 0;

	for (uint32_t word = 0; word < 2; word++) {
		driver_common_out(driver, VIRTIO_PCI_COMMON_DFSELECT, 4, word);
		features |= driver_common_in(driver, VIRTIO_PCI_COMMON_DF, 4) << (32 * word);
	}
	return features;
}

static void modern_set_features(struct virtio_driver *driver, uint64_t features)
{
	for (uint32_t word = 0; word < 2; word++) {
		driver_common_out(driver, VIRTIO_PCI_COMMON_GFSELECT, 4, word);
		driver_common_out(driver, VIRTIO_PCI_COMMON_GF, 4,
				  (uint32_t)(features >> (32 * word)));
	}
}

static void modern_select(struct virtio_driver *driver, uint16_t index)
{
	driver_common_out(driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, index);
}

static uint16_t modern_queue_size(struct virtio_driver *driver, uint16_t index)
{
	modern_select(driver, index);
	return (uint16_t)driver_common_in(driver, VIRTIO_PCI_COMMON_Q_SIZE, 2);
}

/* 64-bit fields are written in two halves (4.1.3.1). */
static void modern_out64(struct virtio_driver *driver, uint32_t offset, uint64_t value)
{
	driver_common_out(driver, offset, 4, (uint32_t)value);
	driver_common_out(driver, offset + 4, 4, (uint32_t)(value >> 32));
}

static void modern_queue_setup(struct virtio_driver *driver, struct driver_queue *queue)
{
	uint64_t notify_off;

	modern_select(driver, queue->index);
	driver_common_out(driver, VIRTIO_PCI_COMMON_Q_SIZE, 2, queue->ring.size);
	modern_out64(driver, VIRTIO_PCI_COMMON_Q_DESCLO, queue->ring.desc_gpa);
	modern_out64(driver, VIRTIO_PCI_COMMON_Q_AVAILLO, queue->ring.driver_gpa);
	modern_out64(driver, VIRTIO_PCI_COMMON_Q_USEDLO, queue->ring.device_gpa);
	notify_off = driver_common_in(driver, VIRTIO_PCI_COMMON_Q_NOFF, 2);
	queue->notify_offset = notify_off * driver->notify_multiplier;
	assert_true(queue->notify_offset + 2 <= driver->notify.length); /* 4.1.4.4.1 */
	driver_common_out(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
}

static uint16_t modern_queue_vector(struct virtio_driver *driver, uint16_t index, uint16_t vector)
{
	modern_select(driver, index);
	driver_common_out(driver, VIRTIO_PCI_COMMON_Q_MSIX, 2, vector);
	return (uint16_t)driver_common_in(driver, VIRTIO_PCI_COMMON_Q_MSIX, 2);
}

static uint16_t modern_config_vector(struct virtio_driver *driver, uint16_t vector)
{
	driver_common_out(driver, VIRTIO_PCI_COMMON_MSIX, 2, vector);
	return (uint16_t)driver_common_in(driver, VIRTIO_PCI_COMMON_MSIX, 2);
}

static void modern_notify(struct virtio_driver *driver, struct driver_queue *queue)
{
	pci_bar_out(&driver->pci, driver->notify.bar, driver->notify.offset + queue->notify_offset,
		    2, queue->index);
}

static uint8_t modern_isr(struct virtio_driver *driver)
{
	return (uint8_t)pci_bar_in(&driver->pci, driver->isr.bar, driver->isr.offset, 1);
}

static uint64_t modern_config_in(struct virtio_driver *driver, uint32_t offset, unsigned int size)
{
	return pci_bar_in(&driver->pci, driver->device.bar, driver->device.offset + offset, size);
}

static void modern_config_out(struct virtio_driver *driver, uint32_t offset, unsigned int size,
			      uint32_t value)
{
	pci_bar_out(&driver->pci, driver->device.bar, driver->device.offset + offset, size, value);
}

const struct driver_interface driver_modern = {
	.get_status = modern_get_status,
	.set_status = modern_set_status,
	.get_features = modern_get_features,
	.set_features = modern_set_features,
	.queue_size = modern_queue_size,
	.queue_setup = modern_queue_setup,
	.queue_vector = modern_queue_vector,
	.config_vector = modern_config_vector,
	.notify = modern_notify,
	.isr = modern_isr,
	.config_in = modern_config_in,
	.config_out = modern_config_out,
};

/* virtio 1.4, 4.1.4: the first capability of each type counts. */
bool driver_find_modern(struct virtio_driver *driver)
{
	struct driver_region *const regions[] = {
		[VIRTIO_PCI_CAP_COMMON_CFG] = &driver->common,
		[VIRTIO_PCI_CAP_NOTIFY_CFG] = &driver->notify,
		[VIRTIO_PCI_CAP_ISR_CFG] = &driver->isr,
		[VIRTIO_PCI_CAP_DEVICE_CFG] = &driver->device,
	};
	struct pci_function *pci = &driver->pci;
	unsigned int at = 0;

	while ((at = pci_capability(pci, PCI_CAP_ID_VNDR, at))) {
		uint32_t type = pci_in(pci, at + VIRTIO_PCI_CAP_CFG_TYPE, 1);
		struct driver_region *region = type < ARRAY_SIZE(regions) ? regions[type] : NULL;

		if (!region || region->length)
			continue;
		region->bar = pci_in(pci, at + VIRTIO_PCI_CAP_BAR, 1);
		region->offset = pci_in(pci, at + VIRTIO_PCI_CAP_OFFSET, 4);
		region->length = pci_in(pci, at + VIRTIO_PCI_CAP_LENGTH, 4);
		assert_true(range_contains(0, pci->bar[region->bar].size, region->offset,
					   region->length));
		if (type == VIRTIO_PCI_CAP_NOTIFY_CFG)
			driver->notify_multiplier = pci_in(pci, at + VIRTIO_PCI_NOTIFY_CAP_MULT, 4);
	}
	return driver->common.length && driver->notify.length && driver->isr.length;
}
