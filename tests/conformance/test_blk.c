/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-blk (virtio 1.4, 5.2): the clauses that tests/driver/test_blk.c leaves: what is offered, the
 * cache mode, requests of features that are not there, legacy drivers.
 */
#include <linux/virtio_blk.h>
#include <unistd.h>

#include "conformance.h"

#define CONFIG(member) offsetof(struct virtio_blk_config, member)
#define BLK_F_LIFETIME 15
#define BLK_F_SECURE_ERASE 16
#define BLK_F_ZONED 17
#define REQUESTS 24

/* The ways to attach an image. */
static const char *const attachments[] = { NULL, "ro", "direct", "queues=4", "legacy=off" };

static uint8_t request(struct kind_case *test, const struct driver_layout *layout, uint32_t type,
		       uint64_t sector, uint32_t out_len, uint32_t in_len)
{
	struct virtio_blk_outhdr header = { .type = type, .sector = sector };
	uint8_t out[16 + 512] = { 0 }, in[513];

	assert_true(out_len <= 512 && in_len <= 512);
	memcpy(out, &header, sizeof(header));
	driver_request(test->queue, layout, out, 16 + out_len, in, in_len + 1);
	return in[in_len];
}

/* ---- What is offered (5.2.5.2) ---- */

static void test_offers(void **state)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(attachments); i++) {
		struct kind_case *test = *state;
		uint64_t offered;

		if (test->params.legacy && i + 1 == ARRAY_SIZE(attachments))
			continue;
		kind_case_open(state, NULL, attachments[i]);
		offered = test->driver->offered;
		assert_true(offered & BIT64(VIRTIO_BLK_F_FLUSH));
		assert_true(offered & BIT64(VIRTIO_BLK_F_CONFIG_WCE));
		assert_int_equal(offered & (BIT64(BLK_F_LIFETIME) | BIT64(BLK_F_SECURE_ERASE) |
					    BIT64(BLK_F_ZONED)),
				 0);
		kind_case_close(state);
	}
}

/* Padding is 0; write_zeroes_may_unmap says exactly whether holes can be made. */
static void test_config_fields(void **state)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(attachments) - 1; i++) {
		struct kind_case *test = *state;
		bool unmap;

		kind_case_open(state, NULL, attachments[i]);
		clause_vectors(test->driver);
		unmap = test->driver->offered & BIT64(VIRTIO_BLK_F_DISCARD);
		assert_int_equal(driver_config(test->driver, CONFIG(unused), 1), 0);
		for (unsigned int byte = 0; byte < 3; byte++)
			assert_int_equal(driver_config(test->driver, CONFIG(unused1) + byte, 1), 0);
		assert_int_equal(driver_config(test->driver, CONFIG(write_zeroes_may_unmap), 1),
				 unmap);
		kind_case_close(state);
	}
}

/* ---- Cache mode (5.2.5.2, 5.2.5.3) ---- */

static uint8_t writeback(struct kind_case *test)
{
	return (uint8_t)driver_config(test->driver, CONFIG(wce), 1);
}

/* Who can set the mode and not flush begins with writethrough; so does who can do neither. */
static void test_writeback_without_flush(void **state)
{
	const uint64_t flush = BIT64(VIRTIO_BLK_F_FLUSH), wce = BIT64(VIRTIO_BLK_F_CONFIG_WCE);
	const uint64_t without[] = { flush, flush | wce };
	struct kind_case *test = *state;

	kind_case_open(state, NULL, NULL);
	for (unsigned int i = 0; i < ARRAY_SIZE(without); i++) {
		driver_set_status(test->driver, 0);
		assert_true(driver_negotiate(test->driver, test->driver->offered & ~without[i]));
		assert_int_equal(writeback(test), 0);
	}
	driver_set_status(test->driver, 0);
	assert_true(driver_negotiate(test->driver, test->driver->offered));
	assert_int_equal(writeback(test), 1);
}

/* Legacy: no feature write changes it, nor a status write but DRIVER_OK without CONFIG_WCE. */
static void test_legacy_cache_mode(void **state)
{
	const uint64_t flush = BIT64(VIRTIO_BLK_F_FLUSH), wce = BIT64(VIRTIO_BLK_F_CONFIG_WCE);
	const uint64_t without[] = { 0, flush, wce, flush | wce };
	struct kind_case *test = *state;

	kind_case_open(state, NULL, NULL);
	clause_vectors(test->driver);
	for (unsigned int i = 0; i < ARRAY_SIZE(without); i++) {
		uint8_t mode;

		driver_set_status(test->driver, 0);
		mode = writeback(test);
		driver_set_status(test->driver, VIRTIO_CONFIG_S_ACKNOWLEDGE);
		driver_set_status(test->driver, VIRTIO_CONFIG_S_DRIVER);
		assert_int_equal(writeback(test), mode);
		driver_negotiate(test->driver, test->driver->offered & ~without[i]);
		assert_int_equal(writeback(test), mode);
		driver_start(test->driver);
		if (without[i] & wce) /* then it is what flushing can make of it */
			mode = !(without[i] & flush);
		assert_int_equal(writeback(test), mode);
		kind_request(test->kind, test->driver);
		driver_set_status(test->driver, VIRTIO_CONFIG_S_FAILED);
		assert_int_equal(writeback(test), mode);
	}
}

/* A mode that the driver sets stays through status writes, and is gone with a reset. */
static void test_writeback_is_set(void **state)
{
	struct kind_case *test = *state;

	kind_case_run(state);
	assert_int_equal(writeback(test), 1);
	driver_set_config(test->driver, CONFIG(wce), 1, 0);
	assert_int_equal(writeback(test), 0);
	assert_int_equal(request(test, &driver_layouts[0], VIRTIO_BLK_T_OUT, 0, 512, 0),
			 VIRTIO_BLK_S_OK);
	driver_set_config(test->driver, CONFIG(wce), 1, 1);
	assert_int_equal(writeback(test), 1);
	assert_int_equal(request(test, &driver_layouts[0], VIRTIO_BLK_T_FLUSH, 0, 0, 0),
			 VIRTIO_BLK_S_OK);
}

/* ---- Requests (5.2.6.2) ---- */

/* Zones, lifetime, secure erase: features that are not offered. */
static void test_unsupported_requests(void **state)
{
	static const uint32_t types[] = { 10, 14, 15, 16, 18, 20, 22, 24, 26 };
	struct kind_case *test = *state;

	kind_case_run(state);
	for (unsigned int i = 0; i < ARRAY_SIZE(types); i++) {
		assert_int_equal(request(test, &driver_layouts[0], types[i], 0, 16, 0),
				 VIRTIO_BLK_S_UNSUPP);
		assert_int_equal(request(test, &driver_layouts[0], types[i], 0, 0, 512),
				 VIRTIO_BLK_S_UNSUPP);
	}
	assert_int_equal(request(test, &driver_layouts[0], VIRTIO_BLK_T_IN, 0, 0, 512),
			 VIRTIO_BLK_S_OK);
}

/* A legacy driver without ANY_LAYOUT: header, data and status in descriptors of their own. */
static void test_legacy_framing(void **state)
{
	static const struct driver_layout fixed = { .name = "header, data, status",
						    .out_cuts = { 16, 512 },
						    .in_cuts = { 512, 1 } };
	struct kind_case *test = *state;

	kind_case_open(state, NULL, NULL);
	assert_true(driver_negotiate(test->driver,
				     test->driver->offered & ~BIT64(VIRTIO_F_ANY_LAYOUT)));
	driver_start(test->driver);
	for (unsigned int i = 0; i < 20; i++) {
		assert_int_equal(request(test, &fixed, VIRTIO_BLK_T_OUT, i, 512, 0),
				 VIRTIO_BLK_S_OK);
		assert_int_equal(request(test, &fixed, VIRTIO_BLK_T_IN, i, 0, 512),
				 VIRTIO_BLK_S_OK);
		assert_int_equal(request(test, &fixed, VIRTIO_BLK_T_GET_ID, 0, 0, 20),
				 VIRTIO_BLK_S_OK);
	}
}

/* Read @sector, or ask for the serial number. */
static void add_request(struct kind_case *test, uint32_t type, uint64_t sector, uint32_t len,
			void *token)
{
	struct virtio_blk_outhdr header = { .type = type, .sector = sector };
	uint64_t gpa = guest_alloc(test->machine, 16 + len + 1, 16);
	struct segment segments[] = { { gpa, 16 }, { gpa + 16, len + 1 } };

	memcpy(guest_ptr(test->machine, gpa, 16), &header, sizeof(header));
	assert_int_equal(driver_add_buf(test->queue, segments, 1, 1, token), 0);
}

/* IN_ORDER: what is answered at once waits for what the disk takes time for. */
static void test_in_order(void **state)
{
	struct kind_case *test = *state;
	unsigned int tokens[REQUESTS];

	clause_run(state, "in_order=on", BIT64(VIRTIO_F_IN_ORDER));
	for (unsigned int round = 0; round < 10; round++) {
		for (unsigned int i = 0; i < REQUESTS; i++)
			if (i % 3)
				add_request(test, VIRTIO_BLK_T_GET_ID, 0, 20, &tokens[i]);
			else
				add_request(test, VIRTIO_BLK_T_IN, 8 * i, 4096 * (1 + i % 4),
					    &tokens[i]);
		driver_kick(test->queue);
		for (unsigned int i = 0; i < REQUESTS; i++)
			assert_ptr_equal(driver_wait_buf(test->queue, NULL, DRIVER_TIMEOUT_MS),
					 &tokens[i]);
	}
}

/* Suspend and queue reset with the disk at work: what was begun is used, or never. */
static void test_suspend_at_work(void **state)
{
	struct kind_case *test = *state;

	clause_run(state, NULL, BIT64(VIRTIO_F_SUSPEND));
	for (unsigned int round = 0; round < 10; round++) {
		struct virtio_driver *driver = test->driver;
		unsigned int used = 0;

		for (unsigned int i = 0; i < REQUESTS; i++)
			add_request(test, VIRTIO_BLK_T_IN, 8 * i, 4096, test);
		driver_kick(test->queue);
		driver_set_status(driver, VIRTIO_CONFIG_S_SUSPEND);
		while (driver_get_buf(test->queue, NULL))
			used++;
		usleep(1000);
		machine_poll(test->machine);
		assert_false(driver_pending(test->queue));
		driver_set_status(driver, VIRTIO_CONFIG_S_DRIVER_OK);
		for (; used < REQUESTS; used++)
			assert_ptr_equal(driver_wait_buf(test->queue, NULL, DRIVER_TIMEOUT_MS),
					 test);
	}
}

int main(void)
{
	static const struct clause_test tests[] = {
		{ "blk offers", test_offers, KIND_AXIS_INTERFACE, NULL },
		{ "blk config fields", test_config_fields, KIND_AXIS_INTERFACE, NULL },
		{ "blk writeback without flush", test_writeback_without_flush, KIND_AXIS_FORMATS,
		  NULL },
		{ "blk legacy cache mode", test_legacy_cache_mode, KIND_AXIS_LEGACY, NULL },
		{ "blk writeback is set", test_writeback_is_set, KIND_AXIS_INTERFACE, NULL },
		{ "blk unsupported requests", test_unsupported_requests, KIND_AXIS_INTERFACE,
		  NULL },
		{ "blk legacy framing", test_legacy_framing, KIND_AXIS_LEGACY, NULL },
		{ "blk in order", test_in_order, KIND_AXIS_FORMATS, NULL },
		{ "blk suspend at work", test_suspend_at_work, KIND_AXIS_FORMATS, NULL },
	};

	return clause_tests_run(tests, ARRAY_SIZE(tests), "virtio-blk", "virtio-blk");
}
