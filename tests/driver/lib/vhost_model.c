/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost devices without a kernel that has them.
 */
#include "vhost_model.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_scsi.h>
#include <linux/virtio_vsock.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fake_ioctl.h"
#include "machine.h"
#include "virtio_transport.h"

#define MODEL_IOVS (1024 + GUEST_MEMORY_REGIONS)
#define RING_BITS                                                                                  \
	(BIT64(VIRTIO_F_NOTIFY_ON_EMPTY) | BIT64(VIRTIO_RING_F_INDIRECT_DESC) |                    \
	 BIT64(VIRTIO_RING_F_EVENT_IDX) | BIT64(VHOST_F_LOG_ALL) | BIT64(VIRTIO_F_ANY_LAYOUT) |    \
	 BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_F_IN_ORDER))

/*
 * struct model_queue - what of a queue vq_split.c does not know.
 * @desc, @avail, @used: as in VHOST_SET_VRING_ADDR
 * @kick, @call, @err: duplicates of the descriptors given
 */
struct model_queue {
	uint64_t desc, avail, used;
	uint16_t base;
	uint16_t size;
	int kick, call, err;
	struct event_source *source;
};

/* struct model_rings - the rings' side; @model: whose. */
struct model_rings {
	struct virtio_common vc;
	struct vhost_model *model;
};

static struct vhost_model *all_models;
static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;

static void signal_fd(int fd)
{
	uint64_t one = 1;

	if (fd >= 0 && write(fd, &one, sizeof(one)) < 0)
		print_error("vhost_model: eventfd: %m\n");
}

static void model_notify_queue(struct virtio_common *vc, struct vqueue_info *vq)
{
	signal_fd(((struct model_rings *)vc)->model->queues[vq->index].call);
}

/* The rings are at an end: vq_err() in Linux. */
static void model_notify_config(struct virtio_common *vc)
{
	struct vhost_model *model = ((struct model_rings *)vc)->model;

	signal_fd(model->queues[model->kicked].err);
}

static void model_kick_later(struct virtio_common *vc, struct vqueue_info *vq)
{
	signal_fd(((struct model_rings *)vc)->model->queues[vq->index].kick);
}

static void model_status_changed(struct virtio_common *vc)
{
}

static const struct virtio_transport_ops model_transport = {
	.notify_queue = model_notify_queue,
	.notify_config = model_notify_config,
	.kick_later = model_kick_later,
	.status_changed = model_status_changed,
};

/* ---- Requests ---- */

/* A packet of the guest's: nobody listens. Buffers for packets are left alone: none come. */
static bool vsock_request(struct vqueue_info *vq, const struct vq_chain *chain, uint32_t *used)
{
	*used = 0;
	return chain->out_len >= sizeof(struct virtio_vsock_hdr);
}

static bool scsi_request(struct vqueue_info *vq, const struct vq_chain *chain, uint32_t *used)
{
	static const struct virtio_scsi_cmd_resp good;
	size_t request = vq->index ? sizeof(struct virtio_scsi_cmd_req)
				   : sizeof(struct virtio_scsi_ctrl_tmf_req);
	size_t response = vq->index ? sizeof(good) : sizeof(struct virtio_scsi_ctrl_tmf_resp);

	if (chain->out_len < request || chain->in_len < response)
		return false;
	*used = (uint32_t)iov_from_buf(chain->iov + chain->out_count, chain->in_count, 0, &good,
				       response);
	return true;
}

static void model_qnotify(void *dev, struct vqueue_info *vq)
{
	struct vhost_model *model = ((struct model_rings *)dev)->model;
	bool vsock = model->kind == VHOST_MODEL_VSOCK;
	unsigned int silent = vsock ? 0 : 1; /* vsock's rx, SCSI's events */
	struct iovec iov[MODEL_IOVS];
	struct vq_chain chain;

	if (vq->index == silent)
		return;
	while (vq_has_descs(vq) && vq_pop(vq, &chain, iov, MODEL_IOVS) == 1) {
		uint32_t used;

		if (!(vsock ? vsock_request : scsi_request)(vq, &chain, &used)) {
			virtio_device_error(vq->vc, vq, "malformed request");
			return;
		}
		vq_relchain(vq, chain.idx, used);
	}
	vq_endchains(vq, 1);
}

static const struct virtio_ops model_ops = {
	.name = "vhost-model",
	.nvq = 1,
	.queue_size = 256,
	.priv_size = sizeof(struct model_rings),
	.qnotify = model_qnotify,
};

/* ---- Rings ---- */

static struct virtio_common *rings_of(const struct vhost_model *model)
{
	return model->rings;
}

static void rings_update(struct vhost_model *model)
{
	struct virtio_common *vc = rings_of(model);

	vc->negotiated_caps.bits[0] = model->acked;
	vc->legacy_driver = !(model->acked & BIT64(VIRTIO_F_VERSION_1));
	vc->features_final = true;
	vc->status = VIRTIO_CONFIG_S_DRIVER_OK;
	vc->running = model->running || model->has_endpoint;
}

static void on_kick(void *arg, uint32_t events)
{
	struct vqueue_info *vq = arg;
	struct vhost_model *model = ((struct model_rings *)vq->vc)->model;
	uint64_t count;

	model->kicked = vq->index;
	if (read(model->queues[vq->index].kick, &count, sizeof(count)) == sizeof(count))
		virtio_queue_kick(vq->vc, vq->index);
}

static bool user_to_gpa(const struct vhost_model *model, uint64_t user, uint64_t *gpa)
{
	for (unsigned int i = 0; i < model->memory.count; i++) {
		const struct guest_memory_region *region = &model->memory.regions[i];
		uint64_t host = (uintptr_t)region->host;

		if (user < host || user - host >= region->size)
			continue;
		*gpa = region->gpa + (user - host);
		return true;
	}
	return false;
}

/* From where VHOST_SET_VRING_BASE and the used ring say. */
static int ring_open(struct vhost_model *model, unsigned int index)
{
	struct model_queue *queue = &model->queues[index];
	struct vqueue_info *vq = &rings_of(model)->vqs[index];

	if (!user_to_gpa(model, queue->desc, &vq->desc_addr) ||
	    !user_to_gpa(model, queue->avail, &vq->driver_addr) ||
	    !user_to_gpa(model, queue->used, &vq->device_addr))
		return -EFAULT;
	vq->size = queue->size;
	vq->enabled = true;
	vq->broken = false;
	vq->packed = false;
	vq->last_avail = queue->base;
	vq->used_idx = ((const struct vring_used *)(uintptr_t)queue->used)->idx;
	rings_update(model);
	return virtio_queue_restore(vq->vc, vq);
}

static int set_kick(struct vhost_model *model, unsigned int index, int fd)
{
	struct model_queue *queue = &model->queues[index];
	struct vqueue_info *vq = &rings_of(model)->vqs[index];
	int error;

	event_remove(queue->source);
	queue->source = NULL;
	if (queue->kick >= 0) {
		close(queue->kick);
		queue->base = vq->last_avail;
		vq->enabled = false;
	}
	queue->kick = -1;
	if (fd < 0)
		return 0;
	error = ring_open(model, index);
	if (error)
		return error;
	/* Another number for the same file: the loop waits on the first one already. */
	queue->kick = dup(fd);
	queue->source =
		event_add_fd(model->ctx->io_loop, queue->kick, EPOLLIN, &model->lock, on_kick, vq);
	return queue->source ? 0 : -errno;
}

static void set_file(int *file, int fd)
{
	if (*file >= 0)
		close(*file);
	*file = fd >= 0 ? dup(fd) : -1;
}

/* ---- ioctls ---- */

static int set_mem_table(struct vhost_model *model, const struct vhost_memory *table)
{
	if (table->nregions > GUEST_MEMORY_REGIONS)
		return -E2BIG;
	model->memory = (struct guest_memory) { .fd = -1, .count = table->nregions };
	for (unsigned int i = 0; i < table->nregions; i++)
		model->memory.regions[i] = (struct guest_memory_region) {
			.gpa = table->regions[i].guest_phys_addr,
			.size = table->regions[i].memory_size,
			.host = (uint8_t *)(uintptr_t)table->regions[i].userspace_addr,
		};
	return 0;
}

static int set_addr(struct vhost_model *model, const struct vhost_vring_addr *addr)
{
	struct model_queue *queue = &model->queues[addr->index];

	queue->desc = addr->desc_user_addr;
	queue->avail = addr->avail_user_addr;
	queue->used = addr->used_user_addr;
	return 0;
}

static bool backend_on(const struct vhost_model *model)
{
	return model->running || model->has_endpoint;
}

static int set_state(struct vhost_model *model, unsigned long request,
		     const struct vhost_vring_state *state)
{
	struct model_queue *queue = &model->queues[state->index];

	if (request == VHOST_SET_VRING_BUSYLOOP_TIMEOUT)
		return 0;
	if (backend_on(model))
		return -EBUSY;
	if (request == VHOST_SET_VRING_BASE)
		queue->base = (uint16_t)state->num;
	else if (!is_power_of_2(state->num) || state->num > VIRTIO_QUEUE_SIZE_MAX)
		return -EINVAL;
	else
		queue->size = (uint16_t)state->num;
	return 0;
}

static int get_base(struct vhost_model *model, struct vhost_vring_state *state)
{
	const struct vqueue_info *vq = &rings_of(model)->vqs[state->index];

	state->num = vq->enabled ? vq->last_avail : model->queues[state->index].base;
	return 0;
}

static int set_vring_file(struct vhost_model *model, unsigned long request,
			  const struct vhost_vring_file *file)
{
	struct model_queue *queue = &model->queues[file->index];

	if (request == VHOST_SET_VRING_KICK)
		return set_kick(model, file->index, file->fd);
	set_file(request == VHOST_SET_VRING_CALL ? &queue->call : &queue->err, file->fd);
	return 0;
}

static int vring_ioctl(struct vhost_model *model, unsigned long request, void *arg)
{
	if (*(const unsigned int *)arg >= rings_of(model)->nvq)
		return -ENOBUFS;
	switch (request) {
	case VHOST_SET_VRING_NUM:
	case VHOST_SET_VRING_BASE:
	case VHOST_SET_VRING_BUSYLOOP_TIMEOUT:
		return set_state(model, request, arg);
	case VHOST_GET_VRING_BASE:
		return get_base(model, arg);
	case VHOST_SET_VRING_ADDR:
		return set_addr(model, arg);
	case VHOST_SET_VRING_KICK:
	case VHOST_SET_VRING_CALL:
	case VHOST_SET_VRING_ERR:
		return set_vring_file(model, request, arg);
	}
	return -ENOTTY;
}

/*
 * vhost_vq_init_access() in Linux: each ring gets its back end, and the place of its used flags that
 * it was told last is written to, whatever is there by now.
 */
static int touch_rings(const struct vhost_model *model)
{
	static const uint16_t no_flags;
	int error = 0;

	for (unsigned int i = 0; i < rings_of(model)->nvq && !error; i++) {
		uint64_t used = model->queues[i].used + offsetof(struct vring_used, flags);
		const struct iovec from = { (void *)(uintptr_t)&no_flags, sizeof(no_flags) };
		const struct iovec to = { (void *)(uintptr_t)used, sizeof(no_flags) };

		if (process_vm_writev(getpid(), &from, 1, &to, 1, 0) < 0)
			error = -EFAULT;
		if (model->kind == VHOST_MODEL_SCSI) /* which does not look */
			error = 0;
	}
	return error;
}

static bool cid_is_taken(const struct vhost_model *model, uint64_t cid)
{
	bool taken = false;

	pthread_mutex_lock(&all_lock);
	for (const struct vhost_model *other = all_models; other; other = other->next)
		taken |= other != model && other->host == model->host && other->cid == cid;
	pthread_mutex_unlock(&all_lock);
	return taken;
}

static int vsock_set_running(struct vhost_model *model, bool on)
{
	int error = model->owned ? 0 : -EPERM;

	if (!error && on)
		error = touch_rings(model);
	if (error)
		return error;
	model->running = on;
	rings_update(model);
	return 0;
}

static int vsock_ioctl(struct vhost_model *model, unsigned long request, const void *arg)
{
	uint64_t cid;

	if (request == VHOST_VSOCK_SET_RUNNING)
		return vsock_set_running(model, *(const int *)arg);
	if (request != VHOST_VSOCK_SET_GUEST_CID)
		return -ENOTTY;
	cid = *(const uint64_t *)arg;
	if (cid <= 2 || cid >= UINT32_MAX)
		return -EINVAL;
	if (cid_is_taken(model, cid))
		return -EADDRINUSE;
	model->cid = cid;
	return 0;
}

static int scsi_endpoint(struct vhost_model *model, const struct vhost_scsi_target *target, bool on)
{
	if (!model->has_memory)
		return -EFAULT;
	if (strcmp(target->vhost_wwpn, VHOST_MODEL_WWPN))
		return -ENODEV;
	if (on == model->has_endpoint)
		return on ? -EEXIST : 0;
	if (on)
		(void)touch_rings(model);
	model->endpoint = *target;
	model->has_endpoint = on;
	rings_update(model);
	return 0;
}

static int scsi_ioctl(struct vhost_model *model, unsigned long request, void *arg)
{
	switch (request) {
	case VHOST_SCSI_GET_ABI_VERSION:
		*(int *)arg = VHOST_SCSI_ABI_VERSION;
		return 0;
	case VHOST_SCSI_SET_ENDPOINT:
	case VHOST_SCSI_CLEAR_ENDPOINT:
		return scsi_endpoint(model, arg, request == VHOST_SCSI_SET_ENDPOINT);
	case VHOST_SCSI_SET_EVENTS_MISSED:
		model->events_missed = *(const uint32_t *)arg;
		return 0;
	case VHOST_SCSI_GET_EVENTS_MISSED:
		*(uint32_t *)arg = model->events_missed;
		return 0;
	}
	return -ENOTTY;
}

static int device_ioctl(struct vhost_model *model, unsigned long request, void *arg)
{
	switch (request) {
	case VHOST_GET_FEATURES:
		*(uint64_t *)arg = model->features;
		return 0;
	case VHOST_SET_FEATURES:
		if (*(const uint64_t *)arg & ~model->features)
			return -EOPNOTSUPP;
		model->acked = *(const uint64_t *)arg;
		return 0;
	case VHOST_SET_OWNER:
		if (model->owned)
			return -EBUSY;
		model->owned = true;
		return 0;
	case VHOST_SET_MEM_TABLE:
		model->has_memory = model->owned;
		return model->owned ? set_mem_table(model, arg) : -EPERM;
	}
	if (_IOC_NR(request) >= 0x40)
		return model->kind == VHOST_MODEL_VSOCK ? vsock_ioctl(model, request, arg)
							: scsi_ioctl(model, request, arg);
	if (!model->owned)
		return -EPERM;
	return vring_ioctl(model, request, arg);
}

static int model_ioctl(struct vhost_model *model, unsigned long request, void *arg)
{
	int result;

	pthread_mutex_lock(&model->lock);
	if (model->call_count < VHOST_MODEL_CALLS)
		model->calls[model->call_count++] = request;
	result = model->fail_error && request == model->fail_request
			 ? -model->fail_error
			 : device_ioctl(model, request, arg);
	pthread_mutex_unlock(&model->lock);
	return result;
}

/* A number is used again when it was closed: only the file that it was made with counts. */
static struct vhost_model *model_find(int fd)
{
	struct vhost_model *model;
	struct stat status;

	if (fstat(fd, &status))
		return NULL;
	pthread_mutex_lock(&all_lock);
	for (model = all_models; model; model = model->next)
		if (model->device == status.st_dev && model->inode == status.st_ino)
			break;
	pthread_mutex_unlock(&all_lock);
	return model;
}

/*
 * Weak: a test that has one of its own gets no models. Not so under libFuzzer, where the sanitizer's
 * own are weak too and would win.
 */
#ifdef FUZZER
#define REPLACEABLE
#else
#define REPLACEABLE __attribute__((weak))
#endif

static int fake_ioctl(int fd, unsigned long request, void *arg)
{
	struct vhost_model *model = _IOC_TYPE(request) == VHOST_VIRTIO ? model_find(fd) : NULL;

	return model ? model_ioctl(model, request, arg) : FAKE_NOT_OURS;
}

REPLACEABLE FAKE_IOCTL(fake_ioctl);

/* ---- Life cycle ---- */

static void log_nothing(void *arg, enum log_level level, const char *line)
{
}

static void rings_create(struct vhost_model *model)
{
	struct model_rings *rings = calloc(1, sizeof(*rings));
	struct virtio_common *vc;
	unsigned int queues = model->kind == VHOST_MODEL_VSOCK ? 2 : VHOST_MODEL_QUEUES;

	assert_non_null(rings);
	rings->model = model;
	vc = &rings->vc;
	vc->name = vc->vm_name = "vhost-model";
	logger_init(&model->log, "vhost-model");
	model->log.sink = log_nothing;
	vc->log = &model->log;
	vc->memory = &model->memory;
	vc->lock = &model->lock;
	vc->transport = &model_transport;
	assert_int_equal(virtio_linkup(vc, &model_ops, "queue_size=32768"), 0);
	assert_int_equal(virtio_set_queues(vc, queues), 0);
	model->rings = vc;
	model->queues = calloc(queues, sizeof(*model->queues));
	assert_non_null(model->queues);
	for (unsigned int i = 0; i < queues; i++)
		model->queues[i] = (struct model_queue) { .kick = -1, .call = -1, .err = -1 };
}

static void model_destroy(struct vhost_model *model)
{
	for (unsigned int i = 0; i < model->rings->nvq; i++) {
		set_file(&model->queues[i].call, -1);
		set_file(&model->queues[i].err, -1);
	}
	free(model->queues);
	virtio_unlink(model->rings);
	free(model->rings);
	logger_deinit(&model->log);
	close(model->peer);
	pthread_mutex_destroy(&model->lock);
	free(model);
}

/* Take those that are released and closed out of the list. */
static void models_reap(void)
{
	struct vhost_model **link = &all_models;

	pthread_mutex_lock(&all_lock);
	while (*link) {
		struct vhost_model *model = *link;
		struct pollfd poll_fd = { .fd = model->peer };

		if (!model->released || poll(&poll_fd, 1, 0) != 1) {
			link = &model->next;
			continue;
		}
		*link = model->next;
		model_destroy(model);
	}
	pthread_mutex_unlock(&all_lock);
}

struct vhost_model *vhost_model_create(enum vhost_model_kind kind, unsigned int host)
{
	struct vhost_model *model = calloc(1, sizeof(*model));
	struct stat status;
	int ends[2];

	models_reap();
	assert_non_null(model);
	model->kind = kind;
	model->host = host;
	model->ctx = inproc_latest();
	model->features = RING_BITS | (kind == VHOST_MODEL_VSOCK ? BIT64(VIRTIO_VSOCK_F_SEQPACKET)
								 : BIT64(VIRTIO_SCSI_F_HOTPLUG));
	pthread_mutex_init(&model->lock, NULL);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	model->fd = ends[0];
	model->peer = ends[1];
	assert_int_equal(fstat(model->fd, &status), 0);
	model->device = status.st_dev;
	model->inode = status.st_ino;
	rings_create(model);
	pthread_mutex_lock(&all_lock);
	model->next = all_models;
	all_models = model;
	pthread_mutex_unlock(&all_lock);
	return model;
}

void vhost_model_release(struct vhost_model *model)
{
	if (model)
		model->released = true;
	models_reap();
}

unsigned int vhost_model_calls(struct vhost_model *model, unsigned long request)
{
	unsigned int count = 0;

	pthread_mutex_lock(&model->lock);
	for (unsigned int i = 0; i < model->call_count; i++)
		count += model->calls[i] == request;
	pthread_mutex_unlock(&model->lock);
	return count;
}

/* Each that is opened by its name is on a host of its own. */
static int model_open(enum vhost_model_kind kind)
{
	static unsigned int hosts;
	struct vhost_model *model =
		vhost_model_create(kind, __atomic_add_fetch(&hosts, 1, __ATOMIC_RELAXED));
	int fd = model->fd;

	vhost_model_release(model);
	return fd;
}

/* libc's, with the models in front. */
REPLACEABLE int open(const char *path, int flags, ...)
{
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(args, mode_t) : 0;
	va_end(args);
	if (!strcmp(path, "/dev/vhost-vsock"))
		return model_open(VHOST_MODEL_VSOCK);
	if (!strcmp(path, "/dev/vhost-scsi"))
		return model_open(VHOST_MODEL_SCSI);
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
