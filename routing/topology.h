/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * topology.h - what there is behind us: nodes, shards, slots, as one immutable snapshot.
 *
 * A Sentinel master or a static set is a cluster of one shard that owns all 16384 slots. The control thread
 * builds a snapshot and publishes it; workers read it. Nothing in it changes after that, except the gauges,
 * which are relaxed atomics that only the control thread writes (and dedicated, which workers count).
 *
 * Owner:   counted: topology_create() gives one reference; take/release from any thread.
 * Threads: immutable, so any.
 */
#ifndef ROUTING_TOPOLOGY_H
#define ROUTING_TOPOLOGY_H

#include "routing/command.h"

#include <stdatomic.h>
#include <stdint.h>

#define TOPOLOGY_SLOTS 16384
#define TOPOLOGY_NO_NODE UINT32_MAX

enum node_role {
    NODE_ROLE_UNKNOWN,
    NODE_ROLE_MASTER,
    NODE_ROLE_REPLICA,
};

/* What changes about a node faster than snapshots do. One per node name, kept over snapshots, counted. */
struct node_gauge {
    atomic_uint references;
    _Atomic uint32_t round_trip_us; /* smoothed round trip of the control thread's PING; 0 = not measured */
    _Atomic uint32_t dedicated;     /* dedicated connections open to it, over all workers */
};

struct topology_node {
    const char *name;     /* host:port as configured or announced (after the address map); names the node in logs */
    const char *address;  /* numeric IP address, or path of a unix socket when port is 0 */
    uint16_t port;
    enum node_role role;
    bool is_fit;          /* may serve reads: master that answers, or replica with its link to this master up,
                             not loading or syncing, not called down */
    const char *reason;   /* why it is not fit, in words; "" if it is */
    struct node_gauge *gauge;
};

struct topology_shard {
    uint32_t master;       /* index into nodes; TOPOLOGY_NO_NODE while there is none to write to */
    const uint32_t *replicas; /* indices of the fit replicas only */
    uint32_t replica_count;
    uint64_t confirmed_us; /* monotonic time at which the check began that found master to be the master. A worker
                              that lost its connection later than this waits for a newer snapshot before it writes
                              to that node again: so a node that came back never gets a write before it is asked
                              whether it still is the master. */
};

struct topology {
    atomic_uint references;
    uint64_t version;  /* counts snapshots of one upstream, from 1 */
    uint64_t epoch;    /* config epoch of the master's election as Sentinel counts it; 0 where there is none */
    const char *kind;  /* "sentinel", "static"; "" while nothing was reached */
    const char *server_version; /* redis_version of the master or of the last node asked; "" if none was */
    struct topology_node *nodes;
    uint32_t node_count;
    struct topology_shard *shards;
    uint32_t shard_count;
    struct command_set *commands;
    uint16_t slots[TOPOLOGY_SLOTS]; /* slot -> shard */
};

/* Builder input: what discovery knows. Strings are copied; a gauge is taken (one more reference). */
struct topology_draft {
    uint64_t version, epoch, confirmed_us;
    const char *kind;
    const char *server_version;
    struct topology_node *nodes;
    uint32_t node_count;
    uint32_t master; /* index or TOPOLOGY_NO_NODE */
    struct command_set *commands; /* taken; NULL means the builtin set */
};

/* A snapshot of one shard. NULL if memory is short. */
struct topology *topology_create(const struct topology_draft *draft);
struct topology *topology_take(struct topology *topology);
void topology_release(struct topology *topology);

struct node_gauge *node_gauge_create(void);
struct node_gauge *node_gauge_take(struct node_gauge *gauge);
void node_gauge_release(struct node_gauge *gauge);

static inline const struct topology_shard *topology_shard_of_slot(const struct topology *topology, uint32_t slot)
{
    return &topology->shards[topology->slots[slot]];
}

/* True if both say the same of nodes, roles, fitness and addresses (version, epoch and times aside). */
bool topology_is_same(const struct topology *a, const struct topology *b);

#endif
