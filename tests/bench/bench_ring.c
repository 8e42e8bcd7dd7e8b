/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the device's side of a ring costs: nanoseconds a chain for taking it and giving it back, and
 * what a trapped access costs from the dispatcher down to a register. In one process, no guest.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../../devicemodel/hw/pci/virtio/virtio_pci.h"
#include "virtio_driver.h"

#define BENCH_SLOT 2
#define BENCH_QUEUE_SIZE 1024
#define BENCH_CHAINS 256 /* a round; 3 descriptors each still fit */
#define BENCH_ROUNDS 4000
#define BENCH_ACCESSES 1000000

struct bench_device {
	struct virtio_common vc;
};

static void bench_qnotify(void *dev, struct vqueue_info *vq)
{
}

VIRTIO_DEVICE(virtio_bench, {
				    .name = "virtio-bench",
				    .summary = "queue that nobody works on",
				    .device_id = 62,
				    .nvq = 1,
				    .queue_size = BENCH_QUEUE_SIZE,
				    .priv_size = sizeof(struct bench_device),
				    .qnotify = bench_qnotify,
			    });

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Take and give back all that is there, shown to the driver in batches. */
static unsigned int device_round(struct vqueue_info *vq, unsigned int batch)
{
	struct iovec iov[8];
	unsigned int chains = 0;
	uint16_t idx;

	while (vq_has_descs(vq)) {
		if (vq_getchain(vq, &idx, iov, 8, NULL) <= 0)
			abort();
		vq_relchain(vq, idx, 64);
		if (++chains % batch == 0)
			vq_endchains(vq, 0);
	}
	vq_endchains(vq, 1);
	return chains;
}

static void driver_fill(struct driver_queue *queue, uint64_t buffer, unsigned int descriptors)
{
	struct segment segments[3] = { { buffer, 64 }, { buffer + 64, 64 }, { buffer + 128, 64 } };

	for (unsigned int i = 0; i < BENCH_CHAINS; i++)
		if (queue->ring.ops->add(&queue->ring, segments, descriptors - 1, 1, false, queue))
			abort();
}

static void bench_ring(bool packed, unsigned int descriptors, unsigned int batch)
{
	static uint64_t rounds[BENCH_ROUNDS];
	struct driver_params params = { .packed = packed, .event_idx = true, .indirect = true };
	struct machine *machine = machine_create(NULL);
	struct pci_vdev *dev = machine_add(machine, "2,virtio-bench");
	struct virtio_driver *driver = driver_run(machine, BENCH_SLOT, &params, 0);
	struct driver_queue *queue = driver_queue(driver, 0);
	struct vqueue_info *vq = &((struct virtio_pci *)dev->arg)->vc->vqs[0];
	uint64_t buffer = guest_alloc(machine, 4096, 64);

	queue->ring.ops->disable_callback(&queue->ring);
	for (unsigned int round = 0; round < BENCH_ROUNDS; round++) {
		uint64_t start;

		driver_fill(queue, buffer, descriptors);
		start = now_ns();
		if (device_round(vq, batch) != BENCH_CHAINS)
			abort();
		rounds[round] = now_ns() - start;
		for (unsigned int i = 0; i < BENCH_CHAINS; i++)
			if (!queue->ring.ops->get(&queue->ring, NULL))
				abort();
	}
	qsort(rounds, BENCH_ROUNDS, sizeof(rounds[0]), compare_u64);
	printf("%-7s %u descriptor%s batch %2u: %6.1f ns a chain (median), %6.1f (best)\n",
	       packed ? "packed" : "split", descriptors, descriptors > 1 ? "s," : ", ", batch,
	       (double)rounds[BENCH_ROUNDS / 2] / BENCH_CHAINS, (double)rounds[0] / BENCH_CHAINS);
	driver_close(driver);
	machine_destroy(machine);
}

static void bench_access(const char *what, struct machine *machine, struct io_request request)
{
	uint64_t start = now_ns();

	for (unsigned int i = 0; i < BENCH_ACCESSES; i++)
		vm_io(machine->ctx, &request);
	printf("%-32s %6.1f ns\n", what, (double)(now_ns() - start) / BENCH_ACCESSES);
}

int main(void)
{
	struct machine *machine;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (unsigned int packed = 0; packed < 2; packed++)
		for (unsigned int descriptors = 1; descriptors <= 3; descriptors += 2)
			for (unsigned int batch = 1; batch <= 32; batch += 31)
				bench_ring(packed, descriptors, batch);

	machine = machine_create(NULL);
	bench_access("PIO read, CONFIG_ADDRESS", machine,
		     (struct io_request) { .type = IO_PIO, .addr = 0xcf8, .size = 4 });
	bench_access("MMIO read, ECAM", machine,
		     (struct io_request) { .type = IO_MMIO, .addr = X86_ECAM_BASE, .size = 4 });
	bench_access("MMIO read, nobody's", machine,
		     (struct io_request) { .type = IO_MMIO, .addr = X86_MMIO32_BASE, .size = 4 });
	machine_destroy(machine);
	return 0;
}
