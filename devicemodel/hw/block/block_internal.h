/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Between the parts of the block back end: the image (block_image.c), how one request is carried
 * out on it (block_io.c), the engines that do so concurrently (block_threads.c, block_uring.c,
 * block_null.c), requests on their way in and out (block_queue.c), rate limits (block_limit.c),
 * and what holds all that together (block_backend.c).
 */
#ifndef TENON_BLOCK_INTERNAL_H
#define TENON_BLOCK_INTERNAL_H

#include <pthread.h>

#include "block_backend.h"

/* struct block_range - bytes [@start, @end) of an image that somebody is changing. */
struct block_range {
	uint64_t start, end;
	struct block_range *next;
};

/*
 * struct block_image - an open file or block device, or nothing at all.
 * @name: what and path, for messages
 * @fd: -1 for a null disk, of @null_size bytes
 * @in_memory: a file that is nowhere but in memory: reading and writing it does not wait
 * @offset_alignment, @memory_alignment: what O_DIRECT asks of offset and length, and of addresses;
 *                                       powers of two, 1 without O_DIRECT
 * @no_zero_range: the file system cannot FALLOC_FL_ZERO_RANGE; atomic
 * @flush_error: once a flush has failed, all later ones do, with this; atomic
 * @flush_lock: held by block_io() while it flushes
 * @flushes_begun: by block_io(); atomic, written with @flush_lock held
 * @ranges: being written now; only where neighbours may share a block
 */
struct block_image {
	struct logger *log;
	char *name;
	int fd;
	uint64_t null_size;
	bool is_device;
	bool in_memory;
	bool read_only;
	bool direct;
	bool can_discard;
	uint32_t logical_block_size, physical_block_size;
	uint32_t offset_alignment, memory_alignment;

	bool no_zero_range;
	int flush_error;
	pthread_mutex_t flush_lock;
	uint64_t flushes_begun;

	pthread_mutex_t ranges_lock;
	pthread_cond_t ranges_changed;
	struct block_range *ranges;
};

/* block_image_open() - 0, or -errno after one log line; then there is nothing to close. */
int block_image_open(struct block_image *image, struct logger *log, const char *what,
		     const struct block_config *config) __must_check;
void block_image_close(struct block_image *image);

/* block_image_size() - its size now, in whole direct I/O blocks; -errno. Any thread. */
int block_image_size(const struct block_image *image, uint64_t *size) __must_check;

#define BLOCK_SECTOR_SIZE 512 /* the least that a disk's user reads or writes */

/* What a thread needs to carry out requests: scratch memory, aligned for O_DIRECT. */
#define BLOCK_BUFFER_SIZE KIB(256)
#define BLOCK_ALIGNMENT_MAX KIB(64)

/* block_progress() - bytes of @request that are done already; what is left is block_io()'s. */
static inline uint64_t *block_progress(struct block_request *request)
{
	return &request->engine;
}

/*
 * block_io() - carry out what is left of @request in this thread. 0 or -errno.
 * @buffer: BLOCK_BUFFER_SIZE bytes aligned to BLOCK_ALIGNMENT_MAX, not used by anybody else
 */
int block_io(struct block_image *image, void *buffer, struct block_request *request) __must_check;

/*
 * block_io_now() - carry out a READ, WRITE or FLUSH in this thread, if one system call does it.
 * Return: false, and the rest is for block_io(); or true with @error set
 */
bool block_io_now(struct block_image *image, struct block_request *request,
		  int *error) __must_check;

/* block_is_aligned() - may @request go to the file as it is? */
bool block_is_aligned(const struct block_image *image, const struct block_request *request);

/*
 * block_needs_range() - may @request share a block with a neighbour, one of them reading the block,
 * changing a part and writing it back? Then it is for block_io(), which has others wait meanwhile:
 * nobody may whose request is over only when he gets a lock.
 */
bool block_needs_range(const struct block_image *image, const struct block_request *request);

/*
 * block_flushed() - a flush ended with @error, or 0: what is told of it. After an error that is the
 * same for all to come. The kernel tells of an error once for each open file, so an open file is
 * flushed by one at a time.
 */
int block_flushed(struct block_image *image, int error);

/*
 * struct block_engine_ops - something that carries out requests concurrently. All but open and close
 * are called with the queue's lock held.
 * @open: start it; sets block->engine. 0 or -errno after one log line
 * @close: end it; no queue is open
 * @queue_open, @queue_close: set and free queue->engine; 0 or -errno after one log line; may be NULL
 * @start: take over the requests linked from @head, in that order (none waits for another), and
 *         end each once by block_finish() or block_complete()
 * @reap: block_finish() what is over, without a system call; false: nothing was. May be NULL
 * @fd: readable when there is something to reap; -1 or NULL: never
 */
struct block_engine_ops {
	const char *name;
	int (*open)(struct block_backend *block, const struct block_config *config);
	void (*close)(struct block_backend *block);
	int (*queue_open)(struct block_queue *queue);
	void (*queue_close)(struct block_queue *queue);
	void (*start)(struct block_queue *queue, struct block_request *head);
	bool (*reap)(struct block_queue *queue);
	int (*fd)(const struct block_queue *queue);
};

extern const struct block_engine_ops block_null_ops;
extern const struct block_engine_ops block_threads_ops;
extern const struct block_engine_ops block_uring_ops;

/* ---- Rate limits ---- */

/*
 * struct block_bucket - so many tokens a second go in, until it is full; a request takes its own out.
 * @rate: tokens a second; 0: no limit
 * @capacity, @level: in 1/1000000000 of a token, so that a nanosecond's worth is a whole number;
 *                    @level is below 0 while requests wait for what they have taken
 * @time: when @level was worked out
 */
struct block_bucket {
	uint64_t rate;
	__int128 capacity, level;
	uint64_t time;
};

/* struct block_limits - of all queues of an image; @lock is taken only where a limit is set. */
struct block_limits {
	bool set;
	pthread_mutex_t lock;
	struct block_bucket iops, bps;
};

void block_limits_init(struct block_limits *limits, const struct block_config *config,
		       uint64_t now);
void block_limits_deinit(struct block_limits *limits);

/*
 * block_limits_take() - have @request take its tokens at time @now, whether they are there or not.
 * Return: when it may start; a time before or at @now: at once.
 */
uint64_t block_limits_take(struct block_limits *limits, const struct block_request *request,
			   uint64_t now);

/* block_limits_give_back() - @request has taken tokens, and is not done after all. */
void block_limits_give_back(struct block_limits *limits, const struct block_request *request);

/* ---- Back end and queues ---- */

/*
 * struct block_backend - an image, its engine and limits.
 * @pinned: guest memory that engines may hold the pages of, or NULL
 * @size: as the user knows it; requests are checked against it; atomic, written under @lock
 * @watch_fd: inotify, says that somebody may have changed the file's size; -1 without
 * @resize_timer: a queue of another thread has seen that the size changed
 */
struct block_backend {
	struct block_image image;
	const struct block_engine_ops *engine_ops;
	void *engine;
	const struct block_ops *ops;
	void *arg;
	struct event_loop *loop;
	pthread_mutex_t *lock;
	struct guest_memory *pinned;
	uint64_t size;
	struct block_limits limits;
	int watch_fd;
	struct event_source *watch_source;
	struct event_source *resize_timer;
	bool no_polling; /* as in struct block_config */
};

/* block_look_at_size() - has the image's size changed? Its user is told. @queue's lock held. */
void block_look_at_size(struct block_queue *queue);

/* struct block_list - requests, oldest first. */
struct block_list {
	struct block_request *head, **tail;
};

/*
 * struct block_queue - requests on their way in and out.
 * @submitted: wait for block_kick()
 * @waiting: wait for the rate limits, whose tokens the first has taken if @due_set: it may start at
 *           @due, when @timer expires
 * @refused: block_room() said that there is none
 * @finished: over, their done() is to be called in this thread
 * @in_flight: submitted and not done
 * @running: somebody is at it further up the stack
 * @draining: nobody waits for the rate limits any longer
 * @completed: over, pushed by any thread, newest first; atomic
 * @completed_fd: eventfd, signalled when @completed becomes non-empty, unless somebody is @looking
 *                at it all the time anyway; atomic
 * @signalling: threads in block_complete(); atomic
 */
struct block_queue {
	struct block_backend *block;
	struct event_loop *loop;
	pthread_mutex_t *lock;
	unsigned int depth;
	const struct block_queue_ops *ops;
	void *arg;
	void *engine;

	struct block_list submitted, waiting, finished;
	unsigned int in_flight;
	bool running;
	bool draining;
	bool refused;
	bool due_set;
	uint64_t due;
	struct event_source *timer;

	struct event_source *engine_source;
	struct event_source *completed_source;
	struct event_source *poller;
	int completed_fd;

	/* What other threads write has a cache line of its own. */
	struct block_request *completed __attribute__((aligned(64)));
	unsigned int signalling;
	bool looking;
};

static inline void block_list_init(struct block_list *list)
{
	list->head = NULL;
	list->tail = &list->head;
}

static inline void block_list_add(struct block_list *list, struct block_request *request)
{
	request->next = NULL;
	*list->tail = request;
	list->tail = &request->next;
}

/* block_list_pop() - the oldest, NULL if there is none. */
static inline struct block_request *block_list_pop(struct block_list *list)
{
	struct block_request *request = list->head;

	if (request)
		list->head = request->next;
	if (!list->head)
		block_list_init(list);
	return request;
}

/* block_list_append() - put the requests linked from @head behind the others. How many they are. */
static inline unsigned int block_list_append(struct block_list *list, struct block_request *head)
{
	unsigned int count = 0;

	for (struct block_request *next; head; head = next, count++) {
		next = head->next;
		block_list_add(list, head);
	}
	return count;
}

/* block_list_take() - all of them, linked; the list is empty then. */
static inline struct block_request *block_list_take(struct block_list *list)
{
	struct block_request *head = list->head;

	block_list_init(list);
	return head;
}

/* block_finish() - @request is over; its queue's lock held. Its done() runs soon, not in here. */
void block_finish(struct block_request *request, int error);

/* block_complete() - @request is over; any thread. Its done() runs later, on the loop. */
void block_complete(struct block_request *request, int error);

/* ---- The pool of threads, for all that have blocking calls to make ---- */

struct block_pool;

/* block_pool_open() - up to @threads workers, the first at once; NULL with errno after one log line. */
struct block_pool *block_pool_open(struct block_backend *block, unsigned int threads) __must_check;

/* block_pool_close() - nothing is in work; NULL is harmless. */
void block_pool_close(struct block_pool *pool);

/* block_pool_start() - have the requests linked from @head carried out and block_complete()d. Any thread. */
void block_pool_start(struct block_pool *pool, struct block_request *head);

#endif
