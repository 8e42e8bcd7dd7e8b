/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vbs-rng: a stand-in for ACRN's VBS-K entropy module, for the lab: /dev/vbs_rng by CUSE.
 *
 * Once a client has given device and queue it maps that client's guest memory (the memfd named
 * tenon-guest-ram), looks at the ring every millisecond and fills all buffers with a text. It sends
 * the interrupt as the module does, through the hypervisor: ACRN_IOCTL_INJECT_MSI on the client's
 * own /dev/acrn_hsm. Where the client has none (KVM), used buffers are there and no interrupt comes.
 */
#define FUSE_USE_VERSION 31

#include <cuse_lowlevel.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/acrn.h>
#include <linux/virtio_ring.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../devicemodel/include/virtio_kernel.h"

#define TEXT "vbs-k stand-in.\n"
#define LOW_MEMORY_END UINT64_C(0xb0000000) /* below it, addresses are offsets in the memfd */

/* struct client - the one that is served. @hsm: its /dev/acrn_hsm, or -1 */
static struct client {
	struct vbs_dev_info dev;
	struct vbs_vq_info vq;
	bool have_dev, running;
	uint8_t *memory;
	uint64_t memory_size;
	int hsm;
	unsigned int buffers, interrupts;
	atomic_bool stop;
	pthread_t thread;
} client = { .hsm = -1 };

/* ---- The client's guest ---- */

static void *guest_ptr(uint64_t gpa, uint64_t len)
{
	uint64_t end = client.memory_size < LOW_MEMORY_END ? client.memory_size : LOW_MEMORY_END;

	return len <= end && gpa <= end - len ? client.memory + gpa : NULL;
}

static int memory_map(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	struct stat status;
	void *memory;

	if (fd < 0 || fstat(fd, &status))
		return -errno;
	memory = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (memory == MAP_FAILED)
		return -errno;
	client.memory = memory;
	client.memory_size = (uint64_t)status.st_size;
	return 0;
}

/* Whoever calls is a thread; descriptors are taken from its process. */
static pid_t process_of(pid_t thread)
{
	char path[64], line[256];
	pid_t process = thread;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)thread);
	file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, "Tgid:", 5))
			process = (pid_t)atoi(line + 5);
	if (file)
		fclose(file);
	return process;
}

static int descriptor_take(pid_t pid, int number)
{
	int pidfd = (int)syscall(SYS_pidfd_open, process_of(pid), 0);
	int fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);

	if (pidfd >= 0)
		close(pidfd);
	return fd;
}

/* Guest memory, and the hypervisor's VM if it is ACRN's, among the client's open files. */
static int client_find(pid_t pid)
{
	char folder[64], path[350], target[256];
	struct dirent *entry;
	DIR *dir;

	snprintf(folder, sizeof(folder), "/proc/%d/fd", (int)pid);
	dir = opendir(folder);
	if (!dir)
		return -errno;
	while ((entry = readdir(dir))) {
		ssize_t length;

		snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
		length = readlink(path, target, sizeof(target) - 1);
		target[length < 0 ? 0 : length] = 0;
		if (!strncmp(target, "/memfd:tenon-guest-ram", 22) && !client.memory)
			memory_map(path);
		if (!strcmp(target, "/dev/acrn_hsm") && client.hsm < 0)
			client.hsm = descriptor_take(pid, atoi(entry->d_name));
	}
	closedir(dir);
	return client.memory ? 0 : -ENOENT;
}

static void interrupt(void)
{
	struct acrn_msi_entry msi = { .msi_addr = client.vq.msix_addr,
				      .msi_data = client.vq.msix_data };

	if (client.hsm >= 0 && client.vq.msix_addr &&
	    !ioctl(client.hsm, ACRN_IOCTL_INJECT_MSI, &msi))
		client.interrupts++;
}

/* ---- The ring, in the legacy layout ---- */

struct legacy_ring {
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	unsigned int size;
	uint16_t next;
};

static bool ring_find(struct legacy_ring *ring)
{
	uint64_t desc = (uint64_t)client.vq.pfn << 12, avail, used;

	ring->size = client.vq.qsize;
	ring->next = 0;
	avail = desc + ring->size * sizeof(struct vring_desc);
	used = (avail + 6 + 2 * ring->size + 4095) & ~UINT64_C(4095);
	ring->desc = guest_ptr(desc, ring->size * sizeof(struct vring_desc));
	ring->avail = guest_ptr(avail, 6 + 2 * ring->size);
	ring->used = guest_ptr(used, 6 + 8 * ring->size);
	return ring->size && ring->desc && ring->avail && ring->used;
}

static uint32_t chain_fill(const struct legacy_ring *ring, uint16_t head)
{
	uint32_t total = 0;

	for (unsigned int i = 0; i < ring->size && head < ring->size; i++) {
		struct vring_desc desc = ring->desc[head];
		uint8_t *data = guest_ptr(desc.addr, desc.len);

		for (uint32_t j = 0; data && desc.flags & VRING_DESC_F_WRITE && j < desc.len; j++)
			data[j] = (uint8_t)TEXT[total++ % strlen(TEXT)];
		if (!(desc.flags & VRING_DESC_F_NEXT))
			break;
		head = desc.next;
	}
	return total;
}

static void ring_serve(struct legacy_ring *ring)
{
	uint16_t end = __atomic_load_n(&ring->avail->idx, __ATOMIC_ACQUIRE);
	bool any = ring->next != end;

	for (; ring->next != end; ring->next++, client.buffers++) {
		uint16_t head = ring->avail->ring[ring->next % ring->size];

		ring->used->ring[ring->next % ring->size] =
			(struct vring_used_elem) { head, chain_fill(ring, head) };
		__atomic_store_n(&ring->used->idx, (uint16_t)(ring->next + 1), __ATOMIC_RELEASE);
	}
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (any && !(ring->avail->flags & VRING_AVAIL_F_NO_INTERRUPT))
		interrupt();
}

static void *ring_thread(void *arg)
{
	struct legacy_ring ring;

	if (!ring_find(&ring))
		return NULL;
	while (!client.stop) {
		ring_serve(&ring);
		usleep(1000);
	}
	return NULL;
}

/* ---- The calls ---- */

static void client_reset(void)
{
	if (client.running) {
		client.stop = true;
		pthread_join(client.thread, NULL);
		printf("vbs-rng: stopped: %u buffers, %u interrupts\n", client.buffers,
		       client.interrupts);
	}
	if (client.memory)
		munmap(client.memory, client.memory_size);
	if (client.hsm >= 0)
		close(client.hsm);
	memset(&client, 0, sizeof(client));
	client.hsm = -1;
}

static int client_start(pid_t pid, const struct vbs_vqs_info *vqs)
{
	int error;

	if (!client.have_dev || client.running || vqs->nvq != 1)
		return EINVAL;
	client.vq = vqs->vqs[0];
	error = -client_find(pid);
	if (error)
		return error;
	printf("vbs-rng: %s: ports 0x%llx+%llu, ring of %u at page 0x%x, vector %u, message "
	       "0x%llx 0x%x, interrupts %s\n",
	       client.dev.name, (unsigned long long)client.dev.pio_range_start,
	       (unsigned long long)client.dev.pio_range_len, client.vq.qsize, client.vq.pfn,
	       client.vq.msix_idx, (unsigned long long)client.vq.msix_addr, client.vq.msix_data,
	       client.hsm >= 0 ? "by the HSM" : "impossible");
	error = pthread_create(&client.thread, NULL, ring_thread, NULL);
	client.running = !error;
	return error;
}

static void vbs_open(fuse_req_t request, struct fuse_file_info *info)
{
	fuse_reply_open(request, info);
}

static void vbs_release(fuse_req_t request, struct fuse_file_info *info)
{
	client_reset();
	fuse_reply_err(request, 0);
}

static void vbs_ioctl(fuse_req_t request, int command, void *arg, struct fuse_file_info *info,
		      unsigned int flags, const void *in, size_t in_size, size_t out_size)
{
	int error = ENOTTY;

	if ((unsigned int)command == VBS_RESET_DEV) {
		client_reset();
		error = 0;
	} else if ((unsigned int)command == VBS_SET_DEV && in_size == sizeof(client.dev)) {
		memcpy(&client.dev, in, sizeof(client.dev));
		client.dev.name[VBS_NAME_LEN - 1] = 0;
		client.have_dev = true;
		error = 0;
	} else if ((unsigned int)command == VBS_SET_VQ && in_size == sizeof(struct vbs_vqs_info)) {
		error = client_start(fuse_req_ctx(request)->pid, in);
	}
	fflush(stdout);
	if (error)
		fuse_reply_err(request, error);
	else
		fuse_reply_ioctl(request, 0, NULL, 0);
}

int main(int argc, char **argv)
{
	static const struct cuse_lowlevel_ops operations = { .open = vbs_open,
							     .release = vbs_release,
							     .ioctl = vbs_ioctl };
	static const char *device[] = { "DEVNAME=vbs_rng" };
	static const struct cuse_info info = { .dev_info_argc = 1, .dev_info_argv = device };
	char *arguments[] = { argv[0], "-f", "-s", NULL };

	return cuse_lowlevel_main(3, arguments, &info, &operations, NULL);
}
