/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What front end and back end share besides the guest's memory: the record of requests in flight, which
 * outlives us, and the log of pages that we wrote, for live migration.
 */
#include "vhost_user_device.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vq_inflight.h"

/* Who shares memory and makes it smaller kills us: it is asked once not to, where files can be. */
void vhost_user_seal(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || seals & (F_SEAL_SHRINK | F_SEAL_SEAL))
		return;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0)
		return; /* a later look at its size is all there is */
}

static int map_shared(struct vhost_user_device *device, int fd, uint64_t offset, uint64_t size,
		      struct guest_memory_map *map)
{
	int error = guest_memory_map(fd, offset, size, map);

	if (!error)
		return 0;
	return vhost_user_refuse(device, "0x%llx bytes at 0x%llx cannot be mapped: %s",
				 (unsigned long long)size, (unsigned long long)offset,
				 error == -EINVAL ? "the file does not have them"
						  : strerror(-error));
}

/* ---- Requests in flight ---- */

/* The features tell the format, and are accepted by now or not to be had. */
static uint64_t region_size(const struct vhost_user_device *device, uint16_t queue_size)
{
	return vq_inflight_size(queue_size, device->session.features & BIT64(VIRTIO_F_RING_PACKED));
}

void *vhost_user_inflight(struct vhost_user_device *device, unsigned int index, uint64_t *size)
{
	const struct vhost_user_session *session = &device->session;

	/* As it was when the region was mapped: the features may be others by now. */
	*size = session->inflight_region;
	if (!session->inflight.host || index >= session->inflight_count)
		return NULL;
	return session->inflight.host + index * *size;
}

static int check_inflight(struct vhost_user_device *device,
			  const struct vhost_user_inflight *inflight)
{
	if (!inflight->queue_count || inflight->queue_count > device->ring_count)
		return vhost_user_refuse(device, "%u queues of %u", inflight->queue_count,
					 device->ring_count);
	if (!inflight->queue_size || inflight->queue_size > VIRTIO_QUEUE_SIZE_MAX)
		return vhost_user_refuse(device, "queues of %u entries", inflight->queue_size);
	if (vhost_user_ring_runs(device))
		return vhost_user_refuse(device, "rings run already");
	return 0;
}

static int inflight_memfd(uint64_t size)
{
	int fd = memfd_create("tenon-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int error;

	if (fd < 0)
		return -errno;
	if (!ftruncate(fd, (off_t)size) &&
	    !fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return fd;
	error = -errno;
	close(fd);
	return error;
}

static int inflight_map(struct vhost_user_device *device, int fd, uint64_t offset, uint64_t size,
			const struct vhost_user_inflight *inflight)
{
	struct vhost_user_session *session = &device->session;
	struct guest_memory_map map;
	int error = map_shared(device, fd, offset, size, &map);

	if (error)
		return error;
	guest_memory_unmap(&session->inflight);
	session->inflight = map;
	session->inflight_count = inflight->queue_count;
	session->inflight_region = region_size(device, inflight->queue_size);
	return 0;
}

/* The answer is as long as the question: some count the padding behind the last member. */
int vhost_user_get_inflight_fd(struct vhost_user_device *device, struct vhost_user_message *message)
{
	union vhost_user_payload answer = { .inflight = message->payload.inflight };
	struct vhost_user_inflight *inflight = &answer.inflight;
	int error = check_inflight(device, inflight);
	int fd;

	if (error)
		return error;
	inflight->mmap_size = region_size(device, inflight->queue_size) * inflight->queue_count;
	inflight->mmap_offset = 0;
	fd = inflight_memfd(inflight->mmap_size);
	if (fd < 0)
		return vhost_user_refuse(device, "no memory for it: %s", strerror(-fd));
	error = inflight_map(device, fd, 0, inflight->mmap_size, inflight);
	if (error) {
		close(fd);
		return error;
	}
	vhost_user_answer(device, &answer, message->header.size);
	device->session.out.fd = fd;
	return 0;
}

int vhost_user_set_inflight_fd(struct vhost_user_device *device, struct vhost_user_message *message)
{
	const struct vhost_user_inflight *inflight = &message->payload.inflight;
	int error = check_inflight(device, inflight);

	if (error)
		return error;
	if (inflight->mmap_size < region_size(device, inflight->queue_size) * inflight->queue_count)
		return vhost_user_refuse(device, "0x%llx bytes are too few for %u queues of %u",
					 (unsigned long long)inflight->mmap_size,
					 inflight->queue_count, inflight->queue_size);
	vhost_user_seal(message->fds[0]);
	return inflight_map(device, message->fds[0], inflight->mmap_offset, inflight->mmap_size,
			    inflight);
}

/* ---- The dirty log ---- */

int vhost_user_set_log_base(struct vhost_user_device *device, struct vhost_user_message *message)
{
	const struct vhost_user_log *log = &message->payload.log;
	struct vhost_user_session *session = &device->session;
	bool awaited = vhost_user_awaits_log(device);
	struct guest_memory_map map;
	int error;

	vhost_user_seal(message->fds[0]);
	error = map_shared(device, message->fds[0], log->mmap_offset, log->mmap_size, &map);
	if (error)
		return error;
	virtio_quiesce(device->vc);
	guest_memory_unmap(&session->log_map);
	session->log_map = map;
	session->log = (struct dirty_log) { .bits = map.host, .size = log->mmap_size };
	error = vhost_user_rings_log(device);
	virtio_resume(device->vc);
	if (!error && awaited)
		error = vhost_user_rings_update(device);
	vhost_user_answer_u64(device, error != 0);
	return error;
}

void vhost_user_shared_forget(struct vhost_user_device *device)
{
	struct vhost_user_session *session = &device->session;

	guest_memory_unmap(&session->inflight);
	session->inflight_count = 0;
	session->inflight_region = 0;
	guest_memory_unmap(&session->log_map);
	session->log = (struct dirty_log) { 0 };
}
