/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_user: a front end says anything to a disk of 3 queues, shares memory, inflight regions and logs,
 * and writes to all of them whatever it wants. After each session the back end has kept nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../../devicemodel/hw/pci/virtio/vhost_user_device.h"
#include "lib/fuzz_machine.h"

#define STEPS_MAX 64
#define QUEUES 3U
#define RING_SIZE 16U
#define RAM_SIZE KIB(256)
#define SHARED_SIZE KIB(64) /* inflight regions and logs */
#define RING_SPACE                                                                                 \
	0x4000U /* of each queue: descriptors, then the driver's area, then the device's */
#define DRIVER_AREA 0x1000U
#define DEVICE_AREA 0x2000U
#define BUFFERS 0x10000U
#define USER_BASE (UINT64_C(1) << 40)
#define FDS_MAX 12

/*
 * struct fuzz_front - what there is once, and the session.
 * @files: to be sent: RAM, shared memory, an eventfd, a pipe
 * @position, @wrap: of queue i: where its next buffer goes
 * @region: the inflight region that the back end made
 */
struct fuzz_front {
	struct machine *machine;
	struct event_loop *loop;
	struct vhost_user_device *device;
	struct sockaddr_un address;
	socklen_t address_size;
	int files[4];
	uint8_t *ram, *shared;

	int socket;
	bool packed;
	uint16_t position[QUEUES];
	bool wrap[QUEUES];
	uint8_t *region;
	size_t region_size;
};

/* ---- What there is once ---- */

static int make_memory(const char *name, size_t size, uint8_t **memory)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
		abort();
	*memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (*memory == MAP_FAILED)
		abort();
	return fd;
}

/* On a socket without a file: the kernel chooses its name. */
static int make_listener(struct fuzz_front *front)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	front->address.sun_family = AF_UNIX;
	front->address_size = sizeof(front->address);
	if (bind(fd, (struct sockaddr *)&front->address, sizeof(sa_family_t)) < 0 ||
	    getsockname(fd, (struct sockaddr *)&front->address, &front->address_size) < 0 ||
	    listen(fd, 4) < 0)
		abort();
	return fd;
}

static struct fuzz_front *front_make(void)
{
	struct fuzz_front *front = calloc(1, sizeof(*front));
	struct vhost_user_device_config config = {
		.kind = virtio_device_find("virtio-blk"),
		.options = "null:64K,queues=3,queue_size=64,packed=on,in_order=on,poll=off",
		.name = "fuzz",
	};
	int ends[2];

	front->machine = machine_create(NULL);
	fuzz_log_swallow(front->machine);
	front->loop = event_loop_create("fuzz");
	front->files[0] = make_memory("ram", RAM_SIZE, &front->ram);
	front->files[1] = make_memory("shared", SHARED_SIZE, &front->shared);
	front->files[2] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		abort();
	front->files[3] = ends[1];
	config.fd = make_listener(front);
	config.loop = front->loop;
	front->device = vhost_user_device_create(front->machine->ctx->log, &config);
	if (!front->device)
		abort();
	return front;
}

/* ---- Messages ---- */

static void poll_loop(struct fuzz_front *front)
{
	for (int i = 0; i < 4; i++)
		event_loop_poll(front->loop, 0);
}

static void region_forget(struct fuzz_front *front)
{
	if (front->region)
		munmap(front->region, front->region_size);
	front->region = NULL;
}

/* The first descriptor that comes is an inflight region. */
static void take_fd(struct fuzz_front *front, int fd)
{
	off_t size = lseek(fd, 0, SEEK_END);

	region_forget(front);
	front->region_size = (size_t)size;
	front->region = mmap(NULL, front->region_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (front->region == MAP_FAILED)
		front->region = NULL;
	close(fd);
}

static void read_answers(struct fuzz_front *front)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	uint8_t bytes[1024];

	for (;;) {
		struct iovec iov = { bytes, sizeof(bytes) };
		struct msghdr msg = { .msg_iov = &iov,
				      .msg_iovlen = 1,
				      .msg_control = &control,
				      .msg_controllen = sizeof(control) };
		int fd;

		if (recvmsg(front->socket, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) <= 0)
			return;
		if (!CMSG_FIRSTHDR(&msg))
			continue;
		memcpy(&fd, CMSG_DATA(&control.header), sizeof(fd));
		take_fd(front, fd);
	}
}

static void send_bytes(struct fuzz_front *front, const void *bytes, size_t size, const int *fds,
		       unsigned int count)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int) * FDS_MAX)];
	} control = { 0 };
	struct iovec iov = { (void *)(uintptr_t)bytes, size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (count) {
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * count);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int) * count);
		memcpy(CMSG_DATA(&control.header), fds, sizeof(int) * count);
	}
	sendmsg(front->socket, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	poll_loop(front);
	read_answers(front);
}

static void send_message(struct fuzz_front *front, uint32_t request, uint32_t flags,
			 const void *payload, uint32_t size, const int *fds, unsigned int count)
{
	uint8_t bytes[sizeof(struct vhost_user_header) + sizeof(union vhost_user_payload)];
	const struct vhost_user_header header = { request, flags, size };

	memcpy(bytes, &header, sizeof(header));
	memcpy(bytes + sizeof(header), payload, size);
	send_bytes(front, bytes, sizeof(header) + size, fds, count);
}

static void send_plain(struct fuzz_front *front, uint32_t request, const void *payload,
		       uint32_t size, int fd)
{
	send_message(front, request, VHOST_USER_VERSION, payload, size, &fd, fd >= 0);
}

static void send_u64(struct fuzz_front *front, uint32_t request, uint64_t value, int fd)
{
	send_plain(front, request, &value, sizeof(value), fd);
}

static void send_state(struct fuzz_front *front, uint32_t request, uint32_t index, uint32_t num)
{
	const struct vhost_user_vring_state state = { index, num };

	send_plain(front, request, &state, sizeof(state), -1);
}

/* ---- Steps of a session. Each takes what it needs of the input. ---- */

/* Near what makes sense: 0, 1, an address, the end of something. */
static uint64_t any_number(struct fuzz_input *input)
{
	uint8_t choice = fuzz_u8(input);

	switch (choice % 8) {
	case 0:
		return choice / 8;
	case 1:
		return USER_BASE + (uint64_t)(choice / 8) * 0x1000;
	case 2:
		return (uint64_t)(choice / 8) * 0x1000;
	case 3:
		return RAM_SIZE - choice / 8;
	case 4:
		return UINT64_MAX - choice / 8;
	case 5:
		return BIT64(choice / 4);
	case 6:
		return fuzz_u16(input);
	default:
		return fuzz_u64(input);
	}
}

/* Words of numbers near what makes sense, or bytes as they are. */
static void any_payload(struct fuzz_input *input, uint8_t *payload, uint32_t size)
{
	bool raw = fuzz_u8(input) & 1;

	for (uint32_t at = 0; at < size; at += 8) {
		uint64_t word = raw ? fuzz_u64(input) : any_number(input);

		memcpy(payload + at, &word, MIN(8, size - at));
	}
}

static void do_message(struct fuzz_front *front, struct fuzz_input *input)
{
	static const uint32_t sizes[] = { 0, 8, 8, 8, 12, 20, 40, 40, 32, 16, 24, 256, 512 };
	uint32_t request = fuzz_u8(input) % (VHOST_USER_REQUESTS + 2);
	uint8_t shape = fuzz_u8(input), files = fuzz_u8(input);
	uint32_t size = sizes[shape % ARRAY_SIZE(sizes)];
	uint32_t flags = VHOST_USER_VERSION | (shape & 0x80 ? VHOST_USER_FLAG_NEED_REPLY : 0);
	uint8_t payload[sizeof(union vhost_user_payload)];
	unsigned int count = files % 16 < 8 ? files % 16 % 3 : files % FDS_MAX;
	int fds[FDS_MAX];

	any_payload(input, payload, size);
	for (unsigned int i = 0; i < count; i++)
		fds[i] = front->files[(files / 16 + i) % ARRAY_SIZE(front->files)];
	send_message(front, request, flags, payload, size, fds, count);
}

/* A message of the right shape for its number, with a few numbers of the input's choice. */
static void do_ring_message(struct fuzz_front *front, struct fuzz_input *input)
{
	static const uint32_t requests[] = { VHOST_USER_SET_VRING_NUM, VHOST_USER_SET_VRING_BASE,
					     VHOST_USER_GET_VRING_BASE,
					     VHOST_USER_SET_VRING_ENABLE };
	uint8_t choice = fuzz_u8(input);

	send_state(front, requests[choice % 4], choice / 4 % 4, (uint32_t)any_number(input));
}

static void do_bytes(struct fuzz_front *front, struct fuzz_input *input)
{
	uint8_t bytes[64];
	size_t size = fuzz_u8(input) % sizeof(bytes);

	fuzz_bytes(input, bytes, size);
	send_bytes(front, bytes, size, front->files, fuzz_u8(input) % 3);
}

static void start_ring(struct fuzz_front *front, unsigned int index, uint32_t base, bool log)
{
	uint64_t ring = USER_BASE + index * RING_SPACE;
	const struct vhost_user_vring_addr addr = { .index = index,
						    .flags = log,
						    .desc = ring,
						    .avail = ring + DRIVER_AREA,
						    .used = ring + DEVICE_AREA,
						    .log = index * RING_SPACE + DEVICE_AREA };

	send_state(front, VHOST_USER_SET_VRING_NUM, index, RING_SIZE);
	send_state(front, VHOST_USER_SET_VRING_BASE, index, base);
	send_plain(front, VHOST_USER_SET_VRING_ADDR, &addr, sizeof(addr), -1);
	send_u64(front, VHOST_USER_SET_VRING_CALL, index, front->files[2]);
	send_u64(front, VHOST_USER_SET_VRING_KICK, index, front->files[2]);
	send_state(front, VHOST_USER_SET_VRING_ENABLE, index, 1);
}

static void set_memory(struct fuzz_front *front)
{
	const struct vhost_user_memory table = {
		.count = 1,
		.regions = { { .gpa = 0, .size = RAM_SIZE, .user_addr = USER_BASE } },
	};

	send_plain(front, VHOST_USER_SET_MEM_TABLE, &table,
		   offsetof(struct vhost_user_memory, regions[1]), front->files[0]);
}

/* All that makes a session run, with the choices of one byte. */
static void do_session(struct fuzz_front *front, struct fuzz_input *input)
{
	const struct vhost_user_inflight inflight = { SHARED_SIZE / 2, 0, QUEUES, RING_SIZE };
	const struct vhost_user_log log = { SHARED_SIZE / 2, SHARED_SIZE / 2 };
	uint8_t choice = fuzz_u8(input);
	uint64_t features = BIT64(VIRTIO_F_VERSION_1) | BIT64(VHOST_USER_F_PROTOCOL_FEATURES);
	bool logged = choice & 8;

	front->packed = choice & 1;
	features |= front->packed ? BIT64(VIRTIO_F_RING_PACKED) : 0;
	features |= choice & 2 ? BIT64(VIRTIO_RING_F_EVENT_IDX) | BIT64(VIRTIO_RING_F_INDIRECT_DESC)
			       : 0;
	features |= choice & 32 ? BIT64(VIRTIO_F_IN_ORDER) : 0;
	features |= logged ? BIT64(VHOST_USER_F_LOG_ALL) : 0;
	send_u64(front, VHOST_USER_SET_PROTOCOL_FEATURES,
		 0x1b22b & ~(choice & 64 ? BIT64(VHOST_USER_PROTOCOL_F_REPLY_ACK) : 0), -1);
	if (logged)
		send_plain(front, VHOST_USER_SET_LOG_BASE, &log, sizeof(log), front->files[1]);
	send_u64(front, VHOST_USER_SET_FEATURES, features, -1);
	set_memory(front);
	if (choice & 4)
		send_plain(front,
			   choice & 16 ? VHOST_USER_SET_INFLIGHT_FD : VHOST_USER_GET_INFLIGHT_FD,
			   &inflight, sizeof(inflight), choice & 16 ? front->files[1] : -1);
	for (unsigned int i = 0; i < QUEUES; i++) {
		front->position[i] = 0;
		front->wrap[i] = true;
		start_ring(front, i, front->packed ? 0x80008000 : 0, logged);
	}
	send_u64(front, VHOST_USER_SET_STATUS, 0xf, -1);
}

static void do_kick(struct fuzz_front *front, struct fuzz_input *input)
{
	uint64_t one = 1;

	if (write(front->files[2], &one, sizeof(one)) < 0 && errno != EAGAIN)
		abort();
	poll_loop(front);
}

/* Anything in the RAM, the rings more often. */
static void do_ram(struct fuzz_front *front, struct fuzz_input *input)
{
	uint8_t where = fuzz_u8(input), bytes[32];
	size_t size = fuzz_u8(input) % sizeof(bytes);
	uint64_t at = where & 0x80 ? (uint64_t)fuzz_u16(input) * 4 % (RAM_SIZE - sizeof(bytes))
				   : where % QUEUES * RING_SPACE + (where / 4) % 3 * 0x1000 +
					     fuzz_u8(input);

	fuzz_bytes(input, bytes, size);
	memcpy(front->ram + at, bytes, size);
}

/* Anything in the inflight region or the log. */
static void do_shared(struct fuzz_front *front, struct fuzz_input *input)
{
	uint8_t *memory = front->region ? front->region : front->shared;
	size_t room = front->region ? front->region_size : SHARED_SIZE, at = fuzz_u16(input);
	uint8_t bytes[16];
	size_t size = fuzz_u8(input) % sizeof(bytes);

	fuzz_bytes(input, bytes, size);
	if (room >= sizeof(bytes))
		memcpy(memory + at % (room - sizeof(bytes) + 1), bytes, size);
}

static void put_descriptor(struct fuzz_front *front, unsigned int index, unsigned int slot,
			   uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
	uint8_t *ring = front->ram + index * RING_SPACE + slot % RING_SIZE * 16;

	if (front->packed)
		flags |= front->wrap[index] ? BIT32(VRING_PACKED_DESC_F_AVAIL)
					    : BIT32(VRING_PACKED_DESC_F_USED);
	memcpy(ring, &addr, 8);
	memcpy(ring + 8, &len, 4);
	memcpy(ring + 12, front->packed ? &next : &flags, 2);
	memcpy(ring + 14, front->packed ? &flags : &next, 2);
}

static void made_available(struct fuzz_front *front, unsigned int index, uint16_t head)
{
	uint8_t *avail = front->ram + index * RING_SPACE + DRIVER_AREA;

	memcpy(avail + 4 + front->position[index] % RING_SIZE * 2, &head, 2);
	front->position[index]++;
	memcpy(avail + 2, &front->position[index], 2);
}

/* A request of the disk: three descriptors, which follow each other in the ring. */
static void do_request(struct fuzz_front *front, struct fuzz_input *input)
{
	uint8_t choice = fuzz_u8(input), odd = fuzz_u8(input);
	unsigned int index = choice % QUEUES;
	uint16_t head = front->packed ? front->position[index] : (uint16_t)(odd % RING_SIZE);
	uint64_t buffer = BUFFERS + (uint64_t)(choice / 4) * 0x1000;
	struct virtio_blk_outhdr header = { .type = choice & 4 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT,
					    .sector = odd };
	uint16_t data_flags = choice & 4 ? VRING_DESC_F_WRITE : 0;

	buffer %= RAM_SIZE - 0x2000;
	memcpy(front->ram + buffer, &header, sizeof(header));
	for (unsigned int i = 0; i < 3; i++) {
		static const uint32_t lengths[] = { sizeof(header), 512, 1 };
		uint16_t flags = i == 0 ? 0 : i == 1 ? data_flags : VRING_DESC_F_WRITE;

		put_descriptor(front, index, head + i, buffer + i * 0x400, lengths[i],
			       flags | (i < 2 ? VRING_DESC_F_NEXT : 0),
			       front->packed ? odd % RING_SIZE
					     : (uint16_t)((head + i + 1) % RING_SIZE));
		if (!front->packed || ++front->position[index] < RING_SIZE)
			continue;
		front->position[index] = 0;
		front->wrap[index] = !front->wrap[index];
	}
	if (!front->packed)
		made_available(front, index, head);
	if (choice & 0x80)
		do_kick(front, input);
}

static void connect_front(struct fuzz_front *front)
{
	front->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (connect(front->socket, (struct sockaddr *)&front->address, front->address_size) < 0)
		abort();
	poll_loop(front);
}

static void hang_up(struct fuzz_front *front)
{
	close(front->socket);
	poll_loop(front);
	for (int i = 0; front->device->session.fd >= 0; i++) {
		if (i == 1000)
			fuzz_fail("the session does not end");
		event_loop_poll(front->loop, 1);
	}
}

/* The rings stay, and the inflight region that we know. */
static void do_reconnect(struct fuzz_front *front, struct fuzz_input *input)
{
	hang_up(front);
	connect_front(front);
}

/* The numbers of these are part of saved inputs: add at the end only, in place of a repeated one. */
static void (*const steps[])(struct fuzz_front *front, struct fuzz_input *input) = {
	do_message, do_ring_message, do_bytes,	 do_session, do_kick,	   do_ram,
	do_shared,  do_request,	     do_message, do_request, do_reconnect, do_request,
	do_session, do_message,	     do_request, do_ram,
};

/* ---- What must hold ---- */

static int lowest_free_fd(void)
{
	int fd = dup(STDERR_FILENO);

	close(fd);
	return fd;
}

static void check_left_nothing(struct fuzz_front *front, int free_fd)
{
	const struct vhost_user_device *device = front->device;

	if (lowest_free_fd() != free_fd)
		fuzz_fail("a descriptor was left open");
	if (device->memory.count || device->session.log.bits || device->session.inflight.host)
		fuzz_fail("memory is still mapped");
	if (device->vc->status || device->vc->features_final)
		fuzz_fail("the device is not as new: status 0x%x", device->vc->status);
	for (unsigned int i = 0; i < device->ring_count; i++)
		if (device->rings[i].vq->enabled || device->rings[i].kick_fd >= 0 ||
		    device->rings[i].call.fd >= 0 || device->rings[i].err.fd >= 0)
			fuzz_fail("ring %u is not as new", i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fuzz_front *front; /* libFuzzer hands nothing through */
	struct fuzz_input input = { data, size };
	int free_fd;

	if (!front)
		front = front_make();
	memset(front->ram, 0, RAM_SIZE);
	memset(front->shared, 0, SHARED_SIZE);
	front->packed = false;
	memset(front->position, 0, sizeof(front->position));
	memset(front->wrap, true, sizeof(front->wrap));
	free_fd = lowest_free_fd();
	connect_front(front);
	for (unsigned int i = 0; i < STEPS_MAX && fuzz_more(&input); i++)
		steps[fuzz_u8(&input) % ARRAY_SIZE(steps)](front, &input);
	hang_up(front);
	region_forget(front);
	check_left_nothing(front, free_fd);
	return 0;
}
