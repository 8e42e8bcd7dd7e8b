/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The calls of the ACRN port for devices that the hypervisor has: what they put into their structs.
 */
#include "fake_guest.h"

static void test_pcidev(void **state)
{
	static const struct acrn_pci_assignment pci = { .virt_bdf = 0x18,
							.phys_bdf = 0x2f1,
							.intr_line = 11,
							.intr_pin = 2,
							.quirk = true,
							.bars = { 1, 2, 3, 4, 5, 6 } };
	static const unsigned long requests[] = { ACRN_IOCTL_ASSIGN_PCIDEV,
						  ACRN_IOCTL_DEASSIGN_PCIDEV };
	struct fake_machine *machine = *state;

	fake_machine_create(machine);
	assert_int_equal(acrn_pcidev_assign(machine->ctx, &pci), 0);
	assert_int_equal(acrn_pcidev_deassign(machine->ctx, &pci), 0);
	for (unsigned int i = 0; i < 2; i++) {
		const struct acrn_pcidev *dev = &fake_call(requests[i], 0)->pcidev;

		assert_int_equal(dev->type, ACRN_PTDEV_QUIRK_ASSIGN);
		assert_int_equal(dev->virt_bdf, 0x18);
		assert_int_equal(dev->phys_bdf, 0x2f1);
		assert_int_equal(dev->intr_line, 11);
		assert_int_equal(dev->intr_pin, 2);
		assert_memory_equal(dev->bar, pci.bars, sizeof(pci.bars));
	}
	fake_fail(ACRN_IOCTL_ASSIGN_PCIDEV, EPERM);
	assert_int_equal(acrn_pcidev_assign(machine->ctx, &pci), -EPERM);
	assert_int_equal(machine->log.count, 0);
}

static void test_ptdev_intx(void **state)
{
	static const struct acrn_intx_route route = { 0x18, 0x2f1, 17, 3, true };
	static const unsigned long requests[] = { ACRN_IOCTL_SET_PTDEV_INTR,
						  ACRN_IOCTL_RESET_PTDEV_INTR };
	struct fake_machine *machine = *state;

	fake_machine_create(machine);
	assert_int_equal(acrn_ptdev_intx(machine->ctx, &route, true), 0);
	assert_int_equal(acrn_ptdev_intx(machine->ctx, &route, false), 0);
	for (unsigned int i = 0; i < 2; i++) {
		const struct acrn_ptdev_irq *irq = &fake_call(requests[i], 0)->ptdev;

		assert_int_equal(irq->type, ACRN_PTDEV_IRQ_INTX);
		assert_int_equal(irq->virt_bdf, 0x18);
		assert_int_equal(irq->phys_bdf, 0x2f1);
		assert_int_equal(irq->intx.virt_pin, 17);
		assert_int_equal(irq->intx.phys_pin, 3);
		assert_int_equal(irq->intx.is_pic_pin, 1);
	}
}

static void test_mmio(void **state)
{
	static const struct acrn_mmio_range ranges[4] = {
		{ 0xfe000000, 0xfd000000, 0x1000, ACRN_MEM_TYPE_UC },
		{ 0xfe010000, 0xfd010000, 0x2000, ACRN_MEM_TYPE_WC },
	};
	struct fake_machine *machine = *state;
	const struct acrn_mmiodev *dev;
	const struct acrn_vm_memmap *map;

	fake_machine_create(machine);
	assert_int_equal(acrn_mmiodev_assign(machine->ctx, "MSFT0101", ranges, 2), 0);
	assert_int_equal(acrn_mmiodev_deassign(machine->ctx, "TPM2", ranges, 1), 0);
	assert_int_equal(acrn_mmiodev_assign(machine->ctx, "x", ranges, 4), -EINVAL);
	assert_int_equal(acrn_mmiodev_assign(machine->ctx, "MSFT0101x", ranges, 1), -ENAMETOOLONG);
	dev = &fake_call(ACRN_IOCTL_ASSIGN_MMIODEV, 0)->mmiodev;
	assert_memory_equal(dev->name, "MSFT0101", 8);
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(dev->res[i].user_vm_pa, ranges[i].user_pa);
		assert_int_equal(dev->res[i].service_vm_pa, ranges[i].service_pa);
		assert_int_equal(dev->res[i].size, ranges[i].size);
		assert_int_equal(dev->res[i].mem_type, ranges[i].memory_type);
	}
	dev = &fake_call(ACRN_IOCTL_DEASSIGN_MMIODEV, 0)->mmiodev;
	assert_memory_equal(dev->name, "TPM2\0\0\0\0", 8);
	assert_int_equal(dev->res[1].size, 0);

	assert_int_equal(acrn_mmio_map(machine->ctx, &ranges[1]), 0);
	assert_int_equal(acrn_mmio_unmap(machine->ctx, &ranges[1]), 0);
	for (unsigned int i = 0; i < 2; i++) {
		map = i ? &fake_call(ACRN_IOCTL_UNSET_MEMSEG, 0)->memmap
			: &fake_call(ACRN_IOCTL_SET_MEMSEG, 1)->memmap;
		assert_int_equal(map->type, ACRN_MEMMAP_MMIO);
		assert_int_equal(map->attr, ACRN_MEM_ACCESS_RWX | ACRN_MEM_TYPE_UC);
		assert_int_equal(map->user_vm_pa, 0xfe010000);
		assert_int_equal(map->service_vm_pa, 0xfd010000);
		assert_int_equal(map->len, 0x2000);
	}
}

static void test_vdev(void **state)
{
	struct acrn_hv_device device = { .vendor = 0x1af4,
					 .device = 0x1110,
					 .legacy_id = 7,
					 .slot = 0x20,
					 .io_addr = { 1, 2 },
					 .io_size = { 3, 4 },
					 .args = "hv:/shm_region_0" };
	static const unsigned long requests[] = { ACRN_IOCTL_CREATE_VDEV, ACRN_IOCTL_DESTROY_VDEV };
	struct fake_machine *machine = *state;
	char args[129];

	fake_machine_create(machine);
	assert_int_equal(acrn_vdev_create(machine->ctx, &device), 0);
	assert_int_equal(acrn_vdev_destroy(machine->ctx, &device), 0);
	for (unsigned int i = 0; i < 2; i++) {
		const struct acrn_vdev *vdev = &fake_call(requests[i], 0)->vdev;

		assert_int_equal(vdev->id.value, UINT64_C(0x711101af4));
		assert_int_equal(vdev->slot, 0x20);
		assert_int_equal(vdev->io_addr[1], 2);
		assert_int_equal(vdev->io_size[1], 4);
		assert_int_equal(vdev->io_size[2], 0);
		assert_string_equal((const char *)vdev->args, "hv:/shm_region_0");
	}
	memset(args, 'a', sizeof(args));
	args[128] = '\0';
	device.args = args;
	assert_int_equal(acrn_vdev_create(machine->ctx, &device), -EINVAL);
	args[127] = '\0';
	assert_int_equal(acrn_vdev_create(machine->ctx, &device), 0);
	device.args = NULL;
	assert_int_equal(acrn_vdev_create(machine->ctx, &device), 0);
}

static void test_monitor_and_pm(void **state)
{
	static _Alignas(4096) uint8_t page[4096];
	struct fake_machine *machine = *state;
	struct acrn_pstate_data px;
	struct acrn_cstate_data cx;
	uint64_t count = 0;
	struct vmctx *ctx;

	fake_machine_create(machine);
	ctx = machine->ctx;
	assert_int_equal(acrn_intr_monitor(ctx, page), 0);
	assert_int_equal(fake_call(ACRN_IOCTL_VM_INTR_MONITOR, 0)->value, (uintptr_t)page);
	assert_int_equal(acrn_intr_monitor(ctx, page + 8), -EINVAL);

	assert_int_equal(acrn_pm_count(ctx, ACRN_PMCMD_GET_CX_CNT, 1, &count), 0);
	assert_int_equal(count, UINT64_C(0x5a5a5a5a5a5a5a5a));
	assert_int_equal(acrn_pm_px(ctx, 2, 5, &px), 0);
	assert_int_equal(px.status, UINT64_C(0x5a5a5a5a5a5a5a5a));
	assert_int_equal(acrn_pm_cx(ctx, 3, 1, &cx), 0);
	assert_int_equal(fake_call(ACRN_IOCTL_PM_GET_CPU_STATE, 0)->value, 0x03010002);
	assert_int_equal(fake_call(ACRN_IOCTL_PM_GET_CPU_STATE, 1)->value, 0x03020501);
	assert_int_equal(fake_call(ACRN_IOCTL_PM_GET_CPU_STATE, 2)->value, 0x03030103);
	assert_int_equal(acrn_pm_count(ctx, ACRN_PMCMD_GET_PX_DATA, 0, &count), -EINVAL);
	assert_int_equal(acrn_pm_px(ctx, 0, 256, &px), -EINVAL);

	/* A board without such data. */
	fake_fail(ACRN_IOCTL_PM_GET_CPU_STATE, EPERM);
	assert_int_equal(acrn_pm_count(ctx, ACRN_PMCMD_GET_PX_CNT, 0, &count), -EPERM);
	assert_int_equal(machine->log.count, 0);
}

#define TEST(function)                                                                             \
	cmocka_unit_test_setup_teardown(function, fake_machine_setup, fake_machine_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_pcidev), TEST(test_ptdev_intx),     TEST(test_mmio),
		TEST(test_vdev),   TEST(test_monitor_and_pm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
