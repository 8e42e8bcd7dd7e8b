/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A virtio device as a PCI function: identity, BARs, interrupts, life cycle. The two register
 * interfaces are in virtio_pci_legacy.c and virtio_pci_modern.c.
 */
#include "virtio_pci.h"

#include <errno.h>
#include <stdlib.h>

#define VIRTIO_VENDOR 0x1af4
#define VIRTIO_MODERN_ID 0x1040

/* Device types that have a legacy interface, with their ids (virtio 1.4, 4.1.2.1). */
static const struct {
	uint16_t virtio_id, pci_id;
} transitional_ids[] = {
	{ VIRTIO_ID_NET, 0x1000 },     { VIRTIO_ID_BLOCK, 0x1001 }, { VIRTIO_ID_BALLOON, 0x1002 },
	{ VIRTIO_ID_CONSOLE, 0x1003 }, { VIRTIO_ID_SCSI, 0x1004 },  { VIRTIO_ID_RNG, 0x1005 },
	{ VIRTIO_ID_9P, 0x1009 },
};

/* PCI class codes of the device types that have one; the others are "other system peripheral". */
static const struct {
	uint16_t virtio_id, pci_class;
} class_codes[] = {
	{ VIRTIO_ID_NET, 0x0200 },   { VIRTIO_ID_BLOCK, 0x0100 }, { VIRTIO_ID_CONSOLE, 0x0780 },
	{ VIRTIO_ID_SCSI, 0x0100 },  { VIRTIO_ID_RNG, 0x00ff },	  { VIRTIO_ID_GPU, 0x0380 },
	{ VIRTIO_ID_INPUT, 0x0900 }, { VIRTIO_ID_SOUND, 0x0401 },
};

#define CLASS_OTHER 0x0880

#define ISR_QUEUE 0x1 /* virtio 1.4, 4.1.4.5; the other bit is VIRTIO_PCI_ISR_CONFIG */

static uint16_t transitional_id(uint16_t virtio_id)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(transitional_ids); i++)
		if (transitional_ids[i].virtio_id == virtio_id)
			return transitional_ids[i].pci_id;
	return 0;
}

static uint16_t class_code(uint16_t virtio_id)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(class_codes); i++)
		if (class_codes[i].virtio_id == virtio_id)
			return class_codes[i].pci_class;
	return CLASS_OTHER;
}

/* ---- status ---- */

static void virtio_pci_reset_state(struct virtio_pci *vp)
{
	virtio_reset_dev(vp->vc);
	vp->device_feature_select = vp->driver_feature_select = 0;
	vp->queue_select = 0;
	vp->config_vector = VIRTIO_NO_VECTOR;
	pci_lintr_deassert(vp->dev);
}

void virtio_status_write(struct virtio_pci *vp, uint8_t status)
{
	if (status)
		virtio_set_status(vp->vc, status);
	else
		virtio_pci_reset_state(vp);
}

/* ---- interrupts ---- */

int virtio_interrupt_init(struct virtio_pci *vp)
{
	int error = 0;

	if (vp->vc->opt_msix)
		error = pci_emul_add_msixcap(vp->dev, vp->vc->nvq + 1U, VIRTIO_MSIX_BAR);
	if (!error)
		error = pci_emul_add_msicap(vp->dev, 1);
	if (!error)
		error = pci_lintr_request(vp->dev);
	return error;
}

/* With MSI-X by its vector, else through the ISR and MSI or the line (virtio 1.4, 4.1.5.3, 4.1.5.4). */
static void virtio_pci_interrupt(struct virtio_pci *vp, uint16_t vector, uint8_t isr)
{
	if (pci_interrupt(vp->dev, vector, &vp->vc->isr, isr))
		log_guest(vp->vc->log, "%s: its MSI, or MSI-X vector %u, leads nowhere",
			  vp->dev->name, vector);
}

static void virtio_pci_notify_queue(struct virtio_common *vc, struct vqueue_info *vq)
{
	virtio_pci_interrupt(vc->transport_arg, vq->msix_vector, ISR_QUEUE);
}

static void virtio_pci_notify_config(struct virtio_common *vc)
{
	struct virtio_pci *vp = vc->transport_arg;

	/* Also with MSI-X (virtio 1.4, 4.1.4.5.1). */
	pci_isr_set(vp->dev, &vc->isr, VIRTIO_PCI_ISR_CONFIG);
	virtio_pci_interrupt(vp, vp->config_vector, VIRTIO_PCI_ISR_CONFIG);
}

static void virtio_pci_status_changed(struct virtio_common *vc)
{
	virtio_kicks_update(vc->transport_arg);
}

/* A vector that is masked has its message all the same. */
static int virtio_pci_route(struct virtio_common *vc, struct vqueue_info *vq,
			    struct virtio_route *route)
{
	const struct virtio_pci *vp = vc->transport_arg;
	const struct pci_vdev *dev = vp->dev;

	if (!vp->legacy_addr)
		return -EOPNOTSUPP;
	*route = (struct virtio_route) {
		.vm_id = dev->vmctx->vm_id,
		.port = vp->legacy_addr,
		.port_count = dev->bar[VIRTIO_LEGACY_BAR].size,
		.vector = VIRTIO_NO_VECTOR,
	};
	if (!vq || !pci_msix_enabled(dev) || vq->msix_vector >= dev->msix.count)
		return 0;
	route->vector = vq->msix_vector;
	route->message_addr = dev->msix.table[vq->msix_vector].addr;
	route->message_data = dev->msix.table[vq->msix_vector].data;
	return 0;
}

static const struct virtio_transport_ops virtio_pci_transport = {
	.notify_queue = virtio_pci_notify_queue,
	.notify_config = virtio_pci_notify_config,
	.kick_later = virtio_kick_later,
	.status_changed = virtio_pci_status_changed,
	.route = virtio_pci_route,
	.offload = virtio_pci_offload,
};

/* ---- the function ---- */

uint64_t virtio_pci_read(struct pci_vdev *dev, int baridx, uint64_t offset, unsigned int size)
{
	switch (baridx) {
	case VIRTIO_LEGACY_BAR:
		return virtio_legacy_read(dev->arg, offset, size);
	case VIRTIO_MSIX_BAR:
		return pci_emul_msix_tread(dev, offset, size);
	case VIRTIO_MODERN_BAR:
		return virtio_modern_read(dev->arg, offset, size);
	}
	return UINT64_MAX;
}

void virtio_pci_write(struct pci_vdev *dev, int baridx, uint64_t offset, unsigned int size,
		      uint64_t value)
{
	switch (baridx) {
	case VIRTIO_LEGACY_BAR:
		virtio_legacy_write(dev->arg, offset, size, value);
		break;
	case VIRTIO_MSIX_BAR:
		pci_emul_msix_twrite(dev, offset, size, value);
		break;
	case VIRTIO_MODERN_BAR:
		virtio_modern_write(dev->arg, offset, size, value);
		break;
	}
}

static void virtio_pci_bar_moved(struct pci_vdev *dev, int baridx, bool enabled, uint64_t addr)
{
	struct virtio_pci *vp = dev->arg;

	if (baridx == VIRTIO_LEGACY_BAR)
		vp->legacy_addr = enabled ? addr : 0;
	else if (baridx == VIRTIO_MODERN_BAR)
		vp->modern_addr = enabled ? addr : 0;
	else
		return;
	virtio_kicks_update(vp);
}

static bool bus_master(const struct virtio_pci *vp)
{
	return pci_get_cfgdata16(vp->dev, PCI_COMMAND) & PCI_COMMAND_MASTER;
}

/* That the bit is cleared counts, not that it is clear: old drivers never set it. */
void virtio_pci_command_changed(struct virtio_pci *vp)
{
	if (vp->bus_master == bus_master(vp))
		return;
	vp->bus_master = !vp->bus_master;
	virtio_set_bus(vp->vc, vp->bus_master);
}

static void virtio_pci_reset(struct pci_vdev *dev)
{
	struct virtio_pci *vp = dev->arg;

	virtio_pci_reset_state(vp);
	vp->bus_master = false;
}

static void virtio_pci_applied(struct pci_vdev *dev)
{
	struct virtio_pci *vp = dev->arg;

	vp->bus_master = bus_master(vp);
}

static void virtio_pci_quiesce(struct pci_vdev *dev)
{
	struct virtio_pci *vp = dev->arg;

	virtio_quiesce(vp->vc);
}

static void virtio_pci_resume(struct pci_vdev *dev)
{
	struct virtio_pci *vp = dev->arg;

	virtio_resume(vp->vc);
}

static int virtio_pci_offloaded(struct pci_vdev *dev)
{
	const struct virtio_pci *vp = dev->arg;

	if (!vp->vc->ops->offload)
		return -1;
	for (unsigned int i = 0; i < vp->vc->nvq; i++)
		if (vp->vc->vqs[i].offloaded)
			return 1;
	return 0;
}

static int virtio_pci_vdev_offload(struct pci_vdev *dev, bool on)
{
	struct virtio_pci *vp = dev->arg;
	struct virtio_common *vc = vp->vc;
	int error;

	if (!vc->ops->offload) {
		log_error(vc->log, "%s: the kernel has no vhost for this kind of device",
			  dev->name);
		return -ENOTSUP;
	}
	virtio_lock_queues(vc);
	error = vc->ops->offload(vc, on);
	virtio_unlock_queues(vc);
	return error;
}

/* virtio 1.4, 4.1.2 */
static void virtio_pci_set_identity(struct virtio_pci *vp)
{
	const struct virtio_common *vc = vp->vc;
	uint16_t virtio_id = vc->ops->device_id;
	uint16_t pci_id = vc->opt_legacy ? transitional_id(virtio_id) : 0;
	struct pci_vdev *dev = vp->dev;

	pci_set_cfgdata16(dev, PCI_VENDOR_ID, VIRTIO_VENDOR);
	pci_set_cfgdata16(dev, PCI_DEVICE_ID, pci_id ? pci_id : VIRTIO_MODERN_ID + virtio_id);
	pci_set_cfgdata8(dev, PCI_REVISION_ID, pci_id ? 0 : 1);
	pci_set_cfgdata16(dev, PCI_CLASS_DEVICE, class_code(virtio_id));
	pci_set_cfgdata16(dev, PCI_SUBSYSTEM_VENDOR_ID, VIRTIO_VENDOR);
	pci_set_cfgdata16(dev, PCI_SUBSYSTEM_ID, pci_id ? virtio_id : VIRTIO_MODERN_ID + virtio_id);
}

static int virtio_pci_build(struct virtio_pci *vp)
{
	struct virtio_common *vc = vp->vc;
	int error = 0;

	vc->opt_legacy = vc->opt_legacy && transitional_id(vc->ops->device_id);
	virtio_pci_set_identity(vp);
	if (vc->opt_legacy)
		error = virtio_set_io_bar(vp, VIRTIO_LEGACY_BAR);
	if (!error)
		error = virtio_interrupt_init(vp);
	if (!error && vc->opt_modern)
		error = virtio_set_modern_bar(vp, VIRTIO_MODERN_BAR);
	if (!error)
		error = virtio_kicks_create(vp);
	if (error)
		log_error(vc->log, "%s: cannot make a PCI function of it: %s", vc->name,
			  strerror(-error));
	return error;
}

static int virtio_pci_check(struct vmctx *ctx, struct pci_vdev *dev, const struct virtio_common *vc)
{
	if (vc->opt_modern || transitional_id(vc->ops->device_id))
		return 0;
	log_error(ctx->log, "%s: this device type has no legacy interface (drop modern=off)",
		  dev->name);
	return -EINVAL;
}

static int virtio_pci_init(struct vmctx *ctx, struct pci_vdev *dev, const char *opts)
{
	const struct virtio_ops *ops = dev->type_arg;
	struct virtio_common *vc = calloc(1, ops->priv_size);
	struct virtio_pci *vp = calloc(1, sizeof(*vp));
	int error = -ENOMEM;

	if (!vc || !vp)
		goto fail;
	*vp = (struct virtio_pci) { .dev = dev, .vc = vc, .config_vector = VIRTIO_NO_VECTOR };
	dev->arg = vp;
	vc->name = dev->name;
	vc->vm_name = ctx->config.name;
	vc->log = ctx->log;
	vc->memory = &ctx->memory;
	vc->loop = ctx->io_loop;
	vc->lock = &dev->lock;
	vc->iothreads = ctx->iothreads;
	vc->transport = &virtio_pci_transport;
	vc->transport_arg = vp;
	error = virtio_linkup(vc, ops, opts);
	if (error)
		goto fail;
	error = virtio_pci_check(ctx, dev, vc);
	if (!error)
		error = virtio_pci_build(vp);
	if (!error)
		return 0;
	pthread_mutex_lock(&dev->lock);
	virtio_kicks_destroy(vp);
	virtio_unlink(vc);
	pthread_mutex_unlock(&dev->lock);
fail:
	if (error == -ENOMEM)
		log_error(ctx->log, "%s: out of memory", dev->name);
	free(vp);
	free(vc);
	return error;
}

static void virtio_pci_deinit(struct pci_vdev *dev)
{
	struct virtio_pci *vp = dev->arg;

	pthread_mutex_lock(&dev->lock);
	virtio_pci_reset_state(vp);
	virtio_kicks_destroy(vp);
	virtio_unlink(vp->vc);
	pthread_mutex_unlock(&dev->lock);
	free(vp->vc);
	free(vp);
}

static bool virtio_pci_kind(unsigned int index, struct pci_kind *kind)
{
	const struct virtio_ops *ops = virtio_device_get(index);

	if (!ops)
		return false;
	kind->name = ops->name;
	kind->summary = ops->summary;
	kind->arg = ops;
	kind->options[0] = ops->options;
	kind->options[1] = virtio_common_options;
	return true;
}

static const struct pci_vdev_ops virtio_pci_ops = {
	.kind = virtio_pci_kind,
	.vdev_init = virtio_pci_init,
	.vdev_deinit = virtio_pci_deinit,
	.vdev_reset = virtio_pci_reset,
	.vdev_quiesce = virtio_pci_quiesce,
	.vdev_resume = virtio_pci_resume,
	.vdev_offload = virtio_pci_vdev_offload,
	.vdev_offloaded = virtio_pci_offloaded,
	.vdev_barread = virtio_pci_read,
	.vdev_barwrite = virtio_pci_write,
	.vdev_bar_moved = virtio_pci_bar_moved,
	.vdev_cfgread = virtio_pci_cfg_read,
	.vdev_cfgwritten = virtio_pci_cfg_written,
	.vdev_save = virtio_pci_save,
	.vdev_load = virtio_pci_load,
	.vdev_apply = virtio_pci_apply,
	.vdev_applied = virtio_pci_applied,
};
PCI_DEVICE_TYPE(virtio_pci_ops);
