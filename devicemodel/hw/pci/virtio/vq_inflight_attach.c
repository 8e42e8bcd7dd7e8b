/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Taking over the chains that a device before us had: what the vhost-user document's "Inflight I/O
 * tracking" says about reconnecting. Whoever wrote the region may have died between any two stores,
 * and the front end may have written anything: all of it is read once, and checked before a byte
 * of it is changed. Doing half of it and dying leaves what can be taken over just as well.
 */
#include <errno.h>
#include <stdlib.h>

#include "dirty_log.h"
#include "vq_inflight_region.h"

#define DESC_F_AVAIL BIT32(VRING_PACKED_DESC_F_AVAIL)
#define DESC_F_USED BIT32(VRING_PACKED_DESC_F_USED)
#define COUNTER_MAX (UINT64_MAX / 2) /* nobody counts that far */

/* How an entry was met while the region is looked through, in vq_inflight.state. */
enum { ENTRY_UNKNOWN, ENTRY_FREE, ENTRY_HELD };

static void inflight_free(struct vq_inflight *inflight)
{
	free(inflight->state);
	free(inflight->batch);
	free(inflight->again);
	free(inflight->copies);
	free(inflight->next);
	free(inflight->last);
	free(inflight->entry);
	free(inflight);
}

static struct vq_inflight *inflight_alloc(const struct vqueue_info *vq, uint16_t entries)
{
	struct vq_inflight *inflight = calloc(1, sizeof(*inflight));

	if (!inflight)
		return NULL;
	inflight->entries = entries;
	inflight->state = calloc(entries, sizeof(*inflight->state));
	inflight->batch = calloc(entries, sizeof(*inflight->batch));
	inflight->again = calloc(entries, sizeof(*inflight->again));
	if (vq->packed) {
		inflight->copies = calloc(entries, sizeof(*inflight->copies));
		inflight->next = calloc(entries, sizeof(*inflight->next));
		inflight->last = calloc(entries, sizeof(*inflight->last));
		inflight->entry = calloc(entries, sizeof(*inflight->entry));
	}
	if (inflight->state && inflight->batch && inflight->again &&
	    (!vq->packed ||
	     (inflight->copies && inflight->next && inflight->last && inflight->entry)))
		return inflight;
	inflight_free(inflight);
	return NULL;
}

static int again_add(struct vq_inflight *inflight, uint16_t entry, uint64_t counter)
{
	if (counter > COUNTER_MAX)
		return -EBADMSG;
	inflight->again[inflight->again_count++] =
		(struct inflight_again) { .entry = entry, .counter = counter };
	inflight->counter = MAX(inflight->counter, counter + 1);
	return 0;
}

static int again_compare(const void *a, const void *b)
{
	const struct inflight_again *x = a, *y = b;

	if (x->counter != y->counter)
		return x->counter < y->counter ? -1 : 1;
	return x->entry < y->entry ? -1 : x->entry > y->entry;
}

static void again_sort(struct vq_inflight *inflight)
{
	qsort(inflight->again, inflight->again_count, sizeof(*inflight->again), again_compare);
}

/* ---- Split ---- */

static uint16_t split_used_idx(const struct vqueue_info *vq)
{
	return __atomic_load_n(&((struct vring_used *)vq->device_area)->idx, __ATOMIC_ACQUIRE);
}

/*
 * The driver saw more used than the region says: the writer died after it showed its last batch and
 * before it wrote that down. The batch is a list.
 */
static int split_last_batch(struct vq_inflight *inflight, uint16_t used_idx)
{
	struct inflight_split *region = inflight->split;
	uint16_t count = (uint16_t)(used_idx - REGION_LOAD(region->used_idx));
	uint16_t index = REGION_LOAD(region->last_batch_head);

	if (index < inflight->entries)
		inflight->last_batch_head = index;
	if (count > inflight->entries)
		return -EBADMSG;
	for (; count; count--) {
		if (index >= inflight->entries || inflight->state[index] != ENTRY_UNKNOWN)
			return -EBADMSG;
		inflight->state[index] = ENTRY_FREE;
		inflight->batch[inflight->batch_count++] = index;
		index = REGION_LOAD(region->desc[index].next);
	}
	return 0;
}

static int split_collect(const struct vqueue_info *vq, struct vq_inflight *inflight)
{
	for (uint16_t i = 0; i < inflight->entries; i++) {
		struct inflight_split_desc *desc = &inflight->split->desc[i];
		uint8_t value = REGION_LOAD(desc->inflight);
		int error;

		if (!value || inflight->state[i] == ENTRY_FREE)
			continue;
		if (value != 1 || i >= vq->size)
			return -EBADMSG;
		error = again_add(inflight, i, REGION_LOAD(desc->counter));
		if (error)
			return error;
	}
	again_sort(inflight);
	return 0;
}

static int split_take_over(struct vqueue_info *vq, struct vq_inflight *inflight)
{
	uint16_t used_idx = split_used_idx(vq);
	int error = split_last_batch(inflight, used_idx);

	if (!error)
		error = split_collect(vq, inflight);
	if (!error)
		error = vq_ring_ops(vq)->go_on(vq, used_idx, false, inflight->again_count);
	if (error)
		return error;
	for (uint32_t i = 0; i < inflight->batch_count; i++)
		REGION_STORE(inflight->split->desc[inflight->batch[i]].inflight, 0);
	REGION_STORE(inflight->split->used_idx, used_idx);
	return 0;
}

static int split_begin(struct vqueue_info *vq, struct vq_inflight *inflight)
{
	struct inflight_split *region = inflight->split;
	uint16_t used_idx = split_used_idx(vq);

	REGION_STORE(region->desc_num, inflight->entries);
	REGION_STORE(region->used_idx, used_idx);
	REGION_STORE(region->version, INFLIGHT_VERSION);
	return vq_ring_ops(vq)->go_on(vq, used_idx, false, 0);
}

/* ---- Packed ---- */

/*
 * struct takeover - what is found in a region.
 * @heads, @used: as they are to be: the last batch is either done or never was
 * @descs: descriptors of the chains
 */
struct takeover {
	union inflight_heads heads;
	union inflight_used used;
	uint32_t descs;
};

/* Did the driver see the batch that begins at @used.old_idx? Then its first entry is not available. */
static bool batch_shown(const struct vqueue_info *vq, union inflight_used used)
{
	const struct vring_packed_desc *ring = vq->desc;
	uint16_t flags = __atomic_load_n(&ring[used.old_idx].flags, __ATOMIC_ACQUIRE);

	return !!(flags & DESC_F_AVAIL) != used.old_wrap ||
	       !!(flags & DESC_F_USED) == used.old_wrap;
}

static int packed_last_batch(const struct vqueue_info *vq, const struct vq_inflight *inflight,
			     struct takeover *found)
{
	union inflight_heads heads = { .word = REGION_LOAD(inflight->packed->heads.word) };
	union inflight_used used = { .word = REGION_LOAD(inflight->packed->used.word) };

	if (used.idx >= vq->size || used.old_idx >= vq->size || used.wrap > 1 || used.old_wrap > 1)
		return -EBADMSG;
	/*
	 * A batch as large as the ring changes nothing but the wrap counter. Entries that are free
	 * for good say that the driver saw it, and who stores the three old values one by one
	 * stores that first; the flags may be of another round by then.
	 */
	if ((used.idx != used.old_idx || used.wrap != used.old_wrap) &&
	    (heads.free_head == heads.old_free_head || batch_shown(vq, used))) {
		heads.old_free_head = heads.free_head;
		used.old_idx = used.idx;
		used.old_wrap = used.wrap;
	}
	heads.version = INFLIGHT_VERSION;
	heads.desc_num = inflight->entries;
	heads.free_head = heads.old_free_head;
	used.idx = used.old_idx;
	used.wrap = used.old_wrap;
	found->heads = heads;
	found->used = used;
	return 0;
}

/* The list ends with whatever is no entry. */
static int packed_free_list(struct vq_inflight *inflight, uint16_t index)
{
	inflight->free_head = index;
	for (; index < inflight->entries; index = inflight->next[index]) {
		if (inflight->state[index] != ENTRY_UNKNOWN)
			return -EBADMSG;
		inflight->state[index] = ENTRY_FREE;
		inflight->next[index] = REGION_LOAD(inflight->packed->desc[index].next);
	}
	return 0;
}

static struct vring_packed_desc copy_read(const struct inflight_packed_desc *desc)
{
	return (struct vring_packed_desc) { .addr = REGION_LOAD(desc->copy.addr),
					    .len = REGION_LOAD(desc->copy.len),
					    .id = REGION_LOAD(desc->copy.id),
					    .flags = REGION_LOAD(desc->copy.flags) };
}

/* The chain whose first entry is @first. */
static int packed_chain(const struct vqueue_info *vq, struct vq_inflight *inflight, uint16_t first,
			struct takeover *found)
{
	const struct inflight_packed_desc *desc = inflight->packed->desc;
	uint16_t count = REGION_LOAD(desc[first].num), index = first;
	struct inflight_again *again = &inflight->again[inflight->again_count];
	int error = again_add(inflight, first, REGION_LOAD(desc[first].counter));

	if (error)
		return error;
	if (!count || count > vq->size - found->descs)
		return -EBADMSG;
	again->first = found->descs;
	again->count = count;
	for (uint16_t i = 0; i < count; i++) {
		if (i)
			index = inflight->next[index];
		if (index >= inflight->entries || inflight->state[index] != ENTRY_UNKNOWN)
			return -EBADMSG;
		inflight->state[index] = ENTRY_HELD;
		inflight->copies[found->descs++] = copy_read(&desc[index]);
		inflight->next[index] = REGION_LOAD(desc[index].next);
	}
	inflight->last[first] = index;
	return index == REGION_LOAD(desc[first].last) ? 0 : -EBADMSG;
}

static int packed_collect(const struct vqueue_info *vq, struct vq_inflight *inflight,
			  struct takeover *found)
{
	int error = packed_free_list(inflight, found->heads.free_head);

	for (uint16_t i = 0; i < inflight->entries && !error; i++) {
		uint8_t value = REGION_LOAD(inflight->packed->desc[i].inflight);

		if (!value || inflight->state[i] == ENTRY_FREE)
			continue;
		error = value == 1 ? packed_chain(vq, inflight, i, found) : -EBADMSG;
	}
	again_sort(inflight);
	return error;
}

/* Entries that nobody knows of are free; heads of the free list are not inflight. */
static void packed_clean(struct vq_inflight *inflight)
{
	for (uint16_t i = 0; i < inflight->entries; i++) {
		struct inflight_packed_desc *desc = &inflight->packed->desc[i];

		if (inflight->state[i] == ENTRY_HELD)
			continue;
		REGION_STORE(desc->inflight, 0);
		if (inflight->state[i] == ENTRY_FREE)
			continue;
		REGION_STORE(desc->next, inflight->free_head);
		inflight->next[i] = inflight->free_head;
		inflight->free_head = i;
	}
}

static int packed_take_over(struct vqueue_info *vq, struct vq_inflight *inflight)
{
	struct takeover found = { .descs = 0 };
	int error = packed_last_batch(vq, inflight, &found);

	if (!error)
		error = packed_collect(vq, inflight, &found);
	if (!error)
		error = vq_ring_ops(vq)->go_on(vq, found.used.idx, found.used.wrap, found.descs);
	if (error)
		return error;
	packed_clean(inflight);
	found.heads.free_head = found.heads.old_free_head = inflight->free_head;
	REGION_STORE(inflight->packed->heads.word, found.heads.word);
	REGION_STORE(inflight->packed->used.word, found.used.word);
	return 0;
}

static int packed_begin(struct vqueue_info *vq, struct vq_inflight *inflight)
{
	struct inflight_packed *region = inflight->packed;
	const union inflight_heads heads = { .version = INFLIGHT_VERSION,
					     .desc_num = inflight->entries };
	const union inflight_used used = { .idx = vq->used_idx,
					   .wrap = vq->used_wrap,
					   .old_idx = vq->used_idx,
					   .old_wrap = vq->used_wrap };

	for (uint16_t i = 0; i < inflight->entries; i++) {
		inflight->next[i] = (uint16_t)(i + 1);
		REGION_STORE(region->desc[i].next, inflight->next[i]);
	}
	REGION_STORE(region->used.word, used.word);
	REGION_STORE(region->heads.word, heads.word);
	return vq_ring_ops(vq)->go_on(vq, vq->used_idx, vq->used_wrap, 0);
}

/* ---- Either ---- */

/* Entries of the region, or 0: it is not for @vq. @fresh: nobody has used it. */
static uint16_t region_entries(const struct vqueue_info *vq, const void *memory, uint64_t size,
			       bool *fresh)
{
	const struct inflight_split *header = memory;
	uint16_t version, entries;

	if ((uintptr_t)memory % 8 || size < vq_inflight_size(vq->size, vq->packed))
		return 0;
	version = REGION_LOAD(header->version);
	entries = REGION_LOAD(header->desc_num);
	*fresh = !version;
	if (!version && !entries)
		entries = vq->size;
	if (version > INFLIGHT_VERSION || REGION_LOAD(header->features))
		return 0;
	if (entries < vq->size || entries > VIRTIO_QUEUE_SIZE_MAX ||
	    size < vq_inflight_size(entries, vq->packed))
		return 0;
	return entries;
}

static int region_take_over(struct vqueue_info *vq, struct vq_inflight *inflight, bool fresh)
{
	if (vq->packed)
		return fresh ? packed_begin(vq, inflight) : packed_take_over(vq, inflight);
	return fresh ? split_begin(vq, inflight) : split_take_over(vq, inflight);
}

int vq_inflight_attach(struct vqueue_info *vq, void *memory, uint64_t size)
{
	struct vq_inflight *inflight;
	bool fresh = false;
	uint16_t entries;
	int error;

	vq_inflight_detach(vq);
	if (!vq->enabled || vq->offloaded)
		return -EINVAL;
	entries = region_entries(vq, memory, size, &fresh);
	if (!entries)
		return -EINVAL;
	inflight = inflight_alloc(vq, entries);
	if (!inflight)
		return -ENOMEM;
	if (vq->packed)
		inflight->packed = memory;
	else
		inflight->split = memory;
	error = region_take_over(vq, inflight, fresh);
	if (error) {
		inflight_free(inflight);
		return error;
	}
	memset(inflight->state, INFLIGHT_NOT_HELD, entries);
	inflight->batch_count = 0;
	inflight->cursor = inflight->free_head;
	inflight->shown_idx = vq->used_idx;
	inflight->shown_wrap = vq->used_wrap;
	vq->inflight = inflight;
	vq_inflight_hold(vq);
	vq_choose_ops(vq);
	if (vq->dirty)
		vq_dirty_whole_ring(vq);
	if (!fresh)
		vq_interrupt(vq->vc, vq);
	return 0;
}

void vq_inflight_detach(struct vqueue_info *vq)
{
	if (vq->inflight)
		inflight_free(vq->inflight);
	vq->inflight = NULL;
	vq_choose_ops(vq);
}
