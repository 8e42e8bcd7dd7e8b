/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_machine.h: a VM that is made once and reset after each input. Its RAM is two adjacent
 * regions of plain heap memory, so that the sanitizer sees who leaves them.
 */
#ifndef TENON_TESTS_FUZZ_MACHINE_H
#define TENON_TESTS_FUZZ_MACHINE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../../devicemodel/hw/pci/virtio/virtio_pci.h"
#include "fuzz_input.h"
#include "machine.h"

#define FUZZ_RAM_SIZE UINT64_C(0x80000)
#define FUZZ_RAM_BORDER UINT64_C(0x40000) /* between the two regions */
#define FUZZ_RINGS UINT64_C(0x4000)
#define FUZZ_RING_SPACE UINT64_C(0x4000) /* for each queue: the legacy layout of 256 entries fits */
#define FUZZ_QUEUES 8U /* that are set up; others stay disabled */
#define FUZZ_BUFFERS (FUZZ_RINGS + FUZZ_QUEUES * FUZZ_RING_SPACE)

#define FUZZ_DEVICES_MAX 16
#define FUZZ_SNAPSHOT_MAX 2048

/*
 * struct fuzz_device - one that the machine has.
 * @label: which; inputs name it by its number, which never changes
 * @dev: NULL: it cannot be made here
 * @host_fd: the other end of its back end, to write input to; -1: none
 * @as_new: its registers after a reset
 */
struct fuzz_device {
	const char *label;
	struct pci_vdev *dev;
	int host_fd;
	uint8_t as_new[FUZZ_SNAPSHOT_MAX];
	size_t as_new_size;
};

struct fuzz_machine {
	struct machine *machine;
	struct vmctx *ctx;
	unsigned int count;
	struct fuzz_device devices[FUZZ_DEVICES_MAX];
};

/* fuzz_machine_create() - with the device @label, or with all of them (NULL). */
struct fuzz_machine *fuzz_machine_create(const char *label);

/* fuzz_log_swallow() - format all messages and drop them, or print them if FUZZ_LOG is set. */
void fuzz_log_swallow(struct machine *machine);

/* fuzz_device_find() - by label; NULL, with the reason printed, if it cannot be made here. */
struct fuzz_device *fuzz_device_find(struct fuzz_machine *machine, const char *label);

/* fuzz_machine_reset() - all as new; dies if @device can be told from a new one then. */
void fuzz_machine_reset(struct fuzz_machine *machine, struct fuzz_device *device);

/* fuzz_machine_poll() - dispatch what is ready in the loops, a bounded number of times. */
void fuzz_machine_poll(struct fuzz_machine *machine);

/* fuzz_machine_drain() - until nothing is in flight in any device. */
void fuzz_machine_drain(struct fuzz_machine *machine);

/* fuzz_host_input() - up to 256 bytes of @input come to @device from the host's side. */
void fuzz_host_input(struct fuzz_device *device, struct fuzz_input *input);

static inline struct virtio_common *fuzz_common(const struct fuzz_device *device)
{
	return ((struct virtio_pci *)device->dev->arg)->vc;
}

/* fuzz_fail() - a rule was broken: say which, and die so that the fuzzer keeps the input. */
void fuzz_fail(const char *fmt, ...) __format_printf(1, 2) __attribute__((noreturn));

#endif
