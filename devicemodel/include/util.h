/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * util.h: small helpers that every part uses. Knows nothing of VMs or devices.
 */
#ifndef TENON_UTIL_H
#define TENON_UTIL_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tenon needs a little-endian host");
static_assert(sizeof(void *) == 8, "tenon needs a 64-bit host");

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define BIT32(n) (UINT32_C(1) << (n))
#define BIT64(n) (UINT64_C(1) << (n))
#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)

/* Around the declarations that devices may use, plugins too: C names, visible outside of tenon. */
#ifdef __cplusplus
#define TENON_API_BEGIN                                                                            \
	_Pragma("GCC visibility push(default)") extern "C"                                         \
	{
#define TENON_API_END                                                                              \
	}                                                                                          \
	_Pragma("GCC visibility pop")
#else
#define TENON_API_BEGIN _Pragma("GCC visibility push(default)")
#define TENON_API_END _Pragma("GCC visibility pop")
#endif

/* Pieces that guest RAM may have: so many iovecs more may a buffer take than it has descriptors. */
#define GUEST_MEMORY_REGIONS 8

#define __must_check __attribute__((warn_unused_result))
#define __format_printf(fmt, args) __attribute__((format(printf, fmt, args)))

#ifndef container_of
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#endif

/* Each argument is evaluated once; both are converted to the type that arithmetic on them has. */
#define MIN(a, b)                                                                                  \
	__extension__({                                                                            \
		__typeof__((a) + (b)) min_a_ = (a), min_b_ = (b);                                  \
		min_a_ < min_b_ ? min_a_ : min_b_;                                                 \
	})
#define MAX(a, b)                                                                                  \
	__extension__({                                                                            \
		__typeof__((a) + (b)) max_a_ = (a), max_b_ = (b);                                  \
		max_a_ > max_b_ ? max_a_ : max_b_;                                                 \
	})

/** align_up() - round @value up to a multiple of @align, a power of two. */
static inline uint64_t align_up(uint64_t value, uint64_t align)
{
	return (value + align - 1) & ~(align - 1);
}

static inline bool is_power_of_2(uint64_t value)
{
	return value && !(value & (value - 1));
}

/** range_contains() - is [@addr, @addr + @len) inside [@base, @base + @size)? Never wraps. */
static inline bool range_contains(uint64_t base, uint64_t size, uint64_t addr, uint64_t len)
{
	return addr >= base && len <= size && addr - base <= size - len;
}

/** bytes_get() - the little-endian integer of @size (1, 2, 4 or 8) bytes at @from. */
static inline uint64_t bytes_get(const void *from, unsigned int size)
{
	uint64_t value = 0;

	memcpy(&value, from, size);
	return value;
}

/** bytes_put() - store the low @size bytes of @value at @to, little-endian. */
static inline void bytes_put(void *to, unsigned int size, uint64_t value)
{
	memcpy(to, &value, size);
}

#endif
