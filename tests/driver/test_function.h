/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_function.h: a PCI function for tests of the PCI core: every kind of BAR and interrupt, and it
 * remembers how it was accessed. Include it in one source file of a program.
 */
#ifndef TENON_TESTS_TEST_FUNCTION_H
#define TENON_TESTS_TEST_FUNCTION_H

#include <errno.h>
#include <stdlib.h>

#include "pci_driver.h"

#define TEST_VENDOR 0x1234
#define TEST_DEVICE 0x5678
#define TEST_MSI_COUNT 8
#define TEST_MSIX_COUNT 70 /* more than one word of pending bits */
#define TEST_BIG_BAR_SIZE MIB(64) /* goes above 4 GiB */

enum test_bar { TEST_IO, TEST_MSIX, TEST_BIG, TEST_MEM = 4, TEST_IO_SMALL };

/* struct test_function - the last access to a BAR, how many there were, where BARs are. */
struct test_function {
	int bar;
	uint64_t offset, value;
	unsigned int size;
	unsigned int reads, writes;
	uint64_t decoded_at[PCI_BARS];
	unsigned int resets;
};

static inline struct test_function *test_function_of(struct pci_vdev *dev)
{
	return dev->arg;
}

/* What reading BAR @bar gives: differs by BAR and offset. */
static inline uint64_t test_pattern(int bar, uint64_t offset, unsigned int size)
{
	uint64_t value = 0;

	for (unsigned int i = 0; i < size; i++)
		value |= (uint64_t)(uint8_t)(0x40 + 0x20 * bar + offset + i) << (8 * i);
	return value;
}

static bool test_function_kind(unsigned int index, struct pci_kind *kind)
{
	kind->name = "test-function";
	kind->summary = "for the tests of the PCI core";
	return index == 0;
}

static int test_function_init(struct vmctx *ctx, struct pci_vdev *dev, const char *opts)
{
	int error;

	if (opts && !strcmp(opts, "fail"))
		return -EIO;
	dev->arg = calloc(1, sizeof(struct test_function));
	assert_non_null(dev->arg);
	pci_set_cfgdata16(dev, PCI_VENDOR_ID, TEST_VENDOR);
	pci_set_cfgdata16(dev, PCI_DEVICE_ID, TEST_DEVICE);
	error = pci_emul_alloc_bar(dev, TEST_IO, PCIBAR_IO, 20);
	if (!error)
		error = pci_emul_add_msixcap(dev, TEST_MSIX_COUNT, TEST_MSIX);
	if (!error)
		error = pci_emul_alloc_bar(dev, TEST_BIG, PCIBAR_MEM64, TEST_BIG_BAR_SIZE);
	if (!error)
		error = pci_emul_alloc_bar(dev, TEST_MEM, PCIBAR_MEM32, 4000);
	if (!error)
		error = pci_emul_alloc_bar(dev, TEST_IO_SMALL, PCIBAR_IO, 8);
	if (!error)
		error = pci_emul_add_msicap(dev, TEST_MSI_COUNT);
	if (!error)
		error = pci_lintr_request(dev);
	if (error)
		free(dev->arg);
	return error;
}

static void test_function_deinit(struct pci_vdev *dev)
{
	free(dev->arg);
}

static void test_function_reset(struct pci_vdev *dev)
{
	test_function_of(dev)->resets++;
}

static void test_function_note(struct pci_vdev *dev, int bar, uint64_t offset, unsigned int size,
			       uint64_t value)
{
	struct test_function *function = test_function_of(dev);

	assert_true(range_contains(0, dev->bar[bar].size, offset, size));
	function->bar = bar;
	function->offset = offset;
	function->size = size;
	function->value = value;
}

static uint64_t test_function_read(struct pci_vdev *dev, int bar, uint64_t offset,
				   unsigned int size)
{
	if (bar == TEST_MSIX)
		return pci_emul_msix_tread(dev, offset, size);
	test_function_note(dev, bar, offset, size, 0);
	test_function_of(dev)->reads++;
	return test_pattern(bar, offset, size);
}

static void test_function_write(struct pci_vdev *dev, int bar, uint64_t offset, unsigned int size,
				uint64_t value)
{
	if (bar == TEST_MSIX) {
		pci_emul_msix_twrite(dev, offset, size, value);
		return;
	}
	test_function_note(dev, bar, offset, size, value);
	test_function_of(dev)->writes++;
}

static void test_function_moved(struct pci_vdev *dev, int bar, bool enabled, uint64_t addr)
{
	test_function_of(dev)->decoded_at[bar] = enabled ? addr : 0;
}

static const struct pci_vdev_ops test_function_ops = {
	.kind = test_function_kind,
	.vdev_init = test_function_init,
	.vdev_deinit = test_function_deinit,
	.vdev_reset = test_function_reset,
	.vdev_barread = test_function_read,
	.vdev_barwrite = test_function_write,
	.vdev_bar_moved = test_function_moved,
};
PCI_DEVICE_TYPE(test_function_ops);

/* ---- What a device does about interrupts, with its lock held ---- */

static inline void test_intx(struct pci_vdev *dev, bool asserted)
{
	pthread_mutex_lock(&dev->lock);
	if (asserted)
		pci_lintr_assert(dev);
	else
		pci_lintr_deassert(dev);
	pthread_mutex_unlock(&dev->lock);
}

static inline int test_msi(struct pci_vdev *dev, unsigned int index)
{
	int error;

	pthread_mutex_lock(&dev->lock);
	error = pci_generate_msi(dev, index);
	pthread_mutex_unlock(&dev->lock);
	return error;
}

static inline int test_msix(struct pci_vdev *dev, unsigned int index)
{
	int error;

	pthread_mutex_lock(&dev->lock);
	error = pci_generate_msix(dev, index);
	pthread_mutex_unlock(&dev->lock);
	return error;
}

#endif
