/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * device_kinds.h: every kind of virtio device that is registered, how to make one, and a simple
 * request that shows that it works. Tests over all kinds take them from here; a kind that is
 * registered and not in the table fails them.
 */
#ifndef TENON_TESTS_DEVICE_KINDS_H
#define TENON_TESTS_DEVICE_KINDS_H

#include "virtio_driver.h"

#define KIND_SLOT 4 /* where kind_bench_create() puts the device */
#define KIND_OTHER_SLOT 5 /* a virtio-rng that must go on whatever happens to it */
#define KIND_REQUEST_MAX 256
#define KIND_VSOCK_CID 42

struct kind_bench;

/*
 * struct device_kind
 * @name: as in -s
 * @virtio_id, @transitional_id, @pci_class: as the specification has them; @transitional_id 0: no
 *                                           legacy interface
 * @offloaded: the kernel runs its rings (vhost): no packed ones, and rules broken in its words
 * @all_queues: and it runs no ring without the others
 * @apart: why tests over all kinds leave it out, else NULL
 * @queue: where a simple request goes
 * @fill: writes its readable part and says how long it is (up to KIND_REQUEST_MAX)
 * @in: bytes of its writable part; @used: the length that it is used with
 * @make: prepare the host and write the options; false, with the reason printed, if that cannot be
 *        done here
 * @unmake: undo it
 */
struct device_kind {
	const char *name;
	uint16_t virtio_id, transitional_id, pci_class;
	bool offloaded, all_queues;
	const char *apart;
	uint16_t queue;
	uint32_t (*fill)(const struct virtio_driver *driver, uint8_t *out);
	uint32_t in, used;
	bool (*make)(struct kind_bench *bench, char *options, size_t size);
	void (*unmake)(struct kind_bench *bench);
};

struct front_end;
struct vhost_user_device;

/*
 * struct kind_bench - a machine with a device of @kind at KIND_SLOT, or one that is served over
 * vhost-user (@served) to @front, which shares the machine's memory.
 * @name: the device's, in messages; @path: of its file, if any; @options: of the served one
 */
struct kind_bench {
	const struct device_kind *kind;
	struct machine *machine;
	struct pci_vdev *dev;
	struct vhost_user_device *served;
	struct front_end *front;
	const char *name;
	char path[64], options[256];
};

/*
 * The @index-th registered kind, without those that stand apart; NULL behind the last. Fails the test
 * if the table lacks one.
 */
const struct device_kind *device_kind_at(unsigned int index);

/* @options: more of them, or NULL. NULL, with the reason printed, if there can be none here. */
struct kind_bench *kind_bench_create(const struct device_kind *kind,
				     const struct machine_config *config, const char *options);
void kind_bench_destroy(struct kind_bench *bench);

/* The same over vhost-user. kind_bench_unserve(): it is gone, before the machine is; harmless without it. */
struct kind_bench *kind_bench_serve(const struct device_kind *kind,
				    const struct machine_config *config, const char *options);
void kind_bench_unserve(struct kind_bench *bench);

/* struct kind_buffer - the simple request in guest memory, ready to be added. */
struct kind_buffer {
	uint64_t gpa;
	uint32_t out, in;
	struct segment segments[2];
	unsigned int out_count, in_count;
};

struct kind_buffer kind_buffer(const struct device_kind *kind, struct virtio_driver *driver);

/* Is its writable part still what it was filled with? */
bool kind_buffer_untouched(const struct kind_buffer *buffer, struct machine *machine);

/* Carry out the simple request; fails the test if it does not work. */
void kind_request(const struct device_kind *kind, struct virtio_driver *driver);

/* ---- Tables of tests over kinds ---- */

/*
 * struct kind_case - the state of a test over kinds.
 * @kind, @params: what the test is run for
 * @kind_bench ...: made by kind_case_open(), ended after the test, however that went
 * @queue: where simple requests go
 */
struct kind_case {
	const struct device_kind *kind;
	struct driver_params params;

	struct kind_bench *kind_bench;
	struct machine *machine;
	struct virtio_driver *driver;
	struct driver_queue *queue;
};

/* The device is made, with @options added, and found by its driver. Skips the test if there can be none. */
struct kind_case *kind_case_open(void **state, const struct machine_config *config,
				 const char *options);

/* End what kind_case_open() made, before the end of the test: to make another. */
int kind_case_close(void **state);

/* The usual: ioeventfds as the parameters say, driver running with all features but the
 * legacy NOTIFY_ON_EMPTY, which notifies in spite of all suppression. */
struct kind_case *kind_case_run(void **state);

struct kind_tests {
	struct CMUnitTest *tests;
	unsigned int count;
};

enum kind_axes {
	KIND_AXIS_NONE = 0, /* modern, MSI-X, everything on */
	KIND_AXIS_INTERFACE = 1, /* legacy, modern, modern and packed */
	KIND_AXIS_ALL = 2, /* all combinations */
	KIND_AXIS_RINGS = 3, /* legacy, modern, packed; direct, indirect */
	KIND_AXIS_SPLIT = 4, /* legacy, modern; split rings */
	KIND_AXIS_LEGACY = 5, /* legacy */
	KIND_AXIS_FORMATS = 6, /* modern and split, modern and packed */
};

/* Add @test for each registered kind, in each of the combinations of @axes. Kinds without a legacy
 * interface are left out where it would be used. The state of @test is a struct kind_case. */
void kind_tests_add(struct kind_tests *tests, const char *name, CMUnitTestFunction test,
		    enum kind_axes axes);

/* The same over vhost-user, both formats, direct and indirect; for tests that know nothing of PCI. */
void kind_tests_add_served(struct kind_tests *tests, const char *name, CMUnitTestFunction test);

int kind_tests_run(struct kind_tests *tests, const char *group);

#endif
