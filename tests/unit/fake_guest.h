/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fake_guest.h: what a test does with the HSM of fake_hsm.h: it makes a VM on it, plays the guest and
 * the hypervisor's half of the I/O request page, and looks at the calls that came.
 */
#ifndef TENON_TESTS_FAKE_GUEST_H
#define TENON_TESTS_FAKE_GUEST_H

#include <dirent.h>
#include <time.h>

#include "fake_hsm.h"

#define FAKE_PATIENCE_S 20

/* As after loading the module. */
static inline void fake_hsm_init(void)
{
	pthread_mutex_t lock = hsm.lock;
	pthread_cond_t changed = hsm.changed;

	memset(&hsm, 0, sizeof(hsm));
	hsm.lock = lock;
	hsm.changed = changed;
	snprintf(hsm.device, sizeof(hsm.device), "%s", FAKE_DEVICE);
	hsm.fd = -1;
	hsm.vcpu_num = 1;
}

static inline void fake_lock(void)
{
	pthread_mutex_lock(&hsm.lock);
}

static inline void fake_unlock(void)
{
	pthread_mutex_unlock(&hsm.lock);
}

/* From now on @request fails; 0: none does. */
static inline void fake_fail(unsigned long request, int error)
{
	fake_lock();
	hsm.fail_request = request;
	hsm.fail_error = error;
	fake_unlock();
}

/* The @at-th ioctl from now on fails; 0: none does. */
static inline void fake_fail_at(unsigned int at, int error)
{
	fake_lock();
	hsm.calls_made = 0;
	hsm.fail_at = at;
	hsm.fail_error = error;
	fake_unlock();
}

static inline struct timespec fake_deadline(unsigned int ms)
{
	struct timespec time;

	clock_gettime(CLOCK_REALTIME, &time);
	time.tv_nsec += ms % 1000 * 1000000L;
	time.tv_sec += ms / 1000 + time.tv_nsec / 1000000000;
	time.tv_nsec %= 1000000000;
	return time;
}

/* Wait, hsm.lock held, until @condition holds; fails the test after a while. */
#define fake_wait(condition)                                                                       \
	do {                                                                                       \
		struct timespec deadline_ = fake_deadline(FAKE_PATIENCE_S * 1000);                 \
		int error_ = 0;                                                                    \
		while (!(condition) && error_ != ETIMEDOUT)                                        \
			error_ = pthread_cond_timedwait(&hsm.changed, &hsm.lock, &deadline_);      \
		if (!(condition)) {                                                                \
			pthread_mutex_unlock(&hsm.lock);                                           \
			fail_msg("waited in vain for %s", #condition);                             \
		}                                                                                  \
	} while (0)

static inline uint32_t fake_state(unsigned int vcpu)
{
	return __atomic_load_n(&hsm.page->req_slot[vcpu].processed, __ATOMIC_ACQUIRE);
}

/* The hypervisor puts a request into the slot, and the driver gives it to the client. */
static inline void fake_submit(unsigned int vcpu, const struct acrn_io_request *request)
{
	struct acrn_io_request *slot = &hsm.page->req_slot[vcpu];

	fake_lock();
	__atomic_store_n(&slot->type, request->type, __ATOMIC_RELAXED);
	__atomic_store_n(&slot->completion_polling, request->completion_polling, __ATOMIC_RELAXED);
	for (unsigned int i = 0; i < ARRAY_SIZE(slot->reqs.data); i++)
		__atomic_store_n(&slot->reqs.data[i], request->reqs.data[i], __ATOMIC_RELAXED);
	__atomic_store_n(&slot->processed, ACRN_IOREQ_STATE_PENDING, __ATOMIC_RELEASE);
	__atomic_store_n(&slot->kernel_handled, request->kernel_handled, __ATOMIC_RELAXED);
	__atomic_store_n(&slot->processed, ACRN_IOREQ_STATE_PROCESSING, __ATOMIC_RELEASE);
	hsm.notified[vcpu] = false;
	hsm.pending |= BIT32(vcpu);
	pthread_cond_broadcast(&hsm.changed);
	fake_unlock();
}

/* The vCPU goes on: told, or by looking. */
static inline uint64_t fake_result(unsigned int vcpu)
{
	struct acrn_io_request *slot = &hsm.page->req_slot[vcpu];
	uint64_t value;

	if (slot->completion_polling) {
		for (int i = 0; i < FAKE_PATIENCE_S * 10000; i++) {
			if (fake_state(vcpu) == ACRN_IOREQ_STATE_COMPLETE)
				break;
			usleep(100);
		}
		fake_lock();
		if (!hsm.keep_pending)
			hsm.pending &= ~BIT32(vcpu);
		fake_unlock();
	} else {
		fake_lock();
		fake_wait(hsm.notified[vcpu]);
		fake_unlock();
	}
	assert_int_equal(fake_state(vcpu), ACRN_IOREQ_STATE_COMPLETE);
	value = slot->reqs.mmio_request.value;
	__atomic_store_n(&slot->processed, ACRN_IOREQ_STATE_FREE, __ATOMIC_RELEASE);
	return value;
}

static inline uint64_t fake_do(unsigned int vcpu, const struct acrn_io_request *request)
{
	fake_submit(vcpu, request);
	return fake_result(vcpu);
}

static inline struct acrn_io_request fake_access(uint32_t type, bool write, uint64_t addr,
						 uint64_t size, uint64_t value)
{
	struct acrn_io_request request;

	memset(&request, 0, sizeof(request));
	request.type = type;
	request.reqs.mmio_request.direction = write ? ACRN_IOREQ_DIR_WRITE : ACRN_IOREQ_DIR_READ;
	request.reqs.mmio_request.address = addr;
	request.reqs.mmio_request.size = size;
	request.reqs.mmio_request.value = value;
	return request;
}

/* How often @request was made. */
static inline unsigned int fake_calls(unsigned long request)
{
	unsigned int calls = 0;

	fake_lock();
	for (unsigned int i = 0; i < hsm.count; i++)
		calls += hsm.calls[i].request == request;
	fake_unlock();
	return calls;
}

/* The @nth (from 0) @request. */
static inline const struct fake_call *fake_call(unsigned long request, unsigned int nth)
{
	for (unsigned int i = 0; i < hsm.count; i++)
		if (hsm.calls[i].request == request && !nth--)
			return &hsm.calls[i];
	fail_msg("request 0x%lx was not made", request);
	return NULL;
}

static inline unsigned int fake_entries(const char *path)
{
	DIR *folder = opendir(path);
	unsigned int count = 0;

	assert_non_null(folder);
	while (readdir(folder))
		count++;
	closedir(folder);
	return count;
}

/* ---- A VM on it */

struct fake_machine {
	struct captured_log log;
	struct vm_config config;
	struct vmctx *ctx;
};

static inline void fake_machine_init(struct fake_machine *machine)
{
	memset(&machine->config, 0, sizeof(machine->config));
	machine->config.name = "POST_STD_VM1";
	machine->config.memory_size = MIB(16);
	machine->config.cpu_count = 1;
	machine->ctx = NULL;
	captured_log_init(&machine->log);
}

static inline void fake_machine_create(struct fake_machine *machine)
{
	machine->ctx = vm_create(&machine->log.log, &hv_acrn, &machine->config);
	if (!machine->ctx)
		fail_msg("%s", machine->log.count ? machine->log.lines[0] : "no VM, no line");
}

static inline void fake_machine_start(struct fake_machine *machine)
{
	assert_int_equal(machine->ctx->hv->start(machine->ctx), 0);
}

static inline void fake_machine_destroy(struct fake_machine *machine)
{
	vm_destroy(machine->ctx);
	machine->ctx = NULL;
	captured_log_deinit(&machine->log);
}

/* cmocka's: *state is a machine on which nothing was called yet. */
static inline int fake_machine_setup(void **state)
{
	static struct fake_machine machine;

	fake_hsm_init();
	fake_machine_init(&machine);
	*state = &machine;
	return 0;
}

static inline int fake_machine_teardown(void **state)
{
	fake_machine_destroy(*state);
	return 0;
}

#endif
