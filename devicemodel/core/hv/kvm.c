/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kvm.c: the KVM port: finding KVM, making and ending a VM, its memory.
 *
 * "KVM API" in comments is the kernel's Documentation/virt/kvm/api.rst.
 */
#include "kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "options.h"

/* clang-format off */
static const struct option_desc kvm_options[] = {
	{ "pit", OPTION_ENUM, .offset = offsetof(struct kvm_vm, pit), .def = "kernel",
	  .choices = "kernel|user",
	  .help = "kernel: KVM's PIT and no HPET; user: tenon's, as on ACRN" },
	{},
};
/* clang-format on */

static const struct kvm_capability needed[] = {
	{ KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY" },
	{ KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP" },
	{ KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE" },
	{ KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING" },
	{ KVM_CAP_IRQFD, "KVM_CAP_IRQFD" },
	{ KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD" },
	{ KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI" },
	{ KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT" },
	{ 0, NULL },
};

int kvm_ioctl(int fd, unsigned long request, const void *arg)
{
	int ret;

	do {
		ret = ioctl(fd, request, arg);
	} while (ret < 0 && errno == EINTR);
	return ret < 0 ? -errno : ret;
}

int kvm_set_up(struct vmctx *ctx, int fd, unsigned long request, const void *arg, const char *name)
{
	int ret = kvm_ioctl(fd, request, arg);

	if (ret < 0)
		log_error(ctx->log, "kvm: %s: %s (see the host's kernel log)", name,
			  strerror(-ret));
	return ret;
}

static int check_capabilities(int fd, struct logger *log, const struct kvm_capability *cap)
{
	for (; cap->name; cap++) {
		if (ioctl(fd, KVM_CHECK_EXTENSION, (unsigned long)cap->id) > 0)
			continue;
		if (log)
			log_error(log,
				  "/dev/kvm: the host's KVM lacks %s (use Linux 5.15 or later)",
				  cap->name);
		return -EOPNOTSUPP;
	}
	return 0;
}

static int check_kvm(int fd, struct logger *log)
{
	int version = ioctl(fd, KVM_GET_API_VERSION, 0UL);
	int ret;

	if (version != KVM_API_VERSION) {
		if (log)
			log_error(log, "/dev/kvm: API version %d, not %d (use Linux 5.15 or later)",
				  version, KVM_API_VERSION);
		return -EOPNOTSUPP;
	}
	ret = check_capabilities(fd, log, needed);
	if (ret)
		return ret;
	return check_capabilities(fd, log, kvm_arch_capabilities);
}

static void explain_open(struct logger *log, int error)
{
	switch (error) {
	case ENOENT:
	case ENODEV:
	case ENXIO:
		log_error(log, "no /dev/kvm: load kvm_intel or kvm_amd, or enable virtualisation "
			       "in the firmware");
		break;
	case EACCES:
	case EPERM:
		log_error(log, "/dev/kvm: %s (add yourself to group kvm)", strerror(error));
		break;
	default:
		log_error(log, "/dev/kvm: cannot open: %s", strerror(error));
	}
}

/* A checked /dev/kvm or -errno; says why not if there is a @log. */
static int open_kvm(struct logger *log)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int ret;

	if (fd < 0) {
		ret = -errno;
		if (log)
			explain_open(log, -ret);
		return ret;
	}
	ret = check_kvm(fd, log);
	if (ret) {
		close(fd);
		return ret;
	}
	return fd;
}

static bool kvm_available(struct logger *log)
{
	int fd = open_kvm(log);

	if (fd < 0)
		return false;
	close(fd);
	return true;
}

static int create_vcpu(struct vmctx *ctx, struct kvm_vm *vm, unsigned int id)
{
	struct kvm_vcpu *vcpu = &vm->vcpus[id];
	int ret;

	/* KVM API 4.7: the argument is the id itself; on x86 it is the APIC id. */
	ret = kvm_set_up(ctx, vm->vm_fd, KVM_CREATE_VCPU, (void *)(uintptr_t)id, "KVM_CREATE_VCPU");
	if (ret < 0)
		return ret;
	*vcpu = (struct kvm_vcpu) { .ctx = ctx, .vm = vm, .id = id, .fd = ret };
	vm->vcpu_count++;

	vcpu->run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED) {
		ret = -errno;
		vcpu->run = NULL;
		log_error(ctx->log, "kvm: cannot map vCPU %u: %s", id, strerror(-ret));
		return ret;
	}
	return kvm_arch_vcpu_create(vcpu);
}

static int create_vcpus(struct vmctx *ctx, struct kvm_vm *vm)
{
	unsigned int count = ctx->config.cpu_count;
	int max = ioctl(vm->vm_fd, KVM_CHECK_EXTENSION, (unsigned long)KVM_CAP_MAX_VCPUS);
	int ret;

	if (max <= 0 || max > VM_CPUS_MAX)
		max = VM_CPUS_MAX;
	if (!count || count > (unsigned int)max) {
		log_error(ctx->log, "kvm: cannot give the VM %u CPUs (use 1 to %d)", count, max);
		return -EINVAL;
	}
	for (unsigned int id = 0; id < count; id++) {
		ret = create_vcpu(ctx, vm, id);
		if (ret)
			return ret;
	}
	return 0;
}

static int create_vm(struct vmctx *ctx, struct kvm_vm *vm)
{
	struct option_set set = { .table = kvm_options, .object = vm };
	int ret = options_parse(ctx->log, "--hv kvm", ctx->config.hv_options, &set, 1);

	if (ret)
		return ret;
	ctx->needs_timers = vm->pit == KVM_PIT_USER;
	vm->kvm_fd = open_kvm(ctx->log);
	if (vm->kvm_fd < 0)
		return vm->kvm_fd;

	ret = kvm_set_up(ctx, vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL, "KVM_GET_VCPU_MMAP_SIZE");
	if (ret < 0)
		return ret;
	vm->run_size = ret;

	vm->vm_fd = kvm_set_up(ctx, vm->kvm_fd, KVM_CREATE_VM, NULL, "KVM_CREATE_VM");
	if (vm->vm_fd < 0)
		return vm->vm_fd;

	vm->any_length = ioctl(vm->vm_fd, KVM_CHECK_EXTENSION,
			       (unsigned long)KVM_CAP_IOEVENTFD_ANY_LENGTH) > 0;
	ret = kvm_arch_vm_create(ctx);
	if (ret)
		return ret;
	ret = kvm_irq_init(ctx);
	if (ret)
		return ret;
	ret = create_vcpus(ctx, vm);
	if (ret)
		return ret;
	return kvm_vcpu_start_threads(ctx);
}

static void destroy_vcpu(struct kvm_vm *vm, struct kvm_vcpu *vcpu)
{
	kvm_arch_vcpu_destroy(vcpu);
	if (vcpu->run)
		munmap(vcpu->run, vm->run_size);
	close(vcpu->fd);
}

static void kvm_destroy(struct vmctx *ctx)
{
	struct kvm_vm *vm = ctx->hv_data;

	if (!vm)
		return;
	kvm_vcpu_join_threads(vm);
	for (unsigned int i = 0; i < vm->vcpu_count; i++)
		destroy_vcpu(vm, &vm->vcpus[i]);
	kvm_irq_deinit(vm);
	kvm_arch_vm_destroy(vm);
	if (vm->vm_fd >= 0)
		close(vm->vm_fd);
	if (vm->kvm_fd >= 0)
		close(vm->kvm_fd);
	pthread_mutex_destroy(&vm->route_lock);
	pthread_cond_destroy(&vm->changed);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
	ctx->hv_data = NULL;
}

static int kvm_create(struct vmctx *ctx)
{
	struct kvm_vm *vm = calloc(1, sizeof(*vm));
	int ret;

	if (!vm) {
		log_error(ctx->log, "kvm: out of memory");
		return -ENOMEM;
	}
	vm->kvm_fd = -1;
	vm->vm_fd = -1;
	pthread_mutex_init(&vm->lock, NULL);
	pthread_cond_init(&vm->changed, NULL);
	pthread_mutex_init(&vm->route_lock, NULL);
	ctx->hv_data = vm;

	ret = create_vm(ctx, vm);
	if (ret)
		kvm_destroy(ctx);
	return ret;
}

static int kvm_add_memory(struct vmctx *ctx, const struct guest_memory_region *region)
{
	struct kvm_vm *vm = ctx->hv_data;
	struct kvm_userspace_memory_region slot = {
		.slot = vm->memory_slots,
		.guest_phys_addr = region->gpa,
		.memory_size = region->size,
		.userspace_addr = (uintptr_t)region->host,
	};
	int ret;

	ret = kvm_ioctl(vm->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot);
	if (ret < 0) {
		log_error(ctx->log, "kvm: cannot show the guest %llu MiB of memory at 0x%llx: %s",
			  (unsigned long long)region->size >> 20, (unsigned long long)region->gpa,
			  strerror(-ret));
		return ret;
	}
	vm->memory_slots++;
	return 0;
}

static int kvm_set_boot_cpu(struct vmctx *ctx, const struct hv_cpu_state *state)
{
	struct kvm_vm *vm = ctx->hv_data;

	return kvm_arch_vcpu_boot(&vm->vcpus[0], state);
}

static int kvm_reset(struct vmctx *ctx)
{
	struct kvm_vm *vm = ctx->hv_data;
	unsigned int active;

	pthread_mutex_lock(&vm->lock);
	active = vm->active_count;
	for (unsigned int i = 0; i < vm->vcpu_count && !active; i++)
		vm->vcpus[i].dead = false;
	pthread_mutex_unlock(&vm->lock);
	if (active)
		return -EBUSY;
	return kvm_arch_reset(ctx);
}

const struct hv_ops hv_kvm = {
	.name = "kvm",
	.summary = "Linux KVM",
	.device = "/dev/kvm",
	.private_memory = true,
	.options = kvm_options,
	.available = kvm_available,
	.create = kvm_create,
	.destroy = kvm_destroy,
	.add_memory = kvm_add_memory,
	.set_boot_cpu = kvm_set_boot_cpu,
	.start = kvm_vcpu_start,
	.pause = kvm_vcpu_pause,
	.reset = kvm_reset,
	.irq_line = kvm_irq_line,
	.msi = kvm_irq_msi,
	.ioeventfd = kvm_irq_ioeventfd,
	.irqfd_add = kvm_irq_irqfd_add,
	.irqfd_update = kvm_irq_irqfd_update,
	.irqfd_remove = kvm_irq_irqfd_remove,
};
