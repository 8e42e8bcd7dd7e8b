/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * pci_core.h: PCI functions and the buses they sit on: config space (4 KiB), BARs, INTx, MSI, MSI-X.
 *
 * Locks, outermost first: the bus's config lock (config accesses, BAR moves), a function's lock
 * (all its callbacks), its interrupt lock, the bus's INTx lock.
 */
#ifndef TENON_PCI_CORE_H
#define TENON_PCI_CORE_H

#include <linux/pci_regs.h>
#include <pthread.h>

#include "dm.h"
#include "options.h"
#include "state.h"

#define PCI_BARS 6
#define PCI_CFG_SIZE 4096

struct pci_vdev;

enum pcibar_type { PCIBAR_NONE, PCIBAR_IO, PCIBAR_MEM32, PCIBAR_MEM64, PCIBAR_MEMHI64 };

/** struct pci_kind - a device as -s names it. @arg: handed to vdev_init as dev->type_arg. */
struct pci_kind {
	const char *name;
	const char *summary;
	const void *arg;
	const struct option_desc *options[2]; /* its own and those of its family; may be NULL */
};

/**
 * struct pci_vdev_ops - what a kind of PCI function does. The core holds dev->lock around every
 * callback but vdev_init and vdev_deinit.
 * @kind: describes the @index-th thing that -s can name with these ops; false behind the last
 * @vdev_init: @dev has its place; @opts is the text behind the name, or NULL; 0 or -errno after one log line
 * @vdev_deinit: release everything; the function answers no more
 * @vdev_reset: as new
 * @vdev_quiesce, @vdev_resume: stop and restart DMA
 * @vdev_offload: hand the data plane to the kernel, or take it back; 0 or -errno after one log line
 * @vdev_offloaded: does the kernel run the data plane now: 1, 0, or -1: this kind it cannot; NULL: nor this
 * @vdev_barread, @vdev_barwrite: access of 1, 2, 4 or 8 bytes inside BAR @baridx
 * @vdev_bar_moved: BAR @baridx now decodes at @addr, or not at all (!@enabled)
 * @vdev_cfgread: before a config read of [@offset, @offset + @size): may refresh cfgdata
 * @vdev_cfgwritten: after a config write was merged into cfgdata
 * @vdev_save: write what the core does not know of, in sections of @place; -EBUSY if not quiesced
 * @vdev_load: decode and check that in memory of @reader's; @staged is then handed to vdev_apply
 * @vdev_apply: what was saved is in force, config space and BARs follow; cannot fail
 * @vdev_applied: config space has followed
 */
struct pci_vdev_ops {
	bool (*kind)(unsigned int index, struct pci_kind *kind);
	int (*vdev_init)(struct vmctx *ctx, struct pci_vdev *dev, const char *opts);
	void (*vdev_deinit)(struct pci_vdev *dev);
	void (*vdev_reset)(struct pci_vdev *dev);
	void (*vdev_quiesce)(struct pci_vdev *dev);
	void (*vdev_resume)(struct pci_vdev *dev);
	int (*vdev_offload)(struct pci_vdev *dev, bool on);
	int (*vdev_offloaded)(struct pci_vdev *dev);
	uint64_t (*vdev_barread)(struct pci_vdev *dev, int baridx, uint64_t offset,
				 unsigned int size);
	void (*vdev_barwrite)(struct pci_vdev *dev, int baridx, uint64_t offset, unsigned int size,
			      uint64_t value);
	void (*vdev_bar_moved)(struct pci_vdev *dev, int baridx, bool enabled, uint64_t addr);
	void (*vdev_cfgread)(struct pci_vdev *dev, unsigned int offset, unsigned int size);
	void (*vdev_cfgwritten)(struct pci_vdev *dev, unsigned int offset, unsigned int size);
	int (*vdev_save)(struct pci_vdev *dev, struct state_writer *writer, const char *place);
	int (*vdev_load)(struct pci_vdev *dev, struct state_reader *reader, const char *place,
			 void **staged);
	void (*vdev_apply)(struct pci_vdev *dev, void *staged);
	void (*vdev_applied)(struct pci_vdev *dev);
};

/** struct pci_bar - one base address register. */
struct pci_bar {
	enum pcibar_type type;
	uint64_t size;
	uint64_t initial; /* address after reset */
	bool mapped; /* decoding now, at range.base */
	struct io_range range;
	struct pci_vdev *dev;
};

/** struct pci_msix_entry - one row of the MSI-X table, as the guest sees it. */
struct pci_msix_entry {
	uint64_t addr;
	uint32_t data;
	uint32_t control;
};

/**
 * struct pci_vdev - one PCI function.
 * @intr_lock: what an interrupt depends on and leaves behind, so that threads without @lock can send
 *             one: MSI, MSI-X and the command register are written with both held, pending bits and
 *             the line with this one
 */
struct pci_vdev {
	const struct pci_vdev_ops *dev_ops;
	const void *type_arg; /* pci_kind.arg (virtio: the device's ops) */
	struct vmctx *vmctx;
	struct pci_bus *pci;
	uint8_t bus, slot, func;
	char name[40]; /* "virtio-blk@00:03.0", for messages */
	pthread_mutex_t lock;
	pthread_mutex_t intr_lock;
	void *arg; /* the device's own */

	uint8_t cfgdata[PCI_CFG_SIZE];
	uint8_t cfgmask[PCI_CFG_SIZE]; /* bits that the guest can write */
	uint8_t cfgw1c[PCI_CFG_SIZE]; /* bits that a written 1 clears */
	uint8_t cfgreset[PCI_CFG_SIZE]; /* cfgdata as it is after reset */
	unsigned int capend, prevcap;

	struct pci_bar bar[PCI_BARS];

	struct {
		int pin; /* 0: none, 1: INTA ... */
		unsigned int gsi;
		bool asserted; /* by the device */
		bool driving; /* on the wire */
	} lintr;
	struct {
		unsigned int cap; /* 0: none */
		unsigned int count;
	} msi;
	struct {
		unsigned int cap; /* 0: none */
		unsigned int count;
		int table_bar;
		uint64_t pba_offset;
		struct pci_msix_entry *table;
		uint64_t *pending;
	} msix;
	struct pci_irqfd *irqfds; /* pci_irqfd.c */
	struct pci_vdev *next;
};

/* Device kinds: registered at link time. */
#define PCI_DEVICE_TYPE(ops_)                                                                      \
	static const struct pci_vdev_ops *const pci_device_type_##ops_                             \
		__attribute__((used, section("pci_device_types"))) = &(ops_)

/* Places and life cycle (pci_bus.c). Main thread, vCPUs not running, unless said otherwise. */

int pci_bus_create(struct vmctx *ctx) __must_check;
void pci_bus_destroy(struct vmctx *ctx);

/** pci_devices_help() - the list behind "-s help" and "tenon devices" on @out_file (FILE *). */
void pci_devices_help(void *out_file);

/** pci_device_help() - the options of @name on @out_file; false if there is no such device. */
bool pci_device_help(const char *name, void *out_file);

/**
 * pci_add_device() - "[bus:]slot[:func],DEVICE[,OPTIONS]" or "DEVICE[,OPTIONS]" of -s.
 * Return: the function, or NULL with errno after one log line.
 */
struct pci_vdev *pci_add_device(struct vmctx *ctx, const char *spec);

/** pci_find_device() - by place, or NULL. */
struct pci_vdev *pci_find_device(struct vmctx *ctx, uint8_t bus, uint8_t slot, uint8_t func);

/** pci_next_device() - iterate: NULL gives the first; NULL at the end. */
struct pci_vdev *pci_next_device(struct vmctx *ctx, struct pci_vdev *dev);

void pci_reset_devices(struct vmctx *ctx);
void pci_quiesce_devices(struct vmctx *ctx);
void pci_resume_devices(struct vmctx *ctx);

/** pci_slot_gsi() - the GSI that pin @pin (1..4) of @slot is wired to; also what _PRT says of APIC mode. */
unsigned int pci_slot_gsi(unsigned int slot, unsigned int pin);

/** PCI_ISA_BRIDGE_FUNCTION - where the PCI-ISA bridge is in slot 0, the host bridge's; it has the interrupt router's registers. */
#define PCI_ISA_BRIDGE_FUNCTION 7
#define PCI_ISA_BRIDGE_ROUTES 0x60 /* four registers here, four more 8 bytes on */

/* Config space (pci_config.c). */

void pci_set_cfgdata8(struct pci_vdev *dev, unsigned int offset, uint8_t value);
void pci_set_cfgdata16(struct pci_vdev *dev, unsigned int offset, uint16_t value);
void pci_set_cfgdata32(struct pci_vdev *dev, unsigned int offset, uint32_t value);
uint8_t pci_get_cfgdata8(const struct pci_vdev *dev, unsigned int offset);
uint16_t pci_get_cfgdata16(const struct pci_vdev *dev, unsigned int offset);
uint32_t pci_get_cfgdata32(const struct pci_vdev *dev, unsigned int offset);

/** pci_set_cfgmask() - the guest may write the bits set in the @size low bytes of @mask. */
void pci_set_cfgmask(struct pci_vdev *dev, unsigned int offset, unsigned int size, uint32_t mask);

/** pci_cfg_read() / pci_cfg_write() - a guest access to config space; any vCPU thread. */
uint32_t pci_cfg_read(struct pci_vdev *dev, unsigned int offset, unsigned int size);
void pci_cfg_write(struct pci_vdev *dev, unsigned int offset, unsigned int size, uint32_t value);

/**
 * pci_emul_add_capability() - append @len bytes at @data (id and next byte included, next is filled in).
 * Return: its offset in config space, or -ENOSPC. vdev_init only.
 */
int pci_emul_add_capability(struct pci_vdev *dev, const void *data, unsigned int len) __must_check;

/* BARs (pci_bar.c). vdev_init only. */

/**
 * pci_emul_alloc_bar() - give @dev a BAR of at least @size bytes (rounded up to a power of two).
 * MEM64 takes @baridx and the next. 0, -ENOSPC (window full), -EINVAL.
 */
int pci_emul_alloc_bar(struct pci_vdev *dev, int baridx, enum pcibar_type type,
		       uint64_t size) __must_check;
void pci_bars_update(struct pci_vdev *dev);
void pci_bars_remove(struct pci_vdev *dev);

/** pci_bar_access() - an access to BAR @baridx as if it came over the bus; dev->lock held. False if out of range. */
bool pci_bar_access(struct pci_vdev *dev, int baridx, bool write, uint64_t offset,
		    unsigned int size, uint64_t *value);

/* Saved states (pci_state.c). The function is quiesced, vCPUs are not running, no lock is held. */

/** pci_save_device() - @dev and what it has of the bus. 0, -EBUSY or -ENOMEM after one log line. */
int pci_save_device(struct pci_vdev *dev, struct state_writer *writer) __must_check;

/**
 * pci_load_device() - decode and check the state of @dev; state_commit() puts it in force, and
 * then the function is quiesced still. 0 or -errno after one log line: nothing has changed.
 */
int pci_load_device(struct pci_vdev *dev, struct state_reader *reader) __must_check;

/** pci_save_devices() / pci_load_devices() - the bus and all functions on it. */
int pci_save_devices(struct vmctx *ctx, struct state_writer *writer) __must_check;
int pci_load_devices(struct vmctx *ctx, struct state_reader *reader) __must_check;

/* Interrupts (pci_intr.c). */

int pci_lintr_request(struct pci_vdev *dev) __must_check; /* INTA; vdev_init */
void pci_lintr_assert(struct pci_vdev *dev); /* any thread */
void pci_lintr_deassert(struct pci_vdev *dev); /* any thread */
void pci_lintr_update(struct pci_vdev *dev); /* MSI or MSI-X enable changed; dev->lock held */

/**
 * pci_interrupt() - interrupt in the way that the guest chose: MSI-X @vector (beyond the table: not at
 * all), or else @bits are set in *@isr, and the MSI or the line follows. Any thread. -EINVAL: the
 * message leads nowhere.
 */
int pci_interrupt(struct pci_vdev *dev, unsigned int vector, uint8_t *isr, uint8_t bits);

/** pci_isr_set() - set @bits in *@isr, whatever the guest chose. Any thread. */
void pci_isr_set(struct pci_vdev *dev, uint8_t *isr, uint8_t bits);

/** pci_isr_read() - *@isr, which reading clears, with the line. Any thread. */
uint8_t pci_isr_read(struct pci_vdev *dev, uint8_t *isr);

int pci_emul_add_msicap(struct pci_vdev *dev, unsigned int count) __must_check;
/** pci_emul_add_msixcap() - @count vectors, table at 0 of MEM32 BAR @baridx, allocated here, PBA behind. */
int pci_emul_add_msixcap(struct pci_vdev *dev, unsigned int count, int baridx) __must_check;
bool pci_msi_enabled(const struct pci_vdev *dev); /* dev->lock held */
bool pci_msix_enabled(const struct pci_vdev *dev); /* dev->lock held */

/** pci_generate_msi() - message @index; kept pending while masked. Any thread. -EINVAL if MSI is off. */
int pci_generate_msi(struct pci_vdev *dev, unsigned int index);
/** pci_generate_msix() - vector @index; kept pending while masked. Any thread. -EINVAL if MSI-X is off. */
int pci_generate_msix(struct pci_vdev *dev, unsigned int index);
uint64_t pci_emul_msix_tread(struct pci_vdev *dev, uint64_t offset, unsigned int size);
void pci_emul_msix_twrite(struct pci_vdev *dev, uint64_t offset, unsigned int size, uint64_t value);

/** pci_intr_config_write() - merge a guest's write into config space (@merge), with what it does to interrupts. */
void pci_intr_config_write(struct pci_vdev *dev, unsigned int offset, unsigned int size,
			   uint32_t value,
			   void (*merge)(struct pci_vdev *dev, unsigned int offset,
					 unsigned int size, uint32_t value));
void pci_msix_free(struct pci_vdev *dev);

/*
 * Interrupts that others send (pci_irqfd.c): a vector whose message goes out whenever an eventfd is
 * signalled, without tenon if the port has irqfds. dev->lock is held in all of it.
 */

struct pci_irqfd;

/**
 * pci_irqfd_create() - from now on the eventfd @fd (the caller's, not blocking, open until
 * pci_irqfd_destroy()) stands for an interrupt of @dev. It may come once too often, never too seldom.
 * @signalled: called from the io loop, with dev->lock held, when @fd was signalled and no irqfd can
 *             do it: MSI-X is off, the vector is masked or none, the port has no (more) irqfds. It
 *             does what the device does by itself for that interrupt, e.g. pci_generate_msix()
 * Return: NULL with errno.
 */
struct pci_irqfd *pci_irqfd_create(struct pci_vdev *dev, int fd, void (*signalled)(void *arg),
				   void *arg) __must_check;

/** pci_irqfd_set_vector() - it is MSI-X vector @vector; beyond the table: none. */
void pci_irqfd_set_vector(struct pci_irqfd *irqfd, unsigned int vector);

/** pci_irqfd_destroy() - what was signalled so far is delivered; NULL is harmless. */
void pci_irqfd_destroy(struct pci_irqfd *irqfd);

/** pci_irqfds_update() - a vector's address, data or mask, or MSI-X enable or function mask changed. */
void pci_irqfds_update(struct pci_vdev *dev);

void pci_intr_reset(struct pci_vdev *dev);

#endif
