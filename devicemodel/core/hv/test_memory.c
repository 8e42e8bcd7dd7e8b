/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The test port's memory accesses: RAM at once, all else in accesses of natural size.
 */
#include "test.h"

/*
 * How many bytes from @addr on, up to @len, are alike: RAM, then *@ram is where it is; or not, then
 * *@ram is NULL.
 */
static uint64_t piece_at(struct test_port *port, uint64_t addr, uint64_t len, uint8_t **ram)
{
	const struct guest_memory *memory = &port->ctx->memory;

	*ram = NULL;
	for (unsigned int i = 0; i < memory->count; i++) {
		const struct guest_memory_region *region = &memory->regions[i];
		uint64_t offset = addr - region->gpa;

		if (offset < region->size) {
			*ram = region->host + offset;
			return MIN(len, region->size - offset);
		}
		if (region->gpa > addr)
			len = MIN(len, region->gpa - addr);
	}
	return len;
}

bool test_range_valid(struct test_port *port, uint64_t addr, uint64_t len)
{
	uint64_t outside = 0, piece;
	uint8_t *ram;

	if (len && addr + (len - 1) < addr)
		return false;
	for (; len; len -= piece, addr += piece) {
		piece = piece_at(port, addr, len, &ram);
		if (!ram && (outside += piece) > TEST_NOT_RAM_MAX)
			return false;
	}
	return true;
}

/* The largest aligned access at @addr of at most @len bytes. */
static unsigned int natural_size(uint64_t addr, uint64_t len)
{
	unsigned int size = 8;

	while (size > len || addr & (size - 1))
		size /= 2;
	return size;
}

static uint64_t io_load(struct test_port *port, uint64_t addr, unsigned int size)
{
	struct io_request request = { .type = IO_MMIO, .size = size, .addr = addr };

	vm_io(port->ctx, &request);
	return request.value;
}

static void io_store(struct test_port *port, uint64_t addr, unsigned int size, uint64_t value)
{
	struct io_request request = {
		.type = IO_MMIO, .write = true, .size = size, .addr = addr, .value = value
	};

	vm_io(port->ctx, &request);
}

static void io_read(struct test_port *port, uint64_t addr, uint8_t *data, size_t len)
{
	for (unsigned int size; len; len -= size, addr += size, data += size) {
		size = natural_size(addr, len);
		bytes_put(data, size, io_load(port, addr, size));
	}
}

void test_memory_read(struct test_port *port, uint64_t addr, uint8_t *data, size_t len)
{
	for (uint64_t piece; len; len -= piece, addr += piece, data += piece) {
		uint8_t *ram;

		piece = piece_at(port, addr, len, &ram);
		if (ram)
			memcpy(data, ram, piece);
		else
			io_read(port, addr, data, piece);
	}
}

/* Bytes [@at, @at + @len) of @source. */
static void source_copy(const struct test_source *source, uint64_t at, uint8_t *to, uint64_t len)
{
	uint64_t from_data = at < source->len ? MIN(len, source->len - at) : 0;

	if (from_data)
		memcpy(to, source->data + at, from_data);
	memset(to + from_data, source->fill, len - from_data);
}

static void io_write(struct test_port *port, uint64_t addr, const struct test_source *source,
		     uint64_t at, uint64_t len)
{
	for (unsigned int size; len; len -= size, addr += size, at += size) {
		uint8_t bytes[8];

		size = natural_size(addr, len);
		source_copy(source, at, bytes, size);
		io_store(port, addr, size, bytes_get(bytes, size));
	}
}

void test_memory_write(struct test_port *port, uint64_t addr, const struct test_source *source,
		       uint64_t len)
{
	uint64_t at = 0;

	for (uint64_t piece; at < len; at += piece) {
		uint8_t *ram;

		piece = piece_at(port, addr + at, len - at, &ram);
		if (ram)
			source_copy(source, at, ram, piece);
		else
			io_write(port, addr + at, source, at, piece);
	}
}

/* As on a processor, an aligned access to RAM is one: a device may be using the same word. */
static uint64_t ram_load(const void *ram, unsigned int size)
{
	if ((uintptr_t)ram & (size - 1))
		return bytes_get(ram, size);
	switch (size) {
	case 1:
		return __atomic_load_n((const uint8_t *)ram, __ATOMIC_ACQUIRE);
	case 2:
		return __atomic_load_n((const uint16_t *)ram, __ATOMIC_ACQUIRE);
	case 4:
		return __atomic_load_n((const uint32_t *)ram, __ATOMIC_ACQUIRE);
	default:
		return __atomic_load_n((const uint64_t *)ram, __ATOMIC_ACQUIRE);
	}
}

static void ram_store(void *ram, unsigned int size, uint64_t value)
{
	if ((uintptr_t)ram & (size - 1)) {
		bytes_put(ram, size, value);
		return;
	}
	switch (size) {
	case 1:
		__atomic_store_n((uint8_t *)ram, (uint8_t)value, __ATOMIC_RELEASE);
		return;
	case 2:
		__atomic_store_n((uint16_t *)ram, (uint16_t)value, __ATOMIC_RELEASE);
		return;
	case 4:
		__atomic_store_n((uint32_t *)ram, (uint32_t)value, __ATOMIC_RELEASE);
		return;
	default:
		__atomic_store_n((uint64_t *)ram, value, __ATOMIC_RELEASE);
	}
}

/* An access over the end of RAM goes byte by byte; one that is not in RAM at all stays one. */
uint64_t test_memory_load(struct test_port *port, uint64_t addr, unsigned int size)
{
	uint8_t *ram, bytes[8];

	if (piece_at(port, addr, size, &ram) < size) {
		test_memory_read(port, addr, bytes, size);
		return bytes_get(bytes, size);
	}
	return ram ? ram_load(ram, size) : io_load(port, addr, size);
}

void test_memory_store(struct test_port *port, uint64_t addr, unsigned int size, uint64_t value)
{
	uint8_t *ram, bytes[8];

	if (piece_at(port, addr, size, &ram) < size) {
		bytes_put(bytes, size, value);
		test_memory_write(port, addr, &(struct test_source) { .data = bytes, .len = size },
				  size);
		return;
	}
	if (ram)
		ram_store(ram, size, value);
	else
		io_store(port, addr, size, value);
}
