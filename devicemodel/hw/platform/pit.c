/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The programmable interval timer: an 8254 at ports 0x40 to 0x43, and port 0x61, which has the gate
 * and the output of its channel 2. For hypervisors that have none themselves.
 *
 * Counts are worked out from the VM's clock whenever the guest looks. Only channel 0 interrupts; a
 * timer runs only while its output will rise, and for each rise the line goes down and up, since
 * ISA interrupt 0 is edge-triggered: the falls in between make no difference.
 *
 * Lost ticks: the due times are the counter's, so being late does not add up. Ticks that this
 * process comes too late for are made up for at twice the rate, up to a second's worth, so that a
 * guest that counts them keeps the time; the rest are dropped. What the guest does not take before
 * the next one is lost, as on a PC. However short its periods, there are at most 10,000 ticks a
 * second.
 */
#include "platform.h"

#include <errno.h>
#include <stdlib.h>

#include "pit_counter.h"

#define PIT_HZ 1193182
#define PIT_PORT 0x40
#define PIT_PORTS 4
#define PIT_COUNTERS 3
#define PIT_IRQ 0

/* Control port (Intel 8254 data sheet, figures 7 and 11) */
#define CONTROL_SELECT_SHIFT 6
#define CONTROL_READ_BACK 3 /* as the counter */
#define READ_BACK_NO_COUNT 0x20
#define READ_BACK_NO_STATUS 0x10
#define READ_BACK_COUNTER_SHIFT 1

#define NMI_STATUS_PORT 0x61
#define NMI_STATUS_GATE 0x01
#define NMI_STATUS_WRITABLE 0x0f /* besides the gate: speaker, and masks of what does not happen */
#define NMI_STATUS_REFRESH 0x10
#define NMI_STATUS_OUTPUT 0x20
#define REFRESH_CLOCKS 18 /* a memory refresh every 15.1 us toggles its bit */

#define NS_PER_SECOND UINT64_C(1000000000)
#define TICK_MIN_NS 100000
#define LATE_MAX PIT_HZ /* CLK pulses */

/** struct pit_state - what the guest can see. */
struct pit_state {
	struct pit_counter counters[PIT_COUNTERS];
	uint8_t nmi_status;
};

/**
 * struct pit
 * @rise: when channel 0's output rises next and has to interrupt; it may be past
 * @last_tick: vm_clock_ns() of the last interrupt
 */
struct pit {
	struct vmctx *ctx;
	pthread_mutex_t lock;
	struct pit_state state;
	int64_t rise;
	uint64_t last_tick;
	struct event_source *timer;
	struct io_range range, nmi_status_range;
};

/* ---- Time ---- */

static int64_t clocks_at(uint64_t ns)
{
	return (int64_t)((unsigned __int128)ns * PIT_HZ / NS_PER_SECOND);
}

/* When @clocks have passed. */
static uint64_t ns_at(int64_t clocks)
{
	return (uint64_t)(((unsigned __int128)clocks * NS_PER_SECOND + PIT_HZ - 1) / PIT_HZ);
}

static int64_t pit_now(const struct pit *pit)
{
	return clocks_at(vm_clock_ns(pit->ctx));
}

/* ---- Channel 0 interrupts ---- */

static void pit_arm(struct pit *pit)
{
	uint32_t period = pit_counter_period(&pit->state.counters[0]);
	uint64_t now = vm_clock_ns(pit->ctx), due, pause = TICK_MIN_NS;

	if (pit->rise == PIT_NEVER) {
		event_set_timer(pit->timer, 0, 0);
		return;
	}
	due = ns_at(pit->rise);
	if (due <= now) /* late */
		pause = MAX(pause, ns_at(period / 2));
	due = MAX(due, pit->last_tick + pause);
	event_set_timer(pit->timer, due > now + EVENT_SOON ? due - now : EVENT_SOON + 1, 0);
}

static void pit_tick(struct pit *pit)
{
	platform_irq(pit->ctx, PIT_IRQ, PLATFORM_IRQ_DEFAULT, false);
	platform_irq(pit->ctx, PIT_IRQ, PLATFORM_IRQ_DEFAULT, true);
	pit->last_tick = vm_clock_ns(pit->ctx);
}

static void on_pit_timer(void *arg, uint32_t expirations)
{
	struct pit *pit = arg;
	struct pit_counter *counter = &pit->state.counters[0];
	int64_t now = pit_now(pit);

	if (pit->rise <= now) {
		pit_tick(pit);
		pit->rise = pit_counter_rise(counter, MAX(pit->rise, now - LATE_MAX), now);
	}
	pit_arm(pit);
}

/* The guest wrote to channel 0. */
static void pit_restart(struct pit *pit, int64_t now)
{
	struct pit_counter *counter = &pit->state.counters[0];

	platform_irq(pit->ctx, PIT_IRQ, PLATFORM_IRQ_DEFAULT, pit_counter_output(counter, now));
	pit->rise = pit_counter_rise(counter, now, now);
	pit_arm(pit);
}

/* ---- Ports ---- */

static uint32_t counter_read(struct pit *pit, unsigned int channel)
{
	return pit_counter_read(&pit->state.counters[channel], pit_now(pit));
}

static void counter_write(struct pit *pit, unsigned int channel, uint32_t value)
{
	int64_t now = pit_now(pit);

	pit_counter_write(&pit->state.counters[channel], (uint8_t)value, now);
	if (channel == 0)
		pit_restart(pit, now);
}

static uint32_t counter0_read(void *arg)
{
	return counter_read(arg, 0);
}

static uint32_t counter1_read(void *arg)
{
	return counter_read(arg, 1);
}

static uint32_t counter2_read(void *arg)
{
	return counter_read(arg, 2);
}

static void counter0_write(void *arg, uint32_t value, uint32_t mask)
{
	counter_write(arg, 0, value);
}

static void counter1_write(void *arg, uint32_t value, uint32_t mask)
{
	counter_write(arg, 1, value);
}

static void counter2_write(void *arg, uint32_t value, uint32_t mask)
{
	counter_write(arg, 2, value);
}

static void read_back(struct pit *pit, uint32_t value, int64_t now)
{
	for (unsigned int i = 0; i < PIT_COUNTERS; i++) {
		struct pit_counter *counter = &pit->state.counters[i];

		if (!(value & BIT32(READ_BACK_COUNTER_SHIFT + i)))
			continue;
		if (!(value & READ_BACK_NO_COUNT))
			pit_counter_latch_count(counter, now);
		if (!(value & READ_BACK_NO_STATUS))
			pit_counter_latch_status(counter, now);
	}
}

static uint32_t control_read(void *arg)
{
	return 0xff; /* write-only */
}

static void control_write(void *arg, uint32_t value, uint32_t mask)
{
	struct pit *pit = arg;
	int64_t now = pit_now(pit);
	unsigned int channel = value >> CONTROL_SELECT_SHIFT & 3;

	if (channel == CONTROL_READ_BACK) {
		read_back(pit, value, now);
		return;
	}
	if (!(value & PIT_CONTROL_ACCESS)) {
		pit_counter_latch_count(&pit->state.counters[channel], now);
		return;
	}
	pit_counter_control(&pit->state.counters[channel], (uint8_t)value, now);
	if (channel == 0)
		pit_restart(pit, now);
}

static const struct platform_register pit_registers[] = {
	{ 0, 1, counter0_read, counter0_write },
	{ 1, 1, counter1_read, counter1_write },
	{ 2, 1, counter2_read, counter2_write },
	{ 3, 1, control_read, control_write },
};

static uint64_t pit_read(void *arg, uint64_t offset, unsigned int size)
{
	struct pit *pit = arg;
	uint64_t value;

	pthread_mutex_lock(&pit->lock);
	value = platform_registers_read(pit_registers, ARRAY_SIZE(pit_registers), pit, offset,
					size);
	pthread_mutex_unlock(&pit->lock);
	return value;
}

static void pit_write(void *arg, uint64_t offset, unsigned int size, uint64_t value)
{
	struct pit *pit = arg;

	pthread_mutex_lock(&pit->lock);
	platform_registers_write(pit_registers, ARRAY_SIZE(pit_registers), pit, offset, size,
				 value);
	pthread_mutex_unlock(&pit->lock);
}

static uint64_t nmi_status_read(void *arg, uint64_t offset, unsigned int size)
{
	struct pit *pit = arg;
	uint64_t value;
	int64_t now;

	pthread_mutex_lock(&pit->lock);
	now = pit_now(pit);
	value = pit->state.nmi_status;
	if (now / REFRESH_CLOCKS & 1)
		value |= NMI_STATUS_REFRESH;
	if (pit_counter_output(&pit->state.counters[2], now))
		value |= NMI_STATUS_OUTPUT;
	pthread_mutex_unlock(&pit->lock);
	return value;
}

static void nmi_status_write(void *arg, uint64_t offset, unsigned int size, uint64_t value)
{
	struct pit *pit = arg;

	pthread_mutex_lock(&pit->lock);
	pit->state.nmi_status = value & NMI_STATUS_WRITABLE;
	pit_counter_set_gate(&pit->state.counters[2], value & NMI_STATUS_GATE, pit_now(pit));
	pthread_mutex_unlock(&pit->lock);
}

static const struct io_range_ops pit_io_ops = { .read = pit_read, .write = pit_write };
static const struct io_range_ops nmi_status_io_ops = {
	.read = nmi_status_read,
	.write = nmi_status_write,
};

/* ---- Life ---- */

/* Firmware would leave channel 0 ticking, which no kernel wants before it has programmed it. */
static void pit_set_defaults(struct pit *pit)
{
	for (unsigned int i = 0; i < PIT_COUNTERS; i++)
		pit_counter_reset(&pit->state.counters[i], i != 2);
	pit->state.nmi_status = 0;
	pit_restart(pit, pit_now(pit));
}

static int pit_start(struct pit *pit)
{
	struct vmctx *ctx = pit->ctx;
	int error;

	pit->timer = event_add_timer(ctx->main_loop, &pit->lock, on_pit_timer, pit);
	if (!pit->timer)
		return -errno;
	pit_set_defaults(pit);
	error = io_space_add(&ctx->pio, &pit->range);
	if (!error)
		error = io_space_add(&ctx->pio, &pit->nmi_status_range);
	return error;
}

struct pit *pit_create(struct vmctx *ctx)
{
	struct pit *pit = calloc(1, sizeof(*pit));
	int error;

	if (!pit) {
		log_error(ctx->log, "%s: out of memory", ctx->config.name);
		return NULL;
	}
	pit->ctx = ctx;
	pthread_mutex_init(&pit->lock, NULL);
	pit->range = (struct io_range) {
		.name = "PIT",
		.base = PIT_PORT,
		.size = PIT_PORTS,
		.ops = &pit_io_ops,
		.arg = pit,
	};
	pit->nmi_status_range = (struct io_range) {
		.name = "NMI status",
		.base = NMI_STATUS_PORT,
		.size = 1,
		.ops = &nmi_status_io_ops,
		.arg = pit,
	};
	error = pit_start(pit);
	if (!error)
		return pit;
	log_error(ctx->log, "%s: cannot create the PIT: %s", ctx->config.name, strerror(-error));
	pit_destroy(pit);
	errno = -error;
	return NULL;
}

void pit_destroy(struct pit *pit)
{
	if (!pit)
		return;
	io_space_remove(&pit->ctx->pio, &pit->nmi_status_range);
	io_space_remove(&pit->ctx->pio, &pit->range);
	pthread_mutex_lock(&pit->lock);
	event_remove(pit->timer);
	pthread_mutex_unlock(&pit->lock);
	pthread_mutex_destroy(&pit->lock);
	free(pit);
}

void pit_reset(struct pit *pit)
{
	if (!pit)
		return;
	pthread_mutex_lock(&pit->lock);
	pit_set_defaults(pit);
	pthread_mutex_unlock(&pit->lock);
}
