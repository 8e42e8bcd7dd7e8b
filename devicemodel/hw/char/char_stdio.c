/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Standard input and output: the terminal tenon was started on, or a pipe, a file, a socket.
 *
 * The terminal is the process's, shared with the shell that started it. So what has to be put back
 * is kept process-wide, where an exit or fatal-signal handler finds it, and non-blocking mode is
 * set on descriptions of our own wherever the kernel gives us one.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "char_kind.h"

#define ESCAPE 0x01 /* Ctrl-a */

static const int fatal_signals[] = { SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL };

/**
 * struct stdio_backend
 * @input, @output: descriptors of our own, -1: none
 * @escaped: Ctrl-a was the last byte typed, on a terminal
 */
struct stdio_backend {
	struct char_backend chr;
	int input, output;
	bool escaped;
	int resize_fd;
	struct event_source *resize_source;
};

/* ---- What is process-wide ---- */

/* Flags of a file description that had to be made non-blocking in place. */
struct shared_flags {
	volatile sig_atomic_t changed;
	int fd;
	int flags;
};

static struct {
	pthread_mutex_t lock;
	bool open;
	bool exit_handler;
	volatile sig_atomic_t raw;
	int fd;
	struct termios mode;
	struct shared_flags shared[2];
	struct sigaction old_actions[ARRAY_SIZE(fatal_signals)];
} terminal = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* Async-signal-safe. In reverse, as input and output may share a description. */
static void terminal_restore(void)
{
	sigset_t stop, old;

	for (int i = 1; i >= 0; i--) {
		if (!terminal.shared[i].changed)
			continue;
		fcntl(terminal.shared[i].fd, F_SETFL, terminal.shared[i].flags);
		terminal.shared[i].changed = false;
	}
	if (!terminal.raw)
		return;
	/* Without this, a process in the background would be stopped here. */
	sigemptyset(&stop);
	sigaddset(&stop, SIGTTOU);
	pthread_sigmask(SIG_BLOCK, &stop, &old);
	tcsetattr(terminal.fd, TCSANOW, &terminal.mode);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	terminal.raw = false;
}

/* The signal is pending again when this returns, and then meets who handled it before. */
static void on_fatal_signal(int number)
{
	int saved_errno = errno;

	terminal_restore();
	for (size_t i = 0; i < ARRAY_SIZE(fatal_signals); i++)
		if (fatal_signals[i] == number)
			sigaction(number, &terminal.old_actions[i], NULL);
	raise(number);
	errno = saved_errno;
}

/* Who handles a signal already may survive it, as of SIGBUS in `tenon serve`: it stays theirs. */
static void fatal_signals_catch(void)
{
	struct sigaction action = { .sa_handler = on_fatal_signal, .sa_flags = SA_ONSTACK };

	sigemptyset(&action.sa_mask);
	for (size_t i = 0; i < ARRAY_SIZE(fatal_signals); i++)
		if (!sigaction(fatal_signals[i], NULL, &terminal.old_actions[i]) &&
		    terminal.old_actions[i].sa_handler == SIG_DFL)
			sigaction(fatal_signals[i], &action, NULL);
}

static void fatal_signals_release(void)
{
	struct sigaction action;

	for (size_t i = 0; i < ARRAY_SIZE(fatal_signals); i++)
		if (!sigaction(fatal_signals[i], NULL, &action) &&
		    action.sa_handler == on_fatal_signal)
			sigaction(fatal_signals[i], &terminal.old_actions[i], NULL);
}

/* There is one terminal: only one user at a time. */
static int terminal_acquire(void)
{
	int error = 0;

	pthread_mutex_lock(&terminal.lock);
	if (terminal.open)
		error = -EBUSY;
	else if (!terminal.exit_handler && atexit(terminal_restore))
		error = -ENOMEM;
	if (!error) {
		terminal.open = true;
		terminal.exit_handler = true;
		fatal_signals_catch();
	}
	pthread_mutex_unlock(&terminal.lock);
	return error;
}

static void terminal_release(void)
{
	pthread_mutex_lock(&terminal.lock);
	terminal_restore();
	fatal_signals_release();
	terminal.open = false;
	pthread_mutex_unlock(&terminal.lock);
}

/* Output processing stays on: log messages share the terminal, and a guest's "\r\n" survives it. */
static int terminal_make_raw(int fd)
{
	struct termios mode;

	if (tcgetattr(fd, &terminal.mode) < 0)
		return -errno;
	mode = terminal.mode;
	cfmakeraw(&mode);
	mode.c_oflag = terminal.mode.c_oflag;
	terminal.fd = fd;
	terminal.raw = true;
	return tcsetattr(fd, TCSANOW, &mode) < 0 ? -errno : 0;
}

/* ---- Descriptors of our own ---- */

static bool is_pty_master(int fd)
{
	unsigned int number;

	return !ioctl(fd, TIOCGPTN, &number);
}

/* May @fd be opened again and still be the same thing? */
static bool stdio_can_reopen(int fd, const struct stat *stat)
{
	return S_ISFIFO(stat->st_mode) || (isatty(fd) && !is_pty_master(fd));
}

/*
 * A non-blocking descriptor of what @fd is, or -1 if that is closed. O_NONBLOCK belongs to the
 * description, which the shell has as well: open our own if possible.
 */
static int stdio_own(int fd, int access_mode)
{
	struct shared_flags *shared = &terminal.shared[fd];
	char path[32];
	struct stat stat;
	int own;

	if (fstat(fd, &stat) < 0)
		return -1;
	if (stdio_can_reopen(fd, &stat)) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		own = open(path, access_mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		if (own >= 0)
			return own;
	}
	own = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (own < 0 || S_ISREG(stat.st_mode))
		return own;
	shared->fd = own;
	shared->flags = fcntl(own, F_GETFL);
	if (shared->flags < 0 || shared->flags & O_NONBLOCK)
		return own;
	shared->changed = true;
	fcntl(own, F_SETFL, shared->flags | O_NONBLOCK);
	return own;
}

/* ---- The back end ---- */

static struct stdio_backend *stdio_of(const struct char_backend *chr)
{
	return container_of(chr, struct stdio_backend, chr);
}

/* One key after Ctrl-a: the byte to pass on, or -1. */
static int stdio_escape(uint8_t key)
{
	if (key == 'x')
		kill(getpid(), SIGTERM);
	return key == 'a' || key == ESCAPE ? ESCAPE : -1;
}

static size_t stdio_filter(struct char_backend *chr, uint8_t *data, size_t len)
{
	struct stdio_backend *stdio = stdio_of(chr);
	size_t kept = 0;

	for (size_t i = 0; i < len; i++) {
		int byte = data[i];

		if (stdio->escaped) {
			stdio->escaped = false;
			byte = stdio_escape(data[i]);
		} else if (byte == ESCAPE) {
			stdio->escaped = true;
			byte = -1;
		}
		if (byte >= 0)
			data[kept++] = (uint8_t)byte;
	}
	return kept;
}

static void stdio_input_ended(struct char_backend *chr, int error)
{
	char_end_input(chr);
}

static bool stdio_size(const struct char_backend *chr, uint16_t *columns, uint16_t *rows)
{
	return char_window_size(stdio_of(chr)->output, columns, rows);
}

static void on_resize(void *arg, uint32_t events)
{
	struct stdio_backend *stdio = arg;
	struct signalfd_siginfo info;
	uint16_t columns, rows;

	while (read(stdio->resize_fd, &info, sizeof(info)) == sizeof(info))
		;
	if (stdio->chr.ops->resized && stdio_size(&stdio->chr, &columns, &rows))
		stdio->chr.ops->resized(stdio->chr.arg, columns, rows);
}

/*
 * SIGWINCH reaches a signalfd only while it is blocked in all threads: main() blocks it before it
 * starts any. Here it is blocked once more for who uses this without that main().
 */
static int stdio_watch_size(struct stdio_backend *stdio)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGWINCH);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	stdio->resize_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
	if (stdio->resize_fd < 0)
		return -errno;
	stdio->resize_source = event_add_fd(stdio->chr.loop, stdio->resize_fd, EPOLLIN,
					    stdio->chr.lock, on_resize, stdio);
	return stdio->resize_source ? 0 : -errno;
}

static int stdio_start(struct stdio_backend *stdio)
{
	int error = 0;

	stdio->input = stdio_own(STDIN_FILENO, O_RDONLY);
	stdio->output = stdio_own(STDOUT_FILENO, O_WRONLY);
	if (stdio->input >= 0 && isatty(stdio->input)) {
		error = terminal_make_raw(stdio->input);
		if (!error)
			error = char_set_filter(&stdio->chr, stdio_filter);
	}
	if (!error && stdio->output >= 0 && isatty(stdio->output))
		error = stdio_watch_size(stdio);
	return error;
}

static void stdio_close(struct char_backend *chr)
{
	struct stdio_backend *stdio = stdio_of(chr);

	event_remove(stdio->resize_source);
	if (stdio->resize_fd >= 0)
		close(stdio->resize_fd);
	terminal_release();
	if (stdio->input >= 0)
		close(stdio->input);
	if (stdio->output >= 0)
		close(stdio->output);
}

static int stdio_open(struct char_backend *chr, const char *argument)
{
	struct stdio_backend *stdio = stdio_of(chr);
	int error = terminal_acquire();

	if (error) {
		log_error(chr->log, "%s: stdio: %s", chr->what,
			  error == -EBUSY
				  ? "already used by another device (use pty or socket:PATH)"
				  : strerror(-error));
		return error;
	}
	stdio->input = -1;
	stdio->output = -1;
	stdio->resize_fd = -1;
	error = stdio_start(stdio);
	if (error) {
		log_error(chr->log, "%s: stdio: cannot set up the terminal: %s", chr->what,
			  strerror(-error));
		stdio_close(chr);
		return error;
	}
	chr->connected = true;
	char_attach(chr, stdio->input, stdio->output);
	return 0;
}

const struct char_kind char_stdio = {
	.name = "stdio",
	.form = "stdio",
	.size = sizeof(struct stdio_backend),
	.open = stdio_open,
	.close = stdio_close,
	.input_ended = stdio_input_ended,
	.terminal_size = stdio_size,
};
