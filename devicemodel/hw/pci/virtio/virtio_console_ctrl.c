/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-console's control queues (virtio 1.4, 5.3.6.2): which ports there are, what they are
 * called, which ends are open.
 *
 * What the driver is to be told is kept as one flag a message and port, and the message is made
 * from the state at the time there is a buffer for it: a driver that gives no buffers costs nothing,
 * and one that comes late hears what is true then.
 */
#include "virtio_console.h"

/* The longest message: a name is not terminated (virtio 1.4, 5.3.6.2). */
struct control_message {
	struct virtio_console_control header;
	union {
		char name[CONSOLE_PORT_NAME_MAX];
		struct {
			uint16_t columns, rows;
		} size;
	};
};

static void port_pend(struct console_port *port, enum console_message message)
{
	port->pending |= BIT32(message);
}

/* Bytes of @message for @port; 0 if there is nothing to say any more. */
static size_t control_build(struct console_port *port, enum console_message message,
			    struct control_message *out)
{
	static const uint16_t events[CONSOLE_MESSAGES] = {
		[CONSOLE_MESSAGE_ADD] = VIRTIO_CONSOLE_PORT_ADD,
		[CONSOLE_MESSAGE_CONSOLE] = VIRTIO_CONSOLE_CONSOLE_PORT,
		[CONSOLE_MESSAGE_NAME] = VIRTIO_CONSOLE_PORT_NAME,
		[CONSOLE_MESSAGE_CLOSED] = VIRTIO_CONSOLE_PORT_OPEN,
		[CONSOLE_MESSAGE_OPENED] = VIRTIO_CONSOLE_PORT_OPEN,
		[CONSOLE_MESSAGE_RESIZE] = VIRTIO_CONSOLE_RESIZE,
	};
	size_t name_len = strlen(port->name);

	memset(out, 0, sizeof(*out));
	out->header.id = port->id;
	out->header.event = events[message];
	out->header.value = message != CONSOLE_MESSAGE_CLOSED;
	switch (message) {
	case CONSOLE_MESSAGE_NAME:
		memcpy(out->name, port->name, name_len);
		return sizeof(out->header) + name_len;
	case CONSOLE_MESSAGE_RESIZE:
		if (!char_size(port->chr, &out->size.columns, &out->size.rows))
			return 0;
		return sizeof(out->header) + sizeof(out->size);
	default:
		return sizeof(out->header);
	}
}

/* Put @len bytes into the next control receive buffer; false if there is none. */
static bool control_put(struct vqueue_info *vq, const struct control_message *message, size_t len)
{
	struct iovec iov[CONSOLE_IOVS];
	struct vq_chain chain;

	if (!vq_has_descs(vq) || vq_pop(vq, &chain, iov, CONSOLE_IOVS) <= 0)
		return false;
	if (chain.in_len < len) {
		virtio_device_error(vq->vc, vq,
				    "a control message of %zu bytes does not fit the "
				    "buffer of %llu",
				    len, (unsigned long long)chain.in_len);
		return false;
	}
	iov_from_buf(chain.iov + chain.out_count, chain.in_count, 0, message, len);
	vq_relchain(vq, chain.idx, len);
	return true;
}

/* Send what is pending for @port; false if the driver's buffers ran out. */
static bool port_send_pending(struct vqueue_info *vq, struct console_port *port)
{
	for (unsigned int i = 0; i < CONSOLE_MESSAGES; i++) {
		struct control_message message;
		size_t len;

		if (!(port->pending & BIT32(i)))
			continue;
		len = control_build(port, i, &message);
		if (len && !control_put(vq, &message, len))
			return false;
		port->pending &= ~BIT32(i);
		if (i == CONSOLE_MESSAGE_ADD)
			port->added = true;
	}
	return true;
}

void console_control_send(struct virtio_console *console)
{
	struct vqueue_info *vq = &console->vc.vqs[CONSOLE_CONTROL_RX];
	bool more = true;

	if (!console_multiport(console))
		return;
	for (unsigned int i = 0; i < console->port_count && more; i++)
		more = port_send_pending(vq, &console->ports[i]);
	vq_endchains(vq, !more);
}

void console_control_host_open(struct console_port *port, bool open)
{
	if (!port->ready)
		return; /* it will be told when it says so */
	/* One peer after another shows as closed, then opened, even if the driver hears it late. */
	port->pending &= ~BIT32(CONSOLE_MESSAGE_OPENED);
	port_pend(port, open ? CONSOLE_MESSAGE_OPENED : CONSOLE_MESSAGE_CLOSED);
	port->host_open = open;
	console_control_send(port->console);
}

void console_control_resized(struct console_port *port)
{
	if (!port->ready || !console_port_is_console(port))
		return;
	port_pend(port, CONSOLE_MESSAGE_RESIZE);
	console_control_send(port->console);
}

/* DEVICE_READY: the driver is there; now, and not earlier, it can be told of the ports. */
static void control_device_ready(struct virtio_console *console, bool success)
{
	if (!success)
		log_guest(console->vc.log, "%s: the guest's driver could not start the device",
			  console->vc.name);
	for (unsigned int i = 0; i < console->port_count && success; i++) {
		/* virtio 1.4, 5.3.6.2.1: no port is added twice */
		if (!console->ports[i].added)
			port_pend(&console->ports[i], CONSOLE_MESSAGE_ADD);
	}
}

/* The driver has made the port, and hears next whether the host's end is open. */
static void port_made(struct console_port *port)
{
	port->added = port->ready = true;
	port->pending = 0;
	port->host_open = char_connected(port->chr);
	if (port->host_open)
		port_pend(port, CONSOLE_MESSAGE_OPENED);
}

static void control_port_ready(struct console_port *port, bool success)
{
	if (!success) {
		port->ready = false;
		port->pending = 0;
		log_guest(port->console->vc.log, "%s: the guest's driver could not make the port",
			  port->label);
		return;
	}
	port_made(port);
	if (console_port_is_console(port)) {
		port_pend(port, CONSOLE_MESSAGE_CONSOLE);
		port_pend(port, CONSOLE_MESSAGE_RESIZE);
	}
	if (port->name[0])
		port_pend(port, CONSOLE_MESSAGE_NAME);
}

/*
 * Any port there is: a driver that resets the device to suspend (Linux) knows its ports when it wakes,
 * and does not ask to have them added again.
 */
static void control_handle(struct virtio_console *console,
			   const struct virtio_console_control *message)
{
	struct console_port *port;

	if (message->event == VIRTIO_CONSOLE_DEVICE_READY) {
		control_device_ready(console, message->value != 0);
		return;
	}
	if (message->id >= console->port_count) {
		log_guest(console->vc.log, "%s: control message %u ignored: there is no port %u",
			  console->vc.name, message->event, message->id);
		return;
	}
	port = &console->ports[message->id];
	switch (message->event) {
	case VIRTIO_CONSOLE_PORT_READY:
		control_port_ready(port, message->value != 0);
		break;
	case VIRTIO_CONSOLE_PORT_OPEN:
		if (!port->ready)
			port_made(port);
		console_port_guest_open(port, message->value != 0);
		break;
	default:
		log_guest(console->vc.log,
			  "%s: control message %u ignored: not one that a driver "
			  "sends",
			  port->label, message->event);
	}
}

void console_control_receive(struct virtio_console *console)
{
	struct vqueue_info *vq = &console->vc.vqs[CONSOLE_CONTROL_TX];
	unsigned int left = CONSOLE_QUEUE_SIZE;
	struct iovec iov[CONSOLE_IOVS];
	struct vq_chain chain;

	while (left && vq_has_descs(vq) && vq_pop(vq, &chain, iov, CONSOLE_IOVS) > 0) {
		struct virtio_console_control message;
		size_t len = iov_to_buf(chain.iov, chain.out_count, 0, &message, sizeof(message));

		if (len == sizeof(message))
			control_handle(console, &message);
		else
			log_guest(console->vc.log, "%s: control message of %zu bytes ignored",
				  console->vc.name, len);
		vq_relchain(vq, chain.idx, 0);
		left--;
	}
	vq_endchains(vq, left > 0);
	if (!left)
		console_again(console);
	console_control_send(console);
}
