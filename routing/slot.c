/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/slot.h"

#include <string.h>

enum { SLOT_MASK = 16383 };

/* What is linear: the CRC of a byte is that of its bits, put together by exclusive or. */
#define OF_BIT(byte, bit, crc) ((byte) >> (bit) & 1 ? (crc) : 0)
#define OF_BYTE(byte, a, b, c, d, e, f, g, h)                                                            \
    (OF_BIT(byte, 0, a) ^ OF_BIT(byte, 1, b) ^ OF_BIT(byte, 2, c) ^ OF_BIT(byte, 3, d) ^                 \
     OF_BIT(byte, 4, e) ^ OF_BIT(byte, 5, f) ^ OF_BIT(byte, 6, g) ^ OF_BIT(byte, 7, h))
#define OF_4(first, ...)                                                                                 \
    OF_BYTE((first), __VA_ARGS__), OF_BYTE((first) + 1, __VA_ARGS__), OF_BYTE((first) + 2, __VA_ARGS__), \
        OF_BYTE((first) + 3, __VA_ARGS__)
#define OF_16(first, ...)                                                                                \
    OF_4((first), __VA_ARGS__), OF_4((first) + 4, __VA_ARGS__), OF_4((first) + 8, __VA_ARGS__),          \
        OF_4((first) + 12, __VA_ARGS__)
#define OF_64(first, ...)                                                                                \
    OF_16((first), __VA_ARGS__), OF_16((first) + 16, __VA_ARGS__), OF_16((first) + 32, __VA_ARGS__),     \
        OF_16((first) + 48, __VA_ARGS__)
#define OF_256(...)                                                                                      \
    OF_64(0, __VA_ARGS__), OF_64(64, __VA_ARGS__), OF_64(128, __VA_ARGS__), OF_64(192, __VA_ARGS__)

/* Of polynomial 0x1021, the highest bit first: [k] for a byte with k behind it, so that four bytes are one step. */
static const uint16_t crc_of_byte[4][256] = {
    {OF_256(0x1021, 0x2042, 0x4084, 0x8108, 0x1231, 0x2462, 0x48c4, 0x9188)},
    {OF_256(0x3331, 0x6662, 0xccc4, 0x89a9, 0x0373, 0x06e6, 0x0dcc, 0x1b98)},
    {OF_256(0x3730, 0x6e60, 0xdcc0, 0xa9a1, 0x4363, 0x86c6, 0x1dad, 0x3b5a)},
    {OF_256(0x76b4, 0xed68, 0xcaf1, 0x85c3, 0x1ba7, 0x374e, 0x6e9c, 0xdd38)},
};

uint32_t slot_of(struct slice key)
{
    return slot_crc16(slot_tag(key, '{', '}')) & SLOT_MASK;
}

struct slice slot_tag(struct slice key, char open, char close)
{
    const char *end = key.bytes + key.size;
    const char *from = key.size ? memchr(key.bytes, open, key.size) : NULL;
    const char *to = from ? memchr(from + 1, close, (size_t)(end - from - 1)) : NULL;
    if (!to || to == from + 1) return key;
    return (struct slice){from + 1, (size_t)(to - from - 1)};
}

uint16_t slot_crc16(struct slice bytes)
{
    const unsigned char *at = (const unsigned char *)bytes.bytes;
    size_t left = bytes.size;
    uint32_t crc = 0;
    for (; left >= 4; left -= 4, at += 4)
        crc = (uint32_t)crc_of_byte[3][crc >> 8 ^ at[0]] ^ crc_of_byte[2][(crc & 0xff) ^ at[1]] ^
              crc_of_byte[1][at[2]] ^ crc_of_byte[0][at[3]];
    for (; left > 0; left--, at++)
        crc = (crc << 8 & 0xff00) ^ crc_of_byte[0][crc >> 8 ^ *at];
    return (uint16_t)crc;
}
