/* SPDX-License-Identifier: BSD-3-Clause */
/* What a PC has besides PCI, put together; and its smallest parts: i8042 reset, debug exit. */
#include "platform.h"

#include <errno.h>
#include <stdlib.h>

#define I8042_DATA_PORT 0x60
#define I8042_COMMAND_PORT 0x64
#define I8042_PULSE_MASK 0xf1 /* commands 0xf0..0xff pulse the output lines whose bit is 0 ... */
#define I8042_PULSE_RESET 0xf0 /* ... and bit 0 is the CPU's reset line */

#define DEBUG_EXIT_PORT 0xf4
#define DEBUG_EXIT_PORTS 4

/* ---- For the parts ---- */

static uint64_t register_mask(unsigned int size)
{
	return BIT64(size * 8) - 1;
}

uint64_t platform_registers_read(const struct platform_register *table, size_t count, void *arg,
				 uint64_t offset, unsigned int size)
{
	uint64_t value = 0;

	for (size_t i = 0; i < count; i++) {
		uint64_t base = table[i].offset, part;

		if (!table[i].read || base + table[i].size <= offset || base >= offset + size)
			continue;
		part = table[i].read(arg) & register_mask(table[i].size);
		value |= base < offset ? part >> 8 * (offset - base) : part << 8 * (base - offset);
	}
	return value;
}

void platform_registers_write(const struct platform_register *table, size_t count, void *arg,
			      uint64_t offset, unsigned int size, uint64_t value)
{
	uint64_t written = size < 8 ? register_mask(size) : UINT64_MAX;

	for (size_t i = 0; i < count; i++) {
		uint64_t base = table[i].offset, part, mask;

		if (!table[i].write || base + table[i].size <= offset || base >= offset + size)
			continue;
		if (base < offset) {
			part = value << 8 * (offset - base);
			mask = written << 8 * (offset - base);
		} else {
			part = value >> 8 * (base - offset);
			mask = written >> 8 * (base - offset);
		}
		mask &= register_mask(table[i].size);
		table[i].write(arg, (uint32_t)(part & mask), (uint32_t)mask);
	}
}

/* Set or clear the bit of @source in @set, a field of @gsi's, and have the line follow. */
static void irq_change(struct vmctx *ctx, unsigned int gsi, uint8_t *set, unsigned int source,
		       bool on)
{
	struct platform *platform = ctx->platform;
	bool before, after;

	pthread_mutex_lock(&platform->irq_lock);
	before = platform->irq_sources[gsi] & ~platform->irq_blocked[gsi];
	if (on)
		*set |= (uint8_t)BIT32(source);
	else
		*set &= (uint8_t)~BIT32(source);
	after = platform->irq_sources[gsi] & ~platform->irq_blocked[gsi];
	if (before != after)
		(void)vm_irq_line(ctx, gsi, after);
	pthread_mutex_unlock(&platform->irq_lock);
}

void platform_irq(struct vmctx *ctx, unsigned int gsi, unsigned int source, bool level)
{
	irq_change(ctx, gsi, &ctx->platform->irq_sources[gsi], source, level);
}

void platform_irq_block(struct vmctx *ctx, unsigned int gsi, unsigned int source, bool blocked)
{
	irq_change(ctx, gsi, &ctx->platform->irq_blocked[gsi], source, blocked);
}

/* ---- The i8042: no keyboard and no mouse, but the command by which a PC resets itself ---- */

/* Status 0: no byte to read, ready for the next. Who waits for an answer gives up by himself. */
static uint64_t i8042_read(void *arg, uint64_t offset, unsigned int size)
{
	return 0;
}

static void i8042_command(void *arg, uint64_t offset, unsigned int size, uint64_t value)
{
	if ((value & I8042_PULSE_MASK) == I8042_PULSE_RESET)
		vm_request(arg, VM_REQUEST_RESET, 0);
}

static const struct io_range_ops i8042_data_ops = { .read = i8042_read };
static const struct io_range_ops i8042_command_ops = { .read = i8042_read, .write = i8042_command };

/* ---- Debug exit: the value written becomes part of tenon's exit status ---- */

static uint64_t debug_exit_read(void *arg, uint64_t offset, unsigned int size)
{
	return 0;
}

static void debug_exit_write(void *arg, uint64_t offset, unsigned int size, uint64_t value)
{
	if (!offset)
		vm_request(arg, VM_REQUEST_DEBUG_EXIT, (unsigned int)value);
}

static const struct io_range_ops debug_exit_ops = {
	.read = debug_exit_read,
	.write = debug_exit_write,
};

/* ---- All together ---- */

static int platform_create_ports(struct vmctx *ctx)
{
	struct platform *platform = ctx->platform;
	int error;

	platform->i8042_data = (struct io_range) {
		.name = "i8042 data",
		.base = I8042_DATA_PORT,
		.size = 1,
		.ops = &i8042_data_ops,
		.arg = ctx,
	};
	platform->i8042_command = (struct io_range) {
		.name = "i8042 command",
		.base = I8042_COMMAND_PORT,
		.size = 1,
		.ops = &i8042_command_ops,
		.arg = ctx,
	};
	platform->debug_exit = (struct io_range) {
		.name = "debug exit",
		.base = DEBUG_EXIT_PORT,
		.size = DEBUG_EXIT_PORTS,
		.ops = &debug_exit_ops,
		.arg = ctx,
	};
	error = io_space_add(&ctx->pio, &platform->i8042_data);
	if (!error)
		error = io_space_add(&ctx->pio, &platform->i8042_command);
	if (!error && ctx->config.debug_exit)
		error = io_space_add(&ctx->pio, &platform->debug_exit);
	if (error)
		log_error(ctx->log, "%s: cannot create the platform's ports: %s", ctx->config.name,
			  strerror(-error));
	return error;
}

static int platform_create_parts(struct vmctx *ctx)
{
	struct platform *platform = ctx->platform;

	platform->rtc = rtc_create(ctx);
	if (!platform->rtc)
		return -errno;
	platform->pm = pm_create(ctx);
	if (!platform->pm)
		return -errno;
	platform->pirq = pirq_create(ctx);
	if (!platform->pirq)
		return -errno;
	if (ctx->needs_timers) {
		platform->pit = pit_create(ctx);
		if (!platform->pit)
			return -errno;
		platform->hpet = hpet_create(ctx);
		if (!platform->hpet)
			return -errno;
	}
	if (ctx->hv->no_cpus) {
		platform->fw_cfg = fw_cfg_create(ctx);
		if (!platform->fw_cfg)
			return -errno;
	}
	return platform_create_ports(ctx);
}

int platform_create(struct vmctx *ctx)
{
	int error;

	ctx->platform = calloc(1, sizeof(*ctx->platform));
	if (!ctx->platform) {
		log_error(ctx->log, "%s: out of memory", ctx->config.name);
		return -ENOMEM;
	}
	pthread_mutex_init(&ctx->platform->irq_lock, NULL);
	error = platform_create_parts(ctx);
	if (error)
		platform_destroy(ctx);
	return error;
}

void platform_destroy(struct vmctx *ctx)
{
	struct platform *platform = ctx->platform;

	if (!platform)
		return;
	io_space_remove(&ctx->pio, &platform->debug_exit);
	io_space_remove(&ctx->pio, &platform->i8042_command);
	io_space_remove(&ctx->pio, &platform->i8042_data);
	for (unsigned int i = 0; i < PLATFORM_UARTS; i++)
		uart_destroy(platform->uart[i]);
	fw_cfg_destroy(platform->fw_cfg);
	hpet_destroy(platform->hpet);
	pirq_destroy(platform->pirq);
	pit_destroy(platform->pit);
	pm_destroy(platform->pm);
	rtc_destroy(platform->rtc);
	pthread_mutex_destroy(&platform->irq_lock);
	free(platform);
	ctx->platform = NULL;
}

void platform_reset(struct vmctx *ctx)
{
	struct platform *platform = ctx->platform;

	for (unsigned int i = 0; i < PLATFORM_UARTS; i++)
		uart_reset(platform->uart[i]);
	rtc_reset(platform->rtc);
	pm_reset(platform->pm);
	pit_reset(platform->pit);
	hpet_reset(platform->hpet);
	pirq_reset(platform->pirq);
	fw_cfg_reset(platform->fw_cfg);
}

/* "com1".."com4" to 0..3, or -EINVAL. */
static int uart_index_parse(const char *name, size_t len)
{
	if (len != 4 || strncmp(name, "com", 3) || name[3] < '1' || name[3] > '0' + PLATFORM_UARTS)
		return -EINVAL;
	return name[3] - '1';
}

int platform_add_uart(struct vmctx *ctx, const char *spec)
{
	int len = (int)strcspn(spec, ",");
	int index = uart_index_parse(spec, (size_t)len);
	struct uart **uart;

	if (index < 0) {
		log_error(ctx->log, "-l %s: no such port \"%.*s\" (com1 to com%d)", spec, len, spec,
			  PLATFORM_UARTS);
		return -EINVAL;
	}
	uart = &ctx->platform->uart[index];
	if (*uart) {
		log_error(ctx->log, "-l %s: com%d was given before, use another port", spec,
			  index + 1);
		return -EEXIST;
	}
	if (!spec[len] || !spec[len + 1]) {
		log_error(ctx->log, "-l %s: back end missing, add one: \"com%d,BACKEND\"", spec,
			  index + 1);
		return -EINVAL;
	}
	*uart = uart_create(ctx, (unsigned int)index, spec + len + 1);
	return *uart ? 0 : -errno;
}
