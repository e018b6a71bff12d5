/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sim_run.h - one course of events, from a seed to what became of it.
 */
#ifndef SIMULATION_SIM_RUN_H
#define SIMULATION_SIM_RUN_H

#include "tests/simulation/sim_check.h"

struct sim_outcome {
    bool is_broken;          /* a promise was */
    enum sim_promise broken;
    uint64_t broken_us;      /* since the beginning */
    uint64_t mark;           /* of all that happened: the same seed has the same */
    uint64_t events, requests, failures, reads, from_replicas;
    uint64_t converged_us;   /* after the last fault, when the last request has ended that failed or took long */
    double read_ns, write_ns, quorum_ns, snapshot_us; /* what decisions cost in this world, where it was asked for */
};

/* A small world, all of it drawn from the seed. */
struct sim_setup sim_setup_of(uint64_t seed, enum sim_mutation mutation);

/* A world of this size, in which each node fails in its turn. */
struct sim_setup sim_setup_sized(uint64_t seed, uint32_t nodes, uint32_t clients);

struct sim_outcome sim_run(const struct sim_setup *setup, bool measures_cost);

#endif
