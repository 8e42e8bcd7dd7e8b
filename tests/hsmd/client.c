/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client.c: a device model in miniature: makes VMs, hands their accesses to a test.
 */
#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define PAGE_SIZE_BYTES 4096

long call_result(long returned)
{
	return returned < 0 ? -errno : returned;
}

void wait_ms(unsigned int milliseconds)
{
	struct timespec time = { milliseconds / 1000, milliseconds % 1000 * 1000000L };

	nanosleep(&time, NULL);
}

void machine_open(struct machine *machine, uint64_t flags, uint64_t affinity)
{
	struct acrn_vm_creation *creation = &machine->creation;

	memset(machine, 0, sizeof(*machine));
	machine->fd = open(device_path, O_RDWR | O_CLOEXEC);
	CHECK(machine->fd >= 0);
	/* Plain private memory, as acrn-dm has it. */
	machine->page = aligned_alloc(PAGE_SIZE_BYTES, PAGE_SIZE_BYTES);
	CHECK(machine->page);
	memset(machine->page, 0xff, PAGE_SIZE_BYTES);
	memcpy(&creation->uuid, "HSMD_TEST", 9);
	creation->vm_flag = flags;
	creation->ioreq_buf = (uintptr_t)machine->page;
	creation->cpu_affinity = affinity;
	CHECK_CALL(ioctl(machine->fd, ACRN_IOCTL_CREATE_VM, creation), 0);
	for (unsigned int i = 0; i < ACRN_IO_REQUEST_MAX; i++)
		CHECK_EQUAL(machine->page->req_slot[i].processed, ACRN_IOREQ_STATE_FREE);
}

static void write_gdt(uint8_t *ram)
{
	static const uint64_t gdt[] = { 0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff,
					0x00af9b000000ffff };

	memcpy(ram + GDT_ADDRESS, gdt, sizeof(gdt));
}

/* 4 GiB, each address as itself, in pages of 2 MiB. */
static void write_page_tables(uint8_t *ram)
{
	uint64_t *tables = (uint64_t *)(void *)(ram + PAGES_ADDRESS);

	tables[0] = PAGES_ADDRESS + 0x1003;
	for (uint64_t i = 0; i < 4; i++)
		tables[512 + i] = PAGES_ADDRESS + 0x2003 + (i << 12);
	for (uint64_t i = 0; i < 2048; i++)
		tables[1024 + i] = i << 21 | 0x83;
}

void machine_regs(enum mode mode, struct acrn_vcpu_regs *regs)
{
	static const uint32_t cr0[] = { 0x30, 0x31, 0x80000031 };
	static const uint32_t code_rights[] = { 0x9b, 0xc09b, 0xa09b };
	static const uint16_t code_selector[] = { 0, 0x10, 0x20 };
	struct acrn_regs *to = &regs->vcpu_regs;

	memset(regs, 0, sizeof(*regs));
	to->cr0 = cr0[mode];
	to->cs_ar = code_rights[mode];
	to->cs_sel = code_selector[mode];
	to->cs_limit = mode == REAL_MODE ? 0xffff : 0xffffffff;
	to->rip = CODE_ADDRESS;
	to->gprs.rsp = 0x7000;
	to->rflags = 2;
	to->idt.limit = mode == REAL_MODE ? 0x3ff : 0;
	if (mode == REAL_MODE)
		return;
	to->ss_sel = to->ds_sel = to->es_sel = 0x18;
	to->gdt.base = GDT_ADDRESS;
	to->gdt.limit = 5 * 8 - 1;
	if (mode == PROTECTED_MODE)
		return;
	to->cr3 = PAGES_ADDRESS;
	to->cr4 = 0x20;
	to->ia32_efer = 0x500;
}

void machine_load(struct machine *machine, const uint8_t *program, size_t size, enum mode mode)
{
	struct acrn_vm_memmap map = { .type = ACRN_MEMMAP_RAM,
				      .attr = ACRN_MEM_ACCESS_RWX | ACRN_MEM_TYPE_WB,
				      .len = RAM_SIZE };
	struct acrn_vcpu_regs regs;

	machine->memfd = memfd_create("guest", MFD_CLOEXEC);
	CHECK(machine->memfd >= 0);
	CHECK_CALL(ftruncate(machine->memfd, RAM_SIZE), 0);
	machine->ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, machine->memfd, 0);
	CHECK(machine->ram != MAP_FAILED);
	memcpy(machine->ram + CODE_ADDRESS, program, size);
	write_gdt(machine->ram);
	if (mode == LONG_MODE)
		write_page_tables(machine->ram);
	map.vma_base = (uintptr_t)machine->ram;
	CHECK_CALL(ioctl(machine->fd, ACRN_IOCTL_SET_MEMSEG, &map), 0);
	machine_regs(mode, &regs);
	CHECK_CALL(ioctl(machine->fd, ACRN_IOCTL_SET_VCPU_REGS, &regs), 0);
	CHECK_CALL(ioctl(machine->fd, ACRN_IOCTL_CREATE_IOREQ_CLIENT), 0);
}

void machine_boot(struct machine *machine, const uint8_t *program, size_t size, enum mode mode)
{
	machine_open(machine, 0, 1);
	machine_load(machine, program, size, mode);
	CHECK_CALL(ioctl(machine->fd, ACRN_IOCTL_START_VM), 0);
}

int machine_attach(struct machine *machine)
{
	CHECK_CALL(ioctl(machine->fd, ACRN_IOCTL_ATTACH_IOREQ_CLIENT), 0);
	for (int i = 0; i < machine->creation.vcpu_num; i++) {
		const struct acrn_io_request *slot = &machine->page->req_slot[i];

		if (__atomic_load_n(&slot->processed, __ATOMIC_ACQUIRE) ==
			    ACRN_IOREQ_STATE_PROCESSING &&
		    !slot->kernel_handled)
			return i;
	}
	return -1;
}

void machine_get(struct machine *machine, unsigned int vcpu, struct access *access)
{
	const struct acrn_io_request *slot = &machine->page->req_slot[vcpu];
	const struct acrn_mmio_request *mmio = &slot->reqs.mmio_request;
	const struct acrn_pci_request *pci = &slot->reqs.pci_request;

	*access = (struct access) {
		.type = slot->type,
		.write = mmio->direction == ACRN_IOREQ_DIR_WRITE,
		.address = mmio->address,
		.size = mmio->size,
		.value = mmio->value,
	};
	if (slot->type != ACRN_IOREQ_TYPE_MMIO)
		access->value = pci->value;
	if (slot->type == ACRN_IOREQ_TYPE_PCICFG)
		access->address =
			(uint64_t)pci->bus << 24 | pci->dev << 19 | pci->func << 16 | pci->reg;
}

void machine_put(struct machine *machine, unsigned int vcpu, uint64_t value)
{
	struct acrn_io_request *slot = &machine->page->req_slot[vcpu];

	if (slot->type == ACRN_IOREQ_TYPE_MMIO)
		slot->reqs.mmio_request.value = value;
	else
		slot->reqs.pio_request.value = (uint32_t)value;
	__atomic_store_n(&slot->processed, ACRN_IOREQ_STATE_COMPLETE, __ATOMIC_RELEASE);
}

void machine_finish(struct machine *machine, unsigned int vcpu)
{
	struct acrn_ioreq_notify notify = { .vmid = machine->creation.vmid, .vcpu = vcpu };

	CHECK_CALL(ioctl(machine->fd, ACRN_IOCTL_NOTIFY_REQUEST_FINISH, &notify), 0);
}

void machine_next(struct machine *machine, answer_t answer, struct access *access)
{
	int vcpu;

	do {
		vcpu = machine_attach(machine);
	} while (vcpu < 0);
	machine_get(machine, (unsigned int)vcpu, access);
	if (!access->write) {
		access->value = answer ? answer(access) : 0;
		machine_put(machine, (unsigned int)vcpu, access->value);
	}
	machine_finish(machine, (unsigned int)vcpu);
}

static const struct access *expected;

static uint64_t expected_answer(const struct access *access)
{
	return expected->value;
}

void machine_expect(struct machine *machine, const struct access *accesses, size_t count)
{
	struct access got;

	for (size_t i = 0; i < count; i++) {
		expected = &accesses[i];
		machine_next(machine, expected_answer, &got);
		if (got.type == expected->type && got.write == expected->write &&
		    got.address == expected->address && got.size == expected->size &&
		    got.value == expected->value)
			continue;
		printf("# access %zu: type %u, %s 0x%llx, size %llu, value 0x%llx\n", i, got.type,
		       got.write ? "write" : "read", (unsigned long long)got.address,
		       (unsigned long long)got.size, (unsigned long long)got.value);
		test_fail(__FILE__, __LINE__, "access is not the expected one", (long long)i, 0);
	}
}

uint32_t machine_said(struct machine *machine)
{
	struct access access;

	machine_next(machine, NULL, &access);
	CHECK_EQUAL(access.address, PORT_SAY);
	CHECK(access.write);
	return (uint32_t)access.value;
}

void machine_ready(struct machine *machine)
{
	struct access access;

	machine_next(machine, NULL, &access);
	CHECK_EQUAL(access.address, PORT_READY);
}

static void on_alarm(int signal)
{
}

/* A signal ends ATTACH. */
bool machine_idle(struct machine *machine)
{
	struct sigaction action = { .sa_handler = on_alarm };
	struct itimerval timer = { .it_value = { .tv_usec = 100000 } };

	sigaction(SIGVTALRM, &action, NULL);
	action.sa_handler = on_alarm;
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	return machine_attach(machine) < 0;
}

void machine_close(struct machine *machine)
{
	close(machine->fd);
	if (machine->ram)
		munmap(machine->ram, RAM_SIZE);
	if (machine->memfd > 0)
		close(machine->memfd);
	free(machine->page);
}
