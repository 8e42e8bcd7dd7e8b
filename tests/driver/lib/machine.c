/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A VM to test devices in.
 */
#include "machine.h"

#include <stdlib.h>

#define POLL_ROUNDS 8

static uint64_t low_memory_end(const struct vmctx *ctx)
{
	return ctx->memory.regions[0].gpa + ctx->memory.regions[0].size;
}

struct machine *machine_create(const struct machine_config *config)
{
	struct machine *machine = calloc(1, sizeof(*machine));
	struct vm_config vm = { .name = "test", .memory_size = MACHINE_MEMORY, .cpu_count = 1 };

	assert_non_null(machine);
	if (config && config->memory_size)
		vm.memory_size = config->memory_size;
	captured_log_init(&machine->captured);
	machine->ctx = vm_create(&machine->captured.log, &hv_inproc, &vm);
	assert_non_null(machine->ctx);
	machine->heap_next = MACHINE_HEAP;
	machine->heap_end = low_memory_end(machine->ctx);
	inproc_of(machine->ctx)->use_ioeventfds = config && config->ioeventfd;
	machine->io_thread = config && config->io_thread;
	if (machine->io_thread)
		assert_int_equal(event_loop_start_thread(machine->ctx->io_loop), 0);
	return machine;
}

void machine_destroy(struct machine *machine)
{
	if (!machine)
		return;
	vm_destroy(machine->ctx);
	captured_log_deinit(&machine->captured);
	free(machine);
}

struct pci_vdev *machine_add(struct machine *machine, const char *spec)
{
	char with_packed[512]; /* every device offers packed rings; drivers choose */
	bool is_virtio =
		strstr(spec, "virtio-") && !strstr(spec, "packed=") && !strstr(spec, "modern=off");
	struct pci_vdev *dev;

	snprintf(with_packed, sizeof(with_packed), "%s%s", spec, is_virtio ? ",packed=on" : "");
	dev = pci_add_device(machine->ctx, with_packed);
	if (!dev) {
		machine_log_print(machine);
		fail_msg("cannot add %s", spec);
	}
	return dev;
}

void machine_poll(struct machine *machine)
{
	for (int i = 0; i < POLL_ROUNDS; i++) {
		if (!machine->io_thread)
			event_loop_poll(machine->ctx->io_loop, 0);
		event_loop_poll(machine->ctx->main_loop, 0);
	}
}

bool machine_wait(struct machine *machine, bool (*done)(void *arg), void *arg, int timeout_ms)
{
	uint64_t deadline = vm_clock_ns(machine->ctx) + (uint64_t)timeout_ms * 1000000;

	machine_poll(machine);
	while (!done(arg)) {
		if (vm_clock_ns(machine->ctx) > deadline)
			return done(arg);
		event_loop_poll(
			machine->io_thread ? machine->ctx->main_loop : machine->ctx->io_loop, 1);
		event_loop_poll(machine->ctx->main_loop, 0);
	}
	return true;
}

uint64_t guest_alloc(struct machine *machine, uint64_t size, uint64_t align)
{
	uint64_t gpa = align_up(machine->heap_next, align);

	assert_true(range_contains(MACHINE_HEAP, machine->heap_end - MACHINE_HEAP, gpa, size));
	machine->heap_next = gpa + size;
	return gpa;
}

void *guest_ptr(struct machine *machine, uint64_t gpa, uint64_t len)
{
	void *host = paddr_guest2host(machine->ctx, gpa, len);

	assert_non_null(host);
	return host;
}

static unsigned int lines_kept(const struct captured_log *captured)
{
	return MIN(captured->count, CAPTURED_LINES);
}

unsigned int machine_logged(struct machine *machine, const char *text)
{
	struct captured_log *captured = &machine->captured;
	unsigned int found = 0;

	pthread_mutex_lock(&captured->lock);
	for (unsigned int i = 0; i < lines_kept(captured); i++)
		found += strstr(captured->lines[i], text) != NULL;
	pthread_mutex_unlock(&captured->lock);
	return found;
}

void machine_log_clear(struct machine *machine)
{
	pthread_mutex_lock(&machine->captured.lock);
	machine->captured.count = 0;
	pthread_mutex_unlock(&machine->captured.lock);
}

void machine_log_print(struct machine *machine)
{
	struct captured_log *captured = &machine->captured;

	pthread_mutex_lock(&captured->lock);
	for (unsigned int i = 0; i < lines_kept(captured); i++)
		print_message("log: %s\n", captured->lines[i]);
	pthread_mutex_unlock(&captured->lock);
}
