/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The kinds of virtio devices there are: those that were linked in, and those of plugins.
 */
#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>

#include "plugin.h"
#include "plugins.h"
#include "virtio_transport.h"

#define NAME_PREFIX "virtio-"
#define NAME_MAX_LENGTH 32
#define DEVICE_ID_MAX 63 /* PCI has room for no more (virtio 1.4, 4.1.2) */

/* Filled by VIRTIO_DEVICE() at link time. */
extern const struct virtio_ops *const __start_virtio_device_types[];
extern const struct virtio_ops *const __stop_virtio_device_types[];

struct loaded_plugin {
	const struct tenon_plugin *plugin;
	struct loaded_plugin *next;
};

/*
 * Process-wide, because dlopen() is: code cannot be loaded for one VM and not for the other.
 * Changed only by virtio_plugin_load(), while there is one thread.
 */
static struct loaded_plugin *loaded_plugins;

const struct virtio_ops *virtio_device_get(unsigned int index)
{
	size_t count = (size_t)(__stop_virtio_device_types - __start_virtio_device_types);

	if (index < count)
		return __start_virtio_device_types[index];
	for (const struct loaded_plugin *loaded = loaded_plugins; loaded; loaded = loaded->next) {
		index -= (unsigned int)count;
		count = (size_t)(loaded->plugin->end - loaded->plugin->begin);
		if (index < count)
			return loaded->plugin->begin[index];
	}
	return NULL;
}

const struct virtio_ops *virtio_device_find(const char *spec)
{
	size_t length = strcspn(spec, ",");
	const struct virtio_ops *ops;

	for (unsigned int i = 0; (ops = virtio_device_get(i)); i++)
		if (strlen(ops->name) == length && !memcmp(ops->name, spec, length))
			return ops;
	return NULL;
}

static bool name_valid(const char *name)
{
	size_t length = name ? strlen(name) : 0;

	if (length <= strlen(NAME_PREFIX) || length > NAME_MAX_LENGTH ||
	    strncmp(name, NAME_PREFIX, strlen(NAME_PREFIX)))
		return false;
	while (*name &&
	       (islower((unsigned char)*name) || isdigit((unsigned char)*name) || *name == '-'))
		name++;
	return !*name;
}

/* What is wrong with the table of a device; NULL: nothing. */
static const char *ops_fault(const struct virtio_ops *ops)
{
	if (!ops->summary)
		return "summary is missing";
	if (!ops->device_id || ops->device_id > DEVICE_ID_MAX)
		return "device_id is not from 1 to 63";
	if (!ops->nvq || ops->nvq > VIRTIO_QUEUES_MAX)
		return "nvq is not from 1 to 128";
	if (!is_power_of_2(ops->queue_size) || ops->queue_size > VIRTIO_QUEUE_SIZE_MAX)
		return "queue_size is no power of two up to 32768";
	if (ops->priv_size < sizeof(struct virtio_common))
		return "priv_size is less than its struct virtio_common";
	if (!ops->qnotify)
		return "qnotify is missing";
	return NULL;
}

static bool name_taken(const struct tenon_plugin *plugin, unsigned int index)
{
	const char *name = plugin->begin[index]->name;

	if (virtio_device_find(name))
		return true;
	for (unsigned int i = 0; i < index; i++)
		if (!strcmp(plugin->begin[i]->name, name))
			return true;
	return false;
}

static int check_device(struct logger *log, const char *path, const struct tenon_plugin *plugin,
			unsigned int index)
{
	const struct virtio_ops *ops = plugin->begin[index];
	const char *fault;

	if (!name_valid(ops->name)) {
		log_error(log,
			  "plugin %s: device %u is named \"%s\" (a name is virtio- and lower case "
			  "letters, digits or -, %d characters at most)",
			  path, index, ops->name ? ops->name : "", NAME_MAX_LENGTH);
		return -EINVAL;
	}
	fault = ops_fault(ops);
	if (fault) {
		log_error(log, "plugin %s: device %s cannot be used: %s in its struct virtio_ops",
			  path, ops->name, fault);
		return -EINVAL;
	}
	if (name_taken(plugin, index)) {
		log_error(log, "plugin %s: there is a device %s already (rename one of them)", path,
			  ops->name);
		return -EEXIST;
	}
	return 0;
}

static int check_plugin(struct logger *log, const char *path, const struct tenon_plugin *plugin)
{
	size_t count;
	int error = 0;

	if (!plugin) {
		log_error(
			log,
			"plugin %s: not a plugin of tenon: it exports no tenon_plugin (compile it "
			"with pkg-config --cflags tenon)",
			path);
		return -ENOEXEC;
	}
	if (plugin->abi != TENON_PLUGIN_ABI) {
		log_error(
			log,
			"plugin %s: made for plugin interface %llu, this tenon has %d (compile it "
			"again with this tenon's headers)",
			path, (unsigned long long)plugin->abi, TENON_PLUGIN_ABI);
		return -EPROTONOSUPPORT;
	}
	if (plugin->layout != TENON_PLUGIN_LAYOUT) {
		log_error(
			log,
			"plugin %s: its structs are not those of this tenon (compile it again with "
			"this tenon's headers)",
			path);
		return -EPROTONOSUPPORT;
	}
	count = (size_t)(plugin->end - plugin->begin);
	if (!count) {
		log_error(log, "plugin %s: no device in it (VIRTIO_DEVICE() registers one)", path);
		return -ENODEV;
	}
	for (unsigned int i = 0; !error && i < count; i++)
		error = check_device(log, path, plugin, i);
	return error;
}

/* dlerror() begins with the path, and so do our messages. */
static const char *load_error(const char *path)
{
	const char *text = dlerror();
	size_t length = strlen(path);

	if (!text)
		return "unknown error";
	return !strncmp(text, path, length) && !strncmp(text + length, ": ", 2) ? text + length + 2
										: text;
}

static int add_plugin(struct logger *log, const char *path, void *handle)
{
	struct loaded_plugin **end = &loaded_plugins;
	const struct tenon_plugin *plugin = dlsym(handle, "tenon_plugin");
	int error = check_plugin(log, path, plugin);

	if (error)
		return error;
	while (*end)
		end = &(*end)->next;
	*end = calloc(1, sizeof(**end));
	if (!*end) {
		log_error(log, "plugin %s: out of memory", path);
		return -ENOMEM;
	}
	(*end)->plugin = plugin;
	return 0;
}

int virtio_plugin_load(struct logger *log, const char *path)
{
	char *file = realpath(path, NULL); /* a bare name would be searched where libraries are */
	void *handle;
	int error;

	if (!file) {
		error = -errno;
		log_error(log, "plugin %s: cannot be opened: %s", path, strerror(-error));
		return error;
	}
	handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
	if (!handle)
		log_error(log, "plugin %s: cannot be loaded: %s", path, load_error(file));
	free(file);
	if (!handle)
		return -ENOEXEC;
	error = add_plugin(log, path, handle);
	if (error)
		dlclose(handle);
	return error;
}
