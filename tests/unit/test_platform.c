/* SPDX-License-Identifier: BSD-3-Clause */
/* RTC and CMOS, ACPI power management, reset ports and debug exit, as a guest sees them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_vm.h"

#define RTC_GSI 8
#define PWRBTN 0x0100
#define TMR 0x0001
#define RTC_ALARM 0x0400
#define WAK 0x8000

static int set_up(void **state)
{
	struct fake_vm *vm = fake_vm_create(false);

	*state = vm;
	return platform_create(&vm->ctx);
}

static int tear_down(void **state)
{
	fake_vm_destroy(*state);
	return 0;
}

/* ---- RTC ---- */

enum {
	SECONDS,
	SECONDS_ALARM,
	MINUTES,
	MINUTES_ALARM,
	HOURS,
	HOURS_ALARM,
	WEEKDAY,
	DAY_OF_MONTH,
	MONTH,
	YEAR,
	REG_A,
	REG_B,
	REG_C,
	REG_D,
	CENTURY = 0x32
};

#define A_UIP 0x80
#define A_RUN 0x20 /* divider for 32768 Hz, no periodic */
#define B_SET 0x80
#define B_PIE 0x40
#define B_AIE 0x20
#define B_UIE 0x10
#define B_BINARY 0x04
#define B_24H 0x02
#define C_IRQ 0x80
#define C_PF 0x40
#define C_AF 0x20
#define C_UF 0x10

static uint8_t cmos(struct fake_vm *vm, uint8_t index)
{
	fake_vm_out(vm, 0x70, 1, index);
	return (uint8_t)fake_vm_in(vm, 0x71, 1);
}

static void set_cmos(struct fake_vm *vm, uint8_t index, uint8_t value)
{
	fake_vm_out(vm, 0x70, 1, index);
	fake_vm_out(vm, 0x71, 1, value);
}

struct clock {
	uint8_t seconds, minutes, hours, weekday, day, month, year, century;
};

static struct clock get_clock(struct fake_vm *vm)
{
	return (struct clock) {
		cmos(vm, SECONDS),	cmos(vm, MINUTES), cmos(vm, HOURS), cmos(vm, WEEKDAY),
		cmos(vm, DAY_OF_MONTH), cmos(vm, MONTH),   cmos(vm, YEAR),  cmos(vm, CENTURY),
	};
}

static void assert_clock(struct fake_vm *vm, struct clock expected)
{
	struct clock clock = get_clock(vm);

	assert_memory_equal(&clock, &expected, sizeof(clock));
}

/* Set the time as Linux does: stopped by SET and by the divider, which is half a second from an update. */
static void set_clock(struct fake_vm *vm, uint8_t reg_b, struct clock clock)
{
	set_cmos(vm, REG_B, reg_b | B_SET);
	set_cmos(vm, REG_A, 0x70);
	set_cmos(vm, YEAR, clock.year);
	set_cmos(vm, CENTURY, clock.century);
	set_cmos(vm, MONTH, clock.month);
	set_cmos(vm, DAY_OF_MONTH, clock.day);
	set_cmos(vm, HOURS, clock.hours);
	set_cmos(vm, MINUTES, clock.minutes);
	set_cmos(vm, SECONDS, clock.seconds);
	set_cmos(vm, REG_B, reg_b);
	set_cmos(vm, REG_A, 0x26);
}

static int64_t seconds_of(const struct clock *clock)
{
	struct tm tm = {
		.tm_sec = clock->seconds,
		.tm_min = clock->minutes,
		.tm_hour = clock->hours,
		.tm_mday = clock->day,
		.tm_mon = clock->month - 1,
		.tm_year = clock->century * 100 + clock->year - 1900,
	};

	return timegm(&tm);
}

/* Not time(): that goes by the last tick, which can be a second behind what the RTC shows. */
static time_t host_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec;
}

static void test_rtc_is_host_time(void **state)
{
	struct fake_vm *vm = *state;
	time_t before = host_seconds();
	struct clock clock;
	int64_t guest;
	struct tm tm;

	assert_int_equal(cmos(vm, REG_A), 0x26);
	assert_int_equal(cmos(vm, REG_B), B_24H);
	assert_int_equal(cmos(vm, REG_D), 0x80);
	set_cmos(vm, REG_B, B_24H | B_BINARY);
	clock = get_clock(vm);
	guest = seconds_of(&clock);
	assert_true(guest >= before && guest <= host_seconds());
	gmtime_r(&before, &tm);
	assert_int_equal(clock.weekday, tm.tm_wday + 1);
}

static void test_rtc_formats(void **state)
{
	struct fake_vm *vm = *state;

	/* binary, 24 hours: 2024-02-28 23:59:59, and half a second later it is the 29th */
	set_clock(vm, B_BINARY | B_24H, (struct clock) { 59, 59, 23, 0, 28, 2, 24, 20 });
	assert_clock(vm, (struct clock) { 59, 59, 23, 4, 28, 2, 24, 20 });
	fake_vm_wait(vm, cmos(vm, SECONDS) == 0);
	assert_clock(vm, (struct clock) { 0, 0, 0, 5, 29, 2, 24, 20 });
	/* the same in the other formats */
	set_cmos(vm, REG_B, B_24H);
	assert_clock(vm, (struct clock) { 0, 0, 0, 5, 0x29, 2, 0x24, 0x20 });
	set_cmos(vm, REG_B, 0);
	assert_clock(vm, (struct clock) { 0, 0, 0x12, 5, 0x29, 2, 0x24, 0x20 });
	set_cmos(vm, REG_B, B_BINARY);
	assert_clock(vm, (struct clock) { 0, 0, 12, 5, 29, 2, 24, 20 });
	/* BCD, 12 hours: 11:59:58 PM */
	set_clock(vm, 0, (struct clock) { 0x58, 0x59, 0x91, 0, 0x31, 0x12, 0x99, 0x19 });
	assert_clock(vm, (struct clock) { 0x58, 0x59, 0x91, 6, 0x31, 0x12, 0x99, 0x19 });
	set_cmos(vm, REG_B, B_24H);
	assert_clock(vm, (struct clock) { 0x58, 0x59, 0x23, 6, 0x31, 0x12, 0x99, 0x19 });
	/* noon is 12 PM */
	set_clock(vm, B_24H, (struct clock) { 0, 0, 0x12, 0, 1, 1, 0, 0x20 });
	set_cmos(vm, REG_B, 0);
	assert_int_equal(cmos(vm, HOURS), 0x92);
}

/* What a guest sets stays set while the host's clock goes on; also one register by itself. */
static void test_rtc_set(void **state)
{
	struct fake_vm *vm = *state;
	struct clock clock;

	set_clock(vm, B_BINARY | B_24H, (struct clock) { 10, 20, 3, 0, 4, 5, 31, 20 });
	fake_vm_wait(vm, cmos(vm, SECONDS) == 11);
	assert_clock(vm, (struct clock) { 11, 20, 3, 1, 4, 5, 31, 20 });
	set_cmos(vm, MINUTES, 59);
	set_cmos(vm, YEAR, 32);
	assert_clock(vm, (struct clock) { 11, 59, 3, 3, 4, 5, 32, 20 });
	platform_reset(&vm->ctx);
	set_cmos(vm, REG_B, B_BINARY | B_24H);
	clock = get_clock(vm);
	assert_int_equal(clock.minutes, 59);
	assert_int_equal(clock.year, 32);
}

/* While SET is on, the registers stand still, hold what is written, and UIP is never seen. */
static void test_rtc_halted(void **state)
{
	struct fake_vm *vm = *state;
	uint8_t seconds;

	set_cmos(vm, REG_B, B_SET | B_UIE | B_24H);
	assert_int_equal(cmos(vm, REG_B), B_SET | B_24H);
	cmos(vm, REG_C);
	seconds = cmos(vm, SECONDS);
	for (unsigned int i = 0; i < 120; i++) {
		fake_vm_run(vm, 10);
		assert_false(cmos(vm, REG_A) & A_UIP);
	}
	assert_int_equal(cmos(vm, SECONDS), seconds);
	assert_int_equal(cmos(vm, REG_C) & C_UF, 0);
	set_cmos(vm, MONTH, 0x77);
	assert_int_equal(cmos(vm, MONTH), 0x77);
}

/* Nonsense and far-off dates do no harm, and the clock runs on. */
static void test_rtc_hostile_dates(void **state)
{
	struct fake_vm *vm = *state;
	static const uint8_t values[] = { 0, 0x0f, 0x7f, 0x80, 0x99, 0xc0, 0xff };

	for (unsigned int b = 0; b < 8; b += 2) {
		for (unsigned int i = 0; i < ARRAY_SIZE(values); i++) {
			uint8_t v = values[i];

			set_clock(vm, (uint8_t)b, (struct clock) { v, v, v, v, v, v, v, v });
			for (uint8_t alarm = SECONDS_ALARM; alarm <= HOURS_ALARM; alarm += 2)
				set_cmos(vm, alarm, values[(i + alarm) % ARRAY_SIZE(values)]);
			set_cmos(vm, REG_B, (uint8_t)b | B_AIE | B_UIE);
			get_clock(vm);
			fake_vm_run(vm, 2);
		}
	}
	set_clock(vm, B_BINARY | B_24H, (struct clock) { 0, 0, 0, 0, 29, 2, 24, 20 });
	assert_clock(vm, (struct clock) { 0, 0, 0, 5, 29, 2, 24, 20 });
}

/*
 * UIP announces the update and only that: seen rarely, and when it is gone the next second is there.
 * It lasts 244 us, so on a busy machine it takes a few seconds to catch one.
 */
static void test_rtc_update_in_progress(void **state)
{
	struct fake_vm *vm = *state;
	uint64_t end = fake_vm_now_ms() + 30000;
	unsigned int looks = 0, seen = 0;

	set_clock(vm, B_BINARY | B_24H, (struct clock) { 0, 0, 0, 0, 1, 1, 24, 20 });
	while (!seen && fake_vm_now_ms() < end) {
		uint8_t seconds = cmos(vm, SECONDS);

		looks++;
		if (!(cmos(vm, REG_A) & A_UIP))
			continue;
		seen++;
		while (cmos(vm, REG_A) & A_UIP)
			;
		assert_true(cmos(vm, SECONDS) > seconds);
	}
	assert_int_equal(seen, 1);
	assert_true(looks > 100);
}

static void test_rtc_update_interrupt(void **state)
{
	struct fake_vm *vm = *state;

	set_clock(vm, B_24H, (struct clock) { 0, 0, 0, 0, 1, 1, 0x24, 0x20 });
	set_cmos(vm, REG_B, B_24H | B_UIE);
	cmos(vm, REG_C);
	for (unsigned int i = 1; i <= 2; i++) {
		fake_vm_wait(vm, vm->level[RTC_GSI]);
		assert_int_equal(vm->raised[RTC_GSI], i);
		assert_int_equal(cmos(vm, SECONDS), i);
		assert_int_equal(cmos(vm, REG_C) & (C_IRQ | C_UF | C_AF), C_IRQ | C_UF);
		assert_false(vm->level[RTC_GSI]);
		assert_int_equal(cmos(vm, REG_C) & (C_IRQ | C_UF), 0);
	}
	/* not acknowledged: no more of them */
	fake_vm_wait(vm, vm->level[RTC_GSI]);
	vm->calls = 0;
	fake_vm_run(vm, 1200);
	assert_int_equal(vm->calls, 0);
	platform_reset(&vm->ctx);
	assert_false(vm->level[RTC_GSI]);
	assert_int_equal(cmos(vm, REG_B), B_24H);
}

static void test_rtc_alarm(void **state)
{
	struct fake_vm *vm = *state;

	set_clock(vm, B_24H, (struct clock) { 0x58, 0x59, 0x23, 0, 0x31, 0x12, 0x23, 0x20 });
	set_cmos(vm, SECONDS_ALARM, 0x00);
	set_cmos(vm, MINUTES_ALARM, 0x00);
	set_cmos(vm, HOURS_ALARM, 0x00);
	set_cmos(vm, REG_B, B_24H | B_AIE);
	cmos(vm, REG_C);
	fake_vm_run(vm, 600);
	assert_false(vm->level[RTC_GSI]);
	fake_vm_wait(vm, vm->level[RTC_GSI]);
	assert_clock(vm, (struct clock) { 0, 0, 0, 2, 1, 1, 0x24, 0x20 });
	assert_int_equal(cmos(vm, REG_C) & (C_IRQ | C_AF), C_IRQ | C_AF);
	assert_false(vm->level[RTC_GSI]);
	/* any hour, any minute, second 2; and polled, without its interrupt */
	set_cmos(vm, HOURS_ALARM, 0xff);
	set_cmos(vm, MINUTES_ALARM, 0xc0);
	set_cmos(vm, SECONDS_ALARM, 0x02);
	set_cmos(vm, REG_B, B_24H);
	assert_int_equal(cmos(vm, REG_C) & C_AF, 0);
	fake_vm_wait(vm, cmos(vm, SECONDS) == 2);
	assert_int_equal(cmos(vm, REG_C) & (C_IRQ | C_AF), C_AF);
	assert_int_equal(vm->raised[RTC_GSI], 1);
}

static void test_rtc_periodic(void **state)
{
	struct fake_vm *vm = *state;
	uint64_t start = fake_vm_now_ms(), end;
	unsigned int count = 0;

	set_cmos(vm, REG_A, A_RUN | 9); /* 128 Hz */
	set_cmos(vm, REG_B, B_24H | B_PIE);
	while (fake_vm_now_ms() < start + 1000) {
		event_loop_poll(vm->ctx.main_loop, 5);
		if (!vm->level[RTC_GSI])
			continue;
		assert_true(cmos(vm, REG_C) & C_PF);
		count++;
	}
	end = fake_vm_now_ms();
	assert_true(count <= (end - start) * 128 / 1000 + 2);
	assert_true(count >= 40); /* a busy machine loses some */
	/* rate 0: none */
	set_cmos(vm, REG_A, A_RUN);
	cmos(vm, REG_C);
	vm->calls = 0;
	fake_vm_run(vm, 100);
	assert_int_equal(vm->calls, 0);
}

/* The fastest rate, never acknowledged: one interrupt, and then the loop sleeps. */
static void test_rtc_periodic_is_paced_by_guest(void **state)
{
	struct fake_vm *vm = *state;
	uint64_t end = fake_vm_now_ms() + 200;
	unsigned int wakeups = 0;

	set_cmos(vm, REG_A, A_RUN | 3);
	set_cmos(vm, REG_B, B_24H | B_PIE);
	while (fake_vm_now_ms() < end) {
		event_loop_poll(vm->ctx.main_loop, 50);
		wakeups++;
	}
	assert_true(wakeups < 20);
	assert_int_equal(vm->raised[RTC_GSI], 1);
}

static void test_cmos_ram(void **state)
{
	struct fake_vm *vm = *state;

	set_cmos(vm, 0x7f, 0xa5);
	set_cmos(vm, 0xff, 0x5a); /* bit 7 masks NMIs */
	assert_int_equal(cmos(vm, 0x7f), 0x5a);
	set_cmos(vm, REG_D, 0);
	assert_int_equal(cmos(vm, REG_D), 0x80);
	fake_vm_out(vm, 0x70, 2, 0x3340); /* index and data at once */
	assert_int_equal(cmos(vm, 0x40), 0x33);
	platform_reset(&vm->ctx);
	assert_int_equal(cmos(vm, 0x7f), 0x5a);
}

static void test_cmos_memory_size(void **state)
{
	struct fake_vm *vm = *state;
	unsigned int sum = 0;

	platform_destroy(&vm->ctx);
	vm->ctx.memory.count = 2;
	vm->ctx.memory.regions[0] = (struct guest_memory_region) { .gpa = 0, .size = GIB(2) };
	vm->ctx.memory.regions[1] = (struct guest_memory_region) { .gpa = GIB(4), .size = GIB(3) };
	assert_int_equal(platform_create(&vm->ctx), 0);
	assert_int_equal(cmos(vm, 0x15) | cmos(vm, 0x16) << 8, 640);
	assert_int_equal(cmos(vm, 0x17) | cmos(vm, 0x18) << 8, 0xffff);
	assert_int_equal(cmos(vm, 0x30) | cmos(vm, 0x31) << 8, 0xffff);
	assert_int_equal(cmos(vm, 0x34) | cmos(vm, 0x35) << 8, (GIB(2) - MIB(16)) / KIB(64));
	assert_int_equal(cmos(vm, 0x5b) | cmos(vm, 0x5c) << 8 | cmos(vm, 0x5d) << 16,
			 GIB(3) / KIB(64));
	for (uint8_t i = 0x10; i < 0x2e; i++)
		sum += cmos(vm, i);
	assert_int_equal(cmos(vm, 0x2e) << 8 | cmos(vm, 0x2f), sum);
	vm->ctx.memory.count = 0;
}

/* ---- Power management ---- */

static void test_power_button(void **state)
{
	struct fake_vm *vm = *state;

	/* not enabled: only the status */
	pm_power_button(vm->ctx.platform->pm);
	assert_false(vm->level[PM_SCI_GSI]);
	assert_int_equal(fake_vm_in(vm, PM1A_EVT_PORT, 2) & PWRBTN, PWRBTN);
	fake_vm_out(vm, PM1A_EVT_PORT + 2, 2, PWRBTN);
	assert_int_equal(fake_vm_in(vm, PM1A_EVT_PORT + 2, 2), PWRBTN);
	assert_true(vm->level[PM_SCI_GSI]);
	/* writing ones to the others does not clear it, nor does a zero */
	fake_vm_out(vm, PM1A_EVT_PORT, 2, 0xffff & ~PWRBTN);
	assert_true(vm->level[PM_SCI_GSI]);
	fake_vm_out(vm, PM1A_EVT_PORT, 2, PWRBTN);
	assert_false(vm->level[PM_SCI_GSI]);
	assert_int_equal(fake_vm_in(vm, PM1A_EVT_PORT, 2) & PWRBTN, 0);
	/* once more, cleared by a byte and by a double word that also is the enable register */
	pm_power_button(vm->ctx.platform->pm);
	assert_true(vm->level[PM_SCI_GSI]);
	fake_vm_out(vm, PM1A_EVT_PORT + 1, 1, PWRBTN >> 8);
	assert_false(vm->level[PM_SCI_GSI]);
	pm_power_button(vm->ctx.platform->pm);
	assert_int_equal(fake_vm_in(vm, PM1A_EVT_PORT, 4) & ~UINT64_C(1), PWRBTN << 16 | PWRBTN);
	fake_vm_out(vm, PM1A_EVT_PORT, 4, PWRBTN);
	assert_false(vm->level[PM_SCI_GSI]);
	assert_int_equal(fake_vm_in(vm, PM1A_EVT_PORT + 2, 2), 0);
	assert_int_equal(fake_vm_request(vm), VM_REQUEST_NONE);
}

static void test_pm_reset(void **state)
{
	struct fake_vm *vm = *state;

	fake_vm_out(vm, PM1A_EVT_PORT + 2, 2, PWRBTN);
	fake_vm_out(vm, PM1A_CNT_PORT, 2, 7 << 10);
	pm_power_button(vm->ctx.platform->pm);
	assert_true(vm->level[PM_SCI_GSI]);
	platform_reset(&vm->ctx);
	assert_false(vm->level[PM_SCI_GSI]);
	assert_int_equal(fake_vm_in(vm, PM1A_EVT_PORT, 4), 0);
	assert_int_equal(fake_vm_in(vm, PM1A_CNT_PORT, 2), 1);
}

static void test_soft_off(void **state)
{
	struct fake_vm *vm = *state;

	assert_int_equal(fake_vm_in(vm, PM1A_CNT_PORT, 2), 1);
	fake_vm_out(vm, PM1A_CNT_PORT, 2, 0);
	assert_int_equal(fake_vm_in(vm, PM1A_CNT_PORT, 2), 1);
	/* the type alone does nothing, and neither do other sleep states */
	fake_vm_out(vm, PM1A_CNT_PORT, 2, PM_SLEEP_TYPE_S5 << 10);
	assert_int_equal(fake_vm_in(vm, PM1A_CNT_PORT, 2), PM_SLEEP_TYPE_S5 << 10 | 1);
	fake_vm_out(vm, PM1A_CNT_PORT, 2, 1 << 13 | 2 << 10);
	assert_int_equal(fake_vm_request(vm), VM_REQUEST_NONE);
	for (unsigned int i = 0; i < 1000; i++)
		fake_vm_out(vm, PM1A_CNT_PORT, 2, 1 << 13 | 2 << 10);
	assert_true(vm->log.count <= 10);
	fake_vm_out(vm, PM1A_CNT_PORT, 2, 1 << 13 | PM_SLEEP_TYPE_S5 << 10);
	assert_int_equal(fake_vm_request(vm), VM_REQUEST_POWEROFF);
	assert_int_equal(fake_vm_in(vm, PM1A_CNT_PORT, 2) & 1 << 13, 0);
	/* type first, then enable, by bytes */
	fake_vm_out(vm, PM1A_CNT_PORT + 1, 1, PM_SLEEP_TYPE_S5 << 2);
	assert_int_equal(fake_vm_request(vm), VM_REQUEST_NONE);
	fake_vm_out(vm, PM1A_CNT_PORT + 1, 1, PM_SLEEP_TYPE_S5 << 2 | 1 << 5);
	assert_int_equal(fake_vm_request(vm), VM_REQUEST_POWEROFF);
}

static void test_suspend(void **state)
{
	struct fake_vm *vm = *state;
	struct hv_ops no_cpus = *vm->ctx.hv;

	fake_vm_out(vm, PM1A_CNT_PORT, 2, PM_SLEEP_TYPE_S3 << 10);
	assert_int_equal(fake_vm_request(vm), VM_REQUEST_NONE);
	fake_vm_out(vm, PM1A_CNT_PORT, 2, 1 << 13 | PM_SLEEP_TYPE_S3 << 10);
	assert_int_equal(fake_vm_request(vm), VM_REQUEST_SUSPEND);
	assert_int_equal(vm->log.count, 0);
	/* a machine without ACPI tables has not offered it */
	no_cpus.no_cpus = true;
	vm->ctx.hv = &no_cpus;
	fake_vm_out(vm, PM1A_CNT_PORT, 2, 1 << 13 | PM_SLEEP_TYPE_S3 << 10);
	assert_int_equal(fake_vm_request(vm), VM_REQUEST_NONE);
	assert_int_equal(vm->log.count, 1);
}

static void test_wake_status(void **state)
{
	struct fake_vm *vm = *state;
	struct pm *pm = vm->ctx.platform->pm;

	fake_vm_out(vm, PM1A_EVT_PORT + 2, 2, 0xffff & ~TMR);
	assert_false(pm_wake_pending(pm));
	pm_wake(pm);
	assert_int_equal(fake_vm_in(vm, PM1A_EVT_PORT, 2) & ~(uint64_t)TMR, WAK);
	assert_int_equal(fake_vm_in(vm, PM1A_EVT_PORT + 2, 2) & WAK, 0);
	assert_false(vm->level[PM_SCI_GSI]);
	assert_false(pm_wake_pending(pm));
	fake_vm_out(vm, PM1A_EVT_PORT, 2, WAK);
	assert_int_equal(fake_vm_in(vm, PM1A_EVT_PORT, 2) & WAK, 0);
	pm_power_button(pm);
	assert_true(pm_wake_pending(pm));
	fake_vm_out(vm, PM1A_EVT_PORT + 2, 2, 0);
	assert_false(pm_wake_pending(pm));
}

/* Have the RTC's alarm go off in the next second. */
static void ring_alarm(struct fake_vm *vm)
{
	set_clock(vm, B_24H, (struct clock) { 0x10, 0, 0, 0, 0x31, 0x12, 0x23, 0x20 });
	set_cmos(vm, SECONDS_ALARM, 0x11);
	set_cmos(vm, MINUTES_ALARM, 0xff);
	set_cmos(vm, HOURS_ALARM, 0xff);
	set_cmos(vm, REG_B, B_24H | B_AIE);
	cmos(vm, REG_C);
	fake_vm_wait(vm, vm->level[RTC_GSI]);
	cmos(vm, REG_C);
}

static void test_alarm_wakes(void **state)
{
	struct fake_vm *vm = *state;

	/* awake: a status bit, and an SCI if enabled */
	ring_alarm(vm);
	assert_int_equal(fake_vm_in(vm, PM1A_EVT_PORT, 2) & RTC_ALARM, RTC_ALARM);
	assert_false(vm->level[PM_SCI_GSI]);
	fake_vm_out(vm, PM1A_EVT_PORT, 2, RTC_ALARM);
	fake_vm_out(vm, PM1A_EVT_PORT + 2, 2, RTC_ALARM);
	ring_alarm(vm);
	assert_true(vm->level[PM_SCI_GSI]);
	fake_vm_out(vm, PM1A_EVT_PORT, 2, RTC_ALARM);
	assert_false(vm->level[PM_SCI_GSI]);
	assert_int_equal(fake_vm_request(vm), VM_REQUEST_NONE);
	/* asleep: it wakes, if enabled */
	vm->ctx.suspended = true;
	ring_alarm(vm);
	assert_int_equal(fake_vm_request(vm), VM_REQUEST_WAKE);
	fake_vm_out(vm, PM1A_EVT_PORT, 2, RTC_ALARM);
	fake_vm_out(vm, PM1A_EVT_PORT + 2, 2, 0);
	ring_alarm(vm);
	assert_int_equal(fake_vm_request(vm), VM_REQUEST_NONE);
	assert_int_equal(fake_vm_in(vm, PM1A_EVT_PORT, 2) & RTC_ALARM, RTC_ALARM);
	vm->ctx.suspended = false;
}

static void test_pm_timer(void **state)
{
	struct fake_vm *vm = *state;
	uint64_t start_ns, before, after, ticks, expected;

	start_ns = vm_clock_ns(&vm->ctx);
	before = fake_vm_in(vm, PM_TIMER_PORT, 4);
	usleep(200000);
	after = fake_vm_in(vm, PM_TIMER_PORT, 4);
	expected = (vm_clock_ns(&vm->ctx) - start_ns) * 3579545 / 1000000000;
	ticks = (after - before) & 0xffffff;
	assert_true(before < 1 << 24 && after < 1 << 24);
	assert_true(ticks <= expected && ticks + 3579 > expected * 99 / 100);
	/* the bytes are those of one counter; the ports behind it are nobody's */
	after = fake_vm_in(vm, PM_TIMER_PORT, 4);
	assert_true(((fake_vm_in(vm, PM_TIMER_PORT + 2, 1) - (after >> 16)) & 0xff) <= 1);
	assert_int_equal(fake_vm_in(vm, PM_TIMER_PORT + 3, 1), 0);
	fake_vm_out(vm, PM_TIMER_PORT, 4, 0);
	assert_true(((fake_vm_in(vm, PM_TIMER_PORT, 4) - after) & 0xffffff) < 0x10000);
	assert_int_equal(fake_vm_in(vm, PM_TIMER_PORT - 2, 2), 0);
}

/* Its highest bit changes every 2.3 seconds, which interrupts if enabled, once until acknowledged. */
static void test_pm_timer_carry(void **state)
{
	struct fake_vm *vm = *state;
	uint64_t half;

	fake_vm_out(vm, PM1A_EVT_PORT, 2, TMR);
	fake_vm_out(vm, PM1A_EVT_PORT + 2, 2, TMR);
	half = fake_vm_in(vm, PM_TIMER_PORT, 4) >> 23;
	assert_false(vm->level[PM_SCI_GSI]);
	fake_vm_wait(vm, vm->level[PM_SCI_GSI]);
	assert_int_not_equal(fake_vm_in(vm, PM_TIMER_PORT, 4) >> 23, half);
	assert_int_equal(fake_vm_in(vm, PM1A_EVT_PORT, 2), TMR);
	fake_vm_out(vm, PM1A_EVT_PORT, 2, TMR);
	assert_false(vm->level[PM_SCI_GSI]);
}

/* ---- Reset and exit ---- */

static void test_reset_register(void **state)
{
	struct fake_vm *vm = *state;

	fake_vm_out(vm, PM_RESET_PORT, 1, 0x02);
	assert_int_equal(fake_vm_request(vm), VM_REQUEST_NONE);
	assert_int_equal(fake_vm_in(vm, PM_RESET_PORT, 1), 0x02);
	fake_vm_out(vm, PM_RESET_PORT, 1, PM_RESET_VALUE);
	assert_int_equal(fake_vm_request(vm), VM_REQUEST_RESET);
	fake_vm_out(vm, PM_RESET_PORT, 1, 0x0e);
	assert_int_equal(fake_vm_request(vm), VM_REQUEST_RESET);
	fake_vm_out(vm, PM_RESET_PORT, 1, 0xf1);
	assert_int_equal(fake_vm_request(vm), VM_REQUEST_NONE);
	platform_reset(&vm->ctx);
	assert_int_equal(fake_vm_in(vm, PM_RESET_PORT, 1), 0);
}

static void test_keyboard_controller(void **state)
{
	struct fake_vm *vm = *state;

	/* no byte to read and ready for the next one, so nobody waits */
	assert_int_equal(fake_vm_in(vm, 0x64, 1), 0);
	assert_int_equal(fake_vm_in(vm, 0x60, 1), 0);
	fake_vm_out(vm, 0x64, 1, 0x20);
	fake_vm_out(vm, 0x64, 1, 0xaa);
	fake_vm_out(vm, 0x60, 1, 0xfe);
	fake_vm_out(vm, 0x64, 1, 0xff);
	assert_int_equal(fake_vm_request(vm), VM_REQUEST_NONE);
	fake_vm_out(vm, 0x64, 1, 0xfe);
	assert_int_equal(fake_vm_request(vm), VM_REQUEST_RESET);
	/* port 0x61 in between is another's */
	assert_int_equal(fake_vm_in(vm, 0x61, 1), 0xff);
}

static void test_debug_exit(void **state)
{
	struct fake_vm *vm;

	fake_vm_out(*state, 0xf4, 1, 3);
	assert_int_equal(fake_vm_request(*state), VM_REQUEST_NONE);
	assert_int_equal(fake_vm_in(*state, 0xf4, 1), 0xff);

	vm = fake_vm_create(true);
	assert_int_equal(platform_create(&vm->ctx), 0);
	fake_vm_out(vm, 0xf4, 1, 0x2a);
	assert_int_equal(vm->ctx.request_value, 0x2a);
	assert_int_equal(fake_vm_request(vm), VM_REQUEST_DEBUG_EXIT);
	fake_vm_out(vm, 0xf4, 4, 0x11);
	assert_int_equal(vm->ctx.request_value, 0x11);
	assert_int_equal(fake_vm_request(vm), VM_REQUEST_DEBUG_EXIT);
	fake_vm_out(vm, 0xf5, 1, 0x11);
	assert_int_equal(fake_vm_request(vm), VM_REQUEST_NONE);
	fake_vm_destroy(vm);
}

/* Two VMs in one process know nothing of each other; what is destroyed answers no more. */
static void test_two_vms(void **state)
{
	struct fake_vm *vm = *state, *other = fake_vm_create(false);

	assert_int_equal(platform_create(&other->ctx), 0);
	set_cmos(vm, 0x40, 1);
	set_cmos(other, 0x40, 2);
	assert_int_equal(cmos(vm, 0x40), 1);
	fake_vm_out(other, PM_RESET_PORT, 1, PM_RESET_VALUE);
	assert_int_equal(fake_vm_request(vm), VM_REQUEST_NONE);
	assert_int_equal(fake_vm_request(other), VM_REQUEST_RESET);
	platform_destroy(&other->ctx);
	assert_int_equal(fake_vm_in(other, PM1A_CNT_PORT, 2), 0xffff);
	assert_int_equal(fake_vm_in(other, 0x64, 1), 0xff);
	platform_destroy(&other->ctx);
	fake_vm_destroy(other);
}

#define platform_test(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		platform_test(test_rtc_is_host_time),
		platform_test(test_rtc_formats),
		platform_test(test_rtc_set),
		platform_test(test_rtc_halted),
		platform_test(test_rtc_hostile_dates),
		platform_test(test_rtc_update_in_progress),
		platform_test(test_rtc_update_interrupt),
		platform_test(test_rtc_alarm),
		platform_test(test_rtc_periodic),
		platform_test(test_rtc_periodic_is_paced_by_guest),
		platform_test(test_cmos_ram),
		platform_test(test_cmos_memory_size),
		platform_test(test_power_button),
		platform_test(test_pm_reset),
		platform_test(test_soft_off),
		platform_test(test_suspend),
		platform_test(test_wake_status),
		platform_test(test_alarm_wakes),
		platform_test(test_pm_timer),
		platform_test(test_pm_timer_carry),
		platform_test(test_reset_register),
		platform_test(test_keyboard_controller),
		platform_test(test_debug_exit),
		platform_test(test_two_vms),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
