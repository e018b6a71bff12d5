/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * backoff.h - how long to wait before the next attempt to connect.
 *
 * Doubles from 100 ms and stays under a second, with jitter, so that many proxies do not come back to a node in
 * step, and yet a node that has come up is found within a second.
 *
 * Owner:   embedded; seed must not be 0. Threads: one only.
 */
#ifndef PROXY_BACKOFF_H
#define PROXY_BACKOFF_H

#include <stdint.h>

#define BACKOFF_FIRST_MS 100U
#define BACKOFF_LAST_MS  800U

struct backoff {
    uint64_t seed;
    unsigned failures;
};

static inline void backoff_reset(struct backoff *backoff)
{
    backoff->failures = 0;
}

/* Counts one failure and gives the wait after it: half of the nominal time, plus a random share of the rest. */
static inline double backoff_next_s(struct backoff *backoff)
{
    unsigned nominal_ms = BACKOFF_LAST_MS;
    if (backoff->failures < 3) nominal_ms = BACKOFF_FIRST_MS << backoff->failures;
    backoff->failures++;

    backoff->seed ^= backoff->seed << 13; /* xorshift64, Marsaglia 2003 */
    backoff->seed ^= backoff->seed >> 7;
    backoff->seed ^= backoff->seed << 17;
    unsigned half_ms = nominal_ms / 2;
    return (double)(half_ms + (unsigned)(backoff->seed >> 33) % (half_ms + 1)) / 1000.0;
}

#endif
