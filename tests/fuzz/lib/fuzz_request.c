/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests in well-formed rings.
 */
#include "fuzz_request.h"

#include <stdio.h>
#include <unistd.h>

#define STEPS_MAX 64
#define ALL_RECEIVE_BUFFERS 16

/* What can happen beside a request. */
enum { STEP_REQUESTS = 12, STEP_POLL, STEP_HOST, STEP_RECEIVE, STEPS };

/*
 * Cut @len bytes at @gpa: a byte each says how long the pieces are, with 0 for an empty one; the
 * last takes what is left.
 */
static unsigned int cut(struct fuzz_input *input, struct fuzz_segment *segments, unsigned int max,
			uint64_t gpa, uint32_t len, bool write)
{
	unsigned int count = 0, pieces = fuzz_u8(input) % max;

	for (; count < pieces; count++) {
		uint32_t piece = MIN(fuzz_u8(input), len);

		segments[count] = (struct fuzz_segment) { gpa, piece, write };
		gpa += piece;
		len -= piece;
	}
	if (len)
		segments[count++] = (struct fuzz_segment) { gpa, len, write };
	return count;
}

static void add_request(struct fuzz_driver *driver, struct fuzz_queue *queue,
			const struct fuzz_requests *requests, struct fuzz_input *input)
{
	struct fuzz_segment segments[FUZZ_SEGMENTS_MAX];
	uint8_t out[FUZZ_REQUEST_MAX];
	uint8_t flags = fuzz_u8(input);
	uint32_t in = 0, out_len = requests->request(input, out, &in);
	unsigned int count;
	uint64_t gpa;
	bool indirect = flags & 1 && driver->features & BIT64(VIRTIO_RING_F_INDIRECT_DESC);

	in = MIN(in, UINT32_C(0x8000));
	if (!fuzz_room(driver, out_len + in))
		return;
	gpa = fuzz_alloc(driver, out_len + in);
	fuzz_ram_write(driver, gpa, out, out_len);
	count = cut(input, segments, FUZZ_SEGMENTS_MAX / 2, gpa, out_len, false);
	count += cut(input, segments + count, FUZZ_SEGMENTS_MAX / 2, gpa + out_len, in, true);
	if (!count || !fuzz_queue_add(driver, queue, segments, count, indirect))
		return;
	if (!(flags & 2)) /* else with the next one */
		fuzz_kick(driver, queue);
}

/* Buffers for what the device has to say, in all other queues. */
static void add_receive_buffers(struct fuzz_driver *driver, const struct fuzz_requests *requests,
				struct fuzz_input *input)
{
	unsigned int queues = MIN(fuzz_common(driver->device)->nvq, FUZZ_QUEUES);
	uint32_t len = 1U << fuzz_u8(input) % 12;

	for (unsigned int i = 0; i < queues; i++) {
		struct fuzz_queue *queue = &driver->queues[i];

		if (i == requests->queue || i % 2)
			continue;
		for (unsigned int j = 0; j < ALL_RECEIVE_BUFFERS; j++) {
			struct fuzz_segment segment = { 0, len, true };

			if (!fuzz_room(driver, len))
				break;
			segment.addr = fuzz_alloc(driver, len);
			if (!fuzz_queue_add(driver, queue, &segment, 1, false))
				break;
		}
		fuzz_kick(driver, queue);
	}
}

static void collect_all(struct fuzz_driver *driver)
{
	for (unsigned int i = 0; i < MIN(fuzz_common(driver->device)->nvq, FUZZ_QUEUES); i++)
		fuzz_queue_collect(driver, &driver->queues[i]);
}

static void step(struct fuzz_driver *driver, const struct fuzz_requests *requests,
		 struct fuzz_input *input)
{
	switch (fuzz_u8(input) % STEPS) {
	case STEP_POLL:
		fuzz_machine_poll(driver->machine);
		collect_all(driver);
		break;
	case STEP_HOST:
		fuzz_host_input(driver->device, input);
		break;
	case STEP_RECEIVE:
		add_receive_buffers(driver, requests, input);
		break;
	default:
		add_request(driver, &driver->queues[requests->queue], requests, input);
	}
}

static void finish(struct fuzz_driver *driver, const struct fuzz_requests *requests)
{
	struct fuzz_queue *queue = &driver->queues[requests->queue];
	const struct virtio_common *vc = fuzz_common(driver->device);

	fuzz_kick(driver, queue);
	fuzz_machine_drain(driver->machine);
	collect_all(driver);
	if (requests->needs & ~driver->features)
		return;
	if (requests->answers && virtio_driver_ok(vc) && queue->outstanding)
		fuzz_fail("%s: %u requests are not answered", driver->device->label,
			  queue->outstanding);
}

int fuzz_requests_run(const struct fuzz_requests *requests, const uint8_t *data, size_t size)
{
	static struct fuzz_machine *machine; /* libFuzzer hands nothing through */
	static struct fuzz_driver driver;
	struct fuzz_input input = { data, size };
	struct fuzz_device *device;
	struct fuzz_setup setup;

	if (!machine)
		machine = fuzz_machine_create(requests->label);
	device = fuzz_device_find(machine, requests->label);
	if (!device) {
		fprintf(stderr, "skipped: %s cannot be made here\n", requests->label);
		_exit(FUZZ_SKIP);
	}
	fuzz_setup_read(&setup, &input, NULL);
	setup.start = true;
	fuzz_driver_start(&driver, machine, device, &setup);
	for (unsigned int i = 0; i < STEPS_MAX && fuzz_more(&input); i++)
		step(&driver, requests, &input);
	finish(&driver, requests);
	fuzz_machine_reset(machine, device);
	return 0;
}
