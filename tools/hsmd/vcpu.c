/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vcpu.c: the vCPUs' threads. They run from START_VM to PAUSE_VM; a paused VM can only be reset
 * (as on ACRN), so a thread that is stopped half way through an access ends there.
 */
#include "hsmd.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define KICK_SIGNAL SIGRTMIN
#define KICK_AGAIN_NS 10000000
#define NS_PER_SECOND 1000000000

/* What ACRN turns a triple fault into: a write to PM1a_CNT that asks for S5. */
#define PM1A_CNT_PORT 0x404
#define PM1A_CNT_S5 (1u << 13 | 5u << 10)

static unsigned int thread_count; /* atomic */

unsigned int vcpu_thread_count(void)
{
	return __atomic_load_n(&thread_count, __ATOMIC_RELAXED);
}

int vcpu_create(struct vm *vm, unsigned int id)
{
	struct vcpu *vcpu = &vm->vcpus[id];
	void *run;
	int ret;

	*vcpu = (struct vcpu) { .vm = vm, .id = id, .fd = -1 };
	ret = kvm_call(vm->fd, KVM_CREATE_VCPU, (void *)(uintptr_t)id);
	if (ret < 0) {
		log_line(LOG_ERROR, "VM %u: KVM_CREATE_VCPU: %s", vm->id, strerror(-ret));
		return ret;
	}
	vcpu->fd = ret;
	run = mmap(NULL, vm->hsmd->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (run == MAP_FAILED) {
		ret = -errno;
		log_line(LOG_ERROR, "VM %u: cannot map a vCPU: %s", vm->id, strerror(-ret));
		return ret;
	}
	vcpu->run = run;
	ret = cpuid_set(vcpu);
	return ret ? ret : cpu_state_firmware(vcpu);
}

void vcpu_destroy(struct vcpu *vcpu)
{
	if (!vcpu->vm)
		return;
	if (vcpu->run)
		munmap(vcpu->run, vcpu->vm->hsmd->run_size);
	if (vcpu->fd >= 0)
		close(vcpu->fd);
	*vcpu = (struct vcpu) { .fd = -1 };
}

/* ---- Exits */

static uint64_t get_bytes(const uint8_t *data, unsigned int size)
{
	uint64_t value = 0;

	memcpy(&value, data, size); /* little-endian, as x86 is */
	return value;
}

static void put_bytes(uint8_t *data, unsigned int size, uint64_t value)
{
	memcpy(data, &value, size);
}

static int carry_out(struct vcpu *vcpu, struct acrn_io_request *request)
{
	if (ioeventfd_handle(&vcpu->vm->events, request))
		return 0;
	return ioreq_submit(&vcpu->vm->ioreq, vcpu->id, request);
}

static int access_port(struct vcpu *vcpu, uint16_t port, bool write, uint8_t *data,
		       unsigned int size)
{
	struct acrn_io_request request = {
		.type = ACRN_IOREQ_TYPE_PORTIO,
		.reqs.pio_request = {
			.direction = write ? ACRN_IOREQ_DIR_WRITE : ACRN_IOREQ_DIR_READ,
			.address = port,
			.size = size,
			.value = write ? (uint32_t)get_bytes(data, size) : 0,
		},
	};
	int ret = carry_out(vcpu, &request);

	if (!ret && !write)
		put_bytes(data, size, request.reqs.pio_request.value);
	return ret;
}

static int access_memory(struct vcpu *vcpu, uint64_t address, bool write, uint8_t *data,
			 unsigned int size)
{
	struct acrn_io_request request = {
		.type = ACRN_IOREQ_TYPE_MMIO,
		.reqs.mmio_request = {
			.direction = write ? ACRN_IOREQ_DIR_WRITE : ACRN_IOREQ_DIR_READ,
			.address = address,
			.size = size,
			.value = write ? get_bytes(data, size) : 0,
		},
	};
	int ret = carry_out(vcpu, &request);

	if (!ret && !write)
		put_bytes(data, size, request.reqs.mmio_request.value);
	return ret;
}

static int handle_pio(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	bool write = run->io.direction == KVM_EXIT_IO_OUT;
	int ret = 0;

	/* More than one for string instructions. */
	for (uint32_t i = 0; !ret && i < run->io.count; i++, data += run->io.size)
		ret = access_port(vcpu, run->io.port, write, data, run->io.size);
	return ret;
}

/* What is left of an access across a page border may be 3, 5, 6 or 7 bytes. */
static unsigned int access_size(unsigned int left)
{
	return left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

static int handle_mmio(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	unsigned int size;
	int ret = 0;

	for (unsigned int done = 0; !ret && done < run->mmio.len; done += size) {
		size = access_size(run->mmio.len - done);
		ret = access_memory(vcpu, run->mmio.phys_addr + done, run->mmio.is_write,
				    &run->mmio.data[done], size);
	}
	return ret;
}

/* The vCPU ends here, and the device model is asked to power the VM off. */
static int handle_shutdown(struct vcpu *vcpu)
{
	uint8_t value[2];
	int ret;

	log_line(LOG_WARNING, "VM %u: vCPU %u: triple fault", vcpu->vm->id, vcpu->id);
	put_bytes(value, sizeof(value), PM1A_CNT_S5);
	ret = access_port(vcpu, PM1A_CNT_PORT, true, value, sizeof(value));
	return ret ? ret : -ESHUTDOWN;
}

static int handle_failure(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	struct kvm_regs regs = { 0 };

	kvm_call(vcpu->fd, KVM_GET_REGS, &regs);
	log_line(LOG_ERROR,
		 "VM %u: vCPU %u: KVM cannot go on: exit %u (%u, 0x%llx) at 0x%llx (see the kernel "
		 "log)",
		 vcpu->vm->id, vcpu->id, run->exit_reason,
		 run->exit_reason == KVM_EXIT_INTERNAL_ERROR ? run->internal.suberror : 0,
		 (unsigned long long)run->hw.hardware_exit_reason, (unsigned long long)regs.rip);
	return handle_shutdown(vcpu);
}

/* Negative: the thread ends. */
static int handle_exit(struct vcpu *vcpu)
{
	switch (vcpu->run->exit_reason) {
	case KVM_EXIT_IO:
		return handle_pio(vcpu);
	case KVM_EXIT_MMIO:
		return handle_mmio(vcpu);
	case KVM_EXIT_INTR:
		return 0;
	case KVM_EXIT_SHUTDOWN:
		return handle_shutdown(vcpu);
	default:
		return handle_failure(vcpu);
	}
}

/* ---- Threads */

static int run_once(struct vcpu *vcpu)
{
	if (ioctl(vcpu->fd, KVM_RUN, 0UL) == 0)
		return handle_exit(vcpu);
	/* EAGAIN: a CPU that waits for its start-up IPI was woken. */
	if (errno == EINTR || errno == EAGAIN)
		return 0;
	log_line(LOG_ERROR, "VM %u: vCPU %u: KVM_RUN: %s", vcpu->vm->id, vcpu->id, strerror(errno));
	return handle_shutdown(vcpu);
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *vcpu = arg;
	char name[16];

	snprintf(name, sizeof(name), "vm%u-vcpu%u", vcpu->vm->id % 1000, vcpu->id);
	pthread_setname_np(pthread_self(), name);
	while (!__atomic_load_n(&vcpu->stop, __ATOMIC_ACQUIRE)) {
		if (run_once(vcpu) < 0)
			break;
	}
	__atomic_sub_fetch(&thread_count, 1, __ATOMIC_RELAXED);
	return NULL;
}

/* The signal's only purpose is to end KVM_RUN. */
static void on_kick(int signal)
{
}

int vcpu_install_signal(void)
{
	struct sigaction action = { .sa_handler = on_kick };

	sigemptyset(&action.sa_mask);
	return sigaction(KICK_SIGNAL, &action, NULL) ? -errno : 0;
}

/* vCPU n runs on the CPU of the n-th bit of the affinity, if there is such a CPU. */
static void pin(const struct vcpu *vcpu, pthread_attr_t *attr)
{
	uint64_t affinity = vcpu->vm->affinity;
	cpu_set_t set;
	int cpu;

	for (unsigned int i = 0; i < vcpu->id; i++)
		affinity &= affinity - 1;
	if (!affinity)
		return;
	cpu = __builtin_ctzll(affinity);
	if (!CPU_ISSET(cpu, &vcpu->vm->hsmd->cpus))
		return;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	pthread_attr_setaffinity_np(attr, sizeof(set), &set);
}

int vcpu_start_thread(struct vcpu *vcpu)
{
	pthread_attr_t attr;
	sigset_t mask;
	int error = pthread_attr_init(&attr);

	if (error)
		return -error;
	/* Signals for hsmd are the main thread's. */
	sigfillset(&mask);
	sigdelset(&mask, KICK_SIGNAL);
	pthread_attr_setsigmask_np(&attr, &mask);
	pin(vcpu, &attr);
	vcpu->stop = false;
	vcpu->run->immediate_exit = 0;
	__atomic_add_fetch(&thread_count, 1, __ATOMIC_RELAXED);
	error = pthread_create(&vcpu->thread, &attr, vcpu_thread, vcpu);
	pthread_attr_destroy(&attr);
	vcpu->has_thread = !error;
	if (error) {
		__atomic_sub_fetch(&thread_count, 1, __ATOMIC_RELAXED);
		log_line(LOG_ERROR, "VM %u: cannot start a thread: %s (raise ulimit -u)",
			 vcpu->vm->id, strerror(error));
	}
	return -error;
}

/* A signal may have come just before a system call that waits: another follows. */
static void join_thread(struct vcpu *vcpu)
{
	struct timespec until;
	int error;

	do {
		pthread_kill(vcpu->thread, KICK_SIGNAL);
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += KICK_AGAIN_NS;
		until.tv_sec += until.tv_nsec / NS_PER_SECOND;
		until.tv_nsec %= NS_PER_SECOND;
		error = pthread_clockjoin_np(vcpu->thread, NULL, CLOCK_MONOTONIC, &until);
	} while (error == ETIMEDOUT);
	vcpu->has_thread = false;
}

void vcpus_stop(struct vm *vm)
{
	ioreq_stop(&vm->ioreq);
	for (unsigned int i = 0; i < vm->vcpu_count; i++) {
		struct vcpu *vcpu = &vm->vcpus[i];

		if (!vcpu->has_thread)
			continue;
		__atomic_store_n(&vcpu->stop, true, __ATOMIC_RELEASE);
		/* About to enter KVM_RUN, the flag ends it; inside, the signal (KVM API 5). */
		__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_RELEASE);
	}
	for (unsigned int i = 0; i < vm->vcpu_count; i++) {
		if (vm->vcpus[i].has_thread)
			join_thread(&vm->vcpus[i]);
	}
}
