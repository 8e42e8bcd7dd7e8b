/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shared_memory.h: the world of a ring for cbmc, to be included before the ring's own file. Guest
 * memory holds anything and changes at any time: each read of it gives an arbitrary value, after
 * the proof that it lies inside of what was mapped. What is written is proven to lie there by
 * cbmc's own pointer checks, as every area is an object that ends where the mapping ends.
 */
#ifndef TENON_TESTS_PROOF_SHARED_MEMORY_H
#define TENON_TESTS_PROOF_SHARED_MEMORY_H

#include <errno.h>
#include <stdlib.h>

#include "virtio_transport.h"

#ifndef SIZE
#error "-DSIZE=: entries of the ring"
#endif
#define TABLE_MAX 8 /* entries of an indirect table: what is longer is not in RAM here */
#define AREA_MAX (16 * MAX(SIZE, TABLE_MAX)) /* bytes of the largest area */
#ifndef IOV_MAX_PROOF
#define IOV_MAX_PROOF (SIZE + TABLE_MAX) /* iovecs that a device has */
#endif

/* Functions without a body return anything. */
bool nondet_bool(void);
uint8_t nondet_u8(void);
uint16_t nondet_u16(void);
uint32_t nondet_u32(void);
uint64_t nondet_u64(void);
int nondet_int(void);
struct vring_desc nondet_desc(void);

#define prove(condition, text) __CPROVER_assert(condition, text)
#define assume(condition) __CPROVER_assume(condition)

/* ---- Reads of guest memory: the ring files have no others than these two ---- */

static inline void prove_readable(const void *from, size_t len)
{
	prove(__CPROVER_r_ok(from, len), "guest memory is read inside of what was mapped");
}

/* For a proof about one value: what is read is this. */
static bool shared_is_fixed;
static uint64_t shared_fixed;

static inline uint64_t shared_load(const void *from, size_t len)
{
	prove_readable(from, len);
	return shared_is_fixed ? shared_fixed : nondet_u64();
}

#define __atomic_load_n(from, order) ((__typeof__(*(from) + 0))shared_load(from, sizeof(*(from))))

/* Descriptors of both formats have 16 bytes. */
static inline void shared_copy(void *to, const void *from, size_t len)
{
	prove_readable(from, len);
	prove(len == sizeof(struct vring_desc), "a descriptor is read whole");
	*(struct vring_desc *)to = nondet_desc();
}

#define memcpy(to, from, len) shared_copy(to, from, len)

#define __atomic_store_n(to, value, order) (*(to) = (value))
#define __atomic_thread_fence(order) ((void)0)

/* ---- What a ring calls: as their headers promise ---- */

/* NULL, or the address of @len bytes, behind which nothing may be touched. */
void *guest_memory_host(const struct guest_memory *memory, uint64_t gpa, uint64_t len)
{
	uint8_t *area;

	if (len > AREA_MAX || nondet_bool())
		return NULL;
	area = malloc(AREA_MAX);
	assume(area != NULL);
	return area + (AREA_MAX - len);
}

/* -EFAULT, -EMSGSIZE, or how many of @max were filled; none only for no bytes. */
int guest_memory_iov(const struct guest_memory *memory, uint64_t gpa, uint64_t len,
		     struct iovec *iov, int max)
{
	int count = nondet_int();

	prove(max >= 0, "the number of iovecs left is not negative");
	if (count == -EFAULT || count == -EMSGSIZE)
		return count;
	assume(count >= 0 && count <= 2 && (count > 0) == (len > 0));
	if (count > max)
		return -EMSGSIZE;
	for (int i = 0; i < count; i++)
		iov[i].iov_len = nondet_u64();
	return count;
}

void virtio_device_error(struct virtio_common *vc, struct vqueue_info *vq, const char *fmt, ...)
{
	prove(vq == &vc->vqs[0], "the broken queue is named");
	vq->broken = true;
	vc->running = false;
}

static unsigned int notified;

static inline void notify_queue(struct virtio_common *vc, struct vqueue_info *vq)
{
	notified++;
}

/* ---- A queue ---- */

struct world {
	struct virtio_common vc;
	struct virtio_transport_ops transport;
	struct vqueue_info vq;
	struct vq_slot slots[SIZE];
	uint16_t order[SIZE];
	uint16_t free_slots[SIZE];
	struct iovec iov[IOV_MAX_PROOF];
	int n_iov;
};

/* Enabled by @ops with addresses and features that the driver chose: false if it was refused. */
static inline bool world_create(struct world *world, const struct vq_ops *ops)
{
	struct vqueue_info *vq = &world->vq;

	world->transport.notify_queue = notify_queue;
	world->vc.transport = &world->transport;
	world->vc.vqs = vq;
	world->vc.nvq = 1;
	world->vc.running = true;
	world->n_iov = nondet_int();
	assume(world->n_iov >= 0 && world->n_iov <= IOV_MAX_PROOF);
	vq->vc = &world->vc;
	vq->slots = world->slots;
	vq->order = world->order;
	vq->free_slots = world->free_slots;
	vq->size = vq->size_max = SIZE;
	vq->ops = ops;
	vq->desc_addr = nondet_u64();
	vq->driver_addr = nondet_u64();
	vq->device_addr = nondet_u64();
	vq->event_idx = nondet_bool();
	vq->indirect = nondet_bool();
	vq->in_order = nondet_bool();
	vq->notify_on_empty = nondet_bool();
	if (ops->enable(vq))
		return false;
	vq->enabled = true;
	return true;
}

/* An array of iovecs of which exactly n_iov exist. */
static inline struct iovec *world_iov(struct world *world)
{
	return world->iov + (IOV_MAX_PROOF - world->n_iov);
}

/* virtio 1.4, 2.7.10: vring_need_event() */
static inline bool need_event(uint16_t event, uint16_t new, uint16_t old)
{
	return (uint16_t)(new - event - 1) < (uint16_t)(new - old);
}

#endif
