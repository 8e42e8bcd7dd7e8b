/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests that mean nothing, and what a device that knows its rules does with them.
 */
#include "check_context.h"

#include <malloc.h>

#define GUARD_BYTE 0x5c
#define POISON_RUN 8
#define ASAN_POISON 0xbe /* what AddressSanitizer fills memory of malloc() with */
/* What variables hold that were not set, with -ftrivial-auto-var-init=pattern (SANITIZE=1). */
#ifdef __clang__
#define AUTO_POISON 0xaa
#else
#define AUTO_POISON 0xfe
#endif
#define PROBE_MS 100 /* for a device that may not answer at all */
#define ANSWER_MS 5000

struct virtio_driver *check_open(struct check_context *check)
{
	driver_close(check->driver);
	check->driver = driver_open(check->machine, CHECK_SLOT, &check->params);
	return check->driver;
}

struct virtio_driver *check_negotiate(struct check_context *check)
{
	struct virtio_driver *driver = check_open(check);

	assert_true(driver_negotiate(driver, driver->offered));
	return driver;
}

struct virtio_driver *check_start(struct check_context *check)
{
	struct virtio_driver *driver = check_negotiate(check);

	driver_start(driver);
	return driver;
}

/* ---- Buffers ---- */

/* Small and large, one direction only and both; a header of 16 zeros reads the first sector of a disk. */
static const struct {
	uint32_t out, in;
} shapes[] = {
	{ 0, 64 }, { 4, 8 }, { 16, 513 }, { 64, 0 }, { 64, 64 }, { 0, 4096 }, { 4096, 4096 },
};

/* Guard, readable part, guard, writable part, guard. */
static uint64_t in_gpa(const struct check_buffer *buffer)
{
	return buffer->gpa + CHECK_GUARD + buffer->out + CHECK_GUARD;
}

static uint64_t buffer_size(const struct check_buffer *buffer)
{
	return (uint64_t)buffer->out + buffer->in + 3 * CHECK_GUARD;
}

bool check_buffer(struct check_context *check, unsigned int index, struct check_buffer *buffer)
{
	struct machine *machine = check->machine;

	if (index >= ARRAY_SIZE(shapes))
		return false;
	*buffer = (struct check_buffer) { .out = shapes[index].out, .in = shapes[index].in };
	buffer->gpa = guest_alloc(machine, buffer_size(buffer), 16);
	memset(guest_ptr(machine, buffer->gpa, buffer_size(buffer)), GUARD_BYTE,
	       buffer_size(buffer));
	memset(guest_ptr(machine, buffer->gpa + CHECK_GUARD, buffer->out), 0, buffer->out);
	memset(guest_ptr(machine, in_gpa(buffer), buffer->in), DRIVER_POISON, buffer->in);
	buffer->out_count =
		segments_cut(buffer->segments, 1, buffer->gpa + CHECK_GUARD, buffer->out, NULL, 0);
	buffer->in_count = segments_cut(buffer->segments + buffer->out_count, 1, in_gpa(buffer),
					buffer->in, NULL, 0);
	return true;
}

void check_add(struct driver_queue *queue, struct check_buffer *buffer)
{
	assert_int_equal(driver_add_buf(queue, buffer->segments, buffer->out_count,
					buffer->in_count, buffer),
			 0);
}

void check_kick(struct driver_queue *queue)
{
	check_poison_stack();
	driver_kick(queue);
	machine_poll(queue->driver->machine);
}

static bool all_are(struct machine *machine, uint64_t gpa, uint64_t len, uint8_t value)
{
	const uint8_t *data = guest_ptr(machine, gpa, len);

	for (uint64_t i = 0; i < len; i++)
		if (data[i] != value)
			return false;
	return true;
}

/* Length of the longest run of @value in @data. */
static size_t longest_run(const uint8_t *data, size_t len, uint8_t value)
{
	size_t run = 0, longest = 0;

	for (size_t i = 0; i < len; i++) {
		run = data[i] == value ? run + 1 : 0;
		longest = MAX(run, longest);
	}
	return longest;
}

static bool outside_touched(struct machine *machine, const struct check_buffer *buffer)
{
	return !all_are(machine, buffer->gpa, CHECK_GUARD, GUARD_BYTE) ||
	       !all_are(machine, in_gpa(buffer) - CHECK_GUARD, CHECK_GUARD, GUARD_BYTE) ||
	       !all_are(machine, in_gpa(buffer) + buffer->in, CHECK_GUARD, GUARD_BYTE);
}

const char *check_buffer_fault(struct machine *machine, const struct check_buffer *buffer,
			       uint32_t len)
{
	const uint8_t *in = guest_ptr(machine, in_gpa(buffer), buffer->in);

	if (len > buffer->in)
		return "it was used with more bytes than are writable";
	if (!all_are(machine, buffer->gpa + CHECK_GUARD, buffer->out, 0))
		return "the readable part was written to";
	if (outside_touched(machine, buffer))
		return "memory outside of it was written to";
	if (check_poison_seen(in, buffer->in))
		return "it shows memory of the host that was never written to";
	if (len >= 4 && longest_run(in, len, DRIVER_POISON) >= MIN(len, POISON_RUN))
		return "it was used with more bytes than were written";
	return NULL;
}

bool check_buffer_touched(struct machine *machine, const struct check_buffer *buffer)
{
	return outside_touched(machine, buffer) ||
	       !all_are(machine, buffer->gpa + CHECK_GUARD, buffer->out, 0) ||
	       !all_are(machine, in_gpa(buffer), buffer->in, DRIVER_POISON);
}

/* ---- Requests that are answered ---- */

struct answer {
	struct driver_queue *queue;
	void *token;
};

/* The request was answered, or it never will be. */
static bool answer_known(void *arg)
{
	struct answer *answer = arg;

	answer->token = driver_get_buf(answer->queue, NULL);
	return answer->token || check_needs_reset(answer->queue->driver);
}

static bool probe_within(struct check_context *check, const struct check_probe *probe,
			 int timeout_ms)
{
	struct answer answer = { .queue = driver_queue(check->driver, probe->queue) };
	struct check_buffer buffer;

	if (!check_buffer(check, probe->shape, &buffer))
		return false;
	check_add(answer.queue, &buffer);
	check_kick(answer.queue);
	machine_wait(check->machine, answer_known, &answer, timeout_ms);
	return answer.token == &buffer && !check_needs_reset(check->driver);
}

static bool probe_answered(struct check_context *check, struct check_probe *probe, int timeout_ms)
{
	check_start(check);
	probe->found = probe_within(check, probe, timeout_ms);
	if (probe->found)
		*check->last_probe = *probe;
	return probe->found;
}

bool check_find_probe(struct check_context *check, struct check_probe *probe)
{
	unsigned int queues = check_queues(check_open(check));

	*probe = *check->last_probe;
	if (probe->found && probe_answered(check, probe, ANSWER_MS))
		return true;
	for (probe->shape = 0; probe->shape < ARRAY_SIZE(shapes); probe->shape++)
		for (probe->queue = 0; probe->queue < queues; probe->queue++)
			if (probe_answered(check, probe, PROBE_MS))
				return true;
	return false;
}

bool check_probe_works(struct check_context *check, const struct check_probe *probe)
{
	return probe_within(check, probe, ANSWER_MS);
}

bool check_other_works(struct check_context *check)
{
	const struct driver_params params = { .msix = true };
	struct virtio_driver *driver = driver_run(check->machine, CHECK_OTHER_SLOT, &params, 0);
	uint8_t data[16];
	uint32_t len;

	len = driver_request(driver_queue(driver, 0), &driver_layouts[0], NULL, 0, data,
			     sizeof(data));
	driver_close(driver);
	return len == sizeof(data);
}

/* ---- Poison ---- */

void check_poison_heap(void)
{
	mallopt(M_PERTURB, CHECK_POISON ^ 0xff); /* what is allocated gets the complement */
}

__attribute__((noinline)) void check_poison_stack(void)
{
	uint8_t stack[24 * 1024];

	memset(stack, CHECK_POISON, sizeof(stack));
	__asm__ volatile("" : : "r"(stack) : "memory"); /* somebody reads it: do not leave it out */
}

bool check_poison_seen(const uint8_t *data, size_t len)
{
	return longest_run(data, len, CHECK_POISON) >= POISON_RUN ||
	       longest_run(data, len, ASAN_POISON) >= POISON_RUN ||
	       longest_run(data, len, AUTO_POISON) >= POISON_RUN;
}
