/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/hash.h"

#include "routing/md5.h"
#include "routing/slot.h"

const char *const hash_names[] = {
    [HASH_ONE_AT_A_TIME] = "one_at_a_time",
    [HASH_MD5] = "md5",
    [HASH_CRC16] = "crc16",
    [HASH_CRC32] = "crc32",
    [HASH_CRC32A] = "crc32a",
    [HASH_FNV1_64] = "fnv1_64",
    [HASH_FNV1A_64] = "fnv1a_64",
    [HASH_FNV1_32] = "fnv1_32",
    [HASH_FNV1A_32] = "fnv1a_32",
    [HASH_HSIEH] = "hsieh",
    [HASH_MURMUR] = "murmur",
    [HASH_JENKINS] = "jenkins",
    [HASH_CRC16_PREDIXY] = "crc16_predixy",
    [HASH_ATOL] = "atol",
    NULL,
};

static uint64_t hash_one_at_a_time(struct slice key);
static uint64_t hash_md5(struct slice key);
static uint64_t hash_crc16(struct slice key);
static uint64_t hash_crc32(struct slice key);
static uint64_t hash_crc32a(struct slice key);
static uint64_t hash_fnv1_64(struct slice key);
static uint64_t hash_fnv1a_64(struct slice key);
static uint64_t hash_fnv1_32(struct slice key);
static uint64_t hash_fnv1a_32(struct slice key);
static uint64_t hash_hsieh(struct slice key);
static uint64_t hash_murmur(struct slice key);
static uint64_t hash_jenkins(struct slice key);
static uint64_t hash_crc16_predixy(struct slice key);
static uint64_t hash_atol(struct slice key);
static uint32_t crc32_of(struct slice key);

uint64_t hash_of(enum hash hash, struct slice key)
{
    static uint64_t (*const functions[])(struct slice key) = {
        [HASH_ONE_AT_A_TIME] = hash_one_at_a_time,
        [HASH_MD5] = hash_md5,
        [HASH_CRC16] = hash_crc16,
        [HASH_CRC32] = hash_crc32,
        [HASH_CRC32A] = hash_crc32a,
        [HASH_FNV1_64] = hash_fnv1_64,
        [HASH_FNV1A_64] = hash_fnv1a_64,
        [HASH_FNV1_32] = hash_fnv1_32,
        [HASH_FNV1A_32] = hash_fnv1a_32,
        [HASH_HSIEH] = hash_hsieh,
        [HASH_MURMUR] = hash_murmur,
        [HASH_JENKINS] = hash_jenkins,
        [HASH_CRC16_PREDIXY] = hash_crc16_predixy,
        [HASH_ATOL] = hash_atol,
    };
    return functions[hash](key);
}

/* ---- bytes and words ---- */

/* A byte of 0x80 and more counts as the negative number that a signed char makes of it. */
static uint32_t signed_byte(struct slice key, size_t at)
{
    return (uint32_t)(int32_t)(signed char)key.bytes[at];
}

static uint32_t byte(struct slice key, size_t at)
{
    return (unsigned char)key.bytes[at];
}

/* Lowest byte first; what lies behind the end of the key is 0. */
static uint32_t word(struct slice key, size_t at, size_t size)
{
    uint32_t value = 0;
    for (size_t i = 0; i < size && at + i < key.size; i++)
        value |= byte(key, at + i) << 8 * i;
    return value;
}

static uint32_t rotate_left(uint32_t value, uint32_t bits)
{
    return value << bits | value >> (32 - bits);
}

/* ---- Bob Jenkins: http://burtleburtle.net/bob/hash/doobs.html and .../c/lookup3.c ---- */

static uint64_t hash_one_at_a_time(struct slice key)
{
    uint32_t hash = 0;
    for (size_t i = 0; i < key.size; i++) {
        hash += signed_byte(key, i);
        hash += hash << 10;
        hash ^= hash >> 6;
    }
    hash += hash << 3;
    hash ^= hash >> 11;
    hash += hash << 15;
    return hash;
}

/* hashlittle() of lookup3, begun with 13. */
static uint64_t hash_jenkins(struct slice key)
{
    enum { BEGIN = 13, BLOCK = 12 };
    static const unsigned char mix[6] = {4, 6, 8, 16, 19, 4}, end[7] = {14, 11, 25, 16, 4, 14, 24};
    uint32_t state[3];
    state[0] = state[1] = state[2] = 0xdeadbeef + (uint32_t)key.size + BEGIN;
    size_t at = 0;
    for (; key.size - at > BLOCK; at += BLOCK) {
        for (size_t i = 0; i < 3; i++)
            state[i] += word(key, at + 4 * i, 4);
        for (size_t i = 0; i < 6; i++) { /* a from c, b from a, c from b, twice */
            uint32_t *to = &state[i % 3], *from = &state[(i + 2) % 3], *next = &state[(i + 1) % 3];
            *to = (*to - *from) ^ rotate_left(*from, mix[i]);
            *from += *next;
        }
    }
    if (key.size == 0) return state[2];
    for (size_t i = 0; i < 3; i++)
        state[i] += word(key, at + 4 * i, 4);
    for (size_t i = 0; i < 7; i++) { /* c from b, a from c, b from a, and on */
        uint32_t *to = &state[(i + 2) % 3], *from = &state[(i + 1) % 3];
        *to = (*to ^ *from) - rotate_left(*from, end[i]);
    }
    return state[2];
}

/* ---- RFC 1321: the first four bytes of the digest ---- */

static uint64_t hash_md5(struct slice key)
{
    uint32_t digest[MD5_WORDS];
    md5(key, digest);
    return digest[0];
}

/* ---- cyclic redundancy checks ---- */

/* The CRC of Redis Cluster in the lower half; above it what has been shifted out of it, which is not cut off.
 */
static uint64_t hash_crc16(struct slice key)
{
    uint32_t crc = 0;
    for (size_t i = 0; i < key.size; i++) {
        uint32_t x = (crc >> 8 ^ byte(key, i)) & 0xff;
        x ^= x >> 4;
        crc = crc << 8 ^ (x << 12 & 0xffff) ^ x << 5 ^ x;
    }
    return crc;
}

static uint64_t hash_crc16_predixy(struct slice key)
{
    return slot_crc16(key);
}

/* 15 bits of it. */
static uint64_t hash_crc32(struct slice key)
{
    return crc32_of(key) >> 16 & 0x7fff;
}

static uint64_t hash_crc32a(struct slice key)
{
    return crc32_of(key);
}

/* That of Ethernet, half a byte at a time. */
static uint32_t crc32_of(struct slice key)
{
    static const uint32_t of_half[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
        0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
    };
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < key.size; i++) {
        crc ^= byte(key, i);
        crc = crc >> 4 ^ of_half[crc & 15];
        crc = crc >> 4 ^ of_half[crc & 15];
    }
    return ~crc;
}

/* ---- Fowler, Noll, Vo: http://www.isthe.com/chongo/tech/comp/fnv/ ---- */

#define FNV_64_BEGIN 0x84222325U /* of 64 bits the lower half: all that it is made of */
#define FNV_64_PRIME 0x1b3U
#define FNV_32_BEGIN 0x811c9dc5U
#define FNV_32_PRIME 0x1000193U

static uint32_t fnv1(struct slice key, uint32_t hash, uint32_t prime)
{
    for (size_t i = 0; i < key.size; i++)
        hash = hash * prime ^ signed_byte(key, i);
    return hash;
}

static uint32_t fnv1a(struct slice key, uint32_t hash, uint32_t prime)
{
    for (size_t i = 0; i < key.size; i++)
        hash = (hash ^ signed_byte(key, i)) * prime;
    return hash;
}

static uint64_t hash_fnv1_64(struct slice key)
{
    return fnv1(key, FNV_64_BEGIN, FNV_64_PRIME);
}

static uint64_t hash_fnv1a_64(struct slice key)
{
    return fnv1a(key, FNV_64_BEGIN, FNV_64_PRIME);
}

static uint64_t hash_fnv1_32(struct slice key)
{
    return fnv1(key, FNV_32_BEGIN, FNV_32_PRIME);
}

static uint64_t hash_fnv1a_32(struct slice key)
{
    return fnv1a(key, FNV_32_BEGIN, FNV_32_PRIME);
}

#undef FNV_64_BEGIN
#undef FNV_64_PRIME
#undef FNV_32_BEGIN
#undef FNV_32_PRIME

/* ---- Paul Hsieh's SuperFastHash: http://www.azillionmonkeys.com/qed/hash.html ---- */

/* Begun with 0 instead of the length. */
static uint64_t hash_hsieh(struct slice key)
{
    uint32_t hash = 0;
    size_t at = 0;
    for (; key.size - at >= 4; at += 4) {
        hash += word(key, at, 2);
        hash = hash << 16 ^ word(key, at + 2, 2) << 11 ^ hash;
        hash += hash >> 11;
    }
    switch (key.size - at) {
    case 3:
        hash += word(key, at, 2);
        hash ^= hash << 16;
        hash ^= signed_byte(key, at + 2) << 18;
        hash += hash >> 11;
        break;
    case 2:
        hash += word(key, at, 2);
        hash ^= hash << 11;
        hash += hash >> 17;
        break;
    case 1:
        hash += byte(key, at);
        hash ^= hash << 10;
        hash += hash >> 1;
        break;
    }
    hash ^= hash << 3;
    hash += hash >> 5;
    hash ^= hash << 4;
    hash += hash >> 17;
    hash ^= hash << 25;
    hash += hash >> 6;
    return hash;
}

/* ---- Austin Appleby's MurmurHash2: https://github.com/aappleby/smhasher ---- */

/* The seed grows with the length. */
static uint64_t hash_murmur(struct slice key)
{
    static const uint32_t factor = 0x5bd1e995;
    uint32_t size = (uint32_t)key.size, hash = 0xdeadbeefU * size ^ size;
    size_t at = 0;
    for (; key.size - at >= 4; at += 4) {
        uint32_t part = word(key, at, 4) * factor;
        hash = hash * factor ^ (part ^ part >> 24) * factor;
    }
    if (at < key.size) hash = (hash ^ word(key, at, 4)) * factor;
    hash = (hash ^ hash >> 13) * factor;
    return hash ^ hash >> 15;
}

/* ---- predixy ---- */

/* The number that the key begins with, 0 if with none. A negative one counts modulo 2^64, as predixy does. */
static uint64_t hash_atol(struct slice key)
{
    uint64_t number = 0;
    size_t at = key.size && (key.bytes[0] == '+' || key.bytes[0] == '-');
    for (; at < key.size && key.bytes[at] >= '0' && key.bytes[at] <= '9'; at++)
        number = number * 10 + (uint64_t)(key.bytes[at] - '0');
    return key.size && key.bytes[0] == '-' ? -number : number;
}
