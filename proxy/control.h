/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * control.h - the control thread: finds out what there is behind us and tells the workers.
 *
 * One thread with one libev loop speaks to Sentinels and nodes. For each upstream it runs discovery
 * (sentinel.c or roster.c), probes every node (probe.c), and whenever what it knows has changed it builds a
 * topology snapshot and hands one reference of it to every subscriber. Workers report back what they meet
 * (a lost master, a READONLY reply), so that the truth is asked for at once and not a second later.
 *
 * Owner:   main creates and destroys it; the thread is inside.
 * Threads: control_report() from any thread; create, subscribe, start and destroy from main.
 */
#ifndef PROXY_CONTROL_H
#define PROXY_CONTROL_H

#include "proxy/config.h"
#include "proxy/switchover.h"
#include "routing/topology.h"

#include <stdbool.h>
#include <stdint.h>

struct control;
struct freshness;

enum control_report_kind {
    REPORT_MASTER_LOST,    /* a connection to the master was lost or refused: confirm who is master, now */
    REPORT_MASTER_REFUSED, /* the master answered READONLY, LOADING or MASTERDOWN */
    REPORT_REPLICA_LOST,   /* a replica's connection was lost or refused */
    REPORT_REPLICA_REFUSED,/* a replica answered LOADING, MASTERDOWN ... */
    REPORT_MOVED,     /* a node of a cluster answered MOVED; node_name is the "host:port" that it named, as it stands
                         there, which need be no node of the snapshot */
    REPORT_UNCOVERED, /* nobody has the slot of a request; node_name is "" */
};

/* NULL if memory or threads are short. config outlives it. */
struct control *control_create(const struct config *config);

/* publish is called in the control thread with one reference to the new snapshot, which the receiver owns.
 * Called before control_start(), once per worker and upstream. */
typedef void control_publish(void *subscriber, uint32_t upstream, struct topology *topology);
void control_subscribe(struct control *control, control_publish *publish, void *subscriber);

/* Starts the thread. False with errno set if it cannot be. */
bool control_start(struct control *control);

/*
 * Tells what a worker met at a node (named as in the snapshot). Cheap; reports of the same thing are merged and
 * the questions they cause are asked at a bounded rate. After REPORT_MASTER_LOST the next snapshot always comes,
 * even if nothing has changed, as soon as the master has been confirmed again (its confirmed_us is newer than
 * the report). REPORT_MOVED and REPORT_UNCOVERED have the map of slots asked for, within the least interval
 * between two such questions; a snapshot comes if it has changed.
 */
void control_report(struct control *control, uint32_t upstream, enum control_report_kind kind, const char *node_name);

/* What workers mark and ask for reads of this upstream. Lives as long as control. */
struct freshness *control_freshness(const struct control *control, uint32_t upstream);

/* Some master's gauge says is_behind: its replicas are to be asked how fresh they are, now or soon. Cheap; wakes the control
 * thread once for many. From any thread. */
void control_want_freshness(struct control *control, uint32_t upstream, bool is_urgent);

/* Gives an order for a switchover (switchover.h) to the control thread, or back to it. From any thread. */
void control_switchover(struct control *control, struct switchover_order *order);

/* Stops the thread: nothing is published any more. Reports may still come, and are of no consequence. */
void control_stop(struct control *control);

/* The same, and frees everything. */
void control_destroy(struct control *control);

#endif
