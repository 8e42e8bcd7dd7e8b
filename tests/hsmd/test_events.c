/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_events.c: interrupts by line, message and irqfd; ioeventfds.
 */
#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LINE_HIGH, LINE_LOW, LINE_RAISING_PULSE, LINE_FALLING_PULSE };

static long set_line(struct machine *machine, uint64_t gsi, uint64_t operation)
{
	return call_result(ioctl(machine->fd, ACRN_IOCTL_SET_IRQLINE, operation << 32 | gsi));
}

static void test_pic_lines(void)
{
	struct machine machine;

	machine_boot(&machine, PROGRAM(pic), REAL_MODE);
	machine_ready(&machine);
	/* the timer: GSI 2 is the PIC's pin 0 */
	CHECK_EQUAL(set_line(&machine, 2, LINE_RAISING_PULSE), 0);
	CHECK_EQUAL(machine_said(&machine), 0);
	CHECK_EQUAL(set_line(&machine, 5, LINE_HIGH), 0);
	CHECK_EQUAL(machine_said(&machine), 5);
	CHECK_EQUAL(set_line(&machine, 5, LINE_HIGH), 0); /* no edge */
	CHECK(machine_idle(&machine));
	CHECK_EQUAL(set_line(&machine, 5, LINE_LOW), 0);
	CHECK_EQUAL(set_line(&machine, 12, LINE_FALLING_PULSE), 0); /* ends high */
	CHECK_EQUAL(machine_said(&machine), 12);
	CHECK_EQUAL(set_line(&machine, 24, LINE_HIGH), -EPERM);
	CHECK_EQUAL(set_line(&machine, 3, 77), 0); /* an unknown operation does nothing */
	CHECK(machine_idle(&machine));
	machine_close(&machine);
}

static void test_ioapic_lines(void)
{
	struct machine machine;

	machine_boot(&machine, PROGRAM(apic), PROTECTED_MODE);
	machine_ready(&machine);
	CHECK_EQUAL(set_line(&machine, 2, LINE_RAISING_PULSE), 0);
	CHECK_EQUAL(machine_said(&machine), 0x41);
	/* level: as long as it is high */
	CHECK_EQUAL(set_line(&machine, 20, LINE_HIGH), 0);
	CHECK_EQUAL(machine_said(&machine), 0x42);
	CHECK_EQUAL(machine_said(&machine), 0x42);
	CHECK_EQUAL(set_line(&machine, 20, LINE_LOW), 0);
	machine_close(&machine);
}

static void test_msi(void)
{
	struct acrn_msi_entry msi = { .msi_addr = 0xfee00000, .msi_data = 0x47 };
	struct machine machine;

	machine_boot(&machine, PROGRAM(apic), PROTECTED_MODE);
	machine_ready(&machine);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_INJECT_MSI, &msi), 0);
	CHECK_EQUAL(machine_said(&machine), 0x47);
	msi.msi_addr = 0xfee05000; /* no such CPU */
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_INJECT_MSI, &msi), 0);
	msi.msi_addr = 0x80000000; /* no local APIC there */
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_INJECT_MSI, &msi), EPERM);
	CHECK(machine_idle(&machine));
	machine_close(&machine);
}

static long irqfd(struct machine *machine, int fd, uint32_t flags, uint64_t data)
{
	struct acrn_irqfd args = { .fd = fd,
				   .flags = flags,
				   .msi = { .msi_addr = 0xfee00000, .msi_data = data } };

	return call_result(ioctl(machine->fd, ACRN_IOCTL_IRQFD, &args));
}

static void test_irqfd(void)
{
	int first = eventfd(0, EFD_CLOEXEC), second = eventfd(1, EFD_CLOEXEC), copy = dup(first);
	struct machine machine;

	machine_boot(&machine, PROGRAM(apic), PROTECTED_MODE);
	machine_ready(&machine);
	CHECK_EQUAL(irqfd(&machine, first, 0, 0x48), 0);
	eventfd_write(first, 1);
	CHECK_EQUAL(machine_said(&machine), 0x48);
	/* it is the eventfd that counts, not the descriptor */
	CHECK_EQUAL(irqfd(&machine, copy, 0, 0x49), -EBUSY);
	/* signalled before it was given */
	CHECK_EQUAL(irqfd(&machine, second, 0, 0x4a), 0);
	CHECK_EQUAL(machine_said(&machine), 0x4a);
	CHECK_EQUAL(irqfd(&machine, copy, ACRN_IRQFD_FLAG_DEASSIGN, 0), 0);
	eventfd_write(first, 1);
	CHECK(machine_idle(&machine));
	CHECK_EQUAL(irqfd(&machine, first, ACRN_IRQFD_FLAG_DEASSIGN, 0),
		    0); /* not there: no error */
	CHECK_EQUAL(irqfd(&machine, first, 0, 0x4b), 0);
	CHECK_EQUAL(machine_said(&machine), 0x4b);
	eventfd_write(second, 1);
	CHECK_EQUAL(machine_said(&machine), 0x4a);
	CHECK_EQUAL(irqfd(&machine, 999, 0, 0x48), -EBADF);
	CHECK_EQUAL(irqfd(&machine, machine.memfd, 0, 0x48), -EINVAL);
	machine_close(&machine);
}

static long ioeventfd(struct machine *machine, int fd, uint32_t flags, uint64_t address,
		      uint32_t length, uint64_t data)
{
	struct acrn_ioeventfd args = {
		.fd = (uint32_t)fd, .flags = flags, .addr = address, .len = length, .data = data
	};

	return call_result(ioctl(machine->fd, ACRN_IOCTL_IOEVENTFD, &args));
}

/* How often it was signalled since the last look. */
static uint64_t count(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	eventfd_t value = 0;

	if (poll(&poll_fd, 1, 0) == 1)
		eventfd_read(fd, &value);
	return value;
}

#define WAIT_SECONDS 20 /* for what must not wait; the signal then ends the test */
#define MATCH ACRN_IOEVENTFD_FLAG_DATAMATCH
#define PORT ACRN_IOEVENTFD_FLAG_PIO

static void test_ioeventfd(void)
{
	static const struct access accesses[] = {
		{ ACRN_IOREQ_TYPE_PORTIO, true, PORT_READY, 4, 0 },
		{ ACRN_IOREQ_TYPE_MMIO, true, 0x80001000, 4, 1 }, /* longer than any */
		{ ACRN_IOREQ_TYPE_MMIO, false, 0x80001000, 4, 0x99999999 },
		{ ACRN_IOREQ_TYPE_PORTIO, true, PORT_SAY, 4, 0x99990000 }, /* 16 bits read as 0 */
		{ ACRN_IOREQ_TYPE_PORTIO, true, PORT_DONE, 4, 8 },
	};
	int one = eventfd(0, 0), two = eventfd(0, 0), any = eventfd(0, 0), port = eventfd(0, 0);
	struct machine machine;

	machine_open(&machine, 0, 1);
	machine_load(&machine, PROGRAM(kick), PROTECTED_MODE);
	CHECK_EQUAL(ioeventfd(&machine, one, MATCH, 0x80001000, 2, 1), 0);
	CHECK_EQUAL(ioeventfd(&machine, two, MATCH, 0x80001000, 2, 2), 0);
	CHECK_EQUAL(ioeventfd(&machine, any, 0, 0x80001010, 2, 0), 0);
	CHECK_EQUAL(ioeventfd(&machine, port, MATCH | PORT, 0x700, 2, 7), 0);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_START_VM), 0);
	machine_expect(&machine, accesses, ARRAY_SIZE(accesses));
	CHECK_EQUAL(count(one), 2); /* 16 bits, and 8: at most as long as it was registered */
	CHECK_EQUAL(count(two), 1);
	CHECK_EQUAL(count(any), 1);
	CHECK_EQUAL(count(port), 1); /* 8 was in its range, and nobody's */
	machine_close(&machine);
}

/* The first that matches has it, whatever KVM would say; the next when it is gone. */
static void test_ioeventfd_order(void)
{
	static const struct access accesses[] = {
		{ ACRN_IOREQ_TYPE_PORTIO, true, PORT_READY, 4, 0 },
		{ ACRN_IOREQ_TYPE_PORTIO, true, PORT_SAY, 4, 0 },
		{ ACRN_IOREQ_TYPE_PORTIO, true, 0x700, 2, 7 },
		{ ACRN_IOREQ_TYPE_PORTIO, true, 0x700, 2, 8 },
		{ ACRN_IOREQ_TYPE_PORTIO, true, PORT_DONE, 4, 8 },
	};
	int wide = eventfd(0, 0), narrow = eventfd(0, 0), same = eventfd(0, 0),
	    gone = eventfd(0, 0);
	struct machine machine;

	machine_open(&machine, 0, 1);
	machine_load(&machine, PROGRAM(kick), PROTECTED_MODE);
	CHECK_EQUAL(ioeventfd(&machine, gone, 0, 0x80001000, 4, 0), 0);
	CHECK_EQUAL(ioeventfd(&machine, wide, 0, 0x80001000, 4, 0), 0);
	CHECK_EQUAL(ioeventfd(&machine, narrow, MATCH, 0x80001000, 2, 1), 0);
	CHECK_EQUAL(ioeventfd(&machine, same, 0, 0x80001010, 8, 0), 0);
	CHECK_EQUAL(ioeventfd(&machine, same, PORT, 0x700, 2, 0), 0);
	CHECK_EQUAL(ioeventfd(&machine, gone, ACRN_IOEVENTFD_FLAG_DEASSIGN, 0, 0, 0), 0);
	/* one at a time: the first that was registered for that eventfd */
	CHECK_EQUAL(ioeventfd(&machine, same, PORT, 0x700, 2, 0), -EEXIST);
	CHECK_EQUAL(ioeventfd(&machine, same, ACRN_IOEVENTFD_FLAG_DEASSIGN, 0, 0, 0), 0);
	CHECK_EQUAL(ioeventfd(&machine, same, ACRN_IOEVENTFD_FLAG_DEASSIGN, 0, 0, 0), 0);
	CHECK_EQUAL(ioeventfd(&machine, same, 0, 0x80001010, 4, 0), 0);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_START_VM), 0);
	machine_expect(&machine, accesses, ARRAY_SIZE(accesses));
	CHECK_EQUAL(count(gone), 0);
	CHECK_EQUAL(count(wide), 4);
	CHECK_EQUAL(count(narrow), 0);
	CHECK_EQUAL(count(same), 1);
	machine_close(&machine);
}

static void test_ioeventfd_refusals(void)
{
	int fd = eventfd(0, 0), other = eventfd(0, 0);
	struct acrn_ioeventfd args = {
		.fd = (uint32_t)fd, .addr = 0x1000, .len = 4, .reserved = 1
	};
	struct machine machine;

	machine_open(&machine, 0, 1);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_IOEVENTFD, &args), EINVAL);
	CHECK_EQUAL(ioeventfd(&machine, fd, 0, 0x80000000, 3, 0), -EINVAL);
	CHECK_EQUAL(ioeventfd(&machine, fd, 0, 0x80000000, 0, 0), -EINVAL);
	CHECK_EQUAL(ioeventfd(&machine, fd, 0, 0x80000000, 16, 0), -EINVAL);
	CHECK_EQUAL(ioeventfd(&machine, fd, 0, ~UINT64_C(0), 4, 0), -EINVAL);
	CHECK_EQUAL(ioeventfd(&machine, 999, 0, 0x80000000, 4, 0), -EBADF);
	CHECK_EQUAL(ioeventfd(&machine, machine.fd, 0, 0x80000000, 4, 0), -EINVAL);
	CHECK_EQUAL(ioeventfd(&machine, fd, MATCH, 0x80000000, 4, 1), 0);
	CHECK_EQUAL(ioeventfd(&machine, fd, MATCH, 0x80000000, 4, 1), -EEXIST);
	CHECK_EQUAL(ioeventfd(&machine, fd, MATCH, 0x80000000, 2, 1), -EEXIST);
	CHECK_EQUAL(ioeventfd(&machine, fd, 0, 0x80000000, 4, 0), -EEXIST);
	CHECK_EQUAL(ioeventfd(&machine, fd, MATCH, 0x80000000, 4, 2), 0);
	CHECK_EQUAL(ioeventfd(&machine, fd, MATCH | PORT, 0x80000000, 4, 1), 0);
	CHECK_EQUAL(ioeventfd(&machine, other, MATCH, 0x80000000, 4, 1), 0);
	CHECK_EQUAL(ioeventfd(&machine, 999, ACRN_IOEVENTFD_FLAG_DEASSIGN, 0, 0, 0), -EBADF);
	machine_close(&machine);
}

/* A full eventfd loses a signal, as in the kernel; neither the guest nor a call waits for room. */
static void test_full_eventfd(void)
{
	static const struct access accesses[] = {
		{ ACRN_IOREQ_TYPE_PORTIO, true, PORT_READY, 4, 0 },
		{ ACRN_IOREQ_TYPE_MMIO, true, 0x80001010, 2, 1 },
		{ ACRN_IOREQ_TYPE_MMIO, false, 0x80001010, 2, 0x9999 },
		{ ACRN_IOREQ_TYPE_PORTIO, true, PORT_SAY, 4, 0x9999 },
		{ ACRN_IOREQ_TYPE_PORTIO, true, 0x700, 2, 7 },
		{ ACRN_IOREQ_TYPE_PORTIO, true, 0x700, 2, 8 },
		{ ACRN_IOREQ_TYPE_PORTIO, true, PORT_DONE, 4, 8 },
	};
	int full = eventfd(0, 0);
	struct machine machine;

	machine_open(&machine, 0, 1);
	machine_load(&machine, PROGRAM(kick), PROTECTED_MODE);
	/* The guest's accesses of 8 and 16 bits are hsmd's to signal. */
	CHECK_EQUAL(ioeventfd(&machine, full, 0, 0x80001000, 4, 0), 0);
	CHECK_CALL(eventfd_write(full, UINT64_MAX - 1), 0);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_START_VM), 0);
	alarm(WAIT_SECONDS);
	machine_expect(&machine, accesses, ARRAY_SIZE(accesses));
	CHECK_EQUAL(ioeventfd(&machine, full, ACRN_IOEVENTFD_FLAG_DEASSIGN, 0, 0, 0), 0);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_PAUSE_VM), 0);
	alarm(0);
	CHECK(count(full) >= UINT64_MAX - 1);
	machine_close(&machine);
}

/* A VM has a bounded number of them, whatever hsmd needs for one; room is made by deassigning. */
static void test_many_ioeventfds(void)
{
	int fd = eventfd(0, 0), other = eventfd(0, 0);
	unsigned int assigned = 0;
	struct machine machine;
	long ret = 0;

	machine_open(&machine, 0, 1);
	for (uint64_t i = 0; !ret && i < 2000; i++) {
		ret = ioeventfd(&machine, fd, 0, 0x80000000 + i * 8, 4, 0);
		assigned += !ret;
	}
	CHECK_EQUAL(assigned, 1024);
	CHECK_EQUAL(ret, -ENOSPC);
	CHECK_EQUAL(ioeventfd(&machine, other, PORT, 0x700, 2, 0), -ENOSPC);
	CHECK_EQUAL(ioeventfd(&machine, fd, 0, 0x80000000, 4, 0), -EEXIST);
	CHECK_EQUAL(ioeventfd(&machine, fd, ACRN_IOEVENTFD_FLAG_DEASSIGN, 0, 0, 0), 0);
	CHECK_EQUAL(ioeventfd(&machine, other, PORT, 0x700, 2, 0), 0);
	machine_close(&machine);
}

/* ---- A client whose first thread has ended */

static char first_thread_state(void)
{
	FILE *file = fopen("/proc/self/stat", "re");
	char state = '?';

	CHECK(file);
	CHECK_EQUAL(fscanf(file, "%*d (%*[^)]) %c", &state), 1);
	fclose(file);
	return state;
}

/* Ends the test's process, and so the test. */
static void *second_thread(void *arg)
{
	int fd = eventfd(0, 0), other = eventfd(0, 0);
	struct machine *machine = arg;

	while (first_thread_state() != 'Z')
		wait_ms(10);
	CHECK_EQUAL(ioeventfd(machine, fd, 0, 0x80000000, 4, 0), 0);
	CHECK_EQUAL(irqfd(machine, other, 0, 0x48), 0);
	CHECK_EQUAL(ioeventfd(machine, 999, 0, 0x80000000, 4, 0), -EBADF);
	_exit(0);
}

static void test_no_first_thread(void)
{
	static struct machine machine;
	pthread_t thread;
	int pidfd = (int)syscall(SYS_pidfd_open, getpid(), O_EXCL /* PIDFD_THREAD */);

	if (pidfd < 0 && errno == EINVAL) {
		printf("# Linux before 6.9: eventfds are found by the first thread only\n");
		return;
	}
	machine_open(&machine, 0, 1);
	fflush(stdout);
	pthread_create(&thread, NULL, second_thread, &machine);
	syscall(SYS_exit, 0); /* pthread_exit() loads a library, which the lab has not */
}

const struct test event_tests[] = {
	{ "pic-lines", test_pic_lines },
	{ "ioapic-lines", test_ioapic_lines },
	{ "msi", test_msi },
	{ "irqfd", test_irqfd },
	{ "ioeventfd", test_ioeventfd },
	{ "ioeventfd-order", test_ioeventfd_order },
	{ "ioeventfd-refusals", test_ioeventfd_refusals },
	{ "full-eventfd", test_full_eventfd },
	{ "many-ioeventfds", test_many_ioeventfds },
	{ "no-first-thread", test_no_first_thread },
	{ NULL, NULL },
};
