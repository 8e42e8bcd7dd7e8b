/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Checks: device configuration space (virtio 1.4, 2.5).
 */
#include "check_context.h"

#define CONFIG_MAX 512 /* bytes that are compared one by one */

static enum check_result config_reads(struct check_context *check)
{
	struct virtio_driver *driver = check_open(check);
	uint32_t length = check->params.legacy ? 0 : MIN(driver->device.length, CONFIG_MAX);
	uint8_t bytes[CONFIG_MAX];

	for (uint32_t i = 0; i < length; i++)
		bytes[i] = (uint8_t)driver_config(driver, i, 1);
	for (unsigned int size = 2; size <= 4; size *= 2)
		for (uint32_t i = 0; i + size <= length; i++)
			CHECK(check, driver_config(driver, i, size) == bytes_get(bytes + i, size),
			      "%u bytes at %u are not what they are one by one", size, i);
	CHECK(check, !(driver_status(driver) & VIRTIO_CONFIG_S_NEEDS_RESET),
	      "reading it made the device need a reset");
	return CHECK_OK;
}
DEVICE_CHECK(config_reads, "2.5.2-1",
	     "configuration space is readable before FEATURES_OK, in any width", CHECK_ONCE);

/* What a hostile guest tries: any width anywhere, also across and far behind the end. */
static enum check_result config_anywhere(struct check_context *check)
{
	static const uint32_t values[] = { 0, 1, 0x7fffffff, UINT32_MAX };
	struct virtio_driver *driver = check_start(check);
	uint32_t end = check->params.legacy ? 64 : driver->device.length + 8;

	for (unsigned int i = 0; i < ARRAY_SIZE(values); i++)
		for (unsigned int size = 1; size <= 4; size *= 2)
			for (uint32_t at = 0; at < MIN(end, 4096); at++) {
				driver_set_config(driver, at, size, values[i]);
				driver_config(driver, at, size);
			}
	check_start(check);
	CHECK(check, !check_needs_reset(check->driver), "the device does not come back");
	CHECK(check, check_other_works(check), "another device does not work any more");
	return CHECK_OK;
}
DEVICE_CHECK(config_anywhere, "class 3",
	     "accesses of any width, anywhere in and behind configuration space", CHECK_INTERFACES);
