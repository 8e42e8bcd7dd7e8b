/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Checks: features, status and reset (virtio 1.4, 2.1, 2.2, 2.4).
 */
#include "check_context.h"

#include <stdlib.h>

#define CONFIG_MAX 4096
#define RESERVED_FEATURES (BIT64(30) | BIT64(42) | UINT64_C(0x3f) << 44)

static enum check_result offered(struct check_context *check)
{
	struct virtio_driver *driver = check_open(check);
	uint64_t features = driver->offered;

	CHECK(check, !(features & RESERVED_FEATURES), "it offers reserved features: 0x%llx",
	      (unsigned long long)(features & RESERVED_FEATURES));
	if (check->params.legacy)
		return CHECK_OK;
	CHECK(check, features & BIT64(VIRTIO_F_VERSION_1), "it does not offer VERSION_1");
	CHECK(check, driver->interface->get_features(driver) == features,
	      "it offers 0x%llx first and 0x%llx then", (unsigned long long)features,
	      (unsigned long long)driver->interface->get_features(driver));
	return CHECK_OK;
}
DEVICE_CHECK(offered, "6.2-1", "VERSION_1 is offered, and nothing that is reserved",
	     CHECK_INTERFACES);

/* FEATURES_OK after the driver accepted exactly @features. */
static bool features_ok(struct virtio_driver *driver, uint64_t features)
{
	driver->interface->set_features(driver, features);
	driver_set_status(driver, VIRTIO_CONFIG_S_FEATURES_OK);
	return driver_status(driver) & VIRTIO_CONFIG_S_FEATURES_OK;
}

static enum check_result features_refused(struct check_context *check)
{
	struct virtio_driver *driver;

	if (check->params.legacy)
		return check_skip(check, "legacy drivers have no FEATURES_OK");
	for (unsigned int bit = 0; bit < 64; bit++) {
		driver = check_open(check);
		if (driver->offered & BIT64(bit))
			continue;
		CHECK(check, !features_ok(driver, BIT64(VIRTIO_F_VERSION_1) | BIT64(bit)),
		      "feature %u is accepted although it was not offered", bit);
	}
	driver = check_open(check);
	CHECK(check, !features_ok(driver, 0), "a driver without VERSION_1 is accepted");
	return CHECK_OK;
}
DEVICE_CHECK(features_refused, "2.2.2-2", "FEATURES_OK stays clear after features never offered",
	     CHECK_ONCE);

static enum check_result features_accepted(struct check_context *check)
{
	struct virtio_driver *driver;

	if (check->params.legacy)
		return check_skip(check, "legacy drivers have no FEATURES_OK");
	driver = check_open(check);
	CHECK(check, features_ok(driver, BIT64(VIRTIO_F_VERSION_1)),
	      "VERSION_1 alone is not accepted");
	for (int i = 0; i < 3; i++) {
		driver = check_open(check);
		CHECK(check, features_ok(driver, driver->offered),
		      "all features that it offers are not accepted%s", i ? " again" : "");
	}
	return CHECK_OK;
}
DEVICE_CHECK(features_accepted, "2.2.2-4", "offered features are accepted, after a reset again",
	     CHECK_INTERFACES);

/* Bring the driver to step @step of its initialisation (virtio 1.4, 3.1.1). */
static struct virtio_driver *driver_at_step(struct check_context *check, unsigned int step)
{
	switch (step) {
	case 0:
		return check_open(check);
	case 1:
		return check_negotiate(check);
	default:
		return check_start(check);
	}
}

static enum check_result reset_any_time(struct check_context *check)
{
	for (unsigned int step = 0; step < 3; step++) {
		struct virtio_driver *driver = driver_at_step(check, step);

		for (int again = 0; again < 2; again++) {
			driver_set_status(driver, 0);
			CHECK(check, driver_status(driver) == 0,
			      "the status is 0x%02x after a reset", driver_status(driver));
		}
	}
	return CHECK_OK;
}
DEVICE_CHECK(reset_any_time, "2.4.1-1", "a reset at any time makes the status 0", CHECK_INTERFACES);

static uint32_t config_length(const struct virtio_driver *driver)
{
	return driver->params.legacy ? 0 : MIN(driver->device.length, CONFIG_MAX);
}

static void read_config(struct virtio_driver *driver, uint8_t *config)
{
	for (uint32_t i = 0; i < config_length(driver); i++)
		config[i] = (uint8_t)driver_config(driver, i, 1);
}

static void scribble_config(struct virtio_driver *driver)
{
	for (uint32_t i = 0; i < config_length(driver); i++)
		driver_set_config(driver, i, 1, 0xff);
}

static enum check_result queues_as_new(struct check_context *check, struct virtio_driver *driver,
				       const uint16_t *sizes)
{
	for (uint16_t i = 0; i < check_queues(driver); i++) {
		uint16_t size = driver->interface->queue_size(driver, i); /* selects it */

		CHECK(check, size == sizes[i], "queue %u has %u entries after a reset, not %u", i,
		      size, sizes[i]);
		CHECK(check, !driver_common_in(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2),
		      "queue %u is enabled after a reset", i);
		CHECK(check,
		      driver_common_in(driver, VIRTIO_PCI_COMMON_Q_MSIX, 2) == VIRTIO_MSI_NO_VECTOR,
		      "queue %u has a vector after a reset", i);
	}
	return CHECK_OK;
}

static enum check_result reset_as_new(struct check_context *check)
{
	uint8_t before[CONFIG_MAX], after[CONFIG_MAX];
	uint16_t sizes[CHECK_QUEUES_MAX];
	struct virtio_driver *driver;
	enum check_result result;
	uint64_t features;

	if (check->params.legacy)
		return check_skip(check, "no modern interface");
	driver = check_open(check);
	features = driver->offered;
	read_config(driver, before);
	for (uint16_t i = 0; i < check_queues(driver); i++)
		sizes[i] = driver->interface->queue_size(driver, i);
	driver = check_start(check);
	scribble_config(driver);
	driver_set_status(driver, 0);
	result = queues_as_new(check, driver, sizes);
	if (result != CHECK_OK)
		return result;
	CHECK(check, driver->interface->get_features(driver) == features,
	      "it offers other features after a reset");
	CHECK(check, driver_common_in(driver, VIRTIO_PCI_COMMON_MSIX, 2) == VIRTIO_MSI_NO_VECTOR,
	      "configuration changes have a vector after a reset");
	read_config(driver, after);
	for (uint32_t i = 0; i < config_length(driver); i++)
		CHECK(check, after[i] == before[i],
		      "byte %u of the configuration space is 0x%02x after a reset, not 0x%02x", i,
		      after[i], before[i]);
	return CHECK_OK;
}
DEVICE_CHECK(reset_as_new, "2.4.1", "after a reset the device cannot be told from a new one",
	     CHECK_ONCE);

static enum check_result reset_is_silent(struct check_context *check)
{
	struct virtio_driver *driver = check_start(check);
	unsigned int queues = check_queues(driver);
	struct check_buffer buffers[CHECK_QUEUES_MAX];

	for (unsigned int i = 0; i < queues; i++) {
		CHECK(check, check_buffer(check, 4, &buffers[i]), "no such shape");
		check_add(driver_queue(driver, i), &buffers[i]);
	}
	driver_set_status(driver, 0);
	for (unsigned int i = 0; i < queues; i++)
		driver->interface->notify(driver, driver_queue(driver, i));
	machine_poll(check->machine);
	for (unsigned int i = 0; i < queues; i++) {
		CHECK(check, !driver_get_buf(driver_queue(driver, i), NULL),
		      "a buffer of queue %u was used after the reset", i);
		CHECK(check, !check_buffer_touched(check->machine, &buffers[i]),
		      "a buffer of queue %u was written to after the reset", i);
	}
	return CHECK_OK;
}
DEVICE_CHECK(reset_is_silent, "2.4.1-2", "no queue is touched after a reset", CHECK_ALL);
