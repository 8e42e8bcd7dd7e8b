/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_stuck.c: clients whose memory is long in coming. They wait, and nobody else does. Until the
 * memory is there, who waits for hsmd cannot be killed: no test may fail before.
 */
#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE_SIZE_BYTES 4096
#define STUCK_CALLS 32 /* hsmd keeps eight threads */
#define OTHER_SECONDS 20

/* ---- Another client, in a process of its own: it has a VM, waits to be told, and needs hsmd. */
struct other {
	pid_t child;
	int ready[2], go[2];
};

static void other_run(struct other *other)
{
	struct machine first, second;
	char byte;

	machine_boot(&first, PROGRAM(sleep), REAL_MODE);
	machine_ready(&first);
	CHECK_EQUAL(write(other->ready[1], "", 1), 1);
	CHECK_EQUAL(read(other->go[0], &byte, 1), 1);
	CHECK(machine_idle(&first));
	machine_boot(&second, PROGRAM(sleep), REAL_MODE);
	machine_ready(&second);
	machine_close(&second);
	machine_close(&first);
	_exit(0);
}

static void other_start(struct other *other)
{
	char byte;

	CHECK_CALL(pipe(other->ready), 0);
	CHECK_CALL(pipe(other->go), 0);
	other->child = fork();
	if (!other->child)
		other_run(other);
	CHECK_EQUAL(read(other->ready[0], &byte, 1), 1);
}

/* Was it served? */
static bool other_went(struct other *other)
{
	int status = -1;

	if (write(other->go[1], "", 1) != 1)
		return false;
	for (unsigned int i = 0; i < OTHER_SECONDS * 20; i++) {
		if (waitpid(other->child, &status, WNOHANG) == other->child)
			return !status;
		wait_ms(50);
	}
	return false;
}

/* ---- Arguments: a page that is not there until it is filled */
struct gap {
	uint8_t *page;
	int fd;
};

static void gap_make(struct gap *gap)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register area = { .mode = UFFDIO_REGISTER_MODE_MISSING };

	gap->page = mmap(NULL, PAGE_SIZE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	CHECK(gap->page != MAP_FAILED);
	gap->fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	CHECK(gap->fd >= 0);
	CHECK_CALL(ioctl(gap->fd, UFFDIO_API, &api), 0);
	area.range.start = (uintptr_t)gap->page;
	area.range.len = PAGE_SIZE_BYTES;
	CHECK_CALL(ioctl(gap->fd, UFFDIO_REGISTER, &area), 0);
}

static void gap_fill(struct gap *gap)
{
	struct uffdio_zeropage zero = {
		.range = { .start = (uintptr_t)gap->page, .len = PAGE_SIZE_BYTES },
	};

	CHECK_CALL(ioctl(gap->fd, UFFDIO_ZEROPAGE, &zero), 0);
	close(gap->fd);
}

struct stuck_call {
	pthread_t thread;
	int fd;
	void *argument;
};

static void *stuck_thread(void *arg)
{
	struct stuck_call *call = arg;

	return (void *)call_result(ioctl(call->fd, ACRN_IOCTL_PM_GET_CPU_STATE, call->argument));
}

static unsigned int hsmd_threads(void)
{
	struct stat status;
	char path[64];

	if (!hsmd_pid)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/task", hsmd_pid);
	CHECK_CALL(stat(path, &status), 0);
	return (unsigned int)status.st_nlink - 2;
}

static void test_stuck_arguments(void)
{
	struct stuck_call calls[STUCK_CALLS];
	struct machine machine;
	unsigned int before;
	struct other other;
	struct gap gap;
	bool served;
	void *result;

	before = hsmd_threads();
	other_start(&other);
	machine_open(&machine, 0, 1);
	gap_make(&gap);
	for (unsigned int i = 0; i < STUCK_CALLS; i++) {
		calls[i] = (struct stuck_call) { .fd = machine.fd, .argument = gap.page };
		pthread_create(&calls[i].thread, NULL, stuck_thread, &calls[i]);
	}
	wait_ms(500);
	served = other_went(&other);
	gap_fill(&gap);
	for (unsigned int i = 0; i < STUCK_CALLS; i++) {
		pthread_join(calls[i].thread, &result);
		CHECK_EQUAL((long)result, -EPERM);
	}
	machine_close(&machine);
	CHECK(served);
	/* Those that came for it have gone. */
	for (unsigned int i = 0; i < 100 && hsmd_threads() != before; i++)
		wait_ms(50);
	CHECK_EQUAL(hsmd_threads(), before);
}

/* ---- The I/O request page: of a file whose server takes its time */
struct slow_file {
	char path[32];
	int server; /* /dev/fuse */
	int release[2]; /* reads are answered when the writing end is closed */
	pthread_t thread;
};

static void reply(int server, uint64_t unique, int error, const void *data, size_t size)
{
	struct fuse_out_header header = { .unique = unique,
					  .error = error,
					  .len = (uint32_t)(sizeof(header) + size) };
	struct iovec parts[] = {
		{ .iov_base = &header, .iov_len = sizeof(header) },
		{ .iov_base = (void *)(uintptr_t)data, .iov_len = size },
	};

	if (writev(server, parts, 2) < 0)
		perror("# /dev/fuse");
}

/* The mount's root is the file, of one page. */
static void *serve_slowly(void *arg)
{
	static const struct fuse_init_out init = { .major = FUSE_KERNEL_VERSION,
						   .minor = FUSE_KERNEL_MINOR_VERSION,
						   .max_write = PAGE_SIZE_BYTES };
	static const struct fuse_attr_out attributes = {
		.attr_valid = 3600,
		.attr = { .ino = FUSE_ROOT_ID,
			  .size = PAGE_SIZE_BYTES,
			  .mode = S_IFREG | 0600,
			  .nlink = 1 },
	};
	static const struct fuse_open_out opened;
	static const uint8_t page[PAGE_SIZE_BYTES];
	static _Alignas(8) uint8_t buffer[4 * FUSE_MIN_READ_BUFFER];
	const struct fuse_in_header *in = (const void *)buffer;
	struct slow_file *file = arg;
	char byte;

	while (read(file->server, buffer, sizeof(buffer)) > 0) {
		switch (in->opcode) {
		case FUSE_INIT:
			reply(file->server, in->unique, 0, &init, sizeof(init));
			break;
		case FUSE_GETATTR:
			reply(file->server, in->unique, 0, &attributes, sizeof(attributes));
			break;
		case FUSE_OPEN:
			reply(file->server, in->unique, 0, &opened, sizeof(opened));
			break;
		case FUSE_READ:
			if (read(file->release[0], &byte, 1) == 0)
				reply(file->server, in->unique, 0, page, sizeof(page));
			break;
		default:
			reply(file->server, in->unique, -ENOSYS, NULL, 0);
		}
	}
	return NULL;
}

static void slow_file_make(struct slow_file *file)
{
	char options[96];
	int fd;

	*file = (struct slow_file) { .path = "/tmp/hsmd-slow-XXXXXX" };
	fd = mkstemp(file->path);
	CHECK(fd >= 0);
	close(fd);
	CHECK_CALL(pipe(file->release), 0);
	file->server = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	CHECK(file->server >= 0);
	snprintf(options, sizeof(options), "fd=%d,rootmode=100000,user_id=0,group_id=0",
		 file->server);
	CHECK_CALL(mount("slow", file->path, "fuse", MS_NOSUID | MS_NODEV, options), 0);
	pthread_create(&file->thread, NULL, serve_slowly, file);
}

/* In place of @page. */
static void slow_file_map(const struct slow_file *file, void *page)
{
	int fd = open(file->path, O_RDONLY | O_CLOEXEC);
	struct stat status;

	CHECK(fd >= 0);
	CHECK_CALL(fstat(fd, &status), 0);
	CHECK_EQUAL(status.st_size, PAGE_SIZE_BYTES);
	CHECK(mmap(page, PAGE_SIZE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0) ==
	      page);
	close(fd);
}

/* The vCPU waits for the page. Meanwhile a signal ends another client's ATTACH. */
static void test_stuck_page(void)
{
	struct slow_file file;
	struct machine machine;
	struct access access;
	struct other other;
	bool served;

	other_start(&other);
	slow_file_make(&file);
	machine_open(&machine, 0, 1);
	machine_load(&machine, PROGRAM(spin), REAL_MODE);
	slow_file_map(&file, machine.page);
	CHECK_CALL(ioctl(machine.fd, ACRN_IOCTL_START_VM), 0);
	wait_ms(500);
	served = other_went(&other);
	close(file.release[1]);
	machine_next(&machine, NULL, &access);
	umount2(file.path, MNT_DETACH);
	unlink(file.path);
	CHECK_EQUAL(access.address, PORT_READY);
	CHECK(served);
	machine_close(&machine);
}

const struct test stuck_tests[] = {
	{ "stuck-arguments", test_stuck_arguments },
	{ "stuck-page", test_stuck_page },
	{ NULL, NULL },
};
