/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The test port's connection: lines in, replies and interrupts out, and the thread that does both.
 *
 * The client is as hostile as a guest. What it sends is read as far as there is room and carried
 * out only while what is to be sent back is little, so it cannot make tenon wait or grow.
 */
#include "test.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "eventfd.h"

#define ACCEPT_AGAIN_US 100000

/* ---- Output ---- */

static size_t unsent(const struct test_client *client)
{
	return client->out_end - client->out_start;
}

/* There is room: a command starts with at most TEST_OUT_HIGH unsent, at the buffer's start. */
void test_send(struct test_port *port, const char *data, size_t len)
{
	struct test_client *client = &port->client;

	if (client->fd < 0 || len > TEST_OUT_MAX - client->out_end)
		return;
	memcpy(client->out + client->out_end, data, len);
	client->out_end += len;
}

void test_printf(struct test_port *port, const char *fmt, ...)
{
	char line[160];
	va_list args;
	int len;

	va_start(args, fmt);
	len = vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	test_send(port, line, MIN((size_t)len, sizeof(line) - 1));
}

/* False if the client is gone. */
static bool client_flush(struct test_client *client)
{
	while (unsent(client)) {
		ssize_t len = send(client->fd, client->out + client->out_start, unsent(client),
				   MSG_NOSIGNAL | MSG_DONTWAIT);

		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0)
			return errno == EAGAIN;
		client->out_start += (size_t)len;
	}
	client->out_start = client->out_end = 0;
	return true;
}

/* Room for a command's reply; false if too much waits to be sent. */
static bool client_has_room(struct test_client *client)
{
	size_t len = unsent(client);

	if (len > TEST_OUT_HIGH)
		return false;
	if (client->out_start) {
		memmove(client->out, client->out + client->out_start, len);
		client->out_start = 0;
		client->out_end = len;
	}
	return true;
}

/* ---- Input ---- */

/* The next line, of @len bytes, its newline replaced by a NUL; NULL: there is no whole one. */
static char *client_line(struct test_client *client, size_t *len)
{
	char *line = client->in + client->in_start;
	char *newline =
		memchr(client->in + client->in_scanned, '\n', client->in_end - client->in_scanned);

	if (!newline) {
		client->in_scanned = client->in_end;
		return NULL;
	}
	*newline = '\0';
	*len = (size_t)(newline - line);
	client->in_start = client->in_scanned = (size_t)(newline + 1 - client->in);
	return line;
}

/* Make room behind what was received: a part of a line, or nothing. */
static void client_compact(struct test_client *client)
{
	size_t len = client->in_end - client->in_start;

	if (len && client->in_end < TEST_LINE_MAX)
		return;
	if (len == TEST_LINE_MAX) {
		client->skipping = true;
		len = 0;
	}
	memmove(client->in, client->in + client->in_start, len);
	client->in_start = 0;
	client->in_scanned = client->in_end = len;
}

/* False if the client is gone. */
static bool client_receive(struct test_client *client)
{
	ssize_t len;

	client_compact(client);
	len = recv(client->fd, client->in + client->in_end, TEST_LINE_MAX - client->in_end,
		   MSG_DONTWAIT);
	if (len < 0)
		return errno == EAGAIN || errno == EINTR;
	client->ended = !len;
	client->in_end += (size_t)len;
	return true;
}

/* ---- Connections ---- */

static void client_open(struct test_port *port, int fd)
{
	struct test_client *client = &port->client;

	client->fd = fd;
	client->ended = client->skipping = false;
	client->in_start = client->in_scanned = client->in_end = 0;
	client->out_start = client->out_end = 0;
	log_debug(port->ctx->log, "test port: a client is connected");
}

static void client_close(struct test_port *port)
{
	close(port->client.fd);
	port->client.fd = -1;
	test_irqs_intercept(port, false);
	log_debug(port->ctx->log, "test port: the client is gone");
	if (port->connect)
		vm_request(port->ctx, VM_REQUEST_POWEROFF, 0);
}

static void client_accept(struct test_port *port)
{
	int fd = accept4(port->listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd >= 0)
		client_open(port, fd);
	else if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
		usleep(ACCEPT_AGAIN_US); /* short of descriptors, and it is still waiting */
}

void test_client_wake(struct test_port *port)
{
	if (port->wake_fd >= 0)
		eventfd_signal(port->wake_fd);
}

/* ---- The thread ---- */

static void carry_out(struct test_port *port, char *line, size_t len)
{
	if (!test_active(port))
		return;
	if (port->client.skipping)
		test_printf(port, "ERR line is longer than %u bytes\n",
			    (unsigned int)TEST_LINE_MAX);
	else
		test_command(port, line, len);
	port->client.skipping = false;
	test_inactive(port);
}

/* All that was received so far, as far as its replies have room. */
static void carry_out_lines(struct test_port *port)
{
	struct test_client *client = &port->client;
	size_t len;

	while (client_has_room(client) && !__atomic_load_n(&port->quit, __ATOMIC_RELAXED)) {
		char *line = client_line(client, &len);

		if (!line) {
			test_irqs_report(port);
			return;
		}
		carry_out(port, line, len);
	}
}

/* False when the connection is to be closed. */
static bool serve_client(struct test_port *port)
{
	struct test_client *client = &port->client;
	bool waiting;

	do {
		carry_out_lines(port);
		waiting = unsent(client) > TEST_OUT_HIGH;
		if (!client_flush(client))
			return false;
	} while (waiting && !unsent(client));
	return !client->ended || unsent(client);
}

static void wait_for_news(struct test_port *port)
{
	struct test_client *client = &port->client;
	struct pollfd fds[2] = { { .fd = port->wake_fd, .events = POLLIN } };

	if (client->fd >= 0) {
		fds[1].fd = client->fd;
		fds[1].events = unsent(client) ? POLLOUT : client->ended ? 0 : POLLIN;
	} else {
		fds[1].fd = port->listener.fd; /* -1 is passed over */
		fds[1].events = POLLIN;
	}
	if (poll(fds, 2, -1) < 0)
		return;
	if (fds[0].revents && !eventfd_take(port->wake_fd))
		return; /* nobody woke us after all: look again */
	if (!fds[1].revents)
		return;
	if (client->fd < 0)
		client_accept(port);
	else if (!unsent(client) && !client_receive(client))
		client_close(port);
}

void *test_client_thread(void *arg)
{
	struct test_port *port = arg;
	struct test_client *client = &port->client;

	prctl(PR_SET_NAME, "tenon-test", 0, 0, 0);
	while (!__atomic_load_n(&port->quit, __ATOMIC_ACQUIRE)) {
		wait_for_news(port);
		if (client->fd >= 0 && !serve_client(port))
			client_close(port);
	}
	/* The reply to the command that ended the VM. */
	if (client->fd >= 0)
		(void)client_flush(client);
	return NULL;
}

/* ---- Making and ending ---- */

static int client_connect(struct test_port *port)
{
	int fd = unix_socket_connect(port->connect);

	if (fd < 0) {
		log_error(port->ctx->log,
			  "--hv test: connect=%s: cannot connect: %s (start the client first, or "
			  "have it connect to socket=PATH)",
			  port->connect, strerror(-fd));
		return fd;
	}
	client_open(port, fd);
	return 0;
}

static int client_listen(struct test_port *port)
{
	struct logger *log = port->ctx->log;
	char what[256];
	int error;

	snprintf(what, sizeof(what), "--hv test: socket=%s", port->socket);
	error = unix_socket_listen(log, what, port->socket, &port->listener);
	if (!error)
		log_info(log, "%s: listening for a client", what);
	return error;
}

int test_client_create(struct test_port *port)
{
	struct test_client *client = &port->client;
	int error;

	/* Mostly never touched, and then no memory. */
	client->in = malloc(TEST_LINE_MAX);
	client->out = malloc(TEST_OUT_MAX);
	port->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!client->in || !client->out || port->wake_fd < 0) {
		error = -errno;
		log_error(port->ctx->log, "--hv test: %s", strerror(-error));
		return error;
	}
	return port->connect ? client_connect(port) : client_listen(port);
}

void test_client_destroy(struct test_port *port)
{
	struct test_client *client = &port->client;

	if (client->fd >= 0)
		close(client->fd);
	unix_socket_close(&port->listener);
	if (port->wake_fd >= 0)
		close(port->wake_fd);
	free(client->in);
	free(client->out);
}
