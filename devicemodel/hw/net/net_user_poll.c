/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libslirp's descriptors in an epoll. It names all of them before each sleep; what changed since the
 * last time is what the kernel is told.
 */
#ifdef HAVE_SLIRP

#include "net_user_poll.h"

#include <errno.h>
#include <slirp/libslirp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

/*
 * A descriptor. @open: libslirp has it, whether it names it or not; @revents: what it is ready for;
 * @round: the last one in which it was named
 */
struct user_fd {
	bool open, watched;
	uint32_t events;
	int revents;
	uint64_t round;
};

/* libslirp's names for events, and epoll's. */
static const struct {
	int slirp;
	uint32_t epoll;
} event_names[] = {
	{ SLIRP_POLL_IN, EPOLLIN },   { SLIRP_POLL_OUT, EPOLLOUT }, { SLIRP_POLL_PRI, EPOLLPRI },
	{ SLIRP_POLL_ERR, EPOLLERR }, { SLIRP_POLL_HUP, EPOLLHUP },
};

static uint32_t events_to_epoll(int events)
{
	uint32_t to = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(event_names); i++)
		to |= events & event_names[i].slirp ? event_names[i].epoll : 0;
	return to;
}

static int events_to_slirp(uint32_t events)
{
	int to = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(event_names); i++)
		to |= events & event_names[i].epoll ? event_names[i].slirp : 0;
	return to;
}

int user_poll_open(struct user_poll *poll)
{
	poll->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	return poll->epoll_fd < 0 ? -errno : 0;
}

void user_poll_close(struct user_poll *poll)
{
	if (poll->epoll_fd < 0)
		return;
	close(poll->epoll_fd);
	free(poll->fds);
	free(poll->watched);
	*poll = (struct user_poll) { .epoll_fd = -1 };
}

/* Room for descriptor @fd in the tables: as much as there are descriptors. */
static bool poll_grow(struct user_poll *poll, int fd)
{
	size_t room = MAX(poll->room, 64);
	struct user_fd *fds;
	int *watched;

	if ((size_t)fd < poll->room)
		return true;
	while (room <= (size_t)fd)
		room *= 2;
	fds = realloc(poll->fds, room * sizeof(*fds));
	if (!fds)
		return false;
	memset(fds + poll->room, 0, (room - poll->room) * sizeof(*fds));
	poll->fds = fds;
	watched = realloc(poll->watched, room * sizeof(*watched));
	if (!watched)
		return false;
	poll->watched = watched;
	poll->room = room;
	return true;
}

static void poll_watch(struct user_poll *poll, int fd, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.fd = fd };
	struct user_fd *of = &poll->fds[fd];

	if (of->watched && of->events == events)
		return;
	if (epoll_ctl(poll->epoll_fd, of->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) < 0)
		return; /* libslirp names it again before the next sleep */
	if (!of->watched)
		poll->watched[poll->count++] = fd;
	of->watched = true;
	of->events = events;
}

/* The one at @index of those that are watched. */
static void poll_unwatch(struct user_poll *poll, size_t index)
{
	int fd = poll->watched[index];

	epoll_ctl(poll->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	poll->fds[fd] = (struct user_fd) { .open = poll->fds[fd].open };
	poll->watched[index] = poll->watched[--poll->count];
}

bool user_poll_opened(struct user_poll *poll, int fd)
{
	if (fd < 0 || !poll_grow(poll, fd))
		return false;
	poll->open += !poll->fds[fd].open;
	poll->fds[fd].open = true;
	return true;
}

void user_poll_begin(struct user_poll *poll)
{
	poll->round++;
}

int user_poll_add(int fd, int events, void *arg)
{
	struct user_poll *poll = arg;

	if (!user_poll_opened(poll, fd))
		return -1;
	poll_watch(poll, fd, events_to_epoll(events));
	poll->fds[fd].round = poll->round;
	return fd;
}

void user_poll_end(struct user_poll *poll)
{
	for (size_t i = poll->count; i-- > 0;)
		if (poll->fds[poll->watched[i]].round != poll->round)
			poll_unwatch(poll, i);
}

/* Those that there is no room for are ready the next time as well. */
int user_poll_look(struct user_poll *poll)
{
	struct epoll_event events[ARRAY_SIZE(poll->ready)];
	int count = epoll_wait(poll->epoll_fd, events, ARRAY_SIZE(events), 0);

	poll->ready_count = MAX(count, 0);
	for (int i = 0; i < count; i++) {
		poll->ready[i] = events[i].data.fd;
		poll->fds[poll->ready[i]].revents = events_to_slirp(events[i].events);
	}
	return count < 0;
}

int user_poll_revents(int index, void *arg)
{
	const struct user_poll *poll = arg;

	return index >= 0 && (size_t)index < poll->room ? poll->fds[index].revents : 0;
}

void user_poll_forget(struct user_poll *poll)
{
	for (int i = 0; i < poll->ready_count; i++)
		poll->fds[poll->ready[i]].revents = 0;
	poll->ready_count = 0;
}

void user_poll_remove(struct user_poll *poll, int fd)
{
	if (fd < 0 || (size_t)fd >= poll->room)
		return;
	poll->open -= poll->fds[fd].open;
	poll->fds[fd].open = false;
	for (size_t i = 0; i < poll->count; i++) {
		if (poll->watched[i] != fd)
			continue;
		poll_unwatch(poll, i);
		return;
	}
}

#endif
