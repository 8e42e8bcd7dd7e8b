/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-net over Unix sockets: two devices that are each other's network, and peers that stop
 * reading or hang up. Needs no root. What the sockets carry is tested in
 * tests/unit/test_net_backends.c.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "net_stack.h"

#define SLOT 4 /* of the first device */
#define FRAMES 300
#define STATUS offsetof(struct virtio_net_config, status)

static const struct driver_params usual = { .indirect = true, .event_idx = true, .msix = true };

struct bench {
	struct machine *machine;
	char folder[32];
	struct virtio_driver *drivers[2];
	struct stack stacks[2];
};

static int bench_setup(void **state)
{
	struct bench *bench = test_calloc(1, sizeof(*bench));

	strcpy(bench->folder, "/tmp/tenon-sock-XXXXXX");
	assert_non_null(mkdtemp(bench->folder));
	bench->machine = machine_create(NULL);
	*state = bench;
	return 0;
}

static int bench_teardown(void **state)
{
	struct bench *bench = *state;
	char path[64];

	for (unsigned int i = 0; i < 2; i++)
		driver_close(bench->drivers[i]);
	machine_destroy(bench->machine);
	snprintf(path, sizeof(path), "%s/peer", bench->folder);
	unlink(path); /* a test's own */
	if (rmdir(bench->folder))
		fail_msg("something was left in %s", bench->folder);
	test_free(bench);
	return 0;
}

/* Device @index with @options, in which each @ is the folder. */
static void device_add(struct bench *bench, unsigned int index, const char *options)
{
	char spec[300];
	size_t len = (size_t)snprintf(spec, sizeof(spec), "%u,virtio-net,", SLOT + index);

	for (; *options; options++)
		len += (size_t)snprintf(spec + len, sizeof(spec) - len, "%.*s",
					*options == '@' ? (int)sizeof(bench->folder) : 1,
					*options == '@' ? bench->folder : options);
	machine_add(bench->machine, spec);
}

static void device_start(struct bench *bench, unsigned int index)
{
	bench->drivers[index] = driver_run(bench->machine, SLOT + index, &usual, 0);
	stack_init(&bench->stacks[index], bench->drivers[index]);
}

static bool link_is_up(struct bench *bench, unsigned int index)
{
	return driver_config(bench->drivers[index], STATUS, 2) & VIRTIO_NET_S_LINK_UP;
}

static void wait_link(struct bench *bench, unsigned int index, bool up)
{
	if (link_is_up(bench, index) != up)
		assert_true(driver_wait_config(bench->drivers[index], DRIVER_TIMEOUT_MS));
	assert_int_equal(link_is_up(bench, index), up);
}

static uint32_t frame_make(uint8_t *frame, const uint8_t *to, unsigned int number)
{
	uint32_t len = 60 + number * 7 % 1400;

	memcpy(frame, to, ETH_ALEN);
	memset(frame + ETH_ALEN, 2, ETH_ALEN);
	memcpy(frame + 12, "\x88\xb5", 2);
	for (uint32_t i = ETH_HLEN; i < len - 2; i++)
		frame[i] = (uint8_t)(number + i * 3);
	put16(frame + len - 2, sum_end(sum_add(0, frame, len - 2 - len % 2)));
	return len;
}

/* Frames of many lengths, each as it was sent. */
static void exchange(struct bench *bench, unsigned int from)
{
	struct stack *sender = &bench->stacks[from], *receiver = &bench->stacks[!from];
	uint8_t frame[STACK_BUFFER];

	for (unsigned int i = 0; i < FRAMES; i++) {
		uint32_t len = frame_make(frame, receiver->mac, i);

		stack_send(sender, frame, len);
		assert_true(stack_receive(receiver, DRIVER_TIMEOUT_MS));
		assert_int_equal(receiver->len, len);
		assert_memory_equal(receiver->frame, frame, len);
	}
}

static void no_offloads(const struct virtio_driver *driver)
{
	static const unsigned int features[] = {
		VIRTIO_NET_F_CSUM,	VIRTIO_NET_F_GUEST_CSUM,	 VIRTIO_NET_F_GUEST_TSO4,
		VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6,		 56 /* HOST_USO */,
		VIRTIO_NET_F_MTU,	VIRTIO_NET_F_CTRL_GUEST_OFFLOADS
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(features); i++)
		assert_false(driver->offered & BIT64(features[i]));
}

static void stream_devices(void **state)
{
	struct bench *bench = *state;

	device_add(bench, 0, "backend=stream,path=@/net,server=on");
	device_start(bench, 0);
	assert_false(link_is_up(bench, 0));
	device_add(bench, 1, "backend=stream,path=@/net");
	device_start(bench, 1);
	wait_link(bench, 0, true);
	assert_true(link_is_up(bench, 1));
	no_offloads(bench->drivers[0]);
	exchange(bench, 0);
	exchange(bench, 1);
}

/* The client is there first; a driver's reset is no matter of the wire's. */
static void stream_client_first(void **state)
{
	struct bench *bench = *state;

	device_add(bench, 0, "backend=stream,path=@/net");
	device_start(bench, 0);
	assert_false(link_is_up(bench, 0));
	device_add(bench, 1, "backend=stream,path=@/net,server=on");
	device_start(bench, 1);
	wait_link(bench, 0, true);
	wait_link(bench, 1, true);
	exchange(bench, 0);
	driver_restart(bench->drivers[0]);
	stack_init(&bench->stacks[0], bench->drivers[0]);
	exchange(bench, 0);
	exchange(bench, 1);
}

static void dgram_devices(void **state)
{
	struct bench *bench = *state;

	device_add(bench, 0, "backend=dgram,path=@/b,local=@/a");
	device_add(bench, 1, "backend=dgram,path=@/a,local=@/b");
	device_start(bench, 0);
	device_start(bench, 1);
	no_offloads(bench->drivers[0]);
	exchange(bench, 0);
	exchange(bench, 1);
}

static int peer_connect(struct bench *bench)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/net", bench->folder);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

/* The driver gets its buffers back at once, whatever the peer does. */
static void peer_stops_reading(void **state)
{
	struct bench *bench = *state;
	uint8_t frame[STACK_BUFFER];
	char byte[4096];
	int fd;

	device_add(bench, 0, "backend=stream,path=@/net,server=on");
	device_start(bench, 0);
	fd = peer_connect(bench);
	wait_link(bench, 0, true);
	for (unsigned int i = 0; i < 5000; i++)
		stack_send(&bench->stacks[0], frame, frame_make(frame, frame, i));
	assert_true(link_is_up(bench, 0));
	close(fd);
	wait_link(bench, 0, false);
	stack_send(&bench->stacks[0], frame, 100); /* to nobody */

	fd = peer_connect(bench);
	wait_link(bench, 0, true);
	assert_int_equal(recv(fd, byte, sizeof(byte), MSG_DONTWAIT), -1); /* nothing of before */
	stack_send(&bench->stacks[0], frame, frame_make(frame, frame, 1));
	assert_int_equal(recv(fd, byte, sizeof(byte), 0), 4 + 67);
	close(fd);
	wait_link(bench, 0, false);
}

/* Half a frame, and lengths that lie: none of it comes to the driver, and what is right does. */
static void peer_lies(void **state)
{
	static const char *const lies[] = { "\xff\xff\xff\xff", "\0\1\x10\1", "\x80\0\0\0" };
	struct bench *bench = *state;
	struct stack *stack = &bench->stacks[0];
	uint8_t bytes[4 + 4 + 60] = { 0 };

	device_add(bench, 0, "backend=stream,path=@/net,server=on");
	device_start(bench, 0);
	memcpy(bytes + 8, stack->mac, ETH_ALEN);
	bytes[7] = 60;
	for (unsigned int i = 0; i < 2 * ARRAY_SIZE(lies); i++) {
		int fd = peer_connect(bench);

		wait_link(bench, 0, true);
		/* an empty frame, and one that is right */
		assert_int_equal(send(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
		assert_true(stack_receive(stack, DRIVER_TIMEOUT_MS));
		assert_memory_equal(stack->frame, bytes + 8, 60);
		if (i % 2)
			assert_int_equal(send(fd, lies[i / 2], 4, 0), 4);
		else
			assert_int_equal(send(fd, bytes + 4, 30, 0), 30);
		if (i % 2 == 0)
			close(fd);
		wait_link(bench, 0, false);
		assert_false(stack_receive(stack, 20));
		if (i % 2)
			close(fd);
	}
}

/* A device with another kind of back end says what it cannot. */
static void only_taps(void **state)
{
	struct bench *bench = *state;

	device_add(bench, 0, "backend=stream,path=@/net,server=on,vhost=auto");
	device_start(bench, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, bench_setup, bench_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(stream_devices),	  TEST(stream_client_first), TEST(dgram_devices),
		TEST(peer_stops_reading), TEST(peer_lies),	     TEST(only_taps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
