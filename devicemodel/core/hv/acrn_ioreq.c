/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * acrn_ioreq.c: the page of I/O requests, and the thread that serves it.
 *
 * A slot goes FREE -> PENDING (the hypervisor has a request) -> PROCESSING (the driver gives it to
 * us) -> COMPLETE (we are done) -> FREE. It is ours while it is PROCESSING and not kernel_handled.
 * What is in it is nevertheless read once and checked.
 *
 * The thread is either blocked in ATTACH, or among the slots (vm->handling), or waiting for the VM
 * to go on. A pause need not get it out of ATTACH: before it looks at a slot it asks whether the VM
 * runs, and what it then leaves is found when the VM goes on, since it looks at all slots first.
 */
#include "acrn.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "pci_core.h"
#include "platform.h"
#include "thread.h"

#define ACRN_IOREQ_TYPE_WP 3 /* ACRN hypervisor, acrn_common.h: a write to a write-protected page */

/*
 * How the hypervisor tells of a triple fault (its vm_reset.c): a soft off, written to the PM1a control
 * register as the one device model that it knows has it. Ours is elsewhere.
 */
#define TRIPLE_FAULT_PORT 0x404
#define TRIPLE_FAULT_VALUE 0x3400
static_assert(TRIPLE_FAULT_PORT != PM1A_CNT_PORT, "a guest's soft off would be a crash");

#define PORT_LAST 0xffff
#define PCI_BUS_LAST 0xff
#define PCI_SLOT_LAST 31
#define PCI_FUNCTION_LAST 7

#define IDLE_ROUNDS 1000
#define IDLE_SLEEP_US 50

/* The fields that all kinds of requests have in the same place. */
#define SAME_PLACE(field, other)                                                                   \
	static_assert(offsetof(struct acrn_mmio_request, field) ==                                 \
			      offsetof(struct acrn_##other##_request, field),                      \
		      #other "." #field " is elsewhere")
SAME_PLACE(direction, pio);
SAME_PLACE(address, pio);
SAME_PLACE(size, pio);
SAME_PLACE(value, pio);
SAME_PLACE(direction, pci);
SAME_PLACE(size, pci);
SAME_PLACE(value, pci);

/** struct access - a request as it was when it was read. */
struct access {
	uint32_t type, direction;
	uint64_t addr, size, value;
};

static uint32_t load32(const __u32 *field)
{
	return __atomic_load_n(field, __ATOMIC_RELAXED);
}

static uint64_t load64(const __u64 *field)
{
	return __atomic_load_n(field, __ATOMIC_RELAXED);
}

static uint64_t low_bytes(uint64_t value, uint64_t size)
{
	return size < 8 ? value & (BIT64(8 * size) - 1) : value;
}

static bool access_valid(const struct access *access, unsigned int size_max, uint64_t last)
{
	return access->direction <= ACRN_IOREQ_DIR_WRITE && access->size <= size_max &&
	       is_power_of_2(access->size) && access->addr <= last - (access->size - 1);
}

static bool is_write(const struct access *access)
{
	return access->direction == ACRN_IOREQ_DIR_WRITE;
}

static void do_io(struct acrn_vm *vm, enum io_type type, struct access *access)
{
	struct io_request request = {
		.type = type,
		.write = is_write(access),
		.size = (unsigned int)access->size,
		.addr = access->addr,
		.value = is_write(access) ? low_bytes(access->value, access->size) : 0,
	};

	vm_io(vm->ctx, &request);
	access->value = request.value;
}

static bool is_triple_fault(const struct access *access)
{
	return is_write(access) && access->addr == TRIPLE_FAULT_PORT && access->size == 2 &&
	       low_bytes(access->value, 2) == TRIPLE_FAULT_VALUE;
}

static bool do_port(struct acrn_vm *vm, const struct acrn_io_request *slot, struct access *access)
{
	if (!access_valid(access, 4, PORT_LAST))
		return false;
	if (is_triple_fault(access))
		vm_request(vm->ctx, VM_REQUEST_CRASH, VM_CRASH_TRIPLE_FAULT);
	else
		do_io(vm, IO_PIO, access);
	return true;
}

static bool do_memory(struct acrn_vm *vm, const struct acrn_io_request *slot, struct access *access)
{
	if (!access_valid(access, 8, UINT64_MAX))
		return false;
	do_io(vm, IO_MMIO, access);
	return true;
}

/* The driver makes these out of accesses to ports 0xCF8 and 0xCFC. */
static bool do_pci(struct acrn_vm *vm, const struct acrn_io_request *slot, struct access *access)
{
	const struct acrn_pci_request *pci = &slot->reqs.pci_request;
	uint32_t bus = load32(&pci->bus), place = load32(&pci->dev), func = load32(&pci->func);
	struct pci_vdev *dev;

	access->addr = load32(&pci->reg);
	if (!access_valid(access, 4, PCI_CFG_SIZE - 1) || bus > PCI_BUS_LAST ||
	    place > PCI_SLOT_LAST || func > PCI_FUNCTION_LAST)
		return false;
	dev = pci_find_device(vm->ctx, (uint8_t)bus, (uint8_t)place, (uint8_t)func);
	if (!dev)
		access->value = UINT64_MAX;
	else if (is_write(access))
		pci_cfg_write(dev, (unsigned int)access->addr, (unsigned int)access->size,
			      (uint32_t)low_bytes(access->value, access->size));
	else
		access->value =
			pci_cfg_read(dev, (unsigned int)access->addr, (unsigned int)access->size);
	return true;
}

/* What each type of request does: false if there is no such access. @wide: its value has 64 bits. */
static const struct request_kind {
	bool (*serve)(struct acrn_vm *vm, const struct acrn_io_request *slot,
		      struct access *access);
	bool wide;
} kinds[] = {
	[ACRN_IOREQ_TYPE_PORTIO] = { do_port, false },
	[ACRN_IOREQ_TYPE_MMIO] = { do_memory, true },
	[ACRN_IOREQ_TYPE_PCICFG] = { do_pci, false },
	[ACRN_IOREQ_TYPE_WP] = { do_memory, true },
};

static void answer(struct acrn_io_request *slot, const struct access *access, bool wide)
{
	if (wide)
		__atomic_store_n(&slot->reqs.mmio_request.value, access->value, __ATOMIC_RELAXED);
	else
		__atomic_store_n(&slot->reqs.pio_request.value, (uint32_t)access->value,
				 __ATOMIC_RELAXED);
}

static void serve_request(struct acrn_vm *vm, unsigned int vcpu, struct acrn_io_request *slot)
{
	const struct acrn_mmio_request *common = &slot->reqs.mmio_request;
	struct access access = {
		.type = load32(&slot->type),
		.direction = load32(&common->direction),
		.addr = load64(&common->address),
		.size = load64(&common->size),
	};
	const struct request_kind *kind =
		access.type < ARRAY_SIZE(kinds) ? &kinds[access.type] : NULL;
	bool wide = !kind || kind->wide;

	access.value = wide ? load64(&common->value) : load32(&slot->reqs.pio_request.value);
	if (kind && kind->serve(vm, slot, &access)) {
		if (is_write(&access))
			return;
		access.value = low_bytes(access.value, access.size);
	} else {
		log_guest(vm->ctx->log,
			  "acrn: CPU %u: no such I/O request: type %u, direction %u, %llu bytes at "
			  "0x%llx (answered with ones)",
			  vcpu, access.type, access.direction, (unsigned long long)access.size,
			  (unsigned long long)access.addr);
		access.value = UINT64_MAX;
	}
	answer(slot, &access, wide);
}

/* Give the slot back. What it says of polling counts only until then. */
static void complete(struct acrn_vm *vm, unsigned int vcpu, struct acrn_io_request *slot)
{
	struct acrn_ioreq_notify notify = { .vmid = vm->vmid, .vcpu = vcpu };
	bool polling = load32(&slot->completion_polling);
	uint32_t state = ACRN_IOREQ_STATE_PROCESSING;
	int ret;

	if (!__atomic_compare_exchange_n(&slot->processed, &state, ACRN_IOREQ_STATE_COMPLETE, false,
					 __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {
		log_guest(vm->ctx->log,
			  "acrn: CPU %u: the hypervisor took an I/O request back (state %u)", vcpu,
			  state);
		return;
	}
	/*
	 * Who polls has seen it and may have the next request in the slot already: the driver, if
	 * told now, would mark that one complete.
	 */
	if (polling)
		return;
	ret = acrn_ioctl(vm, ACRN_IOCTL_NOTIFY_REQUEST_FINISH, &notify);
	if (ret < 0)
		log_guest(vm->ctx->log, "acrn: CPU %u: NOTIFY_REQUEST_FINISH: %s", vcpu,
			  strerror(-ret));
}

unsigned int acrn_ioreq_serve(struct acrn_vm *vm)
{
	unsigned int served = 0;

	for (unsigned int vcpu = 0; vcpu < vm->vcpu_count; vcpu++) {
		struct acrn_io_request *slot = &vm->page->req_slot[vcpu];

		if (__atomic_load_n(&slot->processed, __ATOMIC_ACQUIRE) !=
			    ACRN_IOREQ_STATE_PROCESSING ||
		    load32(&slot->kernel_handled))
			continue;
		serve_request(vm, vcpu, slot);
		complete(vm, vcpu, slot);
		served++;
	}
	return served;
}

/* ---- The thread */

/* Wait until requests shall be served; false: the thread shall end. */
static bool enter(struct acrn_vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	while (!vm->running && !vm->quit)
		pthread_cond_wait(&vm->changed, &vm->lock);
	vm->handling = !vm->quit;
	pthread_mutex_unlock(&vm->lock);
	return vm->handling;
}

static void leave(struct acrn_vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	vm->handling = false;
	pthread_cond_broadcast(&vm->changed);
	pthread_mutex_unlock(&vm->lock);
}

/*
 * With completion polling the driver is not told that a request is done, and goes on saying that
 * there is one: then it is we who poll, at leisure when the guest is idle.
 */
static void rest(struct acrn_vm *vm, unsigned int served)
{
	vm->idle_rounds = served ? 0 : vm->idle_rounds + 1;
	if (vm->idle_rounds < IDLE_ROUNDS)
		return;
	vm->idle_rounds = IDLE_ROUNDS;
	usleep(IDLE_SLEEP_US);
}

static void hsm_lost(struct acrn_vm *vm, int error)
{
	bool quit;

	pthread_mutex_lock(&vm->lock);
	quit = vm->quit;
	vm->failed = true;
	pthread_mutex_unlock(&vm->lock);
	if (quit)
		return;
	log_error(vm->ctx->log, "acrn: %s gives no more I/O requests: %s (see the kernel log)",
		  vm->options.device, strerror(error));
	vm_request(vm->ctx, VM_REQUEST_INTERNAL, 0);
}

/* Block until there may be a request; false: there will be none any more. */
static bool attach(struct acrn_vm *vm)
{
	if (ioctl(vm->fd, ACRN_IOCTL_ATTACH_IOREQ_CLIENT, 0UL) >= 0 || errno == EINTR)
		return true;
	hsm_lost(vm, errno);
	return false;
}

static void *ioreq_thread(void *arg)
{
	struct acrn_vm *vm = arg;
	unsigned int served;

	pthread_setname_np(pthread_self(), "acrn-ioreq");
	while (enter(vm)) {
		served = acrn_ioreq_serve(vm);
		leave(vm);
		rest(vm, served);
		if (!attach(vm))
			break;
	}
	return NULL;
}

static int start_thread(struct acrn_vm *vm)
{
	int error = thread_start(&vm->thread, 0, ioreq_thread, vm);

	vm->has_thread = !error;
	return error;
}

int acrn_ioreq_start(struct acrn_vm *vm)
{
	bool failed;
	int ret;

	if (!vm->has_client) {
		ret = acrn_ioctl(vm, ACRN_IOCTL_CREATE_IOREQ_CLIENT, NULL);
		if (ret < 0) {
			log_error(vm->ctx->log,
				  "acrn: CREATE_IOREQ_CLIENT: %s (see the kernel log)",
				  strerror(-ret));
			return ret;
		}
		vm->has_client = true;
	}
	if (!vm->has_thread) {
		ret = start_thread(vm);
		if (ret) {
			log_error(vm->ctx->log, "acrn: cannot start a thread: %s (raise ulimit -u)",
				  strerror(-ret));
			return ret;
		}
	}
	pthread_mutex_lock(&vm->lock);
	failed = vm->failed;
	pthread_mutex_unlock(&vm->lock);
	return failed ? -EIO : 0;
}

void acrn_ioreq_run(struct acrn_vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	vm->running = true;
	pthread_cond_broadcast(&vm->changed);
	pthread_mutex_unlock(&vm->lock);
}

void acrn_ioreq_pause(struct acrn_vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	vm->running = false;
	while (vm->handling)
		pthread_cond_wait(&vm->changed, &vm->lock);
	pthread_mutex_unlock(&vm->lock);
}

/* Without the client, ATTACH has nothing to wait for; without the VM, there is no client. */
void acrn_ioreq_stop(struct acrn_vm *vm)
{
	int ret;

	acrn_ioreq_pause(vm);
	pthread_mutex_lock(&vm->lock);
	vm->quit = true;
	pthread_cond_broadcast(&vm->changed);
	pthread_mutex_unlock(&vm->lock);
	if (vm->has_client) {
		ret = acrn_ioctl(vm, ACRN_IOCTL_DESTROY_IOREQ_CLIENT, NULL);
		if (ret < 0 && acrn_ioctl(vm, ACRN_IOCTL_DESTROY_VM, NULL) >= 0)
			vm->created = false;
		vm->has_client = false;
	}
	if (vm->has_thread)
		pthread_join(vm->thread, NULL);
	vm->has_thread = false;
}
