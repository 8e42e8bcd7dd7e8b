/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * net_bench.h: a virtio-net device on a real tap in a network namespace of its own, its driver, and
 * the other end of the wire. For the tests of virtio-net; needs root and /dev/net/tun.
 */
#ifndef TENON_TESTS_NET_BENCH_H
#define TENON_TESTS_NET_BENCH_H

#include <linux/if_ether.h>
#include <linux/virtio_net.h>
#include <stdio.h>

#include "../unit/tap_lab.h"
#include "virtio_driver.h"

#define SLOT 4
#define TAP "tenon-test"

static const uint8_t mac_ours[] = { 0x02, 0x11, 0x22, 0x33, 0x44, 0x55 };
static const uint8_t mac_other[] = { 0x02, 0x66, 0x77, 0x88, 0x99, 0xaa };

static const struct driver_params usual = { .indirect = true, .event_idx = true, .msix = true };

#define BUFFERS_MAX 64

/*
 * struct bench - @peer: a packet socket on the tap, the wire's other end. The rest is of the tests that
 * need it: @ctrl: the control queue; @header_len: of the driver's; @buffers: for reception
 */
struct bench {
	struct machine *machine;
	struct pci_vdev *dev;
	struct virtio_driver *driver;
	int peer;
	unsigned int ctrl;
	uint32_t header_len;
	unsigned int buffer_count;
	struct segment buffers[BUFFERS_MAX];
};

/* The namespace is the process's, as this is. */
static bool lab_ready;

static inline int group_setup(void **state)
{
	lab_ready = lab_enter(); /* says what is missing */
	return 0;
}

static inline int bench_setup(void **state)
{
	struct bench *bench = test_calloc(1, sizeof(*bench));

	bench->peer = -1;
	*state = bench;
	return 0;
}

/* A machine, without devices. Skips the test where there can be no tap. */
static inline void bench_machine(struct bench *bench, bool ioeventfd)
{
	struct machine_config config = { .ioeventfd = ioeventfd };

	if (!lab_ready)
		skip();
	bench->machine = machine_create(&config);
}

static inline void bench_close(struct bench *bench)
{
	if (bench->peer >= 0)
		close(bench->peer);
	bench->peer = -1;
	driver_close(bench->driver);
	machine_destroy(bench->machine);
	bench->driver = NULL;
	bench->machine = NULL;
}

/* For teardown: a tap that a test made to stay goes too. */
static inline int bench_end(void **state)
{
	struct bench *bench = *state;

	bench_close(bench);
	if (lab_ready && lab_exists(TAP))
		lab_delete(TAP);
	test_free(bench);
	return 0;
}

#endif
