/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client.c: reaching into the process that uses the device: memory, mappings, file descriptors.
 *
 * While a thread is in a call it cannot go away, so its id is good for /proc and
 * process_vm_readv(); what is needed later (the I/O request page, guest RAM, eventfds) is held by
 * file descriptors and mappings.
 */
#include "hsmd.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL /* Linux 6.9 */
#endif

/* Not in the headers of C libraries before 2.36. */
static int open_pidfd(pid_t process, unsigned int flags)
{
	return (int)syscall(SYS_pidfd_open, process, flags);
}

static int take_fd(int pidfd, int fd)
{
	return (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
}

int client_read(pid_t thread, uint64_t address, void *data, size_t size)
{
	struct iovec here = { .iov_base = data, .iov_len = size };
	struct iovec there = { .iov_base = (void *)(uintptr_t)address, .iov_len = size };

	return process_vm_readv(thread, &here, 1, &there, 1, 0) == (ssize_t)size ? 0 : -EFAULT;
}

int client_write(pid_t thread, uint64_t address, const void *data, size_t size)
{
	struct iovec here = { .iov_base = (void *)(uintptr_t)data, .iov_len = size };
	struct iovec there = { .iov_base = (void *)(uintptr_t)address, .iov_len = size };

	return process_vm_writev(thread, &here, 1, &there, 1, 0) == (ssize_t)size ? 0 : -EFAULT;
}

int client_memory_open(pid_t thread)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", thread);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		fd = -errno;
		log_line(LOG_ERROR, "client %d: cannot open %s: %s (run hsmd as root, with /proc)",
			 thread, path, strerror(-fd));
	}
	return fd;
}

/* The number after @field in a file of /proc. */
static int read_field(const char *path, const char *field, uint64_t *value)
{
	size_t length = strlen(field);
	FILE *file = fopen(path, "re");
	char line[256];
	int ret = -ENOENT;

	if (!file)
		return -errno;
	while (ret && fgets(line, sizeof(line), file)) {
		if (strncmp(line, field, length))
			continue;
		*value = strtoull(line + length, NULL, 10);
		ret = 0;
	}
	fclose(file);
	return ret;
}

/* The number of the process that has @thread, which is also its first thread's. */
static int process_of(pid_t thread)
{
	char path[64];
	uint64_t process;
	int ret;

	snprintf(path, sizeof(path), "/proc/%d/status", thread);
	ret = read_field(path, "Tgid:", &process);
	return ret ? ret : (int)process;
}

/* CUSE names the thread. Linux before 6.9 opens processes only, and these by their first thread. */
static int open_thread(pid_t thread)
{
	int pidfd = open_pidfd(thread, PIDFD_THREAD);
	int process;

	if (pidfd < 0 && errno == EINVAL) {
		process = process_of(thread);
		if (process < 0)
			return process;
		pidfd = open_pidfd(process, 0);
	}
	return pidfd < 0 ? -errno : pidfd;
}

static int duplicate(pid_t thread, int fd)
{
	int pidfd = open_thread(thread);
	int copy;

	if (pidfd < 0)
		return pidfd;
	copy = take_fd(pidfd, fd);
	if (copy < 0)
		copy = -errno;
	close(pidfd);
	return copy;
}

int client_eventfd(pid_t thread, int fd, uint64_t *id)
{
	char path[64];
	int copy = duplicate(thread, fd);

	if (copy < 0) {
		if (copy != -EBADF)
			log_line(LOG_ERROR, "client %d: cannot take over file descriptor %d: %s",
				 thread, fd, strerror(-copy));
		return copy == -EBADF ? -EBADF : -EINVAL;
	}
	/* Only an eventfd has this line; the number is the same for every duplicate of it. */
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", copy);
	if (read_field(path, "eventfd-id:", id)) {
		close(copy);
		return -EINVAL;
	}
	return copy;
}

/* One line of /proc/PID/maps: "START-END PERM OFFSET DEV INODE   NAME". */
static bool parse_vma(const char *line, struct client_vma *vma)
{
	unsigned int major, minor;
	char permissions[5];
	uint64_t inode;
	int name = 0;

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %x:%x %" SCNu64 " %n",
		   &vma->start, &vma->end, permissions, &vma->offset, &major, &minor, &inode,
		   &name) < 7)
		return false;
	vma->device = makedev(major, minor);
	vma->inode = (ino_t)inode;
	vma->writable = permissions[1] == 'w';
	vma->shared = permissions[3] == 's';
	snprintf(vma->name, sizeof(vma->name), "%.*s", (int)strcspn(line + name, "\n"),
		 line + name);
	return true;
}

int client_vma_find(pid_t thread, uint64_t address, struct client_vma *vma)
{
	char path[64], line[4352];
	bool found = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/maps", thread);
	file = fopen(path, "re");
	if (!file)
		return -EFAULT;
	while (!found && fgets(line, sizeof(line), file))
		found = parse_vma(line, vma) && vma->start <= address && address < vma->end;
	fclose(file);
	return found ? 0 : -EFAULT;
}

/*
 * hsmd opens as root. What the client may do with a file is seen from its mapping only, which it
 * can replace at any time. So the mapping is looked at again when the file is open, and its inode's
 * number can be no other's: then it must be of that file, and what it was when it was checked.
 */
static int check_file(pid_t thread, const struct client_vma *vma, int fd)
{
	struct client_vma now;
	struct stat status;

	if (fstat(fd, &status))
		return -errno;
	if (!client_vma_find(thread, vma->start, &now) && now.start == vma->start &&
	    now.end == vma->end && now.shared == vma->shared && now.writable == vma->writable &&
	    now.device == status.st_dev && now.inode == status.st_ino)
		return 0;
	log_line(
		LOG_ERROR,
		"client %d: the mapping at 0x%" PRIx64
		" (%s; device %x:%x, inode %ju) was replaced, "
		"or is not of the file that was opened for it (device %x:%x, inode %ju): let guest "
		"RAM stay, and be of a memfd, tmpfs or hugetlbfs",
		thread, vma->start, vma->name, major(vma->device), minor(vma->device),
		(uintmax_t)vma->inode, major(status.st_dev), minor(status.st_dev),
		(uintmax_t)status.st_ino);
	return -EFAULT;
}

int client_vma_open(pid_t thread, const struct client_vma *vma)
{
	char path[96];
	int fd, ret;

	snprintf(path, sizeof(path), "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, thread, vma->start,
		 vma->end);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = check_file(thread, vma, fd);
	if (!ret)
		return fd;
	close(fd);
	return ret;
}
