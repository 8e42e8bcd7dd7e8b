/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The hypervisor ports that tenon has, in the order in which --hv auto tries them.
 */
#include "hv.h"

static const struct hv_ops *const ports[] = { &hv_kvm };

const struct hv_ops *hv_find(struct logger *log, const char *name)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(ports); i++) {
		if (strcmp(name, "auto") && strcmp(name, ports[i]->name))
			continue;
		if (ports[i]->available(log))
			return ports[i];
		if (strcmp(name, "auto"))
			return NULL;
	}
	if (!strcmp(name, "auto"))
		return NULL;
	log_error(log, "--hv %s: no such hypervisor port, valid are: auto, kvm", name);
	return NULL;
}
