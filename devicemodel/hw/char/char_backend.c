/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Byte streams to the host: which kind a specification names, and what all kinds share: a fixed
 * receive buffer with flow control, and writing as much as fits.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "char_kind.h"
#include "event_loop.h"

/* A peer that sends as fast as we read must not keep us. */
#define DISCARD_MAX MIB(1)

/* Who takes nothing for so long may never do so; one who is slow is waited for. */
#define STUCK_NS UINT64_C(1000000000)

static const struct char_kind *const char_kinds[] = {
	&char_stdio, &char_pty, &char_tty, &char_file, &char_socket, &char_server, &char_null,
};

static void on_char_event(void *arg, uint32_t events);
static void on_char_output(void *arg, uint32_t events);
static void on_char_timer(void *arg, uint32_t expirations);

/* ---- What is waited for ---- */

/* epoll refuses regular files and /dev/null: they are always ready, so a timer asks again at once. */
static void port_watch_always_ready(struct char_backend *chr, struct char_port *port)
{
	if (!port->timer)
		port->timer = event_add_timer(chr->loop, chr->lock, on_char_timer, chr);
	if (port->timer)
		event_set_timer(port->timer, port->events ? 1 : 0, 0);
}

static void port_watch(struct char_backend *chr, struct char_port *port, uint32_t events,
		       event_callback callback)
{
	if (port->events == events)
		return;
	port->events = events;
	if (port->timer) {
		port_watch_always_ready(chr, port);
		return;
	}
	if (!events) {
		event_remove(port->source);
		port->source = NULL;
		return;
	}
	if (port->source) {
		if (event_set_events(port->source, events))
			log_guest(chr->log, "%s: cannot watch the %s", chr->what, chr->kind->name);
		return;
	}
	port->source = event_add_fd(chr->loop, port->fd, events, chr->lock, callback, chr);
	if (port->source)
		return;
	if (errno == EPERM) {
		port_watch_always_ready(chr, port);
		return;
	}
	port->events = 0;
	log_guest(chr->log, "%s: cannot watch the %s: %s", chr->what, chr->kind->name,
		  strerror(errno));
}

/* While there is no room for input, it is only of interest that the peer leaves. */
static uint32_t char_input_events(const struct char_backend *chr)
{
	if (chr->input.fd < 0)
		return 0;
	if (chr->len < sizeof(chr->buffer) || chr->stuck)
		return EPOLLIN;
	return chr->kind->hung_up && !chr->hung_up ? EPOLLHUP : 0;
}

static void char_update_stuck(struct char_backend *chr)
{
	bool full = chr->input.fd >= 0 && chr->len == sizeof(chr->buffer);

	if (!chr->filter || full == chr->full)
		return;
	chr->full = full;
	chr->stuck = false;
	event_set_timer(chr->stuck_timer, full ? STUCK_NS : 0, 0);
}

static void char_update_watch(struct char_backend *chr)
{
	uint32_t out = chr->output.fd >= 0 && chr->want_write ? EPOLLOUT : 0;
	uint32_t in;

	char_update_stuck(chr);
	in = char_input_events(chr);
	if (chr->input.fd >= 0 && chr->input.fd == chr->output.fd) {
		port_watch(chr, &chr->input, in | out, on_char_event);
		return;
	}
	port_watch(chr, &chr->input, in, on_char_event);
	port_watch(chr, &chr->output, out, on_char_output);
}

static void port_close(struct char_port *port)
{
	event_remove(port->source);
	event_remove(port->timer);
	*port = (struct char_port) { .fd = -1 };
}

/* ---- For the kinds ---- */

void char_attach(struct char_backend *chr, int input, int output)
{
	chr->input.fd = input;
	chr->output.fd = output;
	chr->output_dead = false;
	chr->hung_up = false;
	char_update_watch(chr);
}

/* Who waits for room is told, so that it tries again, and what it has is dropped. */
static void char_notify_writable(struct char_backend *chr)
{
	if (!chr->want_write)
		return;
	chr->want_write = false;
	char_update_watch(chr);
	if (chr->ops->writable)
		chr->ops->writable(chr->arg);
}

void char_detach(struct char_backend *chr)
{
	port_close(&chr->input);
	port_close(&chr->output);
	char_notify_writable(chr);
}

static void on_char_stuck(void *arg, uint32_t expirations)
{
	struct char_backend *chr = arg;

	chr->stuck = true;
	char_update_watch(chr);
}

int char_set_filter(struct char_backend *chr,
		    size_t (*filter)(struct char_backend *chr, uint8_t *data, size_t len))
{
	chr->stuck_timer = event_add_real_timer(chr->loop, chr->lock, on_char_stuck, chr);
	if (!chr->stuck_timer)
		return -errno;
	chr->filter = filter;
	return 0;
}

void char_end_input(struct char_backend *chr)
{
	port_close(&chr->input);
	char_update_watch(chr);
}

void char_set_connected(struct char_backend *chr, bool connected)
{
	if (chr->connected == connected)
		return;
	chr->connected = connected;
	if (chr->ops->connected)
		chr->ops->connected(chr->arg, connected);
}

bool char_window_size(int fd, uint16_t *columns, uint16_t *rows)
{
	struct winsize size;

	if (fd < 0 || ioctl(fd, TIOCGWINSZ, &size) < 0 || !size.ws_col || !size.ws_row)
		return false;
	*columns = size.ws_col;
	*rows = size.ws_row;
	return true;
}

/* ---- Input ---- */

static size_t char_receive(struct char_backend *chr)
{
	size_t taken = chr->len;

	if (chr->ops->receive)
		taken = chr->ops->receive(chr->arg, chr->buffer + chr->head, chr->len);
	return MIN(taken, chr->len);
}

/* receive() may call char_accept_input(): that only makes this loop go on. */
static void char_deliver(struct char_backend *chr)
{
	if (chr->delivering)
		return;
	chr->delivering = true;
	while (chr->len && !chr->refused) {
		size_t taken;

		chr->refused = true;
		taken = char_receive(chr);
		chr->head += taken;
		chr->len -= taken;
		if (!chr->len)
			chr->refused = false;
	}
	chr->delivering = false;
	if (!chr->len)
		chr->head = 0;
}

void char_accept_input(struct char_backend *chr)
{
	chr->refused = false;
	if (chr->delivering)
		return;
	char_deliver(chr);
	char_update_watch(chr);
}

/* Its end, if that is next, is left for the loop to find. */
void char_discard_input(struct char_backend *chr)
{
	size_t left = DISCARD_MAX;

	chr->head = chr->len = 0;
	chr->refused = false;
	while (chr->input.fd >= 0 && left) {
		ssize_t count = read(chr->input.fd, chr->buffer, sizeof(chr->buffer));

		if (count <= 0)
			break;
		if (chr->filter)
			chr->filter(chr, chr->buffer, (size_t)count);
		left -= MIN(left, (size_t)count);
	}
	char_update_watch(chr);
}

size_t char_copy_input(const struct char_backend *chr, void *to, size_t size)
{
	size_t len = MIN(chr->len, size);

	memcpy(to, chr->buffer + chr->head, len);
	return len;
}

void char_restore_input(struct char_backend *chr, const void *data, size_t len)
{
	size_t kept = MIN(chr->len, sizeof(chr->buffer) - len);

	if (kept < chr->len)
		log_guest(chr->log, "%s: %zu bytes of input were dropped", chr->what,
			  chr->len - kept);
	memmove(chr->buffer + len, chr->buffer + chr->head, kept);
	memcpy(chr->buffer, data, len);
	chr->head = 0;
	chr->len = len + kept;
	char_update_watch(chr);
}

/* Read into @to what is there; how much of it is for the user. */
static size_t char_read(struct char_backend *chr, uint8_t *to, size_t size)
{
	ssize_t count = read(chr->input.fd, to, size);

	if (count < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (count <= 0) {
		chr->kind->input_ended(chr, count ? errno : 0);
		return 0;
	}
	return chr->filter ? chr->filter(chr, to, (size_t)count) : (size_t)count;
}

static void char_read_input(struct char_backend *chr)
{
	size_t count;

	memmove(chr->buffer, chr->buffer + chr->head, chr->len);
	chr->head = 0;
	count = char_read(chr, chr->buffer + chr->len, sizeof(chr->buffer) - chr->len);
	if (!count)
		return;
	chr->len += count;
	char_deliver(chr);
}

static void char_read_stuck(struct char_backend *chr)
{
	uint8_t lost[256];

	char_read(chr, lost, sizeof(lost));
}

static void char_hung_up(struct char_backend *chr)
{
	chr->hung_up = true;
	chr->kind->hung_up(chr);
}

static void on_char_event(void *arg, uint32_t events)
{
	struct char_backend *chr = arg;

	if (events & ~(uint32_t)EPOLLIN)
		char_notify_writable(chr);
	if (chr->input.fd < 0 || !(events & ~(uint32_t)EPOLLOUT))
		return;
	if (chr->len < sizeof(chr->buffer))
		char_read_input(chr);
	else if (chr->stuck)
		char_read_stuck(chr);
	else if (events & (EPOLLHUP | EPOLLERR) && chr->kind->hung_up)
		char_hung_up(chr);
	char_update_watch(chr);
}

static void on_char_output(void *arg, uint32_t events)
{
	char_notify_writable(arg);
}

static void on_char_timer(void *arg, uint32_t expirations)
{
	struct char_backend *chr = arg;

	chr->input.events = 0; /* the timer fired: it must be set again */
	on_char_event(chr, EPOLLIN);
}

/* ---- Output ---- */

/* Nothing that a person or a peer does to the other end may stop the guest: the bytes are lost. */
static void char_write_failed(struct char_backend *chr, int error)
{
	if (chr->kind->peer_leaves) {
		chr->output_dead = error == EPIPE || error == ECONNRESET || error == EIO;
		return;
	}
	/* Tried again with each write: a FIFO may get a reader, a disk room. */
	if (!chr->output_failed)
		log_guest(chr->log, "%s: %s: cannot write, output is dropped: %s", chr->what,
			  chr->kind->name, strerror(error));
	chr->output_failed = true;
}

size_t char_write(struct char_backend *chr, const void *data, size_t len)
{
	size_t done = 0;

	while (done < len && chr->output.fd >= 0 && !chr->output_dead) {
		ssize_t count = write(chr->output.fd, (const uint8_t *)data + done, len - done);

		if (count > 0) {
			done += (size_t)count;
			chr->output_failed = false;
			continue;
		}
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0 && errno == EAGAIN) {
			chr->want_write = true;
			char_update_watch(chr);
			return done;
		}
		char_write_failed(chr, count ? errno : EIO);
		return len;
	}
	return len;
}

bool char_wait_writable(const struct char_backend *chr, int ms)
{
	struct pollfd poll_fd = { .fd = chr->output.fd, .events = POLLOUT };

	return poll(&poll_fd, 1, ms) > 0;
}

/* ---- Life ---- */

/* Writing to who has gone must be an error, not the end of the process. */
static void sigpipe_ignore(void)
{
	struct sigaction action;

	if (sigaction(SIGPIPE, NULL, &action) < 0 || action.sa_handler != SIG_DFL)
		return;
	action.sa_handler = SIG_IGN;
	sigaction(SIGPIPE, &action, NULL);
}

static const struct char_kind *char_kind_find(const char *spec, const char **argument)
{
	size_t len = strcspn(spec, ":");

	*argument = spec[len] ? spec + len + 1 : NULL;
	for (size_t i = 0; i < ARRAY_SIZE(char_kinds); i++)
		if (strlen(char_kinds[i]->name) == len && !strncmp(char_kinds[i]->name, spec, len))
			return char_kinds[i];
	return NULL;
}

static int char_spec_parse(struct logger *log, const char *what, const char *spec,
			   const struct char_kind **kind, const char **argument)
{
	*kind = char_kind_find(spec, argument);
	if (!*kind) {
		log_error(log, "%s: no such back end \"%s\", use %s", what, spec, CHAR_SPEC_HELP);
		return -EINVAL;
	}
	if (*argument && (*kind)->argument == CHAR_ARGUMENT_NONE) {
		log_error(log, "%s: nothing can follow %s in \"%s\"", what, (*kind)->name, spec);
		return -EINVAL;
	}
	if ((*argument && !**argument) ||
	    (!*argument && (*kind)->argument == CHAR_ARGUMENT_REQUIRED)) {
		log_error(log, "%s: path missing in \"%s\", use %s", what, spec, (*kind)->form);
		return -EINVAL;
	}
	return 0;
}

static void char_free(struct char_backend *chr)
{
	if (!chr)
		return;
	event_remove(chr->stuck_timer);
	free(chr->what);
	free(chr);
}

static struct char_backend *char_alloc(const struct char_kind *kind, const char *what)
{
	struct char_backend *chr = calloc(1, kind->size);

	if (!chr)
		return NULL;
	chr->kind = kind;
	chr->input.fd = -1;
	chr->output.fd = -1;
	chr->what = strdup(what);
	if (chr->what)
		return chr;
	free(chr);
	return NULL;
}

struct char_backend *char_open(struct logger *log, const char *what, const char *spec,
			       struct event_loop *loop, pthread_mutex_t *lock,
			       const struct char_backend_ops *ops, void *arg)
{
	const struct char_kind *kind;
	const char *argument;
	struct char_backend *chr;
	int error = char_spec_parse(log, what, spec, &kind, &argument);

	if (error) {
		errno = -error;
		return NULL;
	}
	chr = char_alloc(kind, what);
	if (!chr) {
		log_error(log, "%s: %s: out of memory", what, spec);
		errno = ENOMEM;
		return NULL;
	}
	sigpipe_ignore();
	chr->log = log;
	chr->loop = loop;
	chr->lock = lock;
	chr->ops = ops;
	chr->arg = arg;
	error = kind->open(chr, argument);
	if (!error)
		return chr;
	char_free(chr);
	errno = -error;
	return NULL;
}

void char_close(struct char_backend *chr)
{
	if (!chr)
		return;
	port_close(&chr->input);
	port_close(&chr->output);
	if (chr->kind->close)
		chr->kind->close(chr);
	char_free(chr);
}

bool char_connected(const struct char_backend *chr)
{
	return chr->connected;
}

bool char_size(const struct char_backend *chr, uint16_t *columns, uint16_t *rows)
{
	return chr->kind->terminal_size && chr->kind->terminal_size(chr, columns, rows);
}
