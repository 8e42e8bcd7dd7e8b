/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-scsi (virtio 1.4, 5.6): options, configuration space, and when the kernel runs it. Its
 * kernel is a model (vhost_model.h).
 */
#include <errno.h>
#include <linux/virtio_scsi.h>

#include "vhost_bench.h"

#define FIELD(member) offsetof(struct virtio_scsi_config, member)

static struct bench bench_open(const char *options)
{
	struct bench bench = { .machine = machine_create(NULL) };
	char spec[128];

	bench.model = vhost_model_create(VHOST_MODEL_SCSI, 0);
	snprintf(spec, sizeof(spec), "%d,virtio-scsi,wwpn=" VHOST_MODEL_WWPN ",vhostfd=%d%s",
		 KIND_SLOT, bench.model->fd, options);
	bench.dev = machine_add(bench.machine, spec);
	machine_log_clear(bench.machine);
	return bench;
}

static struct bench bench_run(const char *options)
{
	struct bench bench = bench_open(options);

	bench.driver = driver_run(bench.machine, KIND_SLOT, &usual, 0);
	return bench;
}

/* ---- Options ---- */

static void test_bad_options(void **state)
{
	static const struct {
		const char *options, *line;
	} bad[] = {
		{ "tag=1", "option wwpn is missing" },
		{ "wwpn=iqn.2003-01.org.linux", "not naa. and 16 hexadecimal digits" },
		{ "wwpn=naa.60014", "not naa. and 16 hexadecimal digits" },
		{ "wwpn=naa.600140554cf3a18g", "not naa. and 16 hexadecimal digits" },
		{ "wwpn=naa.600140554cf3a18e0", "not naa. and 16 hexadecimal digits" },
		{ "wwpn=naa.600140554cf3a18f", "the host has no such vhost target" },
		{ "wwpn=" VHOST_MODEL_WWPN ",queues=0", "option queues=0 is not valid" },
		{ "wwpn=" VHOST_MODEL_WWPN ",queues=127", "option queues=127 is not valid" },
		{ "wwpn=" VHOST_MODEL_WWPN ",tag=65536", "option tag=65536 is not valid" },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		struct vhost_model *model = vhost_model_create(VHOST_MODEL_SCSI, 0);

		expect_refused(model, "virtio-scsi", bad[i].options, 0, bad[i].line);
	}
}

static void refused_by_kernel(unsigned long request, int error, const char *line)
{
	struct vhost_model *model = vhost_model_create(VHOST_MODEL_SCSI, 0);

	model->fail_request = request;
	model->fail_error = error;
	expect_refused(model, "virtio-scsi", "wwpn=" VHOST_MODEL_WWPN, 0, line);
}

static void test_refused_by_kernel(void **state)
{
	refused_by_kernel(VHOST_SCSI_GET_ABI_VERSION, ENOTTY, "is it /dev/vhost-scsi?");
	refused_by_kernel(VHOST_SET_OWNER, EBUSY, "VHOST_SET_OWNER: Device or resource busy");
	refused_by_kernel(VHOST_SCSI_SET_ENDPOINT, EEXIST, "another device has it");
	refused_by_kernel(VHOST_SCSI_SET_ENDPOINT, EIO, "the kernel does not take it");
}

/* ---- Configuration space (5.6.4) ---- */

static uint32_t field(struct bench *bench, uint32_t offset, unsigned int size)
{
	return (uint32_t)driver_config(bench->driver, offset, size);
}

static void test_config(void **state)
{
	struct bench bench = bench_run(",queues=3");

	assert_int_equal(bench.driver->queue_count, 5);
	assert_int_equal(field(&bench, FIELD(num_queues), 4), 3);
	assert_int_equal(field(&bench, FIELD(seg_max), 4), 126);
	assert_int_equal(field(&bench, FIELD(max_sectors), 4), 0xffff);
	assert_int_equal(field(&bench, FIELD(cmd_per_lun), 4), 128);
	assert_int_equal(field(&bench, FIELD(event_info_size), 4), 16);
	assert_int_equal(field(&bench, FIELD(sense_size), 4), 96);
	assert_int_equal(field(&bench, FIELD(cdb_size), 4), 32);
	assert_int_equal(field(&bench, FIELD(max_channel), 2), 0);
	assert_int_equal(field(&bench, FIELD(max_target), 2), 255);
	assert_int_equal(field(&bench, FIELD(max_lun), 4), 16383);
	/* HOTPLUG, which the kernel has; not INOUT, CHANGE, T10_PI. */
	assert_int_equal(bench.driver->offered & 0xf, BIT64(VIRTIO_SCSI_F_HOTPLUG));
	bench_close(&bench);
}

static void test_config_small_queue(void **state)
{
	struct bench bench = bench_run(",queue_size=16");

	assert_int_equal(field(&bench, FIELD(seg_max), 4), 14);
	bench_close(&bench);
}

/* The driver may write two fields, in any width, and no other; a reset brings them back. */
static void test_config_writes(void **state)
{
	struct bench bench = bench_open("");
	struct virtio_scsi_config before, *config;

	bench.driver = driver_open(bench.machine, KIND_SLOT, &usual);
	config = (struct virtio_scsi_config *)device_of(&bench)->config;
	before = *config;
	for (uint32_t i = 0; i < sizeof(before); i++)
		if (i < FIELD(sense_size) || i >= FIELD(max_channel))
			driver_set_config(bench.driver, i, 1, 0x55);
	driver_set_config(bench.driver, FIELD(event_info_size) + 2, 4, 0x55555555);
	assert_memory_equal(config, &before, sizeof(before));
	driver_set_config(bench.driver, FIELD(sense_size), 4, 200);
	driver_set_config(bench.driver, FIELD(cdb_size), 1, 64);
	assert_int_equal(field(&bench, FIELD(sense_size), 4), 200);
	assert_int_equal(field(&bench, FIELD(cdb_size), 4), 64);
	driver_set_status(bench.driver, 0);
	assert_memory_equal(config, &before, sizeof(before));
	bench_close(&bench);
}

/* The kernel has no other sizes: a driver that wants them gets no device, and is told. */
static void test_config_sizes(void **state)
{
	static const struct {
		uint32_t offset, value;
		const char *line;
	} cases[] = {
		{ FIELD(cdb_size), 64, "cdb_size is not 32" },
		{ FIELD(sense_size), 252, "sense_size is not 96" },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		struct bench bench = bench_open("");

		bench.driver = driver_open(bench.machine, KIND_SLOT, &usual);
		assert_true(driver_negotiate(bench.driver, bench.driver->offered));
		driver_set_config(bench.driver, cases[i].offset, 4, cases[i].value);
		driver_start(bench.driver);
		assert_true(driver_status(bench.driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
		assert_logged(bench.machine, cases[i].line);
		assert_false(bench.model->has_endpoint);
		driver_restart(bench.driver);
		kind_request(kind_with_id(VIRTIO_ID_SCSI), bench.driver);
		driver_set_config(bench.driver, cases[i].offset, 4, cases[i].value);
		assert_int_not_equal(field(&bench, cases[i].offset, 4), cases[i].value);
		kind_request(kind_with_id(VIRTIO_ID_SCSI), bench.driver);
		bench_close(&bench);
	}
}

/* ---- When the kernel runs it ---- */

static void test_running(void **state)
{
	struct bench bench = bench_open(",queues=2,tag=3");
	struct virtio_common *vc = device_of(&bench);

	assert_false(bench.model->has_endpoint);
	bench.driver = driver_run(bench.machine, KIND_SLOT, &usual, 0);
	assert_true(bench.model->has_endpoint);
	assert_string_equal(bench.model->endpoint.vhost_wwpn, VHOST_MODEL_WWPN);
	assert_int_equal(bench.model->endpoint.vhost_tpgt, 3);
	for (unsigned int i = 0; i < vc->nvq; i++)
		assert_true(vc->vqs[i].offloaded);
	kind_request(kind_with_id(VIRTIO_ID_SCSI), bench.driver);
	pci_quiesce_devices(bench.machine->ctx);
	assert_false(bench.model->has_endpoint);
	assert_int_equal(vc->vqs[2].last_avail, 1);
	pci_resume_devices(bench.machine->ctx);
	assert_true(bench.model->has_endpoint);
	kind_request(kind_with_id(VIRTIO_ID_SCSI), bench.driver);
	driver_set_status(bench.driver, 0);
	assert_false(bench.model->has_endpoint);
	driver_restart(bench.driver);
	kind_request(kind_with_id(VIRTIO_ID_SCSI), bench.driver);
	assert_int_equal(vhost_model_calls(bench.model, VHOST_SET_OWNER), 1);
	bench_close(&bench);
}

/* Control queue and each request queue are answered by whom they were handed to. */
static void test_queues(void **state)
{
	struct bench bench = bench_run(",queues=4");
	static const struct virtio_scsi_ctrl_tmf_req tmf = { .lun = { 1, 1, 0x40 } };
	static const struct virtio_scsi_cmd_req command = { .lun = { 1, 1, 0x40 } };
	struct virtio_scsi_cmd_resp response;

	assert_int_equal(driver_request(driver_queue(bench.driver, 0), &driver_layouts[0], &tmf,
					sizeof(tmf), &response, 1),
			 1);
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(driver_request(driver_queue(bench.driver, 2 + i),
						&driver_layouts[0], &command, sizeof(command),
						&response, sizeof(response)),
				 sizeof(response));
	bench_close(&bench);
}

/* A driver may set up fewer request queues than there are, and others later. */
static void test_queue_later(void **state)
{
	struct bench bench = bench_open(",queues=2");
	struct virtio_common *vc = device_of(&bench);

	bench.driver = driver_open(bench.machine, KIND_SLOT, &usual);
	assert_true(driver_negotiate(bench.driver, bench.driver->offered));
	for (uint16_t i = 0; i < 3; i++)
		driver_queue_setup(bench.driver, i, 0);
	driver_set_status(bench.driver, VIRTIO_CONFIG_S_DRIVER_OK);
	assert_true(vc->vqs[2].offloaded);
	assert_false(vc->vqs[3].offloaded);
	driver_queue_setup(bench.driver, 3, 0);
	machine_poll(bench.machine);
	assert_true(vc->vqs[2].offloaded && vc->vqs[3].offloaded);
	assert_true(bench.model->has_endpoint);
	bench_close(&bench);
}

/* The next driver sets up one queue: the kernel has forgotten where the others were. */
static void test_old_rings(void **state)
{
	struct bench bench = bench_run(",queues=2");
	const uint8_t *used[4];

	kind_request(kind_with_id(VIRTIO_ID_SCSI), bench.driver);
	bench_next_driver(&bench, used, ARRAY_SIZE(used));
	driver_queue_setup(bench.driver, 2, 0);
	driver_set_status(bench.driver, VIRTIO_CONFIG_S_DRIVER_OK);
	machine_poll(bench.machine);
	assert_true(device_of(&bench)->vqs[2].offloaded);
	assert_true(bench.model->has_endpoint);
	for (unsigned int i = 0; i < ARRAY_SIZE(used); i++)
		assert_used_untouched(used[i]);
	bench_close(&bench);
}

static void test_offload(void **state)
{
	struct bench bench = bench_run("");
	struct virtio_common *vc = device_of(&bench);

	assert_int_equal(vc->ops->offload(vc, true), 0);
	assert_int_equal(vc->ops->offload(vc, false), -EOPNOTSUPP);
	assert_logged(bench.machine, "vhost off: it runs in the kernel only");
	assert_true(bench.model->has_endpoint);
	bench_close(&bench);
}

/* Events that were missed are still missed where the state is loaded, and not after a reset. */
static void test_events_missed(void **state)
{
	struct bench bench = bench_run(""), other = bench_open("");
	struct lab_state *saved;

	bench.model->events_missed = 1;
	pci_quiesce_devices(bench.machine->ctx);
	saved = lab_take(bench.machine, bench.dev);
	pci_quiesce_devices(other.machine->ctx);
	assert_int_equal(other.model->events_missed, 0);
	assert_int_equal(lab_load(other.machine, other.dev, saved->bytes, saved->len), 0);
	assert_int_equal(other.model->events_missed, 1);
	pci_reset_devices(other.machine->ctx);
	assert_int_equal(other.model->events_missed, 0);
	lab_state_free(saved);
	other.driver = driver_open(other.machine, KIND_SLOT, &usual);
	bench_close(&other);
	bench_close(&bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_options),   cmocka_unit_test(test_refused_by_kernel),
		cmocka_unit_test(test_config),	      cmocka_unit_test(test_config_small_queue),
		cmocka_unit_test(test_config_writes), cmocka_unit_test(test_config_sizes),
		cmocka_unit_test(test_running),	      cmocka_unit_test(test_queues),
		cmocka_unit_test(test_queue_later),   cmocka_unit_test(test_offload),
		cmocka_unit_test(test_old_rings),     cmocka_unit_test(test_events_missed),
	};

	return cmocka_run_group_tests_name("scsi", tests, NULL, NULL);
}
