/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is known as the firmware configuration device, as far as drivers without firmware ask it:
 * how much memory and how many CPUs there are. Only where no kernel is loaded (struct hv_ops,
 * no_cpus): one that is has ACPI and a memory map. All other items, the signature among them, are
 * zeros, and nothing can be written: there is no more to be found here.
 */
#include "platform.h"

#include <linux/qemu_fw_cfg.h>

#include <errno.h>
#include <stdlib.h>

#define FW_CFG_PORT 0x510 /* the selector, 16 bits; the data, a byte at a time, is in the next */
#define FW_CFG_PORTS 2

/* @item: the one selected; @position: of the next byte in it */
struct fw_cfg {
	struct vmctx *ctx;
	pthread_mutex_t lock;
	uint16_t item;
	unsigned int position;
	struct io_range range;
};

static uint64_t item_value(const struct fw_cfg *fw_cfg)
{
	switch (fw_cfg->item) {
	case FW_CFG_RAM_SIZE:
		return fw_cfg->ctx->memory.total;
	case FW_CFG_NB_CPUS:
		return fw_cfg->ctx->config.cpu_count;
	default:
		return 0;
	}
}

static uint64_t fw_cfg_read(void *arg, uint64_t offset, unsigned int size)
{
	struct fw_cfg *fw_cfg = arg;
	uint64_t value = 0;

	if (offset != 1)
		return 0;
	pthread_mutex_lock(&fw_cfg->lock);
	if (fw_cfg->position < sizeof(value))
		value = item_value(fw_cfg) >> 8 * fw_cfg->position++;
	pthread_mutex_unlock(&fw_cfg->lock);
	return value & 0xff;
}

static void fw_cfg_write(void *arg, uint64_t offset, unsigned int size, uint64_t value)
{
	struct fw_cfg *fw_cfg = arg;

	if (offset || size != 2)
		return;
	pthread_mutex_lock(&fw_cfg->lock);
	fw_cfg->item = (uint16_t)value;
	fw_cfg->position = 0;
	pthread_mutex_unlock(&fw_cfg->lock);
}

static const struct io_range_ops fw_cfg_ops = { .read = fw_cfg_read, .write = fw_cfg_write };

struct fw_cfg *fw_cfg_create(struct vmctx *ctx)
{
	struct fw_cfg *fw_cfg = calloc(1, sizeof(*fw_cfg));
	int error;

	if (!fw_cfg) {
		log_error(ctx->log, "%s: out of memory", ctx->config.name);
		return NULL;
	}
	fw_cfg->ctx = ctx;
	pthread_mutex_init(&fw_cfg->lock, NULL);
	fw_cfg->range = (struct io_range) {
		.name = "fw_cfg",
		.base = FW_CFG_PORT,
		.size = FW_CFG_PORTS,
		.ops = &fw_cfg_ops,
		.arg = fw_cfg,
	};
	error = io_space_add(&ctx->pio, &fw_cfg->range);
	if (!error)
		return fw_cfg;
	log_error(ctx->log, "%s: cannot create the fw_cfg ports: %s", ctx->config.name,
		  strerror(-error));
	fw_cfg_destroy(fw_cfg);
	errno = -error;
	return NULL;
}

void fw_cfg_destroy(struct fw_cfg *fw_cfg)
{
	if (!fw_cfg)
		return;
	io_space_remove(&fw_cfg->ctx->pio, &fw_cfg->range);
	pthread_mutex_destroy(&fw_cfg->lock);
	free(fw_cfg);
}

void fw_cfg_reset(struct fw_cfg *fw_cfg)
{
	if (!fw_cfg)
		return;
	pthread_mutex_lock(&fw_cfg->lock);
	fw_cfg->item = 0;
	fw_cfg->position = 0;
	pthread_mutex_unlock(&fw_cfg->lock);
}
