/* SPDX-License-Identifier: BSD-3-Clause */
/* Interrupt lines of PCI functions: to the IOAPIC, and through the PCI-ISA bridge to ISA interrupts. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pci_core.h"
#include "timers_vm.h"

#define BRIDGE 0x80000700 /* 00:00.7 in CONFIG_ADDRESS */

/* ---- A function with an interrupt pin and nothing else */

static bool line_kind(unsigned int index, struct pci_kind *kind)
{
	kind->name = "test-line";
	kind->summary = "a function with an interrupt pin";
	return index == 0;
}

static int line_init(struct vmctx *ctx, struct pci_vdev *dev, const char *opts)
{
	pci_set_cfgdata16(dev, PCI_VENDOR_ID, 0x1234);
	return pci_lintr_request(dev);
}

static void line_reset(struct pci_vdev *dev)
{
	pci_lintr_deassert(dev);
}

static const struct pci_vdev_ops line_ops = {
	.kind = line_kind,
	.vdev_init = line_init,
	.vdev_reset = line_reset,
};
PCI_DEVICE_TYPE(line_ops);

static void assert_line(struct pci_vdev *dev, bool level)
{
	pthread_mutex_lock(&dev->lock);
	if (level)
		pci_lintr_assert(dev);
	else
		pci_lintr_deassert(dev);
	pthread_mutex_unlock(&dev->lock);
}

/* ---- The machine */

static int set_up(void **state)
{
	int error = timers_vm_set_up(state);
	struct fake_vm *vm = *state;

	return error ? error : pci_bus_create(&vm->ctx);
}

static int tear_down(void **state)
{
	struct fake_vm *vm = *state;

	pci_bus_destroy(&vm->ctx);
	return timers_vm_tear_down(state);
}

static uint64_t config(struct fake_vm *vm, unsigned int reg, unsigned int size)
{
	fake_vm_out(vm, 0xcf8, 4, BRIDGE | (reg & 0xfc));
	return fake_vm_in(vm, (uint16_t)(0xcfc + (reg & 3)), size);
}

static void set_config(struct fake_vm *vm, unsigned int reg, unsigned int size, uint32_t value)
{
	fake_vm_out(vm, 0xcf8, 4, BRIDGE | (reg & 0xfc));
	fake_vm_out(vm, (uint16_t)(0xcfc + (reg & 3)), size, value);
}

static unsigned int route_register(unsigned int line)
{
	static const uint8_t registers[] = { 0x60, 0x61, 0x62, 0x63, 0x68, 0x69, 0x6a, 0x6b };

	return registers[line];
}

static struct pci_vdev *add(struct fake_vm *vm, const char *spec)
{
	struct pci_vdev *dev = pci_add_device(&vm->ctx, spec);

	assert_non_null(dev);
	return dev;
}

static void test_bridge(void **state)
{
	struct fake_vm *vm = *state;

	assert_int_equal(config(vm, PCI_CLASS_DEVICE, 2), 0x0601);
	fake_vm_out(vm, 0xcf8, 4, 0x8000000c);
	assert_int_equal(fake_vm_in(vm, 0xcfe, 1), 0x80); /* so that guests look at the others */
	for (unsigned int line = 0; line < 8; line++) {
		unsigned int reg = route_register(line);

		assert_int_equal(config(vm, reg, 1), 0x80);
		set_config(vm, reg, 1, 0xff);
		assert_int_equal(config(vm, reg, 1), 0x8f);
		set_config(vm, reg, 1, 0x05);
		assert_int_equal(config(vm, reg, 1), 0x05);
	}
	assert_int_equal(config(vm, 0x64, 4), 0);
	/* all of the places are still free but for its own; there is only one of it */
	assert_null(pci_add_device(&vm->ctx, "0:7,test-line"));
	assert_int_equal(errno, EEXIST);
	assert_null(pci_add_device(&vm->ctx, "3,isabridge"));
	assert_int_equal(errno, EEXIST);
	assert_non_null(strstr(vm->log.lines[1], "isabridge: every VM has one, at slot 0:7"));
	for (unsigned int slot = 1; slot < 32; slot++)
		assert_int_equal(add(vm, "test-line")->slot, slot);
}

/* Routes are off: as it was before there were any. */
static void test_ioapic_only(void **state)
{
	struct fake_vm *vm = *state;

	for (unsigned int slot = 1; slot < 10; slot++) {
		struct pci_vdev *dev = add(vm, "test-line");
		unsigned int gsi = 16 + slot % 8;

		assert_line(dev, true);
		assert_true(vm->level[gsi]);
		assert_line(dev, false);
		assert_false(vm->level[gsi]);
	}
	for (unsigned int gsi = 0; gsi < 16; gsi++)
		assert_int_equal(vm->raised[gsi], 0);
}

static void test_routed(void **state)
{
	struct fake_vm *vm = *state;
	struct pci_vdev *three = add(vm, "3,test-line"), *four = add(vm, "4,test-line");
	struct pci_vdev *eleven = add(vm, "11,test-line"); /* shares a line with three */

	set_config(vm, 0x63, 1, 10);
	assert_line(three, true);
	assert_true(vm->level[10]);
	assert_true(vm->level[19]);
	assert_line(eleven, true);
	assert_line(three, false);
	assert_true(vm->level[10]);
	assert_line(eleven, false);
	assert_false(vm->level[10]);
	assert_int_equal(vm->raised[10], 1);
	/* two lines to one interrupt */
	set_config(vm, 0x68, 1, 10);
	assert_line(three, true);
	assert_line(four, true);
	assert_line(three, false);
	assert_true(vm->level[10]);
	assert_int_equal(vm->raised[10], 2);
	/* routed elsewhere, and off, while it is up */
	set_config(vm, 0x68, 1, 11);
	assert_false(vm->level[10]);
	assert_true(vm->level[11]);
	set_config(vm, 0x68, 1, 0x8b);
	assert_false(vm->level[11]);
	set_config(vm, 0x68, 1, 11);
	assert_true(vm->level[11]);
	/* four registers at once */
	assert_line(three, true);
	set_config(vm, 0x60, 4, 0x05808080);
	assert_true(vm->level[5]);
	assert_true(vm->level[20]);
	/* INTx disabled in the command register */
	pci_cfg_write(three, PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE);
	assert_false(vm->level[5]);
}

/* The mainboard's interrupts cannot be had, and an UART's is shared with it. */
static void test_not_routable(void **state)
{
	static const uint8_t reserved[] = { 0, 1, 2, 8, 13 };
	struct fake_vm *vm = *state;
	struct pci_vdev *dev = add(vm, "1,test-line");

	assert_line(dev, true);
	for (unsigned int i = 0; i < ARRAY_SIZE(reserved); i++) {
		set_config(vm, 0x61, 1, reserved[i]);
		assert_int_equal(vm->raised[reserved[i]], 0);
	}
	for (unsigned int value = 0; value < 256; value++)
		set_config(vm, 0x61, 1, value);
	assert_int_equal(vm->level[15], false);
	set_config(vm, 0x61, 1, 4);
	assert_true(vm->level[4]);
	platform_irq(&vm->ctx, 4, 0, true);
	assert_line(dev, false);
	assert_true(vm->level[4]);
	platform_irq(&vm->ctx, 4, 0, false);
	assert_false(vm->level[4]);
}

/* The SCI shares its line with functions that a guest routes to it. */
static void test_sci_shared(void **state)
{
	struct fake_vm *vm = *state;
	struct pci_vdev *dev = add(vm, "1,test-line");

	set_config(vm, 0x61, 1, PM_SCI_GSI);
	assert_line(dev, true);
	fake_vm_out(vm, PM1A_EVT_PORT + 2, 2, 0x0100);
	pm_power_button(vm->ctx.platform->pm);
	fake_vm_out(vm, PM1A_EVT_PORT, 2, 0x0100);
	assert_true(vm->level[PM_SCI_GSI]);
	pm_power_button(vm->ctx.platform->pm);
	assert_line(dev, false);
	assert_true(vm->level[PM_SCI_GSI]);
	fake_vm_out(vm, PM1A_EVT_PORT, 2, 0x0100);
	assert_false(vm->level[PM_SCI_GSI]);
}

/* What is in the bridge's registers after a load is how lines are routed. */
static void test_state(void **state)
{
	struct fake_vm *vm = *state;
	struct pci_vdev *three = add(vm, "3,test-line");
	struct state_writer *writer = state_writer_create(&vm->log.log);
	struct state_reader *reader;
	const uint8_t *bytes;
	size_t len;

	set_config(vm, 0x63, 1, 10);
	assert_int_equal(pci_save_devices(&vm->ctx, writer), 0);
	bytes = state_finish(writer, &len);
	set_config(vm, 0x63, 1, 0x80);
	reader = state_reader_open(&vm->log.log, bytes, len);
	assert_non_null(reader);
	assert_int_equal(pci_load_devices(&vm->ctx, reader), 0);
	assert_int_equal(state_commit(reader), 0);
	assert_int_equal(config(vm, 0x63, 1), 10);
	assert_line(three, true);
	assert_true(vm->level[10]);
	state_reader_close(reader);
	state_writer_destroy(writer);
}

static void test_reset(void **state)
{
	struct fake_vm *vm = *state;
	struct pci_vdev *dev = add(vm, "1,test-line");

	set_config(vm, 0x61, 1, 11);
	fake_vm_out(vm, 0x4d0, 2, 0xffff);
	assert_line(dev, true);
	assert_true(vm->level[11]);
	pci_reset_devices(&vm->ctx);
	platform_reset(&vm->ctx);
	assert_false(vm->level[11]);
	assert_int_equal(config(vm, 0x61, 1), 0x80);
	assert_int_equal(fake_vm_in(vm, 0x4d0, 2), 0);
	assert_line(dev, true);
	assert_false(vm->level[11]);
	assert_true(vm->level[17]);
}

static void test_elcr(void **state)
{
	struct fake_vm *vm = *state;

	assert_int_equal(fake_vm_in(vm, 0x4d0, 2), 0);
	fake_vm_out(vm, 0x4d0, 1, 0xff);
	fake_vm_out(vm, 0x4d1, 1, 0xff);
	assert_int_equal(fake_vm_in(vm, 0x4d0, 1), 0xf8);
	assert_int_equal(fake_vm_in(vm, 0x4d1, 1), 0xde);
	fake_vm_out(vm, 0x4d0, 2, 0x0c20);
	assert_int_equal(fake_vm_in(vm, 0x4d0, 2), 0x0c20);
}

#define pirq_test(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		pirq_test(test_bridge),	      pirq_test(test_ioapic_only), pirq_test(test_routed),
		pirq_test(test_not_routable), pirq_test(test_reset),	   pirq_test(test_elcr),
		pirq_test(test_sci_shared),   pirq_test(test_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
