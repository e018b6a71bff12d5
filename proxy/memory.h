/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * memory.h - how much memory requests and replies of all clients take together, and what is done where that is too much.
 *
 * Whoever allocates for them (chunk.c, slab.c) counts, in one number for the process. Each client is bounded by itself; with
 * many of them the sum is not. Above proxy.max_memory
 *
 *   - no client is given more than one unanswered request at a time, so that what waits for nodes does not grow;
 *   - every few milliseconds the clients go that have most of what going would free (input not looked at, replies not read, requests that
 *     are held), until the sum is below: each worker knows its own, and the largest of the others by what they have told last.
 *
 * After a burst the allocator would keep what it has: it is made to give it back once the need has been less for a while.
 *
 * Owner:   worker->memory belongs to its worker, but for the atomics. The numbers of the process are relaxed atomics.
 * Threads: memory_taken, memory_given, memory_is_over from any; else as said.
 */
#ifndef PROXY_MEMORY_H
#define PROXY_MEMORY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct worker;

struct memory_trim {
    uint64_t highest_bytes;   /* since memory was given back last */
    uint64_t recent_bytes[2]; /* the highest of this second, and of the one before */
    uint32_t ticks;           /* of this second */
};

struct memory_share {
    uint64_t looked_ms;             /* when that was asked last what follows */
    _Atomic uint64_t highest_bytes; /* that it has seen used since it was asked last */
    _Atomic uint64_t largest_bytes; /* that closing one of its clients would free; known only while there is too much */
    struct memory_trim trim;        /* of one worker, for the process */
};

extern _Atomic uint64_t memory_used_bytes;

static inline void memory_taken(size_t bytes)
{
    atomic_fetch_add_explicit(&memory_used_bytes, bytes, memory_order_relaxed);
}

static inline void memory_given(size_t bytes)
{
    atomic_fetch_sub_explicit(&memory_used_bytes, bytes, memory_order_relaxed);
}

static inline bool memory_is_over(uint64_t max_bytes)
{
    return atomic_load_explicit(&memory_used_bytes, memory_order_relaxed) > max_bytes;
}

/* What a configured bound of 0 means: half of the memory that the machine, or the control group, lets this process have. */
uint64_t memory_default_max(void);

/* Each turn of each worker, and each tick. */
void memory_turn(struct worker *worker);
void memory_tick(struct worker *worker);

/* Each tick of one worker, with what is used: true if for a second or two much less was needed than before, so that it is time
 * to give memory back. */
bool memory_should_trim(struct memory_trim *trim, uint64_t used_bytes);

#endif
