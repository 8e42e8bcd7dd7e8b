/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ACPI fixed hardware (ACPI 6.5, 4.8): power button, soft off, power management timer; and the
 * reset register. Always in ACPI mode: there is no SMI command to leave it.
 */
#include "platform.h"

#include <errno.h>
#include <stdlib.h>

/* PM1 status and enable registers (ACPI 6.5, tables 4.11 and 4.12) */
#define PM1_TIMER 0x0001
#define PM1_GLOBAL 0x0020
#define PM1_POWER_BUTTON 0x0100
#define PM1_SLEEP_BUTTON 0x0200
#define PM1_RTC 0x0400
#define PM1_WAKE 0x8000 /* status only */
#define PM1_ENABLES (PM1_TIMER | PM1_GLOBAL | PM1_POWER_BUTTON | PM1_SLEEP_BUTTON | PM1_RTC)
#define PM1_WAKE_EVENTS (PM1_POWER_BUTTON | PM1_SLEEP_BUTTON | PM1_RTC)

/* PM1 control register (ACPI 6.5, table 4.13) */
#define PM1_SCI_EN 0x0001
#define PM1_BUS_MASTER_RELOAD 0x0002
#define PM1_SLEEP_TYPE_SHIFT 10
#define PM1_SLEEP_TYPE 0x1c00
#define PM1_SLEEP_ENABLE 0x2000

#define RESET_CPU                                                                                  \
	0x04 /* a write with it set resets; bits 1 and 3 say how thoroughly: always fully */
#define RESET_BITS 0x0e

#define PM_TIMER_HZ 3579545 /* ACPI 6.5, 4.8.3.3 */
#define PM_TIMER_HALF BIT64(PM_TIMER_BITS - 1)
#define PM_PORTS (PM_TIMER_PORT + 4 - PM1A_EVT_PORT)
#define NS_PER_SECOND UINT64_C(1000000000)

/** struct pm_state - what the guest can see. */
struct pm_state {
	uint16_t status, enable, control;
	uint8_t reset_control;
	uint64_t timer_half; /* half periods of the timer when its status bit was last looked at */
};

struct pm {
	struct vmctx *ctx;
	pthread_mutex_t lock;
	struct pm_state state;
	bool sci_level;
	struct event_source *timer; /* armed while the timer's carry may interrupt */
	struct io_range range, reset_range;
};

/* ---- Timer ---- */

static uint64_t timer_ticks(const struct pm *pm)
{
	return (uint64_t)((unsigned __int128)vm_clock_ns(pm->ctx) * PM_TIMER_HZ / NS_PER_SECOND);
}

static uint64_t ticks_to_ns(uint64_t ticks)
{
	return ticks * NS_PER_SECOND / PM_TIMER_HZ;
}

/* TMR_STS: the timer's highest bit changed (ACPI 6.5, 4.8.3.1.1). */
static void timer_update(struct pm *pm)
{
	uint64_t half = timer_ticks(pm) / PM_TIMER_HALF;

	if (half == pm->state.timer_half)
		return;
	pm->state.timer_half = half;
	pm->state.status |= PM1_TIMER;
}

/* While its status bit is set it cannot interrupt once more, so that the guest sets the pace. */
static void timer_arm(struct pm *pm)
{
	uint64_t left = PM_TIMER_HALF - timer_ticks(pm) % PM_TIMER_HALF;
	bool wanted = pm->state.enable & PM1_TIMER && !(pm->state.status & PM1_TIMER);

	event_set_timer(pm->timer, wanted ? ticks_to_ns(left) + 1 : 0, 0);
}

/* ---- System control interrupt ---- */

static void pm_update_sci(struct pm *pm)
{
	bool level = pm->state.status & pm->state.enable & PM1_ENABLES;

	if (level == pm->sci_level)
		return;
	pm->sci_level = level;
	platform_irq(pm->ctx, PM_SCI_GSI, PLATFORM_IRQ_DEFAULT, level);
}

static void on_pm_timer(void *arg, uint32_t expirations)
{
	struct pm *pm = arg;

	timer_update(pm);
	timer_arm(pm);
	pm_update_sci(pm);
}

static void pm_event(struct pm *pm, uint16_t status)
{
	pthread_mutex_lock(&pm->lock);
	pm->state.status |= status;
	pm_update_sci(pm);
	pthread_mutex_unlock(&pm->lock);
}

void pm_power_button(struct pm *pm)
{
	pm_event(pm, PM1_POWER_BUTTON);
}

void pm_rtc_alarm(struct pm *pm)
{
	if (!pm)
		return;
	pm_event(pm, PM1_RTC);
	if (vm_suspended(pm->ctx) && pm_wake_pending(pm))
		vm_request(pm->ctx, VM_REQUEST_WAKE, 0);
}

bool pm_wake_pending(struct pm *pm)
{
	bool pending;

	pthread_mutex_lock(&pm->lock);
	pending = pm->state.status & pm->state.enable & PM1_WAKE_EVENTS;
	pthread_mutex_unlock(&pm->lock);
	return pending;
}

void pm_wake(struct pm *pm)
{
	pm_event(pm, PM1_WAKE);
}

/* ---- Registers ---- */

static uint32_t status_read(void *arg)
{
	struct pm *pm = arg;

	timer_update(pm);
	return pm->state.status;
}

static void status_write(void *arg, uint32_t value, uint32_t mask)
{
	struct pm *pm = arg;

	timer_update(pm);
	pm->state.status &= (uint16_t)~value;
	timer_arm(pm);
	pm_update_sci(pm);
}

static uint32_t enable_read(void *arg)
{
	return ((struct pm *)arg)->state.enable;
}

static void enable_write(void *arg, uint32_t value, uint32_t mask)
{
	struct pm *pm = arg;

	timer_update(pm);
	pm->state.enable = (uint16_t)((pm->state.enable & ~mask) | (value & PM1_ENABLES));
	timer_arm(pm);
	pm_update_sci(pm);
}

static uint32_t control_read(void *arg)
{
	return ((struct pm *)arg)->state.control | PM1_SCI_EN;
}

static void pm_sleep(struct pm *pm, unsigned int type)
{
	struct vmctx *ctx = pm->ctx;

	if (type == PM_SLEEP_TYPE_S5)
		vm_request(ctx, VM_REQUEST_POWEROFF, 0);
	else if (type == PM_SLEEP_TYPE_S3 && !ctx->hv->no_cpus)
		vm_request(ctx, VM_REQUEST_SUSPEND, 0);
	else
		log_guest(ctx->log, "%s: the guest asks for a sleep state that there is not",
			  ctx->config.name);
}

static void control_write(void *arg, uint32_t value, uint32_t mask)
{
	struct pm *pm = arg;
	uint32_t control = (pm->state.control & ~mask) | value;

	/* GBL_RLS and SLP_EN are write-only (ACPI 6.5, table 4.13) */
	pm->state.control = control & (PM1_BUS_MASTER_RELOAD | PM1_SLEEP_TYPE);
	if (value & PM1_SLEEP_ENABLE)
		pm_sleep(pm, (control & PM1_SLEEP_TYPE) >> PM1_SLEEP_TYPE_SHIFT);
}

static uint32_t timer_read(void *arg)
{
	return (uint32_t)(timer_ticks(arg) & (BIT64(PM_TIMER_BITS) - 1));
}

static const struct platform_register pm_registers[] = {
	{ PM1A_EVT_PORT - PM1A_EVT_PORT, 2, status_read, status_write },
	{ PM1A_EVT_PORT + 2 - PM1A_EVT_PORT, 2, enable_read, enable_write },
	{ PM1A_CNT_PORT - PM1A_EVT_PORT, 2, control_read, control_write },
	{ PM_TIMER_PORT - PM1A_EVT_PORT, 4, timer_read, NULL },
};

static uint64_t pm_read(void *arg, uint64_t offset, unsigned int size)
{
	struct pm *pm = arg;
	uint64_t value;

	pthread_mutex_lock(&pm->lock);
	value = platform_registers_read(pm_registers, ARRAY_SIZE(pm_registers), pm, offset, size);
	pthread_mutex_unlock(&pm->lock);
	return value;
}

static void pm_write(void *arg, uint64_t offset, unsigned int size, uint64_t value)
{
	struct pm *pm = arg;

	pthread_mutex_lock(&pm->lock);
	platform_registers_write(pm_registers, ARRAY_SIZE(pm_registers), pm, offset, size, value);
	pthread_mutex_unlock(&pm->lock);
}

static const struct io_range_ops pm_io_ops = { .read = pm_read, .write = pm_write };

/* ---- Reset register ---- */

static uint64_t reset_read(void *arg, uint64_t offset, unsigned int size)
{
	struct pm *pm = arg;
	uint64_t value;

	pthread_mutex_lock(&pm->lock);
	value = pm->state.reset_control;
	pthread_mutex_unlock(&pm->lock);
	return value;
}

static void reset_write(void *arg, uint64_t offset, unsigned int size, uint64_t value)
{
	struct pm *pm = arg;

	pthread_mutex_lock(&pm->lock);
	pm->state.reset_control = value & RESET_BITS & ~RESET_CPU;
	pthread_mutex_unlock(&pm->lock);
	if (value & RESET_CPU)
		vm_request(pm->ctx, VM_REQUEST_RESET, 0);
}

static const struct io_range_ops reset_io_ops = { .read = reset_read, .write = reset_write };

/* ---- Life ---- */

static void pm_set_defaults(struct pm *pm)
{
	pm->state = (struct pm_state) { .timer_half = timer_ticks(pm) / PM_TIMER_HALF };
	timer_arm(pm);
	pm_update_sci(pm);
}

static int pm_start(struct pm *pm)
{
	struct vmctx *ctx = pm->ctx;
	int error;

	pm->timer = event_add_timer(ctx->main_loop, &pm->lock, on_pm_timer, pm);
	if (!pm->timer)
		return -errno;
	pm_set_defaults(pm);
	error = io_space_add(&ctx->pio, &pm->range);
	if (!error)
		error = io_space_add(&ctx->pio, &pm->reset_range);
	return error;
}

struct pm *pm_create(struct vmctx *ctx)
{
	struct pm *pm = calloc(1, sizeof(*pm));
	int error;

	if (!pm) {
		log_error(ctx->log, "%s: out of memory", ctx->config.name);
		return NULL;
	}
	pm->ctx = ctx;
	pthread_mutex_init(&pm->lock, NULL);
	pm->range = (struct io_range) {
		.name = "ACPI PM",
		.base = PM1A_EVT_PORT,
		.size = PM_PORTS,
		.ops = &pm_io_ops,
		.arg = pm,
	};
	pm->reset_range = (struct io_range) {
		.name = "reset",
		.base = PM_RESET_PORT,
		.size = 1,
		.ops = &reset_io_ops,
		.arg = pm,
	};
	error = pm_start(pm);
	if (!error)
		return pm;
	log_error(ctx->log, "%s: cannot create the power management ports: %s", ctx->config.name,
		  strerror(-error));
	pm_destroy(pm);
	errno = -error;
	return NULL;
}

void pm_destroy(struct pm *pm)
{
	if (!pm)
		return;
	io_space_remove(&pm->ctx->pio, &pm->reset_range);
	io_space_remove(&pm->ctx->pio, &pm->range);
	pthread_mutex_lock(&pm->lock);
	event_remove(pm->timer);
	pthread_mutex_unlock(&pm->lock);
	pthread_mutex_destroy(&pm->lock);
	free(pm);
}

void pm_reset(struct pm *pm)
{
	pthread_mutex_lock(&pm->lock);
	pm_set_defaults(pm);
	pthread_mutex_unlock(&pm->lock);
}
