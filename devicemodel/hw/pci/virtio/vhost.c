/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The kernel's vhost as the data plane of a virtio device: which features it can carry, what it is
 * told when it starts, and what it is asked when it stops (Linux, drivers/vhost/vhost.c).
 */
#include "vhost.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "eventfd.h"
#include "virtio_transport.h"

/*
 * Feature bits of the ring, besides the device's own, that whoever runs the ring must know:
 *
 * - NOTIFY_ON_EMPTY, INDIRECT_DESC, EVENT_IDX, VERSION_1: the kernel does them.
 * - RING_PACKED: it has split rings only, and does not offer the bit.
 * - IN_ORDER: recent kernels offer it; others use buffers in any order.
 *
 * Not among them, and never set in the kernel for a driver's sake:
 *
 * - ANY_LAYOUT (27) is VHOST_NET_F_VIRTIO_NET_HDR there, which takes the frames' headers for its
 *   own: set by mistake, no frame arrives. Every layout is fine with it without being told.
 * - ACCESS_PLATFORM: told of it, the kernel would ask for each address; where bus addresses are
 *   physical ones, it need not know. Where they are not, it cannot have the rings.
 * - ORDER_PLATFORM makes the driver's barriers stronger than it needs.
 * - NOTIFICATION_DATA, RING_RESET, SUSPEND are ours: a kick is a kick whatever was written, and for
 *   the other two the rings are taken back first.
 */
#define RING_FEATURES                                                                              \
	(BIT64(VIRTIO_F_NOTIFY_ON_EMPTY) | BIT64(VIRTIO_RING_F_INDIRECT_DESC) |                    \
	 BIT64(VIRTIO_RING_F_EVENT_IDX) | BIT64(VIRTIO_F_VERSION_1) |                              \
	 BIT64(VIRTIO_F_RING_PACKED) | BIT64(VIRTIO_F_IN_ORDER))

#define BASE_UNKNOWN (-1)

/* ---- The descriptor ---- */

/* /dev/vhost-net is vhost_net's, and so on. */
static void open_failed(struct virtio_common *vc, const char *path, bool optional, int error)
{
	const char *slash = strrchr(path, '/');
	char module[32], remedy[64];

	snprintf(module, sizeof(module), "%s", slash ? slash + 1 : path);
	for (char *dash = strchr(module, '-'); dash; dash = strchr(dash, '-'))
		*dash = '_';
	if (error == EACCES || error == EPERM)
		snprintf(remedy, sizeof(remedy), "give this user access to it");
	else
		snprintf(remedy, sizeof(remedy), "modprobe %s", module);
	if (optional)
		log_info(vc->log, "%s: without vhost: %s: %s (%s)", vc->name, path, strerror(error),
			 remedy);
	else
		log_error(vc->log, "%s: cannot open %s: %s (%s)", vc->name, path, strerror(error),
			  remedy);
}

int vhost_open(struct virtio_common *vc, const char *path, bool optional)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	int error = errno;

	if (fd >= 0)
		return fd;
	open_failed(vc, path, optional, error);
	return -error;
}

static int vhost_ioctl(const struct vhost_dev *vdev, unsigned long request, const void *arg)
{
	int result = ioctl(vdev->fd, request, arg);

	return result < 0 ? -errno : result;
}

/* A driver that starts and stops at will brings them about as often as it likes. */
int vhost_kernel_ioctl(struct vhost_dev *vdev, unsigned long request, const void *arg,
		       const char *name)
{
	int result = vhost_ioctl(vdev, request, arg);

	if (result < 0)
		log_guest(vdev->base->log, "%s: %s: %s", vdev->base->name, name, strerror(-result));
	return result;
}

#define VHOST_IOCTL(vdev, request, arg) vhost_kernel_ioctl(vdev, request, arg, #request)

static struct vqueue_info *virtio_queue(const struct vhost_vq *vvq)
{
	return &vvq->dev->base->vqs[vvq->dev->vq_idx + vvq->idx];
}

/* ---- Making one ---- */

/* The kernel does not say what is wrong: the driver's ring or buffers, or what is behind them. */
static void on_error(void *arg, uint32_t events)
{
	struct vhost_vq *vvq = arg;

	if (!eventfd_take(vvq->err_fd) || !vvq->dev->started)
		return;
	virtio_lock_queues(vvq->dev->base);
	virtio_device_error(vvq->dev->base, virtio_queue(vvq),
			    "the kernel's vhost met a bad ring, a bad buffer, or a back end that "
			    "is gone");
	virtio_unlock_queues(vvq->dev->base);
}

static int vhost_vq_init(struct vhost_dev *vdev, unsigned int idx)
{
	struct vhost_vq *vvq = &vdev->vqs[idx];
	struct virtio_common *vc = vdev->base;

	vvq->idx = (uint16_t)idx;
	vvq->dev = vdev;
	vvq->err_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vvq->err_fd < 0)
		return -errno;
	vvq->err_source = virtio_add_event(vc, vvq->err_fd, EPOLLIN, on_error, vvq);
	return vvq->err_source ? 0 : -errno;
}

static void vhost_vq_deinit(struct vhost_vq *vvq)
{
	event_remove(vvq->err_source);
	vvq->err_source = NULL;
	if (vvq->err_fd >= 0)
		close(vvq->err_fd);
	vvq->err_fd = -1;
}

int vhost_dev_init(struct vhost_dev *vdev, struct virtio_common *base, int fd, unsigned int vq_idx,
		   uint64_t features, uint64_t ext_features, uint32_t busyloop)
{
	int error;

	vdev->base = base;
	vdev->fd = fd;
	vdev->vq_idx = vq_idx;
	vdev->vhost_features = features;
	vdev->vhost_ext_features = ext_features;
	vdev->busyloop_timeout = busyloop;
	vdev->owned = vdev->no_busyloop = vdev->started = false;
	for (unsigned int i = 0; i < vdev->nvqs; i++)
		vdev->vqs[i] = (struct vhost_vq) { .kick_fd = -1, .call_fd = -1, .err_fd = -1 };
	error = vq_idx + vdev->nvqs > base->nvq ? -EINVAL : 0;
	if (!error)
		error = vhost_ioctl(vdev, VHOST_GET_FEATURES, &vdev->kernel_features);
	for (unsigned int i = 0; i < vdev->nvqs && !error; i++)
		error = vhost_vq_init(vdev, i);
	if (!error)
		return 0;
	log_error(base->log, "%s: cannot set up vhost: %s (try without vhost)", base->name,
		  strerror(-error));
	vhost_dev_deinit(vdev);
	return error;
}

void vhost_dev_deinit(struct vhost_dev *vdev)
{
	vhost_dev_stop(vdev);
	for (unsigned int i = 0; i < vdev->nvqs; i++)
		vhost_vq_deinit(&vdev->vqs[i]);
}

/* ---- Features ---- */

static uint64_t features_lacking(const struct vhost_dev *vdev)
{
	return (vdev->vhost_features | RING_FEATURES) & ~vdev->kernel_features;
}

static uint64_t features_to_set(const struct vhost_dev *vdev)
{
	uint64_t accepted = vdev->base->negotiated_caps.bits[0];
	uint64_t wanted =
		(accepted & (vdev->vhost_features | RING_FEATURES)) | vdev->vhost_ext_features;

	return wanted & vdev->kernel_features;
}

/* Options that offer what is not among the usual. */
static const struct asked_feature {
	unsigned int bit;
	size_t option;
	const char *name;
} asked_features[] = {
	{ VIRTIO_F_RING_PACKED, offsetof(struct virtio_common, opt_packed), "packed" },
	{ VIRTIO_F_IN_ORDER, offsetof(struct virtio_common, opt_in_order), "in_order" },
	{ VIRTIO_F_ACCESS_PLATFORM, offsetof(struct virtio_common, opt_access_platform),
	  "access_platform" },
};

static bool option_is_on(const struct virtio_common *vc, const struct asked_feature *asked)
{
	return *(const bool *)((const char *)vc + asked->option);
}

void vhost_dev_limit(struct vhost_dev *vdev)
{
	struct virtio_common *vc = vdev->base;
	uint64_t lost = features_lacking(vdev);

	if (vc->translate)
		lost |= BIT64(VIRTIO_F_ACCESS_PLATFORM);
	lost &= vc->device_caps.bits[0];
	vc->device_caps.bits[0] &= ~lost;
	for (unsigned int i = 0; i < ARRAY_SIZE(asked_features); i++) {
		const struct asked_feature *asked = &asked_features[i];

		if (lost & BIT64(asked->bit) && option_is_on(vc, asked))
			log_warning(vc->log,
				    "%s: %s=on: the kernel's vhost cannot do that: not offered "
				    "(choose one of the two)",
				    vc->name, asked->name);
	}
}

const char *vhost_dev_can_start(const struct vhost_dev *vdev)
{
	const struct virtio_common *vc = vdev->base;

	if (!vc->transport->offload)
		return "this transport's queues cannot be handed over";
	/* A legacy driver may use its queues before DRIVER_OK (virtio 1.4, 3.1.2). */
	if (!vc->running)
		return "no driver runs";
	if (vc->writes_logged)
		return "what is written to memory is logged for now";
	if (virtio_has_feature(vc, VIRTIO_F_RING_PACKED))
		return "the driver uses packed rings";
	if (virtio_has_feature(vc, VIRTIO_F_ACCESS_PLATFORM) && vc->translate)
		return "the driver's addresses have to be translated";
	if (vc->negotiated_caps.bits[0] & features_lacking(vdev))
		return "the driver uses features that the kernel lacks";
	return NULL;
}

/* ---- Start ---- */

static int set_owner(struct vhost_dev *vdev)
{
	int error;

	/* Once: giving up ownership is more than the stop of a queue, and not all kinds have it. */
	if (vdev->owned)
		return 0;
	error = VHOST_IOCTL(vdev, VHOST_SET_OWNER, NULL);
	vdev->owned = !error;
	return error;
}

static int set_features(struct vhost_dev *vdev)
{
	uint64_t features = features_to_set(vdev);

	return VHOST_IOCTL(vdev, VHOST_SET_FEATURES, &features);
}

/* As many regions as the front end of vhost-user may share, so the table is made for its count. */
static int set_mem_table(struct vhost_dev *vdev)
{
	const struct guest_memory *memory = vdev->base->memory;
	struct vhost_memory *table;
	int error;

	table = calloc(1, sizeof(*table) + memory->count * sizeof(table->regions[0]));
	if (!table)
		return -ENOMEM;
	table->nregions = memory->count;
	for (unsigned int i = 0; i < memory->count; i++)
		table->regions[i] = (struct vhost_memory_region) {
			.guest_phys_addr = memory->regions[i].gpa,
			.memory_size = memory->regions[i].size,
			.userspace_addr = (uintptr_t)memory->regions[i].host,
		};
	error = VHOST_IOCTL(vdev, VHOST_SET_MEM_TABLE, table);
	free(table);
	return error;
}

static int set_busyloop(struct vhost_dev *vdev)
{
	for (unsigned int i = 0; i < vdev->nvqs; i++) {
		struct vhost_vring_state state = { i, vdev->busyloop_timeout };
		int error;

		if (!vdev->busyloop_timeout || vdev->no_busyloop)
			return 0;
		error = vhost_ioctl(vdev, VHOST_SET_VRING_BUSYLOOP_TIMEOUT, &state);
		if (!error)
			continue;
		log_warning(vdev->base->log,
			    "%s: VHOST_SET_VRING_BUSYLOOP_TIMEOUT: %s (without it)",
			    vdev->base->name, strerror(-error));
		vdev->no_busyloop = true;
	}
	return 0;
}

static int set_vring(struct vhost_vq *vvq, const struct vqueue_info *vq)
{
	struct vhost_vring_state size = { vvq->idx, vq->size };
	struct vhost_vring_state base = { vvq->idx, vq->last_avail };
	struct vhost_vring_addr addr = {
		.index = vvq->idx,
		.desc_user_addr = (uintptr_t)vq->desc,
		.avail_user_addr = (uintptr_t)vq->driver_area,
		.used_user_addr = (uintptr_t)vq->device_area,
		.log_guest_addr = vq->device_addr,
	};
	int error = VHOST_IOCTL(vvq->dev, VHOST_SET_VRING_NUM, &size);

	if (!error)
		error = VHOST_IOCTL(vvq->dev, VHOST_SET_VRING_BASE, &base);
	if (!error)
		error = VHOST_IOCTL(vvq->dev, VHOST_SET_VRING_ADDR, &addr);
	return error;
}

static int set_vring_files(struct vhost_vq *vvq, int err_fd, int call_fd, int kick_fd)
{
	struct vhost_vring_file err = { vvq->idx, err_fd };
	struct vhost_vring_file call = { vvq->idx, call_fd };
	struct vhost_vring_file kick = { vvq->idx, kick_fd };
	int error = VHOST_IOCTL(vvq->dev, VHOST_SET_VRING_ERR, &err);

	if (!error)
		error = VHOST_IOCTL(vvq->dev, VHOST_SET_VRING_CALL, &call);
	if (!error)
		error = VHOST_IOCTL(vvq->dev, VHOST_SET_VRING_KICK, &kick);
	vvq->call_fd = call_fd;
	vvq->kick_fd = kick_fd;
	return error;
}

static int vhost_vq_start(struct vhost_vq *vvq)
{
	struct vqueue_info *vq = virtio_queue(vvq);
	int error;

	if (!vq->enabled)
		return 0;
	error = virtio_queue_offload(vvq->dev->base, vq);
	if (error) {
		log_guest(vvq->dev->base->log, "%s: queue %u cannot be handed to vhost: %s",
			  vvq->dev->base->name, vq->index, strerror(-error));
		return error;
	}
	error = set_vring(vvq, vq);
	return error ? error : set_vring_files(vvq, vvq->err_fd, vq->call_fd, vq->kick_fd);
}

/* The HLD's order: what holds for the whole device, then queue by queue. */
static int start_device(struct vhost_dev *vdev)
{
	int error = set_owner(vdev);

	if (!error)
		error = set_features(vdev);
	if (!error)
		error = set_mem_table(vdev);
	return error ? error : set_busyloop(vdev);
}

/* ---- Stop ---- */

/*
 * Take its eventfds away, which waits for what they have begun, and ask how far it came. Then it is
 * nowhere: some kinds write to each ring that they know of when they start, whoever's memory that is
 * by then.
 */
static int vhost_vq_unset(struct vhost_vq *vvq)
{
	struct vhost_vring_addr nowhere = { .index = vvq->idx };
	struct vhost_vring_file none = { vvq->idx, VHOST_FILE_UNBIND };
	struct vhost_vring_state state = { .index = vvq->idx };
	int kick = VHOST_IOCTL(vvq->dev, VHOST_SET_VRING_KICK, &none);
	int call = VHOST_IOCTL(vvq->dev, VHOST_SET_VRING_CALL, &none);
	int err = VHOST_IOCTL(vvq->dev, VHOST_SET_VRING_ERR, &none);
	int base = VHOST_IOCTL(vvq->dev, VHOST_GET_VRING_BASE, &state);
	int addr = VHOST_IOCTL(vvq->dev, VHOST_SET_VRING_ADDR, &nowhere);

	vvq->base = base ? BASE_UNKNOWN : (uint16_t)state.num;
	return kick ? kick : call ? call : err ? err : base ? base : addr;
}

/* A ring with a back end does not let its base be set. */
static bool vhost_vq_runs(const struct vhost_vq *vvq)
{
	struct vhost_vring_state state = { vvq->idx, (uint16_t)vvq->base };

	return vhost_ioctl(vvq->dev, VHOST_SET_VRING_BASE, &state) == -EBUSY;
}

/* Whoever forgot to take its back end away must not have guest memory written behind our back. */
static int vhost_force_stop(struct vhost_dev *vdev, struct vhost_vq *vvq)
{
	log_error(vdev->base->log,
		  "%s: the kernel still runs queue %u, ownership is taken from it (a fault of the "
		  "device, please report it)",
		  vdev->base->name, virtio_queue(vvq)->index);
	vvq->base = BASE_UNKNOWN;
	vdev->owned = false;
	return VHOST_IOCTL(vdev, VHOST_RESET_OWNER, NULL);
}

static int vhost_vq_stop(struct vhost_vq *vvq)
{
	struct vhost_dev *vdev = vvq->dev;
	int error;

	vvq->kick_fd = vvq->call_fd = -1;
	vvq->base = BASE_UNKNOWN;
	if (!vdev->owned) /* nothing of it is left in the kernel */
		return 0;
	error = vhost_vq_unset(vvq);
	eventfd_take(vvq->err_fd); /* of this driver's; the next one must not pay for it */
	return vhost_vq_runs(vvq) ? vhost_force_stop(vdev, vvq) : error;
}

static int vhost_vqs_stop(struct vhost_dev *vdev)
{
	int first = 0;

	for (unsigned int i = 0; i < vdev->nvqs; i++) {
		struct vhost_vq *vvq = &vdev->vqs[i];
		int error;

		if (!virtio_queue(vvq)->offloaded)
			continue;
		error = vhost_vq_stop(vvq);
		first = first ? first : error;
	}
	return first;
}

/* All that it took it gave back, so where nobody says how far it came the used index does. */
static uint16_t vhost_vq_base(const struct vhost_vq *vvq)
{
	const struct vring_used *used = virtio_queue(vvq)->device_area;

	if (vvq->base != BASE_UNKNOWN)
		return (uint16_t)vvq->base;
	return __atomic_load_n(&used->idx, __ATOMIC_ACQUIRE);
}

static void vhost_vqs_take_back(struct vhost_dev *vdev)
{
	for (unsigned int i = 0; i < vdev->nvqs; i++) {
		struct vhost_vq *vvq = &vdev->vqs[i];
		struct vqueue_info *vq = virtio_queue(vvq);

		if (vq->offloaded)
			virtio_queue_take_back(vdev->base, vq, vhost_vq_base(vvq));
	}
}

/* Stopped from the first line on: taking a broken ring back may lead here again. */
int vhost_dev_stop(struct vhost_dev *vdev)
{
	int error;

	if (!vdev->started)
		return 0;
	vdev->started = false;
	error = vhost_vqs_stop(vdev);
	vhost_vqs_take_back(vdev);
	return error;
}

/* ---- Start, as a whole ---- */

/* Nothing was behind the rings yet: they are where they were. */
static void vhost_dev_unwind(struct vhost_dev *vdev)
{
	vhost_vqs_stop(vdev);
	for (unsigned int i = 0; i < vdev->nvqs; i++)
		vdev->vqs[i].base = virtio_queue(&vdev->vqs[i])->last_avail;
	vhost_vqs_take_back(vdev);
}

int vhost_dev_start(struct vhost_dev *vdev)
{
	const char *reason;
	int error;

	if (vdev->started)
		return 0;
	reason = vhost_dev_can_start(vdev);
	if (reason) {
		log_guest(vdev->base->log, "%s: vhost cannot start: %s", vdev->base->name, reason);
		return -EINVAL;
	}
	error = start_device(vdev);
	for (unsigned int i = 0; i < vdev->nvqs && !error; i++)
		error = vhost_vq_start(&vdev->vqs[i]);
	if (error)
		vhost_dev_unwind(vdev);
	vdev->started = !error;
	return error;
}
