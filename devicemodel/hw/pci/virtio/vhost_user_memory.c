/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guest's memory, as the front end shares it: a table at once, or region by region. It may change
 * while rings run: then they stop, and go on where they were.
 */
#include "vhost_user_device.h"

#include <errno.h>

static int region_add(struct vhost_user_device *device, struct guest_memory *memory,
		      const struct vhost_user_region *region, int fd)
{
	const struct guest_memory_region added = { .gpa = region->gpa,
						   .size = region->size,
						   .user_addr = region->user_addr };
	int error;

	vhost_user_seal(fd);
	error = guest_memory_add(memory, &added, fd, region->mmap_offset);
	if (!error)
		return 0;
	vhost_user_refuse(
		device, "region 0x%llx at 0x%llx (user 0x%llx, offset 0x%llx) cannot be mapped: %s",
		(unsigned long long)region->size, (unsigned long long)region->gpa,
		(unsigned long long)region->user_addr, (unsigned long long)region->mmap_offset,
		error == -EINVAL ? "it is empty, overlaps, wraps, or is beyond the file"
				 : strerror(-error));
	return error;
}

static int table_read(struct vhost_user_device *device, struct vhost_user_message *message)
{
	const struct vhost_user_memory *table = &message->payload.memory;
	uint32_t count = table->count;
	int error = 0;

	if (count > VHOST_USER_REGIONS_MAX)
		return vhost_user_refuse(device, "%u regions", count);
	if (count != message->fd_count)
		return vhost_user_refuse(device, "%u regions with %u file descriptors", count,
					 message->fd_count);
	if (message->header.size < offsetof(struct vhost_user_memory, regions[count]))
		return vhost_user_refuse(device, "%u regions in %u bytes", count,
					 message->header.size);
	for (uint32_t i = 0; i < count && !error; i++)
		error = region_add(device, &device->next, &table->regions[i], message->fds[i]);
	if (error)
		guest_memory_remove_all(&device->next);
	return error;
}

/* The table as it was is unmapped when nothing touches it any more. */
int vhost_user_set_mem_table(struct vhost_user_device *device, struct vhost_user_message *message)
{
	int error = table_read(device, message);

	if (error)
		return error;
	virtio_quiesce(device->vc);
	guest_memory_replace(&device->memory, &device->next);
	vhost_user_rings_move(device);
	virtio_resume(device->vc);
	return 0;
}

int vhost_user_get_max_mem_slots(struct vhost_user_device *device,
				 struct vhost_user_message *message)
{
	vhost_user_answer_u64(device, VHOST_USER_MEM_SLOTS);
	return 0;
}

int vhost_user_add_mem_reg(struct vhost_user_device *device, struct vhost_user_message *message)
{
	int error;

	if (device->memory.count >= VHOST_USER_MEM_SLOTS)
		return vhost_user_refuse(device, "all %u slots are in use", VHOST_USER_MEM_SLOTS);
	virtio_quiesce(device->vc);
	error = region_add(device, &device->memory, &message->payload.region.region,
			   message->fds[0]);
	virtio_resume(device->vc);
	return error;
}

/* Where it was mapped does not matter, and some front ends send the descriptor again. */
int vhost_user_rem_mem_reg(struct vhost_user_device *device, struct vhost_user_message *message)
{
	const struct vhost_user_region *region = &message->payload.region.region;
	const struct guest_memory_region removed = { .gpa = region->gpa,
						     .size = region->size,
						     .user_addr = region->user_addr };
	int error;

	virtio_quiesce(device->vc);
	error = guest_memory_remove(&device->memory, &removed);
	if (!error)
		vhost_user_rings_move(device);
	virtio_resume(device->vc);
	return error ? vhost_user_refuse(device, "there is no such region") : 0;
}

void vhost_user_memory_forget(struct vhost_user_device *device)
{
	guest_memory_remove_all(&device->memory);
}
