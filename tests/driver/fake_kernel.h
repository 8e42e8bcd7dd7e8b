/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fake_kernel.h: the kernel's vhost, played in this process behind ioctl(): it notes what it is told,
 * fails where it is asked to, and while a ring has a back end, a thread runs it: what a chain's
 * readable part holds comes back in its writable part, each byte one larger.
 *
 * Where the kernel is particular, so is this: calls before SET_OWNER are -EPERM; a ring with a back
 * end refuses NUM and BASE; the count in a kick's eventfd is never read, a kick that finds no back end
 * is gone, and setting a back end looks at no ring.
 */
#ifndef TENON_TESTS_FAKE_KERNEL_H
#define TENON_TESTS_FAKE_KERNEL_H

#include <errno.h>
#include <linux/vhost.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fake_ioctl.h"
#include "machine.h"
#include "virtio.h"

#define FAKE_VRINGS 4
#define FAKE_CALLS 8192 /* notes are kept of the first ones */
#define FAKE_REGIONS 8
#define FAKE_FEATURES                                                                              \
	(BIT64(VIRTIO_F_NOTIFY_ON_EMPTY) | BIT64(VIRTIO_RING_F_INDIRECT_DESC) |                    \
	 BIT64(VIRTIO_RING_F_EVENT_IDX) | BIT64(VHOST_F_LOG_ALL) | BIT64(VIRTIO_F_ANY_LAYOUT) |    \
	 BIT64(VIRTIO_F_VERSION_1))

/* struct fake_call - @index, @value: of the vring structs (num, fd), else the plain argument. */
struct fake_call {
	unsigned long request;
	unsigned int index;
	uint64_t value;
};

/* struct fake_vring - as struct vhost_virtqueue. @polled: its kick is in the epoll set */
struct fake_vring {
	unsigned int num;
	struct vhost_vring_addr addr;
	int kick, call, err;
	bool polled, backend;
	uint16_t last_avail, last_used, signalled, used_flags;
	bool signalled_valid;
	uint64_t chains;
};

/*
 * struct fake_vhost
 * @lock: protects all of it, and is held while a ring is worked on
 * @fail_at: that many calls from now one fails with @fail_with; 0: none
 * @no_busyloop: as a kernel that does not know it
 * @ignore_backend: a back end that is taken away stays
 * @touched_stopped: a ring without back end was worked on
 */
struct fake_vhost {
	int fd;
	pthread_mutex_t lock;
	pthread_t thread;
	int epoll_fd, stop_fd;
	uint64_t kernel_features, features;
	bool owned;
	unsigned int owners;
	struct vhost_memory_region regions[FAKE_REGIONS];
	unsigned int region_count;
	struct fake_vring vrings[FAKE_VRINGS];
	unsigned int fail_at;
	int fail_with;
	bool no_busyloop, ignore_backend;
	struct fake_call calls[FAKE_CALLS];
	unsigned int call_count;
};

static struct fake_vhost *fake_vhost; /* the one of the test that runs */

/* ---- A ring ---- */

static inline struct vring_desc *fake_table(const struct fake_vring *vring)
{
	return (struct vring_desc *)(uintptr_t)vring->addr.desc_user_addr;
}

static inline struct vring_avail *fake_avail(const struct fake_vring *vring)
{
	return (struct vring_avail *)(uintptr_t)vring->addr.avail_user_addr;
}

static inline struct vring_used *fake_used(const struct fake_vring *vring)
{
	return (struct vring_used *)(uintptr_t)vring->addr.used_user_addr;
}

static inline bool fake_has(const struct fake_vhost *fake, unsigned int bit)
{
	return fake->features & BIT64(bit);
}

static inline void *fake_host(const struct fake_vhost *fake, uint64_t gpa, uint64_t len)
{
	for (unsigned int i = 0; i < fake->region_count; i++) {
		const struct vhost_memory_region *region = &fake->regions[i];

		if (range_contains(region->guest_phys_addr, region->memory_size, gpa, len))
			return (uint8_t *)(uintptr_t)region->userspace_addr +
			       (gpa - region->guest_phys_addr);
	}
	return NULL;
}

static inline void fake_signal(int fd)
{
	uint64_t one = 1;

	if (fd >= 0 && write(fd, &one, sizeof(one)) < 0)
		abort();
}

struct fake_chain {
	struct iovec out[64], in[64];
	int out_count, in_count;
};

static inline bool fake_add(const struct fake_vhost *fake, struct fake_chain *chain,
			    const struct vring_desc *desc)
{
	bool write = desc->flags & VRING_DESC_F_WRITE;
	int *count = write ? &chain->in_count : &chain->out_count;
	void *host = fake_host(fake, desc->addr, desc->len);

	if (!host || *count == 64)
		return false;
	(write ? chain->in : chain->out)[(*count)++] = (struct iovec) { host, desc->len };
	return true;
}

static inline bool fake_walk(const struct fake_vhost *fake, struct fake_chain *chain,
			     const struct vring_desc *table, unsigned int size, unsigned int index)
{
	for (unsigned int i = 0; i < size && index < size; i++) {
		struct vring_desc desc = table[index];

		if (desc.flags & VRING_DESC_F_INDIRECT) {
			const struct vring_desc *inner = fake_host(fake, desc.addr, desc.len);

			return inner && fake_walk(fake, chain, inner, desc.len / sizeof(*inner), 0);
		}
		if (!fake_add(fake, chain, &desc))
			return false;
		if (!(desc.flags & VRING_DESC_F_NEXT))
			return true;
		index = desc.next;
	}
	return false;
}

static inline uint32_t fake_answer(const struct fake_chain *chain)
{
	uint64_t len = iov_length(chain->out, chain->out_count);
	uint64_t room = iov_length(chain->in, chain->in_count);
	uint8_t bytes[4096];

	len = MIN(len, room);
	len = MIN(len, sizeof(bytes));
	iov_to_buf(chain->out, chain->out_count, 0, bytes, len);
	for (uint64_t i = 0; i < len; i++)
		bytes[i]++;
	iov_from_buf(chain->in, chain->in_count, 0, bytes, len);
	return (uint32_t)len;
}

/* One chain: false if the ring is bad, and the kernel gives up on it. */
static inline bool fake_chain(struct fake_vhost *fake, struct fake_vring *vring)
{
	uint16_t head = __atomic_load_n(&fake_avail(vring)->ring[vring->last_avail % vring->num],
					__ATOMIC_RELAXED);
	struct vring_used_elem *used = &fake_used(vring)->ring[vring->last_used % vring->num];
	struct fake_chain chain = { .out_count = 0 };

	if (head >= vring->num || !fake_walk(fake, &chain, fake_table(vring), vring->num, head))
		return false;
	vring->last_avail++;
	*used = (struct vring_used_elem) { .id = head, .len = fake_answer(&chain) };
	vring->last_used++;
	vring->chains++;
	__atomic_store_n(&fake_used(vring)->idx, vring->last_used, __ATOMIC_RELEASE);
	return true;
}

/* vhost_notify() */
static inline bool fake_wants_signal(struct fake_vhost *fake, struct fake_vring *vring)
{
	uint16_t old = vring->signalled, new = vring->last_used, event;
	bool valid = vring->signalled_valid;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (fake_has(fake, VIRTIO_F_NOTIFY_ON_EMPTY) &&
	    __atomic_load_n(&fake_avail(vring)->idx, __ATOMIC_RELAXED) == vring->last_avail)
		return true;
	if (!fake_has(fake, VIRTIO_RING_F_EVENT_IDX))
		return !(__atomic_load_n(&fake_avail(vring)->flags, __ATOMIC_RELAXED) &
			 VRING_AVAIL_F_NO_INTERRUPT);
	vring->signalled = new;
	vring->signalled_valid = true;
	event = __atomic_load_n(&fake_avail(vring)->ring[vring->num], __ATOMIC_RELAXED);
	return !valid || (uint16_t)(new - event - 1) < (uint16_t)(new - old);
}

static inline void fake_disable_notify(struct fake_vhost *fake, struct fake_vring *vring)
{
	if (vring->used_flags & VRING_USED_F_NO_NOTIFY)
		return;
	vring->used_flags |= VRING_USED_F_NO_NOTIFY;
	if (!fake_has(fake, VIRTIO_RING_F_EVENT_IDX))
		__atomic_store_n(&fake_used(vring)->flags, vring->used_flags, __ATOMIC_RELAXED);
}

/* True: there is more. */
static inline bool fake_enable_notify(struct fake_vhost *fake, struct fake_vring *vring)
{
	uint16_t *event = (uint16_t *)&fake_used(vring)->ring[vring->num];

	if (!(vring->used_flags & VRING_USED_F_NO_NOTIFY))
		return false;
	vring->used_flags &= (uint16_t)~VRING_USED_F_NO_NOTIFY;
	if (fake_has(fake, VIRTIO_RING_F_EVENT_IDX))
		__atomic_store_n(event, vring->last_avail, __ATOMIC_RELAXED);
	else
		__atomic_store_n(&fake_used(vring)->flags, vring->used_flags, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return __atomic_load_n(&fake_avail(vring)->idx, __ATOMIC_RELAXED) != vring->last_avail;
}

/* handle_kick */
static inline void fake_kick(struct fake_vhost *fake, struct fake_vring *vring)
{
	if (!vring->backend)
		return;
	fake_disable_notify(fake, vring);
	for (;;) {
		uint16_t avail = __atomic_load_n(&fake_avail(vring)->idx, __ATOMIC_ACQUIRE);

		if (avail == vring->last_avail) {
			if (!fake_enable_notify(fake, vring))
				return;
			fake_disable_notify(fake, vring);
			continue;
		}
		if ((uint16_t)(avail - vring->last_avail) > vring->num ||
		    !fake_chain(fake, vring)) {
			fake_signal(vring->err);
			return;
		}
		if (fake_wants_signal(fake, vring))
			fake_signal(vring->call);
	}
}

static inline void *fake_thread(void *arg)
{
	struct fake_vhost *fake = arg;

	for (;;) {
		struct epoll_event event;

		if (epoll_wait(fake->epoll_fd, &event, 1, -1) < 1)
			continue;
		if (event.data.u32 == FAKE_VRINGS)
			return NULL;
		pthread_mutex_lock(&fake->lock);
		fake_kick(fake, &fake->vrings[event.data.u32]);
		pthread_mutex_unlock(&fake->lock);
	}
}

/* ---- Calls ---- */

static inline struct fake_vring *fake_vring(struct fake_vhost *fake, const void *arg)
{
	unsigned int index = *(const unsigned int *)arg;

	return index < FAKE_VRINGS ? &fake->vrings[index] : NULL;
}

static inline void fake_unpoll(struct fake_vhost *fake, struct fake_vring *vring)
{
	if (vring->polled)
		epoll_ctl(fake->epoll_fd, EPOLL_CTL_DEL, vring->kick, NULL);
	vring->polled = false;
	if (vring->kick >= 0)
		close(vring->kick);
	vring->kick = -1;
}

static inline int fake_set_kick(struct fake_vhost *fake, struct fake_vring *vring, int fd)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET,
				     .data.u32 = (uint32_t)(vring - fake->vrings) };

	fake_unpoll(fake, vring);
	if (fd < 0)
		return 0;
	vring->kick = dup(fd); /* the kernel holds the file, not the number */
	vring->polled = !epoll_ctl(fake->epoll_fd, EPOLL_CTL_ADD, vring->kick, &event);
	return vring->polled ? 0 : -errno;
}

static inline int fake_set_file(int *held, int fd)
{
	if (*held >= 0)
		close(*held);
	*held = fd < 0 ? -1 : dup(fd);
	return 0;
}

/* vhost_vq_init_access() */
static inline int fake_set_backend(struct fake_vhost *fake, struct fake_vring *vring, bool on)
{
	vring->backend = on || (vring->backend && fake->ignore_backend);
	if (!on)
		return 0;
	if (!vring->addr.used_user_addr)
		return -EFAULT;
	__atomic_store_n(&fake_used(vring)->flags, vring->used_flags, __ATOMIC_RELAXED);
	vring->signalled_valid = false;
	vring->last_used = __atomic_load_n(&fake_used(vring)->idx, __ATOMIC_RELAXED);
	return 0;
}

static inline int fake_set_memory(struct fake_vhost *fake, const struct vhost_memory *memory)
{
	if (memory->padding || memory->nregions > FAKE_REGIONS)
		return -EOPNOTSUPP;
	memcpy(fake->regions, memory->regions, memory->nregions * sizeof(fake->regions[0]));
	fake->region_count = memory->nregions;
	return 0;
}

static inline void fake_clear(struct fake_vhost *fake)
{
	for (unsigned int i = 0; i < FAKE_VRINGS; i++) {
		struct fake_vring *vring = &fake->vrings[i];

		if (vring->kick >= 0 || vring->polled)
			fake_unpoll(fake, vring);
		fake_set_file(&vring->call, -1);
		fake_set_file(&vring->err, -1);
		*vring = (struct fake_vring) {
			.kick = -1, .call = -1, .err = -1, .chains = vring->chains
		};
	}
	fake->region_count = 0;
	fake->owned = false;
}

static inline int fake_vring_call(struct fake_vhost *fake, unsigned long request, void *arg)
{
	struct fake_vring *vring = fake_vring(fake, arg);
	struct vhost_vring_state *state = arg;
	const struct vhost_vring_file *file = arg;

	if (!vring)
		return -ENOBUFS;
	switch (request) {
	case VHOST_SET_VRING_NUM:
		if (!state->num || state->num > 0xffff || state->num & (state->num - 1))
			return -EINVAL;
		vring->num = state->num;
		return vring->backend ? -EBUSY : 0;
	case VHOST_SET_VRING_BASE:
		if (vring->backend)
			return -EBUSY;
		vring->last_avail = (uint16_t)state->num;
		return state->num > 0xffff ? -EINVAL : 0;
	case VHOST_GET_VRING_BASE:
		state->num = vring->last_avail;
		return 0;
	case VHOST_SET_VRING_ADDR:
		vring->addr = *(const struct vhost_vring_addr *)arg;
		return vring->addr.flags ? -EOPNOTSUPP : 0;
	case VHOST_SET_VRING_KICK:
		return fake_set_kick(fake, vring, file->fd);
	case VHOST_SET_VRING_CALL:
		return fake_set_file(&vring->call, file->fd);
	case VHOST_SET_VRING_ERR:
		return fake_set_file(&vring->err, file->fd);
	case VHOST_SET_VRING_BUSYLOOP_TIMEOUT:
		return fake->no_busyloop ? -ENOTTY : 0;
	case VHOST_NET_SET_BACKEND:
		return fake_set_backend(fake, vring, file->fd >= 0);
	}
	return -ENOTTY;
}

static inline int fake_device_call(struct fake_vhost *fake, unsigned long request, void *arg)
{
	switch (request) {
	case VHOST_GET_FEATURES:
		*(uint64_t *)arg = fake->kernel_features;
		return 0;
	case VHOST_SET_OWNER:
		if (fake->owned)
			return -EBUSY;
		fake->owned = true;
		fake->owners++;
		return 0;
	case VHOST_SET_FEATURES:
		fake->features = *(const uint64_t *)arg;
		return fake->features & ~fake->kernel_features ? -EOPNOTSUPP : 0;
	}
	if (!fake->owned)
		return -EPERM;
	if (request == VHOST_SET_MEM_TABLE)
		return fake_set_memory(fake, arg);
	if (request != VHOST_RESET_OWNER)
		return fake_vring_call(fake, request, arg);
	fake_clear(fake);
	return 0;
}

static inline void fake_note(struct fake_vhost *fake, unsigned long request, const void *arg)
{
	struct fake_call call = { .request = request };
	const struct vhost_vring_state *state = arg;

	if (request == VHOST_SET_FEATURES)
		call.value = *(const uint64_t *)arg;
	else if (request == VHOST_SET_VRING_ADDR)
		call.index = state->index;
	else if (arg && request != VHOST_GET_FEATURES && request != VHOST_SET_MEM_TABLE)
		call = (struct fake_call) { request, state->index, state->num };
	if (fake->call_count < FAKE_CALLS)
		fake->calls[fake->call_count] = call;
	fake->call_count++;
}

static inline int fake_ioctl(int fd, unsigned long request, void *arg)
{
	struct fake_vhost *fake = fake_vhost;
	int result;

	if (!fake || fd != fake->fd)
		return FAKE_NOT_OURS;
	pthread_mutex_lock(&fake->lock);
	fake_note(fake, request, arg);
	if (fake->fail_at && !--fake->fail_at)
		result = -fake->fail_with;
	else
		result = fake_device_call(fake, request, arg);
	pthread_mutex_unlock(&fake->lock);
	return result;
}

FAKE_IOCTL(fake_ioctl);

/* ---- For tests ---- */

static inline struct fake_vhost *fake_vhost_create(void)
{
	struct fake_vhost *fake = calloc(1, sizeof(*fake));
	struct epoll_event stop = { .events = EPOLLIN, .data.u32 = FAKE_VRINGS };

	assert_non_null(fake);
	fake->fd = eventfd(0, EFD_CLOEXEC);
	fake->stop_fd = eventfd(0, EFD_CLOEXEC);
	fake->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	fake->kernel_features = FAKE_FEATURES;
	pthread_mutex_init(&fake->lock, NULL);
	for (unsigned int i = 0; i < FAKE_VRINGS; i++)
		fake->vrings[i].kick = fake->vrings[i].call = fake->vrings[i].err = -1;
	assert_return_code(epoll_ctl(fake->epoll_fd, EPOLL_CTL_ADD, fake->stop_fd, &stop), errno);
	assert_int_equal(pthread_create(&fake->thread, NULL, fake_thread, fake), 0);
	fake_vhost = fake;
	return fake;
}

static inline void fake_vhost_destroy(struct fake_vhost *fake)
{
	fake_vhost = NULL;
	fake_signal(fake->stop_fd);
	pthread_join(fake->thread, NULL);
	fake_clear(fake);
	close(fake->fd);
	close(fake->stop_fd);
	close(fake->epoll_fd);
	pthread_mutex_destroy(&fake->lock);
	free(fake);
}

/* As if its descriptor was opened anew. */
static inline void fake_vhost_clear(struct fake_vhost *fake)
{
	pthread_mutex_lock(&fake->lock);
	fake_clear(fake);
	pthread_mutex_unlock(&fake->lock);
}

static inline void fake_vhost_forget_calls(struct fake_vhost *fake)
{
	pthread_mutex_lock(&fake->lock);
	fake->call_count = 0;
	pthread_mutex_unlock(&fake->lock);
}

static inline uint64_t fake_vhost_chains(struct fake_vhost *fake)
{
	uint64_t chains = 0;

	pthread_mutex_lock(&fake->lock);
	for (unsigned int i = 0; i < FAKE_VRINGS; i++)
		chains += fake->vrings[i].chains;
	pthread_mutex_unlock(&fake->lock);
	return chains;
}

/* Does it hold anything of a VM's: a back end, an eventfd? */
static inline bool fake_vhost_idle(struct fake_vhost *fake)
{
	bool idle = true;

	pthread_mutex_lock(&fake->lock);
	for (unsigned int i = 0; i < FAKE_VRINGS; i++) {
		const struct fake_vring *vring = &fake->vrings[i];

		idle &= !vring->backend && vring->kick < 0 && vring->call < 0 && vring->err < 0;
	}
	pthread_mutex_unlock(&fake->lock);
	return idle;
}

#endif
