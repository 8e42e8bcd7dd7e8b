/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio_console.h: what the two files of virtio-console share: virtio_console.c (the device and
 * the data queues) and virtio_console_ctrl.c (the multiport control protocol).
 */
#ifndef TENON_VIRTIO_CONSOLE_H
#define TENON_VIRTIO_CONSOLE_H

#include <linux/virtio_console.h>

#include "char_backend.h"
#include "virtio.h"

#define CONSOLE_NAMED_PORTS_MAX 31
#define CONSOLE_PORTS_MAX (1 + CONSOLE_NAMED_PORTS_MAX)
#define CONSOLE_PORT_NAME_MAX 64
#define CONSOLE_QUEUE_SIZE 128
#define CONSOLE_IOVS (CONSOLE_QUEUE_SIZE + GUEST_MEMORY_REGIONS)
#define CONSOLE_TX_IOVS 1024 /* Linux makes chains longer than the queue of a program's splice() */
#define CONSOLE_OUTPUT_SIZE 65536

/* Queues (virtio 1.4, 5.3.2): port 0 has 0 and 1, control 2 and 3, port n 2n + 2 and 2n + 3. */
#define CONSOLE_CONTROL_RX 2
#define CONSOLE_CONTROL_TX 3

/* Messages that wait for a buffer in the control receive queue, in the order they are sent. */
enum console_message {
	CONSOLE_MESSAGE_ADD,
	CONSOLE_MESSAGE_CONSOLE,
	CONSOLE_MESSAGE_NAME,
	CONSOLE_MESSAGE_CLOSED,
	CONSOLE_MESSAGE_OPENED,
	CONSOLE_MESSAGE_RESIZE,
	CONSOLE_MESSAGES,
};

/**
 * struct console_port - one port.
 * @name: "" for the console port that the positional option makes
 * @label: for messages to people
 * @tx_done: bytes of the first available transmit chain that the back end has already
 * @pending: BIT32(enum console_message): what the driver is still to be told
 * @added: the driver knows of the port; @ready: it made it; @guest_open: a program opened it
 * @host_open: what the driver was told, or is about to be, of the host's end
 * @input, @input_len: in a saved state, input that the back end has
 */
struct console_port {
	struct virtio_console *console;
	unsigned int id;
	char name[CONSOLE_PORT_NAME_MAX + 1];
	char label[128];
	struct char_backend *chr;
	uint64_t tx_done;
	uint32_t pending;
	bool added, ready, guest_open, host_open;
	uint32_t input_len;
	uint8_t input[CHAR_INPUT_MAX];
};

/**
 * struct virtio_console - the device.
 * @backend, @port_options: options; @backend is NULL if all ports are named ones
 * @again: armed when a queue was left before it was empty, to give others their turn
 * @tx_iov: room for the transmit chain that is worked on
 * @output: ring of what port 0 has sent as a console and its back end did not take yet
 * @dropped: bytes that did not fit there since it was empty last
 */
struct virtio_console {
	struct virtio_common vc;
	char *backend;
	struct option_list port_options;
	unsigned int port_count;
	struct console_port ports[CONSOLE_PORTS_MAX];
	struct event_source *again;
	struct iovec tx_iov[CONSOLE_TX_IOVS];
	size_t output_start, output_len;
	uint64_t dropped;
	uint8_t output[CONSOLE_OUTPUT_SIZE];
};

static inline bool console_multiport(const struct virtio_console *console)
{
	return virtio_has_feature(&console->vc, VIRTIO_CONSOLE_F_MULTIPORT);
}

/** console_port_is_console() - does the driver run a console (hvc) on @port, or plain data? */
static inline bool console_port_is_console(const struct console_port *port)
{
	return port->id == 0 && (port->console->backend || !console_multiport(port->console));
}

/* virtio_console_state.c */
extern const struct state_desc console_state;
extern const struct state_field console_config_state[];

/** console_again() - this device has more to do: go on when the event loop's other events had their turn. */
void console_again(struct virtio_console *console);

/** console_port_guest_open() - a program in the guest opened or closed @port. */
void console_port_guest_open(struct console_port *port, bool open);

/** console_control_receive() - handle the driver's control messages; all complete at once. */
void console_control_receive(struct virtio_console *console);

/** console_control_send() - tell the driver what is pending, as far as it has given buffers. */
void console_control_send(struct virtio_console *console);

/** console_control_host_open() - somebody came to or left the host's end of @port. */
void console_control_host_open(struct console_port *port, bool open);

/** console_control_resized() - the terminal behind @port has another size. */
void console_control_resized(struct console_port *port);

#endif
