/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * freshness.h - may a replica answer this read without hiding a write?
 *
 * A replica is fresh as of a time T if it shows every write that was acknowledged before T. The control thread asks a
 * master for its replication offset at T; whoever has applied the same history up to there, whenever it says so, is fresh
 * as of T (struct freshness_samples). A read then needs one comparison: is T later than the read asks for?
 *
 *      consistency   a read of a key asks for
 *      eventual      nothing
 *      session       the time at which its own client was last answered about this key: a write, or a read by the master
 *                    (struct freshness_session)
 *      proxy         the time at which the last write to this key was answered, whoever wrote (struct freshness)
 *
 * A write that is on its way may be carried out at any moment, and be seen at the master before it is answered: until
 * it is, reads of its key ask for the master alone (FRESHNESS_OF_MASTER).
 *
 * Keys are known by a cell of a table, which several may share: then more is asked for than need be, never less. All
 * times are microseconds of one monotonic clock, and are read after what they are to be later than: of an answer after
 * it came, of a question before it went.
 *
 * Owner:   a freshness belongs to the control thread's view of one upstream and outlives all workers' views of it; samples and
 *          sessions are embedded and allocate nothing.
 * Threads: a freshness is for all threads (relaxed order suffices for the marks of one key; what a client may know of has
 *          been released before it was told); samples for the control thread, sessions for one worker.
 */
#ifndef ROUTING_FRESHNESS_H
#define ROUTING_FRESHNESS_H

#include "routing/slice.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define FRESHNESS_CELLS     65536
#define FRESHNESS_PLACES    16384 /* slots of a Redis Cluster */
#define FRESHNESS_OF_MASTER UINT64_MAX
#define FRESHNESS_ANY       0  /* any replica that is fit */
#define FRESHNESS_KNOWN     1  /* any that has been found to have the master's history */

/* ---- what has been written, by anybody ---- */

struct freshness_cell {
    _Atomic uint64_t answered_us; /* when the last write to it was answered, or was lost; 0 = never */
    _Atomic uint32_t in_flight;   /* writes to it that are with a node */
};

struct freshness {
    uint64_t seed;
    struct freshness_cell all; /* writes whose keys nobody knows */
    _Atomic uint64_t version;  /* the newest topology by which a write has been sent */
    atomic_bool is_wanted;     /* a read has gone to the master for want of a fresher replica: a round of questions is due now */
    atomic_bool is_due;        /* something was written: one is due soon */
    atomic_bool has_unsettled; /* any place, ever: else settled_us, which is larger than a cache, need not be looked at */
    /* A place that is on its way to another shard has keys at both, and a replica knows of those alone that its own master has,
     * or had. So the masters answer until this time, and then replicas that are fresh as of later. 0 = it is not on its way. */
    _Atomic uint64_t settled_us[FRESHNESS_PLACES];
    struct freshness_cell cells[FRESHNESS_CELLS];
};

/* NULL if memory is short. The seed keeps clients from knowing which keys share a cell. */
struct freshness *freshness_create(uint64_t seed);
void freshness_destroy(struct freshness *freshness);

/* The cell of a key. */
uint32_t freshness_cell_of(const struct freshness *freshness, struct slice key);

/* A write to the cell is given to a node; it was answered, or lost; it changed nothing, since no byte of it left or the node
 * refused it, and goes elsewhere. */
static inline void freshness_begin(struct freshness_cell *cell)
{
    atomic_fetch_add_explicit(&cell->in_flight, 1, memory_order_relaxed);
}
void freshness_end(struct freshness_cell *cell, uint64_t now_us);
static inline void freshness_cancel(struct freshness_cell *cell)
{
    atomic_fetch_sub_explicit(&cell->in_flight, 1, memory_order_release);
}

/* What a read of this cell asks for. */
static inline uint64_t freshness_asked(const struct freshness_cell *cell)
{
    if (atomic_load_explicit(&cell->in_flight, memory_order_acquire) > 0) return FRESHNESS_OF_MASTER;
    return atomic_load_explicit(&cell->answered_us, memory_order_relaxed);
}

static inline void freshness_unsettle(struct freshness *freshness, uint32_t place, uint64_t until_us)
{
    if (place >= FRESHNESS_PLACES) return;
    atomic_store_explicit(&freshness->settled_us[place], until_us, memory_order_release);
    atomic_store_explicit(&freshness->has_unsettled, true, memory_order_release);
}
static inline uint64_t freshness_settled_us(const struct freshness *freshness, uint32_t place)
{
    if (place >= FRESHNESS_PLACES || !atomic_load_explicit(&freshness->has_unsettled, memory_order_acquire)) return 0;
    return atomic_load_explicit(&freshness->settled_us[place], memory_order_acquire);
}

/* A write goes to the master of that topology. A worker that has an older one does not know who is the master now. */
static inline void freshness_note_version(struct freshness *freshness, uint64_t version)
{
    uint64_t before = atomic_load_explicit(&freshness->version, memory_order_relaxed);
    while (before < version && !atomic_compare_exchange_weak_explicit(&freshness->version, &before, version,
                                                                      memory_order_release, memory_order_relaxed)) {
    }
}
static inline bool freshness_is_behind(const struct freshness *freshness, uint64_t version)
{
    return atomic_load_explicit(&freshness->version, memory_order_acquire) > version;
}

/* ---- what one client has written and read ---- */

#define FRESHNESS_SEEN_MAX 32

/* What a client knows of a key obliges for that key alone: read your writes, and monotonic reads (Terry and others, "Session
 * guarantees for weakly consistent replicated data", 1994). What it knows longer than replicas lag is of no weight. */
struct freshness_session {
    uint64_t floor_us; /* of keys that are forgotten, or that nobody knows */
    uint64_t seen_us[FRESHNESS_SEEN_MAX]; /* 0 = none */
    uint32_t seen[FRESHNESS_SEEN_MAX];    /* cells */
};

/* It knows of what nobody can tell the key of. */
static inline void freshness_session_raise(struct freshness_session *session, uint64_t now_us)
{
    if (session->floor_us < now_us) session->floor_us = now_us;
}

/* It knows of the cell as it was at that time, or before. The oldest is forgotten for it and counts for all keys from then on. */
void freshness_session_saw(struct freshness_session *session, uint32_t cell, uint64_t now_us);

/* What a read of this cell asks for. */
uint64_t freshness_session_asked(const struct freshness_session *session, uint32_t cell);

/* ---- how far replicas are ---- */

#define FRESHNESS_SAMPLES_MAX 64
#define FRESHNESS_HISTORY_SIZE 41 /* of a replication id, and the byte that ends it */

struct freshness_samples {
    char history[FRESHNESS_HISTORY_SIZE]; /* the master's replication id; "" = there are none */
    struct freshness_sample {
        uint64_t asked_us;
        int64_t offset;
    } samples[FRESHNESS_SAMPLES_MAX]; /* the newest last; no two with one offset */
    uint32_t count;
};

/* What a master has said when it was asked at that time. Another history, or an offset that goes back, forgets all that
 * came before. */
void freshness_sample(struct freshness_samples *samples, const char *history, int64_t offset, uint64_t asked_us);

/* As of when a replica of that history that has applied so much is fresh; 0 if nobody knows. */
uint64_t freshness_of(const struct freshness_samples *samples, const char *history, int64_t offset);

#endif
