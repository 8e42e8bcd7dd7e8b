/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Threads that run devices' event loops: those that --iothread names, for several devices to share,
 * and those that devices get by themselves.
 */
#include "iothread.h"

#include <ctype.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "thread.h"

#define NAME_SIZE 80
#define GIVEN_NAME_MAX 15 /* of --iothread: what ps and top show of a thread's name */
#define POLL_MAX_NS 32000

/* @given: by --iothread, so that error messages may list it */
struct iothread {
	char name[NAME_SIZE];
	bool given;
	bool running;
	struct event_loop *loop;
};

struct iothreads {
	struct logger *log;
	pthread_mutex_t lock;
	bool started;
	unsigned int count;
	struct iothread *threads[IOTHREADS_MAX];
};

static void thread_free(struct iothread *thread)
{
	event_loop_destroy(thread->loop);
	free(thread);
}

struct iothreads *iothreads_create(struct logger *log)
{
	struct iothreads *set = calloc(1, sizeof(*set));

	if (!set)
		return NULL;
	set->log = log;
	pthread_mutex_init(&set->lock, NULL);
	return set;
}

void iothreads_destroy(struct iothreads *set)
{
	if (!set)
		return;
	iothreads_stop(set);
	for (unsigned int i = 0; i < set->count; i++)
		thread_free(set->threads[i]);
	pthread_mutex_destroy(&set->lock);
	free(set);
}

/* ---- One thread; set->lock held ---- */

static struct iothread *find(const struct iothreads *set, const char *name)
{
	for (unsigned int i = 0; i < set->count; i++)
		if (!strcmp(set->threads[i]->name, name))
			return set->threads[i];
	return NULL;
}

static int start(struct iothread *thread)
{
	int error = event_loop_start_thread(thread->loop);

	thread->running = !error;
	return error;
}

static int add(struct iothreads *set, const char *name, const cpu_set_t *cpus, bool given)
{
	struct iothread *thread;
	int error = 0;

	if (set->count == IOTHREADS_MAX)
		return -ENOSPC;
	thread = calloc(1, sizeof(*thread));
	if (!thread)
		return -ENOMEM;
	snprintf(thread->name, sizeof(thread->name), "%s", name);
	thread->given = given;
	thread->loop = event_loop_create(thread->name);
	if (!thread->loop)
		error = -errno;
	if (!error) {
		event_loop_set_cpus(thread->loop, cpus);
		/* On one CPU, who would make the work cannot while we look for it. */
		event_loop_set_poll(thread->loop, cpus_available() > 1 ? POLL_MAX_NS : 0);
	}
	if (!error && set->started)
		error = start(thread);
	if (error) {
		thread_free(thread);
		return error;
	}
	set->threads[set->count++] = thread;
	return 0;
}

/* ---- NAME[,cpus=LIST] ---- */

static bool name_valid(const char *name, size_t len)
{
	if (!len || len > GIVEN_NAME_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)name[i]) && !strchr("-_.", name[i]))
			return false;
	return true;
}

/* A CPU number at *@text, which moves behind it; -1: there is none. */
static int cpu_parse(const char **text)
{
	char *end;
	unsigned long cpu;

	if (!isdigit((unsigned char)**text))
		return -1;
	cpu = strtoul(*text, &end, 10);
	*text = end;
	return cpu < CPU_SETSIZE ? (int)cpu : -1;
}

/* "0", "2-3": one part of a list. */
static bool cpu_range_parse(const char **text, cpu_set_t *cpus)
{
	int first = cpu_parse(text), last = first;

	if (first >= 0 && **text == '-') {
		(*text)++;
		last = cpu_parse(text);
	}
	if (first < 0 || last < first)
		return false;
	for (int cpu = first; cpu <= last; cpu++)
		CPU_SET(cpu, cpus);
	return true;
}

static bool cpus_parse(const char *text, cpu_set_t *cpus)
{
	CPU_ZERO(cpus);
	while (cpu_range_parse(&text, cpus)) {
		if (!*text)
			return true;
		if (*text++ != '+')
			return false;
	}
	return false;
}

static int cpus_check(struct iothreads *set, const char *spec, const char *text, cpu_set_t *cpus)
{
	cpu_set_t ours, both;

	if (!cpus_parse(text, cpus)) {
		log_error(set->log,
			  "--iothread %s: cpus=%s: not a list of CPU numbers (for example 0+2-3)",
			  spec, text);
		return -EINVAL;
	}
	if (sched_getaffinity(0, sizeof(ours), &ours))
		return 0;
	CPU_AND(&both, &ours, cpus);
	if (CPU_EQUAL(&both, cpus))
		return 0;
	log_error(set->log,
		  "--iothread %s: cpus=%s: tenon may not run on all of them (see "
		  "Cpus_allowed_list in /proc/self/status)",
		  spec, text);
	return -EINVAL;
}

/* 1: there is a cpus= and it is good. */
static int options_parse(struct iothreads *set, const char *spec, const char *options,
			 cpu_set_t *cpus)
{
	static const char key[] = "cpus=";
	int error;

	if (!*options)
		return 0;
	if (strncmp(options, key, strlen(key))) {
		log_error(set->log, "--iothread %s: unknown option %s (there is cpus=LIST)", spec,
			  options);
		return -EINVAL;
	}
	error = cpus_check(set, spec, options + strlen(key), cpus);
	return error ? error : 1;
}

static int spec_add(struct iothreads *set, const char *spec, const char *name,
		    const cpu_set_t *cpus)
{
	int error;

	if (find(set, name)) {
		log_error(set->log, "--iothread %s: there is a thread of this name already", spec);
		return -EEXIST;
	}
	error = add(set, name, cpus, true);
	if (error == -ENOSPC)
		log_error(set->log, "--iothread %s: %d threads at most", spec, IOTHREADS_MAX);
	else if (error)
		log_error(set->log, "--iothread %s: %s", spec, strerror(-error));
	return error;
}

int iothreads_add(struct iothreads *set, const char *spec)
{
	size_t len = strcspn(spec, ",");
	char name[GIVEN_NAME_MAX + 1];
	cpu_set_t cpus;
	int error;

	if (!name_valid(spec, len)) {
		log_error(set->log,
			  "--iothread %s: not a name: 1 to %d letters, digits, \"-\", \"_\", "
			  "\".\" (NAME or NAME,cpus=LIST)",
			  spec, GIVEN_NAME_MAX);
		return -EINVAL;
	}
	snprintf(name, sizeof(name), "%.*s", (int)len, spec);
	error = options_parse(set, spec, spec[len] ? spec + len + 1 : "", &cpus);
	if (error < 0)
		return error;
	pthread_mutex_lock(&set->lock);
	error = spec_add(set, spec, name, error ? &cpus : NULL);
	pthread_mutex_unlock(&set->lock);
	return error;
}

/* ---- Use ---- */

struct event_loop *iothread_loop(struct iothreads *set, const char *name, bool create)
{
	struct iothread *thread;
	int error = -ENOENT;

	pthread_mutex_lock(&set->lock);
	thread = find(set, name);
	if (!thread && create) {
		error = add(set, name, NULL, false);
		thread = find(set, name);
	}
	pthread_mutex_unlock(&set->lock);
	if (!thread)
		errno = -error;
	return thread ? thread->loop : NULL;
}

const char *iothreads_names(struct iothreads *set, char *text, size_t size)
{
	size_t used = 0;

	snprintf(text, size, "--iothread NAME makes one");
	if (!set)
		return text;
	pthread_mutex_lock(&set->lock);
	for (unsigned int i = 0; i < set->count && used < size; i++)
		if (set->threads[i]->given)
			used += (size_t)snprintf(
				text + used, size - used, "%s%s",
				used ? ", " : "there are: ", set->threads[i]->name);
	pthread_mutex_unlock(&set->lock);
	return text;
}

int iothreads_start(struct iothreads *set)
{
	int error = 0;

	pthread_mutex_lock(&set->lock);
	set->started = true;
	for (unsigned int i = 0; !error && i < set->count; i++) {
		struct iothread *thread = set->threads[i];

		if (thread->running)
			continue;
		error = start(thread);
		if (error)
			log_error(set->log, "iothread %s: cannot start it: %s", thread->name,
				  strerror(-error));
	}
	pthread_mutex_unlock(&set->lock);
	return error;
}

/* Not under the lock: what runs in a thread may ask for a loop. */
void iothreads_stop(struct iothreads *set)
{
	pthread_mutex_lock(&set->lock);
	set->started = false;
	pthread_mutex_unlock(&set->lock);
	for (unsigned int i = 0; i < set->count; i++) {
		event_loop_stop_thread(set->threads[i]->loop);
		set->threads[i]->running = false;
	}
}
