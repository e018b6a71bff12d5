/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * backoff.h - how long to wait before the next try.
 *
 * Exponential with full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/):
 * the wait is drawn evenly from 0 .. min(max, base * 2^failures), so that many who failed together do not come
 * back together. The floor of one millisecond keeps a dead node from being asked in a busy loop.
 */
#ifndef ROUTING_BACKOFF_H
#define ROUTING_BACKOFF_H

#include <stdint.h>

/* xorshift64*: state must not be zero; see Vigna, "An experimental exploration of Marsaglia's xorshift
 * generators, scrambled" (2016). Good enough to spread load, not for secrets. */
static inline uint64_t random_next(uint64_t *seed)
{
    uint64_t x = *seed;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *seed = x;
    return x * UINT64_C(2685821657736338717);
}

static inline uint32_t random_below(uint64_t *seed, uint32_t bound)
{
    return (uint32_t)(((random_next(seed) >> 32) * bound) >> 32);
}

/* failures counts those in a row, from 1. Returns milliseconds. */
static inline uint64_t backoff_ms(uint32_t failures, uint64_t base_ms, uint64_t max_ms, uint64_t *seed)
{
    uint64_t ceiling = base_ms;
    for (uint32_t i = 1; i < failures && ceiling < max_ms; i++)
        ceiling *= 2;
    if (ceiling > max_ms)
        ceiling = max_ms;
    uint64_t wait = random_next(seed) % (ceiling + 1);
    return wait ? wait : 1;
}

#endif
