/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-console (virtio 1.4, 5.3) through the driver: both directions, ports and their control
 * protocol, and hosts that do not read.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_console.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "virtio_driver.h"

#define SLOT 4
#define CONTROL_IN 2
#define CONTROL_OUT 3
#define BUFFERS 16
#define BUFFER_SIZE 128

/*
 * struct inbox - a receive queue that is kept filled with @buffers.
 */
struct inbox {
	struct driver_queue *queue;
	struct segment buffers[BUFFERS];
};

struct bench {
	char dir[32];
	char console[64], port[64]; /* sockets or files */
	struct machine *machine;
	struct virtio_driver *driver;
	struct inbox inboxes[4];
	int peer[2];
};

static const struct driver_params usual = { .indirect = true, .event_idx = true, .msix = true };

static int bench_setup(void **state)
{
	struct bench *bench = test_calloc(1, sizeof(*bench));

	strcpy(bench->dir, "/tmp/tenon-con-XXXXXX");
	assert_non_null(mkdtemp(bench->dir));
	snprintf(bench->console, sizeof(bench->console), "%s/console", bench->dir);
	snprintf(bench->port, sizeof(bench->port), "%s/port", bench->dir);
	bench->peer[0] = bench->peer[1] = -1;
	*state = bench;
	return 0;
}

static void bench_stop(struct bench *bench)
{
	for (unsigned int i = 0; i < 2; i++) {
		if (bench->peer[i] >= 0)
			close(bench->peer[i]);
		bench->peer[i] = -1;
	}
	driver_close(bench->driver);
	machine_destroy(bench->machine);
	bench->driver = NULL;
	bench->machine = NULL;
}

static int bench_teardown(void **state)
{
	struct bench *bench = *state;

	bench_stop(bench);
	unlink(bench->console);
	unlink(bench->port);
	rmdir(bench->dir);
	test_free(bench);
	return 0;
}

/* @options is a format for the paths of console and port. */
static void bench_start(struct bench *bench, const struct driver_params *params,
			const char *console, const char *port, uint64_t without)
{
	struct machine_config config = { .ioeventfd = params->ioeventfd };
	char spec[256];

	snprintf(spec, sizeof(spec), "%d,virtio-console%s%s%s%s%s%s", SLOT, console ? "," : "",
		 console ?: "", console && strchr(console, ':') ? bench->console : "",
		 console && !strncmp(console, "socket", 6) ? ":server" : "",
		 port ? ",port=org.tenon.test:" : "", port ?: "");
	if (port && strchr(port, ':')) {
		strcat(spec, bench->port);
		if (!strncmp(port, "socket", 6))
			strcat(spec, ":server");
	}
	bench->machine = machine_create(&config);
	machine_add(bench->machine, spec);
	machine_log_clear(bench->machine);
	bench->driver = driver_run(bench->machine, SLOT, params, without);
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static struct driver_queue *queue_of(struct bench *bench, unsigned int index)
{
	return driver_queue(bench->driver, index);
}

/* ---- Sending ---- */

static void send_layout(struct bench *bench, unsigned int queue, const struct driver_layout *layout,
			const void *data, uint32_t len)
{
	assert_int_equal(driver_request(queue_of(bench, queue), layout, data, len, NULL, 0), 0);
}

static void send_text(struct bench *bench, unsigned int queue, const char *text)
{
	send_layout(bench, queue, &driver_layouts[0], text, (uint32_t)strlen(text));
}

/* ---- Receiving ---- */

static void inbox_fill(struct bench *bench, struct inbox *inbox, unsigned int queue, uint32_t size)
{
	inbox->queue = queue_of(bench, queue);
	for (unsigned int i = 0; i < BUFFERS && 2 * i < inbox->queue->ring.size; i++) {
		inbox->buffers[i] = (struct segment) { guest_alloc(bench->machine, size, 1), size };
		memset(guest_ptr(bench->machine, inbox->buffers[i].gpa, size), DRIVER_POISON, size);
		assert_int_equal(
			driver_add_buf(inbox->queue, &inbox->buffers[i], 0, 1, &inbox->buffers[i]),
			0);
	}
	driver_kick(inbox->queue);
	machine_poll(bench->machine);
}

/* The next used buffer's bytes, and the buffer back to the device; -1 if none comes. */
static int inbox_take(struct bench *bench, struct inbox *inbox, void *data, int timeout_ms)
{
	uint32_t len;
	struct segment *buffer = driver_wait_buf(inbox->queue, &len, timeout_ms);
	uint8_t *bytes;

	if (!buffer)
		return -1;
	assert_true(len > 0 && len <= buffer->len);
	bytes = guest_ptr(bench->machine, buffer->gpa, buffer->len);
	memcpy(data, bytes, len);
	for (uint32_t i = len; i < buffer->len; i++)
		assert_int_equal(bytes[i], DRIVER_POISON); /* no more than used.len says */
	memset(bytes, DRIVER_POISON, buffer->len);
	assert_int_equal(driver_add_buf(inbox->queue, buffer, 0, 1, buffer), 0);
	driver_kick(inbox->queue);
	return (int)len;
}

/* Receive @want, whole, however it is cut. */
static void expect_input(struct bench *bench, struct inbox *inbox, const void *want,
			 size_t want_len)
{
	uint8_t data[BUFFER_SIZE];
	size_t done = 0;

	while (done < want_len) {
		int len = inbox_take(bench, inbox, data, DRIVER_TIMEOUT_MS);

		if (len < 0)
			fail_msg("only %zu of %zu bytes came", done, want_len);
		assert_true(done + (size_t)len <= want_len);
		assert_memory_equal(data, (const uint8_t *)want + done, (size_t)len);
		done += (size_t)len;
	}
}

/* What came to the host's end of a socket or pty is @want. */
struct host_read {
	int fd;
	uint8_t *data;
	size_t len, want;
};

static bool host_read_done(void *arg)
{
	struct host_read *read_state = arg;
	ssize_t len = read(read_state->fd, read_state->data + read_state->len,
			   read_state->want - read_state->len);

	if (len > 0)
		read_state->len += (size_t)len;
	return read_state->len == read_state->want;
}

static void expect_output(struct bench *bench, int fd, const void *want, size_t want_len)
{
	struct host_read read_state = { fd, test_malloc(want_len), 0, want_len };

	if (!machine_wait(bench->machine, host_read_done, &read_state, DRIVER_TIMEOUT_MS))
		fail_msg("only %zu of %zu bytes came", read_state.len, want_len);
	assert_memory_equal(read_state.data, want, want_len);
	test_free(read_state.data);
}

static void expect_silence(struct bench *bench, struct inbox *inbox)
{
	assert_null(driver_wait_buf(inbox->queue, NULL, 20));
}

/* ---- The console ---- */

static size_t file_read(const char *path, char *data, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len;

	assert_true(fd >= 0);
	len = read(fd, data, size);
	close(fd);
	assert_true(len >= 0);
	return (size_t)len;
}

static void test_output(void **state)
{
	struct bench *bench = *state;

	for (unsigned int i = 0; i < DRIVER_COMBINATIONS; i++) {
		static const char text[] =
			"The quick brown fox jumps over the lazy dog. 0123456789\n";
		const size_t len = sizeof(text) - 1;
		struct driver_params params = driver_params_at(i);
		char data[1024];

		bench_start(bench, &params, "file:", NULL, 0);
		assert_int_equal(bench->driver->queue_count, 2);
		for (unsigned int j = 0; j < driver_layout_count; j++)
			send_layout(bench, 1, &driver_layouts[j], text, (uint32_t)len);
		assert_true(driver_queue_interrupt(queue_of(bench, 1)));
		assert_int_equal(file_read(bench->console, data, sizeof(data)),
				 len * driver_layout_count);
		for (unsigned int j = 0; j < driver_layout_count; j++)
			assert_memory_equal(data + j * len, text, len);
		bench_stop(bench);
		unlink(bench->console);
	}
}

static void test_input(void **state)
{
	struct bench *bench = *state;

	for (unsigned int i = 0; i < DRIVER_COMBINATIONS; i++) {
		struct driver_params params = driver_params_at(i);
		uint8_t bytes[600];

		for (size_t j = 0; j < sizeof(bytes); j++)
			bytes[j] = (uint8_t)(j * 11);
		bench_start(bench, &params, "socket:", NULL, 0);
		bench->peer[0] = connect_to(bench->console);
		machine_poll(bench->machine);
		/* What comes before there are buffers waits. */
		assert_int_equal(write(bench->peer[0], "early", 5), 5);
		machine_poll(bench->machine);
		inbox_fill(bench, &bench->inboxes[0], 0, BUFFER_SIZE);
		expect_input(bench, &bench->inboxes[0], "early", 5);
		assert_true(driver_queue_interrupt(queue_of(bench, 0)));
		assert_int_equal(write(bench->peer[0], bytes, sizeof(bytes)), sizeof(bytes));
		expect_input(bench, &bench->inboxes[0], bytes, sizeof(bytes));
		expect_silence(bench, &bench->inboxes[0]);
		bench_stop(bench);
	}
}

/* Much more than there are buffers, both ways. */
static void test_flood(void **state)
{
	struct bench *bench = *state;
	uint8_t bytes[4096];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 3 + i / 256);
	bench_start(bench, &usual, "socket:", NULL, 0);
	bench->peer[0] = connect_to(bench->console);
	machine_poll(bench->machine);
	inbox_fill(bench, &bench->inboxes[0], 0, BUFFER_SIZE);
	for (unsigned int i = 0; i < 64; i++) {
		assert_int_equal(write(bench->peer[0], bytes, sizeof(bytes)), sizeof(bytes));
		expect_input(bench, &bench->inboxes[0], bytes, sizeof(bytes));
		send_layout(bench, 1, &driver_layouts[i % driver_layout_count], bytes,
			    sizeof(bytes));
		expect_output(bench, bench->peer[0], bytes, sizeof(bytes));
	}
}

/* A kernel's console must not hang on a host that does not read: its output is used at once. */
static void test_console_never_waits(void **state)
{
	struct bench *bench = *state;
	uint8_t bytes[4096];

	memset(bytes, 'x', sizeof(bytes));
	bench_start(bench, &usual, "socket:", NULL, 0);
	bench->peer[0] = connect_to(bench->console);
	machine_poll(bench->machine);
	for (unsigned int i = 0; i < 512; i++)
		send_layout(bench, 1, &driver_layouts[0], bytes, sizeof(bytes));
	assert_logged(bench->machine, "output is dropped");
	assert_true(bench->machine->captured.count <= 4);
	/* It reads again, and what is sent then comes. */
	for (unsigned int i = 0; i < 2000; i++) {
		while (read(bench->peer[0], bytes, sizeof(bytes)) > 0)
			;
		machine_poll(bench->machine);
	}
	send_text(bench, 1, "and on it goes");
	expect_output(bench, bench->peer[0], "and on it goes", 14);
}

static uint8_t nth_byte(size_t n)
{
	return (uint8_t)(n * 7 + n / 251);
}

/* struct late - a reader that begins after a while, and reads to the end. */
struct late {
	int fd;
	size_t len;
	bool wrong;
};

static void *late_read(void *arg)
{
	struct late *late = arg;
	uint8_t data[4096];
	ssize_t len;

	usleep(100000);
	while ((len = read(late->fd, data, sizeof(data))) > 0)
		for (ssize_t i = 0; i < len; i++)
			late->wrong |= data[i] != nth_byte(late->len++);
	return NULL;
}

/* Send what fills the pipe @fd and @more bytes; returns how much that is. */
static size_t fill_pipe(struct bench *bench, int fd, size_t more)
{
	int capacity = fcntl(fd, F_GETPIPE_SZ);
	uint8_t bytes[1024];
	size_t sent = 0;

	assert_true(capacity > 0);
	while (sent < (size_t)capacity + more) {
		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = nth_byte(sent + i);
		send_layout(bench, 1, &driver_layouts[0], bytes, sizeof(bytes));
		sent += sizeof(bytes);
	}
	return sent;
}

/* What it said last reaches a reader who needs a moment for it. */
static void test_end_with_slow_reader(void **state)
{
	struct bench *bench = *state;
	struct late late = { 0 };
	pthread_t thread;
	size_t sent;

	assert_int_equal(mkfifo(bench->console, 0600), 0);
	late.fd = open(bench->console, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	assert_true(late.fd >= 0);
	bench_start(bench, &usual, "file:", NULL, 0);
	sent = fill_pipe(bench, late.fd, KIB(30));
	assert_int_equal(fcntl(late.fd, F_SETFL, 0), 0);
	assert_int_equal(pthread_create(&thread, NULL, late_read, &late), 0);
	bench_stop(bench);
	assert_int_equal(pthread_join(thread, NULL), 0);
	close(late.fd);
	assert_int_equal(late.len, sent);
	assert_false(late.wrong);
}

/* One who never reads does not hold up the end for long, and it is said what was lost. */
static void test_end_without_reader(void **state)
{
	struct bench *bench = *state;
	int fd;

	assert_int_equal(mkfifo(bench->console, 0600), 0);
	fd = open(bench->console, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	assert_true(fd >= 0);
	bench_start(bench, &usual, "file:", NULL, 0);
	fill_pipe(bench, fd, KIB(30));
	assert_int_equal(bench->machine->captured.count, 0);
	driver_close(bench->driver);
	bench->driver = NULL;
	vm_destroy(bench->machine->ctx);
	bench->machine->ctx = NULL;
	assert_logged(bench->machine, "nobody read the last");
	close(fd);
}

static void test_peer_comes_and_goes(void **state)
{
	struct bench *bench = *state;

	bench_start(bench, &usual, "socket:", NULL, 0);
	inbox_fill(bench, &bench->inboxes[0], 0, BUFFER_SIZE);
	send_text(bench, 1, "nobody is there");
	for (unsigned int i = 0; i < 5; i++) {
		bench->peer[0] = connect_to(bench->console);
		machine_poll(bench->machine);
		send_text(bench, 1, "hello");
		expect_output(bench, bench->peer[0], "hello", 5);
		assert_int_equal(write(bench->peer[0], "world", 5), 5);
		expect_input(bench, &bench->inboxes[0], "world", 5);
		close(bench->peer[0]);
		bench->peer[0] = -1;
		machine_poll(bench->machine);
		send_text(bench, 1, "nobody is there");
	}
}

static void test_pty(void **state)
{
	struct bench *bench = *state;
	struct termios raw;

	bench_start(bench, &usual, "pty:", NULL, 0);
	inbox_fill(bench, &bench->inboxes[0], 0, BUFFER_SIZE);
	send_text(bench, 1, "nobody is there");
	bench->peer[0] = open(bench->console, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	assert_true(bench->peer[0] >= 0);
	assert_int_equal(tcgetattr(bench->peer[0], &raw), 0);
	cfmakeraw(&raw);
	assert_int_equal(tcsetattr(bench->peer[0], TCSANOW, &raw), 0);
	tcflush(bench->peer[0], TCIOFLUSH);
	/* That somebody opened it is noticed by and by. */
	for (unsigned int i = 0; i < 100; i++) {
		machine_poll(bench->machine);
		usleep(5000);
	}
	send_text(bench, 1, "login: ");
	expect_output(bench, bench->peer[0], "login: ", 7);
	assert_int_equal(write(bench->peer[0], "root\r", 5), 5);
	expect_input(bench, &bench->inboxes[0], "root\r", 5);
}

/* virtio 1.4, 5.3.5.1: works before the driver has done anything */
static void test_emergency_write(void **state)
{
	struct bench *bench = *state;
	char data[16];

	bench_start(bench, &usual, "file:", NULL, 0);
	assert_true(driver_has(bench->driver, VIRTIO_CONSOLE_F_EMERG_WRITE));
	driver_set_status(bench->driver, 0);
	for (const char *at = "oops"; *at; at++)
		driver_set_config(bench->driver, offsetof(struct virtio_console_config, emerg_wr),
				  4, (uint32_t)*at);
	machine_poll(bench->machine);
	assert_int_equal(file_read(bench->console, data, sizeof(data)), 4);
	assert_memory_equal(data, "oops", 4);
}

static void test_receive_buffer_without_room(void **state)
{
	struct bench *bench = *state;
	struct segment segment;

	bench_start(bench, &usual, "socket:", NULL, 0);
	segment = (struct segment) { guest_alloc(bench->machine, 64, 1), 64 };
	bench->peer[0] = connect_to(bench->console);
	machine_poll(bench->machine);
	assert_int_equal(driver_add_buf(queue_of(bench, 0), &segment, 1, 0, bench), 0);
	driver_kick(queue_of(bench, 0));
	assert_int_equal(write(bench->peer[0], "x", 1), 1);
	assert_true(driver_wait_config(bench->driver, DRIVER_TIMEOUT_MS));
	assert_true(driver_status(bench->driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
	driver_restart(bench->driver);
	inbox_fill(bench, &bench->inboxes[0], 0, BUFFER_SIZE);
	expect_input(bench, &bench->inboxes[0], "x", 1); /* not lost */
}

/* ---- Ports (5.3.6.2) ---- */

/* struct control - a message from the device. */
struct control {
	struct virtio_console_control header;
	char name[BUFFER_SIZE];
};

static void control_out(struct bench *bench, uint32_t id, uint16_t event, uint16_t value)
{
	struct virtio_console_control message = { .id = id, .event = event, .value = value };

	send_layout(bench, CONTROL_OUT, &driver_layouts[id % driver_layout_count], &message,
		    sizeof(message));
}

/* The next message; it must be this one. */
static void expect_control(struct bench *bench, uint32_t id, uint16_t event, uint16_t value,
			   const char *name)
{
	struct control message;
	size_t extra = name ? strlen(name) : 0;
	int len;

	memset(&message, 0, sizeof(message));
	len = inbox_take(bench, &bench->inboxes[1], &message, DRIVER_TIMEOUT_MS);
	if (len < 0)
		fail_msg("message %u for port %u did not come", event, id);
	assert_int_equal(message.header.id, id);
	assert_int_equal(message.header.event, event);
	assert_int_equal(message.header.value, value);
	assert_int_equal(len, sizeof(message.header) + extra);
	if (name)
		assert_memory_equal(message.name, name, extra);
}

/* Up to where a driver knows both ports. */
static void ports_start(struct bench *bench, const char *port)
{
	bench_start(bench, &usual, "socket:", port, 0);
	assert_int_equal(bench->driver->queue_count, 6);
	assert_true(driver_has(bench->driver, VIRTIO_CONSOLE_F_MULTIPORT));
	assert_int_equal(driver_config(bench->driver,
				       offsetof(struct virtio_console_config, max_nr_ports), 4),
			 2);
	inbox_fill(bench, &bench->inboxes[0], 0, BUFFER_SIZE);
	inbox_fill(bench, &bench->inboxes[1], CONTROL_IN, BUFFER_SIZE);
	inbox_fill(bench, &bench->inboxes[2], 4, BUFFER_SIZE);
	expect_silence(bench, &bench->inboxes[1]); /* not before the driver is ready */
	control_out(bench, 0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	expect_control(bench, 0, VIRTIO_CONSOLE_PORT_ADD, 1, NULL);
	expect_control(bench, 1, VIRTIO_CONSOLE_PORT_ADD, 1, NULL);
	control_out(bench, 0, VIRTIO_CONSOLE_PORT_READY, 1);
	expect_control(bench, 0, VIRTIO_CONSOLE_CONSOLE_PORT, 1, NULL);
	control_out(bench, 1, VIRTIO_CONSOLE_PORT_READY, 1);
	expect_control(bench, 1, VIRTIO_CONSOLE_PORT_NAME, 1, "org.tenon.test");
}

static void test_ports(void **state)
{
	struct bench *bench = *state;

	ports_start(bench, "socket:");
	expect_silence(bench, &bench->inboxes[1]);
	bench->peer[1] = connect_to(bench->port);
	expect_control(bench, 1, VIRTIO_CONSOLE_PORT_OPEN, 1, NULL);

	/* Input waits for a program that opens the port. */
	assert_int_equal(write(bench->peer[1], "ping", 4), 4);
	expect_silence(bench, &bench->inboxes[2]);
	control_out(bench, 1, VIRTIO_CONSOLE_PORT_OPEN, 1);
	expect_input(bench, &bench->inboxes[2], "ping", 4);
	send_text(bench, 5, "pong");
	expect_output(bench, bench->peer[1], "pong", 4);

	/* What was for the program that closed is not for the next one. */
	control_out(bench, 1, VIRTIO_CONSOLE_PORT_OPEN, 0);
	assert_int_equal(write(bench->peer[1], "later", 5), 5);
	expect_silence(bench, &bench->inboxes[2]);
	control_out(bench, 1, VIRTIO_CONSOLE_PORT_OPEN, 1);
	expect_input(bench, &bench->inboxes[2], "later", 5);

	close(bench->peer[1]);
	bench->peer[1] = -1;
	expect_control(bench, 1, VIRTIO_CONSOLE_PORT_OPEN, 0, NULL);
	bench->peer[1] = connect_to(bench->port);
	expect_control(bench, 1, VIRTIO_CONSOLE_PORT_OPEN, 1, NULL);

	/* The console goes on beside it, open or not. */
	bench->peer[0] = connect_to(bench->console);
	expect_control(bench, 0, VIRTIO_CONSOLE_PORT_OPEN, 1, NULL);
	send_text(bench, 1, "console");
	expect_output(bench, bench->peer[0], "console", 7);
	assert_int_equal(write(bench->peer[0], "keys", 4), 4);
	expect_input(bench, &bench->inboxes[0], "keys", 4);
	assert_int_equal(bench->machine->captured.count, 0);
}

/* Input that a program left unread when it closed the port is not for the next one. */
static void test_port_closed_unread(void **state)
{
	struct bench *bench = *state;
	/* in the buffers, in the back end, and more of it in the socket */
	uint8_t stale[BUFFERS * BUFFER_SIZE + 3 * 4096], data[BUFFER_SIZE];

	memset(stale, 's', sizeof(stale));
	ports_start(bench, "socket:");
	bench->peer[1] = connect_to(bench->port);
	expect_control(bench, 1, VIRTIO_CONSOLE_PORT_OPEN, 1, NULL);
	control_out(bench, 1, VIRTIO_CONSOLE_PORT_OPEN, 1);
	assert_int_equal(write(bench->peer[1], stale, sizeof(stale)), sizeof(stale));
	machine_poll(bench->machine); /* all buffers are full, the rest waits */
	control_out(bench, 1, VIRTIO_CONSOLE_PORT_OPEN, 0);
	machine_poll(bench->machine);
	for (unsigned int i = 0; i < BUFFERS; i++)
		assert_int_equal(inbox_take(bench, &bench->inboxes[2], data, DRIVER_TIMEOUT_MS),
				 BUFFER_SIZE);
	control_out(bench, 1, VIRTIO_CONSOLE_PORT_OPEN, 1);
	expect_silence(bench, &bench->inboxes[2]);
	assert_int_equal(write(bench->peer[1], "fresh", 5), 5);
	expect_input(bench, &bench->inboxes[2], "fresh", 5);
}

/* A driver without MULTIPORT gets the console, and the other queues are dead. */
static void test_ports_not_negotiated(void **state)
{
	struct bench *bench = *state;

	bench_start(bench, &usual, "socket:", "socket:", BIT64(VIRTIO_CONSOLE_F_MULTIPORT));
	inbox_fill(bench, &bench->inboxes[0], 0, BUFFER_SIZE);
	inbox_fill(bench, &bench->inboxes[1], CONTROL_IN, BUFFER_SIZE);
	bench->peer[0] = connect_to(bench->console);
	machine_poll(bench->machine);
	send_text(bench, 1, "console");
	expect_output(bench, bench->peer[0], "console", 7);
	assert_int_equal(write(bench->peer[0], "keys", 4), 4);
	expect_input(bench, &bench->inboxes[0], "keys", 4);
	expect_silence(bench, &bench->inboxes[1]);
}

/* A program's port is held back until the host reads; nothing is lost. */
static void test_slow_reader(void **state)
{
	enum { CHUNK = 4096, CHUNKS = 300 };
	struct bench *bench = *state;
	unsigned int sent = 0, used = 0, received = 0;
	struct driver_queue *queue;
	uint64_t memory;
	bool held_back = false;

	ports_start(bench, "socket:");
	bench->peer[1] = connect_to(bench->port);
	expect_control(bench, 1, VIRTIO_CONSOLE_PORT_OPEN, 1, NULL);
	control_out(bench, 1, VIRTIO_CONSOLE_PORT_OPEN, 1);
	queue = queue_of(bench, 5);
	memory = guest_alloc(bench->machine, CHUNK * CHUNKS, 1);
	for (unsigned int i = 0; i < CHUNK * CHUNKS; i++)
		*(uint8_t *)guest_ptr(bench->machine, memory + i, 1) =
			(uint8_t)(i ^ i >> 8 ^ i >> 16);
	while (received < CHUNK * CHUNKS) {
		struct segment segment = { memory + (uint64_t)sent * CHUNK, CHUNK };
		uint8_t data[5000];
		ssize_t len;

		if (sent < CHUNKS && !driver_add_buf(queue, &segment, 1, 0, bench)) {
			driver_kick(queue);
			sent++;
			continue;
		}
		machine_poll(bench->machine);
		while (driver_get_buf(queue, NULL))
			used++;
		held_back |= used < sent;
		len = read(bench->peer[1], data, sizeof(data));
		if (len < 0 && errno == EAGAIN)
			continue;
		assert_true(len > 0);
		assert_memory_equal(data, guest_ptr(bench->machine, memory + received, (size_t)len),
				    (size_t)len);
		received += (unsigned int)len;
	}
	machine_poll(bench->machine);
	while (driver_get_buf(queue, NULL))
		used++;
	assert_true(held_back);
	assert_int_equal(used, CHUNKS);
}

/* What is held back for a peer that leaves is not for the next one, who waits to be accepted. */
static void test_held_back_for_another(void **state)
{
	enum { CHUNK = 32768, CHUNKS = 128 };
	struct bench *bench = *state;
	struct driver_queue *queue;
	struct segment segment;
	int first;

	ports_start(bench, "socket:");
	first = connect_to(bench->port);
	expect_control(bench, 1, VIRTIO_CONSOLE_PORT_OPEN, 1, NULL);
	control_out(bench, 1, VIRTIO_CONSOLE_PORT_OPEN, 1);
	queue = queue_of(bench, 5);
	segment = (struct segment) { guest_alloc(bench->machine, CHUNK, 1), CHUNK };
	for (unsigned int i = 0; i < CHUNKS; i++)
		assert_int_equal(driver_add_buf(queue, &segment, 1, 0, bench), 0);
	driver_kick(queue);
	machine_poll(bench->machine);
	bench->peer[1] = connect_to(bench->port);
	machine_poll(bench->machine);
	close(first);
	expect_control(bench, 1, VIRTIO_CONSOLE_PORT_OPEN, 0, NULL);
	expect_control(bench, 1, VIRTIO_CONSOLE_PORT_OPEN, 1, NULL);
	for (unsigned int i = 0; i < CHUNKS; i++)
		assert_non_null(driver_wait_buf(queue, NULL, DRIVER_TIMEOUT_MS));
	send_text(bench, 5, "fresh");
	expect_output(bench, bench->peer[1], "fresh", 5);
}

/* A driver that gives control buffers late hears all, as it is then. */
static void test_control_buffers_late(void **state)
{
	struct bench *bench = *state;

	bench_start(bench, &usual, "socket:", "socket:", 0);
	control_out(bench, 0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	machine_poll(bench->machine);
	inbox_fill(bench, &bench->inboxes[1], CONTROL_IN, BUFFER_SIZE);
	expect_control(bench, 0, VIRTIO_CONSOLE_PORT_ADD, 1, NULL);
	expect_control(bench, 1, VIRTIO_CONSOLE_PORT_ADD, 1, NULL);
	expect_silence(bench, &bench->inboxes[1]);
}

/* What no driver says is ignored, and said. */
static void test_control_wrong(void **state)
{
	static const struct virtio_console_control wrong[] = {
		{ 2, VIRTIO_CONSOLE_PORT_READY, 1 },
		{ 2, VIRTIO_CONSOLE_PORT_OPEN, 1 },
		{ UINT32_MAX, VIRTIO_CONSOLE_PORT_OPEN, 1 },
		{ 0x80000000, 3, 1 },
		{ 1, VIRTIO_CONSOLE_PORT_ADD, 1 },
		{ 1, VIRTIO_CONSOLE_PORT_REMOVE, 1 },
		{ 1, VIRTIO_CONSOLE_RESIZE, 1 },
		{ 1, 8, 1 },
		{ 1, 0xffff, 1 },
	};
	struct bench *bench = *state;

	ports_start(bench, "socket:");
	for (unsigned int i = 0; i < ARRAY_SIZE(wrong); i++) {
		machine_log_clear(bench->machine);
		control_out(bench, wrong[i].id, wrong[i].event, wrong[i].value);
		assert_logged(bench->machine, "ignored");
	}
	for (uint32_t len = 1; len < sizeof(wrong[0]); len++)
		send_layout(bench, CONTROL_OUT, &driver_layouts[0], wrong, len);
	/* Ready a second time: not added twice (5.3.6.2.1). */
	control_out(bench, 0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	expect_silence(bench, &bench->inboxes[1]);
	assert_false(driver_status(bench->driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
	bench->peer[1] = connect_to(bench->port);
	expect_control(bench, 1, VIRTIO_CONSOLE_PORT_OPEN, 1, NULL);
}

static void test_control_buffer_too_small(void **state)
{
	struct bench *bench = *state;

	bench_start(bench, &usual, "socket:", "socket:", 0);
	inbox_fill(bench, &bench->inboxes[1], CONTROL_IN, 7);
	control_out(bench, 0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	assert_true(driver_wait_config(bench->driver, DRIVER_TIMEOUT_MS));
	assert_true(driver_status(bench->driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_logged(bench->machine, "does not fit");
}

/* After a reset the next driver hears all from the start. */
static void test_ports_reset(void **state)
{
	struct bench *bench = *state;

	ports_start(bench, "socket:");
	bench->peer[1] = connect_to(bench->port);
	expect_control(bench, 1, VIRTIO_CONSOLE_PORT_OPEN, 1, NULL);
	control_out(bench, 1, VIRTIO_CONSOLE_PORT_OPEN, 1);
	for (unsigned int i = 0; i < 3; i++) {
		driver_restart(bench->driver);
		inbox_fill(bench, &bench->inboxes[1], CONTROL_IN, BUFFER_SIZE);
		inbox_fill(bench, &bench->inboxes[2], 4, BUFFER_SIZE);
		assert_int_equal(write(bench->peer[1], "x", 1), 1);
		expect_silence(bench, &bench->inboxes[1]);
		expect_silence(bench, &bench->inboxes[2]); /* no program has it open */
		control_out(bench, 0, VIRTIO_CONSOLE_DEVICE_READY, 1);
		expect_control(bench, 0, VIRTIO_CONSOLE_PORT_ADD, 1, NULL);
		expect_control(bench, 1, VIRTIO_CONSOLE_PORT_ADD, 1, NULL);
		control_out(bench, 1, VIRTIO_CONSOLE_PORT_READY, 1);
		expect_control(bench, 1, VIRTIO_CONSOLE_PORT_NAME, 1, "org.tenon.test");
		expect_control(bench, 1, VIRTIO_CONSOLE_PORT_OPEN, 1, NULL); /* still connected */
		control_out(bench, 1, VIRTIO_CONSOLE_PORT_OPEN, 1);
		expect_input(bench, &bench->inboxes[2], "x", 1);
	}
}

/*
 * Linux resets the device for suspend to RAM and hibernation. When it wakes it has its ports still: it
 * says which are ready and which are open, and never DEVICE_READY.
 */
static void test_ports_resumed(void **state)
{
	struct bench *bench = *state;

	ports_start(bench, "socket:");
	bench->peer[1] = connect_to(bench->port);
	expect_control(bench, 1, VIRTIO_CONSOLE_PORT_OPEN, 1, NULL);
	control_out(bench, 1, VIRTIO_CONSOLE_PORT_OPEN, 1);
	for (unsigned int i = 0; i < 2; i++) {
		bool says_ready = i == 0;

		driver_restart(bench->driver);
		inbox_fill(bench, &bench->inboxes[1], CONTROL_IN, BUFFER_SIZE);
		inbox_fill(bench, &bench->inboxes[2], 4, BUFFER_SIZE);
		if (says_ready) {
			control_out(bench, 1, VIRTIO_CONSOLE_PORT_READY, 1);
			expect_control(bench, 1, VIRTIO_CONSOLE_PORT_NAME, 1, "org.tenon.test");
			expect_control(bench, 1, VIRTIO_CONSOLE_PORT_OPEN, 1, NULL);
		}
		control_out(bench, 1, VIRTIO_CONSOLE_PORT_OPEN, 1);
		if (!says_ready)
			expect_control(bench, 1, VIRTIO_CONSOLE_PORT_OPEN, 1, NULL);
		assert_int_equal(write(bench->peer[1], "x", 1), 1);
		expect_input(bench, &bench->inboxes[2], "x", 1);
		send_text(bench, 5, "y");
		expect_output(bench, bench->peer[1], "y", 1);
		/* It has port 1: only the other is added. */
		control_out(bench, 0, VIRTIO_CONSOLE_DEVICE_READY, 1);
		expect_control(bench, 0, VIRTIO_CONSOLE_PORT_ADD, 1, NULL);
		expect_silence(bench, &bench->inboxes[1]);
	}
	assert_int_equal(bench->machine->captured.count, 0);
}

/* 31 named ports: as many queues as that takes, each with its own file. */
static void test_many_ports(void **state)
{
	struct bench *bench = *state;
	char spec[2048] = "4,virtio-console";

	for (unsigned int i = 0; i < 31; i++)
		snprintf(spec + strlen(spec), sizeof(spec) - strlen(spec), ",port=p%u:null", i);
	bench->machine = machine_create(NULL);
	machine_add(bench->machine, spec);
	bench->driver = driver_run(bench->machine, SLOT, &usual, 0);
	assert_int_equal(bench->driver->queue_count, 64);
	inbox_fill(bench, &bench->inboxes[1], CONTROL_IN, BUFFER_SIZE);
	control_out(bench, 0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	for (unsigned int i = 0; i < 31; i++)
		expect_control(bench, i, VIRTIO_CONSOLE_PORT_ADD, 1, NULL);
	for (unsigned int i = 0; i < 31; i++) {
		char name[8];

		snprintf(name, sizeof(name), "p%u", i);
		control_out(bench, i, VIRTIO_CONSOLE_PORT_READY, 1);
		expect_control(bench, i, VIRTIO_CONSOLE_PORT_NAME, 1, name);
		expect_control(bench, i, VIRTIO_CONSOLE_PORT_OPEN, 1, NULL);
		control_out(bench, i, VIRTIO_CONSOLE_PORT_OPEN, 1);
		send_text(bench, i ? 2 * i + 3 : 1, "to nobody");
	}
}

/* ---- Making one ---- */

static void test_specs(void **state)
{
	static const struct {
		const char *options, *says;
	} cases[] = {
		{ "virtio-console", "no back end" },
		{ "virtio-console,nosuch", "nosuch" },
		{ "virtio-console,port=x", "port=x: no back end" },
		{ "virtio-console,port=:null", "bad name" },
		{ "virtio-console,port=a/b:null", "bad name" },
		{ "virtio-console,port=a:null,port=a:null", "bad name" },
		{ "virtio-console,file:/no/such/dir/x", "/no/such/dir/x" },
		{ "virtio-console,socket:/no/such/socket", "/no/such/socket" },
		{ "virtio-console,null,nosuch=1", "unknown option nosuch" },
	};
	struct bench *bench = *state;

	bench_start(bench, &usual, "file:", NULL, 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		machine_log_clear(bench->machine);
		if (pci_add_device(bench->machine->ctx, cases[i].options))
			fail_msg("accepted: %s", cases[i].options);
		if (bench->machine->captured.count != 1) {
			machine_log_print(bench->machine);
			fail_msg("%s: %u lines", cases[i].options, bench->machine->captured.count);
		}
		assert_logged(bench->machine, cases[i].says);
	}
}

#define BENCH_TEST(function) cmocka_unit_test_setup_teardown(function, bench_setup, bench_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BENCH_TEST(test_output),
		BENCH_TEST(test_input),
		BENCH_TEST(test_flood),
		BENCH_TEST(test_console_never_waits),
		BENCH_TEST(test_end_with_slow_reader),
		BENCH_TEST(test_end_without_reader),
		BENCH_TEST(test_peer_comes_and_goes),
		BENCH_TEST(test_pty),
		BENCH_TEST(test_emergency_write),
		BENCH_TEST(test_receive_buffer_without_room),
		BENCH_TEST(test_ports),
		BENCH_TEST(test_port_closed_unread),
		BENCH_TEST(test_ports_not_negotiated),
		BENCH_TEST(test_slow_reader),
		BENCH_TEST(test_held_back_for_another),
		BENCH_TEST(test_control_buffers_late),
		BENCH_TEST(test_control_wrong),
		BENCH_TEST(test_control_buffer_too_small),
		BENCH_TEST(test_ports_reset),
		BENCH_TEST(test_ports_resumed),
		BENCH_TEST(test_many_ports),
		BENCH_TEST(test_specs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
