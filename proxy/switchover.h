/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * switchover.h - PROXY SWITCHOVER: another node becomes the master, because somebody wants it so.
 *
 * Before Sentinels:
 *
 *   CHOOSE ---> (priority of the wanted one, so that a Sentinel takes it) ---> HOLD: this proxy's writes wait
 *     ---> QUIET: those under way are answered ---> PAUSE: so do those of everybody else, at the master
 *     ---> MEASURE, CATCH_UP: whoever may be promoted has every byte ---> PROMOTE: SENTINEL FAILOVER
 *     ---> CONFIRM: discovery has the new master ---> DEMOTE the old one ---> UNPAUSE it ---> (priority as before) ---> END
 *
 * Before a Redis Cluster the nodes see to the middle themselves: CHOOSE ---> PROMOTE: CLUSTER FAILOVER ---> CONFIRM ---> END.
 *
 * Whatever fails, or takes longer than it may, leads over UNPAUSE and the priority to END: then everything is as before, and
 * the old master is the master, unless the Sentinel goes on with what it was asked for, which nobody can take back.
 *
 * Steps are taken by a timer that runs only meanwhile, and when a node has answered. Nothing here decides who the master is:
 * discovery does.
 *
 * Owner:   the survey, of which each has one at most. The order belongs to the control thread while it is here.
 * Threads: the control thread only, but for struct switchover_order, which travels.
 */
#ifndef PROXY_SWITCHOVER_H
#define PROXY_SWITCHOVER_H

#include "proxy/mailbox.h"
#include "routing/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SWITCHOVER_NAME_SIZE  300
#define SWITCHOVER_LINE_SIZE  400
#define SWITCHOVER_LINES_MAX  16
#define SWITCHOVER_HEIRS_MAX  32

struct probe;
struct survey;
struct switchover;
struct switchover_order;

/* What the control thread tells whoever has given the order, which is not its own any more then (but for drop). */
struct switchover_events {
    /* Come back with control_switchover() when no write is on its way to this master any more; is_quiet says so. */
    void (*quieten)(struct switchover_order *order);
    void (*done)(struct switchover_order *order);
    void (*drop)(struct switchover_order *order); /* the control thread ends: free it */
};

struct switchover_order {
    struct letter letter;
    const struct switchover_events *events;
    uint32_t upstream;
    char wanted[SWITCHOVER_NAME_SIZE]; /* "host:port", or "" for whichever is best */
    uint64_t number;                   /* of the switchover that has sent it to be quietened; 0 = it is new */
    char master[SWITCHOVER_NAME_SIZE]; /* as the topology names it */
    bool is_quiet;
    char fault[SWITCHOVER_LINE_SIZE]; /* why it has failed; "" else */
    char lines[SWITCHOVER_LINES_MAX][SWITCHOVER_LINE_SIZE];
    size_t line_count;
};

/* Who is to be replaced by whom, as discovery sees it now; probes are borrowed. */
struct switchover_heir {
    struct probe *probe;
    char host[SWITCHOVER_NAME_SIZE]; /* as nodes know it among themselves */
    uint16_t port;
};

struct switchover_plan {
    const char *wanted; /* as in the order */
    uint64_t since_us;  /* what is older is not good enough */
    struct probe *master;
    struct switchover_heir heirs[SWITCHOVER_HEIRS_MAX]; /* any of these may be promoted */
    size_t heir_count;
    int64_t priority; /* what the only heir needs first; 0 = nothing */
    char fault[SWITCHOVER_LINE_SIZE];
    bool may_pass; /* soon, by itself */
};

/* Begins one, or goes on with the one that has sent the order to be quietened. Takes the order. */
void switchover_take(struct survey *survey, struct switchover_order *order);

/* The survey ends. */
void switchover_destroy(struct switchover *switchover);

/* True while this node, the master, gets no writes. switchover may be NULL. */
bool switchover_holds(const struct switchover *switchover, const struct probe *master);

/* What a Sentinel says to SENTINEL FAILOVER, as a status or an error in RESP; bytes NULL: the connection was lost. */
void switchover_answered(struct survey *survey, struct slice reply, uint64_t asked_us);

/* Adds a heir to a plan; false if there are too many. */
bool switchover_add_heir(struct switchover_plan *plan, struct probe *probe, const char *host, uint16_t port);

/* The plan cannot be made; or not yet: it is tried again for a while. Returns false. */
bool switchover_refuse(struct switchover_plan *plan, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool switchover_defer(struct switchover_plan *plan, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
