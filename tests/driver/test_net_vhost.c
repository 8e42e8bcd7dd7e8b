/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-net and the kernel's vhost-net: when it is started and stopped, with what behind which
 * queue, what header it and the tap agree upon, what is offered, and what happens when it cannot.
 * The kernel's part is played by fake_vhost_net.h; the taps are real, in a network namespace of
 * their own. Needs root and /dev/net/tun.
 */
#include <sys/mman.h>

#include "fake_vhost_net.h"
#include "vhost_user_backend.h"
#include "vhost_user_client.h"
#include "virtio_transport.h"

#define MQ BIT64(VIRTIO_NET_F_MQ)
#define MRG BIT64(VIRTIO_NET_F_MRG_RXBUF)
#define FRAME 60

/* ---- The bench ---- */

static int vhost_setup(void **state)
{
	kernel_reset();
	return bench_setup(state);
}

static void bench_stop(struct bench *bench)
{
	bench_close(bench);
	assert_int_equal(kernel_runs(), 0);
	for (unsigned int i = 0; i < VHOSTS; i++)
		assert_int_equal(kernel.vhosts[i].fd, -1);
	assert_int_equal(kernel.rude, 0);
	assert_int_equal(kernel.header_wrong, 0);
}

static int bench_teardown(void **state)
{
	struct bench *bench = *state;

	bench_stop(bench);
	test_free(bench);
	return 0;
}

static void bench_add(struct bench *bench, const char *options)
{
	char spec[160];

	bench_machine(bench, true);
	snprintf(spec, sizeof(spec), "%d,virtio-net,tap=%s,mac=02:11:22:33:44:55%s%s", SLOT, TAP,
		 options, strstr(options, "packed") ? "" : ",packed=off");
	bench->dev = machine_add(bench->machine, spec);
	bench->peer = lab_packet_socket(TAP, 0);
	assert_true(bench->peer >= 0);
}

static void bench_start(struct bench *bench, const struct driver_params *params,
			const char *options, uint64_t without)
{
	bench_add(bench, options);
	machine_log_clear(bench->machine);
	bench->driver = driver_run(bench->machine, SLOT, params, without);
	bench->header_len = !params->legacy || driver_has(bench->driver, VIRTIO_NET_F_MRG_RXBUF)
				    ? sizeof(struct virtio_net_hdr_v1)
				    : sizeof(struct virtio_net_hdr);
	bench->ctrl =
		driver_has(bench->driver, VIRTIO_NET_F_MQ) ? bench->driver->queue_count - 1U : 2;
}

static int vhost_switch(struct bench *bench, bool on)
{
	int error;

	pthread_mutex_lock(&bench->dev->lock);
	error = bench->dev->dev_ops->vdev_offload(bench->dev, on);
	pthread_mutex_unlock(&bench->dev->lock);
	return error;
}

static uint8_t command(struct bench *bench, uint8_t class, uint8_t code, const void *data,
		       uint32_t len)
{
	uint8_t out[32] = { class, code }, ack;

	memcpy(out + 2, data, len);
	assert_int_equal(driver_request(driver_queue(bench->driver, bench->ctrl),
					&driver_layouts[0], out, 2 + len, &ack, 1),
			 1);
	return ack;
}

static void set_pairs(struct bench *bench, uint16_t pairs)
{
	assert_int_equal(command(bench, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &pairs,
				 sizeof(pairs)),
			 VIRTIO_NET_OK);
}

/* ---- User space's data plane ---- */

struct wire_read {
	int fd;
	uint8_t frame[FRAME + 64];
	ssize_t len;
};

static bool wire_read_done(void *arg)
{
	struct wire_read *wire = arg;

	wire->len = recv(wire->fd, wire->frame, sizeof(wire->frame), MSG_DONTWAIT);
	return wire->len >= 0;
}

static void frame_make(uint8_t *frame, const uint8_t *to, const uint8_t *from)
{
	memset(frame, 0x77, FRAME);
	memcpy(frame, to, ETH_ALEN);
	memcpy(frame + ETH_ALEN, from, ETH_ALEN);
	memcpy(frame + 12, "\x88\xb5", 2);
}

/* A frame out and one in, to the byte. */
static void expect_frames(struct bench *bench)
{
	struct segment buffer = { guest_alloc(bench->machine, 1600, 1), 1600 };
	uint8_t *in = guest_ptr(bench->machine, buffer.gpa, buffer.len);
	struct wire_read wire = { .fd = bench->peer };
	uint8_t packet[12 + FRAME] = { 0 }, frame[FRAME];
	uint32_t len;

	frame_make(packet + bench->header_len, mac_other, mac_ours);
	assert_int_equal(driver_request(driver_queue(bench->driver, 1), &driver_layouts[0], packet,
					bench->header_len + FRAME, NULL, 0),
			 0);
	assert_true(machine_wait(bench->machine, wire_read_done, &wire, DRIVER_TIMEOUT_MS));
	assert_int_equal(wire.len, FRAME);
	assert_memory_equal(wire.frame, packet + bench->header_len, FRAME);

	assert_int_equal(driver_add_buf(driver_queue(bench->driver, 0), &buffer, 0, 1, in), 0);
	driver_kick(driver_queue(bench->driver, 0));
	frame_make(frame, mac_ours, mac_other);
	assert_int_equal(send(bench->peer, frame, FRAME, 0), FRAME);
	assert_ptr_equal(driver_wait_buf(driver_queue(bench->driver, 0), &len, DRIVER_TIMEOUT_MS),
			 in);
	assert_int_equal(len, bench->header_len + FRAME);
	assert_memory_equal(in + bench->header_len, frame, FRAME);
}

/* ---- Tests ---- */

/* Legacy and modern, with and without MRG_RXBUF, the kernel and user space by turns. */
static void test_headers(void **state)
{
	struct bench *bench = *state;

	for (unsigned int i = 0; i < 8; i++) {
		struct driver_params params = usual;

		params.legacy = i & 1;
		bench_start(bench, &params, i & 4 ? ",vhost" : "", i & 2 ? MRG : 0);
		assert_int_equal(kernel_runs(), i >> 2);
		for (unsigned int turn = 0; turn < 3; turn++) {
			assert_int_equal(vhost_switch(bench, true), 0);
			assert_int_equal(kernel_runs(), 1);
			assert_int_equal(vhost_header(&kernel.vhosts[0]), bench->header_len);
			assert_int_equal(vhost_switch(bench, false), 0);
			assert_int_equal(kernel_runs(), 0);
			expect_frames(bench);
		}
		assert_int_equal(bench->machine->captured.count, 0);
		bench_stop(bench);
	}
}

/* At DRIVER_OK, not before, also of legacy drivers; until reset, suspend or quiesce. */
static void test_life(void **state)
{
	struct bench *bench = *state;

	for (unsigned int legacy = 0; legacy < 2; legacy++) {
		struct driver_params params = usual;

		params.legacy = legacy;
		bench_add(bench, ",vhost,busyloop=50");
		bench->driver = driver_open(bench->machine, SLOT, &params);
		assert_true(driver_negotiate(bench->driver, bench->driver->offered));
		assert_int_equal(kernel_runs(), 0);
		driver_start(bench->driver);
		assert_int_equal(kernel_runs(), 1);
		assert_int_equal(kernel.vhosts[0].busyloop[0], 50);
		assert_int_equal(kernel.vhosts[0].busyloop[1], 50);
		pci_quiesce_devices(bench->machine->ctx);
		assert_int_equal(kernel_runs(), 0);
		pci_resume_devices(bench->machine->ctx);
		assert_int_equal(kernel_runs(), 1);
		driver_set_status(bench->driver, 0);
		assert_int_equal(kernel_runs(), 0);
		driver_restart(bench->driver);
		assert_int_equal(kernel_runs(), 1);
		bench_stop(bench);
	}
}

/* User space serves what is left while a queue is reset, and the kernel all of it behind that. */
static void test_queue_reset(void **state)
{
	struct bench *bench = *state;

	bench_start(bench, &usual, ",vhost", 0);
	for (uint16_t queue = 0; queue < 2; queue++) {
		driver_common_out(bench->driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
		driver_common_out(bench->driver, VIRTIO_PCI_COMMON_Q_RESET, 2, 1);
		assert_int_equal(kernel_runs(), 0);
		driver_kick(driver_queue(bench->driver, !queue));
		machine_poll(bench->machine);
		assert_int_equal(kernel_runs(), 0);
		driver_queue_setup(bench->driver, queue, 0);
		machine_poll(bench->machine);
		assert_int_equal(kernel_runs(), 1);
	}
}

/* Each pair its descriptor and its tap's; those that are not in use have nothing behind them. */
static void test_pairs(void **state)
{
	struct bench *bench = *state;

	for (unsigned int mq = 0; mq < 2; mq++) {
		bench_start(bench, &usual, ",vhost,queues=3", mq ? 0 : MQ);
		assert_true(kernel.vhosts[2].fd >= 0 && kernel.vhosts[3].fd < 0); /* all are open */
		assert_int_equal(kernel_runs(), 1);
		for (uint16_t pairs = 3; mq && pairs; pairs--) {
			set_pairs(bench, pairs);
			assert_int_equal(kernel_runs(), (1 << pairs) - 1);
			for (unsigned int i = 1; i < pairs; i++)
				assert_int_not_equal(kernel.vhosts[i].backend[0],
						     kernel.vhosts[0].backend[0]);
			assert_int_equal(vhost_switch(bench, false), 0);
			assert_int_equal(kernel_runs(), 0);
			assert_int_equal(vhost_switch(bench, true), 0);
			assert_int_equal(kernel_runs(), (1 << pairs) - 1);
		}
		driver_restart(bench->driver);
		assert_int_equal(kernel_runs(), 1);
		bench_stop(bench);
	}
}

/* The control queue is ours as ever; and a driver that breaks it ends the rest too. */
static void test_commands(void **state)
{
	struct segment segment;
	struct bench *bench = *state;
	uint64_t offloads = 0;
	uint8_t on = 1;

	bench_start(bench, &usual, ",vhost", 0);
	assert_int_equal(command(bench, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &on, 1),
			 VIRTIO_NET_OK);
	assert_int_equal(command(bench, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET,
				 mac_other, ETH_ALEN),
			 VIRTIO_NET_OK);
	assert_int_equal(driver_config(bench->driver, 5, 1), mac_other[5]);
	assert_true(kernel.tun_offload & TUN_F_CSUM);
	assert_int_equal(command(bench, VIRTIO_NET_CTRL_GUEST_OFFLOADS,
				 VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, &offloads, 8),
			 VIRTIO_NET_OK);
	assert_int_equal(kernel.tun_offload, 0);
	assert_int_equal(lab_set_up(TAP, false), 0);
	assert_true(driver_wait_config(bench->driver, DRIVER_TIMEOUT_MS));
	assert_int_equal(kernel_runs(), 1);

	segment = (struct segment) { guest_alloc(bench->machine, 3, 1), 3 };
	assert_int_equal(
		driver_add_buf(driver_queue(bench->driver, bench->ctrl), &segment, 1, 0, bench), 0);
	driver_kick(driver_queue(bench->driver, bench->ctrl));
	assert_true(driver_wait_config(bench->driver, DRIVER_TIMEOUT_MS));
	assert_true(driver_status(bench->driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_int_equal(kernel_runs(), 0);
	driver_restart(bench->driver);
	assert_int_equal(kernel_runs(), 1);
}

static void test_features(void **state)
{
	static const unsigned int bits[] = { VIRTIO_NET_F_MRG_RXBUF, VIRTIO_RING_F_EVENT_IDX,
					     VIRTIO_RING_F_INDIRECT_DESC };
	struct bench *bench = *state;

	for (unsigned int i = 0; i < ARRAY_SIZE(bits); i++) {
		kernel.offers = KERNEL_FEATURES & ~BIT64(bits[i]);
		bench_start(bench, &usual, ",vhost=auto", 0);
		assert_false(bench->driver->offered & BIT64(bits[i]));
		assert_int_equal(kernel_runs(), 1);
		bench_stop(bench);
		/* Not asked for: all is offered, and then the kernel cannot have it. */
		bench_start(bench, &usual, "", 0);
		assert_true(bench->driver->offered & BIT64(bits[i]));
		assert_int_equal(vhost_switch(bench, true), -EOPNOTSUPP);
		assert_logged(bench->machine, "vhost on: the driver uses features");
		assert_int_equal(kernel_runs(), 0);
		expect_frames(bench);
		bench_stop(bench);
	}
}

/* Wanted while no driver is there: it starts with one that it can serve. */
static void test_switched_before(void **state)
{
	struct driver_params params = usual;
	struct bench *bench = *state;

	for (unsigned int packed = 0; packed < 2; packed++) {
		params.packed = packed;
		bench_add(bench, ",packed=on");
		assert_int_equal(vhost_switch(bench, true), 0);
		machine_log_clear(bench->machine);
		bench->driver = driver_run(bench->machine, SLOT, &params, 0);
		bench->header_len = 12;
		assert_int_equal(kernel_runs(), !packed);
		assert_int_equal(bench->machine->captured.count, packed);
		if (packed) {
			assert_logged(bench->machine, "user space does: the driver uses packed");
			expect_frames(bench);
			assert_int_equal(bench->machine->captured.count, 1);
		}
		bench_stop(bench);
	}
}

static void test_refused(void **state)
{
	static const struct {
		const char *options;
		int open_error;
		const char *says;
	} cases[] = {
		{ "", ENOENT, "/dev/vhost-net" },
		{ "", EACCES, "/dev/vhost-net" },
		{ ",packed=on", 0, "drop packed=on, or vhost" },
		{ ",in_order=on", 0, "drop in_order=on, or vhost" },
		{ ",mtu=1400", 0, "does not drop frames beyond mtu=" },
	};
	struct bench *bench = *state;

	for (unsigned int i = 0; i < 2 * ARRAY_SIZE(cases); i++) {
		bool automatic = i & 1;
		char spec[100];

		kernel.open_error = cases[i / 2].open_error;
		snprintf(spec, sizeof(spec), "%d,virtio-net,tap=%s,vhost%s%s", SLOT, TAP,
			 automatic ? "=auto" : "", cases[i / 2].options);
		bench_machine(bench, true);
		machine_log_clear(bench->machine);
		assert_int_equal(pci_add_device(bench->machine->ctx, spec) != NULL, automatic);
		assert_int_equal(bench->machine->captured.count, 1);
		assert_logged(bench->machine, cases[i / 2].says);
		assert_int_equal(machine_logged(bench->machine, "without vhost:"), automatic);
		assert_int_equal(lab_exists(TAP), automatic);
		bench_stop(bench);
	}
}

/*
 * Whatever fails, and when: user space goes on with every ring where it was, and later all is
 * well.
 */
static void test_failures(void **state)
{
	struct bench *bench = *state;

	for (unsigned int legacy = 0; legacy < 2; legacy++) {
		struct driver_params params = usual;
		unsigned int failed = 0;
		bool reached = true;

		params.legacy = legacy;
		for (unsigned int at = 1; reached; at++) {
			bench_start(bench, &params, ",queues=2", MRG);
			if (driver_has(bench->driver, VIRTIO_NET_F_MQ))
				set_pairs(bench, 2);
			kernel.calls = 0;
			kernel.fail_at = at;
			if (vhost_switch(bench, true))
				failed++;
			else
				assert_int_equal(kernel_runs(), 3);
			reached = kernel.calls >= at;
			kernel.fail_at = 0;
			assert_int_equal(vhost_switch(bench, false), 0);
			assert_int_equal(kernel_runs(), 0);
			expect_frames(bench);
			assert_int_equal(vhost_switch(bench, true), 0);
			assert_int_equal(kernel_runs(), 3);
			bench_stop(bench);
		}
		assert_true(failed > 20);
	}
}

#define BENCH_TEST(function) cmocka_unit_test_setup_teardown(function, vhost_setup, bench_teardown)

/* ---- Served over vhost-user, and migrated ---- */

#define SOCKET "/tmp/tenon-net-vhost"

static struct vhost_user_device *serve(struct bench *bench)
{
	const struct vhost_user_device_config config = {
		.kind = virtio_device_find("virtio-net"),
		.options = "tap=" TAP ",mac=02:11:22:33:44:55,vhost",
		.name = "virtio-net",
		.path = SOCKET,
		.loop = bench->machine->ctx->io_loop,
	};

	return vhost_user_device_create(&bench->machine->captured.log, &config);
}

/* A front end of two rings, which has them started with @logged already, or without. */
static struct front_end *front_run(struct bench *bench, int log, bool logged)
{
	struct front_end *front = front_create(bench->machine);
	int socket = front_connect(SOCKET);

	assert_true(socket >= 0);
	front->loop = bench->machine->ctx->io_loop;
	front_attach(front, socket);
	assert_int_equal(front_begin(front), 0);
	front->queue_count = 2;
	bench->driver = front_driver_open(front, &usual);
	bench->header_len = sizeof(struct virtio_net_hdr_v1);
	assert_int_equal(front_set_log(front, log, MACHINE_MEMORY / 4096 / 8, 0), 0);
	front->log_dirty = logged;
	assert_true(driver_negotiate(bench->driver, bench->driver->offered & ~MQ));
	driver_start(bench->driver);
	return front;
}

static void front_log(struct bench *bench, struct front_end *front, bool on)
{
	front->log_dirty = on;
	assert_int_equal(front_set_features(front, bench->driver->accepted), 0);
	machine_poll(bench->machine);
}

static void front_leave(struct bench *bench, struct front_end *front)
{
	driver_close(bench->driver);
	bench->driver = NULL;
	front_destroy(front);
	machine_poll(bench->machine);
	assert_int_equal(kernel_runs(), 0);
}

/* The kernel has the rings but while what is written is logged, whoever left the log on. */
static void test_logged(void **state)
{
	struct bench *bench = *state;
	struct vhost_user_device *device;
	struct front_end *front;
	int log = memfd_create("log", MFD_CLOEXEC);

	assert_int_equal(ftruncate(log, MACHINE_MEMORY / 4096 / 8), 0);
	bench_machine(bench, false);
	device = serve(bench);
	assert_non_null(device);
	bench->peer = lab_packet_socket(TAP, 0);
	for (unsigned int i = 0; i < 4; i++) {
		bool logged = i & 1;

		front = front_run(bench, log, logged);
		assert_int_equal(kernel_runs(), !logged);
		for (unsigned int j = 0; j < 2; j++) {
			front_log(bench, front, true);
			assert_int_equal(kernel_runs(), 0);
			expect_frames(bench);
			assert_int_equal(front_ring_stop(front, 1), 0);
			assert_int_equal(front_ring_start(front, driver_queue(bench->driver, 1)),
					 0);
			assert_int_equal(front_ring_enable(front, 1, true), 0);
			assert_int_equal(kernel_runs(), 0);
			expect_frames(bench);
			front_log(bench, front, false);
			assert_int_equal(kernel_runs(), 1);
		}
		front_log(bench, front, true);
		front_leave(bench, front);
	}
	assert_int_equal(bench->machine->captured.count, 0);
	vhost_user_device_stop(device);
	vhost_user_device_destroy(device);
	close(log);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BENCH_TEST(test_headers),	  BENCH_TEST(test_life),
		BENCH_TEST(test_queue_reset),	  BENCH_TEST(test_pairs),
		BENCH_TEST(test_commands),	  BENCH_TEST(test_features),
		BENCH_TEST(test_switched_before), BENCH_TEST(test_refused),
		BENCH_TEST(test_failures),	  BENCH_TEST(test_logged),
	};

	return cmocka_run_group_tests(tests, group_setup, NULL);
}
