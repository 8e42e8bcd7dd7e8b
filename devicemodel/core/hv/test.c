/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The test port: a VM whose processor is a client on a Unix socket (doc/test-port.md).
 *
 * Its thread stands where another port's vCPU threads do: it carries out accesses, and it is paused.
 * Kicks always trap, so that a device has seen one when the client reads the reply; time stands
 * still until the client lets it pass, and what expires then does so in the same thread.
 */
#include "test.h"

#include <errno.h>
#include <stdlib.h>

#include "options.h"
#include "thread.h"

/* clang-format off */
static const struct option_desc test_options[] = {
	{ "socket", OPTION_STRING, .offset = offsetof(struct test_port, socket),
	  .help = "Unix socket to listen at, for one client after the other" },
	{ "connect", OPTION_STRING, .offset = offsetof(struct test_port, connect),
	  .help = "Unix socket to connect to; the VM ends with the connection" },
	{},
};
/* clang-format on */

static bool test_available(struct logger *log)
{
	return true;
}

/* ---- The VM runs, is paused, and runs again ---- */

bool test_active(struct test_port *port)
{
	pthread_mutex_lock(&port->lock);
	while (!port->running && !port->quit)
		pthread_cond_wait(&port->changed, &port->lock);
	port->active = !port->quit;
	pthread_mutex_unlock(&port->lock);
	return port->active;
}

void test_inactive(struct test_port *port)
{
	pthread_mutex_lock(&port->lock);
	port->active = false;
	pthread_cond_broadcast(&port->changed);
	pthread_mutex_unlock(&port->lock);
}

/* Whatever is asked of the VM ends in a start or in its end. */
void test_settle(struct test_port *port)
{
	uint64_t starts;

	if (!vm_request_pending(port->ctx))
		return;
	pthread_mutex_lock(&port->lock);
	starts = port->starts;
	port->active = false;
	pthread_cond_broadcast(&port->changed);
	while ((port->starts == starts || !port->running) && !port->quit)
		pthread_cond_wait(&port->changed, &port->lock);
	port->active = !port->quit;
	pthread_mutex_unlock(&port->lock);
}

static int test_start(struct vmctx *ctx)
{
	struct test_port *port = ctx->hv_data;

	pthread_mutex_lock(&port->lock);
	port->running = true;
	port->starts++;
	pthread_cond_broadcast(&port->changed);
	pthread_mutex_unlock(&port->lock);
	return 0;
}

static void test_pause(struct vmctx *ctx)
{
	struct test_port *port = ctx->hv_data;

	pthread_mutex_lock(&port->lock);
	port->running = false;
	while (port->active)
		pthread_cond_wait(&port->changed, &port->lock);
	pthread_mutex_unlock(&port->lock);
}

/* ---- Interrupts ---- */

/* irqs->lock */
static void irq_event(struct test_irqs *irqs, unsigned int gsi, bool level)
{
	if (irqs->count == TEST_EVENTS) {
		irqs->overflow = true;
		return;
	}
	irqs->events[irqs->count].gsi = (uint8_t)gsi;
	irqs->events[irqs->count].level = level;
	__atomic_store_n(&irqs->count, irqs->count + 1, __ATOMIC_RELAXED);
}

static int test_irq_line(struct vmctx *ctx, unsigned int gsi, bool level)
{
	struct test_port *port = ctx->hv_data;
	struct test_irqs *irqs = &port->irqs;
	bool tell;

	if (gsi >= TEST_GSIS)
		return -EINVAL;
	pthread_mutex_lock(&irqs->lock);
	tell = irqs->intercepted && irqs->level[gsi] != level;
	irqs->level[gsi] = level;
	if (tell)
		irq_event(irqs, gsi, level);
	pthread_mutex_unlock(&irqs->lock);
	/* The port's own thread looks before it replies. */
	if (tell && !pthread_equal(pthread_self(), port->thread))
		test_client_wake(port);
	return 0;
}

static void irq_report(struct test_port *port, unsigned int gsi, bool level)
{
	port->irqs.reported[gsi] = level;
	test_printf(port, "IRQ %s %u\n", level ? "raise" : "lower", gsi);
}

void test_irqs_report(struct test_port *port)
{
	struct test_irqs *irqs = &port->irqs;

	if (!__atomic_load_n(&irqs->count, __ATOMIC_RELAXED))
		return;
	pthread_mutex_lock(&irqs->lock);
	for (unsigned int i = 0; i < irqs->count; i++)
		irq_report(port, irqs->events[i].gsi, irqs->events[i].level);
	for (unsigned int gsi = 0; irqs->overflow && gsi < TEST_GSIS; gsi++)
		if (irqs->reported[gsi] != irqs->level[gsi])
			irq_report(port, gsi, irqs->level[gsi]);
	__atomic_store_n(&irqs->count, 0, __ATOMIC_RELAXED);
	irqs->overflow = false;
	pthread_mutex_unlock(&irqs->lock);
}

/* A new listener takes all lines to be low. */
void test_irqs_intercept(struct test_port *port, bool intercept)
{
	struct test_irqs *irqs = &port->irqs;
	bool news;

	pthread_mutex_lock(&irqs->lock);
	news = irqs->intercepted != intercept;
	irqs->intercepted = intercept;
	if (news) {
		irqs->count = 0;
		irqs->overflow = false;
		memset(irqs->reported, 0, sizeof(irqs->reported));
	}
	for (unsigned int gsi = 0; news && intercept && gsi < TEST_GSIS; gsi++)
		if (irqs->level[gsi])
			irq_event(irqs, gsi, true);
	pthread_mutex_unlock(&irqs->lock);
}

static int test_reset(struct vmctx *ctx)
{
	for (unsigned int gsi = 0; gsi < TEST_GSIS; gsi++)
		(void)test_irq_line(ctx, gsi, false);
	return 0;
}

#define LAPIC_WINDOW UINT64_C(0xfee00000) /* 1 MiB: messages to local APICs */
#define LAPIC_WINDOW_MASK (~UINT64_C(0xfffff))

/*
 * A message is a write of 32 bits. One for a local APIC has nobody to go to; other registers than
 * RAM are not written: the device that sends it may hold the lock of the one that it would reach.
 */
static int test_msi(struct vmctx *ctx, const struct hv_msi *msi)
{
	uint32_t *word = paddr_guest2host(ctx, msi->addr, sizeof(*word));

	if (word && !(msi->addr & 3)) {
		__atomic_store_n(word, msi->data, __ATOMIC_RELEASE);
		return 0;
	}
	if ((msi->addr & LAPIC_WINDOW_MASK) != LAPIC_WINDOW)
		return -EINVAL;
	log_debug(ctx->log, "test port: MSI 0x%08x to 0x%llx", msi->data,
		  (unsigned long long)msi->addr);
	return 0;
}

/* Not here: see above. */
static int test_ioeventfd(struct vmctx *ctx, const struct hv_ioeventfd *io, bool add)
{
	return add ? -ENOSPC : -ENOENT;
}

static int test_irqfd_add(struct vmctx *ctx, int fd, const struct hv_msi *msi)
{
	return -ENOSPC;
}

static int test_irqfd_update(struct vmctx *ctx, int handle, const struct hv_msi *msi)
{
	return -EINVAL;
}

static void test_irqfd_remove(struct vmctx *ctx, int handle, int fd)
{
}

/* ---- Making and ending ---- */

static int start_thread(struct test_port *port)
{
	int error = thread_start(&port->thread, 0, test_client_thread, port);

	port->has_thread = !error;
	if (error)
		log_error(port->ctx->log, "--hv test: cannot start a thread: %s (raise ulimit -u)",
			  strerror(-error));
	return error;
}

static int parse_options(struct test_port *port)
{
	struct option_set set = { .table = test_options, .object = port };
	struct logger *log = port->ctx->log;
	int error = options_parse(log, "--hv test", port->ctx->config.hv_options, &set, 1);

	if (error)
		return error;
	if (!port->socket == !port->connect) {
		log_error(log, "--hv test: give either socket=PATH, to listen at, or connect=PATH");
		return -EINVAL;
	}
	if (port->ctx->config.kernel)
		log_warning(log, "-k %s: the test port runs no kernel, it is not loaded",
			    port->ctx->config.kernel);
	return 0;
}

static void test_destroy(struct vmctx *ctx)
{
	struct option_set set = { .table = test_options, .object = ctx->hv_data };
	struct test_port *port = ctx->hv_data;

	pthread_mutex_lock(&port->lock);
	__atomic_store_n(&port->quit, true, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&port->changed);
	pthread_mutex_unlock(&port->lock);
	test_client_wake(port);
	if (port->has_thread)
		pthread_join(port->thread, NULL);
	test_client_destroy(port);
	options_free(&set, 1);
	pthread_cond_destroy(&port->changed);
	pthread_mutex_destroy(&port->lock);
	pthread_mutex_destroy(&port->irqs.lock);
	free(port);
	ctx->hv_data = NULL;
}

static int test_create(struct vmctx *ctx)
{
	struct test_port *port = calloc(1, sizeof(*port));
	int error;

	if (!port) {
		log_error(ctx->log, "--hv test: out of memory");
		return -ENOMEM;
	}
	port->ctx = ctx;
	ctx->needs_timers = true;
	port->listener.fd = port->client.fd = port->wake_fd = -1;
	pthread_mutex_init(&port->lock, NULL);
	pthread_cond_init(&port->changed, NULL);
	pthread_mutex_init(&port->irqs.lock, NULL);
	ctx->hv_data = port;
	error = parse_options(port);
	if (!error)
		error = test_client_create(port);
	if (!error)
		error = start_thread(port);
	if (error)
		test_destroy(ctx);
	return error;
}

static int test_add_memory(struct vmctx *ctx, const struct guest_memory_region *region)
{
	return 0;
}

static int test_set_boot_cpu(struct vmctx *ctx, const struct hv_cpu_state *state)
{
	return 0;
}

const struct hv_ops hv_test = {
	.name = "test",
	.summary = "no processor: a client on a Unix socket plays it, see doc/test-port.md",
	.options = test_options,
	.no_cpus = true,
	.virtual_time = true,
	.available = test_available,
	.create = test_create,
	.destroy = test_destroy,
	.add_memory = test_add_memory,
	.set_boot_cpu = test_set_boot_cpu,
	.start = test_start,
	.pause = test_pause,
	.reset = test_reset,
	.irq_line = test_irq_line,
	.msi = test_msi,
	.ioeventfd = test_ioeventfd,
	.irqfd_add = test_irqfd_add,
	.irqfd_update = test_irqfd_update,
	.irqfd_remove = test_irqfd_remove,
};
