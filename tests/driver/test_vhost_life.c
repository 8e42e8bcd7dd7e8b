/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What happens to a device while the kernel runs its rings: kicks on every way, resets, suspension,
 * quiescence and saved states, drivers that break the rings.
 */
#include "relay_device.h"
#include "state.h"

#define COMMON_QUEUE_RESET 0x3a

/* Every test ends with requests that work, by whoever. */
static struct relay_bench bench_run(const struct driver_params *params)
{
	struct machine_config config = { .ioeventfd = params->ioeventfd };
	struct relay_bench bench = relay_bench_create(&config, "vhost=on");

	bench.driver = driver_run(bench.machine, RELAY_SLOT, params, 0);
	assert_true(relay_offloaded(&bench));
	return bench;
}

static void check_kernel_serves(struct relay_bench *bench)
{
	uint64_t chains = fake_vhost_chains(bench->fake), ours = bench->relay->chains;

	for (uint8_t i = 0; i < 5; i++)
		for (unsigned int queue = 0; queue < RELAY_QUEUES; queue++)
			relay_request(bench, queue, i);
	assert_true(relay_offloaded(bench));
	assert_int_equal(fake_vhost_chains(bench->fake), chains + 10);
	assert_int_equal(bench->relay->chains, ours);
}

static void check_user_space_serves(struct relay_bench *bench)
{
	uint64_t chains = fake_vhost_chains(bench->fake), ours = bench->relay->chains;

	for (unsigned int queue = 0; queue < RELAY_QUEUES; queue++)
		relay_request(bench, queue, 3);
	assert_int_equal(fake_vhost_chains(bench->fake), chains);
	assert_int_equal(bench->relay->chains, ours + 2);
}

/* ---- Kicks ---- */

/* All interfaces and notifications, with ioeventfds and without: whoever runs them, rings answer. */
static void test_kicks(void **state)
{
	for (unsigned int i = 0; i < 32; i++) { /* split rings */
		struct driver_params params = driver_params_at(i);
		struct relay_bench bench = bench_run(&params);
		const struct inproc *port = inproc_of(bench.machine->ctx);
		uint64_t signals = port->signals;

		check_kernel_serves(&bench);
		if (params.ioeventfd)
			assert_true(port->signals > signals);
		else
			assert_int_equal(port->signals, 0);
		assert_int_equal(relay_switch(&bench, false), 0);
		check_user_space_serves(&bench);
		assert_int_equal(relay_switch(&bench, true), 0);
		check_kernel_serves(&bench);
		relay_bench_destroy(&bench);
	}
}

static void add_request(struct relay_bench *bench, struct driver_queue *queue)
{
	uint64_t gpa = guest_alloc(bench->machine, 64, 16);
	struct segment segments[2] = { { gpa, 32 }, { gpa + 32, 32 } };

	assert_int_equal(driver_add_buf(queue, segments, 1, 1, bench), 0);
}

/* Added while one side has the ring, and not yet seen when the other gets it. */
static void test_added_before_switch(void **state)
{
	for (unsigned int i = 0; i < 8; i++) {
		struct driver_params params = { .event_idx = i & 1,
						.msix = i & 2,
						.ioeventfd = true };
		struct relay_bench bench = bench_run(&params);
		struct driver_queue *queue = driver_queue(bench.driver, i >> 2);

		for (unsigned int on = 0; on < 4; on++) {
			relay_request(&bench, queue->index, 1);
			driver_queue_interrupt(queue);
			add_request(&bench, queue); /* no kick */
			assert_int_equal(relay_switch(&bench, on & 1), 0);
			assert_ptr_equal(driver_wait_buf(queue, NULL, DRIVER_TIMEOUT_MS), &bench);
			machine_poll(bench.machine);
			assert_true(driver_queue_interrupt(queue));
		}
		relay_bench_destroy(&bench);
	}
}

/* However the kernel leaves the ring, from the moment it is ours again kicks are asked for. */
static void test_kicks_armed(void **state)
{
	for (unsigned int i = 0; i < 2; i++) {
		struct driver_params params = { .event_idx = i, .msix = true };
		struct relay_bench bench = bench_run(&params);
		struct ring *ring = &driver_queue(bench.driver, 0)->ring;

		check_kernel_serves(&bench);
		pthread_mutex_lock(&bench.fake->lock);
		__atomic_store_n(&ring->used->flags, VRING_USED_F_NO_NOTIFY, __ATOMIC_RELAXED);
		__atomic_store_n(ring_avail_event(ring), 0x7777, __ATOMIC_RELAXED);
		pthread_mutex_unlock(&bench.fake->lock);
		assert_int_equal(relay_switch(&bench, false), 0);
		assert_int_equal(ring->used->flags, 0);
		if (params.event_idx)
			assert_int_equal(*ring_avail_event(ring), ring->avail_idx);
		check_user_space_serves(&bench);
		relay_bench_destroy(&bench);
	}
}

/* What the kernel runs gives nothing to the device, and takes nothing from it. */
static void test_no_chains(void **state)
{
	struct relay_bench bench = bench_run(&relay_modern);
	struct vqueue_info *vq = &bench.relay->vc.vqs[0];
	struct iovec iov[RELAY_IOV];
	uint16_t idx, used;

	check_kernel_serves(&bench);
	add_request(&bench, driver_queue(bench.driver, 0)); /* no kick */
	pthread_mutex_lock(&bench.dev->lock);
	used = __atomic_load_n(&driver_queue(bench.driver, 0)->ring.used->idx, __ATOMIC_ACQUIRE);
	assert_false(vq_has_descs(vq));
	assert_int_equal(vq_getchain(vq, &idx, iov, RELAY_IOV, NULL), 0);
	vq_retchain(vq);
	vq_relchain(vq, 0, 1);
	vq_endchains(vq, 1);
	assert_int_equal(
		__atomic_load_n(&driver_queue(bench.driver, 0)->ring.used->idx, __ATOMIC_RELAXED),
		used);
	pthread_mutex_unlock(&bench.dev->lock);
	driver_kick(driver_queue(bench.driver, 0));
	assert_ptr_equal(driver_wait_buf(driver_queue(bench.driver, 0), NULL, DRIVER_TIMEOUT_MS),
			 &bench);
	check_kernel_serves(&bench);
	relay_bench_destroy(&bench);
}

/* The window in config space kicks too (virtio 1.4, 4.1.4.9). */
static void test_kick_by_window(void **state)
{
	struct driver_params params = relay_modern;
	struct relay_bench bench;
	struct driver_queue *queue;
	struct pci_function *pci;
	unsigned int cap = 0;

	params.ioeventfd = true;
	bench = bench_run(&params);
	queue = driver_queue(bench.driver, 1);
	pci = &bench.driver->pci;
	do
		cap = pci_capability(pci, PCI_CAP_ID_VNDR, cap);
	while (cap && pci_in(pci, cap + VIRTIO_PCI_CAP_CFG_TYPE, 1) != VIRTIO_PCI_CAP_PCI_CFG);
	assert_int_not_equal(cap, 0);
	machine_poll(bench.machine);
	add_request(&bench, queue);
	pci_out(pci, cap + VIRTIO_PCI_CAP_BAR, 1, bench.driver->notify.bar);
	pci_out(pci, cap + VIRTIO_PCI_CAP_OFFSET, 4,
		(uint32_t)(bench.driver->notify.offset + queue->notify_offset));
	pci_out(pci, cap + VIRTIO_PCI_CAP_LENGTH, 4, 2);
	pci_out(pci, cap + sizeof(struct virtio_pci_cap), 2, queue->index);
	assert_ptr_equal(driver_wait_buf(queue, NULL, DRIVER_TIMEOUT_MS), &bench);
	relay_bench_destroy(&bench);
}

static void test_bar_moves(void **state)
{
	for (unsigned int i = 0; i < 4; i++) {
		struct driver_params params = {
			.legacy = i & 1, .event_idx = true, .msix = true, .ioeventfd = i & 2
		};
		struct relay_bench bench = bench_run(&params);
		struct pci_function *pci = &bench.driver->pci;
		unsigned int bar = params.legacy ? 0 : bench.driver->notify.bar;
		uint64_t addr = pci->bar[bar].addr;

		for (unsigned int move = 0; move < 4; move++) {
			uint64_t to = addr + (move & 1 ? 0 : 16 * pci->bar[bar].size);

			add_request(&bench,
				    driver_queue(bench.driver, 0)); /* kicked at the new place */
			pci_move_bar(pci, bar, to);
			driver_kick(driver_queue(bench.driver, 0));
			assert_ptr_equal(driver_wait_buf(driver_queue(bench.driver, 0), NULL,
							 DRIVER_TIMEOUT_MS),
					 &bench);
			check_kernel_serves(&bench);
		}
		pci_command(pci, 0, PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
		pci_command(pci, PCI_COMMAND_IO | PCI_COMMAND_MEMORY, 0);
		check_kernel_serves(&bench);
		relay_bench_destroy(&bench);
	}
}

/* ---- Ends ---- */

static void test_device_reset(void **state)
{
	struct relay_bench bench = bench_run(&relay_modern);
	unsigned int messages;

	check_kernel_serves(&bench);
	for (unsigned int i = 0; i < 3; i++) {
		machine_poll(bench.machine);
		messages =
			inproc_msi_count(bench.machine->ctx, pci_msix_data(&bench.driver->pci, 1));
		add_request(&bench, driver_queue(bench.driver, 0));
		driver_set_status(bench.driver, 0);
		assert_true(fake_vhost_idle(bench.fake));
		assert_int_equal(inproc_irqfd_count(bench.machine->ctx), 0);
		machine_poll(bench.machine);
		/* virtio 1.4, 2.4.1: nothing is told after a reset */
		assert_int_equal(
			inproc_msi_count(bench.machine->ctx, pci_msix_data(&bench.driver->pci, 1)),
			messages);
		driver_restart(bench.driver);
		check_kernel_serves(&bench);
	}
	relay_bench_destroy(&bench);
}

static void test_guest_reset(void **state)
{
	struct relay_bench bench = bench_run(&relay_modern);

	for (unsigned int i = 0; i < 3; i++) {
		check_kernel_serves(&bench);
		vm_reset_devices(bench.machine->ctx);
		assert_true(fake_vhost_idle(bench.fake));
		driver_close(bench.driver);
		bench.driver = driver_run(bench.machine, RELAY_SLOT, &relay_modern, 0);
	}
	check_kernel_serves(&bench);
	relay_bench_destroy(&bench);
}

/* One queue alone (virtio 1.4, 2.6.1): the other goes on, and with the one again the kernel. */
static void test_queue_reset(void **state)
{
	struct relay_bench bench = bench_run(&relay_modern);

	for (uint16_t queue = 0; queue < RELAY_QUEUES; queue++) {
		check_kernel_serves(&bench);
		driver_common_out(bench.driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
		driver_common_out(bench.driver, COMMON_QUEUE_RESET, 2, 1);
		assert_true(fake_vhost_idle(bench.fake));
		relay_request(&bench, !queue, 1);
		driver_queue_setup(bench.driver, queue, 0);
		relay_request(&bench, queue, 2);
		pthread_mutex_lock(&bench.dev->lock);
		relay_update(bench.relay);
		pthread_mutex_unlock(&bench.dev->lock);
		assert_true(relay_offloaded(&bench));
	}
	check_kernel_serves(&bench);
	relay_bench_destroy(&bench);
}

/* The kernel gets the queues that the driver set up, and the rest with the next start. */
static void test_one_queue(void **state)
{
	struct relay_bench bench = relay_bench_create(NULL, "vhost=on");
	struct virtio_driver *driver = driver_open(bench.machine, RELAY_SLOT, &relay_modern);

	bench.driver = driver;
	assert_true(driver_negotiate(driver, driver->offered));
	driver_queue_setup(driver, 1, 0);
	driver_set_status(driver, VIRTIO_CONFIG_S_DRIVER_OK);
	assert_true(bench.relay->vc.vqs[1].offloaded);
	assert_false(bench.relay->vc.vqs[0].offloaded);
	relay_request(&bench, 1, 1);
	assert_int_equal(fake_vhost_chains(bench.fake), 1);
	driver_queue_setup(driver, 0, 0);
	check_kernel_serves(&bench);
	relay_bench_destroy(&bench);
}

static void test_suspend(void **state)
{
	struct driver_params params = relay_modern;
	struct relay_bench bench;
	uint8_t status;

	params.extra = BIT64(VIRTIO_F_SUSPEND);
	bench = bench_run(&params);
	check_kernel_serves(&bench);
	status = driver_status(bench.driver);
	bench.driver->interface->set_status(bench.driver, status | VIRTIO_CONFIG_S_SUSPEND);
	assert_true(fake_vhost_idle(bench.fake));
	add_request(&bench, driver_queue(bench.driver, 0));
	driver_kick(driver_queue(bench.driver, 0));
	machine_poll(bench.machine);
	assert_false(driver_pending(driver_queue(bench.driver, 0)));
	bench.driver->interface->set_status(bench.driver, status);
	assert_ptr_equal(driver_wait_buf(driver_queue(bench.driver, 0), NULL, DRIVER_TIMEOUT_MS),
			 &bench);
	check_kernel_serves(&bench);
	relay_bench_destroy(&bench);
}

/* Removed while it runs. */
static void test_removed(void **state)
{
	struct relay_bench bench = bench_run(&relay_modern);

	check_kernel_serves(&bench);
	relay_bench_destroy(&bench); /* looks whether the kernel has let go */
}

/* ---- Quiescence and saved states ---- */

static int save(struct relay_bench *bench)
{
	struct state_writer *writer = state_writer_create(bench->machine->ctx->log);
	int error;

	assert_non_null(writer);
	error = pci_save_device(bench->dev, writer);
	state_writer_destroy(writer);
	return error;
}

static void test_quiesce(void **state)
{
	struct relay_bench bench = bench_run(&relay_modern);
	struct driver_queue *queue = driver_queue(bench.driver, 0);
	uint64_t chains;

	for (unsigned int i = 0; i < 3; i++) {
		check_kernel_serves(&bench);
		assert_int_equal(save(&bench), -EBUSY);
		pci_quiesce_devices(bench.machine->ctx);
		assert_true(fake_vhost_idle(bench.fake));
		chains = fake_vhost_chains(bench.fake);
		add_request(&bench, queue);
		driver_kick(queue);
		machine_poll(bench.machine);
		assert_int_equal(fake_vhost_chains(bench.fake), chains);
		assert_false(driver_pending(queue));
		assert_int_equal(save(&bench), 0);
		/* wanted while it is quiesced: when it goes on */
		assert_int_equal(relay_switch(&bench, true), 0);
		assert_true(fake_vhost_idle(bench.fake));
		pci_resume_devices(bench.machine->ctx);
		assert_ptr_equal(driver_wait_buf(queue, NULL, DRIVER_TIMEOUT_MS), &bench);
	}
	check_kernel_serves(&bench);
	relay_bench_destroy(&bench);
}

/* A device that forgets to stop the kernel cannot be saved. */
static void test_save_refused(void **state)
{
	struct relay_bench bench = bench_run(&relay_modern);

	bench.relay->vc.quiesced = true;
	assert_int_equal(save(&bench), -EBUSY);
	assert_logged(bench.machine, "cannot be saved: the kernel runs queue 0");
	bench.relay->vc.quiesced = false;
	check_kernel_serves(&bench);
	relay_bench_destroy(&bench);
}

static void state_bytes(struct relay_bench *bench, uint8_t **bytes, size_t *len)
{
	struct state_writer *writer = state_writer_create(bench->machine->ctx->log);
	const uint8_t *finished;

	assert_non_null(writer);
	assert_int_equal(pci_save_device(bench->dev, writer), 0);
	finished = state_finish(writer, len);
	*bytes = malloc(*len);
	assert_non_null(*bytes);
	memcpy(*bytes, finished, *len);
	state_writer_destroy(writer);
}

/* Saved in one device, loaded while the kernel ran it: it goes on from there, by the kernel again. */
static void test_load(void **state)
{
	struct relay_bench bench = bench_run(&relay_modern);
	struct state_reader *reader;
	uint8_t *bytes;
	size_t len;

	check_kernel_serves(&bench);
	pci_quiesce_devices(bench.machine->ctx);
	state_bytes(&bench, &bytes, &len);
	reader = state_reader_open(bench.machine->ctx->log, bytes, len);
	assert_non_null(reader);
	assert_int_equal(pci_load_device(bench.dev, reader), 0);
	assert_int_equal(state_commit(reader), 0);
	state_reader_close(reader);
	assert_true(fake_vhost_idle(bench.fake));
	pci_resume_devices(bench.machine->ctx);
	check_kernel_serves(&bench);
	free(bytes);
	relay_bench_destroy(&bench);
}

/* ---- Drivers that break the ring ---- */

static bool needs_reset(void *arg)
{
	struct relay_bench *bench = arg;

	return driver_status(bench->driver) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

/* The driver is told, the kernel is out, and after a reset all is well. */
static void check_broken(struct relay_bench *bench, const char *line)
{
	assert_true(machine_wait(bench->machine, needs_reset, bench, DRIVER_TIMEOUT_MS));
	assert_logged(bench->machine, line);
	assert_true(driver_wait_config(bench->driver, DRIVER_TIMEOUT_MS));
	assert_true(fake_vhost_idle(bench->fake));
	assert_false(bench->relay->vhost.started);
	pci_quiesce_devices(bench->machine->ctx);
	pci_resume_devices(bench->machine->ctx); /* which does not start it again */
	assert_int_equal(relay_switch(bench, true), 0);
	assert_true(fake_vhost_idle(bench->fake));
	driver_restart(bench->driver);
	check_kernel_serves(bench);
}

static void test_broken_avail_index(void **state)
{
	struct relay_bench bench = bench_run(&relay_modern);
	struct ring *ring = &driver_queue(bench.driver, 0)->ring;

	check_kernel_serves(&bench);
	__atomic_store_n(&ring->avail->idx, ring->avail_idx + RELAY_QUEUE_SIZE + 1,
			 __ATOMIC_RELEASE);
	bench.driver->interface->notify(bench.driver, driver_queue(bench.driver, 0));
	check_broken(&bench, "queue 0: the kernel's vhost met a bad ring");
	relay_bench_destroy(&bench);
}

static void test_broken_chain(void **state)
{
	struct relay_bench bench = bench_run(&relay_modern);
	struct driver_queue *queue = driver_queue(bench.driver, 1);
	struct segment segments[2] = { { BIT64(50), 4 }, { BIT64(50), 4 } };

	check_kernel_serves(&bench);
	assert_int_equal(driver_add_buf(queue, segments, 1, 1, &bench), 0);
	driver_kick(queue);
	check_broken(&bench, "queue 1: the kernel's vhost met a bad ring");
	relay_bench_destroy(&bench);
}

/* The next driver does not pay for what the last one broke just before it was reset. */
static void test_broken_before_reset(void **state)
{
	struct relay_bench bench = bench_run(&relay_modern);

	machine_poll(bench.machine);
	fake_signal(bench.relay->vhost_vqs[0].err_fd);
	driver_restart(bench.driver);
	machine_poll(bench.machine);
	assert_int_equal(driver_status(bench.driver) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
	check_kernel_serves(&bench);
	relay_bench_destroy(&bench);
}

/* A driver that writes the used index: only its own, and found when the ring is taken back. */
static void test_broken_used_index(void **state)
{
	struct relay_bench bench = bench_run(&relay_modern);
	struct ring *ring = &driver_queue(bench.driver, 0)->ring;

	check_kernel_serves(&bench);
	pthread_mutex_lock(&bench.fake->lock);
	ring->used->idx = (uint16_t)(ring->used->idx + 5);
	pthread_mutex_unlock(&bench.fake->lock);
	assert_int_equal(relay_switch(&bench, false), 0);
	bench.relay->wanted = true;
	check_broken(&bench, "queue 0: used index 10, but 5 chains were taken");
	relay_bench_destroy(&bench);
}

/* A device error found in user space, while the kernel has other queues: they stop as well. */
static void test_broken_elsewhere(void **state)
{
	struct relay_bench bench = bench_run(&relay_modern);

	check_kernel_serves(&bench);
	pthread_mutex_lock(&bench.dev->lock);
	virtio_device_error(&bench.relay->vc, NULL, "as a test would have it");
	pthread_mutex_unlock(&bench.dev->lock);
	check_broken(&bench, "as a test would have it");
	relay_bench_destroy(&bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kicks),
		cmocka_unit_test(test_added_before_switch),
		cmocka_unit_test(test_kicks_armed),
		cmocka_unit_test(test_no_chains),
		cmocka_unit_test(test_kick_by_window),
		cmocka_unit_test(test_bar_moves),
		cmocka_unit_test(test_device_reset),
		cmocka_unit_test(test_guest_reset),
		cmocka_unit_test(test_queue_reset),
		cmocka_unit_test(test_one_queue),
		cmocka_unit_test(test_suspend),
		cmocka_unit_test(test_removed),
		cmocka_unit_test(test_quiesce),
		cmocka_unit_test(test_save_refused),
		cmocka_unit_test(test_load),
		cmocka_unit_test(test_broken_avail_index),
		cmocka_unit_test(test_broken_chain),
		cmocka_unit_test(test_broken_before_reset),
		cmocka_unit_test(test_broken_used_index),
		cmocka_unit_test(test_broken_elsewhere),
	};

	return cmocka_run_group_tests_name("vhost, life", tests, NULL, NULL);
}
