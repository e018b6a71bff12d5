/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sim_check.h - what the proxy promises, looked at whenever something happens.
 *
 *      no write is carried out twice
 *      no acknowledged write is lost by a planned failover
 *      proxy:    no read shows a state without a write to its key that was acknowledged before the read began
 *      session:  none without what its own client has written or read before
 *      no write is sent to a node that is older than the one that a majority of the Sentinels names
 *      no more requests are held than may be
 *      each request ends in time, and is sent no more often than may be; what is sent again keeps to the budget
 *      of a node that fails there is one trial at a time, and most of the replicas keep their reads
 *      when all is well again, all requests succeed
 *
 * What unplanned failovers lose is nobody's promise: such a write is not in the true history any more.
 *
 * Owner: the sim. The first promise that is broken is remembered, with the time.
 */
#ifndef SIMULATION_SIM_CHECK_H
#define SIMULATION_SIM_CHECK_H

#include "tests/simulation/sim.h"

#define SIM_PROMISE_TABLE(X)                                                                                           \
    X(ONCE, "a write was carried out twice")                                                                           \
    X(PLANNED, "a planned failover has lost an acknowledged write")                                                    \
    X(FRESH, "a read did not show a write that was acknowledged before it began")                                      \
    X(SESSION, "a read did not show what its client had written or read before")                                       \
    X(MAJORITY, "a write was sent to a master that has been replaced")                                                 \
    X(HELD, "more requests were held than may be")                                                                     \
    X(DEADLINE, "a request has not ended in time")                                                                     \
    X(ATTEMPTS, "a request was sent more often than may be")                                                           \
    X(BUDGET, "more requests were sent again than the budget allows")                                                 \
    X(TRIAL, "two trials of one node were on their way at once")                                                       \
    X(EJECTED, "more replicas have lost their reads than may")                                                         \
    X(CONVERGED, "a request failed long after all was well again")

enum sim_promise {
#define SIM_PROMISE_ENUM(name, text) SIM_PROMISE_##name,
    SIM_PROMISE_TABLE(SIM_PROMISE_ENUM)
#undef SIM_PROMISE_ENUM
        SIM_PROMISE_COUNT,
};

#define SIM_CONVERGED_US (12 * SIM_S) /* so long after the last fault all must be well */

struct sim_write {
    uint64_t offset;
    uint64_t order;     /* in which writes were carried out; 0 = it was not */
    uint64_t before;    /* the write to its key that was acknowledged before it */
    uint32_t history, key;
    bool is_acknowledged, is_lost;
};

struct sim_check {
    struct sim_write *writes; /* by number; there is no 0 */
    size_t write_count, write_room;
    uint64_t order;
    uint64_t *acknowledged;   /* by key: the newest */
    bool is_broken;
    enum sim_promise broken;
    uint64_t broken_us;
    uint64_t requests, failures, from_replicas, reads;
    uint64_t last_trouble_us; /* the end of the last request that failed or took long */
    bool has_ended;           /* of the sim: nothing is looked at any more */
};

struct sim_client;
struct sim_message;

void sim_check_create(struct sim *sim);
void sim_check_destroy(struct sim *sim);

/* A write to the key, with the number that it shall have. */
uint64_t sim_check_new_write(struct sim *sim, uint32_t key);
void sim_check_carried_out(struct sim *sim, uint64_t write, uint32_t history, uint64_t offset);
void sim_check_acknowledged(struct sim *sim, uint64_t write);

/* The newest acknowledged write to the key that is not lost; 0 = none. */
uint64_t sim_check_newest(struct sim *sim, uint32_t key);

/* What a read has shown must have the write in it, unless that is lost. */
void sim_check_shows(struct sim *sim, const struct sim_message *reply, uint64_t write, enum sim_promise promise);

/* A replica with so much of it is promoted in place of the true history. */
void sim_check_planned(struct sim *sim, uint32_t history, uint64_t offset);

void sim_check_sent(struct sim *sim, uint32_t node);
void sim_check_that(struct sim *sim, bool is_true, enum sim_promise promise);

/* A request has ended, well or not. */
void sim_check_ended(struct sim *sim, uint64_t began_us, bool is_good);

const char *sim_promise_text(enum sim_promise promise);

#endif
