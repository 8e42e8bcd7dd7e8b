/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Offload switched on and off a hundred times under a driver that works, with all threads there
 * are: every byte comes back, in order, and the driver sleeps until it is told, so a notification
 * that is lost is a test that fails.
 */
#include <time.h>

#include "relay_device.h"

#define SWITCHES 100
#define REQUEST_MAX 240
#define PATIENCE_NS UINT64_C(20000000000)

enum shaking { SHAKE_NOT, SHAKE_VECTORS, SHAKE_BARS };

struct request {
	uint64_t gpa;
	uint32_t len, number;
	uint8_t seed;
};

/* struct flow - one queue's: requests @done .. @made - 1 are with the device. */
struct flow {
	struct driver_queue *queue;
	struct request requests[RELAY_QUEUE_SIZE];
	uint32_t made, done;
};

struct stress {
	struct relay_bench bench;
	struct flow flows[RELAY_QUEUES];
	enum shaking shaking;
	uint32_t seed;
	uint64_t deadline;
	bool switched; /* the other thread is done */
	unsigned int failed_switches;
};

static uint32_t next_random(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

static void pause_us(uint32_t us)
{
	struct timespec time = { .tv_nsec = (long)us * 1000 };

	nanosleep(&time, NULL);
}

/* Chains that were used so far by the kernel, or by us. */
static uint64_t chains_used(struct relay_bench *bench, bool kernel)
{
	uint64_t ours;

	if (kernel)
		return fake_vhost_chains(bench->fake);
	pthread_mutex_lock(&bench->dev->lock);
	ours = bench->relay->chains;
	pthread_mutex_unlock(&bench->dev->lock);
	return ours;
}

/* Whoever has the queues now uses a chain, unless a second is not enough for that. */
static void wait_used(struct relay_bench *bench, bool kernel, uint64_t before)
{
	for (unsigned int i = 0; i < 10000 && chains_used(bench, kernel) == before; i++)
		pause_us(100);
}

static void *switcher(void *arg)
{
	struct stress *stress = arg;
	uint32_t seed = 4711;

	for (unsigned int i = 0; i < SWITCHES; i++) {
		bool kernel = !(i & 1);
		uint64_t before = chains_used(&stress->bench, kernel);

		stress->failed_switches += relay_switch(&stress->bench, kernel) != 0;
		pause_us(next_random(&seed) % 1000);
		if (next_random(&seed) % 4) /* else it may be too short for any */
			wait_used(&stress->bench, kernel, before);
	}
	__atomic_store_n(&stress->switched, true, __ATOMIC_RELEASE);
	return NULL;
}

/* ---- The driver ---- */

static uint8_t byte_of(const struct request *request, uint32_t at)
{
	return (uint8_t)(request->seed + at * 7 + request->number);
}

static bool flow_add(struct stress *stress, struct flow *flow)
{
	struct request *request = &flow->requests[flow->made % RELAY_QUEUE_SIZE];
	struct machine *machine = stress->bench.machine;
	struct segment segments[2];
	uint8_t *out;

	if (flow->made - flow->done == RELAY_QUEUE_SIZE / 2) /* two descriptors each */
		return false;
	request->number = flow->made++;
	request->seed = (uint8_t)next_random(&stress->seed);
	request->len = 1 + next_random(&stress->seed) % REQUEST_MAX;
	out = guest_ptr(machine, request->gpa, 2 * REQUEST_MAX);
	for (uint32_t i = 0; i < request->len; i++)
		out[i] = byte_of(request, i);
	memset(out + REQUEST_MAX, DRIVER_POISON, REQUEST_MAX);
	segments[0] = (struct segment) { request->gpa, request->len };
	segments[1] = (struct segment) { request->gpa + REQUEST_MAX, request->len };
	assert_int_equal(driver_add_buf(flow->queue, segments, 1, 1, request), 0);
	return true;
}

static void flow_check(struct stress *stress, struct flow *flow, const struct request *request,
		       uint32_t len)
{
	const uint8_t *in =
		guest_ptr(stress->bench.machine, request->gpa + REQUEST_MAX, REQUEST_MAX);

	assert_int_equal(request->number, flow->done);
	assert_int_equal(len, request->len);
	for (uint32_t i = 0; i < len; i++)
		assert_int_equal(in[i], (uint8_t)(byte_of(request, i) + 1));
}

static void flow_take(struct stress *stress, struct flow *flow)
{
	struct request *request;
	uint32_t len;

	while ((request = driver_get_buf(flow->queue, &len))) {
		flow_check(stress, flow, request, len);
		flow->done++;
	}
}

static void flow_give(struct stress *stress, struct flow *flow)
{
	uint32_t count = 1 + next_random(&stress->seed) % (RELAY_QUEUE_SIZE / 2);

	while (count-- && flow_add(stress, flow))
		;
	driver_kick(flow->queue);
}

/* What Linux does when an interrupt moves to another processor, and what it hardly ever does. */
static void shake(struct stress *stress)
{
	struct virtio_driver *driver = stress->bench.driver;
	struct pci_function *pci = &driver->pci;
	unsigned int bar = driver->params.legacy ? 0 : driver->notify.bar;
	uint32_t random = next_random(&stress->seed);
	uint64_t size = pci->bar[bar].size;

	if (stress->shaking == SHAKE_BARS && random % 8 == 0)
		pci_move_bar(pci, bar,
			     random & 256 ? pci->bar[bar].addr ^ size * 16 : pci->bar[bar].addr);
	if (stress->shaking != SHAKE_VECTORS || random % 4)
		return;
	pci_msix_mask(pci, 1 + random / 256 % RELAY_QUEUES, true);
	if (random & 16)
		pause_us(random / 65536 % 100);
	for (unsigned int i = 0; i < RELAY_QUEUES; i++)
		pci_msix_mask(pci, 1 + i, false);
}

/* Only when it was told does the driver look; the line and the ISR are of both queues. */
static bool take_told(struct stress *stress)
{
	bool msix = stress->bench.driver->params.msix, told = false;

	for (unsigned int i = 0; i < RELAY_QUEUES; i++) {
		bool mine = driver_queue_interrupt(stress->flows[i].queue);

		if (mine && msix)
			flow_take(stress, &stress->flows[i]);
		told |= mine;
	}
	for (unsigned int i = 0; i < RELAY_QUEUES && told && !msix; i++)
		flow_take(stress, &stress->flows[i]);
	return told;
}

static void wait_told(struct stress *stress)
{
	uint64_t deadline = vm_clock_ns(stress->bench.machine->ctx) + PATIENCE_NS;

	while (!take_told(stress)) {
		if (vm_clock_ns(stress->bench.machine->ctx) > deadline) {
			machine_log_print(stress->bench.machine);
			fail_msg("a notification was lost: %u and %u requests wait, of which the "
				 "device used %d and %d",
				 stress->flows[0].made - stress->flows[0].done,
				 stress->flows[1].made - stress->flows[1].done,
				 driver_pending(stress->flows[0].queue),
				 driver_pending(stress->flows[1].queue));
		}
		pause_us(20);
	}
}

static bool flows_idle(const struct stress *stress)
{
	for (unsigned int i = 0; i < RELAY_QUEUES; i++)
		if (stress->flows[i].made != stress->flows[i].done)
			return false;
	return true;
}

static void drive(struct stress *stress)
{
	while (!__atomic_load_n(&stress->switched, __ATOMIC_ACQUIRE)) {
		for (unsigned int i = 0; i < RELAY_QUEUES; i++)
			flow_give(stress, &stress->flows[i]);
		shake(stress);
		wait_told(stress);
	}
	while (!flows_idle(stress))
		wait_told(stress);
}

static void flow_create(struct stress *stress, unsigned int index)
{
	struct flow *flow = &stress->flows[index];

	flow->queue = driver_queue(stress->bench.driver, index);
	for (unsigned int i = 0; i < RELAY_QUEUE_SIZE; i++)
		flow->requests[i].gpa = guest_alloc(stress->bench.machine, 2 * REQUEST_MAX, 16);
}

static void run(const struct driver_params *params, enum shaking shaking)
{
	struct machine_config config = { .ioeventfd = params->ioeventfd, .io_thread = true };
	struct stress stress = { .shaking = shaking, .seed = 12345 };
	struct relay_bench *bench = &stress.bench;
	pthread_t thread;
	uint64_t ours;

	*bench = relay_bench_create(&config, NULL);
	bench->driver = driver_run(bench->machine, RELAY_SLOT, params, 0);
	for (unsigned int i = 0; i < RELAY_QUEUES; i++)
		flow_create(&stress, i);
	assert_int_equal(pthread_create(&thread, NULL, switcher, &stress), 0);
	drive(&stress);
	pthread_join(thread, NULL);
	ours = chains_used(bench, false);
	assert_int_equal(stress.failed_switches, 0);
	assert_int_equal(driver_status(bench->driver) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
	assert_true(fake_vhost_chains(bench->fake) >= SWITCHES / 4 && ours >= SWITCHES / 4);
	assert_int_equal(fake_vhost_chains(bench->fake) + ours,
			 stress.flows[0].done + stress.flows[1].done);
	relay_bench_destroy(bench);
}

static void test_switches(void **state)
{
	for (unsigned int i = 0; i < 32; i++) { /* split rings */
		struct driver_params params = driver_params_at(i);

		run(&params, SHAKE_NOT);
	}
}

static void test_switches_vectors(void **state)
{
	for (unsigned int i = 0; i < 8; i++) {
		struct driver_params params = {
			.legacy = i & 1, .event_idx = i & 2, .ioeventfd = i & 4, .msix = true
		};

		run(&params, SHAKE_VECTORS);
	}
}

static void test_switches_bars(void **state)
{
	for (unsigned int i = 0; i < 8; i++) {
		struct driver_params params = {
			.legacy = i & 1, .event_idx = i & 2, .msix = i & 4, .ioeventfd = true
		};

		run(&params, SHAKE_BARS);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_switches),
		cmocka_unit_test(test_switches_vectors),
		cmocka_unit_test(test_switches_bars),
	};

	return cmocka_run_group_tests_name("vhost, switched", tests, NULL, NULL);
}
