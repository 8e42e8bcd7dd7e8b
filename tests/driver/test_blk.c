/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-blk (virtio 1.4, 5.2) through the driver: what is written is in the image, what is read
 * comes from it, and what goes wrong is told as the specification wants it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "hv_inproc.h"
#include "virtio_driver.h"
#include "virtio_transport.h"

#define SLOT 4
#define IMAGE_SIZE MIB(1)
#define IMAGE_SECTORS (IMAGE_SIZE / 512)
#define DATA_MAX 8192
#define COMMON_QUEUE_RESET 0x3a /* virtio 1.4, 4.1.4.3 */

struct bench {
	char path[64];
	const char *engine; /* options */
	int image;
	struct machine *machine;
	struct virtio_driver *driver;
	struct driver_queue *queue;
	uint8_t out[16 + DATA_MAX], in[DATA_MAX + 1];
	uint32_t used;
};

static const struct driver_params usual = { .indirect = true, .event_idx = true, .msix = true };

static uint8_t image_byte(uint64_t at)
{
	return (uint8_t)(at * 7 + at / 512 * 13 + 1);
}

static void image_fill(struct bench *bench)
{
	static const size_t part = 65536;
	uint8_t *bytes = test_malloc(part);

	for (uint64_t at = 0; at < IMAGE_SIZE; at += part) {
		for (size_t i = 0; i < part; i++)
			bytes[i] = image_byte(at + i);
		assert_int_equal(pwrite(bench->image, bytes, part, (off_t)at), part);
	}
	test_free(bytes);
}

static int bench_setup(void **state)
{
	struct bench *bench = test_calloc(1, sizeof(*bench));

	bench->engine = "";
	snprintf(bench->path, sizeof(bench->path), "/tmp/tenon-blk-XXXXXX");
	bench->image = mkstemp(bench->path);
	assert_true(bench->image >= 0);
	image_fill(bench);
	*state = bench;
	return 0;
}

static int bench_setup_threads(void **state)
{
	struct bench *bench;

	bench_setup(state);
	bench = *state;
	bench->engine = ",engine=threads";
	return 0;
}

static void bench_stop(struct bench *bench)
{
	driver_close(bench->driver);
	machine_destroy(bench->machine);
	bench->driver = NULL;
	bench->machine = NULL;
}

static int bench_teardown(void **state)
{
	struct bench *bench = *state;

	bench_stop(bench);
	close(bench->image);
	unlink(bench->path);
	test_free(bench);
	return 0;
}

static void bench_start_disk(struct bench *bench, const struct driver_params *params,
			     const char *disk)
{
	struct machine_config config = { .ioeventfd = params->ioeventfd };
	char spec[128];

	snprintf(spec, sizeof(spec), "%d,virtio-blk,%s%s", SLOT, disk, bench->engine);
	bench->machine = machine_create(&config);
	machine_add(bench->machine, spec);
	machine_log_clear(bench->machine);
	bench->driver = driver_run(bench->machine, SLOT, params, 0);
	bench->queue = driver_queue(bench->driver, 0);
}

static void bench_start(struct bench *bench, const struct driver_params *params,
			const char *options)
{
	char disk[96];

	snprintf(disk, sizeof(disk), "%s%s", bench->path, options);
	bench_start_disk(bench, params, disk);
}

/*
 * One request: @out_len bytes at bench->out + 16 to the device, @in_len to bench->in; the status.
 * bench->used is the length that it was used with.
 */
static uint8_t blk_request(struct bench *bench, const struct driver_layout *layout, uint32_t type,
			   uint64_t sector, uint32_t out_len, uint32_t in_len)
{
	struct virtio_blk_outhdr header = { .type = type, .sector = sector };

	memcpy(bench->out, &header, sizeof(header));
	bench->used = driver_request(bench->queue, layout, bench->out, 16 + out_len, bench->in,
				     in_len + 1);
	assert_true(driver_queue_interrupt(bench->queue));
	return bench->in[in_len];
}

static uint8_t simple_request(struct bench *bench, uint32_t type, uint64_t sector, uint32_t out_len,
			      uint32_t in_len)
{
	return blk_request(bench, &driver_layouts[0], type, sector, out_len, in_len);
}

static void check_read(struct bench *bench, uint64_t sector, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		assert_int_equal(bench->in[i], image_byte(sector * 512 + i));
}

static void check_poison(const struct bench *bench, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		assert_int_equal(bench->in[i], DRIVER_POISON);
}

/* Does the image have @byte all over [@at, @at + @len)? */
static bool image_is(struct bench *bench, uint64_t at, uint32_t len, uint8_t byte)
{
	uint8_t bytes[DATA_MAX];

	assert_int_equal(pread(bench->image, bytes, len, (off_t)at), len);
	for (uint32_t i = 0; i < len; i++)
		if (bytes[i] != byte)
			return false;
	return true;
}

/* ---- Reading and writing ---- */

static void read_and_write(struct bench *bench, const struct driver_layout *layout, uint64_t sector,
			   uint32_t len, uint8_t byte)
{
	assert_int_equal(blk_request(bench, layout, VIRTIO_BLK_T_IN, sector, 0, len),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(bench->used, len + 1);
	check_read(bench, sector, len);

	memset(bench->out + 16, byte, len);
	assert_int_equal(blk_request(bench, layout, VIRTIO_BLK_T_OUT, sector, len, 0),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(bench->used, 1);
	assert_true(image_is(bench, sector * 512, len, byte));
	assert_false(image_is(bench, sector * 512 + len, 512, byte));

	for (uint32_t i = 0; i < len; i++)
		bench->out[16 + i] = image_byte(sector * 512 + i);
	assert_int_equal(blk_request(bench, layout, VIRTIO_BLK_T_OUT, sector, len, 0),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(blk_request(bench, layout, VIRTIO_BLK_T_IN, sector, 0, len),
			 VIRTIO_BLK_S_OK);
	check_read(bench, sector, len);
}

/* Every combination, every cut of the request: the device must not care (2.7.4.1). */
static void test_layouts(void **state)
{
	static const uint32_t lengths[] = { 512, 1024, 4096 };
	struct bench *bench = *state;

	for (unsigned int i = 0; i < DRIVER_COMBINATIONS; i++) {
		struct driver_params params = driver_params_at(i);

		bench_start(bench, &params, "");
		for (unsigned int j = 0; j < driver_layout_count; j++)
			for (unsigned int k = 0; k < ARRAY_SIZE(lengths); k++)
				read_and_write(bench, &driver_layouts[j], 10 * j + k, lengths[k],
					       (uint8_t)(0x60 + i));
		assert_int_equal(bench->machine->captured.count, 0);
		bench_stop(bench);
	}
}

/* Header and data, or data and status, in one descriptor; the status in one of its own. */
static void test_layouts_odd(void **state)
{
	static const struct driver_layout layouts[] = {
		{ .name = "header in two", .out_cuts = { 8, 8, 512 }, .in_cuts = { 512 } },
		{ .name = "header and data", .out_cuts = { 100, 412 }, .in_cuts = { 511, 2 } },
		{ .name = "status with data", .out_cuts = { 15, 2 }, .in_cuts = { 256, 257 } },
		{ .name = "last byte alone", .out_cuts = { 527 }, .in_cuts = { 512 } },
	};
	struct bench *bench = *state;

	bench_start(bench, &usual, "");
	for (unsigned int i = 0; i < ARRAY_SIZE(layouts); i++)
		read_and_write(bench, &layouts[i], 100 + i, 512, 0x5a);
}

/* The first and the last sector; nothing behind it. */
static void test_range(void **state)
{
	static const struct {
		uint64_t sector;
		uint32_t len;
	} wrong[] = {
		{ IMAGE_SECTORS, 512 },
		{ IMAGE_SECTORS - 1, 1024 },
		{ UINT64_MAX, 512 },
		{ UINT64_MAX / 512, 512 },
		{ UINT64_MAX / 512 + 1, 512 },
		{ INT64_MAX / 512 + 1, 512 },
		{ 0, 511 },
		{ 0, 513 },
		{ 5, 1 },
	};
	struct bench *bench = *state;

	bench_start(bench, &usual, "");
	read_and_write(bench, &driver_layouts[0], 0, 512, 0x11);
	assert_int_equal(simple_request(bench, VIRTIO_BLK_T_IN, IMAGE_SECTORS - 1, 0, 512),
			 VIRTIO_BLK_S_OK);
	check_read(bench, IMAGE_SECTORS - 1, 512);
	for (unsigned int i = 0; i < ARRAY_SIZE(wrong); i++) {
		uint32_t len = wrong[i].len;

		assert_int_equal(simple_request(bench, VIRTIO_BLK_T_IN, wrong[i].sector, 0, len),
				 VIRTIO_BLK_S_IOERR);
		check_poison(bench, len);
		assert_int_equal(bench->used, 0); /* the status lies behind a gap (2.7.8.2) */
		memset(bench->out + 16, 0x77, len);
		assert_int_equal(simple_request(bench, VIRTIO_BLK_T_OUT, wrong[i].sector, len, 0),
				 VIRTIO_BLK_S_IOERR);
	}
	assert_int_equal(lseek(bench->image, 0, SEEK_END), IMAGE_SIZE);
	assert_int_equal(simple_request(bench, VIRTIO_BLK_T_IN, 0, 0, 1024), VIRTIO_BLK_S_OK);
	check_read(bench, 0, 1024);
	assert_false(driver_status(bench->driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

/* Requests without data: the device has nothing to do, and does not fall over it. */
static void test_no_data(void **state)
{
	struct bench *bench = *state;

	bench_start(bench, &usual, "");
	assert_true(simple_request(bench, VIRTIO_BLK_T_IN, 0, 0, 0) <= VIRTIO_BLK_S_IOERR);
	assert_true(simple_request(bench, VIRTIO_BLK_T_OUT, 0, 0, 0) <= VIRTIO_BLK_S_IOERR);
	read_and_write(bench, &driver_layouts[0], 3, 512, 0x33);
}

/* As many requests at once as fit, to all over the image; each answer is its own. */
static void test_many_in_flight(void **state)
{
	enum { COUNT = 60, LEN = 4096 };
	struct bench *bench = *state;
	uint64_t memory, order[COUNT];

	bench_start(bench, &usual, "");
	memory = guest_alloc(bench->machine, COUNT * (16 + LEN + 1), 1);
	for (unsigned int round = 0; round < 5; round++) {
		for (unsigned int i = 0; i < COUNT; i++) {
			uint64_t gpa = memory + i * (16 + LEN + 1);
			struct virtio_blk_outhdr header = { .type = VIRTIO_BLK_T_IN };
			struct segment segments[] = { { gpa, 16 }, { gpa + 16, LEN + 1 } };

			order[i] = (i * 37 + round * 11) % (IMAGE_SECTORS - 8);
			header.sector = order[i];
			memcpy(guest_ptr(bench->machine, gpa, 16), &header, 16);
			memset(guest_ptr(bench->machine, gpa + 16, LEN + 1), DRIVER_POISON,
			       LEN + 1);
			assert_int_equal(driver_add_buf(bench->queue, segments, 1, 1, &order[i]),
					 0);
		}
		driver_kick(bench->queue);
		for (unsigned int i = 0; i < COUNT; i++) {
			uint32_t used;
			uint64_t *token = driver_wait_buf(bench->queue, &used, DRIVER_TIMEOUT_MS);
			const uint8_t *data;

			assert_non_null(token);
			assert_int_equal(used, LEN + 1);
			data = guest_ptr(bench->machine,
					 memory + (uint64_t)(token - order) * (16 + LEN + 1) + 16,
					 LEN + 1);
			assert_int_equal(data[LEN], VIRTIO_BLK_S_OK);
			for (unsigned int j = 0; j < LEN; j += 61)
				assert_int_equal(data[j], image_byte(*token * 512 + j));
		}
	}
}

static void test_queues(void **state)
{
	struct bench *bench = *state;

	bench_start(bench, &usual, ",queues=4");
	assert_int_equal(bench->driver->queue_count, 4);
	assert_true(driver_has(bench->driver, VIRTIO_BLK_F_MQ));
	assert_int_equal(
		driver_config(bench->driver, offsetof(struct virtio_blk_config, num_queues), 2), 4);
	for (unsigned int i = 0; i < 4; i++) {
		bench->queue = driver_queue(bench->driver, i);
		read_and_write(bench, &driver_layouts[3], 20 + i, 1024, (uint8_t)(0x20 + i));
	}
}

/* ---- Other requests ---- */

static void test_get_id(void **state)
{
	static const struct {
		const char *options, *id;
	} cases[] = {
		{ ",serial=S3R1AL", "S3R1AL" },
		{ ",serial=01234567890123456789", "01234567890123456789" },
		{ "", NULL },
	};
	struct bench *bench = *state;

	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		char want[20] = { 0 };

		if (cases[i].id)
			memcpy(want, cases[i].id, MIN(strlen(cases[i].id), sizeof(want)));
		bench_start(bench, &usual, cases[i].options);
		for (unsigned int j = 0; j < driver_layout_count; j++) {
			assert_int_equal(blk_request(bench, &driver_layouts[j], VIRTIO_BLK_T_GET_ID,
						     0, 0, 20),
					 VIRTIO_BLK_S_OK);
			assert_int_equal(bench->used, 21);
			assert_memory_equal(bench->in, want, 20);
		}
		assert_int_equal(simple_request(bench, VIRTIO_BLK_T_GET_ID, 0, 0, 5),
				 VIRTIO_BLK_S_OK);
		assert_memory_equal(bench->in, want, 5);
		bench_stop(bench);
	}
}

static void test_unknown(void **state)
{
	static const uint32_t types[] = { 2, 3, 7, 9, 10, 12, 14, 0x80000000, UINT32_MAX };
	struct bench *bench = *state;

	bench_start(bench, &usual, "");
	for (unsigned int i = 0; i < ARRAY_SIZE(types); i++) {
		assert_int_equal(simple_request(bench, types[i], 0, 0, 512), VIRTIO_BLK_S_UNSUPP);
		check_poison(bench, 512);
		assert_int_equal(simple_request(bench, types[i], 0, 512, 0), VIRTIO_BLK_S_UNSUPP);
	}
	read_and_write(bench, &driver_layouts[0], 3, 512, 0x33);
	assert_int_equal(bench->machine->captured.count, 0);
}

static void test_flush(void **state)
{
	struct bench *bench = *state;

	bench_start(bench, &usual, "");
	assert_true(driver_has(bench->driver, VIRTIO_BLK_F_FLUSH));
	assert_int_equal(simple_request(bench, VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(bench->used, 1);
	assert_int_equal(simple_request(bench, VIRTIO_BLK_T_FLUSH, 99, 16, 0), VIRTIO_BLK_S_OK);
}

/* One segment of discard or write zeroes behind the header. */
static void segment_put(struct bench *bench, unsigned int index, uint64_t sector, uint32_t count,
			uint32_t flags)
{
	struct virtio_blk_discard_write_zeroes segment = { sector, count, flags };

	memcpy(bench->out + 16 + index * sizeof(segment), &segment, sizeof(segment));
}

static void test_write_zeroes(void **state)
{
	struct bench *bench = *state;

	bench_start(bench, &usual, "");
	assert_true(driver_has(bench->driver, VIRTIO_BLK_F_WRITE_ZEROES));
	for (uint32_t flags = 0; flags <= VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP; flags++)
		for (unsigned int j = 0; j < driver_layout_count; j++) {
			uint64_t sector = 40 + 20 * flags + 2 * j;

			assert_false(image_is(bench, sector * 512, 512, 0));
			segment_put(bench, 0, sector, 1, flags);
			assert_int_equal(blk_request(bench, &driver_layouts[j],
						     VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, 0),
					 VIRTIO_BLK_S_OK);
			assert_int_equal(bench->used, 1);
			assert_true(image_is(bench, sector * 512, 512, 0));
			assert_int_equal(simple_request(bench, VIRTIO_BLK_T_IN, sector + 1, 0, 512),
					 VIRTIO_BLK_S_OK);
			check_read(bench, sector + 1, 512);
		}
}

static void test_discard(void **state)
{
	enum { SECTORS = 256 };
	struct bench *bench = *state;
	struct stat before, after;

	bench_start(bench, &usual, "");
	if (!driver_has(bench->driver, VIRTIO_BLK_F_DISCARD)) {
		print_message("skipped: no discard in the file system of /tmp\n");
		skip();
	}
	assert_int_equal(fsync(bench->image), 0);
	assert_int_equal(fstat(bench->image, &before), 0);
	for (unsigned int i = 0; i < 3; i++)
		segment_put(bench, i, 512 + 2 * i * SECTORS, SECTORS, 0);
	assert_int_equal(simple_request(bench, VIRTIO_BLK_T_DISCARD, 0, 48, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(bench->used, 1);
	assert_int_equal(fstat(bench->image, &after), 0);
	assert_true(after.st_blocks < before.st_blocks);
	assert_int_equal(after.st_size, before.st_size);
	for (unsigned int i = 0; i < 2; i++) { /* what lies between */
		uint64_t sector = 512 + (2 * i + 1) * SECTORS;

		assert_int_equal(simple_request(bench, VIRTIO_BLK_T_IN, sector, 0, 512),
				 VIRTIO_BLK_S_OK);
		check_read(bench, sector, 512);
	}
}

/* Neither does anything if one segment of the request is wrong. */
static void test_segments_wrong(void **state)
{
	static const struct {
		uint64_t sector;
		uint32_t count, flags;
		uint8_t status;
	} cases[] = {
		{ IMAGE_SECTORS, 1, 0, VIRTIO_BLK_S_IOERR },
		{ IMAGE_SECTORS - 1, 2, 0, VIRTIO_BLK_S_IOERR },
		{ UINT64_MAX, 1, 0, VIRTIO_BLK_S_IOERR },
		{ UINT64_MAX, 2, 0, VIRTIO_BLK_S_IOERR },
		{ 0, UINT32_MAX, 0, VIRTIO_BLK_S_IOERR },
		{ 8, 8, 2, VIRTIO_BLK_S_UNSUPP },
		{ 8, 8, 0x80000000, VIRTIO_BLK_S_UNSUPP },
	};
	static const uint32_t types[] = { VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_T_DISCARD };
	struct bench *bench = *state;

	bench_start(bench, &usual, "");
	for (unsigned int t = 0; t < ARRAY_SIZE(types); t++) {
		if (types[t] == VIRTIO_BLK_T_DISCARD &&
		    !driver_has(bench->driver, VIRTIO_BLK_F_DISCARD))
			continue;
		for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
			segment_put(bench, 0, cases[i].sector, cases[i].count, cases[i].flags);
			assert_int_equal(simple_request(bench, types[t], 0, 16, 0),
					 cases[i].status);
		}
		for (uint32_t len = 0; len <= 33; len += len ? 2 : 15) { /* 0, 15, 17 ... */
			segment_put(bench, 0, 8, 8, 0);
			segment_put(bench, 1, 8, 8, 0);
			if (len % 16 || !len)
				assert_int_equal(simple_request(bench, types[t], 0, len, 0),
						 VIRTIO_BLK_S_IOERR);
		}
		for (unsigned int i = 0; i < 200; i++) /* more than the device said it takes */
			segment_put(bench, i, 8, 8, 0);
		assert_int_equal(simple_request(bench, types[t], 0, 200 * 16, 0),
				 VIRTIO_BLK_S_IOERR);
	}
	/* Discard knows no unmap flag (5.2.6.2). */
	segment_put(bench, 0, 8, 8, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
	assert_int_equal(simple_request(bench, VIRTIO_BLK_T_DISCARD, 0, 16, 0),
			 VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(simple_request(bench, VIRTIO_BLK_T_IN, 8, 0, 4096), VIRTIO_BLK_S_OK);
	check_read(bench, 8, 4096);
}

/* What was not negotiated is not there. */
static void test_not_negotiated(void **state)
{
	struct bench *bench = *state;

	bench_start(bench, &usual, "");
	driver_close(bench->driver);
	bench->driver = driver_run(bench->machine, SLOT, &usual,
				   BIT64(VIRTIO_BLK_F_DISCARD) | BIT64(VIRTIO_BLK_F_WRITE_ZEROES));
	bench->queue = driver_queue(bench->driver, 0);
	segment_put(bench, 0, 8, 8, 0);
	assert_int_equal(simple_request(bench, VIRTIO_BLK_T_DISCARD, 0, 16, 0),
			 VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(simple_request(bench, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, 0),
			 VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(simple_request(bench, VIRTIO_BLK_T_IN, 8, 0, 4096), VIRTIO_BLK_S_OK);
	check_read(bench, 8, 4096);
}

/* ---- No requests at all ---- */

static void test_malformed(void **state)
{
	static const struct {
		uint32_t out, in;
	} cases[] = { { 0, 1 }, { 15, 1 }, { 16, 0 }, { 528, 0 }, { 0, 513 }, { 1, 0 } };
	struct bench *bench = *state;
	uint64_t gpa;

	bench_start(bench, &usual, "");
	gpa = guest_alloc(bench->machine, 1024, 16);
	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		struct segment segments[2];
		unsigned int out = 0, in = 0;

		machine_log_clear(bench->machine);
		if (cases[i].out)
			segments[out++] = (struct segment) { gpa, cases[i].out };
		if (cases[i].in)
			segments[out + in++] = (struct segment) { gpa + 512, cases[i].in };
		assert_int_equal(driver_add_buf(bench->queue, segments, out, in, bench), 0);
		driver_kick(bench->queue);
		machine_poll(bench->machine);
		assert_true(driver_status(bench->driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
		assert_true(driver_config_interrupt(bench->driver));
		assert_int_equal(bench->machine->captured.count, 1);
		assert_logged(bench->machine, "(5.2.6)");
		driver_restart(bench->driver);
		assert_int_equal(simple_request(bench, VIRTIO_BLK_T_IN, 3, 0, 512),
				 VIRTIO_BLK_S_OK);
		check_read(bench, 3, 512);
	}
}

/* ---- The host says no ---- */

static void test_read_only(void **state)
{
	struct bench *bench = *state;

	bench_start(bench, &usual, ",ro");
	assert_true(driver_has(bench->driver, VIRTIO_BLK_F_RO));
	assert_false(driver_has(bench->driver, VIRTIO_BLK_F_DISCARD));
	assert_false(driver_has(bench->driver, VIRTIO_BLK_F_WRITE_ZEROES));
	memset(bench->out + 16, 0x42, 512);
	assert_int_equal(simple_request(bench, VIRTIO_BLK_T_OUT, 0, 512, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(simple_request(bench, VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(simple_request(bench, VIRTIO_BLK_T_IN, 0, 0, 512), VIRTIO_BLK_S_OK);
	check_read(bench, 0, 512);
}

static bool capacity_is(struct bench *bench, uint64_t sectors)
{
	return driver_config(bench->driver, 0, 8) == sectors;
}

/* Cut off under the guest: what is gone cannot be read, the rest can. */
static void test_truncated(void **state)
{
	struct bench *bench = *state;

	bench_start(bench, &usual, "");
	assert_int_equal(ftruncate(bench->image, IMAGE_SIZE / 2), 0);
	assert_int_equal(simple_request(bench, VIRTIO_BLK_T_IN, IMAGE_SECTORS - 8, 0, 4096),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(simple_request(bench, VIRTIO_BLK_T_IN, IMAGE_SECTORS / 2 - 4, 0, 4096),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(simple_request(bench, VIRTIO_BLK_T_IN, 7, 0, 4096), VIRTIO_BLK_S_OK);
	check_read(bench, 7, 4096);
	assert_false(driver_status(bench->driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

/* As truncate(1) does it. */
static void image_resize(struct bench *bench, uint64_t size)
{
	int fd = open(bench->path, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	close(fd);
}

static void test_resized(void **state)
{
	struct bench *bench = *state;
	uint64_t generation;

	bench_start(bench, &usual, "");
	assert_true(capacity_is(bench, IMAGE_SECTORS));
	generation = driver_common_in(bench->driver, VIRTIO_PCI_COMMON_CFGGENERATION, 1);
	image_resize(bench, 2 * IMAGE_SIZE);
	assert_true(driver_wait_config(bench->driver, DRIVER_TIMEOUT_MS));
	assert_true(capacity_is(bench, 2 * IMAGE_SECTORS));
	assert_int_not_equal(driver_common_in(bench->driver, VIRTIO_PCI_COMMON_CFGGENERATION, 1),
			     generation);
	assert_int_equal(simple_request(bench, VIRTIO_BLK_T_IN, 2 * IMAGE_SECTORS - 1, 0, 512),
			 VIRTIO_BLK_S_OK);
	/* By somebody who keeps it open: a flush finds out. */
	assert_int_equal(ftruncate(bench->image, IMAGE_SIZE), 0);
	assert_int_equal(simple_request(bench, VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_OK);
	assert_true(driver_wait_config(bench->driver, DRIVER_TIMEOUT_MS));
	assert_true(capacity_is(bench, IMAGE_SECTORS));
	assert_int_equal(simple_request(bench, VIRTIO_BLK_T_IN, IMAGE_SECTORS, 0, 512),
			 VIRTIO_BLK_S_IOERR);
}

/* With the line: the ISR's other bit. */
static void test_resized_intx(void **state)
{
	const struct driver_params params = { .indirect = true, .event_idx = true };
	struct bench *bench = *state;

	for (unsigned int legacy = 0; legacy < 2; legacy++) {
		struct driver_params each = params;

		each.legacy = legacy;
		bench_start(bench, &each, "");
		image_resize(bench, IMAGE_SIZE * (2 + legacy));
		assert_true(driver_wait_config(bench->driver, DRIVER_TIMEOUT_MS));
		assert_false(
			inproc_line(bench->machine->ctx, pci_function_gsi(&bench->driver->pci)));
		assert_false(driver_queue_interrupt(bench->queue));
		assert_true(capacity_is(bench, IMAGE_SECTORS * (2 + legacy)));
		bench_stop(bench);
	}
}

/* No room on the host: that write fails, others and reads do not. */
static void test_no_room(void **state)
{
	struct bench *bench = *state;
	struct rlimit limit, old;

	signal(SIGXFSZ, SIG_IGN); /* as tenon blocks it: this thread writes too */
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	bench_start(bench, &usual, "");
	limit = (struct rlimit) { IMAGE_SIZE / 4, old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	memset(bench->out + 16, 0x42, 512);
	assert_int_equal(simple_request(bench, VIRTIO_BLK_T_OUT, IMAGE_SECTORS / 2, 512, 0),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(bench->used, 1);
	assert_int_equal(simple_request(bench, VIRTIO_BLK_T_OUT, 5, 512, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(simple_request(bench, VIRTIO_BLK_T_IN, IMAGE_SECTORS / 2, 0, 512),
			 VIRTIO_BLK_S_OK);
	check_read(bench, IMAGE_SECTORS / 2, 512);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(simple_request(bench, VIRTIO_BLK_T_OUT, IMAGE_SECTORS / 2, 512, 0),
			 VIRTIO_BLK_S_OK);
	assert_true(image_is(bench, IMAGE_SIZE / 2, 512, 0x42));
	assert_false(driver_status(bench->driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

/* ---- Configuration ---- */

#define CONFIG(member) offsetof(struct virtio_blk_config, member)

static void test_config(void **state)
{
	struct bench *bench = *state;
	uint32_t seg_max;

	bench_start(bench, &usual, "");
	assert_true(capacity_is(bench, IMAGE_SECTORS));
	seg_max = (uint32_t)driver_config(bench->driver, CONFIG(seg_max), 4);
	assert_true(seg_max >= 1 && seg_max <= bench->queue->ring.size - 2U);
	assert_int_equal(driver_config(bench->driver, CONFIG(blk_size), 4), 512);
	assert_true(driver_config(bench->driver, CONFIG(max_write_zeroes_sectors), 4) > 0);
	/* As many segments as it says do fit. */
	for (uint32_t i = 0; i < 512; i += 1)
		bench->out[16 + i] = (uint8_t)i;
	assert_int_equal(blk_request(bench,
				     &(struct driver_layout) { .name = "seg_max",
							       .out_cuts = { 16, 5, 4, 4 },
							       .in_cuts = { 1 } },
				     VIRTIO_BLK_T_OUT, 60, 512, 0),
			 VIRTIO_BLK_S_OK);
	/* Read-only, but for the cache mode. */
	driver_set_config(bench->driver, CONFIG(capacity), 4, 1);
	driver_set_config(bench->driver, CONFIG(blk_size), 4, 1);
	assert_true(capacity_is(bench, IMAGE_SECTORS));
	assert_int_equal(driver_config(bench->driver, CONFIG(blk_size), 4), 512);
}

/* virtio 1.4, 5.2.5.2 and 5.2.6.2 */
static void test_cache_mode(void **state)
{
	struct bench *bench = *state;

	bench_start(bench, &usual, "");
	assert_true(driver_has(bench->driver, VIRTIO_BLK_F_CONFIG_WCE));
	assert_int_equal(driver_config(bench->driver, CONFIG(wce), 1), 1);
	driver_set_config(bench->driver, CONFIG(wce), 1, 0);
	assert_int_equal(driver_config(bench->driver, CONFIG(wce), 1), 0);
	read_and_write(bench, &driver_layouts[0], 9, 1024, 0x19);
	driver_restart(bench->driver);
	assert_int_equal(driver_config(bench->driver, CONFIG(wce), 1), 1);

	/* Who cannot flush gets writethrough. */
	driver_close(bench->driver);
	bench->driver = driver_run(bench->machine, SLOT, &usual,
				   BIT64(VIRTIO_BLK_F_FLUSH) | BIT64(VIRTIO_BLK_F_CONFIG_WCE));
	bench->queue = driver_queue(bench->driver, 0);
	assert_int_equal(driver_config(bench->driver, CONFIG(wce), 1), 0);
	read_and_write(bench, &driver_layouts[0], 9, 1024, 0x19);
}

/* With cache=writethrough there is nothing to flush and nothing to choose. */
static void test_writethrough(void **state)
{
	static const struct driver_params legacy = { .legacy = true, .msix = true };
	const struct driver_params *drivers[] = { &usual, &legacy };
	struct bench *bench = *state;

	for (unsigned int i = 0; i < ARRAY_SIZE(drivers); i++) {
		bench_start(bench, drivers[i], ",cache=writethrough");
		assert_false(bench->driver->offered &
			     (BIT64(VIRTIO_BLK_F_FLUSH) | BIT64(VIRTIO_BLK_F_CONFIG_WCE)));
		for (unsigned int round = 0; round < 2; round++) {
			driver_set_config(bench->driver, CONFIG(wce), 1, 1);
			assert_int_equal(driver_config(bench->driver, CONFIG(wce), 1), 0);
			read_and_write(bench, &driver_layouts[0], 9, 1024, 0x19);
			driver_restart(bench->driver);
		}
		bench_stop(bench);
	}
}

/* ---- msix=off: one MSI, or the line ---- */

static void test_no_msix(void **state)
{
	static const struct driver_params drivers[] = { { .indirect = true }, { .legacy = true } };
	static const struct virtio_blk_outhdr header = { .type = VIRTIO_BLK_T_IN };
	struct bench *bench = *state;

	for (unsigned int i = 0; i < ARRAY_SIZE(drivers); i++) {
		struct pci_function *pci;
		struct inproc *hv;

		bench_start(bench, &drivers[i], ",msix=off");
		pci = &bench->driver->pci;
		hv = inproc_of(bench->machine->ctx);
		assert_int_equal(pci->msix_cap, 0);
		assert_true(pci->msi_cap);
		read_and_write(bench, &driver_layouts[0], 9, 1024, 0x19);
		assert_int_equal(hv->msi_count, 0);
		pci_out(pci, pci->msi_cap + PCI_MSI_ADDRESS_LO, 4, 0xfee00000);
		pci_out(pci, pci->msi_cap + PCI_MSI_DATA_64, 2, 0x41);
		pci_out(pci, pci->msi_cap + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE);
		memcpy(bench->out, &header, sizeof(header));
		driver_request(bench->queue, &driver_layouts[0], bench->out, 16, bench->in, 513);
		assert_int_equal(bench->in[512], VIRTIO_BLK_S_OK);
		assert_int_equal(hv->msi_count, 1);
		assert_int_equal(inproc_msi_count(bench->machine->ctx, 0x41), 1);
		bench_stop(bench);
	}
}

/* ---- Life cycle with I/O in flight ---- */

/* Writes are started and the device reset at once: memory is left alone then, the image whole. */
static void test_reset_in_flight(void **state)
{
	enum { COUNT = 40, LEN = 4096 };
	struct bench *bench = *state;
	uint64_t memory;

	bench_start(bench, &usual, "");
	memory = guest_alloc(bench->machine, COUNT * (16 + LEN + 1), 16);
	for (unsigned int round = 0; round < 20; round++) {
		uint8_t *data = guest_ptr(bench->machine, memory, COUNT * (16 + LEN + 1));

		memset(data, DRIVER_POISON, COUNT * (16 + LEN + 1));
		for (unsigned int i = 0; i < COUNT; i++) {
			uint64_t gpa = memory + i * (16 + LEN + 1);
			struct virtio_blk_outhdr header = { .type = VIRTIO_BLK_T_IN,
							    .sector = i * 8 };
			struct segment segments[] = { { gpa, 16 }, { gpa + 16, LEN + 1 } };

			memcpy(guest_ptr(bench->machine, gpa, 16), &header, 16);
			assert_int_equal(driver_add_buf(bench->queue, segments, 1, 1, bench), 0);
		}
		driver_kick(bench->queue);
		if (round % 2)
			pci_reset_devices(bench->machine->ctx);
		else
			driver_set_status(bench->driver, 0);
		memset(data, 0x3c, COUNT * (16 + LEN + 1)); /* the memory is the driver's again */
		usleep(2000);
		machine_poll(bench->machine);
		for (unsigned int i = 0; i < COUNT * (16 + LEN + 1); i++)
			assert_int_equal(data[i], 0x3c);
		pci_function_enable(&bench->driver->pci);
		driver_restart(bench->driver);
		assert_int_equal(simple_request(bench, VIRTIO_BLK_T_IN, round, 0, 512),
				 VIRTIO_BLK_S_OK);
		check_read(bench, round, 512);
	}
}

/* What waits for its turn under a limit does not hold up a reset, and is not forgotten without one. */
static void test_limited(void **state)
{
	enum { COUNT = 10 };
	struct virtio_blk_outhdr header = { .type = VIRTIO_BLK_T_FLUSH };
	struct bench *bench = *state;
	struct segment segments[2];
	uint64_t memory;

	bench_start(bench, &usual, ",iops=50,iops_burst=2");
	memory = guest_alloc(bench->machine, 32, 16);
	memcpy(guest_ptr(bench->machine, memory, 16), &header, 16);
	segments[0] = (struct segment) { memory, 16 };
	segments[1] = (struct segment) { memory + 16, 1 };
	for (unsigned int i = 0; i < COUNT; i++)
		assert_int_equal(driver_add_buf(bench->queue, segments, 1, 1, bench), 0);
	driver_kick(bench->queue);
	for (unsigned int i = 0; i < COUNT; i++)
		assert_non_null(driver_wait_buf(bench->queue, &bench->used, DRIVER_TIMEOUT_MS));
	bench_stop(bench);

	bench_start(bench, &usual, ",iops=1,iops_burst=1");
	memory = guest_alloc(bench->machine, 32, 16);
	memcpy(guest_ptr(bench->machine, memory, 16), &header, 16);
	for (unsigned int i = 0; i < 60; i++)
		assert_int_equal(driver_add_buf(bench->queue, segments, 1, 1, bench), 0);
	driver_kick(bench->queue);
	pci_reset_devices(bench->machine->ctx);
	pci_function_enable(&bench->driver->pci);
	driver_restart(bench->driver);
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void suspend_and_go_on(struct bench *bench)
{
	driver_set_status(bench->driver, VIRTIO_CONFIG_S_SUSPEND);
	assert_true(driver_status(bench->driver) & VIRTIO_CONFIG_S_SUSPEND);
	driver_set_status(bench->driver, VIRTIO_CONFIG_S_DRIVER_OK);
	assert_false(driver_status(bench->driver) & VIRTIO_CONFIG_S_SUSPEND);
}

static void pause_and_go_on(struct bench *bench)
{
	pci_quiesce_devices(bench->machine->ctx);
	pci_resume_devices(bench->machine->ctx);
}

/* Make requests of @type available, until there are @count or the ring is full; how many. */
static unsigned int add_many(struct bench *bench, uint32_t type, unsigned int count)
{
	struct virtio_blk_outhdr header = { .type = type };
	uint64_t memory = guest_alloc(bench->machine, 32, 16);
	struct segment segments[2] = { { memory, 16 }, { memory + 16, 1 } };
	unsigned int added = 0;

	memcpy(guest_ptr(bench->machine, memory, 16), &header, 16);
	while (added < count && driver_add_buf(bench->queue, segments, 1, 1, bench) == 0)
		added++;
	return added;
}

/* Who cycles through SUSPEND, or is paused, gets no more than the limit has it. */
static void limit_holds(struct bench *bench, const struct driver_params *params,
			void (*cycle)(struct bench *bench))
{
	unsigned int added = 0, used = 0;
	uint64_t start;

	bench_start(bench, params, ",iops=10,iops_burst=1");
	start = now_ms();
	for (unsigned int round = 0; round < 20; round++) {
		added += add_many(bench, VIRTIO_BLK_T_FLUSH, 60);
		driver_kick(bench->queue);
		cycle(bench);
		machine_poll(bench->machine);
		while (driver_get_buf(bench->queue, NULL))
			used++;
	}
	assert_true(added > 100);
	assert_in_range(used, 1, 2 + (now_ms() - start) / 100);
	bench_stop(bench);
}

/* Nor is anything lost, or done twice. */
static void limit_forgets_nothing(struct bench *bench, const struct driver_params *params,
				  void (*cycle)(struct bench *bench))
{
	enum { COUNT = 60 };
	unsigned int used = 0;

	bench_start(bench, params, ",iops=1000,iops_burst=1");
	assert_int_equal(add_many(bench, VIRTIO_BLK_T_FLUSH, COUNT), COUNT);
	driver_kick(bench->queue);
	while (used < COUNT) {
		cycle(bench);
		assert_non_null(driver_wait_buf(bench->queue, NULL, DRIVER_TIMEOUT_MS));
		used++;
	}
	assert_null(driver_get_buf(bench->queue, NULL));
	read_and_write(bench, &driver_layouts[0], 3, 512, 0x33);
	bench_stop(bench);
}

static void test_limit_holds(void **state)
{
	struct driver_params params = usual;

	params.extra = BIT64(VIRTIO_F_SUSPEND);
	for (unsigned int packed = 0; packed < 2; packed++) {
		params.packed = packed;
		limit_holds(*state, &params, suspend_and_go_on);
		limit_holds(*state, &params, pause_and_go_on);
		limit_forgets_nothing(*state, &params, suspend_and_go_on);
		limit_forgets_nothing(*state, &params, pause_and_go_on);
	}
}

/* What waits when it is reset is not done at all, neither now nor later. */
static void test_limit_over_resets(void **state)
{
	enum { COUNT = 60 };
	struct bench *bench = *state;
	unsigned int written = 0;
	uint64_t memory, start;

	bench_start(bench, &usual, ",iops=10,iops_burst=1");
	memory = guest_alloc(bench->machine, 512 + COUNT * 16 + 1, 16);
	memset(guest_ptr(bench->machine, memory, 512), 0x77, 512);
	start = now_ms();
	for (unsigned int round = 0; round < 20; round++) {
		for (unsigned int i = 0; i < COUNT; i++) {
			uint64_t gpa = memory + 512 + i * 16;
			struct virtio_blk_outhdr header = { .type = VIRTIO_BLK_T_OUT, .sector = i };
			struct segment segments[] = { { gpa, 16 },
						      { memory, 512 },
						      { memory + 512 + COUNT * 16, 1 } };

			memcpy(guest_ptr(bench->machine, gpa, 16), &header, 16);
			assert_int_equal(driver_add_buf(bench->queue, segments, 2, 1, bench), 0);
		}
		driver_kick(bench->queue);
		if (round % 2) {
			driver_restart(bench->driver);
			continue;
		}
		driver_common_out(bench->driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
		driver_common_out(bench->driver, COMMON_QUEUE_RESET, 2, 1);
		driver_queue_setup(bench->driver, 0, 0);
	}
	for (unsigned int i = 0; i < COUNT; i++)
		written += image_is(bench, i * 512, 512, 0x77);
	assert_in_range(written, 1, 2 + (now_ms() - start) / 100);
}

/* A discard has its turn as a whole, whatever it consists of. */
static void test_limit_segments(void **state)
{
	struct bench *bench = *state;

	bench_start(bench, &usual, ",iops=1,iops_burst=2");
	if (!driver_has(bench->driver, VIRTIO_BLK_F_DISCARD)) {
		print_message("skipped: no discard in the file system of /tmp\n");
		skip();
	}
	for (unsigned int i = 0; i < 8; i++)
		segment_put(bench, i, 512 + 16 * i, 8, 0);
	assert_int_equal(simple_request(bench, VIRTIO_BLK_T_DISCARD, 0, 8 * 16, 0),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(simple_request(bench, VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_OK);
	assert_true(image_is(bench, (512 + 16 * 7) * 512, 8 * 512, 0));
}

/* ---- The disk that is not there ---- */

/* Zeroes are read, into memory that had something else; what is written is forgotten. */
static void test_null(void **state)
{
	struct bench *bench = *state;

	for (unsigned int i = 0; i < DRIVER_COMBINATIONS; i++) {
		struct driver_params params = driver_params_at(i);

		bench_start_disk(bench, &params, "null:1M");
		assert_int_equal(driver_config(bench->driver, 0, 8), 2048);
		memset(bench->out + 16, 0x55, 4096);
		assert_int_equal(simple_request(bench, VIRTIO_BLK_T_OUT, 5, 4096, 0),
				 VIRTIO_BLK_S_OK);
		for (unsigned int j = 0; j < driver_layout_count; j++) {
			assert_int_equal(
				blk_request(bench, &driver_layouts[j], VIRTIO_BLK_T_IN, 5, 0, 4096),
				VIRTIO_BLK_S_OK);
			assert_int_equal(bench->used, 4097);
			for (unsigned int k = 0; k < 4096; k++)
				assert_int_equal(bench->in[k], 0);
		}
		assert_int_equal(simple_request(bench, VIRTIO_BLK_T_IN, 2048, 0, 512),
				 VIRTIO_BLK_S_IOERR);
		check_poison(bench, 512);
		assert_int_equal(simple_request(bench, VIRTIO_BLK_T_FLUSH, 0, 0, 0),
				 VIRTIO_BLK_S_OK);
		bench_stop(bench);
	}
}

/* ---- Making one ---- */

static void test_specs(void **state)
{
	static const struct {
		const char *options, *says;
	} cases[] = {
		{ "/tmp/tenon-no-such-file", "No such file or directory" },
		{ "/tmp", "/tmp" },
		{ "/tmp/x,serial=012345678901234567890", "longer than 20 bytes" },
		{ "/tmp/x,queues=0", "queues=0" },
		{ "/tmp/x,queues=1000", "queues=1000" },
		{ "/tmp/x,threads=0", "threads=0" },
		{ "/tmp/x,nosuch=1", "unknown option nosuch" },
		{ "/tmp/x,engine=fast", "engine=fast" },
		{ "null:1000", "give a multiple of 512 bytes" },
		{ "null:1G,iops_burst=1", "give \"iops=\" too" },
		{ "ro", "path" },
	};
	struct bench *bench = *state;
	char spec[128];

	bench_start(bench, &usual, "");
	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		machine_log_clear(bench->machine);
		snprintf(spec, sizeof(spec), "virtio-blk,%s", cases[i].options);
		assert_null(pci_add_device(bench->machine->ctx, spec));
		assert_int_equal(bench->machine->captured.count, 1);
		assert_logged(bench->machine, cases[i].says);
	}
	/* The image is locked while it is in use. */
	machine_log_clear(bench->machine);
	snprintf(spec, sizeof(spec), "virtio-blk,%s", bench->path);
	assert_null(pci_add_device(bench->machine->ctx, spec));
	assert_int_equal(bench->machine->captured.count, 1);
	assert_logged(bench->machine, "in use");
	read_and_write(bench, &driver_layouts[0], 9, 1024, 0x19);
}

/* The same test with io_uring, if there is one, and with threads. */
#define BENCH_TEST(function)                                                                       \
	{ #function, function, bench_setup, bench_teardown, NULL },                                \
	{                                                                                          \
#function ", threads", function, bench_setup_threads, bench_teardown, NULL         \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BENCH_TEST(test_layouts),
		BENCH_TEST(test_layouts_odd),
		BENCH_TEST(test_range),
		BENCH_TEST(test_no_data),
		BENCH_TEST(test_many_in_flight),
		BENCH_TEST(test_queues),
		BENCH_TEST(test_get_id),
		BENCH_TEST(test_unknown),
		BENCH_TEST(test_flush),
		BENCH_TEST(test_write_zeroes),
		BENCH_TEST(test_discard),
		BENCH_TEST(test_segments_wrong),
		BENCH_TEST(test_not_negotiated),
		BENCH_TEST(test_malformed),
		BENCH_TEST(test_read_only),
		BENCH_TEST(test_truncated),
		BENCH_TEST(test_resized),
		BENCH_TEST(test_resized_intx),
		BENCH_TEST(test_no_room),
		BENCH_TEST(test_config),
		BENCH_TEST(test_writethrough),
		BENCH_TEST(test_no_msix),
		BENCH_TEST(test_cache_mode),
		BENCH_TEST(test_reset_in_flight),
		BENCH_TEST(test_limited),
		BENCH_TEST(test_limit_holds),
		BENCH_TEST(test_limit_over_resets),
		BENCH_TEST(test_limit_segments),
		BENCH_TEST(test_specs),
		cmocka_unit_test_setup_teardown(test_null, bench_setup, bench_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
