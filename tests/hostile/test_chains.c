/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Broken chains of descriptors, for every kind of device, in both formats, direct and indirect:
 * classes 4, 5, 6 and 7.
 */
#include "hostile.h"
#include "raw_ring.h"

#define WRITE VRING_DESC_F_WRITE
#define NEXT VRING_DESC_F_NEXT
#define INDIRECT VRING_DESC_F_INDIRECT

/* ---- Chains (classes 5, 6, 7) ---- */

/* Where bad descriptors may be. */
enum place { DIRECT = 1, TABLE = 2, ANYWHERE = 3 };

/* What comes of it: the device breaks, or it may put up with it. */
enum outcome { BREAKS, CONTAINED };

/* struct attack - a ring, room for descriptors, a page of guest memory that data can be in. */
struct attack {
	struct ring *ring;
	struct machine *machine;
	struct virtio_driver *driver;
	uint64_t page;
	uint64_t ram_end;
	struct raw_desc descs[RAW_DESCS_MAX];
};

#define TOO_LONG "more descriptors than the device takes"

/*
 * struct bad_chain
 * @fill: writes the descriptors and returns how many; 0: this cannot be in that ring
 * @split, @packed: the rules of which one must be named; NULL: not a mistake in that format
 */
struct bad_chain {
	const char *name;
	enum place place;
	enum outcome outcome;
	unsigned int (*fill)(struct attack *attack);
	const char *split, *packed;
};

static unsigned int one(struct attack *attack, uint64_t addr, uint32_t len, uint16_t flags)
{
	attack->descs[0] = (struct raw_desc) { addr, len, flags, 0 };
	return 1;
}

/* Good data in both directions, as far as @count goes; NEXT leads on but in the last. */
static unsigned int good(struct attack *attack, unsigned int count, uint32_t len)
{
	for (unsigned int i = 0; i < count; i++)
		attack->descs[i] = (struct raw_desc) { attack->page, len,
						       (uint16_t)((i + 1 < count ? NEXT : 0) |
								  (i >= count / 2 ? WRITE : 0)),
						       (uint16_t)(i + 1) };
	return count;
}

static unsigned int loop_of_one(struct attack *attack)
{
	return one(attack, attack->page, 0, NEXT | WRITE);
}

static unsigned int loop_of_two(struct attack *attack)
{
	good(attack, 2, 0);
	attack->descs[1].flags |= NEXT;
	attack->descs[1].next = 0;
	return 2;
}

static unsigned int loop_with_data(struct attack *attack)
{
	unsigned int count = good(attack, MIN(attack->ring->size, 300), 8);

	attack->descs[count - 1].flags |= NEXT;
	attack->descs[count - 1].next = (uint16_t)(count / 2);
	return count;
}

/* Each entry of the ring, empty, and NEXT in all of them. */
static unsigned int loop_of_all(struct attack *attack)
{
	unsigned int count = good(attack, attack->ring->size, 0);

	attack->descs[count - 1].flags |= NEXT;
	attack->descs[count - 1].next = 0;
	return count;
}

static unsigned int next_past_table(struct attack *attack)
{
	one(attack, attack->page, 8, NEXT | WRITE);
	attack->descs[0].next = attack->ring->size;
	return 1;
}

static unsigned int next_far_away(struct attack *attack)
{
	one(attack, attack->page, 8, NEXT | WRITE);
	attack->descs[0].next = 0xffff;
	return 1;
}

static unsigned int nested(struct attack *attack)
{
	struct raw_desc inner = { attack->page, 16, WRITE, 0 };

	return one(attack, raw_table(attack->ring, &inner, 1), 16, INDIRECT);
}

/* Tables of no bytes in empty tables ... would go on forever. */
static unsigned int nested_in_itself(struct attack *attack)
{
	uint64_t here = attack->machine->heap_next;

	return one(attack, align_up(here, 16), 16, INDIRECT);
}

static unsigned int outside_ram(struct attack *attack)
{
	return one(attack, attack->ram_end, 16, WRITE);
}

static unsigned int over_ram_end(struct attack *attack)
{
	return one(attack, attack->ram_end - 15, 16, WRITE);
}

static unsigned int readable_outside_ram(struct attack *attack)
{
	return one(attack, attack->ram_end - 15, 16, 0);
}

static unsigned int wraps(struct attack *attack)
{
	return one(attack, UINT64_MAX - 7, 16, WRITE);
}

static unsigned int wraps_with_length(struct attack *attack)
{
	return one(attack, UINT64_MAX - UINT32_MAX + 1, UINT32_MAX, WRITE);
}

static unsigned int high_bits(struct attack *attack)
{
	return one(attack, BIT64(63) | attack->page, 16, WRITE);
}

static unsigned int longest(struct attack *attack)
{
	return one(attack, attack->page, UINT32_MAX, WRITE);
}

static unsigned int own_bar(struct attack *attack)
{
	const struct pci_function *pci = &attack->driver->pci;

	if (!pci->msix_cap)
		return 0; /* it has none over vhost-user */
	return one(attack, pci->bar[pci->msix_table_bar].addr, 16, WRITE);
}

static unsigned int ecam(struct attack *attack)
{
	return one(attack, X86_ECAM_BASE, 16, WRITE);
}

static unsigned int local_apic(struct attack *attack)
{
	return one(attack, X86_LAPIC_BASE, 4, WRITE);
}

/* All of RAM so often that it is more than 4 GiB. */
static unsigned int four_gigabytes(struct attack *attack)
{
	unsigned int count = (unsigned int)(GIB(4) / attack->ram_end) + 2;

	if (count > attack->ring->size)
		return 0;
	good(attack, count, (uint32_t)attack->ram_end);
	for (unsigned int i = 0; i < count; i++) {
		attack->descs[i].addr = 0;
		attack->descs[i].flags |= WRITE;
	}
	return count;
}

static unsigned int readable_last(struct attack *attack)
{
	unsigned int count = good(attack, 3, 16);

	attack->descs[2].flags = 0;
	return count;
}

static unsigned int empty(struct attack *attack)
{
	return one(attack, attack->page, 0, WRITE);
}

static unsigned int empty_nowhere(struct attack *attack)
{
	return one(attack, UINT64_MAX, 0, 0);
}

static unsigned int empty_both(struct attack *attack)
{
	return good(attack, 2, 0);
}

/* Many empty descriptors and no end of work: in a table there is room for them. */
static unsigned int empty_without_end(struct attack *attack)
{
	return good(attack, 32768, 0);
}

static unsigned int longer_than_any(struct attack *attack)
{
	return good(attack, RAW_DESCS_MAX, 1);
}

static unsigned int unknown_flags(struct attack *attack)
{
	return one(attack, attack->page, 64, WRITE | 0x0078);
}

static unsigned int over_page_border(struct attack *attack)
{
	return one(attack, attack->page + 4096 - 32, 64, WRITE);
}

#define OUTSIDE "outside of RAM"

static const struct bad_chain bad_chains[] = {
	{ "descriptor follows itself", ANYWHERE, BREAKS, loop_of_one, "loops or is too long",
	  NULL },
	{ "two descriptors follow each other", ANYWHERE, BREAKS, loop_of_two,
	  "loops or is too long|behind a device-writable", NULL },
	{ "loop with data", ANYWHERE, BREAKS, loop_with_data,
	  "loops or is too long|" TOO_LONG "|behind a device-writable", NULL },
	{ "ring full of NEXT", DIRECT, BREAKS, loop_of_all,
	  "loops or is too long|" TOO_LONG "|behind a device-writable",
	  "longer than the ring|" TOO_LONG },
	{ "NEXT past the table", ANYWHERE, BREAKS, next_past_table, "outside of the table", NULL },
	{ "NEXT far away", ANYWHERE, BREAKS, next_far_away, "outside of the table", NULL },
	{ "indirect in indirect", TABLE, BREAKS, nested, "in an indirect table",
	  "in an indirect table" },
	{ "table that is its own entry", TABLE, BREAKS, nested_in_itself, "in an indirect table",
	  "in an indirect table" },
	{ "behind RAM", ANYWHERE, BREAKS, outside_ram, OUTSIDE, OUTSIDE },
	{ "over the end of RAM", ANYWHERE, BREAKS, over_ram_end, OUTSIDE, OUTSIDE },
	{ "to read, over the end of RAM", ANYWHERE, BREAKS, readable_outside_ram, OUTSIDE,
	  OUTSIDE },
	{ "address wraps", ANYWHERE, BREAKS, wraps, OUTSIDE, OUTSIDE },
	{ "address wraps by the length", ANYWHERE, BREAKS, wraps_with_length, OUTSIDE, OUTSIDE },
	{ "high address bits", ANYWHERE, BREAKS, high_bits, OUTSIDE, OUTSIDE },
	{ "4 GiB less one", ANYWHERE, BREAKS, longest, OUTSIDE, OUTSIDE },
	{ "the device's own BAR", ANYWHERE, BREAKS, own_bar, OUTSIDE, OUTSIDE },
	{ "config space", ANYWHERE, BREAKS, ecam, OUTSIDE, OUTSIDE },
	{ "local APIC", ANYWHERE, BREAKS, local_apic, OUTSIDE, OUTSIDE },
	{ "more than 4 GiB in all", ANYWHERE, BREAKS, four_gigabytes, "more than 4 GiB|" TOO_LONG,
	  "more than 4 GiB|" TOO_LONG },
	{ "readable behind writable", ANYWHERE, BREAKS, readable_last, "behind a device-writable",
	  "behind a device-writable" },
	{ "table of empty descriptors", TABLE, BREAKS, empty_without_end, TOO_LONG, TOO_LONG },
	{ "more descriptors than a queue can have", TABLE, BREAKS, longer_than_any, TOO_LONG,
	  TOO_LONG },
	{ "nothing but an empty descriptor", ANYWHERE, CONTAINED, empty, "", "" },
	{ "empty descriptor outside of RAM", ANYWHERE, CONTAINED, empty_nowhere, "", "" },
	{ "empty in both directions", ANYWHERE, CONTAINED, empty_both, "", "" },
	{ "unknown flags", ANYWHERE, CONTAINED, unknown_flags, "", "" },
	{ "over a page's border", ANYWHERE, CONTAINED, over_page_border, "", "" },
};

static struct attack *attack_new(struct hostile *hostile)
{
	struct attack *attack = calloc(1, sizeof(*attack));
	const struct guest_memory *memory = &hostile->machine->ctx->memory;

	assert_non_null(attack);
	hostile_begin(hostile); /* what it takes is not the device's */
	attack->ring = &hostile->queue->ring;
	attack->machine = hostile->machine;
	attack->driver = hostile->driver;
	attack->page = guest_alloc(hostile->machine, 8192, 4096);
	attack->ram_end = memory->regions[0].gpa + memory->regions[0].size;
	return attack;
}

static void run_bad_chain(struct hostile *hostile, struct attack *attack,
			  const struct bad_chain *bad, bool indirect)
{
	const char *rules = raw_is_packed(attack->ring) ? bad->packed : bad->split;
	unsigned int count;
	char what[128];

	if (!rules)
		return;
	memset(guest_ptr(hostile->machine, attack->page, 8192), DRIVER_POISON, 8192);
	count = bad->fill(attack);
	if (!count || (!indirect && count > attack->ring->size))
		return;
	snprintf(what, sizeof(what), "%s%s", bad->name, indirect ? ", in a table" : "");
	if (indirect)
		raw_add_indirect(attack->ring, raw_table(attack->ring, attack->descs, count),
				 count * 16, 0);
	else
		raw_add(attack->ring, attack->descs, count);
	hostile_kick(hostile);
	if (bad->outcome == CONTAINED)
		hostile_expect_contained(hostile, what);
	else
		hostile_expect_broken(hostile, what, rules);
}

static void test_chains(void **state)
{
	struct hostile *hostile = hostile_run(state);
	struct attack *attack = attack_new(hostile);

	for (unsigned int i = 0; i < ARRAY_SIZE(bad_chains); i++) {
		const struct bad_chain *bad = &bad_chains[i];

		if (bad->place & DIRECT)
			run_bad_chain(hostile, attack, bad, false);
		if (bad->place & TABLE && hostile->victim->params.indirect)
			run_bad_chain(hostile, attack, bad, true);
	}
	free(attack);
	hostile_close(hostile);
}

/* ---- The descriptor that points at a table (class 5) ---- */

static const struct {
	const char *name;
	uint64_t addr; /* 0: a table in RAM */
	uint32_t len;
	uint16_t flags;
	const char *rules;
} bad_tables[] = {
	{ "table of no bytes", 0, 0, 0, "no multiple of 16" },
	{ "table of 15 bytes", 0, 15, 0, "no multiple of 16" },
	{ "table of 17 bytes", 0, 17, 0, "no multiple of 16" },
	{ "table of almost 4 GiB", 0, 0xfffffff0, 0, "not in RAM" },
	{ "table behind RAM", MACHINE_MEMORY, 16, 0, "not in RAM" },
	{ "table over the end of RAM", MACHINE_MEMORY - 16, 32, 0, "not in RAM" },
	{ "table that wraps", UINT64_MAX - 15, 32, 0, "not in RAM" },
	{ "table and NEXT", 0, 16, NEXT, "INDIRECT and NEXT|indirect descriptor in a list" },
};

static void test_tables(void **state)
{
	struct hostile *hostile = hostile_run(state);
	struct ring *ring = &hostile->queue->ring;
	struct raw_desc entry = { guest_alloc(hostile->machine, 64, 16), 64, WRITE, 0 };
	uint64_t gpa = raw_table(ring, &entry, 1);

	for (unsigned int i = 0; i < ARRAY_SIZE(bad_tables); i++) {
		const char *rules = hostile->victim->params.indirect
					    ? bad_tables[i].rules
					    : "without VIRTIO_F_INDIRECT_DESC";

		if (!hostile->victim->params.indirect && bad_tables[i].flags && raw_is_packed(ring))
			rules = bad_tables[i].rules;
		raw_add_indirect(ring, bad_tables[i].addr ? bad_tables[i].addr : gpa,
				 bad_tables[i].len, bad_tables[i].flags);
		hostile_kick(hostile);
		hostile_expect_broken(hostile, bad_tables[i].name, rules);
	}
	hostile_close(hostile);
}

/* A table behind a descriptor: allowed in a split ring (virtio 1.4, 2.7.5.3.1), never in a packed one. */
static void test_table_in_chain(void **state)
{
	struct hostile *hostile = hostile_run(state);
	struct ring *ring = &hostile->queue->ring;
	uint64_t page = guest_alloc(hostile->machine, 4096, 16);
	struct raw_desc entry = { page, 64, WRITE, 0 };
	struct raw_desc chain[] = {
		{ page, 16, NEXT, 1 },
		{ raw_table(ring, &entry, 1), 16, INDIRECT, 0 },
	};

	raw_add(ring, chain, 2);
	hostile_kick(hostile);
	if (raw_is_packed(ring))
		hostile_expect_broken(hostile, "table in a list", "indirect descriptor in a list");
	else if (!hostile->victim->params.indirect)
		hostile_expect_broken(hostile, "table", "without VIRTIO_F_INDIRECT_DESC");
	else
		hostile_expect_contained(hostile, "table at the end of a chain");
	hostile_close(hostile);
}

/* One buffer, made available under the same head or id as often as the ring has entries, and over again. */
static void test_same_head(void **state)
{
	struct hostile *hostile = hostile_run(state);
	struct ring *ring = &hostile->queue->ring;
	struct kind_buffer buffer = kind_buffer(hostile->victim->kind, hostile->driver);
	struct raw_desc chain[2];
	unsigned int count = 0;

	for (unsigned int i = 0; i < buffer.out_count + buffer.in_count; i++, count++)
		chain[i] = (struct raw_desc) {
			buffer.segments[i].gpa, buffer.segments[i].len,
			(uint16_t)((i >= buffer.out_count ? WRITE : 0) |
				   (i + 1 < buffer.out_count + buffer.in_count ? NEXT : 0)),
			(uint16_t)(i + 1)
		};
	for (unsigned int round = 0; round < 4; round++) {
		for (unsigned int i = 0; i < ring->size / count; i++)
			raw_add(ring, chain, count);
		hostile_kick(hostile);
		machine_poll(hostile->machine);
	}
	hostile_expect_contained(hostile, "the same head again and again");
	hostile_close(hostile);
}

/* ---- Other queues than the one for simple requests: nobody knows what they want ---- */

static void test_each_queue(void **state)
{
	struct hostile *hostile = hostile_run(state);
	struct attack *attack = attack_new(hostile);

	for (unsigned int index = 0; index < hostile->driver->queue_count; index++)
		for (unsigned int i = 0; i < ARRAY_SIZE(bad_chains); i++) {
			bool indirect = !(bad_chains[i].place & DIRECT);
			unsigned int count;

			hostile->queue = driver_queue(hostile->driver, index);
			attack->ring = &hostile->queue->ring;
			count = bad_chains[i].fill(attack);
			if (!indirect && count && count <= attack->ring->size)
				raw_add(attack->ring, attack->descs, count);
			if (indirect && hostile->victim->params.indirect)
				raw_add_indirect(attack->ring,
						 raw_table(attack->ring, attack->descs, count),
						 count * 16, 0);
			hostile_kick(hostile);
			hostile_expect_contained(hostile, bad_chains[i].name);
		}
	free(attack);
	hostile_close(hostile);
}

int main(void)
{
	static struct kind_tests tests;

	kind_tests_add(&tests, "bad chains", test_chains, KIND_AXIS_RINGS);
	kind_tests_add_served(&tests, "bad chains", test_chains);
	kind_tests_add(&tests, "bad tables", test_tables, KIND_AXIS_RINGS);
	kind_tests_add_served(&tests, "bad tables", test_tables);
	kind_tests_add(&tests, "table in a chain", test_table_in_chain, KIND_AXIS_RINGS);
	kind_tests_add_served(&tests, "table in a chain", test_table_in_chain);
	kind_tests_add(&tests, "same head in flight", test_same_head, KIND_AXIS_RINGS);
	kind_tests_add_served(&tests, "same head in flight", test_same_head);
	kind_tests_add(&tests, "bad chains in each queue", test_each_queue, KIND_AXIS_RINGS);
	kind_tests_add_served(&tests, "bad chains in each queue", test_each_queue);
	return kind_tests_run(&tests, "hostile chains");
}
