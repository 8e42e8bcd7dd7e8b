/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Split rings, by induction: a queue as enabled by the driver, its indices set to any values, one
 * operation, and what must hold then. So it holds after any number of them.
 */
#include "shared_memory.h"

#include "../../devicemodel/hw/pci/virtio/vq_split.c"

/* vq.c is proven in its own file: here, what split rings need of it. */
void *vq_map(struct vqueue_info *vq, uint64_t addr, uint64_t len, bool write)
{
	return guest_memory_host(vq->vc->memory, addr, len);
}

const char VQ_TOO_LONG[] = "too long";

static unsigned int added;

/* What it does to the iovecs is vq.c's affair: a refusal, or the chain is longer. */
const char *vq_chain_add(struct vqueue_info *vq, struct vq_chain *chain, int n_iov, uint64_t addr,
			 uint32_t len, bool write)
{
	added++;
	return nondet_bool() ? "refused" : NULL;
}

/* Nothing is known of the indices of a queue in use: each is used masked, or compared. */
static bool any_split(struct world *world)
{
	if (!world_create(world, &vq_split_ops))
		return false;
	world->vq.last_avail = nondet_u16();
	world->vq.avail_shadow = nondet_u16();
	world->vq.used_idx = nondet_u16();
	world->vq.published = nondet_u16();
	world->vq.kicks_armed = nondet_bool();
	return true;
}

void proof_has_descs(void)
{
	struct world world = { 0 };
	uint16_t last;

	if (!any_split(&world))
		return;
	last = world.vq.last_avail;
	if (vq_split_ops.has_descs(&world.vq)) {
		prove(world.vq.avail_shadow != world.vq.last_avail, "there is an entry to take");
		prove(!world.vq.broken, "a broken queue has none");
		prove(!world.vq.kicks_armed, "kicks are off while there is work");
	} else {
		prove(world.vq.broken || world.vq.kicks_armed, "kicks are on when there is none");
	}
	prove(world.vq.last_avail == last, "looking takes nothing");
}

void proof_refresh(void)
{
	struct world world = { 0 };

	if (!any_split(&world))
		return;
	if (avail_refresh(&world.vq))
		prove((uint16_t)(world.vq.avail_shadow - world.vq.last_avail) <= SIZE &&
			      world.vq.avail_shadow != world.vq.last_avail,
		      "at most as many entries are available as the ring has (2.7.6)");
}

void proof_pop(void)
{
	struct world world = { 0 };
	struct vq_chain chain = { 0 };
	struct vqueue_info before;
	const char *wrong;

	if (!any_split(&world))
		return;
	before = world.vq;
	wrong = vq_split_ops.pop(&world.vq, &chain, world.n_iov);
	prove(added <= SIZE + TABLE_MAX, "no descriptor is looked at twice");
	if (wrong) {
		prove(world.vq.last_avail == before.last_avail, "nothing was taken");
		return;
	}
	prove(chain.idx < SIZE, "the chain has a valid number");
	prove(world.vq.last_avail == (uint16_t)(before.last_avail + 1), "one entry was taken");
	vq_split_ops.unpop(&world.vq, chain.idx);
	prove(world.vq.last_avail == before.last_avail, "and is put back");
}

void proof_push(void)
{
	struct world world = { 0 };
	uint16_t idx = nondet_u16(), used;
	uint32_t len = nondet_u32();
	const struct vring_used_elem *elem;

	if (!any_split(&world))
		return;
	used = world.vq.used_idx;
	vq_split_ops.push(&world.vq, idx, len);
	elem = &used_ring(&world.vq)->ring[used % SIZE];
	prove(elem->id == idx && elem->len == len, "the entry is in its place (2.7.8)");
	prove(world.vq.used_idx == (uint16_t)(used + 1), "one entry was used");
}

/* virtio 1.4, 2.7.7.2 and 2.7.10 */
void proof_publish(void)
{
	struct world world = { 0 };
	bool used_all = nondet_bool(), notify;
	uint16_t old, new, event = nondet_u16();

	if (!any_split(&world))
		return;
	old = world.vq.published;
	new = world.vq.used_idx;
	shared_fixed = event;
	shared_is_fixed = true;
	notify = vq_split_ops.publish(&world.vq, used_all);
	prove(world.vq.published == new, "all is published");
	if (new == old) {
		prove(!notify, "nothing new, no notification");
		return;
	}
	prove(used_ring(&world.vq)->idx == new, "the driver sees the index");
	if (world.vq.notify_on_empty && used_all)
		return;
	if (world.vq.event_idx)
		prove(notify == need_event(event, new, old), "as used_event asks for");
	else
		prove(notify == !(event & VRING_AVAIL_F_NO_INTERRUPT), "as the flags ask for");
}
