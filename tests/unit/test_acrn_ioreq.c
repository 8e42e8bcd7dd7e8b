/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The I/O request page of the ACRN port: the test is the guest and the hypervisor, also one that
 * breaks the protocol.
 */
#include "fake_guest.h"

#include <linux/pci_regs.h>

#include "pci_core.h"
#include "platform.h"

#define PORT 0x5000
#define MEMORY UINT64_C(0xd0000000)
#define TOP (UINT64_MAX - 0xfff) /* the last page there is */
#define RANGE 0x100

struct record {
	enum io_type type;
	bool write;
	uint64_t addr;
	unsigned int size;
	uint64_t value;
};

/* A range that writes down what is done to it; reads give @answer. @held: they wait for it. */
struct range {
	struct io_range range;
	enum io_type type;
	struct test *test;
};

struct test {
	struct fake_machine machine;
	struct range port, memory, top;
	uint64_t answer;
	unsigned int count;
	struct record last;
	bool held, waiting;
	void (*meddle)(struct test *test);
};

static struct test *test_of(void **state)
{
	return *state;
}

static void note(struct range *range, bool write, uint64_t offset, unsigned int size,
		 uint64_t value)
{
	struct test *test = range->test;

	fake_lock();
	test->count++;
	test->last =
		(struct record) { range->type, write, range->range.base + offset, size, value };
	test->waiting = true;
	pthread_cond_broadcast(&hsm.changed);
	while (test->held)
		pthread_cond_wait(&hsm.changed, &hsm.lock);
	test->waiting = false;
	fake_unlock();
	if (test->meddle)
		test->meddle(test);
}

static uint64_t range_read(void *arg, uint64_t offset, unsigned int size)
{
	struct range *range = arg;

	note(range, false, offset, size, 0);
	return range->test->answer;
}

static void range_write(void *arg, uint64_t offset, unsigned int size, uint64_t value)
{
	note(arg, true, offset, size, value);
}

static const struct io_range_ops range_ops = { range_read, range_write };

static void add_range(struct test *test, struct range *range, enum io_type type, uint64_t base)
{
	struct vmctx *ctx = test->machine.ctx;

	range->type = type;
	range->test = test;
	range->range = (struct io_range) {
		.name = "test", .base = base, .size = RANGE, .ops = &range_ops, .arg = range
	};
	assert_int_equal(io_space_add(type == IO_PIO ? &ctx->pio : &ctx->mmio, &range->range), 0);
}

static int setup_cpus(void **state, uint16_t count, const char *options)
{
	struct test *test = calloc(1, sizeof(*test));

	assert_non_null(test);
	fake_hsm_init();
	hsm.vcpu_num = count;
	fake_machine_init(&test->machine);
	test->machine.config.cpu_count = count;
	test->machine.config.hv_options = options;
	fake_machine_create(&test->machine);
	add_range(test, &test->port, IO_PIO, PORT);
	add_range(test, &test->memory, IO_MMIO, MEMORY);
	add_range(test, &test->top, IO_MMIO, TOP);
	test->answer = UINT64_C(0x8877665544332211);
	fake_machine_start(&test->machine);
	*state = test;
	return 0;
}

static int setup(void **state)
{
	return setup_cpus(state, 1, NULL);
}

static int setup_sixteen(void **state)
{
	return setup_cpus(state, 16, NULL);
}

static int setup_polling(void **state)
{
	return setup_cpus(state, 2, "polling");
}

static int teardown(void **state)
{
	struct test *test = *state;
	struct vmctx *ctx = test->machine.ctx;

	ctx->hv->pause(ctx);
	io_space_remove(&ctx->pio, &test->port.range);
	io_space_remove(&ctx->mmio, &test->memory.range);
	io_space_remove(&ctx->mmio, &test->top.range);
	fake_machine_destroy(&test->machine);
	free(test);
	return 0;
}

static void expect_last(const struct test *test, const struct record *record)
{
	assert_int_equal(test->last.type, record->type);
	assert_int_equal(test->last.write, record->write);
	assert_int_equal(test->last.addr, record->addr);
	assert_int_equal(test->last.size, record->size);
	assert_int_equal(test->last.value, record->value);
}

static unsigned int lines(struct test *test)
{
	unsigned int count;

	pthread_mutex_lock(&test->machine.log.lock);
	count = test->machine.log.count;
	pthread_mutex_unlock(&test->machine.log.lock);
	return count;
}

/* ---- What requests do */

static void test_accesses(void **state)
{
	static const struct {
		uint32_t type;
		enum io_type io;
		uint64_t addr, size, mask;
	} rows[] = {
		{ ACRN_IOREQ_TYPE_PORTIO, IO_PIO, PORT, 1, 0xff },
		{ ACRN_IOREQ_TYPE_PORTIO, IO_PIO, PORT + 2, 2, 0xffff },
		{ ACRN_IOREQ_TYPE_PORTIO, IO_PIO, PORT + 4, 4, 0xffffffff },
		{ ACRN_IOREQ_TYPE_PORTIO, IO_PIO, PORT + 5, 4, 0xffffffff },
		{ ACRN_IOREQ_TYPE_MMIO, IO_MMIO, MEMORY, 1, 0xff },
		{ ACRN_IOREQ_TYPE_MMIO, IO_MMIO, MEMORY + 1, 2, 0xffff },
		{ ACRN_IOREQ_TYPE_MMIO, IO_MMIO, MEMORY + 4, 4, 0xffffffff },
		{ ACRN_IOREQ_TYPE_MMIO, IO_MMIO, MEMORY + 8, 8, UINT64_MAX },
		{ 3, IO_MMIO, MEMORY + 16, 4, 0xffffffff },
	};
	const uint64_t value = UINT64_C(0x1122334455667788);
	struct test *test = test_of(state);
	struct acrn_io_request request;

	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct record write = { rows[i].io, true, rows[i].addr,
					      (unsigned int)rows[i].size, value & rows[i].mask };
		const struct record read = { rows[i].io, false, rows[i].addr,
					     (unsigned int)rows[i].size, 0 };

		request = fake_access(rows[i].type, true, rows[i].addr, rows[i].size, value);
		(void)fake_do(0, &request);
		expect_last(test, &write);
		request = fake_access(rows[i].type, false, rows[i].addr, rows[i].size, 0);
		assert_int_equal(fake_do(0, &request), test->answer & rows[i].mask);
		expect_last(test, &read);
	}
	assert_int_equal(test->count, 2 * ARRAY_SIZE(rows));
	assert_int_equal(fake_calls(ACRN_IOCTL_NOTIFY_REQUEST_FINISH), 2 * ARRAY_SIZE(rows));
	assert_int_equal(lines(test), 0);
}

/* A port's value has 32 bits; what is behind it in the slot stays. */
static void test_value_width(void **state)
{
	struct acrn_io_request request =
		fake_access(ACRN_IOREQ_TYPE_PORTIO, false, PORT, 4, UINT64_C(0xabcdabcd00000000));

	assert_int_equal(fake_do(0, &request), UINT64_C(0xabcdabcd44332211));
	/* Nobody there. */
	request = fake_access(ACRN_IOREQ_TYPE_PORTIO, false, 0x7777, 2, 0);
	assert_int_equal(fake_do(0, &request), 0xffff);
	request = fake_access(ACRN_IOREQ_TYPE_MMIO, false, 0xd1000000, 8, 0);
	assert_int_equal(fake_do(0, &request), UINT64_MAX);
	request = fake_access(ACRN_IOREQ_TYPE_MMIO, true, 0xd1000000, 8, 5);
	(void)fake_do(0, &request);
	assert_int_equal(lines(test_of(state)), 0);
}

static struct acrn_io_request pci_request(bool write, uint32_t bus, uint32_t dev, uint32_t func,
					  uint32_t reg, uint64_t size, uint32_t value)
{
	struct acrn_io_request request = fake_access(ACRN_IOREQ_TYPE_PCICFG, write, 0, size, value);

	request.reqs.pci_request.bus = bus;
	request.reqs.pci_request.dev = dev;
	request.reqs.pci_request.func = func;
	request.reqs.pci_request.reg = reg;
	return request;
}

static uint32_t do_pci(bool write, uint32_t bus, uint32_t dev, uint32_t func, uint32_t reg,
		       uint64_t size, uint32_t value)
{
	struct acrn_io_request request = pci_request(write, bus, dev, func, reg, size, value);

	return (uint32_t)fake_do(0, &request);
}

static void test_pci(void **state)
{
	struct vmctx *ctx = test_of(state)->machine.ctx;
	struct pci_vdev *bridge = pci_find_device(ctx, 0, 0, 0);
	struct pci_vdev *rng = pci_add_device(ctx, "4,virtio-rng");
	uint32_t id;

	assert_non_null(bridge);
	assert_non_null(rng);
	id = pci_get_cfgdata32(rng, PCI_VENDOR_ID);
	assert_int_equal(id & 0xffff, 0x1af4);
	assert_int_equal(do_pci(false, 0, 4, 0, PCI_VENDOR_ID, 4, 0), id);
	assert_int_equal(do_pci(false, 0, 4, 0, PCI_DEVICE_ID, 2, 0), id >> 16);
	assert_int_equal(do_pci(false, 0, 4, 0, PCI_VENDOR_ID + 1, 1, 0), 0x1a);
	assert_int_equal(do_pci(false, 0, 0, 0, PCI_VENDOR_ID, 4, 0),
			 pci_get_cfgdata32(bridge, PCI_VENDOR_ID));
	(void)do_pci(true, 0, 4, 0, PCI_INTERRUPT_LINE, 1, 0xa5);
	assert_int_equal(pci_get_cfgdata8(rng, PCI_INTERRUPT_LINE), 0xa5);
	(void)do_pci(true, 0, 4, 0, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
	assert_int_equal(do_pci(false, 0, 4, 0, PCI_COMMAND, 2, 0), PCI_COMMAND_MASTER);

	/* Nobody there. */
	assert_int_equal(do_pci(false, 0, 5, 0, PCI_VENDOR_ID, 4, 0), 0xffffffff);
	assert_int_equal(do_pci(false, 0, 4, 1, PCI_VENDOR_ID, 2, 0), 0xffff);
	assert_int_equal(do_pci(false, 7, 4, 0, PCI_VENDOR_ID, 4, 0), 0xffffffff);
	(void)do_pci(true, 7, 4, 0, PCI_VENDOR_ID, 4, 0);
	assert_int_equal(lines(test_of(state)), 0);
}

static void test_all_cpus_at_once(void **state)
{
	struct test *test = test_of(state);
	struct acrn_io_request request;

	for (int round = 0; round < 50; round++) {
		for (unsigned int vcpu = 0; vcpu < 16; vcpu++) {
			request = fake_access(ACRN_IOREQ_TYPE_MMIO, vcpu & 1, MEMORY + 8 * vcpu, 8,
					      vcpu);
			fake_submit(vcpu, &request);
		}
		for (unsigned int vcpu = 0; vcpu < 16; vcpu++)
			assert_int_equal(fake_result(vcpu), vcpu & 1 ? vcpu : test->answer);
	}
	assert_int_equal(test->count, 50 * 16);
	assert_int_equal(fake_calls(ACRN_IOCTL_NOTIFY_REQUEST_FINISH), 50 * 16);
	assert_int_equal(lines(test), 0);
}

static void test_kernel_handled(void **state)
{
	struct test *test = test_of(state);
	struct acrn_io_request kernels =
		fake_access(ACRN_IOREQ_TYPE_MMIO, false, MEMORY, 8, 0x1234);
	struct acrn_io_request ours = fake_access(ACRN_IOREQ_TYPE_MMIO, false, MEMORY + 8, 8, 0);
	struct acrn_io_request before;

	kernels.kernel_handled = 1;
	fake_submit(3, &kernels);
	before = hsm.page->req_slot[3];
	assert_int_equal(fake_do(5, &ours), test->answer);
	assert_int_equal(test->count, 1);
	assert_memory_equal(&hsm.page->req_slot[3], &before, sizeof(before));
	assert_int_equal(fake_state(3), ACRN_IOREQ_STATE_PROCESSING);
	/* States that are not ours. */
	for (uint32_t other = 0; other < 8; other++) {
		if (other == ACRN_IOREQ_STATE_PROCESSING)
			continue;
		__atomic_store_n(&hsm.page->req_slot[3].kernel_handled, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&hsm.page->req_slot[3].processed, other, __ATOMIC_RELEASE);
		assert_int_equal(fake_do(5, &ours), test->answer);
		assert_int_equal(fake_state(3), other);
	}
	assert_int_equal(test->count, 8);
}

/* The hypervisor looks; the driver is not told, and says for ever that there is something. */
static void test_polling(void **state)
{
	struct test *test = test_of(state);
	struct acrn_io_request request = fake_access(ACRN_IOREQ_TYPE_PORTIO, false, PORT, 2, 0);

	assert_int_equal(fake_call(ACRN_IOCTL_CREATE_VM, 0)->creation.vm_flag, 4);
	fake_lock();
	hsm.keep_pending = true;
	fake_unlock();
	request.completion_polling = 1;
	for (unsigned int i = 0; i < 500; i++) {
		assert_int_equal(fake_do(i & 1, &request), 0x2211);
		if (i % 100 == 99)
			usleep(20000); /* it has gone to rest meanwhile */
	}
	assert_int_equal(test->count, 500);
	assert_int_equal(fake_calls(ACRN_IOCTL_NOTIFY_REQUEST_FINISH), 0);
	/* A slot at a time decides. */
	request.completion_polling = 0;
	assert_int_equal(fake_do(0, &request), 0x2211);
	assert_int_equal(fake_calls(ACRN_IOCTL_NOTIFY_REQUEST_FINISH), 1);
	assert_int_equal(fake_call(ACRN_IOCTL_NOTIFY_REQUEST_FINISH, 0)->notify.vmid, FAKE_VMID);
	assert_int_equal(fake_call(ACRN_IOCTL_NOTIFY_REQUEST_FINISH, 0)->notify.vcpu, 0);
}

/* ---- A hypervisor that breaks the protocol */

static void test_bad_requests(void **state)
{
	struct test *test = test_of(state);
	const struct {
		struct acrn_io_request request;
		uint64_t ones;
	} rows[] = {
		{ fake_access(77, false, MEMORY, 4, 0), UINT64_MAX },
		{ fake_access(4, true, MEMORY, 4, 0), UINT64_MAX },
		{ fake_access(UINT32_MAX, false, MEMORY, 4, 0), UINT64_MAX },
		{ fake_access(ACRN_IOREQ_TYPE_PORTIO, false, PORT, 0, 0), UINT32_MAX },
		{ fake_access(ACRN_IOREQ_TYPE_PORTIO, false, PORT, 3, 0), UINT32_MAX },
		{ fake_access(ACRN_IOREQ_TYPE_PORTIO, false, PORT, 8, 0), UINT32_MAX },
		{ fake_access(ACRN_IOREQ_TYPE_PORTIO, false, PORT, 1ull << 32 | 1, 0), UINT32_MAX },
		{ fake_access(ACRN_IOREQ_TYPE_PORTIO, false, 0xfffe, 4, 0), UINT32_MAX },
		{ fake_access(ACRN_IOREQ_TYPE_PORTIO, false, 0x10000 + PORT, 1, 0), UINT32_MAX },
		{ fake_access(ACRN_IOREQ_TYPE_PORTIO, false, UINT64_MAX, 4, 0), UINT32_MAX },
		{ fake_access(ACRN_IOREQ_TYPE_MMIO, false, MEMORY, 0, 0), UINT64_MAX },
		{ fake_access(ACRN_IOREQ_TYPE_MMIO, false, MEMORY, 16, 0), UINT64_MAX },
		{ fake_access(ACRN_IOREQ_TYPE_MMIO, true, MEMORY, 5, 0), UINT64_MAX },
		{ fake_access(ACRN_IOREQ_TYPE_MMIO, false, MEMORY, UINT64_MAX, 0), UINT64_MAX },
		{ fake_access(ACRN_IOREQ_TYPE_MMIO, false, MEMORY, 1ull << 63, 0), UINT64_MAX },
		{ fake_access(ACRN_IOREQ_TYPE_MMIO, false, UINT64_MAX - 6, 8, 0), UINT64_MAX },
		{ fake_access(ACRN_IOREQ_TYPE_MMIO, true, UINT64_MAX, 2, 0), UINT64_MAX },
		{ pci_request(false, 0, 0, 0, 0, 8, 0), UINT32_MAX },
		{ pci_request(false, 0, 0, 0, 4096, 1, 0), UINT32_MAX },
		{ pci_request(false, 0, 0, 0, 4094, 4, 0), UINT32_MAX },
		{ pci_request(false, 0, 0, 0, UINT32_MAX, 4, 0), UINT32_MAX },
		{ pci_request(false, 256, 0, 0, 0, 4, 0), UINT32_MAX },
		{ pci_request(false, 0, 32, 0, 0, 4, 0), UINT32_MAX },
		{ pci_request(true, 0, 0, 8, 0, 4, 0), UINT32_MAX },
		{ pci_request(false, UINT32_MAX, UINT32_MAX, UINT32_MAX, 0, 4, 0), UINT32_MAX },
	};
	struct acrn_io_request request;

	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		uint64_t value = fake_do(0, &rows[i].request);

		assert_int_equal(value & rows[i].ones, rows[i].ones);
	}
	for (unsigned int direction = 2; direction; direction <<= 7) {
		request = fake_access(ACRN_IOREQ_TYPE_MMIO, false, MEMORY, 4, 0);
		request.reqs.mmio_request.direction = direction;
		assert_int_equal(fake_do(0, &request), UINT64_MAX);
	}
	assert_int_equal(test->count, 0);
	/* The guest can cause it: not each of them is a line. */
	assert_int_equal(lines(test), 10);
	assert_non_null(strstr(test->machine.log.lines[0], "CPU 0: no such I/O request: type 77"));

	/* The last bytes that there are. */
	request = fake_access(ACRN_IOREQ_TYPE_MMIO, false, TOP + 0xf8, 8, 0);
	assert_int_equal(fake_do(0, &request), test->answer);
	request = fake_access(ACRN_IOREQ_TYPE_PORTIO, false, 0xfffc, 4, 0);
	assert_int_equal(fake_do(0, &request), 0xffffffff);
}

static void take_back(struct test *test)
{
	__atomic_store_n(&hsm.page->req_slot[0].processed, ACRN_IOREQ_STATE_FREE, __ATOMIC_RELEASE);
	__atomic_store_n(&test->meddle, NULL, __ATOMIC_RELAXED);
	fake_lock();
	hsm.pending = 0;
	test->waiting = true;
	pthread_cond_broadcast(&hsm.changed);
	fake_unlock();
}

static void test_state_flips(void **state)
{
	struct test *test = test_of(state);
	struct acrn_io_request request = fake_access(ACRN_IOREQ_TYPE_PORTIO, false, PORT, 2, 0);

	test->meddle = take_back;
	fake_submit(0, &request);
	for (int i = 0; i < FAKE_PATIENCE_S * 1000 && !lines(test); i++)
		usleep(1000);
	assert_int_equal(fake_state(0), ACRN_IOREQ_STATE_FREE);
	assert_int_equal(fake_calls(ACRN_IOCTL_NOTIFY_REQUEST_FINISH), 0);
	assert_non_null(strstr(test->machine.log.lines[0], "took an I/O request back (state 3)"));
	assert_int_equal(fake_do(0, &request), 0x2211);
	/* The same once more, without having been FREE: it is carried out again. */
	fake_submit(0, &request);
	fake_submit(0, &request);
	assert_int_equal(fake_result(0), 0x2211);
	assert_true(test->count >= 3);
}

static bool meddling;

/* Changes what is in the slots while the port looks at them. */
static void *meddle_thread(void *arg)
{
	static const uint64_t values[] = {
		0,	1,	    2,	 4,	 8,	 3,	     PORT,
		MEMORY, UINT64_MAX, TOP, 0xffff, 0xcf9a, 1ull << 33, 1ull << 32 | PORT
	};
	unsigned int seed = 1, word;

	while (__atomic_load_n(&meddling, __ATOMIC_RELAXED)) {
		struct acrn_io_request *slot = &hsm.page->req_slot[rand_r(&seed) % 16];
		uint64_t value = values[(unsigned int)rand_r(&seed) % ARRAY_SIZE(values)];

		word = (unsigned int)rand_r(&seed) % 8;
		if (word == 7)
			__atomic_store_n(&slot->type, (uint32_t)value % 5, __ATOMIC_RELAXED);
		else if (word == 6)
			__atomic_store_n(&slot->completion_polling, (uint32_t)value & 1,
					 __ATOMIC_RELAXED);
		else
			__atomic_store_n(&slot->reqs.data[word], value, __ATOMIC_RELAXED);
		__atomic_store_n(&slot->processed, ACRN_IOREQ_STATE_PROCESSING, __ATOMIC_RELEASE);
	}
	return NULL;
}

/* Whatever is read from a slot that changes, the devices see only accesses that there are. */
static void test_changing_slots(void **state)
{
	struct test *test = test_of(state);
	struct acrn_vm *vm = test->machine.ctx->hv_data;
	unsigned int served = 0;
	pthread_t thread;

	hv_acrn.pause(test->machine.ctx);
	__atomic_store_n(&meddling, true, __ATOMIC_RELAXED);
	assert_int_equal(pthread_create(&thread, NULL, meddle_thread, NULL), 0);
	while (served < 20000 || test->count < 100) {
		served += acrn_ioreq_serve(vm);
		if (!test->count)
			continue;
		assert_true(test->last.size <= 8 && is_power_of_2(test->last.size));
		assert_int_equal(test->last.value &
					 ~(test->last.size < 8
						   ? (UINT64_C(1) << 8 * test->last.size) - 1
						   : UINT64_MAX),
				 0);
	}
	__atomic_store_n(&meddling, false, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
}

/* ---- ATTACH, and a VM that is paused, reset, ended */

static void test_attach_idle(void **state)
{
	struct test *test = test_of(state);
	struct acrn_io_request request = fake_access(ACRN_IOREQ_TYPE_PORTIO, false, PORT, 1, 0);

	for (int i = 0; i < 5; i++) {
		fake_lock();
		hsm.attach_idle = 3000;
		hsm.attach_error = EINTR;
		pthread_cond_broadcast(&hsm.changed);
		fake_unlock();
		assert_int_equal(fake_do(0, &request), 0x11);
	}
	fake_lock();
	fake_wait(!hsm.attach_idle);
	fake_unlock();
	assert_int_equal(fake_do(0, &request), 0x11);
	assert_int_equal(lines(test), 0);
	assert_false(vm_request_pending(test->machine.ctx));
}

static void test_attach_fails(void **state)
{
	struct test *test = test_of(state);
	struct vmctx *ctx = test->machine.ctx;

	fake_lock();
	hsm.attach_error = EIO;
	pthread_cond_broadcast(&hsm.changed);
	fake_unlock();
	for (int i = 0; i < FAKE_PATIENCE_S * 1000 && !vm_request_pending(ctx); i++)
		usleep(1000);
	assert_int_equal(ctx->request, VM_REQUEST_INTERNAL);
	assert_int_equal(lines(test), 1);
	assert_non_null(strstr(test->machine.log.lines[0],
			       "/dev/acrn_hsm gives no more I/O requests: Input/output error"));
	hv_acrn.pause(ctx);
	assert_int_equal(hv_acrn.start(ctx), -EIO);
}

static void test_notify_fails(void **state)
{
	struct test *test = test_of(state);
	struct acrn_io_request request = fake_access(ACRN_IOREQ_TYPE_PORTIO, false, PORT, 1, 0);

	fake_fail(ACRN_IOCTL_NOTIFY_REQUEST_FINISH, EINVAL);
	fake_submit(0, &request);
	for (int i = 0; i < FAKE_PATIENCE_S * 1000 && !lines(test); i++)
		usleep(1000);
	fake_fail(0, 0);
	assert_non_null(
		strstr(test->machine.log.lines[0], "NOTIFY_REQUEST_FINISH: Invalid argument"));
	assert_int_equal(fake_do(0, &request), 0x11);
}

static void hold(struct test *test, bool held)
{
	fake_lock();
	test->held = held;
	pthread_cond_broadcast(&hsm.changed);
	fake_unlock();
}

static void *pause_thread(void *arg)
{
	struct test *test = arg;

	hv_acrn.pause(test->machine.ctx);
	return NULL;
}

static void test_pause_in_device(void **state)
{
	struct test *test = test_of(state);
	struct acrn_io_request request = fake_access(ACRN_IOREQ_TYPE_PORTIO, false, PORT, 1, 0);
	pthread_t thread;

	hold(test, true);
	fake_submit(0, &request);
	fake_lock();
	fake_wait(test->waiting);
	fake_unlock();
	assert_int_equal(pthread_create(&thread, NULL, pause_thread, test), 0);
	usleep(50000);
	assert_int_equal(pthread_tryjoin_np(thread, NULL), EBUSY);
	assert_int_equal(hv_acrn.reset(test->machine.ctx), -EBUSY);
	hold(test, false);
	assert_int_equal(pthread_join(thread, NULL), 0);
	/* It was served to its end. */
	assert_int_equal(fake_state(0), ACRN_IOREQ_STATE_COMPLETE);
	assert_int_equal(fake_result(0), 0x11);
}

static void test_request_while_paused(void **state)
{
	struct test *test = test_of(state);
	struct acrn_io_request request = fake_access(ACRN_IOREQ_TYPE_PORTIO, true, PORT, 1, 9);

	for (int i = 0; i < 20; i++) {
		unsigned int count = test->count;

		hv_acrn.pause(test->machine.ctx);
		fake_submit(0, &request);
		usleep(2000);
		assert_int_equal(test->count, count);
		assert_int_equal(fake_state(0), ACRN_IOREQ_STATE_PROCESSING);
		if (i & 1) {
			/* The reset clears it, and nobody carries it out. */
			assert_int_equal(hv_acrn.reset(test->machine.ctx), 0);
			assert_int_equal(fake_state(0), ACRN_IOREQ_STATE_FREE);
			fake_machine_start(&test->machine);
			usleep(2000);
			assert_int_equal(test->count, count);
			continue;
		}
		fake_machine_start(&test->machine);
		(void)fake_result(0);
		assert_int_equal(test->count, count + 1);
	}
}

static void *guest_thread(void *arg)
{
	struct acrn_io_request request = fake_access(ACRN_IOREQ_TYPE_PORTIO, false, PORT, 1, 0);

	while (__atomic_load_n(&meddling, __ATOMIC_RELAXED))
		if (fake_do(0, &request) != 0x11)
			return arg;
	return NULL;
}

/* Paused and continued while the guest goes on asking: none of its accesses is lost or twice. */
static void test_pause_often(void **state)
{
	struct test *test = test_of(state);
	void *failed = NULL;
	pthread_t thread;

	__atomic_store_n(&meddling, true, __ATOMIC_RELAXED);
	assert_int_equal(pthread_create(&thread, NULL, guest_thread, test), 0);
	for (int i = 0; i < 500; i++) {
		hv_acrn.pause(test->machine.ctx);
		assert_false(test->waiting);
		fake_machine_start(&test->machine);
	}
	__atomic_store_n(&meddling, false, __ATOMIC_RELAXED);
	pthread_join(thread, &failed);
	assert_null(failed);
	assert_int_equal(fake_calls(ACRN_IOCTL_NOTIFY_REQUEST_FINISH),
			 MIN(test->count, FAKE_CALLS));
	assert_int_equal(lines(test), 0);
}

/* The guest asks for a reset, as it does: out of a port write that the port's thread carries out. */
static void test_guest_reset(void **state)
{
	struct test *test = test_of(state);
	struct vmctx *ctx = test->machine.ctx;
	struct acrn_io_request reset =
		fake_access(ACRN_IOREQ_TYPE_PORTIO, true, PM_RESET_PORT, 1, PM_RESET_VALUE);
	struct acrn_io_request request = fake_access(ACRN_IOREQ_TYPE_PORTIO, false, PORT, 1, 0);

	for (int i = 0; i < 5; i++) {
		(void)fake_do(0, &reset);
		assert_int_equal(ctx->request, VM_REQUEST_RESET);
		hv_acrn.pause(ctx);
		ctx->request = VM_REQUEST_NONE;
		vm_reset_devices(ctx);
		assert_int_equal(hv_acrn.reset(ctx), 0);
		guest_memory_clear(&ctx->memory, ctx->hv->memory_pinned);
		fake_machine_start(&test->machine);
		assert_int_equal(fake_do(0, &request), 0x11);
	}
}

/* The hypervisor's word for it; what is only like it is a guest's write to a port that is nobody's. */
static void test_triple_fault(void **state)
{
	static const struct {
		bool write;
		uint64_t port, size, value;
	} others[] = {
		{ false, 0x404, 2, 0x3400 },
		{ true, 0x404, 4, 0x3400 },
		{ true, 0x404, 2, 0x3c00 },
		{ true, 0x402, 2, 0x3400 },
	};
	struct test *test = test_of(state);
	struct vmctx *ctx = test->machine.ctx;
	struct acrn_io_request request;

	for (unsigned int i = 0; i < ARRAY_SIZE(others); i++) {
		request = fake_access(ACRN_IOREQ_TYPE_PORTIO, others[i].write, others[i].port,
				      others[i].size, others[i].value);
		(void)fake_do(0, &request);
		assert_int_equal(ctx->request, VM_REQUEST_NONE);
	}
	request = fake_access(ACRN_IOREQ_TYPE_PORTIO, true, 0x404, 2, 0x3400);
	(void)fake_do(0, &request);
	assert_int_equal(ctx->request, VM_REQUEST_CRASH);
	assert_int_equal(ctx->request_value, VM_CRASH_TRIPLE_FAULT);
}

#define TEST(function, setup_function)                                                             \
	cmocka_unit_test_setup_teardown(function, setup_function, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_accesses, setup),
		TEST(test_value_width, setup),
		TEST(test_pci, setup),
		TEST(test_all_cpus_at_once, setup_sixteen),
		TEST(test_kernel_handled, setup_sixteen),
		TEST(test_polling, setup_polling),
		TEST(test_bad_requests, setup),
		TEST(test_state_flips, setup),
		TEST(test_changing_slots, setup_sixteen),
		TEST(test_attach_idle, setup),
		TEST(test_attach_fails, setup),
		TEST(test_notify_fails, setup),
		TEST(test_pause_in_device, setup),
		TEST(test_request_while_paused, setup),
		TEST(test_pause_often, setup),
		TEST(test_guest_reset, setup),
		TEST(test_triple_fault, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
