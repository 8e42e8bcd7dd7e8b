/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost: what the kernel is told and in which order, each call failing, and everything that can
 * happen to a device while the kernel runs its rings. The kernel is fake_kernel.h.
 */
#include "relay_device.h"

static struct relay_bench bench_run(const struct driver_params *params, const char *options)
{
	struct machine_config config = { .ioeventfd = params->ioeventfd };
	struct relay_bench bench = relay_bench_create(&config, options);

	bench.driver = driver_run(bench.machine, RELAY_SLOT, params, 0);
	return bench;
}

/* ---- What the kernel is told ---- */

static void check_call(const struct fake_vhost *fake, unsigned int at, unsigned long request,
		       unsigned int index, uint64_t value)
{
	assert_true(at < fake->call_count);
	assert_int_equal(fake->calls[at].request, request);
	assert_int_equal(fake->calls[at].index, index);
	assert_int_equal(fake->calls[at].value, value);
}

static void check_memory(const struct fake_vhost *fake, const struct guest_memory *memory)
{
	assert_int_equal(fake->region_count, memory->count);
	for (unsigned int i = 0; i < memory->count; i++) {
		assert_int_equal(fake->regions[i].guest_phys_addr, memory->regions[i].gpa);
		assert_int_equal(fake->regions[i].memory_size, memory->regions[i].size);
		assert_ptr_equal((void *)(uintptr_t)fake->regions[i].userspace_addr,
				 memory->regions[i].host);
	}
}

static void check_ring(struct relay_bench *bench, unsigned int index)
{
	const struct vhost_vring_addr *addr = &bench->fake->vrings[index].addr;
	const struct ring *ring = &driver_queue(bench->driver, index)->ring;

	assert_int_equal(addr->index, index);
	assert_int_equal(addr->flags, 0);
	assert_ptr_equal((void *)(uintptr_t)addr->desc_user_addr, ring->desc);
	assert_ptr_equal((void *)(uintptr_t)addr->avail_user_addr, ring->avail);
	assert_ptr_equal((void *)(uintptr_t)addr->used_user_addr, ring->used);
	assert_int_equal(addr->log_guest_addr, ring->device_gpa);
}

/* The HLD's five steps, the second time without an owner; and the stop. */
static void check_start_calls(struct relay_bench *bench, bool first, uint16_t base)
{
	const struct fake_vhost *fake = bench->fake;
	unsigned int at = 0;

	if (first)
		check_call(fake, at++, VHOST_SET_OWNER, 0, 0);
	check_call(fake, at++, VHOST_SET_FEATURES, 0, fake->features);
	check_call(fake, at++, VHOST_SET_MEM_TABLE, 0, 0);
	for (unsigned int i = 0; i < RELAY_QUEUES; i++)
		check_call(fake, at++, VHOST_SET_VRING_BUSYLOOP_TIMEOUT, i, 50);
	for (unsigned int i = 0; i < RELAY_QUEUES; i++) {
		const struct vhost_vq *vvq = &bench->relay->vhost_vqs[i];

		assert_int_equal(vvq->kick_fd, bench->relay->vc.vqs[i].kick_fd);
		assert_int_equal(vvq->call_fd, bench->relay->vc.vqs[i].call_fd);
		check_call(fake, at++, VHOST_SET_VRING_NUM, i, RELAY_QUEUE_SIZE);
		check_call(fake, at++, VHOST_SET_VRING_BASE, i, base);
		check_call(fake, at++, VHOST_SET_VRING_ADDR, i, 0);
		check_call(fake, at++, VHOST_SET_VRING_ERR, i, (unsigned int)vvq->err_fd);
		check_call(fake, at++, VHOST_SET_VRING_CALL, i, (unsigned int)vvq->call_fd);
		check_call(fake, at++, VHOST_SET_VRING_KICK, i, (unsigned int)vvq->kick_fd);
	}
	check_call(fake, at++, VHOST_NET_SET_BACKEND, 0, (unsigned int)bench->relay->vhost.fd);
	check_call(fake, at++, VHOST_NET_SET_BACKEND, 1, (unsigned int)bench->relay->vhost.fd);
	assert_int_equal(fake->call_count, at);
}

static void check_stop_calls(const struct fake_vhost *fake)
{
	unsigned int none = (unsigned int)VHOST_FILE_UNBIND, at = 0;

	check_call(fake, at++, VHOST_NET_SET_BACKEND, 0, none);
	check_call(fake, at++, VHOST_NET_SET_BACKEND, 1, none);
	for (unsigned int i = 0; i < RELAY_QUEUES; i++) {
		check_call(fake, at++, VHOST_SET_VRING_KICK, i, none);
		check_call(fake, at++, VHOST_SET_VRING_CALL, i, none);
		check_call(fake, at++, VHOST_SET_VRING_ERR, i, none);
		at += 3; /* what its base is, it is nowhere now, and does its base let itself be set */
		assert_int_equal(fake->calls[at - 3].request, VHOST_GET_VRING_BASE);
		check_call(fake, at - 2, VHOST_SET_VRING_ADDR, i, 0);
		assert_int_equal(fake->vrings[i].addr.used_user_addr, 0);
		assert_int_equal(fake->calls[at - 1].request, VHOST_SET_VRING_BASE);
	}
	assert_int_equal(fake->call_count, at);
}

static void test_calls(void **state)
{
	struct relay_bench bench = bench_run(&relay_modern, "busyloop=50");
	const uint16_t requests = 3;

	for (uint8_t i = 0; i < requests; i++)
		for (unsigned int queue = 0; queue < RELAY_QUEUES; queue++)
			relay_request(&bench, queue, i);
	fake_vhost_forget_calls(bench.fake);
	assert_int_equal(relay_switch(&bench, true), 0);
	check_start_calls(&bench, true, requests);
	check_memory(bench.fake, &bench.machine->ctx->memory);
	check_ring(&bench, 0);
	check_ring(&bench, 1);
	assert_int_equal(relay_switch(&bench, true), 0); /* started already */
	relay_request(&bench, 0, 9);
	relay_request(&bench, 1, 9);
	assert_int_equal(fake_vhost_chains(bench.fake), 2);
	fake_vhost_forget_calls(bench.fake);
	assert_int_equal(relay_switch(&bench, false), 0);
	check_stop_calls(bench.fake);
	assert_int_equal(bench.relay->vc.vqs[0].last_avail, requests + 1);
	assert_int_equal(bench.relay->vc.vqs[0].used_idx, requests + 1);
	fake_vhost_forget_calls(bench.fake);
	assert_int_equal(relay_switch(&bench, true), 0);
	check_start_calls(&bench, false, requests + 1);
	assert_int_equal(bench.fake->owners, 1);
	relay_request(&bench, 1, 7);
	relay_bench_destroy(&bench);
}

/* ---- Features ---- */

static const struct driver_params legacy = { .legacy = true, .indirect = true, .event_idx = true };

/* ANY_LAYOUT has another meaning there, and what is ours is none of the kernel's business. */
static void test_features_set(void **state)
{
	struct fake_vhost *fake;
	struct relay_bench bench = relay_bench_create(NULL, "vhost=on");

	fake = bench.fake;
	assert_int_equal(bench.relay->vc.device_caps.bits[0] & BIT64(RELAY_F_KERNEL), 0);
	bench.driver = driver_run(bench.machine, RELAY_SLOT, &legacy, 0);
	assert_true(driver_has(bench.driver, VIRTIO_F_ANY_LAYOUT));
	assert_true(driver_has(bench.driver, RELAY_F_OURS));
	assert_true(relay_offloaded(&bench));
	assert_int_equal(fake->features, BIT64(VIRTIO_F_NOTIFY_ON_EMPTY) |
						 BIT64(VIRTIO_RING_F_INDIRECT_DESC) |
						 BIT64(VIRTIO_RING_F_EVENT_IDX));
	relay_request(&bench, 0, 1);
	relay_bench_destroy(&bench);
}

static void test_features_of_the_kernel(void **state)
{
	const struct driver_params params = { .msix = true };
	struct fake_vhost *fake = fake_vhost_create();
	struct relay_bench bench;

	fake->kernel_features |= BIT64(RELAY_F_KERNEL);
	bench = relay_bench_on(fake, NULL, "vhost=on");
	bench.relay->vhost.vhost_ext_features = BIT64(VHOST_F_LOG_ALL) | BIT64(5);
	bench.driver = driver_run(bench.machine, RELAY_SLOT, &params, 0);
	assert_true(driver_has(bench.driver, RELAY_F_KERNEL));
	assert_true(driver_has(bench.driver, VIRTIO_F_RING_RESET)); /* ours */
	assert_true(relay_offloaded(&bench));
	/* bits of the kernel's own as far as it has them */
	assert_int_equal(fake->features, BIT64(VIRTIO_F_VERSION_1) | BIT64(RELAY_F_KERNEL) |
						 BIT64(VHOST_F_LOG_ALL));
	relay_request(&bench, 0, 1);
	relay_bench_destroy(&bench);
}

/* What an option asked for and the kernel lacks is named. */
static void test_limit(void **state)
{
	struct relay_bench bench =
		relay_bench_create(NULL, "packed=on,in_order=on,access_platform=on");
	uint64_t offered = bench.relay->vc.device_caps.bits[0];

	assert_false(offered & BIT64(VIRTIO_F_RING_PACKED));
	assert_false(offered & BIT64(VIRTIO_F_IN_ORDER));
	assert_true(offered & BIT64(VIRTIO_F_ACCESS_PLATFORM)); /* addresses are physical ones */
	assert_logged(bench.machine, "packed=on: the kernel's vhost cannot do that");
	assert_logged(bench.machine, "in_order=on: the kernel's vhost cannot do that");
	assert_int_equal(machine_logged(bench.machine, "access_platform=on"), 0);
	relay_bench_destroy(&bench);

	bench = relay_bench_create(NULL, NULL); /* what nobody asked for is not worth a line */
	assert_int_equal(machine_logged(bench.machine, "vhost"), 0);
	relay_bench_destroy(&bench);
}

static uint64_t translate_identity(struct virtio_common *vc, uint64_t addr, uint64_t len,
				   bool write)
{
	return addr;
}

static void test_limit_translated(void **state)
{
	struct relay_bench bench = relay_bench_create(NULL, "access_platform=on");

	bench.relay->vc.translate = translate_identity;
	vhost_dev_limit(&bench.relay->vhost);
	assert_false(bench.relay->vc.device_caps.bits[0] & BIT64(VIRTIO_F_ACCESS_PLATFORM));
	assert_logged(bench.machine, "access_platform=on: the kernel's vhost cannot do that");
	relay_bench_destroy(&bench);
}

/* Accepted by the driver and no obstacle: what changes how it kicks, stops and resets. */
static void test_features_allowed(void **state)
{
	const unsigned int bits[] = { VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_ACCESS_PLATFORM,
				      VIRTIO_F_ORDER_PLATFORM, VIRTIO_F_SUSPEND };
	struct driver_params params = relay_modern;

	for (unsigned int i = 0; i < ARRAY_SIZE(bits); i++) {
		struct relay_bench bench = relay_bench_create(NULL, "vhost=on,access_platform=on");

		params.extra = BIT64(bits[i]);
		bench.driver = driver_run(bench.machine, RELAY_SLOT, &params, 0);
		assert_true(driver_has(bench.driver, bits[i]));
		assert_true(relay_offloaded(&bench));
		assert_false(bench.fake->features & BIT64(bits[i]));
		relay_request(&bench, 0, 1);
		relay_bench_destroy(&bench);
	}
}

/* A kernel that has IN_ORDER is told of it. */
static void test_in_order(void **state)
{
	struct driver_params params = relay_modern;
	struct fake_vhost *fake = fake_vhost_create();
	struct relay_bench bench;

	fake->kernel_features |= BIT64(VIRTIO_F_IN_ORDER);
	bench = relay_bench_on(fake, NULL, "vhost=on,in_order=on");
	params.extra = BIT64(VIRTIO_F_IN_ORDER);
	bench.driver = driver_run(bench.machine, RELAY_SLOT, &params, 0);
	assert_true(fake->features & BIT64(VIRTIO_F_IN_ORDER));
	relay_request(&bench, 0, 1);
	assert_int_equal(relay_switch(&bench, false), 0);
	relay_request(&bench, 0, 2);
	relay_bench_destroy(&bench);
}

/* ---- Refusals ---- */

static void check_refused(struct relay_bench *bench, const char *reason)
{
	assert_non_null(vhost_dev_can_start(&bench->relay->vhost));
	assert_non_null(strstr(vhost_dev_can_start(&bench->relay->vhost), reason));
	pthread_mutex_lock(&bench->dev->lock);
	fake_vhost_forget_calls(bench->fake);
	assert_int_equal(vhost_dev_start(&bench->relay->vhost), -EINVAL);
	assert_int_equal(bench->fake->call_count, 0);
	pthread_mutex_unlock(&bench->dev->lock);
	assert_logged(bench->machine, reason);
	assert_false(relay_offloaded(bench));
}

static void test_refused_without_driver(void **state)
{
	struct relay_bench bench = relay_bench_create(NULL, NULL);

	check_refused(&bench, "no driver runs");
	bench.driver = driver_run(bench.machine, RELAY_SLOT, &relay_modern, 0);
	assert_null(vhost_dev_can_start(&bench.relay->vhost));
	driver_set_status(bench.driver, 0);
	check_refused(&bench, "no driver runs");
	relay_bench_destroy(&bench);
}

static void test_refused_packed(void **state)
{
	struct driver_params params = relay_modern;
	struct fake_vhost *fake = fake_vhost_create();
	struct relay_bench bench;

	fake->kernel_features |= BIT64(VIRTIO_F_RING_PACKED); /* no kernel does */
	bench = relay_bench_on(fake, NULL, "packed=on");
	params.packed = true;
	bench.driver = driver_run(bench.machine, RELAY_SLOT, &params, 0);
	assert_true(bench.relay->vc.vqs[0].packed);
	check_refused(&bench, "packed rings");
	assert_int_equal(relay_switch(&bench, true), -EINVAL);
	relay_request(&bench, 0, 1);
	relay_bench_destroy(&bench);
}

static void test_refused_translated(void **state)
{
	struct driver_params params = relay_modern;
	struct relay_bench bench = relay_bench_create(NULL, "access_platform=on");

	params.extra = BIT64(VIRTIO_F_ACCESS_PLATFORM);
	bench.driver = driver_run(bench.machine, RELAY_SLOT, &params, 0);
	bench.relay->vc.translate = translate_identity;
	check_refused(&bench, "have to be translated");
	relay_request(&bench, 0, 1);
	relay_bench_destroy(&bench);
}

static void test_refused_features(void **state)
{
	struct relay_bench bench = bench_run(&relay_modern, NULL);

	bench.relay->vhost.kernel_features &= ~BIT64(VIRTIO_RING_F_EVENT_IDX);
	check_refused(&bench, "features that the kernel lacks");
	relay_request(&bench, 0, 1);
	relay_bench_destroy(&bench);
}

/* A device that hands over a queue of which it has a chain, and one that is broken or not set up. */
static void test_refused_queue(void **state)
{
	struct relay_bench bench = bench_run(&relay_modern, NULL);
	struct vqueue_info *vq = &bench.relay->vc.vqs[0];
	uint16_t in_use = vq->last_avail;

	pthread_mutex_lock(&bench.dev->lock);
	vq->popped++;
	assert_int_equal(virtio_queue_offload(&bench.relay->vc, vq), -EBUSY);
	vq->popped--;
	vq->used_idx++;
	assert_int_equal(virtio_queue_offload(&bench.relay->vc, vq), -EBUSY);
	vq->used_idx--;
	vq->broken = true;
	assert_int_equal(virtio_queue_offload(&bench.relay->vc, vq), -EINVAL);
	vq->broken = false;
	vq->enabled = false;
	assert_int_equal(virtio_queue_offload(&bench.relay->vc, vq), -EINVAL);
	vq->enabled = true;
	vq->popped++;
	assert_int_equal(vhost_dev_start(&bench.relay->vhost), -EBUSY);
	vq->popped--;
	pthread_mutex_unlock(&bench.dev->lock);
	assert_logged(bench.machine, "queue 0 cannot be handed to vhost: Device or resource busy");
	assert_false(vq->offloaded);
	assert_int_equal(vq->last_avail, in_use);
	relay_request(&bench, 0, 1);
	relay_bench_destroy(&bench);
}

/* ---- Failures ---- */

/* Each call of the start fails once: nothing runs, user space goes on, and the next start works. */
static void test_start_fails(void **state)
{
	struct relay_bench bench = bench_run(&relay_modern, "busyloop=50");
	unsigned int calls;

	relay_request(&bench, 0, 1);
	fake_vhost_forget_calls(bench.fake);
	assert_int_equal(relay_switch(&bench, true), 0);
	calls = bench.fake->call_count;
	for (unsigned int i = 1; i <= calls; i++) {
		assert_int_equal(relay_switch(&bench, false), 0);
		relay_request(&bench, 0, (uint8_t)i);
		machine_log_clear(bench.machine);
		bench.relay->vhost.owned = false; /* so that SET_OWNER is among them */
		bench.fake->owned = false;
		bench.relay->vhost.no_busyloop = false;
		bench.fake->fail_at = i;
		bench.fake->fail_with = EIO;
		/* the kernel need not have a busy loop: these two do not count */
		if (bench.fake->calls[i - 1].request == VHOST_SET_VRING_BUSYLOOP_TIMEOUT) {
			assert_int_equal(relay_switch(&bench, true), 0);
		} else {
			assert_int_equal(relay_switch(&bench, true), -EIO);
			if (i < 10) /* a driver can bring it about: not more lines than that */
				assert_int_equal(machine_logged(bench.machine, ": Input/output"),
						 1);
			assert_false(relay_offloaded(&bench));
			assert_true(fake_vhost_idle(bench.fake));
			assert_int_equal(inproc_irqfd_count(bench.machine->ctx), 0);
		}
		assert_int_equal(bench.fake->fail_at, 0);
		relay_request(&bench, 0, (uint8_t)i);
		relay_request(&bench, 1, (uint8_t)i);
		assert_int_equal(relay_switch(&bench, true), 0);
		relay_request(&bench, 1, (uint8_t)i);
	}
	relay_bench_destroy(&bench);
}

/* Each call of the stop fails: said, and the rings are back all the same, at the right place. */
static void test_stop_fails(void **state)
{
	struct relay_bench bench = bench_run(&relay_modern, NULL);

	for (unsigned int i = 1; i <= 12; i++) {
		assert_int_equal(relay_switch(&bench, true), 0);
		relay_request(&bench, 0, (uint8_t)i);
		relay_request(&bench, 1, (uint8_t)i);
		machine_log_clear(bench.machine);
		pthread_mutex_lock(&bench.dev->lock);
		relay_set_backend(bench.relay, false);
		bench.fake->fail_at = i;
		bench.fake->fail_with = EIO;
		vhost_dev_stop(&bench.relay->vhost);
		pthread_mutex_unlock(&bench.dev->lock);
		assert_int_equal(bench.fake->fail_at, 0);
		assert_int_equal(machine_logged(bench.machine, ": Input/output error"), i % 6 != 0);
		assert_false(relay_offloaded(&bench));
		relay_request(&bench, 0, (uint8_t)i);
		relay_request(&bench, 1, (uint8_t)i);
		fake_vhost_clear(bench.fake); /* what the failed call left */
		bench.relay->vhost.owned = false;
	}
	assert_int_equal(bench.relay->vc.status & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
	relay_bench_destroy(&bench);
}

/* A device that does not take its back end away: the kernel is stopped without it. */
static void test_backend_kept(void **state)
{
	struct relay_bench bench = bench_run(&relay_modern, "vhost=on,keeps-backend=on");

	relay_request(&bench, 0, 1);
	assert_int_equal(relay_switch(&bench, false), 0);
	assert_logged(bench.machine, "the kernel still runs queue 0");
	assert_true(fake_vhost_idle(bench.fake));
	assert_false(bench.fake->owned);
	relay_request(&bench, 0, 2);
	assert_int_equal(fake_vhost_chains(bench.fake), 1);
	assert_int_equal(relay_switch(&bench, true), 0); /* with an owner again */
	assert_int_equal(bench.fake->owners, 2);
	relay_request(&bench, 0, 3);
	relay_request(&bench, 1, 3);
	assert_int_equal(fake_vhost_chains(bench.fake), 3);
	relay_bench_destroy(&bench);
}

static void test_no_busyloop(void **state)
{
	struct relay_bench bench = relay_bench_create(NULL, "vhost=on,busyloop=50");

	bench.fake->no_busyloop = true;
	bench.driver = driver_run(bench.machine, RELAY_SLOT, &relay_modern, 0);
	relay_request(&bench, 0, 1);
	for (unsigned int i = 0; i < 3; i++)
		driver_restart(bench.driver);
	assert_true(relay_offloaded(&bench));
	relay_request(&bench, 0, 2);
	assert_int_equal(fake_vhost_chains(bench.fake), 2);
	assert_int_equal(machine_logged(bench.machine, "VHOST_SET_VRING_BUSYLOOP_TIMEOUT"), 1);
	relay_bench_destroy(&bench);
}

static void test_init_fails(void **state)
{
	struct fake_vhost *fake = fake_vhost_create();
	struct machine *machine = machine_create(NULL);

	fake->fail_at = 1;
	fake->fail_with = EIO;
	assert_null(pci_add_device(machine->ctx, "virtio-relay"));
	assert_logged(machine, "cannot set up vhost: Input/output error");
	assert_non_null(pci_add_device(machine->ctx, "virtio-relay"));
	machine_destroy(machine);
	fake_vhost_destroy(fake);
}

static void test_open(void **state)
{
	struct relay_bench bench = relay_bench_create(NULL, NULL);
	struct virtio_common *vc = &bench.relay->vc;
	int fd = vhost_open(vc, "/dev/null", false);

	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(vhost_open(vc, "/nowhere/vhost-net", false), -ENOENT);
	assert_logged(bench.machine, "cannot open /nowhere/vhost-net: No such file or directory "
				     "(modprobe vhost_net)");
	assert_int_equal(vhost_open(vc, "/nowhere/vhost-vsock", true), -ENOENT);
	assert_logged(bench.machine,
		      "without vhost: /nowhere/vhost-vsock: No such file or directory "
		      "(modprobe vhost_vsock)");
	assert_int_equal(machine_logged(bench.machine, "cannot open /nowhere/vhost-vsock"), 0);
	relay_bench_destroy(&bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calls),
		cmocka_unit_test(test_features_set),
		cmocka_unit_test(test_features_of_the_kernel),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_limit_translated),
		cmocka_unit_test(test_features_allowed),
		cmocka_unit_test(test_in_order),
		cmocka_unit_test(test_refused_without_driver),
		cmocka_unit_test(test_refused_packed),
		cmocka_unit_test(test_refused_translated),
		cmocka_unit_test(test_refused_features),
		cmocka_unit_test(test_refused_queue),
		cmocka_unit_test(test_start_fails),
		cmocka_unit_test(test_stop_fails),
		cmocka_unit_test(test_backend_kept),
		cmocka_unit_test(test_no_busyloop),
		cmocka_unit_test(test_init_fails),
		cmocka_unit_test(test_open),
	};

	return cmocka_run_group_tests_name("vhost", tests, NULL, NULL);
}
