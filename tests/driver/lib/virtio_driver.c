/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A virtio driver: initialisation (virtio 1.4, 3.1), buffers, interrupts.
 */
#include "virtio_driver.h"

#include <stdio.h>
#include <stdlib.h>

#define RING_ALIGN 4096

/* ---- The ways to drive ---- */

struct driver_params driver_params_at(unsigned int index)
{
	bool packed = index >= 32; /* the last third: packed rings have no legacy interface */

	if (packed)
		index = (index - 32) << 1;
	return (struct driver_params) {
		.packed = packed,
		.legacy = index & 1,
		.indirect = index & 2,
		.event_idx = index & 4,
		.msix = index & 8,
		.ioeventfd = index & 16,
	};
}

const char *driver_params_name(const struct driver_params *params, char *text, size_t size)
{
	const char *interface = params->vhost_user ? "vhost-user"
				: params->legacy   ? "legacy"
						   : "modern";
	const char *interrupts = params->vhost_user ? "" : params->msix ? ",msix" : ",intx";

	snprintf(text, size, "%s%s%s%s%s%s", interface, params->packed ? ",packed" : "",
		 params->indirect ? ",indirect" : "", params->event_idx ? ",event_idx" : "",
		 interrupts, params->ioeventfd ? ",ioeventfd" : "");
	return text;
}

/* ---- Initialisation ---- */

uint8_t driver_status(struct virtio_driver *driver)
{
	return driver->interface->get_status(driver);
}

/* Add to the bits that are set; 0 resets. */
void driver_set_status(struct virtio_driver *driver, uint8_t status)
{
	if (status)
		status |= driver_status(driver);
	driver->interface->set_status(driver, status);
}

uint64_t driver_config(struct virtio_driver *driver, uint32_t offset, unsigned int size)
{
	return driver->interface->config_in(driver, offset, size);
}

void driver_set_config(struct virtio_driver *driver, uint32_t offset, unsigned int size,
		       uint32_t value)
{
	driver->interface->config_out(driver, offset, size, value);
}

static void driver_count_queues(struct virtio_driver *driver)
{
	driver->queue_count = 0;
	while (driver->queue_count < DRIVER_QUEUES_MAX &&
	       driver->interface->queue_size(driver, (uint16_t)driver->queue_count))
		driver->queue_count++;
	if (!driver->params.legacy && !driver->transport)
		assert_int_equal(driver_common_in(driver, VIRTIO_PCI_COMMON_NUMQ, 2),
				 driver->queue_count);
}

static void driver_begin(struct virtio_driver *driver)
{
	driver_set_status(driver, 0);
	assert_int_equal(driver_status(driver), 0);
	driver_set_status(driver, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	driver_set_status(driver, VIRTIO_CONFIG_S_DRIVER);
	driver->offered = driver->interface->get_features(driver);
}

static struct virtio_driver *driver_new(struct machine *machine, const struct driver_params *params)
{
	struct virtio_driver *driver = calloc(1, sizeof(*driver));

	assert_non_null(driver);
	driver->machine = machine;
	driver->params = *params;
	return driver;
}

struct virtio_driver *driver_open_on(struct machine *machine, const struct driver_params *params,
				     const struct driver_interface *interface, void *transport)
{
	struct virtio_driver *driver = driver_new(machine, params);

	driver->params.legacy = false;
	driver->interface = interface;
	driver->transport = transport;
	driver_begin(driver);
	driver_count_queues(driver);
	return driver;
}

struct virtio_driver *driver_open(struct machine *machine, unsigned int slot,
				  const struct driver_params *params)
{
	struct virtio_driver *driver = driver_new(machine, params);

	driver->interface = params->legacy ? &driver_legacy : &driver_modern;
	assert_true(
		pci_function_open(&driver->pci, machine, slot & 1 ? PCI_ECAM : PCI_CF8, slot, 0));
	assert_int_equal(driver->pci.vendor, 0x1af4);
	pci_function_enable(&driver->pci);
	if (params->legacy)
		assert_int_equal(driver->pci.bar[0].type, PCIBAR_IO);
	else
		assert_true(driver_find_modern(driver));
	driver_begin(driver);
	driver_count_queues(driver);
	return driver;
}

void driver_close(struct virtio_driver *driver)
{
	if (!driver)
		return;
	for (unsigned int i = 0; i < DRIVER_QUEUES_MAX; i++)
		free(driver->queues[i].ring.slots);
	free(driver);
}

bool driver_negotiate(struct virtio_driver *driver, uint64_t features)
{
	if (!driver->params.indirect)
		features &= ~BIT64(VIRTIO_RING_F_INDIRECT_DESC);
	if (!driver->params.event_idx)
		features &= ~BIT64(VIRTIO_RING_F_EVENT_IDX);
	features &= ~DRIVER_FEATURES_ASKED | driver->params.extra;
	if (!driver->params.packed)
		features &= ~BIT64(VIRTIO_F_RING_PACKED);
	driver->accepted = features & driver->offered;
	if (driver->params.legacy)
		driver->accepted &= UINT32_MAX;
	else
		driver->accepted |= BIT64(VIRTIO_F_VERSION_1);
	driver->interface->set_features(driver, driver->accepted);
	if (driver->params.legacy)
		return true;
	driver_set_status(driver, VIRTIO_CONFIG_S_FEATURES_OK);
	return driver_status(driver) & VIRTIO_CONFIG_S_FEATURES_OK;
}

/* Legacy: one block, the device's part on the next page (virtio 1.4, 2.7.2); else anywhere. */
static void ring_place(struct virtio_driver *driver, struct ring *ring)
{
	uint64_t desc, avail, used, block;

	if (ring->desc_gpa)
		return;
	ring->ops->sizes(ring->size, &desc, &avail, &used);
	if (driver->params.legacy) {
		block = align_up(desc + avail, RING_ALIGN);
		ring->desc_gpa = guest_alloc(driver->machine, block + used, RING_ALIGN);
		ring->driver_gpa = ring->desc_gpa + desc;
		ring->device_gpa = ring->desc_gpa + block;
		return;
	}
	ring->device_gpa = guest_alloc(driver->machine, used, 4);
	ring->desc_gpa = guest_alloc(driver->machine, desc, MAX(driver->params.desc_align, 16));
	ring->driver_gpa = guest_alloc(driver->machine, avail, 4);
}

void driver_queue_prepare(struct virtio_driver *driver, uint16_t index, uint16_t size)
{
	struct driver_queue *queue = &driver->queues[index];
	uint16_t size_max = driver->interface->queue_size(driver, index);
	struct ring *ring = &queue->ring;

	queue->driver = driver;
	queue->index = index;
	ring->ops = driver_has(driver, VIRTIO_F_RING_PACKED) ? &ring_packed : &ring_split;
	ring->machine = driver->machine;
	ring->event_idx = driver_has(driver, VIRTIO_RING_F_EVENT_IDX);
	if (ring->size != (size ? size : size_max))
		ring->desc_gpa = 0;
	ring->size = size ? size : size_max;
	ring_place(driver, ring);
	free(ring->slots);
	ring->slots = calloc(ring->size, sizeof(*ring->slots));
	assert_non_null(ring->slots);
	ring->ops->init(ring);
}

void driver_queue_setup(struct virtio_driver *driver, uint16_t index, uint16_t size)
{
	driver_queue_prepare(driver, index, size);
	driver->interface->queue_setup(driver, &driver->queues[index]);
}

static void driver_setup_vectors(struct virtio_driver *driver)
{
	pci_msix_setup(&driver->pci);
	assert_int_equal(driver->interface->config_vector(driver, DRIVER_CONFIG_VECTOR),
			 DRIVER_CONFIG_VECTOR);
	for (uint16_t i = 0; i < driver->queue_count; i++)
		assert_int_equal(driver->interface->queue_vector(driver, i, (uint16_t)(i + 1)),
				 i + 1);
}

void driver_start(struct virtio_driver *driver)
{
	if (driver->params.msix && !driver->transport)
		driver_setup_vectors(driver);
	for (uint16_t i = 0; i < driver->queue_count; i++)
		driver_queue_setup(driver, i, 0);
	driver_set_status(driver, VIRTIO_CONFIG_S_DRIVER_OK);
	for (uint16_t i = 0; i < driver->queue_count; i++)
		driver_queue_interrupt(&driver->queues[i]);
	driver_config_interrupt(driver);
}

struct virtio_driver *driver_run(struct machine *machine, unsigned int slot,
				 const struct driver_params *params, uint64_t without)
{
	struct virtio_driver *driver = driver_open(machine, slot, params);

	assert_true(driver_negotiate(driver, driver->offered & ~without));
	driver_start(driver);
	return driver;
}

void driver_restart(struct virtio_driver *driver)
{
	uint64_t features = driver->accepted;

	driver_begin(driver);
	assert_true(driver_negotiate(driver, features));
	driver_start(driver);
}

/* ---- Buffers ---- */

int driver_add_buf(struct driver_queue *queue, const struct segment *segments, unsigned int out,
		   unsigned int in, void *token)
{
	bool indirect = driver_has(queue->driver, VIRTIO_RING_F_INDIRECT_DESC);

	return queue->ring.ops->add(&queue->ring, segments, out, in, indirect, token);
}

bool driver_kick(struct driver_queue *queue)
{
	if (!queue->ring.ops->kick_needed(&queue->ring)) {
		queue->kicks_saved++;
		return false;
	}
	queue->kicks++;
	queue->driver->interface->notify(queue->driver, queue);
	return true;
}

void *driver_get_buf(struct driver_queue *queue, uint32_t *len)
{
	return queue->ring.ops->get(&queue->ring, len);
}

struct wait_buf {
	struct driver_queue *queue;
	uint32_t len;
	void *token;
};

static bool buf_came(void *arg)
{
	struct wait_buf *wait = arg;

	wait->token = driver_get_buf(wait->queue, &wait->len);
	return wait->token;
}

void *driver_wait_buf(struct driver_queue *queue, uint32_t *len, int timeout_ms)
{
	struct wait_buf wait = { .queue = queue };

	machine_wait(queue->driver->machine, buf_came, &wait, timeout_ms);
	if (len)
		*len = wait.len;
	return wait.token;
}

void driver_disable_cb(struct driver_queue *queue)
{
	queue->ring.ops->disable_callback(&queue->ring);
}

bool driver_enable_cb(struct driver_queue *queue)
{
	return queue->ring.ops->enable_callback(&queue->ring);
}

unsigned int segments_cut(struct segment *segments, unsigned int max, uint64_t gpa, uint32_t len,
			  const uint32_t *cuts, unsigned int cut_count)
{
	unsigned int count = 0;

	while (len) {
		uint32_t part = cut_count ? MIN(cuts[count % cut_count], len) : len;

		if (count + 1 == max)
			part = len;
		segments[count++] = (struct segment) { gpa, part };
		gpa += part;
		len -= part;
	}
	return count;
}

const struct driver_layout driver_layouts[] = {
	{ .name = "one descriptor a direction" },
	{ .name = "bytes", .out_cuts = { 1 }, .in_cuts = { 1 } },
	{ .name = "odd pieces", .out_cuts = { 3, 1, 7 }, .in_cuts = { 5, 2 } },
	{ .name = "header of 16 apart", .out_cuts = { 16, UINT32_MAX }, .in_cuts = { UINT32_MAX } },
	{ .name = "sectors", .out_cuts = { 16, 512 }, .in_cuts = { 512 } },
};
const unsigned int driver_layout_count = ARRAY_SIZE(driver_layouts);

static unsigned int cuts_count(const uint32_t *cuts)
{
	unsigned int count = 0;

	while (count < 4 && cuts[count])
		count++;
	return count;
}

/*
 * A chain is no longer than the queue, in an indirect table too (virtio 1.4, 2.7.5.3.1), and both
 * directions must find a place in it.
 */
static unsigned int segments_budget(const struct driver_queue *queue)
{
	return MIN(queue->ring.size, RING_SEGMENTS_MAX) / 2;
}

uint32_t driver_request(struct driver_queue *queue, const struct driver_layout *layout,
			const void *out_data, uint32_t out, void *in_data, uint32_t in)
{
	struct machine *machine = queue->driver->machine;
	uint64_t heap = machine->heap_next, gpa;
	struct segment segments[RING_SEGMENTS_MAX];
	unsigned int max = segments_budget(queue), out_count, in_count;
	int token;
	uint32_t len;

	/* Tables of the ring must outlive this request's memory: they go first. */
	gpa = guest_alloc(machine, (uint64_t)out + in + 8, 1);
	if (out)
		memcpy(guest_ptr(machine, gpa, out), out_data, out);
	memset(guest_ptr(machine, gpa + out, in + 8), DRIVER_POISON, in + 8);
	out_count = segments_cut(segments, max, gpa, out, layout->out_cuts,
				 cuts_count(layout->out_cuts));
	in_count = segments_cut(segments + out_count, max, gpa + out, in, layout->in_cuts,
				cuts_count(layout->in_cuts));
	assert_int_equal(driver_add_buf(queue, segments, out_count, in_count, &token), 0);
	driver_kick(queue);
	if (driver_wait_buf(queue, &len, DRIVER_TIMEOUT_MS) != &token) {
		machine_log_print(machine);
		fail_msg("no answer to a request of %u and %u bytes (%s)", out, in, layout->name);
	}
	if (in)
		memcpy(in_data, guest_ptr(machine, gpa + out, in), in);
	if (out)
		assert_memory_equal(guest_ptr(machine, gpa, out), out_data, out);
	for (uint32_t i = 0; i < 8; i++) /* nothing is written behind */
		assert_int_equal(*(uint8_t *)guest_ptr(machine, gpa + out + in + i, 1),
				 DRIVER_POISON);
	if (machine->heap_next == gpa + out + in + 8)
		machine->heap_next = heap;
	return len;
}

/* ---- Interrupts ---- */

/* With the line: it is up as long as the ISR says something (virtio 1.4, 4.1.4.5). */
static void line_poll(struct virtio_driver *driver)
{
	if (inproc_line(driver->machine->ctx, pci_function_gsi(&driver->pci)))
		driver->isr_seen |= driver->interface->isr(driver);
}

static bool isr_take(struct virtio_driver *driver, uint8_t bit)
{
	bool seen;

	line_poll(driver);
	seen = driver->isr_seen & bit;
	driver->isr_seen &= (uint8_t)~bit;
	return seen;
}

static bool vector_take(struct virtio_driver *driver, unsigned int vector, uint32_t *seen)
{
	uint32_t count =
		inproc_msi_count(driver->machine->ctx, pci_msix_data(&driver->pci, vector));
	bool more = count != *seen;

	*seen = count;
	return more;
}

bool driver_queue_interrupt(struct driver_queue *queue)
{
	if (queue->driver->interface->interrupted)
		return queue->driver->interface->interrupted(queue->driver, queue);
	if (!queue->driver->params.msix)
		return isr_take(queue->driver, 1);
	return vector_take(queue->driver, queue->index + 1U, &queue->interrupts_seen);
}

bool driver_config_interrupt(struct virtio_driver *driver)
{
	if (driver->interface->interrupted)
		return driver->interface->interrupted(driver, NULL);
	if (!driver->params.msix)
		return isr_take(driver, VIRTIO_PCI_ISR_CONFIG);
	return vector_take(driver, DRIVER_CONFIG_VECTOR, &driver->config_interrupts_seen);
}

static bool config_interrupt_came(void *arg)
{
	return driver_config_interrupt(arg);
}

bool driver_wait_config(struct virtio_driver *driver, int timeout_ms)
{
	return machine_wait(driver->machine, config_interrupt_came, driver, timeout_ms);
}
