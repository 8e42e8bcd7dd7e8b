/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The ACRN port on a fake HSM: finding it, making a VM, its CPUs, memory and life.
 */
#include "fake_guest.h"

#include "arch.h"

/* ---- Finding it */

static void test_available(void **state)
{
	static const struct {
		int error;
		const char *text;
	} errors[] = {
		{ ENOENT, "no /dev/acrn_hsm: load acrn_hsm" },
		{ ENXIO, "hsmd" },
		{ EACCES, "/dev/acrn_hsm: Permission denied (run tenon as root" },
		{ EBUSY, "/dev/acrn_hsm: cannot open: Device or resource busy" },
	};
	struct fake_machine *machine = *state;

	assert_true(hv_acrn.available(&machine->log.log));
	assert_int_equal(machine->log.count, 0);
	assert_int_equal(hsm.opens, 1);
	assert_int_equal(hsm.closes, 1);
	for (unsigned int i = 0; i < ARRAY_SIZE(errors); i++) {
		hsm.open_error = errors[i].error;
		assert_false(hv_acrn.available(&machine->log.log));
		assert_int_equal(machine->log.count, i + 1);
		assert_non_null(strstr(machine->log.lines[i], errors[i].text));
		assert_false(hv_acrn.available(NULL));
	}
	assert_int_equal(machine->log.count, ARRAY_SIZE(errors));
}

static void test_find(void **state)
{
	struct fake_machine *machine = *state;
	const struct hv_ops *found;

	assert_ptr_equal(hv_find(&machine->log.log, "auto"), &hv_acrn);
	assert_ptr_equal(hv_find(&machine->log.log, "acrn"), &hv_acrn);
	assert_int_equal(machine->log.count, 0);

	/* Without it, KVM; nobody speaks of an HSM that is not there. */
	hsm.open_error = ENOENT;
	found = hv_find(&machine->log.log, "auto");
	assert_true(!found || found == &hv_kvm);
	assert_int_equal(machine->log.count, found ? 0 : 1);
	if (!found)
		assert_null(strstr(machine->log.lines[0], "acrn"));
	assert_null(hv_find(&machine->log.log, "acrn"));
	/* Another device is looked for when it is opened. */
	assert_ptr_equal(hv_find(&machine->log.log, "acrn,device=/dev/x"), &hv_acrn);
}

static void test_other_device(void **state)
{
	struct fake_machine *machine = *state;

	snprintf(hsm.device, sizeof(hsm.device), "/dev/other_hsm");
	machine->config.hv_options = "device=/dev/other_hsm";
	fake_machine_create(machine);
	assert_int_equal(hsm.opens, 1);
	vm_destroy(machine->ctx);
	machine->config.hv_options = "device=/nowhere/hsm";
	machine->ctx = vm_create(&machine->log.log, &hv_acrn, &machine->config);
	assert_null(machine->ctx);
	assert_int_equal(machine->log.count, 1);
	assert_non_null(strstr(machine->log.lines[0], "no /nowhere/hsm: load acrn_hsm"));
}

/* ---- CREATE_VM */

static void test_create(void **state)
{
	static const char name[16] = "POST_STD_VM1";
	struct fake_machine *machine = *state;
	const struct acrn_vm_creation *creation;

	machine->config.cpu_affinity = 0xc;
	machine->config.acrn_vm_flags = 0x800;
	fake_machine_create(machine);
	creation = &fake_call(ACRN_IOCTL_CREATE_VM, 0)->creation;
	assert_memory_equal(&creation->uuid, name, sizeof(name));
	assert_int_equal(creation->vm_flag, 0x800);
	assert_int_equal(creation->cpu_affinity, 0xc);
	assert_int_equal(creation->ioreq_buf % 4096, 0);
	assert_true(machine->ctx->needs_timers);
	assert_true(machine->ctx->hv->memory_pinned);
	assert_int_equal(machine->log.count, 0);
}

static void test_create_options(void **state)
{
	static const struct {
		const char *options;
		uint64_t flags, affinity;
	} rows[] = {
		{ "polling", 0x4, 0x1 },   { "polling=on,cpu_affinity=0x30", 0x4, 0x30 },
		{ "rtvm", 0x14, 0x1 },	   { "rtvm,lapic_pt", 0x16, 0x1 },
		{ "polling=off", 0, 0x1 },
	};
	struct fake_machine *machine = *state;

	machine->config.cpu_affinity = 0x1;
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		machine->config.hv_options = rows[i].options;
		fake_machine_create(machine);
		assert_int_equal(fake_call(ACRN_IOCTL_CREATE_VM, i)->creation.vm_flag,
				 rows[i].flags);
		assert_int_equal(fake_call(ACRN_IOCTL_CREATE_VM, i)->creation.cpu_affinity,
				 rows[i].affinity);
		vm_destroy(machine->ctx);
		machine->ctx = NULL;
	}
	assert_int_equal(machine->log.count, 0);
}

/* Nothing said: the first ones of the host; if the scenario refuses those, its own. */
static void test_no_affinity(void **state)
{
	struct fake_machine *machine = *state;

	machine->config.cpu_count = 3;
	hsm.vcpu_num = 3;
	fake_machine_create(machine);
	assert_int_equal(fake_calls(ACRN_IOCTL_CREATE_VM), 1);
	assert_int_equal(fake_call(ACRN_IOCTL_CREATE_VM, 0)->creation.cpu_affinity, 7);
	vm_destroy(machine->ctx);

	fake_fail_at(1, EINVAL);
	fake_machine_create(machine);
	assert_int_equal(fake_calls(ACRN_IOCTL_CREATE_VM), 3);
	assert_int_equal(fake_call(ACRN_IOCTL_CREATE_VM, 1)->creation.cpu_affinity, 7);
	assert_int_equal(fake_call(ACRN_IOCTL_CREATE_VM, 2)->creation.cpu_affinity, 0);
	vm_destroy(machine->ctx);
	assert_int_equal(machine->log.count, 0);

	fake_fail_at(0, 0);
	fake_fail(ACRN_IOCTL_CREATE_VM, EINVAL);
	machine->ctx = vm_create(&machine->log.log, &hv_acrn, &machine->config);
	assert_null(machine->ctx);
	assert_int_equal(machine->log.count, 1);
	assert_non_null(strstr(machine->log.lines[0], "does not make POST_STD_VM1: Invalid"));
	/* What was said is not bent. */
	machine->config.cpu_affinity = 0x30;
	machine->ctx = vm_create(&machine->log.log, &hv_acrn, &machine->config);
	assert_null(machine->ctx);
	assert_int_equal(fake_calls(ACRN_IOCTL_CREATE_VM), 6);
}

static void test_uuid(void **state)
{
	static const uint8_t bytes[16] = { 0xd2, 0x79, 0x54, 0x38, 0x25, 0xd6, 0x11, 0xe8,
					   0x86, 0x4e, 0xcb, 0x7a, 0x18, 0xb3, 0x46, 0x43 };
	struct fake_machine *machine = *state;

	machine->config.uuid = "d2795438-25d6-11e8-864e-cb7a18b34643";
	machine->ctx = vm_create(&machine->log.log, &hv_acrn, &machine->config);
#ifdef HAVE_UUID
	assert_non_null(machine->ctx);
	assert_memory_equal(&fake_call(ACRN_IOCTL_CREATE_VM, 0)->creation.uuid, bytes, 16);
	vm_destroy(machine->ctx);

	/* The port's own option wins. */
	machine->config.hv_options = "uuid=00000000-0000-0000-0000-0000000000ff";
	fake_machine_create(machine);
	assert_int_equal(fake_call(ACRN_IOCTL_CREATE_VM, 1)->creation.uuid.b[0], 0);
	assert_int_equal(fake_call(ACRN_IOCTL_CREATE_VM, 1)->creation.uuid.b[15], 0xff);
	vm_destroy(machine->ctx);

	machine->config.hv_options = "uuid=d2795438";
	machine->ctx = vm_create(&machine->log.log, &hv_acrn, &machine->config);
	assert_null(machine->ctx);
	assert_int_equal(machine->log.count, 1);
	assert_non_null(strstr(machine->log.lines[0], "d2795438 is not a UUID"));
#else
	assert_null(machine->ctx);
	assert_int_equal(machine->log.count, 1);
	assert_non_null(strstr(machine->log.lines[0], "built without libuuid"));
	(void)bytes;
#endif
}

static void test_create_refused(void **state)
{
	static const struct {
		const char *name, *options;
		uint16_t vcpus;
		const char *text;
	} rows[] = {
		{ "sixteen-letters-", NULL, 1, "sixteen-letters-: a VM's name has 15 characters" },
		{ "vm", "lapic_pt", 1, "lapic_pt needs rtvm" },
		{ "vm", "frob=1", 1, "unknown option frob, valid are" },
		{ "vm", "polling=7", 1, "polling=7" },
		{ "vm", NULL, 0, "gives vm no CPU" },
	};
	struct fake_machine *machine = *state;

	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		machine->config.name = rows[i].name;
		machine->config.hv_options = rows[i].options;
		hsm.vcpu_num = rows[i].vcpus;
		machine->ctx = vm_create(&machine->log.log, &hv_acrn, &machine->config);
		assert_null(machine->ctx);
		assert_int_equal(errno, EINVAL);
		assert_int_equal(machine->log.count, i + 1);
		assert_non_null(strstr(machine->log.lines[i], rows[i].text));
		assert_int_equal(hsm.opens, hsm.closes);
		assert_false(hsm.has_vm);
	}
}

static void test_cpu_count(void **state)
{
	static const struct {
		unsigned int asked;
		uint16_t given;
		unsigned int used, served;
		const char *text;
	} rows[] = {
		{ 2, 2, 2, 2, NULL },
		{ 4, 2, 2, 2, "gives vm 2 CPUs, not 4" },
		{ 1, 3, 1, 3, "gives vm 3 CPUs, of which it will use 1 (give -c 3" },
		{ 16, 40, 16, 16, "gives vm 40 CPUs, of which it will use 16" },
	};
	struct fake_machine *machine = *state;
	struct acrn_vm *vm;

	machine->config.name = "vm";
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		unsigned int before = machine->log.count;

		machine->config.cpu_count = rows[i].asked;
		hsm.vcpu_num = rows[i].given;
		fake_machine_create(machine);
		vm = machine->ctx->hv_data;
		assert_int_equal(machine->ctx->config.cpu_count, rows[i].used);
		assert_int_equal(vm->vcpu_count, rows[i].served);
		assert_int_equal(machine->log.count, before + !!rows[i].text);
		if (rows[i].text)
			assert_non_null(strstr(machine->log.lines[before], rows[i].text));
		vm_destroy(machine->ctx);
		machine->ctx = NULL;
	}
}

static void test_memory(void **state)
{
	struct fake_machine *machine = *state;
	const struct guest_memory *memory;

	machine->config.memory_size = GIB(4);
	fake_machine_create(machine);
	memory = &machine->ctx->memory;
	assert_true(memory->count > 1);
	assert_int_equal(fake_calls(ACRN_IOCTL_SET_MEMSEG), memory->count);
	for (unsigned int i = 0; i < memory->count; i++) {
		const struct acrn_vm_memmap *map = &fake_call(ACRN_IOCTL_SET_MEMSEG, i)->memmap;

		assert_int_equal(map->type, ACRN_MEMMAP_RAM);
		assert_int_equal(map->attr, ACRN_MEM_ACCESS_RWX | ACRN_MEM_TYPE_WB);
		assert_int_equal(map->user_vm_pa, memory->regions[i].gpa);
		assert_ptr_equal((void *)(uintptr_t)map->vma_base, memory->regions[i].host);
		assert_int_equal(map->len, memory->regions[i].size);
	}
}

/* ---- The boot CPU */

static void test_boot_cpu(void **state)
{
	static const struct hv_cpu_state long_mode = { .mode = X86_MODE_LONG,
						       .rip = 0x1000200,
						       .rsp = 0x8000,
						       .rsi = 0x7000,
						       .rbx = 0x6000,
						       .cr3 = 0x9000,
						       .gdt_base = 0x5000,
						       .gdt_limit = 0x27 };
	struct hv_cpu_state protected = long_mode;
	struct fake_machine *machine = *state;
	const struct acrn_vcpu_regs *got;
	const struct acrn_regs *regs;

	fake_machine_create(machine);
	protected.mode = X86_MODE_PROTECTED;
	assert_int_equal(hv_acrn.set_boot_cpu(machine->ctx, &long_mode), 0);
	assert_int_equal(hv_acrn.set_boot_cpu(machine->ctx, &protected), 0);
	for (unsigned int i = 0; i < 2; i++) {
		got = &fake_call(ACRN_IOCTL_SET_VCPU_REGS, i)->regs;
		regs = &got->vcpu_regs;
		assert_int_equal(got->vcpu_id, 0);
		assert_int_equal(regs->rip, 0x1000200);
		assert_int_equal(regs->gprs.rsp, 0x8000);
		assert_int_equal(regs->gprs.rsi, 0x7000);
		assert_int_equal(regs->gprs.rbx, 0x6000);
		assert_int_equal(regs->gdt.base, 0x5000);
		assert_int_equal(regs->gdt.limit, 0x27);
		assert_int_equal(regs->idt.limit, 0);
		assert_int_equal(regs->rflags, 2);
		assert_int_equal(regs->cs_base, 0);
		assert_int_equal(regs->cs_limit, 0xffffffff);
		assert_int_equal(regs->ss_sel, 0x18);
		assert_int_equal(regs->ds_sel, 0x18);
		assert_int_equal(regs->es_sel, 0x18);
		assert_int_equal(regs->fs_sel, 0x18);
		assert_int_equal(regs->gs_sel, 0x18);
		assert_int_equal(regs->tr_sel, 0);
	}
	regs = &fake_call(ACRN_IOCTL_SET_VCPU_REGS, 0)->regs.vcpu_regs;
	assert_int_equal(regs->cs_sel, 0x10);
	assert_int_equal(regs->cs_ar, 0xa09b);
	assert_int_equal(regs->cr0, 0x80000031);
	assert_int_equal(regs->cr3, 0x9000);
	assert_int_equal(regs->cr4, 0x20);
	assert_int_equal(regs->ia32_efer, 0x500);
	/* As a real hypervisor was seen to take it. */
	regs = &fake_call(ACRN_IOCTL_SET_VCPU_REGS, 1)->regs.vcpu_regs;
	assert_int_equal(regs->cs_sel, 0x20);
	assert_int_equal(regs->cs_ar, 0xc09b);
	assert_int_equal(regs->cr0, 0x31);
	assert_int_equal(regs->cr3, 0);
	assert_int_equal(regs->cr4, 0);
	assert_int_equal(regs->ia32_efer, 0);
}

static void test_boot_cpu_real_mode(void **state)
{
	static const struct hv_cpu_state waking = {
		.mode = X86_MODE_REAL, .rip = 0x9a1f4, .rsp = 1, .rsi = 2, .cr3 = 3, .gdt_base = 4
	};
	struct fake_machine *machine = *state;
	const struct acrn_regs *regs;

	fake_machine_create(machine);
	assert_int_equal(hv_acrn.set_boot_cpu(machine->ctx, &waking), 0);
	regs = &fake_call(ACRN_IOCTL_SET_VCPU_REGS, 0)->regs.vcpu_regs;
	assert_int_equal(regs->cs_sel, 0x9a1f);
	assert_int_equal(regs->cs_base, 0x9a1f0);
	assert_int_equal(regs->rip, 0x4);
	assert_int_equal(regs->cs_limit, 0xffff);
	assert_int_equal(regs->cs_ar, 0x9b);
	assert_int_equal(regs->cr0, 0x30);
	assert_int_equal(regs->gdt.base, 0);
	assert_int_equal(regs->idt.base, 0);
	assert_int_equal(regs->idt.limit, 0x3ff);
	assert_int_equal(regs->ss_sel, 0);
	assert_int_equal(regs->gprs.rsp, 0);
	assert_int_equal(regs->gprs.rsi, 0);
	assert_int_equal(regs->cr3, 0);
	assert_int_equal(regs->rflags, 2);
}

/* ---- Its life */

static void expect_requests(const unsigned long *requests, unsigned int count)
{
	fake_lock();
	for (unsigned int i = 0; i < count; i++)
		assert_int_equal(hsm.calls[i].request, requests[i]);
	assert_int_equal(hsm.count, count);
	hsm.count = 0;
	fake_unlock();
}

#define EXPECT_REQUESTS(...)                                                                       \
	do {                                                                                       \
		static const unsigned long requests_[] = { __VA_ARGS__ };                          \
		expect_requests(requests_, ARRAY_SIZE(requests_));                                 \
	} while (0)

static const struct hv_cpu_state boot = { .mode = X86_MODE_PROTECTED, .rip = 0x100000 };

static void test_life(void **state)
{
	struct fake_machine *machine = *state;
	struct vmctx *ctx;

	fake_machine_create(machine);
	ctx = machine->ctx;
	assert_int_equal(hv_acrn.set_boot_cpu(ctx, &boot), 0);
	fake_machine_start(machine);
	assert_int_equal(hv_acrn.reset(ctx), -EBUSY);
	EXPECT_REQUESTS(ACRN_IOCTL_CREATE_VM, ACRN_IOCTL_SET_MEMSEG, ACRN_IOCTL_SET_VCPU_REGS,
			ACRN_IOCTL_CREATE_IOREQ_CLIENT, ACRN_IOCTL_START_VM);

	for (int i = 0; i < 3; i++) {
		hv_acrn.pause(ctx);
		assert_int_equal(hv_acrn.reset(ctx), 0);
		assert_int_equal(hv_acrn.set_boot_cpu(ctx, &boot), 0);
		fake_machine_start(machine);
		EXPECT_REQUESTS(ACRN_IOCTL_PAUSE_VM, ACRN_IOCTL_CLEAR_VM_IOREQ, ACRN_IOCTL_RESET_VM,
				ACRN_IOCTL_SET_VCPU_REGS, ACRN_IOCTL_START_VM);
	}
	/* Paused twice, continued without a reset. */
	hv_acrn.pause(ctx);
	hv_acrn.pause(ctx);
	fake_machine_start(machine);
	EXPECT_REQUESTS(ACRN_IOCTL_PAUSE_VM, ACRN_IOCTL_START_VM);

	/* The hypervisor resets a paused VM only. */
	hv_acrn.pause(ctx);
	assert_int_equal(hv_acrn.reset(ctx), 0);
	assert_int_equal(hv_acrn.reset(ctx), 0);
	EXPECT_REQUESTS(ACRN_IOCTL_PAUSE_VM, ACRN_IOCTL_CLEAR_VM_IOREQ, ACRN_IOCTL_RESET_VM,
			ACRN_IOCTL_PAUSE_VM, ACRN_IOCTL_CLEAR_VM_IOREQ, ACRN_IOCTL_RESET_VM);
	fake_machine_start(machine);
	vm_destroy(ctx);
	machine->ctx = NULL;
	EXPECT_REQUESTS(ACRN_IOCTL_START_VM, ACRN_IOCTL_PAUSE_VM, ACRN_IOCTL_DESTROY_IOREQ_CLIENT,
			ACRN_IOCTL_DESTROY_VM);
	assert_int_equal(hsm.closes, 1);
	assert_int_equal(machine->log.count, 0);
}

/* What a VM needs until it runs; 0 or -errno. */
static int bring_up(struct fake_machine *machine)
{
	int ret;

	machine->ctx = vm_create(&machine->log.log, &hv_acrn, &machine->config);
	if (!machine->ctx)
		return -errno;
	ret = hv_acrn.set_boot_cpu(machine->ctx, &boot);
	if (!ret)
		ret = hv_acrn.start(machine->ctx);
	return ret;
}

/* Whichever call fails: one line, that errno, and nothing stays. */
static void test_failing_calls(void **state)
{
	struct fake_machine *machine = *state;
	unsigned int fds = fake_entries("/proc/self/fd");
	unsigned int threads = fake_entries("/proc/self/task");
	unsigned int at;
	int ret = -1;

	for (at = 1; ret; at++) {
		unsigned int before = machine->log.count;

		fake_fail_at(at, ENOSPC);
		ret = bring_up(machine);
		assert_true(!ret || ret == -ENOSPC);
		assert_int_equal(machine->log.count, before + (ret ? 1 : 0));
		fake_fail_at(0, 0);
		vm_destroy(machine->ctx);
		machine->ctx = NULL;
		assert_false(hsm.has_vm);
		assert_false(hsm.has_client);
		assert_int_equal(hsm.opens, hsm.closes);
		assert_int_equal(fake_entries("/proc/self/fd"), fds);
		assert_int_equal(fake_entries("/proc/self/task"), threads);
	}
	/* CREATE_VM, SET_MEMSEG, SET_VCPU_REGS, CREATE_IOREQ_CLIENT, START_VM. */
	assert_int_equal(at - 2, 5);
}

static void test_failing_ends(void **state)
{
	static const struct {
		unsigned long request;
		unsigned int lines;
		const char *text;
	} rows[] = {
		/* What is not paused cannot be destroyed either. */
		{ ACRN_IOCTL_PAUSE_VM, 2, "PAUSE_VM: Operation not permitted" },
		{ ACRN_IOCTL_DESTROY_IOREQ_CLIENT, 0, NULL },
		{ ACRN_IOCTL_DESTROY_VM, 1, "cannot destroy POST_STD_VM1: Operation not" },
	};
	struct fake_machine *machine = *state;
	unsigned int threads = fake_entries("/proc/self/task");

	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		unsigned int before = machine->log.count;

		assert_int_equal(bring_up(machine), 0);
		fake_fail(rows[i].request, EPERM);
		vm_destroy(machine->ctx);
		machine->ctx = NULL;
		fake_fail(0, 0);
		assert_int_equal(machine->log.count, before + rows[i].lines);
		if (rows[i].text)
			assert_non_null(strstr(machine->log.lines[before], rows[i].text));
		assert_int_equal(fake_entries("/proc/self/task"), threads);
		assert_int_equal(hsm.opens, hsm.closes);
	}
}

static void test_failing_reset(void **state)
{
	static const unsigned long requests[] = { ACRN_IOCTL_CLEAR_VM_IOREQ, ACRN_IOCTL_RESET_VM };
	struct fake_machine *machine = *state;

	assert_int_equal(bring_up(machine), 0);
	hv_acrn.pause(machine->ctx);
	for (unsigned int i = 0; i < ARRAY_SIZE(requests); i++) {
		fake_fail(requests[i], EIO);
		assert_int_equal(hv_acrn.reset(machine->ctx), -EIO);
		assert_int_equal(machine->log.count, i + 1);
		fake_fail(0, 0);
	}
	assert_int_equal(hv_acrn.reset(machine->ctx), 0);
	fake_machine_start(machine);
}

static void test_many_lives(void **state)
{
	struct fake_machine *machine = *state;

	for (int i = 0; i < 200; i++) {
		assert_int_equal(bring_up(machine), 0);
		vm_destroy(machine->ctx);
		machine->ctx = NULL;
	}
	assert_int_equal(machine->log.count, 0);
}

#define TEST(function)                                                                             \
	cmocka_unit_test_setup_teardown(function, fake_machine_setup, fake_machine_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_available),
		TEST(test_find),
		TEST(test_other_device),
		TEST(test_create),
		TEST(test_create_options),
		TEST(test_no_affinity),
		TEST(test_uuid),
		TEST(test_create_refused),
		TEST(test_cpu_count),
		TEST(test_memory),
		TEST(test_boot_cpu),
		TEST(test_life),
		TEST(test_boot_cpu_real_mode),
		TEST(test_failing_calls),
		TEST(test_failing_ends),
		TEST(test_failing_reset),
		TEST(test_many_lives),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
