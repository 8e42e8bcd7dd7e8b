/* SPDX-License-Identifier: BSD-3-Clause */
/* Suspend to RAM: what the VM does to CPUs, devices and lines, and what wakes it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "arch.h"
#include "captured_log.h"
#include "hv_inproc.h"
#include "pci_core.h"
#include "platform.h"

#define TABLES 0xe0000 /* BOOT_ACPI */
#define VECTOR (TABLES + 64 + 12)
#define X_VECTOR (TABLES + 64 + 24)
#define PWRBTN 0x0100
#define WAK 0x8000

/* What was done to the hypervisor port and to the device, in order. */
static char trace[1024];

static void traced(const char *fmt, ...) __format_printf(1, 2);

static void traced(const char *fmt, ...)
{
	size_t used = strlen(trace);
	va_list args;

	va_start(args, fmt);
	vsnprintf(trace + used, sizeof(trace) - used, fmt, args);
	va_end(args);
}

/* ---- The port ---- */

static int port_error;

static int port_start(struct vmctx *ctx)
{
	traced("start ");
	return 0;
}

static void port_pause(struct vmctx *ctx)
{
	traced("pause ");
}

static int port_reset(struct vmctx *ctx)
{
	traced("reset ");
	for (unsigned int gsi = 0; gsi < INPROC_GSIS; gsi++)
		hv_inproc.irq_line(ctx, gsi, false);
	return port_error;
}

static int port_boot(struct vmctx *ctx, const struct hv_cpu_state *state)
{
	traced("boot:%s:%llx ", state->mode == X86_MODE_REAL ? "real" : "?",
	       (unsigned long long)state->rip);
	return 0;
}

/* ---- A device with an interrupt line ---- */

static bool device_kind(unsigned int index, struct pci_kind *kind)
{
	*kind = (struct pci_kind) { .name = "test-sleeper", .summary = "for test_sleep.c" };
	return !index;
}

static int device_init(struct vmctx *ctx, struct pci_vdev *dev, const char *opts)
{
	return pci_lintr_request(dev);
}

static void device_reset(struct pci_vdev *dev)
{
	traced("device-reset ");
}

static void device_quiesce(struct pci_vdev *dev)
{
	traced("quiesce ");
}

static void device_resume(struct pci_vdev *dev)
{
	traced("resume ");
}

static const struct pci_vdev_ops device_ops = {
	.kind = device_kind,
	.vdev_init = device_init,
	.vdev_reset = device_reset,
	.vdev_quiesce = device_quiesce,
	.vdev_resume = device_resume,
};
PCI_DEVICE_TYPE(device_ops);

/* ---- A VM ---- */

struct fixture {
	struct captured_log log;
	struct hv_ops hv;
	struct vmctx *ctx;
	struct pci_vdev *dev;
};

static int set_up(void **state)
{
	const struct vm_config config = { .name = "vm", .memory_size = MIB(16), .cpu_count = 1 };
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	captured_log_init(&f->log);
	f->hv = hv_inproc;
	f->hv.start = port_start;
	f->hv.pause = port_pause;
	f->hv.reset = port_reset;
	f->hv.set_boot_cpu = port_boot;
	f->ctx = vm_create(&f->log.log, &f->hv, &config);
	assert_non_null(f->ctx);
	f->dev = pci_add_device(f->ctx, "3,test-sleeper");
	assert_non_null(f->dev);
	trace[0] = '\0';
	port_error = 0;
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	vm_destroy(f->ctx);
	captured_log_deinit(&f->log);
	free(f);
	return 0;
}

static void turn(struct fixture *f)
{
	for (int i = 0; i < 5; i++)
		event_loop_poll(f->ctx->main_loop, 0);
}

static void set_vector(struct fixture *f, uint32_t vector)
{
	assert_int_equal(guest_memory_write(&f->ctx->memory, VECTOR, &vector, sizeof(vector)), 0);
}

static void pm_out(struct fixture *f, uint16_t port, uint16_t value)
{
	io_space_write(&f->ctx->pio, port, 2, value);
}

static uint16_t pm_status(struct fixture *f)
{
	uint64_t value;

	io_space_read(&f->ctx->pio, PM1A_EVT_PORT, 2, &value);
	return (uint16_t)value;
}

static void suspend(struct fixture *f, uint32_t vector)
{
	set_vector(f, vector);
	pm_out(f, PM1A_CNT_PORT, 1 << 13 | PM_SLEEP_TYPE_S3 << 10);
	turn(f);
}

#define assert_trace(expected)                                                                     \
	do {                                                                                       \
		assert_string_equal(trace, expected);                                              \
		trace[0] = '\0';                                                                   \
	} while (0)

/* Did the loop get told to stop? The VM would run for ever else. */
static void assert_ended(struct fixture *f, enum vm_end end)
{
	assert_int_equal(f->ctx->end, end);
	event_loop_run(f->ctx->main_loop);
}

/* ---- */

static void test_suspend_and_wake(void **state)
{
	struct fixture *f = *state;

	for (uint32_t i = 0; i < 3; i++) {
		suspend(f, 0x9a123);
		assert_trace("pause quiesce ");
		assert_true(vm_suspended(f->ctx));
		assert_false(vm_request_pending(f->ctx));
		vm_request(f->ctx, VM_REQUEST_WAKE, 0);
		turn(f);
		assert_trace("reset boot:real:9a123 resume start ");
		assert_false(vm_suspended(f->ctx));
		assert_int_equal(pm_status(f) & WAK, WAK);
		pm_out(f, PM1A_EVT_PORT, WAK);
	}
	/* A VM that is awake stays so. */
	vm_request(f->ctx, VM_REQUEST_WAKE, 0);
	turn(f);
	assert_trace("");
	assert_int_equal(pm_status(f) & WAK, 0);
}

/* The guest's memory is as it was. */
static void test_memory_kept(void **state)
{
	struct fixture *f = *state;
	uint8_t *memory = paddr_guest2host(f->ctx, 0, MIB(16));
	uint8_t *copy = malloc(MIB(16));

	assert_non_null(copy);
	for (size_t i = 0; i < MIB(16); i++)
		memory[i] = (uint8_t)(i * 7 + i / 4096);
	set_vector(f, 0x1000);
	memcpy(copy, memory, MIB(16));
	suspend(f, 0x1000);
	vm_request(f->ctx, VM_REQUEST_WAKE, 0);
	turn(f);
	assert_trace("pause quiesce reset boot:real:1000 resume start ");
	assert_memory_equal(memory, copy, MIB(16));
	free(copy);
}

/* Lines that devices hold are high on the new chips; those that went low meanwhile are low. */
static void test_lines(void **state)
{
	struct fixture *f = *state;
	unsigned int gsi = f->dev->lintr.gsi;

	pthread_mutex_lock(&f->dev->lock);
	pci_lintr_assert(f->dev);
	pthread_mutex_unlock(&f->dev->lock);
	platform_irq(f->ctx, 4, 0, true);
	platform_irq(f->ctx, 3, 1, true);
	suspend(f, 0x1000);
	platform_irq(f->ctx, 3, 1, false);
	pm_out(f, PM1A_EVT_PORT + 2, PWRBTN);
	pm_power_button(f->ctx->platform->pm);
	vm_request(f->ctx, VM_REQUEST_WAKE, 0);
	turn(f);
	for (unsigned int i = 0; i < INPROC_GSIS; i++)
		assert_int_equal(inproc_line(f->ctx, i), i == gsi || i == 4 || i == PM_SCI_GSI);
	pthread_mutex_lock(&f->dev->lock);
	pci_lintr_deassert(f->dev);
	pthread_mutex_unlock(&f->dev->lock);
	assert_false(inproc_line(f->ctx, gsi));
}

static void test_no_vector(void **state)
{
	const uint64_t address = 0x1000;
	struct fixture *f = *state;

	suspend(f, 0);
	assert_trace("");
	assert_false(vm_suspended(f->ctx));
	assert_int_equal(f->log.count, 1);
	assert_non_null(strstr(f->log.lines[0], "without a waking vector"));
	/* The 64-bit one is not for us: we do not say that we can do it. */
	assert_int_equal(guest_memory_write(&f->ctx->memory, X_VECTOR, &address, 8), 0);
	for (int i = 0; i < 1000; i++)
		suspend(f, 0);
	assert_false(vm_suspended(f->ctx));
	assert_true(f->log.count <= 10);
}

static void test_hostile_vector(void **state)
{
	struct fixture *f = *state;

	suspend(f, 0x100000);
	assert_trace("pause ");
	assert_false(vm_suspended(f->ctx));
	assert_ended(f, VM_END_CRASH);
	assert_int_equal(f->log.count, 1);
	assert_non_null(strstr(f->log.lines[0], "waking vector is not RAM below 1 MiB"));
}

/* Somebody who should not, wrote to the guest's memory in the meantime. */
static void test_vector_turns_hostile(void **state)
{
	struct fixture *f = *state;

	suspend(f, 0xfffff);
	assert_true(vm_suspended(f->ctx));
	set_vector(f, 0xffffffff);
	vm_request(f->ctx, VM_REQUEST_WAKE, 0);
	turn(f);
	assert_trace("pause quiesce ");
	assert_ended(f, VM_END_CRASH);
}

static void test_cannot_wake(void **state)
{
	struct fixture *f = *state;

	suspend(f, 0x1000);
	port_error = -EIO;
	vm_request(f->ctx, VM_REQUEST_WAKE, 0);
	turn(f);
	assert_ended(f, VM_END_INTERNAL);
	assert_non_null(strstr(f->log.lines[f->log.count - 1], "vm: cannot wake: "));
}

/* An event that came before the CPUs stopped is not lost. */
static void test_event_on_the_way(void **state)
{
	struct fixture *f = *state;

	pm_out(f, PM1A_EVT_PORT + 2, PWRBTN);
	pm_power_button(f->ctx->platform->pm);
	suspend(f, 0x1000);
	assert_false(vm_suspended(f->ctx));
	assert_trace("pause quiesce reset boot:real:1000 resume start ");
}

/* The press wakes; later ones, at their own pace, ask for the power-off. */
static void test_power_button(void **state)
{
	struct fixture *f = *state;

	suspend(f, 0x1000);
	vm_power_button(f->ctx);
	turn(f);
	assert_false(vm_suspended(f->ctx));
	assert_int_equal(pm_status(f) & (WAK | PWRBTN), WAK | PWRBTN);
	pm_out(f, PM1A_EVT_PORT, WAK | PWRBTN);
	for (int i = 0; i < 80 && !(pm_status(f) & PWRBTN); i++)
		event_loop_poll(f->ctx->main_loop, 50);
	assert_int_equal(pm_status(f) & (WAK | PWRBTN), PWRBTN);
	assert_trace("pause quiesce reset boot:real:1000 resume start ");
	/* A guest that goes to sleep instead is woken again. */
	suspend(f, 0x1000);
	assert_trace("pause quiesce reset boot:real:1000 resume start ");
	assert_int_equal(pm_status(f) & (WAK | PWRBTN), WAK | PWRBTN);
}

static void test_second_signal(void **state)
{
	struct fixture *f = *state;

	suspend(f, 0x1000);
	vm_power_button(f->ctx);
	vm_power_button(f->ctx);
	assert_ended(f, VM_END_KILLED);
}

static void test_kill(void **state)
{
	struct fixture *f = *state;

	suspend(f, 0x1000);
	vm_kill(f->ctx, "a test");
	assert_ended(f, VM_END_KILLED);
	assert_true(vm_suspended(f->ctx));
}

static void test_reset(void **state)
{
	struct fixture *f = *state;

	suspend(f, 0x1000);
	trace[0] = '\0';
	f->hv.no_cpus = true; /* so that no kernel is loaded */
	vm_request(f->ctx, VM_REQUEST_RESET, 0);
	turn(f);
	assert_trace("pause device-reset resume reset start ");
	assert_false(vm_suspended(f->ctx));
	assert_int_equal(pm_status(f) & (WAK | PWRBTN), 0);
	vm_request(f->ctx, VM_REQUEST_WAKE, 0);
	turn(f);
	assert_trace("");
}

/* What came while the VM was on its way to sleep, or out of it, is more than that. */
static void test_reset_on_the_way(void **state)
{
	struct fixture *f = *state;

	suspend(f, 0x1000);
	trace[0] = '\0';
	f->hv.no_cpus = true;
	vm_request(f->ctx, VM_REQUEST_WAKE, 0);
	vm_request(f->ctx, VM_REQUEST_RESET, 0);
	turn(f);
	assert_trace("pause device-reset resume reset start ");
	assert_false(vm_suspended(f->ctx));
	assert_false(vm_request_pending(f->ctx));
}

static void test_crash_on_the_way(void **state)
{
	struct fixture *f = *state;

	set_vector(f, 0);
	pm_out(f, PM1A_CNT_PORT, 1 << 13 | PM_SLEEP_TYPE_S3 << 10);
	vm_request(f->ctx, VM_REQUEST_CRASH, VM_CRASH_TRIPLE_FAULT);
	turn(f);
	assert_ended(f, VM_END_CRASH);
}

/* A press that the reset swallowed is made again: the next kernel is asked as well. */
static void test_power_button_over_reset(void **state)
{
	struct fixture *f = *state;

	f->hv.no_cpus = true;
	vm_power_button(f->ctx);
	vm_request(f->ctx, VM_REQUEST_RESET, 0);
	turn(f);
	assert_int_equal(pm_status(f) & PWRBTN, 0);
	for (int i = 0; i < 80 && !(pm_status(f) & PWRBTN); i++)
		event_loop_poll(f->ctx->main_loop, 50);
	assert_int_equal(pm_status(f) & PWRBTN, PWRBTN);
}

static void test_reset_ends(void **state)
{
	struct fixture *f = *state;

	f->ctx->config.no_reboot = true;
	suspend(f, 0x1000);
	vm_request(f->ctx, VM_REQUEST_RESET, 0);
	turn(f);
	assert_ended(f, VM_END_RESET);
}

#define sleep_test(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		sleep_test(test_suspend_and_wake),
		sleep_test(test_memory_kept),
		sleep_test(test_lines),
		sleep_test(test_no_vector),
		sleep_test(test_hostile_vector),
		sleep_test(test_vector_turns_hostile),
		sleep_test(test_cannot_wake),
		sleep_test(test_event_on_the_way),
		sleep_test(test_power_button),
		sleep_test(test_second_signal),
		sleep_test(test_kill),
		sleep_test(test_reset),
		sleep_test(test_reset_on_the_way),
		sleep_test(test_crash_on_the_way),
		sleep_test(test_power_button_over_reset),
		sleep_test(test_reset_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
