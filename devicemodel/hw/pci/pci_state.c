/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Saved states of PCI functions: config space, MSI-X, INTx, and with config space where the BARs
 * are. What the guest cannot write and the device model does not change must be the same: it tells
 * the guest what function this is.
 */
#include <errno.h>
#include <stdio.h>

#include "pci_bus.h"

/* ---- Tables ---- */

static uint32_t msix_vectors(const void *object)
{
	const struct pci_vdev *dev = object;

	return dev->msix.count;
}

static uint32_t msix_pending_words(const void *object)
{
	const struct pci_vdev *dev = object;

	return (uint32_t)align_up(dev->msix.count, 64) / 64;
}

static const struct state_field vector_fields[] = {
	{ STATE_FIELD(struct pci_msix_entry, addr) },
	{ STATE_FIELD(struct pci_msix_entry, data) },
	{ STATE_FIELD(struct pci_msix_entry, control), .max = PCI_MSIX_ENTRY_CTRL_MASKBIT },
	{},
};

#define MSIX_VECTORS_MAX (PCI_MSIX_FLAGS_QSIZE + 1)

static const struct state_field function_fields[] = {
	{ STATE_BYTES(struct pci_vdev, name), .match = true, .text = true,
	  .hint = "put the same device at the same place" },
	{ STATE_FIELD(struct pci_vdev, msix.count), .match = true },
	{ STATE_BYTES(struct pci_vdev, cfgdata) },
	{ STATE_FIELD(struct pci_vdev, lintr.asserted) },
	{ STATE_POINTER(struct pci_vdev, msix.table, MSIX_VECTORS_MAX), .count_of = msix_vectors,
	  .fields = vector_fields },
	{ STATE_POINTER(struct pci_vdev, msix.pending, MSIX_VECTORS_MAX / 64),
	  .count_of = msix_pending_words },
	{},
};

static const char *msix_check(const struct pci_vdev *dev)
{
	unsigned int count = dev->msix.count;

	for (unsigned int i = 0; i < count; i++)
		if (dev->msix.table[i].addr & 3)
			return "msix.table: an address is no multiple of 4";
	if (count % 64 && dev->msix.pending[count / 64] & ~(BIT64(count % 64) - 1))
		return "msix.pending: bits of vectors that are not there";
	return NULL;
}

static const char *function_check(const void *object, const void *staged)
{
	const struct pci_vdev *dev = staged;
	bool status = dev->cfgdata[PCI_STATUS] & PCI_STATUS_INTERRUPT;
	unsigned int pending = dev->msi.cap + PCI_MSI_PENDING_64;

	if (dev->lintr.asserted && !dev->lintr.pin)
		return "lintr.asserted: the function has no interrupt pin";
	if (dev->lintr.asserted != status)
		return "lintr.asserted: the status register says otherwise";
	if (dev->msi.cap && bytes_get(&dev->cfgdata[pending], 4) & ~(BIT64(dev->msi.count) - 1))
		return "cfgdata: MSI pending bits of vectors that are not there";
	return msix_check(dev);
}

static const struct state_desc function_state = {
	.name = "pci",
	.version = 1,
	.fields = function_fields,
	.check = function_check,
};

static const struct state_field bus_fields[] = {
	{ STATE_FIELD(struct pci_bus, address) },
	{},
};

/* As writing it leaves it (PCI 3.0, 3.2.2.3.2). */
static const char *bus_check(const void *object, const void *staged)
{
	const struct pci_bus *bus = staged;

	return bus->address & ~PCI_CONFIG_ADDRESS_MASK ? "address: reserved bits are set" : NULL;
}

static const struct state_desc bus_state = {
	.name = "pci-bus",
	.version = 1,
	.fields = bus_fields,
	.check = bus_check,
};

/* ---- One function ---- */

#define PLACE_SIZE 16

static const char *place_name(const struct pci_vdev *dev, char text[PLACE_SIZE])
{
	snprintf(text, PLACE_SIZE, "00:%02x.%x", dev->slot, dev->func);
	return text;
}

static void function_lock(struct pci_vdev *dev)
{
	pthread_mutex_lock(&dev->pci->config_lock);
	pthread_mutex_lock(&dev->lock);
}

static void function_unlock(struct pci_vdev *dev)
{
	pthread_mutex_unlock(&dev->lock);
	pthread_mutex_unlock(&dev->pci->config_lock);
}

int pci_save_device(struct pci_vdev *dev, struct state_writer *writer)
{
	char place[PLACE_SIZE];
	int error = 0;

	place_name(dev, place);
	function_lock(dev);
	if (dev->dev_ops->vdev_save)
		error = dev->dev_ops->vdev_save(dev, writer, place);
	pthread_mutex_lock(&dev->intr_lock);
	if (!error)
		error = state_save(writer, place, 0, &function_state, dev);
	pthread_mutex_unlock(&dev->intr_lock);
	function_unlock(dev);
	return error;
}

/* The bits of a byte of config space that change while a guest runs. */
static uint8_t config_mutable(const struct pci_vdev *dev, unsigned int offset)
{
	unsigned int pending = dev->msi.cap + PCI_MSI_PENDING_64;
	uint8_t bits = dev->cfgmask[offset];

	if (offset == PCI_STATUS && dev->lintr.pin)
		bits |= PCI_STATUS_INTERRUPT;
	if (dev->msi.cap && offset >= pending && offset < pending + 4)
		bits = 0xff;
	return bits;
}

static int config_check(const struct pci_vdev *dev, const struct pci_vdev *staged,
			struct state_reader *reader, const char *place)
{
	for (unsigned int i = 0; i < PCI_CFG_SIZE; i++) {
		uint8_t theirs = staged->cfgdata[i], ours = dev->cfgdata[i];

		if ((theirs ^ ours) & ~config_mutable(dev, i))
			return state_refuse(reader, place, 0, function_state.name,
					    "cfgdata[0x%02x]: 0x%02x in the state, 0x%02x here: "
					    "not the same function",
					    i, theirs, ours);
	}
	return 0;
}

struct staged_function {
	struct pci_vdev dev;
	void *own;
};

/* vCPUs are not running: between the locks nothing happens. */
static void function_apply(void *object, void *arg)
{
	struct staged_function *staged = arg;
	struct pci_vdev *dev = object;

	function_lock(dev);
	if (dev->dev_ops->vdev_apply)
		dev->dev_ops->vdev_apply(dev, staged->own);
	pthread_mutex_lock(&dev->intr_lock);
	state_apply(&function_state, dev, &staged->dev);
	pthread_mutex_unlock(&dev->intr_lock);
	if (dev->dev_ops->vdev_applied)
		dev->dev_ops->vdev_applied(dev);
	pci_lintr_update(dev);
	pci_irqfds_update(dev);
	pthread_mutex_unlock(&dev->lock);
	pci_bars_update(dev);
	pthread_mutex_unlock(&dev->pci->config_lock);
}

static int function_load(struct pci_vdev *dev, struct state_reader *reader, const char *place,
			 struct staged_function *staged)
{
	int error;

	pthread_mutex_lock(&dev->intr_lock);
	memcpy(&staged->dev, dev, sizeof(staged->dev));
	pthread_mutex_unlock(&dev->intr_lock);
	error = state_load(reader, place, 0, &function_state, dev, &staged->dev);
	if (!error)
		error = config_check(dev, &staged->dev, reader, place);
	if (!error && dev->dev_ops->vdev_load)
		error = dev->dev_ops->vdev_load(dev, reader, place, &staged->own);
	return error;
}

int pci_load_device(struct pci_vdev *dev, struct state_reader *reader)
{
	struct staged_function *staged = state_alloc(reader, sizeof(*staged));
	char place[PLACE_SIZE];
	int error;

	if (!staged)
		return -ENOMEM;
	function_lock(dev);
	error = function_load(dev, reader, place_name(dev, place), staged);
	function_unlock(dev);
	return error ? error : state_defer(reader, function_apply, dev, staged);
}

/* ---- The bus ---- */

int pci_save_devices(struct vmctx *ctx, struct state_writer *writer)
{
	int error = state_save(writer, NULL, 0, &bus_state, ctx->pci);

	for (struct pci_vdev *dev = NULL; !error && (dev = pci_next_device(ctx, dev));)
		error = pci_save_device(dev, writer);
	return error;
}

static void bus_apply(void *object, void *staged)
{
	state_apply(&bus_state, object, staged);
}

int pci_load_devices(struct vmctx *ctx, struct state_reader *reader)
{
	struct pci_bus *staged = state_alloc(reader, sizeof(*staged));
	int error;

	if (!staged)
		return -ENOMEM;
	error = state_load(reader, NULL, 0, &bus_state, ctx->pci, staged);
	if (!error)
		error = state_defer(reader, bus_apply, ctx->pci, staged);
	for (struct pci_vdev *dev = NULL; !error && (dev = pci_next_device(ctx, dev));)
		error = pci_load_device(dev, reader);
	return error;
}
