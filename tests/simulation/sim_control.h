/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sim_control.h - the control thread: asks nodes and Sentinels, decides who is the master and which replicas are fit
 * and how fresh, and publishes topologies.
 *
 * What proxy/sentinel.c, survey.c, probe.c and freshening.c do, by the real routing/quorum, handover, roles, freshness
 * and topology.
 *
 * Owner: the sim.
 */
#ifndef SIMULATION_SIM_CONTROL_H
#define SIMULATION_SIM_CONTROL_H

#include "routing/freshness.h"
#include "routing/handover.h"
#include "routing/quorum.h"
#include "routing/topology.h"
#include "tests/simulation/sim_node.h"
#include "tests/simulation/sim_sentinel.h"

struct sim_probe {
    struct node_gauge *gauge;
    uint64_t generation; /* of its connection */
    struct sim_wire wire;
    bool is_asked;       /* and has not answered yet */
    bool is_of_interest; /* when it answers, all is judged anew */
    bool is_sampled;     /* a master: its replicas are asked when it answers */
    uint64_t asked_us;
    bool answers;
    uint32_t run;
    enum node_role role;
    uint64_t role_asked_us;
    uint32_t follows;
    bool is_linked, was_linked, is_fit;
    const char *reason;
    struct freshness_samples *samples; /* of what it has said as a master; NULL until then */
};

struct sim_peer_view { /* what a Sentinel has said of a shard */
    bool has_view, is_asked;
    uint32_t node;
    uint64_t epoch, asked_us, tried_us;
};

struct sim_control_shard {
    struct quorum quorum;
    struct sim_peer_view views[SIM_SENTINELS];
    uint32_t accepted, candidate, heir, master, followed; /* nodes, or SIM_NONE */
    bool is_refuted;
    uint64_t candidate_us, confirmed_us, reported_us, epoch;
    struct handover handover;
    bool is_unsettled, is_yielding;
};

struct sim_control {
    struct sim_probe *probes;          /* by node */
    struct sim_control_shard *shards;
    struct freshness *freshness;
    struct topology *last;
    uint64_t version;
    struct topology_node *draft;        /* room for a snapshot's */
    struct topology_draft_shard *draft_shards;
    bool is_touched;                    /* a turn of its loop is due */
    bool is_hurrying, is_round_due;
    uint64_t hurry_us;
    uint64_t round_us;
};

void sim_control_create(struct sim *sim);
void sim_control_destroy(struct sim *sim);

/* From nodes and Sentinels. */
void sim_control_node_lost(struct sim *sim, uint32_t node);
void sim_control_hear_promotion(struct sim *sim, uint32_t shard, uint32_t master, uint32_t heir);
void sim_control_hear_end(struct sim *sim, uint32_t shard);
void sim_control_hear_news(struct sim *sim, uint32_t shard);

/* From workers: they have lost that node; they want fresher replicas of that shard. */
void sim_control_report(struct sim *sim, uint32_t node);
void sim_control_want(struct sim *sim, uint32_t shard);

/* Nothing is in doubt: it knows that this is the master. */
bool sim_control_is_settled(const struct sim *sim, uint32_t shard, uint32_t master);

/* To be timed: judges all shards so many times; makes a snapshot and compares it with the last. Return any number. */
uint64_t sim_control_judge_all(struct sim *sim, uint32_t times);
uint64_t sim_control_snapshot_once(struct sim *sim);

#endif
