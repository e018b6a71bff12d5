/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * topology.h - what there is behind us: nodes, shards, slots, as one immutable snapshot.
 *
 * A Sentinel master or a static set is a cluster of one shard that owns all 16384 slots. What a key belongs to is
 * its place: keys of one place are always together. In a Redis Cluster the place is the slot; where a distribution
 * of ours spreads keys over masters that know nothing of each other, it is the shard itself.
 *
 * The control thread
 * builds a snapshot and publishes it; workers read it. Nothing in it changes after that, except the gauges,
 * which are relaxed atomics that only the control thread writes (and those that workers keep).
 *
 * Owner:   counted: topology_create() gives one reference; take/release from any thread.
 * Threads: immutable, so any.
 */
#ifndef ROUTING_TOPOLOGY_H
#define ROUTING_TOPOLOGY_H

#include "routing/breaker.h"
#include "routing/command.h"

#include <stdatomic.h>
#include <stdint.h>

#define TOPOLOGY_SLOTS 16384
#define TOPOLOGY_NO_NODE UINT32_MAX
#define TOPOLOGY_NO_SHARD UINT16_MAX
#define TOPOLOGY_SHARDS_MAX 4096

struct distribution;

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
    _Atomic uint64_t fresh_us;      /* of a replica: as of when it is fresh (freshness.h); 0 = nobody knows */
    atomic_bool is_behind;          /* of a master: a read would go to a replica if one were fresher. Workers set it, the
                                       control thread takes it back when it asks */
    _Atomic uint32_t connecting;    /* connections of any kind that are not ready yet, over all workers */
    _Atomic uint32_t latency_us;    /* average of the worker that measured last what requests take; 0 = not measured */
    struct breaker breaker;         /* workers change it */
};

struct topology_node {
    const char *name;     /* host:port as configured or announced (after the address map); names the node in logs */
    const char *address;  /* numeric IP address, or path of a unix socket when port is 0 */
    uint16_t port;
    enum node_role role;
    uint16_t shard;       /* whose master or replica it is; TOPOLOGY_NO_SHARD: not known to be any's */
    bool is_fit;          /* may serve reads: master that answers, or replica with its link to this master up,
                             not loading or syncing, not called down */
    bool is_new;          /* it has not said yet what it is, or not all of that */
    bool is_silent;       /* it does not answer PING */
    bool says_master;     /* and answers, but is not the one accepted */
    bool is_rival;        /* ... and still did when the accepted one had been that for a while: two masters */
    const char *reason;   /* why it is not fit, in words; "" if it is */
    struct node_gauge *gauge;
};

struct topology_shard {
    uint32_t master;       /* index into nodes; TOPOLOGY_NO_NODE while there is none to write to */
    bool is_master_fit;    /* nodes[master].is_fit: beside it, since both are asked for each command */
    bool is_yielding;      /* its master is about to hand over to a replica: it may be read from, and gets no write */
    bool is_spare;         /* it has no slots yet, or no more, and others have: nothing is missed without its master */
    uint32_t replica_count;
    uint32_t rival;        /* two masters: the node that says it is the master, too; TOPOLOGY_NO_NODE mostly. It gets no
                              writes, and no reads */
    const uint32_t *replicas; /* indices of the fit replicas only */
    uint64_t confirmed_us; /* monotonic time at which the check began that found master to be the master. A worker
                              that lost its connection later than this waits for a newer snapshot before it writes
                              to that node again: so a node that came back never gets a write before it is asked
                              whether it still is the master. */
    uint64_t epoch;        /* config epoch of the master's election in a Redis Cluster; 0 elsewhere */
};

/* A shard by the least of its nodes' names: that stays when its master is replaced, or lost for a while. */
struct topology_rank {
    const char *name; /* of the node; "" for a shard without any */
    uint16_t shard;
};

struct topology {
    atomic_uint references;
    uint64_t version;  /* counts snapshots of one upstream, from 1 */
    uint64_t epoch;    /* config epoch of the master's election as Sentinel counts it; 0 where there is none */
    const char *kind;  /* "sentinel", "static", "cluster"; "" while nothing was reached */
    const char *server_version; /* redis_version of the master or of the last node asked; "" if none was */
    struct topology_node *nodes;
    uint32_t node_count;
    struct topology_shard *shards;
    uint32_t shard_count;      /* at least 1 */
    const struct topology_rank *ranked; /* all shards, by name: an order that who sees the same nodes agrees on */
    uint32_t disputed;         /* shards with two masters */
    uint32_t slots_owned;      /* those that some shard has */
    bool is_cluster;           /* the nodes are a Redis Cluster: they redirect, and each command keeps to one slot */
    const struct distribution *distribution; /* how keys are spread over shards, if not by Redis' own slots; NULL
                                                mostly. Outlives all snapshots. */
    struct command_set *commands;
    uint16_t slots[TOPOLOGY_SLOTS]; /* place -> shard, or TOPOLOGY_NO_SHARD where nobody has it */
};

/* One shard as discovery knows it. */
struct topology_draft_shard {
    uint32_t master; /* index or TOPOLOGY_NO_NODE */
    uint64_t confirmed_us, epoch;
    bool is_yielding;
};

/* Builder input: what discovery knows. Strings are copied; a gauge is taken (one more reference). */
struct topology_draft {
    uint64_t version, epoch, confirmed_us;
    const char *kind;
    const char *server_version;
    struct topology_node *nodes;
    uint32_t node_count;
    uint32_t master; /* index or TOPOLOGY_NO_NODE; where there is but one shard, to which all nodes belong */
    const struct topology_draft_shard *shards; /* NULL: one, of master and confirmed_us above; else nodes name theirs */
    uint32_t shard_count;
    const uint16_t *slots; /* TOPOLOGY_SLOTS of them; NULL: place n is of shard n % shard_count */
    bool is_cluster;
    const struct distribution *distribution;
    struct command_set *commands; /* taken; NULL means the builtin set */
};

/* NULL if memory is short. */
struct topology *topology_create(const struct topology_draft *draft);
struct topology *topology_take(struct topology *topology);
void topology_release(struct topology *topology);

struct node_gauge *node_gauge_create(void);
struct node_gauge *node_gauge_take(struct node_gauge *gauge);
void node_gauge_release(struct node_gauge *gauge);

/* The place of a key. Where there is but one shard nobody need ask. */
uint32_t topology_place_of(const struct topology *topology, struct slice key);

/* The shard of a place, as an index; TOPOLOGY_NO_SHARD while nobody has it. */
static inline uint16_t topology_shard_of(const struct topology *topology, uint32_t place)
{
    return topology->slots[place];
}

/* As of when a replica shows all writes, in microseconds of the monotonic clock; 0 = nobody knows. */
static inline uint64_t topology_fresh_us(const struct topology_node *node)
{
    return atomic_load_explicit(&node->gauge->fresh_us, memory_order_relaxed);
}

/* True if both say the same of nodes, roles, fitness and addresses, and confirm the same masters (version, epoch and times
 * aside). */
bool topology_is_same(const struct topology *a, const struct topology *b);

#endif
