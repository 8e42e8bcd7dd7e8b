/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The high precision event timer ("the specification": IA-PC HPET 1.0a): one block, a 64-bit
 * counter of 10 MHz, three comparators. For hypervisors that have no timers outside the CPUs.
 *
 * Nothing counts: the main counter is the VM's clock less an offset, a timer runs while a
 * comparator's match will interrupt. Ticks of periodic comparators that come too late are made up
 * for as the PIT's are (pit.c), and a comparator gives at most 10,000 interrupts a second.
 */
#include "platform.h"

#include <errno.h>
#include <stdlib.h>

#define HPET_TIMERS 3
#define HPET_NEVER UINT64_MAX
#define NS_PER_CLOCK 100

/* The specification, 2.3 */
#define REG_CAPABILITIES 0x00
#define REG_CONFIG 0x10
#define REG_STATUS 0x20
#define REG_COUNTER 0xf0
#define REG_TIMERS 0x100
#define REG_TIMER_SIZE 0x20
#define REG_TIMER_CONFIG 0x00
#define REG_TIMER_COMPARATOR 0x08

#define CONFIG_ENABLE 0x1
#define CONFIG_LEGACY 0x2

#define TIMER_LEVEL 0x0002
#define TIMER_INTERRUPT 0x0004
#define TIMER_PERIODIC 0x0008
#define TIMER_SET_VALUE 0x0040
#define TIMER_32BIT 0x0100
#define TIMER_ROUTE_SHIFT 9
#define TIMER_ROUTE 0x3e00
#define TIMER_WRITABLE (TIMER_LEVEL | TIMER_INTERRUPT | TIMER_PERIODIC | TIMER_32BIT | TIMER_ROUTE)
#define TIMER_PERIODIC_CAPABLE 0x0010
#define TIMER_64BIT_CAPABLE 0x0020
#define TIMER_ROUTES UINT64_C(0x00ff0000) /* the IOAPIC's inputs above the ISA interrupts */
#define TIMER_ROUTES_SHIFT 32

#define LEGACY_TIMER_GSI 0
#define LEGACY_RTC_GSI 8

#define INTERRUPT_MIN_NS (HPET_MINIMUM_TICK * NS_PER_CLOCK)
#define LATE_MAX 10000000 /* clocks: a second */

static const uint8_t legacy_gsi[] = { LEGACY_TIMER_GSI, LEGACY_RTC_GSI };

/**
 * struct hpet_timer_state - what the guest can see of a comparator.
 * @comparator: as of @match, in clocks of the VM, when the main counter will be at it (HPET_NEVER)
 * @next: the next match that was not interrupted for; before @match if interrupts are late
 */
struct hpet_timer_state {
	uint64_t config;
	uint64_t comparator;
	uint64_t period;
	uint64_t match;
	uint64_t next;
};

/** struct hpet_state - @counter: while halted; else what the clock is ahead of it: counter_now() */
struct hpet_state {
	uint64_t config;
	uint64_t status;
	uint64_t counter;
	struct hpet_timer_state timers[HPET_TIMERS];
};

/** struct hpet_timer - @gsi: the line that it drives, if @level */
struct hpet_timer {
	struct hpet *hpet;
	unsigned int index;
	unsigned int gsi;
	bool level;
	uint64_t last_interrupt;
	struct event_source *source;
};

struct hpet {
	struct vmctx *ctx;
	pthread_mutex_t lock;
	struct hpet_state state;
	struct hpet_timer timers[HPET_TIMERS];
	struct io_range range;
};

/* ---- The counter */

static uint64_t clock_now(const struct hpet *hpet)
{
	return vm_clock_ns(hpet->ctx) / NS_PER_CLOCK;
}

static bool is_enabled(const struct hpet *hpet)
{
	return hpet->state.config & CONFIG_ENABLE;
}

static uint64_t counter_now(const struct hpet *hpet, uint64_t now)
{
	return is_enabled(hpet) ? now - hpet->state.counter : hpet->state.counter;
}

static uint64_t saturating_add(uint64_t a, uint64_t b)
{
	return a > HPET_NEVER - b ? HPET_NEVER : a + b;
}

static uint64_t width_mask(const struct hpet_timer_state *timer)
{
	return timer->config & TIMER_32BIT ? UINT32_MAX : UINT64_MAX;
}

/* Clocks from one match to the next; HPET_NEVER: none. */
static uint64_t interval_of(const struct hpet_timer_state *timer)
{
	uint64_t period = timer->period & width_mask(timer);

	if (timer->config & TIMER_PERIODIC && period)
		return period;
	return timer->config & TIMER_32BIT ? BIT64(32) : HPET_NEVER; /* when the counter wraps */
}

/* Matches up to @now are past: go on to the next one. */
static void timer_update(struct hpet_timer_state *timer, uint64_t now)
{
	uint64_t interval = interval_of(timer), passed;

	if (timer->match == HPET_NEVER || timer->match > now)
		return;
	passed = (now - timer->match) / interval * interval; /* whole ones */
	if (timer->config & TIMER_PERIODIC && timer->period)
		timer->comparator = (timer->comparator + passed + interval) & width_mask(timer);
	timer->match = saturating_add(timer->match + passed, interval);
}

/* The counter, the comparator or what is compared has changed. */
static void timer_restart(struct hpet *hpet, struct hpet_timer_state *timer, uint64_t now)
{
	uint64_t left = (timer->comparator - counter_now(hpet, now)) & width_mask(timer);

	timer->match = is_enabled(hpet) ? saturating_add(now, left) : HPET_NEVER;
	timer->next = timer->match;
}

/* ---- Interrupts */

/* The line of @timer, or a negative number if it has none. */
static int timer_gsi(const struct hpet *hpet, unsigned int index)
{
	unsigned int route = (hpet->state.timers[index].config & TIMER_ROUTE) >> TIMER_ROUTE_SHIFT;
	uint64_t legacy = CONFIG_ENABLE | CONFIG_LEGACY;

	if ((hpet->state.config & legacy) == legacy && index < ARRAY_SIZE(legacy_gsi))
		return legacy_gsi[index];
	return TIMER_ROUTES & BIT64(route) ? (int)route : -1;
}

static void timer_drive(struct hpet *hpet, unsigned int index, int gsi, bool level)
{
	struct hpet_timer *timer = &hpet->timers[index];

	level = level && gsi >= 0;
	if (timer->level && (!level || timer->gsi != (unsigned int)gsi))
		platform_irq(hpet->ctx, timer->gsi, PLATFORM_IRQ_HPET + index, false);
	if (level)
		platform_irq(hpet->ctx, (unsigned int)gsi, PLATFORM_IRQ_HPET + index, true);
	timer->level = level;
	timer->gsi = level ? (unsigned int)gsi : 0;
}

static void timer_update_level(struct hpet *hpet, unsigned int index)
{
	uint64_t wanted = TIMER_INTERRUPT | TIMER_LEVEL;
	bool level = (hpet->state.timers[index].config & wanted) == wanted &&
		     hpet->state.status & BIT64(index);

	timer_drive(hpet, index, timer_gsi(hpet, index), level);
}

/* The specification, 2.3.6: in edge mode the status bit stays 0. */
static void timer_interrupt(struct hpet *hpet, unsigned int index)
{
	int gsi = timer_gsi(hpet, index);

	if (hpet->state.timers[index].config & TIMER_LEVEL) {
		hpet->state.status |= BIT64(index);
		timer_update_level(hpet, index);
		return;
	}
	timer_drive(hpet, index, gsi, true);
	timer_drive(hpet, index, gsi, false);
}

/* One that waits for an acknowledgement cannot interrupt once more. */
static bool can_interrupt(const struct hpet *hpet, unsigned int index)
{
	uint64_t config = hpet->state.timers[index].config;

	if (config & TIMER_LEVEL) /* the status bit does not depend on TIMER_INTERRUPT */
		return !(hpet->state.status & BIT64(index));
	return config & TIMER_INTERRUPT;
}

static void timer_arm(struct hpet *hpet, unsigned int index)
{
	const struct hpet_timer_state *state = &hpet->state.timers[index];
	struct hpet_timer *timer = &hpet->timers[index];
	uint64_t now = vm_clock_ns(hpet->ctx), due, pause = INTERRUPT_MIN_NS;

	if (state->next >= INT64_MAX / NS_PER_CLOCK || !can_interrupt(hpet, index)) {
		event_set_timer(timer->source, 0, 0);
		return;
	}
	due = state->next * NS_PER_CLOCK;
	if (due <= now && state->config & TIMER_PERIODIC)
		pause = MAX(pause, MIN(interval_of(state), LATE_MAX) * NS_PER_CLOCK / 2);
	due = MAX(due, timer->last_interrupt + pause);
	event_set_timer(timer->source, due > now + EVENT_SOON ? due - now : EVENT_SOON + 1, 0);
}

/* Forget what is late by more than a second. */
static void timer_catch_up(struct hpet_timer_state *timer, uint64_t now)
{
	uint64_t interval = interval_of(timer);

	if (!(timer->config & TIMER_PERIODIC) || interval > LATE_MAX) {
		timer->next = timer->match;
		return;
	}
	timer->next += interval;
	if (timer->next + LATE_MAX < now)
		timer->next += (now - LATE_MAX - timer->next) / interval * interval;
	timer->next = MIN(timer->next, timer->match);
}

static void on_hpet_timer(void *arg, uint32_t expirations)
{
	struct hpet_timer *timer = arg;
	struct hpet *hpet = timer->hpet;
	struct hpet_timer_state *state = &hpet->state.timers[timer->index];
	uint64_t now = clock_now(hpet);

	timer_update(state, now);
	if (state->next <= now && can_interrupt(hpet, timer->index)) {
		timer_interrupt(hpet, timer->index);
		timer->last_interrupt = vm_clock_ns(hpet->ctx);
		timer_catch_up(state, now);
	}
	timer_arm(hpet, timer->index);
}

/* ---- Registers: 64 bits each; @mask has the bits that are written */

static uint64_t merge(uint64_t old, uint64_t value, uint64_t mask)
{
	return (old & ~mask) | (value & mask);
}

/* The PIT and the RTC have no interrupts while the HPET has theirs (the specification, 2.3.5). */
static void legacy_update(struct hpet *hpet)
{
	uint64_t legacy = CONFIG_ENABLE | CONFIG_LEGACY;
	bool on = (hpet->state.config & legacy) == legacy;

	platform_irq_block(hpet->ctx, LEGACY_TIMER_GSI, PLATFORM_IRQ_DEFAULT, on);
	platform_irq_block(hpet->ctx, LEGACY_RTC_GSI, PLATFORM_IRQ_DEFAULT, on);
}

static void config_write(struct hpet *hpet, uint64_t value, uint64_t mask, uint64_t now)
{
	struct hpet_state *state = &hpet->state;
	uint64_t before = state->config, counter = counter_now(hpet, now);

	state->config = merge(before, value, mask) & (CONFIG_ENABLE | CONFIG_LEGACY);
	if ((before ^ state->config) & CONFIG_ENABLE)
		state->counter = is_enabled(hpet) ? now - counter : counter;
	legacy_update(hpet);
	for (unsigned int i = 0; i < HPET_TIMERS; i++) {
		if ((before ^ state->config) & CONFIG_ENABLE)
			timer_restart(hpet, &state->timers[i], now);
		timer_update_level(hpet, i);
		timer_arm(hpet, i);
	}
}

/* A match that came while this one was not acknowledged is lost. */
static void status_write(struct hpet *hpet, uint64_t value, uint64_t mask)
{
	uint64_t cleared = hpet->state.status & value & mask;

	hpet->state.status &= ~cleared;
	for (unsigned int i = 0; i < HPET_TIMERS; i++) {
		if (!(cleared & BIT64(i)))
			continue;
		hpet->state.timers[i].next = hpet->state.timers[i].match;
		timer_update_level(hpet, i);
		timer_arm(hpet, i);
	}
}

/* Only while halted (the specification, 2.3.7). */
static void counter_write(struct hpet *hpet, uint64_t value, uint64_t mask)
{
	if (!is_enabled(hpet))
		hpet->state.counter = merge(hpet->state.counter, value, mask);
}

static void timer_config_write(struct hpet *hpet, unsigned int index, uint64_t value, uint64_t mask,
			       uint64_t now)
{
	struct hpet_timer_state *timer = &hpet->state.timers[index];
	uint64_t before = timer->config;
	uint64_t config = merge(before, value, mask) & (TIMER_WRITABLE | TIMER_SET_VALUE);

	if (!(TIMER_ROUTES & BIT64((config & TIMER_ROUTE) >> TIMER_ROUTE_SHIFT)))
		config = (config & ~(uint64_t)TIMER_ROUTE) | (before & TIMER_ROUTE);
	timer->config = config;
	if (!(config & TIMER_LEVEL))
		hpet->state.status &= ~BIT64(index);
	timer->comparator &= width_mask(timer);
	if ((before ^ config) & (TIMER_32BIT | TIMER_PERIODIC))
		timer_restart(hpet, timer, now);
	else if ((before ^ config) & (TIMER_LEVEL | TIMER_INTERRUPT))
		timer->next = timer->match; /* not for what is past */
	timer_update_level(hpet, index);
	timer_arm(hpet, index);
}

/* The specification, 2.3.9.1: in periodic mode the period; the comparator if SET_VALUE said so. */
static void comparator_write(struct hpet *hpet, unsigned int index, uint64_t value, uint64_t mask,
			     uint64_t now)
{
	struct hpet_timer_state *timer = &hpet->state.timers[index];
	bool periodic = timer->config & TIMER_PERIODIC;

	if (periodic)
		timer->period = merge(timer->period, value, mask) & width_mask(timer);
	timer->next = timer->match; /* what is late was of the old period */
	if (!periodic || timer->config & TIMER_SET_VALUE) {
		timer->comparator = merge(timer->comparator, value, mask) & width_mask(timer);
		timer_restart(hpet, timer, now);
	}
	timer->config &= ~(uint64_t)TIMER_SET_VALUE;
	timer_arm(hpet, index);
}

static uint64_t timer_register_read(const struct hpet_timer_state *timer, unsigned int reg)
{
	switch (reg) {
	case REG_TIMER_CONFIG:
		return (timer->config & TIMER_WRITABLE) | TIMER_PERIODIC_CAPABLE |
		       TIMER_64BIT_CAPABLE | TIMER_ROUTES << TIMER_ROUTES_SHIFT;
	case REG_TIMER_COMPARATOR:
		return timer->comparator;
	default: /* no messages */
		return 0;
	}
}

static uint64_t register_read(struct hpet *hpet, unsigned int reg)
{
	uint64_t now = clock_now(hpet);
	unsigned int index;

	switch (reg) {
	case REG_CAPABILITIES:
		return (uint64_t)HPET_CLOCK_FS << 32 | HPET_ID;
	case REG_CONFIG:
		return hpet->state.config;
	case REG_STATUS:
		return hpet->state.status;
	case REG_COUNTER:
		return counter_now(hpet, now);
	default:
		index = (reg - REG_TIMERS) / REG_TIMER_SIZE;
		if (reg < REG_TIMERS || index >= HPET_TIMERS)
			return 0;
		timer_update(&hpet->state.timers[index], now);
		return timer_register_read(&hpet->state.timers[index], reg % REG_TIMER_SIZE);
	}
}

static void register_write(struct hpet *hpet, unsigned int reg, uint64_t value, uint64_t mask)
{
	unsigned int index = (reg - REG_TIMERS) / REG_TIMER_SIZE;
	uint64_t now = clock_now(hpet);

	for (unsigned int i = 0; i < HPET_TIMERS; i++)
		timer_update(&hpet->state.timers[i], now);
	if (reg == REG_CONFIG)
		config_write(hpet, value, mask, now);
	else if (reg == REG_STATUS)
		status_write(hpet, value, mask);
	else if (reg == REG_COUNTER)
		counter_write(hpet, value, mask);
	else if (reg < REG_TIMERS || index >= HPET_TIMERS)
		return;
	else if (reg % REG_TIMER_SIZE == REG_TIMER_CONFIG)
		timer_config_write(hpet, index, value, mask, now);
	else if (reg % REG_TIMER_SIZE == REG_TIMER_COMPARATOR)
		comparator_write(hpet, index, value, mask, now);
}

/*
 * The specification knows accesses of 32 and 64 bits; others are done as far as they lie in one
 * register.
 */
static uint64_t hpet_read(void *arg, uint64_t offset, unsigned int size)
{
	struct hpet *hpet = arg;
	uint64_t value;

	pthread_mutex_lock(&hpet->lock);
	value = register_read(hpet, offset & ~7U) >> 8 * (offset & 7);
	pthread_mutex_unlock(&hpet->lock);
	return size < 8 ? value & (BIT64(8 * size) - 1) : value;
}

static void hpet_write(void *arg, uint64_t offset, unsigned int size, uint64_t value)
{
	uint64_t mask = size < 8 ? BIT64(8 * size) - 1 : UINT64_MAX;
	unsigned int shift = 8 * (offset & 7);
	struct hpet *hpet = arg;

	pthread_mutex_lock(&hpet->lock);
	register_write(hpet, offset & ~7U, value << shift, mask << shift);
	pthread_mutex_unlock(&hpet->lock);
}

static const struct io_range_ops hpet_io_ops = { .read = hpet_read, .write = hpet_write };

/* ---- Life */

static void hpet_set_defaults(struct hpet *hpet)
{
	hpet->state = (struct hpet_state) { 0 };
	for (unsigned int i = 0; i < HPET_TIMERS; i++) {
		struct hpet_timer_state *timer = &hpet->state.timers[i];

		timer->comparator = UINT64_MAX; /* the specification, 2.3.9.1 */
		timer->match = timer->next = HPET_NEVER;
		timer_update_level(hpet, i);
		timer_arm(hpet, i);
	}
	legacy_update(hpet);
}

static int hpet_start(struct hpet *hpet)
{
	struct vmctx *ctx = hpet->ctx;

	for (unsigned int i = 0; i < HPET_TIMERS; i++) {
		struct hpet_timer *timer = &hpet->timers[i];

		timer->hpet = hpet;
		timer->index = i;
		timer->source = event_add_timer(ctx->main_loop, &hpet->lock, on_hpet_timer, timer);
		if (!timer->source)
			return -errno;
	}
	hpet_set_defaults(hpet);
	return io_space_add(&ctx->mmio, &hpet->range);
}

struct hpet *hpet_create(struct vmctx *ctx)
{
	struct hpet *hpet = calloc(1, sizeof(*hpet));
	int error;

	if (!hpet) {
		log_error(ctx->log, "%s: out of memory", ctx->config.name);
		return NULL;
	}
	hpet->ctx = ctx;
	pthread_mutex_init(&hpet->lock, NULL);
	hpet->range = (struct io_range) {
		.name = "HPET",
		.base = HPET_BASE,
		.size = HPET_SIZE,
		.ops = &hpet_io_ops,
		.arg = hpet,
	};
	error = hpet_start(hpet);
	if (!error)
		return hpet;
	log_error(ctx->log, "%s: cannot create the HPET: %s", ctx->config.name, strerror(-error));
	hpet_destroy(hpet);
	errno = -error;
	return NULL;
}

void hpet_destroy(struct hpet *hpet)
{
	if (!hpet)
		return;
	io_space_remove(&hpet->ctx->mmio, &hpet->range);
	pthread_mutex_lock(&hpet->lock);
	for (unsigned int i = 0; i < HPET_TIMERS; i++)
		event_remove(hpet->timers[i].source);
	pthread_mutex_unlock(&hpet->lock);
	pthread_mutex_destroy(&hpet->lock);
	free(hpet);
}

void hpet_reset(struct hpet *hpet)
{
	if (!hpet)
		return;
	pthread_mutex_lock(&hpet->lock);
	hpet_set_defaults(hpet);
	pthread_mutex_unlock(&hpet->lock);
}
