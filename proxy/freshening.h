/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * freshening.h - finds out how fresh replicas are.
 *
 *      worker: a read went to the master, since no replica was fresh enough
 *         |  gauge->is_behind of that master, control_want_freshness()
 *         v
 *      master: INFO replication, asked at T --> offset M, a sample (routing/freshness.h)
 *         |
 *         v
 *      its replicas: INFO replication --> applied R; the newest sample that R has reached is as of when it is fresh
 *         |
 *         v
 *      gauge->fresh_us, which workers read
 *
 * At most one such round per reads.freshness_interval, and one question of it open per node. Soon after something was
 * written there is one as well, lest the first read of it has to go to the master; else the probes ask the same every
 * pool.health_interval. With reads.max_staleness rounds come often enough for that bound.
 *
 * A replica stays as fresh as it was found while its process lives: its link may break and its master may change, what
 * it has it has. When its probe's connection ends it is not fresh at all until it has answered anew.
 *
 * Owner:   embedded in a survey. Threads: the control thread only.
 */
#ifndef PROXY_FRESHENING_H
#define PROXY_FRESHENING_H

#include "routing/freshness.h"

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

struct config_upstream;
struct probe;
struct survey;

struct freshening {
    struct survey *survey;
    struct freshness *freshness; /* what workers mark */
    bool is_wanted;              /* some read asks for something */
    ev_timer next;               /* the next round */
    ev_timer regular;            /* for reads.max_staleness; not active without */
    uint64_t round_us;           /* when the last began */
    bool has_samples;            /* masters have answered: their replicas are to be asked */
};

/* True if reads of this upstream ask for anything, so that writes have to be marked. */
bool freshness_is_asked(const struct config_upstream *config);

/* False if memory is short. */
bool freshening_init(struct freshening *freshening, struct survey *survey);
void freshening_finish(struct freshening *freshening);

/* A node was found: true if it is to be asked for its replication at all. */
bool freshening_is_wanted(const struct freshening *freshening);

/* Some worker has found some replicas behind, or has written (freshness->is_wanted, is_due). */
void freshening_want(struct freshening *freshening);

/* The node has answered INFO replication. */
void freshening_heard(struct freshening *freshening, struct probe *probe);

/* How far a replica is behind its master, by what both have said last; 0 also where nothing is known. */
uint64_t freshening_lag_us(const struct probe *master, const struct probe *replica);

/* At the end of each turn of the loop. */
void freshening_run(struct freshening *freshening);

#endif
