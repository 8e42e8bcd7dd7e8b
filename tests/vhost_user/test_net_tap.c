/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-net on a tap over vhost-user: frames both ways, rings stopped and gone on with, front ends that
 * leave and come back; in user space, and where the host has /dev/vhost-net (the lab) by the kernel,
 * which then has the front end's own eventfds. Needs root and /dev/net/tun.
 */
#include <dirent.h>
#include <linux/virtio_net.h>

#include "../unit/tap_lab.h"
#include "served.h"

#define TAP "tenon-vu"
#define FRAME 60
#define HEADER sizeof(struct virtio_net_hdr_v1)
#define ROUNDS 20
#define QUEUES 2 /* of the one pair; the control queue is the front end's business, as QEMU's */

static const uint8_t mac_ours[] = { 0x02, 0x11, 0x22, 0x33, 0x44, 0x55 };
static const uint8_t mac_other[] = { 0x02, 0x66, 0x77, 0x88, 0x99, 0xaa };

static bool lab_ready;

static int group_setup(void **state)
{
	lab_ready = lab_enter(); /* says what is missing */
	return 0;
}

/* Threads of the process that are the kernel's vhost workers. */
static unsigned int vhost_workers(const struct served *served)
{
	char path[64], name[340], comm[32];
	const struct dirent *entry;
	unsigned int count = 0;
	DIR *folder;

	snprintf(path, sizeof(path), "/proc/%d/task", served->back_end.pid);
	folder = opendir(path);
	while (folder && (entry = readdir(folder))) {
		FILE *file;

		snprintf(name, sizeof(name), "%s/%s/comm", path, entry->d_name);
		file = fopen(name, "re");
		if (file && fgets(comm, sizeof(comm), file))
			count += !strncmp(comm, "vhost-", 6);
		if (file)
			fclose(file);
	}
	if (folder)
		closedir(folder);
	return count;
}

static void frame_make(uint8_t *frame, const uint8_t *to, const uint8_t *from, unsigned int seed)
{
	served_pattern(frame, FRAME, seed);
	memcpy(frame, to, ETH_ALEN);
	memcpy(frame + ETH_ALEN, from, ETH_ALEN);
	frame[12] = 0x88; /* an experimental type (IEEE 802) */
	frame[13] = 0xb5;
}

static void expect_sent(struct served *served, int peer, unsigned int seed)
{
	struct driver_queue *queue = driver_queue(served->driver, 1);
	struct segment segment = { guest_alloc(served->machine, HEADER + FRAME, 1),
				   HEADER + FRAME };
	uint8_t *buffer = guest_ptr(served->machine, segment.gpa, segment.len);
	uint8_t got[2048];

	memset(buffer, 0, HEADER);
	frame_make(buffer + HEADER, mac_other, mac_ours, seed);
	assert_int_equal(driver_add_buf(queue, &segment, 1, 0, served), 0);
	driver_kick(queue);
	assert_int_equal(lab_receive(peer, got, sizeof(got), DRIVER_TIMEOUT_MS), FRAME);
	assert_memory_equal(got, buffer + HEADER, FRAME);
	assert_ptr_equal(driver_wait_buf(queue, NULL, DRIVER_TIMEOUT_MS), served);
}

static void expect_received(struct served *served, int peer, unsigned int seed)
{
	struct driver_queue *queue = driver_queue(served->driver, 0);
	struct segment segment = { guest_alloc(served->machine, 2048, 1), 2048 };
	uint8_t frame[FRAME];
	uint32_t len = 0;

	assert_int_equal(driver_add_buf(queue, &segment, 0, 1, served), 0);
	driver_kick(queue);
	frame_make(frame, mac_ours, mac_other, seed);
	assert_int_equal(send(peer, frame, FRAME, 0), FRAME);
	assert_ptr_equal(driver_wait_buf(queue, &len, DRIVER_TIMEOUT_MS), served);
	assert_int_equal(len, HEADER + FRAME);
	assert_memory_equal(guest_ptr(served->machine, segment.gpa + HEADER, FRAME), frame, FRAME);
}

static void run_driver(struct served *served, bool event_idx)
{
	const struct driver_params params = { .indirect = true, .event_idx = event_idx };
	struct front_end *front = served->front;

	assert_int_equal(front_begin(front), 0);
	front->queue_count = QUEUES;
	served->driver = front_driver_open(front, &params);
	assert_true(driver_negotiate(served->driver,
				     served->driver->offered & ~BIT64(VIRTIO_NET_F_MQ)));
	driver_start(served->driver);
}

static void frames(struct served *served, int peer, unsigned int seed)
{
	for (unsigned int i = 0; i < ROUNDS; i++) {
		expect_sent(served, peer, seed + i);
		expect_received(served, peer, seed + i);
	}
}

static void stop_and_go_on(struct served *served)
{
	for (unsigned int i = 0; i < QUEUES; i++)
		assert_int_equal(front_ring_stop(served->front, i), 0);
	for (unsigned int i = 0; i < QUEUES; i++) {
		assert_int_equal(front_ring_start(served->front, driver_queue(served->driver, i)),
				 0);
		assert_int_equal(front_ring_enable(served->front, i, true), 0);
	}
}

static void life(struct served *served, const char *vhost, bool by_kernel)
{
	int peer;

	snprintf(served->spec, sizeof(served->spec),
		 "virtio-net,tap=" TAP ",mac=02:11:22:33:44:55,vhost=%s", vhost);
	back_end_serve(&served->back_end, served->spec);
	peer = lab_packet_socket(TAP, 0);
	assert_true(peer >= 0);
	for (unsigned int i = 0; i < 4; i++) {
		served_connect(served);
		run_driver(served, i & 1);
		frames(served, peer, 100 * i);
		assert_int_equal(vhost_workers(served) != 0, by_kernel);
		stop_and_go_on(served);
		frames(served, peer, 1000 + 100 * i);
		front_hang_up(served->front);
		driver_close(served->driver);
		served->driver = NULL;
	}
	close(peer);
	assert_int_equal(back_end_logged(&served->back_end, "refused"), 0);
	assert_int_equal(back_end_logged(&served->back_end, "error"), 0);
}

static void in_user_space(void **state)
{
	if (!lab_ready)
		skip();
	life(served_create_stopped(state), "off", false);
}

static void by_the_kernel(void **state)
{
	if (!lab_ready)
		skip();
	if (access("/dev/vhost-net", R_OK | W_OK)) {
		printf("skipped: no /dev/vhost-net\n");
		skip();
	}
	life(served_create_stopped(state), "on", true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(in_user_space, served_end),
		cmocka_unit_test_teardown(by_the_kernel, served_end),
	};

	return cmocka_run_group_tests(tests, group_setup, NULL);
}
