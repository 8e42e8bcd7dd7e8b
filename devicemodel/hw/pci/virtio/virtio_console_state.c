/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-console's saved state: what the driver was told and has opened, what is half sent, output
 * that the host has not taken, and input that the host has sent and the guest has not taken.
 */
#include "virtio_console.h"

static uint32_t port_count(const void *object)
{
	const struct virtio_console *console = object;

	return console->port_count;
}

static uint32_t port_input_len(const void *object)
{
	const struct console_port *port = object;

	return port->input_len;
}

static uint32_t output_len(const void *object)
{
	const struct virtio_console *console = object;

	return (uint32_t)console->output_len;
}

#define PORT(member) STATE_FIELD(struct console_port, member)

static const struct state_field port_fields[] = {
	{ STATE_BYTES(struct console_port, name), .match = true, .text = true,
	  .hint = "give the device the ports it had" },
	{ PORT(tx_done) },
	{ PORT(pending), .max = BIT32(CONSOLE_MESSAGES) - 1 },
	{ PORT(added) },
	{ PORT(ready) },
	{ PORT(guest_open) },
	{ PORT(host_open) },
	{ PORT(input_len), .max = CHAR_INPUT_MAX },
	{ STATE_BYTES(struct console_port, input), .count_of = port_input_len },
	{},
};

#define CONSOLE(member) STATE_FIELD(struct virtio_console, member)

static const struct state_field console_fields[] = {
	{ CONSOLE(port_count), .match = true, .hint = "give the device the ports it had" },
	{ STATE_ARRAY(struct virtio_console, ports), .count_of = port_count,
	  .fields = port_fields },
	{ CONSOLE(dropped) },
	{ CONSOLE(output_len), .max = CONSOLE_OUTPUT_SIZE },
	{ STATE_BYTES(struct virtio_console, output), .count_of = output_len },
	{},
};

#define CONSOLE_CONFIG(member) STATE_FIELD(struct virtio_console_config, member)

const struct state_field console_config_state[] = {
	{ CONSOLE_CONFIG(cols) },
	{ CONSOLE_CONFIG(rows) },
	{ CONSOLE_CONFIG(max_nr_ports), .match = true },
	{},
};

static void bytes_reverse(uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len / 2; i++) {
		uint8_t byte = bytes[i];

		bytes[i] = bytes[len - 1 - i];
		bytes[len - 1 - i] = byte;
	}
}

/* The output ring starts at 0: turned by reversing it in two parts and as a whole. */
static void console_saving(void *dev)
{
	struct virtio_console *console = dev;

	bytes_reverse(console->output, console->output_start);
	bytes_reverse(console->output + console->output_start,
		      CONSOLE_OUTPUT_SIZE - console->output_start);
	bytes_reverse(console->output, CONSOLE_OUTPUT_SIZE);
	console->output_start = 0;
	for (unsigned int i = 0; i < console->port_count; i++) {
		struct console_port *port = &console->ports[i];

		port->input_len =
			(uint32_t)char_copy_input(port->chr, port->input, sizeof(port->input));
	}
}

static void console_loaded(void *dev)
{
	struct virtio_console *console = dev;

	console->output_start = 0;
	for (unsigned int i = 0; i < console->port_count; i++) {
		struct console_port *port = &console->ports[i];

		char_restore_input(port->chr, port->input, port->input_len);
	}
}

const struct state_desc console_state = {
	.name = "virtio-console",
	.version = 1,
	.fields = console_fields,
	.saving = console_saving,
	.loaded = console_loaded,
};
