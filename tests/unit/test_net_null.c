/* SPDX-License-Identifier: BSD-3-Clause */
/* The back end that is not there: frames come without end or not at all, and go nowhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_net.h>

#include "net_lab.h"

#define FRAMES_WANTED 100

struct lab {
	struct net_lab base;
	unsigned int frames;
	uint8_t buffer[HEADER + 2000];
};

/* Take one, and no more after the last that is wanted. */
static void on_readable(void *arg, unsigned int queue)
{
	struct lab *lab = arg;
	struct iovec iov = { lab->buffer, sizeof(lab->buffer) };

	memset(lab->buffer, 0xa5, sizeof(lab->buffer));
	assert_int_equal(net_receive(lab->base.net, queue, &iov, 1), HEADER + 100);
	if (++lab->frames == FRAMES_WANTED)
		net_set_receive(lab->base.net, 0, false);
}

static const struct net_backend_ops lab_ops = { .readable = on_readable };

static int setup(void **state)
{
	struct lab *lab = calloc(1, sizeof(*lab));

	if (!lab)
		return -1;
	net_lab_init(&lab->base);
	*state = lab;
	return 0;
}

static int teardown(void **state)
{
	struct lab *lab = *state;

	net_lab_deinit(&lab->base);
	free(lab);
	return 0;
}

static void open_null(struct lab *lab, unsigned int rx_size)
{
	const struct net_config config = {
		.kind = NET_NULL, .fd = -1, .queues = 1, .rx_size = rx_size
	};

	lab->base.net = net_lab_open(&lab->base, &config, &lab_ops, lab);
	assert_non_null(lab->base.net);
	assert_true(net_link_up(lab->base.net));
}

static void test_frames_without_end(void **state)
{
	struct lab *lab = *state;

	open_null(lab, 100);
	event_loop_poll(lab->base.loop, 0);
	assert_int_equal(lab->frames, 0);

	net_set_receive(lab->base.net, 0, true);
	for (unsigned int turn = 0; turn < FRAMES_WANTED + 10; turn++)
		event_loop_poll(lab->base.loop, 0);
	assert_int_equal(lab->frames, FRAMES_WANTED);
	for (unsigned int i = 0; i < 6; i++)
		assert_int_equal(lab->buffer[HEADER + i], 0xff);
	for (unsigned int i = 14; i < 100; i++)
		assert_int_equal(lab->buffer[HEADER + i], 0);
	assert_int_equal(lab->buffer[HEADER + 100], 0xa5);
}

static void test_no_frames(void **state)
{
	struct lab *lab = *state;
	struct iovec iov = { lab->buffer, sizeof(lab->buffer) };

	open_null(lab, 0);
	net_set_receive(lab->base.net, 0, true);
	for (unsigned int turn = 0; turn < 10; turn++)
		event_loop_poll(lab->base.loop, 0);
	assert_int_equal(lab->frames, 0);
	assert_int_equal(net_receive(lab->base.net, 0, &iov, 1), -EAGAIN);
}

static void test_what_is_sent_is_gone(void **state)
{
	struct lab *lab = *state;
	struct iovec iov[] = { { lab->buffer, HEADER }, { lab->buffer + HEADER, 60 } };

	open_null(lab, 0);
	for (unsigned int i = 0; i < 1000; i++)
		assert_int_equal(net_send(lab->base.net, 0, iov, 2), 0);
	assert_int_equal(net_send(lab->base.net, 0, iov, 1), -EINVAL);
}

static void test_rx_is_its_own_option(void **state)
{
	struct lab *lab = *state;
	const struct net_config config = {
		.kind = NET_TAP, .tap = "none", .fd = -1, .queues = 1, .rx_size = 64
	};

	assert_null(net_lab_open(&lab->base, &config, &lab_ops, lab));
	assert_int_equal(lab->base.captured.count, 1);
	assert_non_null(strstr(lab->base.captured.lines[0], "rx=64 is none of backend=tap"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_frames_without_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_frames, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_sent_is_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rx_is_its_own_option, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
