/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/md5.h"

enum { BLOCK_SIZE = 64, LENGTH_SIZE = 8, BLOCK_WORDS = BLOCK_SIZE / 4, ROUNDS = 4, STEPS = 64 };

/* 2^32 * |sin(i + 1)|, i from 0. */
static const uint32_t sines[STEPS] = {
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
    0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
    0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
    0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
    0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
    0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
    0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
    0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391,
};
static const unsigned char shifts[ROUNDS][4] = {
    {7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};

static void md5_block(const unsigned char *bytes, uint32_t digest[MD5_WORDS]);
static uint32_t md5_mix(uint32_t round, uint32_t x, uint32_t y, uint32_t z);
static uint32_t md5_word_of(uint32_t step);
static uint32_t rotate_left(uint32_t value, uint32_t bits);

void md5(struct slice bytes, uint32_t digest[MD5_WORDS])
{
    static const uint32_t begin[MD5_WORDS] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
    const unsigned char *rest = (const unsigned char *)bytes.bytes;
    size_t size = bytes.size;
    memcpy(digest, begin, sizeof(begin));
    for (; size >= BLOCK_SIZE; size -= BLOCK_SIZE, rest += BLOCK_SIZE)
        md5_block(rest, digest);

    /* The rest, a bit of one, zeros, and the length in bits: one block or two. */
    unsigned char last[2 * BLOCK_SIZE] = {0};
    if (size) memcpy(last, rest, size);
    last[size] = 0x80;
    size_t end = size + 1 + LENGTH_SIZE > BLOCK_SIZE ? 2 * BLOCK_SIZE : BLOCK_SIZE;
    uint64_t bits = (uint64_t)bytes.size * 8;
    for (size_t i = 0; i < LENGTH_SIZE; i++)
        last[end - LENGTH_SIZE + i] = (unsigned char)(bits >> 8 * i);
    for (size_t at = 0; at < end; at += BLOCK_SIZE)
        md5_block(last + at, digest);
}

static void md5_block(const unsigned char *bytes, uint32_t digest[MD5_WORDS])
{
    uint32_t words[BLOCK_WORDS];
    uint32_t a = digest[0], b = digest[1], c = digest[2], d = digest[3];
    for (size_t i = 0; i < BLOCK_WORDS; i++, bytes += 4)
        words[i] = bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;

    for (uint32_t step = 0; step < STEPS; step++) {
        uint32_t round = step / BLOCK_WORDS;
        uint32_t sum = a + md5_mix(round, b, c, d) + words[md5_word_of(step)] + sines[step];
        a = d;
        d = c;
        c = b;
        b += rotate_left(sum, shifts[round][step % 4]);
    }
    digest[0] += a;
    digest[1] += b;
    digest[2] += c;
    digest[3] += d;
}

/* The functions F, G, H and I of the RFC. */
static uint32_t md5_mix(uint32_t round, uint32_t x, uint32_t y, uint32_t z)
{
    switch (round) {
    case 0:
        return (x & y) | (~x & z);
    case 1:
        return (x & z) | (y & ~z);
    case 2:
        return x ^ y ^ z;
    default:
        return y ^ (x | ~z);
    }
}

/* Which word of the block a step takes. */
static uint32_t md5_word_of(uint32_t step)
{
    static const unsigned char first[ROUNDS] = {0, 1, 5, 0}, stride[ROUNDS] = {1, 5, 3, 7};
    uint32_t round = step / BLOCK_WORDS;
    return (first[round] + stride[round] * (step % BLOCK_WORDS)) % BLOCK_WORDS;
}

static uint32_t rotate_left(uint32_t value, uint32_t bits)
{
    return value << bits | value >> (32 - bits);
}
