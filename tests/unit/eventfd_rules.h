/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * eventfd_rules.h: what every hypervisor port says to ioeventfds and irqfds, whatever its kernel
 * says: one table, for test_kvm.c and test_acrn_irq.c.
 */
#ifndef TENON_TESTS_EVENTFD_RULES_H
#define TENON_TESTS_EVENTFD_RULES_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "dm.h"

#define RULE_FDS 3
#define PIO HV_IOEVENTFD_PIO
#define MATCH HV_IOEVENTFD_DATAMATCH

/* One call after the other; @fd: index of an eventfd, RULE_FDS: no eventfd, -1: no file. */
static const struct ioeventfd_rule {
	bool add;
	int fd;
	uint64_t addr;
	uint32_t len, flags;
	uint64_t data;
	int result;
	const char *what;
} ioeventfd_rules[] = {
	{ true, 0, 0x100, 1, PIO, 0, 0, "1 byte" },
	{ true, 0, 0x110, 2, PIO, 0, 0, "2 bytes, the same eventfd" },
	{ true, 0, 0x120, 4, PIO, 0, 0, "4 bytes" },
	{ true, 0, 0xd0000000, 8, 0, 0, 0, "8 bytes" },
	{ true, 0, 0xd0000010, 0, 0, 0, 0, "any length" },
	{ true, 1, 0x130, 3, PIO, 0, -EINVAL, "3 bytes" },
	{ true, 1, 0x130, 16, PIO, 0, -EINVAL, "16 bytes" },
	{ true, 1, 0x130, UINT32_MAX, PIO, 0, -EINVAL, "4 GiB" },
	{ true, 1, UINT64_MAX, 2, 0, 0, -EINVAL, "beyond the end" },
	{ true, 1, 0x130, 2, 0x80, 0, -EINVAL, "unknown flag" },
	{ true, -1, 0x130, 2, PIO, 0, -EBADF, "no file" },
	{ true, RULE_FDS, 0x130, 2, PIO, 0, -EINVAL, "no eventfd" },
	{ true, 0, 0x110, 2, PIO, 0, -EEXIST, "the same once more" },
	{ true, 1, 0x110, 2, PIO, 0, -EEXIST, "another eventfd, any data" },
	{ true, 1, 0x110, 2, PIO | MATCH, 7, -EEXIST, "any data is there, a value comes" },
	{ true, 1, 0x110, 2, 0, 0, 0, "memory is not ports" },
	{ true, 1, 0x140, 2, PIO | MATCH, 1, 0, "a value" },
	{ true, 2, 0x140, 2, PIO | MATCH, 2, 0, "another value" },
	{ true, 1, 0x140, 2, PIO | MATCH, 3, 0, "the first eventfd for a third value" },
	{ true, 2, 0x140, 2, PIO | MATCH, 1, -EEXIST, "a value is there" },
	{ true, 2, 0x140, 2, PIO, 0, -EEXIST, "values are there, any data comes" },
	{ false, 2, 0x140, 2, PIO | MATCH, 1, -ENOENT, "not its eventfd" },
	{ false, 1, 0x140, 2, PIO | MATCH, 2, -ENOENT, "not its value" },
	{ false, 1, 0x142, 2, PIO | MATCH, 1, -ENOENT, "not its address" },
	{ false, 1, 0x140, 2, MATCH, 1, -ENOENT, "memory is not ports" },
	{ false, 1, 0x140, 2, PIO | MATCH, 3, 0, "the youngest of an eventfd" },
	{ false, 1, 0x140, 2, PIO | MATCH, 3, -ENOENT, "only once" },
	{ true, 0, 0x140, 2, PIO | MATCH, 3, 0, "its place is free" },
	{ false, 0, 0x120, 4, PIO, 0, 0, "one in the middle" },
	{ false, 0, 0xd0000010, 0, 0, 0, 0, "any length" },
	{ false, 0, 0xd0000010, 0, 0, 0, -ENOENT, "any length, only once" },
	{ false, 0, 0x100, 1, PIO, 0, 0, "the oldest" },
	{ false, 0, 0xd0000000, 8, 0, 0, 0, "the rest" },
	{ false, 0, 0x110, 2, PIO, 0, 0, "the rest" },
	{ false, 1, 0x110, 2, 0, 0, 0, "the rest" },
	{ false, 1, 0x140, 2, PIO | MATCH, 1, 0, "the rest" },
	{ false, 2, 0x140, 2, PIO | MATCH, 2, 0, "the rest" },
	{ false, 0, 0x140, 2, PIO | MATCH, 3, 0, "the rest" },
};

#undef PIO
#undef MATCH

static inline void rule_fds_open(int fds[RULE_FDS + 1])
{
	for (int i = 0; i < RULE_FDS; i++)
		fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fds[RULE_FDS] = dup(STDERR_FILENO);
	for (int i = 0; i <= RULE_FDS; i++)
		assert_true(fds[i] >= 0);
}

static inline void rule_fds_close(const int fds[RULE_FDS + 1])
{
	for (int i = 0; i <= RULE_FDS; i++)
		close(fds[i]);
}

/** check_ioeventfd_rules() - of a VM that has no ioeventfds, and has none afterwards. */
static inline void check_ioeventfd_rules(struct vmctx *ctx)
{
	int fds[RULE_FDS + 1];

	rule_fds_open(fds);
	for (size_t i = 0; i < ARRAY_SIZE(ioeventfd_rules); i++) {
		const struct ioeventfd_rule *rule = &ioeventfd_rules[i];
		const struct hv_ioeventfd io = { .addr = rule->addr,
						 .len = rule->len,
						 .flags = rule->flags,
						 .data = rule->data,
						 .fd = rule->fd < 0 ? -1 : fds[rule->fd] };
		int result = ctx->hv->ioeventfd(ctx, &io, rule->add);

		if (result != rule->result)
			fail_msg("%s, %s: %d instead of %d", rule->add ? "add" : "remove",
				 rule->what, result, rule->result);
	}
	rule_fds_close(fds);
}

/** check_irqfd_rules() - of a VM that has no irqfds, and has none afterwards. */
static inline void check_irqfd_rules(struct vmctx *ctx)
{
	const struct hv_msi first = { 0xfee00000, 0x30 }, second = { 0xfee01000, 0x31 };
	const struct hv_msi nowhere = { 0x1000, 0x30 };
	const struct hv_ops *hv = ctx->hv;
	int fds[RULE_FDS + 1];
	int one, two;

	rule_fds_open(fds);
	assert_int_equal(hv->irqfd_add(ctx, -1, &first), -EBADF);
	assert_int_equal(hv->irqfd_add(ctx, fds[RULE_FDS], &first), -EINVAL);
	one = hv->irqfd_add(ctx, fds[0], &first);
	two = hv->irqfd_add(ctx, fds[1], &nowhere);
	assert_true(one >= 0 && two >= 0 && one != two);
	assert_int_equal(hv->irqfd_add(ctx, fds[0], &second), -EBUSY);
	assert_int_equal(hv->irqfd_update(ctx, one, &second), 0);
	assert_int_equal(hv->irqfd_update(ctx, one, &second), 0);
	assert_int_equal(hv->irqfd_update(ctx, one, &nowhere), 0);
	assert_int_equal(hv->irqfd_update(ctx, one, &first), 0);
	assert_int_equal(hv->irqfd_update(ctx, two, &second), 0);
	assert_int_equal(hv->irqfd_update(ctx, -1, &first), -EINVAL);
	assert_int_equal(hv->irqfd_update(ctx, 1 << 20, &first), -EINVAL);
	hv->irqfd_remove(ctx, one, fds[0]);
	assert_int_equal(hv->irqfd_update(ctx, one, &first), -EINVAL);
	hv->irqfd_remove(ctx, one, fds[0]); /* harmless */
	one = hv->irqfd_add(ctx, fds[0], &first);
	assert_true(one >= 0);
	hv->irqfd_remove(ctx, one, fds[0]);
	hv->irqfd_remove(ctx, two, fds[1]);
	rule_fds_close(fds);
}

#endif
