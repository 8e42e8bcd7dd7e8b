/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a front end shares and lies about: memory tables, inflight regions, dirty logs; and files that it
 * makes shorter while they are in use.
 */
#include "../../devicemodel/hw/pci/virtio/vq_inflight_region.h"
#include "hostile.h"

static struct front_end *begin(struct hostile *hostile)
{
	struct served *served = hostile->served;

	front_destroy(served->front);
	served->front = front_create(served->machine);
	served_connect(served);
	return served->front;
}

static struct virtio_driver *run(struct hostile *hostile, const struct driver_params *params)
{
	begin(hostile);
	driver_close(hostile->served->driver);
	return served_run(hostile->served, params);
}

static void finish(struct hostile *hostile, const char *attack)
{
	front_hang_up(hostile->served->front);
	driver_close(hostile->served->driver);
	hostile->served->driver = NULL;
	hostile_check(hostile, attack);
	hostile_forget(hostile);
}

/* ---- Memory tables ---- */

/* struct lie - a region that is added to a right one. */
struct lie {
	const char *name;
	struct vhost_user_region region;
	bool may_be_true; /* odd, but a back end may take it */
};

/* The right region is [1 GiB, + 64 MiB), user address 2^40, offset 0. */
#define GPA GIB(1)
#define USER (UINT64_C(1) << 40)
#define SIZE MACHINE_MEMORY

static const struct lie lies[] = {
	{ .name = "the same again", .region = { GPA, SIZE, USER, 0 } },
	{ .name = "its last byte again", .region = { GPA + SIZE - 1, 4096, USER + GIB(1), 0 } },
	{ .name = "its first page again", .region = { GPA - 4096, 8192, USER + GIB(1), 0 } },
	{ .name = "around it", .region = { GPA - MIB(1), SIZE / 2, USER + GIB(1), 0 } },
	{ .name = "its user addresses again", .region = { GPA + GIB(1), SIZE, USER, 0 } },
	{ .name = "some of its user addresses",
	  .region = { GPA + GIB(1), SIZE, USER + SIZE - 4096, 0 } },
	{ .name = "no bytes", .region = { GPA + GIB(1), 0, USER + GIB(1), 0 } },
	{ .name = "gpa wraps", .region = { UINT64_MAX - 4095, 8192, USER + GIB(1), 0 } },
	{ .name = "gpa to the end of all",
	  .region = { UINT64_MAX - 4095, 4096, USER + GIB(1), 0 },
	  .may_be_true = true },
	{ .name = "user address wraps", .region = { GPA + GIB(1), 8192, UINT64_MAX - 4095, 0 } },
	{ .name = "offset wraps",
	  .region = { GPA + GIB(1), 8192, USER + GIB(1), UINT64_MAX - 4095 } },
	{ .name = "offset is negative",
	  .region = { GPA + GIB(1), 4096, USER + GIB(1), UINT64_C(1) << 63 } },
	{ .name = "size of all", .region = { 0, UINT64_MAX, 0, 0 } },
	{ .name = "size of 2^63", .region = { GPA + GIB(1), UINT64_C(1) << 63, USER + GIB(1), 0 } },
	{ .name = "beyond the file", .region = { GPA + GIB(1), SIZE + 4096, USER + GIB(1), 0 } },
	{ .name = "one byte beyond it", .region = { GPA + GIB(1), SIZE, USER + GIB(1), 1 } },
	{ .name = "all beyond it", .region = { GPA + GIB(1), 4096, USER + GIB(1), SIZE } },
	{ .name = "far beyond it", .region = { GPA + GIB(1), 4096, USER + GIB(1), GIB(64) } },
	{ .name = "offset in the middle of a page",
	  .region = { GPA + GIB(1), 8192, USER + GIB(1), 512 },
	  .may_be_true = true },
	{ .name = "gpa in the middle of a page",
	  .region = { GPA + GIB(1) + 512, 8192, USER + GIB(1), 0 },
	  .may_be_true = true },
	{ .name = "one byte",
	  .region = { GPA + GIB(1), 1, USER + GIB(1), 0 },
	  .may_be_true = true },
};

static int send_table(struct front_end *front, const struct lie *lie)
{
	struct vhost_user_memory table = {
		.count = 2,
		.regions = { { GPA, SIZE, USER, 0 }, lie->region },
	};
	int fds[2] = { front->machine->ctx->memory.fd, front->machine->ctx->memory.fd };

	return front_send(front, VHOST_USER_SET_MEM_TABLE, &table,
			  offsetof(struct vhost_user_memory, regions[2]), fds, 2, true);
}

static void tables_that_lie(void **state)
{
	struct hostile *hostile = hostile_create(state);

	for (unsigned int i = 0; i < ARRAY_SIZE(lies); i++) {
		struct front_end *front = begin(hostile);
		int error;

		assert_int_equal(front_begin(front), 0);
		error = send_table(front, &lies[i]);
		if (error != -EREMOTEIO && !(lies[i].may_be_true && !error))
			fail_msg("SET_MEM_TABLE, %s: %d", lies[i].name, error);
		error = front_region(front, VHOST_USER_ADD_MEM_REG,
				     &(struct vhost_user_region) { GPA, SIZE, USER, 0 });
		/* A table that was refused has left nothing behind. */
		assert_int_equal(error, lies[i].may_be_true ? error : 0);
		error = front_region(front, VHOST_USER_ADD_MEM_REG, &lies[i].region);
		if (error != -EREMOTEIO && !lies[i].may_be_true)
			fail_msg("ADD_MEM_REG, %s: %d", lies[i].name, error);
		finish(hostile, lies[i].name);
	}
	hostile_serve_one(hostile, 1);
}

/* The same while rings run: what is refused changes nothing. */
static void tables_that_lie_while_rings_run(void **state)
{
	struct hostile *hostile = hostile_create(state);

	for (unsigned int i = 0; i < ARRAY_SIZE(lies); i++) {
		struct virtio_driver *driver;

		if (lies[i].may_be_true)
			continue;
		driver = run(hostile, &served_split);
		assert_int_equal(send_table(hostile->served->front, &lies[i]), -EREMOTEIO);
		served_write(driver, 0, i, i);
		served_verify(driver, 1, i, i);
		finish(hostile, lies[i].name);
	}
	hostile_serve_one(hostile, 1);
}

/* The count says other than what is there. */
static void table_counts(void **state)
{
	static const uint32_t counts[] = { 0, 2, 7, 8, 9, 100, 0x7fffffff, 0x80000000, UINT32_MAX };
	struct hostile *hostile = hostile_create(state);

	for (unsigned int i = 0; i < ARRAY_SIZE(counts); i++)
		for (unsigned int fds = 0; fds <= 8; fds++) {
			struct vhost_user_memory table = { .count = counts[i] };
			struct front_end *front = begin(hostile);
			int fd[8], error;

			for (unsigned int j = 0; j < 8; j++) {
				fd[j] = front->machine->ctx->memory.fd;
				table.regions[j] =
					(struct vhost_user_region) { GPA + j * SIZE, SIZE,
								     USER + j * SIZE, 0 };
			}
			assert_int_equal(front_begin(front), 0);
			error = front_send(front, VHOST_USER_SET_MEM_TABLE, &table, sizeof(table),
					   fd, fds, true);
			assert_int_equal(error, counts[i] == fds ? 0 : -EREMOTEIO);
			finish(hostile, "table with another count");
		}
	hostile_serve_one(hostile, 1);
}

/* Memory is taken away under running rings, one way or another. */
static void memory_is_taken_away(void **state)
{
	struct hostile *hostile = hostile_create(state);
	static struct served_request load[16];

	for (unsigned int way = 0; way < 4; way++)
		for (unsigned int round = 0; round < 8; round++) {
			struct virtio_driver *driver =
				run(hostile, round & 1 ? &served_packed : &served_split);
			struct front_end *front = hostile->served->front;
			struct vhost_user_memory none = { 0 };

			for (unsigned int i = 0; i < ARRAY_SIZE(load); i++)
				served_submit(driver, i % SERVED_QUEUES, VIRTIO_BLK_T_IN, i,
					      &load[i]);
			for (unsigned int i = 0; i < SERVED_QUEUES; i++)
				driver_kick(driver_queue(driver, i));
			if (way == 0)
				front_region(front, VHOST_USER_REM_MEM_REG, &front->regions[0]);
			else if (way == 1)
				front_send(front, VHOST_USER_SET_MEM_TABLE, &none, 8, NULL, 0,
					   true);
			else if (way == 2)
				front_set_none(front, VHOST_USER_RESET_DEVICE);
			for (unsigned int i = 0; i < SERVED_QUEUES; i++)
				front_kick(front, i);
			if (way == 3)
				front_hang_up(front);
			finish(hostile, "memory is taken away");
		}
	hostile_serve_one(hostile, 1);
}

/* ---- Inflight regions ---- */

static int make_file(uint64_t size, unsigned int flags)
{
	int fd = memfd_create("hostile", MFD_CLOEXEC | flags);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

static void inflight_lies(void **state)
{
	static const struct vhost_user_inflight bad[] = {
		{ 0, 0, 4, 128 },
		{ 4096, 0, 4, 128 },
		{ KIB(64) + 1, 0, 4, 128 },
		{ KIB(64), 1, 4, 128 },
		{ KIB(64), 512, 4, 128 },
		{ KIB(64), KIB(64), 4, 128 },
		{ KIB(64), UINT64_MAX, 4, 128 },
		{ UINT64_MAX, 0, 4, 128 },
		{ UINT64_MAX, 4096, 4, 128 },
		{ KIB(64), 0, 0, 128 },
		{ KIB(64), 0, 5, 128 },
		{ KIB(64), 0, 65535, 128 },
		{ KIB(64), 0, 65535, 65535 },
		{ KIB(64), 0, 4, 0 },
		{ KIB(64), 0, 4, 32768 },
		{ KIB(64), 0, 4, 65535 },
	};
	struct hostile *hostile = hostile_create(state);

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		struct front_end *front = begin(hostile);
		int fd = make_file(KIB(64), 0);

		assert_int_equal(front_begin(front), 0);
		assert_int_equal(front_send(front, VHOST_USER_SET_INFLIGHT_FD, &bad[i],
					    sizeof(bad[i]), &fd, 1, true),
				 -EREMOTEIO);
		close(fd);
		finish(hostile, "inflight region");
	}
	hostile_serve_one(hostile, 1);
}

static uint32_t nonsense(uint32_t seed, uint64_t i)
{
	return ((seed * 1103515245U + (uint32_t)i * 2654435761U) >> 16);
}

/*
 * A region full of nonsense, begun with a header that looks right: chains that are no chains, loops,
 * counts. The ring is refused, or broken, or carries out what it finds; it never crashes.
 */
static void inflight_nonsense(void **state)
{
	struct hostile *hostile = hostile_create(state);

	for (uint32_t seed = 0; seed < 200; seed++) {
		const struct driver_params *params = seed & 1 ? &served_packed : &served_split;
		struct front_end *front = begin(hostile);
		struct served *served = hostile->served;
		uint64_t size;

		driver_close(served->driver);
		assert_int_equal(front_begin(front), 0);
		served->driver = front_driver_open(front, params);
		assert_true(driver_negotiate(served->driver, served->driver->offered));
		assert_int_equal(front_inflight_get(front, 4, 128), 0);
		size = front->inflight.mmap_size;
		for (uint64_t i = 0; i < size; i++) {
			uint64_t in_region = i % (size / 4);
			uint8_t *byte = (uint8_t *)front->inflight_memory + i;

			/* features, version 1, desc_num 128, then anything, small more often than not */
			if (in_region < 8)
				*byte = 0;
			else if (in_region < 12)
				*byte = in_region == 8 ? 1 : in_region == 10 ? 128 : 0;
			else
				*byte = (uint8_t)(nonsense(seed, i) & (seed % 3	  ? 1
								       : seed % 5 ? 0x7f
										  : 0xff));
		}
		assert_int_equal(front_inflight_set(front), 0);
		for (uint16_t i = 0; i < 4; i++) {
			struct driver_queue *queue = driver_queue(served->driver, i);
			struct served_request request;

			if (!front->memory_shared)
				assert_int_equal(front_share_memory(front), 0);
			driver_queue_prepare(served->driver, i, 128);
			front->rings[i].base = params->packed ? 0x80008000 : 0;
			served_submit(served->driver, i, VIRTIO_BLK_T_IN, 0, &request);
			if (!front_ring_start(front, queue))
				front_ring_enable(front, i, true);
			front_kick(front, i);
		}
		finish(hostile, "inflight region full of nonsense");
	}
	hostile_serve_one(hostile, 1);
}

/* Made for split rings, used for packed ones. */
static void inflight_of_another_format(void **state)
{
	struct hostile *hostile = hostile_create(state);
	struct front_end *front = begin(hostile);
	struct served *served = hostile->served;

	assert_int_equal(front_begin(front), 0);
	assert_int_equal(front_set_features(front, BIT64(VIRTIO_F_VERSION_1)), 0);
	assert_int_equal(front_inflight_get(front, 4, 128), 0);
	served->driver = front_driver_open(front, &served_packed);
	assert_true(driver_negotiate(served->driver, served->driver->offered));
	assert_int_equal(front_share_memory(front), 0);
	driver_queue_prepare(served->driver, 3, 128);
	front->rings[3].base = 0x80008000;
	assert_int_equal(front_ring_start(front, driver_queue(served->driver, 3)), 0);
	assert_int_equal(front_ring_enable(front, 3, true), -EREMOTEIO);
	finish(hostile, "inflight region of another format");
	hostile_serve_one(hostile, 1);
}

static void move_nowhere(struct front_end *front, uint32_t index)
{
	const struct vhost_user_vring_addr nowhere = {
		.index = index, .desc = 16, .avail = 16, .used = 16
	};

	assert_int_equal(front_send(front, VHOST_USER_SET_VRING_ADDR, &nowhere, sizeof(nowhere),
				    NULL, 0, true),
			 0);
}

/* A ring that moved where no memory is, and starts again smaller: nothing is left of what it held. */
static void moved_ring_with_inflight(void **state)
{
	struct hostile *hostile = hostile_create(state);
	struct front_end *front = begin(hostile);
	struct served *served = hostile->served;
	struct inflight_packed *region;
	struct driver_queue *queue;

	assert_int_equal(front_begin(front), 0);
	served->driver = front_driver_open(front, &served_packed);
	assert_true(driver_negotiate(served->driver, served->driver->offered));
	assert_int_equal(front_inflight_get(front, 4, 128), 0);
	region = front->inflight_memory;
	region->heads.version = INFLIGHT_VERSION;
	region->heads.desc_num = region->heads.free_head = region->heads.old_free_head = 128;
	region->used.wrap = region->used.old_wrap = 1;
	for (uint16_t i = 0; i < 128; i++)
		region->desc[i] = (struct inflight_packed_desc) {
			.inflight = 1, .num = 1, .last = i, .counter = i
		};
	assert_int_equal(front_inflight_set(front), 0);
	assert_int_equal(front_share_memory(front), 0);
	for (uint16_t i = 0; i < 4; i++) {
		driver_queue_prepare(served->driver, i, 128);
		front->rings[i].base = 0x80008000;
	}
	for (uint16_t i = 2; i < 4; i++) {
		assert_int_equal(front_ring_start(front, driver_queue(served->driver, i)), 0);
		assert_int_equal(front_ring_enable(front, i, true), 0);
	}
	move_nowhere(front, 2); /* so that the device breaks, and what ring 0 is given back stays */
	queue = driver_queue(served->driver, 0);
	assert_int_equal(front_ring_start(front, queue), 0);
	assert_int_equal(front_ring_enable(front, 0, true), 0);
	move_nowhere(front, 0);
	driver_queue_prepare(served->driver, 0, 2);
	front_ring_start(front, queue);
	finish(hostile, "a ring that moved");
	hostile_serve_one(hostile, 1);
}

/* ---- The dirty log ---- */

static void log_lies(void **state)
{
	static const struct vhost_user_log bad[] = {
		{ 0, 0 },	   { 8192, 0 },		 { 4096, 1 },	       { 4096, 4096 },
		{ UINT64_MAX, 0 }, { 4096, UINT64_MAX }, { UINT64_MAX, 4096 },
	};
	struct hostile *hostile = hostile_create(state);

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		struct front_end *front = begin(hostile);
		int fd = make_file(4096, 0);
		struct front_message reply;

		assert_int_equal(front_begin(front), 0);
		/* Refused: by a number, or by hanging up. */
		if (!front_call(front, VHOST_USER_SET_LOG_BASE, &bad[i], sizeof(bad[i]), &fd, 1,
				&reply))
			assert_int_not_equal(reply.payload.u64, 0);
		close(fd);
		finish(hostile, "a dirty log");
	}
	hostile_serve_one(hostile, 1);
}

/* LOG_ALL, and there is no log: rings wait for it, or for LOG_ALL to go. Nor can there ever be one. */
static void log_without_log(void **state)
{
	struct hostile *hostile = hostile_create(state);
	struct virtio_driver *driver = run(hostile, &served_split);
	struct front_end *front = hostile->served->front;
	struct served_request request;

	front->log_dirty = true;
	assert_int_equal(front_set_features(front, driver->accepted), 0);
	served_submit(driver, 0, VIRTIO_BLK_T_IN, 0, &request);
	driver_kick(driver_queue(driver, 0));
	assert_true(served_quiet(driver, 0, 50));
	front->log_dirty = false;
	assert_int_equal(front_set_features(front, driver->accepted), 0);
	assert_ptr_equal(driver_wait_buf(driver_queue(driver, 0), NULL, DRIVER_TIMEOUT_MS),
			 &request);
	served_write(driver, 0, 0, 1);
	finish(hostile, "no log");

	front = begin(hostile);
	front->protocol_wanted &= ~BIT64(VHOST_USER_PROTOCOL_F_LOG_SHMFD);
	assert_int_equal(front_begin(front), 0);
	front->log_dirty = true;
	assert_int_equal(front_set_features(front, BIT64(VIRTIO_F_VERSION_1)), -EREMOTEIO);
	finish(hostile, "no log ever");
	hostile_serve_one(hostile, 1);
}

/* ---- Files that get shorter ---- */

/* All that sealing prevents is refused; nothing of what is left kills the process. */
static void truncated_memory(void **state)
{
	struct hostile *hostile = hostile_create(state);

	for (unsigned int sealable = 0; sealable < 2; sealable++) {
		struct front_end *front = begin(hostile);
		struct served *served = hostile->served;
		int fd = make_file(MIB(2), sealable ? MFD_ALLOW_SEALING : 0);
		const struct vhost_user_single_region single = {
			.region = { GIB(2), MIB(2), UINT64_C(1) << 41, 0 },
		};
		struct segment segments[3] = { { GIB(2), 16 },
					       { GIB(2) + 4096, 512 },
					       { GIB(2), 1 } };
		int token;

		driver_close(served->driver);
		served_run(served, &served_split);
		assert_int_equal(front_send(front, VHOST_USER_ADD_MEM_REG, &single, sizeof(single),
					    &fd, 1, true),
				 0);
		if (ftruncate(fd, 0))
			assert_true(sealable);
		assert_int_equal(
			driver_add_buf(driver_queue(served->driver, 0), segments, 1, 2, &token), 0);
		driver_kick(driver_queue(served->driver, 0));
		driver_wait_buf(driver_queue(served->driver, 0), NULL, 100);
		close(fd);
		finish(hostile, "memory whose file gets shorter");
	}
	hostile_serve_one(hostile, 1);
}

static void truncated_inflight(void **state)
{
	struct hostile *hostile = hostile_create(state);
	struct served *served = hostile->served;
	struct served_request request;
	struct front_end *front = begin(hostile);
	int fd = make_file(KIB(64), 0);

	assert_int_equal(front_begin(front), 0);
	served->driver = front_driver_open(front, &served_split);
	assert_true(driver_negotiate(served->driver, served->driver->offered));
	front->inflight = (struct vhost_user_inflight) { KIB(64), 0, 4, 128 };
	front->inflight_fd = fd;
	assert_int_equal(front_inflight_set(front), 0);
	driver_start(served->driver);
	served_write(served->driver, 0, 0, 1);
	assert_int_equal(ftruncate(fd, 0), 0);
	served_submit(served->driver, 1, VIRTIO_BLK_T_IN, 0, &request);
	driver_kick(driver_queue(served->driver, 1));
	driver_wait_buf(driver_queue(served->driver, 1), NULL, 100);
	finish(hostile, "inflight region whose file gets shorter");
	hostile_serve_one(hostile, 1);
}

static void truncated_log(void **state)
{
	struct hostile *hostile = hostile_create(state);
	struct virtio_driver *driver = run(hostile, &served_split);
	struct front_end *front = hostile->served->front;
	int fd = make_file(4096, 0);
	struct served_request request;

	assert_int_equal(front_set_log(front, fd, 4096, 0), 0);
	front->log_dirty = true;
	assert_int_equal(front_set_features(front, driver->accepted), 0);
	served_write(driver, 0, 0, 1);
	assert_int_equal(ftruncate(fd, 0), 0);
	served_submit(driver, 1, VIRTIO_BLK_T_IN, 0, &request);
	driver_kick(driver_queue(driver, 1));
	driver_wait_buf(driver_queue(driver, 1), NULL, 100);
	close(fd);
	finish(hostile, "dirty log whose file gets shorter");
	hostile_serve_one(hostile, 1);
}

#define HOSTILE_TEST(function) cmocka_unit_test_teardown(function, hostile_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		HOSTILE_TEST(tables_that_lie),
		HOSTILE_TEST(tables_that_lie_while_rings_run),
		HOSTILE_TEST(table_counts),
		HOSTILE_TEST(memory_is_taken_away),
		HOSTILE_TEST(inflight_lies),
		HOSTILE_TEST(inflight_nonsense),
		HOSTILE_TEST(inflight_of_another_format),
		HOSTILE_TEST(moved_ring_with_inflight),
		HOSTILE_TEST(log_lies),
		HOSTILE_TEST(log_without_log),
		HOSTILE_TEST(truncated_memory),
		HOSTILE_TEST(truncated_inflight),
		HOSTILE_TEST(truncated_log),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
