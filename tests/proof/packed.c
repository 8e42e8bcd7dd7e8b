/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packed rings, by induction: a queue as enabled by the driver, in any state that its operations
 * can have led to, one more operation, and again such a state. So it holds after any number.
 */
#include "shared_memory.h"

#include "../../devicemodel/hw/pci/virtio/vq_packed.c"

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

/*
 * The state of a queue in use: positions lie in the ring; a chain that the device has has a number
 * that is not free, and takes at least one descriptor; all of them together take those in use.
 */
static bool state_valid(const struct world *world)
{
	const struct vqueue_info *vq = &world->vq;
	bool is_free[SIZE] = { false };
	unsigned int descs = 0;

	if (vq->last_avail >= SIZE || vq->used_idx >= SIZE || vq->published >= SIZE ||
	    vq->free_count > SIZE)
		return false;
	for (unsigned int i = 0; i < SIZE; i++) {
		if (i >= vq->free_count)
			continue;
		if (world->free_slots[i] >= SIZE || is_free[world->free_slots[i]])
			return false;
		is_free[world->free_slots[i]] = true;
	}
	for (unsigned int i = 0; i < SIZE; i++) {
		if (is_free[i])
			continue;
		if (!world->slots[i].descs || world->slots[i].descs > SIZE)
			return false;
		descs += world->slots[i].descs;
	}
	return descs == vq->descs_in_use && descs <= SIZE;
}

static bool number_is_free(const struct world *world, uint16_t idx)
{
	for (unsigned int i = 0; i < SIZE; i++)
		if (i < world->vq.free_count && world->free_slots[i] == idx)
			return true;
	return false;
}

static bool any_packed(struct world *world)
{
	struct vqueue_info *vq = &world->vq;

	if (!world_create(world, &vq_packed_ops))
		return false;
	prove(state_valid(world), "the state of a fresh queue is valid");
	vq->last_avail = nondet_u16();
	vq->used_idx = nondet_u16();
	vq->published = nondet_u16();
	vq->avail_wrap = nondet_bool();
	vq->used_wrap = nondet_bool();
	vq->kicks_armed = nondet_bool();
	vq->descs_in_use = nondet_u16();
	vq->free_count = nondet_u16();
	vq->batch_descs = nondet_u32();
	vq->batch_flags = nondet_u16();
	for (unsigned int i = 0; i < SIZE; i++) {
		world->free_slots[i] = nondet_u16();
		world->slots[i].descs = nondet_u16();
		world->slots[i].id = nondet_u16();
	}
	assume(state_valid(world));
	return true;
}

/* A position and its wrap counter as one number: twice around the ring (virtio 1.4, 2.8.1). */
static unsigned int place(uint16_t position, bool wrap)
{
	return position + (wrap ? 0 : SIZE);
}

static unsigned int place_after(uint16_t position, bool wrap, unsigned int by)
{
	return (place(position, wrap) + by) % (2 * SIZE);
}

void proof_has_descs(void)
{
	struct world world = { 0 };

	if (!any_packed(&world))
		return;
	if (vq_packed_ops.has_descs(&world.vq))
		prove(!world.vq.kicks_armed, "kicks are off while there is work");
	else
		prove(world.vq.kicks_armed, "kicks are on when there is none");
	prove(state_valid(&world), "the state is valid");
}

void proof_pop(void)
{
	struct world world = { 0 };
	struct vq_chain chain = { 0 };
	struct vqueue_info before;
	unsigned int descs;

	if (!any_packed(&world))
		return;
	before = world.vq;
	chain.idx = SIZE;
	if (vq_packed_ops.pop(&world.vq, &chain, world.n_iov)) {
		prove(world.vq.last_avail == before.last_avail &&
			      world.vq.avail_wrap == before.avail_wrap &&
			      world.vq.descs_in_use == before.descs_in_use &&
			      world.vq.free_count == before.free_count,
		      "nothing was taken");
		return;
	}
	prove(chain.idx < SIZE, "the chain has a valid number");
	prove(!number_is_free(&world, chain.idx), "and no other chain has it");
	prove(state_valid(&world), "the state is valid");
	prove(added <= SIZE + TABLE_MAX, "no descriptor is looked at twice");
	descs = world.slots[chain.idx].descs;
	prove(place(world.vq.last_avail, world.vq.avail_wrap) ==
		      place_after(before.last_avail, before.avail_wrap, descs),
	      "the next chain begins where this one ends");

	vq_packed_ops.unpop(&world.vq, chain.idx);
	prove(world.vq.last_avail == before.last_avail &&
		      world.vq.avail_wrap == before.avail_wrap &&
		      world.vq.descs_in_use == before.descs_in_use &&
		      world.vq.free_count == before.free_count,
	      "a chain that is put back was never taken");
	prove(state_valid(&world), "the state is valid");
}

void proof_push(void)
{
	struct world world = { 0 };
	uint16_t idx = nondet_u16(), id;
	uint32_t len = nondet_u32();
	const struct vring_packed_desc *desc;
	struct vqueue_info before;
	unsigned int descs;

	if (!any_packed(&world))
		return;
	assume(idx < SIZE && !number_is_free(&world, idx)); /* a chain that the device has */
	before = world.vq;
	id = world.slots[idx].id;
	descs = world.slots[idx].descs;
	vq_packed_ops.push(&world.vq, idx, len);
	desc = &packed_ring(&world.vq)[before.used_idx];
	prove(desc->id == id && desc->len == len, "the entry is in its place (2.8.8)");
	prove(place(world.vq.used_idx, world.vq.used_wrap) ==
		      place_after(before.used_idx, before.used_wrap, descs),
	      "the next entry comes behind the chain's descriptors (2.8.8)");
	prove(world.vq.batch_descs == before.batch_descs + descs, "the batch is longer");
	prove(number_is_free(&world, idx), "the number is free");
	prove(state_valid(&world), "the state is valid");
}

/* The entries of a batch lie between what was published and what comes next. */
void proof_publish(void)
{
	struct world world = { 0 };
	struct vqueue_info before;

	if (!any_packed(&world))
		return;
	before = world.vq;
	if (!before.batch_descs) {
		prove(!vq_packed_ops.publish(&world.vq, nondet_bool()), "nothing new");
		return;
	}
	(void)vq_packed_ops.publish(&world.vq, nondet_bool());
	prove(packed_ring(&world.vq)[before.published].flags == before.batch_flags,
	      "the flags of the first entry show the batch (2.8.8)");
	prove(world.vq.published == before.used_idx && !world.vq.batch_descs, "all is published");
	prove(state_valid(&world), "the state is valid");
}

/* Notify if the place that the driver named is one of those just used (2.8.10, 2.8.14). */
void proof_event(void)
{
	struct vqueue_info vq = { .size = SIZE, .event_idx = true };
	uint32_t driver_event;
	uint16_t new = nondet_u16(), descs = nondet_u16();
	uint16_t offset = nondet_u16();
	bool wrap = nondet_bool();
	unsigned int old, distance;

	assume(new < SIZE &&descs >= 1 && descs <= SIZE &&offset < SIZE);
	vq.used_wrap = nondet_bool();
	vq.driver_area = &driver_event;
	shared_fixed = offset | (wrap ? EVENT_WRAP : 0) | VRING_PACKED_EVENT_FLAG_DESC << 16;
	shared_is_fixed = true;
	old = (place(new, vq.used_wrap) + 2 * SIZE - descs) % (2 * SIZE);
	distance = (place(offset, wrap) + 2 * SIZE - old) % (2 * SIZE);
	prove(driver_wants_event(&vq, new, (uint16_t)(new - descs)) == (distance < descs),
	      "the driver is notified of the entry that it named, and of no other");
}
