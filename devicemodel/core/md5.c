/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MD5 as RFC 1321 describes it.
 */
#include "md5.h"

#define BLOCK 64
#define LENGTH_AT 56 /* the last eight bytes of the last block are the length in bits (3.2) */

struct md5_state {
	uint32_t a, b, c, d;
};

/* floor(2^32 * abs(sin(i + 1))) (3.4) */
static const uint32_t sines[64] = {
	0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613,
	0xfd469501, 0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193,
	0xa679438e, 0x49b40821, 0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d,
	0x02441453, 0xd8a1e681, 0xe7d3fbc8, 0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed,
	0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a, 0xfffa3942, 0x8771f681, 0x6d9d6122,
	0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70, 0x289b7ec6, 0xeaa127fa,
	0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665, 0xf4292244,
	0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
	0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb,
	0xeb86d391,
};

static const uint8_t shifts[4][4] = {
	{ 7, 12, 17, 22 },
	{ 5, 9, 14, 20 },
	{ 4, 11, 16, 23 },
	{ 6, 10, 15, 21 },
};

static uint32_t mix(const struct md5_state *s, unsigned int round)
{
	switch (round) {
	case 0:
		return (s->b & s->c) | (~s->b & s->d);
	case 1:
		return (s->b & s->d) | (s->c & ~s->d);
	case 2:
		return s->b ^ s->c ^ s->d;
	default:
		return s->c ^ (s->b | ~s->d);
	}
}

static void md5_block(struct md5_state *state, const uint8_t *block)
{
	static const uint8_t step[4] = { 1, 5, 3, 7 }, first[4] = { 0, 1, 5, 0 };
	struct md5_state s = *state;

	for (unsigned int i = 0; i < 64; i++) {
		unsigned int round = i / 16, shift = shifts[round][i % 4];
		uint32_t word, sum;

		memcpy(&word, block + 4 * ((step[round] * i + first[round]) % 16), sizeof(word));
		sum = s.a + mix(&s, round) + word + sines[i];
		s.a = s.d;
		s.d = s.c;
		s.c = s.b;
		s.b += sum << shift | sum >> (32 - shift);
	}
	state->a += s.a;
	state->b += s.b;
	state->c += s.c;
	state->d += s.d;
}

void md5(const void *data, size_t len, uint8_t digest[MD5_SIZE])
{
	struct md5_state state = { 0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476 };
	uint8_t last[2 * BLOCK] = { 0 };
	size_t rest = len % BLOCK;
	size_t padded = rest < LENGTH_AT ? BLOCK : 2 * BLOCK;
	uint64_t bits = (uint64_t)len * 8;

	for (size_t done = 0; done + BLOCK <= len; done += BLOCK)
		md5_block(&state, (const uint8_t *)data + done);
	if (rest)
		memcpy(last, (const uint8_t *)data + len - rest, rest);
	last[rest] = 0x80;
	memcpy(last + padded - sizeof(bits), &bits, sizeof(bits));
	for (size_t done = 0; done < padded; done += BLOCK)
		md5_block(&state, last + done);
	memcpy(digest, &state, MD5_SIZE);
}
