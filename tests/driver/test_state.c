/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Saved states of devices at work: a workload is cut at every point, saved, and goes on in a fresh
 * device of a second VM to the same end, to the byte. For every kind of device that is registered.
 */
#include <stdio.h>

#include "state_lab.h"

#define ROUNDS 5 /* of two buffers each: more than a ring of 8 has room for */
#define STEPS_PER_ROUND 9
#define STEPS (ROUNDS * STEPS_PER_ROUND)

/*
 * struct world - a guest at work on a device.
 * @buffers, @added, @reaped: of this round
 * @masked: the queue's vector is
 */
struct world {
	const struct device_kind *kind;
	struct driver_params params;
	struct kind_bench *bench;
	struct machine *machine;
	struct virtio_driver *driver;
	struct kind_buffer buffers[2];
	unsigned int added, reaped;
	bool masked;
};

/* ---- Moving ---- */

static struct kind_bench *bench_open(const struct world *world)
{
	struct machine_config config = { .memory_size = LAB_MEMORY,
					 .ioeventfd = world->params.ioeventfd };

	return kind_bench_create(world->kind, &config, LAB_OPTIONS);
}

static void copy_memory(struct machine *from, struct machine *to)
{
	assert_int_equal(from->ctx->memory.count, to->ctx->memory.count);
	for (unsigned int i = 0; i < from->ctx->memory.count; i++)
		memcpy(to->ctx->memory.regions[i].host, from->ctx->memory.regions[i].host,
		       from->ctx->memory.regions[i].size);
	to->heap_next = from->heap_next;
	memcpy(inproc_of(to->ctx)->msi_by_data, inproc_of(from->ctx)->msi_by_data,
	       sizeof(inproc_of(to->ctx)->msi_by_data));
}

static void copy_file(const char *from, const char *to)
{
	static char bytes[MIB(1)];
	FILE *in, *out;
	size_t len;

	if (!from[0])
		return;
	in = fopen(from, "rb");
	out = fopen(to, "r+b");
	assert_true(in && out);
	len = fread(bytes, 1, sizeof(bytes), in);
	assert_int_equal(fwrite(bytes, 1, len, out), len);
	fclose(in);
	fclose(out);
}

/* Save all, and go on with a fresh machine. */
static void world_move(struct world *world)
{
	struct kind_bench *old = world->bench, *new = bench_open(world);
	struct lab_state *state;

	assert_non_null(new);
	pci_quiesce_devices(old->machine->ctx);
	pci_quiesce_devices(new->machine->ctx);
	state = lab_take(old->machine, NULL);
	copy_memory(old->machine, new->machine);
	copy_file(old->path, new->path);
	if (lab_load(new->machine, NULL, state->bytes, state->len)) {
		machine_log_print(new->machine);
		fail_msg("the state is refused");
	}
	assert_true(lab_same(new->machine, NULL, state->bytes, state->len));
	/* What the hypervisor does for the device it does again. */
	assert_int_equal(inproc_of(new->machine->ctx)->eventfd_count,
			 inproc_of(old->machine->ctx)->eventfd_count);
	assert_memory_equal(inproc_of(new->machine->ctx)->line, inproc_of(old->machine->ctx)->line,
			    sizeof(inproc_of(old->machine->ctx)->line));
	lab_driver_move(world->driver, new->machine);
	world->bench = new;
	world->machine = new->machine;
	lab_state_free(state);
	kind_bench_destroy(old);
	pci_resume_devices(new->machine->ctx);
}

/* ---- The workload ---- */

static bool world_open(struct world *world)
{
	world->bench = bench_open(world);
	if (!world->bench)
		return false;
	world->machine = world->bench->machine;
	world->driver = driver_open(world->machine, KIND_SLOT, &world->params);
	assert_true(driver_negotiate(world->driver, world->driver->offered));
	driver_start(world->driver);
	return true;
}

static void world_close(struct world *world)
{
	driver_close(world->driver);
	kind_bench_destroy(world->bench);
}

static struct driver_queue *world_queue(struct world *world)
{
	return driver_queue(world->driver, world->kind->queue);
}

static void add(struct world *world)
{
	struct kind_buffer buffer = kind_buffer(world->kind, world->driver);

	assert_int_equal(driver_add_buf(world_queue(world), buffer.segments, buffer.out_count,
					buffer.in_count, &world->driver),
			 0);
	world->buffers[world->added++] = buffer;
}

static void kick(struct world *world)
{
	driver_kick(world_queue(world));
}

static void poll(struct world *world)
{
	machine_poll(world->machine);
}

/* Random bytes are never the same: it is enough that they are there. */
static void reap(struct world *world)
{
	struct kind_buffer *buffer = &world->buffers[world->reaped++];
	uint32_t len;

	assert_ptr_equal(driver_wait_buf(world_queue(world), &len, DRIVER_TIMEOUT_MS),
			 &world->driver);
	assert_int_equal(len, world->kind->used);
	if (world->kind->virtio_id != VIRTIO_ID_RNG)
		return;
	assert_false(kind_buffer_untouched(buffer, world->machine));
	memset(guest_ptr(world->machine, buffer->gpa + buffer->out, buffer->in), 0, buffer->in);
}

static void interrupted(struct world *world)
{
	if (world->masked)
		assert_true(pci_msix_pending(&world->driver->pci, world->kind->queue + 1U));
	else
		assert_true(driver_queue_interrupt(world_queue(world)));
	world->added = world->reaped = 0;
}

/* In every other round the interrupt comes while it is masked. */
static void mask(struct world *world)
{
	if (!world->params.msix)
		return;
	world->masked = !world->masked;
	pci_msix_mask(&world->driver->pci, world->kind->queue + 1U, world->masked);
	if (!world->masked)
		assert_true(driver_queue_interrupt(world_queue(world)));
}

static void (*const steps[STEPS_PER_ROUND])(struct world *world) = {
	add, add, kick, poll, reap, reap, poll, interrupted, mask,
};

/*
 * Run it all; before the steps for which @cut says so the world moves. Returns a copy of the
 * guest's memory.
 */
static uint8_t *world_run(struct world *world, bool (*cut)(unsigned int step, unsigned int arg),
			  unsigned int arg)
{
	const struct guest_memory_region *region;
	uint8_t *end;

	for (unsigned int i = 0; i < STEPS; i++) {
		if (cut(i, arg))
			world_move(world);
		steps[i % STEPS_PER_ROUND](world);
	}
	region = &world->machine->ctx->memory.regions[0];
	end = malloc(region->size);
	assert_non_null(end);
	memcpy(end, region->host, region->size);
	return end;
}

static bool cut_never(unsigned int step, unsigned int arg)
{
	return false;
}

static bool cut_once(unsigned int step, unsigned int arg)
{
	return step == arg;
}

static bool cut_now_and_then(unsigned int step, unsigned int arg)
{
	return step % 7 == arg;
}

static bool cut_always(unsigned int step, unsigned int arg)
{
	return true;
}

static uint8_t *world_end(const struct kind_case *test, bool (*cut)(unsigned int, unsigned int),
			  unsigned int arg)
{
	struct world world = { .kind = test->kind, .params = test->params };
	uint8_t *end;

	if (!world_open(&world))
		skip();
	end = world_run(&world, cut, arg);
	assert_int_equal(world.machine->captured.count, 0);
	world_close(&world);
	return end;
}

static void assert_same_end(const uint8_t *a, const uint8_t *b, unsigned int cut)
{
	for (size_t i = 0; i < LAB_MEMORY; i++)
		if (a[i] != b[i])
			fail_msg("cut at step %u: byte 0x%zx is 0x%02x, 0x%02x without a cut", cut,
				 i, b[i], a[i]);
}

/* ---- Tests ---- */

static void test_cut_at_each_step(void **state)
{
	struct kind_case *test = *state;
	uint8_t *whole = world_end(test, cut_never, 0);

	for (unsigned int i = 0; i < STEPS; i++) {
		uint8_t *end = world_end(test, cut_once, i);

		assert_same_end(whole, end, i);
		free(end);
	}
	free(whole);
}

static void test_cut_all_the_time(void **state)
{
	struct kind_case *test = *state;
	uint8_t *whole = world_end(test, cut_never, 0);
	uint8_t *end = world_end(test, cut_always, 0);

	assert_same_end(whole, end, 0);
	free(end);
	free(whole);
}

static void test_cut_now_and_then(void **state)
{
	const struct kind_case *test = *state;
	unsigned int first =
		4U * test->params.msix + 2U * test->params.event_idx + test->params.indirect;
	uint8_t *whole = world_end(test, cut_never, 0);
	uint8_t *end = world_end(test, cut_now_and_then, first % 7);

	assert_same_end(whole, end, first);
	free(end);
	free(whole);
}

/* virtio 1.4, 3.4: the device was suspended, and is so in the other machine until told to go on. */
static void test_suspended(void **state)
{
	const struct kind_case *test = *state;
	struct world world = { .kind = test->kind, .params = test->params };

	world.params.extra = BIT64(VIRTIO_F_SUSPEND);
	if (!world_open(&world))
		skip();
	kind_request(world.kind, world.driver);
	driver_set_status(world.driver, VIRTIO_CONFIG_S_SUSPEND);
	assert_true(driver_status(world.driver) & VIRTIO_CONFIG_S_SUSPEND);
	add(&world);
	kick(&world);
	world_move(&world);
	poll(&world);
	assert_true(driver_status(world.driver) & VIRTIO_CONFIG_S_SUSPEND);
	assert_true(kind_buffer_untouched(&world.buffers[0], world.machine));
	assert_null(driver_get_buf(world_queue(&world), NULL));
	driver_set_status(world.driver, VIRTIO_CONFIG_S_DRIVER_OK);
	reap(&world);
	interrupted(&world);
	kind_request(world.kind, world.driver);
	world_close(&world);
}

/* virtio 1.4, 2.1.2: the driver has broken it, and finds it so, until it resets it. */
static void test_broken(void **state)
{
	const struct kind_case *test = *state;
	struct world world = { .kind = test->kind, .params = test->params };

	if (!world_open(&world))
		skip();
	kind_request(world.kind, world.driver);
	world_queue(&world)->ring.avail->idx =
		(uint16_t)(world_queue(&world)->ring.avail->idx + 99);
	world.driver->interface->notify(world.driver, world_queue(&world));
	poll(&world);
	assert_true(driver_status(world.driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
	world_move(&world);
	assert_true(driver_status(world.driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
	driver_restart(world.driver);
	assert_false(driver_status(world.driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
	kind_request(world.kind, world.driver);
	world_close(&world);
}

int main(int argc, char **argv)
{
	struct kind_tests tests = { 0 };

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	kind_tests_add(&tests, "cut at each step", test_cut_at_each_step, KIND_AXIS_INTERFACE);
	kind_tests_add(&tests, "cut all the time", test_cut_all_the_time, KIND_AXIS_INTERFACE);
	kind_tests_add(&tests, "suspended", test_suspended, KIND_AXIS_NONE);
	kind_tests_add(&tests, "broken", test_broken, KIND_AXIS_NONE);
	kind_tests_add(&tests, "cut now and then", test_cut_now_and_then, KIND_AXIS_ALL);
	return kind_tests_run(&tests, "state");
}
