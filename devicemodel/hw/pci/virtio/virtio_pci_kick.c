/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Kicks by ioeventfd: while a driver runs, its notifications signal an eventfd instead of trapping.
 * Where the port cannot, or two devices sit on one address, kicks trap and nothing is lost.
 */
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "eventfd.h"
#include "virtio_pci.h"

/* Each signal is an edge: nobody has to read the count. */
#define KICK_EVENTS (EPOLLIN | EPOLLET)

static void on_kick(void *arg, uint32_t events)
{
	struct vqueue_info *vq = arg;

	if (vq->offloaded) {
		/* Who runs it may have looked before its back end was there: now it is. */
		event_set_events(vq->kick_source, 0);
		virtio_kick_later(vq->vc, vq);
		return;
	}
	virtio_queue_notify(vq);
}

void virtio_kick_later(struct virtio_common *vc, struct vqueue_info *vq)
{
	eventfd_signal(vq->kick_fd);
}

/*
 * The count is left as it is: whoever comes next sees that there was a kick. The source waits in
 * both directions for the look that must follow; on_kick() puts it to rest if that is not ours.
 */
void virtio_kick_handed_over(struct vqueue_info *vq)
{
	event_set_events(vq->kick_source, KICK_EVENTS);
	virtio_kick_later(vq->vc, vq);
}

int virtio_kicks_create(struct virtio_pci *vp)
{
	struct virtio_common *vc = vp->vc;

	for (unsigned int i = 0; i < vc->nvq; i++) {
		struct vqueue_info *vq = &vc->vqs[i];

		vq->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (vq->kick_fd < 0)
			return -errno;
		vq->kick_source =
			event_add_fd(vq->loop, vq->kick_fd, KICK_EVENTS, vq->lock, on_kick, vq);
		if (!vq->kick_source)
			return -errno;
	}
	return 0;
}

static int kick_register(struct virtio_pci *vp, struct vqueue_info *vq, bool add)
{
	struct vmctx *ctx = vp->dev->vmctx;
	struct hv_ioeventfd io = { .addr = vq->kick_addr, .fd = vq->kick_fd };

	if (vq->kick_pio) {
		io.flags = HV_IOEVENTFD_PIO | HV_IOEVENTFD_DATAMATCH;
		io.len = 2;
		io.data = vq->index;
	}
	return ctx->hv->ioeventfd(ctx, &io, add);
}

/* Where @vq is notified now; false if it should not be by ioeventfd. */
static bool kick_address(const struct virtio_pci *vp, const struct vqueue_info *vq, bool *pio,
			 uint64_t *addr)
{
	const struct virtio_common *vc = vp->vc;

	if (!(vc->status & VIRTIO_CONFIG_S_DRIVER_OK) || !vq->enabled || vc->kicks_elsewhere)
		return false;
	*pio = vc->legacy_driver;
	if (*pio) {
		*addr = vp->legacy_addr + VIRTIO_PCI_QUEUE_NOTIFY;
		return vp->legacy_addr;
	}
	*addr = vp->modern_addr + VIRTIO_NOTIFY_OFFSET + vq->index * VIRTIO_NOTIFY_MULTIPLIER;
	return vp->modern_addr;
}

static void kick_update(struct virtio_pci *vp, struct vqueue_info *vq)
{
	uint64_t addr = 0;
	bool pio = false;
	bool wanted = kick_address(vp, vq, &pio, &addr);

	if (vq->kick_registered && wanted && vq->kick_addr == addr && vq->kick_pio == pio)
		return;
	if (vq->kick_registered) {
		if (kick_register(vp, vq, false))
			log_debug(vp->vc->log, "%s: queue %u: ioeventfd was gone", vp->vc->name,
				  vq->index);
		vq->kick_registered = false;
	}
	if (!wanted)
		return;
	vq->kick_addr = addr;
	vq->kick_pio = pio;
	vq->kick_registered = !kick_register(vp, vq, true);
}

void virtio_kicks_update(struct virtio_pci *vp)
{
	for (unsigned int i = 0; i < vp->vc->nvq; i++)
		if (vp->vc->vqs[i].kick_fd >= 0)
			kick_update(vp, &vp->vc->vqs[i]);
}

void virtio_kicks_destroy(struct virtio_pci *vp)
{
	virtio_lock_queues(vp->vc);
	for (unsigned int i = 0; i < vp->vc->nvq; i++) {
		struct vqueue_info *vq = &vp->vc->vqs[i];

		event_remove(vq->kick_source);
		vq->kick_source = NULL;
		if (vq->kick_fd >= 0)
			close(vq->kick_fd);
		vq->kick_fd = -1;
	}
	virtio_unlock_queues(vp->vc);
}
