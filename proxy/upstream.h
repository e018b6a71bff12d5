/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * upstream.h - one worker's view of one upstream: the topology it acts on, a backend for each node, and the
 * requests that are held until there is a node for them.
 *
 * upstream_dispatch() is the one way for a request to a node, the first time and every time again.
 *
 * Owner:   its worker. Threads: one worker only.
 */
#ifndef PROXY_UPSTREAM_H
#define PROXY_UPSTREAM_H

#include "proxy/backend.h"
#include "proxy/config.h"
#include "routing/freshness.h"
#include "routing/budget.h"
#include "routing/hold.h"

struct worker;

enum { UPSTREAM_BATCHES = 16 }; /* shards of which a batch is kept, and who is near */

struct upstream {
    struct worker *worker;
    uint32_t index;
    const struct config_upstream *config;
    struct topology *topology;  /* one reference; never NULL */
    struct backend *backends;
    struct backend **by_node;   /* in the order of topology->nodes */
    struct pick_load *loads;    /* the same; each backend keeps its own up to date */
    struct pick_near near[UPSTREAM_BATCHES]; /* of shards that were read from last by the policy nearest, by their number */
    struct hold hold;
    struct budget budget;       /* of what was lost and is sent again */
    uint64_t unearned;          /* requests sent for the first time that it has not heard of */
    struct command_memo memo;   /* of the topology's commands */
    struct pick_batch batches[UPSTREAM_BATCHES]; /* of shards, by their number */
    struct request_queue held;
    ev_timer release;           /* tries the held again when a backend may be retried */
    const struct backend *last_master; /* the node that was last named as such; NULL = none, or it is retired */
    uint32_t master_epoch;      /* counts its changes, from 1 */
    uint32_t replaced_epoch;    /* of the last that was a replica before; 0 = there was none. Of several shards */
    uint32_t highest_database;  /* SELECT of this and all below is known to be good */
    struct freshness *freshness; /* what writes mark, for reads from replicas; control's */
    bool asks_freshness;        /* some read may ask for a fresh replica */
    bool has_replicas;          /* any that is fit */
    uint32_t replicas_epoch;    /* counts changes of which replicas are fit; may wrap */
    uint64_t replicas_changed_us; /* when that was last */
    bool is_holding;            /* said so in the log; until there is a master again */
    uint64_t failed_held;       /* ended by their deadline since then */

    /* Where there are several shards; see redirect.h. */
    bool is_sharded;            /* places matter: several shards, or a Redis Cluster */
    uint32_t with_ears;         /* clients that have any (ears.h) */
    bool is_awaited;            /* clients wait for the first topology (STALL_TOPOLOGY) */
    uint16_t *moved;            /* shard + 1 of a place that has moved since the topology was made; 0 = it has not */
    bool has_moved;             /* any has */
    uint32_t map_count;         /* counts changes of what place belongs to which shard, as far as is known; may wrap */
    uint16_t first_shard;       /* of the first place that is anybody's */
    uint64_t *unsettled_ms;     /* until when a place is on its way, or may be */
    uint64_t unsettled_until_ms;/* the latest of these */
};

bool upstream_init(struct upstream *upstream, struct worker *worker, uint32_t index,
                   const struct config_upstream *config);
void upstream_finish(struct upstream *upstream);

/* Acts on a new snapshot; takes the reference. */
void upstream_adopt(struct upstream *upstream, struct topology *topology);

/* Sends the request on its way: to a connection, to the held, or back to its client with an error. */
void upstream_dispatch(struct upstream *upstream, struct request *request);

/* Queues a request on its client's own connection. It may end with an error instead. */
void upstream_send_dedicated(struct upstream *upstream, struct connection *connection, struct request *request);

/* Takes a held or waiting request out, because its client goes. */
void upstream_forget(struct upstream *upstream, struct request *request);

/* Dispatches all held requests once more, in order. */
void upstream_release_held(struct upstream *upstream);

/* What waits for a connection of this backend is held instead, or goes elsewhere, in order with all held requests. */
void upstream_release_waiting(struct upstream *upstream, struct backend *backend);

/* Sets until when a request may be held, unless it has been before. */
void upstream_limit_holding(struct request *request);

/* Ends all held requests, and those that wait for a connection, with an error. */
void upstream_fail_held(struct upstream *upstream, enum error error);

/* True if one that was lost may be sent again, as far as the budget goes. */
bool upstream_may_repeat(struct upstream *upstream);

/* In all other workers: a node of this upstream, tried by this worker, is well again. */
void upstream_spread_word(struct upstream *upstream);

/* A backend may be retried at that time: see that the held are then tried. */
void upstream_retry_at(struct upstream *upstream, uint64_t at_ms);

/* True while it is not known what there is behind us, so that nobody can say where a command goes. The client is then
 * stalled, or, if it has waited for failover.hold_time, answered. */
bool upstream_awaits_topology(struct upstream *upstream, struct client *client, const struct request *traits);

void upstream_tick(struct upstream *upstream);

/* Has the replicas of this master asked how fresh they are, now or soon. */
void upstream_want_fresher(struct upstream *upstream, struct node_gauge *master, bool is_urgent);

/* Has all replicas asked, now. */
void upstream_refresh_replicas(struct upstream *upstream);

/* The master of a shard, or NULL while there is none that may be written to. */
struct backend *upstream_master(const struct upstream *upstream, uint16_t shard);

/* The master that this client's writes went to, if it still is one; where there are several shards. */
const struct backend *upstream_written_master(const struct upstream *upstream, const struct client *client);

/* The shard that a request goes to; TOPOLOGY_NO_SHARD while nobody has its place. */
uint16_t upstream_shard_of(const struct upstream *upstream, const struct request *request);

/* Where what names no key goes: the shard of the first place, so that all clients meet, and PUBLISH counts them. */
uint16_t upstream_meeting_shard(const struct upstream *upstream);

/* The place may be on its way from one node to another: requests for it go one by one, so that they stay in order. */
void upstream_unsettle(struct upstream *upstream, uint32_t place, uint64_t for_ms);

static inline bool upstream_is_unsettled(const struct upstream *upstream, uint32_t place, uint64_t now_ms)
{
    return now_ms < upstream->unsettled_until_ms && place < TOPOLOGY_SLOTS && now_ms < upstream->unsettled_ms[place];
}

/* True if a connection leads to what is now the master of its shard. */
bool upstream_is_master(const struct upstream *upstream, const struct connection *connection);

/* True if this is a write, and the connection leads to a master that is about to hand over. */
bool upstream_spares(const struct upstream *upstream, const struct connection *connection,
                     const struct request *request);

/* True if the node at its end, a replica, is known to be as fresh as the request asks. */
bool upstream_is_proven(const struct connection *connection, const struct request *request);

/* True if the connection leads to what may be given the request, as far as it needs the master or a fresh replica. */
bool upstream_suits(const struct upstream *upstream, const struct connection *connection, const struct request *request);

#endif
