/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A new pseudo-terminal, for a terminal program to be attached to.
 *
 * While nobody has its other end open, output is dropped. The kernel does not tell when somebody
 * opens it, so that is asked a few times a second; when the last one closes it, it does tell.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "char_kind.h"
#include "event_loop.h"

#define PTY_POLL_NS UINT64_C(200000000)
#define PTY_PATH_MAX 64

struct pty_backend {
	struct char_backend chr;
	int fd;
	struct event_source *poll_timer;
	char path[PTY_PATH_MAX];
	char *link; /* NULL: none made */
};

static struct pty_backend *pty_of(const struct char_backend *chr)
{
	return container_of(chr, struct pty_backend, chr);
}

/* Nobody there: drop output and look again later; what was sent before leaving stays readable. */
static void pty_left(struct char_backend *chr)
{
	char_detach(chr);
	event_set_timer(pty_of(chr)->poll_timer, PTY_POLL_NS, PTY_POLL_NS);
}

static void pty_input_ended(struct char_backend *chr, int error)
{
	pty_left(chr);
}

static void on_pty_poll(void *arg, uint32_t expirations)
{
	struct pty_backend *pty = arg;
	struct pollfd poll_fd = { .fd = pty->fd, .events = POLLIN };

	if (poll(&poll_fd, 1, 0) < 0)
		return;
	if (poll_fd.revents & POLLHUP && !(poll_fd.revents & POLLIN))
		return;
	event_set_timer(pty->poll_timer, 0, 0);
	char_attach(&pty->chr, pty->fd, pty->fd);
}

/* The other end must not echo the guest's output back to it, nor wait for whole lines. */
static int pty_make_raw(const char *path)
{
	struct termios mode;
	int fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	int error = 0;

	if (fd < 0)
		return -errno;
	if (tcgetattr(fd, &mode) < 0) {
		error = -errno;
	} else {
		cfmakeraw(&mode);
		if (tcsetattr(fd, TCSANOW, &mode) < 0)
			error = -errno;
	}
	close(fd);
	return error;
}

/* What is opened here is closed by pty_close(), also after an error. */
static int pty_create(struct pty_backend *pty)
{
	struct char_backend *chr = &pty->chr;

	pty->fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (pty->fd < 0)
		return -errno;
	if (grantpt(pty->fd) < 0 || unlockpt(pty->fd) < 0 ||
	    fcntl(pty->fd, F_SETFL, O_RDWR | O_NONBLOCK) < 0)
		return -errno;
	if (ptsname_r(pty->fd, pty->path, sizeof(pty->path)))
		return -errno;
	pty->poll_timer = event_add_real_timer(chr->loop, chr->lock, on_pty_poll, pty);
	if (!pty->poll_timer)
		return -errno;
	return pty_make_raw(pty->path);
}

/* A dangling link is what a tenon that was killed leaves behind; anything else is not ours. */
static int pty_link(struct pty_backend *pty, const char *link)
{
	char target[PTY_PATH_MAX];
	int error = 0;

	if (readlink(link, target, sizeof(target)) > 0 && access(link, F_OK) < 0 && errno == ENOENT)
		unlink(link);
	pty->link = strdup(link);
	if (!pty->link)
		return -ENOMEM;
	if (symlink(pty->path, link) < 0) {
		error = -errno;
		free(pty->link);
		pty->link = NULL;
	}
	return error;
}

static void pty_unlink(struct pty_backend *pty)
{
	char target[PTY_PATH_MAX];
	ssize_t len;

	if (!pty->link)
		return;
	len = readlink(pty->link, target, sizeof(target));
	if (len == (ssize_t)strlen(pty->path) && !memcmp(target, pty->path, (size_t)len))
		unlink(pty->link);
	free(pty->link);
}

static void pty_close(struct char_backend *chr)
{
	struct pty_backend *pty = pty_of(chr);

	event_remove(pty->poll_timer);
	pty_unlink(pty);
	if (pty->fd >= 0)
		close(pty->fd);
}

static int pty_open(struct char_backend *chr, const char *link)
{
	struct pty_backend *pty = pty_of(chr);
	int error = pty_create(pty);

	if (error) {
		log_error(chr->log, "%s: pty: cannot make a pseudo-terminal: %s", chr->what,
			  strerror(-error));
		pty_close(chr);
		return error;
	}
	error = link ? pty_link(pty, link) : 0;
	if (error) {
		log_error(chr->log, "%s: pty:%s: cannot link it to %s: %s%s", chr->what, link,
			  pty->path, strerror(-error),
			  error == -EEXIST ? " (remove it if nothing uses it)" : "");
		pty_close(chr);
		return error;
	}
	log_info(chr->log, "%s: pseudo-terminal %s%s%s", chr->what, pty->path, link ? ", " : "",
		 link ? link : "");
	chr->connected = true;
	event_set_timer(pty->poll_timer, PTY_POLL_NS, PTY_POLL_NS);
	return 0;
}

static bool pty_size(const struct char_backend *chr, uint16_t *columns, uint16_t *rows)
{
	return char_window_size(pty_of(chr)->fd, columns, rows);
}

const struct char_kind char_pty = {
	.name = "pty",
	.argument = CHAR_ARGUMENT_OPTIONAL,
	.form = "pty or pty:LINK",
	.size = sizeof(struct pty_backend),
	.peer_leaves = true,
	.open = pty_open,
	.close = pty_close,
	.input_ended = pty_input_ended,
	.hung_up = pty_left,
	.terminal_size = pty_size,
};
