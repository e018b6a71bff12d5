/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pooling.h - how many connections to a node, and for how long?
 *
 * Connections that were opened together (after a restart of the node, or of the proxy) would also end together if all had the
 * same life, and come back together: so each draws its own.
 *
 * Pure: no state, no clock; the seed must not be 0.
 */
#ifndef ROUTING_POOLING_H
#define ROUTING_POOLING_H

#include "routing/backoff.h"

#include <stdbool.h>

enum {
    POOLING_CONNECTS_MOST = 16,  /* to one node at a time, over all workers, of those that clients have to themselves */
    POOLING_AT_ONCE_NODES = 16,  /* up to so many nodes get their shared connections as soon as they are known */
    POOLING_SPREAD_MS = 5,       /* ... of more, each within so long times their number */
};

/* When a connection made now is to be retired: its life is within 20 % of the nominal one. 0, never, where that is 0. */
static inline uint64_t pooling_retire_at_ms(uint64_t now_ms, uint64_t lifetime_ms, uint64_t *seed)
{
    uint64_t fifth_ms = lifetime_ms / 5;
    return lifetime_ms ? now_ms + lifetime_ms - fifth_ms + random_next(seed) % (2 * fifth_ms + 1) : 0;
}

/* A worker's part of connections that are counted over all: the first ones get what is left over. */
static inline uint32_t pooling_share(uint32_t total, uint32_t workers, uint32_t worker)
{
    return total / workers + (worker < total % workers);
}

/* True if one more may be opened while so many to this node are not yet ready. */
static inline bool pooling_may_connect(uint32_t connecting)
{
    return connecting < POOLING_CONNECTS_MOST;
}

/* When the shared connections to a node that has just become known are opened. */
static inline uint64_t pooling_open_at_ms(uint64_t now_ms, uint32_t nodes, uint64_t *seed)
{
    return nodes <= POOLING_AT_ONCE_NODES ? now_ms : now_ms + random_below(seed, nodes * POOLING_SPREAD_MS);
}

#endif
