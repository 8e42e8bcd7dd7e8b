/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Saved states of the virtio-pci transport.
 */
#include "virtio_pci.h"

#include <errno.h>

#define TRANSPORT(member) STATE_FIELD(struct virtio_pci, member)

/* All of them are as the driver wrote them, and checked where they are used. */
static const struct state_field transport_fields[] = {
	{ TRANSPORT(device_feature_select) },
	{ TRANSPORT(driver_feature_select) },
	{ TRANSPORT(queue_select) },
	{ TRANSPORT(config_vector) },
	{},
};

static const struct state_desc transport_state = {
	.name = "virtio-pci",
	.version = 1,
	.fields = transport_fields,
};

struct staged_device {
	struct virtio_pci vp;
	struct virtio_common *vc;
};

int virtio_pci_save(struct pci_vdev *dev, struct state_writer *writer, const char *place)
{
	struct virtio_pci *vp = dev->arg;
	int error = virtio_state_save(vp->vc, writer, place);

	return error ? error : state_save(writer, place, 0, &transport_state, vp);
}

int virtio_pci_load(struct pci_vdev *dev, struct state_reader *reader, const char *place,
		    void **result)
{
	struct virtio_pci *vp = dev->arg;
	struct staged_device *staged = state_alloc(reader, sizeof(*staged));
	int error;

	if (!staged)
		return -ENOMEM;
	staged->vp = *vp;
	*result = staged;
	error = virtio_state_load(vp->vc, reader, place, &staged->vc);
	return error ? error : state_load(reader, place, 0, &transport_state, vp, &staged->vp);
}

void virtio_pci_apply(struct pci_vdev *dev, void *arg)
{
	const struct staged_device *staged = arg;
	struct virtio_pci *vp = dev->arg;

	virtio_status_write(vp, 0);
	state_apply(&transport_state, vp, &staged->vp);
	virtio_state_apply(vp->vc, staged->vc);
}
