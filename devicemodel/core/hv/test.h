/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test.h: the test port's parts: test.c the port, test_client.c the connection and its thread,
 * test_protocol.c the commands, test_memory.c accesses of any length, test_codec.c their data as text.
 *
 * One thread, the port's, does all that the client asks. Where another may call, it is said.
 */
#ifndef TENON_HV_TEST_H
#define TENON_HV_TEST_H

#include "dm.h"
#include "unix_socket.h"

#define TEST_GSIS 24 /* inputs of a PC's IOAPIC */
#define TEST_EVENTS 256

#define TEST_DATA_MAX MIB(4) /* bytes that one command moves as text */
#define TEST_LINE_MAX (2 * TEST_DATA_MAX + 256) /* so many as hexadecimal digits fit */
#define TEST_OUT_HIGH KIB(64) /* with more unsent, the client has to wait */
#define TEST_OUT_MAX (2 * TEST_DATA_MAX + 2 * TEST_OUT_HIGH)
#define TEST_NOT_RAM_MAX KIB(64) /* bytes outside RAM that one command accesses */

/*
 * struct test_irqs - the lines, and what the client has yet to hear of them.
 * @lock: protects all of it; any thread raises and lowers
 * @intercepted: the client asked for it
 * @level: of each line now; @reported: as the client knows it
 * @events, @count: changes in their order; @overflow: there were more, @level says what came of them
 */
struct test_irqs {
	pthread_mutex_t lock;
	bool intercepted;
	bool level[TEST_GSIS], reported[TEST_GSIS];
	struct {
		uint8_t gsi;
		bool level;
	} events[TEST_EVENTS];
	unsigned int count;
	bool overflow;
};

/*
 * struct test_client - the connection; the port's thread only.
 * @fd: -1: none
 * @ended: it sends no more
 * @in, @in_start, @in_end: received; up to @in_scanned there is no newline
 * @skipping: the rest of a line that is too long
 * @out, @out_start, @out_end: to send
 */
struct test_client {
	int fd;
	bool ended;
	char *in;
	size_t in_start, in_scanned, in_end;
	bool skipping;
	char *out;
	size_t out_start, out_end;
};

/*
 * struct test_port
 * @socket, @connect: the options
 * @listener: fd -1 with connect=
 * @wake_fd: makes the thread look at @quit and at the lines
 * @lock: protects what follows; @changed: some of it did
 * @running: between start and pause; @active: a command is being carried out
 * @starts: how often the VM was started
 */
struct test_port {
	struct vmctx *ctx;
	char *socket, *connect;
	struct unix_socket listener;
	int wake_fd;
	struct test_client client;
	struct test_irqs irqs;
	pthread_t thread;
	bool has_thread;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool running, active, quit;
	uint64_t starts;
};

/* test.c */

/* test_settle() - have done what the command asked of the VM, a reset that is; then it is running. */
void test_settle(struct test_port *port);
/* test_active() - may a command be carried out? Waits while the VM is paused; false: it ends. */
bool test_active(struct test_port *port);
void test_inactive(struct test_port *port);
/* test_irqs_report() - send the client what happened to the lines. */
void test_irqs_report(struct test_port *port);
/* test_irqs_intercept() - from now on, the client hears of the lines, or not any more. */
void test_irqs_intercept(struct test_port *port, bool intercept);

/* test_client.c */

int test_client_create(struct test_port *port) __must_check; /* 0 or -errno, logged */
void test_client_destroy(struct test_port *port);
/* test_client_wake() - have the port's thread look around; any thread. */
void test_client_wake(struct test_port *port);
void *test_client_thread(void *port);
/* test_send() - append to what is sent. */
void test_send(struct test_port *port, const char *data, size_t len);
void test_printf(struct test_port *port, const char *fmt, ...) __format_printf(2, 3);

/* test_protocol.c */

/* test_command() - carry out @line of @len bytes (followed by a NUL, changed) and reply with one. */
void test_command(struct test_port *port, char *line, size_t len);

/* test_memory.c: the memory space as a processor without an MMU sees it. */

/* struct test_source - bytes to write: @data and behind it @fill, as many as are wanted. */
struct test_source {
	const uint8_t *data;
	size_t len;
	uint8_t fill;
};

/* test_range_valid() - does [@addr, @addr + @len) not wrap, and have little outside RAM? */
bool test_range_valid(struct test_port *port, uint64_t addr, uint64_t len);
void test_memory_read(struct test_port *port, uint64_t addr, uint8_t *data, size_t len);
void test_memory_write(struct test_port *port, uint64_t addr, const struct test_source *source,
		       uint64_t len);
/* test_memory_load() / test_memory_store() - one access of 1, 2, 4 or 8 bytes. */
uint64_t test_memory_load(struct test_port *port, uint64_t addr, unsigned int size);
void test_memory_store(struct test_port *port, uint64_t addr, unsigned int size, uint64_t value);

/* test_codec.c */

/* hex_decode() / base64_decode() - in place; returns the number of bytes, or -EINVAL. */
long hex_decode(char *text, size_t len);
long base64_decode(char *text, size_t len);
/* hex_encode() / base64_encode() - returns the number of characters, 2 per byte, 4 per 3 bytes. */
size_t hex_encode(const uint8_t *data, size_t len, char *text);
size_t base64_encode(const uint8_t *data, size_t len, char *text);

#endif
