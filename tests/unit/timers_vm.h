/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * timers_vm.h: a fake VM that needs the platform's timers, on a virtual clock, with a memory space.
 */
#ifndef TENON_TESTS_TIMERS_VM_H
#define TENON_TESTS_TIMERS_VM_H

#include "fake_vm.h"

#define MS UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)

static inline int timers_vm_set_up(void **state)
{
	struct fake_vm *vm = fake_vm_create(false);

	vm->ctx.clock = event_clock_create();
	assert_non_null(vm->ctx.clock);
	event_loop_set_clock(vm->ctx.main_loop, vm->ctx.clock);
	io_space_init(&vm->ctx.mmio);
	vm->ctx.needs_timers = true;
	*state = vm;
	return platform_create(&vm->ctx);
}

static inline int timers_vm_tear_down(void **state)
{
	struct fake_vm *vm = *state;
	struct event_clock *clock = vm->ctx.clock;

	platform_destroy(&vm->ctx);
	io_space_deinit(&vm->ctx.mmio);
	fake_vm_destroy(vm);
	event_clock_destroy(clock);
	return 0;
}

/** timers_vm_step() - let @ns pass. */
static inline void timers_vm_step(struct fake_vm *vm, uint64_t ns)
{
	uint64_t end = event_clock_now(vm->ctx.clock) + ns;

	assert_int_equal(event_clock_advance(vm->ctx.clock, ns), end);
}

/** timers_vm_until() - go on to @ns. */
static inline void timers_vm_until(struct fake_vm *vm, uint64_t ns)
{
	timers_vm_step(vm, ns - event_clock_now(vm->ctx.clock));
}

/** timers_vm_idle() - is no timer armed? */
static inline bool timers_vm_idle(struct fake_vm *vm)
{
	uint64_t expiry;

	return !event_clock_next(vm->ctx.clock, &expiry);
}

#define timers_test(test)                                                                          \
	cmocka_unit_test_setup_teardown(test, timers_vm_set_up, timers_vm_tear_down)

#endif
