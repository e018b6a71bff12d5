/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hold.h - may one more request wait until there is a master?
 *
 * Counts what is held and refuses beyond the bounds of [failover]. The queue itself is the worker's.
 *
 * Owner:   embedded in a worker's view of one upstream; allocates nothing.
 * Threads: one worker only, no locks.
 */
#ifndef ROUTING_HOLD_H
#define ROUTING_HOLD_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hold {
    uint64_t requests, bytes;         /* held now */
    uint64_t max_requests, max_bytes; /* this worker's share of the bounds */
};

/* The bounds hold for the process; each of `workers` gets an equal share, rounded up. */
static inline struct hold hold_share(uint64_t max_requests, uint64_t max_bytes, uint64_t workers)
{
    return (struct hold){.max_requests = (max_requests + workers - 1) / workers,
                         .max_bytes = (max_bytes + workers - 1) / workers};
}

/* True if it may wait; it is counted then until hold_leave(). A single request larger than max_bytes may still
 * wait when nothing else does. */
static inline bool hold_enter(struct hold *hold, size_t bytes)
{
    if (hold->requests >= hold->max_requests)
        return false;
    if (hold->requests > 0 && hold->bytes + bytes > hold->max_bytes)
        return false;
    hold->requests++;
    hold->bytes += bytes;
    return true;
}

static inline void hold_leave(struct hold *hold, size_t bytes)
{
    assert(hold->requests > 0 && hold->bytes >= bytes);
    hold->requests--;
    hold->bytes -= bytes;
}

#endif
