/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * chance.h - numbers that look random and are the same for the same seed (splitmix64).
 *
 * Owner: whoever holds the state, one number. Threads: one.
 */
#ifndef OPENLOOP_CHANCE_H
#define OPENLOOP_CHANCE_H

#include <stdint.h>

static inline uint64_t chance_next(uint64_t *state)
{
    uint64_t word = *state += 0x9e3779b97f4a7c15U;
    word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9U;
    word = (word ^ (word >> 27)) * 0x94d049bb133111ebU;
    return word ^ (word >> 31);
}

/* At least 0, less than 1. */
static inline double chance_share(uint64_t *state)
{
    return (double)(chance_next(state) >> 11) * 0x1p-53;
}

/* Less than `below`, which is at most 2^32. */
static inline uint32_t chance_below(uint64_t *state, uint64_t below)
{
    return (uint32_t)(((chance_next(state) >> 32) * below) >> 32);
}

#endif
