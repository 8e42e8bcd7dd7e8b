/* SPDX-License-Identifier: BSD-3-Clause */
/* The control socket: what its clients are answered, and what they cannot do to the VM. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "captured_log.h"
#include "control.h"
#include "hv_inproc.h"
#include "pci_core.h"
#include "unix_socket.h"

#define CLIENTS_MAX 16
#define ANSWER_MAX 65536

/* ---- A device whose data plane can go to the kernel, in name ---- */

struct offload_calls {
	unsigned int count;
	bool on;
	int error; /* to answer with */
	bool locked; /* the device's lock was held each time */
};

static struct offload_calls offload_calls;

static bool offload_kind(unsigned int index, struct pci_kind *kind)
{
	*kind = (struct pci_kind) { .name = "test-offload", .summary = "for test_control.c" };
	return !index;
}

static int offload_init(struct vmctx *ctx, struct pci_vdev *dev, const char *opts)
{
	return 0;
}

static int offload_switch(struct pci_vdev *dev, bool on)
{
	offload_calls.count++;
	offload_calls.locked = offload_calls.locked && pthread_mutex_trylock(&dev->lock) == EBUSY;
	if (!offload_calls.error)
		offload_calls.on = on;
	return offload_calls.error;
}

static int offload_state(struct pci_vdev *dev)
{
	return offload_calls.on;
}

static const struct pci_vdev_ops offload_ops = {
	.kind = offload_kind,
	.vdev_init = offload_init,
	.vdev_offload = offload_switch,
	.vdev_offloaded = offload_state,
};
PCI_DEVICE_TYPE(offload_ops);

/* ---- A VM with a control socket, and its clients ---- */

struct fixture {
	struct captured_log log;
	struct vmctx *ctx;
	char folder[32], path[64];
	char answer[ANSWER_MAX + 1];
	char bus[256]; /* what "devices" says of the machine's own, and "ok" */
};

/* The machine's own devices as the control socket shows them, then @more and "ok". */
static void expect_devices(struct fixture *f, const char *more)
{
	size_t used = 0;

	for (struct pci_vdev *dev = NULL; (dev = pci_next_device(f->ctx, dev));)
		if (dev->dev_ops != &offload_ops)
			used += (size_t)snprintf(f->bus + used, sizeof(f->bus) - used,
						 "%02x:%02x.%x %.*s\n", dev->bus, dev->slot,
						 dev->func, (int)strcspn(dev->name, "@"),
						 dev->name);
	snprintf(f->bus + used, sizeof(f->bus) - used, "%sok\n", more);
	assert_non_null(strstr(f->bus, "00:00.0 hostbridge\n"));
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct vm_config config = { .name = "myvm", .memory_size = MIB(16), .cpu_count = 1 };

	assert_non_null(f);
	captured_log_init(&f->log);
	strcpy(f->folder, "/tmp/control-XXXXXX");
	assert_non_null(mkdtemp(f->folder));
	snprintf(f->path, sizeof(f->path), "%s/socket", f->folder);
	config.control = f->path;
	umask(0);
	f->ctx = vm_create(&f->log.log, &hv_inproc, &config);
	assert_non_null(f->ctx);
	offload_calls = (struct offload_calls) { .locked = true };
	expect_devices(f, "");
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	vm_destroy(f->ctx);
	assert_int_equal(access(f->path, F_OK), -1);
	assert_int_equal(rmdir(f->folder), 0);
	captured_log_deinit(&f->log);
	free(f);
	return 0;
}

static void turn(struct fixture *f)
{
	event_loop_poll(f->ctx->main_loop, 0);
}

static int client(struct fixture *f)
{
	int fd = unix_socket_connect(f->path);

	assert_true(fd >= 0);
	turn(f);
	return fd;
}

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Does @answer end with a line "ok" or "error: ..."? */
static bool answer_complete(const char *answer)
{
	const char *last, *end = answer + strlen(answer);

	if (end == answer || end[-1] != '\n')
		return false;
	for (last = end - 1; last > answer && last[-1] != '\n'; last--)
		;
	return !strcmp(last, "ok\n") || !strncmp(last, "error: ", 7);
}

/* One whole answer, or what there was when the connection ended. */
static const char *hear(struct fixture *f, int fd)
{
	size_t used = 0;

	memset(f->answer, 0, sizeof(f->answer));
	for (int i = 0; i < 2000 && !answer_complete(f->answer); i++) {
		ssize_t len;

		turn(f);
		len = recv(fd, f->answer + used, ANSWER_MAX - used, MSG_DONTWAIT);
		if (len == 0 || (len < 0 && errno != EAGAIN))
			return f->answer;
		if (len > 0)
			used += (size_t)len;
	}
	assert_true(answer_complete(f->answer));
	return f->answer;
}

static const char *ask(struct fixture *f, int fd, const char *command)
{
	say(fd, command);
	say(fd, "\n");
	return hear(f, fd);
}

static bool closed(struct fixture *f, int fd)
{
	char byte;

	for (int i = 0; i < 10; i++)
		turn(f);
	return recv(fd, &byte, 1, MSG_DONTWAIT) == 0 || errno == ECONNRESET;
}

static enum vm_request take_request(struct fixture *f)
{
	enum vm_request request = f->ctx->request;

	f->ctx->request = VM_REQUEST_NONE;
	return request;
}

/* ---- Answers ---- */

static void test_words(void **state)
{
	static const struct {
		const char *command, *answer;
	} rows[] = {
		{ "", "error: no command (help lists them)\n" },
		{ " \t ", "error: no command (help lists them)\n" },
		{ "frob", "error: frob: unknown command (help lists them)\n" },
		{ "ok\x1b[2J", "error: ok?[2J: unknown command (help lists them)\n" },
		{ "Status", "error: Status: unknown command (help lists them)\n" },
		{ "status now", "error: usage: status\n" },
		{ "vhost", "error: usage: vhost on|off DEVICE\n" },
		{ "vhost on", "error: usage: vhost on|off DEVICE\n" },
		{ "vhost on 3 4", "error: usage: vhost on|off DEVICE\n" },
		{ "a b c d e", "error: too many words (help lists the commands)\n" },
		{ "wake", "error: the VM is not suspended\n" },
		{ "devices", NULL },
		{ "\tdevices  \r", NULL },
	};
	struct fixture *f = *state;
	int fd = client(f);

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_string_equal(ask(f, fd, rows[i].command),
				    rows[i].answer ? rows[i].answer : f->bus);
	close(fd);
}

static void test_help(void **state)
{
	static const char *const names[] = { "help",	"status",
					     "devices", "vhost on|off DEVICE",
					     "wake",	"power-button",
					     "reset",	"kill" };
	struct fixture *f = *state;
	int fd = client(f);

	ask(f, fd, "help");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_non_null(strstr(f->answer, names[i]));
	assert_non_null(strstr(f->answer, "\nok\n"));
	close(fd);
}

static void test_status(void **state)
{
	struct fixture *f = *state;
	int fd = client(f);
	char state_text[16];
	unsigned int seconds, ms;

	ask(f, fd, "status");
	assert_int_equal(sscanf(f->answer,
				"name myvm\nstate %15s\nuptime %u.%3u\nhv inproc\ncpus 1\n"
				"memory 16\nok\n",
				state_text, &seconds, &ms),
			 3);
	assert_string_equal(state_text, "running");
	assert_in_range(seconds, 0, 600);
	f->ctx->suspended = true;
	ask(f, fd, "status");
	assert_non_null(strstr(f->answer, "\nstate suspended\n"));
	f->ctx->suspended = false;
	close(fd);
}

static void test_requests(void **state)
{
	struct fixture *f = *state;
	int fd = client(f);

	/* The request is carried out by the same loop: look at it before that happens. */
	f->ctx->suspended = true;
	assert_int_equal(event_set_events(f->ctx->request_source, 0), 0);
	assert_string_equal(ask(f, fd, "reset"), "ok\n");
	assert_int_equal(take_request(f), VM_REQUEST_RESET);
	assert_string_equal(ask(f, fd, "wake"), "ok\n");
	assert_int_equal(take_request(f), VM_REQUEST_WAKE);
	assert_string_equal(ask(f, fd, "wake"), "ok\n");
	assert_string_equal(ask(f, fd, "reset"), "ok\n");
	assert_int_equal(take_request(f), VM_REQUEST_RESET);
	f->ctx->suspended = false;
	assert_int_equal(event_set_events(f->ctx->request_source, EPOLLIN), 0);

	assert_string_equal(ask(f, fd, "power-button"), "ok\n");
	assert_int_equal(f->ctx->stop_signals, 1);
	assert_int_equal(f->ctx->end, VM_END_POWEROFF);
	assert_string_equal(ask(f, fd, "power-button"), "ok\n");
	assert_int_equal(f->ctx->end, VM_END_KILLED);
	close(fd);
}

static void test_kill(void **state)
{
	struct fixture *f = *state;
	int fd = client(f);

	assert_string_equal(ask(f, fd, "kill"), "ok\n");
	assert_int_equal(f->ctx->end, VM_END_KILLED);
	/* The loop was told to stop: this returns. */
	event_loop_run(f->ctx->main_loop);
	close(fd);
}

/* ---- vhost ---- */

static void test_vhost(void **state)
{
	static const char *const names[] = { "3", "00:03.0", "test-offload",
					     "test-offload@00:03.0" };
	struct fixture *f = *state;
	int fd = client(f);
	char command[64];

	assert_non_null(pci_add_device(f->ctx, "3,test-offload"));
	expect_devices(f, "00:03.0 test-offload vhost=off\n");
	assert_string_equal(ask(f, fd, "devices"), f->bus);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(command, sizeof(command), "vhost on %s", names[i]);
		assert_string_equal(ask(f, fd, command), "ok\n");
		assert_true(offload_calls.on);
		snprintf(command, sizeof(command), "vhost off %s", names[i]);
		assert_string_equal(ask(f, fd, command), "ok\n");
		assert_false(offload_calls.on);
	}
	assert_int_equal(offload_calls.count, 8);
	assert_true(offload_calls.locked);
	ask(f, fd, "vhost on 3");
	ask(f, fd, "devices");
	assert_non_null(strstr(f->answer, "00:03.0 test-offload vhost=on\n"));
	/* A kind that the kernel cannot run. */
	assert_non_null(pci_add_device(f->ctx, "4,virtio-rng"));
	ask(f, fd, "devices");
	assert_non_null(strstr(f->answer, "00:04.0 virtio-rng\n"));
	close(fd);
}

static void test_vhost_refused(void **state)
{
	struct fixture *f = *state;
	int fd = client(f);

	assert_non_null(pci_add_device(f->ctx, "3,test-offload"));
	assert_non_null(pci_add_device(f->ctx, "3:1,test-offload"));
	assert_string_equal(ask(f, fd, "vhost on 4"),
			    "error: 4: no such device (devices lists them)\n");
	assert_string_equal(ask(f, fd, "vhost on test"),
			    "error: test: no such device (devices lists them)\n");
	assert_string_equal(ask(f, fd, "vhost on test-offload"),
			    "error: test-offload: there are several, give its place (devices)\n");
	assert_string_equal(ask(f, fd, "vhost maybe 3"), "error: maybe: neither on nor off\n");
	assert_string_equal(ask(f, fd, "vhost on 0"),
			    "error: hostbridge@00:00.0: cannot be offloaded\n");
	assert_int_equal(offload_calls.count, 0);
	assert_string_equal(ask(f, fd, "vhost on 00:03.1"), "ok\n");
	offload_calls.error = -EOPNOTSUPP;
	assert_string_equal(ask(f, fd, "vhost off 3"),
			    "error: test-offload@00:03.0: cannot be offloaded\n");
	offload_calls.error = -EACCES;
	assert_string_equal(
		ask(f, fd, "vhost off 3"),
		"error: test-offload@00:03.0: vhost off: Permission denied (see tenon's "
		"messages)\n");
	offload_calls.count = 0;
	f->ctx->suspended = true;
	assert_string_equal(ask(f, fd, "vhost on 3"),
			    "error: the VM is suspended, wake it first\n");
	assert_int_equal(offload_calls.count, 0);
	f->ctx->suspended = false;
	close(fd);
}

/* ---- Connections ---- */

static void test_pieces(void **state)
{
	static const char text[] = "devices\nfrob\nstatus\n";
	struct fixture *f = *state;
	int fd = client(f);

	for (const char *byte = text; *byte; byte++) {
		assert_int_equal(send(fd, byte, 1, MSG_NOSIGNAL), 1);
		turn(f);
	}
	hear(f, fd);
	assert_string_equal(f->answer + strlen(f->answer) - 3, "ok\n");
	assert_non_null(strstr(f->answer, "\nok\nerror: frob"));
	assert_memory_equal(f->answer, f->bus, strlen(f->bus));
	close(fd);
}

static void test_long_lines(void **state)
{
	struct fixture *f = *state;
	int fd = client(f);
	char line[5001];

	memset(line, 'x', sizeof(line));
	line[1023] = '\0';
	ask(f, fd, line);
	assert_non_null(strstr(f->answer, "unknown command"));
	for (size_t len = 1024; len <= 5000; len += 497) {
		memset(line, 'x', sizeof(line));
		line[len] = '\0';
		assert_string_equal(ask(f, fd, line), "error: a line has at most 1023 bytes\n");
		assert_string_equal(ask(f, fd, "devices"), f->bus);
	}
	assert_int_equal(send(fd, "status\0x\n", 9, MSG_NOSIGNAL), 9);
	assert_string_equal(hear(f, fd), "error: there is a NUL in the line\n");
	close(fd);
}

/* Who ends his side still gets his answers; a line without its end is no command. */
static void test_half_closed(void **state)
{
	struct fixture *f = *state;
	int fd = client(f);

	say(fd, "devices\nkill");
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	assert_string_equal(hear(f, fd), f->bus);
	assert_true(closed(f, fd));
	assert_int_equal(f->ctx->end, VM_END_POWEROFF);
	close(fd);
}

static void test_vanishing(void **state)
{
	struct fixture *f = *state;
	int fd;

	for (int i = 0; i < 100; i++) {
		fd = client(f);
		if (i % 3)
			say(fd, i % 2 ? "status\nstatus\n" : "sta");
		if (i % 5 == 0)
			turn(f);
		close(fd);
		turn(f);
	}
	fd = client(f);
	assert_string_equal(ask(f, fd, "devices"), f->bus);
	close(fd);
}

static void test_several(void **state)
{
	struct fixture *f = *state;
	int fds[CLIENTS_MAX], more;

	for (int i = 0; i < CLIENTS_MAX; i++)
		fds[i] = client(f);
	for (int i = CLIENTS_MAX - 1; i >= 0; i--)
		assert_string_equal(ask(f, fds[i], "devices"), f->bus);
	more = client(f);
	assert_string_equal(hear(f, more), "error: too many connections\n");
	assert_true(closed(f, more));
	close(more);
	close(fds[3]);
	turn(f);
	fds[3] = client(f);
	assert_string_equal(ask(f, fds[3], "devices"), f->bus);
	for (int i = 0; i < CLIENTS_MAX; i++)
		close(fds[i]);
}

/* A client that does not read is dropped before it costs anything. */
static void test_not_reading(void **state)
{
	struct fixture *f = *state;
	int fd = client(f), other = client(f);
	bool gone = false;

	for (int i = 0; i < 100000 && !gone; i++) {
		ssize_t len = send(fd, "help\nhelp\nhelp\n", 15, MSG_NOSIGNAL | MSG_DONTWAIT);

		gone = len < 0 && (errno == EPIPE || errno == ECONNRESET);
		turn(f);
	}
	assert_true(gone);
	assert_string_equal(ask(f, other, "devices"), f->bus);
	close(fd);
	close(other);
}

/* The longest answer that there can be arrives whole, also when it does not fit into the socket. */
static void test_long_answer(void **state)
{
	struct fixture *f = *state;
	int fd = client(f), small = 4096;
	unsigned int lines = 0, expected = 1; /* "ok" */
	char spec[32];

	for (int i = 8; i < 256; i++) {
		snprintf(spec, sizeof(spec), "%d:%d,test-offload", i / 8, i % 8);
		assert_non_null(pci_add_device(f->ctx, spec));
	}
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
	ask(f, fd, "devices");
	for (const char *at = f->answer; (at = strchr(at, '\n')); at++)
		lines++;
	for (struct pci_vdev *dev = NULL; (dev = pci_next_device(f->ctx, dev));)
		expected++;
	assert_true(expected >= 250);
	assert_int_equal(lines, expected);
	close(fd);
}

/* ---- The socket ---- */

static void test_socket_file(void **state)
{
	struct fixture *f = *state;
	struct vm_config config = f->ctx->config;
	struct stat stat;

	assert_int_equal(lstat(f->path, &stat), 0);
	assert_true(S_ISSOCK(stat.st_mode));
	assert_int_equal(stat.st_mode & 0777, 0600);

	/* Another VM does not get it, and does not take it away. */
	assert_null(vm_create(&f->log.log, &hv_inproc, &config));
	assert_non_null(strstr(f->log.lines[f->log.count - 1], "another process listens"));
	assert_non_null(strstr(f->log.lines[f->log.count - 1], "--control /tmp/"));
	assert_int_equal(f->log.count, 1);
	assert_int_equal(access(f->path, F_OK), 0);
}

static void test_bad_paths(void **state)
{
	struct fixture *f = *state;
	struct vm_config config = f->ctx->config;
	char file[64], too_long[200];
	int fd;

	snprintf(file, sizeof(file), "%s/file", f->folder);
	fd = open(file, O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	close(fd);
	config.control = file;
	assert_null(vm_create(&f->log.log, &hv_inproc, &config));
	assert_non_null(strstr(f->log.lines[0], "not a socket"));
	assert_int_equal(unlink(file), 0);

	config.control = "/nowhere/socket";
	assert_null(vm_create(&f->log.log, &hv_inproc, &config));
	assert_non_null(strstr(f->log.lines[1], "directory does not exist"));

	memset(too_long, 'x', sizeof(too_long));
	too_long[sizeof(too_long) - 1] = '\0';
	config.control = too_long;
	assert_null(vm_create(&f->log.log, &hv_inproc, &config));
	assert_non_null(strstr(f->log.lines[2], "too long"));
	assert_int_equal(f->log.count, 3);
}

/* What a killed tenon left behind is replaced; without --control there is nothing. */
static void test_stale(void **state)
{
	struct fixture *f = *state;
	struct vm_config config = f->ctx->config;
	char path[64];
	struct unix_socket stale;
	struct vmctx *other;

	snprintf(path, sizeof(path), "%s/stale", f->folder);
	assert_int_equal(unix_socket_listen(&f->log.log, "test", path, &stale), 0);
	close(stale.fd);
	config.control = path;
	other = vm_create(&f->log.log, &hv_inproc, &config);
	assert_non_null(other);
	vm_destroy(other);
	assert_int_equal(access(path, F_OK), -1);

	config.control = NULL;
	other = vm_create(&f->log.log, &hv_inproc, &config);
	assert_non_null(other);
	assert_null(other->control);
	vm_destroy(other);
	assert_int_equal(f->log.count, 0);
}

#define control_test(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		control_test(test_words),	  control_test(test_help),
		control_test(test_status),	  control_test(test_requests),
		control_test(test_kill),	  control_test(test_vhost),
		control_test(test_vhost_refused), control_test(test_pieces),
		control_test(test_long_lines),	  control_test(test_half_closed),
		control_test(test_vanishing),	  control_test(test_several),
		control_test(test_not_reading),	  control_test(test_long_answer),
		control_test(test_socket_file),	  control_test(test_bad_paths),
		control_test(test_stale),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
