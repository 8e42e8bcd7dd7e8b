/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The PCI-ISA bridge at 00:00.7, a function of the host bridge's slot, so that slots 1 to 31 are
 * free. All there is to it are the registers of the interrupt router (platform.h, pirq.c), at the
 * places of an ICH's: Intel 82801, 9.8.1.4.
 */
#include <errno.h>

#include "pci_core.h"
#include "platform.h"

/* An 82371SB's, which no guest looks for more than that in. */
#define BRIDGE_VENDOR 0x8086
#define BRIDGE_DEVICE 0x7000
#define BRIDGE_CLASS 0x0601

#define ROUTE_MASK 0x8f /* off, and an ISA interrupt */

/* The config register of line @line. */
static unsigned int route_register(unsigned int line)
{
	return PCI_ISA_BRIDGE_ROUTES + (line & 3) + (line & 4) * 2;
}

static bool bridge_kind(unsigned int index, struct pci_kind *kind)
{
	kind->name = "isabridge";
	kind->summary = "PCI-ISA bridge with the interrupt router, always there at slot 0:7";
	return index == 0;
}

static int bridge_init(struct vmctx *ctx, struct pci_vdev *dev, const char *opts)
{
	int error = options_parse(ctx->log, "isabridge", opts, NULL, 0);

	if (error)
		return error;
	if (dev->slot || dev->func != PCI_ISA_BRIDGE_FUNCTION) {
		log_error(ctx->log,
			  "isabridge: every VM has one, at slot 0:%d, and no other (leave it out)",
			  PCI_ISA_BRIDGE_FUNCTION);
		return -EEXIST;
	}
	pci_set_cfgdata16(dev, PCI_VENDOR_ID, BRIDGE_VENDOR);
	pci_set_cfgdata16(dev, PCI_DEVICE_ID, BRIDGE_DEVICE);
	pci_set_cfgdata16(dev, PCI_CLASS_DEVICE, BRIDGE_CLASS);
	for (unsigned int i = 0; i < PIRQ_LINES; i++) {
		pci_set_cfgdata8(dev, route_register(i), PIRQ_ROUTE_OFF);
		pci_set_cfgmask(dev, route_register(i), 1, ROUTE_MASK);
	}
	return 0;
}

static void bridge_cfgwritten(struct pci_vdev *dev, unsigned int offset, unsigned int size)
{
	for (unsigned int i = 0; i < PIRQ_LINES; i++)
		if (range_contains(offset, size, route_register(i), 1))
			pirq_set_route(dev->vmctx->platform->pirq, i,
				       pci_get_cfgdata8(dev, route_register(i)));
}

static void bridge_applied(struct pci_vdev *dev)
{
	bridge_cfgwritten(dev, 0, PCI_CFG_SIZE);
}

static const struct pci_vdev_ops bridge_ops = {
	.kind = bridge_kind,
	.vdev_init = bridge_init,
	.vdev_cfgwritten = bridge_cfgwritten,
	.vdev_applied = bridge_applied,
};
PCI_DEVICE_TYPE(bridge_ops);
