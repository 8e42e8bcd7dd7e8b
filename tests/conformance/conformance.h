/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conformance.h: what the tests of the specification's clauses share. They run over every kind of
 * device in device_kinds.h; which clause a test shows is in clauses.txt.
 */
#ifndef TENON_TESTS_CONFORMANCE_H
#define TENON_TESTS_CONFORMANCE_H

#include <stdlib.h>

#include "../../devicemodel/hw/pci/virtio/virtio_pci.h"
#include "device_kinds.h"

#define COMMON_QUEUE_RESET 0x3a /* virtio 1.4, 4.1.4.3 */
#define CONFIG_BYTES_MAX 256

/* struct clause_test - @name is what clauses.txt calls it; @fits: NULL, or which combinations it is for. */
struct clause_test {
	const char *name;
	CMUnitTestFunction run;
	enum kind_axes axes;
	bool (*fits)(const struct driver_params *params);
};

static inline bool for_modern(const struct driver_params *params)
{
	return !params->legacy;
}

static inline bool for_split(const struct driver_params *params)
{
	return !params->packed;
}

static inline bool for_packed(const struct driver_params *params)
{
	return params->packed;
}

/* The tests, for the kind called @kind only if it is not NULL. */
static inline int clause_tests_run(const struct clause_test *list, unsigned int count,
				   const char *group, const char *kind)
{
	struct kind_tests tests = { .count = 0 };
	unsigned int kept = 0, done = 0;

	for (unsigned int i = 0; i < count; i++) {
		kind_tests_add(&tests, list[i].name, list[i].run, list[i].axes);
		for (; done < tests.count; done++) {
			struct kind_case *test = tests.tests[done].initial_state;

			if ((!kind || !strcmp(test->kind->name, kind)) &&
			    (!list[i].fits || list[i].fits(&test->params))) {
				tests.tests[kept++] = tests.tests[done];
				continue;
			}
			free(test);
			free((void *)(uintptr_t)tests.tests[done].name);
		}
		tests.count = done = kept;
	}
	return kind_tests_run(&tests, group);
}

/* kind_case_run() with reserved features @extra accepted, which @options have the device offer. */
static inline struct kind_case *clause_run(void **state, const char *options, uint64_t extra)
{
	struct kind_case *test = *state;

	test->params.extra = extra;
	kind_case_open(state, NULL, options);
	assert_true(driver_negotiate(test->driver,
				     test->driver->offered & ~BIT64(VIRTIO_F_NOTIFY_ON_EMPTY)));
	assert_int_equal(test->driver->accepted & extra,
			 test->params.legacy ? 0 : (long long)extra);
	driver_start(test->driver);
	return test;
}

/* The device itself, for what no driver can bring about. */
static inline struct virtio_common *clause_device(const struct kind_case *test)
{
	return ((struct virtio_pci *)test->kind_bench->dev->arg)->vc;
}

/* What driver_start() does about vectors, for tests that go step by step. */
static inline void clause_vectors(struct virtio_driver *driver)
{
	if (!driver->params.msix)
		return;
	pci_msix_setup(&driver->pci);
	driver->interface->config_vector(driver, DRIVER_CONFIG_VECTOR);
	for (uint16_t i = 0; i < driver->queue_count; i++)
		driver->interface->queue_vector(driver, i, (uint16_t)(i + 1));
}

static inline void clause_queues(struct virtio_driver *driver)
{
	for (uint16_t i = 0; i < driver->queue_count; i++)
		driver_queue_setup(driver, i, 0);
}

/* Make the simple request available, without a kick. False: the ring is full. */
static inline bool clause_add(struct kind_case *test, struct kind_buffer *buffer, void *token)
{
	*buffer = kind_buffer(test->kind, test->driver);
	return !driver_add_buf(test->queue, buffer->segments, buffer->out_count, buffer->in_count,
			       token);
}

/* Any interrupt of the device's since the last question? Asks for all of them. */
static inline bool clause_interrupted(struct virtio_driver *driver)
{
	bool any = driver_config_interrupt(driver);

	for (uint16_t i = 0; i < driver->queue_count; i++)
		if (driver->queues[i].driver) /* it was set up once */
			any |= driver_queue_interrupt(&driver->queues[i]);
	return any;
}

static inline uint32_t clause_config_len(const struct kind_case *test)
{
	return MIN(clause_device(test)->ops->cfgsize, CONFIG_BYTES_MAX);
}

/* The device's configuration space as its driver sees it, byte by byte. */
static inline void clause_config(struct kind_case *test, uint8_t *bytes)
{
	memset(bytes, 0, CONFIG_BYTES_MAX);
	for (uint32_t i = 0; i < clause_config_len(test); i++)
		bytes[i] = (uint8_t)driver_config(test->driver, i, 1);
}

static inline bool clause_broken(struct virtio_driver *driver)
{
	return driver_status(driver) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

/* The device, broken or not, is reset, and serves again. */
static inline void clause_comes_back(struct kind_case *test)
{
	driver_restart(test->driver);
	kind_request(test->kind, test->driver);
	assert_false(clause_broken(test->driver));
}

#endif
