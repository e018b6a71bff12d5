/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * discovery.h - ways of finding out who is master, behind one table of functions.
 *
 * A kind keeps its own state and sets the upstream's verdict in judge(), which is called between two turns of
 * the loop whenever anything was heard; everything else only asks questions and notes answers.
 *
 * Owner:   start() gives the state, stop() frees it; probes belong to the upstream.
 * Threads: the control thread only.
 */
#ifndef PROXY_DISCOVERY_H
#define PROXY_DISCOVERY_H

#include <stdbool.h>
#include <stdint.h>

struct probe;
struct survey;
struct switchover_plan;

struct discovery_kind {
    const char *name; /* as the snapshot says it; "" for the one that looks which kind it is */
    void *(*start)(struct survey *survey); /* NULL if memory is short */
    void (*stop)(void *discovery);
    void (*judge)(void *discovery, uint64_t now_us);
    void (*ask)(void *discovery); /* somebody doubts: ask all that matter for the master, now */
    /* A slot is not where it was thought to be; moved_to is the "host:port" that a node named, or "". NULL: there
     * are no slots to ask for. */
    void (*map_is_wrong)(void *discovery, const char *moved_to);
    /* Who could replace which master (switchover.h), by plan->wanted. False: plan->fault says why nobody can. NULL: of
     * this kind nobody could. */
    bool (*plan)(void *discovery, struct switchover_plan *plan);
    /* Asks for it; the answer comes by switchover_answered(). False: nobody can be asked now. NULL: the replica itself is
     * asked. */
    bool (*fail_over)(void *discovery, const struct probe *master);
};

extern const struct discovery_kind detect_discovery;   /* detect.c: asks a seed what it is */
extern const struct discovery_kind sentinel_discovery; /* sentinel.c */
extern const struct discovery_kind roster_discovery;   /* roster.c: a static set of nodes */
extern const struct discovery_kind cluster_discovery;  /* cluster.c: a Redis Cluster */

#endif
