/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reconnect.h - when to try again to connect to a node or a Sentinel.
 *
 * The wait doubles from 100 ms and stays under a second, with jitter, so that many proxies do not come back
 * in step, and yet a node that has come up is found within a second.
 *
 * Owner:   embedded in what connects; seed must not be 0. Threads: one only.
 */
#ifndef PROXY_RECONNECT_H
#define PROXY_RECONNECT_H

#include "routing/backoff.h"

#define RECONNECT_FIRST_MS 100U
#define RECONNECT_LAST_MS  800U

struct reconnect {
    uint64_t seed;
    uint32_t failures;
};

static inline void reconnect_reset(struct reconnect *reconnect)
{
    reconnect->failures = 0;
}

/* Counts one failure and gives the wait after it, in seconds: half of the nominal time plus a share of the
 * rest. */
static inline double reconnect_wait_s(struct reconnect *reconnect)
{
    uint32_t nominal_ms = RECONNECT_LAST_MS;
    if (reconnect->failures < 3) nominal_ms = RECONNECT_FIRST_MS << reconnect->failures;
    reconnect->failures++;
    uint32_t half_ms = nominal_ms / 2;
    uint32_t wait_ms = half_ms + random_below(&reconnect->seed, half_ms + 1);
    return (double)wait_ms / 1000.0;
}

#endif
