/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Interrupts and eventfds of the ACRN port, on a driver that knows them by their eventfd alone.
 */
#include "fake_guest.h"

#include "eventfd_rules.h"

#define FDS 4

struct test {
	struct fake_machine machine;
	struct vmctx *ctx;
	int fds[FDS];
};

static int setup(void **state)
{
	struct test *test = calloc(1, sizeof(*test));

	assert_non_null(test);
	fake_hsm_init();
	fake_machine_init(&test->machine);
	fake_machine_create(&test->machine);
	fake_machine_start(&test->machine);
	test->ctx = test->machine.ctx;
	for (int i = 0; i < FDS; i++) {
		test->fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		assert_true(test->fds[i] >= 0);
	}
	*state = test;
	return 0;
}

static int teardown(void **state)
{
	struct test *test = *state;

	for (int i = 0; i < FDS; i++)
		close(test->fds[i]);
	fake_machine_destroy(&test->machine);
	free(test);
	return 0;
}

static bool level(unsigned int line)
{
	bool is;

	fake_lock();
	is = hsm.level[line];
	fake_unlock();
	return is;
}

/* ---- Lines and messages */

static void test_lines(void **state)
{
	struct test *test = *state;
	unsigned int calls = 0;

	for (unsigned int gsi = 0; gsi < ACRN_LINES; gsi++) {
		unsigned int line = gsi ? gsi : 2; /* where the hypervisor wants the timer */

		if (gsi == 2)
			continue;
		assert_int_equal(hv_acrn.irq_line(test->ctx, gsi, true), 0);
		assert_true(level(line));
		assert_int_equal(fake_call(ACRN_IOCTL_SET_IRQLINE, calls++)->value, line);
		assert_int_equal(hv_acrn.irq_line(test->ctx, gsi, true), 0);
		assert_int_equal(hv_acrn.irq_line(test->ctx, gsi, false), 0);
		assert_false(level(line));
		assert_int_equal(fake_call(ACRN_IOCTL_SET_IRQLINE, calls++)->value,
				 UINT64_C(1) << 32 | line);
		assert_int_equal(hv_acrn.irq_line(test->ctx, gsi, false), 0);
	}
	assert_int_equal(fake_calls(ACRN_IOCTL_SET_IRQLINE), calls);
	assert_int_equal(hv_acrn.irq_line(test->ctx, 2, true), -EINVAL);
	assert_int_equal(hv_acrn.irq_line(test->ctx, ACRN_LINES, true), -EINVAL);
	assert_int_equal(hv_acrn.irq_line(test->ctx, UINT32_MAX, true), -EINVAL);
	assert_int_equal(fake_calls(ACRN_IOCTL_SET_IRQLINE), calls);
}

static void test_line_fails(void **state)
{
	struct test *test = *state;

	fake_fail(ACRN_IOCTL_SET_IRQLINE, EPERM);
	assert_int_equal(hv_acrn.irq_line(test->ctx, 9, true), -EPERM);
	fake_fail(0, 0);
	assert_false(level(9));
	assert_int_equal(hv_acrn.irq_line(test->ctx, 9, true), 0);
	assert_true(level(9));
}

static void test_reset_lowers(void **state)
{
	struct test *test = *state;

	assert_int_equal(hv_acrn.irq_line(test->ctx, 0, true), 0);
	assert_int_equal(hv_acrn.irq_line(test->ctx, 23, true), 0);
	hv_acrn.pause(test->ctx);
	assert_int_equal(hv_acrn.reset(test->ctx), 0);
	assert_false(level(2));
	assert_false(level(23));
	fake_machine_start(&test->machine);
	assert_int_equal(hv_acrn.irq_line(test->ctx, 23, true), 0);
	assert_true(level(23));
}

static void test_msi(void **state)
{
	const struct hv_msi msi = { 0xfee01004, 0x4031 };
	const struct hv_msi bad[] = {
		{ 0x1000, 0x30 }, { 0xfef00000, 0x30 }, { 0xfedfffff, 0x30 }, { 0x1fee00000, 0x30 }
	};
	struct test *test = *state;

	assert_int_equal(hv_acrn.msi(test->ctx, &msi), 0);
	assert_int_equal(fake_call(ACRN_IOCTL_INJECT_MSI, 0)->msi.msi_addr, 0xfee01004);
	assert_int_equal(fake_call(ACRN_IOCTL_INJECT_MSI, 0)->msi.msi_data, 0x4031);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(hv_acrn.msi(test->ctx, &bad[i]), -EINVAL);
	assert_int_equal(fake_calls(ACRN_IOCTL_INJECT_MSI), 1);
	fake_fail(ACRN_IOCTL_INJECT_MSI, EPERM);
	assert_int_equal(hv_acrn.msi(test->ctx, &msi), -EPERM);
}

/* ---- irqfds */

static const struct hv_msi first = { 0xfee00000, 0x30 }, second = { 0xfee01000, 0x31 };
static const struct hv_msi nowhere = { 0x1000, 0x32 };

/* As the driver does: whoever waits is woken, and the count stays. */
static void signal_fd(int fd)
{
	const uint64_t one = 1;
	int place;

	fake_lock();
	assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
	place = fake_irqfd_find(fd);
	if (place >= 0)
		fake_inject(&hsm.irqfds[place].msi);
	fake_unlock();
}

static void test_irqfd_rules(void **state)
{
	struct test *test = *state;

	check_irqfd_rules(test->ctx);
	assert_int_equal(hsm.irqfd_count, 0);
	assert_int_equal(test->machine.log.count, 0);
}

static void test_irqfd(void **state)
{
	struct test *test = *state;
	const struct acrn_irqfd *args;
	int handle = hv_acrn.irqfd_add(test->ctx, test->fds[0], &first);

	assert_int_equal(handle, 0);
	args = &fake_call(ACRN_IOCTL_IRQFD, 0)->irqfd;
	assert_int_equal(args->fd, test->fds[0]);
	assert_int_equal(args->flags, 0);
	assert_int_equal(args->msi.msi_addr, first.addr);
	assert_int_equal(args->msi.msi_data, first.data);
	signal_fd(test->fds[0]);
	assert_int_equal(hsm.injected, 1);
	assert_int_equal(hsm.last_msi.msi_data, 0x30);

	assert_int_equal(hv_acrn.irqfd_update(test->ctx, handle, &second), 0);
	args = &fake_call(ACRN_IOCTL_IRQFD, 1)->irqfd;
	assert_int_equal(args->flags, ACRN_IRQFD_FLAG_DEASSIGN);
	args = &fake_call(ACRN_IOCTL_IRQFD, 2)->irqfd;
	assert_int_equal(args->flags, 0);
	assert_int_equal(args->msi.msi_addr, second.addr);
	/* What was delivered is not delivered again. */
	assert_int_equal(hsm.injected, 1);
	signal_fd(test->fds[0]);
	assert_int_equal(hsm.injected, 2);
	assert_int_equal(hsm.last_msi.msi_data, 0x31);

	/* The same message once more is no call. */
	assert_int_equal(hv_acrn.irqfd_update(test->ctx, handle, &second), 0);
	assert_int_equal(fake_calls(ACRN_IOCTL_IRQFD), 3);
	hv_acrn.irqfd_remove(test->ctx, handle, test->fds[0]);
	assert_int_equal(hsm.irqfd_count, 0);
	signal_fd(test->fds[0]);
	assert_int_equal(hsm.injected, 2);
}

/* A message to nobody: the hypervisor never sees it, and what is signalled for it is gone. */
static void test_irqfd_nowhere(void **state)
{
	struct test *test = *state;
	int handle = hv_acrn.irqfd_add(test->ctx, test->fds[0], &nowhere);

	assert_int_equal(handle, 0);
	assert_int_equal(fake_calls(ACRN_IOCTL_IRQFD), 0);
	signal_fd(test->fds[0]);
	assert_int_equal(hv_acrn.irqfd_update(test->ctx, handle, &first), 0);
	assert_int_equal(hsm.injected, 0);
	signal_fd(test->fds[0]);
	assert_int_equal(hsm.injected, 1);
	assert_int_equal(hv_acrn.irqfd_update(test->ctx, handle, &nowhere), 0);
	assert_int_equal(hsm.irqfd_count, 0);
	signal_fd(test->fds[0]);
	signal_fd(test->fds[0]);
	assert_int_equal(hv_acrn.irqfd_update(test->ctx, handle, &second), 0);
	assert_int_equal(hsm.injected, 1);
	hv_acrn.irqfd_remove(test->ctx, handle, test->fds[0]);
}

/* A signal that comes while the driver has nobody for it is delivered when it has again. */
static void test_irqfd_update_loses_nothing(void **state)
{
	struct test *test = *state;
	int handle = hv_acrn.irqfd_add(test->ctx, test->fds[0], &first);

	fake_lock();
	hsm.signal_unbound = true;
	fake_unlock();
	for (unsigned int i = 0; i < 10; i++) {
		const struct hv_msi *msi = i & 1 ? &first : &second;

		assert_int_equal(hv_acrn.irqfd_update(test->ctx, handle, msi), 0);
		assert_int_equal(hsm.injected, i + 1);
		assert_int_equal(hsm.last_msi.msi_data, msi->data);
	}
	hv_acrn.irqfd_remove(test->ctx, handle, test->fds[0]);
}

struct signaller {
	int fd;
	unsigned int count;
};

static void *signal_thread(void *arg)
{
	struct signaller *signaller = arg;

	for (unsigned int i = 0; i < signaller->count; i++)
		signal_fd(signaller->fd);
	return NULL;
}

/* As many interrupts as signals or, where one was signalled in between, one for all of those. */
static void test_irqfd_updated_meanwhile(void **state)
{
	struct test *test = *state;
	struct signaller signaller = { test->fds[0], 5000 };
	int handle = hv_acrn.irqfd_add(test->ctx, test->fds[0], &first);
	uint64_t count = 0;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, signal_thread, &signaller), 0);
	for (int i = 0; i < 500; i++)
		assert_int_equal(hv_acrn.irqfd_update(test->ctx, handle, i & 1 ? &first : &second),
				 0);
	pthread_join(thread, NULL);
	/* The last word is the last message's, and nothing waits. */
	assert_int_equal(hv_acrn.irqfd_update(test->ctx, handle, &second), 0);
	assert_true(hsm.injected > 0);
	assert_true(hsm.injected <= signaller.count + 501);
	hv_acrn.irqfd_remove(test->ctx, handle, test->fds[0]);
	assert_true(read(test->fds[0], &count, sizeof(count)) < 0);
}

static void test_irqfd_fails(void **state)
{
	struct test *test = *state;
	int handle;

	fake_fail(ACRN_IOCTL_IRQFD, ENOMEM);
	assert_int_equal(hv_acrn.irqfd_add(test->ctx, test->fds[0], &first), -ENOMEM);
	fake_fail(0, 0);
	handle = hv_acrn.irqfd_add(test->ctx, test->fds[0], &first);
	assert_int_equal(handle, 0);

	/* The new message is refused: the old one stays. */
	fake_fail_at(2, ENOMEM);
	assert_int_equal(hv_acrn.irqfd_update(test->ctx, handle, &second), -ENOMEM);
	fake_fail_at(0, 0);
	signal_fd(test->fds[0]);
	assert_int_equal(hsm.injected, 1);
	assert_int_equal(hsm.last_msi.msi_data, 0x30);
	assert_int_equal(hv_acrn.irqfd_update(test->ctx, handle, &second), 0);

	fake_fail(ACRN_IOCTL_IRQFD, EIO);
	assert_int_equal(hv_acrn.irqfd_update(test->ctx, handle, &first), -EIO);
	assert_int_equal(test->machine.log.count, 0);
	fake_fail(0, 0);
	assert_int_equal(hv_acrn.irqfd_update(test->ctx, handle, &first), 0);
	fake_fail(ACRN_IOCTL_IRQFD, EIO);
	hv_acrn.irqfd_remove(test->ctx, handle, test->fds[0]);
	fake_fail(0, 0);
	assert_int_equal(test->machine.log.count, 1);
	assert_int_equal(hv_acrn.irqfd_update(test->ctx, handle, &first), -EINVAL);
}

static void test_irqfd_table(void **state)
{
	struct test *test = *state;
	struct acrn_vm *vm = test->ctx->hv_data;

	for (int i = 0; i < ACRN_ROUTES - 1; i++)
		vm->routes[i] = (struct acrn_route) { .used = true, .fd = 100000 + i };
	assert_int_equal(hv_acrn.irqfd_add(test->ctx, test->fds[0], &first), ACRN_ROUTES - 1);
	assert_int_equal(hv_acrn.irqfd_add(test->ctx, test->fds[1], &first), -ENOSPC);
	hv_acrn.irqfd_remove(test->ctx, ACRN_ROUTES - 1, test->fds[0]);
	assert_int_equal(hv_acrn.irqfd_add(test->ctx, test->fds[1], &first), ACRN_ROUTES - 1);
	hv_acrn.irqfd_remove(test->ctx, ACRN_ROUTES - 1, test->fds[1]);
}

/* ---- ioeventfds */

static void test_ioeventfd_rules(void **state)
{
	struct test *test = *state;

	check_ioeventfd_rules(test->ctx);
	assert_int_equal(hsm.ioeventfd_count, 0);
	assert_int_equal(test->machine.log.count, 0);
}

static void test_ioeventfd_fill(void **state)
{
	struct test *test = *state;
	const struct hv_ioeventfd port = { .addr = 0x1010,
					   .len = 2,
					   .flags = HV_IOEVENTFD_PIO | HV_IOEVENTFD_DATAMATCH,
					   .data = 5,
					   .fd = test->fds[0] };
	const struct hv_ioeventfd memory = { .addr = 0xd0003000, .fd = test->fds[1] };
	const struct acrn_ioeventfd *args;

	assert_int_equal(hv_acrn.ioeventfd(test->ctx, &port, true), 0);
	assert_int_equal(hv_acrn.ioeventfd(test->ctx, &memory, true), 0);
	args = &fake_call(ACRN_IOCTL_IOEVENTFD, 0)->ioeventfd;
	assert_int_equal(args->fd, test->fds[0]);
	assert_int_equal(args->flags, ACRN_IOEVENTFD_FLAG_PIO | ACRN_IOEVENTFD_FLAG_DATAMATCH);
	assert_int_equal(args->addr, 0x1010);
	assert_int_equal(args->len, 2);
	assert_int_equal(args->data, 5);
	args = &fake_call(ACRN_IOCTL_IOEVENTFD, 1)->ioeventfd;
	assert_int_equal(args->flags, 0);
	assert_int_equal(args->addr, 0xd0003000);
	assert_int_equal(args->len, 2);

	assert_int_equal(hv_acrn.ioeventfd(test->ctx, &port, false), 0);
	assert_int_equal(hv_acrn.ioeventfd(test->ctx, &memory, false), 0);
	args = &fake_call(ACRN_IOCTL_IOEVENTFD, 3)->ioeventfd;
	assert_int_equal(args->flags, ACRN_IOEVENTFD_FLAG_DEASSIGN);
	assert_int_equal(args->fd, test->fds[1]);
}

static bool driver_has(const struct hv_ioeventfd *io)
{
	bool has = false;

	fake_lock();
	for (unsigned int i = 0; i < hsm.ioeventfd_count; i++)
		has |= hsm.ioeventfds[i].addr == io->addr &&
		       hsm.ioeventfds[i].fd == (uint32_t)io->fd;
	fake_unlock();
	return has;
}

/* The driver removes the oldest of an eventfd; whichever is meant, that one goes and the others stay. */
static void test_ioeventfd_order(void **state)
{
	struct test *test = *state;
	struct hv_ioeventfd ios[8];

	for (unsigned int victim = 0; victim < ARRAY_SIZE(ios); victim++) {
		for (unsigned int i = 0; i < ARRAY_SIZE(ios); i++) {
			ios[i] = (struct hv_ioeventfd) { .addr = 0x1000 + 16 * i,
							 .len = 2,
							 .flags = HV_IOEVENTFD_PIO,
							 .fd = test->fds[i % 2] };
			assert_int_equal(hv_acrn.ioeventfd(test->ctx, &ios[i], true), 0);
		}
		/* All of them, beginning in the middle. */
		for (unsigned int gone = 0; gone < ARRAY_SIZE(ios); gone++) {
			unsigned int at = (victim + 3 * gone) % ARRAY_SIZE(ios);

			assert_int_equal(hv_acrn.ioeventfd(test->ctx, &ios[at], false), 0);
			assert_false(driver_has(&ios[at]));
			for (unsigned int left = gone + 1; left < ARRAY_SIZE(ios); left++)
				assert_true(
					driver_has(&ios[(victim + 3 * left) % ARRAY_SIZE(ios)]));
		}
		assert_int_equal(hsm.ioeventfd_count, 0);
	}
}

static void test_ioeventfd_fails(void **state)
{
	struct test *test = *state;
	const struct hv_ioeventfd older = { 0x1000, 2, HV_IOEVENTFD_PIO, 0, test->fds[0] };
	const struct hv_ioeventfd younger = { 0x1010, 2, HV_IOEVENTFD_PIO, 0, test->fds[0] };

	fake_fail(ACRN_IOCTL_IOEVENTFD, ENOMEM);
	assert_int_equal(hv_acrn.ioeventfd(test->ctx, &older, true), -ENOMEM);
	fake_fail(0, 0);
	assert_int_equal(hv_acrn.ioeventfd(test->ctx, &older, false), -ENOENT);
	assert_int_equal(hv_acrn.ioeventfd(test->ctx, &older, true), 0);
	assert_int_equal(hv_acrn.ioeventfd(test->ctx, &younger, true), 0);
	/* The older one does not come back: it traps, and is no longer there to be removed. */
	fake_fail_at(2, ENOMEM);
	assert_int_equal(hv_acrn.ioeventfd(test->ctx, &younger, false), 0);
	fake_fail_at(0, 0);
	assert_int_equal(hsm.ioeventfd_count, 0);
	assert_int_equal(hv_acrn.ioeventfd(test->ctx, &older, false), -ENOENT);
}

static void test_ioeventfd_table(void **state)
{
	struct test *test = *state;
	struct hv_ioeventfd io = { .len = 2, .fd = test->fds[0] };

	for (unsigned int i = 0; i < ACRN_KICKS; i++) {
		io.addr = MIB(1) + 4 * i;
		assert_int_equal(hv_acrn.ioeventfd(test->ctx, &io, true), 0);
	}
	io.addr = MIB(2);
	assert_int_equal(hv_acrn.ioeventfd(test->ctx, &io, true), -ENOSPC);
	io.addr = MIB(1);
	assert_int_equal(hv_acrn.ioeventfd(test->ctx, &io, false), 0);
	io.addr = MIB(2);
	assert_int_equal(hv_acrn.ioeventfd(test->ctx, &io, true), 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_lines),
		TEST(test_line_fails),
		TEST(test_reset_lowers),
		TEST(test_msi),
		TEST(test_irqfd_rules),
		TEST(test_irqfd),
		TEST(test_irqfd_nowhere),
		TEST(test_irqfd_update_loses_nothing),
		TEST(test_irqfd_updated_meanwhile),
		TEST(test_irqfd_fails),
		TEST(test_irqfd_table),
		TEST(test_ioeventfd_rules),
		TEST(test_ioeventfd_fill),
		TEST(test_ioeventfd_order),
		TEST(test_ioeventfd_fails),
		TEST(test_ioeventfd_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
