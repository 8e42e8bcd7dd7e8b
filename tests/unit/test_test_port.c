/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Unit tests of the test port (doc/test-port.md): its protocol, its clock and interrupts, its
 * connections, and what hostile clients get.
 */
#include "port_client.h"

#include <sched.h>

#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>

#define SLOT 3
#define SLOT_GSI 19
#define ECAM 0xb0000000ULL

/* The VM runs with a virtio-rng in SLOT and a client connected. */
struct fixture {
	struct port_vm vm;
	struct port_client client;
};

static void start(struct fixture *f, const char *device)
{
	assert_true(port_vm_create(&f->vm));
	if (device)
		assert_non_null(pci_add_device(f->vm.ctx, device));
	port_vm_run(&f->vm);
	client_connect(&f->client, f->vm.path);
}

static int setup_stopped(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	port_vm_init(&f->vm);
	*state = f;
	return 0;
}

static int setup(void **state)
{
	setup_stopped(state);
	start(*state, "3,virtio-rng");
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->client.in)
		client_close(&f->client);
	port_vm_destroy(&f->vm);
	free(f);
	return 0;
}

/* ---- Protocol ---- */

/* In this order: what one writes, the next reads. */
static const struct {
	const char *line, *reply;
} exchanges[] = {
	{ "endianness", "OK little" },
	{ "read 0 0", "OK 0x" },
	{ "b64read 0 0", "OK " },
	{ "writeb 0x1000 0x11", "OK" },
	{ "writew 0x1002 0x2233", "OK" },
	{ "writel 0x1004 0x44556677", "OK" },
	{ "writeq 0x1008 0x8899aabbccddeeff", "OK" },
	{ "read 0x1000 16", "OK 0x1100332277665544ffeeddccbbaa9988" },
	{ "readb 0x1000", "OK 0x0000000000000011" },
	{ "readw 4098", "OK 0x0000000000002233" },
	{ "readl 010004", "OK 0x0000000044556677" },
	{ "readq 0x1008", "OK 0x8899aabbccddeeff" },
	{ "readq 0x1001", "OK 0xff44556677223300" },
	{ "writeq 0x1003 0x0102030405060708", "OK" },
	{ "read 0x1000 0x0c", "OK 0x1100330807060504030201cc" },
	{ "writeb 0x1000 0xabcd", "OK" }, /* the low bits, as an instruction would */
	{ "readw 0x1000", "OK 0x00000000000000cd" },
	{ "write 0x2000 4 0xDeadBeef", "OK" },
	{ "write 0x2004 4 0x01", "OK" }, /* filled with zeros */
	{ "write 0x2008 2 0X", "OK" },
	{ "read 0x2000 10", "OK 0xdeadbeef010000000000" },
	{ "memset 0x2001 3 0x5a", "OK" },
	{ "memset 0x2000 0 1", "OK" },
	{ "read 0x2000 5", "OK 0xde5a5a5a01" },
	{ "b64read 0x2000 5", "OK 3lpaWgE=" },
	{ "b64read 0x2000 4", "OK 3lpaWg==" },
	{ "b64read 0x2000 3", "OK 3lpa" },
	{ "b64write 0x2010 6 QUJDRA==", "OK" },
	{ "read 0x2010 6", "OK 0x414243440000" },
	{ "b64write 0x2010 3 +/+/", "OK" },
	{ "read 0x2010 4", "OK 0xfbffbf44" },
	{ "outl 0xcf8 0x80001800", "OK" },
	{ "inl 0xcfc", "OK 0x10051af4" },
	{ "inw 0xcfc", "OK 0x1af4" },
	{ "inb 0xcff", "OK 0x0010" },
	{ "outw 0xcfc 0x1234", "OK" },
	{ "inw 0xcfc", "OK 0x1af4" },
	{ "inl 0x0e00", "OK 0xffffffff" },
	{ "inw 65535", "OK 0xffff" },
	{ "readl 0xb0018000", "OK 0x0000000010051af4" },
	{ "read 0xb0018000 3", "OK 0xf41a05" },
	{ "readq 0xd0000000", "OK 0xffffffffffffffff" },
	{ "readb 0xffffffffffffffff", "OK 0x00000000000000ff" },
	{ "read 0xfffffffffffffffe 2", "OK 0xffff" },
	{ "memset 0xfffffffffffffff0 16 0", "OK" },
	/* over the end of RAM */
	{ "write 0x3fffffc 8 0x0102030405060708", "OK" },
	{ "read 0x3fffffc 8", "OK 0x01020304ffffffff" },
	{ "readq 0x3fffffc", "OK 0xffffffff04030201" },
	{ "writel 0x3fffffe 0x0a0b0c0d", "OK" },
	{ "readw 0x3fffffe", "OK 0x0000000000000c0d" },
	{ "  inb\t0x0e00  ", "OK 0x00ff" },
	{ "inb 0x0e00\r", "OK 0x00ff" },
	{ "clock_step 0", "OK 0" },
	{ "clock_step 10", "OK 10" },
	{ "clock_set 5", "OK 10" }, /* time does not go back */
	{ "clock_set 0x100", "OK 256" },
	{ "irq_intercept_in ioapic", "OK" },
	{ "irq_intercept_out ioapic", "OK" },
};

static void test_commands(void **state)
{
	struct fixture *f = *state;

	for (unsigned int i = 0; i < ARRAY_SIZE(exchanges); i++) {
		char *reply = client_ask(&f->client, "%s", exchanges[i].line);

		if (strcmp(reply, exchanges[i].reply))
			fail_msg("%s: %s instead of %s", exchanges[i].line, reply,
				 exchanges[i].reply);
		free(reply);
	}
}

/* clang-format off */
static const char *const bad_lines[] = {
	"", " ", "\r", "\t \t", "OK", "inx 1", "INB 1", "inb", "inb 1 2", "inb x", "inb -1",
	"inb +1", "inb 0x", "inb 1x", "inb 0x10000", "inb 0xffffffffffffffff",
	"inb 0x10000000000000000", "inb 99999999999999999999999", "outb 1", "outb 1 2 3",
	"outb 0x10000 1", "outb 1 z", "readb", "readb 1 2", "readl 08", "writeb 1",
	"writeb 1 2 3", "read 0", "read 0 1 2", "read 0 0x400001", "read 0 0xffffffffffffffff",
	"read 0xffffffffffffffff 2", "read 0x4000000 0x10001", "write 0 1", "write 0 1 aa",
	"write 0 1 0xa", "write 0 1 0xzz", "write 0 1 0x0102", "write 0 2 0x01 0x02",
	"write 0 0xffffffffffffffff 0x00", "write 0xfffffffffffffffe 3 0x00", "write x 1 0x00",
	"memset 0 1", "memset 0 1 1 1", "memset 0 0xffffffffffffffff 0",
	"memset 1 0xffffffffffffffff 0", "memset 0 0x4010001 0", "b64read 0",
	"b64read 0 0x400001", "b64write 0 3", "b64write 0 3 QUI", "b64write 0 3 QUJ",
	"b64write 0 3 ====", "b64write 0 3 Q===", "b64write 0 3 QU=I", "b64write 0 3 QU-_",
	"b64write 0 3 QUJDRA==", "clock_step x", "clock_step 1 2", "clock_step -1", "clock_set",
	"irq_intercept_in", "irq_intercept_in a b", "endianness please", "1 2 3 4 5 6 7 8",
	"read 1 2 3 4 5 6", "\x80\xff\xfe", "inb\x01 2",
};
/* clang-format on */

static void test_bad_lines(void **state)
{
	struct fixture *f = *state;

	for (unsigned int i = 0; i < ARRAY_SIZE(bad_lines); i++) {
		char *reply = client_ask(&f->client, "%s%s", bad_lines[i], "");

		if (strncmp(reply, "ERR ", 4))
			fail_msg("\"%s\": %s", bad_lines[i], reply);
		free(reply);
	}
	assert_reply(&f->client, "OK 0x00000000000000", "read 0 7");
	client_send(&f->client, "inb 0\0x70\n", 10);
	assert_reply(&f->client, "ERR unknown command", "endianness");
	assert_next(&f->client, "OK little");
}

static void test_partial_lines(void **state)
{
	static const char line[] = "readl 0xb0018000\nendianness\ninb 0x0e00\n";
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(line) - 1; i++)
		client_send(&f->client, &line[i], 1);
	assert_next(&f->client, "OK 0x0000000010051af4");
	assert_next(&f->client, "OK little");
	assert_next(&f->client, "OK 0x00ff");
}

static void test_many_lines_at_once(void **state)
{
	struct fixture *f = *state;
	static char lines[8000][16];
	size_t used = 0;
	char *all = (char *)lines;

	for (unsigned int i = 0; i < 8000; i++)
		used += (size_t)sprintf(all + used, "clock_set %u\n", i);
	client_send(&f->client, all, used);
	for (unsigned int i = 0; i < 8000; i++) {
		char *reply = client_reply(&f->client);

		assert_non_null(reply);
		assert_int_equal(atoi(reply + 3), i);
		free(reply);
	}
}

static void test_long_lines(void **state)
{
	struct fixture *f = *state;
	size_t len = MIB(20);
	char *line = malloc(len);
	char *reply;

	assert_non_null(line);
	memset(line, 'a', len);
	line[len - 1] = '\n';
	client_send(&f->client, line, len);
	reply = client_reply(&f->client);
	assert_non_null(strstr(reply, "ERR line is longer"));
	free(reply);
	client_send(&f->client, line, 1000);
	assert_reply(&f->client, "ERR unknown command", "b");
	free(line);
	assert_reply(&f->client, "OK little", "endianness");
}

/* The longest data that one line can carry, there and back. */
static void test_much_data(void **state)
{
	struct fixture *f = *state;
	size_t len = MIB(4), head;
	char *line = malloc(2 * len + 64);
	char *reply;

	assert_non_null(line);
	head = (size_t)sprintf(line, "write 0x100000 %zu 0x", len);
	for (size_t i = 0; i < 2 * len; i++)
		line[head + i] = "0123456789abcdef"[(i * 7 + i / 4096) & 15];
	line[head + 2 * len] = '\n';
	client_send(&f->client, line, head + 2 * len + 1);
	assert_next(&f->client, "OK");
	reply = client_ask(&f->client, "read 0x100000 %zu", len);
	assert_int_equal(strlen(reply), 5 + 2 * len);
	assert_memory_equal(reply + 5, line + head, 2 * len);
	free(reply);

	reply = client_ask(&f->client, "b64read 0x100000 %zu", len);
	head = (size_t)sprintf(line, "b64write 0x800000 %zu ", len);
	len = strlen(reply) - 3;
	memcpy(line + head, reply + 3, len);
	line[head + len] = '\n';
	client_send(&f->client, line, head + len + 1);
	assert_next(&f->client, "OK");
	free(reply);
	len = MIB(4);
	for (uint64_t at = 0; at < len; at += 0x11111)
		assert_int_equal(client_get(&f->client, "readq 0x%llx", 0x100000ULL + at),
				 client_get(&f->client, "readq 0x%llx", 0x800000ULL + at));
	free(line);
}

/* ---- The machine ---- */

static void test_memory_size(void **state)
{
	struct fixture *f = *state;
	uint64_t size = 0;

	assert_ok(&f->client, "outw 0x510 3");
	for (unsigned int i = 0; i < 8; i++)
		size |= client_get(&f->client, "inb 0x511") << 8 * i;
	assert_int_equal(size, MIB(64));
	assert_reply(&f->client, "OK 0x0000", "inb 0x511");
	assert_ok(&f->client, "outw 0x510 5");
	assert_reply(&f->client, "OK 0x0001", "inb 0x511");
	assert_reply(&f->client, "OK 0x0000", "inb 0x511");
	assert_ok(&f->client, "outw 0x510 0");
	assert_reply(&f->client, "OK 0x0000", "inb 0x511");
}

static uint32_t config_cf8(struct port_client *client, unsigned int devfn, unsigned int offset)
{
	assert_ok(client, "outl 0xcf8 0x%x", 0x80000000U | devfn << 8 | offset);
	return (uint32_t)client_get(client, "inl 0xcfc");
}

/* Both mechanisms find the same functions, with the same registers. */
static void test_enumeration(void **state)
{
	struct fixture *f = *state;
	unsigned int found = 0;

	for (unsigned int devfn = 0; devfn < 256; devfn++) {
		uint64_t ecam = ECAM + (devfn << 12);
		uint32_t id = config_cf8(&f->client, devfn, 0);

		assert_int_equal(client_get(&f->client, "readl 0x%llx", (unsigned long long)ecam),
				 id);
		if (id == UINT32_MAX)
			continue;
		found++;
		for (unsigned int offset = 4; offset < 256; offset += 4)
			assert_int_equal(client_get(&f->client, "readl 0x%llx",
						    (unsigned long long)ecam + offset),
					 config_cf8(&f->client, devfn, offset));
	}
	assert_true(found >= 2); /* the host bridge and virtio-rng */
}

/* ---- A driver of virtio-rng, modern interface ---- */

#define RING 0x10000ULL
#define AVAIL (RING + 0x100)
#define USED (RING + 0x200)
#define BUFFER 0x20000ULL
#define MESSAGE 0x30000ULL
#define FUNCTION (ECAM + (SLOT << 15))

/* Physical addresses of the structures (virtio 1.4, 4.1.4). */
struct rng_driver {
	struct port_client *client;
	uint64_t common, notify, isr, queue_notify;
	unsigned int msix;
	uint16_t next;
};

static uint64_t bar_address(struct port_client *client, unsigned int bar)
{
	uint64_t reg = FUNCTION + PCI_BASE_ADDRESS_0 + 4 * bar;
	uint64_t addr = client_get(client, "readl 0x%llx", (unsigned long long)reg);

	if ((addr & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64)
		addr |= client_get(client, "readl 0x%llx", (unsigned long long)reg + 4) << 32;
	return addr & ~UINT64_C(15);
}

static void driver_find(struct rng_driver *driver)
{
	struct port_client *client = driver->client;
	uint64_t cap = FUNCTION + client_get(client, "readb 0x%llx",
					     (unsigned long long)FUNCTION + PCI_CAPABILITY_LIST);

	for (unsigned int next = 1; next;) {
		unsigned long long at = cap;
		uint64_t id = client_get(client, "readb 0x%llx", at);
		uint64_t type = client_get(client, "readb 0x%llx", at + 3);

		if (id == PCI_CAP_ID_MSIX)
			driver->msix = (unsigned int)(cap - FUNCTION);
		if (id == PCI_CAP_ID_VNDR && type >= VIRTIO_PCI_CAP_COMMON_CFG &&
		    type <= VIRTIO_PCI_CAP_ISR_CFG) {
			uint64_t *place[] = { &driver->common, &driver->notify, &driver->isr };
			unsigned int bar = (unsigned int)client_get(client, "readb 0x%llx", at + 4);

			*place[type - 1] = bar_address(client, bar) +
					   client_get(client, "readl 0x%llx", at + 8);
		}
		next = (unsigned int)client_get(client, "readb 0x%llx", at + 1);
		cap = FUNCTION + next;
	}
	assert_true(driver->common && driver->notify && driver->isr && driver->msix);
}

static void driver_set(struct rng_driver *driver, char width, unsigned int offset, uint64_t value)
{
	assert_ok(driver->client, "write%c 0x%llx 0x%llx", width,
		  (unsigned long long)driver->common + offset, (unsigned long long)value);
}

static uint64_t driver_get(struct rng_driver *driver, char width, unsigned int offset)
{
	return client_get(driver->client, "read%c 0x%llx", width,
			  (unsigned long long)driver->common + offset);
}

/* Vector 0 is a write of 0x5ca1ab1e to MESSAGE. */
static void driver_enable_msix(struct rng_driver *driver)
{
	struct port_client *client = driver->client;
	unsigned long long cap = FUNCTION + driver->msix;
	uint64_t place = client_get(client, "readl 0x%llx", cap + PCI_MSIX_TABLE);
	unsigned long long table = bar_address(client, place & 7) + (place & ~UINT64_C(7));

	assert_ok(client, "writeq 0x%llx 0x%llx", table, MESSAGE);
	assert_ok(client, "writel 0x%llx 0x5ca1ab1e", table + 8);
	assert_ok(client, "writel 0x%llx 0", table + 12);
	assert_ok(client, "writew 0x%llx 0x%x", cap + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE);
	driver_set(driver, 'w', VIRTIO_PCI_COMMON_Q_MSIX, 0);
	assert_int_equal(driver_get(driver, 'w', VIRTIO_PCI_COMMON_Q_MSIX), 0);
}

static void driver_open(struct rng_driver *driver, struct port_client *client, bool msix)
{
	*driver = (struct rng_driver) { .client = client };
	driver_find(driver);
	assert_ok(client, "writew 0x%llx 6", FUNCTION + PCI_COMMAND);
	assert_ok(client, "memset 0x%llx 0x400 0", RING);
	driver_set(driver, 'b', VIRTIO_PCI_COMMON_STATUS, 0);
	driver_set(driver, 'b', VIRTIO_PCI_COMMON_STATUS, 3);
	driver_set(driver, 'l', VIRTIO_PCI_COMMON_GFSELECT, 1);
	driver_set(driver, 'l', VIRTIO_PCI_COMMON_GF, 1); /* VIRTIO_F_VERSION_1 */
	driver_set(driver, 'b', VIRTIO_PCI_COMMON_STATUS, 11);
	assert_int_equal(driver_get(driver, 'b', VIRTIO_PCI_COMMON_STATUS), 11);
	driver_set(driver, 'w', VIRTIO_PCI_COMMON_Q_SELECT, 0);
	driver_set(driver, 'w', VIRTIO_PCI_COMMON_Q_SIZE, 8);
	driver_set(driver, 'q', VIRTIO_PCI_COMMON_Q_DESCLO, RING);
	driver_set(driver, 'q', VIRTIO_PCI_COMMON_Q_AVAILLO, AVAIL);
	driver_set(driver, 'q', VIRTIO_PCI_COMMON_Q_USEDLO, USED);
	if (msix)
		driver_enable_msix(driver);
	driver_set(driver, 'w', VIRTIO_PCI_COMMON_Q_ENABLE, 1);
	driver_set(driver, 'b', VIRTIO_PCI_COMMON_STATUS, 15);
	driver->queue_notify =
		driver->notify + 4 * driver_get(driver, 'w', VIRTIO_PCI_COMMON_Q_NOFF);
}

/* Offer a buffer of @len bytes at BUFFER, and kick. */
static void driver_add(struct rng_driver *driver, unsigned int len)
{
	struct port_client *client = driver->client;
	unsigned int slot = driver->next++ % 8;

	assert_ok(client, "writeq 0x%llx 0x%llx", RING + 16 * slot, BUFFER);
	assert_ok(client, "writel 0x%llx %u", RING + 16 * slot + 8, len);
	assert_ok(client, "writel 0x%llx %d", RING + 16 * slot + 12, VRING_DESC_F_WRITE);
	assert_ok(client, "writew 0x%llx %u", AVAIL + 4 + 2 * slot, slot);
	assert_ok(client, "writew 0x%llx %u", AVAIL + 2, driver->next);
	assert_ok(client, "writew 0x%llx 0", (unsigned long long)driver->queue_notify);
}

static unsigned int driver_used(struct rng_driver *driver)
{
	return (unsigned int)client_get(driver->client, "readw 0x%llx", USED + 2);
}

/* The kick has been served when its reply comes, and the message is in RAM. */
static void test_rng_msix(void **state)
{
	struct fixture *f = *state;
	struct rng_driver driver;

	driver_open(&driver, &f->client, true);
	for (unsigned int i = 1; i <= 20; i++) {
		assert_ok(&f->client, "memset 0x%llx 64 0", BUFFER);
		assert_ok(&f->client, "writel 0x%llx 0", MESSAGE);
		driver_add(&driver, 32);
		assert_int_equal(driver_used(&driver), i);
		assert_int_equal(
			client_get(&f->client, "readl 0x%llx", USED + 8 + 8 * ((i - 1) % 8)), 32);
		assert_int_equal(client_get(&f->client, "readl 0x%llx", MESSAGE), 0x5ca1ab1e);
		assert_true(client_get(&f->client, "readq 0x%llx", BUFFER) |
			    client_get(&f->client, "readq 0x%llx", BUFFER + 24));
		assert_reply(&f->client, "OK 0x0000000000000000", "readq 0x%llx", BUFFER + 32);
	}
}

static void test_rng_intx(void **state)
{
	struct fixture *f = *state;
	struct rng_driver driver;

	assert_ok(&f->client, "irq_intercept_in ioapic");
	driver_open(&driver, &f->client, false);
	for (unsigned int i = 1; i <= 3; i++) {
		driver_add(&driver, 32);
		assert_irqs(&f->client, "raise 19 ");
		assert_int_equal(
			client_get(&f->client, "readb 0x%llx", (unsigned long long)driver.isr), 1);
		assert_irqs(&f->client, "lower 19 ");
		assert_int_equal(driver_used(&driver), i);
	}
}

/* Devices' timers follow the client's clock: the rest of a request comes with the next period. */
static void test_rng_period(void **state)
{
	struct fixture *f = *state;
	struct rng_driver driver;

	start(f, "3,virtio-rng,max-bytes=16,period=5");
	driver_open(&driver, &f->client, true);
	driver_add(&driver, 16);
	driver_add(&driver, 16);
	usleep(20000);
	assert_int_equal(driver_used(&driver), 1);
	assert_reply(&f->client, "OK 4999999", "clock_step 4999999");
	assert_int_equal(driver_used(&driver), 1);
	assert_reply(&f->client, "OK 5000000", "clock_step");
	assert_int_equal(driver_used(&driver), 2);
}

/* A message to a local APIC has nobody to go to, and is seen in the log. */
static void test_msi_to_lapic(void **state)
{
	struct fixture *f = *state;
	struct rng_driver driver;

	f->vm.captured.log.level = LOG_LEVEL_DEBUG;
	start(f, "3,virtio-rng");
	driver_open(&driver, &f->client, true);
	driver_add(&driver, 16);
	assert_int_equal(client_get(&f->client, "readl 0x%llx", MESSAGE), 0x5ca1ab1e);
	assert_int_equal(port_vm_logged(&f->vm, "MSI 0x"), 0);
	assert_ok(&f->client, "writeq 0x%llx 0xfee01000",
		  (unsigned long long)bar_address(
			  &f->client,
			  client_get(&f->client, "readl 0x%llx", FUNCTION + driver.msix + 4) & 7));
	driver_add(&driver, 16);
	assert_int_equal(driver_used(&driver), 2);
	assert_int_equal(port_vm_logged(&f->vm, "MSI 0x5ca1ab1e to 0xfee01000"), 1);
}

/* ---- Time and lines ---- */

static void test_rtc_periodic(void **state)
{
	struct fixture *f = *state;

	assert_ok(&f->client, "irq_intercept_in ioapic");
	assert_ok(&f->client, "outb 0x70 0x0b");
	assert_ok(&f->client, "outb 0x71 0x42"); /* 1024 Hz */
	usleep(5000);
	assert_reply(&f->client, "OK 976562", "clock_step 976562");
	assert_irqs(&f->client, "");
	assert_reply(&f->client, "OK 976563", "clock_step 1");
	assert_irqs(&f->client, "raise 8 ");
	assert_ok(&f->client, "outb 0x70 0x0c");
	assert_reply(&f->client, "OK 0x00c0", "inb 0x71");
	assert_irqs(&f->client, "lower 8 ");
	assert_reply(&f->client, "OK 1953125", "clock_step");
	assert_irqs(&f->client, "raise 8 ");
}

/* The machine has PIT, HPET and the router of PCI interrupts, as one on a hypervisor without them. */
static void test_timers(void **state)
{
	struct fixture *f = *state;

	assert_ok(&f->client, "irq_intercept_in ioapic");
	assert_ok(&f->client, "outb 0x43 0x34");
	assert_irqs(&f->client, "raise 0 "); /* the output is high until it counts */
	assert_ok(&f->client, "outb 0x40 0xa9");
	assert_ok(&f->client, "outb 0x40 0x04"); /* 1193 */
	assert_reply(&f->client, "OK 1000686", "clock_step"); /* 1194 clocks */
	assert_irqs(&f->client, "lower 0 raise 0 ");
	assert_reply(&f->client, "OK 2000534", "clock_step");
	assert_irqs(&f->client, "lower 0 raise 0 ");
	assert_ok(&f->client, "outb 0x43 0x30");
	assert_irqs(&f->client, "lower 0 ");

	assert_ok(&f->client, "writel 0xfed00100 0x2004"); /* edge, to input 16 */
	assert_ok(&f->client, "writel 0xfed00108 5000");
	assert_ok(&f->client, "writel 0xfed0010c 0");
	assert_ok(&f->client, "writel 0xfed00010 1");
	assert_reply(&f->client, "OK 2500500", "clock_step");
	assert_irqs(&f->client, "raise 16 lower 16 ");
	assert_reply(&f->client, "OK 0x0000000000001388", "readq 0xfed000f0");

	assert_ok(&f->client, "outl 0xcf8 0x80000760");
	assert_reply(&f->client, "OK 0x80808080", "inl 0xcfc");
}

/* A second of the client's is a second of the real-time clock, and none of ours is. */
static void test_rtc_time(void **state)
{
	struct fixture *f = *state;
	uint64_t before, after;

	assert_ok(&f->client, "outb 0x70 0");
	before = client_get(&f->client, "inb 0x71");
	usleep(1100000);
	assert_int_equal(client_get(&f->client, "inb 0x71"), before);
	assert_reply(&f->client, "OK 2000000000", "clock_step 2000000000");
	after = client_get(&f->client, "inb 0x71");
	before = (before >> 4) * 10 + (before & 15);
	after = (after >> 4) * 10 + (after & 15);
	assert_int_equal((before + 2) % 60, after);
}

static void test_pm_timer(void **state)
{
	struct fixture *f = *state;

	assert_reply(&f->client, "OK 0x0000", "inl 0x608");
	assert_reply(&f->client, "OK 1000000000", "clock_step 1000000000");
	assert_reply(&f->client, "OK 0x369e99", "inl 0x608"); /* 3579545 */
	assert_ok(&f->client, "irq_intercept_in ioapic");
	assert_ok(&f->client, "outw 0x602 1");
	assert_reply(&f->client, "OK 2343484438", "clock_step");
	assert_irqs(&f->client, "raise 9 ");
	assert_reply(&f->client, "OK 0x0001", "inw 0x600");
	assert_ok(&f->client, "outw 0x600 1");
	assert_irqs(&f->client, "lower 9 ");
	/* many turns of the timer are one event, until it is acknowledged */
	assert_reply(&f->client, "OK 60000000000", "clock_set 60000000000");
	assert_irqs(&f->client, "raise 9 ");
}

/* Lines that are high when they are intercepted are told; without, nothing is. */
static void test_intercept_late(void **state)
{
	struct fixture *f = *state;

	assert_ok(&f->client, "outw 0x602 1");
	assert_reply(&f->client, "OK 10000000000", "clock_step 10000000000");
	assert_irqs(&f->client, "");
	assert_ok(&f->client, "irq_intercept_in ioapic");
	assert_irqs(&f->client, "raise 9 ");
	assert_ok(&f->client, "irq_intercept_in ioapic");
	assert_irqs(&f->client, "");
}

static void press_power_button(void *arg, uint32_t expirations)
{
	vm_power_button(arg);
}

/* An event from outside comes by itself; the second press ends the VM. */
static void test_power_button(void **state)
{
	struct fixture *f = *state;
	struct event_source *timer;

	assert_true(port_vm_create(&f->vm));
	timer = event_add_real_timer(f->vm.ctx->main_loop, NULL, press_power_button, f->vm.ctx);
	assert_non_null(timer);
	port_vm_run(&f->vm);
	client_connect(&f->client, f->vm.path);
	assert_ok(&f->client, "irq_intercept_in ioapic");
	assert_ok(&f->client, "outw 0x602 0x100");
	event_set_timer(timer, 1000, 0);
	client_wait_irqs(&f->client, "IRQ raise 9");
	assert_reply(&f->client, "OK 0x0100", "inw 0x600");
	assert_ok(&f->client, "outw 0x600 0x100");
	assert_irqs(&f->client, "lower 9 ");
	event_set_timer(timer, 1000, 0);
	assert_int_equal(port_vm_wait(&f->vm), VM_END_KILLED);
	assert_null(client_line(&f->client));
}

/* ---- Reset and end ---- */

/* The reply to the write that resets comes when the machine is as new: also for what was sent before it. */
static void test_reset(void **state)
{
	static const char lines[] = "writel 0x1000 0x12345678\noutb 0xcf9 6\nreadl 0x1000\n"
				    "inb 0xcf9\n";
	struct fixture *f = *state;
	struct rng_driver driver;

	assert_ok(&f->client, "irq_intercept_in ioapic");
	for (unsigned int i = 0; i < 5; i++) {
		driver_open(&driver, &f->client, false);
		driver_add(&driver, 32);
		assert_irqs(&f->client, "raise 19 ");
		client_send(&f->client, lines, strlen(lines));
		assert_next(&f->client, "OK");
		assert_next(&f->client, "OK");
		assert_irqs(&f->client, "lower 19 ");
		assert_next(&f->client, "OK 0x0000000000000000");
		assert_next(&f->client, "OK 0x0000");
		assert_int_equal(client_get(&f->client, "readw 0x%llx",
					    (unsigned long long)FUNCTION + PCI_COMMAND),
				 0);
		assert_int_equal(port_vm_logged(&f->vm, "guest reset"), i + 1);
	}
	assert_ok(&f->client, "outb 0x64 0xfe"); /* the keyboard controller's */
	assert_int_equal(port_vm_logged(&f->vm, "guest reset"), 6);
	driver_open(&driver, &f->client, true);
	driver_add(&driver, 32);
	assert_int_equal(driver_used(&driver), 1);
}

/* @line is answered, and is the VM's last. */
static void assert_ends(struct fixture *f, const char *line, int status)
{
	client_send(&f->client, line, strlen(line));
	client_send(&f->client, "endianness\n", 11);
	assert_int_equal(port_vm_wait(&f->vm), status);
	assert_next(&f->client, "OK");
	assert_null(client_line(&f->client));
}

static void test_no_reboot(void **state)
{
	struct fixture *f = *state;

	f->vm.config.no_reboot = true;
	start(f, NULL);
	assert_ends(f, "outb 0xcf9 6\n", VM_END_RESET);
}

static void test_debug_exit(void **state)
{
	struct fixture *f = *state;

	f->vm.config.debug_exit = true;
	start(f, NULL);
	assert_ends(f, "outb 0xf4 5\n", VM_END_DEBUG_EXIT + 5);
}

/* Soft off is answered, ends the VM and takes the socket away. */
static void test_power_off(void **state)
{
	struct fixture *f = *state;

	assert_ends(f, "outw 0x604 0x3400\n", VM_END_POWEROFF);
	assert_int_equal(access(f->vm.path, F_OK), -1);
}

/* ---- Connections ---- */

static void test_reconnect(void **state)
{
	struct fixture *f = *state;
	struct rng_driver driver;

	assert_ok(&f->client, "irq_intercept_in ioapic");
	driver_open(&driver, &f->client, false);
	assert_reply(&f->client, "OK 123", "clock_step 123");
	client_send(&f->client, "writel 0x1000 0x77\nwritel 0x1000 0x88", 37); /* half a line */
	for (unsigned int i = 1; i <= 3; i++) {
		client_close(&f->client);
		client_connect(&f->client, f->vm.path);
		assert_reply(&f->client, "OK 123", "clock_step 0");
		assert_reply(&f->client, "OK 0x0000000000000077", "readl 0x1000");
		driver_add(&driver, 16);
		assert_int_equal(driver_used(&driver), i);
		assert_irqs(&f->client, ""); /* nobody asked for them yet */
	}
	assert_ok(&f->client, "irq_intercept_in ioapic");
	assert_irqs(&f->client, "raise 19 ");
}

/* One that is connected does not notice another, which has its turn later. */
static void test_second_client_waits(void **state)
{
	struct fixture *f = *state;
	struct port_client second;

	client_connect(&second, f->vm.path);
	client_send(&second, "endianness\n", 11);
	assert_reply(&f->client, "OK 0x00ff", "inb 0x0e00");
	assert_int_equal(recv(second.fd, second.in, 1, MSG_DONTWAIT), -1);
	client_close(&f->client);
	assert_next(&second, "OK little");
	f->client = second;
}

/* What a client sent before it closed its side is answered. */
static void test_half_close(void **state)
{
	struct fixture *f = *state;

	for (unsigned int i = 0; i < 1000; i++)
		client_send(&f->client, "inb 0x0e00\n", 11);
	shutdown(f->client.fd, SHUT_WR);
	for (unsigned int i = 0; i < 1000; i++)
		assert_next(&f->client, "OK 0x00ff");
	assert_null(client_line(&f->client));
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	return fd;
}

static void test_connect(void **state)
{
	struct fixture *f = *state;
	int listener = listen_at(f->vm.path);

	snprintf(f->vm.options, sizeof(f->vm.options), "test,connect=%s", f->vm.path);
	assert_true(port_vm_create(&f->vm));
	port_vm_run(&f->vm);
	client_init(&f->client, accept(listener, NULL, NULL));
	assert_reply(&f->client, "OK little", "endianness");
	client_close(&f->client);
	assert_int_equal(port_vm_wait(&f->vm), VM_END_POWEROFF);
	assert_int_equal(access(f->vm.path, F_OK), 0); /* the listener's, not ours */
	close(listener);
}

/* ---- Options ---- */

static void assert_refused(struct port_vm *vm, const char *options, const char *text)
{
	unsigned int before = vm->captured.count;

	snprintf(vm->options, sizeof(vm->options), "%s", options);
	assert_false(port_vm_create(vm));
	if (vm->captured.count != before + 1 || !port_vm_logged(vm, text))
		fail_msg("%s: %u lines, the first: %s", options, vm->captured.count - before,
			 vm->captured.lines[before]);
}

static void test_options(void **state)
{
	struct fixture *f = *state;
	struct port_vm *vm = &f->vm;
	char spec[160];
	int fd;

	assert_refused(vm, "test", "give either");
	assert_refused(vm, "test,socket=/a,connect=/b", "give either");
	assert_refused(vm, "test,frob=1", "unknown option frob, valid are: socket, connect");
	if (access("/dev/kvm", R_OK | W_OK) == 0) {
		assert_refused(vm, "kvm,frob=1", "--hv kvm: unknown option frob, valid are: pit");
		assert_refused(vm, "kvm,pit=none", "pit");
	} else {
		print_message("no /dev/kvm: --hv kvm,... is not tried\n");
	}
	assert_refused(vm, "auto,socket=/a", "auto takes no options");
	assert_refused(vm, "xen", "valid are: auto, acrn, kvm, test");
	assert_refused(vm, "tes,socket=/a", "valid are: auto, acrn, kvm, test");
	assert_refused(vm, "test,socket=/nowhere/socket", "its directory does not exist");
	assert_refused(vm, "test,connect=/nowhere/socket", "cannot connect");
	assert_refused(
		vm,
		"test,socket=/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		"too long");
	snprintf(spec, sizeof(spec), "test,socket=%s", vm->folder);
	assert_refused(vm, spec, "is not a socket");
	snprintf(spec, sizeof(spec), "test,socket=%s", vm->path);
	fd = listen_at(vm->path);
	assert_refused(vm, spec, "another process listens");
	close(fd); /* now it is stale */
	vm->config.kernel = "vmlinuz";
	if (!port_vm_create(vm))
		fail_msg("%s", vm->captured.lines[vm->captured.count - 1]);
	assert_int_equal(port_vm_logged(vm, "-k vmlinuz: the test port runs no kernel"), 1);
	assert_int_equal(access(vm->path, F_OK), 0);
}

/* ---- Hostile clients ---- */

static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return *seed >> 8;
}

/* Bytes without meaning: a reply a line, and the port goes on. */
static void test_garbage(void **state)
{
	struct fixture *f = *state;
	uint32_t seed = 1;

	for (unsigned int round = 0; round < 200; round++) {
		char bytes[512];
		unsigned int lines = 1;

		for (unsigned int i = 0; i < sizeof(bytes); i++) {
			bytes[i] = (char)next_random(&seed);
			lines += bytes[i] == '\n';
		}
		lines -= bytes[sizeof(bytes) - 1] == '\n';
		bytes[sizeof(bytes) - 1] = '\n';
		client_send(&f->client, bytes, sizeof(bytes));
		while (lines--) {
			char *reply = client_reply(&f->client);

			assert_int_equal(strncmp(reply, "ERR ", 4), 0);
			free(reply);
		}
	}
	assert_reply(&f->client, "OK little", "endianness");
}

/* Numbers that are at some border. */
static uint64_t hostile_number(uint32_t *seed)
{
	static const uint64_t bases[] = {
		0,	    0x1000,	  0x3fffff8,	  0x4000000,  ECAM,  FUNCTION, 0xc0000000,
		0xc0001000, 0xcf8,	  0xcfc,	  0x3f8,      0x70,  0x600,    0x1000,
		0xfee00000, 0x8000000000, UINT64_MAX - 8, UINT32_MAX, 0xffff
	};

	return bases[next_random(seed) % ARRAY_SIZE(bases)] + next_random(seed) % 64;
}

/* Well-formed commands at any address, with devices of every kind there. */
static void test_random_commands(void **state)
{
	static const char *const forms[] = {
		"inb %llu",
		"inw %llu",
		"inl %llu",
		"outb %llu %llu",
		"outw %llu %llu",
		"outl %llu %llu",
		"readb %llu",
		"readw %llu",
		"readl %llu",
		"readq %llu",
		"writeb %llu %llu",
		"writew %llu %llu",
		"writel %llu %llu",
		"writeq %llu %llu",
		"read %llu %llu",
		"b64read %llu %llu",
		"memset %llu %llu %llu",
		"write %llu %llu 0x0102030405060708",
		"clock_step %llu",
	};
	struct fixture *f = *state;
	uint32_t seed = 2;

	start(f, "3,virtio-rng");
	assert_ok(&f->client, "writew 0x%llx 7", FUNCTION + PCI_COMMAND);
	for (unsigned int i = 0; i < 20000; i++) {
		const char *form = forms[next_random(&seed) % ARRAY_SIZE(forms)];
		unsigned long long a = hostile_number(&seed), b = hostile_number(&seed);
		char line[128];
		char *reply;

		if (!strncmp(form, "out", 3) && (a == 0x604 || a == 0x605))
			continue; /* soft off */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(line, sizeof(line), form, a, b, b);
#pragma GCC diagnostic pop
		reply = client_ask(&f->client, "%s", line);
		if (strncmp(reply, "OK", 2) && strncmp(reply, "ERR ", 4))
			fail_msg("%s: %s", line, reply);
		free(reply);
	}
	assert_reply(&f->client, "OK little", "endianness");
}

/* One that sends and never reads is made to wait; the VM can be ended all the same, and at once. */
static void test_client_that_does_not_read(void **state)
{
	struct fixture *f = *state;
	uint64_t sent = 0, start_ns;
	unsigned int stuck = 0;

	while (sent < MIB(64) && stuck < 100) {
		ssize_t len = send(f->client.fd, "read 0 0x100000\n", 16, MSG_DONTWAIT);

		sent += len > 0 ? (uint64_t)len : 0;
		stuck = len < 0 ? stuck + 1 : 0;
		if (len < 0)
			usleep(2000);
	}
	assert_true(sent < MIB(16));
	start_ns = client_now_ns();
	vm_request(f->vm.ctx, VM_REQUEST_POWEROFF, 0);
	assert_int_equal(port_vm_wait(&f->vm), VM_END_POWEROFF);
	assert_true(client_now_ns() - start_ns < UINT64_C(5000000000));
}

/* Lines that change more often than the client reads: the order may be lost, the last level not. */
static void test_many_interrupts(void **state)
{
	struct fixture *f = *state;

	assert_ok(&f->client, "irq_intercept_in ioapic");
	for (unsigned int i = 0; i < 100000; i++)
		(void)f->vm.ctx->hv->irq_line(f->vm.ctx, 5, i & 1);
	while (!strstr(f->client.irqs, "raise 7")) {
		char *line;

		(void)f->vm.ctx->hv->irq_line(f->vm.ctx, 7, true);
		line = client_line(&f->client);
		assert_non_null(line);
		if (!strncmp(line, "IRQ", 3))
			snprintf(f->client.irqs, sizeof(f->client.irqs), "%s %s",
				 strstr(line, " 5") ? line : "IRQ raise 5",
				 strstr(line, "raise 7") ? line : "");
		free(line);
	}
	assert_int_equal(f->vm.ctx->hv->irq_line(f->vm.ctx, 24, true), -EINVAL);
	assert_reply(&f->client, "OK little", "endianness");
}

/* ---- Speed ---- */

#define ROUND_TRIPS 30000

static double measure(struct fixture *f, const char *line)
{
	size_t len = strlen(line);
	uint64_t start_ns = client_now_ns();
	char reply[256];

	for (unsigned int i = 0; i < ROUND_TRIPS; i++) {
		client_send(&f->client, line, len);
		assert_true(recv(f->client.fd, reply, sizeof(reply), 0) > 0);
	}
	return ROUND_TRIPS / ((double)(client_now_ns() - start_ns) / 1e9);
}

/* The same, so many lines in one message that a round trip counts for nothing. */
static double measure_batches(struct fixture *f, const char *line)
{
	const unsigned int batch = 100, rounds = ROUND_TRIPS / batch;
	size_t len = strlen(line), used = 0;
	char lines[100 * 32];
	uint64_t start_ns;

	for (unsigned int i = 0; i < batch; i++, used += len)
		memcpy(lines + used, line, len);
	start_ns = client_now_ns();
	for (unsigned int i = 0; i < rounds; i++) {
		unsigned int replies = 0;

		client_send(&f->client, lines, used);
		while (replies < batch) {
			char reply[4096];
			ssize_t got = recv(f->client.fd, reply, sizeof(reply), 0);

			assert_true(got > 0);
			for (ssize_t at = 0; at < got; at++)
				replies += reply[at] == '\n';
		}
	}
	return rounds * batch / ((double)(client_now_ns() - start_ns) / 1e9);
}

/* Where a wake-up of another CPU is dear, as in a VM, one CPU for both is faster. */
static void run_on_one_cpu(cpu_set_t *before)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	assert_int_equal(sched_getaffinity(0, sizeof(*before), before), 0);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
}

/* What is promised is 50,000 a second; a loaded machine under a sanitizer must not fail for it. */
static void test_speed(void **state)
{
	static const char *const lines[] = { "inb 0x71\n", "readl 0xb0018000\n", "readl 0x1000\n",
					     "writel 0x1000 0x12345678\n" };
	struct fixture *f = *state;
	cpu_set_t before;

	for (int one_cpu = 0; one_cpu < 2; one_cpu++) {
		if (one_cpu)
			run_on_one_cpu(&before);
		start(f, "3,virtio-rng");
		for (unsigned int i = 0; i < ARRAY_SIZE(lines); i++) {
			double best = 0;

			for (unsigned int round = 0; round < 3; round++)
				best = MAX(best, measure(f, lines[i]));
			print_message("%s: %.0f accesses a second, %.0f in batches: %s",
				      one_cpu ? "one CPU" : "any CPU", best,
				      measure_batches(f, lines[i]), lines[i]);
			assert_true(best > 2000);
		}
		client_close(&f->client);
		vm_request(f->vm.ctx, VM_REQUEST_POWEROFF, 0);
		assert_int_equal(port_vm_wait(&f->vm), VM_END_POWEROFF);
	}
	assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
}

#define PORT_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define STOPPED_TEST(name) cmocka_unit_test_setup_teardown(name, setup_stopped, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PORT_TEST(test_commands),
		PORT_TEST(test_bad_lines),
		PORT_TEST(test_partial_lines),
		PORT_TEST(test_many_lines_at_once),
		PORT_TEST(test_long_lines),
		PORT_TEST(test_much_data),
		PORT_TEST(test_memory_size),
		PORT_TEST(test_enumeration),
		PORT_TEST(test_rng_msix),
		PORT_TEST(test_rng_intx),
		STOPPED_TEST(test_rng_period),
		STOPPED_TEST(test_msi_to_lapic),
		PORT_TEST(test_rtc_periodic),
		PORT_TEST(test_timers),
		PORT_TEST(test_rtc_time),
		PORT_TEST(test_pm_timer),
		PORT_TEST(test_intercept_late),
		STOPPED_TEST(test_power_button),
		PORT_TEST(test_reset),
		STOPPED_TEST(test_no_reboot),
		STOPPED_TEST(test_debug_exit),
		PORT_TEST(test_power_off),
		PORT_TEST(test_reconnect),
		PORT_TEST(test_second_client_waits),
		PORT_TEST(test_half_close),
		STOPPED_TEST(test_connect),
		STOPPED_TEST(test_options),
		PORT_TEST(test_garbage),
		STOPPED_TEST(test_random_commands),
		PORT_TEST(test_client_that_does_not_read),
		PORT_TEST(test_many_interrupts),
		STOPPED_TEST(test_speed),
	};

	return cmocka_run_group_tests_name("test port", tests, NULL, NULL);
}
