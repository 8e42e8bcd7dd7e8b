/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * machine.h: a VM to test devices in: on the inproc port, with its log captured and guest memory to
 * be handed out to drivers. Failures of the machine itself fail the test.
 */
#ifndef TENON_TESTS_MACHINE_H
#define TENON_TESTS_MACHINE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../unit/captured_log.h"
#include "arch.h"
#include "hv_inproc.h"
#include "pci_core.h"

#define MACHINE_MEMORY MIB(64)
#define MACHINE_HEAP MIB(1) /* guest_alloc() starts here */

/*
 * struct machine_config
 * @memory_size: 0 for MACHINE_MEMORY
 * @ioeventfd: kicks go by eventfd
 * @io_thread: the io loop runs in its thread; else machine_poll() runs it
 */
struct machine_config {
	uint64_t memory_size;
	bool ioeventfd;
	bool io_thread;
};

struct machine {
	struct captured_log captured;
	struct vmctx *ctx;
	uint64_t heap_next, heap_end;
	bool io_thread;
};

/* @config may be NULL: 64 MiB, kicks trap, no threads. */
struct machine *machine_create(const struct machine_config *config);
void machine_destroy(struct machine *machine);

/* pci_add_device(), which must succeed. */
struct pci_vdev *machine_add(struct machine *machine, const char *spec);

/* Dispatch what is ready in the loops, until nothing is. */
void machine_poll(struct machine *machine);

/*
 * Run the loops until @done(@arg) or @timeout_ms are over; returns what @done said last.
 */
bool machine_wait(struct machine *machine, bool (*done)(void *arg), void *arg, int timeout_ms);

/* Guest memory, zeroed on first use and never given back; @align is a power of two. */
uint64_t guest_alloc(struct machine *machine, uint64_t size, uint64_t align);

/* Where [@gpa, @gpa + @len) is for us; it must be RAM. */
void *guest_ptr(struct machine *machine, uint64_t gpa, uint64_t len);

/* Lines logged so far that contain @text. */
unsigned int machine_logged(struct machine *machine, const char *text);

/* Forget them. */
void machine_log_clear(struct machine *machine);

/* One assertion with the whole log in its message. */
#define assert_logged(machine, text)                                                               \
	do {                                                                                       \
		if (!machine_logged(machine, text)) {                                              \
			machine_log_print(machine);                                                \
			fail_msg("no line in the log contains: %s", text);                         \
		}                                                                                  \
	} while (0)

void machine_log_print(struct machine *machine);

#endif
