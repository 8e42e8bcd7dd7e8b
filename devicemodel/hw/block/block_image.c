/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Disk images: opening and locking a raw file or block device, and finding out what it is like.
 */
#include "block_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "options.h"

#define LOGICAL_BLOCK_MIN BLOCK_SECTOR_SIZE
#define LOGICAL_BLOCK_MAX 4096
#define PHYSICAL_BLOCK_MAX KIB(64)

static const char *open_remedy(const struct block_image *image, int error)
{
	switch (error) {
	case ENOENT:
		return " (check the path, or make an empty image: truncate -s 10G FILE)";
	case EACCES:
	case EPERM:
	case EROFS:
		return image->read_only ? " (give tenon the right to read it)"
					: " (add \",ro\" to attach it read-only)";
	case EBUSY:
		return " (the host has it mounted or otherwise in use: unmount it, or add \",ro\")";
	case EINVAL:
		return image->direct ? " (its file system has no direct I/O: leave out \",direct\")"
				     : "";
	default:
		return "";
	}
}

#define NULL_PREFIX "null:"

/* "null:SIZE", in whole sectors. */
static int image_open_null(struct block_image *image, const char *size)
{
	int error = option_parse_size(size, 1, &image->null_size);

	if (error || !image->null_size || image->null_size % BLOCK_SECTOR_SIZE ||
	    image->null_size > INT64_MAX) {
		log_error(image->log,
			  "%s: cannot open: no size of a disk (give a multiple of %d bytes, as in "
			  "\"" NULL_PREFIX "10G\"; a file of that name is \"./" NULL_PREFIX
			  "...\")",
			  image->name, BLOCK_SECTOR_SIZE);
		return -EINVAL;
	}
	image->physical_block_size = LOGICAL_BLOCK_MAX;
	return 0;
}

static int open_failed(const struct block_image *image, int error)
{
	log_error(image->log, "%s: cannot open%s: %s%s", image->name,
		  image->read_only ? "" : " for writing", strerror(error),
		  open_remedy(image, error));
	return -error;
}

static int image_open_file(struct block_image *image, const char *path)
{
	int flags = O_CLOEXEC | (image->read_only ? O_RDONLY : O_RDWR);
	struct statfs file_system;
	struct stat info;

	if (strncmp(path, NULL_PREFIX, strlen(NULL_PREFIX)) == 0)
		return image_open_null(image, path + strlen(NULL_PREFIX));
	/* Looked at first: to open a FIFO blocks, to open a tape rewinds it. */
	if (stat(path, &info) < 0)
		return open_failed(image, errno);
	if (!S_ISREG(info.st_mode) && !S_ISBLK(info.st_mode)) {
		log_error(image->log,
			  "%s: cannot open: neither a regular file nor a block device "
			  "(give the path of a raw disk image)",
			  image->name);
		return -EINVAL;
	}
	if (image->direct)
		flags |= O_DIRECT;
	/* The kernel's own lock: refuses what is mounted, and keeps it from being mounted. */
	if (!image->read_only && S_ISBLK(info.st_mode))
		flags |= O_EXCL;
	image->fd = open(path, flags);
	if (image->fd < 0 || fstat(image->fd, &info) < 0)
		return open_failed(image, errno);
	image->is_device = S_ISBLK(info.st_mode);
	image->in_memory = !image->is_device && fstatfs(image->fd, &file_system) == 0 &&
			   file_system.f_type == TMPFS_MAGIC;
	image->physical_block_size = (uint32_t)MIN((uint64_t)info.st_blksize, PHYSICAL_BLOCK_MAX);
	return 0;
}

/*
 * Whole-file open-file-description lock: exclusive to write, shared to read. It belongs to this
 * open, so that two devices of one VM clash as well; and it meets the byte locks of QEMU.
 */
static int image_lock(struct block_image *image)
{
	struct flock lock = { .l_type = (short)(image->read_only ? F_RDLCK : F_WRLCK),
			      .l_whence = SEEK_SET };
	int error;

	if (image->fd < 0 || fcntl(image->fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	error = errno;
	if (error != EAGAIN && error != EACCES) {
		log_warning(image->log,
			    "%s: cannot lock the image: %s (make sure that nothing else uses it)",
			    image->name, strerror(error));
		return 0;
	}
	log_error(image->log,
		  "%s: image is in use, most likely by another VM or another device of this one "
		  "(stop that one; to share an image, every user must attach it with \",ro\")",
		  image->name);
	return -EBUSY;
}

int block_image_size(const struct block_image *image, uint64_t *size)
{
	struct stat info;

	if (image->fd < 0) {
		*size = image->null_size;
	} else if (image->is_device) {
		if (ioctl(image->fd, BLKGETSIZE64, size) < 0)
			return -errno;
	} else {
		if (fstat(image->fd, &info) < 0)
			return -errno;
		*size = (uint64_t)info.st_size;
	}
	*size -= *size % image->offset_alignment;
	return 0;
}

/* The smallest read that works; for kernels and file systems that do not tell by statx(). */
static uint32_t probe_direct_alignment(int fd)
{
	uint32_t alignment = LOGICAL_BLOCK_MIN;
	void *buffer = aligned_alloc(BLOCK_ALIGNMENT_MAX, BLOCK_ALIGNMENT_MAX);

	while (buffer && alignment < BLOCK_ALIGNMENT_MAX && pread(fd, buffer, alignment, 0) <= 0)
		alignment *= 2;
	free(buffer);
	/* None: an empty file; what all known file systems are content with then. */
	return buffer && alignment < BLOCK_ALIGNMENT_MAX ? alignment : LOGICAL_BLOCK_MAX;
}

static int image_direct_alignment(struct block_image *image)
{
	uint32_t memory = 0, offset = 0;

	if (image->is_device)
		offset = image->logical_block_size;
#ifdef STATX_DIOALIGN
	struct statx info;

	if (!image->is_device && statx(image->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &info) == 0 &&
	    info.stx_mask & STATX_DIOALIGN) {
		if (!info.stx_dio_offset_align)
			return open_failed(image, EINVAL);
		memory = info.stx_dio_mem_align;
		offset = info.stx_dio_offset_align;
	}
#endif
	if (!offset)
		offset = probe_direct_alignment(image->fd);
	if (!memory)
		memory = offset;
	if (!is_power_of_2(offset) || offset > BLOCK_ALIGNMENT_MAX || !is_power_of_2(memory) ||
	    memory > BLOCK_ALIGNMENT_MAX)
		return open_failed(image, EINVAL);
	image->offset_alignment = offset;
	image->memory_alignment = memory;
	return 0;
}

/* Without direct I/O a partial last block would be lost or, written, grow the file. */
static int image_check_size(struct block_image *image)
{
	struct stat info;

	if (fstat(image->fd, &info) < 0)
		return open_failed(image, errno);
	if (image->is_device || info.st_size % image->offset_alignment == 0)
		return 0;
	log_error(
		image->log,
		"%s: size %lld is not a multiple of %u bytes, which direct I/O needs (enlarge the "
		"image with truncate -s %%%u, or leave out \",direct\")",
		image->name, (long long)info.st_size, image->offset_alignment,
		image->offset_alignment);
	return -EINVAL;
}

static int device_block_sizes(struct block_image *image)
{
	unsigned int physical = 0;
	int logical = 0;

	if (ioctl(image->fd, BLKSSZGET, &logical) < 0 ||
	    ioctl(image->fd, BLKPBSZGET, &physical) < 0)
		return open_failed(image, errno);
	image->logical_block_size = (uint32_t)logical;
	image->physical_block_size = physical;
	return 0;
}

/*
 * A file's logical block is 512 bytes whatever lies beneath, because that is what partition
 * tables in images count in; guests align to the physical one.
 */
static int image_block_sizes(struct block_image *image)
{
	int error = 0;

	image->logical_block_size = LOGICAL_BLOCK_MIN;
	if (image->fd < 0)
		return 0;
	if (image->is_device)
		error = device_block_sizes(image);
	if (!error && image->direct)
		error = image_direct_alignment(image);
	if (error)
		return error;

	image->logical_block_size = MIN(image->logical_block_size, (uint32_t)LOGICAL_BLOCK_MAX);
	image->physical_block_size = MAX(image->physical_block_size, image->offset_alignment);
	if (!is_power_of_2(image->physical_block_size) ||
	    image->physical_block_size < image->logical_block_size)
		image->physical_block_size = image->logical_block_size;
	return image_check_size(image);
}

/* Asks for what nothing has to be done for: a hole behind the end, or a misaligned discard. */
static bool image_probe_discard(const struct block_image *image)
{
	const uint64_t misaligned[2] = { 1, 1 };
	struct stat info;

	if (image->read_only)
		return false;
	if (image->fd < 0)
		return true;
	if (image->is_device)
		return ioctl(image->fd, BLKDISCARD, misaligned) == 0 || errno == EINVAL;
	return fstat(image->fd, &info) == 0 &&
	       fallocate(image->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, info.st_size,
			 (off_t)LOGICAL_BLOCK_MAX) == 0;
}

int block_image_open(struct block_image *image, struct logger *log, const char *what,
		     const struct block_config *config)
{
	int error;

	memset(image, 0, sizeof(*image));
	image->log = log;
	image->fd = -1;
	image->read_only = config->read_only;
	image->direct = config->direct;
	image->offset_alignment = 1;
	image->memory_alignment = 1;
	pthread_mutex_init(&image->flush_lock, NULL);
	pthread_mutex_init(&image->ranges_lock, NULL);
	pthread_cond_init(&image->ranges_changed, NULL);

	if (asprintf(&image->name, "%s,%s", what, config->path) < 0) {
		image->name = NULL;
		error = -ENOMEM;
		log_error(log, "%s: cannot open %s: out of memory", what, config->path);
	} else {
		error = image_open_file(image, config->path);
	}
	if (!error)
		error = image_lock(image);
	if (!error)
		error = image_block_sizes(image);
	if (error) {
		block_image_close(image);
		return error;
	}
	image->can_discard = image_probe_discard(image);
	return 0;
}

void block_image_close(struct block_image *image)
{
	if (image->fd >= 0)
		close(image->fd); /* and with it the lock */
	free(image->name);
	pthread_cond_destroy(&image->ranges_changed);
	pthread_mutex_destroy(&image->ranges_lock);
	pthread_mutex_destroy(&image->flush_lock);
}
