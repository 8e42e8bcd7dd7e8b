/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio over PCI (virtio 1.4, 4.1): what its files share.
 */
#ifndef TENON_VIRTIO_PCI_H
#define TENON_VIRTIO_PCI_H

#include <linux/virtio_pci.h>

#include "pci_core.h"
#include "virtio_transport.h"

#define VIRTIO_LEGACY_BAR 0
#define VIRTIO_MSIX_BAR 1
#define VIRTIO_MODERN_BAR 4

/* The modern BAR: one page a structure. */
#define VIRTIO_COMMON_OFFSET 0x0000
#define VIRTIO_ISR_OFFSET 0x1000
#define VIRTIO_DEVICE_OFFSET 0x2000
#define VIRTIO_NOTIFY_OFFSET 0x3000
#define VIRTIO_REGION_SIZE 0x1000
#define VIRTIO_MODERN_BAR_SIZE 0x4000
#define VIRTIO_NOTIFY_MULTIPLIER 4

/**
 * struct virtio_pci - a virtio device as a PCI function.
 * @config_vector: as the driver wrote it
 * @cfg_cap: where the PCI_CFG capability is in config space, 0: none
 * @legacy_addr, @modern_addr: where the BARs decode now, 0: nowhere
 */
struct virtio_pci {
	struct pci_vdev *dev;
	struct virtio_common *vc;
	uint32_t device_feature_select, driver_feature_select;
	uint16_t queue_select;
	uint16_t config_vector;
	unsigned int cfg_cap;
	bool bus_master; /* as of the last write of the command register */
	uint64_t legacy_addr, modern_addr;
};

/**
 * struct virtio_reg - one register of a transport's register file.
 * @read: its value; @raw: what a partial write is merged with, where that differs from what is read
 * @write: the driver wrote the whole register; NULL: read-only
 */
struct virtio_reg {
	uint8_t offset, size;
	uint64_t (*read)(struct virtio_pci *vp);
	uint64_t (*raw)(struct virtio_pci *vp);
	void (*write)(struct virtio_pci *vp, uint64_t value);
};

/* virtio_pci_regs.c */

/** virtio_regs_read() - @size bytes at @offset of a register file, any width and alignment. */
uint64_t virtio_regs_read(struct virtio_pci *vp, const struct virtio_reg *regs, unsigned int count,
			  uint64_t offset, unsigned int size);

/** virtio_regs_write() - the other way; a register written in part keeps its other bytes. */
void virtio_regs_write(struct virtio_pci *vp, const struct virtio_reg *regs, unsigned int count,
		       uint64_t offset, unsigned int size, uint64_t value);

/* Registers that both interfaces have. */
uint64_t virtio_reg_status(struct virtio_pci *vp);
void virtio_reg_set_status(struct virtio_pci *vp, uint64_t value);
uint64_t virtio_reg_queue_select(struct virtio_pci *vp);
void virtio_reg_set_queue_select(struct virtio_pci *vp, uint64_t value);
uint64_t virtio_reg_config_vector(struct virtio_pci *vp);
uint64_t virtio_reg_config_vector_raw(struct virtio_pci *vp);
void virtio_reg_set_config_vector(struct virtio_pci *vp, uint64_t value);
uint64_t virtio_reg_queue_vector(struct virtio_pci *vp);
uint64_t virtio_reg_queue_vector_raw(struct virtio_pci *vp);
void virtio_reg_set_queue_vector(struct virtio_pci *vp, uint64_t value);

/* virtio_pci.c */
uint64_t virtio_pci_read(struct pci_vdev *dev, int baridx, uint64_t offset, unsigned int size);
void virtio_pci_write(struct pci_vdev *dev, int baridx, uint64_t offset, unsigned int size,
		      uint64_t value);
int virtio_interrupt_init(struct virtio_pci *vp) __must_check;

/** virtio_selected_queue() - the queue that queue_select names, NULL if there is none. */
struct vqueue_info *virtio_selected_queue(struct virtio_pci *vp);

/** virtio_isr_read() - the ISR, which reading clears, with the line (4.1.4.5). */
uint8_t virtio_isr_read(struct virtio_pci *vp);

/** virtio_status_write() - status register of either interface; 0 resets. */
void virtio_status_write(struct virtio_pci *vp, uint8_t status);

/** virtio_pci_command_changed() - the PCI command register was perhaps written. */
void virtio_pci_command_changed(struct virtio_pci *vp);

/* virtio_pci_legacy.c */
int virtio_set_io_bar(struct virtio_pci *vp, int baridx) __must_check;
uint64_t virtio_legacy_read(struct virtio_pci *vp, uint64_t offset, unsigned int size);
void virtio_legacy_write(struct virtio_pci *vp, uint64_t offset, unsigned int size, uint64_t value);

/* virtio_pci_modern.c */
int virtio_set_modern_bar(struct virtio_pci *vp, int baridx) __must_check;
uint64_t virtio_modern_read(struct virtio_pci *vp, uint64_t offset, unsigned int size);
void virtio_modern_write(struct virtio_pci *vp, uint64_t offset, unsigned int size, uint64_t value);
void virtio_pci_cfg_read(struct pci_vdev *dev, unsigned int offset, unsigned int size);
void virtio_pci_cfg_written(struct pci_vdev *dev, unsigned int offset, unsigned int size);

/* virtio_pci_state.c */
int virtio_pci_save(struct pci_vdev *dev, struct state_writer *writer,
		    const char *place) __must_check;
int virtio_pci_load(struct pci_vdev *dev, struct state_reader *reader, const char *place,
		    void **staged) __must_check;
void virtio_pci_apply(struct pci_vdev *dev, void *staged);

/* virtio_pci_offload.c */

/** virtio_pci_offload() - struct virtio_transport_ops.offload */
int virtio_pci_offload(struct virtio_common *vc, struct vqueue_info *vq, bool on);

/** virtio_vector_changed() - the driver wrote vq->msix_vector. */
void virtio_vector_changed(struct vqueue_info *vq);

/* virtio_pci_kick.c */
int virtio_kicks_create(struct virtio_pci *vp) __must_check;
void virtio_kicks_destroy(struct virtio_pci *vp);

/** virtio_kick_later() - as if the driver had kicked @vq, from the event loop. */
void virtio_kick_later(struct virtio_common *vc, struct vqueue_info *vq);

/** virtio_kick_handed_over() - vq->offloaded has changed: who has the queue now looks at it once. */
void virtio_kick_handed_over(struct vqueue_info *vq);

/** virtio_kicks_update() - register each queue's kick eventfd where its driver notifies now, if anywhere. */
void virtio_kicks_update(struct virtio_pci *vp);

#endif
