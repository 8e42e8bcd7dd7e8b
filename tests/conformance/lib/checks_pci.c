/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Checks: the device as a PCI function (virtio 1.4, 4.1).
 */
#include "check_context.h"

#define VIRTIO_VENDOR 0x1af4
#define TRANSITIONAL_FIRST 0x1000
#define MODERN_FIRST 0x1040
#define MODERN_LAST 0x107f

static enum check_result identity(struct check_context *check)
{
	struct pci_function *pci = &check_open(check)->pci;
	uint32_t revision = pci_in(pci, PCI_REVISION_ID, 1);
	uint32_t subsystem = pci_in(pci, PCI_SUBSYSTEM_ID, 2);

	CHECK(check, pci->vendor == VIRTIO_VENDOR, "the vendor id is 0x%04x", pci->vendor);
	CHECK(check, pci->device >= TRANSITIONAL_FIRST && pci->device <= MODERN_LAST,
	      "the device id is 0x%04x", pci->device);
	if (pci->device >= MODERN_FIRST) {
		CHECK(check, revision >= 1, "the revision is %u", revision);
		CHECK(check, subsystem >= 0x40, "the subsystem id is 0x%04x", subsystem);
	} else {
		CHECK(check, !revision, "it is transitional, but the revision is %u", revision);
		CHECK(check, subsystem && subsystem < 0x40, "the subsystem id is 0x%04x",
		      subsystem);
	}
	return CHECK_OK;
}
DEVICE_CHECK(identity, "4.1.2.1", "vendor, device and subsystem ids are virtio's", CHECK_ONCE);

static enum check_result structures(struct check_context *check)
{
	struct virtio_driver *driver;
	uint32_t multiplier;

	if (check->params.legacy)
		return check_skip(check, "no modern interface");
	driver = check_open(check);
	multiplier = driver->notify_multiplier;
	CHECK(check, !(driver->common.offset % 4), "the common structure is not aligned");
	CHECK(check, !(driver->notify.offset % 4), "the notification structure is not aligned");
	CHECK(check, !(driver->device.offset % 4), "the device structure is not aligned");
	CHECK(check, driver->common.length >= 56, "the common structure has %u bytes",
	      driver->common.length);
	CHECK(check, driver->notify.length >= 4, "the notification structure has %u bytes",
	      driver->notify.length);
	CHECK(check, !multiplier || (is_power_of_2(multiplier) && !(multiplier % 4)),
	      "notify_off_multiplier is %u", multiplier);
	return CHECK_OK;
}
DEVICE_CHECK(structures, "4.1.4", "structures are there, aligned and large enough", CHECK_ONCE);

static enum check_result vectors(struct check_context *check)
{
	const struct driver_interface *interface;
	struct virtio_driver *driver = check_open(check);

	interface = driver->interface;
	pci_msix_setup(&driver->pci);
	for (uint16_t i = 0; i < check_queues(driver); i++) {
		CHECK(check, interface->queue_vector(driver, i, 0) == 0,
		      "queue %u cannot have vector 0", i);
		CHECK(check,
		      interface->queue_vector(driver, i, VIRTIO_MSI_NO_VECTOR) ==
			      VIRTIO_MSI_NO_VECTOR,
		      "queue %u cannot be without a vector", i);
		CHECK(check, interface->queue_vector(driver, i, 0x7ff) == VIRTIO_MSI_NO_VECTOR,
		      "queue %u has a vector that is not there", i);
	}
	CHECK(check, interface->config_vector(driver, 0) == 0,
	      "configuration changes cannot have vector 0");
	CHECK(check, interface->config_vector(driver, 0x7ff) == VIRTIO_MSI_NO_VECTOR,
	      "configuration changes have a vector that is not there");
	return CHECK_OK;
}
DEVICE_CHECK(vectors, "4.1.5.1.2.1", "events are mapped to vectors and unmapped", CHECK_INTERFACES);
