/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kvm_vcpu.c: the vCPUs' threads: running guest code, handling its exits, parking.
 *
 * A thread is parked while it waits in park(), outside KVM_RUN and outside vm_io(). To park it,
 * another thread sets run->immediate_exit and sends KICK_SIGNAL: if the vCPU is about to enter
 * KVM_RUN, the flag makes that return at once; if it is in it, the signal does. KVM_RUN completes
 * a read that the guest is waiting for before it looks at the flag (KVM API 5, immediate_exit), so
 * a parked vCPU has no access half done.
 */
#include "kvm.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "thread.h"

#define KICK_SIGNAL SIGRTMIN

/* The signal's only purpose is to end a system call. */
static void on_kick(int signal)
{
}

static void handle_pio(struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	struct io_request request = {
		.type = IO_PIO,
		.write = run->io.direction == KVM_EXIT_IO_OUT,
		.size = run->io.size,
		.addr = run->io.port,
	};

	/* More than one for string instructions; the kernel keeps it to a page. */
	for (uint32_t i = 0; i < run->io.count; i++, data += request.size) {
		request.value = request.write ? bytes_get(data, request.size) : 0;
		vm_io(vcpu->ctx, &request);
		if (!request.write)
			bytes_put(data, request.size, request.value);
	}
}

/* Largest access that vm_io() knows in @left bytes: an access that crosses pages may have 3. */
static unsigned int access_size(unsigned int left)
{
	return left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

static void handle_mmio(struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	unsigned int len = MIN(run->mmio.len, sizeof(run->mmio.data));
	struct io_request request = { .type = IO_MMIO, .write = run->mmio.is_write };

	for (unsigned int done = 0; done < len; done += request.size) {
		request.size = access_size(len - done);
		request.addr = run->mmio.phys_addr + done;
		request.value = request.write ? bytes_get(&run->mmio.data[done], request.size) : 0;
		vm_io(vcpu->ctx, &request);
		if (!request.write)
			bytes_put(&run->mmio.data[done], request.size, request.value);
	}
}

/* Something that no guest and no device model should see; the VM ends. */
static bool fail(struct kvm_vcpu *vcpu, const char *what)
{
	log_error(vcpu->ctx->log, "kvm: CPU %u: %s at address 0x%llx (see the host's kernel log)",
		  vcpu->id, what, (unsigned long long)kvm_arch_vcpu_pc(vcpu));
	vm_request(vcpu->ctx, VM_REQUEST_INTERNAL, 0);
	return false;
}

static void describe_instruction(const struct kvm_run *run, char *text, size_t size)
{
	size_t count =
		MIN(run->emulation_failure.insn_size, sizeof(run->emulation_failure.insn_bytes));
	size_t used;

	text[0] = '\0';
	if (run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION || run->internal.ndata < 1 ||
	    !(run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES))
		return;
	used = snprintf(text, size, ", instruction");
	for (size_t i = 0; i < count && used + 4 <= size; i++)
		used += snprintf(text + used, size - used, " %02x",
				 run->emulation_failure.insn_bytes[i]);
}

static bool handle_internal_error(struct kvm_vcpu *vcpu)
{
	static const char *const names[] = {
		[KVM_INTERNAL_ERROR_EMULATION] = "instruction cannot be emulated",
		[KVM_INTERNAL_ERROR_SIMUL_EX] = "simultaneous exceptions",
		[KVM_INTERNAL_ERROR_DELIVERY_EV] = "event cannot be delivered",
		[KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON] = "unexpected exit of the processor",
	};
	uint32_t suberror = vcpu->run->internal.suberror;
	const char *name = suberror < ARRAY_SIZE(names) ? names[suberror] : NULL;
	char instruction[80];
	char text[200];

	describe_instruction(vcpu->run, instruction, sizeof(instruction));
	snprintf(text, sizeof(text), "KVM internal error %u (%s%s)", suberror,
		 name ? name : "unknown", instruction);
	return fail(vcpu, text);
}

static bool handle_fail_entry(struct kvm_vcpu *vcpu)
{
	char text[100];

	snprintf(text, sizeof(text), "the processor refuses the guest's state (reason 0x%llx)",
		 (unsigned long long)vcpu->run->fail_entry.hardware_entry_failure_reason);
	return fail(vcpu, text);
}

static bool handle_unknown(struct kvm_vcpu *vcpu)
{
	char text[100];

	snprintf(text, sizeof(text), "unexpected exit %u (hardware reason 0x%llx)",
		 vcpu->run->exit_reason, (unsigned long long)vcpu->run->hw.hardware_exit_reason);
	return fail(vcpu, text);
}

/* A triple fault: what becomes of the VM, and what is said of it, is the core's business. */
static bool handle_shutdown(struct kvm_vcpu *vcpu)
{
	log_debug(vcpu->ctx->log, "kvm: CPU %u: triple fault", vcpu->id);
	vm_request(vcpu->ctx, VM_REQUEST_CRASH, 0);
	return false;
}

static bool handle_system_event(struct kvm_vcpu *vcpu)
{
	switch (vcpu->run->system_event.type) {
	case KVM_SYSTEM_EVENT_SHUTDOWN:
		vm_request(vcpu->ctx, VM_REQUEST_POWEROFF, 0);
		return true;
	case KVM_SYSTEM_EVENT_RESET:
		vm_request(vcpu->ctx, VM_REQUEST_RESET, 0);
		return true;
	case KVM_SYSTEM_EVENT_CRASH:
		vm_request(vcpu->ctx, VM_REQUEST_CRASH, 0);
		return false;
	default:
		return handle_unknown(vcpu);
	}
}

/* False if the vCPU cannot go on. */
static bool handle_exit(struct kvm_vcpu *vcpu)
{
	switch (vcpu->run->exit_reason) {
	case KVM_EXIT_IO:
		handle_pio(vcpu);
		return true;
	case KVM_EXIT_MMIO:
		handle_mmio(vcpu);
		return true;
	case KVM_EXIT_INTR:
		return true;
	case KVM_EXIT_SHUTDOWN:
		return handle_shutdown(vcpu);
	case KVM_EXIT_SYSTEM_EVENT:
		return handle_system_event(vcpu);
	case KVM_EXIT_INTERNAL_ERROR:
		return handle_internal_error(vcpu);
	case KVM_EXIT_FAIL_ENTRY:
		return handle_fail_entry(vcpu);
	default:
		return handle_unknown(vcpu);
	}
}

static bool handle_run_error(struct kvm_vcpu *vcpu, int error)
{
	char text[100];

	snprintf(text, sizeof(text), "KVM_RUN: %s", strerror(error));
	return fail(vcpu, text);
}

/* Run until somebody wants it parked (true) or it cannot go on (false). */
static bool run_vcpu(struct kvm_vcpu *vcpu)
{
	for (;;) {
		if (ioctl(vcpu->fd, KVM_RUN, 0UL) == 0) {
			if (!handle_exit(vcpu))
				return false;
			continue;
		}
		/* EAGAIN: a CPU that waits for its start-up IPI was woken. */
		if (errno != EINTR && errno != EAGAIN)
			return handle_run_error(vcpu, errno);
		if (__atomic_load_n(&vcpu->run->immediate_exit, __ATOMIC_ACQUIRE))
			return true;
	}
}

/* Wait until the vCPU shall run; false: the thread shall end. vm->lock. */
static bool park(struct kvm_vcpu *vcpu)
{
	struct kvm_vm *vm = vcpu->vm;

	while (!vm->quit && (!vm->running || vcpu->dead))
		pthread_cond_wait(&vm->changed, &vm->lock);
	return !vm->quit;
}

static void *vcpu_thread(void *arg)
{
	struct kvm_vcpu *vcpu = arg;
	struct kvm_vm *vm = vcpu->vm;
	char name[16];
	bool alive;

	snprintf(name, sizeof(name), "vcpu%u", vcpu->id);
	pthread_setname_np(pthread_self(), name);

	pthread_mutex_lock(&vm->lock);
	while (park(vcpu)) {
		vcpu->active = true;
		vm->active_count++;
		__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_RELEASE);
		pthread_mutex_unlock(&vm->lock);

		alive = run_vcpu(vcpu);

		pthread_mutex_lock(&vm->lock);
		vcpu->dead = !alive;
		vcpu->active = false;
		vm->active_count--;
		pthread_cond_broadcast(&vm->changed);
	}
	pthread_mutex_unlock(&vm->lock);
	return NULL;
}

static int start_thread(struct kvm_vcpu *vcpu)
{
	int error = thread_start(&vcpu->thread, KICK_SIGNAL, vcpu_thread, vcpu);

	vcpu->has_thread = !error;
	return error;
}

int kvm_vcpu_start_threads(struct vmctx *ctx)
{
	/* No SA_RESTART: KVM_RUN must end. Every VM of a process installs the same handler. */
	struct sigaction action = { .sa_handler = on_kick };
	struct kvm_vm *vm = ctx->hv_data;
	int ret;

	sigemptyset(&action.sa_mask);
	if (sigaction(KICK_SIGNAL, &action, NULL)) {
		ret = -errno;
		log_error(ctx->log, "kvm: cannot install a signal handler: %s", strerror(-ret));
		return ret;
	}
	for (unsigned int i = 0; i < vm->vcpu_count; i++) {
		ret = start_thread(&vm->vcpus[i]);
		if (ret) {
			log_error(ctx->log,
				  "kvm: cannot start a thread for CPU %u: %s (raise ulimit -u)", i,
				  strerror(-ret));
			return ret;
		}
	}
	return 0;
}

int kvm_vcpu_start(struct vmctx *ctx)
{
	struct kvm_vm *vm = ctx->hv_data;

	pthread_mutex_lock(&vm->lock);
	vm->running = true;
	pthread_cond_broadcast(&vm->changed);
	pthread_mutex_unlock(&vm->lock);
	return 0;
}

static void pause_vm(struct kvm_vm *vm)
{
	struct kvm_vcpu *vcpu;

	pthread_mutex_lock(&vm->lock);
	vm->running = false;
	for (unsigned int i = 0; i < vm->vcpu_count; i++) {
		vcpu = &vm->vcpus[i];
		if (!vcpu->active)
			continue;
		__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_RELEASE);
		pthread_kill(vcpu->thread, KICK_SIGNAL);
	}
	while (vm->active_count)
		pthread_cond_wait(&vm->changed, &vm->lock);
	pthread_mutex_unlock(&vm->lock);
}

void kvm_vcpu_pause(struct vmctx *ctx)
{
	pause_vm(ctx->hv_data);
}

void kvm_vcpu_join_threads(struct kvm_vm *vm)
{
	pause_vm(vm);
	pthread_mutex_lock(&vm->lock);
	vm->quit = true;
	pthread_cond_broadcast(&vm->changed);
	pthread_mutex_unlock(&vm->lock);
	for (unsigned int i = 0; i < vm->vcpu_count; i++) {
		if (vm->vcpus[i].has_thread)
			pthread_join(vm->vcpus[i].thread, NULL);
	}
}
