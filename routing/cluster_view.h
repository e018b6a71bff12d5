/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cluster_view.h - what one node of a Redis Cluster says of the whole: shards, their nodes, who owns which
 * slot.
 *
 * Read from its reply to CLUSTER SHARDS (7.0 and newer) or CLUSTER SLOTS; CLUSTER INFO adds how new that is.
 * The replies are those of RESP2 or RESP3, complete, as resp_reply_scan() found them; whatever else is in
 * them, reading ends with a status and costs no more than a small multiple of their size.
 *
 * A node's endpoint may be an address or a name; null or empty, where its address is of no use to clients or
 * not known even to itself: then it is the host that was asked; or "?", where it should have a name and has
 * none: then it is its "ip", if that is told.
 *
 * Owner:   cluster_view_read_...() gives a view, cluster_view_destroy() frees it.
 * Threads: no state; a view belongs to whoever has it.
 */
#ifndef ROUTING_CLUSTER_VIEW_H
#define ROUTING_CLUSTER_VIEW_H

#include "routing/topology.h"

#define CLUSTER_NODES_MAX 1000
#define CLUSTER_ID_SIZE   41
#define CLUSTER_HOST_SIZE 256

enum cluster_view_status {
    CLUSTER_VIEW_GOOD,
    CLUSTER_VIEW_REFUSED, /* an error reply */
    CLUSTER_VIEW_BAD,     /* no such reply: something is missing, doubled or out of bounds */
    CLUSTER_VIEW_VAGUE,   /* CLUSTER SHARDS names two masters of one shard; CLUSTER SLOTS tells which has its
                             slots */
    CLUSTER_VIEW_LARGE,   /* more than CLUSTER_NODES_MAX nodes */
    CLUSTER_VIEW_NO_MEMORY,
};

struct cluster_node {
    char id[CLUSTER_ID_SIZE]; /* "" where a server before 4.0 gives none */
    char host[CLUSTER_HOST_SIZE];
    uint16_t port;
    uint16_t shard;
    bool is_master;
    bool is_failing; /* called so by the node that was asked; CLUSTER SLOTS does not tell */
};

struct cluster_shard {
    uint32_t master; /* index into nodes, or TOPOLOGY_NO_NODE */
    uint32_t slot_count;
};

struct cluster_view {
    struct cluster_node *nodes;
    uint32_t node_count, node_capacity;
    struct cluster_shard *shards;
    uint32_t shard_count, shard_capacity;
    uint32_t slot_count;            /* slots that somebody has */
    uint16_t slots[TOPOLOGY_SLOTS]; /* slot -> shard, or TOPOLOGY_NO_SHARD */

    /* By CLUSTER INFO; as if all was well where the node does not tell. */
    bool is_down;       /* cluster_state is not ok: it lacks a majority or a slot, or has just been started */
    uint64_t epoch;     /* cluster_current_epoch: the newest that it has heard of */
    uint64_t own_epoch; /* cluster_my_epoch: of its own shard's last election */
};

/* asked_host: where the reply came from. NULL unless *status is CLUSTER_VIEW_GOOD. */
struct cluster_view *cluster_view_read_shards(struct slice reply, const char *asked_host,
                                              enum cluster_view_status *status);
struct cluster_view *cluster_view_read_slots(struct slice reply, const char *asked_host,
                                             enum cluster_view_status *status);
void cluster_view_destroy(struct cluster_view *view);

/* Reads a reply to CLUSTER INFO into the view; leaves it alone if it is no such reply. */
void cluster_view_read_info(struct cluster_view *view, struct slice reply);

/* True if both are the same node: by its id, or by its address where one of them has no id. */
bool cluster_node_is(const struct cluster_node *a, const struct cluster_node *b);

/* True if the same masters have the same slots. */
bool cluster_view_agrees(const struct cluster_view *a, const struct cluster_view *b);

/* True if both say the same, times and epochs aside. */
bool cluster_view_is_same(const struct cluster_view *a, const struct cluster_view *b);

/* True if the view has the node as a master that is not failing, with slots if has_slots. */
bool cluster_view_names(const struct cluster_view *view, const struct cluster_node *master, bool has_slots);

/* Why there is no view, in words. */
const char *cluster_view_fault(enum cluster_view_status status);

#endif
