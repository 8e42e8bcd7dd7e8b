/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Running checks: the ways in which a device is driven, a machine for each.
 */
#include "check_context.h"

#include <stdio.h>
#include <stdlib.h>

#define MODERN_CONFIG_TYPE 3 /* offset of cfg_type in a vendor capability (virtio 1.4, 4.1.4) */

extern const struct device_check *const __start_device_checks[];
extern const struct device_check *const __stop_device_checks[];

/* By clause, so that 2.7.4 comes before 2.7.10; those of one clause as the linker has them. */
static bool comes_before(const struct device_check *const *a, const struct device_check *const *b)
{
	int order = strverscmp((*a)->clause, (*b)->clause);

	return order < 0 || (!order && a < b);
}

const struct device_check *device_check_at(unsigned int index)
{
	const struct device_check *const *end = __stop_device_checks;

	for (const struct device_check *const *at = __start_device_checks; at < end; at++) {
		unsigned int before = 0;

		for (const struct device_check *const *i = __start_device_checks; i < end; i++)
			before += comes_before(i, at);
		if (before == index)
			return *at;
	}
	return NULL;
}

enum check_result check_fail(struct check_context *check, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(check->why, CHECK_WHY_SIZE, fmt, args);
	va_end(args);
	return CHECK_FAIL;
}

enum check_result check_skip(struct check_context *check, const char *why)
{
	snprintf(check->why, CHECK_WHY_SIZE, "%s", why);
	return CHECK_NOT_APPLICABLE;
}

/* ---- One way ---- */

static bool has_legacy(struct pci_function *function)
{
	return function->bar[0].type == PCIBAR_IO;
}

static bool has_modern(struct pci_function *function)
{
	unsigned int cap = 0;

	while ((cap = pci_capability(function, PCI_CAP_ID_VNDR, cap)))
		if (pci_in(function, cap + MODERN_CONFIG_TYPE, 1) == VIRTIO_PCI_CAP_COMMON_CFG)
			return true;
	return false;
}

static bool interface_there(struct check_context *check)
{
	struct pci_function function;

	if (!pci_function_open(&function, check->machine, PCI_ECAM, CHECK_SLOT, 0))
		return false;
	return check->params.legacy ? has_legacy(&function) : has_modern(&function);
}

static void check_setup(struct check_context *check)
{
	struct machine_config config = { .ioeventfd = check->params.ioeventfd };
	char place[512];

	check->machine = machine_create(&config);
	snprintf(place, sizeof(place), "%d,%s", CHECK_SLOT, check->spec);
	check->dev = machine_add(check->machine, place);
	snprintf(place, sizeof(place), "%d,virtio-rng", CHECK_OTHER_SLOT);
	machine_add(check->machine, place);
}

static void check_teardown(struct check_context *check)
{
	driver_close(check->driver);
	check->driver = NULL;
	machine_destroy(check->machine);
}

/* CHECK_NOT_APPLICABLE without a reason: the device has no such interface. */
static enum check_result run_one_way(const struct device_check *check, const char *spec,
				     const struct driver_params *params,
				     struct check_probe *last_probe, char *why)
{
	struct check_context context = {
		.spec = spec, .params = *params, .last_probe = last_probe, .why = why
	};
	enum check_result result = CHECK_NOT_APPLICABLE;
	char reason[CHECK_WHY_SIZE], name[80];

	check_setup(&context);
	if (interface_there(&context))
		result = check->run(&context);
	check_teardown(&context);
	if (result != CHECK_FAIL)
		return result;
	snprintf(reason, sizeof(reason), "%s", why);
	snprintf(why, CHECK_WHY_SIZE, "%.*s (%s)", CHECK_WHY_SIZE - 90, reason,
		 driver_params_name(params, name, sizeof(name)));
	return result;
}

/* ---- All of them ---- */

static bool axes_have(enum check_axes axes, const struct driver_params *params)
{
	bool usual = params->indirect && params->event_idx && params->msix && !params->ioeventfd &&
		     !params->packed;

	return axes == CHECK_ALL || usual;
}

enum check_result device_check_run(const struct device_check *check, const char *spec, char *why)
{
	enum check_result result = CHECK_NOT_APPLICABLE;
	struct check_probe last_probe = { .found = false };

	snprintf(why, CHECK_WHY_SIZE, "the device has no such interface");
	for (unsigned int i = 0; i < DRIVER_COMBINATIONS; i++) {
		struct driver_params params = driver_params_at(i);
		enum check_result now;

		if (!axes_have(check->axes, &params))
			continue;
		now = run_one_way(check, spec, &params, &last_probe, why);
		if (now == CHECK_FAIL)
			return now;
		if (now == CHECK_OK)
			result = now;
		if (now == CHECK_OK && check->axes == CHECK_ONCE)
			break;
	}
	if (result == CHECK_OK)
		why[0] = '\0';
	return result;
}

enum check_result device_check_start(const char *spec, char *why)
{
	struct machine *machine = machine_create(NULL);
	char place[512];
	struct pci_vdev *dev;

	snprintf(place, sizeof(place), "%d,%s", CHECK_SLOT, spec);
	dev = pci_add_device(machine->ctx, place);
	why[0] = '\0';
	if (!dev)
		snprintf(why, CHECK_WHY_SIZE, "%.*s", CHECK_WHY_SIZE - 1,
			 machine->captured.lines[0]);
	machine_destroy(machine);
	return dev ? CHECK_OK : CHECK_FAIL;
}
