/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_context.h: what checks are written with. A check gets a machine with the device in it, not
 * yet touched, and says whether its clause holds. It knows nothing of what the device does.
 */
#ifndef TENON_TESTS_CHECK_CONTEXT_H
#define TENON_TESTS_CHECK_CONTEXT_H

#include "device_check.h"
#include "virtio_driver.h"

#define CHECK_SLOT 4 /* where the device is */
#define CHECK_OTHER_SLOT 5 /* a virtio-rng, which must go on whatever happens to the device */
#define CHECK_QUEUES_MAX 16 /* of more queues, the first are looked at */

/* struct check_probe - a request that the device answers: shape @shape in queue @queue. */
struct check_probe {
	bool found;
	unsigned int queue, shape;
};

/*
 * struct check_context
 * @params: how to drive it; the device has this interface
 * @driver: of check_open(), closed behind the check
 * @last_probe: of check_find_probe(), when the device was driven in another way
 */
struct check_context {
	const char *spec;
	struct driver_params params;
	struct machine *machine;
	struct pci_vdev *dev;
	struct virtio_driver *driver;
	struct check_probe *last_probe;
	char *why;
};

enum check_result check_fail(struct check_context *check, const char *fmt, ...)
	__format_printf(2, 3);
enum check_result check_skip(struct check_context *check, const char *why);

/* The check fails, for the reason given, unless @condition. */
#define CHECK(check, condition, ...)                                                               \
	do {                                                                                       \
		if (!(condition))                                                                  \
			return check_fail(check, __VA_ARGS__);                                     \
	} while (0)

/* The driver, reset, with ACKNOWLEDGE and DRIVER set. A second call begins again. */
struct virtio_driver *check_open(struct check_context *check);

/* check_open(), and everything accepted that @params have. */
struct virtio_driver *check_negotiate(struct check_context *check);

/* check_negotiate(), all queues set up, DRIVER_OK. */
struct virtio_driver *check_start(struct check_context *check);

static inline bool check_needs_reset(struct virtio_driver *driver)
{
	return driver_status(driver) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

/* How many of @driver's queues a check looks at. */
static inline unsigned int check_queues(const struct virtio_driver *driver)
{
	return MIN(driver->queue_count, CHECK_QUEUES_MAX);
}

/* ---- Requests that mean nothing, to devices of which nothing is known ---- */

#define CHECK_GUARD 32 /* bytes around each part that nobody may write */

/*
 * struct check_buffer - a buffer with @out bytes to read (zeros) and @in to write (poison), guards
 * around both.
 */
struct check_buffer {
	uint64_t gpa;
	uint32_t out, in;
	struct segment segments[2];
	unsigned int out_count, in_count;
};

/* The @index-th of the shapes worth trying, in guest memory; false behind the last. */
bool check_buffer(struct check_context *check, unsigned int index, struct check_buffer *buffer);

/* Make it available; check_kick() is to follow. */
void check_add(struct driver_queue *queue, struct check_buffer *buffer);

/* Kick, and let the device work, on a poisoned stack. */
void check_kick(struct driver_queue *queue);

/* What is wrong with how the device treated @buffer, which it used with @len bytes, or NULL. */
const char *check_buffer_fault(struct machine *machine, const struct check_buffer *buffer,
			       uint32_t len);

/* Did anybody write to the buffer? */
bool check_buffer_touched(struct machine *machine, const struct check_buffer *buffer);

/* Look for a request that the device answers, resetting it as often as needed; false: none. */
bool check_find_probe(struct check_context *check, struct check_probe *probe);

/* Send it now; is it answered? */
bool check_probe_works(struct check_context *check, const struct check_probe *probe);

/* Does the virtio-rng at CHECK_OTHER_SLOT still do its work? It is started by the first call. */
bool check_other_works(struct check_context *check);

/* ---- Memory of the host that shows ---- */

/*
 * Fill what malloc() gives and the stack below the caller with CHECK_POISON, so that a device that
 * hands the guest memory that it never wrote to is found.
 */
#define CHECK_POISON 0xd2
void check_poison_heap(void);
void check_poison_stack(void);

/* Are there 8 such bytes in a row in @data? */
bool check_poison_seen(const uint8_t *data, size_t len);

#endif
