/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_io.c: I/O requests: ports, memory, PCI configuration, their states and completion.
 */
#include "client.h"

#include <errno.h>
#include <sys/ioctl.h>

#define PIO ACRN_IOREQ_TYPE_PORTIO
#define MMIO ACRN_IOREQ_TYPE_MMIO
#define PCI ACRN_IOREQ_TYPE_PCICFG
#define IN false
#define OUT true
#define DONE_SAYS(value)                                                                           \
	{                                                                                          \
		PIO, OUT, PORT_DONE, 4, value                                                      \
	}

static void test_pio(void)
{
	static const struct access accesses[] = {
		{ PIO, OUT, 0x600, 1, 0x44 },
		{ PIO, OUT, 0x600, 2, 0x3344 },
		{ PIO, OUT, 0x600, 4, 0x11223344 },
		{ PIO, IN, 0x600, 1, 0xa5 },
		{ PIO, OUT, PORT_SAY, 4, 0xa5 },
		{ PIO, IN, PORT_SAY, 2, 0xb6c7 },
		{ PIO, OUT, PORT_SAY, 4, 0xb6c7 },
		{ PIO, IN, PORT_SAY, 4, 0xdeadbeef },
		{ PIO, OUT, PORT_SAY, 4, 0xdeadbeef },
		{ PIO, OUT, 0x80, 1, 0xef },
		DONE_SAYS(0xdeadbeef),
	};
	struct machine machine;

	machine_boot(&machine, PROGRAM(pio), REAL_MODE);
	EXPECT(&machine, accesses);
	machine_close(&machine);
}

static void test_string_pio(void)
{
	static const struct access accesses[] = {
		{ PIO, OUT, 0x600, 1, 'a' },   { PIO, OUT, 0x600, 1, 'b' },
		{ PIO, OUT, 0x600, 1, 'c' },   { PIO, IN, 0x600, 2, 0x1234 },
		{ PIO, IN, 0x600, 2, 0x5678 }, { PIO, OUT, PORT_SAY, 4, 0x56781234 },
		DONE_SAYS(0x56781234),
	};
	struct machine machine;

	machine_boot(&machine, PROGRAM(string), REAL_MODE);
	EXPECT(&machine, accesses);
	machine_close(&machine);
}

static void test_mmio(void)
{
	static const struct access accesses[] = {
		{ MMIO, OUT, 0x80000000, 1, 0x44 },
		{ MMIO, OUT, 0x80000002, 2, 0x3344 },
		{ MMIO, OUT, 0x80000004, 4, 0x11223344 },
		{ MMIO, IN, 0x80000000, 1, 0xa5 },
		{ PIO, OUT, PORT_SAY, 4, 0xa5 },
		{ MMIO, IN, 0x80000002, 2, 0xb6c7 },
		{ PIO, OUT, PORT_SAY, 4, 0xb6c7 },
		{ MMIO, IN, 0x80000004, 4, 0xdeadbeef },
		{ PIO, OUT, PORT_SAY, 4, 0xdeadbeef },
		{ MMIO, OUT, 0x80000ffe, 2, 0x7788 },
		{ MMIO, OUT, 0x80001000, 2, 0x5566 },
		{ MMIO, IN, 0x80000ffe, 2, 0x1111 },
		{ MMIO, IN, 0x80001000, 2, 0x2222 },
		{ PIO, OUT, PORT_SAY, 4, 0x22221111 },
		{ MMIO, IN, 0x80000008, 4, 0x20 },
		{ MMIO, OUT, 0x80000008, 4, 0x30 },
		DONE_SAYS(0x22221111),
	};
	struct machine machine;

	machine_boot(&machine, PROGRAM(mmio), PROTECTED_MODE);
	EXPECT(&machine, accesses);
	machine_close(&machine);
}

static void test_mmio_64(void)
{
	static const struct access accesses[] = {
		{ MMIO, OUT, 0x80000000, 8, 0x1122334455667788 },
		{ MMIO, IN, 0x80000008, 8, 0x99aabbccddeeff00 },
		{ PIO, OUT, PORT_SAY, 4, 0xddeeff00 },
		{ PIO, OUT, PORT_SAY, 4, 0x99aabbcc },
		{ PIO, OUT, PORT_SAY, 4, 0x20 },
		DONE_SAYS(0x20),
	};
	struct machine machine;

	machine_boot(&machine, PROGRAM(long), LONG_MODE);
	EXPECT(&machine, accesses);
	machine_close(&machine);
}

#define PCI_ADDRESS (2u << 24 | 3u << 19 | 1u << 16)

static void test_pci_config(void)
{
	static const struct access accesses[] = {
		{ PIO, OUT, PORT_SAY, 4, 0x81021944 },
		{ PCI, IN, PCI_ADDRESS + 0x145, 1, 0x5a },
		{ PIO, OUT, PORT_SAY, 4, 0x5a },
		{ PCI, OUT, PCI_ADDRESS + 0x146, 2, 0xbeef },
		{ PCI, IN, PCI_ADDRESS + 0x144, 4, 0x12345678 },
		{ PIO, OUT, PORT_SAY, 4, 0x12345678 },
		{ PIO, IN, 0xcfa, 1, 0x99 },
		{ PIO, OUT, PORT_SAY, 4, 0xffffffff },
		DONE_SAYS(0xffffffff),
	};
	struct machine machine;

	machine_boot(&machine, PROGRAM(pci), REAL_MODE);
	EXPECT(&machine, accesses);
	machine_close(&machine);
}

/* The slot goes back to the hypervisor, and other slots are left alone. */
static void test_slot_states(void)
{
	struct machine machine;
	struct acrn_io_request *slot;
	struct access access;

	machine_boot(&machine, PROGRAM(spin), REAL_MODE);
	slot = machine.page->req_slot;
	CHECK_EQUAL(machine_attach(&machine), 0);
	/* Until it is finished, ATTACH returns at once. */
	CHECK_EQUAL(machine_attach(&machine), 0);
	CHECK_EQUAL(slot->completion_polling, 0);
	CHECK_EQUAL(slot->kernel_handled, 0);
	machine_get(&machine, 0, &access);
	CHECK_EQUAL(access.address, PORT_READY);
	CHECK_EQUAL(slot[1].processed, ACRN_IOREQ_STATE_FREE);
	/* The HSM sets COMPLETE; the client need not. */
	machine_finish(&machine, 0);
	for (unsigned int i = 0; i < 100 && slot->processed != ACRN_IOREQ_STATE_FREE; i++)
		wait_ms(10);
	CHECK_EQUAL(slot->processed, ACRN_IOREQ_STATE_FREE);
	CHECK(machine_idle(&machine));
	/* Finishing what is not there changes nothing. */
	machine_finish(&machine, 0);
	CHECK_EQUAL(slot->processed, ACRN_IOREQ_STATE_FREE);
	machine_close(&machine);
}

/* The client only sets COMPLETE; and one that notifies all the same does no harm. */
static void polling(bool notify)
{
	struct machine machine;
	unsigned int vcpu;

	machine_open(&machine, 4, 1);
	machine_load(&machine, PROGRAM(loop), REAL_MODE);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_START_VM), 0);
	for (unsigned int i = 0; i < 50; i++) {
		struct access access;

		CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_ATTACH_IOREQ_CLIENT), 0);
		while (__atomic_load_n(&machine.page->req_slot[0].processed, __ATOMIC_ACQUIRE) !=
		       ACRN_IOREQ_STATE_PROCESSING)
			wait_ms(1);
		vcpu = 0;
		machine_get(&machine, vcpu, &access);
		CHECK_EQUAL(access.address, 0x600);
		CHECK_EQUAL(machine.page->req_slot[0].completion_polling, 1);
		machine_put(&machine, vcpu, i);
		if (notify)
			machine_finish(&machine, vcpu);
	}
	machine_close(&machine);
}

static void test_polling(void)
{
	polling(false);
}

static void test_polling_notified(void)
{
	polling(true);
}

/* A triple fault comes as the device model's S5. */
static void test_triple_fault(void)
{
	static const struct access accesses[] = { { PIO, OUT, 0x404, 2, 0x3400 } };
	struct machine machine;

	machine_boot(&machine, PROGRAM(fault), REAL_MODE);
	EXPECT(&machine, accesses);
	CHECK(machine_idle(&machine));
	machine_close(&machine);
}

static void test_cpuid(void)
{
	struct machine machine;

	machine_boot(&machine, PROGRAM(identity), REAL_MODE);
	CHECK_EQUAL(machine_said(&machine), 0x40000010);
	CHECK_EQUAL(machine_said(&machine), 0x4e524341); /* ACRN */
	CHECK(machine_said(&machine) > 1000); /* kHz */
	CHECK(machine_said(&machine) >> 31);
	machine_close(&machine);
}

static uint32_t *word(struct machine *machine, uint32_t address)
{
	return (uint32_t *)(void *)(machine->ram + address);
}

static void test_memory(void)
{
	struct acrn_vm_memmap map = { .type = ACRN_MEMMAP_RAM,
				      .attr = ACRN_MEM_ACCESS_READ,
				      .user_vm_pa = 0x9000,
				      .len = 0x1000 };
	static const struct access accesses[] = {
		{ PIO, OUT, PORT_SAY, 4, 0xc0ffee11 },
		{ MMIO, OUT, 0x9000, 4, 0x0badc0de }, /* where the guest may not write */
		{ PIO, OUT, PORT_SAY, 4, 0x77777777 },
		{ MMIO, IN, 0xa000, 4, 0x88888888 },
		{ PIO, OUT, PORT_SAY, 4, 0x88888888 },
		DONE_SAYS(0x88888888),
	};
	struct machine machine;

	machine_open(&machine, 0, 1);
	machine_load(&machine, PROGRAM(memory), REAL_MODE);
	*word(&machine, 0x8000) = 0xc0ffee11;
	*word(&machine, 0x9000) = 0x77777777;
	map.vma_base = (uintptr_t)machine.ram + 0x9000;
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_SET_MEMSEG, &map), 0);
	map.type = ACRN_MEMMAP_MMIO;
	map.user_vm_pa = 0xa000;
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_UNSET_MEMSEG, &map), 0);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_START_VM), 0);
	EXPECT(&machine, accesses);
	CHECK_EQUAL(*word(&machine, 0x8004), 0x600df00d);
	CHECK_EQUAL(*word(&machine, 0x9000), 0x77777777);
	machine_close(&machine);
}

static void test_two_cpus(void)
{
	struct machine machine;
	struct access access;

	machine_open(&machine, 0, 3);
	CHECK_EQUAL(machine.creation.vcpu_num, 2);
	machine_load(&machine, PROGRAM(smp), PROTECTED_MODE);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_START_VM), 0);
	CHECK_EQUAL(machine_attach(&machine), 1);
	machine_get(&machine, 1, &access);
	CHECK_EQUAL(access.address, PORT_SAY);
	CHECK_EQUAL(access.value, 1); /* its APIC id */
	machine_finish(&machine, 1);
	machine_close(&machine);
}

const struct test io_tests[] = {
	{ "pio", test_pio },
	{ "string-pio", test_string_pio },
	{ "mmio", test_mmio },
	{ "mmio-64", test_mmio_64 },
	{ "pci-config", test_pci_config },
	{ "slot-states", test_slot_states },
	{ "polling", test_polling },
	{ "polling-notified", test_polling_notified },
	{ "triple-fault", test_triple_fault },
	{ "cpuid", test_cpuid },
	{ "memory", test_memory },
	{ "two-cpus", test_two_cpus },
	{ NULL, NULL },
};
