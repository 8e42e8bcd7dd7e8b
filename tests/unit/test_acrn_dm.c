/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The command line of acrn-dm in tenon's terms: options in both spellings, each device's options,
 * what is ignored and what is refused, local APIC ids, MAC addresses from seeds.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "acrn_dm.h"
#include "captured_log.h"
#include "md5.h"
#include "options.h"
#include "virtio_transport.h"

#define ARGUMENTS_MAX 32

struct fixture {
	struct captured_log captured;
	struct acrn_dm *dm;
	char text[1024]; /* the arguments, cut */
	char madt[64], cpuinfo[64];
};

static void dm_renew(struct fixture *f)
{
	acrn_dm_free(f->dm);
	f->dm = acrn_dm_new();
	assert_non_null(f->dm);
	f->dm->launch->log.sink = captured_log_line;
	f->dm->launch->log.sink_arg = &f->captured;
	f->dm->madt = f->madt;
	f->dm->cpuinfo = f->cpuinfo;
	f->captured.count = 0;
}

static void write_file(char *path, size_t size, const void *data, size_t len)
{
	int fd;

	snprintf(path, size, "/tmp/test_acrn_dm.XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), (ssize_t)len);
	close(fd);
}

static int set_up(void **state)
{
	static const char cpuinfo[] = "processor\t: 0\nmodel name\t: x\napicid\t\t: 0\n"
				      "initial apicid\t: 0\n\nprocessor\t: 1\napicid\t\t: 4\n"
				      "initial apicid\t: 5\n\nprocessor\t: 3\napicid\t\t: 6\n";
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	captured_log_init(&f->captured);
	write_file(f->cpuinfo, sizeof(f->cpuinfo), cpuinfo, strlen(cpuinfo));
	snprintf(f->madt, sizeof(f->madt), "/nowhere/APIC");
	dm_renew(f);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	acrn_dm_free(f->dm);
	unlink(f->cpuinfo);
	if (strcmp(f->madt, "/nowhere/APIC"))
		unlink(f->madt);
	captured_log_deinit(&f->captured);
	free(f);
	return 0;
}

/* The arguments are in @line, between single spaces. */
static int parse(struct fixture *f, const char *line)
{
	char *argv[ARGUMENTS_MAX + 1] = { (char *)"acrn-dm" };
	char *rest = f->text;
	int argc = 1;

	dm_renew(f);
	snprintf(f->text, sizeof(f->text), "%s", line);
	while (argc < ARGUMENTS_MAX && (argv[argc] = strsep(&rest, " ")))
		argc++;
	argv[argc] = NULL;
	return acrn_dm_parse(f->dm, argc, argv);
}

static void assert_parses(struct fixture *f, const char *line)
{
	int error = parse(f, line);

	if (error)
		fail_msg("%s: %d: %s", line, error, f->captured.lines[0]);
}

/* Silence, or one warning that has @text in it. */
static void assert_warns(struct fixture *f, const char *line, const char *text)
{
	unsigned int lines = text ? 1 : 0;

	if (f->captured.count != lines)
		fail_msg("%s: %u lines, the first is: %s", line, f->captured.count,
			 f->captured.lines[0]);
	if (!text)
		return;
	assert_int_equal(f->captured.levels[0], LOG_LEVEL_WARNING);
	if (!strstr(f->captured.lines[0], text))
		fail_msg("%s: no \"%s\" in: %s", line, text, f->captured.lines[0]);
}

static void assert_refused(struct fixture *f, const char *line, const char *text)
{
	int error = parse(f, line);

	if (error >= 0)
		fail_msg("%s: is accepted (%d)", line, error);
	if (f->captured.count != 1 || f->captured.levels[0] != LOG_LEVEL_ERROR)
		fail_msg("%s: %u lines, the first is: %s", line, f->captured.count,
			 f->captured.lines[0]);
	if (!strstr(f->captured.lines[0], text))
		fail_msg("%s: no \"%s\" in: %s", line, text, f->captured.lines[0]);
}

/* ---- options ---- */

static void test_memory(void **state)
{
	static const struct {
		const char *line;
		uint64_t size;
	} cases[] = {
		{ "vm", MIB(256) },
		{ "-m 512 vm", MIB(512) },
		{ "-m512 vm", MIB(512) },
		{ "-m 512M vm", MIB(512) },
		{ "-m 512m vm", MIB(512) },
		{ "--memsize 512M vm", MIB(512) },
		{ "--memsize=512 vm", MIB(512) },
		{ "--memsize 524288K vm", MIB(512) },
		{ "-m 524288k vm", MIB(512) },
		{ "-m 1G vm", GIB(1) },
		{ "-m 4g vm", GIB(4) },
		{ "-m 134217728b vm", MIB(128) },
		{ "-m 134217728B vm", MIB(128) },
		{ "-m 128 vm", MIB(128) },
		{ "-m 129 vm", MIB(130) },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct fixture *f = *state;

		assert_parses(f, cases[i].line);
		assert_warns(f, cases[i].line, NULL);
		if (f->dm->launch->vm.memory_size != cases[i].size)
			fail_msg("%s: 0x%llx", cases[i].line,
				 (unsigned long long)f->dm->launch->vm.memory_size);
	}
	assert_refused(*state, "-m 127 vm", "-m 127: not a memory size from 128M");
	assert_refused(*state, "-m 64M vm", "-m 64M");
	assert_refused(*state, "-m  vm", "-m : not a memory size");
	assert_refused(*state, "-m b vm", "-m b");
	assert_refused(*state, "-m 512Mb vm", "-m 512Mb");
	assert_refused(*state, "-m 512x vm", "-m 512x");
	assert_refused(*state, "-m 2000G vm", "-m 2000G");
	assert_refused(*state, "-m -512 vm", "-m -512");
}

static void test_kernel(void **state)
{
	static const char *const lines[] = {
		"-k /k -r /r -B quiet vm",
		"--kernel /k --ramdisk /r --bootargs quiet vm",
		"--kernel=/k --ramdisk=/r --bootargs=quiet vm",
		"-k/k -r/r -Bquiet vm",
		"-E /k -r /r -B quiet vm",
		"--elf_file /k --ramdisk /r --bootargs quiet vm",
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		assert_parses(f, lines[i]);
		assert_warns(f, lines[i], NULL);
		assert_string_equal(f->dm->launch->vm.name, "vm");
		assert_string_equal(f->dm->launch->vm.kernel, "/k");
		assert_string_equal(f->dm->launch->vm.ramdisk, "/r");
		assert_string_equal(f->dm->launch->vm.bootargs, "quiet");
		assert_int_equal(f->dm->launch->vm.cpu_count, 1);
		assert_string_equal(f->dm->launch->hv, "auto");
	}
	assert_refused(f, "-k /k -E /e vm", "/e: there is a kernel already, /k");
}

static void test_name(void **state)
{
	struct fixture *f = *state;

	assert_parses(f, "fifteen-letters");
	assert_string_equal(f->dm->launch->vm.name, "fifteen-letters");
	/* getopt lets options come after it */
	assert_parses(f, "vm -m 1G");
	assert_string_equal(f->dm->launch->vm.name, "vm");
	assert_int_equal(f->dm->launch->vm.memory_size, GIB(1));
	assert_refused(f, "sixteen-letters.", "sixteen-letters.: a VM's name has 1 to 15");
	assert_refused(f, "-m 1G", "no VM name given");
	assert_refused(f, "a b", "b: one VM name only");
	assert_refused(f, "-m", "-m needs a value");
	assert_refused(f, "--kernel", "--kernel needs a value");
	assert_refused(f, "-z vm", "-z: unknown option");
	assert_refused(f, "--frob vm", "--frob: unknown option");
}

static void test_flags(void **state)
{
	struct fixture *f = *state;

	assert_parses(f, "vm");
	assert_int_equal(f->dm->launch->vm.acrn_vm_flags, 0);
	assert_false(f->dm->launch->vm.debug_exit);
	assert_parses(f, "--rtvm vm");
	assert_warns(f, "--rtvm", NULL);
	/* LAPIC passthrough, completion polling, RT, PMU passthrough */
	assert_int_equal(f->dm->launch->vm.acrn_vm_flags, 1 << 1 | 1 << 2 | 1 << 4 | 1 << 11);
	assert_parses(f, "--lapic_pt --rtvm --debugexit vm");
	assert_warns(f, "--lapic_pt --rtvm", NULL);
	assert_int_equal(f->dm->launch->vm.acrn_vm_flags, 1 << 1 | 1 << 2 | 1 << 4 | 1 << 11);
	assert_true(f->dm->launch->vm.debug_exit);
	assert_parses(f, "--lapic_pt vm");
	assert_warns(f, "--lapic_pt", "--lapic_pt without --rtvm");
	assert_int_equal(f->dm->launch->vm.acrn_vm_flags, 0);
}

static void test_logger(void **state)
{
	static const struct {
		const char *line, *warning;
		enum log_level level;
	} cases[] = {
		{ "vm", NULL, LOG_LEVEL_INFO },
		{ "--logger_setting console,level=1 vm", NULL, LOG_LEVEL_ERROR },
		{ "--logger_setting console,level=2 vm", NULL, LOG_LEVEL_WARNING },
		{ "--logger_setting console,level=3 vm", NULL, LOG_LEVEL_INFO },
		{ "--logger_setting=console,level=4 vm", NULL, LOG_LEVEL_INFO },
		{ "--logger_setting console,level=5 vm", NULL, LOG_LEVEL_DEBUG },
		{ "--logger_setting console,level=5;debug_domains=all vm", NULL, LOG_LEVEL_DEBUG },
		{ "--logger_setting console,level=4;disk,level=4;kmsg,level=3 vm",
		  "--logger_setting disk; --logger_setting kmsg", LOG_LEVEL_INFO },
		{ "--logger_setting kmsg,level=3;disk,level=3 vm",
		  "--logger_setting kmsg; --logger_setting disk", LOG_LEVEL_INFO },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_parses(f, cases[i].line);
		assert_int_equal(f->dm->launch->log.level, cases[i].level);
		assert_warns(f, cases[i].line, cases[i].warning);
	}
	assert_refused(f, "--logger_setting console vm", "--logger_setting console: not");
	assert_refused(f, "--logger_setting console,level=6 vm", "level=6");
	assert_refused(f, "--logger_setting console,level=44 vm", "level=44");
	assert_refused(f, "--logger_setting serial,level=4 vm", "serial,level=4");
	assert_refused(f, "--logger_setting disk,level=4;x vm", "--logger_setting x");
}

/* All of it in one line, at the end. */
static void test_ignored(void **state)
{
	static const char *const lines[] = {
		"-A vm",
		"--acpi vm",
		"-Y vm",
		"--mptgen vm",
		"-G 64 vm",
		"--gvtargs 64 vm",
		"-i /x,0x20 vm",
		"--ioc_node /x vm",
		"--vsbl /x vm",
		"--part_info /x vm",
		"--mac_seed x vm",
		"--pm_by_vuart pty,/x vm",
		"--iasl /usr/bin/iasl vm",
		"-s 2,npk vm",
		"-s 2,virtio-coreu vm",
		"-s 2,virtio-hdcp vm",
		"-s 2,pci-gvt vm",
		"--pm_notify_channel uart vm",
		"--pm_notify_channel uart,allow_trigger_s5 vm",
		"--pm_notify_channel ioc vm",
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		assert_parses(f, lines[i]);
		assert_warns(f, lines[i], "ignored, they mean nothing here: -");
		assert_int_equal(f->dm->launch->device_count, 0);
	}
	assert_parses(f, "-A -s 2,pci-gvt -G 64 --pm_notify_channel uart -Y vm");
	assert_warns(f, "all", ": --acpi; --gvtargs; --pm_notify_channel; --mptgen; -s pci-gvt");
	assert_parses(f, "--pm_notify_channel power_button vm");
	assert_warns(f, "power_button", NULL);
	assert_refused(f, "--pm_notify_channel horn vm", "horn: no such channel");
}

/* More than the line holds: it is cut, and nothing breaks. */
static void test_ignored_many(void **state)
{
	struct fixture *f = *state;

	dm_renew(f);
	for (unsigned int i = 0; i < 1000; i++)
		acrn_dm_ignore(f->dm, "--something");
	assert_int_equal(strlen(f->dm->ignored), sizeof(f->dm->ignored) - 1);
}

static void test_not_built(void **state)
{
	static const struct {
		const char *line, *text;
	} cases[] = {
		{ "--ovmf /OVMF.fd vm", "--ovmf /OVMF.fd: tenon does not have this yet: ovmf" },
		{ "--ovmf w,code=/a,vars=/b vm", "--ovmf" },
		{ "--virtio_poll 1000000 vm", "--virtio_poll 1000000: tenon does not have this" },
		{ "--vtpm2 sock_path=/x vm", "--vtpm2" },
		{ "--intr_monitor 10000,10,1,100 vm", "--intr_monitor 10000,10,1,100" },
		{ "--cmd_monitor /x vm", "--control PATH" },
		{ "--acpidev_pt MSFT0101 vm", "--acpidev_pt" },
		{ "--mmiodev_pt 0xFED40000,0x5000 vm", "--mmiodev_pt" },
		{ "--windows vm", "--windows: tenon does not have this yet" },
		{ "--ssram L3,vcpu=all,size=2M vm", "--ssram" },
		{ "--enable_trusty vm", "--enable_trusty: tenon does not have this: " },
		{ "-s 3,xhci,1-1:1-2 vm", "-s 3,xhci,1-1:1-2: tenon does not have this yet: xhci" },
		{ "-s 3,passthru,0/2/0,gpu vm", "yet: passthru" },
		{ "-s 3,ivshmem,dm:/x,2 vm", "yet: ivshmem" },
		{ "-s 3,ahci,hd:/x vm", "use virtio-blk" },
		{ "-s 3,ahci-hd,/x vm", "use virtio-blk" },
		{ "-s 3,ahci-cd,/x vm", "use virtio-blk with ,ro" },
		{ "-s 3,uart,vuart_idx:1 vm", "use -l com1" },
		{ "-s 31:0,igd-lpc vm", "igd-lpc" },
		{ "-s 3,wdt-i6300esb vm", "wdt-i6300esb" },
		{ "-s 3,virtio-input,/dev/input/event0 vm", "yet: virtio-input" },
		{ "-s 3,virtio-gpu vm", "yet: virtio-gpu" },
		{ "-s 3,virtio-gpio,@gpiochip0{1:2} vm", "yet: virtio-gpio" },
		{ "-s 3,virtio-i2c,0:1C vm", "yet: virtio-i2c" },
		{ "-s 3,virtio-rpmb vm", "yet: virtio-rpmb" },
		{ "-s 3,virtio-heci,0/16/0,d3 vm", "have this: virtio-heci" },
		{ "-s 3,virtio-audio vm", "have this: virtio-audio" },
		{ "-s 3,virtio-ipu vm", "have this: virtio-ipu" },
		{ "-s 3,virtio-hyper_dmabuf vm", "have this: virtio-hyper_dmabuf" },
		{ "-s 3,dummy vm", "have this: dummy" },
		{ "-s 3,virtio-blk,nodisk vm", "name the image" },
		{ "-s 3,virtio-blk,/x,sectorsize=4096 vm", "yet: sectorsize" },
		{ "-s 3,virtio-blk,/x,range=0/100 vm", "yet: range" },
		{ "-l com5,/dev/pts/0,0x9000,5 vm", "yet: com5" },
		{ "-l com1,tcp:5555 vm", "use socket:PATH:server" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_refused(*state, cases[i].line, cases[i].text);
}

static void test_own_options(void **state)
{
	struct fixture *f = *state;

	assert_parses(f,
		      "--hv kvm --control /c --huge-pages -U 495ae2e5-2603-4d64-af76-d4bc5a8ec0e5 "
		      "vm");
	assert_warns(f, "own", NULL);
	assert_string_equal(f->dm->launch->hv, "kvm");
	assert_string_equal(f->dm->launch->vm.control, "/c");
	assert_string_equal(f->dm->launch->vm.uuid, "495ae2e5-2603-4d64-af76-d4bc5a8ec0e5");
	assert_true(f->dm->launch->vm.huge_pages);
	assert_parses(f, "--hv=acrn,device=/dev/x --uuid u vm");
	assert_string_equal(f->dm->launch->vm.hv_options, "device=/dev/x");
	assert_string_equal(f->dm->launch->vm.uuid, "u");
}

/* ---- devices ---- */

struct translation {
	const char *spec, *device, *warning;
};

/* Tenon's device of that name takes the options; false: there is no such device in this build. */
static bool check_options(struct fixture *f, const char *device)
{
	const char *name = strchr(device, ',') + 1;
	size_t len = strcspn(name, ",");
	const struct virtio_ops *ops = virtio_device_find(name);
	struct option_set sets[2];
	void *object;

	if (!ops)
		return false;
	object = calloc(1, ops->priv_size);
	sets[0] = (struct option_set) { ops->options, object };
	sets[1] = (struct option_set) { virtio_common_options, object };
	if (options_parse(&f->dm->launch->log, ops->name, name[len] ? name + len + 1 : NULL, sets,
			  2))
		fail_msg("%s: %s", device, f->captured.lines[f->captured.count - 1]);
	options_free(sets, 2);
	free(object);
	return true;
}

static void assert_translates(struct fixture *f, const struct translation *t)
{
	char line[256];

	snprintf(line, sizeof(line), "-s %s vm", t->spec);
	assert_parses(f, line);
	assert_warns(f, line, t->warning);
	if (!t->device) {
		assert_int_equal(f->dm->launch->device_count, 0);
		return;
	}
	assert_int_equal(f->dm->launch->device_count, 1);
	assert_string_equal(f->dm->launch->devices[0], t->device);
	assert_true(check_options(f, t->device));
}

static void assert_all_translate(struct fixture *f, const struct translation *cases, size_t count)
{
	for (size_t i = 0; i < count; i++)
		assert_translates(f, &cases[i]);
}

static void test_places(void **state)
{
	static const struct translation cases[] = {
		{ "3,virtio-rnd", "3:0,virtio-rng", NULL },
		{ "3:0,virtio-rnd", "3:0,virtio-rng", NULL },
		{ "3:7,virtio-rnd", "3:7,virtio-rng", NULL },
		{ "0:31:2,virtio-rnd", "31:2,virtio-rng", NULL },
		{ "3,virtio-rnd,", "3:0,virtio-rng", NULL },
		{ "3,virtio-rnd,b", "3:0,virtio-rng", NULL },
		/* every VM of tenon's has them */
		{ "0:0,hostbridge", NULL, NULL },
		{ "0,hostbridge", NULL, NULL },
		{ "0:0,amd_hostbridge", NULL, NULL },
		{ "1:0,lpc", NULL, NULL },
		{ "1,lpc", NULL, NULL },
	};
	struct fixture *f = *state;

	assert_all_translate(f, cases, ARRAY_SIZE(cases));
	assert_parses(f, "--pci_slot 3,virtio-rnd --pci_slot=4,virtio-rnd vm");
	assert_int_equal(f->dm->launch->device_count, 2);
	assert_refused(f, "-s virtio-rnd vm", "-s virtio-rnd: \"virtio-rnd\" is no slot");
	assert_refused(f, "-s  vm", "is no slot");
	assert_refused(f, "-s 3: vm", "is no slot");
	assert_refused(f, "-s :3,lpc vm", "is no slot");
	assert_refused(f, "-s 0:0:0:0,lpc vm", "is no slot");
	assert_refused(f, "-s +3,lpc vm", "is no slot");
	assert_refused(f, "-s 32,lpc vm", "there is no place 32");
	assert_refused(f, "-s 3:8,lpc vm", "there is no place 3:8");
	assert_refused(f, "-s 1:3:0,lpc vm", "there is no place 1:3:0");
	assert_refused(f, "-s 3 vm", "no device without a name");
	assert_refused(f, "-s 3,frob vm", "acrn-dm has no device frob");
	/* that is tenon's name */
	assert_refused(f, "-s 3,virtio-rng vm", "acrn-dm has no device virtio-rng");
}

/* Tenon wants function 0 of a slot first, acrn-dm does not care. */
static void test_functions(void **state)
{
	struct fixture *f = *state;

	assert_parses(f, "-s 3:1,virtio-rnd -s 4:2,virtio-rnd -s 3,virtio-rnd -s 4,virtio-rnd vm");
	assert_int_equal(f->dm->launch->device_count, 4);
	assert_string_equal(f->dm->launch->devices[0], "3:0,virtio-rng");
	assert_string_equal(f->dm->launch->devices[1], "4:0,virtio-rng");
	assert_string_equal(f->dm->launch->devices[2], "3:1,virtio-rng");
	assert_string_equal(f->dm->launch->devices[3], "4:2,virtio-rng");
}

static void test_blk(void **state)
{
	static const struct translation cases[] = {
		{ "3,virtio-blk,/d", "3:0,virtio-blk,path=/d,cache=writethrough", NULL },
		{ "3,virtio-blk,b,/d", "3:0,virtio-blk,path=/d,cache=writethrough", NULL },
		{ "3,virtio-blk,/d,writethru", "3:0,virtio-blk,path=/d,cache=writethrough", NULL },
		{ "3,virtio-blk,/d,writeback", "3:0,virtio-blk,path=/d,cache=writeback", NULL },
		{ "3,virtio-blk,/d,writethru,writeback", "3:0,virtio-blk,path=/d,cache=writeback",
		  NULL },
		{ "3,virtio-blk,/d,ro", "3:0,virtio-blk,path=/d,ro,cache=writethrough", NULL },
		{ "3,virtio-blk,/d,nocache", "3:0,virtio-blk,path=/d,direct,cache=writethrough",
		  NULL },
		{ "3,virtio-blk,mq=4,/d", "3:0,virtio-blk,queues=4,path=/d,cache=writethrough",
		  NULL },
		{ "3,virtio-blk,/d,aio=threads", "3:0,virtio-blk,path=/d,cache=writethrough",
		  NULL },
		{ "3,virtio-blk,/d,discard", "3:0,virtio-blk,path=/d,cache=writethrough", NULL },
		{ "3,virtio-blk,/d,aio=io_uring", "3:0,virtio-blk,path=/d,cache=writethrough",
		  "aio of -s 3,virtio-blk" },
		{ "3,virtio-blk,iothread,/d", "3:0,virtio-blk,path=/d,cache=writethrough",
		  "iothread of -s 3,virtio-blk" },
		{ "3,virtio-blk,iothread=2@0:1/*,mq=2,/d",
		  "3:0,virtio-blk,queues=2,path=/d,cache=writethrough", "iothread of" },
		{ "3,virtio-blk,/d,no_bst_block", "3:0,virtio-blk,path=/d,cache=writethrough",
		  "no_bst_block of" },
		/* tenon's own options */
		{ "3,virtio-blk,/d,serial=x,packed",
		  "3:0,virtio-blk,path=/d,serial=x,packed,cache=writethrough", NULL },
		{ "3,virtio-blk,/d,cache=writeback", "3:0,virtio-blk,path=/d,cache=writeback",
		  NULL },
		/* a name with "=" in it */
		{ "3,virtio-blk,/d=1", "3:0,virtio-blk,path=/d=1,cache=writethrough", NULL },
		{ "3,virtio-blk,d=1", "3:0,virtio-blk,path=d=1,cache=writethrough", NULL },
	};
	struct fixture *f = *state;

	assert_all_translate(f, cases, ARRAY_SIZE(cases));
	/* "b" alone is the boot flag */
	assert_refused(f, "-s 3,virtio-blk,b vm", "no disk image");
	assert_refused(f, "-s 3,virtio-blk vm", "-s 3,virtio-blk: no disk image");
	assert_refused(f, "-s 3,virtio-blk,mq=2 vm", "no disk image");
}

static void test_net(void **state)
{
	static const struct translation cases[] = {
		{ "4,virtio-net,tap=t", "4:0,virtio-net,tap=t", NULL },
		{ "4,virtio-net,t", "4:0,virtio-net,t", NULL },
		{ "4,virtio-net,tap=t,vhost", "4:0,virtio-net,tap=t,vhost", NULL },
		{ "4,virtio-net,tap=t,mac=02:00:00:00:00:01",
		  "4:0,virtio-net,tap=t,mac=02:00:00:00:00:01", NULL },
		{ "4,virtio-net,tap=t,vhost,mac=02:00:00:00:00:01",
		  "4:0,virtio-net,tap=t,vhost,mac=02:00:00:00:00:01", NULL },
		/* MD5 of "4-0-00:11:22-vm1"; in any place */
		{ "4,virtio-net,tap=t,mac_seed=00:11:22-vm1",
		  "4:0,virtio-net,tap=t,mac=00:16:3e:47:45:a4", NULL },
		{ "4,virtio-net,tap=t,vhost,mac_seed=00:11:22-vm1",
		  "4:0,virtio-net,tap=t,vhost,mac=00:16:3e:47:45:a4", NULL },
		{ "4,virtio-net,tap=t,mac_seed=00:11:22-vm1,vhost",
		  "4:0,virtio-net,tap=t,vhost,mac=00:16:3e:47:45:a4", NULL },
		{ "4,virtio-net,mac_seed=00:11:22-vm1,tap=t",
		  "4:0,virtio-net,tap=t,mac=00:16:3e:47:45:a4", NULL },
		{ "0:4:1,virtio-net,tap=t,mac_seed=00:11:22-vm1",
		  "4:1,virtio-net,tap=t,mac=00:16:3e:fb:ab:86", NULL },
		/* mac= wins */
		{ "4,virtio-net,tap=t,mac_seed=x,mac=02:00:00:00:00:01",
		  "4:0,virtio-net,tap=t,mac=02:00:00:00:00:01", NULL },
		{ "4,virtio-net,tap=t,mac=02:00:00:00:00:01,mac_seed=x",
		  "4:0,virtio-net,tap=t,mac=02:00:00:00:00:01", NULL },
	};
	struct fixture *f = *state;

	assert_all_translate(f, cases, ARRAY_SIZE(cases));
	assert_refused(f, "-s 4,virtio-net,tap=t,mac_seed= vm", "the seed is empty");
}

static void test_console(void **state)
{
	static const struct translation cases[] = {
		{ "5,virtio-console,@stdio:stdio_port", "5:0,virtio-console,backend=stdio", NULL },
		{ "5,virtio-console,@STDIO:p", "5:0,virtio-console,backend=stdio", NULL },
		{ "5,virtio-console,@pty:pty_port", "5:0,virtio-console,backend=pty", NULL },
		{ "5,virtio-console,@pty:p=/unused", "5:0,virtio-console,backend=pty", NULL },
		{ "5,virtio-console,pty:p", "5:0,virtio-console,port=p:pty", NULL },
		{ "5,virtio-console,@tty:p=/dev/ttyS1", "5:0,virtio-console,backend=tty:/dev/ttyS1",
		  NULL },
		{ "5,virtio-console,file:log=/x/y", "5:0,virtio-console,port=log:file:/x/y", NULL },
		{ "5,virtio-console,socket:p=/x", "5:0,virtio-console,port=p:socket:/x:server",
		  NULL },
		{ "5,virtio-console,socket:p=/x:server",
		  "5:0,virtio-console,port=p:socket:/x:server", NULL },
		{ "5,virtio-console,socket:p=/x:client", "5:0,virtio-console,port=p:socket:/x",
		  NULL },
		{ "5,virtio-console,@stdio:a,pty:b,file:c=/c,socket:d=/d:client",
		  "5:0,virtio-console,backend=stdio,port=b:pty,port=c:file:/c,port=d:socket:/d",
		  NULL },
		{ "5,virtio-console,pty:b,@stdio:a", "5:0,virtio-console,port=b:pty,backend=stdio",
		  NULL },
		{ "5,virtio-console,@stdio:a,queue_size=128",
		  "5:0,virtio-console,backend=stdio,queue_size=128", NULL },
	};
	struct fixture *f = *state;

	assert_all_translate(f, cases, ARRAY_SIZE(cases));
	assert_refused(f, "-s 5,virtio-console,@stdio vm", "@stdio names no port");
	assert_refused(f, "-s 5,virtio-console,@stdio: vm", "names no port");
	assert_refused(f, "-s 5,virtio-console,file:=/x vm", "names no port");
	assert_refused(f, "-s 5,virtio-console,file:p vm", "file:p has no path");
	assert_refused(f, "-s 5,virtio-console,file:p= vm", "has no path");
	assert_refused(f, "-s 5,virtio-console,socket:p vm", "has no path");
	assert_refused(f, "-s 5,virtio-console,socket:p=:server vm", "has no path");
	assert_refused(f, "-s 5,virtio-console,socket:p=/x:peer vm", "neither server nor client");
	assert_refused(f, "-s 5,virtio-console,vc:p vm", "vc:p is no back end");
	assert_refused(f, "-s 5,virtio-console,stdio_port vm", "is no back end");
	assert_refused(f, "-s 5,virtio-console,@stdio:a,@pty:b vm", "@pty:b is a second console");
}

static void test_other_devices(void **state)
{
	static const struct translation cases[] = {
		{ "6,virtio-rnd", "6:0,virtio-rng", NULL },
		{ "6,virtio-rnd,kernel=on", "6:0,virtio-rng-kernel,device=/dev/vbs_rng", NULL },
		{ "6,vhost-vsock,cid=5", "6:0,virtio-vsock,cid=5", NULL },
	};
	struct fixture *f = *state;

	assert_all_translate(f, cases, ARRAY_SIZE(cases));
	/* also for devices that came before it */
	assert_parses(f, "-s 6,virtio-rnd --virtio_msi -s 7,virtio-blk,/d vm");
	assert_warns(f, "--virtio_msi", NULL);
	assert_string_equal(f->dm->launch->devices[0], "6:0,virtio-rng,msix=off");
	assert_string_equal(f->dm->launch->devices[1],
			    "7:0,virtio-blk,path=/d,cache=writethrough,msix=off");
	assert_true(check_options(f, f->dm->launch->devices[0]));
}

static void test_too_many_devices(void **state)
{
	struct fixture *f = *state;
	char *argv[2 * LAUNCH_DEVICES_MAX + 4] = { (char *)"acrn-dm" };
	int argc = 1;

	while (argc < 2 * LAUNCH_DEVICES_MAX + 3) {
		argv[argc++] = (char *)"-s";
		argv[argc++] = (char *)"3,virtio-rnd";
	}
	dm_renew(f);
	assert_int_equal(acrn_dm_parse(f->dm, argc, argv), -E2BIG);
	assert_int_equal(f->captured.count, 1);
	assert_non_null(strstr(f->captured.lines[0], "256 at most"));
}

static void test_lpc(void **state)
{
	static const char *const cases[][2] = {
		{ "-l com1,stdio vm", "com1,stdio" },
		{ "--lpc com2,stdio vm", "com2,stdio" },
		{ "--lpc=com1,/dev/pts/3 vm", "com1,tty:/dev/pts/3" },
		{ "-l com3,/dev/ttyS1 vm", "com3,tty:/dev/ttyS1" },
		{ "-l com1,pty:/link vm", "com1,pty:/link" },
		{ "-l com1 vm", "com1," },
		{ "-l com9,stdio vm", "com9,stdio" },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_parses(f, cases[i][0]);
		assert_warns(f, cases[i][0], NULL);
		assert_int_equal(f->dm->launch->uart_count, 1);
		assert_string_equal(f->dm->launch->uarts[0], cases[i][1]);
	}
}

/* ---- CPUs ---- */

static void test_cpus(void **state)
{
	struct fixture *f = *state;

	assert_parses(f, "--cpu_affinity 4 vm");
	assert_warns(f, "--cpu_affinity", NULL);
	assert_int_equal(f->dm->launch->vm.cpu_count, 1);
	assert_int_equal(f->dm->launch->vm.cpu_affinity, 1 << 1);
	assert_parses(f, "--cpu_affinity=6,0 vm");
	assert_int_equal(f->dm->launch->vm.cpu_count, 2);
	assert_int_equal(f->dm->launch->vm.cpu_affinity, 1 << 3 | 1 << 0);
	assert_refused(f, "--cpu_affinity 5 vm", "no CPU of this host has the local APIC id 5");
	assert_refused(f, "--cpu_affinity 4,4 vm", "local APIC id 4 is given twice");
	assert_refused(f, "--cpu_affinity 4, vm", "\"\" is no local APIC id");
	assert_refused(f, "--cpu_affinity x vm", "\"x\" is no local APIC id");
	assert_refused(f, "--cpu_affinity 99999999999999999999 vm", "is no local APIC id");
	assert_refused(f, "--cpu_affinity 4294967295 vm", "is no local APIC id");
}

/* The MADT has CPUs that are offline, too, and its order counts. */
static void test_cpus_of_madt(void **state)
{
	uint8_t madt[44 + 3 * 8 + 16 + 12] = { 'A', 'P', 'I', 'C' };
	static const uint8_t entries[] = {
		0, 8,  0, 2, 1, 0, 0, 0, /* local APIC 2 */
		0, 8,  1, 3, 0, 0, 0, 0, /* 3, not enabled */
		1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* an I/O APIC */
		9, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, /* x2APIC 256 */
		0, 8,  2, 7, 1, 0, 0, 0, /* 7 */
	};
	struct fixture *f = *state;

	assert_int_equal(sizeof(madt), 44 + sizeof(entries));
	memcpy(madt + 44, entries, sizeof(entries));
	write_file(f->madt, sizeof(f->madt), madt, sizeof(madt));
	assert_parses(f, "--cpu_affinity 7,256 vm");
	assert_int_equal(f->dm->launch->vm.cpu_affinity, 1 << 2 | 1 << 1);
	assert_int_equal(f->dm->launch->vm.cpu_count, 2);
	assert_refused(f, "--cpu_affinity 3 vm", "no CPU of this host");
	assert_refused(f, "--cpu_affinity 4 vm", "no CPU of this host");
	/* cut in the middle of an entry */
	assert_int_equal(truncate(f->madt, 44 + 8 + 8 + 12 + 9), 0);
	assert_parses(f, "--cpu_affinity 2 vm");
	assert_refused(f, "--cpu_affinity 256 vm", "no CPU of this host");
	/* an entry without a length would never end */
	memset(madt + 44, 0, sizeof(entries));
	unlink(f->madt);
	write_file(f->madt, sizeof(f->madt), madt, sizeof(madt));
	assert_parses(f, "--cpu_affinity 4 vm");
}

static void test_cpus_unknown(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(truncate(f->cpuinfo, 0), 0);
	assert_refused(f, "--cpu_affinity 0 vm", "neither /nowhere/APIC nor /tmp/test_acrn_dm.");
}

/* ---- MD5: the test suite of RFC 1321, A.5, and what lies around the ends of blocks ---- */

static void test_md5(void **state)
{
	static const char *const cases[][2] = {
		{ "", "d41d8cd98f00b204e9800998ecf8427e" },
		{ "a", "0cc175b9c0f1b6a831c399e269772661" },
		{ "abc", "900150983cd24fb0d6963f7d28e17f72" },
		{ "message digest", "f96b697d7cb7938d525a2f31aaf161d0" },
		{ "abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b" },
		{ "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
		  "d174ab98d277d9f5a5611c2c9f419d9f" },
		{ "1234567890123456789012345678901234567890123456789012345678901234567890123456789"
		  "0",
		  "57edf4a22be3c955ac49da2e2107b67a" },
		{ "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		  "ef1772b6dff9a122358552954ad0df65" },
		{ "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		  "3b0c8ac703f828b04c6c197006d17218" },
		{ "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		  "014842d480b571495a4a0363793f7367" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t digest[MD5_SIZE];
		char text[2 * MD5_SIZE + 1];

		md5(cases[i][0], strlen(cases[i][0]), digest);
		for (size_t j = 0; j < MD5_SIZE; j++)
			snprintf(text + 2 * j, 3, "%02x", digest[j]);
		assert_string_equal(text, cases[i][1]);
	}
}

#define dm_test(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		dm_test(test_memory),	     dm_test(test_kernel),
		dm_test(test_name),	     dm_test(test_flags),
		dm_test(test_logger),	     dm_test(test_ignored),
		dm_test(test_ignored_many),  dm_test(test_not_built),
		dm_test(test_own_options),   dm_test(test_places),
		dm_test(test_functions),     dm_test(test_blk),
		dm_test(test_net),	     dm_test(test_console),
		dm_test(test_other_devices), dm_test(test_too_many_devices),
		dm_test(test_lpc),	     dm_test(test_cpus),
		dm_test(test_cpus_of_madt),  dm_test(test_cpus_unknown),
		cmocka_unit_test(test_md5),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
