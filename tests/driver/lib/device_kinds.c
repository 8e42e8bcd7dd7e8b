/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The kinds of virtio device that there are, for tests over all of them.
 */
#include "device_kinds.h"

#include <linux/virtio_blk.h>
#include <linux/virtio_net.h>
#include <linux/virtio_scsi.h>
#include <linux/virtio_vsock.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "../../unit/tap_lab.h"
#include "vhost_model.h"
#include "vhost_user_backend.h"
#include "vhost_user_client.h"
#include "virtio_transport.h"

#define BLK_SIZE MIB(1)

static uint32_t fill_nothing(const struct virtio_driver *driver, uint8_t *out)
{
	return 0;
}

/* ---- virtio-blk: GET_ID ---- */

static uint32_t blk_fill(const struct virtio_driver *driver, uint8_t *out)
{
	struct virtio_blk_outhdr header = { .type = VIRTIO_BLK_T_GET_ID };

	memcpy(out, &header, sizeof(header));
	return sizeof(header);
}

static bool blk_make(struct kind_bench *bench, char *options, size_t size)
{
	int fd;

	snprintf(bench->path, sizeof(bench->path), "/tmp/tenon-test-XXXXXX");
	fd = mkstemp(bench->path);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, BLK_SIZE), 0);
	close(fd);
	snprintf(options, size, "%s", bench->path);
	return true;
}

static void blk_unmake(struct kind_bench *bench)
{
	unlink(bench->path);
}

/* ---- virtio-net: a frame is sent ---- */

static uint32_t net_fill(const struct virtio_driver *driver, uint8_t *out)
{
	static const uint8_t frame[60] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2,
					   0,	 0,    0,    0,	   1,	 0x88, 0xb5 };
	bool long_header = !driver->params.legacy || driver_has(driver, VIRTIO_NET_F_MRG_RXBUF);
	uint32_t header =
		long_header ? sizeof(struct virtio_net_hdr_v1) : sizeof(struct virtio_net_hdr);

	memset(out, 0, header);
	memcpy(out + header, frame, sizeof(frame));
	return header + (uint32_t)sizeof(frame);
}

static bool net_make(struct kind_bench *bench, char *options, size_t size)
{
	if (!lab_enter())
		return false;
	snprintf(options, size, "tap=tenon-test");
	return true;
}

/* ---- virtio-console: a line is sent ---- */

static uint32_t console_fill(const struct virtio_driver *driver, uint8_t *out)
{
	memcpy(out, "hello\r\n", 7);
	return 7;
}

static bool console_make(struct kind_bench *bench, char *options, size_t size)
{
	snprintf(options, size, "null");
	return true;
}

/* ---- virtio-vsock: a packet is sent; virtio-scsi: TEST UNIT READY. The kernel is a model (vhost_model.h). ---- */

static uint32_t vsock_fill(const struct virtio_driver *driver, uint8_t *out)
{
	struct virtio_vsock_hdr header = {
		.src_cid = KIND_VSOCK_CID,
		.dst_cid = 2,
		.src_port = 1,
		.dst_port = 1,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = VIRTIO_VSOCK_OP_RST,
	};

	memcpy(out, &header, sizeof(header));
	return sizeof(header);
}

static bool vsock_make(struct kind_bench *bench, char *options, size_t size)
{
	snprintf(options, size, "cid=%u", KIND_VSOCK_CID);
	return true;
}

static uint32_t scsi_fill(const struct virtio_driver *driver, uint8_t *out)
{
	struct virtio_scsi_cmd_req request = { .lun = { 1, 1, 0x40 } };

	memcpy(out, &request, sizeof(request));
	return sizeof(request);
}

static bool scsi_make(struct kind_bench *bench, char *options, size_t size)
{
	snprintf(options, size, "wwpn=" VHOST_MODEL_WWPN);
	return true;
}

/* ---- The table ---- */

static const struct device_kind kinds[] = {
	{ .name = "virtio-rng",
	  .virtio_id = VIRTIO_ID_RNG,
	  .transitional_id = 0x1005,
	  .pci_class = 0x00ff,
	  .queue = 0,
	  .fill = fill_nothing,
	  .in = 64,
	  .used = 64 },
	{ .name = "virtio-blk",
	  .virtio_id = VIRTIO_ID_BLOCK,
	  .transitional_id = 0x1001,
	  .pci_class = 0x0100,
	  .queue = 0,
	  .fill = blk_fill,
	  .in = VIRTIO_BLK_ID_BYTES + 1,
	  .used = VIRTIO_BLK_ID_BYTES + 1,
	  .make = blk_make,
	  .unmake = blk_unmake },
	{ .name = "virtio-net",
	  .virtio_id = VIRTIO_ID_NET,
	  .transitional_id = 0x1000,
	  .pci_class = 0x0200,
	  .queue = 1,
	  .fill = net_fill,
	  .make = net_make },
	{ .name = "virtio-console",
	  .virtio_id = VIRTIO_ID_CONSOLE,
	  .transitional_id = 0x1003,
	  .pci_class = 0x0780,
	  .queue = 1,
	  .fill = console_fill,
	  .make = console_make },
	{ .name = "virtio-vsock",
	  .virtio_id = VIRTIO_ID_VSOCK,
	  .pci_class = 0x0880,
	  .offloaded = true,
	  .all_queues = true,
	  .queue = 1,
	  .fill = vsock_fill,
	  .make = vsock_make },
	{ .name = "virtio-scsi",
	  .virtio_id = VIRTIO_ID_SCSI,
	  .transitional_id = 0x1004,
	  .pci_class = 0x0100,
	  .offloaded = true,
	  .queue = 2,
	  .fill = scsi_fill,
	  .in = sizeof(struct virtio_scsi_cmd_resp),
	  .used = sizeof(struct virtio_scsi_cmd_resp),
	  .make = scsi_make },
	{ .name = "virtio-rng-kernel",
	  .apart = "the host's kernel has all of it, kicks and interrupts too; "
		   "tests/driver/test_vbs" },
};

static const struct device_kind *kind_of(const struct virtio_ops *ops)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(kinds); i++)
		if (!strcmp(kinds[i].name, ops->name))
			return &kinds[i];
	print_error("%s is registered: add it to the table in %s\n", ops->name, __FILE__);
	abort();
}

const struct device_kind *device_kind_at(unsigned int index)
{
	const struct virtio_ops *ops;

	for (unsigned int i = 0; (ops = virtio_device_get(i)); i++) {
		const struct device_kind *kind = kind_of(ops);

		if (!kind->apart && !index--)
			return kind;
	}
	return NULL;
}

/* ---- Benches ---- */

static void add_other(struct kind_bench *bench)
{
	char spec[64];

	snprintf(spec, sizeof(spec), "%d,virtio-rng", KIND_OTHER_SLOT);
	machine_add(bench->machine, spec);
	machine_log_clear(bench->machine);
}

struct kind_bench *kind_bench_create(const struct device_kind *kind,
				     const struct machine_config *config, const char *options)
{
	struct kind_bench *bench = calloc(1, sizeof(*bench));
	char own[160] = "", spec[256];

	assert_non_null(bench);
	bench->kind = kind;
	if (kind->make && !kind->make(bench, own, sizeof(own))) {
		free(bench);
		return NULL;
	}
	bench->machine = machine_create(config);
	snprintf(spec, sizeof(spec), "%d,%s%s%s%s%s", KIND_SLOT, kind->name, own[0] ? "," : "", own,
		 options ? "," : "", options ? options : "");
	bench->dev = machine_add(bench->machine, spec);
	bench->name = bench->dev->name;
	add_other(bench);
	return bench;
}

/* ---- Over vhost-user: the device runs on the machine's loop, and its front end beside it ---- */

static const struct virtio_ops *ops_of(const struct device_kind *kind)
{
	const struct virtio_ops *ops = virtio_device_find(kind->name);

	if (!ops)
		fail_msg("%s is not registered", kind->name);
	return ops;
}

/* Front ends of tests come once. */
static void ignore_end(void *arg)
{
}

static void serve(struct kind_bench *bench)
{
	struct vhost_user_device_config config = {
		.kind = ops_of(bench->kind),
		.options = bench->options,
		.name = bench->kind->name,
		.loop = bench->machine->ctx->io_loop,
		.ended = ignore_end,
	};
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	config.fd = ends[1];
	bench->served = vhost_user_device_create(&bench->machine->captured.log, &config);
	if (!bench->served) {
		machine_log_print(bench->machine);
		fail_msg("%s cannot be served", bench->kind->name);
	}
	bench->front = front_create(bench->machine);
	bench->front->loop = config.loop;
	bench->front->queue_size = config.kind->queue_size;
	front_attach(bench->front, ends[0]);
	assert_int_equal(front_begin(bench->front), 0);
}

struct kind_bench *kind_bench_serve(const struct device_kind *kind,
				    const struct machine_config *config, const char *options)
{
	struct kind_bench *bench = calloc(1, sizeof(*bench));
	char own[160] = "";

	assert_non_null(bench);
	bench->kind = kind;
	if (kind->make && !kind->make(bench, own, sizeof(own))) {
		free(bench);
		return NULL;
	}
	snprintf(bench->options, sizeof(bench->options), "%s%s%s%spacked=on", own,
		 own[0] ? "," : "", options ? options : "", options ? "," : "");
	bench->machine = machine_create(config);
	bench->name = kind->name;
	serve(bench);
	add_other(bench);
	return bench;
}

void kind_bench_unserve(struct kind_bench *bench)
{
	if (!bench->served)
		return;
	front_destroy(bench->front);
	vhost_user_device_stop(bench->served);
	vhost_user_device_destroy(bench->served);
	bench->front = NULL;
	bench->served = NULL;
}

void kind_bench_destroy(struct kind_bench *bench)
{
	if (!bench)
		return;
	kind_bench_unserve(bench);
	machine_destroy(bench->machine);
	if (bench->kind->unmake)
		bench->kind->unmake(bench);
	free(bench);
}

/* ---- The simple request ---- */

struct kind_buffer kind_buffer(const struct device_kind *kind, struct virtio_driver *driver)
{
	struct machine *machine = driver->machine;
	struct kind_buffer buffer = { .in = kind->in };
	uint8_t out[KIND_REQUEST_MAX];

	buffer.out = kind->fill(driver, out);
	buffer.gpa = guest_alloc(machine, buffer.out + buffer.in, 1);
	memcpy(guest_ptr(machine, buffer.gpa, buffer.out), out, buffer.out);
	memset(guest_ptr(machine, buffer.gpa + buffer.out, buffer.in), DRIVER_POISON, buffer.in);
	buffer.out_count = segments_cut(buffer.segments, 1, buffer.gpa, buffer.out, NULL, 0);
	buffer.in_count = segments_cut(buffer.segments + buffer.out_count, 1,
				       buffer.gpa + buffer.out, buffer.in, NULL, 0);
	return buffer;
}

bool kind_buffer_untouched(const struct kind_buffer *buffer, struct machine *machine)
{
	const uint8_t *in = guest_ptr(machine, buffer->gpa + buffer->out, buffer->in);

	for (uint32_t i = 0; i < buffer->in; i++)
		if (in[i] != DRIVER_POISON)
			return false;
	return true;
}

static bool interrupt_came(void *queue)
{
	return driver_queue_interrupt(queue);
}

void kind_request(const struct device_kind *kind, struct virtio_driver *driver)
{
	uint8_t out[KIND_REQUEST_MAX], in[KIND_REQUEST_MAX];
	uint32_t out_len = kind->fill(driver, out);
	struct driver_queue *queue = driver_queue(driver, kind->queue);

	assert_int_equal(driver_request(queue, &driver_layouts[0], out, out_len, in, kind->in),
			 kind->used);
	/* with a thread, a moment after the buffer */
	assert_true(machine_wait(driver->machine, interrupt_came, queue, DRIVER_TIMEOUT_MS));
}

/* ---- Tests ---- */

struct kind_case *kind_case_open(void **state, const struct machine_config *config,
				 const char *options)
{
	struct kind_case *test = *state;
	struct machine_config usual = { .ioeventfd = test->params.ioeventfd };

	test->kind_bench = (test->params.vhost_user ? kind_bench_serve : kind_bench_create)(
		test->kind, config ? config : &usual, options);
	if (!test->kind_bench)
		skip();
	test->machine = test->kind_bench->machine;
	test->driver = test->params.vhost_user
			       ? front_driver_open(test->kind_bench->front, &test->params)
			       : driver_open(test->machine, KIND_SLOT, &test->params);
	test->queue = driver_queue(test->driver, test->kind->queue);
	return test;
}

struct kind_case *kind_case_run(void **state)
{
	struct kind_case *test = kind_case_open(state, NULL, NULL);

	assert_true(driver_negotiate(test->driver,
				     test->driver->offered & ~BIT64(VIRTIO_F_NOTIFY_ON_EMPTY)));
	driver_start(test->driver);
	return test;
}

int kind_case_close(void **state)
{
	struct kind_case *test = *state;

	driver_close(test->driver);
	kind_bench_destroy(test->kind_bench);
	test->driver = NULL;
	test->kind_bench = NULL;
	return 0;
}

/* ---- Tables of tests ---- */

static void kind_tests_add_case(struct kind_tests *tests, const char *name, CMUnitTestFunction test,
				const struct device_kind *kind, struct driver_params params)
{
	struct kind_case *initial = calloc(1, sizeof(*initial));
	char text[80], *full_name;

	tests->tests = realloc(tests->tests, (tests->count + 1) * sizeof(*tests->tests));
	if (!initial || !tests->tests ||
	    asprintf(&full_name, "%s: %s, %s", name, kind->name,
		     driver_params_name(&params, text, sizeof(text))) < 0)
		abort();
	*initial = (struct kind_case) { .kind = kind, .params = params };
	tests->tests[tests->count++] = (struct CMUnitTest) { .name = full_name,
							     .test_func = test,
							     .teardown_func = kind_case_close,
							     .initial_state = initial };
}

static bool axes_have(enum kind_axes axes, const struct driver_params *params)
{
	bool rings = params->event_idx && params->msix && !params->ioeventfd;
	bool all_on = rings && params->indirect;

	switch (axes) {
	case KIND_AXIS_NONE:
		return all_on && !params->legacy && !params->packed;
	case KIND_AXIS_INTERFACE:
		return all_on;
	case KIND_AXIS_RINGS:
		return rings;
	case KIND_AXIS_SPLIT:
		return all_on && !params->packed;
	case KIND_AXIS_LEGACY:
		return all_on && params->legacy;
	case KIND_AXIS_FORMATS:
		return all_on && !params->legacy;
	case KIND_AXIS_ALL:
		break;
	}
	return true;
}

void kind_tests_add(struct kind_tests *tests, const char *name, CMUnitTestFunction test,
		    enum kind_axes axes)
{
	const struct device_kind *kind;

	for (unsigned int i = 0; (kind = device_kind_at(i)); i++)
		for (unsigned int j = 0; j < DRIVER_COMBINATIONS; j++) {
			struct driver_params params = driver_params_at(j);

			if (axes_have(axes, &params) && (!params.legacy || kind->transitional_id) &&
			    (!params.packed || !kind->offloaded))
				kind_tests_add_case(tests, name, test, kind, params);
		}
}

void kind_tests_add_served(struct kind_tests *tests, const char *name, CMUnitTestFunction test)
{
	const struct device_kind *kind;

	for (unsigned int i = 0; (kind = device_kind_at(i)); i++)
		for (unsigned int j = 0; j < 4; j++) {
			const struct driver_params params = { .vhost_user = true,
							      .event_idx = true,
							      .msix = true,
							      .packed = j & 1,
							      .indirect = j & 2 };

			if (!params.packed || !kind->offloaded)
				kind_tests_add_case(tests, name, test, kind, params);
		}
}

int kind_tests_run(struct kind_tests *tests, const char *group)
{
	int failed = _cmocka_run_group_tests(group, tests->tests, tests->count, NULL, NULL);

	for (unsigned int i = 0; i < tests->count; i++) {
		free(tests->tests[i].initial_state);
		free((void *)(uintptr_t)tests->tests[i].name);
	}
	free(tests->tests);
	return failed;
}
