/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_driver.h: a driver small and fast enough for a fuzzer: starts a device as the input says,
 * writes rings of both formats, and can look at what the device used.
 */
#ifndef TENON_TESTS_FUZZ_DRIVER_H
#define TENON_TESTS_FUZZ_DRIVER_H

#include <linux/virtio_ring.h>

#include "fuzz_machine.h"

#define FUZZ_RING_MAX 256U
#define FUZZ_SEGMENTS_MAX 24U
#define FUZZ_UNKNOWN UINT32_MAX

struct fuzz_segment {
	uint64_t addr;
	uint32_t len;
	bool write;
};

/*
 * struct fuzz_buffer - one that was made available: how much of it the device may write, and how
 * many descriptors of the ring it took. @outstanding: not used yet
 */
struct fuzz_buffer {
	bool outstanding;
	uint16_t first, descs;
	uint64_t in_len;
};

/*
 * struct fuzz_queue
 * @position, @wrap: packed: where the next descriptor goes; split: the index to publish next
 * @used_position, @used_wrap: likewise for what was used
 * @busy: split: descriptors of outstanding buffers; @free: how many are left
 * @buffers: by id, which for split rings is the first descriptor
 */
struct fuzz_queue {
	uint16_t index, size;
	uint64_t desc, driver_area, device_area;
	uint16_t position, used_position;
	bool wrap, used_wrap;
	uint16_t cursor, free, outstanding;
	bool busy[FUZZ_RING_MAX];
	struct fuzz_buffer buffers[FUZZ_RING_MAX];
};

/* struct fuzz_setup - how a device is started; taken from the input by fuzz_setup_read(). */
struct fuzz_setup {
	bool legacy, packed, msix, msi, start, ioeventfd;
	uint64_t without; /* features not accepted */
	uint8_t size_seed;
};

struct fuzz_driver {
	struct fuzz_machine *machine;
	struct fuzz_device *device;
	struct vmctx *ctx;
	struct fuzz_setup setup;
	uint64_t features;
	uint64_t next_buffer;
	struct fuzz_queue queues[FUZZ_QUEUES];
};

/* Six bytes. @packed: the format, for a target of one format only; else NULL. */
void fuzz_setup_read(struct fuzz_setup *setup, struct fuzz_input *input, const bool *packed);

/* Decode everything, negotiate, set up all queues, and start unless the setup says otherwise. */
void fuzz_driver_start(struct fuzz_driver *driver, struct fuzz_machine *machine,
		       struct fuzz_device *device, const struct fuzz_setup *setup);

/* After a reset of the device: the same again. */
void fuzz_driver_restart(struct fuzz_driver *driver);

/* Write the registers of queue @index, with @size_seed for its size, and enable it. */
void fuzz_queue_setup(struct fuzz_driver *driver, unsigned int index, uint8_t size_seed);

/* Registers of the interface that is driven, by their place in its BAR. */
uint64_t fuzz_register_in(struct fuzz_driver *driver, uint64_t offset, unsigned int size);
void fuzz_register_out(struct fuzz_driver *driver, uint64_t offset, unsigned int size,
		       uint64_t value);
void fuzz_set_status(struct fuzz_driver *driver, uint8_t status);
void fuzz_kick(struct fuzz_driver *driver, const struct fuzz_queue *queue);

/* Guest memory; NULL if any of it is not in one region. */
static inline void *fuzz_ram(struct fuzz_driver *driver, uint64_t gpa, uint64_t len)
{
	return guest_memory_host(&driver->ctx->memory, gpa, len);
}

/* Copy as much as there is RAM, over the border of regions too. */
void fuzz_ram_write(struct fuzz_driver *driver, uint64_t gpa, const void *from, size_t len);

/*
 * fuzz_alloc() - a piece of guest memory for a buffer; they follow each other, and start again at
 * the end. fuzz_room(): is there a buffer of @len bytes, and its table, that no outstanding one has?
 */
uint64_t fuzz_alloc(struct fuzz_driver *driver, uint64_t len);
bool fuzz_room(struct fuzz_driver *driver, uint64_t len);

/*
 * Make a buffer available, in a table of its own if @indirect; false if the ring has no room.
 * fuzz_queue_collect() dies if the device used what it does not have, or wrote too much to it.
 */
bool fuzz_queue_add(struct fuzz_driver *driver, struct fuzz_queue *queue,
		    const struct fuzz_segment *segments, unsigned int count, bool indirect);
void fuzz_queue_collect(struct fuzz_driver *driver, struct fuzz_queue *queue);

#endif
