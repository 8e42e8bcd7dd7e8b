/* SPDX-License-Identifier: BSD-3-Clause */
/* aml.c: the writer of ACPI Machine Language (ACPI 6.5, chapter 20). */

#include "aml.h"

#define NAME_OP 0x08
#define BYTE_PREFIX 0x0a
#define WORD_PREFIX 0x0b
#define DWORD_PREFIX 0x0c
#define STRING_PREFIX 0x0d
#define QWORD_PREFIX 0x0e
#define SCOPE_OP 0x10
#define BUFFER_OP 0x11
#define PACKAGE_OP 0x12
#define METHOD_OP 0x14
#define DUAL_NAME_PREFIX 0x2e
#define EXT_OP_PREFIX 0x5b
#define EXT_REGION_OP 0x80
#define EXT_FIELD_OP 0x81
#define EXT_DEVICE_OP 0x82
#define IF_OP 0xa0

#define METHOD_SERIALIZED 0x08
#define REGION_PCI_CONFIG 0x02
#define FIELD_BYTE_ACCESS 0x01 /* no lock, the other bits are preserved */
#define FIELD_RESERVED 0x00
#define NAME_SEGMENT 4

/* First bytes of resource descriptors, ACPI 6.5, tables 6.20 and 6.40 */
#define RESOURCE_IRQ 0x23
#define RESOURCE_IO 0x47
#define RESOURCE_END_TAG 0x79
#define RESOURCE_MEMORY32_FIXED 0x86
#define RESOURCE_DWORD_SPACE 0x87
#define RESOURCE_WORD_SPACE 0x88
#define RESOURCE_QWORD_SPACE 0x8a

#define IO_DECODE_16 0x01
#define IRQ_EDGE 0x01
#define IRQ_ACTIVE_LOW 0x08
#define IRQ_SHARED 0x10
#define MEMORY_READ_WRITE 0x01
#define SPACE_MIN_FIXED 0x04 /* and neither consumer nor subtractive decoding */
#define SPACE_MAX_FIXED 0x08
#define SPACE_IO_ENTIRE_RANGE 0x03

/* Make room for @count bytes at @at; NULL if there is none. */
static uint8_t *aml_insert(struct aml *aml, size_t at, size_t count)
{
	if (aml->overflow || count > aml->size - aml->used) {
		aml->overflow = true;
		return NULL;
	}
	memmove(aml->data + at + count, aml->data + at, aml->used - at);
	aml->used += count;
	return aml->data + at;
}

void aml_bytes(struct aml *aml, const void *bytes, size_t count)
{
	uint8_t *to = aml_insert(aml, aml->used, count);

	if (to)
		memcpy(to, bytes, count);
}

void aml_byte(struct aml *aml, uint8_t byte)
{
	aml_bytes(aml, &byte, 1);
}

static void aml_number(struct aml *aml, unsigned int width, uint64_t value)
{
	aml_bytes(aml, &value, width);
}

void aml_pad(struct aml *aml, size_t align)
{
	while (!aml->overflow && aml->used % align)
		aml_byte(aml, 0);
}

/* ACPI 6.5, 20.2.2 */
void aml_segment(struct aml *aml, const char *name)
{
	char segment[NAME_SEGMENT];

	memset(segment, '_', sizeof(segment));
	memcpy(segment, name, MIN(strlen(name), sizeof(segment)));
	aml_bytes(aml, segment, sizeof(segment));
}

/* The shortest form of @value; returns its length. ACPI 6.5, 20.2.3 */
static size_t encode_integer(uint8_t *to, uint64_t value)
{
	static const struct {
		uint64_t max;
		uint8_t prefix, width;
	} forms[] = {
		{ UINT8_MAX, BYTE_PREFIX, 1 },
		{ UINT16_MAX, WORD_PREFIX, 2 },
		{ UINT32_MAX, DWORD_PREFIX, 4 },
		{ UINT64_MAX, QWORD_PREFIX, 8 },
	};
	unsigned int i = 0;

	if (value <= AML_ONE) {
		to[0] = (uint8_t)value;
		return 1;
	}
	while (value > forms[i].max)
		i++;
	to[0] = forms[i].prefix;
	bytes_put(to + 1, forms[i].width, value);
	return 1 + forms[i].width;
}

void aml_integer(struct aml *aml, uint64_t value)
{
	uint8_t bytes[9];

	aml_bytes(aml, bytes, encode_integer(bytes, value));
}

void aml_string(struct aml *aml, const char *text)
{
	aml_byte(aml, STRING_PREFIX);
	aml_bytes(aml, text, strlen(text) + 1);
}

static unsigned int hex_digit(char digit)
{
	return digit <= '9' ? (unsigned int)(digit - '0') : (unsigned int)(digit - 'A' + 10);
}

void aml_eisaid(struct aml *aml, const char *id)
{
	uint32_t value = 0;

	/* Three letters of five bits and four hexadecimal digits, most significant byte first. */
	for (unsigned int i = 0; i < 3; i++)
		value = value << 5 | ((uint32_t)(id[i] - '@') & 0x1f);
	for (unsigned int i = 3; i < 7; i++)
		value = value << 4 | hex_digit(id[i]);
	aml_integer(aml, __builtin_bswap32(value));
}

void aml_name(struct aml *aml, const char *name)
{
	aml_byte(aml, NAME_OP);
	aml_segment(aml, name);
}

size_t aml_scope(struct aml *aml, const char *name)
{
	size_t mark;

	aml_byte(aml, SCOPE_OP);
	mark = aml->used;
	aml_segment(aml, name);
	return mark;
}

size_t aml_device(struct aml *aml, const char *name)
{
	size_t mark;

	aml_byte(aml, EXT_OP_PREFIX);
	aml_byte(aml, EXT_DEVICE_OP);
	mark = aml->used;
	aml_segment(aml, name);
	return mark;
}

size_t aml_method(struct aml *aml, const char *name, unsigned int args)
{
	size_t mark;

	aml_byte(aml, METHOD_OP);
	mark = aml->used;
	aml_segment(aml, name);
	aml_byte(aml, (uint8_t)(args | METHOD_SERIALIZED));
	return mark;
}

size_t aml_if(struct aml *aml)
{
	aml_byte(aml, IF_OP);
	return aml->used;
}

size_t aml_package(struct aml *aml, unsigned int count)
{
	size_t mark;

	aml_byte(aml, PACKAGE_OP);
	mark = aml->used;
	aml_byte(aml, (uint8_t)count);
	return mark;
}

/* ACPI 6.5, 20.2.5.2 */
void aml_config_region(struct aml *aml, const char *region, unsigned int offset, unsigned int size)
{
	aml_byte(aml, EXT_OP_PREFIX);
	aml_byte(aml, EXT_REGION_OP);
	aml_segment(aml, region);
	aml_byte(aml, REGION_PCI_CONFIG);
	aml_integer(aml, offset);
	aml_integer(aml, size);
}

size_t aml_byte_field(struct aml *aml, const char *device, const char *region)
{
	size_t mark;

	aml_byte(aml, EXT_OP_PREFIX);
	aml_byte(aml, EXT_FIELD_OP);
	mark = aml->used;
	aml_byte(aml, DUAL_NAME_PREFIX);
	aml_segment(aml, device);
	aml_segment(aml, region);
	aml_byte(aml, FIELD_BYTE_ACCESS);
	return mark;
}

/* Up to 63 the number of bits is its own package length. ACPI 6.5, 20.2.5.2 */
void aml_field_bits(struct aml *aml, const char *name, unsigned int bits)
{
	if (name)
		aml_segment(aml, name);
	else
		aml_byte(aml, FIELD_RESERVED);
	aml_byte(aml, (uint8_t)bits);
}

/* Put the package length, which counts itself, at @mark. ACPI 6.5, 20.2.4 */
void aml_end(struct aml *aml, size_t mark)
{
	size_t len = aml->used - mark;
	unsigned int extra = 0;
	uint8_t *to;

	/* One byte holds 6 bits; else the first holds 4 and up to three more hold 8 each. */
	if (len + 1 >= 1 << 6) {
		extra = 1;
		while (len + 1 + extra >= (size_t)1 << (4 + 8 * extra))
			extra++;
	}
	len += 1 + extra;
	to = aml_insert(aml, mark, 1 + extra);
	if (!to)
		return;
	if (!extra) {
		*to = (uint8_t)len;
		return;
	}
	*to = (uint8_t)(extra << 6 | (len & 0xf));
	bytes_put(to + 1, extra, len >> 4);
}

/* Put the number of bytes behind @mark and then the package length at @mark. ACPI 6.5, 20.2.5.4 */
static void aml_buffer_end(struct aml *aml, size_t mark)
{
	uint8_t bytes[9];
	size_t count = encode_integer(bytes, aml->used - mark);
	uint8_t *to = aml_insert(aml, mark, count);

	if (to)
		memcpy(to, bytes, count);
	aml_end(aml, mark);
}

void aml_buffer(struct aml *aml, const void *bytes, size_t count)
{
	size_t mark;

	aml_byte(aml, BUFFER_OP);
	mark = aml->used;
	aml_bytes(aml, bytes, count);
	aml_buffer_end(aml, mark);
}

size_t aml_resources(struct aml *aml)
{
	aml_byte(aml, BUFFER_OP);
	return aml->used;
}

void aml_resources_end(struct aml *aml, size_t mark)
{
	aml_byte(aml, RESOURCE_END_TAG);
	aml_byte(aml, 0); /* no checksum, ACPI 6.5, 6.4.2.9 */
	aml_buffer_end(aml, mark);
}

/* ACPI 6.5, 6.4.2.5 */
void aml_io(struct aml *aml, uint16_t base, uint8_t count)
{
	aml_byte(aml, RESOURCE_IO);
	aml_byte(aml, IO_DECODE_16);
	aml_number(aml, 2, base); /* lowest and highest address it may start at */
	aml_number(aml, 2, base);
	aml_byte(aml, 1); /* alignment */
	aml_byte(aml, count);
}

/* ACPI 6.5, 6.4.2.1 */
void aml_irq(struct aml *aml, unsigned int irq, bool shared)
{
	aml_byte(aml, RESOURCE_IRQ);
	aml_number(aml, 2, BIT32(irq));
	aml_byte(aml, IRQ_EDGE | (shared ? IRQ_SHARED : 0));
}

void aml_pci_irqs(struct aml *aml, uint16_t mask)
{
	aml_byte(aml, RESOURCE_IRQ);
	aml_number(aml, 2, mask);
	aml_byte(aml, IRQ_ACTIVE_LOW | IRQ_SHARED);
}

/* ACPI 6.5, 6.4.3.4 */
void aml_memory32(struct aml *aml, uint32_t base, uint32_t size)
{
	aml_byte(aml, RESOURCE_MEMORY32_FIXED);
	aml_number(aml, 2, 1 + 4 + 4);
	aml_byte(aml, MEMORY_READ_WRITE);
	aml_number(aml, 4, base);
	aml_number(aml, 4, size);
}

/* ACPI 6.5, 6.4.3.5.1 to 6.4.3.5.3 */
void aml_window(struct aml *aml, enum aml_space space, unsigned int width, uint64_t base,
		uint64_t size)
{
	static const uint8_t space_flags[] = {
		[AML_SPACE_MEMORY] = MEMORY_READ_WRITE,
		[AML_SPACE_IO] = SPACE_IO_ENTIRE_RANGE,
		[AML_SPACE_BUS] = 0,
	};
	uint8_t tag = RESOURCE_WORD_SPACE;

	if (width > 2)
		tag = width == 4 ? RESOURCE_DWORD_SPACE : RESOURCE_QWORD_SPACE;
	aml_byte(aml, tag);
	aml_number(aml, 2, 3 + 5 * width);
	aml_byte(aml, (uint8_t)space);
	aml_byte(aml, SPACE_MIN_FIXED | SPACE_MAX_FIXED);
	aml_byte(aml, space_flags[space]);
	aml_number(aml, width, 0); /* granularity: fixed at both ends */
	aml_number(aml, width, base);
	aml_number(aml, width, base + size - 1);
	aml_number(aml, width, 0); /* translation offset */
	aml_number(aml, width, size);
}
