/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fake_vm.h: a VM without CPUs, made by hand: port space, main loop, and a hypervisor port that
 * remembers the interrupt lines. For tests of the platform's parts.
 */
#ifndef TENON_TESTS_FAKE_VM_H
#define TENON_TESTS_FAKE_VM_H

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "captured_log.h"
#include "platform.h"

#define FAKE_VM_LINES 24

/** struct fake_vm - @level and @raised: of each GSI, now and how often it went up. */
struct fake_vm {
	struct vmctx ctx;
	struct captured_log log;
	bool level[FAKE_VM_LINES];
	unsigned int raised[FAKE_VM_LINES];
	unsigned int calls;
};

static inline int fake_vm_irq_line(struct vmctx *ctx, unsigned int gsi, bool level)
{
	struct fake_vm *vm = ctx->hv_data;

	assert_true(gsi < FAKE_VM_LINES);
	vm->calls++;
	if (level && !vm->level[gsi])
		vm->raised[gsi]++;
	vm->level[gsi] = level;
	return 0;
}

static inline struct fake_vm *fake_vm_create(bool debug_exit)
{
	static const struct hv_ops hv = { .name = "fake", .irq_line = fake_vm_irq_line };
	struct fake_vm *vm = calloc(1, sizeof(*vm));

	assert_non_null(vm);
	captured_log_init(&vm->log);
	vm->ctx.log = &vm->log.log;
	vm->ctx.hv = &hv;
	vm->ctx.hv_data = vm;
	vm->ctx.config.name = "vm";
	vm->ctx.config.debug_exit = debug_exit;
	vm->ctx.memory.fd = -1;
	vm->ctx.request_fd = -1;
	pthread_mutex_init(&vm->ctx.request_lock, NULL);
	io_space_init(&vm->ctx.pio);
	vm->ctx.main_loop = event_loop_create("fake");
	assert_non_null(vm->ctx.main_loop);
	return vm;
}

static inline void fake_vm_destroy(struct fake_vm *vm)
{
	platform_destroy(&vm->ctx);
	event_loop_destroy(vm->ctx.main_loop);
	io_space_deinit(&vm->ctx.pio);
	pthread_mutex_destroy(&vm->ctx.request_lock);
	captured_log_deinit(&vm->log);
	free(vm);
}

static inline uint64_t fake_vm_in(struct fake_vm *vm, uint16_t port, unsigned int size)
{
	uint64_t value;

	io_space_read(&vm->ctx.pio, port, size, &value);
	return value;
}

static inline void fake_vm_out(struct fake_vm *vm, uint16_t port, unsigned int size, uint64_t value)
{
	io_space_write(&vm->ctx.pio, port, size, value);
}

/** fake_vm_request() - what was asked of the VM since the last call. */
static inline enum vm_request fake_vm_request(struct fake_vm *vm)
{
	enum vm_request request;

	pthread_mutex_lock(&vm->ctx.request_lock);
	request = vm->ctx.request;
	vm->ctx.request = VM_REQUEST_NONE;
	pthread_mutex_unlock(&vm->ctx.request_lock);
	return request;
}

static inline uint64_t fake_vm_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static inline void fake_vm_run(struct fake_vm *vm, uint64_t ms)
{
	uint64_t end = fake_vm_now_ms() + ms;

	while (fake_vm_now_ms() < end)
		event_loop_poll(vm->ctx.main_loop, 5);
}

#define fake_vm_wait(vm, condition)                                                                \
	do {                                                                                       \
		uint64_t deadline_ = fake_vm_now_ms() + 5000;                                      \
		while (!(condition) && fake_vm_now_ms() < deadline_)                               \
			event_loop_poll((vm)->ctx.main_loop, 5);                                   \
		assert_true(condition);                                                            \
	} while (0)

#endif
