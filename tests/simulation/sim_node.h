/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sim_node.h - nodes that replicate, die, freeze, lag, and come back with less than they had.
 *
 * What a node has is a history and how much of it: a history is a list of writes that goes on from a point of another,
 * as it does where a replica is promoted. The value of a key is the number of the last write to it. Each shard has one
 * true history: that of the master which the Sentinels have made. What is not in it is lost. (While the Sentinel that
 * has made it is frozen before it could tell anybody, or the old master has come back with less before that, nobody
 * knows which of two is the true one.)
 *
 *      true      0 --- 1 --- 2 --- 3 --- 4'--- 5'       of the replica that was promoted after 3
 *                                   `--- 4 --- 5        of the old master: lost, as is all that it is told from now on
 *
 * A message is carried out when it arrives, also when whoever has sent it has closed its connection since; a frozen
 * node reads its messages when it goes on.
 *
 * Owner:   the sim. A message belongs to who has it: the network, the node, and then its receiver.
 */
#ifndef SIMULATION_SIM_NODE_H
#define SIMULATION_SIM_NODE_H

#include "tests/simulation/sim.h"

enum sim_health { SIM_ALIVE, SIM_FROZEN, SIM_DEAD };

struct sim_node {
    uint32_t index, shard;
    char name[16];
    enum sim_health health;
    uint32_t run;       /* counts its processes */
    bool is_master;     /* by its own word */
    uint32_t follows;   /* its master, else SIM_NONE */
    bool is_linked;
    bool is_pulling;    /* more of its master's history is on its way */
    uint64_t link;      /* counts its links: what comes by an older one is nothing */
    uint32_t history;
    uint64_t offset;
    uint64_t *values;   /* by key of the shard: the number of a write, 0 = none */
    uint64_t lag_us, service_us;
    uint64_t pull_us;   /* when that arrives */
    uint64_t busy_until_us;
    uint64_t elected_epoch; /* when it was last made the master */
    uint64_t strayed_us;    /* since when it does not do as the Sentinels would have it; 0 = it does */
    struct sim_message *inbox, **inbox_end;
};

struct sim_history {
    uint32_t parent; /* SIM_NONE: it begins with nothing */
    uint64_t start;  /* so many writes are of the parent */
    uint64_t *writes;
    size_t count, room;
    uint64_t cut_at; /* a planned failover has promised that nothing acknowledged is beyond; UINT64_MAX = none has */
};

struct sim_shard {
    uint32_t first_node, node_count;
    uint32_t master; /* the node that the Sentinels have made the master */
    uint32_t truth;  /* its history */
    uint32_t other;  /* SIM_NONE, or what the Sentinels still name though another was promoted, and has less */
};

struct sim_nodes {
    struct sim_node *nodes;
    uint32_t count;
    struct sim_shard *shards;
    uint32_t shard_count;
    uint32_t keys_per_shard;
    struct sim_history *histories;
    size_t history_count, history_room;
    struct sim_message *spare;
};

enum sim_question { SIM_READ, SIM_WRITE, SIM_PROBE };
enum sim_answer { SIM_DONE, SIM_READONLY, SIM_GONE };

/* Bytes do not overtake each other on one connection. */
struct sim_wire {
    uint64_t there_us, back_us;
};

typedef void sim_receiver(struct sim *sim, struct sim_message *message);

struct sim_message {
    struct sim_message *next;
    enum sim_question question;
    uint32_t node, asker;     /* who asks knows this by itself */
    uint64_t generation;      /* of its connection */
    uint32_t key;
    uint64_t write;
    struct sim_wire *wire;
    sim_receiver *receiver;
    enum sim_answer answer;
    uint32_t run, history;
    uint64_t offset, value;
    bool is_master, is_linked; /* of a probe */
    uint32_t follows;
};

void sim_nodes_create(struct sim *sim);
void sim_nodes_destroy(struct sim *sim);

struct sim_message *sim_message_take(struct sim *sim);
void sim_message_give(struct sim *sim, struct sim_message *message);
void sim_message_send(struct sim *sim, struct sim_message *message);

static inline uint32_t sim_shard_of_key(const struct sim_nodes *nodes, uint32_t key)
{
    return key % nodes->shard_count;
}

/* The write is in the first so many of the history. */
bool sim_history_has(const struct sim *sim, uint32_t history, uint64_t offset, uint64_t write);

/* From now on this is the true history of the shard; what only the one before had is lost, even if it comes back. */
void sim_shard_set_truth(struct sim *sim, struct sim_shard *shard, uint32_t history);

/* What happens to them. */
void sim_node_kill(struct sim *sim, struct sim_node *node);
void sim_node_start(struct sim *sim, struct sim_node *node);
void sim_node_freeze(struct sim *sim, struct sim_node *node);
void sim_node_thaw(struct sim *sim, struct sim_node *node);
void sim_node_promote(struct sim *sim, struct sim_node *node);
void sim_node_follow(struct sim *sim, struct sim_node *node, uint32_t master);

#endif
