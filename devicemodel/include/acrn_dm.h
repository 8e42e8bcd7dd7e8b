/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * acrn_dm.h: the command line of ACRN's device model, acrn-dm, in tenon's terms. What each option
 * and device comes to is listed in doc/acrn-dm.md.
 */
#ifndef TENON_ACRN_DM_H
#define TENON_ACRN_DM_H

#include "launch.h"

#define ACRN_DM_TEXTS_MAX (LAUNCH_DEVICES_MAX + PLATFORM_UARTS)
#define ACRN_DM_NAME_MAX 15
#define ACRN_DM_CPUS 64 /* bits in the hypervisor's CPU affinity */

/** enum acrn_dm_state - what tenon does with an option or a device of acrn-dm. */
enum acrn_dm_state {
	ACRN_DM_WORKS,
	ACRN_DM_IGNORED, /* accepted, and named in one warning */
	ACRN_DM_NOT_YET, /* an error that says so */
	ACRN_DM_NOT_PLANNED, /* the same */
	ACRN_DM_TENONS, /* tenon's own, acrn-dm has no such option */
};

/**
 * struct acrn_dm - one command line.
 * @launch: what it comes to
 * @madt, @cpuinfo: the files that tell which CPU has which local APIC
 * @slots: the arguments of -s; they are translated when all options are known
 * @texts: translations, which @launch points to
 * @ignored: what was accepted and has no meaning, for the warning
 * @virtio_msi, @rtvm, @lapic_pt, @hv_given: the options of these names
 */
struct acrn_dm {
	struct launch *launch;
	const char *madt, *cpuinfo;
	const char *slots[LAUNCH_DEVICES_MAX];
	unsigned int slot_count;
	char *texts[ACRN_DM_TEXTS_MAX];
	unsigned int text_count;
	char ignored[512];
	bool virtio_msi, rtvm, lapic_pt, hv_given;
};

/** acrn_dm_new() - nothing said yet. NULL: no memory. */
struct acrn_dm *acrn_dm_new(void);

/** acrn_dm_free() - with its launch; NULL is harmless. */
void acrn_dm_free(struct acrn_dm *dm);

/**
 * acrn_dm_parse() - read the command line into dm->launch. Opens nothing but the files that name
 * the local APICs.
 * Return: 0: launch it; 1: help or version was printed; -errno after one log line.
 */
int acrn_dm_parse(struct acrn_dm *dm, int argc, char **argv) __must_check;

/** acrn_dm_state_name() - "works", "ignored" ... as in the help and in doc/acrn-dm.md. */
const char *acrn_dm_state_name(enum acrn_dm_state state);

/** acrn_dm_ignore() - remember @what for the warning. */
void acrn_dm_ignore(struct acrn_dm *dm, const char *what);

/** acrn_dm_not_built() - the error line for "@option @arg" in @state, with what to do. -ENOTSUP. */
int acrn_dm_not_built(struct acrn_dm *dm, const char *option, const char *arg, const char *what,
		      enum acrn_dm_state state, const char *remedy) __must_check;

/** acrn_dm_keep() - @text belongs to @dm from now on. -ENOMEM, -E2BIG after one log line; then it is freed. */
int acrn_dm_keep(struct acrn_dm *dm, char *text) __must_check;

/** acrn_dm_add_slot() - translate one argument of -s into a device of tenon's. 0 or -errno, logged. */
int acrn_dm_add_slot(struct acrn_dm *dm, const char *spec) __must_check;

/** acrn_dm_add_lpc() - the same for -l. */
int acrn_dm_add_lpc(struct acrn_dm *dm, const char *spec) __must_check;

/** acrn_dm_devices_help() - the devices of acrn-dm and their states on @out_file (FILE *). */
void acrn_dm_devices_help(void *out_file);

/** acrn_dm_set_cpus() - the argument of --cpu_affinity: local APIC ids. 0 or -errno, logged. */
int acrn_dm_set_cpus(struct acrn_dm *dm, const char *lapic_ids) __must_check;

#endif
