/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-increment: a request is an integer K, the answer K + 1. The device that
 * doc/device-author.md builds; it has one of everything that a device can have.
 */
#include "virtio.h"

/* Nobody's: the specification gives ids from 1 on (virtio 1.4, 5), PCI has room up to this one. */
#define VIRTIO_ID_INCREMENT 63
#define INCREMENT_F_COUNT 0 /* feature: answers hold the count of answers, too */
#define INCREMENT_IOVS 32

struct virtio_increment {
	struct virtio_common vc;
	uint64_t step; /* what is added: option, and le32 at 0 of the configuration space */
	uint32_t answered;
};

static int increment_init(void *dev)
{
	struct virtio_increment *inc = dev;

	bytes_put(inc->vc.config, 4, inc->step);
	return 0;
}

static void increment_reset(void *dev)
{
	((struct virtio_increment *)dev)->answered = 0;
}

/* A request: le32 K to read. Its answer: le32 K + step and perhaps le32 count to write. */
static void increment_qnotify(void *dev, struct vqueue_info *vq)
{
	struct virtio_increment *inc = dev;
	uint32_t k, answer[2], len = virtio_has_feature(&inc->vc, INCREMENT_F_COUNT) ? 8 : 4;
	struct iovec iov[INCREMENT_IOVS];
	struct vq_chain chain;

	while (vq_has_descs(vq) && vq_pop(vq, &chain, iov, INCREMENT_IOVS) > 0) {
		if (iov_to_buf(iov, chain.out_count, 0, &k, 4) < 4 || chain.in_len < len) {
			virtio_device_error(&inc->vc, vq, "a request or its answer is too short");
			return;
		}
		answer[0] = k + (uint32_t)inc->step;
		answer[1] = ++inc->answered;
		iov_from_buf(iov + chain.out_count, chain.in_count, 0, answer, len);
		vq_relchain(vq, chain.idx, len);
	}
	vq_endchains(vq, 1);
}

/* clang-format off */
static const struct option_desc increment_options[] = {
	{ "step", OPTION_UINT, .offset = offsetof(struct virtio_increment, step), .def = "1",
	  .min = 1, .max = UINT32_MAX, .help = "what is added" },
	{},
};

static const struct state_field increment_fields[] = {
	{ STATE_FIELD(struct virtio_increment, answered) }, {},
};
static const struct state_desc increment_state = {
	.name = "virtio-increment", .version = 1, .fields = increment_fields,
};

VIRTIO_DEVICE(virtio_increment, {
	.name = "virtio-increment", .summary = "answers K + 1 to K (a sample)",
	.device_id = VIRTIO_ID_INCREMENT, .nvq = 2, .queue_size = 1024, .cfgsize = 4,
	.priv_size = sizeof(struct virtio_increment), .options = increment_options,
	.features = { { BIT64(INCREMENT_F_COUNT) } }, .init = increment_init,
	.reset = increment_reset, .qnotify = increment_qnotify, .state = &increment_state,
});
/* clang-format on */
