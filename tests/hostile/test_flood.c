/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Class 17: whatever a guest does again and again to have the host's log filled, it gets ten lines in
 * five seconds from each place in the source (for what breaks a device: of each device), and then one
 * that says how many were left out.
 */
#include <linux/virtio_console.h>
#include <linux/virtio_net.h>

#include "hostile.h"

#define FLOOD 400
#define BURST 10
#define WINDOW_NS UINT64_C(5000000000)

/*
 * struct flood - one way to cause a line.
 * @kind: of device, NULL for any; @act: causes one line that contains @line, and none besides
 */
struct flood {
	const char *kind;
	const char *options;
	void (*act)(struct hostile *hostile);
	const char *line;
};

static void begin_again(struct hostile *hostile)
{
	driver_set_status(hostile->driver, 0);
	driver_set_status(hostile->driver, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
}

static void features_refused(struct hostile *hostile)
{
	begin_again(hostile);
	hostile->driver->interface->set_features(hostile->driver, UINT64_MAX);
	driver_set_status(hostile->driver, VIRTIO_CONFIG_S_FEATURES_OK);
}

static void driver_ok_too_early(struct hostile *hostile)
{
	begin_again(hostile);
	driver_set_status(hostile->driver, VIRTIO_CONFIG_S_DRIVER_OK);
}

static void bad_chain(struct hostile *hostile)
{
	struct segment segment = { UINT64_MAX - 7, 16 };

	assert_int_equal(driver_add_buf(hostile->queue, &segment, 0, 1, &segment), 0);
	driver_kick(hostile->queue);
	machine_poll(hostile->machine);
	assert_true(hostile_needs_reset(hostile));
	driver_restart(hostile->driver);
}

static void bad_ring(struct hostile *hostile)
{
	begin_again(hostile);
	hostile->driver->interface->set_features(hostile->driver, BIT64(VIRTIO_F_VERSION_1));
	driver_set_status(hostile->driver, VIRTIO_CONFIG_S_FEATURES_OK);
	driver_common_out(hostile->driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	driver_common_out(hostile->driver, VIRTIO_PCI_COMMON_Q_DESCLO, 8, UINT64_MAX << 12);
	driver_common_out(hostile->driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
}

static void message_nowhere(struct hostile *hostile)
{
	struct inproc *port = inproc_of(hostile->machine->ctx);
	struct kind_buffer buffer = kind_buffer(hostile->victim->kind, hostile->driver);

	__atomic_store_n(&port->fail_msi, true, __ATOMIC_RELAXED);
	assert_int_equal(driver_add_buf(hostile->queue, buffer.segments, buffer.out_count,
					buffer.in_count, &buffer),
			 0);
	driver_kick(hostile->queue);
	assert_ptr_equal(driver_wait_buf(hostile->queue, NULL, DRIVER_TIMEOUT_MS), &buffer);
	machine_poll(hostile->machine);
	__atomic_store_n(&port->fail_msi, false, __ATOMIC_RELAXED);
}

static void bad_frame(struct hostile *hostile)
{
	uint8_t frame[13] = { 0 };

	driver_request(hostile->queue, &driver_layouts[0], frame, sizeof(frame), NULL, 0);
}

static void control(struct hostile *hostile, const struct virtio_console_control *message,
		    uint32_t len)
{
	driver_request(driver_queue(hostile->driver, 3), &driver_layouts[0], message, len, NULL, 0);
}

static void short_message(struct hostile *hostile)
{
	control(hostile, &(struct virtio_console_control) { 0 }, 5);
}

static void unknown_port(struct hostile *hostile)
{
	control(hostile, &(struct virtio_console_control) { 7, VIRTIO_CONSOLE_PORT_OPEN, 1 }, 8);
}

static void driver_failed(struct hostile *hostile)
{
	control(hostile, &(struct virtio_console_control) { 0, VIRTIO_CONSOLE_DEVICE_READY, 0 }, 8);
}

static const struct flood floods[] = {
	{ NULL, NULL, features_refused, "FEATURES_OK refused" },
	{ NULL, NULL, driver_ok_too_early, "DRIVER_OK without FEATURES_OK" },
	{ NULL, NULL, bad_chain, "the device needs a reset" },
	{ NULL, NULL, bad_ring, "cannot be enabled" },
	{ NULL, NULL, message_nowhere, "leads nowhere" },
	{ "virtio-net", NULL, bad_frame, "dropped a frame" },
	{ "virtio-console", "port=one:null", short_message, "control message of 5 bytes" },
	{ "virtio-console", "port=one:null", unknown_port, "there is no port 7" },
	{ "virtio-console", "port=one:null", driver_failed, "could not start the device" },
};

/* Five seconds go by, for the log. */
static void window_passes(struct machine *machine)
{
	struct logger *log = &machine->captured.log;

	pthread_mutex_lock(&log->lock);
	for (unsigned int i = 0; i < LOG_SITES; i++)
		log->sites[i].window_start_ns -= WINDOW_NS + 1;
	pthread_mutex_unlock(&log->lock);
}

static void expect_line(struct hostile *hostile, unsigned int index, const char *text)
{
	const struct captured_log *captured = &hostile->machine->captured;

	if (index < captured->count && strstr(captured->lines[index], text))
		return;
	machine_log_print(hostile->machine);
	fail_msg("line %u does not say \"%s\"", index, text);
}

static void run_flood(struct hostile *hostile, const struct flood *flood)
{
	char summary[64];

	hostile_begin(hostile);
	for (unsigned int i = 0; i < FLOOD; i++)
		flood->act(hostile);
	hostile_expect_lines(hostile, flood->line, BURST);
	for (unsigned int i = 0; i < BURST; i++)
		expect_line(hostile, i, flood->line);
	/* one place in the source being silenced does not silence the others */
	if (flood->act != driver_ok_too_early) {
		driver_ok_too_early(hostile);
		expect_line(hostile, BURST, "DRIVER_OK without FEATURES_OK");
		driver_restart(hostile->driver);
	} else {
		features_refused(hostile);
		expect_line(hostile, BURST, "FEATURES_OK refused");
		driver_restart(hostile->driver);
	}
	window_passes(hostile->machine);
	flood->act(hostile);
	snprintf(summary, sizeof(summary), "%u more messages like the last one", FLOOD - BURST);
	expect_line(hostile, BURST + 1, summary);
	expect_line(hostile, BURST + 2, flood->line);
	hostile_expect_lines(hostile, flood->line, BURST + 3);
	hostile_expect_survived(hostile, flood->line);
}

static void test_flood(void **state)
{
	struct kind_case *victim = *state;

	for (unsigned int i = 0; i < ARRAY_SIZE(floods); i++) {
		const struct flood *flood = &floods[i];
		struct hostile *hostile;

		if (flood->kind && strcmp(flood->kind, victim->kind->name) != 0)
			continue;
		/* its interrupts do not come from tenon */
		if (flood->act == message_nowhere && victim->kind->offloaded)
			continue;
		hostile = hostile_open(state, NULL, flood->options);
		hostile_start(hostile);
		run_flood(hostile, flood);
		hostile_close(hostile);
		kind_case_close(state);
	}
}

/* A device that is broken again and again does not hide that another one needs a reset. */
static void test_flood_hides_no_other(void **state)
{
	struct hostile *hostile = hostile_run(state);
	unsigned int lines = BURST;

	for (unsigned int i = 0; i < FLOOD; i++)
		bad_chain(hostile);
	for (unsigned int i = 0; i < hostile->bystander_count; i++) {
		struct bystander *bystander = &hostile->bystanders[i];
		struct hostile other = {
			.machine = hostile->machine,
			.driver = bystander->driver,
			.queue = driver_queue(bystander->driver, bystander->bench.kind->queue),
		};

		bad_chain(&other);
		expect_line(hostile, lines++, "needs a reset");
		expect_line(hostile, lines - 1, bystander->bench.kind->name);
	}
	hostile_expect_lines(hostile, "flood", lines);
	hostile_close(hostile);
}

int main(void)
{
	static struct kind_tests tests;

	kind_tests_add(&tests, "flood", test_flood, KIND_AXIS_FORMATS);
	kind_tests_add(&tests, "flood hides no other", test_flood_hides_no_other,
		       KIND_AXIS_FORMATS);
	return kind_tests_run(&tests, "log flood");
}
