/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * platform.h: what a PC has besides PCI: UARTs, RTC, power management, reset ports, debug exit.
 * Each part is a file in hw/platform/ with a create, reset and destroy; struct platform holds them.
 */
#ifndef TENON_PLATFORM_H
#define TENON_PLATFORM_H

#include "dm.h"

#define PLATFORM_UARTS 4

struct uart;
struct rtc;
struct pm;

struct platform {
	struct uart *uart[PLATFORM_UARTS]; /* com1..com4, NULL if not asked for */
	struct rtc *rtc;
	struct pm *pm;
	struct io_range i8042, debug_exit;
};

/** platform_create() - RTC, PM, reset ports (and the debug-exit port if configured): ctx->platform. 0 or -errno, logged. */
int platform_create(struct vmctx *ctx) __must_check;
void platform_destroy(struct vmctx *ctx);
void platform_reset(struct vmctx *ctx);

/** platform_add_uart() - the argument of -l: "com1,BACKEND". 0 or -errno after one log line. */
int platform_add_uart(struct vmctx *ctx, const char *spec) __must_check;

/** uart.c: a 16550A at its ISA port and GSI. */
struct uart *uart_create(struct vmctx *ctx, unsigned int index, const char *backend);
void uart_destroy(struct uart *uart);
void uart_reset(struct uart *uart);

/** rtc.c: an MC146818 with CMOS RAM at ports 0x70-0x71, GSI 8. */
struct rtc *rtc_create(struct vmctx *ctx);
void rtc_destroy(struct rtc *rtc);
void rtc_reset(struct rtc *rtc);

/**
 * pm.c: ACPI fixed hardware (ACPI 6.5, 4.8): PM1a event and control block, PM timer, SCI, and the
 * reset register at 0xCF9.
 */
#define PM_SCI_GSI 9
#define PM1A_EVT_PORT 0x600
#define PM1A_CNT_PORT 0x604
#define PM_TIMER_PORT 0x608
#define PM_RESET_PORT 0xcf9
#define PM_RESET_VALUE 0x06
#define PM_SLEEP_TYPE_S5 5

struct pm *pm_create(struct vmctx *ctx);
void pm_destroy(struct pm *pm);
void pm_reset(struct pm *pm);

/** pm_power_button() - set PWRBTN_STS and raise the SCI if enabled; any thread. */
void pm_power_button(struct pm *pm);

#endif
