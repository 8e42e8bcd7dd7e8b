/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The bus: which functions sit where, their life cycle, and the kinds of device that -s can name.
 */
#include "pci_bus.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* Filled by PCI_DEVICE_TYPE() at link time. */
extern const struct pci_vdev_ops *const __start_pci_device_types[];
extern const struct pci_vdev_ops *const __stop_pci_device_types[];

#define KINDS_MAX 128

struct kind_entry {
	const struct pci_vdev_ops *ops;
	struct pci_kind kind;
};

static int compare_kinds(const void *a, const void *b)
{
	const struct kind_entry *x = a, *y = b;

	return strcmp(x->kind.name, y->kind.name);
}

static unsigned int kinds_list(struct kind_entry *entries)
{
	unsigned int count = 0;

	for (const struct pci_vdev_ops *const *type = __start_pci_device_types;
	     type < __stop_pci_device_types; type++)
		for (unsigned int i = 0; count < KINDS_MAX; i++) {
			memset(&entries[count], 0, sizeof(entries[count]));
			if (!(*type)->kind(i, &entries[count].kind))
				break;
			entries[count++].ops = *type;
		}
	qsort(entries, count, sizeof(*entries), compare_kinds);
	return count;
}

static bool kind_find(const char *name, struct kind_entry *found)
{
	struct kind_entry entries[KINDS_MAX];
	unsigned int count = kinds_list(entries);

	for (unsigned int i = 0; i < count; i++) {
		if (strcmp(entries[i].kind.name, name))
			continue;
		*found = entries[i];
		return true;
	}
	return false;
}

void pci_devices_help(void *out_file)
{
	struct kind_entry entries[KINDS_MAX];
	unsigned int count = kinds_list(entries);

	for (unsigned int i = 0; i < count; i++)
		fprintf(out_file, "%-16s %s\n", entries[i].kind.name, entries[i].kind.summary);
}

bool pci_device_help(const char *name, void *out_file)
{
	struct kind_entry entry;

	if (!kind_find(name, &entry))
		return false;
	fprintf(out_file, "%s: %s\n", entry.kind.name, entry.kind.summary);
	for (unsigned int i = 0; i < ARRAY_SIZE(entry.kind.options); i++)
		options_help(out_file, entry.kind.options[i]);
	return true;
}

int pci_bus_create(struct vmctx *ctx)
{
	struct pci_bus *pci = calloc(1, sizeof(*pci));
	int error;

	if (!pci)
		return -ENOMEM;
	pci->ctx = ctx;
	ctx->pci = pci;
	pthread_mutex_init(&pci->config_lock, NULL);
	pthread_mutex_init(&pci->intx_lock, NULL);
	arch_pci_windows(ctx, &pci->windows);
	pci->io_next = pci->windows.io_base;
	pci->mem32_next = pci->windows.mem32_base;
	pci->mem64_next = pci->windows.mem64_base;
	error = pci_access_create(pci);
	if (!error && !pci_add_device(ctx, "0,hostbridge"))
		error = -errno;
	if (!error && !pci_add_device(ctx, "0:7,isabridge"))
		error = -errno;
	return error;
}

static void device_free(struct pci_vdev *dev)
{
	pci_msix_free(dev);
	pthread_mutex_destroy(&dev->lock);
	pthread_mutex_destroy(&dev->intr_lock);
	free(dev);
}

static void device_remove(struct pci_vdev *dev)
{
	pthread_mutex_lock(&dev->pci->config_lock);
	pci_bars_remove(dev);
	pthread_mutex_unlock(&dev->pci->config_lock);
	if (dev->dev_ops->vdev_deinit)
		dev->dev_ops->vdev_deinit(dev);
	pci_lintr_deassert(dev);
	dev->pci->functions[dev->slot][dev->func] = NULL;
	device_free(dev);
}

void pci_bus_destroy(struct vmctx *ctx)
{
	struct pci_bus *pci = ctx->pci;
	struct pci_vdev *dev;

	if (!pci)
		return;
	while ((dev = pci_next_device(ctx, NULL)))
		device_remove(dev);
	pci_access_destroy(pci);
	pthread_mutex_destroy(&pci->config_lock);
	pthread_mutex_destroy(&pci->intx_lock);
	free(pci);
	ctx->pci = NULL;
}

struct pci_vdev *pci_find_device(struct vmctx *ctx, uint8_t bus, uint8_t slot, uint8_t func)
{
	if (bus || slot >= PCI_SLOTS || func >= PCI_FUNCTIONS)
		return NULL;
	return ctx->pci->functions[slot][func];
}

struct pci_vdev *pci_next_device(struct vmctx *ctx, struct pci_vdev *dev)
{
	unsigned int devfn = dev ? (unsigned int)dev->slot * 8 + dev->func + 1 : 0;

	for (; devfn < PCI_SLOTS * PCI_FUNCTIONS; devfn++)
		if (ctx->pci->functions[devfn / 8][devfn % 8])
			return ctx->pci->functions[devfn / 8][devfn % 8];
	return NULL;
}

/* ---- -s: "[bus:]slot[:func],DEVICE[,OPTIONS]" ---- */

struct place {
	bool given;
	unsigned int bus, slot, func;
};

/* "3", "3:1" or "0:3:1". */
static bool place_parse(const char *text, size_t len, struct place *place)
{
	unsigned int numbers[3];
	unsigned int count = 0;
	const char *end = text + len;

	while (text < end) {
		unsigned int value = 0;
		const char *digits = text;

		while (text < end && isdigit((unsigned char)*text) && value < 1000)
			value = value * 10 + (unsigned int)(*text++ - '0');
		if (text == digits || count == 3 || (text < end && *text++ != ':'))
			return false;
		numbers[count++] = value;
	}
	if (!count || end[-1] == ':')
		return false;
	place->given = true;
	place->bus = count == 3 ? numbers[0] : 0;
	place->slot = numbers[count == 3 ? 1 : 0];
	place->func = count > 1 ? numbers[count - 1] : 0;
	return true;
}

static bool slot_empty(const struct pci_bus *pci, unsigned int slot)
{
	for (unsigned int func = 0; func < PCI_FUNCTIONS; func++)
		if (pci->functions[slot][func])
			return false;
	return true;
}

static int place_choose(struct vmctx *ctx, const char *spec, struct place *place)
{
	for (unsigned int slot = 1; slot < PCI_SLOTS; slot++) {
		if (!slot_empty(ctx->pci, slot))
			continue;
		*place = (struct place) { .slot = slot };
		return 0;
	}
	log_error(ctx->log,
		  "-s %s: all %d slots are taken (put it behind another device: -s SLOT:1,...)",
		  spec, PCI_SLOTS - 1);
	return -ENOSPC;
}

static int place_check(struct vmctx *ctx, const char *spec, const struct place *place)
{
	const struct pci_vdev *other;

	if (place->bus || place->slot >= PCI_SLOTS || place->func >= PCI_FUNCTIONS) {
		log_error(ctx->log,
			  "-s %s: no such place (bus 0, slot 0 to %d, function 0 to %d; or leave "
			  "it out)",
			  spec, PCI_SLOTS - 1, PCI_FUNCTIONS - 1);
		return -EINVAL;
	}
	other = ctx->pci->functions[place->slot][place->func];
	if (other) {
		log_error(ctx->log,
			  "-s %s: slot %u function %u is taken by %s (choose another, or leave it "
			  "out)",
			  spec, place->slot, place->func, other->name);
		return -EEXIST;
	}
	if (place->func && !ctx->pci->functions[place->slot][0]) {
		log_error(ctx->log,
			  "-s %s: give slot %u function 0 first, else no guest looks for it", spec,
			  place->slot);
		return -EINVAL;
	}
	return 0;
}

/* Registers that every function has; the rest is vdev_init's. */
static void device_setup(struct pci_vdev *dev)
{
	uint16_t status_w1c = PCI_STATUS_PARITY | PCI_STATUS_SIG_TARGET_ABORT |
			      PCI_STATUS_REC_TARGET_ABORT | PCI_STATUS_REC_MASTER_ABORT |
			      PCI_STATUS_SIG_SYSTEM_ERROR | PCI_STATUS_DETECTED_PARITY;

	pci_set_cfgmask(dev, PCI_COMMAND, 2,
			PCI_COMMAND_MASTER | PCI_COMMAND_PARITY | PCI_COMMAND_SERR);
	bytes_put(&dev->cfgw1c[PCI_STATUS], 2, status_w1c);
	pci_set_cfgmask(dev, PCI_CACHE_LINE_SIZE, 1, 0xff);
	pci_set_cfgmask(dev, PCI_LATENCY_TIMER, 1, 0xff);
}

static struct pci_vdev *device_create(struct vmctx *ctx, const struct kind_entry *entry,
				      const struct place *place, const char *opts)
{
	struct pci_vdev *dev = calloc(1, sizeof(*dev));
	int error;

	if (!dev) {
		log_error(ctx->log, "%s: out of memory", entry->kind.name);
		return NULL;
	}
	dev->dev_ops = entry->ops;
	dev->type_arg = entry->kind.arg;
	dev->vmctx = ctx;
	dev->pci = ctx->pci;
	dev->slot = (uint8_t)place->slot;
	dev->func = (uint8_t)place->func;
	snprintf(dev->name, sizeof(dev->name), "%s@00:%02x.%x", entry->kind.name, place->slot,
		 place->func);
	pthread_mutex_init(&dev->lock, NULL);
	pthread_mutex_init(&dev->intr_lock, NULL);
	device_setup(dev);
	error = dev->dev_ops->vdev_init(ctx, dev, opts);
	if (error) {
		device_free(dev);
		errno = -error;
		return NULL;
	}
	memcpy(dev->cfgreset, dev->cfgdata, sizeof(dev->cfgreset));
	ctx->pci->functions[place->slot][place->func] = dev;
	if (dev->func)
		ctx->pci->functions[place->slot][0]->cfgdata[PCI_HEADER_TYPE] |= 0x80;
	return dev;
}

struct pci_vdev *pci_add_device(struct vmctx *ctx, const char *spec)
{
	const char *device = spec;
	const char *comma = strchr(spec, ',');
	struct place place = { 0 };
	struct kind_entry entry;
	char name[64];
	size_t len;
	int error;

	if (comma && place_parse(spec, (size_t)(comma - spec), &place))
		device = comma + 1;
	comma = strchr(device, ',');
	len = comma ? (size_t)(comma - device) : strlen(device);
	snprintf(name, sizeof(name), "%.*s", (int)MIN(len, sizeof(name) - 1), device);
	if (!kind_find(name, &entry)) {
		log_error(ctx->log, "-s %s: no device is called %s (tenon devices lists them)",
			  spec, name);
		errno = ENODEV;
		return NULL;
	}
	error = place.given ? 0 : place_choose(ctx, spec, &place);
	if (!error)
		error = place_check(ctx, spec, &place);
	if (error) {
		errno = -error;
		return NULL;
	}
	return device_create(ctx, &entry, &place, comma ? comma + 1 : NULL);
}

/* ---- life cycle ---- */

static void device_reset(struct pci_vdev *dev)
{
	uint8_t multifunction = dev->cfgdata[PCI_HEADER_TYPE];

	pthread_mutex_lock(&dev->pci->config_lock);
	pthread_mutex_lock(&dev->lock);
	if (dev->dev_ops->vdev_reset)
		dev->dev_ops->vdev_reset(dev);
	pci_intr_reset(dev);
	pthread_mutex_lock(&dev->intr_lock);
	memcpy(dev->cfgdata, dev->cfgreset, sizeof(dev->cfgdata));
	dev->cfgdata[PCI_HEADER_TYPE] = multifunction;
	pthread_mutex_unlock(&dev->intr_lock);
	pthread_mutex_unlock(&dev->lock);
	pci_bars_update(dev);
	pthread_mutex_unlock(&dev->pci->config_lock);
}

void pci_reset_devices(struct vmctx *ctx)
{
	for (struct pci_vdev *dev = NULL; (dev = pci_next_device(ctx, dev));)
		device_reset(dev);
	ctx->pci->address = 0;
}

void pci_quiesce_devices(struct vmctx *ctx)
{
	for (struct pci_vdev *dev = NULL; (dev = pci_next_device(ctx, dev));) {
		pthread_mutex_lock(&dev->lock);
		if (dev->dev_ops->vdev_quiesce)
			dev->dev_ops->vdev_quiesce(dev);
		pthread_mutex_unlock(&dev->lock);
	}
}

void pci_resume_devices(struct vmctx *ctx)
{
	for (struct pci_vdev *dev = NULL; (dev = pci_next_device(ctx, dev));) {
		pthread_mutex_lock(&dev->lock);
		if (dev->dev_ops->vdev_resume)
			dev->dev_ops->vdev_resume(dev);
		pthread_mutex_unlock(&dev->lock);
	}
}
