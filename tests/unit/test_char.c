/* SPDX-License-Identifier: BSD-3-Clause */
/* Byte streams: files, sockets and pseudo-terminals, with slow, dead and returning peers. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "char_backend.h"
#include "event_loop.h"

#define RECEIVED_MAX 65536
#define PATIENCE_MS 5000

struct fixture {
	struct logger log;
	char line[1024]; /* the last message */
	unsigned int lines;
	struct event_loop *loop;
	pthread_mutex_t lock;
	struct char_backend *chr;
	size_t accept; /* how many bytes receive() still takes */
	uint8_t received[RECEIVED_MAX];
	size_t received_len;
	unsigned int writable, connections, disconnections;
	char directory[64];
	char path[96];
};

static void log_sink(void *arg, enum log_level level, const char *line)
{
	struct fixture *f = arg;

	f->lines++;
	snprintf(f->line, sizeof(f->line), "%s", line);
}

static size_t on_receive(void *arg, const uint8_t *data, size_t len)
{
	struct fixture *f = arg;
	size_t taken = MIN(len, f->accept);

	taken = MIN(taken, RECEIVED_MAX - f->received_len);
	memcpy(f->received + f->received_len, data, taken);
	f->received_len += taken;
	f->accept -= taken;
	return taken;
}

static void on_writable(void *arg)
{
	((struct fixture *)arg)->writable++;
}

static void on_connected(void *arg, bool connected)
{
	struct fixture *f = arg;

	assert_int_equal(char_connected(f->chr), connected);
	if (connected)
		f->connections++;
	else
		f->disconnections++;
}

static const struct char_backend_ops ops = {
	.receive = on_receive,
	.writable = on_writable,
	.connected = on_connected,
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	logger_init(&f->log, "test");
	f->log.sink = log_sink;
	f->log.sink_arg = f;
	f->loop = event_loop_create("test");
	f->accept = SIZE_MAX;
	pthread_mutex_init(&f->lock, NULL);
	snprintf(f->directory, sizeof(f->directory), "/tmp/test_char.XXXXXX");
	if (!f->loop || !mkdtemp(f->directory))
		return -1;
	snprintf(f->path, sizeof(f->path), "%s/it", f->directory);
	return 0;
}

static void close_stream(struct fixture *f)
{
	pthread_mutex_lock(&f->lock);
	char_close(f->chr);
	f->chr = NULL;
	pthread_mutex_unlock(&f->lock);
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	close_stream(f);
	event_loop_destroy(f->loop);
	pthread_mutex_destroy(&f->lock);
	unlink(f->path);
	if (rmdir(f->directory))
		return -1; /* something was left behind */
	logger_deinit(&f->log);
	free(f);
	return 0;
}

/* ---- Helpers ---- */

static struct char_backend *open_spec(struct fixture *f, const char *spec)
{
	return char_open(&f->log, "com1", spec, f->loop, &f->lock, &ops, f);
}

/* Open @prefix, the fixture's path and @suffix. */
static void open_stream(struct fixture *f, const char *prefix, const char *suffix)
{
	char spec[160];

	snprintf(spec, sizeof(spec), "%s%s%s", prefix, f->path, suffix);
	f->chr = open_spec(f, spec);
	assert_non_null(f->chr);
}

static void assert_open_fails(struct fixture *f, const char *spec, int error, const char *message)
{
	unsigned int lines = f->lines;

	errno = 0;
	assert_null(open_spec(f, spec));
	assert_int_equal(errno, error);
	assert_int_equal(f->lines, lines + 1);
	assert_non_null(strstr(f->line, "com1"));
	if (!strstr(f->line, message))
		fail_msg("\"%s\" is not in \"%s\"", message, f->line);
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

#define wait_until(f, condition)                                                                   \
	do {                                                                                       \
		uint64_t deadline_ = now_ms() + PATIENCE_MS;                                       \
		while (!(condition) && now_ms() < deadline_)                                       \
			event_loop_poll((f)->loop, 10);                                            \
		assert_true(condition);                                                            \
	} while (0)

static void run_for(struct fixture *f, uint64_t ms)
{
	uint64_t end = now_ms() + ms;

	while (now_ms() < end)
		event_loop_poll(f->loop, 10);
}

/* How often the loop wakes in a while in which nothing happens. */
static unsigned int count_wakeups(struct fixture *f)
{
	uint64_t end = now_ms() + 500;
	unsigned int count = 0;

	while (now_ms() < end) {
		event_loop_poll(f->loop, 100);
		count++;
	}
	return count;
}

static size_t write_locked(struct fixture *f, const void *data, size_t len)
{
	size_t done;

	pthread_mutex_lock(&f->lock);
	done = char_write(f->chr, data, len);
	pthread_mutex_unlock(&f->lock);
	return done;
}

static void accept_locked(struct fixture *f, size_t more)
{
	pthread_mutex_lock(&f->lock);
	f->accept = more;
	char_accept_input(f->chr);
	pthread_mutex_unlock(&f->lock);
}

static void assert_reads(int fd, const char *text)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	char buffer[256];
	size_t len = 0, wanted = strlen(text);

	while (len < wanted) {
		ssize_t count;

		assert_int_equal(poll(&poll_fd, 1, PATIENCE_MS), 1);
		count = read(fd, buffer + len, wanted - len);
		assert_true(count > 0);
		len += (size_t)count;
	}
	assert_memory_equal(buffer, text, wanted);
}

static void assert_writes(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void fill(uint8_t *data, size_t len, size_t from)
{
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)((from + i) * 7 + (from + i) / 251);
}

/* Write a known sequence until the stream takes no more; returns how many bytes it took. */
static size_t fill_output(struct fixture *f)
{
	uint8_t data[1000];
	size_t total = 0, done;

	do {
		fill(data, sizeof(data), total);
		done = write_locked(f, data, sizeof(data));
		total += done;
		assert_true(total < MIB(16)); /* it must be full at some time */
	} while (done == sizeof(data));
	return total;
}

/* Read @total bytes of that sequence, with the loop running. */
static void drain_output(struct fixture *f, int fd, size_t total)
{
	uint8_t data[1000], expected[1000];
	uint64_t deadline = now_ms() + PATIENCE_MS;
	size_t len = 0;

	while (len < total && now_ms() < deadline) {
		ssize_t count = recv(fd, data, MIN(sizeof(data), total - len), MSG_DONTWAIT);

		event_loop_poll(f->loop, count > 0 ? 0 : 10);
		if (count <= 0)
			continue;
		fill(expected, (size_t)count, len);
		assert_memory_equal(data, expected, (size_t)count);
		len += (size_t)count;
	}
	assert_int_equal(len, total);
}

static void set_address(struct sockaddr_un *address, const char *path)
{
	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	snprintf(address->sun_path, sizeof(address->sun_path), "%s", path);
}

static int connect_to(const char *path)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un address;

	set_address(&address, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static int listen_on(const char *path)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un address;

	set_address(&address, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 4), 0);
	return fd;
}

static bool exists(const char *path)
{
	struct stat stat;

	return !lstat(path, &stat);
}

/* ---- Specifications ---- */

static void test_spec_errors(void **state)
{
	static const struct {
		const char *spec;
		int error;
		const char *message;
	} cases[] = {
		{ "", EINVAL, "no such back end" },
		{ "stdi", EINVAL, "no such back end" },
		{ "stdiox", EINVAL, "no such back end" },
		{ "vc", EINVAL, "stdio, pty[:LINK]" },
		{ "null:x", EINVAL, "nothing can follow null" },
		{ "stdio:", EINVAL, "nothing can follow stdio" },
		{ "file", EINVAL, "use file:PATH" },
		{ "file:", EINVAL, "use file:PATH" },
		{ "pty:", EINVAL, "path missing" },
		{ "socket", EINVAL, "socket:PATH" },
		{ "server:", EINVAL, "server:PATH" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_open_fails(*state, cases[i].spec, cases[i].error, cases[i].message);
}

static void test_null(void **state)
{
	struct fixture *f = *state;
	uint16_t columns, rows;

	f->chr = open_spec(f, "null");
	assert_non_null(f->chr);
	assert_true(char_connected(f->chr));
	assert_int_equal(write_locked(f, "hello", 5), 5);
	assert_false(char_size(f->chr, &columns, &rows));
	accept_locked(f, SIZE_MAX);
	assert_int_equal(f->received_len, 0);
}

/* ---- Files ---- */

static void test_file_appends(void **state)
{
	struct fixture *f = *state;
	int fd;

	for (unsigned int i = 0; i < 2; i++) {
		open_stream(f, "file:", "");
		assert_true(char_connected(f->chr));
		assert_int_equal(write_locked(f, i ? "two" : "one", 3), 3);
		close_stream(f);
	}
	fd = open(f->path, O_RDONLY);
	assert_reads(fd, "onetwo");
	close(fd);
}

static void test_file_errors(void **state)
{
	struct fixture *f = *state;
	char spec[160];

	snprintf(spec, sizeof(spec), "file:%s/no/such", f->directory);
	assert_open_fails(f, spec, ENOENT, "directory does not exist");
	snprintf(spec, sizeof(spec), "file:%s", f->directory);
	assert_open_fails(f, spec, EISDIR, "name a file in it");
	assert_int_equal(mkfifo(f->path, 0600), 0);
	snprintf(spec, sizeof(spec), "file:%s", f->path);
	assert_open_fails(f, spec, ENXIO, "start the reader first");
}

/* A full disk loses output and says so, not for every byte; the guest is not held up. */
static void test_file_disk_full(void **state)
{
	struct fixture *f = *state;

	f->chr = open_spec(f, "file:/dev/full");
	assert_non_null(f->chr);
	for (unsigned int i = 0; i < 100; i++)
		assert_int_equal(write_locked(f, "x", 1), 1);
	assert_true(f->lines > 0 && f->lines <= 10);
	assert_non_null(strstr(f->line, "No space left"));
}

/* A FIFO that nobody empties fills up; that it can be written again is told; its end is survived. */
static void test_file_fifo(void **state)
{
	struct fixture *f = *state;
	size_t total;
	int fd;

	assert_int_equal(mkfifo(f->path, 0600), 0);
	fd = open(f->path, O_RDONLY | O_NONBLOCK);
	open_stream(f, "file:", "");
	total = fill_output(f);
	run_for(f, 30);
	assert_int_equal(f->writable, 0);
	while (total) {
		uint8_t data[4096];
		ssize_t count = read(fd, data, MIN(sizeof(data), total));

		assert_true(count > 0);
		total -= (size_t)count;
	}
	wait_until(f, f->writable == 1);
	close(fd);
	assert_int_equal(write_locked(f, "lost", 4), 4);
	assert_int_equal(write_locked(f, "lost", 4), 4);
	assert_int_equal(f->lines, 1);
	assert_non_null(strstr(f->line, "output is dropped"));
	/* The reader is started again. */
	fd = open(f->path, O_RDONLY | O_NONBLOCK);
	assert_int_equal(write_locked(f, "back", 4), 4);
	assert_reads(fd, "back");
	close(fd);
	assert_int_equal(write_locked(f, "lost", 4), 4);
	assert_int_equal(f->lines, 2);
}

/* ---- Sockets ---- */

static void test_server_talks(void **state)
{
	struct fixture *f = *state;
	int peer;

	open_stream(f, "socket:", ":server");
	assert_false(char_connected(f->chr));
	assert_int_equal(write_locked(f, "nobody hears this", 17), 17);
	peer = connect_to(f->path);
	wait_until(f, f->connections == 1);
	assert_int_equal(write_locked(f, "hello", 5), 5);
	assert_reads(peer, "hello");
	assert_writes(peer, "world");
	wait_until(f, f->received_len == 5);
	assert_memory_equal(f->received, "world", 5);
	close_stream(f);
	assert_false(exists(f->path));
	close(peer);
}

static void test_server_reconnect(void **state)
{
	struct fixture *f = *state;

	open_stream(f, "server:", "");
	for (unsigned int i = 1; i <= 20; i++) {
		int peer = connect_to(f->path);

		assert_writes(peer, "x");
		wait_until(f, f->received_len == i);
		assert_int_equal(f->connections, i);
		assert_int_equal(write_locked(f, "y", 1), 1);
		assert_reads(peer, "y");
		close(peer);
		wait_until(f, f->disconnections == i);
		assert_int_equal(write_locked(f, "lost", 4), 4);
	}
}

static void test_server_one_peer_at_a_time(void **state)
{
	struct fixture *f = *state;
	int first, second;

	open_stream(f, "socket:", ":server");
	first = connect_to(f->path);
	wait_until(f, f->connections == 1);
	second = connect_to(f->path);
	assert_writes(second, "second");
	run_for(f, 50);
	assert_int_equal(f->connections, 1);
	assert_int_equal(f->received_len, 0);
	close(first);
	wait_until(f, f->received_len == 6);
	assert_int_equal(f->connections, 2);
	assert_int_equal(f->disconnections, 1);
	close(second);
}

/* Nobody reads: at some time no more is taken, and all that was taken arrives in order. */
static void test_socket_slow_reader(void **state)
{
	struct fixture *f = *state;
	size_t total;
	int peer;

	open_stream(f, "socket:", ":server");
	peer = connect_to(f->path);
	wait_until(f, f->connections == 1);
	total = fill_output(f);
	assert_int_equal(write_locked(f, "x", 1), 0);
	run_for(f, 30);
	assert_int_equal(f->writable, 0);
	drain_output(f, peer, total);
	wait_until(f, f->writable == 1);
	assert_int_equal(write_locked(f, "again", 5), 5);
	assert_reads(peer, "again");
	close(peer);
}

/* The reader dies while the stream is full: who waits for room is told, and bytes are dropped. */
static void test_socket_dead_reader(void **state)
{
	struct fixture *f = *state;
	int peer;

	open_stream(f, "socket:", ":server");
	peer = connect_to(f->path);
	wait_until(f, f->connections == 1);
	fill_output(f);
	close(peer);
	wait_until(f, f->writable == 1);
	assert_int_equal(write_locked(f, "dropped", 7), 7);
	wait_until(f, f->disconnections == 1);
	assert_int_equal(write_locked(f, "dropped", 7), 7);
}

/* Written to before the loop has noticed: EPIPE, not a signal. */
static void test_socket_write_after_close(void **state)
{
	struct fixture *f = *state;
	int peer;

	open_stream(f, "socket:", ":server");
	peer = connect_to(f->path);
	wait_until(f, f->connections == 1);
	close(peer);
	assert_int_equal(write_locked(f, "dropped", 7), 7);
	assert_int_equal(f->lines, 0);
	wait_until(f, f->disconnections == 1);
}

/* A guest that takes nothing costs one buffer; then the sender has to wait; nothing is lost. */
static void test_socket_flow_control(void **state)
{
	struct fixture *f = *state;
	uint8_t data[30000];
	size_t sent = 0;
	int peer;

	f->accept = 10;
	open_stream(f, "socket:", ":server");
	peer = connect_to(f->path);
	fill(data, sizeof(data), 0);
	while (sent < sizeof(data))
		sent += (size_t)send(peer, data + sent, sizeof(data) - sent, 0);
	run_for(f, 50);
	assert_int_equal(f->received_len, 10);
	assert_true(count_wakeups(f) < 50);
	accept_locked(f, 90);
	assert_int_equal(f->received_len, 100);
	run_for(f, 30);
	assert_int_equal(f->received_len, 100);
	accept_locked(f, SIZE_MAX);
	wait_until(f, f->received_len == sizeof(data));
	assert_memory_equal(f->received, data, sizeof(data));
	close(peer);
	wait_until(f, f->disconnections == 1);
}

/* What a peer sent before it left arrives, also if that is more than the buffer. */
static void test_socket_last_words(void **state)
{
	struct fixture *f = *state;
	uint8_t data[20000];
	int peer;

	f->accept = 0;
	open_stream(f, "socket:", ":server");
	peer = connect_to(f->path);
	fill(data, sizeof(data), 0);
	assert_int_equal(send(peer, data, sizeof(data), 0), sizeof(data));
	close(peer);
	run_for(f, 50);
	assert_true(count_wakeups(f) < 50);
	assert_int_equal(f->disconnections, 0);
	accept_locked(f, SIZE_MAX);
	wait_until(f, f->disconnections == 1);
	assert_int_equal(f->received_len, sizeof(data));
	assert_memory_equal(f->received, data, sizeof(data));
}

/* But a guest that never takes it must not keep the next peer out. */
static void test_socket_next_peer_comes_in(void **state)
{
	struct fixture *f = *state;
	uint8_t data[20000] = { 0 };
	int peer;

	f->accept = 0;
	open_stream(f, "socket:", ":server");
	peer = connect_to(f->path);
	assert_int_equal(send(peer, data, sizeof(data), 0), sizeof(data));
	close(peer);
	run_for(f, 50);
	peer = connect_to(f->path);
	wait_until(f, f->connections == 2);
	assert_int_equal(f->disconnections, 1);
	assert_int_equal(write_locked(f, "welcome", 7), 7);
	assert_reads(peer, "welcome");
	close(peer);
}

static void test_server_replaces_stale_socket(void **state)
{
	struct fixture *f = *state;
	int peer;

	close(listen_on(f->path));
	assert_true(exists(f->path));
	open_stream(f, "socket:", ":server");
	peer = connect_to(f->path);
	wait_until(f, f->connections == 1);
	close(peer);
}

/* Who lost the race has left connections in the listen queue: it may be full. */
static bool somebody_listens(const char *path)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un address;
	bool connected;

	set_address(&address, path);
	connected = !connect(fd, (struct sockaddr *)&address, sizeof(address)) || errno == EAGAIN;
	close(fd);
	return connected;
}

#define RACERS 4

/* A child that makes the socket when @go is closed, says whether it could, and lives on. */
static pid_t start_racer(struct fixture *f, int go[2], int says)
{
	pid_t pid = fork();
	char spec[160], result;

	assert_true(pid >= 0);
	if (pid)
		return pid;
	snprintf(spec, sizeof(spec), "server:%s", f->path);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(go[1]);
	result = read(go[0], &result, 1) ? '?' : open_spec(f, spec) ? 'y' : 'n';
	if (write(says, &result, 1) == 1)
		pause();
	_exit(1);
}

/* Several start at once, over the file of those that were killed: one gets it, and can be reached. */
static void test_server_race(void **state)
{
	struct fixture *f = *state;
	pid_t racers[RACERS];

	for (unsigned int round = 0; round < 50; round++) {
		unsigned int won = 0;
		int go[2], said[2];

		assert_int_equal(pipe2(go, O_CLOEXEC), 0);
		assert_int_equal(pipe2(said, O_CLOEXEC), 0);
		for (unsigned int i = 0; i < RACERS; i++)
			racers[i] = start_racer(f, go, said[1]);
		close(go[0]);
		close(go[1]);
		for (unsigned int i = 0; i < RACERS; i++) {
			char result;

			assert_int_equal(read(said[0], &result, 1), 1);
			won += result == 'y';
		}
		assert_int_equal(won, 1);
		assert_true(somebody_listens(f->path));
		for (unsigned int i = 0; i < RACERS; i++) {
			kill(racers[i], SIGKILL);
			waitpid(racers[i], NULL, 0);
		}
		close(said[0]);
		close(said[1]);
	}
}

static void test_server_leaves_others_alone(void **state)
{
	struct fixture *f = *state;
	char spec[400], path[200];
	int other = listen_on(f->path);

	snprintf(spec, sizeof(spec), "socket:%s:server", f->path);
	assert_open_fails(f, spec, EADDRINUSE, "another process listens on it");
	close(connect_to(f->path));
	close(other);
	unlink(f->path);

	other = open(f->path, O_CREAT | O_WRONLY, 0600);
	assert_open_fails(f, spec, EEXIST, "is not a socket");
	assert_true(exists(f->path));
	close(other);

	snprintf(spec, sizeof(spec), "server:%s/no/such", f->directory);
	assert_open_fails(f, spec, ENOENT, "directory does not exist");
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	snprintf(spec, sizeof(spec), "server:/%s", path);
	assert_open_fails(f, spec, ENAMETOOLONG, "at most 107 bytes");
}

/* Who replaced our socket file keeps it. */
static void test_server_removes_only_its_own(void **state)
{
	struct fixture *f = *state;
	int other;

	open_stream(f, "socket:", ":server");
	unlink(f->path);
	other = listen_on(f->path);
	close_stream(f);
	assert_true(exists(f->path));
	close(other);
}

static void test_client(void **state)
{
	struct fixture *f = *state;
	int listener = listen_on(f->path);
	int peer;

	open_stream(f, "socket:", "");
	assert_true(char_connected(f->chr));
	peer = accept(listener, NULL, NULL);
	assert_int_equal(write_locked(f, "hello", 5), 5);
	assert_reads(peer, "hello");
	assert_writes(peer, "world");
	wait_until(f, f->received_len == 5);
	assert_memory_equal(f->received, "world", 5);
	close(peer);
	wait_until(f, f->disconnections == 1);
	assert_int_equal(write_locked(f, "dropped", 7), 7);
	assert_true(count_wakeups(f) < 50);
	close(listener);
	close_stream(f);
	assert_true(exists(f->path)); /* the server's, not ours */
}

static void test_client_without_server(void **state)
{
	struct fixture *f = *state;
	char spec[160];

	snprintf(spec, sizeof(spec), "socket:%s", f->path);
	assert_open_fails(f, spec, ENOENT, "start the server first");
	close(listen_on(f->path));
	snprintf(spec, sizeof(spec), "socket:%s:client", f->path);
	assert_open_fails(f, spec, ECONNREFUSED, "start the server first");
}

/* ---- Pseudo-terminals ---- */

/* Open the other end and wait until that was noticed: what is written before is dropped. */
static int attach_terminal(struct fixture *f)
{
	struct pollfd poll_fd = { .events = POLLIN };
	char buffer[64];
	uint64_t deadline = now_ms() + PATIENCE_MS;

	poll_fd.fd = open(f->path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(poll_fd.fd >= 0);
	while (!poll(&poll_fd, 1, 0) && now_ms() < deadline) {
		write_locked(f, ".", 1);
		event_loop_poll(f->loop, 10);
	}
	run_for(f, 20);
	assert_true(read(poll_fd.fd, buffer, sizeof(buffer)) > 0);
	return poll_fd.fd;
}

static void test_pty_talks(void **state)
{
	struct fixture *f = *state;
	const uint8_t bytes[] = { 0, 3, 4, 13, 10, 17, 19, 26, 127, 255 };
	struct winsize size = { .ws_col = 132, .ws_row = 43 };
	uint16_t columns, rows;
	uint8_t back[sizeof(bytes)];
	int fd;

	open_stream(f, "pty:", "");
	assert_non_null(strstr(f->line, "/dev/pts/"));
	assert_true(char_connected(f->chr));
	assert_false(char_size(f->chr, &columns, &rows));
	for (unsigned int i = 0; i < 3; i++) {
		fd = attach_terminal(f);
		f->received_len = 0;
		assert_int_equal(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
		wait_until(f, f->received_len == sizeof(bytes));
		assert_memory_equal(f->received, bytes, sizeof(bytes));
		assert_int_equal(write_locked(f, bytes, sizeof(bytes)), sizeof(bytes));
		assert_int_equal(read(fd, back, sizeof(back)), sizeof(back));
		assert_memory_equal(back, bytes, sizeof(bytes));
		assert_int_equal(ioctl(fd, TIOCSWINSZ, &size), 0);
		assert_true(char_size(f->chr, &columns, &rows));
		assert_int_equal(columns, 132);
		assert_int_equal(rows, 43);
		close(fd);
		run_for(f, 20);
	}
	assert_int_equal(f->connections + f->disconnections, 0);
	close_stream(f);
	assert_false(exists(f->path));
}

/* Nobody has it open: output is dropped, and the loop sleeps. */
static void test_pty_alone(void **state)
{
	struct fixture *f = *state;
	uint8_t data[1000] = { 0 };

	f->chr = open_spec(f, "pty");
	assert_non_null(f->chr);
	for (unsigned int i = 0; i < 100; i++)
		assert_int_equal(write_locked(f, data, sizeof(data)), sizeof(data));
	assert_true(count_wakeups(f) < 50);
}

static void test_pty_slow_reader(void **state)
{
	struct fixture *f = *state;
	size_t total;
	int fd;

	open_stream(f, "pty:", "");
	fd = attach_terminal(f);
	total = fill_output(f);
	run_for(f, 30);
	assert_true(count_wakeups(f) < 50);
	assert_true(total < KIB(256));
	/* it leaves without having read anything */
	close(fd);
	wait_until(f, f->writable == 1);
	assert_int_equal(write_locked(f, "dropped", 7), 7);
	assert_true(count_wakeups(f) < 50);
}

/* Somebody writes, and leaves at once, to a guest that is not ready yet. */
static void test_pty_last_words(void **state)
{
	struct fixture *f = *state;
	int fd;

	f->accept = 0;
	open_stream(f, "pty:", "");
	fd = open(f->path, O_WRONLY | O_NOCTTY | O_CLOEXEC);
	assert_writes(fd, "reboot\r");
	close(fd);
	run_for(f, 300);
	accept_locked(f, SIZE_MAX);
	wait_until(f, f->received_len == 7);
	assert_memory_equal(f->received, "reboot\r", 7);
	assert_true(count_wakeups(f) < 50);
}

static void test_pty_link(void **state)
{
	struct fixture *f = *state;
	char spec[160];

	/* a stale one is replaced */
	assert_int_equal(symlink("/dev/pts/no-such", f->path), 0);
	open_stream(f, "pty:", "");
	close_stream(f);
	assert_false(exists(f->path));
	/* what is somebody's is not */
	assert_int_equal(symlink("/dev/null", f->path), 0);
	snprintf(spec, sizeof(spec), "pty:%s", f->path);
	assert_open_fails(f, spec, EEXIST, "remove it");
	assert_true(exists(f->path));
	unlink(f->path);
	/* nor is what took its place removed */
	open_stream(f, "pty:", "");
	unlink(f->path);
	assert_int_equal(symlink("/dev/null", f->path), 0);
	close_stream(f);
	assert_true(exists(f->path));
}

/* ---- A terminal of the host ---- */

/* The master of a new pseudo-terminal, whose other end is at @path. */
static int open_master(char *path, size_t size)
{
	int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(grantpt(fd), 0);
	assert_int_equal(unlockpt(fd), 0);
	assert_int_equal(ptsname_r(fd, path, size), 0);
	return fd;
}

static void test_tty_talks(void **state)
{
	const uint8_t bytes[] = { 0, 3, 4, 13, 10, 17, 19, 26, 127, 255 };
	struct winsize size = { .ws_col = 132, .ws_row = 43 };
	struct termios before, after;
	struct fixture *f = *state;
	uint8_t back[sizeof(bytes)];
	uint16_t columns, rows;
	char path[64], spec[80];
	int fd = open_master(path, sizeof(path));

	assert_int_equal(tcgetattr(fd, &before), 0);
	snprintf(spec, sizeof(spec), "tty:%s", path);
	f->chr = open_spec(f, spec);
	assert_non_null(f->chr);
	assert_true(char_connected(f->chr));
	assert_int_equal(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
	wait_until(f, f->received_len == sizeof(bytes));
	assert_memory_equal(f->received, bytes, sizeof(bytes));
	assert_int_equal(write_locked(f, bytes, sizeof(bytes)), sizeof(bytes));
	assert_int_equal(read(fd, back, sizeof(back)), sizeof(back));
	assert_memory_equal(back, bytes, sizeof(bytes));
	assert_int_equal(ioctl(fd, TIOCSWINSZ, &size), 0);
	assert_true(char_size(f->chr, &columns, &rows));
	assert_int_equal(columns, 132);
	assert_int_equal(rows, 43);
	assert_int_equal(tcgetattr(fd, &after), 0);
	assert_false(after.c_lflag & (ICANON | ECHO | ISIG));
	close_stream(f);
	/* as it was found */
	assert_int_equal(tcgetattr(fd, &after), 0);
	assert_int_equal(after.c_lflag, before.c_lflag);
	assert_int_equal(after.c_iflag, before.c_iflag);
	close(fd);
}

static void test_tty_hangs_up(void **state)
{
	struct fixture *f = *state;
	char path[64], spec[80];
	int fd = open_master(path, sizeof(path));

	snprintf(spec, sizeof(spec), "tty:%s", path);
	f->chr = open_spec(f, spec);
	assert_non_null(f->chr);
	close(fd);
	wait_until(f, f->lines == 1);
	assert_non_null(strstr(f->line, "hung up"));
	assert_int_equal(write_locked(f, "dropped", 7), 7);
	assert_true(count_wakeups(f) < 50);
}

static void test_tty_errors(void **state)
{
	struct fixture *f = *state;
	char spec[160];

	assert_open_fails(f, "tty:/nowhere/tty", ENOENT, "tty:/nowhere/tty");
	assert_open_fails(f, "tty:/dev/null", ENOTTY, "it is no terminal");
	snprintf(spec, sizeof(spec), "tty:%s", f->directory);
	assert_open_fails(f, spec, EISDIR, f->directory);
	assert_open_fails(f, "tty", EINVAL, "use tty:PATH");
}

#define stream_test(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		stream_test(test_spec_errors),
		stream_test(test_null),
		stream_test(test_file_appends),
		stream_test(test_file_errors),
		stream_test(test_file_disk_full),
		stream_test(test_file_fifo),
		stream_test(test_server_talks),
		stream_test(test_server_reconnect),
		stream_test(test_server_one_peer_at_a_time),
		stream_test(test_socket_slow_reader),
		stream_test(test_socket_dead_reader),
		stream_test(test_socket_write_after_close),
		stream_test(test_socket_flow_control),
		stream_test(test_socket_last_words),
		stream_test(test_socket_next_peer_comes_in),
		stream_test(test_server_replaces_stale_socket),
		stream_test(test_server_race),
		stream_test(test_server_leaves_others_alone),
		stream_test(test_server_removes_only_its_own),
		stream_test(test_client),
		stream_test(test_client_without_server),
		stream_test(test_pty_talks),
		stream_test(test_pty_alone),
		stream_test(test_pty_slow_reader),
		stream_test(test_pty_last_words),
		stream_test(test_pty_link),
		stream_test(test_tty_talks),
		stream_test(test_tty_hangs_up),
		stream_test(test_tty_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
