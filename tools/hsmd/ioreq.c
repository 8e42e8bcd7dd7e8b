/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ioreq.c: I/O requests: a page of 16 slots in the client's memory, one a vCPU, and the calls that
 * wait for requests and finish them.
 *
 * A slot goes FREE -> PENDING -> PROCESSING -> COMPLETE -> FREE (<linux/acrn.h>). The page is the
 * client's private memory, which hsmd cannot map: it is read and written through /proc/PID/mem.
 * The system calls order the accesses, and states differ in their lowest byte only.
 */
#include "hsmd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PCI_ADDRESS_PORT 0xcf8
#define PCI_DATA_PORT 0xcfc
#define PCI_ADDRESS_ENABLE 0x80000000u

/* How long a vCPU looks at its slot before it sleeps between looks. */
#define POLL_SPINS 200
#define POLL_SLEEP_NS 50000

static uint64_t request_count; /* atomic */

uint64_t ioreq_requests(void)
{
	return __atomic_load_n(&request_count, __ATOMIC_RELAXED);
}

static uint64_t slot_address(const struct ioreq *ioreq, unsigned int vcpu)
{
	return ioreq->page + vcpu * sizeof(struct acrn_io_request);
}

static void lost_client(struct ioreq *ioreq)
{
	if (!ioreq->dead)
		log_line(LOG_DEBUG, "the client's memory is gone");
	ioreq->dead = true;
}

static void write_slot(struct ioreq *ioreq, unsigned int vcpu,
		       const struct acrn_io_request *request)
{
	if (pwrite(ioreq->memory, request, sizeof(*request), (off_t)slot_address(ioreq, vcpu)) !=
	    sizeof(*request))
		lost_client(ioreq);
}

static int write_state(struct ioreq *ioreq, unsigned int vcpu, uint32_t state)
{
	off_t place =
		(off_t)slot_address(ioreq, vcpu) + offsetof(struct acrn_io_request, processed);

	return pwrite(ioreq->memory, &state, sizeof(state), place) == sizeof(state) ? 0 : -EFAULT;
}

static void set_state(struct ioreq *ioreq, unsigned int vcpu, uint32_t state)
{
	if (write_state(ioreq, vcpu, state))
		lost_client(ioreq);
}

static uint32_t get_state(struct ioreq *ioreq, unsigned int vcpu)
{
	off_t place =
		(off_t)slot_address(ioreq, vcpu) + offsetof(struct acrn_io_request, processed);
	uint32_t state = ACRN_IOREQ_STATE_FREE;

	if (pread(ioreq->memory, &state, sizeof(state), place) != sizeof(state))
		lost_client(ioreq);
	return state;
}

/* PIO and PCI requests have their value at the same place, MMIO has 64 bits there. */
static void read_value(struct ioreq *ioreq, unsigned int vcpu, struct acrn_io_request *request)
{
	off_t place = (off_t)slot_address(ioreq, vcpu) +
		      offsetof(struct acrn_io_request, reqs.mmio_request.value);
	uint64_t value;

	if (pread(ioreq->memory, &value, sizeof(value), place) != sizeof(value)) {
		lost_client(ioreq);
		value = ~UINT64_C(0);
	}
	request->reqs.mmio_request.value = value;
}

void ioreq_init(struct ioreq *ioreq, struct hsmd *hsmd)
{
	memset(ioreq, 0, sizeof(*ioreq));
	ioreq->hsmd = hsmd;
	ioreq->memory = -1;
	pthread_mutex_init(&ioreq->lock, NULL);
	for (unsigned int i = 0; i < ACRN_IO_REQUEST_MAX; i++)
		pthread_cond_init(&ioreq->slots[i].completed, NULL);
}

void ioreq_deinit(struct ioreq *ioreq)
{
	for (unsigned int i = 0; i < ACRN_IO_REQUEST_MAX; i++)
		pthread_cond_destroy(&ioreq->slots[i].completed);
	pthread_mutex_destroy(&ioreq->lock);
	if (ioreq->memory >= 0)
		close(ioreq->memory);
	ioreq->memory = -1;
}

/* Forget all requests: no slot knows of the VM that had it. */
static int free_slots(struct ioreq *ioreq)
{
	int ret = 0;

	for (unsigned int i = 0; i < ACRN_IO_REQUEST_MAX; i++) {
		struct ioreq_slot *slot = &ioreq->slots[i];

		slot->outstanding = false;
		slot->pending = false;
		slot->done = false;
		slot->owed_notify = false;
		if (!ret)
			ret = write_state(ioreq, i, ACRN_IOREQ_STATE_FREE);
	}
	return ret;
}

int ioreq_setup(struct ioreq *ioreq, pid_t thread, uint64_t page, unsigned int count, bool polling)
{
	int memory = client_memory_open(thread);
	int ret;

	if (memory < 0)
		return memory;
	pthread_mutex_lock(&ioreq->lock);
	if (ioreq->memory >= 0)
		close(ioreq->memory);
	ioreq->memory = memory;
	/* The driver pins the page that holds the address. */
	ioreq->page = page & ~(uint64_t)(GUEST_PAGE_SIZE - 1);
	ioreq->count = count;
	ioreq->polling = polling;
	ioreq->dead = false;
	ioreq->stopped = false;
	ioreq->pci_address = 0;
	ret = free_slots(ioreq);
	pthread_mutex_unlock(&ioreq->lock);
	return ret;
}

/* ---- Telling the client */

static bool has_pending(const struct ioreq *ioreq)
{
	for (unsigned int i = 0; i < ioreq->count; i++) {
		if (ioreq->slots[i].pending)
			return true;
	}
	return false;
}

static void take_waiters(struct ioreq *ioreq, struct waiter_list *taken)
{
	struct ioreq_waiter *waiter, *next;

	pthread_mutex_lock(&ioreq->hsmd->lock);
	for (waiter = LIST_FIRST(&ioreq->hsmd->waiters); waiter; waiter = next) {
		next = LIST_NEXT(waiter, link);
		if (waiter->ioreq != ioreq)
			continue;
		LIST_REMOVE(waiter, link);
		LIST_INSERT_HEAD(taken, waiter, link);
	}
	pthread_mutex_unlock(&ioreq->hsmd->lock);
}

/* Without the lock: who is woken may be back in a call before this thread goes on. */
static void answer(struct waiter_list *taken, int error)
{
	struct ioreq_waiter *waiter;

	while ((waiter = LIST_FIRST(taken))) {
		LIST_REMOVE(waiter, link);
		if (error)
			fuse_reply_err(waiter->req, error);
		else
			fuse_reply_ioctl(waiter->req, 0, NULL, 0);
		free(waiter);
	}
}

/* Hand requests that nobody has seen to the client, if there is one; who waits is to be answered. */
static void deliver(struct ioreq *ioreq, struct waiter_list *taken)
{
	bool news = false;

	if (!ioreq->has_client)
		return;
	for (unsigned int i = 0; i < ioreq->count; i++) {
		struct ioreq_slot *slot = &ioreq->slots[i];

		if (!slot->outstanding || slot->done || slot->pending)
			continue;
		set_state(ioreq, i, ACRN_IOREQ_STATE_PROCESSING);
		slot->pending = true;
		news = true;
	}
	if (news)
		take_waiters(ioreq, taken);
}

/* ---- The vCPU's side */

/*
 * Port 0xcf8 is the HSM's; what follows at 0xcfc becomes a request for configuration space. As the
 * driver does it: any access to 0xcf8 itself is taken as a whole, other ports in 0xcf9..0xcfb go
 * on to the client. True: done, no request is left.
 */
static bool merge_pci(struct ioreq *ioreq, struct acrn_io_request *request)
{
	struct acrn_pio_request *pio = &request->reqs.pio_request;
	struct acrn_pci_request *pci = &request->reqs.pci_request;
	bool write = pio->direction == ACRN_IOREQ_DIR_WRITE;
	uint32_t address = ioreq->pci_address;
	uint32_t offset;

	if (request->type != ACRN_IOREQ_TYPE_PORTIO)
		return false;
	if (pio->address == PCI_ADDRESS_PORT) {
		if (write)
			ioreq->pci_address = pio->value;
		else
			pio->value = ioreq->pci_address;
		return true;
	}
	if (pio->address < PCI_DATA_PORT || pio->address >= PCI_DATA_PORT + 4)
		return false;
	if (!(address & PCI_ADDRESS_ENABLE)) {
		if (!write)
			pio->value = 0xffffffff;
		return true;
	}
	offset = (uint32_t)(pio->address - PCI_DATA_PORT);
	request->type = ACRN_IOREQ_TYPE_PCICFG;
	pci->bus = address >> 16 & 0xff;
	pci->dev = address >> 11 & 0x1f;
	pci->func = address >> 8 & 0x7;
	/* Bits 24 to 27 are those above 255, as AMD has them. */
	pci->reg = (address & 0xfc) + (address >> 16 & 0xf00) + offset;
	return false;
}

static void wait_notified(struct ioreq *ioreq, struct ioreq_slot *slot)
{
	while (!slot->done && !ioreq->stopped)
		pthread_cond_wait(&slot->completed, &ioreq->lock);
}

/* The hypervisor of a VM with that flag looks at the slot instead of being called. */
static void wait_polling(struct ioreq *ioreq, unsigned int vcpu)
{
	const struct timespec pause = { .tv_nsec = POLL_SLEEP_NS };
	struct ioreq_slot *slot = &ioreq->slots[vcpu];

	for (unsigned int spins = 0; !slot->done && !ioreq->stopped; spins++) {
		if (slot->pending && get_state(ioreq, vcpu) == ACRN_IOREQ_STATE_COMPLETE) {
			slot->done = true;
			slot->pending = false;
			slot->owed_notify = true;
			return;
		}
		pthread_mutex_unlock(&ioreq->lock);
		if (spins < POLL_SPINS)
			sched_yield();
		else
			nanosleep(&pause, NULL);
		pthread_mutex_lock(&ioreq->lock);
	}
}

/* Lets go of the lock at times. */
static int carry_out(struct ioreq *ioreq, unsigned int vcpu, struct acrn_io_request *request)
{
	struct waiter_list taken = LIST_HEAD_INITIALIZER(taken);
	struct ioreq_slot *slot = &ioreq->slots[vcpu];

	__atomic_add_fetch(&request_count, 1, __ATOMIC_RELAXED);
	request->completion_polling = ioreq->polling;
	request->processed = ACRN_IOREQ_STATE_PENDING;
	write_slot(ioreq, vcpu, request);
	slot->outstanding = true;
	slot->done = false;
	deliver(ioreq, &taken);
	pthread_mutex_unlock(&ioreq->lock);
	answer(&taken, 0);
	pthread_mutex_lock(&ioreq->lock);
	if (ioreq->polling)
		wait_polling(ioreq, vcpu);
	else
		wait_notified(ioreq, slot);
	if (!slot->done)
		return -EINTR;
	read_value(ioreq, vcpu, request);
	set_state(ioreq, vcpu, ACRN_IOREQ_STATE_FREE);
	slot->outstanding = false;
	return 0;
}

int ioreq_submit(struct ioreq *ioreq, unsigned int vcpu, struct acrn_io_request *request)
{
	int ret = 0;

	pthread_mutex_lock(&ioreq->lock);
	if (ioreq->stopped)
		ret = -EINTR;
	else if (!merge_pci(ioreq, request))
		ret = carry_out(ioreq, vcpu, request);
	pthread_mutex_unlock(&ioreq->lock);
	return ret;
}

void ioreq_stop(struct ioreq *ioreq)
{
	pthread_mutex_lock(&ioreq->lock);
	ioreq->stopped = true;
	for (unsigned int i = 0; i < ACRN_IO_REQUEST_MAX; i++)
		pthread_cond_broadcast(&ioreq->slots[i].completed);
	pthread_mutex_unlock(&ioreq->lock);
}

void ioreq_restart(struct ioreq *ioreq)
{
	pthread_mutex_lock(&ioreq->lock);
	if (free_slots(ioreq))
		lost_client(ioreq);
	ioreq->stopped = false;
	pthread_mutex_unlock(&ioreq->lock);
}

/* ---- The client's side */

int ioreq_client_create(struct ioreq *ioreq)
{
	struct waiter_list taken = LIST_HEAD_INITIALIZER(taken);
	int ret = 0;

	pthread_mutex_lock(&ioreq->lock);
	if (ioreq->has_client)
		ret = -EEXIST;
	ioreq->has_client = true;
	deliver(ioreq, &taken);
	pthread_mutex_unlock(&ioreq->lock);
	answer(&taken, 0);
	return ret;
}

void ioreq_client_destroy(struct ioreq *ioreq)
{
	struct waiter_list taken = LIST_HEAD_INITIALIZER(taken);

	pthread_mutex_lock(&ioreq->lock);
	ioreq->has_client = false;
	/* The next client gets what this one leaves. */
	for (unsigned int i = 0; i < ACRN_IO_REQUEST_MAX; i++)
		ioreq->slots[i].pending = false;
	take_waiters(ioreq, &taken);
	pthread_mutex_unlock(&ioreq->lock);
	answer(&taken, ENODEV);
}

/*
 * A signal for the client's thread: the driver returns 0 then, and nothing need be pending. It may
 * come when the request was answered and the VM is gone, so the waiters of all VMs are looked at,
 * and no VM's own lock is taken.
 */
static void interrupted(fuse_req_t req, void *data)
{
	struct ioreq_waiter *waiter;
	struct hsmd *hsmd = data;

	pthread_mutex_lock(&hsmd->lock);
	for (waiter = LIST_FIRST(&hsmd->waiters); waiter; waiter = LIST_NEXT(waiter, link)) {
		if (waiter->req == req)
			break;
	}
	if (waiter)
		LIST_REMOVE(waiter, link);
	pthread_mutex_unlock(&hsmd->lock);
	if (!waiter)
		return;
	fuse_reply_ioctl(req, 0, NULL, 0);
	free(waiter);
}

/* False: a signal came first. */
static bool add_waiter(struct ioreq *ioreq, struct ioreq_waiter *waiter)
{
	bool waits;

	pthread_mutex_lock(&ioreq->hsmd->lock);
	waits = !fuse_req_interrupted(waiter->req);
	if (waits)
		LIST_INSERT_HEAD(&ioreq->hsmd->waiters, waiter, link);
	pthread_mutex_unlock(&ioreq->hsmd->lock);
	return waits;
}

void ioreq_attach(struct ioreq *ioreq, fuse_req_t req)
{
	struct ioreq_waiter *waiter = malloc(sizeof(*waiter));
	bool waits;
	int error;

	if (!waiter) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	*waiter = (struct ioreq_waiter) { .ioreq = ioreq, .req = req };
	/* Without our locks: it may call interrupted() at once, which finds nothing then. */
	fuse_req_interrupt_func(req, interrupted, ioreq->hsmd);

	pthread_mutex_lock(&ioreq->lock);
	error = ioreq->has_client ? 0 : ENODEV;
	waits = !error && !has_pending(ioreq) && add_waiter(ioreq, waiter);
	pthread_mutex_unlock(&ioreq->lock);
	if (waits)
		return;
	if (error)
		fuse_reply_err(req, error);
	else
		fuse_reply_ioctl(req, 0, NULL, 0);
	free(waiter);
}

/* COMPLETE; if the vCPU is not waiting any more the slot says so. */
static void complete(struct ioreq *ioreq, unsigned int vcpu)
{
	struct ioreq_slot *slot = &ioreq->slots[vcpu];

	slot->pending = false;
	slot->done = true;
	if (ioreq->stopped)
		set_state(ioreq, vcpu, ACRN_IOREQ_STATE_COMPLETE);
}

int ioreq_finish(struct ioreq *ioreq, unsigned int vcpu)
{
	struct ioreq_slot *slot = &ioreq->slots[vcpu % ACRN_IO_REQUEST_MAX];
	int ret = 0;

	pthread_mutex_lock(&ioreq->lock);
	if (!ioreq->has_client)
		ret = 0;
	else if (vcpu >= ioreq->count)
		ret = -EINVAL;
	else if (slot->owed_notify)
		slot->owed_notify = false; /* that request is over, this is not for the next */
	else if (slot->pending)
		complete(ioreq, vcpu);
	pthread_mutex_unlock(&ioreq->lock);
	pthread_cond_signal(&slot->completed);
	return ret;
}

void ioreq_clear(struct ioreq *ioreq)
{
	pthread_mutex_lock(&ioreq->lock);
	for (unsigned int i = 0; i < ioreq->count; i++) {
		if (ioreq->slots[i].pending)
			complete(ioreq, i);
		pthread_cond_signal(&ioreq->slots[i].completed);
	}
	pthread_mutex_unlock(&ioreq->lock);
}
