/* SPDX-License-Identifier: BSD-3-Clause */
/* boot_file.c: kernel and ramdisk files, read straight into guest memory. */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot.h"

static int check_file(struct boot_file *file, const char *what, const char *option)
{
	struct stat status;

	if (fstat(file->fd, &status) < 0) {
		int error = errno;

		log_error(file->log, "%s: cannot examine the %s: %s (%s)", file->path, what,
			  strerror(error), option);
		return -error;
	}
	if (!S_ISREG(status.st_mode)) {
		log_error(file->log, "%s: the %s is not a regular file (give one with %s)",
			  file->path, what, option);
		return -EINVAL;
	}
	if (status.st_size <= 0) {
		log_error(file->log, "%s: the %s is empty (give another with %s)", file->path, what,
			  option);
		return -EINVAL;
	}
	file->size = (uint64_t)status.st_size;
	return 0;
}

int boot_file_open(struct boot_file *file, struct logger *log, const char *what, const char *option,
		   const char *path)
{
	int error;

	file->log = log;
	file->path = path;
	/* A FIFO must be refused, not waited for. */
	file->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (file->fd < 0) {
		error = errno;
		log_error(log, "%s: cannot open the %s: %s (check %s)", path, what, strerror(error),
			  option);
		return -error;
	}
	error = check_file(file, what, option);
	if (error)
		boot_file_close(file);
	return error;
}

void boot_file_close(struct boot_file *file)
{
	close(file->fd);
	file->fd = -1;
}

int boot_file_read(const struct boot_file *file, void *to, uint64_t size, uint64_t offset)
{
	uint8_t *at = to;
	ssize_t count;

	while (size) {
		count = pread(file->fd, at, size, (off_t)offset);
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0) {
			int error = errno;

			log_error(file->log, "%s: cannot read: %s", file->path, strerror(error));
			return -error;
		}
		if (!count) {
			log_error(file->log, "%s: ends too early (is the file complete?)",
				  file->path);
			return -ENOEXEC;
		}
		at += count;
		offset += (uint64_t)count;
		size -= (uint64_t)count;
	}
	return 0;
}

static int load_file(struct boot *boot, const struct boot_file *file, uint64_t gpa, uint64_t size,
		     uint64_t offset)
{
	void *to = paddr_guest2host(boot->ctx, gpa, size);

	if (!to) {
		log_error(file->log, "%s: 0x%" PRIx64 "-0x%" PRIx64 " of the guest is not memory",
			  file->path, gpa, gpa + size);
		return -EFAULT;
	}
	return boot_file_read(file, to, size, offset);
}

int boot_load(struct boot *boot, uint64_t gpa, uint64_t size, uint64_t offset)
{
	return load_file(boot, &boot->kernel, gpa, size, offset);
}

static uint64_t in_mib(uint64_t bytes)
{
	return align_up(bytes, MIB(1)) / MIB(1);
}

int boot_no_memory(struct boot *boot, uint64_t end)
{
	if (end > X86_LOWMEM_MAX)
		log_error(boot->ctx->log,
			  "%s: the kernel wants memory up to 0x%" PRIx64
			  ", more than there is below 4 GiB (is the file intact?)",
			  boot->kernel.path, end);
	else
		log_error(boot->ctx->log,
			  "%s: the kernel does not fit (give at least -m %" PRIu64 "M)",
			  boot->kernel.path, in_mib(end));
	return -ENOMEM;
}

/* @floor, @size: multiples of a page, what the ramdisk would need */
static int ramdisk_too_large(struct boot *boot, uint64_t size, uint64_t floor, uint64_t limit)
{
	struct logger *log = boot->ctx->log;
	const char *path = boot->ctx->config.ramdisk;
	uint64_t room = MIN(limit, X86_LOWMEM_MAX);

	room = room > floor ? room - floor : 0;
	if (size > room)
		log_error(log,
			  "%s: the ramdisk has %" PRIu64 " MiB, but at most %" PRIu64
			  " MiB fit beside this kernel (give a smaller one with -r)",
			  path, in_mib(size), room / MIB(1));
	else
		log_error(log, "%s: the ramdisk does not fit (give at least -m %" PRIu64 "M)", path,
			  in_mib(floor + size));
	return -ENOMEM;
}

/* Page-aligned, and as high as possible: out of the way of a kernel that unpacks itself. */
static int place_ramdisk(struct boot *boot, const struct boot_file *file, uint64_t limit)
{
	uint64_t top = MIN(limit, boot->ram_end) & ~(uint64_t)(BOOT_PAGE_SIZE - 1);
	uint64_t floor = align_up(boot->kernel_end, BOOT_PAGE_SIZE);
	uint64_t size = align_up(file->size, BOOT_PAGE_SIZE);

	if (top < floor || size > top - floor)
		return ramdisk_too_large(boot, size, floor, limit);

	boot->ramdisk_gpa = top - size;
	boot->ramdisk_size = file->size;
	return load_file(boot, file, boot->ramdisk_gpa, file->size, 0);
}

int boot_load_ramdisk(struct boot *boot, uint64_t limit)
{
	struct boot_file file;
	int error;

	if (!boot->ctx->config.ramdisk)
		return 0;
	error = boot_file_open(&file, boot->ctx->log, "ramdisk", "-r", boot->ctx->config.ramdisk);
	if (error)
		return error;
	error = place_ramdisk(boot, &file, limit);
	boot_file_close(&file);
	return error;
}
