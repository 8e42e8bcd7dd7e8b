/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Split virtqueues (virtio 1.4, 2.7). Everything in the rings can change under our hands: each
 * field is read once into host memory, and only that copy is checked and used.
 */
#include <errno.h>

#include "virtio_transport.h"

#define DESC_ALIGN 16
#define AVAIL_ALIGN 2
#define USED_ALIGN 4

static struct vring_avail *avail_ring(const struct vqueue_info *vq)
{
	return vq->driver_area;
}

static struct vring_used *used_ring(const struct vqueue_info *vq)
{
	return vq->device_area;
}

/* Fields behind the rings that EVENT_IDX uses (virtio 1.4, 2.7.7 and 2.7.10). */
static uint16_t *used_event(const struct vqueue_info *vq)
{
	return &avail_ring(vq)->ring[vq->size];
}

static uint16_t *avail_event(const struct vqueue_info *vq)
{
	return (uint16_t *)&used_ring(vq)->ring[vq->size];
}

static int split_enable(struct vqueue_info *vq)
{
	uint64_t size = vq->size;

	if (!is_power_of_2(size) || size > vq->size_max)
		return -EINVAL;
	if (vq->desc_addr % DESC_ALIGN || vq->driver_addr % AVAIL_ALIGN ||
	    vq->device_addr % USED_ALIGN)
		return -EINVAL;
	vq->desc = vq_map(vq, vq->desc_addr, sizeof(struct vring_desc) * size, false);
	vq->driver_area = vq_map(vq, vq->driver_addr, 6 + 2 * size, false);
	vq->device_area = vq_map(vq, vq->device_addr, 6 + 8 * size, true);
	if (!vq->desc || !vq->driver_area || !vq->device_area)
		return -EFAULT;
	vq->last_avail = vq->avail_shadow = 0;
	vq->used_idx = vq->published = 0;
	vq->kicks_armed = true;
	vq->armed_at = 0;
	return 0;
}

/* Look at the driver's index; true if there is something new. */
static bool avail_refresh(struct vqueue_info *vq)
{
	uint16_t idx = __atomic_load_n(&avail_ring(vq)->idx, __ATOMIC_ACQUIRE);

	if ((uint16_t)(idx - vq->last_avail) > vq->size) {
		virtio_device_error(vq->vc, vq,
				    "available index %u is more than %u ahead of %u (2.7.6)", idx,
				    vq->size, vq->last_avail);
		return false;
	}
	vq->avail_shadow = idx;
	return idx != vq->last_avail;
}

/* Ask for a kick with the buffer at @at (virtio 1.4, 2.7.10). */
static void kicks_want(const struct vqueue_info *vq, uint16_t at)
{
	if (vq->event_idx)
		__atomic_store_n(avail_event(vq), at, __ATOMIC_RELAXED);
	else
		__atomic_store_n(&used_ring(vq)->flags, 0, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* While there are buffers to work on, kicks only cost: the next look finds them anyway. */
static void kicks_disarm(struct vqueue_info *vq)
{
	vq->kicks_armed = false;
	if (!vq->event_idx && !vq->polled)
		__atomic_store_n(&used_ring(vq)->flags, VRING_USED_F_NO_NOTIFY, __ATOMIC_RELAXED);
}

/* Hear of the next buffer; the caller looks again afterwards. */
static void kicks_arm(struct vqueue_info *vq)
{
	vq->kicks_armed = true;
	vq->told = false;
	vq->armed_at = vq->last_avail;
	if (!vq->polled)
		kicks_want(vq, vq->armed_at);
}

static bool split_has_new(const struct vqueue_info *vq)
{
	return __atomic_load_n(&avail_ring(vq)->idx, __ATOMIC_ACQUIRE) != vq->armed_at;
}

/* With EVENT_IDX a kick that is asked for behind the next buffer comes once in 65,536. */
static void split_set_polled(struct vqueue_info *vq)
{
	if (!vq->kicks_armed)
		return;
	if (!vq->polled)
		kicks_want(vq, vq->armed_at);
	else if (vq->event_idx)
		__atomic_store_n(avail_event(vq), (uint16_t)(vq->armed_at - 1), __ATOMIC_RELAXED);
	else
		__atomic_store_n(&used_ring(vq)->flags, VRING_USED_F_NO_NOTIFY, __ATOMIC_RELAXED);
}

static bool split_has_descs(struct vqueue_info *vq)
{
	if (vq->avail_shadow == vq->last_avail && !avail_refresh(vq)) {
		if (vq->broken)
			return false;
		kicks_arm(vq);
		if (!avail_refresh(vq))
			return false;
	}
	if (vq->kicks_armed)
		kicks_disarm(vq);
	return true;
}

/* One descriptor, read once; what the driver changes later is not seen. */
static struct vring_desc desc_read(const void *table, unsigned int index)
{
	struct vring_desc desc;

	memcpy(&desc, (const char *)table + index * sizeof(desc), sizeof(desc));
	__asm__ volatile("" : "+m"(desc) : : "memory");
	return desc;
}

/*
 * A walk along one chain: the table it is in, how many more descriptors it may have, and what is
 * wrong when it has more.
 */
struct walk {
	struct vqueue_info *vq;
	struct vq_chain *chain;
	int n_iov;
	const void *table;
	unsigned int table_len;
	unsigned int budget;
	const char *over_budget;
	bool in_indirect;
};

/* Empty descriptors count too: they take no iovec, but a long table of them takes time. */
static void walk_enter(struct walk *walk, const void *table, unsigned int len)
{
	int used = walk->chain->out_count + walk->chain->in_count;
	unsigned int room = (unsigned int)(walk->n_iov - used);

	walk->table = table;
	walk->table_len = len;
	walk->budget = MIN(len, room);
	walk->over_budget =
		len <= room ? "descriptor chain loops or is too long (2.7.5.2)" : VQ_TOO_LONG;
}

/* virtio 1.4, 2.7.5.3 */
static const char *walk_indirect(struct walk *walk, const struct vring_desc *desc)
{
	const void *table;

	if (!walk->vq->indirect)
		return "indirect descriptor without VIRTIO_F_INDIRECT_DESC (2.7.5.3.1)";
	if (walk->in_indirect)
		return "indirect descriptor in an indirect table (2.7.5.3.1)";
	if (desc->flags & VRING_DESC_F_NEXT)
		return "INDIRECT and NEXT in one descriptor (2.7.5.3.1)";
	if (!desc->len || desc->len % sizeof(*desc))
		return "length of an indirect table is no multiple of 16 (2.7.5.3)";
	table = vq_map(walk->vq, desc->addr, desc->len, false);
	if (!table)
		return "indirect table is not in RAM (2.7.5.3)";
	walk_enter(walk, table, desc->len / sizeof(*desc));
	walk->in_indirect = true;
	return NULL;
}

/* Follow the chain from @index; NULL, or the rule that was broken. */
static const char *walk_chain(struct walk *walk, unsigned int index)
{
	for (;;) {
		struct vring_desc desc = desc_read(walk->table, index);
		const char *wrong;

		walk->chain->descs += !walk->in_indirect;
		if (desc.flags & VRING_DESC_F_INDIRECT) {
			wrong = walk_indirect(walk, &desc);
			if (wrong)
				return wrong;
			index = 0;
			continue;
		}
		if (!walk->budget--)
			return walk->over_budget;
		wrong = vq_chain_add(walk->vq, walk->chain, walk->n_iov, desc.addr, desc.len,
				     desc.flags & VRING_DESC_F_WRITE);
		if (wrong)
			return wrong;
		if (!(desc.flags & VRING_DESC_F_NEXT))
			return NULL;
		if (desc.next >= walk->table_len)
			return "next descriptor lies outside of the table (2.7.5)";
		index = desc.next;
	}
}

static const char *split_pop(struct vqueue_info *vq, struct vq_chain *chain, int n_iov)
{
	struct walk walk = { .vq = vq, .chain = chain, .n_iov = n_iov };
	const char *wrong;

	walk_enter(&walk, vq->desc, vq->size);
	chain->idx = __atomic_load_n(&avail_ring(vq)->ring[vq->last_avail & (vq->size - 1)],
				     __ATOMIC_RELAXED);
	if (chain->idx >= vq->size)
		return "available entry is no descriptor of the table (2.7.6)";
	wrong = walk_chain(&walk, chain->idx);
	if (!wrong)
		vq->last_avail++;
	return wrong;
}

static const char *split_pop_again(struct vqueue_info *vq, struct vq_chain *chain, int n_iov,
				   const struct vring_packed_desc *copies, unsigned int count)
{
	struct walk walk = { .vq = vq, .chain = chain, .n_iov = n_iov };

	walk_enter(&walk, vq->desc, vq->size);
	return walk_chain(&walk, chain->idx);
}

static void split_unpop(struct vqueue_info *vq, uint16_t idx)
{
	vq->last_avail--;
}

static void split_push(struct vqueue_info *vq, uint16_t idx, uint32_t len)
{
	struct vring_used_elem *elem = &used_ring(vq)->ring[vq->used_idx & (vq->size - 1)];

	elem->id = idx;
	elem->len = len;
	vq->used_idx++;
}

/* virtio 1.4, 2.7.7.2 and 2.7.8.2 */
static bool split_publish(struct vqueue_info *vq, bool used_all)
{
	uint16_t old = vq->published, new = vq->used_idx;

	if (old == new)
		return false;
	__atomic_store_n(&used_ring(vq)->idx, new, __ATOMIC_RELEASE);
	vq->published = new;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);

	if (vq->notify_on_empty && used_all &&
	    __atomic_load_n(&avail_ring(vq)->idx, __ATOMIC_RELAXED) == vq->last_avail)
		return true;
	if (vq->event_idx) {
		uint16_t event = __atomic_load_n(used_event(vq), __ATOMIC_RELAXED);

		return (uint16_t)(new - event - 1) < (uint16_t)(new - old);
	}
	return !(__atomic_load_n(&avail_ring(vq)->flags, __ATOMIC_RELAXED) &
		 VRING_AVAIL_F_NO_INTERRUPT);
}

/*
 * Somebody else ran the ring, and left its notifications as it liked. Kicks are asked for again;
 * what came before that is found by the look that follows. Whether the driver was told of what is
 * used was decided by who used it.
 */
static bool split_take_back(struct vqueue_info *vq, uint16_t last_avail)
{
	uint16_t used = __atomic_load_n(&used_ring(vq)->idx, __ATOMIC_ACQUIRE);

	vq->last_avail = vq->avail_shadow = last_avail;
	vq->used_idx = vq->published = used;
	if (vq->event_idx) /* 2.7.10.2 */
		__atomic_store_n(&used_ring(vq)->flags, 0, __ATOMIC_RELAXED);
	kicks_arm(vq);
	return used == last_avail;
}

static int split_go_on(struct vqueue_info *vq, uint16_t used_idx, bool used_wrap, uint32_t taken)
{
	uint16_t last_avail = (uint16_t)(used_idx + taken);
	uint16_t avail = __atomic_load_n(&avail_ring(vq)->idx, __ATOMIC_ACQUIRE);

	if (taken > vq->size || (uint16_t)(avail - used_idx) > vq->size ||
	    (uint16_t)(avail - used_idx) < taken)
		return -EBADMSG;
	vq->last_avail = vq->avail_shadow = last_avail;
	vq->used_idx = vq->published = used_idx;
	return 0;
}

const struct vq_ops vq_split_ops = {
	.name = "split",
	.enable = split_enable,
	.has_descs = split_has_descs,
	.has_new = split_has_new,
	.set_polled = split_set_polled,
	.pop = split_pop,
	.unpop = split_unpop,
	.push = split_push,
	.publish = split_publish,
	.take_back = split_take_back,
	.go_on = split_go_on,
	.pop_recorded = split_pop,
	.pop_again = split_pop_again,
};
