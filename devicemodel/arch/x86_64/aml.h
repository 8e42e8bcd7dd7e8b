/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * aml.h: writes ACPI Machine Language, the byte code of ACPI 6.5 chapter 20, into a buffer of
 * fixed size. What does not fit is dropped and remembered in @overflow, to be checked once at the
 * end. It is also the byte buffer of the tables that have no AML in them.
 *
 * What has a length in front is opened by a function that returns a mark and closed by aml_end()
 * with that mark, innermost first:
 *
 *	scope = aml_scope(aml, "_SB");
 *	aml_name(aml, "FOO");
 *	aml_integer(aml, 1);
 *	aml_end(aml, scope);
 */
#ifndef TENON_AML_H
#define TENON_AML_H

#include "util.h"

/** struct aml - @used of @size bytes at @data are written. */
struct aml {
	uint8_t *data;
	size_t size;
	size_t used;
	bool overflow;
};

/* Operators that have no function of their own: written with aml_byte() (ACPI 6.5, table 20.1). */
#define AML_ZERO 0x00 /* also the name of nothing, as a target */
#define AML_ONE 0x01
#define AML_LOCAL0 0x60
#define AML_ARG0 0x68
#define AML_ARG1 0x69
#define AML_ARG3 0x6b
#define AML_STORE 0x70
#define AML_SUBTRACT 0x74
#define AML_SHIFT_LEFT 0x79
#define AML_AND 0x7b
#define AML_OR 0x7d
#define AML_FIND_SET_RIGHT_BIT 0x82
#define AML_CREATE_DWORD_FIELD 0x8a
#define AML_CREATE_WORD_FIELD 0x8b
#define AML_LNOT 0x92
#define AML_LEQUAL 0x93
#define AML_RETURN 0xa4

/** enum aml_space - what an address space descriptor describes (ACPI 6.5, 6.4.3.5). */
enum aml_space { AML_SPACE_MEMORY, AML_SPACE_IO, AML_SPACE_BUS };

void aml_bytes(struct aml *aml, const void *bytes, size_t count);
void aml_byte(struct aml *aml, uint8_t byte);

/** aml_pad() - zeroes until @used is a multiple of @align. */
void aml_pad(struct aml *aml, size_t align);

/** aml_segment() - a name of one segment; if shorter than four characters it gets underscores. */
void aml_segment(struct aml *aml, const char *name);

void aml_integer(struct aml *aml, uint64_t value);
void aml_string(struct aml *aml, const char *text);

/** aml_eisaid() - the integer that stands for an id of the form "PNP0A08" (ACPI 6.5, 6.1.5). */
void aml_eisaid(struct aml *aml, const char *id);

/** aml_buffer() - a buffer object holding @count bytes. */
void aml_buffer(struct aml *aml, const void *bytes, size_t count);

/** aml_name() - Name (@name, ...): the object is what is written next. */
void aml_name(struct aml *aml, const char *name);

/* What aml_end() closes. */
size_t aml_scope(struct aml *aml, const char *name) __must_check;
size_t aml_device(struct aml *aml, const char *name) __must_check;
size_t aml_method(struct aml *aml, const char *name, unsigned int args) __must_check;
size_t aml_if(struct aml *aml) __must_check;
size_t aml_package(struct aml *aml, unsigned int count) __must_check;
/** aml_byte_field() - what follows are fields of @region of device @device, accessed by bytes. */
size_t aml_byte_field(struct aml *aml, const char *device, const char *region) __must_check;
void aml_end(struct aml *aml, size_t mark);

/** aml_config_region() - @region: @size bytes at @offset in config space of the device around it. */
void aml_config_region(struct aml *aml, const char *region, unsigned int offset, unsigned int size);

/** aml_field_bits() - the next @bits (up to 63) are called @name; NULL: are nobody's. */
void aml_field_bits(struct aml *aml, const char *name, unsigned int bits);

/** aml_resources() - a resource template; aml_resources_end() closes it. */
size_t aml_resources(struct aml *aml) __must_check;
void aml_resources_end(struct aml *aml, size_t mark);

/* Resource descriptors (ACPI 6.5, 6.4). */

/** aml_io() - @count ports from @base, decoding all 16 address bits. */
void aml_io(struct aml *aml, uint16_t base, uint8_t count);

/** aml_irq() - ISA interrupt @irq, edge-triggered and active high. */
void aml_irq(struct aml *aml, unsigned int irq, bool shared);

/** aml_pci_irqs() - one of the ISA interrupts in @mask, for PCI: level-triggered, active low, shared. */
void aml_pci_irqs(struct aml *aml, uint16_t mask);

/** aml_memory32() - fixed range of memory below 4 GiB, read and write. */
void aml_memory32(struct aml *aml, uint32_t base, uint32_t size);

/**
 * aml_window() - a range that a bridge passes on to its children.
 * @width: bytes an address is written in: 2, 4 or 8
 */
void aml_window(struct aml *aml, enum aml_space space, unsigned int width, uint64_t base,
		uint64_t size);

#endif
