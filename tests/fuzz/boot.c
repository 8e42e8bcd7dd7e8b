/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * boot: kernel files, bzImage and ELF. The last two bytes of the input say what else is given: a
 * ramdisk, and how long the command line is.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/fuzz_machine.h"

#define RAM_SIZE MIB(4)
#define RAMDISK_SIZE KIB(200)

struct boot_files {
	struct machine *machine;
	int kernel, ramdisk;
	char kernel_path[32], ramdisk_path[32];
	char bootargs[0x10100];
};

static int file_create(char *path, size_t path_size)
{
	int fd = memfd_create("fuzz-boot", MFD_CLOEXEC);

	assert_true(fd >= 0);
	snprintf(path, path_size, "/proc/self/fd/%d", fd);
	return fd;
}

static struct boot_files *files_create(void)
{
	const struct machine_config config = { .memory_size = RAM_SIZE };
	struct boot_files *files = calloc(1, sizeof(*files));
	struct guest_memory *memory;

	assert_non_null(files);
	files->machine = machine_create(&config);
	fuzz_log_swallow(files->machine);
	files->kernel = file_create(files->kernel_path, sizeof(files->kernel_path));
	files->ramdisk = file_create(files->ramdisk_path, sizeof(files->ramdisk_path));
	assert_int_equal(ftruncate(files->ramdisk, RAMDISK_SIZE), 0);
	memset(files->bootargs, 'a', sizeof(files->bootargs));
	/* Heap memory, so that the sanitizer sees who leaves it. */
	memory = &files->machine->ctx->memory;
	guest_memory_destroy(memory);
	memory->regions[0].host = calloc(1, RAM_SIZE);
	assert_non_null(memory->regions[0].host);
	files->machine->ctx->config.kernel = files->kernel_path;
	files->machine->ctx->config.bootargs = files->bootargs;
	return files;
}

static void check_state(const struct hv_cpu_state *state)
{
	if (state->rip < MIB(1) || state->rip >= RAM_SIZE + 0x200)
		fuzz_fail("the entry point 0x%llx is not in the kernel",
			  (unsigned long long)state->rip);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct boot_files *files; /* libFuzzer hands nothing through */
	struct hv_cpu_state state;
	struct vmctx *ctx;
	size_t args;

	if (!files)
		files = files_create();
	if (size < 2)
		return -1;
	ctx = files->machine->ctx;
	ctx->config.ramdisk = data[size - 1] & 1 ? files->ramdisk_path : NULL;
	args = (size_t)data[size - 2] << (data[size - 1] >> 1) % 9;
	size -= 2;
	files->bootargs[args] = '\0';
	if (ftruncate(files->kernel, 0) < 0 ||
	    pwrite(files->kernel, data, size, 0) != (ssize_t)size)
		fuzz_fail("the kernel file cannot be written: %m");
	if (!arch_load(ctx, &state))
		check_state(&state);
	files->bootargs[args] = 'a';
	return 0;
}
