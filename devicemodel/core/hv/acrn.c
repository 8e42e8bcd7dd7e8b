/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * acrn.c: the ACRN port: finding the HSM, making and ending a VM, its memory.
 *
 * The order of calls is the one that real hypervisors were seen to take: CREATE_VM, SET_MEMSEG,
 * SET_VCPU_REGS, CREATE_IOREQ_CLIENT, START_VM; at the end PAUSE_VM, DESTROY_IOREQ_CLIENT, DESTROY_VM.
 */
#include "acrn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#ifdef HAVE_UUID
#include <uuid/uuid.h>
#endif

#include "options.h"

#define NAME_SIZE sizeof(guid_t) /* with the terminating zero */

/* clang-format off */
static const struct option_desc acrn_options[] = {
	{ "device", OPTION_STRING, .offset = offsetof(struct acrn_options, device),
	  .def = ACRN_DEVICE, .help = "the HSM's char device" },
	{ "uuid", OPTION_STRING, .offset = offsetof(struct acrn_options, uuid),
	  .help = "UUID by which older hypervisors know the VM, instead of its name" },
	{ "cpu_affinity", OPTION_UINT, .offset = offsetof(struct acrn_options, cpu_affinity),
	  .help = "bitmap of the host's CPUs, one for each of the VM's; 0: the first, or the scenario's" },
	{ "polling", OPTION_BOOL, .offset = offsetof(struct acrn_options, polling),
	  .help = "the hypervisor polls for the completion of I/O requests" },
	{ "lapic_pt", OPTION_BOOL, .offset = offsetof(struct acrn_options, lapic_pt),
	  .help = "the guest has the CPUs' local APICs; with rtvm" },
	{ "rtvm", OPTION_BOOL, .offset = offsetof(struct acrn_options, rtvm),
	  .help = "a real-time VM: polling, and nobody but the guest can stop it" },
	{},
};
/* clang-format on */

int acrn_ioctl(const struct acrn_vm *vm, unsigned long request, const void *arg)
{
	int ret;

	do {
		ret = ioctl(vm->fd, request, arg);
	} while (ret < 0 && errno == EINTR);
	return ret < 0 ? -errno : ret;
}

/* acrn_ioctl() while a VM is made, started or reset: one line in the log if it fails. */
static int set_up(struct acrn_vm *vm, unsigned long request, const void *arg, const char *name)
{
	int ret = acrn_ioctl(vm, request, arg);

	if (ret >= 0)
		return 0;
	log_error(vm->ctx->log, "acrn: %s: %s (see the kernel log)", name, strerror(-ret));
	return ret;
}

/* ---- The device */

static void explain_open(struct logger *log, const char *device, int error)
{
	switch (error) {
	case ENOENT:
	case ENODEV:
	case ENXIO:
		log_error(log,
			  "no %s: load acrn_hsm in a Service VM under the ACRN hypervisor, or "
			  "start hsmd where there is KVM (doc/hsmd.md)",
			  device);
		break;
	case EACCES:
	case EPERM:
		log_error(log, "%s: %s (run tenon as root, or change the device's owner)", device,
			  strerror(error));
		break;
	default:
		log_error(log, "%s: cannot open: %s", device, strerror(error));
	}
}

static int open_device(struct logger *log, const char *device)
{
	int fd = open(device, O_RDWR | O_CLOEXEC);
	int error = errno;

	if (fd >= 0)
		return fd;
	if (log)
		explain_open(log, device, error);
	return -error;
}

static bool acrn_available(struct logger *log)
{
	int fd = open_device(log, ACRN_DEVICE);

	if (fd < 0)
		return false;
	close(fd);
	return true;
}

/* ---- Making a VM */

static int parse_options(struct acrn_vm *vm)
{
	struct option_set set = { .table = acrn_options, .object = &vm->options };
	struct vm_config *config = &vm->ctx->config;
	int error = options_parse(vm->ctx->log, "--hv acrn", config->hv_options, &set, 1);

	if (error)
		return error;
	if (vm->options.lapic_pt && !vm->options.rtvm) {
		log_error(vm->ctx->log, "--hv acrn: lapic_pt needs rtvm");
		return -EINVAL;
	}
	return 0;
}

static uint64_t vm_flags(const struct acrn_vm *vm)
{
	uint64_t flags = vm->ctx->config.acrn_vm_flags;

	if (vm->options.polling)
		flags |= ACRN_VM_FLAG_IO_COMPLETION_POLLING;
	if (vm->options.rtvm)
		flags |= ACRN_VM_FLAG_RT | ACRN_VM_FLAG_IO_COMPLETION_POLLING;
	if (vm->options.lapic_pt)
		flags |= ACRN_VM_FLAG_LAPIC_PASSTHROUGH;
	return flags;
}

#ifdef HAVE_UUID
static int fill_uuid(struct acrn_vm *vm, const char *text, guid_t *id)
{
	uuid_t uuid;

	if (uuid_parse(text, uuid)) {
		log_error(
			vm->ctx->log,
			"acrn: %s is not a UUID (like 8 4 4 4 12 hexadecimal digits, with dashes)",
			text);
		return -EINVAL;
	}
	static_assert(sizeof(*id) == sizeof(uuid), "the 16 bytes of a UUID");
	memcpy(id, uuid, sizeof(uuid));
	return 0;
}
#else
static int fill_uuid(struct acrn_vm *vm, const char *text, guid_t *id)
{
	log_error(vm->ctx->log,
		  "acrn: UUID %s: tenon was built without libuuid (use the VM's name)", text);
	return -EOPNOTSUPP;
}
#endif

/* Newer hypervisors find the VM's configuration by its name, older ones by its UUID. */
static int fill_identity(struct acrn_vm *vm, guid_t *id)
{
	const char *uuid = vm->options.uuid ? vm->options.uuid : vm->ctx->config.uuid;
	const char *name = vm->ctx->config.name;
	size_t len = strlen(name);

	if (uuid)
		return fill_uuid(vm, uuid, id);
	if (len >= NAME_SIZE) {
		log_error(vm->ctx->log, "acrn: %s: a VM's name has %zu characters at most", name,
			  NAME_SIZE - 1);
		return -EINVAL;
	}
	memcpy(id, name, len);
	return 0;
}

/* How many CPUs there are is the hypervisor's decision. */
static int take_cpus(struct acrn_vm *vm, unsigned int count)
{
	struct vm_config *config = &vm->ctx->config;

	if (!count) {
		log_error(vm->ctx->log,
			  "acrn: the hypervisor gives %s no CPU (see cpu_affinity in --hv help)",
			  config->name);
		return -EINVAL;
	}
	if (count < config->cpu_count) {
		log_warning(vm->ctx->log,
			    "acrn: the hypervisor gives %s %u CPUs, not %u (see cpu_affinity in "
			    "--hv help)",
			    config->name, count, config->cpu_count);
		config->cpu_count = count;
	}
	if (count > config->cpu_count)
		log_info(vm->ctx->log,
			 "acrn: the hypervisor gives %s %u CPUs, of which it will use %u (give -c "
			 "%u for all)",
			 config->name, count, config->cpu_count, MIN(count, VM_CPUS_MAX));
	vm->vcpu_count = MIN(count, ACRN_IO_REQUEST_MAX);
	return 0;
}

static int create_page(struct acrn_vm *vm)
{
	void *page = mmap(NULL, sizeof(*vm->page), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int error = errno;

	if (page == MAP_FAILED) {
		log_error(vm->ctx->log, "acrn: no page for I/O requests: %s", strerror(error));
		return -error;
	}
	vm->page = page;
	/* All zero would mean: requests are pending. */
	for (unsigned int i = 0; i < ACRN_IO_REQUEST_MAX; i++)
		vm->page->req_slot[i].processed = ACRN_IOREQ_STATE_FREE;
	return 0;
}

static uint64_t chosen_affinity(const struct acrn_vm *vm)
{
	return vm->options.cpu_affinity ? vm->options.cpu_affinity : vm->ctx->config.cpu_affinity;
}

/*
 * There are as many CPUs as bits in the affinity, so without one the first CPUs of the host are
 * asked for. If the scenario has others for this VM, it gets all of those: that is what 0 means.
 */
static int request_vm(struct acrn_vm *vm, struct acrn_vm_creation *creation)
{
	int ret;

	creation->cpu_affinity = chosen_affinity(vm);
	if (!creation->cpu_affinity) {
		creation->cpu_affinity = BIT64(vm->ctx->config.cpu_count) - 1;
		ret = acrn_ioctl(vm, ACRN_IOCTL_CREATE_VM, creation);
		if (ret != -EINVAL)
			return ret;
		creation->cpu_affinity = 0;
	}
	return acrn_ioctl(vm, ACRN_IOCTL_CREATE_VM, creation);
}

static int create_vm(struct acrn_vm *vm)
{
	const struct vm_config *config = &vm->ctx->config;
	struct acrn_vm_creation creation = {
		.vm_flag = vm_flags(vm),
		.ioreq_buf = (uintptr_t)vm->page,
	};
	int ret = fill_identity(vm, &creation.uuid);

	if (ret)
		return ret;
	ret = request_vm(vm, &creation);
	if (ret < 0) {
		log_error(vm->ctx->log,
			  "acrn: the hypervisor does not make %s: %s (is the name one of the "
			  "scenario's, not in use, and cpu_affinity within its CPUs?)",
			  config->name, strerror(-ret));
		return ret;
	}
	vm->created = true;
	vm->vmid = creation.vmid;
	vm->ctx->vm_id = creation.vmid;
	return take_cpus(vm, creation.vcpu_num);
}

static int create_parts(struct acrn_vm *vm)
{
	int error = parse_options(vm);

	if (error)
		return error;
	vm->fd = open_device(vm->ctx->log, vm->options.device);
	if (vm->fd < 0)
		return vm->fd;
	error = create_page(vm);
	if (error)
		return error;
	return create_vm(vm);
}

static void acrn_destroy(struct vmctx *ctx)
{
	struct option_set set = { .table = acrn_options };
	struct acrn_vm *vm = ctx->hv_data;
	int ret = 0;

	if (!vm)
		return;
	acrn_ioreq_stop(vm);
	/* The hypervisor destroys only what is paused, also if it never ran. */
	if (vm->created && vm->state == ACRN_CREATED)
		(void)acrn_ioctl(vm, ACRN_IOCTL_PAUSE_VM, NULL);
	if (vm->created)
		ret = acrn_ioctl(vm, ACRN_IOCTL_DESTROY_VM, NULL);
	if (ret < 0)
		log_warning(ctx->log, "acrn: cannot destroy %s: %s (see the kernel log)",
			    ctx->config.name, strerror(-ret));
	if (vm->fd >= 0)
		close(vm->fd);
	if (vm->page)
		munmap(vm->page, sizeof(*vm->page));
	set.object = &vm->options;
	options_free(&set, 1);
	pthread_mutex_destroy(&vm->event_lock);
	pthread_mutex_destroy(&vm->line_lock);
	pthread_cond_destroy(&vm->changed);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
	ctx->hv_data = NULL;
}

static int acrn_create(struct vmctx *ctx)
{
	struct acrn_vm *vm = calloc(1, sizeof(*vm));
	int error;

	if (!vm) {
		log_error(ctx->log, "acrn: out of memory");
		return -ENOMEM;
	}
	vm->ctx = ctx;
	vm->fd = -1;
	pthread_mutex_init(&vm->lock, NULL);
	pthread_cond_init(&vm->changed, NULL);
	pthread_mutex_init(&vm->line_lock, NULL);
	pthread_mutex_init(&vm->event_lock, NULL);
	ctx->hv_data = vm;
	ctx->needs_timers = true;

	error = create_parts(vm);
	if (error)
		acrn_destroy(ctx);
	return error;
}

/* The driver pins the pages, and keeps them until the VM is destroyed. */
static int acrn_add_memory(struct vmctx *ctx, const struct guest_memory_region *region)
{
	struct acrn_vm_memmap map = {
		.type = ACRN_MEMMAP_RAM,
		.attr = ACRN_MEM_ACCESS_RWX | ACRN_MEM_TYPE_WB,
		.user_vm_pa = region->gpa,
		.vma_base = (uintptr_t)region->host,
		.len = region->size,
	};
	int ret = acrn_ioctl(ctx->hv_data, ACRN_IOCTL_SET_MEMSEG, &map);

	if (ret >= 0)
		return 0;
	log_error(
		ctx->log,
		"acrn: cannot show the guest %llu MiB of memory at 0x%llx: %s (give less with -m)",
		(unsigned long long)region->size >> 20, (unsigned long long)region->gpa,
		strerror(-ret));
	return ret;
}

/* ---- Its life */

static int acrn_set_boot_cpu(struct vmctx *ctx, const struct hv_cpu_state *state)
{
	struct acrn_vcpu_regs regs;

	acrn_arch_boot_regs(state, &regs);
	return set_up(ctx->hv_data, ACRN_IOCTL_SET_VCPU_REGS, &regs, "SET_VCPU_REGS");
}

static int acrn_start(struct vmctx *ctx)
{
	struct acrn_vm *vm = ctx->hv_data;
	int error = acrn_ioreq_start(vm);

	if (error)
		return error;
	acrn_ioreq_run(vm);
	error = set_up(vm, ACRN_IOCTL_START_VM, NULL, "START_VM");
	if (error)
		acrn_ioreq_pause(vm);
	else
		vm->state = ACRN_RUNNING;
	return error;
}

/*
 * Requests that come while the VM is being paused stay in their slots: they are served when it goes
 * on, or cleared by the reset.
 */
static void acrn_pause(struct vmctx *ctx)
{
	struct acrn_vm *vm = ctx->hv_data;
	int ret = 0;

	if (vm->state == ACRN_RUNNING) {
		ret = acrn_ioctl(vm, ACRN_IOCTL_PAUSE_VM, NULL);
		vm->state = ACRN_PAUSED;
	}
	if (ret < 0)
		log_warning(ctx->log, "acrn: PAUSE_VM: %s%s", strerror(-ret),
			    vm->options.rtvm ? " (a real-time VM stops by itself only)" : "");
	acrn_ioreq_pause(vm);
}

static int acrn_reset(struct vmctx *ctx)
{
	struct acrn_vm *vm = ctx->hv_data;
	bool busy;
	int error = 0;

	pthread_mutex_lock(&vm->lock);
	busy = vm->running || vm->handling;
	pthread_mutex_unlock(&vm->lock);
	if (busy)
		return -EBUSY;
	if (vm->state == ACRN_CREATED)
		error = set_up(vm, ACRN_IOCTL_PAUSE_VM, NULL, "PAUSE_VM");
	if (!error)
		error = set_up(vm, ACRN_IOCTL_CLEAR_VM_IOREQ, NULL, "CLEAR_VM_IOREQ");
	if (error)
		return error;
	acrn_irq_reset(vm);
	error = set_up(vm, ACRN_IOCTL_RESET_VM, NULL, "RESET_VM");
	if (!error)
		vm->state = ACRN_CREATED;
	return error;
}

const struct hv_ops hv_acrn = {
	.name = "acrn",
	.summary = "the HSM of the ACRN hypervisor",
	.options = acrn_options,
	.device = ACRN_DEVICE,
	.memory_pinned = true,
	.available = acrn_available,
	.create = acrn_create,
	.destroy = acrn_destroy,
	.add_memory = acrn_add_memory,
	.set_boot_cpu = acrn_set_boot_cpu,
	.start = acrn_start,
	.pause = acrn_pause,
	.reset = acrn_reset,
	.irq_line = acrn_irq_line,
	.msi = acrn_irq_msi,
	.ioeventfd = acrn_irq_ioeventfd,
	.irqfd_add = acrn_irq_irqfd_add,
	.irqfd_update = acrn_irq_irqfd_update,
	.irqfd_remove = acrn_irq_irqfd_remove,
};
