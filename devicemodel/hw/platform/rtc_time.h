/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rtc_time.h: the MC146818's clock and calendar registers as numbers: BCD or binary, 12 or 24 hours.
 * No state, no clock of its own; all values may come from a guest.
 */
#ifndef TENON_RTC_TIME_H
#define TENON_RTC_TIME_H

#include "util.h"

/* Registers (Motorola MC146818A data sheet, figure 12) */
#define RTC_SECONDS 0x00
#define RTC_SECONDS_ALARM 0x01
#define RTC_MINUTES 0x02
#define RTC_MINUTES_ALARM 0x03
#define RTC_HOURS 0x04
#define RTC_HOURS_ALARM 0x05
#define RTC_DAY_OF_WEEK 0x06
#define RTC_DAY_OF_MONTH 0x07
#define RTC_MONTH 0x08
#define RTC_YEAR 0x09
#define RTC_REG_A 0x0a
#define RTC_REG_B 0x0b
#define RTC_REG_C 0x0c
#define RTC_REG_D 0x0d

/* Register B: the format of the others */
#define RTC_B_24H 0x02
#define RTC_B_BINARY 0x04

#define RTC_DAY_SECONDS 86400

/**
 * rtc_time_encode() - @seconds since 1970 (UTC) into the time registers and the century of @cmos, in
 * the format that @reg_b names.
 */
void rtc_time_encode(uint8_t *cmos, uint8_t reg_b, int64_t seconds);

/** rtc_time_decode() - the other way; what cannot be a date counts on into the next month or year. */
int64_t rtc_time_decode(const uint8_t *cmos, uint8_t reg_b);

/**
 * rtc_alarm_next() - the first second after @seconds at which the alarm registers of @cmos match
 * (0xc0..0xff match anything). Return: it, or INT64_MAX if they never do.
 */
int64_t rtc_alarm_next(const uint8_t *cmos, uint8_t reg_b, int64_t seconds);

#endif
