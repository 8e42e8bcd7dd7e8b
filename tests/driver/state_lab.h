/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * state_lab.h: what tests and the fuzz target do with saved states of devices: take and load them,
 * change their values, and see whether a device that took one lives through an evil driver.
 */
#ifndef TENON_TESTS_STATE_LAB_H
#define TENON_TESTS_STATE_LAB_H

#include <errno.h>
#include <linux/virtio_console.h>
#include <linux/virtio_net.h>
#include <stdlib.h>

#include "../../devicemodel/hw/pci/virtio/virtio_pci.h"
#include "device_kinds.h"
#include "state.h"

#define LAB_MEMORY MIB(4)
#define LAB_OPTIONS "queue_size=8"

/* struct lab_value - a value of a state: where it is, and what the table says of it. */
struct lab_value {
	char section[STATE_NAME_SIZE];
	char field[128];
	const struct state_field *desc;
	size_t offset;
	uint32_t size;
};

struct lab_state {
	uint8_t *bytes;
	size_t len;
	struct lab_value *values;
	unsigned int count, room;
};

static inline void lab_state_visit(void *arg, const struct state_value *value)
{
	struct lab_state *state = arg;
	struct lab_value *kept;

	if (state->count == state->room) {
		state->room = state->room ? 2 * state->room : 1024;
		state->values = realloc(state->values, state->room * sizeof(*state->values));
		assert_non_null(state->values);
	}
	kept = &state->values[state->count++];
	*kept = (struct lab_value) { .desc = value->desc,
				     .offset = value->offset,
				     .size = value->size };
	snprintf(kept->section, sizeof(kept->section), "%s", value->section);
	snprintf(kept->field, sizeof(kept->field), "%s", value->field);
}

/* lab_take(), with @values if @traced. */
static inline struct lab_state *lab_take_as(struct machine *machine, struct pci_vdev *dev,
					    bool traced)
{
	struct state_writer *writer = state_writer_create(machine->ctx->log);
	struct lab_state *state = calloc(1, sizeof(*state));
	const uint8_t *bytes;
	int error;

	assert_non_null(writer);
	assert_non_null(state);
	if (traced)
		state_writer_trace(writer, lab_state_visit, state);
	error = dev ? pci_save_device(dev, writer) : pci_save_devices(machine->ctx, writer);
	if (error) {
		machine_log_print(machine);
		fail_msg("cannot save: %s", strerror(-error));
	}
	bytes = state_finish(writer, &state->len);
	state->bytes = malloc(state->len);
	assert_non_null(state->bytes);
	memcpy(state->bytes, bytes, state->len);
	state_writer_destroy(writer);
	return state;
}

/* The state of @dev, which is quiesced, or of all of the machine's functions if it is NULL. */
static inline struct lab_state *lab_take(struct machine *machine, struct pci_vdev *dev)
{
	return lab_take_as(machine, dev, false);
}

static inline void lab_state_free(struct lab_state *state)
{
	free(state->bytes);
	free(state->values);
	free(state);
}

/* Load it into @dev, or all functions. 0 or -errno. */
static inline int lab_load(struct machine *machine, struct pci_vdev *dev, const uint8_t *bytes,
			   size_t len)
{
	struct state_reader *reader = state_reader_open(machine->ctx->log, bytes, len);
	int error;

	if (!reader)
		return -errno;
	error = dev ? pci_load_device(dev, reader) : pci_load_devices(machine->ctx, reader);
	if (!error)
		error = state_commit(reader);
	state_reader_close(reader);
	return error;
}

/* Is the state of @dev the @len @bytes? The first difference is printed. */
static inline bool lab_same(struct machine *machine, struct pci_vdev *dev, const uint8_t *bytes,
			    size_t len)
{
	struct lab_state *now = lab_take(machine, dev);
	bool same = now->len == len && !memcmp(now->bytes, bytes, len);

	lab_state_free(now);
	if (same)
		return true;
	now = lab_take_as(machine, dev, true);
	for (unsigned int i = 0; i < now->count; i++) {
		const struct lab_value *value = &now->values[i];

		if (value->offset + value->size > len ||
		    !memcmp(now->bytes + value->offset, bytes + value->offset, value->size))
			continue;
		print_message(
			"%s: %s: 0x%llx now, 0x%llx before\n", value->section, value->field,
			(unsigned long long)bytes_get(now->bytes + value->offset, value->size),
			(unsigned long long)bytes_get(bytes + value->offset, value->size));
		break;
	}
	lab_state_free(now);
	return false;
}

/* ---- Moving ---- */

/* The driver's memory is the guest's, and that has been copied; its pointers lead to the new one. */
static inline void lab_driver_move(struct virtio_driver *driver, struct machine *machine)
{
	driver->machine = machine;
	driver->pci.machine = machine;
	for (unsigned int i = 0; i < driver->queue_count; i++) {
		struct ring *ring = &driver->queues[i].ring;
		uint64_t desc, avail, used;

		if (!ring->ops)
			continue;
		ring->machine = machine;
		ring->ops->sizes(ring->size, &desc, &avail, &used);
		ring->desc = guest_ptr(machine, ring->desc_gpa, desc);
		ring->packed = (void *)ring->desc;
		ring->avail = guest_ptr(machine, ring->driver_gpa, avail);
		ring->driver_event = (void *)ring->avail;
		ring->used = guest_ptr(machine, ring->device_gpa, used);
		ring->device_event = (void *)ring->used;
	}
}

/* ---- An evil driver ---- */

static inline uint32_t lab_random(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

/* Lay noise over the page that @gpa is in, so that rings and what they lead to are nonsense. */
static inline void lab_noise(struct machine *machine, uint64_t gpa, uint32_t *seed)
{
	uint32_t *page = paddr_guest2host(machine->ctx, gpa & ~UINT64_C(4095), 4096);

	for (unsigned int i = 0; page && i < 1024; i++)
		page[i] = lab_random(seed) & (i & 1 ? 0x7ffff : UINT32_MAX);
}

/* Accesses to the BARs wherever they are, kicks among them. */
static inline void lab_poke(struct machine *machine, struct pci_vdev *dev, uint32_t *seed)
{
	for (unsigned int i = 0; i < PCI_BARS; i++) {
		const struct pci_bar *bar = &dev->bar[i];
		enum io_type type = bar->type == PCIBAR_IO ? IO_PIO : IO_MMIO;

		for (unsigned int n = 0; n < 24 && bar->mapped; n++) {
			uint32_t random = lab_random(seed);
			uint64_t offset = random % MIN(bar->size, 0x48U);
			unsigned int size = 1U << (random >> 16 & 3);

			if (random & BIT32(20) && bar->size > VIRTIO_NOTIFY_OFFSET)
				offset = VIRTIO_NOTIFY_OFFSET + (random & 0x1c);
			if (random & BIT32(21))
				guest_read(machine->ctx, type, bar->range.base + offset, size);
			else if (offset != 0x12 && offset != 0x14) /* the status: no early reset */
				guest_write(machine->ctx, type, bar->range.base + offset, size,
					    random >> 22 & 0xff);
		}
	}
}

/* @dev, with whatever was loaded into it, goes on under an evil driver. It is not quiesced. */
static inline void lab_abuse(struct machine *machine, struct pci_vdev *dev, uint32_t seed)
{
	struct virtio_common *vc = ((struct virtio_pci *)dev->arg)->vc;

	seed |= 1;
	for (unsigned int round = 0; round < 3; round++) {
		for (unsigned int i = 0; round && i < vc->nvq; i++) {
			lab_noise(machine, vc->vqs[i].desc_addr, &seed);
			lab_noise(machine, vc->vqs[i].driver_addr, &seed);
		}
		lab_poke(machine, dev, &seed);
		machine_poll(machine);
	}
}

/* ---- The fuzz target ---- */

#define LAB_FUZZ_KINDS 8

/* A small machine with a small device of @kind, or NULL. */
static inline struct kind_bench *lab_bench(const struct device_kind *kind)
{
	struct machine_config config = { .memory_size = LAB_MEMORY };
	bool console = kind->virtio_id == VIRTIO_ID_CONSOLE;
	char options[100];

	snprintf(options, sizeof(options), LAB_OPTIONS "%s",
		 console ? ",port=a:null,port=b:null" : "");
	return kind_bench_create(kind, &config, options);
}

static inline void lab_message(struct virtio_driver *driver, uint32_t id, uint16_t event)
{
	struct virtio_console_control message = { .id = id, .event = event, .value = 1 };

	driver_request(driver_queue(driver, 3), &driver_layouts[0], &message, sizeof(message), NULL,
		       0);
}

static inline void lab_command(struct virtio_driver *driver, uint8_t class, uint8_t command,
			       const void *data, uint32_t len)
{
	uint8_t out[64] = { class, command }, ack;

	memcpy(out + 2, data, len);
	driver_request(driver_queue(driver, 2), &driver_layouts[0], out, len + 2, &ack, 1);
	assert_int_equal(ack, VIRTIO_NET_OK);
}

/* What a driver can leave in a device beyond the rings: commands and messages. */
static inline void lab_fill(const struct device_kind *kind, struct virtio_driver *driver)
{
	static const uint8_t table[] = {
		2, 0, 0, 0, 2, 1, 2, 3, 4, 5, 2, 1, 2, 3, 4, 6, 0, 0, 0, 0
	};
	static const uint16_t vlan = 77;
	static const uint8_t on = 1;
	struct kind_buffer buffer;

	if (kind->virtio_id == VIRTIO_ID_NET) {
		lab_command(driver, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, table,
			    sizeof(table));
		lab_command(driver, VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, &vlan,
			    sizeof(vlan));
		lab_command(driver, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, &on, 1);
		buffer = (struct kind_buffer) { .in_count = 1 };
		buffer.segments[0] =
			(struct segment) { guest_alloc(driver->machine, 2048, 16), 2048 };
		assert_int_equal(
			driver_add_buf(driver_queue(driver, 0), buffer.segments, 0, 1, driver), 0);
		driver_kick(driver_queue(driver, 0));
	}
	if (kind->virtio_id == VIRTIO_ID_CONSOLE) {
		lab_message(driver, 0, VIRTIO_CONSOLE_DEVICE_READY);
		buffer = (struct kind_buffer) { .in_count = 1 };
		buffer.segments[0] = (struct segment) { guest_alloc(driver->machine, 256, 16), 80 };
		for (unsigned int i = 0; i < 3; i++) {
			assert_int_equal(driver_add_buf(driver_queue(driver, 2), buffer.segments, 0,
							1, driver),
					 0);
			driver_kick(driver_queue(driver, 2));
		}
		lab_message(driver, 0, VIRTIO_CONSOLE_PORT_READY); /* what follows stays pending */
		lab_message(driver, 1, VIRTIO_CONSOLE_PORT_READY);
		lab_message(driver, 1, VIRTIO_CONSOLE_PORT_OPEN);
	}
}

/*
 * A good state of the function at KIND_SLOT, as state_fuzz_one() reads it behind the byte @first: a
 * seed for the fuzzer, freed by the caller; NULL if that kind cannot be made here. False behind the
 * last @index.
 */
static inline bool state_fuzz_seed(unsigned int index, uint8_t *first, struct lab_state **result)
{
	const struct device_kind *kind = device_kind_at(index / 2);
	struct driver_params params = { .event_idx = true, .msix = true };
	struct virtio_driver *driver;
	struct kind_bench *bench;

	*first = (uint8_t)(index / 2);
	*result = NULL;
	if (!kind)
		return false;
	bench = lab_bench(kind);
	if (!bench)
		return true;
	params.packed = index & 1 && !kind->offloaded;
	driver = driver_run(bench->machine, KIND_SLOT, &params, 0);
	lab_fill(kind, driver);
	kind_request(kind, driver);
	driver_close(driver);
	pci_quiesce_devices(bench->machine->ctx);
	*result = lab_take(bench->machine, bench->dev);
	kind_bench_destroy(bench);
	return true;
}

/* The benches of state_fuzz_one(), by kind; a second call with @end frees them. */
static inline struct kind_bench *lab_fuzz_bench(unsigned int index, bool end)
{
	static struct kind_bench *benches[LAB_FUZZ_KINDS];
	static unsigned int count;
	const struct device_kind *kind;

	for (; end && count; count--)
		kind_bench_destroy(benches[count - 1]);
	while (!end && count < LAB_FUZZ_KINDS && (kind = device_kind_at(count))) {
		benches[count] = lab_bench(kind);
		if (!benches[count++])
			print_message("no states of %s are tried\n", kind->name);
	}
	return count ? benches[index % count] : NULL;
}

static inline void state_fuzz_end(void)
{
	lab_fuzz_bench(0, true);
}

/*
 * One input: the kind of device, then a state of the function at KIND_SLOT, whose length and
 * checksum are put right before it is loaded. Was it loaded?
 */
static inline bool state_fuzz_one(const uint8_t *data, size_t len)
{
	struct kind_bench *bench = len ? lab_fuzz_bench(data[0], false) : NULL;
	struct vmctx *ctx;
	uint8_t *state;
	bool loaded;

	if (!bench)
		return false;
	ctx = bench->machine->ctx;
	state = malloc(len);
	assert_non_null(state);
	memcpy(state, data + 1, len - 1);
	state_seal(state, len - 1);
	pci_quiesce_devices(ctx);
	loaded = !lab_load(bench->machine, bench->dev, state, len - 1);
	pci_resume_devices(ctx);
	if (loaded) {
		lab_abuse(bench->machine, bench->dev, (uint32_t)len);
		pci_reset_devices(ctx);
	}
	machine_log_clear(bench->machine);
	free(state);
	return loaded;
}

#endif
