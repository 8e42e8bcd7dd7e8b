/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * options: what a person may write behind -s, into all option tables that there are and one with
 * each type of option; and the place and the size that go with it.
 */
#include <stdlib.h>

#include "lib/fuzz_machine.h"
#include "virtio_transport.h"

#define TEXT_MAX 4096
#define OBJECT_SIZE KIB(512)

struct sample {
	bool flag;
	uint64_t number, bounded, size;
	char *text, *positional;
	uint8_t mac[6];
	unsigned int choice;
	struct option_list list;
};

#define SAMPLE(member) .offset = offsetof(struct sample, member)

static const struct option_desc sample_options[] = {
	{ "flag", OPTION_BOOL, SAMPLE(flag), .help = "" },
	{ "number", OPTION_UINT, SAMPLE(number), .help = "" },
	{ "bounded", OPTION_UINT, SAMPLE(bounded), .def = "7", .min = 3, .max = 99, .help = "" },
	{ "size", OPTION_SIZE, SAMPLE(size), .def = "1M", .help = "" },
	{ "text", OPTION_STRING, SAMPLE(text), .def = "default", .help = "" },
	{ "positional", OPTION_STRING, OPTION_POSITIONAL | OPTION_REQUIRED, SAMPLE(positional),
	  .help = "" },
	{ "mac", OPTION_MAC, SAMPLE(mac), .help = "" },
	{ "choice", OPTION_ENUM, SAMPLE(choice), .choices = "a|bc|def", .help = "" },
	{ "list", OPTION_LIST, SAMPLE(list), .help = "" },
	{},
};

/* Nothing may be left of a specification that is refused, and nothing may be freed twice. */
static void parse(struct logger *log, const char *spec, struct option_set *sets, unsigned int count)
{
	int error = options_parse(log, "fuzz", spec, sets, count);

	for (unsigned int i = 0; error && i < count; i++)
		for (const struct option_desc *option = sets[i].table; option && option->name;
		     option++) {
			char *field = (char *)sets[i].object + option->offset;

			if ((option->type == OPTION_STRING && *(char **)field) ||
			    (option->type == OPTION_LIST && ((struct option_list *)field)->count))
				fuzz_fail("option %s is kept of what was refused", option->name);
		}
	options_free(sets, count);
	options_free(sets, count);
}

static void check_sample(const struct sample *sample)
{
	if (sample->bounded < 3 || sample->bounded > 99 || sample->choice > 2 ||
	    sample->list.count > OPTION_LIST_MAX || !sample->positional)
		fuzz_fail("a value is outside of its bounds");
}

static void parse_sample(struct logger *log, const char *spec)
{
	struct sample sample = { 0 };
	struct option_set set = { sample_options, &sample };

	if (!options_parse(log, "fuzz", spec, &set, 1))
		check_sample(&sample);
	options_free(&set, 1);
	memset(&sample, 0, sizeof(sample));
	parse(log, spec, &set, 1);
}

static void parse_device(struct logger *log, const char *spec, unsigned int index)
{
	const struct virtio_ops *ops = virtio_device_get(index);
	struct option_set sets[2];
	void *object;

	if (!ops)
		return;
	object = calloc(1, ops->priv_size);
	sets[0] = (struct option_set) { ops->options, object };
	sets[1] = (struct option_set) { virtio_common_options, object };
	parse(log, spec, sets, 2);
	free(object);
}

/* Only what names no device: a place must not depend on files of the host. */
static void parse_place(struct vmctx *ctx, const char *spec)
{
	if (!strstr(spec, "virtio") && !strstr(spec, "bridge") && pci_add_device(ctx, spec))
		fuzz_fail("there is no such device: %s", spec);
}

static void parse_numbers(const char *text)
{
	uint64_t value = 0, bytes;

	if (logger_parse_level(text) > LOG_LEVEL_DEBUG)
		fuzz_fail("there is no such level of messages: %s", text);
	if (option_parse_uint(text, &value) || option_parse_size(text, 1, &bytes))
		return;
	if (value != bytes)
		fuzz_fail("%s is %llu as a number and %llu as a size", text,
			  (unsigned long long)value, (unsigned long long)bytes);
	if (!option_parse_size(text, MIB(1), &bytes) && bytes / MIB(1) != value)
		fuzz_fail("%s MiB are %llu", text, (unsigned long long)bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fuzz_machine *machine; /* libFuzzer hands nothing through */
	struct fuzz_input input = { data, size };
	unsigned int what = fuzz_u8(&input);
	char text[TEXT_MAX];

	if (!machine)
		machine = fuzz_machine_create("");
	fuzz_bytes(&input, text, sizeof(text));
	text[sizeof(text) - 1] = '\0';
	if (what % 8 == 0)
		parse_place(machine->ctx, text);
	else if (what % 8 < 5)
		parse_sample(machine->ctx->log, text);
	else
		parse_device(machine->ctx->log, text, what / 8);
	parse_numbers(text);
	memset(machine->ctx->log->sites, 0, sizeof(machine->ctx->log->sites));
	return 0;
}
