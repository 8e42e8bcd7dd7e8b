/* SPDX-License-Identifier: BSD-3-Clause */
/* The MC146818's clock and calendar registers as numbers, and when its alarm is due. */
#include "rtc_time.h"

#include <time.h>

#include "platform.h"

#define RTC_PM 0x80 /* in the hours of the 12-hour mode */
#define RTC_ANY 0xc0 /* an alarm register with both bits set matches anything */
#define ANY -1

static uint8_t number_encode(uint8_t reg_b, unsigned int number)
{
	if (reg_b & RTC_B_BINARY)
		return (uint8_t)number;
	return (uint8_t)(number / 10 % 10 << 4 | number % 10);
}

static int number_decode(uint8_t reg_b, uint8_t value)
{
	if (reg_b & RTC_B_BINARY)
		return value;
	return (value >> 4) * 10 + (value & 0x0f);
}

static uint8_t hours_encode(uint8_t reg_b, unsigned int hour)
{
	uint8_t twelve;

	if (reg_b & RTC_B_24H)
		return number_encode(reg_b, hour);
	twelve = number_encode(reg_b, hour % 12 ? hour % 12 : 12);
	return hour >= 12 ? twelve | RTC_PM : twelve;
}

static int hours_decode(uint8_t reg_b, uint8_t value)
{
	if (reg_b & RTC_B_24H)
		return number_decode(reg_b, value);
	return number_decode(reg_b, value & (uint8_t)~RTC_PM) % 12 + (value & RTC_PM ? 12 : 0);
}

void rtc_time_encode(uint8_t *cmos, uint8_t reg_b, int64_t seconds)
{
	time_t time = (time_t)seconds;
	struct tm tm;
	unsigned int year;

	if (!gmtime_r(&time, &tm))
		memset(&tm, 0, sizeof(tm));
	year = (unsigned int)(tm.tm_year + 1900);
	cmos[RTC_SECONDS] = number_encode(reg_b, (unsigned int)tm.tm_sec);
	cmos[RTC_MINUTES] = number_encode(reg_b, (unsigned int)tm.tm_min);
	cmos[RTC_HOURS] = hours_encode(reg_b, (unsigned int)tm.tm_hour);
	cmos[RTC_DAY_OF_WEEK] = number_encode(reg_b, (unsigned int)tm.tm_wday + 1);
	cmos[RTC_DAY_OF_MONTH] = number_encode(reg_b, (unsigned int)tm.tm_mday);
	cmos[RTC_MONTH] = number_encode(reg_b, (unsigned int)tm.tm_mon + 1);
	cmos[RTC_YEAR] = number_encode(reg_b, year % 100);
	cmos[RTC_CENTURY_REGISTER] = number_encode(reg_b, year / 100);
}

int64_t rtc_time_decode(const uint8_t *cmos, uint8_t reg_b)
{
	int year = number_decode(reg_b, cmos[RTC_CENTURY_REGISTER]) * 100 +
		   number_decode(reg_b, cmos[RTC_YEAR]);
	struct tm tm = {
		.tm_sec = number_decode(reg_b, cmos[RTC_SECONDS]),
		.tm_min = number_decode(reg_b, cmos[RTC_MINUTES]),
		.tm_hour = hours_decode(reg_b, cmos[RTC_HOURS]),
		.tm_mday = number_decode(reg_b, cmos[RTC_DAY_OF_MONTH]),
		.tm_mon = number_decode(reg_b, cmos[RTC_MONTH]) - 1,
		.tm_year = year - 1900,
	};

	return (int64_t)timegm(&tm);
}

/* The first value from @from on, below @limit, that @alarm matches, or -1. */
static int first_match(int alarm, int from, int limit)
{
	if (alarm == ANY)
		return from < limit ? from : -1;
	return alarm >= from && alarm < limit ? alarm : -1;
}

/* The first matching second of the day from @from on, or -1. */
static int alarm_in_day(const int *alarm, int from)
{
	int hour = from / 3600, minute = from / 60 % 60, second = from % 60;

	/* this minute, then the rest of this hour, then the rest of the day */
	if (first_match(alarm[0], hour, hour + 1) >= 0) {
		if (first_match(alarm[1], minute, minute + 1) >= 0 &&
		    first_match(alarm[2], second, 60) >= 0)
			return hour * 3600 + minute * 60 + first_match(alarm[2], second, 60);
		minute = first_match(alarm[1], minute + 1, 60);
		if (minute >= 0)
			return hour * 3600 + minute * 60 + first_match(alarm[2], 0, 60);
	}
	hour = first_match(alarm[0], hour + 1, 24);
	if (hour < 0)
		return -1;
	return hour * 3600 + first_match(alarm[1], 0, 60) * 60 + first_match(alarm[2], 0, 60);
}

int64_t rtc_alarm_next(const uint8_t *cmos, uint8_t reg_b, int64_t seconds)
{
	static const uint8_t registers[] = { RTC_HOURS_ALARM, RTC_MINUTES_ALARM,
					     RTC_SECONDS_ALARM };
	static const int limits[] = { 24, 60, 60 };
	int64_t start = seconds + 1, day;
	int alarm[3], found;

	for (unsigned int i = 0; i < ARRAY_SIZE(alarm); i++) {
		uint8_t value = cmos[registers[i]];

		alarm[i] = i ? number_decode(reg_b, value) : hours_decode(reg_b, value);
		if ((value & RTC_ANY) == RTC_ANY)
			alarm[i] = ANY;
		if (alarm[i] >= limits[i])
			return INT64_MAX;
	}
	day = start - ((start % RTC_DAY_SECONDS) + RTC_DAY_SECONDS) % RTC_DAY_SECONDS;
	found = alarm_in_day(alarm, (int)(start - day));
	if (found < 0)
		return day + RTC_DAY_SECONDS + alarm_in_day(alarm, 0);
	return day + found;
}
