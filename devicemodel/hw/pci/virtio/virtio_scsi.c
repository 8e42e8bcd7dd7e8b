/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio-scsi: SCSI targets that the host's kernel has (virtio 1.4, 5.6). The kernel's vhost-scsi
 * runs all queues: control, event and requests; ours are the configuration space and when it runs.
 */
#include <errno.h>
#include <linux/virtio_scsi.h>

#include "vhost_device.h"

#define SCSI_DEVICE "/dev/vhost-scsi"
#define SCSI_QUEUE_SIZE 128

/* What vhost-scsi has room for. */
#define SCSI_HEADERS 2 /* descriptors that a request has beside its data */
#define SCSI_MAX_SECTORS 0xffff
#define SCSI_CMD_PER_LUN 128
#define SCSI_MAX_TARGET 255 /* the target is the tag of its port group (vhost-scsi, ABI 1) */
#define SCSI_MAX_LUN 16383 /* flat space addressing: 14 bits (5.6.6.1) */

enum { SCSI_QUEUE_CONTROL, SCSI_QUEUE_EVENT, SCSI_QUEUE_REQUEST };

#define SCSI_REQUEST_QUEUES_MAX (VIRTIO_QUEUES_MAX - SCSI_QUEUE_REQUEST)

/**
 * struct virtio_scsi
 * @config: vc.config
 * @events_missed: of a saved state: the driver has not heard of some events (5.6.6.3)
 */
struct virtio_scsi {
	struct virtio_common vc;
	char *opt_wwpn;
	uint64_t opt_tag, opt_queues, opt_vhostfd;
	struct vhost_device kernel;
	struct virtio_scsi_config *config;
	uint32_t events_missed;
};

/* ---- The target ---- */

static struct vhost_scsi_target scsi_target(const struct virtio_scsi *scsi)
{
	struct vhost_scsi_target target = { .vhost_tpgt = (unsigned short)scsi->opt_tag };

	strncpy(target.vhost_wwpn, scsi->opt_wwpn, sizeof(target.vhost_wwpn) - 1);
	return target;
}

/* With other sizes the kernel would misread every request. */
static const char *scsi_sizes_trouble(const struct virtio_scsi *scsi)
{
	if (scsi->config->cdb_size != VIRTIO_SCSI_CDB_SIZE)
		return "cdb_size is not 32";
	return scsi->config->sense_size != VIRTIO_SCSI_SENSE_SIZE ? "sense_size is not 96" : NULL;
}

static int scsi_backend(struct virtio_common *vc, bool on)
{
	struct virtio_scsi *scsi = container_of(vc, struct virtio_scsi, vc);
	struct vhost_scsi_target target = scsi_target(scsi);
	const char *trouble = on ? scsi_sizes_trouble(scsi) : NULL;

	if (trouble) {
		log_guest(vc->log, "%s: %s: the kernel's vhost-scsi has no other", vc->name,
			  trouble);
		return -EINVAL;
	}
	return on ? vhost_kernel_ioctl(&scsi->kernel.vhost, VHOST_SCSI_SET_ENDPOINT, &target,
				       "VHOST_SCSI_SET_ENDPOINT")
		  : vhost_kernel_ioctl(&scsi->kernel.vhost, VHOST_SCSI_CLEAR_ENDPOINT, &target,
				       "VHOST_SCSI_CLEAR_ENDPOINT");
}

static int scsi_check_abi(struct virtio_scsi *scsi)
{
	struct virtio_common *vc = &scsi->vc;
	int version = -1;
	int error = vhost_device_ioctl(&scsi->kernel, VHOST_SCSI_GET_ABI_VERSION, &version);

	if (error < 0) {
		log_error(vc->log, "%s: VHOST_SCSI_GET_ABI_VERSION: %s (is it " SCSI_DEVICE "?)",
			  vc->name, strerror(-error));
		return error;
	}
	if (version <= VHOST_SCSI_ABI_VERSION)
		return 0;
	log_error(vc->log, "%s: the kernel's vhost-scsi has interface %d, this program knows %d",
		  vc->name, version, VHOST_SCSI_ABI_VERSION);
	return -EOPNOTSUPP;
}

/* Better now than when the guest's driver starts: is the target there? */
static int scsi_check_target(struct virtio_scsi *scsi)
{
	struct virtio_common *vc = &scsi->vc;
	struct vhost_scsi_target target = scsi_target(scsi);
	int error = vhost_device_ioctl(&scsi->kernel, VHOST_SCSI_SET_ENDPOINT, &target);

	if (error >= 0)
		error = vhost_device_ioctl(&scsi->kernel, VHOST_SCSI_CLEAR_ENDPOINT, &target);
	if (error >= 0)
		return 0;
	if (error == -ENODEV || error == -ENOENT)
		log_error(vc->log,
			  "%s: wwpn=%s: the host has no such vhost target with a nexus (make one, "
			  "with targetcli or below /sys/kernel/config/target/vhost)",
			  vc->name, scsi->opt_wwpn);
	else if (error == -EEXIST)
		log_error(vc->log, "%s: wwpn=%s: another device has it (give each its own)",
			  vc->name, scsi->opt_wwpn);
	else
		log_error(vc->log, "%s: wwpn=%s: the kernel does not take it: %s", vc->name,
			  scsi->opt_wwpn, strerror(-error));
	return error;
}

/* "naa." and 16 hexadecimal digits: what the kernel's vhost target driver has names of. */
static int scsi_check_wwpn(const struct virtio_scsi *scsi)
{
	const char *digits = scsi->opt_wwpn + 4;

	if (!strncmp(scsi->opt_wwpn, "naa.", 4) && strlen(digits) == 16 &&
	    strspn(digits, "0123456789abcdefABCDEF") == 16)
		return 0;
	log_error(scsi->vc.log, "%s: wwpn=%s: not naa. and 16 hexadecimal digits", scsi->vc.name,
		  scsi->opt_wwpn);
	return -EINVAL;
}

/* ---- Configuration space (5.6.4) ---- */

/* What the driver may change comes back on reset (5.6.4). */
static void scsi_reset_config(struct virtio_scsi *scsi)
{
	scsi->config->sense_size = VIRTIO_SCSI_SENSE_SIZE;
	scsi->config->cdb_size = VIRTIO_SCSI_CDB_SIZE;
}

/* So many that a request fits into its queue without a table too. */
static uint32_t scsi_seg_max(const struct virtio_scsi *scsi)
{
	uint32_t size = MIN(scsi->vc.vqs[SCSI_QUEUE_REQUEST].size_max, SCSI_QUEUE_SIZE);

	return size > SCSI_HEADERS ? size - SCSI_HEADERS : 1;
}

static void scsi_init_config(struct virtio_scsi *scsi)
{
	scsi->config = (struct virtio_scsi_config *)scsi->vc.config;
	*scsi->config = (struct virtio_scsi_config) {
		.num_queues = (uint32_t)scsi->opt_queues,
		.seg_max = scsi_seg_max(scsi),
		.max_sectors = SCSI_MAX_SECTORS,
		.cmd_per_lun = SCSI_CMD_PER_LUN,
		.event_info_size = sizeof(struct virtio_scsi_event),
		.max_channel = 0,
		.max_target = SCSI_MAX_TARGET,
		.max_lun = SCSI_MAX_LUN,
	};
	scsi_reset_config(scsi);
}

/* The two sizes are the driver's to write, until it runs the device (5.6.4.1); nothing else is. */
static void scsi_cfgwrite(void *dev, uint32_t offset, uint32_t size, uint32_t value)
{
	const uint32_t first = offsetof(struct virtio_scsi_config, sense_size);
	const uint32_t last = offsetof(struct virtio_scsi_config, max_channel);
	struct virtio_scsi *scsi = dev;

	if (scsi->vc.running || !range_contains(first, last - first, offset, size))
		return;
	bytes_put(scsi->vc.config + offset, size, value);
}

/* ---- Life cycle ---- */

static void scsi_set_events_missed(struct virtio_scsi *scsi)
{
	int error = vhost_device_ioctl(&scsi->kernel, VHOST_SCSI_SET_EVENTS_MISSED,
				       &scsi->events_missed);

	if (error < 0)
		log_warning(scsi->vc.log, "%s: VHOST_SCSI_SET_EVENTS_MISSED: %s", scsi->vc.name,
			    strerror(-error));
}

static void scsi_qnotify(void *dev, struct vqueue_info *vq)
{
	vhost_device_run(&((struct virtio_scsi *)dev)->kernel);
}

static void scsi_set_status(void *dev, uint8_t status)
{
	vhost_device_run(&((struct virtio_scsi *)dev)->kernel);
}

static void scsi_quiesce(void *dev)
{
	vhost_device_stop(&((struct virtio_scsi *)dev)->kernel);
}

static void scsi_resume(void *dev)
{
	vhost_device_run(&((struct virtio_scsi *)dev)->kernel);
}

static void scsi_reset(void *dev)
{
	struct virtio_scsi *scsi = dev;

	vhost_device_stop(&scsi->kernel);
	scsi_reset_config(scsi);
	scsi->events_missed = 0;
	scsi_set_events_missed(scsi);
}

static void scsi_queue_reset(void *dev, struct vqueue_info *vq)
{
	vhost_device_queue_reset(&((struct virtio_scsi *)dev)->kernel, vq);
}

static int scsi_offload(void *dev, bool on)
{
	struct virtio_scsi *scsi = dev;

	return vhost_device_offload(&scsi->kernel, on, "the targets are there");
}

static void scsi_deinit(void *dev)
{
	vhost_device_deinit(&((struct virtio_scsi *)dev)->kernel);
}

static int scsi_init_kernel(struct virtio_scsi *scsi)
{
	int error = vhost_device_open(&scsi->kernel, &scsi->vc, SCSI_DEVICE, scsi->opt_vhostfd);

	scsi->kernel.backend = scsi_backend;
	if (!error)
		error = scsi_check_abi(scsi);
	if (!error)
		error = vhost_device_init(&scsi->kernel, &scsi->vc, scsi->vc.nvq,
					  BIT64(VIRTIO_SCSI_F_HOTPLUG));
	if (!error)
		error = vhost_device_own(&scsi->kernel);
	if (!error)
		error = scsi_check_target(scsi);
	if (error)
		scsi_deinit(scsi);
	return error;
}

static int scsi_init(void *dev)
{
	struct virtio_scsi *scsi = dev;
	int error = scsi_check_wwpn(scsi);

	if (!error)
		error = virtio_set_queues(&scsi->vc,
					  SCSI_QUEUE_REQUEST + (unsigned int)scsi->opt_queues);
	if (error)
		return error;
	scsi_init_config(scsi);
	return scsi_init_kernel(scsi);
}

/* ---- Saved states ---- */

static void scsi_saving(void *dev)
{
	struct virtio_scsi *scsi = dev;
	int error = vhost_device_ioctl(&scsi->kernel, VHOST_SCSI_GET_EVENTS_MISSED,
				       &scsi->events_missed);

	if (error < 0)
		log_warning(scsi->vc.log, "%s: VHOST_SCSI_GET_EVENTS_MISSED: %s", scsi->vc.name,
			    strerror(-error));
}

static void scsi_loaded(void *dev)
{
	scsi_set_events_missed(dev);
}

/* clang-format off */
static const struct state_field scsi_config_state[] = {
	{ STATE_FIELD(struct virtio_scsi_config, sense_size) },
	{ STATE_FIELD(struct virtio_scsi_config, cdb_size) },
	{ STATE_FIELD(struct virtio_scsi_config, num_queues), .match = true,
	  .hint = "give the device the queues= it had" },
	{},
};

static const struct state_field scsi_fields[] = {
	{ STATE_FIELD(struct virtio_scsi, events_missed), .min = 0, .max = 1 },
	{},
};

static const struct state_desc scsi_state = {
	.name = "virtio-scsi", .version = 1, .fields = scsi_fields, .saving = scsi_saving,
	.loaded = scsi_loaded,
};

static const struct option_desc scsi_options[] = {
	{ "wwpn", OPTION_STRING, OPTION_REQUIRED, offsetof(struct virtio_scsi, opt_wwpn),
	  .help = "the host's vhost target, naa. and 16 hexadecimal digits" },
	{ "tag", OPTION_UINT, .offset = offsetof(struct virtio_scsi, opt_tag), .def = "1",
	  .max = UINT16_MAX, .help = "its port group, for kernels that show only one" },
	{ "queues", OPTION_UINT, .offset = offsetof(struct virtio_scsi, opt_queues), .def = "1",
	  .min = 1, .max = SCSI_REQUEST_QUEUES_MAX, .help = "request queues, at best one a vCPU" },
	VHOST_DEVICE_FD_OPTION(struct virtio_scsi, opt_vhostfd),
	{},
};

VIRTIO_DEVICE(virtio_scsi, {
	.name = "virtio-scsi", .summary = "SCSI targets of the host's kernel (vhost)",
	.device_id = VIRTIO_ID_SCSI, .nvq = SCSI_QUEUE_REQUEST + 1, .queue_size = SCSI_QUEUE_SIZE,
	.priv_size = sizeof(struct virtio_scsi), .cfgsize = sizeof(struct virtio_scsi_config),
	.features = { { BIT64(VIRTIO_SCSI_F_HOTPLUG) } },
	.options = scsi_options, .init = scsi_init, .deinit = scsi_deinit, .reset = scsi_reset,
	.quiesce = scsi_quiesce, .resume = scsi_resume, .qnotify = scsi_qnotify,
	.queue_reset = scsi_queue_reset, .cfgwrite = scsi_cfgwrite,
	.set_status = scsi_set_status, .offload = scsi_offload, .state = &scsi_state,
	.config_state = scsi_config_state,
});
/* clang-format on */
