/* SPDX-License-Identifier: BSD-3-Clause */
/* test_acpi.c: the ACPI tables: checksums, references, contents, and what iasl thinks of them. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../devicemodel/arch/x86_64/aml.h"
#include "arch.h"
#include "pci_core.h"
#include "platform.h"

#define TABLES_GPA 0xe0000
#define TABLES_SIZE 0x20000
#define HEADER_SIZE 36
#define TABLES 5

/* struct fixture - a VM that is nothing but memory, and its tables. */
struct fixture {
	struct logger log;
	struct platform platform;
	struct vmctx ctx;
	uint64_t rsdp;
	uint64_t fadt, madt, mcfg, hpet, dsdt, facs;
};

static void drop_line(void *arg, enum log_level level, const char *line)
{
}

static struct fixture *vm_with_memory(unsigned int cpus, uint64_t memory_size)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	logger_init(&f->log, "test");
	f->log.sink = drop_line;
	f->ctx.log = &f->log;
	f->ctx.platform = &f->platform;
	f->ctx.config.cpu_count = cpus;
	f->ctx.config.memory_size = memory_size;
	f->ctx.memory.fd = -1;
	arch_memory_layout(&f->ctx);
	assert_int_equal(guest_memory_create(&f->log, &f->ctx.memory, false), 0);
	return f;
}

static void vm_free(struct fixture *f)
{
	guest_memory_destroy(&f->ctx.memory);
	logger_deinit(&f->log);
	free(f);
}

static const uint8_t *at(struct fixture *f, uint64_t gpa, size_t len)
{
	const uint8_t *bytes = paddr_guest2host(&f->ctx, gpa, len);

	assert_true(gpa >= TABLES_GPA && gpa + len <= TABLES_GPA + TABLES_SIZE);
	assert_non_null(bytes);
	return bytes;
}

static uint8_t sum(const uint8_t *bytes, size_t count)
{
	uint8_t total = 0;

	while (count--)
		total += *bytes++;
	return total;
}

static uint32_t length_of(struct fixture *f, uint64_t gpa)
{
	return (uint32_t)bytes_get(at(f, gpa, 8) + 4, 4);
}

static void check_table(struct fixture *f, uint64_t gpa, const char *signature)
{
	uint32_t length = length_of(f, gpa);

	assert_memory_equal(at(f, gpa, 4), signature, 4);
	assert_true(length >= HEADER_SIZE);
	assert_int_equal(sum(at(f, gpa, length), length), 0);
}

/* Find every table as a guest does, beginning at the RSDP, and check what all have in common. */
static void walk(struct fixture *f)
{
	const uint8_t *rsdp = at(f, f->rsdp, 36);
	uint64_t xsdt = bytes_get(rsdp + 24, 8);
	const uint8_t *entries;
	const uint8_t *fadt;

	assert_int_equal(f->rsdp % 16, 0);
	assert_memory_equal(rsdp, "RSD PTR ", 8);
	assert_int_equal(rsdp[15], 2);
	assert_int_equal(bytes_get(rsdp + 20, 4), 36);
	assert_int_equal(sum(rsdp, 20), 0);
	assert_int_equal(sum(rsdp, 36), 0);

	check_table(f, xsdt, "XSDT");
	assert_int_equal(length_of(f, xsdt), HEADER_SIZE + (f->ctx.needs_timers ? 4 : 3) * 8);
	entries = at(f, xsdt, length_of(f, xsdt)) + HEADER_SIZE;
	f->fadt = bytes_get(entries, 8);
	f->madt = bytes_get(entries + 8, 8);
	f->mcfg = bytes_get(entries + 16, 8);
	check_table(f, f->fadt, "FACP");
	check_table(f, f->madt, "APIC");
	check_table(f, f->mcfg, "MCFG");
	if (f->ctx.needs_timers) {
		f->hpet = bytes_get(entries + 24, 8);
		check_table(f, f->hpet, "HPET");
	}

	fadt = at(f, f->fadt, 276);
	assert_int_equal(length_of(f, f->fadt), 276);
	f->facs = bytes_get(fadt + 36, 4);
	f->dsdt = bytes_get(fadt + 40, 4);
	assert_int_equal(bytes_get(fadt + 140, 8), f->dsdt);
	check_table(f, f->dsdt, "DSDT");
	assert_memory_equal(at(f, f->facs, 64), "FACS", 4);
	assert_int_equal(f->facs % 64, 0);
}

static void build_tables(struct fixture *f)
{
	long used;

	f->platform.uart[0] = (struct uart *)f; /* only whether it is there counts */
	f->platform.uart[2] = (struct uart *)f;
	used = acpi_build(&f->ctx, TABLES_GPA, TABLES_SIZE, &f->rsdp);
	assert_in_range(used, 1, TABLES_SIZE);
	walk(f);
}

static struct fixture *vm_with_tables(unsigned int cpus, uint64_t memory_size)
{
	struct fixture *f = vm_with_memory(cpus, memory_size);

	build_tables(f);
	return f;
}

/* One whose hypervisor has no timers: the tables name the platform's. */
static struct fixture *vm_with_timers(void)
{
	struct fixture *f = vm_with_memory(1, MIB(512));

	f->ctx.needs_timers = true;
	build_tables(f);
	return f;
}

static void test_fadt(void **state)
{
	struct fixture *f = vm_with_tables(1, MIB(512));
	const uint8_t *fadt = at(f, f->fadt, 276);

	assert_int_equal(bytes_get(fadt + 46, 2), PM_SCI_GSI);
	assert_int_equal(bytes_get(fadt + 48, 4), 0); /* SMI_CMD */
	assert_int_equal(bytes_get(fadt + 56, 4), PM1A_EVT_PORT);
	assert_int_equal(bytes_get(fadt + 64, 4), PM1A_CNT_PORT);
	assert_int_equal(bytes_get(fadt + 76, 4), PM_TIMER_PORT);
	assert_int_equal(bytes_get(fadt + 112, 4) & 0x10, 0); /* a fixed power button */
	assert_int_equal(bytes_get(fadt + 112, 4) & 0x400, 0x400); /* a reset register */
	assert_int_equal(bytes_get(fadt + 120, 8), PM_RESET_PORT);
	assert_int_equal(bytes_get(fadt + 112, 4) & 0x40, 0); /* the RTC's alarm can wake */
	assert_int_equal(fadt[108], RTC_CENTURY_REGISTER);
	assert_int_equal(fadt[128], PM_RESET_VALUE);
	vm_free(f);
}

/* Where the guest wants to go on after suspend to RAM is read from where the FADT says. */
static void test_waking_vector(void **state)
{
	static const struct {
		uint32_t vector;
		int error;
	} rows[] = {
		{ 0, -ENOENT },		 { 1, 0 },
		{ 0x9f000, 0 },		 { 0xfffff, 0 },
		{ 0x100000, -EFAULT },	 { 0x7fffffff, -EFAULT },
		{ 0xffffffff, -EFAULT },
	};
	struct fixture *f = vm_with_tables(1, MIB(512));

	assert_int_equal(bytes_get(at(f, f->facs, 64) + 4, 4), 64);
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		struct hv_cpu_state cpu = { .mode = X86_MODE_LONG };

		assert_int_equal(
			guest_memory_write(&f->ctx.memory, f->facs + 12, &rows[i].vector, 4), 0);
		assert_int_equal(arch_wake(&f->ctx, &cpu), rows[i].error);
		if (rows[i].error)
			continue;
		assert_int_equal(cpu.mode, X86_MODE_REAL);
		assert_int_equal(cpu.rip, rows[i].vector);
	}
	vm_free(f);
}

static void check_madt(struct fixture *f, unsigned int cpus)
{
	uint32_t length = length_of(f, f->madt);
	const uint8_t *madt = at(f, f->madt, length);
	unsigned int count[8] = { 0 };

	for (uint32_t offset = 44; offset < length; offset += madt[offset + 1]) {
		const uint8_t *entry = madt + offset;

		assert_in_range(entry[0], 0, 4);
		assert_in_range(entry[1], 6, length - offset);
		if (entry[0] == 0) {
			assert_int_equal(entry[2], count[0]);
			assert_int_equal(entry[3], count[0]);
			assert_int_equal(bytes_get(entry + 4, 4), 1);
		} else if (entry[0] == 1) {
			assert_int_equal(bytes_get(entry + 4, 4), X86_IOAPIC_BASE);
			assert_int_equal(bytes_get(entry + 8, 4), 0);
		} else if (entry[0] == 2) {
			assert_int_equal(bytes_get(entry + 4, 4), entry[3] ? entry[3] : 2);
			assert_int_equal(bytes_get(entry + 8, 2), entry[3] ? 0xd : 0);
		}
		count[entry[0]]++;
	}
	assert_int_equal(count[0], cpus);
	assert_int_equal(count[1], 1);
	assert_int_equal(count[2], 2);
	assert_int_equal(count[4], 1);
}

static void test_madt(void **state)
{
	static const unsigned int cpus[] = { 1, 2, 16 };

	for (unsigned int i = 0; i < ARRAY_SIZE(cpus); i++) {
		struct fixture *f = vm_with_tables(cpus[i], MIB(512));

		assert_int_equal(bytes_get(at(f, f->madt, 44) + 36, 4), X86_LAPIC_BASE);
		check_madt(f, cpus[i]);
		vm_free(f);
	}
}

static void test_mcfg(void **state)
{
	struct fixture *f = vm_with_tables(1, MIB(512));
	const uint8_t *mcfg = at(f, f->mcfg, 60);

	assert_int_equal(length_of(f, f->mcfg), 60);
	assert_int_equal(bytes_get(mcfg + 44, 8), X86_ECAM_BASE);
	assert_int_equal(bytes_get(mcfg + 52, 2), 0);
	assert_int_equal(mcfg[54], 0);
	assert_int_equal(mcfg[55], 255);
	vm_free(f);
}

/* IA-PC HPET 1.0a, 3.2.4 */
static void test_hpet(void **state)
{
	struct fixture *f = vm_with_timers();
	const uint8_t *hpet = at(f, f->hpet, 56);

	assert_int_equal(length_of(f, f->hpet), 56);
	assert_int_equal(bytes_get(hpet + 36, 4), 0x8086a201);
	assert_int_equal(hpet[40], 0); /* memory */
	assert_int_equal(bytes_get(hpet + 44, 8), 0xfed00000);
	assert_int_equal(hpet[52], 0);
	vm_free(f);
}

/* Package lengths at the borders of their forms: they count themselves (ACPI 6.5, 20.2.4). */
static void test_package_length(void **state)
{
	static const struct {
		size_t body;
		uint8_t bytes[4];
		size_t count;
	} rows[] = {
		{ 0, { 0x01 }, 1 },
		{ 62, { 0x3f }, 1 },
		{ 63, { 0x41, 0x04 }, 2 },
		{ 0xffd, { 0x4f, 0xff }, 2 },
		{ 0xffe, { 0x81, 0x00, 0x01 }, 3 },
		{ 0xffffc, { 0x8f, 0xff, 0xff }, 3 },
		{ 0xffffd, { 0xc1, 0x00, 0x00, 0x01 }, 4 },
	};
	size_t size = MIB(2);
	uint8_t *data = calloc(1, size);

	assert_non_null(data);
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		struct aml aml = { .data = data, .size = size };
		size_t mark = aml_if(&aml);

		for (size_t n = 0; n < rows[i].body; n++)
			aml_byte(&aml, 0x5a);
		aml_end(&aml, mark);
		assert_false(aml.overflow);
		assert_int_equal(aml.used, 1 + rows[i].count + rows[i].body);
		assert_memory_equal(data + mark, rows[i].bytes, rows[i].count);
		if (rows[i].body)
			assert_int_equal(data[mark + rows[i].count], 0x5a);
	}
	free(data);
}

static void test_no_room(void **state)
{
	struct fixture *f = vm_with_memory(16, MIB(16));
	uint8_t *memory = paddr_guest2host(&f->ctx, TABLES_GPA, TABLES_SIZE);
	uint64_t rsdp;
	long used = acpi_build(&f->ctx, TABLES_GPA, TABLES_SIZE, &rsdp);

	assert_true(used > 0);
	for (uint64_t size = 0; size < (uint64_t)used; size++) {
		memset(memory, 0xa5, (size_t)used + 1);
		assert_int_equal(acpi_build(&f->ctx, TABLES_GPA, size, &rsdp), -ENOSPC);
		assert_int_equal(memory[size], 0xa5);
	}
	assert_int_equal(acpi_build(&f->ctx, TABLES_GPA, (uint64_t)used, &rsdp), used);

	assert_int_equal(acpi_build(&f->ctx, TABLES_GPA + 8, 0x1000, &rsdp), -EINVAL);
	assert_int_equal(acpi_build(&f->ctx, GIB(4), 0x1000, &rsdp), -EINVAL);
	assert_int_equal(acpi_build(&f->ctx, MIB(15), MIB(2), &rsdp), -EFAULT);
	vm_free(f);
}

/* ---- with iasl */

/* Run @argv in @dir with its output in the file "log" there; its exit status, 127 if not found. */
static int run_in(const char *dir, char *const argv[])
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		int fd;

		if (chdir(dir) < 0)
			_exit(126);
		fd = open("log", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
			_exit(126);
		execvp(argv[0], argv);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* The whole file as a string, to be freed. */
static char *slurp(const char *dir, const char *name, size_t *size)
{
	char path[128];
	char *text = calloc(1, MIB(1));
	ssize_t count;
	int fd;

	assert_non_null(text);
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	count = read(fd, text, MIB(1) - 1);
	assert_in_range(count, 0, MIB(1) - 2);
	close(fd);
	if (size)
		*size = (size_t)count;
	return text;
}

static void spill(const char *dir, const char *name, const void *bytes, size_t size)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, size), size);
	close(fd);
}

static void remove_files(const char *dir)
{
	static const char *const names[] = { "log",	 "table.dat", "table.dsl",
					     "back.dsl", "back.aml",  "back.hex" };
	char path[128];

	for (unsigned int i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		unlink(path);
	}
}

/* A command of iasl's that must succeed without a complaint. */
static void iasl_in(const char *dir, char *const argv[])
{
	int status = run_in(dir, argv);
	char *log = slurp(dir, "log", NULL);

	if (status || strstr(log, "Warning ") || strstr(log, "Error ") || strstr(log, "Could not"))
		print_error("%s", log);
	assert_int_equal(status, 0);
	assert_null(strstr(log, "Warning "));
	assert_null(strstr(log, "Error "));
	assert_null(strstr(log, "Could not"));
	free(log);
}

/*
 * Take the table apart and put it together again: the result must be the same bytes but for the
 * compiler's id in the header, so that no encoding is left to chance.
 */
static void round_trip(const char *dir, const uint8_t *table, size_t size, bool header)
{
	char *const disassemble[] = { (char[]) { "iasl" }, (char[]) { "-d" },
				      (char[]) { "table.dat" }, NULL };
	char *const assemble[] = { (char[]) { "iasl" }, (char[]) { "-p" }, (char[]) { "back" },
				   (char[]) { "table.dsl" }, NULL };
	size_t skip = header ? HEADER_SIZE : 0;
	size_t back_size;
	char *back, *log;

	spill(dir, "table.dat", table, size);
	iasl_in(dir, disassemble);
	iasl_in(dir, assemble);
	log = slurp(dir, "log", NULL);
	assert_non_null(strstr(log, " 0 Errors, 0 Warnings, 0 Remarks"));
	free(log);

	back = slurp(dir, "back.aml", &back_size);
	assert_int_equal(back_size, size);
	assert_memory_equal(back + skip, table + skip, size - skip);
	free(back);
}

static int make_dir(void **state)
{
	char *dir = strdup("/tmp/tenon-acpi-XXXXXX");

	*state = dir;
	return dir && mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	int error;

	remove_files(*state);
	error = rmdir(*state);
	free(*state);
	return error;
}

static void need_iasl(const char *dir)
{
	char *const version[] = { (char[]) { "iasl" }, (char[]) { "-v" }, NULL };

	if (run_in(dir, version) == 0)
		return;
	print_message(
		"iasl does not run (install acpica-tools): the tables are not disassembled\n");
	skip();
}

static void assert_in_text(const char *text, const char *part)
{
	if (!strstr(text, part))
		print_error("not in the DSDT: %s\n", part);
	assert_non_null(strstr(text, part));
}

static void test_iasl(void **state)
{
	static const struct {
		unsigned int cpus;
		uint64_t memory_size;
	} vms[] = { { 1, MIB(512) }, { 16, GIB(6) } };
	struct fixture *f;
	char *text;

	need_iasl(*state);
	for (unsigned int i = 0; i < ARRAY_SIZE(vms); i++) {
		f = vm_with_tables(vms[i].cpus, vms[i].memory_size);
		const uint64_t tables[TABLES] = { f->fadt, f->madt, f->mcfg, f->dsdt, f->facs };

		for (unsigned int table = 0; table < TABLES; table++) {
			uint32_t length = length_of(f, tables[table]);

			round_trip(*state, at(f, tables[table], length), length,
				   tables[table] != f->facs);
		}
		vm_free(f);
	}
	f = vm_with_timers();
	round_trip(*state, at(f, f->hpet, 56), 56, true);
	round_trip(*state, at(f, f->dsdt, length_of(f, f->dsdt)), length_of(f, f->dsdt), true);
	text = slurp(*state, "table.dsl", NULL);
	assert_in_text(text, "EisaId (\"PNP0103\")");
	free(text);
	vm_free(f);
}

/* Make every run of white space one space, so that comparisons do not depend on iasl's layout. */
static void squeeze(char *text)
{
	char *to = text;
	bool space = false;

	for (; *text; text++) {
		if (isspace((unsigned char)*text)) {
			space = true;
			continue;
		}
		if (space)
			*to++ = ' ';
		space = false;
		*to++ = *text;
	}
	*to = 0;
}

/* What the DSDT says, as iasl reads it. */
static void test_dsdt(void **state)
{
	static const char *const parts[] = {
		"_S3, Package (0x04) { 0x03,",
		"_S5, Package (0x04) { 0x05,",
		"EisaId (\"PNP0A08\")",
		"EisaId (\"PNP0A03\")",
		"EisaId (\"PNP0C02\")",
		"EisaId (\"PNP0B00\")",
		"Memory32Fixed (ReadWrite, 0xB0000000,",
		"Name (PRTA, Package (0x80)",
		"Name (PRTP, Package (0x80)",
		"If (PICM) { Return (PRTA)",
		"Return (PRTP)",
		"Method (_PIC, 1, Serialized)",
		"Name (_ADR, 0x07)",
		"OperationRegion (PIRQ, PCI_Config, 0x60, 0x0C)",
		"Field (ISA.PIRQ, ByteAcc, NoLock, Preserve) { PRQA, 8, PRQB, 8, PRQC, 8, "
		"PRQD, 8, Offset (0x08), PRQE, 8, PRQF, 8, PRQG, 8, PRQH, 8 }",
		"Device (LNKA)",
		"Device (LNKH)",
		"EisaId (\"PNP0C0F\")",
		"IRQ (Level, ActiveLow, Shared, ) {5,10,11}",
		"Method (_SRS, 1, Serialized)",
		"Method (_DIS, 0, Serialized)",
		"Method (_OSC, 4, Serialized)",
		"ToUUID (\"33db4d5b-1ff7-401c-9657-7441c03dd766\")",
		"Device (COM1)",
		"Device (COM3)",
		"Device (CP03)",
		"0xC0000000,", /* mem32 window, first and last */
		"0xFDFFFFFF,",
		"0x0000000800000000,", /* mem64 window */
		"0x0000000FFFFFFFFF,",
	};
	struct fixture *f;
	uint32_t length;
	char route[80];
	char *text;

	need_iasl(*state);
	f = vm_with_tables(4, GIB(3));
	length = length_of(f, f->dsdt);
	round_trip(*state, at(f, f->dsdt, length), length, true);
	vm_free(f);
	text = slurp(*state, "table.dsl", NULL);
	for (char *comment = strstr(text, "//"); comment; comment = strstr(comment, "//"))
		memset(comment, ' ', strcspn(comment, "\n"));
	squeeze(text);

	for (unsigned int i = 0; i < ARRAY_SIZE(parts); i++)
		assert_in_text(text, parts[i]);
	assert_null(strstr(text, "Device (COM2)"));
	assert_null(strstr(text, "Device (COM4)"));
	assert_null(strstr(text, "Device (CP04)"));
	for (unsigned int slot = 1; slot < 32; slot++) {
		snprintf(route, sizeof(route), "Package (0x04) { 0x%08X, 0x02, Zero, 0x%02X }",
			 slot << 16 | 0xffff, pci_slot_gsi(slot, 3));
		assert_in_text(text, route);
		snprintf(route, sizeof(route), "Package (0x04) { 0x%08X, 0x02, LNK%c, Zero }",
			 slot << 16 | 0xffff, 'A' + (slot + 2) % 8);
		assert_in_text(text, route);
	}
	assert_null(strstr(text, "PNP0103"));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fadt),
		cmocka_unit_test(test_waking_vector),
		cmocka_unit_test(test_madt),
		cmocka_unit_test(test_mcfg),
		cmocka_unit_test(test_hpet),
		cmocka_unit_test(test_package_length),
		cmocka_unit_test(test_no_room),
		cmocka_unit_test_setup_teardown(test_iasl, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_dsdt, make_dir, remove_dir),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
