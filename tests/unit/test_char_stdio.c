/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The "stdio" back end: each test forks a child whose standard input and output are what the test
 * wants, and that opens the back end; for terminals, the test holds the other end of a pty.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "captured_log.h"
#include "char_backend.h"
#include "event_loop.h"

#define PATIENCE_MS 20000

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- The child ---- */

#define check(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "child, line %d: %s\n", __LINE__, #condition);             \
			_exit(99);                                                                 \
		}                                                                                  \
	} while (0)

#define LINE "is anybody there?\r"
#define LINES 300 /* more of them than tenon keeps */

struct child {
	struct captured_log log;
	struct event_loop *loop;
	pthread_mutex_t lock;
	struct char_backend *chr;
	bool refuse; /* input */
	bool quiet; /* count what comes, and no more */
	bool close;
	size_t received;
	unsigned int writable;
};

static struct child the_child; /* static, so that who exits in the middle leaks nothing */

static void child_print(struct child *child, const char *text)
{
	char_write(child->chr, text, strlen(text));
}

/* One key: a command, or something to be shown as hex. */
static void child_key(struct child *child, uint8_t key)
{
	char hex[8];

	switch (key) {
	case 'c':
		child->close = true;
		return;
	case 'e':
		exit(0);
	case 'A':
		abort();
	default:
		snprintf(hex, sizeof(hex), "%02x", key);
		child_print(child, hex);
	}
}

static size_t child_receive(void *arg, const uint8_t *data, size_t len)
{
	struct child *child = arg;

	if (child->refuse)
		return 0;
	child->received += len;
	for (size_t i = 0; i < len && !child->quiet; i++)
		child_key(child, data[i]);
	return len;
}

static void child_resized(void *arg, uint16_t columns, uint16_t rows)
{
	char text[32];
	uint16_t now_columns, now_rows;
	struct child *child = arg;

	check(char_size(child->chr, &now_columns, &now_rows));
	check(columns == now_columns && rows == now_rows);
	snprintf(text, sizeof(text), "%ux%u", columns, rows);
	child_print(child, text);
}

static void child_writable(void *arg)
{
	((struct child *)arg)->writable++;
}

static const struct char_backend_ops child_ops = {
	.receive = child_receive,
	.resized = child_resized,
	.writable = child_writable,
};

/* Sanitizers catch these; here they must do what they do to tenon. */
static void fatal_signals_default(void)
{
	static const int signals[] = { SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL };

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		signal(signals[i], SIG_DFL);
}

static struct child *child_open(void)
{
	struct child *child = &the_child;

	fatal_signals_default();
	captured_log_init(&child->log);
	child->loop = event_loop_create("child");
	pthread_mutex_init(&child->lock, NULL);
	child->chr = char_open(&child->log.log, "com1", "stdio", child->loop, &child->lock,
			       &child_ops, child);
	check(child->chr);
	check(char_connected(child->chr));
	return child;
}

static void child_close(struct child *child)
{
	char_close(child->chr);
	event_loop_destroy(child->loop);
	captured_log_deinit(&child->log);
}

static void child_run(struct child *child, uint64_t ms)
{
	uint64_t end = now_ms() + ms;

	while (now_ms() < end && !child->close)
		event_loop_poll(child->loop, 10);
}

/* Serve keys on a terminal. */
static void child_terminal(void)
{
	struct child *child = child_open();

	child_print(child, "ready");
	child_run(child, 2 * PATIENCE_MS);
	child_close(child);
	check(write(STDOUT_FILENO, "closed", 6) == 6);
	pause();
}

static void child_hung(void)
{
	struct child *child = child_open();

	child->refuse = true;
	child_print(child, "ready");
	child_run(child, 2 * PATIENCE_MS);
}

static void child_slow(void)
{
	struct child *child = child_open();

	child->refuse = child->quiet = true;
	child_print(child, "ready");
	child_run(child, 200);
	child->refuse = false;
	pthread_mutex_lock(&child->lock);
	char_accept_input(child->chr);
	pthread_mutex_unlock(&child->lock);
	for (int i = 0; i < PATIENCE_MS && child->received < LINES * strlen(LINE); i++)
		child_run(child, 1);
	check(child->received == LINES * strlen(LINE));
	child_print(child, "all");
	child_close(child);
}

static void child_opens_twice(void)
{
	struct child *child = child_open();

	check(!char_open(&child->log.log, "com2", "stdio", child->loop, &child->lock, &child_ops,
			 child));
	check(errno == EBUSY);
	check(child->log.count == 1);
	check(strstr(child->log.lines[0], "com2: stdio: already used"));
	child_close(child);
	child = child_open();
	child_close(child);
}

/* Input of which there are 9 bytes and then no more; the loop must come to rest. */
static void child_reads_all(void)
{
	struct child *child = child_open();
	uint64_t end = now_ms() + 300;
	unsigned int wakeups = 0;

	while (now_ms() < end) {
		event_loop_poll(child->loop, 50);
		wakeups++;
	}
	check(child->received == 9);
	check(wakeups < 30);
	child_print(child, "done");
	child_close(child);
}

static void child_reads_nothing(void)
{
	struct child *child = child_open();
	uint64_t end = now_ms() + 300;
	unsigned int wakeups = 0;

	while (now_ms() < end) {
		event_loop_poll(child->loop, 50);
		wakeups++;
	}
	check(child->received == 0);
	check(wakeups < 30);
	child_close(child);
}

static void child_keeps_flags(void)
{
	int in = fcntl(STDIN_FILENO, F_GETFL), out = fcntl(STDOUT_FILENO, F_GETFL);
	struct child *child = child_open();

	check(fcntl(STDIN_FILENO, F_GETFL) == in);
	check(fcntl(STDOUT_FILENO, F_GETFL) == out);
	child_close(child);
	check(fcntl(STDIN_FILENO, F_GETFL) == in);
	check(fcntl(STDOUT_FILENO, F_GETFL) == out);
}

/* A socket cannot be opened again: its flags change for the time being. */
static void child_restores_flags(void)
{
	int in = fcntl(STDIN_FILENO, F_GETFL);
	struct child *child = child_open();

	check(fcntl(STDIN_FILENO, F_GETFL) == (in | O_NONBLOCK));
	child_close(child);
	check(fcntl(STDIN_FILENO, F_GETFL) == in);
	child = child_open();
	exit(0);
}

static void child_writes_until_full(void)
{
	struct child *child = child_open();
	char data[1000] = { 0 };
	size_t done, total = 0;

	do {
		done = char_write(child->chr, data, sizeof(data));
		total += done;
		check(total < MIB(16));
	} while (done == sizeof(data));
	child_run(child, 50);
	check(!child->writable);
	child_close(child);
}

/* Nobody reads the output: no signal, no blocking. */
static void child_writes_to_nobody(void)
{
	struct child *child = child_open();

	check(char_write(child->chr, "x", 1) == 1);
	check(char_write(child->chr, "x", 1) == 1);
	child_run(child, 20);
	check(child->log.count == 1);
	check(strstr(child->log.lines[0], "output is dropped"));
	child_close(child);
}

/* ---- The tests' side ---- */

/* Fork a child that runs @scenario with these as standard input and output (-1: closed). */
static pid_t start(void (*scenario)(void), int in, int out)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid)
		return pid;
	if (in >= 0)
		dup2(in, STDIN_FILENO);
	else
		close(STDIN_FILENO);
	if (out >= 0)
		dup2(out, STDOUT_FILENO);
	else
		close(STDOUT_FILENO);
	closefrom(STDERR_FILENO + 1);
	scenario();
	_exit(0);
}

static int wait_for(pid_t pid)
{
	uint64_t deadline = now_ms() + PATIENCE_MS;
	int status = -1;

	while (now_ms() < deadline) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return status;
		usleep(1000);
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return status;
}

static void assert_exits(pid_t pid)
{
	int status = wait_for(pid);

	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void assert_killed(pid_t pid, int signal)
{
	int status = wait_for(pid);

	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), signal);
}

static void assert_reads(int fd, const char *text)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	size_t len = 0, wanted = strlen(text);
	char buffer[64];

	while (len < wanted) {
		ssize_t count;

		assert_int_equal(poll(&poll_fd, 1, PATIENCE_MS), 1);
		count = read(fd, buffer + len, wanted - len);
		assert_true(count > 0);
		len += (size_t)count;
	}
	assert_memory_equal(buffer, text, wanted);
}

static void type(int fd, const char *keys)
{
	assert_int_equal(write(fd, keys, strlen(keys)), strlen(keys));
}

struct terminal {
	int master, slave;
	struct termios mode;
	pid_t pid;
};

/* A child whose controlling terminal is a new pty; with "ready" read from it. */
static void start_on_terminal(struct terminal *terminal, void (*scenario)(void))
{
	char path[64];

	terminal->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(terminal->master >= 0);
	assert_int_equal(grantpt(terminal->master), 0);
	assert_int_equal(unlockpt(terminal->master), 0);
	assert_int_equal(ptsname_r(terminal->master, path, sizeof(path)), 0);
	terminal->slave = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_int_equal(tcgetattr(terminal->slave, &terminal->mode), 0);
	fflush(NULL);
	terminal->pid = fork();
	assert_true(terminal->pid >= 0);
	if (terminal->pid) {
		assert_reads(terminal->master, "ready");
		return;
	}
	setsid();
	ioctl(terminal->slave, TIOCSCTTY, 0);
	dup2(terminal->slave, STDIN_FILENO);
	dup2(terminal->slave, STDOUT_FILENO);
	closefrom(STDERR_FILENO + 1);
	scenario();
	_exit(0);
}

static void end_terminal(struct terminal *terminal)
{
	close(terminal->master);
	close(terminal->slave);
}

static void assert_restored(const struct terminal *terminal)
{
	struct termios mode;

	assert_int_equal(tcgetattr(terminal->slave, &mode), 0);
	assert_int_equal(mode.c_iflag, terminal->mode.c_iflag);
	assert_int_equal(mode.c_oflag, terminal->mode.c_oflag);
	assert_int_equal(mode.c_cflag, terminal->mode.c_cflag);
	assert_int_equal(mode.c_lflag, terminal->mode.c_lflag);
	assert_memory_equal(mode.c_cc, terminal->mode.c_cc, sizeof(mode.c_cc));
}

static void assert_raw(const struct terminal *terminal)
{
	struct termios mode;

	assert_int_equal(tcgetattr(terminal->slave, &mode), 0);
	assert_int_equal(mode.c_lflag & (ICANON | ECHO | ISIG), 0);
	assert_int_equal(mode.c_iflag & (ICRNL | IXON), 0);
	assert_int_equal(mode.c_oflag, terminal->mode.c_oflag);
}

static void test_terminal_raw_and_restored(void **state)
{
	struct terminal terminal;

	start_on_terminal(&terminal, child_terminal);
	assert_raw(&terminal);
	type(terminal.master, "\x03\x1a\r");
	assert_reads(terminal.master, "031a0d");
	type(terminal.master, "c");
	assert_reads(terminal.master, "closed");
	assert_restored(&terminal);
	kill(terminal.pid, SIGKILL);
	assert_killed(terminal.pid, SIGKILL);
	end_terminal(&terminal);
}

static void test_terminal_restored_at_exit(void **state)
{
	struct terminal terminal;

	start_on_terminal(&terminal, child_terminal);
	type(terminal.master, "e");
	assert_exits(terminal.pid);
	assert_restored(&terminal);
	end_terminal(&terminal);
}

static void test_terminal_restored_on_fatal_signals(void **state)
{
	static const int signals[] = { SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL };
	struct terminal terminal;

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		start_on_terminal(&terminal, child_terminal);
		assert_raw(&terminal);
		kill(terminal.pid, signals[i]);
		assert_killed(terminal.pid, signals[i]);
		assert_restored(&terminal);
		end_terminal(&terminal);
	}
	start_on_terminal(&terminal, child_terminal);
	type(terminal.master, "A");
	assert_killed(terminal.pid, SIGABRT);
	assert_restored(&terminal);
	end_terminal(&terminal);
}

static void test_terminal_escape(void **state)
{
	struct terminal terminal;

	start_on_terminal(&terminal, child_terminal);
	type(terminal.master, "\x01"
			      "a\x01\x01\x01z!");
	assert_reads(terminal.master, "010121");
	/* in two pieces */
	type(terminal.master, "\x01");
	usleep(30000);
	type(terminal.master, "x");
	assert_killed(terminal.pid, SIGTERM);
	end_terminal(&terminal);
}

static void type_lines(const struct terminal *terminal)
{
	for (unsigned int i = 0; i < LINES; i++)
		type(terminal->master, LINE);
}

/* A guest that takes no input can still be left. */
static void test_terminal_escape_from_hung_guest(void **state)
{
	struct terminal terminal;

	start_on_terminal(&terminal, child_hung);
	type_lines(&terminal);
	type(terminal.master, "\x01x");
	assert_killed(terminal.pid, SIGTERM);
	end_terminal(&terminal);
}

/* A guest that takes its time gets all of what is pasted. */
static void test_terminal_paste_to_slow_guest(void **state)
{
	struct terminal terminal;

	start_on_terminal(&terminal, child_slow);
	type_lines(&terminal);
	assert_reads(terminal.master, "all");
	assert_exits(terminal.pid);
	end_terminal(&terminal);
}

static void test_terminal_resize(void **state)
{
	struct winsize size = { .ws_col = 132, .ws_row = 43 };
	struct terminal terminal;

	start_on_terminal(&terminal, child_terminal);
	assert_int_equal(ioctl(terminal.master, TIOCSWINSZ, &size), 0);
	assert_reads(terminal.master, "132x43");
	type(terminal.master, "e");
	assert_exits(terminal.pid);
	end_terminal(&terminal);
}

static void test_only_one(void **state)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	assert_exits(start(child_opens_twice, null, null));
	close(null);
}

static void test_input_from_pipe(void **state)
{
	int in[2], out[2];
	pid_t pid;

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	/* Ctrl-a is nothing special here */
	type(in[1], "\x01x1234567");
	pid = start(child_reads_all, in[0], out[1]);
	close(in[0]);
	close(in[1]);
	close(out[1]);
	assert_exits(pid);
	assert_reads(out[0], "017831323334353637done");
	close(out[0]);
}

/* epoll does not take regular files. */
static void test_input_from_file(void **state)
{
	char path[] = "/tmp/test_char_stdio.XXXXXX";
	int in = mkstemp(path), out[2];

	unlink(path);
	type(in, "123456789");
	assert_int_equal(lseek(in, 0, SEEK_SET), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_exits(start(child_reads_all, in, out[1]));
	assert_reads(out[0], "313233343536373839done");
	close(in);
	close(out[0]);
	close(out[1]);
}

/* Nor does a file as output change its offset, which it shares with the shell's other commands. */
static void test_output_to_file(void **state)
{
	char path[] = "/tmp/test_char_stdio.XXXXXX", text[32] = "";
	int out = mkstemp(path), in[2];

	unlink(path);
	type(out, "before ");
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	type(in[1], "\x01\x01\x01\x01\x01\x01\x01\x01\x01");
	assert_exits(start(child_reads_all, in[0], out));
	type(out, " after");
	assert_int_equal(pread(out, text, sizeof(text) - 1, 0), 35 - 4);
	assert_memory_equal(text, "before 010101010101010101done", 29);
	close(out);
	close(in[0]);
	close(in[1]);
}

static void test_no_input(void **state)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	assert_exits(start(child_reads_nothing, null, null));
	assert_exits(start(child_reads_nothing, -1, null));
	assert_exits(start(child_reads_nothing, -1, -1));
	close(null);
}

static void test_flags_are_not_shared(void **state)
{
	int in[2], out[2], sockets[2];

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_exits(start(child_keeps_flags, in[0], out[1]));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
	assert_exits(start(child_restores_flags, sockets[0], sockets[0]));
	assert_int_equal(fcntl(sockets[0], F_GETFL) & O_NONBLOCK, 0);
	for (unsigned int i = 0; i < 2; i++) {
		close(in[i]);
		close(out[i]);
		close(sockets[i]);
	}
}

static void test_output_to_slow_reader(void **state)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), out[2];

	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_exits(start(child_writes_until_full, null, out[1]));
	close(out[0]);
	close(out[1]);
	close(null);
}

static void test_output_to_nobody(void **state)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), out[2];

	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	close(out[0]);
	assert_exits(start(child_writes_to_nobody, null, out[1]));
	close(out[1]);
	close(null);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_terminal_raw_and_restored),
		cmocka_unit_test(test_terminal_restored_at_exit),
		cmocka_unit_test(test_terminal_restored_on_fatal_signals),
		cmocka_unit_test(test_terminal_escape),
		cmocka_unit_test(test_terminal_escape_from_hung_guest),
		cmocka_unit_test(test_terminal_paste_to_slow_guest),
		cmocka_unit_test(test_terminal_resize),
		cmocka_unit_test(test_only_one),
		cmocka_unit_test(test_input_from_pipe),
		cmocka_unit_test(test_input_from_file),
		cmocka_unit_test(test_output_to_file),
		cmocka_unit_test(test_no_input),
		cmocka_unit_test(test_flags_are_not_shared),
		cmocka_unit_test(test_output_to_slow_reader),
		cmocka_unit_test(test_output_to_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
