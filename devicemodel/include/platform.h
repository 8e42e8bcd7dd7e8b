/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * platform.h: what a PC has besides PCI: UARTs, RTC, power management, reset ports, debug exit.
 * Each part is a file in hw/platform/ with a create, reset and destroy; struct platform holds them.
 */
#ifndef TENON_PLATFORM_H
#define TENON_PLATFORM_H

#include "dm.h"

#define PLATFORM_UARTS 4
#define PLATFORM_GSIS 24

struct uart;
struct rtc;
struct pm;
struct pit;
struct hpet;
struct pirq;
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
 * @pit, @hpet: NULL unless ctx->needs_timers
 * @fw_cfg: NULL unless the port has no CPUs
 * @i8042_data, @i8042_command: ports 0x60 and 0x64, all that is there of a keyboard controller
 * @irq_lock, @irq_sources: per line, who of those that share it asserts it
 * @irq_blocked: who of them is not connected
 */
struct platform {
	struct uart *uart[PLATFORM_UARTS];
	struct rtc *rtc;
	struct pm *pm;
	struct pit *pit;
	struct hpet *hpet;
	struct pirq *pirq;
	struct fw_cfg *fw_cfg;
	struct io_range i8042_data, i8042_command, debug_exit;
	pthread_mutex_t irq_lock;
	uint8_t irq_sources[PLATFORM_GSIS], irq_blocked[PLATFORM_GSIS];
};

/** platform_create() - RTC, PM, reset ports (and the debug-exit port if configured): ctx->platform. 0 or -errno, logged. */
int platform_create(struct vmctx *ctx) __must_check;
void platform_destroy(struct vmctx *ctx);
void platform_reset(struct vmctx *ctx);

/** platform_add_uart() - the argument of -l: "com1,BACKEND". 0 or -errno after one log line. */
int platform_add_uart(struct vmctx *ctx, const char *spec) __must_check;

/* Who drives a line: uarts have their indices, who has an ISA interrupt to itself is the default. */
#define PLATFORM_IRQ_DEFAULT 0
#define PLATFORM_IRQ_HPET 4 /* and the two behind it, one a comparator */
#define PLATFORM_IRQ_PCI 7

/**
 * platform_irq() - level of GSI @gsi as far as @source (0..7) is concerned: the line is the wired-or
 * of all its sources. Any thread.
 */
void platform_irq(struct vmctx *ctx, unsigned int gsi, unsigned int source, bool level);

/** platform_irq_block() - from now on the line @gsi has @source's level, or (@blocked) not. Any thread. */
void platform_irq_block(struct vmctx *ctx, unsigned int gsi, unsigned int source, bool blocked);

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
#define PM_SLEEP_TYPE_S3 3
#define PM_SLEEP_TYPE_S5 5

/** pm_create() - NULL with errno after one log line. */
struct pm *pm_create(struct vmctx *ctx) __must_check;
void pm_destroy(struct pm *pm);
void pm_reset(struct pm *pm);

/** pm_power_button() - set PWRBTN_STS and raise the SCI if enabled; any thread. */
void pm_power_button(struct pm *pm);

/** pm_rtc_alarm() - the same for RTC_STS; and it wakes a VM that is suspended if enabled. NULL is harmless. */
void pm_rtc_alarm(struct pm *pm);

/** pm_wake_pending() - is a wake event enabled that happened and that the guest has not cleared? */
bool pm_wake_pending(struct pm *pm);

/** pm_wake() - the guest wakes up from a sleep state: WAK_STS. */
void pm_wake(struct pm *pm);

/** pit.c: an 8254 at ports 0x40-0x43, ISA interrupt 0, and port 0x61. NULL with errno after one log line. */
struct pit *pit_create(struct vmctx *ctx) __must_check;
void pit_destroy(struct pit *pit);
void pit_reset(struct pit *pit);

/** hpet.c: an HPET with three comparators, 10 MHz. NULL with errno after one log line. */
#define HPET_BASE UINT64_C(0xfed00000)
#define HPET_ID 0x8086a201 /* also for the ACPI table: 64 bits, three comparators, legacy routing */
#define HPET_CLOCK_FS 100000000
#define HPET_MINIMUM_TICK 1000 /* clocks: it interrupts no faster */
#define HPET_SIZE 0x400
struct hpet *hpet_create(struct vmctx *ctx) __must_check;
void hpet_destroy(struct hpet *hpet);
void hpet_reset(struct hpet *hpet);

/**
 * pirq.c: the router of the PCI interrupt lines, which devices drive through pci_core.h. NULL with
 * errno after one log line.
 */
#define PIRQ_LINES 8
#define PIRQ_GSI_BASE 16 /* line n is always this GSI + n as well */
#define PIRQ_ROUTE_OFF 0x80
struct pirq *pirq_create(struct vmctx *ctx) __must_check;
void pirq_destroy(struct pirq *pirq);
void pirq_reset(struct pirq *pirq);

/** pirq_set_line() - level of line @line (0..7); any thread. */
void pirq_set_line(struct pirq *pirq, unsigned int line, bool level);

/** pirq_set_route() - a route register: an ISA interrupt, or bit 7: none. Any thread. */
void pirq_set_route(struct pirq *pirq, unsigned int line, uint8_t route);

/** fw_cfg.c: memory size and CPU count for drivers without firmware. NULL with errno after one log line. */
struct fw_cfg *fw_cfg_create(struct vmctx *ctx) __must_check;
void fw_cfg_destroy(struct fw_cfg *fw_cfg);
void fw_cfg_reset(struct fw_cfg *fw_cfg);

#endif
