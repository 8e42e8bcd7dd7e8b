/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fake_hsm.h: an HSM in process: open(), ioctl() and close() of this program are these, and play
 * the Linux driver and the hypervisor, with the rules and errors that the driver has. The test plays
 * the guest.
 */
#ifndef TENON_TESTS_FAKE_HSM_H
#define TENON_TESTS_FAKE_HSM_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../../devicemodel/core/hv/acrn.h"
#include "captured_log.h"

#define FAKE_DEVICE "/dev/acrn_hsm"
#define FAKE_CALLS 4096
#define FAKE_EVENTS 2048
#define FAKE_VMID 3

/* One ioctl that was made, and what it was given. */
struct fake_call {
	unsigned long request;
	union {
		uint64_t value;
		struct acrn_vm_creation creation;
		struct acrn_vcpu_regs regs;
		struct acrn_vm_memmap memmap;
		struct acrn_msi_entry msi;
		struct acrn_ioeventfd ioeventfd;
		struct acrn_irqfd irqfd;
		struct acrn_pcidev pcidev;
		struct acrn_mmiodev mmiodev;
		struct acrn_ptdev_irq ptdev;
		struct acrn_vdev vdev;
		struct acrn_ioreq_notify notify;
	};
};

/*
 * struct fake_hsm
 * @device, @open_error: the file it is, and why it cannot be opened
 * @fail_at: the so-manieth ioctl fails with @fail_error; ATTACH does not count
 * @fail_request: this one does
 * @vcpu_num: that CREATE_VM gives back
 * @pending: the driver's map of requests that the client has not finished
 * @keep_pending: the client need not tell: completion polling
 * @attach_error: the next ATTACH fails with it; @attach_idle: so many return with nothing to do
 * @signal_unbound: somebody signals an irqfd as soon as the driver has let go of it
 */
struct fake_hsm {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	char device[64];
	int open_error;
	int fd;
	unsigned int opens, closes;

	unsigned int calls_made, fail_at;
	int fail_error;
	unsigned long fail_request;
	unsigned int count;
	struct fake_call calls[FAKE_CALLS];

	uint16_t vcpu_num;
	bool has_vm, has_client, running, paused;
	struct acrn_io_request_buffer *page;
	uint32_t pending;
	bool keep_pending;
	int attach_error;
	unsigned int attach_idle, attaches;
	bool notified[ACRN_IO_REQUEST_MAX];
	bool level[64];
	bool signal_unbound;
	unsigned int ioeventfd_count, irqfd_count;
	struct acrn_ioeventfd ioeventfds[FAKE_EVENTS];
	struct acrn_irqfd irqfds[FAKE_EVENTS];
	unsigned int injected;
	struct acrn_msi_entry last_msi;
};

static struct fake_hsm hsm = { .lock = PTHREAD_MUTEX_INITIALIZER,
			       .changed = PTHREAD_COND_INITIALIZER,
			       .device = FAKE_DEVICE,
			       .fd = -1,
			       .vcpu_num = 1 };

/* ---- The driver: its half of the rules. hsm.lock is held. */

static int fake_error(int error)
{
	errno = error;
	return -1;
}

static bool fake_eventfd(int fd)
{
	char path[64], target[64] = "";

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return readlink(path, target, sizeof(target) - 1) > 0 && strstr(target, "[eventfd]");
}

static int fake_check_eventfd(int fd)
{
	if (fcntl(fd, F_GETFD) < 0)
		return EBADF;
	return fake_eventfd(fd) ? 0 : EINVAL;
}

static uint64_t fake_count_of(int fd)
{
	uint64_t count = 0;

	if (read(fd, &count, sizeof(count)) != sizeof(count))
		return 0;
	return count;
}

static int fake_ioeventfd_deassign(const struct acrn_ioeventfd *args)
{
	/* By eventfd alone: the oldest one; none is no error. */
	for (unsigned int i = 0; i < hsm.ioeventfd_count; i++) {
		if (hsm.ioeventfds[i].fd != args->fd)
			continue;
		hsm.ioeventfd_count--;
		memmove(&hsm.ioeventfds[i], &hsm.ioeventfds[i + 1],
			(hsm.ioeventfd_count - i) * sizeof(hsm.ioeventfds[0]));
		break;
	}
	return 0;
}

static bool fake_kick_same(const struct acrn_ioeventfd *a, const struct acrn_ioeventfd *b)
{
	return a->fd == b->fd && a->addr == b->addr &&
	       !((a->flags ^ b->flags) & ACRN_IOEVENTFD_FLAG_PIO) &&
	       (!(a->flags & b->flags & ACRN_IOEVENTFD_FLAG_DATAMATCH) || a->data == b->data);
}

static int fake_ioeventfd(const struct acrn_ioeventfd *args)
{
	int error = fake_check_eventfd((int)args->fd);

	if (args->reserved)
		return fake_error(EINVAL);
	if (args->flags & ACRN_IOEVENTFD_FLAG_DEASSIGN)
		return error ? fake_error(error) : fake_ioeventfd_deassign(args);
	if (args->addr + args->len < args->addr || args->len > 8 || !is_power_of_2(args->len))
		return fake_error(EINVAL);
	if (error)
		return fake_error(error);
	for (unsigned int i = 0; i < hsm.ioeventfd_count; i++)
		if (fake_kick_same(&hsm.ioeventfds[i], args))
			return fake_error(EEXIST);
	if (hsm.ioeventfd_count == FAKE_EVENTS)
		return fake_error(ENOMEM);
	hsm.ioeventfds[hsm.ioeventfd_count++] = *args;
	return 0;
}

static void fake_inject(const struct acrn_msi_entry *msi)
{
	hsm.injected++;
	hsm.last_msi = *msi;
	/* The hypervisor takes no other address, and the driver would log that. */
	assert_int_equal(msi->msi_addr & ~UINT64_C(0xfffff), 0xfee00000);
}

static int fake_irqfd_find(int fd)
{
	for (unsigned int i = 0; i < hsm.irqfd_count; i++)
		if (hsm.irqfds[i].fd == fd)
			return (int)i;
	return -1;
}

static int fake_irqfd(const struct acrn_irqfd *args)
{
	int error = fake_check_eventfd(args->fd);
	int place = fake_irqfd_find(args->fd);
	const uint64_t one = 1;
	uint64_t count;

	if (error)
		return fake_error(error);
	if (args->flags & ACRN_IRQFD_FLAG_DEASSIGN) {
		if (place < 0)
			return 0;
		/* What it waited on is read away. */
		(void)fake_count_of(args->fd);
		hsm.irqfds[place] = hsm.irqfds[--hsm.irqfd_count];
		if (hsm.signal_unbound && write(args->fd, &one, sizeof(one)) < 0)
			return -1;
		return 0;
	}
	if (place >= 0)
		return fake_error(EBUSY);
	hsm.irqfds[hsm.irqfd_count++] = *args;
	/* Signalled before: delivered now; the counter stays. */
	count = fake_count_of(args->fd);
	if (count) {
		fake_inject(&args->msi);
		if (write(args->fd, &count, sizeof(count)) < 0)
			return -1;
	}
	return 0;
}

static int fake_create_vm(struct acrn_vm_creation *creation)
{
	if (hsm.has_vm || creation->reserved0 || creation->reserved1 || creation->ioreq_buf % 4096)
		return fake_error(EINVAL);
	creation->vmid = FAKE_VMID;
	creation->vcpu_num = hsm.vcpu_num;
	hsm.page = (struct acrn_io_request_buffer *)(uintptr_t)creation->ioreq_buf;
	hsm.has_vm = true;
	for (unsigned int i = 0; i < ACRN_IO_REQUEST_MAX; i++)
		__atomic_store_n(&hsm.page->req_slot[i].processed, ACRN_IOREQ_STATE_FREE,
				 __ATOMIC_RELEASE);
	return 0;
}

static int fake_attach(void)
{
	int error;

	hsm.attaches++;
	pthread_cond_broadcast(&hsm.changed);
	while (!hsm.pending && hsm.has_client && !hsm.attach_error && !hsm.attach_idle)
		pthread_cond_wait(&hsm.changed, &hsm.lock);
	error = hsm.attach_error;
	hsm.attach_error = 0;
	if (error)
		return fake_error(error);
	if (!hsm.has_client)
		return fake_error(ENODEV);
	if (hsm.attach_idle)
		hsm.attach_idle--;
	return 0;
}

/* The driver marks it complete once more, and the hypervisor lets the vCPU go on. */
static int fake_notify(const struct acrn_ioreq_notify *notify)
{
	if (notify->reserved || notify->vmid != FAKE_VMID || notify->vcpu >= hsm.vcpu_num)
		return fake_error(EINVAL);
	hsm.pending &= ~BIT32(notify->vcpu);
	__atomic_store_n(&hsm.page->req_slot[notify->vcpu].processed, ACRN_IOREQ_STATE_COMPLETE,
			 __ATOMIC_RELEASE);
	hsm.notified[notify->vcpu] = true;
	pthread_cond_broadcast(&hsm.changed);
	return 0;
}

static int fake_clear(void)
{
	for (unsigned int i = 0; i < ACRN_IO_REQUEST_MAX; i++)
		if (hsm.pending & BIT32(i))
			__atomic_store_n(&hsm.page->req_slot[i].processed,
					 ACRN_IOREQ_STATE_COMPLETE, __ATOMIC_RELEASE);
	hsm.pending = 0;
	return 0;
}

static int fake_reset(void)
{
	if (!hsm.paused)
		return fake_error(EPERM);
	for (unsigned int i = 0; i < ACRN_IO_REQUEST_MAX; i++)
		__atomic_store_n(&hsm.page->req_slot[i].processed, ACRN_IOREQ_STATE_FREE,
				 __ATOMIC_RELEASE);
	hsm.paused = false;
	return 0;
}

static int fake_set_line(uint64_t command)
{
	unsigned int line = (uint32_t)command;

	if (line >= 48)
		return fake_error(EPERM);
	hsm.level[line] = command >> 32 == 0;
	return 0;
}

static void fake_record(unsigned long request, const void *arg)
{
	struct fake_call *call = &hsm.calls[hsm.count];

	if (hsm.count == FAKE_CALLS)
		return;
	hsm.count++;
	memset(call, 0, sizeof(*call));
	call->request = request;
	call->value = (uintptr_t)arg;
	if (arg && request != ACRN_IOCTL_SET_IRQLINE && request != ACRN_IOCTL_VM_INTR_MONITOR)
		memcpy(&call->value, arg, _IOC_SIZE(request));
}

static int fake_carry_out(unsigned long request, void *arg)
{
	if (!hsm.has_vm && request != ACRN_IOCTL_CREATE_VM)
		return fake_error(EINVAL);
	switch (request) {
	case ACRN_IOCTL_CREATE_VM:
		return fake_create_vm(arg);
	case ACRN_IOCTL_DESTROY_VM:
		if (!hsm.paused)
			return fake_error(EPERM);
		hsm.has_vm = hsm.has_client = hsm.running = hsm.paused = false;
		pthread_cond_broadcast(&hsm.changed);
		return 0;
	case ACRN_IOCTL_START_VM:
		hsm.running = true;
		hsm.paused = false;
		return 0;
	case ACRN_IOCTL_PAUSE_VM:
		hsm.running = false;
		hsm.paused = true;
		return 0;
	case ACRN_IOCTL_RESET_VM:
		return fake_reset();
	case ACRN_IOCTL_CREATE_IOREQ_CLIENT:
		if (hsm.has_client)
			return fake_error(EEXIST);
		hsm.has_client = true;
		return 0;
	case ACRN_IOCTL_DESTROY_IOREQ_CLIENT:
		hsm.has_client = false;
		pthread_cond_broadcast(&hsm.changed);
		return 0;
	case ACRN_IOCTL_ATTACH_IOREQ_CLIENT:
		return fake_attach();
	case ACRN_IOCTL_NOTIFY_REQUEST_FINISH:
		return fake_notify(arg);
	case ACRN_IOCTL_CLEAR_VM_IOREQ:
		return fake_clear();
	case ACRN_IOCTL_SET_IRQLINE:
		return fake_set_line((uintptr_t)arg);
	case ACRN_IOCTL_INJECT_MSI:
		fake_inject(arg);
		return 0;
	case ACRN_IOCTL_IOEVENTFD:
		return fake_ioeventfd(arg);
	case ACRN_IOCTL_IRQFD:
		return fake_irqfd(arg);
	case ACRN_IOCTL_PM_GET_CPU_STATE:
		memset(arg, 0x5a, sizeof(struct acrn_pstate_data));
		return 0;
	case ACRN_IOCTL_VM_INTR_MONITOR:
		return 1;
	default:
		return 0;
	}
}

static int fake_ioctl(unsigned long request, void *arg)
{
	int ret;

	pthread_mutex_lock(&hsm.lock);
	if (request != ACRN_IOCTL_ATTACH_IOREQ_CLIENT) {
		fake_record(request, arg);
		hsm.calls_made++;
	}
	if (request == hsm.fail_request || (request != ACRN_IOCTL_ATTACH_IOREQ_CLIENT &&
					    hsm.fail_at && hsm.calls_made == hsm.fail_at))
		ret = fake_error(hsm.fail_error);
	else
		ret = fake_carry_out(request, arg);
	pthread_mutex_unlock(&hsm.lock);
	return ret;
}

/* ---- What stands in for libc's */

#define FAKE_NEXT(name, type) ((type)dlsym(RTLD_NEXT, name))

int open(const char *path, int flags, ...)
{
	int (*next)(const char *, int, ...) = FAKE_NEXT("open", int (*)(const char *, int, ...));
	mode_t mode = 0;
	va_list args;
	int fd;

	if (flags & (O_CREAT | O_TMPFILE)) {
		va_start(args, flags);
		mode = va_arg(args, mode_t);
		va_end(args);
	}
	if (strcmp(path, hsm.device) != 0)
		return next(path, flags, mode);
	if (hsm.open_error)
		return fake_error(hsm.open_error);
	fd = next("/dev/null", O_RDWR | O_CLOEXEC);
	pthread_mutex_lock(&hsm.lock);
	assert_int_equal(flags, O_RDWR | O_CLOEXEC);
	hsm.fd = fd;
	hsm.opens++;
	pthread_mutex_unlock(&hsm.lock);
	return fd;
}

int close(int fd)
{
	int (*next)(int) = FAKE_NEXT("close", int (*)(int));

	pthread_mutex_lock(&hsm.lock);
	if (fd >= 0 && fd == hsm.fd) {
		hsm.fd = -1;
		hsm.closes++;
		hsm.has_vm = hsm.has_client = false;
		pthread_cond_broadcast(&hsm.changed);
	}
	pthread_mutex_unlock(&hsm.lock);
	return next(fd);
}

int ioctl(int fd, unsigned long request, ...)
{
	int (*next)(int, unsigned long, ...) = FAKE_NEXT("ioctl", int (*)(int, unsigned long, ...));
	va_list args;
	bool is_hsm;
	void *arg;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	pthread_mutex_lock(&hsm.lock);
	is_hsm = fd >= 0 && fd == hsm.fd;
	pthread_mutex_unlock(&hsm.lock);
	return is_hsm ? fake_ioctl(request, arg) : next(fd, request, arg);
}

#endif
