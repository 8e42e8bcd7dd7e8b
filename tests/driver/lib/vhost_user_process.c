/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * `tenon serve` as a child of a test.
 */
#include "vhost_user_client.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_MS 10000
#define STOP_MS 10000
#define SOCKET_ACCEPTS 0x10000 /* __SO_ACCEPTCON in /proc/net/unix */

const char *back_end_program(void)
{
	static char path[4096];
	const char *named = getenv("TENON");
	ssize_t len;

	if (named)
		return named;
	len = readlink("/proc/self/exe", path, sizeof(path) - 16);
	assert_true(len > 0);
	path[len] = '\0';
	for (int i = 0; i < 3; i++) /* BUILD/tests/SUITE/PROGRAM */
		*strrchr(path, '/') = '\0';
	strcat(path, "/tenon");
	return path;
}

void back_end_create(struct back_end *back_end)
{
	memset(back_end, 0, sizeof(*back_end));
	snprintf(back_end->directory, sizeof(back_end->directory), "/tmp/tenon-serve-XXXXXX");
	assert_non_null(mkdtemp(back_end->directory));
	snprintf(back_end->socket, sizeof(back_end->socket), "%s/socket", back_end->directory);
	snprintf(back_end->log, sizeof(back_end->log), "%s/log", back_end->directory);
}

static void run_child(struct back_end *back_end, const char *const *arguments, pid_t parent)
{
	const char *argv[64] = { back_end_program() };
	int log = open(back_end->log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	int input = open("/dev/null", O_RDONLY | O_CLOEXEC);
	unsigned int count = 1;

	while (*arguments && count < ARRAY_SIZE(argv) - 1)
		argv[count++] = *arguments++;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (log < 0 || input < 0 || getppid() != parent)
		_exit(126);
	dup2(input, STDIN_FILENO);
	dup2(log, STDERR_FILENO);
	dup2(log, STDOUT_FILENO);
	execv(argv[0], (char *const *)(uintptr_t)argv);
	_exit(127);
}

static const char *socket_argument(const char *const *arguments)
{
	for (; *arguments; arguments++)
		if (!strcmp(*arguments, "--socket") || !strcmp(*arguments, "--socket-path"))
			return arguments[1];
	return NULL;
}

/* Told by the kernel, so that no connection is needed to find out. */
static bool is_listening(const char *path)
{
	char line[512];
	bool found = false;
	FILE *file = fopen("/proc/net/unix", "re");

	while (file && !found && fgets(line, sizeof(line), file)) {
		char *name = strchr(line, '/');
		unsigned int flags = 0;

		line[strcspn(line, "\n")] = '\0';
		found = name && !strcmp(name, path) &&
			sscanf(line, "%*s %*s %*s %x", &flags) == 1 && flags & SOCKET_ACCEPTS;
	}
	if (file)
		fclose(file);
	return found;
}

static int wait_listening(struct back_end *back_end, const char *path)
{
	for (int i = 0; i < START_MS; i++) {
		if (is_listening(path))
			return 0;
		if (!back_end_alive(back_end))
			return -ECONNREFUSED;
		usleep(1000);
	}
	return -ETIMEDOUT;
}

int back_end_start(struct back_end *back_end, const char *const *arguments)
{
	const char *path = socket_argument(arguments);
	pid_t parent = getpid();

	back_end->pid = fork();
	if (back_end->pid < 0)
		return -errno;
	if (!back_end->pid)
		run_child(back_end, arguments, parent);
	return path ? wait_listening(back_end, path) : 0;
}

void back_end_serve(struct back_end *back_end, const char *spec)
{
	const char *const arguments[] = { "serve", "-s", spec, "--socket", back_end->socket, NULL };
	int error = back_end_start(back_end, arguments);

	if (!error)
		return;
	back_end_log_print(back_end);
	fail_msg("%s serve -s %s: does not serve: %s", back_end_program(), spec, strerror(-error));
}

bool back_end_alive(struct back_end *back_end)
{
	if (!back_end->pid || waitpid(back_end->pid, NULL, WNOHANG) == 0)
		return back_end->pid;
	back_end->pid = 0;
	return false;
}

void back_end_kill(struct back_end *back_end)
{
	if (!back_end->pid)
		return;
	kill(back_end->pid, SIGKILL);
	waitpid(back_end->pid, NULL, 0);
	back_end->pid = 0;
}

int back_end_stop(struct back_end *back_end)
{
	int status = 0;

	if (!back_end->pid)
		return -ESRCH;
	kill(back_end->pid, SIGTERM);
	for (int i = 0; i < STOP_MS; i++) {
		if (waitpid(back_end->pid, &status, WNOHANG) == back_end->pid) {
			back_end->pid = 0;
			return status;
		}
		usleep(1000);
	}
	back_end_kill(back_end);
	return -ETIMEDOUT;
}

static void remove_directory(const char *path)
{
	DIR *directory = opendir(path);
	struct dirent *entry;

	while (directory && (entry = readdir(directory)))
		unlinkat(dirfd(directory), entry->d_name, 0);
	if (directory)
		closedir(directory);
	rmdir(path);
}

void back_end_destroy(struct back_end *back_end)
{
	back_end_kill(back_end);
	if (back_end->directory[0])
		remove_directory(back_end->directory);
	back_end->directory[0] = '\0';
}

unsigned int back_end_fds(const struct back_end *back_end)
{
	unsigned int count = 0;
	struct dirent *entry;
	char path[64];
	DIR *directory;

	snprintf(path, sizeof(path), "/proc/%d/fd", back_end->pid);
	directory = opendir(path);
	while (directory && (entry = readdir(directory)))
		count += entry->d_name[0] != '.';
	if (directory)
		closedir(directory);
	return count;
}

unsigned long back_end_memory_kib(const struct back_end *back_end)
{
	unsigned long kib = 0;
	char path[64], line[256];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", back_end->pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, "VmRSS:", 6))
			kib = strtoul(line + 6, NULL, 10);
	if (file)
		fclose(file);
	return kib;
}

unsigned int back_end_logged(const struct back_end *back_end, const char *text)
{
	unsigned int found = 0;
	char line[1024];
	FILE *file = fopen(back_end->log, "re");

	while (file && fgets(line, sizeof(line), file))
		found += strstr(line, text) != NULL;
	if (file)
		fclose(file);
	return found;
}

void back_end_log_print(const struct back_end *back_end)
{
	char line[1024];
	FILE *file = fopen(back_end->log, "re");

	while (file && fgets(line, sizeof(line), file))
		print_message("tenon: %s", line);
	if (file)
		fclose(file);
}
