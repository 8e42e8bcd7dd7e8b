/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-vsock (virtio 1.4, 5.10): options, configuration space, the event queue, and when the
 * kernel runs it. Its kernel is a model (vhost_model.h).
 */
#include <linux/virtio_vsock.h>
#include <unistd.h>

#include "vhost_bench.h"

#define QUEUE_EVENT 2
#define EVENT_UNSENT 0xa5a5a5a5

/* A device with the cid @cid, on a host of its own. */
static struct bench bench_open(unsigned int cid)
{
	static unsigned int hosts = 1000;
	struct bench bench = { .machine = machine_create(NULL) };
	char spec[128];

	bench.model = vhost_model_create(VHOST_MODEL_VSOCK, ++hosts);
	snprintf(spec, sizeof(spec), "%d,virtio-vsock,cid=%u,vhostfd=%d", KIND_SLOT, cid,
		 bench.model->fd);
	bench.dev = machine_add(bench.machine, spec);
	machine_log_clear(bench.machine);
	return bench;
}

static struct bench bench_run(void)
{
	struct bench bench = bench_open(KIND_VSOCK_CID);

	bench.driver = driver_run(bench.machine, KIND_SLOT, &usual, 0);
	return bench;
}

/* ---- Options ---- */

static const struct {
	const char *options, *line;
	int fd; /* 0: the model's */
} bad_options[] = {
	{ "queue_size=64", "option cid is missing", 0 },
	{ "cid=2", "option cid=2 is not valid", 0 },
	{ "cid=0xffffffff", "option cid=0xffffffff is not valid", 0 },
	{ "cid=0x100000003", "option cid=0x100000003 is not valid", 0 },
	{ "cid=7", "vhostfd=999: Bad file descriptor (hand over an open descriptor)", 999 },
	{ "cid=7,modern=off", "this device type has no legacy interface", 0 },
};

static void test_bad_options(void **state)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(bad_options); i++) {
		struct vhost_model *model = vhost_model_create(VHOST_MODEL_VSOCK, 0);

		expect_refused(model, "virtio-vsock", bad_options[i].options, bad_options[i].fd,
			       bad_options[i].line);
	}
}

/* What the kernel says at the start ends it with one line. */
static void refused_by_kernel(unsigned long request, int error, const char *line)
{
	struct vhost_model *model = vhost_model_create(VHOST_MODEL_VSOCK, 0);

	model->fail_request = request;
	model->fail_error = error;
	expect_refused(model, "virtio-vsock", "cid=7", 0, line);
}

static void test_refused_by_kernel(void **state)
{
	refused_by_kernel(VHOST_VSOCK_SET_GUEST_CID, EADDRINUSE,
			  "cid=7: another VM has it (give each VM its own)");
	refused_by_kernel(VHOST_VSOCK_SET_GUEST_CID, EINVAL,
			  "cid=7: the kernel does not take it: Invalid argument");
	refused_by_kernel(VHOST_GET_FEATURES, ENOTTY, "cannot set up vhost: Inappropriate ioctl");
}

/* Two devices of one host do not share a cid; when the first has gone the second may have it. */
static void test_cid_taken(void **state)
{
	struct machine *machine = machine_create(NULL);
	struct vhost_model *first = vhost_model_create(VHOST_MODEL_VSOCK, 0);
	struct vhost_model *second = vhost_model_create(VHOST_MODEL_VSOCK, 0);
	char spec[128];

	snprintf(spec, sizeof(spec), "4,virtio-vsock,cid=7,vhostfd=%d", first->fd);
	machine_add(machine, spec);
	machine_log_clear(machine);
	snprintf(spec, sizeof(spec), "5,virtio-vsock,cid=7,vhostfd=%d", second->fd);
	assert_null(pci_add_device(machine->ctx, spec));
	assert_logged(machine, "cid=7: another VM has it");
	machine_destroy(machine);
	vhost_model_release(first);
	vhost_model_release(second);
}

/* ---- Identity ---- */

static void test_config(void **state)
{
	struct bench bench = bench_run();

	assert_int_equal(bench.driver->queue_count, 3);
	assert_int_equal(driver_config(bench.driver, 0, 4), KIND_VSOCK_CID);
	assert_int_equal(driver_config(bench.driver, 4, 4), 0);
	driver_set_config(bench.driver, 0, 4, 9);
	assert_int_equal(driver_config(bench.driver, 0, 4), KIND_VSOCK_CID);
	assert_int_equal(bench.model->cid, KIND_VSOCK_CID);
	/* STREAM and SEQPACKET; NO_IMPLIED_STREAM vhost cannot keep (5.10.3). */
	assert_int_equal(bench.driver->offered & 7, 3);
	/* The kernel hears of its own bits and the ring's only. */
	assert_int_equal(bench.model->acked, BIT64(VIRTIO_VSOCK_F_SEQPACKET) |
						     BIT64(VIRTIO_F_VERSION_1) |
						     BIT64(VIRTIO_RING_F_EVENT_IDX) |
						     BIT64(VIRTIO_RING_F_INDIRECT_DESC));
	bench_close(&bench);
}

/* A kernel of before 5.14 has no SEQPACKET. */
static void test_old_kernel(void **state)
{
	struct machine *machine = machine_create(NULL);
	struct vhost_model *model = vhost_model_create(VHOST_MODEL_VSOCK, 0);
	struct virtio_driver *driver;
	char spec[128];

	model->features &= ~BIT64(VIRTIO_VSOCK_F_SEQPACKET);
	snprintf(spec, sizeof(spec), "4,virtio-vsock,cid=7,vhostfd=%d", model->fd);
	machine_add(machine, spec);
	driver = driver_run(machine, 4, &usual, 0);
	assert_int_equal(driver->offered & 7, 1);
	assert_true(model->running);
	driver_close(driver);
	machine_destroy(machine);
	vhost_model_release(model);
}

/* ---- When the kernel runs it ---- */

static void test_running(void **state)
{
	struct bench bench = bench_open(KIND_VSOCK_CID);
	struct virtio_common *vc = device_of(&bench);

	assert_false(bench.model->running);
	bench.driver = driver_open(bench.machine, KIND_SLOT, &usual);
	assert_true(driver_negotiate(bench.driver, bench.driver->offered));
	assert_false(bench.model->running);
	driver_start(bench.driver);
	assert_true(bench.model->running);
	assert_true(vc->vqs[0].offloaded && vc->vqs[1].offloaded);
	assert_false(vc->vqs[QUEUE_EVENT].offloaded);
	kind_request(kind_with_id(VIRTIO_ID_VSOCK), bench.driver);

	pci_quiesce_devices(bench.machine->ctx);
	assert_false(bench.model->running);
	assert_int_equal(vc->vqs[1].last_avail, 1);
	assert_int_equal(vc->vqs[1].used_idx, 1);
	pci_resume_devices(bench.machine->ctx);
	assert_true(bench.model->running);
	kind_request(kind_with_id(VIRTIO_ID_VSOCK), bench.driver);

	driver_set_status(bench.driver, 0);
	assert_false(bench.model->running);
	driver_restart(bench.driver);
	assert_true(bench.model->running);
	kind_request(kind_with_id(VIRTIO_ID_VSOCK), bench.driver);
	assert_int_equal(vhost_model_calls(bench.model, VHOST_SET_OWNER), 1);
	bench_close(&bench);
}

/* The kernel does not start it: the driver is told, and there is one line. */
static void test_start_fails(void **state)
{
	static const unsigned long requests[] = { VHOST_SET_OWNER,	VHOST_SET_FEATURES,
						  VHOST_SET_MEM_TABLE,	VHOST_SET_VRING_KICK,
						  VHOST_SET_VRING_ADDR, VHOST_VSOCK_SET_RUNNING };

	for (unsigned int i = 0; i < ARRAY_SIZE(requests); i++) {
		struct bench bench = bench_open(KIND_VSOCK_CID);

		bench.model->fail_request = requests[i];
		bench.model->fail_error = ENOMEM;
		bench.driver = driver_run(bench.machine, KIND_SLOT, &usual, 0);
		assert_true(driver_status(bench.driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
		assert_logged(bench.machine, "cannot be run by the kernel");
		assert_false(device_of(&bench)->vqs[0].offloaded);
		machine_poll(bench.machine);
		assert_false(bench.model->running);
		bench.model->fail_error = 0;
		driver_restart(bench.driver);
		kind_request(kind_with_id(VIRTIO_ID_VSOCK), bench.driver);
		bench_close(&bench);
	}
}

/* This kernel runs both rings or none: one that is reset alone stops it, until that is back. */
static void test_queue_reset(void **state)
{
	struct bench bench = bench_run();
	struct virtio_common *vc = device_of(&bench);

	for (uint16_t i = 0; i < 4; i++) {
		uint16_t queue = i % 2;
		const uint8_t *used;

		kind_request(kind_with_id(VIRTIO_ID_VSOCK), bench.driver);
		driver_common_out(bench.driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
		driver_common_out(bench.driver, 0x3a, 2, 1); /* queue_reset */
		used = bench_used_given_up(&bench, queue);
		machine_poll(bench.machine);
		assert_used_untouched(used);
		assert_false(bench.model->running);
		assert_false(vc->vqs[0].offloaded || vc->vqs[1].offloaded);
		driver_queue_setup(bench.driver, queue, 0);
		machine_poll(bench.machine);
		assert_true(bench.model->running);
		assert_true(vc->vqs[0].offloaded && vc->vqs[1].offloaded);
		kind_request(kind_with_id(VIRTIO_ID_VSOCK), bench.driver);
		assert_used_untouched(used);
	}
	assert_int_equal(driver_status(bench.driver) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
	bench_close(&bench);
}

/* A driver that sets up fewer queues than the kernel runs has no device, and does no harm. */
static void test_queue_missing(void **state)
{
	struct bench bench = bench_run();
	const uint8_t *used[2];

	bench_next_driver(&bench, used, ARRAY_SIZE(used));
	driver_queue_setup(bench.driver, 1, 0);
	driver_set_status(bench.driver, VIRTIO_CONFIG_S_DRIVER_OK);
	machine_poll(bench.machine);
	assert_false(bench.model->running);
	driver_queue_setup(bench.driver, 0, 0);
	machine_poll(bench.machine);
	assert_true(bench.model->running);
	for (unsigned int i = 0; i < 2; i++)
		assert_used_untouched(used[i]);
	bench_close(&bench);
}

static void test_offload(void **state)
{
	struct bench bench = bench_run();
	struct virtio_common *vc = device_of(&bench);

	machine_log_clear(bench.machine);
	assert_int_equal(vc->ops->offload(vc, true), 0);
	assert_int_equal(vc->ops->offload(vc, false), -EOPNOTSUPP);
	assert_int_equal(bench.machine->captured.count, 1);
	assert_logged(bench.machine,
		      "vhost off: it runs in the kernel only: the host's sockets are there");
	assert_true(bench.model->running);
	bench_close(&bench);
}

/* ---- The event queue (5.10.6.7) ---- */

static uint64_t event_buffer(struct bench *bench, uint32_t len)
{
	uint64_t gpa = guest_alloc(bench->machine, 16, 16);
	const struct segment segment = { gpa, len };
	uint32_t unsent = EVENT_UNSENT;

	memcpy(guest_ptr(bench->machine, gpa, 4), &unsent, 4);
	assert_int_equal(
		driver_add_buf(driver_queue(bench->driver, QUEUE_EVENT), &segment, 0, 1, bench), 0);
	driver_kick(driver_queue(bench->driver, QUEUE_EVENT));
	machine_poll(bench->machine);
	return gpa;
}

static bool event_came(struct bench *bench)
{
	uint32_t len;

	if (!driver_get_buf(driver_queue(bench->driver, QUEUE_EVENT), &len))
		return false;
	assert_int_equal(len, sizeof(struct virtio_vsock_event));
	return true;
}

/* The device goes on in another machine, whose host has the cid @cid for it. */
static void bench_move(struct bench *bench, unsigned int cid)
{
	struct bench new = bench_open(cid);
	const struct guest_memory_region *from = bench->machine->ctx->memory.regions;
	struct lab_state *state;

	pci_quiesce_devices(bench->machine->ctx);
	pci_quiesce_devices(new.machine->ctx);
	state = lab_take(bench->machine, bench->dev);
	memcpy(new.machine->ctx->memory.regions[0].host, from->host, from->size);
	assert_int_equal(lab_load(new.machine, new.dev, state->bytes, state->len), 0);
	lab_state_free(state);
	new.driver = bench->driver;
	new.machine->heap_next = bench->machine->heap_next;
	lab_driver_move(new.driver, new.machine);
	bench_end(bench);
	*bench = new;
	pci_resume_devices(bench->machine->ctx);
	machine_poll(bench->machine);
}

static void test_no_event(void **state)
{
	struct bench bench = bench_run();
	uint64_t gpa = event_buffer(&bench, 4);

	pci_quiesce_devices(bench.machine->ctx);
	pci_resume_devices(bench.machine->ctx);
	machine_poll(bench.machine);
	assert_false(event_came(&bench));
	assert_int_equal(*(uint32_t *)guest_ptr(bench.machine, gpa, 4), EVENT_UNSENT);
	bench_close(&bench);
}

/* With a buffer there, the driver hears at once that its connections are gone; once. */
static void test_event(void **state)
{
	struct bench bench = bench_run();
	uint64_t gpa = event_buffer(&bench, 4);
	uint64_t second = event_buffer(&bench, 4);

	driver_queue_interrupt(driver_queue(bench.driver, QUEUE_EVENT));
	bench_move(&bench, KIND_VSOCK_CID);
	assert_true(event_came(&bench));
	assert_int_equal(*(uint32_t *)guest_ptr(bench.machine, gpa, 4),
			 VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
	assert_int_equal(inproc_msi_count(bench.machine->ctx,
					  pci_msix_data(&bench.driver->pci, QUEUE_EVENT + 1)),
			 1);
	assert_false(event_came(&bench));
	assert_int_equal(*(uint32_t *)guest_ptr(bench.machine, second, 4), EVENT_UNSENT);
	assert_true(bench.model->running);
	kind_request(kind_with_id(VIRTIO_ID_VSOCK), bench.driver);
	bench_close(&bench);
}

/* Without one it is kept, also over another move, until there is; in its own size only. */
static void test_event_kept(void **state)
{
	struct bench bench = bench_run();

	bench_move(&bench, KIND_VSOCK_CID);
	bench_move(&bench, KIND_VSOCK_CID);
	assert_false(event_came(&bench));
	event_buffer(&bench, 16);
	assert_true(event_came(&bench));
	event_buffer(&bench, 16);
	assert_false(event_came(&bench));
	bench_close(&bench);
}

/* A new driver has no connections to lose. */
static void test_event_forgotten(void **state)
{
	struct bench bench = bench_run();

	bench_move(&bench, KIND_VSOCK_CID);
	driver_restart(bench.driver);
	event_buffer(&bench, 4);
	assert_false(event_came(&bench));
	bench_close(&bench);
}

static void test_event_buffer_too_small(void **state)
{
	struct bench bench = bench_run();

	bench_move(&bench, KIND_VSOCK_CID);
	event_buffer(&bench, 3);
	assert_true(driver_status(bench.driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_logged(bench.machine, "a buffer of 3 bytes is too small for an event");
	assert_false(bench.model->running);
	driver_restart(bench.driver);
	kind_request(kind_with_id(VIRTIO_ID_VSOCK), bench.driver);
	bench_close(&bench);
}

/* The other host has another cid for the guest: the driver finds it where it reads it again. */
static void test_cid_changes(void **state)
{
	struct bench bench = bench_run();

	bench_move(&bench, 77);
	assert_int_equal(driver_config(bench.driver, 0, 4), 77);
	event_buffer(&bench, 4);
	assert_true(event_came(&bench));
	bench_close(&bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_options),
		cmocka_unit_test(test_refused_by_kernel),
		cmocka_unit_test(test_cid_taken),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_old_kernel),
		cmocka_unit_test(test_running),
		cmocka_unit_test(test_start_fails),
		cmocka_unit_test(test_queue_reset),
		cmocka_unit_test(test_queue_missing),
		cmocka_unit_test(test_offload),
		cmocka_unit_test(test_no_event),
		cmocka_unit_test(test_event),
		cmocka_unit_test(test_event_kept),
		cmocka_unit_test(test_event_forgotten),
		cmocka_unit_test(test_event_buffer_too_small),
		cmocka_unit_test(test_cid_changes),
	};

	return cmocka_run_group_tests_name("vsock", tests, NULL, NULL);
}
