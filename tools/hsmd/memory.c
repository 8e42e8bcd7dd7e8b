/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * memory.c: guest RAM. The client names it by its own addresses; what lies there is a shared
 * mapping of a file (a memfd, with huge pages or without), and hsmd maps the same file. Private
 * memory cannot be shared with another process: that much hsmd cannot do as the driver does it.
 */
#include "hsmd.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

/* What one call may consist of: mappings of the client that follow each other. */
#define PARTS_MAX 64

static uint64_t mapped_bytes; /* atomic */

uint64_t memory_mapped(void)
{
	return __atomic_load_n(&mapped_bytes, __ATOMIC_RELAXED);
}

static void put_backing(struct memory_backing *backing)
{
	if (!backing || --backing->references)
		return;
	munmap(backing->base, backing->size);
	__atomic_sub_fetch(&mapped_bytes, backing->size, __ATOMIC_RELAXED);
	free(backing);
}

/* Files with huge pages can only be mapped by huge pages. */
static uint64_t page_size(int fd)
{
	struct statfs status;

	if (fstatfs(fd, &status) || status.f_type != HUGETLBFS_MAGIC)
		return GUEST_PAGE_SIZE;
	return (uint64_t)status.f_bsize;
}

/* Leave of @vma the pages that hold [address, address + size): what hsmd maps is what VMs have. */
static void narrow(struct client_vma *vma, uint64_t address, uint64_t size, uint64_t page)
{
	uint64_t before = (address - vma->start) / page * page;
	uint64_t after = (vma->end - (address + size)) / page * page;

	vma->start += before;
	vma->offset += before;
	vma->end -= after;
}

static int map_file(pid_t thread, const struct client_vma *vma, int fd,
		    struct memory_backing **mapped)
{
	struct memory_backing *backing = calloc(1, sizeof(*backing));

	if (!backing)
		return -ENOMEM;
	backing->size = vma->end - vma->start;
	backing->references = 1;
	backing->base = mmap(NULL, backing->size, PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_NORESERVE, fd, (off_t)vma->offset);
	if (backing->base == MAP_FAILED) {
		log_line(LOG_ERROR, "client %d: cannot map %s: %s", thread, vma->name,
			 strerror(errno));
		free(backing);
		return -EOPNOTSUPP;
	}
	__atomic_add_fetch(&mapped_bytes, backing->size, __ATOMIC_RELAXED);
	*mapped = backing;
	return 0;
}

/* @part->size bytes at @address, which @vma holds. */
static int map_part(pid_t thread, struct client_vma *vma, uint64_t address,
		    struct memory_piece *part)
{
	int fd = client_vma_open(thread, vma);
	int ret;

	if (fd == -EFAULT)
		return fd;
	if (fd < 0) {
		log_line(LOG_ERROR,
			 "client %d: cannot open what is mapped at 0x%" PRIx64 " (%s): %s", thread,
			 vma->start, vma->name, strerror(-fd));
		return -EOPNOTSUPP;
	}
	narrow(vma, address, part->size, page_size(fd));
	ret = map_file(thread, vma, fd, &part->backing);
	close(fd);
	if (!ret)
		part->host = (uint8_t *)part->backing->base + (address - vma->start);
	return ret;
}

static int kvm_slot(struct vm *vm, const struct memory_piece *piece, bool remove)
{
	struct kvm_userspace_memory_region region = {
		.slot = (uint32_t)(piece - vm->memory.pieces),
		.flags = piece->read_only ? KVM_MEM_READONLY : 0,
		.guest_phys_addr = piece->guest,
		.memory_size = remove ? 0 : piece->size,
		.userspace_addr = (uintptr_t)piece->host,
	};

	return kvm_must(vm, vm->fd, KVM_SET_USER_MEMORY_REGION, &region,
			"KVM_SET_USER_MEMORY_REGION");
}

static int add_piece(struct vm *vm, const struct memory_piece *wanted)
{
	struct memory_piece *piece;
	int ret;

	for (size_t i = 0; i < MEMORY_PIECES_MAX; i++) {
		piece = &vm->memory.pieces[i];
		if (piece->size)
			continue;
		*piece = *wanted;
		ret = kvm_slot(vm, piece, false);
		if (ret)
			piece->size = 0;
		else
			piece->backing->references++;
		return ret;
	}
	log_line(LOG_ERROR, "VM %u: more than %u memory segments", vm->id, MEMORY_PIECES_MAX);
	return -ENOMEM;
}

/* Take [guest, end) out of @piece; what is left before and after stays. */
static int cut_piece(struct vm *vm, struct memory_piece *piece, uint64_t guest, uint64_t end)
{
	struct memory_piece before = *piece, after = *piece;
	int ret = kvm_slot(vm, piece, true);

	if (ret)
		return ret;
	piece->size = 0;
	if (before.guest < guest) {
		before.size = guest - before.guest;
		ret = add_piece(vm, &before);
	}
	if (!ret && end < after.guest + after.size) {
		after.size = after.guest + after.size - end;
		after.host += end - after.guest;
		after.guest = end;
		ret = add_piece(vm, &after);
	}
	put_backing(before.backing);
	return ret;
}

/* Nothing of [guest, guest + size) is RAM any more. */
static int remove_range(struct vm *vm, uint64_t guest, uint64_t size)
{
	uint64_t end = guest + size;
	int ret = 0;

	for (size_t i = 0; !ret && i < MEMORY_PIECES_MAX; i++) {
		struct memory_piece *piece = &vm->memory.pieces[i];

		if (piece->size && piece->guest < end && guest < piece->guest + piece->size)
			ret = cut_piece(vm, piece, guest, end);
	}
	return ret;
}

static int check_vma(pid_t thread, const struct client_vma *vma)
{
	if (!vma->writable)
		return -EFAULT;
	if (vma->shared)
		return 0;
	log_line(LOG_ERROR,
		 "client %d: guest RAM at 0x%" PRIx64
		 " is private memory (%s), which hsmd cannot share "
		 "(map a memfd with MAP_SHARED)",
		 thread, vma->start, vma->name[0] ? vma->name : "anonymous");
	return -EOPNOTSUPP;
}

/* The piece that the mapping at @address gives, at most @size of it. */
static int make_part(pid_t thread, uint64_t address, uint64_t size, struct memory_piece *part)
{
	struct client_vma vma;
	int ret = client_vma_find(thread, address, &vma);

	if (!ret)
		ret = check_vma(thread, &vma);
	if (ret)
		return ret;
	part->size = vma.end - address < size ? vma.end - address : size;
	return map_part(thread, &vma, address, part);
}

static int set_ram(struct vm *vm, pid_t thread, const struct acrn_vm_memmap *map, uint64_t size)
{
	uint64_t address = map->vma_base & ~(uint64_t)(GUEST_PAGE_SIZE - 1);
	struct memory_piece parts[PARTS_MAX] = { { 0 } };
	unsigned int count = 0;
	int ret = 0;

	for (uint64_t done = 0; !ret && done < size; done += parts[count++].size) {
		if (count == PARTS_MAX) {
			ret = -ENOMEM;
			break;
		}
		parts[count].guest = map->user_vm_pa + done;
		parts[count].read_only = !(map->attr & ACRN_MEM_ACCESS_WRITE);
		ret = make_part(thread, address + done, size - done, &parts[count]);
		if (ret)
			break;
	}
	if (!ret)
		ret = remove_range(vm, map->user_vm_pa, size);
	for (unsigned int i = 0; !ret && i < count; i++) {
		ret = add_piece(vm, &parts[i]);
		if (ret && remove_range(vm, map->user_vm_pa, size))
			log_line(LOG_ERROR, "VM %u: guest RAM is in part what it was", vm->id);
	}
	for (unsigned int i = 0; i < count; i++)
		put_backing(parts[i].backing);
	return ret;
}

int memory_set(struct vm *vm, pid_t thread, const struct acrn_vm_memmap *map)
{
	/* The driver counts whole pages, and fails to allocate a list of none. */
	uint64_t size = map->len & ~(uint64_t)(GUEST_PAGE_SIZE - 1);

	if (map->type == ACRN_MEMMAP_MMIO)
		log_line(LOG_ERROR,
			 "VM %u: host memory at 0x%llx cannot be mapped: hsmd passes no "
			 "devices through",
			 vm->id, (unsigned long long)map->service_vm_pa);
	if (map->type != ACRN_MEMMAP_RAM)
		return -EINVAL;
	if (!size)
		return -ENOMEM;
	if (map->user_vm_pa % GUEST_PAGE_SIZE || map->user_vm_pa + size < size ||
	    map->vma_base + size < size)
		return -EINVAL;
	return set_ram(vm, thread, map, size);
}

int memory_unset(struct vm *vm, const struct acrn_vm_memmap *map)
{
	/* The driver knows only this type here; the hypervisor takes out whatever is there. */
	if (map->type != ACRN_MEMMAP_MMIO)
		return -EINVAL;
	if (map->user_vm_pa % GUEST_PAGE_SIZE || map->len % GUEST_PAGE_SIZE ||
	    map->user_vm_pa + map->len < map->user_vm_pa)
		return -EINVAL;
	return remove_range(vm, map->user_vm_pa, map->len);
}

int memory_install(struct vm *vm)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < MEMORY_PIECES_MAX; i++) {
		if (vm->memory.pieces[i].size)
			ret = kvm_slot(vm, &vm->memory.pieces[i], false);
	}
	return ret;
}

void memory_deinit(struct memory *memory)
{
	for (size_t i = 0; i < MEMORY_PIECES_MAX; i++) {
		if (memory->pieces[i].size)
			put_backing(memory->pieces[i].backing);
		memory->pieces[i].size = 0;
	}
}
