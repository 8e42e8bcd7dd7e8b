/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * port: the lines that a client sends to the test port, which then plays the processor of a VM with a
 * few devices. Every line has one reply, of lines that begin as the protocol says.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../../devicemodel/core/hv/test.h"
#include "lib/fuzz_input.h"
#include "lib/fuzz_machine.h"

#define LINES_MAX 256
#define CLOCK_MAX BIT64(62)

static void swallow(void *arg, enum log_level level, const char *line)
{
	if (getenv("FUZZ_LOG"))
		fprintf(stderr, "log: %s\n", line);
}

/*
 * A VM of whose port the thread has ended: this one carries out the lines, one after the other, and
 * waits for nothing, since the port is ending, too.
 */
static struct vmctx *vm_make(struct logger *log, const char *folder)
{
	static const char *const devices[] = { "3,virtio-rng,period=60000",
					       "4,virtio-console,null" };
	char options[128];
	struct vm_config config = {
		.name = "fuzz",
		.memory_size = MIB(2),
		.cpu_count = 1,
		.hv_options = options,
	};
	struct test_port *port;
	struct vmctx *ctx;

	snprintf(options, sizeof(options), "socket=%s/socket", folder);
	ctx = vm_create(log, &hv_test, &config);
	if (!ctx)
		fuzz_fail("there is no VM");
	for (unsigned int i = 0; i < ARRAY_SIZE(devices); i++)
		if (!pci_add_device(ctx, devices[i]))
			fuzz_fail("there is no %s", devices[i]);
	ctx->config.hv_options = NULL;
	port = ctx->hv_data;
	__atomic_store_n(&port->quit, true, __ATOMIC_RELEASE);
	test_client_wake(port);
	pthread_join(port->thread, NULL);
	port->has_thread = false;
	port->thread = pthread_self();
	return ctx;
}

static void vm_unmake(struct vmctx *ctx)
{
	struct test_port *port = ctx->hv_data;

	port->client.fd = -1;
	vm_destroy(ctx);
}

/* One line begins with OK or ERR, the last; those before it tell of interrupts. */
static void check_reply(const struct test_client *client)
{
	const char *at = client->out, *end = client->out + client->out_end;

	while (at < end) {
		const char *newline = memchr(at, '\n', (size_t)(end - at));

		if (!newline)
			fuzz_fail("the reply has no end");
		if (!strncmp(at, "OK", 2) || !strncmp(at, "ERR ", 4)) {
			if (newline + 1 != end)
				fuzz_fail("there is something behind the reply");
			return;
		}
		if (strncmp(at, "IRQ ", 4))
			fuzz_fail("a line that is not in the protocol");
		at = newline + 1;
	}
	fuzz_fail("there is no reply");
}

/* What the guest asked for is for the main loop, which does not run. */
static void forget_request(struct vmctx *ctx)
{
	uint64_t count;

	if (!vm_request_pending(ctx))
		return;
	pthread_mutex_lock(&ctx->request_lock);
	ctx->request = VM_REQUEST_NONE;
	pthread_mutex_unlock(&ctx->request_lock);
	if (read(ctx->request_fd, &count, sizeof(count)) < 0)
		fuzz_fail("nobody told the main loop");
	vm_reset_devices(ctx);
}

static void carry_out(struct vmctx *ctx, const uint8_t *bytes, size_t len)
{
	struct test_port *port = ctx->hv_data;
	char *line = malloc(len + 1);

	memcpy(line, bytes, len);
	line[len] = '\0';
	port->client.out_start = port->client.out_end = 0;
	test_command(port, line, len);
	check_reply(&port->client);
	free(line);
	event_loop_poll(ctx->io_loop, 0);
	forget_request(ctx);
}

static struct vmctx *vm_renew(struct vmctx *ctx, struct logger *log, const char *folder)
{
	struct test_port *port;

	if (ctx && event_clock_now(ctx->clock) > CLOCK_MAX) {
		vm_unmake(ctx);
		ctx = NULL;
	}
	if (!ctx)
		ctx = vm_make(log, folder);
	vm_reset_devices(ctx);
	for (unsigned int i = 0; i < ctx->memory.count; i++)
		memset(ctx->memory.regions[i].host, 0, ctx->memory.regions[i].size);
	memset(log->sites, 0, sizeof(log->sites));
	port = ctx->hv_data;
	test_irqs_intercept(port, false);
	port->client.fd = STDERR_FILENO; /* it is only looked whether there is one */
	return ctx;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct vmctx *ctx; /* libFuzzer hands nothing through */
	static struct logger log;
	static char folder[] = "/tmp/tenon-fuzz-XXXXXX";

	if (!ctx) {
		logger_init(&log, "fuzz");
		log.sink = swallow;
		log.level = LOG_LEVEL_DEBUG;
		if (!mkdtemp(folder))
			abort();
	}
	ctx = vm_renew(ctx, &log, folder);
	for (unsigned int i = 0; size && i < LINES_MAX; i++) {
		const uint8_t *newline = memchr(data, '\n', size);
		size_t len = newline ? (size_t)(newline - data) : size;

		carry_out(ctx, data, len);
		len += newline != NULL;
		data += len;
		size -= len;
	}
	return 0;
}
