/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bytes as text in the test port's protocol: hexadecimal and base64 (RFC 4648, 4).
 */
#include "test.h"

#include <errno.h>

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

long hex_decode(char *text, size_t len)
{
	if (len % 2)
		return -EINVAL;
	for (size_t i = 0; i < len / 2; i++) {
		int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return -EINVAL;
		text[i] = (char)(high << 4 | low);
	}
	return (long)(len / 2);
}

size_t hex_encode(const uint8_t *data, size_t len, char *text)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++) {
		text[2 * i] = digits[data[i] >> 4];
		text[2 * i + 1] = digits[data[i] & 15];
	}
	return 2 * len;
}

static int base64_digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* 4 characters to 3 bytes; false if they are none. */
static bool base64_group(const char *text, char *bytes)
{
	uint32_t value = 0;

	for (unsigned int i = 0; i < 4; i++) {
		int digit = base64_digit(text[i]);

		if (digit < 0)
			return false;
		value = value << 6 | (uint32_t)digit;
	}
	for (unsigned int i = 0; i < 3; i++)
		bytes[i] = (char)(value >> (16 - 8 * i));
	return true;
}

long base64_decode(char *text, size_t len)
{
	unsigned int padding = 0;
	char last[4];
	size_t groups = len / 4;

	if (len % 4)
		return -EINVAL;
	if (!len)
		return 0;
	memcpy(last, &text[len - 4], 4);
	while (padding < 2 && last[3 - padding] == '=')
		last[3 - padding++] = 'A';
	for (size_t i = 0; i + 1 < groups; i++)
		if (!base64_group(&text[4 * i], &text[3 * i]))
			return -EINVAL;
	if (!base64_group(last, last))
		return -EINVAL;
	memcpy(&text[3 * (groups - 1)], last, 3 - padding);
	return (long)(3 * groups - padding);
}

size_t base64_encode(const uint8_t *data, size_t len, char *text)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t used = 0;

	for (size_t i = 0; i < len; i += 3) {
		uint8_t bytes[3] = { 0 };
		size_t count = MIN(len - i, sizeof(bytes));
		uint32_t value;

		memcpy(bytes, data + i, count);
		value = (uint32_t)bytes[0] << 16 | (uint32_t)bytes[1] << 8 | bytes[2];
		for (unsigned int j = 0; j < 4; j++)
			text[used++] = j <= count ? digits[value >> (18 - 6 * j) & 63] : '=';
	}
	return used;
}
