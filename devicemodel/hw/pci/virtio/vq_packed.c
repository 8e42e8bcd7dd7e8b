/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packed virtqueues (virtio 1.4, 2.8). The ring is written by both sides; each descriptor is read
 * once into host memory, and only that copy is checked and used.
 */
#include <errno.h>

#include "virtio_transport.h"
#include "vq_inflight.h"

#define DESC_ALIGN 16
#define EVENT_ALIGN 4
#define DESC_F_AVAIL BIT32(VRING_PACKED_DESC_F_AVAIL)
#define DESC_F_USED BIT32(VRING_PACKED_DESC_F_USED)
#define EVENT_WRAP BIT32(VRING_PACKED_EVENT_F_WRAP_CTR)

static struct vring_packed_desc *packed_ring(const struct vqueue_info *vq)
{
	return vq->desc;
}

static int packed_enable(struct vqueue_info *vq)
{
	uint32_t size = vq->size;

	if (!size || size > vq->size_max || size > VIRTIO_QUEUE_SIZE_MAX)
		return -EINVAL;
	if (vq->desc_addr % DESC_ALIGN || vq->driver_addr % EVENT_ALIGN ||
	    vq->device_addr % EVENT_ALIGN)
		return -EINVAL;
	vq->desc = vq_map(vq, vq->desc_addr, sizeof(struct vring_packed_desc) * size, true);
	vq->driver_area =
		vq_map(vq, vq->driver_addr, sizeof(struct vring_packed_desc_event), false);
	vq->device_area = vq_map(vq, vq->device_addr, sizeof(struct vring_packed_desc_event), true);
	if (!vq->desc || !vq->driver_area || !vq->device_area)
		return -EFAULT;
	vq->last_avail = vq->used_idx = vq->published = 0;
	vq->avail_wrap = vq->used_wrap = true;
	vq->descs_in_use = 0;
	vq->free_count = vq->size;
	for (uint16_t i = 0; i < vq->size; i++)
		vq->free_slots[i] = (uint16_t)(vq->size - 1 - i);
	vq->kicks_armed = true;
	vq->armed_at = EVENT_WRAP;
	return 0;
}

/* Both event suppression structures are one 32-bit word: offset and wrap counter, flags (2.8.14). */
static void device_event_write(struct vqueue_info *vq, uint16_t off_wrap, uint16_t flags)
{
	__atomic_store_n((uint32_t *)vq->device_area, off_wrap | (uint32_t)flags << 16,
			 __ATOMIC_RELAXED);
}

static bool desc_available(const struct vqueue_info *vq, uint16_t position, bool wrap)
{
	uint16_t flags = __atomic_load_n(&packed_ring(vq)[position].flags, __ATOMIC_ACQUIRE);

	return !!(flags & DESC_F_AVAIL) == wrap && !!(flags & DESC_F_USED) != wrap;
}

/* Ask for a kick with the buffer at vq->armed_at. */
static void kicks_want(struct vqueue_info *vq)
{
	if (vq->event_idx)
		device_event_write(vq, vq->armed_at, VRING_PACKED_EVENT_FLAG_DESC);
	else
		device_event_write(vq, 0, VRING_PACKED_EVENT_FLAG_ENABLE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static void kicks_disarm(struct vqueue_info *vq)
{
	vq->kicks_armed = false;
	if (!vq->polled)
		device_event_write(vq, 0, VRING_PACKED_EVENT_FLAG_DISABLE);
}

/* Hear of the next buffer; the caller looks again afterwards. */
static void kicks_arm(struct vqueue_info *vq)
{
	vq->kicks_armed = true;
	vq->told = false;
	vq->armed_at = (uint16_t)(vq->last_avail | (vq->avail_wrap ? EVENT_WRAP : 0));
	if (!vq->polled)
		kicks_want(vq);
}

static bool packed_has_descs(struct vqueue_info *vq)
{
	if (!desc_available(vq, vq->last_avail, vq->avail_wrap)) {
		kicks_arm(vq);
		if (!desc_available(vq, vq->last_avail, vq->avail_wrap))
			return false;
	}
	if (vq->kicks_armed)
		kicks_disarm(vq);
	return true;
}

static bool packed_has_new(const struct vqueue_info *vq)
{
	return desc_available(vq, vq->armed_at & (EVENT_WRAP - 1), vq->armed_at & EVENT_WRAP);
}

static void packed_set_polled(struct vqueue_info *vq)
{
	if (!vq->kicks_armed)
		return;
	if (vq->polled)
		device_event_write(vq, 0, VRING_PACKED_EVENT_FLAG_DISABLE);
	else
		kicks_want(vq);
}

static struct vring_packed_desc desc_read(const void *table, unsigned int index)
{
	struct vring_packed_desc desc;

	memcpy(&desc, (const char *)table + index * sizeof(desc), sizeof(desc));
	__asm__ volatile("" : "+m"(desc) : : "memory");
	return desc;
}

/* virtio 1.4, 2.8.7: all of the table, no NEXT in it */
static const char *pop_indirect(struct vqueue_info *vq, struct vq_chain *chain, int n_iov,
				const struct vring_packed_desc *list)
{
	unsigned int count = list->len / sizeof(*list);
	const void *table;

	if (!vq->indirect)
		return "indirect descriptor without VIRTIO_F_INDIRECT_DESC (2.8.19)";
	if (!list->len || list->len % sizeof(*list))
		return "length of an indirect table is no multiple of 16 (2.8.7)";
	table = vq_map(vq, list->addr, list->len, false);
	if (!table)
		return "indirect table is not in RAM (2.8.7)";
	if (count > (unsigned int)n_iov) /* empty descriptors too: a long table takes time */
		return VQ_TOO_LONG;
	for (unsigned int i = 0; i < count; i++) {
		struct vring_packed_desc desc = desc_read(table, i);
		const char *wrong;

		if (desc.flags & VRING_DESC_F_INDIRECT)
			return "indirect descriptor in an indirect table (2.8.19)";
		wrong = vq_chain_add(vq, chain, n_iov, desc.addr, desc.len,
				     desc.flags & VRING_DESC_F_WRITE);
		if (wrong)
			return wrong;
	}
	return NULL;
}

/*
 * The list at last_avail; @id and @descs tell which buffer it is and how many entries it takes.
 * @record: a constant, so that there are two of it
 */
static __always_inline const char *pop_list(struct vqueue_info *vq, struct vq_chain *chain,
					    int n_iov, uint16_t *id, uint16_t *descs, bool record)
{
	unsigned int position = vq->last_avail;

	for (*descs = 1;; (*descs)++) {
		struct vring_packed_desc desc = desc_read(vq->desc, position);
		const char *wrong;

		if (record)
			vq_inflight_desc(vq, &desc);
		*id = desc.id; /* of the last one counts (2.8.6) */
		if (desc.flags & VRING_DESC_F_INDIRECT) {
			if (*descs > 1 || desc.flags & VRING_DESC_F_NEXT)
				return "indirect descriptor in a list (2.8.19)";
			return pop_indirect(vq, chain, n_iov, &desc);
		}
		wrong = vq_chain_add(vq, chain, n_iov, desc.addr, desc.len,
				     desc.flags & VRING_DESC_F_WRITE);
		if (wrong)
			return wrong;
		if (!(desc.flags & VRING_DESC_F_NEXT))
			return NULL;
		if (*descs >= vq->size - vq->descs_in_use)
			return "descriptor list is longer than the ring (2.8.6)";
		position = position + 1 == vq->size ? 0 : position + 1;
	}
}

/* Move a position of the ring by @by entries; the wrap counter flips behind the last one (2.8.1). */
static void advance(const struct vqueue_info *vq, uint16_t *position, bool *wrap, uint16_t by)
{
	uint32_t next = (uint32_t)*position + by;

	if (next >= vq->size) {
		next -= vq->size;
		*wrap = !*wrap;
	}
	*position = (uint16_t)next;
}

static __always_inline const char *pop_next(struct vqueue_info *vq, struct vq_chain *chain,
					    int n_iov, bool record)
{
	uint16_t id, descs;
	const char *wrong;

	if (vq->descs_in_use >= vq->size || !vq->free_count)
		return "more descriptors made available than the ring has (2.8.1)";
	wrong = pop_list(vq, chain, n_iov, &id, &descs, record);
	if (wrong)
		return wrong;
	chain->idx = vq->free_slots[--vq->free_count];
	vq->slots[chain->idx].id = id;
	vq->slots[chain->idx].descs = chain->descs = descs;
	vq->descs_in_use = (uint16_t)(vq->descs_in_use + descs);
	advance(vq, &vq->last_avail, &vq->avail_wrap, descs);
	return NULL;
}

static const char *packed_pop(struct vqueue_info *vq, struct vq_chain *chain, int n_iov)
{
	return pop_next(vq, chain, n_iov, false);
}

static const char *packed_pop_recorded(struct vqueue_info *vq, struct vq_chain *chain, int n_iov)
{
	return pop_next(vq, chain, n_iov, true);
}

/* What the ring has in its place may be a used entry by now. */
static const char *packed_pop_again(struct vqueue_info *vq, struct vq_chain *chain, int n_iov,
				    const struct vring_packed_desc *copies, unsigned int count)
{
	const char *wrong = NULL;

	chain->descs = (uint16_t)count;
	if (count == 1 && copies->flags & VRING_DESC_F_INDIRECT)
		return pop_indirect(vq, chain, n_iov, copies);
	for (unsigned int i = 0; i < count && !wrong; i++) {
		if (copies[i].flags & VRING_DESC_F_INDIRECT)
			return "indirect descriptor in a list (2.8.19)";
		wrong = vq_chain_add(vq, chain, n_iov, copies[i].addr, copies[i].len,
				     copies[i].flags & VRING_DESC_F_WRITE);
	}
	return wrong;
}

/* The device has the chain @idx no more. */
static uint16_t slot_free(struct vqueue_info *vq, uint16_t idx)
{
	uint16_t descs = vq->slots[idx].descs;

	if (vq->free_count < vq->size)
		vq->free_slots[vq->free_count++] = idx;
	vq->descs_in_use = (uint16_t)(vq->descs_in_use - MIN(descs, vq->descs_in_use));
	return descs;
}

static void packed_unpop(struct vqueue_info *vq, uint16_t idx)
{
	uint16_t descs = slot_free(vq, idx);

	if (vq->last_avail < descs) {
		vq->last_avail = (uint16_t)(vq->last_avail + vq->size);
		vq->avail_wrap = !vq->avail_wrap;
	}
	vq->last_avail = (uint16_t)(vq->last_avail - descs);
}

/*
 * virtio 1.4, 2.8.8. The driver sees nothing of a batch before the flags of its first entry are
 * there, and those are written by packed_publish().
 */
static void packed_push(struct vqueue_info *vq, uint16_t idx, uint32_t len)
{
	struct vring_packed_desc *desc = &packed_ring(vq)[vq->used_idx];
	uint16_t flags = (uint16_t)((vq->used_wrap ? DESC_F_AVAIL | DESC_F_USED : 0) |
				    (len ? VRING_DESC_F_WRITE : 0));

	desc->id = vq->slots[idx].id;
	desc->len = len;
	if (vq->batch_descs)
		__atomic_store_n(&desc->flags, flags, __ATOMIC_RELEASE);
	else
		vq->batch_flags = flags;
	vq->batch_descs += vq->slots[idx].descs;
	advance(vq, &vq->used_idx, &vq->used_wrap, slot_free(vq, idx));
}

/* virtio 1.4, 2.8.10 */
static bool driver_wants_event(const struct vqueue_info *vq, uint16_t new, uint16_t old)
{
	uint32_t event = __atomic_load_n((const uint32_t *)vq->driver_area, __ATOMIC_RELAXED);
	uint16_t flags = (event >> 16) & 3;
	uint16_t offset = event & (EVENT_WRAP - 1);

	if (flags != VRING_PACKED_EVENT_FLAG_DESC || !vq->event_idx)
		return flags != VRING_PACKED_EVENT_FLAG_DISABLE;
	if (!!(event & EVENT_WRAP) != vq->used_wrap)
		offset = (uint16_t)(offset - vq->size);
	return (uint16_t)(new - offset - 1) < (uint16_t)(new - old);
}

static bool packed_publish(struct vqueue_info *vq, bool used_all)
{
	uint32_t descs = vq->batch_descs;

	if (!descs)
		return false;
	__atomic_store_n(&packed_ring(vq)[vq->published].flags, vq->batch_flags, __ATOMIC_RELEASE);
	vq->published = vq->used_idx;
	vq->batch_descs = 0;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return driver_wants_event(vq, vq->used_idx, (uint16_t)(vq->used_idx - descs));
}

/*
 * Entries behind the first of a batch say "used" before the driver is to see them. Of a batch that
 * was never shown they say it still, and would be believed once the entry before them is used.
 */
static void used_entries_take_back(struct vqueue_info *vq, uint16_t position, bool wrap,
				   uint32_t count)
{
	for (; count; count--) {
		uint16_t *flags = &packed_ring(vq)[position].flags;
		uint16_t value = __atomic_load_n(flags, __ATOMIC_RELAXED);

		if (!!(value & DESC_F_USED) == wrap) {
			value &= (uint16_t) ~(DESC_F_AVAIL | DESC_F_USED);
			value |= (uint16_t)(wrap ? DESC_F_AVAIL : DESC_F_USED);
			__atomic_store_n(flags, value, __ATOMIC_RELEASE);
		}
		advance(vq, &position, &wrap, 1);
	}
}

static int packed_go_on(struct vqueue_info *vq, uint16_t used_idx, bool used_wrap, uint32_t taken)
{
	if (used_idx >= vq->size || taken > vq->size)
		return -EBADMSG;
	used_entries_take_back(vq, used_idx, used_wrap, taken);
	vq->used_idx = vq->published = vq->last_avail = used_idx;
	vq->used_wrap = vq->avail_wrap = used_wrap;
	vq->batch_descs = 0;
	advance(vq, &vq->last_avail, &vq->avail_wrap, (uint16_t)taken);
	return 0;
}

const struct vq_ops vq_packed_ops = {
	.name = "packed",
	.enable = packed_enable,
	.has_descs = packed_has_descs,
	.has_new = packed_has_new,
	.set_polled = packed_set_polled,
	.pop = packed_pop,
	.unpop = packed_unpop,
	.push = packed_push,
	.publish = packed_publish,
	.go_on = packed_go_on,
	.pop_recorded = packed_pop_recorded,
	.pop_again = packed_pop_again,
};
