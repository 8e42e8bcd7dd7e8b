/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control socket: its connections. Lines in, answers out, on the main loop.
 *
 * Nobody can make tenon wait or grow: a line and what waits to be sent are bounded, a client that
 * sends commands and does not read the answers is dropped, and so is one too many.
 */
#include "control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control_commands.h"
#include "unix_socket.h"

#define CLIENTS_MAX 16
#define LINE_MAX_BYTES 1024
#define OUTPUT_MAX KIB(64) /* the longest answer is a fourth of it: 256 functions on the bus */

/* By edge, so that a connection that cannot be accepted (EMFILE) does not keep the loop busy. */
#define LISTEN_EVENTS (EPOLLIN | EPOLLET)

/**
 * struct control_client - one connection.
 * @line, @line_used: the beginning of a line
 * @skipping: the line is too long; the rest of it is thrown away
 * @sent: of answer.text
 * @input_ended: it sends no more; it is kept for the answers that it has still to get
 */
struct control_client {
	struct control *control;
	int fd;
	struct event_source *source;
	char line[LINE_MAX_BYTES];
	size_t line_used;
	bool skipping;
	struct control_answer answer;
	size_t sent;
	bool input_ended;
	struct control_client *next;
};

struct control {
	struct vmctx *ctx;
	struct unix_socket socket;
	struct event_source *source;
	struct control_client *clients;
	unsigned int client_count;
};

/* ---- Clients ---- */

static void client_free(struct control_client *client)
{
	event_remove(client->source);
	close(client->fd);
	free(client->answer.text);
	free(client);
}

static void client_drop(struct control_client *client)
{
	struct control *control = client->control;
	struct control_client **link = &control->clients;

	while (*link != client)
		link = &(*link)->next;
	*link = client->next;
	control->client_count--;
	client_free(client);
}

/* False if the client is gone. */
static bool client_flush(struct control_client *client)
{
	struct control_answer *answer = &client->answer;
	ssize_t len;

	while (client->sent < answer->used) {
		len = send(client->fd, answer->text + client->sent, answer->used - client->sent,
			   MSG_NOSIGNAL | MSG_DONTWAIT);
		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0)
			break;
		client->sent += (size_t)len;
	}
	if (client->sent < answer->used && errno != EAGAIN)
		return false;
	answer->used -= client->sent;
	memmove(answer->text, answer->text + client->sent, answer->used);
	client->sent = 0;
	return true;
}

/* A whole line, of @len bytes. */
static void client_execute(struct control_client *client, size_t len)
{
	struct control_answer *answer = &client->answer;

	client->line[len] = '\0';
	if (client->skipping)
		control_answer_line(answer, "error: a line has at most %d bytes",
				    LINE_MAX_BYTES - 1);
	else if (strlen(client->line) != len)
		control_answer_line(answer, "error: there is a NUL in the line");
	else
		control_execute(client->control->ctx, client->line, answer);
}

/* False if the client does not read what it is told. */
static bool client_take(struct control_client *client, const char *data, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (data[i] != '\n') {
			client->line[client->line_used++] = data[i];
			client->skipping |= client->line_used == LINE_MAX_BYTES;
			client->line_used %= LINE_MAX_BYTES;
			continue;
		}
		client_execute(client, client->line_used);
		client->line_used = 0;
		client->skipping = false;
		if (client->answer.overflow || !client_flush(client))
			return false;
	}
	return true;
}

/* False if the client is gone. */
static bool client_receive(struct control_client *client)
{
	char data[LINE_MAX_BYTES];
	ssize_t len = recv(client->fd, data, sizeof(data), MSG_DONTWAIT);

	if (len < 0)
		return errno == EAGAIN || errno == EINTR;
	if (len)
		return client_take(client, data, (size_t)len);
	client->input_ended = true;
	return true;
}

static bool client_serve(struct control_client *client, uint32_t events)
{
	uint32_t wanted = 0;

	if (events & EPOLLERR || !client_flush(client))
		return false;
	if (events & (EPOLLIN | EPOLLHUP) && !client->input_ended && !client_receive(client))
		return false;
	if (client->answer.used)
		wanted |= EPOLLOUT;
	if (!client->input_ended)
		wanted |= EPOLLIN;
	return wanted && !event_set_events(client->source, wanted);
}

static void on_client(void *arg, uint32_t events)
{
	struct control_client *client = arg;

	if (!client_serve(client, events))
		client_drop(client);
}

/* Takes @fd over. */
static struct control_client *client_create(struct control *control, int fd)
{
	struct control_client *client = calloc(1, sizeof(*client));

	if (!client) {
		close(fd);
		return NULL;
	}
	client->control = control;
	client->fd = fd;
	client->answer.size = OUTPUT_MAX;
	client->answer.text = malloc(OUTPUT_MAX);
	if (client->answer.text)
		client->source =
			event_add_fd(control->ctx->main_loop, fd, EPOLLIN, NULL, on_client, client);
	if (client->source)
		return client;
	client_free(client);
	return NULL;
}

static void control_accept(struct control *control, int fd)
{
	static const char refusal[] = "error: too many connections\n";
	struct control_client *client;

	if (control->client_count == CLIENTS_MAX) {
		(void)!send(fd, refusal, sizeof(refusal) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
		close(fd);
		return;
	}
	client = client_create(control, fd);
	if (!client)
		return;
	client->next = control->clients;
	control->clients = client;
	control->client_count++;
}

static void on_connection(void *arg, uint32_t events)
{
	struct control *control = arg;
	int fd;

	/* At most a listen queue's worth at once: who knocks without end does not hold up the VM. */
	for (unsigned int i = 0; i < CLIENTS_MAX; i++) {
		fd = accept4(control->socket.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			return;
		control_accept(control, fd);
	}
	(void)event_set_events(control->source, LISTEN_EVENTS);
}

/* ---- Life ---- */

static int control_listen(struct control *control)
{
	struct vmctx *ctx = control->ctx;
	char what[sizeof(control->socket.path) + 32];
	int error;

	snprintf(what, sizeof(what), "--control %s", ctx->config.control);
	error = unix_socket_listen_private(ctx->log, what, ctx->config.control, &control->socket);
	if (error)
		return error;
	control->source = event_add_fd(ctx->main_loop, control->socket.fd, LISTEN_EVENTS, NULL,
				       on_connection, control);
	if (control->source)
		return 0;
	error = -errno;
	log_error(ctx->log, "%s: cannot watch the socket: %s", what, strerror(-error));
	return error;
}

int control_create(struct vmctx *ctx)
{
	struct control *control;
	int error;

	if (!ctx->config.control)
		return 0;
	control = calloc(1, sizeof(*control));
	if (!control) {
		log_error(ctx->log, "--control %s: out of memory", ctx->config.control);
		return -ENOMEM;
	}
	control->ctx = ctx;
	control->socket.fd = -1;
	ctx->control = control;
	error = control_listen(control);
	if (error)
		control_destroy(ctx);
	return error;
}

void control_destroy(struct vmctx *ctx)
{
	struct control *control = ctx->control;

	if (!control)
		return;
	event_remove(control->source);
	unix_socket_close(&control->socket);
	while (control->clients)
		client_drop(control->clients);
	free(control);
	ctx->control = NULL;
}
