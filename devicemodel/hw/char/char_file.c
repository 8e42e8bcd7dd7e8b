/* SPDX-License-Identifier: BSD-3-Clause */
/* Output appended to a file, a FIFO or a device; no input. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "char_kind.h"

struct file_backend {
	struct char_backend chr;
	int fd;
};

static const char *file_remedy(int error)
{
	switch (error) {
	case ENXIO:
		return " (nobody reads this FIFO: start the reader first)";
	case ENOENT:
		return " (its directory does not exist: create it first)";
	case EISDIR:
		return " (name a file in it)";
	default:
		return "";
	}
}

static int file_open(struct char_backend *chr, const char *path)
{
	struct file_backend *file = container_of(chr, struct file_backend, chr);
	int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
	int error;

	file->fd = open(path, flags, 0640);
	error = errno;
	if (file->fd < 0) {
		log_error(chr->log, "%s: file:%s: cannot open for writing: %s%s", chr->what, path,
			  strerror(error), file_remedy(error));
		return -error;
	}
	chr->connected = true;
	char_attach(chr, -1, file->fd);
	return 0;
}

static void file_close(struct char_backend *chr)
{
	close(container_of(chr, struct file_backend, chr)->fd);
}

const struct char_kind char_file = {
	.name = "file",
	.argument = CHAR_ARGUMENT_REQUIRED,
	.form = "file:PATH",
	.size = sizeof(struct file_backend),
	.open = file_open,
	.close = file_close,
};
