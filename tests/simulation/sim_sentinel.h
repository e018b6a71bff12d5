/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sim_sentinel.h - Sentinels: each has a view of each shard, which is a master and the epoch of its election.
 *
 *      begin     an epoch, a leader, a replica; the leader publishes that it is about to promote it
 *        | 50 .. 100 ms
 *      promote   the replica is the master, and nobody but it knows
 *        | up to a second
 *      announce  the leader names it, and has the other replicas follow
 *        | up to two seconds each
 *      gossip    the others name it
 *        | eight seconds after that
 *                the old master, if it is there, is made a replica
 *
 * A frozen one says nothing and a deaf one hears nothing of the others, so that it names the old master until it does.
 *
 * Owner: the sim.
 */
#ifndef SIMULATION_SIM_SENTINEL_H
#define SIMULATION_SIM_SENTINEL_H

#include "tests/simulation/sim.h"

enum { SIM_SENTINELS = 3, SIM_MAJORITY = SIM_SENTINELS / 2 + 1 };

struct sim_view {
    uint32_t node;
    uint64_t epoch;
    uint64_t since_us;
};

struct sim_sentinel {
    bool is_frozen, is_deaf;
    uint64_t heard_since_us; /* it answers since then */
    struct sim_view *views;  /* by shard */
};

struct sim_failover {
    uint32_t shard;
    bool is_active;
    bool is_planned; /* by SENTINEL FAILOVER, with nothing else wrong: nothing acknowledged may be lost */
    uint32_t leader, heir;
    uint64_t epoch;
    uint64_t tried_us, down_since_us;
};

struct sim_sentinels {
    struct sim_sentinel items[SIM_SENTINELS];
    struct sim_failover *failovers; /* by shard */
    uint64_t down_after_us;
};

void sim_sentinels_create(struct sim *sim);
void sim_sentinels_destroy(struct sim *sim);

void sim_sentinel_freeze(struct sim *sim, uint32_t index);
void sim_sentinel_deafen(struct sim *sim, uint32_t index);
void sim_sentinel_heal(struct sim *sim, uint32_t index);

/* SENTINEL FAILOVER, as an operator says it; of no use where one is on its way or there is no replica. */
void sim_sentinel_failover(struct sim *sim, uint32_t shard);

/* Something else goes wrong in the shard: what is on its way is no planned failover any more. */
void sim_sentinel_disturb(struct sim *sim, uint32_t shard);

/* The node that the best of them names. */
uint32_t sim_sentinels_master(const struct sim *sim, uint32_t shard);

/* The epoch that a majority of those that could be asked all the time has known for so long; 0 where there is none. */
uint64_t sim_sentinels_epoch(const struct sim *sim, uint32_t shard, uint64_t for_us);

#endif
