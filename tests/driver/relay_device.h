/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * relay_device.h: a device that can be offloaded, as a device author would write one: what a chain's
 * readable part holds comes back in its writable part, each byte one larger, whoever runs the rings.
 */
#ifndef TENON_TESTS_RELAY_DEVICE_H
#define TENON_TESTS_RELAY_DEVICE_H

#include "fake_kernel.h"
#include "vhost.h"
#include "virtio_driver.h"
#include "virtio_transport.h"

#define RELAY_SLOT 4
#define RELAY_QUEUES 2
#define RELAY_QUEUE_SIZE 16
#define RELAY_IOV 64
#define RELAY_MAX 4096

#define RELAY_F_KERNEL 3 /* a device feature for which the kernel must be asked */
#define RELAY_F_OURS 4 /* and one for which it need not */

/* @wanted: the kernel shall have the rings when it can; @keeps_backend: a careless device */
struct virtio_relay {
	struct virtio_common vc;
	struct vhost_dev vhost;
	struct vhost_vq vhost_vqs[RELAY_QUEUES];
	bool wanted, keeps_backend;
	uint64_t busyloop;
	uint64_t chains;
};

static int relay_set_backend(struct virtio_relay *relay, bool on)
{
	int first = 0;

	for (unsigned int i = 0; i < RELAY_QUEUES; i++) {
		struct vhost_vring_file file = { i, on ? relay->vhost.fd : -1 };
		int error;

		if (!relay->vc.vqs[i].offloaded)
			continue;
		error = vhost_kernel_ioctl(&relay->vhost, VHOST_NET_SET_BACKEND, &file,
					   "VHOST_NET_SET_BACKEND");
		first = first ? first : error;
	}
	return first;
}

static int relay_stop(struct virtio_relay *relay)
{
	if (!relay->vhost.started)
		return 0;
	if (!relay->keeps_backend)
		relay_set_backend(relay, false);
	return vhost_dev_stop(&relay->vhost);
}

static int relay_start(struct virtio_relay *relay)
{
	int error;

	if (relay->vhost.started)
		return 0;
	error = vhost_dev_start(&relay->vhost);
	if (!error)
		error = relay_set_backend(relay, true);
	if (error)
		relay_stop(relay);
	return error;
}

static void relay_update(struct virtio_relay *relay)
{
	if (relay->wanted && virtio_driver_ok(&relay->vc) && relay_start(relay))
		relay->wanted = false;
}

static void relay_work(struct virtio_relay *relay, struct vqueue_info *vq)
{
	struct iovec iov[RELAY_IOV];
	uint8_t bytes[RELAY_MAX];
	struct vq_chain chain;

	while (vq_has_descs(vq) && vq_pop(vq, &chain, iov, RELAY_IOV) > 0) {
		size_t len = MIN(chain.out_len, chain.in_len);

		len = MIN(len, sizeof(bytes));

		iov_to_buf(chain.iov, chain.out_count, 0, bytes, len);
		for (size_t i = 0; i < len; i++)
			bytes[i]++;
		iov_from_buf(chain.iov + chain.out_count, chain.in_count, 0, bytes, len);
		vq_relchain(vq, chain.idx, (uint32_t)len);
		relay->chains++;
	}
	vq_endchains(vq, 1);
}

/* A queue that was enabled after the start is for the next one. */
static void relay_qnotify(void *dev, struct vqueue_info *vq)
{
	struct virtio_relay *relay = dev;

	if (relay->vhost.started) {
		relay_stop(relay);
		relay_update(relay);
	}
	relay_work(relay, vq);
}

static int relay_offload(void *dev, bool on)
{
	struct virtio_relay *relay = dev;
	const char *reason;

	relay->wanted = on;
	if (!on)
		return relay_stop(relay);
	if (!virtio_driver_ok(&relay->vc))
		return 0;
	reason = vhost_dev_can_start(&relay->vhost);
	if (!reason)
		return relay_start(relay);
	log_error(relay->vc.log, "%s: no vhost: %s", relay->vc.name, reason);
	return -EINVAL;
}

static void relay_quiesce(void *dev)
{
	relay_stop(dev);
}

static void relay_resume(void *dev)
{
	relay_update(dev);
}

static void relay_set_status(void *dev, uint8_t status)
{
	relay_update(dev);
}

static void relay_queue_reset(void *dev, struct vqueue_info *vq)
{
	relay_stop(dev);
}

static int relay_init(void *dev)
{
	struct virtio_relay *relay = dev;
	int error;

	relay->vhost.vqs = relay->vhost_vqs;
	relay->vhost.nvqs = RELAY_QUEUES;
	error = vhost_dev_init(&relay->vhost, &relay->vc, fake_vhost->fd, 0, BIT64(RELAY_F_KERNEL),
			       0, (uint32_t)relay->busyloop);
	if (!error)
		vhost_dev_limit(&relay->vhost);
	return error;
}

static void relay_deinit(void *dev)
{
	struct virtio_relay *relay = dev;

	vhost_dev_deinit(&relay->vhost);
}

/* clang-format off */
static const struct option_desc relay_options[] = {
	{ "vhost", OPTION_BOOL, .offset = offsetof(struct virtio_relay, wanted), .def = "off",
	  .help = "the kernel runs the rings" },
	{ "keeps-backend", OPTION_BOOL, .offset = offsetof(struct virtio_relay, keeps_backend),
	  .def = "off", .help = "forget to take the back end away" },
	{ "busyloop", OPTION_UINT, .offset = offsetof(struct virtio_relay, busyloop), .max = 1000000,
	  .help = "microseconds" },
	{},
};

VIRTIO_DEVICE(virtio_relay, {
	.name = "virtio-relay", .summary = "a test's device that can be offloaded",
	.device_id = VIRTIO_ID_RNG, .nvq = RELAY_QUEUES, .queue_size = RELAY_QUEUE_SIZE,
	.priv_size = sizeof(struct virtio_relay),
	.features = { { BIT64(RELAY_F_KERNEL) | BIT64(RELAY_F_OURS) } },
	.options = relay_options, .init = relay_init, .deinit = relay_deinit, .reset = relay_quiesce,
	.quiesce = relay_quiesce, .resume = relay_resume, .qnotify = relay_qnotify,
	.queue_reset = relay_queue_reset, .set_status = relay_set_status, .offload = relay_offload,
});
/* clang-format on */

/* ---- A machine with one ---- */

struct relay_bench {
	struct fake_vhost *fake;
	struct machine *machine;
	struct pci_vdev *dev;
	struct virtio_relay *relay;
	struct virtio_driver *driver;
};

static inline struct relay_bench
relay_bench_on(struct fake_vhost *fake, const struct machine_config *config, const char *options)
{
	struct relay_bench bench = { .fake = fake };
	char spec[128];

	bench.machine = machine_create(config);
	snprintf(spec, sizeof(spec), "%d,virtio-relay%s%s", RELAY_SLOT, options ? "," : "",
		 options ? options : "");
	if (!options || !strstr(options, "packed="))
		strcat(spec, ",packed=off");
	bench.dev = machine_add(bench.machine, spec);
	bench.relay = *(struct virtio_relay **)((char *)bench.dev->arg + sizeof(void *));
	return bench;
}

static inline struct relay_bench relay_bench_create(const struct machine_config *config,
						    const char *options)
{
	return relay_bench_on(fake_vhost_create(), config, options);
}

static inline void relay_bench_destroy(struct relay_bench *bench)
{
	driver_close(bench->driver);
	machine_destroy(bench->machine);
	assert_true(fake_vhost_idle(bench->fake));
	fake_vhost_destroy(bench->fake);
}

/* As the control socket would. */
static inline int relay_switch(struct relay_bench *bench, bool on)
{
	int error;

	pthread_mutex_lock(&bench->dev->lock);
	error = bench->dev->dev_ops->vdev_offload(bench->dev, on);
	pthread_mutex_unlock(&bench->dev->lock);
	return error;
}

static inline bool relay_offloaded(const struct relay_bench *bench)
{
	return bench->relay->vc.vqs[0].offloaded && bench->relay->vc.vqs[1].offloaded;
}

/* One request through queue @index, byte for byte. */
static inline void relay_request(struct relay_bench *bench, unsigned int index, uint8_t seed)
{
	uint8_t out[100], in[sizeof(out)];

	for (unsigned int i = 0; i < sizeof(out); i++)
		out[i] = (uint8_t)(seed + i);
	assert_int_equal(driver_request(driver_queue(bench->driver, index),
					&driver_layouts[seed % driver_layout_count], out,
					sizeof(out), in, sizeof(in)),
			 sizeof(in));
	for (unsigned int i = 0; i < sizeof(out); i++)
		assert_int_equal(in[i], (uint8_t)(out[i] + 1));
}

static const struct driver_params relay_modern = {
	.indirect = true, .event_idx = true, .msix = true, .ioeventfd = true
};

#endif
