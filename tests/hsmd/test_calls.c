/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_calls.c: what is refused, with which errno. As Linux's drivers/virt/acrn, with the
 * hypervisor's -1 coming out as EPERM.
 */
#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NOWHERE ((void *)8)

/* Any call but CREATE_VM on a file without a VM. */
static void test_before_create(void)
{
	static const unsigned long calls[] = {
		ACRN_IOCTL_START_VM,
		ACRN_IOCTL_PAUSE_VM,
		ACRN_IOCTL_RESET_VM,
		ACRN_IOCTL_DESTROY_VM,
		ACRN_IOCTL_SET_VCPU_REGS,
		ACRN_IOCTL_SET_MEMSEG,
		ACRN_IOCTL_CREATE_IOREQ_CLIENT,
		ACRN_IOCTL_ATTACH_IOREQ_CLIENT,
		ACRN_IOCTL_DESTROY_IOREQ_CLIENT,
		ACRN_IOCTL_NOTIFY_REQUEST_FINISH,
		ACRN_IOCTL_CLEAR_VM_IOREQ,
		ACRN_IOCTL_INJECT_MSI,
		ACRN_IOCTL_SET_IRQLINE,
		ACRN_IOCTL_IOEVENTFD,
		ACRN_IOCTL_IRQFD,
		ACRN_IOCTL_PM_GET_CPU_STATE,
		_IO(ACRN_IOCTL_TYPE, 0x99),
	};
	int fd = open(device_path, O_RDWR);

	CHECK(fd >= 0);
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
		CHECK_CALL(ioctl(fd, calls[i], NOWHERE), EINVAL);
	CHECK_CALL(ioctl(fd, ACRN_IOCTL_CREATE_VM, NOWHERE), EFAULT);
	close(fd);
}

static void test_create(void)
{
	struct acrn_vm_creation good, creation;
	struct machine machine;
	int fd;

	machine_open(&machine, 0, 1);
	CHECK(machine.creation.vmid > 0);
	CHECK_EQUAL(machine.creation.vcpu_num, 1);
	good = machine.creation;
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_CREATE_VM, &good), EINVAL);
	machine_close(&machine);

	fd = open(device_path, O_RDWR);
	good.ioreq_buf = (uintptr_t)aligned_alloc(4096, 4096);
	creation = good;
	creation.reserved0 = 1;
	CHECK_CALL(ioctl(fd, ACRN_IOCTL_CREATE_VM, &creation), EINVAL);
	creation = good;
	creation.reserved1 = 1;
	CHECK_CALL(ioctl(fd, ACRN_IOCTL_CREATE_VM, &creation), EINVAL);
	creation = good;
	creation.ioreq_buf = 0x1000; /* nothing there */
	CHECK_CALL(ioctl(fd, ACRN_IOCTL_CREATE_VM, &creation), EINVAL);
	creation = good;
	creation.cpu_affinity = 0x1ffff; /* 17 CPUs */
	CHECK_CALL(ioctl(fd, ACRN_IOCTL_CREATE_VM, &creation), EINVAL);
	creation = good;
	creation.vm_flag = 2; /* LAPIC passthrough without real time */
	CHECK_CALL(ioctl(fd, ACRN_IOCTL_CREATE_VM, &creation), EINVAL);
	creation = good;
	creation.cpu_affinity = 0xa;
	CHECK_CALL(ioctl(fd, ACRN_IOCTL_CREATE_VM, &creation), 0);
	CHECK_EQUAL(creation.vcpu_num, 2);
	/* Destroyed, the file can have another. */
	CHECK_CALL(ioctl(fd, ACRN_IOCTL_DESTROY_VM), EPERM);
	CHECK_CALL(ioctl(fd, ACRN_IOCTL_PAUSE_VM), 0);
	CHECK_CALL(ioctl(fd, ACRN_IOCTL_DESTROY_VM), 0);
	CHECK_CALL(ioctl(fd, ACRN_IOCTL_DESTROY_VM), EINVAL);
	CHECK_CALL(ioctl(fd, ACRN_IOCTL_CREATE_VM, &creation), 0);
	close(fd);
}

static void test_unknown(void)
{
	struct machine machine;

	machine_open(&machine, 0, 1);
	/* asyncio and the VM event ring are in ACRN's own kernel only */
	CHECK_CALL(ioctl(machine.fd, _IOW(ACRN_IOCTL_TYPE, 0x90, uint64_t), NOWHERE), ENOTTY);
	CHECK_CALL(ioctl(machine.fd, _IOW(ACRN_IOCTL_TYPE, 0xa0, uint64_t), NOWHERE), ENOTTY);
	CHECK_CALL(ioctl(machine.fd, _IOW(ACRN_IOCTL_TYPE, 0xa1, uint64_t), NOWHERE), ENOTTY);
	CHECK_CALL(ioctl(machine.fd, _IO(0xae, 0)), ENOTTY);
	machine_close(&machine);
}

static void test_bad_addresses(void)
{
	static const unsigned long calls[] = {
		ACRN_IOCTL_SET_VCPU_REGS,   ACRN_IOCTL_SET_MEMSEG,
		ACRN_IOCTL_UNSET_MEMSEG,    ACRN_IOCTL_NOTIFY_REQUEST_FINISH,
		ACRN_IOCTL_INJECT_MSI,	    ACRN_IOCTL_IOEVENTFD,
		ACRN_IOCTL_IRQFD,	    ACRN_IOCTL_PM_GET_CPU_STATE,
		ACRN_IOCTL_VM_INTR_MONITOR, ACRN_IOCTL_ASSIGN_PCIDEV,
		ACRN_IOCTL_ASSIGN_MMIODEV,  ACRN_IOCTL_SET_PTDEV_INTR,
		ACRN_IOCTL_CREATE_VDEV,
	};
	struct machine machine;

	machine_open(&machine, 0, 1);
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
		CHECK_CALL(ioctl(machine.fd, calls[i], NOWHERE), EFAULT);
	machine_close(&machine);
}

static void test_regs(void)
{
	struct acrn_vcpu_regs good, regs;
	struct machine machine;

	machine_open(&machine, 0, 1);
	machine_load(&machine, PROGRAM(spin), PROTECTED_MODE);
	machine_regs(PROTECTED_MODE, &good);
	regs = good;
	regs.reserved[1] = 1;
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_SET_VCPU_REGS, &regs), EINVAL);
	regs = good;
	regs.vcpu_regs.reserved_32[2] = 1;
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_SET_VCPU_REGS, &regs), EINVAL);
	regs = good;
	regs.vcpu_regs.reserved_64[3] = 1;
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_SET_VCPU_REGS, &regs), EINVAL);
	regs = good;
	regs.vcpu_regs.idt.reserved[0] = 1;
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_SET_VCPU_REGS, &regs), EINVAL);
	regs = good;
	regs.vcpu_id = 1;
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_SET_VCPU_REGS, &regs), EPERM);
	regs = good;
	regs.vcpu_regs.cr0 = 0x80000030; /* paging without protection */
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_SET_VCPU_REGS, &regs), EPERM);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_SET_VCPU_REGS, &good), 0);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_START_VM), 0);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_SET_VCPU_REGS, &good), EPERM);
	machine_close(&machine);
}

static void test_order(void)
{
	struct machine machine;

	machine_boot(&machine, PROGRAM(spin), REAL_MODE);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_START_VM), EPERM);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_RESET_VM), EPERM);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_DESTROY_VM), EPERM);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_PAUSE_VM), 0);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_PAUSE_VM), 0);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_START_VM), EPERM);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_RESET_VM), 0);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_RESET_VM), EPERM);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_START_VM), 0);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_PAUSE_VM), 0);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_DESTROY_VM), 0);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_START_VM), EINVAL);
	machine_close(&machine);
}

static void test_client(void)
{
	struct acrn_ioreq_notify notify = { .vcpu = 1 };
	struct machine machine;

	machine_open(&machine, 0, 1);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_ATTACH_IOREQ_CLIENT), ENODEV);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_DESTROY_IOREQ_CLIENT), 0);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_NOTIFY_REQUEST_FINISH, &notify), 0);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_CREATE_IOREQ_CLIENT), 0);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_CREATE_IOREQ_CLIENT), EEXIST);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_NOTIFY_REQUEST_FINISH, &notify), EINVAL);
	notify = (struct acrn_ioreq_notify) { .reserved = 1 };
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_NOTIFY_REQUEST_FINISH, &notify), EINVAL);
	notify.reserved = 0;
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_NOTIFY_REQUEST_FINISH, &notify), 0);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_CLEAR_VM_IOREQ), 0);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_DESTROY_IOREQ_CLIENT), 0);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_ATTACH_IOREQ_CLIENT), ENODEV);
	machine_close(&machine);
}

static void test_memory_segments(void)
{
	const int protection = PROT_READ | PROT_WRITE;
	uint8_t *private = mmap(NULL, RAM_SIZE, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *shared = mmap(NULL, 2 * RAM_SIZE, protection, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct acrn_vm_memmap good = { .type = ACRN_MEMMAP_RAM,
				       .attr = ACRN_MEM_ACCESS_RWX,
				       .user_vm_pa = 0x100000,
				       .vma_base = (uintptr_t)shared,
				       .len = RAM_SIZE };
	struct acrn_vm_memmap map = good;
	struct machine machine;

	CHECK(private != MAP_FAILED && shared != MAP_FAILED);
	CHECK_CALL(munmap(shared + RAM_SIZE, RAM_SIZE), 0);
	machine_open(&machine, 0, 1);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_SET_MEMSEG, &map), 0);
	/* the same again: it lies over what was there */
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_SET_MEMSEG, &map), 0);
	map.vma_base = (uintptr_t) private;
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_SET_MEMSEG, &map), EOPNOTSUPP);
	map.vma_base = 0x1000;
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_SET_MEMSEG, &map), EFAULT);
	map = good;
	map.len = 2 * RAM_SIZE; /* half of it is not there */
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_SET_MEMSEG, &map), EFAULT);
	map = good;
	map.len = 0;
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_SET_MEMSEG, &map), ENOMEM);
	map = good;
	map.type = 2;
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_SET_MEMSEG, &map), EINVAL);
	map.type = ACRN_MEMMAP_MMIO;
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_SET_MEMSEG, &map), EINVAL);
	map = good;
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_UNSET_MEMSEG, &map), EINVAL);
	map.type = ACRN_MEMMAP_MMIO;
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_UNSET_MEMSEG, &map), 0);
	machine_close(&machine);
}

/* ---- A client that replaces what hsmd looks at */

/* A place where a mapping of a memfd and one of a file that may only be read take turns. */
struct turns {
	uint8_t *place;
	int memfd, file;
	char path[32];
	bool end; /* atomic */
};

static void turns_make(struct turns *turns)
{
	*turns = (struct turns) { .path = "/tmp/hsmd-secret-XXXXXX" };
	turns->memfd = memfd_create("turns", MFD_CLOEXEC);
	CHECK_CALL(ftruncate(turns->memfd, RAM_SIZE), 0);
	turns->file = mkstemp(turns->path);
	CHECK_CALL(ftruncate(turns->file, RAM_SIZE), 0);
	CHECK_CALL(fchmod(turns->file, 0444), 0);
	close(turns->file);
	turns->file = open(turns->path, O_RDONLY);
	CHECK(turns->file >= 0);
	turns->place = mmap(NULL, RAM_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(turns->place != MAP_FAILED);
}

static void *take_turns(void *arg)
{
	struct turns *turns = arg;

	while (!__atomic_load_n(&turns->end, __ATOMIC_RELAXED)) {
		mmap(turns->place, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		     turns->memfd, 0);
		mmap(turns->place, RAM_SIZE, PROT_READ, MAP_SHARED | MAP_FIXED, turns->file, 0);
	}
	return NULL;
}

static bool hsmd_maps_writable(const char *name)
{
	char path[64], line[512];
	bool found = false;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", hsmd_pid);
	maps = fopen(path, "re");
	CHECK(maps);
	while (!found && fgets(line, sizeof(line), maps))
		found = strstr(line, name) && strstr(line, "rw-s");
	fclose(maps);
	return found;
}

/* hsmd, which is root, must not open for writing what its client may only read. */
static void test_replaced_memory(void)
{
	struct acrn_vm_memmap map = { .attr = ACRN_MEM_ACCESS_RWX, .len = RAM_SIZE };
	time_t end = time(NULL) + 20;
	unsigned int successes = 0;
	bool writable = false;
	struct machine machine;
	struct turns turns;
	pthread_t thread;

	if (!hsmd_pid)
		return;
	turns_make(&turns);
	machine_open(&machine, 0, 1);
	map.vma_base = (uintptr_t)turns.place;
	pthread_create(&thread, NULL, take_turns, &turns);
	for (unsigned int i = 0; i < 3000 && !writable && time(NULL) < end; i++) {
		map.type = ACRN_MEMMAP_RAM;
		if (ioctl(machine.fd, ACRN_IOCTL_SET_MEMSEG, &map))
			continue;
		successes++;
		writable = hsmd_maps_writable(turns.path);
		map.type = ACRN_MEMMAP_MMIO;
		CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_UNSET_MEMSEG, &map), 0);
	}
	__atomic_store_n(&turns.end, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	unlink(turns.path);
	printf("# %u segments of memory that was being replaced\n", successes);
	CHECK(successes);
	CHECK(!writable);
	machine_close(&machine);
}

static void test_passthrough(void)
{
	struct acrn_pcidev pcidev = { .phys_bdf = 0x10 };
	struct acrn_mmiodev mmiodev = { .name = "NONE" };
	struct acrn_ptdev_irq irq = { .type = ACRN_PTDEV_IRQ_INTX };
	struct acrn_vdev vdev = { .slot = 1 };
	struct machine machine;

	machine_open(&machine, 0, 1);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_ASSIGN_PCIDEV, &pcidev), ENODEV);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_DEASSIGN_PCIDEV, &pcidev), ENODEV);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_ASSIGN_MMIODEV, &mmiodev), EINVAL);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_DEASSIGN_MMIODEV, &mmiodev), EINVAL);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_SET_PTDEV_INTR, &irq), EPERM);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_RESET_PTDEV_INTR, &irq), EPERM);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_CREATE_VDEV, &vdev), EINVAL);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_DESTROY_VDEV, &vdev), EINVAL);
	machine_close(&machine);
}

static void test_power_and_monitor(void)
{
	struct {
		uint32_t command, count;
	} *monitor = aligned_alloc(4096, 4096);
	uint64_t command = ACRN_PMCMD_GET_PX_CNT;
	struct machine machine;

	machine_open(&machine, 0, 1);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_PM_GET_CPU_STATE, &command), EPERM);
	command = ACRN_PMCMD_GET_CX_DATA;
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_PM_GET_CPU_STATE, &command), EPERM);
	command = 0x77;
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_PM_GET_CPU_STATE, &command), 0);
	memset(monitor, 0, 4096);
	monitor->count = 48;
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_VM_INTR_MONITOR, monitor), 0);
	CHECK_EQUAL(monitor->count, 0);
	monitor->count = 49;
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_VM_INTR_MONITOR, monitor), EINVAL);
	machine_close(&machine);
}

const struct test call_tests[] = {
	{ "before-create", test_before_create },
	{ "create", test_create },
	{ "unknown-calls", test_unknown },
	{ "bad-addresses", test_bad_addresses },
	{ "registers", test_regs },
	{ "order", test_order },
	{ "ioreq-client", test_client },
	{ "memory-segments", test_memory_segments },
	{ "replaced-memory", test_replaced_memory },
	{ "passthrough", test_passthrough },
	{ "power-and-monitor", test_power_and_monitor },
	{ NULL, NULL },
};
