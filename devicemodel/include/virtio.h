/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * virtio.h: the device author's API (VBS-U).
 *
 * A device is one const struct virtio_ops, registered with VIRTIO_DEVICE(), and a private struct
 * whose first member is a struct virtio_common. The core makes both out of the option table,
 * negotiates features, runs the rings, and shows the device on every transport. All callbacks run
 * with the device's lock held, never two at a time; a device takes no lock of its own unless it
 * makes threads. Names follow the virtio 1.4 specification.
 */
#ifndef TENON_VIRTIO_H
#define TENON_VIRTIO_H

/* Its functions for a ring's memory are no C++. */
#if defined(__cplusplus) && !defined(VIRTIO_RING_NO_LEGACY)
#define VIRTIO_RING_NO_LEGACY
#endif

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <pthread.h>
#include <sys/uio.h>

#include "event.h"
#include "log.h"
#include "option_table.h"
#include "state_table.h"
#include "util.h"

#ifndef VIRTIO_CONFIG_S_SUSPEND
#define VIRTIO_CONFIG_S_SUSPEND 16 /* virtio 1.4, 2.1 */
#endif
#define VIRTIO_QUEUE_SIZE_MAX 32768 /* virtio 1.4, 2.7 */
#define VIRTIO_NO_VECTOR 0xffff
#define VIRTIO_QUEUES_MAX 128

TENON_API_BEGIN

struct guest_memory;
struct iothreads;
struct virtio_common;
struct vq_dirty;
struct vq_inflight;
struct vqueue_info;
struct virtio_transport_ops;
struct vq_ops;
struct vq_slot;

/** struct virtio_features - 128 feature bits (virtio 1.4, 2.2). */
struct virtio_features {
	uint64_t bits[2];
};

static inline bool virtio_features_test(const struct virtio_features *features, unsigned int bit)
{
	return features->bits[bit / 64] & BIT64(bit % 64);
}

/**
 * struct virtio_ops - a kind of virtio device. @dev is the private struct.
 * @name: as in -s ("virtio-rng")
 * @summary: one line for help
 * @device_id: VIRTIO_ID_x
 * @nvq: number of queues; init may call virtio_set_queues() for another
 * @queue_size: entries a queue, a power of two
 * @priv_size: sizeof the private struct, allocated zeroed
 * @cfgsize: bytes of device configuration space; its contents are at vc->config
 * @features: bits that every instance offers (device bits; the core adds the ring's and transport's);
 *            init adds others to vc->device_caps
 * @options: option table over the private struct, or NULL
 * @init: options are parsed; open the back-end resource. 0 or -errno after one log line
 * @deinit: release everything; after quiesce
 * @reset: forget all that the driver did; no request is in flight when it returns
 * @quiesce: no request in flight and no DMA when it returns, until resume; NULL if the device
 *           touches guest memory only inside qnotify. Also called, and no resume after it, when the
 *           driver broke the protocol while the kernel ran a queue
 * @resume: go on after quiesce
 * @qnotify: the driver made buffers available in @vq (or may have); also called for each queue when
 *           the driver sets DRIVER_OK and after resume
 * @queue_reset: @vq was reset or disabled alone: drop what is in flight of it (NULL: none ever is).
 *            Not called when a front end (vhost-user) stops a ring and goes on with it at the same
 *            place: that is after quiesce, and before resume
 * @cfgread: before the driver reads [@offset, @offset + @size) of vc->config: may refresh it
 * @cfgwrite: the driver wrote @size bytes at @offset; vc->config is not changed by the core.
 *            NULL: writes are ignored
 * @apply_features: the driver's features are final (FEATURES_OK, or the first DRIVER_OK of a legacy
 *            driver) and in vc->negotiated_caps
 * @set_status: the status changed to @status (not for 0: that is reset)
 * @offload: the data plane goes to the kernel (@on) or comes back, while the driver runs; 0 or
 *           -errno after one log line (NULL: the device cannot)
 * @state: what is saved of the private struct besides the core's part; NULL: nothing. It is loaded
 *         after reset and, where the features are final, apply_features; loaded() comes last,
 *         and in all of it the device is quiesced
 * @queue_alone: may qnotify of queue @index run at the same time as that of others, each with its own
 *               vq->lock held and nothing else? NULL: none may. Asked whenever queues are made, before
 *               init and by virtio_set_queues(): then those get locks; and again when the driver's
 *               features are final: a no then has all locks taken around qnotify as for other queues.
 *               See "Queues with locks of their own"
 * @queue_group: so many queues in a row share a thread if they have locks of their own (a network
 *               device's pairs: 2); 0 is 1
 * @config_state: which fields of vc->config are loaded from a saved state (offsets are in it);
 *                the other bytes must be the same. Fields with @match only name those. May be NULL
 */
struct virtio_ops {
	const char *name;
	const char *summary;
	uint16_t device_id;
	uint16_t nvq;
	uint16_t queue_size;
	size_t priv_size;
	uint32_t cfgsize;
	struct virtio_features features;
	const struct option_desc *options;
	int (*init)(void *dev);
	void (*deinit)(void *dev);
	void (*reset)(void *dev);
	void (*quiesce)(void *dev);
	void (*resume)(void *dev);
	void (*qnotify)(void *dev, struct vqueue_info *vq);
	void (*queue_reset)(void *dev, struct vqueue_info *vq);
	void (*cfgread)(void *dev, uint32_t offset, uint32_t size);
	void (*cfgwrite)(void *dev, uint32_t offset, uint32_t size, uint32_t value);
	void (*apply_features)(void *dev);
	void (*set_status)(void *dev, uint8_t status);
	int (*offload)(void *dev, bool on);
	bool (*queue_alone)(void *dev, uint16_t index);
	uint16_t queue_group;
	const struct state_desc *state;
	const struct state_field *config_state;
};

/** VIRTIO_DEVICE() - register @ops at link time under a unique C name @id. */
#define VIRTIO_DEVICE(id, ...)                                                                     \
	static const struct virtio_ops id = __VA_ARGS__;                                           \
	static const struct virtio_ops *const virtio_device_##id                                   \
		__attribute__((used, section("virtio_device_types"))) = &(id)

/**
 * struct vqueue_info - one virtqueue. Devices read @index, @vc and @priv; the rest is the ring's.
 * @index: its number
 * @size, @size_max: entries now and at most
 * @enabled: set up by the driver and usable
 * @offloaded: the kernel runs it (vhost.h): it gives no chains, and is not to be touched
 * @stopped: not enabled, but may go on where it was: virtio_queue_stop()
 * @broken: the driver broke the protocol on it; it gives no more chains until reset
 * @priv: for the device
 * @loop, @lock: where its kicks come and what is held around its qnotify: vc->loop and vc->lock, or,
 *               where ops->queue_alone says so, its own
 */
struct vqueue_info {
	struct virtio_common *vc;
	uint16_t index;
	uint16_t size, size_max;
	bool enabled;
	bool stopped;
	bool broken;
	bool offloaded; /* the kernel runs it: no qnotify, no chains */
	void *priv;
	struct event_loop *loop;
	pthread_mutex_t *lock;
	pthread_mutex_t own_lock;
	struct event_source *poller; /* looks for chains while the loop polls */
	bool polled; /* it does now: the driver need not kick */
	bool told; /* of what is at armed_at; the device has not looked since */
	bool together; /* has a lock of its own, but with these features queue_alone says no */
	bool error_pending; /* broken by a thread that held vq->lock only: the rest is to be done */
	bool notify_pending; /* likewise, qnotify that takes all locks */

	/* transport */
	uint64_t desc_addr, driver_addr, device_addr;
	uint16_t size_written; /* as the driver wrote it, perhaps half of it yet */
	uint16_t msix_vector; /* likewise; VIRTIO_NO_VECTOR or beyond the table: none */
	int kick_fd;
	struct event_source *kick_source;
	bool kick_registered; /* kick_fd is registered as ioeventfd at kick_addr */
	bool kick_pio;
	uint64_t kick_addr;
	int call_fd; /* offloaded: whoever runs the ring signals it for an interrupt */
	void *call; /* the transport's, behind call_fd */

	/* ring */
	const struct vq_ops *ops;
	bool packed; /* which @ops, since it was enabled */
	void *desc, *driver_area, *device_area; /* host addresses, checked whole when enabled */
	bool event_idx, indirect, in_order, notify_on_empty;
	bool in_turn; /* qnotify runs: at most @turn more chains in this call */
	unsigned int turn;
	bool kicks_armed; /* has_descs said no: the driver is asked to kick, unless @polled */
	uint16_t armed_at; /* then: where in the ring; packed: with the wrap counter in bit 15 */
	bool avail_wrap; /* packed: the wrap counters (2.8.1) */
	bool used_wrap;
	uint16_t last_avail; /* next available entry to look at */
	uint16_t avail_shadow; /* split: available index as last read */
	uint16_t used_idx; /* next used entry to write (not all published yet) */
	uint16_t published; /* used index that the driver can see */
	uint16_t
		batch_flags; /* packed: flags of the first entry not published, which show the batch */
	uint32_t batch_descs; /* packed: entries that the chains of this batch took */
	uint16_t descs_in_use; /* packed: descriptors of the chains that the device has */
	uint32_t popped; /* chains taken and given back, less the same multiple of the size */
	uint32_t released;
	struct vq_slot *slots; /* size_max: by idx */
	uint16_t *order; /* size_max: idx of the last chains taken */
	uint16_t *free_slots; /* packed, size_max: stack of idx not in use */
	uint16_t free_count;
	struct vq_inflight *inflight; /* vq_inflight.h; NULL: nobody wants to know */
	struct vq_dirty *dirty; /* dirty_log.h; likewise */
};

/**
 * struct virtio_common - the part that every virtio device has; first member of the private struct.
 * @ops: its kind; @name: for messages; @log: the VM's
 * @memory: the guest's RAM
 * @loop: where its events run: virtio_add_event()
 * @lock: held around all callbacks
 * @config: ops->cfgsize bytes, little-endian; the device writes it and calls virtio_config_changed()
 * @device_caps: features offered; @negotiated_caps: what the driver accepted
 * @vqs, @nvq: the queues
 */
struct virtio_common {
	const struct virtio_ops *ops;
	const char *name;
	const char *vm_name;
	struct logger *log;
	struct guest_memory *memory;
	struct event_loop *loop;
	pthread_mutex_t *lock;
	uint8_t *config;
	struct virtio_features device_caps, driver_caps, negotiated_caps;
	struct vqueue_info *vqs;
	uint16_t nvq;
	uint8_t status;
	uint8_t isr;
	uint8_t config_generation;
	bool features_final;
	bool quiesced;
	bool bus_lost; /* the driver said that it may not reach memory: as if quiesced */
	bool running; /* rings may be used: DRIVER_OK (or a legacy driver), not broken, not quiesced */
	bool kicks_elsewhere; /* set by init: somebody else hears of the driver's kicks (VBS-K) */
	bool legacy_driver; /* driven through the legacy interface since the last reset */

	bool suspended; /* virtio 1.4, 2.1.2: the driver set SUSPEND */
	bool config_event_held; /* a configuration change to be told when the device resumes */
	bool kernel_only; /* set by init: nobody else can run its queues, so what they write is not logged */
	bool writes_logged; /* by the transport, for migration: the kernel, which does not, runs no queue */
	uint8_t *config_shown; /* what the driver sees of config while suspended */

	/**
	 * @translate: with ACCESS_PLATFORM, the guest physical address of [@addr, @addr + @len) of the
	 * bus, or UINT64_MAX; NULL: identity. Any thread that works on rings, no lock of its own.
	 */
	uint64_t (*translate)(struct virtio_common *vc, uint64_t addr, uint64_t len, bool write);

	struct iothreads *iothreads; /* the transport's, NULL: everything runs on @loop */
	unsigned int queues_locked; /* virtio_lock_queues() so often; written with all locks held */
	bool queues_alone; /* there are queues with locks of their own */
	struct event_source *pending_timer; /* on @loop, if there are: does what is pending */

	/* options that every virtio device has */
	char *opt_iothread;
	unsigned int opt_poll; /* enum virtio_poll */
	bool opt_legacy, opt_modern, opt_event_idx, opt_indirect, opt_packed, opt_in_order;
	bool opt_access_platform, opt_msix;
	uint64_t opt_queue_size;

	const struct virtio_transport_ops *transport;
	void *transport_arg;
};

/*
 * ---- Queues with locks of their own ----
 *
 * A device whose ops->queue_alone says yes for some queues may have them worked on by several threads.
 * qnotify of such a queue, and what the device does in events of its own on vq->loop, hold vq->lock
 * alone: they touch nothing but that queue and what only changes when all is held. All other
 * callbacks of ops, and qnotify of the other queues, are called with vc->lock and all queues' locks
 * held. Events on vc->loop and vc->lock hold that lock only; virtio_lock_queues() gets the rest.
 * Order: vc->lock, then queues' by index. virtio_device_error() may be called with either.
 */

/**
 * virtio_lock_queues() / virtio_unlock_queues() - the locks of all queues; vc->lock held, no queue's
 * alone. They nest, so callbacks that hold all may call what needs all.
 */
void virtio_lock_queues(struct virtio_common *vc);
void virtio_unlock_queues(struct virtio_common *vc);

/* ---- For device code; callbacks' threads, lock held ---- */

/** virtio_set_queues() - have @count queues (1..VIRTIO_QUEUES_MAX); init only. 0 or -EINVAL/-ENOMEM. */
int virtio_set_queues(struct virtio_common *vc, unsigned int count) __must_check;

/** virtio_offer() - offer feature @bit; init only. */
void virtio_offer(struct virtio_common *vc, unsigned int bit);

/** virtio_has_feature() - did the driver accept feature @bit? */
static inline bool virtio_has_feature(const struct virtio_common *vc, unsigned int bit)
{
	return virtio_features_test(&vc->negotiated_caps, bit);
}

/** virtio_driver_ok() - has the driver set DRIVER_OK, and may the rings be used now? */
static inline bool virtio_driver_ok(const struct virtio_common *vc)
{
	return (vc->status & VIRTIO_CONFIG_S_DRIVER_OK) && vc->running;
}

/** virtio_polls() - may the device's loops look for work before they sleep (option poll=)? */
static inline bool virtio_polls(const struct virtio_common *vc)
{
	return vc->opt_poll;
}

/** virtio_config_changed() - vc->config changed: new generation, config-change notification. */
void virtio_config_changed(struct virtio_common *vc);

/**
 * virtio_device_error() - the driver broke the protocol: say which rule in one rate-limited line,
 * set DEVICE_NEEDS_RESET and notify (virtio 1.4, 2.1.2). @vq: where, or NULL.
 */
void virtio_device_error(struct virtio_common *vc, struct vqueue_info *vq, const char *fmt, ...)
	__format_printf(3, 4);

/**
 * vq_has_descs() - is there an available chain? Once it says no, the device hears of the next one by
 * qnotify, so a loop on it never misses any. It says no too when the queue is not set up, broken,
 * suspended or quiesced, and when one qnotify took so many chains that others must have their turn:
 * then qnotify is called again soon.
 */
bool vq_has_descs(struct vqueue_info *vq);

/**
 * vq_getchain() - take the next available chain, as host memory.
 * @idx: to be handed to vq_relchain()
 * @iov, @n_iov: filled with the buffers in order, device-readable ones first; a descriptor that
 *               crosses RAM regions takes several
 * @flags: per iovec, VRING_DESC_F_WRITE where the device writes; may be NULL
 *
 * Return: number of iovecs, 0 if there is no chain, -1 if the driver broke the protocol (bad
 * address, loop, more than @n_iov ...): then nothing was taken and the device needs a reset.
 */
int vq_getchain(struct vqueue_info *vq, uint16_t *idx, struct iovec *iov, int n_iov,
		uint16_t *flags) __must_check;

/**
 * struct vq_chain - a chain with its parts told apart. @out: device-readable bytes; @in: writable;
 * @descs: descriptors of the ring that it takes, an indirect table being one
 */
struct vq_chain {
	uint16_t idx;
	uint16_t descs;
	struct iovec *iov;
	int out_count, in_count; /* iov[0..out_count) readable, then in_count writable */
	uint64_t out_len, in_len;
};

/** vq_pop() - vq_getchain() into a struct vq_chain whose @iov has room for @n_iov. 1, 0 or -1. */
int vq_pop(struct vqueue_info *vq, struct vq_chain *chain, struct iovec *iov,
	   int n_iov) __must_check;

/**
 * vq_getchains() - take up to @max chains at once; @iov has room for @n_iov in all, @chains point
 * into it. The number taken, 0 or -1; a chain that does not fit into what is left of @iov stays
 * for the next call, unless it is the first.
 */
int vq_getchains(struct vqueue_info *vq, struct vq_chain *chains, int max, struct iovec *iov,
		 int n_iov) __must_check;

/** vq_retchain() - put the chain taken last back; it will be the next one again. Repeatable. */
void vq_retchain(struct vqueue_info *vq);

/** vq_relchain() - chain @idx is used, @len bytes of its writable part were written (virtio 1.4, 2.7.8). */
void vq_relchain(struct vqueue_info *vq, uint16_t idx, uint32_t len);

/** struct vq_used - a chain that was used and how many bytes were written to it. */
struct vq_used {
	uint16_t idx;
	uint32_t len;
};

/** vq_relchains() - vq_relchain() for @count chains. */
void vq_relchains(struct vqueue_info *vq, const struct vq_used *used, int count);

/**
 * vq_endchains() - show the driver all that vq_relchain() collected, and notify it if it wants to
 * know. @used_all: all available chains were used (legacy NOTIFY_ON_EMPTY).
 */
void vq_endchains(struct vqueue_info *vq, int used_all);

/** vq_end_turn() - what was done took long: no more chains in this qnotify, which is called again soon. */
static inline void vq_end_turn(struct vqueue_info *vq)
{
	vq->turn = 0;
}

/** vq_interrupt() - notify the driver of used buffers, unconditionally. */
void vq_interrupt(struct virtio_common *vc, struct vqueue_info *vq);

/** virtio_add_event() - event_add_fd() on the device's loop and lock. */
static inline struct event_source *virtio_add_event(struct virtio_common *vc, int fd,
						    uint32_t events, event_callback callback,
						    void *arg)
{
	return event_add_fd(vc->loop, fd, events, vc->lock, callback, arg);
}

/* ---- iovec helpers: byte offsets in a chain, whatever its layout (virtio 1.4, 2.7.4) ---- */

/** iov_length() - bytes in all. */
uint64_t iov_length(const struct iovec *iov, int count);

/** iov_to_buf() - copy up to @len bytes starting at byte @offset out of the iovecs; returns how many. */
size_t iov_to_buf(const struct iovec *iov, int count, uint64_t offset, void *buf, size_t len);

/** iov_from_buf() - the other way. */
size_t iov_from_buf(const struct iovec *iov, int count, uint64_t offset, const void *buf,
		    size_t len);

/** iov_slice() - describe bytes [@offset, @offset + @len) of @iov in @out (room @max); count or -EMSGSIZE. */
int iov_slice(const struct iovec *iov, int count, uint64_t offset, uint64_t len, struct iovec *out,
	      int max) __must_check;

TENON_API_END

#include "plugin.h"

#endif
