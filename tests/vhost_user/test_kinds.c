/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Every kind of device that is registered, over vhost-user, in both ring formats: it is found, asked,
 * reset, left and found again. In this process, the device in a thread, so that the sanitizers see both
 * sides, and kinds whose kernel is a model can be served too.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "device_kinds.h"
#include "vhost_user_backend.h"
#include "vhost_user_client.h"
#include "virtio_transport.h"

/* struct kind_served - a device of a kind in this process, and the driver of its front end. */
struct kind_served {
	struct kind_bench bench;
	struct vhost_user_device *device;
	struct front_end *front;
	struct virtio_driver *driver;
	char path[64], options[256];
};

static const struct virtio_ops *ops_of(const struct device_kind *kind)
{
	const struct virtio_ops *ops = virtio_device_find(kind->name);

	if (!ops)
		fail_msg("%s is not registered", kind->name);
	return ops;
}

static int kind_served_end(void **state)
{
	struct kind_served *served = *state;

	driver_close(served->driver);
	front_destroy(served->front);
	if (served->device)
		vhost_user_device_stop(served->device);
	if (served->bench.machine)
		event_loop_stop_thread(served->bench.machine->ctx->io_loop);
	vhost_user_device_destroy(served->device);
	machine_destroy(served->bench.machine);
	if (served->device && served->bench.kind->unmake)
		served->bench.kind->unmake(&served->bench);
	served->driver = NULL;
	served->front = NULL;
	served->device = NULL;
	served->bench.machine = NULL;
	return 0;
}

static void kind_served_start(struct kind_served *served)
{
	const struct device_kind *kind = served->bench.kind;
	const struct machine_config machine = { .io_thread = true };
	struct vhost_user_device_config config = { .kind = ops_of(kind), .name = kind->name };
	char own[160] = "";

	if (kind->make && !kind->make(&served->bench, own, sizeof(own)))
		skip();
	snprintf(served->options, sizeof(served->options), "%s%spacked=on", own, own[0] ? "," : "");
	snprintf(served->path, sizeof(served->path), "/tmp/tenon-kinds-%d", getpid());
	served->bench.machine = machine_create(&machine);
	config.options = served->options;
	config.path = served->path;
	config.loop = served->bench.machine->ctx->io_loop;
	served->device = vhost_user_device_create(&served->bench.machine->captured.log, &config);
	if (!served->device) {
		machine_log_print(served->bench.machine);
		fail_msg("%s cannot be served", kind->name);
	}
	served->front = front_create(served->bench.machine);
}

/* A new session, from the connection to DRIVER_OK. */
static void kind_served_run(struct kind_served *served, const struct driver_params *params)
{
	int socket = front_connect(served->path);

	assert_true(socket >= 0);
	driver_close(served->driver);
	front_attach(served->front, socket);
	assert_int_equal(front_begin(served->front), 0);
	served->driver = front_driver_open(served->front, params);
	assert_true(driver_negotiate(served->driver, served->driver->offered));
	driver_start(served->driver);
}

static void kind_works(void **state)
{
	struct kind_served *served = *state;
	const struct device_kind *kind = served->bench.kind;

	kind_served_start(served);
	for (unsigned int i = 0; i < 6; i++) {
		const struct driver_params params = { .event_idx = i & 1,
						      .indirect = i & 2,
						      .packed = i >= 3 && !kind->offloaded };

		kind_served_run(served, &params);
		for (unsigned int j = 0; j < 3; j++)
			kind_request(kind, served->driver);
		driver_restart(served->driver);
		kind_request(kind, served->driver);
	}
	assert_int_equal(machine_logged(served->bench.machine, "refused"), 0);
}

/* Who cannot log what is written does not offer to: so a front end knows that it cannot migrate. */
static void kind_offers_log(void **state)
{
	struct kind_served *served = *state;
	uint64_t log_shmfd = BIT64(VHOST_USER_PROTOCOL_F_LOG_SHMFD);
	bool can = !served->bench.kind->offloaded;

	kind_served_start(served);
	front_attach(served->front, front_connect(served->path));
	assert_int_equal(front_begin(served->front), 0);
	assert_int_equal(!!(served->front->offered & BIT64(VHOST_USER_F_LOG_ALL)), can);
	assert_int_equal(!!(served->front->protocol_offered & log_shmfd), can);
}

/* Queue by queue: stopped and gone on with, the device being asked in between. */
static void kind_stops_and_goes_on(void **state)
{
	struct kind_served *served = *state;
	const struct device_kind *kind = served->bench.kind;

	kind_served_start(served);
	for (unsigned int format = 0; format < 2; format++) {
		const struct driver_params params = { .event_idx = true,
						      .packed = format && !kind->offloaded };

		kind_served_run(served, &params);
		for (unsigned int i = 0; i < served->driver->queue_count; i++) {
			kind_request(kind, served->driver);
			assert_int_equal(front_ring_stop(served->front, i), 0);
			assert_int_equal(
				front_ring_start(served->front, driver_queue(served->driver, i)),
				0);
			assert_int_equal(front_ring_enable(served->front, i, true), 0);
			kind_request(kind, served->driver);
		}
		front_hang_up(served->front);
	}
}

static void add(struct CMUnitTest *test, const char *name, CMUnitTestFunction function,
		const struct device_kind *kind)
{
	struct kind_served *served = calloc(1, sizeof(*served));
	char *full_name;

	if (!served || asprintf(&full_name, "%s: %s", name, kind->name) < 0)
		abort();
	served->bench.kind = kind;
	*test = (struct CMUnitTest) { .name = full_name,
				      .test_func = function,
				      .teardown_func = kind_served_end,
				      .initial_state = served };
}

int main(void)
{
	struct CMUnitTest tests[64];
	const struct device_kind *kind;
	unsigned int count = 0;
	int failed;

	for (unsigned int i = 0; (kind = device_kind_at(i)) && count + 3 <= ARRAY_SIZE(tests);
	     i++) {
		add(&tests[count++], "works", kind_works, kind);
		add(&tests[count++], "offers a log", kind_offers_log, kind);
		add(&tests[count++], "stops and goes on", kind_stops_and_goes_on, kind);
	}
	failed = _cmocka_run_group_tests("kinds", tests, count, NULL, NULL);
	for (unsigned int i = 0; i < count; i++) {
		free(tests[i].initial_state);
		free((void *)(uintptr_t)tests[i].name);
	}
	return failed;
}
