/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * plugin.h: how a shared object shows tenon the devices in it. virtio.h includes it, and the flags
 * of "pkg-config --cflags tenon" define TENON_PLUGIN: an author has nothing to do about it.
 */
#ifndef TENON_PLUGIN_H
#define TENON_PLUGIN_H

#include "virtio.h"

TENON_API_BEGIN

/** TENON_PLUGIN_ABI - one more whenever something in the installed headers changes its meaning. */
#define TENON_PLUGIN_ABI 2

/** TENON_PLUGIN_LAYOUT - tells whether both sides mean the same structs. */
#define TENON_PLUGIN_LAYOUT                                                                        \
	((uint64_t)sizeof(struct virtio_ops) | (uint64_t)sizeof(struct virtio_common) << 16 |      \
	 (uint64_t)sizeof(struct vqueue_info) << 32 | (uint64_t)sizeof(struct state_field) << 48)

/**
 * struct tenon_plugin - what a shared object exports under the name tenon_plugin.
 * @abi, @layout: of the headers that it was compiled with; @abi stays the first member for ever
 * @begin, @end: what VIRTIO_DEVICE() registered
 */
struct tenon_plugin {
	uint64_t abi;
	uint64_t layout;
	const struct virtio_ops *const *begin, *const *end;
};

#ifdef TENON_PLUGIN
/* The linker's names for the section of VIRTIO_DEVICE(); missing if there is none in the object. */
extern const struct virtio_ops *const __start_virtio_device_types[]
	__attribute__((weak, visibility("hidden")));
extern const struct virtio_ops *const __stop_virtio_device_types[]
	__attribute__((weak, visibility("hidden")));

/* Weak: each source of a plugin has one, and they are all the same. */
extern const struct tenon_plugin tenon_plugin __attribute__((weak));
const struct tenon_plugin tenon_plugin = {
	TENON_PLUGIN_ABI,
	TENON_PLUGIN_LAYOUT,
	__start_virtio_device_types,
	__stop_virtio_device_types,
};
#endif

TENON_API_END

#endif
