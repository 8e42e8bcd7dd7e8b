/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tenon control: one command for the control socket of a running VM.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "commands.h"
#include "logger.h"
#include "unix_socket.h"

#define STATUS_REFUSED 1
#define STATUS_BAD_ARGUMENTS 2
#define COMMAND_MAX 1024
#define PATIENCE_S 30
#define CONNECT_TRIES 100
#define CONNECT_AGAIN_US 20000

static const char control_help[] =
	"usage: tenon control PATH COMMAND...\n"
	"\n"
	"Send COMMAND to the VM that was started with --control PATH and print its answer. "
	"\"help\"\n"
	"lists the commands. Its status: 0 done, 1 refused, or the VM ended meanwhile, 2 bad\n"
	"arguments, or no VM listens at PATH.\n";

static int bad_arguments(struct logger *log, const char *text)
{
	log_error(log, "%s (tenon control --help)", text);
	return STATUS_BAD_ARGUMENTS;
}

/* The words of @argv as a line in @command, or its error status. */
static int join(struct logger *log, int argc, char **argv, char *command, size_t size)
{
	size_t used = 0;

	for (int i = 0; i < argc; i++) {
		size_t len = strlen(argv[i]);

		if (strchr(argv[i], '\n'))
			return bad_arguments(log, "control: a command is one line");
		if (len + 2 > size - used)
			return bad_arguments(log, "control: the command is too long");
		memcpy(command + used, argv[i], len);
		used += len;
		command[used++] = i < argc - 1 ? ' ' : '\n';
	}
	command[used] = '\0';
	return 0;
}

/* A blocking connection. Others may be in the listen queue before us: a little patience. */
static int control_connect(const char *path)
{
	const struct timeval patience = { .tv_sec = PATIENCE_S };
	int fd = -EAGAIN;

	for (int i = 0; i < CONNECT_TRIES && fd == -EAGAIN; i++) {
		if (i)
			usleep(CONNECT_AGAIN_US);
		fd = unix_socket_connect(path);
	}
	if (fd < 0)
		return fd;
	if (fcntl(fd, F_SETFL, 0) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0) {
		int error = -errno;

		close(fd);
		return error;
	}
	return fd;
}

/* Print what comes up to "ok" or "error: ...". */
static int print_answer(struct logger *log, FILE *from)
{
	char *line = NULL;
	size_t size = 0;
	int status = -1;

	while (status < 0 && (errno = 0, getline(&line, &size, from)) >= 0) {
		line[strcspn(line, "\n")] = '\0';
		if (!strcmp(line, "ok")) {
			status = 0;
		} else if (!strncmp(line, "error: ", 7)) {
			log_error(log, "%s", line + 7);
			status = STATUS_REFUSED;
		} else {
			puts(line);
		}
	}
	free(line);
	if (status >= 0)
		return status;
	if (errno == EAGAIN)
		log_error(log, "control: no answer within %d s", PATIENCE_S);
	else
		log_error(log, "control: the VM closed the connection without an answer");
	return STATUS_REFUSED;
}

static int converse(struct logger *log, int fd, const char *command)
{
	size_t len = strlen(command);
	FILE *stream;
	int status;

	/* It fits into any socket's buffer. */
	if (send(fd, command, len, MSG_NOSIGNAL) != (ssize_t)len) {
		log_error(log, "control: the VM closed the connection");
		close(fd);
		return STATUS_REFUSED;
	}
	stream = fdopen(fd, "r");
	if (!stream) {
		log_error(log, "control: out of memory");
		close(fd);
		return STATUS_REFUSED;
	}
	status = print_answer(log, stream);
	fclose(stream);
	return status;
}

static int control(struct logger *log, int argc, char **argv)
{
	char command[COMMAND_MAX];
	int status, fd;

	if (argc < 2)
		return bad_arguments(log, "control: no socket given");
	if (argc < 3)
		return bad_arguments(log, "control: no command given");
	status = join(log, argc - 2, argv + 2, command, sizeof(command));
	if (status)
		return status;
	fd = control_connect(argv[1]);
	if (fd >= 0)
		return converse(log, fd, command);
	log_error(log,
		  "control %s: cannot connect: %s (is it what a running VM's --control names?)",
		  argv[1], strerror(-fd));
	return STATUS_BAD_ARGUMENTS;
}

int cmd_control(int argc, char **argv)
{
	struct logger log;
	int status;

	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		fputs(control_help, stdout);
		return 0;
	}
	logger_init(&log, "tenon");
	status = control(&log, argc, argv);
	logger_deinit(&log);
	return status;
}
