/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * char_backend.h: byte streams to the host: terminal, pty, file, Unix socket. Behind UARTs and consoles.
 *
 * Never blocks: what cannot be written now is refused and the user told when to try again.
 */
#ifndef TENON_CHAR_BACKEND_H
#define TENON_CHAR_BACKEND_H

#include "event.h"
#include "log.h"
#include "util.h"

TENON_API_BEGIN

struct char_backend;

#define CHAR_INPUT_MAX 4096

/**
 * struct char_backend_ops - what the user of a stream wants to know; each may be NULL. The lock
 * given to char_open() is held.
 * @receive: @len bytes came in; returns how many were taken; the rest is kept by the back end,
 *           which then reads no more until char_accept_input()
 * @writable: after a short char_write(): there is room again
 * @connected: a peer came or went (a stdio, pty or file is connected from the start; not reported)
 * @resized: the terminal has @columns x @rows now
 */
struct char_backend_ops {
	size_t (*receive)(void *arg, const uint8_t *data, size_t len);
	void (*writable)(void *arg);
	void (*connected)(void *arg, bool connected);
	void (*resized)(void *arg, uint16_t columns, uint16_t rows);
};

/**
 * char_open() - open the back end that @spec names:
 *   "stdio"                  this terminal, raw; restored on close, on exit and on fatal signals that nobody handles.
 *                            Ctrl-a x ends tenon as SIGTERM would; Ctrl-a a sends a Ctrl-a.
 *                            What is typed while 4096 bytes wait for a user who takes none is lost
 *                            A pipe, file or socket in its place is used as it is
 *   "pty" or "pty:LINK"      a new pseudo-terminal, its path logged (and linked at LINK, removed on
 *                            close); while nobody has it open, output is dropped
 *   "tty:PATH"               a terminal of the host (a serial port, somebody's pseudo-terminal), raw;
 *                            restored on close. When it hangs up, that was it
 *   "file:PATH"              output is appended to PATH, no input
 *   "socket:PATH"            Unix stream socket: connect to PATH; "socket:PATH:server" (or "server:PATH")
 *                            listens on it, one peer at a time, removed on close. A socket file that
 *                            nobody listens on any more is replaced
 *   "null"                   swallows output, no input
 * @log: gets one line with thing, cause and remedy on failure
 * @what: for messages ("com1", "virtio-console")
 * @loop, @lock: where events run and what is held around the callbacks. If @loop runs already, call
 *               this with @lock held: callbacks may come at once
 *
 * Terminal sizes need SIGWINCH blocked in all threads (main does so before it starts any). SIGPIPE is
 * ignored from now on, unless somebody handles it.
 * Return: the back end, or NULL with errno. Only one "stdio" may be open at a time (-EBUSY).
 */
struct char_backend *char_open(struct logger *log, const char *what, const char *spec,
			       struct event_loop *loop, pthread_mutex_t *lock,
			       const struct char_backend_ops *ops, void *arg) __must_check;

/** char_close() - close and free; NULL is harmless. Lock held, or no events can run; not from a callback. */
void char_close(struct char_backend *chr);

/**
 * char_write() - write what can be written now; lock held.
 * Return: bytes taken (0..@len); if fewer than @len, writable() is called once there is room. Without
 * a peer, or if the file cannot be written (disk full), everything is taken and dropped.
 */
size_t char_write(struct char_backend *chr, const void *data, size_t len);

/**
 * char_wait_writable() - after a short char_write(), wait until there is room, for @ms at most; true if
 * there is. For the end, when nothing else is to be done; lock held, calls nobody.
 */
bool char_wait_writable(const struct char_backend *chr, int ms);

/** char_accept_input() - receive() can take bytes again; lock held. May call receive() at once. */
void char_accept_input(struct char_backend *chr);

/**
 * char_discard_input() - what came in until now is not for receive(), here or where the host keeps it:
 * up to 1 MiB of it is thrown away. Calls nobody; lock held; not from receive().
 */
void char_discard_input(struct char_backend *chr);

/**
 * char_copy_input() - what came in and receive() did not take, up to @size bytes, which stay; lock
 * held. There are never more than CHAR_INPUT_MAX.
 */
size_t char_copy_input(const struct char_backend *chr, void *to, size_t size);

/**
 * char_restore_input() - @len (at most CHAR_INPUT_MAX) bytes that came in long ago, by another back
 * end, are to be received before all that waits here. Calls nobody; lock held.
 */
void char_restore_input(struct char_backend *chr, const void *data, size_t len);

/** char_connected() - is there somebody at the other end? */
bool char_connected(const struct char_backend *chr);

/** char_size() - terminal size; false if it has none. */
bool char_size(const struct char_backend *chr, uint16_t *columns, uint16_t *rows);

/** char_spec_help() - one line listing the forms of @spec, for option help. */
#define CHAR_SPEC_HELP "stdio, pty[:LINK], tty:PATH, file:PATH, socket:PATH[:server] or null"

TENON_API_END

#endif
