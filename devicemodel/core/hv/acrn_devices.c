/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * acrn_devices.c: calls about devices that the hypervisor has or gives: host functions and registers
 * for the guest, devices it emulates itself, power states, the interrupt monitor.
 */
#include "acrn.h"

#include <errno.h>

/* PM_GET_CPU_STATE: type, number of the state, CPU, VM, a byte each (ACRN hypervisor, acrn_common.h). */
#define PMCMD_STATE_SHIFT 8
#define PMCMD_VCPU_SHIFT 16
#define PMCMD_VM_SHIFT 24

static int device_ioctl(struct vmctx *ctx, unsigned long request, const void *arg)
{
	int ret = acrn_ioctl(ctx->hv_data, request, arg);

	return ret < 0 ? ret : 0;
}

static struct acrn_pcidev fill_pcidev(const struct acrn_pci_assignment *pci)
{
	struct acrn_pcidev dev = {
		.type = pci->quirk ? ACRN_PTDEV_QUIRK_ASSIGN : 0,
		.virt_bdf = pci->virt_bdf,
		.phys_bdf = pci->phys_bdf,
		.intr_line = pci->intr_line,
		.intr_pin = pci->intr_pin,
	};

	memcpy(dev.bar, pci->bars, sizeof(dev.bar));
	return dev;
}

int acrn_pcidev_assign(struct vmctx *ctx, const struct acrn_pci_assignment *pci)
{
	struct acrn_pcidev dev = fill_pcidev(pci);

	return device_ioctl(ctx, ACRN_IOCTL_ASSIGN_PCIDEV, &dev);
}

int acrn_pcidev_deassign(struct vmctx *ctx, const struct acrn_pci_assignment *pci)
{
	struct acrn_pcidev dev = fill_pcidev(pci);

	return device_ioctl(ctx, ACRN_IOCTL_DEASSIGN_PCIDEV, &dev);
}

int acrn_ptdev_intx(struct vmctx *ctx, const struct acrn_intx_route *route, bool set)
{
	struct acrn_ptdev_irq irq = {
		.type = ACRN_PTDEV_IRQ_INTX,
		.virt_bdf = route->virt_bdf,
		.phys_bdf = route->phys_bdf,
		.intx = { .virt_pin = route->virt_pin,
			  .phys_pin = route->phys_pin,
			  .is_pic_pin = route->pic },
	};

	return device_ioctl(ctx, set ? ACRN_IOCTL_SET_PTDEV_INTR : ACRN_IOCTL_RESET_PTDEV_INTR,
			    &irq);
}

static int fill_mmiodev(struct acrn_mmiodev *dev, const char *name,
			const struct acrn_mmio_range *ranges, unsigned int count)
{
	size_t len = strlen(name);

	if (count > ACRN_MMIODEV_RES_NUM)
		return -EINVAL;
	if (len > sizeof(dev->name))
		return -ENAMETOOLONG;
	memset(dev, 0, sizeof(*dev));
	memcpy(dev->name, name, len);
	for (unsigned int i = 0; i < count; i++) {
		dev->res[i].user_vm_pa = ranges[i].user_pa;
		dev->res[i].service_vm_pa = ranges[i].service_pa;
		dev->res[i].size = ranges[i].size;
		dev->res[i].mem_type = ranges[i].memory_type;
	}
	return 0;
}

int acrn_mmiodev_assign(struct vmctx *ctx, const char *name, const struct acrn_mmio_range *ranges,
			unsigned int count)
{
	struct acrn_mmiodev dev;
	int error = fill_mmiodev(&dev, name, ranges, count);

	return error ? error : device_ioctl(ctx, ACRN_IOCTL_ASSIGN_MMIODEV, &dev);
}

int acrn_mmiodev_deassign(struct vmctx *ctx, const char *name, const struct acrn_mmio_range *ranges,
			  unsigned int count)
{
	struct acrn_mmiodev dev;
	int error = fill_mmiodev(&dev, name, ranges, count);

	return error ? error : device_ioctl(ctx, ACRN_IOCTL_DEASSIGN_MMIODEV, &dev);
}

/* The driver maps MMIO uncached whatever is asked, and unmaps nothing but MMIO. */
static struct acrn_vm_memmap fill_mmio(const struct acrn_mmio_range *range)
{
	return (struct acrn_vm_memmap) {
		.type = ACRN_MEMMAP_MMIO,
		.attr = ACRN_MEM_ACCESS_RWX | ACRN_MEM_TYPE_UC,
		.user_vm_pa = range->user_pa,
		.service_vm_pa = range->service_pa,
		.len = range->size,
	};
}

int acrn_mmio_map(struct vmctx *ctx, const struct acrn_mmio_range *range)
{
	struct acrn_vm_memmap map = fill_mmio(range);

	return device_ioctl(ctx, ACRN_IOCTL_SET_MEMSEG, &map);
}

int acrn_mmio_unmap(struct vmctx *ctx, const struct acrn_mmio_range *range)
{
	struct acrn_vm_memmap map = fill_mmio(range);

	return device_ioctl(ctx, ACRN_IOCTL_UNSET_MEMSEG, &map);
}

static int fill_vdev(struct acrn_vdev *vdev, const struct acrn_hv_device *device)
{
	size_t len = device->args ? strlen(device->args) : 0;

	/* The hypervisor reads a string: its end must be in there. */
	if (len >= sizeof(vdev->args))
		return -EINVAL;
	memset(vdev, 0, sizeof(*vdev));
	vdev->id.fields.vendor = device->vendor;
	vdev->id.fields.device = device->device;
	vdev->id.fields.legacy_id = device->legacy_id;
	vdev->slot = device->slot;
	memcpy(vdev->io_addr, device->io_addr, sizeof(vdev->io_addr));
	memcpy(vdev->io_size, device->io_size, sizeof(vdev->io_size));
	if (len)
		memcpy(vdev->args, device->args, len);
	return 0;
}

int acrn_vdev_create(struct vmctx *ctx, const struct acrn_hv_device *device)
{
	struct acrn_vdev vdev;
	int error = fill_vdev(&vdev, device);

	return error ? error : device_ioctl(ctx, ACRN_IOCTL_CREATE_VDEV, &vdev);
}

int acrn_vdev_destroy(struct vmctx *ctx, const struct acrn_hv_device *device)
{
	struct acrn_vdev vdev;
	int error = fill_vdev(&vdev, device);

	return error ? error : device_ioctl(ctx, ACRN_IOCTL_DESTROY_VDEV, &vdev);
}

int acrn_intr_monitor(struct vmctx *ctx, void *page)
{
	if ((uintptr_t)page % sizeof(struct acrn_io_request_buffer))
		return -EINVAL;
	/* The driver gives back how many pages it pinned. */
	return device_ioctl(ctx, ACRN_IOCTL_VM_INTR_MONITOR, page);
}

/*
 * One buffer is command and answer, and the driver writes as much into it as the answer has: there
 * is room for the longest, whatever size the request's number tells.
 */
static int pm_state(struct vmctx *ctx, uint64_t command, void *answer, size_t size)
{
	union {
		uint64_t command;
		uint64_t count;
		struct acrn_pstate_data px;
		struct acrn_cstate_data cx;
	} data;
	int error;

	memset(&data, 0, sizeof(data));
	data.command = command;
	error = device_ioctl(ctx, ACRN_IOCTL_PM_GET_CPU_STATE, &data);
	if (!error)
		memcpy(answer, &data, size);
	return error;
}

static int pm_command(struct vmctx *ctx, enum acrn_pm_cmd_type type, unsigned int vcpu,
		      unsigned int index, uint64_t *command)
{
	const struct acrn_vm *vm = ctx->hv_data;

	if (vcpu > UINT8_MAX || index > UINT8_MAX || vm->vmid > UINT8_MAX)
		return -EINVAL;
	*command = (uint64_t)vm->vmid << PMCMD_VM_SHIFT | vcpu << PMCMD_VCPU_SHIFT |
		   index << PMCMD_STATE_SHIFT | type;
	return 0;
}

int acrn_pm_count(struct vmctx *ctx, enum acrn_pm_cmd_type type, unsigned int vcpu, uint64_t *count)
{
	uint64_t command;
	int error;

	if (type != ACRN_PMCMD_GET_PX_CNT && type != ACRN_PMCMD_GET_CX_CNT)
		return -EINVAL;
	error = pm_command(ctx, type, vcpu, 0, &command);
	return error ? error : pm_state(ctx, command, count, sizeof(*count));
}

int acrn_pm_px(struct vmctx *ctx, unsigned int vcpu, unsigned int index,
	       struct acrn_pstate_data *data)
{
	uint64_t command;
	int error = pm_command(ctx, ACRN_PMCMD_GET_PX_DATA, vcpu, index, &command);

	return error ? error : pm_state(ctx, command, data, sizeof(*data));
}

int acrn_pm_cx(struct vmctx *ctx, unsigned int vcpu, unsigned int index,
	       struct acrn_cstate_data *data)
{
	uint64_t command;
	int error = pm_command(ctx, ACRN_PMCMD_GET_CX_DATA, vcpu, index, &command);

	return error ? error : pm_state(ctx, command, data, sizeof(*data));
}
