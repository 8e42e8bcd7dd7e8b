/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * VBS-K: virtio-rng-kernel, whose ring a character device runs. Here that is /dev/null with ioctls
 * of the test's; where there is a /dev/vbs_rng (the lab has a stand-in), that one too.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "../../devicemodel/hw/pci/virtio/virtio_pci.h"
#include "fake_ioctl.h"
#include "virtio_driver.h"
#include "virtio_kernel.h"

#define SLOT 4
#define PRETENDED "/dev/null"
#define STAND_IN "/dev/vbs_rng"
#define STAND_IN_TEXT "vbs-k stand-in.\n"

/* struct module - the kernel's side: what it was told, and what it refuses. */
static struct module {
	struct vbs_dev_info dev;
	struct vbs_vqs_info vqs;
	bool running;
	unsigned int resets, starts;
	unsigned long fail_request;
} module;

static int module_ioctl(unsigned long request, const void *arg)
{
	if (request == module.fail_request)
		return -EIO;
	switch (request) {
	case VBS_SET_DEV:
		memcpy(&module.dev, arg, sizeof(module.dev));
		return 0;
	case VBS_SET_VQ:
		memcpy(&module.vqs, arg, sizeof(module.vqs));
		module.running = true;
		module.starts++;
		return 0;
	case VBS_RESET_DEV:
		module.running = false;
		module.resets++;
		return 0;
	}
	return -ENOTTY;
}

/* The module is /dev/null. */
static int fake_ioctl(int fd, unsigned long request, void *arg)
{
	struct stat status;

	if (fstat(fd, &status) || status.st_rdev != makedev(1, 3))
		return FAKE_NOT_OURS;
	return module_ioctl(request, arg);
}

FAKE_IOCTL(fake_ioctl);

/* ---- The module at work ---- */

static struct vring_used *module_used(struct machine *machine)
{
	const struct vbs_vq_info *vq = &module.vqs.vqs[0];
	uint64_t ring = (uint64_t)vq->pfn << 12;
	uint64_t used =
		align_up(ring + vq->qsize * sizeof(struct vring_desc) + 6 + 2 * vq->qsize, 4096);

	return guest_ptr(machine, used, 6 + 8 * vq->qsize);
}

/* Fill the first buffer that is available, and send the interrupt by what would be a hypercall. */
static void module_serve(struct machine *machine, uint8_t byte)
{
	const struct vbs_vq_info *vq = &module.vqs.vqs[0];
	const struct vring_desc *descs =
		guest_ptr(machine, (uint64_t)vq->pfn << 12, vq->qsize * sizeof(*descs));
	const struct vring_avail *avail = (const void *)(descs + vq->qsize);
	struct vring_used *used = module_used(machine);
	uint16_t head = avail->ring[used->idx % vq->qsize];
	struct hv_msi msi = { vq->msix_addr, vq->msix_data };

	assert_true(module.running);
	assert_int_not_equal(avail->idx, used->idx);
	memset(guest_ptr(machine, descs[head].addr, descs[head].len), byte, descs[head].len);
	used->ring[used->idx % vq->qsize] = (struct vring_used_elem) { head, descs[head].len };
	__atomic_store_n(&used->idx, (uint16_t)(used->idx + 1), __ATOMIC_RELEASE);
	assert_int_equal(machine->ctx->hv->msi(machine->ctx, &msi), 0);
}

/* ---- Bench ---- */

static const struct driver_params legacy = { .legacy = true, .msix = true };

struct bench {
	struct machine *machine;
	struct pci_vdev *dev;
	struct virtio_driver *driver;
	struct driver_queue *queue;
};

static struct bench bench_run(const char *device)
{
	struct machine_config config = { .ioeventfd = true };
	struct bench bench = { .machine = machine_create(&config) };
	char spec[64];

	memset(&module, 0, sizeof(module));
	snprintf(spec, sizeof(spec), "%d,virtio-rng-kernel,%s", SLOT, device);
	bench.dev = machine_add(bench.machine, spec);
	bench.driver = driver_run(bench.machine, SLOT, &legacy, 0);
	bench.queue = driver_queue(bench.driver, 0);
	machine_log_clear(bench.machine);
	return bench;
}

static void bench_close(struct bench *bench)
{
	driver_close(bench->driver);
	machine_destroy(bench->machine);
}

static uint64_t ask(struct bench *bench, uint32_t len)
{
	uint64_t gpa = guest_alloc(bench->machine, len, 1);
	const struct segment segment = { gpa, len };

	assert_int_equal(driver_add_buf(bench->queue, &segment, 0, 1, bench), 0);
	driver_kick(bench->queue);
	machine_poll(bench->machine);
	return gpa;
}

static bool needs_reset(struct bench *bench)
{
	return driver_status(bench->driver) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

/* ---- Tests ---- */

/* All that the kernel is told, as the driver had it. */
static void test_told(void **state)
{
	struct bench bench = bench_run(PRETENDED);
	const struct vbs_vq_info *vq = &module.vqs.vqs[0];
	const struct pci_function *pci = &bench.driver->pci;

	assert_true(module.running);
	assert_int_equal(module.starts, 1);
	assert_string_equal(module.dev.name, bench.dev->name);
	assert_int_equal(module.dev.nvq, 1);
	assert_int_equal(module.dev.negotiated_features, 0);
	assert_int_equal(module.dev.pio_range_start, pci->bar[0].addr);
	assert_int_equal(module.dev.pio_range_len, pci->bar[0].size);
	assert_int_equal(module.vqs.nvq, 1);
	assert_int_equal(vq->qsize, bench.queue->ring.size);
	assert_int_equal((uint64_t)vq->pfn << 12, bench.queue->ring.desc_gpa);
	assert_int_equal(vq->msix_idx, 1);
	assert_int_equal(vq->msix_addr, MSI_ADDRESS);
	assert_int_equal(vq->msix_data, pci_msix_data(pci, 1));
	bench_close(&bench);
}

/* The interface as it is in ACRN: sizes and numbers. */
static void test_interface(void **state)
{
	assert_int_equal(sizeof(struct vbs_vq_info), 32);
	assert_int_equal(sizeof(struct vbs_vqs_info), 328);
	assert_int_equal(sizeof(struct vbs_dev_info), 64);
	assert_int_equal(VBS_SET_DEV, 0x4040af00);
	assert_int_equal(VBS_SET_VQ, 0x4148af01);
	assert_int_equal(VBS_RESET_DEV, 0xaf02);
}

static void test_request(void **state)
{
	struct bench bench = bench_run(PRETENDED);

	for (uint8_t i = 1; i < 200; i++) {
		uint64_t gpa = ask(&bench, 16);
		uint32_t len;

		assert_false(driver_pending(bench.queue)); /* nobody but the kernel serves it */
		module_serve(bench.machine, i);
		assert_ptr_equal(driver_get_buf(bench.queue, &len), &bench);
		assert_int_equal(len, 16);
		assert_int_equal(*(uint8_t *)guest_ptr(bench.machine, gpa + 15, 1), i);
		assert_true(driver_queue_interrupt(bench.queue));
	}
	/* Its kicks are for the kernel: no eventfd takes them away. */
	assert_int_equal(inproc_of(bench.machine->ctx)->eventfd_count, 0);
	bench_close(&bench);
}

static void test_reset(void **state)
{
	struct bench bench = bench_run(PRETENDED);
	unsigned int resets = module.resets;

	ask(&bench, 16);
	module_serve(bench.machine, 1);
	driver_set_status(bench.driver, 0);
	assert_false(module.running);
	assert_int_equal(module.resets, resets + 1);
	driver_set_status(bench.driver, 0);
	assert_int_equal(module.resets, resets + 1);
	driver_restart(bench.driver);
	assert_true(module.running);
	ask(&bench, 16);
	module_serve(bench.machine, 2);
	bench_close(&bench);
	assert_false(module.running);
}

/* Stopped and gone on with: possible as long as the ring is at its start. */
static void test_quiesce(void **state)
{
	struct bench bench = bench_run(PRETENDED);

	pci_quiesce_devices(bench.machine->ctx);
	assert_false(module.running);
	pci_resume_devices(bench.machine->ctx);
	assert_true(module.running);
	ask(&bench, 16);
	module_serve(bench.machine, 1);
	pci_quiesce_devices(bench.machine->ctx);
	assert_false(module.running);
	pci_resume_devices(bench.machine->ctx);
	assert_false(module.running);
	assert_true(needs_reset(&bench));
	assert_int_equal(bench.machine->captured.count, 1);
	assert_logged(bench.machine, "its ring was in use, and VBS-K begins at index 0");
	driver_restart(bench.driver);
	assert_true(module.running);
	bench_close(&bench);
}

/* The kernel refuses: one line, and the driver is told. */
static void test_refused(void **state)
{
	static const unsigned long requests[] = { VBS_SET_DEV, VBS_SET_VQ };

	for (unsigned int i = 0; i < ARRAY_SIZE(requests); i++) {
		struct bench bench = bench_run(PRETENDED);
		unsigned int resets;

		driver_set_status(bench.driver, 0);
		resets = module.resets;
		module.fail_request = requests[i];
		driver_restart(bench.driver);
		assert_true(needs_reset(&bench));
		assert_int_equal(bench.machine->captured.count, 1);
		assert_logged(bench.machine, "/dev/null cannot run it: Input/output error");
		assert_int_equal(module.resets, resets + i);
		ask(&bench, 16);
		assert_int_equal(bench.machine->captured.count, 1);
		module.fail_request = 0;
		driver_restart(bench.driver);
		assert_true(module.running);
		bench_close(&bench);
	}
}

/* What the functions return; a stop that fails is not hidden. */
static void test_functions(void **state)
{
	static const struct vbs_dev_info dev;
	static const struct vbs_vqs_info vqs;
	struct bench bench = bench_run(PRETENDED);
	int fd = open(PRETENDED, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(vbs_kernel_start(fd, &dev, &vqs), 0);
	assert_int_equal(vbs_kernel_stop(fd), 0);
	assert_int_equal(vbs_kernel_reset(fd), 0);
	close(fd);
	assert_int_equal(vbs_kernel_start(fd, &dev, &vqs), -EBADF);
	assert_int_equal(vbs_kernel_stop(fd), -EBADF);
	assert_int_equal(vbs_kernel_reset(fd), -EBADF);
	module.fail_request = VBS_RESET_DEV;
	driver_set_status(bench.driver, 0);
	assert_int_equal(bench.machine->captured.count, 1);
	assert_logged(bench.machine, "/dev/null: VBS_RESET_DEV: Input/output error");
	bench_close(&bench);
}

static void test_options(void **state)
{
	static const struct {
		const char *options, *line;
	} bad[] = {
		{ "", "option device is missing" },
		{ ",/nowhere/vbs", "/nowhere/vbs: No such file or directory (is the VBS-K module" },
		{ ",/dev/zero", "/dev/zero: Inappropriate ioctl for device" },
		{ "," PRETENDED ",legacy=off",
		  "VBS-K knows legacy drivers only (drop legacy=off)" },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		struct machine *machine = machine_create(NULL);
		char spec[128];

		snprintf(spec, sizeof(spec), "4,virtio-rng-kernel%s", bad[i].options);
		assert_null(pci_add_device(machine->ctx, spec));
		assert_logged(machine, bad[i].line);
		assert_int_equal(machine->captured.count, 1);
		machine_destroy(machine);
	}
}

/* A legacy device and no other: its id, one BAR of ports, no bit of the modern interface. */
static void test_identity(void **state)
{
	struct bench bench = bench_run(PRETENDED);

	assert_int_equal(bench.driver->pci.device, 0x1005);
	assert_int_equal(bench.driver->pci.bar[VIRTIO_MODERN_BAR].size, 0);
	assert_int_equal(bench.driver->offered, 0);
	bench_close(&bench);
}

/* Another process runs the ring: what the driver gets is its text. */
static void test_stand_in(void **state)
{
	struct bench bench;

	if (access(STAND_IN, R_OK | W_OK)) {
		print_message("no " STAND_IN ": the lab has a stand-in\n");
		skip();
	}
	bench = bench_run(STAND_IN);
	for (unsigned int round = 0; round < 3; round++) {
		for (unsigned int i = 0; i < 100; i++) {
			uint64_t gpa = ask(&bench, 64);
			uint32_t len;

			assert_ptr_equal(driver_wait_buf(bench.queue, &len, DRIVER_TIMEOUT_MS),
					 &bench);
			assert_int_equal(len, 64);
			for (unsigned int j = 0; j < 4; j++)
				assert_memory_equal(guest_ptr(bench.machine, gpa + j * 16, 16),
						    STAND_IN_TEXT, 16);
		}
		driver_restart(bench.driver);
	}
	assert_int_equal(bench.machine->captured.count, 0);
	bench_close(&bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_interface), cmocka_unit_test(test_identity),
		cmocka_unit_test(test_told),	  cmocka_unit_test(test_request),
		cmocka_unit_test(test_reset),	  cmocka_unit_test(test_quiesce),
		cmocka_unit_test(test_refused),	  cmocka_unit_test(test_functions),
		cmocka_unit_test(test_options),	  cmocka_unit_test(test_stand_in),
	};

	return cmocka_run_group_tests_name("vbs", tests, NULL, NULL);
}
