/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * plugins.h: loading shared objects with devices in them. What is in one is described in plugin.h.
 */
#ifndef TENON_PLUGINS_H
#define TENON_PLUGINS_H

#include "logger.h"
#include "util.h"

/**
 * virtio_plugin_load() - add the devices of the shared object @path to those that
 * virtio_device_get() tells. For good, and for the whole process, as dlopen() is; before any thread
 * and any VM exists.
 * Return: 0, or -errno after one log line, then nothing of it stays.
 */
int virtio_plugin_load(struct logger *log, const char *path) __must_check;

#endif
