/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rate limits of an image: buckets of tokens. A request takes its tokens when its turn comes and, if
 * they are not there yet, waits for as long as they take to come. So who waits has its place, however
 * many queues there are, and being late does not add up.
 */
#include "block_internal.h"

#define SCALE INT64_C(1000000000) /* parts of a token; and nanoseconds of a second */

static void bucket_init(struct block_bucket *bucket, const struct block_limit *limit, uint64_t now)
{
	uint64_t burst = limit->burst ? limit->burst : MAX(limit->rate / 10, UINT64_C(1));

	bucket->rate = limit->rate;
	bucket->capacity = (__int128)burst * SCALE;
	bucket->level = bucket->capacity;
	bucket->time = now;
}

void block_limits_init(struct block_limits *limits, const struct block_config *config, uint64_t now)
{
	pthread_mutex_init(&limits->lock, NULL);
	limits->set = config->iops.rate || config->bps.rate;
	bucket_init(&limits->iops, &config->iops, now);
	bucket_init(&limits->bps, &config->bps, now);
}

void block_limits_deinit(struct block_limits *limits)
{
	pthread_mutex_destroy(&limits->lock);
}

/*
 * When @count tokens may be used. More than the bucket holds are had from a full one, and the debt
 * is paid off before the next.
 */
static uint64_t bucket_take(struct block_bucket *bucket, uint64_t count, uint64_t now)
{
	const __int128 cost = (__int128)count * SCALE, needed = MIN(cost, bucket->capacity);
	uint64_t due;

	if (!bucket->rate)
		return now;
	if (now > bucket->time) {
		bucket->level += (__int128)(now - bucket->time) * bucket->rate;
		bucket->level = MIN(bucket->level, bucket->capacity);
		bucket->time = now;
	}
	due = bucket->time;
	if (bucket->level < needed)
		due += (uint64_t)((needed - bucket->level + bucket->rate - 1) / bucket->rate);
	bucket->level -= cost;
	return due;
}

static void bucket_give_back(struct block_bucket *bucket, uint64_t count)
{
	bucket->level = MIN(bucket->level + (__int128)count * SCALE, bucket->capacity);
}

static uint64_t request_bytes(const struct block_request *request)
{
	return request->op != BLOCK_FLUSH && request->op != BLOCK_DISCARD ? request->length : 0;
}

uint64_t block_limits_take(struct block_limits *limits, const struct block_request *request,
			   uint64_t now)
{
	uint64_t iops_due, bps_due;

	pthread_mutex_lock(&limits->lock);
	iops_due = bucket_take(&limits->iops, 1, now);
	bps_due = bucket_take(&limits->bps, request_bytes(request), now);
	pthread_mutex_unlock(&limits->lock);
	return MAX(iops_due, bps_due);
}

void block_limits_give_back(struct block_limits *limits, const struct block_request *request)
{
	pthread_mutex_lock(&limits->lock);
	bucket_give_back(&limits->iops, 1);
	bucket_give_back(&limits->bps, request_bytes(request));
	pthread_mutex_unlock(&limits->lock);
}
