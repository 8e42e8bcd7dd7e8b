/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * served.h: a disk served by `tenon serve`, and a front end with a driver for it: what the tests of
 * vhost-user begin with. The process is the real one, built as the test is, sanitizers included.
 */
#ifndef TENON_TESTS_SERVED_H
#define TENON_TESTS_SERVED_H

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "vhost_user_client.h"

#define SERVED_DISK MIB(1)
#define SERVED_QUEUES 4U

/* struct served - @spec: of the device, its disk is @disk */
struct served {
	struct back_end back_end;
	char disk[128], spec[256];
	struct machine *machine;
	struct front_end *front;
	struct virtio_driver *driver;
};

static inline uint64_t served_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static inline void served_connect(struct served *served)
{
	int socket = front_connect(served->back_end.socket);

	assert_true(socket >= 0);
	front_attach(served->front, socket);
}

/* A disk of 1 MiB, a front end, and no process yet. */
static inline struct served *served_create_stopped(void **state)
{
	struct served *served = calloc(1, sizeof(*served));
	int disk;

	assert_non_null(served);
	*state = served;
	served->machine = machine_create(NULL);
	served->front = front_create(served->machine);
	back_end_create(&served->back_end);
	snprintf(served->disk, sizeof(served->disk), "%s/disk", served->back_end.directory);
	disk = open(served->disk, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(disk >= 0);
	assert_int_equal(ftruncate(disk, SERVED_DISK), 0);
	close(disk);
	snprintf(served->spec, sizeof(served->spec), "virtio-blk,%s,queues=%u,packed=on",
		 served->disk, SERVED_QUEUES);
	return served;
}

/* A process that serves it, with 4 queues, and a front end that is connected to it. */
static inline struct served *served_create(void **state)
{
	struct served *served = served_create_stopped(state);

	back_end_serve(&served->back_end, served->spec);
	served_connect(served);
	return served;
}

/* It has lived through it all, and ends in peace: nothing leaked, no sanitizer complained. */
static inline int served_end(void **state)
{
	struct served *served = *state;
	int status;

	if (!served)
		return 0;
	*state = NULL;
	driver_close(served->driver);
	front_destroy(served->front);
	machine_destroy(served->machine);
	status = back_end_alive(&served->back_end) ? back_end_stop(&served->back_end) : -ESRCH;
	if (status)
		back_end_log_print(&served->back_end);
	back_end_destroy(&served->back_end);
	free(served);
	assert_int_equal(status, 0);
	return 0;
}

static const struct driver_params served_split = { .indirect = true, .event_idx = true };
static const struct driver_params served_packed = { .indirect = true,
						    .event_idx = true,
						    .packed = true };

/* The driver runs, with all that is offered and @params have. */
static inline struct virtio_driver *served_run(struct served *served,
					       const struct driver_params *params)
{
	struct front_end *front = served->front;

	assert_int_equal(front_begin(front), 0);
	front->queue_count = MIN(front->queue_count, SERVED_QUEUES);
	served->driver = front_driver_open(front, params);
	assert_true(driver_negotiate(served->driver, served->driver->offered));
	driver_start(served->driver);
	return served->driver;
}

/* ---- Requests ---- */

static inline void served_pattern(uint8_t *data, size_t len, uint32_t seed)
{
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)((seed * 2654435761U + i * 40503U) >> 8);
}

static inline void served_write(struct virtio_driver *driver, unsigned int queue, uint64_t sector,
				uint32_t seed)
{
	struct {
		struct virtio_blk_outhdr header;
		uint8_t data[512];
	} out = { .header = { .type = VIRTIO_BLK_T_OUT, .sector = sector } };
	uint8_t status = 0xff;

	served_pattern(out.data, sizeof(out.data), seed);
	assert_int_equal(driver_request(driver_queue(driver, queue), &driver_layouts[0], &out,
					sizeof(out), &status, 1),
			 1);
	assert_int_equal(status, VIRTIO_BLK_S_OK);
}

static inline void served_verify(struct virtio_driver *driver, unsigned int queue, uint64_t sector,
				 uint32_t seed)
{
	struct virtio_blk_outhdr header = { .type = VIRTIO_BLK_T_IN, .sector = sector };
	uint8_t in[513], expected[512];

	served_pattern(expected, sizeof(expected), seed);
	assert_int_equal(driver_request(driver_queue(driver, queue), &driver_layouts[0], &header,
					sizeof(header), in, sizeof(in)),
			 sizeof(in));
	assert_int_equal(in[512], VIRTIO_BLK_S_OK);
	assert_memory_equal(in, expected, sizeof(expected));
}

/* struct served_request - one that is in flight for longer. */
struct served_request {
	struct virtio_blk_outhdr *header;
	uint8_t *data, *status;
	uint64_t gpa;
	struct segment segments[3];
};

/* Make @request, of a sector, at @gpa (4096 bytes of it), its status at @status behind that. */
static inline void served_prepare(struct virtio_driver *driver, uint64_t gpa, uint64_t status,
				  uint32_t type, uint64_t sector, struct served_request *request)
{
	request->gpa = gpa;
	request->header = guest_ptr(driver->machine, gpa, 4096);
	request->status = guest_ptr(driver->machine, gpa + status, 1);
	request->data = (uint8_t *)request->header + 2048;
	*request->header = (struct virtio_blk_outhdr) { .type = type, .sector = sector };
	*request->status = 0xff;
	request->segments[0] = (struct segment) { gpa, sizeof(*request->header) };
	request->segments[1] = (struct segment) { gpa + 2048, 512 };
	request->segments[2] = (struct segment) { gpa + status, 1 };
}

static inline void served_add(struct virtio_driver *driver, unsigned int queue,
			      struct served_request *request)
{
	const bool write = request->header->type == VIRTIO_BLK_T_OUT;

	assert_int_equal(driver_add_buf(driver_queue(driver, queue), request->segments,
					write ? 2 : 1, write ? 1 : 2, request),
			 0);
}

static inline void served_submit_at(struct virtio_driver *driver, unsigned int queue, uint64_t gpa,
				    uint32_t type, uint64_t sector, struct served_request *request)
{
	served_prepare(driver, gpa, 1024, type, sector, request);
	served_add(driver, queue, request);
}

static inline void served_submit(struct virtio_driver *driver, unsigned int queue, uint32_t type,
				 uint64_t sector, struct served_request *request)
{
	served_submit_at(driver, queue, guest_alloc(driver->machine, 4096, 4096), type, sector,
			 request);
}

/* Nothing comes within @ms. */
static inline bool served_quiet(struct virtio_driver *driver, unsigned int queue, unsigned int ms)
{
	usleep(ms * 1000);
	return !driver_pending(driver_queue(driver, queue));
}

#endif
