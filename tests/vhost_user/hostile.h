/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hostile.h: a process that serves a disk, which is attacked, a virtio-rng, which must go on, and a
 * console on its standard input and output, which catches signals; and what must hold after each attack.
 */
#ifndef TENON_TESTS_VHOST_USER_HOSTILE_H
#define TENON_TESTS_VHOST_USER_HOSTILE_H

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "served.h"

#define HOSTILE_GROWTH_KIB 16384UL /* of the process, over all attacks of a test */
#define HOSTILE_SETTLE_MS 5000

/*
 * struct hostile
 * @served: the disk; @rng, @rng_driver: the other device's front end
 * @fds, @memory_kib: of the process before any attack
 * @heap: where guest memory for attacks begins; @rng_heap: for requests to the other device
 */
struct hostile {
	struct served *served;
	char rng_socket[96], console_socket[96];
	struct front_end *rng;
	struct virtio_driver *rng_driver;
	unsigned int fds;
	unsigned long memory_kib;
	uint64_t heap, rng_heap;
};

/* Does the other device do its work? Its memory is its own, whatever attackers do with theirs. */
static inline void hostile_other_works(struct hostile *hostile)
{
	struct machine *machine = hostile->served->machine;
	uint64_t heap = machine->heap_next;
	uint8_t random[16];

	machine->heap_next = hostile->rng_heap;
	assert_int_equal(driver_request(driver_queue(hostile->rng_driver, 0), &driver_layouts[0],
					NULL, 0, random, sizeof(random)),
			 sizeof(random));
	hostile->rng_heap = machine->heap_next;
	machine->heap_next = heap;
}

static inline void hostile_start(struct hostile *hostile)
{
	struct served *served = hostile->served;
	/* clang-format off */
	const char *const arguments[] = {
		"serve", "-s", served->spec, "--socket", served->back_end.socket,
		"-s", "virtio-rng", "--socket", hostile->rng_socket,
		"-s", "virtio-console,stdio", "--socket", hostile->console_socket, NULL
	};
	/* clang-format on */
	int socket;

	assert_int_equal(back_end_start(&served->back_end, arguments), 0);
	do
		socket = front_connect(hostile->rng_socket);
	while (socket < 0 && back_end_alive(&served->back_end));
	assert_true(socket >= 0);
	front_attach(hostile->rng, socket);
	assert_int_equal(front_begin(hostile->rng), 0);
	hostile->rng_driver = front_driver_open(hostile->rng, &served_split);
	assert_true(driver_negotiate(hostile->rng_driver, hostile->rng_driver->offered));
	driver_start(hostile->rng_driver);
}

/* A good session from its beginning to its end, with data. */
static inline void hostile_serve_one(struct hostile *hostile, uint32_t seed)
{
	struct served *served = hostile->served;
	uint64_t heap = served->machine->heap_next;

	front_destroy(served->front);
	served->front = front_create(served->machine);
	served_connect(served);
	served_run(served, seed & 1 ? &served_packed : &served_split);
	served_write(served->driver, seed % SERVED_QUEUES, seed % 64, seed);
	served_verify(served->driver, (seed + 1) % SERVED_QUEUES, seed % 64, seed);
	front_hang_up(served->front);
	driver_close(served->driver);
	served->driver = NULL;
	served->machine->heap_next = heap;
}

/* The process lives, its other device works, and nothing is left open. */
static inline void hostile_check(struct hostile *hostile, const char *attack)
{
	struct back_end *back_end = &hostile->served->back_end;
	uint64_t deadline = served_now_ms() + HOSTILE_SETTLE_MS;

	front_hang_up(hostile->served->front);
	if (!back_end_alive(back_end)) {
		back_end_log_print(back_end);
		fail_msg("%s: the process died", attack);
	}
	hostile_other_works(hostile);
	while (back_end_fds(back_end) != hostile->fds && served_now_ms() < deadline)
		usleep(500);
	if (back_end_fds(back_end) != hostile->fds)
		fail_msg("%s: %u descriptors are open, and were %u before", attack,
			 back_end_fds(back_end), hostile->fds);
}

static inline struct hostile *hostile_create(void **state)
{
	struct hostile *hostile = calloc(1, sizeof(*hostile));

	assert_non_null(hostile);
	*state = hostile;
	hostile->served = served_create_stopped((void **)&hostile->served);
	hostile->rng = front_create(hostile->served->machine);
	snprintf(hostile->rng_socket, sizeof(hostile->rng_socket), "%s/rng",
		 hostile->served->back_end.directory);
	snprintf(hostile->console_socket, sizeof(hostile->console_socket), "%s/console",
		 hostile->served->back_end.directory);
	hostile_start(hostile);
	hostile->rng_heap = guest_alloc(hostile->served->machine, MIB(4), 4096);
	for (uint32_t i = 0; i < 4; i++) /* what is allocated once is */
		hostile_serve_one(hostile, i);
	hostile->fds = back_end_fds(&hostile->served->back_end);
	for (int i = 0; i < 100; i++) { /* the last front end's leaving may take a moment */
		usleep(1000);
		hostile->fds = MIN(hostile->fds, back_end_fds(&hostile->served->back_end));
	}
	hostile->memory_kib = back_end_memory_kib(&hostile->served->back_end);
	hostile->heap = hostile->served->machine->heap_next;
	return hostile;
}

/* Served as before, the process no larger; then it ends in peace. */
static inline int hostile_end(void **state)
{
	struct hostile *hostile = *state;
	unsigned long memory_kib;

	if (!hostile)
		return 0;
	*state = hostile->served;
	memory_kib = back_end_memory_kib(&hostile->served->back_end);
	driver_close(hostile->rng_driver);
	front_destroy(hostile->rng);
	if (memory_kib > hostile->memory_kib + HOSTILE_GROWTH_KIB)
		print_error("the process grew from %lu to %lu KiB\n", hostile->memory_kib,
			    memory_kib);
	assert_true(memory_kib <= hostile->memory_kib + HOSTILE_GROWTH_KIB);
	free(hostile);
	return served_end(state);
}

/* Guest memory that attacks took is given back. */
static inline void hostile_forget(struct hostile *hostile)
{
	hostile->served->machine->heap_next = hostile->heap;
}

#endif
