/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Signals to the front end: its call and err descriptors, and its own kicks. They are of its making:
 * eventfds as a rule, in any mode and with any count, and signalling them must not block us.
 */
#include "vhost_user_device.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct vhost_user_signal vhost_user_signal_make(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	struct stat stat;

	return (struct vhost_user_signal) {
		.fd = fd,
		.is_socket = !fstat(fd, &stat) && S_ISSOCK(stat.st_mode),
		.may_block = flags < 0 || !(flags & O_NONBLOCK),
	};
}

/* What has no room has been signalled already, and not been looked at yet. */
void vhost_user_signal_send(const struct vhost_user_signal *signal)
{
	struct pollfd room = { .fd = signal->fd, .events = POLLOUT };
	uint64_t one = 1;
	ssize_t count;

	if (signal->fd < 0)
		return;
	if (signal->may_block && !signal->is_socket && poll(&room, 1, 0) <= 0)
		return;
	do {
		count = signal->is_socket
				? send(signal->fd, &one, sizeof(one), MSG_DONTWAIT | MSG_NOSIGNAL)
				: write(signal->fd, &one, sizeof(one));
	} while (count < 0 && errno == EINTR);
}

void vhost_user_signal_close(struct vhost_user_signal *signal)
{
	if (signal->fd >= 0)
		close(signal->fd);
	*signal = (struct vhost_user_signal) { .fd = -1 };
}
