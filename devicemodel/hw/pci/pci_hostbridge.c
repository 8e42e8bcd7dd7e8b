/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The host bridge at 00:00.0: a function with nothing behind it, so that guests find the bus.
 */
#include "pci_core.h"

#define HOSTBRIDGE_VENDOR 0x1b36
#define HOSTBRIDGE_DEVICE 0x0008
#define HOSTBRIDGE_CLASS 0x0600

static bool hostbridge_kind(unsigned int index, struct pci_kind *kind)
{
	kind->name = "hostbridge";
	kind->summary = "PCI host bridge, always there at slot 0";
	return index == 0;
}

static int hostbridge_init(struct vmctx *ctx, struct pci_vdev *dev, const char *opts)
{
	int error = options_parse(ctx->log, "hostbridge", opts, NULL, 0);

	if (error)
		return error;
	pci_set_cfgdata16(dev, PCI_VENDOR_ID, HOSTBRIDGE_VENDOR);
	pci_set_cfgdata16(dev, PCI_DEVICE_ID, HOSTBRIDGE_DEVICE);
	pci_set_cfgdata16(dev, PCI_CLASS_DEVICE, HOSTBRIDGE_CLASS);
	return 0;
}

static const struct pci_vdev_ops hostbridge_ops = {
	.kind = hostbridge_kind,
	.vdev_init = hostbridge_init,
};
PCI_DEVICE_TYPE(hostbridge_ops);
