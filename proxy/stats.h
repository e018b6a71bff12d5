/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stats.h - what the proxy has done, in numbers, as INFO proxy shows them.
 *
 * One row per number: its place in the enum and its name in the reply. Each worker has numbers of its own, which only it
 * writes; who is asked adds up those of all workers.
 *
 * Owner:   embedded in a worker. Threads: written by its worker only, read by any.
 */
#ifndef PROXY_STATS_H
#define PROXY_STATS_H

#include "routing/error.h"
#include "routing/verdict.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct client;
struct command_at_hand;

#define STATS_TABLE(X)                                                                                         \
    X(READS_ON_REPLICAS, "reads_on_replicas")                                                                  \
    X(READS_ON_MASTERS, "reads_on_masters")                                                                    \
    X(READS_FOR_FRESHNESS, "reads_on_masters_for_freshness")                                                   \
    X(RETRIES_NEVER_SENT, "retries_never_sent")                                                                \
    X(RETRIES_LOST_READ, "retries_lost_read")                                                                  \
    X(RETRIES_LOST_WAIT, "retries_lost_wait")                                                                  \
    X(RETRIES_READONLY, "retries_readonly")                                                                    \
    X(RETRIES_LOADING, "retries_loading")                                                                      \
    X(RETRIES_MASTERDOWN, "retries_masterdown")                                                                \
    X(RETRIES_UNBLOCKED, "retries_unblocked")                                                                  \
    X(RETRIES_MOVED, "retries_moved")                                                                          \
    X(RETRIES_ASK, "retries_ask")                                                                              \
    X(RETRIES_TRYAGAIN, "retries_tryagain")                                                                    \
    X(RETRIES_CLUSTERDOWN, "retries_clusterdown")                                                              \
    X(FAILURES_OUTCOME_UNKNOWN, "failures_outcome_unknown")                                                    \
    X(FAILURES_TIMED_OUT, "failures_timed_out")                                                                \
    X(FAILURES_ATTEMPTS, "failures_attempts_exhausted")                                                        \
    X(FAILURES_BUDGET, "failures_budget_exhausted")                                                            \
    X(FAILURES_HOLD_FULL, "failures_hold_full")                                                                \
    X(FAILURES_HOLD_TIME, "failures_hold_time_over")                                                           \
    X(FAILURES_OTHER, "failures_other")                                                                        \
    X(BREAKER_OPENINGS, "breaker_openings")                                                                    \
    X(EJECTIONS, "ejections")                                                                                  \
    X(HELD_REQUESTS, "held_requests")

enum stats_row {
#define STAT_ENUM(name, text) STAT_##name,
    STATS_TABLE(STAT_ENUM)
#undef STAT_ENUM
        STAT_COUNT,
};

struct stats {
    _Atomic uint64_t values[STAT_COUNT];
};

/* One writer: no more than a load and a store. */
static inline void stats_add(struct stats *stats, enum stats_row row, int64_t change)
{
    uint64_t value = atomic_load_explicit(&stats->values[row], memory_order_relaxed);
    atomic_store_explicit(&stats->values[row], value + (uint64_t)change, memory_order_relaxed);
}

/* A request that a node refused goes again; one that the proxy answers with this error. */
void stats_add_refusal(struct stats *stats, enum refusal refusal);
void stats_add_failure(struct stats *stats, enum error error);

/* True if the command is INFO proxy, and the client in a state in which it is answered here. */
bool stats_handles(const struct client *client, const struct command_at_hand *at_hand);
bool stats_answer(struct client *client);

#endif
