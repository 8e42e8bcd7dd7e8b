/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * virtio_transport.h: between virtio.c and the transports. Not for devices.
 */
#ifndef TENON_VIRTIO_TRANSPORT_H
#define TENON_VIRTIO_TRANSPORT_H

#include "event_loop.h"
#include "guest_memory.h"
#include "options.h"
#include "state.h"
#include "virtio.h"

/* Feature bits that the headers of older hosts lack (virtio 1.4, 6). */
#ifndef VIRTIO_F_NOTIFICATION_DATA
#define VIRTIO_F_NOTIFICATION_DATA 38
#endif
#ifndef VIRTIO_F_RING_RESET
#define VIRTIO_F_RING_RESET 40
#endif
#ifndef VIRTIO_F_SUSPEND
#define VIRTIO_F_SUSPEND 43
#endif

/**
 * struct virtio_route - how a legacy driver and whoever runs its rings reach each other.
 * @vm_id: the hypervisor's number of the VM
 * @port, @port_count: where the registers are
 * @vector: of the queue asked about, VIRTIO_NO_VECTOR: none
 * @message_addr, @message_data: what it sends now
 */
struct virtio_route {
	int vm_id;
	uint64_t port, port_count;
	uint16_t vector;
	uint64_t message_addr;
	uint32_t message_data;
};

/**
 * struct virtio_transport_ops - what a transport does for virtio_common. vc's lock is held, and the
 * queues' where they change; in notify_queue and kick_later perhaps @vq->lock only.
 * @notify_queue: used buffer notification for @vq
 * @notify_config: configuration change notification
 * @kick_later: call virtio_queue_notify() for @vq from vq->loop, soon; offloaded: signal kick_fd
 * @offload: @on: from now on a kick of @vq, by ioeventfd or trapped, does nothing but signal
 *           vq->kick_fd, which nobody here reads, and a signal on vq->call_fd (made here) is a used
 *           buffer notification, whatever the driver does to vectors and BARs. kick_fd is signalled
 *           now, and again by the event loop: after the callback that this is part of.
 *           !@on: as before; what is pending on call_fd is delivered, and the event loop has the
 *           queue looked at once. 0 or -errno, never for !@on; NULL: the transport cannot
 * @route: how it is reached, and, with @vq, how that interrupts; -EOPNOTSUPP: by no ports. NULL: never
 * @status_changed: the status register has a new value (0 after reset): ioeventfds follow it
 * @queue_size: entries of a queue at least, but with the option queue_size: of who sets rings up without
 *              being told how large they may be
 */
struct virtio_transport_ops {
	void (*notify_queue)(struct virtio_common *vc, struct vqueue_info *vq);
	void (*notify_config)(struct virtio_common *vc);
	void (*kick_later)(struct virtio_common *vc, struct vqueue_info *vq);
	void (*status_changed)(struct virtio_common *vc);
	int (*offload)(struct virtio_common *vc, struct vqueue_info *vq, bool on);
	int (*route)(struct virtio_common *vc, struct vqueue_info *vq, struct virtio_route *route);
	uint16_t queue_size;
};

/** enum virtio_poll - option poll= of every device. */
enum virtio_poll { VIRTIO_POLL_OFF, VIRTIO_POLL_ADAPTIVE, VIRTIO_POLL_ON };

/** struct vq_slot - a chain that the device has, by idx. */
struct vq_slot {
	uint32_t len; /* in order: bytes written, once @done */
	uint16_t id; /* packed: the driver's buffer id */
	uint16_t descs; /* packed: descriptors in the ring */
	bool done; /* in order: given back, but one before it is not */
};

/**
 * struct vq_ops - a ring format. The queue's lock is held.
 * @enable: map and check the areas; -EFAULT, -EINVAL
 * @has_descs: is there a chain? If not it asks for a kick (vq->kicks_armed), but for a queue that is
 *             polled: then nobody is asked, and @has_new says when there is one
 * @has_new: kicks_armed: is there something where has_descs said no? Nothing is asked or changed
 * @set_polled: vq->polled has changed: what was asked of the driver is taken back, or asked
 * @go_on: the ring is used up to @used_idx, and @taken chains (packed: descriptors) behind that are
 *         a device's already, to be given out by vq_inflight.c: next comes what is behind those.
 *         -EBADMSG: that cannot be
 * @pop_recorded: pop for vq_inflight.c, which is told of what is read of a packed ring
 * @pop_again: those: chain->idx is set; packed: @copies of its @count descriptors
 */
struct vq_ops {
	const char *name;
	int (*enable)(struct vqueue_info *vq);
	bool (*has_descs)(struct vqueue_info *vq);
	bool (*has_new)(const struct vqueue_info *vq);
	void (*set_polled)(struct vqueue_info *vq);
	const char *(*pop)(struct vqueue_info *vq, struct vq_chain *chain,
			   int n_iov); /* NULL, or the rule broken */
	void (*unpop)(struct vqueue_info *vq, uint16_t idx);
	void (*push)(struct vqueue_info *vq, uint16_t idx, uint32_t len);
	bool (*publish)(struct vqueue_info *vq, bool used_all); /* true: notify the driver */
	bool (*take_back)(struct vqueue_info *vq, uint16_t last_avail); /* virtio_offload.c */
	int (*go_on)(struct vqueue_info *vq, uint16_t used_idx, bool used_wrap, uint32_t taken);
	const char *(*pop_recorded)(struct vqueue_info *vq, struct vq_chain *chain, int n_iov);
	const char *(*pop_again)(struct vqueue_info *vq, struct vq_chain *chain, int n_iov,
				 const struct vring_packed_desc *copies, unsigned int count);
};

extern const struct vq_ops vq_split_ops;
extern const struct vq_ops vq_packed_ops;

/** vq_ring_ops() - the format of @vq. vq_choose_ops() - vq->ops: that, or what stands in front of it (vq_tracked.c). */
const struct vq_ops *vq_ring_ops(const struct vqueue_info *vq);
void vq_choose_ops(struct vqueue_info *vq);

/** VQ_TOO_LONG - what vq_ops.pop says of a chain that needs more iovecs than there were. */
extern const char VQ_TOO_LONG[];

/** vq_translate() - the guest physical address of [@addr, @addr + @len) as the driver means it, UINT64_MAX: none. */
uint64_t vq_translate(struct vqueue_info *vq, uint64_t addr, uint64_t len, bool write);

/** vq_map() - host address of [@addr, @addr + @len) as the driver means it, or NULL. */
void *vq_map(struct vqueue_info *vq, uint64_t addr, uint64_t len, bool write);

/**
 * vq_chain_add() - append a buffer of the driver to @chain, whose iov has room for @n_iov.
 * Return: NULL, or the rule that it breaks.
 */
const char *vq_chain_add(struct vqueue_info *vq, struct vq_chain *chain, int n_iov, uint64_t addr,
			 uint32_t len, bool write);

/** virtio_check_offered() - does @vc offer each feature that another one of its needs (2.2.2)? Logs what is missing. */
int virtio_check_offered(const struct virtio_common *vc) __must_check;

/**
 * virtio_linkup() - make @vc (first member of a zeroed ops->priv_size) a device of kind @ops with
 * @opts. The transport has set name, vm_name, log, memory, loop, lock, iothreads, transport before;
 * where there are iothreads, the options may set another loop. vc->lock is not held here, and is in
 * virtio_unlink().
 * Return: 0 or -errno after one log line, then everything is undone but the memory of @vc itself.
 */
int virtio_linkup(struct virtio_common *vc, const struct virtio_ops *ops,
		  const char *opts) __must_check;
void virtio_unlink(struct virtio_common *vc);

/** virtio_reset_dev() - status 0: the device as new. */
void virtio_reset_dev(struct virtio_common *vc);

/** virtio_offered_features() - what a driver of the legacy or the modern interface is shown. */
struct virtio_features virtio_offered_features(const struct virtio_common *vc, bool legacy);

/** virtio_legacy_access() - a driver writes through the legacy interface: it is one (virtio 1.4, 2.2.3). */
void virtio_legacy_access(struct virtio_common *vc);

/** virtio_set_status() - the driver wrote @status (not 0). */
void virtio_set_status(struct virtio_common *vc, uint8_t status);

/** virtio_set_driver_features() - the driver wrote word @word (32 bits) of its features. */
void virtio_set_driver_features(struct virtio_common *vc, unsigned int word, uint32_t value);

/** virtio_queue_enable() - the driver enabled @vq whose addresses are set; device error if they are bad. */
void virtio_queue_enable(struct virtio_common *vc, struct vqueue_info *vq);

/**
 * virtio_queue_restore() - @vq has the registers and indices of a saved state: bring its ring to
 * where it was, with no chain taken. -EFAULT, -EINVAL: they cannot be.
 */
int virtio_queue_restore(struct virtio_common *vc, struct vqueue_info *vq) __must_check;

/**
 * virtio_queue_offload() - hand split queue @vq, which is enabled and of which the device has no
 * chain, to somebody else (vhost.c), who looks at the ring from vq->last_avail on. 0 or -errno: then
 * nothing has changed. -EBUSY: the device has a chain, or did not show the driver all it used.
 */
int virtio_queue_offload(struct virtio_common *vc, struct vqueue_info *vq) __must_check;

/**
 * virtio_queue_take_back() - the other way: nobody else touches the ring any more, and the next
 * available entry to look at is @last_avail; the used index is read from the ring, and a device
 * error if it is another: no chain was in work. The device gets qnotify soon, if it runs then.
 */
void virtio_queue_take_back(struct virtio_common *vc, struct vqueue_info *vq, uint16_t last_avail);

/** virtio_pending_finish() - do what queues' threads left to be done with all locks, which are held. */
void virtio_pending_finish(struct virtio_common *vc);

/** virtio_stop_offload() - the device broke: nobody else goes on with its rings either. */
void virtio_stop_offload(struct virtio_common *vc);

/**
 * virtio_queue_stop() - @vq, which is enabled, has no ring any more, but may go on where it was: so the
 * device, which is quiesced and has no chain of it, keeps what it knows of the queue until
 * virtio_queue_reset(). Who sets it up again (virtio_queue_restore()) clears vq->stopped.
 */
void virtio_queue_stop(struct virtio_common *vc, struct vqueue_info *vq);

/** virtio_queue_reset() - @vq alone as new. */
void virtio_queue_reset(struct virtio_common *vc, struct vqueue_info *vq);

/** virtio_queue_kick() - the driver notified queue @index, any value (hostile ones are ignored); vc->lock held, no queue's. */
void virtio_queue_kick(struct virtio_common *vc, uint32_t index);

/** virtio_queue_notify() - the same for whoever heard of it on vq->loop: vq->lock held, not offloaded. */
void virtio_queue_notify(struct vqueue_info *vq);

/** virtio_config_read() / virtio_config_write() - device configuration space; checked here, once for all devices. */
uint32_t virtio_config_read(struct virtio_common *vc, uint64_t offset, unsigned int size);
void virtio_config_write(struct virtio_common *vc, uint64_t offset, unsigned int size,
			 uint32_t value);

void virtio_quiesce(struct virtio_common *vc);
void virtio_resume(struct virtio_common *vc);

/* Which thread works on which queue (virtio_threads.c). */

/** virtio_threads_choose() - vc->loop by the options, before the device's init. 0 or -errno after one log line. */
int virtio_threads_choose(struct virtio_common *vc) __must_check;

/** virtio_queue_place() - vq->loop and vq->lock of a queue that was just made. */
void virtio_queue_place(struct vqueue_info *vq);

/** virtio_queues_ask() - the driver's features are final: vq->together. All locks held. */
void virtio_queues_ask(struct virtio_common *vc);

/** virtio_threads_start() - after the device's init: pollers. 0 or -errno. */
int virtio_threads_start(struct virtio_common *vc) __must_check;

/** virtio_threads_stop() - the other way; vc->lock and all queues' held. */
void virtio_threads_stop(struct virtio_common *vc);

/** virtio_queue_usable() - may the device look at the ring now? The queue's lock held. */
static inline bool virtio_queue_usable(const struct vqueue_info *vq)
{
	return vq->enabled && !vq->broken && !vq->offloaded && vq->vc->running;
}

/** virtio_queue_poll_update() - vq is usable now, or is not: its poller follows. The queue's lock held. */
void virtio_queue_poll_update(struct vqueue_info *vq);

/* Saved states (virtio_state.c): the core's part, the queues and the device's own. */

/**
 * virtio_set_bus() - may the device reach memory (PCI: Bus Master)? While it may not it is as if
 * quiesced, until the driver resets it. vc->lock held.
 */
void virtio_set_bus(struct virtio_common *vc, bool granted);

/** virtio_state_save() - @vc, which is quiesced, as of @place ("00:03.0"). -EBUSY if it is not. */
int virtio_state_save(struct virtio_common *vc, struct state_writer *writer,
		      const char *place) __must_check;

/** virtio_state_load() - decode and check; @staged is for virtio_state_apply(). 0 or -errno. */
int virtio_state_load(struct virtio_common *vc, struct state_reader *reader, const char *place,
		      struct virtio_common **staged) __must_check;

/** virtio_state_apply() - @vc, quiesced and just reset, is what was saved; the transport follows. */
void virtio_state_apply(struct virtio_common *vc, const struct virtio_common *staged);

/** virtio_device_get() - the @index-th registered kind, NULL behind the last. */
const struct virtio_ops *virtio_device_get(unsigned int index);

/** virtio_device_find() - the kind that @spec begins with, up to its end or a comma; NULL: none. */
const struct virtio_ops *virtio_device_find(const char *spec);

extern const struct option_desc virtio_common_options[];

#endif
