/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * platform.h: what a PC has besides PCI: UARTs, RTC, power management, reset ports, debug exit.
 * Each part is a file in hw/platform/ with a create, reset and destroy; struct platform holds them.
 */
#ifndef TENON_PLATFORM_H
#define TENON_PLATFORM_H

#include "dm.h"

#define PLATFORM_UARTS 4
#define PLATFORM_ISA_IRQS 16

struct uart;
struct rtc;
struct pm;
struct fw_cfg;

/** struct platform_uart_place - where an UART is: @ports ports from @port on, interrupt @gsi. */
struct platform_uart_place {
	uint16_t port;
	uint8_t ports;
	uint8_t gsi;
};

/** As in a PC/AT: com1 and com3 share an interrupt, com2 and com4 do (uart.c). */
extern const struct platform_uart_place platform_uart_places[PLATFORM_UARTS];

/**
 * struct platform
 * @uart: com1..com4, NULL if not asked for
 * @fw_cfg: NULL unless the port has no CPUs
 * @i8042_data, @i8042_command: ports 0x60 and 0x64, all that is there of a keyboard controller
 * @irq_lock, @irq_sources: per ISA interrupt, who of those that share it asserts it
 */
struct platform {
	struct uart *uart[PLATFORM_UARTS];
	struct rtc *rtc;
	struct pm *pm;
	struct fw_cfg *fw_cfg;
	struct io_range i8042_data, i8042_command, debug_exit;
	pthread_mutex_t irq_lock;
	uint8_t irq_sources[PLATFORM_ISA_IRQS];
};

/** platform_create() - RTC, PM, reset ports (and the debug-exit port if configured): ctx->platform. 0 or -errno, logged. */
int platform_create(struct vmctx *ctx) __must_check;
void platform_destroy(struct vmctx *ctx);
void platform_reset(struct vmctx *ctx);

/** platform_add_uart() - the argument of -l: "com1,BACKEND". 0 or -errno after one log line. */
int platform_add_uart(struct vmctx *ctx, const char *spec) __must_check;

/**
 * platform_isa_irq() - level of the ISA interrupt @gsi as far as @source (0..7) is concerned: the
 * line is the wired-or of all its sources. Any thread.
 */
void platform_isa_irq(struct vmctx *ctx, unsigned int gsi, unsigned int source, bool level);

/**
 * struct platform_register - one register of a table.
 * @offset, @size: where in the range; 1, 2 or 4 bytes
 * @read, @write: @mask has the bits that are written; NULL: reads as 0, ignores writes
 */
struct platform_register {
	uint8_t offset;
	uint8_t size;
	uint32_t (*read)(void *arg);
	void (*write)(void *arg, uint32_t value, uint32_t mask);
};

/**
 * platform_registers_read() / platform_registers_write() - an access to a table of registers, of
 * whatever size and alignment: each register it touches is read or written once. Gaps read as 0.
 */
uint64_t platform_registers_read(const struct platform_register *table, size_t count, void *arg,
				 uint64_t offset, unsigned int size);
void platform_registers_write(const struct platform_register *table, size_t count, void *arg,
			      uint64_t offset, unsigned int size, uint64_t value);

/** uart.c: a 16550A at its ISA port and GSI. NULL with errno after one log line. */
struct uart *uart_create(struct vmctx *ctx, unsigned int index, const char *backend) __must_check;
void uart_destroy(struct uart *uart);
void uart_reset(struct uart *uart);

/** rtc.c: an MC146818 with CMOS RAM at ports 0x70-0x71, GSI 8. NULL with errno after one log line. */
#define RTC_CENTURY_REGISTER 0x32 /* for the FADT */
struct rtc *rtc_create(struct vmctx *ctx) __must_check;
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
#define PM_TIMER_BITS 24 /* the FADT's TMR_VAL_EXT is clear */
#define PM_RESET_PORT 0xcf9
#define PM_RESET_VALUE 0x06
#define PM_SLEEP_TYPE_S5 5

/** pm_create() - NULL with errno after one log line. */
struct pm *pm_create(struct vmctx *ctx) __must_check;
void pm_destroy(struct pm *pm);
void pm_reset(struct pm *pm);

/** pm_power_button() - set PWRBTN_STS and raise the SCI if enabled; any thread. */
void pm_power_button(struct pm *pm);

/** fw_cfg.c: memory size and CPU count for drivers without firmware. NULL with errno after one log line. */
struct fw_cfg *fw_cfg_create(struct vmctx *ctx) __must_check;
void fw_cfg_destroy(struct fw_cfg *fw_cfg);
void fw_cfg_reset(struct fw_cfg *fw_cfg);

#endif
