/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Device status, feature bits, reset, configuration space before it is negotiated, the reset of one
 * queue (virtio 1.4, 2.1 to 2.6).
 */
#include <linux/virtio_blk.h>
#include <linux/virtio_net.h>
#include <stdio.h>

#include "conformance.h"

#define NOWHERE (UINT64_C(1) << 45) /* no RAM is there */

/* ---- Status (2.1) ---- */

/* Buffers and kicks are there, vectors too: the device does nothing before DRIVER_OK. */
static void test_silent_before_driver_ok(void **state)
{
	struct kind_case *test = kind_case_open(state, NULL, NULL);
	struct virtio_driver *driver = test->driver;
	struct kind_buffer buffer;

	assert_true(driver_negotiate(driver, driver->offered));
	clause_vectors(driver);
	clause_queues(driver);
	assert_true(clause_add(test, &buffer, test));
	for (unsigned int i = 0; i < driver->queue_count; i++)
		driver->interface->notify(driver, driver_queue(driver, i));
	machine_poll(test->machine);
	assert_false(driver_pending(test->queue));
	assert_true(kind_buffer_untouched(&buffer, test->machine));
	assert_false(clause_interrupted(driver));
	driver_set_status(driver, VIRTIO_CONFIG_S_DRIVER_OK);
	assert_ptr_equal(driver_wait_buf(test->queue, NULL, DRIVER_TIMEOUT_MS), test);
	assert_true(driver_queue_interrupt(test->queue));
}

/* A buffer that is nowhere: the device stops, says so, and a reset helps. */
static void test_needs_reset(void **state)
{
	struct kind_case *test = kind_case_run(state);
	struct virtio_driver *driver = test->driver;
	const struct segment nowhere = { NOWHERE, 64 };
	unsigned int writable = test->kind->in != 0;

	kind_request(test->kind, driver);
	assert_false(clause_interrupted(driver));
	assert_int_equal(driver_add_buf(test->queue, &nowhere, !writable, writable, test), 0);
	driver_kick(test->queue);
	machine_poll(test->machine);
	assert_true(clause_broken(driver));
	assert_true(driver_config_interrupt(driver));
	assert_false(driver_pending(test->queue));
	assert_int_equal(test->machine->captured.count, 1);
	assert_logged(test->machine, "needs a reset");
	clause_comes_back(test);
}

/* Before DRIVER_OK there is nobody to tell. */
static void test_error_before_driver_ok(void **state)
{
	struct kind_case *test = kind_case_open(state, NULL, NULL);
	struct virtio_driver *driver = test->driver;

	assert_true(driver_negotiate(driver, driver->offered));
	clause_vectors(driver);
	driver_common_out(driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	driver_common_out(driver, VIRTIO_PCI_COMMON_Q_DESCHI, 4, NOWHERE >> 32);
	driver_common_out(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	assert_true(clause_broken(driver));
	assert_false(clause_interrupted(driver));
	driver_set_status(driver, 0);
	assert_true(driver_negotiate(driver, driver->offered));
	driver_start(driver);
	kind_request(test->kind, driver);
}

/* ---- Features (2.2) ---- */

/* struct needs - feature @bit of device type @type must not be offered without one of @one_of. */
static const struct needs {
	uint16_t type; /* 0: any */
	uint8_t bit;
	uint64_t one_of;
} needs[] = {
	{ 0, 34, BIT64(32) },
	{ 0, 35, BIT64(32) },
	{ 0, 38, BIT64(32) },
	{ 0, 40, BIT64(32) },
	{ 0, 43, BIT64(32) },
	{ VIRTIO_ID_NET, VIRTIO_NET_F_GUEST_TSO4, BIT64(VIRTIO_NET_F_GUEST_CSUM) },
	{ VIRTIO_ID_NET, VIRTIO_NET_F_GUEST_TSO6, BIT64(VIRTIO_NET_F_GUEST_CSUM) },
	{ VIRTIO_ID_NET, VIRTIO_NET_F_GUEST_UFO, BIT64(VIRTIO_NET_F_GUEST_CSUM) },
	{ VIRTIO_ID_NET, 54, BIT64(VIRTIO_NET_F_GUEST_CSUM) },
	{ VIRTIO_ID_NET, 55, BIT64(VIRTIO_NET_F_GUEST_CSUM) },
	{ VIRTIO_ID_NET, VIRTIO_NET_F_GUEST_ECN,
	  BIT64(VIRTIO_NET_F_GUEST_TSO4) | BIT64(VIRTIO_NET_F_GUEST_TSO6) },
	{ VIRTIO_ID_NET, VIRTIO_NET_F_HOST_TSO4, BIT64(VIRTIO_NET_F_CSUM) },
	{ VIRTIO_ID_NET, VIRTIO_NET_F_HOST_TSO6, BIT64(VIRTIO_NET_F_CSUM) },
	{ VIRTIO_ID_NET, VIRTIO_NET_F_HOST_UFO, BIT64(VIRTIO_NET_F_CSUM) },
	{ VIRTIO_ID_NET, 56, BIT64(VIRTIO_NET_F_CSUM) },
	{ VIRTIO_ID_NET, VIRTIO_NET_F_HOST_ECN,
	  BIT64(VIRTIO_NET_F_HOST_TSO4) | BIT64(VIRTIO_NET_F_HOST_TSO6) },
	{ VIRTIO_ID_NET, VIRTIO_NET_F_CTRL_RX, BIT64(VIRTIO_NET_F_CTRL_VQ) },
	{ VIRTIO_ID_NET, VIRTIO_NET_F_CTRL_RX_EXTRA, BIT64(VIRTIO_NET_F_CTRL_VQ) },
	{ VIRTIO_ID_NET, VIRTIO_NET_F_CTRL_VLAN, BIT64(VIRTIO_NET_F_CTRL_VQ) },
	{ VIRTIO_ID_NET, VIRTIO_NET_F_GUEST_ANNOUNCE, BIT64(VIRTIO_NET_F_CTRL_VQ) },
	{ VIRTIO_ID_NET, VIRTIO_NET_F_MQ, BIT64(VIRTIO_NET_F_CTRL_VQ) },
	{ VIRTIO_ID_NET, VIRTIO_NET_F_CTRL_MAC_ADDR, BIT64(VIRTIO_NET_F_CTRL_VQ) },
	{ VIRTIO_ID_NET, 2, BIT64(VIRTIO_NET_F_CTRL_VQ) },
	{ VIRTIO_ID_BLOCK, VIRTIO_BLK_F_CONFIG_WCE, BIT64(VIRTIO_BLK_F_FLUSH) },
};

static bool needs_apply(const struct needs *row, const struct kind_case *test)
{
	return !row->type || row->type == test->kind->virtio_id;
}

static uint32_t feature_word(struct virtio_driver *driver, uint32_t word)
{
	driver_common_out(driver, VIRTIO_PCI_COMMON_DFSELECT, 4, word);
	return (uint32_t)driver_common_in(driver, VIRTIO_PCI_COMMON_DF, 4);
}

/* Reserved bits, and those that are only for other transports or for legacy drivers. */
static void check_offered(struct kind_case *test)
{
	struct virtio_driver *driver = test->driver;
	uint64_t offered = driver->offered;

	assert_int_equal(offered & BIT64(30), 0);
	if (driver->params.legacy) {
		assert_true(offered & BIT64(VIRTIO_F_ANY_LAYOUT)); /* 6.3 */
		assert_int_equal(offered >> 32, 0);
		return;
	}
	assert_true(offered & BIT64(VIRTIO_F_VERSION_1)); /* 6.2 */
	assert_int_equal(offered & (BIT64(24) | BIT64(27)), 0);
	assert_int_equal(offered & (UINT64_C(0x3f) << 44 | BIT64(42)), 0);
	assert_int_equal(feature_word(driver, 4), 0);
	assert_int_equal(feature_word(driver, UINT32_MAX), 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(needs); i++)
		if (needs_apply(&needs[i], test) && offered & BIT64(needs[i].bit) &&
		    !(offered & needs[i].one_of))
			fail_msg("feature %u is offered without what it needs", needs[i].bit);
}

static const char *const option_sets[] = {
	NULL,
	"event_idx=off,indirect=off,packed=off",
	"in_order=on,access_platform=on,queue_size=64",
	"legacy=off,event_idx=off",
};

static void test_offered(void **state)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(option_sets); i++) {
		struct kind_case *test = *state;

		if (test->params.legacy && option_sets[i] && strstr(option_sets[i], "legacy=off"))
			continue;
		kind_case_open(state, NULL, option_sets[i]);
		check_offered(test);
		kind_case_close(state);
	}
}

/* Each optional feature is offered when its option says so, and not else. */
static void test_options_switch_features(void **state)
{
	static const struct {
		const char *option;
		uint64_t bits;
	} switches[] = {
		{ "event_idx", BIT64(VIRTIO_RING_F_EVENT_IDX) },
		{ "indirect", BIT64(VIRTIO_RING_F_INDIRECT_DESC) },
		{ "packed", BIT64(VIRTIO_F_RING_PACKED) },
		{ "in_order", BIT64(VIRTIO_F_IN_ORDER) },
		{ "access_platform",
		  BIT64(VIRTIO_F_ACCESS_PLATFORM) | BIT64(VIRTIO_F_ORDER_PLATFORM) },
	};

	for (unsigned int i = 0; i < 2 * ARRAY_SIZE(switches); i++) {
		struct kind_case *test = *state;
		uint64_t bits = switches[i / 2].bits;
		char option[40];

		if (test->kind->offloaded && bits == BIT64(VIRTIO_F_RING_PACKED))
			continue; /* the kernel has none: never offered */
		snprintf(option, sizeof(option), "%s=%s", switches[i / 2].option,
			 i % 2 ? "on" : "off");
		kind_case_open(state, NULL, option);
		assert_int_equal(test->driver->offered & bits, i % 2 ? (long long)bits : 0);
		kind_case_close(state);
	}
}

/* Begin again and accept exactly @features; does FEATURES_OK stay? */
static bool accepts(struct virtio_driver *driver, uint64_t features)
{
	driver_set_status(driver, 0);
	driver_set_status(driver, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	driver->interface->set_features(driver, features);
	driver_set_status(driver, VIRTIO_CONFIG_S_FEATURES_OK);
	return driver_status(driver) & VIRTIO_CONFIG_S_FEATURES_OK;
}

/* @features with all that they need of @offered. */
static uint64_t with_needs(const struct kind_case *test, uint64_t features, uint64_t offered)
{
	for (unsigned int round = 0; round < 3; round++)
		for (unsigned int i = 0; i < ARRAY_SIZE(needs); i++)
			if (needs_apply(&needs[i], test) && features & BIT64(needs[i].bit))
				features |= needs[i].one_of & offered;
	return features;
}

/* @features without @bit and all that needs it. */
static uint64_t without(const struct kind_case *test, uint64_t features, unsigned int bit)
{
	features &= ~BIT64(bit);
	for (unsigned int round = 0; round < 3; round++)
		for (unsigned int i = 0; i < ARRAY_SIZE(needs); i++)
			if (needs_apply(&needs[i], test) && !(features & needs[i].one_of))
				features &= ~BIT64(needs[i].bit);
	return features;
}

static void test_subsets_accepted(void **state)
{
	struct kind_case *test = kind_case_open(state, NULL, "in_order=on,access_platform=on");
	struct virtio_driver *driver = test->driver;
	const uint64_t version_1 = BIT64(VIRTIO_F_VERSION_1);
	uint64_t offered = driver->offered;

	assert_true(accepts(driver, version_1));
	for (unsigned int bit = 0; bit < 64; bit++) {
		if (!(offered & BIT64(bit)))
			continue;
		if (!accepts(driver, with_needs(test, BIT64(bit) | version_1, offered)))
			fail_msg("feature %u is offered, but not accepted", bit);
		if (bit != VIRTIO_F_VERSION_1 && !accepts(driver, without(test, offered, bit)))
			fail_msg("all but feature %u are not accepted", bit);
	}
	assert_true(accepts(driver, offered));
}

/* One bit too many, of all 128, and VERSION_1 missing: FEATURES_OK is refused, a reset helps. */
static void test_others_refused(void **state)
{
	struct kind_case *test = kind_case_open(state, NULL, NULL);
	struct virtio_driver *driver = test->driver;

	for (unsigned int bit = 0; bit < 128; bit++) {
		uint64_t low = bit < 64 ? BIT64(bit) : 0;

		if (feature_word(driver, bit / 32) & BIT32(bit % 32))
			continue;
		driver_set_status(driver, 0);
		driver_set_status(driver, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
		driver->interface->set_features(driver, driver->offered | low);
		driver_common_out(driver, VIRTIO_PCI_COMMON_GFSELECT, 4, bit / 32);
		if (bit >= 64)
			driver_common_out(driver, VIRTIO_PCI_COMMON_GF, 4, BIT32(bit % 32));
		driver_set_status(driver, VIRTIO_CONFIG_S_FEATURES_OK);
		if (driver_status(driver) & VIRTIO_CONFIG_S_FEATURES_OK)
			fail_msg("feature %u is accepted, though it was not offered", bit);
	}
	assert_false(accepts(driver, 0));
	assert_false(accepts(driver, driver->offered & ~BIT64(VIRTIO_F_VERSION_1)));
	driver_set_status(driver, 0);
	assert_true(driver_negotiate(driver, driver->offered));
	driver_start(driver);
	kind_request(test->kind, driver);
}

/* Once accepted, accepted again: after the device's resets and the VM's. */
static void test_renegotiation(void **state)
{
	struct kind_case *test = kind_case_run(state);
	uint64_t features = test->driver->accepted;

	for (unsigned int round = 0; round < 4; round++) {
		if (round % 2) {
			pci_reset_devices(test->machine->ctx);
			pci_function_enable(&test->driver->pci);
		}
		clause_comes_back(test);
		assert_int_equal(test->driver->accepted, features);
	}
}

/* ---- Reset (2.4) ---- */

/* At each step of initialisation and after it, twice: the status is 0 and the device silent. */
static void test_reset_at_any_step(void **state)
{
	struct kind_case *test = kind_case_open(state, NULL, NULL);
	struct virtio_driver *driver = test->driver;
	uint64_t offered = driver->offered;

	for (unsigned int step = 0; step < 5; step++) {
		struct kind_buffer buffer;

		driver_set_status(driver, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
		if (step >= 1)
			assert_true(driver_negotiate(driver, offered));
		if (step == 2)
			clause_queues(driver);
		if (step >= 3)
			driver_start(driver);
		if (step >= 4 && clause_add(test, &buffer, test))
			driver_kick(test->queue);
		for (unsigned int again = 0; again < 2; again++) {
			driver_set_status(driver, 0);
			assert_int_equal(driver_status(driver), 0);
			assert_int_equal(driver->interface->get_features(driver), offered);
		}
		clause_interrupted(driver);
		machine_poll(test->machine);
		assert_false(clause_interrupted(driver));
	}
}

/* ---- Configuration space (2.5) ---- */

static void test_config_before_features_ok(void **state)
{
	struct kind_case *test = kind_case_open(state, NULL, NULL);
	uint8_t before[CONFIG_BYTES_MAX], after[CONFIG_BYTES_MAX];
	struct virtio_driver *driver = test->driver;

	driver_set_status(driver, 0);
	clause_vectors(driver); /* legacy: the space is elsewhere without MSI-X */
	clause_config(test, before);
	assert_memory_equal(before, clause_device(test)->config, clause_config_len(test));
	for (unsigned int size = 2; size <= 4; size *= 2)
		for (uint32_t i = 0; i + size <= clause_config_len(test); i += size)
			assert_int_equal(driver_config(driver, i, size),
					 bytes_get(before + i, size));
	driver_set_status(driver, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	clause_config(test, after);
	assert_memory_equal(before, after, sizeof(before));
}

/* ---- Reset of one queue (2.6.1) ---- */

static void queue_reset(struct kind_case *test)
{
	struct virtio_driver *driver = test->driver;

	driver_common_out(driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, test->queue->index);
	driver_common_out(driver, COMMON_QUEUE_RESET, 2, 1);
	assert_int_equal(driver_common_in(driver, COMMON_QUEUE_RESET, 2), 0);
	assert_int_equal(driver_common_in(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	for (unsigned int area = VIRTIO_PCI_COMMON_Q_DESCLO; area <= VIRTIO_PCI_COMMON_Q_USEDLO;
	     area += 8)
		assert_int_equal(driver_common_in(driver, area, 8), 0);
}

/*
 * Under traffic, with a request in flight: afterwards the old ring is not looked at, and the queue
 * begins from the start, of another size and elsewhere.
 */
static void test_queue_reset(void **state)
{
	struct kind_case *test = kind_case_run(state);
	uint16_t size_max = test->queue->ring.size;

	assert_true(driver_has(test->driver, VIRTIO_F_RING_RESET));
	for (unsigned int round = 0; round < 6; round++) {
		uint16_t size = round % 2 ? size_max : MAX(size_max / 2, 2);
		struct kind_buffer buffer;
		bool used;

		for (unsigned int i = 0; i < round + 3; i++)
			kind_request(test->kind, test->driver);
		assert_true(clause_add(test, &buffer, test));
		driver_kick(test->queue);
		queue_reset(test);
		assert_int_equal(driver_common_in(test->driver, VIRTIO_PCI_COMMON_Q_SIZE, 2),
				 size_max);
		used = driver_pending(test->queue);
		driver_queue_interrupt(test->queue);
		test->driver->interface->notify(test->driver, test->queue);
		machine_poll(test->machine);
		assert_int_equal(driver_pending(test->queue), used);
		assert_true(used || kind_buffer_untouched(&buffer, test->machine));
		assert_false(driver_queue_interrupt(test->queue));

		driver_queue_setup(test->driver, test->queue->index, size);
		assert_int_equal(driver_common_in(test->driver, COMMON_QUEUE_RESET, 2), 0);
		assert_int_equal(driver_common_in(test->driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
		for (unsigned int i = 0; i < 2U * size; i++)
			kind_request(test->kind, test->driver);
	}
	assert_false(clause_broken(test->driver));
}

int main(void)
{
	static const struct clause_test tests[] = {
		{ "silent before DRIVER_OK", test_silent_before_driver_ok, KIND_AXIS_ALL,
		  for_modern },
		{ "needs reset", test_needs_reset, KIND_AXIS_ALL, NULL },
		{ "error before DRIVER_OK", test_error_before_driver_ok, KIND_AXIS_ALL,
		  for_modern },
		{ "offered features", test_offered, KIND_AXIS_INTERFACE, NULL },
		{ "options switch features", test_options_switch_features, KIND_AXIS_NONE, NULL },
		{ "subsets of features", test_subsets_accepted, KIND_AXIS_NONE, NULL },
		{ "features not offered", test_others_refused, KIND_AXIS_NONE, NULL },
		{ "renegotiation", test_renegotiation, KIND_AXIS_ALL, NULL },
		{ "reset at any step", test_reset_at_any_step, KIND_AXIS_ALL, NULL },
		{ "config before FEATURES_OK", test_config_before_features_ok, KIND_AXIS_INTERFACE,
		  NULL },
		{ "queue reset", test_queue_reset, KIND_AXIS_ALL, for_modern },
	};

	return clause_tests_run(tests, ARRAY_SIZE(tests), "status and features", NULL);
}
