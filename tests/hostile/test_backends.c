/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The host's side fails, stalls or is watched by the guest: images that shrink and fill up (class 16),
 * images that look like another format (class 19), readers that are slow or gone (class 20). Back
 * ends by themselves are tested in tests/unit.
 */
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_console.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/un.h>

#include "../unit/tap_lab.h"
#include "hostile.h"

#define SECTOR 512
#define IMAGE_SIZE MIB(1) /* of the bench's image */

/* ---- virtio-blk ---- */

/* Read or write @len bytes at @sector; the status. */
static uint8_t blk_transfer(struct driver_queue *queue, uint32_t type, uint64_t sector,
			    uint8_t *data, uint32_t len)
{
	struct virtio_blk_outhdr header = { .type = type, .sector = sector };
	uint8_t out[sizeof(header) + 8 * SECTOR], in[8 * SECTOR + 1];
	uint32_t out_len = sizeof(header), in_len = 1;

	memcpy(out, &header, sizeof(header));
	if (type == VIRTIO_BLK_T_OUT) {
		memcpy(out + out_len, data, len);
		out_len += len;
	} else {
		in_len += len;
	}
	driver_request(queue, &driver_layouts[4], out, out_len, in, in_len);
	if (type == VIRTIO_BLK_T_IN)
		memcpy(data, in, len);
	return in[in_len - 1];
}

static void image_resize(struct hostile *hostile, uint64_t size)
{
	assert_int_equal(truncate(hostile->victim->kind_bench->path, (off_t)size), 0);
}

/* The image is cut short under the guest: what is gone reads as an error, and as nothing else. */
static void test_image_shrinks(void **state)
{
	static const uint64_t sizes[] = { IMAGE_SIZE / 2, IMAGE_SIZE / 2 + 100, 700, 0 };
	struct hostile *hostile = hostile_run(state);
	uint8_t data[4 * SECTOR];

	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint64_t sector = sizes[i] / SECTOR;

		image_resize(hostile, sizes[i]);
		check_poison_stack();
		assert_int_equal(
			blk_transfer(hostile->queue, VIRTIO_BLK_T_IN, sector, data, sizeof(data)),
			VIRTIO_BLK_S_IOERR);
		assert_false(check_poison_seen(data, sizeof(data)));
		assert_int_equal(blk_transfer(hostile->queue, VIRTIO_BLK_T_IN,
					      IMAGE_SIZE / SECTOR - 4, data, sizeof(data)),
				 VIRTIO_BLK_S_IOERR);
		image_resize(hostile, IMAGE_SIZE);
		blk_transfer(hostile->queue, VIRTIO_BLK_T_FLUSH, 0, data,
			     0); /* looks at the size */
		machine_poll(hostile->machine);
		assert_int_equal(
			blk_transfer(hostile->queue, VIRTIO_BLK_T_IN, sector, data, sizeof(data)),
			VIRTIO_BLK_S_OK);
		driver_config_interrupt(hostile->driver);
		hostile_log_clear(hostile->machine);
		hostile_expect_ignored(hostile, "image that shrinks");
	}
	hostile_close(hostile);
}

/* No more of the file can be written (EFBIG; ENOSPC goes the same way): an error, again and again. */
static void test_no_room(void **state)
{
	struct hostile *hostile = hostile_run(state);
	struct rlimit old, limit;
	uint8_t data[SECTOR] = { 1, 2, 3 };

	signal(SIGXFSZ, SIG_IGN); /* as tenon blocks it: this thread writes too */
	getrlimit(RLIMIT_FSIZE, &old);
	limit = old;
	limit.rlim_cur = IMAGE_SIZE / 2;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	for (unsigned int i = 0; i < 50; i++)
		assert_int_equal(blk_transfer(hostile->queue, VIRTIO_BLK_T_OUT,
					      IMAGE_SIZE / 2 / SECTOR + i, data, SECTOR),
				 VIRTIO_BLK_S_IOERR);
	/* what has room is written */
	assert_int_equal(blk_transfer(hostile->queue, VIRTIO_BLK_T_OUT, 3, data, SECTOR),
			 VIRTIO_BLK_S_OK);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(blk_transfer(hostile->queue, VIRTIO_BLK_T_OUT, IMAGE_SIZE / 2 / SECTOR,
				      data, SECTOR),
			 VIRTIO_BLK_S_OK);
	assert_in_range(hostile->machine->captured.count, 0, 20);
	hostile_log_clear(hostile->machine);
	hostile_expect_ignored(hostile, "image without room");
	hostile_close(hostile);
}

/* Class 19: what a guest writes to sector 0 names a file of the host, in formats that others probe for. */
static const struct {
	const char *name;
	uint8_t magic[16];
	unsigned int len;
} formats[] = {
	{ "qcow2", { 'Q', 'F', 'I', 0xfb, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 112 }, 16 },
	{ "vmdk", { 'K', 'D', 'M', 'V', 1 }, 5 },
	{ "vmdk description", { '#', ' ', 'D', 'i', 's', 'k', ' ', 'D', 'e' }, 9 },
	{ "vhdx", { 'v', 'h', 'd', 'x', 'f', 'i', 'l', 'e' }, 8 },
	{ "vpc", { 'c', 'o', 'n', 'e', 'c', 't', 'i', 'x' }, 8 },
	{ "qed", { 'Q', 'E', 'D', 0 }, 4 },
	{ "luks", { 'L', 'U', 'K', 'S', 0xba, 0xbe }, 6 },
};

static void test_image_format(void **state)
{
	struct hostile *hostile = hostile_run(state);
	struct driver_params params = hostile->victim->params;
	char spec[128];

	for (unsigned int i = 0; i < ARRAY_SIZE(formats); i++) {
		uint8_t sector[SECTOR] = { 0 }, back[SECTOR];
		struct virtio_driver *driver;
		struct machine *machine;

		memcpy(sector, formats[i].magic, formats[i].len);
		snprintf((char *)sector + 112, 64, "/etc/passwd");
		assert_int_equal(blk_transfer(hostile->queue, VIRTIO_BLK_T_OUT, 0, sector, SECTOR),
				 VIRTIO_BLK_S_OK);
		hostile_expect_ignored(hostile, formats[i].name);

		/* The next start of the VM: the same file under another name, because the bench
		 * removes the first. */
		snprintf(spec, sizeof(spec), "4,virtio-blk,%s.copy",
			 hostile->victim->kind_bench->path);
		assert_int_equal(link(hostile->victim->kind_bench->path, strchr(spec, '/')), 0);
		hostile_close(hostile);
		machine = machine_create(NULL);
		machine_add(machine, spec);
		driver = driver_run(machine, 4, &params, 0);
		assert_int_equal(driver_config(driver, 0, 8), IMAGE_SIZE / SECTOR);
		assert_int_equal(
			blk_transfer(driver_queue(driver, 0), VIRTIO_BLK_T_IN, 0, back, SECTOR),
			VIRTIO_BLK_S_OK);
		assert_memory_equal(back, sector, SECTOR);
		driver_close(driver);
		machine_destroy(machine);
		unlink(strchr(spec, '/'));
		kind_case_close(state);
		hostile = hostile_run(state);
	}
	hostile_close(hostile);
}

/* Two disks with different numbers of queues: neither has the other's (acrn.md 7.3, row 46). */
static void test_two_disks(void **state)
{
	struct hostile *hostile = hostile_open(state, NULL, "queues=4");
	const struct driver_params params = hostile->victim->params;
	struct virtio_driver *other;
	uint8_t data[SECTOR] = { 1 };
	char path[] = "/tmp/tenon-test-XXXXXX", spec[96];
	int fd = mkstemp(path);

	assert_true(fd >= 0 && !ftruncate(fd, IMAGE_SIZE));
	snprintf(spec, sizeof(spec), "20,virtio-blk,%s", path);
	machine_add(hostile->machine, spec);
	hostile_start(hostile);
	other = driver_run(hostile->machine, 20, &params, 0);
	assert_int_equal(hostile->driver->queue_count, 4);
	assert_int_equal(other->queue_count, 1);
	for (uint16_t i = 1; i < 6; i++) { /* of queues that only one of them has */
		struct driver_queue queue = { .driver = other, .index = i };

		other->interface->notify(other, &queue);
	}
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(blk_transfer(driver_queue(hostile->driver, i), VIRTIO_BLK_T_OUT, i,
					      data, SECTOR),
				 VIRTIO_BLK_S_OK);
	assert_int_equal(blk_transfer(driver_queue(other, 0), VIRTIO_BLK_T_OUT, 0, data, SECTOR),
			 VIRTIO_BLK_S_OK);
	driver_queue_interrupt(hostile->queue);
	hostile_expect_ignored(hostile, "two disks");
	driver_close(other);
	close(fd);
	unlink(path);
	hostile_close(hostile);
}

/* ---- virtio-net: the host's interface is down, then gone ---- */

static void send_frames(struct hostile *hostile, unsigned int count)
{
	const struct device_kind *kind = hostile->victim->kind;
	uint8_t out[KIND_REQUEST_MAX];
	uint32_t len = kind->fill(hostile->driver, out);

	for (unsigned int i = 0; i < count; i++)
		driver_request(hostile->queue, &driver_layouts[0], out, len, NULL, 0);
}

static void test_tap_down(void **state)
{
	struct hostile *hostile = hostile_run(state);

	assert_int_equal(lab_set_up("tenon-test", false), 0);
	send_frames(hostile, 1000);
	assert_in_range(hostile->machine->captured.count, 0, 20);
	assert_int_equal(lab_set_up("tenon-test", true), 0);
	machine_poll(hostile->machine);
	driver_queue_interrupt(hostile->queue);
	hostile_log_clear(hostile->machine);
	hostile_expect_survived(hostile, "interface down");
	assert_int_equal(lab_delete("tenon-test"), 0);
	send_frames(hostile, 1000);
	assert_in_range(hostile->machine->captured.count, 0, 20);
	driver_queue_interrupt(hostile->queue);
	hostile_log_clear(hostile->machine);
	hostile_expect_survived(hostile, "interface gone");
	hostile_close(hostile);
}

/* ---- virtio-console: readers ---- */

#define CONSOLE_SLOT 20
#define CHUNK 4096

/* struct reader - another console, whose back end is a socket, and somebody connected to it. */
struct reader {
	struct hostile *hostile;
	struct virtio_driver *driver;
	char path[64];
	int peer;
	uint64_t buffer;
};

static void reader_connect(struct reader *reader)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	reader->peer = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", reader->path);
	assert_int_equal(connect(reader->peer, (struct sockaddr *)&address, sizeof(address)), 0);
	machine_poll(reader->hostile->machine);
}

static void reader_open(struct reader *reader, struct hostile *hostile, const char *option)
{
	const struct driver_params params = { .indirect = true, .event_idx = true, .msix = true };
	char spec[160];

	*reader = (struct reader) { .hostile = hostile, .peer = -1 };
	snprintf(reader->path, sizeof(reader->path), "/tmp/tenon-hostile-%d", getpid());
	snprintf(spec, sizeof(spec), "%d,virtio-console,%ssocket:%s:server", CONSOLE_SLOT, option,
		 reader->path);
	machine_add(hostile->machine, spec);
	reader->driver = driver_run(hostile->machine, CONSOLE_SLOT, &params, 0);
	reader->buffer = guest_alloc(hostile->machine, CHUNK, 4096);
	memset(guest_ptr(hostile->machine, reader->buffer, CHUNK), 'x', CHUNK);
	reader_connect(reader);
	hostile_begin(hostile);
}

static void reader_close(struct reader *reader)
{
	driver_close(reader->driver);
	if (reader->peer >= 0)
		close(reader->peer);
}

/* Send @chunks; how many were taken at once. */
static unsigned int reader_flood(struct reader *reader, unsigned int queue_index,
				 unsigned int chunks)
{
	struct driver_queue *queue = driver_queue(reader->driver, queue_index);
	struct segment segment = { reader->buffer, CHUNK };
	unsigned int taken = 0;

	for (unsigned int i = 0; i < chunks; i++) {
		if (driver_add_buf(queue, &segment, 1, 0, &segment))
			break;
		driver_kick(queue);
		machine_poll(reader->hostile->machine);
		while (driver_get_buf(queue, NULL))
			taken++;
		if (i % 256 == 0)
			hostile_others_work(reader->hostile);
	}
	return taken;
}

/* A console never waits (it would stop the guest): what nobody reads is dropped, and said. */
static void test_slow_console_reader(void **state)
{
	struct hostile *hostile = hostile_run(state);
	struct reader reader;

	reader_open(&reader, hostile, "");
	assert_int_equal(reader_flood(&reader, 1, 1500), 1500); /* 6 MB */
	assert_in_range(hostile->machine->captured.count, 1, 10);
	assert_logged(hostile->machine, "output is dropped");
	hostile_cost(hostile, "reader that does not read");
	close(reader.peer); /* and now it dies */
	reader.peer = -1;
	assert_int_equal(reader_flood(&reader, 1, 500), 500);
	reader_connect(&reader);
	assert_int_equal(reader_flood(&reader, 1, 500), 500);
	hostile_log_clear(hostile->machine);
	hostile_expect_ignored(hostile, "reader that died");
	reader_close(&reader);
	hostile_close(hostile);
}

static bool never(void *arg)
{
	return false;
}

static void port_control(struct reader *reader, uint32_t id, uint16_t event, uint16_t value)
{
	struct virtio_console_control message = { id, event, value };

	driver_request(driver_queue(reader->driver, 3), &driver_layouts[0], &message,
		       sizeof(message), NULL, 0);
}

/* Buffers for what the device tells of its ports, and time to tell it. */
static void port_listen(struct reader *reader)
{
	struct segment segment = { guest_alloc(reader->hostile->machine, 128, 8), 128 };
	struct driver_queue *queue = driver_queue(reader->driver, 2);

	for (unsigned int i = 0; i < 8; i++)
		assert_int_equal(driver_add_buf(queue, &segment, 0, 1, reader), 0);
	driver_kick(queue);
	machine_poll(reader->hostile->machine);
}

/* A port's program waits for its reader: nothing is lost, nothing grows, nobody spins. */
static void test_slow_port_reader(void **state)
{
	struct hostile *hostile = hostile_run(state);
	struct reader reader;
	unsigned int taken;
	uint64_t cpu_ms;

	reader_open(&reader, hostile, "port=one:");
	port_listen(&reader);
	port_control(&reader, UINT32_MAX, VIRTIO_CONSOLE_DEVICE_READY, 1);
	port_control(&reader, 0, VIRTIO_CONSOLE_PORT_READY, 1);
	port_control(&reader, 0, VIRTIO_CONSOLE_PORT_OPEN, 1);
	hostile_begin(hostile);
	taken = reader_flood(&reader, 1, 1500); /* ends when the queue is full */
	assert_in_range(taken, 1, 1000);
	cpu_ms = hostile_cpu_ms();
	machine_wait(hostile->machine, never, NULL, 300);
	assert_true(hostile_cpu_ms() - cpu_ms < 150);
	hostile_others_work(hostile);
	close(reader.peer);
	reader.peer = -1;
	machine_wait(hostile->machine, never, NULL, 20);
	hostile_log_clear(hostile->machine);
	hostile_expect_ignored(hostile, "port whose reader does not read");
	reader_close(&reader);
	hostile_close(hostile);
}

/* The host's end sends without end to a guest that takes nothing: it has to wait. */
static void test_fast_writer(void **state)
{
	struct hostile *hostile = hostile_run(state);
	static uint8_t data[65536];
	struct reader reader;
	ssize_t sent = 0, part;
	uint64_t cpu_ms;

	reader_open(&reader, hostile, "");
	for (unsigned int i = 0; i < 200; i++) {
		part = send(reader.peer, data, sizeof(data), MSG_DONTWAIT | MSG_NOSIGNAL);
		sent += MAX(part, (ssize_t)0);
		machine_poll(hostile->machine);
	}
	assert_in_range(sent, 1, MIB(2)); /* what the sockets hold, and a buffer of ours */
	cpu_ms = hostile_cpu_ms();
	machine_wait(hostile->machine, never, NULL, 300);
	assert_true(hostile_cpu_ms() - cpu_ms < 150);
	hostile_expect_ignored(hostile, "writer that does not end");
	reader_close(&reader);
	hostile_close(hostile);
}

int main(void)
{
	static struct kind_tests tests;

	hostile_tests_add(&tests, "virtio-blk", "image shrinks", test_image_shrinks,
			  KIND_AXIS_INTERFACE);
	hostile_tests_add(&tests, "virtio-blk", "no room", test_no_room, KIND_AXIS_INTERFACE);
	hostile_tests_add(&tests, "virtio-blk", "image format", test_image_format, KIND_AXIS_NONE);
	hostile_tests_add(&tests, "virtio-blk", "two disks", test_two_disks, KIND_AXIS_NONE);
	hostile_tests_add(&tests, "virtio-net", "tap down", test_tap_down, KIND_AXIS_INTERFACE);
	/* any victim will do: what is watched is another console beside it */
	hostile_tests_add(&tests, "virtio-rng", "slow console reader", test_slow_console_reader,
			  KIND_AXIS_NONE);
	hostile_tests_add(&tests, "virtio-rng", "slow port reader", test_slow_port_reader,
			  KIND_AXIS_NONE);
	hostile_tests_add(&tests, "virtio-rng", "fast writer", test_fast_writer, KIND_AXIS_NONE);
	return kind_tests_run(&tests, "hostile back ends");
}
