/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames that came by one queue of the host's and go to another of the driver's: they wait in a
 * buffer that never grows until whoever works on that queue takes them.
 */
#include <errno.h>
#include <stdlib.h>

#include "virtio_net.h"

#define MAIL_SIZE ((uint32_t)KIB(256)) /* a power of two: @head and @tail just count */
#define LENGTH ((uint32_t)sizeof(uint32_t))

static_assert(MAIL_SIZE > sizeof(struct virtio_net_hdr_v1) + NET_FRAME_MAX + LENGTH, "must fit");

int net_mail_init(struct net_mail *mail, struct vqueue_info *vq, event_callback arrived, void *arg)
{
	mail->bytes = malloc(MAIL_SIZE);
	mail->timer = event_add_timer(vq->loop, vq->lock, arrived, arg);
	pthread_mutex_init(&mail->lock, NULL);
	return mail->bytes && mail->timer ? 0 : -ENOMEM;
}

void net_mail_deinit(struct net_mail *mail)
{
	if (!mail->bytes && !mail->timer)
		return;
	event_remove(mail->timer);
	free(mail->bytes);
	pthread_mutex_destroy(&mail->lock);
	*mail = (struct net_mail) { 0 };
}

/* The two pieces of [@at, @at + @len): what is behind the end is at the start. */
static void mail_pieces(const struct net_mail *mail, uint32_t at, uint32_t len,
			struct iovec pieces[2])
{
	uint32_t start = at % MAIL_SIZE, first = MIN(len, MAIL_SIZE - start);

	pieces[0] = (struct iovec) { mail->bytes + start, first };
	pieces[1] = (struct iovec) { mail->bytes, len - first };
}

/* From @iov's start to @at, @len bytes. */
static void mail_write(struct net_mail *mail, uint32_t at, const struct iovec *iov, int count,
		       uint32_t len)
{
	struct iovec pieces[2];

	mail_pieces(mail, at, len, pieces);
	iov_to_buf(iov, count, 0, pieces[0].iov_base, pieces[0].iov_len);
	iov_to_buf(iov, count, pieces[0].iov_len, pieces[1].iov_base, pieces[1].iov_len);
}

static uint32_t mail_read(const struct net_mail *mail, uint32_t at, const struct iovec *iov,
			  int count, uint32_t len)
{
	struct iovec pieces[2];
	size_t read;

	mail_pieces(mail, at, len, pieces);
	read = iov_from_buf(iov, count, 0, pieces[0].iov_base, pieces[0].iov_len);
	read += iov_from_buf(iov, count, pieces[0].iov_len, pieces[1].iov_base, pieces[1].iov_len);
	return (uint32_t)read;
}

bool net_mail_put(struct net_mail *mail, const struct iovec *iov, int count, uint32_t len)
{
	struct iovec length = { &len, LENGTH };
	bool fits, first;

	pthread_mutex_lock(&mail->lock);
	first = mail->head == mail->tail;
	fits = MAIL_SIZE - (mail->head - mail->tail) >= LENGTH + len;
	if (fits) {
		mail_write(mail, mail->head, &length, 1, LENGTH);
		mail_write(mail, mail->head + LENGTH, iov, count, len);
		__atomic_store_n(&mail->head, mail->head + LENGTH + len, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&mail->lock);
	if (fits && first)
		event_set_timer(mail->timer, EVENT_SOON, 0);
	return fits;
}

ssize_t net_mail_get(struct net_mail *mail, const struct iovec *iov, int count)
{
	ssize_t read = -EAGAIN;
	uint32_t len;

	if (!net_mail_waits(mail))
		return -EAGAIN;
	pthread_mutex_lock(&mail->lock);
	if (mail->head != mail->tail) {
		struct iovec length = { &len, LENGTH };

		mail_read(mail, mail->tail, &length, 1, LENGTH);
		read = mail_read(mail, mail->tail + LENGTH, iov, count, len);
		__atomic_store_n(&mail->tail, mail->tail + LENGTH + len, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&mail->lock);
	return read;
}

void net_mail_clear(struct net_mail *mail)
{
	pthread_mutex_lock(&mail->lock);
	mail->tail = mail->head;
	pthread_mutex_unlock(&mail->lock);
}
