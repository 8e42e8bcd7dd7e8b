/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Queues with locks of their own: each has a thread on both sides, and meanwhile the device is reset,
 * stopped, broken and reconfigured. No request is lost or answered twice, no two threads are in
 * one queue, and nobody is in any where the contract says that all locks are held. Meant to be run
 * under ThreadSanitizer too.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "../unit/open_descriptors.h"
#include "iothread.h"
#include "lanes_device.h"

#define QUEUES (LANES + 1)
#define REQUEST 16 /* bytes: out, in */
#define WINDOW 4 /* requests of a queue at a time */
#define PATIENCE_NS UINT64_C(20000000000)
#define STATUS_SUSPEND 16 /* virtio 1.4, 2.1 */
#define FEATURE_SUSPEND 43
#define COMMON_QUEUE_RESET 0x3a /* virtio 1.4, 4.1.4.3 */

struct bench;

/*
 * struct client - the driver's thread of one queue.
 * @answers: right ones, read by the other thread
 * @failure: what went wrong; assertions are for the test's own thread
 */
struct client {
	struct bench *bench;
	unsigned int index;
	pthread_t thread;
	uint64_t gpa;
	unsigned int answers;
	unsigned int generation, looks;
	unsigned int in_flight;
	uint64_t sent[WINDOW];
	unsigned int seed;
	const char *failure;
};

/*
 * struct bench
 * @rings: write: the rings are set up anew; read: they are used
 * @generations: of each queue's ring: what was in flight in an older one is forgotten
 * @looks: counts times that interrupts went nowhere
 */
struct bench {
	struct machine *machine;
	struct pci_vdev *dev;
	struct virtio_lanes *lanes;
	struct virtio_driver *driver;
	pthread_rwlock_t rings;
	unsigned int generations[QUEUES];
	unsigned int looks;
	bool end;
	struct client clients[QUEUES];
	unsigned int seed;
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static bool ended(struct bench *bench)
{
	return __atomic_load_n(&bench->end, __ATOMIC_ACQUIRE);
}

/* ---- The driver's threads ---- */

static uint64_t *request_at(struct client *client, unsigned int slot)
{
	return guest_ptr(client->bench->machine, client->gpa + slot * REQUEST, REQUEST);
}

static void post(struct client *client)
{
	struct driver_queue *queue = driver_queue(client->bench->driver, client->index);

	for (unsigned int slot = 0; slot < WINDOW; slot++) {
		uint64_t gpa = client->gpa + slot * REQUEST;
		const struct segment segments[] = { { gpa, 8 }, { gpa + 8, 8 } };
		uint64_t *request = request_at(client, slot);

		if (client->sent[slot])
			continue;
		request[0] = (uint64_t)rand_r(&client->seed) << 8 | slot | 0x80;
		if (rand_r(&client->seed) % 4 == 0)
			request[0] |= LANES_KEEP;
		request[1] = 0;
		if (driver_add_buf(queue, segments, 1, 1, &client->sent[slot])) {
			client->failure = "no room in the ring";
			return;
		}
		client->sent[slot] = request[0];
		client->in_flight++;
	}
	driver_kick(queue);
}

static void collect_once(struct client *client)
{
	struct driver_queue *queue = driver_queue(client->bench->driver, client->index);
	uint64_t *sent;
	uint32_t len;

	while ((sent = driver_get_buf(queue, &len))) {
		unsigned int slot = (unsigned int)(sent - client->sent);

		if (len != 8 || request_at(client, slot)[1] != *sent + 1)
			client->failure = "a wrong answer";
		if (!*sent)
			client->failure = "an answer that nobody asked for";
		*sent = 0;
		client->in_flight--;
		__atomic_add_fetch(&client->answers, 1, __ATOMIC_RELEASE);
	}
}

/* With MSI-X only when an interrupt came: none may be lost. The line is for all queues together. */
static bool interrupted(struct client *client)
{
	struct driver_queue *queue = driver_queue(client->bench->driver, client->index);
	unsigned int looks = __atomic_load_n(&client->bench->looks, __ATOMIC_ACQUIRE);

	if (client->looks != looks) {
		client->looks = looks;
		return true;
	}
	return !queue->driver->params.msix || driver_queue_interrupt(queue);
}

static void collect(struct client *client)
{
	if (!interrupted(client))
		return;
	do {
		collect_once(client);
	} while (driver_enable_cb(driver_queue(client->bench->driver, client->index)));
}

/* The ring is new: what was in it is not answered any more. */
static void forget(struct client *client)
{
	client->generation = client->bench->generations[client->index];
	memset(client->sent, 0, sizeof(client->sent));
	client->in_flight = 0;
}

static void *client_run(void *arg)
{
	struct client *client = arg;
	struct bench *bench = client->bench;

	while (!ended(bench) && !client->failure) {
		pthread_rwlock_rdlock(&bench->rings);
		if (client->generation != bench->generations[client->index])
			forget(client);
		collect(client);
		if (client->in_flight <= WINDOW / 2)
			post(client);
		pthread_rwlock_unlock(&bench->rings);
		sched_yield();
	}
	return NULL;
}

static void clients_start(struct bench *bench)
{
	bench->end = false;
	for (unsigned int i = 0; i < QUEUES; i++) {
		struct client *client = &bench->clients[i];

		client->seed = i + 1;
		assert_int_equal(pthread_create(&client->thread, NULL, client_run, client), 0);
	}
}

static void clients_stop(struct bench *bench)
{
	__atomic_store_n(&bench->end, true, __ATOMIC_RELEASE);
	for (unsigned int i = 0; i < QUEUES; i++)
		pthread_join(bench->clients[i].thread, NULL);
}

/* Each queue answers something that was not answered before. */
static void expect_progress(struct bench *bench, const char *after)
{
	uint64_t until = now_ns() + PATIENCE_NS;
	unsigned int before[QUEUES];

	for (unsigned int i = 0; i < QUEUES; i++)
		before[i] = __atomic_load_n(&bench->clients[i].answers, __ATOMIC_ACQUIRE);
	for (unsigned int i = 0; i < QUEUES; i++)
		while (__atomic_load_n(&bench->clients[i].answers, __ATOMIC_ACQUIRE) - before[i] <
		       2 * WINDOW) {
			sched_yield();
			if (now_ns() < until)
				continue;
			machine_log_print(bench->machine);
			fail_msg("queue %u answers no more after %s", i, after);
		}
}

/* ---- The machine ---- */

static struct bench *bench_create_without(const char *options, const struct driver_params *params,
					  uint64_t without)
{
	const struct machine_config config = { .ioeventfd = params->ioeventfd, .io_thread = true };
	struct bench *bench = calloc(1, sizeof(*bench));
	struct virtio_driver *driver;
	char spec[128];

	assert_non_null(bench);
	bench->seed = 1;
	pthread_rwlock_init(&bench->rings, NULL);
	bench->machine = machine_create(&config);
	bench->machine->ctx->iothreads = iothreads_create(bench->machine->ctx->log);
	assert_non_null(bench->machine->ctx->iothreads);
	assert_int_equal(iothreads_add(bench->machine->ctx->iothreads, "one"), 0);
	assert_int_equal(iothreads_add(bench->machine->ctx->iothreads, "two"), 0);
	snprintf(spec, sizeof(spec), "%d,virtio-lanes%s%s", LANES_SLOT, *options ? "," : "",
		 options);
	bench->dev = machine_add(bench->machine, spec);
	bench->lanes = *(struct virtio_lanes **)((char *)bench->dev->arg + sizeof(void *));
	assert_int_equal(iothreads_start(bench->machine->ctx->iothreads), 0);
	driver = driver_run(bench->machine, LANES_SLOT, params, without);
	bench->driver = driver;
	for (unsigned int i = 0; i < QUEUES; i++) {
		bench->clients[i] = (struct client) {
			.bench = bench,
			.index = i,
			.gpa = guest_alloc(bench->machine, WINDOW * REQUEST, 16),
		};
	}
	return bench;
}

static struct bench *bench_create(const char *options, const struct driver_params *params)
{
	return bench_create_without(options, params, BIT64(LANES_F_TOGETHER));
}

static void bench_destroy(struct bench *bench)
{
	for (unsigned int i = 0; i < QUEUES; i++)
		if (bench->clients[i].failure)
			fail_msg("queue %u: %s", i, bench->clients[i].failure);
	assert_int_equal(__atomic_load_n(&bench->lanes->wrong, __ATOMIC_RELAXED), 0);
	driver_close(bench->driver);
	machine_destroy(bench->machine);
	pthread_rwlock_destroy(&bench->rings);
	free(bench);
}

static const struct driver_params modern = {
	.event_idx = true, .msix = true, .ioeventfd = true, .extra = BIT64(FEATURE_SUSPEND)
};

/* ---- What happens meanwhile ---- */

static void all_rings_new(struct bench *bench)
{
	for (unsigned int i = 0; i < QUEUES; i++)
		bench->generations[i]++;
}

static void do_reset(struct bench *bench)
{
	pthread_rwlock_wrlock(&bench->rings);
	driver_restart(bench->driver);
	all_rings_new(bench);
	pthread_rwlock_unlock(&bench->rings);
}

static void do_queue_reset(struct bench *bench)
{
	uint16_t index = (uint16_t)(rand_r(&bench->seed) % QUEUES);

	pthread_rwlock_wrlock(&bench->rings);
	driver_common_out(bench->driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, index);
	driver_common_out(bench->driver, COMMON_QUEUE_RESET, 2, 1);
	driver_queue_setup(bench->driver, index, 0);
	bench->generations[index]++;
	pthread_rwlock_unlock(&bench->rings);
}

static void do_quiesce(struct bench *bench)
{
	pci_quiesce_devices(bench->machine->ctx);
	usleep(100);
	pci_resume_devices(bench->machine->ctx);
}

static void do_suspend(struct bench *bench)
{
	pthread_rwlock_wrlock(&bench->rings);
	driver_set_status(bench->driver, STATUS_SUSPEND);
	assert_true(driver_status(bench->driver) & STATUS_SUSPEND);
	driver_set_status(bench->driver, VIRTIO_CONFIG_S_DRIVER_OK);
	pthread_rwlock_unlock(&bench->rings);
}

/* One request breaks the device; it says so, whichever thread met it. */
static void do_break(struct bench *bench)
{
	unsigned int index = rand_r(&bench->seed) % QUEUES;
	struct driver_queue *queue = driver_queue(bench->driver, index);
	uint64_t gpa = guest_alloc(bench->machine, REQUEST, 16), until = now_ns() + PATIENCE_NS;
	const struct segment segments[] = { { gpa, 8 }, { gpa + 8, 8 } };
	uint64_t *request = guest_ptr(bench->machine, gpa, REQUEST);

	pthread_rwlock_wrlock(&bench->rings);
	request[0] = LANES_BREAK;
	driver_config_interrupt(bench->driver);
	assert_int_equal(driver_add_buf(queue, segments, 1, 1, request), 0);
	driver_kick(queue);
	pthread_rwlock_unlock(&bench->rings);
	while (!(driver_status(bench->driver) & VIRTIO_CONFIG_S_NEEDS_RESET))
		if (now_ns() > until)
			fail_msg("the device does not say that it needs a reset");
	while (bench->driver->params.msix && !driver_config_interrupt(bench->driver))
		if (now_ns() > until)
			fail_msg("no interrupt when the device broke");
	do_reset(bench);
}

/* And a reset comes before the device has said anything. */
static void do_break_and_reset(struct bench *bench)
{
	struct driver_queue *queue = driver_queue(bench->driver, rand_r(&bench->seed) % LANES);
	uint64_t gpa = guest_alloc(bench->machine, REQUEST, 16);
	const struct segment segments[] = { { gpa, 8 }, { gpa + 8, 8 } };
	uint64_t *request = guest_ptr(bench->machine, gpa, REQUEST);

	pthread_rwlock_wrlock(&bench->rings);
	request[0] = LANES_BREAK;
	assert_int_equal(driver_add_buf(queue, segments, 1, 1, request), 0);
	driver_kick(queue);
	driver_restart(bench->driver);
	all_rings_new(bench);
	pthread_rwlock_unlock(&bench->rings);
	assert_false(driver_status(bench->driver) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

static void do_vectors(struct bench *bench)
{
	struct pci_function *pci = &bench->driver->pci;
	unsigned int vector = 1 + rand_r(&bench->seed) % QUEUES;

	if (!bench->driver->params.msix)
		return;
	pci_msix_mask(pci, vector, true);
	pci_msix_pending(pci, vector);
	pci_msix_mask(pci, vector, false);
	pci_out(pci, pci->msix_cap + PCI_MSIX_FLAGS, 2,
		PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	pci_out(pci, pci->msix_cap + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	bench->driver->interface->queue_vector(bench->driver, (uint16_t)(vector - 1),
					       VIRTIO_NO_VECTOR);
	bench->driver->interface->queue_vector(bench->driver, (uint16_t)(vector - 1),
					       (uint16_t)vector);
	__atomic_add_fetch(&bench->looks, 1, __ATOMIC_RELEASE);
}

static void do_config(struct bench *bench)
{
	uint32_t value = (uint32_t)rand_r(&bench->seed);

	driver_set_config(bench->driver, 4, 4, value);
	assert_int_equal(driver_config(bench->driver, 4, 4), value);
	bench->driver->interface->isr(bench->driver);
	pci_in(&bench->driver->pci, PCI_COMMAND, 4);
}

/* As the control socket does. */
static void do_offload(struct bench *bench)
{
	bool on = rand_r(&bench->seed) % 2;

	pthread_mutex_lock(&bench->dev->lock);
	assert_int_equal(bench->dev->dev_ops->vdev_offload(bench->dev, on), 0);
	pthread_mutex_unlock(&bench->dev->lock);
}

static const struct action {
	const char *name;
	void (*run)(struct bench *bench);
} actions[] = {
	{ "a reset", do_reset },
	{ "a queue's reset", do_queue_reset },
	{ "quiesce and resume", do_quiesce },
	{ "suspend", do_suspend },
	{ "a broken device", do_break },
	{ "a broken device that was reset at once", do_break_and_reset },
	{ "vectors", do_vectors },
	{ "configuration", do_config },
	{ "configuration again", do_config },
	{ "an offload switch", do_offload },
};

#define ACTIONS_NS UINT64_C(1500000000)

static void everything_with(struct bench *bench)
{
	uint64_t until = now_ns() + ACTIONS_NS;
	unsigned int done = 0;

	clients_start(bench);
	expect_progress(bench, "the start");
	while (now_ns() < until || done < 2 * ARRAY_SIZE(actions)) {
		const struct action *action =
			&actions[done < ARRAY_SIZE(actions)
					 ? done
					 : rand_r(&bench->seed) % ARRAY_SIZE(actions)];

		done++;
		action->run(bench);
		if (rand_r(&bench->seed) % 2)
			expect_progress(bench, action->name);
	}
	expect_progress(bench, "all of it");
	clients_stop(bench);
	pthread_mutex_lock(&bench->dev->lock);
	assert_true(bench->lanes->shared_calls > done);
	pthread_mutex_unlock(&bench->dev->lock);
	/* The device goes while requests are on their way. */
	bench_destroy(bench);
}

static void everything_at_once(const char *options, const struct driver_params *params)
{
	everything_with(bench_create(options, params));
}

static void test_ioeventfd(void **state)
{
	everything_at_once("", &modern);
}

static void test_traps(void **state)
{
	struct driver_params params = modern;

	params.ioeventfd = false;
	everything_at_once("", &params);
}

/* A queue whose work takes all locks, but which has one of its own. */
static void test_together(void **state)
{
	everything_with(bench_create_without("", &modern, 0));
}

static void test_together_traps(void **state)
{
	struct driver_params params = modern;

	params.ioeventfd = false;
	everything_with(bench_create_without("", &params, 0));
}

static void test_packed(void **state)
{
	struct driver_params params = modern;

	params.packed = true;
	everything_at_once("", &params);
}

static void test_without_event_idx(void **state)
{
	struct driver_params params = modern;

	params.event_idx = false;
	everything_at_once("in_order=on", &params);
}

static void test_line(void **state)
{
	struct driver_params params = modern;

	params.msix = false;
	everything_at_once("msix=off", &params);
}

static void test_two_threads(void **state)
{
	everything_at_once("iothread=one+two", &modern);
}

static void test_poll_on(void **state)
{
	everything_at_once("poll=on", &modern);
}

static void test_poll_on_packed(void **state)
{
	struct driver_params params = modern;

	params.packed = true;
	params.event_idx = false;
	everything_at_once("poll=on,iothread=one+two", &params);
}

static void test_poll_off(void **state)
{
	everything_at_once("poll=off", &modern);
}

/* ---- Where queues are ---- */

static unsigned int threads_called(const char *prefix)
{
	DIR *dir = opendir("/proc/self/task");
	unsigned int found = 0;
	struct dirent *entry;

	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		char path[300], name[32] = "";
		FILE *file;

		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
		file = fopen(path, "r");
		if (!file)
			continue;
		if (fgets(name, sizeof(name), file))
			found += !strncmp(name, prefix, strlen(prefix));
		fclose(file);
	}
	closedir(dir);
	return found;
}

/* A device has threads called after it, one a queue, but no more than there are CPUs. */
static void test_own_threads(void **state)
{
	struct bench *bench = bench_create("", &modern);
	struct virtio_common *vc = &bench->lanes->vc;
	unsigned int threads = (unsigned int)MIN(sysconf(_SC_NPROCESSORS_ONLN), LANES);

	/* They take their names themselves. */
	for (int i = 0; i < 1000 && threads_called("lanes@00:04.0") != threads; i++)
		usleep(10000);
	assert_int_equal(threads_called("lanes@00:04.0"), threads);
	/* The last queue's place is the device's own thread. */
	assert_ptr_not_equal(vc->loop, bench->machine->ctx->io_loop);
	assert_ptr_equal(vc->vqs[LANES_SHARED].loop, vc->loop);
	assert_ptr_equal(vc->vqs[LANES_SHARED].lock, vc->lock);
	assert_ptr_equal(vc->vqs[0].loop, vc->loop);
	for (unsigned int i = 0; i < LANES; i++) {
		assert_ptr_equal(vc->vqs[i].lock, &vc->vqs[i].own_lock);
		assert_ptr_equal(vc->vqs[i].loop, vc->vqs[i % threads].loop);
	}
	bench_destroy(bench);
}

static void test_named_threads(void **state)
{
	struct bench *bench = bench_create("iothread=two+one", &modern);
	struct iothreads *set = bench->machine->ctx->iothreads;
	struct virtio_common *vc = &bench->lanes->vc;

	assert_ptr_equal(vc->loop, iothread_loop(set, "two", false));
	for (unsigned int i = 0; i < LANES; i++)
		assert_ptr_equal(vc->vqs[i].loop, iothread_loop(set, i & 1 ? "one" : "two", false));
	assert_int_equal(threads_called("lanes"), 0);
	bench_destroy(bench);
}

/* A device whose queues have no locks of their own uses the first. */
static void test_named_threads_of_another_device(void **state)
{
	struct machine *machine = machine_create(NULL);
	struct pci_vdev *dev;
	struct virtio_common *vc;

	machine->ctx->iothreads = iothreads_create(machine->ctx->log);
	assert_int_equal(iothreads_add(machine->ctx->iothreads, "one"), 0);
	assert_int_equal(iothreads_add(machine->ctx->iothreads, "two"), 0);
	dev = machine_add(machine, "5,virtio-rng,iothread=two+one");
	vc = *(struct virtio_common **)((char *)dev->arg + sizeof(void *));
	assert_ptr_equal(vc->loop, iothread_loop(machine->ctx->iothreads, "two", false));
	assert_ptr_equal(vc->vqs[0].loop, vc->loop);
	assert_ptr_equal(vc->vqs[0].lock, vc->lock);
	machine_destroy(machine);
}

static void test_unknown_thread(void **state)
{
	struct machine *machine = machine_create(NULL);

	assert_null(pci_add_device(machine->ctx, "4,virtio-rng,iothread=fast"));
	assert_logged(machine, "virtio-rng@00:04.0: iothread=fast: no thread is called \"fast\" "
			       "(--iothread NAME makes one)");
	machine->ctx->iothreads = iothreads_create(machine->ctx->log);
	assert_int_equal(iothreads_add(machine->ctx->iothreads, "one"), 0);
	assert_int_equal(iothreads_add(machine->ctx->iothreads, "two"), 0);
	assert_null(pci_add_device(machine->ctx, "4,virtio-rng,iothread=one+fast"));
	assert_logged(machine, "no thread is called \"fast\" (there are: one, two)");
	assert_null(pci_add_device(machine->ctx, "4,virtio-rng,iothread="));
	assert_null(pci_add_device(machine->ctx, "4,virtio-rng,poll=sometimes"));
	machine_destroy(machine);
}

/* Without threads all is on the io loop, with the locks that it has. */
static void test_no_threads(void **state)
{
	struct machine *machine = machine_create(NULL);
	struct pci_vdev *dev = machine_add(machine, "4,virtio-lanes");
	struct virtio_lanes *lanes = *(struct virtio_lanes **)((char *)dev->arg + sizeof(void *));

	for (unsigned int i = 0; i < QUEUES; i++)
		assert_ptr_equal(lanes->vc.vqs[i].loop, machine->ctx->io_loop);
	assert_ptr_equal(lanes->vc.vqs[0].lock, &lanes->vc.vqs[0].own_lock);
	machine_destroy(machine);
}

/* ---- Polling ---- */

/* With poll=on the driver need not kick; without a driver nobody polls. */
static void test_no_kicks(void **state)
{
	struct bench *bench = bench_create("poll=on", &modern);
	struct driver_queue *queue = driver_queue(bench->driver, 1);
	uint64_t gpa = guest_alloc(bench->machine, REQUEST, 16), until = now_ns() + PATIENCE_NS;
	const struct segment segments[] = { { gpa, 8 }, { gpa + 8, 8 } };
	uint64_t *request = guest_ptr(bench->machine, gpa, REQUEST);
	struct timespec before, after;

	/* Some of the first may be before the loop looks. */
	for (unsigned int i = 0; i < 1000 && queue->kicks_saved < 100; i++) {
		request[0] = i;
		assert_int_equal(driver_add_buf(queue, segments, 1, 1, request), 0);
		driver_kick(queue);
		while (!driver_pending(queue) && now_ns() < until)
			sched_yield();
		assert_ptr_equal(driver_get_buf(queue, NULL), request);
		assert_int_equal(request[1], i + 1);
	}
	assert_true(queue->kicks_saved >= 100);

	driver_set_status(bench->driver, 0);
	usleep(20000);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
	usleep(300000);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
	assert_true((after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec <
		    20000000);
	bench_destroy(bench);
}

/* However many descriptors there are too few, one line says so. */
static void test_short_of_descriptors(void **state)
{
	struct machine *machine = machine_create(NULL);
	struct rlimit before, limit;
	struct pci_vdev *dev = NULL;
	unsigned int failures = 0, errors;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	for (limit = before, limit.rlim_cur = open_descriptors(); !dev; limit.rlim_cur++) {
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
		machine_log_clear(machine);
		dev = pci_add_device(machine->ctx, "4,virtio-blk,null:1M,queues=2");
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
		if (dev)
			break;
		errors = 0;
		for (unsigned int i = 0; i < machine->captured.count; i++)
			errors += machine->captured.levels[i] == LOG_LEVEL_ERROR;
		if (errors != 1)
			fail_msg("%u lines with a limit of %lu descriptors", errors,
				 (unsigned long)limit.rlim_cur);
		failures++;
		machine_poll(
			machine); /* timers that were removed keep their descriptors until then */
	}
	assert_true(failures > 3);
	machine_destroy(machine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_own_threads),
		cmocka_unit_test(test_named_threads),
		cmocka_unit_test(test_named_threads_of_another_device),
		cmocka_unit_test(test_unknown_thread),
		cmocka_unit_test(test_no_threads),
		cmocka_unit_test(test_short_of_descriptors),
		cmocka_unit_test(test_no_kicks),
		cmocka_unit_test(test_ioeventfd),
		cmocka_unit_test(test_traps),
		cmocka_unit_test(test_together),
		cmocka_unit_test(test_together_traps),
		cmocka_unit_test(test_packed),
		cmocka_unit_test(test_without_event_idx),
		cmocka_unit_test(test_line),
		cmocka_unit_test(test_two_threads),
		cmocka_unit_test(test_poll_on),
		cmocka_unit_test(test_poll_on_packed),
		cmocka_unit_test(test_poll_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
