/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The port and memory spaces. Registered ranges may overlap; a sorted table of disjoint segments,
 * rebuilt when a range comes or goes, says who answers where.
 */
#include "io_space.h"

#include <errno.h>
#include <stdlib.h>

void io_space_init(struct io_space *space)
{
	memset(space, 0, sizeof(*space));
	pthread_mutex_init(&space->lock, NULL);
	pthread_cond_init(&space->idle, NULL);
}

void io_space_deinit(struct io_space *space)
{
	free(space->ranges);
	free(space->segments);
	pthread_cond_destroy(&space->idle);
	pthread_mutex_destroy(&space->lock);
}

static uint64_t range_last(const struct io_range *range)
{
	return range->base + range->size - 1;
}

/* Does @a win over @b where both lie? */
static bool range_beats(const struct io_range *a, const struct io_range *b)
{
	return a->size != b->size ? a->size < b->size : a->order < b->order;
}

static struct io_range *owner_at(const struct io_space *space, uint64_t addr)
{
	struct io_range *owner = NULL;

	for (unsigned int i = 0; i < space->range_count; i++) {
		struct io_range *range = space->ranges[i];

		if (addr - range->base < range->size && (!owner || range_beats(range, owner)))
			owner = range;
	}
	return owner;
}

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Addresses at which the owner can change: each range's first and the one behind its last. */
static unsigned int borders_collect(const struct io_space *space, uint64_t *borders)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < space->range_count; i++) {
		borders[count++] = space->ranges[i]->base;
		if (range_last(space->ranges[i]) != UINT64_MAX)
			borders[count++] = range_last(space->ranges[i]) + 1;
	}
	qsort(borders, count, sizeof(*borders), compare_u64);
	return count;
}

static void segment_append(struct io_space *space, uint64_t base, uint64_t last,
			   struct io_range *owner)
{
	struct io_segment *previous = NULL;

	if (space->segment_count)
		previous = &space->segments[space->segment_count - 1];
	if (previous && previous->range == owner && previous->last + 1 == base) {
		previous->last = last;
		return;
	}
	space->segments[space->segment_count++] = (struct io_segment) { base, last, owner };
}

/* Room for @count ranges, their segments (at most two each) and the borders behind those. */
static int space_reserve(struct io_space *space, unsigned int count)
{
	unsigned int max = space->range_max ? space->range_max * 2 : 32;
	struct io_range **ranges;
	struct io_segment *segments;

	if (count <= space->range_max)
		return 0;
	ranges = realloc(space->ranges, max * sizeof(*ranges));
	if (!ranges)
		return -ENOMEM;
	space->ranges = ranges;
	segments = realloc(space->segments, 2 * max * (sizeof(*segments) + sizeof(uint64_t)));
	if (!segments)
		return -ENOMEM;
	space->segments = segments;
	space->range_max = max;
	space->segment_max = 2 * max;
	return 0;
}

static void segments_rebuild(struct io_space *space)
{
	uint64_t *borders = (uint64_t *)(space->segments + space->segment_max);
	unsigned int count = borders_collect(space, borders);

	space->segment_count = 0;
	for (unsigned int i = 0; i < count; i++) {
		bool final = i + 1 == count;
		struct io_range *owner;

		if (!final && borders[i + 1] == borders[i])
			continue;
		owner = owner_at(space, borders[i]);
		if (owner)
			segment_append(space, borders[i],
				       final ? range_last(owner) : borders[i + 1] - 1, owner);
	}
}

int io_space_add(struct io_space *space, struct io_range *range)
{
	int error;

	if (!range->size || range->size - 1 > UINT64_MAX - range->base)
		return -EINVAL;
	pthread_mutex_lock(&space->lock);
	error = space_reserve(space, space->range_count + 1);
	if (!error) {
		range->order = space->next_order++;
		range->users = 0;
		range->registered = true;
		space->ranges[space->range_count++] = range;
		segments_rebuild(space);
	}
	pthread_mutex_unlock(&space->lock);
	return error;
}

void io_space_remove(struct io_space *space, struct io_range *range)
{
	unsigned int i;

	pthread_mutex_lock(&space->lock);
	for (i = 0; i < space->range_count && space->ranges[i] != range; i++)
		;
	if (i < space->range_count) {
		space->ranges[i] = space->ranges[--space->range_count];
		segments_rebuild(space);
		range->registered = false;
		while (range->users)
			pthread_cond_wait(&space->idle, &space->lock);
	}
	pthread_mutex_unlock(&space->lock);
}

static struct io_segment *segment_find(const struct io_space *space, uint64_t addr)
{
	unsigned int low = 0, high = space->segment_count;

	while (low < high) {
		unsigned int middle = (low + high) / 2;

		if (space->segments[middle].last < addr)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == space->segment_count || space->segments[low].base > addr)
		return NULL;
	return &space->segments[low];
}

/*
 * The range that owns @addr, held until range_put(); @whole says if it owns all @size bytes.
 */
static struct io_range *range_get(struct io_space *space, uint64_t addr, unsigned int size,
				  bool *whole)
{
	struct io_segment *segment;
	struct io_range *range = NULL;

	pthread_mutex_lock(&space->lock);
	segment = segment_find(space, addr);
	if (segment) {
		range = segment->range;
		range->users++;
		*whole = size - 1 <= range_last(range) - addr;
	} else {
		/* Nobody's: whole if the next owner starts behind the access. */
		*whole = true;
		for (unsigned int i = 1; i < size; i++)
			if (segment_find(space, addr + i))
				*whole = false;
	}
	pthread_mutex_unlock(&space->lock);
	return range;
}

static void range_put(struct io_space *space, struct io_range *range)
{
	if (!range)
		return;
	pthread_mutex_lock(&space->lock);
	if (!--range->users && !range->registered)
		pthread_cond_broadcast(&space->idle);
	pthread_mutex_unlock(&space->lock);
}

static uint64_t size_mask(unsigned int size)
{
	return size >= 8 ? UINT64_MAX : BIT64(size * 8) - 1;
}

bool io_space_read(struct io_space *space, uint64_t addr, unsigned int size, uint64_t *value)
{
	bool whole;
	struct io_range *range = range_get(space, addr, size, &whole);

	*value = size_mask(size);
	if (range && whole && range->ops->read)
		*value &= range->ops->read(range->arg, addr - range->base, size);
	range_put(space, range);
	if (whole)
		return range != NULL;

	*value = 0;
	for (unsigned int i = 0; i < size; i++) {
		uint64_t byte;

		io_space_read(space, addr + i, 1, &byte);
		*value |= byte << (8 * i);
	}
	return range != NULL;
}

bool io_space_write(struct io_space *space, uint64_t addr, unsigned int size, uint64_t value)
{
	bool whole;
	struct io_range *range = range_get(space, addr, size, &whole);

	if (range && whole && range->ops->write)
		range->ops->write(range->arg, addr - range->base, size, value & size_mask(size));
	range_put(space, range);
	if (whole)
		return range != NULL;

	for (unsigned int i = 0; i < size; i++)
		io_space_write(space, addr + i, 1, (value >> (8 * i)) & 0xff);
	return range != NULL;
}
