/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A serial port: the 16550A (National Semiconductor PC16550D data sheet, June 1995; "the data
 * sheet" below) at an ISA port, with a byte stream of the host behind it.
 *
 * A byte takes no time on the line: it leaves when it is written, unless the back end is full. What
 * it does not take waits in the transmitter FIFO, and the guest is told that the FIFO is not empty.
 */
#include <linux/serial_reg.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "char_backend.h"
#include "platform.h"

#define UART_FIFO_SIZE 16
#define UART_DIVISOR_RESET 12 /* 9600 baud: what drivers that ask expect to divide by */
#define UART_IIR_FIFOS 0xc0 /* FIFOs are enabled */
#define UART_IER_BITS 0x0f
#define UART_MCR_BITS 0x1f
#define UART_LSR_ERRORS (UART_LSR_OE | UART_LSR_PE | UART_LSR_FE | UART_LSR_BI)
#define UART_MSR_DELTAS 0x0f

const struct platform_uart_place platform_uart_places[PLATFORM_UARTS] = {
	{ 0x3f8, 8, 4 },
	{ 0x2f8, 8, 3 },
	{ 0x3e8, 8, 4 },
	{ 0x2e8, 8, 3 },
};

/** struct uart_fifo - a ring of bytes. */
struct uart_fifo {
	uint8_t bytes[UART_FIFO_SIZE];
	unsigned int head, count;
};

/** struct uart_state - what the guest can see. */
struct uart_state {
	uint8_t ier, fcr, lcr, mcr, msr, scr;
	uint8_t lsr_errors;
	uint16_t divisor;
	bool thre_pending; /* the transmitter became empty and nobody has looked */
	struct uart_fifo receive, transmit;
};

struct uart {
	struct vmctx *ctx;
	unsigned int index;
	unsigned int gsi;
	pthread_mutex_t lock; /* all below */
	struct char_backend *chr;
	struct uart_state state;
	bool input_refused; /* the back end has more for us */
	bool irq_level;
	struct io_range range;
	char name[8];
};

/* ---- FIFOs ---- */

static void fifo_push(struct uart_fifo *fifo, uint8_t byte)
{
	fifo->bytes[(fifo->head + fifo->count++) % UART_FIFO_SIZE] = byte;
}

static uint8_t fifo_pop(struct uart_fifo *fifo)
{
	uint8_t byte = fifo->bytes[fifo->head];

	fifo->head = (fifo->head + 1) % UART_FIFO_SIZE;
	fifo->count--;
	return byte;
}

static unsigned int uart_depth(const struct uart *uart)
{
	return uart->state.fcr & UART_FCR_ENABLE_FIFO ? UART_FIFO_SIZE : 1;
}

static bool uart_loopback(const struct uart *uart)
{
	return uart->state.mcr & UART_MCR_LOOP;
}

/* ---- Interrupts (data sheet, table IV: by priority) ---- */

static unsigned int receive_trigger(const struct uart *uart)
{
	static const uint8_t triggers[] = { 1, 4, 8, 14 };

	if (uart_depth(uart) == 1)
		return 1;
	return triggers[uart->state.fcr >> 6];
}

/*
 * Fewer bytes than the trigger level are a receive time-out (data sheet, 8.4): no more can be on
 * their way at this instant, so there is nothing to wait four character times for.
 */
static uint8_t uart_interrupt_id(const struct uart *uart)
{
	const struct uart_state *state = &uart->state;

	if (state->ier & UART_IER_RLSI && state->lsr_errors)
		return UART_IIR_RLSI;
	if (state->ier & UART_IER_RDI && state->receive.count)
		return state->receive.count >= receive_trigger(uart) ? UART_IIR_RDI
								     : UART_IIR_RX_TIMEOUT;
	if (state->ier & UART_IER_THRI && state->thre_pending)
		return UART_IIR_THRI;
	if (state->ier & UART_IER_MSI && state->msr & UART_MSR_DELTAS)
		return UART_IIR_MSI;
	return UART_IIR_NO_INT;
}

/* Drivers of PCs set OUT2 to connect the interrupt, but not all do: it is always connected. */
static void uart_update_irq(struct uart *uart)
{
	bool level = uart_interrupt_id(uart) != UART_IIR_NO_INT;

	if (level == uart->irq_level)
		return;
	uart->irq_level = level;
	platform_irq(uart->ctx, uart->gsi, uart->index, level);
}

/* ---- Modem status (data sheet, 8.7) ---- */

/* In loopback the outputs DTR, RTS, OUT1, OUT2 are the inputs DSR, CTS, RI, DCD. */
static uint8_t modem_inputs(const struct uart *uart)
{
	uint8_t mcr = uart->state.mcr, inputs = 0;

	if (!uart_loopback(uart))
		return UART_MSR_CTS | UART_MSR_DSR | (char_connected(uart->chr) ? UART_MSR_DCD : 0);
	if (mcr & UART_MCR_DTR)
		inputs |= UART_MSR_DSR;
	if (mcr & UART_MCR_RTS)
		inputs |= UART_MSR_CTS;
	if (mcr & UART_MCR_OUT1)
		inputs |= UART_MSR_RI;
	if (mcr & UART_MCR_OUT2)
		inputs |= UART_MSR_DCD;
	return inputs;
}

static void uart_update_modem(struct uart *uart)
{
	uint8_t old = uart->state.msr, inputs = modem_inputs(uart);
	uint8_t deltas = (uint8_t)((old ^ inputs) >> 4);

	/* of the ring indicator, only the end counts */
	if (inputs & UART_MSR_RI)
		deltas &= (uint8_t)~UART_MSR_TERI;
	uart->state.msr = inputs | (old & UART_MSR_DELTAS) | deltas;
}

/* ---- Receiving ---- */

static size_t uart_receive(void *arg, const uint8_t *data, size_t len)
{
	struct uart *uart = arg;
	struct uart_fifo *fifo = &uart->state.receive;
	size_t taken = 0;

	while (taken < len && !uart_loopback(uart) && fifo->count < uart_depth(uart))
		fifo_push(fifo, data[taken++]);
	uart->input_refused = taken < len;
	uart_update_irq(uart);
	return taken;
}

/* A FIFO full at a time: the back end is asked again when the last byte of the one before is read. */
static void uart_accept_input(struct uart *uart)
{
	if (uart->input_refused && !uart->state.receive.count && !uart_loopback(uart))
		char_accept_input(uart->chr);
}

/* ---- Transmitting ---- */

static void transmitter_emptied(struct uart *uart)
{
	uart->state.transmit.count = 0;
	uart->state.thre_pending = true;
}

/* Hand over what the back end takes; it calls uart_writable() when it takes the rest. */
static void uart_transmit(struct uart *uart)
{
	struct uart_fifo *fifo = &uart->state.transmit;

	while (fifo->count) {
		uint8_t byte = fifo->bytes[fifo->head];

		if (!char_write(uart->chr, &byte, 1))
			return;
		fifo_pop(fifo);
	}
	transmitter_emptied(uart);
}

static void uart_writable(void *arg)
{
	struct uart *uart = arg;

	if (!uart->state.transmit.count)
		return;
	uart_transmit(uart);
	uart_update_irq(uart);
}

/* In loopback what is sent is received (data sheet, 8.6); a full FIFO keeps what it has. */
static void uart_loop_back(struct uart *uart, uint8_t byte)
{
	if (uart->state.receive.count < uart_depth(uart))
		fifo_push(&uart->state.receive, byte);
	else
		uart->state.lsr_errors |= UART_LSR_OE;
	uart->state.thre_pending = true;
}

static void uart_send(struct uart *uart, uint8_t byte)
{
	struct uart_fifo *fifo = &uart->state.transmit;

	uart->state.thre_pending = false;
	if (uart_loopback(uart)) {
		uart_loop_back(uart, byte);
		return;
	}
	if (fifo->count >= uart_depth(uart))
		return; /* the guest did not wait for THRE: the byte is lost */
	fifo_push(fifo, byte);
	if (fifo->count == 1)
		uart_transmit(uart);
}

/* ---- Registers (data sheet, table II) ---- */

static bool uart_dlab(const struct uart *uart)
{
	return uart->state.lcr & UART_LCR_DLAB;
}

static uint32_t data_read(void *arg)
{
	struct uart *uart = arg;
	uint8_t byte;

	if (uart_dlab(uart))
		return uart->state.divisor & 0xff;
	if (!uart->state.receive.count)
		return 0;
	byte = fifo_pop(&uart->state.receive);
	uart_accept_input(uart);
	return byte;
}

static void data_write(void *arg, uint32_t value, uint32_t mask)
{
	struct uart *uart = arg;

	if (uart_dlab(uart))
		uart->state.divisor = (uint16_t)((uart->state.divisor & 0xff00) | value);
	else
		uart_send(uart, (uint8_t)value);
}

static uint32_t ier_read(void *arg)
{
	struct uart *uart = arg;

	return uart_dlab(uart) ? uart->state.divisor >> 8 : uart->state.ier;
}

/*
 * Enabling the transmitter's interrupt while it is empty raises it, which is how drivers start to
 * send. Only the change does: writing the same again must not, or a driver that does so in its
 * interrupt handler never leaves it.
 */
static void ier_write(void *arg, uint32_t value, uint32_t mask)
{
	struct uart *uart = arg;
	struct uart_state *state = &uart->state;

	if (uart_dlab(uart)) {
		state->divisor = (uint16_t)((state->divisor & 0xff) | value << 8);
		return;
	}
	if (value & ~(uint32_t)state->ier & UART_IER_THRI && !state->transmit.count)
		state->thre_pending = true;
	state->ier = value & UART_IER_BITS;
}

/* Reading it takes the transmitter's interrupt back if it is the one reported. */
static uint32_t iir_read(void *arg)
{
	struct uart *uart = arg;
	uint8_t id = uart_interrupt_id(uart);

	if (id == UART_IIR_THRI)
		uart->state.thre_pending = false;
	return id | (uart_depth(uart) > 1 ? UART_IIR_FIFOS : 0);
}

/* Bit 0 must be set for the others to count, and changing it empties both FIFOs (data sheet, 8.5). */
static void fcr_write(void *arg, uint32_t value, uint32_t mask)
{
	struct uart *uart = arg;
	struct uart_state *state = &uart->state;
	bool changed = (value ^ state->fcr) & UART_FCR_ENABLE_FIFO;

	if (changed || value & UART_FCR_CLEAR_RCVR)
		state->receive.count = 0;
	if ((changed || value & UART_FCR_CLEAR_XMIT) && state->transmit.count)
		transmitter_emptied(uart);
	state->fcr = value & UART_FCR_ENABLE_FIFO
			     ? value & (UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_MASK)
			     : 0;
	uart_accept_input(uart);
}

static uint32_t lcr_read(void *arg)
{
	return ((struct uart *)arg)->state.lcr;
}

static void lcr_write(void *arg, uint32_t value, uint32_t mask)
{
	((struct uart *)arg)->state.lcr = (uint8_t)value;
}

static uint32_t mcr_read(void *arg)
{
	return ((struct uart *)arg)->state.mcr;
}

static void mcr_write(void *arg, uint32_t value, uint32_t mask)
{
	struct uart *uart = arg;

	uart->state.mcr = value & UART_MCR_BITS;
	uart_update_modem(uart);
	uart_accept_input(uart);
}

static uint32_t lsr_read(void *arg)
{
	struct uart *uart = arg;
	uint8_t lsr = uart->state.lsr_errors;

	uart->state.lsr_errors = 0;
	if (uart->state.receive.count)
		lsr |= UART_LSR_DR;
	if (!uart->state.transmit.count)
		lsr |= UART_LSR_THRE | UART_LSR_TEMT;
	return lsr;
}

static uint32_t msr_read(void *arg)
{
	struct uart *uart = arg;
	uint8_t msr = uart->state.msr;

	uart->state.msr &= (uint8_t)~UART_MSR_DELTAS;
	return msr;
}

static uint32_t scr_read(void *arg)
{
	return ((struct uart *)arg)->state.scr;
}

static void scr_write(void *arg, uint32_t value, uint32_t mask)
{
	((struct uart *)arg)->state.scr = (uint8_t)value;
}

static const struct platform_register uart_registers[] = {
	{ UART_RX, 1, data_read, data_write }, { UART_IER, 1, ier_read, ier_write },
	{ UART_IIR, 1, iir_read, fcr_write },  { UART_LCR, 1, lcr_read, lcr_write },
	{ UART_MCR, 1, mcr_read, mcr_write },  { UART_LSR, 1, lsr_read, NULL },
	{ UART_MSR, 1, msr_read, NULL },       { UART_SCR, 1, scr_read, scr_write },
};

static uint64_t uart_read(void *arg, uint64_t offset, unsigned int size)
{
	struct uart *uart = arg;
	uint64_t value;

	pthread_mutex_lock(&uart->lock);
	value = platform_registers_read(uart_registers, ARRAY_SIZE(uart_registers), uart, offset,
					size);
	uart_update_irq(uart);
	pthread_mutex_unlock(&uart->lock);
	return value;
}

static void uart_write(void *arg, uint64_t offset, unsigned int size, uint64_t value)
{
	struct uart *uart = arg;

	pthread_mutex_lock(&uart->lock);
	platform_registers_write(uart_registers, ARRAY_SIZE(uart_registers), uart, offset, size,
				 value);
	uart_update_irq(uart);
	pthread_mutex_unlock(&uart->lock);
}

static const struct io_range_ops uart_io_ops = { .read = uart_read, .write = uart_write };

/* ---- Life ---- */

static void uart_connected(void *arg, bool connected)
{
	struct uart *uart = arg;

	uart_update_modem(uart);
	uart_update_irq(uart);
}

static const struct char_backend_ops uart_char_ops = {
	.receive = uart_receive,
	.writable = uart_writable,
	.connected = uart_connected,
};

static void uart_set_defaults(struct uart *uart)
{
	uart->state = (struct uart_state) { .divisor = UART_DIVISOR_RESET };
	uart->state.msr = modem_inputs(uart);
}

static int uart_open(struct uart *uart, const char *backend)
{
	struct vmctx *ctx = uart->ctx;
	int error;

	pthread_mutex_lock(&uart->lock);
	uart->chr = char_open(ctx->log, uart->name, backend, ctx->main_loop, &uart->lock,
			      &uart_char_ops, uart);
	error = uart->chr ? 0 : -errno;
	if (!error)
		uart_set_defaults(uart);
	pthread_mutex_unlock(&uart->lock);
	if (error)
		return error;
	error = io_space_add(&ctx->pio, &uart->range);
	if (error)
		log_error(ctx->log, "%s: cannot claim its ports: %s", uart->name, strerror(-error));
	return error;
}

struct uart *uart_create(struct vmctx *ctx, unsigned int index, const char *backend)
{
	struct uart *uart = calloc(1, sizeof(*uart));
	int error;

	if (!uart) {
		log_error(ctx->log, "com%u: out of memory", index + 1);
		return NULL;
	}
	uart->ctx = ctx;
	uart->index = index;
	uart->gsi = platform_uart_places[index].gsi;
	snprintf(uart->name, sizeof(uart->name), "com%u", (index + 1) % 10);
	pthread_mutex_init(&uart->lock, NULL);
	uart->range = (struct io_range) {
		.name = uart->name,
		.base = platform_uart_places[index].port,
		.size = platform_uart_places[index].ports,
		.ops = &uart_io_ops,
		.arg = uart,
	};
	error = uart_open(uart, backend);
	if (!error)
		return uart;
	uart_destroy(uart);
	errno = -error;
	return NULL;
}

void uart_destroy(struct uart *uart)
{
	if (!uart)
		return;
	io_space_remove(&uart->ctx->pio, &uart->range);
	pthread_mutex_lock(&uart->lock);
	char_close(uart->chr);
	if (uart->irq_level)
		platform_irq(uart->ctx, uart->gsi, uart->index, false);
	pthread_mutex_unlock(&uart->lock);
	pthread_mutex_destroy(&uart->lock);
	free(uart);
}

void uart_reset(struct uart *uart)
{
	if (!uart)
		return;
	pthread_mutex_lock(&uart->lock);
	uart_set_defaults(uart);
	uart_accept_input(uart);
	uart_update_irq(uart);
	pthread_mutex_unlock(&uart->lock);
}
