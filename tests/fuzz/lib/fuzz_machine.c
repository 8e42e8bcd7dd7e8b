/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A VM that is made once and reset after each input.
 */
#include "fuzz_machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/un.h>

#include "../../unit/tap_lab.h"
#include "device_kinds.h"

#define DISK_SIZE KIB(64)
#define TAP "tenon-fuzz"
#define POLL_ROUNDS 3

void fuzz_fail(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fputs("fuzz: ", stderr);
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
	va_end(args);
	abort();
}

static void swallow(void *arg, enum log_level level, const char *line)
{
}

static void print(void *arg, enum log_level level, const char *line)
{
	fprintf(stderr, "log: %s\n", line);
}

void fuzz_log_swallow(struct machine *machine)
{
	machine->captured.log.sink = getenv("FUZZ_LOG") ? print : swallow;
	machine->captured.log.level = LOG_LEVEL_DEBUG;
}

/* ---- Back ends ---- */

/* Each writes its part of the options and may set device->host_fd; false if it cannot be had here. */

static bool make_nothing(struct fuzz_device *device, char *options, size_t size)
{
	return true;
}

static bool make_disk(struct fuzz_device *device, char *options, size_t size)
{
	int fd = memfd_create("fuzz-disk", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, DISK_SIZE) < 0)
		return false;
	snprintf(options, size, "/proc/self/fd/%d,", fd);
	return true;
}

static bool make_tap(struct fuzz_device *device, char *options, size_t size)
{
	if (!lab_enter())
		return false;
	snprintf(options, size, "tap=" TAP ",");
	return true;
}

/* A socket whose other end is ours; it has no name any more once the device is there. */
static int listen_in(char *directory)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || !mkdtemp(directory))
		return -1;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", directory);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 4) < 0)
		return -1;
	return fd;
}

static bool make_socket(struct fuzz_device *device, char *options, size_t size)
{
	char directory[] = "/tmp/tenon-fuzz-XXXXXX";

	device->host_fd = listen_in(directory);
	if (device->host_fd < 0)
		return false;
	snprintf(options, size, "socket:%s/s,", directory);
	return true;
}

static void accept_socket(struct fuzz_device *device, const char *options)
{
	int listener = device->host_fd, len = (int)strcspn(options, ",");
	char path[64];

	device->host_fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	close(listener);
	snprintf(path, sizeof(path), "%.*s", len, options);
	unlink(strchr(path, '/'));
	*strrchr(path, '/') = '\0';
	rmdir(strchr(path, '/'));
}

static void attach_tap(struct fuzz_device *device, const char *options)
{
	lab_set_up(TAP, true);
	device->host_fd = lab_packet_socket(TAP, 0);
}

/* ---- Devices ---- */

/* All that can be chosen; the fuzzers' features switch them off. */
#define ALL_ON "packed=on,in_order=on,access_platform=on"

/*
 * The numbers of these are part of saved inputs: add at the end only. The timer of virtio-rng
 * would come at another moment in each run, so that its period is long.
 */
static const struct fuzz_kind {
	const char *label, *kind, *options;
	bool (*make)(struct fuzz_device *device, char *options, size_t size);
	void (*made)(struct fuzz_device *device, const char *options);
} fuzz_kinds[] = {
	{ "rng", "virtio-rng", "period=60000,queue_size=64," ALL_ON, make_nothing, NULL },
	{ "blk", "virtio-blk", "serial=fuzz,threads=1," ALL_ON, make_disk, NULL },
	{ "blk-ro", "virtio-blk", "ro,queues=3,queue_size=8,threads=1," ALL_ON, make_disk, NULL },
	{ "net", "virtio-net", ALL_ON, make_tap, attach_tap },
	{ "console", "virtio-console", ALL_ON, make_socket, accept_socket },
	{ "console-ports", "virtio-console", "port=a:null,port=b:null,queue_size=16," ALL_ON,
	  make_socket, accept_socket },
};

static bool wanted(const char *only, const char *label)
{
	return !only || !strcmp(only, label);
}

static struct fuzz_device *device_slot(struct fuzz_machine *machine, const char *label)
{
	struct fuzz_device *device = &machine->devices[machine->count++];

	assert_true(machine->count <= FUZZ_DEVICES_MAX);
	*device = (struct fuzz_device) { .label = label, .host_fd = -1 };
	return device;
}

static void add_kind(struct fuzz_machine *machine, const struct fuzz_kind *kind, const char *only)
{
	struct fuzz_device *device = device_slot(machine, kind->label);
	char own[128] = "", spec[320];

	if (!wanted(only, kind->label) || !kind->make(device, own, sizeof(own)))
		return;
	snprintf(spec, sizeof(spec), "%u,%s,%s%s", machine->count, kind->kind, own, kind->options);
	device->dev = machine_add(machine->machine, spec);
	if (kind->made)
		kind->made(device, own);
}

/* Kinds that nobody has thought of here, as the driver tests make them. */
static void add_others(struct fuzz_machine *machine, const char *only)
{
	const struct device_kind *kind;

	for (unsigned int i = 0; (kind = device_kind_at(i)); i++) {
		struct kind_bench bench = { .kind = kind, .machine = machine->machine };
		char own[160] = "", spec[320];
		struct fuzz_device *device;
		bool known = false;

		for (unsigned int j = 0; j < ARRAY_SIZE(fuzz_kinds); j++)
			known |= !strcmp(fuzz_kinds[j].kind, kind->name);
		if (known)
			continue;
		device = device_slot(machine, kind->name);
		if (!wanted(only, kind->name) ||
		    (kind->make && !kind->make(&bench, own, sizeof(own))))
			continue;
		snprintf(spec, sizeof(spec), "%u,%s,%s%s" ALL_ON, machine->count, kind->name, own,
			 own[0] ? "," : "");
		device->dev = machine_add(machine->machine, spec);
		if (kind->unmake)
			kind->unmake(&bench);
	}
}

struct fuzz_device *fuzz_device_find(struct fuzz_machine *machine, const char *label)
{
	for (unsigned int i = 0; i < machine->count; i++)
		if (machine->devices[i].dev && !strcmp(machine->devices[i].label, label))
			return &machine->devices[i];
	return NULL;
}

/* ---- What a reset must bring back ---- */

static uint64_t bar_register(struct fuzz_device *device, uint64_t offset, unsigned int size)
{
	uint64_t value = 0;

	pthread_mutex_lock(&device->dev->lock);
	pci_bar_access(device->dev, VIRTIO_MODERN_BAR, false, offset, size, &value);
	pthread_mutex_unlock(&device->dev->lock);
	return value;
}

static void bar_register_set(struct fuzz_device *device, uint64_t offset, unsigned int size,
			     uint64_t value)
{
	pthread_mutex_lock(&device->dev->lock);
	pci_bar_access(device->dev, VIRTIO_MODERN_BAR, true, offset, size, &value);
	pthread_mutex_unlock(&device->dev->lock);
}

struct snapshot {
	uint8_t *to;
	size_t size;
};

static void snapshot_add(struct snapshot *snapshot, uint64_t value, unsigned int size)
{
	assert_true(snapshot->size + size <= FUZZ_SNAPSHOT_MAX);
	bytes_put(snapshot->to + snapshot->size, size, value);
	snapshot->size += size;
}

/* All registers but the configuration generation, which only ever changes (virtio 1.4, 2.5.1). */
static size_t snapshot_take(struct fuzz_device *device, uint8_t *to)
{
	static const struct {
		uint8_t offset, size;
	} common[] = { { 0, 4 },  { 4, 4 },  { 8, 4 },	{ 12, 4 }, { 16, 2 },
		       { 18, 2 }, { 20, 1 }, { 22, 2 }, { 56, 2 } },
	  queue[] = { { 24, 2 }, { 26, 2 }, { 28, 2 }, { 32, 8 }, { 40, 8 }, { 48, 8 }, { 58, 2 } };
	struct virtio_common *vc = fuzz_common(device);
	struct snapshot snapshot = { .to = to };

	for (unsigned int i = 0; i < 256; i += 4)
		snapshot_add(&snapshot, pci_cfg_read(device->dev, i, 4), 4);
	for (unsigned int i = 0; i < ARRAY_SIZE(common); i++)
		snapshot_add(&snapshot, bar_register(device, common[i].offset, common[i].size),
			     common[i].size);
	for (unsigned int i = 0; i < MIN(vc->nvq, FUZZ_QUEUES); i++) {
		bar_register_set(device, VIRTIO_PCI_COMMON_Q_SELECT, 2, i);
		for (unsigned int j = 0; j < ARRAY_SIZE(queue); j++)
			snapshot_add(&snapshot,
				     bar_register(device, queue[j].offset, queue[j].size),
				     queue[j].size);
	}
	bar_register_set(device, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	for (unsigned int i = 0; i < vc->ops->cfgsize; i++)
		snapshot_add(&snapshot, bar_register(device, VIRTIO_DEVICE_OFFSET + i, 1), 1);
	return snapshot.size;
}

static void snapshot_check(struct fuzz_device *device)
{
	uint8_t now[FUZZ_SNAPSHOT_MAX];
	size_t size = snapshot_take(device, now);

	for (size_t i = 0; i < MAX(size, device->as_new_size); i++)
		if (size != device->as_new_size || now[i] != device->as_new[i])
			fuzz_fail("%s: after a reset, register byte %zu is 0x%02x and not 0x%02x",
				  device->label, i, now[i], device->as_new[i]);
}

/* ---- The machine ---- */

/* With ACCESS_PLATFORM: bit 40 of an address means nothing, and bit 41 that it is nowhere. */
static uint64_t translate(struct virtio_common *vc, uint64_t addr, uint64_t len, bool write)
{
	return addr & BIT64(41) ? UINT64_MAX : addr & ~BIT64(40);
}

static void replace_ram(struct vmctx *ctx)
{
	const uint64_t sizes[] = { FUZZ_RAM_BORDER, FUZZ_RAM_SIZE - FUZZ_RAM_BORDER };
	uint64_t gpa = 0;

	guest_memory_destroy(&ctx->memory);
	ctx->memory.count = ARRAY_SIZE(sizes);
	ctx->memory.total = FUZZ_RAM_SIZE;
	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		ctx->memory.regions[i] = (struct guest_memory_region) {
			.gpa = gpa, .size = sizes[i], .host = calloc(1, sizes[i])
		};
		assert_non_null(ctx->memory.regions[i].host);
		gpa += sizes[i];
	}
}

struct fuzz_machine *fuzz_machine_create(const char *label)
{
	const struct machine_config config = { .memory_size = MIB(2) };
	struct fuzz_machine *machine = calloc(1, sizeof(*machine));

	assert_non_null(machine);
	machine->machine = machine_create(&config);
	machine->ctx = machine->machine->ctx;
	machine->ctx->config.no_reboot = true;
	fuzz_log_swallow(machine->machine);
	replace_ram(machine->ctx);
	for (unsigned int i = 0; i < ARRAY_SIZE(fuzz_kinds); i++)
		add_kind(machine, &fuzz_kinds[i], label);
	add_others(machine, label);
	vm_reset_devices(machine->ctx);
	for (unsigned int i = 0; i < machine->count; i++) {
		struct fuzz_device *device = &machine->devices[i];

		if (!device->dev)
			continue;
		fuzz_common(device)->translate = translate;
		device->as_new_size = snapshot_take(device, device->as_new);
	}
	return machine;
}

/* The host takes all that was sent to it. */
static void host_drain(struct fuzz_device *device)
{
	char buffer[4096];

	for (int i = 0; device->host_fd >= 0 && i < 256; i++)
		if (recv(device->host_fd, buffer, sizeof(buffer), MSG_DONTWAIT) <= 0)
			return;
}

void fuzz_host_input(struct fuzz_device *device, struct fuzz_input *input)
{
	uint8_t bytes[256];
	size_t len = fuzz_u8(input) + 1U;

	fuzz_bytes(input, bytes, len);
	if (device->host_fd >= 0 &&
	    send(device->host_fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EBADF)
		fuzz_fail("%s: its host end is gone", device->label);
}

void fuzz_machine_poll(struct fuzz_machine *machine)
{
	for (int i = 0; i < POLL_ROUNDS; i++)
		event_loop_poll(machine->ctx->io_loop, 0);
	event_loop_poll(machine->ctx->main_loop, 0);
	for (unsigned int i = 0; i < machine->count; i++)
		host_drain(&machine->devices[i]);
}

void fuzz_machine_drain(struct fuzz_machine *machine)
{
	fuzz_machine_poll(machine);
	pci_quiesce_devices(machine->ctx);
	pci_resume_devices(machine->ctx);
	fuzz_machine_poll(machine);
	pci_quiesce_devices(machine->ctx);
	pci_resume_devices(machine->ctx);
}

void fuzz_machine_reset(struct fuzz_machine *machine, struct fuzz_device *device)
{
	struct vmctx *ctx = machine->ctx;

	vm_reset_devices(ctx);
	fuzz_machine_poll(machine);
	if (device->dev)
		snapshot_check(device);
	for (unsigned int i = 0; i < ctx->memory.count; i++)
		memset(ctx->memory.regions[i].host, 0, ctx->memory.regions[i].size);
	memset(ctx->log->sites, 0, sizeof(ctx->log->sites));
}
