/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio_driver.h: a virtio driver in user space, over either interface of virtio over PCI, or over
 * vhost-user (vhost_user_client.h).
 */
#ifndef TENON_TESTS_VIRTIO_DRIVER_H
#define TENON_TESTS_VIRTIO_DRIVER_H

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_pci.h>

#include "driver_ring.h"
#include "pci_driver.h"

#ifndef VIRTIO_F_RING_RESET
#define VIRTIO_F_RING_RESET 40
#endif
#define DRIVER_QUEUES_MAX 72
#define DRIVER_CONFIG_VECTOR 0 /* queue n has vector n + 1 */
#define DRIVER_TIMEOUT_MS 5000

/* struct driver_params - the ways in which every device is driven. */
struct driver_params {
	bool vhost_user; /* in place of PCI; modern, and what its interrupts are like is the transport's */
	bool legacy;
	bool packed; /* modern only */
	bool indirect;
	bool event_idx;
	bool msix;
	bool ioeventfd;
	uint64_t desc_align; /* of modern descriptor rings; 0: as little as is allowed */
	uint64_t extra; /* features to accept of those in DRIVER_FEATURES_ASKED */
};

/*
 * Reserved feature bits that the driver accepts only if it is told to, for they change how it must
 * behave: all of 33 to 49 but RING_PACKED, which @packed asks for, and RING_RESET.
 */
#define DRIVER_FEATURES_ASKED                                                                      \
	((BIT64(50) - BIT64(33)) & ~(BIT64(VIRTIO_F_RING_PACKED) | BIT64(VIRTIO_F_RING_RESET)))

#define DRIVER_COMBINATIONS 48

/* The @index-th combination (0..DRIVER_COMBINATIONS), and what it is called ("modern,indirect"). */
struct driver_params driver_params_at(unsigned int index);
const char *driver_params_name(const struct driver_params *params, char *text, size_t size);

struct virtio_driver;

struct driver_queue {
	struct virtio_driver *driver;
	uint16_t index;
	uint64_t notify_offset;
	struct ring ring;
	uint32_t interrupts_seen;
	unsigned int kicks, kicks_saved;
};

/* struct driver_region - a structure of the modern interface, as its capability places it. */
struct driver_region {
	unsigned int bar;
	uint32_t offset, length;
};

/*
 * struct driver_interface - the registers that both interfaces have. @index is a queue.
 * @interrupted: has @queue (NULL: the configuration) interrupted since the last question? NULL: over
 *               PCI, which tells itself
 */
struct driver_interface {
	uint8_t (*get_status)(struct virtio_driver *driver);
	void (*set_status)(struct virtio_driver *driver, uint8_t status);
	uint64_t (*get_features)(struct virtio_driver *driver);
	void (*set_features)(struct virtio_driver *driver, uint64_t features);
	uint16_t (*queue_size)(struct virtio_driver *driver, uint16_t index);
	void (*queue_setup)(struct virtio_driver *driver, struct driver_queue *queue);
	uint16_t (*queue_vector)(struct virtio_driver *driver, uint16_t index, uint16_t vector);
	uint16_t (*config_vector)(struct virtio_driver *driver, uint16_t vector);
	void (*notify)(struct virtio_driver *driver, struct driver_queue *queue);
	uint8_t (*isr)(struct virtio_driver *driver);
	uint64_t (*config_in)(struct virtio_driver *driver, uint32_t offset, unsigned int size);
	void (*config_out)(struct virtio_driver *driver, uint32_t offset, unsigned int size,
			   uint32_t value);
	bool (*interrupted)(struct virtio_driver *driver, struct driver_queue *queue);
};

/*
 * struct virtio_driver
 * @offered, @accepted: features
 * @isr_seen: bits read from the ISR and not yet asked for
 */
struct virtio_driver {
	struct machine *machine;
	struct driver_params params;
	struct pci_function pci;
	const struct driver_interface *interface;
	void *transport; /* of driver_open_on() */
	struct driver_region common, isr, device, notify;
	uint32_t notify_multiplier;
	uint64_t offered, accepted;
	unsigned int queue_count;
	struct driver_queue queues[DRIVER_QUEUES_MAX];
	uint8_t isr_seen;
	uint32_t config_interrupts_seen;
};

/* Find the device at @slot, reset it, set ACKNOWLEDGE and DRIVER, count its queues. */
struct virtio_driver *driver_open(struct machine *machine, unsigned int slot,
				  const struct driver_params *params);
void driver_close(struct virtio_driver *driver);

/* The same of a device that is not on the PCI bus. @transport is @interface's. */
struct virtio_driver *driver_open_on(struct machine *machine, const struct driver_params *params,
				     const struct driver_interface *interface, void *transport);

/*
 * Accept @features as far as they are offered and @params have them; true if the device agrees.
 * VERSION_1 is always among them for a modern driver.
 */
bool driver_negotiate(struct virtio_driver *driver, uint64_t features);

/* Give the queue its memory: @size entries, 0 for as many as it has. */
void driver_queue_setup(struct virtio_driver *driver, uint16_t index, uint16_t size);

/* Its memory only: the device is not told. */
void driver_queue_prepare(struct virtio_driver *driver, uint16_t index, uint16_t size);

/* Vectors or line, all queues, DRIVER_OK: after driver_negotiate(). */
void driver_start(struct virtio_driver *driver);

/* The usual case: open, negotiate all but @without, start. */
struct virtio_driver *driver_run(struct machine *machine, unsigned int slot,
				 const struct driver_params *params, uint64_t without);

/* Reset and start again with the same features. */
void driver_restart(struct virtio_driver *driver);

static inline struct driver_queue *driver_queue(struct virtio_driver *driver, unsigned int index)
{
	return &driver->queues[index];
}

static inline bool driver_has(const struct virtio_driver *driver, unsigned int feature)
{
	return driver->accepted & BIT64(feature);
}

uint8_t driver_status(struct virtio_driver *driver);
void driver_set_status(struct virtio_driver *driver, uint8_t status);
uint64_t driver_config(struct virtio_driver *driver, uint32_t offset, unsigned int size);
void driver_set_config(struct virtio_driver *driver, uint32_t offset, unsigned int size,
		       uint32_t value);

/* ---- Buffers ---- */

/* Make a buffer available: @out segments to be read, then @in to be written. 0 or -ENOSPC. */
int driver_add_buf(struct driver_queue *queue, const struct segment *segments, unsigned int out,
		   unsigned int in, void *token) __must_check;

/* Notify the device if it wants to know. Returns whether it was notified. */
bool driver_kick(struct driver_queue *queue);

/* The next used buffer's token, or NULL. */
void *driver_get_buf(struct driver_queue *queue, uint32_t *len);

/* Is there a used buffer? */
static inline bool driver_pending(const struct driver_queue *queue)
{
	return queue->ring.ops->pending(&queue->ring);
}

/* driver_get_buf(), running the loops until there is one; NULL after @timeout_ms. */
void *driver_wait_buf(struct driver_queue *queue, uint32_t *len, int timeout_ms);

void driver_disable_cb(struct driver_queue *queue);
bool driver_enable_cb(struct driver_queue *queue); /* true: buffers are pending */

/*
 * Cut [@gpa, @gpa + @len) into segments of the lengths in @cuts, which are repeated; the last takes
 * what is left. Returns how many.
 */
unsigned int segments_cut(struct segment *segments, unsigned int max, uint64_t gpa, uint32_t len,
			  const uint32_t *cuts, unsigned int cut_count);

/* struct driver_layout - how requests are cut into descriptors. */
struct driver_layout {
	const char *name;
	uint32_t out_cuts[4], in_cuts[4]; /* up to the first 0, then from the start; none: whole */
};

extern const struct driver_layout driver_layouts[];
extern const unsigned int driver_layout_count;

/*
 * One request, to its end: @out bytes of @out_data are sent, @in bytes come to @in_data, which is
 * poisoned in guest memory before. Returns used.len; fails the test if there is no answer.
 */
uint32_t driver_request(struct driver_queue *queue, const struct driver_layout *layout,
			const void *out_data, uint32_t out, void *in_data, uint32_t in);

/* What a request's writable part is filled with before. */
#define DRIVER_POISON 0xa5

/* ---- Interrupts since the last question ---- */

bool driver_queue_interrupt(struct driver_queue *queue);
bool driver_config_interrupt(struct virtio_driver *driver);

/* driver_config_interrupt(), running the loops until it comes. */
bool driver_wait_config(struct virtio_driver *driver, int timeout_ms);

/* ---- Registers of the modern interface ---- */

uint64_t driver_common_in(struct virtio_driver *driver, uint32_t offset, unsigned int size);
void driver_common_out(struct virtio_driver *driver, uint32_t offset, unsigned int size,
		       uint64_t value);

extern const struct driver_interface driver_legacy, driver_modern;

/* Find the structures of the modern interface; false if a needed one is missing. */
bool driver_find_modern(struct virtio_driver *driver);

#endif
