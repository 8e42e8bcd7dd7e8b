/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Signals to the front end: its call and err descriptors, and its own kicks. They are of its making:
 * in any mode, which it may change at any time, and with any count. Signalling them must not block us.
 *
 * write() to an eventfd may. What may not is what the kernel does when it signals one itself, and it
 * does that for us when a request of its asynchronous I/O (io_submit(2), IOCB_FLAG_RESFD) is done: so
 * each signal is a request that is done at once, one system call like the write() in its place.
 */
#include "vhost_user_device.h"

#include <errno.h>
#include <linux/aio_abi.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RESULTS_MAX 128

struct vhost_user_signal vhost_user_signal_make(int fd)
{
	struct stat stat = { 0 };
	bool known = !fstat(fd, &stat);

	return (struct vhost_user_signal) {
		.fd = fd,
		.is_socket = known && S_ISSOCK(stat.st_mode),
		.is_eventfd = known && !(stat.st_mode & S_IFMT),
	};
}

/* Results are of no interest, but take up room. */
static void forget_results(aio_context_t context)
{
	struct io_event results[RESULTS_MAX];

	syscall(SYS_io_getevents, context, 0, RESULTS_MAX, results, NULL);
}

static bool submit(aio_context_t context, struct iocb *request)
{
	if (syscall(SYS_io_submit, context, 1, &request) == 1)
		return true;
	if (errno != EAGAIN)
		return false;
	forget_results(context);
	return syscall(SYS_io_submit, context, 1, &request) == 1;
}

static void signal_eventfd(const struct vhost_user_device *device, int fd)
{
	/* A read of less than the eight bytes that there are is refused at once, and so is done. */
	struct iocb request = { .aio_lio_opcode = IOCB_CMD_PREAD,
				.aio_fildes = (uint32_t)device->events_fd,
				.aio_flags = IOCB_FLAG_RESFD,
				.aio_resfd = (uint32_t)fd };
	struct pollfd room = { .fd = fd, .events = POLLOUT };
	uint64_t one = 1;

	if (submit(device->signals, &request))
		return;
	/* No asynchronous I/O: only who fills it between the two calls has us wait. */
	if (poll(&room, 1, 0) > 0)
		(void)!write(fd, &one, sizeof(one));
}

static void signal_socket(int fd)
{
	const uint64_t one = 1;

	while (send(fd, &one, sizeof(one), MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EINTR)
		;
}

/* What has no room has been signalled already, and not been looked at yet. */
void vhost_user_signal_send(const struct vhost_user_device *device,
			    const struct vhost_user_signal *signal)
{
	if (signal->is_eventfd)
		signal_eventfd(device, signal->fd);
	else if (signal->is_socket)
		signal_socket(signal->fd);
}

void vhost_user_signal_close(struct vhost_user_signal *signal)
{
	if (signal->fd >= 0)
		close(signal->fd);
	*signal = (struct vhost_user_signal) { .fd = -1 };
}

/* Where the host has none, or none left (fs.aio-max-nr), it is 0, with which no request is taken. */
void vhost_user_signals_create(struct vhost_user_device *device)
{
	if (syscall(SYS_io_setup, 1, &device->signals))
		device->signals = 0;
}

void vhost_user_signals_destroy(struct vhost_user_device *device)
{
	if (device->signals)
		syscall(SYS_io_destroy, device->signals);
	device->signals = 0;
}
