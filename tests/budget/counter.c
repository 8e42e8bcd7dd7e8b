/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * counter.so, for LD_PRELOAD: counts what a process allocates and which locks it takes. Functions
 * are in front of libc's and call them.
 */
#include "counter.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* glibc's own names of what is covered by ours: dlsym() itself allocates. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *memory);

static struct counters before_start, *counters = &before_start;

static void count(uint64_t *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

__attribute__((constructor)) static void counter_start(void)
{
	const char *path = getenv(COUNTER_VARIABLE);
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *page;

	if (fd < 0)
		return;
	page = mmap(NULL, sizeof(*counters), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (page == MAP_FAILED)
		return;
	counters = page;
	counters->started = 1;
}

/* ---- Allocations ---- */

void *malloc(size_t size)
{
	count(&counters->allocations);
	return __libc_malloc(size);
}

void *calloc(size_t number, size_t size)
{
	count(&counters->allocations);
	return __libc_calloc(number, size);
}

void *realloc(void *old, size_t size)
{
	count(&counters->allocations);
	return __libc_realloc(old, size);
}

void free(void *memory)
{
	if (memory)
		count(&counters->allocations);
	__libc_free(memory);
}

void *memalign(size_t alignment, size_t size)
{
	count(&counters->allocations);
	return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
	return memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size)
{
	*memory = memalign(alignment, size);
	return *memory ? 0 : 12; /* ENOMEM */
}

/* ---- Locks ---- */

/* What the next library has under @name; looked up once. */
static void *next(void **found, const char *name)
{
	void *function = __atomic_load_n(found, __ATOMIC_RELAXED);

	if (!function) {
		function = dlsym(RTLD_NEXT, name);
		__atomic_store_n(found, function, __ATOMIC_RELAXED);
	}
	return function;
}

#define LOCK_FUNCTION(name, parameters, arguments)                                                 \
	int name parameters                                                                        \
	{                                                                                          \
		static void *found;                                                                \
		int(*function) parameters = next(&found, #name);                                   \
                                                                                                   \
		count(&counters->locks);                                                           \
		return function arguments;                                                         \
	}

LOCK_FUNCTION(pthread_mutex_lock, (pthread_mutex_t * lock), (lock))
LOCK_FUNCTION(pthread_mutex_trylock, (pthread_mutex_t * lock), (lock))
LOCK_FUNCTION(pthread_rwlock_rdlock, (pthread_rwlock_t * lock), (lock))
LOCK_FUNCTION(pthread_rwlock_wrlock, (pthread_rwlock_t * lock), (lock))
LOCK_FUNCTION(pthread_spin_lock, (pthread_spinlock_t * lock), (lock))
LOCK_FUNCTION(pthread_cond_wait, (pthread_cond_t * condition, pthread_mutex_t *lock),
	      (condition, lock))
LOCK_FUNCTION(pthread_cond_timedwait,
	      (pthread_cond_t * condition, pthread_mutex_t *lock, const struct timespec *time),
	      (condition, lock, time))
