/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The descriptors that libslirp wants to have polled, as one descriptor: an epoll.
 */
#ifndef TENON_NET_USER_POLL_H
#define TENON_NET_USER_POLL_H

#include "util.h"

struct user_fd;

/*
 * @epoll_fd: ready when one of them is; -1: not open
 * @fds, @room: by descriptor; @watched, @count: those in @epoll_fd
 * @open: so many libslirp has; it does not name those with which it has nothing to do for now
 * @round: of asking libslirp
 * @ready, @ready_count: those that were ready when user_poll_look() looked
 */
struct user_poll {
	int epoll_fd;
	struct user_fd *fds;
	int *watched;
	size_t room, count, open;
	uint64_t round;
	int ready[64];
	int ready_count;
};

/* 0 or -errno. user_poll_close() is harmless while @epoll_fd is -1. */
int user_poll_open(struct user_poll *poll) __must_check;
void user_poll_close(struct user_poll *poll);

/* Around slirp_pollfds_fill() with user_poll_add(): what it does not name is not watched any more. */
void user_poll_begin(struct user_poll *poll);
int user_poll_add(int fd, int events, void *poll);
void user_poll_end(struct user_poll *poll);

/* Around slirp_pollfds_poll() with user_poll_revents(). user_poll_look() is its select_error. */
int user_poll_look(struct user_poll *poll) __must_check;
int user_poll_revents(int index, void *poll);
void user_poll_forget(struct user_poll *poll);

/* libslirp has opened @fd: named or not, it counts until it is removed. False: it is no descriptor. */
bool user_poll_opened(struct user_poll *poll, int fd);

/* @fd was closed, or will be: its number may come again before libslirp is asked. */
void user_poll_remove(struct user_poll *poll, int fd);

#endif
