/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What all rings share, on a ring that gives any chains: iovecs, and the order of chains.
 */
#define IOV_MAX_PROOF 4

#include "shared_memory.h"

#undef memcpy
#include "../../devicemodel/hw/pci/virtio/vq.c"

static uint16_t pushed[SIZE + 1], popped_order[SIZE + 1];
static unsigned int push_count, pop_count;
static uint16_t unpopped, first_number;
static bool honest; /* the driver gives SIZE chains and breaks no rule */

static int any_enable(struct vqueue_info *vq)
{
	return 0;
}

static bool any_has_descs(struct vqueue_info *vq)
{
	return honest || nondet_bool();
}

/* Any chain that fits; each has another number. */
static const char *any_pop(struct vqueue_info *vq, struct vq_chain *chain, int n_iov)
{
	if (!honest && nondet_bool())
		return nondet_bool() ? VQ_TOO_LONG : "wrong";
	chain->out_count = nondet_int();
	chain->in_count = nondet_int();
	assume(chain->out_count >= 0 && chain->in_count >= 0 && chain->out_count <= n_iov &&
	       chain->in_count <= n_iov - chain->out_count);
	chain->idx = (uint16_t)((first_number + pop_count) % SIZE);
	if (pop_count < SIZE)
		popped_order[pop_count++] = chain->idx;
	return NULL;
}

static void any_unpop(struct vqueue_info *vq, uint16_t idx)
{
	prove(idx < SIZE, "what is put back has a valid number");
	unpopped = idx;
}

static void any_push(struct vqueue_info *vq, uint16_t idx, uint32_t len)
{
	prove(idx < SIZE, "what is used has a valid number");
	if (push_count < SIZE)
		pushed[push_count] = idx;
	push_count++;
}

static bool any_publish(struct vqueue_info *vq, bool used_all)
{
	return nondet_bool();
}

static const struct vq_ops any_ops = {
	.enable = any_enable,
	.has_descs = any_has_descs,
	.pop = any_pop,
	.unpop = any_unpop,
	.push = any_push,
	.publish = any_publish,
};

/* The device has no chain, after any number of them. */
static void any_vq(struct world *world)
{
	(void)world_create(world, &any_ops);
	world->vq.popped = world->vq.released = nondet_u32();
	assume(world->vq.released < SIZE);
	first_number = nondet_u16() % SIZE;
	for (unsigned int i = 0; i < SIZE; i++)
		world->order[i] = nondet_u16() % SIZE;
}

void proof_chain_add(void)
{
	struct world world = { 0 };
	struct vq_chain chain = { 0 };
	uint64_t addr = nondet_u64(), before;
	uint32_t len = nondet_u32();
	bool write = nondet_bool();

	any_vq(&world);
	chain.iov = world_iov(&world);
	chain.out_count = nondet_int();
	chain.in_count = nondet_int();
	chain.out_len = nondet_u64();
	chain.in_len = nondet_u64();
	assume(chain.out_count >= 0 && chain.in_count >= 0 && chain.out_count <= world.n_iov &&
	       chain.in_count <= world.n_iov - chain.out_count);
	assume(chain.out_len <= UINT32_MAX && chain.in_len <= UINT32_MAX - chain.out_len);
	before = chain.out_len + chain.in_len;
	if (vq_chain_add(&world.vq, &chain, world.n_iov, addr, len, write))
		return;
	prove(chain.out_count + chain.in_count <= world.n_iov, "no more iovecs than there are");
	prove(chain.out_len + chain.in_len == before + len, "no byte is lost");
	prove(chain.out_len + chain.in_len <= UINT32_MAX, "less than 4 GiB (2.7.5.2)");
}

/* Each chain has iovecs of its own, inside of those that there are. */
void proof_getchains(void)
{
	struct world world = { 0 };
	struct vq_chain chains[3];
	struct iovec *iov;
	int count;

	any_vq(&world);
	iov = world_iov(&world);
	count = vq_getchains(&world.vq, chains, 3, iov, world.n_iov);
	prove(count >= -1 && count <= 3, "no more chains than asked for");
	for (int i = 0; i < count && i < 3; i++) {
		prove(chains[i].iov == iov, "iovecs follow each other");
		iov += chains[i].out_count + chains[i].in_count;
	}
	if (count >= 0)
		prove(iov <= world.iov + IOV_MAX_PROOF, "and end where they end");
}

/* Take all chains that a ring can have, and put the last one back. */
static unsigned int take_all(struct world *world)
{
	struct vq_chain chain;

	for (unsigned int i = 0; i < SIZE; i++)
		if (vq_pop(&world->vq, &chain, world->iov, IOV_MAX_PROOF) == 1)
			prove(chain.idx == popped_order[pop_count - 1], "the chain's number");
	return pop_count;
}

void proof_retchain(void)
{
	struct world world = { 0 };

	any_vq(&world);
	if (!take_all(&world))
		return;
	vq_retchain(&world.vq);
	prove(unpopped == popped_order[pop_count - 1], "the last chain taken is put back");
}

/*
 * As many chains as the ring has entries, given back in any order, are used in that in which they
 * were taken (virtio 1.4, 2.9).
 */
void proof_in_order(void)
{
	struct world world = { 0 };
	bool given[SIZE] = { false };

	honest = true;
	any_vq(&world);
	world.vq.in_order = true;
	prove(take_all(&world) == SIZE, "all chains are taken");
	for (unsigned int i = 0; i < SIZE; i++) {
		unsigned int which = nondet_u8();

		assume(which < SIZE && !given[which]);
		given[which] = true;
		vq_relchain(&world.vq, popped_order[which], nondet_u32());
	}
	prove(push_count == SIZE, "each is used once");
	for (unsigned int i = 0; i < SIZE; i++)
		prove(pushed[i] == popped_order[i], "in order");
	prove(world.vq.popped == world.vq.released, "the device has none");
	prove(world.vq.released < SIZE, "where the counts wrap around does not matter");
}

/* Whatever the counts and marks are: a guest cannot make it go on for ever. */
void proof_in_order_ends(void)
{
	struct world world = { 0 };

	any_vq(&world);
	world.vq.in_order = true;
	world.vq.popped = nondet_u32();
	world.vq.released = nondet_u32();
	for (unsigned int i = 0; i < SIZE; i++)
		world.slots[i].done = nondet_bool();
	vq_relchain(&world.vq, nondet_u16(), nondet_u32());
	prove(push_count <= SIZE, "at most all chains are used at once");
}
