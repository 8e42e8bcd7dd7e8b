/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The test port's commands: one line each, one line in reply, that begins with OK or ERR.
 */
#include "test.h"

#include <errno.h>
#include <stdlib.h>

#define WORDS_MAX 5
#define PORTS_END 0x10000
#define CHUNK 3072 /* bytes encoded at a time: full groups of base64, and of 8 */

/* struct test_call - a command with its arguments; @words holds what is not a number. */
struct test_call {
	const struct test_command *command;
	uint64_t numbers[WORDS_MAX];
	char *words[WORDS_MAX];
	unsigned int count;
};

/*
 * struct test_command
 * @arguments: a letter each: n a number, w a word; capital: may be left out
 * @usage: the same for people
 * @size: of the access
 */
struct test_command {
	const char *name;
	const char *arguments;
	const char *usage;
	unsigned int size;
	void (*run)(struct test_port *port, const struct test_call *call);
};

/* ---- Replies: first what happened up to there ---- */

static void reply_begin(struct test_port *port)
{
	test_settle(port);
	test_irqs_report(port);
}

static void reply_ok(struct test_port *port)
{
	reply_begin(port);
	test_send(port, "OK\n", 3);
}

static void reply_error(struct test_port *port, const struct test_call *call, const char *cause)
{
	reply_begin(port);
	test_printf(port, "ERR %s: %s (usage: %s %s)\n", call->command->name, cause,
		    call->command->name, call->command->usage);
}

/* ---- Ports ---- */

static bool port_valid(struct test_port *port, const struct test_call *call)
{
	if (call->numbers[0] < PORTS_END)
		return true;
	reply_error(port, call, "there is no such port");
	return false;
}

static void run_in(struct test_port *port, const struct test_call *call)
{
	struct io_request request = { .type = IO_PIO,
				      .size = call->command->size,
				      .addr = call->numbers[0] };

	if (!port_valid(port, call))
		return;
	vm_io(port->ctx, &request);
	reply_begin(port);
	test_printf(port, "OK 0x%04llx\n", (unsigned long long)request.value);
}

static void run_out(struct test_port *port, const struct test_call *call)
{
	struct io_request request = {
		.type = IO_PIO,
		.write = true,
		.size = call->command->size,
		.addr = call->numbers[0],
		.value = call->numbers[1],
	};

	if (!port_valid(port, call))
		return;
	vm_io(port->ctx, &request);
	reply_ok(port);
}

/* ---- Memory ---- */

static void run_load(struct test_port *port, const struct test_call *call)
{
	uint64_t value = test_memory_load(port, call->numbers[0], call->command->size);

	reply_begin(port);
	test_printf(port, "OK 0x%016llx\n", (unsigned long long)value);
}

static void run_store(struct test_port *port, const struct test_call *call)
{
	test_memory_store(port, call->numbers[0], call->command->size, call->numbers[1]);
	reply_ok(port);
}

static bool range_valid(struct test_port *port, const struct test_call *call)
{
	if (test_range_valid(port, call->numbers[0], call->numbers[1]))
		return true;
	reply_error(port, call, "the range wraps, or too much of it is not RAM");
	return false;
}

/* All accesses come before the reply begins, so the bytes are kept where it will be sent from. */
static void read_and_reply(struct test_port *port, const struct test_call *call, const char *prefix,
			   size_t (*encode)(const uint8_t *data, size_t len, char *text))
{
	uint64_t len = call->numbers[1];
	uint8_t *data;

	if (len > TEST_DATA_MAX) {
		reply_error(port, call, "LEN is more than 4 MiB");
		return;
	}
	if (!range_valid(port, call))
		return;
	data = malloc(len + !len);
	if (!data) {
		reply_error(port, call, "out of memory");
		return;
	}
	test_memory_read(port, call->numbers[0], data, len);
	reply_begin(port);
	test_send(port, prefix, strlen(prefix));
	for (uint64_t done = 0; done < len; done += CHUNK) {
		char text[2 * CHUNK];

		test_send(port, text, encode(data + done, MIN(len - done, CHUNK), text));
	}
	test_send(port, "\n", 1);
	free(data);
}

static void run_read(struct test_port *port, const struct test_call *call)
{
	read_and_reply(port, call, "OK 0x", hex_encode);
}

static void run_b64read(struct test_port *port, const struct test_call *call)
{
	read_and_reply(port, call, "OK ", base64_encode);
}

/* @text was decoded to @decoded bytes or is none; what is missing up to LEN is zeros. */
static void write_decoded(struct test_port *port, const struct test_call *call, const char *text,
			  long decoded)
{
	struct test_source source = { .data = (const uint8_t *)text, .len = (size_t)decoded };

	if (decoded < 0) {
		reply_error(port, call, "the data is malformed");
		return;
	}
	if ((uint64_t)decoded > call->numbers[1]) {
		reply_error(port, call, "the data is longer than LEN");
		return;
	}
	if (!range_valid(port, call))
		return;
	test_memory_write(port, call->numbers[0], &source, call->numbers[1]);
	reply_ok(port);
}

static void run_write(struct test_port *port, const struct test_call *call)
{
	char *text = call->words[2];
	bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');

	write_decoded(port, call, text + 2, hex ? hex_decode(text + 2, strlen(text + 2)) : -EINVAL);
}

static void run_b64write(struct test_port *port, const struct test_call *call)
{
	char *text = call->words[2];

	write_decoded(port, call, text, base64_decode(text, strlen(text)));
}

static void run_memset(struct test_port *port, const struct test_call *call)
{
	struct test_source source = { .fill = (uint8_t)call->numbers[2] };

	if (!range_valid(port, call))
		return;
	test_memory_write(port, call->numbers[0], &source, call->numbers[1]);
	reply_ok(port);
}

/* ---- Time and interrupts ---- */

static void let_pass(struct test_port *port, uint64_t ns)
{
	uint64_t now = event_clock_advance(port->ctx->clock, ns);

	reply_begin(port);
	test_printf(port, "OK %llu\n", (unsigned long long)now);
}

static void run_clock_step(struct test_port *port, const struct test_call *call)
{
	uint64_t now = event_clock_now(port->ctx->clock), expiry;

	if (call->count)
		let_pass(port, call->numbers[0]);
	else
		let_pass(port, event_clock_next(port->ctx->clock, &expiry) ? expiry - now : 0);
}

static void run_clock_set(struct test_port *port, const struct test_call *call)
{
	uint64_t now = event_clock_now(port->ctx->clock);

	let_pass(port, call->numbers[0] > now ? call->numbers[0] - now : 0);
}

/* There is one interrupt controller, whatever the client calls it. */
static void run_intercept(struct test_port *port, const struct test_call *call)
{
	test_irqs_intercept(port, true);
	reply_ok(port);
}

static void run_endianness(struct test_port *port, const struct test_call *call)
{
	reply_begin(port);
	test_send(port, "OK little\n", strlen("OK little\n"));
}

/* ---- The table ---- */

static const struct test_command commands[] = {
	{ "readl", "n", "ADDR", 4, run_load },
	{ "readw", "n", "ADDR", 2, run_load },
	{ "readb", "n", "ADDR", 1, run_load },
	{ "readq", "n", "ADDR", 8, run_load },
	{ "writel", "nn", "ADDR VALUE", 4, run_store },
	{ "writew", "nn", "ADDR VALUE", 2, run_store },
	{ "writeb", "nn", "ADDR VALUE", 1, run_store },
	{ "writeq", "nn", "ADDR VALUE", 8, run_store },
	{ "inl", "n", "PORT", 4, run_in },
	{ "inw", "n", "PORT", 2, run_in },
	{ "inb", "n", "PORT", 1, run_in },
	{ "outl", "nn", "PORT VALUE", 4, run_out },
	{ "outw", "nn", "PORT VALUE", 2, run_out },
	{ "outb", "nn", "PORT VALUE", 1, run_out },
	{ "read", "nn", "ADDR LEN", 0, run_read },
	{ "write", "nnw", "ADDR LEN 0xHEX", 0, run_write },
	{ "memset", "nnn", "ADDR LEN BYTE", 0, run_memset },
	{ "b64read", "nn", "ADDR LEN", 0, run_b64read },
	{ "b64write", "nnw", "ADDR LEN BASE64", 0, run_b64write },
	{ "clock_step", "N", "[NS]", 0, run_clock_step },
	{ "clock_set", "n", "NS", 0, run_clock_set },
	{ "irq_intercept_in", "w", "NAME", 0, run_intercept },
	{ "irq_intercept_out", "w", "NAME", 0, run_intercept },
	{ "endianness", "", "", 0, run_endianness },
};

static const struct test_command *command_find(const char *name)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(name, commands[i].name))
			return &commands[i];
	return NULL;
}

/* ---- Parsing ---- */

/* Decimal, 0x-hexadecimal or, with a leading zero, octal; 64 bits. */
static bool number_parse(const char *text, uint64_t *number)
{
	char *end;

	if (text[0] < '0' || text[0] > '9') /* strtoull() takes signs and blanks */
		return false;
	errno = 0;
	*number = strtoull(text, &end, 0);
	return !errno && !*end;
}

/* Cut @line into words in place; returns how many, WORDS_MAX + 1 if there are more. */
static unsigned int line_split(char *line, char **words)
{
	unsigned int count = 0;

	for (;;) {
		line += strspn(line, " \t");
		if (!*line)
			return count;
		if (count == WORDS_MAX)
			return count + 1;
		words[count++] = line;
		line += strcspn(line, " \t");
		if (*line)
			*line++ = '\0';
	}
}

static const char *arguments_parse(struct test_call *call, char **words, unsigned int count)
{
	const char *letters = call->command->arguments;

	call->count = count;
	for (unsigned int i = 0; i < count; i++) {
		if (!letters[i])
			return "too many arguments";
		call->words[i] = words[i];
		if ((letters[i] | 0x20) == 'n' && !number_parse(words[i], &call->numbers[i]))
			return "not a number of 64 bits";
	}
	if (letters[count] && letters[count] != 'N')
		return "too few arguments";
	return NULL;
}

void test_command(struct test_port *port, char *line, size_t len)
{
	char *words[WORDS_MAX];
	struct test_call call = { 0 };
	unsigned int count;
	const char *cause;

	if (len && line[len - 1] == '\r')
		line[--len] = '\0';
	count = strlen(line) == len ? line_split(line, words) : 0;
	call.command = count ? command_find(words[0]) : NULL;
	if (!call.command) {
		reply_begin(port);
		test_printf(port, "ERR unknown command\n");
		return;
	}
	cause = arguments_parse(&call, words + 1, count - 1);
	if (cause)
		reply_error(port, &call, cause);
	else
		call.command->run(port, &call);
}
