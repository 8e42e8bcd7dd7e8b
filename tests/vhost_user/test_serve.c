/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * `tenon serve` as a program: sockets that it makes and that it inherits, several devices in one
 * process, its end, its messages, and the conventions of QEMU's vhost-user.json.
 */
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "served.h"

/* ---- Sockets ---- */

/* On socket number 7, as a harness would hand it over. */
static void start_inheriting(struct served *served, int fd)
{
	const char *const arguments[] = { "serve", "-s", served->spec, "--fd", "7", NULL };

	assert_int_equal(dup2(fd, 7), 7); /* without close-on-exec */
	close(fd);
	assert_int_equal(back_end_start(&served->back_end, arguments), 0);
	close(7);
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 4), 0);
	return fd;
}

static void inherited_listener(void **state)
{
	struct served *served = served_create_stopped(state);

	start_inheriting(served, listen_at(served->back_end.socket));
	for (uint32_t i = 0; i < 5; i++) {
		served_connect(served); /* waits in the queue until the process is there */
		driver_close(served->driver);
		served_run(served, i & 1 ? &served_packed : &served_split);
		served_write(served->driver, 0, i, i);
		served_verify(served->driver, 1, i, i);
	}
}

static void wait_end(struct back_end *back_end)
{
	for (int i = 0; back_end_alive(back_end); i++) {
		assert_true(i < 5000);
		usleep(1000);
	}
}

/* One connection, and its end is the process's. */
static void inherited_connection(void **state)
{
	struct served *served = served_create_stopped(state);
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	front_attach(served->front, ends[0]);
	start_inheriting(served, ends[1]);
	served_run(served, &served_split);
	served_write(served->driver, 0, 0, 1);
	served_verify(served->driver, 1, 0, 1);
	front_hang_up(served->front);
	wait_end(&served->back_end);
	back_end_serve(&served->back_end, served->spec); /* for the end of the test */
}

/* What a killed process leaves there is replaced; what somebody listens on is not. */
static void socket_in_the_way(void **state)
{
	struct served *served = served_create(state);
	const char *const again[] = {
		"serve", "-s", "virtio-rng", "--socket", served->back_end.socket, NULL
	};
	struct back_end other = served->back_end;
	struct stat status;

	back_end_kill(&served->back_end);
	assert_int_equal(stat(served->back_end.socket, &status), 0);
	back_end_serve(&served->back_end, served->spec);
	other.pid = 0;
	/* Its socket answers at once, since it is the other process's: so wait for its end. */
	assert_int_equal(back_end_start(&other, again), 0);
	wait_end(&other);
	assert_true(back_end_logged(&served->back_end, served->back_end.socket) > 0);
	served_connect(served);
	served_run(served, &served_split);
	served_write(served->driver, 0, 0, 1);
}

/* SIGTERM: what is in flight is done, and the socket's file is gone. */
static void ends_with_requests_in_flight(void **state)
{
	struct served *served = served_create(state);
	static struct served_request requests[32];
	struct stat status;

	for (unsigned int round = 0; round < 10; round++) {
		struct driver_queue *queue;
		unsigned int done = 0;

		if (round)
			back_end_serve(&served->back_end, served->spec);
		served_connect(served);
		driver_close(served->driver);
		served_run(served, round & 1 ? &served_packed : &served_split);
		queue = driver_queue(served->driver, 0);
		for (unsigned int i = 0; i < ARRAY_SIZE(requests); i++)
			served_submit(served->driver, 0, VIRTIO_BLK_T_OUT, i, &requests[i]);
		driver_kick(queue);
		assert_int_equal(back_end_stop(&served->back_end), 0);
		assert_int_equal(stat(served->back_end.socket, &status), -1);
		while (driver_get_buf(queue, NULL))
			done++;
		/* Each was used with its status, or not touched. */
		for (unsigned int i = 0; i < ARRAY_SIZE(requests); i++)
			done -= *requests[i].status == VIRTIO_BLK_S_OK;
		assert_int_equal(done, 0);
	}
	back_end_serve(&served->back_end, served->spec);
}

/* A write beyond the file size limit is that request's error, and nobody's end. */
static void survives_file_size_limit(void **state)
{
	const struct rlimit limit = { SERVED_DISK / 2, SERVED_DISK / 2 };
	struct served *served = served_create_stopped(state);
	char disk[] = "/dev/shm/tenon-serve-XXXXXX", spec[64];
	struct served_request request;
	int fd = mkstemp(disk);

	if (fd < 0) {
		print_message("no /dev/shm\n");
		back_end_serve(&served->back_end, served->spec);
		skip();
	}
	assert_int_equal(ftruncate(fd, SERVED_DISK), 0);
	close(fd);
	snprintf(spec, sizeof(spec), "virtio-blk,%s", disk);
	back_end_serve(&served->back_end, spec);
	unlink(disk);
	assert_int_equal(prlimit(served->back_end.pid, RLIMIT_FSIZE, &limit, NULL), 0);
	served_connect(served);
	served_run(served, &served_split);
	served_submit(served->driver, 0, VIRTIO_BLK_T_OUT, SERVED_DISK / 512 - 1, &request);
	driver_kick(driver_queue(served->driver, 0));
	assert_ptr_equal(driver_wait_buf(driver_queue(served->driver, 0), NULL, DRIVER_TIMEOUT_MS),
			 &request);
	assert_int_equal(*request.status, VIRTIO_BLK_S_IOERR);
	served_write(served->driver, 0, 0, 1);
	served_verify(served->driver, 0, 0, 1);
	assert_true(back_end_alive(&served->back_end));
}

/* ---- Devices ---- */

#define MANY 12

/* Several devices in one process, each with its front end, at the same time. */
static void several_devices(void **state)
{
	struct served *served = served_create_stopped(state);
	struct front_end *fronts[MANY];
	struct virtio_driver *drivers[MANY];
	static char sockets[MANY][96];
	const char *arguments[4 * MANY + 2] = { "serve" };
	uint8_t random[16];

	for (unsigned int i = 0; i < MANY; i++) {
		snprintf(sockets[i], sizeof(sockets[i]), "%s/socket%u", served->back_end.directory,
			 i);
		arguments[4 * i + 1] = "-s";
		arguments[4 * i + 2] = i ? "virtio-rng,packed=on" : served->spec;
		arguments[4 * i + 3] = "--socket";
		arguments[4 * i + 4] = sockets[i];
	}
	assert_int_equal(back_end_start(&served->back_end, arguments), 0);
	for (unsigned int i = 0; i < MANY; i++) {
		int socket;

		while ((socket = front_connect(sockets[i])) < 0)
			assert_true(back_end_alive(&served->back_end));
		fronts[i] = front_create(served->machine);
		fronts[i]->queue_size = 256; /* front ends choose the size of their rings */
		front_attach(fronts[i], socket);
		assert_int_equal(front_begin(fronts[i]), 0);
		fronts[i]->queue_count = 1;
		drivers[i] = front_driver_open(fronts[i], i & 1 ? &served_packed : &served_split);
		assert_true(driver_negotiate(drivers[i], drivers[i]->offered));
		driver_start(drivers[i]);
	}
	for (unsigned int round = 0; round < 5; round++) {
		served_write(drivers[0], 0, round, round);
		for (unsigned int i = 1 + round; i < MANY; i++) /* fewer and fewer are left */
			assert_int_equal(driver_request(driver_queue(drivers[i], 0),
							&driver_layouts[0], NULL, 0, random,
							sizeof(random)),
					 sizeof(random));
		front_hang_up(fronts[1 + round]);
	}
	for (unsigned int i = 0; i < MANY; i++) {
		driver_close(drivers[i]);
		front_destroy(fronts[i]);
	}
}

/* ---- The command line ---- */

static int run_and_wait(struct back_end *back_end, const char *const *arguments)
{
	int status = 0;

	unlink(back_end->log);
	assert_int_equal(back_end_start(back_end, arguments), 0);
	assert_int_equal(waitpid(back_end->pid, &status, 0), back_end->pid);
	back_end->pid = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Wrong command lines end with status 2 and one line that says what to do. */
static void bad_command_lines(void **state)
{
	static const char *const lines[][8] = {
		{ "serve", "-s", "virtio-rng" },
		{ "serve", "-s", "virtio-nonsense", "--fd", "9" },
		{ "serve", "-s", "virtio-rng", "--fd", "99" },
		{ "serve", "-s", "virtio-rng", "--fd", "x" },
		{ "serve", "-s", "virtio-blk,/nonexistent/disk", "--fd", "99" },
		{ "serve", "-s", "virtio-rng,nonsense=1", "--fd", "99" },
		{ "serve", "--nonsense" },
		{ "serve" },
	};
	struct served *served = served_create_stopped(state);

	for (unsigned int i = 0; i < ARRAY_SIZE(lines); i++) {
		assert_int_equal(run_and_wait(&served->back_end, lines[i]), 2);
		if (back_end_logged(&served->back_end, "tenon") == 0)
			fail_msg("line %u: nothing was said", i);
	}
	back_end_serve(&served->back_end, served->spec);
}

static void capabilities(void **state)
{
	const char *const disk[] = { "serve", "--type", "blk", "--print-capabilities", NULL };
	const char *const net[] = { "serve", "-s", "virtio-net", "--print-capabilities", NULL };
	struct served *served = served_create_stopped(state);

	assert_int_equal(run_and_wait(&served->back_end, disk), 0);
	assert_int_equal(back_end_logged(&served->back_end, "\"type\": \"block\""), 1);
	assert_int_equal(back_end_logged(&served->back_end, "\"blk-file\""), 1);
	assert_int_equal(back_end_logged(&served->back_end, "\"read-only\""), 1);
	assert_int_equal(run_and_wait(&served->back_end, net), 0);
	assert_int_equal(back_end_logged(&served->back_end, "\"type\": \"net\""), 1);
	back_end_serve(&served->back_end, served->spec);
}

/* As the conventions for back end programs have it. */
static void by_the_conventions(void **state)
{
	struct served *served = served_create_stopped(state);
	const char *const arguments[] = {
		"serve",      "--type",	     "blk",	      "--blk-file",
		served->disk, "--read-only", "--socket-path", served->back_end.socket,
		NULL
	};

	assert_int_equal(back_end_start(&served->back_end, arguments), 0);
	served_connect(served);
	assert_int_equal(front_begin(served->front), 0);
	assert_true(served->front->offered & BIT64(VIRTIO_BLK_F_RO));
	served->driver = front_driver_open(served->front, &served_split);
	assert_int_equal(driver_config(served->driver, 0, 8), SERVED_DISK / 512);
}

#define SERVE_TEST(function) cmocka_unit_test_teardown(function, served_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		SERVE_TEST(inherited_listener),
		SERVE_TEST(inherited_connection),
		SERVE_TEST(socket_in_the_way),
		SERVE_TEST(ends_with_requests_in_flight),
		SERVE_TEST(several_devices),
		SERVE_TEST(bad_command_lines),
		SERVE_TEST(capabilities),
		SERVE_TEST(by_the_conventions),
		SERVE_TEST(survives_file_size_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
