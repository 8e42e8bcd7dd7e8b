/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * port_client.h: a VM on the test port, run in a thread, and a client of that port. As an
 * independent client would, it knows the machine by the protocol only.
 */
#ifndef TENON_TESTS_PORT_CLIENT_H
#define TENON_TESTS_PORT_CLIENT_H

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "captured_log.h"
#include "dm.h"
#include "pci_core.h"
#include "platform.h"

#define CLIENT_PATIENCE_MS 20000
#define CLIENT_LINES_MAX MIB(16)

static inline uint64_t client_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* ---- The VM ---- */

struct port_vm {
	struct captured_log captured;
	struct vm_config config;
	char folder[64], path[96], options[256];
	struct vmctx *ctx;
	pthread_t thread;
	bool runs;
	int status;
};

static inline void *port_vm_thread(void *arg)
{
	struct port_vm *vm = arg;

	vm->status = vm_run(vm->ctx);
	return NULL;
}

/* A folder for the socket, and a configuration that may be changed before port_vm_create(). */
static inline void port_vm_init(struct port_vm *vm)
{
	memset(vm, 0, sizeof(*vm));
	captured_log_init(&vm->captured);
	snprintf(vm->folder, sizeof(vm->folder), "/tmp/tenon-test-port-XXXXXX");
	assert_non_null(mkdtemp(vm->folder));
	snprintf(vm->path, sizeof(vm->path), "%s/socket", vm->folder);
	snprintf(vm->options, sizeof(vm->options), "test,socket=%s", vm->path);
	vm->config = (struct vm_config) { .name = "vm", .memory_size = MIB(64), .cpu_count = 1 };
}

/* False if the VM cannot be made. */
static inline bool port_vm_create(struct port_vm *vm)
{
	const struct hv_ops *hv = hv_find(&vm->captured.log, vm->options);

	if (!hv)
		return false;
	vm->config.hv_options = hv_spec_options(vm->options);
	vm->ctx = vm_create(&vm->captured.log, hv, &vm->config);
	return vm->ctx;
}

static inline void port_vm_run(struct port_vm *vm)
{
	assert_int_equal(pthread_create(&vm->thread, NULL, port_vm_thread, vm), 0);
	vm->runs = true;
}

/* Wait until the VM has ended by itself; its exit status. */
static inline int port_vm_wait(struct port_vm *vm)
{
	if (vm->runs)
		pthread_join(vm->thread, NULL);
	vm->runs = false;
	vm_destroy(vm->ctx);
	vm->ctx = NULL;
	return vm->status;
}

static inline void port_vm_destroy(struct port_vm *vm)
{
	if (vm->runs)
		vm_request(vm->ctx, VM_REQUEST_POWEROFF, 0);
	port_vm_wait(vm);
	unlink(vm->path);
	rmdir(vm->folder);
	captured_log_deinit(&vm->captured);
}

static inline unsigned int port_vm_logged(struct port_vm *vm, const char *text)
{
	unsigned int found = 0;

	pthread_mutex_lock(&vm->captured.lock);
	for (unsigned int i = 0; i < vm->captured.count && i < CAPTURED_LINES; i++)
		found += strstr(vm->captured.lines[i], text) != NULL;
	pthread_mutex_unlock(&vm->captured.lock);
	return found;
}

/* ---- The client ---- */

/* @in, @used: received and not yet taken; @irqs: the IRQ lines so far, each with a space behind it. */
struct port_client {
	int fd;
	char *in;
	size_t used;
	char irqs[4096];
};

static inline void client_init(struct port_client *client, int fd)
{
	assert_true(fd >= 0);
	client->fd = fd;
	client->in = malloc(CLIENT_LINES_MAX);
	client->used = 0;
	client->irqs[0] = '\0';
	assert_non_null(client->in);
}

static inline void client_connect(struct port_client *client, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	client_init(client, fd);
}

static inline void client_close(struct port_client *client)
{
	close(client->fd);
	free(client->in);
	client->in = NULL;
}

static inline void client_send(struct port_client *client, const char *data, size_t len)
{
	while (len) {
		ssize_t sent = send(client->fd, data, len, MSG_NOSIGNAL);

		assert_true(sent > 0);
		data += sent;
		len -= (size_t)sent;
	}
}

/* Receive more; false at the end of the connection. */
static inline bool client_receive(struct port_client *client, int timeout_ms)
{
	struct pollfd poll_fd = { .fd = client->fd, .events = POLLIN };
	ssize_t len;

	if (poll(&poll_fd, 1, timeout_ms) != 1)
		fail_msg("no answer in %d ms", timeout_ms);
	assert_true(client->used < CLIENT_LINES_MAX);
	len = recv(client->fd, client->in + client->used, CLIENT_LINES_MAX - client->used, 0);
	if (len <= 0)
		return false;
	client->used += (size_t)len;
	return true;
}

/* The next line, allocated; NULL at the end of the connection. */
static inline char *client_line(struct port_client *client)
{
	size_t scanned = 0;
	char *newline, *line;

	while (!(newline = memchr(client->in + scanned, '\n', client->used - scanned))) {
		scanned = client->used;
		if (!client_receive(client, CLIENT_PATIENCE_MS))
			return NULL;
	}
	line = strndup(client->in, (size_t)(newline - client->in));
	assert_non_null(line);
	client->used -= (size_t)(newline + 1 - client->in);
	memmove(client->in, newline + 1, client->used);
	return line;
}

/* The next reply, allocated; IRQ lines before it go to client->irqs. */
static inline char *client_reply(struct port_client *client)
{
	for (;;) {
		char *line = client_line(client);
		size_t used = strlen(client->irqs);

		if (!line || strncmp(line, "IRQ ", 4))
			return line;
		snprintf(client->irqs + used, sizeof(client->irqs) - used, "%s ", line + 4);
		free(line);
	}
}

/* Send one line; its reply, allocated. */
static inline char *__format_printf(2, 3)
	client_ask(struct port_client *client, const char *fmt, ...)
{
	char line[512];
	va_list args;
	char *reply;
	int len;

	va_start(args, fmt);
	len = vsnprintf(line, sizeof(line) - 1, fmt, args);
	va_end(args);
	assert_true(len >= 0 && len < (int)sizeof(line) - 1);
	line[len] = '\n';
	client_send(client, line, (size_t)len + 1);
	reply = client_reply(client);
	if (!reply)
		fail_msg("the connection ended at: %.*s", len, line);
	return reply;
}

#define assert_reply(client, expected, ...)                                                        \
	do {                                                                                       \
		char *reply_ = client_ask(client, __VA_ARGS__);                                    \
		assert_string_equal(reply_, expected);                                             \
		free(reply_);                                                                      \
	} while (0)

#define assert_next(client, expected)                                                              \
	do {                                                                                       \
		char *reply_ = client_reply(client);                                               \
		assert_non_null(reply_);                                                           \
		assert_string_equal(reply_, expected);                                             \
		free(reply_);                                                                      \
	} while (0)

#define assert_ok(client, ...) assert_reply(client, "OK", __VA_ARGS__)

/* The lines that changed since the last time: "raise 8 lower 8 ". */
#define assert_irqs(client, expected)                                                              \
	do {                                                                                       \
		assert_string_equal((client)->irqs, expected);                                     \
		(client)->irqs[0] = '\0';                                                          \
	} while (0)

/* The number in the reply "OK NUMBER". */
static inline uint64_t __format_printf(2, 3)
	client_get(struct port_client *client, const char *fmt, ...)
{
	char line[128];
	va_list args;
	char *reply;
	uint64_t value;

	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	reply = client_ask(client, "%s", line);
	if (strncmp(reply, "OK ", 3))
		fail_msg("%s: %s", line, reply);
	value = strtoull(reply + 3, NULL, 0);
	free(reply);
	return value;
}

/* Wait for a line that comes by itself. */
static inline void client_wait_irqs(struct port_client *client, const char *expected)
{
	char *line = client_line(client);

	assert_non_null(line);
	assert_string_equal(line, expected);
	free(line);
}

#endif
