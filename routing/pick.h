/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pick.h - which node gets this read?
 *
 * Each read policy is one row of a small table in pick.c: which nodes it looks at first and which then. Among
 * equals two are drawn at random and the one with fewer unanswered requests wins ("the power of two choices",
 * Mitzenmacher 2001): near the best spread, at a cost that does not grow with the number of nodes.
 *
 * A read may ask for a replica that is fresh as of later than some time (freshness.h); others do not count as fit then.
 *
 * Pure: the load is the worker's own count, chance comes as a seed.
 */
#ifndef ROUTING_PICK_H
#define ROUTING_PICK_H

#include "routing/topology.h"

#include <stdbool.h>
#include <stdint.h>

enum pick_policy { /* in the order of enum reads_policy in config.h */
    PICK_MASTER,
    PICK_PREFER_MASTER,
    PICK_REPLICA,
    PICK_PREFER_REPLICA,
    PICK_NEAREST,
    PICK_POLICY_COUNT,
};

/* A worker's own view of one node, in the order of topology->nodes. */
struct pick_load {
    uint32_t outstanding; /* requests sent or queued there and not answered */
    bool is_usable;       /* false while this worker cannot reach it */
    bool is_quick;        /* a replica that answers soon: what is read from it in one turn may go there together */
    bool is_gray;         /* much slower than its siblings: read from only if there is no other. Of no matter to writes */
    uint8_t held_back;    /* of 256 reads it would get, so many go to another that was drawn with it: pick_held_back() */
};

#define PICK_NONE UINT32_MAX

/* The replica that a client has drawn, which is the same as long as the topology is: it need not be drawn again, however
 * many there are. All zero at first. */
struct pick_memo {
    uint64_t version; /* topology->version; 0 = nothing is known */
    uint32_t shard;
    uint32_t node;
};

/* Nodes about as near as the nearest of a shard, looked for now and then: of many, not all need be looked at for each
 * read. All zero at first. */
struct pick_near {
    uint64_t version;  /* topology->version; 0 = nothing is known */
    uint64_t until_ms; /* they are looked for again then */
    uint32_t shard;
    uint32_t count;
    uint32_t nodes[32]; /* if there are more, some of them, others each time */
};

/* How much a node is held back that came back so long ago: its share grows evenly until slow_start_ms. */
uint8_t pick_held_back(uint64_t since_ms, uint64_t slow_start_ms);

/* The node for a read of this shard that asks for replicas fresh as of later than fresh_after_us (FRESHNESS_ANY: for
 * any); avoid (or PICK_NONE) is taken only if there is no other. PICK_NONE if no node that the policy allows is fit and
 * usable. */
uint32_t pick_read(const struct topology *topology, const struct topology_shard *shard,
                   const struct pick_load *loads, enum pick_policy policy, uint64_t fresh_after_us, uint32_t avoid,
                   uint64_t *seed);

/* What reads of one shard have come to in a turn of the loop. Zeroed memory is one that has not begun; so it must be made when
 * the topology is another. */
struct pick_batch {
    uint64_t turn;
    const struct topology_shard *shard;
    uint32_t node;
    uint32_t left; /* so many more go there */
};

enum {
    PICK_BATCH = 32,      /* reads of a turn that go to one replica before another is looked for */
    PICK_QUICK_US = 2000, /* what is behind so many must not wait long: a replica is_quick that takes less than this */
};

/*
 * The same as pick_read() with nobody to avoid, for many reads of one turn of a loop, which is not 0 and differs from the turn
 * before: they go to one replica, if that is quick and fit for each of them, since a replica costs a system call to write to and
 * another to read from. The first of each batch is drawn as ever, so that over many turns all replicas have their share.
 */
uint32_t pick_batched_read(const struct topology *topology, const struct topology_shard *shard,
                           const struct pick_load *loads, enum pick_policy policy, uint64_t fresh_after_us,
                           struct pick_batch *batch, uint64_t turn, uint64_t *seed);

/* pick_read() with PICK_NEAREST, for one who asks often: how near they are, and who has come back, is seen a moment
 * later; who cannot be used any more is not picked. */
uint32_t pick_near_read(const struct topology *topology, const struct topology_shard *shard,
                        const struct pick_load *loads, uint64_t fresh_after_us, uint64_t *seed,
                        struct pick_near *near, uint64_t now_ms);

/* The same for a client that must not go back in time: of all replicas of the shard it reads from one only, which its id
 * tells, or from the master. Another one it is when the replicas of the shard are others. memo is that client's, or NULL. */
uint32_t pick_session_read(const struct topology *topology, const struct topology_shard *shard,
                           const struct pick_load *loads, enum pick_policy policy, uint64_t fresh_after_us,
                           uint64_t client_id, struct pick_memo *memo);

/* The replica that a client keeps to, by its id: another one only while that is not fit and usable. Clients are spread
 * evenly, whatever replicas come and go. PICK_NONE if there is none. memo is that client's, or NULL. */
uint32_t pick_own_replica(const struct topology *topology, const struct topology_shard *shard,
                          const struct pick_load *loads, uint64_t client_id, struct pick_memo *memo);

/* The node for a write, or PICK_NONE while there is none that is known to be the master, answers, and is not about to
 * hand over to another. */
uint32_t pick_write(const struct topology *topology, const struct topology_shard *shard,
                    const struct pick_load *loads);

#endif
