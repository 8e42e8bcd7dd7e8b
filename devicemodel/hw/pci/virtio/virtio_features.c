/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which feature bits need which others: a device must not offer one without what it requires
 * (virtio 1.4, 2.2.2).
 */
#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_net.h>

#include "virtio_transport.h"

#define ANY_DEVICE 0
#define NEEDS_MAX 4

/* Bits that the headers of older hosts lack (virtio 1.4, 5.1.3). */
#define NET_F_HASH_TUNNEL 51
#define NET_F_VQ_NOTF_COAL 52
#define NET_F_NOTF_COAL 53
#define NET_F_GUEST_USO4 54
#define NET_F_GUEST_USO6 55
#define NET_F_HOST_USO 56
#define NET_F_HASH_REPORT 57
#define NET_F_RSS 60
#define NET_F_RSC_EXT 61
#define NET_F_RSS_CONTEXT 64

/**
 * struct dependency - @bit of device type @device_id needs @needs: all of them, or any one.
 * The list ends with -1.
 */
static const struct dependency {
	uint16_t device_id;
	uint8_t bit;
	bool any;
	int8_t needs[NEEDS_MAX];
} dependencies[] = {
	{ ANY_DEVICE, VIRTIO_F_RING_PACKED, false, { VIRTIO_F_VERSION_1, -1 } },
	{ VIRTIO_ID_NET, VIRTIO_NET_F_GUEST_TSO4, false, { VIRTIO_NET_F_GUEST_CSUM, -1 } },
	{ VIRTIO_ID_NET, VIRTIO_NET_F_GUEST_TSO6, false, { VIRTIO_NET_F_GUEST_CSUM, -1 } },
	{ VIRTIO_ID_NET, VIRTIO_NET_F_GUEST_UFO, false, { VIRTIO_NET_F_GUEST_CSUM, -1 } },
	{ VIRTIO_ID_NET, NET_F_GUEST_USO4, false, { VIRTIO_NET_F_GUEST_CSUM, -1 } },
	{ VIRTIO_ID_NET, NET_F_GUEST_USO6, false, { VIRTIO_NET_F_GUEST_CSUM, -1 } },
	{ VIRTIO_ID_NET,
	  VIRTIO_NET_F_GUEST_ECN,
	  true,
	  { VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6, -1 } },
	{ VIRTIO_ID_NET, VIRTIO_NET_F_HOST_TSO4, false, { VIRTIO_NET_F_CSUM, -1 } },
	{ VIRTIO_ID_NET, VIRTIO_NET_F_HOST_TSO6, false, { VIRTIO_NET_F_CSUM, -1 } },
	{ VIRTIO_ID_NET, VIRTIO_NET_F_HOST_UFO, false, { VIRTIO_NET_F_CSUM, -1 } },
	{ VIRTIO_ID_NET, NET_F_HOST_USO, false, { VIRTIO_NET_F_CSUM, -1 } },
	{ VIRTIO_ID_NET,
	  VIRTIO_NET_F_HOST_ECN,
	  true,
	  { VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, -1 } },
	{ VIRTIO_ID_NET, VIRTIO_NET_F_CTRL_RX, false, { VIRTIO_NET_F_CTRL_VQ, -1 } },
	{ VIRTIO_ID_NET, VIRTIO_NET_F_CTRL_RX_EXTRA, false, { VIRTIO_NET_F_CTRL_VQ, -1 } },
	{ VIRTIO_ID_NET, VIRTIO_NET_F_CTRL_VLAN, false, { VIRTIO_NET_F_CTRL_VQ, -1 } },
	{ VIRTIO_ID_NET, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, false, { VIRTIO_NET_F_CTRL_VQ, -1 } },
	{ VIRTIO_ID_NET, VIRTIO_NET_F_GUEST_ANNOUNCE, false, { VIRTIO_NET_F_CTRL_VQ, -1 } },
	{ VIRTIO_ID_NET, VIRTIO_NET_F_MQ, false, { VIRTIO_NET_F_CTRL_VQ, -1 } },
	{ VIRTIO_ID_NET, VIRTIO_NET_F_CTRL_MAC_ADDR, false, { VIRTIO_NET_F_CTRL_VQ, -1 } },
	{ VIRTIO_ID_NET, NET_F_NOTF_COAL, false, { VIRTIO_NET_F_CTRL_VQ, -1 } },
	{ VIRTIO_ID_NET, NET_F_VQ_NOTF_COAL, false, { VIRTIO_NET_F_CTRL_VQ, -1 } },
	{ VIRTIO_ID_NET, NET_F_RSS, false, { VIRTIO_NET_F_CTRL_VQ, -1 } },
	{ VIRTIO_ID_NET, NET_F_HASH_REPORT, false, { VIRTIO_NET_F_CTRL_VQ, -1 } },
	{ VIRTIO_ID_NET, NET_F_HASH_TUNNEL, false, { VIRTIO_NET_F_CTRL_VQ, -1 } },
	{ VIRTIO_ID_NET, NET_F_HASH_TUNNEL, true, { NET_F_RSS, NET_F_HASH_REPORT, -1 } },
	{ VIRTIO_ID_NET, NET_F_RSS_CONTEXT, false, { VIRTIO_NET_F_CTRL_VQ, NET_F_RSS, -1 } },
	{ VIRTIO_ID_NET,
	  NET_F_RSC_EXT,
	  true,
	  { VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, -1 } },
	{ VIRTIO_ID_BLOCK, VIRTIO_BLK_F_CONFIG_WCE, false, { VIRTIO_BLK_F_FLUSH, -1 } },
};

static bool dependency_met(const struct virtio_features *offered,
			   const struct dependency *dependency)
{
	for (unsigned int i = 0; i < NEEDS_MAX && dependency->needs[i] >= 0; i++) {
		bool has = virtio_features_test(offered, (unsigned int)dependency->needs[i]);

		if (has == dependency->any)
			return has;
	}
	return !dependency->any;
}

int virtio_check_offered(const struct virtio_common *vc)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(dependencies); i++) {
		const struct dependency *dependency = &dependencies[i];

		if (dependency->device_id != ANY_DEVICE &&
		    dependency->device_id != vc->ops->device_id)
			continue;
		if (!virtio_features_test(&vc->device_caps, dependency->bit) ||
		    dependency_met(&vc->device_caps, dependency))
			continue;
		log_error(vc->log,
			  "%s: offers feature bit %u without bit %d that it needs (2.2.2): a "
			  "fault of the device, please report it",
			  vc->name, dependency->bit, dependency->needs[0]);
		return -EINVAL;
	}
	return 0;
}
