/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_life.c: waiting, resetting, several VMs at once, and clients that die.
 */
#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEATHS 50
#define SETTLE_MS 10000

static void *attach_thread(void *arg)
{
	struct machine *machine = arg;

	return (void *)call_result(ioctl(machine->fd, ACRN_IOCTL_ATTACH_IOREQ_CLIENT));
}

static long joined(pthread_t thread)
{
	void *result;

	pthread_join(thread, &result);
	return (long)result;
}

/* Whoever waits is told that the client is gone, or the VM. */
static void test_attach_woken(void)
{
	struct machine machine;
	pthread_t first, second;

	machine_boot(&machine, PROGRAM(sleep), REAL_MODE);
	machine_ready(&machine);
	pthread_create(&first, NULL, attach_thread, &machine);
	pthread_create(&second, NULL, attach_thread, &machine);
	wait_ms(100);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_DESTROY_IOREQ_CLIENT), 0);
	CHECK_EQUAL(joined(first), -ENODEV);
	CHECK_EQUAL(joined(second), -ENODEV);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_CREATE_IOREQ_CLIENT), 0);
	pthread_create(&first, NULL, attach_thread, &machine);
	wait_ms(100);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_PAUSE_VM), 0);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_DESTROY_VM), 0);
	CHECK_EQUAL(joined(first), -ENODEV);
	machine_close(&machine);
}

/* A request that came before there was a client, or that one left behind, is the next one's. */
static void test_late_client(void)
{
	struct machine machine;
	struct access access;

	machine_open(&machine, 0, 1);
	machine_load(&machine, PROGRAM(spin), REAL_MODE);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_DESTROY_IOREQ_CLIENT), 0);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_START_VM), 0);
	wait_ms(200);
	CHECK_EQUAL(machine.page->req_slot[0].processed, ACRN_IOREQ_STATE_PENDING);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_CREATE_IOREQ_CLIENT), 0);
	CHECK_EQUAL(machine_attach(&machine), 0);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_DESTROY_IOREQ_CLIENT), 0);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_CREATE_IOREQ_CLIENT), 0);
	machine_next(&machine, NULL, &access);
	CHECK_EQUAL(access.address, PORT_READY);
	machine_close(&machine);
}

static void start_over(struct machine *machine, const uint8_t *program, size_t size)
{
	struct acrn_vcpu_regs regs;

	memcpy(machine->ram + CODE_ADDRESS, program, size);
	machine_regs(REAL_MODE, &regs);
	CHECK_CALL(ioctl(machine->fd, ACRN_IOCTL_RESET_VM), 0);
	CHECK_EQUAL(machine->page->req_slot[0].processed, ACRN_IOREQ_STATE_FREE);
	CHECK_CALL(ioctl(machine->fd, ACRN_IOCTL_SET_VCPU_REGS, &regs), 0);
	CHECK_CALL(ioctl(machine->fd, ACRN_IOCTL_START_VM), 0);
}

/* As acrn-dm does it: the request that led to the reset is never finished. */
static void test_reset(void)
{
	int kick = eventfd(0, 0);
	struct acrn_ioeventfd io = {
		.fd = (uint32_t)kick, .flags = ACRN_IOEVENTFD_FLAG_PIO, .addr = PORT_SAY, .len = 4
	};
	struct machine machine;
	eventfd_t value;

	machine_boot(&machine, PROGRAM(loop), REAL_MODE);
	for (unsigned int i = 0; i < 5; i++) {
		CHECK_EQUAL(machine_attach(&machine), 0);
		CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_PAUSE_VM), 0);
		CHECK_EQUAL(machine.page->req_slot[0].processed, ACRN_IOREQ_STATE_PROCESSING);
		CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_CLEAR_VM_IOREQ), 0);
		CHECK_EQUAL(machine.page->req_slot[0].processed, ACRN_IOREQ_STATE_COMPLETE);
		start_over(&machine, PROGRAM(loop));
	}
	/* Segments and eventfds outlive it. */
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_IOEVENTFD, &io), 0);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_PAUSE_VM), 0);
	start_over(&machine, PROGRAM(identity));
	eventfd_read(kick, &value);
	CHECK(value >= 1);
	machine_close(&machine);
}

/* Another VM on the same file, in place of one that was destroyed in the middle of a request. */
static void create_again(struct machine *machine, const uint8_t *program, size_t size)
{
	CHECK_CALL(ioctl(machine->fd, ACRN_IOCTL_PAUSE_VM), 0);
	CHECK_CALL(ioctl(machine->fd, ACRN_IOCTL_DESTROY_VM), 0);
	machine->creation.vm_flag = 0;
	CHECK_CALL(ioctl(machine->fd, ACRN_IOCTL_CREATE_VM, &machine->creation), 0);
	machine_load(machine, program, size, REAL_MODE);
	CHECK_EQUAL(machine->page->req_slot[0].processed, ACRN_IOREQ_STATE_FREE);
	CHECK_CALL(ioctl(machine->fd, ACRN_IOCTL_START_VM), 0);
}

static void test_second_vm(void)
{
	struct machine machine;

	machine_boot(&machine, PROGRAM(loop), REAL_MODE);
	CHECK_EQUAL(machine_attach(&machine), 0);
	create_again(&machine, PROGRAM(identity));
	CHECK_EQUAL(machine_said(&machine), 0x40000010);
	CHECK_EQUAL(machine_said(&machine), 0x4e524341);
	machine_close(&machine);
}

/* The notification that the first VM's client still owed is not waited for. */
static void test_second_vm_polling(void)
{
	struct machine machine;

	machine_open(&machine, 4, 1);
	machine_load(&machine, PROGRAM(loop), REAL_MODE);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_START_VM), 0);
	while (machine_attach(&machine) < 0)
		wait_ms(1);
	machine_put(&machine, 0, 0);
	while (machine_attach(&machine) < 0)
		wait_ms(1);
	create_again(&machine, PROGRAM(identity));
	CHECK_EQUAL(machine_said(&machine), 0x40000010);
	CHECK_EQUAL(machine_said(&machine), 0x4e524341);
	machine_close(&machine);
}

static void *vm_thread(void *arg)
{
	struct machine *machine = arg;
	struct access access;

	for (unsigned int i = 0; i < 200; i++) {
		machine_next(machine, NULL, &access);
		CHECK_EQUAL(access.address, 0x600);
	}
	return NULL;
}

static void test_several(void)
{
	struct machine machines[4];
	pthread_t threads[4];

	for (unsigned int i = 0; i < 4; i++) {
		machine_boot(&machines[i], PROGRAM(loop), REAL_MODE);
		for (unsigned int j = 0; j < i; j++)
			CHECK(machines[j].creation.vmid != machines[i].creation.vmid);
	}
	for (unsigned int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, vm_thread, &machines[i]);
	for (unsigned int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	for (unsigned int i = 0; i < 4; i++)
		machine_close(&machines[i]);
}

/* A segment may be made of several mappings, of pieces of files in any order. */
static void test_scattered_memory(void)
{
	struct acrn_vm_memmap map = { .type = ACRN_MEMMAP_RAM, .attr = ACRN_MEM_ACCESS_RWX };
	int memfd = memfd_create("pieces", MFD_CLOEXEC);
	struct acrn_vcpu_regs regs;
	struct machine machine;
	uint8_t *ram;

	machine_open(&machine, 0, 1);
	CHECK_CALL(ftruncate(memfd, 0x40000), 0);
	ram = mmap(NULL, 0x40000, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	for (unsigned int i = 0; i < 4; i++)
		CHECK(mmap(ram + i * 0x10000, 0x10000, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_FIXED, memfd, (3 - i) * 0x10000) != MAP_FAILED);
	memcpy(ram + 0x20000 + CODE_ADDRESS, guest_once, (size_t)(guest_once_end - guest_once));
	map.vma_base = (uintptr_t)ram + 0x8000;
	map.user_vm_pa = 0x8000;
	map.len = 0x38000;
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_SET_MEMSEG, &map), 0);
	machine_regs(REAL_MODE, &regs);
	regs.vcpu_regs.cs_base = 0x20000;
	regs.vcpu_regs.cs_sel = 0x2000;
	regs.vcpu_regs.gprs.rdx = 0x600;
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_SET_VCPU_REGS, &regs), 0);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_CREATE_IOREQ_CLIENT), 0);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_START_VM), 0);
	EXPECT(&machine, ((const struct access[]) {
				 { ACRN_IOREQ_TYPE_PORTIO, false, 0x600, 4, 0x31415926 },
				 { ACRN_IOREQ_TYPE_PORTIO, true, PORT_SAY, 4, 0x31415926 },
			 }));
	machine_close(&machine);
}

/* ---- What hsmd says that it holds */

struct counts {
	unsigned int files, vms, vcpu_threads, fds, threads;
	unsigned long memory;
};

/* The last line that hsmd logged about what it holds. */
static bool read_counts(struct counts *counts, unsigned int *lines)
{
	FILE *file = fopen(hsmd_log, "re");
	unsigned int found = 0;
	char line[512];

	CHECK(file);
	while (fgets(line, sizeof(line), file)) {
		const char *text = strstr(line, "stats: ");

		found += text && sscanf(text,
					"stats: files=%u vms=%u vcpu_threads=%u fds=%u threads=%u "
					"guest_memory_kib=%lu",
					&counts->files, &counts->vms, &counts->vcpu_threads,
					&counts->fds, &counts->threads, &counts->memory) == 6;
	}
	fclose(file);
	if (found == *lines)
		return false;
	*lines = found;
	return true;
}

static void ask(struct counts *counts)
{
	unsigned int lines = 0;

	read_counts(counts, &lines);
	CHECK_CALL(kill(hsmd_pid, SIGUSR1), 0);
	for (unsigned int i = 0; i < 200; i++) {
		if (read_counts(counts, &lines))
			return;
		wait_ms(10);
	}
	CHECK(!"hsmd logs its counts");
}

/* The kernel closes a dead client's file when it gets to it. */
static void settle(struct counts *counts)
{
	for (unsigned int i = 0; i < SETTLE_MS / 50; i++) {
		ask(counts);
		if (!counts->files)
			return;
		wait_ms(50);
	}
}

/* hsmd maps what a VM has, however large the file that it is a part of; and one eventfd once. */
static void test_holdings(void)
{
	struct acrn_vm_memmap map = { .type = ACRN_MEMMAP_RAM,
				      .attr = ACRN_MEM_ACCESS_RWX,
				      .len = 0x1000 };
	struct acrn_ioeventfd io = { .fd = (uint32_t)eventfd(0, 0), .len = 4 };
	const size_t size = (size_t)1 << 40;
	int memfd = memfd_create("sparse", MFD_CLOEXEC);
	struct counts before, after;
	struct machine machine;
	uint8_t *ram;

	if (!hsmd_pid)
		return;
	CHECK_CALL(ftruncate(memfd, (off_t)size), 0);
	ram = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	CHECK(ram != MAP_FAILED);
	settle(&before);
	machine_open(&machine, 0, 1);
	ask(&before);
	map.vma_base = (uintptr_t)ram + size / 2;
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_SET_MEMSEG, &map), 0);
	map.vma_base = (uintptr_t)ram + size - 0x1000;
	map.user_vm_pa = 0x1000;
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_SET_MEMSEG, &map), 0);
	for (io.addr = 0x80000000; io.addr < 0x80000100; io.addr += 4)
		CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_IOEVENTFD, &io), 0);
	ask(&after);
	CHECK_EQUAL(before.memory, 0);
	CHECK_EQUAL(after.memory, 8);
	CHECK_EQUAL(after.fds, before.fds + 1);
	machine_close(&machine);
}

/* ---- Deaths */

/* A client with everything that can be left behind, in the middle of requests. */
static void busy_client(unsigned int seed)
{
	int events[4] = { eventfd(0, 0), eventfd(0, 0), eventfd(0, 0), eventfd(0, 0) };
	struct machine machine;
	struct access access;

	machine_open(&machine, seed % 3 ? 0 : 4, 3);
	/* Half way through a request, or waiting for one that never comes. */
	if (seed % 5)
		machine_load(&machine, PROGRAM(loop), REAL_MODE);
	else
		machine_load(&machine, PROGRAM(sleep), REAL_MODE);
	for (unsigned int i = 0; i < 2; i++) {
		struct acrn_ioeventfd io = { .fd = (uint32_t)events[i],
					     .addr = 0x80000000 + i * 4096,
					     .len = 4 };
		struct acrn_irqfd irq = { .fd = events[2 + i],
					  .msi = { .msi_addr = 0xfee00000, .msi_data = 0x40 } };

		CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_IOEVENTFD, &io), 0);
		CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_IRQFD, &irq), 0);
	}
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_START_VM), 0);
	for (;;)
		machine_next(&machine, NULL, &access);
}

static void one_death(unsigned int seed)
{
	pid_t child = fork();
	int status;

	if (!child) {
		busy_client(seed);
		_exit(0);
	}
	wait_ms(rand() % 120);
	kill(child, SIGKILL);
	CHECK_EQUAL(waitpid(child, &status, 0), child);
	CHECK(WIFSIGNALED(status));
}

static void test_deaths(void)
{
	struct counts before, after;
	struct machine machine;

	srand(4711);
	/* Threads of libfuse come with the first calls, and stay. */
	for (unsigned int i = 0; i < 5; i++)
		one_death(i);
	if (hsmd_pid)
		settle(&before);
	for (unsigned int i = 0; i < DEATHS; i++)
		one_death(i);
	if (hsmd_pid) {
		settle(&after);
		printf("# after %d deaths: files %u, vms %u, vcpu_threads %u, fds %u (before %u), "
		       "threads %u (before %u), guest memory %lu KiB\n",
		       DEATHS, after.files, after.vms, after.vcpu_threads, after.fds, before.fds,
		       after.threads, before.threads, after.memory);
		CHECK_EQUAL(after.files, 0);
		CHECK_EQUAL(after.vms, 0);
		CHECK_EQUAL(after.vcpu_threads, 0);
		CHECK_EQUAL(after.fds, before.fds);
		CHECK_EQUAL(after.memory, 0);
	}
	/* And it serves on. */
	machine_boot(&machine, PROGRAM(spin), REAL_MODE);
	machine_ready(&machine);
	machine_close(&machine);
}

const struct test life_tests[] = {
	{ "attach-woken", test_attach_woken },
	{ "late-client", test_late_client },
	{ "reset", test_reset },
	{ "second-vm", test_second_vm },
	{ "second-vm-polling", test_second_vm_polling },
	{ "several-vms", test_several },
	{ "scattered-memory", test_scattered_memory },
	{ "holdings", test_holdings },
	{ "deaths", test_deaths },
	{ NULL, NULL },
};
