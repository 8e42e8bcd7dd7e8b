/* SPDX-License-Identifier: BSD-3-Clause */
/* wake.c: where a guest goes on after suspend to RAM, as firmware would find it out. */

#include <errno.h>

#include "acpi_tables.h"
#include "boot.h"

#define REAL_MODE_END MIB(1)
#define WAKING_VECTOR                                                                              \
	(BOOT_ACPI + ACPI_FACS_OFFSET + offsetof(struct acpi_facs, firmware_waking_vector))

/*
 * The 32-bit vector: real mode (ACPI 6.5, 5.2.10). The 64-bit one is for firmware that says in the
 * FACS that it can do it. The guest may have written anything: read once.
 */
int arch_wake(struct vmctx *ctx, struct hv_cpu_state *state)
{
	const uint32_t *field = paddr_guest2host(ctx, WAKING_VECTOR, sizeof(*field));
	uint32_t vector;

	if (!field)
		return -EFAULT;
	vector = __atomic_load_n(field, __ATOMIC_RELAXED);
	if (!vector)
		return -ENOENT;
	if (vector >= REAL_MODE_END || !paddr_guest2host(ctx, vector, 1))
		return -EFAULT;
	*state = (struct hv_cpu_state) { .mode = X86_MODE_REAL, .rip = vector };
	return 0;
}
