/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-rng: the entropy device (virtio 1.4, 5.4). Also the file to start another device from:
 * a private struct, the request loop, the life cycle, and two tables that tell the core of them.
 */
#include <errno.h>
#include <sys/random.h>

#include "virtio.h"

#define RNG_IOVS 16

/* @left: bytes still to be given in this period, whose timer is armed once any have been given. */
struct virtio_rng {
	struct virtio_common vc;
	uint64_t max_bytes, period_ms, left;
	struct event_source *timer;
};

/* Fill the writable iovecs, up to @limit bytes; -1 if the host has none to give yet. */
static ssize_t rng_fill(const struct iovec *iov, const uint16_t *flags, int count, size_t limit)
{
	ssize_t done = 0;

	for (int i = 0; i < count; i++) {
		size_t want = flags[i] & VRING_DESC_F_WRITE ? MIN(iov[i].iov_len, limit - done) : 0;

		if (getrandom(iov[i].iov_base, want, GRND_NONBLOCK) != (ssize_t)want)
			return done ? done : -1;
		done += want;
	}
	return done;
}

static void rng_qnotify(void *dev, struct vqueue_info *vq)
{
	struct virtio_rng *rng = dev;
	bool armed = rng->left < rng->max_bytes;
	uint16_t idx, flags[RNG_IOVS];
	struct iovec iov[RNG_IOVS];

	/* Each chain takes of @left: ends even if the driver adds them as fast as they are used. */
	while (rng->left && vq_has_descs(vq)) {
		int n = vq_getchain(vq, &idx, iov, RNG_IOVS, flags);
		ssize_t len = rng_fill(iov, flags, n, rng->left);

		if (len > 0)
			vq_relchain(vq, idx, len);
		else if (len < 0) /* never used with no byte in it (5.4.6.2): again next period */
			vq_retchain(vq);
		else if (n > 0)
			virtio_device_error(&rng->vc, vq, "the buffer has no room to write");
		rng->left -= len > 0 ? (uint64_t)len : rng->left;
	}
	vq_endchains(vq, rng->left > 0);
	if (!armed && rng->left < rng->max_bytes)
		event_set_timer(rng->timer, rng->period_ms * 1000000, 0);
}

static void rng_next_period(void *dev, uint32_t expirations)
{
	struct virtio_rng *rng = dev;

	rng->left = rng->max_bytes;
	rng_qnotify(rng, &rng->vc.vqs[0]);
}

static void rng_reset(void *dev)
{
	struct virtio_rng *rng = dev;

	rng->left = rng->max_bytes;
	event_set_timer(rng->timer, 0, 0);
}

static int rng_init(void *dev)
{
	struct virtio_rng *rng = dev;

	rng->left = rng->max_bytes;
	rng->timer = event_add_timer(rng->vc.loop, rng->vc.lock, rng_next_period, rng);
	if (!rng->timer)
		log_error(rng->vc.log, "%s: cannot make a timer: %m", rng->vc.name);
	return rng->timer ? 0 : -ENOMEM;
}

static void rng_deinit(void *dev)
{
	event_remove(((struct virtio_rng *)dev)->timer);
}

/* clang-format off */
static const struct option_desc rng_options[] = {
	{ "max-bytes", OPTION_SIZE, .offset = offsetof(struct virtio_rng, max_bytes), .def = "64K",
	  .min = 1, .max = MIB(1), .help = "most random bytes given in one period" },
	{ "period", OPTION_UINT, .offset = offsetof(struct virtio_rng, period_ms), .def = "1",
	  .min = 1, .max = 60000, .help = "length of a period in milliseconds" },
	{},
};

VIRTIO_DEVICE(virtio_rng, {
	.name = "virtio-rng", .summary = "entropy from the host's random number generator",
	.device_id = VIRTIO_ID_RNG, .nvq = 1, .queue_size = 8, .priv_size = sizeof(struct virtio_rng),
	.options = rng_options, .init = rng_init, .deinit = rng_deinit, .reset = rng_reset,
	.quiesce = rng_reset, .qnotify = rng_qnotify,
});
/* clang-format on */
