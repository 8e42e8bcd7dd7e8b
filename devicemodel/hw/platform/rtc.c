/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The real-time clock and CMOS RAM: a Motorola MC146818A ("the data sheet"), with the century and
 * the memory sizes where PC firmware puts them.
 *
 * The clock is the host's, in UTC, plus an offset that the guest changes when it sets the time. No
 * tick counts it: what happened since the last look (periodic, update, alarm) is worked out when
 * the guest looks, and a timer runs only while an enabled interrupt is due.
 */
#include "rtc_time.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "platform.h"

#define RTC_PORT 0x70
#define RTC_PORTS 2
#define RTC_GSI 8
#define RTC_CMOS_SIZE 128
#define RTC_INDEX_MASK 0x7f /* bit 7 of the index masks NMIs */

#define RTC_A_UIP 0x80
#define RTC_A_DIVIDER 0x70
#define RTC_A_DIVIDER_RESET 0x60 /* 0x60 and 0x70 */
#define RTC_A_RATE 0x0f
#define RTC_A_DEFAULT 0x26 /* 32768 Hz crystal, 1024 Hz periodic */

#define RTC_B_SET 0x80
#define RTC_B_INTERRUPTS 0x70 /* the same bits as the flags in register C */
#define RTC_B_UPDATE 0x10
#define RTC_B_DEFAULT RTC_B_24H

#define RTC_C_INTERRUPT 0x80
#define RTC_C_PERIODIC 0x40
#define RTC_C_ALARM 0x20
#define RTC_C_UPDATE 0x10
#define RTC_D_VALID 0x80 /* the battery is good */

#define NS_PER_SECOND 1000000000
#define RTC_UIP_NS 244000 /* data sheet, "Update cycle": announced this long before */
#define RTC_DIVIDER_NS 500000000 /* released from reset, the first update is half a second away */
#define RTC_TIMER_MAX_S 60 /* look again at least this often: the host's clock can be set */

/* CMOS RAM as PC firmware uses it */
#define CMOS_EQUIPMENT 0x14
#define CMOS_BASE_KIB 0x15
#define CMOS_EXTENDED_KIB 0x17
#define CMOS_EXTENDED_KIB_2 0x30
#define CMOS_ABOVE_16M 0x34 /* 64 KiB units */
#define CMOS_ABOVE_4G 0x5b /* 64 KiB units, 3 bytes */
#define CMOS_CHECKSUM 0x2e /* of 0x10..0x2d, high byte first */

/** struct rtc_instant - a moment of the guest's clock. */
struct rtc_instant {
	int64_t seconds;
	uint32_t ns;
};

/**
 * struct rtc_state
 * @cmos: all registers; those of the time are only up to date while the clock stands still
 * @offset: the guest's clock is the host's plus this
 */
struct rtc_state {
	uint8_t index;
	uint8_t cmos[RTC_CMOS_SIZE];
	struct rtc_instant offset;
};

struct rtc {
	struct vmctx *ctx;
	pthread_mutex_t lock;
	struct rtc_state state;
	struct rtc_instant last; /* what happened up to here is in register C */
	bool irq_level;
	struct event_source *timer;
	struct io_range range;
};

/* ---- The clock ---- */

static struct rtc_instant host_now(const struct rtc *rtc)
{
	struct timespec now;

	vm_wall_clock(rtc->ctx, &now);
	return (struct rtc_instant) { now.tv_sec, (uint32_t)now.tv_nsec };
}

static struct rtc_instant rtc_now(const struct rtc *rtc)
{
	struct rtc_instant now = host_now(rtc);

	now.seconds += rtc->state.offset.seconds;
	now.ns += rtc->state.offset.ns;
	if (now.ns < NS_PER_SECOND)
		return now;
	now.seconds++;
	now.ns -= NS_PER_SECOND;
	return now;
}

static void rtc_set_clock(struct rtc *rtc, struct rtc_instant time)
{
	struct rtc_instant host = host_now(rtc);
	struct rtc_instant *offset = &rtc->state.offset;

	offset->seconds = time.seconds - host.seconds;
	if (time.ns < host.ns) {
		offset->seconds--;
		time.ns += NS_PER_SECOND;
	}
	offset->ns = time.ns - host.ns;
	rtc->last = rtc_now(rtc);
}

static bool divider_in_reset(const struct rtc *rtc)
{
	return (rtc->state.cmos[RTC_REG_A] & RTC_A_DIVIDER_RESET) == RTC_A_DIVIDER_RESET;
}

/* Does the clock stand still, so that the guest can set it? */
static bool rtc_halted(const struct rtc *rtc)
{
	return rtc->state.cmos[RTC_REG_B] & RTC_B_SET || divider_in_reset(rtc);
}

/* Periodic interrupts a second (data sheet, table 5), 0: none. */
static uint32_t periodic_rate(const struct rtc *rtc)
{
	unsigned int rate = rtc->state.cmos[RTC_REG_A] & RTC_A_RATE;

	if (!rate || divider_in_reset(rtc))
		return 0;
	return rate <= 2 ? 512 >> rate : 65536 >> rate;
}

/* ---- What happened, and what is due ---- */

static uint64_t periodic_count(uint32_t rate, const struct rtc_instant *time)
{
	return (uint64_t)time->seconds * rate + (uint64_t)time->ns * rate / NS_PER_SECOND;
}

static void rtc_update_irq(struct rtc *rtc)
{
	const uint8_t *cmos = rtc->state.cmos;
	bool level = cmos[RTC_REG_C] & cmos[RTC_REG_B] & RTC_B_INTERRUPTS;

	if (level == rtc->irq_level)
		return;
	rtc->irq_level = level;
	platform_irq(rtc->ctx, RTC_GSI, PLATFORM_IRQ_DEFAULT, level);
}

/* Bring register C up to date. */
static void rtc_update(struct rtc *rtc)
{
	struct rtc_instant now = rtc_now(rtc);
	uint32_t rate = periodic_rate(rtc);
	uint8_t *cmos = rtc->state.cmos, flags = 0;

	if (rate && periodic_count(rate, &now) != periodic_count(rate, &rtc->last))
		flags |= RTC_C_PERIODIC;
	if (!rtc_halted(rtc) && now.seconds > rtc->last.seconds) {
		flags |= RTC_C_UPDATE;
		if (rtc_alarm_next(cmos, cmos[RTC_REG_B], rtc->last.seconds) <= now.seconds)
			flags |= RTC_C_ALARM;
	}
	cmos[RTC_REG_C] |= flags;
	rtc->last = now;
	rtc_update_irq(rtc);
	if (flags & cmos[RTC_REG_B] & RTC_C_ALARM)
		pm_rtc_alarm(rtc->ctx->platform->pm);
}

/* Nanoseconds from @now to the start of second @seconds, or to when we look again anyway. */
static uint64_t delay_to_second(const struct rtc_instant *now, int64_t seconds)
{
	if (seconds > now->seconds + RTC_TIMER_MAX_S)
		return (uint64_t)RTC_TIMER_MAX_S * NS_PER_SECOND;
	return (uint64_t)(seconds - now->seconds) * NS_PER_SECOND - now->ns;
}

static uint64_t delay_to_periodic(const struct rtc_instant *now, uint32_t rate)
{
	uint64_t next = (uint64_t)now->ns * rate / NS_PER_SECOND + 1;

	return (next * NS_PER_SECOND + rate - 1) / rate - now->ns;
}

/*
 * Set the timer to the next event that would interrupt. One whose flag is set and not yet read
 * cannot, so a guest gets no more interrupts than it acknowledges.
 */
static void rtc_arm(struct rtc *rtc)
{
	const uint8_t *cmos = rtc->state.cmos;
	uint8_t wanted = cmos[RTC_REG_B] & RTC_B_INTERRUPTS & (uint8_t)~cmos[RTC_REG_C];
	uint32_t rate = periodic_rate(rtc);
	uint64_t delay = UINT64_MAX;

	if (rtc_halted(rtc))
		wanted &= RTC_C_PERIODIC;
	if (wanted & RTC_C_PERIODIC && rate)
		delay = MIN(delay, delay_to_periodic(&rtc->last, rate));
	if (wanted & RTC_C_UPDATE)
		delay = MIN(delay, delay_to_second(&rtc->last, rtc->last.seconds + 1));
	if (wanted & RTC_C_ALARM)
		delay = MIN(delay, delay_to_second(&rtc->last, rtc_alarm_next(cmos, cmos[RTC_REG_B],
									      rtc->last.seconds)));
	event_set_timer(rtc->timer, delay == UINT64_MAX ? 0 : MAX(delay, UINT64_C(1) + EVENT_SOON),
			0);
}

static void on_rtc_timer(void *arg, uint32_t expirations)
{
	struct rtc *rtc = arg;

	rtc_update(rtc);
	rtc_arm(rtc);
}

/* ---- Registers ---- */

static bool is_time_register(uint8_t index)
{
	return index == RTC_CENTURY_REGISTER || (index >= RTC_DAY_OF_WEEK && index <= RTC_YEAR) ||
	       index == RTC_SECONDS || index == RTC_MINUTES || index == RTC_HOURS;
}

/* Have the time registers hold the time, unless the clock stands still and they do. */
static void rtc_show_time(struct rtc *rtc)
{
	uint8_t *cmos = rtc->state.cmos;

	if (!rtc_halted(rtc))
		rtc_time_encode(cmos, cmos[RTC_REG_B], rtc->last.seconds);
}

/* Set the clock to what the time registers hold, @ns into that second. */
static void rtc_take_time(struct rtc *rtc, uint32_t ns)
{
	const uint8_t *cmos = rtc->state.cmos;

	rtc_set_clock(rtc, (struct rtc_instant) { rtc_time_decode(cmos, cmos[RTC_REG_B]), ns });
}

/* Register A or B, which can stop the clock or let it go. */
static void rtc_control_write(struct rtc *rtc, uint8_t index, uint8_t value)
{
	uint8_t *cmos = rtc->state.cmos;
	bool halted = rtc_halted(rtc), reset = divider_in_reset(rtc);

	rtc_show_time(rtc);
	cmos[index] = value;
	if (halted && !rtc_halted(rtc))
		rtc_take_time(rtc, reset ? RTC_DIVIDER_NS : rtc->last.ns);
	if (cmos[RTC_REG_B] & RTC_B_SET)
		cmos[RTC_REG_B] &= (uint8_t)~RTC_B_UPDATE; /* data sheet, "SET" */
	rtc_update_irq(rtc);
}

static void rtc_time_write(struct rtc *rtc, uint8_t index, uint8_t value)
{
	rtc_show_time(rtc);
	rtc->state.cmos[index] = value;
	if (!rtc_halted(rtc))
		rtc_take_time(rtc, rtc->last.ns);
}

static void cmos_write(struct rtc *rtc, uint8_t index, uint8_t value)
{
	rtc_update(rtc);
	if (index == RTC_REG_C || index == RTC_REG_D)
		return;
	if (index == RTC_REG_A)
		rtc_control_write(rtc, index, value & (uint8_t)~RTC_A_UIP);
	else if (index == RTC_REG_B)
		rtc_control_write(rtc, index, value);
	else if (is_time_register(index))
		rtc_time_write(rtc, index, value);
	else
		rtc->state.cmos[index] = value;
	if (index <= RTC_REG_D || index == RTC_CENTURY_REGISTER)
		rtc_arm(rtc);
}

static uint8_t flags_read(struct rtc *rtc)
{
	uint8_t flags = rtc->state.cmos[RTC_REG_C];

	if (rtc->irq_level)
		flags |= RTC_C_INTERRUPT;
	rtc->state.cmos[RTC_REG_C] = 0;
	rtc_update_irq(rtc);
	rtc_arm(rtc);
	return flags;
}

static uint8_t cmos_read(struct rtc *rtc, uint8_t index)
{
	uint8_t value;

	rtc_update(rtc);
	if (index == RTC_REG_C)
		return flags_read(rtc);
	if (is_time_register(index))
		rtc_show_time(rtc);
	value = rtc->state.cmos[index];
	if (index == RTC_REG_A && !rtc_halted(rtc) && NS_PER_SECOND - rtc->last.ns <= RTC_UIP_NS)
		value |= RTC_A_UIP;
	return value;
}

static uint32_t index_read(void *arg)
{
	return 0xff; /* write-only in a PC */
}

static void index_write(void *arg, uint32_t value, uint32_t mask)
{
	((struct rtc *)arg)->state.index = value & RTC_INDEX_MASK;
}

static uint32_t data_read(void *arg)
{
	struct rtc *rtc = arg;

	return cmos_read(rtc, rtc->state.index);
}

static void data_write(void *arg, uint32_t value, uint32_t mask)
{
	struct rtc *rtc = arg;

	cmos_write(rtc, rtc->state.index, (uint8_t)value);
}

static const struct platform_register rtc_registers[] = {
	{ 0, 1, index_read, index_write },
	{ 1, 1, data_read, data_write },
};

static uint64_t rtc_read(void *arg, uint64_t offset, unsigned int size)
{
	struct rtc *rtc = arg;
	uint64_t value;

	pthread_mutex_lock(&rtc->lock);
	value = platform_registers_read(rtc_registers, ARRAY_SIZE(rtc_registers), rtc, offset,
					size);
	pthread_mutex_unlock(&rtc->lock);
	return value;
}

static void rtc_write(void *arg, uint64_t offset, unsigned int size, uint64_t value)
{
	struct rtc *rtc = arg;

	pthread_mutex_lock(&rtc->lock);
	platform_registers_write(rtc_registers, ARRAY_SIZE(rtc_registers), rtc, offset, size,
				 value);
	pthread_mutex_unlock(&rtc->lock);
}

static const struct io_range_ops rtc_io_ops = { .read = rtc_read, .write = rtc_write };

/* ---- What firmware leaves in CMOS RAM ---- */

static void cmos_put(uint8_t *cmos, unsigned int index, unsigned int size, uint64_t value)
{
	bytes_put(cmos + index, size, MIN(value, BIT64(size * 8) - 1));
}

static void cmos_put_memory(uint8_t *cmos, const struct guest_memory *memory)
{
	uint64_t low = 0, high = 0;

	for (unsigned int i = 0; i < memory->count; i++) {
		const struct guest_memory_region *region = &memory->regions[i];

		if (region->gpa >= GIB(4))
			high += region->size;
		else
			low = MAX(low, region->gpa + region->size);
	}
	cmos_put(cmos, CMOS_BASE_KIB, 2, MIN(low, KIB(640)) / KIB(1));
	cmos_put(cmos, CMOS_EXTENDED_KIB, 2, low > MIB(1) ? (low - MIB(1)) / KIB(1) : 0);
	cmos_put(cmos, CMOS_EXTENDED_KIB_2, 2, low > MIB(1) ? (low - MIB(1)) / KIB(1) : 0);
	cmos_put(cmos, CMOS_ABOVE_16M, 2, low > MIB(16) ? (low - MIB(16)) / KIB(64) : 0);
	cmos_put(cmos, CMOS_ABOVE_4G, 3, high / KIB(64));
}

static void cmos_put_checksum(uint8_t *cmos)
{
	unsigned int sum = 0;

	for (unsigned int i = 0x10; i < CMOS_CHECKSUM; i++)
		sum += cmos[i];
	cmos[CMOS_CHECKSUM] = (uint8_t)(sum >> 8);
	cmos[CMOS_CHECKSUM + 1] = (uint8_t)sum;
}

/* ---- Life ---- */

static int rtc_start(struct rtc *rtc)
{
	struct vmctx *ctx = rtc->ctx;
	uint8_t *cmos = rtc->state.cmos;

	cmos[RTC_REG_A] = RTC_A_DEFAULT;
	cmos[RTC_REG_B] = RTC_B_DEFAULT;
	cmos[RTC_REG_D] = RTC_D_VALID;
	cmos[CMOS_EQUIPMENT] = 0x02; /* a coprocessor */
	cmos_put_memory(cmos, &ctx->memory);
	cmos_put_checksum(cmos);
	rtc->last = rtc_now(rtc);
	rtc->timer = event_add_timer(ctx->main_loop, &rtc->lock, on_rtc_timer, rtc);
	if (!rtc->timer)
		return -errno;
	return io_space_add(&ctx->pio, &rtc->range);
}

struct rtc *rtc_create(struct vmctx *ctx)
{
	struct rtc *rtc = calloc(1, sizeof(*rtc));
	int error;

	if (!rtc) {
		log_error(ctx->log, "%s: out of memory", ctx->config.name);
		return NULL;
	}
	rtc->ctx = ctx;
	pthread_mutex_init(&rtc->lock, NULL);
	rtc->range = (struct io_range) {
		.name = "RTC",
		.base = RTC_PORT,
		.size = RTC_PORTS,
		.ops = &rtc_io_ops,
		.arg = rtc,
	};
	error = rtc_start(rtc);
	if (!error)
		return rtc;
	log_error(ctx->log, "%s: cannot create the RTC: %s", ctx->config.name, strerror(-error));
	rtc_destroy(rtc);
	errno = -error;
	return NULL;
}

void rtc_destroy(struct rtc *rtc)
{
	if (!rtc)
		return;
	io_space_remove(&rtc->ctx->pio, &rtc->range);
	pthread_mutex_lock(&rtc->lock);
	event_remove(rtc->timer);
	pthread_mutex_unlock(&rtc->lock);
	pthread_mutex_destroy(&rtc->lock);
	free(rtc);
}

/*
 * A battery keeps the time and the CMOS RAM through a reset; the control registers are as firmware
 * leaves them, because there is none to put them right before the guest's kernel runs.
 */
void rtc_reset(struct rtc *rtc)
{
	pthread_mutex_lock(&rtc->lock);
	rtc_update(rtc);
	rtc_control_write(rtc, RTC_REG_A, RTC_A_DEFAULT);
	rtc_control_write(rtc, RTC_REG_B, RTC_B_DEFAULT);
	rtc->state.cmos[RTC_REG_C] = 0;
	rtc->state.index = 0;
	rtc_update_irq(rtc);
	rtc_arm(rtc);
	pthread_mutex_unlock(&rtc->lock);
}
