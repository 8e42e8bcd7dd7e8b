/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The hypervisor ports that tenon has, in the order in which --hv auto tries them.
 */
#include "hv.h"

#include <stdio.h>
#include <unistd.h>

#include "options.h"

static const struct hv_ops *const ports[] = { &hv_acrn, &hv_kvm, &hv_test };

static const struct hv_ops *port_find(const char *name, size_t len)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(ports); i++)
		if (strlen(ports[i]->name) == len && !memcmp(name, ports[i]->name, len))
			return ports[i];
	return NULL;
}

static const struct hv_ops *port_auto(struct logger *log)
{
	const struct hv_ops *closest = NULL;

	for (unsigned int i = 0; i < ARRAY_SIZE(ports); i++)
		if (!ports[i]->no_cpus && ports[i]->available(NULL))
			return ports[i];
	/* None: say why, of the first whose device is there, else of the last. */
	for (unsigned int i = 0; i < ARRAY_SIZE(ports); i++) {
		if (ports[i]->no_cpus || (closest && access(closest->device, F_OK) == 0))
			continue;
		closest = ports[i];
	}
	return closest && closest->available(log) ? closest : NULL;
}

static void log_unknown(struct logger *log, const char *spec)
{
	char names[128] = "auto";

	for (unsigned int i = 0; i < ARRAY_SIZE(ports); i++) {
		size_t used = strlen(names);

		snprintf(names + used, sizeof(names) - used, ", %s", ports[i]->name);
	}
	log_error(log, "--hv %s: no such hypervisor port, valid are: %s", spec, names);
}

const char *hv_spec_options(const char *spec)
{
	const char *comma = strchr(spec, ',');

	return comma ? comma + 1 : NULL;
}

const struct hv_ops *hv_find(struct logger *log, const char *spec)
{
	size_t len = strcspn(spec, ",");
	const struct hv_ops *port = port_find(spec, len);
	bool any = len == strlen("auto") && !memcmp(spec, "auto", len);

	if (!port && !any) {
		log_unknown(log, spec);
		return NULL;
	}
	if (spec[len] && (any || !port->options)) {
		log_error(log, "--hv %s: %.*s takes no options", spec, (int)len, spec);
		return NULL;
	}
	if (any)
		return port_auto(log);
	/* Options may name another device: create() looks. */
	return spec[len] || port->available(log) ? port : NULL;
}

void hv_help(void *out_file)
{
	fprintf(out_file, "%-8s %s\n", "auto", "the first of the others that this machine has");
	for (unsigned int i = 0; i < ARRAY_SIZE(ports); i++) {
		fprintf(out_file, "%-8s %s\n", ports[i]->name, ports[i]->summary);
		options_help(out_file, ports[i]->options);
	}
}
