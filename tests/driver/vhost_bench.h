/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_bench.h: a device that only the kernel can run, on a model of its kernel (vhost_model.h).
 */
#ifndef TENON_TESTS_VHOST_BENCH_H
#define TENON_TESTS_VHOST_BENCH_H

#include <stdio.h>
#include <stdlib.h>

#include "../../devicemodel/hw/pci/virtio/virtio_pci.h"
#include "state_lab.h"
#include "vhost_model.h"

static const struct driver_params usual = { .indirect = true, .event_idx = true, .msix = true };

struct bench {
	struct machine *machine;
	struct vhost_model *model;
	struct pci_vdev *dev;
	struct virtio_driver *driver;
};

static inline const struct device_kind *kind_with_id(uint16_t virtio_id)
{
	const struct device_kind *kind;

	for (unsigned int i = 0; (kind = device_kind_at(i)); i++)
		if (kind->virtio_id == virtio_id)
			return kind;
	fail_msg("no device of type %u is registered", virtio_id);
	return NULL;
}

static inline void bench_end(struct bench *bench)
{
	machine_destroy(bench->machine);
	vhost_model_release(bench->model);
}

static inline void bench_close(struct bench *bench)
{
	driver_close(bench->driver);
	bench_end(bench);
}

static inline struct virtio_common *device_of(const struct bench *bench)
{
	return ((struct virtio_pci *)bench->dev->arg)->vc;
}

/*
 * Queue @index's used ring holds something else from now on, and the queue gets a new one when it is
 * set up: what the kernel must not touch any more, BENCH_USED bytes.
 */
#define BENCH_USED 6

static inline const uint8_t *bench_used_given_up(struct bench *bench, uint16_t index)
{
	struct ring *ring = &driver_queue(bench->driver, index)->ring;
	uint8_t *used = guest_ptr(bench->machine, ring->device_gpa, BENCH_USED);

	memset(used, DRIVER_POISON, BENCH_USED);
	ring->desc_gpa = 0;
	return used;
}

/* The next driver begins, before its queues; the last one's @count used rings are @used. */
static inline void bench_next_driver(struct bench *bench, const uint8_t **used, uint16_t count)
{
	driver_set_status(bench->driver, 0);
	for (uint16_t i = 0; i < count; i++)
		used[i] = bench_used_given_up(bench, i);
	driver_set_status(bench->driver, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	assert_true(driver_negotiate(bench->driver, bench->driver->offered));
}

static inline void assert_used_untouched(const uint8_t *used)
{
	for (unsigned int i = 0; i < BENCH_USED; i++)
		assert_int_equal(used[i], DRIVER_POISON);
}

/* "@device,@options" with @fd (0: the model's) must be refused with one line that has @line in it. */
static inline void expect_refused(struct vhost_model *model, const char *device,
				  const char *options, int fd, const char *line)
{
	struct machine *machine = machine_create(NULL);
	char spec[128];

	snprintf(spec, sizeof(spec), "4,%s,%s,vhostfd=%d", device, options, fd ? fd : model->fd);
	assert_null(pci_add_device(machine->ctx, spec));
	assert_logged(machine, line);
	assert_int_equal(machine->captured.count, 1);
	machine_destroy(machine);
	vhost_model_release(model);
}

#endif
