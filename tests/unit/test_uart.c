/* SPDX-License-Identifier: BSD-3-Clause */
/* The 16550A, as a driver sees it, with a socket behind it. */
#include <errno.h>
#include <linux/serial_reg.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_vm.h"

#define COM1 0x3f8
#define GSI 4
#define FIFOS (UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR | UART_FCR_CLEAR_XMIT)

struct fixture {
	struct fake_vm *vm;
	char path[64];
	int peer; /* whom com1 talks to */
};

static void out(struct fixture *f, unsigned int reg, uint8_t value)
{
	fake_vm_out(f->vm, (uint16_t)(COM1 + reg), 1, value);
}

static uint8_t in(struct fixture *f, unsigned int reg)
{
	return (uint8_t)fake_vm_in(f->vm, (uint16_t)(COM1 + reg), 1);
}

static bool irq(struct fixture *f)
{
	return f->vm->level[GSI];
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char spec[128];

	*state = f;
	f->vm = fake_vm_create(false);
	assert_int_equal(platform_create(&f->vm->ctx), 0);
	snprintf(f->path, sizeof(f->path), "/tmp/test_uart.%d", getpid());
	snprintf(spec, sizeof(spec), "com1,server:%s", f->path);
	assert_int_equal(platform_add_uart(&f->vm->ctx, spec), 0);
	f->peer = connect_to(f->path);
	fake_vm_wait(f->vm, in(f, UART_MSR) & UART_MSR_DCD);
	in(f, UART_MSR);
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	close(f->peer);
	fake_vm_destroy(f->vm);
	if (!access(f->path, F_OK))
		return -1;
	free(f);
	return 0;
}

static void assert_peer_reads(struct fixture *f, const char *text)
{
	char buffer[256];
	size_t len = 0;

	while (len < strlen(text)) {
		ssize_t count = recv(f->peer, buffer + len, strlen(text) - len, MSG_DONTWAIT);

		if (count <= 0)
			break;
		len += (size_t)count;
	}
	assert_int_equal(len, strlen(text));
	assert_memory_equal(buffer, text, len);
}

/* Let the guest receive @text: until it is in the FIFO as far as it fits. */
static void peer_sends(struct fixture *f, const char *text)
{
	assert_int_equal(send(f->peer, text, strlen(text), 0), strlen(text));
	fake_vm_run(f->vm, 30);
}

static void guest_prints(struct fixture *f, const char *text)
{
	for (size_t i = 0; text[i]; i++)
		out(f, UART_TX, (uint8_t)text[i]);
}

/* Print until the back end is full; returns how many bytes went in, the one in the FIFO included. */
static size_t guest_prints_until_full(struct fixture *f)
{
	size_t count = 0;

	while (in(f, UART_LSR) & UART_LSR_THRE) {
		out(f, UART_TX, (uint8_t)('a' + count % 26));
		assert_true(++count < MIB(16));
	}
	return count;
}

static void peer_reads_sequence(struct fixture *f, size_t total)
{
	uint64_t deadline = fake_vm_now_ms() + 5000;
	size_t len = 0;

	while (len < total && fake_vm_now_ms() < deadline) {
		char buffer[4096];
		ssize_t count =
			recv(f->peer, buffer, MIN(sizeof(buffer), total - len), MSG_DONTWAIT);

		event_loop_poll(f->vm->ctx.main_loop, count > 0 ? 0 : 5);
		for (ssize_t i = 0; i < count; i++)
			assert_int_equal(buffer[i], 'a' + len++ % 26);
	}
	assert_int_equal(len, total);
}

/* ---- Registers ---- */

static void test_reset_values(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(in(f, UART_IER), 0);
	assert_int_equal(in(f, UART_IIR), UART_IIR_NO_INT);
	assert_int_equal(in(f, UART_LCR), 0);
	assert_int_equal(in(f, UART_MCR), 0);
	assert_int_equal(in(f, UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
	assert_int_equal(in(f, UART_MSR), UART_MSR_CTS | UART_MSR_DSR | UART_MSR_DCD);
	assert_int_equal(in(f, UART_SCR), 0);
	assert_int_equal(f->vm->raised[GSI], 0);
}

/* How drivers tell a 16550A from what came before and after it. */
static void test_detection(void **state)
{
	struct fixture *f = *state;

	out(f, UART_SCR, 0x5a);
	assert_int_equal(in(f, UART_SCR), 0x5a);
	out(f, UART_IER, 0xff);
	assert_int_equal(in(f, UART_IER), 0x0f);
	out(f, UART_IER, 0);
	out(f, UART_MCR, 0xff);
	assert_int_equal(in(f, UART_MCR), 0x1f);
	out(f, UART_MCR, 0);
	/* no 64-byte FIFO, and working 16-byte ones */
	out(f, UART_LCR, UART_LCR_DLAB);
	out(f, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR7_64BYTE);
	assert_int_equal(in(f, UART_IIR), 0xc1);
	out(f, UART_LCR, 0);
	out(f, UART_FCR, 0);
	assert_int_equal(in(f, UART_IIR), 0x01);
	/* without bit 0 the others do not count */
	out(f, UART_FCR, UART_FCR_TRIGGER_14);
	assert_int_equal(in(f, UART_IIR), 0x01);
}

static void test_divisor_latch(void **state)
{
	struct fixture *f = *state;

	out(f, UART_LCR, UART_LCR_DLAB | UART_LCR_WLEN8);
	assert_int_not_equal(in(f, UART_DLL) | in(f, UART_DLM), 0);
	out(f, UART_DLL, 0x34);
	out(f, UART_DLM, 0x12);
	assert_int_equal(in(f, UART_DLL), 0x34);
	assert_int_equal(in(f, UART_DLM), 0x12);
	out(f, UART_LCR, UART_LCR_WLEN8);
	assert_int_equal(in(f, UART_IER), 0);
	assert_int_equal(in(f, UART_LCR), UART_LCR_WLEN8);
	assert_int_equal(recv(f->peer, &(char) { 0 }, 1, MSG_DONTWAIT), -1); /* nothing was sent */
	out(f, UART_LCR, UART_LCR_DLAB);
	assert_int_equal(in(f, UART_DLL), 0x34);
}

/* Wider than a register: as many accesses, from the lowest port on. */
static void test_wide_access(void **state)
{
	struct fixture *f = *state;

	fake_vm_out(f->vm, COM1 + UART_LCR, 2, 0x0b03);
	assert_int_equal(fake_vm_in(f->vm, COM1 + UART_LCR, 2), 0x0b03);
	fake_vm_out(f->vm, COM1 + UART_MSR, 2, 0x77ff);
	assert_int_equal(in(f, UART_SCR), 0x77);
	fake_vm_out(f->vm, COM1, 4, 0x03010041);
	assert_peer_reads(f, "A");
	assert_int_equal(fake_vm_in(f->vm, COM1 + UART_IER, 4), 0x0b03c100);
	assert_int_equal(fake_vm_in(f->vm, COM1 + 4, 8) >> 32, 0xffffffff); /* nobody's */
}

/* ---- Receiving ---- */

static void test_receive_without_fifo(void **state)
{
	struct fixture *f = *state;

	peer_sends(f, "abc");
	for (const char *c = "abc"; *c; c++) {
		assert_true(in(f, UART_LSR) & UART_LSR_DR);
		assert_int_equal(in(f, UART_RX), *c);
	}
	assert_false(in(f, UART_LSR) & UART_LSR_DR);
	assert_int_equal(in(f, UART_RX), 0);
	assert_false(irq(f));
}

static void test_receive_interrupt(void **state)
{
	struct fixture *f = *state;

	out(f, UART_FCR, FIFOS | UART_FCR_TRIGGER_8);
	out(f, UART_IER, UART_IER_RDI);
	peer_sends(f, "1234567");
	assert_true(irq(f));
	assert_int_equal(in(f, UART_IIR), 0xc0 | UART_IIR_RX_TIMEOUT);
	peer_sends(f, "8");
	assert_int_equal(in(f, UART_IIR), 0xc0 | UART_IIR_RDI);
	for (unsigned int i = 1; i <= 8; i++) {
		assert_true(irq(f));
		assert_int_equal(in(f, UART_RX), '0' + i);
	}
	assert_false(irq(f));
	assert_int_equal(in(f, UART_IIR), 0xc0 | UART_IIR_NO_INT);
	assert_int_equal(f->vm->raised[GSI], 1);
}

/* The FIFO holds 16; the rest waits outside, nothing overruns, all comes in order. */
static void test_receive_much(void **state)
{
	struct fixture *f = *state;
	char text[1001];

	for (size_t i = 0; i < 1000; i++)
		text[i] = (char)('a' + i % 26);
	text[1000] = '\0';
	out(f, UART_FCR, FIFOS | UART_FCR_TRIGGER_14);
	out(f, UART_IER, UART_IER_RDI | UART_IER_RLSI);
	peer_sends(f, text);
	for (size_t i = 0; i < 1000; i++) {
		assert_int_equal(in(f, UART_LSR) & (UART_LSR_DR | UART_LSR_OE), UART_LSR_DR);
		assert_int_equal(in(f, UART_RX), text[i]);
	}
	fake_vm_run(f->vm, 20);
	assert_false(in(f, UART_LSR) & UART_LSR_DR);
	assert_false(irq(f));
}

static void test_receiver_clear(void **state)
{
	struct fixture *f = *state;

	out(f, UART_FCR, FIFOS);
	out(f, UART_IER, UART_IER_RDI);
	peer_sends(f, "0123456789abcdefgh"); /* 16 and 2 outside */
	assert_true(irq(f));
	out(f, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR);
	assert_int_equal(in(f, UART_RX), 'g');
	assert_int_equal(in(f, UART_RX), 'h');
	assert_false(irq(f));
}

/* ---- Transmitting ---- */

static void test_transmit(void **state)
{
	struct fixture *f = *state;

	guest_prints(f, "hello");
	assert_peer_reads(f, "hello");
	assert_int_equal(in(f, UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
	assert_false(irq(f));
}

/* Enabling raises it; reading IIR or writing takes it back; it does not come again by itself. */
static void test_transmit_interrupt(void **state)
{
	struct fixture *f = *state;

	out(f, UART_IER, UART_IER_THRI);
	assert_true(irq(f));
	assert_int_equal(in(f, UART_IIR), UART_IIR_THRI);
	assert_false(irq(f));
	assert_int_equal(in(f, UART_IIR), UART_IIR_NO_INT);
	for (unsigned int i = 0; i < 100; i++)
		out(f, UART_IER, UART_IER_THRI); /* the same again: no storm */
	in(f, UART_LSR);
	assert_false(irq(f));
	out(f, UART_TX, 'x');
	assert_true(irq(f));
	assert_int_equal(in(f, UART_IIR), UART_IIR_THRI);
	assert_false(irq(f));
	/* as Linux tests for it */
	out(f, UART_IER, 0);
	out(f, UART_IER, UART_IER_THRI);
	assert_true(irq(f));
	out(f, UART_IER, 0);
	assert_false(irq(f));
	assert_int_equal(in(f, UART_IIR), UART_IIR_NO_INT);
}

/* Reading IIR while another interrupt is reported leaves the transmitter's alone. */
static void test_interrupt_priority(void **state)
{
	struct fixture *f = *state;

	out(f, UART_IER, UART_IER_THRI | UART_IER_RDI | UART_IER_RLSI | UART_IER_MSI);
	peer_sends(f, "x");
	out(f, UART_MCR, UART_MCR_LOOP); /* modem lines change */
	out(f, UART_TX, 'o'); /* overruns */
	assert_int_equal(in(f, UART_IIR), UART_IIR_RLSI);
	assert_true(in(f, UART_LSR) & UART_LSR_OE);
	assert_int_equal(in(f, UART_IIR), UART_IIR_RDI);
	assert_int_equal(in(f, UART_RX), 'x');
	assert_int_equal(in(f, UART_IIR), UART_IIR_THRI);
	assert_int_equal(in(f, UART_IIR), UART_IIR_MSI);
	assert_true(irq(f));
	assert_int_equal(in(f, UART_MSR) & 0x0f, UART_MSR_DCTS | UART_MSR_DDSR | UART_MSR_DDCD);
	assert_int_equal(in(f, UART_IIR), UART_IIR_NO_INT);
	assert_false(irq(f));
}

/* Nobody reads: the FIFO fills and no more; THRE comes, with its interrupt, when all is gone. */
static void test_transmit_slow_reader(void **state)
{
	struct fixture *f = *state;
	size_t count;

	out(f, UART_FCR, FIFOS);
	count = guest_prints_until_full(f);
	assert_int_equal(in(f, UART_LSR) & (UART_LSR_THRE | UART_LSR_TEMT), 0);
	for (unsigned int i = 1; i < 16; i++, count++)
		out(f, UART_TX, (uint8_t)('a' + count % 26));
	for (unsigned int i = 0; i < 100; i++)
		out(f, UART_TX, '!'); /* did not wait: lost */
	out(f, UART_IER, UART_IER_THRI);
	fake_vm_run(f->vm, 20);
	assert_false(irq(f));
	peer_reads_sequence(f, count);
	fake_vm_wait(f->vm, in(f, UART_LSR) & UART_LSR_TEMT);
	assert_true(irq(f));
	assert_int_equal(in(f, UART_IIR), 0xc0 | UART_IIR_THRI);
	out(f, UART_TX, '.');
	assert_peer_reads(f, ".");
}

/* The reader dies: output goes on, to nobody. */
static void test_transmit_dead_reader(void **state)
{
	struct fixture *f = *state;

	guest_prints_until_full(f);
	close(f->peer);
	fake_vm_wait(f->vm, in(f, UART_LSR) & UART_LSR_THRE);
	for (unsigned int i = 0; i < 1000; i++) {
		assert_true(in(f, UART_LSR) & UART_LSR_THRE);
		out(f, UART_TX, 'x');
	}
	f->peer = connect_to(f->path);
	fake_vm_wait(f->vm, in(f, UART_MSR) & UART_MSR_DCD);
	guest_prints(f, "again");
	assert_peer_reads(f, "again");
}

static void test_transmitter_clear(void **state)
{
	struct fixture *f = *state;

	out(f, UART_FCR, FIFOS);
	guest_prints_until_full(f);
	out(f, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_XMIT);
	assert_true(in(f, UART_LSR) & UART_LSR_THRE);
}

/* ---- Modem ---- */

static void test_carrier_follows_peer(void **state)
{
	struct fixture *f = *state;

	out(f, UART_IER, UART_IER_MSI);
	assert_false(irq(f));
	close(f->peer);
	fake_vm_wait(f->vm, irq(f));
	assert_int_equal(in(f, UART_IIR), UART_IIR_MSI);
	assert_int_equal(in(f, UART_MSR), UART_MSR_CTS | UART_MSR_DSR | UART_MSR_DDCD);
	assert_false(irq(f));
	f->peer = connect_to(f->path);
	fake_vm_wait(f->vm, irq(f));
	assert_int_equal(in(f, UART_MSR),
			 UART_MSR_CTS | UART_MSR_DSR | UART_MSR_DCD | UART_MSR_DDCD);
}

static void test_loopback(void **state)
{
	struct fixture *f = *state;

	out(f, UART_FCR, FIFOS);
	out(f, UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_RTS);
	assert_int_equal(in(f, UART_MSR) & 0xf0, UART_MSR_DCD | UART_MSR_CTS);
	out(f, UART_MCR, UART_MCR_LOOP | UART_MCR_OUT1 | UART_MCR_DTR);
	assert_int_equal(in(f, UART_MSR) & 0xf0, UART_MSR_RI | UART_MSR_DSR);
	out(f, UART_MCR, UART_MCR_LOOP);
	assert_true(in(f, UART_MSR) & UART_MSR_TERI);
	peer_sends(f, "outside"); /* not heard as long as it is on */
	assert_false(in(f, UART_LSR) & UART_LSR_DR);
	for (unsigned int i = 0; i < 16; i++)
		out(f, UART_TX, (uint8_t)('a' + i));
	assert_false(in(f, UART_LSR) & UART_LSR_OE);
	out(f, UART_TX, '!');
	assert_true(in(f, UART_LSR) & UART_LSR_OE);
	assert_false(in(f, UART_LSR) & UART_LSR_OE);
	for (unsigned int i = 0; i < 16; i++)
		assert_int_equal(in(f, UART_RX), 'a' + i);
	assert_false(in(f, UART_LSR) & UART_LSR_DR);
	assert_int_equal(recv(f->peer, &(char) { 0 }, 1, MSG_DONTWAIT), -1);
	out(f, UART_MCR, 0);
	for (const char *c = "outside"; *c; c++)
		assert_int_equal(in(f, UART_RX), *c);
}

/* ---- Life ---- */

static void test_reset(void **state)
{
	struct fixture *f = *state;

	out(f, UART_LCR, UART_LCR_DLAB);
	out(f, UART_DLL, 1);
	out(f, UART_LCR, UART_LCR_WLEN8);
	out(f, UART_FCR, FIFOS);
	out(f, UART_SCR, 7);
	out(f, UART_MCR, UART_MCR_LOOP | UART_MCR_DTR);
	out(f, UART_IER, 0x0f);
	out(f, UART_TX, 'x');
	assert_true(irq(f));
	for (unsigned int i = 0; i < 3; i++) {
		unsigned int raised;

		platform_reset(&f->vm->ctx);
		assert_false(irq(f));
		raised = f->vm->raised[GSI];
		f->vm->raised[GSI] = 0;
		test_reset_values(state);
		f->vm->raised[GSI] = raised;
	}
	guest_prints(f, "back");
	assert_peer_reads(f, "back");
}

/* com1 and com3 have one interrupt: it stays up until both are served. */
static void test_shared_interrupt(void **state)
{
	struct fixture *f = *state;
	const uint16_t com3 = 0x3e8;

	assert_int_equal(platform_add_uart(&f->vm->ctx, "com3,null"), 0);
	out(f, UART_IER, UART_IER_THRI);
	fake_vm_out(f->vm, (uint16_t)(com3 + UART_IER), 1, UART_IER_THRI);
	assert_true(irq(f));
	in(f, UART_IIR);
	assert_true(irq(f));
	fake_vm_in(f->vm, (uint16_t)(com3 + UART_IIR), 1);
	assert_false(irq(f));
}

/* Two CPUs hammer the registers while the loop's thread moves bytes both ways. */
static void *hammer(void *arg)
{
	struct fixture *f = arg;

	for (unsigned int i = 0; i < 20000; i++) {
		out(f, UART_TX, 'x');
		out(f, UART_IER, (uint8_t)(i & 0x0f));
		in(f, UART_IIR);
		in(f, UART_RX);
		if (!(i % 64))
			out(f, UART_FCR, FIFOS);
	}
	return NULL;
}

/* Read what is there; returns the last byte, or @last if there is none. */
static uint8_t guest_reads_all(struct fixture *f, uint8_t last)
{
	while (in(f, UART_LSR) & UART_LSR_DR)
		last = in(f, UART_RX);
	return last;
}

static void test_threads(void **state)
{
	struct fixture *f = *state;
	pthread_t threads[2];
	char buffer[4096] = { 0 };
	uint8_t last;

	assert_int_equal(event_loop_start_thread(f->vm->ctx.main_loop), 0);
	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, hammer, f), 0);
	for (unsigned int i = 0; i < 1000; i++) {
		send(f->peer, buffer, 100, MSG_DONTWAIT);
		recv(f->peer, buffer, sizeof(buffer), MSG_DONTWAIT);
	}
	close(f->peer);
	f->peer = connect_to(f->path);
	for (unsigned int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	event_loop_stop_thread(f->vm->ctx.main_loop);
	platform_reset(&f->vm->ctx);
	/* what the first peer sent is still to be read; then the second one is there */
	assert_int_equal(send(f->peer, "z", 1, 0), 1);
	last = 0;
	fake_vm_wait(f->vm, (last = guest_reads_all(f, last)) == 'z');
	while (recv(f->peer, buffer, sizeof(buffer), MSG_DONTWAIT) > 0)
		;
	out(f, UART_TX, '!');
	assert_peer_reads(f, "!");
}

static void test_option_errors(void **state)
{
	static const struct {
		const char *spec;
		int error;
		const char *message;
	} cases[] = {
		{ "com5,null", -EINVAL, "-l com5,null: no such port \"com5\" (com1 to com4)" },
		{ "com0,null", -EINVAL, "no such port" },
		{ "com", -EINVAL, "no such port" },
		{ "com11,null", -EINVAL, "no such port" },
		{ "", -EINVAL, "no such port" },
		{ "com1,null", -EEXIST, "com1 was given before" },
		{ "com2", -EINVAL, "back end missing" },
		{ "com2,", -EINVAL, "back end missing" },
		{ "com2,tcp:1", -EINVAL, "com2: no such back end \"tcp:1\"" },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		unsigned int count = f->vm->log.count;

		assert_int_equal(platform_add_uart(&f->vm->ctx, cases[i].spec), cases[i].error);
		assert_int_equal(f->vm->log.count, count + 1);
		assert_non_null(strstr(f->vm->log.lines[count], cases[i].message));
	}
	assert_null(f->vm->ctx.platform->uart[1]);
	assert_int_equal(fake_vm_in(f->vm, 0x2f8 + UART_SCR, 1), 0xff);
	assert_int_equal(platform_add_uart(&f->vm->ctx, "com2,null"), 0);
	assert_int_equal(fake_vm_in(f->vm, 0x2f8 + UART_SCR, 1), 0);
}

#define uart_test(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		uart_test(test_reset_values),
		uart_test(test_detection),
		uart_test(test_divisor_latch),
		uart_test(test_wide_access),
		uart_test(test_receive_without_fifo),
		uart_test(test_receive_interrupt),
		uart_test(test_receive_much),
		uart_test(test_receiver_clear),
		uart_test(test_transmit),
		uart_test(test_transmit_interrupt),
		uart_test(test_interrupt_priority),
		uart_test(test_transmit_slow_reader),
		uart_test(test_transmit_dead_reader),
		uart_test(test_transmitter_clear),
		uart_test(test_carrier_follows_peer),
		uart_test(test_loopback),
		uart_test(test_reset),
		uart_test(test_shared_interrupt),
		uart_test(test_threads),
		uart_test(test_option_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
