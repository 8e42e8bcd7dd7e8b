/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * char_kind.h: between char_backend.c, which moves the bytes, and the kinds of back end, which know
 * where the file descriptors come from and what it means when they end. Not for users of a stream.
 */
#ifndef TENON_CHAR_KIND_H
#define TENON_CHAR_KIND_H

#include "char_backend.h"

#define CHAR_BUFFER_SIZE CHAR_INPUT_MAX

enum char_argument { CHAR_ARGUMENT_NONE, CHAR_ARGUMENT_OPTIONAL, CHAR_ARGUMENT_REQUIRED };

/**
 * struct char_kind - a kind of back end: one file each. All run with the stream's lock held.
 * @name: what a spec begins with
 * @argument: whether ":..." may or must follow; @form: how that looks, for messages
 * @size: of the kind's struct, whose first member is a struct char_backend
 * @peer_leaves: that nobody reads any more is normal here and not worth a message
 * @open: 0, or -errno after one log line and having undone everything
 * @close: the events are gone already
 * @input_ended: end of file or an error (@error, else 0) on reading; must end or replace the input
 * @hung_up: the peer left, but what it sent last must wait until there is room; NULL: nothing to do
 * @terminal_size: as char_size(), or NULL
 */
struct char_kind {
	const char *name;
	enum char_argument argument;
	const char *form;
	size_t size;
	bool peer_leaves;
	int (*open)(struct char_backend *chr, const char *argument);
	void (*close)(struct char_backend *chr);
	void (*input_ended)(struct char_backend *chr, int error);
	void (*hung_up)(struct char_backend *chr);
	bool (*terminal_size)(const struct char_backend *chr, uint16_t *columns, uint16_t *rows);
};

/**
 * struct char_port - one direction of a stream.
 * @fd: the kind's, -1: none
 * @events: what @source waits for; it exists only while that is not 0, because epoll reports a
 *          hang-up even to who asks for nothing
 * @timer: stands in for @source where the file is always ready and epoll refuses it
 */
struct char_port {
	int fd;
	uint32_t events;
	struct event_source *source;
	struct event_source *timer;
};

/**
 * struct char_backend - what every kind has; first member of its struct.
 * @connected: what char_connected() says
 * @output_dead: the peer left, nobody will ever read from @output.fd again: drop what is written
 * @output_failed: the last write did, and the user was told
 * @hung_up: the kind was told so, and no more need be heard of it
 * @filter: as char_set_filter() said, or NULL
 * @stuck: with a filter, the user has taken nothing of a full buffer for STUCK_NS: only the filter
 *         sees what comes; @stuck_timer runs since @full
 * @want_write: the user waits for writable()
 * @refused: receive() did not take all: no more until char_accept_input()
 * @buffer: @len bytes received and not yet taken, from @head on
 */
struct char_backend {
	const struct char_kind *kind;
	struct logger *log;
	char *what;
	struct event_loop *loop;
	pthread_mutex_t *lock;
	const struct char_backend_ops *ops;
	void *arg;

	struct char_port input, output;
	bool connected;
	bool output_dead;
	bool output_failed;
	bool hung_up;
	size_t (*filter)(struct char_backend *chr, uint8_t *data, size_t len);
	struct event_source *stuck_timer;
	bool full, stuck;
	bool want_write;
	bool refused;
	bool delivering;
	size_t head, len;
	uint8_t buffer[CHAR_BUFFER_SIZE];
};

/** char_attach() - bytes come from @input and go to @output from now on (-1: none; may be equal). */
void char_attach(struct char_backend *chr, int input, int output);

/** char_detach() - nobody is there any more; the descriptors are the kind's to close. */
void char_detach(struct char_backend *chr);

/**
 * char_set_filter() - from open(): @filter looks at what comes in before the user does, and returns how
 * many bytes are left in @data. If the user takes no more, it still sees them, and then they are lost:
 * for a person who wants to leave. 0 or -errno.
 */
int char_set_filter(struct char_backend *chr,
		    size_t (*filter)(struct char_backend *chr, uint8_t *data,
				     size_t len)) __must_check;

/** char_end_input() - there will be no more input, output goes on. */
void char_end_input(struct char_backend *chr);

/** char_set_connected() - and tell the user. */
void char_set_connected(struct char_backend *chr, bool connected);

/** char_window_size() - the size of the terminal @fd; false if it has none. */
bool char_window_size(int fd, uint16_t *columns, uint16_t *rows);

extern const struct char_kind char_stdio, char_pty, char_tty, char_file, char_socket, char_server,
	char_null;

#endif
