/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kvm_machine.h: a VM for test_kvm.c, made by hand around the port: 2 MiB of RAM, tables for long
 * mode, ports and addresses that answer as the test wants and write down what the guest did.
 */
#ifndef TENON_KVM_MACHINE_H
#define TENON_KVM_MACHINE_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "../../devicemodel/core/hv/kvm.h"
#include "arch.h"
#include "kvm_guests.h"

#define RAM_SIZE MIB(2)
#define PML4_ADDRESS 0x1000
#define PDPT_ADDRESS 0x2000
#define LOW_PD_ADDRESS 0x3000
#define HIGH_PD_ADDRESS 0x4000
#define ACCESSES_MAX 256
#define PATIENCE_S 20
#define SILENCE_MS 100

struct access {
	enum io_type type;
	bool write;
	uint64_t addr;
	unsigned int size;
	uint64_t value;
};

/* A VM with 2 MiB of RAM; what it does to ports and addresses is written down. */
struct machine {
	struct vmctx ctx;
	struct logger log;
	struct io_range pio, mmio;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct access accesses[ACCESSES_MAX];
	unsigned int count;
	uint64_t answer;
	bool hold_reads, read_waits;
	unsigned int lines;
	char line[256];
};

static void on_log(void *arg, enum log_level level, const char *line)
{
	struct machine *machine = arg;

	if (level > LOG_LEVEL_WARNING)
		return;
	pthread_mutex_lock(&machine->lock);
	machine->lines++;
	snprintf(machine->line, sizeof(machine->line), "%s", line);
	pthread_mutex_unlock(&machine->lock);
}

static void record(struct machine *machine, const struct access *access)
{
	if (machine->count < ACCESSES_MAX)
		machine->accesses[machine->count++] = *access;
	pthread_cond_broadcast(&machine->changed);
}

static uint64_t answer_read(struct machine *machine, enum io_type type, uint64_t addr,
			    unsigned int size)
{
	struct access access = { type, false, addr, size, 0 };

	pthread_mutex_lock(&machine->lock);
	machine->read_waits = true;
	record(machine, &access);
	while (machine->hold_reads)
		pthread_cond_wait(&machine->changed, &machine->lock);
	machine->read_waits = false;
	access.value = machine->answer;
	pthread_mutex_unlock(&machine->lock);
	return access.value;
}

static void answer_write(struct machine *machine, enum io_type type, uint64_t addr,
			 unsigned int size, uint64_t value)
{
	struct access access = { type, true, addr, size, value };

	pthread_mutex_lock(&machine->lock);
	record(machine, &access);
	pthread_mutex_unlock(&machine->lock);
}

static uint64_t pio_read(void *arg, uint64_t offset, unsigned int size)
{
	return answer_read(arg, IO_PIO, REPORT_PORT + offset, size);
}

static void pio_write(void *arg, uint64_t offset, unsigned int size, uint64_t value)
{
	answer_write(arg, IO_PIO, REPORT_PORT + offset, size, value);
}

static uint64_t mmio_read(void *arg, uint64_t offset, unsigned int size)
{
	return answer_read(arg, IO_MMIO, MMIO_BASE + offset, size);
}

static void mmio_write(void *arg, uint64_t offset, unsigned int size, uint64_t value)
{
	answer_write(arg, IO_MMIO, MMIO_BASE + offset, size, value);
}

static const struct io_range_ops pio_ops = { pio_read, pio_write };
static const struct io_range_ops mmio_ops = { mmio_read, mmio_write };

/* ---- Guest memory */

static void put(struct machine *machine, uint64_t gpa, const void *from, size_t len)
{
	assert_int_equal(guest_memory_write(&machine->ctx.memory, gpa, from, len), 0);
}

static void put64(struct machine *machine, uint64_t gpa, uint64_t value)
{
	put(machine, gpa, &value, sizeof(value));
}

static uint64_t get64(struct machine *machine, uint64_t gpa)
{
	return *(volatile uint64_t *)paddr_guest2host(&machine->ctx, gpa, 8);
}

/* The first and the fourth GiB, mapped to themselves with 2 MiB pages. */
static void put_page_tables(struct machine *machine)
{
	put64(machine, PML4_ADDRESS, PDPT_ADDRESS | 3);
	put64(machine, PDPT_ADDRESS, LOW_PD_ADDRESS | 3);
	put64(machine, PDPT_ADDRESS + 3 * 8, HIGH_PD_ADDRESS | 3);
	for (uint64_t i = 0; i < 512; i++) {
		put64(machine, LOW_PD_ADDRESS + 8 * i, MIB(2) * i | 0x83);
		put64(machine, HIGH_PD_ADDRESS + 8 * i, (GIB(3) + MIB(2) * i) | 0x83);
	}
}

static void put_gate(struct machine *machine, unsigned int vector, uint64_t handler)
{
	put64(machine, IDT_ADDRESS + 16 * vector,
	      (handler & 0xffff) | X86_GDT_CODE64 << 16 | UINT64_C(0x8e00) << 32);
}

static void put_tables(struct machine *machine)
{
	const uint8_t idt_pointer[10] = { 0xff, 0x0f, IDT_ADDRESS & 0xff, IDT_ADDRESS >> 8 };

	put_page_tables(machine);
	put64(machine, GDT_ADDRESS + X86_GDT_CODE64, UINT64_C(0x00af9b000000ffff));
	put64(machine, GDT_ADDRESS + X86_GDT_DATA, UINT64_C(0x00cf93000000ffff));
	put64(machine, GDT_ADDRESS + X86_GDT_CODE32, UINT64_C(0x00cf9b000000ffff));
	put(machine, IDT_POINTER_ADDRESS, idt_pointer, sizeof(idt_pointer));
	put_gate(machine, 0x30, HANDLER_30_ADDRESS);
	put_gate(machine, 0x31, HANDLER_31_ADDRESS);
	put(machine, HANDLER_30_ADDRESS, handler_30, sizeof(handler_30));
	put(machine, HANDLER_31_ADDRESS, handler_31, sizeof(handler_31));
	put(machine, AP_ADDRESS, guest_ap, sizeof(guest_ap));
}

/* ---- A VM */

static void init_machine(struct machine *machine, unsigned int cpu_count)
{
	struct vmctx *ctx = &machine->ctx;

	logger_init(&machine->log, "test");
	machine->log.sink = on_log;
	machine->log.sink_arg = machine;
	pthread_mutex_init(&machine->lock, NULL);
	pthread_cond_init(&machine->changed, NULL);
	pthread_mutex_init(&ctx->request_lock, NULL);
	ctx->log = &machine->log;
	ctx->hv = &hv_kvm;
	ctx->config.name = "test";
	ctx->config.cpu_count = cpu_count;
	ctx->request_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(ctx->request_fd >= 0);
	io_space_init(&ctx->pio);
	io_space_init(&ctx->mmio);
	machine->pio = (struct io_range) {
		.name = "ports", .base = REPORT_PORT, .size = 0x100, .ops = &pio_ops, .arg = machine
	};
	machine->mmio = (struct io_range) { .name = "memory",
					    .base = MMIO_BASE,
					    .size = 0x2000,
					    .ops = &mmio_ops,
					    .arg = machine };
	assert_int_equal(io_space_add(&ctx->pio, &machine->pio), 0);
	assert_int_equal(io_space_add(&ctx->mmio, &machine->mmio), 0);
	ctx->memory.fd = -1;
	ctx->memory.count = 1;
	ctx->memory.regions[0] = (struct guest_memory_region) { .gpa = 0, .size = RAM_SIZE };
}

static bool have_kvm(void)
{
	struct logger log;
	bool have;

	logger_init(&log, "test_kvm: skipped");
	have = hv_kvm.available(&log);
	logger_deinit(&log);
	return have;
}

/* @options: behind --hv kvm, or NULL */
static struct machine *new_machine_with(unsigned int cpu_count, const char *options)
{
	struct machine *machine;

	if (!have_kvm())
		skip();
	machine = calloc(1, sizeof(*machine));
	assert_non_null(machine);
	init_machine(machine, cpu_count);
	machine->ctx.config.hv_options = options;
	assert_int_equal(hv_kvm.create(&machine->ctx), 0);
	assert_int_equal(guest_memory_create(&machine->log, &machine->ctx.memory, false), 0);
	assert_int_equal(hv_kvm.add_memory(&machine->ctx, &machine->ctx.memory.regions[0]), 0);
	return machine;
}

static struct machine *new_machine(unsigned int cpu_count)
{
	return new_machine_with(cpu_count, NULL);
}

static void free_machine(struct machine *machine)
{
	struct vmctx *ctx = &machine->ctx;

	hv_kvm.destroy(ctx);
	guest_memory_destroy(&ctx->memory);
	io_space_remove(&ctx->pio, &machine->pio);
	io_space_remove(&ctx->mmio, &machine->mmio);
	io_space_deinit(&ctx->pio);
	io_space_deinit(&ctx->mmio);
	close(ctx->request_fd);
	pthread_mutex_destroy(&ctx->request_lock);
	pthread_cond_destroy(&machine->changed);
	pthread_mutex_destroy(&machine->lock);
	logger_deinit(&machine->log);
	free(machine);
}

static void load(struct machine *machine, const uint8_t *code, size_t len)
{
	const struct hv_cpu_state state = {
		.mode = X86_MODE_LONG,
		.rip = CODE_ADDRESS,
		.rsp = STACK_ADDRESS,
		.cr3 = PML4_ADDRESS,
		.gdt_base = GDT_ADDRESS,
		.gdt_limit = 0x27,
	};

	machine->count = 0;
	put_tables(machine);
	put(machine, CODE_ADDRESS, code, len);
	assert_int_equal(hv_kvm.set_boot_cpu(&machine->ctx, &state), 0);
}

static void start(struct machine *machine, const uint8_t *code, size_t len)
{
	load(machine, code, len);
	assert_int_equal(hv_kvm.start(&machine->ctx), 0);
}

static void reset(struct machine *machine)
{
	hv_kvm.pause(&machine->ctx);
	assert_int_equal(hv_kvm.reset(&machine->ctx), 0);
	guest_memory_clear(&machine->ctx.memory, false);
}

/* ---- Waiting, with an end */

static bool wait_changed(struct machine *machine, const struct timespec *deadline)
{
	return pthread_cond_timedwait(&machine->changed, &machine->lock, deadline) == 0;
}

static struct timespec in_ms(unsigned int ms)
{
	struct timespec time;

	clock_gettime(CLOCK_REALTIME, &time);
	time.tv_nsec += ms % 1000 * 1000000L;
	time.tv_sec += ms / 1000 + time.tv_nsec / 1000000000;
	time.tv_nsec %= 1000000000;
	return time;
}

/* Were there @count accesses within @ms? */
static bool have_accesses(struct machine *machine, unsigned int count, unsigned int ms)
{
	struct timespec deadline = in_ms(ms);
	bool have;

	pthread_mutex_lock(&machine->lock);
	while (machine->count < count && wait_changed(machine, &deadline))
		;
	have = machine->count >= count;
	pthread_mutex_unlock(&machine->lock);
	return have;
}

static void wait_accesses(struct machine *machine, unsigned int count)
{
	if (!have_accesses(machine, count, PATIENCE_S * 1000))
		fail_msg("%u accesses instead of %u; last log line: %s", machine->count, count,
			 machine->line);
}

/* Exactly these, then the one to DONE_PORT. */
static void expect_accesses(struct machine *machine, const struct access *expected,
			    unsigned int count)
{
	const struct access *got;

	wait_accesses(machine, count + 1);
	for (unsigned int i = 0; i < count; i++) {
		got = &machine->accesses[i];
		if (got->type != expected[i].type || got->write != expected[i].write ||
		    got->addr != expected[i].addr || got->size != expected[i].size ||
		    got->value != expected[i].value)
			fail_msg("access %u: %s of %u at 0x%lx value 0x%lx", i,
				 got->write ? "write" : "read", got->size, (unsigned long)got->addr,
				 (unsigned long)got->value);
	}
	assert_int_equal(machine->accesses[count].addr, DONE_PORT);
	assert_int_equal(machine->count, count + 1);
	assert_int_equal(machine->lines, 0);
}

static uint64_t report(const struct machine *machine, unsigned int i)
{
	assert_true(i < machine->count);
	assert_int_equal(machine->accesses[i].addr, REPORT_PORT);
	return machine->accesses[i].value;
}

static enum vm_request wait_request(struct machine *machine)
{
	enum vm_request request = VM_REQUEST_NONE;

	for (int ms = 0; ms < PATIENCE_S * 1000 && request == VM_REQUEST_NONE; ms++) {
		pthread_mutex_lock(&machine->ctx.request_lock);
		request = machine->ctx.request;
		pthread_mutex_unlock(&machine->ctx.request_lock);
		usleep(1000);
	}
	return request;
}

#endif
