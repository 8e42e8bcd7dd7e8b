/* SPDX-License-Identifier: BSD-3-Clause */
/* A terminal of the host: a serial port, or the pseudo-terminal of another program. */
#include <errno.h>
#include <fcntl.h>
#include <termios.h>
#include <unistd.h>

#include "char_kind.h"

/* @mode: as it was found */
struct tty_backend {
	struct char_backend chr;
	int fd;
	struct termios mode;
};

static struct tty_backend *tty_of(const struct char_backend *chr)
{
	return container_of(chr, struct tty_backend, chr);
}

/* Bytes go through unchanged, also without a carrier. */
static int tty_make_raw(struct tty_backend *tty)
{
	struct termios mode;

	if (tcgetattr(tty->fd, &tty->mode) < 0)
		return -errno;
	mode = tty->mode;
	cfmakeraw(&mode);
	mode.c_cflag |= CLOCAL | CREAD;
	return tcsetattr(tty->fd, TCSANOW, &mode) < 0 ? -errno : 0;
}

static const char *tty_remedy(int error)
{
	switch (error) {
	case ENOTTY:
		return " (it is no terminal: use file: or socket:)";
	case EACCES:
		return " (join the group that owns it)";
	default:
		return "";
	}
}

static int tty_open(struct char_backend *chr, const char *path)
{
	struct tty_backend *tty = tty_of(chr);
	int error;

	tty->fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	error = tty->fd < 0 ? -errno : tty_make_raw(tty);
	if (!error) {
		chr->connected = true;
		char_attach(chr, tty->fd, tty->fd);
		return 0;
	}
	log_error(chr->log, "%s: tty:%s: cannot open it: %s%s", chr->what, path, strerror(-error),
		  tty_remedy(-error));
	if (tty->fd >= 0)
		close(tty->fd);
	return error;
}

/* A terminal that hung up stays so; the guest sees a line on which nothing happens. */
static void tty_input_ended(struct char_backend *chr, int error)
{
	char_detach(chr);
	log_info(chr->log, "%s: the terminal has hung up", chr->what);
}

static void tty_close(struct char_backend *chr)
{
	struct tty_backend *tty = tty_of(chr);

	tcsetattr(tty->fd, TCSANOW, &tty->mode);
	close(tty->fd);
}

static bool tty_size(const struct char_backend *chr, uint16_t *columns, uint16_t *rows)
{
	return char_window_size(tty_of(chr)->fd, columns, rows);
}

const struct char_kind char_tty = {
	.name = "tty",
	.argument = CHAR_ARGUMENT_REQUIRED,
	.form = "tty:PATH",
	.size = sizeof(struct tty_backend),
	.open = tty_open,
	.close = tty_close,
	.input_ended = tty_input_ended,
	.terminal_size = tty_size,
};
