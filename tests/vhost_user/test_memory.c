/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guest memory over vhost-user: in one piece or hundreds, coming and going while requests are in
 * flight; and the dirty log, compared with the pages that really changed.
 */
#include <sys/mman.h>

#include "served.h"

#define PAGE UINT64_C(4096)
#define PAGES (MACHINE_MEMORY / PAGE)

static struct virtio_driver *run_with(struct served *served, const struct driver_params *params)
{
	struct virtio_driver *driver = served_run(served, params);

	for (unsigned int i = 0; i < 8; i++)
		served_write(driver, i % SERVED_QUEUES, i, i);
	for (unsigned int i = 0; i < 8; i++)
		served_verify(driver, i % SERVED_QUEUES, i, i);
	return driver;
}

/* Data of 16 sectors, its pieces anywhere in memory, over the borders of regions. */
static void transfer_across(struct served *served, uint64_t border, uint32_t seed)
{
	struct driver_queue *queue = driver_queue(served->driver, 0);
	uint64_t gpa = border - PAGE, header_gpa = guest_alloc(served->machine, 64, 64);
	struct virtio_blk_outhdr *header = guest_ptr(served->machine, header_gpa, 64);
	uint8_t *status = (uint8_t *)header + 32, *data = guest_ptr(served->machine, gpa, 2 * PAGE);
	struct segment segments[3] = { { header_gpa, sizeof(*header) },
				       { gpa, 2 * PAGE },
				       { header_gpa + 32, 1 } };
	uint8_t expected[2 * PAGE];

	served_pattern(expected, sizeof(expected), seed);
	for (int write = 1; write >= 0; write--) {
		*header = (struct virtio_blk_outhdr) { .type = write ? VIRTIO_BLK_T_OUT
								     : VIRTIO_BLK_T_IN };
		memset(data, DRIVER_POISON, 2 * PAGE);
		if (write)
			memcpy(data, expected, sizeof(expected));
		*status = 0xff;
		assert_int_equal(
			driver_add_buf(queue, segments, write ? 2 : 1, write ? 1 : 2, data), 0);
		driver_kick(queue);
		assert_ptr_equal(driver_wait_buf(queue, NULL, DRIVER_TIMEOUT_MS), data);
		assert_int_equal(*status, VIRTIO_BLK_S_OK);
		assert_memory_equal(data, expected, sizeof(expected));
	}
}

static void hundreds_of_regions(void **state)
{
	struct served *served = served_create(state);
	struct front_end *front = served->front;

	front->split_memory = KIB(256);
	run_with(served, &served_split);
	assert_int_equal(front->region_count, MACHINE_MEMORY / KIB(256));
	for (unsigned int i = 16; i < 256; i += 16)
		transfer_across(served, i * KIB(256), i);
}

/* The front end's own addresses say nothing about where anything is here. */
static void foreign_addresses(void **state)
{
	struct served *served = served_create(state);
	struct front_end *front = served->front;

	front->split_memory = MIB(8);
	front_make_regions(front);
	for (unsigned int i = 0; i < front->region_count;
	     i++) /* in the opposite order, with gaps */
		front->regions[i].user_addr = (UINT64_C(1) << 47) - i * MIB(64);
	run_with(served, &served_packed);
	transfer_across(served, MIB(16), 1);
}

/* With SET_MEM_TABLE, cut in another way each time while requests are in flight. */
static void table_is_replaced(void **state)
{
	struct served *served = served_create(state);
	struct front_end *front = served->front;
	struct served_request requests[8];
	struct virtio_driver *driver;

	front->protocol_wanted &= ~BIT64(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS);
	driver = run_with(served, &served_split);
	for (unsigned int i = 0; i < 40; i++) {
		for (unsigned int j = 0; j < ARRAY_SIZE(requests); j++)
			served_submit(driver, 1, VIRTIO_BLK_T_IN, j, &requests[j]);
		driver_kick(driver_queue(driver, 1));
		front->split_memory = MACHINE_MEMORY / (1 + i % 8) / PAGE * PAGE + PAGE;
		front_make_regions(front);
		assert_int_equal(front_share_memory(front), 0);
		for (unsigned int j = 0; j < ARRAY_SIZE(requests); j++) {
			struct served_request *done =
				driver_wait_buf(driver_queue(driver, 1), NULL, DRIVER_TIMEOUT_MS);

			assert_non_null(done);
			assert_int_equal(*done->status, VIRTIO_BLK_S_OK);
		}
		served_verify(driver, 0, i % 8, i % 8);
	}
}

/* Only the first half of memory is there at first; pieces of the other come and go under load. */
static void hotplug_under_load(void **state)
{
	struct served *served = served_create(state);
	struct front_end *front = served->front;
	struct vhost_user_region plugged;
	struct served_request load[16], request;
	struct virtio_driver *driver;

	front->split_memory = MACHINE_MEMORY / 2;
	front_make_regions(front);
	plugged = front->regions[1];
	front->region_count = 1;
	driver = run_with(served, &served_split);
	plugged.size = MIB(1);
	for (unsigned int i = 0; i < 60; i++) {
		for (unsigned int j = 0; j < ARRAY_SIZE(load); j++)
			served_submit(driver, j % 2, VIRTIO_BLK_T_IN, j % 8, &load[j]);
		driver_kick(driver_queue(driver, 0));
		driver_kick(driver_queue(driver, 1));
		assert_int_equal(front_region(front, VHOST_USER_ADD_MEM_REG, &plugged), 0);
		served_submit_at(driver, 2, plugged.gpa + PAGE * i, VIRTIO_BLK_T_IN, i % 8,
				 &request);
		driver_kick(driver_queue(driver, 2));
		assert_ptr_equal(driver_wait_buf(driver_queue(driver, 2), NULL, DRIVER_TIMEOUT_MS),
				 &request);
		assert_int_equal(*request.status, VIRTIO_BLK_S_OK);
		assert_int_equal(front_region(front, VHOST_USER_REM_MEM_REG, &plugged), 0);
		for (unsigned int j = 0; j < ARRAY_SIZE(load); j++)
			assert_non_null(driver_wait_buf(driver_queue(driver, j % 2), NULL,
							DRIVER_TIMEOUT_MS));
		for (unsigned int j = 0; j < ARRAY_SIZE(load); j++)
			assert_int_equal(*load[j].status, VIRTIO_BLK_S_OK);
	}
	/* What is gone is gone. */
	served_submit_at(driver, 3, plugged.gpa, VIRTIO_BLK_T_IN, 0, &request);
	driver_kick(driver_queue(driver, 3));
	for (int i = 0; !(driver_status(driver) & VIRTIO_CONFIG_S_NEEDS_RESET); i++) {
		assert_true(i < 5000);
		usleep(1000);
	}
	assert_int_equal(*request.status, 0xff);
}

static void slots_are_checked(void **state)
{
	struct front_end *front = served_create(state)->front;
	struct vhost_user_region region;

	front->split_memory = KIB(64); /* 1024 pieces */
	assert_int_equal(front_begin(front), 0);
	front_make_regions(front);
	for (unsigned int i = 0; i < front->slots_max; i++)
		assert_int_equal(front_region(front, VHOST_USER_ADD_MEM_REG, &front->regions[i]),
				 0);
	region = front->regions[front->slots_max];
	assert_int_equal(front_region(front, VHOST_USER_ADD_MEM_REG, &region), -EREMOTEIO);
	assert_int_equal(front_region(front, VHOST_USER_REM_MEM_REG, &region), -EREMOTEIO);
	assert_int_equal(front_region(front, VHOST_USER_REM_MEM_REG, &front->regions[7]), 0);
	assert_int_equal(front_region(front, VHOST_USER_REM_MEM_REG, &front->regions[7]),
			 -EREMOTEIO);
	assert_int_equal(front_region(front, VHOST_USER_ADD_MEM_REG, &region), 0);
	assert_int_equal(front_region(front, VHOST_USER_ADD_MEM_REG, &region), -EREMOTEIO);
}

/* Other than it was added: not that region. */
static void removal_names_the_region(void **state)
{
	struct front_end *front = served_create(state)->front;
	struct vhost_user_region other;

	assert_int_equal(front_begin(front), 0);
	assert_int_equal(front_share_memory(front), 0);
	for (unsigned int i = 0; i < 3; i++) {
		other = front->regions[0];
		other.gpa += i == 0 ? PAGE : 0;
		other.size -= i == 1 ? PAGE : 0;
		other.user_addr += i == 2 ? PAGE : 0;
		assert_int_equal(front_region(front, VHOST_USER_REM_MEM_REG, &other), -EREMOTEIO);
	}
	assert_int_equal(front_region(front, VHOST_USER_REM_MEM_REG, &front->regions[0]), 0);
}

/* ---- The dirty log ---- */

struct dirty_case {
	struct served *served;
	struct virtio_driver *driver;
	int fd;
	uint8_t *log, *before;
	bool allowed[PAGES]; /* the device may write there */
};

static bool bit_get(const uint8_t *log, uint64_t page)
{
	return log[page / 8] & BIT32(page % 8);
}

static void log_attach(struct dirty_case *test)
{
	test->fd = memfd_create("log", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(test->fd >= 0);
	assert_int_equal(ftruncate(test->fd, PAGES / 8), 0);
	test->log = mmap(NULL, PAGES / 8, PROT_READ | PROT_WRITE, MAP_SHARED, test->fd, 0);
	assert_true(test->log != MAP_FAILED);
	assert_int_equal(front_set_log(test->served->front, test->fd, PAGES / 8, 0), 0);
}

static void log_detach(struct dirty_case *test)
{
	munmap(test->log, PAGES / 8);
	close(test->fd);
}

/* On and off while rings run, as QEMU does it: the features, then each ring's addresses. */
static void log_switch(struct dirty_case *test, bool on)
{
	struct front_end *front = test->served->front;

	front->log_dirty = on;
	assert_int_equal(front_set_features(front, test->driver->accepted), 0);
	for (unsigned int i = 0; i < test->driver->queue_count; i++)
		assert_int_equal(front_ring_addresses(front, driver_queue(test->driver, i)), 0);
}

static void allow(struct dirty_case *test, uint64_t gpa, uint64_t len)
{
	for (uint64_t page = gpa / PAGE; page <= (gpa + len - 1) / PAGE; page++)
		test->allowed[page] = true;
}

static void allow_rings(struct dirty_case *test)
{
	uint64_t desc, driver, device;

	for (unsigned int i = 0; i < test->driver->queue_count; i++) {
		const struct ring *ring = &test->driver->queues[i].ring;

		ring->ops->sizes(ring->size, &desc, &driver, &device);
		allow(test, ring->device_gpa, device);
		if (ring->packed)
			allow(test, ring->desc_gpa, desc);
	}
}

static void enable(struct dirty_case *test, bool on)
{
	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(front_ring_enable(test->served->front, i, on), 0);
}

/* A request for @sector, whose status has a page of its own if @status_apart. */
static void dirty_submit(struct dirty_case *test, unsigned int queue, uint32_t type,
			 uint64_t sector, bool status_apart, struct served_request *request)
{
	uint64_t gpa = guest_alloc(test->served->machine, 2 * PAGE, PAGE);

	served_prepare(test->driver, gpa, status_apart ? PAGE : 1024, type, sector, request);
	served_add(test->driver, queue, request);
	memset(request->data, DRIVER_POISON, 512);
	allow(test, gpa, status_apart ? 2 * PAGE : PAGE); /* the status byte at least */
}

/*
 * Requests are prepared while the rings are disabled, for a device that polls takes them without a
 * kick; memory is remembered, and then only the device writes.
 */
static unsigned int dirty_round(struct dirty_case *test, uint32_t type, unsigned int count,
				bool refused)
{
	static struct served_request requests[64];
	const uint8_t *memory = guest_ptr(test->served->machine, 0, MACHINE_MEMORY);
	unsigned int changed = 0;

	memset(test->allowed, 0, sizeof(test->allowed));
	allow_rings(test);
	enable(test, false);
	for (unsigned int i = 0; i < count; i++)
		dirty_submit(test, i % 2, type, (refused ? SERVED_DISK / 512 : 0) + i % 8, refused,
			     &requests[i]);
	memcpy(test->before, memory, MACHINE_MEMORY);
	enable(test, true);
	driver_kick(driver_queue(test->driver, 0));
	driver_kick(driver_queue(test->driver, 1));
	for (unsigned int i = 0; i < count; i++)
		while (*(volatile uint8_t *)requests[i].status == 0xff)
			usleep(100);
	/* Used entries follow the status: all are there when the device has come to rest. */
	assert_int_equal(front_ring_stop(test->served->front, 3), 0);
	assert_int_equal(front_ring_start(test->served->front, driver_queue(test->driver, 3)), 0);
	assert_int_equal(front_ring_enable(test->served->front, 3, true), 0);
	for (uint64_t page = 0; page < PAGES; page++) {
		bool differs = memcmp(test->before + page * PAGE, memory + page * PAGE, PAGE);

		changed += differs;
		if (differs && test->served->front->log_dirty && !bit_get(test->log, page))
			fail_msg("page 0x%llx was written and is not in the log",
				 (unsigned long long)page);
		if (bit_get(test->log, page) && !test->allowed[page])
			fail_msg("page 0x%llx is in the log, and nobody wrote there",
				 (unsigned long long)page);
	}
	for (unsigned int i = 0; i < count; i++)
		assert_non_null(driver_wait_buf(driver_queue(test->driver, i % 2), NULL,
						DRIVER_TIMEOUT_MS));
	return changed;
}

static unsigned int bits_set(const struct dirty_case *test)
{
	unsigned int count = 0;

	for (uint64_t page = 0; page < PAGES; page++)
		count += bit_get(test->log, page);
	return count;
}

static void dirty_log(void **state, const struct driver_params *params)
{
	struct dirty_case test = { .served = served_create(state) };

	test.before = malloc(MACHINE_MEMORY);
	assert_non_null(test.before);
	test.driver = run_with(test.served, params);
	log_attach(&test);
	assert_int_equal(bits_set(&test), 0);
	for (unsigned int i = 0; i < 3; i++) {
		log_switch(&test, true);
		assert_true(dirty_round(&test, VIRTIO_BLK_T_IN, 20, false) > 20);
		memset(test.log, 0, PAGES / 8);
		assert_true(dirty_round(&test, VIRTIO_BLK_T_OUT, 30, false) > 30);
		memset(test.log, 0, PAGES / 8);
		/* Of a read that failed the status is all that was written. */
		assert_true(dirty_round(&test, VIRTIO_BLK_T_IN, 20, true) > 20);
		memset(test.log, 0, PAGES / 8);
		/* A new log, in the middle of it all. */
		log_detach(&test);
		log_attach(&test);
		assert_true(dirty_round(&test, VIRTIO_BLK_T_IN, 8, false) > 8);
		assert_true(bits_set(&test) > 8);
		log_switch(&test, false);
		memset(test.log, 0, PAGES / 8);
		dirty_round(&test, VIRTIO_BLK_T_IN, 8, false);
		assert_int_equal(bits_set(&test), 0);
	}
	log_detach(&test);
	free(test.before);
}

static void dirty_log_split(void **state)
{
	dirty_log(state, &served_split);
}

/* Used elements go to the descriptor ring, which is not where the device's event area is. */
static void dirty_log_packed(void **state)
{
	struct driver_params params = served_packed;

	params.desc_align = 4 * PAGE;
	dirty_log(state, &params);
}

/*
 * The guest starts while it is migrated: LOG_ALL is in the first features, and the log comes when all
 * rings are set up, as QEMU has it. A ring that is enabled by then waits, so nothing is left out.
 */
static void log_comes_last(void **state, const struct driver_params *params, bool enabled_before)
{
	struct dirty_case test = { .served = served_create(state) };
	struct front_end *front = test.served->front;
	struct served_request request;

	test.before = malloc(MACHINE_MEMORY);
	assert_non_null(test.before);
	front->log_dirty = true;
	assert_int_equal(front_begin(front), 0);
	test.served->driver = test.driver = front_driver_open(front, params);
	assert_true(driver_negotiate(test.driver, test.driver->offered));
	for (uint16_t i = 0; i < SERVED_QUEUES; i++)
		driver_queue_setup(test.driver, i, 0);
	if (enabled_before)
		enable(&test, true);
	served_submit(test.driver, 0, VIRTIO_BLK_T_IN, 0, &request);
	driver_kick(driver_queue(test.driver, 0));
	assert_true(served_quiet(test.driver, 0, 50));
	log_attach(&test);
	driver_set_status(test.driver, VIRTIO_CONFIG_S_DRIVER_OK);
	assert_ptr_equal(driver_wait_buf(driver_queue(test.driver, 0), NULL, DRIVER_TIMEOUT_MS),
			 &request);
	assert_true(bit_get(test.log, request.gpa / PAGE));
	memset(test.log, 0, PAGES / 8);
	assert_true(dirty_round(&test, VIRTIO_BLK_T_IN, 20, false) > 20);
	log_detach(&test);
	free(test.before);
}

static void log_comes_last_split(void **state)
{
	log_comes_last(state, &served_split, false);
}

static void log_comes_last_packed(void **state)
{
	log_comes_last(state, &served_packed, false);
}

static void log_comes_after_rings(void **state)
{
	log_comes_last(state, &served_split, true);
}

/* A log that is too short for memory: what lies beyond is not logged, and nothing breaks. */
static void short_log(void **state)
{
	struct served *served = served_create(state);
	struct front_end *front = served->front;
	struct virtio_driver *driver = run_with(served, &served_split);
	int fd = memfd_create("log", MFD_CLOEXEC);

	assert_int_equal(ftruncate(fd, 4096), 0);
	assert_int_equal(front_set_log(front, fd, 1, 0), 0);
	front->log_dirty = true;
	assert_int_equal(front_set_features(front, driver->accepted), 0);
	for (unsigned int i = 0; i < 8; i++)
		served_verify(driver, i % SERVED_QUEUES, i, i);
	close(fd);
}

#define MEMORY_TEST(function) cmocka_unit_test_teardown(function, served_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		MEMORY_TEST(hundreds_of_regions),   MEMORY_TEST(foreign_addresses),
		MEMORY_TEST(table_is_replaced),	    MEMORY_TEST(hotplug_under_load),
		MEMORY_TEST(slots_are_checked),	    MEMORY_TEST(removal_names_the_region),
		MEMORY_TEST(dirty_log_split),	    MEMORY_TEST(dirty_log_packed),
		MEMORY_TEST(log_comes_last_split),  MEMORY_TEST(log_comes_last_packed),
		MEMORY_TEST(log_comes_after_rings), MEMORY_TEST(short_log),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
