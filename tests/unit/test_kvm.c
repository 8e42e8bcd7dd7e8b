/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The KVM port with tiny guests on the machine's /dev/kvm, which may be a software one; without
 * any, the tests are skipped.
 */
#include "kvm_machine.h"

#include "eventfd_rules.h"

#define START(machine, code) start(machine, code, sizeof(code))
#define EXPECT(machine, expected) expect_accesses(machine, expected, ARRAY_SIZE(expected))

static void test_create(void **state)
{
	struct machine *machine = new_machine(1);

	free_machine(machine);
	machine = new_machine(VM_CPUS_MAX);
	free_machine(machine);
}

static void test_cpu_count(void **state)
{
	static const unsigned int bad[] = { 0, VM_CPUS_MAX + 1 };
	struct machine *machine;

	if (!have_kvm())
		skip();
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		machine = calloc(1, sizeof(*machine));
		assert_non_null(machine);
		init_machine(machine, bad[i]);
		assert_int_equal(hv_kvm.create(&machine->ctx), -EINVAL);
		assert_null(machine->ctx.hv_data);
		assert_int_equal(machine->lines, 1);
		assert_non_null(strstr(machine->line, "use 1 to 16"));
		free_machine(machine);
	}
}

static void test_pio(void **state)
{
	static const struct access expected[] = {
		{ IO_PIO, true, REPORT_PORT, 1, 0x41 },
		{ IO_PIO, true, REPORT_PORT, 2, 0x4241 },
		{ IO_PIO, true, REPORT_PORT, 4, 0x44434241 },
		{ IO_PIO, false, ASK_PORT, 1, 0 },
		{ IO_PIO, false, ASK_PORT, 2, 0 },
		{ IO_PIO, false, ASK_PORT, 4, 0 },
		{ IO_PIO, true, REPORT_PORT, 4, 0x88 },
		{ IO_PIO, true, REPORT_PORT, 4, 0x7788 },
		{ IO_PIO, true, REPORT_PORT, 4, 0x55667788 },
	};
	struct machine *machine = new_machine(1);

	machine->answer = 0x1122334455667788;
	START(machine, guest_pio);
	EXPECT(machine, expected);
	free_machine(machine);
}

#define PIT_PORT 0x40
#define PIT_PORTS 0x22 /* and port 0x61 */

static uint64_t pit_read(void *arg, uint64_t offset, unsigned int size)
{
	return answer_read(arg, IO_PIO, PIT_PORT + offset, size);
}

static void pit_write(void *arg, uint64_t offset, unsigned int size, uint64_t value)
{
	answer_write(arg, IO_PIO, PIT_PORT + offset, size, value);
}

/* The PIT's ports and port 0x61 are the kernel's, or with pit=user the platform's. */
static void check_pit(const char *options, bool user)
{
	static const struct io_range_ops ops = { pit_read, pit_write };
	static const struct access expected[] = {
		{ IO_PIO, true, 0x43, 1, 0x34 },
		{ IO_PIO, false, 0x61, 1, 0 },
		{ IO_PIO, true, REPORT_PORT, 1, 0x5a },
	};
	struct machine *machine = new_machine_with(1, options);
	struct io_range range = {
		.name = "PIT", .base = PIT_PORT, .size = PIT_PORTS, .ops = &ops, .arg = machine
	};

	assert_int_equal(machine->ctx.needs_timers, user);
	assert_int_equal(io_space_add(&machine->ctx.pio, &range), 0);
	machine->answer = 0x5a;
	for (unsigned int run = 0; run < 2; run++) {
		START(machine, guest_pit);
		if (user) {
			EXPECT(machine, expected);
		} else {
			wait_accesses(machine, 2);
			assert_int_equal(machine->accesses[0].addr, REPORT_PORT);
		}
		reset(machine);
	}
	io_space_remove(&machine->ctx.pio, &range);
	free_machine(machine);
}

static void test_pit(void **state)
{
	check_pit(NULL, false);
	check_pit("pit=kernel", false);
	check_pit("pit=user", true);
}

static void test_mmio(void **state)
{
	const uint64_t back = MMIO_BASE + 0x10;
	const struct access expected[] = {
		{ IO_MMIO, true, MMIO_BASE, 1, 0x11 },
		{ IO_MMIO, true, MMIO_BASE + 2, 2, 0x2211 },
		{ IO_MMIO, true, MMIO_BASE + 4, 4, 0x44332211 },
		{ IO_MMIO, true, MMIO_BASE + 8, 8, 0x8877665544332211 },
		{ IO_MMIO, false, MMIO_BASE, 1, 0 },
		{ IO_MMIO, true, back, 8, 0xf1 },
		{ IO_MMIO, false, MMIO_BASE + 2, 2, 0 },
		{ IO_MMIO, true, back, 8, 0xf2f1 },
		{ IO_MMIO, false, MMIO_BASE + 4, 4, 0 },
		{ IO_MMIO, true, back, 8, 0xf4f3f2f1 },
		{ IO_MMIO, false, MMIO_BASE + 8, 8, 0 },
		{ IO_MMIO, true, back, 8, 0xf8f7f6f5f4f3f2f1 },
		/* four bytes over a page border: three and one, the three as two and one */
		{ IO_MMIO, true, MMIO_BASE + 0xffd, 2, 0x0201 },
		{ IO_MMIO, true, MMIO_BASE + 0xfff, 1, 0x03 },
		{ IO_MMIO, true, MMIO_BASE + 0x1000, 1, 0x04 },
		{ IO_MMIO, false, MMIO_BASE + 0xffd, 2, 0 },
		{ IO_MMIO, false, MMIO_BASE + 0xfff, 1, 0 },
		{ IO_MMIO, false, MMIO_BASE + 0x1000, 1, 0 },
		{ IO_MMIO, true, back, 8, 0xf1f1f2f1 },
	};
	struct machine *machine = new_machine(1);

	machine->answer = 0xf8f7f6f5f4f3f2f1;
	START(machine, guest_mmio);
	EXPECT(machine, expected);
	free_machine(machine);
}

static void test_string_io(void **state)
{
	static const struct access expected[] = {
		{ IO_PIO, true, REPORT_PORT, 1, 't' },	  { IO_PIO, true, REPORT_PORT, 1, 'e' },
		{ IO_PIO, true, REPORT_PORT, 1, 'n' },	  { IO_PIO, true, REPORT_PORT, 1, 'o' },
		{ IO_PIO, true, REPORT_PORT, 1, 'n' },	  { IO_PIO, false, ASK_PORT, 1, 0 },
		{ IO_PIO, false, ASK_PORT, 1, 0 },	  { IO_PIO, false, ASK_PORT, 1, 0 },
		{ IO_PIO, false, ASK_PORT, 1, 0 },	  { IO_PIO, true, REPORT_PORT, 2, 0x5a5a },
		{ IO_PIO, true, REPORT_PORT, 2, 0x5a5a },
	};
	struct machine *machine = new_machine(1);

	put(machine, DATA_ADDRESS, "tenon", 5);
	machine->answer = 0x5a;
	START(machine, guest_string);
	EXPECT(machine, expected);
	assert_int_equal(get64(machine, DATA_ADDRESS + 0x10), 0x5a5a5a5a);
	free_machine(machine);
}

/* The guest says 1, halts, and says the vector of each interrupt. */
static struct machine *new_interrupt_machine(void)
{
	struct machine *machine = new_machine(1);

	START(machine, guest_interrupts);
	wait_accesses(machine, 1);
	assert_int_equal(report(machine, 0), 1);
	return machine;
}

static void test_msi(void **state)
{
	const struct hv_msi msi = { 0xfee00000, 0x30 };
	const struct hv_msi nowhere = { 0x1000, 0x30 };
	struct machine *machine = new_interrupt_machine();

	for (unsigned int i = 1; i <= 5; i++) {
		assert_int_equal(hv_kvm.msi(&machine->ctx, &msi), 0);
		wait_accesses(machine, 1 + i);
		assert_int_equal(report(machine, i), 0x30);
	}
	assert_int_equal(hv_kvm.msi(&machine->ctx, &nowhere), -EINVAL);
	assert_false(have_accesses(machine, 7, SILENCE_MS));
	free_machine(machine);
}

static void test_irq_line(void **state)
{
	struct machine *machine = new_interrupt_machine();

	for (unsigned int i = 1; i <= 3; i++) {
		assert_int_equal(hv_kvm.irq_line(&machine->ctx, IOAPIC_LINE, true), 0);
		wait_accesses(machine, 1 + i);
		assert_int_equal(report(machine, i), 0x31);
		assert_int_equal(hv_kvm.irq_line(&machine->ctx, IOAPIC_LINE, false), 0);
	}
	assert_int_equal(hv_kvm.irq_line(&machine->ctx, 24, true), -EINVAL);
	free_machine(machine);
}

static void signal_fd(int fd)
{
	const uint64_t one = 1;

	assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
}

static void test_irqfd(void **state)
{
	const struct hv_msi first = { 0xfee00000, 0x30 }, second = { 0xfee00000, 0x31 };
	const struct hv_msi nowhere = { 0x1000, 0x30 };
	struct machine *machine = new_interrupt_machine();
	struct vmctx *ctx = &machine->ctx;
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int handle;

	assert_true(fd >= 0);
	handle = hv_kvm.irqfd_add(ctx, fd, &first);
	assert_true(handle >= 0);
	signal_fd(fd);
	wait_accesses(machine, 2);
	assert_int_equal(report(machine, 1), 0x30);

	assert_int_equal(hv_kvm.irqfd_update(ctx, handle, &second), 0);
	signal_fd(fd);
	wait_accesses(machine, 3);
	assert_int_equal(report(machine, 2), 0x31);

	/* The lines' routes are still there. */
	assert_int_equal(hv_kvm.irq_line(ctx, IOAPIC_LINE, true), 0);
	wait_accesses(machine, 4);
	assert_int_equal(hv_kvm.irq_line(ctx, IOAPIC_LINE, false), 0);

	assert_int_equal(hv_kvm.irqfd_update(ctx, handle, &nowhere), 0);
	signal_fd(fd);
	assert_false(have_accesses(machine, 5, SILENCE_MS));
	assert_int_equal(hv_kvm.irqfd_update(ctx, handle, &first), 0);
	signal_fd(fd);
	wait_accesses(machine, 5);

	hv_kvm.irqfd_remove(ctx, handle, fd);
	signal_fd(fd);
	assert_false(have_accesses(machine, 6, SILENCE_MS));
	assert_int_equal(hv_kvm.irqfd_update(ctx, handle, &first), -EINVAL);
	hv_kvm.irqfd_remove(ctx, handle, fd); /* harmless */
	assert_int_equal(hv_kvm.irqfd_update(ctx, -1, &first), -EINVAL);
	assert_int_equal(hv_kvm.irqfd_update(ctx, KVM_MSI_ROUTES, &first), -EINVAL);
	assert_int_equal(machine->lines, 0);
	close(fd);
	free_machine(machine);
}

static void test_irqfd_table(void **state)
{
	const struct hv_msi msi = { 0xfee00000, 0x30 };
	struct machine *machine = new_machine(1);
	struct kvm_vm *vm = machine->ctx.hv_data;
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	assert_true(fd >= 0);
	/* What cannot be bound leaves no entry behind. */
	assert_true(hv_kvm.irqfd_add(&machine->ctx, -1, &msi) < 0);
	assert_int_equal(hv_kvm.irqfd_add(&machine->ctx, fd, &msi), 0);
	for (int i = 1; i < KVM_MSI_ROUTES; i++)
		vm->msi_routes[i] = (struct kvm_msi_route) { .used = true, .msi = msi };
	assert_int_equal(hv_kvm.irqfd_add(&machine->ctx, fd, &msi), -ENOSPC);
	hv_kvm.irqfd_remove(&machine->ctx, 0, fd);
	/* A full table is what KVM takes. */
	assert_int_equal(hv_kvm.irqfd_add(&machine->ctx, fd, &msi), 0);
	hv_kvm.irqfd_remove(&machine->ctx, 0, fd);
	close(fd);
	free_machine(machine);
}

static uint64_t take_events(int fd)
{
	uint64_t count = 0;

	return read(fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

static void test_ioeventfd(void **state)
{
	static const struct access trapped[] = { { IO_PIO, true, KICK_PORT, 2, 2 } };
	static const struct access all[] = {
		{ IO_PIO, true, KICK_PORT, 2, 1 },     { IO_PIO, true, KICK_PORT, 2, 2 },
		{ IO_MMIO, true, KICK_ADDRESS, 1, 2 }, { IO_MMIO, true, KICK_ADDRESS, 2, 2 },
		{ IO_MMIO, true, KICK_ADDRESS, 4, 2 },
	};
	struct machine *machine = new_machine(1);
	struct vmctx *ctx = &machine->ctx;
	struct hv_ioeventfd port = { KICK_PORT, 2, HV_IOEVENTFD_PIO | HV_IOEVENTFD_DATAMATCH, 1,
				     eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
	struct hv_ioeventfd memory = { .addr = KICK_ADDRESS,
				       .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
	struct hv_ioeventfd odd = port;

	assert_true(port.fd >= 0 && memory.fd >= 0);
	assert_int_equal(hv_kvm.ioeventfd(ctx, &port, true), 0);
	assert_int_equal(hv_kvm.ioeventfd(ctx, &port, true), -EEXIST);
	assert_int_equal(hv_kvm.ioeventfd(ctx, &memory, true), 0);
	odd.len = 3;
	assert_int_equal(hv_kvm.ioeventfd(ctx, &odd, true), -EINVAL);
	odd.flags = 0x80;
	assert_int_equal(hv_kvm.ioeventfd(ctx, &odd, true), -EINVAL);

	START(machine, guest_ioeventfd);
	EXPECT(machine, trapped);
	assert_int_equal(take_events(port.fd), 1);
	assert_int_equal(take_events(memory.fd), 3);

	assert_int_equal(hv_kvm.ioeventfd(ctx, &port, false), 0);
	assert_int_equal(hv_kvm.ioeventfd(ctx, &memory, false), 0);
	assert_int_equal(hv_kvm.ioeventfd(ctx, &memory, false), -ENOENT);
	reset(machine);
	START(machine, guest_ioeventfd);
	EXPECT(machine, all);
	assert_int_equal(take_events(port.fd), 0);
	assert_int_equal(take_events(memory.fd), 0);
	close(port.fd);
	close(memory.fd);
	free_machine(machine);
}

static void test_eventfd_rules(void **state)
{
	struct machine *machine = new_machine(1);

	check_ioeventfd_rules(&machine->ctx);
	check_irqfd_rules(&machine->ctx);
	assert_int_equal(machine->lines, 0);
	free_machine(machine);
}

static void test_triple_fault(void **state)
{
	struct machine *machine = new_machine(1);

	START(machine, guest_triple_fault);
	assert_int_equal(wait_request(machine), VM_REQUEST_CRASH);
	/* It stays where it is until the reset, and then it is as good as new. */
	hv_kvm.pause(&machine->ctx);
	machine->ctx.request = VM_REQUEST_NONE;
	assert_int_equal(hv_kvm.start(&machine->ctx), 0);
	usleep(SILENCE_MS * 1000);
	assert_int_equal(machine->ctx.request, VM_REQUEST_NONE);
	reset(machine);
	machine->answer = 0x1122;
	START(machine, guest_ask);
	wait_accesses(machine, 3);
	assert_int_equal(report(machine, 1), 0x1122);
	free_machine(machine);
}

static void test_pause_spinning(void **state)
{
	struct machine *machine = new_machine(2);
	struct vmctx *ctx = &machine->ctx;
	uint64_t count = 0;

	hv_kvm.pause(ctx); /* never started */
	START(machine, guest_spin);
	for (int i = 0; i < 50; i++) {
		for (int ms = 0; ms < PATIENCE_S * 1000; ms++) {
			if (get64(machine, DATA_ADDRESS) != count)
				break;
			usleep(1000);
		}
		hv_kvm.pause(ctx);
		hv_kvm.pause(ctx);
		assert_true(get64(machine, DATA_ADDRESS) > count);
		count = get64(machine, DATA_ADDRESS);
		usleep(1000);
		assert_int_equal(get64(machine, DATA_ADDRESS), count);
		assert_int_equal(hv_kvm.start(ctx), 0);
	}
	/* As fast as it goes: no kick is lost. */
	for (int i = 0; i < 500; i++) {
		hv_kvm.pause(ctx);
		assert_int_equal(hv_kvm.start(ctx), 0);
	}
	assert_int_equal(machine->lines, 0);
	free_machine(machine);
}

static void *pause_in_thread(void *arg)
{
	struct machine *machine = arg;

	hv_kvm.pause(&machine->ctx);
	return NULL;
}

static void test_pause_in_read(void **state)
{
	struct machine *machine = new_machine(1);
	struct kvm_vm *vm = machine->ctx.hv_data;
	struct kvm_regs regs;
	pthread_t thread;

	machine->answer = 0xcafe1234;
	machine->hold_reads = true;
	START(machine, guest_ask);
	wait_accesses(machine, 1);
	assert_int_equal(pthread_create(&thread, NULL, pause_in_thread, machine), 0);
	usleep(SILENCE_MS * 1000);
	/* The pause waits for the device. */
	assert_int_equal(pthread_tryjoin_np(thread, NULL), EBUSY);
	assert_int_equal(hv_kvm.reset(&machine->ctx), -EBUSY);
	pthread_mutex_lock(&machine->lock);
	assert_true(machine->read_waits);
	machine->hold_reads = false;
	pthread_cond_broadcast(&machine->changed);
	pthread_mutex_unlock(&machine->lock);
	assert_int_equal(pthread_join(thread, NULL), 0);

	/* The instruction is complete, the next one not begun. */
	assert_int_equal(ioctl(vm->vcpus[0].fd, KVM_GET_REGS, &regs), 0);
	assert_int_equal(regs.rax, 0xcafe1234);
	assert_int_equal(regs.rip, CODE_ADDRESS + 5);
	assert_int_equal(machine->count, 1);
	assert_int_equal(hv_kvm.start(&machine->ctx), 0);
	wait_accesses(machine, 3);
	assert_int_equal(report(machine, 1), 0xcafe1234);
	free_machine(machine);
}

#define STATE_REPORTS 12 /* of guest_state */

static void test_reset(void **state)
{
	struct machine *machine = new_machine(1);
	uint64_t first[STATE_REPORTS];

	for (int run = 0; run < 10; run++) {
		put64(machine, DATA_ADDRESS, 0);
		START(machine, guest_state);
		wait_accesses(machine, STATE_REPORTS + 1);
		assert_int_equal(machine->accesses[STATE_REPORTS].addr, DONE_PORT);
		if (!run)
			for (unsigned int i = 0; i < STATE_REPORTS; i++)
				first[i] = report(machine, i);
		for (unsigned int i = 0; i < STATE_REPORTS; i++)
			assert_int_equal(report(machine, i), first[i]);
		reset(machine);
	}
	assert_int_equal(first[2], 0x20); /* CR4: PAE */
	assert_int_equal(first[6], 0x806); /* MTRRs on, write-back */
	assert_int_equal(first[7] & 1, 1); /* fast strings */
	assert_int_equal(first[8] & 0x100, 0); /* local APIC off in software */
	assert_int_equal(first[10], 0x10000); /* IOAPIC line masked */
	assert_int_equal(machine->lines, 0);
	free_machine(machine);
}

/* What guest_state switched on does not write into the memory of the next kernel. */
static void test_reset_stops_clock(void **state)
{
	struct machine *machine = new_machine(1);
	uint64_t written = 0;

	put64(machine, DATA_ADDRESS, 1);
	START(machine, guest_state);
	wait_accesses(machine, STATE_REPORTS + 1);
	for (unsigned int i = 0; i < 0x140; i += 8)
		written |= get64(machine, CLOCK_ADDRESS + i);
	assert_int_not_equal(written, 0);

	reset(machine);
	START(machine, guest_state);
	wait_accesses(machine, STATE_REPORTS + 1);
	hv_kvm.pause(&machine->ctx);
	for (unsigned int i = 0; i < 0x140; i += 8)
		assert_int_equal(get64(machine, CLOCK_ADDRESS + i), 0);
	free_machine(machine);
}

/* Suspend to RAM: CPUs as after power-on, memory as it was, and on in real mode. */
static void test_wake(void **state)
{
	static const uint32_t vectors[] = { 0x10000, 0x1f123, 0xfabc8, 0xfffe0 };
	struct machine *machine = new_machine(2);
	uint64_t written = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(vectors); i++) {
		const struct hv_cpu_state wake = { .mode = X86_MODE_REAL, .rip = vectors[i] };

		put64(machine, DATA_ADDRESS, 1);
		START(machine, guest_state);
		wait_accesses(machine, STATE_REPORTS + 1);
		hv_kvm.pause(&machine->ctx);
		assert_int_equal(hv_kvm.reset(&machine->ctx), 0);
		put(machine, vectors[i], guest_wake, sizeof(guest_wake));
		machine->count = 0;
		assert_int_equal(hv_kvm.set_boot_cpu(&machine->ctx, &wake), 0);
		assert_int_equal(hv_kvm.start(&machine->ctx), 0);
		wait_accesses(machine, 3);
		assert_int_equal(report(machine, 0), vectors[i] >> 4);
		assert_int_equal(report(machine, 1), (vectors[i] & 0xf) + 9);
		/* What the guest had in memory is there, what it switched on is off. */
		assert_int_equal(get64(machine, DATA_ADDRESS), 1);
		for (unsigned int j = 0; j < 0x140; j += 8)
			written |= get64(machine, CLOCK_ADDRESS + j);
		reset(machine);
	}
	assert_int_not_equal(written, 0);
	assert_int_equal(machine->lines, 0);
	free_machine(machine);
}

static void test_two_cpus(void **state)
{
	struct machine *machine = new_machine(2);

	for (int run = 0; run < 3; run++) {
		START(machine, guest_start_ap);
		wait_accesses(machine, 2);
		assert_int_equal(report(machine, 0), 0x77);
		assert_int_equal(machine->accesses[1].addr, DONE_PORT);
		reset(machine);
		/* CPU 1 waits for its next start-up IPI. */
		START(machine, guest_ask);
		wait_accesses(machine, 3);
		assert_false(have_accesses(machine, 4, SILENCE_MS));
		reset(machine);
	}
	assert_int_equal(machine->lines, 0);
	free_machine(machine);
}

static void test_two_vms(void **state)
{
	struct machine *spinning = new_machine(1), *asking = new_machine(1);

	START(spinning, guest_spin);
	asking->answer = 7;
	START(asking, guest_ask);
	wait_accesses(asking, 3);
	assert_int_equal(report(asking, 1), 7);
	free_machine(asking);
	hv_kvm.pause(&spinning->ctx);
	assert_int_not_equal(get64(spinning, DATA_ADDRESS), 0);
	free_machine(spinning);
}

static void test_cpuid(void **state)
{
	struct machine *machine = new_machine(3);

	START(machine, guest_cpuid);
	wait_accesses(machine, 7);
	assert_int_equal(report(machine, 0) >> 16, 4); /* APIC id 0, ids for 4 */
	assert_true(report(machine, 1) & BIT32(31)); /* hypervisor */
	assert_false(report(machine, 1) & BIT32(5)); /* VMX */
	assert_int_equal(report(machine, 2), 3); /* cores */
	assert_int_equal(report(machine, 3), 0); /* x2APIC id */
	assert_int_equal(report(machine, 4), 0x4b4d564b); /* "KVMK" */
	assert_false(report(machine, 5) & BIT32(2)); /* SVM */
	free_machine(machine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_create),
		cmocka_unit_test(test_cpu_count),
		cmocka_unit_test(test_pio),
		cmocka_unit_test(test_pit),
		cmocka_unit_test(test_mmio),
		cmocka_unit_test(test_string_io),
		cmocka_unit_test(test_msi),
		cmocka_unit_test(test_irq_line),
		cmocka_unit_test(test_irqfd),
		cmocka_unit_test(test_irqfd_table),
		cmocka_unit_test(test_ioeventfd),
		cmocka_unit_test(test_eventfd_rules),
		cmocka_unit_test(test_triple_fault),
		cmocka_unit_test(test_pause_spinning),
		cmocka_unit_test(test_pause_in_read),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_reset_stops_clock),
		cmocka_unit_test(test_wake),
		cmocka_unit_test(test_two_cpus),
		cmocka_unit_test(test_two_vms),
		cmocka_unit_test(test_cpuid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
