/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writing down which chains a device has: the steps of the vhost-user document's "Inflight I/O
 * tracking", in its order. Taking over what another one wrote is in vq_inflight_attach.c.
 */
#include "vq_inflight_region.h"

uint64_t vq_inflight_size(uint16_t size, bool packed)
{
	uint64_t bytes = packed ? sizeof(struct inflight_packed) : sizeof(struct inflight_split);

	bytes += (uint64_t)size * (packed ? sizeof(struct inflight_packed_desc)
					  : sizeof(struct inflight_split_desc));
	return align_up(bytes, 64);
}

unsigned int vq_inflight_left(const struct vqueue_info *vq)
{
	return vq->inflight ? vq->inflight->again_count - vq->inflight->again_next : 0;
}

/* In a packed ring they have slots, taken or put back, and their descriptors are in use. */
void vq_inflight_hold(struct vqueue_info *vq)
{
	struct vq_inflight *inflight = vq->inflight;

	if (inflight->packed)
		vq->descs_in_use = 0;
	for (uint32_t i = inflight->again_next; i < inflight->again_count; i++) {
		struct inflight_again *again = &inflight->again[i];

		again->idx = again->entry;
		if (!inflight->packed)
			continue;
		again->idx = vq->free_slots[--vq->free_count];
		inflight->entry[again->idx] = again->entry;
		vq->slots[again->idx].id = inflight->copies[again->first + again->count - 1].id;
		vq->slots[again->idx].descs = again->count;
		vq->descs_in_use = (uint16_t)(vq->descs_in_use + again->count);
	}
}

const char *vq_inflight_pop(struct vqueue_info *vq, struct vq_chain *chain, int n_iov)
{
	struct vq_inflight *inflight = vq->inflight;
	const struct inflight_again *again = &inflight->again[inflight->again_next];
	const struct vring_packed_desc *copies =
		inflight->copies ? inflight->copies + again->first : NULL; /* packed rings' only */
	const char *wrong;

	chain->idx = again->idx;
	wrong = vq_ring_ops(vq)->pop_again(vq, chain, n_iov, copies, again->count);
	if (wrong)
		return wrong;
	inflight->state[again->idx] = INFLIGHT_TAKEN_AGAIN;
	inflight->again_next++;
	return NULL;
}

/* ---- Taking ---- */

/* One that the driver can make available once more was used, so far as it knows. */
static const char *split_taken(struct vq_inflight *inflight, uint16_t idx)
{
	struct inflight_split_desc *desc = &inflight->split->desc[idx];

	if (inflight->state[idx] != INFLIGHT_NOT_HELD)
		return "buffer made available that the device has already (2.7.13)";
	REGION_STORE(desc->counter, inflight->counter++);
	REGION_STORE(desc->inflight, 1);
	inflight->state[idx] = INFLIGHT_TAKEN;
	return NULL;
}

void vq_inflight_desc(struct vqueue_info *vq, const struct vring_packed_desc *desc)
{
	struct vq_inflight *inflight = vq->inflight;
	struct inflight_packed_desc *entry;

	inflight->cursor_over |= inflight->cursor >= inflight->entries;
	if (inflight->cursor_over)
		return;
	/* Free entries: nobody looks at them before they are taken off the list. */
	entry = &inflight->packed->desc[inflight->cursor];
	entry->copy.id = desc->id;
	entry->copy.flags = desc->flags;
	entry->copy.len = desc->len;
	entry->copy.addr = desc->addr;
	inflight->cursor_last = inflight->cursor;
	inflight->cursor_count++;
	inflight->cursor = inflight->next[inflight->cursor];
}

void vq_inflight_not_taken(struct vqueue_info *vq)
{
	struct vq_inflight *inflight = vq->inflight;

	inflight->cursor = inflight->free_head;
	inflight->cursor_count = 0;
	inflight->cursor_over = false;
}

/* @old: what is free as long as the driver does not see the batch. */
static void store_heads(struct vq_inflight *inflight, uint16_t free_head, uint16_t old)
{
	const union inflight_heads heads = { .version = INFLIGHT_VERSION,
					     .desc_num = inflight->entries,
					     .free_head = free_head,
					     .old_free_head = old };

	REGION_STORE(inflight->packed->heads.word, heads.word);
}

/* As long as its entries are in the free list the chain is not taken, whatever they say. */
static const char *packed_taken(struct vqueue_info *vq, uint16_t idx)
{
	struct vq_inflight *inflight = vq->inflight;
	uint16_t first = inflight->free_head;
	struct inflight_packed_desc *entry;

	if (inflight->cursor_over)
		return "more descriptors made available than the ring has (2.8.1)";
	entry = &inflight->packed->desc[first];
	REGION_STORE(entry->num, inflight->cursor_count);
	REGION_STORE(entry->last, inflight->cursor_last);
	REGION_STORE(entry->counter, inflight->counter++);
	REGION_STORE(entry->inflight, 1);
	store_heads(inflight, inflight->cursor, inflight->cursor);
	inflight->entry[idx] = first;
	inflight->last[first] = inflight->cursor_last;
	inflight->state[idx] = INFLIGHT_TAKEN;
	inflight->free_head = inflight->cursor;
	inflight->cursor_count = 0;
	return NULL;
}

const char *vq_inflight_taken(struct vqueue_info *vq, uint16_t idx)
{
	return vq->inflight->packed ? packed_taken(vq, idx) : split_taken(vq->inflight, idx);
}

/* Chain @first goes in front of the free list, in our copy and in the region's links. */
static void free_list_add(struct vq_inflight *inflight, uint16_t first)
{
	uint16_t last = inflight->last[first];

	inflight->next[last] = inflight->free_head;
	REGION_STORE(inflight->packed->desc[last].next, inflight->free_head);
	inflight->free_head = first;
}

static void packed_put_back(struct vq_inflight *inflight, uint16_t idx)
{
	uint16_t first = inflight->entry[idx];

	free_list_add(inflight, first);
	store_heads(inflight, first, first);
	REGION_STORE(inflight->packed->desc[first].inflight, 0);
	inflight->cursor = first;
}

bool vq_inflight_put_back(struct vqueue_info *vq, uint16_t idx)
{
	struct vq_inflight *inflight = vq->inflight;
	uint8_t state = inflight->state[idx];

	inflight->state[idx] = INFLIGHT_NOT_HELD;
	if (state == INFLIGHT_TAKEN_AGAIN) {
		/* They are put back in the reverse of the order in which they were taken. */
		inflight->again_next--;
		return true;
	}
	if (state != INFLIGHT_TAKEN)
		return false;
	if (inflight->packed)
		packed_put_back(inflight, idx);
	else
		REGION_STORE(inflight->split->desc[idx].inflight, 0);
	return false;
}

/* ---- Giving back ---- */

void vq_inflight_used(struct vqueue_info *vq, uint16_t idx)
{
	struct vq_inflight *inflight = vq->inflight;

	if (inflight->state[idx] != INFLIGHT_TAKEN && inflight->state[idx] != INFLIGHT_TAKEN_AGAIN)
		return;
	/* An idx of a packed ring may be another chain's at once; its entry stays its own. */
	inflight->state[idx] = inflight->packed ? INFLIGHT_NOT_HELD : INFLIGHT_USED;
	inflight->batch[inflight->batch_count++] = inflight->packed ? inflight->entry[idx] : idx;
}

static void split_publish(struct vq_inflight *inflight)
{
	struct inflight_split *region = inflight->split;

	for (uint32_t i = 0; i < inflight->batch_count; i++) {
		REGION_STORE(region->desc[inflight->batch[i]].next, inflight->last_batch_head);
		inflight->last_batch_head = inflight->batch[i];
	}
	REGION_STORE(region->last_batch_head, inflight->last_batch_head);
}

/* What is free, and where the ring is, once the driver sees the batch; _published() makes it so. */
static void packed_publish(struct vqueue_info *vq)
{
	struct vq_inflight *inflight = vq->inflight;
	const union inflight_used used = { .idx = vq->used_idx,
					   .wrap = vq->used_wrap,
					   .old_idx = inflight->shown_idx,
					   .old_wrap = inflight->shown_wrap };
	uint16_t old = inflight->free_head;

	for (uint32_t i = 0; i < inflight->batch_count; i++)
		free_list_add(inflight, inflight->batch[i]);
	store_heads(inflight, inflight->free_head, old);
	REGION_STORE(inflight->packed->used.word, used.word);
	inflight->cursor = inflight->free_head;
}

void vq_inflight_publish(struct vqueue_info *vq)
{
	if (!vq->inflight->batch_count)
		return;
	if (vq->inflight->packed)
		packed_publish(vq);
	else
		split_publish(vq->inflight);
}

static void split_published(struct vqueue_info *vq)
{
	struct vq_inflight *inflight = vq->inflight;

	for (uint32_t i = 0; i < inflight->batch_count; i++) {
		REGION_STORE(inflight->split->desc[inflight->batch[i]].inflight, 0);
		inflight->state[inflight->batch[i]] = INFLIGHT_NOT_HELD;
	}
	REGION_STORE(inflight->split->used_idx, vq->published);
}

static void packed_published(struct vqueue_info *vq)
{
	struct vq_inflight *inflight = vq->inflight;
	const union inflight_used used = { .idx = vq->used_idx,
					   .wrap = vq->used_wrap,
					   .old_idx = vq->used_idx,
					   .old_wrap = vq->used_wrap };

	for (uint32_t i = 0; i < inflight->batch_count; i++)
		REGION_STORE(inflight->packed->desc[inflight->batch[i]].inflight, 0);
	store_heads(inflight, inflight->free_head, inflight->free_head);
	REGION_STORE(inflight->packed->used.word, used.word);
	inflight->shown_idx = vq->used_idx;
	inflight->shown_wrap = vq->used_wrap;
}

void vq_inflight_published(struct vqueue_info *vq)
{
	if (!vq->inflight->batch_count)
		return;
	if (vq->inflight->packed)
		packed_published(vq);
	else
		split_published(vq);
	vq->inflight->batch_count = 0;
}
