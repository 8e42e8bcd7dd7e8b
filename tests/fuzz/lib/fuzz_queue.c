/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A driver for fuzzers: guest memory, and the rings.
 */
#include "fuzz_driver.h"

#define PACKED_AVAIL (1U << VRING_PACKED_DESC_F_AVAIL)
#define PACKED_USED (1U << VRING_PACKED_DESC_F_USED)

void fuzz_ram_write(struct fuzz_driver *driver, uint64_t gpa, const void *from, size_t len)
{
	struct iovec iov[GUEST_MEMORY_REGIONS];
	int count = guest_memory_iov(&driver->ctx->memory, gpa, len, iov, GUEST_MEMORY_REGIONS);

	if (count > 0)
		iov_from_buf(iov, count, 0, from, len);
}

uint64_t fuzz_alloc(struct fuzz_driver *driver, uint64_t len)
{
	uint64_t gpa = align_up(driver->next_buffer, 16);

	if (gpa + len > FUZZ_RAM_SIZE)
		gpa = FUZZ_BUFFERS;
	driver->next_buffer = gpa + len;
	return gpa;
}

bool fuzz_room(struct fuzz_driver *driver, uint64_t len)
{
	/* A table that the border is in the middle of is written twice. */
	const uint64_t tables = 2 * FUZZ_SEGMENTS_MAX * sizeof(struct vring_desc) + 64;

	if (driver->next_buffer + len + tables <= FUZZ_RAM_SIZE)
		return true;
	for (unsigned int i = 0; i < FUZZ_QUEUES; i++)
		if (driver->queues[i].outstanding)
			return false;
	driver->next_buffer = FUZZ_BUFFERS;
	return true;
}

/* The place in RAM of one entry; rings lie in the first region, whatever the setup. */
static void *ring_at(struct fuzz_driver *driver, uint64_t gpa, uint64_t len)
{
	void *host = fuzz_ram(driver, gpa, len);

	if (!host)
		fuzz_fail("a ring at 0x%llx is not in RAM", (unsigned long long)gpa);
	return host;
}

/* ---- Split ---- */

static struct vring_avail *avail_ring(struct fuzz_driver *driver, struct fuzz_queue *queue)
{
	return ring_at(driver, queue->driver_area, 6 + 2U * queue->size);
}

static uint16_t descriptor_take(struct fuzz_queue *queue)
{
	while (queue->busy[queue->cursor])
		queue->cursor = (uint16_t)((queue->cursor + 1) % queue->size);
	queue->busy[queue->cursor] = true;
	queue->free--;
	return queue->cursor;
}

static uint16_t split_table(struct fuzz_driver *driver, struct fuzz_queue *queue,
			    const struct fuzz_segment *segments, unsigned int count)
{
	struct vring_desc *table =
		ring_at(driver, queue->desc, queue->size * sizeof(struct vring_desc));
	uint16_t first = descriptor_take(queue), at = first;

	for (unsigned int i = 0; i < count; i++) {
		uint16_t flags = segments[i].write ? VRING_DESC_F_WRITE : 0;
		uint16_t next = 0;

		if (i + 1 < count) {
			flags |= VRING_DESC_F_NEXT;
			next = descriptor_take(queue);
		}
		table[at] = (struct vring_desc) { segments[i].addr, segments[i].len, flags, next };
		at = next;
	}
	return first;
}

/* An indirect table in guest memory, as one segment. */
static struct fuzz_segment indirect_table(struct fuzz_driver *driver,
					  const struct fuzz_segment *segments, unsigned int count)
{
	struct vring_desc split[FUZZ_SEGMENTS_MAX];
	struct vring_packed_desc packed[FUZZ_SEGMENTS_MAX];
	uint32_t len = count * (uint32_t)sizeof(split[0]);
	uint64_t gpa = fuzz_alloc(driver, len);

	for (uint16_t i = 0; i < count; i++) {
		uint16_t flags = segments[i].write ? VRING_DESC_F_WRITE : 0;
		bool last = i + 1U == count;

		packed[i] =
			(struct vring_packed_desc) { segments[i].addr, segments[i].len, 0, flags };
		split[i] = (struct vring_desc) { segments[i].addr, segments[i].len,
						 flags | (last ? 0 : VRING_DESC_F_NEXT),
						 last ? 0 : (uint16_t)(i + 1) };
	}
	if (gpa < FUZZ_RAM_BORDER && gpa + len > FUZZ_RAM_BORDER)
		gpa = fuzz_alloc(driver, len); /* behind the border now */
	fuzz_ram_write(driver, gpa, driver->setup.packed ? (void *)packed : (void *)split, len);
	return (struct fuzz_segment) { .addr = gpa, .len = len };
}

static uint16_t split_add(struct fuzz_driver *driver, struct fuzz_queue *queue,
			  const struct fuzz_segment *segments, unsigned int count, bool indirect)
{
	struct vring_avail *avail = avail_ring(driver, queue);
	struct vring_desc *table =
		ring_at(driver, queue->desc, queue->size * sizeof(struct vring_desc));
	uint16_t id = split_table(driver, queue, segments, count);

	if (indirect)
		table[id].flags = VRING_DESC_F_INDIRECT;
	avail->ring[queue->position % queue->size] = id;
	avail->idx = ++queue->position;
	return id;
}

static void split_free(struct fuzz_driver *driver, struct fuzz_queue *queue, uint16_t id)
{
	const struct vring_desc *table =
		ring_at(driver, queue->desc, queue->size * sizeof(struct vring_desc));
	unsigned int descs = queue->buffers[id].descs;

	for (unsigned int i = 0; i < descs; i++) {
		queue->busy[id] = false;
		queue->free++;
		id = table[id].next % queue->size;
	}
}

/* ---- Packed ---- */

static uint16_t packed_id(const struct fuzz_queue *queue)
{
	uint16_t id = queue->cursor;

	while (queue->buffers[id].outstanding)
		id = (uint16_t)((id + 1) % queue->size);
	return id;
}

static uint16_t packed_add(struct fuzz_driver *driver, struct fuzz_queue *queue,
			   const struct fuzz_segment *segments, unsigned int count, bool indirect)
{
	struct vring_packed_desc *ring =
		ring_at(driver, queue->desc, queue->size * sizeof(struct vring_packed_desc));
	struct vring_packed_desc *first = &ring[queue->position];
	uint16_t first_flags = 0, id = packed_id(queue);

	for (unsigned int i = 0; i < count; i++) {
		uint16_t flags = (uint16_t)((segments[i].write ? VRING_DESC_F_WRITE : 0) |
					    (i + 1 < count ? VRING_DESC_F_NEXT : 0) |
					    (indirect ? VRING_DESC_F_INDIRECT : 0) |
					    (queue->wrap ? PACKED_AVAIL : PACKED_USED));
		struct vring_packed_desc *desc = &ring[queue->position];

		*desc = (struct vring_packed_desc) { segments[i].addr, segments[i].len, id,
						     i ? flags : desc->flags };
		if (!i)
			first_flags = flags;
		if (++queue->position == queue->size) {
			queue->position = 0;
			queue->wrap = !queue->wrap;
		}
	}
	first->flags = first_flags;
	queue->free = (uint16_t)(queue->free - count);
	queue->cursor = (uint16_t)((id + 1) % queue->size);
	return id;
}

static bool packed_used(struct fuzz_driver *driver, struct fuzz_queue *queue, uint32_t *id,
			uint32_t *len)
{
	const struct vring_packed_desc *desc =
		ring_at(driver, queue->desc + queue->used_position * sizeof(*desc), sizeof(*desc));
	bool avail = desc->flags & PACKED_AVAIL, used = desc->flags & PACKED_USED;

	if (avail != queue->used_wrap || used != queue->used_wrap)
		return false;
	*id = desc->id;
	*len = desc->len;
	return true;
}

static void packed_advance(struct fuzz_queue *queue, uint16_t by)
{
	queue->used_position = (uint16_t)(queue->used_position + by);
	if (queue->used_position < queue->size)
		return;
	queue->used_position = (uint16_t)(queue->used_position - queue->size);
	queue->used_wrap = !queue->used_wrap;
}

/* ---- Both ---- */

bool fuzz_queue_add(struct fuzz_driver *driver, struct fuzz_queue *queue,
		    const struct fuzz_segment *segments, unsigned int count, bool indirect)
{
	struct fuzz_segment table;
	uint64_t in_len = 0;
	uint16_t id;

	for (unsigned int i = 0; i < count; i++)
		in_len += segments[i].write ? segments[i].len : 0;
	if (indirect) {
		table = indirect_table(driver, segments, count);
		segments = &table;
		count = 1;
	}
	if (!count || count > queue->free)
		return false;
	id = driver->setup.packed ? packed_add(driver, queue, segments, count, indirect)
				  : split_add(driver, queue, segments, count, indirect);
	queue->buffers[id] = (struct fuzz_buffer) {
		.outstanding = true, .first = id, .descs = (uint16_t)count, .in_len = in_len
	};
	queue->outstanding++;
	return true;
}

static void used_check(const struct fuzz_driver *driver, const struct fuzz_queue *queue,
		       uint32_t id, uint32_t len)
{
	if (id >= queue->size || !queue->buffers[id].outstanding)
		fuzz_fail("%s: queue %u: buffer %u is used and was not available",
			  driver->device->label, queue->index, id);
	if (len > queue->buffers[id].in_len)
		fuzz_fail("%s: queue %u: buffer %u is used with %u bytes, it has %llu",
			  driver->device->label, queue->index, id, len,
			  (unsigned long long)queue->buffers[id].in_len);
}

static bool split_used(struct fuzz_driver *driver, struct fuzz_queue *queue, uint32_t *id,
		       uint32_t *len)
{
	const struct vring_used *used = ring_at(driver, queue->device_area, 6 + 8U * queue->size);

	if (used->idx == queue->used_position)
		return false;
	*id = used->ring[queue->used_position % queue->size].id;
	*len = used->ring[queue->used_position % queue->size].len;
	queue->used_position++;
	return true;
}

void fuzz_queue_collect(struct fuzz_driver *driver, struct fuzz_queue *queue)
{
	uint32_t id, len;

	while (driver->setup.packed ? packed_used(driver, queue, &id, &len)
				    : split_used(driver, queue, &id, &len)) {
		used_check(driver, queue, id, len);
		if (driver->setup.packed) {
			packed_advance(queue, queue->buffers[id].descs);
			queue->free = (uint16_t)(queue->free + queue->buffers[id].descs);
		} else {
			split_free(driver, queue, (uint16_t)id);
		}
		queue->buffers[id].outstanding = false;
		queue->outstanding--;
	}
}
