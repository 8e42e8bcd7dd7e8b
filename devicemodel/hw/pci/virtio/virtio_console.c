/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-console: a console and byte channels to programs in the guest (virtio 1.4, 5.3).
 *
 * Output. A Linux console (hvc) spins with interrupts off until its output is used, so the console
 * port never waits for the host's reader: what the back end does not take goes to a ring of fixed
 * size, and what does not fit there is dropped, counted and said. Other ports belong to programs
 * that can sleep: they are held back, nothing is lost. The chain that did not go out whole is left
 * in the queue, and only how much of it did is remembered.
 *
 * Input. What the guest has no buffers for, or no open port, stays in the back end.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "clock.h"
#include "virtio_console.h"

/* Bytes a port sends before others get their turn; a chain costs at least CHAIN_COST. */
#define OUTPUT_TURN 262144
#define CHAIN_COST 512

#define OUTPUT_FLUSH_NS UINT64_C(1000000000)

static struct vqueue_info *port_queue(struct console_port *port, unsigned int direction)
{
	unsigned int pair = port->id ? 2 * port->id + 2 : 0; /* virtio 1.4, 5.3.2 */

	return &port->console->vc.vqs[pair + direction];
}

static struct vqueue_info *port_rx_queue(struct console_port *port)
{
	return port_queue(port, 0);
}

static struct vqueue_info *port_tx_queue(struct console_port *port)
{
	return port_queue(port, 1);
}

void console_again(struct virtio_console *console)
{
	event_set_timer(console->again, 1, 0);
}

/* ---- Output: guest to host ---- */

/* Hand the back end what port 0 has left from earlier; true if the ring is empty then. */
static bool output_drain(struct virtio_console *console)
{
	while (console->output_len) {
		size_t len = MIN(console->output_len, CONSOLE_OUTPUT_SIZE - console->output_start);
		size_t taken = char_write(console->ports[0].chr,
					  console->output + console->output_start, len);

		console->output_start = (console->output_start + taken) % CONSOLE_OUTPUT_SIZE;
		console->output_len -= taken;
		if (taken < len)
			return false;
	}
	if (console->dropped)
		log_guest(console->vc.log, "%s: %llu bytes of output were dropped",
			  console->ports[0].label, (unsigned long long)console->dropped);
	console->dropped = 0;
	return true;
}

static size_t output_store(struct virtio_console *console, const uint8_t *data, size_t len)
{
	size_t end = (console->output_start + console->output_len) % CONSOLE_OUTPUT_SIZE;
	size_t stored = MIN(len, CONSOLE_OUTPUT_SIZE - console->output_len);
	size_t first = MIN(stored, CONSOLE_OUTPUT_SIZE - end);

	memcpy(console->output + end, data, first);
	memcpy(console->output, data + first, stored - first);
	console->output_len += stored;
	return stored;
}

/* Output of port 0 as a console: takes all of it, now. */
static void console_output(struct virtio_console *console, const uint8_t *data, size_t len)
{
	size_t taken = 0;

	if (output_drain(console))
		taken = char_write(console->ports[0].chr, data, len);
	taken += output_store(console, data + taken, len - taken);
	if (taken == len)
		return;
	if (!console->dropped)
		log_guest(console->vc.log, "%s: output is dropped, nobody reads the host's end",
			  console->ports[0].label);
	console->dropped += len - taken;
}

/* Bytes of @data that are done with; fewer than @len if the back end will say when to go on. */
static size_t port_output(struct console_port *port, const uint8_t *data, size_t len)
{
	if (console_port_is_console(port)) {
		console_output(port->console, data, len);
		return len;
	}
	if (port->id == 0 && !output_drain(port->console))
		return 0;
	return char_write(port->chr, data, len);
}

/* Send what is left of @chain, at most *@turn bytes; true if it is done with. */
static bool port_send_chain(struct console_port *port, const struct vq_chain *chain, uint64_t *turn)
{
	uint64_t skip = port->tx_done;

	for (int i = 0; i < chain->out_count; i++) {
		const uint8_t *data = chain->iov[i].iov_base;
		size_t len = chain->iov[i].iov_len, taken;

		if (skip >= len) {
			skip -= len;
			continue;
		}
		len = MIN(len - skip, *turn);
		taken = port_output(port, data + skip, len);
		port->tx_done += taken;
		*turn -= taken;
		if (skip + taken < chain->iov[i].iov_len)
			return false;
		skip = 0;
	}
	return true;
}

static void port_transmit(struct console_port *port)
{
	struct vqueue_info *vq = port_tx_queue(port);
	uint64_t turn = OUTPUT_TURN;
	bool held_back = false;
	struct vq_chain chain;

	while (turn && !held_back && vq_has_descs(vq) &&
	       vq_pop(vq, &chain, port->console->tx_iov, CONSOLE_TX_IOVS) > 0) {
		if (!port_send_chain(port, &chain, &turn)) {
			vq_retchain(vq);
			held_back = true;
			continue;
		}
		port->tx_done = 0;
		vq_relchain(vq, chain.idx, 0);
		turn -= MIN(turn, CHAIN_COST);
	}
	vq_endchains(vq, turn && !held_back);
	if (!turn)
		console_again(port->console);
}

/* All that is there now, at most what the queue can hold, is done with. */
static void port_drop_output(struct console_port *port)
{
	struct vqueue_info *vq = port_tx_queue(port);
	unsigned int left = vq->size;
	struct vq_chain chain;

	port->tx_done = 0;
	while (left && vq_has_descs(vq) &&
	       vq_pop(vq, &chain, port->console->tx_iov, CONSOLE_TX_IOVS) > 0) {
		vq_relchain(vq, chain.idx, 0);
		left--;
	}
	vq_endchains(vq, left > 0);
	if (!left)
		console_again(port->console);
}

static void port_writable(void *arg)
{
	struct console_port *port = arg;

	if (port->id != 0 || output_drain(port->console))
		port_transmit(port);
}

/* ---- Input: host to guest ---- */

/* A console takes input as soon as it has buffers, a named port when a program has it open. */
static bool port_takes_input(const struct console_port *port)
{
	return console_port_is_console(port) || port->guest_open;
}

static size_t port_receive(void *arg, const uint8_t *data, size_t len)
{
	struct console_port *port = arg;
	struct vqueue_info *vq = port_rx_queue(port);
	struct iovec iov[CONSOLE_IOVS];
	struct vq_chain chain;
	size_t taken = 0;

	if (!port_takes_input(port))
		return 0;
	while (taken < len && vq_has_descs(vq) && vq_pop(vq, &chain, iov, CONSOLE_IOVS) > 0) {
		size_t copied = iov_from_buf(chain.iov + chain.out_count, chain.in_count, 0,
					     data + taken, len - taken);

		if (!copied) {
			virtio_device_error(vq->vc, vq, "5.3.6.1: a receive buffer without room");
			break;
		}
		vq_relchain(vq, chain.idx, copied);
		taken += copied;
	}
	vq_endchains(vq, taken < len);
	return taken;
}

void console_port_guest_open(struct console_port *port, bool open)
{
	bool closed = port->guest_open && !open;

	port->guest_open = open;
	/* What came for the program that closed the port is not for the next one that opens it. */
	if (closed && !console_port_is_console(port))
		char_discard_input(port->chr);
	char_accept_input(port->chr);
}

/* Output held back for a peer that left is not for the next one. */
static void port_connected(void *arg, bool connected)
{
	struct console_port *port = arg;

	if (!connected && console_multiport(port->console) && !console_port_is_console(port))
		port_drop_output(port);
	console_control_host_open(port, connected);
}

/* ---- Size ---- */

static void console_config_update(struct virtio_console *console)
{
	struct virtio_console_config *config = (void *)console->vc.config;
	uint16_t columns, rows;

	if (!char_size(console->ports[0].chr, &columns, &rows))
		return;
	config->cols = columns;
	config->rows = rows;
}

/* With MULTIPORT the size goes by control message, else by the configuration (virtio 1.4, 5.3.5). */
static void port_resized(void *arg, uint16_t columns, uint16_t rows)
{
	struct console_port *port = arg;
	struct virtio_console *console = port->console;

	if (port->id != 0)
		return;
	if (console_multiport(console)) {
		console_control_resized(port);
		return;
	}
	if (console->vc.features_final && !virtio_has_feature(&console->vc, VIRTIO_CONSOLE_F_SIZE))
		return;
	console_config_update(console);
	virtio_config_changed(&console->vc);
}

/* ---- The device ---- */

static const struct char_backend_ops port_backend_ops = {
	.receive = port_receive,
	.writable = port_writable,
	.connected = port_connected,
	.resized = port_resized,
};

static void console_qnotify(void *dev, struct vqueue_info *vq)
{
	struct virtio_console *console = dev;
	struct console_port *port = &console->ports[vq->index < 2 ? 0 : vq->index / 2 - 1];

	if (vq->index >= 2 && !console_multiport(console))
		return;
	if (vq->index == CONSOLE_CONTROL_RX)
		console_control_send(console);
	else if (vq->index == CONSOLE_CONTROL_TX)
		console_control_receive(console);
	else if (vq->index % 2)
		port_transmit(port);
	else
		char_accept_input(port->chr);
}

static void console_run_again(void *arg, uint32_t expirations)
{
	struct virtio_console *console = arg;

	for (unsigned int i = 0; i < console->vc.nvq; i++)
		console_qnotify(console, &console->vc.vqs[i]);
}

static void console_quiesce(void *dev)
{
	struct virtio_console *console = dev;

	event_set_timer(console->again, 0, 0);
}

/* Since the driver was told last, perhaps of another host, things may have changed. */
static void console_resume(void *dev)
{
	struct virtio_console *console = dev;
	struct virtio_console_config *config = (void *)console->vc.config;
	uint16_t columns, rows;

	output_drain(console);
	if (char_size(console->ports[0].chr, &columns, &rows) &&
	    (columns != config->cols || rows != config->rows))
		port_resized(&console->ports[0], columns, rows);
	for (unsigned int i = 0; i < console->port_count; i++) {
		struct console_port *port = &console->ports[i];

		if (port->ready && port->host_open != char_connected(port->chr))
			console_control_host_open(port, !port->host_open);
	}
}

/* What a console has sent is used and the host's: it stays in the output ring. */
static void console_reset(void *dev)
{
	struct virtio_console *console = dev;

	console_quiesce(console);
	for (unsigned int i = 0; i < console->port_count; i++) {
		struct console_port *port = &console->ports[i];

		port->tx_done = 0;
		port->pending = 0;
		port->added = port->ready = port->guest_open = port->host_open = false;
	}
	console_config_update(console);
}

static void console_queue_reset(void *dev, struct vqueue_info *vq)
{
	struct virtio_console *console = dev;

	for (unsigned int i = 0; i < console->port_count; i++) {
		if (port_tx_queue(&console->ports[i]) == vq)
			console->ports[i].tx_done = 0;
	}
}

/* The emergency write works on an unconfigured device too (virtio 1.4, 5.3.5.1). */
static void console_cfgwrite(void *dev, uint32_t offset, uint32_t size, uint32_t value)
{
	uint8_t character = value;

	if (offset == offsetof(struct virtio_console_config, emerg_wr))
		console_output(dev, &character, 1);
}

/* What a guest says last is often why it ended: its reader gets a moment for it. */
static void output_flush(struct virtio_console *console)
{
	uint64_t end = clock_ns() + OUTPUT_FLUSH_NS, now = clock_ns();

	while (!output_drain(console) && now < end &&
	       char_wait_writable(console->ports[0].chr, (int)((end - now) / 1000000) + 1))
		now = clock_ns();
	if (console->output_len)
		log_guest(console->vc.log, "%s: nobody read the last %llu bytes of output",
			  console->ports[0].label,
			  (unsigned long long)(console->output_len + console->dropped));
}

static void console_deinit(void *dev)
{
	struct virtio_console *console = dev;

	output_flush(console);
	for (unsigned int i = 0; i < console->port_count; i++) {
		char_close(console->ports[i].chr);
		console->ports[i].chr = NULL;
	}
	event_remove(console->again);
	console->again = NULL;
}

/* ---- Start ---- */

static int port_open(struct virtio_console *console, const char *spec)
{
	struct console_port *port = &console->ports[console->port_count];
	struct virtio_common *vc = &console->vc;

	port->console = console;
	port->id = console->port_count;
	snprintf(port->label, sizeof(port->label), port->name[0] ? "%s,port=%s" : "%s", vc->name,
		 port->name);
	port->chr =
		char_open(vc->log, port->label, spec, vc->loop, vc->lock, &port_backend_ops, port);
	if (!port->chr)
		return -errno;
	console->port_count++;
	return 0;
}

static bool name_is_valid(const struct virtio_console *console, const char *name)
{
	size_t len = strlen(name);

	if (!len || len > CONSOLE_PORT_NAME_MAX)
		return false;
	for (size_t i = 0; i < len; i++) {
		/* it becomes a file name in the guest: /dev/virtio-ports/NAME */
		if ((unsigned char)name[i] <= ' ' || name[i] == '/' || name[i] == 0x7f)
			return false;
	}
	for (unsigned int i = 0; i < console->port_count; i++) {
		if (strcmp(console->ports[i].name, name) == 0)
			return false;
	}
	return true;
}

/* @text: "NAME:BACKEND" */
static int named_port_open(struct virtio_console *console, const char *text)
{
	char *name = console->ports[console->port_count].name;
	const char *colon = strchr(text, ':');
	struct virtio_common *vc = &console->vc;

	if (!colon || !colon[1]) {
		log_error(vc->log,
			  "%s: port=%s: no back end (write port=NAME:BACKEND, where BACKEND "
			  "is " CHAR_SPEC_HELP ")",
			  vc->name, text);
		return -EINVAL;
	}
	snprintf(name, CONSOLE_PORT_NAME_MAX + 1, "%.*s", (int)MIN(colon - text, INT_MAX), text);
	if (strlen(name) != (size_t)(colon - text) || !name_is_valid(console, name)) {
		log_error(vc->log,
			  "%s: port=%s: bad name (give each port another one of 1 to %d "
			  "characters without blanks and \"/\")",
			  vc->name, text, CONSOLE_PORT_NAME_MAX);
		return -EINVAL;
	}
	return port_open(console, colon + 1);
}

static int console_check_options(const struct virtio_console *console)
{
	const struct virtio_common *vc = &console->vc;
	unsigned int named = console->port_options.count;

	if (!console->backend && !named) {
		log_error(vc->log, "%s: no back end (add one: " CHAR_SPEC_HELP ")", vc->name);
		return -EINVAL;
	}
	if (named > CONSOLE_NAMED_PORTS_MAX) {
		log_error(vc->log, "%s: %u times port=, at most %d can be (add another %s)",
			  vc->name, named, CONSOLE_NAMED_PORTS_MAX, vc->ops->name);
		return -EINVAL;
	}
	return 0;
}

/* All queues exist, whether the driver wants MULTIPORT or not: Linux's probe asks for all. */
static int console_make_queues(struct virtio_console *console)
{
	struct virtio_common *vc = &console->vc;
	unsigned int named = console->port_options.count;
	unsigned int ports = named + (console->backend ? 1 : 0);
	int ret = named ? virtio_set_queues(vc, 2 * (ports + 1)) : 0;

	if (named)
		virtio_offer(vc, VIRTIO_CONSOLE_F_MULTIPORT);
	if (!ret)
		console->again = event_add_timer(vc->loop, vc->lock, console_run_again, console);
	if (!ret && !console->again)
		ret = -errno;
	if (ret)
		log_error(vc->log, "%s: cannot set up %u ports: %s", vc->name, ports,
			  strerror(-ret));
	return ret;
}

static int console_open_ports(struct virtio_console *console)
{
	struct virtio_console_config *config = (void *)console->vc.config;
	int ret = 0;

	if (console->backend)
		ret = port_open(console, console->backend);
	for (unsigned int i = 0; i < console->port_options.count && !ret; i++)
		ret = named_port_open(console, console->port_options.items[i]);
	if (ret)
		return ret;
	config->max_nr_ports = console->port_count;
	console_config_update(console);
	return 0;
}

static int console_init(void *dev)
{
	struct virtio_console *console = dev;
	int ret = console_check_options(console);

	if (!ret)
		ret = console_make_queues(console);
	if (!ret)
		ret = console_open_ports(console);
	if (ret)
		console_deinit(console);
	return ret;
}

/* clang-format off */
static const struct option_desc console_options[] = {
	{ .name = "backend", .type = OPTION_STRING, .flags = OPTION_POSITIONAL,
	  .offset = offsetof(struct virtio_console, backend),
	  .help = "the console's back end: " CHAR_SPEC_HELP },
	{ .name = "port", .type = OPTION_LIST,
	  .offset = offsetof(struct virtio_console, port_options),
	  .help = "NAME:BACKEND, a port /dev/virtio-ports/NAME in the guest; up to 31 times" },
	{},
};

VIRTIO_DEVICE(virtio_console, {
	.name = "virtio-console",
	.summary = "console and named byte channels",
	.device_id = VIRTIO_ID_CONSOLE,
	.nvq = 2,
	.queue_size = CONSOLE_QUEUE_SIZE,
	.priv_size = sizeof(struct virtio_console),
	.cfgsize = sizeof(struct virtio_console_config),
	.features = { { BIT64(VIRTIO_CONSOLE_F_SIZE) | BIT64(VIRTIO_CONSOLE_F_EMERG_WRITE) } },
	.options = console_options,
	.init = console_init,
	.deinit = console_deinit,
	.reset = console_reset,
	.quiesce = console_quiesce,
	.resume = console_resume,
	.qnotify = console_qnotify,
	.queue_reset = console_queue_reset,
	.cfgwrite = console_cfgwrite,
	.state = &console_state,
	.config_state = console_config_state,
});
/* clang-format on */
