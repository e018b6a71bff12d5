/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cluster_refresh.h - a round of questions: what do up to three nodes of a Redis Cluster know of it?
 *
 * Each is asked CLUSTER INFO and CLUSTER SHARDS, or SLOTS where it has no SHARDS or contradicts itself in it. A round is
 * over when all have answered, when what they say cannot change any more (routing/cluster_vote.h), or when they take too
 * long.
 *
 * Owner:   embedded in the discovery of one upstream (cluster.h). Views belong to the round, until it is cleared or
 *          the next one begins. Probes are borrowed from the survey; those that it drops are to be forgotten.
 * Threads: the control thread only.
 */
#ifndef PROXY_CLUSTER_REFRESH_H
#define PROXY_CLUSTER_REFRESH_H

#include "routing/cluster_vote.h"

#define CLUSTER_ASKED_MAX 3

struct probe;
struct survey;

/* One node asked. */
struct cluster_question {
    struct probe *probe;       /* NULL: forgotten */
    struct cluster_view *view; /* its answer */
    struct cluster_view info;  /* what CLUSTER INFO adds; only the fields that it sets are of use */
    bool is_by_slots;          /* asked by CLUSTER SLOTS */
    bool is_over;              /* it has answered, or will not */
};

struct cluster_refresh {
    struct survey *survey;
    struct cluster_question questions[CLUSTER_ASKED_MAX];
    size_t asked;
    bool is_under_way;    /* from cluster_refresh_begin() on, until the discovery says that it is not */
    uint64_t began_us;    /* this round, or the last */
    uint64_t patience_us; /* how long it waits for answers */
    size_t turn;          /* how many nodes, from the first on, were asked since it was theirs again */
    bool had_slots;       /* set by the discovery: what a node says that knows of none, since it was reset perhaps, counts
                             for nothing after better views */
    struct probe *hint;   /* to be asked first in the next round: named by a redirect; NULL: nobody */
    struct probe *elected; /* whose own word was taken last: always asked, as others may be slow to hear of it; NULL:
                              nobody */
};

/* Asks. Nobody is asked where there is nobody to ask. */
void cluster_refresh_begin(struct cluster_refresh *refresh, uint64_t now_us);
bool cluster_refresh_is_over(const struct cluster_refresh *refresh, uint64_t now_us);

/* What has been answered, in the order of the questions, NULL where nothing has. Returns how many have been asked. */
size_t cluster_refresh_views(const struct cluster_refresh *refresh, const struct cluster_view **views);

/* The probe is about to be dropped. */
void cluster_refresh_forget(struct cluster_refresh *refresh, const struct probe *probe);

/* Frees what was answered. */
void cluster_refresh_clear(struct cluster_refresh *refresh);

/* cluster.c's: the one in the state of cluster_discovery. */
struct cluster_refresh *cluster_refresh_of(void *discovery);

#endif
