/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Unit tests of block_backend.h: every operation, alignment, failures of the host, the image lock,
 * resizing.
 */
#include <linux/loop.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "block_lab.h"

/* What fdatasync() of this process does: as ever, or fail once, slowly, as the kernel tells of an error once. */
static struct {
	bool fails_once;
	unsigned int calls;
} fdatasync_is;

int fdatasync(int fd)
{
	unsigned int call = __atomic_fetch_add(&fdatasync_is.calls, 1, __ATOMIC_RELAXED);

	if (!fdatasync_is.fails_once)
		return (int)syscall(SYS_fdatasync, fd);
	if (call)
		return 0;
	usleep(100000);
	errno = EIO;
	return -1;
}

/* ---- Operations ---- */

static void test_info(void **state)
{
	struct fixture *fixture = *state;
	struct block_info info;

	open_block(fixture, false, false);
	block_get_info(fixture->block, &info);
	assert_int_equal(info.size, IMAGE_SIZE);
	assert_int_equal(info.logical_block_size, 512);
	assert_true(is_power_of_2(info.physical_block_size));
	assert_true(info.physical_block_size >= 512);
	assert_false(info.read_only);

	close_block(fixture);
	open_block(fixture, true, false);
	block_get_info(fixture->block, &info);
	assert_true(info.read_only);
	assert_false(info.can_discard);
}

static void test_write_read(void **state)
{
	struct fixture *fixture = *state;
	uint8_t out[8 * SECTOR], in[8 * SECTOR] = {};
	struct iovec pieces[] = { { in, 1 }, { in + 1, 511 }, { in + 512, 0 }, { in + 512, 3584 } };
	struct block_request request = {
		.op = BLOCK_READ, .iov = pieces, .iov_count = 4, .offset = 3 * SECTOR
	};

	open_block(fixture, false, false);
	fill(out, sizeof(out), 1);
	assert_int_equal(run_data(fixture, BLOCK_WRITE, out, sizeof(out), 3 * SECTOR), 0);
	assert_file(fixture, 3 * SECTOR, out, sizeof(out));
	assert_int_equal(run(fixture, &request), 0);
	assert_memory_equal(in, out, sizeof(in));
	assert_int_equal(run_range(fixture, BLOCK_FLUSH, 0, 0, false), 0);
	assert_int_equal(run_range(fixture, BLOCK_READ, IMAGE_SIZE, 0, false), 0);
	assert_int_equal(fixture->batches, fixture->done);
}

static void test_sync(void **state)
{
	struct fixture *fixture = *state;
	uint8_t out[SECTOR];
	struct iovec iov = { out, sizeof(out) };
	struct block_request write = {
		.op = BLOCK_WRITE, .sync = true, .iov = &iov, .iov_count = 1, .offset = SECTOR
	};
	struct block_request zeroes = {
		.op = BLOCK_WRITE_ZEROES, .sync = true, .offset = SECTOR, .length = SECTOR
	};

	open_block(fixture, false, false);
	fill(out, sizeof(out), 2);
	assert_int_equal(run(fixture, &write), 0);
	assert_file(fixture, SECTOR, out, sizeof(out));
	assert_int_equal(run(fixture, &zeroes), 0);
	memset(out, 0, sizeof(out));
	assert_file(fixture, SECTOR, out, sizeof(out));
}

/* More iovecs than one system call takes. */
static void test_many_iovecs(void **state)
{
	enum { COUNT = IOV_MAX + 500 };
	struct fixture *fixture = *state;
	uint8_t *out = malloc(COUNT * SECTOR), *in = calloc(COUNT, SECTOR);
	struct iovec iov[COUNT];
	struct block_request request = { .iov = iov, .iov_count = COUNT, .offset = SECTOR };

	open_block(fixture, false, false);
	fill(out, COUNT * SECTOR, 3);
	for (int i = 0; i < COUNT; i++)
		iov[i] = (struct iovec) { out + i * SECTOR, SECTOR };
	request.op = BLOCK_WRITE;
	assert_int_equal(run(fixture, &request), 0);
	assert_file(fixture, SECTOR, out, COUNT * SECTOR);

	for (int i = 0; i < COUNT; i++)
		iov[i].iov_base = in + i * SECTOR;
	request.op = BLOCK_READ;
	request.length = 0;
	assert_int_equal(run(fixture, &request), 0);
	assert_memory_equal(in, out, COUNT * SECTOR);
	free(in);
	free(out);
}

static uint64_t file_blocks(struct fixture *fixture)
{
	struct stat info;

	assert_int_equal(stat(fixture->path, &info), 0);
	return (uint64_t)info.st_blocks;
}

static void test_discard(void **state)
{
	struct fixture *fixture = *state;
	uint8_t *data = malloc(MIB(1));
	struct block_info info;
	uint64_t before;

	open_block(fixture, false, false);
	block_get_info(fixture->block, &info);
	if (!info.can_discard) {
		print_message("no holes on the file system of %s\n", fixture->path);
		free(data);
		skip();
	}
	fill(data, MIB(1), 4);
	assert_int_equal(run_data(fixture, BLOCK_WRITE, data, MIB(1), 0), 0);
	assert_int_equal(run_range(fixture, BLOCK_FLUSH, 0, 0, false), 0);
	before = file_blocks(fixture);
	assert_int_equal(run_range(fixture, BLOCK_DISCARD, KIB(64), KIB(512), false), 0);
	assert_true(file_blocks(fixture) < before);
	memset(data + KIB(64), 0, KIB(512));
	assert_file(fixture, 0, data, MIB(1));
	free(data);
}

static void write_zeroes_everywhere(struct fixture *fixture, bool unmap)
{
	uint8_t *data = malloc(MIB(2));

	fill(data, MIB(2), 5);
	assert_int_equal(run_data(fixture, BLOCK_WRITE, data, MIB(2), SECTOR), 0);
	assert_int_equal(run_range(fixture, BLOCK_WRITE_ZEROES, 3 * SECTOR, MIB(1) + SECTOR, unmap),
			 0);
	memset(data + 2 * SECTOR, 0, MIB(1) + SECTOR);
	assert_file(fixture, SECTOR, data, MIB(2));
	free(data);
}

static void test_write_zeroes(void **state)
{
	struct fixture *fixture = *state;

	open_block(fixture, false, false);
	write_zeroes_everywhere(fixture, false);
	write_zeroes_everywhere(fixture, true);
	/* As on a file system that can do neither. */
	fixture->block->image.no_zero_range = true;
	fixture->block->image.can_discard = false;
	write_zeroes_everywhere(fixture, false);
	write_zeroes_everywhere(fixture, true);
}

/* tmpfs has holes but no FALLOC_FL_ZERO_RANGE. */
static void test_write_zeroes_tmpfs(void **state)
{
	struct fixture *fixture = *state;

	if (access("/dev/shm", W_OK) < 0) {
		print_message("no /dev/shm\n");
		skip();
	}
	unlink(fixture->path);
	image_create(fixture, "/dev/shm", IMAGE_SIZE);
	open_block(fixture, false, false);
	write_zeroes_everywhere(fixture, false);
	write_zeroes_everywhere(fixture, true);
}

/* ---- Refusals ---- */

static void test_ranges(void **state)
{
	struct fixture *fixture = *state;
	uint8_t data[2 * SECTOR] = { 1 };

	open_block(fixture, false, false);
	assert_int_equal(run_data(fixture, BLOCK_READ, data, sizeof(data), IMAGE_SIZE - SECTOR),
			 -EIO);
	assert_int_equal(run_data(fixture, BLOCK_WRITE, data, sizeof(data), IMAGE_SIZE - SECTOR),
			 -EIO);
	assert_int_equal(
		run_data(fixture, BLOCK_WRITE, data, sizeof(data), UINT64_MAX - SECTOR + 1), -EIO);
	assert_int_equal(run_range(fixture, BLOCK_DISCARD, SECTOR, UINT64_MAX, false), -EIO);
	assert_int_equal(run_range(fixture, BLOCK_WRITE_ZEROES, IMAGE_SIZE, 1, false), -EIO);
	assert_int_equal(fixture->captured.count,
			 0); /* a guest's mistakes are not the host's news */
}

static void test_read_only(void **state)
{
	struct fixture *fixture = *state;
	uint8_t data[SECTOR] = { 1 }, zero[SECTOR] = {};

	open_block(fixture, true, false);
	assert_int_equal(run_data(fixture, BLOCK_WRITE, data, sizeof(data), 0), -EROFS);
	assert_int_equal(run_range(fixture, BLOCK_DISCARD, 0, SECTOR, false), -EROFS);
	assert_int_equal(run_range(fixture, BLOCK_WRITE_ZEROES, 0, SECTOR, true), -EROFS);
	assert_int_equal(run_data(fixture, BLOCK_READ, data, sizeof(data), 0), 0);
	assert_memory_equal(data, zero, sizeof(zero));
	assert_int_equal(run_range(fixture, BLOCK_FLUSH, 0, 0, false), 0);
}

static void test_open_errors(void **state)
{
	struct fixture *fixture = *state;

	assert_null(try_open(fixture, "/nonexistent/disk.img", false, false));
	assert_int_equal(errno, ENOENT);
	assert_true(logged(fixture, "virtio-blk,/nonexistent/disk.img: cannot open for writing: "
				    "No such file or directory (check the path"));
	assert_null(try_open(fixture, "/tmp", false, false));
	assert_true(logged(fixture, "virtio-blk,/tmp: cannot open: neither a regular file"));
	assert_null(try_open(fixture, "/dev/null", true, false));
	assert_int_equal(errno, EINVAL);
	assert_int_equal(fixture->captured.count, 3);
}

static void test_open_unwritable(void **state)
{
	struct fixture *fixture = *state;

	if (geteuid() == 0) {
		print_message("root may write to everything\n");
		skip();
	}
	assert_int_equal(chmod(fixture->path, 0400), 0);
	assert_null(try_open(fixture, fixture->path, false, false));
	assert_int_equal(errno, EACCES);
	assert_true(logged(fixture, "Permission denied (add \",ro\" to attach it read-only)"));
	open_block(fixture, true, false);
}

static void test_lock(void **state)
{
	struct fixture *fixture = *state;
	struct block_backend *other;

	open_block(fixture, false, false);
	assert_null(try_open(fixture, fixture->path, false, false));
	assert_int_equal(errno, EBUSY);
	assert_true(logged(fixture, "image is in use, most likely by another VM"));
	assert_null(try_open(fixture, fixture->path, true, false));
	assert_int_equal(errno, EBUSY);

	close_block(fixture);
	open_block(fixture, true, false);
	other = try_open(fixture, fixture->path, true, false);
	assert_non_null(other);
	assert_null(try_open(fixture, fixture->path, false, false));
	assert_int_equal(errno, EBUSY);
	block_close(other);

	close_block(fixture);
	open_block(fixture, false, false);
}

/* ---- The host fails ---- */

static void test_truncated_image(void **state)
{
	struct fixture *fixture = *state;
	uint8_t data[4 * SECTOR];
	struct block_info info;

	open_block(fixture, false, false);
	assert_int_equal(truncate(fixture->path, 1000), 0);
	assert_int_equal(run_data(fixture, BLOCK_READ, data, sizeof(data), 0), -EIO);
	assert_true(logged(fixture, "read of 2048 bytes at 0 failed: Input/output error "
				    "(the image became shorter while in use)"));
	/* It was the reason to look. */
	block_get_info(fixture->block, &info);
	assert_int_equal(info.size, 1000);
	assert_int_equal(fixture->resizes, 1);
	assert_int_equal(run_data(fixture, BLOCK_READ, data, SECTOR, 0), 0);
	assert_int_equal(run_data(fixture, BLOCK_READ, data, SECTOR, SECTOR), -EIO);
}

static void test_truncated_image_direct(void **state)
{
	struct fixture *fixture = *state;
	uint8_t *data = aligned_alloc(KIB(64), KIB(64));

	open_block(fixture, false, true);
	assert_int_equal(truncate(fixture->path, 5000), 0);
	assert_int_equal(run_data(fixture, BLOCK_READ, data, KIB(64), 0), -EIO);
	free(data);
}

/* Replace the file under the back end by something that fails in the right way. */
static int replace_fd(struct fixture *fixture, const char *path)
{
	int saved = dup(fixture->block->image.fd), other = open(path, O_RDWR | O_CLOEXEC);

	assert_true(saved >= 0 && other >= 0);
	assert_true(dup2(other, fixture->block->image.fd) >= 0);
	close(other);
	return saved;
}

/* An engine may keep hold of the file that there was when the queue was opened. */
static void reopen_queue(struct fixture *fixture, int saved)
{
	close_queue(fixture);
	assert_true(dup2(saved, fixture->block->image.fd) >= 0);
	close(saved);
	open_queue(fixture);
}

static void test_no_space(void **state)
{
	struct fixture *fixture = *state;
	uint8_t data[SECTOR] = { 1 };
	int saved;

	open_block_only(fixture, false, false);
	saved = replace_fd(fixture, "/dev/full");
	open_queue(fixture);
	assert_int_equal(run_data(fixture, BLOCK_WRITE, data, sizeof(data), 0), -ENOSPC);
	assert_true(
		logged(fixture, "write of 512 bytes at 0 failed: No space left on device (make"));
	reopen_queue(fixture, saved);
	assert_int_equal(run_data(fixture, BLOCK_WRITE, data, sizeof(data), 0), 0);
	assert_file(fixture, 0, data, sizeof(data));
}

/* What a failed flush lost is not brought back by a later one that succeeds. */
static void test_flush_error_is_final(void **state)
{
	struct fixture *fixture = *state;
	int saved;

	open_block(fixture, false, false);
	assert_int_equal(run_range(fixture, BLOCK_FLUSH, 0, 0, false), 0);
	close_queue(fixture);
	saved = replace_fd(fixture, "/dev/null");
	open_queue(fixture);
	assert_int_equal(run_range(fixture, BLOCK_FLUSH, 0, 0, false), -EINVAL);
	reopen_queue(fixture, saved);
	assert_int_equal(run_range(fixture, BLOCK_FLUSH, 0, 0, false), -EINVAL);
	assert_true(logged(fixture, "flushes go on failing"));
}

static void wait_done(struct fixture *fixture, unsigned int count)
{
	while (fixture->done < count)
		event_loop_poll(fixture->loop, WAIT_MS);
}

/* Of those in flight when it fails none claims otherwise, though the kernel tells only one of them. */
static void test_flush_error_is_of_all(void **state)
{
	enum { COUNT = 4 };
	struct block_request requests[COUNT];
	struct fixture *fixture = *state;

	open_block(fixture, false, false);
	fdatasync_is.calls = 0;
	fdatasync_is.fails_once = true;
	start_many(fixture, requests, COUNT, &(struct block_request) { .op = BLOCK_FLUSH });
	wait_done(fixture, COUNT);
	fdatasync_is.fails_once = false;
	for (unsigned int i = 0; i < COUNT; i++)
		assert_int_equal(requests[i].error, -EIO);
	assert_int_equal(fdatasync_is.calls, 1);
}

/* A queue whose flushes take time, on a ring. */
static void open_ring(struct fixture *fixture)
{
	open_block(fixture, false, false);
	if (!fixture->block->image.in_memory)
		return;
	print_message("flushes take no time on the file system of %s\n", fixture->path);
	skip();
}

/* So a ring has one at a time; the others are the pool's. */
static void test_flush_one_in_ring(void **state)
{
	struct fixture *fixture = *state;
	struct block_request requests[2];

	open_ring(fixture);
	fdatasync_is.calls = 0;
	for (unsigned int i = 1; i < 5; i++) {
		start_many(fixture, requests, 2, &(struct block_request) { .op = BLOCK_FLUSH });
		wait_done(fixture, 2 * i);
		assert_int_equal(fixture->last_error, 0);
		assert_int_equal(fdatasync_is.calls, i);
	}
}

/* What others saw while it was in the ring counts when it ends. */
static void test_flush_error_in_flight(void **state)
{
	struct fixture *fixture = *state;
	static uint8_t data[IMAGE_SIZE];
	struct block_request request;

	open_ring(fixture);
	assert_int_equal(run_data(fixture, BLOCK_WRITE, data, IMAGE_SIZE, 0), 0);
	start_many(fixture, &request, 1, &(struct block_request) { .op = BLOCK_FLUSH });
	assert_int_equal(fixture->done, 1);
	fixture->block->image.flush_error = -EDQUOT;
	wait_done(fixture, 2);
	assert_int_equal(request.error, -EDQUOT);
}

/* In a child: its limits are its own. Returns what a write at 64 KiB ended with. */
static int write_in_child(struct fixture *fixture, int (*prepare)(struct fixture *fixture))
{
	int status = 0;
	pid_t child;

	need_engine(fixture);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		uint8_t *data = calloc(1, MIB(1));

		if (prepare(fixture) < 0)
			_exit(255);
		fixture->block = try_open(fixture, fixture->path, false, false);
		if (!fixture->block)
			_exit(254);
		open_queue(fixture);
		_exit(-run_data(fixture, BLOCK_WRITE, data, MIB(1), KIB(64)) & 127);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int limit_file_size(struct fixture *fixture)
{
	const struct rlimit limit = { KIB(128), KIB(128) };

	return setrlimit(RLIMIT_FSIZE, &limit);
}

static void test_file_size_limit(void **state)
{
	assert_int_equal(write_in_child(*state, limit_file_size), EFBIG);
}

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));

	close(fd);
	return n < 0 ? -1 : 0;
}

/* A tmpfs that nobody else sees; it takes no rights to make one. */
static int small_tmpfs(struct fixture *fixture)
{
	char user[64], group[64];

	snprintf(user, sizeof(user), "0 %u 1", geteuid());
	snprintf(group, sizeof(group), "0 %u 1", getegid());
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0 ||
	    write_file("/proc/self/setgroups", "deny") < 0 ||
	    write_file("/proc/self/uid_map", user) < 0 ||
	    write_file("/proc/self/gid_map", group) < 0 ||
	    mount("tenon", "/mnt", "tmpfs", 0, "size=256k") < 0)
		return -1;
	snprintf(fixture->path, sizeof(fixture->path), "/mnt/disk.img");
	close(open(fixture->path, O_RDWR | O_CREAT, 0600));
	return truncate(fixture->path, IMAGE_SIZE);
}

static void test_full_file_system(void **state)
{
	int result = write_in_child(*state, small_tmpfs);

	if (result == 255) {
		print_message("cannot mount a tmpfs in a user namespace\n");
		skip();
	}
	assert_int_equal(result, ENOSPC);
}

/* ---- Resize ---- */

static void resize(const char *path, off_t size)
{
	int fd = open(path, O_WRONLY);

	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
}

static void test_resize(void **state)
{
	struct fixture *fixture = *state;
	uint8_t data[SECTOR] = { 1 };
	struct block_info info;

	open_block(fixture, false, false);
	assert_int_equal(run_data(fixture, BLOCK_WRITE, data, SECTOR, 0), 0);
	resize(fixture->path, 2 * IMAGE_SIZE);
	event_loop_poll(fixture->loop, WAIT_MS);
	assert_int_equal(fixture->resizes, 1);
	block_get_info(fixture->block, &info);
	assert_int_equal(info.size, 2 * IMAGE_SIZE);
	assert_int_equal(run_data(fixture, BLOCK_WRITE, data, SECTOR, IMAGE_SIZE), 0);
	assert_true(logged(fixture, "size changed from 4194304 to 8388608 bytes"));

	/* Written to from outside, but not resized. */
	resize(fixture->path, 2 * IMAGE_SIZE);
	event_loop_poll(fixture->loop, WAIT_MS);
	assert_int_equal(fixture->resizes, 1);
	resize(fixture->path, IMAGE_SIZE);
	event_loop_poll(fixture->loop, WAIT_MS);
	assert_int_equal(fixture->resizes, 2);
}

/* truncate() closes nothing. */
static void test_resize_by_path(void **state)
{
	struct fixture *fixture = *state;

	open_block(fixture, false, false);
	assert_int_equal(truncate(fixture->path, 2 * IMAGE_SIZE), 0);
	assert_int_equal(run_range(fixture, BLOCK_FLUSH, 0, 0, false), 0);
	assert_int_equal(fixture->resizes, 1);

	close_block(fixture);
	open_block(fixture, true, false);
	assert_int_equal(truncate(fixture->path, IMAGE_SIZE), 0);
	event_loop_poll(fixture->loop, WAIT_MS);
	assert_int_equal(fixture->resizes, 2);
}

/* ---- Direct I/O ---- */

static void test_direct_odd_size(void **state)
{
	struct fixture *fixture = *state;

	open_block(fixture, false, true);
	if (fixture->block->image.offset_alignment == 1)
		skip();
	close_block(fixture);
	assert_int_equal(truncate(fixture->path, 100001), 0);
	assert_null(try_open(fixture, fixture->path, false, true));
	assert_int_equal(errno, EINVAL);
	assert_true(logged(fixture, "size 100001 is not a multiple of"));
}

struct random {
	uint64_t state;
};

static uint64_t random_below(struct random *random, uint64_t limit)
{
	random->state =
		random->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (random->state >> 20) % limit;
}

/* One random request of @sectors, applied to @shadow as well. */
static void random_step(struct fixture *fixture, struct random *random, uint8_t *shadow,
			uint8_t *memory, unsigned int step)
{
	static const uint64_t lengths[] = { 1, 2, 7, 8, 64, 100, 1100 };
	uint64_t length = lengths[random_below(random, ARRAY_SIZE(lengths))] * SECTOR;
	uint64_t offset = random_below(random, (IMAGE_SIZE - length) / SECTOR + 1) * SECTOR;
	uint8_t *data = memory + random_below(random, 3) * (random_below(random, 2) ? 512 : 1);
	size_t cut = random_below(random, length);
	struct iovec iov[2] = { { data, cut }, { data + cut, length - cut } };
	struct block_request request = { .iov = iov, .iov_count = 2, .offset = offset };

	switch (random_below(random, 4)) {
	case 0:
		request.op = BLOCK_READ;
		assert_int_equal(run(fixture, &request), 0);
		assert_memory_equal(data, shadow + offset, length);
		return;
	case 1:
		request = (struct block_request) { .op = BLOCK_WRITE_ZEROES,
						   .offset = offset,
						   .length = length,
						   .unmap = random_below(random, 2) };
		assert_int_equal(run(fixture, &request), 0);
		memset(shadow + offset, 0, length);
		return;
	default:
		request.op = BLOCK_WRITE;
		request.sync = random_below(random, 16) == 0;
		fill(data, length, step);
		assert_int_equal(run(fixture, &request), 0);
		memcpy(shadow + offset, data, length);
	}
}

/* Any mix of aligned and misaligned requests does what it would do to memory. */
static void random_requests(struct fixture *fixture, unsigned int steps)
{
	uint8_t *shadow = calloc(1, IMAGE_SIZE), *memory = aligned_alloc(4096, MIB(1));
	struct random random = { .state = steps };

	for (unsigned int i = 0; i < steps; i++)
		random_step(fixture, &random, shadow, memory, i);
	assert_file(fixture, 0, shadow, IMAGE_SIZE);
	free(shadow);
	free(memory);
}

static void test_random(void **state)
{
	open_block(*state, false, false);
	random_requests(*state, 300);
}

static void test_random_direct(void **state)
{
	open_block(*state, false, true);
	random_requests(*state, 301);
}

/* As on a disk with 4096-byte blocks, also where the file system can only punch or only write. */
static void test_random_direct_4k(void **state)
{
	struct fixture *fixture = *state;

	open_block(fixture, false, true);
	fixture->block->image.offset_alignment = 4096;
	fixture->block->image.memory_alignment = 4096;
	random_requests(fixture, 302);
	close_block(fixture);
	assert_int_equal(truncate(fixture->path, 0), 0);
	assert_int_equal(truncate(fixture->path, IMAGE_SIZE), 0);
	open_block(fixture, false, true);
	fixture->block->image.offset_alignment = 4096;
	fixture->block->image.no_zero_range = true;
	fixture->block->image.can_discard = false;
	random_requests(fixture, 303);
}

/* Neighbours in one block, written at the same time, both survive. */
static void test_read_modify_write(void **state)
{
	enum { COUNT = 64, ROUNDS = 20 };
	struct fixture *fixture = *state;
	uint8_t *data = malloc(COUNT * SECTOR);
	struct block_request requests[COUNT];
	struct iovec iov[COUNT];

	open_block(fixture, false, true);
	fixture->block->image.offset_alignment = 4096;
	for (unsigned int round = 0; round < ROUNDS; round++) {
		fill(data, COUNT * SECTOR, round);
		pthread_mutex_lock(&fixture->lock);
		for (unsigned int i = 0; i < COUNT; i++) {
			iov[i] = (struct iovec) { data + i * SECTOR, SECTOR };
			requests[i] = (struct block_request) { .op = BLOCK_WRITE,
							       .iov = &iov[i],
							       .iov_count = 1,
							       .offset = i * SECTOR,
							       .length = SECTOR };
			submit(fixture, &requests[i]);
		}
		block_drain(fixture->queue);
		pthread_mutex_unlock(&fixture->lock);
		assert_int_equal(fixture->last_error, 0);
		assert_file(fixture, 0, data, COUNT * SECTOR);
	}
	free(data);
}

/* ---- Block devices ---- */

/* A loop device with 4096-byte blocks on the fixture's file; the last close ends it. */
static int loop_device(struct fixture *fixture, char *path, size_t path_size)
{
	struct loop_config config = { .block_size = 4096, .info.lo_flags = LO_FLAGS_AUTOCLEAR };
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), number, fd;

	number = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
	close(control);
	snprintf(path, path_size, "/dev/loop%d", number);
	fd = number < 0 ? -1 : open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -1;
	config.fd = (uint32_t)open(fixture->path, O_RDWR | O_CLOEXEC);
	if (ioctl(fd, LOOP_CONFIGURE, &config) < 0) {
		close(fd);
		fd = -1;
	}
	close((int)config.fd);
	return fd;
}

static void device_requests(struct fixture *fixture, const char *path, bool direct)
{
	char file[PATH_MAX];
	struct block_info info;

	fixture->block = try_open(fixture, path, false, direct);
	assert_non_null(fixture->block);
	assert_null(try_open(fixture, path, false, direct));
	assert_int_equal(errno, EBUSY);
	open_queue(fixture);
	block_get_info(fixture->block, &info);
	assert_int_equal(info.size, IMAGE_SIZE);
	assert_int_equal(info.logical_block_size, 4096);

	memcpy(file, fixture->path, sizeof(file));
	snprintf(fixture->path, sizeof(fixture->path), "%s", path);
	write_zeroes_everywhere(fixture, true);
	write_zeroes_everywhere(fixture, false);
	assert_int_equal(run_range(fixture, BLOCK_WRITE_ZEROES, 0, IMAGE_SIZE, true), 0);
	random_requests(fixture, 300 + direct);
	if (info.can_discard)
		assert_int_equal(run_range(fixture, BLOCK_DISCARD, SECTOR, KIB(64), false), 0);
	assert_int_equal(run_range(fixture, BLOCK_DISCARD, SECTOR, SECTOR, false), 0);
	memcpy(fixture->path, file, sizeof(file));
	close_block(fixture);
}

static void test_block_device(void **state)
{
	struct fixture *fixture = *state;
	char path[64];
	int fd;

	need_engine(fixture);
	fd = loop_device(fixture, path, sizeof(path));
	if (fd < 0) {
		print_message("cannot make a loop device: %s\n", strerror(errno));
		skip();
	}
	device_requests(fixture, path, false);
	device_requests(fixture, path, true);
	fixture->block = try_open(fixture, path, true, false);
	assert_non_null(fixture->block);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_EACH_ENGINE(test_info),
		ON_EACH_ENGINE(test_write_read),
		ON_EACH_ENGINE(test_sync),
		ON_EACH_ENGINE(test_many_iovecs),
		ON_EACH_ENGINE(test_discard),
		ON_EACH_ENGINE(test_write_zeroes),
		ON_EACH_ENGINE(test_write_zeroes_tmpfs),
		ON_EACH_ENGINE(test_ranges),
		ON_EACH_ENGINE(test_read_only),
		ON_EACH_ENGINE(test_open_errors),
		ON_EACH_ENGINE(test_open_unwritable),
		ON_EACH_ENGINE(test_lock),
		ON_EACH_ENGINE(test_truncated_image),
		ON_EACH_ENGINE(test_truncated_image_direct),
		ON_EACH_ENGINE(test_no_space),
		ON_EACH_ENGINE(test_flush_error_is_final),
		cmocka_unit_test_setup_teardown(test_flush_error_is_of_all, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flush_one_in_ring, setup_uring, teardown),
		cmocka_unit_test_setup_teardown(test_flush_error_in_flight, setup_uring, teardown),
		ON_EACH_ENGINE(test_file_size_limit),
		ON_EACH_ENGINE(test_full_file_system),
		ON_EACH_ENGINE(test_resize),
		ON_EACH_ENGINE(test_resize_by_path),
		ON_EACH_ENGINE(test_direct_odd_size),
		ON_EACH_ENGINE(test_random),
		ON_EACH_ENGINE(test_random_direct),
		ON_EACH_ENGINE(test_random_direct_4k),
		ON_EACH_ENGINE(test_read_modify_write),
		ON_EACH_ENGINE(test_block_device),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
