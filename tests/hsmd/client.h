/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * client.h: a device model in miniature for the hsmd tests: the raw ABI of <linux/acrn.h>, nothing
 * of tenon.
 */
#ifndef HSMD_CLIENT_H
#define HSMD_CLIENT_H

#include <linux/acrn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define RAM_SIZE (2u << 20)
#define CODE_ADDRESS 0x1000u
#define GDT_ADDRESS 0x2800u
#define PAGES_ADDRESS 0x10000u /* of long mode's page tables */

/* Ports of guest.S */
#define PORT_READY 0x500
#define PORT_DONE 0x501
#define PORT_SAY 0x502

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

/* ---- Reporting. A test is a function; the first CHECK that fails ends it. */
extern const char *device_path;
extern pid_t hsmd_pid; /* 0: not given */
extern const char *hsmd_log;

void test_fail(const char *file, int line, const char *what, long long got, long long want)
	__attribute__((noreturn));

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition))                                                                  \
			test_fail(__FILE__, __LINE__, #condition, 0, 0);                           \
	} while (0)
#define CHECK_EQUAL(got, want)                                                                     \
	do {                                                                                       \
		long long got_value = (long long)(got), want_value = (long long)(want);            \
		if (got_value != want_value)                                                       \
			test_fail(__FILE__, __LINE__, #got, got_value, want_value);                \
	} while (0)
/* A call that must fail with that errno, or succeed with 0. */
#define CHECK_CALL(call, error) CHECK_EQUAL(call_result(call), -(error))
long call_result(long returned);

struct test {
	const char *name;
	void (*run)(void);
};
extern const struct test io_tests[], call_tests[], event_tests[], life_tests[], stuck_tests[];

/* ---- Guest programs */
#define DECLARE_GUEST(name) extern const uint8_t guest_##name[], guest_##name##_end[]
DECLARE_GUEST(pio);
DECLARE_GUEST(string);
DECLARE_GUEST(pci);
DECLARE_GUEST(loop);
DECLARE_GUEST(spin);
DECLARE_GUEST(sleep);
DECLARE_GUEST(once);
DECLARE_GUEST(fault);
DECLARE_GUEST(identity);
DECLARE_GUEST(memory);
DECLARE_GUEST(pic);
DECLARE_GUEST(mmio);
DECLARE_GUEST(apic);
DECLARE_GUEST(kick);
DECLARE_GUEST(smp);
DECLARE_GUEST(long);
#define PROGRAM(name) guest_##name, (size_t)(guest_##name##_end - guest_##name)

enum mode { REAL_MODE, PROTECTED_MODE, LONG_MODE };

/* ---- A VM */
struct machine {
	int fd;
	int memfd;
	uint8_t *ram;
	struct acrn_io_request_buffer *page;
	struct acrn_vm_creation creation;
};

/* One access of the guest; @value of a read is what it gets. */
struct access {
	uint32_t type;
	bool write;
	uint64_t address; /* PCI: bus << 24 | dev << 19 | func << 16 | register */
	uint64_t size, value;
};

void machine_open(struct machine *machine, uint64_t flags, uint64_t affinity);
/** machine_load() - RAM, program, registers, ioreq client; not started. */
void machine_load(struct machine *machine, const uint8_t *program, size_t size, enum mode mode);
void machine_regs(enum mode mode, struct acrn_vcpu_regs *regs);
/** machine_boot() - open, load, start: one vCPU. */
void machine_boot(struct machine *machine, const uint8_t *program, size_t size, enum mode mode);
/** machine_attach() - wait for a request; the vCPU with one, or -1 if there was none after all. */
int machine_attach(struct machine *machine);
void machine_get(struct machine *machine, unsigned int vcpu, struct access *access);
/** machine_put() - a read's value; the slot is complete, nobody is notified. */
void machine_put(struct machine *machine, unsigned int vcpu, uint64_t value);
void machine_finish(struct machine *machine, unsigned int vcpu);
/** machine_next() - the next access, finished; a read gets @answer(access) or 0. */
typedef uint64_t (*answer_t)(const struct access *access);
void machine_next(struct machine *machine, answer_t answer, struct access *access);
/** machine_expect() - the guest does just these, in this order. */
void machine_expect(struct machine *machine, const struct access *accesses, size_t count);
#define EXPECT(machine, accesses) machine_expect(machine, accesses, ARRAY_SIZE(accesses))
/** machine_said() - the next access is a word said at port SAY; which. */
uint32_t machine_said(struct machine *machine);
void machine_ready(struct machine *machine);
/** machine_idle() - nothing comes for a tenth of a second. */
bool machine_idle(struct machine *machine);
void machine_close(struct machine *machine);
void wait_ms(unsigned int milliseconds);

#endif
